//! A writer puts blocks one after another and the header, with the counts, last.
//!
//! Until then the output has the header of a file in progress (no blocks, no appendix), so that a
//! rewrite that was cut short is never taken for a whole file, by us or by nfdump.

use std::io::{Seek, SeekFrom, Write};

use crate::{
    block::BlockHeader,
    compress::Compressor,
    error::{Error, ErrorKind},
    file::Header,
};

pub(crate) struct Writer<W> {
    output: W,
    /// Where the file starts in the output.
    base: u64,
    /// The length of the file so far.
    length: u64,
    compressor: Compressor,
    blocks: u32,
    appendix_blocks: u16,
    appendix_offset: u64,
}

impl<W: Write + Seek> Writer<W> {
    pub(crate) fn new(mut output: W, header: &Header) -> Result<Self, Error> {
        let base =
            output.stream_position().map_err(|error| Error::at(0, ErrorKind::Write(error)))?;
        let mut writer = Self {
            output,
            base,
            length: 0,
            compressor: Compressor::new(header.compression()),
            blocks: 0,
            appendix_blocks: 0,
            appendix_offset: 0,
        };
        writer.put(&header.with_counts(0, 0, 0))?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.output
            .write_all(bytes)
            .map_err(|error| Error::at(self.length, ErrorKind::Write(error)))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// A data block as it is on disk.
    pub(crate) fn as_it_is(&mut self, header: BlockHeader, disk: &[u8]) -> Result<(), Error> {
        self.put(&header.to_bytes())?;
        self.put(disk)?;
        self.blocks += 1;
        Ok(())
    }

    /// A data block of `plain` records, compressed here.
    pub(crate) fn compressed(
        &mut self,
        block_type: u16,
        records: u32,
        plain: &[u8],
    ) -> Result<(), Error> {
        let length = self.length;
        let wrong = |kind| Error::at(length, kind);
        let disk = self.compressor.compress(plain).map_err(wrong)?;
        // `plain` is 1 MiB and no method doubles it.
        let header = BlockHeader { records, size: disk.len() as u32, block_type, flags: 0 };
        // Not `put`, which would borrow the compressor, and with it the bytes, a second time.
        let wrong = |error| Error::at(length, ErrorKind::Write(error));
        self.output.write_all(&header.to_bytes()).map_err(wrong)?;
        self.output.write_all(disk).map_err(wrong)?;
        self.length += (BlockHeader::SIZE + disk.len()) as u64;
        self.blocks += 1;
        Ok(())
    }

    /// An appendix block as it is on disk, after all data blocks.
    ///
    /// It is copied, not compressed again: the file keeps its method, and a name changes neither
    /// the ident nor the statistics.
    pub(crate) fn appendix(&mut self, header: BlockHeader, disk: &[u8]) -> Result<(), Error> {
        if self.appendix_blocks == 0 {
            self.appendix_offset = self.length;
        }
        self.put(&header.to_bytes())?;
        self.put(disk)?;
        self.appendix_blocks += 1;
        Ok(())
    }

    /// Writes the header over the preliminary one; gives back how many data blocks there are.
    pub(crate) fn finish(mut self, header: &Header) -> Result<u32, Error> {
        // A file without appendix: its offset was 0 or the end of the data, and stays that.
        if self.appendix_blocks == 0 && header.appendix_offset != 0 {
            self.appendix_offset = self.length;
        }
        let bytes = header.with_counts(self.blocks, self.appendix_blocks, self.appendix_offset);
        let end = self.base + self.length;
        let wrong = |error| Error::at(0, ErrorKind::Write(error));
        self.output.seek(SeekFrom::Start(self.base)).map_err(wrong)?;
        self.output.write_all(&bytes).map_err(wrong)?;
        self.output.seek(SeekFrom::Start(end)).map_err(wrong)?;
        self.output.flush().map_err(wrong)?;
        Ok(self.blocks)
    }
}
