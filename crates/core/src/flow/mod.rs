//! A flow is what two endpoints sent each other, in both directions (a Biflow, RFC 5103), from its first
//! packet until it ends.
//!
//! [`Cache`] (`cache.rs`) holds the flows that go on, bounded, and hands out a [`Record`] of each that
//! ends; [`meter`] (`meter.rs`) makes packets of frames for some caches (`shard.rs`) and accounts for each;
//! [`Recent`] (`recent.rs`) answers what a flow is like while it goes on. Which way is forward is told in
//! [`DirectionSource`]; how TCP was opened, in `handshake.rs`; when it is over, in `tcp.rs`; which times can be
//! believed, in `clock.rs`.

mod cache;
mod clock;
mod due;
mod handshake;
mod holder;
mod meter;
mod moment;
mod recent;
mod sequence;
mod shard;
mod slab;
mod tcp;

use std::hash::{Hash, Hasher};

use crate::key::{Endpoint, FlowKey, Interval, Protocol, Timestamp};
use crate::packet::{Address, Link, Packet, Transport, Tunnel};

pub use cache::{Cache, Counts, Record, Settings};
pub use clock::{Doubted, PacketClock, Seen};
pub(crate) use due::{Links, Queue};
pub use handshake::Handshake;
pub use holder::Holder;
pub use meter::{AsTheyAre, Filled, Make, Take, Tally, meter, meter_with};
pub(crate) use moment::Moment;
pub use recent::{Answer, Missed, Recent, RecentSettings, Remote, Ticket};
pub(crate) use sequence::{Placed, Sequencer};
pub(crate) use slab::Slab;
pub use tcp::{CloseStyle, Closing};

/// Which way a packet of a flow goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the initiator to the responder.
    Forward,
    /// Back.
    Reverse,
}

impl Direction {
    /// 0 for forward, 1 for reverse.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Forward => 0,
            Self::Reverse => 1,
        }
    }

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Forward => Self::Reverse,
            Self::Reverse => Self::Forward,
        }
    }
}

/// One value for each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Both<T> {
    /// That of the packets from the initiator.
    pub forward: T,
    /// That of the packets to the initiator.
    pub reverse: T,
}

impl<T> Both<T> {
    /// The value of one direction.
    #[must_use]
    pub const fn of(&self, direction: Direction) -> &T {
        match direction {
            Direction::Forward => &self.forward,
            Direction::Reverse => &self.reverse,
        }
    }

    /// The value of one direction, to be changed.
    pub const fn of_mut(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::Forward => &mut self.forward,
            Direction::Reverse => &mut self.reverse,
        }
    }
}

/// How it is known who began (biflowDirection 239 is the field's name for it; its values do not tell this).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DirectionSource {
    /// The first packet seen opens a connection: its sender is the initiator.
    Syn,
    /// The first packet seen accepts a connection: its sender is the responder.
    SynAck,
    /// Nothing in the packets says; the sender of the first packet seen is taken for the initiator.
    FirstPacket,
}

impl DirectionSource {
    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Syn => "syn",
            Self::SynAck => "syn-ack",
            Self::FirstPacket => "first-packet",
        }
    }
}

/// Why a flow ended (flowEndReason 136 in the IPFIX registry; the numbers are the registry's).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// It has not: somebody asked how it is so far. The registry has no number for that; 0 is reserved.
    GoesOn = 0,
    /// No packet for the idle timeout.
    IdleTimeout = 1,
    /// It went on for the active timeout; what comes after is another record.
    ActiveTimeout = 2,
    /// Its packets say that it is over.
    EndOfFlow = 3,
    /// There is nothing more to read, or a plugin wanted it.
    Forced = 4,
    /// The cache was full, and this flow had been quiet for the longest.
    LackOfResources = 5,
}

