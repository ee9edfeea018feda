//! Recent flows of a live capture, for a service that wants to know what a connection of its own looks
//! like: the features of a login's flow while the login goes on.
//!
//! ```no_run
//! # async fn login(peer: std::net::SocketAddr) -> Result<(), Box<dyn std::error::Error>> {
//! use procflow_live::{LiveFlows, RecentFlows};
//!
//! let basic = procflow_core::presets::preset("basic").ok_or("no such preset")?;
//! let settings = LiveFlows::measuring(&basic.columns);
//! let (flows, sessions) = RecentFlows::open(&["eth0".to_owned()], settings)?;
//! // For each login, with the address that the connection comes from:
//! match flows.features_of(peer).await {
//!     Ok(record) => println!("{}", procflow_live::json(&basic.columns, &record)),
//!     Err(why) => println!("{peer}: {why}"),
//! }
//! // In the end:
//! println!("{:?}", sessions.finish().statistics);
//! # Ok(())
//! # }
//! ```
//!
//! What is kept, found and waited for, `procflow_core::flow::Recent` decides. Here are the threads around
//! it: one for each interface, which takes frames; and one that feeds and asks the machine, so that no task
//! of the service ever waits for packets to be counted (`engine.rs`). Capturing takes the capability
//! CAP_NET_RAW.

#![forbid(unsafe_code)]

mod engine;

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use procflow_capture::{Live, LiveError, LiveSettings, Statistics, Stopper};
use procflow_core::features::Column;
use procflow_core::flow::{Missed, RecentSettings, Record, Remote, Tally};
use procflow_core::packet::{Batch, Decoder};
use procflow_core::rows::{Format, Rows};
use tokio::sync::{mpsc, oneshot};

use engine::{Ask, Engine, Question};

/// So many batches wait at most; what comes then stays in the kernel's buffer, and is dropped there.
const WAITING: usize = 64;

/// So many questions are on their way at most: each takes microseconds, or as long as a batch is counted.
const ASKED: usize = 1024;

/// How flows are captured, kept and waited for.
#[derive(Clone, Debug)]
pub struct LiveFlows {
    /// Which flows are kept.
    pub recent: RecentSettings,
    /// How the interfaces are captured.
    pub live: LiveSettings,
    /// How packets are taken out of frames.
    pub decoder: Decoder,
    /// So long a question waits for its flow, if nothing else is said.
    pub wait: Duration,
    /// So often flows are looked for that are too old.
    pub sweep: Duration,
}

impl Default for LiveFlows {
    /// Waits 1.5 s, sweeps each minute; the service's own frames only, which the kernel hands over after
    /// 10 ms: who logs in waits for them.
    fn default() -> Self {
        Self {
            recent: RecentSettings::default(),
            live: LiveSettings { promiscuous: false, timeout: 10, ..LiveSettings::default() },
            decoder: Decoder::default(),
            wait: Duration::from_millis(1500),
            sweep: Duration::from_secs(60),
        }
    }
}

impl LiveFlows {
    /// The default, with what these columns need.
    #[must_use]
    pub fn measuring(columns: &[Column]) -> Self {
        Self { recent: RecentSettings::measuring(columns), ..Self::default() }
    }
}

/// Why no capture could begin.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An interface cannot be captured.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// There are no more threads, or no timer.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

/// Why there is no flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoFlow {
    /// It did not appear, or not with enough packets, for as long as was waited.
    #[error(transparent)]
    Missed(#[from] Missed),
    /// Too many wait already ([`RecentSettings::waiting`]).
    #[error("too many questions wait already")]
    Busy,
    /// The capture has ended.
    #[error("the capture has ended")]
    Over,
}

/// How it stands with a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// What became of the frames so far.
    pub tally: Tally,
    /// Flows that are known.
    pub flows: usize,
    /// Questions that wait.
    pub waiting: usize,
    /// Interfaces that can no longer be captured.
    pub lost: usize,
}

/// What became of a capture.
#[derive(Debug)]
pub struct Told {
    /// What became of the frames.
    pub tally: Tally,
    /// What the kernel says of the interfaces.
    pub statistics: Statistics,
    /// The first thing that went wrong.
    pub failed: Option<LiveError>,
}

/// Whom to ask. Clones ask the same capture.
#[derive(Clone, Debug)]
pub struct RecentFlows {
    questions: mpsc::Sender<Question>,
    wait: Duration,
}

