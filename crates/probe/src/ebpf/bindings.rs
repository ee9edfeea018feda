//! Sockets and who holds them, followed record by record: what goes in are records of the programs and
//! tables from looks, what comes out are dated changes. No I/O but what [`Inquiry`] is asked.
//!
//! **Who holds a socket** is whoever made or connected it, and whoever used it since. A connection that
//! was accepted belongs to nobody until somebody uses it: that its listener was made by one process says
//! nothing about which one accepted it.

use std::collections::{BTreeSet, HashMap, HashSet};

use procflow_binding::{
    BootTime, Change, Close, Held, MOST_OWNERS, NamespaceId, Open, Owners, ProcessKey, Socket,
    SocketId, Table,
};

use super::processes::{Inquiry, Processes};
use super::record::{Actor, Kind, Record, Tuple, What};

/// How many conversations of one raw socket are followed. The oldest makes room.
const MOST_CONVERSATIONS: usize = 256;

/// Sockets that several processes hold are looked through for closed ones when a process is noted
/// with this many, and with each doubling after.
const SHARED: usize = 64;

/// Dated changes, in the order in which they can be applied.
pub(super) type Changes = Vec<(BootTime, Change)>;

/// Everything that is open.
#[derive(Default)]
pub(super) struct Bindings {
    pub(super) processes: Processes,
    sockets: HashMap<SocketId, Holding>,
    /// Of raw sockets, by their cookie.
    conversations: HashMap<u64, Vec<SocketId>>,
    /// Which sockets a process shares with others, so that it can be taken off them when it ends.
    shared: HashMap<ProcessKey, Shared>,
    namespaces: HashSet<NamespaceId>,
    /// A namespace was named that no look has shown.
    strange: bool,
    /// Identities of raw conversations, given from the top: cookies count from 1.
    next_conversation: u64,
}

#[derive(Clone)]
struct Holding {
    socket: Socket,
    /// Ascending, without repeats.
    owners: Vec<ProcessKey>,
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
    }

    /// Everything that a look showed is told, and what it did not show is forgotten. Ends with
    /// [`Change::Listed`].
    pub(super) fn list(&mut self, table: &Table, ask: &mut dyn Inquiry, changes: &mut Changes) {
        let time = table.time;
        for process in table.processes.values() {
            self.processes.learn(process.clone(), ask);
        }
        let before = std::mem::take(&mut self.sockets);
        self.conversations.clear();
        self.shared.clear();
        for (&id, Held { socket, owners }) in &table.sockets {
            let mut owners: BTreeSet<ProcessKey> = owners.clone();
            if let Some(was) = before.get(&id).filter(|was| was.socket == *socket) {
                owners.extend(&was.owners);
            }
            let owners: Vec<ProcessKey> = owners.into_iter().take(MOST_OWNERS).collect();
            for &owner in &owners {
                self.processes.tell(owner, time, changes);
            }
            self.note_shared(id, &owners);
            let not_before = BootTime(0);
            let open = Open { id, socket: *socket, owners: owners.clone(), not_before };
            changes.push((time, Change::Open(open)));
            self.sockets.insert(id, Holding { socket: *socket, owners });
        }
        changes.push((time, Change::Listed));
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
            What::Executed(execution) => self.processes.executed(*execution, ask),
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
        self.strange |= !self.namespaces.contains(&tuple.namespace);
        let mut owners = Vec::new();
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
        let id = if tuple.raw {
            let Some(id) = self.conversation(time, cookie, &socket, changes) else { return };
            id
        } else {
            SocketId(cookie)
        };
        match self.sockets.get_mut(&id) {
            // A look showed it already.
            Some(known) if known.socket == socket => {
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
        self.sockets.insert(id, Holding { socket, owners });
    }

    /// The identity of one conversation of a raw socket; `None` when it is known already.
    fn conversation(
        &mut self,
        time: BootTime,
        cookie: u64,
        socket: &Socket,
        changes: &mut Changes,
    ) -> Option<SocketId> {
        let conversations = self.conversations.entry(cookie).or_default();
        let known = |id: &&SocketId| self.sockets.get(id).is_some_and(|h| h.socket == *socket);
        if conversations.iter().any(|id| known(&id)) {
            return None;
        }
        if conversations.len() >= MOST_CONVERSATIONS {
            let id = conversations.remove(0);
            self.sockets.remove(&id);
            changes.push((time, Change::Close(Close { id, last_seen: time })));
        }
        self.next_conversation += 1;
        let id = SocketId(u64::MAX - self.next_conversation);
        conversations.push(id);
        Some(id)
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
            self.strange |= !self.namespaces.contains(&tuple.namespace);
            let connected = tuple.remote.port() != 0;
            let kind = if connected { Kind::Associated } else { Kind::Bound };
            let socket = socket(kind, &tuple);
            let owners = vec![key];
            let not_before = BootTime(0);
            let open = Open { id, socket, owners: owners.clone(), not_before };
            changes.push((time, Change::Open(open)));
            self.sockets.insert(id, Holding { socket, owners });
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
        let owners = holding.owners.clone();
        self.note_shared(id, &owners);
        changes.push((time, Change::Owners(Owners { id, owners, not_before: time })));
    }

    fn closed(&mut self, time: BootTime, cookie: u64, changes: &mut Changes) {
        let conversations = self.conversations.remove(&cookie).unwrap_or_default();
        for id in std::iter::once(SocketId(cookie)).chain(conversations) {
            if self.sockets.remove(&id).is_some() {
                changes.push((time, Change::Close(Close { id, last_seen: time })));
            }
        }
    }

    /// A process that ended no longer holds what others hold too. What only it held stays its own:
    /// the kernel goes on sending for it.
    fn exited(&mut self, time: BootTime, process: ProcessKey, changes: &mut Changes) {
        self.processes.exited(process, time);
        let shared = self.shared.remove(&process).unwrap_or_default();
        for id in shared.sockets {
            let Some(holding) = self.sockets.get_mut(&id) else { continue };
            if holding.owners.len() > 1
                && let Ok(at) = holding.owners.binary_search(&process)
            {
                holding.owners.remove(at);
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
