//! `updater show` and `updater salvage`: nfcapd files without a tracker, with nfdump as the judge.

mod lab;

use std::collections::BTreeSet;
use std::fs;
use std::io::Cursor;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lab::{Answer, Lab, Recipe, big_file, installed, nfdump};
use procflow_nfdump::rewrite;
use serde_json::Value;

/// A file of this many flows in blocks of 10,000.
fn file(directory: &Path, flows: usize) -> PathBuf {
    let path = directory.join("nfcapd.202611210300");
    let source = SocketAddrV4::new([10, 0, 0, 1].into(), 1027);
    let destination = SocketAddrV4::new([10, 0, 0, 2].into(), 53);
    big_file(&path, &Recipe::now(source, destination, 17, flows));
    path
}

fn updater(arguments: &[&str], paths: &[&Path]) -> Answer {
    Answer::of(Command::new(env!("CARGO_BIN_EXE_updater")).args(arguments).args(paths))
}

/// The one line of JSON that was printed.
fn json(answer: &Answer) -> Value {
    assert_eq!(answer.out.lines().count(), 1, "{answer:?}");
    serde_json::from_str(&answer.out).unwrap()
}

/// Where the data blocks of a file are, and how long, headers included.
fn blocks(path: &Path) -> Vec<(usize, usize)> {
    let shown = json(&updater(&["show", "--json"], &[path]).ok());
    let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let of = |block: &Value| (number(&block["offset"]), number(&block["bytes_on_disk"]) + 12);
    shown["blocks"].as_array().unwrap().iter().map(of).collect()
}

/// Asserts that nfdump finds nothing wrong with a file, and gives how many flows it lists.
#[track_caller]
fn flows_of_a_whole_file(path: &Path) -> usize {
    let verified = Command::new("nfdump").arg("-v").arg(path).output().unwrap();
    let said = String::from_utf8_lossy(&[verified.stdout, verified.stderr].concat()).into_owned();
    assert!(verified.status.success(), "{said}");
    for complaint in ["Extra data", "num records", "Invalid", "Expected", "Corrupt", "Error"] {
        assert!(!said.contains(complaint), "{said}");
    }
    nfdump(path, "fmt:%sp").len()
}

#[test]
fn show_says_what_nfdump_says() {
    if !installed("nfdump") {
        return;
    }
    let lab = Lab::new();
    let flows = lab.directory("flows");
    let path = file(&flows, 25_000);
    let text = updater(&["show"], &[&path]).ok().out;
    for said in ["layout      2", "nfdump      1.7.1", "ident       none", "25000 V3Record (11)"] {
        assert!(text.contains(said), "{said} is not in {text}");
    }
    for method in ["", "-z", "-y", "-j"] {
        let copy = flows.join(format!("copy{method}"));
        let mut command = Command::new("nfdump");
        command.arg("-r").arg(&path).arg("-w").arg(&copy);
        let written = command.args(Some(method).filter(|method| !method.is_empty())).output();
        assert!(written.unwrap().status.success());
        let shown = json(&updater(&["show", "--json"], &[&copy]).ok());
        let blocks = shown["blocks"].as_array().unwrap();
        let sum =
            |what: &str| blocks.iter().map(|block| block[what].as_u64().unwrap()).sum::<u64>();
        assert_eq!((sum("records"), sum("bytes_plain")), (25_000, 25_000 * 76), "{method}");
        let end = shown["header"]["appendix_offset"].as_u64().unwrap();
        assert_eq!(sum("bytes_on_disk") + 12 * blocks.len() as u64 + 40, end, "{method}");
        let stat = Command::new("nfdump").arg("-I").arg("-r").arg(&copy).output().unwrap();
        let stat = String::from_utf8_lossy(&stat.stdout).into_owned();
        for (said, of, what) in [
            ("Flows", "all", "flows"),
            ("Packets", "all", "packets"),
            ("Bytes", "all", "bytes"),
            ("Flows_udp", "udp", "flows"),
            ("Bytes_udp", "udp", "bytes"),
        ] {
            for object in [&shown["flows"], &shown["stat_record"]] {
                let number = if of == "all" { &object[what] } else { &object[of][what] };
                assert!(stat.contains(&format!("{said}: {number}\n")), "{said} {number}: {stat}");
            }
        }
    }
}

