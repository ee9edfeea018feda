//! The layers that `extractor packets` prints: beside tshark's, and as they are written.

mod corpus;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use corpus::{captures, skip};
use serde_json::{Value, json};

#[path = "../crates/core/tests/frames/mod.rs"]
mod frames;

use frames::{ethernet, ipv4, ipv6, udp, vlan};

fn command(arguments: &[&str], file: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_extractor"));
    command.arg("packets").args(arguments).arg(file);
    command
}

fn packets(arguments: &[&str], file: &Path) -> Output {
    command(arguments, file).output().unwrap()
}

/// What tshark calls a field, and what it is here: a layer and its field, or a layer, one of its options and
/// the option's field.
const FIELDS: &[(&str, &[&str])] = &[
    ("eth.src", &["ethernet", "source"]),
    ("eth.dst", &["ethernet", "destination"]),
    ("vlan.id", &["vlan", "identifier"]),
    ("mpls.label", &["mpls", "label"]),
    ("pppoe.session_id", &["pppoe", "session"]),
    ("ppp.protocol", &["ppp", "protocol"]),
    ("arp.opcode", &["arp", "operation"]),
    ("arp.src.proto_ipv4", &["arp", "sender_address"]),
    ("ip.src", &["ipv4", "source"]),
    ("ip.dst", &["ipv4", "destination"]),
    ("ip.ttl", &["ipv4", "ttl"]),
    ("ip.len", &["ipv4", "total_length"]),
    ("ip.id", &["ipv4", "identification"]),
    ("ip.checksum", &["ipv4", "checksum"]),
    ("ipv6.src", &["ipv6", "source"]),
    ("ipv6.hlim", &["ipv6", "hop_limit"]),
    ("ipv6.plen", &["ipv6", "payload_length"]),
    ("ipv6.flow", &["ipv6", "flow_label"]),
    ("tcp.srcport", &["tcp", "source_port"]),
    ("tcp.dstport", &["tcp", "destination_port"]),
    ("tcp.seq_raw", &["tcp", "sequence"]),
    ("tcp.ack_raw", &["tcp", "acknowledgment"]),
    ("tcp.window_size_value", &["tcp", "window"]),
    ("tcp.options.mss_val", &["tcp", "maximum_segment_size", "octets"]),
    ("tcp.options.wscale.shift", &["tcp", "window_scale", "shift"]),
    ("tcp.options.timestamp.tsval", &["tcp", "timestamps", "value"]),
    ("udp.srcport", &["udp", "source_port"]),
    ("udp.dstport", &["udp", "destination_port"]),
    ("udp.length", &["udp", "length"]),
    ("icmp.type", &["icmp", "icmp_type"]),
    ("icmpv6.type", &["icmpv6", "icmp_type"]),
    ("gre.key", &["gre", "key"]),
    ("gtp.teid", &["gtp_u", "endpoint"]),
    ("vxlan.vni", &["vxlan", "network"]),
    ("geneve.vni", &["geneve", "network"]),
    ("ipv6.fraghdr.ident", &["fragment", "identification"]),
    ("ah.spi", &["authentication", "security_parameters"]),
    ("sctp.srcport", &["sctp", "source_port"]),
    ("sctp.verification_tag", &["sctp", "verification_tag"]),
    ("dccp.dstport", &["dccp", "destination_port"]),
];

/// Captures of which tshark reads some frames otherwise, and why.
const UNLIKE_TSHARK: [(&str, &str); 2] = [
    (
        "ajp.pcap",
        "of frames in FabricPath, which have no check sequence here, tshark takes four octets off, and then \
         calls their TCP malformed; it has the addresses inside as Ethernet's",
    ),
    (
        "reasm_crash_anon.pcapng",
        "two of its frames have a TCP header that cannot be, or not all of one: here it is malformed, tshark \
         tells what is there",
    ),
];

