//! The history on disk: what goes in comes out, over restarts and kills; what no longer fits goes,
//! from whom it should, and is told; what is broken is said.

mod world;

use std::path::{Path, PathBuf};
use std::process::Command;

use procflow_binding::{
    BootTime, Change, Event, FlowClock, GapCause, Histories, History, Incarnation, Owner, Place,
    Position, Quality, Reason, Vantage,
};
use procflow_core::{FlowKey, Interval, Protocol};
use procflow_store::{
    Class, ExportHeader, HistoryError, Keep, Page, Reader, Recorder, Told, move_aside, read_export,
    write_export,
};
use world::{BOOT, HOST, MINUTE, World, incarnation, local, real, remote};

const ALL: Keep = Keep { nanoseconds: u64::MAX, bytes: u64::MAX };

fn place() -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("history.db");
    (place, path)
}

fn append(recorder: &mut Recorder, events: impl IntoIterator<Item = Event>) {
    events.into_iter().for_each(|event| recorder.append(&event).unwrap());
}

/// What a reader is told from a position on, in pages of `most` bytes.
#[derive(Default)]
struct Heard {
    events: Vec<Event>,
    dropped: Vec<(BootTime, u64)>,
    still_true: Vec<Event>,
}

fn read(reader: &Reader, incarnation: Incarnation, sequence: u64, most: usize) -> Heard {
    let mut heard = Heard::default();
    let (mut position, mut told) = (Position { incarnation, sequence }, 0);
    loop {
        match reader.after(position, told, most).unwrap().expect("it is kept") {
            Page::Events(events) => {
                let Some(last) = events.last() else { return heard };
                position.sequence = last.sequence;
                heard.events.extend(events);
            }
            Page::Dropped { until, through, still_true } => {
                told = through;
                heard.dropped.push((until, through));
                heard.still_true.extend(still_true);
            }
            Page::Kept { through, events } => {
                assert!(through > position.sequence);
                position.sequence = through;
                heard.events.extend(events);
            }
        }
    }
}

fn sequences(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.sequence).collect()
}

fn check(path: &Path) {
    let connection = rusqlite::Connection::open(path).unwrap();
    let sql = "PRAGMA integrity_check";
    let answer: String = connection.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(answer, "ok");
}

/// Users, each with a process, that open and close sockets in turn.
fn traffic(world: &mut World, count: u64) -> Vec<Event> {
    let mut events = Vec::new();
    for user in 0..5 {
        events.push(world.process(100 + user, 1000 + user));
    }
    for id in 1..=count {
        world.now = world.now.plus(1_000_000);
        events.push(world.open(id, 100 + (id % 5) as u32));
        if id > 20 {
            events.push(world.close(id - 20));
        }
    }
    events
}

#[test]
fn what_is_written_is_read_in_order_whatever_the_size_of_commits_and_pages() {
    let (_place, path) = place();
    let (mut world, mut events) = World::start(BootTime(MINUTE));
    events.extend(traffic(&mut world, 5_000));
    let mut recorder = Recorder::begin(&path, incarnation(1), "web1", ALL).unwrap();
    let reader = Reader::open(&path).unwrap();
    let mut sizes = [1, 7, 300, 4000].into_iter().cycle();
    let mut rest = events.as_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(sizes.next().unwrap().min(rest.len()));
        append(&mut recorder, now.iter().cloned());
        let before = recorder.newest() - now.len() as u64;
        let durable = read(&reader, incarnation(1), before, 1 << 20).events;
        assert_eq!(durable, [], "nothing is told before it is durable");
        recorder.commit(now.last().unwrap().time).unwrap();
        rest = later;
    }
    for most in [50_000, 1 << 30] {
        assert_eq!(read(&reader, incarnation(1), 0, most).events, events);
    }
    assert_eq!(read(&reader, incarnation(1), 777, 1 << 20).events, events[777..]);
    let kept = &reader.incarnations().unwrap()[0];
    assert_eq!((kept.newest, kept.watched_until), (events.len() as u64, world.now));
    assert_eq!(kept.real, Some((real(BootTime(MINUTE)), real(world.now))));
    drop((recorder, reader));
    check(&path);
}

