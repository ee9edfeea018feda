//! A round trip is reading a file, rewriting it, and reading what was written.
//!
//! What must hold of it for *any* bytes is here, once: for the tests that damage files, for those
//! that make them up, and for the fuzzers.

use std::{collections::VecDeque, io::Cursor};

use procflow_nfdump::{
    Error, Flow, Layout, Reader, RecordType, Summary, UserName, rewrite, rewrite_many,
};

use super::Seen;

/// The name that a flow is to get, by what a rewrite leaves as it is; each `salt` names others.
pub(crate) fn name_for(flow: &Seen, salt: u8) -> Option<String> {
    let sum = u64::from(flow.source_port)
        ^ u64::from(flow.destination_port)
        ^ flow.bytes
        ^ flow.first_ms
        ^ u64::from(salt);
    match sum % 8 {
        0..3 => None,
        3 => Some("x".to_owned()),
        4 => Some(format!("{}/ntpd@host", flow.source_port)),
        5 => Some("ä".repeat(40)),
        6 => Some("n".repeat(65)),
        _ => Some(format!("プロセス-{}-{}", flow.protocol, "y".repeat(60))),
    }
}

/// `name` cut to what `room` bytes hold, between characters.
fn cut(name: &str, room: usize) -> &str {
    let mut end = name.len().min(room);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

/// What a record is besides its name.
struct Kept {
    record_type: RecordType,
    bytes: Vec<u8>,
    flow: Option<Seen>,
}

/// A file's records one after another, with one block of them in memory.
struct Records<'a> {
    reader: Reader<&'a [u8]>,
    block: VecDeque<Kept>,
}

impl<'a> Records<'a> {
    fn of(file: &'a [u8]) -> Result<Self, Error> {
        Ok(Self { reader: Reader::new(file)?, block: VecDeque::new() })
    }

    fn next(&mut self) -> Result<Option<Kept>, Error> {
        while self.block.is_empty() {
            let Some(block) = self.reader.next_block()? else { return Ok(None) };
            for record in block {
                let record = record?;
                self.block.push_back(Kept {
                    record_type: record.record_type,
                    bytes: record.bytes.to_vec(),
                    flow: record.flow.as_ref().map(Seen::of),
                });
            }
        }
        Ok(self.block.pop_front())
    }
}

/// Reads all records; how many flows there were, or why not all of them.
///
/// Panics unless walking over the blocks without looking at their records gives the same answer, and
/// unless an error is the end.
pub(crate) fn reads(file: &[u8]) -> Result<u64, Error> {
    let looked = (|| -> Result<u64, Error> {
        let mut reader = Reader::new(file)?;
        let mut flows = 0;
        while let Some(block) = reader.next_block()? {
            let (number, offset) = (block.number(), block.offset());
            assert!(offset + 12 <= file.len() as u64, "block {number} at {offset}");
            for record in block {
                flows += u64::from(record?.flow.is_some());
            }
        }
        assert!(reader.next_block()?.is_none(), "a block after the last");
        Ok(flows)
    })();
    let skipped = (|| -> Result<(), Error> {
        let mut reader = Reader::new(file)?;
        loop {
            match reader.next_block() {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(error) => {
                    let after = reader.next_block();
                    assert!(matches!(after, Ok(None)), "a block after {error}: {after:?}");
                    return Err(error);
                }
            }
        }
    })();
    match (&looked, &skipped) {
        (Ok(_), Ok(())) => {}
        (Err(looked), Err(skipped)) => {
            assert_eq!(looked.to_string(), skipped.to_string());
            assert!(looked.offset() <= file.len() as u64, "{looked} in {} bytes", file.len());
            assert!(looked.to_string().contains("at offset "), "{looked}");
        }
        _ => panic!("looked at: {looked:?}, skipped: {skipped:?}"),
    }
    looked
}

/// Rewrites `file` with the names that `name_of` gives.
pub(crate) fn named(
    file: &[u8],
    name_of: impl Fn(&Seen) -> Option<String>,
) -> Result<(Vec<u8>, Summary), Error> {
    let mut output = Cursor::new(Vec::new());
    let decide = |flow: &Flow<'_>, name: &mut UserName| {
        if let Some(text) = name_of(&Seen::of(flow)) {
            name.set(&text);
        }
    };
    let summary = rewrite(file, &mut output, decide)?;
    Ok((output.into_inner(), summary))
}

