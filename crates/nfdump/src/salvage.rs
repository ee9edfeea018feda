//! To salvage a damaged file is to write what is readable of it anew, as a file that is whole.
//!
//! Blocks without fault are copied as they are on disk. Of others the records without fault are
//! kept, as long as it is certain where a record begins:
//!
//! * a record whose inside is wrong is left out, if the sizes of it and of all after it lead to the
//!   end of the block, in as many records as the block header counts. Sizes alone are not enough:
//!   inside records there are elements, which begin as records do;
//! * otherwise the records in front of it are kept, and those after it are not looked for;
//! * of a block that does not decompress nothing is kept; of one that is cut short only what is
//!   not compressed.
//!
//! Flows of layout 1 go with the extension map that they name: where it is lost, so are they.
//!
//! After a damaged block the next one is where the block header's size leads, or, in a file that is
//! not compressed, where as many records as it counts do - if what looks like a block header is
//! there. Otherwise the rest of the file is given up. **Nothing is searched for**: blocks have no
//! mark of their own, and what looks like one amid the bytes of others may be what a stranger sent
//! as payload or name, and would become flows that nobody ever recorded.
//!
//! A record that is none of flows is left out too if its size cannot be that of its type.
//!
//! What neither layout can show stays hidden: there are no checksums, so a changed byte inside a
//! counter is a changed counter. The medium must be readable: this reads bytes that are wrong, not disks
//! that fail. So must be the file header, or that of another file of the same collector be lent.
//!
//! The result has the layout, the compression and the header of the original, counts that are
//! right, the original's ident where it was readable ("none" otherwise), and a stat record that is
//! summed up from the flows kept.

mod kept;

use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::{
    block::{BlockHeader, MOST},
    compress::{Compression, Decompressor},
    create::appendix,
    error::{Error, ErrorKind, Place},
    file::{Header, Layout},
    packer::Packer,
    reader::Reader,
    record::{HEAD, Walk, frame},
    stat::Stat,
    writer::{AtOnce, Writer},
};

use kept::Kept;

/// How many times in a file the end of a block is looked for by its count of records, which may
/// take a walk over 5 MiB: damage is rare, and a file made to cost time must not.
const TRIES: u32 = 1000;

/// A stretch of the file of which something is missing in the new one.
#[derive(Debug)]
pub struct Loss {
    /// Where it begins in the damaged file: at a block header, or what should be one.
    pub offset: u64,
    /// How many bytes of the file it takes; 0 where the file ends too early.
    pub length: u64,
    /// How many of its records were kept.
    pub kept: u64,
    /// How many records are missing, by what the block header counts; for a stretch without a
    /// header that can be believed by what records take elsewhere in this file. `None` when
    /// there is nothing to go by. 0 when only a count or a size was wrong.
    pub missing: Option<u64>,
    /// Whether it is the appendix, which holds no flows.
    pub appendix: bool,
    /// What is wrong, the first of it.
    pub error: Error,
}

/// What a salvage did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Salvaged {
    /// Data blocks found, damaged or not.
    pub blocks: u32,
    /// Data blocks written.
    pub blocks_written: u32,
    /// Records written.
    pub records: u64,
    /// Flow records among them.
    pub flow_records: u64,
    /// Stretches of which something is missing, or was wrong.
    pub losses: u64,
    /// Their bytes.
    pub damaged_bytes: u64,
    /// Records missing, estimated: the sum over the losses that could be.
    pub missing: u64,
    /// Losses of which it could not be estimated.
    pub unknown: u64,
    /// What the flows add up to that were written.
    pub stat: Stat,
    /// What the original's stat record says, where it was readable and says something.
    pub stat_before: Option<Stat>,
}

/// Writes the readable records of the damaged file `input`, from its beginning, as a whole file to
/// `output`; `lost` is told each stretch of which something is missing, in the file's order.
///
/// A file without damage comes out with the same blocks, and no losses. One that is
/// [in progress](Header::in_progress) is taken up to its end.
///
/// The output may be opened fresh or stand anywhere in a larger one; it is left at its end,
/// flushed but not synced. Memory is bounded as the [`Reader`]'s, with two blocks more.
///
/// # Errors
/// When the file header cannot be read (not an nfcapd file of layout 1 or 2, encrypted, shorter than
/// the header), or reading or writing fails. Damage behind the header is no error.
pub fn salvage<R, W>(mut input: R, output: W, lost: impl FnMut(&Loss)) -> Result<Salvaged, Error>
where
    R: Read + Seek,
    W: Write + Seek,
{
    let length = length_of(&mut input)?;
    let header = Reader::new(&mut input)?.header().clone();
    let mut salvager = Salvager::new(Source { input, length }, output, header, lost)?;
    salvager.all_blocks()?;
    salvager.finish()
}

