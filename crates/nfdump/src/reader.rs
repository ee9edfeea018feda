//! A reader takes a file from front to back, one block at a time, and never looks back.
//!
//! It needs no seeking, so a pipe will do, and its memory does not grow with the file: one block
//! as it is on disk (5 MiB at most, growing as bytes arrive, not as the header claims), one
//! decompressed, and the extension maps of layout 1. Blocks are read whole, so a buffer in front of
//! the file would only copy them once more.
//!
//! It is strict: the counts and offsets a file states must be true. What is wrong shows when it
//! is reached, so all flows in front of it have been seen by then, and never less silently.

use std::io::Read;

use crate::{
    block::{BlockHeader, RawBlock},
    compress::Decompressor,
    error::{Error, ErrorKind, Place},
    file::{Header, Layout, START},
    flow::{Flow, name_in},
    map::Maps,
    record::{HEAD, Parsed, RecordType, Walk, frame},
    stat::Stat,
};

/// Reads the blocks of an nfcapd file.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut reader = procflow_nfdump::Reader::new(std::fs::File::open("nfcapd.202611210110")?)?;
/// while let Some(block) = reader.next_block()? {
///     for record in block {
///         if let Some(flow) = record?.flow {
///             println!("{} -> {}", flow.source, flow.destination);
///         }
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Reader<R> {
    input: Input<R>,
    header: Header,
    /// The current block as it is on disk.
    raw: RawBlock,
    decompressor: Decompressor,
    walk: Walk,
    /// How many data blocks were begun.
    blocks: u32,
    /// The current block, until it was walked to its end.
    current: Option<Current>,
    ident: Option<Vec<u8>>,
    stat: Option<Stat>,
    /// Whether blocks that the header does not count yet are read as well.
    unfinished: bool,
    finished: bool,
}

/// Which block it is that is being walked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Current {
    header: BlockHeader,
    number: u32,
    offset: u64,
}

impl Current {
    /// A fault of it that is none of a record's.
    pub(crate) fn wrong(&self, kind: ErrorKind) -> Error {
        Error::new(Place::Block { number: self.number, offset: self.offset }, kind)
    }

    /// Its records, which are `data`.
    pub(crate) fn records<'a>(self, walk: &'a mut Walk, data: &'a [u8]) -> Block<'a> {
        walk.start_block();
        Block { current: self, failed: false, walk, data }
    }

    /// The next record. At the end, and at an error, it gives the same answer when asked again.
    fn step<'a>(&self, walk: &mut Walk, data: &'a [u8]) -> Result<Option<Parsed<'a>>, Error> {
        match walk.next(data) {
            Ok(None) if walk.records != self.header.records => {
                let (claimed, found) = (self.header.records, walk.records);
                Err(self.wrong(ErrorKind::RecordCount { claimed, found }))
            }
            Ok(parsed) => Ok(parsed),
            Err(kind) => {
                let Self { number, offset, .. } = *self;
                let (record, within) = (walk.records, walk.position);
                Err(Error::new(Place::Record { number, offset, record, within }, kind))
            }
        }
    }
}

impl<R: Read> Reader<R> {
    /// Reads the file header.
    ///
    /// # Errors
    /// When this is not an nfcapd file of layout 1 or 2, or one that cannot be read here.
    pub fn new(input: R) -> Result<Self, Error> {
        let mut input = Input { inner: input, offset: 0 };
        let mut bytes = Vec::new();
        input.fill(&mut bytes, START, "the file header").map_err(|kind| Error::at(0, kind))?;
        let mut start = [0; START];
        start.copy_from_slice(&bytes);
        let layout = Layout::of(start)?;
        let mut rest = Vec::new();
        input
            .fill(&mut rest, layout.header_size() - START, "the rest of the file header")
            .map_err(|kind| Error::at(START as u64, kind))?;
        bytes.append(&mut rest);
        let header = Header::parse(layout, bytes)?;
        Ok(Self {
            input,
            raw: RawBlock::default(),
            decompressor: Decompressor::new(header.compression()),
            walk: Walk::new(layout, header.anonymised()),
            blocks: 0,
            current: None,
            ident: header.ident().map(<[u8]>::to_vec),
            stat: header.stat(),
            unfinished: false,
            finished: false,
            header,
        })
    }

    /// The file header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The ident of the source, set by who started the collector; "none" by default.
    ///
    /// Layout 2 keeps it behind the last block: there it is `None` until
    /// [`next_block`](Self::next_block) was.
    pub fn ident(&self) -> Option<&[u8]> {
        self.ident.as_deref()
    }

    /// The stat record: what the file's writer says that its flows add up to. It is not compared
    /// with the flows.
    ///
    /// As the ident, layout 2 keeps it behind the last block. `None` where there is none, or
    /// not of its size.
    pub fn stat(&self) -> Option<&Stat> {
        self.stat.as_ref()
    }

