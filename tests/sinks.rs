//! Where the extractor's rows go: each format has the same values, and a file is there when it is whole.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// Says that a test does not run here. Not by `eprintln!`, which the test runner keeps to itself while
/// a test passes.
fn skip(why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// The captures beside the project; where they are not, a test says SKIPPED.
fn captures() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/pcap");
    if !path.is_dir() {
        skip(&format!("no captures at {}", path.display()));
        return None;
    }
    Some(path)
}

/// Python with pyarrow from PyPI, in an environment of its own that stays in `target`.
fn pyarrow() -> Option<PathBuf> {
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