#[test]
fn what_can_be_read_of_a_damaged_or_unfinished_file_is_shown() {
    let lab = Lab::new();
    let flows = lab.directory("flows");
    let path = file(&flows, 25_000);
    let bytes = fs::read(&path).unwrap();
    let second = 40 + 12 + 760_000;
    let cut = flows.join("cut");
    fs::write(&cut, &bytes[..second + 5000]).unwrap();
    let wanted = format!("block 1 at offset {second}: truncated");
    let said = updater(&["show"], &[&cut]).failed(1, &wanted);
    assert!(said.out.contains("10000 V3Record"), "{said:?}");
    let said = updater(&["show", "--json"], &[&cut]).failed(1, &wanted);
    let shown = json(&said);
    assert_eq!(shown["error"]["offset"], second);
    assert_eq!((&shown["flow_records"], &shown["ident"]), (&10_000.into(), &Value::Null));

    let begun = flows.join("nfcapd.current.1");
    let mut unfinished = bytes[..second].to_vec();
    unfinished[18] = 0;
    unfinished[24..40].fill(0);
    fs::write(&begun, unfinished).unwrap();
    let shown = json(&updater(&["show", "--json"], &[&begun]).ok());
    assert_eq!(shown["header"]["in_progress"], true);
    assert_eq!(shown["flows"]["flows"], 10_000);

    // One that cannot be read keeps none of the others.
    let missing = flows.join("missing");
    let said = updater(&["show"], &[&missing, &path]).failed(1, "missing: No such file");
    assert!(said.out.contains("25000 V3Record"), "{said:?}");
    updater(&["show"], &[]).failed(2, "FILE");
}

#[test]
fn what_others_chose_reaches_no_terminal_as_it_is() {
    let lab = Lab::new();
    let flows = lab.directory("flows");
    let path = file(&flows, 3);
    let evil = "\u{1b}]0;x\u{7}\u{9b}2J\u{202e}\"\\";
    let mut named = Cursor::new(Vec::new());
    rewrite(&fs::read(&path).unwrap()[..], &mut named, |_, name| name.set(evil)).unwrap();
    let mut bytes = named.into_inner();
    let ident = bytes.len() - 148 - 5;
    assert_eq!(&bytes[ident..ident + 4], b"none");
    bytes[ident..ident + 4].copy_from_slice(b"\x1b[2J");
    let hostile = flows.join("nfcapd.\u{1b}[31m");
    fs::write(&hostile, &bytes).unwrap();
    let cut = flows.join("cut.\u{1b}[31m");
    fs::write(&cut, &bytes[..bytes.len() - 1]).unwrap();
    let new = flows.join("new.\u{1b}[31m");

    let printable = |text: &str| text.chars().all(|c| c == '\n' || (' '..'\u{7f}').contains(&c));
    let plain = updater(&["show"], &[&hostile, &cut]);
    assert!(printable(&plain.out) && printable(&plain.err), "{plain:?}");
    assert!(plain.out.contains("ident       \\u{1b}[2J"), "{plain:?}");
    let told = updater(&["show", "--json"], &[&hostile]).ok();
    assert!(printable(&told.out), "{told:?}");
    assert_eq!(json(&told)["names"][0]["name"], evil);
    assert_eq!(json(&told)["ident"], "\u{1b}[2J");
    for more in [&["salvage"][..], &["salvage", "--json"]] {
        let said = updater(more, &[&cut, &new]).ok();
        assert!(printable(&said.out) && printable(&said.err), "{said:?}");
        fs::remove_file(&new).unwrap();
    }
}

#[test]
fn whoever_reads_what_is_shown_may_have_enough() {
    let lab = Lab::new();
    let path = file(&lab.directory("flows"), 25_000);
    let mut command = Command::new(env!("CARGO_BIN_EXE_updater"));
    command.arg("show").args(std::iter::repeat_n(&path, 50));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
}

