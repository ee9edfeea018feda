//! What is answered from a source that is told of every socket, when it happens.

mod story;

use story::*;

use procflow_binding::{
    Address, BootTime, Change, Close, Coverage, Details, Event, Gap, GapCause, Histories,
    NamespaceId, Open, OwnerSet, Owners, Socket, SocketId, Translation, TranslationGone, Vantage,
};
use procflow_core::{FlowKey, Protocol};

const SERVER: &str = "10.0.0.1:80";
const CLIENT: &str = "192.0.2.7:5555";

fn listening() -> Socket {
    Socket::listening(HOME, at("0.0.0.0:80"), false)
}

fn accepted() -> Socket {
    tcp(SERVER, CLIENT)
}

/// Who served a connection, by flow times in whole milliseconds.
fn server(histories: &Histories, from: f64, to: f64) -> String {
    let key = flow(Protocol::TCP, CLIENT, SERVER);
    say(&ask(histories, key, from, to, &close_clock()).destination)
}

fn complete() -> Story {
    Story::begins(Coverage::Complete)
}

#[test]
fn in_a_pre_forked_server_it_is_the_worker() {
    let histories = complete()
        .process(150.0, 9, "master")
        .process(150.0, 10, "worker")
        .process(150.0, 11, "idle")
        .opens(150.0, 1, listening(), &[9, 10, 11])
        .opens(200.0001, 2, accepted(), &[])
        .acts(200.0003, 2, &[10])
        .closes(200.0006, 2)
        .tell();
    assert_eq!(server(&histories, 200.0, 200.0), "worker exact");
}

#[test]
fn a_connection_that_nobody_touched_is_its_listeners() {
    let histories = complete()
        .process(150.0, 9, "nginx")
        .opens(150.0, 1, listening(), &[9])
        .opens(200.0001, 2, accepted(), &[])
        .closes(200.0006, 2)
        .tell();
    assert_eq!(server(&histories, 200.0, 200.0), "nginx listener");
    let nobody = complete().opens(200.0001, 2, accepted(), &[]).closes(200.0006, 2).tell();
    assert_eq!(server(&nobody, 200.0, 200.0), "owner-not-seen");
    let gone = complete()
        .process(150.0, 9, "nginx")
        .opens(150.0, 1, listening(), &[9])
        .closes(190.0, 1)
        .opens(200.0001, 2, accepted(), &[])
        .closes(200.0006, 2)
        .tell();
    assert_eq!(server(&gone, 200.0, 200.0), "owner-not-seen", "who listened listens no more");
}

#[test]
fn a_connection_that_was_passed_on_is_both_ones() {
    let histories = complete()
        .process(150.0, 9, "front")
        .process(150.0, 10, "back")
        .opens(150.0, 1, listening(), &[9])
        .opens(200.0, 2, accepted(), &[])
        .acts(200.001, 2, &[9])
        .acts(200.100, 2, &[9, 10])
        .closes(200.200, 2)
        .tell();
    assert_eq!(server(&histories, 200.0, 200.2), "front back exact");
    assert_eq!(server(&histories, 200.0, 200.02), "front exact", "not passed on yet");
    assert_eq!(server(&histories, 200.16, 200.2), "front back exact");
    // Of a few milliseconds with a second's doubt only so much is known.
    let key = flow(Protocol::TCP, CLIENT, SERVER);
    let answer = ask(&histories, key, 200.0, 200.02, &outside());
    assert_eq!(say(&answer.destination), "front back extrapolated");
}

#[test]
fn a_connection_that_was_inherited_is_the_childs_when_the_parent_let_go() {
    let histories = complete()
        .process(150.0, 9, "sshd")
        .opens(150.0, 1, listening(), &[9])
        .opens(200.0, 2, accepted(), &[])
        .acts(200.001, 2, &[9])
        .process(200.002, 10, "sshd-session")
        .acts(200.002, 2, &[9, 10])
        .acts(200.003, 2, &[10])
        .closes(260.0, 2)
        .tell();
    assert_eq!(server(&histories, 200.0, 259.0), "sshd sshd-session exact");
    assert_eq!(server(&histories, 230.0, 259.0), "sshd-session exact");
}

