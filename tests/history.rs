//! The tracker's history on disk: it outlives the tracker, answers questions, and travels as a file.

mod lab;

use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, SystemTime};

use lab::{Answer, Lab, Recipe, big_file, installed, nfdump};
use nix::sys::signal::Signal;

/// A connection of this process to itself.
struct Connection {
    client: TcpStream,
    server: TcpListener,
    _accepted: TcpStream,
}

impl Connection {
    fn new() -> Self {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        let (accepted, _) = server.accept().unwrap();
        Self { client, server, _accepted: accepted }
    }

    fn ends(&self) -> [String; 2] {
        let text = |address: std::net::SocketAddr| address.to_string();
        [text(self.client.local_addr().unwrap()), text(self.server.local_addr().unwrap())]
    }
}

fn seconds() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64()
}

fn ask(lab: &Lab, at: f64, ends: &[String; 2], more: &[&str]) -> Answer {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tracker"));
    command.args(["query", "--proto", "tcp", "--at", &format!("@{at:.3}")]);
    command.args(["--local", &ends[0], "--remote", &ends[1]]).args(more);
    Answer::of(command.arg("--state").arg(lab.path("tracker"))).ok()
}

/// The name of this test's process, as the kernel has it.
fn own_comm() -> String {
    std::fs::read_to_string("/proc/self/comm").unwrap().trim().to_owned()
}

#[test]
fn what_was_seen_outlives_a_killed_tracker() {
    let lab = Lab::new();
    let mut asked = Vec::new();
    for _ in 0..3 {
        let tracker = lab.tracker();
        let connection = Connection::new();
        let ends = connection.ends();
        std::thread::sleep(Duration::from_millis(700));
        let at = seconds();
        asked.push((at, ends));
        std::thread::sleep(Duration::from_millis(300));
        drop(connection);
        std::thread::sleep(Duration::from_millis(700));
        tracker.signal(Signal::SIGKILL);
        drop(tracker);
    }
    let last = asked.len() - 1;
    let _tracker = lab.tracker();
    for (i, (at, ends)) in asked.iter().enumerate() {
        let answer = ask(&lab, *at, ends, &[]).out;
        assert!(answer.starts_with("known (exact)"), "start {i} of {last}: {answer}");
        assert!(answer.contains(&own_comm()), "{answer}");
        let json = ask(&lab, *at, ends, &["--json"]).out;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["why"], "exact");
        assert_eq!(json["processes"][0]["pid"], std::process::id());
    }
    let before = ask(&lab, asked[0].0 - 3600.0, &asked[0].1, &[]).out;
    assert_eq!(before, "unknown: before-history\n");
}

/// Copies of one flow, from the first end to the second, in a file of their own.
fn flow(ends: &[String; 2], at: f64, directory: &Path) -> std::path::PathBuf {
    let [source, destination] = [0, 1].map(|i| ends[i].parse::<SocketAddrV4>().unwrap());
    let path = directory.join("nfcapd.20261121030000");
    let first_ms = (at * 1000.0) as u64;
    let last_ms = first_ms + 10;
    big_file(&path, &Recipe { source, destination, protocol: 6, flows: 1, first_ms, last_ms });
    path
}

#[test]
fn a_history_travels_as_a_file_and_names_flows_without_a_network() {
    if !installed("nfdump") {
        return;
    }
    let lab = Lab::new();
    let tracker = lab.tracker();
    let connection = Connection::new();
    let ends = connection.ends();
    std::thread::sleep(Duration::from_millis(700));
    let at = seconds();
    std::thread::sleep(Duration::from_millis(500));
    drop(connection);
    std::thread::sleep(Duration::from_millis(700));
    tracker.stop();
    // From the start before this one, over a restart.
    let tracker = lab.tracker();
    let file = lab.path("night.history");
    let export = |since: &str, until: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tracker"));
        command.args(["export", "--since", since, "--until", until, "--state"]);
        Answer::of(command.arg(lab.path("tracker")).arg(&file))
    };
    export("1m", "1h").failed(2, "--since is later than --until");
    let said = export("1h", "now").ok().out;
    assert!(said.contains("of 2 starts of the tracker"), "{said}");
    tracker.stop();

    let flows = lab.directory("flows");
    let path = flow(&ends, at, &flows);
    let update = |history: &Path| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_updater"));
        command.arg("--history").arg(history).arg("--file").arg(&path);
        command.args([
            "--vantage",
            "host",
            "--grace",
            "0s",
            "--slot",
            "1s",
            "--tolerance",
            "100ms",
        ]);
        Answer::of(command.arg("--state").arg(lab.path("updater")))
    };
    let bytes = std::fs::read(&file).unwrap();
    let cut = lab.path("cut.history");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    update(&cut).failed(1, "cut.history, at byte");
    update(&file).ok();
    let names = nfdump(&path, "fmt:%uname");
    let own = own_comm();
    assert!(names.iter().any(|name| name.trim() == format!("{own}>{own}")), "{names:?}");
}

#[test]
fn an_updater_that_comes_late_hears_of_earlier_starts() {
    let lab = Lab::new();
    let tracker = lab.tracker();
    let connection = Connection::new();
    let ends = connection.ends();
    std::thread::sleep(Duration::from_millis(700));
    let at = seconds();
    std::thread::sleep(Duration::from_millis(300));
    drop(connection);
    std::thread::sleep(Duration::from_millis(700));
    tracker.stop();
    let _tracker = lab.tracker();
    let flows = lab.directory("flows");
    let path = flow(&ends, at, &flows);
    let more = ["--vantage", "host", "--tolerance", "100ms", "--file"];
    lab.updater(more.iter().map(Path::new).chain([path.as_path()])).ok();
    if installed("nfdump") {
        let names = nfdump(&path, "fmt:%uname");
        let own = own_comm();
        assert!(names.iter().any(|name| name.trim() == format!("{own}>{own}")), "{names:?}");
    }
}

#[test]
fn a_damaged_history_is_moved_aside_with_a_warning() {
    let lab = Lab::new();
    lab.tracker().stop();
    let database = lab.path("tracker/history.db");
    std::fs::write(&database, "not a database, though quite as long as one. ".repeat(200)).unwrap();
    let tracker = lab.tracker();
    let said = lab::read(&lab.path("tracker.log"));
    assert!(said.contains("WARNING") && said.contains("history.db.broken-1"), "{said}");
    tracker.stop();
    assert!(lab.path("tracker/history.db.broken-1").exists());
}
