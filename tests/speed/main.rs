//! How fast the updater names the flows of nfcapd files, beside nfdump copying the same flows with their
//! names: `make bench-nfdump`.
//!
//! The keys are random over a history of a million intervals, and both ends of each flow are looked up.
//! What the updater needs for its start and for reading the history is measured with a file of few
//! flows, and taken off. Prints a table and, with `--json FILE`, JSON lines; `--make DIR` only makes files
//! of this kind there. Without `--full` or `--short` it does nothing, so that `cargo test` passes by.

mod files;
#[path = "../measure/mod.rs"]
mod measure;
mod zstd;

use files::World;
use measure::{Row, Taken, Trouble, least, run, tell};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
        Bench { place: place.path().to_owned(), flows, rounds: if has("--full") { 5 } else { 1 } };
    let rows = bench.run()?;
    tell("nfdump", rows, json.as_deref())
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

struct Bench {
    place: PathBuf,
    flows: u32,
    rounds: usize,
}

/// How a file is compressed.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    Lz4,
    Zstd,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Lz4 => "LZ4",
            Self::Zstd => "ZSTD",
        }
    }

    /// Who does what is compared with.
    fn peer(self) -> &'static str {
        if self == Self::Zstd { "the zstd library alone" } else { "nfdump -w of the result" }
    }
}

