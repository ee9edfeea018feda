//! A capture file is read from its beginning to its end, in pieces of a megabyte, and handed on in
//! batches. It may be compressed (gzip, zstd), and it may be a pipe. It is never mapped into memory: a
//! file that somebody shortens must not end the program.
//!
//! Where a batch ends depends on the bytes of the file only, not on how fast they come.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use procflow_core::packet::Batch;

use crate::format::{Format, Step};

/// So many bytes of the file make a batch: enough that nobody waits for the next one, few enough that
/// they stay in the second cache while they are decoded.
const PIECE: usize = 1 << 20;

/// Why a file cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// It is no capture file.
    #[error("not a capture file (pcap, pcapng): it begins with {}", hex(.0))]
    NotACapture([u8; 4]),
    /// It is empty, or ends within its header.
    #[error("not a capture file: it ends within its header")]
    NoHeader,
    /// It ends within a block.
    #[error("the file ends within a frame or block: {had} of {wanted} bytes are there")]
    Truncated {
        /// How long the block is.
        wanted: usize,
        /// How much of it is there.
        had: usize,
    },
    /// A block claims to be longer than any is.
    #[error("{what} of {length} bytes")]
    TooLong {
        /// What claims it.
        what: &'static str,
        /// How long it claims to be.
        length: u64,
    },
    /// A block's length cannot be.
    #[error("a block of {0} bytes")]
    BlockLength(u64),
    /// A block does not end as it begins.
    #[error("a block of {begin} bytes that ends as one of {end}")]
    BlockEnd {
        /// Its length, by its begin.
        begin: u64,
        /// Its length, by its end.
        end: u64,
    },
    /// A block's inside is wrong.
    #[error("malformed block ({0})")]
    Block(&'static str),
    /// A frame of an interface that was not described.
    #[error("a frame of interface {0}, which is not described")]
    NoInterface(u32),
    /// An interface's resolution of time cannot be.
    #[error("an interface whose resolution of time cannot be")]
    Resolution,
    /// Reading failed, or decompressing.
    #[error("{0}")]
    Read(#[source] io::Error),
}

fn hex(bytes: &[u8; 4]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(" ")
}

/// Why a file cannot be read on, and where. All frames in front of there were handed on.
#[derive(Debug, thiserror::Error)]
#[error("at offset {offset}{}: {reason}", if *.compressed { " of what is decompressed" } else { "" })]
pub struct FileError {
    /// In bytes from the beginning; of the decompressed file if it is compressed.
    pub offset: u64,
    /// Whether it is.
    pub compressed: bool,
    /// What is wrong.
    #[source]
    pub reason: Reason,
}

/// A capture file.
pub struct CaptureFile<R> {
    input: Input<R>,
    format: Option<Format>,
    /// Bytes that were read and belong to the next batch.
    rest: Vec<u8>,
    /// Where in the file `rest` begins.
    offset: u64,
    /// Bytes read of the file as it is on disk.
    over: bool,
}

enum Input<R> {
    Plain(Counted<R>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<BufReader<Counted<R>>>>),
    Zstd(Box<zstd::Decoder<'static, BufReader<Counted<R>>>>),
}

/// Counts what is read, behind what was read already.
struct Counted<R> {
    start: io::Cursor<Vec<u8>>,
    rest: R,
    read: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let from_start = self.start.read(buffer)?;
        let read = if from_start > 0 { from_start } else { self.rest.read(buffer)? };
        self.read += read as u64;
        Ok(read)
    }
}

impl<R: Read> Input<R> {
    /// What a file begins with says whether it is compressed.
    fn of(mut input: R) -> io::Result<Self> {
        let mut start = Vec::with_capacity(4);
        (&mut input).take(4).read_to_end(&mut start)?;
        let magic = start.first_chunk::<4>().copied();
        let counted = Counted { start: io::Cursor::new(start), rest: input, read: 0 };
        Ok(match magic {
            Some([0x1f, 0x8b, ..]) => {
                let reader = BufReader::with_capacity(PIECE / 8, counted);
                Self::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(reader)))
            }
            // A frame, or one that is to be skipped (RFC 8878 section 3.1).
            Some([0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18]) => {
                let reader = BufReader::with_capacity(PIECE / 8, counted);
                Self::Zstd(Box::new(zstd::Decoder::with_buffer(reader)?))
            }
            _ => Self::Plain(counted),
        })
    }

    fn position(&self) -> u64 {
        match self {
            Self::Plain(counted) => counted.read,
            Self::Gzip(decoder) => decoder.get_ref().get_ref().read,
            Self::Zstd(decoder) => decoder.get_ref().get_ref().read,
        }
    }
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(counted) => counted.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

