//! Reports that a socket ended: sock_diag(7) has multicast groups in which the kernel tells of every TCP
//! and UDP socket that it destroys, with its tuple and its cookie (`SKNLGRP_INET_TCP_DESTROY` and its
//! like, linux/sock_diag.h, since Linux 4.4).
//!
//! They come about 1.6 ms after the end. One subscription hears of every network namespace that
//! has a number in the subscriber's (see `nsid.rs`); giving it one costs nothing and holds nothing open.
//!
//! A TCP connection that this host closed first is destroyed when it enters TIME_WAIT: the report says
//! that no process can use it any more, not that its tuple is free. What stays in TIME_WAIT has the
//! socket's cookie if that had one by then. A socket that was never listed gets its cookie with the
//! report, and what stays of it another: it is told twice, with nobody as its owner.

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use procflow_binding::{BootTime, NamespaceId};

use crate::account::Ended;
use crate::namespace::Whereabouts;
use crate::netlink::messages;
use crate::nsid::{Freed, Nsids};
use crate::sock_diag::{self, Entry, Exactly};
use crate::subscription::{Subscription, hear_other_namespaces};
use crate::{ProbeError, clock};

/// The bits of the four groups, 1 to 4: TCP and UDP over IPv4, then over IPv6.
const GROUPS: u32 = 0b1111;

/// How much the kernel keeps while it is not read. A message takes about a kilobyte there, so that this
/// is two thousand of them.
const ROOM: usize = 1024 * 1024;

/// The most messages that are read at once.
const AT_ONCE: usize = 16_384;

/// A report comes so much later than the end at most, as far as it is used to say until when a socket
/// was there. The kernel reports from a work queue: on a host out of breath that waits for its turn: with 5 ms here the accuracy suite, playing five bars at a time on two processors, sometimes found a port
/// that had gone to another process told to be the former one's.
const LATE: u64 = 100_000_000;

/// So many reports at most wait for the next look: what ends in a second on a busy host. More are
/// dropped; those sockets' ends are dated by the look.
const MOST_REPORTS: usize = 65_536;

/// What a report tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// As a dump would have listed it, but without inode.
    entry: Entry,
    /// How to ask for what is left of it.
    pub(crate) exactly: Exactly,
    /// Where it was; `None` where that is not certain.
    pub(crate) namespace: Option<NamespaceId>,
    /// It ended between these moments.
    after: BootTime,
    by: BootTime,
}

impl Report {
    pub(crate) fn ended(&self) -> Ended {
        let &Self { entry, namespace, after, by, .. } = self;
        let socket = namespace.and_then(|namespace| entry.socket(namespace));
        Ended { id: entry.id, socket, after, by }
    }
}