impl Bench {
    fn at(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    fn run(&self) -> Result<Vec<Row>, Trouble> {
        let world = World::new(500_000);
        world.write_history(&self.at("state"), &self.at("history"))?;
        world.write_flows(&self.at("few"), 100, 100)?;
        let mut rows = Vec::new();
        for hits in [100, 50, 0] {
            let plain = self.at("plain");
            world.write_flows(&plain, self.flows, hits)?;
            for kind in [Kind::Plain, Kind::Lz4, Kind::Zstd] {
                let file = self.at(kind.name());
                match kind {
                    Kind::Plain => fs::rename(&plain, &file)?,
                    Kind::Lz4 => {
                        run(nfdump(&self.at(Kind::Plain.name()), &file).arg("-y")).map(drop)?
                    }
                    Kind::Zstd => zstd::compress(&self.at(Kind::Plain.name()), &file)?,
                }
                if hits == 100 {
                    self.reading(kind, &file, &mut rows)?;
                }
                self.naming(kind, hits, &file, &mut rows)?;
            }
            if hits == 100 {
                self.memory(&world, &mut rows)?;
            }
        }
        Ok(rows)
    }

    /// Who only reads: `updater show`, which reads every flow, beside nfdump with a filter that none
    /// passes.
    fn reading(&self, kind: Kind, file: &Path, rows: &mut Vec<Row>) -> Result<(), Trouble> {
        let (mut own, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            let mut show = Command::new(env!("CARGO_BIN_EXE_updater"));
            own.push(run(show.args(["show", "--json"]).arg(file).stdout(Stdio::null()))?);
            if kind != Kind::Zstd {
                let mut nfdump = Command::new("nfdump");
                nfdump.arg("-q").arg("-r").arg(file).arg("proto 255").stdout(Stdio::null());
                theirs.push(run(&mut nfdump)?);
            }
        }
        let rate = f64::from(self.flows) / 1e6 / least(&own).processor;
        let what = format!("{}, read only", kind.name());
        rows.push(Row::new(format!("{what}: updater show"), rate, "M/cpu-s"));
        if kind != Kind::Zstd {
            let theirs = f64::from(self.flows) / 1e6 / least(&theirs).processor;
            rows.push(Row::new(format!("{what}: nfdump 'proto 255'"), theirs, "M/cpu-s"));
            rows.push(Row::new(format!("{what}: ratio by processor"), rate / theirs, "x"));
        }
        Ok(())
    }

    /// Naming the flows of a file, beside what copies the result.
    fn naming(
        &self,
        kind: Kind,
        hits: u64,
        file: &Path,
        rows: &mut Vec<Row>,
    ) -> Result<(), Trouble> {
        let (mut own, mut copies, mut start) = (Vec::new(), Vec::new(), Vec::new());
        // A file in which nobody is named is left as it is, which only its own place shows.
        let in_place = hits == 0;
        let named = self.at("named").join(kind.name());
        let named = if in_place { file.to_owned() } else { named };
        let copy = self.at("copy");
        for _ in 0..self.rounds {
            // Nobody is to throw away what was there before.
            if !in_place {
                let _ = fs::remove_file(&named);
            }
            start.push(self.updater(&self.at("few"), false)?);
            own.push(self.updater(file, in_place)?);
            let mut nfdump = nfdump(&named, &copy);
            copies.push(match kind {
                Kind::Plain => run(&mut nfdump)?,
                Kind::Lz4 => run(nfdump.arg("-y"))?,
                Kind::Zstd => zstd::alone(file, &named)?,
            });
            let _ = fs::remove_file(&copy);
        }
        let (own, copy, start) = (least(&own), least(&copies), least(&start));
        let million = f64::from(self.flows) / 1e6;
        let rate = million / (own.processor - start.processor);
        let theirs = million / copy.processor;
        let what = format!("{}, {hits} % hits", kind.name());
        let is_judged = hits == 100 && self.is_full();
        let judged = |row: Row, judged| if judged { row.at_least(1.0) } else { row };
        rows.push(Row::new(format!("{what}: updater"), rate, "M/cpu-s"));
        rows.push(Row::new(format!("{what}: {}", kind.peer()), theirs, "M/cpu-s"));
        // Who does the same and more cannot take less than the library.
        let by_processor = Row::new(format!("{what}: ratio by processor"), rate / theirs, "x");
        rows.push(judged(by_processor, is_judged && kind != Kind::Zstd));
        let wall = copy.wall / (own.wall - start.wall);
        rows.push(judged(Row::new(format!("{what}: ratio by wall time"), wall, "x"), is_judged));
        if hits == 100 && kind != Kind::Zstd {
            check_names(&named, self.flows)?;
        }
        if !in_place {
            fs::remove_file(named)?;
        }
        Ok(())
    }

    /// The most memory at once, with files of a million flows and of six.
    fn memory(&self, world: &World, rows: &mut Vec<Row>) -> Result<(), Trouble> {
        let base = self.updater(&self.at("few"), false)?.memory;
        rows.push(Row::new("memory with 100 flows".to_owned(), base, "MiB"));
        world.write_flows(&self.at("sixth"), self.flows / 6, 100)?;
        for kind in [Kind::Plain, Kind::Lz4, Kind::Zstd] {
            let (all, sixth) = (self.at(kind.name()), self.at("sixth-of-it"));
            match kind {
                Kind::Plain => fs::copy(self.at("sixth"), &sixth).map(drop)?,
                Kind::Lz4 => run(nfdump(&self.at("sixth"), &sixth).arg("-y")).map(drop)?,
                Kind::Zstd => zstd::compress(&self.at("sixth"), &sixth)?,
            }
            let million = f64::from(self.flows) / 1e6;
            let [less, more] = [(&sixth, million / 6.0), (&all, million)].map(|(file, flows)| {
                let taken = self.updater(file, false)?;
                let what = format!("{}, memory with {flows:.1} M flows", kind.name());
                rows.push(Row::new(what, taken.memory, "MiB"));
                Ok::<_, Trouble>(taken.memory)
            });
            let what = format!("{}, memory: six times as many flows take", kind.name());
            let row = Row::new(what, more? / less?, "x");
            rows.push(if self.is_full() { row.at_most(1.1) } else { row });
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.rounds > 1
    }

    /// Names the flows of a file, in place or into the directory `named`.
    fn updater(&self, file: &Path, in_place: bool) -> Result<Taken, Trouble> {
        let named = self.place.join("named");
        fs::create_dir_all(&named)?;
        let mut updater = Command::new(env!("CARGO_BIN_EXE_updater"));
        updater.args(["--quiet", "--force", "--history"]).arg(self.place.join("history"));
        updater.arg("--file").arg(file);
        if !in_place {
            updater.arg("--output").arg(&named);
        }
        updater.arg("--state").arg(self.place.join("updater-state"));
        run(&mut updater)
    }
}

fn nfdump(from: &Path, to: &Path) -> Command {
    let mut nfdump = Command::new("nfdump");
    nfdump.arg("-r").arg(from).arg("-w").arg(to).stdout(Stdio::null());
    nfdump
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
