//! Asking about many flows at once: most are answered at the first look, and none otherwise than in full.

mod story;

use procflow_binding::{Coverage, Found, Histories, Socket, WhichNamespace};
use procflow_core::{Interval, Protocol};
use story::*;

/// Three hosts with some servers and many connections; some tuples are used twice, some processes call
/// exec, some sockets are shared.
fn world() -> Histories {
    let mut histories = Histories::default();
    for host in 1..=3_u8 {
        let own = format!("10.0.{host}.1");
        let mut story = Story::begins(Coverage::Complete)
            .on(host, host)
            .address(100.0, HOME, &own, 24)
            .process(100.0, 1, "server")
            .opens(110.0, 1, Socket::listening(HOME, at(&format!("{own}:443")), false), &[1]);
        for pid in 2..8 {
            story = story.process(100.0, pid, &format!("client{pid}"));
        }
        story = story.exec(150.0, 7, "exec");
        for number in 0..400_u32 {
            let to = number % 3 + 1;
            let (local, remote) =
                (format!("{own}:{}", 1000 + number % 390), format!("10.0.{to}.1:443"));
            let (from, pids) = (120.0 + f64::from(number) / 10.0, [2 + number % 6, 3]);
            let pids = if number.is_multiple_of(9) { &pids[..] } else { &pids[..1] };
            story = story.opens(from, 10 + u64::from(number), tcp(&local, &remote), pids);
            if !number.is_multiple_of(5) {
                story = story.closes(from + 5.0, 10 + u64::from(number));
            }
        }
        story.tell_to(&mut histories);
    }
    histories
}

#[test]
fn at_once_or_one_by_one_the_answers_are_the_same() {
    let histories = world();
    let vantages = [close_clock(), outside(), inside(2, WhichNamespace::Initial)];
    let (mut one, mut all) = (0, 0);
    for vantage in &vantages {
        let join = histories.join(vantage);
        let mut flows = Vec::new();
        for host in 1..=4 {
            for number in 0..395_u32 {
                let (local, remote) = (
                    format!("10.0.{host}.1:{}", 1000 + number),
                    format!("10.0.{}.1:443", number % 3 + 1),
                );
                let from = 121.0 + f64::from(number) / 10.0;
                let interval = Interval { first: real(from), last: real(from + 1.0) };
                flows.push((flow(Protocol::TCP, &local, &remote), interval));
            }
        }
        let mut found = Vec::new();
        join.attribute_all(
            flows.len(),
            |at| flows[at],
            |at, ends| {
                assert_eq!(at, found.len());
                found.push(ends);
            },
        );
        assert_eq!(found.len(), flows.len());
        for ((key, interval), ends) in flows.iter().zip(found) {
            one += ends.iter().filter(|end| matches!(end, Found::One(_))).count();
            all += 2;
            let answer = join.attribute(key, *interval);
            let ends = ends.map(|end| join.owner(end));
            assert_eq!(ends, [answer.source, answer.destination], "{key}");
        }
    }
    assert!(one * 5 > all, "{one} of {all} at the first look");
}
