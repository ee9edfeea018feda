//! The eBPF source on the running kernel: what is over before anybody could look is told, with who did
//! it; what is lost is counted and named.
#![cfg(target_os = "linux")]

mod world;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use procflow_binding::{
    BootTime, Change, Coverage, Details, GapCause, Process, ProcessKey, Role, Socket, SocketId,
};
use procflow_core::{Endpoint, Protocol};
use procflow_probe::{Choice, Options, ProbeError, Redaction, Shortfall, Source, open};
use world::{alone, skip};

/// The source; `None`, and loudly so, where it may not run.
fn source(options: &Options) -> Option<Box<dyn Source>> {
    match open(Choice::Ebpf, options) {
        Ok(source) => Some(source),
        Err(error) if std::env::var_os("CI").is_none() => {
            skip(format_args!("the eBPF source does not run here: {error}"));
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// All that was told, as events.
#[derive(Default)]
struct Story {
    changes: Vec<(BootTime, Change)>,
}

impl Story {
    fn follow(&mut self, source: &mut dyn Source) {
        let batch = source.collect().unwrap();
        self.changes.extend(batch.changes);
    }

    /// Follows until `found` finds something; at most five seconds.
    #[track_caller]
    fn until<T>(
        &mut self,
        source: &mut dyn Source,
        what: &str,
        found: impl Fn(&Self) -> Option<T>,
    ) -> T {
        for _ in 0..500 {
            self.follow(source);
            if let Some(found) = found(self) {
                return found;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{what}: not told in five seconds");
    }

    /// The sockets that were ever told with such endpoints, with everybody who ever held them.
    fn sockets(&self, wanted: impl Fn(&Socket) -> bool) -> BTreeMap<SocketId, Vec<u32>> {
        let mut found: BTreeMap<SocketId, Vec<u32>> = BTreeMap::new();
        for (_, change) in &self.changes {
            let (id, owners) = match change {
                Change::Open(open) if wanted(&open.socket) => (open.id, &open.owners),
                Change::Owners(owners) if found.contains_key(&owners.id) => {
                    (owners.id, &owners.owners)
                }
                _ => continue,
            };
            let known = found.entry(id).or_default();
            known.extend(owners.iter().map(|owner| owner.pid));
            known.dedup();
        }
        found
    }

    fn closed(&self, id: SocketId) -> bool {
        self.changes.iter().any(|(_, change)| matches!(change, Change::Close(c) if c.id == id))
    }

    fn process(&self, pid: u32) -> Option<&Process> {
        self.changes.iter().rev().find_map(|(_, change)| match change {
            Change::Process(process) if process.key.pid == pid => Some(process),
            _ => None,
        })
    }

    fn details(&self, key: ProcessKey) -> Option<&Details> {
        self.changes.iter().rev().find_map(|(_, change)| match change {
            Change::Details(details) if details.process == key => Some(details),
            _ => None,
        })
    }
}

/// Runs a Python program until its end; its pid, and what it printed.
fn python(program: &str, arguments: &[&str]) -> Option<(u32, String)> {
    let child = Command::new("python3")
        .args([&["-c", program], arguments].concat())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        skip(format_args!("no python3"));
        return None;
    };
    let (pid, mut printed) = (child.id(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert!(child.wait().unwrap().success());
    Some((pid, printed))
}

#[test]
fn a_connection_that_is_over_at_once_is_told_with_a_process_that_is_gone() {
    let _alone = alone();
    let Some(mut source) =
        source(&Options { arguments: Some(Redaction::default()), ..Options::default() })
    else {
        return;
    };
    let mut story = Story::default();
    story.follow(source.as_mut());
    assert_eq!(source.coverage(), Coverage::Complete);
    // It is not told anything but by its own programs, and does not look for sockets either.
    let of_looks = |shortfall: &Shortfall| {
        matches!(
            shortfall,
            Shortfall::Polled { .. }
                | Shortfall::Prompted { .. }
                | Shortfall::NoReports { .. }
                | Shortfall::ReportsElsewhere { .. }
                | Shortfall::NoProcessEvents { .. }
        )
    };
    assert!(!source.shortfalls().iter().any(of_looks), "{:?}", source.shortfalls());

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let accepting = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        connection.write_all(b"x").unwrap();
    });
    let program = "import socket,sys; c=socket.create_connection(('127.0.0.1',int(sys.argv[1]))); \
                   print(c.getsockname()[1])";
    let arguments = [&server.port().to_string(), "--password", "hunter2-of-this-test"];
    let Some((pid, port)) = python(program, &arguments) else { return };
    accepting.join().unwrap();

    let client = Endpoint::new(Ipv4Addr::LOCALHOST, port.trim().parse().unwrap());
    let server = Endpoint::from(server);
    let ends = |story: &Story, local, remote| {
        let found = story.sockets(|s| s.local() == local && s.remote() == Some(remote));
        let (&id, owners) = found.first_key_value()?;
        story.closed(id).then(|| owners.clone())
    };
    let owners = story.until(source.as_mut(), "the client's end", |s| ends(s, client, server));
    assert_eq!(owners, [pid]);
    let owners = story.until(source.as_mut(), "the server's end", |s| ends(s, server, client));
    assert_eq!(owners, [std::process::id()]);

    // All of it was captured while the process lived.
    let process = story.process(pid).unwrap();
    assert!(process.comm.starts_with("python3"), "{process:?}");
    assert!(process.executable.as_ref().unwrap().contains("/python3"), "{process:?}");
    assert_eq!(process.uid, Some(nix::unistd::getuid().as_raw()));
    let details = story.details(process.key).unwrap();
    assert_eq!(details.ancestors[0].key.pid, std::process::id());
    let line = details.command_line.as_ref().unwrap();
    assert_eq!(line[1..3], ["-c", program]);
    assert_eq!(line[4..], ["--password", "[redacted]"]);
    assert!(!format!("{:?}", story.changes).contains("hunter2-of-this-test"));
}

#[test]
fn datagrams_of_every_kind_are_told() {
    let _alone = alone();
    let Some(mut source) = source(&Options::default()) else { return };
    let mut story = Story::default();
    story.follow(source.as_mut());
    let me = std::process::id();

    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = receiver.local_addr().unwrap();
    let unconnected = UdpSocket::bind("0.0.0.0:0").unwrap();
    unconnected.send_to(b"x", to).unwrap();
    let connected = UdpSocket::bind("0.0.0.0:0").unwrap();
    connected.connect(to).unwrap();
    connected.send(b"x").unwrap();
    let mapped = UdpSocket::bind("[::]:0").unwrap();
    mapped.send_to(b"x", (Ipv4Addr::LOCALHOST.to_ipv6_mapped(), to.port())).unwrap();
    // Sends to somebody else than its peer.
    let both = UdpSocket::bind("127.0.0.1:0").unwrap();
    both.connect(to).unwrap();
    both.send(b"x").unwrap();
    both.send_to(b"x", unconnected.local_addr().map(|a| ("127.0.0.1", a.port())).unwrap()).unwrap();

    let port = |socket: &UdpSocket| socket.local_addr().unwrap().port();
    for (what, port, role) in [
        ("only receives", port(&receiver), Role::Bound),
        ("unconnected", port(&unconnected), Role::Bound),
        ("connected", port(&connected), Role::Connected),
        ("on :: to IPv4", port(&mapped), Role::Bound),
        ("has a peer", port(&both), Role::Connected),
    ] {
        let owners = story.until(source.as_mut(), what, |story| {
            let wanted = |s: &Socket| {
                (s.protocol(), s.local().port(), s.role()) == (Protocol::UDP, port, role)
            };
            story.sockets(wanted).into_values().next()
        });
        assert_eq!(owners, [me], "{what}");
    }
    // The last thing told of it is that it talks to many.
    let last = story.changes.iter().rev().find_map(|(_, change)| match change {
        Change::Open(open) if open.socket.local().port() == port(&both) => Some(open.socket.role()),
        _ => None,
    });
    assert_eq!(last, Some(Role::Bound));
    let dual = story.changes.iter().any(|(_, change)| {
        matches!(change, Change::Open(open)
            if open.socket.local().port() == port(&mapped) && open.socket.is_dual_stack())
    });
    assert!(dual, "a socket on :: takes IPv4 too");
}

#[test]
fn what_a_raw_socket_sends_to_is_told() {
    let _alone = alone();
    let Some(mut source) = source(&Options::default()) else { return };
    let mut story = Story::default();
    story.follow(source.as_mut());
    let program = "import socket; s=socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); \
                   s.sendto(bytes([8,0,0xf7,0xfd,0,1,0,1]), ('127.0.0.3', 0))";
    if !nix::unistd::geteuid().is_root() {
        return skip(format_args!("raw sockets need root"));
    }
    let Some((pid, _)) = python(program, &[]) else { return };
    let remote = Endpoint::new(Ipv4Addr::new(127, 0, 0, 3), 0);
    let owners = story.until(source.as_mut(), "the conversation", |story| {
        let wanted = |s: &Socket| s.protocol() == Protocol::ICMP && s.remote() == Some(remote);
        story.sockets(wanted).into_iter().find(|(id, _)| story.closed(*id))
    });
    assert_eq!(owners.1, [pid]);
}

#[test]
fn who_sends_frames_of_its_own_is_told() {
    let _alone = alone();
    let Some(mut source) = source(&Options::default()) else { return };
    let mut story = Story::default();
    story.follow(source.as_mut());
    if !nix::unistd::geteuid().is_root() {
        return skip(format_args!("frames need root"));
    }
    // A UDP datagram to port 9 of 127.0.0.1, put together by hand, below every socket.
    let program = "
import socket, struct
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
ip = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 29, 0, 0, 64, 17, 0, bytes([127,0,0,4]), bytes([127,0,0,1]))
udp = struct.pack('!HHHH', 4444, 9, 9, 0) + b'x'
s.sendto(ip + udp, ('lo', 0x0800, 0, 0, bytes(6)))";
    let Some((pid, _)) = python(program, &[]) else { return };
    let local = Endpoint::new(Ipv4Addr::new(127, 0, 0, 4), 4444);
    let remote = Endpoint::new(Ipv4Addr::LOCALHOST, 9);
    let (_, owners) = story.until(source.as_mut(), "the frame", |story| {
        let wanted = |s: &Socket| s.local() == local && s.remote() == Some(remote);
        story.sockets(wanted).into_iter().find(|(id, _)| story.closed(*id))
    });
    assert_eq!(owners, [pid]);
}

#[test]
fn what_finds_no_room_is_counted_and_leaves_a_gap() {
    let _alone = alone();
    let Some(mut source) = source(&Options { ring: 1 << 17, ..Options::default() }) else {
        return;
    };
    let mut story = Story::default();
    story.follow(source.as_mut());
    let stays = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sockets: Vec<UdpSocket> =
        (0..2000).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    drop(sockets);
    let late = UdpSocket::bind("127.0.0.1:0").unwrap();
    let after = procflow_probe::now().unwrap();

    let gap = story.until(source.as_mut(), "the gap", |story| {
        story.changes.iter().find_map(|(_, change)| match change {
            Change::Gap(gap) => Some(*gap),
            _ => None,
        })
    });
    assert_eq!(gap.cause, GapCause::EventsLost);
    assert!(gap.begin < after && after < gap.end, "{gap:?}");
    // What is still there is listed, whether its own event was lost or not.
    let at = |socket: &UdpSocket| Endpoint::from(socket.local_addr().unwrap());
    for socket in [&stays, &late] {
        let owners = story.until(source.as_mut(), "a socket that is still there", |story| {
            story.sockets(|s| s.local() == at(socket)).into_values().next()
        });
        assert!(owners.contains(&std::process::id()));
    }
    let listed = story.changes.iter().filter(|(_, c)| *c == Change::Listed).count();
    assert_eq!(listed, 2);
    // Nothing is unaccounted for.
    story.follow(source.as_mut());
    let counts = source.counts();
    let sum = |of: fn(&procflow_probe::Count) -> u64| counts.iter().map(of).sum::<u64>();
    assert!(sum(|c| c.lost) > 0);
    let bound = counts.iter().find(|count| count.name == "bound").unwrap();
    assert!(bound.attempted >= 2002);
    assert_eq!(bound.attempted, bound.consumed + bound.lost, "{counts:?}");
}

/// Whether the kernel keeps a tuple of IPv4 in TIME_WAIT.
fn waits(local: Endpoint, remote: Endpoint) -> bool {
    let written = |end: Endpoint| match end.address() {
        // As proc_pid_net(5) has it: the address in the host's byte order, the port as a number.
        std::net::IpAddr::V4(v4) => {
            format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.octets()), end.port())
        }
        std::net::IpAddr::V6(_) => String::new(),
    };
    let wanted = [written(local), written(remote), "06".to_owned()];
    let listed = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    listed.lines().any(|line| line.split_whitespace().skip(1).take(3).eq(&wanted))
}

#[test]
fn after_a_loss_a_connection_in_time_wait_is_not_told_again() {
    let _alone = alone();
    let Some(mut source) = source(&Options { ring: 1 << 17, ..Options::default() }) else {
        return;
    };
    let mut story = Story::default();
    story.follow(source.as_mut());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(b"x").unwrap();
    server.read_exact(&mut [0]).unwrap();
    let local = Endpoint::from(client.local_addr().unwrap());
    let remote = Endpoint::from(client.peer_addr().unwrap());
    // The end that closes first is the one that waits.
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
    drop((server, client));
    let opened = |story: &Story| {
        let told = story.changes.iter().filter(|(_, change)| {
            matches!(change, Change::Open(open)
                if open.socket.local() == local && open.socket.remote() == Some(remote))
        });
        told.count()
    };
    story.until(source.as_mut(), "its end", |story| {
        let ids = story.sockets(|s| s.local() == local && s.remote() == Some(remote));
        ids.into_keys().find(|&id| story.closed(id))
    });
    assert_eq!(opened(&story), 1);
    assert!(waits(local, remote));

    let sockets: Vec<UdpSocket> =
        (0..2000).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    drop(sockets);
    story.until(source.as_mut(), "the second list", |story| {
        let listed = story.changes.iter().filter(|(_, c)| *c == Change::Listed).count();
        (listed == 2).then_some(())
    });
    assert!(waits(local, remote), "it would have been listed");
    assert_eq!(opened(&story), 1);
    // The listener is there, and told again.
    let listening = |s: &Socket| s.role() == Role::Listening && s.local() == remote;
    assert_eq!(story.sockets(listening).len(), 1);
}

#[test]
fn a_program_that_is_refused_is_named_with_what_is_lost() {
    let _alone = alone();
    let without = |name: &str| Options { leave_out: vec![name.to_owned()], ..Options::default() };
    if source(&Options::default()).is_none() {
        return;
    }
    let mut lame = open(Choice::Ebpf, &without("leaving")).unwrap();
    lame.collect().unwrap();
    assert!(matches!(lame.coverage(), Coverage::Polled { .. }));
    let said: Vec<String> = lame.shortfalls().iter().map(ToString::to_string).collect();
    assert!(said.iter().any(|s| s.contains("leaving") && s.contains("raw sockets")), "{said:?}");
    drop(lame);
    // One that it cannot do without.
    let refused = open(Choice::Ebpf, &without("tcp")).err().unwrap();
    assert!(matches!(refused, ProbeError::Program { name: "tcp", .. }), "{refused}");
    let next = open(Choice::Auto, &without("tcp")).unwrap();
    assert_eq!(next.name(), "sock_diag");
    let said = next.shortfalls();
    assert!(
        matches!(&said[0], Shortfall::NoEbpf { because, .. } if because.contains("tcp")),
        "{said:?}"
    );
}

#[test]
fn a_socket_that_a_child_inherited_belongs_to_both() {
    let _alone = alone();
    let Some(mut source) = source(&Options::default()) else { return };
    let mut story = Story::default();
    story.follow(source.as_mut());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    // The parent accepts and never touches it again; the child answers.
    let program = "import socket,sys; s=socket.socket(fileno=0); s.send(b'x')";
    let local = Endpoint::from(accepted.local_addr().unwrap());
    let remote = Endpoint::from(accepted.peer_addr().unwrap());
    let child = Command::new("python3")
        .args(["-c", program])
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(accepted)))
        .spawn();
    let Ok(mut child) = child else { return skip(format_args!("no python3")) };
    let mut byte = [0];
    client.read_exact(&mut byte).unwrap();
    child.wait().unwrap();
    let owners = story.until(source.as_mut(), "who answered", |story| {
        let found = story.sockets(|s| s.local() == local && s.remote() == Some(remote));
        found.into_values().next().filter(|owners| !owners.is_empty())
    });
    assert_eq!(owners, [child.id()], "not who listened");
}

