//! Sockets and processes that are gone before anybody could look twice.
#![cfg(target_os = "linux")]

mod world;

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use procflow_core::{Endpoint, Protocol};
use procflow_probe::{Choice, Shortfall, now};
use world::{Life, World, alone, skip};

/// So seldom that only glances and reports can have shown what these tests ask for.
const SELDOM: Duration = Duration::from_secs(5);

/// A world that is told, or none where the kernel tells us nothing.
fn told() -> Option<World> {
    let mut world = World::every(SELDOM, Choice::SockDiag);
    world.collect();
    let shortfalls = world.source.shortfalls();
    let missing = shortfalls.iter().find(|shortfall| {
        matches!(shortfall, Shortfall::NoProcessEvents { .. } | Shortfall::NoReports { .. })
    });
    if let Some(missing) = missing {
        skip(format_args!("{missing}"));
        return None;
    }
    Some(world)
}

/// Takes connections and holds them.
struct Server {
    port: u16,
    done: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let done = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let done = Arc::clone(&done);
            move || {
                let mut held = Vec::new();
                while let Ok((stream, _)) = listener.accept() {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    held.push(stream);
                }
            }
        });
        Self { port, done, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A process that connects, says from which port, and is gone after so many milliseconds. `None`, and
/// loudly so, without Python.
fn connect(port: u16, life: u32) -> Option<Child> {
    let program = format!(
        "import os, socket, time\n\
         s = socket.create_connection(('127.0.0.1', {port}))\n\
         os.write(1, b'%d' % s.getsockname()[1])\n\
         time.sleep({life} / 1000)\n\
         os._exit(0)\n"
    );
    let child = Command::new("python3").args(["-S", "-c", &program]).stdout(Stdio::piped()).spawn();
    child.map_err(|error| skip(format_args!("python3 does not run: {error}"))).ok()
}

/// The port that a process said, when it is over.
fn port_of(mut child: Child) -> u16 {
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success());
    said.parse().unwrap()
}

/// What was told of the connections from a port to a server. (Other programs of this host may use the
/// port too.)
fn connections(world: &World, port: u16, server: &Server) -> Vec<Vec<u32>> {
    let remote = Some(Endpoint::new(Ipv4Addr::LOCALHOST, server.port));
    let lives = world.lived(Endpoint::new(Ipv4Addr::LOCALHOST, port));
    lives
        .iter()
        .filter(|life| life.socket.remote() == remote)
        .map(|life| life.owners.iter().map(|owner| owner.pid).collect())
        .collect()
}

#[test]
fn short_connections_are_given_to_the_processes_that_made_them() {
    let _alone = alone();
    let Some(mut world) = told() else { return };
    let server = Server::start();
    let mut children = Vec::new();
    for _ in 0..30 {
        let Some(child) = connect(server.port, 300) else { return };
        children.push(child);
        world.follow(Duration::from_millis(30));
    }
    world.follow(Duration::from_millis(600));
    let count = children.len();
    let mut truth: BTreeMap<u16, Vec<u32>> = BTreeMap::new();
    for child in children {
        let pid = child.id();
        truth.entry(port_of(child)).or_default().push(pid);
    }
    let mut right = 0;
    for (&port, pids) in &truth {
        for owners in connections(&world, port, &server) {
            let is_right = matches!(owners[..], [owner] if pids.contains(&owner));
            assert!(is_right || owners.is_empty(), "port {port} of {pids:?}: {owners:?}");
            right += usize::from(is_right);
        }
    }
    // A look every five seconds would find one or two. On a machine that does much else besides,
    // some pass unseen.
    assert!(right * 2 >= count, "{right} of {count}");
}

#[test]
fn a_process_that_exits_at_once_harms_nobody() {
    let _alone = alone();
    let Some(mut world) = told() else { return };
    let server = Server::start();
    let mut children = Vec::new();
    for _ in 0..20 {
        let Some(child) = connect(server.port, 0) else { return };
        children.push(child);
        // And some that never have a socket.
        let _ = Command::new("true").status();
        world.follow(Duration::from_millis(5));
    }
    world.follow(Duration::from_millis(100));
    let pids: Vec<u32> = children.iter().map(Child::id).collect();
    for child in children {
        let port = port_of(child);
        for owners in connections(&world, port, &server) {
            assert!(owners.iter().all(|owner| pids.contains(owner)), "{port}: {owners:?}");
        }
    }
}

/// The one UDP socket that was bound to this in the host's own namespace.
#[track_caller]
fn only(world: &World, local: Endpoint) -> &Life {
    let mut lived = world.lived(local);
    lived.retain(|life| {
        life.socket.protocol() == Protocol::UDP
            && world.namespaces.get(&life.socket.namespace()).is_some_and(|place| place.initial)
    });
    let [life] = lived[..] else { panic!("{lived:?}") };
    life
}

#[test]
fn a_socket_that_no_look_showed_is_told_without_owner() {
    let _alone = alone();
    let Some(mut world) = told() else { return };
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let local = Endpoint::from(socket.local_addr().unwrap());
    let begun = now().unwrap();
    drop(socket);
    world.follow(Duration::from_millis(200));
    let life = only(&world, local);
    assert_eq!(life.owners, []);
    let closed = life.closed.unwrap();
    assert!(closed > begun && closed < begun.plus(200_000_000), "{closed} {begun}");
}

#[test]
fn an_end_is_dated_between_two_looks() {
    let _alone = alone();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let local = Endpoint::from(socket.local_addr().unwrap());
    let Some(mut world) = told() else { return };
    world.follow(Duration::from_millis(500));
    let begun = now().unwrap();
    drop(socket);
    world.follow(Duration::from_millis(200));
    let life = only(&world, local);
    assert_eq!(life.owners[0].pid, std::process::id());
    // The look before was longer ago.
    let (last_seen, closed) = (life.last_seen.unwrap(), life.closed.unwrap());
    assert!(last_seen > begun.minus(300_000_000), "{last_seen} {begun}");
    assert!(closed < begun.plus(150_000_000), "{closed} {begun}");
}
