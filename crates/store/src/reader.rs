//! A reader gives the events of a history: from a position on, for whoever follows it, and of a
//! stretch of real time, for whoever asks about one.
//!
//! Classes are kept apart, and are joined here: events come in the order of their numbers. Of the
//! numbers up to the last one that was evicted only some are left, those of other classes, and what
//! is still true of the evicted ones (which stands at the numbers that it had). Whoever reads is
//! told so before them, as one stretch of time of which things may be missing, because nobody can
//! tell whose the missing ones were.
//!
//! A reader never writes, holds no lock, and sees with each call what was committed by then.

use std::path::Path;

use procflow_binding::{
    BootTime, Change, Clock, ClockSample, Event, Histories, HostId, Incarnation, Position,
    StillTrue,
};
use procflow_core::{Interval, Timestamp};

use crate::database::{Chunk, Database, EVENTS, HistoryError, Row, from_sql};
use crate::share::Class;

/// How much before and after a stretch of time is read with it, in nanoseconds: a minute, far more
/// than any tolerance of a flow's times or the pause between two looks.
const AROUND: u64 = 60_000_000_000;

/// A history, open for reading.
#[derive(Debug)]
pub struct Reader {
    database: Database,
}

/// An incarnation that something is kept of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Which.
    pub incarnation: Incarnation,
    /// The host's name then, for people.
    pub host_name: String,
    /// When it began.
    pub begin: BootTime,
    /// The number of its last event.
    pub newest: u64,
    /// Everything until then is told.
    pub watched_until: BootTime,
    /// Since when it is whole in real time, and until when, as its own clock last showed; `None`
    /// when it never did.
    pub real: Option<(Timestamp, Timestamp)>,
}

/// What comes after a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// The next events, without a hole; none when there is no later one in this incarnation.
    Events(Vec<Event>),
    /// Some of the next events are gone.
    Dropped {
        /// Everything before this moment may be missing.
        until: BootTime,
        /// The last number that is missing.
        through: u64,
        /// What the reader knows already and is still true, in the order of its numbers: whatever
        /// else it holds to be there is not, any more.
        still_true: Vec<Event>,
    },
    /// Of the numbers from the position to `through`, all that is left. The last is
    /// [`Change::Listed`] with the last number that is missing.
    Kept {
        /// The position from now on.
        through: u64,
        /// Those events.
        events: Vec<Event>,
    },
}

/// What is told of a stretch of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// What follows is of this incarnation.
    Incarnation {
        /// Which.
        incarnation: Incarnation,
        /// The host's name then, for people.
        host_name: String,
    },
    /// Everything before this moment may be missing (see `History::dropped` of `binding`).
    Dropped(BootTime),
    /// The next event.
    Event(Event),
    /// Everything until then was told.
    WatchedUntil(BootTime),
}

impl Told {
    /// Writes it into the history that it is of. `of` is the incarnation that was told last, `None`
    /// at first.
    pub fn fill(self, of: &mut Option<Incarnation>, histories: &mut Histories) {
        if let Self::Incarnation { incarnation, .. } = &self {
            *of = Some(*incarnation);
        }
        let Some(Incarnation { host, boot, .. }) = *of else { return };
        let history = histories.entry(host, boot);
        match self {
            Self::Incarnation { .. } => {}
            Self::Dropped(until) => history.dropped(until),
            Self::Event(event) => history.apply(event),
            Self::WatchedUntil(until) => history.watched_until(until),
        }
    }
}

impl Reader {
    /// Opens a history.
    ///
    /// # Errors
    ///
    /// When the file is not there, is not a history, or was written by a newer version.
    pub fn open(path: &Path) -> Result<Self, HistoryError> {
        Ok(Self { database: Database::open_to_read(path)? })
    }

    /// The incarnations that something is kept of, in the order in which they began.
    ///
    /// # Errors
    ///
    /// When the database cannot be read, as for all that follow.
    pub fn incarnations(&self) -> Result<Vec<Kept>, HistoryError> {
        self.snapshot(|| {
            let mut all = Vec::new();
            for row in self.database.incarnations()? {
                let gone = self.gone(&row)?;
                all.push(row.kept(gone.map(|gone| gone.until)));
            }
            Ok(all)
        })
    }

