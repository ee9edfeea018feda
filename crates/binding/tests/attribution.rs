//! What `attribute` answers, on histories written by hand.

mod story;

use story::*;

use procflow_binding::{
    Address, BootId, BootTime, Change, Coverage, Event, FlowClock, Gap, GapCause, Histories,
    NamespaceId, Open, Owner, Quality, Reason, Socket, SocketId, Vantage, WhichNamespace,
};
use procflow_core::Protocol;

const OUT: (&str, &str) = ("10.0.0.1:40000", "192.0.2.7:443");

fn source(histories: &Histories, from: f64, to: f64, vantage: &Vantage) -> String {
    say(&ask(histories, flow(Protocol::TCP, OUT.0, OUT.1), from, to, vantage).source)
}

fn one_connection() -> Story {
    Story::begins(POLLED)
        .process(200.0, 7, "curl")
        .open(200.0, 1, tcp(OUT.0, OUT.1), &[7])
        .close(210.0, 1)
}

#[test]
fn a_connection_seen_in_time_is_exact_and_its_peer_is_not_ours() {
    let histories = one_connection().tell();
    let answer = ask(&histories, flow(Protocol::TCP, OUT.0, OUT.1), 201.0, 205.0, &outside());
    assert_eq!(say(&answer.source), "curl exact");
    assert_eq!(say(&answer.destination), "not-this-host");
    let back = ask(&histories, flow(Protocol::TCP, OUT.1, OUT.0), 201.0, 205.0, &outside());
    assert_eq!(say(&back.destination), "curl exact");
}

#[test]
fn shortly_after_its_last_sight_it_is_extrapolated_and_later_not_observed() {
    let histories = one_connection().tell();
    assert_eq!(source(&histories, 210.5, 210.6, &outside()), "curl extrapolated");
    assert_eq!(source(&histories, 215.0, 215.1, &outside()), "not-observed");
    assert_eq!(source(&histories, 209.95, 209.96, &exact_clock()), "curl extrapolated");
    assert!(!Quality::Extrapolated.is_observation());
}

#[test]
fn another_protocol_or_another_peer_is_another_flow() {
    let histories = one_connection().tell();
    let key = flow(Protocol::UDP, OUT.0, OUT.1);
    assert_eq!(say(&ask(&histories, key, 201.0, 205.0, &outside()).source), "not-observed");
    let key = flow(Protocol::TCP, OUT.0, "192.0.2.8:443");
    assert_eq!(say(&ask(&histories, key, 201.0, 205.0, &outside()).source), "not-observed");
}

#[test]
fn a_wildcard_listener_explains_a_connection_nobody_accepted() {
    let histories = Story::begins(POLLED)
        .process(150.0, 9, "nginx")
        .open(150.0, 1, Socket::listening(HOME, at("0.0.0.0:80"), false), &[9])
        .tell();
    let key = flow(Protocol::TCP, "192.0.2.7:5555", "10.0.0.1:80");
    assert_eq!(say(&ask(&histories, key, 200.0, 200.1, &outside()).destination), "nginx listener");
    let v6 = flow(Protocol::TCP, "[2001:db8::1]:5555", "[fd00::1]:80");
    assert_eq!(say(&ask(&histories, v6, 200.0, 200.1, &outside()).destination), "not-observed");
}

#[test]
fn an_accepted_connection_is_its_acceptors_and_not_the_listeners() {
    let histories = Story::begins(POLLED)
        .process(150.0, 9, "master")
        .process(150.0, 10, "worker")
        .open(150.0, 1, Socket::listening(HOME, at("[::]:80"), true), &[9])
        .open(200.0, 2, tcp("10.0.0.1:80", "192.0.2.7:5555"), &[10])
        .tell();
    let key = flow(Protocol::TCP, "192.0.2.7:5555", "10.0.0.1:80");
    assert_eq!(say(&ask(&histories, key, 200.0, 201.0, &outside()).destination), "worker exact");
    let other = flow(Protocol::TCP, "192.0.2.7:6666", "10.0.0.1:80");
    let answer = ask(&histories, other, 200.0, 201.0, &outside());
    assert_eq!(say(&answer.destination), "master listener", "dual-stack takes IPv4");
}

#[test]
fn a_connection_that_nobody_holds_yet_is_its_listeners() {
    let histories = Story::begins(POLLED)
        .process(150.0, 9, "nginx")
        .open(150.0, 1, Socket::listening(HOME, at("0.0.0.0:80"), false), &[9])
        .open(200.0, 2, tcp("10.0.0.1:80", "192.0.2.7:5555"), &[])
        .tell();
    let key = flow(Protocol::TCP, "192.0.2.7:5555", "10.0.0.1:80");
    assert_eq!(say(&ask(&histories, key, 200.0, 201.0, &outside()).destination), "nginx listener");
}

