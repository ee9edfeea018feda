//! Every layer of a frame, as it was put there; and any frame at all.

#[path = "frames/agreement.rs"]
mod agreement;
mod frames;

use agreement::agrees;
use frames::{ethernet, fragment, ipv4, ipv6, tcp, udp, vlan};
use procflow_core::Timestamp;
use procflow_core::layers::{
    Ethernet, Fields, Gre, Icmp, Ipv4, Ipv4Option, Ipv6, Layers, TcpOption, Udp, Vlan, Vxlan,
};
use procflow_core::packet::{LinkType, Undecoded};

fn layers(link_type: LinkType, frame: &[u8]) -> Layers<'_> {
    let wire = frame.len() as u32;
    agrees(link_type, frame, wire);
    Layers::of(link_type, Timestamp(7), frame, wire)
}

/// A datagram of five octets from 10.0.0.1:1000 to 10.0.0.2:53, and how it reads.
fn inner() -> Vec<u8> {
    ipv4(1, 2, 17, &udp(1000, 53, b"query"))
}

const INNER: &str = "ip 10.0.0.1 > 10.0.0.2 ttl 64 id 0, udp 1000 > 53, data 5";
const ETHERNET: &str = "eth 02:00:00:00:00:01 > 02:00:00:00:00:02";

fn behind(head: &[u8], inside: &[u8]) -> Vec<u8> {
    [head, inside].concat()
}

#[track_caller]
fn reads(link_type: LinkType, frame: &[u8], outside: &str) {
    let expected = if outside.is_empty() { INNER.into() } else { format!("{outside}, {INNER}") };
    assert_eq!(layers(link_type, frame).to_string(), expected);
}

#[test]
fn every_layer_below_ip() {
    let inner = inner();
    let ip = |head: &[u8]| behind(head, &inner);
    let data = |head: &[u8]| behind(head, &behind(&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &inner));
    let station = [&[0x08, 0x01, 0, 0][..], &[1; 6], &[2; 6], &[3; 6], &[0, 0]].concat();
    let wireless = "802.11 02:02:02:02:02:02 > 01:01:01:01:01:01, snap 0x0800";
    let session = [0x11, 0, 0, 9, 0, 35, 0, 0x21];
    let sll2 = [8, 0, 0, 0, 0, 0, 0, 3, 0, 1, 4, 6, 2, 0, 0, 0, 0, 9, 0, 0];
    for (link_type, frame, outside) in [
        (LinkType::RAW, inner.clone(), String::new()),
        (LinkType::NULL, ip(&[2, 0, 0, 0]), "loopback family 2".into()),
        (LinkType::LOOP, ip(&[0, 0, 0, 2]), "loopback family 2".into()),
        (LinkType::PPP, ip(&[0xff, 3, 0, 0x21]), "hdlc ff03, ppp 0x0021".into()),
        (LinkType::PPP, ip(&[0x21]), "ppp 0x0021".into()),
        (LinkType::C_HDLC, ip(&[0x0f, 0, 8, 0]), "hdlc 0f00".into()),
        (LinkType::PPP_ETHER, ip(&session), "pppoe session 9, ppp 0x0021".into()),
        (
            LinkType::LINUX_SLL,
            ip(&[0, 4, 0, 1, 0, 6, 2, 0, 0, 0, 0, 9, 0, 0, 8, 0]),
            "sll out from 02:00:00:00:00:09".into(),
        ),
        (LinkType::LINUX_SLL2, ip(&sll2), "sll out from 02:00:00:00:00:09 interface 3".into()),
        (LinkType::IEEE802_11, data(&station), wireless.into()),
        (
            LinkType::IEEE802_11_RADIOTAP,
            behind(&[0, 0, 9, 0, 0, 0, 0, 0, 0], &data(&station)),
            format!("radiotap 9, {wireless}"),
        ),
        (LinkType::ETHERNET, ethernet(0x0800, &inner), ETHERNET.into()),
        (
            LinkType::ETHERNET,
            ethernet(0x88a8, &vlan(100, 0x8100, &vlan(200, 0x0800, &inner))),
            format!("{ETHERNET}, vlan 100, vlan 200"),
        ),
        (
            LinkType::ETHERNET,
            ethernet(0x8847, &ip(&[0, 0, 0x10, 64, 0, 0, 0x21, 64])),
            format!("{ETHERNET}, mpls 1, mpls 2"),
        ),
        (
            LinkType::ETHERNET,
            ethernet(0x8847, &behind(&[0, 0, 0x11, 64, 0, 0, 0, 5], &ethernet(0x0800, &inner))),
            format!("{ETHERNET}, mpls 1, control word seq 5, {ETHERNET}"),
        ),
        (
            LinkType::ETHERNET,
            ethernet(0x8864, &ip(&session)),
            format!("{ETHERNET}, pppoe session 9, ppp 0x0021"),
        ),
        (
            LinkType::ETHERNET,
            [&[9; 12][..], &[0x89, 0x03, 0x40, 0x20], &ethernet(0x0800, &inner)].concat(),
            "eth 09:09:09:09:09:09 > 09:09:09:09:09:09, \
             fabricpath 02:00:00:00:00:01 > 02:00:00:00:00:02"
                .into(),
        ),
    ] {
        reads(link_type, &frame, &outside);
    }
}

