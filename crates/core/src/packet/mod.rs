//! A packet is one IP packet of a captured frame: who sent it to whom, its lengths, and what its
//! transport header says.
//!
//! This folder and `layers` are the only places that know the header parser (etherparse). This one takes a
//! frame apart from the outside in: `link.rs` (the link layer and its tags), `network.rs` (IP and its extension
//! headers), `tunnel.rs` (packets within packets), `transport.rs`; `trace.rs` is told of each header on the way.
//! Which of several nested packets is the one that flows are made of is a choice of [`Decoder`]: the innermost,
//! or the outermost.
//!
//! What cannot be decoded is never dropped silently: [`Undecoded`] says why, and whoever counts packets
//! counts those.

mod batch;
mod fragments;
mod link;
pub(crate) mod network;
pub(crate) mod trace;
mod transport;
mod tunnel;

use std::net::{IpAddr, Ipv6Addr};

use crate::key::{Endpoint, FlowKey, Protocol, Timestamp};
use trace::Trace;

pub use batch::{Batch, Frame};
pub use fragments::Fragments;
pub use link::{Link, LinkType, MacAddress};
pub use network::Fragment;
pub use transport::{Tcp, TcpFlags, Transport};
pub use tunnel::Tunnel;

/// An IPv4 or IPv6 address as 128 bits; IPv4 as `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2), so that
/// comparing two of them is comparing numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub u128);

impl Address {
    /// An IPv4 address.
    #[must_use]
    pub const fn v4(octets: [u8; 4]) -> Self {
        Self(0xffff_0000_0000 | u32::from_be_bytes(octets) as u128)
    }

    /// An IPv6 address.
    #[must_use]
    pub const fn v6(octets: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(octets))
    }

    /// The address in its canonical form.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from_bits(self.0)).to_canonical()
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::v4(v4.octets()),
            IpAddr::V6(v6) => Self::v6(v6.octets()),
        }
    }
}

/// The five lengths of a packet, in octets. None of them is "the length". All but `captured` are what
/// headers say, so a capture cut short (a snap length) and Ethernet's padding change none of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    /// The frame on the wire, with the link layer's header and padding, without preamble and check
    /// sequence (unless the capture has that).
    pub wire: u32,
    /// The IP packet: Total Length of IPv4 (RFC 791), 40 and Payload Length of IPv6 (RFC 8200).
    ///
    /// Segmentation offload hands over packets of more than 64 KiB, with 0 in that field; then it is what
    /// is left of the frame (IPv6: or the Jumbo Payload option, RFC 2675).
    pub ip: u32,
    /// The transport header and its payload; in a fragment what of them is in it.
    pub transport: u32,
    /// What the transport header is followed by; all of a fragment that is not the first.
    pub payload: u32,
    /// What of the frame was captured.
    pub captured: u32,
    /// Whether the capture has less than there was: less of the frame, or a frame that ends before the IP
    /// packet in it does.
    pub truncated: bool,
}

/// One decoded packet; its bytes stay in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// When it was captured.
    pub time: Timestamp,
    /// Its lengths.
    pub lengths: Lengths,
    /// The frame's link layer.
    pub link: Link,
    /// What the packet was found in; [`Tunnel::NONE`] when in the frame itself.
    pub tunnel: Tunnel,
    /// A network of its own that the tunnel names: the VXLAN or GENEVE network identifier; 0 without. The
    /// same addresses in two of them are different hosts.
    pub virtual_network: u32,
    /// 4 or 6.
    pub ip_version: u8,
    /// The traffic class octet: DSCP and ECN (RFC 2474, RFC 3168).
    pub traffic_class: u8,
    /// Time to live, or hop limit.
    pub hop_limit: u8,
    /// Who sent it.
    pub source: Address,
    /// Who it is for.
    pub destination: Address,
    /// Of the payload behind all extension headers.
    pub protocol: Protocol,
    /// 0 where there is none.
    pub source_port: u16,
    /// 0 where there is none.
    pub destination_port: u16,
    /// What the transport header says.
    pub transport: Transport,
    /// Which part of a larger packet this is, if it is not all of it.
    pub fragment: Option<Fragment>,
    /// Where in the captured frame the payload begins, and where its captured part ends.
    pub payload: (u32, u32),
}

impl Packet {
    /// One to be decoded into.
    pub(crate) const BLANK: Self = Self {
        time: Timestamp(0),
        lengths: Lengths {
            wire: 0,
            ip: 0,
            transport: 0,
            payload: 0,
            captured: 0,
            truncated: false,
        },
        link: Link { source: MacAddress([0; 6]), destination: MacAddress([0; 6]), vlans: [0; 2] },
        tunnel: Tunnel::NONE,
        virtual_network: 0,
        ip_version: 0,
        traffic_class: 0,
        hop_limit: 0,
        source: Address(0),
        destination: Address(0),
        protocol: Protocol(0),
        source_port: 0,
        destination_port: 0,
        transport: Transport::Other,
        fragment: None,
        payload: (0, 0),
    };

