//! A netlink datagram (netlink(7)): messages one after the other, each a header and a body, and in
//! some bodies attributes. Everything begins on a 4-byte border; numbers are in the host's byte
//! order.
//!
//! A subscription is a socket that has joined multicast groups: the kernel tells by itself. It is
//! read when somebody has time to; until then the kernel keeps what it told, up to a bound, and
//! says when that was not enough.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, NetlinkAddr, RecvMsg, bind, recvmsg, setsockopt,
};

use crate::ProbeError;

/// `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

/// One message of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) body: &'a [u8],
}

/// The messages of a datagram. A length that leads out of the datagram, or is less than a header's,
/// ends them with what is wrong.
pub(crate) fn messages(
    datagram: &[u8],
) -> impl Iterator<Item = Result<Message<'_>, &'static str>> + '_ {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = first(rest);
        rest = message.as_ref().map_or(&[], |&(_, after)| after);
        Some(message.map(|(message, _)| message))
    })
}

/// The first message, and what follows it.
fn first(rest: &[u8]) -> Result<(Message<'_>, &[u8]), &'static str> {
    let length = u32_at(rest, 0).ok_or("a message header is cut off")?;
    let length = usize::try_from(length).map_err(|_| "a message is too long")?;
    let message = rest.get(..length).ok_or("a message is longer than its datagram")?;
    let body = message.get(HEADER..).ok_or("a message is shorter than its header")?;
    let after = rest.get(aligned(length)..).unwrap_or(&[]);
    let kind = u16_at(message, 4).ok_or("a message has no type")?;
    let flags = u16_at(message, 6).ok_or("a message has no flags")?;
    let sequence = u32_at(message, 8).ok_or("a message has no number")?;
    Ok((Message { kind, flags, sequence, body }, after))
}

/// The payload of the first attribute of this type (`struct nlattr`: length, type, payload).
pub(crate) fn attribute(mut rest: &[u8], wanted: u16) -> Result<Option<&[u8]>, &'static str> {
    while rest.len() >= 4 {
        let length = usize::from(u16_at(rest, 0).unwrap_or(0));
        let kind = u16_at(rest, 2).unwrap_or(0);
        let payload =
            rest.get(4..length).ok_or("an attribute's length leads out of its message")?;
        if kind == wanted {
            return Ok(Some(payload));
        }
        rest = rest.get(aligned(length)..).unwrap_or(&[]);
    }
    Ok(None)
}

pub(crate) fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_ne_bytes(bytes))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(bytes))
}

pub(crate) fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(i32::from_ne_bytes(bytes))
}

/// How much the kernel keeps for a subscription that is not read. A message takes about a kilobyte
/// there, so that this is two thousand of them: what a host that starts 6,000 processes a second
/// tells in 100 ms. The kernel doubles the number for its own bookkeeping.
const KEPT: usize = 1024 * 1024;

/// No message that we subscribe to is longer; the longest is a closed TCP socket's with its
/// statistics, about 400 bytes.
const LONGEST: usize = 4096;

/// How many messages are read in one go, so that no flood keeps us reading for ever.
const MOST: usize = 16_384;

/// A socket that has joined multicast groups.
pub(crate) struct Subscription {
    socket: OwnedFd,
    buffer: Vec<u8>,
    control: Vec<u8>,
    overruns: u64,
}