    /// What comes after a position, about `most` bytes of it (in memory), at least one event if
    /// there is one. `told` is the last `through` that the reader was told with
    /// [`Page::Dropped`], 0 before the first.
    ///
    /// `None` when nothing is kept of that incarnation.
    ///
    /// # Errors
    ///
    /// When the database cannot be read, or is broken.
    pub fn after(
        &self,
        position: Position,
        told: u64,
        most: usize,
    ) -> Result<Option<Page>, HistoryError> {
        self.snapshot(|| {
            let rows = self.database.incarnations()?;
            let Some(row) = rows.iter().find(|row| row.incarnation == position.incarnation) else {
                return Ok(None);
            };
            let known = position.sequence;
            let gone = self.gone(row)?.filter(|gone| known < gone.through);
            match gone {
                Some(gone) if told < gone.through => self.dropped(row, known, gone).map(Some),
                gone => self.page(row, known, gone, most).map(Some),
            }
        })
    }

    fn dropped(&self, row: &Row, known: u64, gone: Gone) -> Result<Page, HistoryError> {
        let Gone { through, until } = gone;
        let mut still_true = Vec::new();
        if known > 0 {
            for class in self.database.classes(row.id)? {
                let truth = self.truth((row.id, class), through, u64::MAX)?.0;
                still_true.extend(truth.events().into_iter().filter(|event| {
                    let lasts = matches!(
                        event.change,
                        Change::Open(_) | Change::Address(_) | Change::Namespace(_)
                    );
                    lasts && event.sequence <= known
                }));
            }
            still_true.sort_by_key(|event| event.sequence);
        }
        Ok(Page::Dropped { until, through, still_true })
    }

    fn page(
        &self,
        row: &Row,
        known: u64,
        gone: Option<Gone>,
        most: usize,
    ) -> Result<Page, HistoryError> {
        let mut strands = Vec::new();
        for class in self.database.classes(row.id)? {
            strands.push(self.strand((row.id, class), known)?);
        }
        let mut joined = Joined { database: &self.database, strands };
        let mut events: Vec<Event> = Vec::new();
        let mut room = most;
        let last = gone.map_or(u64::MAX, |gone| gone.through);
        let mut whole = true;
        while let Some(event) = joined.next()? {
            if event.sequence > last {
                break;
            }
            let wanted = events.last().map_or(known, |event| event.sequence) + 1;
            if gone.is_none() && event.sequence != wanted {
                let (path, got) = (self.database.path.clone(), event.sequence);
                return Err(HistoryError::Hole { path, wanted, got });
            }
            room = room.saturating_sub(event.footprint());
            events.push(event);
            // The end of the listing may have the number of the last event: both, or neither.
            if room == 0 && events.last().is_some_and(|event| event.sequence < last) {
                whole = false;
                break;
            }
        }
        let Some(Gone { through, until }) = gone else { return Ok(Page::Events(events)) };
        if whole {
            events.push(Event { sequence: through, time: until, change: Change::Listed });
        }
        let through = if whole { through } else { events.last().map_or(known, |e| e.sequence) };
        Ok(Page::Kept { through, events })
    }

