//! Two machines and a number for the clock: loss of the connection, restart of either side and a
//! hostile peer.

use procflow_binding::{
    BootId, BootTime, Change, Close, Coverage, Details, Event, HostId, Incarnation, Log,
    NamespaceId, Open, Position, Process, ProcessKey, Socket, SocketId,
};
use procflow_core::Endpoint;
use procflow_wire::{
    Client, Delivery, Frames, HEARTBEAT, MOST_REPLY, Mode, ProtocolError, Refusal, Reply, Session,
    Supply, Wanted,
};
use smol_str::SmolStr;

const HOST: HostId = HostId([7; 16]);

fn log(number: u64) -> Log {
    let incarnation = Incarnation { host: HOST, boot: BootId([1; 16]), number };
    Log::open(incarnation, Coverage::Complete, BootTime(100))
}

fn open(id: u64) -> Change {
    let local = Endpoint::new([10, 0, 0, 1], 80);
    let socket = Socket::listening(NamespaceId(1), local, false);
    let owners = [ProcessKey { pid: 5, start: BootTime(1) }].into();
    Change::Open(Open { id: SocketId(id), socket, owners, not_before: BootTime(0) })
}

/// An archive that keeps nothing: there is only the present incarnation.
fn nothing_kept(log: &Log, wanted: Wanted) -> Supply {
    let incarnation = log.incarnation();
    if wanted.position.is_some_and(|position| position.incarnation == incarnation) {
        return Supply::Lost;
    }
    Supply::Next { ended: None, position: Position { incarnation, sequence: 0 } }
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
    fn talk(&mut self, log: &Log, now: u64, piece: usize, most: usize) {
        self.talk_with(log, |wanted| nothing_kept(log, wanted), now, piece, most);
    }

    /// The same with an archive.
    fn talk_with(
        &mut self,
        log: &Log,
        archive: impl Fn(Wanted) -> Supply,
        now: u64,
        piece: usize,
        mut most: usize,
    ) {
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
            if let Some(wanted) = self.session.poll_read() {
                self.session.supply(archive(wanted));
                quiet = false;
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
    assert_eq!(link.heard[2], Delivery::Dropped(BootTime(2999)));
    // All sockets, the watch event and the end of the listing; gaps are told by `Dropped`.
    assert_eq!(link.sequences().len(), 3000 + 2);
    assert_eq!(link.client.position().unwrap().sequence, log.newest());
}

#[test]
fn facts_of_any_length_fit_into_a_frame() {
    let mut log = log(1);
    for pid in 0..300 {
        let key = ProcessKey { pid, start: BootTime(1) };
        let long: SmolStr = "ü".repeat(100_000).into();
        let text = |s: &SmolStr| Some(s.clone());
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

fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    frame.extend(body);
    frame
}

/// Events as bytes. Each: sequence, time 9, Listed.
fn listed(sequences: &[u8]) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(sequences.len()).unwrap()];
    sequences.iter().for_each(|&sequence| bytes.extend([sequence, 9, 11]));
    bytes
}

/// The bytes of a frame of the tracker's, made by hand.
fn events(sequences: &[u8]) -> Vec<u8> {
    frame(&[&[4], &listed(sequences)[..]].concat())
}

/// What is left, by hand.
fn kept(through: u8, sequences: &[u8]) -> Vec<u8> {
    frame(&[&[7, through], &listed(sequences)[..]].concat())
}

/// Where it goes on, by hand.
fn place(number: u8, sequence: u8) -> Vec<u8> {
    frame(&[&[6], &[7; 16][..], &[1; 16], &[number, sequence]].concat())
}

/// A welcome in a version, by hand.
fn welcome(version: u8) -> Vec<u8> {
    frame(&[&[0, version], &[7; 16][..], &[1; 16], &[2, 0]].concat())
}

#[test]
fn a_missing_or_repeated_event_is_noticed() {
    for (sent, wanted, got) in [(vec![1, 3], 2, 3), (vec![1, 1], 2, 1), (vec![2], 1, 2)] {
        let mut client = Client::new("test", HOST, None, Mode::Subscribe);
        assert!(client.poll_transmit().is_some());
        client.receive(&welcome(2), |_| ()).unwrap();
        assert!(client.poll_transmit().is_some());
        client.receive(&place(2, 0), |_| ()).unwrap();
        let heard = client.receive(&events(&sent), |_| ());
        assert_eq!(heard, Err(ProtocolError::Hole { wanted, got }));
    }
}

/// A client that knows events up to 5 of start 1, and has asked.
fn at_five(version: u8) -> Client {
    let position = Position { incarnation: log(1).incarnation(), sequence: 5 };
    let mut client = Client::new("test", HOST, Some(position), Mode::Subscribe);
    client.poll_transmit();
    client.receive(&welcome(version), |_| ()).unwrap();
    client.poll_transmit();
    client
}

#[test]
fn a_tracker_that_goes_on_elsewhere_is_noticed() {
    // (what it sends, whether that may be)
    let dropped = |through| frame(&[2, 9, through]);
    let cases: [(&[Vec<u8>], bool); 13] = [
        (&[place(1, 5), events(&[6])], true),
        (&[place(1, 4)], false),
        (&[place(2, 0), events(&[1])], true),
        (&[place(2, 1)], false),
        (&[events(&[6])], false),
        (&[place(1, 5), kept(7, &[6])], false),
        (&[place(1, 5), dropped(8), kept(7, &[6, 7]), kept(8, &[8]), events(&[9])], true),
        (&[place(1, 5), dropped(8), dropped(9), kept(9, &[9]), events(&[10])], true),
        (&[place(1, 5), dropped(8), dropped(8)], false),
        (&[place(1, 5), dropped(8), kept(9, &[9])], false),
        (&[place(1, 5), dropped(8), kept(7, &[7, 6])], false),
        (&[place(1, 5), dropped(8), kept(8, &[])], true),
        (&[place(1, 5), frame(&[8, 9]), events(&[6])], false),
    ];
    for (i, (frames, may_be)) in cases.into_iter().enumerate() {
        let heard = at_five(2).receive(&frames.concat(), |_| ());
        assert_eq!(heard.is_ok(), may_be, "case {i}: {heard:?}");
    }
}

#[test]
fn a_tracker_of_version_1_is_heard_and_cannot_send_what_is_newer() {
    let mut heard = Vec::new();
    at_five(1).receive(&events(&[1, 2]), |delivery| heard.push(delivery)).unwrap();
    assert_eq!(heard.len(), 2, "the tracker's second start, from its first event");
    for newer in [place(2, 0), kept(1, &[1]), frame(&[8, 9])] {
        let error = at_five(1).receive(&newer, |_| ()).unwrap_err();
        assert!(matches!(error, ProtocolError::TooNew { version: 1, .. }), "{error}");
    }
}

#[test]
fn an_updater_of_version_1_gets_the_present_start_without_holes_and_without_news() {
    let mut log = log(2);
    let process = ProcessKey { pid: 5, start: BootTime(1) };
    let (ancestors, command_line, digest) = ([].into(), None, None);
    let details = Details { process, ancestors, command_line, digest };
    log.push(BootTime(200), Change::Details(details));
    log.push(BootTime(201), open(1));
    let mut session = Session::new("host");
    // Hello of versions 1 to 1, no program; then Follow from nothing, Pull.
    session.receive(&frame(&[0, 1, 1, 0])).unwrap();
    let mut frames = Frames::new(MOST_REPLY);
    frames.push(&session.poll_transmit(&log, BootTime(300)).unwrap());
    assert!(matches!(frames.pop().unwrap(), Some(Reply::Welcome { version: 1, .. })));
    session.receive(&frame(&[1, 0, 0])).unwrap();
    let mut replies: Vec<Reply> = Vec::new();
    while let Some(frame) = session.poll_transmit(&log, BootTime(300)) {
        frames.push(&frame);
        replies.extend(frames.pop().unwrap());
    }
    let [Reply::Events(events), Reply::UpToDate { sequence: 4, .. }] = &replies[..] else {
        panic!("{replies:?}");
    };
    let (id, last_seen) = (SocketId(0), BootTime(200));
    assert_eq!(events[2].change, Change::Close(Close { id, last_seen }));
    assert_eq!(events[3].change, open(1));
    assert!(session.is_finished() && session.poll_read().is_none());
}

/// An archive of what two earlier starts left, and of the first events of the present one. Of the
/// first start, numbers up to 4 are gone but for some.
fn archive(wanted: Wanted) -> Supply {
    let whole = |number| -> Vec<Event> {
        let mut log = log(number);
        (1..=3).for_each(|id| log.push(BootTime(200 + id), open(id)));
        log.events(0).cloned().collect()
    };
    let at = |number, sequence| Position { incarnation: log(number).incarnation(), sequence };
    let Some(position) = wanted.position else {
        return Supply::Next { ended: None, position: at(1, 0) };
    };
    let number = position.incarnation.number;
    let mut events = whole(number);
    events.retain(|event| event.sequence > position.sequence);
    events.truncate(2);
    match number {
        _ if events.is_empty() => {
            let ended = Some(BootTime(900 + number));
            Supply::Next { ended, position: at(number + 1, 0) }
        }
        1 if position.sequence < 4 && wanted.dropped_through < 4 => {
            let mut still_true = whole(1);
            still_true.retain(|event| event.sequence == 3 && position.sequence >= 3);
            Supply::Dropped { until: BootTime(202), through: 4, still_true }
        }
        1 if position.sequence < 4 => {
            let mut events = whole(1);
            events.retain(|event| event.sequence == 3 && position.sequence < 3);
            events.push(Event { sequence: 4, time: BootTime(202), change: Change::Listed });
            Supply::Kept { through: 4, events }
        }
        _ => Supply::Events(events),
    }
}

#[test]
fn what_is_kept_of_earlier_starts_is_told_first_and_once() {
    let mut log = log(3);
    (1..=3).for_each(|id| log.push(BootTime(200 + id), open(id)));
    let mut link = Link::new(None, Mode::Pull);
    link.talk_with(&log, archive, 1000, 7, usize::MAX);
    assert!(link.client.is_finished() && link.session.is_finished());
    assert_eq!(link.sequences(), [3, 4, 5, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5]);
    let others: Vec<&Delivery> =
        link.heard.iter().filter(|d| !matches!(d, Delivery::Event(_))).collect();
    let of = |number| Delivery::Incarnation(log_of(number));
    let up_to_date = Delivery::UpToDate { watched_until: BootTime(203), now: BootTime(1000) };
    assert_eq!(
        others[1..],
        [
            &of(1),
            &Delivery::Dropped(BootTime(202)),
            &Delivery::Ended(BootTime(901)),
            &of(2),
            &Delivery::Ended(BootTime(902)),
            &of(3),
            &up_to_date
        ]
    );

    // Whoever was there before gets the rest, wherever it was cut off.
    let whole: Vec<Delivery> = link.heard.split_off(1);
    for cut in 1..2000 {
        let mut first = Link::new(None, Mode::Pull);
        first.talk_with(&log, archive, 1000, 7, cut);
        if first.client.is_finished() {
            assert!(cut > 300);
            return;
        }
        let mut second = Link::new(first.client.position(), Mode::Pull);
        second.talk_with(&log, archive, 1000, 7, usize::MAX);
        let mut both: Vec<Delivery> = first.heard.split_off(first.heard.len().min(1));
        both.extend(second.heard.split_off(1));
        let events = |all: &[Delivery]| {
            let all = all.iter().filter(|d| matches!(d, Delivery::Event(_) | Delivery::Ended(_)));
            all.cloned().collect::<Vec<_>>()
        };
        let mut got = events(&both);
        // What is still true may be told again, and the end of an incarnation.
        got.dedup();
        assert_eq!(got, events(&whole), "cut after {cut} bytes");
    }
    panic!("it never ends");
}

fn log_of(number: u64) -> procflow_binding::Incarnation {
    log(number).incarnation()
}

#[test]
fn nothing_is_told_before_it_is_on_disk_and_a_pull_waits_for_it() {
    let mut log = log(1);
    log.wait_for_disk();
    log.push(BootTime(200), open(1));
    log.watched(BootTime(210));
    let mut link = Link::new(None, Mode::Pull);
    link.talk(&log, 1000, 99, usize::MAX);
    assert_eq!(link.sequences(), [0; 0]);
    assert!(!link.client.is_finished());
    log.settle(2, BootTime(100));
    link.talk(&log, 1000, 99, usize::MAX);
    assert_eq!(link.sequences(), [1, 2]);
    assert!(!link.client.is_finished(), "what was there when it asked has not come yet");
    log.prune(BootTime(5000), 0);
    log.settle(3, BootTime(210));
    link.talk(&log, 1000, 99, usize::MAX);
    assert_eq!(link.sequences(), [1, 2, 3]);
    assert!(link.client.is_finished());
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
