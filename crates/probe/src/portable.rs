//! The portable source: the socket list of the `netstat2` crate, for systems without sock_diag.
//!
//! It sees less: the own network namespace only, no peers of UDP sockets, and no socket cookies.
//! A socket is known by its tuple, so that one that takes over the tuple of another between two
//! looks is taken for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use netstat2::{
    AddressFamilyFlags, ProtocolFlags, ProtocolSocketInfo, SocketInfo, TcpState, get_sockets_info,
};
use procflow_binding::{
    Held, Namespace, NamespaceId, Process, ProcessKey, Socket, SocketId, Table,
};
use procflow_core::{Endpoint, Protocol};

use crate::account::Look;
use crate::polled::Taker;
use crate::source::Shortfall;
use crate::{ProbeError, address, clock};

/// Takes looks with netstat2.
pub(crate) struct Portable {
    /// The numbers of the sockets that were there at the last look.
    numbers: BTreeMap<Socket, SocketId>,
    next: u64,
    people: People,
    shortfalls: Vec<Shortfall>,
}

impl Portable {
    /// Makes sure that netstat2 works. `because`: why not a better source.
    pub(crate) fn open(because: Vec<Shortfall>, period: Duration) -> Result<Self, ProbeError> {
        list()?;
        let mut shortfalls = because;
        shortfalls.push(Shortfall::Polled { period });
        if !cfg!(target_os = "linux") {
            shortfalls.push(Shortfall::ProcessDetails);
        }
        // A number is not given again by the next start: it begins where the clock is.
        let next = clock::now()?.0;
        Ok(Self { numbers: BTreeMap::new(), next, people: People::default(), shortfalls })
    }

    /// Keeps the numbers of sockets that stayed, gives new ones to those that came.
    fn number(&mut self, sockets: BTreeMap<Socket, Held>) -> BTreeMap<SocketId, Held> {
        let before = std::mem::take(&mut self.numbers);
        for &socket in sockets.keys() {
            let id = before.get(&socket).copied().unwrap_or_else(|| {
                self.next += 1;
                SocketId(self.next - 1)
            });
            self.numbers.insert(socket, id);
        }
        sockets
            .into_values()
            .filter_map(|held| Some((*self.numbers.get(&held.socket)?, held)))
            .collect()
    }
}

impl Taker for Portable {
    fn name(&self) -> &'static str {
        "netstat2"
    }

    fn take(&mut self) -> Result<Look, ProbeError> {
        let namespace = own_namespace()?;
        let mut table = Table { time: clock::now()?, ..Table::default() };
        table.addresses.extend(address::addresses(namespace.id)?);
        let listed = list()?;
        let tuples = tuples(&listed, namespace.id);
        let mut keys: BTreeMap<u32, Option<ProcessKey>> = BTreeMap::new();
        let mut sockets: BTreeMap<Socket, Held> = BTreeMap::new();
        for (socket, pids) in tuples {
            // Several sockets may share a tuple (SO_REUSEPORT); as one, they have all owners.
            let held =
                sockets.entry(socket).or_insert_with(|| Held { socket, owners: BTreeSet::new() });
            for &pid in pids {
                let known = keys.entry(pid).or_insert_with(|| {
                    let process = self.people.facts(pid, &table)?;
                    let key = process.key;
                    table.processes.insert(key, process);
                    Some(key)
                });
                held.owners.extend(*known);
            }
        }
        self.people.retain(&table);
        table.sockets = self.number(sockets);
        table.namespaces.insert(namespace.id, namespace);
        Ok(Look { table, ..Look::default() })
    }

    fn shortfalls(&self) -> &[Shortfall] {
        &self.shortfalls
    }
}

fn list() -> Result<Vec<SocketInfo>, ProbeError> {
    let families = AddressFamilyFlags::IPV4 | AddressFamilyFlags::IPV6;
    let protocols = ProtocolFlags::TCP | ProtocolFlags::UDP;
    Ok(get_sockets_info(families, protocols)?)
}

