//! How fast the extractor makes flows, and how much memory a flow takes, beside other meters in the same
//! run: `make bench-extractor`.
//!
//! Prints a table and, with `--json FILE`, JSON lines; `--make FILE` only writes the made-up capture,
//! `--make-real FILE` the real one.
//! Without `--full` or `--make` it does nothing, so that `cargo test` passes by.

#[path = "../measure/mod.rs"]
mod measure;
mod peers;
mod trace;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use measure::{Row, Taken, Trouble, least, run, tell};
use peers::Peer;
use trace::Written;

/// What is measured of it: the columns without rows, and the rows.
const PRESETS: [&str; 5] = ["basic", "nfstream", "cic", "pyflowmeter", "full"];

/// Each figure is the least of so many runs, one of each program after the other.
const ROUNDS: usize = 5;

fn main() -> Result<(), Trouble> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).map(PathBuf::from)
    };
    if let Some(path) = after("--make-real") {
        let mut output = BufWriter::new(File::create(path)?);
        trace::repeat_real(&captures(), &mut output)?;
        return Ok(output.flush()?);
    }
    if let Some(path) = after("--make") {
        let Written { packets, bytes, .. } = make(&path, 80_000)?;
        println!("{packets} packets, {bytes} bytes");
        return Ok(());
    }
    if !arguments.iter().any(|argument| argument == "--full") {
        return Ok(());
    }
    // In memory, so that no disk is measured.
    let memory = Path::new("/dev/shm");
    let place = tempfile::tempdir_in(if memory.is_dir() { memory } else { Path::new("/tmp") })?;
    let mut rows = Vec::new();
    let made = place.path().join("made.pcap");
    let Written { packets, .. } = make(&made, 80_000)?;
    let mut bench = Bench { place: place.path(), rows: &mut rows };
    bench.speed("made", &made, packets, true)?;
    bench.threads(&made)?;
    fs::remove_file(&made)?;
    let real = place.path().join("real.pcap");
    let mut output = BufWriter::new(File::create(&real)?);
    let written = trace::repeat_real(&captures(), &mut output)?;
    output.flush()?;
    drop(output);
    match written {
        Some(Written { packets, .. }) => bench.speed("real", &real, packets, false)?,
        None => println!("SKIPPED: no real captures at {}", captures().display()),
    }
    fs::remove_file(&real)?;
    bench.memory()?;
    tell("extractor", rows, after("--json").as_deref())
}

fn captures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/pcap/nfstream/pcaps")
}

/// Writes the made-up capture of so many flows.
fn make(path: &Path, flows: u32) -> Result<Written, Trouble> {
    let mut output = BufWriter::new(File::create(path)?);
    let written = trace::write(flows, &mut output)?;
    output.flush()?;
    Ok(written)
}

struct Bench<'a> {
    place: &'a Path,
    rows: &'a mut Vec<Row>,
}

/// Without looking at what flows speak, unless said.
fn extractor(preset: &str, threads: usize, capture: &Path) -> Command {
    let mut command = dissecting(preset, threads, capture);
    command.arg("--no-l7");
    command
}

fn dissecting(preset: &str, threads: usize, capture: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_extractor"));
    command.args(["--quiet", "--preset", preset, "--threads", &threads.to_string()]).arg(capture);
    command.stdout(Stdio::null());
    command
}

