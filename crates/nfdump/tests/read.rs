//! What is read from a file is what nfdump reads from it.

mod corpus;

use corpus::{files, flows, good, nfdump_is_installed, nfdump_lines, nfdump_reads, read};
use procflow_nfdump::{Compression, ErrorKind, Header, Layout, Reader};

#[test]
fn good_files_have_the_flows_and_names_nfdump_prints() {
    if !nfdump_is_installed() {
        return;
    }
    let mut compared = 0;
    for (name, file) in good() {
        let ours: Vec<String> = flows(&file).iter().map(corpus::Seen::line).collect();
        if !nfdump_reads(&name) {
            continue;
        }
        let mut theirs = nfdump_lines(&file);
        if name.contains("all-extensions") {
            // nfdump prints zeros for records without element 1 or addresses.
            theirs.retain(|line| !line.contains("|0.0.0.0|0.0.0.0|"));
            assert_eq!(theirs.len(), 32);
        }
        assert_eq!(ours, theirs, "{name}");
        compared += ours.len();
    }
    assert!(compared == 0 || compared > 3000, "only {compared} flows were compared");
}

#[test]
fn every_compression_of_a_file_reads_the_same() {
    let plain = files("nfdump", |name| name.starts_with("l2-v178-") && !name.contains("nfgen"));
    let annotated = files("nfdump", |name| name.starts_with("l2-annotated-"));
    for (all, count) in [(plain, 5), (annotated, 3)] {
        assert!(all.is_empty() || all.len() == count);
        for pair in all.windows(2) {
            let ((one_name, one), (other_name, other)) = (&pair[0], &pair[1]);
            assert_eq!(flows(one), flows(other), "{one_name} and {other_name}");
        }
    }
}

#[test]
fn annotated_files_list_the_expected_names() {
    for (name, file) in files("nfdump", |name| name.starts_with("l2") && name.contains("annotated"))
    {
        let flows = flows(&file);
        assert_eq!(flows.len(), 160, "{name}");
        for flow in flows {
            let expected = match flow.source_port.min(flow.destination_port) {
                18080 => "httpd-demo",
                18081 => "nginx",
                15353 => "dnsmasq",
                15354 => "unbound",
                other => panic!("{name}: port {other}"),
            };
            assert_eq!(flow, flow.named(Some(expected)), "{name}");
        }
    }
}

#[test]
fn the_pairs_differ_in_names_and_nothing_else() {
    let old = files("netdumper/profiles/01", |name| name.starts_with("old"));
    let out = files("netdumper/profiles/01", |name| name.starts_with("out"));
    assert_eq!(old.len(), out.len());
    for ((old_name, old), (out_name, out)) in old.iter().zip(&out) {
        assert_eq!(old_name[3..], out_name[3..]);
        let (plain, annotated) = (flows(old), flows(out));
        assert!(plain.iter().all(|flow| flow.name.is_none()));
        assert!(annotated.iter().all(|flow| flow.name.is_some()), "{out_name}");
        // netdumper dropped the exporter records, and with them each flow's number of one.
        let bare = |flow: &corpus::Seen| corpus::Seen { exporter: 0, ..flow.named(None) };
        let bare = |flows: &[corpus::Seen]| flows.iter().map(bare).collect::<Vec<_>>();
        assert_eq!(bare(&plain), bare(&annotated), "{out_name}");
    }
}

/// The kind of error a bad file ends with, after how many flows, and the offset.
#[test]
fn bad_files_give_an_error_with_an_offset_or_what_nfdump_reads() {
    for (name, file) in files("nfdump", |name| name.starts_with("bad-or-edge-r_")) {
        let (flows, error) = read(&file);
        let error = error.as_ref().map(|error| (error.kind(), error.offset(), error.record()));
        let name = name.trim_start_matches("bad-or-edge-r_").trim_end_matches(".nfcapd");
        let fine = match (name, error) {
            ("65" | "nonul" | "short" | "long" | "dup" | "utf8" | "empty", None)
            | ("noapp0" | "unkel", None) => flows.len() == 160,
            ("badsize", Some((ErrorKind::ElementMissing { .. }, 40, Some(0)))) => flows.is_empty(),
            ("nobump", Some((ErrorKind::ElementCount { .. }, 40, Some(0)))) => flows.is_empty(),
            ("mix", Some((ErrorKind::RawBlock(Compression::Bz2), 40, None))) => flows.is_empty(),
            ("nb0", Some((ErrorKind::AppendixOffset { found: 40, .. }, 40, None))) => {
                flows.is_empty()
            }
            ("nb2", Some((ErrorKind::AppendixOffset { blocks: 1, of: 2, .. }, 25652, None)))
            | ("nrec+", Some((ErrorKind::RecordCount { claimed: 165, found: 160 }, 40, None)))
            | ("nrec-", Some((ErrorKind::RecordCount { claimed: 155, found: 160 }, 40, None)))
            | ("offbad", Some((ErrorKind::AppendixOffset { claimed: 25831, .. }, 25652, None)))
            | ("trail", Some((ErrorKind::TrailingBytes, 25821, None)))
            | ("trunc", Some((ErrorKind::Truncated { wanted: 157, had: 57, .. }, 25652, None))) => {
                flows.len() == 160
            }
            ("trunc2", Some((ErrorKind::Truncated { had: 11948, .. }, 40, None))) => {
                flows.is_empty()
            }
            _ => false,
        };
        assert!(fine, "{name}: {} flows, {error:?}", flows.len());
    }
}

