//! An export file is a stretch of a history, taken along: who has it can say who made a flow
//! without the tracker, without a network, years later.
//!
//! It begins with eight bytes that no text has and a version. What follows is a row of items, each
//! in a frame: two lengths and a zstd frame (RFC 8878) of the item in postcard, which ends with a
//! checksum. The last item is an end mark, so that a file that was cut is never taken for a short
//! one. `docs/history-file.md` describes it to the byte, and the tests below hold both to that.
//!
//! Reading holds one frame in memory, and believes no length beyond [`MOST`]. It trusts the
//! content no more than a tracker's: anyone may have written it. The file is not signed: it is as
//! good as the way it came.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use procflow_binding::{BootTime, Event, Histories, HostId, Incarnation};
use procflow_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::block::Press;
use crate::database::HistoryError;
use crate::reader::{Reader, Told};
use crate::state::{StateError, replace_file_with};

/// The first bytes: one with its high bit set, "pfh", both ends of line and the end of a DOS file,
/// so that whatever would change text on its way is noticed (as PNG does it, RFC 2083 section 12.12).
const MAGIC: [u8; 8] = *b"\x89pfh\r\n\x1a\n";

/// The version that is written, and the only one there is.
const VERSION: u16 = 1;

/// Longest item, in bytes, before compression and after.
const MOST: usize = 16 << 20;

/// Events of an item are gathered up to so many bytes of memory: some 64 KiB in the file's own
/// writing, as in the database.
const GATHERED: usize = 512 << 10;

/// What an export file says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportHeader {
    /// The host whose tracker wrote it.
    pub host: HostId,
    /// Its name, for people. Any text.
    pub host_name: String,
    /// When it was written, by that host's real-time clock.
    pub created: Timestamp,
    /// Beginning of the stretch that was asked for.
    pub since: Timestamp,
    /// End of it.
    pub until: Timestamp,
}

/// What is in a frame. The order of the variants is the format: new ones go to the end.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Item {
    /// First, and only there.
    Header(ExportHeader),
    /// What follows is of this incarnation.
    Incarnation { incarnation: Incarnation, host_name: String },
    /// Everything before this moment may be missing.
    Dropped(BootTime),
    /// The next events.
    Events(Vec<Event>),
    /// Everything until then was told.
    WatchedUntil(BootTime),
    /// Last, and only there: how many events the file has.
    End { events: u64 },
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Starts of the tracker that have a part in it.
    pub incarnations: u64,
    /// Events.
    pub events: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// A file that cannot be written, or that is no export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The history cannot be read.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] StateError),
    /// An operation on the file failed.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// It begins with other bytes.
    #[error("{} is not a history file", .0.display())]
    Foreign(PathBuf),
    /// It was written by a newer version of this program.
    #[error("{} has format version {found}, this program knows {VERSION}", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
    /// What is there is no item, or not one that belongs there.
    #[error("{}, at byte {offset}: {what}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where the item begins.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
}

/// Writes what a history knows of the stretch that `header` names into a file, which is there when
/// it is whole; readable for its owner and the owner's group.
///
/// # Errors
///
/// When the history cannot be read or the file not written; what was at `path` before is then still
/// there.
pub fn write_export(
    reader: &Reader,
    path: &Path,
    header: &ExportHeader,
) -> Result<Exported, ExportError> {
    replace_file_with(path, 0o640, |file, path| {
        let failed = |what| {
            let path = path.to_owned();
            move |source| ExportError::Io { what, path, source }
        };
        let press = Press::new().map_err(failed("cannot compress for"))?;
        let mut writer = Writer {
            to: BufWriter::new(file),
            press,
            events: Vec::new(),
            room: GATHERED,
            exported: Exported::default(),
        };
        writer.begin(header).map_err(failed("cannot write"))?;
        reader.between(header.since, header.until, |told| {
            writer.tell(told).map_err(failed("cannot write"))
        })?;
        writer.end().map_err(failed("cannot write"))
    })
}

struct Writer<W: Write> {
    to: W,
    press: Press,
    /// Not written yet.
    events: Vec<Event>,
    room: usize,
    exported: Exported,
}

impl<W: Write> Writer<W> {
    fn begin(&mut self, header: &ExportHeader) -> io::Result<()> {
        self.put(&MAGIC)?;
        self.put(&VERSION.to_le_bytes())?;
        self.item(&Item::Header(header.clone()))
    }