#[test]
fn unconnected_udp_is_found_by_its_local_endpoint() {
    let histories = Story::begins(POLLED)
        .process(150.0, 9, "dnsmasq")
        .process(150.0, 10, "special")
        .open(150.0, 1, Socket::bound(HOME, Protocol::UDP, at("0.0.0.0:53"), false), &[9])
        .open(150.0, 2, Socket::bound(HOME, Protocol::UDP, at("127.0.0.1:53"), false), &[10])
        .tell();
    let ours = |to| {
        let key = flow(Protocol::UDP, "192.0.2.7:5353", to);
        say(&ask(&histories, key, 200.0, 200.1, &outside()).destination)
    };
    assert_eq!(ours("10.0.0.1:53"), "dnsmasq local-endpoint");
    assert_eq!(ours("127.0.0.1:53"), "special local-endpoint");
    assert_eq!(ours("127.9.9.9:53"), "dnsmasq local-endpoint", "all of 127/8 is local");
}

#[test]
fn a_v6_only_wildcard_takes_no_v4() {
    let story = |dual| {
        Story::begins(POLLED)
            .process(150.0, 9, "named")
            .open(150.0, 1, Socket::bound(HOME, Protocol::UDP, at("[::]:53"), dual), &[9])
            .tell()
    };
    let key = flow(Protocol::UDP, "192.0.2.7:5353", "10.0.0.1:53");
    let destination = |dual| say(&ask(&story(dual), key, 200.0, 200.1, &outside()).destination);
    assert_eq!(destination(true), "named local-endpoint");
    assert_eq!(destination(false), "not-observed");
}

#[test]
fn time_decides_between_two_owners_of_one_port() {
    let histories = Story::begins(POLLED)
        .process(200.0, 7, "first")
        .open(200.0, 1, tcp(OUT.0, OUT.1), &[7])
        .close(210.0, 1)
        .process(220.0, 8, "second")
        .open(220.0, 2, tcp(OUT.0, OUT.1), &[8])
        .close(230.0, 2)
        .tell();
    assert_eq!(source(&histories, 205.0, 206.0, &outside()), "first exact");
    assert_eq!(source(&histories, 225.0, 226.0, &outside()), "second exact");
    assert_eq!(source(&histories, 215.0, 216.0, &outside()), "not-observed");
    assert_eq!(source(&histories, 202.0, 228.0, &outside()), "first second exact");
}

#[test]
fn owners_too_close_for_the_clock_are_ambiguous() {
    let histories = Story::begins(POLLED)
        .process(200.0, 7, "first")
        .open(200.0, 1, tcp(OUT.0, OUT.1), &[7])
        .close(200.5, 1)
        .process(200.8, 8, "second")
        .open(200.8, 2, tcp(OUT.0, OUT.1), &[8])
        .close(201.2, 2)
        .tell();
    assert_eq!(source(&histories, 200.2, 200.3, &outside()), "first second ambiguous");
    assert_eq!(source(&histories, 200.2, 200.3, &exact_clock()), "first exact");
    assert_eq!(source(&histories, 200.9, 201.0, &exact_clock()), "second exact");
}

#[test]
fn one_program_in_two_processes_too_close_to_tell_is_still_ambiguous() {
    let histories = Story::begins(POLLED)
        .process(200.0, 7, "curl")
        .process(200.0, 8, "curl")
        .open(200.0, 1, tcp(OUT.0, OUT.1), &[7])
        .close(200.5, 1)
        .open(200.8, 2, tcp(OUT.0, OUT.1), &[8])
        .close(201.2, 2)
        .tell();
    assert_eq!(source(&histories, 200.2, 200.3, &outside()), "curl curl ambiguous");
}

#[test]
fn a_shared_socket_has_all_its_owners() {
    let histories = Story::begins(POLLED)
        .process(150.0, 9, "gunicorn")
        .process(150.0, 10, "worker")
        .open(200.0, 1, tcp(OUT.0, OUT.1), &[9])
        .owners(201.0, 1, &[9, 10])
        .owners(202.0, 1, &[10])
        .tell();
    assert_eq!(source(&histories, 200.0, 205.0, &outside()), "gunicorn worker exact");
    assert_eq!(source(&histories, 204.5, 205.0, &outside()), "worker exact");
}

#[test]
fn sockets_that_share_a_port_side_by_side_are_one_answer() {
    let listener = |id| Socket::bound(HOME, Protocol::UDP, at(id), false);
    let histories = Story::begins(POLLED)
        .process(150.0, 9, "avahi")
        .process(150.0, 10, "chrome")
        .open(150.0, 1, listener("0.0.0.0:5353"), &[9])
        .open(160.0, 2, listener("0.0.0.0:5353"), &[10])
        .tell();
    let key = flow(Protocol::UDP, "192.0.2.7:5353", "10.0.0.1:5353");
    let answer = ask(&histories, key, 200.0, 200.1, &outside());
    assert_eq!(say(&answer.destination), "avahi chrome local-endpoint");
}

#[test]
fn a_socket_seen_before_its_owner_was_is_the_owners_from_the_start() {
    let histories = Story::begins(POLLED)
        .open(200.0, 1, tcp(OUT.0, OUT.1), &[])
        .process(203.0, 7, "curl")
        .owners(203.0, 1, &[7])
        .tell();
    assert_eq!(source(&histories, 200.1, 200.2, &exact_clock()), "curl exact");
}

#[test]
fn a_socket_whose_owner_was_never_seen_says_so() {
    let histories = Story::begins(POLLED).open(200.0, 1, tcp(OUT.0, OUT.1), &[]).tell();
    assert_eq!(source(&histories, 200.1, 200.2, &outside()), "owner-not-seen");
}

