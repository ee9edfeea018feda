//! Flows whose addresses somebody on the way translates.
//!
//! The host has 10.0.0.1 outside and 10.9.0.1 towards its containers; these have 10.9.0.2 and .3.

mod story;

use story::*;

use procflow_binding::{
    BootTime, Change, Coverage, Gap, GapCause, Histories, NamespaceId, Place, Socket, Translation,
    TranslationGone, Vantage, WhichNamespace,
};
use procflow_core::{FlowKey, Protocol};

const OTHER: NamespaceId = NamespaceId(3);
const PEER: &str = "192.0.2.7:443";

fn host(coverage: Coverage) -> Story {
    Story::begins(coverage)
        .address(100.0, HOME, "10.9.0.1", 24)
        .namespace(100.0, CONTAINER, Some("box"))
        .address(100.0, CONTAINER, "127.0.0.1", 8)
        .address(100.0, CONTAINER, "10.9.0.2", 24)
        .namespace(100.0, OTHER, Some("other"))
        .address(100.0, OTHER, "127.0.0.1", 8)
        .address(100.0, OTHER, "10.9.0.3", 24)
        .process(150.0, 7, "curl")
        .process(150.0, 8, "nginx")
        .process(150.0, 9, "docker-proxy")
}

fn tcp_in(namespace: NamespaceId, local: &str, remote: &str) -> Socket {
    Socket::connected(namespace, Protocol::TCP, at(local), at(remote))
}

fn key(from: &str, to: &str) -> FlowKey {
    flow(Protocol::TCP, from, to)
}

trait Translating {
    fn translates(self, seconds: f64, by: NamespaceId, original: FlowKey, reply: FlowKey) -> Self;
    fn ends(self, seconds: f64, by: NamespaceId, original: FlowKey) -> Self;
}

impl Translating for Story {
    fn translates(
        self,
        seconds: f64,
        namespace: NamespaceId,
        original: FlowKey,
        reply: FlowKey,
    ) -> Self {
        let not_before = boot(seconds);
        let new = Translation { namespace, original, reply, not_before };
        self.then(seconds, Change::Translation(new))
    }

    fn ends(self, seconds: f64, namespace: NamespaceId, original: FlowKey) -> Self {
        let gone = TranslationGone { namespace, original, last_seen: boot(seconds) };
        self.then(seconds, Change::TranslationGone(gone))
    }
}

fn source(histories: &Histories, from: &str, to: &str, begin: f64, end: f64) -> String {
    say(&ask(histories, key(from, to), begin, end, &close_clock()).source)
}

fn destination(histories: &Histories, from: &str, to: &str, begin: f64, end: f64) -> String {
    say(&ask(histories, key(from, to), begin, end, &close_clock()).destination)
}

const INSIDE: &str = "10.9.0.2:5000";
const OUTSIDE: &str = "10.0.0.1:5000";

/// The host hides 10.9.0.2:5000 behind its own address (masquerade).
fn hidden() -> (FlowKey, FlowKey) {
    (key(INSIDE, PEER), key(PEER, OUTSIDE))
}

fn from_a_container() -> Story {
    let (original, reply) = hidden();
    host(Coverage::Complete)
        .opens(200.0, 1, tcp_in(CONTAINER, INSIDE, PEER), &[7])
        .translates(200.001, HOME, original, reply)
        .closes(201.0, 1)
        .ends(320.0, HOME, original)
}

#[test]
fn what_a_container_sends_is_seen_outside_under_the_hosts_address() {
    let histories = from_a_container().tell();
    assert_eq!(source(&histories, OUTSIDE, PEER, 200.0, 201.0), "curl translated");
    assert_eq!(destination(&histories, PEER, OUTSIDE, 200.0, 201.0), "curl translated");
    // Before it is translated it is what it is.
    assert_eq!(source(&histories, INSIDE, PEER, 200.0, 201.0), "curl exact");
    assert_eq!(destination(&histories, INSIDE, PEER, 200.0, 201.0), "not-this-host");
    // Another port was translated for nobody.
    assert_eq!(source(&histories, "10.0.0.1:5001", PEER, 200.0, 201.0), "kernel");
    // The translation lingers, and what comes late is still nobody's but the container's.
    assert_eq!(source(&histories, OUTSIDE, PEER, 250.0, 251.0), "not-observed");
    assert_eq!(source(&histories, OUTSIDE, PEER, 400.0, 401.0), "kernel");
}

