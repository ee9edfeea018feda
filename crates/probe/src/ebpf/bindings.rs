//! Sockets and who holds them, followed record by record: what goes in are records of the programs and
//! tables from looks, what comes out are dated changes. No I/O but what [`Inquiry`] is asked.
//!
//! **Who holds a socket** is whoever made or connected it, and whoever used it since. A connection that
//! was accepted belongs to nobody until somebody uses it: that its listener was made by one process says
//! nothing about which one accepted it.

use std::collections::{BTreeSet, VecDeque};

use foldhash::{HashMap, HashSet};
use procflow_binding::{
    BootTime, Change, Close, Held, MOST_OWNERS, NamespaceId, Open, OwnerSet, Owners, ProcessKey,
    Role, Socket, SocketId, Table,
};

use super::processes::{Inquiry, Processes};
use super::record::{Actor, Kind, Record, Tuple, What};

/// How many conversations of one raw socket are followed. The oldest makes room.
const MOST_CONVERSATIONS: usize = 256;

/// Sockets that several processes hold are looked through for closed ones when a process is noted
/// with this many, and with each doubling after.
const SHARED: usize = 64;

/// How long the end of a connection that nobody has used is held back, in nanoseconds. When its peer
/// resets it, it ends before its holder reads or closes it - and only by that shows who holds it.
const AWAIT_HOLDER: u64 = 1_000_000_000;

/// So many namespaces that no look has shown are remembered.
const MOST_STRANGE: usize = 1024;

/// Dated changes, in the order in which they can be applied.
pub(super) type Changes = Vec<(BootTime, Change)>;

/// Everything that is open.
#[derive(Default)]
pub(super) struct Bindings {
    pub(super) processes: Processes,
    sockets: HashMap<SocketId, Holding>,
    /// Of raw sockets, by their cookie.
    conversations: HashMap<u64, Vec<SocketId>>,
    /// Which sockets below the network layer a process sent with: they end with it.
    frames: HashMap<ProcessKey, BTreeSet<u64>>,
    /// Which sockets a process shares with others, so that it can be taken off them when it ends.
    shared: HashMap<ProcessKey, Shared>,
    /// Connections that ended before anybody used them, by when they are told as ended anyway.
    ending: VecDeque<(BootTime, SocketId)>,
    namespaces: HashSet<NamespaceId>,
    /// A namespace was named that no look has shown, for the first time.
    strange: bool,
    wondered: HashSet<NamespaceId>,
    /// Identities of raw conversations, given from the top: cookies count from 1.
    next_conversation: u64,
}

/// What a look showed.
pub(super) struct Seen<'a> {
    pub(super) table: &'a Table,
    /// Namespaces that it did not reach.
    pub(super) missed: &'a BTreeSet<NamespaceId>,
    /// What it does not show was there until then: when events began to be lost.
    pub(super) watched: BootTime,
    /// What was told while it was taken.
    pub(super) meanwhile: Vec<Record>,
}

#[derive(Clone)]
struct Holding {
    socket: Socket,
    /// Ascending, without repeats.
    owners: OwnerSet,
    /// When it ended, if that is held back.
    ended: Option<BootTime>,
}

impl Holding {
    fn new(socket: Socket, owners: OwnerSet) -> Self {
        Self { socket, owners, ended: None }
    }
}

#[derive(Default)]
struct Shared {
    sockets: Vec<SocketId>,
    look_at: usize,
}

impl Bindings {
    /// Whether a namespace was named that no look has shown; asks only once.
    pub(super) fn take_strange(&mut self) -> bool {
        std::mem::take(&mut self.strange)
    }

    /// The namespaces that a look showed.
    pub(super) fn namespaces(&mut self, seen: impl Iterator<Item = NamespaceId>) {
        self.namespaces = seen.collect();
        self.wondered.retain(|id| !self.namespaces.contains(id));
        // One that cannot be entered must not make us look at every event of its users.
        if self.wondered.len() > MOST_STRANGE {
            self.wondered.clear();
        }
    }

    fn wonder(&mut self, namespace: NamespaceId) {
        self.strange |= !self.namespaces.contains(&namespace) && self.wondered.insert(namespace);
    }