    /// The Flow Key; for ICMP the destination's port holds type * 256 + code.
    #[must_use]
    pub fn key(&self) -> FlowKey {
        let icmp = match self.transport {
            Transport::Icmp { icmp_type, code } => u16::from_be_bytes([icmp_type, code]),
            _ => self.destination_port,
        };
        FlowKey {
            protocol: self.protocol,
            source: Endpoint::new(self.source.ip(), self.source_port),
            destination: Endpoint::new(self.destination.ip(), icmp),
        }
    }

    /// The captured part of the transport's payload.
    #[must_use]
    pub fn payload<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        frame.get(self.payload.0 as usize..self.payload.1 as usize).unwrap_or_default()
    }
}

/// Why there is no packet in a frame that flows could be made of. Each is counted by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Undecoded {
    /// The capture's link type is none that is known here.
    #[error("frames of a link type that is not supported")]
    LinkType,
    /// It carries something else than IP: ARP, spanning tree, …
    #[error("frames that carry no IP packet")]
    NotIp,
    /// Its payload is encrypted below IP (802.11, MACsec).
    #[error("frames that are encrypted below IP")]
    Encrypted,
    /// The capture ends inside a header that is needed.
    #[error("frames captured too short for their headers")]
    CapturedShort,
    /// Its headers contradict each other or themselves.
    #[error("frames with malformed headers")]
    Malformed,
}

impl Undecoded {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 5] =
        [Self::LinkType, Self::NotIp, Self::Encrypted, Self::CapturedShort, Self::Malformed];

    /// What its counter is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LinkType => "unsupported_link_type",
            Self::NotIp => "not_ip",
            Self::Encrypted => "encrypted_link",
            Self::CapturedShort => "captured_short",
            Self::Malformed => "malformed",
        }
    }
}

/// How far into a frame is looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoder {
    /// Whether flows are made of the innermost packet of a tunnel (the default), or of the packet that
    /// carries it. One that cannot be decoded inside counts as the packet that carries it.
    pub tunnels: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { tunnels: true }
    }
}

/// How many packets within packets are looked into, and how many tags and labels in front of one: more
/// than any network stacks, few enough that a made-up frame costs no time.
pub(crate) const DEPTH: usize = 16;

impl Decoder {
    /// Takes a frame apart. `wire` is how long it was before the capture cut it; one that is shorter than
    /// what was captured cannot be, and counts as that.
    ///
    /// # Errors
    /// When there is no IP packet in it, or none whose headers can be read.
    pub fn decode(
        self,
        link_type: LinkType,
        time: Timestamp,
        frame: &[u8],
        wire: u32,
    ) -> Result<Packet, Undecoded> {
        let mut packet = Packet::BLANK;
        self.decode_into(link_type, time, frame, wire, &mut packet)?;
        Ok(packet)
    }

    /// [`decode`](Self::decode) into a packet that is there. If there is none in the frame, what it is then
    /// means nothing.
    #[inline]
    pub(crate) fn decode_into(
        self,
        link_type: LinkType,
        time: Timestamp,
        frame: &[u8],
        wire: u32,
        packet: &mut Packet,
    ) -> Result<(), Undecoded> {
        self.follow(link_type, time, (frame, wire), packet, &mut ())
    }

    /// The same, and a trace is told of every header on the way.
    #[inline]
    pub(crate) fn follow(
        self,
        link_type: LinkType,
        time: Timestamp,
        (frame, wire): (&[u8], u32),
        packet: &mut Packet,
        trace: &mut impl Trace,
    ) -> Result<(), Undecoded> {
        let captured = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let truncated = captured < wire;
        let lengths =
            Lengths { wire: wire.max(captured), captured, truncated, ..Lengths::default() };
        let (link, inside) = link::open(link_type, frame, trace)?;
        let at = match inside {
            link::Inside::Ip { at } => at,
            link::Inside::Other => return Err(Undecoded::NotIp),
        };
        network::open(Whole { time, lengths, link }, frame, at, packet, trace)?;
        if self.tunnels {
            for _ in 0..DEPTH {
                match tunnel::open(packet, frame, trace) {
                    Some(inner) => *packet = inner,
                    None => break,
                }
            }
        }
        Ok(())
    }
}

/// What is known of a frame before its IP header is read.
#[derive(Clone, Copy)]
struct Whole {
    time: Timestamp,
    lengths: Lengths,
    link: Link,
}

/// So many bytes at this place of a frame.
pub(crate) fn bytes<const N: usize>(frame: &[u8], at: usize) -> Result<[u8; N], Undecoded> {
    let from = frame.get(at..).ok_or(Undecoded::CapturedShort)?;
    from.first_chunk().copied().ok_or(Undecoded::CapturedShort)
}

/// The number of 16 bits at this place of a frame.
pub(crate) fn number(frame: &[u8], at: usize) -> Result<u16, Undecoded> {
    bytes(frame, at).map(u16::from_be_bytes)
}
