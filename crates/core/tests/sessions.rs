//! Frames in, events out: what is told of TCP connections, in which order, and that strangers cannot make
//! sessions hold much.

mod frames;

use frames::{fragment, ipv4, ipv6, tcp, udp};
use procflow_core::Timestamp;
use procflow_core::flow::{CloseStyle, Direction, EndReason, Filled};
use procflow_core::packet::{Batch, Decoder, LinkType};
use procflow_core::session::{
    Event, EventKind, Opening, Sessions, Settings, Summary, Tally, follow,
};

const SECOND: i64 = 1_000_000_000;
const MILLI: i64 = 1_000_000;

const FIN: u8 = 0x11;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const SYN_ACK: u8 = 0x12;

/// An event in a few words.
fn in_words(event: &Event<'_>) -> String {
    let way = |direction: Direction| if direction == Direction::Forward { '>' } else { '<' };
    let text = |payload: &[u8]| payload.escape_ascii().to_string();
    let what = match event.kind {
        EventKind::SynRetry { by } => format!("{} syn again", way(by)),
        EventKind::Start { opening } => format!("start {}", opening.name()),
        EventKind::Data { direction, payload } => format!("{} {}", way(direction), text(payload)),
        EventKind::Lost { direction, octets, why } => {
            format!("{} lost {octets} {}", way(direction), why.name())
        }
        EventKind::Retransmission { direction, octets } => {
            format!("{} again {octets}", way(direction))
        }
        EventKind::Conflict { direction, octets } => {
            format!("{} conflict {octets}", way(direction))
        }
        EventKind::RoundTrip { direction, nanoseconds } => {
            format!("{} rtt {}", way(direction), nanoseconds / MILLI as u64)
        }
        EventKind::Reset { by } => format!("{} reset", way(by)),
        EventKind::End(summary) => {
            format!("end {} {}", summary.style.name(), summary.reason.name())
        }
    };
    format!("{} {what}", event.session.0)
}

/// What is told of packets.
#[derive(Default)]
struct Told {
    words: Vec<String>,
    times: Vec<i64>,
    ends: Vec<Summary>,
}

impl Told {
    fn take(&mut self, event: &Event<'_>) {
        self.words.push(in_words(event));
        self.times.push(event.time.0);
        if let EventKind::End(summary) = event.kind {
            self.ends.push(*summary);
        }
    }

    fn without_round_trips(&self) -> Vec<&str> {
        let words = self.words.iter().map(String::as_str);
        words.filter(|words| !words.contains(" rtt ")).collect()
    }
}