    /// Everything that a look showed is told, and what it did not show is closed, last seen at
    /// `watched` (when events began to be lost), unless it is of a namespace that the look missed. Ends
    /// with [`Change::Listed`].
    pub(super) fn list(&mut self, seen: Seen<'_>, ask: &mut dyn Inquiry, changes: &mut Changes) {
        let Seen { table, missed, watched, meanwhile } = seen;
        let time = table.time;
        // What the look just missed ended before it: so much is told.
        let ends: HashSet<u64> = meanwhile
            .iter()
            .filter_map(|record| match record.what {
                What::Closed { cookie } => Some(cookie),
                _ => None,
            })
            .collect();
        for process in table.processes.values() {
            self.processes.learn(process.clone(), ask);
        }
        let before = std::mem::take(&mut self.sockets);
        self.processes.hold_nothing();
        // Of raw sockets looks show nothing.
        let raw: HashSet<SocketId> = self.conversations.drain().flat_map(|(_, ids)| ids).collect();
        self.shared.clear();
        self.frames.clear();
        self.ending.clear();
        for (&id, Held { socket, owners }) in &table.sockets {
            let mut owners: BTreeSet<ProcessKey> = owners.clone();
            // Who has it now was seen; who had it before may have gone unheard.
            if owners.is_empty()
                && let Some(was) = before.get(&id).filter(|was| was.socket == *socket)
            {
                owners.extend(&was.owners);
            }
            let owners: OwnerSet = owners.into_iter().take(MOST_OWNERS).collect();
            self.is_there(time, id, *socket, owners, changes);
        }
        for (id, was) in before {
            if self.sockets.contains_key(&id) {
                continue;
            }
            let stays = missed.contains(&was.socket.namespace()) || ends.contains(&id.0);
            if stays && was.ended.is_none() && !raw.contains(&id) {
                self.is_there(time, id, was.socket, was.owners, changes);
            } else {
                // In so many words: those who keep the log by user would not know it from the listing.
                let last_seen = was.ended.unwrap_or(watched).min(time);
                changes.push((time, Change::Close(Close { id, last_seen })));
            }
        }
        changes.push((time, Change::Listed));
        for record in meanwhile {
            // Of a socket that is over, and whose end was lost.
            let over = matches!(record.what, What::Acting { cookie, tuple: Some(tuple), .. }
                if record.time <= time
                    && !self.sockets.contains_key(&SocketId(cookie))
                    && !missed.contains(&tuple.namespace));
            if !over {
                self.apply(record, ask, changes);
            }
        }
    }

    /// A socket is told as one that was there before.
    fn is_there(
        &mut self,
        time: BootTime,
        id: SocketId,
        socket: Socket,
        owners: OwnerSet,
        changes: &mut Changes,
    ) {
        for &owner in &owners {
            self.processes.tell(owner, time, changes);
        }
        self.note_shared(id, &owners);
        let not_before = BootTime(0);
        let open = Open { id, socket, owners: owners.clone(), not_before };
        changes.push((time, Change::Open(open)));
        self.insert(id, socket, owners);
    }

    fn insert(&mut self, id: SocketId, socket: Socket, owners: OwnerSet) {
        owners.iter().for_each(|&owner| self.processes.holds(owner, 1));
        let former = self.sockets.insert(id, Holding::new(socket, owners));
        self.let_go(former);
    }

    fn remove(&mut self, id: SocketId) -> bool {
        let former = self.sockets.remove(&id);
        let was = former.is_some();
        self.let_go(former);
        was
    }

    fn let_go(&mut self, holding: Option<Holding>) {
        for owner in holding.into_iter().flat_map(|holding| holding.owners) {
            self.processes.holds(owner, -1);
        }
    }

