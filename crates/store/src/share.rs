//! A share is the part of the history that one user is charged with.
//!
//! The history is bounded, and any local user can open and close sockets as fast as the machine
//! allows. So that nobody can flush what is known of others, every event is charged to a [`Class`],
//! and when room is needed the class that takes most of it gives.

use foldhash::{HashMap, HashSet};
use procflow_binding::{Change, Event, NamespaceId, OwnerSet, ProcessKey, SocketId};

/// Whose event it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The host's own: its clock, its addresses, how well it was watched, the kernel's sockets.
    Host,
    /// Nobody's that is known: sockets whose holder was not seen, namespaces of containers,
    /// translations. Apart from the host's own, because users can cause them.
    Nobody,
    /// A user with a name on the host.
    User(u32),
    /// Users without one: they come from ranges of 65,536 that a single user was given
    /// (subuid(5)), or from containers. All of one such block count as one, or a user could be
    /// 65,536 of them and each of these look modest.
    Unnamed(u16),
}

impl Class {
    /// As the database has it.
    pub(crate) fn number(self) -> i64 {
        match self {
            Self::Host => -1,
            Self::Nobody => -2,
            Self::User(uid) => i64::from(uid),
            Self::Unnamed(block) => i64::from(block) + (1 << 32),
        }
    }
}

/// How many processes without sockets are remembered before they are looked for.
const STRANGERS: usize = 4096;

/// Charges events to classes. A socket belongs to the class of its first owner, from its opening to
/// its end, whoever gets hold of it later: so every class can be read on its own.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    initial: Option<NamespaceId>,
    processes: HashMap<ProcessKey, Class>,
    sockets: HashMap<SocketId, (Class, OwnerSet)>,
}

impl Shares {
    /// Whose the next event is.
    pub(crate) fn class(&mut self, event: &Event) -> Class {
        match &event.change {
            Change::Watch(_) | Change::Gap(_) | Change::Clock(_) | Change::Listed => Class::Host,
            Change::Namespace(namespace) => {
                if namespace.initial {
                    self.initial = Some(namespace.id);
                }
                self.place(namespace.id)
            }
            Change::NamespaceGone(id) => self.place(*id),
            Change::Address(address) | Change::AddressGone(address) => {
                self.place(address.namespace)
            }
            Change::Process(process) => {
                let class = match (process.uid, &process.user) {
                    (None, _) => Class::Nobody,
                    (Some(uid), Some(_)) => Class::User(uid),
                    (Some(uid), None) => Class::Unnamed((uid >> 16) as u16),
                };
                // The latest counts: a server becomes the user whom it lets in.
                self.processes.insert(process.key, class);
                class
            }
            Change::Details(details) => {
                self.processes.get(&details.process).copied().unwrap_or(Class::Nobody)
            }
            Change::Open(open) => {
                let class = self.holder(&open.owners, open.socket.namespace());
                self.sockets.insert(open.id, (class, open.owners.clone()));
                self.forget_strangers();
                class
            }
            Change::Owners(change) => {
                let Some(known) = self.sockets.get_mut(&change.id) else { return Class::Nobody };
                known.1.clone_from(&change.owners);
                known.0
            }
            Change::Close(close) => {
                self.sockets.remove(&close.id).map_or(Class::Nobody, |(class, _)| class)
            }
            Change::Translation(_) | Change::TranslationGone(_) => Class::Nobody,
        }
    }

    fn place(&self, namespace: NamespaceId) -> Class {
        if self.initial == Some(namespace) { Class::Host } else { Class::Nobody }
    }

    fn holder(&self, owners: &[ProcessKey], namespace: NamespaceId) -> Class {
        match owners.first() {
            None => Class::Nobody,
            // Users can have the kernel make sockets in namespaces of their own.
            Some(&ProcessKey::KERNEL) => self.place(namespace),
            Some(first) => self.processes.get(first).copied().unwrap_or(Class::Nobody),
        }
    }

    /// The processes that hold a socket now.
    pub(crate) fn holders(&self) -> HashSet<ProcessKey> {
        self.sockets.values().flat_map(|(_, owners)| owners.iter()).copied().collect()
    }

