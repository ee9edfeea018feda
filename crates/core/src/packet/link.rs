//! The link layer: what carries IP packets from one machine to the next, and the tags in front of them.
//!
//! Link types are numbered by the LINKTYPE registry (tcpdump.org/linktypes.html), which capture files
//! use; a few are different as DLT values on some systems, and those are accepted too.

use std::fmt;

use etherparse::{Ethernet2HeaderSlice, SingleVlanSlice};
use serde::{Serialize, Serializer};

use super::trace::{Header, Trace};
use super::{DEPTH, Undecoded, bytes, number};

/// What kind of frames a capture has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkType(pub u32);

impl LinkType {
    /// BSD loopback: an address family in the byte order of the machine that captured.
    pub const NULL: Self = Self(0);
    /// Ethernet (IEEE 802.3).
    pub const ETHERNET: Self = Self(1);
    /// PPP (RFC 1661), with or without the framing of RFC 1662.
    pub const PPP: Self = Self(9);
    /// IP, 4 or 6 by its first bits.
    pub const RAW: Self = Self(101);
    /// PPP in HDLC-like framing, or Cisco's.
    pub const PPP_HDLC: Self = Self(50);
    /// PPP over Ethernet without Ethernet's header (RFC 2516).
    pub const PPP_ETHER: Self = Self(51);
    /// Cisco's HDLC.
    pub const C_HDLC: Self = Self(104);
    /// 802.11.
    pub const IEEE802_11: Self = Self(105);
    /// OpenBSD loopback: an address family in network byte order.
    pub const LOOP: Self = Self(108);
    /// Linux "cooked" capture (the device `any`).
    pub const LINUX_SLL: Self = Self(113);
    /// 802.11 behind a radiotap header.
    pub const IEEE802_11_RADIOTAP: Self = Self(127);
    /// IPv4.
    pub const IPV4: Self = Self(228);
    /// IPv6.
    pub const IPV6: Self = Self(229);
    /// Linux "cooked" capture, version 2.
    pub const LINUX_SLL2: Self = Self(276);
}

/// A 48-bit address of a network interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Serialize for MacAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What the link layer says of a frame; what it does not say is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Who sent the frame on this link.
    pub source: MacAddress,
    /// Who it is for on this link.
    pub destination: MacAddress,
    /// The outer and the inner VLAN identifier (IEEE 802.1Q, 802.1ad), 0 where there is none.
    pub vlans: [u16; 2],
}

/// What a frame carries.
pub(super) enum Inside {
    /// An IP packet, from there on.
    Ip {
        at: usize,
    },
    Other,
}

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// Customer tag, service tag (802.1ad), and what was used before that was agreed.
const VLANS: [u16; 3] = [0x8100, 0x88a8, 0x9100];
const MPLS: [u16; 2] = [0x8847, 0x8848];
/// No IP, but the layer beside it: only a trace is told of it.
const ARP: u16 = 0x0806;
const PPPOE_SESSION: u16 = 0x8864;
const MACSEC: u16 = 0x88e5;
/// Cisco's FabricPath: a tag of two bytes, and the frame that it carries.
const FABRIC_PATH: u16 = 0x8903;

/// Opens the frame of a capture.
pub(super) fn open(
    link_type: LinkType,
    frame: &[u8],
    trace: &mut impl Trace,
) -> Result<(Link, Inside), Undecoded> {
    let mut link = Link::default();
    let ip = |at| Ok((link, Inside::Ip { at }));
    let inside = match link_type {
        LinkType::ETHERNET => {
            return ethernet(frame, 0, trace);
        }
        // 12 and 14 are DLT_RAW of some systems.
        LinkType::RAW | LinkType::IPV4 | LinkType::IPV6 | LinkType(12 | 14) => return ip(0),
        LinkType::NULL | LinkType::LOOP => {
            // The numbers of AF_INET6 are those of NetBSD, FreeBSD, Darwin and Linux. None of them, nor
            // AF_INET, is one of another in the other byte order.
            let family: [u8; 4] = bytes(frame, 0)?;
            let family = u32::from_le_bytes(family).min(u32::from_be_bytes(family));
            trace.header(Header::Loopback, 0, 4);
            if matches!(family, 2 | 10 | 24 | 28 | 30) {
                Inside::Ip { at: 4 }
            } else {
                Inside::Other
            }
        }
        LinkType::PPP | LinkType::PPP_HDLC => {
            let start: [u8; 2] = bytes(frame, 0)?;
            match start {
                [0xff, 0x03] => {
                    trace.header(Header::Hdlc, 0, 2);
                    ppp(frame, 2, &mut link, trace)?
                }
                // Cisco's framing, which captures of either type have.
                [0x0f | 0x8f, 0x00] => hdlc(frame, &mut link, trace)?,
                _ => ppp(frame, 0, &mut link, trace)?,
            }
        }
        LinkType::PPP_ETHER => of_type(frame, 0, PPPOE_SESSION, &mut link, trace)?,
        LinkType::C_HDLC => hdlc(frame, &mut link, trace)?,
        LinkType::LINUX_SLL => {
            let header: [u8; 16] = bytes(frame, 0)?;
            if header[4..6] == [0, 6] {
                link.source = MacAddress(bytes(frame, 6)?);
            }
            trace.header(Header::Sll, 0, 16);
            cooked(frame, 16, [header[2], header[3]], number(frame, 14)?, &mut link, trace)?
        }
        LinkType::LINUX_SLL2 => {
            let header: [u8; 20] = bytes(frame, 0)?;
            if header[11] == 6 {
                link.source = MacAddress(bytes(frame, 12)?);
            }
            trace.header(Header::Sll2, 0, 20);
            cooked(frame, 20, [header[8], header[9]], number(frame, 0)?, &mut link, trace)?
        }
        LinkType::IEEE802_11 => wireless(frame, 0, &mut link, trace)?,
        LinkType::IEEE802_11_RADIOTAP => radiotap(frame, 0, &mut link, trace)?,
        _ => return Err(Undecoded::LinkType),
    };
    Ok((link, inside))
}