/// Hands a raw IP packet to sessions, of which only so many octets were captured.
fn observe_part(
    sessions: &mut Sessions,
    time: i64,
    packet: &[u8],
    captured: usize,
    tell: impl FnMut(&Event<'_>),
) {
    let frame = &packet[..captured];
    let wire = packet.len() as u32;
    let time = Timestamp(time);
    let packet = Decoder::default().decode(LinkType::RAW, time, frame, wire).unwrap();
    sessions.observe(&packet, frame, time, tell);
}

fn observe(sessions: &mut Sessions, time: i64, packet: &[u8], tell: impl FnMut(&Event<'_>)) {
    observe_part(sessions, time, packet, packet.len(), tell);
}

/// What is told of raw IP packets with their times, to the end.
fn told(packets: &[(i64, Vec<u8>)]) -> Told {
    let mut sessions = Sessions::new(Settings::default());
    let mut told = Told::default();
    let mut last = 0;
    for (time, packet) in packets {
        observe(&mut sessions, *time, packet, |event| told.take(event));
        last = *time;
    }
    sessions.finish(Timestamp(last), |event| told.take(event));
    assert!(sessions.is_empty() && sessions.waiting() == 0);
    told
}

/// A segment from the client (10.0.0.1:4000) or back from the server (10.0.0.2:80).
fn segment(
    time: i64,
    forth: bool,
    flags: u8,
    numbers: (u32, u32),
    payload: &[u8],
) -> (i64, Vec<u8>) {
    let packet = match forth {
        true => ipv4(1, 2, 6, &tcp(4000, 80, flags, numbers, payload)),
        false => ipv4(2, 1, 6, &tcp(80, 4000, flags, numbers, payload)),
    };
    (time, packet)
}

/// SYN, its answer, and the acknowledgment of that: the client's numbers begin after `c`, the server's after
/// `s`.
fn opened(at: i64, c: u32, s: u32) -> Vec<(i64, Vec<u8>)> {
    let (next_c, next_s) = (c.wrapping_add(1), s.wrapping_add(1));
    vec![
        segment(at, true, SYN, (c, 0), b""),
        segment(at + 10 * MILLI, false, SYN_ACK, (s, next_c), b""),
        segment(at + 15 * MILLI, true, ACK, (next_c, next_s), b""),
    ]
}

#[test]
fn a_connection_from_its_first_syn_to_its_last_acknowledgment() {
    let t = |step: i64| step * MILLI;
    let mut packets = vec![segment(-SECOND, true, SYN, (1000, 0), b"")];
    packets.extend(opened(0, 1000, 5000));
    packets.extend([
        segment(t(20), true, ACK, (1001, 5001), b"question"),
        segment(t(25), true, ACK, (1001, 5001), b"question"),
        segment(t(30), false, ACK, (5001, 1009), b"ans"),
        segment(t(31), false, ACK, (5004, 1009), b"wer"),
        segment(t(36), true, ACK, (1009, 5007), b""),
        segment(t(40), true, FIN, (1009, 5007), b""),
        segment(t(50), false, FIN, (5007, 1010), b""),
        segment(t(55), true, ACK, (1010, 5008), b""),
        // The server has not heard it, and says so again.
        segment(t(300), false, FIN, (5007, 1010), b""),
    ]);
    let told = told(&packets);
    assert_eq!(
        told.words,
        [
            "1 > syn again",
            "1 start full",
            "1 > question",
            "1 > again 8",
            "1 < ans",
            "1 < wer",
            "1 < rtt 6",
            "1 < rtt 5",
            "1 < again 0",
            "1 end fin-initiator end-of-flow",
        ]
    );
    let [summary] = told.ends[..] else { panic!() };
    assert_eq!(
        (summary.reason, summary.style),
        (EndReason::EndOfFlow, CloseStyle::FinishedByInitiator)
    );
    assert_eq!(summary.opening, Some(Opening::Full));
    assert_eq!((summary.first, summary.last), (Timestamp(-SECOND), Timestamp(t(300))));
    assert_eq!(summary.closed, Some(Timestamp(t(55))));
    assert_eq!(summary.duration(), 1_055_000_000);
    // Of the SYNs the answered one counts.
    assert_eq!(summary.handshake.round_trip(), Some(15_000_000));
    assert_eq!(summary.handshake.responder_round_trip(), Some(10_000_000));
    let (forward, reverse) = (&summary.sides.forward, &summary.sides.reverse);
    assert_eq!((forward.packets, reverse.packets), (8, 5));
    // 20 octets of IP and 20 of TCP in each packet.
    assert_eq!((forward.header_octets, reverse.header_octets), (320, 200));
    assert_eq!((forward.payload_octets, forward.data_octets), (16, 8));
    assert_eq!((reverse.payload_octets, reverse.data_octets), (6, 6));
    assert_eq!((forward.syn_retries, reverse.syn_retries), (1, 0));
    assert_eq!((forward.retransmissions, forward.retransmitted_octets), (1, 8));
    assert_eq!((reverse.retransmissions, reverse.retransmitted_octets), (1, 0));
    // What was sent twice has no round trip.
    assert_eq!(forward.round_trips.count(), 0);
    let trips = &reverse.round_trips;
    assert_eq!((trips.count(), trips.least(), trips.most()), (2, Some(5_000_000), Some(6_000_000)));
    assert_eq!(trips.mean(), Some(5_500_000.0));
}

#[test]
fn sequence_numbers_wrap() {
    let (c, s) = (u32::MAX - 4, u32::MAX);
    let mut packets = opened(0, c, s);
    packets.extend([
        segment(20, true, ACK, (c.wrapping_add(1), 0), b"abc"),
        // Over the end, in front of what is missing.
        segment(21, true, ACK, (4, 0), b"ijk"),
        segment(22, true, ACK, (u32::MAX, 0), b"defgh"),
        segment(23, false, ACK, (0, 7), b"xyz"),
        segment(24, true, ACK, (7, 3), b""),
        segment(25, true, ACK, (u32::MAX - 1, 3), b"cd"),
    ]);
    let told = told(&packets);
    assert_eq!(
        told.without_round_trips(),
        [
            "1 start full",
            "1 > abc",
            "1 > defgh",
            "1 > ijk",
            "1 < xyz",
            "1 > again 2",
            "1 end open forced-end"
        ]
    );
}

#[test]
fn sessions_of_ipv6_are_told_by_their_addresses() {
    let send = |from: u8, to: u8, ports: (u16, u16), flags, numbers, payload: &[u8]| {
        ipv6(from, to, 6, &tcp(ports.0, ports.1, flags, numbers, payload))
    };
    let packets = [
        (0, send(1, 2, (4000, 80), SYN, (10, 0), b"")),
        (1, send(2, 1, (80, 4000), SYN_ACK, (20, 11), b"")),
        (2, send(1, 2, (4000, 80), ACK, (11, 21), b"six")),
    ];
    let mut sessions = Sessions::new(Settings::default());
    let mut keys = Vec::new();
    for (time, packet) in &packets {
        observe(&mut sessions, *time, packet, |event| {
            keys.push(format!("{} {}", event.key, in_words(event)));
        });
    }
    assert_eq!(
        keys,
        [
            "TCP [fd00::1]:4000 > [fd00::2]:80 1 start full",
            "TCP [fd00::1]:4000 > [fd00::2]:80 1 > six"
        ]
    );
    // 40 octets of IPv6, 20 of TCP.
    sessions.finish(Timestamp(3), |event| {
        let EventKind::End(summary) = event.kind else { panic!() };
        assert_eq!(summary.sides.forward.header_octets, 120);
    });
}

#[test]
fn a_refused_connection_is_reset_and_never_starts() {
    let packets =
        [segment(0, true, SYN, (1000, 0), b""), segment(MILLI, false, RST | ACK, (0, 1001), b"")];
    let told = told(&packets);
    assert_eq!(told.words, ["1 < reset", "1 end rst-responder end-of-flow"]);
    assert_eq!((told.ends[0].opening, told.ends[0].duration()), (None, MILLI as u64));
}

#[test]
fn a_session_can_be_joined_in_its_middle() {
    let packets =
        [segment(0, false, ACK, (5000, 900), b"tail"), segment(1, true, ACK, (900, 5004), b"more")];
    let told = told(&packets);
    assert_eq!(
        told.without_round_trips(),
        ["1 start none", "1 > tail", "1 < more", "1 end open forced-end"]
    );
    // One SYN was seen: nobody has acknowledged it, as far as is known, but the client goes on.
    let packets =
        [segment(0, true, SYN, (1000, 0), b""), segment(1, true, ACK, (1001, 5001), b"one way")];
    assert_eq!(words_of(&packets), ["1 start half", "1 > one way", "1 end open forced-end"]);
}

fn words_of(packets: &[(i64, Vec<u8>)]) -> Vec<String> {
    told(packets).without_round_trips().into_iter().map(str::to_owned).collect()
}

#[test]
fn a_hole_is_given_up_when_the_receiver_has_it_and_not_before() {
    let mut packets = opened(0, 1000, 5000);
    packets.extend([
        segment(20, true, ACK, (1001, 5001), b"ab"),
        segment(21, true, ACK, (1005, 5001), b"ef"),
        // This says of nothing that is missing that it is there.
        segment(22, false, ACK, (5001, 1003), b""),
        segment(23, true, ACK, (1009, 5001), b"ij"),
        segment(24, false, ACK, (5001, 1007), b""),
        // The first comes too late, the second does not.
        segment(25, true, ACK, (1003, 5001), b"cd"),
        segment(26, true, ACK, (1007, 5001), b"gh"),
    ]);
    let told = told(&packets);
    assert_eq!(
        told.without_round_trips(),
        [
            "1 start full",
            "1 > ab",
            "1 > lost 2 not-seen",
            "1 > ef",
            "1 > again 2",
            "1 > gh",
            "1 > ij",
            "1 end open forced-end"
        ]
    );
    let forward = &told.ends[0].sides.forward;
    assert_eq!((forward.ahead, forward.not_seen_octets), (2, 2));
}

#[test]
fn what_is_missing_in_front_of_a_fin_is_told() {
    let mut packets = opened(0, 1000, 5000);
    packets.extend([
        segment(20, true, FIN, (1006, 5001), b""),
        segment(21, false, FIN, (5001, 1007), b""),
        segment(22, true, ACK, (1007, 5002), b""),
    ]);
    assert_eq!(
        told(&packets).words,
        ["1 start full", "1 > lost 5 not-seen", "1 end fin-initiator end-of-flow"]
    );
    // And what waits for something that never comes is told at the end.
    let mut packets = opened(0, 1000, 5000);
    packets.push(segment(20, true, ACK, (1003, 5001), b"cd"));
    assert_eq!(
        told(&packets).words,
        ["1 start full", "1 > lost 2 not-seen", "1 > cd", "1 end open forced-end"]
    );
}

#[test]
fn of_octets_that_come_twice_the_first_count() {
    let mut packets = opened(0, 1000, 5000);
    packets.extend([
        segment(20, true, ACK, (1003, 5001), b"CDE"),
        segment(21, true, ACK, (1008, 5001), b"HI"),
        // From in front of the hole, over what waits, and over the second hole.
        segment(22, true, ACK, (1002, 5001), b"bcDefghij"),
        segment(23, true, ACK, (1001, 5001), b"aXY"),
    ]);
    let told = told(&packets);
    assert_eq!(
        told.without_round_trips(),
        [
            "1 start full",
            // c is not C, nor e E, nor h H, nor i I.
            "1 > again 5",
            "1 > conflict 4",
            "1 > a",
            "1 > b",
            "1 > CDE",
            "1 > fg",
            "1 > HI",
            "1 > j",
            "1 > again 2",
            "1 > conflict 2",
            "1 end open forced-end"
        ]
    );
}

#[test]
fn octets_that_were_not_captured_are_told_as_that() {
    let mut sessions = Sessions::new(Settings::default());
    let mut told = Told::default();
    for (time, packet) in opened(0, 1000, 5000) {
        observe(&mut sessions, time, &packet, |event| told.take(event));
    }
    for (sequence, payload, captured) in
        [(1001, b"abcdef", 43), (1013, b"mnopqr", 40), (1007, b"ghijkl", 46)]
    {
        let (time, packet) = segment(20 * MILLI, true, ACK, (sequence, 5001), payload);
        observe_part(&mut sessions, time, &packet, captured, |event| told.take(event));
    }
    sessions.finish(Timestamp(21 * MILLI), |event| told.take(event));
    assert_eq!(
        told.words,
        [
            "1 start full",
            "1 > abc",
            "1 > lost 3 not-captured",
            "1 > ghijkl",
            "1 > lost 6 not-captured",
            "1 end open forced-end"
        ]
    );
    assert_eq!(told.ends[0].sides.forward.not_captured_octets, 9);
}

#[test]
fn ports_that_are_used_again_are_another_session() {
    let close = |at: i64, c: u32, s: u32| {
        [
            segment(at, true, FIN, (c, s), b""),
            segment(at + 1, false, FIN, (s, c + 1), b""),
            segment(at + 2, true, ACK, (c + 1, s + 1), b""),
        ]
    };
    let mut packets = opened(0, 1000, 5000);
    packets.extend(close(20 * MILLI, 1001, 5001));
    packets.extend(opened(SECOND, 9000, 7000));
    packets.push(segment(2 * SECOND, true, ACK, (9001, 7001), b"new"));
    assert_eq!(
        told(&packets).words,
        [
            "1 start full",
            "1 end fin-initiator end-of-flow",
            "2 start full",
            "2 > new",
            "2 end open forced-end"
        ]
    );
}

#[test]
fn a_syn_ends_an_open_session_only_if_it_is_answered() {
    // Made up by somebody: the server goes on, and so does the client.
    let mut packets = opened(0, 1000, 5000);
    packets.extend([
        segment(20, true, SYN, (400_000, 0), b""),
        segment(21, false, ACK, (5001, 1001), b""),
        segment(22, true, ACK, (1001, 5001), b"on"),
    ]);
    let told_of = told(&packets);
    assert_eq!(told_of.words, ["1 start full", "1 > on", "1 end open forced-end"]);
    assert_eq!(told_of.ends[0].sides.forward.packets, 4);
    // The end of the first was not captured.
    let mut packets = opened(0, 1000, 5000);
    packets.extend(opened(SECOND, 400_000, 800_000));
    packets.push(segment(2 * SECOND, true, ACK, (400_001, 800_001), b"new"));
    let told_of = told(&packets);
    assert_eq!(
        told_of.words,
        [
            "1 start full",
            "1 end open end-of-flow",
            "2 start full",
            "2 > new",
            "2 end open forced-end"
        ]
    );
    let packets_of =
        |summary: &Summary| (summary.sides.forward.packets, summary.sides.reverse.packets);
    assert_eq!(told_of.ends.iter().map(packets_of).collect::<Vec<_>>(), [(2, 1), (3, 1)]);
    assert_eq!(told_of.ends[1].handshake.round_trip(), Some(15 * MILLI as u64));
}

#[test]
fn a_segment_far_out_of_the_window_is_not_of_the_stream() {
    let mut packets = opened(0, 1000, 5000);
    packets.extend([
        segment(20, true, ACK, (1001 + (1 << 30) + 1, 5001), b"far"),
        segment(21, true, ACK, (1001u32.wrapping_sub(1 << 31), 5001), b"far"),
        segment(22, true, ACK, (1001, 5001), b"near"),
    ]);
    let told = told(&packets);
    assert_eq!(told.words, ["1 start full", "1 > near", "1 end open forced-end"]);
    assert_eq!(told.ends[0].sides.forward.out_of_window, 2);
}

#[test]
fn data_in_a_syn_wait_for_the_handshake() {
    let mut packets = opened(0, 1000, 5000);
    packets[0] = segment(0, true, SYN, (1000, 0), b"early");
    packets[1] = segment(1, false, SYN_ACK, (5000, 1006), b"");
    packets[2] = segment(2, true, ACK, (1006, 5001), b"late");
    let told = told(&packets);
    assert_eq!(
        told.without_round_trips(),
        ["1 start full", "1 > early", "1 > late", "1 end open forced-end"]
    );
}

#[test]
fn behind_what_was_sent_again_or_came_late_nothing_is_timed() {
    let t = |step: i64| step * MILLI;
    let mut packets = opened(0, 1000, 5000);
    packets.extend([
        segment(t(20), true, ACK, (1001, 5001), b"a"),
        segment(t(21), true, ACK, (1002, 5001), b"b"),
        segment(t(22), true, ACK, (1003, 5001), b"c"),
        // b was lost behind us; c waited for it there.
        segment(t(30), false, ACK, (5001, 1002), b""),
        segment(t(40), true, ACK, (1002, 5001), b"b"),
        segment(t(50), false, ACK, (5001, 1004), b""),
        // e was lost in front of us.
        segment(t(60), true, ACK, (1004, 5001), b"d"),
        segment(t(61), true, ACK, (1006, 5001), b"f"),
        segment(t(62), true, ACK, (1005, 5001), b"e"),
        segment(t(70), false, ACK, (5001, 1007), b""),
    ]);
    let told = told(&packets);
    assert_eq!(
        told.words,
        [
            "1 start full",
            "1 > a",
            "1 > b",
            "1 > c",
            "1 > rtt 10",
            "1 > again 1",
            "1 > d",
            "1 > e",
            "1 > f",
            "1 > rtt 10",
            "1 end open forced-end"
        ]
    );
}

#[test]
fn sessions_end_by_packets_time() {
    let settings = Settings { linger: 5 * SECOND, ..Settings::default() };
    let mut sessions = Sessions::new(settings);
    let mut told = Told::default();
    for (time, packet) in opened(0, 1000, 5000) {
        observe(&mut sessions, time, &packet, |event| told.take(event));
    }
    let syn = ipv4(3, 2, 6, &tcp(4001, 80, SYN, (1, 0), b""));
    observe(&mut sessions, 20 * MILLI, &syn, |event| told.take(event));
    assert_eq!(sessions.due_next(), Some(Timestamp(120 * SECOND + 20 * MILLI)));
    sessions.expire(Timestamp(120 * SECOND), |event| told.take(event));
    assert_eq!(sessions.len(), 2);
    sessions.expire(Timestamp(1000 * SECOND), |event| told.take(event));
    assert_eq!(told.words, ["1 start full", "2 end open idle-timeout", "1 end open idle-timeout"]);
    assert_eq!(told.times[1..], [120 * SECOND + 20 * MILLI, 600 * SECOND + 15 * MILLI]);
}

#[test]
fn a_million_syns_end_no_connection_that_is_in_use() {
    let settings = Settings { capacity: 1000, ..Settings::default() };
    let mut sessions = Sessions::new(settings);
    let mut told = Told::default();
    for (time, packet) in opened(0, 1000, 5000) {
        observe(&mut sessions, time, &packet, |event| told.take(event));
    }
    let mut evicted = 0_u64;
    for number in 0..1_000_000_u32 {
        let [_, a, b, c] = number.to_be_bytes();
        let mut syn = ipv4(9, 2, 6, &tcp(u16::from_be_bytes([b, c]), 80, SYN, (number, 0), b"x"));
        syn[12] = a;
        observe(&mut sessions, 20 * MILLI, &syn, |event| {
            let EventKind::End(summary) = event.kind else { panic!("{event:?}") };
            assert_eq!((summary.reason, summary.opening), (EndReason::LackOfResources, None));
            evicted += 1;
        });
        assert!(sessions.len() <= 1000 && sessions.waiting() <= 1000 * 129);
    }
    let counts = sessions.counts();
    assert_eq!((counts.sessions, counts.evicted, counts.most), (1_000_001, 999_001, 1000));
    assert_eq!(evicted, 999_001);
    let (time, packet) = segment(21 * MILLI, true, ACK, (1001, 5001), b"still here");
    observe(&mut sessions, time, &packet, |event| told.take(event));
    assert_eq!(told.words, ["1 start full", "1 > still here"]);
}

#[test]
fn windows_of_holes_take_bounded_memory() {
    let settings = Settings { waiting: 100_000, all_waiting: 250_000, ..Settings::default() };
    let mut sessions = Sessions::new(settings);
    let mut lost = [0_u64; 5];
    let mut data = [0_u64; 5];
    let mut most = 0;
    let payload = [7; 1000];
    let mut take = |event: &Event<'_>| {
        let session = event.session.0 as usize;
        match event.kind {
            EventKind::Lost { octets, .. } => lost[session] += octets,
            EventKind::Data { payload, .. } => data[session] += payload.len() as u64,
            _ => {}
        }
    };
    for round in 0..400_u32 {
        for client in 1..=4_u8 {
            // Every second thousand of octets is missing.
            let segment = tcp(4000, 80, ACK, (round * 2000, 1), &payload);
            let packet = ipv4(client, 9, 6, &segment);
            observe(&mut sessions, i64::from(round), &packet, &mut take);
            most = most.max(sessions.waiting());
        }
    }
    assert!(most > 200_000 && most <= 250_000, "{most}");
    assert!(sessions.counts().hurried > 0);
    sessions.finish(Timestamp(1000), &mut take);
    assert_eq!(sessions.waiting(), 0);
    // Nothing is made up, and nothing left out.
    assert_eq!(data[1..], [400_000; 4]);
    assert_eq!(lost[1..], [399_000; 4]);
}

#[test]
fn one_direction_waits_with_so_much_and_no_more() {
    let settings = Settings { waiting: 10_000, ..Settings::default() };
    let mut sessions = Sessions::new(settings);
    for (time, packet) in opened(0, 0, 0) {
        observe(&mut sessions, time, &packet, |_| ());
    }
    for number in 0..100_000_u32 {
        let packet = segment(0, true, ACK, (3 + number * 2, 1), b"x").1;
        observe(&mut sessions, 20 * MILLI, &packet, |_| ());
        assert!(sessions.waiting() <= 10_000);
    }
    assert_eq!(sessions.counts().hurried, 0);
}

/// Numbers that look random and are always the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % bound
    }
}

