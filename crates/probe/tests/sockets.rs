//! Real sockets of this process are listed as what they are, with the right owners.
#![cfg(target_os = "linux")]

mod world;

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use procflow_binding::{Role, SocketId};
use procflow_core::{Endpoint, Protocol};
use procflow_probe::{Choice, Shortfall};
use world::{World, alone, skip};

fn me() -> u32 {
    std::process::id()
}

/// The one socket between these endpoints must be of this kind and ours alone; its identity. (The
/// local one is not enough: connections of an earlier run may still be in TIME_WAIT there.)
#[track_caller]
fn ours(
    world: &World,
    protocol: Protocol,
    local: impl Into<Endpoint>,
    remote: Option<Endpoint>,
    role: Role,
) -> SocketId {
    let local = local.into();
    let mut found = world.at(local);
    found.retain(|(_, socket, _)| {
        (socket.protocol(), socket.remote(), socket.role()) == (protocol, remote, role)
    });
    let [(id, _, owners)] = &found[..] else {
        panic!("{protocol} {local} {remote:?} {role:?}: {found:?}");
    };
    assert_eq!(owners, &[me()], "{protocol} {local} {remote:?} {role:?}");
    *id
}

#[test]
fn every_kind_of_socket_is_listed_with_its_owner() {
    let _alone = alone();
    let mut servers = Vec::new();
    let mut ends = Vec::new();
    for address in ["127.0.0.1:0", "[::1]:0", "[::]:0", "0.0.0.0:0"] {
        let listener = TcpListener::bind(address).unwrap();
        let at = listener.local_addr().unwrap();
        let client = TcpStream::connect(("127.0.0.1", at.port()))
            .or_else(|_| TcpStream::connect(("::1", at.port())))
            .unwrap();
        ends.push((client, listener.accept().unwrap().0));
        servers.push(listener);
    }
    let udp: Vec<UdpSocket> = ["127.0.0.1:0", "[::1]:0", "[::]:0", "0.0.0.0:0"]
        .iter()
        .map(|address| UdpSocket::bind(address).unwrap())
        .collect();
    let connected = UdpSocket::bind("[::]:0").unwrap();
    let peer = (Ipv4Addr::LOCALHOST, udp[0].local_addr().unwrap().port());
    connected.connect((peer.0.to_ipv6_mapped(), peer.1)).unwrap();

    let mut world = World::open(Choice::SockDiag);
    world.look();
    assert_eq!(world.listed, 1);
    for listener in &servers {
        let local = listener.local_addr().unwrap();
        let id = ours(&world, Protocol::TCP, local, None, Role::Listening);
        let both = local.ip() == Ipv6Addr::UNSPECIFIED;
        assert_eq!(world.sockets[&id].0.is_dual_stack(), both, "{local}");
    }
    for (client, server) in &ends {
        for end in [client, server] {
            let local = end.local_addr().unwrap();
            let remote = Some(end.peer_addr().unwrap().into());
            ours(&world, Protocol::TCP, local, remote, Role::Connected);
        }
    }
    // Through the listener on `::` from IPv4: mapped for the program, IPv4 for the network.
    assert!(ends[2].1.local_addr().unwrap().is_ipv6());
    let folded = Endpoint::from(ends[2].1.local_addr().unwrap());
    assert_eq!(folded.address(), Ipv4Addr::LOCALHOST);
    for socket in &udp {
        ours(&world, Protocol::UDP, socket.local_addr().unwrap(), None, Role::Bound);
    }
    let local = connected.local_addr().unwrap();
    let remote = Some(Endpoint::new(peer.0, peer.1));
    ours(&world, Protocol::UDP, local, remote, Role::Connected);

    let mine = world.processes.values().find(|process| process.key.pid == me()).unwrap();
    let executable = std::env::current_exe().unwrap();
    assert_eq!(mine.executable.as_deref(), executable.to_str());

    world.look();
    let gone = servers.remove(0);
    let local = Endpoint::from(gone.local_addr().unwrap());
    drop(gone);
    world.until("closed listener", |world| {
        world.at(local).iter().all(|(_, socket, _)| socket.role() != Role::Listening).then_some(())
    });
    assert_eq!(world.listed, 1, "only once");
}

/// A child that holds a socket of ours as its standard input.
struct Sharer(Child);

impl Sharer {
    fn of(socket: OwnedFd) -> Self {
        let child = Command::new("sleep").arg("1000").stdin(Stdio::from(socket)).spawn();
        Self(child.unwrap())
    }
}