    /// Takes in one record.
    pub(super) fn apply(&mut self, record: Record, ask: &mut dyn Inquiry, changes: &mut Changes) {
        let Record { time, what } = record;
        match what {
            What::Socket { kind, cookie, tuple, owner } => {
                self.opened(time, kind, cookie, &tuple, owner, ask, changes);
            }
            What::Acting { cookie, tuple, actor } => {
                self.acting(time, cookie, tuple, actor, ask, changes);
            }
            What::Closed { cookie } => self.closed(time, cookie, changes),
            What::Forked { child, parent } => self.processes.forked(child, parent, ask),
            What::Executed(execution) => {
                let key = execution.process.key;
                if self.processes.executed(*execution, ask) {
                    self.processes.tell(key, time, changes);
                }
            }
            What::Exited { process } => self.exited(time, process, changes),
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn opened(
        &mut self,
        time: BootTime,
        kind: Kind,
        cookie: u64,
        tuple: &Tuple,
        owner: Option<Actor>,
        ask: &mut dyn Inquiry,
        changes: &mut Changes,
    ) {
        let socket = socket(kind, tuple);
        self.wonder(tuple.namespace);
        let mut owners = OwnerSet::new();
        if tuple.kernel {
            owners.push(ProcessKey::KERNEL);
        } else if kind != Kind::Accepting
            && let Some(actor) = owner
        {
            let key = actor.key;
            self.processes.acts(actor, ask);
            self.processes.tell(key, time, changes);
            owners.push(key);
        }
        if let Some(&owner) = owners.first()
            && tuple.frames
        {
            self.frames.entry(owner).or_default().insert(cookie);
        }
        let id = if tuple.raw {
            self.conversation(time, cookie, &socket, changes)
        } else {
            SocketId(cookie)
        };
        match self.sockets.get_mut(&id) {
            // A look showed it already.
            Some(known) if known.socket == socket => {
                known.ended = None; // tried again, if it had
                for owner in owners {
                    self.hold(time, id, owner, changes);
                }
                return;
            }
            // A connection that failed and is tried again, a datagram socket with another peer.
            Some(known) => {
                if owners.is_empty() {
                    owners.clone_from(&known.owners);
                }
                changes.push((time, Change::Close(Close { id, last_seen: time })));
            }
            None => {}
        }
        let open = Open { id, socket, owners: owners.clone(), not_before: time };
        changes.push((time, Change::Open(open)));
        self.insert(id, socket, owners);
    }

    /// The identity of one conversation of a raw socket.
    fn conversation(
        &mut self,
        time: BootTime,
        cookie: u64,
        socket: &Socket,
        changes: &mut Changes,
    ) -> SocketId {
        let known = |id: &&SocketId| self.sockets.get(id).is_some_and(|h| h.socket == *socket);
        let conversations = self.conversations.entry(cookie).or_default();
        if let Some(&id) = conversations.iter().find(known) {
            return id;
        }
        self.next_conversation += 1;
        let id = SocketId(u64::MAX - self.next_conversation);
        conversations.push(id);
        if conversations.len() > MOST_CONVERSATIONS {
            let oldest = conversations.remove(0);
            self.remove(oldest);
            changes.push((time, Change::Close(Close { id: oldest, last_seen: time })));
        }
        id
    }

    fn acting(
        &mut self,
        time: BootTime,
        cookie: u64,
        tuple: Option<Tuple>,
        actor: Actor,
        ask: &mut dyn Inquiry,
        changes: &mut Changes,
    ) {
        let (id, key) = (SocketId(cookie), actor.key);
        let known = self.sockets.contains_key(&id);
        if !known && tuple.is_none() {
            return;
        }
        self.processes.acts(actor, ask);
        self.processes.tell(key, time, changes);
        if known {
            self.hold(time, id, key, changes);
        } else if let Some(tuple) = tuple {
            // Older than the programs, or its beginning was lost.
            self.wonder(tuple.namespace);
            let connected = tuple.remote.port() != 0;
            let kind = if connected { Kind::Associated } else { Kind::Bound };
            let socket = socket(kind, &tuple);
            let owners = OwnerSet::from([key]);
            let not_before = BootTime(0);
            let open = Open { id, socket, owners: owners.clone(), not_before };
            changes.push((time, Change::Open(open)));
            self.insert(id, socket, owners);
        }
    }

    /// A process turns out to hold a socket.
    fn hold(&mut self, time: BootTime, id: SocketId, owner: ProcessKey, changes: &mut Changes) {
        let Some(holding) = self.sockets.get_mut(&id) else { return };
        let Err(at) = holding.owners.binary_search(&owner) else { return };
        if holding.owners.len() >= MOST_OWNERS {
            return;
        }
        holding.owners.insert(at, owner);
        self.processes.holds(owner, 1);
        let owners = holding.owners.clone();
        self.note_shared(id, &owners);
        changes.push((time, Change::Owners(Owners { id, owners, not_before: time })));
        if let Some(ended) = self.sockets.get(&id).and_then(|holding| holding.ended) {
            self.remove(id);
            changes.push((ended, Change::Close(Close { id, last_seen: ended })));
        }
    }

    /// Tells what was held back for too long.
    pub(super) fn settle(&mut self, now: BootTime, changes: &mut Changes) {
        while let Some(&(due, id)) = self.ending.front()
            && due <= now
        {
            self.ending.pop_front();
            let ended = self.sockets.get(&id).and_then(|holding| holding.ended);
            if let Some(ended) = ended {
                self.remove(id);
                changes.push((ended, Change::Close(Close { id, last_seen: ended })));
            }
        }
    }

    fn closed(&mut self, time: BootTime, cookie: u64, changes: &mut Changes) {
        let id = SocketId(cookie);
        if let Some(holding) = self.sockets.get_mut(&id)
            && holding.owners.is_empty()
            && holding.socket.role() == Role::Connected
        {
            holding.ended = Some(time);
            self.ending.push_back((time.plus(AWAIT_HOLDER), id));
            return;
        }
        let conversations = self.conversations.remove(&cookie).unwrap_or_default();
        for id in std::iter::once(SocketId(cookie)).chain(conversations) {
            if self.remove(id) {
                changes.push((time, Change::Close(Close { id, last_seen: time })));
            }
        }
    }

    /// A process that ended no longer holds what others hold too. What only it held stays its own:
    /// the kernel goes on sending for it.
    fn exited(&mut self, time: BootTime, process: ProcessKey, changes: &mut Changes) {
        self.processes.exited(process, time);
        for cookie in self.frames.remove(&process).unwrap_or_default() {
            self.closed(time, cookie, changes);
        }
        let shared = self.shared.remove(&process).unwrap_or_default();
        for id in shared.sockets {
            let Some(holding) = self.sockets.get_mut(&id) else { continue };
            if holding.owners.len() > 1
                && let Ok(at) = holding.owners.binary_search(&process)
            {
                holding.owners.remove(at);
                self.processes.holds(process, -1);
                let owners = holding.owners.clone();
                changes.push((time, Change::Owners(Owners { id, owners, not_before: time })));
            }
        }
    }

    fn note_shared(&mut self, id: SocketId, owners: &[ProcessKey]) {
        if owners.len() < 2 {
            return;
        }
        for &owner in owners {
            let shared = self.shared.entry(owner).or_default();
            if shared.sockets.last() == Some(&id) {
                continue;
            }
            shared.sockets.push(id);
            if shared.sockets.len() >= shared.look_at.max(SHARED) {
                shared.sockets.sort_unstable();
                shared.sockets.dedup();
                shared.sockets.retain(|id| self.sockets.contains_key(id));
                shared.look_at = 2 * shared.sockets.len();
            }
        }
    }
}

fn socket(kind: Kind, tuple: &Tuple) -> Socket {
    let &Tuple { namespace, protocol, local, remote, takes_both, .. } = tuple;
    match kind {
        Kind::Listening => Socket::listening(namespace, local, takes_both),
        Kind::Bound => Socket::bound(namespace, protocol, local, takes_both),
        _ => Socket::connected(namespace, protocol, local, remote),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ebpf::processes::tests::Nobody;
    use crate::ebpf::record::Comm;
    use procflow_binding::Process;
    use procflow_core::{Endpoint, Protocol};
    use std::net::Ipv4Addr;

    const HOME: NamespaceId = NamespaceId(1);

    fn end(port: u16) -> Endpoint {
        Endpoint::new(Ipv4Addr::new(10, 0, 0, 1), port)
    }

    fn tuple(protocol: Protocol, local: u16, remote: u16) -> Tuple {
        Tuple {
            namespace: HOME,
            protocol,
            local: end(local),
            remote: end(remote),
            takes_both: false,
            raw: false,
            frames: false,
            kernel: false,
        }
    }

    fn key(pid: u32) -> ProcessKey {
        ProcessKey { pid, start: BootTime(1) }
    }

    fn actor(pid: u32) -> Actor {
        Actor { key: key(pid), uid: 0, cgroup: 1, comm: Comm::from(&*format!("p{pid}")) }
    }

    /// What a run of records makes of sockets; facts of processes are left out.
    fn told(records: impl IntoIterator<Item = (u64, What)>) -> Vec<(u64, Change)> {
        let mut bindings = Bindings::default();
        bindings.namespaces([HOME].into_iter());
        let mut changes = Changes::new();
        let mut last = 0;
        for (time, what) in records {
            let record = Record { time: BootTime(time), what };
            bindings.apply(record, &mut Nobody, &mut changes);
            last = time;
        }
        bindings.settle(BootTime(last), &mut changes);
        assert!(!bindings.take_strange());
        let about_sockets =
            |change: &Change| !matches!(change, Change::Process(_) | Change::Details(_));
        let told = changes.into_iter().filter(|(_, change)| about_sockets(change));
        told.map(|(time, change)| (time.0, change)).collect()
    }

    fn opened(kind: Kind, cookie: u64, tuple: Tuple, owner: Option<u32>) -> What {
        What::Socket { kind, cookie, tuple, owner: owner.map(actor) }
    }

    fn acting(cookie: u64, pid: u32) -> What {
        What::Acting { cookie, tuple: None, actor: actor(pid) }
    }

    fn open(time: u64, id: u64, socket: Socket, owners: &[u32]) -> (u64, Change) {
        let owners = owners.iter().map(|&pid| key(pid)).collect();
        let open = Open { id: SocketId(id), socket, owners, not_before: BootTime(time) };
        (time, Change::Open(open))
    }

    fn owners(time: u64, id: u64, owners: &[u32]) -> (u64, Change) {
        let owners = owners.iter().map(|&pid| key(pid)).collect();
        (time, Change::Owners(Owners { id: SocketId(id), owners, not_before: BootTime(time) }))
    }

    fn close(time: u64, id: u64) -> (u64, Change) {
        (time, Change::Close(Close { id: SocketId(id), last_seen: BootTime(time) }))
    }

    #[test]
    fn a_connection_is_told_with_who_made_it_and_when() {
        let tcp = tuple(Protocol::TCP, 40_000, 80);
        let socket = Socket::connected(HOME, Protocol::TCP, end(40_000), end(80));
        let said = told([
            (10, opened(Kind::Connecting, 5, tcp, Some(7))),
            (12, What::Closed { cookie: 5 }),
            (13, What::Closed { cookie: 5 }),
        ]);
        assert_eq!(said, [open(10, 5, socket, &[7]), close(12, 5)]);
    }

    #[test]
    fn an_accepted_connection_belongs_to_whoever_uses_it_and_not_to_who_listened() {
        let tcp = tuple(Protocol::TCP, 80, 40_000);
        let socket = Socket::connected(HOME, Protocol::TCP, end(80), end(40_000));
        let said = told([
            (10, opened(Kind::Accepting, 5, tcp, Some(1))),
            (11, acting(5, 3)),
            (12, acting(5, 3)),
            (13, acting(5, 2)),
            (14, What::Closed { cookie: 5 }),
        ]);
        let expected =
            [open(10, 5, socket, &[]), owners(11, 5, &[3]), owners(13, 5, &[2, 3]), close(14, 5)];
        assert_eq!(said, expected);
    }

    #[test]
    fn a_connection_that_ends_before_it_is_used_waits_for_its_holder() {
        let tcp = tuple(Protocol::TCP, 80, 40_000);
        let socket = Socket::connected(HOME, Protocol::TCP, end(80), end(40_000));
        let begun = || (10, opened(Kind::Accepting, 5, tcp, Some(1)));
        let ended = || (12, What::Closed { cookie: 5 });
        // The holder closes it a moment later.
        let said = told([begun(), ended(), (15, acting(5, 3))]);
        assert_eq!(said, [open(10, 5, socket, &[]), owners(15, 5, &[3]), close(12, 5)]);
        // Nobody ever accepted it.
        let later = 12 + AWAIT_HOLDER;
        let said = told([begun(), ended(), (later, acting(6, 3))]);
        assert_eq!(said, [open(10, 5, socket, &[]), close(12, 5)]);
        // One that had an owner waits for nobody.
        let said = told([begun(), (11, acting(5, 3)), ended()]);
        assert_eq!(said[2], close(12, 5));
    }

    #[test]
    fn a_process_that_ends_leaves_what_others_hold_too() {
        let udp = tuple(Protocol::UDP, 53, 0);
        let socket = Socket::bound(HOME, Protocol::UDP, end(53), false);
        let said = told([
            (10, opened(Kind::Bound, 5, udp, Some(1))),
            (11, acting(5, 2)),
            (12, What::Exited { process: key(1) }),
            // The last one keeps it: the kernel may still send for it.
            (13, What::Exited { process: key(2) }),
        ]);
        let expected = [open(10, 5, socket, &[1]), owners(11, 5, &[1, 2]), owners(12, 5, &[2])];
        assert_eq!(said, expected);
    }

    #[test]
    fn a_socket_with_another_peer_is_another_socket() {
        let to = |remote| tuple(Protocol::UDP, 5_000, remote);
        let socket = |remote| Socket::connected(HOME, Protocol::UDP, end(5_000), end(remote));
        let said = told([
            (10, opened(Kind::Associated, 5, to(53), Some(1))),
            (20, opened(Kind::Associated, 5, to(123), Some(1))),
        ]);
        let expected =
            [open(10, 5, socket(53), &[1]), close(20, 5), open(20, 5, socket(123), &[1])];
        assert_eq!(said, expected);
    }

    #[test]
    fn a_raw_socket_has_a_conversation_with_each_it_sends_to() {
        let raw = |remote| Tuple { raw: true, ..tuple(Protocol::ICMP, 0, remote) };
        let socket = |remote| Socket::connected(HOME, Protocol::ICMP, end(0), end(remote));
        let said = told([
            (10, opened(Kind::Associated, 5, raw(1), Some(1))),
            (20, opened(Kind::Associated, 5, raw(2), Some(1))),
            (30, opened(Kind::Associated, 5, raw(1), Some(1))),
            (40, What::Closed { cookie: 5 }),
        ]);
        let (first, second) = (u64::MAX - 1, u64::MAX - 2);
        let expected = [
            open(10, first, socket(1), &[1]),
            open(20, second, socket(2), &[1]),
            close(40, first),
            close(40, second),
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn what_sends_frames_ends_with_its_process() {
        let frames = Tuple { raw: true, frames: true, ..tuple(Protocol::UDP, 68, 67) };
        let said = told([
            (10, opened(Kind::Associated, 5, frames, Some(1))),
            (20, What::Exited { process: key(1) }),
        ]);
        let socket = Socket::connected(HOME, Protocol::UDP, end(68), end(67));
        assert_eq!(said, [open(10, u64::MAX - 1, socket, &[1]), close(20, u64::MAX - 1)]);
    }

    #[test]
    fn a_raw_socket_that_talks_to_everybody_costs_a_bounded_amount() {
        let to = |at: u16| Tuple { raw: true, ..tuple(Protocol::ICMP, 0, at) };
        let records =
            (0..1000).map(|at| (u64::from(at), opened(Kind::Associated, 5, to(at), Some(1))));
        let said = told(records);
        let closed = said.iter().filter(|(_, change)| matches!(change, Change::Close(_))).count();
        assert_eq!(closed, 1000 - MOST_CONVERSATIONS);
    }

    #[test]
    fn the_kernels_own_socket_belongs_to_the_kernel() {
        let kernel = Tuple { kernel: true, ..tuple(Protocol::UDP, 4789, 0) };
        let said = told([(10, opened(Kind::Bound, 5, kernel, Some(9)))]);
        let [(_, Change::Open(open))] = &said[..] else { panic!("{said:?}") };
        assert_eq!(*open.owners, [ProcessKey::KERNEL]);
    }

    #[test]
    fn what_a_look_shows_is_merged_with_what_was_told() {
        let socket = Socket::bound(HOME, Protocol::UDP, end(53), false);
        let mut bindings = Bindings::default();
        let mut changes = Changes::new();
        let before = opened(Kind::Bound, 5, tuple(Protocol::UDP, 53, 0), Some(1));
        let gone = opened(Kind::Bound, 6, tuple(Protocol::UDP, 54, 0), Some(1));
        for what in [before.clone(), gone] {
            bindings.apply(Record { time: BootTime(10), what }, &mut Nobody, &mut changes);
        }
        assert!(bindings.take_strange() && !bindings.take_strange());
        changes.clear();
        let held = Held { socket, owners: [key(2)].into() };
        let facts = |pid| (key(pid), process(pid));
        let table = Table {
            time: BootTime(20),
            sockets: [(SocketId(5), held)].into(),
            processes: [facts(2)].into(),
            ..Table::default()
        };
        let missed = [].into();
        let seen =
            Seen { table: &table, missed: &missed, watched: BootTime(15), meanwhile: Vec::new() };
        bindings.list(seen, &mut Nobody, &mut changes);
        let opens: Vec<&Open> = changes
            .iter()
            .filter_map(
                |(_, change)| if let Change::Open(open) = change { Some(open) } else { None },
            )
            .collect();
        assert_eq!(opens.len(), 1);
        assert_eq!((&opens[0].owners[..], opens[0].not_before), (&[key(2)][..], BootTime(0)));
        assert_eq!(changes.last(), Some(&(BootTime(20), Change::Listed)));
        // Told again by the kernel, it is nothing new; and what was forgotten cannot close.
        changes.clear();
        let before = opened(Kind::Bound, 5, tuple(Protocol::UDP, 53, 0), Some(2));
        bindings.apply(Record { time: BootTime(21), what: before }, &mut Nobody, &mut changes);
        let what = What::Closed { cookie: 6 };
        bindings.apply(Record { time: BootTime(22), what }, &mut Nobody, &mut changes);
        assert_eq!(changes, []);
    }

    #[test]
    fn of_a_namespace_that_was_missed_everything_is_told_again() {
        let mut bindings = Bindings::default();
        let mut changes = Changes::new();
        let elsewhere = Tuple { namespace: NamespaceId(2), ..tuple(Protocol::UDP, 53, 0) };
        for (at, what) in [
            (1, opened(Kind::Bound, 5, tuple(Protocol::UDP, 53, 0), Some(1))),
            (2, opened(Kind::Bound, 6, elsewhere, Some(2))),
            (3, opened(Kind::Associated, 7, Tuple { raw: true, ..elsewhere }, Some(3))),
        ] {
            bindings.apply(Record { time: BootTime(at), what }, &mut Nobody, &mut changes);
        }
        changes.clear();
        let table = Table { time: BootTime(20), ..Table::default() };
        let missed = [NamespaceId(2)].into();
        let seen =
            Seen { table: &table, missed: &missed, watched: BootTime(15), meanwhile: Vec::new() };
        bindings.list(seen, &mut Nobody, &mut changes);
        // The others are told as gone, last seen when events began to be lost.
        let mut closed = Vec::new();
        changes.retain(|(_, change)| match change {
            Change::Close(close) => {
                closed.push((close.id.0, close.last_seen.0));
                false
            }
            change => !matches!(change, Change::Process(_)),
        });
        closed.sort_unstable();
        assert_eq!(closed, [(5, 15), (u64::MAX - 1, 15)]);
        let [(_, Change::Open(stays)), (_, Change::Listed)] = &changes[..] else {
            panic!("{changes:?}");
        };
        assert_eq!((stays.id, &stays.owners[..]), (SocketId(6), &[key(2)][..]));
    }

    #[test]
    fn what_a_look_just_missed_ends_when_it_is_told() {
        let mut bindings = Bindings::default();
        let mut changes = Changes::new();
        for cookie in [5, 6, 7] {
            let local = tuple(Protocol::TCP, 80, 1000 + u16::try_from(cookie).unwrap());
            let what = opened(Kind::Accepting, cookie, local, None);
            bindings.apply(Record { time: BootTime(10), what }, &mut Nobody, &mut changes);
        }
        changes.clear();
        // Two were used and closed before the look, which is told after it; the end of one got lost.
        let used = |cookie: u64| {
            let local = tuple(Protocol::TCP, 80, 1000 + u16::try_from(cookie).unwrap());
            What::Acting { cookie, tuple: Some(local), actor: actor(1) }
        };
        let meanwhile = [(12, used(5)), (13, used(6)), (14, What::Closed { cookie: 5 })];
        let meanwhile = meanwhile.map(|(at, what)| Record { time: BootTime(at), what }).into();
        let table = Table { time: BootTime(20), ..Table::default() };
        let seen = Seen { table: &table, missed: &[].into(), watched: BootTime(11), meanwhile };
        bindings.list(seen, &mut Nobody, &mut changes);
        let mut said = Vec::new();
        for (time, change) in changes {
            match change {
                Change::Open(open) => said.push((time.0, open.id.0, "there")),
                Change::Owners(owners) => said.push((time.0, owners.id.0, "used")),
                Change::Close(close) => said.push((close.last_seen.0, close.id.0, "gone")),
                _ => {}
            }
        }
        said.sort_unstable();
        let gone = [(11, 6, "gone"), (11, 7, "gone")];
        let followed = [(12, 5, "used"), (14, 5, "gone"), (20, 5, "there")];
        assert_eq!(said, [gone.as_slice(), &followed].concat());
    }

    fn process(pid: u32) -> Process {
        Process {
            key: key(pid),
            comm: format!("p{pid}").into(),
            executable: None,
            uid: Some(0),
            user: None,
            container: None,
            unit: None,
        }
    }
}
