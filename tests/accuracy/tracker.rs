//! The tracker that is measured: the real program, what it knows and what it costs.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procflow_binding::{Histories, HostId};

use crate::{Trouble, pull};

/// The program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_tracker");

/// A running tracker.
pub struct Tracker {
    child: Child,
    state: PathBuf,
    port: u16,
}

/// What it counted of the kernel's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    pub attempted: u64,
    pub consumed: u64,
    pub lost: u64,
}

/// What it has used so far.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Processor time, in seconds.
    pub processor: f64,
    /// Its own resident memory (RssAnon: the ring is the kernel's), in bytes.
    pub resident: u64,
    /// Its state directory, in bytes.
    pub disk: u64,
    /// In its BPF programs, in whoever's context: nanoseconds and runs.
    pub bpf: Option<(u64, u64)>,
    pub at: Instant,
}

/// Whether the tracker takes an option, or a value of one.
pub fn offers(word: &str) -> bool {
    let Ok(help) = Command::new(PROGRAM).arg("--help").output() else { return false };
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    help.split(|c: char| c.is_whitespace() || ",[]<>:=".contains(c)).any(|other| other == word)
}

impl Tracker {
    /// Starts one that has taken its first look and answers.
    pub fn start(state: PathBuf, source: &str, more: &[&str]) -> Result<Self, Trouble> {
        fs::create_dir_all(&state)?;
        // Free a moment ago; another program could take it, but has no reason to.
        let port = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = state.with_extension("log");
        // It must not outlive whoever started it, not even one that was killed.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", PROGRAM])
            .arg(port.to_string())
            .arg("--state")
            .arg(&state)
            .args(["--source", source])
            .args(more)
            .stdin(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .spawn()?;
        let mut tracker = Self { child, state, port };
        let begin = Instant::now();
        while !tracker.said().contains("serving") {
            let over = tracker.child.try_wait()?.is_some();
            if over || begin.elapsed() > Duration::from_secs(20) {
                return Err(format!("no tracker came up: {}", tracker.said()).into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(tracker)
    }

    /// What it wrote to standard error.
    pub fn said(&self) -> String {
        fs::read_to_string(self.state.with_extension("log")).unwrap_or_default()
    }

    pub fn host(&self) -> Result<HostId, Trouble> {
        Ok(crate::conversation::key(&self.state)?.host())
    }

    /// What it knows now. The one place that knows how that is obtained.
    pub fn histories(&self) -> Result<Histories, Trouble> {
        pull::pull(&self.state, self.port)
    }

    pub fn signal(&self, signal: Signal) -> Result<(), Trouble> {
        Ok(kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?)
    }

    /// Stops it as an operator would; its counters, if it has any.
    pub fn stop(mut self) -> Result<Option<Counters>, Trouble> {
        self.signal(Signal::SIGTERM)?;
        let status = self.child.wait()?;
        if !status.success() {
            return Err(format!("the tracker ended with {status}: {}", self.said()).into());
        }
        Ok(counters(&self.said()))
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub fn usage(&self) -> Result<Usage, Trouble> {
        let at = Instant::now();
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let stat = fs::read_to_string(process.join("stat"))?;
        let fields: Vec<&str> = stat.rsplit_once(')').ok_or("stat")?.1.split_whitespace().collect();
        // utime and stime are fields 14 and 15; the first one after the name is field 3.
        let ticks: u32 = fields[11].parse::<u32>()? + fields[12].parse::<u32>()?;
        let status = fs::read_to_string(process.join("status"))?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"))
            .ok_or("no RssAnon")?;
        Ok(Usage {
            processor: f64::from(ticks) * crate::tick()? as f64 / 1e9,
            resident: resident.parse::<u64>()? * 1024,
            disk: size(&self.state)?,
            bpf: bpf(&process.join("fdinfo")),
            at,
        })
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the total of `tracker: events of the kernel: 10 attempted = 9 consumed + 1 lost (…)`.
fn counters(said: &str) -> Option<Counters> {
    let mark = "tracker: events of the kernel: ";
    let line = said.lines().rev().find_map(|line| line.strip_prefix(mark))?;
    let total = line.split('(').next()?;
    let words: Vec<&str> = total.split_whitespace().collect();
    let before = |what: &str| {
        let at = words.iter().position(|word| *word == what)?;
        words.get(at.checked_sub(1)?)?.parse().ok()
    };
    Some(Counters {
        attempted: before("attempted")?,
        consumed: before("consumed")?,
        lost: before("lost")?,
    })
}

/// Run time and runs of the BPF programs whose descriptors it holds (the kernel fills them in while
/// `kernel.bpf_stats_enabled` is 1).
fn bpf(fdinfo: &Path) -> Option<(u64, u64)> {
    let mut sum = None;
    for entry in fs::read_dir(fdinfo).ok()?.flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let field = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(key, _)| *key == name)?.1.trim().parse::<u64>().ok()
        };
        if let (Some(time), Some(count)) = (field("run_time_ns"), field("run_cnt")) {
            let (times, counts) = sum.unwrap_or((0, 0));
            sum = Some((times + time, counts + count));
        }
    }
    sum
}

fn size(directory: &Path) -> Result<u64, Trouble> {
    let mut sum = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let facts = entry.metadata()?;
        sum += if facts.is_dir() { size(&entry.path())? } else { facts.len() };
    }
    Ok(sum)
}
