//! The extractor from outside: its rows, its account of packets, its exit codes.

mod corpus;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use corpus::{captures, skip};
use serde_json::Value;

fn extractor(arguments: &[&str], files: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_extractor"));
    command.args(arguments).args(files).output().unwrap()
}

/// The rows of a capture in JSON, and what became of its packets.
fn rows(arguments: &[&str], files: &[&Path]) -> (Vec<Value>, Value) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("rows.jsonl");
    let all = [&["--json", "-o", path.to_str().unwrap()][..], arguments].concat();
    let output = extractor(&all, files);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let told = serde_json::from_str(&said).unwrap();
    let rows = std::fs::read_to_string(&path).unwrap();
    (rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect(), told)
}

/// The numbers of these columns.
fn numbers(row: &Value, columns: &[&str]) -> Vec<Option<f64>> {
    columns.iter().map(|&column| row[column].as_f64()).collect()
}

#[test]
fn eleven_cases_are_as_they_truly_are() {
    let Some(captures) = captures() else { return };
    let (rows, told) = rows(&["--preset", "full"], &[&captures.join("eleven-cases.pcap")]);
    assert_eq!((&told["frames"], &told["conserved"], rows.len()), (&71.into(), &true.into(), 12));
    let mut by_ports: BTreeMap<(u64, u64), Vec<&Value>> = BTreeMap::new();
    for row in &rows {
        let port = |end: &str| row[format!("{end}_port")].as_u64().unwrap();
        by_ports.entry((port("source"), port("destination"))).or_default().push(row);
    }
    let case = |source, destination| &by_ports[&(source, destination)];
    let packets = |row: &Value| numbers(row, &["forward_packets", "reverse_packets"]);
    let [six, five] = [Some(6.0), Some(5.0)];

    // A: two complete connections of the same ports, ten seconds apart.
    let [first, second] = case(40000, 80)[..] else { panic!("A: {rows:?}") };
    for row in [first, second] {
        assert_eq!(packets(row), [six, five]);
        assert_eq!(row["bidirectional_duration_ns"], 2_350_000);
        assert_eq!(
            (&row["close_style"], &row["handshake"]),
            (&"fin-initiator".into(), &"full".into())
        );
    }
    let began = |row: &Value| row["bidirectional_first_seen_ns"].as_i64().unwrap();
    assert_eq!(began(second) - began(first), 10_000_000_000);
    // B: the server closes first.
    let [row] = case(40001, 80)[..] else { panic!("B: {rows:?}") };
    assert_eq!((packets(row), &row["close_style"]), (vec![six, six], &"fin-responder".into()));
    // C: reset.
    let [row] = case(40002, 80)[..] else { panic!("C: {rows:?}") };
    assert_eq!(packets(row), [five, Some(4.0)]);
    assert!(row["close_style"].as_str().unwrap().starts_with("rst-"), "{row}");
    // D: one datagram in three fragments.
    let [row] = case(15000, 16000)[..] else { panic!("D: {rows:?}") };
    assert_eq!((packets(row), &row["fragments"]), (vec![Some(3.0), Some(0.0)], &3.into()));
    assert_eq!(row["forward_ip_octets"], 3068);
    // E, F: captured short, over IPv6 and IPv4.
    for (port, octets, wire) in [(40003, 7300, 5 * 1474), (40004, 7200, 5 * 1454)] {
        let [row] = case(port, 443)[..] else { panic!("E, F: {rows:?}") };
        assert_eq!(packets(row), [five, Some(0.0)]);
        assert_eq!(
            (&row["forward_ip_octets"], &row["forward_wire_octets"]),
            (&octets.into(), &wire.into())
        );
        assert_eq!(row["truncated"], 5);
    }
    // G: the same port at both ends.
    let [row] = case(123, 123)[..] else { panic!("G: {rows:?}") };
    assert_eq!(packets(row), [Some(3.0), Some(3.0)]);
    // H: a single packet has no deviation, no gap and no rate.
    let [row] = case(11111, 12222)[..] else { panic!("H: {rows:?}") };
    let none = ["forward_stddev_size", "forward_mean_iat_ns", "bidirectional_packets_per_second"];
    assert_eq!((packets(row), numbers(row, &none)), (vec![Some(1.0), Some(0.0)], vec![None; 3]));
    // I: acknowledgments padded to 60 octets.
    let [row] = case(13333, 14444)[..] else { panic!("I: {rows:?}") };
    let lengths = ["forward_wire_octets", "forward_ip_octets", "forward_payload_octets"];
    assert_eq!(numbers(row, &lengths), [Some(180.0), Some(120.0), Some(0.0)]);
    // J: a question and its answer.
    let [row] = case(0, 0)[..] else { panic!("J: {rows:?}") };
    assert_eq!((packets(row), &row["icmp_type"]), (vec![Some(1.0), Some(1.0)], &8.into()));
    // K: 400 microseconds apart.
    let [row] = case(17100, 17200)[..] else { panic!("K: {rows:?}") };
    let gaps = ["forward_min_iat_ns", "forward_mean_iat_ns", "forward_max_iat_ns"];
    assert_eq!(numbers(row, &gaps), [Some(400_000.0); 3]);
}

