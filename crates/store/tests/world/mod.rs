//! A host that is made up: users whose processes open and close sockets, as a tracker would tell.

#![allow(dead_code)] // each test file uses its part

use procflow_binding::{
    Address, BootId, BootTime, Change, Close, Coverage, Event, Gap, GapCause, HostId, Incarnation,
    Namespace, NamespaceId, Open, Process, ProcessKey, Socket, SocketId,
};
use procflow_core::{Endpoint, Protocol, Timestamp};

pub(crate) const HOST: HostId = HostId([7; 16]);
pub(crate) const BOOT: BootId = BootId([1; 16]);
pub(crate) const MINUTE: u64 = 60_000_000_000;
/// Real time minus boot time.
pub(crate) const OFFSET: i64 = 1_700_000_000_000_000_000;

pub(crate) fn incarnation(number: u64) -> Incarnation {
    Incarnation { host: HOST, boot: BOOT, number }
}

/// Makes events, in their order.
pub(crate) struct World {
    pub(crate) sequence: u64,
    pub(crate) now: BootTime,
    random: u64,
}

impl World {
    /// A tracker starts; its first events.
    pub(crate) fn start(now: BootTime) -> (Self, Vec<Event>) {
        let mut world = Self { sequence: 0, now, random: 88_172_645_463_325_252 };
        let (begin, cause) = (BootTime(0), GapCause::NotRunning);
        let id = NamespaceId(1);
        let changes = [
            Change::Watch(Coverage::Complete),
            Change::Gap(Gap { begin, end: now, cause }),
            Change::Clock(real(now)),
            Change::Namespace(Namespace { id, inode: 1, name: None, initial: true }),
            Change::Address(Address { namespace: id, address: [10, 0, 0, 5].into(), prefix: 24 }),
            Change::Listed,
        ];
        let events = changes.map(|change| world.event(change)).into();
        (world, events)
    }

    pub(crate) fn event(&mut self, change: Change) -> Event {
        self.sequence += 1;
        Event { sequence: self.sequence, time: self.now, change }
    }

    pub(crate) fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    pub(crate) fn process(&mut self, pid: u32, uid: u32) -> Event {
        self.event(Change::Process(Process {
            key: key(pid),
            comm: format!("worker-{pid}").into(),
            executable: Some(format!("/usr/lib/service-{}/worker", pid % 7).into()),
            uid: Some(uid),
            user: Some(format!("user{uid}").into()),
            container: None,
            unit: Some(format!("service-{}.service", pid % 7).into()),
        }))
    }

    /// A process opens a connection; the socket's number decides its tuple.
    pub(crate) fn open(&mut self, id: u64, pid: u32) -> Event {
        let (id, not_before) = (SocketId(id), self.now.minus(100_000_000));
        let owners = [key(pid)].into();
        self.event(Change::Open(Open { id, socket: socket(id.0), owners, not_before }))
    }

    pub(crate) fn close(&mut self, id: u64) -> Event {
        let last_seen = self.now.minus(100_000_000);
        self.event(Change::Close(Close { id: SocketId(id), last_seen }))
    }
}

pub(crate) fn key(pid: u32) -> ProcessKey {
    ProcessKey { pid, start: BootTime(u64::from(pid) * 10_000_000) }
}

pub(crate) fn local(id: u64) -> Endpoint {
    Endpoint::new([10, 0, 0, 5], 1024 + (id % 60_000) as u16)
}

pub(crate) fn remote(id: u64) -> Endpoint {
    let [.., a, b, c] = (id / 60_000).to_be_bytes();
    Endpoint::new([192, a, b, c], 443)
}

pub(crate) fn socket(id: u64) -> Socket {
    Socket::connected(NamespaceId(1), Protocol::TCP, local(id), remote(id))
}

pub(crate) fn real(boot: BootTime) -> Timestamp {
    Timestamp(boot.0 as i64 + OFFSET)
}