impl Subscription {
    /// Joins groups; `groups` is a mask.
    pub(crate) fn join(socket: OwnedFd, groups: u32) -> Result<Self, ProbeError> {
        // Beyond the administrator's limit where we may; a smaller buffer does, only less well.
        if setsockopt(&socket, RcvBufForce, &KEPT).is_err() {
            setsockopt(&socket, RcvBuf, &KEPT)
                .map_err(ProbeError::call("make room for netlink messages"))?;
        }
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))
            .map_err(ProbeError::call("join a netlink multicast group"))?;
        let control = nix::cmsg_space!(i32);
        Ok(Self { socket, buffer: vec![0; LONGEST], control, overruns: 0 })
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// How often the kernel had to drop messages because they were not read in time.
    pub(crate) fn overruns(&self) -> u64 {
        self.overruns
    }

    /// Reads all datagrams that have come from the kernel, without waiting for more. Each comes
    /// with the network namespace that it is about, where that is another than the socket's: its
    /// number (nsid) in the socket's.
    pub(crate) fn drain(
        &mut self,
        mut datagram: impl FnMut(&[u8], Option<i32>),
    ) -> Result<(), ProbeError> {
        for _ in 0..MOST {
            let mut slices = [IoSliceMut::new(&mut self.buffer)];
            let received = recvmsg::<NetlinkAddr>(
                self.socket.as_raw_fd(),
                &mut slices,
                Some(&mut self.control),
                MsgFlags::MSG_DONTWAIT,
            );
            let (length, namespace) = match received {
                Ok(message) if is_whole_and_the_kernels(&message) => {
                    let Ok(namespace) = namespace(&message) else { continue };
                    (message.bytes, namespace)
                }
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(Errno::ENOBUFS) => {
                    self.overruns += 1;
                    continue;
                }
                Err(Errno::EAGAIN) => return Ok(()),
                Err(error) => {
                    return Err(ProbeError::call("receive netlink messages")(error));
                }
            };
            datagram(self.buffer.get(..length).unwrap_or(&[]), namespace);
        }
        Ok(())
    }
}

/// Any root, also that of a container, can send to a netlink socket; only the kernel's own port is
/// number 0.
fn is_whole_and_the_kernels(message: &RecvMsg<'_, '_, NetlinkAddr>) -> bool {
    message.address.is_some_and(|from| from.pid() == 0)
        && !message.flags.contains(MsgFlags::MSG_TRUNC)
}

/// The nsid that comes with a message (`NETLINK_LISTEN_ALL_NSID`, netlink(7)); none with messages
/// about the socket's own namespace.
fn namespace(message: &RecvMsg<'_, '_, NetlinkAddr>) -> Result<Option<i32>, Errno> {
    Ok(message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Unknown(control)
            if control.cmsg_header.cmsg_level == libc::SOL_NETLINK
                && control.cmsg_header.cmsg_type == libc::NETLINK_LISTEN_ALL_NSID =>
        {
            i32_at(&control.data_bytes, 0)
        }
        _ => None,
    }))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A message as the kernel lays it out.
    pub(crate) fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + body.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        bytes.resize(aligned(bytes.len()), 0);
        bytes
    }

    #[test]
    fn a_datagram_is_its_messages() {
        let mut datagram = message(3, 1, 7, &[1, 2, 3]);
        datagram.extend(message(4, 2, 8, &[]));
        let read: Vec<_> = messages(&datagram).map(Result::unwrap).collect();
        let first = Message { kind: 3, flags: 1, sequence: 7, body: &[1, 2, 3] };
        assert_eq!(read, [first, Message { kind: 4, flags: 2, sequence: 8, body: &[] }]);
    }

    #[test]
    fn a_bad_length_ends_a_datagram() {
        for length in [0_u32, 15, 21, u32::MAX] {
            let mut datagram = message(3, 1, 7, &[1, 2, 3, 4]);
            datagram.extend(message(4, 2, 8, &[]));
            datagram[..4].copy_from_slice(&length.to_ne_bytes());
            let read: Vec<_> = messages(&datagram).collect();
            if length == 21 {
                continue; // only too long: the next begins elsewhere
            }
            assert!(matches!(read[..], [Err(_)]), "{length}: {read:?}");
        }
    }

    #[test]
    fn an_attribute_is_found_behind_others() {
        let bytes = [5, 0, 8, 0, 1, 0, 0, 0, 6, 0, 9, 0, 2, 3, 0, 0];
        #[cfg(target_endian = "little")]
        assert_eq!(attribute(&bytes, 9), Ok(Some(&[2, 3][..])));
        assert_eq!(attribute(&bytes, 7), Ok(None));
        assert!(attribute(&[200, 0, 8, 0, 1], 9).is_err());
    }
}
