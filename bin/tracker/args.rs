//! What was typed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use procflow_binding::PlaceName;
use procflow_core::Protocol;
use procflow_probe::{Choice, Pattern};

use crate::moment::Moment;

/// Follows which process holds which socket on this host, and serves it to updaters over UDP.
///
/// Run it as root, or with CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH and CAP_SYS_ADMIN: with less it
/// says at start what it cannot see. It serves this host alone until an updater is authorised;
/// then it serves all addresses, to the holders of authorised keys and nobody else.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  tracker 9000                        serve this host: `updater 127.0.0.1 9000 30` works at once
  tracker --authorize 'procflow-ed25519 AAAA... updater@collector'
                                      let that updater in (it prints its line with --show-key)
  tracker --show-key                  print this tracker's key and its fingerprint
  tracker query --at 5m --proto tcp --local 10.0.0.5:40000 --remote 192.0.2.1:443
                                      who held that connection five minutes ago
  tracker export --since 2026-11-21T03:00:00Z --until 2026-11-21T04:00:00Z night.history
                                      take that hour along, for `updater --history`

Files in the state directory:
  tracker.key, tracker.pub   this tracker's own key
  authorized_updaters        public keys that may connect, a line each
  local.key                  for updaters on this host; readable by its group
  history.db                 what was seen (SQLite); readable by its group

Exit codes: 0 stopped by a signal, 1 failed, 2 wrong arguments.
Signals: SIGTERM and SIGINT stop it cleanly."
)]
pub(crate) struct Args {
    /// What to do instead of tracking.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

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

    /// How long events are kept, for updaters that come late and for questions.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = humantime::parse_duration)]
    pub(crate) keep: Duration,

    /// How much disk the kept events may take, in MiB, whatever their age (about 15 bytes each);
    /// when it is full, the oldest of the user who takes most go.
    #[arg(long, value_name = "MIB", default_value = "1024")]
    pub(crate) keep_disk: u64,

    /// How much memory the latest events may take, in MiB (about 200 bytes each); who follows as
    /// they come is served from there.
    #[arg(long, value_name = "MIB", default_value = "32")]
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

/// Questions to the history, and to the host. A tracker may run meanwhile.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Says who held an endpoint at a moment.
    Query(QueryArgs),
    /// Writes a stretch of the history into a file.
    Export(ExportArgs),
    /// Says which sources work on this host, what each would miss and how to gain that.
    Doctor(DoctorArgs),
}

/// `tracker query`.
#[derive(Debug, clap::Args)]
pub(crate) struct QueryArgs {
    /// When: 2026-11-21T03:00:00Z, @1795230000.5 (seconds since 1970), 5m (ago) or now; by this
    /// host's real-time clock as it was then. While nothing happens, the last ten seconds may not
    /// be on disk yet.
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Moment,

    /// The endpoint on this host.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) local: SocketAddr,

    /// Its peer; without it only sockets that have none are looked for.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) remote: Option<SocketAddr>,

    /// tcp, udp, icmp, icmp6, or the number of an IP protocol.
    #[arg(long, value_parser = parse_protocol)]
    pub(crate) proto: Protocol,

    /// Where the addresses mean what they say: host, netns:NAME (or its inode), or outside, where
    /// any place that holds the address is meant.
    #[arg(long, value_name = "PLACE", default_value = "host")]
    pub(crate) vantage: PlaceName,

    /// How far off the time may be.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    pub(crate) tolerance: Duration,

    /// Print the answer as JSON.
    #[arg(long)]
    pub(crate) json: bool,

    /// The tracker's state directory [default: as for the tracker].
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
}

/// `tracker export`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// Begin of the stretch, written as --at of `tracker query`.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Moment,

    /// End of it.
    #[arg(long, value_name = "TIME", default_value = "now")]
    pub(crate) until: Moment,

    /// The file; one that is there is replaced.
    pub(crate) file: PathBuf,

    /// The tracker's state directory [default: as for the tracker].
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
}

/// `tracker doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Print it as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

fn parse_protocol(text: &str) -> Result<Protocol, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Protocol::TCP),
        "udp" => Ok(Protocol::UDP),
        "icmp" => Ok(Protocol::ICMP),
        "icmp6" | "icmpv6" => Ok(Protocol::ICMPV6),
        number => number.parse().map(Protocol).map_err(|_| "is no protocol's name or number"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_port_is_enough_and_a_question_needs_none() {
        let parse = |line: &str| Args::try_parse_from(line.split(' '));
        assert_eq!(parse("tracker 9000").unwrap().port, Some(9000));
        assert!(parse("tracker --state x").is_err());
        let query = "tracker query --at 5m --local 127.0.0.1:80 --proto";
        for (proto, number) in [("tcp", 6), ("UDP", 17), ("icmp", 1), ("132", 132)] {
            let Some(Command::Query(args)) = parse(&format!("{query} {proto}")).unwrap().command
            else {
                panic!("{proto}");
            };
            assert_eq!(args.proto, Protocol(number));
        }
        assert!(parse(&format!("{query} xtp")).is_err());
        assert!(parse("tracker 9000 query --at 5m --local 127.0.0.1:80 --proto 6").is_err());
    }
}