#[test]
fn so_many_flows_are_enough_if_somebody_says_so() {
    let Some(captures) = captures() else { return };
    let capture = captures.join("eleven-cases.pcap");
    let rows = |more: &[&str]| {
        let output = extractor(&[&["-q"], more].concat(), &[&capture]);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (all, some) = (rows(&[]), rows(&["--max-flows", "4"]));
    assert_eq!((all.len(), &some[..]), (13, &all[..5]));
}

#[test]
fn what_flows_speak_can_be_named_by_own_rules_nested_and_left_out() {
    let Some(captures) = captures() else { return };
    let capture = captures.join("nfstream/pcaps/443-safari.pcap");
    let place = tempfile::tempdir().unwrap();
    let rules_file = place.path().join("own.toml");
    let own = "[[service]]\nname = \"Mine\"\ncategory = \"Own\"\nhosts = [\"www.ntop.org\"]\n";
    std::fs::write(&rules_file, own).unwrap();
    let (named, _) = rows(&["--rules", rules_file.to_str().unwrap()], &[&capture]);
    assert_eq!(named[0]["application_name"], "TLS.Mine");
    assert_eq!(named[0]["application_category_name"], "Own");
    let (full, _) = rows(&["--preset", "full"], &[&capture]);
    let hello = &full[0]["dissection"]["tls"]["client"];
    assert_eq!((&hello["server_name"], &hello["ja4"]), (&"www.ntop.org".into(), &full[0]["ja4"]));
    assert_eq!(full[0]["application_basis"], "parsed");
    let (without, _) = rows(&["--no-l7"], &[&capture]);
    assert_eq!(without[0]["application_name"], Value::Null);
    assert!(without[0].as_object().unwrap().len() < named[0].as_object().unwrap().len());
}

#[test]
fn every_packet_of_every_capture_is_accounted_for() {
    let Some(captures) = captures() else { return };
    let mut files: Vec<PathBuf> = std::fs::read_dir(captures.join("nfstream/pcaps"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() > 100);
    for file in files {
        for more in [&[][..], &["--no-tunnels"][..]] {
            let all = [&["--json", "--no-output"][..], more].concat();
            let output = extractor(&all, &[&file]);
            let said = String::from_utf8_lossy(&output.stderr);
            let told: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
            assert_eq!(told["conserved"], true, "{}", file.display());
            // One of them is damaged: its first interface takes other bytes than it says.
            let damaged = file.ends_with("quic-mvfst-27.pcapng");
            assert_eq!(output.status.success(), !damaged, "{}: {said}", file.display());
        }
    }
}

#[test]
fn wrong_arguments_and_files_are_told_and_leave_nothing() {
    let place = tempfile::tempdir().unwrap();
    let no_capture = place.path().join("text");
    std::fs::write(&no_capture, "no capture at all").unwrap();
    let no_rules = place.path().join("rules.toml");
    std::fs::write(&no_rules, "[[service]\n").unwrap();
    let out = place.path().join("rows.csv");
    let into = out.to_str().unwrap();
    for (arguments, file, code, said) in [
        (
            &["-o", "rows.xls"][..],
            &no_capture,
            2,
            "only what ends in .csv, .jsonl, .parquet or .nfcapd",
        ),
        (&["--columns", "no_such"], &no_capture, 2, "\"no_such\" is not a column"),
        (&["--columns", "id,id"], &no_capture, 2, "--columns has \"id\" twice"),
        (&["--filter", "no such thing"], &no_capture, 2, "filter \"no such thing\": libpcap error"),
        (&["--preset", "no_such"], &no_capture, 2, "there are basic, nfstream, cic"),
        (
            &["--rules", no_rules.to_str().unwrap()],
            &no_capture,
            2,
            "rules.toml: TOML parse error at line 1",
        ),
        (&["--rules", "/nowhere/rules.toml"], &no_capture, 1, "No such file or directory"),
        (&["--no-l7", "--columns", "ja4"], &no_capture, 2, "\"ja4\" says what flows speak"),
        (&["--no-l7", "--http-paths"], &no_capture, 2, "cannot be used with"),
        (&[], &place.path().join("missing"), 1, "missing: No such file"),
        (&["-o", into], &no_capture, 1, "text: at offset 0: not a capture file"),
        (&["-o", "/nowhere/rows.csv"], &no_capture, 1, "No such file or directory"),
    ] {
        let output = extractor(arguments, &[file]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(error.contains(said), "{error}");
    }
    let mut left: Vec<_> =
        std::fs::read_dir(place.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    // The rows in front of the damage: none, but the names of the columns.
    assert_eq!(left, ["rows.csv", "rules.toml", "text"]);
    assert_eq!(std::fs::read_to_string(&out).unwrap().lines().count(), 1);
}

#[test]
fn the_dictionary_has_every_column_of_every_preset() {
    let output = extractor(&["columns", "--json"], &[]);
    let lines = String::from_utf8(output.stdout).unwrap();
    let columns: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |preset: &str| columns.iter().filter(|column| column["preset"] == preset).count();
    assert_eq!((of("cic"), of("pyflowmeter"), of("basic")), (84, 48, 42));
    assert!(of("full") > 100);
    let text = extractor(&["columns", "--preset", "cic"], &[]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("FWD Init Win Bytes"));
}

#[test]
fn the_page_of_columns_is_what_the_program_prints() {
    let printed = extractor(&["columns", "--markdown"], &[]);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/features.md");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(
        String::from_utf8_lossy(&printed.stdout) == page,
        "make it anew: extractor columns --markdown > docs/features.md"
    );
}

#[test]
fn the_page_of_names_elsewhere_is_what_the_program_prints() {
    let printed = extractor(&["columns", "--names", "ecs,otel", "--markdown"], &[]);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/field-names.md");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(
        String::from_utf8_lossy(&printed.stdout) == page,
        "make it anew: extractor columns --names ecs,otel --markdown > docs/field-names.md"
    );
    let text = extractor(&["columns", "--names", "otel"], &[]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("network.transport (IANA's keyword"), "{text}");
    let json = extractor(&["columns", "--names", "ecs", "--json"], &[]);
    let first: Value =
        serde_json::from_slice(json.stdout.split(|&b| b == b'\n').next().unwrap()).unwrap();
    assert_eq!((&first["column"], &first["name"]), (&"source_address".into(), &"source.ip".into()));
}

/// Packets, octets of IP packets and octets of frames of each pair of endpoints.
type Counts = BTreeMap<String, [u64; 3]>;

/// The key of a pair of endpoints as `independent_count.py` has it.
fn pair(mut ends: [(String, u64); 2], protocol: u64) -> String {
    ends.sort();
    let [(a, from), (b, to)] = ends;
    format!("{a} {from}, {b} {to}, {protocol}")
}

fn counted_by_tshark(file: &Path) -> Counts {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/independent_count.py");
    let output = Command::new("python3").arg(script).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let one = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        let number = |column: &str| row[column].as_u64().unwrap();
        let end = |index: usize| row["ends"][index].as_str().unwrap();
        let key = format!("{}, {}, {}", end(0), end(1), number("protocol"));
        (key, [number("packets"), number("ip_octets"), number("wire_octets")])
    };
    lines.lines().map(one).collect()
}

fn counted_here(file: &Path) -> Counts {
    // As few records as can be: the script knows no timeouts.
    let arguments = ["--no-tunnels", "--preset", "full", "-t", "1000000", "--active-timeout", "0"];
    let mut counts = Counts::new();
    for row in rows(&arguments, &[file]).0 {
        let end = |end: &str| {
            let address = row[format!("{end}_address")].as_str().unwrap().to_owned();
            (address, row[format!("{end}_port")].as_u64().unwrap())
        };
        let number = |column: &str| row[column].as_u64().unwrap();
        let key = pair([end("source"), end("destination")], number("protocol"));
        let sums = counts.entry(key).or_default();
        for (sum, what) in sums.iter_mut().zip(["packets", "ip_octets", "wire_octets"]) {
            *sum += number(&format!("bidirectional_{what}"));
        }
    }
    counts
}

/// Captures in which tshark and we count differently, and why.
const UNLIKE_TSHARK: [(&str, &str); 2] = [
    (
        "fuzz-2021-06-07-c6c72a0a56.pcap",
        "the capture says that a frame was 4,093,509,168 octets long; tshark stops at 2^31 - 1",
    ),
    (
        "reasm_crash_anon.pcapng",
        "two of its frames have a TCP header that cannot be, or not all of one: here they are counted as such, \
         tshark has their IP packets",
    ),
];

/// Captures of which NFStream has other flows, and why.
const UNLIKE_NFSTREAM: [(&str, &str); 6] = [
    (
        "ajp.pcap",
        "packets captured twice, once inside FabricPath with the same VLAN: here one flow of all, there \
         one more for each direction of the copies",
    ),
    ("dns_fragmented.pcap", "NFStream leaves out the seven fragments that are not the first"),
    (
        "fuzz-2021-06-07-c6c72a0a56.pcap",
        "the capture says that a frame was 4,093,509,168 octets long; NFStream keeps 16 bits of that",
    ),
    (
        "quic-mvfst-27.pcapng",
        "a block of the file is shorter than it says, so nothing behind it can be found: we say so and stop",
    ),
    (
        "reasm_crash_anon.pcapng",
        "two resets end a connection, and what follows with a SYN is another; two frames are malformed",
    ),
    ("teredo.pcap", "Teredo is decoded here: flows are those of the IPv6 packets inside"),
];

#[test]
fn every_flow_has_the_packets_and_octets_that_tshark_counts() {
    let Some(captures) = captures() else { return };
    if Command::new("tshark").arg("-v").output().is_err() {
        return skip("tshark is not installed");
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(captures.join("nfstream/pcaps"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with("quic-mvfst-27.pcapng"))
        .collect();
    files.push(captures.join("eleven-cases.pcap"));
    files.sort();
    let mut wrong = String::new();
    let mut differ = Vec::new();
    for file in &files {
        let (theirs, ours) = (counted_by_tshark(file), counted_here(file));
        if theirs == ours {
            continue;
        }
        let name = file.file_name().unwrap().to_str().unwrap();
        differ.push(name);
        if !UNLIKE_TSHARK.iter().any(|(known, _)| *known == name) {
            let other = |a: &Counts, b: &Counts| -> Vec<String> {
                let differs = a.iter().filter(|(key, counts)| b.get(*key) != Some(*counts));
                differs.take(3).map(|(key, counts)| format!("{key}: {counts:?}")).collect()
            };
            wrong += &format!(
                "{name}: tshark {:#?}, here {:#?}\n",
                other(&theirs, &ours),
                other(&ours, &theirs)
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    for (known, why) in UNLIKE_TSHARK {
        assert!(differ.contains(&known), "{known} no longer differs: {why}");
    }
}

#[test]
fn flows_are_those_of_nfstream_but_where_it_is_wrong() {
    let Some(captures) = captures() else { return };
    let results = captures.join("nfstream/results");
    let mut differ = Vec::new();
    let mut same = 0;
    let mut files: Vec<_> =
        std::fs::read_dir(&results).unwrap().map(|entry| entry.unwrap()).collect();
    files.sort_by_key(std::fs::DirEntry::file_name);
    for result in files {
        let name = result.file_name().into_string().unwrap();
        let capture = captures.join("nfstream/pcaps").join(&name);
        let mut reader = csv::Reader::from_path(result.path()).unwrap();
        let mut theirs: Vec<[u64; 2]> = reader
            .records()
            .map(|record| record.unwrap())
            .map(|record| [1, 2].map(|column| record[column].parse().unwrap()))
            .collect();
        let columns = "bidirectional_packets,bidirectional_bytes";
        let timeouts = ["-t", "120", "--active-timeout", "1800", "--quiet", "--columns", columns];
        let output = extractor(&timeouts, &[&capture]);
        let mut reader = csv::Reader::from_reader(&output.stdout[..]);
        let mut ours: Vec<[u64; 2]> = reader
            .records()
            .map(|record| record.unwrap())
            .map(|record| [0, 1].map(|column| record[column].parse().unwrap()))
            .collect();
        theirs.sort_unstable();
        ours.sort_unstable();
        if theirs == ours {
            same += 1;
        } else {
            differ.push(name);
        }
    }
    let known: Vec<&str> = UNLIKE_NFSTREAM.iter().map(|(name, _)| *name).collect();
    assert_eq!(differ, known);
    assert!(same > 130, "{same}");
}
