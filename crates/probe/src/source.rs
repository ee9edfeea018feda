//! A source: something that can be asked again and again what happened to the host's sockets
//! since it was last asked.

use std::fmt;
use std::time::Duration;

use procflow_binding::{BootTime, Change, Coverage, ProcessKey};

use crate::ProbeError;
use crate::polled::Polled;
use crate::portable::Portable;
use crate::redact::Redaction;

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

    /// Whether what happens between two calls is kept for the next one, however late that comes (as
    /// far as there is room, and what there was none for is told as a gap). Where it is not, a late
    /// call has missed something.
    fn keeps_up(&self) -> bool {
        false
    }

    /// What the kernel was to tell, what of it arrived and what was lost; empty where the kernel does
    /// not tell. What is neither is still on its way.
    fn counts(&mut self) -> Vec<Count> {
        Vec::new()
    }
}

/// What the rest of this crate asks a source beside.
pub(crate) trait Informed: Source {
    /// Whether it tells the details of processes by itself, as they were when they mattered.
    fn tells_details(&self) -> bool {
        false
    }

    /// Which file a process runs, where the kernel told that.
    #[cfg(target_os = "linux")]
    fn runs(&self, process: ProcessKey) -> Option<crate::digest::Running> {
        let _ = process;
        None
    }
}

/// How many events of one kind there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The kind, for people.
    pub name: &'static str,
    /// As counted in the kernel.
    pub attempted: u64,
    /// As they arrived.
    pub consumed: u64,
    /// As counted in the kernel, for want of room.
    pub lost: u64,
}

/// Which source to open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The best that works here.
    #[default]
    Auto,
    /// Programs in the kernel that tell of every socket, or nothing.
    Ebpf,
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
    /// The kernel does not tell by itself.
    NoEbpf {
        /// Why it does not.
        because: String,
        /// What would have to change, where something would.
        remedy: Option<String>,
    },
    /// One of the programs in the kernel cannot be used.
    Program {
        /// Its name.
        program: &'static str,
        /// Why not.
        because: String,
        /// What is lost.
        lost: &'static str,
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
    /// Executables came faster than their digests could be computed.
    Digests {
        /// Of so many processes none was computed.
        dropped: u64,
    },
    /// Address translations cannot be seen.
    NoTranslations {
        /// Why not.
        because: String,
    },
    /// The kernel does not tell of address translations by itself.
    PolledTranslations {
        /// Why not.
        because: String,
    },
    /// There are more address translations than are kept.
    TooManyTranslations {
        /// So many are kept.
        most: usize,
    },
}

impl Shortfall {
    /// What would have to change to see it, where something can.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        let text = match self {
            Self::NoEbpf { remedy, .. } => return remedy.clone(),
            Self::HiddenProcesses { missing, .. } if !missing.is_empty() => {
                return Some(format!("run it as root, or with {}", missing.join(" and ")));
            }
            Self::OtherNamespaces => "run it as root, or with CAP_SYS_ADMIN",
            Self::PidNamespace => "run it in the host's pid namespace (docker run --pid=host)",
            Self::NoSockDiag { .. } => "run a kernel with CONFIG_INET_DIAG",
            Self::NoTranslations { .. } | Self::PolledTranslations { .. } => {
                "run it as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN"
            }
            Self::ReportsElsewhere { .. } => {
                "run it as root, or with CAP_NET_ADMIN and CAP_NET_BROADCAST"
            }
            Self::NoProcessEvents { .. } => {
                "run it as root, or with CAP_NET_ADMIN, in the host's network, pid and user namespaces"
            }
            Self::Program { .. } => "run a newer kernel (6.3 knows all programs)",
            _ => return None,
        };
        Some(text.to_owned())
    }
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Polled { period } => write!(
                f,
                "the kernel is asked every {period:?} and does not tell by itself: sockets that \
                 live shorter than that can be missed"
            ),
            Self::NoEbpf { because, .. } => write!(
                f,
                "eBPF does not work ({because}): the kernel does not tell who opens which socket, and \
                 of those that live shorter than the time between two looks the owner can be missed"
            ),
            Self::Program { program, because, lost } => {
                write!(f, "the eBPF program {program} does not work ({because}): {lost}")
            }
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
            Self::Digests { dropped } => write!(
                f,
                "digests of executables are computed more slowly than processes start: {dropped} \
                 processes have none"
            ),
            Self::NoTranslations { because } => write!(
                f,
                "conntrack does not answer ({because}): flows whose addresses this host translates \
                 (NAT) are not found inside"
            ),
            Self::PolledTranslations { because } => write!(
                f,
                "conntrack does not tell its events ({because}) and is asked every 2s: address \
                 translations can be dated that inexactly"
            ),
            Self::TooManyTranslations { most } => write!(
                f,
                "more than {most} address translations at once: the rest is not kept, and its flows \
                 are not found inside"
            ),
        }
    }
}