impl Drop for Sharer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_socket_shared_over_fork_has_both_owners() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = Endpoint::from(listener.local_addr().unwrap());
    let mut world = World::open(Choice::SockDiag);
    world.look();
    let id = ours(&world, Protocol::TCP, local, None, Role::Listening);

    let sharer = Sharer::of(listener.try_clone().unwrap().into());
    let child = sharer.0.id();
    let owners = move |world: &World| {
        let mut pids: Vec<u32> = world.sockets.get(&id)?.1.iter().map(|key| key.pid).collect();
        pids.sort_unstable();
        Some(pids)
    };
    let mut both = vec![me(), child];
    both.sort_unstable();
    world.until("both", |world| (owners(world)? == both).then_some(()));
    // What it is called is corrected after its exec.
    world.until("name", |world| {
        let mut processes = world.processes.values();
        processes.find(|process| process.key.pid == child && process.comm == "sleep").map(|_| ())
    });

    drop(listener);
    world.until("the child alone", |world| (owners(world)? == [child]).then_some(()));
    drop(sharer);
    world.until("none", |world| (!world.sockets.contains_key(&id)).then_some(()));
}

#[test]
fn a_connection_keeps_its_owner_after_it_was_closed() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let server = listener.accept().unwrap().0;
    let local = Endpoint::from(client.local_addr().unwrap());
    let remote = Some(Endpoint::from(server.local_addr().unwrap()));
    let mut world = World::open(Choice::SockDiag);
    world.look();
    let id = ours(&world, Protocol::TCP, local, remote, Role::Connected);
    // FIN_WAIT_2 without a process: the kernel already keeps only what TIME_WAIT needs, another
    // structure with the same cookie and no inode.
    drop(client);
    world.look();
    assert_eq!(ours(&world, Protocol::TCP, local, remote, Role::Connected), id);
    // TIME_WAIT, for a minute.
    drop(server);
    world.look();
    assert_eq!(ours(&world, Protocol::TCP, local, remote, Role::Connected), id);
    // To a reader who comes now it is there too, without owner.
    let mut late = World::open(Choice::SockDiag);
    late.look();
    let mut seen = late.at(local);
    seen.retain(|(_, socket, _)| socket.remote() == remote);
    assert!(
        matches!(&seen[..], [(same, _, owners)] if *same == id && owners.is_empty()),
        "{seen:?}"
    );
}

#[test]
fn a_connection_that_nobody_accepted_has_no_owner_yet() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let local = Endpoint::from(listener.local_addr().unwrap());
    let remote = Endpoint::from(client.local_addr().unwrap());
    let find = |world: &World| {
        let mut sockets = world.sockets.iter();
        let (&id, held) = sockets
            .find(|(_, (socket, _))| (socket.local(), socket.remote()) == (local, Some(remote)))?;
        Some((id, held.1.clone()))
    };
    let mut world = World::open(Choice::SockDiag);
    world.look();
    let (id, owners) = find(&world).unwrap();
    assert_eq!(owners, []);
    let _server = listener.accept().unwrap();
    world.look();
    let (same, owners) = find(&world).unwrap();
    assert_eq!((same, owners[0].pid), (id, me()));
}

#[test]
fn without_privileges_own_processes_are_still_seen() {
    let _alone = alone();
    if !nix::unistd::geteuid().is_root() {
        skip(format_args!("only root can give up root"));
        return;
    }
    // The test itself again as nobody, from a place that nobody can read.
    let program = std::env::temp_dir().join(format!("probe-as-nobody-{}", me()));
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut answer = None;
    for _ in 0..1000 {
        match Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .args(["--ignored", "--exact", "as_nobody", "--nocapture"])
            .output()
        {
            // Still busy: forked by a test beside this one while it was written.
            Ok(output) if output.status.code() == Some(126) => std::thread::yield_now(),
            other => {
                answer = Some(other);
                break;
            }
        }
    }
    let _ = std::fs::remove_file(&program);
    let Some(Ok(output)) = answer else {
        skip(format_args!("setpriv does not run: {answer:?}"));
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{complained}");
}

#[test]
#[ignore = "started as nobody by the test before it"]
fn as_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut world = World::open(Choice::Auto);
    world.look();
    assert_eq!(world.source.name(), "sock_diag");
    ours(&world, Protocol::TCP, listener.local_addr().unwrap(), None, Role::Listening);
    let shortfalls = world.source.shortfalls();
    assert!(shortfalls.contains(&Shortfall::OtherNamespaces), "{shortfalls:?}");
    assert!(
        shortfalls.iter().any(|shortfall| matches!(
            shortfall,
            Shortfall::HiddenProcesses { missing, .. } if missing.len() == 2
        )),
        "{shortfalls:?}"
    );
}
