//! Address translations, compared with the addresses that the sockets at both ends have: a client
//! behind a router that masquerades, a server behind a router that forwards a port.
#![cfg(target_os = "linux")]

mod world;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};
use procflow_binding::{BootTime, NamespaceId, Translation};
use procflow_core::{Endpoint, FlowKey, Protocol};
use procflow_probe::Choice;
use world::{World, alone, skip};

/// A namespace of this test, removed with it.
struct Netns(String);

impl Netns {
    fn new(word: &str) -> Option<Self> {
        let name = format!("probe-{word}-{}", std::process::id());
        let made = run("ip", &["netns", "add", &name]);
        made.then(|| Self(name))
    }

    fn ip(&self, arguments: &str) -> bool {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        run("ip", &[&["-n", &self.0], &arguments[..]].concat())
    }

    /// Runs something in it.
    fn inside<T: Send + 'static>(&self, what: impl FnOnce() -> T + Send + 'static) -> T {
        let inside = File::open(format!("/run/netns/{}", self.0)).unwrap();
        let thread = std::thread::spawn(move || {
            setns(inside, CloneFlags::CLONE_NEWNET).unwrap();
            what()
        });
        thread.join().unwrap()
    }

    fn remove(&self) -> bool {
        run("ip", &["netns", "del", &self.0])
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = self.remove();
    }
}

