//! The engine: the one thread that feeds the machine with frames, asks it, and keeps its deadlines.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use procflow_capture::LiveError;
use procflow_core::Timestamp;
use procflow_core::flow::{Answer, Recent, Record, Remote, Tally, Ticket};
use procflow_core::packet::Batch;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::{LiveFlows, NoFlow, State};

/// How often flows are looked at that no packet ends.
const TICK: Duration = Duration::from_millis(200);

/// What is asked for.
pub(crate) enum Question {
    /// A flow.
    Flow(Ask),
    /// How it stands.
    State(oneshot::Sender<State>),
}

/// Somebody asks for a flow.
pub(crate) struct Ask {
    pub(crate) remote: Remote,
    pub(crate) wait: Duration,
    pub(crate) reply: oneshot::Sender<Result<Record, NoFlow>>,
}

/// The machine, what feeds it, and who waits.
pub(crate) struct Engine {
    recent: Recent,
    batches: mpsc::Receiver<Result<Batch, LiveError>>,
    questions: mpsc::Receiver<Question>,
    replies: HashMap<Ticket, oneshot::Sender<Result<Record, NoFlow>>>,
    /// What deadlines are counted from: a clock that is never set.
    began: Instant,
    /// How late frames may come, in nanoseconds.
    late: i64,
    sweep: Duration,
    swept: Instant,
    lost: usize,
    failed: Option<LiveError>,
}

impl Engine {
    pub(crate) fn new(
        settings: LiveFlows,
        batches: mpsc::Receiver<Result<Batch, LiveError>>,
        questions: mpsc::Receiver<Question>,
    ) -> Self {
        let LiveFlows { recent, live, decoder, sweep, .. } = settings;
        Self {
            recent: Recent::new(decoder, recent),
            batches,
            questions,
            replies: HashMap::new(),
            began: Instant::now(),
            // As long as the kernel keeps them, and some time to get here.
            late: i64::from(live.timeout) * 1_000_000 + 300_000_000,
            sweep,
            swept: Instant::now(),
            lost: 0,
            failed: None,
        }
    }

    /// Works until all interfaces are gone: what became of the frames, and what went wrong first. Whoever
    /// waits then hears that the capture has ended.
    pub(crate) async fn run(mut self) -> (Tally, Option<LiveError>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asking = true;
        loop {
            let deadline = self.recent.next_deadline();
            let left = deadline.map(|deadline| deadline.saturating_sub(self.began.elapsed()));
            tokio::select! {
                batch = self.batches.recv() => match batch {
                    Some(Ok(mut batch)) => self.observe(&mut batch),
                    Some(Err(error)) => {
                        self.lost += 1;
                        self.failed.get_or_insert(error);
                    }
                    None => break,
                },
                question = self.questions.recv(), if asking => match question {
                    Some(Question::Flow(ask)) => self.ask(ask),
                    Some(Question::State(reply)) => drop(reply.send(self.state())),
                    None => asking = false,
                },
                () = sleep(left.unwrap_or(TICK)), if left.is_some() => {}
                _ = tick.tick() => self.tick(),
            }
            self.expire();
        }
        (self.recent.finish(), self.failed)
    }

    fn observe(&mut self, batch: &mut Batch) {
        let Self { recent, replies, .. } = self;
        let late = Timestamp(now().0.saturating_sub(self.late));
        recent.observe(batch, Some(late), &mut |ticket, record| {
            if let Some(reply) = replies.remove(&ticket) {
                // Whoever asked may have gone.
                let _ = reply.send(Ok(record));
            }
        });
    }

    fn ask(&mut self, Ask { remote, wait, reply }: Ask) {
        let deadline = self.began.elapsed().saturating_add(wait);
        let mut answer = self.recent.ask(remote, deadline);
        if matches!(answer, Answer::Full) && self.forget_who_has_gone() {
            answer = self.recent.ask(remote, deadline);
        }
        match answer {
            Answer::Now(record) => drop(reply.send(Ok(*record))),
            Answer::Later(ticket) => drop(self.replies.insert(ticket, reply)),
            Answer::Full => drop(reply.send(Err(NoFlow::Busy))),
        }
    }

    /// Makes room for others; whether there is any.
    fn forget_who_has_gone(&mut self) -> bool {
        let before = self.replies.len();
        let Self { recent, replies, .. } = self;
        replies.retain(|&ticket, reply| {
            let gone = reply.is_closed();
            if gone {
                recent.forget(ticket);
            }
            !gone
        });
        replies.len() < before
    }

    fn expire(&mut self) {
        let Self { recent, replies, .. } = self;
        recent.expire(self.began.elapsed(), &mut |ticket, why| {
            if let Some(reply) = replies.remove(&ticket) {
                let _ = reply.send(Err(why.into()));
            }
        });
    }

    fn tick(&mut self) {
        self.observe(&mut Batch::default());
        if self.swept.elapsed() >= self.sweep {
            self.swept = Instant::now();
            self.recent.sweep(Timestamp(now().0.saturating_sub(self.late)));
        }
    }

    fn state(&self) -> State {
        State {
            tally: self.recent.tally(),
            flows: self.recent.len(),
            waiting: self.recent.waiting(),
            lost: self.lost,
        }
    }
}

/// The time by which frames are captured.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
