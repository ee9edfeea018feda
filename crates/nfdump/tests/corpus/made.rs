//! A made file is an nfcapd file that nobody's program wrote: put together here, byte by byte, as a
//! run of choices says.
//!
//! What is made has nothing wrong with it, however odd: every element and extension that nfdump has
//! a number for and some that it has not, names of every kind, records of every type, sizes up to
//! the largest. The sizes are written down a second time here, from nfdump and not from the crate.
//! Damage is the business of whoever asked for the file.

use std::io::Read;

/// The lengths of layout 2's elements, by id, element header included: the shortest, and whether any
/// greater one will do.
const ELEMENTS: [(u16, bool); 43] = [
    (4, true),   // 0: filler
    (52, false), // 1: times, counters, ports
    (12, false), // 2: IPv4 addresses
    (36, false), // 3: IPv6 addresses
    (20, false), // 4: interfaces, masks
    (28, false), // 5: flows, packets and bytes out
    (12, false), // 6: VLANs
    (12, false), // 7: AS numbers
    (8, false),  // 8: BGP next hop
    (20, false),
    (8, false), // 10: next hop
    (20, false),
    (8, false), // 12: exporter's address
    (20, false),
    (44, false), // 14: MPLS labels
    (36, false), // 15: MAC addresses
    (12, false), // 16: adjacent AS numbers
    (28, false), // 17: latency
    (20, false), // 18: sampler; 16 in nfdump 1.7.1, see `element`
    (20, false), // 19: NSEL
    (12, false), // 20: translated addresses
    (36, false),
    (8, false),  // 22: translated ports
    (28, false), // 23: ACLs
    (72, false), // 24: user name
    (20, false), // 25: NEL; 28 in nfdump 1.7.0
    (12, false), // 26: port block
    (4, true),   // 27: application
    (4, true),   // 28: label
    (4, true),   // 29: payload in
    (4, true),   // 30: payload out
    (16, false), // 31: tunnel
    (44, false),
    (20, false), // 33: observation
    (8, false),  // 34: sFlow frame's size and link
    (4, true),   // 35: sFlow frame
    (12, false), // 36: VRFs
    (24, true),  // 37: pf
    (36, false), // 38: layer 2
    (12, false), // 39: flow id
    (8, false),  // 40: Nokia NAT
    (8, true),   // 41: Nokia NAT's text
    (8, false),  // 42: fragments, TTL
];

/// The sizes of layout 1's extensions: ids 4 to 49.
const EXTENSIONS: [u8; 46] = [
    4, 8, 4, 8, 4, 4, 16, 4, 16, 4, 4, 8, 4, 8, 4, 8, 16, 16, 40, 4, 16, 4, 8, 8, // 4 to 27
    0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 4, 8, 32, 24, 24, 72, 0, 24, 12, 0, 8, 0, // 28 to 49
];

/// The most ids that a map is given; more than that the reader refuses.
const LONGEST_MAP: usize = 50;

/// Choices, drawn one after another from bytes that a fuzzer or a property test varies. When they
/// run out every choice is the first, so that fewer bytes make a simpler file.
pub(crate) struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        first
    }

    /// A number below `bound`, which is at most 65536.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        if bound <= 256 {
            return usize::from(self.byte()) % bound;
        }
        usize::from(u16::from_le_bytes([self.byte(), self.byte()])) % bound
    }

    /// True in one of `odds` cases, and not when the choices have run out.
    fn rarely(&mut self, odds: usize) -> bool {
        self.below(odds) == odds - 1
    }

    /// So many bytes: as drawn, or, so that large ones cost few choices, one pattern all along.
    fn data(&mut self, length: usize) -> Vec<u8> {
        match self.below(4) {
            0 => vec![0; length],
            1 => {
                let (from, step) = (self.byte(), self.byte());
                (0..length).map(|at| from.wrapping_add(step.wrapping_mul(at as u8))).collect()
            }
            _ => (0..length).map(|_| self.byte()).collect(),
        }
    }
}

