//! Frames in, records out: when flows begin and end, which way they go, and that every frame is accounted
//! for.

mod frames;

use frames::{fragment, ipv4, tcp, udp};
use procflow_core::Timestamp;
use procflow_core::features::{Accounting, Needs, Way};
use procflow_core::flow::{
    AsTheyAre, CloseStyle, DirectionSource, EndReason, Filled, Record, Settings, Take, Tally,
};
use procflow_core::packet::{Batch, Decoder, LinkType};

const SECOND: i64 = 1_000_000_000;
const MILLI: i64 = 1_000_000;

const FIN: u8 = 0x11;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const SYN_ACK: u8 = 0x12;

fn settings() -> Settings {
    Settings { needs: Needs::SIZES.and(Needs::GAPS).and(Needs::TCP), ..Settings::default() }
}

/// Meters raw IP packets with their times.
fn meter(settings: Settings, packets: &[(i64, Vec<u8>)]) -> (Vec<Record>, Tally) {
    let frames: Vec<_> =
        packets.iter().map(|(time, packet)| (*time, packet.clone(), packet.len() as u32)).collect();
    meter_frames(settings, LinkType::RAW, &frames, (1, 100))
}

/// Meters frames with their times and lengths on the wire, by so many threads, so many at a time.
fn meter_frames(
    settings: Settings,
    link_type: LinkType,
    frames: &[(i64, Vec<u8>, u32)],
    (threads, at_once): (usize, usize),
) -> (Vec<Record>, Tally) {
    let mut batches = frames.chunks(at_once);
    let source = |batch: &mut Batch| {
        batch.clear();
        let Some(frames) = batches.next() else { return Filled::Last };
        for (time, bytes, wire) in frames {
            batch.push(Timestamp(*time), *wire, link_type, bytes);
        }
        Filled::More(None)
    };
    let mut records = Vec::new();
    let take = |made: &Vec<Record>, index: usize| records.push(made[index].clone());
    let tally =
        procflow_core::flow::meter(Decoder::default(), settings, threads, source, &AsTheyAre, take);
    assert!(tally.is_conserved(), "{tally:?}");
    let packets: u64 = records.iter().map(|record| record.packets(Way::Both)).sum();
    assert_eq!((packets, records.len() as u64), (tally.flows.packets, tally.records));
    (records, tally)
}

/// Ports, packets both ways, and why it ended.
fn told(records: &[Record]) -> Vec<(u16, u16, u64, u64, EndReason)> {
    let one = |record: &Record| {
        let flow = &record.flow;
        let (forward, reverse) = (record.packets(Way::Forward), record.packets(Way::Reverse));
        (flow.source_port, flow.destination_port, forward, reverse, record.reason)
    };
    records.iter().map(one).collect()
}

/// A segment from the client (10.0.0.1:4000) or back from the server (10.0.0.2:80).
fn segment(
    time: i64,
    forth: bool,
    flags: u8,
    numbers: (u32, u32),
    payload: usize,
) -> (i64, Vec<u8>) {
    let payload = vec![0; payload];
    let packet = match forth {
        true => ipv4(1, 2, 6, &tcp(4000, 80, flags, numbers, &payload)),
        false => ipv4(2, 1, 6, &tcp(80, 4000, flags, numbers, &payload)),
    };
    (time, packet)
}

fn datagram(time: i64, from: u8, to: u8, ports: (u16, u16)) -> (i64, Vec<u8>) {
    (time, ipv4(from, to, 17, &udp(ports.0, ports.1, b"x")))
}

/// Open, one request and answer, closed by the client, from `at` on.
fn connection(at: i64, initial: u32) -> Vec<(i64, Vec<u8>)> {
    let t = |step: i64| at + step * MILLI;
    let (c, s) = (initial, initial.wrapping_mul(3));
    vec![
        segment(t(0), true, SYN, (c, 0), 0),
        segment(t(10), false, SYN_ACK, (s, c + 1), 0),
        segment(t(15), true, ACK, (c + 1, s + 1), 0),
        segment(t(20), true, ACK, (c + 1, s + 1), 100),
        segment(t(30), false, ACK, (s + 1, c + 101), 500),
        segment(t(40), true, FIN, (c + 101, s + 501), 0),
        segment(t(50), false, FIN, (s + 501, c + 102), 0),
        segment(t(60), true, ACK, (c + 102, s + 502), 0),
    ]
}

