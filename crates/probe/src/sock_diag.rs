//! sock_diag(7): the kernel's own list of its sockets, asked over netlink, one dump per protocol
//! and, for UDP, address family. What it tells of each is an `inet_diag_msg`: tuple, state, inode
//! of the file that processes hold it by, and the socket cookie.
//!
//! Reading the answers is apart from receiving them, so that every way for them to be wrong can be
//! tried on literal bytes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use procflow_binding::{NamespaceId, Socket, SocketId};
use procflow_core::{Endpoint, Protocol};

use crate::ProbeError;
use crate::netlink::{HEADER, Message, attribute, i32_at, messages, u32_at};

/// `SOCK_DIAG_BY_FAMILY` (linux/sock_diag.h): the type of question and answer.
const BY_FAMILY: u16 = 20;
/// `TCPDIAG_GETSOCK` (linux/inet_diag.h): the older question, which is for TCP of both families.
const OLD_TCP: u16 = 18;
/// `INET_DIAG_SKV6ONLY` (linux/inet_diag.h): one byte, `IPV6_V6ONLY` of an IPv6 socket. The
/// kernel adds it unasked, to unconnected sockets only.
const SKV6ONLY: u16 = 11;
/// `INET_DIAG_PROTOCOL` (linux/inet_diag.h): one byte, the protocol; only in reports of ends, because a
/// dump has it in its question.
const PROTOCOL: u16 = 10;

/// TCP states (net/tcp_states.h) as far as they matter here. UDP has only ESTABLISHED, for
/// connected sockets, and CLOSE for all others.
const SYN_RECV: u8 = 3;
const TIME_WAIT: u8 = 6;
const LISTEN: u8 = 10;

/// All states up to CLOSING but SYN_RECV.
///
/// An entry in SYN_RECV is no socket yet, but a request that anybody on the network can make
/// many of, and the listener answers for it. Nothing is lost: the connection that comes of it
/// takes over its cookie. Later states are kernel-internal (NEW_SYN_RECV) or cannot send
/// (BOUND_INACTIVE).
const STATES: u32 = 0xffe & !(1 << SYN_RECV);

/// Those without TIME_WAIT, in which most are on a host that closes many connections.
const LIVING: u32 = STATES & !(1 << TIME_WAIT);

/// Which sockets to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    All,
    /// All but those in TIME_WAIT.
    Living,
}

impl Which {
    fn states(self) -> u32 {
        match self {
            Self::All => STATES,
            Self::Living => LIVING,
        }
    }
}

const MESSAGE: usize = 72; // struct inet_diag_msg
const QUESTION: usize = HEADER + 56; // with struct inet_diag_req_v2
const OLD_QUESTION: usize = HEADER + 60; // with struct inet_diag_req

/// The kernel fills at most 32 KiB at a time, however large the buffer.
const BUFFER: usize = 32 * 1024;

/// How often a dump during which the table changed is repeated.
const TRIES: u32 = 5;

/// One dump that can be asked for.
#[derive(Clone, Copy)]
struct Kind {
    /// `None` for both families, which only the old question for TCP can ask for.
    family: Option<u8>,
    protocol: Protocol,
    name: &'static str,
}

const INET: u8 = 2; // AF_INET
const INET6: u8 = 10; // AF_INET6

/// TCP in one dump. Each dump of TCP walks the whole hash table of all namespaces, empty slots
/// too (262,144 of them on the machine of this measurement: 210 us), and this one walks it once for both families:
/// measured 270 us instead of 470 us per namespace and look.
const TCP: Kind = Kind { family: None, protocol: Protocol::TCP, name: "TCP" };

/// TCP in two dumps, for a kernel that has dropped the old question.
const TCP_BY_FAMILY: [Kind; 2] = [
    Kind { family: Some(INET), protocol: Protocol::TCP, name: "TCP over IPv4" },
    Kind { family: Some(INET6), protocol: Protocol::TCP, name: "TCP over IPv6" },
];

