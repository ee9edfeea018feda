//! What flows speak, held against others: NFStream's applications, and the names and fingerprints that follow
//! from tshark's fields, on all captures of a corpus.

mod corpus;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use corpus::{captures, skip};
use serde_json::Value;

fn files_of(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// The rows of a capture in JSON, with these columns.
fn rows(capture: &Path, timeouts: [&str; 2], columns: &str) -> Vec<Value> {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("rows.jsonl");
    let [idle, active] = timeouts;
    let mut command = Command::new(env!("CARGO_BIN_EXE_extractor"));
    command.args(["--quiet", "-t", idle, "--active-timeout", active, "--columns", columns]);
    // One is damaged: what is in front of that place counts.
    command.arg("-o").arg(&out).arg(capture).output().unwrap();
    let text = std::fs::read_to_string(&out).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A flow of NFStream's results, or of ours: how large, and what it is called.
#[derive(Clone, Debug)]
struct Named {
    size: (u64, u64),
    name: String,
    category: String,
    confidence: u64,
}

fn theirs(result: &Path) -> Vec<Named> {
    let mut reader = csv::Reader::from_path(result).unwrap();
    let one = |row: csv::StringRecord| Named {
        size: (row[1].parse().unwrap(), row[2].parse().unwrap()),
        name: row[3].to_owned(),
        category: row[4].to_owned(),
        confidence: row[6].parse().unwrap(),
    };
    reader.records().map(|row| one(row.unwrap())).collect()
}

fn ours(capture: &Path) -> Vec<Named> {
    let columns = "bidirectional_packets,bidirectional_bytes,application_name,\
        application_category_name,application_confidence";
    let one = |row: &Value| Named {
        size: (
            row["bidirectional_packets"].as_u64().unwrap(),
            row["bidirectional_bytes"].as_u64().unwrap(),
        ),
        name: row["application_name"].as_str().unwrap().to_owned(),
        category: row["application_category_name"].as_str().unwrap().to_owned(),
        confidence: row["application_confidence"].as_u64().unwrap(),
    };
    rows(capture, ["120", "1800"], columns).iter().map(one).collect()
}

/// Takes out of `flows` the one that is most like this one.
fn take_like(flows: &mut Vec<Named>, flow: &Named) -> Option<Named> {
    let likeness = |other: &Named| {
        let same = [
            other.name == flow.name && other.category == flow.category,
            other.name == flow.name,
            other.size == flow.size,
        ];
        same.map(u32::from).into_iter().fold(0, |sum, bit| sum << 1 | bit)
    };
    // The same size comes first: it is the same flow. Where flows are cut differently, the same name.
    let best = (0..flows.len())
        .filter(|&index| flows[index].size == flow.size || flows[index].name == flow.name)
        .max_by_key(|&index| (flows[index].size == flow.size, likeness(&flows[index])))?;
    Some(flows.swap_remove(best))
}

/// Where we differ from what NFStream is sure of: the capture, its name, ours (none if there is no such flow), and
/// why. docs/applications.md has the same.
const UNLIKE_NFSTREAM: [(&str, &str, &str, &str); 10] = [
    (
        "dns_ambiguous_names.pcap",
        "DNS.Instagram",
        "DNS.Facebook",
        "instagram.faae1-1.fna.fbcdn.net: the domain is Facebook's network's; rules are suffixes, not first labels",
    ),
    (
        "hangout.pcap",
        "STUN.GoogleHangoutDuo",
        "STUN",
        "only the port 19305 says Google, and a port names no service here",
    ),
    (
        "ipv6_in_gtp.pcap",
        "RTP",
        "Unknown",
        "one datagram; RTP has no mark of its own, so two that follow one another are wanted here",
    ),
    (
        "malware.pcap",
        "TLS.OpenDNS",
        "TLS",
        "the client wants www.internetbadguys.com; NFStream goes by who holds the certificate",
    ),
    (
        "quic-mvfst-27.pcapng",
        "QUIC.Facebook",
        "",
        "the file is damaged in front of the flow, and reading ends there",
    ),
    (
        "selfsigned.pcap",
        "TLS.ntop",
        "TLS",
        "the client wants localhost; that the certificate is ntop's own says nothing of the service",
    ),
    (
        "snapchat_call.pcapng",
        "QUIC.SnapchatCall",
        "QUIC",
        "no hello was captured; nothing in the packets names the service",
    ),
    ("teredo.pcap", "Teredo", "", "Teredo is decoded here, and flows are those inside"),
    (
        "tls_alert.pcap",
        "TLS.Google (Advertisement)",
        "TLS.Google (Web)",
        "www.google-analytics.com: NFStream gives one name two categories; here a service has one",
    ),
    (
        "tls_verylong_certificate.pcap",
        "TLS (Media)",
        "TLS (Web)",
        "feodotracker.abuse.ch, a list of malware's servers: nothing in it is media",
    ),
];

#[test]
fn applications_are_those_that_nfstream_is_sure_of_but_where_one_is_explained() {
    let Some(corpus) = captures() else { return };
    let mut by_protocol: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    let (mut all, mut same) = (0, 0);
    let mut unlike = BTreeSet::new();
    for result in files_of(&corpus.join("nfstream/results")) {
        let capture = name_of(&result);
        let mut ours = ours(&corpus.join("nfstream/pcaps").join(&capture));
        let mut theirs = theirs(&result);
        // The sure ones choose first.
        theirs.sort_by_key(|flow| std::cmp::Reverse(flow.confidence));
        for flow in theirs.iter().filter(|flow| flow.confidence == 6) {
            let found = take_like(&mut ours, flow);
            all += 1;
            let protocol = flow.name.split('.').next().unwrap_or_default().to_owned();
            let counts = by_protocol.entry(protocol).or_default();
            counts.1 += 1;
            let with = |named: &Named, differ: bool| match differ {
                true => format!("{} ({})", named.name, named.category),
                false => named.name.clone(),
            };
            match &found {
                Some(found) if found.name == flow.name && found.category == flow.category => {
                    same += 1;
                    counts.0 += 1;
                }
                Some(found) => {
                    let differ = found.name == flow.name;
                    unlike.insert((capture.clone(), with(flow, differ), with(found, differ)));
                }
                None => drop(unlike.insert((capture.clone(), flow.name.clone(), String::new()))),
            }
        }
    }
    let mut table = format!("{:20} {:>5} {:>5}\n", "application", "flows", "same");
    for (protocol, (same, all)) in &by_protocol {
        let _ = writeln!(table, "{protocol:20} {all:5} {same:5}");
    }
    let share = f64::from(same) / f64::from(all);
    let _ = writeln!(table, "{:20} {all:5} {same:5}  {:.1} %", "all", share * 100.0);
    for (capture, theirs, ours) in &unlike {
        let _ = writeln!(table, "{capture}: NFStream {theirs:?}, here {ours:?}");
    }
    println!("{table}");
    let known: BTreeSet<_> = UNLIKE_NFSTREAM
        .iter()
        .map(|(capture, theirs, ours, _)| {
            ((*capture).to_owned(), (*theirs).to_owned(), (*ours).to_owned())
        })
        .collect();
    assert_eq!(unlike, known, "{table}");
    assert!(share >= 0.9, "{table}");
}

/// What a flow's messages say, by kind: `tls`, `http`, `ja4`.
type Said = BTreeMap<String, BTreeSet<String>>;

/// By the endpoints in order and the protocol.
type Flows = BTreeMap<(String, String, u64), Said>;

fn by_tshark(capture: &Path) -> Result<Flows, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/dissection.py");
    let output = Command::new("python3").arg(script).arg(capture).output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let mut flows = Flows::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let end = |index: usize| row["ends"][index].as_str().unwrap().to_owned();
        let said = flows.entry((end(0), end(1), row["protocol"].as_u64().unwrap())).or_default();
        for kinds in [&row["names"], &row["fingerprints"]] {
            for (kind, values) in kinds.as_object().unwrap() {
                let texts = values.as_array().unwrap().iter().map(|text| text.as_str().unwrap());
                said.entry(kind.clone()).or_default().extend(texts.map(str::to_owned));
            }
        }
    }
    Ok(flows)
}

