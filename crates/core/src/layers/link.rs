//! The layers below IP: what carries packets from one machine to the next, tags and labels, and ARP.

use std::net::Ipv4Addr;

use etherparse::{Ethernet2HeaderSlice, SingleVlanSlice};
use serde::Serialize;

use crate::packet::{MacAddress, Undecoded, bytes, number};

/// BSD loopback: an address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Loopback {
    /// The family, by the numbers of the machine that captured, read in the byte order in which it is the
    /// smaller number.
    pub family: u32,
}

impl Loopback {
    pub(super) fn read(header: &[u8]) -> Result<Self, Undecoded> {
        let family: [u8; 4] = bytes(header, 0)?;
        Ok(Self { family: u32::from_le_bytes(family).min(u32::from_be_bytes(family)) })
    }
}

/// Ethernet (IEEE 802.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ethernet {
    /// Who it is for.
    pub destination: MacAddress,
    /// Who sent it.
    pub source: MacAddress,
    /// What it carries; up to 1500 it is a length, and IEEE 802.2 follows.
    pub ether_type: u16,
}

impl Ethernet {
    pub(super) fn read(header: &[u8]) -> Result<Self, Undecoded> {
        let header =
            Ethernet2HeaderSlice::from_slice(header).map_err(|_| Undecoded::CapturedShort)?;
        Ok(Self {
            destination: MacAddress(header.destination()),
            source: MacAddress(header.source()),
            ether_type: header.ether_type().0,
        })
    }
}

/// A VLAN tag (IEEE 802.1Q). Of several (802.1ad) each is a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Vlan {
    /// The priority code point, 0 to 7.
    pub priority: u8,
    /// Whether it may be dropped before others.
    pub drop_eligible: bool,
    /// The VLAN identifier, 0 to 4095.
    pub identifier: u16,
    /// What it carries, as in [`Ethernet`].
    pub ether_type: u16,
}

impl Vlan {
    pub(super) fn read(header: &[u8]) -> Result<Self, Undecoded> {
        let tag = SingleVlanSlice::from_slice(header).map_err(|_| Undecoded::CapturedShort)?;
        Ok(Self {
            priority: tag.priority_code_point().value(),
            drop_eligible: tag.drop_eligible_indicator(),
            identifier: tag.vlan_identifier().value(),
            ether_type: tag.ether_type().0,
        })
    }
}

/// An entry of MPLS's label stack (RFC 3032). Each is a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Mpls {
    /// The label, of 20 bits.
    pub label: u32,
    /// The traffic class (RFC 5462), 0 to 7.
    pub traffic_class: u8,
    /// Whether it is the last one.
    pub bottom: bool,
    /// Time to live.
    pub ttl: u8,
}

impl Mpls {
    pub(super) fn read(header: &[u8]) -> Result<Self, Undecoded> {
        let entry: [u8; 4] = bytes(header, 0)?;
        let [_, _, low, ttl] = entry;
        Ok(Self {
            label: u32::from_be_bytes(entry) >> 12,
            traffic_class: low >> 1 & 7,
            bottom: low & 1 != 0,
            ttl,
        })
    }
}

/// The control word of a pseudowire (RFC 4385).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ControlWord {
    /// The sequence number; 0 where none is used.
    pub sequence: u16,
}

impl ControlWord {
    pub(super) fn read(header: &[u8]) -> Result<Self, Undecoded> {
        Ok(Self { sequence: number(header, 2)? })
    }
}

/// PPP over Ethernet (RFC 2516).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pppoe {
    /// What kind of message; 0 is data of a session.
    pub code: u8,
    /// Which session.
    pub session: u16,
    /// How long the PPP packet is by this header.
    pub length: u16,
}

impl Pppoe {
    pub(super) fn read(header: &[u8]) -> Result<Self, Undecoded> {
        let [_, code] = bytes(header, 0)?;
        Ok(Self { code, session: number(header, 2)?, length: number(header, 4)? })
    }
}

/// PPP (RFC 1661).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ppp {
    /// What it carries, whether it was compressed to one octet or not.
    pub protocol: u16,
}

impl Ppp {
    pub(super) fn read(header: &[u8]) -> Result<Self, Undecoded> {
        let protocol = match header {
            [protocol] => u16::from(*protocol),
            _ => number(header, 0)?,
        };
        Ok(Self { protocol })
    }
}

/// HDLC: what PPP is framed by (RFC 1662), or Cisco's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Hdlc {
    /// Who it is for.
    pub address: u8,
    /// What kind of frame it is.
    pub control: u8,
    /// What it carries, by Ethernet's numbers; Cisco's only.
    pub ether_type: Option<u16>,
}

impl Hdlc {
    pub(super) fn read(header: &[u8]) -> Result<Self, Undecoded> {
        let [address, control] = bytes(header, 0)?;
        Ok(Self { address, control, ether_type: number(header, 2).ok() })
    }
}