const UDP: [Kind; 2] = [
    Kind { family: Some(INET), protocol: Protocol::UDP, name: "UDP over IPv4" },
    Kind { family: Some(INET6), protocol: Protocol::UDP, name: "UDP over IPv6" },
];

/// A socket as the kernel lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: SocketId,
    /// The inode of its file; 0 when no process holds it (any more, or yet).
    pub(crate) inode: u32,
    protocol: Protocol,
    state: u8,
    local: Endpoint,
    remote: Endpoint,
    /// Bound to `::` without `IPV6_V6ONLY`.
    dual_stack: bool,
}

impl Entry {
    /// As a socket of the namespace it was listed in; `None` for one that can carry no traffic.
    pub(crate) fn socket(&self, namespace: NamespaceId) -> Option<Socket> {
        let Self { protocol, local, remote, .. } = *self;
        if local.port() == 0 {
            None
        } else if self.protocol == Protocol::TCP && self.state == LISTEN {
            Some(Socket::listening(namespace, local, self.dual_stack))
        } else if remote.port() != 0 {
            Some(Socket::connected(namespace, protocol, local, remote))
        } else if self.protocol == Protocol::UDP {
            Some(Socket::bound(namespace, protocol, local, self.dual_stack))
        } else {
            None
        }
    }
}

/// One message of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Entry(Entry),
    /// The dump is over; errno, or 0.
    Done(i32),
    /// The dump was refused with this errno.
    Refused(i32),
    /// The table changed meanwhile (`NLM_F_DUMP_INTR`); may come with any message.
    Interrupted,
}

