//! A fuzz target is a claim about any bytes, which libFuzzer tries to break.
//!
//! The claims about nfcapd files are those of the crate's own tests: `tests/corpus` is compiled in here,
//! so that a property is stated once. This file only turns what the fuzzer hands over into a file to state
//! it of; what holds of frames and captures is stated here. It does no I/O and looks at no clock; how long is fuzzed, and what is reported, is in `run`.
//!
//! | target | its bytes are | and |
//! |---|---|---|
//! | `reader` | a file | it is read, or refused with a place inside it |
//! | `lzo`, `bz2`, `lz4`, `zstd` | the payload of the one block of a file so compressed | the same, and its round trip holds |
//! | `rewrite` | a file | its round trip holds, and several threads agree |
//! | `made` | the choices for a file with nothing wrong with it, and a bit | it is read, and its round trip holds; with the bit flipped it holds or the file is refused |
//! | `frames` | a link type and a frame | it is decoded or says why not, its lengths are within each other, and its layers say the same |
//! | `captures` | a capture file | every frame of it is accounted for, by one thread as by two |
//! | `sessions` | a capture file | every frame of it is accounted for, and what each end sums up is what was told before |
//! | `tls`, `http`, `ssh`, `dns-stream` | a conversation over TCP | what is found is bounded, and the same octet by octet |
//! | `dtls`, `quic`, `dns` | a conversation in datagrams | what is kept and found is bounded |
//! | `streams`, `datagrams` | a port and a conversation | whatever it is recognised as, it stays, and all is bounded |
//! | `rules` | a file of rules | they are taken, or refused with a reason |

#[path = "../crates/core/tests/frames/agreement.rs"]
mod agreement;
#[path = "../crates/core/tests/conversations/mod.rs"]
#[allow(unreachable_pub)]
mod conversations;
#[path = "../crates/nfdump/tests/corpus/mod.rs"]
#[allow(unreachable_pub)]
mod corpus;

use std::collections::HashMap;

use corpus::{
    made::{self, Choices, Oddity},
    round_trip::{holds, name_for, reads, threads_agree},
};
use procflow_capture::CaptureFile;
use procflow_core::{
    Timestamp,
    dissect::{ApplicationProtocol, Rules},
    features::{Column, columns},
    flow::{Filled, Make, Record, Settings, Tally, meter},
    packet::{Batch, Decoder, LinkType},
    rows::{Format, Rows},
    session::{self, Event, EventKind, SessionId},
};
use procflow_nfdump::{Compression, ErrorKind};

/// Any bytes are read, or refused; see [`reads`].
pub fn reader(file: &[u8]) {
    let _ = reads(file);
}

/// Any bytes come back from a rewrite if they can be read, by any number of threads; see [`holds`] and
/// [`threads_agree`].
pub fn rewrite(file: &[u8]) {
    holds("any bytes", file, |flow| name_for(flow, 0));
    threads_agree("any bytes, threads", file, |flow| name_for(flow, 0));
}

/// A file made up by any choices can be read and comes back from a rewrite; with one bit of it
/// flipped it is refused or comes back. The first three bytes choose the names and the bit.
pub fn made(bytes: &[u8]) {
    let Some((&[salt, low, high], choices)) = bytes.split_first_chunk() else { return };
    let mut file = made::file(&mut Choices::new(choices), Oddity::Any);
    assert!(holds("made", &file, |flow| name_for(flow, salt)), "made, but not read");
    threads_agree("made, threads", &file, |flow| name_for(flow, salt));
    let place = usize::from(u16::from_le_bytes([low, high])) % (file.len() * 8);
    if place > 0 {
        file[place / 8] ^= 1 << (place % 8);
        holds("made, flipped", &file, |flow| name_for(flow, salt));
        threads_agree("made, flipped, threads", &file, |flow| name_for(flow, salt));
    }
}

/// Any bytes as a compressed payload are read, or refused, and come back if they could be read.
///
/// A payload cannot say how many records come out of it, and a fuzzer does not guess it: what the
/// reader finds wrong with the count is put right.
pub fn payload(compression: Compression, payload: &[u8]) {
    let mut file = file_of_payload(compression, payload);
    if let Err(error) = reads(&file)
        && let ErrorKind::RecordCount { found, .. } = error.kind()
    {
        file[40..44].copy_from_slice(&found.to_le_bytes());
    }
    holds("one payload", &file, |flow| name_for(flow, 0));
}

/// A file of layout 2 with this one block, of one record, and no appendix.
fn file_of_payload(compression: Compression, payload: &[u8]) -> Vec<u8> {
    let mut header = made::header_2();
    header[18] = 0;
    let method = match compression {
        Compression::None => 0,
        Compression::Lzo => 1,
        Compression::Bz2 => 2,
        Compression::Lz4 => 3,
        Compression::Zstd => 4,
    };
    let mut file = made::file_of(&header, &[(1, payload.to_vec())], method, <[u8]>::to_vec);
    file[24..32].fill(0);
    file[36] = 1;
    file
}

