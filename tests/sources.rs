//! What the tracker does where its best source does not run: it says why, takes the next one, and serves.
//! And that its programs in the kernel never show to those whose sockets they see.
#![cfg(target_os = "linux")]

mod lab;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lab::{Lab, Running, installed, read, skip, wait_for};

/// One at a time: these tests change what all trackers of the host may do.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skip("what a tracker may do is changed by root");
    }
    root
}

/// A tracker started by `command` before its own words; once it serves, what it said.
fn serves(lab: &Lab, mut command: Command, tracker: &Path, state: &Path) -> (Running, String) {
    let log = lab.path("tracker.log");
    let child = command
        .arg(tracker)
        .arg("--state")
        .arg(state)
        .arg(lab.port.to_string())
        .stdin(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let running = Running(child);
    wait_for("the tracker", || read(&log).contains("serving"));
    (running, read(&log))
}

fn own_tracker() -> PathBuf {
    env!("CARGO_BIN_EXE_tracker").into()
}

/// `env`, which changes nothing.
fn plainly() -> Command {
    Command::new("env")
}

/// Whether eBPF runs here at all; where it does not, the rest would prove nothing.
fn ebpf_runs(lab: &Lab) -> bool {
    let (tracker, said) = serves(lab, plainly(), &own_tracker(), &lab.path("first"));
    assert_eq!(tracker.stop(), Some(0));
    let runs = said.contains("watching with eBPF");
    if !runs {
        assert!(std::env::var_os("CI").is_none(), "eBPF must run where this is checked: {said}");
        skip("eBPF does not run here");
    }
    runs
}

/// Where the root of the cgroup2 hierarchy is mounted.
fn cgroup2() -> Option<String> {
    let mounts = read(Path::new("/proc/self/mounts"));
    let found = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    found.split(' ').nth(1).map(str::to_owned)
}

/// Somebody else's program on the root of the hierarchy that allows no other beside it. It goes when
/// this does.
struct Exclusive(Child);

/// bpf(2): loads `r0 = 1; exit` as a sock_ops program, attaches it without BPF_F_ALLOW_MULTI, and
/// detaches it at the end of its input.
const EXCLUSIVE: &str = r#"
import ctypes, os, platform, struct, sys
number = {"x86_64": 321, "aarch64": 280}[platform.machine()]
libc = ctypes.CDLL(None, use_errno=True)
def bpf(command, attributes):
    attributes = ctypes.create_string_buffer(attributes, 128)
    result = libc.syscall(number, command, attributes, 128)
    if result < 0:
        sys.exit("bpf %d: %s" % (command, os.strerror(ctypes.get_errno())))
    return result
code = ctypes.create_string_buffer(bytes.fromhex("b700000001000000" "9500000000000000"))
license = ctypes.create_string_buffer(b"GPL")
program = bpf(5, struct.pack("IIQQIIQII16sII", 13, 2, ctypes.addressof(code), ctypes.addressof(license),
                             0, 0, 0, 0, 0, b"exclusive", 0, 3))
cgroup = os.open(sys.argv[1], os.O_RDONLY)
bpf(8, struct.pack("IIII", cgroup, program, 3, 0))
print("attached", flush=True)
sys.stdin.read()
bpf(9, struct.pack("IIII", cgroup, program, 3, 0))
"#;

impl Exclusive {
    fn attach(cgroup: &str) -> Option<Self> {
        let mut child = Command::new("python3")
            .args(["-c", EXCLUSIVE, cgroup])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
        (line == "attached\n").then_some(Self(child))
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn a_program_that_cannot_be_attached_makes_room_for_the_next_source() {
    let _alone = alone();
    let lab = Lab::new();
    if !root() || !installed("python3") || !ebpf_runs(&lab) {
        return;
    }
    let Some(other) = cgroup2().and_then(|cgroup| Exclusive::attach(&cgroup)) else {
        return skip("another tracker is running: nothing exclusive can be attached beside it");
    };
    let (tracker, said) = serves(&lab, plainly(), &own_tracker(), &lab.path("tracker"));
    assert!(said.contains("watching with sock_diag"), "{said}");
    assert!(said.contains("eBPF does not work (the eBPF program tcp cannot be used"), "{said}");
    assert_eq!(tracker.stop(), Some(0));
    // Asked for by name, it is no fallback but a failure.
    let answer = lab.tracker_command().args(["--source", "ebpf"]).arg("1").output().unwrap();
    assert_eq!(answer.status.code(), Some(1));
    drop(other);
    assert!(ebpf_runs(&lab));
}

#[test]
fn without_cgroup2_the_next_source_fills_in() {
    let _alone = alone();
    let lab = Lab::new();
    if !root() || !installed("unshare") || !ebpf_runs(&lab) {
        return;
    }
    let Some(cgroup) = cgroup2() else { return skip("no cgroup2 to take away") };
    let mut command = Command::new("unshare");
    let script = format!("umount -l '{cgroup}' && exec \"$@\"");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    let (_tracker, said) = serves(&lab, command, &own_tracker(), &lab.path("tracker"));
    assert!(said.contains("watching with sock_diag"), "{said}");
    assert!(said.contains("the root of the cgroup2 hierarchy is not mounted"), "{said}");
}

/// A copy of the tracker that everybody may run, and a state directory of nobody's.
fn for_nobody(lab: &Lab) -> (PathBuf, PathBuf) {
    std::fs::set_permissions(lab.place.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let copy = lab.path("tracker-of-nobody");
    std::fs::copy(own_tracker(), &copy).unwrap();
    std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o755)).unwrap();
    let state = lab.directory("state-of-nobody");
    chown(&state, Some(65534), Some(65534)).unwrap();
    (copy, state)
}

fn as_nobody(capabilities: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.arg(format!("--inh-caps={capabilities}"));
    command.arg(format!("--ambient-caps={capabilities}"));
    command
}

#[test]
fn without_privileges_it_sees_less_and_says_so() {
    let _alone = alone();
    let lab = Lab::new();
    if !root() || !installed("setpriv") {
        return;
    }
    let (copy, state) = for_nobody(&lab);
    let (_tracker, said) = serves(&lab, as_nobody("-all"), &copy, &state);
    assert!(said.contains("watching with sock_diag"), "{said}");
    for lost in ["eBPF does not work", "CAP_SYS_PTRACE", "CAP_SYS_ADMIN is missing"] {
        assert!(said.contains(lost), "{lost}: {said}");
    }
}

#[test]
fn with_a_few_capabilities_it_needs_no_root() {
    let _alone = alone();
    let lab = Lab::new();
    if !root() || !installed("setpriv") || !ebpf_runs(&lab) {
        return;
    }
    let (copy, state) = for_nobody(&lab);
    // CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF; CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE for what exists
    // already.
    let some = as_nobody("-all,+cap_12,+cap_38,+cap_39,+cap_2,+cap_19");
    let (_tracker, said) = serves(&lab, some, &copy, &state);
    assert!(said.contains("watching with eBPF"), "{said}");
    assert!(!said.contains("CAP_SYS_PTRACE is missing"), "{said}");
    assert!(said.contains("CAP_SYS_ADMIN is missing"), "other namespaces: {said}");
}

#[test]
fn built_without_clang_it_runs_on_the_next_source() {
    let _alone = alone();
    if std::env::var_os("CI").is_none() {
        return skip("a second build, without clang, is only made where CI is set");
    }
    let lab = Lab::new();
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/without-clang");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--bin", "tracker", "--target-dir"])
        .arg(&target)
        .env("CLANG", "")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
    assert!(said.contains("clang is not installed"), "a warning: {said}");
    let tracker = target.join("debug/tracker");
    let (_tracker, said) = serves(&lab, plainly(), &tracker, &lab.path("tracker"));
    assert!(said.contains("watching with sock_diag"), "{said}");
    assert!(said.contains("built without clang"), "{said}");
}

