//! Why the extractor could not do its work, and the exit code for it.

use std::io;
use std::path::PathBuf;

use procflow_capture::{FileError, LiveError};
use procflow_store::ExportError;

/// Why the extractor could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    /// A capture is damaged; the flows in front of that place were written.
    #[error("{}: {source}", path.display())]
    Capture { path: PathBuf, source: FileError },
    #[error("{}: {source}", path.display())]
    Output { path: PathBuf, source: io::Error },
    #[error("standard output: {0}")]
    Stdout(io::Error),
    #[error(transparent)]
    Live(#[from] LiveError),
    #[error(transparent)]
    History(#[from] ExportError),
    #[error("{}: the tracker knows no such network namespace (--vantage)", .0.display())]
    NoNamespace(PathBuf),
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    #[error("cannot read the routes: {0}")]
    Routes(io::Error),
    #[error("there is no default route; say which interface (extractor interfaces lists them)")]
    NoRoute,
    #[error("{} is no file, and files cannot be metered together with interfaces", .0.display())]
    Mixed(PathBuf),
    #[error("{0:?} is not a column; `extractor columns` lists them")]
    NoColumn(String),
    #[error("--columns has {0:?} twice")]
    Twice(String),
    #[error("{}: what ends neither in .csv nor in .jsonl is not known; - is standard output", .0.display())]
    NoFormat(PathBuf),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::NoColumn(_)
            | Self::Twice(_)
            | Self::NoFormat(_)
            | Self::Mixed(_)
            | Self::Live(LiveError::Filter { .. }) => 2,
            _ => 1,
        }
    }
}
