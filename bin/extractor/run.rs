//! The loop: frames to flows to rows.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use procflow_core::Timestamp;
use procflow_core::dissect::{DissectionSettings, Rules};
use procflow_core::features::{Column, Needs, OtherName, Vocabulary, column, process_columns};
use procflow_core::flow::{AsTheyAre, Record, Settings, Take, Tally, meter};
use procflow_core::packet::{Batch, Decoder};
use procflow_core::presets::Preset;
use procflow_sink::{Made, Output, Rotation};

use crate::args::{Args, DissectionArgs};
use crate::failure::Failure;
use crate::following::{Ended, follow};
use crate::performance::Performance;
use crate::processes::Processes;
use crate::progress::Progress;
use crate::report::Report;
use crate::source::Source;
use crate::stop::Stop;

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let stop = Stop::listen()?;
    let live = Source::is_live(&args.source)?;
    let mut processes = Processes::of(args, live, &stop)?;
    let done = make_rows(args, processes.as_mut(), &stop);
    if let Some(processes) = processes {
        processes.close();
    }
    let Done { report, failed, signal } = done?;
    if let Some(signal) = signal {
        return Ok(ExitCode::from(128 + signal));
    }
    if !args.quiet {
        let text = || format!("extractor: {}", report.in_text());
        let told = if args.json { report.in_json().to_string() } else { text() };
        // That nobody reads it makes the rows no worse.
        let _ = writeln!(io::stderr(), "{told}");
    }
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// Rows were made.
pub(crate) struct Done {
    pub(crate) report: Report,
    /// Why not of all frames.
    pub(crate) failed: Option<Failure>,
    /// The signal that stopped reading files; nothing was written then.
    pub(crate) signal: Option<u8>,
}

/// Makes the rows of what was named, and writes them.
pub(crate) fn make_rows(
    args: &Args,
    mut processes: Option<&mut Processes>,
    stop: &Stop,
) -> Result<Done, Failure> {
    let began = Instant::now();
    let columns = columns(args, processes.is_some())?;
    let path = Some(args.output.as_path()).filter(|_| !args.no_output);
    let mut output =
        Output::begin(columns, path, Rotation::of(args.rotate_size, args.rotate_time))?;
    if let Some(most) = args.max_flows {
        output.stop_after(most);
    }
    let settings = settings(args, output.needs())?;
    // After processes: what is captured belongs to a time that they are known of.
    let mut source = Source::open(&args.source, stop)?;
    if let Source::Live(live) = &source {
        output.write_at_once();
        if !args.quiet {
            eprintln!("extractor: capturing {}", live.names());
        }
    }
    let every = args.performance_report.filter(|every| !every.is_zero());
    let (performance, progress) = match (every, &source) {
        (Some(every), Source::Live(live)) => {
            (Some(Performance::every(every, Some(live.so_far()))), None)
        }
        (Some(every), Source::Files(_)) => (Some(Performance::every(every, None)), None),
        (None, Source::Files(wanted)) => {
            let files = &wanted.files;
            (None, Progress::of(args, files.read(), files.size()))
        }
        (None, Source::Live(_)) => (None, None),
    };
    let next = |batch: &mut Batch| source.next(batch, stop);
    let decoder = Decoder { tunnels: !args.no_tunnels };
    let threads = threads(args);
    let tally = if let Some(processes) = processes.as_mut().filter(|known| known.goes_on()) {
        let (follower, records) = sync_channel(WAITING);
        let handing = Handing { follower, performance };
        std::thread::scope(|scope| {
            let (output, settings) = (&mut output, &settings);
            scope.spawn(move || follow(&records, processes, output, settings, stop));
            // It goes when the meter is done, and whoever follows then ends.
            meter(decoder, *settings, threads, next, &AsTheyAre, handing)
        })
    } else {
        let rows = output.rows(processes.as_deref().map(Processes::join));
        let take = Taking { output: &mut output, stop, progress, performance };
        meter(decoder, settings, threads, next, &rows, take)
    };
    let (filtered, captured, failed) = source.finish();
    // What is not the whole of a file is not to look like it.
    let signal = stop.signal().filter(|_| captured.is_none());
    if signal.is_none() {
        output.finish()?;
    }
    let report = Report { tally, filtered, captured, took: began.elapsed() };
    Ok(Done { report, failed, signal })
}

/// So many records wait at most for whoever writes their rows.
const WAITING: usize = 4096;

/// Takes rows, stops when that is no use, and shows how far all is.
struct Taking<'a> {
    output: &'a mut Output,
    stop: &'a Stop,
    progress: Option<Progress>,
    performance: Option<Performance>,
}

