//! What is written is what was read, and the names.

mod corpus;

use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use corpus::{
    Seen, files, flows, good, made::file_of, nfdump_csv, nfdump_is_installed, nfdump_lines,
    nfdump_reads, nfdump_verifies,
};
use procflow_nfdump::{
    Compression, Error, ErrorKind, Flow, Layout, MOST_AT_ONCE, Reader, RecordType, Summary,
    UserName, rewrite, rewrite_many,
};

fn rewritten(
    file: &[u8],
    decide: impl FnMut(&Flow<'_>, &mut UserName),
) -> Result<(Vec<u8>, Summary), Error> {
    let mut output = Cursor::new(Vec::new());
    let summary = rewrite(file, &mut output, decide)?;
    assert_eq!(output.position(), output.get_ref().len() as u64);
    Ok((output.into_inner(), summary))
}

/// A name for about half of the flows, by what a test can see again afterwards.
fn name_of(flow: &Seen) -> Option<String> {
    let sum = flow.source_port ^ flow.destination_port ^ flow.bytes as u16;
    (sum & 4 == 0).then(|| format!("named-{}/{}", flow.protocol, flow.bytes))
}

fn name_half(flow: &Flow<'_>, name: &mut UserName) {
    if let Some(text) = name_of(&Seen::of(flow)) {
        name.set(&text);
    }
}

/// All records but flows and extension maps, which are what a rewrite may change.
fn others(file: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = Reader::new(file).unwrap();
    let mut records = Vec::new();
    while let Some(block) = reader.next_block().unwrap() {
        for record in block {
            let record = record.unwrap();
            if record.flow.is_none() && record.record_type != RecordType::EXTENSION_MAP {
                records.push(record.bytes.to_vec());
            }
        }
    }
    records
}

#[test]
fn a_file_in_which_nothing_is_named_comes_out_identical() {
    let mut odd = files("nfdump", |name| {
        ["_65", "_nonul", "_short", "_long", "_dup", "_utf8", "_empty", "_unkel", "_noapp0"]
            .iter()
            .any(|odd| name.contains(odd))
    });
    odd.extend(good());
    for (name, file) in odd {
        let (output, summary) = rewritten(&file, |_, _| {}).unwrap();
        assert!(output == file, "{name}");
        let flows = flows(&file);
        assert_eq!(summary.flows, flows.len() as u64, "{name}");
        let kept = flows.iter().filter(|flow| flow.name.is_some()).count();
        assert_eq!((summary.kept, summary.named), (kept as u64, 0), "{name}");
        assert_eq!(summary.blocks, summary.blocks_written, "{name}");
    }
}

/// What so many deciders make of a file; nothing, where nothing changes.
fn rewritten_by(
    threads: usize,
    file: &[u8],
    decide: impl Fn(&Flow<'_>, &mut UserName) + Copy + Send + Sync,
) -> Result<(Option<Vec<u8>>, Summary), Error> {
    let decide = |flows: &[Flow<'_>], names: &mut [UserName]| {
        assert!((1..=MOST_AT_ONCE).contains(&flows.len()) && flows.len() == names.len());
        flows.iter().zip(names).for_each(|(flow, name)| decide(flow, name));
    };
    let begin = |same: u64| Ok(Cursor::new(file[..same as usize].to_vec()));
    let (summary, output) = rewrite_many(file, begin, &mut vec![decide; threads])?;
    Ok((output.map(Cursor::into_inner), summary))
}

#[test]
fn any_number_of_deciders_write_the_same_file() {
    // Late in the file of a thousand blocks, so that most of it is as it was.
    let name_last = |flow: &Flow<'_>, name: &mut UserName| {
        if flow.bytes > 990 && flow.bytes < 997 {
            name.set("late");
        }
    };
    let mut files = good();
    files.push(("a thousand blocks".to_owned(), thousand_blocks()));
    for (name, file) in files {
        let half = rewritten(&file, name_half).unwrap();
        let few = rewritten(&file, name_last).unwrap();
        let (output, nobody) = rewritten_by(0, &file, name_half).unwrap();
        assert_eq!((output, nobody.flows, nobody.named), (None, half.1.flows, 0), "{name}");
        for threads in [1, 2, 7] {
            let case = format!("{name}, {threads} threads");
            for (found, (expected, summary)) in [
                (rewritten_by(threads, &file, name_half), &half),
                (rewritten_by(threads, &file, name_last), &few),
            ] {
                let (output, found) = found.unwrap();
                assert!(output.is_none_or(|output| output == *expected), "{case}");
                assert_eq!(found, *summary, "{case}");
            }
            let (output, _) = rewritten_by(threads, &file, |_, _| ()).unwrap();
            assert_eq!(output, None, "{case}");
        }
        let (output, summary) = rewritten_by(2, &file, name_half).unwrap();
        assert_eq!(output.is_some(), half.0 != file, "{name}: {summary:?}");
    }
}

/// A flow's record, 76 bytes, and its length with a name.
const FLOW: &[u8; 76] = b"\x0b\0\x4c\0\x02\0\0\0\0\0\0\x0a\x01\0\x34\0\
    \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\
    \0\0\0\0\0\0\0\0\0\x7b\x7b\0\x11\0\0\0\x02\0\x0c\0\x01\0\0\x0a\x02\0\0\x0a";
const NAMED: usize = 76 + 72;

/// A plain file of a thousand blocks, each with one flow, of as many bytes as blocks are in front of it.
fn thousand_blocks() -> Vec<u8> {
    let mut file = b"\x0c\xa5\x02\x00".to_vec();
    file.resize(36, 0);
    file.extend(1000_u32.to_le_bytes());
    for block in 0..1000_u64 {
        file.extend([1, 0, 0, 0, 76, 0, 0, 0, 3, 0, 0, 0]);
        file.extend(&FLOW[..48]);
        file.extend(block.to_le_bytes());
        file.extend(&FLOW[56..]);
    }
    file
}

/// Takes so many bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or_else(|| io::Error::other("full"))?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Full {
    fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
        Ok(0)
    }
}

