//! Where the extractor's rows go: each format has the same values, and a file is there when it is whole.

mod corpus;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use corpus::{captures, skip};
use serde_json::Value;

/// Python with pyarrow from PyPI, in an environment of its own that stays in `target`.
fn pyarrow() -> Option<PathBuf> {
    static PYTHON: LazyLock<Option<PathBuf>> = LazyLock::new(installed_pyarrow);
    PYTHON.clone()
}

fn installed_pyarrow() -> Option<PathBuf> {
    let environment = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/pyarrow");
    let python = environment.join("bin/python");
    let works = |python: &Path| {
        let imported = Command::new(python).args(["-c", "import pyarrow.parquet"]).output();
        imported.is_ok_and(|output| output.status.success())
    };
    if !works(&python) {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&environment).status();
        let pip = ["-m", "pip", "install", "--quiet", "--retries", "0", "pyarrow"];
        let ready = made.is_ok_and(|made| made.success())
            && Command::new(&python).args(pip).status().is_ok_and(|status| status.success())
            && works(&python);
        if !ready {
            skip("pyarrow cannot be installed from PyPI");
            return None;
        }
    }
    Some(python)
}

fn extractor(arguments: &[&str], files: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_extractor"));
    command.args(arguments).args(files).output().unwrap()
}