/// [`salvage`] of a file whose own header is damaged: layout and compression are those of `lent`, the
/// header of another file that the same collector wrote; nothing else of it is taken.
///
/// A header that cannot be read is the first stretch that `lost` is told, with no record missing. One
/// that says the same layout and compression is as good as `lent`, and all of it is used.
///
/// # Errors
/// When reading or writing fails.
pub fn salvage_with<R, W>(
    mut input: R,
    lent: &Header,
    output: W,
    lost: impl FnMut(&Loss),
) -> Result<Salvaged, Error>
where
    R: Read + Seek,
    W: Write + Seek,
{
    let length = length_of(&mut input)?;
    let own = Reader::new(&mut input).map(|reader| reader.header().clone());
    let says = |header: &Header| (header.layout(), header.compression());
    let damaged = match own {
        Ok(own) if says(&own) == says(lent) => return salvage(input, output, lost),
        Ok(_) => None,
        Err(error) if matches!(error.kind(), ErrorKind::Read(_)) => return Err(error),
        Err(error) => Some(error),
    };
    let mut salvager = Salvager::new(Source { input, length }, output, lent.begun()?, lost)?;
    if let Some(error) = damaged {
        salvager.lose(0, length.min(salvager.start()), (0, Some(0)), error);
    }
    salvager.all_blocks()?;
    salvager.finish()
}

/// How long a file is; it is left at its beginning.
fn length_of(input: &mut impl Seek) -> Result<u64, Error> {
    let length = input.seek(SeekFrom::End(0)).and_then(|length| input.rewind().map(|()| length));
    length.map_err(|error| Error::at(0, ErrorKind::Read(error)))
}

impl<R: Read + Seek, W: Write + Seek, F: FnMut(&Loss)> Salvager<R, W, F> {
    fn new(source: Source<R>, output: W, header: Header, lost: F) -> Result<Self, Error> {
        Ok(Self {
            source,
            writer: Writer::new(output, &header)?,
            packer: Packer::new(header.layout().block_type(), header.compression()),
            disk: Vec::new(),
            decompressor: Decompressor::new(header.compression()),
            walk: Walk::new(header.layout(), header.anonymised()),
            kept: Kept::default(),
            ident: None,
            tries: 0,
            given_up: false,
            appendix_seen: false,
            copied: (0, 0),
            done: Salvaged { stat_before: header.stat(), ..Salvaged::default() },
            lost,
            header,
        })
    }

    /// Where the first block is.
    fn start(&self) -> u64 {
        self.header.layout().header_size() as u64
    }

    /// Takes one block after another.
    fn all_blocks(&mut self) -> Result<(), Error> {
        let mut at = self.start();
        while at < self.source.length {
            at = self.block(at)?;
        }
        Ok(())
    }
}

/// The damaged file.
struct Source<R> {
    input: R,
    length: u64,
}

impl<R: Read + Seek> Source<R> {
    /// Reads up to `wanted` bytes from `offset` on: fewer at the end of the file.
    fn read(&mut self, offset: u64, wanted: usize, into: &mut Vec<u8>) -> Result<(), Error> {
        into.clear();
        let mut read = || -> io::Result<()> {
            self.input.seek(SeekFrom::Start(offset))?;
            (&mut self.input).take(wanted as u64).read_to_end(into)?;
            Ok(())
        };
        read().map_err(|error| Error::at(offset, ErrorKind::Read(error)))
    }

    /// The block header at `offset`, if the file goes on for as long.
    fn block_header(&mut self, offset: u64) -> Result<Option<BlockHeader>, Error> {
        let mut bytes = Vec::with_capacity(BlockHeader::SIZE);
        self.read(offset, BlockHeader::SIZE, &mut bytes)?;
        Ok(bytes.first_chunk().map(BlockHeader::parse))
    }
}

struct Salvager<R, W, F> {
    source: Source<R>,
    header: Header,
    writer: Writer<W, AtOnce<W>>,
    packer: Packer,
    /// The payload of the current block as it is on disk.
    disk: Vec<u8>,
    decompressor: Decompressor,
    walk: Walk,
    kept: Kept,
    ident: Option<Vec<u8>>,
    tries: u32,
    /// Whether the rest of the file was given up.
    given_up: bool,
    /// Whether an appendix was found, or is known to be lost.
    appendix_seen: bool,
    /// Records in blocks that were copied, and the bytes of these on disk.
    copied: (u64, u64),
    done: Salvaged,
    lost: F,
}

