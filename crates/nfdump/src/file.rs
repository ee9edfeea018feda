//! A file header says how the rest of the file is laid out, compressed and counted.
//!
//! Layout 1 (nfdump 1.6) is 140 bytes of header and 136 of statistics, then blocks to the end of
//! the file. Layout 2 (nfdump 1.7) is 40 bytes of header, data blocks, and an appendix block with
//! the ident and the statistics, at an offset the header names. Neither has a checksum.
//!
//! The bytes are kept as found; only the counts and the appendix's offset are ever rewritten.

use nom::{
    IResult, Parser,
    bytes::complete::take,
    number::complete::{le_i64, le_u8, le_u16, le_u32, le_u64},
};

use crate::{
    compress::Compression,
    error::{Error, ErrorKind},
    flow::name_in,
    stat::Stat,
};

/// What the first two bytes say in a file of a little-endian machine.
pub(crate) const MAGIC: [u8; 2] = [0x0c, 0xa5];

/// Magic and layout: what is read before it is known how long the header is.
pub(crate) const START: usize = 4;

/// Layout 1's flags.
const LZO: u32 = 1;
const ANONYMISED: u32 = 2;
const BZ2: u32 = 8;
const LZ4: u32 = 16;

/// Where layout 1 has its stat record.
const STAT_AT: usize = 140;

/// How a file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// nfdump 1.6.
    One,
    /// nfdump 1.7.
    Two,
}

impl Layout {
    /// The layout that a file starting with these bytes has.
    pub(crate) fn of(start: [u8; START]) -> Result<Self, Error> {
        let magic = [start[0], start[1]];
        if magic == [MAGIC[1], MAGIC[0]] {
            return Err(Error::at(0, ErrorKind::BigEndian));
        }
        if magic != MAGIC {
            return Err(Error::at(0, ErrorKind::NotNfcapd(magic)));
        }
        match u16::from_le_bytes([start[2], start[3]]) {
            1 => Ok(Self::One),
            2 => Ok(Self::Two),
            3 => Err(Error::at(2, ErrorKind::Layout3)),
            other => Err(Error::at(2, ErrorKind::UnknownLayout(other))),
        }
    }

    /// The size of everything in front of the first block.
    pub(crate) fn header_size(self) -> usize {
        match self {
            Self::One => STAT_AT + Stat::SIZE_1,
            Self::Two => 40,
        }
    }

    /// The type of the blocks that hold records.
    pub(crate) fn block_type(self) -> u16 {
        match self {
            Self::One => 2,
            Self::Two => 3,
        }
    }
}

/// The facts in front of the first block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub(crate) bytes: Vec<u8>,
    layout: Layout,
    compression: Compression,
    blocks: u32,
    nfdump_version: Option<u32>,
    created: Option<i64>,
    anonymised: bool,
    pub(crate) appendix_blocks: u16,
    pub(crate) appendix_offset: u64,
}

impl Header {
    /// Reads a header of the layout's size, magic included.
    pub(crate) fn parse(layout: Layout, bytes: Vec<u8>) -> Result<Self, Error> {
        let parsed = match layout {
            Layout::One => layout_1(&bytes),
            Layout::Two => layout_2(&bytes),
        };
        let (_, raw) = parsed.map_err(|_| {
            let (wanted, had) = (layout.header_size(), bytes.len());
            Error::at(0, ErrorKind::Truncated { what: "the file header", wanted, had })
        })?;
        if raw.encryption != 0 {
            return Err(Error::at(17, ErrorKind::Encrypted(raw.encryption)));
        }
        let compression = match (layout, raw.compression) {
            (_, 0) => Compression::None,
            (Layout::One, LZO) | (Layout::Two, 1) => Compression::Lzo,
            (Layout::One, BZ2) | (Layout::Two, 2) => Compression::Bz2,
            (Layout::One, LZ4) | (Layout::Two, 3) => Compression::Lz4,
            (Layout::Two, 4) => Compression::Zstd,
            (Layout::One, other) => return Err(Error::at(4, ErrorKind::UnknownCompression(other))),
            (Layout::Two, other) => {
                return Err(Error::at(16, ErrorKind::UnknownCompression(other)));
            }
        };
        Ok(Self {
            layout,
            compression,
            blocks: raw.blocks,
            nfdump_version: raw.version,
            created: raw.created,
            anonymised: raw.anonymised,
            appendix_blocks: raw.appendix_blocks,
            appendix_offset: raw.appendix_offset,
            bytes,
        })
    }