    /// Reads what is there of a file that is [in progress](Header::in_progress), too: all
    /// blocks up to its end, as the header does not count them yet. A block that the collector is
    /// just writing may be cut short, which is an error as in any other file.
    pub fn unfinished(mut self) -> Self {
        self.unfinished = self.header.in_progress();
        self
    }

    /// The next data block; `None` after the last, when the rest of the file was checked too.
    ///
    /// Records of the block before that were not iterated are walked now: they may define
    /// extension maps, and they may be wrong. After an error there is no next block. A file that
    /// is [in progress](Header::in_progress) has no blocks, unless they were
    /// [asked for](Self::unfinished).
    ///
    /// # Errors
    /// When the file is damaged, at the first place where it is.
    pub fn next_block(&mut self) -> Result<Option<Block<'_>>, Error> {
        self.end_block()?;
        let mut raw = std::mem::take(&mut self.raw);
        let taken = self.take_block(&mut raw);
        self.raw = raw;
        let Some(current) = taken? else {
            self.end_file(|_| Ok(()))?;
            return Ok(None);
        };
        if let Err(kind) = self.decompressor.decompress(self.raw.payload()) {
            self.finished = true;
            return Err(current.wrong(kind));
        }
        self.current = Some(current);
        Ok(Some(current.records(&mut self.walk, self.decompressor.plain(self.raw.payload()))))
    }

    /// Reads the next data block as it is on disk; `None` when there is none.
    pub(crate) fn take_block(&mut self, raw: &mut RawBlock) -> Result<Option<Current>, Error> {
        if self.finished {
            return Ok(None);
        }
        let (number, offset) = (self.blocks, self.input.offset);
        if number == self.header.blocks() && !self.unfinished {
            return Ok(None);
        }
        // Taken back when all went well, so that an error is the end.
        self.finished = true;
        if self.header.appendix_blocks > 0 && offset >= self.header.appendix_offset {
            return Err(self.appendix_offset_error());
        }
        let place = Place::Block { number, offset };
        let header = match self.input.block(raw, &self.header, place) {
            // Nothing behind the last block: nothing is missing that was counted.
            Err(error)
                if self.unfinished
                    && self.input.offset == offset
                    && matches!(error.kind(), ErrorKind::Truncated { had: 0, .. }) =>
            {
                self.finished = false;
                return Ok(None);
            }
            read => read?,
        };
        self.blocks += 1;
        self.finished = false;
        Ok(Some(Current { header, number, offset }))
    }

    /// The walk over the records of the blocks that were taken, for whoever takes them.
    pub(crate) fn walk(&mut self) -> &mut Walk {
        &mut self.walk
    }

    /// Walks what is left of the current block.
    fn end_block(&mut self) -> Result<(), Error> {
        let Some(current) = self.current.take() else { return Ok(()) };
        let data = self.decompressor.plain(self.raw.payload());
        loop {
            match current.step(&mut self.walk, data) {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.finished = true;
                    return Err(error);
                }
            }
        }
    }

    /// Checks what follows the data blocks: layout 2's appendix, and the end of the file.
    ///
    /// `each` appendix block is handed on as it is on disk.
    pub(crate) fn end_file(
        &mut self,
        mut each: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if std::mem::replace(&mut self.finished, true) || self.header.in_progress() {
            return Ok(());
        }
        let claimed = self.header.appendix_offset;
        // Without an appendix the offset means nothing; nfdump leaves 0.
        let unused = self.header.appendix_blocks == 0 && claimed == 0;
        if self.header.layout() == Layout::Two && !unused && claimed != self.input.offset {
            return Err(self.appendix_offset_error());
        }
        for _ in 0..self.header.appendix_blocks {
            self.appendix_block()?;
            each(self.raw.whole())?;
        }
        let offset = self.input.offset;
        if self.input.at_end()? { Ok(()) } else { Err(Error::at(offset, ErrorKind::TrailingBytes)) }
    }

    fn appendix_block(&mut self) -> Result<(), Error> {
        let place = Place::File { offset: self.input.offset };
        let header = self.input.block(&mut self.raw, &self.header, place)?;
        let wrong = |kind| Error::new(place, kind);
        self.decompressor.decompress(self.raw.payload()).map_err(wrong)?;
        let mut rest = self.decompressor.plain(self.raw.payload());
        let mut found = 0;
        while !rest.is_empty() {
            let (record_type, bytes) = frame(rest).map_err(wrong)?;
            match record_type {
                RecordType::IDENT => self.ident = name_in(&bytes[HEAD..]).map(<[u8]>::to_vec),
                RecordType::STAT => self.stat = Stat::parse(self.header.layout(), &bytes[HEAD..]),
                // A collector that is restarted within its slot appends in place. Flows where
                // the header has the appendix may be that file, not yet finished again.
                RecordType(other) => return Err(wrong(ErrorKind::AppendixRecord(other))),
            }
            rest = &rest[bytes.len()..];
            found += 1;
        }
        let claimed = header.records;
        if found != claimed {
            return Err(wrong(ErrorKind::RecordCount { claimed, found }));
        }
        Ok(())
    }

    fn appendix_offset_error(&self) -> Error {
        let kind = ErrorKind::AppendixOffset {
            claimed: self.header.appendix_offset,
            found: self.input.offset,
            blocks: self.blocks,
            of: self.header.blocks(),
        };
        Error::at(self.input.offset, kind)
    }
}

