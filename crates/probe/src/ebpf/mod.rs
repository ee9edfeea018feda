//! The source that is told: programs in the kernel (eBPF, `programs/`) see every socket as it is made,
//! connected, used and closed, in the context of the process that does it, and every process as it
//! begins, becomes another program and ends.
//!
//! What existed before is looked up once, after the programs are attached, so that nothing falls
//! between; what they tell meanwhile is merged with it by the sockets' cookies. When events got lost
//! (the ring was full) the same look begins again, and the time since the first loss is a gap.
//!
//! Namespaces and their addresses are still looked at, every so often and when a socket names one that
//! is not known.

mod bindings;
mod kernel;
mod live;
mod mount;
mod processes;
mod record;

use std::time::{Duration, Instant};

use procflow_binding::{
    BootTime, Change, ClockSample, Coverage, Gap, GapCause, ProcessKey, Table, diff,
};

use self::bindings::{Bindings, Seen};
use self::kernel::Kernel;
use self::live::Live;
use self::record::{Kind, Record};
use crate::account::Look;
use crate::digest::Running;
use crate::look::Looks;
use crate::polled::{Taker, worth_telling};
use crate::source::{Batch, Count, Informed, Options, Shortfall, Source};
use crate::{ProbeError, clock};

/// From one reading of the ring to the next. On an idle host it is the waking itself that costs, and
/// nobody waits for less: what is told goes to disk twice a second. What `/proc` alone knows of a process
/// (which container, where processes also live in older cgroup hierarchies) must be read while it lives.
const PAUSE: Duration = Duration::from_millis(50);

/// An event may still be on its way into the ring this long after it was stamped, in nanoseconds: the
/// program that stamped it can be interrupted.
const SETTLED: u64 = 5_000_000;

/// So many events are taken at once.
const MOST_EVENTS: usize = 1 << 16;

/// Namespaces and addresses are looked at so often...
const SURROUNDINGS: Duration = Duration::from_secs(2);
/// ... and at most so often when strange namespaces turn up.
const STRANGE: Duration = Duration::from_millis(50);

/// Translations are asked for so often.
const TRANSLATIONS: Duration = Duration::from_millis(50);

/// The real-time clock is compared so often.
const CLOCK: Duration = Duration::from_millis(100);

/// A program that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    program: &'static str,
    because: String,
    lost: &'static str,
}

/// What the programs counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// Of each kind: to be told, and of these without room in the ring.
    kinds: [(u64, u64); Kind::ALL.len()],
    /// The first loss since everything was last told again.
    first: Option<BootTime>,
}

impl Losses {
    fn add(&mut self, kind: Kind, attempted: u64, lost: u64) {
        let count = &mut self.kinds[kind as usize];
        count.0 += attempted;
        count.1 += lost;
    }

    fn began(&mut self, first: BootTime) {
        self.first = Some(self.first.map_or(first, |known| known.min(first)));
    }

    fn lost(&self) -> u64 {
        self.kinds.iter().map(|&(_, lost)| lost).sum()
    }
}

/// The source.
pub(crate) struct Told {
    kernel: Kernel,
    bindings: Bindings,
    live: Live,
    looks: Looks,
    /// The last look at namespaces and addresses.
    around: Option<(Instant, Table)>,
    clock: Option<(Instant, ClockSample)>,
    /// When translations were asked for last.
    translated: Option<(Instant, BootTime)>,
    /// What is to be told with the next answer, because the last one failed.
    pending: bindings::Changes,
    /// The first loss since everything was listed last.
    first_loss: Option<BootTime>,
    /// How often the kernel did not run a program.
    misses: u64,
    /// Events that were lost, or could not be understood, until everything was listed last.
    lost: u64,
    consumed: [u64; Kind::ALL.len()],
    /// Events that could not be understood; as good as lost.
    malformed: u64,
    /// Everything until then is told.
    until: BootTime,
    shortfalls: Vec<Shortfall>,
}

