//! A writer puts blocks one after another and the header, with the counts, last.
//!
//! Until then the output has the header of a file in progress (no blocks, no appendix), so that a
//! rewrite that was cut short is never taken for a whole file, by us or by nfdump.
//!
//! Each write is one of whole blocks, so the output needs no buffer.

use std::io::{Seek, SeekFrom, Write};

use crate::{
    error::{Error, ErrorKind},
    file::Header,
};

pub(crate) struct Writer<W> {
    output: W,
    /// Where the file starts in the output.
    base: u64,
    /// The length of the file so far.
    length: u64,
    blocks: u32,
    appendix_blocks: u16,
    appendix_offset: u64,
}

impl<W: Write + Seek> Writer<W> {
    pub(crate) fn new(mut output: W, header: &Header) -> Result<Self, Error> {
        let base =
            output.stream_position().map_err(|error| Error::at(0, ErrorKind::Write(error)))?;
        let mut writer =
            Self { output, base, length: 0, blocks: 0, appendix_blocks: 0, appendix_offset: 0 };
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

    /// So many data blocks, one after another, as they go to disk.
    pub(crate) fn data(&mut self, whole: &[u8], blocks: u32) -> Result<(), Error> {
        self.put(whole)?;
        self.blocks += blocks;
        Ok(())
    }

    /// An appendix block as it is on disk, after all data blocks.
    ///
    /// It is copied, not compressed again: the file keeps its method, and a name changes neither
    /// the ident nor the statistics.
    pub(crate) fn appendix(&mut self, whole: &[u8]) -> Result<(), Error> {
        if self.appendix_blocks == 0 {
            self.appendix_offset = self.length;
        }
        self.put(whole)?;
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
