//! Every link type, tag and tunnel leads to the packet inside.

mod frames;

use frames::{ethernet, fragment, ipv4, ipv6, tcp, udp, vlan};
use procflow_core::packet::{Decoder, LinkType, Packet, Transport, Tunnel, Undecoded};
use procflow_core::{Protocol, Timestamp};

fn decode(link_type: LinkType, frame: &[u8]) -> Result<Packet, Undecoded> {
    Decoder::default().decode(link_type, Timestamp(7), frame, frame.len() as u32)
}

/// A datagram of five octets from 10.0.0.1:1000 to 10.0.0.2:53.
fn inner() -> Vec<u8> {
    ipv4(1, 2, 17, &udp(1000, 53, b"query"))
}

#[track_caller]
fn is_inner(link_type: LinkType, frame: &[u8]) -> Packet {
    let packet = decode(link_type, frame).unwrap();
    assert_eq!(packet.key().to_string(), "UDP 10.0.0.1:1000 > 10.0.0.2:53");
    assert_eq!(packet.payload(frame), b"query");
    let lengths = packet.lengths;
    assert_eq!((lengths.ip, lengths.transport, lengths.payload), (33, 13, 5));
    assert_eq!((lengths.wire, lengths.captured), (frame.len() as u32, frame.len() as u32));
    packet
}

#[test]
fn every_link_type() {
    let inner = inner();
    let behind = |head: &[u8]| [head, &inner].concat();
    let snap = behind(&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0]);
    let data = |control: [u8; 2], rest: usize| [&control[..], &vec![1; rest], &snap].concat();
    let radiotap = |frame: Vec<u8>| [&[0, 0, 9, 0, 0, 0, 0, 0, 0][..], &frame].concat();
    let sll2 = [&[8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 2, 0, 0, 0, 0, 9, 0, 0][..], &inner].concat();
    for (link_type, frame) in [
        (LinkType::ETHERNET, ethernet(0x0800, &inner)),
        (LinkType::ETHERNET, ethernet(41, &snap)),
        (LinkType::RAW, inner.clone()),
        (LinkType(12), inner.clone()),
        (LinkType::IPV4, inner.clone()),
        (LinkType::NULL, behind(&[2, 0, 0, 0])),
        (LinkType::NULL, behind(&[0, 0, 0, 2])),
        (LinkType::LOOP, behind(&[0, 0, 0, 2])),
        (LinkType::PPP, behind(&[0xff, 3, 0, 0x21])),
        (LinkType::PPP, behind(&[0x21])),
        (LinkType::PPP_HDLC, behind(&[0xff, 3, 0, 0x21])),
        (LinkType::PPP_HDLC, behind(&[0x0f, 0, 8, 0])),
        (LinkType::PPP_ETHER, behind(&[0x11, 0, 0, 1, 0, 35, 0, 0x21])),
        (LinkType::C_HDLC, behind(&[0x0f, 0, 8, 0])),
        (LinkType::LINUX_SLL, behind(&[0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 9, 0, 0, 8, 0])),
        (LinkType::LINUX_SLL2, sll2.clone()),
        (LinkType::IEEE802_11, data([0x08, 0x02], 22)),
        (LinkType::IEEE802_11, data([0x08, 0x03], 28)),
        (LinkType::IEEE802_11, [&[0x88, 0x01][..], &[0; 24], &snap].concat()),
        (LinkType::IEEE802_11_RADIOTAP, radiotap(data([0x08, 0x01], 22))),
    ] {
        is_inner(link_type, &frame);
    }
    assert_eq!(is_inner(LinkType::LINUX_SLL2, &sll2).link.source.to_string(), "02:00:00:00:00:09");
}