impl Told {
    /// Loads and attaches the programs.
    pub(crate) fn open(options: &Options) -> Result<Self, ProbeError> {
        if !crate::process::sees_all_pids() {
            return Err(ProbeError::PidNamespace);
        }
        // First whoever may refuse: the programs begin to fill the ring.
        let looks = Looks::on_demand()?;
        let kernel = Kernel::open(options)?;
        Ok(Self {
            kernel,
            bindings: Bindings::default(),
            live: Live::new(),
            looks,
            around: None,
            clock: None,
            translated: None,
            pending: Vec::new(),
            first_loss: None,
            misses: 0,
            lost: 0,
            consumed: [0; Kind::ALL.len()],
            malformed: 0,
            until: BootTime(0),
            shortfalls: Vec::new(),
        })
    }

    /// Everything that there is, from a look. What the ring held was taken before; what it gets
    /// meanwhile is merged by the sockets' cookies.
    /// What it does not show was there until `watched`.
    fn list(
        &mut self,
        watched: BootTime,
        changes: &mut bindings::Changes,
    ) -> Result<BootTime, ProbeError> {
        // Nobody holds a connection in TIME_WAIT. When it was open it was told, and would now
        // be told again without its owner.
        let Look { table, missed, .. } = self.looks.living()?;
        self.look_around(&table, changes);
        let mut meanwhile = Vec::new();
        while meanwhile.len() < MOST_EVENTS
            && let Some(record) = self.next()
        {
            meanwhile.extend(record);
        }
        let seen = Seen { table: &table, missed: &missed, watched, meanwhile };
        self.bindings.list(seen, self.live.at(table.time), changes);
        self.note_shortfalls();
        Ok(table.time)
    }

    /// What changed in namespaces and addresses since the last look.
    fn look_around(&mut self, table: &Table, changes: &mut bindings::Changes) {
        let mut now = Table {
            time: table.time,
            namespaces: table.namespaces.clone(),
            addresses: table.addresses.clone(),
            ..Table::default()
        };
        let before = self.around.take().map(|(_, table)| table).unwrap_or_default();
        let mut differences = diff(&before, &mut now);
        // What is told of a namespace comes after its coming, and before its going.
        let gone = |change: &Change| matches!(change, Change::NamespaceGone(_));
        let going = differences.iter().position(gone).unwrap_or(differences.len());
        let going = differences.split_off(going);
        changes.extend(differences.into_iter().map(|change| (now.time, change)));
        changes.extend(self.looks.told(now.time));
        changes.extend(going.into_iter().map(|change| (now.time, change)));
        self.bindings.namespaces(now.namespaces.keys().copied());
        self.around = Some((Instant::now(), now));
    }

    /// Everything since the last call.
    fn collect_into(&mut self, changes: &mut bindings::Changes) -> Result<(), ProbeError> {
        let now = clock::now()?;
        self.read_clock(changes)?;
        if self.around.is_none() {
            self.until = self.list(now, changes)?;
        }
        let mut taken = self.drain(now, changes);
        let losses = self.kernel.losses()?;
        self.first_loss = self.first_loss.into_iter().chain(losses.first).min();
        if self.lost_by(&losses) > self.lost {
            // What waits is older than the look that follows, and must not be merged into it later.
            while taken == MOST_EVENTS {
                taken = self.drain(now, changes);
            }
            self.resync(changes)?;
        }
        let strange = self.bindings.take_strange();
        let since = self.around.as_ref().map_or(Duration::MAX, |(when, _)| when.elapsed());
        if since >= SURROUNDINGS || (strange && since >= STRANGE) {
            let before = self.around.as_ref().map(|(_, table)| table.time);
            let table = self.looks.surroundings()?;
            self.look_around(&table, changes);
            self.note_shortfalls();
            let misses = self.kernel.misses();
            if misses > self.misses {
                self.misses = misses;
                self.first_loss = self.first_loss.into_iter().chain(before).min();
            }
        }
        if self.translated.is_none_or(|(when, _)| when.elapsed() >= TRANSLATIONS) {
            changes.extend(self.looks.told(now));
            self.translated = Some((Instant::now(), now));
        }
        self.bindings.settle(now, changes);
        self.bindings.processes.forget(if taken < MOST_EVENTS { now } else { self.until });
        if taken < MOST_EVENTS {
            let translated = self.translated.map_or(now, |(_, until)| until);
            self.until = self.until.max(now.minus(SETTLED).min(translated));
        }
        Ok(())
    }

    /// Everything that was not told: for want of room, because it could not be understood, or because
    /// the kernel did not run a program.
    fn lost_by(&self, losses: &Losses) -> u64 {
        losses.lost() + self.malformed + self.misses
    }