#[test]
fn an_error_ends_the_work_of_all_and_is_the_first() {
    let mut file = thousand_blocks();
    let decide = |_: &[Flow<'_>], names: &mut [UserName]| names.iter_mut().for_each(|n| n.set("x"));
    let (input, output) = (12 + FLOW.len(), 12 + NAMED);
    for threads in [1, 2, 7] {
        let mut deciders = vec![decide; threads];
        let (summary, _) = rewrite_many(&file[..], |_| Ok(Full(1 << 20)), &mut deciders).unwrap();
        assert_eq!((summary.blocks_written, summary.named), (1000, 1000));
        let mut reader = Cursor::new(&file);
        let begin = |_| Ok(Full(40 + 9 * output));
        let error = rewrite_many(&mut reader, begin, &mut deciders).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("full"), "{error}");
        assert_eq!(error.offset(), (40 + 9 * output) as u64);
        let read = reader.position() as usize;
        assert!(read <= 40 + (10 + threads) * input, "{read} bytes were read");
        let begin = |_| Err::<Full, _>(io::Error::other("no place"));
        let error = rewrite_many(&file[..], begin, &mut deciders).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("no place") && error.offset() == 40, "{error}");
    }
    // Three records that cannot be framed.
    for block in [500, 501, 502] {
        file[40 + block * input + 12 + 2] = 3;
    }
    for threads in [1, 2, 7] {
        let error = rewritten_by(threads, &file, |_, _| ()).unwrap_err();
        assert_eq!((error.block(), error.record()), (Some(500), Some(0)), "{error}");
    }
}

/// Asserts that `output` is `file` with names as [`name_of`] says, to us and to nfdump.
fn half_is_named(name: &str, file: &[u8], output: &[u8]) {
    let room = if name.contains("ext42") || name.starts_with("outnfcapd") { 23 } else { 65 };
    let expected: Vec<Seen> = flows(file)
        .into_iter()
        .map(|flow| match name_of(&flow) {
            Some(text) => flow.named(Some(&text[..text.len().min(room)])),
            None => flow,
        })
        .collect();
    assert_eq!(flows(output), expected, "{name}");
    assert_eq!(others(output), others(file), "{name}");
    if nfdump_reads(name) && nfdump_is_installed() {
        nfdump_verifies(name, output);
        assert_eq!(nfdump_csv(output), nfdump_csv(file), "{name}");
        let mut lines = nfdump_lines(output);
        lines.retain(|line| !line.contains("|0.0.0.0|0.0.0.0|"));
        let expected: Vec<String> = expected.iter().map(Seen::line).collect();
        assert_eq!(lines, expected, "{name}");
    }
}