    fn tell(&mut self, told: Told) -> io::Result<()> {
        match told {
            Told::Event(event) => {
                self.room = self.room.saturating_sub(event.footprint());
                self.events.push(event);
                self.exported.events += 1;
                if self.room > 0 { Ok(()) } else { self.write_events() }
            }
            Told::Incarnation { incarnation, host_name } => {
                self.write_events()?;
                self.exported.incarnations += 1;
                self.item(&Item::Incarnation { incarnation, host_name })
            }
            Told::Dropped(until) => {
                self.write_events()?;
                self.item(&Item::Dropped(until))
            }
            Told::WatchedUntil(until) => {
                self.write_events()?;
                self.item(&Item::WatchedUntil(until))
            }
        }
    }

    fn end(mut self) -> io::Result<Exported> {
        self.write_events()?;
        self.item(&Item::End { events: self.exported.events })?;
        self.to.flush()?;
        Ok(self.exported)
    }

    fn write_events(&mut self) -> io::Result<()> {
        self.room = GATHERED;
        let events = std::mem::take(&mut self.events);
        if events.is_empty() { Ok(()) } else { self.item(&Item::Events(events)) }
    }

    fn item(&mut self, item: &Item) -> io::Result<()> {
        let bytes = postcard::to_stdvec(item).map_err(io::Error::other)?;
        let pressed = self.press.press(&bytes)?;
        for length in [bytes.len(), pressed.len()] {
            let length = u32::try_from(length).ok().filter(|&length| length as usize <= MOST);
            let length = length.ok_or_else(|| io::Error::other("an item of more than 16 MiB"))?;
            self.put(&length.to_le_bytes())?;
        }
        self.put(&pressed)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.exported.bytes += bytes.len() as u64;
        self.to.write_all(bytes)
    }
}

/// An export file, read from its beginning to its end.
#[derive(Debug)]
pub struct Export<R: Read = BufReader<File>> {
    from: R,
    path: PathBuf,
    header: ExportHeader,
    /// Where the next frame begins.
    offset: u64,
    /// Not given yet.
    events: std::vec::IntoIter<Event>,
    count: u64,
    in_incarnation: bool,
    ended: bool,
}

/// Reads some export files into histories, the earliest first; gives whose the first is that was named.
///
/// # Errors
///
/// When one cannot be opened or read. What came before is in the histories.
pub fn read_exports(
    paths: &[PathBuf],
    histories: &mut Histories,
) -> Result<Option<HostId>, ExportError> {
    let files: Result<Vec<_>, _> = paths.iter().map(|path| read_export(path)).collect();
    let mut files = files?;
    let first = files.first().map(|export| export.header().host);
    files.sort_by_key(|export| export.header().since);
    for export in files {
        export.fill(histories)?;
    }
    Ok(first)
}

/// Opens an export file.
///
/// # Errors
///
/// When it cannot be opened, or does not begin like one.
pub fn read_export(path: &Path) -> Result<Export, ExportError> {
    let file = File::open(path).map_err(|source| ExportError::Io {
        what: "cannot open",
        path: path.into(),
        source,
    })?;
    Export::new(BufReader::with_capacity(256 << 10, file), path)
}

impl<R: Read> Export<R> {
    /// Reads from anything; `path` is for errors.
    ///
    /// # Errors
    ///
    /// When what is there does not begin like an export file.
    pub fn new(mut from: R, path: &Path) -> Result<Self, ExportError> {
        let mut start = Vec::new();
        let read = from.by_ref().take(10).read_to_end(&mut start);
        read.map_err(|source| ExportError::Io { what: "cannot read", path: path.into(), source })?;
        let version = match start.strip_prefix(&MAGIC) {
            Some(&[low, high]) => u16::from_le_bytes([low, high]),
            _ => return Err(ExportError::Foreign(path.into())),
        };
        if version != VERSION {
            return Err(ExportError::Newer { path: path.into(), found: version });
        }
        let (host, zero) = (HostId([0; 16]), Timestamp(0));
        let host_name = String::new();
        let header = ExportHeader { host, host_name, created: zero, since: zero, until: zero };
        let mut export = Self {
            from,
            path: path.into(),
            header,
            offset: 10,
            events: Vec::new().into_iter(),
            count: 0,
            in_incarnation: false,
            ended: false,
        };
        match export.item()? {
            (_, Item::Header(header)) => export.header = header,
            (offset, _) => return Err(export.damaged(offset, "the header is missing")),
        }
        Ok(export)
    }

    /// What the file says of itself.
    #[must_use]
    pub fn header(&self) -> &ExportHeader {
        &self.header
    }