/// One of everything that users do with sockets; an error of any of it is an error of the test.
fn use_sockets() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    client.write_all(b"question")?;
    let mut bytes = [0; 8];
    server.read_exact(&mut bytes)?;
    server.write_all(b"answer")?;
    drop(server);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer)?;
    assert_eq!((&bytes, &answer[..]), (b"question", &b"answer"[..]));

    // tcpmux: not an ephemeral port, where a connection could meet itself.
    let refused = TcpStream::connect("127.0.0.1:1").map_err(|error| error.kind()).err();
    assert_eq!(refused, Some(std::io::ErrorKind::ConnectionRefused));

    for address in ["127.0.0.1:0", "[::1]:0"] {
        let receiver = UdpSocket::bind(address)?;
        receiver.set_read_timeout(Some(Duration::from_secs(5)))?;
        let sender = UdpSocket::bind(address)?;
        sender.send_to(b"to", receiver.local_addr()?)?;
        sender.connect(receiver.local_addr()?)?;
        sender.send(b"connected")?;
        assert_eq!(receiver.recv(&mut bytes)?, 2);
        assert_eq!(receiver.recv(&mut bytes)?, 8, "cut to the buffer");
    }
    let mapped = UdpSocket::bind("[::]:0")?;
    mapped.send_to(b"x", (Ipv4Addr::LOCALHOST.to_ipv6_mapped(), mapped.local_addr()?.port()))?;
    assert_eq!(mapped.recv(&mut bytes)?, 1);
    Ok(())
}

#[test]
fn users_sockets_behave_the_same_whatever_happens_to_the_tracker() {
    let _alone = alone();
    let lab = Lab::new();
    if !root() || !ebpf_runs(&lab) {
        return;
    }
    use_sockets().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let user = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let mut times = 0;
            while !stop.load(Ordering::Relaxed) {
                use_sockets()?;
                times += 1;
            }
            Ok::<u32, std::io::Error>(times)
        }
    });
    for round in 0..12 {
        let (mut tracker, said) = serves(&lab, plainly(), &own_tracker(), &lab.path("tracker"));
        assert!(said.contains("watching with eBPF"), "{said}");
        std::thread::sleep(Duration::from_millis(50 * (round % 4)));
        if round % 2 == 0 {
            tracker.0.kill().unwrap();
            tracker.0.wait().unwrap();
        } else {
            assert_eq!(tracker.stop(), Some(0));
        }
    }
    stop.store(true, Ordering::Relaxed);
    let times = user.join().unwrap().unwrap();
    assert!(times > 100, "only {times} rounds");
}
