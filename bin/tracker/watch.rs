//! Watching: a thread of its own asks the source and writes what it says into the log. (Another
//! one, [`crate::flush`], makes it durable; only then is it told.)

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use procflow_binding::{BootTime, Change, Gap, GapCause, Log};
use procflow_probe::{Batch, Count, ProbeError, Source};
use tokio::sync::watch;

/// The log, shared by the thread that fills it and the tasks that serve it.
pub(crate) struct SharedLog {
    log: Mutex<Log>,
    /// Counts what became fit to be told.
    changed: watch::Sender<u64>,
    /// From the look before the last to the last, in nanoseconds.
    interval: AtomicU64,
}

impl SharedLog {
    pub(crate) fn new(log: Log) -> Self {
        Self { log: Mutex::new(log), changed: watch::Sender::new(0), interval: AtomicU64::new(0) }
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

/// Looks further apart than this, and than three times the usual, leave a gap, in nanoseconds: twice
/// the longest period.
const LATE: u64 = 2_000_000_000;

/// Asks the source until told to stop.
///
/// # Errors
///
/// When the source says that it is of no further use.
pub(crate) fn watch(
    source: &mut dyn Source,
    shared: &SharedLog,
    stop: &AtomicBool,
) -> Result<(), ProbeError> {
    let mut failing_since: Option<BootTime> = None;
    let mut told = source.shortfalls().len();
    while !stop.load(Ordering::Relaxed) {
        match source.collect() {
            Ok(batch) => {
                // One that finds it not yet time to look again has not answered.
                let answers = batch.watched_until > shared.lock().watched_until();
                let gap = failing_since.take_if(|_| answers).map(|begin| {
                    eprintln!("tracker: {} answers again", source.name());
                    let (end, cause) = (batch.watched_until, GapCause::SourceFailed);
                    Gap { begin, end, cause }
                });
                record(shared, batch, gap, source.keeps_up());
            }
            Err(error) if error.is_final() => return Err(error),
            Err(error) => {
                if failing_since.is_none() {
                    failing_since = Some(shared.lock().watched_until());
                    eprintln!("tracker: {}: {error}; trying again", source.name());
                }
            }
        }
        for shortfall in source.shortfalls().iter().skip(told) {
            eprintln!("tracker: {shortfall}");
        }
        told = source.shortfalls().len();
        std::thread::park_timeout(source.pause().max(Duration::from_millis(1)));
    }
    // What happened until the end, for updaters that are being told.
    if let Ok(batch) = source.collect() {
        record(shared, batch, None, source.keeps_up());
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
///
/// `keeps_up`: what happened before a late answer is in it all the same.
pub(crate) fn record(shared: &SharedLog, batch: Batch, gap: Option<Gap>, keeps_up: bool) {
    let mut log = shared.lock();
    // A look that came this late (a stopped process, a host out of breath) did not watch.
    let last = log.watched_until();
    // One that always comes late, because looking takes so long, says so by its pause.
    let usual = shared.interval.load(Ordering::Relaxed);
    let interval = batch.watched_until.0.saturating_sub(last.0);
    // Most answers of a source that is told when to look are that it is not yet time.
    if interval > 0 {
        shared.interval.store(interval, Ordering::Relaxed);
    }
    let late = !keeps_up && gap.is_none() && interval > LATE.max(usual.saturating_mul(3));
    let gap = if late {
        Some(Gap { begin: last, end: batch.watched_until, cause: GapCause::SourceFailed })
    } else {
        gap
    };
    if let Some(gap) = gap {
        log.push(gap.end, Change::Gap(gap));
    }
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
        mut source: Box<dyn Source>,
        shared: Arc<SharedLog>,
        ended: tokio::sync::mpsc::Sender<&'static str>,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("watch".to_owned()).spawn({
            let stop = Arc::clone(&stop);
            move || {
                let result = watch(source.as_mut(), &shared, &stop);
                let _ = ended.try_send("its source"); // nobody listens any more while stopping
                result.map(|()| counted(&source.counts()))
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
