//! An nsid: the number by which one network namespace calls another (ip-netns(8),
//! linux/net_namespace.h). It is what tells from which namespace an event comes that
//! the socket in ours receives; a namespace without a number is not heard. It has none until somebody
//! gives it one, as `ip netns`, the makers of veth pairs and we do. To have a number keeps nothing
//! alive.
//!
//! A number is given back when its namespace dies, and the next namespace gets it. So the kernel
//! is asked to tell when that happens, and is listened to *after* the events were read: an event
//! whose number was not given back by then comes from the namespace that had it. (Between
//! freeing a number and telling so the kernel leaves a few instructions. A namespace that is made,
//! numbered and heard of within them is taken for the dead one.)
//!
//! Whoever listens to events has [`Nsids`] of its own, and reads them after its events.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send,
    setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::gettid;
use procflow_binding::NamespaceId;

use crate::ProbeError;
use crate::netlink::{HEADER, attribute, i32_at, messages};
use crate::subscription::Subscription;

/// The namespace's number, told or asked for (linux/rtnetlink.h).
const NEWNSID: u16 = 88;
const DELNSID: u16 = 89;
const GETNSID: u16 = 90;

/// The bit of the multicast group RTNLGRP_NSID (28).
const GROUP: u32 = 1 << 27;

/// The length of `struct rtgenmsg`, padded.
const GENERIC: usize = 4;

// Attributes.
const NSID: u16 = 1;
const PID: u16 = 2;

/// `NETNSA_NSID_NOT_ASSIGNED`; asked for, it means "any".
const NONE: i32 = -1;

/// How much the kernel keeps of what it tells of numbers: about a thousand namespaces that die at
/// once. When that is not enough, all are asked for their numbers again.
const ROOM: usize = 256 * 1024;

/// The most messages that are read at once.
const AT_ONCE: usize = 16_384;

/// The numbers of the namespaces that were visited, as the namespace calls them in which it was
/// opened.
pub(crate) struct Nsids {
    /// Connected to the kernel.
    asks: OwnedFd,
    /// Told when numbers are given back.
    told: Subscription,
    sequence: u32,
    buffer: Vec<u8>,
    namespaces: HashMap<i32, NamespaceId>,
    numbers: HashMap<NamespaceId, i32>,
}

/// Which numbers were given back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Freed {
    /// These, and the namespaces that had them are gone.
    These(Vec<Former>),
    /// That got lost.
    Unknown,
}

/// A number that was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Former {
    pub(crate) number: i32,
    /// Another namespace got it since. As long as none did, an event with this number comes from the
    /// one that is gone.
    pub(crate) again: bool,
}