const PUBLISHED: &str = "10.0.0.1:8080";
const SERVICE: &str = "10.9.0.2:80";
const CLIENT: &str = "198.51.100.9:6000";

/// A published port: what is sent to it goes to a container.
fn published() -> (FlowKey, FlowKey) {
    (key(CLIENT, PUBLISHED), key(SERVICE, CLIENT))
}

#[test]
fn a_published_port_is_the_containers_though_a_proxy_listens_on_it() {
    let (original, reply) = published();
    let proxy = || {
        host(Coverage::Complete)
            .opens(150.0, 1, Socket::listening(HOME, at("0.0.0.0:8080"), false), &[9])
            .opens(150.0, 2, Socket::listening(CONTAINER, at("0.0.0.0:80"), false), &[8])
    };
    let story = || proxy().translates(200.0003, HOME, original, reply);
    let served = story()
        .opens(200.0004, 3, tcp_in(CONTAINER, SERVICE, CLIENT), &[])
        .acts(200.0005, 3, &[8])
        .tell();
    assert_eq!(destination(&served, CLIENT, PUBLISHED, 200.0, 200.0), "nginx translated");
    assert_eq!(source(&served, PUBLISHED, CLIENT, 200.0, 200.0), "nginx translated");
    assert_eq!(destination(&served, CLIENT, SERVICE, 200.0, 200.0), "nginx exact");
    let refused = story().tell();
    assert_eq!(destination(&refused, CLIENT, PUBLISHED, 200.0, 200.0), "nginx listener");
    // Without a translation it is the proxy's.
    let other = "198.51.100.9:6001";
    assert_eq!(destination(&refused, other, PUBLISHED, 200.0, 200.0), "docker-proxy listener");
    // A connection that the proxy was seen to hold is the proxy's, whatever is translated.
    let proxied = story().opens(200.0, 3, tcp(PUBLISHED, CLIENT), &[9]).tell();
    assert_eq!(destination(&proxied, CLIENT, PUBLISHED, 200.0, 200.0), "docker-proxy exact");
    // If the translation was seen only shortly after, it may have been either.
    let late = proxy().translates(200.03, HOME, original, reply).tell();
    assert_eq!(destination(&late, CLIENT, PUBLISHED, 200.0, 200.0), "nginx extrapolated");
}

#[test]
fn a_bound_socket_stands_behind_a_translation_in_time_and_beside_one_that_is_not() {
    let (original, reply) = published();
    let [original, reply] = [original, reply].map(|key| FlowKey { protocol: Protocol::UDP, ..key });
    let udp = |at: f64| {
        let bound = |namespace, local| Socket::bound(namespace, Protocol::UDP, local, false);
        let histories = host(Coverage::Complete)
            .opens(150.0, 1, bound(HOME, story::at("0.0.0.0:8080")), &[9])
            .opens(150.0, 2, bound(CONTAINER, story::at("0.0.0.0:80")), &[8])
            .translates(at, HOME, original, reply)
            .tell();
        let key = flow(Protocol::UDP, CLIENT, PUBLISHED);
        say(&ask(&histories, key, 200.0, 200.0, &close_clock()).destination)
    };
    assert_eq!(udp(200.0005), "nginx translated");
    assert_eq!(udp(200.03), "nginx docker-proxy ambiguous");
    assert_eq!(udp(210.0), "docker-proxy local-endpoint");
}

#[test]
fn a_hairpin_names_both_ends_on_either_side() {
    // 10.9.0.3 asks for the published port; the host hides it from 10.9.0.2, lest that answer
    // directly.
    let (asking, hidden) = ("10.9.0.3:5000", "10.9.0.1:61000");
    let histories = host(Coverage::Complete)
        .opens(200.0, 1, tcp_in(OTHER, asking, PUBLISHED), &[7])
        .translates(200.0, HOME, key(asking, PUBLISHED), key(SERVICE, hidden))
        .opens(200.001, 2, tcp_in(CONTAINER, SERVICE, hidden), &[8])
        .tell();
    let both = |from, to| {
        let answer = ask(&histories, key(from, to), 200.0, 205.0, &close_clock());
        [say(&answer.source), say(&answer.destination)]
    };
    assert_eq!(both(asking, PUBLISHED), ["curl exact", "nginx translated"]);
    assert_eq!(both(hidden, SERVICE), ["curl translated", "nginx exact"]);
    assert_eq!(both(SERVICE, hidden), ["nginx exact", "curl translated"]);
}

