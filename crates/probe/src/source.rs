//! A source: something that can be asked again and again what happened to the host's sockets
//! since it was last asked.

use std::fmt;
use std::time::Duration;

use procflow_binding::{BootTime, Change, Coverage};

use crate::ProbeError;
use crate::polled::Polled;
use crate::portable::Portable;

/// One answer of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// What happened, in the order in which it can be applied, each with its time.
    pub changes: Vec<(BootTime, Change)>,
    /// Everything up to this moment has been told.
    pub watched_until: BootTime,
}

/// Where changes come from. Users ask and wait; whether a source looks or is told is its own
/// matter.
pub trait Source: Send {
    /// Its name, for people.
    fn name(&self) -> &'static str;

    /// How well it sees. The caller writes this down as [`Change::Watch`]; a source does not,
    /// because only the caller knows when a log begins.
    fn coverage(&self) -> Coverage;

    /// What it cannot see here, and what would have to change. Complete after the first
    /// successful [`Source::collect`]; may change with every later one.
    fn shortfalls(&self) -> &[Shortfall];

    /// What has become known since the last successful call: everything up to
    /// [`Batch::watched_until`], which stays where it was when the source finds that it is not yet
    /// time to look again. The first call lists what exists, and ends with [`Change::Listed`].
    ///
    /// Call it from a thread that does nothing else: it may take the calling thread into other
    /// network namespaces, and whatever else ran on that thread (an async task, say) would open
    /// its sockets there.
    ///
    /// # Errors
    /// When the system did not answer. Nothing is lost by that: the next call tells it, unless
    /// the error [is final](ProbeError::is_final).
    fn collect(&mut self) -> Result<Batch, ProbeError>;

    /// How long to wait from now to the next [`Source::collect`].
    fn pause(&self) -> Duration;
}

/// Which source to open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The best that works here.
    #[default]
    Auto,
    /// sock_diag(7) and procfs, or nothing.
    SockDiag,
    /// The netstat2 crate.
    Portable,
}