impl RecentFlows {
    /// Captures these interfaces until the sessions end.
    ///
    /// # Errors
    /// When one of them cannot be captured, or a thread cannot be started.
    pub fn open(interfaces: &[String], settings: LiveFlows) -> Result<(Self, Sessions), OpenError> {
        let mut lives = Vec::new();
        for interface in interfaces {
            lives.push(Live::open(interface, &settings.live)?);
        }
        let stoppers = lives.iter_mut().map(Live::stopper).collect();
        let (sender, batches) = mpsc::channel(WAITING);
        let (questions, asked) = mpsc::channel(ASKED);
        let wait = settings.wait;
        let engine = Engine::new(settings, batches, asked);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(OpenError::Thread)?;
        let mut sessions = Sessions { stoppers, threads: Vec::new(), engine: None };
        let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let thread = named("flows").spawn(move || runtime.block_on(engine.run()));
        sessions.engine = Some(thread.map_err(OpenError::Thread)?);
        for live in lives {
            let sender = sender.clone();
            let thread = named("capture").spawn(move || capture(live, &sender));
            sessions.threads.push(thread.map_err(OpenError::Thread)?);
        }
        Ok((Self { questions, wait }, sessions))
    }

    /// The flow of this remote address and port: at once, or as soon as it has enough packets.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn features_of(&self, remote: impl Into<Remote>) -> Result<Record, NoFlow> {
        self.within(remote.into(), self.wait).await
    }

    /// Likewise, but waits for so long.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn within(&self, remote: Remote, wait: Duration) -> Result<Record, NoFlow> {
        let (reply, answer) = oneshot::channel();
        self.ask(Question::Flow(Ask { remote, wait, reply }))?;
        answer.await.unwrap_or(Err(NoFlow::Over))
    }

    /// How it stands with the capture.
    ///
    /// # Errors
    /// When it has ended, or too many ask.
    pub async fn state(&self) -> Result<State, NoFlow> {
        let (reply, answer) = oneshot::channel();
        self.ask(Question::State(reply))?;
        answer.await.map_err(|_| NoFlow::Over)
    }

    /// Returns when the capture has ended: nobody answers any more.
    pub async fn ended(&self) {
        self.questions.closed().await;
    }

    fn ask(&self, question: Question) -> Result<(), NoFlow> {
        self.questions.try_send(question).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NoFlow::Busy,
            mpsc::error::TrySendError::Closed(_) => NoFlow::Over,
        })
    }
}

/// The sessions that capture; they end with this.
pub struct Sessions {
    stoppers: Vec<Stopper>,
    threads: Vec<JoinHandle<Statistics>>,
    engine: Option<JoinHandle<(Tally, Option<LiveError>)>>,
}

impl Sessions {
    /// Ends them, and with them all waiting. Takes as long as the kernel keeps frames.
    #[must_use]
    pub fn finish(mut self) -> Told {
        self.end()
    }

    fn end(&mut self) -> Told {
        self.stoppers.drain(..).for_each(|stopper| stopper.stop());
        let all = self.threads.drain(..).filter_map(|thread| thread.join().ok());
        let statistics = all.fold(Statistics::default(), Statistics::and);
        let engine = self.engine.take().and_then(|thread| thread.join().ok());
        let (tally, failed) = engine.unwrap_or_default();
        Told { tally, statistics, failed }
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.end();
    }
}

/// Captures until told to stop.
fn capture(mut live: Live, sender: &mpsc::Sender<Result<Batch, LiveError>>) -> Statistics {
    while !live.is_over() {
        let mut batch = Batch::default();
        let read = live.next_batch(&mut batch);
        if !batch.is_empty() && sender.blocking_send(Ok(batch)).is_err() {
            break;
        }
        if let Err(error) = read {
            let _ = sender.blocking_send(Err(error));
        }
    }
    live.statistics()
}

/// A record as a JSON object with these columns, without a line end. A column that numbers rows has 0.
#[must_use]
pub fn json(columns: &[Column], record: &Record) -> String {
    let (mut rows, mut text) = (Rows::default(), Vec::new());
    rows.add(Format::JsonLines, columns, record);
    rows.copy(0, 0, &mut text);
    text.pop();
    String::from_utf8_lossy(&text).into_owned()
}