#[test]
fn half_of_the_flows_named_is_what_nfdump_shows() {
    let mut named = 0;
    for (name, file) in good() {
        let (output, summary) = rewritten(&file, name_half).unwrap();
        half_is_named(&name, &file, &output);
        let expected = flows(&file).iter().filter(|flow| name_of(flow).is_some()).count();
        assert_eq!((summary.named, summary.no_room), (expected as u64, 0), "{name}");
        named += summary.named;
        // Layout 2 grows by an element per newly named flow; and naming again changes nothing.
        let (again, second) = rewritten(&output, name_half).unwrap();
        assert!(again == output, "{name}");
        assert_eq!((second.named, second.replaced), (summary.named, summary.named), "{name}");
    }
    assert!(named == 0 || named > 1000, "only {named} flows were named");
}

#[test]
fn odd_names_are_replaced_by_one() {
    for (name, file) in files("nfdump", |name| {
        ["_65", "_nonul", "_short", "_long", "_dup", "_utf8", "_empty", "_unkel", "_noapp0"]
            .iter()
            .any(|odd| name.contains(odd))
    }) {
        let (output, summary) = rewritten(&file, |_, name| name.set("käse")).unwrap();
        assert_eq!(summary.named, 160, "{name}");
        let expected: Vec<Seen> =
            flows(&file).iter().map(|flow| flow.named(Some("käse"))).collect();
        assert_eq!(flows(&output), expected, "{name}");
        let mut reader = Reader::new(&output[..]).unwrap();
        while let Some(block) = reader.next_block().unwrap() {
            for record in block {
                let bytes = record.unwrap().bytes;
                let mut element = b"\x18\x00\x48\x00k\xc3\xa4se".to_vec();
                element.resize(72, 0);
                let found = bytes.windows(72).filter(|window| *window == element).count();
                assert_eq!(found, 1, "{name}");
            }
        }
        if nfdump_is_installed() {
            nfdump_verifies(&name, &output);
            let expected: Vec<String> = expected.iter().map(Seen::line).collect();
            assert_eq!(nfdump_lines(&output), expected, "{name}");
        }
    }
}

#[test]
fn what_cannot_be_carried_through_is_refused() {
    let mut refused = 0;
    for (name, file) in files("nfdump", |name| {
        ["_badsize", "_nobump", "_mix", "_nb0", "_nb2", "_nrec", "_offbad", "_trail", "_trunc"]
            .iter()
            .any(|bad| name.contains(bad))
            || name.starts_with("l3-")
            || name.contains("inprogress")
    }) {
        let error = rewritten(&file, name_half).expect_err(&name);
        assert!(error.to_string().contains("at offset "), "{name}: {error}");
        assert!(error.offset() <= file.len() as u64, "{name}: {error}");
        refused += 1;
        if name.contains("inprogress") {
            assert!(matches!(error.kind(), ErrorKind::InProgress));
        }
    }
    assert!(refused == 0 || refused == 15, "{refused}");
}

#[test]
fn an_unfinished_output_says_so() {
    for (_, file) in files("nfdump", |name| name.contains("r_nrec+")) {
        let mut output = Cursor::new(Vec::new());
        rewrite(&file[..], &mut output, name_half).unwrap_err();
        let reader = Reader::new(&output.get_ref()[..]).unwrap();
        assert!(reader.header().in_progress());
    }
}