impl<R: Read + Seek, W: Write + Seek, F: FnMut(&Loss)> Salvager<R, W, F> {
    /// Takes the block at `at`; gives where the next one is.
    fn block(&mut self, at: u64) -> Result<u64, Error> {
        let place = Place::Block { number: self.done.blocks, offset: at };
        let left = self.source.length - at;
        let Some(block) = self.source.block_header(at)? else {
            let (what, wanted) = ("the block header", BlockHeader::SIZE);
            // Less than 12.
            let kind = ErrorKind::Truncated { what, wanted, had: left as usize };
            // What the header counts beyond is told at the end.
            let missing = if self.header.in_progress() { None } else { Some(0) };
            self.lose(at, self.source.length, (0, missing), Error::new(place, kind));
            return Ok(self.source.length);
        };
        let checked = block.check(self.header.layout(), self.header.compression());
        let size = block.size as usize;
        let end = at + (BlockHeader::SIZE + size) as u64;
        let sized = (1..=MOST).contains(&size);
        let typed = block.block_type == self.header.layout().block_type();
        if !(sized && typed) {
            let wrong = match checked {
                Err(kind) => Error::new(place, kind),
                // Unreached: `check` refuses both.
                Ok(()) => Error::new(place, ErrorKind::BlockType(block.block_type)),
            };
            if typed && self.by_count(at, &block)? {
                return self.sized_anew(at, &block);
            }
            if size > MOST || !self.plausible(end)? {
                return self.give_up(at, wrong);
            }
            if sized && self.is_of_records(at, &block)? {
                return self.in_part(at, end, &block, wrong);
            }
            let missing = self.claimed(&block, end - at);
            self.done.blocks += 1;
            self.lose(at, end, (0, missing), wrong);
            return Ok(end);
        }

        let payload = at + BlockHeader::SIZE as u64;
        self.source.read(payload, size, &mut self.disk)?;
        let had = self.disk.len();
        let compressed = self.header.compression() != Compression::None;
        if had < size {
            if self.by_count(at, &block)? {
                return self.sized_anew(at, &block);
            }
            let what = "the block's payload";
            let wrong = Error::new(place, ErrorKind::Truncated { what, wanted: size, had });
            if compressed {
                let missing = self.claimed(&block, end - at);
                self.done.blocks += 1;
                self.lose(at, self.source.length, (0, missing), wrong);
                return Ok(self.source.length);
            }
            self.source.read(payload, size, &mut self.disk)?;
            self.keep(block.records, block.records);
            return self.in_part(at, self.source.length, &block, wrong);
        }

        if let Err(kind) = self.decompressor.decompress(&self.disk) {
            let wrong = Error::new(place, kind);
            if !self.plausible(end)? {
                return self.give_up(at, wrong);
            }
            self.done.blocks += 1;
            let missing = self.claimed(&block, end - at);
            self.lose(at, end, (0, missing), wrong);
            return Ok(end);
        }
        self.keep(block.records, u32::MAX);
        if let Some(appendix) = self.kept.appendix.take() {
            return self.appendix(at, end, appendix, place);
        }
        let whole = self.kept.wrong.is_none() && self.kept.records == block.records;
        let wrong = match (self.kept.wrong.take(), checked) {
            (None, Ok(())) if whole => {
                self.writer.same(&[&block.to_bytes()[..], &self.disk].concat())?;
                self.copied.0 += u64::from(self.kept.records);
                self.copied.1 += end - at;
                self.done.blocks += 1;
                self.count_kept();
                return Ok(end);
            }
            (Some((kind, record, within)), _) => {
                let (number, offset) = (self.done.blocks, at);
                Error::new(Place::Record { number, offset, record, within }, kind)
            }
            (None, Err(kind)) => Error::new(place, kind),
            (None, Ok(())) => {
                let (claimed, found) = (block.records, self.kept.records);
                Error::new(place, ErrorKind::RecordCount { claimed, found })
            }
        };
        if self.kept.to_the_end {
            return self.in_part(at, end, &block, wrong);
        }
        let leads_on = self.plausible(end)?;
        if !leads_on && self.by_count(at, &block)? {
            return self.sized_anew(at, &block);
        }
        // What lies beyond as many records as it counts was never one of its records.
        self.source.read(payload, size, &mut self.disk)?;
        self.keep(block.records, block.records);
        if leads_on {
            return self.in_part(at, end, &block, wrong);
        }
        self.given_up = true;
        self.in_part(at, self.source.length, &block, wrong)
    }

    /// Whether a block that says to be of another type is one of records nevertheless: it has flows,
    /// nothing is wrong with any of its records, and they are as many as it counts. Then they are
    /// kept.
    fn is_of_records(&mut self, at: u64, block: &BlockHeader) -> Result<bool, Error> {
        let payload = at + BlockHeader::SIZE as u64;
        self.source.read(payload, block.size as usize, &mut self.disk)?;
        if self.decompressor.decompress(&self.disk).is_err() {
            return Ok(false);
        }
        self.keep(block.records, u32::MAX);
        let Kept { flow_records, records, ref wrong, .. } = self.kept;
        Ok(flow_records > 0 && records == block.records && wrong.is_none())
    }

