//! What was typed.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use procflow_binding::PlaceName;
use procflow_core::features::{Accounting, Vocabulary};

/// Makes bidirectional flows with statistical features of packets.
///
/// Every packet of the capture counts in a flow, or under a name for why it does not; both are told at the
/// end.
#[derive(Clone, Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  extractor capture.pcap                          rows of CSV on standard output
  extractor -o flows.jsonl day.pcapng.zst         rows of JSON in a file
  extractor -o flows.parquet day.pcap             typed columns, to be read once it is whole
  extractor --preset cic -o flows.csv a.pcap b.pcap
                                                  files that follow one another are one capture
  tcpdump -w - ... | extractor -                  what another program captures
  extractor -o now.csv eth0 --filter 'port 53'    an interface, until Ctrl-C
  extractor --processes -o now.csv eth0           with the process at both ends of each flow
  extractor --history web1.history web1.pcap      the same, of a capture that was made before
  extractor --columns source_address,application_name,server_name,ja4 capture.pcap
                                                  what flows speak, and to whom
  extractor --batch captures -o rows --preset pyflowmeter
                                                  each capture of a directory by itself
  extractor columns --preset cic                  what the columns mean
  extractor sessions capture.pcap                 what happens in TCP connections
  extractor packets --count 10 day.pcapng.zst     the layers of each packet
  extractor serve eth0 --filter 'tcp port 443'    what a connection looks like, for services that ask

Exit codes: 0 done, 1 a capture is damaged (the flows in front of that place are written) or a file or
interface cannot be read or written, 2 wrong arguments, 3 a tracker does not answer, 4 no trust between
tracker and extractor, 130 or 143 reading files was stopped by a signal (nothing is left in OUT).
Signals: SIGINT and SIGTERM end the capture of interfaces; all flows are written then."
)]
pub(crate) struct Args {
    /// What to do instead.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Where frames come from.
    #[command(flatten)]
    pub(crate) source: SourceArgs,

    /// Where rows go: a file that ends in .csv, .jsonl, .parquet or .nfcapd, or - for CSV on standard output.
    #[arg(short, long, value_name = "OUT", default_value = "-")]
    pub(crate) output: PathBuf,

    /// Make the rows of each capture in DIR (.pcap, .pcapng, .cap; also .gz, .zst) by itself, into a file of the
    /// same stem in the directory OUT, or beside it. One that is damaged does not stop the others.
    #[arg(long, value_name = "DIR", conflicts_with = "files")]
    pub(crate) batch: Option<PathBuf>,