/// A file of these blocks, records and payload each; in layout 2 the last is the appendix.
/// `compression` is the header's id in layout 2, its flag in layout 1.
pub(crate) fn file_of(
    header: &[u8],
    blocks: &[(u32, Vec<u8>)],
    compression: u8,
    compress: impl Fn(&[u8]) -> Vec<u8>,
) -> Vec<u8> {
    let mut file = header.to_vec();
    let layout_1 = file[2] == 1;
    let mut last = 0;
    for (records, plain) in blocks {
        last = file.len() as u64;
        let disk = compress(plain);
        file.extend_from_slice(&records.to_le_bytes());
        file.extend_from_slice(&(disk.len() as u32).to_le_bytes());
        file.extend_from_slice(if layout_1 { &[2, 0, 0, 0] } else { &[3, 0, 0, 0] });
        file.extend_from_slice(&disk);
    }
    let count = blocks.len() as u32;
    if layout_1 {
        file[4] = compression;
        file[8..12].copy_from_slice(&count.to_le_bytes());
    } else {
        file[16] = compression;
        file[24..32].copy_from_slice(&last.to_le_bytes());
        file[36..40].copy_from_slice(&(count - 1).to_le_bytes());
    }
    file
}

/// How many methods of compression there are, none among them; layout 1 lacks the last.
pub(crate) const METHODS: usize = 5;

/// Each method's flag in a header of layout 1.
const FLAGS: [u8; 4] = [0, 1, 8, 16];

/// `plain` as the method with this number in a header of layout 2 stores it, by somebody else's
/// compressor where there is one.
pub(crate) fn compressed(method: usize, plain: &[u8]) -> Vec<u8> {
    match method {
        0 => plain.to_vec(),
        1 => lzokay::compress::compress(plain).unwrap(),
        2 => {
            let mut disk = Vec::new();
            let level = bzip2::Compression::best();
            bzip2::read::BzEncoder::new(plain, level).read_to_end(&mut disk).unwrap();
            disk
        }
        3 => lz4_flex::block::compress(plain),
        _ => zstd::bulk::compress(plain, 3).unwrap(),
    }
}

/// The header of layout 2 without its counts: nfdump 1.7.1, nfcapd, one appendix block.
pub(crate) fn header_2() -> Vec<u8> {
    let mut header = vec![0x0c, 0xa5, 2, 0, 0, 1, 7, 1, 0x33, 0x4b, 1, 0x6b];
    header.resize(40, 0);
    (header[18], header[20]) = (1, 1);
    header
}

/// The header and the statistics of layout 1 without counts.
pub(crate) fn header_1() -> Vec<u8> {
    let mut header = vec![0x0c, 0xa5, 1, 0];
    header.resize(276, 0);
    header[12..16].copy_from_slice(b"none");
    header
}

/// The appendix: an ident and statistics.
fn appendix() -> (u32, Vec<u8>) {
    let mut payload = b"\x01\x80\x09\x00none\0\x02\x80\x94\x00".to_vec();
    payload.resize(9 + 148, 0);
    (2, payload)
}

/// A file of layout 2 with these data blocks.
pub(crate) fn layout_2_of(blocks: &[(u32, Vec<u8>)], method: usize) -> Vec<u8> {
    let mut blocks = blocks.to_vec();
    blocks.push(appendix());
    file_of(&header_2(), &blocks, method as u8, |plain| compressed(method, plain))
}

/// A file of layout 1 with these blocks.
pub(crate) fn layout_1_of(blocks: &[(u32, Vec<u8>)], method: usize) -> Vec<u8> {
    file_of(&header_1(), blocks, FLAGS[method], |plain| compressed(method, plain))
}

/// A record with this type and body.
pub(crate) fn record(record_type: u16, body: &[u8]) -> Vec<u8> {
    let mut record = record_type.to_le_bytes().to_vec();
    record.extend_from_slice(&((4 + body.len()) as u16).to_le_bytes());
    record.extend_from_slice(body);
    record
}