#[test]
fn the_output_may_start_anywhere() {
    for (_, file) in files("nfdump", |name| name == "l2-v171-lz4.nfcapd") {
        let (alone, _) = rewritten(&file, name_half).unwrap();
        let mut output = Cursor::new(vec![7; 100]);
        output.set_position(100);
        rewrite(&file[..], &mut output, name_half).unwrap();
        assert!(output.get_ref()[100..] == alone);
        assert!(output.get_ref()[..100] == [7; 100]);
    }
}

/// A file's blocks by hand: block header fields and plain payload. Layouts without compression.
fn blocks(file: &[u8]) -> (Vec<u8>, Vec<(u32, Vec<u8>)>) {
    let header = if file[2] == 1 { 276 } else { 40 };
    let mut rest = &file[header..];
    let mut blocks = Vec::new();
    while !rest.is_empty() {
        let field = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
        let (records, size) = (field(0), field(4) as usize);
        blocks.push((records, rest[12..12 + size].to_vec()));
        rest = &rest[12 + size..];
    }
    (file[..header].to_vec(), blocks)
}

#[test]
fn layout_1_is_rewritten_in_every_compression() {
    for (name, plain) in files("nfdump", |name| name == "l1-libnf-old-plain.nfcapd") {
        let (header, blocks) = blocks(&plain);
        let bz2 = |plain: &[u8]| {
            let mut disk = Vec::new();
            bzip2::read::BzEncoder::new(plain, bzip2::Compression::best())
                .read_to_end(&mut disk)
                .unwrap();
            disk
        };
        for (compression, flag, file) in [
            (Compression::None, 0, plain.clone()),
            (Compression::Bz2, 8, file_of(&header, &blocks, 8, bz2)),
            (Compression::Lz4, 16, file_of(&header, &blocks, 16, lz4_flex::block::compress)),
            (
                Compression::Lzo,
                1,
                file_of(&header, &blocks, 1, |plain| lzokay::compress::compress(plain).unwrap()),
            ),
        ] {
            let name = format!("{name} as {compression}");
            assert_eq!(flows(&file), flows(&plain), "{name}");
            let (output, _) = rewritten(&file, name_half).unwrap();
            assert_eq!(output[4], flag, "{name}");
            half_is_named(&name, &file, &output);
        }
    }
}

#[test]
fn a_block_that_outgrows_1_mib_is_split() {
    for (name, file) in files("nfdump", |name| name == "l2-v171-nfcapd-v9-plain.nfcapd") {
        let (header, mut blocks) = blocks(&file);
        // One block of some 2 MiB, more than nfdump 1.7.1 itself would make.
        let (records, plain) = blocks[0].clone();
        let times = 2 * 1024 * 1024 / plain.len();
        blocks[0] = (records * times as u32, plain.repeat(times));
        for (compression, id) in [(Compression::None, 0), (Compression::Lz4, 3)] {
            let file = file_of(&header, &blocks, id, |plain| match compression {
                Compression::None => plain.to_vec(),
                _ => lz4_flex::block::compress(plain),
            });
            let (same, _) = rewritten(&file, |_, _| {}).unwrap();
            assert!(same == file, "what is not named is not split");
            // Only the last flow is named: the ones before it must follow it into new blocks.
            let total = flows(&file).len();
            let mut seen = 0;
            let (output, summary) = rewritten(&file, |_, name| {
                seen += 1;
                if seen == total {
                    name.set("last");
                }
            })
            .unwrap();
            assert_eq!((summary.blocks, summary.blocks_written, summary.named), (1, 2, 1));
            assert_eq!(flows(&output).len(), total);
            assert_eq!(flows(&output)[total - 1].name, Some(b"last".to_vec()));

            let (output, summary) = rewritten(&file, |_, name| name.set("all")).unwrap();
            assert_eq!((summary.named, summary.blocks_written), (total as u64, 4));
            let mut reader = Reader::new(&output[..]).unwrap();
            while let Some(block) = reader.next_block().unwrap() {
                let length: usize = block.map(|record| record.unwrap().bytes.len()).sum();
                assert!(length <= 1024 * 1024, "{name}: {length}");
            }
            if nfdump_is_installed() {
                nfdump_verifies(&name, &output);
                let lines = nfdump_lines(&output);
                assert_eq!(lines.len(), total);
                assert!(lines.iter().all(|line| line.ends_with("|all")), "{name}");
            }
        }
    }
}