/// Reads the messages in one datagram of an answer to question `sequence` about `protocol`.
/// Messages of other questions or types are skipped; a length that leads out of the datagram or
/// out of its message ends the reading with what is wrong.
fn read(
    datagram: &[u8],
    sequence: u32,
    protocol: Protocol,
    mut reply: impl FnMut(Reply),
) -> Result<(), &'static str> {
    for message in messages(datagram) {
        let message = message?;
        if message.sequence != sequence {
            continue;
        }
        if u32::from(message.flags) & libc::NLM_F_DUMP_INTR as u32 != 0 {
            reply(Reply::Interrupted);
        }
        let body = message.body;
        match i32::from(message.kind) {
            libc::NLMSG_DONE => reply(Reply::Done(i32_at(body, 0).unwrap_or(0).saturating_neg())),
            libc::NLMSG_ERROR => {
                let errno = i32_at(body, 0).ok_or("an error message has no number")?;
                reply(Reply::Refused(errno.saturating_neg()));
            }
            _ if matches!(message.kind, BY_FAMILY | OLD_TCP) => {
                if let Some(entry) = entry(body, protocol)? {
                    reply(Reply::Entry(entry));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Reads the report that a socket was destroyed; `None` where the message is something else. It has
/// no inode and no owner. A socket that was never bound has no local port, and carried nothing.
pub(crate) fn destroyed(message: Message<'_>) -> Result<Option<(Entry, Exactly)>, &'static str> {
    if message.kind != BY_FAMILY {
        return Ok(None);
    }
    let attributes = message.body.get(MESSAGE..).unwrap_or(&[]);
    let protocol = attribute(attributes, PROTOCOL)?.and_then(|value| value.first());
    let Some(&protocol) = protocol else { return Ok(None) };
    let id = message.body.get(4..52).and_then(|id| id.try_into().ok());
    let (Some(entry), Some(id)) = (entry(message.body, Protocol(protocol))?, id) else {
        return Ok(None);
    };
    Ok(Some((entry, Exactly { family: message.body[0], protocol, id })))
}

/// Reads an `inet_diag_msg` and the attributes after it; `None` for another address family.
fn entry(body: &[u8], protocol: Protocol) -> Result<Option<Entry>, &'static str> {
    const SHORT: &str = "a socket's message is too short";
    let (message, attributes) = body.split_at_checked(MESSAGE).ok_or(SHORT)?;
    let family = message[0];
    let address = |at: usize| -> Result<Option<IpAddr>, &'static str> {
        let bytes: [u8; 16] =
            message.get(at..at + 16).and_then(|bytes| bytes.try_into().ok()).ok_or(SHORT)?;
        Ok(match family {
            INET => Some(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()),
            INET6 => Some(Ipv6Addr::from(bytes).into()),
            _ => None,
        })
    };
    let port = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    let (Some(local), Some(remote)) = (address(8)?, address(24)?) else {
        return Ok(None);
    };
    let cookie = u64::from(u32_at(message, 44).ok_or(SHORT)?)
        | u64::from(u32_at(message, 48).ok_or(SHORT)?) << 32;
    let v6_only = attribute(attributes, SKV6ONLY)?.and_then(|value| value.first());
    Ok(Some(Entry {
        id: SocketId(cookie),
        inode: u32_at(message, 68).ok_or(SHORT)?,
        protocol,
        state: message[1],
        local: Endpoint::new(local, port(4)),
        remote: Endpoint::new(remote, port(6)),
        dual_stack: v6_only == Some(&0),
    }))
}

/// The question for the sockets of a kind.
fn question(kind: Kind, which: Which, sequence: u32) -> Vec<u8> {
    let length = match kind.family {
        Some(_) => QUESTION,
        None => OLD_QUESTION,
    };
    let mut bytes = vec![0; length];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    put(0, &(length as u32).to_ne_bytes());
    put(6, &flags.to_ne_bytes());
    put(8, &sequence.to_ne_bytes());
    match kind.family {
        Some(family) => {
            put(4, &BY_FAMILY.to_ne_bytes());
            put(HEADER, &[family, kind.protocol.0]);
            put(HEADER + 4, &which.states().to_ne_bytes());
        }
        None => {
            put(4, &OLD_TCP.to_ne_bytes());
            put(HEADER + 52, &which.states().to_ne_bytes());
        }
    }
    bytes
}

/// A socket as the kernel itself names it: `struct inet_diag_sockid`, with cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exactly {
    family: u8,
    protocol: u8,
    id: [u8; 48],
}

/// The question for one socket. It has the layout of that for many, and no NLM_F_DUMP.
fn exact_question(exactly: &Exactly, sequence: u32) -> Vec<u8> {
    let mut bytes = vec![0; QUESTION];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &(QUESTION as u32).to_ne_bytes());
    put(4, &BY_FAMILY.to_ne_bytes());
    put(6, &(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    put(8, &sequence.to_ne_bytes());
    put(HEADER, &[exactly.family, exactly.protocol]);
    put(HEADER + 4, &u32::MAX.to_ne_bytes());
    put(HEADER + 8, &exactly.id);
    bytes
}

/// Dumps, and the buffer they are received in.
pub(crate) struct Dumps {
    buffer: Vec<u8>,
    sequence: u32,
}

impl Dumps {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; BUFFER], sequence: 0 }
    }

    /// Adds the sockets of the namespace that `socket` was opened in to `entries`.
    pub(crate) fn all(
        &mut self,
        socket: BorrowedFd<'_>,
        which: Which,
        entries: &mut Vec<Entry>,
    ) -> Result<(), ProbeError> {
        match self.complete(socket, TCP, which, entries) {
            Err(ProbeError::Dump { .. }) => {
                for kind in TCP_BY_FAMILY {
                    self.if_known(socket, kind, which, entries)?;
                }
            }
            result => result?,
        }
        for kind in UDP {
            self.if_known(socket, kind, which, entries)?;
        }
        Ok(())
    }

    /// Whether the tuple of this very socket is still taken, if only by what is left of it in
    /// TIME_WAIT. Takes about 3 us.
    pub(crate) fn is_there(
        &mut self,
        socket: BorrowedFd<'_>,
        exactly: &Exactly,
    ) -> Result<bool, ProbeError> {
        self.sequence = self.sequence.wrapping_add(1);
        let question = exact_question(exactly, self.sequence);
        send(socket.as_raw_fd(), &question, MsgFlags::empty())
            .map_err(ProbeError::call("send to sock_diag"))?;
        let mut answer = None;
        while answer.is_none() {
            let length = match recv(socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                result => result.map_err(ProbeError::call("receive from sock_diag"))?,
            };
            let datagram = self.buffer.get(..length).unwrap_or(&[]);
            let protocol = Protocol(exactly.protocol);
            read(datagram, self.sequence, protocol, |reply| match reply {
                Reply::Entry(_) => answer = Some(true),
                // Most often ENOENT, or ESTALE where the tuple is another's.
                Reply::Refused(_) | Reply::Done(_) => answer = Some(false),
                Reply::Interrupted => {}
            })
            .map_err(|what| ProbeError::Malformed { table: "one socket", what })?;
        }
        Ok(answer.unwrap_or(false))
    }

    /// Asks for one kind; a kernel started with ipv6.disable=1 does not know that family.
    fn if_known(
        &mut self,
        socket: BorrowedFd<'_>,
        kind: Kind,
        which: Which,
        entries: &mut Vec<Entry>,
    ) -> Result<(), ProbeError> {
        match self.complete(socket, kind, which, entries) {
            Err(ProbeError::Dump { source, .. })
                if kind.family == Some(INET6)
                    && source.raw_os_error() == Some(Errno::ENOENT as i32) =>
            {
                Ok(())
            }
            result => result,
        }
    }

    /// Asks for one kind until the answer was not disturbed.
    fn complete(
        &mut self,
        socket: BorrowedFd<'_>,
        kind: Kind,
        which: Which,
        entries: &mut Vec<Entry>,
    ) -> Result<(), ProbeError> {
        let kept = entries.len();
        for _ in 0..TRIES {
            if self.once(socket, kind, which, entries)? {
                return Ok(());
            }
            entries.truncate(kept);
        }
        Err(ProbeError::Interrupted { table: kind.name, times: TRIES })
    }

    /// Asks for one kind once; `false` when the answer was disturbed.
    fn once(
        &mut self,
        socket: BorrowedFd<'_>,
        kind: Kind,
        which: Which,
        entries: &mut Vec<Entry>,
    ) -> Result<bool, ProbeError> {
        let table = kind.name;
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        send(socket.as_raw_fd(), &question(kind, which, sequence), MsgFlags::empty())
            .map_err(ProbeError::call("send to sock_diag"))?;
        let mut whole = true;
        let mut end = None;
        while end.is_none() {
            // With MSG_TRUNC the true length comes back, also of a datagram that did not fit.
            let length = match recv(socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_TRUNC) {
                Err(Errno::EINTR) => continue,
                result => result.map_err(ProbeError::call("receive from sock_diag"))?,
            };
            let malformed = |what| ProbeError::Malformed { table, what };
            let datagram = self
                .buffer
                .get(..length)
                .filter(|datagram| !datagram.is_empty())
                .ok_or(malformed("a datagram is empty or larger than any can be"))?;
            read(datagram, sequence, kind.protocol, |reply| match reply {
                Reply::Entry(entry) => entries.push(entry),
                Reply::Interrupted => whole = false,
                Reply::Done(errno) | Reply::Refused(errno) => end = Some(errno),
            })
            .map_err(malformed)?;
        }
        match end {
            None | Some(0) => Ok(whole),
            Some(errno) => {
                Err(ProbeError::Dump { table, source: io::Error::from_raw_os_error(errno) })
            }
        }
    }
}