/// A flow record of layout 2 with these elements.
pub(crate) fn flow_2(elements: &[Vec<u8>]) -> Vec<u8> {
    let mut body = (elements.len() as u16).to_le_bytes().to_vec();
    body.extend_from_slice(&[0, 0, 1, 0, 0, 10]);
    elements.iter().for_each(|element| body.extend_from_slice(element));
    record(11, &body)
}

/// An element of layout 2: framed as a record is.
fn element(id: u16, length: usize, choices: &mut Choices<'_>) -> Vec<u8> {
    record(id, &choices.data(length - 4))
}

/// Element `id` in a length that nfdump knows of.
pub(crate) fn known_element(id: u16, choices: &mut Choices<'_>) -> Vec<u8> {
    let (least, more) = ELEMENTS[usize::from(id)];
    let length = usize::from(least)
        + match (more, id) {
            (true, _) => choices.below(40),
            (false, 25) => choices.below(2) * 8,
            _ => 0,
        };
    let length = if id == 18 { length - choices.below(2) * 4 } else { length };
    element(id, length, choices)
}

/// How many elements nfdump has numbers for, 0 among them.
pub(crate) const KNOWN_ELEMENTS: u16 = ELEMENTS.len() as u16;

/// The extensions of layout 1, ids and sizes.
pub(crate) fn known_extensions() -> impl Iterator<Item = (u16, u8)> {
    (4..).zip(EXTENSIONS)
}

/// What a made file may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Oddity {
    /// What nfdump 1.7.1 has the same opinion of as we.
    Agreed,
    /// Anything that the reader takes.
    Any,
}

/// A file of either layout, of any compression.
pub(crate) fn file(choices: &mut Choices<'_>, oddity: Oddity) -> Vec<u8> {
    // nfdump 1.7.1 does not read ZSTD.
    let methods = if oddity == Oddity::Agreed { METHODS - 1 } else { METHODS };
    if choices.below(2) == 0 {
        let method = choices.below(methods);
        layout_2(choices, method, oddity)
    } else {
        let method = choices.below(METHODS - 1);
        layout_1(choices, method, oddity)
    }
}

/// A protocol and its TCP flags, which nfdump prints of TCP only. Not ICMP, whose port it prints in
/// several ways.
fn protocol(choices: &mut Choices<'_>) -> [u8; 2] {
    match choices.below(5) {
        0 => [6, choices.byte()],
        other => [[0, 17, 47, 253, 132][other], 0],
    }
}

/// Elements 1 and 2, or 1 and 3, of a flow.
pub(crate) fn who(choices: &mut Choices<'_>) -> Vec<Vec<u8>> {
    // Milliseconds of this century; nfdump prints no others as we do.
    let mut generic = Vec::new();
    for _ in 0..3 {
        let ms = 1_795_000_000_000 + choices.below(65536) as u64;
        generic.extend_from_slice(&ms.to_le_bytes());
    }
    generic.extend_from_slice(&(1 + choices.below(65536) as u64).to_le_bytes());
    generic.extend_from_slice(&(1 + choices.below(65536) as u64).to_le_bytes());
    let ports = [choices.byte(), choices.byte(), choices.byte(), choices.byte()];
    generic.extend_from_slice(&ports);
    generic.extend_from_slice(&protocol(choices));
    generic.extend_from_slice(&[0, 0]);
    let mut elements = vec![record(1, &generic)];
    if choices.below(3) < 2 {
        elements.push(record(2, &[1, choices.byte(), 0, 10, 2, choices.byte(), 0, 10]));
    } else {
        let mut addresses = [0; 32];
        (addresses[4], addresses[6], addresses[20]) = (0xb8, 1, 0xb8);
        (addresses[8], addresses[24]) = (choices.byte(), choices.byte());
        elements.push(record(3, &addresses));
    }
    elements
}