    /// The next thing that it tells; `None` at its end, and only there.
    ///
    /// # Errors
    ///
    /// When it is damaged or cut: what was told before stays true.
    pub fn next_told(&mut self) -> Result<Option<Told>, ExportError> {
        loop {
            if let Some(event) = self.events.next() {
                return Ok(Some(Told::Event(event)));
            }
            if self.ended {
                return Ok(None);
            }
            let (offset, item) = self.item()?;
            if !self.in_incarnation && !matches!(item, Item::Incarnation { .. } | Item::End { .. })
            {
                return Err(self.damaged(offset, "it says not of which start of a tracker it is"));
            }
            match item {
                Item::Incarnation { incarnation, host_name } => {
                    self.in_incarnation = true;
                    return Ok(Some(Told::Incarnation { incarnation, host_name }));
                }
                Item::Dropped(until) => return Ok(Some(Told::Dropped(until))),
                Item::WatchedUntil(until) => return Ok(Some(Told::WatchedUntil(until))),
                Item::Events(events) => {
                    self.count += events.len() as u64;
                    self.events = events.into_iter();
                }
                Item::End { events } if events == self.count => self.end(offset)?,
                Item::End { events } => {
                    let what = format!("{events} events should have come, not {}", self.count);
                    return Err(self.damaged(offset, what));
                }
                Item::Header(_) => return Err(self.damaged(offset, "a second header")),
            }
        }
    }

    /// Writes everything into histories; the incarnations that it had a part of.
    ///
    /// # Errors
    ///
    /// As for [`Export::next_told`]; what came before is in the histories then.
    pub fn fill(mut self, histories: &mut Histories) -> Result<u64, ExportError> {
        let (mut of, mut incarnations) = (None, 0);
        while let Some(told) = self.next_told()? {
            incarnations += u64::from(matches!(told, Told::Incarnation { .. }));
            told.fill(&mut of, histories);
        }
        Ok(incarnations)
    }