    /// The incarnation of a host that comes after one that is known: the next in the order in which
    /// they began. When that one is not kept (any more), the first whose number is larger; without
    /// any, the first of all.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn next(
        &self,
        host: HostId,
        known: Option<Incarnation>,
    ) -> Result<Option<Kept>, HistoryError> {
        let all = self.incarnations()?;
        let all: Vec<Kept> = all.into_iter().filter(|kept| kept.incarnation.host == host).collect();
        let Some(known) = known else { return Ok(all.into_iter().next()) };
        let at = all.iter().position(|kept| kept.incarnation == known);
        Ok(match at {
            Some(at) => all.into_iter().nth(at + 1),
            None => all.into_iter().find(|kept| kept.incarnation.number > known.number),
        })
    }

    /// Tells everything that is needed to answer questions about a stretch of real time, and of a
    /// minute around it: for each incarnation that lived then, what was true when the stretch began
    /// and what happened since.
    ///
    /// # Errors
    ///
    /// When the database cannot be read or is broken; and those of `tell`.
    pub fn between<E: From<HistoryError>>(
        &self,
        since: Timestamp,
        until: Timestamp,
        mut tell: impl FnMut(Told) -> Result<(), E>,
    ) -> Result<(), E> {
        self.snapshot(|| {
            for row in self.database.incarnations()? {
                self.tell(&row, Interval { first: since, last: until }, &mut tell)?;
            }
            Ok(())
        })
    }

    fn tell<E: From<HistoryError>>(
        &self,
        row: &Row,
        interval: Interval,
        tell: &mut impl FnMut(Told) -> Result<(), E>,
    ) -> Result<(), E> {
        let stretches = self.clock(row)?.stretches(interval);
        let begin = stretches.iter().map(|stretch| stretch.start().minus(AROUND)).min();
        let end = stretches.iter().map(|stretch| stretch.end().plus(AROUND)).max();
        let (Some(begin), Some(end)) = (begin, end) else { return Ok(()) };
        if end.0 < row.begin || begin.0 > row.watched_until {
            return Ok(());
        }
        // Of each class: what was true when the stretch began, or where what is kept begins.
        let mut strands = Vec::new();
        let mut listed = 0;
        let mut whole_since = if begin.0 > row.begin { begin } else { BootTime(0) };
        // A class of which nothing is left at all has no strand, but a place where it ends.
        if let Some(until) = self.database.whole_evicted(row.id)?.filter(|&until| until > begin.0) {
            whole_since = whole_since.max(BootTime(until));
        }
        for class in self.database.classes(row.id)? {
            let key = (row.id, class);
            let gone = self.database.evicted(row.id, class)?;
            let late = gone.filter(|&(_, until)| until > begin.0);
            let (through, time) = late.unwrap_or((u64::MAX, begin.0));
            let (truth, last) = self.truth(key, through, time)?;
            if late.is_some() {
                whole_since = whole_since.max(BootTime(time));
            }
            listed = listed.max(last);
            strands.push(Strand::new(key, truth.events(), last));
        }
        let (incarnation, host_name) = (row.incarnation, row.host_name.clone());
        tell(Told::Incarnation { incarnation, host_name })?;
        let mut listing = whole_since > BootTime(0);
        if listing {
            tell(Told::Dropped(whole_since))?;
        }
        let listed = Event { sequence: listed, time: whole_since, change: Change::Listed };
        let mut joined = Joined { database: &self.database, strands };
        while let Some(event) = joined.next()? {
            if listing && event.sequence > listed.sequence {
                tell(Told::Event(listed.clone()))?;
                listing = false;
            }
            if event.time > end {
                break;
            }
            tell(Told::Event(event))?;
        }
        if listing {
            tell(Told::Event(listed))?;
        }
        tell(Told::WatchedUntil(BootTime(row.watched_until).min(end)))
    }

    /// What the real-time clock of an incarnation showed.
    fn clock(&self, row: &Row) -> Result<Clock, HistoryError> {
        let mut clock = Clock::default();
        let strands = vec![self.strand((row.id, Class::Host.number()), 0)?];
        let mut joined = Joined { database: &self.database, strands };
        while let Some(event) = joined.next()? {
            if let Change::Clock(real) = event.change {
                clock.apply(ClockSample { boot: event.time, real });
            }
        }
        Ok(clock)
    }

    /// What is still true of a class after its events up to a number and up to a time; and the
    /// number of the last of these.
    fn truth(
        &self,
        key: (i64, i64),
        through: u64,
        until: u64,
    ) -> Result<(StillTrue, u64), HistoryError> {
        let mut truth = StillTrue::default();
        let mut last = 0;
        if let Some(base) = self.database.base(key, through, until)? {
            self.database.events(&base)?.into_iter().for_each(|event| truth.fold(event));
            last = base.last;
        }
        let mut beyond = last;
        while let Some(chunk) = self.database.next_chunk(key, EVENTS, beyond)? {
            if chunk.first() > through {
                break;
            }
            beyond = chunk.last;
            for event in self.database.events(&chunk)? {
                if event.sequence > through || event.time.0 > until {
                    return Ok((truth, last));
                }
                last = event.sequence;
                truth.fold(event);
            }
        }
        Ok((truth, last))
    }

    /// The events of a class after a number, with what is still true of those that are gone.
    fn strand(&self, key: (i64, i64), known: u64) -> Result<Strand, HistoryError> {
        let gone = self.database.evicted(key.0, key.1)?.map(|(through, _)| through);
        let Some(through) = gone.filter(|&through| known < through) else {
            return Ok(Strand::new(key, Vec::new(), known));
        };
        let mut events = match self.database.base(key, through, u64::MAX)? {
            Some(base) => self.database.events(&base)?,
            None => Vec::new(),
        };
        events.retain(|event| event.sequence > known);
        Ok(Strand::new(key, events, through))
    }

    /// How far things of an incarnation are gone.
    fn gone(&self, row: &Row) -> Result<Option<Gone>, HistoryError> {
        self.database.run("cannot read", |connection| {
            let sql = "SELECT max(through), max(until) FROM evicted WHERE incarnation = ?";
            let mut statement = connection.prepare_cached(sql)?;
            statement.query_row([row.id], |row| {
                let (through, until): (Option<i64>, Option<i64>) = (row.get(0)?, row.get(1)?);
                Ok(through.zip(until).map(|(through, until)| Gone {
                    through: from_sql(through),
                    until: BootTime(from_sql(until)),
                }))
            })
        })
    }

    /// Runs something on one state of the database, whatever is written meanwhile.
    fn snapshot<T, E: From<HistoryError>>(
        &self,
        run: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.database.run("cannot read", |connection| connection.execute_batch("BEGIN"))?;
        let result = run();
        // It changed nothing, so there is nothing to keep; an error ends it, too.
        let _ = self.database.connection.execute_batch("ROLLBACK");
        result
    }
}

