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

use std::os::fd::OwnedFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use socket2::{SockFilter, SockRef};

use super::message::{self, Entry, Reply};
use crate::ProbeError;
use crate::capability::Capabilities;
use crate::subscription::{Received, Subscription, hear_other_namespaces};

/// The receive buffer, in bytes as the kernel counts them: measured, 52,428 events.
pub(super) const BUFFER: usize = 32 << 20;

/// The multicast groups NFNLGRP_CONNTRACK_NEW (1) and NFNLGRP_CONNTRACK_DESTROY (3). Nothing that
/// changes between is of interest: the tuples do not.
const GROUPS: u32 = 1 << 0 | 1 << 2;

/// The most events that are read at once, so that no flood holds up everything else.
const AT_ONCE: usize = 1 << 17;

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
    Capabilities::own().has(Capabilities::NET_BROADCAST)
}

/// The socket that events arrive at.
pub(super) struct Events {
    subscription: Subscription,
}

impl Events {
    /// Begins to listen, in the namespace that the calling thread is in.
    pub(super) fn open(buffer: usize) -> Result<Self, ProbeError> {
        let socket: OwnedFd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )
        .map_err(ProbeError::call("open a netfilter socket"))?;
        SockRef::from(&socket)
            .attach_filter(&translating())
            .map_err(ProbeError::call("filter conntrack events"))?;
        hear_other_namespaces(&socket)?;
        Ok(Self { subscription: Subscription::join(socket, GROUPS, buffer)? })
    }

    /// Receives what there is.
    pub(super) fn receive(&mut self, events: &mut Vec<Event>) -> Result<Received, ProbeError> {
        self.subscription.drain(AT_ONCE, |datagram, number| {
            // What cannot be read is left out: a dump will show it.
            let _ = message::read(datagram, None, |reply| match reply {
                Reply::There(entry) => events.push(Event { number, over: false, entry }),
                Reply::Gone(entry) => events.push(Event { number, over: true, entry }),
                _ => {}
            });
        })
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
