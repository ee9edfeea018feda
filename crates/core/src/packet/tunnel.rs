//! A tunnel carries packets as the payload of others.
//!
//! Flows are made of the innermost packet that can be read. Its link layer is that of the innermost
//! Ethernet frame: a tunnel that carries frames (VXLAN) has one of its own, one that carries packets
//! (GTP-U) leaves that of the frame outside. MPLS, PPPoE and VLANs are no tunnels here but tags of the
//! link layer; there is no packet outside of them.
//!
//! A fragment of the packet outside is never looked into: its other fragments could not be told to carry
//! the same, so that all of them count as what carries.

use super::network::{self, Fragment};
use super::trace::{Header, Trace};
use super::{Packet, Undecoded, Whole, bytes, link, number};
use crate::key::Protocol;

/// What a packet was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tunnel(u8);

impl Tunnel {
    /// In the frame itself.
    pub const NONE: Self = Self(0);
    /// IP in IP: IPv4 (RFC 2003) or IPv6 (RFC 2473, RFC 4213) in either of them.
    pub const IP_IN_IP: Self = Self(1);
    /// Generic Routing Encapsulation (RFC 2784, RFC 2890, RFC 2637) and ERSPAN over it.
    pub const GRE: Self = Self(2);
    /// VXLAN (RFC 7348).
    pub const VXLAN: Self = Self(3);
    /// Geneve (RFC 8926).
    pub const GENEVE: Self = Self(4);
    /// GTP-U (3GPP TS 29.281).
    pub const GTP_U: Self = Self(5);
    /// Teredo (RFC 4380).
    pub const TEREDO: Self = Self(6);

    /// What it is called; empty for none.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::IP_IN_IP => "ip-in-ip",
            Self::GRE => "gre",
            Self::VXLAN => "vxlan",
            Self::GENEVE => "geneve",
            Self::GTP_U => "gtp-u",
            Self::TEREDO => "teredo",
            _ => "",
        }
    }
}

/// IANA's numbers; the second is what Linux used for VXLAN before there was one.
const VXLAN_PORTS: [u16; 2] = [4789, 8472];
const GENEVE_PORT: u16 = 6081;
const GTP_U_PORT: u16 = 2152;
const TEREDO_PORT: u16 = 3544;

const TRANSPARENT_ETHERNET: u16 = 0x6558;

/// The packet inside of this one, if it carries one that can be read.
#[inline]
pub(super) fn open(packet: &Packet, frame: &[u8], trace: &mut impl Trace) -> Option<Packet> {
    match packet.protocol {
        Protocol(4 | 41 | 47) | Protocol::UDP => {}
        _ => return None,
    }
    if matches!(packet.fragment, Some(Fragment { .. })) {
        return None;
    }
    // What is inside ends where that does: behind it is padding, whatever it looks like.
    let frame = frame.get(..packet.payload.1 as usize)?;
    let at = packet.payload.0 as usize;
    match packet.protocol {
        Protocol(4 | 41) => {
            carried(packet, frame, Tunnel::IP_IN_IP, 0, Carried::Packet { at }, trace)
        }
        Protocol(47) => gre(packet, frame, at, trace),
        _ => {
            let port = packet.destination_port;
            if VXLAN_PORTS.contains(&port) {
                vxlan(packet, frame, at, trace)
            } else if port == GENEVE_PORT {
                geneve(packet, frame, at, trace)
            } else if port == GTP_U_PORT || packet.source_port == GTP_U_PORT {
                gtp_u(packet, frame, at, trace)
            } else if port == TEREDO_PORT || packet.source_port == TEREDO_PORT {
                teredo(packet, frame, at, trace)
            } else {
                None
            }
        }
    }
}

enum Carried {
    Packet { at: usize },
    Frame { at: usize },
    OfType { at: usize, ether_type: u16 },
    Ppp { at: usize },
}

/// What is carried, if it is a packet.
fn carried(
    outside: &Packet,
    frame: &[u8],
    tunnel: Tunnel,
    virtual_network: u32,
    what: Carried,
    trace: &mut impl Trace,
) -> Option<Packet> {
    match inside(outside, frame, what, trace) {
        Ok(packet) => Some(Packet { tunnel, virtual_network, ..packet }),
        Err(why) => {
            trace.undecoded(why);
            None
        }
    }
}

fn inside(
    outside: &Packet,
    frame: &[u8],
    what: Carried,
    trace: &mut impl Trace,
) -> Result<Packet, Undecoded> {
    let mut link = outside.link;
    let inside = match what {
        Carried::Packet { at } => link::Inside::Ip { at },
        Carried::Frame { at } | Carried::OfType { at, ether_type: TRANSPARENT_ETHERNET } => {
            let (opened, inside) = link::ethernet(frame, at, trace)?;
            link = opened;
            inside
        }
        Carried::OfType { at, ether_type } => {
            link::of_type(frame, at, ether_type, &mut link, trace)?
        }
        Carried::Ppp { at } => link::ppp(frame, at, &mut link, trace)?,
    };
    let link::Inside::Ip { at } = inside else { return Err(Undecoded::NotIp) };
    let whole = Whole { time: outside.time, lengths: outside.lengths, link };
    let mut packet = Packet::BLANK;
    network::open(whole, frame, at, &mut packet, trace)?;
    Ok(packet)
}

