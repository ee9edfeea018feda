//! What can go wrong when the kernel is asked, with what was tried.

use std::io;
use std::path::PathBuf;

/// A question that the system did not answer.
///
/// A source that fails once may be asked again, and then tells everything since its last
/// successful answer; only [`ProbeError::Stranded`] is final.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// A file could not be opened or read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file held something else than is documented for it.
    #[error("{}: {text:?} is not what is documented for it", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What it held.
        text: String,
    },
    /// A system call failed.
    #[error("{call}: {source}")]
    Call {
        /// What was called, and what for.
        call: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused a sock_diag dump, usually because it was built without it.
    #[error("sock_diag dump of {table}: {source}")]
    Dump {
        /// Which sockets were asked for.
        table: &'static str,
        /// Why.
        source: io::Error,
    },
    /// What came over the sock_diag socket is not a sock_diag answer.
    #[error("sock_diag dump of {table}: malformed answer ({what})")]
    Malformed {
        /// Which sockets were asked for.
        table: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// What came over a netlink socket is not what the kernel sends.
    #[error("netlink: malformed answer ({what})")]
    Netlink {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The table changed during each of so many dumps.
    #[error("sock_diag dump of {table}: interrupted {times} times in a row")]
    Interrupted {
        /// Which sockets were asked for.
        table: &'static str,
        /// How often it was tried.
        times: u32,
    },
    /// The thread entered another network namespace and could not return. Final: everything this
    /// thread did from now on would happen in a stranger's network.
    #[error("cannot return to the own network namespace: {source}")]
    Stranded {
        /// Why.
        source: io::Error,
    },
    /// The netstat2 crate failed.
    #[error("netstat2: {0}")]
    Netstat(#[from] netstat2::error::Error),
    /// This program was built without the programs of the eBPF source.
    #[error("built without clang, so without the eBPF programs")]
    NotBuilt,
    /// The root of the cgroup2 hierarchy is not mounted, so nothing can be attached to it.
    #[error("the root of the cgroup2 hierarchy is not mounted")]
    NoCgroup2,
    /// The kernel's own types are not known (BTF), so the programs cannot be fitted to it.
    #[error("the kernel's BTF: {because}")]
    NoBtf {
        /// Why.
        because: String,
    },
    /// Pids mean something else here than on the host.
    #[error("this is not the host's pid namespace")]
    PidNamespace,
    /// The kernel refused one of the programs that the eBPF source cannot do without.
    #[error("the eBPF program {name} cannot be used: {because}")]
    Program {
        /// Which.
        name: &'static str,
        /// Why.
        because: String,
    },
    /// The kernel refused something else that the eBPF source needs.
    #[error("{what}: {because}")]
    Refused {
        /// What.
        what: &'static str,
        /// Why.
        because: String,
    },
    /// This system has no such thing.
    #[error("{0} does not exist on this system")]
    Absent(&'static str),
}

impl ProbeError {
    /// Whether asking again is pointless.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Stranded { .. })
    }

    /// What would have to change on this host, where something would.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        let fixed = match self {
            Self::NotBuilt => "install clang and build again",
            Self::NoCgroup2 => "mount -t cgroup2 none /sys/fs/cgroup/unified (or any other place)",
            Self::NoBtf { .. } => "run a kernel with CONFIG_DEBUG_INFO_BTF=y and sysfs mounted",
            Self::PidNamespace => "run it in the host's pid namespace (docker run --pid=host)",
            Self::Program { .. } | Self::Refused { .. } => return missing_for_ebpf(),
            _ => return None,
        };
        Some(fixed.to_owned())
    }

    /// For `map_err`: a failed system call.
    pub(crate) fn call<E: Into<io::Error>>(call: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Call { call, source: source.into() }
    }

    /// For `map_err`: a file that could not be read.
    pub(crate) fn file<E: Into<io::Error>>(path: impl Into<PathBuf>) -> impl FnOnce(E) -> Self {
        move |source| Self::File { path: path.into(), source: source.into() }
    }
}

/// Which capabilities the eBPF source would need.
#[cfg(target_os = "linux")]
fn missing_for_ebpf() -> Option<String> {
    let missing = crate::capability::Capabilities::own().missing_for_ebpf();
    (!missing.is_empty()).then(|| format!("run it as root, or with {}", missing.join(", ")))
}

#[cfg(not(target_os = "linux"))]
fn missing_for_ebpf() -> Option<String> {
    None
}
