//! A tracker that is killed again and again, at any moment, while sockets come and go and a reader
//! follows: no number is ever given to two events, none is skipped, and what was not watched is a gap.

mod lab;

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use lab::{Lab, converse, installed, wait_for};
use procflow_binding::{
    Change, Event, FlowClock, GapCause, Histories, Incarnation, Owner, Place, Position, Reason,
    Vantage, WhichNamespace,
};
use procflow_core::{Endpoint, FlowKey, Interval, Protocol, Timestamp};
use procflow_store::{Told, read_export};
use procflow_wire::Delivery;

const ROUNDS: u64 = 50;

/// Every event that was ever heard, by its position.
type Heard = BTreeMap<(u64, u64), Event>;

/// What a reader keeps over all deaths of the tracker.
#[derive(Default)]
struct Reader {
    position: Option<Position>,
    heard: Heard,
}

impl Reader {
    fn hear(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Incarnation(incarnation) => {
                self.position = Some(Position { incarnation, sequence: 0 });
            }
            Delivery::Event(event) => {
                let position = self.position.as_mut().expect("an incarnation comes first");
                position.sequence = position.sequence.max(event.sequence);
                let at = (position.incarnation.number, event.sequence);
                let before = self.heard.insert(at, event.clone());
                assert!(before.is_none_or(|before| before == event), "{at:?} is two events");
            }
            // Nothing is old or large enough here to be dropped.
            Delivery::Dropped(until) => panic!("dropped until {until}"),
            _ => {}
        }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_nanos()).unwrap())
}

#[test]
fn a_tracker_that_is_killed_fifty_times_tells_every_event_once() {
    if !installed("python3") {
        return;
    }
    let lab = Lab::new();
    let (state, port) = (lab.path("tracker"), lab.port);
    let stop = Arc::new(AtomicBool::new(false));
    let busy = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            while !stop.load(Ordering::Relaxed) {
                // Not where the tracker wants its port back.
                let sockets: Vec<UdpSocket> =
                    (0..20).map(|_| UdpSocket::bind("127.0.0.2:0").unwrap()).collect();
                std::thread::sleep(Duration::from_millis(2));
                drop(sockets);
            }
        }
    });
    let reader = Arc::new(Mutex::new(Reader::default()));
    let reading = std::thread::spawn({
        let (stop, reader, state) = (Arc::clone(&stop), Arc::clone(&reader), state.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                let from = reader.lock().unwrap().position;
                // It may be dead, or die meanwhile.
                let _ = converse(&state, port, from, |told| reader.lock().unwrap().hear(told));
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });

    let mut between = Vec::new();
    for round in 0..ROUNDS {
        let mut tracker = lab.tracker();
        // From before its first flush to well between two.
        std::thread::sleep(Duration::from_millis(37 * round % 700));
        tracker.0.kill().unwrap();
        tracker.0.wait().unwrap();
        let dead = now();
        std::thread::sleep(Duration::from_millis(30));
        between.push(Timestamp(dead.0 + (now().0 - dead.0) / 2));
    }
    // Once more, until the reader knows all there is.
    let last = lab.tracker();
    wait_for("the reader", || {
        let reader = reader.lock().unwrap();
        reader.position.is_some_and(|p| p.incarnation.number == ROUNDS + 1 && p.sequence > 2)
    });
    stop.store(true, Ordering::Relaxed);
    busy.join().unwrap();
    reading.join().expect("the reader saw one position with two events");
    assert_eq!(last.stop(), Some(0));

    let script = "import sqlite3,sys; print(sqlite3.connect(sys.argv[1]).execute('PRAGMA \
                  integrity_check').fetchone()[0])";
    let check = Command::new("python3").args(["-c", script]).arg(state.join("history.db")).output();
    assert_eq!(String::from_utf8(check.unwrap().stdout).unwrap(), "ok\n");

    let file = lab.path("all.history");
    let export = Command::new(env!("CARGO_BIN_EXE_tracker"))
        .args(["export", "--since", "1h", "--until", "now", "--state"])
        .arg(&state)
        .arg(&file)
        .output()
        .unwrap();
    assert!(export.status.success(), "{export:?}");
    let mut kept = Heard::new();
    let mut of: Option<Incarnation> = None;
    let mut export = read_export(&file).unwrap();
    while let Some(told) = export.next_told().unwrap() {
        match told {
            Told::Incarnation { incarnation, .. } => of = Some(incarnation),
            Told::Event(event) => {
                kept.insert((of.unwrap().number, event.sequence), event);
            }
            Told::Dropped(_) | Told::WatchedUntil(_) => {}
        }
    }
    let reader = Arc::into_inner(reader).unwrap().into_inner().unwrap();
    // Whatever was sent is on disk, just so.
    for (at, event) in &reader.heard {
        assert_eq!(kept.get(at), Some(event), "{at:?}");
    }
    // Nothing was skipped, in any incarnation; and each begins with the gap before it.
    for number in 1..=ROUNDS + 1 {
        let mine: Vec<&Event> =
            reader.heard.range((number, 0)..=(number, u64::MAX)).map(|(_, event)| event).collect();
        if number <= ROUNDS {
            let on_disk = kept.range((number, 0)..=(number, u64::MAX)).count();
            assert_eq!(mine.len(), on_disk, "incarnation {number}");
        }
        assert!(mine.iter().zip(1..).all(|(event, due)| event.sequence == due), "{number}");
        let gap = |event: &&Event| matches!(event.change, Change::Gap(gap) if gap.cause == GapCause::NotRunning);
        assert!(mine.is_empty() || mine.get(1).is_some_and(gap), "incarnation {number}");
    }

    // And every time without a tracker is answered as one.
    let mut histories = Histories::default();
    read_export(&file).unwrap().fill(&mut histories).unwrap();
    let host = of.unwrap().host;
    let vantage = Vantage {
        place: Place::Inside(host, WhichNamespace::Initial),
        clock: FlowClock::Host,
        tolerance: 0,
        granularity: 0,
        icmp_types: true,
    };
    let local = Endpoint::new([127, 0, 0, 1], 1);
    let key = FlowKey { protocol: Protocol::UDP, source: local, destination: local };
    for (round, &moment) in between.iter().enumerate() {
        let interval = Interval { first: moment, last: moment };
        let answer = histories.attribute(&key, interval, &vantage).source;
        let gap = Owner::Unknown(Reason::Gap(GapCause::NotRunning));
        assert_eq!(answer, gap, "after death {round}");
    }
}
