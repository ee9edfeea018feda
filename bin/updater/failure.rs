//! Why the updater could not do its work, and the exit code for it.

use std::io;
use std::path::PathBuf;

use procflow_feed::{FeedError, TrustError};
use procflow_sink::SinkError;
use procflow_store::{ExportError, StateError};

use crate::salvage::SalvageError;

/// Why the updater could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    History(#[from] ExportError),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error(transparent)]
    Salvage(#[from] SalvageError),
    #[error("{}: {source}", path.display())]
    Path { path: PathBuf, source: io::Error },
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
    #[error("--output takes the files of one directory only: those of several may have one name")]
    OneOutput,
    #[error("{}: a capture needs --output OUT, a file that ends in .nfcapd, .csv, .jsonl or .parquet", .0.display())]
    NoOutput(PathBuf),
    #[error("{} is a capture and {} is none; name them in two updates", .0.display(), .1.display())]
    MixedFiles(PathBuf, PathBuf),
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error("{0:?} is not HOST:PORT")]
    NotATracker(String),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::NotATracker(_)
            | Self::OneOutput
            | Self::NoOutput(_)
            | Self::MixedFiles(..)
            | Self::Sink(_) => 2,
            Self::Feed(error) => error.exit_code(),
            Self::Trust(TrustError::NoHome) => 1,
            Self::Trust(_) => 4,
            _ => 1,
        }
    }
}