#[test]
fn a_connection_is_one_flow_until_both_sides_are_done() {
    let (records, _) = meter(settings(), &connection(0, 1000));
    assert_eq!(told(&records), [(4000, 80, 5, 3, EndReason::EndOfFlow)]);
    let record = &records[0];
    assert_eq!(record.flow.direction_source, DirectionSource::Syn);
    assert_eq!(record.flow.closing.style(), CloseStyle::FinishedByInitiator);
    let tcp = record.features.tcp.as_ref().unwrap();
    assert_eq!(tcp.responder_round_trip(), Some(10 * MILLI as u64));
    assert_eq!(tcp.initiator_round_trip(), Some(5 * MILLI as u64));
    assert_eq!(record.octets(Way::Reverse, Accounting::Payload), 500);
}

#[test]
fn ports_that_are_used_again_are_another_flow_and_what_lingers_is_not() {
    let mut packets = connection(0, 1000);
    // The server's FIN again, acknowledged again.
    packets.push(segment(300 * MILLI, false, FIN, (3501, 1102), 0));
    packets.push(segment(310 * MILLI, true, ACK, (1102, 3502), 0));
    packets.extend(connection(SECOND, 5000));
    let (records, _) = meter(settings(), &packets);
    let ended = EndReason::EndOfFlow;
    assert_eq!(told(&records), [(4000, 80, 6, 4, ended), (4000, 80, 5, 3, ended)]);
    assert_eq!(records[1].first(Way::Both), Some(Timestamp(SECOND)));
}

#[test]
fn a_syn_that_is_sent_again_is_the_same_flow() {
    let mut packets = vec![segment(-SECOND, true, SYN, (1000, 0), 0)];
    packets.extend(connection(0, 1000));
    let (records, _) = meter(settings(), &packets);
    assert_eq!(told(&records), [(4000, 80, 6, 3, EndReason::EndOfFlow)]);
    let tcp = records[0].features.tcp.as_ref().unwrap();
    assert_eq!((tcp.sides.forward.retransmitted, tcp.sides.reverse.retransmitted), (1, 0));
    // Of a handshake the answered SYN counts.
    assert_eq!(tcp.responder_round_trip(), Some(10 * MILLI as u64));
}

#[test]
fn a_reset_ends_a_flow_and_sequence_numbers_may_wrap() {
    let packets = [
        segment(0, true, SYN, (u32::MAX - 1, 0), 0),
        segment(1, false, SYN_ACK, (9, u32::MAX), 0),
        segment(2, true, ACK, (u32::MAX, 10), 10),
        segment(3, true, ACK, (9, 10), 10),
        segment(4, true, ACK, (u32::MAX, 10), 10),
        segment(5, false, RST, (10, 0), 0),
        segment(6, true, ACK, (19, 10), 0),
    ];
    let (records, _) = meter(settings(), &packets);
    assert_eq!(told(&records), [(4000, 80, 5, 2, EndReason::EndOfFlow)]);
    assert_eq!(records[0].flow.closing.style(), CloseStyle::ResetByResponder);
    let forward = records[0].features.tcp.as_ref().unwrap().sides.forward;
    assert_eq!((forward.retransmitted, forward.retransmitted_octets, forward.ahead), (1, 10, 0));
}

#[test]
fn who_accepts_is_the_responder_though_seen_first() {
    let (records, _) = meter(settings(), &connection(0, 1000)[1..]);
    assert_eq!(told(&records), [(4000, 80, 4, 3, EndReason::EndOfFlow)]);
    assert_eq!(records[0].flow.direction_source, DirectionSource::SynAck);
    let (records, _) = meter(settings(), &connection(0, 1000)[4..5]);
    assert_eq!(records[0].flow.direction_source, DirectionSource::FirstPacket);
    assert_eq!(told(&records), [(80, 4000, 1, 0, EndReason::Forced)]);
}

#[test]
fn ends_of_one_host_and_of_one_port_are_told_apart() {
    let ntp = [datagram(0, 5, 6, (123, 123)), datagram(1, 6, 5, (123, 123))];
    let own = [datagram(0, 1, 1, (7, 8)), datagram(1, 1, 1, (8, 7)), datagram(2, 1, 1, (7, 8))];
    let same = [datagram(0, 1, 1, (9, 9)), datagram(1, 1, 1, (9, 9))];
    let forced = EndReason::Forced;
    assert_eq!(told(&meter(settings(), &ntp).0), [(123, 123, 1, 1, forced)]);
    assert_eq!(told(&meter(settings(), &own).0), [(7, 8, 2, 1, forced)]);
    assert_eq!(told(&meter(settings(), &same).0), [(9, 9, 2, 0, forced)]);
}