#[test]
fn a_record_with_no_room_for_a_name_stays_as_it_is() {
    for (_, file) in files("nfdump", |name| name == "l2-v178-plain.nfcapd") {
        let (header, mut blocks) = blocks(&file);
        let size = usize::from(u16::from_le_bytes([blocks[0].1[2], blocks[0].1[3]]));
        for (length, room) in [(65535 - 72, true), (65535 - 71, false)] {
            // The first record, grown by an element of payload.
            let mut record = blocks[0].1[..size].to_vec();
            let payload = length - size;
            record[2..4].copy_from_slice(&(length as u16).to_le_bytes());
            record[4] += 1;
            record.extend_from_slice(&[29, 0]);
            record.extend_from_slice(&(payload as u16).to_le_bytes());
            record.resize(length, b'p');
            let mut grown = blocks.clone();
            grown[0] = (1, record);
            let file = file_of(&header, &grown, 0, <[u8]>::to_vec);
            let (output, summary) = rewritten(&file, |_, name| name.set("x")).unwrap();
            assert_eq!((summary.named, summary.no_room), (u64::from(room), u64::from(!room)));
            assert_eq!(output == file, !room);
            assert_eq!(flows(&output)[0].name.is_some(), room);
        }
        blocks.clear();
    }
}

/// A layout-1 map record.
fn map(id: u8, extensions: &[u8], size: u8) -> Vec<u8> {
    let mut record = vec![2, 0, 0, 0, id, 0, size, 0];
    for &extension in extensions {
        record.extend_from_slice(&[extension, 0]);
    }
    record.extend_from_slice(&[0, 0]);
    record.resize(record.len().next_multiple_of(4), 0);
    record[2] = record.len() as u8;
    record
}

/// A layout-1 flow to `port` with the map's extensions as given.
fn flow(map: u8, port: u8, extensions: &[u8]) -> Vec<u8> {
    let mut record = vec![10, 0, 48 + extensions.len() as u8, 0, 0, 0, map, 0];
    record.extend_from_slice(&[1, 0, 2, 0, 3, 0, 0, 0, 4, 0, 0, 0]);
    record.extend_from_slice(&[0, 0, 17, 0, 53, 0, port, 0, 1, 0, 0, 0]);
    record.extend_from_slice(&[1, 0, 0, 127, 2, 0, 0, 127, 5, 0, 0, 0, 200, 0, 0, 0]);
    record.extend_from_slice(extensions);
    record
}

#[test]
fn the_second_maps_of_layout_1_give_way_to_the_files_own() {
    let as43 = |name: &[u8]| {
        let mut field = name.to_vec();
        field.resize(72, 0);
        field
    };
    let first = [
        map(0, &[4], 4),
        flow(0, 1, &[1; 4]),
        flow(0, 2, &[2; 4]), // named: map 1 is made
        flow(0, 3, &[3; 4]), // named: with the same map 1
        map(1, &[27], 8),    // the file's own map 1
        flow(1, 4, &[4; 8]),
        flow(0, 5, &[5; 4]), // named: needs another one, 2
        flow(1, 6, &[6; 8]), // named: 3
    ];
    let second = [
        map(0, &[4], 4), // the same again: 2 holds
        flow(0, 7, &[7; 4]),
        map(0, &[43, 4], 76), // changed, and with a name of its own
        flow(0, 8, &[as43(b"old"), vec![8; 4]].concat()),
        flow(0, 9, &[as43(b"old"), vec![9; 4]].concat()),
        flow(1, 10, &[10; 8]),
    ];
    let mut header = vec![0; 276];
    header[..4].copy_from_slice(&[0x0c, 0xa5, 1, 0]);
    header[12] = b'x';
    let blocks = [(8, first.concat()), (6, second.concat())];
    let file = file_of(&header, &blocks, 0, <[u8]>::to_vec);
    let to_name = [2, 3, 5, 6, 7, 8];
    let (output, summary) = rewritten(&file, |flow, name| {
        if to_name.contains(&flow.destination_port) {
            name.set(&format!("to {}", flow.destination_port));
        }
    })
    .unwrap();
    assert_eq!((summary.flows, summary.named, summary.replaced, summary.kept), (10, 6, 1, 1));
    let expected: Vec<Seen> = flows(&file)
        .into_iter()
        .map(|flow| match flow.destination_port {
            9 => flow.named(Some("old")),
            port if to_name.contains(&port) => flow.named(Some(&format!("to {port}"))),
            _ => flow,
        })
        .collect();
    assert_eq!(flows(&output), expected);
    let mut reader = Reader::new(&output[..]).unwrap();
    let mut maps = Vec::new();
    while let Some(block) = reader.next_block().unwrap() {
        for record in block.map(Result::unwrap) {
            if record.record_type == RecordType::EXTENSION_MAP {
                maps.push(record.bytes.to_vec());
            }
        }
    }
    let wanted = [
        map(0, &[4], 4),
        map(1, &[4, 43], 76),
        map(1, &[27], 8),
        map(2, &[4, 43], 76),
        map(3, &[27, 43], 80),
        map(0, &[4], 4),
        map(0, &[43, 4], 76),
    ];
    assert_eq!(maps, wanted);
    if nfdump_is_installed() {
        nfdump_verifies("second maps", &output);
        assert_eq!(nfdump_csv(&output), nfdump_csv(&file));
        let expected: Vec<String> = expected.iter().map(Seen::line).collect();
        assert_eq!(nfdump_lines(&output), expected);
    }
}

