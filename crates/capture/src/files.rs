//! Capture files as a source of frames: one after another, as one capture.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use procflow_core::flow::Filled;
use procflow_core::packet::Batch;

use crate::{CaptureFile, FileError};

/// Why capture files are not read to the last one's end.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// One cannot be opened.
    #[error("{}: {source}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// One is damaged; the frames in front of that place were handed out.
    #[error("{}: {source}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Where and why.
        source: FileError,
    },
}

/// Capture files one after another, up to the last one's end or to where one is damaged.
pub struct CaptureFiles<'a> {
    left: std::slice::Iter<'a, PathBuf>,
    open: Option<(&'a Path, CaptureFile<Box<dyn Read + Send>>)>,
    /// Octets read so far of files as they are on disk, and those of the files that are over.
    read: Arc<AtomicU64>,
    before: u64,
    /// Why it ended before the last file's end.
    failed: Option<FilesError>,
}

impl<'a> CaptureFiles<'a> {
    /// These files, `-` for standard input.
    #[must_use]
    pub fn of(files: &'a [PathBuf]) -> Self {
        let (left, read) = (files.iter(), Arc::default());
        Self { left, open: None, read, before: 0, failed: None }
    }

    /// Octets read so far of the files as they are on disk: told while others read.
    #[must_use]
    pub fn read(&self) -> Arc<AtomicU64> {
        self.read.clone()
    }

    /// How many octets there are to be read in all, if all files are of the kind that has an end.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        let one = |path: &PathBuf| {
            let metadata = path.metadata().ok().filter(|metadata| metadata.is_file());
            metadata.map(|metadata| metadata.len())
        };
        self.left.clone().map(one).sum()
    }

    /// Takes the next frames into a batch.
    pub fn next(&mut self, batch: &mut Batch) -> Filled {
        batch.clear();
        loop {
            if self.open.is_none() {
                let Some(path) = self.left.next() else { return Filled::Last };
                match open(path) {
                    Ok(file) => self.open = Some((path, file)),
                    Err(source) => {
                        self.failed = Some(FilesError::Open { path: path.clone(), source });
                        return Filled::Last;
                    }
                }
            }
            let Some((path, file)) = &mut self.open else { return Filled::Last };
            let read = file.next_batch(batch);
            self.read.store(self.before.saturating_add(file.position()), Ordering::Relaxed);
            if let Err(source) = read {
                self.failed = Some(FilesError::Damaged { path: path.to_path_buf(), source });
                return Filled::Last;
            }
            if batch.is_empty() {
                self.before = self.before.saturating_add(file.position());
                self.open = None;
                continue;
            }
            return Filled::More(None);
        }
    }

    /// Why it ended before the last file's end.
    #[must_use]
    pub fn finish(self) -> Option<FilesError> {
        self.failed
    }
}

fn open(path: &Path) -> io::Result<CaptureFile<Box<dyn Read + Send>>> {
    CaptureFile::new(match path == Path::new("-") {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(path)?),
    })
}
