//! A tally is the sum of a file's records as they go by: how many of each type, what they carry,
//! who sent them, and how their flows add up.
//!
//! It is handed each [`Record`] once, in the file's order, and keeps nothing of it, so its memory
//! has a bound whatever the file: 65536 record types, extensions and exporters (about 10 MB if a
//! file does its worst), the extension maps of layout 1 as the [`Reader`](crate::Reader) has them,
//! 4096 samplers and 1024 names.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    counters::{Counters, count},
    exporter::{self, Exporter, Sampler},
    file::Layout,
    frequent::Frequent,
    map::Maps,
    reader::Record,
    record::RecordType,
    stat::Stat,
};

/// The most samplers that are kept; an honest file has a few for each exporter.
const SAMPLERS: usize = 4096;

const SAMPLER_LEGACY: RecordType = RecordType(9);
const SAMPLER: RecordType = RecordType(15);

/// What was seen so far of a file.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use procflow_nfdump::{Reader, Tally};
///
/// let mut reader = Reader::new(std::fs::File::open("nfcapd.202611210110")?)?;
/// let mut tally = Tally::new(reader.header().layout());
/// while let Some(block) = reader.next_block()? {
///     for record in block {
///         tally.add(&record?);
///     }
/// }
/// println!("{} flows, {} bytes", tally.stat().all.flows, tally.stat().all.bytes);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Tally {
    layout: Layout,
    maps: Maps,
    record_types: BTreeMap<u16, u64>,
    extensions: BTreeMap<u16, u64>,
    exporters: BTreeMap<u16, Exporter>,
    samplers: BTreeSet<Sampler>,
    stat: Stat,
    flow_records: u64,
    named: u64,
    names: Frequent,
}

impl Tally {
    /// Nothing seen yet.
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            maps: Maps::default(),
            record_types: BTreeMap::new(),
            extensions: BTreeMap::new(),
            exporters: BTreeMap::new(),
            samplers: BTreeSet::new(),
            stat: Stat::default(),
            flow_records: 0,
            named: 0,
            names: Frequent::default(),
        }
    }

    /// Takes in the file's next record. Gives what it counts if it is a flow record; of early
    /// nfdump 1.6 (type 1) also `None`.
    pub fn add(&mut self, record: &Record<'_>) -> Option<Counters> {
        let Record { record_type, bytes, flow } = *record;
        *self.record_types.entry(record_type.0).or_default() += 1;
        match (self.layout, record_type) {
            // The reader has checked it.
            (Layout::One, RecordType::EXTENSION_MAP) => drop(self.maps.define(bytes)),
            (_, RecordType::EXPORTER_INFO) => {
                if let Some(exporter) = Exporter::parse(bytes) {
                    self.exporters.insert(exporter.sysid, exporter);
                }
            }
            (_, RecordType::EXPORTER_STAT) => {
                for (sysid, stat) in exporter::stats(bytes) {
                    let sysid = u16::try_from(sysid).ok();
                    if let Some(known) = sysid.and_then(|sysid| self.exporters.get_mut(&sysid)) {
                        known.stat = Some(stat);
                    }
                }
            }
            (_, SAMPLER_LEGACY | SAMPLER) if self.samplers.len() < SAMPLERS => {
                self.samplers.extend(Sampler::parse(bytes));
            }
            _ => {}
        }
        let counters = count(self.layout, &self.maps, (record_type, bytes, flow.as_ref()), |id| {
            *self.extensions.entry(id).or_default() += 1;
        });
        if let Some(counters) = &counters {
            self.flow_records += 1;
            self.stat.add(counters);
        }
        if let Some(name) = flow.and_then(|flow| flow.user_name) {
            self.named += 1;
            self.names.add(name);
        }
        counters
    }

    /// How many records there were of each type, in the order of their numbers.
    pub fn record_types(&self) -> impl Iterator<Item = (RecordType, u64)> {
        self.record_types.iter().map(|(&number, &count)| (RecordType(number), count))
    }

    /// How many times flow records carried each extension - elements of layout 2, what the maps of
    /// layout 1 list - in the order of their ids.
    pub fn extensions(&self) -> impl Iterator<Item = (u16, u64)> {
        self.extensions.iter().map(|(&id, &count)| (id, count))
    }

    /// The exporters, by their sysids. Of two records with one sysid the later counts.
    pub fn exporters(&self) -> impl Iterator<Item = &Exporter> {
        self.exporters.values()
    }

    /// The samplers, by exporter and id; never more than 4096.
    pub fn samplers(&self) -> impl Iterator<Item = &Sampler> {
        self.samplers.iter()
    }

    /// What the flows add up to. Sequence failures are not in flows: 0.
    pub fn stat(&self) -> &Stat {
        &self.stat
    }

    /// How many flow records there were: aggregated ones count once.
    pub fn flow_records(&self) -> u64 {
        self.flow_records
    }

    /// How many of them have a user name.
    pub fn named(&self) -> u64 {
        self.named
    }

    /// The `most` most frequent user names, each with at least how many flow records have it;
    /// longer ones than 128 bytes are cut there.
    pub fn names(&self, most: usize) -> Vec<(&[u8], u64)> {
        self.names.top(most)
    }

    /// By how much the counts of [`names`](Self::names) may be too low: 0 up to 1024 different
    /// names, at most a 1024th of the named flows otherwise.
    pub fn names_error(&self) -> u64 {
        self.names.error()
    }
}