#[test]
fn a_flow_ends_exactly_at_its_idle_timeout() {
    let idle = 120 * SECOND;
    let at = |times: &[i64]| {
        let packets: Vec<_> = times.iter().map(|&time| datagram(time, 1, 2, (1, 2))).collect();
        told(&meter(settings(), &packets).0)
    };
    let (ends, forced) = (EndReason::IdleTimeout, EndReason::Forced);
    assert_eq!(at(&[0, idle - 1]), [(1, 2, 2, 0, forced)]);
    assert_eq!(at(&[0, idle]), [(1, 2, 1, 0, ends), (1, 2, 1, 0, forced)]);
    // Another flow's packet tells the time as well.
    let packets = [datagram(0, 1, 2, (1, 2)), datagram(idle, 3, 4, (1, 2))];
    let (records, _) = meter(settings(), &packets);
    assert_eq!(told(&records), [(1, 2, 1, 0, ends), (1, 2, 1, 0, forced)]);
    assert_eq!(records[0].ended, Timestamp(idle));
}

#[test]
fn a_flow_that_goes_on_is_told_of_at_its_active_timeout_and_keeps_its_direction() {
    let settings = Settings { active: 10 * SECOND, ..settings() };
    let mut packets = connection(0, 1000);
    let closing = packets.split_off(5);
    // The responder is the first to speak after the timeout, and closes after the next.
    packets.push(segment(9 * SECOND, true, ACK, (1101, 3501), 1));
    packets.push(segment(12 * SECOND, false, ACK, (3501, 1102), 1));
    packets.extend(closing.into_iter().map(|(time, packet)| (time + 23 * SECOND, packet)));
    let (records, _) = meter(settings, &packets);
    let active = EndReason::ActiveTimeout;
    let expected = [
        (4000, 80, 4, 2, active),
        (4000, 80, 0, 1, active),
        (4000, 80, 2, 1, EndReason::EndOfFlow),
    ];
    assert_eq!(told(&records), expected);
    let times: Vec<_> = records.iter().map(|record| record.ended.0 / SECOND).collect();
    assert_eq!(times, [10, 22, 23]);
    // One that is silent after the timeout leaves nothing behind.
    let silent = [datagram(0, 1, 2, (1, 2)), datagram(9 * SECOND, 1, 2, (1, 2))];
    let later = [datagram(500 * SECOND, 3, 4, (1, 2))];
    let (records, tally) = meter(settings, &[&silent[..], &later].concat());
    let forced = EndReason::Forced;
    assert_eq!(told(&records), [(1, 2, 2, 0, active), (1, 2, 1, 0, forced)]);
    assert_eq!(tally.flows.flows, 2);
}

#[test]
fn one_flow_too_many_ends_the_quietest() {
    let settings = Settings { capacity: 3, ..settings() };
    let mut packets: Vec<_> = (1..=3).map(|host| datagram(host, host as u8, 9, (1, 2))).collect();
    packets.push(datagram(4, 1, 9, (1, 2)));
    packets.push(datagram(5, 4, 9, (1, 2)));
    let (records, tally) = meter(settings, &packets);
    assert_eq!(records[0].reason, EndReason::LackOfResources);
    assert_eq!(records[0].flow.source.ip().to_string(), "10.0.0.2");
    assert_eq!((records.len(), tally.flows.evicted, tally.flows.most), (4, 1, 3));
}

#[test]
fn a_flood_beyond_capacity_is_bounded_and_counted() {
    let settings = Settings { capacity: 100, ..settings() };
    let port = |i: i64| (i % 60_000) as u16;
    let packets: Vec<_> =
        (0..20_000).map(|i| datagram(i, (i / 256) as u8, 2, (port(i), 7))).collect();
    let (records, tally) = meter(settings, &packets);
    assert_eq!((records.len(), tally.flows.most, tally.flows.evicted), (20_000, 100, 19_900));
}

#[test]
fn fragments_count_in_the_flow_of_their_ports_whatever_comes_first() {
    let whole = udp(7, 8, &[1; 3000]);
    let pieces: Vec<Vec<u8>> = [(0, 1480, true), (1480, 2960, true), (2960, 3008, false)]
        .map(|(from, to, more)| fragment(1, 2, 17, (9, from as u16, more), &whole[from..to]))
        .into();
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let packets: Vec<_> =
            order.iter().enumerate().map(|(i, &piece)| (i as i64, pieces[piece].clone())).collect();
        let (records, _) = meter(settings(), &packets);
        assert_eq!(told(&records), [(7, 8, 3, 0, EndReason::Forced)], "{order:?}");
        assert_eq!(records[0].flow.fragments, 3);
        assert_eq!(records[0].octets(Way::Both, Accounting::Transport), 3008);
    }
    // Without the first one nobody knows the ports.
    let (records, _) = meter(settings(), &[(0, pieces[1].clone())]);
    assert_eq!(told(&records), [(0, 0, 1, 0, EndReason::Forced)]);
}

