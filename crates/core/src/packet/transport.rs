//! Transport headers: ports, and what TCP and ICMP say.

use etherparse::{TcpHeaderSlice, UdpHeaderSlice, err::tcp::HeaderSliceError};

use serde::{Serialize, Serializer};

use super::network::{Next, index};
use super::trace::{Header, Trace};
use super::{Packet, Undecoded, bytes, number};
use crate::key::Protocol;

/// The eight flags of TCP (RFC 9293 section 3.1), as in the header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgment number counts.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer counts.
    pub const URG: Self = Self(0x20);
    /// ECN-Echo (RFC 3168).
    pub const ECE: Self = Self(0x40);
    /// Congestion Window Reduced (RFC 3168).
    pub const CWR: Self = Self(0x80);

    /// Whether all of these are set.
    #[must_use]
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// The first packet of a connection: SYN without ACK.
    #[must_use]
    pub const fn opens(self) -> bool {
        self.has(Self::SYN) && !self.has(Self::ACK)
    }

    /// The answer to that: SYN with ACK.
    #[must_use]
    pub const fn accepts(self) -> bool {
        self.has(Self(Self::SYN.0 | Self::ACK.0))
    }
}

/// The names of those that are set.
impl Serialize for TcpFlags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let names = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];
        let set = names.into_iter().enumerate().filter(|(bit, _)| self.0 >> bit & 1 != 0);
        serializer.collect_seq(set.map(|(_, name)| name))
    }
}

/// What a TCP header says besides the ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    /// The flags.
    pub flags: TcpFlags,
    /// How long the header is with its options, in octets: 20 to 60.
    pub header: u8,
    /// The sequence number of the first octet of payload, or of the SYN.
    pub sequence: u32,
    /// The next sequence number expected, if ACK is set.
    pub acknowledgment: u32,
    /// The window as in the header, before any scaling (RFC 7323).
    pub window: u16,
}

impl Tcp {
    /// The sequence number after this segment of so many octets: SYN and FIN take one each.
    #[must_use]
    pub fn next_sequence(&self, payload: u32) -> u32 {
        let controls =
            u32::from(self.flags.has(TcpFlags::SYN)) + u32::from(self.flags.has(TcpFlags::FIN));
        self.sequence.wrapping_add(payload).wrapping_add(controls)
    }
}

/// What a transport header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP (RFC 9293).
    Tcp(Tcp),
    /// A protocol with ports and no more that matters here.
    Ports,
    /// ICMP or ICMPv6.
    Icmp {
        /// What kind of message.
        icmp_type: u8,
        /// Which of that kind.
        code: u8,
    },
    /// Something else, or a fragment that is not the first.
    Other,
}

/// Reads the transport header at `next`, of the IP packet at `ip_at`.
#[inline]
pub(super) fn open(
    packet: &mut Packet,
    frame: &[u8],
    ip_at: usize,
    next: Next,
    trace: &mut impl Trace,
) -> Result<(), Undecoded> {
    let Next { protocol, at } = next;
    let end = index(ip_at).saturating_add(packet.lengths.ip);
    let transport = end.checked_sub(index(at)).ok_or(Undecoded::Malformed)?;
    packet.protocol = Protocol(protocol);
    packet.lengths.transport = transport;
    let header = if packet.fragment.is_some_and(|fragment| fragment.offset > 0) {
        0
    } else {
        ports(packet, frame, at, transport)?
    };
    packet.lengths.payload = transport.checked_sub(header).ok_or(Undecoded::Malformed)?;
    if packet.transport != Transport::Other {
        trace.header(Header::Transport(packet.protocol), at, header as usize);
    }
    // In a tunnel the frame ends where the packet around does, whatever this one says of itself.
    let captured = index(frame.len());
    let start = index(at).saturating_add(header);
    packet.payload = (start.min(captured), end.min(captured));
    Ok(())
}

/// Reads ports and flags; gives the length of the header.
#[inline]
fn ports(packet: &mut Packet, frame: &[u8], at: usize, transport: u32) -> Result<u32, Undecoded> {
    let from = frame.get(at..).unwrap_or_default();
    match packet.protocol {
        Protocol::TCP => {
            let header = TcpHeaderSlice::from_slice(from).map_err(|error| match error {
                HeaderSliceError::Len(_) if index(from.len()) < transport => {
                    Undecoded::CapturedShort
                }
                _ => Undecoded::Malformed,
            })?;
            packet.source_port = header.source_port();
            packet.destination_port = header.destination_port();
            let slice = header.slice();
            // 60 at most.
            let length = slice.len() as u8;
            packet.transport = Transport::Tcp(Tcp {
                flags: TcpFlags(slice[13]),
                header: length,
                sequence: header.sequence_number(),
                acknowledgment: header.acknowledgment_number(),
                window: header.window_size(),
            });
            Ok(u32::from(length))
        }
        Protocol::UDP => {
            let header = UdpHeaderSlice::from_slice(from).map_err(|_| short(from, transport))?;
            packet.source_port = header.source_port();
            packet.destination_port = header.destination_port();
            packet.transport = Transport::Ports;
            Ok(8)
        }
        Protocol::UDP_LITE | Protocol::DCCP | Protocol::SCTP => {
            let short = |_| short(from, transport);
            packet.source_port = number(from, 0).map_err(short)?;
            packet.destination_port = number(from, 2).map_err(short)?;
            packet.transport = Transport::Ports;
            Ok(match packet.protocol {
                Protocol::UDP_LITE => 8,
                // RFC 9260 section 3.1: the common header; chunks are its payload.
                Protocol::SCTP => 12,
                // RFC 4340 section 5.1: the data offset, in words.
                _ => u32::from(bytes::<5>(from, 0).map_err(short)?[4]) * 4,
            })
        }
        Protocol::ICMP | Protocol::ICMPV6 => {
            let [icmp_type, code] = bytes(from, 0).map_err(|_| short(from, transport))?;
            packet.transport = Transport::Icmp { icmp_type, code };
            Ok(transport.min(8))
        }
        _ => Ok(0),
    }
}

/// Why there is not enough of a header: the capture was cut, or the packet is.
fn short(from: &[u8], transport: u32) -> Undecoded {
    if index(from.len()) < transport { Undecoded::CapturedShort } else { Undecoded::Malformed }
}