/// A sock_diag socket in the calling thread's namespace.
pub(crate) fn connect() -> Result<OwnedFd, ProbeError> {
    let descriptor = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )
    .map_err(ProbeError::call("open a sock_diag socket"))?;
    // To the kernel, and so from nobody else: root in a container owns the namespace that it is
    // opened in, and could answer in the kernel's place.
    nix::sys::socket::connect(descriptor.as_raw_fd(), &nix::sys::socket::NetlinkAddr::new(0, 0))
        .map_err(ProbeError::call("connect a sock_diag socket"))?;
    Ok(descriptor)
}

/// Whether sock_diag works at all, tried where we are.
pub(crate) fn works() -> Result<(), ProbeError> {
    Dumps::new().all(connect()?.as_fd(), Which::All, &mut Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::tests::message;
    use crate::netlink::u16_at;

    /// The body of a socket's message, from Linux 6.18, little-endian: a listener on [::]:8080,
    /// inode 10277, cookie 0x1_0000_0002, with a shutdown attribute (8), then SKV6ONLY = 0.
    #[rustfmt::skip]
    const LISTENER: [u8; MESSAGE + 16] = [
        10, 10, 0, 0, // AF_INET6, LISTEN, timer, retransmits
        0x1f, 0x90, 0, 0, // ports, big-endian
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // ::
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, // interface
        2, 0, 0, 0, 1, 0, 0, 0, // cookie
        0, 0, 0, 0, 0, 0, 0, 0, 128, 0, 0, 0, // expires, queues
        0, 0, 0, 0, // user
        0x25, 0x28, 0, 0, // inode
        5, 0, 8, 0, 0, 0, 0, 0, // one byte and padding
        5, 0, 11, 0, 0, 0, 0, 0,
    ];

    /// All replies of a datagram to question 7, or what is wrong.
    fn replies(datagram: &[u8], protocol: Protocol) -> Result<Vec<Reply>, &'static str> {
        let mut replies = Vec::new();
        read(datagram, 7, protocol, |reply| replies.push(reply))?;
        Ok(replies)
    }

    fn only_entry(body: &[u8], protocol: Protocol) -> Entry {
        match replies(&message(BY_FAMILY, 2, 7, body), protocol).unwrap()[..] {
            [Reply::Entry(entry)] => entry,
            ref other => panic!("{other:?}"),
        }
    }

    const HERE: NamespaceId = NamespaceId(1);

    #[test]
    #[cfg(target_endian = "little")]
    fn a_dual_stack_listener_is_read() {
        let entry = only_entry(&LISTENER, Protocol::TCP);
        assert_eq!((entry.id, entry.inode), (SocketId(0x1_0000_0002), 10_277));
        let local = Endpoint::new(Ipv6Addr::UNSPECIFIED, 8080);
        assert_eq!(entry.socket(HERE), Some(Socket::listening(HERE, local, true)));
        // With IPV6_V6ONLY, and where the kernel does not say.
        let mut only = LISTENER;
        only[MESSAGE + 12] = 1;
        for body in [&only[..], &LISTENER[..MESSAGE]] {
            let socket = only_entry(body, Protocol::TCP).socket(HERE).unwrap();
            assert!(!socket.is_dual_stack());
        }
    }

    #[test]
    fn a_mapped_connection_is_ipv4() {
        let mut body = LISTENER[..MESSAGE].to_vec();
        body[1] = 1; // ESTABLISHED
        body[6..8].copy_from_slice(&4000_u16.to_be_bytes());
        for at in [8, 24] {
            body[at..at + 16].copy_from_slice(&Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets());
        }
        let expected = Socket::connected(
            HERE,
            Protocol::TCP,
            Endpoint::new(Ipv4Addr::LOCALHOST, 8080),
            Endpoint::new(Ipv4Addr::LOCALHOST, 4000),
        );
        assert_eq!(only_entry(&body, Protocol::TCP).socket(HERE), Some(expected));
    }

    #[test]
    fn an_unconnected_socket_is_bound_if_it_can_send() {
        let mut body = LISTENER;
        body[1] = 7; // CLOSE
        let local = Endpoint::new(Ipv6Addr::UNSPECIFIED, 8080);
        assert_eq!(
            only_entry(&body, Protocol::UDP).socket(HERE),
            Some(Socket::bound(HERE, Protocol::UDP, local, true))
        );
        assert_eq!(only_entry(&body, Protocol::TCP).socket(HERE), None);
    }

    #[test]
    fn a_report_of_an_end_names_its_protocol() {
        let mut body = LISTENER;
        body[1] = 7; // CLOSE
        body[6..8].copy_from_slice(&53_u16.to_be_bytes());
        let report = |body: &[u8]| {
            let datagram = message(BY_FAMILY, 0, 0, body);
            let message = messages(&datagram).next().unwrap().unwrap();
            destroyed(message)
        };
        assert_eq!(report(&body), Ok(None), "without protocol");
        body[MESSAGE + 10..MESSAGE + 12].copy_from_slice(&PROTOCOL.to_ne_bytes());
        body[MESSAGE + 12] = Protocol::UDP.0;
        let socket = report(&body).unwrap().unwrap().0.socket(HERE).unwrap();
        assert_eq!((socket.protocol(), socket.local().port()), (Protocol::UDP, 8080));
        assert_eq!(socket.remote().unwrap().port(), 53);
        // Never bound.
        body[4..6].fill(0);
        assert_eq!(report(&body).unwrap().unwrap().0.socket(HERE), None);
        for cut in 0..body.len() {
            assert!(matches!(report(&body[..cut]), Err(_) | Ok(None | Some(_))));
        }
    }

    #[test]
    fn the_end_of_a_dump_and_a_refusal_are_told() {
        let done = message(libc::NLMSG_DONE as u16, 2, 7, &0_i32.to_ne_bytes());
        assert_eq!(replies(&done, Protocol::TCP), Ok(vec![Reply::Done(0)]));
        let failed = message(libc::NLMSG_DONE as u16, 2, 7, &(-12_i32).to_ne_bytes());
        assert_eq!(replies(&failed, Protocol::TCP), Ok(vec![Reply::Done(12)]));
        let refused = message(libc::NLMSG_ERROR as u16, 0, 7, &(-2_i32).to_ne_bytes());
        assert_eq!(replies(&refused, Protocol::TCP), Ok(vec![Reply::Refused(2)]));
    }

    #[test]
    fn a_disturbed_dump_says_so() {
        let flags = libc::NLM_F_DUMP_INTR as u16;
        let done = message(libc::NLMSG_DONE as u16, flags, 7, &0_i32.to_ne_bytes());
        assert_eq!(replies(&done, Protocol::TCP), Ok(vec![Reply::Interrupted, Reply::Done(0)]));
    }

    #[test]
    fn what_belongs_to_another_question_is_skipped() {
        let mut datagram = message(BY_FAMILY, 2, 6, &LISTENER);
        datagram.extend(message(99, 2, 7, &LISTENER));
        let mut unix = LISTENER;
        unix[0] = 1;
        datagram.extend(message(BY_FAMILY, 2, 7, &unix));
        assert_eq!(replies(&datagram, Protocol::TCP), Ok(vec![]));
    }

    #[test]
    fn a_length_that_lies_is_an_error() {
        let good = message(BY_FAMILY, 2, 7, &LISTENER);
        for length in [0_u32, 15, 16, 87, u32::MAX] {
            let mut bad = good.clone();
            bad[..4].copy_from_slice(&length.to_ne_bytes());
            assert!(replies(&bad, Protocol::TCP).is_err(), "{length}");
        }
        for length in [0_u16, 3, 17, u16::MAX] {
            let mut bad = good.clone();
            let at = HEADER + MESSAGE;
            bad[at..at + 2].copy_from_slice(&length.to_ne_bytes());
            assert!(replies(&bad, Protocol::TCP).is_err(), "{length}");
        }
    }

    #[test]
    fn no_cut_and_no_flipped_byte_is_fatal() {
        let mut good = message(BY_FAMILY, 2, 7, &LISTENER);
        good.extend(message(libc::NLMSG_DONE as u16, 2, 7, &0_i32.to_ne_bytes()));
        for cut in 0..good.len() {
            let _ = replies(&good[..cut], Protocol::UDP);
        }
        for at in 0..good.len() {
            for flip in [1, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] ^= flip;
                if let Ok(replies) = replies(&bad, Protocol::UDP) {
                    assert!(replies.len() <= 3);
                }
            }
        }
    }

    #[test]
    fn a_question_is_laid_out_as_the_kernel_reads_it() {
        let bytes = question(UDP[1], Which::All, 7);
        assert_eq!(u32_at(&bytes, 0), Some(72));
        assert_eq!(u16_at(&bytes, 4), Some(20));
        assert_eq!(u16_at(&bytes, 6), Some(0x301)); // REQUEST, ROOT and MATCH
        assert_eq!(u32_at(&bytes, 8), Some(7));
        assert_eq!(bytes[16..20], [10, 17, 0, 0]);
        assert_eq!(u32_at(&bytes, 20), Some(0xff6));
        assert!(bytes[24..].iter().all(|&byte| byte == 0));

        let old = question(TCP, Which::Living, 7);
        assert_eq!((u32_at(&old, 0), old.len()), (Some(76), 76));
        assert_eq!(u16_at(&old, 4), Some(18));
        assert_eq!(u16_at(&old, 6), Some(0x301));
        assert_eq!(u32_at(&old, 68), Some(0xfb6));
    }

    #[test]
    fn one_socket_is_asked_for_until_its_tuple_is_free() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        let socket = connect().unwrap();
        let mut dumps = Dumps::new();
        let mut entries = Vec::new();
        dumps.all(socket.as_fd(), Which::Living, &mut entries).unwrap();
        entries.retain(|entry| {
            entry.local == Endpoint::from(local) && entry.remote == Endpoint::from(remote)
        });
        let mut exactly = Exactly { family: INET, protocol: Protocol::TCP.0, id: [0; 48] };
        exactly.id[..2].copy_from_slice(&local.port().to_be_bytes());
        exactly.id[2..4].copy_from_slice(&remote.port().to_be_bytes());
        for at in [4, 20] {
            exactly.id[at..at + 4].copy_from_slice(&[127, 0, 0, 1]);
        }
        exactly.id[40..].copy_from_slice(&entries[0].id.0.to_le_bytes());
        if cfg!(target_endian = "big") {
            return; // the halves of the cookie are in another order
        }
        let is_there =
            |dumps: &mut Dumps, exactly: &Exactly| dumps.is_there(socket.as_fd(), exactly).unwrap();
        assert!(is_there(&mut dumps, &exactly));
        drop(client);
        drop(listener.accept().unwrap());
        assert!(is_there(&mut dumps, &exactly), "in TIME_WAIT");
        exactly.id[40] ^= 1;
        assert!(!is_there(&mut dumps, &exactly), "another one");
    }

    #[test]
    fn both_questions_for_tcp_have_the_same_answer() {
        let mut listeners: Vec<_> = ["127.0.0.1:0", "[::1]:0", "[::]:0"]
            .iter()
            .map(|at| std::net::TcpListener::bind(at).unwrap())
            .collect();
        let ports: Vec<u16> =
            listeners.iter_mut().map(|listener| listener.local_addr().unwrap().port()).collect();
        let socket = connect().unwrap();
        let mut dumps = Dumps::new();
        let mut listed = |kinds: &[Kind]| {
            let mut entries = Vec::new();
            for &kind in kinds {
                dumps.complete(socket.as_fd(), kind, Which::All, &mut entries).unwrap();
            }
            // Of other tests, sockets come and go.
            entries.retain(|entry| ports.contains(&entry.local.port()) && entry.state == LISTEN);
            entries.sort_by_key(|entry| entry.id);
            entries
        };
        let old = listed(&[TCP]);
        assert_eq!(old.len(), 3);
        assert_eq!(old, listed(&TCP_BY_FAMILY));
        assert_eq!(old.iter().filter(|entry| entry.dual_stack).count(), 1);
    }
}
