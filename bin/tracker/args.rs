//! What was typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use procflow_probe::{Choice, Pattern};

/// Follows which process holds which socket on this host, and serves it to updaters over UDP.
///
/// Run it as root, or with CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH and CAP_SYS_ADMIN: with less it
/// says at start what it cannot see. It serves this host alone until an updater is authorised;
/// then it serves all addresses, to the holders of authorised keys and nobody else.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  tracker 9000                        serve this host: `updater 127.0.0.1 9000 30` works at once
  tracker --authorize 'procflow-ed25519 AAAA... updater@collector'
                                      let that updater in (it prints its line with --show-key)
  tracker --show-key                  print this tracker's key and its fingerprint

Files in the state directory:
  tracker.key, tracker.pub   this tracker's own key
  authorized_updaters        public keys that may connect, a line each
  local.key                  for updaters on this host; readable by its group

Exit codes: 0 stopped by a signal, 1 failed, 2 wrong arguments.
Signals: SIGTERM and SIGINT stop it cleanly."
)]
pub(crate) struct Args {
    /// UDP port to serve.
    #[arg(required_unless_present_any = ["authorize", "show_key"])]
    pub(crate) port: Option<u16>,

    /// Where keys and counts are kept [default: /var/lib/procflow/tracker for root,
    /// ~/.local/state/procflow/tracker for others].
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,

    /// Group whose members may use local.key.
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,

    /// Which source to use.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) source: SourceName,

    /// Time from one look at the kernel to the next.
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = humantime::parse_duration)]
    pub(crate) period: Duration,

    /// Size of the ring through which the kernel tells, in bytes; a power of two is made of it.
    #[arg(long, value_name = "BYTES", default_value_t = 32 << 20)]
    pub(crate) ring: usize,

    /// Do without one of the programs in the kernel (by the name that the tracker calls it), as if
    /// the kernel had refused it. Repeatable.
    #[arg(long, value_name = "NAME", hide_short_help = true)]
    pub(crate) without_program: Vec<String>,

    /// Record the command lines of processes, without what looks like a secret in them: values of
    /// options and variables that are called so, passwords in URLs, keys of known shapes.
    #[arg(long)]
    pub(crate) command_lines: bool,

    /// Black out in command lines what this regular expression matches, or its first group where it
    /// has one. Arguments are separated by one space. Repeatable.
    #[arg(long, value_name = "REGEX", requires = "command_lines")]
    pub(crate) redact: Vec<Pattern>,

    /// Black out nothing but what --redact says.
    #[arg(long, requires = "command_lines")]
    pub(crate) no_default_redaction: bool,

    /// Record the SHA-256 of the executables of processes. They are read in the background, at most
    /// 200 MiB a second, each once.
    #[arg(long)]
    pub(crate) digests: bool,

    /// How long events are kept for updaters that come late.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = humantime::parse_duration)]
    pub(crate) keep: Duration,

    /// How much memory the kept events may take, in MiB, whatever their age (about 200 bytes each).
    #[arg(long, value_name = "MIB", default_value = "256")]
    pub(crate) keep_memory: usize,

    /// Congestion control towards updaters; bbr is better over long, lossy links.
    #[arg(long, value_enum, default_value = "cubic")]
    pub(crate) congestion: Congestion,

    /// Add an updater's key line to authorized_updaters, and exit.
    #[arg(long, value_name = "LINE", conflicts_with = "port")]
    pub(crate) authorize: Option<String>,

    /// Print this tracker's key line and fingerprint, and exit.
    #[arg(long, conflicts_with = "port")]
    pub(crate) show_key: bool,

    /// Print nothing but errors.
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// A source by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SourceName {
    /// The best that works here.
    Auto,
    /// Programs in the kernel that tell of every socket, or nothing.
    Ebpf,
    /// sock_diag(7) and /proc, or nothing.
    SockDiag,
    /// The netstat2 library: own network namespace only.
    Portable,
}

impl From<SourceName> for Choice {
    fn from(name: SourceName) -> Self {
        match name {
            SourceName::Auto => Self::Auto,
            SourceName::Ebpf => Self::Ebpf,
            SourceName::SockDiag => Self::SockDiag,
            SourceName::Portable => Self::Portable,
        }
    }
}

/// Congestion controllers of QUIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Congestion {
    /// RFC 9438.
    Cubic,
    /// Bottleneck bandwidth and round-trip time.
    Bbr,
    /// RFC 6582.
    NewReno,
}