    /// Keeps what is sound of the payload, decompressed last, whose header counts `claimed` records:
    /// not more than `most` of them.
    fn keep(&mut self, claimed: u32, most: u32) {
        let data = self.decompressor.plain(&self.disk);
        let layout = self.header.layout();
        self.kept.of_block(layout, &mut self.walk, data, (claimed, most), self.done.stat);
    }

    /// Whether as many records as the header counts end where a block begins: then they are loaded.
    fn by_count(&mut self, at: u64, block: &BlockHeader) -> Result<bool, Error> {
        if self.header.compression() != Compression::None
            || block.records == 0
            || self.tries == TRIES
        {
            return Ok(false);
        }
        self.tries += 1;
        let payload = at + BlockHeader::SIZE as u64;
        self.source.read(payload, MOST, &mut self.disk)?;
        let mut length = 0;
        for _ in 0..block.records {
            match frame(&self.disk[length..]) {
                Ok((_, record)) => length += record.len(),
                Err(_) => return Ok(false),
            }
        }
        if !self.plausible(payload + length as u64)? {
            return Ok(false);
        }
        self.disk.truncate(length);
        Ok(true)
    }

    /// Takes the block that [`by_count`](Self::by_count) has loaded.
    fn sized_anew(&mut self, at: u64, block: &BlockHeader) -> Result<u64, Error> {
        let place = Place::Block { number: self.done.blocks, offset: at };
        let (claimed, found) = (block.size, self.disk.len());
        let end = at + (BlockHeader::SIZE + found) as u64;
        self.keep(block.records, block.records);
        if let Some(appendix) = self.kept.appendix.take() {
            return self.appendix(at, end, appendix, place);
        }
        let wrong = Error::new(place, ErrorKind::BlockSize { claimed, found });
        self.in_part(at, end, block, wrong)
    }

    /// Writes what was kept of a block that cannot be copied.
    fn in_part(
        &mut self,
        at: u64,
        end: u64,
        block: &BlockHeader,
        wrong: Error,
    ) -> Result<u64, Error> {
        let kept = u64::from(self.kept.records);
        let missing = if self.kept.to_the_end && end < self.source.length {
            // All sizes lead on to a block: what was left out is all that is missing, unless the
            // count says more.
            let claimed = u64::from(block.records).saturating_sub(kept);
            Some(if claimed > MOST as u64 / HEAD as u64 { self.kept.left_out } else { claimed })
        } else {
            self.claimed(block, end - at).map(|claimed| claimed.saturating_sub(kept))
        };
        self.packer.clear();
        self.packer.push_all(&self.kept.bytes);
        self.packer.pack().map_err(|kind| Error::at(at, kind))?;
        let (whole, blocks) = self.packer.packed();
        self.writer.data(&self.header, whole, blocks)?;
        self.done.blocks += 1;
        self.count_kept();
        self.lose(at, end, (kept, missing), wrong);
        Ok(end)
    }

    fn count_kept(&mut self) {
        self.done.records += u64::from(self.kept.records);
        self.done.flow_records += self.kept.flow_records;
        self.done.stat = self.kept.stat;
    }

    /// Takes note of an appendix; the new one is written at the end.
    fn appendix(
        &mut self,
        at: u64,
        end: u64,
        (ident, stat): (Option<Vec<u8>>, Option<Stat>),
        place: Place,
    ) -> Result<u64, Error> {
        self.appendix_seen = true;
        self.ident = ident.or(self.ident.take());
        self.done.stat_before = stat.or(self.done.stat_before);
        if let Some((kind, ..)) = self.kept.wrong.take() {
            self.lose_appendix(at, end, Error::new(place, kind));
        }
        Ok(end)
    }

    /// Whether a block may begin at `offset`, or the file ends there.
    fn plausible(&mut self, offset: u64) -> Result<bool, Error> {
        if offset == self.source.length {
            return Ok(true);
        }
        let (layout, compression) = (self.header.layout(), self.header.compression());
        Ok(self.source.block_header(offset)?.is_some_and(|next| {
            let room = u64::from(next.records) * HEAD as u64 <= u64::from(next.size);
            next.check(layout, compression).is_ok() && (room || compression != Compression::None)
        }))
    }

    /// How many records a block probably had: what it counts, if it can have them.
    fn claimed(&self, block: &BlockHeader, length: u64) -> Option<u64> {
        let most = match self.header.compression() {
            Compression::None => block.size as usize,
            _ => MOST,
        };
        let claimed = u64::from(block.records);
        let can = (1..=most as u64 / HEAD as u64).contains(&claimed);
        if can { Some(claimed) } else { self.estimated(length) }
    }

