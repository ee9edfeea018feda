//! Recent flows: what is answered at once, what later, what never, and what is forgotten.

mod frames;

use std::time::Duration;

use frames::{fragment, host, ipv4, ipv6, tcp, udp};
use procflow_core::features::{Column, Value, Way, column, columns};
use procflow_core::flow::{
    Answer, AsTheyAre, EndReason, Filled, Missed, Recent, RecentSettings, Record, Remote, Settings,
    Ticket, meter,
};
use procflow_core::packet::{Batch, Decoder, LinkType};
use procflow_core::{Endpoint, Timestamp};

const SECOND: i64 = 1_000_000_000;
const MILLI: i64 = 1_000_000;

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const SYN_ACK: u8 = 0x12;

/// 10.0.0.1 is the client, 10.0.0.2 the service.
fn client(port: u16) -> Remote {
    Endpoint::new(host(1), port).into()
}

/// The three packets that open a connection, one each 10 ms, to this port of the service. The sequence
/// numbers are of the time, so that a second connection is told from the first.
fn handshake(at: i64, from: u16, to: u16) -> [(i64, Vec<u8>); 3] {
    let isn = (at / MILLI) as u32;
    [
        (at, ipv4(1, 2, 6, &tcp(from, to, SYN, (isn, 0), &[]))),
        (at + 10 * MILLI, ipv4(2, 1, 6, &tcp(to, from, SYN_ACK, (500, isn + 1), &[]))),
        (at + 20 * MILLI, ipv4(1, 2, 6, &tcp(from, to, ACK, (isn + 1, 501), &[]))),
    ]
}

fn request(at: i64, from: u16, to: u16, length: usize) -> (i64, Vec<u8>) {
    (at, ipv4(1, 2, 6, &tcp(from, to, ACK, (101, 501), &vec![7; length])))
}

fn recent() -> Recent {
    with(RecentSettings::default())
}

fn with(settings: RecentSettings) -> Recent {
    let names = ["bidirectional_mean_iat_ns", "forward_max_size", "end_reason"];
    let columns: Vec<Column> = names.iter().map(|name| *column(name).unwrap()).collect();
    let needs = Column::all_need(&columns);
    let flows = Settings { needs, ..settings.flows };
    Recent::new(Decoder::default(), RecentSettings { flows, ..settings })
}

/// Shows packets; the tickets that are answered by them.
fn show(recent: &mut Recent, packets: &[(i64, Vec<u8>)]) -> Vec<(Ticket, Record)> {
    let mut batch = Batch::default();
    for (time, packet) in packets {
        batch.push(Timestamp(*time), packet.len() as u32, LinkType::RAW, packet);
    }
    let mut answered = Vec::new();
    recent.observe(&mut batch, None, &mut |ticket, record| answered.push((ticket, record)));
    answered
}

