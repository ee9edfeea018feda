//! The recorder writes the events of one incarnation into the database, and keeps the database
//! within its bounds.
//!
//! **Writing.** Events are handed in one by one and are durable with the next commit, a single
//! transaction; whoever sends only what was committed never gives a number twice. What a commit
//! brings for a class becomes a row of its own. Once such small rows hold a full block's worth, one
//! row takes the place of them all: so that committing five times a second costs each event two
//! writes, and not a row for ever.
//!
//! **Forgetting.** From time to time a **base** is written: what is still true of a class after its
//! latest event, made by folding the previous base and all rows since. A base and the rows up to
//! the next one are a **segment**, and the oldest segment of a class is what is evicted: its
//! successor's base says what is still true of it. (The way not taken, one base that every eviction
//! brings up to date, would have to read all before a moment to tell what was true at that moment.)
//! A segment has at least four times the bytes of its base, so bases cost a quarter more at most.
//!
//! A segment goes when all of it is older than is kept; or, while everything together is larger than
//! may be, from the class that takes most: see [`Class`]. What never goes are the last
//! bases of the running incarnation, which are bounded by what the host itself holds open.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use procflow_binding::{BootTime, Change, Event, Incarnation, StillTrue};

use crate::block::{self, Gathering, Press, Span};
use crate::database::{BASE, Database, EVENTS, HistoryError, NewChunk, ROW, Row, from_sql, to_sql};
use crate::share::{Class, Shares};

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// How old an event may be, in nanoseconds.
    pub nanoseconds: u64,
    /// How many bytes all may take in the file. (SQLite's log comes on top, at most about 4 MiB,
    /// and one segment: 1 MiB or, for a smaller history, a 64th of this.)
    pub bytes: u64,
}

/// How often what is too old is looked for, in nanoseconds: a minute. What is kept for a day may
/// stay a minute longer.
const LOOK_FOR_OLD: u64 = 60_000_000_000;

/// Bytes of events that wait in memory for a full block, over all classes. A class holds at most
/// one block's worth, but there may be many.
const MOST_WAITING: usize = 16 << 20;

/// The only writer of a history.
#[derive(Debug)]
pub struct Recorder {
    database: Database,
    press: Press,
    keep: Keep,
    incarnation: Incarnation,
    /// Its number in the database.
    id: i64,
    shares: Shares,
    /// The number of the last event that was handed in.
    newest: u64,
    begin: Option<BootTime>,
    /// Real time minus boot time.
    real: Option<i64>,
    classes: BTreeMap<i64, Waiting>,
    /// What each class takes in the file, over all incarnations.
    bytes: HashMap<i64, u64>,
    looked_for_old: BootTime,
}

/// The latest events of a class, and its latest segment.
#[derive(Debug, Default)]
struct Waiting {
    /// Durable, in small rows.
    small: Gathering,
    /// Those rows, and what they take.
    rows: Vec<i64>,
    small_bytes: u64,
    /// Not durable yet: full blocks, and what comes after them.
    full: Vec<Gathering>,
    fresh: Gathering,
    /// Bytes of the latest base, and of the rows since.
    base: u64,
    since: u64,
    /// When that base was made, or the first event came.
    based: BootTime,
}