/// Element 24 in one of the ways a name can be there.
fn name(choices: &mut Choices<'_>, oddity: Oddity) -> Vec<u8> {
    let usual = |name: &[u8]| {
        let mut field = name.to_vec();
        field.resize(68, 0);
        record(24, &field)
    };
    let kinds = if oddity == Oddity::Agreed { 3 } else { 8 };
    match choices.below(kinds) {
        0 => usual(b"nginx"),
        1 => usual(b""),
        2 => usual(&[b'x'; 65]),
        3 => usual(b"old\0older"),     // something after the NUL
        4 => usual(&[0xff; 68]),       // no NUL, not UTF-8
        5 => record(24, b"short\0\0"), // of another length, odd
        6 => record(24, b""),
        _ => record(24, &choices.data(100)),
    }
}

/// A flow record of layout 2.
fn any_flow_2(choices: &mut Choices<'_>, oddity: Oddity) -> Vec<u8> {
    let agreed = oddity == Oddity::Agreed;
    let mut elements = who(choices);
    if !agreed && choices.rarely(6) {
        match choices.below(3) {
            0 => drop(elements.remove(0)),
            1 => drop(elements.remove(1)),
            _ => elements.extend(who(choices)),
        }
    }
    for _ in 0..choices.below(5) {
        // Ids of nfdump, which sometimes is one of the above a second time, and of a later nfdump.
        let id = choices.below(48) as u16;
        let id = if agreed { 4 + id % 30 } else { id };
        // 24 comes below; of 18 nfdump 1.7.1 knows one length; 31 and 32 are flows of their own when
        // it prints.
        if agreed && [18, 24, 31, 32].contains(&id) {
            continue;
        }
        let one = match id {
            0..KNOWN_ELEMENTS => known_element(id, choices),
            _ => element(id, 4 + choices.below(9), choices),
        };
        elements.push(one);
    }
    let names = match choices.below(6) {
        0..3 => 0,
        5 if !agreed => 2,
        _ => 1,
    };
    for _ in 0..names {
        let at = choices.below(elements.len() + 1);
        elements.insert(at, name(choices, oddity));
    }
    if !agreed && choices.rarely(40) {
        // Up to the largest record, where a name just fits or does not.
        let length: usize = elements.iter().map(Vec::len).sum();
        let room = 65535 - 12 - length;
        let payload = room - choices.below(150);
        let at = choices.below(elements.len() + 1);
        elements.insert(at, record(29, &vec![choices.byte(); payload - 4]));
    }
    let mut record = flow_2(&elements);
    record[6..12].copy_from_slice(&[0, 0, choices.byte(), 0, (choices.byte() & 4), 10]);
    if !agreed {
        record[10] = choices.byte();
    }
    record
}

/// A record that is no flow: exporters, samplers, arrays, what nobody knows.
fn other_record(choices: &mut Choices<'_>, oddity: Oddity, layout: u8) -> Vec<u8> {
    let kinds = if oddity == Oddity::Agreed { 3 } else { 10 };
    match choices.below(kinds) {
        0 => {
            let mut exporter = [0; 28];
            (exporter[0], exporter[20], exporter[22]) = (9, 2, choices.byte());
            exporter[12..16].copy_from_slice(&[choices.byte(), 1, 0, 10]);
            record(7, &exporter)
        }
        1 => {
            let count = 1 + choices.below(3);
            let mut stat = (count as u32).to_le_bytes().to_vec();
            stat.resize(4 + count * 24, 0);
            record(8, &stat)
        }
        2 if layout == 1 => record(9, &[1, 0, 0, 0, 100, 0, 0, 0, 1, 0, choices.byte(), 0]),
        2 => {
            let mut sampler = [0; 20];
            (sampler[0], sampler[4], sampler[12]) = (choices.byte(), 1, 100);
            record(15, &sampler)
        }
        3 => record(9, &[1, 0, 0, 0, 100, 0, 0, 0, 1, 0, choices.byte(), 0]),
        4 => record(12 + choices.below(3) as u16, &choices.data(44)),
        5 if layout == 1 => record(1, &choices.data(60)),
        5 => record(10, &choices.data(60)),
        6 => record(3 + choices.below(4) as u16, &choices.data(13)),
        7 => record(16, &choices.data(1)),
        8 => record(0x8001, b"none\0"),
        // Neither a map nor a flow, whatever the layout.
        _ => record(0x4000 | choices.below(65536) as u16, &choices.data(7)),
    }
}