/// What netstat2 lists as sockets, with their pids.
fn tuples(listed: &[SocketInfo], namespace: NamespaceId) -> Vec<(Socket, &[u32])> {
    // Whether a socket bound to `::` takes IPv4 is not told. It does unless its program said
    // otherwise (RFC 3493 section 5.3), and it cannot where the IPv4 port is another socket's.
    let taken: BTreeSet<(Protocol, u16)> = listed
        .iter()
        .map(endpoints)
        .filter(|(_, local, remote)| {
            remote.is_none() && local.is_wildcard() && local.address().is_ipv4()
        })
        .map(|(protocol, local, _)| (protocol, local.port()))
        .collect();
    let socket = |info: &SocketInfo| {
        let (protocol, local, remote) = endpoints(info);
        let dual_stack = !taken.contains(&(protocol, local.port()));
        match &info.protocol_socket_info {
            ProtocolSocketInfo::Udp(_) => {
                Some(Socket::bound(namespace, protocol, local, dual_stack))
            }
            ProtocolSocketInfo::Tcp(tcp) => match tcp.state {
                TcpState::Listen => Some(Socket::listening(namespace, local, dual_stack)),
                // The listener answers for handshakes, and the rest cannot send.
                TcpState::SynReceived
                | TcpState::Closed
                | TcpState::DeleteTcb
                | TcpState::Unknown => None,
                _ => Some(Socket::connected(namespace, protocol, local, remote?)),
            },
        }
    };
    listed
        .iter()
        .filter_map(|info| Some((socket(info)?, info.associated_pids.as_slice())))
        .collect()
}

fn endpoints(info: &SocketInfo) -> (Protocol, Endpoint, Option<Endpoint>) {
    let local = Endpoint::new(info.local_addr(), info.local_port());
    match &info.protocol_socket_info {
        ProtocolSocketInfo::Udp(_) => (Protocol::UDP, local, None),
        ProtocolSocketInfo::Tcp(tcp) => {
            let remote = Endpoint::new(tcp.remote_addr, tcp.remote_port);
            (Protocol::TCP, local, (remote.port() != 0).then_some(remote))
        }
    }
}

/// The namespace we are in: the same identity that the sock_diag source gives it.
#[cfg(target_os = "linux")]
fn own_namespace() -> Result<Namespace, ProbeError> {
    use std::os::fd::AsFd;

    let home = crate::namespace::Home::here()?;
    // Any socket knows its namespace; this kind is in no list that we make.
    let socket = std::os::unix::net::UnixDatagram::unbound()
        .map_err(ProbeError::call("open a socket to ask its namespace"))?;
    let cookie = crate::netns_cookie::netns_cookie(socket.as_fd());
    Ok(Namespace {
        id: NamespaceId(cookie.unwrap_or(home.inode)),
        inode: home.inode,
        name: None,
        initial: true,
    })
}

/// Systems without network namespaces have one network, number 0.
#[cfg(not(target_os = "linux"))]
fn own_namespace() -> Result<Namespace, ProbeError> {
    Ok(Namespace { id: NamespaceId(0), inode: 0, name: None, initial: true })
}

/// The processes behind the pids that netstat2 tells.
#[cfg(target_os = "linux")]
#[derive(Default)]
struct People {
    facts: crate::process::Facts,
}

#[cfg(target_os = "linux")]
impl People {
    /// A process that exits before this is read has no facts, and its socket no owner. (A pid
    /// that went to another process in between names the wrong one: netstat2 tells no start
    /// times. The sock_diag source does not have this fault.)
    fn facts(&mut self, pid: u32, table: &Table) -> Option<Process> {
        let birth = crate::process::birth(pid)?;
        let user = crate::process::effective_user(pid)?;
        Some(self.facts.of(&birth, user, table.time).clone())
    }

