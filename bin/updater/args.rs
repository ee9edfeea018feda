//! What was typed.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use procflow_binding::{FlowClock, PlaceName};
use procflow_sink::{Miss, Template};

/// Writes the process into each flow of nfdump directories, so that
/// `nfdump -r FILE -o "fmt:%line %uname"` shows it.
///
/// It asks the tracker at IP and PORT which process held which socket, when; looks for nfcapd
/// files that are final; and replaces each by one that carries the names. Everything else in a
/// file stays as it was, and a file that cannot be carried through faithfully is left alone.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  updater 127.0.0.1 9000 30           the current directory, every 5 minutes
  updater web1 9000 30s --dir /var/cache/nfdump
  updater web1 9000 --once --dir . --output named
  updater web1 9000 --file nfcapd.202611211200 --report flows.jsonl
  nfcapd ... -x 'updater web1 9000 --quiet --file %d/%f'
  updater --history night.history --dir /var/cache/nfdump
  updater web1 9000 --file web1.pcapng -o web1.nfcapd
                                      the flows of a capture, as nfdump, CSV or Parquet has them
  updater show nfcapd.202611211200    what is in that file
  updater salvage nfcapd.202611211200 whole
                                      write what is readable of it into a new file

What is written:
  curl               the one end that is tracked
  curl>nginx         both ends are: who sent, and who was sent to
  curl>              the other end is on a tracked host too, but its process is not known
  nginx|worker       several processes held the socket
  nginx?             not an observation: a listener that may not have accepted, or a socket seen
                     shortly before or after
  (nothing)          not known; --miss reason writes why, as ?reason

Where the exporter captures matters for addresses that several places hold (127.0.0.1, bridges):
  --vantage outside          anywhere; such an address then names nobody (the default)
  --vantage host             on the tracked host itself, in its own network namespace
  --vantage netns:NAME       in the network namespace of that name (ip netns) or inode number

Exit codes: 0 done (or another updater is at it), 1 a file or directory failed, 2 wrong arguments,
3 the tracker does not answer, 4 no trust between tracker and updater, 130 or 143 a single update was
stopped by a signal.
Signals: SIGTERM and SIGINT stop it cleanly; a file being rewritten stays as it was."
)]
pub(crate) struct Args {
    /// What to do instead of updating.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// The tracker's host: an address of either family, or a name.
    #[arg(value_name = "IP", required_unless_present_any = ["history", "show_key"])]
    pub(crate) host: Option<String>,

    /// The tracker's UDP port.
    #[arg(required_unless_present_any = ["history", "show_key"])]
    pub(crate) port: Option<u16>,

    /// Longest pause between two updates: a bare number counts tens of seconds, `30s` and `5m` are
    /// what they say. When nfcapd rotates, the next comes as soon as the file is final.
    #[arg(value_parser = parse_pause, required_unless_present_any = ["once", "file", "history", "show_key"])]
    pub(crate) time: Option<Duration>,

    /// Another tracker to follow as well (repeatable).
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) tracker: Vec<String>,

    /// A history file that `tracker export` wrote (repeatable). Without IP and PORT no network is
    /// needed; without TIME it is a single update. It is as good as the way it came: nothing in it
    /// is signed.
    #[arg(long, value_name = "FILE")]
    pub(crate) history: Vec<PathBuf>,

    /// An nfdump directory, with all below it (repeatable) [default: the current directory].
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Vec<PathBuf>,

    /// Only this file, now; implies --once (repeatable). It counts as final, so that nfcapd can
    /// name the one that it has just rotated. Or a capture (pcap, pcapng; also in gzip or zstd), with
    /// --output OUT.
    #[arg(long, value_name = "FILE", conflicts_with = "dir")]
    pub(crate) file: Vec<PathBuf>,

    /// One update, then exit.
    #[arg(long)]
    pub(crate) once: bool,

    /// Write annotated files into this directory, with the same sub-directories, and leave the
    /// originals alone. Of captures: write their flows, with every column of `extractor --preset full`, into
    /// this file, which ends in .nfcapd, .csv, .jsonl or .parquet.
    #[arg(short, long, value_name = "DIR|OUT")]
    pub(crate) output: Option<PathBuf>,

    /// What to write for a process: text with {comm}, {pid}, {exe}, {unit}, {container}, {user}
    /// and {quality}.
    #[arg(long, value_name = "TEMPLATE", default_value = "{comm}")]
    pub(crate) name: Template,

    /// What to write when no process can be named.
    #[arg(long, value_enum, default_value = "nothing")]
    pub(crate) miss: MissName,

    /// Replace names that are already there and that this update would write differently.
    #[arg(long)]
    pub(crate) replace_names: bool,

    /// Look again at files that an earlier update finished, and replace what is in the way in
    /// --output.
    #[arg(long)]
    pub(crate) force: bool,

    /// How many threads annotate a file, at most; small files take fewer [default: as many as there
    /// are processors; 1 with --report].
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,

    /// Where the exporter captured.
    #[arg(long, value_name = "PLACE", default_value = "outside")]
    pub(crate) vantage: PlaceName,

    /// Whose real-time clock stamped the flows.
    #[arg(long, value_enum, default_value = "host")]
    pub(crate) flow_clock: ClockName,

    /// The exporter writes no ICMP types into its records (as type * 256 + code in the destination
    /// port): every ping looks like an echo reply then.
    #[arg(long)]
    pub(crate) icmp_types_untold: bool,

    /// How far off the flows' times may be (NetFlow v9 counts whole seconds) [default: 1s; of captures 1ms].
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) tolerance: Option<Duration>,

    /// nfcapd's rotation interval, where the names of the files do not tell it.
    #[arg(long, value_name = "TIME", default_value = "300s", value_parser = humantime::parse_duration)]
    pub(crate) slot: Duration,

    /// How long after its slot a file must have been left alone to be final.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) grace: Duration,

    /// How long after it was last touched a file is looked at again because a tracker may still
    /// tell more of its flows; until then these get no name. `0s` takes what is known now.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    pub(crate) wait: Duration,

    /// Write every flow with its answer to FILE: CSV if it ends in .csv, else JSON lines; `-` for
    /// standard output. A file that is looked at again is reported again.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,

    /// Print summaries as JSON, a line each.
    #[arg(long)]
    pub(crate) json: bool,

    /// How much history is kept in memory.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = humantime::parse_duration)]
    pub(crate) keep: Duration,

    /// Where this updater's key and its lists are kept [default: /var/lib/procflow/updater for
    /// root, ~/.local/state/procflow/updater for others].
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,

    /// State directory of a tracker on this host, whose local key may be used
    /// [default: /var/lib/procflow/tracker].
    #[arg(long, value_name = "DIR")]
    pub(crate) tracker_state: Option<PathBuf>,

    /// Trust the tracker if its key has this fingerprint (SHA256:…), and remember it.
    #[arg(long, value_name = "FINGERPRINT")]
    pub(crate) trust: Option<String>,

    /// Trust a tracker that is not known yet whatever its key is, and remember it.
    #[arg(long, conflicts_with = "trust")]
    pub(crate) trust_first_use: bool,

    /// Print this updater's key line and fingerprint, and exit.
    #[arg(long)]
    pub(crate) show_key: bool,

    /// Print nothing but errors (and what --json or --report print).
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// What can be done with files alone, without a tracker.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Says what is in nfcapd files, damaged and unfinished ones too.
    Show(ShowArgs),
    /// Writes what is readable of a damaged nfcapd file into a new one.
    Salvage(SalvageArgs),
}