#[test]
fn however_segments_come_the_stream_is_what_was_sent() {
    let sent: Vec<u8> = (0..5000_u32).map(|octet| (octet * 7 + octet / 256) as u8).collect();
    for seed in 0..300 {
        let mut dice = Dice(seed);
        // Pieces that may reach into each other, all of the stream in the end, and in any order.
        let mut pieces: Vec<(usize, usize)> = Vec::new();
        let mut at = 0;
        while at < sent.len() {
            let end = (at + 1 + dice.below(400)).min(sent.len());
            let start = at.saturating_sub(dice.below(300));
            pieces.push((start, end));
            at = end;
        }
        for index in (1..pieces.len()).rev() {
            pieces.swap(index, dice.below(index + 1));
        }
        let initial = u32::MAX - dice.below(5000) as u32;
        let mut packets = opened(0, initial, 5000);
        for (start, end) in &pieces {
            let sequence = initial.wrapping_add(1 + *start as u32);
            packets.push(segment(20 * MILLI, true, ACK, (sequence, 5001), &sent[*start..*end]));
        }
        let mut sessions = Sessions::new(Settings::default());
        let mut received = Vec::new();
        let (mut again, mut others) = (0, Vec::new());
        let mut take = |event: &Event<'_>| match event.kind {
            EventKind::Data { payload, .. } => received.extend_from_slice(payload),
            EventKind::Retransmission { octets, .. } => again += octets as usize,
            _ => others.push(in_words(event)),
        };
        for (time, packet) in &packets {
            observe(&mut sessions, *time, packet, &mut take);
        }
        assert_eq!(sessions.waiting(), 0, "{seed}");
        assert!(received == sent, "{seed}");
        assert_eq!(others, ["1 start full"], "{seed}");
        let total: usize = pieces.iter().map(|(start, end)| end - start).sum();
        assert_eq!(again, total - sent.len(), "{seed}");
    }
}