#[test]
fn a_process_is_what_it_was_then() {
    let histories = Story::begins(POLLED)
        .process(200.0, 7, "sh")
        .open(200.0, 1, tcp(OUT.0, OUT.1), &[7])
        .process(210.0, 7, "nc")
        .tell();
    assert_eq!(source(&histories, 201.0, 202.0, &outside()), "sh exact");
    assert_eq!(source(&histories, 220.0, 222.0, &outside()), "nc exact");
}

/// "command line, first byte of the digest" of the one who is named.
fn details(histories: &Histories, at: f64) -> String {
    let key = flow(Protocol::TCP, OUT.0, OUT.1);
    let holders = ask(histories, key, at, at + 0.1, &exact_clock()).source.into_holders();
    let [holder] = holders.as_slice() else { panic!("{holders:?}") };
    let Some(details) = &holder.details else { return "none".to_owned() };
    let line = details.command_line.as_ref().map_or("-".to_owned(), |line| line.join(" "));
    format!("{line}, {}", details.digest.map_or("-".to_owned(), |digest| digest[0].to_string()))
}

#[test]
fn details_may_come_late_and_are_what_they_were_then() {
    let histories = Story::begins(POLLED)
        .exec(200.0, 7, "sh")
        .open(200.0, 1, tcp(OUT.0, OUT.1), &[7])
        .details(201.0, 7, Some("sh -c nc"), None)
        .details(203.0, 7, Some("sh -c nc"), Some(5))
        .exec(210.0, 7, "nc")
        .details(212.0, 7, Some("nc -l"), None)
        .process(220.0, 8, "plain")
        .owners(220.0, 1, &[8])
        .tell();
    assert_eq!(details(&histories, 200.5), "sh -c nc, 5", "the first that is known");
    assert_eq!(details(&histories, 202.0), "sh -c nc, 5", "computed later, true before");
    assert_eq!(details(&histories, 209.0), "sh -c nc, 5");
    assert_eq!(details(&histories, 211.0), "nc -l, -", "never those of the program before");
    assert_eq!(details(&histories, 215.0), "nc -l, -");
    assert_eq!(details(&histories, 230.0), "none");
}

#[test]
fn details_that_change_do_not_make_two_processes_of_one() {
    let histories = Story::begins(POLLED)
        .process(200.0, 7, "curl")
        .details(200.0, 7, Some("curl a"), None)
        .open(200.0, 1, tcp(OUT.0, OUT.1), &[7])
        .close(203.0, 1)
        .details(203.5, 7, Some("curl b"), None)
        .open(204.0, 2, tcp(OUT.0, OUT.1), &[7])
        .tell();
    assert_eq!(source(&histories, 201.0, 206.0, &outside()), "curl exact");
    assert_eq!(source(&histories, 203.2, 203.6, &outside()), "curl extrapolated");
}

#[test]
fn of_a_process_whose_details_change_all_the_time_few_are_kept() {
    let mut story =
        Story::begins(POLLED).process(200.0, 7, "x").open(200.0, 1, tcp(OUT.0, OUT.1), &[7]);
    for i in 0..100 {
        story = story.details(201.0 + f64::from(i), 7, Some(&format!("x {i}")), None);
    }
    let mut histories = story.tell();
    assert_eq!(details(&histories, 250.0), "x 84, -", "the oldest of sixteen");
    assert_eq!(details(&histories, 290.0), "x 89, -");
    histories.iter_mut().for_each(|history| history.prune(boot(500.0)));
    assert_eq!(details(&histories, 600.0), "x 99, -", "it still holds its socket");
}

#[test]
fn before_watching_began_nothing_is_known() {
    let histories = one_connection().tell();
    assert_eq!(source(&histories, 50.0, 51.0, &outside()), "before-history");
    assert_eq!(source(&histories, 100.5, 100.6, &outside()), "before-history", "tolerance");
}

#[test]
fn after_the_last_word_nothing_is_known_yet() {
    let mut story = one_connection();
    story.until = 300.0;
    let histories = story.tell();
    assert_eq!(source(&histories, 299.5, 299.6, &outside()), "not-yet-known");
    assert_eq!(source(&histories, 400.0, 400.1, &outside()), "not-yet-known");
    assert_eq!(source(&histories, 298.0, 298.1, &outside()), "not-observed");
}

#[test]
fn a_miss_in_a_gap_is_the_gaps() {
    let gap = Gap { begin: boot(300.0), end: boot(305.0), cause: GapCause::EventsLost };
    let histories = one_connection()
        .then(305.0, Change::Gap(gap))
        .address(305.0, HOME, "10.0.0.1", 24)
        .then(305.1, Change::Listed)
        .tell();
    assert_eq!(source(&histories, 302.0, 302.1, &outside()), "gap-events-lost");
    assert_eq!(source(&histories, 320.0, 320.1, &outside()), "not-observed");
    assert_eq!(source(&histories, 201.0, 202.0, &outside()), "curl exact");
}

