//! Captures to measure with: a made-up one, the same each time - short flows of TCP and UDP, of which some
//! send datagrams in fragments - and one of real packets, repeated.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};
use std::path::Path;

use procflow_capture::CaptureFile;
use procflow_core::packet::{Batch, LinkType};

/// So many seconds pass from the first flow's begin to the last one's.
const SPAN: u64 = 600;
const MICROS: u64 = 1_000_000;

/// Numbers that look like chance, the same ones each time (Knuth, MMIX).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 24) % bound
    }
}

/// A flow that goes on.
struct Flow {
    dice: Dice,
    tcp: bool,
    ends: [([u8; 4], u16); 2],
    /// The next sequence number of each end.
    sequence: [u32; 2],
    sent: u32,
    packets: u32,
}

/// How many packets and bytes were written.
pub(crate) struct Written {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

/// Writes a capture of so many flows.
pub(crate) fn write(flows: u32, output: &mut impl Write) -> io::Result<Written> {
    let mut dice = Dice(1);
    let mut going: Vec<Flow> = Vec::new();
    let mut next = BinaryHeap::new();
    for number in 0..flows {
        next.push(Reverse((dice.below(SPAN * MICROS), number)));
        going.push(Flow::new(number));
    }
    header(output)?;
    let mut written = Written { packets: 0, bytes: 24 };
    let mut identification = 0;
    while let Some(Reverse((time, number))) = next.pop() {
        let flow = &mut going[number as usize];
        for frame in flow.step(&mut identification) {
            written.add(EPOCH * MICROS + time, &frame, frame.len() as u32, output)?;
        }
        if flow.sent < flow.packets {
            let after = 50 + flow.dice.below(200_000);
            next.push(Reverse((time + after, number)));
        }
    }
    Ok(written)
}

const EPOCH: u64 = 1_700_000_000;

fn header(output: &mut impl Write) -> io::Result<()> {
    output.write_all(&[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
    output.write_all(&[0xff, 0xff, 4, 0, 1, 0, 0, 0])
}

impl Written {
    /// Adds a frame, captured so many microseconds after 1970.
    fn add(
        &mut self,
        time: u64,
        frame: &[u8],
        wire: u32,
        output: &mut impl Write,
    ) -> io::Result<()> {
        let captured = frame.len() as u32;
        for field in [(time / MICROS) as u32, (time % MICROS) as u32, captured, wire] {
            output.write_all(&field.to_le_bytes())?;
        }
        output.write_all(frame)?;
        self.packets += 1;
        self.bytes += 16 + u64::from(captured);
        Ok(())
    }
}

/// Writes a capture of so many flows that go on at the same time, of so many packets each.
pub(crate) fn write_at_once(
    flows: u32,
    packets: u32,
    output: &mut impl Write,
) -> io::Result<Written> {
    header(output)?;
    let mut written = Written { packets: 0, bytes: 24 };
    let mut all: Vec<Flow> = (0..flows).map(Flow::new).collect();
    for (number, flow) in all.iter_mut().enumerate() {
        // Hosts enough that none has many flows.
        flow.ends[0].0 = [10, (number >> 16) as u8, (number >> 8) as u8, number as u8];
    }
    let mut time = EPOCH * MICROS;
    for _ in 0..packets {
        for flow in &mut all {
            let payload = flow.dice.below(400) as usize;
            let frame = flow.tcp_frame(0, 0x18, payload, 0);
            written.add(time, &frame, frame.len() as u32, output)?;
            time += 10;
        }
    }
    Ok(written)
}

/// Writes real packets: all Ethernet captures of a folder one after another, again and again at later
/// times, until there are enough. Nothing if there is no such folder.
pub(crate) fn repeat_real(folder: &Path, output: &mut impl Write) -> io::Result<Option<Written>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(None) };
    let mut paths: Vec<_> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    let mut frames = Vec::new();
    let mut batch = Batch::default();
    for path in paths {
        let mut file = CaptureFile::open(&path)?;
        let mut first = None;
        let mut last = 0;
        let begin =
            frames.last().map_or(0, |(time, ..): &(u64, Vec<u8>, u32)| time + 1000 * MICROS);
        while file.next_batch(&mut batch).is_ok() && !batch.is_empty() {
            for frame in batch.frames().iter().filter(|frame| frame.link_type == LinkType::ETHERNET)
            {
                let micros = frame.time.0.max(0) as u64 / 1000;
                // In each capture as they were, an hour at most.
                let since = micros.saturating_sub(*first.get_or_insert(micros)).min(3600 * MICROS);
                last = last.max(since);
                frames.push((begin + last, batch.bytes_of(frame).to_vec(), frame.wire.min(65_535)));
            }
        }
    }
    header(output)?;
    let mut written = Written { packets: 0, bytes: 24 };
    let span = frames.last().map_or(0, |(time, ..)| time + 3600 * MICROS);
    let mut begin = EPOCH * MICROS;
    while !frames.is_empty() && written.packets < 1_000_000 {
        for (time, frame, wire) in &frames {
            written.add(begin + time, frame, (*wire).max(frame.len() as u32), output)?;
        }
        begin += span;
    }
    Ok(Some(written))
}

impl Flow {
    fn new(number: u32) -> Self {
        let mut dice = Dice(u64::from(number) << 8 | 7);
        let mut address = |net: u8| [10, net, dice.below(16) as u8, 1 + dice.below(250) as u8];
        let ends = [(address(0), 1024 + (number % 60_000) as u16), (address(1), 443)];
        let tcp = dice.below(10) < 7;
        let packets = 6 + dice.below(18) as u32;
        let sequence = [dice.below(1 << 32) as u32, dice.below(1 << 32) as u32];
        Self { dice, tcp, ends, sequence, sent: 0, packets }
    }