#[test]
fn tags_have_all_their_fields() {
    let frame = ethernet(0x8100, &vlan(0xf007, 0x0800, &inner()));
    let layers = layers(LinkType::ETHERNET, &frame);
    let tag = layers.find::<Vlan>().unwrap();
    assert_eq!((tag.priority, tag.drop_eligible, tag.identifier), (7, true, 7));
    assert_eq!((tag.ether_type, layers.find::<Ethernet>().unwrap().ether_type), (0x0800, 0x8100));
    let Fields::Ethernet(ethernet) = &layers.outermost().fields else { panic!("{layers}") };
    assert_eq!(ethernet.source.to_string(), "02:00:00:00:00:01");
    assert_eq!(layers.outermost().payload, &frame[14..]);
}

#[test]
fn every_tunnel_holds_the_layers_inside() {
    let inner = inner();
    let bridged = ethernet(0x0800, &inner);
    let gre = |head: &[u8], inside: &[u8]| ipv4(8, 9, 47, &behind(head, inside));
    let over_udp =
        |port, head: &[u8], inside: &[u8]| ipv4(8, 9, 17, &udp(5555, port, &behind(head, inside)));
    let outside = "ip 10.0.0.8 > 10.0.0.9 ttl 64 id 0";
    let erspan = [0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 7, 0, 3, 0, 0, 0, 0];
    let pptp = [0x30, 0x81, 0x88, 0x0b, 0, 34, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0x21];
    let extended = [0x34, 0xff, 0, 41, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0, 0, 0];
    for (frame, tunnel) in [
        (ipv4(8, 9, 4, &inner), String::new()),
        (gre(&[0, 0, 8, 0], &inner), "gre 0x0800, ".into()),
        (
            gre(&[0xb0, 0, 8, 0, 1, 2, 3, 4, 0, 0, 0, 8, 0, 0, 0, 12], &inner),
            "gre 0x0800 key 8 seq 12, ".into(),
        ),
        (gre(&[0, 0, 0x65, 0x58], &bridged), format!("gre 0x6558, {ETHERNET}, ")),
        (
            gre(&erspan, &bridged),
            format!("gre 0x88be seq 1, erspan session 3 vlan 7, {ETHERNET}, "),
        ),
        (gre(&pptp, &inner), "gre 0x880b key 2228225 seq 1, ppp 0x0021, ".into()),
        (
            over_udp(4789, &[8, 0, 0, 0, 0, 1, 2, 0], &bridged),
            format!("udp 5555 > 4789, vxlan 258, {ETHERNET}, "),
        ),
        (
            over_udp(6081, &[1, 0, 0x65, 0x58, 0, 1, 2, 0, 9, 9, 9, 9], &bridged),
            format!("udp 5555 > 6081, geneve 258, {ETHERNET}, "),
        ),
        (over_udp(2152, &extended, &inner), "udp 5555 > 2152, gtp-u 1, ".into()),
    ] {
        let layers = layers(LinkType::RAW, &frame);
        assert_eq!(layers.to_string(), format!("{outside}, {tunnel}{INNER}"));
        // The one is in the other.
        let (outer, inner) =
            (layers.find::<Ipv4<'_>>().unwrap(), layers.innermost::<Ipv4<'_>>().unwrap());
        assert_eq!((outer.source.octets()[3], inner.source.octets()[3]), (8, 1));
    }
    let six = ipv6(1, 2, 17, &udp(1000, 53, b"query"));
    let teredo = over_udp(3544, &[0; 8], &six);
    assert_eq!(
        layers(LinkType::RAW, &teredo).to_string(),
        format!(
            "{outside}, udp 5555 > 3544, teredo, ip6 fd00::1 > fd00::2 hlim 64, udp 1000 > 53, data 5"
        )
    );
    let frame = over_udp(4789, &[8, 0, 0, 0, 0, 1, 2, 0], &bridged);
    let layers = layers(LinkType::RAW, &frame);
    let tunnel = layers.layers().find(|layer| matches!(layer.fields, Fields::Vxlan(_))).unwrap();
    assert_eq!(tunnel.payload, bridged);
    assert_eq!(tunnel.find::<Udp>().unwrap().destination_port, 53);
    assert_eq!(tunnel.find::<Vxlan>().unwrap().flags, 8);
    assert_eq!(tunnel.find::<Gre>(), None);
}