#[test]
fn a_damaged_block_costs_no_other_in_any_compression() {
    if !installed("nfdump") {
        return;
    }
    let lab = Lab::new();
    let flows = lab.directory("flows");
    let path = file(&flows, 45_000);
    for method in ["", "-z", "-y", "-j"] {
        let whole = flows.join("whole");
        let mut command = Command::new("nfdump");
        command.arg("-r").arg(&path).arg("-w").arg(&whole);
        let written = command.args(Some(method).filter(|method| !method.is_empty())).output();
        assert!(written.unwrap().status.success());
        let blocks = blocks(&whole);
        assert!(blocks.len() > 2, "{method}: {blocks:?}");
        let (offset, length) = blocks[1];
        let mut bytes = fs::read(&whole).unwrap();
        bytes[offset + length / 2..][..100].iter_mut().for_each(|byte| *byte ^= 0x55);
        let damaged = flows.join("damaged");
        fs::write(&damaged, &bytes).unwrap();

        let new = flows.join("new");
        let said = updater(&["salvage", "--json"], &[&damaged, &new]).ok();
        let told = json(&said);
        let [loss] = &told["losses"].as_array().unwrap()[..] else { panic!("{told}") };
        assert_eq!((&loss["offset"], &loss["bytes"]), (&offset.into(), &length.into()));
        assert_eq!(loss["error"]["block"], 1, "{told}");
        assert!(said.err.contains(&format!("block 1 at offset {offset}: ")), "{said:?}");
        let kept = usize::try_from(told["flow_records"].as_u64().unwrap()).unwrap();
        let missing = usize::try_from(told["records_missing"].as_u64().unwrap()).unwrap();
        assert_eq!(kept + missing, 45_000, "{method}: {told}");
        assert_eq!(flows_of_a_whole_file(&new), kept, "{method}");
        let others = if method.is_empty() { 45_000 * 5 / 6 } else { 45_000 / 2 };
        assert!(kept > others && missing > 0, "{method}: {kept}");
        assert_eq!(told["stat_record"]["flows"], kept);
        assert_eq!(told["stat_record_before"]["flows"], 45_000);
        let shown = json(&updater(&["show", "--json"], &[&new]).ok());
        assert_eq!(shown["stat_record"], told["stat_record"]);
        assert!(fs::read(&damaged).unwrap() == bytes, "{method}: the damaged file was changed");
        fs::remove_file(&new).unwrap();
        fs::remove_file(&whole).unwrap();
    }
}

#[test]
fn salvage_replaces_no_file_and_leaves_none_behind() {
    let lab = Lab::new();
    let flows = lab.directory("flows");
    let path = file(&flows, 100);
    let there = flows.join("there");
    fs::write(&there, "mine").unwrap();
    let salvage = |from: &Path, to: &Path| updater(&["salvage"], &[from, to]);
    salvage(&path, &there).failed(1, "there exists, and is left as it is");
    salvage(&path, &path).failed(1, "exists, and is left as it is");
    assert_eq!(fs::read(&there).unwrap(), b"mine");
    let dangling = flows.join("dangling");
    std::os::unix::fs::symlink(flows.join("nowhere"), &dangling).unwrap();
    salvage(&path, &dangling).failed(1, "exists, and is left as it is");
    let new = flows.join("new");
    salvage(&there, &new).failed(1, "there: at offset 0: not an nfcapd file");
    salvage(&flows.join("missing"), &new).failed(1, "missing: No such file");
    salvage(&flows, &new).failed(1, "is not a regular file");
    salvage(&path, &flows.join("nowhere/new")).failed(1, "No such file");
    salvage(&path, Path::new("/")).failed(1, "is not the name of a file");
    updater(&["salvage"], &[&path]).failed(2, "NEW");
    let names = || {
        let entries = fs::read_dir(&flows).unwrap().map(|entry| entry.unwrap().file_name());
        entries.map(|name| name.into_string().unwrap()).collect::<BTreeSet<_>>()
    };
    assert_eq!(names(), ["dangling", "nfcapd.202611210300", "there"].map(String::from).into());
    let said = salvage(&path, &new).ok();
    assert!(said.out.contains("100 flow records of 1 data blocks, nothing missing"), "{said:?}");

    let bytes = fs::read(&path).unwrap();
    let (headless, cut) = (flows.join("headless"), flows.join("cut"));
    fs::write(&headless, [&[0; 40], &bytes[40..]].concat()).unwrap();
    fs::write(&cut, &bytes[..60]).unwrap();
    let lent = flows.join("lent");
    let with = ["salvage", "--header-of", path.to_str().unwrap()];
    let said = updater(&with, &[&headless, &lent]).ok();
    assert!(said.err.contains("40 bytes from offset 0 on: 0 records kept, nothing missing"));
    assert_eq!(flows_of_a_whole_file(&lent), 100);
    fs::remove_file(&lent).unwrap();
    salvage(&cut, &lent).failed(1, "cut: no flow of it is sound");
    assert!(!lent.exists());
    [headless, cut].iter().for_each(|file| fs::remove_file(file).unwrap());
    // The stat record of this file says nothing of protocols.
    let data = 40 + 12 + 100 * 76;
    assert!(fs::read(&new).unwrap()[..data] == fs::read(&path).unwrap()[..data]);
    assert_eq!(names().len(), 4);
}