#[test]
fn a_restart_closes_what_it_does_not_list_again() {
    let stopped = Gap { begin: BootTime(0), end: boot(300.0), cause: GapCause::NotRunning };
    let second = ("10.0.0.1:40001", "192.0.2.7:443");
    let mut histories = Story::begins(POLLED)
        .process(200.0, 7, "curl")
        .open(200.0, 1, tcp(OUT.0, OUT.1), &[7])
        .open(200.0, 2, tcp(second.0, second.1), &[7])
        .then(300.0, Change::Watch(POLLED))
        .then(300.0, Change::Gap(stopped))
        .address(300.0, HOME, "10.0.0.1", 24)
        .open(300.0, 2, tcp(second.0, second.1), &[7])
        .then(300.0, Change::Listed)
        .tell();
    // The first was last seen at 200, when the last event before the gap was told.
    assert_eq!(source(&histories, 250.0, 251.0, &outside()), "gap-tracker-not-running");
    let key = flow(Protocol::TCP, second.0, second.1);
    let still = ask(&histories, key, 250.0, 251.0, &outside());
    assert_eq!(say(&still.source), "curl exact", "the same socket before and after");
    histories.iter_mut().for_each(|history| history.prune(boot(310.0)));
    assert_eq!(source(&histories, 201.0, 202.0, &outside()), "before-history");
}

#[test]
fn a_socket_that_changed_hands_in_a_gap_was_its_former_owners_before_it() {
    let stopped = Gap { begin: BootTime(0), end: boot(300.0), cause: GapCause::NotRunning };
    let mut story = Story::begins(POLLED)
        .process(150.0, 7, "before")
        .process(150.0, 8, "after")
        .open(200.0, 1, tcp(OUT.0, OUT.1), &[7])
        .then(280.0, Change::Clock(real(280.0)))
        .then(300.0, Change::Watch(POLLED))
        .then(300.0, Change::Gap(stopped))
        .address(300.0, HOME, "10.0.0.1", 24);
    let socket = tcp(OUT.0, OUT.1);
    let (owners, not_before) = ([process(8)].into(), BootTime(0));
    let open = Open { id: SocketId(1), socket, owners, not_before };
    story = story.then(300.0, Change::Open(open)).then(300.0, Change::Listed);
    let histories = story.tell();
    assert_eq!(source(&histories, 250.0, 251.0, &outside()), "before exact");
    assert_eq!(source(&histories, 350.0, 351.0, &outside()), "after exact");
}

#[test]
fn an_old_boot_is_forgotten_in_the_end_and_the_current_one_never() {
    const KEEP: u64 = 3_600_000_000_000;
    let mut old = one_connection();
    old.until = 300.0;
    let mut histories = old.tell();
    // By a wrong clock everything is long ago; the tracker still tells this boot.
    histories.prune(KEEP, real(1e6), FlowClock::Host);
    assert_eq!(source(&histories, 201.0, 202.0, &outside()), "curl exact");
    let mut new = Story::begins(POLLED).on(1, 2);
    new.until = 200.0;
    new.tell_to(&mut histories);
    histories.prune(KEEP, real(3000.0), FlowClock::Host);
    assert_eq!(histories.iter().count(), 2, "the old boot is still asked about");
    histories.prune(KEEP, real(5000.0), FlowClock::Host);
    assert_eq!(histories.iter().map(|h| h.boot()).collect::<Vec<_>>(), [BootId([2; 16])]);
}

#[test]
fn what_ended_long_ago_is_forgotten() {
    let mut histories = one_connection().tell();
    histories.prune(3_600_000_000_000, real(1e6), FlowClock::Host);
    assert_eq!(histories.iter().map(procflow_binding::History::len).sum::<usize>(), 0);
    assert_eq!(source(&histories, 201.0, 202.0, &outside()), "before-history");
}

#[test]
fn a_bound_socket_does_not_vouch_for_a_time_when_nobody_watched() {
    let gap = Gap { begin: boot(300.0), end: boot(305.0), cause: GapCause::SourceFailed };
    let histories = Story::begins(POLLED)
        .process(150.0, 9, "dnsmasq")
        .open(150.0, 1, Socket::bound(HOME, Protocol::UDP, at("0.0.0.0:53"), false), &[9])
        .then(305.0, Change::Gap(gap))
        .tell();
    let key = flow(Protocol::UDP, "192.0.2.7:5353", "10.0.0.1:53");
    let owner = |from| say(&ask(&histories, key, from, from + 0.1, &outside()).destination);
    assert_eq!(owner(200.0), "dnsmasq local-endpoint");
    assert_eq!(owner(302.0), "dnsmasq extrapolated");
    assert_eq!(owner(320.0), "dnsmasq local-endpoint");
}

#[test]
fn a_namespace_replaced_while_nobody_watched_is_another_one() {
    let stopped = Gap { begin: BootTime(0), end: boot(300.0), cause: GapCause::NotRunning };
    let local =
        Socket::connected(NamespaceId(3), Protocol::TCP, at("127.0.0.1:40000"), at("127.0.0.1:80"));
    let histories = two_namespaces()
        .then(300.0, Change::Watch(POLLED))
        .then(300.0, Change::Gap(stopped))
        .namespace(300.0, HOME, None)
        .namespace(300.0, NamespaceId(3), Some("box"))
        .address(300.0, NamespaceId(3), "127.0.0.1", 8)
        .open(300.0, 9, local, &[8])
        .then(300.0, Change::Listed)
        .tell();
    let key = flow(Protocol::TCP, "127.0.0.1:40000", "127.0.0.1:80");
    let vantage = inside(1, WhichNamespace::Named("box".into()));
    assert_eq!(say(&ask(&histories, key, 400.0, 401.0, &vantage).source), "box-curl exact");
}

