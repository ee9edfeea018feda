//! For comparison: nfstream's `system_visibility`, which promises the same, under the same traffic and
//! the same truth. It is installed into an environment of its own; where that cannot be done it is
//! skipped.
//!
//! It is given every advantage: the server is in another namespace, so that only the client's socket
//! can be found; pid alone counts, without the start time; and nothing is asked of the server's end.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use procflow_core::Endpoint;

use crate::Trouble;
use crate::scene::Stage;
use crate::score::percent;
use crate::table::{Figure, Line};
use crate::truth::{Actor, Seen, flows};
use crate::world::{Netns, run, wire};

/// The Python with nfstream, installed if need be.
pub fn installed() -> Result<PathBuf, Trouble> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nfstream");
    let python = place.join("bin/python");
    let works = || Command::new(&python).args(["-c", "import nfstream"]).output();
    if !works().is_ok_and(|output| output.status.success()) {
        let place = place.to_string_lossy().into_owned();
        run("timeout", &["60", "python3", "-m", "venv", &place])?;
        let python = python.to_string_lossy().into_owned();
        let install =
            ["120", &python, "-m", "pip", "install", "--quiet", "--retries", "0", "nfstream"];
        run("timeout", &install)?;
    }
    Ok(python)
}

/// Plays the loads of A1 and A3 for it.
pub fn play(stage: &Stage, python: &Path) -> Result<Vec<Line>, Trouble> {
    let (near, far) = (stage.netns("near")?, stage.netns("far")?);
    wire((&near, "wire", "10.81.0.1/24"), (&far, "wire", "10.81.0.2/24"))?;
    let mut lines = Vec::new();
    for (what, rate, seconds, hold) in [
        ("A1: 1,000/s, life < 1 ms", 1000, 5, 0),
        ("A3: 100/s, 100 ms", 100, 10, 100_000),
        ("A3: 100/s, 20 ms", 100, 10, 20_000),
    ] {
        lines.extend(one(stage, python, (&near, &far), (what, rate, seconds, hold))?);
    }
    Ok(lines)
}

fn one(
    stage: &Stage,
    python: &Path,
    (near, far): (&Netns, &Netns),
    (what, rate, seconds, hold): (&str, u32, u32, u32),
) -> Result<Vec<Line>, Trouble> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/accuracy/rival.py");
    let complaints = stage.file("nfstream");
    let mut rival = Command::new("ip")
        .args(["netns", "exec", &near.name])
        .arg(python)
        .arg(script)
        .arg("wire")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&complaints)?)
        .spawn()?;
    let output = rival.stdout.take().ok_or("no pipe")?;
    let reader = std::thread::spawn(move || {
        let lines = BufReader::new(output).lines();
        lines.map_while(Result::ok).collect::<Vec<String>>()
    });
    // It says nothing when its processes are up.
    std::thread::sleep(Duration::from_secs(3));
    let truth = stage.file("truth");
    let server = stage.load.start(Some(&far.name), &truth, "tcp-serve at=10.81.0.2:21000")?;
    let words = format!(
        "tcp-calls to=10.81.0.2:21000 rate={rate} count={} hold-us={hold} first-id=1",
        rate * seconds
    );
    stage.load.begin(Some(&near.name), &truth, &words)?.finish()?;
    std::thread::sleep(Duration::from_secs(1));
    let truth = std::fs::read_to_string(&truth)?;
    // A flow is written when it was idle for a second and another packet comes.
    let late = "tcp-calls to=10.81.0.2:21000 rate=20 count=80 first-id=10000000";
    stage.load.begin(Some(&near.name), &stage.file("late"), late)?.finish()?;
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(rival.id())?),
        nix::sys::signal::Signal::SIGINT,
    )?;
    std::thread::sleep(Duration::from_millis(500));
    let _ = rival.kill();
    let _ = rival.wait();
    drop(server);
    let said = reader.join().map_err(|_| "the reader panicked")?;
    let died = std::fs::read_to_string(&complaints)?.contains("NoSuchProcess");
    let mut lines = score(what, &truth, &said)?;
    lines.push(Line::Figure(Figure {
        what: format!("{what}: its worker died"),
        value: f64::from(u8::from(died)),
        unit: "times",
        pass: None,
    }));
    Ok(lines)
}

fn score(what: &str, truth: &str, said: &[String]) -> Result<Vec<Line>, Trouble> {
    let mut found: BTreeMap<(Endpoint, Endpoint), i64> = BTreeMap::new();
    for line in said {
        let words: Vec<&str> = line.split(' ').collect();
        let [source, sport, destination, dport, pid] = words[..] else { continue };
        let end = |address: &str, port: &str| -> Result<Endpoint, Trouble> {
            Ok(Endpoint::new(address.parse::<std::net::IpAddr>()?, port.parse()?))
        };
        found.insert((end(source, sport)?, end(destination, dport)?), pid.parse()?);
    }
    let (mut right, mut wrong, mut seen) = (0, 0, 0);
    let flows = flows(truth, Seen::ByTheClient)?;
    for flow in &flows {
        let Some(Actor::Process { pid, .. }) = flow.source else { continue };
        let Some(&named) = found.get(&(flow.key.source, flow.key.destination)) else { continue };
        seen += 1;
        if named == i64::from(pid) {
            right += 1;
        } else if named >= 0 {
            wrong += 1;
        }
    }
    let figure = |part: &str, value, unit| {
        Line::Figure(Figure { what: format!("{what}: {part}"), value, unit, pass: None })
    };
    Ok(vec![
        figure("flows that it exported", percent(seen, flows.len()), "%"),
        figure("recall (clients)", percent(right, flows.len()), "%"),
        figure("wrong", f64::from(wrong), "flows"),
    ])
}