/// What both sides send at a place of their stream, in the tests that make segments up.
fn octet_at(place: u32) -> u8 {
    (place.wrapping_mul(0x9e37_79b1) >> 24) as u8
}

#[test]
fn whatever_segments_come_each_octet_told_is_in_its_place() {
    let settings =
        Settings { waiting: 5000, all_waiting: 12_000, capacity: 3, ..Settings::default() };
    let (mut starts, mut ends, mut told_octets, mut lost_octets) = (0, 0, 0, 0);
    for seed in 0..200 {
        let mut dice = Dice(seed);
        let mut sessions = Sessions::new(settings);
        // How much each direction of each session was told of, and whether it is over.
        let mut places: Vec<[u64; 2]> = vec![[0; 2]];
        let mut over: Vec<bool> = vec![true];
        let initial = [1000_u32, u32::MAX - 3000];
        let mut take = |event: &Event<'_>| {
            let session = event.session.0 as usize;
            places.resize(places.len().max(session + 1), [0; 2]);
            over.resize(places.len(), false);
            assert!(!over[session], "{}", in_words(event));
            match event.kind {
                EventKind::Start { opening } => {
                    // The content of what is joined in the middle begins anywhere.
                    assert_eq!((opening, places[session]), (Opening::Full, [0; 2]));
                    starts += 1;
                }
                EventKind::Data { direction, payload } => {
                    let place = &mut places[session][direction.index()];
                    for (index, octet) in payload.iter().enumerate() {
                        assert_eq!(*octet, octet_at((*place + index as u64) as u32), "{seed}");
                    }
                    *place += payload.len() as u64;
                    told_octets += payload.len();
                }
                EventKind::Lost { direction, octets, .. } => {
                    places[session][direction.index()] += octets;
                    lost_octets += octets;
                }
                EventKind::Conflict { .. } => panic!("{}", in_words(event)),
                EventKind::End(summary) => {
                    let told = |side: &procflow_core::session::Side| {
                        side.data_octets + side.not_seen_octets + side.not_captured_octets
                    };
                    let sides = &summary.sides;
                    assert_eq!(places[session], [told(&sides.forward), told(&sides.reverse)]);
                    over[session] = true;
                    ends += 1;
                }
                _ => {}
            }
        };
        let ports: Vec<u16> = (4000..4003).collect();
        let send = |port: u16, forth: bool, flags, numbers, payload: &[u8]| match forth {
            true => ipv4(1, 2, 6, &tcp(port, 80, flags, numbers, payload)),
            false => ipv4(2, 1, 6, &tcp(80, port, flags, numbers, payload)),
        };
        for &port in &ports {
            let [c, s] = initial;
            let after = (c.wrapping_add(1), s.wrapping_add(1));
            observe(&mut sessions, 0, &send(port, true, SYN, (c, 0), b""), &mut take);
            observe(&mut sessions, 1, &send(port, false, SYN_ACK, (s, after.0), b""), &mut take);
            observe(&mut sessions, 2, &send(port, true, ACK, after, b""), &mut take);
        }
        for step in 0..400 {
            let forth = dice.below(2) == 0;
            let (own, other) = (usize::from(!forth), usize::from(forth));
            let place = (step * 10 + dice.below(3000)).saturating_sub(1500) as u32;
            let far = if dice.below(200) == 0 { 1 << 29 } else { 0 };
            let payload: Vec<u8> =
                (0..dice.below(300) as u32).map(|octet| octet_at(place + far + octet)).collect();
            let acknowledged = (step * 10).saturating_sub(dice.below(2000)) as u32;
            let flags = match dice.below(100) {
                0 => FIN,
                1 => SYN_ACK,
                2 => SYN,
                3 => 0,
                _ => ACK,
            };
            let (flags, sequence, payload) = match flags {
                // One with another number begins another session.
                SYN | SYN_ACK if forth => (SYN, initial[own], &[][..]),
                SYN | SYN_ACK => (SYN_ACK, initial[own], &[][..]),
                _ => (flags, initial[own].wrapping_add(1 + place + far), &payload[..]),
            };
            let numbers = (sequence, initial[other].wrapping_add(1 + acknowledged));
            let packet = send(ports[dice.below(3)], forth, flags, numbers, payload);
            let captured = packet.len() - dice.below(4) * payload.len() / 8;
            observe_part(&mut sessions, 3 + step as i64, &packet, captured, &mut take);
            assert!(sessions.waiting() <= 12_000);
        }
        sessions.finish(Timestamp(1000), &mut take);
        assert_eq!(sessions.waiting(), 0);
        assert!(over.iter().all(|over| *over), "{seed}");
    }
    assert!(starts >= 600 && ends >= 600, "{starts} {ends}");
    assert!(told_octets > 200_000 && lost_octets > 100_000, "{told_octets} {lost_octets}");
}

