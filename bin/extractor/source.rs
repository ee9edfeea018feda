//! Where frames come from: capture files or interfaces, whichever is named.

use std::path::{Path, PathBuf};

use procflow_capture::{CaptureFiles, Filter, LiveError, Statistics};
use procflow_core::flow::Filled;
use procflow_core::packet::Batch;

use crate::args::SourceArgs;
use crate::failure::Failure;
use crate::interfaces::Interfaces;
use crate::stop::Stop;

/// Where frames come from.
pub(crate) enum Source<'a> {
    Files(Wanted<'a>),
    Live(Interfaces),
}

/// Capture files, and which of their frames are wanted.
pub(crate) struct Wanted<'a> {
    pub(crate) files: CaptureFiles<'a>,
    filter: Option<Filter>,
    /// So many frames were not.
    filtered: u64,
    /// Why the filter did not work.
    failed: Option<LiveError>,
}

impl<'a> Wanted<'a> {
    fn of(args: &'a SourceArgs) -> Result<Self, Failure> {
        let filter = args.filter.as_deref().map(Filter::new).transpose()?;
        Ok(Self { files: CaptureFiles::of(&args.files), filter, filtered: 0, failed: None })
    }

    fn next(&mut self, batch: &mut Batch) -> Filled {
        let filled = self.files.next(batch);
        let Some(filter) = &mut self.filter else { return filled };
        let (before, failed) = (batch.len(), &mut self.failed);
        batch.retain(|frame, bytes| {
            let wants = filter.wants(frame.link_type, bytes);
            wants.unwrap_or_else(|error| {
                failed.get_or_insert(error);
                false
            })
        });
        self.filtered += (before - batch.len()) as u64;
        if self.failed.is_some() { Filled::Last } else { filled }
    }
}

impl<'a> Source<'a> {
    /// Whether what is named is interfaces: nothing of it is a file.
    pub(crate) fn is_live(args: &SourceArgs) -> Result<bool, Failure> {
        let is_file = |path: &PathBuf| {
            path == Path::new("-") || path.components().count() > 1 || path.exists()
        };
        let other = args.files.iter().find(|path| !is_file(path));
        match (args.files.iter().any(is_file), other) {
            (true, Some(other)) => Err(Failure::Mixed(other.clone())),
            (some, _) => Ok(!some),
        }
    }

    /// Opens what is named: files or interfaces.
    pub(crate) fn open(args: &'a SourceArgs, stop: &Stop) -> Result<Self, Failure> {
        if Self::is_live(args)? {
            return Interfaces::open(args, stop).map(Self::Live);
        }
        Wanted::of(args).map(Self::Files)
    }

    /// Takes the next frames into a batch. Files are over as soon as somebody wants to stop.
    pub(crate) fn next(&mut self, batch: &mut Batch, stop: &Stop) -> Filled {
        match self {
            Self::Files(_) if stop.is_wanted() => {
                batch.clear();
                Filled::Last
            }
            Self::Files(wanted) => wanted.next(batch),
            Self::Live(interfaces) => interfaces.next(batch),
        }
    }

    /// How many frames a filter left out, what the kernel says of interfaces, and why it ended too soon.
    pub(crate) fn finish(self) -> (u64, Option<Statistics>, Option<Failure>) {
        match self {
            Self::Files(Wanted { files, filtered, failed, .. }) => {
                let failed = failed.map(Failure::Live);
                (filtered, None, failed.or(files.finish().map(Failure::Files)))
            }
            Self::Live(interfaces) => {
                let (statistics, failed) = interfaces.finish();
                (0, Some(statistics), failed)
            }
        }
    }
}
