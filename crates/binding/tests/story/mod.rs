//! A story: what a tracker saw of a host, told line by line, and the questions it is asked.
//!
//! Seconds everywhere; the host booted at real second 1,000,000.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::net::IpAddr;

use procflow_binding::{
    Address, Attribution, BootId, BootTime, Change, Close, Coverage, Details, Event, FlowClock,
    Gap, GapCause, Histories, HostId, Namespace, NamespaceId, Open, Owner, Owners, Place, Process,
    ProcessKey, Socket, SocketId, Vantage, WhichNamespace,
};
use procflow_core::{Endpoint, FlowKey, Interval, Protocol, Timestamp};

pub const EPOCH: i64 = 1_000_000;
pub const POLLED: Coverage = Coverage::Polled { period: 100_000_000 };
pub const HOME: NamespaceId = NamespaceId(1);
pub const CONTAINER: NamespaceId = NamespaceId(2);

pub fn boot(seconds: f64) -> BootTime {
    BootTime((seconds * 1e9) as u64)
}

pub fn real(seconds: f64) -> Timestamp {
    Timestamp((seconds * 1e9) as i64 + EPOCH * 1_000_000_000)
}

pub fn at(endpoint: &str) -> Endpoint {
    endpoint.parse::<std::net::SocketAddr>().unwrap().into()
}

pub fn process(pid: u32) -> ProcessKey {
    ProcessKey { pid, start: BootTime(u64::from(pid)) }
}

/// A host whose story is told line by line.
pub struct Story {
    pub host: HostId,
    pub boot: BootId,
    pub events: Vec<Event>,
    pub until: f64,
}

impl Story {
    /// Watched from second 100, with 10.0.0.1 and loopback, and nothing open.
    pub fn begins(coverage: Coverage) -> Self {
        let story =
            Self { host: HostId([1; 16]), boot: BootId([1; 16]), events: vec![], until: 1e6 };
        let now = boot(100.0);
        story
            .then(100.0, Change::Watch(coverage))
            .then(
                100.0,
                Change::Gap(Gap { begin: BootTime(0), end: now, cause: GapCause::NotRunning }),
            )
            .then(100.0, Change::Clock(real(100.0)))
            .namespace(100.0, HOME, None)
            .address(100.0, HOME, "127.0.0.1", 8)
            .address(100.0, HOME, "10.0.0.1", 24)
            .address(100.0, HOME, "fd00::1", 64)
            .then(100.0, Change::Listed)
    }

    pub fn on(mut self, host: u8, boot: u8) -> Self {
        (self.host, self.boot) = (HostId([host; 16]), BootId([boot; 16]));
        self
    }

    pub fn then(mut self, seconds: f64, change: Change) -> Self {
        let sequence = self.events.len() as u64 + 1;
        self.events.push(Event { sequence, time: boot(seconds), change });
        self
    }

    pub fn namespace(self, seconds: f64, id: NamespaceId, name: Option<&str>) -> Self {
        let (name, initial) = (name.map(str::to_owned), id == HOME);
        self.then(seconds, Change::Namespace(Namespace { id, inode: id.0, name, initial }))
    }

    pub fn address(self, seconds: f64, namespace: NamespaceId, address: &str, prefix: u8) -> Self {
        let address: IpAddr = address.parse().unwrap();
        self.then(seconds, Change::Address(Address { namespace, address, prefix }))
    }

    pub fn process(self, seconds: f64, pid: u32, comm: &str) -> Self {
        let process = Process {
            key: process(pid),
            comm: comm.into(),
            executable: None,
            uid: Some(0),
            user: None,
            container: None,
            unit: None,
        };
        self.then(seconds, Change::Process(process))
    }

    /// It becomes another program.
    pub fn exec(self, seconds: f64, pid: u32, comm: &str) -> Self {
        let mut story = self.process(seconds, pid, comm);
        if let Some(Event { change: Change::Process(facts), .. }) = story.events.last_mut() {
            facts.executable = Some(format!("/bin/{comm}").into());
        }
        story
    }

    pub fn details(self, seconds: f64, pid: u32, line: Option<&str>, digest: Option<u8>) -> Self {
        let details = Details {
            process: process(pid),
            ancestors: [].into(),
            command_line: line.map(|line| line.split(' ').map(str::to_owned).collect()),
            digest: digest.map(|byte| [byte; 32]),
        };
        self.then(seconds, Change::Details(details))
    }

    /// A socket comes into view; its owners have facts if they were given with `process`.
    pub fn open(self, seconds: f64, id: u64, socket: Socket, pids: &[u32]) -> Self {
        let owners = pids.iter().copied().map(process).collect();
        let not_before = boot(seconds - 0.1);
        self.then(seconds, Change::Open(Open { id: SocketId(id), socket, owners, not_before }))
    }