/// A copy of a program in a place of its own, and its SHA-256 as another program computes it.
struct Copied {
    directory: std::path::PathBuf,
    path: std::path::PathBuf,
}

impl Copied {
    fn bash(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("told-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("copy");
        std::fs::copy("/bin/bash", &path).unwrap();
        Self { directory, path }
    }

    fn sha256(&self) -> String {
        let output = Command::new("sha256sum").arg(&self.path).output().unwrap();
        String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap().to_owned()
    }

    /// Runs it: it connects, says so and waits.
    fn connect(&self, server: std::net::SocketAddr) -> std::process::Child {
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/{}; echo; read line", server.port());
        let mut child = Command::new(&self.path)
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        child
    }

    /// Runs it to its end.
    fn run(&self, server: std::net::SocketAddr) -> u32 {
        let mut child = self.connect(server);
        drop(child.stdin.take());
        child.wait().unwrap();
        child.id()
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A later change would have another ctime than one before this.
fn settle() {
    std::thread::sleep(Duration::from_millis(100));
}

impl Story {
    /// The digest of a process' executable, in hexadecimal.
    fn digest(&self, pid: u32) -> Option<String> {
        let digest = self.details(self.process(pid)?.key)?.digest?;
        Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

#[test]
fn a_digest_is_of_what_was_executed_or_there_is_none() {
    let _alone = alone();
    let Some(mut source) = source(&Options { digests: true, ..Options::default() }) else {
        return;
    };
    let mut story = Story::default();
    story.follow(source.as_mut());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();

    let (gone, deleted, written, replaced, unlinked) = (
        Copied::bash("gone"),
        Copied::bash("deleted"),
        Copied::bash("written"),
        Copied::bash("replaced"),
        Copied::bash("unlinked"),
    );
    let right = gone.sha256();
    settle();
    let was_gone = gone.run(server);
    let was_written = written.run(server);
    let was_unlinked = unlinked.run(server);
    let mut is_deleted = deleted.connect(server);
    let mut is_replaced = replaced.connect(server);
    // Nothing was collected since: whatever is read is read now.
    std::fs::remove_file(&deleted.path).unwrap();
    std::fs::remove_file(&unlinked.path).unwrap();
    std::fs::OpenOptions::new().append(true).open(&written.path).unwrap().write_all(b"x").unwrap();
    let other = replaced.directory.join("other");
    std::fs::copy("/bin/sh", &other).unwrap();
    std::fs::rename(&other, &replaced.path).unwrap();
    // Just written, and running.
    let fresh = Copied::bash("fresh");
    let mut is_fresh = fresh.connect(server);

    for (what, pid) in [
        ("one that is gone", was_gone),
        ("one whose executable is deleted", is_deleted.id()),
        ("one whose executable was replaced", is_replaced.id()),
        ("one whose executable was just written", is_fresh.id()),
    ] {
        let digest = story.until(source.as_mut(), what, |story| story.digest(pid));
        assert_eq!(digest, right, "{what}");
    }
    for pid in [was_written, was_unlinked] {
        assert!(story.process(pid).is_some());
        assert_eq!(story.digest(pid), None);
    }
    // What is known is told with the process, at once.
    let again = gone.run(server);
    let process = |change: &Change| matches!(change, Change::Process(p) if p.key.pid == again);
    let at = story.until(source.as_mut(), "the same again", |story| {
        story.changes.iter().position(|(_, change)| process(change))
    });
    let (_, Change::Details(details)) = &story.changes[at + 1] else { panic!("no details") };
    assert!(details.digest.is_some());
    // What was written over is another file now.
    let right = written.sha256();
    let rewritten = written.run(server);
    let digest = story.until(source.as_mut(), "the rewritten", |story| story.digest(rewritten));
    assert_eq!(digest, right);
    for child in [&mut is_deleted, &mut is_replaced, &mut is_fresh] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_source_that_looks_tells_details_too() {
    let _alone = alone();
    let options =
        Options { arguments: Some(Redaction::default()), digests: true, ..Options::default() };
    let mut source = match open(Choice::SockDiag, &options) {
        Ok(source) => source,
        Err(error) => return skip(format_args!("sock_diag does not work here: {error}")),
    };
    let mut story = Story::default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let deleted = Copied::bash("looked");
    let right = deleted.sha256();
    let mut child = deleted.connect(listener.local_addr().unwrap());
    std::fs::remove_file(&deleted.path).unwrap();
    let pid = child.id();
    let digest = story.until(source.as_mut(), "the digest", |story| story.digest(pid));
    assert_eq!(digest, right);
    let details = story.details(story.process(pid).unwrap().key).unwrap();
    assert_eq!(details.ancestors[0].key.pid, std::process::id());
    assert!(details.command_line.as_ref().unwrap()[2].starts_with("exec 3<>/dev/tcp"));
    child.kill().unwrap();
    child.wait().unwrap();
}
