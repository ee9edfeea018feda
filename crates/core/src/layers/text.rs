//! Layers as a line of text, from the outside in. Everything in it is a number, an address or a word of
//! ours: there is nothing in it that somebody else chose the letters of.

use std::fmt::{self, Display, Formatter};

use super::{Fields, Hex, Ipv4Option, Layers, TcpOption};
use crate::packet::{MacAddress, TcpFlags};

impl Display for Layers<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, layer) in self.layers().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            layer.fields.fmt(f)?;
            if matches!(layer.fields, Fields::Unknown { .. } | Fields::Malformed { .. }) {
                write!(f, " {}", layer.bytes.len())?;
            }
        }
        match self.trailer().len() {
            0 => Ok(()),
            octets => write!(f, ", trailer {octets}"),
        }
    }
}

/// The kind of the layer and the main things that it says.
impl Display for Fields<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback(it) => write!(f, "loopback family {}", it.family),
            Self::Ethernet(it) => write!(f, "eth {} > {}", it.source, it.destination),
            Self::Vlan(it) => write!(f, "vlan {}", it.identifier),
            Self::Mpls(it) => write!(f, "mpls {}", it.label),
            Self::ControlWord(it) => write!(f, "control word seq {}", it.sequence),
            Self::Pppoe(it) => write!(f, "pppoe session {}", it.session),
            Self::Ppp(it) => write!(f, "ppp 0x{:04x}", it.protocol),
            Self::Hdlc(it) => write!(f, "hdlc {:02x}{:02x}", it.address, it.control),
            Self::Sll(it) | Self::Sll2(it) => {
                write!(f, "sll {}", packet_type(it.packet_type))?;
                write_some(f, " from ", it.source)?;
                write_some(f, " interface ", it.interface)
            }
            Self::Radiotap(it) => write!(f, "radiotap {}", it.length),
            Self::Wireless(it) => {
                let [receiver, transmitter, ..] = it.addresses.map(Option::unwrap_or_default);
                let (from, to): (MacAddress, MacAddress) = (transmitter, receiver);
                write!(f, "802.11 {from} > {to}")
            }
            Self::Snap(it) => write!(f, "snap 0x{:04x}", it.ether_type),
            Self::FabricPath(it) => write!(f, "fabricpath {} > {}", it.source, it.destination),
            Self::Arp(it) => match it.operation {
                1 => write!(f, "arp who has {} tell {}", it.target_address, it.sender_address),
                2 => write!(f, "arp {} is at {}", it.sender_address, it.sender),
                other => write!(f, "arp operation {other}"),
            },
            Self::Ipv4(it) => {
                write!(
                    f,
                    "ip {} > {} ttl {} id {}",
                    it.source, it.destination, it.ttl, it.identification
                )?;
                if it.fragment_offset > 0 || it.more_fragments {
                    let more = if it.more_fragments { "+" } else { "" };
                    write!(f, " fragment {}{more}", it.fragment_offset)?;
                }
                list(f, it.options.iter())
            }
            Self::Ipv6(it) => {
                write!(f, "ip6 {} > {} hlim {}", it.source, it.destination, it.hop_limit)
            }
            Self::Extension(it) => write!(f, "extension {}", it.header.0),
            Self::Fragment(it) => {
                let more = if it.more { "+" } else { "" };
                write!(f, "fragment {}{more} id {}", it.offset, it.identification)
            }
            Self::Authentication(it) => {
                write!(f, "ah spi {} seq {}", it.security_parameters, it.sequence)
            }
            Self::Tcp(it) => {
                write!(f, "tcp {} > {} [", it.source_port, it.destination_port)?;
                letters(it.flags).try_for_each(|letter| f.write_str(letter))?;
                write!(f, "] seq {}", it.sequence)?;
                if it.flags.has(TcpFlags::ACK) {
                    write!(f, " ack {}", it.acknowledgment)?;
                }
                write!(f, " win {}", it.window)?;
                list(f, it.options.iter())
            }
            Self::Udp(it) => write!(f, "udp {} > {}", it.source_port, it.destination_port),
            Self::UdpLite(it) => write!(f, "udplite {} > {}", it.source_port, it.destination_port),
            Self::Dccp(it) => {
                write!(
                    f,
                    "dccp {} > {} type {}",
                    it.source_port, it.destination_port, it.packet_type
                )
            }
            Self::Sctp(it) => write!(f, "sctp {} > {}", it.source_port, it.destination_port),
            Self::Icmp(it) | Self::Icmpv6(it) => {
                let version = if matches!(self, Self::Icmp(_)) { "" } else { "6" };
                write!(f, "icmp{version} type {} code {}", it.icmp_type, it.code)?;
                it.echo.map_or(Ok(()), |echo| {
                    write!(f, " echo id {} seq {}", echo.identifier, echo.sequence)
                })
            }
            Self::Gre(it) => {
                write!(f, "gre 0x{:04x}", it.ether_type)?;
                write_some(f, " key ", it.key)?;
                write_some(f, " seq ", it.sequence)
            }
            Self::Erspan(it) => write!(f, "erspan session {} vlan {}", it.session, it.vlan),
            Self::Vxlan(it) => write!(f, "vxlan {}", it.network),
            Self::Geneve(it) => write!(f, "geneve {}", it.network),
            Self::GtpU(it) => write!(f, "gtp-u {}", it.endpoint),
            Self::Teredo(_) => f.write_str("teredo"),
            Self::Data { octets } => write!(f, "data {octets}"),
            Self::Unknown { reason } => write!(f, "unknown ({})", reason.name()),
            Self::Malformed { reason } => write!(f, "malformed ({})", reason.name()),
        }
    }
}

