//! A packer puts records together to data blocks, and these one after another, as they go to disk.

use crate::{
    block::{BlockHeader, FLUSH},
    compress::{Compression, Compressor},
    error::ErrorKind,
    record::frame,
};

/// Blocks that are put together.
pub(crate) struct Packer {
    block_type: u16,
    compression: Compression,
    /// Blocks of records, each with its header in front; that of the last one is not filled in yet.
    plain: Vec<u8>,
    /// Where the last one begins, and how many records there are in it.
    start: usize,
    records: u32,
    blocks: u32,
    compressor: Compressor,
    disk: Vec<u8>,
}

impl Packer {
    pub(crate) fn new(block_type: u16, compression: Compression) -> Self {
        Self {
            block_type,
            compression,
            plain: Vec::new(),
            start: 0,
            records: 0,
            blocks: 0,
            compressor: Compressor::new(compression),
            disk: Vec::new(),
        }
    }

    /// Throws away what is there.
    pub(crate) fn clear(&mut self) {
        self.plain.clear();
        self.disk.clear();
        (self.start, self.records, self.blocks) = (0, 0, 0);
    }

    /// Adds a record of at most `most` bytes, which `append` appends.
    #[inline]
    pub(crate) fn add(&mut self, most: usize, append: impl FnOnce(&mut Vec<u8>)) {
        let length = self.plain.len() - self.start;
        if self.records > 0 && length + most > FLUSH + BlockHeader::SIZE {
            self.end_block();
        }
        if self.records == 0 {
            self.plain.extend_from_slice(&[0; BlockHeader::SIZE]);
        }
        append(&mut self.plain);
        self.records += 1;
    }

    /// Adds a record.
    #[inline]
    pub(crate) fn push(&mut self, record: &[u8]) {
        self.add(record.len(), |plain| plain.extend_from_slice(record));
    }

    /// Adds records that lie one after another and were framed before.
    pub(crate) fn push_all(&mut self, mut records: &[u8]) {
        while let Ok((_, record)) = frame(records) {
            self.push(record);
            records = &records[record.len()..];
        }
    }

    fn end_block(&mut self) {
        if self.records == 0 {
            return;
        }
        let (records, block_type) = (self.records, self.block_type);
        // 1 MiB, or a single record.
        let size = (self.plain.len() - self.start - BlockHeader::SIZE) as u32;
        let header = BlockHeader { records, size, block_type, flags: 0 };
        self.plain[self.start..][..BlockHeader::SIZE].copy_from_slice(&header.to_bytes());
        self.start = self.plain.len();
        self.records = 0;
        self.blocks += 1;
    }

    /// Makes of what was added blocks as they go to disk.
    pub(crate) fn pack(&mut self) -> Result<(), ErrorKind> {
        self.end_block();
        if self.compression == Compression::None {
            return Ok(());
        }
        let mut rest = &self.plain[..];
        while let Some((header, after)) = rest.split_first_chunk() {
            let header = BlockHeader::parse(header);
            let (plain, next) = after.split_at(header.size as usize);
            let disk = self.compressor.compress(plain)?;
            // No method doubles a block.
            let header = BlockHeader { size: disk.len() as u32, ..header };
            self.disk.extend_from_slice(&header.to_bytes());
            self.disk.extend_from_slice(disk);
            rest = next;
        }
        Ok(())
    }

    /// How many blocks are full.
    pub(crate) fn blocks(&self) -> u32 {
        self.blocks
    }

    /// What was packed, and how many blocks that is.
    pub(crate) fn packed(&self) -> (&[u8], u32) {
        let whole = if self.compression == Compression::None { &self.plain } else { &self.disk };
        (whole, self.blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::Decompressor;

    #[test]
    fn records_become_blocks_of_at_most_1_mib() {
        let record = [5; 1000];
        for compression in [Compression::None, Compression::Lz4] {
            let mut packer = Packer::new(3, compression);
            let mut decompressor = Decompressor::new(compression);
            // Twice: what is left of the first must not be in the second.
            for records in [2500, 1] {
                packer.clear();
                (0..records).for_each(|_| packer.push(&record));
                packer.pack().unwrap();
                let (mut rest, count) = packer.packed();
                let mut found = Vec::new();
                while let Some((header, after)) = rest.split_first_chunk() {
                    let header = BlockHeader::parse(header);
                    let (payload, next) = after.split_at(header.size as usize);
                    decompressor.decompress(payload).unwrap();
                    assert_eq!(
                        decompressor.plain(payload),
                        [5].repeat(header.records as usize * 1000)
                    );
                    found.push(header.records);
                    rest = next;
                }
                let expected = if records == 1 { vec![1] } else { vec![1048, 1048, 404] };
                assert_eq!((found, count), (expected.clone(), expected.len() as u32));
            }
        }
    }
}
