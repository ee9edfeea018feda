//! This host's own sockets, while its interfaces are captured: what a tracker does, without keeping or
//! serving it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use procflow_binding::{BootId, BootTime, Change, Event, Gap, GapCause, Histories, HostId};
use procflow_probe::{Batch, Choice, Heard, Options, ProbeError, Watch};

use crate::failure::Failure;

/// So many answers wait at most; then the source waits, and the kernel keeps what happens (and says what
/// it could not keep).
const WAITING: usize = 256;

/// This host, watched by a thread of its own.
pub(crate) struct Host {
    id: HostId,
    boot: BootId,
    sequence: u64,
    told: Receiver<Batch>,
    over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Host {
    /// Watches from now on: what exists is in the histories when it returns.
    pub(crate) fn watch(histories: &mut Histories, quiet: bool) -> Result<Self, Failure> {
        let options = Options::default();
        let source = procflow_probe::open(Choice::Auto, &options)?;
        let now = procflow_probe::now()?;
        let boot = procflow_probe::boot_id()?;
        let (sender, told) = sync_channel(WAITING);
        let over = Arc::new(AtomicBool::new(false));
        let mut watch = Watch::begin(source, now);
        let coverage = watch.coverage();
        let (first, listed) = sync_channel(1);
        let ended = Arc::clone(&over);
        let thread = std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || {
                let listing = watch.ask();
                for shortfall in watch.new_shortfalls().iter().filter(|_| !quiet) {
                    eprintln!("extractor: {shortfall}");
                }
                let failed = listing.is_err();
                if first.send(listing).is_err() || failed {
                    return;
                }
                if let Err(error) = keep_watching(&mut watch, &sender, &ended) {
                    eprintln!("extractor: {error}; processes are not known from now on");
                }
            })
            .map_err(Failure::Runtime)?;
        // No tracker has this one: it is no digest of a key.
        let id = HostId([0; 16]);
        let mut host = Self { id, boot, sequence: 0, told, over, thread };
        host.apply(histories, now, Change::Watch(coverage));
        let gap = Gap { begin: BootTime(0), end: now, cause: GapCause::NotRunning };
        host.apply(histories, now, Change::Gap(gap));
        match listed.recv() {
            Ok(Ok(Heard::Told { batch, .. })) => host.take(histories, batch),
            Ok(Ok(Heard::Failed { error, .. }) | Err(error)) => return Err(error.into()),
            Err(_) => return Err(Failure::Watching),
        }
        Ok(host)
    }

    pub(crate) fn id(&self) -> HostId {
        self.id
    }

    /// Takes in what happened since.
    pub(crate) fn tell(&mut self, histories: &mut Histories) {
        while let Ok(batch) = self.told.try_recv() {
            self.take(histories, batch);
        }
    }

    fn take(&mut self, histories: &mut Histories, batch: Batch) {
        for (time, change) in batch.changes {
            self.apply(histories, time, change);
        }
        histories.entry(self.id, self.boot).watched_until(batch.watched_until);
    }

    fn apply(&mut self, histories: &mut Histories, time: BootTime, change: Change) {
        self.sequence += 1;
        let event = Event { sequence: self.sequence, time, change };
        histories.entry(self.id, self.boot).apply(event);
    }

    /// Watches no longer.
    pub(crate) fn stop(self) {
        let Self { told, over, thread, .. } = self;
        over.store(true, Ordering::Relaxed);
        drop(told);
        thread.thread().unpark();
        let _ = thread.join();
    }
}

/// Asks the source until nobody listens any more.
fn keep_watching(
    watch: &mut Watch,
    told: &SyncSender<Batch>,
    over: &AtomicBool,
) -> Result<(), ProbeError> {
    while !over.load(Ordering::Relaxed) {
        match watch.ask()? {
            Heard::Told { batch, again } => {
                if again {
                    eprintln!("extractor: {} answers again", watch.name());
                }
                if told.send(batch).is_err() {
                    break;
                }
            }
            Heard::Failed { error, anew: true } => {
                eprintln!("extractor: {}: {error}; trying again", watch.name());
            }
            Heard::Failed { .. } => {}
        }
        for shortfall in watch.new_shortfalls() {
            eprintln!("extractor: {shortfall}");
        }
        std::thread::park_timeout(watch.pause());
    }
    Ok(())
}
