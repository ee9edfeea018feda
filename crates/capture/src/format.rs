//! The formats of capture files: pcap (tcpdump.org, "libpcap File Format") and pcapng (IETF
//! draft-ietf-opsawg-pcapng), in either byte order, with any resolution of time.
//!
//! Bytes in, places of frames out. Only what flows need is read - who captured, when, how much - and
//! options that are wrong cost nothing but themselves: of the libraries that read these formats one
//! refuses captures that libpcap reads (a public one with an interface name of the wrong length), others
//! hold a file in memory or know one interface only.

use procflow_core::{
    Timestamp,
    packet::{Batch, LinkType},
};

use crate::file::Reason;

/// No frame is longer than this, nor any other block: a claim of more is damage. (libpcap's own limit for
/// most link types is 256 KiB, and 128 MiB for USB, which carries no IP.)
pub(crate) const MOST: usize = 16 << 20;

const NANOS: i128 = 1_000_000_000;

/// No capture is from a later time (the year 2243), so that a timeout can be added.
const LATEST: i128 = i64::MAX as i128 - 600_000_000_000_000_000;

const PCAP_HEADER: usize = 24;

/// How a file is laid out.
#[derive(Debug)]
pub(crate) enum Format {
    Pcap(Pcap),
    PcapNg(PcapNg),
}

#[derive(Debug)]
pub(crate) struct Pcap {
    order: ByteOrder,
    /// The header of a record: 16 bytes, or 24 in an old variant.
    record: usize,
    nanoseconds: bool,
    link_type: LinkType,
}

#[derive(Debug, Default)]
pub(crate) struct PcapNg {
    order: ByteOrder,
    interfaces: Vec<Interface>,
}

#[derive(Debug)]
struct Interface {
    link_type: LinkType,
    snap_length: u32,
    /// Ticks in a second, if they can be counted in 64 bits.
    resolution: Option<u64>,
    /// Seconds to be added.
    offset: i64,
}

/// What was done with the beginning of some bytes.
pub(crate) enum Step {
    /// So many bytes were a block.
    Done(usize),
    /// It takes so many bytes, more than there are.
    Wants(usize),
}

/// Numbers in the byte order of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ByteOrder {
    big_endian: bool,
}

impl ByteOrder {
    /// The number at this place; 0 beyond the end.
    #[inline]
    fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let field =
            bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
        if self.big_endian { u32::from_be_bytes(field) } else { u32::from_le_bytes(field) }
    }

    /// The number at this place; 0 beyond the end.
    fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let field =
            bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
        if self.big_endian { u16::from_be_bytes(field) } else { u16::from_le_bytes(field) }
    }
}

impl Format {
    /// The format of a file that begins with these bytes, and the length of its header; `None` if they are
    /// too few to say.
    pub(crate) fn of(start: &[u8]) -> Result<Option<(Self, usize)>, Reason> {
        let Some(magic) = start.first_chunk::<4>() else { return Ok(None) };
        if *magic == [0x0a, 0x0d, 0x0d, 0x0a] {
            return Ok(Some((Self::PcapNg(PcapNg::default()), 0)));
        }
        // Microseconds, nanoseconds, and a variant of the first ("modified", by A. Kuznetzov).
        let (big_endian, nanoseconds, record) = match u32::from_le_bytes(*magic) {
            0xa1b2_c3d4 => (false, false, 16),
            0xa1b2_3c4d => (false, true, 16),
            0xa1b2_cd34 => (false, false, 24),
            0xd4c3_b2a1 => (true, false, 16),
            0x4d3c_b2a1 => (true, true, 16),
            0x34cd_b2a1 => (true, false, 24),
            _ => return Err(Reason::NotACapture(*magic)),
        };
        if start.len() < PCAP_HEADER {
            return Ok(None);
        }
        let order = ByteOrder { big_endian };
        // The upper bits say whether frames end with a check sequence.
        let link_type = LinkType(order.u32(start, 20) & 0xffff);
        Ok(Some((Self::Pcap(Pcap { order, record, nanoseconds, link_type }), PCAP_HEADER)))
    }

    /// Takes the block at the beginning of `batch`'s bytes from `at` on into the batch.
    #[inline]
    pub(crate) fn step(&mut self, batch: &mut Batch, at: usize) -> Result<Step, Reason> {
        match self {
            Self::Pcap(pcap) => pcap.step(batch, at),
            Self::PcapNg(pcapng) => pcapng.step(batch, at),
        }
    }
}

impl Pcap {
    /// Four numbers, and the frame.
    #[inline]
    fn step(&self, batch: &mut Batch, at: usize) -> Result<Step, Reason> {
        let bytes = &batch.filled()[at..];
        let Some(head) = bytes.first_chunk::<16>() else { return Ok(Step::Wants(self.record)) };
        let field = |at| self.order.u32(head, at);
        let (seconds, fraction, captured, wire) = (field(0), field(4), field(8), field(12));
        let length = self.record + captured as usize;
        if captured as usize > MOST {
            return Err(Reason::TooLong { what: "a frame", length: u64::from(captured) });
        }
        if bytes.len() < length {
            return Ok(Step::Wants(length));
        }
        let fraction = i64::from(fraction) * if self.nanoseconds { 1 } else { 1000 };
        let time = Timestamp(i64::from(seconds) * NANOS as i64 + fraction);
        batch.refer(time, wire, self.link_type, at + self.record, captured as usize);
        Ok(Step::Done(length))
    }
}

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
/// What Enhanced Packets were before.
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

