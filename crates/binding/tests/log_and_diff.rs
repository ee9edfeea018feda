//! What the log keeps, and what the difference of two tables says.

use std::collections::BTreeSet;

use procflow_binding::{
    BootId, BootTime, Change, Close, Coverage, Details, Event, Held, History, HostId, Incarnation,
    Log, Namespace, NamespaceId, Open, Process, ProcessKey, Since, Socket, SocketId, Table,
    Translation, TranslationGone, diff,
};
use procflow_core::{Endpoint, FlowKey, Protocol};

const HOME: NamespaceId = NamespaceId(1);

fn incarnation() -> Incarnation {
    Incarnation { host: HostId([1; 16]), boot: BootId([2; 16]), number: 3 }
}

fn process(pid: u32, comm: &str) -> Process {
    let key = ProcessKey { pid, start: BootTime(1) };
    let comm = comm.into();
    Process { key, comm, executable: None, uid: None, user: None, container: None, unit: None }
}

fn listener(port: u16) -> Socket {
    Socket::listening(HOME, Endpoint::new([127, 0, 0, 1], port), false)
}

fn table(time: u64, sockets: &[(u64, u16, &[u32])]) -> Table {
    let mut table = Table { time: BootTime(time), ..Table::default() };
    let namespace = Namespace { id: HOME, inode: 1, name: None, initial: true };
    table.namespaces.insert(HOME, namespace);
    for &(id, port, pids) in sockets {
        let mut owners = BTreeSet::new();
        for &pid in pids {
            let facts = process(pid, "x");
            owners.insert(facts.key);
            table.processes.insert(facts.key, facts);
        }
        table.sockets.insert(SocketId(id), Held { socket: listener(port), owners });
    }
    table
}