fn counted(records: &[Vec<u8>]) -> (u32, Vec<u8>) {
    (records.len() as u32, records.concat())
}

/// A file of layout 2 in the compression with this number.
pub(crate) fn layout_2(choices: &mut Choices<'_>, method: usize, oddity: Oddity) -> Vec<u8> {
    let mut blocks = Vec::new();
    for _ in 0..1 + choices.below(3) {
        let mut records = Vec::new();
        for _ in 0..1 + choices.below(6) {
            records.push(match choices.below(4) {
                3 => other_record(choices, oddity, 2),
                _ => any_flow_2(choices, oddity),
            });
        }
        blocks.push(counted(&records));
    }
    let mut file = layout_2_of(&blocks, method);
    if oddity == Oddity::Any {
        match choices.below(12) {
            9 => {
                // No appendix, and the header says so.
                let end = u64::from_le_bytes(file[24..32].try_into().unwrap());
                file.truncate(end as usize);
                file[18] = 0;
                if choices.below(2) == 0 {
                    file[24..32].fill(0);
                }
            }
            10 => {
                // A second appendix block.
                let end = u64::from_le_bytes(file[24..32].try_into().unwrap());
                let again = file[end as usize..].to_vec();
                file.extend_from_slice(&again);
                file[18] = 2;
            }
            11 => return layout_2_of(&[], method), // no data block
            _ => {}
        }
    }
    file
}

/// A map record of layout 1, with its fill as chosen.
pub(crate) fn map_1(id: u16, extensions: &[u16], fill: u8) -> Vec<u8> {
    let sum: u16 = extensions.iter().map(|&id| u16::from(EXTENSIONS[usize::from(id) - 4])).sum();
    let mut body = id.to_le_bytes().to_vec();
    body.extend_from_slice(&sum.to_le_bytes());
    for id in extensions.iter().chain(&[0]) {
        body.extend_from_slice(&id.to_le_bytes());
    }
    body.resize(body.len().next_multiple_of(4), fill);
    record(2, &body)
}

/// A flow record of layout 1 for map `map`, whose extensions come to `extensions` bytes.
pub(crate) fn flow_1(
    choices: &mut Choices<'_>,
    map: u16,
    extensions: &[u8],
    oddity: Oddity,
) -> Vec<u8> {
    // IPv6, wide packets, wide bytes; other flags are for extensions and not looked at.
    let flags = choices.byte() & if oddity == Oddity::Agreed { 7 } else { 0xff };
    let mut body = vec![flags, 0];
    body.extend_from_slice(&map.to_le_bytes());
    body.extend_from_slice(&[choices.byte(), 1, choices.byte(), 2]);
    body.extend_from_slice(&1_700_000_000_u32.to_le_bytes());
    body.extend_from_slice(&(1_700_000_000 + choices.below(600) as u32).to_le_bytes());
    let [protocol, tcp_flags] = protocol(choices);
    body.extend_from_slice(&[0, tcp_flags, protocol, 0]);
    body.extend_from_slice(&[choices.byte(), choices.byte(), choices.byte(), choices.byte()]);
    body.extend_from_slice(&[choices.byte(), 0, 0, 0]);
    if flags & 1 == 0 {
        body.extend_from_slice(&[1, choices.byte(), 0, 10, 2, choices.byte(), 0, 10]);
    } else {
        let mut addresses = [0; 32];
        (addresses[4], addresses[6], addresses[20]) = (0xb8, 1, 0xb8);
        (addresses[8], addresses[24]) = (choices.byte(), choices.byte());
        body.extend_from_slice(&addresses);
    }
    for wide in [2, 4] {
        let count = 1 + choices.below(65536) as u64;
        let width = if flags & wide == 0 { 4 } else { 8 };
        body.extend_from_slice(&count.to_le_bytes()[..width]);
    }
    body.extend_from_slice(extensions);
    record(10, &body)
}

