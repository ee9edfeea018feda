//! Measuring programs from outside, and telling what was measured: for benches.

#![allow(dead_code)]

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

pub(crate) type Trouble = Box<dyn Error>;

/// One figure.
pub(crate) struct Row {
    what: String,
    value: f64,
    unit: &'static str,
    pass: Option<bool>,
}

impl Row {
    pub(crate) fn new(what: String, value: f64, unit: &'static str) -> Self {
        Self { what, value, unit, pass: None }
    }

    pub(crate) fn at_least(self, bar: f64) -> Self {
        Self { pass: Some(self.value >= bar), ..self }
    }

    pub(crate) fn at_most(self, bar: f64) -> Self {
        Self { pass: Some(self.value <= bar), ..self }
    }
}

/// Prints the figures as a table, and writes them as JSON lines of this bench.
pub(crate) fn tell(bench: &str, rows: Vec<Row>, json: Option<&Path>) -> Result<(), Trouble> {
    let mut lines = String::new();
    for Row { what, value, unit, pass } in rows {
        let verdict = if pass == Some(false) { "  FAIL" } else { "" };
        println!("{what:<60} {value:>9.2} {unit}{verdict}");
        let pass = pass.map_or("null".to_owned(), |pass| pass.to_string());
        lines += &format!(
            "{{\"bar\": \"{bench}: {what}\", \"value\": {value:.3}, \"unit\": \"{unit}\", \"pass\": {pass}}}\n"
        );
    }
    if let Some(json) = json {
        fs::write(json, lines)?;
    }
    Ok(())
}

/// What a program took.
#[derive(Clone, Copy, Default)]
pub(crate) struct Taken {
    /// Seconds of all processors, user and system.
    pub(crate) processor: f64,
    /// Seconds.
    pub(crate) wall: f64,
    /// MiB at most.
    pub(crate) memory: f64,
    /// MiB at most of what is no file's, as often as it was looked at.
    pub(crate) anonymous: f64,
}

pub(crate) fn seconds(time: TimeVal) -> f64 {
    time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command) -> Result<Taken, Trouble> {
    let processor = || -> Result<f64, Trouble> {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
    };
    let (before, began) = (processor()?, Instant::now());
    let mut child = command.spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let (mut memory, mut anonymous) = (0.0_f64, 0.0_f64);
    let ended = loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let mebibytes = |field: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(field));
            let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB"));
            kilobytes.and_then(|number| number.trim().parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
        };
        memory = memory.max(mebibytes("VmHWM:"));
        anonymous = anonymous.max(mebibytes("RssAnon:"));
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let wall = began.elapsed().as_secs_f64();
    if !ended.success() {
        return Err(format!("{command:?}: {ended}").into());
    }
    Ok(Taken { processor: processor()? - before, wall, memory, anonymous })
}

/// The least of each: what it takes when nothing else disturbs it, least of all a host that has no memory
/// at hand.
pub(crate) fn least(all: &[Taken]) -> Taken {
    let most = Taken { processor: f64::MAX, wall: f64::MAX, memory: f64::MAX, anonymous: f64::MAX };
    all.iter().fold(most, |least, one| Taken {
        processor: least.processor.min(one.processor),
        wall: least.wall.min(one.wall),
        memory: least.memory.min(one.memory),
        anonymous: least.anonymous.min(one.anonymous),
    })
}
