//! How fast the updater names the flows of nfcapd files, beside nfdump copying the same flows with their
//! names: `make bench-nfdump`.
//!
//! Every flow is a hit, the keys are random over a history of a million intervals, and both ends are
//! looked up. What the updater needs for its start and for reading the history is measured with a file
//! of few flows, and taken off. Prints a table and, with `--json FILE`, JSON lines; `--make DIR` only makes
//! files of this kind there. Without `--full` or
//! `--short` it does nothing, so that `cargo test` passes by.

mod files;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use files::World;
use nix::sys::resource::{UsageWho, getrusage};

type Trouble = Box<dyn Error>;

fn main() -> Result<(), Trouble> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let flows = match (has("--full"), has("--short")) {
        (true, _) => 6_000_000,
        (_, true) => 200_000,
        _ => return Ok(()),
    };
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).map(PathBuf::from)
    };
    if let Some(directory) = after("--make") {
        return make(&directory, flows);
    }
    let json = after("--json");
    if Command::new("nfdump").arg("-V").stdout(Stdio::null()).status().is_err() {
        println!("SKIPPED: nfdump is not installed");
        return Ok(());
    }
    // In memory, so that no disk is measured.
    let memory = Path::new("/dev/shm");
    let place = tempfile::tempdir_in(if memory.is_dir() { memory } else { Path::new("/tmp") })?;
    let bench =
        Bench { place: place.path().to_owned(), flows, rounds: if has("--full") { 3 } else { 1 } };
    let rows = bench.run()?;
    let mut lines = String::new();
    for Row { what, value, unit, pass } in rows {
        let verdict = if pass == Some(false) { "  FAIL" } else { "" };
        println!("{what:<52} {value:>9.2} {unit}{verdict}");
        let pass = pass.map_or("null".to_owned(), |pass| pass.to_string());
        lines += &format!(
            "{{\"bar\": \"nfdump: {what}\", \"value\": {value:.3}, \"unit\": \"{unit}\", \"pass\": {pass}}}\n"
        );
    }
    if let Some(json) = json {
        fs::write(json, lines)?;
    }
    Ok(())
}

/// Makes the files that every flow is a hit in, for whoever wants to look closer.
fn make(directory: &Path, flows: u32) -> Result<(), Trouble> {
    let world = World::new(500_000);
    world.write_history(&directory.join("state"), &directory.join("history"))?;
    world.write_flows(&directory.join("few"), 100, 100)?;
    world.write_flows(&directory.join("plain"), flows, 100)?;
    run(nfdump(&directory.join("plain"), &directory.join("lz4")).arg("-y"))?;
    Ok(())
}

struct Row {
    what: String,
    value: f64,
    unit: &'static str,
    pass: Option<bool>,
}

/// What a program took.
#[derive(Clone, Copy, Default)]
struct Taken {
    processor: f64,
    wall: f64,
    /// MiB at most.
    memory: f64,
}

struct Bench {
    place: PathBuf,
    flows: u32,
    rounds: usize,
}

