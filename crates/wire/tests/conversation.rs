//! Two machines and a number for the clock: loss of the connection, restart of either side and a
//! hostile peer.

use procflow_binding::{
    BootId, BootTime, Change, Coverage, Event, HostId, Incarnation, Log, NamespaceId, Open,
    Position, Process, ProcessKey, Socket, SocketId,
};
use procflow_core::Endpoint;
use procflow_wire::{Client, Delivery, HEARTBEAT, Mode, ProtocolError, Refusal, Session};

const HOST: HostId = HostId([7; 16]);

fn log(number: u64) -> Log {
    let incarnation = Incarnation { host: HOST, boot: BootId([1; 16]), number };
    Log::open(incarnation, Coverage::Complete, BootTime(100))
}

fn open(id: u64) -> Change {
    let local = Endpoint::new([10, 0, 0, 1], 80);
    let socket = Socket::listening(NamespaceId(1), local, false);
    let owners = vec![ProcessKey { pid: 5, start: BootTime(1) }];
    Change::Open(Open { id: SocketId(id), socket, owners, not_before: BootTime(0) })
}

/// A connection between a client and a session of its own.
struct Link {
    client: Client,
    session: Session,
    heard: Vec<Delivery>,
}

impl Link {
    fn new(from: Option<Position>, mode: Mode) -> Self {
        let client = Client::new("test", HOST, from, mode);
        Self { client, session: Session::new("host"), heard: Vec::new() }
    }

