//! The two sources against each other: on a quiet machine both list the same sockets. Alone in
//! its file, so that no test beside it opens and closes sockets meanwhile.
#![cfg(target_os = "linux")]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{TcpListener, TcpStream, UdpSocket};

use procflow_binding::{NamespaceId, Role};
use procflow_core::{Endpoint, Protocol};
use procflow_probe::Choice;
use world::World;

type Tuple = (Protocol, Endpoint, Option<Endpoint>, bool);

/// What both can see: netstat2 tells no peers of UDP sockets, and sockets that share a tuple are
/// one there.
fn seen(world: &World, namespace: NamespaceId) -> BTreeMap<Tuple, BTreeSet<u32>> {
    let mut seen: BTreeMap<Tuple, BTreeSet<u32>> = BTreeMap::new();
    for (socket, owners) in world.sockets.values() {
        if socket.namespace() == namespace {
            let remote = socket.remote().filter(|_| socket.protocol() == Protocol::TCP);
            let listening = socket.role() == Role::Listening;
            let tuple = (socket.protocol(), socket.local(), remote, listening);
            seen.entry(tuple).or_default().extend(owners.iter().map(|key| key.pid));
        }
    }
    seen
}

#[test]
fn sock_diag_and_netstat2_list_the_same() {
    let listeners = ["127.0.0.1:0", "[::1]:0", "[::]:0"].map(|at| TcpListener::bind(at).unwrap());
    let _udp = ["127.0.0.1:0", "[::1]:0", "[::]:0"].map(|at| UdpSocket::bind(at).unwrap());
    let _ends: Vec<_> = listeners
        .iter()
        .map(|listener| {
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect(("127.0.0.1", port))
                .or_else(|_| TcpStream::connect(("::1", port)))
                .unwrap();
            (client, listener.accept().unwrap())
        })
        .collect();
    let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
    connected.connect(listeners[0].local_addr().unwrap()).unwrap();

    let mut last = None;
    for _ in 0..20 {
        let mut own = World::open(Choice::SockDiag);
        let mut oracle = World::open(Choice::Portable);
        own.look();
        oracle.look();
        let namespace = *oracle.namespaces.keys().next().unwrap();
        assert!(own.namespaces.contains_key(&namespace), "they agree where we are");
        let (ours, theirs) = (seen(&own, namespace), seen(&oracle, namespace));
        assert!(ours.len() >= 13, "{ours:?}");
        if ours == theirs {
            let addresses = own.addresses.iter().filter(|a| a.namespace == namespace);
            assert!(addresses.eq(&oracle.addresses));
            return;
        }
        last = Some((ours, theirs));
    }
    panic!("never the same, at last {last:#?}");
}
