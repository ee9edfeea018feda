//! Capture files of every format, whole, cut, and lying.

use std::io::{self, Read, Write};

use procflow_capture::{CaptureFile, FileError, Reason};
use procflow_core::{
    Timestamp,
    packet::{Batch, LinkType},
};

/// A frame as it should be read: time, length on the wire, link type, bytes.
type Seen = (i64, u32, u32, Vec<u8>);

fn read(input: impl Read) -> (Vec<Seen>, Option<FileError>) {
    let mut file = CaptureFile::new(input).unwrap();
    let (mut batch, mut seen) = (Batch::default(), Vec::new());
    loop {
        let result = file.next_batch(&mut batch);
        for frame in batch.frames() {
            let bytes = batch.bytes_of(frame);
            let LinkType(link_type) = frame.link_type;
            let Timestamp(time) = frame.time;
            seen.push((time, frame.wire, link_type, bytes.to_vec()));
        }
        match result {
            Err(error) => {
                file.next_batch(&mut batch).unwrap();
                assert!(batch.is_empty(), "after {error}");
                return (seen, Some(error));
            }
            Ok(()) if batch.is_empty() => return (seen, None),
            Ok(()) => {}
        }
    }
}

/// A number in either byte order.
fn number(big_endian: bool, value: u32) -> [u8; 4] {
    if big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
}

fn pcap(big_endian: bool, nanoseconds: bool, frames: &[Seen]) -> Vec<u8> {
    let number = |value| number(big_endian, value);
    let magic = if nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
    let version = if big_endian { 0x0002_0004 } else { 0x0004_0002 };
    let mut file: Vec<u8> = [magic, version, 0, 0, 65535, 1].map(number).concat();
    for (time, wire, _, bytes) in frames {
        let fraction = (time % 1_000_000_000) as u32 / if nanoseconds { 1 } else { 1000 };
        let head = [(time / 1_000_000_000) as u32, fraction, bytes.len() as u32, *wire];
        file.extend(head.map(number).concat());
        file.extend(bytes);
    }
    file
}

fn block(big_endian: bool, kind: u32, body: &[u8]) -> Vec<u8> {
    let padded = body.len().next_multiple_of(4);
    let length = number(big_endian, padded as u32 + 12);
    let mut block = [&number(big_endian, kind)[..], &length, body].concat();
    block.resize(8 + padded, 0);
    block.extend(length);
    block
}

fn half(big_endian: bool, value: u16) -> [u8; 2] {
    if big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
}

/// Two interfaces: Ethernet in microseconds, and raw IP in nanoseconds with an offset of 100 s.
fn pcapng(big_endian: bool) -> (Vec<u8>, Vec<Seen>) {
    let number = |value| number(big_endian, value);
    let half = |value| half(big_endian, value);
    let section = [&number(0x1a2b_3c4d)[..], &half(1), &half(0), &[0xff; 8]].concat();
    let mut file = block(big_endian, 0x0a0d_0d0a, &section);
    file.extend(block(big_endian, 1, &[&half(1)[..], &half(0), &number(100)].concat()));
    let offset = if big_endian { 100_u64.to_be_bytes() } else { 100_u64.to_le_bytes() };
    let options =
        [&half(9)[..], &half(1), &[9, 0, 0, 0], &half(14), &half(8), &offset, &half(0), &half(0)];
    let options = options.concat();
    let raw = [&half(101)[..], &half(0), &number(0), &options].concat();
    file.extend(block(big_endian, 1, &raw));
    file.extend(block(big_endian, 5, &[0; 12]));
    let mut packet = |interface: u32, ticks: u64, wire: u32, bytes: &[u8]| {
        let head = [interface, (ticks >> 32) as u32, ticks as u32, bytes.len() as u32, wire];
        file.extend(block(big_endian, 6, &[&head.map(number).concat(), bytes].concat()));
    };
    let micros = 1_700_000_000_123_456_u64;
    packet(0, micros, 60, b"ethernet");
    packet(1, 1_700_000_000_000_000_001, 3, b"raw");
    // Simple: no time, of the first interface, cut at its 100 octets.
    let body = [&number(150)[..], &[7; 100]].concat();
    file.extend(block(big_endian, 3, &body));
    let expected = vec![
        (1_700_000_000_123_456_000, 60, 1, b"ethernet".to_vec()),
        (1_700_000_100_000_000_001, 3, 101, b"raw".to_vec()),
        (0, 150, 1, vec![7; 100]),
    ];
    (file, expected)
}

fn frames() -> Vec<Seen> {
    let time = 1_700_000_000_000_001_000;
    vec![(time, 4, 1, vec![1, 2, 3, 4]), (time + 5000, 1500, 1, vec![5; 96]), (time, 0, 1, vec![])]
}

#[test]
fn pcap_in_either_byte_order_and_resolution() {
    for big_endian in [false, true] {
        for nanoseconds in [false, true] {
            let (seen, error) = read(&pcap(big_endian, nanoseconds, &frames())[..]);
            assert!(error.is_none());
            assert_eq!(seen, frames(), "{big_endian} {nanoseconds}");
        }
    }
}