/// How sources are set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// From one look to the next, where the source has to look. 100 ms is a good one; a look that
    /// takes longer than half of it lowers the rate (see [`Source::pause`]).
    pub period: Duration,
    /// Bytes of the ring through which the kernel tells. A reader that stands still loses events once
    /// it is full; 32 MiB hold about 300,000.
    pub ring: usize,
    /// How the command lines of processes are redacted that are told; `None` tells none.
    pub arguments: Option<Redaction>,
    /// Whether the SHA-256 of executables is told, once it is computed.
    pub digests: bool,
    /// Programs that are not used, as if the kernel had refused them: for tests, and for a host on
    /// which one of them is in the way.
    pub leave_out: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        let period = Duration::from_millis(100);
        Self { period, ring: 32 << 20, arguments: None, digests: false, leave_out: Vec::new() }
    }
}

/// Opens a source: with [`Choice::Auto`] the best that works, and its
/// [shortfalls](Source::shortfalls) say why it is not a better one.
///
/// # Errors
/// When the chosen source does not work here, or with [`Choice::Auto`] none does.
pub fn open(choice: Choice, options: &Options) -> Result<Box<dyn Source>, ProbeError> {
    detailed(chosen(choice, options)?, options)
}

#[cfg(target_os = "linux")]
fn detailed(source: Box<dyn Informed>, options: &Options) -> Result<Box<dyn Source>, ProbeError> {
    Ok(Box::new(crate::detailed::Detailed::new(source, options)?))
}

#[cfg(not(target_os = "linux"))]
fn detailed(source: Box<dyn Informed>, _: &Options) -> Result<Box<dyn Source>, ProbeError> {
    Ok(source)
}

fn chosen(choice: Choice, options: &Options) -> Result<Box<dyn Informed>, ProbeError> {
    let period = options.period;
    let mut worse = Vec::new();
    if matches!(choice, Choice::Auto | Choice::Ebpf) {
        match ebpf(options) {
            Ok(source) => return Ok(source),
            Err(error) if choice == Choice::Ebpf => return Err(error),
            Err(error) => {
                worse.push(Shortfall::NoEbpf { because: error.to_string(), remedy: error.remedy() })
            }
        }
    }
    if matches!(choice, Choice::Auto | Choice::SockDiag) {
        match sock_diag(period, worse.clone()) {
            Ok(source) => return Ok(source),
            Err(error) if choice == Choice::SockDiag => return Err(error),
            Err(error) => worse.push(Shortfall::NoSockDiag { because: error.to_string() }),
        }
    } else {
        worse.push(Shortfall::Netstat);
    }
    Ok(Box::new(Polled::new(Portable::open(worse, period)?, period)))
}

#[cfg(have_bpf)]
fn ebpf(options: &Options) -> Result<Box<dyn Informed>, ProbeError> {
    Ok(Box::new(crate::ebpf::Told::open(options)?))
}

#[cfg(not(have_bpf))]
fn ebpf(_: &Options) -> Result<Box<dyn Informed>, ProbeError> {
    Err(if cfg!(target_os = "linux") { ProbeError::NotBuilt } else { ProbeError::Absent("eBPF") })
}

#[cfg(target_os = "linux")]
fn sock_diag(period: Duration, worse: Vec<Shortfall>) -> Result<Box<dyn Informed>, ProbeError> {
    let looks = crate::look::Looks::open(period, worse)?;
    Ok(Box::new(Polled::new(looks, period)))
}

#[cfg(not(target_os = "linux"))]
fn sock_diag(_: Duration, _: Vec<Shortfall>) -> Result<Box<dyn Informed>, ProbeError> {
    Err(ProbeError::Absent("sock_diag"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A missing compiler must not go unnoticed where the product is checked.
    #[test]
    fn where_it_is_checked_the_programs_are_built() {
        if std::env::var_os("CI").is_some() && cfg!(all(target_os = "linux", not(have_bpf))) {
            panic!("clang is missing: the eBPF source was not built");
        }
    }

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