impl Recorder {
    /// Opens the database, makes it if there is none, and begins an incarnation in it.
    ///
    /// # Errors
    ///
    /// When the file is not a history, or not one that can be written; or has that incarnation
    /// already.
    pub fn begin(
        path: &Path,
        incarnation: Incarnation,
        host_name: &str,
        keep: Keep,
    ) -> Result<Self, HistoryError> {
        let database = Database::open_to_write(path)?;
        if database.incarnations()?.iter().any(|row| row.incarnation == incarnation) {
            return Err(HistoryError::Taken { path: path.into(), number: incarnation.number });
        }
        let bytes = database.run("cannot read", |connection| {
            let sql = "SELECT class, sum(length(block)) + count(*) * ? FROM chunk GROUP BY class";
            let mut statement = connection.prepare(sql)?;
            let rows = statement
                .query_map([to_sql(ROW)], |row| Ok((row.get(0)?, from_sql(row.get(1)?))))?;
            rows.collect()
        })?;
        let id = database.run("cannot write to", |connection| {
            // Starts that ended before their first commit left nothing to tell.
            let empty = "DELETE FROM incarnation WHERE NOT EXISTS
                         (SELECT 1 FROM chunk WHERE chunk.incarnation = incarnation.id)";
            connection.execute(empty, [])?;
            let sql = "INSERT INTO incarnation (host, boot, number, host_name, begin, newest,
                       watched_until) VALUES (?, ?, ?, ?, 0, 0, 0)";
            let Incarnation { host, boot, number } = incarnation;
            connection.prepare(sql)?.insert((host.0, boot.0, to_sql(number), host_name))
        })?;
        let press = Press::new().map_err(|source| HistoryError::Io {
            what: "cannot compress for",
            path: path.into(),
            source,
        })?;
        Ok(Self {
            database,
            press,
            keep,
            incarnation,
            id,
            shares: Shares::default(),
            newest: 0,
            begin: None,
            real: None,
            classes: BTreeMap::new(),
            bytes,
            looked_for_old: BootTime(0),
        })
    }

    /// Hands in the next event. It is durable with the next commit.
    ///
    /// # Errors
    ///
    /// When its number is not the one after the last, or no block can hold it; nothing is changed
    /// then.
    pub fn append(&mut self, event: &Event) -> Result<(), HistoryError> {
        let wanted = self.newest + 1;
        if event.sequence != wanted {
            return Err(HistoryError::OutOfTurn { wanted, got: event.sequence });
        }
        let class = self.shares.class(event).number();
        let waiting = self
            .classes
            .entry(class)
            .or_insert_with(|| Waiting { based: event.time, ..Waiting::default() });
        waiting.fresh.push(event).map_err(|source| {
            let sequence = event.sequence;
            HistoryError::Unwritable { sequence, source }
        })?;
        if waiting.fresh.bytes().len() >= block::FULL {
            waiting.full.push(std::mem::take(&mut waiting.fresh));
        }
        if let Change::Clock(real) = event.change {
            let offset = i128::from(real.0) - i128::from(event.time.0);
            self.real = i64::try_from(offset).ok();
        }
        self.begin.get_or_insert(event.time);
        self.newest = wanted;
        Ok(())
    }

    /// The number of the last event that was handed in.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// What a class takes in the file.
    #[must_use]
    pub fn bytes(&self, class: Class) -> u64 {
        self.bytes.get(&class.number()).copied().unwrap_or(0)
    }

    /// Makes everything that was handed in durable, all of it or nothing; nothing but that happened
    /// until `watched_until`.
    ///
    /// # Errors
    ///
    /// When the database cannot be written. Nothing is lost then: the next commit tries again.
    pub fn commit(&mut self, watched_until: BootTime) -> Result<(), HistoryError> {
        let many = {
            let waiting = self.classes.values().map(|w| w.small.bytes().len());
            waiting.sum::<usize>() > MOST_WAITING
        };
        let changes = self.transaction(|recorder| {
            let mut changes = Vec::new();
            for (&class, waiting) in &recorder.classes {
                if waiting.is_durable() && (waiting.rows.is_empty() || !many) {
                    continue;
                }
                changes.push((class, recorder.write(class, waiting, many)?));
            }
            recorder.database.run("cannot write to", |connection| {
                let sql =
                    "UPDATE incarnation SET begin = ?, newest = ?, watched_until = ?, real = ?
                           WHERE id = ?";
                connection.prepare_cached(sql)?.execute((
                    to_sql(recorder.begin.unwrap_or_default().0),
                    to_sql(recorder.newest),
                    to_sql(watched_until.0),
                    recorder.real,
                    recorder.id,
                ))
            })?;
            Ok(changes)
        })?;
        for (class, written) in changes {
            let bytes = self.bytes.entry(class).or_default();
            *bytes = bytes.saturating_add(written.added).saturating_sub(written.removed);
            if let Some(waiting) = self.classes.get_mut(&class) {
                waiting.settle(written);
            }
        }
        Ok(())
    }

    /// Evicts what is too old or too much, `now`; whether it evicted anything.
    ///
    /// # Errors
    ///
    /// When the database cannot be read or written.
    pub fn retain(&mut self, now: BootTime) -> Result<bool, HistoryError> {
        let mut any = false;
        if now >= self.looked_for_old.plus(LOOK_FOR_OLD.min(self.keep.nanoseconds)) {
            self.looked_for_old = now;
            any |= self.evict_old(now)?;
        }
        while self.bytes.values().sum::<u64>() > self.keep.bytes {
            let mut largest: Vec<(u64, i64)> =
                self.bytes.iter().map(|(&class, &bytes)| (bytes, class)).collect();
            largest.sort_unstable_by(|one, other| other.cmp(one));
            let mut evicted = false;
            for (_, class) in largest {
                if self.evict_oldest(class)? {
                    evicted = true;
                    break;
                }
            }
            if !evicted {
                break; // all that is left is still true
            }
            any = true;
        }
        if any {
            // Pages that nothing uses go back, a few at a time; mostly the next events take them.
            self.database.run("cannot shrink", |connection| {
                let pages = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
                let (free, all) = (pages("PRAGMA freelist_count")?, pages("PRAGMA page_count")?);
                if free > all / 4 {
                    connection.execute_batch("PRAGMA incremental_vacuum(1024)")?;
                }
                Ok(())
            })?;
        }
        Ok(any)
    }

    /// Runs something in a transaction.
    fn transaction<T>(
        &self,
        run: impl FnOnce(&Self) -> Result<T, HistoryError>,
    ) -> Result<T, HistoryError> {
        let begin = |connection: &rusqlite::Connection| connection.execute_batch("BEGIN IMMEDIATE");
        self.database.run("cannot write to", begin)?;
        let result = run(self).and_then(|value| {
            self.database.run("cannot write to", |c| c.execute_batch("COMMIT"))?;
            Ok(value)
        });
        if result.is_err() {
            // SQLite may have rolled back already (a full disk does that); it then says so.
            let _ = self.database.connection.execute_batch("ROLLBACK");
        }
        result
    }

    /// Writes what is not durable yet of a class. `seal`: and leaves no small rows.
    fn write(&self, class: i64, waiting: &Waiting, seal: bool) -> Result<Written, HistoryError> {
        let mut written = Written { based: waiting.based, ..Written::default() };
        let fresh = Some(&waiting.fresh).filter(|fresh| fresh.span().is_some());
        let mut events = waiting.full.iter().chain(fresh);
        let Some(first) = events.next().or(Some(&waiting.fresh)) else { return Ok(written) };
        let mut now = first.span().map(|span| span.end).unwrap_or_default();
        // The segment ends with this commit when it is large enough, or has lasted long enough.
        let news: usize = waiting.full.iter().chain(fresh).map(|g| g.bytes().len()).sum();
        let large = waiting.since + news as u64 / 2 >= self.segment(waiting.base);
        let long = now >= waiting.based.plus((self.keep.nanoseconds / 8).max(1_000_000_000));
        let base = large || long;
        let seal = seal || base;

        let whole = waiting.small.bytes().len() + first.bytes().len();
        let mut left = None;
        if seal || whole >= block::FULL {
            let sql = "DELETE FROM chunk WHERE id = ?";
            for row in &waiting.rows {
                self.database.run("cannot write to", |connection| {
                    connection.prepare_cached(sql)?.execute([row])
                })?;
            }
            written.sealed = true;
            written.removed = waiting.small_bytes;
            let mut all = Gathering::default();
            all.extend(&waiting.small);
            all.extend(first);
            written.added += self.put(class, &all)?.1;
        } else {
            left = Some(first);
        }
        for events in events {
            now = events.span().map_or(now, |span| span.end);
            if seal || events.bytes().len() >= block::FULL {
                written.added += self.put(class, events)?.1;
            } else {
                left = Some(events);
            }
        }
        if let Some(events) = left {
            let (row, bytes) = self.put(class, events)?;
            (written.row, written.added) = (Some((row, bytes)), written.added + bytes);
        }
        if base && let Some(bytes) = self.write_base(class)? {
            (written.base, written.added) = (Some(bytes), written.added + bytes);
            written.based = now;
        }
        Ok(written)
    }

    /// At how many bytes a segment ends whose base has so many.
    fn segment(&self, base: u64) -> u64 {
        (self.keep.bytes / 64).clamp(block::FULL as u64, 1 << 20).max(4 * base)
    }

    /// Writes events as a row: which, and what it takes.
    fn put(&self, class: i64, events: &Gathering) -> Result<(i64, u64), HistoryError> {
        let Some(Span { last, end, .. }) = events.span() else { return Ok((0, 0)) };
        self.put_row(class, EVENTS, last, end.0, events)
    }

    fn put_row(
        &self,
        class: i64,
        kind: i64,
        last: u64,
        last_time: u64,
        events: &Gathering,
    ) -> Result<(i64, u64), HistoryError> {
        let block = self.press.press(events.bytes()).map_err(|source| HistoryError::Io {
            what: "cannot compress for",
            path: self.database.path.clone(),
            source,
        })?;
        let (span, length) = (events.span(), events.bytes().len() as u64);
        let key = (self.id, class);
        let row = NewChunk { key, kind, last, last_time, span, length, block: &block };
        let id = self.database.insert(&row)?;
        Ok((id, block.len() as u64 + ROW))
    }

    /// Ends the segment of a class with a base, out of all of its rows so far; what it takes, or
    /// `None` where no event came since the last one.
    fn write_base(&self, class: i64) -> Result<Option<u64>, HistoryError> {
        let key = (self.id, class);
        let base = self.database.base(key, u64::MAX, u64::MAX)?;
        let mut truth = StillTrue::default();
        let mut last = (0, 0);
        if let Some(base) = base {
            self.database.events(&base)?.into_iter().for_each(|event| truth.fold(event));
            last.0 = base.last;
        }
        let before = last.0;
        while let Some(chunk) = self.database.next_chunk(key, EVENTS, last.0)? {
            for event in self.database.events(&chunk)? {
                last.1 = event.time.0.max(last.1);
                truth.fold(event);
            }
            last.0 = chunk.last;
        }
        if last.0 == before {
            return Ok(None);
        }
        // The facts of who holds nothing now: if it comes to hold something, they are told anew.
        let holders = self.shares.holders();
        truth.forget_processes(|key| holders.contains(key));
        let mut events = Gathering::default();
        for event in truth.events() {
            events.push(&event).map_err(|source| {
                let sequence = event.sequence;
                HistoryError::Unwritable { sequence, source }
            })?;
        }
        if events.bytes().len() > block::MOST {
            return Ok(None); // nothing that could be read again; the segment goes on
        }
        Ok(Some(self.put_row(class, BASE, last.0, last.1, &events)?.1))
    }

    /// Evicts what is older than is kept.
    fn evict_old(&mut self, now: BootTime) -> Result<bool, HistoryError> {
        let mut any = false;
        for row in self.database.incarnations()? {
            for class in self.database.classes(row.id)? {
                while let Some(end) = self.oldest_end(&row, class)? {
                    if self.age(&row, end, now).is_none_or(|age| age <= self.keep.nanoseconds)
                        || !self.evict(&row, class)?
                    {
                        break;
                    }
                    any = true;
                }
            }
        }
        Ok(any)
    }

    /// When the oldest segment of a class ends.
    fn oldest_end(&self, row: &Row, class: i64) -> Result<Option<u64>, HistoryError> {
        let key = (row.id, class);
        let gone = self.database.evicted(row.id, class)?.map_or(0, |(through, _)| through);
        if let Some(next) = self.database.next_chunk(key, BASE, gone)? {
            return Ok(Some(next.last_time));
        }
        if row.id != self.id {
            return Ok(Some(row.watched_until));
        }
        let latest = self.classes.get(&class).and_then(|waiting| waiting.small.span());
        Ok(match latest {
            Some(span) => Some(span.end.0),
            None => self.database.latest(key)?,
        })
    }

    /// How long ago something was, in nanoseconds; of an earlier boot as real time tells, if it
    /// does.
    fn age(&self, row: &Row, time: u64, now: BootTime) -> Option<u64> {
        if row.incarnation.boot == self.incarnation.boot {
            return Some(now.0.saturating_sub(time));
        }
        let real = |time: u64, offset: i64| i128::from(time) + i128::from(offset);
        let age = real(now.0, self.real?) - real(time, row.real?);
        Some(u64::try_from(age.max(0)).unwrap_or(u64::MAX))
    }

    /// Evicts the oldest segment of a class, wherever it is; whether there was one.
    fn evict_oldest(&mut self, class: i64) -> Result<bool, HistoryError> {
        for row in self.database.incarnations()? {
            let key = (row.id, class);
            let any = self.database.next_chunk(key, EVENTS, 0)?.is_some()
                || row.id != self.id && self.database.next_chunk(key, BASE, 0)?.is_some();
            if any && self.evict(&row, class)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Evicts the oldest segment of a class of an incarnation; whether there was one.
    fn evict(&mut self, row: &Row, class: i64) -> Result<bool, HistoryError> {
        let key = (row.id, class);
        let gone = self.database.evicted(row.id, class)?.map_or(0, |(through, _)| through);
        if row.id == self.id && self.database.next_chunk(key, BASE, gone)?.is_none() {
            // The segment that is being written: end it first.
            let waiting = self.classes.remove(&class).unwrap_or_default();
            let result = self.transaction(|recorder| {
                let mut written = recorder.write(class, &waiting, true)?;
                if written.base.is_none() {
                    written.base = recorder.write_base(class)?;
                    written.added += written.base.unwrap_or(0);
                }
                Ok(written)
            });
            let waiting = self.classes.entry(class).or_insert(waiting);
            let written = result?;
            let bytes = self.bytes.entry(class).or_default();
            *bytes = bytes.saturating_add(written.added).saturating_sub(written.removed);
            waiting.settle(written);
        }
        let next = self.database.next_chunk(key, BASE, gone)?;
        let (through, until) = match &next {
            Some(next) => (next.last, next.last_time),
            None if row.id == self.id => return Ok(false),
            None => (row.newest, row.watched_until),
        };
        let freed = self.transaction(|recorder| {
            let database = &recorder.database;
            // Events up to there, and the bases before it; of an incarnation that is over, and has
            // no later base, all.
            let doomed = "incarnation = ?1 AND class = ?2 AND
                          (kind = 1 AND last <= ?3 OR kind = 0 AND (last < ?3 OR ?4))";
            let values = (row.id, class, to_sql(through), next.is_none());
            let freed = database.run("cannot write to", |connection| {
                let sum = format!(
                    "SELECT coalesce(sum(length(block)), 0) + count(*) * {ROW} FROM chunk
                     WHERE {doomed}"
                );
                let freed = connection.query_row(&sum, values, |row| row.get(0))?;
                connection.execute(&format!("DELETE FROM chunk WHERE {doomed}"), values)?;
                let sql = "INSERT INTO evicted (incarnation, class, through, until)
                           VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE
                           SET through = excluded.through, until = excluded.until";
                connection.execute(sql, (row.id, class, to_sql(through), to_sql(until)))?;
                Ok(from_sql(freed))
            })?;
            if row.id != recorder.id && database.classes(row.id)?.is_empty() {
                database.run("cannot write to", |connection| {
                    connection.execute("DELETE FROM evicted WHERE incarnation = ?", [row.id])?;
                    connection.execute("DELETE FROM incarnation WHERE id = ?", [row.id])
                })?;
            }
            Ok(freed)
        })?;
        let bytes = self.bytes.entry(class).or_default();
        *bytes = bytes.saturating_sub(freed);
        if *bytes == 0 {
            self.bytes.remove(&class);
        }
        Ok(freed > 0)
    }
}

/// What writing changed.
#[derive(Debug, Default)]
struct Written {
    added: u64,
    removed: u64,
    /// The small rows became part of a large one.
    sealed: bool,
    /// A small row, and what it takes.
    row: Option<(i64, u64)>,
    /// A base, and what it takes.
    base: Option<u64>,
    based: BootTime,
}

impl Waiting {
    fn is_durable(&self) -> bool {
        self.full.is_empty() && self.fresh.span().is_none()
    }

    /// What was written is durable.
    fn settle(&mut self, written: Written) {
        self.since = self.since.saturating_add(written.added).saturating_sub(written.removed);
        if written.sealed {
            self.small.clear();
            self.rows.clear();
            self.small_bytes = 0;
        }
        if let Some((row, bytes)) = written.row {
            self.rows.push(row);
            self.small_bytes += bytes;
            self.small.extend(&self.fresh);
        }
        self.full.clear();
        self.fresh.clear();
        if let Some(base) = written.base {
            (self.base, self.since) = (base, 0);
        }
        self.based = written.based;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use procflow_binding::{BootId, Close, HostId, SocketId};

    #[test]
    fn a_full_disk_loses_nothing_and_the_next_commit_goes_on() {
        let place = tempfile::tempdir().unwrap();
        let incarnation = Incarnation { host: HostId([7; 16]), boot: BootId([1; 16]), number: 1 };
        let keep = Keep { nanoseconds: u64::MAX, bytes: u64::MAX };
        let path = place.path().join("history.db");
        let mut recorder = Recorder::begin(&path, incarnation, "host", keep).unwrap();
        let limit = |recorder: &Recorder, pages: u32| {
            let sql = format!("PRAGMA max_page_count = {pages}");
            recorder.database.connection.query_row(&sql, [], |row| row.get::<_, u32>(0)).unwrap()
        };
        let full = limit(&recorder, 20);
        assert_eq!(full, 20);
        let (mut sequence, mut failures) = (0_u64, 0_u64);
        for round in 0..200_u64 {
            for _ in 0..50 {
                sequence += 1;
                // Numbers that do not compress.
                let id = SocketId(sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                let close = Close { id, last_seen: BootTime(id.0.rotate_left(7)) };
                let (time, change) = (BootTime(sequence), Change::Close(close));
                recorder.append(&Event { sequence, time, change }).unwrap();
            }
            if round == 150 {
                limit(&recorder, 1_000_000);
            }
            let committed = recorder.commit(BootTime(sequence));
            failures += u64::from(committed.is_err());
            assert!(round < 150 || committed.is_ok(), "{committed:?}");
        }
        assert!(failures > 50, "{failures}");
        let reader = crate::Reader::open(&path).unwrap();
        let position = procflow_binding::Position { incarnation, sequence: 0 };
        let page = reader.after(position, 0, usize::MAX).unwrap();
        let Some(crate::Page::Events(events)) = page else { panic!("{page:?}") };
        assert!(events.iter().map(|event| event.sequence).eq(1..=sequence));
        let told: u64 = recorder.bytes.values().sum();
        let sql = "SELECT sum(length(block)) + count(*) * ? FROM chunk";
        let found = recorder.database.connection;
        let found: i64 = found.query_row(sql, [to_sql(ROW)], |row| row.get(0)).unwrap();
        assert_eq!(told, from_sql(found), "what is counted is what is there");
    }
}
