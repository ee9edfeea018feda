//! The flows of a capture as CSV on standard output, with the columns of plugins behind a few of all.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;

use procflow_capture::CaptureFile;
use procflow_core::features::{Column, column};
use procflow_core::flow::{Filled, Make, Record, Settings, meter_with};
use procflow_core::packet::{Batch, Decoder};
use procflow_core::plugin::Plugins;
use procflow_core::rows::{Format, Rows, header};

/// What stands in front of what plugins say.
const COLUMNS: [&str; 8] = [
    "source_address",
    "source_port",
    "destination_address",
    "destination_port",
    "protocol",
    "forward_packets",
    "reverse_packets",
    "end_reason",
];

struct AsCsv(Vec<Column>);

impl Make for AsCsv {
    type Made = Rows;

    fn make(&self, record: &mut Record, made: &mut Rows) {
        made.add(Format::Csv, &self.0, record);
    }
}

/// Prints a row for each flow.
pub(crate) fn print(path: &Path, plugins: &Plugins) -> Result<(), Box<dyn Error>> {
    let mut columns: Vec<Column> =
        COLUMNS.iter().filter_map(|name| column(name).copied()).collect();
    columns.extend(plugins.columns());
    let settings = Settings { needs: Column::all_need(&columns), ..Settings::default() };
    let mut file = CaptureFile::open(path)?;
    let mut failed = None;
    let source = |batch: &mut Batch| {
        // In front of what cannot be read there may be frames.
        failed = file.next_batch(batch).err();
        if batch.is_empty() || failed.is_some() { Filled::Last } else { Filled::More(None) }
    };
    let mut text = Vec::new();
    header(Format::Csv, &columns, &mut text);
    let (make, mut number) = (AsCsv(columns), 0);
    let mut written = Ok(());
    let take = |rows: &Rows, index: usize| {
        rows.copy(index, number, &mut text);
        number += 1;
        if written.is_ok() {
            written = io::stdout().write_all(&text);
        }
        text.clear();
    };
    let tally = meter_with(plugins, Decoder::default(), settings, 2, source, &make, take);
    match written {
        // Whoever reads has enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        written => written?,
    }
    // The names, if no row took them along.
    io::stdout().write_all(&text)?;
    eprintln!("{} frames, {} records", tally.frames, tally.records);
    failed.map_or(Ok(()), |error| Err(error.into()))
}