#[test]
fn a_number_given_again_after_a_restart_is_another_socket() {
    let stopped = Gap { begin: BootTime(0), end: boot(300.0), cause: GapCause::NotRunning };
    let histories = Story::begins(POLLED)
        .process(150.0, 7, "curl")
        .open(200.0, 1, tcp(OUT.0, OUT.1), &[7])
        .then(300.0, Change::Watch(POLLED))
        .then(300.0, Change::Gap(stopped))
        .address(300.0, HOME, "10.0.0.1", 24)
        .open(300.0, 1, tcp("10.0.0.1:2", "192.0.2.7:2"), &[7])
        .then(300.0, Change::Listed)
        .tell();
    assert_eq!(source(&histories, 199.95, 200.5, &outside()), "curl exact");
    assert_eq!(source(&histories, 250.0, 251.0, &outside()), "gap-tracker-not-running");
}

#[test]
fn a_socket_that_changed_hands_just_now_is_not_an_observation() {
    let histories = Story::begins(POLLED)
        .process(150.0, 7, "former")
        .process(150.0, 8, "latter")
        .open(200.0, 1, tcp(OUT.0, OUT.1), &[7])
        .owners(250.0, 1, &[8])
        .tell();
    assert_eq!(source(&histories, 250.5, 250.6, &outside()), "former latter extrapolated");
    assert_eq!(source(&histories, 250.5, 250.6, &exact_clock()), "latter exact");
    assert_eq!(source(&histories, 252.0, 252.1, &outside()), "latter exact");
    assert_eq!(source(&histories, 240.0, 260.0, &outside()), "former latter exact");
}

#[test]
fn who_is_seen_does_not_speak_for_who_is_not() {
    let bound = Socket::bound(HOME, Protocol::UDP, at("0.0.0.0:5353"), false);
    let histories = Story::begins(POLLED)
        .process(150.0, 10, "browser")
        .open(150.0, 1, bound, &[])
        .open(160.0, 2, bound, &[10])
        .tell();
    let key = flow(Protocol::UDP, "192.0.2.7:5353", "10.0.0.1:5353");
    let answer = ask(&histories, key, 200.0, 200.1, &outside());
    assert_eq!(say(&answer.destination), "browser ambiguous");
}

#[test]
fn a_listing_that_broke_off_proves_nothing() {
    let mut histories = Story::begins(POLLED)
        .process(150.0, 7, "curl")
        .open(200.0, 1, tcp(OUT.0, OUT.1), &[7])
        .tell();
    let untold = |seconds: f64, sequence, change| Event { sequence, time: boot(seconds), change };
    for history in histories.iter_mut() {
        *history = procflow_binding::History::new(history.host(), history.boot());
        let story =
            Story::begins(POLLED).process(150.0, 7, "curl").open(200.0, 1, tcp(OUT.0, OUT.1), &[7]);
        story.events.into_iter().for_each(|event| history.apply(event));
        // Everything until 400 was dropped by the tracker; of what is still true a part came.
        history.dropped(boot(400.0));
        let address = Address { namespace: HOME, address: [10, 0, 0, 1].into(), prefix: 24 };
        history.apply(untold(390.0, 50, Change::Address(address)));
    }
    assert_eq!(source(&histories, 300.0, 301.0, &outside()), "gap-retention");
    for history in histories.iter_mut() {
        // The connection broke; the next one begins anew, a little later.
        history.dropped(boot(410.0));
        let address = Address { namespace: HOME, address: [10, 0, 0, 1].into(), prefix: 24 };
        history.apply(untold(390.0, 50, Change::Address(address)));
        history.apply(untold(410.0, 60, Change::Listed));
        history.watched_until(boot(1000.0));
    }
    assert_eq!(source(&histories, 300.0, 301.0, &outside()), "gap-retention");
    assert_eq!(source(&histories, 199.95, 200.1, &exact_clock()), "curl exact");
    assert_eq!(source(&histories, 500.0, 501.0, &outside()), "not-observed");
}

#[test]
fn ten_thousand_sockets_on_one_port_are_answered_at_once() {
    let mut story = Story::begins(POLLED).process(150.0, 9, "many");
    for id in 0..10_000 {
        let socket = Socket::bound(HOME, Protocol::UDP, at("0.0.0.0:53"), false);
        story = story.open(150.0, id, socket, &[9]);
    }
    let histories = story.tell();
    let key = flow(Protocol::UDP, "192.0.2.7:5353", "10.0.0.1:53");
    for _ in 0..100 {
        let answer = ask(&histories, key, 200.0, 200.1, &outside());
        assert_eq!(say(&answer.destination), "many local-endpoint");
    }
}

