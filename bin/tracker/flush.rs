//! Flushing: a thread of its own makes what the log holds durable. Only then may it be told, and
//! only then may the log forget it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use procflow_binding::BootTime;
use procflow_store::{HistoryError, Recorder};

use crate::watch::SharedLog;

/// Pause between two flushes: an updater learns of an event so much later at most.
const PAUSE: Duration = Duration::from_millis(500);

/// How far the log on disk may be behind in what it says of silence, in nanoseconds. After a kill
/// it is what the next start does not know.
const SILENCE: u64 = 10_000_000_000;

/// So many events are taken over while the log is held, for a millisecond or two.
const AT_ONCE: usize = 4096;

/// How many events may wait for a disk that cannot be written, some 40 bytes of memory each (and
/// their place in the log). What comes then could only be lost.
const MOST_WAITING: u64 = 1_000_000;

/// How much of the log in memory is kept, once it is on disk.
#[derive(Clone, Copy)]
pub(crate) struct Keep {
    pub(crate) nanoseconds: u64,
    pub(crate) bytes: usize,
}

/// What is flushed, and where to.
pub(crate) struct Flush {
    shared: Arc<SharedLog>,
    recorder: Recorder,
    keep: Keep,
    /// On disk: this number, and that nothing else happened until then.
    durable: (u64, BootTime),
    failing: bool,
}

impl Flush {
    pub(crate) fn new(shared: Arc<SharedLog>, recorder: Recorder, keep: Keep) -> Self {
        shared.lock().wait_for_disk();
        Self { shared, recorder, keep, durable: (0, BootTime(0)), failing: false }
    }

    /// Makes durable what is new.
    ///
    /// # Errors
    ///
    /// When the disk cannot be written. The next flush tries again.
    pub(crate) fn flush(&mut self) -> Result<(), HistoryError> {
        let until = loop {
            let log = self.shared.lock();
            let mut events = log.unsettled(self.recorder.newest());
            events.by_ref().take(AT_ONCE).try_for_each(|event| self.recorder.append(event))?;
            if events.next().is_none() {
                break log.watched_until();
            }
        };
        let newest = self.recorder.newest();
        let news = newest > self.durable.0;
        if news || until.0.saturating_sub(self.durable.1.0) >= SILENCE {
            self.recorder.commit(until)?;
            self.durable = (newest, until);
            let mut log = self.shared.lock();
            log.settle(newest, until);
            log.prune(until.minus(self.keep.nanoseconds), self.keep.bytes);
        }
        if news {
            self.shared.touch();
        }
        self.recorder.retain(until)?;
        Ok(())
    }

    /// Flushes again and again until told to stop, and once more then.
    fn run(mut self, stop: &AtomicBool) -> Result<(), HistoryError> {
        loop {
            let last = stop.load(Ordering::Relaxed);
            match self.flush() {
                Ok(()) if self.failing => {
                    eprintln!("tracker: the history is written again");
                    self.failing = false;
                }
                Ok(()) => {}
                Err(error) => {
                    let waiting = self.recorder.newest() - self.durable.0;
                    if last || waiting > MOST_WAITING {
                        return Err(error);
                    }
                    if !self.failing {
                        eprintln!("tracker: {error}; trying again, nothing new is told until then");
                    }
                    self.failing = true;
                }
            }
            if last {
                return Ok(());
            }
            std::thread::park_timeout(PAUSE);
        }
    }
}

/// A thread that flushes, and how to stop it.
pub(crate) struct Flusher {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<(), HistoryError>>,
}

impl Flusher {
    /// Starts flushing. `ended` is told when the thread ends by itself.
    pub(crate) fn start(
        flush: Flush,
        ended: tokio::sync::mpsc::Sender<&'static str>,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("flush".to_owned()).spawn({
            let stop = Arc::clone(&stop);
            move || {
                let result = flush.run(&stop);
                let _ = ended.try_send("its disk"); // nobody listens any more while stopping
                result
            }
        })?;
        Ok(Self { stop, thread })
    }

    /// Flushes once more and stops; what the thread ended with.
    pub(crate) fn stop(self) -> Result<(), HistoryError> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        match self.thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