/// Any frame is decoded or says why not; what is inside of what is not longer, and within the frame. Its
/// layers have the same packet inside, and every octet of it; see [`agrees`](agreement::agrees).
pub fn frames(bytes: &[u8]) {
    let Some((&link_type, frame)) = bytes.split_first() else { return };
    // One more is out of the reach of a byte.
    let link_type = LinkType(if link_type == 2 { 276 } else { link_type.into() });
    let wire = frame.len() as u32 * 2;
    agreement::agrees(link_type, frame, wire);
    for tunnels in [true, false] {
        let decoder = Decoder { tunnels };
        let Ok(packet) = decoder.decode(link_type, Timestamp(1), frame, wire) else { continue };
        let lengths = packet.lengths;
        assert!(
            lengths.payload <= lengths.transport && lengths.transport <= lengths.ip,
            "{packet:?}"
        );
        assert!(lengths.captured as usize == frame.len() && lengths.wire == wire, "{packet:?}");
        let (start, end) = packet.payload;
        assert!(start <= end && end <= lengths.captured, "{packet:?}");
        assert!(packet.payload(frame).len() <= lengths.payload as usize, "{packet:?}");
    }
}

/// Rows of every column.
struct AllColumns;

impl Make for AllColumns {
    type Made = Rows;

    fn make(&self, record: &mut Record, made: &mut Rows) {
        let all: &[Column] = columns();
        made.add(Format::JsonLines, all, record);
        made.add(Format::Csv, all, record);
    }
}

/// Batches of a capture, up to its end or to where it is damaged.
fn frames_of(bytes: &[u8]) -> Option<impl FnMut(&mut Batch) -> Filled + '_> {
    let mut file = CaptureFile::new(bytes).ok()?;
    Some(move |batch: &mut Batch| match file.next_batch(batch) {
        Ok(()) if !batch.is_empty() => Filled::More(None),
        _ => Filled::Last,
    })
}

/// The rows of a capture by so many threads, and what became of its frames.
fn metered(file: &[u8], threads: usize) -> (Vec<u8>, Tally) {
    let Some(source) = frames_of(file) else { return (Vec::new(), Tally::default()) };
    let needs = Column::all_need(columns());
    let settings = Settings { needs, capacity: 8192, ..Settings::default() };
    let mut rows = Vec::new();
    let take = |made: &Rows, index: usize| {
        made.copy(2 * index, 0, &mut rows);
        made.copy(2 * index + 1, 0, &mut rows);
    };
    let tally = meter(Decoder::default(), settings, threads, source, &AllColumns, take);
    (rows, tally)
}

/// Every frame of any capture is accounted for, and two threads make of it what one makes.
pub fn captures(file: &[u8]) {
    let (rows, tally) = metered(file, 1);
    assert!(tally.is_conserved(), "{tally:?}");
    assert!(metered(file, 2) == (rows, tally), "two threads");
}

/// Every frame of any capture is accounted for in sessions, and the octets that an end sums up were told.
pub fn sessions(file: &[u8]) {
    let Some(source) = frames_of(file) else { return };
    // So little that sessions give way to others, and holes are given up.
    let settings =
        session::Settings { capacity: 8, waiting: 1024, all_waiting: 4096, ..Default::default() };
    let mut told: HashMap<SessionId, u64> = HashMap::new();
    let tell = |event: &Event<'_>| match &event.kind {
        EventKind::Data { payload, .. } => {
            *told.entry(event.session).or_default() += payload.len() as u64;
        }
        EventKind::End(summary) => {
            let sides = [summary.sides.forward, summary.sides.reverse];
            let sum: u64 = sides.iter().map(|side| side.data_octets).sum();
            assert_eq!(told.remove(&event.session).unwrap_or(0), sum, "{summary:?}");
        }
        _ => {}
    };
    let tally = session::follow(Decoder::default(), settings, source, tell);
    assert!(tally.is_conserved(), "{tally:?}");
    assert!(told.is_empty(), "sessions without an end: {told:?}");
}

/// A conversation over TCP in this protocol says the same in whatever pieces it comes.
pub fn stream(protocol: ApplicationProtocol, bytes: &[u8]) {
    conversations::stream_holds(protocol, &conversations::turns(bytes));
}

/// A conversation in datagrams says something bounded.
pub fn datagrams(protocol: ApplicationProtocol, bytes: &[u8]) {
    conversations::datagrams_hold(protocol, &conversations::turns(bytes));
}

/// The same of QUIC; most datagrams are sealed here, because nothing that is made up opens.
pub fn quic(bytes: &[u8]) {
    conversations::quic_holds(&conversations::turns(bytes));
}

/// What nobody said the protocol of is recognised or not. The first two octets are a port.
pub fn recognised(is_stream: bool, bytes: &[u8]) {
    let Some((port, conversation)) = bytes.split_first_chunk() else { return };
    let turns = conversations::turns(conversation);
    conversations::is_recognised(is_stream, u16::from_be_bytes(*port), &turns);
}

/// Any text is a file of rules, or is refused.
pub fn rules(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut rules = Rules::default();
    match rules.add(text) {
        Ok(()) => rules.add(text).expect("what was taken once is taken again"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
