//! The difference of two socket tables, as changes: for kernels that can only be polled.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::BootTime;
use crate::event::{Address, Change, Close, MOST_OWNERS, Open, Owners};
use crate::process::{Process, ProcessKey};
use crate::socket::{Namespace, NamespaceId, Socket, SocketId};

/// Everything that one look at the kernel shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// When the look was taken (when its dump began).
    pub time: BootTime,
    /// Network namespaces that could be looked into.
    pub namespaces: BTreeMap<NamespaceId, Namespace>,
    /// Their interface addresses.
    pub addresses: BTreeSet<Address>,
    /// Their sockets.
    pub sockets: BTreeMap<SocketId, Held>,
    /// Facts of (at least) the processes that hold sockets.
    pub processes: BTreeMap<ProcessKey, Process>,
}

/// A socket and who holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The socket.
    pub socket: Socket,
    /// Its owners; empty when none could be seen.
    pub owners: BTreeSet<ProcessKey>,
}

/// What changed from `before` to `now`, in an order in which it can be applied: namespaces and
/// addresses first, a process before the socket that names it, closes before opens (a tuple may
/// pass from one socket to the next).
///
/// A socket without visible owners keeps the ones it had: after close(2) the kernel goes on
/// sending for the process that closed it. To make that hold from look to look, those owners are
/// written into `now`.
#[must_use]
pub fn diff(before: &Table, now: &mut Table) -> Vec<Change> {
    let mut changes = Vec::new();
    for (id, namespace) in &now.namespaces {
        if before.namespaces.get(id) != Some(namespace) {
            changes.push(Change::Namespace(namespace.clone()));
        }
    }
    changes.extend(before.addresses.difference(&now.addresses).copied().map(Change::AddressGone));
    changes.extend(now.addresses.difference(&before.addresses).copied().map(Change::Address));

    for (&id, was) in &before.sockets {
        match now.sockets.get_mut(&id) {
            Some(is) if is.socket == was.socket => {
                if is.owners.is_empty() {
                    is.owners.clone_from(&was.owners);
                    carry_facts(before, &mut now.processes, &was.owners);
                }
            }
            _ => changes.push(Change::Close(Close { id, last_seen: before.time })),
        }
    }
    for (key, process) in &now.processes {
        if before.processes.get(key) != Some(process) {
            changes.push(Change::Process(process.clone()));
        }
    }
    for (&id, is) in &now.sockets {
        let owners = || is.owners.iter().copied().take(MOST_OWNERS).collect();
        // Of a namespace that was not looked into before, nothing is known from before.
        let looked = before.namespaces.contains_key(&is.socket.namespace());
        let not_before = if looked { before.time } else { BootTime(0) };
        match before.sockets.get(&id) {
            Some(was) if was.socket == is.socket => {
                if was.owners != is.owners {
                    changes.push(Change::Owners(Owners { id, owners: owners(), not_before }));
                }
            }
            _ => {
                let socket = is.socket;
                changes.push(Change::Open(Open { id, socket, owners: owners(), not_before }));
            }
        }
    }
    for &id in before.namespaces.keys() {
        if !now.namespaces.contains_key(&id) {
            changes.push(Change::NamespaceGone(id));
        }
    }
    changes
}

/// Keeps the facts of owners that have exited while their socket lingers.
fn carry_facts(
    before: &Table,
    processes: &mut BTreeMap<ProcessKey, Process>,
    owners: &BTreeSet<ProcessKey>,
) {
    for owner in owners {
        if let Some(facts) = before.processes.get(owner) {
            processes.entry(*owner).or_insert_with(|| facts.clone());
        }
    }
}
