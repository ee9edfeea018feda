//! The claim about any frame: layers and the packet that flows are made of say the same, and no octet of the
//! frame is lost between them. For tests, and for the fuzzer, which compiles it in.

use std::net::IpAddr;

use procflow_core::layers::{Fields, Layer, Layers};
use procflow_core::packet::{Decoder, LinkType, Packet, Transport};
use procflow_core::{Protocol, Timestamp};

/// Checks it; gives how many layers there are.
#[allow(dead_code)]
pub(crate) fn agrees(link_type: LinkType, frame: &[u8], wire: u32) -> usize {
    let layers = Layers::of(link_type, Timestamp(7), frame, wire);
    let decoded = Decoder::default().decode(link_type, Timestamp(7), frame, wire);
    assert_eq!(layers.packet().copied(), decoded, "{layers}");
    let all: Vec<&Layer<'_>> = layers.layers().collect();
    let mut at = 0;
    for layer in &all {
        assert_eq!(layer.at, at, "{layers}");
        assert_eq!(layer.bytes, &frame[at..at + layer.bytes.len()], "{layers}");
        at += layer.bytes.len();
    }
    assert_eq!(&frame[at..], layers.trailer(), "{layers}");
    let text = layers.to_string();
    assert!(!text.contains(char::is_control) && text.is_ascii(), "{text:?}");

    let Some((last, _)) = all.split_last() else { panic!("no layers") };
    let unread = matches!(last.fields, Fields::Malformed { .. });
    let ips = all.iter().enumerate().filter(|(_, layer)| is_ip(layer)).map(|(index, _)| index);
    let ips: Vec<usize> = ips.collect();
    let Ok(packet) = decoded else {
        // At most a packet whose transport cannot be read.
        assert!(ips.is_empty() || unread, "{layers}");
        return all.len();
    };
    // The innermost one, or the one around it if what that carries cannot be read.
    let said = |ip: &usize| same(&packet, frame, &all[*ip..]);
    let (innermost, around) = ips.split_last().expect("a packet");
    if let Err(what) = said(innermost) {
        let around = around.last().map_or(Err("no other"), said);
        assert!(unread && around.is_ok(), "{what}: {layers}\n{packet:?}");
    }
    all.len()
}

fn is_ip(layer: &Layer<'_>) -> bool {
    matches!(layer.fields, Fields::Ipv4(_) | Fields::Ipv6(_))
}

/// Whether these layers, from an IP header on, are this packet; otherwise what differs.
fn same(packet: &Packet, frame: &[u8], layers: &[&Layer<'_>]) -> Result<(), &'static str> {
    let is = |is: bool, what: &'static str| if is { Ok(()) } else { Err(what) };
    let lengths = packet.lengths;
    let (version, source, destination, class, hops, octets, mut next): (
        u8,
        IpAddr,
        IpAddr,
        u8,
        u8,
        u32,
        Protocol,
    ) = match &layers[0].fields {
        Fields::Ipv4(ip) => (
            4,
            ip.source.into(),
            ip.destination.into(),
            ip.traffic_class,
            ip.ttl,
            ip.octets,
            ip.protocol,
        ),
        Fields::Ipv6(ip) => (
            6,
            ip.source.into(),
            ip.destination.into(),
            ip.traffic_class,
            ip.hop_limit,
            ip.octets,
            ip.next_header,
        ),
        _ => return Err("not IP"),
    };
    is(version == packet.ip_version, "version")?;
    is(source.to_canonical() == packet.source.ip(), "source")?;
    is(destination.to_canonical() == packet.destination.ip(), "destination")?;
    is((class, hops) == (packet.traffic_class, packet.hop_limit), "class, hops")?;
    is(octets == lengths.ip, "length")?;
    let mut transport = octets - layers[0].bytes.len() as u32;
    let mut rest = &layers[1..];
    while let Some((extension, inner)) = rest.split_first() {
        next = match &extension.fields {
            Fields::Extension(header) => header.next_header,
            Fields::Fragment(header) => header.next_header,
            Fields::Authentication(header) => header.next_header,
            _ => break,
        };
        transport -= extension.bytes.len() as u32;
        rest = inner;
    }
    is(next == packet.protocol, "protocol")?;
    is(transport == lengths.transport, "transport length")?;
    let ports = match rest.first().map(|layer| &layer.fields) {
        Some(Fields::Tcp(tcp)) => {
            let Transport::Tcp(read) = packet.transport else { return Err("no TCP") };
            is((tcp.flags, tcp.sequence) == (read.flags, read.sequence), "flags, sequence")?;
            is(tcp.acknowledgment == read.acknowledgment, "acknowledgment")?;
            is(tcp.window == read.window, "window")?;
            (tcp.source_port, tcp.destination_port)
        }
        Some(Fields::Udp(udp)) => (udp.source_port, udp.destination_port),
        Some(Fields::UdpLite(udp)) => (udp.source_port, udp.destination_port),
        Some(Fields::Dccp(dccp)) => (dccp.source_port, dccp.destination_port),
        Some(Fields::Sctp(sctp)) => (sctp.source_port, sctp.destination_port),
        Some(Fields::Icmp(icmp) | Fields::Icmpv6(icmp)) => {
            let (icmp_type, code) = (icmp.icmp_type, icmp.code);
            is(packet.transport == Transport::Icmp { icmp_type, code }, "ICMP")?;
            (0, 0)
        }
        Some(Fields::Malformed { .. }) if packet.transport != Transport::Other => {
            // Its ports were captured, the rest of its header was not.
            return Ok(());
        }
        _ => {
            is(packet.transport == Transport::Other, "no transport")?;
            is(lengths.payload == lengths.transport, "a payload")?;
            return Ok(());
        }
    };
    is(ports == (packet.source_port, packet.destination_port), "ports")?;
    let payload = rest[0].payload;
    is(packet.payload(frame).starts_with(payload), "payload")?;
    is(rest[0].at + rest[0].bytes.len() == packet.payload.0 as usize, "place of the payload")
}