    /// The header with other counts; `appendix_offset` is layout 2's.
    pub(crate) fn with_counts(&self, blocks: u32, appendix: u16, appendix_offset: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        match self.layout {
            Layout::One => bytes[8..12].copy_from_slice(&blocks.to_le_bytes()),
            Layout::Two => {
                bytes[18..20].copy_from_slice(&appendix.to_le_bytes());
                bytes[24..32].copy_from_slice(&appendix_offset.to_le_bytes());
                bytes[36..40].copy_from_slice(&blocks.to_le_bytes());
            }
        }
        bytes
    }

    /// The header of a layout-2 file that was created at another time, in unix seconds.
    pub(crate) fn with_created(&self, created: i64) -> Result<Self, Error> {
        let mut bytes = self.bytes.clone();
        if self.layout == Layout::Two {
            bytes[8..16].copy_from_slice(&created.to_le_bytes());
        }
        Self::parse(self.layout, bytes)
    }

    /// The header of a file that the same collector has begun: nothing is known of it yet but its layout
    /// and compression.
    pub(crate) fn begun(&self) -> Result<Self, Error> {
        let mut bytes = self.with_counts(0, 0, 0);
        match self.layout {
            Layout::One => bytes[12..].fill(0),
            Layout::Two => bytes[8..16].fill(0),
        }
        Self::parse(self.layout, bytes)
    }

    /// The file's layout.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// How every block is compressed.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// How many data blocks the header counts.
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// How many appendix blocks the header counts: 1 in finished files of layout 2, 0 otherwise.
    pub fn appendix_blocks(&self) -> u16 {
        self.appendix_blocks
    }

    /// Where the header puts the appendix, in bytes from the begin of the file; 0 without one.
    pub fn appendix_offset(&self) -> u64 {
        self.appendix_offset
    }

    /// The nfdump that wrote the file, `0x01070100` for 1.7.1; layout 1 does not say.
    pub fn nfdump_version(&self) -> Option<u32> {
        self.nfdump_version
    }

    /// When the file was created, in unix seconds; layout 1 does not say.
    pub fn created(&self) -> Option<i64> {
        self.created
    }

    /// The program that created the file, by nfdump's numbers
    /// ([`creator_name`](crate::creator_name)); 0 when it does not say, as nfdump before 1.7.2.
    /// Layout 1 never says.
    pub fn creator(&self) -> Option<u32> {
        match self.layout {
            Layout::One => None,
            Layout::Two => {
                let field = self.bytes.get(20..)?.first_chunk()?;
                Some(u32::from_le_bytes(*field))
            }
        }
    }

    /// Whether the whole file is marked as anonymised: layout 1 only, layout 2 says so per flow.
    pub fn anonymised(&self) -> bool {
        self.anonymised
    }

    /// Whether a collector is still writing the file. Layout 1 cannot be told.
    pub fn in_progress(&self) -> bool {
        self.layout == Layout::Two
            && self.blocks == 0
            && self.appendix_blocks == 0
            && self.appendix_offset == 0
    }

    /// The stat record of a layout-1 file; layout 2 has it in the appendix.
    pub(crate) fn stat(&self) -> Option<Stat> {
        match self.layout {
            Layout::One => Stat::parse(Layout::One, self.bytes.get(STAT_AT..)?),
            Layout::Two => None,
        }
    }

    /// The header with another stat record, where it has one.
    pub(crate) fn with_stat(mut self, stat: Stat) -> Self {
        if self.layout == Layout::One
            && let Some(field) = self.bytes.get_mut(STAT_AT..)
        {
            field.copy_from_slice(&stat.to_bytes(Layout::One));
        }
        self
    }

    /// The ident in a layout-1 header; layout 2 has it in the appendix.
    pub(crate) fn ident(&self) -> Option<&[u8]> {
        match self.layout {
            Layout::One => name_in(&self.bytes[12..140]),
            Layout::Two => None,
        }
    }
}

/// The fields of either layout, before they are judged.
struct Raw {
    version: Option<u32>,
    created: Option<i64>,
    compression: u32,
    anonymised: bool,
    encryption: u8,
    appendix_blocks: u16,
    appendix_offset: u64,
    blocks: u32,
}

fn layout_1(input: &[u8]) -> IResult<&[u8], Raw, ()> {
    let (rest, (_start, flags, blocks, _ident, _stat)) =
        (take(START), le_u32, le_u32, take(128_usize), take(136_usize)).parse(input)?;
    let raw = Raw {
        version: None,
        created: None,
        compression: flags & (LZO | BZ2 | LZ4),
        anonymised: flags & ANONYMISED != 0,
        encryption: 0,
        appendix_blocks: 0,
        appendix_offset: 0,
        blocks,
    };
    Ok((rest, raw))
}

