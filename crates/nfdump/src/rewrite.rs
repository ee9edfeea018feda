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
    io::{self, Read, Seek, Write},
};

use crate::{
    block::RawBlock,
    compress::Decompressor,
    error::{Error, ErrorKind},
    extension,
    file::{Header, Layout},
    flow::Flow,
    map::{self, Map, Maps},
    name::UserName,
    ordered::{Worker, alone, together},
    packer::Packer,
    reader::{Block, Current, Reader},
    record::{Parsed, RecordType, Slot, Walk},
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

impl Summary {
    fn add(&mut self, other: Self) {
        let Self { blocks, blocks_written, records, flows, named, replaced, kept, no_room } = other;
        self.blocks += blocks;
        self.blocks_written += blocks_written;
        self.records += records;
        self.flows += flows;
        self.named += named;
        self.replaced += replaced;
        self.kept += kept;
        self.no_room += no_room;
    }
}

/// Copies an nfcapd file, writing into each flow the name that `decide` puts into the buffer it
/// is given; an empty one leaves the flow as it is.
///
/// `decide` sees each flow once, in the file's order, with the name it has now. The buffer is
/// empty each time and is the only copy of a name, so nothing is allocated per flow.
///
/// The output may be opened fresh or stand anywhere in a larger one; it is left at its end,
/// flushed but not synced. Memory is bounded: as the [`Reader`]'s, and what becomes of a block, which
/// is less than three times as long, before and after compression.
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
    let mut source = open(input)?;
    let mut writer = Writer::new(output, source.reader.header())?;
    let one_by_one = |flows: &[Flow<'_>], names: &mut [UserName]| {
        for (flow, name) in flows.iter().zip(names) {
            decide(flow, name);
        }
    };
    let mut rewriter = Rewriter::new(source.reader.header(), one_by_one);
    alone(&mut source, &mut writer, &mut rewriter)?;
    close(source, writer, rewriter.summary).map(|(summary, _)| summary)
}