    /// How many records so many bytes of this file probably hold, by those without fault.
    fn estimated(&self, length: u64) -> Option<u64> {
        let (records, bytes) = self.copied;
        let estimated = u128::from(length) * u128::from(records) / u128::from(bytes.max(1));
        (records > 0).then(|| u64::try_from(estimated).unwrap_or(u64::MAX))
    }

    fn lose(&mut self, at: u64, end: u64, (kept, missing): (u64, Option<u64>), error: Error) {
        let length = end.saturating_sub(at);
        // The header's word for where the appendix is, if that is where it is read.
        let appendix =
            kept == 0 && self.header.appendix_blocks > 0 && self.header.appendix_offset == at;
        let missing = if appendix { Some(0) } else { missing };
        self.tell(Loss { offset: at, length, kept, missing, appendix, error });
    }

    fn lose_appendix(&mut self, at: u64, end: u64, error: Error) {
        let (length, kept, missing) = (end - at, 0, Some(0));
        self.tell(Loss { offset: at, length, kept, missing, appendix: true, error });
    }

    fn tell(&mut self, loss: Loss) {
        self.appendix_seen |= loss.appendix;
        self.done.losses += 1;
        self.done.damaged_bytes += loss.length;
        match loss.missing {
            Some(missing) => self.done.missing = self.done.missing.saturating_add(missing),
            None => self.done.unknown += 1,
        }
        (self.lost)(&loss);
    }

    /// The rest of the file is lost.
    fn give_up(&mut self, at: u64, error: Error) -> Result<u64, Error> {
        let end = self.source.length;
        self.given_up = true;
        let missing = self.estimated(end - at);
        self.lose(at, end, (0, missing), error);
        Ok(end)
    }

    /// Tells what the file header says should have followed.
    fn tell_what_is_not_there(&mut self) {
        if self.given_up {
            return;
        }
        let offset = self.source.length;
        let nothing = |missing, appendix, error| Loss {
            offset,
            length: 0,
            kept: 0,
            missing,
            appendix,
            error,
        };
        let (claimed, found) = (self.header.blocks(), self.done.blocks);
        if found < claimed {
            let per_block = self.copied.0.checked_div(u64::from(found)).filter(|&some| some > 0);
            let missing = per_block.map(|some| some.saturating_mul(u64::from(claimed - found)));
            let error = Error::at(offset, ErrorKind::BlockCount { claimed, found });
            self.tell(nothing(missing, false, error));
        }
        if self.header.appendix_blocks > 0 && !self.appendix_seen {
            let (what, wanted) = ("the appendix", BlockHeader::SIZE);
            let error = Error::at(offset, ErrorKind::Truncated { what, wanted, had: 0 });
            self.tell(nothing(Some(0), true, error));
        }
    }

