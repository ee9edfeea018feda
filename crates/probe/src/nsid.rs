//! A network namespace's number in another (nsid): by it the kernel says from which namespace a
//! message comes, to a socket that listens to all of them (rtnetlink, RTM_GETNSID and RTM_NEWNSID,
//! linux/net_namespace.h). It has none until somebody gives it one, as `ip netns` and the makers of
//! veth pairs do. To have a number keeps nothing alive; it goes with the namespace, and may then be
//! another's.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send,
    setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::ProbeError;
use crate::netlink::{HEADER, Message, attribute, i32_at, messages};

const GENERIC: usize = 4; // struct rtgenmsg, padded

const NSID: u16 = 1; // NETNSA_NSID
const FD: u16 = 3; // NETNSA_FD
const NOT_ASSIGNED: i32 = -1; // NETNSA_NSID_NOT_ASSIGNED: also a request for any

/// Asks for numbers in the namespace that it was opened in.
pub(crate) struct Numbers {
    socket: OwnedFd,
    sequence: u32,
}

impl Numbers {
    pub(crate) fn open() -> Result<Self, ProbeError> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )
        .map_err(ProbeError::call("open a routing socket"))?;
        connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))
            .map_err(ProbeError::call("connect a routing socket"))?;
        // The kernel answers while it is asked; should it ever not, a look must not hang.
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(1))
            .map_err(ProbeError::call("limit the wait for a namespace's number"))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The number of the namespace behind a descriptor; given to it if it had none.
    pub(crate) fn of(&mut self, namespace: BorrowedFd<'_>) -> Result<i32, ProbeError> {
        let number = self.ask(libc::RTM_GETNSID, namespace)?;
        if let Some(number) = number.filter(|&number| number != NOT_ASSIGNED) {
            return Ok(number);
        }
        match self.ask(libc::RTM_NEWNSID, namespace) {
            // Somebody else was faster.
            Err(ProbeError::Call { source, .. })
                if source.raw_os_error() == Some(Errno::EEXIST as i32) => {}
            answer => {
                answer?;
            }
        }
        let number = self.ask(libc::RTM_GETNSID, namespace)?;
        number.filter(|&number| number != NOT_ASSIGNED).ok_or(ProbeError::Call {
            call: "give a namespace a number",
            source: io::Error::other("it has none afterwards"),
        })
    }

    fn ask(&mut self, kind: u16, namespace: BorrowedFd<'_>) -> Result<Option<i32>, ProbeError> {
        self.sequence = self.sequence.wrapping_add(1);
        let question = question(kind, self.sequence, namespace.as_raw_fd());
        send(self.socket.as_raw_fd(), &question, MsgFlags::empty())
            .map_err(ProbeError::call("ask for a namespace's number"))?;
        let mut buffer = [0; 1024];
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                result => result.map_err(ProbeError::call("receive a namespace's number"))?,
            };
            for message in messages(buffer.get(..length).unwrap_or(&[])) {
                let other = |what| ProbeError::Call {
                    call: "read a namespace's number",
                    source: io::Error::other(what),
                };
                let message = message.map_err(other)?;
                if message.sequence == self.sequence {
                    return answer(message);
                }
            }
        }
    }
}

/// The number in an answer; none where it is only a consent.
fn answer(message: Message<'_>) -> Result<Option<i32>, ProbeError> {
    if i32::from(message.kind) == libc::NLMSG_ERROR {
        return match i32_at(message.body, 0).unwrap_or(-libc::EIO).saturating_neg() {
            0 => Ok(None),
            errno => Err(ProbeError::Call {
                call: "ask for a namespace's number",
                source: io::Error::from_raw_os_error(errno),
            }),
        };
    }
    let attributes = message.body.get(GENERIC..).unwrap_or(&[]);
    let number = attribute(attributes, NSID).ok().flatten();
    Ok(number.and_then(|number| i32_at(number, 0)))
}

fn question(kind: u16, sequence: u32, descriptor: i32) -> Vec<u8> {
    let mut flags = libc::NLM_F_REQUEST;
    let mut attributes = vec![(FD, descriptor)];
    if kind == libc::RTM_NEWNSID {
        flags |= libc::NLM_F_ACK;
        attributes.push((NSID, NOT_ASSIGNED));
    }
    let length = HEADER + GENERIC + 8 * attributes.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags as u16).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4 + GENERIC]); // from no port; AF_UNSPEC
    for (kind, value) in attributes {
        bytes.extend(8_u16.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value.to_ne_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::tests::message;
    use crate::netlink::{attribute, u16_at, u32_at};

    fn read(datagram: &[u8]) -> Result<Option<i32>, ProbeError> {
        answer(messages(datagram).next().unwrap().unwrap())
    }

    #[test]
    fn a_question_is_laid_out_as_the_kernel_reads_it() {
        let get = question(libc::RTM_GETNSID, 7, 5);
        assert_eq!((u32_at(&get, 0), get.len()), (Some(28), 28));
        assert_eq!((u16_at(&get, 4), u16_at(&get, 6)), (Some(90), Some(1)));
        assert_eq!(attribute(&get[20..], FD), Ok(Some(&5_i32.to_ne_bytes()[..])));
        let new = question(libc::RTM_NEWNSID, 7, 5);
        assert_eq!((u32_at(&new, 0), new.len()), (Some(36), 36));
        assert_eq!((u16_at(&new, 4), u16_at(&new, 6)), (Some(88), Some(5)));
        assert_eq!(attribute(&new[20..], NSID), Ok(Some(&(-1_i32).to_ne_bytes()[..])));
    }

    #[test]
    fn an_answer_is_a_number_a_consent_or_a_refusal() {
        let mut body = vec![0; GENERIC];
        body.extend(8_u16.to_ne_bytes());
        body.extend(NSID.to_ne_bytes());
        body.extend(3_i32.to_ne_bytes());
        assert_eq!(read(&message(libc::RTM_NEWNSID, 0, 7, &body)).unwrap(), Some(3));
        for cut in 0..body.len() {
            assert_eq!(read(&message(libc::RTM_NEWNSID, 0, 7, &body[..cut])).unwrap(), None);
        }
        let errno = |number: i32| message(libc::NLMSG_ERROR as u16, 0, 7, &number.to_ne_bytes());
        assert_eq!(read(&errno(0)).unwrap(), None);
        assert!(read(&errno(-libc::EPERM)).is_err());
    }
}