/// The extensions that a map lists, as a flow's bytes.
fn extensions_1(choices: &mut Choices<'_>, ids: &[u16], oddity: Oddity) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &id in ids {
        let size = usize::from(EXTENSIONS[usize::from(id) - 4]);
        let mut field = choices.data(size);
        if id == 27 && oddity == Oddity::Agreed {
            field = (1_700_000_000_000 + choices.below(65536) as u64).to_le_bytes().to_vec();
        }
        if id == 42 || id == 43 {
            match choices.below(if oddity == Oddity::Agreed { 2 } else { 4 }) {
                0 => field.fill(0),
                1 => {
                    field.fill(0);
                    field[..3].copy_from_slice(b"old");
                }
                2 => field.fill(b'n'), // no NUL
                _ => {}
            }
        }
        bytes.extend_from_slice(&field);
    }
    bytes
}

/// A file of layout 1 in the compression with this number.
pub(crate) fn layout_1(choices: &mut Choices<'_>, method: usize, oddity: Oddity) -> Vec<u8> {
    let agreed = oddity == Oddity::Agreed;
    let mut maps: Vec<(u16, Vec<u16>)> = Vec::new();
    let mut blocks = Vec::new();
    for _ in 0..1 + choices.below(3) {
        let mut records = Vec::new();
        for _ in 0..1 + choices.below(8) {
            let kind = if maps.is_empty() { 0 } else { choices.below(8) };
            match kind {
                0 => {
                    // Few ids, so that maps are defined again, by the same list or another.
                    let id = match choices.below(6) {
                        5 if !agreed => u16::MAX - choices.below(2) as u16,
                        id => id as u16,
                    };
                    let length = match choices.below(12) {
                        11 if !agreed => LONGEST_MAP - choices.below(2),
                        length => 1 + length % 6,
                    };
                    let mut ids = Vec::new();
                    for _ in 0..length {
                        let extension = 4 + choices.below(EXTENSIONS.len()) as u16;
                        if !agreed || !ids.contains(&extension) {
                            ids.push(extension);
                        }
                    }
                    if agreed {
                        // nfdump takes a name of one kind only, and reserved ids for nothing.
                        ids.retain(|&id| EXTENSIONS[usize::from(id) - 4] > 0);
                        if ids.contains(&43) {
                            ids.retain(|&id| id != 42);
                        }
                        if ids.is_empty() {
                            ids.push(4);
                        }
                    }
                    let fill = if agreed { 0 } else { choices.byte() };
                    records.push(map_1(id, &ids, fill));
                    maps.retain(|(other, _)| *other != id);
                    maps.push((id, ids));
                }
                1 => records.push(other_record(choices, oddity, 1)),
                _ => {
                    let (id, ids) = maps[choices.below(maps.len())].clone();
                    let mut extensions = extensions_1(choices, &ids, oddity);
                    if !agreed && choices.rarely(10) {
                        // Bytes that no map speaks of.
                        extensions.extend(vec![7; 1 + choices.below(9)]);
                    }
                    if !agreed && choices.rarely(40) {
                        let length = 65535 - 96 - choices.below(150);
                        extensions.resize(length, 9);
                    }
                    records.push(flow_1(choices, id, &extensions, oddity));
                }
            }
        }
        blocks.push(counted(&records));
    }
    let mut file = layout_1_of(&blocks, method);
    if !agreed && choices.rarely(8) {
        file[4] |= 2; // anonymised
    }
    file
}