/// Frames with the layers that the captures lack.
fn made() -> Vec<Vec<u8>> {
    let datagram = udp(1000, 53, b"query");
    let inner = ipv4(1, 2, 17, &datagram);
    let behind = |head: &[u8], inside: &[u8]| [head, inside].concat();
    let over = |port, head: &[u8]| {
        udp(5555, port, &behind(head, &ethernet(0x8100, &vlan(7, 0x0800, &inner))))
    };
    let arp =
        [0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 2, 0, 0, 0, 0, 2, 10, 0, 0, 2];
    let fragment = behind(&[17, 0, 0, 1, 0, 0, 0, 9], &datagram);
    let authenticated = behind(&[17, 2, 0, 0, 0, 0, 3, 0, 0, 0, 0, 2, 0, 0, 0, 0], &datagram);
    let gre = behind(&[0x30, 0, 8, 0, 0, 0, 0, 8, 0, 0, 0, 12], &inner);
    vec![
        ethernet(0x0806, &arp),
        ethernet(0x8864, &behind(&[0x11, 0, 0, 9, 0, 35, 0, 0x21], &inner)),
        ethernet(0x8847, &behind(&[0, 0, 0x10, 64, 0, 0, 0x21, 64], &inner)),
        ethernet(0x0800, &ipv4(8, 9, 47, &gre)),
        ethernet(0x0800, &ipv4(8, 9, 17, &over(4789, &[8, 0, 0, 0, 0, 1, 2, 0]))),
        ethernet(0x0800, &ipv4(8, 9, 17, &over(6081, &[0, 0, 0x65, 0x58, 0, 1, 2, 0]))),
        ethernet(0x86dd, &ipv6(1, 2, 44, &fragment)),
        ethernet(0x86dd, &ipv6(1, 2, 51, &authenticated)),
        ethernet(0x0800, &ipv4(1, 2, 132, &[0, 7, 0, 9, 1, 2, 3, 4, 0, 0, 0, 0, 6, 0, 0, 4])),
        ethernet(0x0800, &ipv4(1, 2, 33, &[0, 7, 0, 9, 4, 0, 0, 0, 5, 0, 0, 1, 0, 0, 0, 2])),
    ]
}

/// A number however it is written, or what else it is.
fn canonical(value: &str) -> String {
    let digits = value.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16));
    digits.and_then(Result::ok).map_or_else(|| value.to_owned(), |number| number.to_string())
}

/// Of each frame the protocols and the values of each field, by tshark.
fn by_tshark(file: &Path) -> Vec<(String, Vec<Vec<String>>)> {
    let mut tshark = Command::new("tshark");
    tshark.args(["-n", "-T", "fields", "-E", "separator=|", "-E", "occurrence=a", "-r"]).arg(file);
    tshark.args(["-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE"]);
    tshark.args(["-e", "frame.protocols"]);
    FIELDS.iter().for_each(|(name, _)| {
        tshark.args(["-e", name]);
    });
    let output = tshark.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let list = |values: &str| {
        values.split(',').filter(|value| !value.is_empty()).map(canonical).collect::<Vec<_>>()
    };
    text.lines()
        .map(|line| {
            let mut columns = line.split('|');
            let protocols = columns.next().unwrap().to_owned();
            (protocols, columns.map(list).collect())
        })
        .collect()
}

/// The layers of an object, from the outside in.
fn layers(packet: &Value) -> impl Iterator<Item = &Value> {
    std::iter::successors(packet.get("layers"), |layer| layer.get("payload"))
}

fn values(packet: &Value, path: &[&str]) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let of_kind = layers(packet).filter(|layer| layer["layer"] == path[0]);
    of_kind
        .flat_map(|layer| match path {
            [_, option, field] => layer["options"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|there| there["option"] == *option)
                .filter_map(|there| text(&there[field]))
                .collect(),
            _ => text(&layer[path[1]]).into_iter().collect::<Vec<_>>(),
        })
        .collect()
}

