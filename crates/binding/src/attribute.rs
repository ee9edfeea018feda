//! Attribution: which process was behind each end of a flow - or an honest reason why not.
//!
//! These are the answers, as `docs/attribution.md` defines them. They come from one join,
//! [`crate::Histories::join`], which every program asks that names processes.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::event::GapCause;
use crate::process::{BootId, Details, Process, ProcessId};
use crate::socket::NamespaceId;
use crate::vantage::HostId;

/// Who was behind a flow, at both ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribution {
    /// Who sent.
    pub source: Owner,
    /// Who was sent to.
    pub destination: Owner,
}

/// Who was behind one end of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// These processes, in the order in which they held the socket.
    Known {
        /// At least one. Several when the socket was shared, or passed on, or when the record
        /// spans successive connections.
        holders: Vec<Holder>,
        /// How it was matched.
        quality: Quality,
    },
    /// The kernel itself: no process had a socket for it, or the kernel had one of its own.
    Kernel,
    /// Several fit, and neither time nor place separates them.
    Ambiguous {
        /// All who fit; may be empty where places fit but no process in them is known.
        candidates: Vec<Holder>,
    },
    /// Nobody can be named.
    Unknown(Reason),
}

/// A process that held a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// On which host.
    pub host: HostId,
    /// In which boot.
    pub boot: BootId,
    /// In which network namespace the socket lived.
    pub namespace: NamespaceId,
    /// The process, with its facts as they were then.
    pub process: Arc<Process>,
    /// What else is known of it, as it was then; `None` where nothing was told.
    pub details: Option<Arc<Details>>,
}

impl Holder {
    /// The process among all processes of all hosts.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        ProcessId { boot: self.boot, key: self.process.key }
    }

    /// Whether it is the same process, in the same place and with the same facts. Details do not
    /// count: they come late, and one process must not look like two.
    pub(crate) fn is(&self, other: &Self) -> bool {
        (self.host, self.boot, self.namespace) == (other.host, other.boot, other.namespace)
            && self.process == other.process
    }
}

/// How an owner was found, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quality {
    /// A socket with this very 5-tuple was seen while the flow lasted.
    Exact,
    /// A socket bound to the local endpoint, or to the wildcard address and its port, was seen
    /// while the flow lasted.
    LocalEndpoint,
    /// As exact or local endpoint, of a socket that somebody on the way translates.
    Translated,
    /// A listening socket was seen, but nobody who held the connection: it was not accepted (yet),
    /// or was over between two looks.
    Listener,
    /// The socket was seen shortly before or after, within the clock's tolerance or between two
    /// looks.
    Extrapolated,
}

impl Quality {
    /// Every quality, best first.
    pub const ALL: [Self; 5] =
        [Self::Exact, Self::LocalEndpoint, Self::Translated, Self::Listener, Self::Extrapolated];

    /// Whether the socket itself was observed while the flow lasted. What is not must be shown
    /// with a mark.
    #[must_use]
    pub fn is_observation(self) -> bool {
        matches!(self, Self::Exact | Self::LocalEndpoint | Self::Translated)
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Exact => "exact",
            Self::LocalEndpoint => "local-endpoint",
            Self::Translated => "translated",
            Self::Listener => "listener",
            Self::Extrapolated => "extrapolated",
        })
    }
}

/// Why nobody can be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No tracked place held the address at that time.
    NotThisHost,
    /// Before watching began, or before what is kept.
    BeforeHistory,
    /// The history does not reach there yet.
    NotYetKnown,
    /// Nobody watched, or what was seen got lost.
    Gap(GapCause),
    /// The socket was seen but its owner was not: accepted by nobody yet, closed before it was looked
    /// at, or hidden from the tracker for want of privileges.
    OwnerNotSeen,
    /// Watched, but no socket was seen that explains the flow.
    NotObserved,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NotThisHost => "not-this-host",
            Self::BeforeHistory => "before-history",
            Self::NotYetKnown => "not-yet-known",
            Self::Gap(GapCause::NotRunning) => "gap-tracker-not-running",
            Self::Gap(GapCause::EventsLost) => "gap-events-lost",
            Self::Gap(GapCause::Retention) => "gap-retention",
            Self::Gap(GapCause::SourceFailed) => "gap-source-failed",
            Self::OwnerNotSeen => "owner-not-seen",
            Self::NotObserved => "not-observed",
        })
    }
}

/// Whether an address means something on its own host (RFC 1122 section 3.2.1.3, RFC 4291 section
/// 2.5.3) or link (RFC 3927, RFC 4291 section 2.5.6) only.
pub(crate) fn is_never_elsewhere(address: IpAddr) -> bool {
    address.is_loopback()
        || match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        }
}

impl Owner {
    /// What kind of answer it is: known, kernel, ambiguous or unknown.
    #[must_use]
    pub fn answer(&self) -> &'static str {
        match self {
            Self::Known { .. } => "known",
            Self::Kernel => "kernel",
            Self::Ambiguous { .. } => "ambiguous",
            Self::Unknown(_) => "unknown",
        }
    }

    /// The quality of what is known, or why nobody can be named.
    #[must_use]
    pub fn why(&self) -> String {
        match self {
            Self::Known { quality, .. } => quality.to_string(),
            Self::Kernel => "kernel".to_owned(),
            Self::Ambiguous { .. } => "ambiguous".to_owned(),
            Self::Unknown(reason) => reason.to_string(),
        }
    }

    /// All processes that the answer names or considers.
    #[must_use]
    pub fn holders(&self) -> &[Holder] {
        match self {
            Self::Known { holders, .. } | Self::Ambiguous { candidates: holders } => holders,
            Self::Kernel | Self::Unknown(_) => &[],
        }
    }

    /// All processes that the answer names or considers.
    #[must_use]
    pub fn into_holders(self) -> Vec<Holder> {
        match self {
            Self::Known { holders, .. } => holders,
            Self::Ambiguous { candidates } => candidates,
            Self::Kernel | Self::Unknown(_) => Vec::new(),
        }
    }
}