impl Take<Made> for Taking<'_> {
    fn take(&mut self, made: &Made, index: usize) {
        if self.output.take(made, index).is_break() {
            self.stop.want();
        }
    }

    fn so_far(&mut self, tally: &Tally, until: Option<Timestamp>) {
        if let Some(progress) = &self.progress {
            progress.show(tally);
        }
        if let Some(performance) = &mut self.performance {
            performance.so_far(tally);
        }
        if until.is_some_and(|until| self.output.until(until).is_break()) {
            self.stop.want();
        }
    }
}

/// Hands records on to whoever follows with their rows; that listens for as long as there are any.
struct Handing {
    follower: SyncSender<Ended>,
    performance: Option<Performance>,
}

impl Take<Vec<Record>> for Handing {
    fn take(&mut self, made: &Vec<Record>, index: usize) {
        let _ = self.follower.send(Ended::Record(Box::new(made[index].clone())));
    }

    fn so_far(&mut self, tally: &Tally, until: Option<Timestamp>) {
        if let Some(performance) = &mut self.performance {
            performance.so_far(tally);
        }
        if let Some(until) = until {
            let _ = self.follower.send(Ended::Until(until));
        }
    }
}

/// As many as there are processors, unless said.
fn threads(args: &Args) -> usize {
    let all = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    args.threads.map_or_else(all, NonZeroUsize::get)
}

/// The columns that are wanted, by the names that are wanted.
fn columns(args: &Args, with_processes: bool) -> Result<Vec<Column>, Failure> {
    let mut columns = chosen(args, with_processes)?;
    if args.community_id && !columns.iter().any(|there| there.name == COMMUNITY_ID) {
        columns.extend(column(COMMUNITY_ID));
    }
    if let Some(names) = args.names {
        let vocabulary = Vocabulary::from(names);
        for chosen in &mut columns {
            // A preset may mean something else by the same name.
            let own = column(chosen.name).filter(|own| own.definition == chosen.definition);
            let other = own.and_then(|own| vocabulary.name(own.name));
            if let Some(other) = other.filter(OtherName::is_name_alone) {
                chosen.name = other.name;
            }
        }
    }
    Ok(columns)
}

const COMMUNITY_ID: &str = "community_id";

/// Those of the preset or of the command line: with those of processes behind them, if processes are at
/// hand.
fn chosen(args: &Args, with_processes: bool) -> Result<Vec<Column>, Failure> {
    if args.columns.is_empty() {
        let mut columns = args.preset.columns.clone();
        if args.dissection.no_l7 {
            columns.retain(|column| !column.needs.has(Needs::DISSECTION));
        }
        let processes = process_columns().into_iter().filter(|_| with_processes);
        for column in processes {
            if !columns.iter().any(|there| there.name == column.name) {
                columns.push(column);
            }
        }
        return Ok(columns);
    }
    let columns = named(args.preset, &args.columns)?;
    let speaks = columns.iter().find(|column| column.needs.has(Needs::DISSECTION));
    match speaks.filter(|_| args.dissection.no_l7) {
        Some(column) => Err(Failure::NotListened(column.name)),
        None => Ok(columns),
    }
}

/// The columns of these names, in the preset or among all.
pub(crate) fn named(preset: &Preset, names: &[String]) -> Result<Vec<Column>, Failure> {
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) {
            return Err(Failure::Twice(name.clone()));
        }
    }
    let find = |name: &String| {
        let own = preset.columns.iter().find(|column| column.name == name);
        own.or_else(|| column(name)).copied().ok_or_else(|| Failure::NoColumn(name.clone()))
    };
    names.iter().map(find).collect()
}

fn settings(args: &Args, needs: Needs) -> Result<Settings, Failure> {
    let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    let preset = args.preset.settings();
    let active = args.active_timeout.map_or(preset.active, nanos);
    Ok(Settings {
        idle: args.idle_timeout.map_or(preset.idle, nanos),
        active: if active == 0 { i64::MAX } else { active },
        capacity: args.capacity,
        accounting: args.accounting.map_or(preset.accounting, Into::into),
        first_packets: args.first_packets,
        needs,
        dissection: dissection(&args.dissection)?,
        ..preset
    })
}

fn dissection(args: &DissectionArgs) -> Result<DissectionSettings, Failure> {
    Ok(DissectionSettings {
        packets: args.dissections,
        paths: args.http_paths,
        rules: rules(&args.rules)?,
        ..DissectionSettings::default()
    })
}

/// The rules that are built in with those of these files; none without files.
fn rules(files: &[PathBuf]) -> Result<Option<&'static Rules>, Failure> {
    if files.is_empty() {
        return Ok(None);
    }
    let mut rules = Rules::shipped().clone();
    for path in files {
        let path = path.clone();
        match std::fs::read_to_string(&path) {
            Ok(text) => rules.add(&text).map_err(|source| Failure::Rules { path, source })?,
            Err(source) => return Err(Failure::Open { path, source }),
        }
    }
    // They are read once, and hold until the end.
    Ok(Some(Box::leak(Box::new(rules))))
}