#[test]
fn whose_peer_was_changed_on_the_way_is_still_found() {
    // The same without hiding: the asking container sees another peer than the wire.
    let asking = "10.9.0.3:5000";
    let histories = host(Coverage::Complete)
        .opens(200.0, 1, tcp_in(OTHER, asking, PUBLISHED), &[7])
        .translates(200.0, HOME, key(asking, PUBLISHED), key(SERVICE, asking))
        .tell();
    assert_eq!(source(&histories, asking, SERVICE, 200.0, 205.0), "curl translated");
    // And by another host on the way: here the client is tracked, too.
    let (original, reply) = published();
    let mut histories = host(Coverage::Complete).translates(200.0, HOME, original, reply).tell();
    Story::begins(Coverage::Complete)
        .on(2, 2)
        .namespace(100.0, OTHER, None)
        .address(100.0, OTHER, "198.51.100.9", 24)
        .process(150.0, 5, "wget")
        .opens(200.0, 1, tcp_in(OTHER, CLIENT, PUBLISHED), &[5])
        .tell_to(&mut histories);
    assert_eq!(source(&histories, CLIENT, SERVICE, 200.0, 205.0), "wget translated");
    assert_eq!(source(&histories, CLIENT, PUBLISHED, 200.0, 205.0), "wget exact");
}

#[test]
fn a_program_of_the_translator_itself_is_found() {
    // A redirect to a port of its own, and a service address that stands for a container.
    let (proxied, virtual_service) = ("10.0.0.1:3128", "10.96.0.1:443");
    let histories = host(Coverage::Complete)
        .translates(200.0, HOME, key(CLIENT, "10.0.0.1:80"), key(proxied, CLIENT))
        .opens(200.0, 1, tcp(proxied, CLIENT), &[8])
        .opens(200.0, 2, tcp(OUTSIDE, virtual_service), &[7])
        .translates(200.0, HOME, key(OUTSIDE, virtual_service), key(SERVICE, OUTSIDE))
        .tell();
    assert_eq!(destination(&histories, CLIENT, "10.0.0.1:80", 200.0, 201.0), "nginx translated");
    assert_eq!(source(&histories, OUTSIDE, SERVICE, 200.0, 201.0), "curl translated");
}

#[test]
fn loopback_behind_a_translator_is_its_own() {
    // 127.0.0.1:8080 is published on loopback, too: every namespace has that address.
    let (asking, hidden) = ("127.0.0.1:5000", "10.9.0.1:5000");
    let histories = host(Coverage::Complete)
        .opens(200.0, 1, tcp_in(HOME, asking, "127.0.0.1:8080"), &[7])
        .opens(200.0, 2, tcp_in(OTHER, asking, "127.0.0.1:8080"), &[9])
        .translates(200.0, HOME, key(asking, "127.0.0.1:8080"), key(SERVICE, hidden))
        .tell();
    assert_eq!(source(&histories, hidden, SERVICE, 200.0, 201.0), "curl translated");
}

#[test]
fn nested_translations_are_followed_but_not_forever() {
    // A container of a container: both hide what they hold, the outer one from a pool.
    let pool = "203.0.113.50:700";
    let histories = host(Coverage::Complete)
        .opens(200.0, 1, tcp_in(OTHER, "10.9.0.3:5000", PEER), &[7])
        .translates(200.0, CONTAINER, key("10.9.0.3:5000", PEER), key(PEER, INSIDE))
        .translates(200.0, HOME, key(INSIDE, PEER), key(PEER, pool))
        .tell();
    assert_eq!(source(&histories, INSIDE, PEER, 200.0, 201.0), "curl translated");
    assert_eq!(source(&histories, pool, PEER, 200.0, 201.0), "curl translated");
    // Two who translate into each other forever.
    let (a, b) = ("10.0.0.1:1", "10.0.0.1:2");
    let circle = host(Coverage::Complete)
        .translates(200.0, HOME, key(a, PEER), key(PEER, b))
        .translates(200.0, HOME, key(b, PEER), key(PEER, a))
        .tell();
    assert_eq!(source(&circle, a, PEER, 200.0, 201.0), "not-observed");
}

