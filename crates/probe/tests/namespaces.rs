//! Sockets and addresses of other network namespaces, which come and go.
#![cfg(target_os = "linux")]

mod world;

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use procflow_binding::{Address, NamespaceId};
use procflow_core::Endpoint;
use procflow_probe::{Choice, Shortfall};
use world::{World, alone, skip};

/// A namespace of this test, removed with it.
struct Netns(String);

impl Netns {
    /// `None`, and loudly so, where none can be made.
    fn new(word: &str) -> Option<Self> {
        let name = format!("probe-{word}-{}", std::process::id());
        if !ip(&["netns", "add", &name]) {
            skip(format_args!("cannot make a network namespace (ip netns add)"));
            return None;
        }
        let netns = Self(name);
        assert!(netns.ip(&["link", "set", "lo", "up"]));
        Some(netns)
    }

    fn ip(&self, arguments: &[&str]) -> bool {
        ip(&[&["-n", &self.0], arguments].concat())
    }

    /// A listener inside, held by this process.
    fn listen(&self, address: &'static str) -> TcpListener {
        self.inside(move || TcpListener::bind(address).unwrap())
    }

    /// Something done inside.
    fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let inside = File::open(format!("/run/netns/{}", self.0)).unwrap();
        let thread = std::thread::spawn(move || {
            setns(inside, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        thread.join().unwrap()
    }

    fn remove(&self) -> bool {
        ip(&["netns", "del", &self.0])
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = self.remove();
    }
}

fn ip(arguments: &[&str]) -> bool {
    let output = Command::new("ip").args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

fn named(world: &World, netns: &Netns) -> Option<NamespaceId> {
    let mut namespaces = world.namespaces.values();
    let found = namespaces.find(|namespace| namespace.name.as_ref() == Some(&netns.0))?;
    assert!(!found.initial);
    Some(found.id)
}

#[test]
fn the_same_address_in_two_namespaces_is_two_places() {
    let _alone = alone();
    let (Some(first), Some(second)) = (Netns::new("one"), Netns::new("two")) else {
        return;
    };
    // Any port that is free in both.
    let in_first = first.listen("127.0.0.1:40123");
    let in_second = second.listen("127.0.0.1:40123");
    let mut world = World::open(Choice::SockDiag);
    world.look();
    let ids = [&first, &second].map(|netns| named(&world, netns).unwrap());
    assert_ne!(ids[0], ids[1]);
    let listed = world.at(Endpoint::from(in_first.local_addr().unwrap()));
    for id in ids {
        let mut here = listed.iter().filter(|(_, socket, _)| socket.namespace() == id);
        let (_, _, owners) = here.next().unwrap();
        assert_eq!(owners, &[std::process::id()]);
        assert_eq!(here.next(), None);
        let loopback = Address { namespace: id, address: Ipv4Addr::LOCALHOST.into(), prefix: 8 };
        assert!(world.addresses.contains(&loopback));
    }
    assert_eq!(world.namespaces.values().filter(|n| n.initial).count(), 1);
    drop(in_first);
    world.look();
    let left = world.at(Endpoint::from(in_second.local_addr().unwrap()));
    assert!(left.iter().all(|(_, socket, _)| socket.namespace() != ids[0]));
    assert!(left.iter().any(|(_, socket, _)| socket.namespace() == ids[1]));
}

#[test]
fn addresses_come_and_go() {
    let _alone = alone();
    let Some(netns) = Netns::new("addr") else {
        return;
    };
    let mut world = World::open(Choice::SockDiag);
    world.look();
    let address = |address: &str, prefix| Address {
        namespace: named(&world, &netns).unwrap(),
        address: address.parse().unwrap(),
        prefix,
    };
    let (v4, v6) = (address("10.9.8.7", 24), address("fd00:9::7", 64));
    assert!(netns.ip(&["addr", "add", "10.9.8.7/24", "dev", "lo"]));
    assert!(netns.ip(&["addr", "add", "fd00:9::7/64", "dev", "lo"]));
    world.look();
    assert!(world.addresses.contains(&v4) && world.addresses.contains(&v6));
    assert!(netns.ip(&["addr", "del", "10.9.8.7/24", "dev", "lo"]));
    world.look();
    assert!(!world.addresses.contains(&v4) && world.addresses.contains(&v6));
}

#[test]
fn a_namespace_dies_though_it_is_watched() {
    let _alone = alone();
    let (Some(dying), Some(other)) = (Netns::new("dies"), Netns::new("peer")) else {
        return;
    };
    // A pair of devices across both: when the one namespace really dies, and not only loses its
    // name, the end in the other disappears.
    let pair = ["link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", &other.0];
    if !dying.ip(&pair) {
        skip(format_args!("no veth devices here"));
        return;
    }
    let mut world = World::open(Choice::SockDiag);
    world.look();
    world.look();
    let id = named(&world, &dying).unwrap();
    assert!(other.ip(&["link", "show", "v1"]));
    assert!(dying.remove());
    let mut alive = true;
    for _ in 0..100 {
        world.look();
        alive = other.ip(&["link", "show", "v1"]);
        if !alive {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!alive, "something keeps the namespace alive");
    world.look();
    assert!(!world.namespaces.contains_key(&id));
    assert!(world.addresses.iter().all(|address| address.namespace != id));
    assert!(named(&world, &other).is_some(), "the other one stays");
}

#[test]
fn the_end_of_a_socket_elsewhere_is_reported() {
    let _alone = alone();
    let Some(netns) = Netns::new("ends") else {
        return;
    };
    let mut world = World::every(Duration::from_secs(1), Choice::SockDiag);
    world.collect();
    let shortfalls = world.source.shortfalls();
    if let Some(deaf) = shortfalls.iter().find(|shortfall| {
        matches!(shortfall, Shortfall::NoReports { .. } | Shortfall::ReportsElsewhere { .. })
    }) {
        skip(format_args!("{deaf}"));
        return;
    }
    let id = named(&world, &netns).unwrap();
    // Shorter than any look could catch it.
    let socket = netns.inside(|| UdpSocket::bind("127.0.0.1:0").unwrap());
    let local = Endpoint::from(socket.local_addr().unwrap());
    drop(socket);
    world.follow(Duration::from_millis(300));
    let mut lived = world.lived(local);
    lived.retain(|life| life.socket.namespace() == id);
    let [life] = lived[..] else { panic!("{lived:?}") };
    assert_eq!(life.owners, []);
    assert!(life.closed.is_some());
}

#[test]
fn the_last_socket_of_a_namespace_is_reported() {
    let _alone = alone();
    let Some(netns) = Netns::new("last") else {
        return;
    };
    let mut world = World::every(Duration::from_secs(1), Choice::SockDiag);
    world.collect();
    let shortfalls = world.source.shortfalls();
    if let Some(deaf) = shortfalls.iter().find(|shortfall| {
        matches!(shortfall, Shortfall::NoReports { .. } | Shortfall::ReportsElsewhere { .. })
    }) {
        skip(format_args!("{deaf}"));
        return;
    }
    let id = named(&world, &netns).unwrap();
    // Only the thread holds the namespace then, which dies with it, and gives its number back.
    let name = netns.0.clone();
    let local = netns.inside(move || {
        assert!(ip(&["netns", "del", &name]));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        Endpoint::from(socket.local_addr().unwrap())
    });
    // Both are read at once.
    std::thread::sleep(Duration::from_millis(300));
    world.follow(Duration::from_millis(1500));
    let mut lived = world.lived(local);
    lived.retain(|life| life.socket.namespace() == id);
    let [life] = lived[..] else { panic!("{lived:?}") };
    assert!(life.closed.is_some());
    assert!(!world.namespaces.contains_key(&id));
}

#[test]
fn a_number_keeps_no_namespace_alive() {
    let _alone = alone();
    let (Some(dying), Some(other)) = (Netns::new("number"), Netns::new("heir")) else {
        return;
    };
    let pair = ["link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", &other.0];
    if !dying.ip(&pair) {
        skip(format_args!("no veth devices here"));
        return;
    }
    let mut world = World::open(Choice::SockDiag);
    world.look();
    assert!(named(&world, &dying).is_some());
    // Nothing is asked of it any more, and the world is still there.
    assert!(dying.remove());
    let gone = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        !other.ip(&["link", "show", "v1"])
    });
    assert!(gone, "the source holds it");
    drop(world);
}

#[test]
fn looking_leaves_the_thread_where_it_was() {
    let _alone = alone();
    let Some(_netns) = Netns::new("home") else {
        return;
    };
    let here = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let before = here();
    let mut world = World::open(Choice::SockDiag);
    world.look();
    assert_eq!(here(), before);
}