    /// The format of --batch.
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "csv",
        requires = "batch",
        conflicts_with = "files"
    )]
    pub(crate) format: Ending,

    /// Begin another file when OUT has so many bytes: a number, or one with K, M or G (of 1000).
    /// OUT.csv becomes OUT.0001.csv and so on.
    #[arg(long, value_name = "BYTES", value_parser = size, conflicts_with = "no_output")]
    pub(crate) rotate_size: Option<u64>,

    /// Begin another file every so often, by the times at which flows ended. OUT.csv becomes
    /// OUT.20261122T101500Z.csv, by the begin of its time (UTC, counted from 1970). Files that are there are
    /// not replaced.
    #[arg(long, value_name = "TIME", value_parser = whole_seconds, conflicts_with = "no_output")]
    pub(crate) rotate_time: Option<Duration>,

    /// Which columns, and which timeouts: basic, nfstream, cic, pyflowmeter, full.
    #[arg(long, value_name = "NAME", default_value = "nfstream", value_parser = preset)]
    pub(crate) preset: &'static procflow_core::presets::Preset,

    /// These columns instead of the preset's, in this order, by their names in the preset or in `full`.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) columns: Vec<String>,

    /// Add the Community ID to the columns, where it is not among them.
    #[arg(long)]
    pub(crate) community_id: bool,

    /// Call columns of our own as others do, where the name alone makes the difference (`extractor columns
    /// --names`): those of the presets basic and full, or any by --columns.
    #[arg(long, value_enum, value_name = "VOCABULARY")]
    pub(crate) names: Option<Names>,

    /// A flow ends so long after its last packet (the preset's unless said: 30 s for nfstream).
    #[arg(short = 't', long, value_name = "TIME", value_parser = time)]
    pub(crate) idle_timeout: Option<Duration>,

    /// A flow is told of so long after its first packet though it goes on; 0 for never (the preset's unless
    /// said: 60 s for nfstream).
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) active_timeout: Option<Duration>,

    /// Hold at most so many flows; one more ends the flow that was quiet for the longest.
    #[arg(long, value_name = "FLOWS", default_value_t = 524_288, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) capacity: u32,

    /// Stop after so many rows. (What became of the packets is told of all that was read until then.)
    #[arg(long, value_name = "FLOWS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_flows: Option<u64>,

    /// Which length sizes are of (the preset's unless said).
    #[arg(long, value_enum, value_name = "LENGTH")]
    pub(crate) accounting: Option<Length>,

    /// List so many first packets of each flow, where a column does.
    #[arg(long, value_name = "PACKETS", default_value_t = 10)]
    pub(crate) first_packets: u16,

    /// Make flows of the packets that carry tunnels, not of those inside.
    #[arg(long)]
    pub(crate) no_tunnels: bool,

    /// What flows speak.
    #[command(flatten)]
    pub(crate) dissection: DissectionArgs,

    /// Who was at both ends.
    #[command(flatten)]
    pub(crate) processes: ProcessArgs,

    /// Work with so many threads: as many as there are processors unless said. The rows are the same.
    #[arg(long, value_name = "THREADS")]
    pub(crate) threads: Option<NonZeroUsize>,

    /// Make flows and no rows: for measuring.
    #[arg(long, conflicts_with = "output")]
    pub(crate) no_output: bool,

    /// Say every so often, on a line of JSON on standard error, what happened since the last one: frames, what
    /// was dropped, flows and records. 0 for never.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) performance_report: Option<Duration>,

    /// Do not say at the end what became of the packets.
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Say what became of the packets as a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where frames come from.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SourceArgs {
    /// Capture files (pcap, pcapng; also in gzip or zstd), in the order in which they were captured; - is
    /// standard input. Or interfaces; without any the one of the default route.
    #[arg(value_name = "FILE|INTERFACE")]
    pub(crate) files: Vec<PathBuf>,

    /// Take only frames that this expression wants (pcap-filter(7)).
    #[arg(short, long, value_name = "EXPRESSION")]
    pub(crate) filter: Option<String>,

    /// Capture for so long, then stop.
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = LIVE)]
    pub(crate) duration: Option<Duration>,

    /// Keep so many octets of each frame.
    #[arg(long, value_name = "OCTETS", default_value_t = 65_535, help_heading = LIVE)]
    pub(crate) snaplen: u32,

    /// Do not take frames that are for others.
    #[arg(long, help_heading = LIVE)]
    pub(crate) no_promiscuous: bool,

    /// Take everything that is on the air (wireless interfaces that can).
    #[arg(long, help_heading = LIVE)]
    pub(crate) monitor: bool,

    /// Let the kernel keep so many bytes of frames for each interface.
    #[arg(long, value_name = "BYTES", default_value_t = 10_000_000, help_heading = LIVE)]
    pub(crate) buffer: u32,

    /// Let the kernel keep frames so many milliseconds, to hand over more at once; 0 or less for not at all.
    #[arg(long, value_name = "MS", default_value_t = 1000, allow_hyphen_values = true, help_heading = LIVE)]
    pub(crate) timeout: i32,
}

