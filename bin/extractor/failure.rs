//! Why the extractor could not do its work, and the exit code for it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use procflow_capture::{FilesError, LiveError};
use procflow_core::dissect::RulesError;
use procflow_feed::{FeedError, TrustError};
use procflow_live::OpenError;
use procflow_probe::ProbeError;
use procflow_sink::SinkError;
use procflow_store::ExportError;

/// Why the extractor could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    /// What is in front of a damaged place was written.
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error("standard output: {0}")]
    Stdout(io::Error),
    #[error(transparent)]
    Live(#[from] LiveError),
    #[error(transparent)]
    History(#[from] ExportError),
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error("this host's sockets cannot be watched")]
    Watching,
    #[error("cannot find the own network namespace: {0}")]
    Namespace(io::Error),
    #[error("the tracked host has no such network namespace (--vantage)")]
    NoNamespace,
    #[error("cannot start: {0}")]
    Runtime(io::Error),
    #[error("{0:?} is not HOST:PORT")]
    NotATracker(String),
    #[error("--processes is for interfaces; of files a tracker may know (--tracker, --history)")]
    NotLive,
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
    #[error("{0:?} says what flows speak, and with --no-l7 nobody listens")]
    NotListened(&'static str),
    #[error("{}: {source}", path.display())]
    Rules { path: PathBuf, source: RulesError },
    #[error("--columns has {0:?} twice")]
    Twice(String),
    #[error("{}: there is no capture in it (.pcap, .pcapng, .cap; also .gz, .zst)", .0.display())]
    NoCaptures(PathBuf),
    #[error("{} and {} would have their rows in the same file", .0.display(), .1.display())]
    SameOutput(PathBuf, PathBuf),
    #[error(
        "--listen {0}: only an address of loopback, such as 127.0.0.1:8731; answers tell who talks to whom"
    )]
    NotLoopback(SocketAddr),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("the capture has ended")]
    Ended,
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Live(error) => Self::Live(error),
            OpenError::Thread(error) => Self::Runtime(error),
        }
    }
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::NoColumn(_)
            | Self::NotListened(_)
            | Self::Rules { .. }
            | Self::Twice(_)
            | Self::Mixed(_)
            | Self::NotATracker(_)
            | Self::NotLive
            | Self::NotLoopback(_)
            | Self::Live(LiveError::Filter { .. }) => 2,
            Self::Sink(error) if error.is_wrong_usage() => 2,
            Self::Feed(error) => error.exit_code(),
            Self::Trust(TrustError::Key { .. }) => 4,
            _ => 1,
        }
    }
}