    /// A source tells the facts of a process anew when it comes to hold a socket again.
    fn forget_strangers(&mut self) {
        if self.processes.len() > STRANGERS + 4 * self.sockets.len() {
            let holders = self.holders();
            self.processes.retain(|key, _| holders.contains(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use procflow_binding::{Address, BootTime, Close, Namespace, Open, Owners, Process, Socket};
    use procflow_core::Endpoint;

    fn class(shares: &mut Shares, change: Change) -> Class {
        shares.class(&Event { sequence: 1, time: BootTime(1), change })
    }

    fn process(pid: u32, uid: Option<u32>, user: Option<&str>) -> Change {
        let (key, comm) = (ProcessKey { pid, start: BootTime(1) }, "x".into());
        let user = user.map(Into::into);
        let (executable, container, unit) = (None, None, None);
        Change::Process(Process { key, comm, executable, uid, user, container, unit })
    }

    fn open(id: u64, pids: &[u32]) -> Change {
        let socket = Socket::listening(NamespaceId(1), Endpoint::new([0; 4], 80), false);
        let owners = pids.iter().map(|&pid| ProcessKey { pid, start: BootTime(1) }).collect();
        Change::Open(Open { id: SocketId(id), socket, owners, not_before: BootTime(0) })
    }

    #[test]
    fn a_socket_stays_with_the_class_of_its_first_owner() {
        let mut shares = Shares::default();
        assert_eq!(class(&mut shares, process(5, Some(1000), Some("a"))), Class::User(1000));
        assert_eq!(class(&mut shares, process(6, Some(0), Some("root"))), Class::User(0));
        assert_eq!(class(&mut shares, open(1, &[5, 6])), Class::User(1000));
        let (id, not_before) = (SocketId(1), BootTime(1));
        let owners = [ProcessKey { pid: 6, start: BootTime(1) }].into();
        let owners = Change::Owners(Owners { id, owners, not_before });
        assert_eq!(class(&mut shares, owners), Class::User(1000));
        let close = Change::Close(Close { id, last_seen: BootTime(1) });
        assert_eq!(class(&mut shares, close), Class::User(1000));
        assert_eq!(class(&mut shares, open(2, &[])), Class::Nobody);
        // The kernel's own sockets are the host's in its own namespace; users can make it make others.
        let kernel = ProcessKey::KERNEL;
        assert_eq!(shares.holder(&[kernel], NamespaceId(1)), Class::Nobody);
        shares.initial = Some(NamespaceId(1));
        assert_eq!(shares.holder(&[kernel], NamespaceId(1)), Class::Host);
    }

    #[test]
    fn a_range_of_subordinate_users_is_one_class() {
        let mut shares = Shares::default();
        let classes = [165_536, 170_000, 196_607]
            .map(|uid| class(&mut shares, process(uid, Some(uid), None)));
        assert_eq!(classes, [Class::Unnamed(2); 3]);
        assert_eq!(class(&mut shares, process(9, None, None)), Class::Nobody);
    }

    #[test]
    fn a_namespace_that_a_user_made_is_not_the_hosts() {
        let mut shares = Shares::default();
        let namespace = |id, initial| {
            Change::Namespace(Namespace { id: NamespaceId(id), inode: id, name: None, initial })
        };
        let address = |id| {
            let address = [127, 0, 0, 1].into();
            Change::Address(Address { namespace: NamespaceId(id), address, prefix: 8 })
        };
        assert_eq!(class(&mut shares, namespace(1, true)), Class::Host);
        assert_eq!(class(&mut shares, namespace(2, false)), Class::Nobody);
        assert_eq!(class(&mut shares, address(1)), Class::Host);
        assert_eq!(class(&mut shares, address(2)), Class::Nobody);
        assert_eq!(class(&mut shares, Change::NamespaceGone(NamespaceId(2))), Class::Nobody);
    }

    #[test]
    fn processes_that_hold_nothing_are_forgotten() {
        let mut shares = Shares::default();
        class(&mut shares, process(1, Some(7), Some("a")));
        class(&mut shares, open(1, &[1]));
        (2..10_000).for_each(|pid| {
            class(&mut shares, process(pid, Some(7), Some("a")));
        });
        class(&mut shares, open(2, &[1]));
        assert_eq!(shares.processes.len(), 1);
    }
}