/// Follows raw IP packets with their times, so many at a time.
fn followed(packets: &[(i64, Vec<u8>)], at_once: usize) -> (Told, Tally) {
    let mut batches = packets.chunks(at_once);
    let source = |batch: &mut Batch| {
        batch.clear();
        let Some(packets) = batches.next() else { return Filled::Last };
        for (time, packet) in packets {
            batch.push(Timestamp(*time), packet.len() as u32, LinkType::RAW, packet);
        }
        Filled::More(None)
    };
    let mut told = Told::default();
    let tally = follow(Decoder::default(), Settings::default(), source, |event| told.take(event));
    assert!(tally.is_conserved(), "{tally:?}");
    (told, tally)
}

#[test]
fn every_frame_is_accounted_for_and_wild_times_end_nothing() {
    let mut packets = opened(0, 1000, 5000);
    let whole = tcp(4000, 80, FIN, (1001, 5001), b"in two parts");
    packets.extend([
        (20 * MILLI, ipv4(1, 2, 17, &udp(53, 53, b"other"))),
        (21 * MILLI, b"\x99 nothing".to_vec()),
        // A year later, by its time.
        segment(365 * 24 * 3600 * SECOND, false, ACK, (5001, 1001), b"wild"),
        (22 * MILLI, fragment(1, 2, 6, (77, 0, true), &whole[..24])),
        (23 * MILLI, fragment(1, 2, 6, (77, 24, false), &whole[24..])),
        segment(24 * MILLI, false, ACK, (5005, 1014), b""),
        segment(25 * MILLI, true, ACK, (1013, 5005), b"!"),
        segment(26 * MILLI, false, ACK, (5005, 1014), b""),
    ]);
    for at_once in [1, 3, 100] {
        let (told, tally) = followed(&packets, at_once);
        assert_eq!(
            told.without_round_trips(),
            [
                "1 start full",
                "1 < wild",
                "1 > in t",
                "1 > lost 8 not-seen",
                "1 > !",
                "1 end open forced-end"
            ]
        );
        assert_eq!((tally.frames, tally.sessions.packets), (11, 8));
        assert_eq!((tally.others, tally.fragments, tally.wild_times), (1, 1, 1));
        assert_eq!(tally.undecoded.iter().sum::<u64>(), 1);
    }
}