/// What follows Linux's "cooked" header: an EtherType says what, unless the hardware is of a kind whose
/// numbers mean something else (ARPHRD_NETLINK, ARPHRD_IPGRE, and 802.11 with its own headers).
fn cooked(
    frame: &[u8],
    at: usize,
    hardware: [u8; 2],
    protocol: u16,
    link: &mut Link,
    trace: &mut impl Trace,
) -> Result<Inside, Undecoded> {
    match u16::from_be_bytes(hardware) {
        824 => Ok(Inside::Other),
        801 => wireless(frame, at, link, trace),
        803 => radiotap(frame, at, link, trace),
        _ => of_type(frame, at, protocol, link, trace),
    }
}

/// Cisco's HDLC: an address, a control octet and an EtherType.
fn hdlc(frame: &[u8], link: &mut Link, trace: &mut impl Trace) -> Result<Inside, Undecoded> {
    let ether_type = number(frame, 2)?;
    trace.header(Header::Hdlc, 0, 4);
    of_type(frame, 4, ether_type, link, trace)
}

/// An Ethernet frame that begins at `at`.
pub(super) fn ethernet(
    frame: &[u8],
    at: usize,
    trace: &mut impl Trace,
) -> Result<(Link, Inside), Undecoded> {
    let from = frame.get(at..).ok_or(Undecoded::CapturedShort)?;
    let header = Ethernet2HeaderSlice::from_slice(from).map_err(|_| Undecoded::CapturedShort)?;
    let mut link = Link {
        source: MacAddress(header.source()),
        destination: MacAddress(header.destination()),
        vlans: [0; 2],
    };
    trace.header(Header::Ethernet, at, 14);
    let inside = of_type(frame, at + 14, header.ether_type().0, &mut link, trace)?;
    Ok((link, inside))
}

/// What stands at `at` and is of this EtherType. What is in one another here (tags, labels, pseudowires,
/// PPPoE) is stepped over in one loop: a frame may be 16 MiB of it, and no stack is that deep.
pub(super) fn of_type(
    frame: &[u8],
    mut at: usize,
    mut ether_type: u16,
    link: &mut Link,
    trace: &mut impl Trace,
) -> Result<Inside, Undecoded> {
    let mut tags = 0;
    for _ in 0..DEPTH {
        match ether_type {
            IPV4 | IPV6 => return Ok(Inside::Ip { at }),
            _ if VLANS.contains(&ether_type) => {
                let from = frame.get(at..).ok_or(Undecoded::CapturedShort)?;
                let tag =
                    SingleVlanSlice::from_slice(from).map_err(|_| Undecoded::CapturedShort)?;
                // Of more than two the outermost and the innermost.
                link.vlans[usize::from(tags > 0)] = tag.vlan_identifier().value();
                tags += 1;
                ether_type = tag.ether_type().0;
                trace.header(Header::Tag, at, 4);
                at += 4;
            }
            _ if MPLS.contains(&ether_type) => {
                at = labels(frame, at, trace)?;
                // Nothing says what is below, so its first bits do (RFC 4928).
                let [first] = bytes(frame, at)?;
                match first >> 4 {
                    4 | 6 => return Ok(Inside::Ip { at }),
                    // A pseudowire's control word (RFC 4385), and mostly Ethernet behind it.
                    0 => {
                        ether_type = number(frame, at + 16)?;
                        trace.header(Header::ControlWord, at, 4);
                        trace.header(Header::Ethernet, at + 4, 14);
                        at += 18;
                        link.vlans = [0; 2];
                        tags = 0;
                    }
                    _ => return Ok(Inside::Other),
                }
            }
            PPPOE_SESSION => {
                let (protocol, inside) = ppp_protocol(frame, at + 6)?;
                trace.header(Header::Pppoe, at, 6);
                trace.header(Header::Ppp, at + 6, inside - at - 6);
                let Some(known) = ether_type_of_ppp(protocol) else { return Ok(Inside::Other) };
                (ether_type, at) = (known, inside);
            }
            MACSEC => return Err(Undecoded::Encrypted),
            FABRIC_PATH => {
                let inner: [u8; 16] = bytes(frame, at)?;
                let address = |at: usize| [0, 1, 2, 3, 4, 5].map(|i| inner[at + i]);
                link.destination = MacAddress(address(2));
                link.source = MacAddress(address(8));
                ether_type = u16::from_be_bytes([inner[14], inner[15]]);
                trace.header(Header::FabricPath, at, 16);
                at += 16;
            }
            // A length: IEEE 802.2 follows. RFC 1042: SNAP with the organisation 0, then the EtherType.
            0..=1500 => {
                let Ok([0xaa, 0xaa, 3, 0, 0, 0 | 0xf8]) = bytes(frame, at) else {
                    return Ok(Inside::Other);
                };
                ether_type = number(frame, at + 6)?;
                trace.header(Header::Snap, at, 8);
                at += 8;
            }
            ARP => {
                trace.header(Header::Arp, at, 28);
                return Ok(Inside::Other);
            }
            _ => return Ok(Inside::Other),
        }
    }
    Err(Undecoded::Malformed)
}

