//! The extractor from outside: its rows, its account of packets, its exit codes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The captures beside the project; where they are not, a test says SKIPPED.
fn captures() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/pcap");
    if !path.is_dir() {
        skip(&format!("no captures at {}", path.display()));
        return None;
    }
    Some(path)
}

/// Says that a test does not run here. Not by `eprintln!`, which the test runner keeps to itself while
/// a test passes.
fn skip(why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

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
    let out = place.path().join("rows.csv");
    let into = out.to_str().unwrap();
    for (arguments, file, code, said) in [
        (&["-o", "rows.xls"][..], &no_capture, 2, "neither in .csv nor in .jsonl"),
        (&["--columns", "no_such"], &no_capture, 2, "\"no_such\" is not a column"),
        (&["--preset", "no_such"], &no_capture, 2, "there are basic, nfstream, cic"),
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
    assert_eq!(left, ["rows.csv", "text"]);
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
