//! How fast the join is, and how much memory an interval takes: `make bench-join`.
//!
//! Connections among some thousand hosts, each with both ends tracked, so that every lookup is a hit. A
//! lookup is one end of a flow. Prints a table and, with `--json FILE`, JSON lines. It holds no claim of
//! its own; the bars are those of the project's issues.

use std::fs;
use std::io::Write;
use std::time::Instant;

use procflow_binding::{
    Address, BootId, BootTime, Change, Close, Coverage, Event, FlowClock, Found, Gap, GapCause,
    Histories, HostId, Namespace, NamespaceId, Open, Place, Process, ProcessKey, Socket, SocketId,
    Vantage,
};
use procflow_core::{Endpoint, FlowKey, Interval, Protocol, Timestamp};

const HOSTS: u32 = 2000;
const PROCESSES: u32 = 50;
const HOME: NamespaceId = NamespaceId(1);
const SECOND: u64 = 1_000_000_000;
/// Real time minus boot time, of all hosts.
const EPOCH: i64 = 1_790_000_000_000_000_000;

fn main() {
    let mut json = None;
    let mut arguments = std::env::args().skip(1);
    let mut connections = 0_u32;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => json = arguments.next(),
            "--intervals" => {
                connections = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(0) / 2;
            }
            // What `cargo bench` and `cargo test` add.
            _ => {}
        }
    }
    if connections == 0 {
        return; // `cargo test` runs benches, too
    }
    let before = resident();
    let began = Instant::now();
    let histories = world(connections);
    let told = began.elapsed().as_secs_f64();
    let intervals: usize = histories.iter().map(|history| history.len()).sum();
    let memory = (resident() - before) / intervals as f64;
    let vantage = Vantage {
        place: Place::Outside,
        clock: FlowClock::Host,
        tolerance: SECOND,
        granularity: Vantage::GRANULARITY,
        icmp_types: true,
    };
    let began = Instant::now();
    let join = histories.join(&vantage);
    let ready = began.elapsed().as_secs_f64();
    let mut rows = vec![
        ("intervals", intervals as f64, "", None),
        ("told in", told, "s", None),
        ("memory of an interval", memory, "bytes", Some(memory <= 100.0)),
        ("made ready in", ready * 1000.0, "ms", None),
    ];
    let asked = connections.min(2_000_000);
    let mut dice = Dice(7);
    let random: Vec<_> =
        (0..asked).map(|_| flow(dice.below(u64::from(connections)) as u32)).collect();
    let first = dice.below(u64::from(connections - asked) + 1) as u32;
    let sorted: Vec<_> = (first..first + asked).map(flow).collect();
    for (what, flows, bar) in [("random", random, 5.0), ("time-sorted", sorted, 20.0)] {
        let mut rates = Vec::new();
        for _ in 0..3 {
            let (mut one, began) = (0, on_processor());
            for flows in flows.chunks(256) {
                let count = |_, ends: [Found; 2]| {
                    one += ends.iter().filter(|end| matches!(end, Found::One(_))).count();
                };
                join.attribute_all(flows.len(), |at| flows[at], count);
            }
            rates.push(2.0 * flows.len() as f64 / (on_processor() - began) / 1e6);
            assert!(one * 100 > flows.len() * 2 * 99, "{one} hits of {}", flows.len() * 2);
        }
        rates.sort_by(f64::total_cmp);
        let name = if what == "random" { "random lookups" } else { "time-sorted lookups" };
        rows.push((name, rates[1], "M/s", Some(rates[1] >= bar)));
    }
    let mut lines = String::new();
    for (what, value, unit, pass) in rows {
        let verdict = pass.map_or("", |pass: bool| if pass { "" } else { "  FAIL" });
        println!("{what:<24} {value:>14.2} {unit}{verdict}");
        let pass = pass.map_or("null".to_owned(), |pass| pass.to_string());
        lines += &format!(
            "{{\"bar\": \"join: {what}\", \"value\": {value:.2}, \"unit\": \"{unit}\", \"pass\": {pass}}}\n"
        );
    }
    if let Some(path) = json {
        let file = fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(lines.as_bytes())).expect("the JSON file");
    }
}

