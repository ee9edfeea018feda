//! Captures (`--file CAPTURE -o OUT`): packets become flows by the extractor's cache, and get their names by
//! the same join as the flows of nfcapd files. Several are one capture, in the order in which they are named.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use procflow_binding::Join;
use procflow_capture::{CaptureFiles, FilesError};
use procflow_core::flow::{Filled, Make, Record, Tally, meter};
use procflow_core::packet::{Batch, Decoder};
use procflow_core::presets::preset;
use procflow_sink::{AsRows, Made, Output, SinkError, name};

use crate::decide::Wish;
use crate::summary::Summary;

/// Why a capture has no annotated flows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    /// The flows in front of a damaged place were written.
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error("{}: stopped; nothing of it is there", .0.display())]
    Stopped(PathBuf),
}

/// How captures begin: pcap of both byte orders in microseconds and nanoseconds, pcapng, gzip, zstd.
const MAGIC: [&[u8]; 7] = [
    &[0xd4, 0xc3, 0xb2, 0xa1],
    &[0xa1, 0xb2, 0xc3, 0xd4],
    &[0x4d, 0x3c, 0xb2, 0xa1],
    &[0xa1, 0xb2, 0x3c, 0x4d],
    &[0x0a, 0x0d, 0x0d, 0x0a],
    &[0x1f, 0x8b],
    &[0x28, 0xb5, 0x2f, 0xfd],
];

/// Whether a file is a capture, by how it begins.
pub(crate) fn is_capture(path: &Path) -> bool {
    let mut begin = Vec::new();
    let read = File::open(path).and_then(|file| file.take(4).read_to_end(&mut begin));
    read.is_ok() && MAGIC.iter().any(|magic| begin.starts_with(magic))
}

/// Makes flows, asks who made them, and writes them as rows.
struct Naming<'a> {
    join: &'a Join<'a>,
    wish: Wish<'a>,
    rows: AsRows<'a>,
    seen: Mutex<Summary>,
}

impl Make for Naming<'_> {
    type Made = Made;

    fn make(&self, record: &mut Record, made: &mut Made) {
        let who = self.join.attribute(&record.flow.flow_key(), record.flow.interval());
        let named = name(&who, self.wish.template, self.wish.miss).is_some();
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.flows.read += 1;
            seen.flows.named += u64::from(named);
            seen.count(&who);
        }
        self.rows.add(record, Some(&who), made);
    }
}

/// What became of captures.
pub(crate) struct Metered {
    pub(crate) tally: Tally,
    pub(crate) seen: Summary,
    /// Why not of all frames.
    pub(crate) failed: Option<FilesError>,
}

/// Writes the flows of some captures into one file, with their names.
pub(crate) fn annotate(
    files: &[PathBuf],
    out: &Path,
    join: &Join<'_>,
    wish: Wish<'_>,
    threads: usize,
    stop: &AtomicBool,
) -> Result<Metered, CaptureError> {
    let mut source = CaptureFiles::of(files);
    // Every column, those of processes among them.
    let full = preset("full");
    let columns = full.map(|preset| preset.columns.clone()).unwrap_or_default();
    let mut output = Output::begin(columns, Some(out), None)?;
    output.name_by(wish.template.clone(), wish.miss);
    let mut settings = full.map(|preset| preset.settings()).unwrap_or_default();
    settings.needs = output.needs();
    let naming = Naming { join, wish, rows: output.rows(None), seen: Mutex::default() };
    let next = |batch: &mut Batch| match stop.load(Ordering::Relaxed) {
        true => {
            batch.clear();
            Filled::Last
        }
        false => source.next(batch),
    };
    // What cannot be written is told by the end; nothing more is then.
    let take = |made: &Made, index: usize| {
        let _ = output.take(made, index);
    };
    let tally = meter(Decoder::default(), settings, threads, next, &naming, take);
    if stop.load(Ordering::Relaxed) {
        return Err(CaptureError::Stopped(out.to_owned()));
    }
    output.finish()?;
    let failed = source.finish();
    let seen = naming.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Metered { tally, seen, failed })
}