#[test]
fn translations_that_fan_out_are_not_asked_forever() {
    // Twenty who translate everything into everything; twenty who hold every address.
    let mut story = host(Coverage::Complete);
    for namespace in (10..30).map(NamespaceId) {
        for a in 1..=20 {
            story = story.address(100.0, namespace, &format!("10.200.0.{a}"), 24);
        }
    }
    for from in 1..=20 {
        for to in 1..=20 {
            let (inner, outer) = (format!("10.200.0.{to}:5"), format!("10.200.0.{from}:5"));
            for by in (10..30).map(NamespaceId) {
                let original = key(&inner, &format!("192.0.2.{from}:443"));
                story = story.translates(200.0, by, original, key(PEER, &outer));
            }
        }
    }
    let histories = story.tell();
    assert_eq!(source(&histories, "10.200.0.1:5", PEER, 200.0, 201.0), " ambiguous");
}

#[test]
fn an_address_that_is_on_no_interface_is_looked_for_everywhere() {
    let pool = "203.0.113.50:700";
    let story = |host_number| {
        host(Coverage::Complete)
            .on(host_number, host_number)
            .opens(200.0, 1, tcp_in(CONTAINER, INSIDE, PEER), &[7])
            .translates(200.0, HOME, key(INSIDE, PEER), key(PEER, pool))
    };
    let mut histories = story(1).tell();
    assert_eq!(source(&histories, pool, PEER, 200.0, 201.0), "curl translated");
    assert_eq!(source(&histories, pool, PEER, 300.0, 301.0), "curl translated", "still there");
    assert_eq!(source(&histories, pool, "192.0.2.8:443", 200.0, 201.0), "not-this-host");
    story(2).tell_to(&mut histories);
    assert_eq!(source(&histories, pool, PEER, 200.0, 201.0), "curl curl ambiguous", "two hosts");
}

#[test]
fn behind_a_translator_an_address_that_two_hold_is_ambiguous() {
    let histories = from_a_container().address(150.0, OTHER, "10.9.0.2", 24).tell();
    assert_eq!(source(&histories, OUTSIDE, PEER, 200.0, 201.0), "curl ambiguous");
}

#[test]
fn behind_a_translator_an_address_that_nobody_holds_is_not_this_hosts() {
    let (original, reply) = (key("10.8.0.9:5000", PEER), key(PEER, OUTSIDE));
    let histories = host(Coverage::Complete)
        .opens(150.0, 1, Socket::listening(HOME, at("0.0.0.0:5000"), false), &[9])
        .translates(200.0, HOME, original, reply)
        .tell();
    assert_eq!(source(&histories, OUTSIDE, PEER, 200.0, 201.0), "not-this-host");
}

#[test]
fn one_port_for_two_containers_in_turn_is_told_apart_by_time() {
    let other = key("10.9.0.3:5000", PEER);
    let (original, reply) = hidden();
    let histories = host(Coverage::Complete)
        .opens(200.0, 1, tcp_in(CONTAINER, INSIDE, PEER), &[7])
        .translates(200.0, HOME, original, reply)
        .closes(201.0, 1)
        .ends(201.0, HOME, original)
        .opens(202.0, 2, tcp_in(OTHER, "10.9.0.3:5000", PEER), &[8])
        .translates(202.0, HOME, other, reply)
        .closes(203.0, 2)
        .ends(203.0, HOME, other)
        .tell();
    let by = |vantage: &Vantage, from, to| {
        say(&ask(&histories, key(OUTSIDE, PEER), from, to, vantage).source)
    };
    assert_eq!(by(&close_clock(), 200.1, 200.9), "curl translated");
    assert_eq!(by(&close_clock(), 202.1, 202.9), "nginx translated");
    assert_eq!(by(&close_clock(), 200.1, 202.9), "curl nginx translated", "merged in one record");
    assert_eq!(by(&close_clock(), 201.02, 201.03), "curl extrapolated");
    let wide = Vantage { tolerance: 2_000_000_000, ..outside() };
    assert_eq!(by(&wide, 200.1, 200.9), "curl nginx ambiguous");
}

#[test]
fn the_same_port_of_one_container_again_is_asked_for_in_its_own_time() {
    // The inside endpoint is used by two processes, each under an outside port of its own.
    let (original, reply) = hidden();
    let second = key(PEER, "10.0.0.1:5001");
    let histories = host(Coverage::Complete)
        .opens(200.0, 1, tcp_in(CONTAINER, INSIDE, PEER), &[7])
        .translates(200.0, HOME, original, reply)
        .closes(200.5, 1)
        .ends(200.5, HOME, original)
        .opens(200.6, 2, tcp_in(CONTAINER, INSIDE, PEER), &[8])
        .translates(200.6, HOME, original, second)
        .tell();
    assert_eq!(source(&histories, OUTSIDE, PEER, 200.1, 200.4), "curl translated");
    assert_eq!(source(&histories, "10.0.0.1:5001", PEER, 200.7, 200.9), "nginx translated");
    // A record that runs on after the translation did names who was translated.
    assert_eq!(source(&histories, OUTSIDE, PEER, 200.1, 200.9), "curl translated");
}