#[test]
fn many_small_commits_take_no_more_than_a_block_a_class_beyond_one() {
    let size = |step| {
        let (_place, path) = place();
        let (mut world, mut events) = World::start(BootTime(MINUTE));
        events.extend(traffic(&mut world, 20_000));
        let mut recorder = Recorder::begin(&path, incarnation(1), "web1", ALL).unwrap();
        for events in events.chunks(step) {
            append(&mut recorder, events.iter().cloned());
            recorder.commit(world.now).unwrap();
        }
        (1000..1005).map(|uid| recorder.bytes(Class::User(uid))).sum::<u64>()
    };
    let (small, large) = (size(20), size(100_000));
    assert!(small < large + 5 * (64 << 10), "{small} against {large}");
}

#[test]
fn an_earlier_start_stays_readable_and_numbers_are_never_given_twice() {
    let (_place, path) = place();
    let mut told = Vec::new();
    for number in 1..=3 {
        let (mut world, mut events) = World::start(BootTime(number * MINUTE));
        events.extend(traffic(&mut world, 100 * number));
        let begun = Recorder::begin(&path, incarnation(number), "web1", ALL);
        let mut recorder = begun.unwrap();
        append(&mut recorder, events.iter().cloned());
        recorder.commit(world.now).unwrap();
        told.push(events);
    }
    let again = Recorder::begin(&path, incarnation(2), "web1", ALL);
    assert!(matches!(again, Err(HistoryError::Taken { number: 2, .. })), "{again:?}");
    let reader = Reader::open(&path).unwrap();
    let mut known = None;
    for (number, events) in (1..).zip(&told) {
        let kept = reader.next(HOST, known).unwrap().unwrap();
        assert_eq!(kept.incarnation, incarnation(number));
        assert_eq!(&read(&reader, kept.incarnation, 0, 1 << 20).events, events);
        known = Some(kept.incarnation);
    }
    assert_eq!(reader.next(HOST, known).unwrap(), None);
    assert_eq!(
        reader.next(HOST, Some(incarnation(0))).unwrap().unwrap().incarnation,
        incarnation(1)
    );
    let position = Position { incarnation: incarnation(9), sequence: 5 };
    assert_eq!(reader.after(position, 0, 1).unwrap(), None);
}

#[test]
fn an_event_out_of_turn_is_refused() {
    let (_place, path) = place();
    let (_, events) = World::start(BootTime(MINUTE));
    let mut recorder = Recorder::begin(&path, incarnation(1), "web1", ALL).unwrap();
    recorder.append(&events[0]).unwrap();
    for wrong in [&events[0], &events[2]] {
        let refused = recorder.append(wrong);
        assert!(matches!(refused, Err(HistoryError::OutOfTurn { wanted: 2, .. })), "{refused:?}");
    }
}

/// One user floods; another has a few sockets; a third process of the first user has one that stays.
fn flood(path: &Path, keep: Keep, count: u64) -> (Vec<Event>, World) {
    let (mut world, mut events) = World::start(BootTime(MINUTE));
    let mut recorder = Recorder::begin(path, incarnation(1), "web1", keep).unwrap();
    for (pid, uid) in [(1, 1000), (2, 1001), (3, 1000)] {
        events.push(world.process(pid, uid));
    }
    events.push(world.open(1, 3));
    events.push(world.open(2, 1));
    for id in 3..count {
        world.now = world.now.plus(1_000_000);
        let modest = id % 100 == 0;
        events.push(world.open(id, if modest { 2 } else { 1 }));
        events.push(world.close(id));
    }
    for (i, events) in events.chunks(1400).enumerate() {
        append(&mut recorder, events.iter().cloned());
        let now = events.last().unwrap().time;
        recorder.commit(now).unwrap();
        recorder.retain(now).unwrap();
        let total: u64 = [Class::Host, Class::Nobody, Class::User(1000), Class::User(1001)]
            .iter()
            .map(|&class| recorder.bytes(class))
            .sum();
        assert!(total <= keep.bytes, "{total} after commit {i}");
        if i % 20 == 0 {
            let connection = rusqlite::Connection::open(path).unwrap();
            let sql = "SELECT sum(length(block)) + count(*) * 64 FROM chunk";
            let found: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
            assert_eq!(i64::try_from(total), Ok(found), "what is counted is what is there");
        }
    }
    (events, world)
}

fn history(heard: Heard, watched_until: BootTime) -> Histories {
    let mut histories = Histories::default();
    let history = histories.entry(HOST, BOOT);
    tell(history, heard);
    history.watched_until(watched_until);
    histories
}

fn tell(history: &mut History, heard: Heard) {
    heard.dropped.iter().for_each(|&(until, _)| history.dropped(until));
    heard.still_true.into_iter().chain(heard.events).for_each(|event| history.apply(event));
}

