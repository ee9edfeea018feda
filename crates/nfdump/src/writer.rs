//! A writer puts blocks one after another and the header, with the counts, last.
//!
//! Until then the output has the header of a file in progress (no blocks, no appendix), so that a
//! rewrite that was cut short is never taken for a whole file, by us or by nfdump.
//!
//! Each write is one of whole blocks, so the output needs no buffer.

use std::io::{self, Seek, SeekFrom, Write};

use crate::{
    error::{Error, ErrorKind},
    file::Header,
};

pub(crate) struct Writer<W, B> {
    /// None as long as all is as in the input.
    output: Option<W>,
    begin: Option<B>,
    /// Where the file starts in the output.
    base: u64,
    /// The length of the file so far.
    length: u64,
    blocks: u32,
    appendix_blocks: u16,
    appendix_offset: u64,
}

/// What begins an output that is there.
pub(crate) type AtOnce<W> = fn(u64) -> io::Result<W>;

impl<W: Write + Seek> Writer<W, AtOnce<W>> {
    pub(crate) fn new(mut output: W, header: &Header) -> Result<Self, Error> {
        let base =
            output.stream_position().map_err(|error| Error::at(0, ErrorKind::Write(error)))?;
        let mut writer = Self { output: Some(output), base, ..Self::nothing(None) };
        writer.put(&header.with_counts(0, 0, 0))?;
        Ok(writer)
    }
}

impl<W: Write + Seek, B: FnOnce(u64) -> io::Result<W>> Writer<W, B> {
    fn nothing(begin: Option<B>) -> Self {
        let output = None;
        Self {
            output,
            begin,
            base: 0,
            length: 0,
            blocks: 0,
            appendix_blocks: 0,
            appendix_offset: 0,
        }
    }

    /// One that writes nothing before something is not as in the input. `begin` then gives an output,
    /// a file of its own, with so many first bytes of the input.
    pub(crate) fn late(begin: B, header: &Header) -> Self {
        let length = header.with_counts(0, 0, 0).len() as u64;
        Self { length, ..Self::nothing(Some(begin)) }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if let Some(output) = &mut self.output {
            let written = output.write_all(bytes);
            written.map_err(|error| Error::at(self.length, ErrorKind::Write(error)))?;
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// A data block of the input, as it is on disk.
    pub(crate) fn same(&mut self, whole: &[u8]) -> Result<(), Error> {
        self.put(whole)?;
        self.blocks += 1;
        Ok(())
    }

    /// So many other data blocks, one after another, as they go to disk.
    pub(crate) fn data(&mut self, header: &Header, whole: &[u8], blocks: u32) -> Result<(), Error> {
        if let Some(begin) = self.begin.take() {
            let preliminary = header.with_counts(0, 0, 0);
            let begin = || {
                let mut output = begin(self.length)?;
                output.seek(SeekFrom::Start(0))?;
                output.write_all(&preliminary)?;
                output.seek(SeekFrom::Start(self.length))?;
                Ok(output)
            };
            let begun = begin().map_err(|error| Error::at(self.length, ErrorKind::Write(error)));
            self.output = Some(begun?);
        }
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

    /// Writes the header over the preliminary one; gives back how many data blocks there are, and the
    /// output, if there is one.
    pub(crate) fn finish(mut self, header: &Header) -> Result<(u32, Option<W>), Error> {
        // A file without appendix: its offset was 0 or the end of the data, and stays that.
        if self.appendix_blocks == 0 && header.appendix_offset != 0 {
            self.appendix_offset = self.length;
        }
        let bytes = header.with_counts(self.blocks, self.appendix_blocks, self.appendix_offset);
        let end = self.base + self.length;
        let wrong = |error| Error::at(0, ErrorKind::Write(error));
        if let Some(output) = &mut self.output {
            output.seek(SeekFrom::Start(self.base)).map_err(wrong)?;
            output.write_all(&bytes).map_err(wrong)?;
            output.seek(SeekFrom::Start(end)).map_err(wrong)?;
            output.flush().map_err(wrong)?;
        }
        Ok((self.blocks, self.output))
    }
}