/// Numbers that look like chance, the same ones each time (Knuth, MMIX).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 20) % bound
    }
}

fn address(host: u32) -> [u8; 4] {
    let [_, a, b, c] = (host + 257).to_be_bytes();
    [10, a, b, c]
}

/// The ends of a connection, and when it was: ten begin in a millisecond, each lasts two seconds.
fn connection(number: u32) -> ([(u32, Endpoint); 2], u64) {
    let mut dice = Dice(u64::from(number) << 8);
    let client = dice.below(u64::from(HOSTS)) as u32;
    let server = (client + 1 + dice.below(u64::from(HOSTS) - 1) as u32) % HOSTS;
    let port = 1024 + (number % 60_000) as u16;
    let ends = [(client, port), (server, 443)];
    let begin = 100 * SECOND + u64::from(number) * SECOND / 10_000;
    (ends.map(|(host, port)| (host, Endpoint::new(address(host), port))), begin)
}

fn flow(number: u32) -> (FlowKey, Interval) {
    let ([(_, source), (_, destination)], begin) = connection(number);
    let real = |boot: u64| Timestamp(boot as i64 + EPOCH);
    let interval = Interval { first: real(begin + SECOND / 10), last: real(begin + SECOND) };
    (FlowKey { protocol: Protocol::TCP, source, destination }, interval)
}

fn process(host: u32, number: u32) -> ProcessKey {
    ProcessKey { pid: host * 100 + number, start: BootTime(1) }
}

fn world(connections: u32) -> Histories {
    let mut histories = Histories::default();
    let id = |host: u32| {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&host.to_be_bytes());
        (HostId(id), BootId(id))
    };
    let mut tell = |host: u32, time: u64, change: Change| {
        let (host, boot) = id(host);
        let event = Event { sequence: 0, time: BootTime(time), change };
        histories.entry(host, boot).apply(event);
    };
    let now = 99 * SECOND;
    for host in 0..HOSTS {
        let gap = Gap { begin: BootTime(0), end: BootTime(now), cause: GapCause::NotRunning };
        let facts = Namespace { id: HOME, inode: 1, name: None, initial: true };
        let own = Address { namespace: HOME, address: address(host).into(), prefix: 8 };
        for change in [
            Change::Watch(Coverage::Complete),
            Change::Gap(gap),
            Change::Clock(Timestamp(now as i64 + EPOCH)),
            Change::Namespace(facts),
            Change::Address(own),
            Change::Listed,
        ] {
            tell(host, now, change);
        }
        for number in 0..PROCESSES {
            let facts = Process {
                key: process(host, number),
                comm: "service".into(),
                executable: Some("/usr/bin/service".into()),
                uid: Some(1000),
                user: Some("service".into()),
                container: None,
                unit: None,
            };
            tell(host, now, Change::Process(facts));
        }
    }
    // As it happens: what began two seconds ago ends.
    let lasting = 20_000;
    for number in 0..connections + lasting {
        if number < connections {
            let (ends, begin) = connection(number);
            for (at, (host, local)) in ends.into_iter().enumerate() {
                let socket = Socket::connected(HOME, Protocol::TCP, local, ends[1 - at].1);
                let open = Open {
                    id: SocketId(u64::from(number) * 2 + at as u64),
                    socket,
                    owners: [process(host, number % PROCESSES)].into(),
                    not_before: BootTime(begin),
                };
                tell(host, begin, Change::Open(open));
            }
        }
        if let Some(number) = number.checked_sub(lasting) {
            let (ends, begin) = connection(number);
            let end = BootTime(begin + 2 * SECOND);
            for (at, (host, _)) in ends.into_iter().enumerate() {
                let id = SocketId(u64::from(number) * 2 + at as u64);
                tell(host, end.0, Change::Close(Close { id, last_seen: end }));
            }
        }
    }
    histories
}

/// Seconds of processor that this thread, the only one, had (proc_pid_schedstat).
fn on_processor() -> f64 {
    let text = fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanoseconds: f64 = text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0);
    nanoseconds / 1e9
}

/// Bytes of memory that this process has.
fn resident() -> f64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0.0);
    pages * 4096.0
}