#[test]
fn a_translation_that_is_told_after_a_short_connection_is_still_its() {
    let (original, reply) = hidden();
    let told_late = |not_before: f64| {
        let not_before = boot(not_before);
        let late = Translation { namespace: HOME, original, reply, not_before };
        host(Coverage::Complete)
            .opens(200.0, 1, tcp_in(CONTAINER, INSIDE, PEER), &[7])
            .closes(200.01, 1)
            .then(200.02, Change::Translation(late))
            .tell()
    };
    let answer = |not_before| source(&told_late(not_before), OUTSIDE, PEER, 200.0, 200.01);
    assert_eq!(answer(199.9), "curl translated", "it may have been there all along");
    assert_eq!(answer(200.015), "curl extrapolated", "it was not there, as far as clocks go");
}

#[test]
fn after_a_gap_a_translation_is_confirmed_or_over() {
    let (original, reply) = hidden();
    let story = |cause: GapCause, again: bool| {
        let gap = Gap { begin: boot(300.0), end: boot(300.1), cause };
        let inside = tcp_in(CONTAINER, INSIDE, PEER);
        let mut story = host(Coverage::Complete)
            .opens(200.0, 1, inside, &[7])
            .translates(200.0, HOME, original, reply)
            .then(300.1, Change::Gap(gap))
            .namespace(300.1, HOME, None)
            .address(300.1, HOME, "10.0.0.1", 24)
            .namespace(300.1, CONTAINER, None)
            .address(300.1, CONTAINER, "10.9.0.2", 24)
            .opens(300.1, 1, inside, &[7]);
        if again {
            story = story.translates(300.1, HOME, original, reply);
        }
        story.then(300.2, Change::Listed).tell()
    };
    let stopped = |again| story(GapCause::NotRunning, again);
    for from in [250.0, 300.0, 400.0] {
        let answer = source(&stopped(true), OUTSIDE, PEER, from, from + 1.0);
        assert_eq!(answer, "curl translated", "{from}");
    }
    assert_eq!(source(&stopped(false), OUTSIDE, PEER, 250.0, 251.0), "curl translated");
    assert_eq!(source(&stopped(false), OUTSIDE, PEER, 400.0, 401.0), "kernel");
    // Where only events of sockets got lost, translations are not told again and stay.
    let lost = story(GapCause::EventsLost, false);
    assert_eq!(source(&lost, OUTSIDE, PEER, 400.0, 401.0), "curl translated");
}

#[test]
fn with_its_namespace_a_translation_is_gone_and_old_ones_are_forgotten() {
    let mut histories = host(Coverage::Complete)
        .opens(200.0, 1, tcp_in(OTHER, "10.9.0.3:5000", PEER), &[7])
        .translates(200.0, CONTAINER, key("10.9.0.3:5000", PEER), key(PEER, INSIDE))
        .then(299.9, Change::Clock(real(299.9)))
        .then(300.0, Change::NamespaceGone(CONTAINER))
        .namespace(310.0, CONTAINER, None)
        .address(310.0, CONTAINER, "10.9.0.2", 24)
        .tell();
    assert_eq!(source(&histories, INSIDE, PEER, 250.0, 251.0), "curl translated");
    assert_eq!(source(&histories, INSIDE, PEER, 400.0, 401.0), "kernel");
    histories.iter_mut().for_each(|history| history.prune(boot(350.0)));
    assert_eq!(source(&histories, INSIDE, PEER, 400.0, 401.0), "kernel");
    assert_eq!(source(&histories, INSIDE, PEER, 250.0, 251.0), "not-this-host");
}

#[test]
fn a_conversation_that_is_tracked_but_not_translated_is_none() {
    let histories = host(Coverage::Complete)
        .translates(200.0, HOME, key(OUTSIDE, PEER), key(PEER, OUTSIDE))
        .tell();
    assert_eq!(source(&histories, OUTSIDE, PEER, 200.0, 201.0), "kernel");
}