#[test]
fn of_two_who_share_a_port_it_is_who_took_the_connection() {
    let histories = complete()
        .process(150.0, 9, "blue")
        .process(150.0, 10, "green")
        .opens(150.0, 1, listening(), &[9])
        .opens(150.0, 2, listening(), &[10])
        .opens(200.0, 3, accepted(), &[])
        .acts(200.001, 3, &[10])
        .closes(200.005, 3)
        .tell();
    assert_eq!(server(&histories, 200.0, 200.005), "green exact");
    let other = flow(Protocol::TCP, "192.0.2.7:6666", SERVER);
    let answer = ask(&histories, other, 200.0, 200.0, &close_clock());
    assert_eq!(say(&answer.destination), "blue green listener");
}

#[test]
fn an_activated_service_is_not_who_listened_for_it() {
    // systemd.socket(5), Accept=no: the service accepts on a listener that it was handed.
    let histories = complete()
        .process(150.0, 1, "systemd")
        .opens(150.0, 1, listening(), &[1])
        .opens(200.0, 2, accepted(), &[])
        .process(200.050, 10, "cupsd")
        .acts(200.050, 1, &[1, 10])
        .acts(200.060, 2, &[10])
        .closes(200.070, 2)
        .tell();
    assert_eq!(server(&histories, 200.0, 200.070), "cupsd exact");
    assert_eq!(server(&histories, 200.0, 200.010), "cupsd exact", "it waited for the service");
}

#[test]
fn one_tuple_in_two_hands_a_second_apart_is_told_apart_by_a_good_clock() {
    let tuple = tcp("10.0.0.1:40000", "192.0.2.7:443");
    let histories = complete()
        .process(199.0, 7, "first")
        .process(199.0, 8, "second")
        .opens(200.0002, 1, tuple, &[7])
        .closes(200.0007, 1)
        .opens(201.0002, 2, tuple, &[8])
        .closes(201.0007, 2)
        .opens(202.0002, 3, tuple, &[7])
        .closes(210.0, 3)
        .tell();
    let key = flow(Protocol::TCP, "10.0.0.1:40000", "192.0.2.7:443");
    let by = |vantage: &Vantage, from, to| say(&ask(&histories, key, from, to, vantage).source);
    assert_eq!(by(&close_clock(), 200.0, 200.0), "first exact");
    assert_eq!(by(&close_clock(), 201.0, 201.0), "second exact");
    assert_eq!(by(&close_clock(), 199.5, 199.5), "kernel", "nobody had it");
    assert_eq!(by(&close_clock(), 200.5, 200.5), "owner-not-seen", "its end may come late");
    assert_eq!(by(&close_clock(), 400.0, 400.0), "kernel", "not that late");
    // A second off either way: it may have been the one or the other,
    assert_eq!(by(&outside(), 200.0, 200.001), "first second ambiguous");
    // but one of them was there for certain.
    assert_eq!(by(&outside(), 202.0, 209.0), "first exact");
    // Merged by the exporter: both, in order.
    assert_eq!(by(&close_clock(), 200.0, 201.0), "first second ambiguous");
    assert_eq!(by(&exact_clock(), 200.0, 201.001), "first second exact");
}

#[test]
fn a_tuple_that_is_used_all_day_has_the_one_who_used_it_then() {
    let tuple = tcp("10.0.0.1:40000", "192.0.2.7:443");
    let mut story = complete();
    for id in 0..100_000 {
        // Ten a second, from second 200 on, by seven processes in turn.
        let begin = 200.0 + id as f64 / 10.0;
        let pid = id as u32 % 7 + 1;
        if id < 7 {
            story = story.process(150.0, pid, &format!("p{pid}"));
        }
        story = story.opens(begin, id, tuple, &[pid]).closes(begin + 0.01, id);
    }
    let histories = story.tell();
    let key = flow(Protocol::TCP, "10.0.0.1:40000", "192.0.2.7:443");
    for id in (0..100_000).step_by(997) {
        let begin = 200.0 + f64::from(id) / 10.0;
        let answer = ask(&histories, key, begin + 0.002, begin + 0.008, &exact_clock());
        assert_eq!(say(&answer.source), format!("p{} exact", id % 7 + 1));
    }
}

