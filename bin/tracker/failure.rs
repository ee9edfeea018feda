//! Why the tracker could not do its work, and the exit code for it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use procflow_probe::ProbeError;
use procflow_store::{ExportError, HistoryError, StateError};
use procflow_wire::{KeyError, TlsError};

/// Why the tracker could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error("--since is later than --until")]
    Backwards,
    #[error("{}: there is no history; --state says where the tracker keeps it", .0.display())]
    NoHistory(PathBuf),
    #[error("there is no history yet")]
    Empty,
    #[error("{}: {source}", path.display())]
    Key { path: PathBuf, source: KeyError },
    #[error(transparent)]
    Line(#[from] KeyError),
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the TLS library lacks the cipher that QUIC begins with")]
    Cipher,
    #[error("cannot serve {address}: {source}")]
    Bind { address: SocketAddr, source: io::Error },
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
    #[error("no source works on this host")]
    NoSource,
    #[error("there is no group {0:?}")]
    NoGroup(String),
    #[error("no home directory; say where to keep keys with --state DIR")]
    NoHome,
    #[error("the period must be between 1 ms and 1 s, not {}", humantime::format_duration(*.0))]
    Period(Duration),
    #[error("at least 1 MiB of events must be kept, in memory and on disk")]
    KeepTooLittle,
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::NoGroup(_)
            | Self::Line(_)
            | Self::Period(_)
            | Self::KeepTooLittle
            | Self::Backwards => 2,
            _ => 1,
        }
    }
}