#[test]
fn kernel_is_said_only_where_everything_was_watched() {
    let complete = Story::begins(Coverage::Complete).tell();
    assert_eq!(source(&complete, 200.0, 200.1, &outside()), "kernel");
    let polled = Story::begins(POLLED).tell();
    assert_eq!(source(&polled, 200.0, 200.1, &outside()), "not-observed");
    let gap = Gap { begin: boot(199.0), end: boot(199.5), cause: GapCause::EventsLost };
    let lossy = Story::begins(Coverage::Complete).then(199.5, Change::Gap(gap)).tell();
    assert_eq!(source(&lossy, 200.0, 200.1, &outside()), "gap-events-lost");
    let icmp = flow(Protocol::ICMP, "10.0.0.1:0", "192.0.2.7:771");
    assert_eq!(say(&ask(&complete, icmp, 200.0, 200.0, &outside()).source), "kernel");
}

#[test]
fn what_the_kernels_own_socket_sends_no_process_did() {
    let wireguard = Socket::bound(HOME, Protocol::UDP, at("0.0.0.0:51820"), false);
    let nfs = tcp("10.0.0.1:700", "192.0.2.7:2049");
    let gap = Gap { begin: boot(300.0), end: boot(305.0), cause: GapCause::SourceFailed };
    for coverage in [Coverage::Complete, POLLED] {
        let histories = Story::begins(coverage)
            .open(150.0, 1, wireguard, &[KERNEL])
            .open(150.0, 2, nfs, &[KERNEL])
            .then(305.0, Change::Gap(gap))
            .tell();
        let answer = |key, from| say(&ask(&histories, key, from, from + 0.1, &outside()).source);
        let tunnel = flow(Protocol::UDP, "10.0.0.1:51820", "192.0.2.7:51820");
        assert_eq!(answer(tunnel, 200.0), "kernel");
        assert_eq!(answer(tunnel, 302.0), "gap-source-failed", "something connected may have been");
        let mount = flow(Protocol::TCP, "10.0.0.1:700", "192.0.2.7:2049");
        assert_eq!(answer(mount, 200.0), "kernel");
        assert_eq!(answer(mount, 302.0), "kernel", "the same socket before and after");
    }
}

#[test]
fn a_socket_of_the_kernel_and_one_of_a_process_are_told_apart_by_time() {
    let histories = Story::begins(Coverage::Complete)
        .process(150.0, 7, "mount.nfs")
        .open(200.0, 1, tcp(OUT.0, OUT.1), &[7])
        .close(201.0, 1)
        .open(205.0, 2, tcp(OUT.0, OUT.1), &[KERNEL])
        .close(206.0, 2)
        .open(207.0, 3, tcp(OUT.0, OUT.1), &[KERNEL, 7])
        .tell();
    assert_eq!(source(&histories, 200.2, 200.8, &exact_clock()), "mount.nfs exact");
    assert_eq!(source(&histories, 205.2, 205.8, &exact_clock()), "kernel");
    // All was watched, but its last segments may come long after it let go;
    assert_eq!(source(&histories, 203.0, 203.1, &exact_clock()), "owner-not-seen");
    // not before it had it.
    assert_eq!(source(&histories, 198.0, 198.1, &exact_clock()), "kernel", "all was watched");
    assert_eq!(source(&histories, 208.0, 209.0, &exact_clock()), "mount.nfs exact", "both hold it");
    let wide = Vantage { tolerance: 10_000_000_000, ..outside() };
    assert_eq!(source(&histories, 203.0, 203.1, &wide), "mount.nfs ambiguous");
}

#[test]
fn two_places_without_a_process_are_the_kernel_twice() {
    let histories = Story::begins(Coverage::Complete)
        .namespace(100.0, CONTAINER, None)
        .address(100.0, CONTAINER, "10.0.0.1", 24)
        .tell();
    assert_eq!(source(&histories, 200.0, 200.1, &outside()), "kernel");
}

#[test]
fn what_a_coarse_clock_rounds_away_is_still_seen_in_time() {
    let histories = Story::begins(Coverage::Complete)
        .process(200.0, 7, "curl")
        .then(200.0004, opened(1, tcp(OUT.0, OUT.1), &[7], 200.0004))
        .then(200.0008, closed(1, 200.0008))
        .tell();
    let fine = Vantage { tolerance: 50_000_000, ..outside() };
    let coarse = Vantage { granularity: Vantage::GRANULARITY, ..fine.clone() };
    // All of it happened within the millisecond that both stamps name.
    assert_eq!(source(&histories, 200.0, 200.0, &fine), "curl extrapolated");
    assert_eq!(source(&histories, 200.0, 200.0, &coarse), "curl exact");
    assert_eq!(source(&histories, 199.998, 199.998, &coarse), "curl extrapolated");
    assert_eq!(source(&histories, 200.002, 200.002, &coarse), "curl extrapolated");
}