    /// Lets both talk until neither has anything to say; the tracker's bytes arrive in pieces of
    /// `piece` bytes, and nothing after the first `most` of them.
    fn talk(&mut self, log: &Log, now: u64, piece: usize, mut most: usize) {
        loop {
            let mut quiet = true;
            while let Some(frame) = self.client.poll_transmit() {
                self.session.receive(&frame).unwrap();
                quiet = false;
            }
            while let Some(frame) = self.session.poll_transmit(log, BootTime(now)) {
                let arrives = &frame[..frame.len().min(most)];
                most -= arrives.len();
                for bytes in arrives.chunks(piece) {
                    self.client.receive(bytes, |delivery| self.heard.push(delivery)).unwrap();
                }
                quiet = false;
                if most == 0 {
                    return;
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn sequences(&self) -> Vec<u64> {
        let number = |delivery: &Delivery| match delivery {
            Delivery::Event(event) => Some(event.sequence),
            _ => None,
        };
        self.heard.iter().filter_map(number).collect()
    }
}

#[test]
fn a_pull_gets_everything_once_and_ends() {
    let mut log = log(1);
    (1..=50).for_each(|id| log.push(BootTime(200 + id), open(id)));
    let mut link = Link::new(None, Mode::Pull);
    link.talk(&log, 1000, 7, usize::MAX);
    assert_eq!(link.sequences(), (1..=52).collect::<Vec<_>>());
    assert!(link.client.is_finished() && link.session.is_finished());
    let last = Delivery::UpToDate { watched_until: BootTime(250), now: BootTime(1000) };
    assert_eq!(link.heard.last(), Some(&last));
}

#[test]
fn a_connection_that_breaks_anywhere_is_resumed_without_loss_or_repeat() {
    let mut log = log(1);
    (1..=2000).for_each(|id| log.push(BootTime(200), open(id)));
    for step in [1, 50, 977, 30_011] {
        let mut position = None;
        let mut sequences = Vec::new();
        let mut most = 100;
        loop {
            let mut link = Link::new(position, Mode::Pull);
            link.talk(&log, 1000, 1000, most);
            sequences.extend(link.sequences());
            position = link.client.position();
            if link.client.is_finished() {
                break;
            }
            most += step.max(most / 2);
        }
        assert_eq!(sequences, (1..=2002).collect::<Vec<_>>());
    }
}

#[test]
fn a_subscriber_hears_of_what_happens_and_that_nothing_does() {
    let mut log = log(1);
    let mut link = Link::new(None, Mode::Subscribe);
    link.talk(&log, 1000, 99, usize::MAX);
    assert_eq!(link.sequences(), [1, 2]);
    let heard = link.heard.len();
    link.talk(&log, 1001, 99, usize::MAX);
    assert_eq!(link.heard.len(), heard, "no news, no heartbeat due");
    assert_eq!(link.session.poll_timeout(), Some(BootTime(1000 + HEARTBEAT)));
    log.watched(BootTime(5000));
    link.talk(&log, 1000 + HEARTBEAT, 99, usize::MAX);
    let (watched_until, now) = (BootTime(5000), BootTime(1000 + HEARTBEAT));
    assert_eq!(link.heard.last(), Some(&Delivery::UpToDate { watched_until, now }));
    log.push(BootTime(6000), open(9));
    link.talk(&log, 1002 + HEARTBEAT, 99, usize::MAX);
    assert_eq!(link.sequences(), [1, 2, 3]);
    assert!(!link.session.is_finished());
}

#[test]
fn a_restarted_tracker_is_heard_from_its_beginning() {
    let mut first = Link::new(None, Mode::Pull);
    first.talk(&log(1), 1000, 99, usize::MAX);
    let mut again = Link::new(first.client.position(), Mode::Pull);
    again.talk(&log(2), 1000, 99, usize::MAX);
    assert_eq!(again.sequences(), [1, 2]);
    assert_eq!(again.client.position().unwrap().incarnation.number, 2);
}

#[test]
fn a_late_reader_is_told_what_is_still_true_even_over_a_broken_connection() {
    let mut log = log(1);
    (1..=3000).for_each(|id| log.push(BootTime(200 + id), open(id)));
    log.prune(BootTime(3000), usize::MAX);
    let mut broken = Link::new(None, Mode::Pull);
    broken.talk(&log, 9000, 500, 60_000);
    assert_eq!(broken.client.position().unwrap().sequence, 0, "only half was told");
    let mut link = Link::new(broken.client.position(), Mode::Pull);
    link.talk(&log, 9000, 500, usize::MAX);
    assert_eq!(link.heard[1], Delivery::Dropped(BootTime(2999)));
    // All sockets, the watch event and the end of the listing; gaps are told by `Dropped`.
    assert_eq!(link.sequences().len(), 3000 + 2);
    assert_eq!(link.client.position().unwrap().sequence, log.newest());
}

#[test]
fn facts_of_any_length_fit_into_a_frame() {
    let mut log = log(1);
    for pid in 0..300 {
        let key = ProcessKey { pid, start: BootTime(1) };
        let (long, text) = ("ü".repeat(100_000), |s: &String| Some(s.clone()));
        let (executable, user) = (text(&long), text(&long));
        let (container, unit, uid) = (text(&long), text(&long), None);
        log.push(
            BootTime(200),
            Change::Process(Process { key, comm: long, executable, uid, user, container, unit }),
        );
        let Change::Open(mut many) = open(u64::from(pid)) else { unreachable!() };
        many.owners =
            (0..100_000).map(|pid| ProcessKey { pid, start: BootTime(pid.into()) }).collect();
        log.push(BootTime(200), Change::Open(many));
    }
    let mut link = Link::new(None, Mode::Pull);
    link.talk(&log, 1000, 1 << 20, usize::MAX);
    assert_eq!(link.sequences().len(), 602);
}

#[test]
fn a_tracker_that_speaks_for_another_host_is_not_heard() {
    let mut client = Client::new("test", HostId([8; 16]), None, Mode::Pull);
    let mut session = Session::new("host");
    session.receive(&client.poll_transmit().unwrap()).unwrap();
    let welcome = session.poll_transmit(&log(1), BootTime(1)).unwrap();
    assert_eq!(client.receive(&welcome, |_| ()), Err(ProtocolError::ForeignHost));
}

#[test]
fn a_position_ahead_of_the_log_is_refused() {
    let incarnation = log(1).incarnation();
    let mut link = Link::new(Some(Position { incarnation, sequence: 99 }), Mode::Pull);
    let log = log(1);
    link.session.receive(&link.client.poll_transmit().unwrap()).unwrap();
    let welcome = link.session.poll_transmit(&log, BootTime(1)).unwrap();
    link.client.receive(&welcome, |_| ()).unwrap();
    link.session.receive(&link.client.poll_transmit().unwrap()).unwrap();
    let refusal = link.session.poll_transmit(&log, BootTime(1)).unwrap();
    assert_eq!(
        link.client.receive(&refusal, |_| ()),
        Err(ProtocolError::Refused(Refusal::Ahead { asked: 99, newest: 2 }))
    );
    assert!(link.session.is_finished());
}

/// The bytes of a frame of the tracker's, made by hand.
fn events(sequences: &[u8]) -> Vec<u8> {
    let mut body = vec![4, u8::try_from(sequences.len()).unwrap()];
    // Each: sequence, time 9, Listed.
    sequences.iter().for_each(|&sequence| body.extend([sequence, 9, 11]));
    let mut frame = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    frame.extend(body);
    frame
}

#[test]
fn a_missing_or_repeated_event_is_noticed() {
    for (sent, wanted, got) in [(vec![1, 3], 2, 3), (vec![1, 1], 2, 1), (vec![2], 1, 2)] {
        let mut link = Link::new(None, Mode::Subscribe);
        link.session.receive(&link.client.poll_transmit().unwrap()).unwrap();
        let welcome = link.session.poll_transmit(&log(1), BootTime(1)).unwrap();
        link.client.receive(&welcome, |_| ()).unwrap();
        assert!(link.client.poll_transmit().is_some());
        let heard = link.client.receive(&events(&sent), |_| ());
        assert_eq!(heard, Err(ProtocolError::Hole { wanted, got }));
    }
}

#[test]
fn messages_out_of_place_end_the_conversation() {
    let mut client = Client::new("test", HOST, None, Mode::Pull);
    assert!(client.receive(&events(&[1]), |_| ()).is_err(), "before the welcome");
    let mut session = Session::new("host");
    let hello = Client::new("test", HOST, None, Mode::Pull).poll_transmit().unwrap();
    session.receive(&hello).unwrap();
    assert!(session.receive(&hello).is_err(), "a second hello");
}

#[test]
fn garbage_of_any_kind_ends_the_conversation_without_a_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let hello = Client::new("test", HOST, None, Mode::Pull).poll_transmit().unwrap();
    let mut failed = 0;
    for _ in 0..20_000 {
        let mut bytes = hello.clone();
        for _ in 0..=random() % 4 {
            let at = random() as usize % bytes.len();
            bytes[at] = random() as u8;
        }
        bytes.truncate(random() as usize % (bytes.len() + 1));
        let mut session = Session::new("host");
        failed += usize::from(session.receive(&bytes).is_err());
        let mut client = Client::new("test", HOST, None, Mode::Pull);
        client.poll_transmit();
        failed += usize::from(client.receive(&bytes, |_| ()).is_err());
    }
    assert!(failed > 1000, "{failed}");
}

#[test]
fn an_event_reads_as_it_was_sent() {
    let mut log = log(1);
    log.push(BootTime(300), open(42));
    let sent: Vec<Event> = log.events(0).cloned().collect();
    let mut link = Link::new(None, Mode::Pull);
    link.talk(&log, 1000, 3, usize::MAX);
    let heard: Vec<Event> = link
        .heard
        .into_iter()
        .filter_map(|delivery| match delivery {
            Delivery::Event(event) => Some(event),
            _ => None,
        })
        .collect();
    assert_eq!(heard, sent);
}
