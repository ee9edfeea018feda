//! `updater salvage`: what is readable of a damaged file, in a new one.
//!
//! The new file is written beside its name as an update's is, synced, and given the name only if
//! nobody has it. The damaged one is not touched.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use procflow_nfdump::{Loss, Reader, Salvaged, salvage_with};
use serde_json::{Value, json};

use crate::args::SalvageArgs;
use crate::failure::Failure;
use crate::harmless;
use crate::show::{of_error, of_stat, print_json};
use crate::unfinished::{Unfinished, open_directory};

/// How many losses are told one by one; an honest file has a few.
const MOST: usize = 1000;

/// Why nothing was salvaged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SalvageError {
    #[error("{}: {source}", harmless::path(path))]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is not a regular file", harmless::path(.0))]
    NotAFile(PathBuf),
    #[error("{}: {source}", harmless::path(path))]
    File { path: PathBuf, source: procflow_nfdump::Error },
    #[error("{}: no flow of it is sound; no new file is written", harmless::path(.0))]
    Nothing(PathBuf),
    #[error("{} exists, and is left as it is", harmless::path(.0))]
    Exists(PathBuf),
    #[error("{} is not the name of a file", harmless::path(.0))]
    NoName(PathBuf),
}

/// Salvages one file.
pub(crate) fn salvage(args: &SalvageArgs) -> Result<ExitCode, Failure> {
    let mut told = Vec::new();
    let done = write(args, |loss| {
        if told.len() < MOST {
            told.push(in_json(loss));
            eprintln!("updater: {}: {}", harmless::path(&args.file), text(loss));
        }
    })?;
    let more = done.losses.saturating_sub(told.len() as u64);
    if more > 0 {
        eprintln!("updater: {}: and {more} more places", harmless::path(&args.file));
    }
    let mut output = io::stdout().lock();
    let printed = if args.json {
        print_json(&mut output, &summary_in_json(args, &done, told))
    } else {
        writeln!(output, "{}", summary(args, &done))
    };
    match printed {
        Err(source) if source.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::System { what: "cannot write to standard output", source })
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn write(args: &SalvageArgs, lost: impl FnMut(&Loss)) -> Result<Salvaged, SalvageError> {
    let (path, new) = (&args.file, &args.new);
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| SalvageError::Io { path, source }
    };
    let open = |path: &Path| {
        // Before it is opened: opening a FIFO would wait.
        let meta = path.metadata().map_err(io(path))?;
        if !meta.is_file() {
            return Err(SalvageError::NotAFile(path.to_owned()));
        }
        Ok((File::open(path).map_err(io(path))?, meta))
    };
    let at_fault = |path: &Path| {
        let path = path.to_owned();
        move |source| SalvageError::File { path, source }
    };
    let (damaged, meta) = open(path)?;
    let lent = match &args.header_of {
        None => None,
        Some(good) => Some(Reader::new(open(good)?.0).map_err(at_fault(good))?.header().clone()),
    };
    let name = new.file_name().ok_or_else(|| SalvageError::NoName(new.to_owned()))?;
    // It is not decided here, but when the file gets its name; this saves the work.
    if new.symlink_metadata().is_ok() {
        return Err(SalvageError::Exists(new.to_owned()));
    }
    let parent = new.parent().filter(|parent| *parent != OsStr::new(""));
    let directory = open_directory(parent.unwrap_or(Path::new("."))).map_err(io(new))?;
    let unfinished = Unfinished::create(&directory).map_err(io(new))?;
    let done = match lent {
        None => procflow_nfdump::salvage(damaged, &unfinished.file, lost),
        Some(lent) => salvage_with(damaged, &lent, &unfinished.file, lost),
    };
    let done = done.map_err(at_fault(path))?;
    if done.flow_records == 0 && done.losses > 0 {
        return Err(SalvageError::Nothing(path.to_owned()));
    }
    let mode = Permissions::from_mode(meta.permissions().mode() & 0o777);
    unfinished.file.set_permissions(mode).map_err(io(new))?;
    unfinished.file.sync_all().map_err(io(new))?;
    match unfinished.finish(name, false) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(SalvageError::Exists(new.to_owned()))
        }
        finished => finished.map(|()| done).map_err(io(new)),
    }
}

/// One loss, as a line.
fn text(loss: &Loss) -> String {
    let Loss { offset, length, kept, missing, appendix, ref error } = *loss;
    let missing = match (appendix, missing) {
        (true, _) => "the appendix, made anew".to_owned(),
        (false, Some(0)) => "nothing missing".to_owned(),
        (false, Some(missing)) => format!("about {missing} records missing"),
        (false, None) => "nobody knows how many records are missing".to_owned(),
    };
    format!("{length} bytes from offset {offset} on: {kept} records kept, {missing}: {error}")
}

fn in_json(loss: &Loss) -> Value {
    json!({
        "offset": loss.offset,
        "bytes": loss.length,
        "records_kept": loss.kept,
        "records_missing": loss.missing,
        "appendix": loss.appendix,
        "error": of_error(&loss.error),
    })
}

fn summary(args: &SalvageArgs, done: &Salvaged) -> String {
    let mut text = format!(
        "{}: {} flow records of {} data blocks",
        harmless::path(&args.new),
        done.flow_records,
        done.blocks
    );
    if done.losses == 0 {
        text.push_str(", nothing missing");
    } else {
        let (losses, missing) = (done.losses, done.missing);
        text.push_str(&format!(", damage in {losses} places, about {missing} records missing"));
        if done.unknown > 0 {
            text.push_str(&format!(" and those of {} places", done.unknown));
        }
    }
    if let Some(before) = done.stat_before.filter(|before| before.all.flows > done.stat.all.flows) {
        let (kept, all) = (done.stat.all.flows, before.all.flows);
        text.push_str(&format!("; {kept} of the {all} flows that its stat record counts"));
    }
    text
}

fn summary_in_json(args: &SalvageArgs, done: &Salvaged, losses: Vec<Value>) -> Value {
    json!({
        "file": args.file.to_string_lossy(),
        "new": args.new.to_string_lossy(),
        "blocks": done.blocks,
        "blocks_written": done.blocks_written,
        "records": done.records,
        "flow_records": done.flow_records,
        "stat_record": of_stat(&done.stat),
        "stat_record_before": done.stat_before.as_ref().map(of_stat),
        "places": done.losses,
        "damaged_bytes": done.damaged_bytes,
        "records_missing": done.missing,
        "places_of_unknown_loss": done.unknown,
        "losses": losses,
    })
}