#[test]
fn headers_of_ip_have_all_their_fields() {
    let mut packet = fragment(1, 2, 17, (0x1234, 1480, true), b"later");
    // Router alert, and a padding of one octet.
    packet.splice(20..20, [148, 4, 0, 0, 1, 0, 0, 0]);
    packet[0] = 0x47;
    packet[1] = 0xb9;
    packet[3] += 8;
    let frame = behind(&packet, b"padding");
    let read = layers(LinkType::RAW, &frame);
    let ip = read.find::<Ipv4<'_>>().unwrap();
    assert_eq!((ip.traffic_class, ip.total_length, ip.octets), (0xb9, 33, 33));
    assert_eq!((ip.identification, ip.fragment_offset), (0x1234, 1480));
    assert_eq!((ip.more_fragments, ip.dont_fragment), (true, false));
    let options: Vec<_> = ip.options.iter().collect();
    assert_eq!(options, [Ipv4Option::RouterAlert { value: 0 }, Ipv4Option::NoOperation]);
    assert_eq!(read.trailer(), b"padding");
    assert_eq!(
        read.to_string(),
        "ip 10.0.0.1 > 10.0.0.2 ttl 64 id 4660 fragment 1480+ <router alert 0,nop>, data 5, trailer 7"
    );

    // Hop-by-hop, destination options, the first of several fragments, authentication.
    let chain: [&[u8]; 4] = [
        &[60, 0, 1, 4, 0, 0, 0, 0],
        &[44, 0, 1, 4, 0, 0, 0, 0],
        &[51, 0, 0, 1, 0, 0, 0, 9],
        &[17, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0],
    ];
    let mut six = ipv6(1, 2, 0, &behind(&chain.concat(), &udp(1000, 53, b"query")));
    six[..4].copy_from_slice(&[0x6b, 0x91, 0x23, 0x45]);
    let read = layers(LinkType::RAW, &six);
    let ip = read.find::<Ipv6>().unwrap();
    assert_eq!((ip.traffic_class, ip.flow_label), (0xb9, 0x12345));
    assert_eq!((ip.payload_length, ip.octets), (53, 93));
    assert_eq!(
        read.to_string(),
        "ip6 fd00::1 > fd00::2 hlim 64, extension 0, extension 60, fragment 0+ id 9, \
         ah spi 1 seq 2, udp 1000 > 53, data 5"
    );
}

#[test]
fn every_transport() {
    let mut syn = tcp(4000, 80, 0xc2, (7, 0), b"");
    syn[12] = 0x70;
    syn.extend([2, 4, 5, 0xb4, 1, 3, 3, 7]);
    let sctp = [0, 1, 0, 2, 0, 0, 0, 9, 1, 2, 3, 4, 5, 6];
    let dccp = [0, 1, 0, 2, 4, 0, 0, 0, 5, 0, 0, 0, 1, 2, 3, 4, 9];
    for (protocol, transport, text) in [
        (6, &syn[..], "tcp 4000 > 80 [SEW] seq 7 win 8192 <mss 1460,nop,wscale 7>"),
        (6, &tcp(80, 9, 0x18, (1, 2), b"ok"), "tcp 80 > 9 [P.] seq 1 ack 2 win 8192, data 2"),
        (17, &udp(1, 2, b""), "udp 1 > 2"),
        (136, &udp(1, 2, b"x"), "udplite 1 > 2, data 1"),
        (132, &sctp, "sctp 1 > 2, data 2"),
        (33, &dccp, "dccp 1 > 2 type 2, data 1"),
        (1, &[8, 0, 0, 0, 0, 1, 0, 5, b'x'], "icmp type 8 code 0 echo id 1 seq 5, data 1"),
        (1, &[3, 1, 0, 0, 0, 0, 0, 0], "icmp type 3 code 1"),
        (58, &[128, 0, 0, 0, 0, 1, 0, 5], "icmp6 type 128 code 0 echo id 1 seq 5"),
        (89, b"ospf", "data 4"),
    ] {
        let packet = ipv4(1, 2, protocol, transport);
        let expected = format!("ip 10.0.0.1 > 10.0.0.2 ttl 64 id 0, {text}");
        assert_eq!(layers(LinkType::RAW, &packet).to_string(), expected);
    }
    let packet = ipv4(1, 2, 6, &syn);
    let read = layers(LinkType::RAW, &packet);
    let tcp = read.find::<procflow_core::layers::Tcp<'_>>().unwrap();
    assert_eq!(tcp.options.iter().next(), Some(TcpOption::MaximumSegmentSize { octets: 1460 }));
    assert_eq!((tcp.window, tcp.flags.0, tcp.urgent), (8192, 0xc2, 0));
    let ping = ipv4(1, 2, 1, &[8, 0, 0xab, 0xcd, 0, 1, 0, 5]);
    assert_eq!(layers(LinkType::RAW, &ping).find::<Icmp>().unwrap().checksum, Some(0xabcd));
}

