//! The layers of transports, and ICMP's.

use etherparse::{TcpHeaderSlice, UdpHeaderSlice};
use serde::Serialize;

use super::options::TcpOptions;
use crate::packet::{TcpFlags, Undecoded, bytes, number};

/// TCP (RFC 9293).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Tcp<'a> {
    /// Who sent it.
    pub source_port: u16,
    /// Who it is for.
    pub destination_port: u16,
    /// The sequence number of the first octet of payload, or of the SYN.
    pub sequence: u32,
    /// The next sequence number expected, if ACK is set.
    pub acknowledgment: u32,
    /// The flags; as JSON an array of the names of those that are set.
    pub flags: TcpFlags,
    /// The window as in the header, before any scaling.
    pub window: u16,
    /// The checksum, which is not verified.
    pub checksum: u16,
    /// Where urgent data ends, if URG is set.
    pub urgent: u16,
    /// The options.
    pub options: TcpOptions<'a>,
}

impl<'a> Tcp<'a> {
    pub(super) fn read(header: &'a [u8]) -> Result<Self, Undecoded> {
        let [flags] = bytes(header, 13)?;
        let options = header.get(20..).unwrap_or_default();
        let header = TcpHeaderSlice::from_slice(header).map_err(|_| Undecoded::CapturedShort)?;
        Ok(Self {
            source_port: header.source_port(),
            destination_port: header.destination_port(),
            sequence: header.sequence_number(),
            acknowledgment: header.acknowledgment_number(),
            flags: TcpFlags(flags),
            window: header.window_size(),
            checksum: header.checksum(),
            urgent: header.urgent_pointer(),
            options: TcpOptions(options),
        })
    }
}

/// UDP (RFC 768).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Udp {
    /// Who sent it.
    pub source_port: u16,
    /// Who it is for.
    pub destination_port: u16,
    /// Header and payload, in octets, by this header. What it carries ends where the IP packet does.
    pub length: u16,
    /// The checksum, which is not verified; 0 where there is none.
    pub checksum: u16,
}

impl Udp {
    pub(super) fn read(header: &[u8]) -> Result<Self, Undecoded> {
        let header = UdpHeaderSlice::from_slice(header).map_err(|_| Undecoded::CapturedShort)?;
        Ok(Self {
            source_port: header.source_port(),
            destination_port: header.destination_port(),
            length: header.length(),
            checksum: header.checksum(),
        })
    }
}

/// UDP-Lite (RFC 3828).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct UdpLite {
    /// Who sent it.
    pub source_port: u16,
    /// Who it is for.
    pub destination_port: u16,
    /// So many octets the checksum is over; 0 for all.
    pub coverage: u16,
    /// The checksum, which is not verified.
    pub checksum: u16,
}

impl UdpLite {
    pub(super) fn read(header: &[u8]) -> Result<Self, Undecoded> {
        Ok(Self {
            source_port: number(header, 0)?,
            destination_port: number(header, 2)?,
            coverage: number(header, 4)?,
            checksum: number(header, 6)?,
        })
    }
}

/// DCCP (RFC 4340): what every packet has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Dccp {
    /// Who sent it.
    pub source_port: u16,
    /// Who it is for.
    pub destination_port: u16,
    /// What kind of packet, 0 to 15 (section 5.1).
    pub packet_type: u8,
}

impl Dccp {
    pub(super) fn read(header: &[u8]) -> Result<Self, Undecoded> {
        let [packet_type] = bytes(header, 8)?;
        Ok(Self {
            source_port: number(header, 0)?,
            destination_port: number(header, 2)?,
            packet_type: packet_type >> 1 & 0x0f,
        })
    }
}

/// SCTP (RFC 9260): the common header; its chunks are data here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sctp {
    /// Who sent it.
    pub source_port: u16,
    /// Who it is for.
    pub destination_port: u16,
    /// What tells this association from one before.
    pub verification_tag: u32,
    /// The checksum, which is not verified.
    pub checksum: u32,
}

impl Sctp {
    pub(super) fn read(header: &[u8]) -> Result<Self, Undecoded> {
        Ok(Self {
            source_port: number(header, 0)?,
            destination_port: number(header, 2)?,
            verification_tag: u32::from_be_bytes(bytes(header, 4)?),
            checksum: u32::from_be_bytes(bytes(header, 8)?),
        })
    }
}

/// ICMP (RFC 792) or ICMPv6 (RFC 4443).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Icmp {
    /// What kind of message.
    pub icmp_type: u8,
    /// Which of that kind.
    pub code: u8,
    /// The checksum, which is not verified; none where it was not captured.
    pub checksum: Option<u16>,
    /// Whose echo it is, and which; none in other messages.
    pub echo: Option<Echo>,
}

/// What a request for an echo has, and the answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Echo {
    /// Whose it is.
    pub identifier: u16,
    /// Which of those.
    pub sequence: u16,
}

impl Icmp {
    /// Echoes are of these types.
    pub(super) fn read(header: &[u8], echoes: [u8; 2]) -> Result<Self, Undecoded> {
        let [icmp_type, code] = bytes(header, 0)?;
        let echo = match (number(header, 4), number(header, 6)) {
            (Ok(identifier), Ok(sequence)) if echoes.contains(&icmp_type) => {
                Some(Echo { identifier, sequence })
            }
            _ => None,
        };
        Ok(Self { icmp_type, code, checksum: number(header, 2).ok(), echo })
    }
}
