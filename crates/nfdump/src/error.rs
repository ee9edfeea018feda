//! An error is a place in the file and the one thing that is wrong there.
//!
//! The place is a byte offset a person can go to with a hex dump, and the block and record as
//! `nfdump -v` counts them: from 0. The thing wrong is an [`ErrorKind`]; each way to be wrong has
//! its own name there, so that a caller can tell "not ours" from "damaged" without reading text.

use std::{fmt, io};

use crate::compress::Compression;

/// What is wrong, and where.
#[derive(Debug)]
pub struct Error {
    place: Place,
    kind: ErrorKind,
}

/// Where in the file; the blocks and records count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Outside any data block.
    File { offset: u64 },
    /// In a data block whose header is at `offset`.
    Block { number: u32, offset: u64 },
    /// In a record, `within` bytes into the block's decompressed payload.
    Record { number: u32, offset: u64, record: u32, within: usize },
}

impl Error {
    pub(crate) fn new(place: Place, kind: ErrorKind) -> Self {
        Self { place, kind }
    }

    pub(crate) fn at(offset: u64, kind: ErrorKind) -> Self {
        Self::new(Place::File { offset }, kind)
    }

    /// The byte offset in the file: of the block's header when the error is inside a block.
    pub fn offset(&self) -> u64 {
        match self.place {
            Place::File { offset } | Place::Block { offset, .. } | Place::Record { offset, .. } => {
                offset
            }
        }
    }

    /// The data block, counted from 0, when the error is inside one.
    pub fn block(&self) -> Option<u32> {
        match self.place {
            Place::File { .. } => None,
            Place::Block { number, .. } | Place::Record { number, .. } => Some(number),
        }
    }

    /// The record, counted from 0 within its block, when the error is inside one.
    pub fn record(&self) -> Option<u32> {
        match self.place {
            Place::Record { record, .. } => Some(record),
            _ => None,
        }
    }

    /// What is wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::File { offset } => write!(f, "at offset {offset}: ")?,
            Place::Block { number, offset } => write!(f, "block {number} at offset {offset}: ")?,
            Place::Record { number, offset, record, within } => write!(
                f,
                "block {number} at offset {offset}: record {record} at offset {within} of the block: "
            )?,
        }
        self.kind.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            ErrorKind::Read(error) | ErrorKind::Write(error) => Some(error),
            _ => None,
        }
    }
}

