//! The log: the numbered events of one incarnation, as a tracker keeps them for those who ask.
//!
//! What is older than it keeps is dropped, except what is **still true** (a socket that is still
//! open, the facts of its owner): a reader that comes late, or comes back late, is told how far the
//! log no longer reaches and what is still true of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use procflow_core::FlowKey;
use serde::{Deserialize, Serialize};

use crate::clock::BootTime;
use crate::event::{Address, Change, Coverage, Event, Gap, GapCause};
use crate::process::{BootId, MOST_VERSIONS, ProcessKey};
use crate::socket::{NamespaceId, SocketId};
use crate::vantage::HostId;

/// One start of a tracker: its numbers are never given again, because the incarnation never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation {
    /// The host.
    pub host: HostId,
    /// The boot.
    pub boot: BootId,
    /// Counts the tracker's starts on that host, from 1.
    pub number: u64,
}

/// A place in a log: all events up to this sequence number are known to whoever holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// In which log.
    pub incarnation: Incarnation,
    /// The last event known; 0 before the first.
    pub sequence: u64,
}

/// How many processes without sockets are tolerated before they are looked for: looking walks
/// the whole log.
const STRANGERS: usize = 4096;

/// The log of one incarnation, in memory.
#[derive(Debug)]
pub struct Log {
    incarnation: Incarnation,
    /// What is still true of the dropped events.
    still_true: StillTrue,
    /// Everything up to this number was dropped; 0 when nothing was.
    dropped_through: u64,
    /// Everything before this moment may have been dropped.
    dropped_until: BootTime,
    recent: VecDeque<Event>,
    /// What the recent events take, in bytes.
    bytes: usize,
    /// So many processes were left when strangers were last looked for.
    left: usize,
    watched_until: BootTime,
    /// Up to which number, and until when, it may be told; `None` for all.
    durable: Option<(u64, BootTime)>,
}

impl Log {
    /// Opens a log with the two events that begin every incarnation: how well is watched from
    /// `now` on, and that nobody watched before.
    #[must_use]
    pub fn open(incarnation: Incarnation, coverage: Coverage, now: BootTime) -> Self {
        let mut log = Self {
            incarnation,
            still_true: StillTrue::default(),
            dropped_through: 0,
            dropped_until: BootTime(0),
            recent: VecDeque::new(),
            bytes: 0,
            left: 0,
            watched_until: now,
            durable: None,
        };
        log.push(now, Change::Watch(coverage));
        let cause = GapCause::NotRunning;
        log.push(now, Change::Gap(Gap { begin: BootTime(0), end: now, cause }));
        log
    }

    /// Whose log.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The number of the newest event.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.dropped_through + self.recent.len() as u64
    }

    /// Everything up to here is in the log.
    #[must_use]
    pub fn watched_until(&self) -> BootTime {
        self.watched_until
    }

    /// From now on only what was made durable is told, and dropped; a number that somebody was told
    /// must be on disk, or the next start could not go on where this one stopped.
    pub fn wait_for_disk(&mut self) {
        self.durable.get_or_insert((0, BootTime(0)));
    }

    /// The events up to this number, and that nothing else happened until then, are on disk.
    pub fn settle(&mut self, sequence: u64, until: BootTime) {
        self.durable = Some((sequence.min(self.newest()), until.min(self.watched_until)));
    }

    /// The kept events after a number, whether they may be told or not: those that are still to be
    /// made durable.
    pub fn unsettled(&self, sequence: u64) -> impl Iterator<Item = &Event> {
        let skip = sequence.saturating_sub(self.dropped_through);
        self.recent.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX))
    }

    /// The number of the newest event that may be told.
    #[must_use]
    pub fn told(&self) -> u64 {
        self.durable.map_or_else(|| self.newest(), |(sequence, _)| sequence)
    }

    /// Everything up to here may be told. That nothing happened needs no disk.
    #[must_use]
    pub fn told_until(&self) -> BootTime {
        match self.durable {
            Some((sequence, until)) if sequence < self.newest() => until,
            _ => self.watched_until,
        }
    }

    /// How many events it holds: recent ones, and older ones that are still true.
    #[must_use]
    pub fn len(&self) -> usize {
        self.recent.len() + self.still_true.len()
    }

    /// Whether it holds nothing. (A log never does: it opens with two events.)
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an event.
    pub fn push(&mut self, time: BootTime, change: Change) {
        let sequence = self.newest() + 1;
        let event = Event { sequence, time, change };
        self.bytes += event.footprint();
        self.recent.push_back(event);
        self.watched(time);
    }

    /// Nothing but what is in the log happened until `until`.
    pub fn watched(&mut self, until: BootTime) {
        self.watched_until = self.watched_until.max(until);
    }

    /// Drops events from before `before`, and the oldest ones beyond `most` bytes. (What is still
    /// true of them is kept: that is bounded by what the host itself holds open.)
    pub fn prune(&mut self, before: BootTime, most: usize) {
        while let Some(oldest) = self.recent.front() {
            let settled = self.durable.is_none_or(|(durable, _)| oldest.sequence <= durable);
            if !settled || oldest.time >= before && self.bytes <= most {
                break;
            }
            let Some(event) = self.recent.pop_front() else {
                break;
            };
            self.bytes = self.bytes.saturating_sub(event.footprint());
            self.dropped_through = event.sequence;
            self.dropped_until = self.dropped_until.max(event.time);
            self.still_true.fold(event);
        }
        // Events still to come may name most of them: then the next look waits for twice as many.
        let held = self.still_true.sockets.len().max(self.left);
        if self.still_true.processes() > STRANGERS + 2 * held {
            self.still_true.forget_strangers(&self.recent);
            self.left = self.still_true.processes();
        }
    }

    /// What a reader needs who knows everything up to `sequence`.
    #[must_use]
    pub fn since(&self, sequence: u64) -> Since {
        if sequence >= self.dropped_through {
            Since::Next(sequence)
        } else {
            Since::Dropped { until: self.dropped_until, through: self.dropped_through }
        }
    }

    /// The kept events after `sequence` that may be told, oldest first. Only whole from
    /// `dropped_through` on: see [`Log::since`].
    pub fn events(&self, sequence: u64) -> impl Iterator<Item = &Event> {
        let told = self.told();
        self.unsettled(sequence).take_while(move |event| event.sequence <= told)
    }

    /// What is still true of the dropped events, in the order of their numbers; ends with
    /// [`Change::Listed`].
    #[must_use]
    pub fn still_true(&self) -> Vec<Event> {
        let mut events = self.still_true.events();
        let sequence = self.dropped_through;
        events.push(Event { sequence, time: self.dropped_until, change: Change::Listed });
        events
    }
}