/// What flows speak, by the first messages in them.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DissectionArgs {
    /// Do not look at what flows speak; the columns of the preset that say it are left out.
    #[arg(long, help_heading = APPLICATIONS)]
    pub(crate) no_l7: bool,

    /// Look at so many packets with payload of each flow.
    #[arg(long, value_name = "PACKETS", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "no_l7", help_heading = APPLICATIONS)]
    pub(crate) dissections: u16,

    /// Name applications by the rules in FILE, too; they hold before those that are built in (repeatable;
    /// docs/applications.md says how they look).
    #[arg(long, value_name = "FILE", conflicts_with = "no_l7", help_heading = APPLICATIONS)]
    pub(crate) rules: Vec<PathBuf>,

    /// Keep paths of HTTP requests, with the values in their queries blanked.
    #[arg(long, conflicts_with = "no_l7", help_heading = APPLICATIONS)]
    pub(crate) http_paths: bool,
}

/// Who was at both ends. Rows get columns for it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ProcessArgs {
    /// Say who was at both ends of each flow, as this host's kernel tells it meanwhile: of interfaces. Needs
    /// root, or the capabilities of a tracker.
    #[arg(long, conflicts_with_all = ["tracker", "history"], help_heading = PROCESSES)]
    pub(crate) processes: bool,

    /// Say it by a tracker's history (`tracker export`); may be given for several hosts.
    #[arg(long, value_name = "FILE", help_heading = PROCESSES)]
    pub(crate) history: Vec<PathBuf>,

    /// Say it by what this tracker tells (repeatable).
    #[arg(long, value_name = "HOST:PORT", help_heading = PROCESSES)]
    pub(crate) tracker: Vec<String>,

    /// Where the capture was made, for addresses that several places hold: outside, host (on the host of the
    /// first tracker or history itself) or netns:NAME [default: host; with --processes the network
    /// namespace that the extractor is in].
    #[arg(long, value_name = "PLACE", help_heading = PROCESSES)]
    pub(crate) vantage: Option<PlaceName>,

    /// How far off the capture's times may be from the tracked host's.
    #[arg(long, value_name = "TIME", default_value = "1ms", value_parser = humantime::parse_duration, help_heading = PROCESSES)]
    pub(crate) tolerance: Duration,

    /// Trust the tracker if its key has this fingerprint (SHA256:…), and remember it.
    #[arg(long, value_name = "FINGERPRINT", help_heading = PROCESSES)]
    pub(crate) trust: Option<String>,

    /// Trust a tracker that is not known yet whatever its key is, and remember it.
    #[arg(long, conflicts_with = "trust", help_heading = PROCESSES)]
    pub(crate) trust_first_use: bool,

    /// Where the updater's key and lists are, by which trackers know who asks [default: as the updater's].
    #[arg(long, value_name = "DIR", help_heading = PROCESSES)]
    pub(crate) state: Option<PathBuf>,

    /// State directory of a tracker on this host, whose local key may be used
    /// [default: /var/lib/procflow/tracker].
    #[arg(long, value_name = "DIR", help_heading = PROCESSES)]
    pub(crate) tracker_state: Option<PathBuf>,
}

/// What only interfaces have.
const LIVE: &str = "Interfaces";

/// What tells applications.
const APPLICATIONS: &str = "Applications";

/// What only flows with processes have.
const PROCESSES: &str = "Processes";

/// What to do instead of making flows.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Say what each column means.
    Columns(ColumnsArgs),
    /// List the interfaces that can be captured.
    Interfaces(InterfacesArgs),
    /// Print the layers of each packet, from the outside in.
    Packets(PacketsArgs),
    /// Answer services of this host, over HTTP: what a connection of theirs looks like while it goes on.
    Serve(ServeArgs),
    /// Tell what happens in TCP connections: opened, data, sent again, reset, over.
    Sessions(SessionsArgs),
}

/// `extractor sessions`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Each event is a line: its time, the number of the session, the initiator, > (from it), < (to it) or -,
the responder, and what happened. docs/sessions.md says what the events mean.

Examples:
  extractor sessions capture.pcap                 what happens, and the sums of each session
  extractor sessions --json --data day.pcap.gz    the octets too, in base64
  extractor sessions eth0 --filter 'port 80'      an interface, until Ctrl-C

Exit codes: 0 done, 1 a capture is damaged (what happened in front of that place is told) or a file or
interface cannot be read or written, 2 wrong arguments, 130 or 143 reading files was stopped by a signal.")]
pub(crate) struct SessionsArgs {
    /// Where frames come from.
    #[command(flatten)]
    pub(crate) source: SourceArgs,