/// Each way a file can be wrong, or be none of ours.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The first two bytes are not nfdump's.
    #[error("not an nfcapd file (it starts with {0:02x?}, not with 0c a5)")]
    NotNfcapd([u8; 2]),
    /// Written by a big-endian machine; nfdump on a little-endian one refuses it too.
    #[error("an nfcapd file of a big-endian machine; not supported")]
    BigEndian,
    /// Layout 3.
    #[error("layout 3, written by nfdump 1.8; not supported, only layouts 1 and 2 are")]
    Layout3,
    /// A layout nobody has written yet.
    #[error("unknown layout {0}; only layouts 1 and 2 are supported")]
    UnknownLayout(u16),
    /// The payloads are encrypted.
    #[error("encrypted (method {0}); not supported")]
    Encrypted(u8),
    /// A compression id this layout does not have.
    #[error("unknown compression {0}")]
    UnknownCompression(u32),
    /// A collector is still writing the file.
    #[error("still being written: its header counts no blocks and names no appendix yet")]
    InProgress,
    /// The file ends too early.
    #[error("truncated: {what} needs {wanted} bytes, {had} are left")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Its size in bytes.
        wanted: usize,
        /// The bytes that were left in the file.
        had: usize,
    },
    /// Bytes after the last block: also the look of a file that a collector is appending to.
    #[error("bytes after the last block")]
    TrailingBytes,
    /// The data blocks do not end where the header puts the appendix.
    #[error(
        "the header puts the appendix at offset {claimed}, but data block {blocks} of {of} ends at {found}"
    )]
    AppendixOffset {
        /// The header's offset.
        claimed: u64,
        /// Where the data blocks read so far end.
        found: u64,
        /// How many were read.
        blocks: u32,
        /// How many the header counts.
        of: u32,
    },
    /// The appendix holds something other than an ident or a stat record.
    #[error("record type {0} in the appendix")]
    AppendixRecord(u16),
    /// A block that holds no records as this layout knows them.
    #[error("block type {0} is not supported")]
    BlockType(u16),
    /// A block without payload or without records.
    #[error("empty block ({records} records, {size} bytes)")]
    EmptyBlock {
        /// Records the block header counts.
        records: u32,
        /// Payload bytes on disk.
        size: u32,
    },
    /// A payload of more than 5 MiB on disk.
    #[error("block of {0} bytes on disk; nfdump reads at most 5 MiB")]
    BlockTooLarge(u32),
    /// A block marked as not compressed inside a compressed file; nfdump 1.7 loses it.
    #[error("block marked as not compressed in a file compressed with {0}")]
    RawBlock(Compression),
    /// The payload does not decompress to at most 5 MiB.
    #[error("{compression} payload does not decompress into 5 MiB: {reason}")]
    Decompress {
        /// The file's method.
        compression: Compression,
        /// What the decompressor said.
        reason: String,
    },
    /// The payload cannot be compressed.
    #[error("cannot compress with {compression}: {reason}")]
    Compress {
        /// The file's method.
        compression: Compression,
        /// What the compressor said.
        reason: String,
    },
    /// The block header counts more or fewer records than the block holds.
    #[error("the block header counts {claimed} records, the block holds {found}")]
    RecordCount {
        /// The block header's count.
        claimed: u32,
        /// Records found.
        found: u32,
    },
    /// A record smaller than the header of its type.
    #[error("size {size} is smaller than its header ({header} bytes)")]
    RecordSize {
        /// The record's size field.
        size: usize,
        /// The least a record of its type has.
        header: usize,
    },
    /// A record that runs past the end of its block.
    #[error("size {size} runs past the end of the block, {left} bytes are left")]
    RecordTruncated {
        /// The record's size field.
        size: usize,
        /// The bytes left in the block.
        left: usize,
    },
    /// An element (layout 2) with a length that its id cannot have.
    #[error("element {id} has length {length}, it needs {least}")]
    ElementSize {
        /// The element's id.
        id: u16,
        /// Its length field.
        length: usize,
        /// The least it can be.
        least: usize,
    },
    /// An element (layout 2) that runs past the end of its record.
    #[error(
        "element {id} of length {length} runs past the end of the record, {left} bytes are left"
    )]
    ElementTruncated {
        /// The element's id.
        id: u16,
        /// Its length field.
        length: usize,
        /// The bytes left in the record.
        left: usize,
    },
    /// Not as many elements (layout 2) as the record counts.
    #[error("the record counts {claimed} elements, which end {left} bytes before the record does")]
    ElementCount {
        /// The record's numElements.
        claimed: u16,
        /// Bytes after the last counted element.
        left: usize,
    },
    /// An element header (layout 2) cut by the end of the record.
    #[error("the record counts {claimed} elements, but ends after {found}")]
    ElementMissing {
        /// The record's numElements.
        claimed: u16,
        /// Elements found.
        found: u16,
    },
    /// A record of the other layout, which nfdump would take for what it is not.
    #[error("record type {0} is not one of this layout")]
    ForeignRecord(u16),
    /// A record whose size, or what it counts in it, cannot be that of its type; nfdump refuses it,
    /// or fails by it.
    #[error("record type {record_type} of size {size} does not add up")]
    RecordShape {
        /// Its type.
        record_type: u16,
        /// Its size field.
        size: usize,
    },
    /// Fewer blocks in the file than its header counts.
    #[error("the file header counts {claimed} blocks, the file holds {found}")]
    BlockCount {
        /// The file header's count.
        claimed: u32,
        /// Blocks found.
        found: u32,
    },
    /// A block whose size is wrong: as many records as it counts end elsewhere, where a block
    /// begins.
    #[error("the block header says {claimed} bytes, its records take {found}")]
    BlockSize {
        /// The block header's size.
        claimed: u32,
        /// What the records add up to.
        found: usize,
    },
    /// An extension map (layout 1) whose size is not a multiple of 4.
    #[error("extension map of size {0}, not a multiple of 4")]
    MapSize(usize),
    /// An extension map (layout 1) that lists an id nfdump does not know.
    #[error("extension map lists unknown extension {0}")]
    MapExtension(u16),
    /// An extension map (layout 1) that lists more ids than exist.
    #[error("extension map lists more than {0} extensions")]
    MapTooLong(usize),
    /// An extension map (layout 1) without its closing 0.
    #[error("extension map without a closing 0")]
    MapUnterminated,
    /// An extension map (layout 1) whose sum is not that of its extensions.
    #[error("extension map counts {claimed} bytes of extensions, they add up to {found}")]
    MapSum {
        /// The map's extensionSize.
        claimed: usize,
        /// The sum of the sizes of the extensions listed.
        found: usize,
    },
    /// A flow record (layout 1) that names an extension map not seen before it.
    #[error("flow record uses extension map {0}, which was not defined before it")]
    UnknownMap(u16),
    /// A flow record (layout 1) too small for its flags and its extension map.
    #[error("flow record of size {size}; its flags and extension map need {needed}")]
    FlowSize {
        /// The record's size field.
        size: usize,
        /// What its flags and extension map add up to.
        needed: usize,
    },
    /// The input could not be read.
    #[error("cannot read: {0}")]
    Read(#[source] io::Error),
    /// The output could not be written; the offset is the output's.
    #[error("cannot write: {0}")]
    Write(#[source] io::Error),
}