/// Something that a source cannot see here. Prints as a sentence: what is missing, and what is
/// lost by it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shortfall {
    /// The source looks every so often and is not told.
    Polled {
        /// From one look to the next.
        period: Duration,
    },
    /// sock_diag does not work, so netstat2 is used instead.
    NoSockDiag {
        /// Why it does not.
        because: String,
    },
    /// netstat2 was asked for.
    Netstat,
    /// The descriptors of some processes may not be read.
    HiddenProcesses {
        /// So many processes.
        count: usize,
        /// The capabilities that are missing for it. When none is, those processes are more
        /// privileged than this one, or protected (ptrace(2)).
        missing: Vec<&'static str>,
    },
    /// Other network namespaces may not be entered.
    OtherNamespaces,
    /// One network namespace could not be looked into.
    Namespace {
        /// Inode of its nsfs file.
        inode: u64,
        /// Why.
        because: String,
    },
    /// The source looks every so often, and oftener when it is told that something happens.
    Prompted {
        /// From one look to the next while nothing happens.
        period: Duration,
        /// From one look to the next at the fastest.
        fastest: Duration,
    },
    /// The kernel does not report the ends of sockets.
    NoReports {
        /// Why.
        because: String,
    },
    /// The kernel reports the ends of sockets in the own network namespace only.
    ReportsElsewhere {
        /// Why.
        because: String,
    },
    /// The kernel does not tell of processes that start.
    NoProcessEvents {
        /// Why.
        because: String,
    },
    /// The kernel told faster than was read, and dropped what was too much.
    Overrun {
        /// What it told of.
        what: &'static str,
        /// How often.
        times: u64,
    },
    /// The own pid namespace is not the host's.
    PidNamespace,
    /// The system tells nothing about a process but its pid.
    ProcessDetails,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Polled { period } => write!(
                f,
                "the kernel is asked every {period:?} and does not tell by itself: sockets that \
                 live shorter than that can be missed"
            ),
            Self::NoSockDiag { because } => write!(
                f,
                "sock_diag does not work ({because}): other network namespaces, peers of UDP \
                 sockets and the reuse of a tuple between two looks are not seen"
            ),
            Self::Netstat => f.write_str(
                "netstat2 was chosen: other network namespaces, peers of UDP sockets and the \
                 reuse of a tuple between two looks are not seen",
            ),
            Self::HiddenProcesses { count, missing } => {
                match missing.as_slice() {
                    [] => f.write_str("others are better protected than this one is privileged")?,
                    [one] => write!(f, "{one} is missing")?,
                    several => write!(f, "{} are missing", several.join(" and "))?,
                }
                write!(f, ": sockets of {count} processes show no owner")
            }
            Self::OtherNamespaces => f.write_str(
                "CAP_SYS_ADMIN is missing: sockets and addresses of other network namespaces \
                 (containers) are not seen",
            ),
            Self::Namespace { inode, because } => write!(
                f,
                "network namespace net:[{inode}] could not be looked into ({because}): its \
                 sockets and addresses are not seen"
            ),
            Self::Prompted { period, fastest } => write!(
                f,
                "the kernel is asked every {period:?}, and up to every {fastest:?} while it tells \
                 that processes start or sockets end: of sockets that live shorter than that the \
                 owner can be missed, and of those that pass no look, all but their end"
            ),
            Self::NoReports { because } => write!(
                f,
                "the kernel does not report the ends of sockets ({because}): ends are dated to \
                 between two looks, and sockets that live shorter than that can be missed"
            ),
            Self::ReportsElsewhere { because } => write!(
                f,
                "the kernel reports the ends of sockets in the own network namespace only \
                 ({because}; it takes CAP_NET_ADMIN and CAP_NET_BROADCAST): in others, \
                 ends are dated to between two looks, and sockets that live shorter than that can \
                 be missed"
            ),
            Self::NoProcessEvents { because } => write!(
                f,
                "the kernel does not tell of processes that start ({because}; it takes \
                 CAP_NET_ADMIN in the host's own network, pid and user namespace): sockets of \
                 processes that live shorter than from one look to the next are missed more often"
            ),
            Self::Overrun { what, times } => write!(
                f,
                "the kernel told of {what} faster than could be read, {times} times: what was \
                 dropped is only found by looking"
            ),
            Self::PidNamespace => f.write_str(
                "this is not the host's pid namespace: sockets of processes outside it show no \
                 owner",
            ),
            Self::ProcessDetails => f.write_str(
                "this system tells only pids: names, users and start times of processes are not \
                 known",
            ),
        }
    }
}

/// Opens a source: with [`Choice::Auto`] the best that works, and its
/// [shortfalls](Source::shortfalls) say why it is not a better one.
///
/// `period`: from one look to the next, where the source has to look. 100 ms is a good one; a
/// look that takes longer than half of it lowers the rate (see [`Source::pause`]).
///
/// # Errors
/// When the chosen source does not work here, or with [`Choice::Auto`] none does.
pub fn open(choice: Choice, period: Duration) -> Result<Box<dyn Source>, ProbeError> {
    let because = match choice {
        Choice::Auto | Choice::SockDiag => match sock_diag(period) {
            Ok(source) => return Ok(source),
            Err(error) if choice == Choice::SockDiag => return Err(error),
            Err(error) => Shortfall::NoSockDiag { because: error.to_string() },
        },
        Choice::Portable => Shortfall::Netstat,
    };
    Ok(Box::new(Polled::new(Portable::open(because, period)?, period)))
}

#[cfg(target_os = "linux")]
fn sock_diag(period: Duration) -> Result<Box<dyn Source>, ProbeError> {
    let looks = crate::look::Looks::open(period)?;
    Ok(Box::new(Polled::new(looks, period)))
}

#[cfg(not(target_os = "linux"))]
fn sock_diag(_: Duration) -> Result<Box<dyn Source>, ProbeError> {
    Err(ProbeError::Absent("sock_diag"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortfall_names_what_is_missing_and_what_is_lost() {
        let said = Shortfall::OtherNamespaces.to_string();
        assert!(said.contains("CAP_SYS_ADMIN") && said.contains("not seen"));
        let hidden = |missing| Shortfall::HiddenProcesses { count: 3, missing }.to_string();
        assert_eq!(
            hidden(vec!["CAP_SYS_PTRACE"]),
            "CAP_SYS_PTRACE is missing: sockets of 3 processes show no owner"
        );
        assert!(hidden(Vec::new()).starts_with("others are better protected"));
    }
}