fn packet_type(number: u8) -> &'static str {
    match number {
        0 => "in",
        1 => "broadcast",
        2 => "multicast",
        3 => "other host",
        4 => "out",
        _ => "other",
    }
}

fn write_some(f: &mut Formatter<'_>, name: &str, value: Option<impl Display>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, "{name}{value}"))
}

/// Options in brackets, if there are any.
fn list(f: &mut Formatter<'_>, options: impl Iterator<Item = impl Display>) -> fmt::Result {
    let mut any = false;
    for option in options {
        write!(f, "{}{option}", if any { "," } else { " <" })?;
        any = true;
    }
    f.write_str(if any { ">" } else { "" })
}

/// A letter for each flag that is set.
fn letters(flags: TcpFlags) -> impl Iterator<Item = &'static str> {
    let letters = ["F", "S", "R", "P", ".", "U", "E", "W"];
    (0..8)
        .filter(move |bit| flags.0 >> bit & 1 != 0)
        .filter_map(move |bit| letters.get(bit).copied())
}

impl Display for TcpOption<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoOperation => f.write_str("nop"),
            Self::MaximumSegmentSize { octets } => write!(f, "mss {octets}"),
            Self::WindowScale { shift } => write!(f, "wscale {shift}"),
            Self::SackPermitted => f.write_str("sack permitted"),
            Self::Sack { blocks } => {
                f.write_str("sack")?;
                blocks.iter().try_for_each(|(first, behind)| write!(f, " {first}:{behind}"))
            }
            Self::Timestamps { value, echo } => write!(f, "ts {value} echo {echo}"),
            Self::Other { kind, data } => write!(f, "option {kind} {}", Hex(data)),
            Self::Malformed { bytes } => write!(f, "malformed {}", Hex(bytes)),
        }
    }
}

impl Display for Ipv4Option<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoOperation => f.write_str("nop"),
            Self::RouterAlert { value } => write!(f, "router alert {value}"),
            Self::Other { kind, data } => write!(f, "option {kind} {}", Hex(data)),
            Self::Malformed { bytes } => write!(f, "malformed {}", Hex(bytes)),
        }
    }
}