#[test]
fn tags_and_labels() {
    let inner = inner();
    let tagged = ethernet(0x88a8, &vlan(100, 0x8100, &vlan(200, 0x0800, &inner)));
    assert_eq!(is_inner(LinkType::ETHERNET, &tagged).link.vlans, [100, 200]);
    // The upper bits are a priority.
    let one = ethernet(0x8100, &vlan(0xe000 | 7, 0x0800, &inner));
    assert_eq!(is_inner(LinkType::ETHERNET, &one).link.vlans, [7, 0]);
    let labels = [&[0, 0, 0x10, 64, 0, 0, 0x21, 64][..], &inner].concat();
    is_inner(LinkType::ETHERNET, &ethernet(0x8847, &labels));
    let pseudowire = [&[0, 0, 0x11, 64, 0, 0, 0, 0][..], &ethernet(0x0800, &inner)].concat();
    is_inner(LinkType::ETHERNET, &ethernet(0x8847, &pseudowire));
    let session = [&[0x11, 0, 0, 1, 0, 35, 0, 0x21][..], &inner].concat();
    is_inner(LinkType::ETHERNET, &ethernet(0x8864, &session));
    let carried = [&[0x40, 0x20][..], &ethernet(0x8100, &vlan(7, 0x0800, &inner))].concat();
    let fabric = [&[9; 12][..], &[0x89, 0x03], &carried].concat();
    let link = is_inner(LinkType::ETHERNET, &fabric).link;
    assert_eq!((link.source.to_string(), link.vlans), ("02:00:00:00:00:01".to_owned(), [7, 0]));
}

#[test]
fn tags_within_tags_without_end_are_malformed() {
    let pseudowire = [&[0, 0, 0x11, 64, 0, 0, 0, 0][..], &[9; 12], &[0x88, 0x47]].concat();
    let session = [&[0x11, 0, 0, 1, 0, 35, 2, 0x81][..], &pseudowire[..20], &[0x88, 0x64]].concat();
    for (ether_type, level) in [(0x8847, pseudowire), (0x8864, session)] {
        let frame = ethernet(ether_type, &level.repeat(100_000));
        assert_eq!(decode(LinkType::ETHERNET, &frame), Err(Undecoded::Malformed));
    }
}

#[test]
fn every_tunnel_and_the_packet_that_carries_it() {
    let inner = inner();
    let bridged = ethernet(0x0800, &inner);
    let behind = |head: &[u8], inside: &[u8]| [head, inside].concat();
    let gre = |head: &[u8], inside: &[u8]| ipv4(8, 9, 47, &behind(head, inside));
    let over_udp =
        |port, head: &[u8], inside: &[u8]| ipv4(8, 9, 17, &udp(5555, port, &behind(head, inside)));
    let vxlan = [8, 0, 0, 0, 0, 1, 2, 0];
    let erspan = [0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 0, 0, 0, 0, 0, 0, 0];
    let pptp = [0x30, 0x81, 0x88, 0x0b, 0, 34, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0x21];
    let gtp_extended = [0x34, 0xff, 0, 41, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0, 0, 0];
    for (tunnel, network, outside) in [
        (Tunnel::IP_IN_IP, 0, ipv4(8, 9, 4, &inner)),
        (Tunnel::IP_IN_IP, 0, ipv6(8, 9, 4, &inner)),
        (Tunnel::GRE, 0, gre(&[0, 0, 8, 0], &inner)),
        (Tunnel::GRE, 0, gre(&[0xb0, 0, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], &inner)),
        (Tunnel::GRE, 0, gre(&[0, 0, 0x65, 0x58], &bridged)),
        (Tunnel::GRE, 0, gre(&erspan, &bridged)),
        (Tunnel::GRE, 0, gre(&pptp, &inner)),
        (Tunnel::VXLAN, 0x102, over_udp(4789, &vxlan, &bridged)),
        (
            Tunnel::GENEVE,
            0x102,
            over_udp(6081, &[1, 0, 0x65, 0x58, 0, 1, 2, 0, 9, 9, 9, 9], &bridged),
        ),
        (Tunnel::GENEVE, 0, over_udp(6081, &[0, 0, 8, 0, 0, 0, 0, 0], &inner)),
        (Tunnel::GTP_U, 0, over_udp(2152, &[0x30, 0xff, 0, 33, 0, 0, 0, 1], &inner)),
        (Tunnel::GTP_U, 0, over_udp(2152, &gtp_extended, &inner)),
    ] {
        let frame = ethernet(if outside[0] >> 4 == 6 { 0x86dd } else { 0x0800 }, &outside);
        let packet = is_inner(LinkType::ETHERNET, &frame);
        assert_eq!((packet.tunnel, packet.virtual_network), (tunnel, network));
        let carrier = Decoder { tunnels: false };
        let carrier = carrier.decode(LinkType::ETHERNET, Timestamp(0), &frame, 1500).unwrap();
        assert_eq!((carrier.tunnel, carrier.lengths.ip), (Tunnel::NONE, outside.len() as u32));
    }
    // Teredo carries IPv6 only, here behind the two things that may be in front of it.
    let six = ipv6(1, 2, 17, &udp(1000, 53, b"query"));
    let teredo =
        over_udp(3544, &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &six);
    let packet = decode(LinkType::RAW, &teredo).unwrap();
    assert_eq!((packet.tunnel, packet.ip_version), (Tunnel::TEREDO, 6));
    // In one another.
    let twice = ipv4(8, 9, 47, &behind(&[0, 0, 8, 0], &ipv4(6, 7, 4, &inner)));
    assert_eq!(is_inner(LinkType::RAW, &twice).tunnel, Tunnel::IP_IN_IP);
}

