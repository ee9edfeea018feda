//! What flows add up to is what those who wrote the files say that they do.

mod corpus;

use corpus::{files, good};
use procflow_nfdump::{Layout, Reader, Stat, Tally, extension_name};

fn tally(file: &[u8]) -> (Tally, Option<Stat>) {
    let mut reader = Reader::new(file).unwrap().unfinished();
    let mut tally = Tally::new(reader.header().layout());
    while let Some(block) = reader.next_block().unwrap() {
        let (number, size) = (block.records(), block.size_plain());
        let mut seen = (0, 0);
        for record in block {
            let record = record.unwrap();
            seen = (seen.0 + 1, seen.1 + record.bytes.len());
            tally.add(&record);
        }
        assert_eq!(seen, (number, size));
    }
    (tally, reader.stat().copied())
}

#[test]
fn flows_add_up_to_the_stat_record() {
    let mut compared = 0;
    for (name, file) in good() {
        let (tally, stat) = tally(&file);
        let Some(stat) = stat.filter(|stat| stat.all.flows > 0) else { continue };
        if name.contains("nfgen") {
            // Its stat record is not that of its flows; what nfdump writes of them, with two more
            // that have no element 1, is.
            assert_eq!(
                (tally.stat().all.flows, tally.stat().tcp.flows, tally.stat().other.flows),
                (131, 124, 2)
            );
            assert_eq!((tally.stat().all.packets, tally.stat().all.bytes), (5768, 994_842_613));
            continue;
        }
        let ours = Stat { sequence_failures: stat.sequence_failures, ..*tally.stat() };
        assert_eq!(ours, stat, "{name}");
        compared += 1;
    }
    assert!(compared == 0 || compared > 30, "only {compared} files were compared");
}

#[test]
fn exporters_names_and_extensions_are_counted() {
    for (_, file) in files("nfdump", |name| name == "l2-v171-nfcapd-v9-annotated-plain.nfcapd") {
        let (tally, _) = tally(&file);
        let types: Vec<_> = tally.record_types().map(|(kind, count)| (kind.0, count)).collect();
        assert_eq!(types, [(7, 1), (8, 1), (11, 160)]);
        let extensions: Vec<_> = tally.extensions().collect();
        assert_eq!(extensions, [(1, 160), (2, 80), (3, 80), (4, 160), (12, 160), (24, 160)]);
        let exporters: Vec<_> = tally.exporters().collect();
        assert_eq!((exporters[0].sysid, exporters[0].version), (1, 9));
        assert_eq!(exporters[0].address, Some(std::net::Ipv4Addr::LOCALHOST.into()));
        assert_eq!(exporters[0].stat.map(|stat| (stat.packets, stat.flows)), Some((7, 160)));
        assert_eq!((tally.flow_records(), tally.named()), (160, 160));
        assert_eq!(tally.names(2), [(&b"dnsmasq"[..], 40), (b"httpd-demo", 40)]);
        assert_eq!(tally.names_error(), 0);
    }
    for (_, file) in files("nfdump", |name| name == "l1-annotated-ext43.nfcapd") {
        let (tally, _) = tally(&file);
        let extensions: Vec<_> = tally.extensions().collect();
        assert!(extensions.contains(&(43, 156)), "{extensions:?}");
        let known = |&(id, _): &(u16, u64)| extension_name(Layout::One, id).is_some();
        assert!(extensions.iter().all(known), "{extensions:?}");
    }
}

#[test]
fn blocks_of_a_file_in_progress_are_read_when_asked_for() {
    for (name, file) in good() {
        let whole = Reader::new(&file[..]).unwrap();
        if whole.header().layout() == Layout::One || whole.header().blocks() == 0 {
            continue;
        }
        let data = u64::from_le_bytes(*file[24..].first_chunk().unwrap()) as usize;
        let mut begun = file[..data].to_vec();
        begun[18..20].fill(0);
        begun[24..32].fill(0);
        begun[36..40].fill(0);
        assert_eq!(corpus::flows(&begun).len(), 0, "{name}");
        let (asked, stat) = tally(&begun);
        assert_eq!(asked.stat(), tally(&file).0.stat(), "{name}");
        assert_eq!(stat, None);
        // A block that the collector has begun, but not finished.
        begun.extend_from_slice(&[1, 0, 0, 0, 9, 0]);
        let mut reader = Reader::new(&begun[..]).unwrap().unfinished();
        let error =
            std::iter::from_fn(|| reader.next_block().map(|block| block.map(drop)).transpose())
                .find_map(Result::err);
        let error = error.unwrap().to_string();
        assert!(
            error.ends_with("truncated: the block header needs 12 bytes, 6 are left"),
            "{error}"
        );
    }
}