    /// Print a JSON object for each event, a line each; what became of the packets too.
    #[arg(long)]
    pub(crate) json: bool,

    /// Print the octets that were sent: escaped in text, in base64 in JSON.
    #[arg(long)]
    pub(crate) data: bool,

    /// Print each round trip, not only the sums at the end.
    #[arg(long)]
    pub(crate) round_trips: bool,

    /// A session ends so long after its last packet.
    #[arg(short = 't', long, value_name = "TIME", default_value = "10m", value_parser = time)]
    pub(crate) idle_timeout: Duration,

    /// Hold at most so many sessions; one more ends one that is closed, not open yet, or quiet for the longest.
    #[arg(long, value_name = "SESSIONS", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) capacity: u32,

    /// Follow the connections that carry tunnels, not those inside.
    #[arg(long)]
    pub(crate) no_tunnels: bool,

    /// Do not say at the end what became of the packets.
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `extractor interfaces`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct InterfacesArgs {
    /// Print a JSON object for each interface, a line each.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `extractor packets`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PacketsArgs {
    /// Where frames come from.
    #[command(flatten)]
    pub(crate) source: SourceArgs,

    /// Stop after so many packets.
    #[arg(short, long, value_name = "PACKETS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// Print a JSON object for each packet, a line each: every layer is the `payload` of the one around it.
    #[arg(long)]
    pub(crate) json: bool,

    /// Print the captured octets too.
    #[arg(long)]
    pub(crate) bytes: bool,
}

/// `extractor columns`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ColumnsArgs {
    /// The columns of this preset only.
    #[arg(long, value_name = "NAME", value_parser = preset)]
    pub(crate) preset: Option<&'static procflow_core::presets::Preset>,

    /// Say what columns of our own are called elsewhere.
    #[arg(
        long,
        value_enum,
        value_name = "VOCABULARY",
        value_delimiter = ',',
        conflicts_with = "preset"
    )]
    pub(crate) names: Vec<Names>,

    /// Print a JSON object for each column, a line each.
    #[arg(long, conflicts_with = "markdown")]
    pub(crate) json: bool,

    /// Print the pages of docs/features.md; with --names ecs,otel those of docs/field-names.md.
    #[arg(long)]
    pub(crate) markdown: bool,
}

/// `extractor serve`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  extractor serve eth0 --filter 'tcp port 443'
  curl 'http://127.0.0.1:8731/flow?address=192.0.2.7&port=51234'
                                     the columns, or 404 and why there is none
  curl http://127.0.0.1:8731/health  how it stands with the capture

Exit codes: 0 ended by SIGINT or SIGTERM, 1 an interface cannot be captured or the address not
listened on, 2 wrong arguments.")]
pub(crate) struct ServeArgs {
    /// The interfaces that the services are reached by; without any the one of the default route.
    #[arg(value_name = "INTERFACE")]
    pub(crate) interfaces: Vec<String>,

    /// Where services ask: an address of loopback, because answers tell who talks to whom.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8731")]
    pub(crate) listen: SocketAddr,

    /// Which columns are told: basic, nfstream, cic, pyflowmeter, full.
    #[arg(long, value_name = "NAME", default_value = "basic", value_parser = preset)]
    pub(crate) preset: &'static procflow_core::presets::Preset,

    /// These columns instead of the preset's, in this order, by their names in the preset or in `full`.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) columns: Vec<String>,

    /// A flow is told of when it has so many packets.
    #[arg(long, value_name = "PACKETS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) min_packets: u64,

    /// Wait at most so long for a flow to appear.
    #[arg(long, value_name = "TIME", default_value = "1500ms", value_parser = time)]
    pub(crate) wait: Duration,

    /// Forget flows so long after their last packet; what comes then is another flow.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time)]
    pub(crate) keep: Duration,

    /// Look for flows to forget so often.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time)]
    pub(crate) sweep: Duration,