impl Bench<'_> {
    fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Packets by second of a processor, of every preset and every peer.
    fn speed(
        &mut self,
        name: &str,
        capture: &Path,
        packets: u64,
        judged: bool,
    ) -> Result<(), Trouble> {
        let mut peers = peers::all(self.place, capture)?;
        let csv = self.place.join("rows.csv");
        let mut own: Vec<[Vec<Taken>; 2]> = PRESETS.iter().map(|_| Default::default()).collect();
        let mut dissected: [Vec<Taken>; 2] = Default::default();
        let mut theirs: Vec<Vec<Taken>> = peers.iter().map(|_| Vec::new()).collect();
        for round in 0..ROUNDS {
            for (preset, [none, rows]) in PRESETS.iter().zip(&mut own) {
                none.push(run(extractor(preset, 1, capture).arg("--no-output"))?);
                rows.push(run(extractor(preset, 1, capture).arg("-o").arg(&csv))?);
            }
            let [none, rows] = &mut dissected;
            none.push(run(dissecting("nfstream", 1, capture).arg("--no-output"))?);
            rows.push(run(dissecting("nfstream", 1, capture).arg("-o").arg(&csv))?);
            for (Peer { command, once, .. }, taken) in peers.iter_mut().zip(&mut theirs) {
                if round == 0 || !*once {
                    taken.push(run(command)?);
                }
            }
        }
        let rate = |taken: &[Taken]| packets as f64 / 1e6 / least(taken).processor;
        let of = |preset: &str, rows: usize| {
            let index = PRESETS.iter().position(|name| *name == preset);
            index.map_or(0.0, |index| rate(&own[index][rows]))
        };
        let (statistics, csv_rows) = (of("nfstream", 0), of("nfstream", 1));
        for (preset, [none, rows]) in PRESETS.iter().zip(&own) {
            let row = |what: &str, taken| {
                Row::new(format!("{name}: {preset}, {what}"), rate(taken), "M packets/cpu-s")
            };
            self.rows.push(row("no output", none));
            self.rows.push(row("CSV", rows));
            let memory =
                Row::new(format!("{name}: {preset}, peak memory"), least(none).memory, "MiB");
            self.rows.push(memory);
        }
        let applications = dissected.each_ref().map(|taken| rate(taken));
        for (what, rate) in ["no output", "CSV"].into_iter().zip(applications) {
            let row = Row::new(
                format!("{name}: nfstream with applications, {what}"),
                rate,
                "M packets/cpu-s",
            );
            // The made-up one has nothing to dissect.
            self.row(if judged || what == "CSV" { row } else { row.at_least(1.5) });
        }
        let memory = least(&dissected[0]).memory;
        self.row(Row::new(
            format!("{name}: nfstream with applications, peak memory"),
            memory,
            "MiB",
        ));
        for (Peer { name: peer, bar, dissects, .. }, taken) in peers.iter().zip(&theirs) {
            let statistics = if *dissects { applications[0] } else { statistics };
            let with = if *dissects { " with applications" } else { "" };
            let theirs = rate(taken);
            self.row(Row::new(format!("{name}: {peer}"), theirs, "M packets/cpu-s"));
            self.row(Row::new(format!("{name}: {peer}, peak memory"), least(taken).memory, "MiB"));
            let ratio = Row::new(
                format!("{name}: nfstream preset{with}, no output, by {peer}"),
                statistics / theirs,
                "x",
            );
            self.row(match bar.filter(|_| judged) {
                Some(bar) => ratio.at_least(bar),
                None => ratio,
            });
        }
        if judged {
            let row =
                Row::new(format!("{name}: nfstream preset with CSV"), csv_rows, "M packets/cpu-s");
            self.row(row.at_least(2.5));
        }
        fs::remove_file(csv)?;
        Ok(())
    }

    /// Two threads give the same bytes as one, sooner.
    fn threads(&mut self, capture: &Path) -> Result<(), Trouble> {
        let files = [1, 2].map(|threads| self.place.join(format!("rows-of-{threads}.csv")));
        let mut taken = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (index, file) in files.iter().enumerate() {
                let mut command = extractor("nfstream", index + 1, capture);
                taken[index].push(run(command.arg("-o").arg(file))?);
            }
        }
        if fs::read(&files[0])? != fs::read(&files[1])? {
            return Err("two threads give other rows than one".into());
        }
        let ratio = least(&taken[1]).wall / least(&taken[0]).wall;
        let row = Row::new("two threads by one, the same bytes".to_owned(), ratio, "x wall time");
        self.row(row.at_most(2.0 / 3.0));
        for file in files {
            fs::remove_file(file)?;
        }
        Ok(())
    }

    /// Anonymous memory of each preset by flow, with many flows at a time.
    fn memory(&mut self) -> Result<(), Trouble> {
        const FLOWS: u32 = 300_000;
        let (many, few) = (self.place.join("many.pcap"), self.place.join("few.pcap"));
        trace::write_at_once(FLOWS, 4, &mut BufWriter::new(File::create(&many)?))?;
        // As many packets, so that all buffers are there.
        trace::write_at_once(16, FLOWS / 4, &mut BufWriter::new(File::create(&few)?))?;
        // With applications it is told, not judged: how much is found depends on what is said.
        let of_presets = PRESETS.map(|preset| (preset, false));
        for (preset, dissects) in of_presets.into_iter().chain([("nfstream", true), ("full", true)])
        {
            let out = self.place.join("rows.csv");
            let of = |capture: &Path| {
                let mut command = if dissects {
                    dissecting(preset, 1, capture)
                } else {
                    extractor(preset, 1, capture)
                };
                run(command.args(["-t", "3600", "--active-timeout", "0", "-o"]).arg(&out))
            };
            let (idle, busy) = (of(&few)?.anonymous, of(&many)?.anonymous);
            let by_flow = (busy - idle) * 1_048_576.0 / f64::from(FLOWS);
            let with = if dissects { " with applications" } else { "" };
            let row = Row::new(
                format!("{preset}{with}: memory of a flow, of {FLOWS} at a time"),
                by_flow,
                "bytes",
            );
            self.row(if dissects { row } else { row.at_most(1024.0) });
            fs::remove_file(out)?;
        }
        fs::remove_file(many)?;
        fs::remove_file(few)?;
        Ok(())
    }
}