/// The changes, one word each.
fn words(changes: &[Change]) -> Vec<String> {
    changes
        .iter()
        .map(|change| match change {
            Change::Open(open) => format!("open {} by {}", open.id.0, open.owners.len()),
            Change::Owners(owners) => format!("owners {} by {}", owners.id.0, owners.owners.len()),
            Change::Close(close) => format!("close {} seen {}", close.id.0, close.last_seen.0),
            Change::Process(process) => format!("process {}", process.key.pid),
            other => format!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_socket_comes_changes_hands_and_goes() {
    let mut tables = [
        table(10, &[]),
        table(20, &[(1, 80, &[7])]),
        table(30, &[(1, 80, &[7, 8])]),
        table(40, &[]),
    ];
    let mut said = Vec::new();
    for i in 1..tables.len() {
        let (before, now) = tables.split_at_mut(i);
        said.push(words(&diff(&before[i - 1], &mut now[0])));
    }
    assert_eq!(said[0], ["process 7", "open 1 by 1"]);
    assert_eq!(said[1], ["process 8", "owners 1 by 2"]);
    assert_eq!(said[2], ["close 1 seen 30"]);
}

#[test]
fn an_orphaned_socket_keeps_its_owner_until_it_is_gone() {
    let first = table(10, &[(1, 80, &[7])]);
    let mut orphaned = table(20, &[(1, 80, &[])]);
    assert!(diff(&first, &mut orphaned).is_empty());
    assert_eq!(orphaned.sockets[&SocketId(1)].owners.len(), 1, "carried along");
    let mut still = table(30, &[(1, 80, &[])]);
    assert!(diff(&orphaned, &mut still).is_empty());
    assert_eq!(words(&diff(&still, &mut table(40, &[]))), ["close 1 seen 30"]);
}

#[test]
fn of_a_namespace_that_was_not_looked_into_nothing_is_known_from_before() {
    let mut nothing = table(10, &[]);
    nothing.namespaces.clear();
    for (before, not_before) in [(nothing, 0), (table(10, &[]), 10)] {
        let changes = diff(&before, &mut table(20, &[(1, 80, &[])]));
        let Some(Change::Open(open)) = changes.last() else { panic!("{changes:?}") };
        assert_eq!(open.not_before, BootTime(not_before));
    }
}

#[test]
fn one_number_with_another_socket_is_another_socket() {
    let mut other = table(20, &[(1, 81, &[7])]);
    let changes = diff(&table(10, &[(1, 80, &[7])]), &mut other);
    assert_eq!(words(&changes), ["close 1 seen 10", "open 1 by 1"]);
}

/// Pushes what a diff says into a log.
fn follow(log: &mut Log, tables: &mut [Table]) {
    for i in 1..tables.len() {
        let (before, now) = tables.split_at_mut(i);
        for change in diff(&before[i - 1], &mut now[0]) {
            log.push(now[0].time, change);
        }
    }
}

#[test]
fn numbers_have_no_holes_and_a_reader_goes_on_where_it_stopped() {
    let mut log = Log::open(incarnation(), Coverage::Complete, BootTime(5));
    follow(&mut log, &mut [table(10, &[]), table(20, &[(1, 80, &[7]), (2, 81, &[7])])]);
    assert_eq!(log.since(0), Since::Next(0));
    let numbers: Vec<u64> = log.events(0).map(|event| event.sequence).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    assert_eq!(log.events(3).map(|e| e.sequence).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(log.events(99).count(), 0);
}

#[test]
fn what_is_dropped_but_still_true_is_told() {
    let mut log = Log::open(incarnation(), Coverage::Complete, BootTime(5));
    let mut tables = [
        table(10, &[]),
        table(20, &[(1, 80, &[7]), (2, 81, &[8])]),
        table(30, &[(1, 80, &[7])]),
        table(40, &[(1, 80, &[7]), (3, 82, &[9])]),
    ];
    follow(&mut log, &mut tables);
    let newest = log.newest();
    log.prune(BootTime(35), usize::MAX);
    assert_eq!(log.newest(), newest);
    let Since::Dropped { until, through } = log.since(1) else { panic!("nothing dropped") };
    assert_eq!(until, BootTime(30));
    let old: Vec<Change> = log.still_true().into_iter().map(|event| event.change).collect();
    let opened: Vec<u64> = old
        .iter()
        .filter_map(|change| match change {
            Change::Open(open) => Some(open.id.0),
            _ => None,
        })
        .collect();
    assert_eq!(opened, [1], "the second is closed");
    assert_eq!(old.last(), Some(&Change::Listed));
    assert_eq!(
        words(&log.events(through).map(|e| e.change.clone()).collect::<Vec<_>>()),
        ["process 9", "open 3 by 1"]
    );
}

#[test]
fn memory_is_bounded_whatever_the_age_of_events() {
    let mut log = Log::open(incarnation(), Coverage::Complete, BootTime(0));
    for i in 1..=10_000 {
        log.push(BootTime(i), Change::Listed);
        log.prune(BootTime(0), 20_000);
        assert!(log.len() <= 200, "{}", log.len());
    }
    assert_eq!(log.newest(), 10_002);
}

#[test]
fn a_long_lived_socket_is_dated_from_when_its_last_owner_got_it() {
    let mut log = Log::open(incarnation(), Coverage::Complete, BootTime(5));
    follow(
        &mut log,
        &mut [table(10, &[]), table(20, &[(1, 80, &[7])]), table(30, &[(1, 80, &[8])])],
    );
    log.prune(BootTime(35), usize::MAX);
    let times: Vec<u64> = log
        .still_true()
        .into_iter()
        .filter(|event| matches!(event.change, Change::Open(_)))
        .map(|event| event.time.0)
        .collect();
    assert_eq!(times, [30], "who held it before is not known any more");
}

fn details(pid: u32, digest: u8) -> Change {
    let process = process(pid, "x").key;
    let digest = Some([digest; 32]);
    Change::Details(Details { process, ancestors: [].into(), command_line: None, digest })
}

fn conversation(port: u16) -> FlowKey {
    let (source, destination) =
        (Endpoint::new([10, 9, 0, 2], port), Endpoint::new([192, 0, 2, 7], 443));
    FlowKey { protocol: Protocol::TCP, source, destination }
}

fn translation(namespace: NamespaceId, port: u16) -> Change {
    let original = conversation(port);
    let source = original.destination;
    let reply = FlowKey { source, destination: Endpoint::new([10, 0, 0, 1], port), ..original };
    Change::Translation(Translation { namespace, original, reply, not_before: BootTime(0) })
}

#[test]
fn the_last_details_and_the_translations_that_hold_are_still_true() {
    let other = NamespaceId(2);
    let mut log = Log::open(incarnation(), Coverage::Complete, BootTime(5));
    let (original, last_seen) = (conversation(2), BootTime(10));
    let changes = [
        Change::Process(process(7, "x")),
        details(7, 1),
        details(7, 2),
        translation(HOME, 1),
        translation(HOME, 2),
        translation(other, 3),
        Change::TranslationGone(TranslationGone { namespace: HOME, original, last_seen }),
        Change::NamespaceGone(other),
        Change::Listed,
    ];
    changes.into_iter().for_each(|change| log.push(BootTime(10), change));
    log.prune(BootTime(20), usize::MAX);
    let told: Vec<Change> = log.still_true().into_iter().map(|event| event.change).collect();
    let expected =
        [Change::Process(process(7, "x")), details(7, 2), translation(HOME, 1), Change::Listed];
    assert_eq!(told[1..], expected, "and that it was watched");
    assert_eq!(log.len(), 4);
}

#[test]
fn details_of_strangers_are_forgotten() {
    let mut log = Log::open(incarnation(), Coverage::Complete, BootTime(5));
    let owners = [process(1, "x").key].into();
    let open = Open { id: SocketId(1), socket: listener(80), owners, not_before: BootTime(0) };
    log.push(BootTime(6), Change::Open(open));
    for pid in 1..20_000 {
        log.push(BootTime(10), details(pid, 1));
    }
    log.prune(BootTime(20), usize::MAX);
    let told = log.still_true();
    let kept: Vec<&Change> =
        told.iter().map(|e| &e.change).filter(|c| matches!(c, Change::Details(_))).collect();
    assert_eq!(kept, [&details(1, 1)], "it still holds a socket");
    let close = Close { id: SocketId(1), last_seen: BootTime(20) };
    log.push(BootTime(20), Change::Close(close));
    assert!(log.len() < 10, "{}", log.len());
}

#[test]
fn a_history_that_hears_a_thing_twice_is_none_the_wiser() {
    let mut log = Log::open(incarnation(), Coverage::Complete, BootTime(5));
    follow(&mut log, &mut [table(10, &[]), table(20, &[(1, 80, &[7])])]);
    let mut history = History::new(HostId([1; 16]), BootId([2; 16]));
    let events: Vec<Event> = log.events(0).cloned().collect();
    events.iter().chain(&events[3..]).for_each(|event| history.apply(event.clone()));
    assert_eq!(history.len(), 1);
    assert_eq!(history.end(), BootTime(20));
}
