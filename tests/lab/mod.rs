//! A lab: the real softflowd, nfcapd and nfdump around our own programs, in network namespaces of
//! their own, in a directory that goes away. What a machine cannot offer is skipped, loudly.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "each test binary uses another part of the lab"
)]

mod conversation;
mod exporter;
mod nfcapd;
mod talk;

use std::ffi::OsStr;
use std::io::{self, Write};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub use conversation::converse;
pub use exporter::{Collector, Exporter};
pub use nfcapd::{Recipe, big_file};
pub use talk::{Talk, Truth, helper, talk_if_asked};

/// Says that a test, or a part of it, does not run here. Not by `eprintln!`, which the test runner
/// keeps to itself while a test passes.
pub fn skip(why: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "SKIPPED: {why}");
}

/// Whether a program is there; says so if not.
pub fn installed(tool: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        skip(format_args!("{tool} is not installed"));
    }
    found
}

/// Whether the tools are there and we are root; says so if not.
pub fn equipped() -> bool {
    if !["ip", "nfcapd", "nfdump", "softflowd", "softflowctl"].into_iter().all(installed) {
        return false;
    }
    if !nix::unistd::geteuid().is_root() {
        skip("network namespaces and captures need root");
        return false;
    }
    true
}

/// Waits until something is so, for a while.
#[track_caller]
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(20), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A process of the lab's, ended with it.
pub struct Running(pub Child);

impl Running {
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Stops it as an operator would; its exit code.
    pub fn stop(mut self) -> Option<i32> {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory with a tracker's and an updater's state, and places for the rest.
pub struct Lab {
    pub place: tempfile::TempDir,
    pub port: u16,
}

impl Lab {
    pub fn new() -> Self {
        let place = tempfile::Builder::new().prefix("procflow-lab").tempdir().unwrap();
        // Free a moment ago; another program could take it, but has no reason to.
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { place, port }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    pub fn tracker_command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tracker"));
        command.arg("--state").arg(self.path("tracker"));
        command
    }

    /// A tracker that has taken its first look and answers.
    pub fn tracker(&self) -> Running {
        self.tracker_with(&[])
    }

    pub fn tracker_with(&self, more: &[&str]) -> Running {
        let log = self.path("tracker.log");
        let child = self
            .tracker_command()
            .arg(self.port.to_string())
            .args(more)
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut running = Running(child);
        wait_for("the tracker", || {
            let ended = running.0.try_wait().unwrap();
            assert!(ended.is_none(), "the tracker ended with {ended:?}: {}", read(&log));
            read(&log).contains("serving")
        });
        running
    }

    /// An updater that may use the tracker's local key.
    pub fn updater_command(&self) -> Command {
        let mut command = self.stranger_command();
        command.arg("--tracker-state").arg(self.path("tracker"));
        command
    }

    /// An updater that knows nothing of the tracker, as if on another host.
    pub fn stranger_command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_updater"));
        command.args(["127.0.0.1", &self.port.to_string()]);
        command.arg("--state").arg(self.path("updater"));
        command
    }

    pub fn updater<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Answer {
        Answer::of(self.updater_command().args(arguments))
    }
}

/// What a program said.
#[derive(Debug)]
pub struct Answer {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Answer {
    pub fn of(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: status.code(), out: text(stdout), err: text(stderr) }
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// Failed with this code, and said this.
    #[track_caller]
    pub fn failed(self, code: i32, said: &str) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.contains(said), "{said:?} is not in {}", self.err);
        self
    }
}

pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// A network namespace with loopback up.
pub struct Netns(pub String);

impl Netns {
    pub fn new(word: &str) -> Self {
        let name = format!("procflow-{word}-{}", std::process::id());
        let netns = Self(name);
        ip(&["netns", "add", &netns.0]);
        ip(&["-n", &netns.0, "link", "set", "lo", "up"]);
        netns
    }

    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).arg(program);
        command
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