fn who(histories: &Histories, id: u64, at: BootTime) -> Owner {
    let (protocol, source, destination) = (Protocol::TCP, local(id), remote(id));
    let key = FlowKey { protocol, source, destination };
    let interval = Interval { first: real(at), last: real(at) };
    let (place, clock) = (Place::Outside, FlowClock::Host);
    let vantage = Vantage { place, clock, tolerance: 0, granularity: 0, icmp_types: true };
    histories.attribute(&key, interval, &vantage).source
}

fn comm(owner: &Owner) -> Option<(&str, Quality)> {
    match owner {
        Owner::Known { holders, quality } => Some((&holders.first()?.process.comm, *quality)),
        _ => None,
    }
}

#[test]
fn a_user_who_floods_loses_only_what_is_their_own() {
    let (_place, path) = place();
    let keep = Keep { nanoseconds: u64::MAX, bytes: 600_000 };
    let (events, world) = flood(&path, keep, 60_000);
    let reader = Reader::open(&path).unwrap();
    let heard = read(&reader, incarnation(1), 0, 100_000);
    let [(until, through)] = heard.dropped[..] else { panic!("{:?}", heard.dropped) };
    assert!(through > events.len() as u64 / 2, "{through} of {} are gone", events.len());
    // The other user, and the host, have lost nothing; and nobody the latest.
    let of = |change: &Change, pid| match change {
        Change::Open(open) => open.owners[0].pid == pid,
        Change::Process(process) => process.key.pid == pid,
        _ => false,
    };
    let modest = |events: &[Event]| events.iter().filter(|e| of(&e.change, 2)).count();
    assert_eq!(modest(&heard.events), modest(&events));
    assert_eq!(heard.events[..6], events[..6]);
    assert!(heard.events.ends_with(&events[through as usize..]));
    assert!(sequences(&heard.events).is_sorted());

    let histories = history(heard, world.now);
    let early = BootTime(MINUTE + 50_000_000);
    assert!(early < until);
    // Still open, from before what is kept.
    assert_eq!(comm(&who(&histories, 1, early)), Some(("worker-3", Quality::Exact)));
    assert_eq!(comm(&who(&histories, 1, world.now)), Some(("worker-3", Quality::Exact)));
    let modest = BootTime(MINUTE + (100 - 2) * 1_000_000);
    assert_eq!(comm(&who(&histories, 100, modest)).unwrap().0, "worker-2");
    let gone = who(&histories, 101, BootTime(modest.0 + 1_000_000));
    assert_eq!(gone, Owner::Unknown(Reason::BeforeHistory));
    drop(reader);
    check(&path);
    assert!(std::fs::metadata(&path).unwrap().len() < 1_200_000);
}

#[test]
fn a_reader_that_comes_back_late_learns_what_is_no_longer_true() {
    let (_place, path) = place();
    let keep = Keep { nanoseconds: u64::MAX, bytes: 600_000 };
    let (events, world) = flood(&path, keep, 60_000);
    // It knew the first events, an open socket among them whose end is gone.
    let known = events.iter().rposition(|e| e.sequence == 12).unwrap() + 1;
    let open = match &events[known - 1].change {
        Change::Open(open) => open.id.0,
        other => panic!("{other:?}"),
    };
    let mut histories = Histories::default();
    let begun = events[known - 1].time;
    let history = histories.entry(HOST, BOOT);
    events[..known].iter().for_each(|event| history.apply(event.clone()));
    let reader = Reader::open(&path).unwrap();
    let heard = read(&reader, incarnation(1), known as u64, 100_000);
    assert_eq!(sequences(&heard.still_true), [4, 5, 10, 11]);
    assert!(heard.events.iter().all(|event| event.sequence > known as u64));
    tell(history, heard);
    history.watched_until(world.now);
    assert_eq!(comm(&who(&histories, 1, world.now)), Some(("worker-3", Quality::Exact)));
    assert_eq!(comm(&who(&histories, open, begun)), Some(("worker-1", Quality::Exact)));
    // What came and went while it was away is known to be unknown.
    let missed = who(&histories, 101, BootTime(MINUTE + (101 - 2) * 1_000_000));
    assert_eq!(missed, Owner::Unknown(Reason::Gap(GapCause::Retention)));
    // It is not there now, and nobody claims that it was until it was missed.
    assert!(comm(&who(&histories, open, world.now)).is_none());
    let later = begun.plus(20_000_000_000);
    assert!(comm(&who(&histories, open, later)).is_none());
    assert_eq!(histories.iter().map(History::len).sum::<usize>(), {
        let mut fresh = Histories::default();
        tell(fresh.entry(HOST, BOOT), read(&reader, incarnation(1), 0, 1 << 20));
        // It knows one that nobody else can know any more.
        fresh.iter().map(History::len).sum::<usize>() + 1
    });
}