#[test]
fn many_lost_first_fragments_are_bounded() {
    let packets: Vec<_> = (0..20_000_u16)
        .map(|i| (i64::from(i), fragment(1, 2, 17, (i, 1480, false), b"lost")))
        .collect();
    let (records, _) = meter(settings(), &packets);
    assert_eq!(told(&records), [(0, 0, 20_000, 0, EndReason::Forced)]);
}

#[test]
fn one_wild_time_ends_nothing() {
    let century = 100 * 365 * 86_400 * SECOND;
    for wild in [century / 2, -century / 2, i64::MAX, i64::MIN] {
        let times = [0, MILLI, wild, 2 * MILLI];
        let packets: Vec<_> = times.iter().map(|&time| datagram(time, 1, 2, (1, 2))).collect();
        let (records, tally) = meter(settings(), &packets);
        assert_eq!(told(&records), [(1, 2, 4, 0, EndReason::Forced)], "{wild}");
        assert_eq!(records[0].duration(Way::Both), Some(2 * MILLI as u64), "{wild}");
        assert_eq!((tally.wild_times, tally.clock_jumps), (1, 0));
    }
}

#[test]
fn a_quiet_hour_and_a_clock_that_is_set_back_are_believed() {
    let hour = 3600 * SECOND;
    let at = |times: [i64; 4]| {
        let packets: Vec<_> = times.iter().map(|&time| datagram(time, 1, 2, (1, 2))).collect();
        let (records, tally) = meter(settings(), &packets);
        (told(&records), tally.clock_jumps)
    };
    let (idle, forced) = (EndReason::IdleTimeout, EndReason::Forced);
    assert_eq!(at([0, 1, hour, hour + 1]), (vec![(1, 2, 2, 0, idle), (1, 2, 2, 0, forced)], 1));
    assert_eq!(at([hour, hour + 1, 0, 1]), (vec![(1, 2, 2, 0, forced), (1, 2, 2, 0, forced)], 1));
}

#[test]
fn gaps_are_between_packets_of_a_direction() {
    let packets = [
        datagram(0, 1, 2, (1, 2)),
        datagram(100, 2, 1, (2, 1)),
        datagram(400, 1, 2, (1, 2)),
        datagram(450, 1, 2, (1, 2)),
    ];
    let (records, _) = meter(settings(), &packets);
    let gaps = |way| {
        let (gaps, count) = records[0].gaps(way).unwrap();
        (count, gaps.least(count), gaps.most(count))
    };
    assert_eq!(gaps(Way::Forward), (2, Some(50), Some(400)));
    assert_eq!(gaps(Way::Reverse), (0, None, None));
    assert_eq!(gaps(Way::Both), (3, Some(50), Some(300)));
}

#[test]
fn any_bytes_are_accounted_for() {
    let mut random = 88_172_645_463_325_252_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let whole = connection(0, 1).remove(3).1;
    for link_type in [0, 1, 9, 50, 51, 101, 104, 105, 108, 113, 127, 228, 276, 999] {
        let mut frames = Vec::new();
        for _ in 0..3000 {
            let mut frame = match next() % 3 {
                0 => whole.clone(),
                _ => vec![[0x45, 0x60, 0x08, 0x86][next() as usize % 4]; next() as usize % 200],
            };
            for _ in 0..next() % 20 {
                let place = next() as usize;
                if let Some(length) = frame.len().checked_sub(1) {
                    frame[place % (length + 1)] = next() as u8;
                }
            }
            let time = match next() % 50 {
                0 => next() as i64,
                _ => (next() % (1000 * SECOND as u64)) as i64,
            };
            frames.push((time, frame, next() as u32 % 4000));
        }
        let settings = Settings { capacity: 50, ..settings() };
        meter_frames(settings, LinkType(link_type), &frames, (1, 1000));
    }
}