#[test]
fn kernel_needs_a_watch_that_was_complete_all_over_the_flow() {
    let key = flow(Protocol::TCP, "10.0.0.1:40000", "192.0.2.7:443");
    let answer =
        |story: Story, from| say(&ask(&story.tell(), key, from, from + 1.0, &outside()).source);
    assert_eq!(answer(complete(), 200.0), "kernel");
    assert_eq!(answer(complete(), 100.5), "before-history", "the tolerance reaches before it");
    let watches = |coverage| complete().then(300.0, Change::Watch(coverage));
    assert_eq!(answer(watches(POLLED), 297.0), "kernel");
    assert_eq!(answer(watches(POLLED), 298.5), "not-observed", "the tolerance reaches the polling");
    assert_eq!(answer(watches(POLLED), 400.0), "not-observed");
    assert_eq!(answer(watches(Coverage::Complete), 299.0), "kernel");
    let lost = Gap { begin: boot(300.0), end: boot(300.001), cause: GapCause::EventsLost };
    let lossy = |from| {
        let story =
            complete().then(300.001, Change::Gap(lost)).address(300.1, HOME, "10.0.0.1", 24);
        answer(story.then(300.2, Change::Listed), from)
    };
    assert_eq!(lossy(297.9), "kernel");
    assert_eq!(lossy(298.5), "gap-events-lost");
    assert_eq!(lossy(301.5), "kernel");
    let mut unfinished = complete();
    unfinished.until = 201.5;
    assert_eq!(answer(unfinished, 200.0), "not-yet-known");
}

#[test]
fn what_is_found_without_owner_after_a_gap_does_not_hide_the_gap() {
    let gap = Gap { begin: boot(200.0), end: boot(205.0), cause: GapCause::EventsLost };
    let histories = complete()
        .then(205.0, Change::Gap(gap))
        .opens(205.0, 1, tcp("10.0.0.1:40000", "192.0.2.7:443"), &[])
        .then(205.1, Change::Listed)
        .tell();
    let key = flow(Protocol::TCP, "10.0.0.1:40000", "192.0.2.7:443");
    let answer = |from: f64| say(&ask(&histories, key, from, from + 0.1, &close_clock()).source);
    assert_eq!(answer(202.0), "gap-events-lost", "it may have had an owner then");
    assert_eq!(answer(206.0), "owner-not-seen", "it was watched, and nobody held it");
}

const ECHO: &str = "192.0.2.7:2048";
const ECHO_REPLY: &str = "192.0.2.7:0";
const UNREACHABLE: &str = "192.0.2.7:771";
const GRE: Protocol = Protocol(47);
const OSPF: Protocol = Protocol(89);

/// A raw or ping socket that has sent to somebody; a source may know an echo id.
fn pinging(peer: &str) -> Socket {
    Socket::connected(HOME, Protocol::ICMP, at("10.0.0.1:77"), at(peer))
}

/// Who sent an ICMP message, around second 200.
fn pinger(histories: &Histories, message: &str) -> String {
    let key = flow(Protocol::ICMP, "10.0.0.1:0", message);
    say(&ask(histories, key, 200.0, 205.0, &close_clock()).source)
}