/// A PPP packet: a protocol of one byte or two (RFC 1661 section 2), then its payload.
pub(super) fn ppp(
    frame: &[u8],
    at: usize,
    link: &mut Link,
    trace: &mut impl Trace,
) -> Result<Inside, Undecoded> {
    let (protocol, inside) = ppp_protocol(frame, at)?;
    trace.header(Header::Ppp, at, inside - at);
    match ether_type_of_ppp(protocol) {
        Some(ether_type) => of_type(frame, inside, ether_type, link, trace),
        None => Ok(Inside::Other),
    }
}

fn ppp_protocol(frame: &[u8], at: usize) -> Result<(u16, usize), Undecoded> {
    let [first] = bytes(frame, at)?;
    // Compressed: the last byte of a protocol is odd, others are even (section 6.5).
    if first & 1 == 1 {
        return Ok((u16::from(first), at + 1));
    }
    Ok((number(frame, at)?, at + 2))
}

/// What Ethernet calls what PPP calls so, if flows are made of it.
fn ether_type_of_ppp(protocol: u16) -> Option<u16> {
    match protocol {
        0x0021 => Some(IPV4),
        0x0057 => Some(IPV6),
        // RFC 3032 section 4.1
        0x0281 => Some(MPLS[0]),
        0x0283 => Some(MPLS[1]),
        _ => None,
    }
}

/// Steps over MPLS labels (RFC 3032).
fn labels(frame: &[u8], mut at: usize, trace: &mut impl Trace) -> Result<usize, Undecoded> {
    for _ in 0..DEPTH {
        let label: [u8; 4] = bytes(frame, at)?;
        trace.header(Header::Label, at, 4);
        at += 4;
        if label[2] & 1 != 0 {
            return Ok(at);
        }
    }
    Err(Undecoded::Malformed)
}

/// What was measured of an 802.11 frame, and the frame: version, padding, and the length of it all in
/// little-endian.
fn radiotap(
    frame: &[u8],
    at: usize,
    link: &mut Link,
    trace: &mut impl Trace,
) -> Result<Inside, Undecoded> {
    let [_, _, low, high] = bytes(frame, at)?;
    let length = usize::from(u16::from_le_bytes([low, high]));
    trace.header(Header::Radiotap, at, length);
    wireless(frame, at + length, link, trace)
}

/// An 802.11 frame (IEEE 802.11-2020, section 9.2.3). Only data frames carry packets.
fn wireless(
    frame: &[u8],
    at: usize,
    link: &mut Link,
    trace: &mut impl Trace,
) -> Result<Inside, Undecoded> {
    let [control, flags] = bytes(frame, at)?;
    let (is_data, no_data) = (control & 0x0c == 0x08, control & 0x40 != 0);
    if control & 3 != 0 || !is_data || no_data {
        return Ok(Inside::Other);
    }
    if flags & 0x40 != 0 {
        return Err(Undecoded::Encrypted);
    }
    let address = |number: usize| bytes(frame, at + 4 + 6 * number).map(MacAddress);
    let (to, from) = (flags & 1 != 0, flags & 2 != 0);
    (link.destination, link.source) = match (to, from) {
        (false, false) => (address(0)?, address(1)?),
        (false, true) => (address(0)?, address(2)?),
        (true, false) => (address(2)?, address(1)?),
        // After the sequence control.
        (true, true) => (address(2)?, MacAddress(bytes(frame, at + 24)?)),
    };
    let mut header = if to && from { 30 } else { 24 };
    if control & 0x80 != 0 {
        // Quality of service; several packets may be packed into one frame, which is not undone.
        let [quality, _] = bytes(frame, at + header)?;
        if quality & 0x80 != 0 {
            return Ok(Inside::Other);
        }
        header += 2;
        // The order bit: a field for high throughput.
        header += if flags & 0x80 != 0 { 4 } else { 0 };
    }
    trace.header(Header::Wireless, at, header);
    of_type(frame, at + header, 0, link, trace)
}