/// One block: an iterator over its records.
///
/// It ends after the last record or after the first error, and counts the records as it goes:
/// more or fewer than the block header says is an error, after the last of them.
#[derive(Debug)]
pub struct Block<'a> {
    current: Current,
    failed: bool,
    walk: &'a mut Walk,
    data: &'a [u8],
}

impl<'a> Block<'a> {
    /// Which data block this is, counted from 0.
    pub fn number(&self) -> u32 {
        self.current.number
    }

    /// Where its header is in the file.
    pub fn offset(&self) -> u64 {
        self.current.offset
    }

    /// How many records its header counts.
    pub fn records(&self) -> u32 {
        self.current.header.records
    }

    /// The bytes of its payload on disk, its header of 12 bytes not among them.
    pub fn size_on_disk(&self) -> usize {
        self.current.header.size as usize
    }

    /// The bytes of its records, decompressed.
    pub fn size_plain(&self) -> usize {
        self.data.len()
    }

    /// The next record with where it may be named.
    pub(crate) fn step(&mut self) -> Result<Option<Parsed<'a>>, Error> {
        self.current.step(self.walk, self.data)
    }

    /// How many bytes of it were walked.
    pub(crate) fn walked(&self) -> usize {
        self.walk.position
    }

    pub(crate) fn maps(&self) -> &Maps {
        &self.walk.maps
    }
}

impl<'a> Iterator for Block<'a> {
    type Item = Result<Record<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.step().transpose()?;
        self.failed = item.is_err();
        Some(item.map(|Parsed { record_type, bytes, flow, .. }| Record {
            record_type,
            bytes,
            flow,
        }))
    }
}

/// One record of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it is.
    pub record_type: RecordType,
    /// All its bytes, type and size included.
    pub bytes: &'a [u8],
    /// The flow, if it is a flow record that has times, ports and addresses.
    pub flow: Option<Flow<'a>>,
}

/// Bytes from the front, counted.
#[derive(Debug)]
struct Input<R> {
    inner: R,
    offset: u64,
}

impl<R: Read> Input<R> {
    /// Reads exactly `wanted` bytes into `buffer`, which grows only as they arrive.
    fn fill(
        &mut self,
        buffer: &mut Vec<u8>,
        wanted: usize,
        what: &'static str,
    ) -> Result<(), ErrorKind> {
        buffer.clear();
        let had =
            (&mut self.inner).take(wanted as u64).read_to_end(buffer).map_err(ErrorKind::Read)?;
        if had < wanted {
            return Err(ErrorKind::Truncated { what, wanted, had });
        }
        self.offset += wanted as u64;
        Ok(())
    }

    /// Reads a block.
    fn block(
        &mut self,
        raw: &mut RawBlock,
        file: &Header,
        place: Place,
    ) -> Result<BlockHeader, Error> {
        let wrong = |kind| Error::new(place, kind);
        raw.clear();
        self.part(raw, BlockHeader::SIZE, "the block header").map_err(wrong)?;
        let header = raw.header();
        header.check(file.layout(), file.compression()).map_err(wrong)?;
        self.part(raw, header.size as usize, "the block's payload").map_err(wrong)?;
        Ok(header)
    }

    /// Appends exactly `wanted` bytes to a block.
    fn part(
        &mut self,
        raw: &mut RawBlock,
        wanted: usize,
        what: &'static str,
    ) -> Result<(), ErrorKind> {
        let before = raw.whole().len();
        raw.fill(&mut self.inner, before + wanted).map_err(ErrorKind::Read)?;
        let had = raw.whole().len() - before;
        if had < wanted {
            return Err(ErrorKind::Truncated { what, wanted, had });
        }
        self.offset += wanted as u64;
        Ok(())
    }

    fn at_end(&mut self) -> Result<bool, Error> {
        let mut one = Vec::new();
        match self.fill(&mut one, 1, "the end") {
            Ok(()) => Ok(false),
            Err(ErrorKind::Truncated { .. }) => Ok(true),
            Err(kind) => Err(Error::at(self.offset, kind)),
        }
    }
}