impl CaptureFile<File> {
    /// Opens a file on disk.
    ///
    /// # Errors
    /// When it cannot be opened or read.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::new(File::open(path)?)
    }
}

impl<R: Read> CaptureFile<R> {
    /// A capture file that is read from here; whether it is one, the first batch says.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn new(input: R) -> io::Result<Self> {
        let input = Input::of(input)?;
        Ok(Self { input, format: None, rest: Vec::new(), offset: 0, over: false })
    }

    /// How many bytes of the file as it is on disk were read.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.input.position()
    }

    /// Reads the next frames into `batch`, in place of what is in it; without any when the file is over.
    ///
    /// # Errors
    /// When the file cannot be read on; the frames in front of that place are in the batch. After an error
    /// the file is over.
    pub fn next_batch(&mut self, batch: &mut Batch) -> Result<(), FileError> {
        batch.clear();
        if self.over {
            return Ok(());
        }
        let rest = self.rest.len();
        batch.room(rest.max(PIECE))[..rest].copy_from_slice(&self.rest);
        batch.fill(rest);
        let start = self.offset;
        let mut at = 0;
        let done = self.fill_and_take(batch, &mut at);
        self.offset = start + at as u64;
        self.rest.clear();
        self.rest.extend_from_slice(&batch.filled()[at..]);
        done.map_err(|reason| {
            self.over = true;
            let compressed = !matches!(self.input, Input::Plain(_));
            FileError { offset: self.offset, compressed, reason }
        })
    }

    fn fill_and_take(&mut self, batch: &mut Batch, at: &mut usize) -> Result<(), Reason> {
        let mut ended = self.fill(batch, PIECE)?;
        if self.format.is_none() {
            match Format::of(batch.filled())? {
                Some((format, header)) => {
                    self.format = Some(format);
                    *at = header;
                }
                None => return Err(Reason::NoHeader),
            }
        }
        let Some(format) = &mut self.format else { return Ok(()) };
        loop {
            let left = batch.filled().len() - *at;
            if left == 0 && (ended || !batch.is_empty()) {
                self.over = ended;
                return Ok(());
            }
            match format.step(batch, *at)? {
                Step::Done(length) => *at += length,
                Step::Wants(wanted) if ended => {
                    return Err(Reason::Truncated { wanted, had: left });
                }
                // The next batch begins with it.
                Step::Wants(_) if !batch.is_empty() => return Ok(()),
                Step::Wants(wanted) => {
                    let length = *at + wanted.max(PIECE);
                    ended = fill(&mut self.input, batch, length)?;
                }
            }
        }
    }

    fn fill(&mut self, batch: &mut Batch, length: usize) -> Result<bool, Reason> {
        fill(&mut self.input, batch, length)
    }
}

/// Reads until there are so many bytes in a batch; gives whether the input ended before.
fn fill<R: Read>(input: &mut Input<R>, batch: &mut Batch, length: usize) -> Result<bool, Reason> {
    let mut missing = length.saturating_sub(batch.filled().len());
    while missing > 0 {
        match input.read(&mut batch.room(missing)[..missing]) {
            Ok(0) => return Ok(true),
            Ok(read) => {
                batch.fill(read);
                missing -= read;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Reason::Read(error)),
        }
    }
    Ok(false)
}