    /// Takes what waits in the ring.
    fn drain(&mut self, now: BootTime, changes: &mut bindings::Changes) -> usize {
        self.live.at(now);
        for taken in 0..MOST_EVENTS {
            match self.next() {
                Some(Some(record)) => self.bindings.apply(record, &mut self.live, changes),
                Some(None) => {}
                None => return taken,
            }
        }
        MOST_EVENTS
    }

    /// The next event in the ring, if there is one - and if it can be understood.
    fn next(&mut self) -> Option<Option<Record>> {
        let Ok(record) = self.kernel.next()? else {
            self.malformed += 1;
            return Some(None);
        };
        self.consumed[record.kind() as usize] += 1;
        self.until = self.until.max(record.time);
        Some(Some(record))
    }

    /// Events got lost: everything is listed again, and all since the first loss is a gap.
    fn resync(&mut self, changes: &mut bindings::Changes) -> Result<(), ProbeError> {
        // Sockets tell again who uses them, as they are used.
        self.kernel.begin_epoch()?;
        // What is lost from here on is not covered by the listing.
        let lost = self.lost_by(&self.kernel.losses()?);
        let mut listing = Vec::new();
        let time = clock::now()?;
        self.bindings.processes.doubt(time, self.live.at(time));
        let begin = self.first_loss.unwrap_or(time);
        let end = self.list(begin, &mut listing)?;
        self.first_loss = None;
        let gap = Gap { begin, end, cause: GapCause::EventsLost };
        changes.push((end, Change::Gap(gap)));
        changes.append(&mut listing);
        self.lost = lost;
        Ok(())
    }

    /// The real-time clock, when it says more than the last time.
    fn read_clock(&mut self, changes: &mut bindings::Changes) -> Result<(), ProbeError> {
        if self.clock.as_ref().is_some_and(|(when, _)| when.elapsed() < CLOCK) {
            return Ok(());
        }
        let sample = clock::sample()?;
        let told = self.clock.as_ref().map(|&(_, told)| told);
        if worth_telling(told, sample) {
            changes.push((sample.boot, Change::Clock(sample.real)));
            self.clock = Some((Instant::now(), sample));
        } else if let Some((when, _)) = &mut self.clock {
            *when = Instant::now();
        }
        Ok(())
    }

    fn note_shortfalls(&mut self) {
        self.shortfalls.clear();
        self.shortfalls.extend(self.kernel.missing.iter().map(|missing| {
            let Missing { program, because, lost } = missing.clone();
            Shortfall::Program { program, because, lost }
        }));
        self.shortfalls.extend_from_slice(self.looks.shortfalls());
    }
}

impl Source for Told {
    fn name(&self) -> &'static str {
        "eBPF"
    }

    fn coverage(&self) -> Coverage {
        if self.kernel.missing.is_empty() {
            Coverage::Complete
        } else {
            // Something may be there that nobody tells of, however often the ring is read.
            Coverage::Polled { period: u64::try_from(PAUSE.as_nanos()).unwrap_or(u64::MAX) }
        }
    }

    fn shortfalls(&self) -> &[Shortfall] {
        &self.shortfalls
    }

    fn collect(&mut self) -> Result<Batch, ProbeError> {
        // What was taken from the ring before something failed is told with the next answer.
        let mut changes = std::mem::take(&mut self.pending);
        match self.collect_into(&mut changes) {
            Ok(()) => Ok(Batch { changes, watched_until: self.until }),
            Err(error) => {
                self.pending = changes;
                Err(error)
            }
        }
    }

    fn pause(&self) -> Duration {
        PAUSE
    }

    fn keeps_up(&self) -> bool {
        true
    }

    fn counts(&mut self) -> Vec<Count> {
        let Ok(losses) = self.kernel.losses() else { return Vec::new() };
        let of = |kind: Kind| {
            let (attempted, lost) = losses.kinds[kind as usize];
            Count { name: kind.name(), attempted, consumed: self.consumed[kind as usize], lost }
        };
        Kind::ALL.into_iter().map(of).collect()
    }
}

impl Informed for Told {
    fn tells_details(&self) -> bool {
        true
    }

    fn runs(&self, process: ProcessKey) -> Option<Running> {
        self.bindings.processes.runs(process)
    }
}