#[test]
fn what_is_too_old_goes_but_for_what_is_still_true() {
    let (_place, path) = place();
    let keep = Keep { nanoseconds: 10 * MINUTE, bytes: u64::MAX };
    let (mut world, mut events) = World::start(BootTime(MINUTE));
    let mut recorder = Recorder::begin(&path, incarnation(1), "web1", keep).unwrap();
    events.push(world.process(1, 1000));
    events.push(world.open(1, 1));
    for id in 2..=100 {
        world.now = world.now.plus(MINUTE / 2);
        events.push(world.open(id, 1));
        events.push(world.close(id));
        append(&mut recorder, std::mem::take(&mut events));
        recorder.commit(world.now).unwrap();
        recorder.retain(world.now).unwrap();
    }
    let reader = Reader::open(&path).unwrap();
    let heard = read(&reader, incarnation(1), 0, 1 << 20);
    let (until, _) = heard.dropped[0];
    let age = world.now.0 - until.0;
    assert!((10 * MINUTE..14 * MINUTE).contains(&age), "{} minutes", age / MINUTE);
    let histories = history(heard, world.now);
    assert_eq!(comm(&who(&histories, 1, world.now)), Some(("worker-1", Quality::Exact)));
    // The next start still has it; after a while it is as if there had never been another.
    drop(recorder);
    let begun = Recorder::begin(&path, incarnation(2), "web1", keep);
    let mut recorder = begun.unwrap();
    world.now = world.now.plus(9 * MINUTE);
    recorder.retain(world.now).unwrap();
    assert_eq!(reader.incarnations().unwrap().len(), 2);
    world.now = world.now.plus(2 * MINUTE);
    recorder.retain(world.now).unwrap();
    assert_eq!(reader.incarnations().unwrap().len(), 1);
    assert_eq!(recorder.bytes(Class::User(1000)), 0);
}

/// Everything around a moment, as a query needs it.
fn around(reader: &Reader, at: BootTime) -> (Histories, usize) {
    let mut histories = Histories::default();
    let (mut of, mut events) = (None, 0);
    let interval = (real(at), real(at));
    reader
        .between(interval.0, interval.1, |told| {
            events += usize::from(matches!(told, Told::Event(_)));
            told.fill(&mut of, &mut histories);
            Ok::<_, HistoryError>(())
        })
        .unwrap();
    (histories, events)
}

#[test]
fn a_moment_is_answered_without_reading_everything() {
    let (_place, path) = place();
    let keep = Keep { nanoseconds: u64::MAX, bytes: 4 << 20 };
    let (mut world, mut events) = World::start(BootTime(MINUTE));
    let mut recorder = Recorder::begin(&path, incarnation(1), "web1", keep).unwrap();
    events.push(world.process(1, 1000));
    events.push(world.open(1, 1));
    let mut times = vec![BootTime(0), BootTime(MINUTE)];
    for id in 2..30_000 {
        world.now = world.now.plus(1_000_000_000);
        times.push(world.now);
        events.push(world.open(id, 1));
        world.now = world.now.plus(1_000_000_000);
        events.push(world.close(id));
        if id % 500 == 0 {
            append(&mut recorder, std::mem::take(&mut events));
            recorder.commit(world.now).unwrap();
        }
    }
    append(&mut recorder, events);
    recorder.commit(world.now).unwrap();
    let reader = Reader::open(&path).unwrap();
    for id in [2, 3, 500, 10_000, 29_999] {
        let (histories, told) = around(&reader, times[id as usize]);
        let owner = who(&histories, id, times[id as usize]);
        assert_eq!(comm(&owner), Some(("worker-1", Quality::Exact)), "{id}: {owner:?}");
        assert!(told < 200, "{told} events around one moment");
        let lasting = who(&histories, 1, times[id as usize]);
        assert_eq!(comm(&lasting), Some(("worker-1", Quality::Exact)));
        // A tuple that nobody held then; the history is whole there.
        assert_eq!(who(&histories, id + 40_000, times[id as usize]), Owner::Kernel);
    }
    let (histories, told) = around(&reader, world.now.plus(10 * MINUTE));
    assert_eq!((histories.iter().count(), told), (0, 0));
}