#[test]
fn arp_is_a_layer_and_what_follows_it_is_padding() {
    let ask =
        [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2];
    let mut frame = ethernet(0x0806, &ask);
    frame.resize(60, 0);
    let text = |frame: &[u8]| layers(LinkType::ETHERNET, frame).to_string();
    assert_eq!(text(&frame), format!("{ETHERNET}, arp who has 10.0.0.2 tell 10.0.0.1, trailer 18"));
    frame[21] = 2;
    assert!(text(&frame).contains("arp 10.0.0.1 is at 02:00:00:00:00:01"));
    // Of other hardware, and cut.
    frame[15] = 6;
    assert_eq!(text(&frame), format!("{ETHERNET}, unknown (not_ip) 46"));
    assert_eq!(text(&frame[..15]), format!("{ETHERNET}, malformed (captured_short) 1"));
}

#[test]
fn what_cannot_be_decoded_is_there_with_its_reason() {
    let inner = inner();
    let mut bad_offset = tcp(1, 2, 2, (0, 0), b"");
    bad_offset[12] = 0x10;
    let tunnel = |inside: &[u8]| {
        ipv4(8, 9, 17, &udp(5555, 4789, &behind(&[8, 0, 0, 0, 0, 0, 1, 0], inside)))
    };
    let ip = "ip 10.0.0.1 > 10.0.0.2 ttl 64 id 0";
    let outer = "ip 10.0.0.8 > 10.0.0.9 ttl 64 id 0, udp 5555 > 4789, vxlan 1";
    for (link_type, frame, text) in [
        (LinkType(147), b"what".to_vec(), "unknown (unsupported_link_type) 4".to_owned()),
        (LinkType::RAW, vec![], "malformed (captured_short) 0".into()),
        (LinkType::ETHERNET, vec![1; 10], "malformed (captured_short) 10".into()),
        (
            LinkType::ETHERNET,
            ethernet(0x88e5, &[0; 40]),
            format!("{ETHERNET}, unknown (encrypted_link) 40"),
        ),
        // Spanning tree: three octets of IEEE 802.2 and more, then padding.
        (
            LinkType::ETHERNET,
            ethernet(38, &[0x42; 46]),
            format!("{ETHERNET}, unknown (not_ip) 38, trailer 8"),
        ),
        (LinkType::RAW, ipv4(1, 2, 6, &bad_offset), format!("{ip}, malformed (malformed) 20")),
        (LinkType::RAW, inner[..22].to_vec(), format!("{ip}, malformed (captured_short) 2")),
        (LinkType::RAW, vec![0x44; 40], "malformed (malformed) 40".into()),
        (
            LinkType::RAW,
            tunnel(&ethernet(0x0806, &[0; 4])),
            format!("{outer}, {ETHERNET}, malformed (captured_short) 4"),
        ),
        (LinkType::RAW, tunnel(b"no frame"), format!("{outer}, malformed (captured_short) 8")),
        (
            LinkType::RAW,
            tunnel(&ethernet(0x0800, &ipv4(1, 2, 6, &bad_offset))),
            format!("{outer}, {ETHERNET}, {ip}, malformed (malformed) 20"),
        ),
    ] {
        assert_eq!(layers(link_type, &frame).to_string(), text);
    }
}

#[test]
fn what_lies_behind_a_packet_is_not_inside_of_it() {
    // A datagram for a tunnel's port that carries nothing, and a frame in the padding behind it.
    let carrier = ipv4(8, 9, 17, &udp(5555, 4789, b""));
    let hidden = behind(&[8, 0, 0, 0, 0, 0, 1, 0], &ethernet(0x0800, &inner()));
    let frame = ethernet(0x0800, &behind(&carrier, &hidden));
    let read = layers(LinkType::ETHERNET, &frame);
    assert_eq!(read.trailer(), hidden);
    assert_eq!(read.packet().unwrap().destination_port, 4789);
}