#[test]
fn a_map_that_lists_all_it_can_takes_no_name() {
    // 50 times the interfaces, which no honest map lists twice.
    for (listed, room) in [(49, true), (50, false)] {
        let records =
            [map(0, &vec![4; listed], 4 * listed as u8), flow(0, 1, &vec![4; 4 * listed])];
        let mut header = vec![0; 276];
        header[..4].copy_from_slice(&[0x0c, 0xa5, 1, 0]);
        let file = file_of(&header, &[(2, records.concat())], 0, <[u8]>::to_vec);
        let (output, summary) = rewritten(&file, |_, name| name.set("x")).unwrap();
        assert_eq!((summary.named, summary.no_room), (u64::from(room), u64::from(!room)));
        assert_eq!(flows(&output)[0].name.is_some(), room);
        assert_eq!(output == file, !room);
    }
}

#[test]
fn a_long_name_is_cut_where_its_field_ends() {
    let long = "ä".repeat(60);
    for (name, file) in good() {
        let (output, _) = rewritten(&file, |_, name| name.set(&long)).unwrap();
        let room = if name.contains("ext42") || name.starts_with("outnfcapd") { 11 } else { 32 };
        for flow in flows(&output) {
            assert_eq!(flow.name.as_deref(), Some("ä".repeat(room).as_bytes()), "{name}");
        }
        if nfdump_is_installed() && nfdump_reads(&name) {
            let lines = nfdump_lines(&output);
            let theirs = lines.iter().filter(|line| !line.contains("|0.0.0.0|0.0.0.0|"));
            for line in theirs {
                assert!(line.ends_with(&format!("|{}", "ä".repeat(room))), "{name}: {line}");
            }
        }
    }
}

#[test]
fn what_is_rewritten_keeps_its_header() {
    for (name, file) in good() {
        let (output, _) = rewritten(&file, name_half).unwrap();
        let (ours, theirs) = (Reader::new(&output[..]).unwrap(), Reader::new(&file[..]).unwrap());
        let (ours, theirs) = (ours.header(), theirs.header());
        assert_eq!(ours.layout(), theirs.layout(), "{name}");
        assert_eq!(ours.created(), theirs.created(), "{name}");
        // Version, creation, compression, creator; ident and statistics in layout 1.
        match ours.layout() {
            Layout::Two => {
                assert_eq!(output[..18], file[..18], "{name}");
                assert_eq!(output[20..24], file[20..24], "{name}");
            }
            Layout::One => {
                assert_eq!(output[..8], file[..8], "{name}");
                assert_eq!(output[12..276], file[12..276], "{name}");
            }
        }
    }
}
