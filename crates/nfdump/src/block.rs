//! A block is a 12-byte header and a payload of records, which is compressed as the file is.
//!
//! Blocks are the unit of reading: one is held at a time, and neither what is on disk nor what
//! comes out of it is more than [`MOST`]. nfdump gives up on a file with a larger one.

use std::io::{self, Read};

use nom::{
    IResult, Parser,
    number::complete::{le_u16, le_u32},
};

use crate::{compress::Compression, error::ErrorKind, file::Layout};

/// The most a block may be, on disk and decompressed: nfdump's buffer.
pub(crate) const MOST: usize = 5 * 1024 * 1024;

/// The most that is put into a block here, decompressed.
///
/// nfdump 1.6 and 1.7.1 flush at 1 MiB, later ones at 2; nfdump 1.8 drops records when it converts
/// a much larger block (one of 5 MiB lost 7622 of 32000).
pub(crate) const FLUSH: usize = 1024 * 1024;

/// The block's flag "not compressed".
const NOT_COMPRESSED: u16 = 1;

/// The header in front of every payload.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    pub(crate) records: u32,
    /// Payload bytes on disk.
    pub(crate) size: u32,
    pub(crate) block_type: u16,
    pub(crate) flags: u16,
}

impl BlockHeader {
    pub(crate) const SIZE: usize = 12;

    fn nom(input: &[u8]) -> IResult<&[u8], Self, ()> {
        let (rest, (records, size, block_type, flags)) =
            (le_u32, le_u32, le_u16, le_u16).parse(input)?;
        Ok((rest, Self { records, size, block_type, flags }))
    }

    pub(crate) fn parse(bytes: &[u8; Self::SIZE]) -> Self {
        // 12 bytes are all it takes, and each value is allowed; `check` judges them.
        Self::nom(bytes).map(|(_, header)| header).unwrap_or_default()
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[0..4].copy_from_slice(&self.records.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.size.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.block_type.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.flags.to_le_bytes());
        bytes
    }

    /// Whether a block of this header can be read in a file of this layout and compression.
    pub(crate) fn check(&self, layout: Layout, compression: Compression) -> Result<(), ErrorKind> {
        if self.block_type != layout.block_type() {
            return Err(ErrorKind::BlockType(self.block_type));
        }
        if self.records == 0 || self.size == 0 {
            return Err(ErrorKind::EmptyBlock { records: self.records, size: self.size });
        }
        if self.size as usize > MOST {
            return Err(ErrorKind::BlockTooLarge(self.size));
        }
        // nfdump 1.7 ignores the flag, decompresses what is not compressed and loses the block
        // without a word; 1.8 reads it. Carrying it through would make flows appear or vanish.
        // In layout 1 the flags mean something else and only the file's count.
        if layout == Layout::Two
            && compression != Compression::None
            && self.flags & NOT_COMPRESSED != 0
        {
            return Err(ErrorKind::RawBlock(compression));
        }
        Ok(())
    }
}

/// A block as it is on disk, its header in front, in a buffer that serves one block after another.
#[derive(Debug, Default)]
pub(crate) struct RawBlock {
    /// As long as the longest block that was in it.
    bytes: Vec<u8>,
    length: usize,
}

impl RawBlock {
    /// The first read of a payload, unless the buffer is longer already: a size that lies costs no more.
    const FIRST: usize = 64 * 1024;

    pub(crate) fn header(&self) -> BlockHeader {
        self.bytes.first_chunk().map(BlockHeader::parse).unwrap_or_default()
    }

    pub(crate) fn payload(&self) -> &[u8] {
        self.whole().get(BlockHeader::SIZE..).unwrap_or_default()
    }

    pub(crate) fn whole(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Starts anew.
    pub(crate) fn clear(&mut self) {
        self.length = 0;
    }

    /// Appends what `input` gives until there are `wanted` bytes, or it ends. The buffer grows only as
    /// they arrive.
    pub(crate) fn fill(&mut self, input: &mut impl Read, wanted: usize) -> io::Result<()> {
        while self.length < wanted {
            if self.length == self.bytes.len() {
                let more = self.length.max(Self::FIRST);
                self.bytes.resize(wanted.min(self.length + more), 0);
            }
            let end = wanted.min(self.bytes.len());
            match input.read(&mut self.bytes[self.length..end]) {
                Ok(0) => break,
                Ok(more) => self.length += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: [u8; 12] = [160, 0, 0, 0, 0, 100, 0, 0, 3, 0, 0, 0];
    const HEADER: BlockHeader = BlockHeader { records: 160, size: 25600, block_type: 3, flags: 0 };

    #[test]
    fn a_block_header_reads_and_writes() {
        assert_eq!(BlockHeader::parse(&BYTES), HEADER);
        assert_eq!(HEADER.to_bytes(), BYTES);
    }

    #[test]
    fn a_buffer_grows_as_bytes_arrive_and_serves_again() {
        let mut block = RawBlock::default();
        let claimed = MOST;
        block.fill(&mut &[7; 1000][..], claimed).unwrap();
        assert_eq!((block.whole(), block.bytes.len()), (&[7; 1000][..], RawBlock::FIRST));
        let long: Vec<u8> = (0..300_000).map(|at| at as u8).collect();
        block.clear();
        block.fill(&mut &long[..], long.len()).unwrap();
        assert_eq!(block.whole(), long);
        block.clear();
        block.fill(&mut &BYTES[..], 12).unwrap();
        assert_eq!((block.header(), block.whole(), block.payload()), (HEADER, &BYTES[..], &[][..]));
    }

    #[test]
    fn each_bad_block_header_is_named() {
        let check = |header: BlockHeader, compression| {
            header.check(Layout::Two, compression).map_err(|kind| kind.to_string())
        };
        assert_eq!(check(HEADER, Compression::Lz4), Ok(()));
        for (header, wanted) in [
            (BlockHeader { block_type: 4, ..HEADER }, "block type 4 is not supported"),
            (BlockHeader { records: 0, ..HEADER }, "empty block (0 records, 25600 bytes)"),
            (BlockHeader { size: 0, ..HEADER }, "empty block (160 records, 0 bytes)"),
            (
                BlockHeader { size: 5_242_881, ..HEADER },
                "block of 5242881 bytes on disk; nfdump reads at most 5 MiB",
            ),
            (
                BlockHeader { flags: 1, ..HEADER },
                "block marked as not compressed in a file compressed with LZ4",
            ),
        ] {
            assert_eq!(check(header, Compression::Lz4), Err(wanted.to_owned()));
        }
        assert_eq!(check(BlockHeader { flags: 1, ..HEADER }, Compression::None), Ok(()));
        assert_eq!(check(BlockHeader { size: 5_242_880, ..HEADER }, Compression::None), Ok(()));
    }
}