#[test]
fn a_packet_inside_reaches_no_further_than_the_one_around() {
    // In a tunnel a packet for a tunnel's port, whose payload is said to go on behind what carries it.
    let vxlan = [8, 0, 0, 0, 0, 0, 1, 0];
    let hidden = behind(&vxlan, &ethernet(0x0800, &inner()));
    let carried = ethernet(0x0800, &ipv4(8, 9, 17, &udp(5556, 4789, &hidden)));
    let (here, beyond) = carried.split_at(carried.len() - hidden.len());
    let carrier = ipv4(8, 9, 17, &udp(5555, 4789, &behind(&vxlan, here)));
    let frame = ethernet(0x0800, &behind(&carrier, beyond));
    let layers = layers(LinkType::ETHERNET, &frame);
    let packet = layers.packet().unwrap();
    assert_eq!((packet.source_port, packet.destination_port), (5556, 4789));
    assert_eq!((packet.payload(&frame), packet.lengths.payload), (&[][..], hidden.len() as u32));
}

#[test]
fn layers_without_end_are_bounded() {
    // Pseudowires count as tags, of which there are at most 16; packets in packets likewise.
    let mut nested = inner();
    for _ in 0..500 {
        nested = ipv4(1, 2, 4, &nested);
    }
    let layers_of = |link_type, frame: &[u8]| agrees(link_type, frame, frame.len() as u32);
    assert_eq!(layers_of(LinkType::RAW, &nested), 18);
    // Of sixteen packets with sixteen extensions each not all are told; the rest is one that is not.
    let mut deep = udp(1000, 53, b"query");
    for _ in 0..16 {
        let mut next = 41;
        for _ in 0..15 {
            deep = behind(&[next, 0, 0, 0, 0, 0, 0, 0], &deep);
            next = 60;
        }
        deep = ipv6(1, 2, 60, &deep);
    }
    let read = Layers::of(LinkType::RAW, Timestamp(7), &deep, deep.len() as u32);
    assert_eq!(read.layers().count(), 100);
    let last = read.layers().last().unwrap();
    assert_eq!(last.fields, Fields::Malformed { reason: Undecoded::Malformed });
    assert_eq!(last.at + last.bytes.len(), deep.len());
}

/// The same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        // Marsaglia's xorshift.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

#[test]
fn any_frame_is_layers_that_agree_with_its_packet() {
    let inner = inner();
    let bridged = ethernet(0x0800, &inner);
    let vxlan = udp(1, 4789, &behind(&[8, 0, 0, 0, 0, 0, 1, 0], &bridged));
    let gtp =
        udp(1, 2152, &behind(&[0x34, 0xff, 0, 41, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0, 0, 0], &inner));
    let chain = [60, 0, 1, 4, 0, 0, 0, 0, 44, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 9];
    let frames = [
        ethernet(0x8100, &vlan(5, 0x0800, &ipv4(8, 9, 17, &vxlan))),
        ethernet(0x0800, &ipv4(8, 9, 17, &gtp)),
        ethernet(0x86dd, &ipv6(1, 2, 0, &behind(&chain, &udp(1, 53, b"query")))),
        ethernet(0x8847, &behind(&[0, 0, 0x11, 64, 0, 0, 0, 0], &bridged)),
        ethernet(
            0x0800,
            &ipv4(8, 9, 47, &behind(&[0x30, 0, 0x65, 0x58, 0, 0, 0, 1, 0, 0, 0, 1], &bridged)),
        ),
        ethernet(0x0800, &ipv4(8, 9, 6, &tcp(1, 2, 0x18, (5, 6), b"text"))),
        ethernet(0x8864, &behind(&[0x11, 0, 0, 1, 0, 35, 0, 0x21], &inner)),
    ];
    for frame in &frames {
        for length in 0..=frame.len() {
            agrees(LinkType::ETHERNET, &frame[..length], frame.len() as u32);
        }
    }
    let types = [0, 1, 9, 50, 51, 101, 104, 105, 108, 113, 127, 228, 276];
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for _ in 0..40_000 {
        let mut frame = frames[numbers.below(frames.len())].clone();
        for _ in 0..1 + numbers.below(4) {
            let at = numbers.below(frame.len());
            frame[at] = numbers.next() as u8;
        }
        frame.truncate(numbers.below(frame.len()) + 1 + numbers.below(40));
        agrees(LinkType::ETHERNET, &frame, frame.len() as u32);
        let any: Vec<u8> = (0..numbers.below(200)).map(|_| numbers.next() as u8).collect();
        agrees(LinkType(types[numbers.below(types.len())]), &any, numbers.below(300) as u32);
    }
}