/// Makes rows, all of them.
#[track_caller]
fn make(arguments: &[&str], files: &[&Path], into: &Path) {
    let all = [arguments, &["--quiet", "-o", into.to_str().unwrap()]].concat();
    let output = extractor(&all, files);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The names of all files in a directory, in order.
fn listed(place: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(place).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Columns with their types, their units, then each row as an array. Floating point is in text, because not
/// every reader of JSON keeps its last digit.
const DUMP: &str = "
import json, sys, pyarrow.parquet
table = pyarrow.parquet.read_table(sys.argv[1])
print(json.dumps([[field.name, str(field.type)] for field in table.schema]))
about = json.loads(table.schema.metadata[b'procflow.columns'])
print(json.dumps([[column['name'], column['unit']] for column in about]))
columns = [column.to_pylist() for column in table.columns]
for row in zip(*columns):
    print(json.dumps([{'float': repr(cell)} if isinstance(cell, float) else cell for cell in row]))
";

/// Whether a value of a Parquet file is the one that CSV has.
fn same(value: &Value, text: &str) -> bool {
    match value {
        Value::Null => text.is_empty(),
        Value::String(value) => value == text,
        Value::Object(_) => {
            let float = value["float"].as_str().unwrap().parse::<f64>().unwrap();
            text.parse() == Ok(float)
        }
        other => serde_json::from_str(text).is_ok_and(|text: Value| text == *other),
    }
}

#[test]
fn a_parquet_file_has_the_values_of_the_csv_as_pyarrow_reads_it() {
    let Some(captures) = captures() else { return };
    let Some(python) = pyarrow() else { return };
    let place = tempfile::tempdir().unwrap();
    let script = place.path().join("dump.py");
    std::fs::write(&script, DUMP).unwrap();
    for (capture, least) in [("eleven-cases.pcap", 12), ("nfstream/pcaps/badpackets.pcap", 90)] {
        for preset in ["nfstream", "full", "cic", "pyflowmeter"] {
            let (csv, parquet) = (place.path().join("a.csv"), place.path().join("a.parquet"));
            let capture = captures.join(capture);
            make(&["--preset", preset], &[&capture], &csv);
            make(&["--preset", preset], &[&capture], &parquet);
            let output = Command::new(&python).arg(&script).arg(&parquet).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let read = String::from_utf8(output.stdout).unwrap();
            let mut lines = read.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let (schema, about) = (lines.next().unwrap(), lines.next().unwrap());
            let mut reader = csv::Reader::from_path(&csv).unwrap();
            let names: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
            let of = |list: &Value| -> Vec<String> {
                let all = list.as_array().unwrap().iter();
                all.map(|field| field[0].as_str().unwrap().to_owned()).collect()
            };
            assert_eq!((&of(&schema), &of(&about)), (&names, &names));
            let mut count = 0;
            for record in reader.records() {
                let (record, row) = (record.unwrap(), lines.next().unwrap());
                for (index, text) in record.iter().enumerate() {
                    let value = &row[index];
                    assert!(same(value, text), "{preset} {}: {value} {text:?}", names[index]);
                }
                count += 1;
            }
            assert!(lines.next().is_none() && count >= least, "{preset}: {count}");
            if preset == "full" {
                let types = schema.as_array().unwrap().iter();
                let of =
                    |name: &str| types.clone().find(|field| field[0] == name).unwrap()[1].clone();
                assert_eq!(of("source_port"), "uint64");
                assert_eq!(of("bidirectional_first_seen_ns"), "int64");
                assert_eq!(of("bidirectional_mean_size"), "double");
                assert_eq!(of("source_address"), "string");
                assert!(of("first_sizes").as_str().unwrap().starts_with("list<element: uint64"));
            }
        }
    }
}

#[test]
fn any_number_of_threads_writes_the_same_parquet_file() {
    let Some(captures) = captures() else { return };
    let place = tempfile::tempdir().unwrap();
    let capture = captures.join("nfstream/pcaps/badpackets.pcap");
    let bytes = ["1", "2", "7"].map(|threads| {
        let path = place.path().join(format!("{threads}.parquet"));
        make(&["--preset", "full", "--threads", threads], &[&capture], &path);
        std::fs::read(path).unwrap()
    });
    assert!(bytes[0].starts_with(b"PAR1") && bytes[0].ends_with(b"PAR1"));
    assert!(bytes[0] == bytes[1] && bytes[0] == bytes[2]);
}

#[test]
fn a_damaged_capture_leaves_a_whole_parquet_file_of_what_came_before() {
    let Some(captures) = captures() else { return };
    let place = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(captures.join("eleven-cases.pcap")).unwrap();
    let (damaged, out) = (place.path().join("short.pcap"), place.path().join("rows.parquet"));
    std::fs::write(&damaged, &bytes[..bytes.len() - 7]).unwrap();
    let output = extractor(&["--quiet", "-o", out.to_str().unwrap()], &[&damaged]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(listed(place.path()), ["rows.parquet", "short.pcap"]);
    assert!(std::fs::read(out).unwrap().ends_with(b"PAR1"));
}

/// A capture of UDP datagrams over IPv4, each with its time in seconds and its source port.
fn datagrams(packets: &[(u32, u16)]) -> Vec<u8> {
    // Big-endian, microseconds, version 2.4, IP packets without a link layer (101).
    let header = [0xa1b2_c3d4_u32, 0x0002_0004, 0, 0, 65_535, 101];
    let mut file: Vec<u8> = header.iter().flat_map(|field| field.to_be_bytes()).collect();
    for (time, port) in packets {
        file.extend([*time, 0, 29, 29].iter().flat_map(|field| field.to_be_bytes()));
        file.extend([0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        file.extend([port.to_be_bytes(), [0, 53], [0, 9], [0, 0]].concat());
        file.push(b'?');
    }
    file
}

/// 2026-11-22 10:15:00 UTC.
const QUARTER_PAST: u32 = 1_795_342_500;

#[test]
fn files_of_a_time_have_the_flows_that_ended_in_it() {
    let place = tempfile::tempdir().unwrap();
    let capture = place.path().join("in.pcap");
    // They end five seconds later; the last one when the capture does.
    let packets = [(0, 1), (10, 2), (58, 3), (100, 4)];
    let packets = packets.map(|(second, port)| (QUARTER_PAST + second, port));
    std::fs::write(&capture, datagrams(&packets)).unwrap();
    let out = place.path().join("flows.csv");
    let arguments = ["--columns", "id,src_port", "-t", "5", "--rotate-time", "30s"];
    let files = [
        ("flows.20261122T101500Z.csv", "id,src_port\r\n0,1\r\n1,2\r\n"),
        ("flows.20261122T101600Z.csv", "id,src_port\r\n2,3\r\n"),
        ("flows.20261122T101630Z.csv", "id,src_port\r\n3,4\r\n"),
    ];
    make(&arguments, &[&capture], &out);
    let names = files.map(|(name, _)| name);
    assert_eq!(listed(place.path()), [&names[..], &["in.pcap"]].concat());
    for (name, rows) in files {
        assert_eq!(std::fs::read_to_string(place.path().join(name)).unwrap(), rows);
    }
    // What is there stays.
    let first = place.path().join(names[0]);
    std::fs::write(&first, "mine").unwrap();
    make(&arguments, &[&capture], &out);
    assert_eq!(std::fs::read_to_string(&first).unwrap(), "mine");
    let again = place.path().join("flows.20261122T101500Z.0002.csv");
    assert_eq!(std::fs::read_to_string(again).unwrap(), files[0].1);
    assert_eq!(listed(place.path()).len(), 7);
}

#[test]
fn files_of_a_size_have_all_rows_one_after_another() {
    let Some(captures) = captures() else { return };
    let capture = captures.join("nfstream/pcaps/badpackets.pcap");
    for extension in ["csv", "jsonl"] {
        let place = tempfile::tempdir().unwrap();
        let whole = tempfile::tempdir().unwrap();
        let name = format!("rows.{extension}");
        let (whole, out) = (whole.path().join(&name), place.path().join(&name));
        make(&[], &[&capture], &whole);
        make(&["--rotate-size", "10K"], &[&capture], &out);
        let whole = std::fs::read_to_string(&whole).unwrap();
        let header =
            if extension == "csv" { whole.split_inclusive('\n').next().unwrap() } else { "" };
        let mut all = header.to_owned();
        let files = listed(place.path());
        assert!(files.len() > 3, "{files:?}");
        for (index, name) in files.iter().enumerate() {
            assert_eq!(*name, format!("rows.{:04}.{extension}", index + 1));
            let text = std::fs::read_to_string(place.path().join(name)).unwrap();
            let rows = text.strip_prefix(header).unwrap();
            let before_the_last = text.trim_end().rfind('\n').unwrap_or(0);
            assert!(before_the_last < 10_000, "{name}: {}", text.len());
            assert!(text.len() >= 10_000 || index + 1 == files.len(), "{name}: {}", text.len());
            all.push_str(rows);
        }
        assert!(all == whole);
    }
}

#[test]
fn parquet_files_of_a_size_are_whole_and_have_all_rows() {
    let Some(captures) = captures() else { return };
    let Some(python) = pyarrow() else { return };
    let place = tempfile::tempdir().unwrap();
    let capture = captures.join("nfstream/pcaps/badpackets.pcap");
    make(&["--rotate-size", "20K"], &[&capture], &place.path().join("rows.parquet"));
    let script = "import sys, pyarrow.parquet\n\
        print(*[i for name in sys.argv[1:] for i in pyarrow.parquet.read_table(name)['id'].to_pylist()])";
    let files = listed(place.path());
    assert!(files.len() > 2, "{files:?}");
    let paths = files.iter().map(|name| place.path().join(name));
    let output = Command::new(python).args(["-c", script]).args(paths).output().unwrap();
    let numbers = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<usize> = numbers.split_whitespace().map(|n| n.parse().unwrap()).collect();
    let rows = extractor(&["--quiet"], &[&capture]).stdout;
    let rows = rows.iter().filter(|&&byte| byte == b'\n').count() - 1;
    assert_eq!(numbers, (0..rows).collect::<Vec<_>>());
}

#[test]
fn there_is_nothing_to_rotate_on_standard_output_and_no_file_without_rows() {
    let place = tempfile::tempdir().unwrap();
    let capture = place.path().join("in.pcap");
    std::fs::write(&capture, datagrams(&[])).unwrap();
    for arguments in [&["--rotate-size", "1M"][..], &["--rotate-time", "5m", "-o", "-"]] {
        let output = extractor(arguments, &[&capture]);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("--rotate-size and --rotate-time need a file"), "{said}");
    }
    make(&["--rotate-size", "1M"], &[&capture], &place.path().join("out.csv"));
    make(&["--rotate-time", "1h"], &[&capture], &place.path().join("out.parquet"));
    assert_eq!(listed(place.path()), ["in.pcap"]);
}

/// Runs a command with its standard error, and if asked its standard output, on a terminal; prints what came
/// there.
const ON_A_TERMINAL: &str = r#"
import os, pty, subprocess, sys
ours, theirs = pty.openpty()
out = theirs if sys.argv[1] == "both" else subprocess.DEVNULL
child = subprocess.Popen(sys.argv[2:], stdout=out, stderr=theirs)
os.close(theirs)
said = b""
try:
    while chunk := os.read(ours, 65536):
        said += chunk
except OSError:
    pass
child.wait()
sys.stdout.buffer.write(said)
"#;

#[test]
fn a_bar_is_shown_to_who_looks_and_to_nobody_else() {
    if Command::new("python3").arg("--version").output().is_err() {
        return skip("python3 is not installed");
    }
    let place = tempfile::tempdir().unwrap();
    let capture = place.path().join("in.pcap");
    let packets: Vec<_> = (0..1000).map(|port| (QUARTER_PAST, port)).collect();
    let bytes = datagrams(&packets);
    std::fs::write(&capture, &bytes).unwrap();
    let said = |terminal: &str, arguments: &[&str]| {
        let mut command = Command::new("python3");
        command.args(["-c", ON_A_TERMINAL, terminal, env!("CARGO_BIN_EXE_extractor")]);
        let output = command.args(arguments).arg(&capture).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let rows = place.path().join("rows.csv");
    let bar = said("error", &["-o", rows.to_str().unwrap()]);
    // 24 and 45 octets for each packet.
    assert_eq!(bytes.len(), 24 + 45 * 1000);
    assert!(bar.contains("43.97 KiB/43.97 KiB") && bar.contains("packets/s"), "{bar:?}");
    assert!(bar.contains("1000 frames"), "{bar:?}");
    for (terminal, arguments) in
        [("error", &["--quiet"][..]), ("both", &[]), ("both", &["-o", "-"])]
    {
        let said = said(terminal, arguments);
        assert!(!said.contains("packets/s"), "{said:?}");
    }
    // No terminal at all.
    let output = extractor(&["-o", rows.to_str().unwrap()], &[&capture]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("packets/s"));
}

#[test]
fn columns_have_the_names_of_others_and_any_preset_the_community_id() {
    let place = tempfile::tempdir().unwrap();
    let capture = place.path().join("in.pcap");
    std::fs::write(&capture, datagrams(&[(QUARTER_PAST, 7)])).unwrap();
    let rows = |arguments: &[&str]| {
        let output = extractor(&[arguments, &["--quiet"]].concat(), &[&capture]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let columns = "source_address,source_port,protocol,forward_ip_octets,handshake";
    // Its number is not OpenTelemetry's keyword, so that keeps its name.
    for (names, header) in [
        ("ecs", "source.ip,source.port,network.iana_number,source.bytes,handshake"),
        ("otel", "source.address,source.port,protocol,forward_ip_octets,handshake"),
    ] {
        let rows = rows(&["--columns", columns, "--names", names]);
        assert_eq!(rows, format!("{header}\r\n10.0.0.1,7,17,29,\r\n"));
    }
    // By the Community ID's specification, from Python's hashlib: sha1 of seed 0, 10.0.0.1, 10.0.0.2, 17, 0,
    // 7, 53.
    let id = "1:fUU7ISsyLtU6uj7KjCQqDsJt6LE=";
    for preset in ["basic", "nfstream", "cic", "pyflowmeter", "full"] {
        let rows = rows(&["--preset", preset, "--community-id"]);
        let mut reader = csv::Reader::from_reader(rows.as_bytes());
        let there = |name: &str| name == "community_id";
        assert_eq!(reader.headers().unwrap().iter().filter(|&name| there(name)).count(), 1);
        let place = reader.headers().unwrap().iter().position(there).unwrap();
        let row = reader.records().next().unwrap().unwrap();
        assert_eq!(&row[place], id, "{preset}");
    }
}

#[test]
fn each_capture_of_a_directory_has_its_rows_and_a_damaged_one_stops_none() {
    let place = tempfile::tempdir().unwrap();
    let (from, into) = (place.path().join("in"), place.path().join("out"));
    std::fs::create_dir(&from).unwrap();
    std::fs::create_dir(&into).unwrap();
    std::fs::create_dir(from.join("below.pcap")).unwrap();
    let whole = datagrams(&[(QUARTER_PAST, 1), (QUARTER_PAST, 2)]);
    let short = &datagrams(&[(QUARTER_PAST, 3), (QUARTER_PAST, 4)])[..24 + 45 + 44];
    for (name, bytes) in
        [("a.1.pcap", &whole[..]), ("b.pcap", short), ("c.pcap", b"no capture"), ("d.cap", &whole)]
    {
        std::fs::write(from.join(name), bytes).unwrap();
    }
    std::fs::write(from.join("notes.txt"), "no capture").unwrap();
    let batch = |more: &[&str]| {
        let directory = ["--batch", from.to_str().unwrap(), "--columns", "src_port"];
        extractor(&[&directory, more].concat(), &[])
    };
    let output = batch(&["-o", into.to_str().unwrap(), "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(listed(&into), ["a.1.csv", "b.csv", "c.csv", "d.csv"]);
    for (name, rows) in [("a.1", "1\r\n2\r\n"), ("b", "3\r\n"), ("c", ""), ("d", "1\r\n2\r\n")] {
        let text = std::fs::read_to_string(into.join(format!("{name}.csv"))).unwrap();
        assert_eq!(text, format!("src_port\r\n{rows}"), "{name}");
    }
    let said = String::from_utf8(output.stderr).unwrap();
    let told: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |key: &str| told.iter().map(|one| one[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("frames"), [2, 1, 0, 2]);
    let errors: Vec<bool> = of("error").iter().map(Value::is_string).collect();
    assert_eq!(errors, [false, true, true, false]);

    // Beside them, in another format, in words.
    std::fs::remove_file(from.join("c.pcap")).unwrap();
    std::fs::remove_file(from.join("b.pcap")).unwrap();
    let output = batch(&["--format", "jsonl"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("a.1.pcap: 2 frames"), "{said}");
    assert_eq!(
        listed(&from),
        ["a.1.jsonl", "a.1.pcap", "below.pcap", "d.cap", "d.jsonl", "notes.txt"]
    );
    assert_eq!(extractor(&["--format", "jsonl"], &[&from.join("d.cap")]).status.code(), Some(2));
    // What is wrong for all is said once.
    let output = batch(&["--filter", "no such thing"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8(output.stderr).unwrap().lines().count(), 1);
    let empty = tempfile::tempdir().unwrap();
    let output = extractor(&["--batch", empty.path().to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("there is no capture in it"));
}