/// Linux's "cooked" capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sll {
    /// For whom it was: 0 for this host, 1 for all, 2 for some, 3 for others, 4 from this host.
    pub packet_type: u8,
    /// What hardware it is (ARPHRD_...).
    pub hardware: u16,
    /// Who sent it, where that is an address of 48 bits.
    pub source: Option<MacAddress>,
    /// What it carries: mostly by Ethernet's numbers.
    pub protocol: u16,
    /// The number of the interface; version 2 only.
    pub interface: Option<u32>,
}

impl Sll {
    pub(super) fn read(header: &[u8]) -> Result<Self, Undecoded> {
        let [_, packet_type] = bytes(header, 0)?;
        let six = number(header, 4)? == 6;
        Ok(Self {
            packet_type,
            hardware: number(header, 2)?,
            source: six.then(|| bytes(header, 6).map(MacAddress)).transpose()?,
            protocol: number(header, 14)?,
            interface: None,
        })
    }

    pub(super) fn read_version_2(header: &[u8]) -> Result<Self, Undecoded> {
        let [packet_type, length] = bytes(header, 10)?;
        Ok(Self {
            packet_type,
            hardware: number(header, 8)?,
            source: (length == 6).then(|| bytes(header, 12).map(MacAddress)).transpose()?,
            protocol: number(header, 0)?,
            interface: Some(u32::from_be_bytes(bytes(header, 4)?)),
        })
    }
}

/// What a radio measured of a frame; only its length is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Radiotap {
    /// How long it is, in octets.
    pub length: u16,
}

impl Radiotap {
    pub(super) fn read(header: &[u8]) -> Result<Self, Undecoded> {
        Ok(Self { length: bytes(header, 2).map(u16::from_le_bytes)? })
    }
}

/// A data frame of 802.11 (IEEE 802.11-2020, section 9.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Wireless {
    /// The frame control field; its first octet is the lower one.
    pub control: u16,
    /// Up to four addresses: who receives it here, who transmits it here, and who it is for or from beyond.
    pub addresses: [Option<MacAddress>; 4],
}

impl Wireless {
    pub(super) fn read(header: &[u8]) -> Result<Self, Undecoded> {
        let control = bytes(header, 0).map(u16::from_le_bytes)?;
        let address = |at| bytes(header, at).map(|address| Some(MacAddress(address)));
        let fourth = if control & 0x0300 == 0x0300 { address(24)? } else { None };
        Ok(Self { control, addresses: [address(4)?, address(10)?, address(16)?, fourth] })
    }
}

/// IEEE 802.2 with a SNAP header (RFC 1042).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Snap {
    /// Whose numbers `ether_type` is of: 0, or 0xf8 of bridges.
    pub organisation: u32,
    /// What it carries.
    pub ether_type: u16,
}

impl Snap {
    pub(super) fn read(header: &[u8]) -> Result<Self, Undecoded> {
        let [a, b, c] = bytes(header, 3)?;
        let organisation = u32::from_be_bytes([0, a, b, c]);
        Ok(Self { organisation, ether_type: number(header, 6)? })
    }
}

/// Cisco's FabricPath: a tag, and the header of the Ethernet frame behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FabricPath {
    /// The forwarding tag and time to live, of 10 and 6 bits.
    pub tag: u16,
    /// Who the frame inside is for.
    pub destination: MacAddress,
    /// Who sent it.
    pub source: MacAddress,
    /// What it carries.
    pub ether_type: u16,
}

impl FabricPath {
    pub(super) fn read(header: &[u8]) -> Result<Self, Undecoded> {
        Ok(Self {
            tag: number(header, 0)?,
            destination: bytes(header, 2).map(MacAddress)?,
            source: bytes(header, 8).map(MacAddress)?,
            ether_type: number(header, 14)?,
        })
    }
}

/// ARP (RFC 826) for IPv4 over Ethernet; other kinds are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Arp {
    /// What is said: 1 asks, 2 answers.
    pub operation: u16,
    /// The sender's address on the link.
    pub sender: MacAddress,
    /// The sender's address.
    pub sender_address: Ipv4Addr,
    /// The target's address on the link; what is asked for.
    pub target: MacAddress,
    /// The target's address.
    pub target_address: Ipv4Addr,
}

impl Arp {
    pub(super) fn read(packet: &[u8]) -> Result<Self, Undecoded> {
        // Ethernet, IPv4, addresses of 6 and 4 octets.
        if bytes(packet, 0)? != [0, 1, 8, 0, 6, 4] {
            return Err(Undecoded::NotIp);
        }
        let address = |at| bytes::<4>(packet, at).map(Ipv4Addr::from);
        Ok(Self {
            operation: number(packet, 6)?,
            sender: bytes(packet, 8).map(MacAddress)?,
            sender_address: address(14)?,
            target: bytes(packet, 18).map(MacAddress)?,
            target_address: address(24)?,
        })
    }
}