fn wait(recent: &mut Recent, remote: Remote, deadline: u64) -> Ticket {
    match recent.ask(remote, Duration::from_millis(deadline)) {
        Answer::Later(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

fn gave_up(recent: &mut Recent, at: u64) -> Vec<(Ticket, Missed)> {
    let mut missed = Vec::new();
    recent.expire(Duration::from_millis(at), &mut |ticket, why| missed.push((ticket, why)));
    missed
}

fn ports(record: &Record) -> (u16, u16) {
    (record.flow.source_port, record.flow.destination_port)
}

#[test]
fn a_flow_that_goes_on_is_told_at_once_as_it_is_so_far() {
    let mut recent = recent();
    show(&mut recent, &handshake(0, 4000, 443));
    show(&mut recent, &[request(50 * MILLI, 4000, 443, 300)]);
    let Answer::Now(record) = recent.ask(client(4000), Duration::ZERO) else { panic!("not now") };
    assert_eq!((record.packets(Way::Forward), record.packets(Way::Reverse)), (3, 1));
    assert_eq!(record.flow.counters.forward.payload_octets, 300);
    assert_eq!(record.flow.counters.forward.ip_octets, 40 + 40 + 340);
    let value = |name: &str| (column(name).unwrap().value)(&record);
    // 10, 10 and 30 ms.
    assert_eq!(value("bidirectional_mean_iat_ns"), Value::Float(50.0 * MILLI as f64 / 3.0));
    assert_eq!(value("forward_max_size"), Value::Unsigned(340));
    assert_eq!((record.reason, value("end_reason")), (EndReason::GoesOn, Value::Null));
    assert_eq!(record.ended, Timestamp(50 * MILLI));
    // Asking changed nothing.
    show(&mut recent, &[request(60 * MILLI, 4000, 443, 100)]);
    let record = recent.answer(client(4000)).unwrap();
    assert_eq!((record.packets(Way::Forward), recent.tally().flows.flows), (4, 1));
}

#[test]
fn a_flow_so_far_has_the_columns_that_the_meter_gives_for_the_same_packets() {
    let mut packets = handshake(SECOND, 4000, 443).to_vec();
    packets.extend((1..40).map(|n| request(SECOND + n * n * 20 * MILLI, 4000, 443, n as usize)));
    let back = ipv4(2, 1, 6, &tcp(443, 4000, ACK, (501, 900), &[5; 99]));
    packets.push((40 * SECOND, back));
    let needs = Column::all_need(columns());
    let settings = RecentSettings::measuring(columns());
    assert_eq!(settings.flows.needs, needs);
    let mut recent = Recent::new(Decoder::default(), settings);
    show(&mut recent, &packets);
    let so_far = recent.answer(client(4000)).unwrap();
    let mut left = packets.iter();
    let source = |batch: &mut Batch| {
        batch.clear();
        let Some((time, packet)) = left.next() else { return Filled::Last };
        batch.push(Timestamp(*time), packet.len() as u32, LinkType::RAW, packet);
        Filled::More(None)
    };
    let mut metered = Vec::new();
    let take = |made: &Vec<Record>, index: usize| metered.push(made[index].clone());
    let (decoder, settings) = (Decoder::default(), Settings { needs, ..Settings::default() });
    meter(decoder, settings, 1, source, &AsTheyAre, take);
    assert_eq!((metered.len(), metered[0].packets(Way::Both)), (1, 43));
    for column in columns().iter().filter(|column| column.name != "end_reason") {
        assert_eq!((column.value)(&so_far), (column.value)(&metered[0]), "{}", column.name);
    }
}

#[test]
fn who_asks_before_the_flow_appears_is_answered_by_the_packet_that_is_enough() {
    let mut recent = recent();
    let tickets = [1500, 900].map(|deadline| wait(&mut recent, client(4000), deadline));
    let other = wait(&mut recent, client(4001), 1000);
    let [first, second, third] = handshake(0, 4000, 443);
    assert!(show(&mut recent, &[first, second]).is_empty());
    assert_eq!(recent.next_deadline(), Some(Duration::from_millis(900)));
    // What else the batch has is in the answer.
    let answered = show(&mut recent, &[third, request(30 * MILLI, 4000, 443, 10)]);
    assert_eq!(answered.iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>(), tickets);
    assert!(answered.iter().all(|(_, record)| record.packets(Way::Both) == 4));
    // They are not answered twice, nor given up.
    assert!(show(&mut recent, &[request(40 * MILLI, 4000, 443, 10)]).is_empty());
    assert_eq!(gave_up(&mut recent, 5000), [(other, Missed::NotSeen)]);
    assert_eq!((recent.waiting(), recent.next_deadline()), (0, None));
}

#[test]
fn a_question_is_given_up_at_its_deadline_and_hears_why() {
    let mut recent = recent();
    let [first, second, _] = handshake(0, 4000, 443);
    show(&mut recent, &[first, second]);
    let few = wait(&mut recent, client(4000), 1500);
    let none = wait(&mut recent, client(9), 1500);
    let gone = wait(&mut recent, client(4000), 1500);
    recent.forget(gone);
    assert!(gave_up(&mut recent, 1499).is_empty());
    let missed = Missed::TooFew { packets: 2, least: 3 };
    assert_eq!(gave_up(&mut recent, 1500), [(few, missed), (none, Missed::NotSeen)]);
    assert_eq!(missed.to_string(), "only 2 of 3 packets of it were seen");
    assert!(show(&mut recent, &handshake(SECOND, 4000, 443)).is_empty());
}

#[test]
fn only_so_many_questions_wait() {
    let mut recent = with(RecentSettings { waiting: 2, ..RecentSettings::default() });
    let first = wait(&mut recent, client(1), 1000);
    wait(&mut recent, client(1), 1000);
    assert!(matches!(recent.ask(client(2), Duration::ZERO), Answer::Full));
    recent.forget(first);
    wait(&mut recent, client(2), 1000);
    // What is known is answered all the same.
    show(&mut recent, &handshake(0, 4000, 443));
    assert!(matches!(recent.ask(client(4000), Duration::ZERO), Answer::Now(_)));
}

#[test]
fn a_flow_is_kept_after_its_end_until_a_sweep_finds_it_older_than_a_minute() {
    let mut recent = recent();
    show(&mut recent, &handshake(0, 4000, 443));
    let reset = ipv4(2, 1, 6, &tcp(443, 4000, RST, (501, 0), &[]));
    show(&mut recent, &[(SECOND, reset)]);
    let reason = |recent: &Recent| recent.answer(client(4000)).map(|record| record.reason);
    assert_eq!(reason(&recent), Ok(EndReason::EndOfFlow));
    // 30 s later it has left the cache by another packet.
    show(&mut recent, &[(31 * SECOND, ipv4(8, 9, 17, &udp(7, 8, b"x")))]);
    assert_eq!(reason(&recent), Ok(EndReason::EndOfFlow));
    recent.sweep(Timestamp(61 * SECOND - 1));
    assert_eq!((reason(&recent), recent.len()), (Ok(EndReason::EndOfFlow), 2));
    recent.sweep(Timestamp(61 * SECOND));
    assert_eq!((reason(&recent), recent.len()), (Err(Missed::NotSeen), 1));
    // And one that went silent, by the same sweep as it ends.
    recent.sweep(Timestamp(91 * SECOND));
    assert!(recent.is_empty());
    let tally = recent.finish();
    assert!(tally.is_conserved() && tally.records == 2, "{tally:?}");
}

#[test]
fn of_two_flows_of_a_remote_the_one_with_the_newest_packet_answers() {
    let mut recent = recent();
    show(&mut recent, &handshake(0, 4000, 443));
    show(&mut recent, &handshake(SECOND, 4000, 80));
    let local = |port| Remote { local_port: Some(port), ..client(4000) };
    let told = |recent: &Recent, remote| recent.answer(remote).map(|record| ports(&record));
    assert_eq!(told(&recent, client(4000)), Ok((4000, 80)));
    assert_eq!(told(&recent, local(443)), Ok((4000, 443)));
    show(&mut recent, &[request(2 * SECOND, 4000, 443, 1)]);
    assert_eq!(told(&recent, client(4000)), Ok((4000, 443)));
    // One packet to another port, which anybody can make up, hides neither.
    let made_up = ipv4(1, 2, 6, &tcp(4000, 22, SYN, (1, 0), &[]));
    show(&mut recent, &[(3 * SECOND, made_up)]);
    assert_eq!(told(&recent, client(4000)), Ok((4000, 443)));
    assert_eq!(told(&recent, local(22)), Err(Missed::TooFew { packets: 1, least: 3 }));
    assert_eq!(told(&recent, local(25)), Err(Missed::NotSeen));
}

#[test]
fn either_end_finds_a_flow_also_when_both_have_one_address_or_one_port() {
    let mut recent = recent();
    let ping = |time, from, to| (time, ipv4(1, 1, 17, &udp(from, to, b"ping")));
    show(&mut recent, &[ping(0, 7000, 8000), ping(1, 8000, 7000), ping(2, 7000, 8000)]);
    for port in [7000, 8000] {
        let record = recent.answer(client(port)).unwrap();
        assert_eq!((ports(&record), record.packets(Way::Forward)), ((7000, 8000), 2));
    }
    // Time servers.
    let ask = |time, from, to| (time, ipv4(from, to, 17, &udp(123, 123, b"time")));
    show(&mut recent, &[ask(3, 1, 2), ask(4, 2, 1), ask(5, 1, 2)]);
    assert_eq!(ports(&recent.answer(client(123)).unwrap()), (123, 123));
    let service = Remote { local_port: Some(123), ..Endpoint::new(host(2), 123).into() };
    assert_eq!(recent.answer(service).unwrap().packets(Way::Both), 3);
    // To itself.
    show(&mut recent, &[ping(6, 9, 9), ping(7, 9, 9), ping(8, 9, 9)]);
    assert_eq!(recent.answer(client(9)).unwrap().packets(Way::Both), 3);
}

#[test]
fn an_address_is_one_address_however_it_is_written() {
    let mut recent = recent();
    show(&mut recent, &handshake(0, 4000, 443));
    let mapped: std::net::SocketAddr = "[::ffff:10.0.0.1]:4000".parse().unwrap();
    assert!(recent.answer(mapped.into()).is_ok());
    let six = |time| (time, ipv6(1, 2, 17, &udp(5000, 443, b"hello")));
    show(&mut recent, &[six(1), six(2), six(3)]);
    let far: std::net::SocketAddr = "[fd00::1]:5000".parse().unwrap();
    assert!(recent.answer(far.into()).is_ok());
}

#[test]
fn a_new_connection_of_the_same_ports_is_not_answered_with_the_one_before() {
    let mut recent = recent();
    show(&mut recent, &handshake(0, 4000, 443));
    let reset = ipv4(1, 2, 6, &tcp(4000, 443, RST, (101, 0), &[]));
    let [first, second, third] = handshake(2 * SECOND, 4000, 443);
    show(&mut recent, &[(SECOND, reset), first]);
    let few = Missed::TooFew { packets: 1, least: 3 };
    assert_eq!(recent.answer(client(4000)).unwrap_err(), few);
    let ticket = wait(&mut recent, client(4000), 1500);
    let answered = show(&mut recent, &[second, third]);
    assert_eq!((answered[0].0, answered[0].1.packets(Way::Both)), (ticket, 3));
}

#[test]
fn what_does_not_fit_goes_the_quietest_and_the_oldest_first() {
    let flows = Settings { capacity: 2, ..Settings::default() };
    let mut recent = with(RecentSettings { flows, ..RecentSettings::default() });
    for (number, port) in (4000..4005).enumerate() {
        show(&mut recent, &handshake(number as i64 * SECOND, port, 443));
    }
    let known = |recent: &Recent| -> Vec<u16> {
        (4000..4005).filter(|&port| recent.answer(client(port)).is_ok()).collect()
    };
    // Two that go on, two that had to end.
    assert_eq!((known(&recent), recent.len()), (vec![4001, 4002, 4003, 4004], 4));
    assert_eq!(recent.answer(client(4001)).unwrap().reason, EndReason::LackOfResources);
    // A flood of single packets pushes out what goes on, but not what is kept of it.
    for port in 1..2000 {
        let packet = ipv4(7, 2, 6, &tcp(port, 443, SYN, (1, 0), &[]));
        show(&mut recent, &[(6 * SECOND + i64::from(port), packet)]);
    }
    assert_eq!((known(&recent), recent.len()), (vec![4003, 4004], 4));
    assert!(recent.answer(Endpoint::new(host(7), 5).into()).is_err());
    let tally = recent.finish();
    assert!(tally.is_conserved() && tally.flows.evicted == 2002, "{tally:?}");
}

#[test]
fn a_connection_that_is_reset_again_and_again_takes_no_more_room() {
    let flows = Settings { capacity: 4, ..Settings::default() };
    let mut recent = with(RecentSettings { flows, ..RecentSettings::default() });
    for number in 0..100 {
        let at = number * SECOND / 10;
        show(&mut recent, &handshake(at, 4000, 443));
        let reset = ipv4(1, 2, 6, &tcp(4000, 443, RST, (101, 0), &[]));
        show(&mut recent, &[(at + 30 * MILLI, reset)]);
        assert!(recent.len() <= 2);
    }
    assert_eq!(recent.answer(client(4000)).unwrap().packets(Way::Both), 4);
}

#[test]
fn when_the_clock_is_set_back_flows_end_and_are_forgotten_in_time() {
    let hour = 3600 * SECOND;
    let mut recent = recent();
    show(&mut recent, &handshake(hour, 4000, 443));
    show(&mut recent, &handshake(0, 4001, 443));
    let reason = |recent: &Recent, port| recent.answer(client(port)).map(|record| record.reason);
    assert_eq!(reason(&recent, 4000), Ok(EndReason::Forced));
    assert_eq!(reason(&recent, 4001), Ok(EndReason::GoesOn));
    recent.sweep(Timestamp(61 * SECOND));
    assert_eq!(recent.len(), 0);
}

#[test]
fn fragments_count_in_the_flow_of_the_first() {
    let mut recent = recent();
    let datagram = udp(5000, 53, &[1; 24]);
    let part = |offset: usize, more| {
        ipv4_part(&datagram[offset..(offset + 16).min(datagram.len())], offset as u16, more)
    };
    show(&mut recent, &[(1, part(16, false)), (2, part(0, true)), (3, part(16, false))]);
    assert_eq!(recent.answer(client(5000)).unwrap().packets(Way::Forward), 3);
}

fn ipv4_part(inside: &[u8], offset: u16, more: bool) -> Vec<u8> {
    fragment(1, 2, 17, (9, offset, more), inside)
}

#[test]
fn any_packets_are_accounted_for_and_take_bounded_room() {
    let flows = Settings { capacity: 8, ..Settings::default() };
    let mut recent = with(RecentSettings { flows, waiting: 4, ..RecentSettings::default() });
    // xorshift64: the same numbers each time.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let (mut answered, mut asked) = (0, 0);
    for number in 0..20_000 {
        let [a, b] = [random(4), random(4)].map(|host| host as u8);
        let [from, to] = [random(5), random(5)].map(|port| port as u16);
        let numbers = (random(9) as u32, random(9) as u32);
        let inside = tcp(from, to, random(64) as u8, numbers, &[0; 3]);
        let part = (random(3) as u16, 8 * random(2) as u16, random(2) == 0);
        let mut packet = match random(4) {
            0 => fragment(a, b, 6, part, &inside),
            1 => ipv4(a, b, 17, &udp(from, to, b"x")),
            _ => ipv4(a, b, 6, &inside),
        };
        packet.truncate(random(200) as usize);
        let time = number * SECOND / 5 + random(SECOND as u64) as i64
            - random(50) as i64 / 49 * 4000 * SECOND;
        answered += show(&mut recent, &[(time, packet)]).len();
        let remote = Remote { local_port: Some(to), ..Endpoint::new(host(a), from).into() };
        let at = number as u64;
        asked += usize::from(matches!(
            recent.ask(remote, Duration::from_millis(at + 5)),
            Answer::Later(_)
        ));
        answered += gave_up(&mut recent, at).len();
        if random(100) == 0 {
            recent.sweep(Timestamp(time));
        }
        assert!(recent.len() <= 16 && recent.waiting() <= 4);
    }
    // Each question was answered once, or waits.
    assert!(asked > 1000 && asked == answered + recent.waiting(), "{asked} {answered}");
    let tally = recent.finish();
    assert!(tally.is_conserved() && tally.clock_jumps + tally.wild_times > 0, "{tally:?}");
}