/// RFC 2784, with key and sequence number (RFC 2890), and as PPTP uses it (RFC 2637).
fn gre(packet: &Packet, frame: &[u8], at: usize, trace: &mut impl Trace) -> Option<Packet> {
    let (flags, kind) = (number(frame, at).ok()?, number(frame, at + 2).ok()?);
    let has = |bit: u16| usize::from(flags & bit != 0) * 4;
    let routing = flags & 0x4000 != 0;
    let (checksum, key, sequence) = (has(0x8000), has(0x2000), has(0x1000));
    let inside = match (flags & 7, kind) {
        (1, 0x880b) => {
            let length = 4 + key + sequence + has(0x80);
            trace.header(Header::Gre, at, length);
            Carried::Ppp { at: at + length }
        }
        (0, _) if routing => return None,
        (0, _) => {
            let length = 4 + checksum + key + sequence;
            trace.header(Header::Gre, at, length);
            let at = at + length;
            match kind {
                // ERSPAN type II has a header of its own and a sequence number in front; type I neither.
                0x88be if sequence > 0 => {
                    trace.header(Header::Erspan, at, 8);
                    Carried::Frame { at: at + 8 }
                }
                0x88be => Carried::Frame { at },
                // Type III: 12 bytes, and 8 more if its last bit says so.
                0x22eb => {
                    let [more] = bytes(frame, at + 11).ok()?;
                    let length = 12 + usize::from(more & 1) * 8;
                    trace.header(Header::Erspan, at, length);
                    Carried::Frame { at: at + length }
                }
                ether_type => Carried::OfType { at, ether_type },
            }
        }
        _ => return None,
    };
    carried(packet, frame, Tunnel::GRE, 0, inside, trace)
}

/// RFC 7348 section 5.
fn vxlan(packet: &Packet, frame: &[u8], at: usize, trace: &mut impl Trace) -> Option<Packet> {
    let [flags, _, _, _, a, b, c, _] = bytes(frame, at).ok()?;
    if flags & 0x08 == 0 {
        return None;
    }
    let network = u32::from_be_bytes([0, a, b, c]);
    trace.header(Header::Vxlan, at, 8);
    carried(packet, frame, Tunnel::VXLAN, network, Carried::Frame { at: at + 8 }, trace)
}

/// RFC 8926 section 3.4.
fn geneve(packet: &Packet, frame: &[u8], at: usize, trace: &mut impl Trace) -> Option<Packet> {
    let [start, _, high, low, a, b, c, _] = bytes(frame, at).ok()?;
    if start >> 6 != 0 {
        return None;
    }
    let length = 8 + usize::from(start & 0x3f) * 4;
    trace.header(Header::Geneve, at, length);
    let (at, ether_type) = (at + length, u16::from_be_bytes([high, low]));
    let network = u32::from_be_bytes([0, a, b, c]);
    carried(packet, frame, Tunnel::GENEVE, network, Carried::OfType { at, ether_type }, trace)
}

/// TS 29.281 section 5: version 1, a G-PDU. (Tunnel endpoint identifiers differ by direction: they are no
/// part of who talks to whom.)
fn gtp_u(packet: &Packet, frame: &[u8], start: usize, trace: &mut impl Trace) -> Option<Packet> {
    let [flags, message, ..] = bytes::<8>(frame, start).ok()?;
    if flags & 0xf0 != 0x30 || message != 0xff {
        return None;
    }
    let mut at = start + 8;
    if flags & 0x07 != 0 {
        let [_, _, _, mut next] = bytes(frame, at).ok()?;
        at += 4;
        let mut extensions = 0;
        while next != 0 && flags & 0x04 != 0 {
            // Its length in words, itself included; the type of the next one is its last byte.
            let [words] = bytes(frame, at).ok()?;
            extensions += 1;
            if words == 0 || extensions > super::DEPTH {
                return None;
            }
            at += usize::from(words) * 4;
            [next] = bytes(frame, at - 1).ok()?;
        }
    }
    trace.header(Header::GtpU, start, at - start);
    carried(packet, frame, Tunnel::GTP_U, 0, Carried::Packet { at }, trace)
}

/// RFC 4380 section 5.1.1: authentication and origin may come in front.
fn teredo(packet: &Packet, frame: &[u8], begin: usize, trace: &mut impl Trace) -> Option<Packet> {
    let mut at = begin;
    if let [0, 1, client, value] = bytes(frame, at).ok()? {
        at += 4 + usize::from(client) + usize::from(value) + 9;
    }
    if number(frame, at).ok()? == 0 {
        at += 8;
    }
    // Many things use this port: it is IPv6 that fills the datagram, or no Teredo.
    let [start] = bytes(frame, at).ok()?;
    let length = u32::from(number(frame, at + 4).ok()?);
    let left = (packet.lengths.payload + packet.payload.0).checked_sub(network::index(at))?;
    if start >> 4 != 6 || left != 40 + length {
        return None;
    }
    trace.header(Header::Teredo, begin, at - begin);
    carried(packet, frame, Tunnel::TEREDO, 0, Carried::Packet { at }, trace)
}
