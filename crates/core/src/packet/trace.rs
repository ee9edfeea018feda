//! A trace is told of each header of a frame, from the outside in, while the frame is taken apart.
//!
//! The way through a frame is written once, for flows and for those who want to see all of it (`layers/`).
//! Flows are made with `()` for a trace, which hears nothing and costs nothing.

use super::Undecoded;
use crate::key::Protocol;

/// What kind of header it is. Those that follow one another leave no gap between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    Loopback,
    Ethernet,
    Tag,
    Label,
    ControlWord,
    Pppoe,
    Ppp,
    Hdlc,
    Sll,
    Sll2,
    Radiotap,
    Wireless,
    Snap,
    FabricPath,
    Arp,
    /// With the length of the packet, as it is believed.
    Ipv4(u32),
    /// Likewise.
    Ipv6(u32),
    /// An extension of IP's header, of this number.
    Extension(u8),
    /// Of a protocol that is looked into.
    Transport(Protocol),
    Gre,
    Erspan,
    Vxlan,
    Geneve,
    GtpU,
    Teredo,
}

/// Who is told.
pub(crate) trait Trace {
    /// There is a header, from there on and so long by what it says itself: the capture may have less of it.
    fn header(&mut self, header: Header, at: usize, length: usize);

    /// What the last header carries cannot be decoded, though that does not matter to the packet around it.
    fn undecoded(&mut self, why: Undecoded);
}

impl Trace for () {
    #[inline(always)]
    fn header(&mut self, _: Header, _: usize, _: usize) {}

    #[inline(always)]
    fn undecoded(&mut self, _: Undecoded) {}
}