fn layout_2(input: &[u8]) -> IResult<&[u8], Raw, ()> {
    let (rest, (_start, version, created, compression, encryption, appendix_blocks)) =
        (take(START), le_u32, le_i64, le_u8, le_u8, le_u16).parse(input)?;
    let (rest, (_creator, appendix_offset, _block_size, blocks)) =
        (le_u32, le_u64, le_u32, le_u32).parse(rest)?;
    let raw = Raw {
        version: Some(version),
        created: Some(created),
        compression: u32::from(compression),
        anonymised: false,
        encryption,
        appendix_blocks,
        appendix_offset,
        blocks,
    };
    Ok((rest, raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of a file of nfpcapd 1.7.1: one block, appendix at 14132, created 2026-11-21.
    fn bytes() -> Vec<u8> {
        let mut bytes = vec![0x0c, 0xa5, 2, 0, 0, 1, 7, 1];
        bytes.extend_from_slice(&1_795_223_603_i64.to_le_bytes());
        bytes.extend_from_slice(&[3, 0, 1, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&14132_u64.to_le_bytes());
        bytes.extend_from_slice(&[0, 0, 0, 0, 1, 0, 0, 0]);
        bytes
    }

    #[test]
    fn a_layout_2_header_reads_and_writes() {
        let header = Header::parse(Layout::Two, bytes()).unwrap();
        assert_eq!(header.nfdump_version(), Some(0x0107_0100));
        assert_eq!(header.created(), Some(1_795_223_603));
        assert_eq!(header.compression(), Compression::Lz4);
        assert_eq!((header.blocks(), header.appendix_blocks), (1, 1));
        assert_eq!(header.appendix_offset, 14132);
        assert!(!header.in_progress());
        assert_eq!((header.creator(), header.stat()), (Some(0), None));
        assert_eq!(header.with_counts(1, 1, 14132), bytes());
        let begun = Header::parse(Layout::Two, header.with_counts(0, 0, 0)).unwrap();
        assert!(begun.in_progress());
    }

    #[test]
    fn a_layout_1_header_reads_and_writes() {
        let mut bytes = vec![0x0c, 0xa5, 1, 0, 0x0a, 0, 0, 0, 2, 0, 0, 0];
        bytes.extend_from_slice(b"none");
        bytes.resize(276, 0);
        let header = Header::parse(Layout::One, bytes.clone()).unwrap();
        assert_eq!(header.compression(), Compression::Bz2);
        assert!(header.anonymised());
        assert_eq!(header.ident(), Some(&b"none"[..]));
        assert_eq!((header.created(), header.nfdump_version()), (None, None));
        assert!(!header.in_progress());
        assert_eq!(header.with_counts(2, 0, 0), bytes);
        assert_eq!((header.creator(), header.stat()), (None, Some(Stat::default())));
        let stat = Stat { first_ms: 5001, ..Stat::default() };
        let header = header.with_stat(stat);
        assert_eq!((header.stat(), header.bytes.len()), (Some(stat), 276));
        assert_eq!(header.ident(), Some(&b"none"[..]));
        bytes[4] = 0x19;
        let error = Header::parse(Layout::One, bytes).unwrap_err();
        assert_eq!(error.to_string(), "at offset 4: unknown compression 25");
    }

    #[test]
    fn what_is_not_ours_is_refused_by_name() {
        for (start, wanted) in [
            ([0xa5, 0x0c, 0, 2], "an nfcapd file of a big-endian machine; not supported"),
            (*b"PK\x03\x04", "not an nfcapd file (it starts with [50, 4b], not with 0c a5)"),
        ] {
            let error = Layout::of(start).unwrap_err();
            assert_eq!((error.offset(), error.kind().to_string().as_str()), (0, wanted));
        }
        let error = Layout::of([0x0c, 0xa5, 3, 0]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Layout3) && error.offset() == 2);
        let error = Layout::of([0x0c, 0xa5, 4, 0]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::UnknownLayout(4)));
        let mut encrypted = bytes();
        encrypted[17] = 1;
        let error = Header::parse(Layout::Two, encrypted).unwrap_err();
        assert_eq!(error.to_string(), "at offset 17: encrypted (method 1); not supported");
        let mut unknown = bytes();
        unknown[16] = 5;
        let error = Header::parse(Layout::Two, unknown).unwrap_err();
        assert_eq!(error.to_string(), "at offset 16: unknown compression 5");
    }
}