#[test]
fn what_only_looks_like_a_tunnel_is_the_packet_itself() {
    for (port, payload) in
        [(4789, &b"chat"[..]), (2152, b"\x30\xff\0\x04\0\0\0\x01nope"), (3544, b"x")]
    {
        let packet = decode(LinkType::RAW, &ipv4(8, 9, 17, &udp(5555, port, payload))).unwrap();
        assert_eq!((packet.tunnel, packet.destination_port), (Tunnel::NONE, port));
    }
}

#[test]
fn padding_is_in_no_tunnel() {
    let hidden = [&[8, 0, 0, 0, 0, 0, 1, 0][..], &ethernet(0x0800, &inner())].concat();
    let carrier = ipv4(8, 9, 17, &udp(5555, 4789, b""));
    let frame = ethernet(0x0800, &[carrier, hidden].concat());
    let packet = decode(LinkType::ETHERNET, &frame).unwrap();
    assert_eq!((packet.tunnel, packet.destination_port), (Tunnel::NONE, 4789));
}

#[test]
fn extension_headers_lead_to_the_transport() {
    let datagram = udp(1000, 53, b"query");
    // Hop-by-hop, routing, destination options, an atomic fragment, authentication.
    let chain: [&[u8]; 5] = [
        &[43, 0, 1, 4, 0, 0, 0, 0],
        &[60, 0, 0, 0, 0, 0, 0, 0],
        &[44, 0, 1, 4, 0, 0, 0, 0],
        &[51, 0, 0, 0, 0, 0, 0, 9],
        &[17, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0],
    ];
    let inside = [&chain.concat()[..], &datagram].concat();
    let packet = decode(LinkType::RAW, &ipv6(1, 2, 0, &inside)).unwrap();
    assert_eq!((packet.destination_port, packet.lengths.payload), (53, 5));
    assert_eq!((packet.lengths.transport, packet.fragment), (13, None));
}

#[test]
fn lengths_are_those_of_the_headers() {
    // Padded by Ethernet, then cut by the capture.
    let ack = ipv4(1, 2, 6, &tcp(1, 2, 0x10, (5, 6), b""));
    let mut padded = ethernet(0x0800, &ack);
    padded.resize(60, 0);
    let packet = decode(LinkType::ETHERNET, &padded).unwrap();
    let lengths = packet.lengths;
    assert_eq!((lengths.wire, lengths.ip, lengths.payload, lengths.truncated), (60, 40, 0, false));
    assert_eq!(packet.payload(&padded), b"");
    for version in [4, 6] {
        let segment = tcp(1, 2, 0x10, (5, 6), &[0; 1000]);
        let (ether_type, ip) = match version {
            4 => (0x0800, ipv4(1, 2, 6, &segment)),
            _ => (0x86dd, ipv6(1, 2, 6, &segment)),
        };
        let frame = ethernet(ether_type, &ip);
        let cut = Decoder::default().decode(
            LinkType::ETHERNET,
            Timestamp(0),
            &frame[..96],
            frame.len() as u32,
        );
        let lengths = cut.unwrap().lengths;
        assert_eq!((lengths.payload, lengths.captured, lengths.truncated), (1000, 96, true));
        assert_eq!(lengths.ip, ip.len() as u32);
    }
}

#[test]
fn segments_to_be_are_as_long_as_their_frames() {
    let mut long = ipv4(1, 2, 6, &tcp(1, 2, 0x10, (5, 6), &vec![0; 70_000]));
    long[2..4].fill(0);
    let packet = decode(LinkType::ETHERNET, &ethernet(0x0800, &long)).unwrap();
    assert_eq!((packet.lengths.ip, packet.lengths.payload), (70_040, 70_000));
    let mut long = ipv6(1, 2, 6, &tcp(1, 2, 0x10, (5, 6), &vec![0; 70_000]));
    long[4..6].fill(0);
    let packet = decode(LinkType::ETHERNET, &ethernet(0x86dd, &long)).unwrap();
    assert_eq!((packet.lengths.ip, packet.lengths.payload), (70_060, 70_000));
}