fn run(program: &str, arguments: &[&str]) -> bool {
    let output = Command::new(program).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

/// Client, router and server, each in a namespace: the client's addresses are masqueraded towards
/// the server, and the router's port 8080 is the server's port 80.
struct Net {
    client: Netns,
    router: Netns,
    server: Netns,
}

const RULES: &str = "
table inet nat {
    chain before {
        type nat hook prerouting priority -100; policy accept;
        iifname rc meta nfproto ipv4 meta l4proto { tcp, udp } th dport 8080 dnat ip to 10.2.0.2:80
        iifname rc meta nfproto ipv6 meta l4proto { tcp, udp } th dport 8080 dnat ip6 to [fd00:2::2]:80
    }
    chain after {
        type nat hook postrouting priority 100; policy accept;
        oifname rs masquerade
    }
}
";

impl Net {
    /// `None`, and loudly so, where it cannot be made.
    fn new() -> Option<Self> {
        let net = Self::try_new();
        if net.is_none() {
            skip(format_args!("cannot make namespaces with NAT between them (ip, nft, veth)"));
        }
        net
    }

    fn try_new() -> Option<Self> {
        let net = Self {
            client: Netns::new("client")?,
            router: Netns::new("router")?,
            server: Netns::new("server")?,
        };
        let Self { client, router, server } = &net;
        let done = router.ip(&format!("link add rc type veth peer name c0 netns {}", client.0))
            && router.ip(&format!("link add rs type veth peer name s0 netns {}", server.0))
            && [
                (client, "c0", "10.1.0.2/24", "fd00:1::2/64"),
                (router, "rc", "10.1.0.1/24", "fd00:1::1/64"),
                (router, "rs", "10.2.0.1/24", "fd00:2::1/64"),
                (server, "s0", "10.2.0.2/24", "fd00:2::2/64"),
            ]
            .iter()
            .all(|(netns, device, v4, v6)| {
                netns.ip(&format!("addr add {v4} dev {device}"))
                    && netns.ip(&format!("addr add {v6} dev {device} nodad"))
                    && netns.ip(&format!("link set {device} up"))
            })
            && client.ip("route add default via 10.1.0.1")
            && client.ip("-6 route add default via fd00:1::1")
            && router.inside(|| {
                std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").is_ok()
                    && std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").is_ok()
                    && nft(RULES)
            });
        done.then_some(net)
    }

    /// A connection from the client to this address, and the server's view of it. (Where the
    /// client's packets go is the router's matter.)
    fn tcp(&self, to: &'static str) -> [TcpStream; 2] {
        let at = if to.starts_with('[') { "[fd00:2::2]:80" } else { "10.2.0.2:80" };
        let listener = self.server.inside(move || TcpListener::bind(at).unwrap());
        let client = self.client.inside(move || TcpStream::connect(to).unwrap());
        [client, listener.accept().unwrap().0]
    }

    /// A datagram from the client to this address; the client's address, and what the server
    /// saw.
    fn udp(&self, to: &'static str) -> Ends {
        let v6 = to.starts_with('[');
        let at = if v6 { "[fd00:2::2]:80" } else { "10.2.0.2:80" };
        let server = self.server.inside(move || UdpSocket::bind(at).unwrap());
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let client = self.client.inside(move || {
            let client = UdpSocket::bind(if v6 { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
            client.connect(to).unwrap();
            client.send(b"ask").unwrap();
            client
        });
        let (_, from) = server.recv_from(&mut [0; 8]).unwrap();
        server.send_to(b"answer", from).unwrap();
        client.recv(&mut [0; 8]).unwrap();
        Ends {
            client: [client.local_addr().unwrap(), client.peer_addr().unwrap()],
            server: [server.local_addr().unwrap(), from],
        }
    }
}

fn nft(rules: &str) -> bool {
    let child = Command::new("nft").arg("-f").arg("-").stdin(Stdio::piped()).spawn();
    child.is_ok_and(|mut child| {
        let mut input = child.stdin.take().unwrap();
        input.write_all(rules.as_bytes()).is_ok() && {
            drop(input);
            child.wait().unwrap().success()
        }
    })
}

/// What the sockets say: each its own address and its peer's.
struct Ends {
    client: [SocketAddr; 2],
    server: [SocketAddr; 2],
}

impl Ends {
    fn of(pair: &[TcpStream; 2]) -> Self {
        let [client, server] =
            pair.each_ref().map(|end| [end.local_addr().unwrap(), end.peer_addr().unwrap()]);
        Self { client, server }
    }

    /// The keys that a translation of this should have.
    fn keys(&self, protocol: Protocol) -> [FlowKey; 2] {
        [self.client, self.server].map(|[source, destination]| FlowKey {
            protocol,
            source: Endpoint::from(source),
            destination: Endpoint::from(destination),
        })
    }
}

fn id(world: &World, netns: &Netns) -> Option<NamespaceId> {
    let mut namespaces = world.namespaces.values();
    namespaces.find(|namespace| namespace.name.as_ref() == Some(&netns.0)).map(|found| found.id)
}

/// What the router is known to translate.
fn translation(world: &World, net: &Net, original: FlowKey) -> Option<(BootTime, Translation)> {
    world.translations.get(&(id(world, &net.router)?, original)).copied()
}

const TARGETS: [&str; 4] = ["10.2.0.2:80", "[fd00:2::2]:80", "10.1.0.1:8080", "[fd00:1::1]:8080"];

#[test]
fn masquerades_and_forwarded_ports_are_told_as_the_sockets_see_them() {
    let _alone = alone();
    let Some(net) = Net::new() else {
        return;
    };
    // One that is there before, so that a dump shows it; then all others by their events.
    let early = net.tcp(TARGETS[0]);
    let mut world = World::open(Choice::SockDiag);
    world.look();
    let [original, reply] = Ends::of(&early).keys(Protocol::TCP);
    let (_, found) = translation(&world, &net, original).unwrap();
    assert_eq!((found.reply, found.not_before), (reply, BootTime(0)));
    assert_ne!(reply, original.reversed());

    for target in TARGETS {
        world.look();
        let before = world.until;
        let pair = net.tcp(target);
        let udp = net.udp(target);
        world.look();
        for (ends, protocol) in [(Ends::of(&pair), Protocol::TCP), (udp, Protocol::UDP)] {
            let [original, reply] = ends.keys(protocol);
            let Some((time, found)) = translation(&world, &net, original) else {
                panic!("{original} is not in {:#?}", world.translations);
            };
            assert_eq!(found.reply, reply, "{original}");
            assert!(time > before && time <= world.until);
            assert!(found.not_before <= before && found.not_before >= before.minus(1_000_000));
        }
    }
    assert_eq!(world.translations.len(), 1 + 2 * TARGETS.len());
    // An echo has no ports.
    net.client.inside(|| {
        let (raw, flags) = (SockType::Raw, SockFlag::empty());
        let raw = socket(AddressFamily::Inet, raw, flags, SockProtocol::Icmp).unwrap();
        // Type and code, checksum, identifier, sequence number (RFC 792).
        let echo = [8, 0, 0xf7, 0xfd, 0, 1, 0, 1];
        let to = SockaddrIn::new(10, 2, 0, 2, 0);
        sendto(raw.as_raw_fd(), &echo, &to, MsgFlags::empty()).unwrap();
    });
    world.look();
    let end = |address: [u8; 4]| Endpoint::new(address, 0);
    let flow = |source, destination| FlowKey { protocol: Protocol::ICMP, source, destination };
    let original = flow(end([10, 1, 0, 2]), end([10, 2, 0, 2]));
    let (_, found) = translation(&world, &net, original).unwrap();
    assert_eq!(found.reply, flow(end([10, 2, 0, 2]), end([10, 2, 0, 1])));
    assert_eq!(world.gaps, 0);
}

#[test]
fn a_connection_of_a_millisecond_is_not_missed() {
    let _alone = alone();
    let Some(net) = Net::new() else {
        return;
    };
    let mut world = World::open(Choice::SockDiag);
    world.look();
    // Other programs of this host may translate in theirs.
    let router = id(&world, &net.router).unwrap();
    let mut keys = Vec::new();
    for _ in 0..20 {
        let pair = net.tcp(TARGETS[2]);
        keys.push(Ends::of(&pair).keys(Protocol::TCP));
        // Both ends reset: the entry lives for 10 s more. So it is deleted by hand as well.
        for end in &pair {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
    assert!(net.router.inside(|| run("conntrack", &["-F"])));
    // Told whole, though nothing is left of it.
    let mut told = Vec::new();
    let batch = world.source.collect().unwrap();
    for (_, change) in &batch.changes {
        if let procflow_binding::Change::Translation(translation) = change
            && translation.namespace == router
        {
            told.push([translation.original, translation.reply]);
        }
    }
    assert_eq!(told, keys);
    let gone = |change: &procflow_binding::Change| match change {
        procflow_binding::Change::TranslationGone(gone) => gone.namespace == router,
        _ => false,
    };
    assert_eq!(batch.changes.iter().filter(|(_, change)| gone(change)).count(), keys.len());
}

#[test]
fn an_entry_from_before_ends_though_no_event_tells() {
    let _alone = alone();
    let Some(net) = Net::new() else {
        return;
    };
    let pair = net.tcp(TARGETS[0]);
    let [original, _] = Ends::of(&pair).keys(Protocol::TCP);
    let mut world = World::open(Choice::SockDiag);
    world.look();
    let (_, found) = translation(&world, &net, original).unwrap();
    assert!(net.router.inside(|| run("conntrack", &["-F"])));
    // At the latest by the next dump, after 10 s.
    for _ in 0..24 {
        world.look();
        if !world.translations.contains_key(&(found.namespace, original)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    panic!("still there after 12 s");
}

#[test]
fn a_namespace_dies_though_its_translations_are_watched() {
    let _alone = alone();
    let Some(net) = Net::new() else {
        return;
    };
    let mut world = World::open(Choice::SockDiag);
    world.look();
    let mut pair = net.tcp(TARGETS[0]);
    pair[0].write_all(b"x").unwrap();
    pair[1].read_exact(&mut [0; 1]).unwrap();
    world.look();
    let router = id(&world, &net.router).unwrap();
    assert!(world.translations.keys().any(|(namespace, _)| *namespace == router));
    let path = format!("/run/netns/{}", net.router.0);
    let inode = std::fs::metadata(path).unwrap().ino();
    assert!(net.client.ip("link show c0"));
    assert!(net.router.remove());
    // The ends of its devices in the others disappear when it really dies.
    let mut alive = true;
    for _ in 0..100 {
        world.look();
        alive = net.client.ip("link show c0");
        if !alive {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!alive, "something keeps the namespace alive");
    world.look();
    assert!(!world.namespaces.contains_key(&router));
    assert!(world.namespaces.values().all(|namespace| namespace.inode != inode));
    assert!(world.translations.keys().all(|(namespace, _)| *namespace != router));
}

#[test]
fn a_number_that_is_given_again_does_not_confuse_namespaces() {
    let _alone = alone();
    let mut world = World::open(Choice::SockDiag);
    let mut seen = Vec::new();
    // Each namespace dies before the next is made, and most get the number of the one before.
    for _ in 0..5 {
        let Some(net) = Net::new() else {
            return;
        };
        world.look();
        let router = id(&world, &net.router).unwrap();
        assert!(!seen.contains(&router));
        let pair = net.tcp(TARGETS[0]);
        world.look();
        let [original, reply] = Ends::of(&pair).keys(Protocol::TCP);
        let here: Vec<_> = world.translations.iter().filter(|((id, _), _)| *id == router).collect();
        assert_eq!(here.len(), 1, "{:#?}", world.translations);
        assert_eq!(here[0].0, &(router, original));
        assert_eq!(here[0].1.1.reply, reply);
        seen.push(router);
        drop((pair, net));
        // Until it is really gone; the kernel takes its time.
        world.until("gone", |world| (!world.namespaces.contains_key(&router)).then_some(()));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(world.translations.keys().all(|(id, _)| !seen.contains(id)));
}
