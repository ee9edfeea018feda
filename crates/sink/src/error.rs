//! Why rows cannot be written.

use std::io;
use std::path::PathBuf;

/// Why rows cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// A file cannot be written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Standard output cannot be written.
    #[error("standard output: {0}")]
    Stdout(io::Error),
    /// The name of a file does not say in which format it is to be.
    #[error(
        "{}: only what ends in .csv, .jsonl, .parquet or .nfcapd is known; - is standard output",
        .0.display()
    )]
    NoFormat(PathBuf),
    /// Standard output cannot be rotated.
    #[error("--rotate-size and --rotate-time need a file (-o)")]
    NothingToRotate,
}

impl SinkError {
    /// Whether it is what was asked for that is wrong.
    #[must_use]
    pub fn is_wrong_usage(&self) -> bool {
        matches!(self, Self::NoFormat(_) | Self::NothingToRotate)
    }
}