/// Where a reader can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// With the event after this one.
    Next(u64),
    /// Events it needs are dropped: with what is still true, then after `through`.
    Dropped {
        /// Everything before this moment may be missing.
        until: BootTime,
        /// The last number dropped.
        through: u64,
    },
}

/// The events that no later one has overtaken: what must be told of those before, when they are no
/// longer kept.
#[derive(Debug, Default)]
pub struct StillTrue {
    watch: Option<Event>,
    clock: Option<Event>,
    namespaces: BTreeMap<NamespaceId, Event>,
    addresses: BTreeMap<Address, Event>,
    /// All versions: a flow from before an exec belongs to the program of then.
    processes: BTreeMap<ProcessKey, Vec<Event>>,
    /// Only the last: they are large.
    details: BTreeMap<ProcessKey, Event>,
    sockets: BTreeMap<SocketId, Event>,
    /// By who translates, and what.
    translations: BTreeMap<(NamespaceId, FlowKey), Event>,
}

impl StillTrue {
    /// Takes in the next event, or one that [`StillTrue::events`] gave.
    pub fn fold(&mut self, event: Event) {
        match &event.change {
            Change::Watch(_) => self.watch = Some(event),
            Change::Clock(_) => self.clock = Some(event),
            Change::Namespace(namespace) => {
                self.namespaces.insert(namespace.id, event);
            }
            Change::NamespaceGone(id) => {
                self.namespaces.remove(id);
                self.addresses.retain(|address, _| address.namespace != *id);
                self.translations.retain(|(namespace, _), _| namespace != id);
            }
            Change::Address(address) => {
                self.addresses.insert(*address, event);
            }
            Change::AddressGone(address) => {
                self.addresses.remove(address);
            }
            Change::Process(process) => {
                let versions = self.processes.entry(process.key).or_default();
                if versions.last().is_some_and(|last| last.change == event.change) {
                    return;
                }
                if versions.len() == MOST_VERSIONS {
                    versions.remove(0);
                }
                versions.push(event);
            }
            Change::Open(open) => {
                self.sockets.insert(open.id, event);
            }
            Change::Owners(change) => {
                let Some(open) = self.sockets.get_mut(&change.id) else {
                    return;
                };
                if let Change::Open(what) = &mut open.change {
                    if !what.owners.is_empty() {
                        // Who held it before is no longer told, so neither is since when.
                        what.not_before = change.not_before;
                        (open.sequence, open.time) = (event.sequence, event.time);
                    }
                    what.owners.clone_from(&change.owners);
                }
            }
            Change::Close(close) => {
                self.sockets.remove(&close.id);
            }
            // The reader is told of one gap that covers all that was dropped.
            Change::Gap(_) | Change::Listed => {}
            Change::Details(details) => {
                self.details.insert(details.process, event);
            }
            Change::Translation(new) => {
                self.translations.insert((new.namespace, new.original), event);
            }
            Change::TranslationGone(gone) => {
                self.translations.remove(&(gone.namespace, gone.original));
            }
        }
    }

    /// Facts of processes that hold no socket, and that no event names which is still to come,
    /// need no longer be told.
    fn forget_strangers(&mut self, to_come: &VecDeque<Event>) {
        let named: BTreeSet<ProcessKey> = self
            .sockets
            .values()
            .chain(to_come.iter())
            .filter_map(|event| match &event.change {
                Change::Open(open) => Some(&open.owners),
                Change::Owners(change) => Some(&change.owners),
                _ => None,
            })
            .flatten()
            .copied()
            .collect();
        self.forget_processes(|key| named.contains(key));
    }

    /// How many processes something is kept of.
    fn processes(&self) -> usize {
        self.processes.len().max(self.details.len())
    }

    /// Forgets the facts of all processes but some.
    pub fn forget_processes(&mut self, mut keep: impl FnMut(&ProcessKey) -> bool) {
        self.processes.retain(|key, _| keep(key));
        self.details.retain(|key, _| keep(key));
    }

    /// How many events it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.watch.is_some())
            + usize::from(self.clock.is_some())
            + self.namespaces.len()
            + self.addresses.len()
            + self.processes.values().map(Vec::len).sum::<usize>()
            + self.details.len()
            + self.sockets.len()
            + self.translations.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those events, in the order of their numbers.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        let single = self.watch.iter().chain(&self.clock);
        let mapped = self.namespaces.values().chain(self.addresses.values());
        let held = self.processes.values().flatten().chain(self.sockets.values());
        let rest = self.details.values().chain(self.translations.values());
        let all = single.chain(mapped).chain(held).chain(rest);
        let mut events: Vec<Event> = all.cloned().collect();
        events.sort_by_key(|event| event.sequence);
        events
    }
}
