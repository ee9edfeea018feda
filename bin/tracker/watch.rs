//! Watching: a thread of its own asks the source and writes what it says into the log. (Another
//! one, [`crate::flush`], makes it durable; only then is it told.)

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use procflow_binding::Log;
use procflow_probe::{Batch, Count, Heard, ProbeError, Watch};
use tokio::sync::watch;

/// The log, shared by the thread that fills it and the tasks that serve it.
pub(crate) struct SharedLog {
    log: Mutex<Log>,
    /// Counts what became fit to be told.
    changed: watch::Sender<u64>,
}

impl SharedLog {
    pub(crate) fn new(log: Log) -> Self {
        Self { log: Mutex::new(log), changed: watch::Sender::new(0) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells when the log has something new to tell.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn touch(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

/// Asks the source until told to stop.
///
/// # Errors
///
/// When the source says that it is of no further use.
fn keep_watching(
    watch: &mut Watch,
    shared: &SharedLog,
    stop: &AtomicBool,
) -> Result<(), ProbeError> {
    while !stop.load(Ordering::Relaxed) {
        match watch.ask()? {
            Heard::Told { batch, again } => {
                if again {
                    eprintln!("tracker: {} answers again", watch.name());
                }
                record(shared, batch);
            }
            Heard::Failed { error, anew: true } => {
                eprintln!("tracker: {}: {error}; trying again", watch.name());
            }
            Heard::Failed { .. } => {}
        }
        for shortfall in watch.new_shortfalls() {
            eprintln!("tracker: {shortfall}");
        }
        std::thread::park_timeout(watch.pause());
    }
    // What happened until the end, for updaters that are being told.
    if let Ok(Heard::Told { batch, .. }) = watch.ask() {
        record(shared, batch);
    }
    Ok(())
}

/// What the kernel counted, in a line for people; `None` where it does not.
fn counted(counts: &[Count]) -> Option<String> {
    let sum = |of: fn(&Count) -> u64| counts.iter().map(of).sum::<u64>();
    let line = |attempted: u64, consumed: u64, lost: u64| {
        let rest = attempted.saturating_sub(consumed).saturating_sub(lost);
        let rest = if rest == 0 { String::new() } else { format!(" + {rest} unread") };
        format!("{attempted} attempted = {consumed} consumed + {lost} lost{rest}")
    };
    let total = line(sum(|c| c.attempted), sum(|c| c.consumed), sum(|c| c.lost));
    let each: Vec<String> = counts
        .iter()
        .filter(|count| count.attempted > 0)
        .map(|c| format!("{} {}", c.name, line(c.attempted, c.consumed, c.lost)))
        .collect();
    (!counts.is_empty()).then(|| format!("{total} ({})", each.join(", ")))
}

/// Writes one answer of the source into the log.
pub(crate) fn record(shared: &SharedLog, batch: Batch) {
    let mut log = shared.lock();
    for (time, change) in batch.changes {
        log.push(time, change);
    }
    log.watched(batch.watched_until);
}

/// A thread that watches, and how to stop it.
pub(crate) struct Watcher {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<Option<String>, ProbeError>>,
}

impl Watcher {
    /// Starts watching. `ended` is told when the thread ends by itself.
    pub(crate) fn start(
        mut watch: Watch,
        shared: Arc<SharedLog>,
        ended: tokio::sync::mpsc::Sender<&'static str>,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("watch".to_owned()).spawn({
            let stop = Arc::clone(&stop);
            move || {
                let result = keep_watching(&mut watch, &shared, &stop);
                let _ = ended.try_send("its source"); // nobody listens any more while stopping
                result.map(|()| counted(&watch.counts()))
            }
        })?;
        Ok(Self { stop, thread })
    }

    /// Stops watching; what the kernel counted, or what the thread ended with.
    pub(crate) fn stop(self) -> Result<Option<String>, ProbeError> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        match self.thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
