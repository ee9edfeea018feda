//! Reports that a socket ended: sock_diag(7) has multicast groups in which the kernel tells of every TCP
//! and UDP socket that it destroys, with its tuple and its cookie (`SKNLGRP_INET_TCP_DESTROY` and its
//! like, linux/sock_diag.h, since Linux 4.4).
//!
//! They come about 1.6 ms after the end. One subscription hears of every network namespace that
//! has a number (nsid) in the subscriber's; giving it one costs nothing and holds nothing open.
//!
//! A TCP connection that this host closed first is destroyed when it enters TIME_WAIT: the report says
//! that no process can use it any more, not that its tuple is free. What stays in TIME_WAIT has the
//! socket's cookie if that had one by then. A socket that was never listed gets its cookie with the
//! report, and what stays of it another: it is told twice, with nobody as its owner.

use std::os::fd::AsFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::ProbeError;
use crate::netlink::{Subscription, messages};
use crate::netlink_call::listen_to_all_namespaces;
use crate::sock_diag::{self, Entry, Exactly};

/// The bits of the four groups, 1 to 4: TCP and UDP over IPv4, then over IPv6.
const GROUPS: u32 = 0b1111;

/// What a report tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// As a dump would have listed it, but without inode.
    pub(crate) entry: Entry,
    /// How to ask for what is left of it.
    pub(crate) exactly: Exactly,
    /// The number of its namespace in ours; `None` for our own.
    pub(crate) nsid: Option<i32>,
}

/// A subscription to ends of sockets.
pub(crate) struct Destroyed {
    subscription: Subscription,
    /// Why other namespaces are not heard of.
    deaf: Option<String>,
}

impl Destroyed {
    /// Subscribes in the calling thread's namespace.
    pub(crate) fn open() -> Result<Self, ProbeError> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkSockDiag,
        )
        .map_err(ProbeError::call("open a sock_diag socket"))?;
        let deaf = listen_to_all_namespaces(socket.as_fd()).err().map(|error| error.to_string());
        Ok(Self { subscription: Subscription::join(socket, GROUPS)?, deaf })
    }

    /// Why other namespaces are not heard of, where they are not.
    pub(crate) fn deaf(&self) -> Option<&str> {
        self.deaf.as_deref()
    }

    /// All reports that have come.
    pub(crate) fn drain(&mut self, mut report: impl FnMut(Report)) -> Result<(), ProbeError> {
        self.subscription.drain(|datagram, nsid| {
            for message in messages(datagram).map_while(Result::ok) {
                if let Ok(Some((entry, exactly))) = sock_diag::destroyed(message) {
                    report(Report { entry, exactly, nsid });
                }
            }
        })
    }

    /// How often reports were lost because they were not read in time.
    pub(crate) fn overruns(&self) -> u64 {
        self.subscription.overruns()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use procflow_binding::{NamespaceId, Role};
    use procflow_core::{Endpoint, Protocol};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::time::{Duration, Instant};

    const HERE: NamespaceId = NamespaceId(1);

    /// Drains until the sockets at all these endpoints were reported.
    fn reports(destroyed: &mut Destroyed, wanted: &[Endpoint]) -> Vec<Report> {
        let begun = Instant::now();
        let mut found: Vec<Report> = Vec::new();
        while begun.elapsed() < Duration::from_secs(5) {
            destroyed
                .drain(|report| {
                    let socket = report.entry.socket(HERE);
                    if socket.is_some_and(|socket| wanted.contains(&socket.local())) {
                        found.push(report);
                    }
                })
                .unwrap();
            if found.len() >= wanted.len() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        found
    }

    #[test]
    fn every_kind_of_end_is_reported() {
        let mut destroyed = Destroyed::open().unwrap();
        let mut wanted = Vec::new();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            wanted.push(Endpoint::from(client.local_addr().unwrap()));
            let udp = UdpSocket::bind(address).unwrap();
            wanted.push(Endpoint::from(udp.local_addr().unwrap()));
        }
        let found = reports(&mut destroyed, &wanted);
        assert_eq!(found.len(), wanted.len(), "{found:?}");
        for report in found {
            assert_eq!(report.nsid, None);
            let socket = report.entry.socket(HERE).unwrap();
            let role = match socket.protocol() {
                Protocol::TCP => Role::Connected,
                _ => Role::Bound,
            };
            assert_eq!(socket.role(), role, "{socket:?}");
            assert_ne!(report.entry.id.0, 0);
        }
        assert_eq!(destroyed.overruns(), 0);
    }

    #[test]
    fn a_socket_that_was_never_bound_is_none() {
        let mut destroyed = Destroyed::open().unwrap();
        let never = nix::sys::socket::socket(
            AddressFamily::Inet,
            SockType::Datagram,
            SockFlag::empty(),
            None,
        );
        drop(never.unwrap());
        std::thread::sleep(Duration::from_millis(50));
        let mut ports = Vec::new();
        let port = |report: Report| report.entry.socket(HERE).map(|socket| socket.local().port());
        destroyed.drain(|report| ports.extend(port(report))).unwrap();
        assert!(!ports.contains(&0), "{ports:?}");
    }
}