/// [`named`], by three threads; what is never begun is the file itself.
fn named_by_many(
    file: &[u8],
    name_of: impl Fn(&Seen) -> Option<String> + Sync,
) -> Result<(Vec<u8>, Summary), Error> {
    let begin = |first: u64| {
        let first = usize::try_from(first).unwrap();
        let mut output = Cursor::new(file[..first].to_vec());
        output.set_position(first as u64);
        Ok(output)
    };
    let decide = |flows: &[Flow<'_>], names: &mut [UserName]| {
        for (flow, name) in flows.iter().zip(names) {
            if let Some(text) = name_of(&Seen::of(flow)) {
                name.set(&text);
            }
        }
    };
    let (summary, output) = rewrite_many(file, begin, &mut [decide; 3])?;
    Ok((output.map_or_else(|| file.to_vec(), Cursor::into_inner), summary))
}

/// Whether `file` can be read; panics unless what must hold of its round trip does:
///
/// * it can be rewritten if it can be read and is not in progress;
/// * with no names it comes out identical;
/// * with names it comes out as the same records, with those names in its flows, and to rewrite
///   that with the same names changes nothing.
pub(crate) fn holds(case: &str, file: &[u8], name_of: impl Fn(&Seen) -> Option<String>) -> bool {
    let read = reads(file);
    let same = named(file, |_| None);
    let renamed = named(file, &name_of);
    let (flows, (same, copied), (output, summary)) = match (read, same, renamed) {
        (Ok(flows), Ok(same), Ok(renamed)) => (flows, same, renamed),
        (read, Err(copied), Err(renamed)) => {
            assert_eq!(copied.to_string(), renamed.to_string(), "{case}");
            match read {
                Err(read) => assert_eq!(read.to_string(), copied.to_string(), "{case}"),
                Ok(flows) => {
                    let progress = Reader::new(file).is_ok_and(|read| read.header().in_progress());
                    assert!(progress && flows == 0, "{case}: read, but not rewritten: {copied}");
                }
            }
            return false;
        }
        (read, copied, renamed) => panic!(
            "{case}: read {read:?}, copied {:?}, renamed {:?}",
            copied.map(|(_, summary)| summary),
            renamed.map(|(_, summary)| summary)
        ),
    };
    assert!(same == file, "{case}: not the same");
    assert_eq!((copied.flows, copied.named, copied.no_room), (flows, 0, 0), "{case}");
    assert_eq!(copied.blocks, copied.blocks_written, "{case}");
    are_named(case, file, &output, &summary, &name_of);
    let (again, second) = named(&output, &name_of)
        .unwrap_or_else(|error| panic!("{case}: cannot be rewritten again: {error}"));
    assert!(again == output, "{case}: to name it again changes it");
    assert_eq!(
        (second.flows, second.named, second.no_room),
        (summary.flows, summary.named, summary.no_room),
        "{case}"
    );
    true
}

/// Panics unless three threads make of `file` what one makes of it, or refuse it for the same reason.
pub(crate) fn threads_agree(
    case: &str,
    file: &[u8],
    name_of: impl Fn(&Seen) -> Option<String> + Sync,
) {
    match (named(file, &name_of), named_by_many(file, &name_of)) {
        (Ok(one), Ok(many)) => assert!(one == many, "{case}: {:?}, then {:?}", one.1, many.1),
        (Err(one), Err(many)) => assert_eq!(one.to_string(), many.to_string(), "{case}"),
        (one, many) => panic!(
            "{case}: one thread {:?}, three {:?}",
            one.map(|(_, summary)| summary),
            many.map(|(_, summary)| summary)
        ),
    }
}

