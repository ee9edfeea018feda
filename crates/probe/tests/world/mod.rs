//! What a source has told so far, put together as a reader of its changes would.

// Each test program uses its own part of this.
#![allow(unreachable_pub, dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use procflow_binding::{
    Address, BootTime, Change, Namespace, NamespaceId, Process, ProcessKey, Socket, SocketId,
    Translation,
};
use procflow_core::{Endpoint, FlowKey};
use procflow_probe::{Choice, Options, Source, open};

/// Keeps the tests of a program apart: a test that starts a program shares, from fork to exec,
/// every socket of the tests beside it, and that is seen.
pub fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed harms no other.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Too short for glances between two looks.
const PERIOD: Duration = Duration::from_millis(5);

/// A source and what it told.
pub struct World {
    pub source: Box<dyn Source>,
    pub namespaces: BTreeMap<NamespaceId, Namespace>,
    pub addresses: BTreeSet<Address>,
    pub sockets: BTreeMap<SocketId, (Socket, Vec<ProcessKey>)>,
    pub processes: BTreeMap<ProcessKey, Process>,
    /// All sockets there ever were, with their last owners.
    pub lives: BTreeMap<SocketId, Life>,
    /// With the time of their event.
    pub translations: BTreeMap<(NamespaceId, FlowKey), (BootTime, Translation)>,
    pub gaps: usize,
    pub listed: usize,
    pub until: BootTime,
}

/// A socket from its opening to its end.
#[derive(Debug)]
pub struct Life {
    pub socket: Socket,
    pub owners: Vec<ProcessKey>,
    pub closed: Option<BootTime>,
    pub last_seen: Option<BootTime>,
}

impl World {
    pub fn open(choice: Choice) -> Self {
        Self::every(PERIOD, choice)
    }

    pub fn every(period: Duration, choice: Choice) -> Self {
        Self {
            source: open(choice, &Options { period, ..Options::default() }).unwrap(),
            namespaces: BTreeMap::new(),
            addresses: BTreeSet::new(),
            sockets: BTreeMap::new(),
            processes: BTreeMap::new(),
            lives: BTreeMap::new(),
            translations: BTreeMap::new(),
            gaps: 0,
            listed: 0,
            until: BootTime::default(),
        }
    }

    /// Looks once: with this period, each call does.
    pub fn look(&mut self) {
        let before = self.until;
        self.collect();
        assert!(self.until > before, "time goes on");
    }

    /// Collects once, and checks what must be true of every batch.
    pub fn collect(&mut self) {
        let batch = self.source.collect().unwrap();
        assert!(batch.watched_until > self.until || batch.changes.is_empty(), "time goes on");
        for (time, change) in batch.changes {
            assert!(time > self.until && time <= batch.watched_until, "{change:?}");
            let known = |owners: &[ProcessKey], processes: &BTreeMap<ProcessKey, Process>| {
                assert!(owners.is_sorted());
                for owner in owners {
                    assert!(processes.contains_key(owner), "{owner} before its facts");
                }
            };
            match change {
                Change::Namespace(namespace) => {
                    self.namespaces.insert(namespace.id, namespace);
                }
                Change::NamespaceGone(id) => {
                    self.namespaces.remove(&id).expect("gone before it was there");
                    assert!(self.translations.keys().all(|(namespace, _)| *namespace != id));
                }
                Change::Address(address) => assert!(self.addresses.insert(address)),
                Change::AddressGone(address) => assert!(self.addresses.remove(&address)),
                Change::Process(process) => {
                    self.processes.insert(process.key, process);
                }
                Change::Open(open) => {
                    known(&open.owners, &self.processes);
                    assert!(self.namespaces.contains_key(&open.socket.namespace()));
                    let life = Life {
                        socket: open.socket,
                        owners: open.owners.to_vec(),
                        closed: None,
                        last_seen: None,
                    };
                    self.lives.insert(open.id, life);
                    let before = self.sockets.insert(open.id, (open.socket, open.owners.to_vec()));
                    assert_eq!(before, None, "opened twice");
                }
                Change::Owners(owners) => {
                    known(&owners.owners, &self.processes);
                    assert!(!owners.owners.is_empty());
                    self.lives.get_mut(&owners.id).unwrap().owners = owners.owners.to_vec();
                    self.sockets.get_mut(&owners.id).expect("not open").1 =
                        owners.owners.into_vec();
                }
                Change::Close(close) => {
                    assert!(close.last_seen <= time, "{close:?}");
                    let life = self.lives.get_mut(&close.id).expect("closed before it was open");
                    (life.closed, life.last_seen) = (Some(time), Some(close.last_seen));
                    self.sockets.remove(&close.id).expect("closed before it was open");
                }
                Change::Translation(translation) => {
                    assert!(self.namespaces.contains_key(&translation.namespace));
                    assert!(translation.not_before <= time);
                    let key = (translation.namespace, translation.original);
                    let before = self.translations.insert(key, (time, translation));
                    assert_eq!(before, None, "translated twice");
                }
                Change::TranslationGone(gone) => {
                    let key = (gone.namespace, gone.original);
                    let (begun, _) = self.translations.remove(&key).expect("not translated");
                    assert!(begun <= gone.last_seen && gone.last_seen <= time);
                }
                Change::Gap(_) => self.gaps += 1,
                Change::Listed => self.listed += 1,
                _ => {}
            }
        }
        self.until = batch.watched_until;
    }

    /// Collects at the source's own pace for so long.
    pub fn follow(&mut self, duration: Duration) {
        let begun = std::time::Instant::now();
        while begun.elapsed() < duration {
            self.collect();
            std::thread::sleep(self.source.pause());
        }
    }

    /// All lives at a local endpoint.
    pub fn lived(&self, local: Endpoint) -> Vec<&Life> {
        self.lives.values().filter(|life| life.socket.local() == local).collect()
    }

    /// Looks until `found` finds something; at most a hundred times.
    pub fn until<T>(&mut self, what: &str, found: impl Fn(&Self) -> Option<T>) -> T {
        for _ in 0..100 {
            self.look();
            if let Some(found) = found(self) {
                return found;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{what}: not in 100 looks");
    }

    /// The sockets at a local endpoint, with the pids of their owners.
    pub fn at(&self, local: Endpoint) -> Vec<(SocketId, Socket, Vec<u32>)> {
        let here = self.sockets.iter().filter(|(_, (socket, _))| socket.local() == local);
        here.map(|(&id, (socket, owners))| {
            (id, *socket, owners.iter().map(|key| key.pid).collect())
        })
        .collect()
    }
}

/// Says that a test does not run here. Not by `eprintln!`, which the test runner keeps to itself while
/// a test passes.
pub fn skip(why: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
