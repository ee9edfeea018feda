//! `extractor sessions` from outside: octet by octet what tshark follows, its lines, its exit codes.

mod corpus;
mod lab;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use corpus::captures;
use lab::installed;
use serde_json::Value;

fn sessions(arguments: &[&str], file: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_extractor"));
    command.arg("sessions").args(arguments).arg(file).output().unwrap()
}

/// The events of a capture.
fn events(arguments: &[&str], file: &Path) -> Vec<Value> {
    let output = sessions(&[&["--json"][..], arguments].concat(), file);
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What both ends of one connection sent, the smaller one first, and how long the handshake took.
#[derive(Debug, Default, PartialEq)]
struct Conversation {
    sent: [Vec<u8>; 2],
    handshake: Option<u64>,
}

/// The connections of each pair of ends, in the order in which they began.
type Conversations = BTreeMap<[String; 2], Vec<Conversation>>;

/// Text that tshark puts where octets are missing.
fn missing(octets: u64) -> Vec<u8> {
    format!("[{octets} bytes missing in capture file]\0").into_bytes()
}

fn told_here(file: &Path) -> Conversations {
    // tshark knows no timeouts.
    let mut sessions: BTreeMap<u64, ([String; 2], Conversation)> = BTreeMap::new();
    for event in events(&["--data", "--quiet", "-t", "1000000"], file) {
        let end = |end: &str| {
            let address = event[format!("{end}_address")].as_str().unwrap();
            let port = &event[format!("{end}_port")];
            if address.contains(':') {
                format!("[{address}]:{port}")
            } else {
                format!("{address}:{port}")
            }
        };
        let mut ends = [end("source"), end("destination")];
        ends.sort();
        let forward = usize::from(end("source") != ends[0]);
        let number = event["session"].as_u64().unwrap();
        let (_, conversation) = sessions.entry(number).or_insert((ends, Conversation::default()));
        let way = if event["direction"] == "reverse" { 1 - forward } else { forward };
        let sent = &mut conversation.sent[way];
        match event["event"].as_str().unwrap() {
            "data" => {
                let payload = BASE64_STANDARD.decode(event["payload_base64"].as_str().unwrap());
                let payload = payload.unwrap();
                assert_eq!(event["octets"], payload.len());
                sent.extend(payload);
            }
            "lost" if event["why"] == "not-seen" => {
                sent.extend(missing(event["octets"].as_u64().unwrap()));
            }
            "end" if event["forward"]["syn_retries"] == 0 => {
                conversation.handshake = event["handshake_rtt_ns"].as_u64();
            }
            _ => {}
        }
    }
    let mut all = Conversations::new();
    for (ends, conversation) in sessions.into_values() {
        all.entry(ends).or_default().push(conversation);
    }
    all
}

fn tshark(file: &Path, arguments: &[String]) -> String {
    let mut command = Command::new("tshark");
    let output = command.arg("-n").arg("-r").arg(file).args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn followed_by_tshark(file: &Path) -> Conversations {
    let fields = "-Y tcp -T fields -e tcp.stream -e tcp.analysis.initial_rtt";
    let fields: Vec<String> = fields.split(' ').map(str::to_owned).collect();
    let mut handshakes: BTreeMap<usize, Option<u64>> = BTreeMap::new();
    for line in tshark(file, &fields).lines() {
        let (stream, took) = line.split_once('\t').unwrap();
        // In an ICMP error there is a second one.
        let Ok(stream) = stream.parse() else { continue };
        let handshake = handshakes.entry(stream).or_default();
        // Seconds, with nine digits behind the point.
        *handshake = handshake.or_else(|| took.replace('.', "").parse().ok());
    }
    let follow = |stream: &usize| ["-z".to_owned(), format!("follow,tcp,raw,{stream}")];
    let mut arguments = vec!["-q".to_owned()];
    arguments.extend(handshakes.keys().flat_map(follow));
    let text = tshark(file, &arguments);
    let mut all = Conversations::new();
    for block in text.split(&format!("{}\n", "=".repeat(67))) {
        let Some(block) = block.split_once("Filter: tcp.stream eq ").map(|(_, block)| block) else {
            continue;
        };
        let mut lines = block.lines();
        let stream: usize = lines.next().unwrap().parse().unwrap();
        let mut node = || lines.next().unwrap().split_once(": ").unwrap().1.to_owned();
        let nodes = [node(), node()];
        let mut ends = nodes.clone();
        ends.sort();
        let first = usize::from(nodes[0] != ends[0]);
        let mut conversation =
            Conversation { handshake: handshakes[&stream], ..Conversation::default() };
        for line in lines {
            let way = if line.starts_with('\t') { 1 - first } else { first };
            let hex = line.trim().as_bytes().chunks(2);
            let octet = |hex| u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap();
            conversation.sent[way].extend(hex.map(octet));
        }
        all.entry(ends).or_default().push(conversation);
    }
    all
}

/// Captures with connections that are whole, reordered, with holes, with every packet twice, within tunnels,
/// of IPv6 and many at a time.
const LIKE_TSHARK: [&str; 14] = [
    "nfstream/pcaps/Oscar.pcap",
    "nfstream/pcaps/WebattackSQLinj.pcap",
    "nfstream/pcaps/ajp.pcap",
    "nfstream/pcaps/dnp3.pcap",
    "nfstream/pcaps/dns_fragmented.pcap",
    "nfstream/pcaps/ftp_failed.pcap",
    "nfstream/pcaps/google_ssl.pcap",
    "nfstream/pcaps/kerberos.pcap",
    "nfstream/pcaps/mssql_tds.pcap",
    "nfstream/pcaps/6in4tunnel.pcap",
    "nfstream/pcaps/mongodb.pcap",
    "nfstream/pcaps/reasm_crash_anon.pcapng",
    "nfstream/pcaps/badpackets.pcap",
    "eleven-cases.pcap",
];

/// Those of them of which something differs, and why.
const UNLIKE_TSHARK: [(&str, &str); 3] = [
    (
        "nfstream/pcaps/6in4tunnel.pcap",
        "tshark follows a connection that is only quoted in an ICMP error",
    ),
    (
        "nfstream/pcaps/mongodb.pcap",
        "packets captured twice, in a VLAN and outside: two sessions here, one there",
    ),
    (
        "nfstream/pcaps/reasm_crash_anon.pcapng",
        "octets were changed at random: two resets end sessions here, and lengths are those of headers",
    ),
];

#[test]
fn each_side_has_sent_what_tshark_follows_octet_by_octet() {
    let Some(captures) = captures() else { return };
    if !installed("tshark") {
        return;
    }
    let (mut octets, mut handshakes, mut differ) = (0, 0, Vec::new());
    let mut wrong = String::new();
    for name in LIKE_TSHARK {
        let file = captures.join(name);
        let (theirs, ours) = (followed_by_tshark(&file), told_here(&file));
        let all = ours.values().flatten();
        octets += all.clone().flat_map(|one| &one.sent).map(Vec::len).sum::<usize>();
        handshakes += all.filter(|one| one.handshake.is_some()).count();
        let mut differs = theirs.len() != ours.len();
        for (ends, theirs) in &theirs {
            let none = Vec::new();
            let ours = ours.get(ends).unwrap_or(&none);
            let same = |(a, b): (&Conversation, &Conversation)| {
                // Which of several SYNs counts is told differently.
                a.sent == b.sent && (b.handshake.is_none() || a.handshake == b.handshake)
            };
            if theirs.len() != ours.len() || !theirs.iter().zip(ours).all(same) {
                differs = true;
                let lengths = |all: &[Conversation]| -> Vec<_> {
                    let sent = |one: &Conversation| one.sent.each_ref().map(Vec::len);
                    all.iter().map(|one| (sent(one), one.handshake)).collect()
                };
                if !UNLIKE_TSHARK.iter().any(|(known, _)| *known == name) {
                    let (theirs, ours) = (lengths(theirs), lengths(ours));
                    wrong += &format!("{name} {ends:?}: tshark {theirs:?}, here {ours:?}\n");
                }
            }
        }
        if differs {
            differ.push(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(differ, UNLIKE_TSHARK.map(|(name, _)| name));
    assert!(octets > 100_000 && handshakes > 20, "{octets} {handshakes}");
}

#[test]
fn a_session_is_told_in_lines() {
    let Some(captures) = captures() else { return };
    let file = captures.join("eleven-cases.pcap");
    let output = sessions(&["--filter", "port 40002", "--data"], &file);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.starts_with("extractor: 9 frames, 9 packets in 1 sessions\n"), "{said}");
    let told = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = told.lines().collect();
    let ends = "10.0.0.1:40002 - 10.0.0.2:80";
    assert_eq!(lines[0], format!("2023-11-14T22:13:50.000250Z 1 {ends} start, handshake full"));
    assert!(lines[1].starts_with(
        "2023-11-14T22:13:50.000300Z 1 10.0.0.1:40002 > 10.0.0.2:80 data 100 \"GET / HTTP/1.1\\r\\n"
    ));
    assert_eq!(
        lines[4..],
        [
            "2023-11-14T22:13:50.002000Z 1 10.0.0.1:40002 > 10.0.0.2:80 reset",
            &format!(
                "2023-11-14T22:13:50.002000Z 1 {ends} end, rst-initiator, end-of-flow, 2.000 ms"
            ),
            "    handshake 0.250 ms: 0.200 ms > 0.050 ms <",
            "    > 5 packets, octets: 200 headers, 100 payload, 100 data; 1 round trips: 0.400 ms / \
             0.400 ms / 0.400 ms",
            "    < 4 packets, octets: 160 headers, 2000 payload, 2000 data; 2 round trips: 0.200 ms / \
             0.250 ms / 0.300 ms",
        ]
    );
}

#[test]
fn every_frame_of_every_capture_is_accounted_for() {
    let Some(captures) = captures() else { return };
    let mut files: Vec<PathBuf> = std::fs::read_dir(captures.join("nfstream/pcaps"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() > 100);
    for file in files {
        let output = sessions(&["--json"], &file);
        let said = String::from_utf8_lossy(&output.stderr);
        let told: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
        assert_eq!(told["conserved"], true, "{}", file.display());
        let mut payload = BTreeMap::new();
        for event in String::from_utf8(output.stdout).unwrap().lines() {
            let event: Value = serde_json::from_str(event).unwrap();
            let number = event["session"].as_u64().unwrap();
            let kind = event["event"].as_str().unwrap();
            let sum = payload.entry(number).or_insert([0_u64; 2]);
            let octets = event["octets"].as_u64().unwrap_or(0);
            match kind {
                "data" => sum[0] += octets,
                "lost" => sum[1] += octets,
                "end" => {
                    let of = |what: &str| {
                        ["forward", "reverse"].map(|way| event[way][what].as_u64().unwrap())
                    };
                    let sum_of = |what: &str| of(what).iter().sum::<u64>();
                    let lost = sum_of("not_seen_octets") + sum_of("not_captured_octets");
                    assert_eq!(*sum, [sum_of("data_octets"), lost], "{event}");
                    payload.remove(&number);
                }
                _ => {}
            }
        }
        assert!(payload.is_empty(), "{}: without an end: {payload:?}", file.display());
        assert!(!said.contains("panicked"), "{}: {said}", file.display());
        // One of them is damaged: its first interface takes other bytes than it says.
        let damaged = file.ends_with("quic-mvfst-27.pcapng");
        assert_eq!(output.status.success(), !damaged, "{}: {said}", file.display());
    }
}

#[test]
fn a_damaged_capture_is_told_up_to_the_damage() {
    let Some(captures) = captures() else { return };
    let place = tempfile::tempdir().unwrap();
    let whole = std::fs::read(captures.join("eleven-cases.pcap")).unwrap();
    let cut = place.path().join("cut.pcap");
    std::fs::write(&cut, &whole[..600]).unwrap();
    let output = sessions(&["--quiet"], &cut);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cut.pcap: at offset"), "{said}");
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains(" start, handshake full\n"), "{told}");
    assert!(told.contains(" end, open, forced-end, "), "{told}");
}

#[test]
fn wrong_arguments_are_told() {
    let place = tempfile::tempdir().unwrap();
    let text = place.path().join("text");
    std::fs::write(&text, "no capture at all").unwrap();
    for (arguments, file, code, said) in [
        (&["--filter", "no such thing"][..], &text, 2, "filter \"no such thing\": libpcap error"),
        (&["--capacity", "0"], &text, 2, "0 is not in 1.."),
        (&["--preset", "cic"], &text, 2, "unexpected argument '--preset'"),
        (&[], &place.path().join("missing"), 1, "missing: No such file"),
        (&[], &text, 1, "text: at offset 0: not a capture file"),
    ] {
        let output = sessions(arguments, file);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(error.contains(said), "{error}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn who_has_read_enough_is_no_failure() {
    let Some(captures) = captures() else { return };
    let mut command = Command::new(env!("CARGO_BIN_EXE_extractor"));
    // More than a pipe and the program's own room hold.
    let file = captures.join("nfstream/pcaps/dnp3.pcap");
    command.args(["sessions", "--json", "--data", "--quiet"]).args(vec![file; 40]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::with_capacity(100, child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(first.contains("\"event\""), "{first}");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