/// Asserts that `output` is `file` with the names of `name_of`, record by record.
fn are_named(
    case: &str,
    file: &[u8],
    output: &[u8],
    summary: &Summary,
    name_of: impl Fn(&Seen) -> Option<String>,
) {
    let read = |records: &mut Records<'_>, what| {
        records.next().unwrap_or_else(|error| panic!("{case}: {what}: {error}"))
    };
    let mut before = Records::of(file).unwrap();
    let mut after = Records::of(output).unwrap();
    let layout = before.reader.header().layout();
    let (mut flows, mut named, mut had, mut no_room) = (0, 0, 0, 0);
    while let Some(was) = read(&mut before, "read once, but not again") {
        let is = loop {
            let is = read(&mut after, "what was written cannot be read")
                .unwrap_or_else(|| panic!("{case}: a record is missing"));
            // Maps of the rewriter's own go in front of the flows that use them.
            let map = is.record_type == RecordType::EXTENSION_MAP && layout == Layout::One;
            if !map || is.bytes == was.bytes {
                break is;
            }
        };
        let (Some(was_flow), Some(is_flow)) = (&was.flow, &is.flow) else {
            assert!(was.flow.is_none() && is.flow.is_none(), "{case}: flow {flows}");
            assert_eq!(was.bytes, is.bytes, "{case}: a record that is no flow");
            continue;
        };
        flows += 1;
        let Some(name) = name_of(was_flow) else {
            assert_eq!(was.bytes, is.bytes, "{case}: flow {flows}, not named");
            assert_eq!(was_flow, is_flow, "{case}: flow {flows}, not named");
            continue;
        };
        let is_named = |room| *is_flow == was_flow.named(Some(cut(&name, room)));
        // In layout 1 a field of 24 bytes may be there already.
        let is_named = is_named(65) || (layout == Layout::One && is_named(23));
        match (is_named, was.bytes == is.bytes) {
            (true, false) => {
                named += 1;
                match layout {
                    Layout::Two => only_the_name_differs(case, &was.bytes, &is.bytes),
                    Layout::One => only_one_field_differs(case, &was.bytes, &is.bytes),
                }
            }
            // It had the name; in a field that could take it, or without room for such a one.
            (true, true) => had += 1,
            (false, true) => no_room += 1,
            (false, false) => panic!("{case}: {was_flow:?} to be named {name:?} is {is_flow:?}"),
        }
    }
    assert!(after.next().unwrap().is_none(), "{case}: more records than before");
    assert_eq!(before.reader.ident(), after.reader.ident(), "{case}");
    assert_eq!(summary.flows, flows, "{case}");
    assert_eq!(summary.named + summary.no_room, named + had + no_room, "{case}: {summary:?}");
    assert!(summary.named >= named && summary.no_room >= no_room, "{case}: {summary:?}");
}

/// Asserts that two flow records of layout 2 are the same but for element 24.
fn only_the_name_differs(case: &str, was: &[u8], is: &[u8]) {
    let elements = |record: &[u8]| {
        let count = u16::from_le_bytes([record[4], record[5]]);
        let (mut rest, mut names, mut others) = (&record[12..], 0, Vec::new());
        for _ in 0..count {
            let length = usize::from(u16::from_le_bytes([rest[2], rest[3]]));
            if rest[..2] == [24, 0] {
                names += 1;
            } else {
                others.push(rest[..length].to_vec());
            }
            rest = &rest[length..];
        }
        (others, names)
    };
    let ((others, _), (others_now, names)) = (elements(was), elements(is));
    assert_eq!(was[6..12], is[6..12], "{case}: record header");
    assert_eq!(others, others_now, "{case}: other elements");
    assert_eq!(names, 1, "{case}: names");
}

/// Asserts that two flow records of layout 1 are the same but for one field of at most 72 bytes, the
/// size and the map.
fn only_one_field_differs(case: &str, was: &[u8], is: &[u8]) {
    assert!(is.len() == was.len() || is.len() == was.len() + 72, "{case}: {}", is.len());
    assert!(was[4..6] == is[4..6] && was[8..32] == is[8..32], "{case}: head");
    let (was, is) = (&was[32..], &is[32..]);
    let front = was.iter().zip(is).take_while(|(was, is)| was == is).count();
    let back = was.iter().rev().zip(is.iter().rev()).take_while(|(was, is)| was == is).count();
    assert!(is.len().saturating_sub(front + back) <= 72, "{case}: more than a name differs");
    assert!(is.len() == was.len() || front + back >= was.len(), "{case}: more than a name added");
}