#[test]
fn odd_names_are_read_as_nfdump_prints_them() {
    if !nfdump_is_installed() {
        return;
    }
    for (name, file) in files("nfdump", |name| name.starts_with("bad-or-edge-r_")) {
        if !["_65", "_short", "_dup", "_utf8", "_empty", "_unkel", "_noapp0"]
            .iter()
            .any(|odd| name.contains(odd))
        {
            continue;
        }
        let ours: Vec<String> = flows(&file).iter().map(corpus::Seen::line).collect();
        assert_eq!(ours, nfdump_lines(&file), "{name}");
    }
}

#[test]
fn layout_3_is_refused_by_name() {
    for (name, file) in files("nfdump", |name| name.starts_with("l3-")) {
        let error = Reader::new(&file[..]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Layout3), "{name}: {error}");
        assert_eq!(
            error.to_string(),
            "at offset 2: layout 3, written by nfdump 1.8; not supported, only layouts 1 and 2 are"
        );
    }
}

#[test]
fn headers_say_what_the_files_are() {
    let header = |wanted: &str| -> Option<Header> {
        let (_, file) = files("nfdump", |name| name == wanted).pop()?;
        Some(Reader::new(&file[..]).unwrap().header().clone())
    };
    if let Some(header) = header("l2-v178-zstd.nfcapd") {
        assert_eq!((header.layout(), header.compression()), (Layout::Two, Compression::Zstd));
        assert_eq!(header.nfdump_version(), Some(0xf107_0800));
        assert_eq!(header.created(), Some(1_795_223_697));
        assert!(!header.in_progress());
    }
    if let Some(header) = header("l2-v171-inprogress-nfcapd.current") {
        assert!(header.in_progress());
    }
    if let Some(header) = header("l1-libnf-record_v4-lzo.nfcapd") {
        assert_eq!((header.layout(), header.compression()), (Layout::One, Compression::Lzo));
        assert_eq!((header.blocks(), header.created()), (1, None));
    }
}

#[test]
fn a_file_in_progress_has_no_blocks_yet() {
    for (_, mut file) in files("nfdump", |name| name.contains("inprogress")) {
        // With and without a block that was flushed, which nfdump does not show either.
        for _ in 0..2 {
            let mut reader = Reader::new(&file[..]).unwrap();
            assert!(reader.header().in_progress());
            assert!(reader.next_block().unwrap().is_none());
            file.extend_from_slice(&[1, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 99, 0, 4, 0]);
        }
    }
}

#[test]
fn blocks_that_are_not_iterated_are_checked_all_the_same() {
    for (name, file) in files("nfdump", |name| name.contains("r_nrec") || name.contains("r_nobump"))
    {
        let mut reader = Reader::new(&file[..]).unwrap();
        assert!(reader.next_block().unwrap().is_some(), "{name}");
        let error = reader.next_block().unwrap_err();
        assert_eq!((error.offset(), error.block()), (40, Some(0)), "{name}");
        assert!(reader.next_block().unwrap().is_none(), "{name}: after an error there is no more");
    }
}

#[test]
fn the_ident_comes_with_the_appendix() {
    for (name, file) in good() {
        let mut reader = Reader::new(&file[..]).unwrap();
        let before = reader.ident().map(<[u8]>::to_vec);
        while reader.next_block().unwrap().is_some() {}
        assert!(reader.ident().is_some(), "{name}");
        assert_eq!(before.is_some(), reader.header().layout() == Layout::One, "{name}");
    }
}