#[test]
fn every_field_of_every_layer_is_what_tshark_reads() {
    let Some(captures) = captures() else { return };
    if Command::new("tshark").arg("-v").output().is_err() {
        return skip("tshark is not installed");
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(captures.join("nfstream/pcaps"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.push(captures.join("eleven-cases.pcap"));
    files.sort();
    let place = tempfile::tempdir().unwrap();
    let made = made();
    let made: Vec<_> = made.iter().map(|frame| (frame.len() as u32, &frame[..])).collect();
    files.push(capture(place.path().join("made.pcap"), 1, &made));
    let (mut differ, mut wrong) = (Vec::new(), String::new());
    let mut compared: BTreeMap<&str, usize> = BTreeMap::new();
    for file in &files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let text = String::from_utf8(packets(&["--json"], file).stdout).unwrap();
        let ours: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let theirs = by_tshark(file);
        assert_eq!(ours.len(), theirs.len(), "{name}");
        let mut differs = false;
        for (ours, (protocols, theirs)) in ours.iter().zip(&theirs) {
            for ((field, path), theirs) in FIELDS.iter().zip(theirs) {
                let ours_here = values(ours, path);
                // An error of ICMP quotes the packet it is about: tshark reads that too.
                let quoted = protocols.contains("icmp") && theirs.starts_with(&ours_here);
                *compared.entry(field).or_default() += ours_here.len();
                if ours_here != *theirs && !quoted {
                    differs = true;
                    if !UNLIKE_TSHARK.iter().any(|(known, _)| *known == name) {
                        wrong += &format!(
                            "{name} {}: {field}: tshark {theirs:?}, here {ours_here:?}\n",
                            ours["number"]
                        );
                    }
                }
            }
        }
        if differs {
            differ.push(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    let known: Vec<&str> = UNLIKE_TSHARK.iter().map(|(name, _)| *name).collect();
    assert_eq!(differ, known);
    // Nothing was compared that nobody has.
    let missing: Vec<_> = compared.iter().filter(|(_, count)| **count == 0).collect();
    assert_eq!(missing, [], "compared: {compared:?}");
}

/// A capture of frames of this link type, each so long on the wire and of which this was captured.
fn capture(path: PathBuf, link_type: u32, frames: &[(u32, &[u8])]) -> PathBuf {
    let number = u32::to_le_bytes;
    let mut file: Vec<u8> =
        [0xa1b2_3c4d, 0x0004_0002, 0, 0, 65_535, link_type].map(number).concat();
    for (wire, frame) in frames {
        let length = frame.len() as u32;
        file.extend([1_700_000_000, 123_456_789, length, *wire].map(number).concat());
        file.extend(*frame);
    }
    std::fs::write(&path, file).unwrap();
    path
}

/// Ethernet, IPv4, TCP with an option, two octets of data, two of padding.
const FRAME: [u8; 62] = [
    2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, // Ethernet
    0x45, 0, 0, 46, 0, 9, 0x40, 0, 64, 6, 0, 7, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4
    0x0f, 0xa0, 0, 80, 0, 0, 0, 7, 0, 0, 0, 8, 0x60, 0x18, 0x20, 0, 0, 3, 0, 0, // TCP
    2, 4, 5, 0xb4, // the maximum segment size
    b'\x1b', b'[', 0, 0,
];

#[test]
fn layers_nest_in_json() {
    let place = tempfile::tempdir().unwrap();
    let file = capture(place.path().join("one.pcap"), 1, &[(62, &FRAME)]);
    let output = packets(&["--json", "--bytes"], &file);
    assert!(output.status.success());
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let data = json!({"layer": "data", "octets": 2, "at": 58, "own_octets": 2, "bytes": "1b5b"});
    let tcp = json!({
        "layer": "tcp", "source_port": 4000, "destination_port": 80, "sequence": 7,
        "acknowledgment": 8, "flags": ["psh", "ack"], "window": 8192, "checksum": 3, "urgent": 0,
        "options": [{"option": "maximum_segment_size", "octets": 1460}], "at": 34,
        "own_octets": 24, "bytes": "0fa00050000000070000000860182000000300000204 05b4".replace(' ', ""),
        "payload": data,
    });
    let ipv4 = json!({
        "layer": "ipv4", "traffic_class": 0, "total_length": 46, "octets": 46, "identification": 9,
        "dont_fragment": true, "more_fragments": false, "fragment_offset": 0, "ttl": 64,
        "protocol": 6, "checksum": 7, "source": "10.0.0.1", "destination": "10.0.0.2",
        "options": [], "at": 14, "own_octets": 20,
        "bytes": "4500002e00094000400600070a0000010a000002", "payload": tcp,
    });
    let expected = json!({
        "number": 1, "time_ns": 1_700_000_000_123_456_789_u64, "link_type": 1, "wire_octets": 62,
        "captured_octets": 62, "trailer_octets": 2, "trailer": "0000",
        "layers": {
            "layer": "ethernet", "destination": "02:00:00:00:00:02",
            "source": "02:00:00:00:00:01", "ether_type": 0x0800, "at": 0, "own_octets": 14,
            "bytes": "0200000000020200000000010800", "payload": ipv4,
        },
    });
    assert_eq!(told, expected, "{told:#}");
}

#[test]
fn a_line_has_the_layers_from_the_outside_in() {
    let place = tempfile::tempdir().unwrap();
    let text = "2023-11-14T22:13:20.123456Z eth 02:00:00:00:00:01 > 02:00:00:00:00:02, \
        ip 10.0.0.1 > 10.0.0.2 ttl 64 id 9, tcp 4000 > 80 [P.] seq 7 ack 8 win 8192 <mss 1460>, data 2";
    let file = capture(place.path().join("one.pcap"), 1, &[(62, &FRAME)]);
    let printed = |arguments: &[&str], file: &Path| {
        String::from_utf8(packets(arguments, file).stdout).unwrap()
    };
    assert_eq!(printed(&[], &file), format!("{text}, trailer 2\n"));
    // What a terminal would obey is a dot.
    let dump = printed(&["--bytes"], &file);
    assert!(
        dump.ends_with("    0x0030:  2000 0003 0000 0204 05b4 1b5b 0000        ..........[..\n"),
        "{dump}"
    );
    assert!(dump.chars().all(|c| c == '\n' || !c.is_control()));
    let cut = capture(place.path().join("cut.pcap"), 1, &[(1500, &FRAME[..58])]);
    assert_eq!(printed(&[], &cut), format!("{text} (captured 58 of 1500)\n"));
    let unknown = capture(place.path().join("unknown.pcap"), 147, &[(62, &FRAME)]);
    assert!(printed(&[], &unknown).ends_with("Z unknown (unsupported_link_type) 62\n"));
}

#[test]
fn only_what_is_wanted_is_printed() {
    let Some(captures) = captures() else { return };
    let file = captures.join("eleven-cases.pcap");
    let lines =
        |arguments: &[&str]| packets(arguments, &file).stdout.split(|c| *c == b'\n').count() - 1;
    assert_eq!(lines(&[]), 71);
    assert_eq!(lines(&["--filter", "icmp"]), 2);
    assert_eq!(lines(&["--count", "3"]), 3);
    assert_eq!(lines(&["--filter", "icmp", "--count", "3"]), 2);
}

#[test]
fn who_reads_may_stop_and_what_is_wrong_is_told() {
    let place = tempfile::tempdir().unwrap();
    let mut file =
        std::fs::read(capture(place.path().join("one.pcap"), 1, &[(62, &FRAME)])).unwrap();
    let frame = file[24..].to_vec();
    (0..20_000).for_each(|_| file.extend(&frame));
    let path = place.path().join("many.pcap");
    std::fs::write(&path, &file).unwrap();
    let mut child =
        command(&[], &path).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty() && line.contains("tcp 4000"));
    // Cut within its last frame: those in front are printed.
    std::fs::write(&path, &file[..file.len() - 5]).unwrap();
    let output = packets(&[], &path);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout.split(|c| *c == b'\n').count() - 1, 20_000);
    assert!(String::from_utf8_lossy(&output.stderr).contains("many.pcap: at offset"));
    for arguments in [&["--count", "0"][..], &["--filter", "no such thing"]] {
        assert_eq!(packets(arguments, &path).status.code(), Some(2));
    }
}