fn here(capture: &Path) -> Flows {
    let columns =
        "source_address,source_port,destination_address,destination_port,protocol,dissection";
    let mut flows = Flows::new();
    for row in rows(capture, ["1000000", "0"], columns) {
        let end = |end: &str| {
            let address = row[format!("{end}_address")].as_str().unwrap();
            (address.to_owned(), row[format!("{end}_port")].as_u64().unwrap())
        };
        let mut ends = [end("source"), end("destination")];
        ends.sort();
        let [first, second] = ends.map(|(address, port)| format!("{address} {port}"));
        let said = flows.entry((first, second, row["protocol"].as_u64().unwrap())).or_default();
        let mut add = |kind: &str, value: &Value| {
            if let Some(text) = value.as_str() {
                said.entry(kind.to_owned()).or_default().insert(text.to_owned());
            }
        };
        let found = &row["dissection"];
        let tls = if found["quic"].is_object() { "quic" } else { "tls" };
        add(tls, &found["tls"]["client"]["server_name"]);
        add("gquic", &found["quic"]["server_name"]);
        add("http", &found["http"]["host"]);
        for question in found["dns"]["questions"].as_array().into_iter().flatten() {
            add("dns", &question["name"]);
        }
        for kind in ["ja3", "ja4"] {
            add(kind, &found["tls"]["client"][kind]);
        }
        for kind in ["ja3s", "ja4s"] {
            add(kind, &found["tls"]["server"][kind]);
        }
        for kind in ["hassh", "hassh_server"] {
            add(kind, &found["ssh"][kind]);
        }
    }
    flows
}

