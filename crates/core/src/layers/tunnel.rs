//! The layers that carry packets in packets.

use serde::Serialize;

use super::in_hex;
use crate::packet::{Undecoded, bytes, number};

/// Generic Routing Encapsulation (RFC 2784, RFC 2890, RFC 2637).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Gre {
    /// 0, or 1 as PPTP uses it.
    pub version: u8,
    /// What it carries, by Ethernet's numbers.
    pub ether_type: u16,
    /// The checksum, which is not verified.
    pub checksum: Option<u16>,
    /// The key; of version 1 the payload's length and the call.
    pub key: Option<u32>,
    /// The sequence number.
    pub sequence: Option<u32>,
    /// The acknowledgment number, of version 1.
    pub acknowledgment: Option<u32>,
}

impl Gre {
    pub(super) fn read(header: &[u8]) -> Result<Self, Undecoded> {
        let flags = number(header, 0)?;
        let version = (flags & 7) as u8;
        let mut at = 4;
        let mut word = |bit: u16| {
            (flags & bit != 0)
                .then(|| {
                    at += 4;
                    bytes(header, at - 4).map(u32::from_be_bytes)
                })
                .transpose()
        };
        let checksum = if version == 0 { word(0x8000)? } else { None };
        let (key, sequence) = (word(0x2000)?, word(0x1000)?);
        let acknowledgment = if version == 1 { word(0x80)? } else { None };
        Ok(Self {
            version,
            ether_type: number(header, 2)?,
            checksum: checksum.map(|word| (word >> 16) as u16),
            key,
            sequence,
            acknowledgment,
        })
    }
}

/// ERSPAN, types II and III: a frame that was seen at a port of a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Erspan {
    /// 1 is type II, 2 is type III.
    pub version: u8,
    /// The VLAN it was seen in.
    pub vlan: u16,
    /// Which session.
    pub session: u16,
}

impl Erspan {
    pub(super) fn read(header: &[u8]) -> Result<Self, Undecoded> {
        let (vlan, session) = (number(header, 0)?, number(header, 2)?);
        Ok(Self { version: (vlan >> 12) as u8, vlan: vlan & 0xfff, session: session & 0x3ff })
    }
}

/// VXLAN (RFC 7348).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Vxlan {
    /// The flags.
    pub flags: u8,
    /// The network identifier, of 24 bits.
    pub network: u32,
}

impl Vxlan {
    pub(super) fn read(header: &[u8]) -> Result<Self, Undecoded> {
        let [flags, _, _, _, a, b, c, _] = bytes(header, 0)?;
        Ok(Self { flags, network: u32::from_be_bytes([0, a, b, c]) })
    }
}

/// Geneve (RFC 8926).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Geneve<'a> {
    /// What it carries, by Ethernet's numbers.
    pub ether_type: u16,
    /// The network identifier, of 24 bits.
    pub network: u32,
    /// The options as they are in it.
    #[serde(serialize_with = "in_hex")]
    pub options: &'a [u8],
}

impl<'a> Geneve<'a> {
    pub(super) fn read(header: &'a [u8]) -> Result<Self, Undecoded> {
        let [_, _, high, low, a, b, c, _] = bytes(header, 0)?;
        Ok(Self {
            ether_type: u16::from_be_bytes([high, low]),
            network: u32::from_be_bytes([0, a, b, c]),
            options: header.get(8..).unwrap_or_default(),
        })
    }
}

/// GTP-U (3GPP TS 29.281), with its extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GtpU {
    /// What kind of message: 255 carries a packet.
    pub message: u8,
    /// The tunnel endpoint identifier of who receives it.
    pub endpoint: u32,
    /// The sequence number.
    pub sequence: Option<u16>,
}

impl GtpU {
    pub(super) fn read(header: &[u8]) -> Result<Self, Undecoded> {
        let [flags, message] = bytes(header, 0)?;
        Ok(Self {
            message,
            endpoint: u32::from_be_bytes(bytes(header, 4)?),
            sequence: (flags & 0x02 != 0).then(|| number(header, 8)).transpose()?,
        })
    }
}

/// Teredo (RFC 4380): what may be in front of its IPv6 packet, mostly nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Teredo {
    /// Whether it is authenticated (section 5.1.1).
    pub authentication: bool,
    /// Whether it says where the packet came from.
    pub origin: bool,
}

impl Teredo {
    pub(super) fn read(header: &[u8]) -> Result<Self, Undecoded> {
        let authentication = header.starts_with(&[0, 1]);
        // That takes 13 octets and two fields that may be empty; the origin 8, which are the last.
        let origin = match (authentication, header.len()) {
            (false, length) => length > 0,
            (true, _) => {
                let [_, _, client, value] = bytes(header, 0)?;
                header.len() > 13 + usize::from(client) + usize::from(value)
            }
        };
        Ok(Self { authentication, origin })
    }
}