impl PcapNg {
    fn step(&mut self, batch: &mut Batch, at: usize) -> Result<Step, Reason> {
        let all = &batch.filled()[at..];
        if all.len() < 12 {
            return Ok(Step::Wants(12));
        }
        if self.order.u32(all, 0) == SECTION_HEADER {
            // A new section has its own byte order, and its own interfaces.
            self.order.big_endian = match all[8..12] {
                [0x1a, 0x2b, 0x3c, 0x4d] => true,
                [0x4d, 0x3c, 0x2b, 0x1a] => false,
                _ => return Err(Reason::Block("section header")),
            };
            self.interfaces.clear();
        }
        let order = self.order;
        let (kind, length) = (order.u32(all, 0), order.u32(all, 4) as usize);
        if length > MOST {
            return Err(Reason::TooLong { what: "a block", length: length as u64 });
        }
        if length < 12 || !length.is_multiple_of(4) {
            return Err(Reason::BlockLength(length as u64));
        }
        let Some(block) = all.get(..length) else { return Ok(Step::Wants(length)) };
        if order.u32(block, length - 4) as usize != length {
            return Err(Reason::BlockEnd {
                begin: length as u64,
                end: order.u32(block, length - 4).into(),
            });
        }
        let body = &block[8..length - 4];
        match kind {
            INTERFACE_DESCRIPTION if body.len() >= 8 => {
                self.interfaces.push(Interface::of(order, body));
            }
            INTERFACE_DESCRIPTION => return Err(Reason::Block("interface description")),
            ENHANCED_PACKET | PACKET => {
                let number = match kind {
                    PACKET => u32::from(order.u16(body, 0)),
                    _ => order.u32(body, 0),
                };
                let interface = self.interfaces.get(number as usize);
                let interface = interface.ok_or(Reason::NoInterface(number))?;
                let ticks = u64::from(order.u32(body, 4)) << 32 | u64::from(order.u32(body, 8));
                let (captured, wire) = (order.u32(body, 12) as usize, order.u32(body, 16));
                if body.len() < 20 || captured > body.len() - 20 {
                    return Err(Reason::Block("packet"));
                }
                let time = interface.time(ticks)?;
                batch.refer(time, wire, interface.link_type, at + 28, captured);
            }
            SIMPLE_PACKET => {
                // Of the first interface, and without a time.
                let interface = self.interfaces.first().ok_or(Reason::NoInterface(0))?;
                let wire = order.u32(body, 0);
                let room = body.len().checked_sub(4).ok_or(Reason::Block("simple packet"))?;
                let most = match interface.snap_length {
                    0 => usize::MAX,
                    some => some as usize,
                };
                let captured = room.min(most).min(wire as usize);
                batch.refer(Timestamp(0), wire, interface.link_type, at + 12, captured);
            }
            // Names, statistics, secrets: no frames.
            _ => {}
        }
        Ok(Step::Done(length))
    }
}

/// Options of an interface.
const END_OF_OPTIONS: u16 = 0;
const TIME_RESOLUTION: u16 = 9;
const TIME_OFFSET: u16 = 14;

impl Interface {
    /// The interface that a block's body describes. Options that run beyond the block are not there.
    fn of(order: ByteOrder, body: &[u8]) -> Self {
        let mut interface = Self {
            link_type: LinkType(order.u16(body, 0).into()),
            snap_length: order.u32(body, 4),
            resolution: Some(1_000_000),
            offset: 0,
        };
        let mut options = &body[8..];
        while options.len() >= 4 {
            let (code, length) = (order.u16(options, 0), usize::from(order.u16(options, 2)));
            let Some(value) = options.get(4..4 + length) else { break };
            match (code, value) {
                (END_OF_OPTIONS, _) => break,
                // A power of ten, or of two.
                (TIME_RESOLUTION, &[base @ 0..0x80]) => {
                    interface.resolution = 10_u64.checked_pow(base.into());
                }
                (TIME_RESOLUTION, &[base]) => {
                    interface.resolution = 1_u64.checked_shl((base & 0x7f).into());
                }
                (TIME_OFFSET, &[..]) if length == 8 => {
                    let halves = [order.u32(value, 0), order.u32(value, 4)].map(u64::from);
                    let [high, low] =
                        if order.big_endian { halves } else { [halves[1], halves[0]] };
                    interface.offset = (high << 32 | low) as i64;
                }
                _ => {}
            }
            options = options.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
        }
        interface
    }

    fn time(&self, ticks: u64) -> Result<Timestamp, Reason> {
        let resolution = self.resolution.filter(|&resolution| resolution > 0);
        let resolution = i128::from(resolution.ok_or(Reason::Resolution)?);
        let nanos = i128::from(ticks) * NANOS / resolution + i128::from(self.offset) * NANOS;
        Ok(Timestamp(nanos.clamp(-LATEST, LATEST) as i64))
    }
}