#[test]
fn a_ping_is_its_senders_but_never_exactly() {
    let histories = complete()
        .process(150.0, 7, "ping")
        .opens(199.9, 1, pinging("192.0.2.7:0"), &[7])
        .closes(205.1, 1)
        .tell();
    assert_eq!(pinger(&histories, ECHO), "ping local-endpoint");
    assert_eq!(pinger(&histories, "192.0.2.8:2048"), "kernel", "it pings somebody else");
    let reply = flow(Protocol::ICMP, "192.0.2.7:0", "10.0.0.1:0");
    let answer = ask(&histories, reply, 200.0, 205.0, &close_clock());
    assert_eq!(say(&answer.destination), "ping local-endpoint");
}

#[test]
fn what_the_kernel_answers_is_no_pings() {
    // It is pinged by, and reports errors to, the very host that somebody pings,
    let histories = complete()
        .process(150.0, 7, "ping")
        .opens(199.9, 1, pinging("192.0.2.7:0"), &[7])
        .closes(205.1, 1)
        .tell();
    assert_eq!(pinger(&histories, UNREACHABLE), "kernel");
    let asked = flow(Protocol::ICMP, "192.0.2.7:0", "10.0.0.1:2048");
    let answer = ask(&histories, asked, 200.0, 205.0, &close_clock());
    assert_eq!(say(&answer.destination), "kernel");
    assert_eq!(pinger(&histories, ECHO_REPLY), "kernel");
    // (where an exporter tells no types, 0 may be anything)
    let untold = Vantage { icmp_types: false, ..close_clock() };
    let reply = flow(Protocol::ICMP, "10.0.0.1:0", "192.0.2.7:0");
    let answer = ask(&histories, reply, 200.0, 205.0, &untold);
    assert_eq!(say(&answer.source), "ping ambiguous");
    // or by another one; and a raw socket is open that has sent nothing there.
    let elsewhere = complete()
        .process(150.0, 7, "ping")
        .opens(199.8, 1, Socket::bound(HOME, Protocol::ICMP, at("0.0.0.0:0"), false), &[7])
        .opens(199.9, 2, pinging("192.0.2.99:0"), &[7])
        .tell();
    assert_eq!(pinger(&elsewhere, ECHO_REPLY), "kernel");
    assert_eq!(pinger(&elsewhere, UNREACHABLE), "kernel");
}

#[test]
fn two_who_ping_one_host_are_not_told_apart() {
    let two = || {
        complete().process(150.0, 7, "ping").process(150.0, 8, "smokeping").opens(
            199.9,
            1,
            pinging("192.0.2.7:0"),
            &[7],
        )
    };
    let together = two().opens(202.0, 2, pinging("192.0.2.7:0"), &[8]).closes(204.0, 2).tell();
    assert_eq!(pinger(&together, ECHO), "ping smokeping ambiguous");
    let one_of_two = two().opens(202.0, 2, pinging("192.0.2.7:0"), &[7]).tell();
    assert_eq!(pinger(&one_of_two, ECHO), "ping local-endpoint");
    let shared = two().acts(202.0, 1, &[7, 8]).tell();
    assert_eq!(pinger(&shared, ECHO), "ping smokeping local-endpoint", "one socket");
    let in_turn = two().closes(201.0, 1).opens(202.0, 2, pinging("192.0.2.7:0"), &[8]).tell();
    assert_eq!(pinger(&in_turn, ECHO), "ping smokeping local-endpoint", "merged in one record");
}

#[test]
fn a_raw_socket_without_a_peer_says_something_only_where_the_kernel_says_nothing() {
    let raw = |protocol, coverage| {
        Story::begins(coverage)
            .process(150.0, 7, "daemon")
            .opens(150.0, 1, Socket::bound(HOME, protocol, at("0.0.0.0:0"), false), &[7])
            .tell()
    };
    let answer = |protocol, coverage| {
        let key = flow(protocol, "192.0.2.7:0", "10.0.0.1:0");
        say(&ask(&raw(protocol, coverage), key, 200.0, 201.0, &outside()).destination)
    };
    // The kernel does not speak OSPF; but it wraps tunnels.
    assert_eq!(answer(OSPF, Coverage::Complete), "daemon local-endpoint");
    assert_eq!(answer(OSPF, POLLED), "daemon local-endpoint");
    assert_eq!(answer(GRE, Coverage::Complete), "kernel");
    assert_eq!(answer(GRE, POLLED), "daemon ambiguous");
}