impl Bench {
    fn run(&self) -> Result<Vec<Row>, Trouble> {
        let at = |name: &str| self.place.join(name);
        let world = World::new(500_000);
        let full = self.rounds > 1;
        world.write_history(&at("state"), &at("history"))?;
        world.write_flows(&at("few"), 100, 100)?;
        let mut rows = Vec::new();
        let mut row = |what: String, value, unit, pass| rows.push(Row { what, value, unit, pass });
        let million = f64::from(self.flows) / 1e6;
        for (hits, what) in [(100, "every flow a hit"), (50, "half of them"), (0, "none")] {
            let plain = at(&format!("plain-{hits}"));
            world.write_flows(&plain, self.flows, hits)?;
            let lz4 = at(&format!("lz4-{hits}"));
            run(nfdump(&plain, &lz4).arg("-y"))?;
            for (kind, file) in [("plain", &plain), ("LZ4", &lz4)] {
                let (mut own, mut copies, mut start) = (Vec::new(), Vec::new(), Vec::new());
                let named = at("named").join(file.file_name().ok_or("a name")?);
                let copy = at("copy");
                for _ in 0..self.rounds {
                    // Nobody is to throw away what was there before.
                    let _ = fs::remove_file(&named);
                    start.push(self.updater(&at("few"))?);
                    own.push(self.updater(file)?);
                    let mut nfdump = nfdump(&named, &copy);
                    copies.push(run(if kind == "LZ4" { nfdump.arg("-y") } else { &mut nfdump })?);
                    fs::remove_file(&copy)?;
                }
                let (own, copy, start) = (middle(&own), middle(&copies), middle(&start));
                let rate = million / (own.processor - start.processor);
                let theirs = million / copy.processor;
                row(format!("{kind}, {what}: updater"), rate, "M/cpu-s", None);
                row(format!("{kind}, {what}: nfdump -w of the result"), theirs, "M/cpu-s", None);
                let bar = (full && hits == 100).then_some(rate >= theirs);
                row(format!("{kind}, {what}: ratio by processor"), rate / theirs, "x", bar);
                let wall = copy.wall / (own.wall - start.wall);
                let bar = (full && hits == 100).then_some(wall >= 1.0);
                row(format!("{kind}, {what}: ratio by wall time"), wall, "x", bar);
                row(format!("{kind}, {what}: updater's memory"), own.memory, "MiB", None);
                row(
                    format!("{kind}, {what}: its memory with few flows"),
                    start.memory,
                    "MiB",
                    None,
                );
                if hits == 100 {
                    check_names(&named, self.flows)?;
                }
                fs::remove_file(named)?;
            }
            fs::remove_file(plain)?;
            fs::remove_file(lz4)?;
        }
        Ok(rows)
    }

    /// Names the flows of a file into the directory `named`.
    fn updater(&self, file: &Path) -> Result<Taken, Trouble> {
        let named = self.place.join("named");
        fs::create_dir_all(&named)?;
        let mut updater = Command::new(env!("CARGO_BIN_EXE_updater"));
        updater.args(["--quiet", "--force", "--history"]).arg(self.place.join("history"));
        updater.arg("--file").arg(file).arg("--output").arg(&named);
        updater.arg("--state").arg(self.place.join("updater-state"));
        run(&mut updater)
    }
}

fn nfdump(from: &Path, to: &Path) -> Command {
    let mut nfdump = Command::new("nfdump");
    nfdump.arg("-r").arg(from).arg("-w").arg(to).stdout(Stdio::null());
    nfdump
}

/// Runs a program to its end.
fn run(command: &mut Command) -> Result<Taken, Trouble> {
    let processor = || -> Result<f64, Trouble> {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        let seconds =
            |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
    };
    let (before, began) = (processor()?, Instant::now());
    let mut child = command.spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut memory = 0.0_f64;
    let ended = loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let most =
            text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB"));
        memory = memory.max(most.and_then(|most| most.trim().parse().ok()).unwrap_or(0.0) / 1024.0);
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let wall = began.elapsed().as_secs_f64();
    if !ended.success() {
        return Err(format!("{command:?}: {ended}").into());
    }
    Ok(Taken { processor: processor()? - before, wall, memory })
}

/// The middle by processor time.
fn middle(all: &[Taken]) -> Taken {
    let mut all = all.to_vec();
    all.sort_by(|a, b| a.processor.total_cmp(&b.processor));
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// Whether nfdump sees the names: all of them, by its own filter.
fn check_names(file: &Path, flows: u32) -> Result<(), Trouble> {
    let output = Command::new("nfdump")
        .args(["-q", "-o", "fmt:%uname", "-c", "1000", "-r"])
        .arg(file)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let named = text.lines().filter(|line| line.trim().contains(">service")).count();
    if named == 1000.min(flows as usize) {
        Ok(())
    } else {
        Err(format!("{named} names: {text:.200}").into())
    }
}
