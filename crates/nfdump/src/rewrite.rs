//! To rewrite a file is to copy it with names written into flows, and nothing else changed.
//!
//! What stays as it was stays byte for byte: a block in which nothing is named is copied as it is
//! on disk, so a file in which nothing is named comes out identical, whatever its compression. A
//! block in which something is named is taken apart into blocks of at most 1 MiB (names make it
//! up to twice as large) and compressed as the file is.
//!
//! A name goes where nfdump looks for it:
//!
//! * Layout 2: element 24. One of the usual length is overwritten in place; otherwise it becomes
//!   the record's last element, and any others with that id are taken out.
//! * Layout 1: extension 43, or 42 (23 bytes) where a map already lists one of them. Where it does
//!   not, the record gets a second map, that of its own and 43, with an id nobody uses, put in
//!   front of its first use. Appending 43 to every map instead would need no second map, but all
//!   flows would carry 72 more bytes for the sake of those with names, and whether anything is to
//!   be named is not known when a map goes by.
//!
//! What becomes of files that are not as they should be is tabled in the crate's documentation,
//! where callers see it.

use std::{
    collections::HashMap,
    io::{Read, Seek, Write},
};

use crate::{
    block::FLUSH,
    compress::Compression,
    error::{Error, ErrorKind},
    extension,
    file::Layout,
    flow::Flow,
    map::{self, Map, Maps},
    name::UserName,
    reader::{Loaded, Reader},
    record::{Parsed, RecordType, Slot, frame},
    relay::{Sink, relay},
    writer::Writer,
};

/// What a rewrite did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Data blocks read.
    pub blocks: u32,
    /// Data blocks written.
    pub blocks_written: u32,
    /// Records read.
    pub records: u64,
    /// Flows among them.
    pub flows: u64,
    /// Flows that got a name.
    pub named: u64,
    /// Flows that got a name in place of another one, or the same; counted in `named` too.
    pub replaced: u64,
    /// Flows that had a name, got none, and kept it.
    pub kept: u64,
    /// Flows that got a name but have no room for it (records end at 65535 bytes, and the maps of
    /// layout 1 at 50 extensions): unchanged.
    pub no_room: u64,
}

