//! A subscription: a netlink socket that has joined multicast groups, so that the kernel tells by
//! itself. It is read when somebody has time to; until then the kernel keeps what it told, up to a
//! bound, and says when that was not enough.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce, SetBool};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, NetlinkAddr, RecvMsg, bind, recvmsg, setsockopt,
};

use crate::ProbeError;
use crate::netlink::i32_at;

/// `NETLINK_LISTEN_ALL_NSID` (netlink(7), since Linux 4.2).
#[derive(Clone, Copy)]
struct AllNsids;

nix::setsockopt_impl!(AllNsids, libc::SOL_NETLINK, libc::NETLINK_LISTEN_ALL_NSID, bool, SetBool);

/// Lets a socket also hear what is told of the other network namespaces that have a number (nsid)
/// in its own. It takes CAP_NET_BROADCAST.
pub(crate) fn hear_other_namespaces(socket: &OwnedFd) -> Result<(), ProbeError> {
    setsockopt(socket, AllNsids, &true).map_err(ProbeError::call("listen to other namespaces"))
}

/// No message that we subscribe to is longer; the longest are a closed TCP socket's with its
/// statistics and a conntrack entry's with all that may be noted on it, several hundred bytes.
const LONGEST: usize = 8192;

/// A socket that has joined multicast groups.
pub(crate) struct Subscription {
    socket: OwnedFd,
    buffer: Vec<u8>,
    control: Vec<u8>,
    overruns: u64,
}

/// How reading went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// Messages were lost, because they were not read in time.
    pub(crate) lost: bool,
    /// There may be more.
    pub(crate) more: bool,
}

impl Subscription {
    /// Joins groups; `groups` is a mask. The kernel keeps up to `room` bytes, and as many again for its
    /// own bookkeeping.
    pub(crate) fn join(socket: OwnedFd, groups: u32, room: usize) -> Result<Self, ProbeError> {
        // Beyond the administrator's limit where we may (CAP_NET_ADMIN on the host); a smaller
        // buffer does, only less well.
        setsockopt(&socket, RcvBufForce, &room)
            .or_else(|_| setsockopt(&socket, RcvBuf, &room))
            .map_err(ProbeError::call("make room for netlink messages"))?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))
            .map_err(ProbeError::call("join a netlink multicast group"))?;
        let control = nix::cmsg_space!(i32);
        Ok(Self { socket, buffer: vec![0; LONGEST], control, overruns: 0 })
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// How often the kernel had to drop messages because they were not read in time.
    pub(crate) fn overruns(&self) -> u64 {
        self.overruns
    }

    /// Reads the datagrams that have come from the kernel, without waiting for more: all, or
    /// `most`, so that no flood keeps us reading for ever. Each comes with the network namespace
    /// that it is about, where that is another than the socket's: its number in the socket's.
    pub(crate) fn drain(
        &mut self,
        most: usize,
        mut datagram: impl FnMut(&[u8], Option<i32>),
    ) -> Result<Received, ProbeError> {
        let overruns = self.overruns;
        let mut more = true;
        for _ in 0..most {
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
                Err(Errno::EAGAIN) => {
                    more = false;
                    break;
                }
                Err(error) => {
                    return Err(ProbeError::call("receive netlink messages")(error));
                }
            };
            datagram(self.buffer.get(..length).unwrap_or(&[]), namespace);
        }
        Ok(Received { lost: self.overruns != overruns, more })
    }
}

/// Any root, also that of a container, can send to a netlink socket; only the kernel's own port is
/// number 0.
fn is_whole_and_the_kernels(message: &RecvMsg<'_, '_, NetlinkAddr>) -> bool {
    message.address.is_some_and(|from| from.pid() == 0)
        && !message.flags.contains(MsgFlags::MSG_TRUNC)
}

/// The number that comes with a message; none with messages about the socket's own namespace.
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