#[test]
fn pcapng_with_interfaces_of_their_own_in_either_byte_order() {
    for big_endian in [false, true] {
        let (file, expected) = pcapng(big_endian);
        let (seen, error) = read(&file[..]);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(seen, expected, "{big_endian}");
    }
    // Sections follow one another, each with interfaces and a byte order of its own.
    let two = [pcapng(false), pcapng(true)];
    let (seen, error) = read(&[&two[0].0[..], &two[1].0].concat()[..]);
    assert!(error.is_none());
    assert_eq!(seen, [&two[0].1[..], &two[1].1].concat());
}

#[test]
fn a_file_cut_anywhere_gives_the_frames_before_and_says_where() {
    for (name, file) in [("pcap", pcap(false, false, &frames())), ("pcapng", pcapng(true).0)] {
        let (all, _) = read(&file[..]);
        let mut whole = 0;
        for length in 0..file.len() {
            let (seen, error) = read(&file[..length]);
            assert_eq!(seen, all[..seen.len()], "{name} cut at {length}");
            match error {
                Some(FileError { offset, .. }) => assert!(offset <= length as u64),
                // Between two blocks.
                None => whole += 1,
            }
        }
        assert!((3..10).contains(&whole), "{name}: {whole}");
    }
}

#[test]
fn a_compressed_file_is_the_file() {
    let file = pcapng(false).0;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&file[..100]).unwrap();
    let mut gzip = gzip.finish().unwrap();
    // Members that follow one another are one file (RFC 1952 section 2.2).
    let mut second = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    second.write_all(&file[100..]).unwrap();
    gzip.extend(second.finish().unwrap());
    let zstd = zstd::encode_all(&file[..], 3).unwrap();
    for compressed in [gzip, zstd] {
        let (seen, error) = read(&compressed[..]);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(seen, pcapng(false).1);
        let (_, error) = read(&compressed[..compressed.len() - 10]);
        assert!(error.unwrap().to_string().contains("of what is decompressed"));
    }
}

/// Gives a byte at a time, and is interrupted in between.
struct Slow<'a>(&'a [u8], bool);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let one = self.0.len().min(1).min(buffer.len());
        self.0.read(&mut buffer[..one])
    }
}

#[test]
fn batches_do_not_depend_on_how_fast_bytes_come() {
    let many: Vec<Seen> = (0..3000).map(|i| (i, 1000, 1, vec![i as u8; 1000])).collect();
    let file = pcap(false, true, &many);
    let batches = |input: &mut dyn Read| {
        let mut file = CaptureFile::new(input).unwrap();
        let (mut batch, mut lengths) = (Batch::default(), Vec::new());
        loop {
            file.next_batch(&mut batch).unwrap();
            if batch.is_empty() {
                return lengths;
            }
            lengths.push(batch.len());
        }
    };
    let at_once = batches(&mut &file[..]);
    assert!(at_once.len() > 2 && at_once.iter().sum::<usize>() == 3000, "{at_once:?}");
    assert_eq!(batches(&mut Slow(&file, false)), at_once);
}

#[test]
fn claims_that_cannot_be_are_refused_with_a_reason() {
    let says = |file: &[u8]| read(file).1.map(|error| error.to_string()).unwrap_or_default();
    assert_eq!(says(b""), "at offset 0: not a capture file: it ends within its header");
    assert!(
        says(b"\x7fELF and more")
            .contains("not a capture file (pcap, pcapng): it begins with 7f 45")
    );
    let huge = pcap(false, false, &[]);
    let huge = [&huge[..], &[0; 8], &u32::MAX.to_le_bytes(), &[0; 4]].concat();
    assert_eq!(says(&huge), "at offset 24: a frame of 4294967295 bytes");
    let section = pcapng(false).0[..28].to_vec();
    let with = |more: &[u8]| [&section[..], more].concat();
    assert!(
        says(&with(&block(false, 6, &[0; 20]))).contains("interface 0, which is not described")
    );
    assert!(
        says(&with(&block(false, 1, &[0; 4]))).contains("malformed block (interface description)")
    );
    let mut unlike = block(false, 5, &[0; 12]);
    *unlike.last_mut().unwrap() = 1;
    assert!(says(&with(&unlike)).contains("ends as one of"));
    assert!(says(&with(&[9, 0, 0, 0, 13, 0, 0, 0, 0, 0, 0, 0])).contains("a block of 13 bytes"));
    let resolution = [&[1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0, 0x7f, 0, 0, 0][..]].concat();
    let bad = [block(false, 1, &resolution), block(false, 6, &[0; 20])].concat();
    let error = read(&with(&bad)[..]).1.unwrap();
    assert!(matches!(error.reason, Reason::Resolution), "{error}");
}

#[test]
fn an_interface_whose_options_lie_is_read_without_them() {
    let section = pcapng(false).0[..28].to_vec();
    // A name that runs beyond the block.
    let interface = [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 200, 0, b'e', b't', b'h', b'0'];
    let file = [section, block(false, 1, &interface), block(false, 6, &[0; 20])].concat();
    let (seen, error) = read(&file[..]);
    assert!(error.is_none() && seen == [(0, 0, 1, vec![])], "{seen:?}");
}