/// Up to where things are gone.
#[derive(Clone, Copy, Debug)]
struct Gone {
    through: u64,
    until: BootTime,
}

impl Row {
    fn kept(&self, gone: Option<BootTime>) -> Kept {
        let (begin, end) = (BootTime(self.begin), BootTime(self.watched_until));
        let whole_since = gone.map_or(begin, |gone| gone.max(begin));
        let real = |time: BootTime, offset: i64| {
            Timestamp(i64::try_from(time.0).unwrap_or(i64::MAX).saturating_add(offset))
        };
        Kept {
            incarnation: self.incarnation,
            host_name: self.host_name.clone(),
            begin,
            newest: self.newest,
            watched_until: end,
            real: self.real.map(|offset| (real(whole_since, offset), real(end, offset))),
        }
    }
}

/// The events of one class, read a block at a time.
struct Strand {
    key: (i64, i64),
    events: std::iter::Peekable<std::vec::IntoIter<Event>>,
    /// Up to here all is in `events` or was given.
    beyond: u64,
    next: Next,
}

/// What comes after `events`.
enum Next {
    Unknown,
    Block(Chunk),
    Nothing,
}

impl Strand {
    fn new(key: (i64, i64), events: Vec<Event>, beyond: u64) -> Self {
        Self { key, events: events.into_iter().peekable(), beyond, next: Next::Unknown }
    }

    /// The least number that its next event can have; `None` at its end.
    fn least(&mut self, database: &Database) -> Result<Option<u64>, HistoryError> {
        if let Some(event) = self.events.peek() {
            return Ok(Some(event.sequence));
        }
        if let Next::Unknown = self.next {
            let next = database.next_chunk(self.key, EVENTS, self.beyond)?;
            self.next = next.map_or(Next::Nothing, Next::Block);
        }
        Ok(match &self.next {
            Next::Block(chunk) => Some(chunk.first().max(self.beyond + 1)),
            Next::Unknown | Next::Nothing => None,
        })
    }

    /// Makes sure that the next event is in memory.
    fn load(&mut self, database: &Database) -> Result<(), HistoryError> {
        if self.events.peek().is_none()
            && let Next::Block(chunk) = std::mem::replace(&mut self.next, Next::Unknown)
        {
            let mut events = database.events(&chunk)?;
            events.retain(|event| event.sequence > self.beyond);
            self.beyond = chunk.last;
            self.events = events.into_iter().peekable();
        }
        Ok(())
    }
}

/// All classes, in the order of their events' numbers.
struct Joined<'a> {
    database: &'a Database,
    strands: Vec<Strand>,
}

impl Joined<'_> {
    fn next(&mut self) -> Result<Option<Event>, HistoryError> {
        loop {
            let mut first: Option<(u64, usize)> = None;
            for (i, strand) in self.strands.iter_mut().enumerate() {
                if let Some(least) = strand.least(self.database)?
                    && first.is_none_or(|(number, _)| least < number)
                {
                    first = Some((least, i));
                }
            }
            let Some((_, i)) = first else { return Ok(None) };
            let Some(strand) = self.strands.get_mut(i) else { return Ok(None) };
            if strand.events.peek().is_some() {
                return Ok(strand.events.next());
            }
            strand.load(self.database)?;
        }
    }
}