/// Conversations of many hosts, some in fragments, some with wild times.
fn traffic() -> Vec<(i64, Vec<u8>, u32)> {
    let mut random = 1_u64;
    let mut next = move |bound: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % bound
    };
    let mut frames = Vec::new();
    for i in 0..20_000_i64 {
        let (from, to) = (next(20) as u8, 100 + next(10) as u8);
        let port = next(4) as u16;
        let packet = match next(10) {
            0 => {
                let offset = 1480 * next(2) as u16;
                fragment(from, to, 17, (port, offset, offset == 0), &udp(port, 53, &[0; 1472]))
            }
            1..=4 => ipv4(from, to, 17, &udp(port, 53, &[0; 60])),
            5 | 6 => ipv4(to, from, 17, &udp(53, port, &[0; 200])),
            _ => {
                let flags = [SYN, ACK, ACK, ACK, FIN, RST][next(6) as usize];
                ipv4(from, to, 6, &tcp(port, 80, flags, (next(1 << 32) as u32, 7), &[0; 10]))
            }
        };
        let wild = next(2000) == 0;
        let time = i * 20 * MILLI + if wild { 100_000 * SECOND } else { 0 };
        let wire = packet.len() as u32;
        frames.push((time, packet, wire));
    }
    frames
}

#[test]
fn any_number_of_threads_gives_the_same_records_in_the_same_order() {
    let frames = traffic();
    let settings = Settings { idle: 15 * SECOND, active: 60 * SECOND, ..settings() };
    let told = |threads| {
        let (records, tally) = meter_frames(settings, LinkType::RAW, &frames, (threads, 500));
        let one = |record: &Record| format!("{record:?}");
        (records.iter().map(one).collect::<Vec<_>>(), tally)
    };
    let (records, tally) = told(1);
    assert!(records.len() > 3000 && tally.wild_times > 0 && tally.flows.most > 500, "{tally:?}");
    for threads in [2, 3, 8] {
        assert!(told(threads) == (records.clone(), tally), "{threads} threads");
    }
}

#[test]
fn records_come_in_the_order_in_which_they_end() {
    let settings = Settings { idle: 15 * SECOND, ..settings() };
    let (records, _) = meter_frames(settings, LinkType::RAW, &traffic(), (2, 500));
    for pair in records.windows(2) {
        assert!(pair[0].ended <= pair[1].ended, "{pair:#?}");
    }
}

/// What was taken, and what was said in between.
#[derive(Default)]
struct Diary {
    ended: Vec<Timestamp>,
    /// How many records were taken, and what was said then.
    said: Vec<(usize, Tally, Option<Timestamp>)>,
}

impl Take<Vec<Record>> for &mut Diary {
    fn take(&mut self, made: &Vec<Record>, index: usize) {
        self.ended.push(made[index].ended);
    }

    fn so_far(&mut self, tally: &Tally, until: Option<Timestamp>) {
        self.said.push((self.ended.len(), *tally, until));
    }
}

#[test]
fn who_takes_records_is_told_how_far_all_is() {
    for threads in [1, 2, 3] {
        let mut batches = 0;
        // A datagram a second of ten pairs of ports, then nothing but the clock.
        let source = |batch: &mut Batch| {
            batch.clear();
            let time = batches * SECOND;
            batches += 1;
            if time < 10 * SECOND {
                let (_, bytes) = datagram(0, 1, 2, (batches as u16, 53));
                batch.push(Timestamp(time), bytes.len() as u32, LinkType::RAW, &bytes);
            }
            if batches == 40 { Filled::Last } else { Filled::More(Some(Timestamp(time))) }
        };
        let settings = Settings { idle: 15 * SECOND, ..settings() };
        let mut diary = Diary::default();
        let decoder = Decoder::default();
        procflow_core::flow::meter(decoder, settings, threads, source, &AsTheyAre, &mut diary);
        let Diary { ended, said } = diary;
        assert_eq!(ended, (15..25).map(|second| Timestamp(second * SECOND)).collect::<Vec<_>>());
        assert!(said.len() >= 40);
        for (taken, tally, until) in &said {
            assert_eq!(tally.records, *taken as u64);
            if let Some(until) = until {
                assert!(ended[*taken..].iter().all(|ended| ended > until), "{until:?}: {taken}");
                assert!(ended[..*taken].iter().all(|ended| ended <= until), "{until:?}: {taken}");
            }
        }
        // Told while nothing comes, not at the end.
        let gone = said.iter().find(|(taken, ..)| *taken == 10).unwrap();
        assert!(gone.2 >= Some(Timestamp(24 * SECOND)), "{gone:?}");
        let all = said.iter().filter(|(.., until)| until.is_some()).count();
        assert!(all >= 39, "{all}");
        let (_, last, _) = said.last().unwrap();
        assert_eq!((last.held, last.records, last.flows.flows), (0, 10, 10));
    }
}
