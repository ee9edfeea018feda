//! Events of conntrack: the kernel tells when an entry begins and when it ends, in every
//! namespace to which ours has given a number (see `nsid.rs`).
//!
//! For that the socket's owner needs CAP_NET_ADMIN in its namespace, and CAP_NET_BROADCAST over
//! the others.
//!
//! **What it costs.** Here: 2.1 us for each event of a translation, and nothing for the others. In
//! the kernel: 2.3 us more for each conversation that conntrack sees, translated or not (13.5 us
//! became 15.8 us for a UDP socket that is made, bound and sends once over loopback), because it
//! makes the event before anybody's filter can refuse it. (With nf_conntrack_events=2, the
//! default since Linux 5.19; with 1 it always does.)

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType,
    bind, recvmsg, setsockopt, socket, sockopt,
};
use socket2::{SockFilter, SockRef};

use super::message::{self, Entry, Reply};
use crate::ProbeError;

/// The receive buffer, in bytes as the kernel counts them: measured, 52,428 events.
pub(super) const BUFFER: usize = 32 << 20;

/// The multicast groups NFNLGRP_CONNTRACK_NEW (1) and NFNLGRP_CONNTRACK_DESTROY (3). Nothing that
/// changes between is of interest: the tuples do not.
const GROUPS: u32 = 1 << 0 | 1 << 2;

/// The most events that are read at once, so that no flood holds up everything else.
const AT_ONCE: usize = 1 << 17;

/// `NETLINK_LISTEN_ALL_NSID`: events of other namespaces, too (netlink(7)).
#[derive(Clone, Copy)]
struct AllNsids;

nix::setsockopt_impl!(
    AllNsids,
    libc::SOL_NETLINK,
    libc::NETLINK_LISTEN_ALL_NSID,
    bool,
    sockopt::SetBool
);

/// An entry of conntrack that translates began or ended.
pub(super) struct Event {
    /// The number of its namespace; `None` for the one that the socket is in.
    pub(super) number: Option<i32>,
    /// It ended.
    pub(super) over: bool,
    pub(super) entry: Entry,
}

/// Whether this process has CAP_NET_BROADCAST (capabilities(7)), without which no event of another
/// namespace arrives.
pub(super) fn hears_others() -> bool {
    const NET_BROADCAST: u64 = 1 << 11;
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    status.is_ok_and(|status| status.capeff & NET_BROADCAST != 0)
}

/// How receiving went.
pub(super) struct Received {
    /// Events were lost, because they were not received in time.
    pub(super) lost: bool,
    /// There is more.
    pub(super) more: bool,
}

/// The socket that events arrive at.
pub(super) struct Events {
    descriptor: OwnedFd,
    buffer: Vec<u8>,
    control: Vec<u8>,
}

impl Events {
    /// Begins to listen, in the namespace that the calling thread is in.
    pub(super) fn open(buffer: usize) -> Result<Self, ProbeError> {
        let descriptor = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkNetFilter,
        )
        .map_err(ProbeError::call("open a netfilter socket"))?;
        // Above net.core.rmem_max only by force, which takes CAP_NET_ADMIN, which listening takes
        // anyway. A container that has it in its own user namespace may only do the other.
        setsockopt(&descriptor, sockopt::RcvBufForce, &buffer)
            .or_else(|_| setsockopt(&descriptor, sockopt::RcvBuf, &buffer))
            .map_err(ProbeError::call("set the receive buffer"))?;
        SockRef::from(&descriptor)
            .attach_filter(&translating())
            .map_err(ProbeError::call("filter conntrack events"))?;
        setsockopt(&descriptor, AllNsids, &true)
            .map_err(ProbeError::call("listen to other namespaces"))?;
        bind(descriptor.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))
            .map_err(ProbeError::call("listen for conntrack events"))?;
        let control = nix::cmsg_space!(i32);
        Ok(Self { descriptor, buffer: vec![0; 8192], control })
    }

    /// Receives what there is.
    pub(super) fn receive(&mut self, events: &mut Vec<Event>) -> Result<Received, ProbeError> {
        let mut lost = false;
        for _ in 0..AT_ONCE {
            match self.one(events) {
                Ok(()) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(Received { lost, more: false }),
                Err(Errno::ENOBUFS) => lost = true,
                Err(error) => return Err(ProbeError::call("receive conntrack events")(error)),
            }
        }
        Ok(Received { lost, more: true })
    }

    /// Receives one datagram.
    fn one(&mut self, events: &mut Vec<Event>) -> Result<(), Errno> {
        let mut slices = [IoSliceMut::new(&mut self.buffer)];
        let (descriptor, flags) = (self.descriptor.as_raw_fd(), MsgFlags::empty());
        let message =
            recvmsg::<NetlinkAddr>(descriptor, &mut slices, Some(&mut self.control), flags)?;
        // Only the kernel has the port 0. Root in a container can send to the group, too.
        if message.address.is_none_or(|from| from.pid() != 0) {
            return Ok(());
        }
        let number = message.cmsgs()?.find_map(number);
        let length = message.bytes;
        let datagram = self.buffer.get(..length).unwrap_or(&[]);
        // What cannot be read is left out: a dump will show it.
        let _ = message::read(datagram, None, |reply| match reply {
            Reply::There(entry) => events.push(Event { number, over: false, entry }),
            Reply::Gone(entry) => events.push(Event { number, over: true, entry }),
            _ => {}
        });
        Ok(())
    }
}

/// The number of the namespace that a datagram came from.
fn number(control: ControlMessageOwned) -> Option<i32> {
    match control {
        ControlMessageOwned::Unknown(unknown)
            if unknown.cmsg_header.cmsg_level == libc::SOL_NETLINK
                && unknown.cmsg_header.cmsg_type == libc::NETLINK_LISTEN_ALL_NSID =>
        {
            unknown.data_bytes.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes))
        }
        _ => None,
    }
}

/// A filter for the kernel (linux/filter.h) that lets only entries through that translate: on
/// most hosts most do not, and would fill the buffer. What has no status is let through.
fn translating() -> [SockFilter; 9] {
    const LOAD_NUMBER: u32 = libc::BPF_LD | libc::BPF_IMM;
    const LOAD_NUMBER_TO_X: u32 = libc::BPF_LDX | libc::BPF_IMM;
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const LOAD_FROM_X: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_IND;
    const A_TO_X: u32 = libc::BPF_MISC | libc::BPF_TAX;
    const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const IF_ANY_BIT: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    /// Loaded from here comes the place of the first attribute of type X, from A on; or 0.
    const FIND: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_NLATTR) as u32;
    [
        (LOAD_NUMBER, 0, 0, message::ATTRIBUTES_AT),
        (LOAD_NUMBER_TO_X, 0, 0, message::STATUS_ATTRIBUTE),
        (LOAD, 0, 0, FIND),
        (IF_EQUAL, 3, 0, 0),
        (A_TO_X, 0, 0, 0),
        (LOAD_FROM_X, 0, 0, 4), // behind its length and type; loading expects network byte order
        (IF_ANY_BIT, 0, 1, message::STATUS_WANTED),
        (RETURN, 0, 0, u32::MAX), // all of it
        (RETURN, 0, 0, 0),        // nothing
    ]
    .map(|(code, then, otherwise, k)| SockFilter::new(code as u16, then, otherwise, k))
}