/// [`rewrite`], for whoever decides quicker about many flows than about each, and can do so in several
/// threads: there are as many as `deciders`, this one among them.
///
/// Nothing is written before something changes. Then `begin` is called, which gives an output, a file of
/// its own, that holds so many first bytes of the input; the rest follows. If nothing changes it is never
/// called, and there is no output.
///
/// A decider sees some flows that follow one another, at most [`MOST_AT_ONCE`], and as many empty
/// names. Each block's flows are seen by one of the deciders, in order; which one it is, is chance. The
/// file comes out the same.
///
/// Memory is bounded as [`rewrite`]'s, for each decider. Without any nobody is named.
///
/// # Errors
/// As for [`rewrite`], and when `begin` fails.
pub fn rewrite_many<R, W, F>(
    input: R,
    begin: impl FnOnce(u64) -> io::Result<W> + Send,
    deciders: &mut [F],
) -> Result<(Summary, Option<W>), Error>
where
    R: Read + Send,
    W: Write + Seek + Send,
    F: FnMut(&[Flow<'_>], &mut [UserName]) + Send,
{
    let mut source = open(input)?;
    let header = source.reader.header();
    let mut writer = Writer::late(begin, header);
    let mut rewriters: Vec<_> =
        deciders.iter_mut().map(|decide| Rewriter::new(header, decide)).collect();
    if rewriters.is_empty() {
        let mut nobody = Rewriter::new(header, |_: &[Flow<'_>], _: &mut [UserName]| ());
        alone(&mut source, &mut writer, &mut nobody)?;
        return close(source, writer, nobody.summary);
    }
    together(&mut source, &mut writer, &mut rewriters)?;
    let mut summary = Summary::default();
    rewriters.iter().for_each(|rewriter| summary.add(rewriter.summary));
    close(source, writer, summary)
}

/// What all blocks of a file share.
struct Source<R> {
    reader: Reader<R>,
    companions: Companions,
}

fn open<R: Read>(input: R) -> Result<Source<R>, Error> {
    let reader = Reader::new(input)?;
    if reader.header().in_progress() {
        return Err(Error::at(0, ErrorKind::InProgress));
    }
    Ok(Source { reader, companions: Companions::default() })
}

/// The appendix, and the header with the counts.
fn close<R: Read, W: Write + Seek, B: FnOnce(u64) -> io::Result<W>>(
    source: Source<R>,
    mut writer: Writer<W, B>,
    mut summary: Summary,
) -> Result<(Summary, Option<W>), Error> {
    let Source { mut reader, .. } = source;
    reader.end_file(|whole| writer.appendix(whole))?;
    let (blocks, output) = writer.finish(reader.header())?;
    summary.blocks_written = blocks;
    Ok((summary, output))
}

/// Rewrites one block after another.
struct Rewriter<F> {
    header: Header,
    layout: Layout,
    decide: F,
    /// The block as it is on disk, and which it is.
    raw: RawBlock,
    current: Option<Current>,
    decompressor: Decompressor,
    /// The block as it is to be, if anything of it changes.
    packer: Packer,
    changed: bool,
    /// Room for the names that are being decided.
    names: Vec<UserName>,
    summary: Summary,
}

impl<F: FnMut(&[Flow<'_>], &mut [UserName])> Rewriter<F> {
    fn new(header: &Header, decide: F) -> Self {
        let (layout, compression) = (header.layout(), header.compression());
        Self {
            header: header.clone(),
            layout,
            decide,
            raw: RawBlock::default(),
            current: None,
            decompressor: Decompressor::new(compression),
            packer: Packer::new(layout.block_type(), compression),
            changed: false,
            names: vec![UserName::new(); MOST_AT_ONCE],
            summary: Summary::default(),
        }
    }

    /// Puts the current block together anew.
    fn block(&mut self, walk: &mut Walk, companions: &mut Companions) -> Result<(), Error> {
        let Some(current) = self.current else { return Ok(()) };
        let disk = self.raw.payload();
        self.decompressor.decompress(disk).map_err(|kind| current.wrong(kind))?;
        let data = self.decompressor.plain(disk);
        self.packer.clear();
        let most = if self.layout == Layout::One { 1 } else { MOST_AT_ONCE };
        let mut naming = Naming {
            layout: self.layout,
            data,
            decide: &mut self.decide,
            names: &mut self.names[..most],
            flows: Vec::with_capacity(most),
            undecided: Vec::with_capacity(most),
            packer: &mut self.packer,
            companions,
            changed: false,
            summary: &mut self.summary,
        };
        naming.block(current.records(walk, data))?;
        self.changed = naming.changed;
        Ok(())
    }
}

impl<R, W, B, F> Worker<Source<R>, Writer<W, B>> for Rewriter<F>
where
    R: Read,
    W: Write + Seek,
    B: FnOnce(u64) -> io::Result<W>,
    F: FnMut(&[Flow<'_>], &mut [UserName]),
{
    fn take(&mut self, source: &mut Source<R>) -> Result<bool, Error> {
        self.current = source.reader.take_block(&mut self.raw)?;
        if self.current.is_some() && self.layout == Layout::One {
            // What its records mean depends on those in front of it.
            self.block(source.reader.walk(), &mut source.companions)?;
        }
        Ok(self.current.is_some())
    }

    fn work(&mut self) -> Result<(), Error> {
        if self.layout == Layout::Two {
            self.block(&mut Walk::new(self.layout, false), &mut Companions::default())?;
        }
        let Some(current) = self.current else { return Ok(()) };
        self.packer.pack().map_err(|kind| current.wrong(kind))
    }

    fn put(&mut self, writer: &mut Writer<W, B>) -> Result<(), Error> {
        if !self.changed {
            return writer.same(self.raw.whole());
        }
        let (whole, blocks) = self.packer.packed();
        writer.data(&self.header, whole, blocks)
    }
}

/// Naming the flows of one block.
struct Naming<'a, F> {
    layout: Layout,
    data: &'a [u8],
    decide: &'a mut F,
    /// Room for the names of as many flows as are decided at once. (In layout 1 that is one: the next
    /// record may define another map, and a flow needs the one that holds now.)
    names: &'a mut [UserName],
    /// Flows that were not decided yet, and their records.
    flows: Vec<Flow<'a>>,
    undecided: Vec<Undecided<'a>>,
    packer: &'a mut Packer,
    companions: &'a mut Companions,
    /// Something of the block was changed: what follows is put together anew.
    changed: bool,
    summary: &'a mut Summary,
}

/// A flow's record, which is not decided yet.
struct Undecided<'a> {
    /// Where it is in the block.
    at: usize,
    bytes: &'a [u8],
    slot: Slot,
}

impl<'a, F: FnMut(&[Flow<'_>], &mut [UserName])> Naming<'a, F> {
    fn block(&mut self, mut records: Block<'a>) -> Result<(), Error> {
        self.summary.blocks += 1;
        loop {
            let at = records.walked();
            let stepped = records.step();
            if let Ok(Some(Parsed { bytes, flow: Some(flow), slot, .. })) = stepped {
                self.flows.push(flow);
                self.undecided.push(Undecided { at, bytes, slot });
                if self.flows.len() == self.names.len() {
                    self.decide(records.maps());
                }
                continue;
            }
            // Whatever else it is, an error too, comes after those flows.
            self.decide(records.maps());
            let Some(record) = stepped? else { return Ok(()) };
            self.summary.records += 1;
            if self.layout == Layout::One && record.record_type == RecordType::EXTENSION_MAP {
                self.companions.redefined(map::id_of(record.bytes), records.maps());
            }
            if self.changed {
                self.packer.push(record.bytes);
            }
        }
    }

    /// Has names decided for the flows that are waiting, and adds their records.
    fn decide(&mut self, maps: &Maps) {
        if self.flows.is_empty() {
            return;
        }
        let names = std::mem::take(&mut self.names);
        let mut flows = std::mem::take(&mut self.flows);
        let mut undecided = std::mem::take(&mut self.undecided);
        let some = &mut names[..flows.len()];
        some.iter_mut().for_each(UserName::clear);
        (self.decide)(&flows, some);
        self.summary.records += some.len() as u64;
        self.summary.flows += some.len() as u64;
        for ((flow, record), name) in flows.drain(..).zip(undecided.drain(..)).zip(some) {
            let take = self.judge(&record, &flow, name, maps);
            if take && !self.changed {
                self.changed = true;
                self.packer.push_all(&self.data[..record.at]);
            }
            if take {
                self.push_named(&record, name);
            } else if self.changed {
                self.packer.push(record.bytes);
            }
        }
        (self.names, self.flows, self.undecided) = (names, flows, undecided);
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

    fn push_named(&mut self, record: &Undecided<'_>, name: &UserName) {
        let bytes = record.bytes;
        let most = bytes.len() + MOST_ADDED;
        match (self.layout, record.slot) {
            (_, Slot::None) => self.packer.push(bytes),
            (_, Slot::Field { at, room }) => self.packer.add(most, |block| {
                let start = block.len();
                block.extend_from_slice(bytes);
                let name = name.fitting(room);
                let field = &mut block[start + at..start + at + room];
                field[..name.len()].copy_from_slice(name);
                field[name.len()..].fill(0);
            }),
            (Layout::One, Slot::Insert(at)) => {
                let Some((id, map)) = self.companions.take(map::id_in_flow(bytes)) else {
                    // Unreached: `judge` made sure of it. Unnamed is better than misread.
                    return self.packer.push(bytes);
                };
                if let Some(map) = map {
                    self.packer.push(&map);
                }
                self.packer.add(most, |block| map::append_named(bytes, at, id, name, block));
            }
            (Layout::Two, Slot::Insert(_)) => {
                self.packer.add(most, |block| extension::append_named(bytes, name, block));
            }
            (_, Slot::Replace) => {
                self.packer.add(most, |block| extension::append_renamed(bytes, name, block));
            }
        }
    }
}

/// The most flows that [`rewrite_many`] hands over at once: what belongs to so many stays in the
/// processor's caches.
pub const MOST_AT_ONCE: usize = 64;

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