#[test]
fn a_step_of_the_real_time_clock_changes_no_answer() {
    for step in [-3600.0, 3600.0] {
        // The clock is stepped at second 5000; the two connections lie on either side of it.
        let story = Story::begins(POLLED)
            .process(200.0, 7, "before")
            .process(200.0, 8, "after")
            .open(4000.0, 1, tcp(OUT.0, OUT.1), &[7])
            .close(4990.0, 1)
            .then(5000.0, Change::Clock(real(5000.0 + step)))
            .open(5010.0, 2, tcp("10.0.0.1:40001", OUT.1), &[8])
            .close(5020.0, 2)
            .open(4999.0, 3, tcp("10.0.0.1:40002", OUT.1), &[7])
            .close(5002.0, 3);
        let histories = story.tell();
        let ask_source = |port: u16, from: f64, to: f64| {
            let key = flow(Protocol::TCP, &format!("10.0.0.1:{port}"), OUT.1);
            say(&ask(&histories, key, from, to, &outside()).source)
        };
        assert_eq!(ask_source(40000, 4500.0, 4510.0), "before exact", "{step}");
        assert_eq!(ask_source(40001, 5011.0 + step, 5012.0 + step), "after exact", "{step}");
        // Began before the step, ended after it, as its stamps say.
        assert_eq!(ask_source(40002, 4999.5, 5001.5 + step), "before exact", "{step}");
    }
}

#[test]
fn one_port_an_hour_apart_under_a_clock_that_went_back_an_hour_is_not_guessed() {
    let histories = Story::begins(POLLED)
        .process(200.0, 7, "early")
        .process(200.0, 8, "late")
        .open(4000.0, 1, tcp(OUT.0, OUT.1), &[7])
        .close(4010.0, 1)
        .then(5000.0, Change::Clock(real(1400.0)))
        .open(7600.0, 2, tcp(OUT.0, OUT.1), &[8])
        .close(7610.0, 2)
        .tell();
    assert_eq!(source(&histories, 4002.0, 4008.0, &outside()), "early late ambiguous");
}

#[test]
fn the_collectors_clock_serves_where_the_hosts_is_wrong() {
    let mut histories = one_connection().tell();
    // The host believes in 1,000,100 at boot second 100; the collector says a day later.
    let day = 86_400.0;
    for history in histories.iter_mut() {
        history.collector_sample(procflow_binding::ClockSample {
            boot: boot(100.0),
            real: real(100.0 + day),
        });
    }
    let collector = Vantage { clock: FlowClock::Collector, ..outside() };
    assert_eq!(source(&histories, 201.0 + day, 205.0 + day, &collector), "curl exact");
    assert_eq!(source(&histories, 201.0, 205.0, &outside()), "curl exact");
}

/// Two namespaces with the same loopback and the same 5-tuple in each.
fn two_namespaces() -> Story {
    let local =
        |ns| Socket::connected(ns, Protocol::TCP, at("127.0.0.1:40000"), at("127.0.0.1:80"));
    Story::begins(POLLED)
        .namespace(100.0, CONTAINER, Some("box"))
        .address(100.0, CONTAINER, "127.0.0.1", 8)
        .address(100.0, CONTAINER, "10.9.0.2", 24)
        .process(150.0, 7, "host-curl")
        .process(150.0, 8, "box-curl")
        .open(200.0, 1, local(HOME), &[7])
        .open(200.0, 2, local(CONTAINER), &[8])
}

#[test]
fn loopback_in_two_namespaces_is_two_places() {
    let histories = two_namespaces().tell();
    let key = flow(Protocol::TCP, "127.0.0.1:40000", "127.0.0.1:80");
    let source = |vantage: &Vantage| say(&ask(&histories, key, 201.0, 202.0, vantage).source);
    assert_eq!(source(&inside(1, WhichNamespace::Initial)), "host-curl exact");
    assert_eq!(source(&inside(1, WhichNamespace::Named("box".into()))), "box-curl exact");
    assert_eq!(source(&inside(1, WhichNamespace::Inode(2))), "box-curl exact");
    assert_eq!(source(&inside(1, WhichNamespace::Named("other".into()))), "not-this-host");
    assert_eq!(source(&inside(9, WhichNamespace::Initial)), "not-this-host");
    assert_eq!(source(&outside()), "host-curl box-curl ambiguous");
}

#[test]
fn a_socket_of_one_namespace_never_explains_a_flow_of_another() {
    let histories = two_namespaces().close(300.0, 2).tell();
    let key = flow(Protocol::TCP, "127.0.0.1:40000", "127.0.0.1:80");
    let source = |vantage: &Vantage| say(&ask(&histories, key, 400.0, 402.0, vantage).source);
    assert_eq!(source(&inside(1, WhichNamespace::Named("box".into()))), "not-observed");
    // Seen from nowhere in particular: it may have been the container's, which was not observed.
    assert_eq!(source(&outside()), "host-curl ambiguous");
}

#[test]
fn inside_one_namespace_an_address_of_another_is_still_found() {
    let histories = two_namespaces()
        .open(
            200.0,
            3,
            Socket::connected(CONTAINER, Protocol::TCP, at("10.9.0.2:5000"), at("10.0.0.1:80")),
            &[8],
        )
        .tell();
    let key = flow(Protocol::TCP, "10.9.0.2:5000", "10.0.0.1:80");
    let answer = ask(&histories, key, 201.0, 202.0, &inside(1, WhichNamespace::Initial));
    assert_eq!(say(&answer.source), "box-curl exact");
    assert_eq!(say(&answer.destination), "not-observed");
}