#[test]
fn a_later_fragment_has_no_ports() {
    let packet =
        decode(LinkType::RAW, &fragment(1, 2, 17, (77, 1480, true), b"\x12\x34\x56\x78 data"));
    let packet = packet.unwrap();
    assert_eq!((packet.source_port, packet.transport), (0, Transport::Other));
    let fragment = packet.fragment.unwrap();
    assert_eq!((fragment.identification, fragment.offset, fragment.more), (77, 1480, true));
    assert_eq!(packet.lengths.payload, 9);
}

#[test]
fn icmp_has_its_type_for_a_port_in_the_key() {
    let echo = decode(LinkType::RAW, &ipv4(1, 2, 1, &[8, 0, 0, 0, 0, 1, 0, 1, b'x'])).unwrap();
    assert_eq!((echo.source_port, echo.destination_port), (0, 0));
    assert_eq!(echo.key().destination.port(), 8 * 256);
    assert_eq!(echo.lengths.payload, 1);
    assert_eq!(echo.protocol, Protocol::ICMP);
}

#[test]
fn what_is_no_packet_says_why() {
    let arp = ethernet(0x0806, &[0; 28]);
    let segment = tcp(1, 2, 2, (0, 0), b"");
    let mut bad_offset = segment.clone();
    bad_offset[12] = 0x10;
    let mut encrypted = vec![0x08, 0x42];
    encrypted.resize(40, 1);
    for (link_type, frame, why) in [
        (LinkType(147), &arp[..], Undecoded::LinkType),
        (LinkType::ETHERNET, &arp, Undecoded::NotIp),
        (LinkType::ETHERNET, &ethernet(100, &[0x42; 100]), Undecoded::NotIp),
        (LinkType::NULL, &[9, 9, 9, 9, 9], Undecoded::NotIp),
        (LinkType::IEEE802_11, &encrypted, Undecoded::Encrypted),
        (LinkType::ETHERNET, &ethernet(0x88e5, &[0; 40]), Undecoded::Encrypted),
        (LinkType::ETHERNET, &arp[..10], Undecoded::CapturedShort),
        (LinkType::ETHERNET, &ethernet(0x0800, b""), Undecoded::CapturedShort),
        (LinkType::RAW, &ipv4(1, 2, 6, &segment)[..30], Undecoded::CapturedShort),
        (LinkType::RAW, &ipv4(1, 2, 6, &segment[..10]), Undecoded::Malformed),
        (LinkType::RAW, &ipv4(1, 2, 6, &bad_offset), Undecoded::Malformed),
        (LinkType::RAW, &ipv4(1, 2, 17, b"four"), Undecoded::Malformed),
        (LinkType::RAW, &[0x44; 40], Undecoded::Malformed),
        (LinkType::RAW, &[0x70; 40], Undecoded::Malformed),
    ] {
        assert_eq!(decode(link_type, frame), Err(why), "{link_type:?} {frame:?}");
    }
}

#[test]
fn a_frame_cut_anywhere_is_decoded_or_says_why() {
    let inner = inner();
    let vxlan = udp(1, 4789, &[&[8, 0, 0, 0, 0, 0, 1, 0][..], &ethernet(0x0800, &inner)].concat());
    let frame = ethernet(0x8100, &vlan(5, 0x0800, &ipv4(8, 9, 17, &vxlan)));
    let mut decoded = 0;
    for length in 0..frame.len() {
        let cut = Decoder::default().decode(
            LinkType::ETHERNET,
            Timestamp(0),
            &frame[..length],
            frame.len() as u32,
        );
        match cut {
            Ok(packet) => {
                decoded += 1;
                assert!(packet.lengths.truncated);
                // The one inside as soon as its headers are there, the one outside before.
                let whole = length >= frame.len() - 5;
                assert_eq!(packet.tunnel == Tunnel::VXLAN, whole, "{length}");
            }
            Err(why) => assert_eq!(why, Undecoded::CapturedShort, "{length}"),
        }
    }
    assert!(decoded > 10);
}