#[test]
fn an_export_answers_as_the_history_does_and_is_there_whole_or_not_at_all() {
    let (place, path) = place();
    let (mut world, mut events) = World::start(BootTime(MINUTE));
    let mut recorder = Recorder::begin(&path, incarnation(1), "web1", ALL).unwrap();
    events.push(world.process(1, 1000));
    events.push(world.open(1, 1));
    for id in 2..20_000 {
        world.now = world.now.plus(1_000_000_000);
        events.extend([world.open(id, 1), world.close(id)]);
    }
    append(&mut recorder, events);
    recorder.commit(world.now).unwrap();
    let reader = Reader::open(&path).unwrap();
    let at = |minutes: u64| BootTime(MINUTE + minutes * MINUTE);
    let (since, until, created) = (real(at(100)), real(at(200)), real(world.now));
    let header = ExportHeader { host: HOST, host_name: "web1".to_owned(), created, since, until };
    let file = place.path().join("export");
    let exported = write_export(&reader, &file, &header).unwrap();
    assert_eq!(exported.incarnations, 1);
    assert!((2 * 100 * 60..2 * 103 * 60).contains(&exported.events), "{exported:?}");
    assert_eq!(exported.bytes, std::fs::metadata(&file).unwrap().len());
    let export = read_export(&file).unwrap();
    assert_eq!(export.header(), &header);
    let mut histories = Histories::default();
    assert_eq!(export.fill(&mut histories).unwrap(), 1);
    for (id, minute) in [(1, 100), (1, 199), (150 * 60 + 1, 150)] {
        assert_eq!(comm(&who(&histories, id, at(minute))).unwrap().0, "worker-1", "{id}");
    }
    assert_eq!(who(&histories, 2, at(98)), Owner::Unknown(Reason::BeforeHistory));
    assert_eq!(who(&histories, 2, at(203)), Owner::Unknown(Reason::NotYetKnown));

    let nowhere = place.path().join("no/export");
    assert!(write_export(&reader, &nowhere, &header).is_err());
    let names = std::fs::read_dir(place.path()).unwrap().count();
    assert_eq!(names, 4, "the database, its two companions, the export");
}

/// Not a test: what `killed_at_any_time` starts, and kills.
#[test]
fn write_until_killed() {
    let Some(path) = std::env::var_os("PROCFLOW_TEST_WRITE_UNTIL_KILLED") else { return };
    let number = std::env::var("PROCFLOW_TEST_NUMBER").unwrap().parse().unwrap();
    let keep = Keep { nanoseconds: u64::MAX, bytes: 300_000 };
    let begun = Recorder::begin(Path::new(&path), incarnation(number), "web1", keep);
    let mut recorder = begun.unwrap();
    let (mut world, events) = World::start(BootTime(number * MINUTE));
    append(&mut recorder, events);
    let first = world.process(1, 1000 + number as u32 % 3);
    append(&mut recorder, [first]);
    for id in 1.. {
        let open = world.open(id, 1);
        let close = world.close(id);
        append(&mut recorder, [open, close]);
        if id % 37 == 0 {
            recorder.commit(world.now).unwrap();
            // Only what was committed is said to be.
            std::fs::write(Path::new(&path).with_extension("said"), format!("{}", world.sequence))
                .unwrap();
            recorder.retain(world.now).unwrap();
        }
    }
}

#[test]
fn killed_at_any_time_it_has_all_that_was_committed() {
    let (_place, path) = place();
    for number in 1..=20 {
        let said = path.with_extension("said");
        let _ = std::fs::remove_file(&said);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["write_until_killed", "--exact"])
            .env("PROCFLOW_TEST_WRITE_UNTIL_KILLED", &path)
            .env("PROCFLOW_TEST_NUMBER", number.to_string())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while !said.exists() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        std::thread::sleep(std::time::Duration::from_micros(number * 3_777));
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        let said: u64 = std::fs::read_to_string(&said).unwrap().parse().unwrap_or(0);
        check(&path);
        let reader = Reader::open(&path).unwrap();
        let kept = reader.incarnations().unwrap().pop().unwrap();
        assert_eq!(kept.incarnation, incarnation(number));
        assert!(kept.newest >= said, "{} of {said}", kept.newest);
        for kept in reader.incarnations().unwrap() {
            let heard = read(&reader, kept.incarnation, 0, 100_000);
            let last = heard.events.last().map_or(0, |event| event.sequence);
            let through = heard.dropped.last().map_or(0, |&(_, through)| through);
            assert_eq!(last, kept.newest);
            let whole = sequences(&heard.events).into_iter().filter(|&n| n > through);
            assert!(whole.eq(through + 1..=kept.newest) || through == kept.newest);
        }
    }
}