    fn retain(&mut self, table: &Table) {
        self.facts.retain(|key| table.processes.contains_key(&key));
    }
}

/// The processes behind the pids that netstat2 tells: nothing but the pid is known here, so that
/// a process begins when its pid is first told.
#[cfg(not(target_os = "linux"))]
#[derive(Default)]
struct People {
    since: BTreeMap<u32, procflow_binding::BootTime>,
}

#[cfg(not(target_os = "linux"))]
impl People {
    fn facts(&mut self, pid: u32, table: &Table) -> Option<Process> {
        let start = *self.since.entry(pid).or_insert(table.time);
        Some(Process {
            key: ProcessKey { pid, start },
            comm: Default::default(),
            executable: None,
            uid: None,
            user: None,
            container: None,
            unit: None,
        })
    }

    fn retain(&mut self, table: &Table) {
        self.since
            .retain(|&pid, &mut start| table.processes.contains_key(&ProcessKey { pid, start }));
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use netstat2::{TcpSocketInfo, UdpSocketInfo};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    const HERE: NamespaceId = NamespaceId(1);

    fn info(socket: ProtocolSocketInfo) -> SocketInfo {
        SocketInfo { protocol_socket_info: socket, associated_pids: vec![7], inode: 0, uid: 0 }
    }

    fn udp(address: impl Into<IpAddr>) -> SocketInfo {
        info(ProtocolSocketInfo::Udp(UdpSocketInfo { local_addr: address.into(), local_port: 53 }))
    }

    fn tcp(state: TcpState) -> SocketInfo {
        info(ProtocolSocketInfo::Tcp(TcpSocketInfo {
            local_addr: Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(),
            local_port: 80,
            remote_addr: Ipv4Addr::LOCALHOST.into(),
            remote_port: 4000,
            state,
        }))
    }

    #[test]
    fn a_v6_wildcard_takes_v4_unless_another_has_it() {
        let both = |listed: &[SocketInfo]| tuples(listed, HERE)[0].0.is_dual_stack();
        assert!(both(&[udp(Ipv6Addr::UNSPECIFIED)]));
        assert!(both(&[udp(Ipv6Addr::UNSPECIFIED), udp(Ipv4Addr::LOCALHOST)]));
        assert!(!both(&[udp(Ipv6Addr::UNSPECIFIED), udp(Ipv4Addr::UNSPECIFIED)]));
    }

    #[test]
    fn a_connection_is_listed_from_its_first_to_its_last_state() {
        let listed = [
            tcp(TcpState::SynSent),
            tcp(TcpState::SynReceived),
            tcp(TcpState::TimeWait),
            tcp(TcpState::Closed),
        ];
        let tuples = tuples(&listed, HERE);
        assert_eq!(tuples.len(), 2);
        assert_eq!(tuples[0].0.local(), Endpoint::new(Ipv4Addr::LOCALHOST, 80));
        assert_eq!(tuples[0].1, [7]);
    }

    #[test]
    fn a_socket_keeps_its_number_while_it_is_there() {
        let mut portable = Portable::open(vec![Shortfall::Netstat], Duration::ZERO).unwrap();
        let socket =
            |port| Socket::listening(HERE, Endpoint::new(Ipv4Addr::LOCALHOST, port), false);
        let mut ids = |ports: &[u16]| -> Vec<u64> {
            let held = |&port: &u16| {
                let socket = socket(port);
                let owners = BTreeSet::new();
                (socket, Held { socket, owners })
            };
            let numbered = portable.number(ports.iter().map(held).collect());
            numbered.keys().map(|id| id.0).collect()
        };
        let first = ids(&[80])[0];
        assert_eq!(ids(&[80, 443]), [first, first + 1]);
        assert_eq!(ids(&[443]), [first + 1]);
        assert_eq!(ids(&[80, 443]), [first + 1, first + 2], "it is another one now");
    }
}