    /// Writes the appendix and the header.
    fn finish(mut self) -> Result<Salvaged, Error> {
        self.tell_what_is_not_there();
        let mut stat = self.done.stat;
        if let Some(before) = self.done.stat_before {
            stat.sequence_failures = before.sequence_failures;
            if stat.all.flows == 0 {
                (stat.first_ms, stat.last_ms) = (before.first_ms, before.last_ms);
            }
        }
        self.done.stat = stat;
        self.done.stat_before = self.done.stat_before.filter(|&before| before != Stat::default());
        if self.header.layout() == Layout::Two {
            let ident = self.ident.as_deref().unwrap_or(b"none");
            self.packer.clear();
            self.packer.push_all(&appendix(ident, stat));
            self.packer.pack().map_err(|kind| Error::at(0, kind))?;
            self.writer.appendix(self.packer.packed().0)?;
        }
        let header = self.header.with_stat(stat);
        (self.done.blocks_written, _) = self.writer.finish(&header)?;
        Ok(self.done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Tally;
    use std::io::Cursor;

    const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Lzo,
        Compression::Bz2,
        Compression::Lz4,
        Compression::Zstd,
    ];

    /// A file, and where its blocks are.
    struct Sample {
        name: String,
        bytes: Vec<u8>,
        /// The first byte after each data block, and how many flows there are until there.
        ends: Vec<(usize, usize)>,
        flows: Vec<Vec<u8>>,
    }

    /// A flow from port `number` to 80, of 100 bytes more than the one before.
    fn flow(layout: Layout, number: u16) -> Vec<u8> {
        let [low, high] = number.to_le_bytes();
        match layout {
            Layout::One => {
                let mut record = vec![10, 0, 48, 0, 0, 0, 7, 0, 1, 0, 2, 0];
                record
                    .extend_from_slice(&[3, 0, 0, 0, 4, 0, 0, 0, 0, 0x12, 17, 0, low, high, 80, 0]);
                record.extend_from_slice(&[
                    1, 0, 0, 0, 1, 0, 0, 127, 2, 0, 0, 127, 5, 0, 0, 0, 100, low,
                ]);
                record.extend_from_slice(&[0, 0]);
                record
            }
            Layout::Two => {
                let mut record = vec![11, 0, 76, 0, 2, 0, 0, 0, 1, 0, 0, 10, 1, 0, 52, 0];
                for value in [3000 + u64::from(number), 4000, 0, 5, 100 + u64::from(number)] {
                    record.extend_from_slice(&value.to_le_bytes());
                }
                record.extend_from_slice(&[low, high, 80, 0, 6, 0x1b, 0, 0]);
                record.extend_from_slice(&[2, 0, 12, 0, 1, 0, 0, 10, 2, 0, 0, 10]);
                record
            }
        }
    }

    /// Three blocks of 4, 6 and 5 flows. The first begins with an exporter; in layout 1 with a map.
    fn sample(layout: Layout, compression: Compression) -> Sample {
        let id = match (layout, compression) {
            (_, Compression::None) => 0,
            (_, Compression::Lzo) => 1,
            (Layout::One, Compression::Bz2) => 8,
            (Layout::One, _) => 16,
            (Layout::Two, Compression::Bz2) => 2,
            (Layout::Two, Compression::Lz4) => 3,
            (Layout::Two, Compression::Zstd) => 4,
        };
        let mut header = vec![0x0c, 0xa5, if layout == Layout::One { 1 } else { 2 }, 0];
        header.resize(layout.header_size(), 0);
        header[if layout == Layout::One { 4 } else { 16 }] = id;
        let header = Header::parse(layout, header).unwrap();
        let mut output = Cursor::new(Vec::new());
        let mut writer = Writer::new(&mut output, &header).unwrap();
        let mut packer = Packer::new(layout.block_type(), compression);
        let mut flows = Vec::new();
        let mut counts = Vec::new();
        let mut stat = Stat::default();
        let mut tally = Tally::new(layout);
        for (block, count) in [4_u16, 6, 5].into_iter().enumerate() {
            let mut records = Vec::new();
            if block == 0 {
                let mut exporter = vec![7, 0, 32, 0, 9, 0, 0, 0];
                exporter.resize(24, 0);
                exporter.extend_from_slice(&[2, 0, 1, 0, 7, 0, 0, 0]);
                records.push(exporter);
                if layout == Layout::One {
                    records.push(vec![2, 0, 12, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
                }
            }
            let before = flows.len() as u16;
            for number in before..before + count {
                let flow = flow(layout, 1000 + number);
                flows.push(flow.clone());
                records.push(flow);
            }
            let plain = records.concat();
            packer.clear();
            packer.push_all(&plain);
            packer.pack().unwrap();
            let (whole, blocks) = packer.packed();
            writer.data(&header, whole, blocks).unwrap();
            counts.push(flows.len());
        }
        // What it counts is what a reader of the data alone counts.
        let header = match layout {
            Layout::One => header,
            Layout::Two => {
                stat.sequence_failures = 3;
                packer.clear();
                packer.push_all(&appendix(b"home", stat));
                packer.pack().unwrap();
                writer.appendix(packer.packed().0).unwrap();
                header
            }
        };
        writer.finish(&header).unwrap();
        let mut bytes = output.into_inner();
        if layout == Layout::One {
            bytes[12..16].copy_from_slice(b"home");
        }
        let mut ends = Vec::new();
        let mut reader = Reader::new(&bytes[..]).unwrap();
        while let Some(block) = reader.next_block().unwrap() {
            let end = block.offset() as usize + BlockHeader::SIZE + block.size_on_disk();
            for record in block {
                tally.add(&record.unwrap());
            }
            ends.push((end, counts[ends.len()]));
        }
        assert_eq!((tally.flow_records(), ends.len()), (15, 3));
        Sample { name: format!("{layout:?} {compression}"), bytes, ends, flows }
    }

    fn samples() -> Vec<Sample> {
        let mut samples: Vec<Sample> = ALL.map(|method| sample(Layout::Two, method)).into();
        samples.extend(ALL[..4].iter().map(|&method| sample(Layout::One, method)));
        samples
    }

    fn salvaged(file: &[u8]) -> Result<(Vec<u8>, Salvaged, Vec<Loss>), Error> {
        let mut output = Cursor::new(Vec::new());
        let mut losses = Vec::new();
        let done = salvage(Cursor::new(file), &mut output, |loss| {
            losses.push(Loss {
                error: Error::at(loss.error.offset(), ErrorKind::TrailingBytes),
                ..*loss
            });
        })?;
        Ok((output.into_inner(), done, losses))
    }

    /// The flow records of a file without fault; checks its counts.
    #[track_caller]
    fn flows(case: &str, file: &[u8], done: &Salvaged) -> Vec<Vec<u8>> {
        let mut reader = Reader::new(file).unwrap();
        let mut tally = Tally::new(reader.header().layout());
        let mut flows = Vec::new();
        while let Some(block) =
            reader.next_block().unwrap_or_else(|error| panic!("{case}: {error}"))
        {
            for record in block {
                let record = record.unwrap();
                if tally.add(&record).is_some() {
                    flows.push(record.bytes.to_vec());
                }
            }
        }
        let stat = *reader.stat().unwrap();
        assert_eq!(stat, done.stat, "{case}");
        let summed = Stat { sequence_failures: stat.sequence_failures, ..*tally.stat() };
        if tally.flow_records() > 0 {
            assert_eq!(stat, summed, "{case}");
        }
        assert_eq!(done.flow_records, flows.len() as u64, "{case}");
        assert_eq!(done.records, tally.record_types().map(|(_, count)| count).sum(), "{case}");
        assert_eq!(done.blocks_written, reader.header().blocks(), "{case}");
        flows
    }

    #[test]
    fn a_file_without_damage_comes_out_the_same_but_for_its_sums() {
        for sample in samples() {
            let (file, done, losses) = salvaged(&sample.bytes).unwrap();
            assert_eq!((losses.len(), done.losses, done.missing), (0, 0, 0), "{}", sample.name);
            assert_eq!(flows(&sample.name, &file, &done), sample.flows);
            let end = sample.ends[2].0;
            let start = sample.bytes.len().min(276).min(40);
            let data = if sample.name.starts_with("One") { 276..end } else { start..end };
            assert_eq!(file[data.clone()], sample.bytes[data], "{}", sample.name);
            let reader = &mut Reader::new(&file[..]).unwrap();
            while reader.next_block().unwrap().is_some() {}
            assert_eq!(reader.ident(), Some(&b"home"[..]));
            let (again, _, _) = salvaged(&file).unwrap();
            assert!(again == file, "{}", sample.name);
        }
    }

    #[test]
    fn a_lost_header_can_be_lent() {
        for Sample { name, bytes, flows: all, .. } in samples() {
            let lent = Reader::new(&bytes[..]).unwrap().header().clone();
            let with = |file: &[u8]| {
                let (mut output, mut offsets) = (Cursor::new(Vec::new()), Vec::new());
                let lost = |loss: &Loss| offsets.push((loss.offset, loss.length, loss.missing));
                let done = salvage_with(Cursor::new(file), &lent, &mut output, lost).unwrap();
                (output.into_inner(), done, offsets)
            };
            let size = lent.layout().header_size();
            let mut damaged = bytes.clone();
            damaged[..size].fill(0);
            let (file, done, lost) = with(&damaged);
            assert_eq!(flows(&name, &file, &done), all, "{name}");
            assert_eq!(lost, [(0, size as u64, Some(0))], "{name}");
            assert_eq!(done.blocks, 3, "{name}");

            // It says another compression.
            let mut damaged = bytes.clone();
            damaged[if lent.layout() == Layout::One { 4 } else { 16 }] ^= 1;
            let (file, done, _) = with(&damaged);
            assert_eq!(flows(&name, &file, &done), all, "{name}");

            let (file, _, lost) = with(&bytes);
            assert!(lost.is_empty() && file == salvaged(&bytes).unwrap().0, "{name}");
            let (_, done, lost) = with(&bytes[..size / 2]);
            assert_eq!((done.records, &lost[..]), (0, &[(0, size as u64 / 2, Some(0))][..]));
        }
    }

    #[test]
    fn of_a_file_cut_anywhere_all_blocks_before_are_kept() {
        for Sample { name, bytes, ends, flows: all } in samples() {
            let header = Reader::new(&bytes[..]).unwrap().header().layout().header_size();
            for length in 0..bytes.len() {
                let case = format!("{name} cut at {length}");
                if length < header {
                    assert!(salvaged(&bytes[..length]).is_err(), "{case}");
                    continue;
                }
                let (file, done, losses) = salvaged(&bytes[..length]).unwrap();
                let kept = flows(&case, &file, &done);
                let whole = ends.iter().take_while(|(end, _)| *end <= length).last();
                assert!(kept.len() >= whole.map_or(0, |&(_, flows)| flows), "{case}");
                // Nothing that was not there.
                assert_eq!(kept, all[..kept.len()], "{case}");
                assert!(!losses.is_empty() && done.losses == losses.len() as u64, "{case}");
                let reached = losses.iter().map(|loss| loss.offset + loss.length).max();
                assert_eq!(reached, Some(length as u64), "{case}");
                if name == "Two no compression" && whole.is_some() && length > ends[0].0 {
                    let missing = losses.iter().map(|loss| loss.missing.unwrap_or(0)).sum::<u64>();
                    assert!(missing >= u64::from(kept.len() < all.len()), "{case}: {losses:?}");
                }
            }
        }
    }

    #[test]
    fn of_a_file_with_a_changed_bit_all_other_blocks_are_kept() {
        let (mut lost, mut seen) = (0, 0);
        for Sample { name, bytes, ends, flows: all } in samples() {
            let header = Reader::new(&bytes[..]).unwrap().header().layout().header_size();
            let plain = name.ends_with("no compression");
            let step = if plain { 1 } else { 7 };
            for bit in (header * 8..bytes.len() * 8).step_by(step) {
                let case = format!("{name} with bit {bit} changed (byte {})", bit / 8);
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                let (file, done, losses) = salvaged(&damaged).unwrap();
                let kept = flows(&case, &file, &done);
                let at = bit / 8;
                let hit = ends.iter().position(|&(end, _)| at < end).unwrap_or(ends.len());
                let before = if hit == 0 { 0 } else { ends[hit - 1].1 };
                assert_eq!(kept[..before], all[..before], "{case}");
                let start = if hit == 0 { header } else { ends[hit - 1].0 };
                if hit < 3 && at >= start + BlockHeader::SIZE {
                    // The block header is whole, so it leads on. Without the map in the first
                    // block of layout 1 nobody can read the flows after it.
                    let after = &all[ends[hit].1..];
                    let map = name.starts_with("One") && hit == 0;
                    assert!(kept.ends_with(after) || map, "{case}: {losses:?}");
                }
                if plain && hit < 3 && at < start + BlockHeader::SIZE {
                    // In a file that is not compressed no field of it is needed that the others
                    // do not tell.
                    assert_eq!(kept, all, "{case}: {losses:?}");
                }
                seen += 1;
                lost += usize::from(kept.len() < all.len());
            }
        }
        assert!(lost > 1000 && lost < seen, "{lost} of {seen}");
    }

    #[test]
    fn a_record_that_is_wrong_inside_costs_no_other() {
        let Sample { mut bytes, ends, flows: all, .. } = sample(Layout::Two, Compression::None);
        // The second flow of the second block counts three elements.
        let at = ends[0].0 + BlockHeader::SIZE + 76 + 4;
        bytes[at] = 3;
        let (file, done, losses) = salvaged(&bytes).unwrap();
        let expected: Vec<_> =
            all.iter().enumerate().filter(|(i, _)| *i != 5).map(|(_, flow)| flow.clone()).collect();
        assert_eq!(flows("", &file, &done), expected);
        let [loss] = &losses[..] else { panic!("{losses:?}") };
        assert_eq!((loss.offset, loss.length), (ends[0].0 as u64, (ends[1].0 - ends[0].0) as u64));
        assert_eq!((loss.kept, loss.missing, loss.appendix), (5, Some(1), false));
    }

    #[test]
    fn elements_are_not_taken_for_records() {
        let Sample { mut bytes, ends, flows: all, .. } = sample(Layout::Two, Compression::None);
        // The first record of the second block is unknown and ends in front of the second flow's
        // elements: 1 of 52 bytes, 2 of 12, and then the third flow.
        let at = ends[0].0 + BlockHeader::SIZE;
        bytes[at..at + 4].copy_from_slice(&[99, 0, 76 + 12, 0]);
        let (file, done, losses) = salvaged(&bytes).unwrap();
        let expected = [&all[..4], &all[10..]].concat();
        assert_eq!(flows("", &file, &done), expected);
        assert_eq!((losses[0].kept, losses[0].missing), (1, Some(5)));
    }

    #[test]
    fn what_looks_like_a_block_amid_the_bytes_of_another_is_not_taken() {
        let Sample { mut bytes, ends, .. } = sample(Layout::Two, Compression::None);
        // Both the size and the count of the first block are wrong: nothing leads on.
        bytes[40..48].copy_from_slice(&[200, 0, 0, 0, 9, 0, 0, 0]);
        let (file, done, losses) = salvaged(&bytes).unwrap();
        assert_eq!(flows("", &file, &done).len(), 0);
        assert_eq!(losses.last().map(|loss| loss.offset + loss.length), Some(bytes.len() as u64));
        assert!(ends[2].0 < bytes.len());
    }

    #[test]
    fn a_file_in_progress_becomes_a_whole_one() {
        let Sample { mut bytes, ends, flows: all, .. } = sample(Layout::Two, Compression::Lz4);
        bytes.truncate(ends[2].0);
        (bytes[18], bytes[36]) = (0, 0);
        bytes[24..32].fill(0);
        let (file, done, losses) = salvaged(&bytes).unwrap();
        assert!(losses.is_empty(), "{losses:?}");
        assert_eq!(flows("", &file, &done), all);
        assert_eq!(done.stat_before, None);
    }
}