impl EndReason {
    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::GoesOn => "goes-on",
            Self::IdleTimeout => "idle-timeout",
            Self::ActiveTimeout => "active-timeout",
            Self::EndOfFlow => "end-of-flow",
            Self::Forced => "forced-end",
            Self::LackOfResources => "lack-of-resources",
        }
    }

    /// Its number in the registry, if the flow has ended.
    #[must_use]
    pub const fn number(self) -> Option<u64> {
        match self {
            Self::GoesOn => None,
            ended => Some(ended as u64),
        }
    }
}

/// What was counted of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Packets (packetDeltaCount 2).
    pub packets: u64,
    /// Octets of whole frames (layer2OctetDeltaCount 352).
    pub wire_octets: u64,
    /// Octets of IP packets (octetDeltaCount 1).
    pub ip_octets: u64,
    /// Octets of transport headers and payload.
    pub transport_octets: u64,
    /// Octets of transport payload.
    pub payload_octets: u64,
    /// The earliest packet; means nothing without packets.
    pub first: Timestamp,
    /// The latest packet; means nothing without packets.
    pub last: Timestamp,
}

impl Default for Counters {
    fn default() -> Self {
        let (first, last) = (Timestamp(i64::MAX), Timestamp(i64::MIN));
        Self {
            packets: 0,
            wire_octets: 0,
            ip_octets: 0,
            transport_octets: 0,
            payload_octets: 0,
            first,
            last,
        }
    }
}

impl Counters {
    pub(crate) fn count(&mut self, packet: &Packet) {
        self.packets += 1;
        self.wire_octets += u64::from(packet.lengths.wire);
        self.ip_octets += u64::from(packet.lengths.ip);
        self.transport_octets += u64::from(packet.lengths.transport);
        self.payload_octets += u64::from(packet.lengths.payload);
        self.first = self.first.min(packet.time);
        self.last = self.last.max(packet.time);
    }
}

/// Who talks to whom in a flow, whichever way a packet goes: what finds it in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BiflowKey {
    /// The smaller address and port, then the other.
    low: (Address, u16),
    high: (Address, u16),
    vlans: [u16; 2],
    virtual_network: u32,
    protocol: Protocol,
    ip_version: u8,
}

impl BiflowKey {
    #[inline]
    pub(crate) fn of(packet: &Packet) -> Self {
        let source = (packet.source, packet.source_port);
        let destination = (packet.destination, packet.destination_port);
        let (low, high) =
            if source <= destination { (source, destination) } else { (destination, source) };
        Self {
            low,
            high,
            vlans: packet.link.vlans,
            virtual_network: packet.virtual_network,
            protocol: packet.protocol,
            ip_version: packet.ip_version,
        }
    }
}

impl Hash for BiflowKey {
    /// In as few steps as there are words: it is hashed for every packet.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [low, high] = [self.low.1, self.high.1].map(u64::from);
        let kind = u64::from(self.protocol.0) << 8 | u64::from(self.ip_version);
        let [outer, inner] = self.vlans.map(u64::from);
        state.write_u128(self.low.0.0);
        state.write_u128(self.high.0.0);
        state.write_u64(low << 48 | high << 32 | kind);
        state.write_u64(outer << 48 | inner << 32 | u64::from(self.virtual_network));
    }
}

/// What every flow has, whatever is measured of it.
#[derive(Clone, Debug)]
pub struct Flow {
    /// The initiator.
    pub source: Address,
    /// The responder.
    pub destination: Address,
    /// The initiator's port.
    pub source_port: u16,
    /// The responder's port.
    pub destination_port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// 4 or 6.
    pub ip_version: u8,
    /// How it is known who began.
    pub direction_source: DirectionSource,
    /// What its first packet was found in.
    pub tunnel: Tunnel,
    /// The network identifier of that, 0 without.
    pub virtual_network: u32,
    /// The link layer, in the direction from the initiator.
    pub link: Link,
    /// Type and code of the first ICMP message.
    pub icmp: Option<(u8, u8)>,
    /// What was counted.
    pub counters: Both<Counters>,
    /// How far the connection is over.
    pub closing: Closing,
    /// Fragments among its packets.
    pub fragments: u32,
    /// Packets that were captured in part.
    pub truncated: u32,
}