/// A wire between two namespaces; they are 10.99.0.1 and 10.99.0.2 on it. `false` where there are no
/// veth devices.
pub fn wire(one: &Netns, other: &Netns) -> bool {
    let make = ["link", "add", "wire", "netns", &one.0, "type", "veth", "peer", "wire"];
    let made = Command::new("ip").args(make).args(["netns", &other.0]).output();
    if !made.is_ok_and(|output| output.status.success()) {
        return false;
    }
    for (netns, address) in [(one, "10.99.0.1/24"), (other, "10.99.0.2/24")] {
        ip(&["-n", &netns.0, "address", "add", address, "dev", "wire"]);
        ip(&["-n", &netns.0, "link", "set", "wire", "up"]);
    }
    true
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {output:?}");
}

/// nfcapd's rotation interval in seconds: the shortest that it takes.
const SLOT: &str = "2";

/// softflowd and nfcapd on the loopback of a namespace.
pub struct Capture<'a> {
    netns: &'a Netns,
    softflowd: Running,
    nfcapd: Running,
    control: PathBuf,
    pub flows: PathBuf,
}

impl<'a> Capture<'a> {
    pub fn start(lab: &Lab, netns: &'a Netns, name: &str) -> Self {
        let flows = lab.directory(name);
        let control = lab.path(&format!("{name}.ctl"));
        let quiet =
            || Stdio::from(std::fs::File::create(lab.path(&format!("{name}.log"))).unwrap());
        let log = lab.path(&format!("{name}.nfcapd.log"));
        let nfcapd = netns
            .command("nfcapd")
            .args(["-p", "9995", "-b", "127.0.0.1", "-t", SLOT, "-w"])
            .arg(&flows)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let nfcapd = Running(nfcapd);
        let softflowd = netns
            .command("softflowd")
            .args(["-d", "-i", "lo", "-v", "9", "-n", "127.0.0.1:9995", "-t", "expint=1"])
            .args(["-t", "tcp.fin=2", "-t", "tcp=20", "-t", "udp=20", "-t", "general=20"])
            .arg("-c")
            .arg(&control)
            .arg("-p")
            .arg(lab.path(&format!("{name}.pid")))
            .stdout(quiet())
            .stderr(quiet())
            .spawn()
            .unwrap();
        let capture = Self { netns, softflowd: Running(softflowd), nfcapd, control, flows };
        wait_for("softflowd", || capture.control("statistics").contains("Packets processed"));
        wait_for("nfcapd", || read(&log).contains("Startup"));
        capture
    }

    fn control(&self, what: &str) -> String {
        let mut command = Command::new("softflowctl");
        let output = command.arg("-c").arg(&self.control).arg(what).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Ends the capture; every flow is then in a final file.
    ///
    /// softflowd gets its packets in blocks of about 2,000 (libpcap waits until one is full), so
    /// the last ones are pushed through by a flood that is none of the test's traffic.
    pub fn finish(self) -> PathBuf {
        let exe = std::env::current_exe().unwrap();
        let flood = helper(self.netns.command(exe)).env("TALK", "flood").output().unwrap();
        assert!(flood.status.success(), "{flood:?}");
        std::thread::sleep(Duration::from_millis(500));
        self.control("expire-all");
        std::thread::sleep(Duration::from_millis(1500));
        self.control("shutdown");
        drop(self.softflowd);
        std::thread::sleep(Duration::from_millis(300));
        self.nfcapd.stop();
        // Until the last slot is over too, and its file final.
        std::thread::sleep(Duration::from_secs(SLOT.parse().unwrap()));
        self.flows
    }
}

/// nfdump's own lines of a directory or file.
pub fn nfdump(path: &Path, format: &str) -> Vec<String> {
    let source = if path.is_dir() { "-R" } else { "-r" };
    let mut command = Command::new("nfdump");
    let output = command.arg("-q").arg(source).arg(path).args(["-o", format]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.filter(|line| !line.starts_with("No matching flows")).map(str::to_owned).collect()
}

/// The final files of a directory.
pub fn final_files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let is_final = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("nfcapd.2")
    };
    let mut files: Vec<PathBuf> = entries.filter(is_final).collect();
    files.sort();
    files
}