impl Nsids {
    /// For the namespace that the calling thread is in.
    pub(crate) fn open() -> Result<Self, ProbeError> {
        let open = || {
            let (raw, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
            socket(AddressFamily::Netlink, raw, flags, SockProtocol::NetlinkRoute)
                .map_err(ProbeError::call("open an rtnetlink socket"))
        };
        let asks = open()?;
        connect(asks.as_raw_fd(), &NetlinkAddr::new(0, 0))
            .map_err(ProbeError::call("connect an rtnetlink socket"))?;
        // The kernel answers while it is asked; should it ever not, a look must not hang.
        setsockopt(&asks, ReceiveTimeout, &TimeVal::seconds(1))
            .map_err(ProbeError::call("limit the wait for an nsid"))?;
        let told = Subscription::join(open()?, GROUP, ROOM)?;
        Ok(Self {
            asks,
            told,
            sequence: 0,
            buffer: vec![0; 8192],
            namespaces: HashMap::new(),
            numbers: HashMap::new(),
        })
    }

    /// Who has this number.
    pub(crate) fn namespace(&self, number: i32) -> Option<NamespaceId> {
        self.namespaces.get(&number).copied()
    }

    /// Whether the number of this namespace is known.
    pub(crate) fn knows(&self, namespace: NamespaceId) -> bool {
        self.numbers.contains_key(&namespace)
    }

    /// The number of the namespace that the calling thread is in; it gets one if it has none.
    ///
    /// The kernel looks the thread up by its id, so that no descriptor of the namespace is needed.
    pub(crate) fn ask(&mut self) -> Result<i32, ProbeError> {
        if let Some(number) = self.question(GETNSID, None)? {
            return Ok(number);
        }
        match self.question(NEWNSID, Some(NONE)) {
            // Somebody else was quicker.
            Err(ProbeError::Call { source, .. })
                if source.raw_os_error() == Some(Errno::EEXIST as i32) => {}
            result => {
                result?;
            }
        }
        self.question(GETNSID, None)?.ok_or(ProbeError::Absent("an nsid"))
    }

    /// Remembers a number. What was read before is told apart from what follows by the caller.
    pub(crate) fn remember(&mut self, number: i32, namespace: NamespaceId) {
        self.forget(number);
        if let Some(former) = self.numbers.insert(namespace, number) {
            self.namespaces.remove(&former);
        }
        self.namespaces.insert(number, namespace);
    }

    /// Forgets a number, and says whose it was.
    pub(crate) fn forget(&mut self, number: i32) -> Option<NamespaceId> {
        let namespace = self.namespaces.remove(&number)?;
        self.numbers.remove(&namespace);
        Some(namespace)
    }

    /// Forgets all numbers.
    pub(crate) fn forget_all(&mut self) {
        self.namespaces.clear();
        self.numbers.clear();
    }

    /// The numbers that were given back since this was last called.
    pub(crate) fn freed(&mut self) -> Result<Freed, ProbeError> {
        let mut freed = Vec::new();
        let mut readable = Ok(());
        let received = self.told.drain(AT_ONCE, |datagram, _| {
            readable = readable.and(read(datagram, &mut freed));
        })?;
        readable.map_err(|what| ProbeError::Netlink { what })?;
        Ok(if received.lost || received.more { Freed::Unknown } else { Freed::These(freed) })
    }

    /// Asks about the calling thread's namespace.
    fn question(&mut self, kind: u16, number: Option<i32>) -> Result<Option<i32>, ProbeError> {
        self.sequence = self.sequence.wrapping_add(1);
        let question = question(kind, gettid().as_raw(), number, self.sequence);
        send(self.asks.as_raw_fd(), &question, MsgFlags::empty())
            .map_err(ProbeError::call("ask for an nsid"))?;
        loop {
            let length = match recv(self.asks.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                result => result.map_err(ProbeError::call("receive an nsid"))?,
            };
            let datagram = self.buffer.get(..length).unwrap_or(&[]);
            let answer =
                answer(datagram, self.sequence).map_err(|what| ProbeError::Netlink { what })?;
            match answer {
                Some(Answer::Number(number)) => return Ok((number != NONE).then_some(number)),
                Some(Answer::Errno(0)) => return Ok(None),
                Some(Answer::Errno(errno)) => {
                    let error = io::Error::from_raw_os_error(errno);
                    return Err(ProbeError::call("ask for an nsid")(error));
                }
                None => {} // a late answer to an earlier question
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Number(i32),
    Errno(i32),
}

/// The answer to question `sequence`, if it is in this datagram.
fn answer(datagram: &[u8], sequence: u32) -> Result<Option<Answer>, &'static str> {
    for message in messages(datagram) {
        let message = message?;
        if message.sequence != sequence {
            continue;
        }
        if i32::from(message.kind) == libc::NLMSG_ERROR {
            let errno = i32_at(message.body, 0).ok_or("an error message has no number")?;
            return Ok(Some(Answer::Errno(errno.saturating_neg())));
        }
        if message.kind == NEWNSID {
            return Ok(Some(Answer::Number(number(message.body)?)));
        }
    }
    Ok(None)
}

/// The numbers that a datagram says were given back; and of those from before, which were given to
/// somebody again.
fn read(datagram: &[u8], freed: &mut Vec<Former>) -> Result<(), &'static str> {
    for message in messages(datagram) {
        let message = message?;
        match message.kind {
            DELNSID => freed.push(Former { number: number(message.body)?, again: false }),
            NEWNSID => {
                let number = number(message.body)?;
                let same = freed.iter_mut().filter(|former| former.number == number);
                same.for_each(|former| former.again = true);
            }
            _ => {}
        }
    }
    Ok(())
}

fn number(body: &[u8]) -> Result<i32, &'static str> {
    let attributes = body.get(GENERIC..).ok_or("a message about an nsid is too short")?;
    let value = attribute(attributes, NSID)?.ok_or("a message about an nsid has none")?;
    i32_at(value, 0).ok_or("an nsid is too short")
}

/// A question about the namespace of a thread.
fn question(kind: u16, thread: i32, number: Option<i32>, sequence: u32) -> Vec<u8> {
    let acknowledge = if number.is_some() { libc::NLM_F_ACK } else { 0 };
    let flags = (libc::NLM_F_REQUEST | acknowledge) as u16;
    let mut bytes = vec![0; 4];
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.resize(HEADER + GENERIC, 0);
    let attributes = [(PID, Some(thread)), (NSID, number)];
    for (kind, value) in attributes.into_iter().filter_map(|(kind, value)| Some((kind, value?))) {
        bytes.extend(8_u16.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value.to_ne_bytes());
    }
    let length = u32::try_from(bytes.len()).unwrap_or(0);
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_number_or_an_error() {
        // As a question, a number looks like in an answer.
        let told = question(NEWNSID, 1, Some(5), 7);
        assert_eq!(answer(&told, 7), Ok(Some(Answer::Number(5))));
        assert_eq!(answer(&told, 8), Ok(None));
        let mut refused = question(libc::NLMSG_ERROR as u16, 1, None, 7);
        refused[16..20].copy_from_slice(&(-17_i32).to_ne_bytes());
        assert_eq!(answer(&refused, 7), Ok(Some(Answer::Errno(17))));
        assert!(answer(&question(NEWNSID, 1, None, 7), 7).is_err());
    }

    #[test]
    fn freed_numbers_are_found_among_new_ones() {
        let mut datagram = question(NEWNSID, 1, Some(5), 0);
        datagram.extend(question(DELNSID, 1, Some(5), 0));
        datagram.extend(question(NEWNSID, 1, Some(6), 0));
        datagram.extend(question(DELNSID, 1, Some(7), 0));
        let mut freed = Vec::new();
        read(&datagram, &mut freed).unwrap();
        let former = |number, again| Former { number, again };
        assert_eq!(freed, [former(5, false), former(7, false)]);
        read(&question(NEWNSID, 1, Some(7), 0), &mut freed).unwrap();
        assert_eq!(freed, [former(5, false), former(7, true)]);
        for cut in 0..datagram.len() {
            let _ = read(&datagram[..cut], &mut Vec::new());
        }
    }

    #[test]
    fn a_number_belongs_to_one_namespace_and_a_namespace_has_one_number() {
        let Ok(mut nsids) = Nsids::open() else {
            return; // no rtnetlink here
        };
        let [first, second] = [NamespaceId(1), NamespaceId(2)];
        nsids.remember(5, first);
        nsids.remember(5, second);
        assert!(!nsids.knows(first) && nsids.knows(second));
        nsids.remember(6, second);
        assert_eq!((nsids.namespace(5), nsids.namespace(6)), (None, Some(second)));
        assert_eq!((nsids.forget(6), nsids.knows(second)), (Some(second), false));
    }
}