impl Flow {
    /// A flow that begins with this packet, which is not counted yet.
    pub(crate) fn begun_by(packet: &Packet) -> Self {
        let flags = match packet.transport {
            Transport::Tcp(tcp) => tcp.flags,
            _ => crate::packet::TcpFlags(0),
        };
        let direction_source = if flags.accepts() {
            DirectionSource::SynAck
        } else if flags.opens() {
            DirectionSource::Syn
        } else {
            DirectionSource::FirstPacket
        };
        let mut ends = [
            (packet.source, packet.source_port, packet.link.source),
            (packet.destination, packet.destination_port, packet.link.destination),
        ];
        if direction_source == DirectionSource::SynAck {
            ends.reverse();
        }
        let [source, destination] = ends;
        Self {
            source: source.0,
            destination: destination.0,
            source_port: source.1,
            destination_port: destination.1,
            protocol: packet.protocol,
            ip_version: packet.ip_version,
            direction_source,
            tunnel: packet.tunnel,
            virtual_network: packet.virtual_network,
            link: Link { source: source.2, destination: destination.2, vlans: packet.link.vlans },
            icmp: match packet.transport {
                Transport::Icmp { icmp_type, code } => Some((icmp_type, code)),
                _ => None,
            },
            counters: Both::default(),
            closing: Closing::default(),
            fragments: 0,
            truncated: 0,
        }
    }

    /// Counts from zero again, as the same conversation.
    fn begin_anew(&mut self) {
        self.counters = Both::default();
        (self.fragments, self.truncated) = (0, 0);
    }

    /// Which way a packet of this flow goes. Address and port are compared, so that two ends of one host
    /// or of one port are told apart.
    #[inline]
    pub(crate) fn direction(&self, packet: &Packet) -> Direction {
        let from = (packet.source, packet.source_port);
        let forward = from == (self.source, self.source_port);
        if forward { Direction::Forward } else { Direction::Reverse }
    }

    /// Whether a packet is of this conversation, either way: whether both have the same [`BiflowKey`].
    #[inline]
    pub(crate) fn is_of(&self, packet: &Packet) -> bool {
        let from = (packet.source, packet.source_port);
        let to = (packet.destination, packet.destination_port);
        let source = (self.source, self.source_port);
        let destination = (self.destination, self.destination_port);
        ((from == source && to == destination) || (from == destination && to == source))
            && packet.protocol == self.protocol
            && packet.link.vlans == self.link.vlans
            && packet.virtual_network == self.virtual_network
            && packet.ip_version == self.ip_version
    }

    fn key(&self) -> BiflowKey {
        let source = (self.source, self.source_port);
        let destination = (self.destination, self.destination_port);
        BiflowKey {
            low: source.min(destination),
            high: source.max(destination),
            vlans: self.link.vlans,
            virtual_network: self.virtual_network,
            protocol: self.protocol,
            ip_version: self.ip_version,
        }
    }

    /// The Flow Key of its forward packets; for ICMP the destination's port holds type * 256 + code of the
    /// first message.
    #[must_use]
    pub fn flow_key(&self) -> FlowKey {
        let port = self
            .icmp
            .map_or(self.destination_port, |(kind, code)| u16::from_be_bytes([kind, code]));
        FlowKey {
            protocol: self.protocol,
            source: Endpoint::new(self.source.ip(), self.source_port),
            destination: Endpoint::new(self.destination.ip(), port),
        }
    }

    /// The earliest packet of either direction.
    #[must_use]
    pub fn first(&self) -> Timestamp {
        self.counters.forward.first.min(self.counters.reverse.first)
    }

    /// The latest packet of either direction.
    #[must_use]
    pub fn last(&self) -> Timestamp {
        self.counters.forward.last.max(self.counters.reverse.last)
    }

    /// From the first packet to the last.
    #[must_use]
    pub fn interval(&self) -> Interval {
        Interval { first: self.first(), last: self.last() }
    }

    /// The packets of both directions.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.counters.forward.packets + self.counters.reverse.packets
    }
}