/// A subscription to ends of sockets, and those reports that nobody has taken yet.
pub(crate) struct Destroyed {
    subscription: Subscription,
    /// Or why other namespaces are not heard of.
    nsids: Result<Nsids, ProbeError>,
    /// Why a namespace got no number, the last time that it was asked for in vain.
    unnumbered: Option<ProbeError>,
    home: Option<NamespaceId>,
    waiting: Vec<Report>,
    /// When they were last read.
    drained: BootTime,
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
        let nsids = hear_other_namespaces(&socket).and_then(|()| Nsids::open());
        Ok(Self {
            subscription: Subscription::join(socket, GROUPS, ROOM)?,
            nsids,
            unnumbered: None,
            home: None,
            waiting: Vec::new(),
            drained: clock::now()?,
        })
    }

    /// Why other namespaces, or some of them, are not heard of.
    pub(crate) fn deaf(&self) -> Option<&ProbeError> {
        self.nsids.as_ref().err().or(self.unnumbered.as_ref())
    }

    /// How often reports were lost because they were not read in time.
    pub(crate) fn overruns(&self) -> u64 {
        self.subscription.overruns()
    }

    /// All namespaces are visited anew.
    pub(crate) fn begin_visits(&mut self) {
        self.unnumbered = None;
    }

    /// Makes sure that reports from the namespace that the calling thread is in can be told by its
    /// number. Without one its sockets' ends are not reported; nothing else is lost.
    pub(crate) fn visit(&mut self, namespace: NamespaceId, at: Whereabouts) {
        if at == Whereabouts::Home {
            self.home = Some(namespace);
            return;
        }
        let Ok(nsids) = &mut self.nsids else { return };
        if nsids.knows(namespace) {
            return;
        }
        match nsids.ask() {
            Ok(number) => {
                // What was told under this number until now was not told by this namespace.
                self.hear();
                if let Ok(nsids) = &mut self.nsids {
                    nsids.remember(number, namespace);
                }
            }
            Err(error) => self.unnumbered = Some(error),
        }
    }

    /// Reads all reports that have come; whether there were any. What fails here is found by looking.
    pub(crate) fn hear(&mut self) -> bool {
        let mut told = Vec::new();
        let _ = self.subscription.drain(AT_ONCE, |datagram, number| {
            for message in messages(datagram).map_while(Result::ok) {
                if let Ok(Some((entry, exactly))) = sock_diag::destroyed(message) {
                    told.push((entry, exactly, number));
                }
            }
        });
        // Only now: see `nsid.rs`.
        let freed = match &mut self.nsids {
            Ok(nsids) => nsids.freed().unwrap_or(Freed::Unknown),
            Err(_) => Freed::These(Vec::new()),
        };
        let (after, now) = (self.drained.minus(LATE), clock::now().unwrap_or(self.drained));
        let news = !told.is_empty();
        for (entry, exactly, number) in told {
            let namespace = self.origin(number, &freed);
            self.waiting.push(Report { entry, exactly, namespace, after, by: now });
        }
        self.waiting.truncate(MOST_REPORTS);
        self.drained = now;
        if let Ok(nsids) = &mut self.nsids {
            match freed {
                Freed::These(numbers) => {
                    for former in numbers {
                        nsids.forget(former.number);
                    }
                }
                Freed::Unknown => nsids.forget_all(),
            }
        }
        news
    }

    /// Where a report comes from. A namespace dies with its last process, so that its last sockets are
    /// often reported together with its end.
    fn origin(&self, number: Option<i32>, freed: &Freed) -> Option<NamespaceId> {
        let Some(number) = number else { return self.home };
        let certain = match freed {
            Freed::These(numbers) => !numbers.iter().any(|f| f.number == number && f.again),
            Freed::Unknown => false,
        };
        self.nsids.as_ref().ok()?.namespace(number).filter(|_| certain)
    }

    /// The reports that nobody has taken yet.
    pub(crate) fn waiting(&self) -> &[Report] {
        &self.waiting
    }

    /// Takes the oldest of them.
    pub(crate) fn take_first(&mut self, count: usize) -> Vec<Report> {
        self.waiting.drain(..count.min(self.waiting.len())).collect()
    }

    /// Takes those from one namespace.
    pub(crate) fn take_from(&mut self, namespace: NamespaceId) -> Vec<Report> {
        let from = |report: &Report| report.namespace == Some(namespace);
        let (taken, left) = std::mem::take(&mut self.waiting).into_iter().partition(from);
        self.waiting = left;
        taken
    }

    /// Takes reports back that could not be made use of.
    pub(crate) fn put_back(&mut self, reports: Vec<Report>) {
        self.waiting.extend(reports);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nsid::Former;
    use procflow_binding::Role;
    use procflow_core::{Endpoint, Protocol};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::time::{Duration, Instant};

    const HERE: NamespaceId = NamespaceId(1);

    /// Drains until the sockets at all these endpoints were reported.
    fn reports(destroyed: &mut Destroyed, wanted: &[Endpoint]) -> Vec<Report> {
        let begun = Instant::now();
        let mut found: Vec<Report> = Vec::new();
        while begun.elapsed() < Duration::from_secs(5) {
            destroyed.hear();
            found.extend(destroyed.take_from(HERE).into_iter().filter(|report| {
                let socket = report.entry.socket(HERE);
                socket.is_some_and(|socket| wanted.contains(&socket.local()))
            }));
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
        destroyed.visit(HERE, Whereabouts::Home);
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
    fn a_number_that_was_given_to_another_tells_nothing() {
        let mut destroyed = Destroyed::open().unwrap();
        destroyed.visit(HERE, Whereabouts::Home);
        let Ok(nsids) = &mut destroyed.nsids else {
            return; // nothing is heard from elsewhere here
        };
        let there = NamespaceId(2);
        nsids.remember(5, there);
        let freed = |number, again| Freed::These(vec![Former { number, again }]);
        assert_eq!(destroyed.origin(None, &Freed::Unknown), Some(HERE));
        assert_eq!(destroyed.origin(Some(5), &freed(6, true)), Some(there));
        assert_eq!(destroyed.origin(Some(5), &freed(5, false)), Some(there), "its last words");
        assert_eq!(destroyed.origin(Some(5), &freed(5, true)), None);
        assert_eq!(destroyed.origin(Some(5), &Freed::Unknown), None);
        assert_eq!(destroyed.origin(Some(6), &freed(6, false)), None);
    }

    #[test]
    fn a_socket_that_was_never_bound_is_none() {
        let mut destroyed = Destroyed::open().unwrap();
        destroyed.visit(HERE, Whereabouts::Home);
        let never = nix::sys::socket::socket(
            AddressFamily::Inet,
            SockType::Datagram,
            SockFlag::empty(),
            None,
        );
        drop(never.unwrap());
        std::thread::sleep(Duration::from_millis(50));
        destroyed.hear();
        let port = |report: &Report| report.entry.socket(HERE).map(|socket| socket.local().port());
        let ports: Vec<u16> = destroyed.waiting().iter().filter_map(port).collect();
        assert!(!ports.contains(&0), "{ports:?}");
    }
}