#[test]
fn what_the_kernel_sends_from_behind_a_translator_is_not_called_kernel() {
    let (original, reply) = hidden();
    let story = || host(Coverage::Complete).translates(200.0, HOME, original, reply);
    assert_eq!(source(&story().tell(), OUTSIDE, PEER, 200.0, 201.0), "not-observed");
    let own = story().opens(200.0, 1, tcp_in(CONTAINER, INSIDE, PEER), &[KERNEL]).tell();
    assert_eq!(source(&own, OUTSIDE, PEER, 200.0, 201.0), "owner-not-seen");
    let nobody = story().opens(200.0, 1, tcp_in(CONTAINER, INSIDE, PEER), &[]).tell();
    assert_eq!(source(&nobody, OUTSIDE, PEER, 200.0, 201.0), "owner-not-seen");
    let polled = host(POLLED).translates(200.0, HOME, original, reply).tell();
    assert_eq!(source(&polled, OUTSIDE, PEER, 200.0, 201.0), "not-observed");
}

#[test]
fn a_connection_of_the_translators_own_shortly_before_contests_it() {
    let (original, reply) = hidden();
    let story = |at: f64| {
        let histories = host(Coverage::Complete)
            .opens(199.0, 2, tcp(OUTSIDE, PEER), &[9])
            .closes(199.98, 2)
            .opens(200.0, 1, tcp_in(CONTAINER, INSIDE, PEER), &[7])
            .translates(200.0, HOME, original, reply)
            .tell();
        source(&histories, OUTSIDE, PEER, at, at + 0.01)
    };
    assert_eq!(story(200.0), "curl docker-proxy ambiguous", "only the clock could tell");
    assert_eq!(story(199.5), "docker-proxy exact");
    assert_eq!(story(200.5), "curl translated");
}

#[test]
fn pings_of_two_containers_look_the_same_outside() {
    let icmp = |from: &str, to: &str| flow(Protocol::ICMP, from, to);
    // Conntrack tells the echo id where a port would be.
    let hide = |story: Story, from, id: u16| {
        let (inside, outside) = (format!("{from}:{id}"), format!("10.0.0.1:{id}"));
        let peer = format!("192.0.2.7:{id}");
        story.translates(200.0, HOME, icmp(&inside, &peer), icmp(&peer, &outside))
    };
    let pings = |namespace, local| {
        Socket::connected(namespace, Protocol::ICMP, at(local), at("192.0.2.7:0"))
    };
    let source = |story: Story| {
        let key = icmp("10.0.0.1:0", "192.0.2.7:2048");
        say(&ask(&story.tell(), key, 200.0, 205.0, &close_clock()).source)
    };
    let one = || {
        let story = host(Coverage::Complete).opens(200.0, 1, pings(CONTAINER, "10.9.0.2:0"), &[7]);
        hide(story, "10.9.0.2", 77)
    };
    assert_eq!(source(one()), "curl translated");
    assert_eq!(source(hide(one(), "10.9.0.2", 78)), "curl translated", "the same container");
    let two = one().opens(200.0, 2, pings(OTHER, "10.9.0.3:0"), &[8]);
    assert_eq!(source(hide(two, "10.9.0.3", 79)), "curl nginx ambiguous");
}

#[test]
fn inside_a_namespace_translations_are_followed_as_well() {
    let histories = from_a_container().tell();
    let at_home = Vantage {
        place: Place::Inside(procflow_binding::HostId([1; 16]), WhichNamespace::Initial),
        ..close_clock()
    };
    let source = |from, to| say(&ask(&histories, key(from, to), 200.0, 201.0, &at_home).source);
    assert_eq!(source(OUTSIDE, PEER), "curl translated");
    assert_eq!(source(INSIDE, PEER), "curl exact");
}

#[test]
fn a_translation_told_twice_or_by_nobody_changes_nothing() {
    let (original, reply) = hidden();
    let new = Translation { namespace: HOME, original, reply, not_before: BootTime(0) };
    let histories = from_a_container()
        .then(330.0, Change::Translation(new))
        .then(331.0, Change::Translation(new))
        .ends(332.0, HOME, key("10.9.0.9:1", PEER))
        .ends(332.0, CONTAINER, original)
        .tell();
    assert_eq!(source(&histories, OUTSIDE, PEER, 200.0, 201.0), "curl translated");
    assert_eq!(source(&histories, OUTSIDE, PEER, 340.0, 341.0), "not-observed");
}