#[test]
fn a_namespace_that_is_gone_takes_its_sockets_along() {
    let histories = two_namespaces()
        .close(300.0, 2)
        .then(300.0, Change::NamespaceGone(CONTAINER))
        .namespace(310.0, NamespaceId(3), Some("box"))
        .address(310.0, NamespaceId(3), "127.0.0.1", 8)
        .tell();
    let key = flow(Protocol::TCP, "127.0.0.1:40000", "127.0.0.1:80");
    let vantage = inside(1, WhichNamespace::Named("box".into()));
    let source = |from| say(&ask(&histories, key, from, from + 1.0, &vantage).source);
    assert_eq!(source(250.0), "box-curl exact");
    assert_eq!(source(320.0), "not-observed", "another namespace under the same name");
}

#[test]
fn two_hosts_with_one_address_are_two_places() {
    let mut histories = one_connection().tell();
    one_connection().on(2, 2).tell_to(&mut histories);
    assert_eq!(source(&histories, 201.0, 202.0, &outside()), "curl curl ambiguous");
    assert_eq!(source(&histories, 201.0, 202.0, &inside(2, WhichNamespace::Initial)), "curl exact");
}

#[test]
fn a_place_whose_history_does_not_reach_the_flow_may_still_have_been_it() {
    let mut histories = one_connection().tell();
    let mut late = Story::begins(POLLED).on(2, 2);
    late.events.iter_mut().for_each(|event| event.time = boot(500.0));
    late.tell_to(&mut histories);
    assert_eq!(source(&histories, 201.0, 202.0, &outside()), "curl ambiguous");
}

#[test]
fn both_ends_on_two_tracked_hosts_are_both_named() {
    let mut histories = one_connection().tell();
    let mut server = Story::begins(POLLED).on(2, 2);
    server.events.retain(|event| !matches!(event.change, Change::Address(_)));
    server
        .address(150.0, HOME, "192.0.2.7", 24)
        .process(150.0, 5, "httpd")
        .open(200.0, 1, tcp(OUT.1, OUT.0), &[5])
        .tell_to(&mut histories);
    let answer = ask(&histories, flow(Protocol::TCP, OUT.0, OUT.1), 201.0, 202.0, &outside());
    assert_eq!(say(&answer.source), "curl exact");
    assert_eq!(say(&answer.destination), "httpd exact");
}

#[test]
fn between_two_boots_of_a_host_its_tracker_did_not_run() {
    let mut first = one_connection();
    first.until = 300.0;
    let mut histories = first.tell();
    // The second boot: its second 0 is real second 1000 of the first's.
    let mut second = Story::begins(POLLED).on(1, 2);
    for event in &mut second.events {
        if let Change::Clock(sample) = &mut event.change {
            *sample = real(1100.0);
        }
    }
    second
        .process(200.0, 7, "wget")
        .open(200.0, 1, tcp(OUT.0, OUT.1), &[7])
        .tell_to(&mut histories);
    assert_eq!(source(&histories, 201.0, 202.0, &outside()), "curl exact");
    assert_eq!(source(&histories, 1201.0, 1202.0, &outside()), "wget exact");
    assert_eq!(source(&histories, 700.0, 701.0, &outside()), "gap-tracker-not-running");
}

#[test]
fn an_address_that_moved_away_is_no_longer_ours() {
    let moved = Address { namespace: HOME, address: "10.0.0.1".parse().unwrap(), prefix: 24 };
    let histories = one_connection().then(250.0, Change::AddressGone(moved)).tell();
    assert_eq!(source(&histories, 201.0, 202.0, &outside()), "curl exact");
    assert_eq!(source(&histories, 260.0, 261.0, &outside()), "not-this-host");
}

#[test]
fn events_that_make_no_sense_change_nothing() {
    let histories = one_connection()
        .owners(220.0, 99, &[1])
        .close(221.0, 99)
        .then(222.0, Change::NamespaceGone(NamespaceId(77)))
        .open(223.0, 5, tcp("10.0.0.1:1", "192.0.2.7:1"), &[12345])
        .tell();
    assert_eq!(source(&histories, 201.0, 202.0, &outside()), "curl exact");
    let key = flow(Protocol::TCP, "10.0.0.1:1", "192.0.2.7:1");
    let answer = ask(&histories, key, 225.0, 226.0, &outside());
    assert_eq!(answer.source, Owner::Unknown(Reason::OwnerNotSeen), "no facts, no name");
}

#[test]
fn no_tracked_host_means_not_this_host() {
    assert_eq!(source(&Histories::default(), 1.0, 2.0, &outside()), "not-this-host");
}

#[test]
fn every_answer_is_in_the_document() {
    let document = include_str!("../../../docs/attribution.md");
    let gaps =
        [GapCause::NotRunning, GapCause::EventsLost, GapCause::Retention, GapCause::SourceFailed];
    let reasons = [
        Reason::NotThisHost,
        Reason::BeforeHistory,
        Reason::NotYetKnown,
        Reason::OwnerNotSeen,
        Reason::NotObserved,
    ];
    let reasons = reasons.into_iter().chain(gaps.map(Reason::Gap)).map(|r| r.to_string());
    for word in reasons.chain(Quality::ALL.map(|quality| quality.to_string())) {
        assert!(document.contains(&format!("`{word}`")), "{word} is not in docs/attribution.md");
    }
}