/// `updater show`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 all files were read to their ends, 1 one could not be, 2 wrong arguments."
)]
pub(crate) struct ShowArgs {
    /// The files.
    #[arg(required = true)]
    pub(crate) file: Vec<PathBuf>,

    /// Print a JSON object for each file, a line each.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `updater salvage`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What is missing is said on standard error, with its offset, its bytes and how many records it probably had.
Exit codes: 0 the new file is written, whatever was missing; 1 it is not, because it cannot be or
because no flow is sound; 2 wrong arguments.")]
pub(crate) struct SalvageArgs {
    /// The damaged file, or one that a collector left unfinished. It stays as it is.
    pub(crate) file: PathBuf,

    /// The new file. One that is there is never replaced.
    pub(crate) new: PathBuf,

    /// If FILE's header is damaged, take layout and compression from this file, which the same collector
    /// wrote.
    #[arg(long, value_name = "GOOD")]
    pub(crate) header_of: Option<PathBuf>,

    /// Print what was kept and what is missing as a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Clocks by their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClockName {
    /// The tracked host's own, with all its steps.
    Host,
    /// That of the machine this updater runs on; the tracked host's may be wrong.
    Collector,
}

impl From<ClockName> for FlowClock {
    fn from(name: ClockName) -> Self {
        match name {
            ClockName::Host => Self::Host,
            ClockName::Collector => Self::Collector,
        }
    }
}

/// What to write when nobody can be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MissName {
    /// Leave the record without a name.
    Nothing,
    /// `?` and why.
    Reason,
}

impl From<MissName> for Miss {
    fn from(name: MissName) -> Self {
        match name {
            MissName::Nothing => Self::Nothing,
            MissName::Reason => Self::Reason,
        }
    }
}

/// netdumper's TIME: a bare number counts tens of seconds.
fn parse_pause(text: &str) -> Result<Duration, String> {
    let pause = match text.parse::<u64>() {
        Ok(tens) => tens.checked_mul(10).map(Duration::from_secs),
        Err(_) => Some(humantime::parse_duration(text).map_err(|error| error.to_string())?),
    };
    match pause {
        Some(pause) if pause >= Duration::from_secs(1) && pause.as_secs() <= 366 * 86_400 => {
            Ok(pause)
        }
        _ => Err("must be between 1s and a year (for a single update use --once)".to_owned()),
    }
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
    fn a_history_file_takes_the_place_of_a_tracker() {
        let parse = |line: &str| Args::try_parse_from(line.split(' '));
        assert!(parse("updater --history night").is_ok());
        assert!(parse("updater web1 9000 5m --history night --history day").is_ok());
        assert!(parse("updater --dir .").is_err());
        assert!(parse("updater web1 9000").is_err());
    }

    #[test]
    fn a_file_is_shown_or_salvaged_without_a_tracker() {
        let parse = |line: &str| Args::try_parse_from(line.split(' '));
        assert!(parse("updater web1 9000 30").unwrap().command.is_none());
        let Some(Command::Show(args)) = parse("updater show a b --json").unwrap().command else {
            panic!("not show");
        };
        assert_eq!((args.file, args.json), (vec!["a".into(), "b".into()], true));
        assert!(matches!(
            parse("updater salvage a b").unwrap().command,
            Some(Command::Salvage(SalvageArgs { json: false, .. }))
        ));
        assert!(parse("updater show").is_err() && parse("updater salvage a").is_err());
        assert!(parse("updater web1 9000 30 show a").is_err());
    }

    #[test]
    fn a_bare_number_counts_tens_of_seconds() {
        assert_eq!(parse_pause("30"), Ok(Duration::from_secs(300)));
        assert_eq!(parse_pause("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_pause("5m"), Ok(Duration::from_secs(300)));
        for wrong in ["0", "", "-1", "x", "18446744073709551615", "10ms"] {
            assert!(parse_pause(wrong).is_err(), "{wrong}");
        }
    }
}