#[test]
fn sctp_has_ports() {
    let sctp = Socket::connected(HOME, Protocol::SCTP, at("10.0.0.1:36412"), at("192.0.2.7:9"));
    let histories = complete().process(150.0, 7, "mme").opens(199.0, 1, sctp, &[7]).tell();
    let source = |from| {
        let key = flow(Protocol::SCTP, from, "192.0.2.7:9");
        say(&ask(&histories, key, 200.0, 201.0, &close_clock()).source)
    };
    assert_eq!(source("10.0.0.1:36412"), "mme exact");
    assert_eq!(source("10.0.0.1:36413"), "not-observed", "who only receives is not told");
}

/// Numbers that look like chance, the same ones each time (Knuth, MMIX).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

#[test]
fn whatever_a_peer_tells_in_whatever_order_is_survived() {
    let mut dice = Dice(1);
    let facts = |story: Story, pid| story.process(100.0, pid, &format!("p{pid}"));
    let mut histories = (1..4).fold(complete(), facts).tell();
    let end = |dice: &mut Dice| at(&format!("10.0.0.{}:{}", dice.below(3), dice.below(3)));
    for _ in 0..30_000 {
        let namespace = NamespaceId(dice.below(4));
        let protocol = [Protocol::TCP, Protocol::UDP, Protocol::ICMP][dice.below(3) as usize];
        let [a, b, c] = [(); 3].map(|()| end(&mut dice));
        let key = |source, destination| FlowKey { protocol, source, destination };
        let (original, reply) = (key(a, b), key(b, c));
        let id = SocketId(dice.below(20));
        let owners: OwnerSet = (0..dice.below(3)).map(|_| process(dice.below(4) as u32)).collect();
        let socket = match dice.below(3) {
            0 => Socket::bound(namespace, protocol, a, false),
            1 => Socket::listening(namespace, a, false),
            _ => Socket::connected(namespace, protocol, a, b),
        };
        // Up to ten seconds off, either way.
        let [time, other] =
            [(); 2].map(|()| BootTime(100_000_000_000 + dice.below(20) * 1_000_000_000));
        let change = match dice.below(16) {
            0..=3 => Change::Open(Open { id, socket, owners, not_before: other }),
            4..=6 => Change::Owners(Owners { id, owners, not_before: other }),
            7 | 8 => Change::Close(Close { id, last_seen: other }),
            9 | 10 => {
                let new = Translation { namespace, original, reply, not_before: other };
                Change::Translation(new)
            }
            11 => {
                Change::TranslationGone(TranslationGone { namespace, original, last_seen: other })
            }
            12 => {
                let (address, prefix) = (a.address(), 24);
                Change::Address(Address { namespace, address, prefix })
            }
            13 if dice.below(20) == 0 => Change::NamespaceGone(namespace),
            14 if dice.below(20) == 0 => {
                let cause = GapCause::EventsLost;
                Change::Gap(Gap { begin: other.min(time), end: other.max(time), cause })
            }
            15 if dice.below(10) == 0 => Change::Listed,
            _ => {
                let (process, command_line) = (process(dice.below(4) as u32), None);
                let digest = Some([dice.below(3) as u8; 32]);
                Change::Details(Details { process, ancestors: [].into(), command_line, digest })
            }
        };
        for history in histories.iter_mut() {
            history.apply(Event { sequence: 0, time, change: change.clone() });
            if dice.below(500) == 0 {
                history.prune(time);
            }
        }
        if dice.below(10) == 0 {
            let from = 100.0 + dice.below(20) as f64;
            let answer = ask(&histories, original, from, from + 1.0, &outside());
            assert!(say(&answer.source).len() < 1000);
        }
    }
}