    /// Hold at most so many flows that go on, and as many that have ended.
    #[arg(long, value_name = "FLOWS", default_value_t = 32_768, value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    pub(crate) capacity: u32,

    /// Let at most so many questions wait; what is asked beyond is answered with 503.
    #[arg(long, value_name = "QUESTIONS", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) waiting: u16,

    /// Take only frames that this expression wants (pcap-filter(7)).
    #[arg(short, long, value_name = "EXPRESSION")]
    pub(crate) filter: Option<String>,

    /// Let the kernel keep so many bytes of frames for each interface.
    #[arg(long, value_name = "BYTES", default_value_t = 10_000_000)]
    pub(crate) buffer: u32,

    /// Say nothing of where is listened, nor at the end what became of the packets.
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Say what became of the packets as a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A format, by the ending that its files have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ending {
    /// Comma-separated values.
    Csv,
    /// JSON lines.
    Jsonl,
    /// Typed columns.
    Parquet,
}

impl Ending {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
        }
    }
}

/// Names that others agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Names {
    /// The Elastic Common Schema.
    Ecs,
    /// OpenTelemetry's semantic conventions.
    Otel,
}

impl From<Names> for Vocabulary {
    fn from(names: Names) -> Self {
        match names {
            Names::Ecs => Self::Ecs,
            Names::Otel => Self::OpenTelemetry,
        }
    }
}

/// A length of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Length {
    /// The frame.
    Wire,
    /// The IP packet.
    Ip,
    /// The transport header and payload.
    Transport,
    /// The transport's payload.
    Payload,
}

impl From<Length> for Accounting {
    fn from(length: Length) -> Self {
        match length {
            Length::Wire => Self::Wire,
            Length::Ip => Self::Ip,
            Length::Transport => Self::Transport,
            Length::Payload => Self::Payload,
        }
    }
}

fn preset(name: &str) -> Result<&'static procflow_core::presets::Preset, String> {
    procflow_core::presets::preset(name).ok_or_else(|| {
        let names = procflow_core::presets::presets().iter().map(|preset| preset.name);
        format!("there are {}", names.collect::<Vec<_>>().join(", "))
    })
}

/// Seconds, or a number and a unit.
fn time(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    humantime::parse_duration(text)
        .map_err(|_| "is not a time such as 30, 30s, 500ms, 5m".to_owned())
}

/// A time of at least a second; what is less than one of it does not count.
fn whole_seconds(text: &str) -> Result<Duration, String> {
    let time = time(text)?;
    if time.as_secs() == 0 {
        return Err("is less than a second".to_owned());
    }
    Ok(time)
}

/// A number of bytes, or of thousands, millions, milliards of them.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || "is not a size such as 500000, 100M, 1G".to_owned();
    let digits = text.trim_end_matches(|last: char| !last.is_ascii_digit());
    let factor = match text.get(digits.len()..) {
        Some("") => 1,
        Some("K" | "k") => 1_000,
        Some("M") => 1_000_000,
        Some("G") => 1_000_000_000,
        _ => return Err(wrong()),
    };
    if !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(factor).filter(|&size| size > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn sizes_have_a_unit_or_are_bytes() {
        assert_eq!(size("1500"), Ok(1500));
        assert_eq!(
            (size("20k"), size("100M"), size("1G")),
            (Ok(20_000), Ok(100_000_000), Ok(1_000_000_000))
        );
        for wrong in
            ["", "0", "M", "-1", "1T", "1MB", "1.5M", "99999999999G", "+1", "1 M", "1\u{e4}"]
        {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert!(whole_seconds("999ms").is_err() && whole_seconds("0").is_err());
        assert_eq!(whole_seconds("1"), Ok(Duration::from_secs(1)));
    }

    #[test]
    fn times_are_seconds_or_have_a_unit() {
        assert_eq!(time("600"), Ok(Duration::from_secs(600)));
        assert_eq!(time("1500ms"), Ok(Duration::from_millis(1500)));
        assert!(time("-1").is_err() && time("x").is_err());
    }
}
