//! The accuracy suite: how well each source names the process of a connection.
//!
//! The load generators write the truth themselves (`load/truth.h`); the real tracker watches; what it
//! then knows is asked through the one join, with the flows' own times. The bars are in `bars.rs`.
//!
//!     make accuracy         all of it, less than ten minutes
//!     make accuracy-short   less than a minute; fails on any wrong answer

#![allow(unreachable_pub, reason = "nobody else can reach a program")]

mod bars;
mod both_ends;
mod calls;
#[path = "../lab/conversation.rs"]
mod conversation;
mod costs;
mod datagrams;
mod kernel_made;
mod load;
mod losses;
mod pull;
mod rival;
mod scene;
#[allow(unused_imports, dead_code, reason = "their tests run in tests/scoring.rs")]
mod score;
mod shared;
mod table;
mod tracker;
mod translated;
#[allow(unused_imports, dead_code, reason = "their tests run in tests/scoring.rs")]
mod truth;
mod world;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Instant;

use clap::Parser;

use crate::bars::{BARS, Bar};
use crate::scene::Stage;
use crate::table::{Figure, Line};

/// Something that has nothing to do with what is measured went wrong.
pub type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// Scores each source of the tracker by the bars A1 to A13.
#[derive(Debug, Parser)]
struct Args {
    /// All of it, as long as the bars ask.
    #[arg(long, required_unless_present_any = ["short", "bar", "list"])]
    full: bool,

    /// Every kind of traffic for a second or two.
    #[arg(long, conflicts_with = "full")]
    short: bool,

    /// Only these bars.
    #[arg(long, value_name = "A1,A4", value_delimiter = ',')]
    bar: Vec<String>,

    /// Only these sources of the tracker; one that it does not offer is skipped.
    #[arg(long, value_delimiter = ',', default_value = "ebpf,sock-diag")]
    source: Vec<String>,

    /// Write every figure there as well, a line of JSON each.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Leave the truth and the trackers' state there.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,

    /// Print the bars, and exit.
    #[arg(long)]
    list: bool,
}

/// In the short form so many bars are played at a time: most of it is waiting.
const SIDE_BY_SIDE: usize = 5;

static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// Says, to everybody, that something does not run here.
pub fn skip(why: impl std::fmt::Display) {
    SKIPPED.fetch_add(1, Ordering::Relaxed);
    let _ = writeln!(io::stderr(), "SKIPPED: {why}");
}

/// A clock tick in nanoseconds: the unit of start times.
pub fn tick() -> Result<u64, Trouble> {
    let output = std::process::Command::new("getconf").arg("CLK_TCK").output()?;
    Ok(1_000_000_000 / String::from_utf8(output.stdout)?.trim().parse::<u64>()?)
}

fn main() -> ExitCode {
    // `cargo test` starts every test target, and knows nothing of these options.
    let own = ["--full", "--short", "--bar", "--list", "--help"];
    if !std::env::args().any(|word| own.iter().any(|own| word.starts_with(own))) {
        println!("accuracy: not asked for; `make accuracy` does it");
        return ExitCode::SUCCESS;
    }
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(trouble) => {
            eprintln!("accuracy: {trouble}");
            ExitCode::from(2)
        }
    }
}

/// Whether everything that was asked was met.
fn run(args: &Args) -> Result<bool, Trouble> {
    if args.list {
        BARS.iter().for_each(|bar| println!("{:<4} {}\n     {}", bar.id, bar.what, bar.bar));
        return Ok(true);
    }
    if let Some(stranger) = args.bar.iter().find(|id| !BARS.iter().any(|bar| bar.id == **id)) {
        return Err(format!("there is no bar {stranger}; see --list").into());
    }
    if !nix::unistd::geteuid().is_root() {
        skip("the accuracy suite: it needs root (namespaces, other users' sockets)");
        return Ok(true);
    }
    for tool in ["ip", "nft", "getconf", "setpriv"] {
        let search = format!("command -v {tool}");
        if !std::process::Command::new("sh").args(["-c", &search]).output()?.status.success() {
            skip(format_args!("the accuracy suite: {tool} is not installed"));
            return Ok(true);
        }
    }
    let begin = Instant::now();
    let place = tempfile::Builder::new().prefix("procflow-accuracy").tempdir()?;
    let path = args.keep.clone().unwrap_or_else(|| place.path().to_owned());
    std::fs::create_dir_all(&path)?;
    let undertaker = world::Undertaker::new()?;
    undertaker.leave(&format!("rm -rf '{}'", place.path().display()))?;
    let mut json = args.json.as_ref().map(File::create).transpose()?.map(BufWriter::new);
    let mut stage = Stage {
        load: load::Load::build(&path)?,
        place: path,
        undertaker,
        source: String::new(),
        short: args.short,
        tick: tick()?,
        count: AtomicU32::new(0),
    };
    let (mut lines, mut failed) = (0, 0);
    table::head();
    for source in &args.source {
        if !tracker::offers(source) {
            skip(format_args!("source {source}: this tracker does not offer it"));
            continue;
        }
        stage.source.clone_from(source);
        let wanted = |bar: &&Bar| args.bar.is_empty() || args.bar.iter().any(|id| id == bar.id);
        let bars = BARS.iter().filter(wanted).filter(|bar| (bar.applies)(&stage));
        let mut tell = |bar: &Bar, played: Result<Vec<Line>, Trouble>| -> Result<(), Trouble> {
            let trouble = |trouble| Figure {
                what: format!("could not be played: {trouble}"),
                value: 0.0,
                unit: "",
                pass: Some(false),
            };
            for line in played.unwrap_or_else(|error| vec![Line::Figure(trouble(error))]) {
                lines += 1;
                failed += usize::from(!line.pass());
                table::show(bar.id, source, &line);
                if let Some(json) = &mut json {
                    table::json(json, bar.id, source, &line)?;
                }
            }
            Ok(())
        };
        let (alone, together): (Vec<&'static Bar>, Vec<&'static Bar>) =
            bars.partition(|bar| bar.alone || !stage.short);
        for bars in together.chunks(SIDE_BY_SIDE) {
            let stage = &stage;
            let played: Vec<_> = std::thread::scope(|scope| {
                let play = |bar: &'static Bar| scope.spawn(move || (bar.play)(stage));
                let bars: Vec<_> = bars.iter().map(|bar| (*bar, play(bar))).collect();
                let end = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                    thread.join().unwrap_or_else(|_| Err("it panicked".into()))
                };
                bars.into_iter().map(|(bar, thread)| (bar, end(thread))).collect()
            });
            played.into_iter().try_for_each(|(bar, played)| tell(bar, played))?;
        }
        for bar in alone {
            tell(bar, (bar.play)(&stage))?;
        }
    }
    // The whole suite also measures somebody else by the same truth.
    if !args.short && args.bar.is_empty() {
        match rival::installed().and_then(|python| rival::play(&stage, &python)) {
            Ok(played) => {
                for line in played {
                    table::show("vs.", "nfstream", &line);
                    if let Some(json) = &mut json {
                        table::json(json, "vs.", "nfstream", &line)?;
                    }
                }
            }
            Err(trouble) => skip(format_args!("the comparison with nfstream: {trouble}")),
        }
    }
    if let Some(json) = &mut json {
        json.flush()?;
    }
    let skipped = SKIPPED.load(Ordering::Relaxed);
    let seconds = begin.elapsed().as_secs();
    println!("\n{lines} lines, {failed} failed, {skipped} skipped, in {seconds} s");
    Ok(failed == 0)
}
