//! The loop: frames to flows to rows.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use procflow_capture::{Batch, CaptureFile};
use procflow_core::features::{Column, column};
use procflow_core::flow::{Meter, Settings};
use procflow_core::packet::Decoder;

use crate::args::Args;
use crate::failure::Failure;
use crate::output::Output;
use crate::report::Report;

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let began = Instant::now();
    let columns = chosen(args)?;
    let settings = settings(args, &columns);
    let path = Some(args.output.as_path()).filter(|_| !args.no_output);
    let mut output = Output::begin(columns, path)?;
    let mut meter = Meter::new(Decoder { tunnels: !args.no_tunnels }, settings);
    let mut records = 0;
    let mut read = Ok(());
    for file in &args.files {
        read = meter_file(file, &mut meter, &mut output, &mut records);
        if read.is_err() {
            break;
        }
    }
    meter.finish(&mut |record| {
        records += 1;
        output.take(&record);
    });
    output.finish()?;
    if !args.quiet {
        let report = Report { tally: meter.tally(), records, took: began.elapsed() };
        if args.json {
            eprintln!("{}", report.in_json());
        } else {
            eprintln!("extractor: {}", report.in_text());
        }
    }
    read.map(|()| ExitCode::SUCCESS)
}

/// The columns that are wanted.
fn chosen(args: &Args) -> Result<Vec<Column>, Failure> {
    if args.columns.is_empty() {
        return Ok(args.preset.columns.clone());
    }
    let find = |name: &String| {
        let own = args.preset.columns.iter().find(|column| column.name == name);
        own.or_else(|| column(name)).copied().ok_or_else(|| Failure::NoColumn(name.clone()))
    };
    args.columns.iter().map(find).collect()
}

fn settings(args: &Args, columns: &[Column]) -> Settings {
    let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    let seconds = |seconds: u32| nanos(Duration::from_secs(seconds.into()));
    let active = args.active_timeout.map_or(seconds(args.preset.active), nanos);
    Settings {
        idle: args.idle_timeout.map_or(seconds(args.preset.idle), nanos),
        active: if active == 0 { i64::MAX } else { active },
        capacity: args.capacity,
        accounting: args.accounting.map_or(args.preset.accounting, Into::into),
        first_packets: args.first_packets,
        needs: Column::all_need(columns),
        ..Settings::default()
    }
}

/// Meters one file, up to its end or to where it is damaged.
fn meter_file(
    path: &Path,
    meter: &mut Meter,
    output: &mut Output,
    records: &mut u64,
) -> Result<(), Failure> {
    let open = |source| Failure::Open { path: path.to_owned(), source };
    let input: Box<dyn Read> = match path == Path::new("-") {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(path).map_err(open)?),
    };
    let mut file = CaptureFile::new(input).map_err(open)?;
    let mut batch = Batch::default();
    loop {
        let read = file.next_batch(&mut batch);
        for (frame, bytes) in batch.frames() {
            meter.observe(frame.link_type, frame.time, bytes, frame.wire, &mut |record| {
                *records += 1;
                output.take(&record);
            });
        }
        read.map_err(|source| Failure::Capture { path: path.to_owned(), source })?;
        if batch.is_empty() || output.failed() {
            return Ok(());
        }
    }
}