/// Copies an nfcapd file, writing into each flow the name that `decide` puts into the buffer it
/// is given; an empty one leaves the flow as it is.
///
/// `decide` sees each flow once, in the file's order, with the name it has now. The buffer is
/// empty each time and is the only copy of a name, so nothing is allocated per flow.
///
/// The output may be opened fresh or stand anywhere in a larger one; it is left at its end,
/// flushed but not synced. Memory is bounded as the [`Reader`]'s, with two blocks more.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use procflow_nfdump::rewrite;
/// use std::fs::File;
///
/// let summary = rewrite(File::open("in.nfcapd")?, File::create("out.nfcapd")?, |flow, name| {
///     if flow.destination_port == 123 {
///         name.set("ntpd");
///     }
/// })?;
/// println!("{} of {} flows named", summary.named, summary.flows);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// When the input is not an nfcapd file that can be carried through faithfully - the
/// [table](crate#files-that-are-not-as-they-should-be) lists the cases - or reading or writing
/// fails. The output is then incomplete, which its header says.
pub fn rewrite<R, W, F>(input: R, output: W, mut decide: F) -> Result<Summary, Error>
where
    R: Read,
    W: Write + Seek,
    F: FnMut(&Flow<'_>, &mut UserName),
{
    let mut reader = open(input)?;
    let writer = Writer::new(output, reader.header())?;
    let one_by_one = |flows: &[Flow<'_>], names: &mut [UserName]| {
        for (flow, name) in flows.iter().zip(names) {
            decide(flow, name);
        }
    };
    let (summary, writer) = blocks(&mut reader, writer, one_by_one)?;
    close(reader, writer, summary)
}

/// [`rewrite`], for whoever decides quicker about many flows than about each: `decide` sees some flows
/// that follow one another, at most [`MOST_AT_ONCE`], and as many empty names.
///
/// Of a compressed file the blocks that are done are compressed and written on another thread
/// meanwhile; four blocks more are in memory. (Of others there is only the writing, and to hand a block
/// to another core costs more of both than that.)
///
/// # Errors
/// As for [`rewrite`].
pub fn rewrite_many<R, W, F>(input: R, output: W, decide: F) -> Result<Summary, Error>
where
    R: Read,
    W: Write + Seek + Send,
    F: FnMut(&[Flow<'_>], &mut [UserName]),
{
    let mut reader = open(input)?;
    let writer = Writer::new(output, reader.header())?;
    let (summary, writer) = if reader.header().compression() == Compression::None {
        blocks(&mut reader, writer, decide)?
    } else {
        relay(writer, |sink| blocks(&mut reader, sink, decide))?
    };
    close(reader, writer, summary)
}

fn open<R: Read>(input: R) -> Result<Reader<R>, Error> {
    let reader = Reader::new(input)?;
    if reader.header().in_progress() {
        return Err(Error::at(0, ErrorKind::InProgress));
    }
    Ok(reader)
}

/// Everything between the headers and the appendix.
fn blocks<R: Read, S: Sink>(
    reader: &mut Reader<R>,
    sink: S,
    mut decide: impl FnMut(&[Flow<'_>], &mut [UserName]),
) -> Result<(Summary, S), Error> {
    let mut rewriter = Rewriter {
        layout: reader.header().layout(),
        sink,
        pending: Vec::new(),
        pending_records: 0,
        names: vec![UserName::new(); MOST_AT_ONCE],
        companions: Companions::default(),
        summary: Summary::default(),
    };
    while reader.advance()? {
        if let Some(loaded) = reader.loaded() {
            rewriter.block(loaded, &mut decide)?;
        }
    }
    Ok((rewriter.summary, rewriter.sink))
}

/// The appendix, and the header with the counts.
fn close<R: Read, W: Write + Seek>(
    mut reader: Reader<R>,
    mut writer: Writer<W>,
    mut summary: Summary,
) -> Result<Summary, Error> {
    reader.end_file(|header, disk| writer.appendix(header, disk))?;
    summary.blocks_written = writer.finish(reader.header())?;
    Ok(summary)
}

struct Rewriter<S> {
    layout: Layout,
    sink: S,
    /// The block being put together.
    pending: Vec<u8>,
    pending_records: u32,
    /// Room for the names that are being decided.
    names: Vec<UserName>,
    companions: Companions,
    summary: Summary,
}

/// Flows of a block that were not decided yet, and their records.
struct Batch<'a> {
    flows: Vec<Flow<'a>>,
    records: Vec<Undecided<'a>>,
    /// Something of their block was changed: what follows is put together anew.
    changed: bool,
}

struct Undecided<'a> {
    /// All of the block in front of it.
    before: &'a [u8],
    bytes: &'a [u8],
    slot: Slot,
}

impl<S: Sink> Rewriter<S> {
    fn block(
        &mut self,
        loaded: Loaded<'_>,
        decide: &mut impl FnMut(&[Flow<'_>], &mut [UserName]),
    ) -> Result<(), Error> {
        let Loaded { header, disk, mut records } = loaded;
        let mut batch = Batch {
            flows: Vec::with_capacity(MOST_AT_ONCE),
            records: Vec::with_capacity(MOST_AT_ONCE),
            changed: false,
        };
        // In layout 1 the next record may define another map, and a flow needs the one that holds now.
        let together = if self.layout == Layout::One { 1 } else { MOST_AT_ONCE };
        self.summary.blocks += 1;
        loop {
            let before = records.walked();
            let stepped = records.step();
            if let Ok(Some(Parsed { bytes, flow: Some(flow), slot, .. })) = stepped {
                batch.flows.push(flow);
                batch.records.push(Undecided { before, bytes, slot });
                if batch.flows.len() == together {
                    self.decided(&mut batch, records.maps(), decide)?;
                }
                continue;
            }
            // Whatever else it is, an error too, comes after those flows.
            self.decided(&mut batch, records.maps(), decide)?;
            let Some(record) = stepped? else { break };
            self.summary.records += 1;
            if self.layout == Layout::One && record.record_type == RecordType::EXTENSION_MAP {
                self.companions.redefined(map::id_of(record.bytes), records.maps());
            }
            if batch.changed {
                self.push(record.bytes)?;
            }
        }
        if batch.changed { self.flush() } else { self.sink.copy(header, disk) }
    }

    /// Has the names of some flows decided, and pushes their records.
    fn decided(
        &mut self,
        batch: &mut Batch<'_>,
        maps: &Maps,
        decide: &mut impl FnMut(&[Flow<'_>], &mut [UserName]),
    ) -> Result<(), Error> {
        let mut names = std::mem::take(&mut self.names);
        let some = &mut names[..batch.flows.len()];
        some.iter_mut().for_each(UserName::clear);
        decide(&batch.flows, some);
        self.summary.records += some.len() as u64;
        self.summary.flows += some.len() as u64;
        for ((flow, record), name) in batch.flows.drain(..).zip(batch.records.drain(..)).zip(some) {
            let take = self.judge(&record, &flow, name, maps);
            if take && !batch.changed {
                batch.changed = true;
                self.push_all(record.before)?;
            }
            if take {
                self.push_named(&record, name)?;
            } else if batch.changed {
                self.push(record.bytes)?;
            }
        }
        self.names = names;
        Ok(())
    }

    /// Counts what becomes of a flow; whether its record changes.
    fn judge(
        &mut self,
        record: &Undecided<'_>,
        flow: &Flow<'_>,
        name: &UserName,
        maps: &Maps,
    ) -> bool {
        let had = flow.user_name.is_some();
        if name.is_empty() {
            self.summary.kept += u64::from(had);
            return false;
        }
        let changes = match record.slot {
            Slot::Field { at, room } => {
                // Naming a file again with the same names leaves it as it is.
                let (now, name) = (&record.bytes[at..at + room], name.fitting(room));
                !now.starts_with(name) || now[name.len()..].iter().any(|&byte| byte != 0)
            }
            Slot::Insert(_) | Slot::Replace => {
                let room = record.bytes.len() + MOST_ADDED <= usize::from(u16::MAX);
                if !(room && self.companion_exists(record, maps)) {
                    self.summary.no_room += 1;
                    return false;
                }
                true
            }
            Slot::None => return false,
        };
        self.summary.named += 1;
        self.summary.replaced += u64::from(had);
        changes
    }

    /// Makes sure that a flow of layout 1 has a map to be named with; layout 2 needs none.
    fn companion_exists(&mut self, record: &Undecided<'_>, maps: &Maps) -> bool {
        self.layout == Layout::Two || self.companions.ensure(map::id_in_flow(record.bytes), maps)
    }

    /// Flushes the pending block if `length` bytes more would make it too large.
    fn make_room(&mut self, length: usize) -> Result<(), Error> {
        if self.pending.len() + length > FLUSH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.pending_records > 0 {
            let block_type = self.layout.block_type();
            self.sink.block(block_type, self.pending_records, &mut self.pending)?;
        }
        self.pending_records = 0;
        Ok(())
    }

    fn push(&mut self, record: &[u8]) -> Result<(), Error> {
        self.make_room(record.len())?;
        self.pending.extend_from_slice(record);
        self.pending_records += 1;
        Ok(())
    }

    /// Pushes records that were walked before.
    fn push_all(&mut self, mut records: &[u8]) -> Result<(), Error> {
        while let Ok((_, record)) = frame(records) {
            self.push(record)?;
            records = &records[record.len()..];
        }
        Ok(())
    }

    fn push_named(&mut self, record: &Undecided<'_>, name: &UserName) -> Result<(), Error> {
        let companion = match (self.layout, record.slot) {
            (Layout::One, Slot::Insert(_)) => {
                let Some((id, map)) = self.companions.take(map::id_in_flow(record.bytes)) else {
                    // Unreached: `judge` made sure of it. Unnamed is better than misread.
                    return self.push(record.bytes);
                };
                if let Some(map) = map {
                    self.push(&map)?;
                }
                Some(id)
            }
            _ => None,
        };
        self.make_room(record.bytes.len() + MOST_ADDED)?;
        let pending = &mut self.pending;
        match (record.slot, companion) {
            (Slot::Field { at, room }, _) => {
                let start = pending.len();
                pending.extend_from_slice(record.bytes);
                let name = name.fitting(room);
                let field = &mut pending[start + at..start + at + room];
                field[..name.len()].copy_from_slice(name);
                field[name.len()..].fill(0);
            }
            (Slot::Insert(at), Some(id)) => map::append_named(record.bytes, at, id, name, pending),
            (Slot::Insert(_), None) => extension::append_named(record.bytes, name, pending),
            (Slot::Replace, _) => extension::append_renamed(record.bytes, name, pending),
            (Slot::None, _) => pending.extend_from_slice(record.bytes),
        }
        self.pending_records += 1;
        Ok(())
    }
}

/// The most flows that [`rewrite_many`] hands over at once: what belongs to so many stays in the
/// processor's caches.
pub const MOST_AT_ONCE: usize = 256;

/// The most a name adds to a record: element 24 or extension 43, 72 bytes either way.
const MOST_ADDED: usize = 72;

/// The second maps of a layout-1 file: for each map of its own whose flows were named, one that
/// lists a user name in addition.
///
/// The invariant: at any place in the output, `by_map[m]` if written is the map that readers have
/// under its id, and it lists what the input's map `m` lists at that place, and the name. A map of
/// the input's own that takes such an id, or changes `m`, therefore ends the pair.
#[derive(Default)]
struct Companions {
    by_map: HashMap<u16, Companion>,
    /// The map each companion's id belongs to.
    owners: HashMap<u16, u16>,
    /// Where to look for the next free id, so that not all taken ones are looked at each time.
    next: u16,
    /// No id was free once. Ids freed later are not looked for: no honest file has 65536 maps.
    full: bool,
}

struct Companion {
    id: u16,
    base: Map,
    written: bool,
}

impl Companions {
    /// Whether map `of` has a companion, or has one now.
    fn ensure(&mut self, of: u16, maps: &Maps) -> bool {
        if self.by_map.contains_key(&of) {
            return true;
        }
        let Some(base) = maps.get(of).filter(|base| base.has_room()) else {
            return false;
        };
        if self.full {
            return false;
        }
        let Some(id) = maps.free_id(self.next, |id| self.owners.contains_key(&id)) else {
            self.full = true;
            return false;
        };
        self.next = id.wrapping_add(1);
        self.owners.insert(id, of);
        self.by_map.insert(of, Companion { id, base: base.clone(), written: false });
        true
    }

    /// The id of the companion of map `of`, and its record when it is used for the first time.
    fn take(&mut self, of: u16) -> Option<(u16, Option<Vec<u8>>)> {
        let companion = self.by_map.get_mut(&of)?;
        let first = !std::mem::replace(&mut companion.written, true);
        Some((companion.id, first.then(|| companion.base.named().to_record(companion.id))))
    }

    /// Takes note that the input defined map `id`.
    fn redefined(&mut self, id: u16, maps: &Maps) {
        let changed = |companion: &Companion| maps.get(id) != Some(&companion.base);
        if self.by_map.get(&id).is_some_and(changed)
            && let Some(companion) = self.by_map.remove(&id)
        {
            self.owners.remove(&companion.id);
        }
        if let Some(of) = self.owners.remove(&id) {
            self.by_map.remove(&of);
        }
    }
}