    pub fn owners(self, seconds: f64, id: u64, pids: &[u32]) -> Self {
        let owners = pids.iter().copied().map(process).collect();
        let not_before = boot(seconds - 0.1);
        self.then(seconds, Change::Owners(Owners { id: SocketId(id), owners, not_before }))
    }

    pub fn close(self, seconds: f64, id: u64) -> Self {
        let last_seen = boot(seconds - 0.1);
        self.then(seconds, Change::Close(Close { id: SocketId(id), last_seen }))
    }

    /// As a source tells it that sees things when they happen: a socket opens,
    pub fn opens(self, seconds: f64, id: u64, socket: Socket, pids: &[u32]) -> Self {
        self.then(seconds, opened(id, socket, pids, seconds))
    }

    /// somebody acts on it, and these hold it from now on,
    pub fn acts(self, seconds: f64, id: u64, pids: &[u32]) -> Self {
        let owners = pids.iter().copied().map(process).collect();
        let not_before = boot(seconds);
        self.then(seconds, Change::Owners(Owners { id: SocketId(id), owners, not_before }))
    }

    /// and it closes.
    pub fn closes(self, seconds: f64, id: u64) -> Self {
        self.then(seconds, closed(id, seconds))
    }

    pub fn tell(self) -> Histories {
        let mut histories = Histories::default();
        self.tell_to(&mut histories);
        histories
    }

    pub fn tell_to(self, histories: &mut Histories) {
        let history = histories.entry(self.host, self.boot);
        self.events.into_iter().for_each(|event| history.apply(event));
        history.watched_until(boot(self.until));
    }
}

pub fn tcp(local: &str, remote: &str) -> Socket {
    Socket::connected(HOME, Protocol::TCP, at(local), at(remote))
}

pub fn outside() -> Vantage {
    let (tolerance, granularity) = (1_000_000_000, 0);
    Vantage {
        place: Place::Outside,
        clock: FlowClock::Host,
        tolerance,
        granularity,
        icmp_types: true,
    }
}

/// As a source tells it that sees when things happen: a socket opens,
pub fn opened(id: u64, socket: Socket, pids: &[u32], seconds: f64) -> Change {
    let owners = pids.iter().copied().map(process).collect();
    Change::Open(Open { id: SocketId(id), socket, owners, not_before: boot(seconds) })
}

/// and closes.
pub fn closed(id: u64, seconds: f64) -> Change {
    Change::Close(Close { id: SocketId(id), last_seen: boot(seconds) })
}

pub fn exact_clock() -> Vantage {
    Vantage { tolerance: 0, ..outside() }
}

pub fn inside(host: u8, which: WhichNamespace) -> Vantage {
    Vantage { place: Place::Inside(HostId([host; 16]), which), ..outside() }
}

pub fn flow(protocol: Protocol, source: &str, destination: &str) -> FlowKey {
    FlowKey { protocol, source: at(source), destination: at(destination) }
}

/// Asks in full, and makes sure that asking about many flows at once gives the same.
pub fn ask(
    histories: &Histories,
    key: FlowKey,
    from: f64,
    to: f64,
    vantage: &Vantage,
) -> Attribution {
    let interval = Interval { first: real(from), last: real(to) };
    let join = histories.join(vantage);
    let answer = join.attribute(&key, interval);
    let mut told = 0;
    join.attribute_all(
        2,
        |_| (key, interval),
        |_, ends| {
            let [source, destination] = ends.map(|found| join.owner(found));
            assert_eq!(Attribution { source, destination }, answer);
            told += 1;
        },
    );
    assert_eq!(told, 2);
    answer
}

/// Clocks that agree to 50 ms, times in milliseconds: the tracked host exports its own flows.
pub fn close_clock() -> Vantage {
    let (tolerance, granularity) = (50_000_000, Vantage::GRANULARITY);
    Vantage { tolerance, granularity, ..outside() }
}

/// "comm comm quality", or what else there is to say.
pub fn say(owner: &Owner) -> String {
    let names = |holders: &[procflow_binding::Holder]| {
        holders.iter().map(|h| h.process.comm.clone()).collect::<Vec<_>>().join(" ")
    };
    match owner {
        Owner::Known { holders, quality } => format!("{} {quality}", names(holders)),
        Owner::Ambiguous { candidates } => format!("{} ambiguous", names(candidates)),
        Owner::Kernel => "kernel".to_owned(),
        Owner::Unknown(reason) => reason.to_string(),
    }
}

/// Pid 0, started at 0, is the kernel.
pub const KERNEL: u32 = ProcessKey::KERNEL.pid;