#[test]
fn damage_is_told_with_its_place() {
    let (_place, path) = place();
    let (mut world, mut events) = World::start(BootTime(MINUTE));
    events.extend(traffic(&mut world, 50));
    let mut recorder = Recorder::begin(&path, incarnation(1), "web1", ALL).unwrap();
    append(&mut recorder, events);
    recorder.commit(world.now).unwrap();
    drop(recorder);
    let connection = rusqlite::Connection::open(&path).unwrap();
    let row: i64 = connection
        .query_row("SELECT id FROM chunk WHERE class = 1001", [], |row| row.get(0))
        .unwrap();
    let broken =
        "UPDATE chunk SET block = CAST(substr(block, 1, 40) || x'ff' || substr(block, 42) AS BLOB)
                  WHERE id = ?";
    connection.execute(broken, [row]).unwrap();
    drop(connection);
    let reader = Reader::open(&path).unwrap();
    let position = Position { incarnation: incarnation(1), sequence: 0 };
    let error = reader.after(position, 0, 1 << 20).unwrap_err();
    assert!(matches!(error, HistoryError::Row { row: at, .. } if at == row), "{error}");
    assert!(error.is_damage());
    assert!(error.to_string().contains(&format!("history.db, row {row}")), "{error}");
}

#[test]
fn a_file_that_is_no_history_is_refused_and_moved_aside_only_when_asked() {
    let (_place, path) = place();
    let refused = |path: &Path, damaged: bool| {
        let error = Recorder::begin(path, incarnation(1), "web1", ALL).unwrap_err();
        assert_eq!(error.is_damage(), damaged, "{error}");
        assert!(error.to_string().contains("history.db"), "{error}");
        assert!(Reader::open(path).is_err());
        error
    };
    let connection = |sql| rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    connection("CREATE TABLE notes (text)");
    assert!(matches!(refused(&path, false), HistoryError::Foreign(_)));
    let aside = move_aside(&path).unwrap();
    assert!(aside.ends_with("history.db.broken-1") && !path.exists());

    drop(Recorder::begin(&path, incarnation(1), "web1", ALL).unwrap());
    connection("PRAGMA user_version = 77");
    assert!(matches!(refused(&path, false), HistoryError::Newer { found: 77, .. }));
    assert!(move_aside(&path).unwrap().ends_with("history.db.broken-2"));

    std::fs::write(&path, "no database at all, and long enough to be looked at: ".repeat(100))
        .unwrap();
    refused(&path, true);
    assert!(move_aside(&path).unwrap().ends_with("history.db.broken-3"));
    drop(Recorder::begin(&path, incarnation(1), "web1", ALL).unwrap());
}

#[test]
fn only_its_owner_writes_it_and_only_the_group_reads() {
    use std::os::unix::fs::MetadataExt;
    let (_place, path) = place();
    let recorder = Recorder::begin(&path, incarnation(1), "web1", ALL).unwrap();
    for name in ["history.db", "history.db-wal", "history.db-shm"] {
        let mode = std::fs::metadata(path.with_file_name(name)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o640, "{name}");
    }
    drop(recorder);
}

#[test]
fn it_is_read_in_a_directory_that_cannot_be_written() {
    let (place, path) = place();
    let (mut world, mut events) = World::start(BootTime(MINUTE));
    events.extend(traffic(&mut world, 50));
    let mut recorder = Recorder::begin(&path, incarnation(1), "web1", ALL).unwrap();
    append(&mut recorder, events.iter().cloned());
    recorder.commit(world.now).unwrap();
    drop(recorder);
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o555);
    std::fs::set_permissions(place.path(), closed).unwrap();
    // (Root may write anywhere, and shows nothing here.)
    let reader = Reader::open(&path).unwrap();
    assert_eq!(read(&reader, incarnation(1), 0, 1 << 20).events, events);
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(place.path(), open).unwrap();
}
