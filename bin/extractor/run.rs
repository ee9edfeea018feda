//! The loop: frames to flows to rows.

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use procflow_capture::CaptureFile;
use procflow_core::features::{Column, column};
use procflow_core::flow::{Filled, Settings, meter};
use procflow_core::packet::{Batch, Decoder};
use procflow_core::rows::Rows;

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
    let rows = output.rows();
    let mut files = Files::of(&args.files);
    let stop = AtomicBool::new(false);
    let source = |batch: &mut Batch| match stop.load(Ordering::Relaxed) {
        true => {
            batch.clear();
            Filled::Last
        }
        false => files.next(batch),
    };
    let take = |made: &Rows, index: usize| {
        if output.take(made, index).is_break() {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let decoder = Decoder { tunnels: !args.no_tunnels };
    let tally = meter(decoder, settings, threads(args), source, &rows, take);
    output.finish()?;
    if !args.quiet {
        let report = Report { tally, took: began.elapsed() };
        if args.json {
            eprintln!("{}", report.in_json());
        } else {
            eprintln!("extractor: {}", report.in_text());
        }
    }
    files.failed.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// As many as there are processors, unless said.
fn threads(args: &Args) -> usize {
    let all = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    args.threads.map_or_else(all, NonZeroUsize::get)
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

/// Capture files one after another, up to the last one's end or to where one is damaged.
struct Files<'a> {
    left: std::slice::Iter<'a, PathBuf>,
    open: Option<(&'a Path, CaptureFile<Box<dyn Read + Send>>)>,
    failed: Option<Failure>,
}

impl<'a> Files<'a> {
    fn of(files: &'a [PathBuf]) -> Self {
        Self { left: files.iter(), open: None, failed: None }
    }

    fn next(&mut self, batch: &mut Batch) -> Filled {
        batch.clear();
        loop {
            if self.open.is_none() {
                let Some(path) = self.left.next() else { return Filled::Last };
                match open(path) {
                    Ok(file) => self.open = Some((path, file)),
                    Err(source) => {
                        self.failed = Some(Failure::Open { path: path.clone(), source });
                        return Filled::Last;
                    }
                }
            }
            let Some((path, file)) = &mut self.open else { return Filled::Last };
            if let Err(source) = file.next_batch(batch) {
                self.failed = Some(Failure::Capture { path: path.to_path_buf(), source });
                return Filled::Last;
            }
            if !batch.is_empty() {
                return Filled::More(None);
            }
            self.open = None;
        }
    }
}

fn open(path: &Path) -> io::Result<CaptureFile<Box<dyn Read + Send>>> {
    CaptureFile::new(match path == Path::new("-") {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(path)?),
    })
}