    /// The frames of the next packet.
    fn step(&mut self, identification: &mut u16) -> Vec<Vec<u8>> {
        let number = self.sent;
        self.sent += 1;
        *identification = identification.wrapping_add(1);
        if self.tcp {
            // Handshake, data both ways, and an orderly end.
            let left = self.packets - number;
            let (from, flags, payload) = match (number, left) {
                (0, _) => (0, 0x02, 0),
                (1, _) => (1, 0x12, 0),
                (2, _) => (0, 0x10, 0),
                (_, 3) => (0, 0x11, 0),
                (_, 2) => (1, 0x11, 0),
                (_, 1) => (0, 0x10, 0),
                (3, _) => (0, 0x18, 80 + self.dice.below(400)),
                _ => match self.dice.below(3) {
                    0 => (0, 0x10, 0),
                    _ => (1, 0x18, 100 + self.dice.below(1360)),
                },
            };
            return vec![self.tcp_frame(from, flags, payload as usize, *identification)];
        }
        let from = (number % 2) as usize;
        let fragments = self.dice.below(14) == 0;
        let payload = if fragments { 3000 } else { 40 + self.dice.below(600) as usize };
        let mut datagram = Vec::with_capacity(8 + payload);
        datagram.extend_from_slice(&self.ends[from].1.to_be_bytes());
        datagram.extend_from_slice(&self.ends[1 - from].1.to_be_bytes());
        datagram.extend_from_slice(&((8 + payload) as u16).to_be_bytes());
        datagram.extend_from_slice(&[0, 0]);
        datagram.resize(8 + payload, b'u');
        let pieces: Vec<&[u8]> = datagram.chunks(1480).collect();
        let last = pieces.len() - 1;
        let frame = |(index, piece): (usize, &&[u8])| {
            let more = u16::from(index < last) << 13;
            self.ip(from, 17, *identification, more | (index * 185) as u16, piece)
        };
        pieces.iter().enumerate().map(frame).collect()
    }

    fn tcp_frame(
        &mut self,
        from: usize,
        flags: u8,
        payload: usize,
        identification: u16,
    ) -> Vec<u8> {
        let mut segment = Vec::with_capacity(20 + payload);
        segment.extend_from_slice(&self.ends[from].1.to_be_bytes());
        segment.extend_from_slice(&self.ends[1 - from].1.to_be_bytes());
        segment.extend_from_slice(&self.sequence[from].to_be_bytes());
        segment.extend_from_slice(&self.sequence[1 - from].to_be_bytes());
        segment.extend_from_slice(&[0x50, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
        segment.resize(20 + payload, b't');
        let controls = u32::from(flags & 0x03 != 0);
        self.sequence[from] = self.sequence[from].wrapping_add(payload as u32 + controls);
        self.ip(from, 6, identification, 0, &segment)
    }

    fn ip(
        &self,
        from: usize,
        protocol: u8,
        identification: u16,
        fragment: u16,
        inside: &[u8],
    ) -> Vec<u8> {
        let mut frame = Vec::with_capacity(34 + inside.len());
        let side = |end: usize| [2, 0, 0, 0, 0, 1 + end as u8];
        frame.extend_from_slice(&side(1 - from));
        frame.extend_from_slice(&side(from));
        frame.extend_from_slice(&[8, 0, 0x45, 0]);
        frame.extend_from_slice(&((20 + inside.len()) as u16).to_be_bytes());
        frame.extend_from_slice(&identification.to_be_bytes());
        frame.extend_from_slice(&fragment.to_be_bytes());
        frame.extend_from_slice(&[64, protocol, 0, 0]);
        frame.extend_from_slice(&self.ends[from].0);
        frame.extend_from_slice(&self.ends[1 - from].0);
        frame.extend_from_slice(inside);
        frame
    }
}