/// What tshark shows and we do not have, or the other way round, by capture and kind, and why.
const UNLIKE_TSHARK: [(&str, &str, &str); 1] = [(
    "raw.pcap",
    "ssdp",
    "the Host of SSDP is the group that everybody is addressed by, no server",
)];

#[test]
fn names_and_fingerprints_are_those_that_follow_from_tsharks_fields() {
    let Some(corpus) = captures() else { return };
    if Command::new("tshark").arg("-v").output().is_err() {
        return skip("tshark is not installed");
    }
    let mut captures = files_of(&corpus.join("nfstream/pcaps"));
    // tshark reads nothing of it.
    captures.retain(|capture| name_of(capture) != "quic-mvfst-27.pcapng");
    captures.push(corpus.join("eleven-cases.pcap"));
    let waiting = Mutex::new(captures);
    let (unlike, told) = (Mutex::new(BTreeSet::new()), Mutex::new(String::new()));
    let compared = Mutex::new(BTreeMap::<String, u32>::new());
    let work = || {
        loop {
            let Some(capture) = waiting.lock().unwrap().pop() else { break };
            let name = name_of(&capture);
            let (theirs, ours) = (by_tshark(&capture).unwrap(), here(&capture));
            let nothing = Said::new();
            let flows: BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
            for flow in flows {
                let [their, own] = [&theirs, &ours].map(|all| all.get(flow).unwrap_or(&nothing));
                let kinds: BTreeSet<_> = their.keys().chain(own.keys()).collect();
                for kind in kinds {
                    if their.get(kind) == own.get(kind) {
                        *compared.lock().unwrap().entry(kind.clone()).or_default() += 1;
                        continue;
                    }
                    unlike.lock().unwrap().insert((name.clone(), kind.clone()));
                    let _ = writeln!(
                        told.lock().unwrap(),
                        "{name} {flow:?} {kind}: tshark {:?}, here {:?}",
                        their.get(kind),
                        own.get(kind)
                    );
                }
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    let (told, compared) = (told.into_inner().unwrap(), compared.into_inner().unwrap());
    println!("compared with tshark, flows by what they say: {compared:?}");
    let known: BTreeSet<_> = UNLIKE_TSHARK
        .iter()
        .map(|(name, kind, _)| ((*name).to_owned(), (*kind).to_owned()))
        .collect();
    assert_eq!(unlike.into_inner().unwrap(), known, "{told}");
    for (kind, least) in
        [("tls", 26), ("quic", 9), ("gquic", 6), ("http", 18), ("dns", 126), ("ja4", 40)]
    {
        assert!(compared.get(kind).is_some_and(|&count| count >= least), "{kind}: {compared:?}");
    }
}