    fn end(&mut self, offset: u64) -> Result<(), ExportError> {
        self.ended = true;
        let mut more = Vec::new();
        match self.from.by_ref().take(1).read_to_end(&mut more) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.damaged(offset, "something comes after the end")),
            Err(source) => Err(self.failed(source)),
        }
    }

    fn damaged(&self, offset: u64, what: impl Into<String>) -> ExportError {
        ExportError::Damaged { path: self.path.clone(), offset, what: what.into() }
    }

    fn failed(&self, source: io::Error) -> ExportError {
        ExportError::Io { what: "cannot read", path: self.path.clone(), source }
    }

    /// The next item, and where it begins.
    fn item(&mut self) -> Result<(u64, Item), ExportError> {
        let offset = self.offset;
        let lengths = self.bytes(offset, 8)?;
        let (length, pressed) = lengths.split_at(4);
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, &b| n << 8 | usize::from(b));
        let (length, pressed) = (number(length), number(pressed));
        if length > MOST || pressed > MOST {
            return Err(self.damaged(offset, "an item of more than 16 MiB"));
        }
        let pressed = self.bytes(offset, pressed)?;
        let bytes = zstd::bulk::decompress(&pressed, length)
            .map_err(|error| self.damaged(offset, error.to_string()))?;
        match postcard::take_from_bytes(&bytes) {
            Ok((item, [])) if bytes.len() == length => Ok((offset, item)),
            Ok(_) => Err(self.damaged(offset, "an item of another length than is said")),
            Err(error) => Err(self.damaged(offset, error.to_string())),
        }
    }

    fn bytes(&mut self, offset: u64, count: usize) -> Result<Vec<u8>, ExportError> {
        let mut bytes = Vec::new();
        let read = self.from.by_ref().take(count as u64).read_to_end(&mut bytes);
        let read = read.map_err(|source| self.failed(source))?;
        self.offset += read as u64;
        if read < count {
            return Err(self.damaged(offset, "the file ends here, without its end mark"));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use procflow_binding::{BootId, Change, Coverage, Gap, GapCause};

    const DOCUMENT: &str = include_str!("../../../docs/history-file.md");

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn header() -> ExportHeader {
        ExportHeader {
            host: HostId([0xaa; 16]),
            host_name: "web1".to_owned(),
            created: Timestamp(3),
            since: Timestamp(1),
            until: Timestamp(2),
        }
    }

    fn told() -> Vec<Told> {
        let incarnation =
            Incarnation { host: HostId([0xaa; 16]), boot: BootId([0xbb; 16]), number: 300 };
        let event = |sequence, change| Told::Event(Event { sequence, time: BootTime(9), change });
        let (begin, end, cause) = (BootTime(0), BootTime(9), GapCause::NotRunning);
        vec![
            Told::Incarnation { incarnation, host_name: "web1".to_owned() },
            Told::Dropped(BootTime(8)),
            event(1, Change::Watch(Coverage::Complete)),
            event(2, Change::Gap(Gap { begin, end, cause })),
            Told::WatchedUntil(BootTime(10)),
        ]
    }

    fn written() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer {
            to: &mut bytes,
            press: Press::new().unwrap(),
            events: Vec::new(),
            room: GATHERED,
            exported: Exported::default(),
        };
        writer.begin(&header()).unwrap();
        told().into_iter().for_each(|told| writer.tell(told).unwrap());
        let exported = writer.end().unwrap();
        assert_eq!(exported.bytes, bytes.len() as u64);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<(ExportHeader, Vec<Told>), ExportError> {
        let mut export = Export::new(bytes, Path::new("FILE"))?;
        let mut all = Vec::new();
        while let Some(told) = export.next_told()? {
            all.push(told);
        }
        Ok((export.header().clone(), all))
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read(&written()).unwrap(), (header(), told()));
    }

    /// Golden bytes: each item both ways, and as `docs/history-file.md` prints it.
    #[test]
    fn items_have_these_bytes() {
        let event = |sequence, change| Event { sequence, time: BootTime(9), change };
        let incarnation =
            Incarnation { host: HostId([0xaa; 16]), boot: BootId([0xbb; 16]), number: 300 };
        let (aa, bb) = ("aa".repeat(16), "bb".repeat(16));
        let golden = |item: &Item, bytes: &str| {
            let found = hex(&postcard::to_stdvec(item).unwrap());
            assert_eq!(found, bytes.replace(' ', ""));
            let documented = |line: &str| line.replace(' ', "") == found;
            assert!(DOCUMENT.lines().any(documented), "{bytes} is not in docs/history-file.md");
        };
        golden(&Item::Header(header()), &format!("00 {aa} 04 77656231 06 02 04"));
        let host_name = "web1".to_owned();
        golden(
            &Item::Incarnation { incarnation, host_name },
            &format!("01 {aa} {bb} ac02 04 77656231"),
        );
        golden(&Item::Dropped(BootTime(8)), "02 08");
        let watch = event(1, Change::Watch(Coverage::Complete));
        golden(&Item::Events(vec![watch]), "03 01 01 09 00 01");
        golden(&Item::WatchedUntil(BootTime(300)), "04 ac02");
        golden(&Item::End { events: 2 }, "05 02");
    }

    /// The file that the document shows as a whole is read, whatever zstd would write today.
    #[test]
    fn the_documents_file_is_read() {
        let (_, shown) = DOCUMENT.split_once("```hexdump\n").expect("it shows one");
        let (shown, _) = shown.split_once("```").expect("it ends");
        let digits: String = shown
            .lines()
            .flat_map(|line| line.split('#').next().unwrap_or_default().chars())
            .filter(|c| !c.is_whitespace())
            .collect();
        let bytes: Vec<u8> = (0..digits.len() / 2)
            .map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        let read =
            read(&bytes).unwrap_or_else(|error| panic!("{error}; today: {}", hex(&written())));
        assert_eq!(read, (header(), told()));
    }

    #[test]
    fn a_file_that_is_cut_or_damaged_anywhere_is_never_whole() {
        let whole = written();
        for length in 0..whole.len() {
            let error = read(&whole[..length]).unwrap_err().to_string();
            assert!(error.contains("FILE"), "{error}");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            if let Ok(read) = read(&damaged) {
                assert_eq!(read, (header(), told()), "byte {at}");
            }
        }
        let mut more = whole.clone();
        more.push(0);
        assert!(read(&more).unwrap_err().to_string().contains("after the end"));
    }

    #[test]
    fn no_length_is_believed_and_no_newer_version_read() {
        let mut file = [&MAGIC[..], &[2, 0]].concat();
        assert!(matches!(read(&file), Err(ExportError::Newer { found: 2, .. })));
        file[8] = 1;
        file.extend([0xff; 8]);
        assert!(matches!(read(&file), Err(ExportError::Damaged { offset: 10, .. })));
        assert!(matches!(read(b"nfcapd, perhaps"), Err(ExportError::Foreign(_))));
    }
}
