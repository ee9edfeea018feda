//! The tracker's side of one stream: a machine that takes an updater's bytes and gives it frames,
//! one at a time, whenever the stream has room.
//!
//! What it tells comes from the log in memory where that reaches, and else from the archive: what
//! is kept of earlier incarnations, and of what the log no longer holds. It does not read the
//! archive, it [says what it wants](Session::poll_read) and is [handed it](Session::supply).
//!
//! It holds a position, and one answer of the archive at most: a slow updater costs nothing but
//! the log's own bound.

use std::collections::VecDeque;

use procflow_binding::{
    Ancestor, BootTime, Change, Close, Event, Log, MOST_ANCESTORS, MOST_OWNERS, Open, Owners,
    Position, Since, SocketId,
};
use smol_str::SmolStr;

use crate::codec::{Frames, MOST_REQUEST, encode};
use crate::message::{Mode, OLDEST_VERSION, ProtocolError, Refusal, Reply, Request, VERSION};

/// An updater that stays is told at least so often that nothing happened, in nanoseconds.
pub const HEARTBEAT: u64 = 1_000_000_000;

/// How many bytes of events go into one frame, roughly: far below `MOST_REPLY`, and large enough
/// that a frame's own cost does not show.
const BATCH: usize = 64 << 10;

/// How many bytes of a fact of a process are sent: the kernel's own bound for a path.
const MOST_TEXT: usize = 4096;

/// How many arguments of a process are sent.
const MOST_WORDS: usize = 1024;

/// A conversation with one updater.
#[derive(Debug)]
pub struct Session {
    frames: Frames,
    host_name: String,
    version: u16,
    state: State,
    /// What the updater knows.
    position: Option<Position>,
    /// Whether it knows that what comes is numbered in that position's incarnation.
    placed: bool,
    mode: Mode,
    /// The newest number when it asked: a pull is not done before.
    asked: u64,
    /// To be sent before anything else, in parts that fit into frames.
    waiting: VecDeque<Reply>,
    /// It was told that numbers up to this one are missing, and is told what is left of them.
    dropped_through: u64,
    /// What it wants of the archive, while it waits.
    wanted: Option<Wanted>,
    /// The log in memory has to do: the archive cannot be read, or version 1 knows of none.
    without_archive: bool,
    told: Option<(u64, BootTime)>,
}

/// What a session wants to know of the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What comes after this? `None`: what is the first that is kept?
    pub position: Option<Position>,
    /// The updater was told that numbers up to this one are missing.
    pub dropped_through: u64,
}

/// What the archive has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Supply {
    /// The next events, without a hole.
    Events(Vec<Event>),
    /// Some of the next events are gone.
    Dropped {
        /// Everything before this moment may be missing.
        until: BootTime,
        /// The last number that is missing.
        through: u64,
        /// What the updater knows and is still true.
        still_true: Vec<Event>,
    },
    /// Of the numbers from the position to `through`, all that is left. The last of all is `Listed`.
    Kept {
        /// The position from now on.
        through: u64,
        /// Those events.
        events: Vec<Event>,
    },
    /// There is no more of that incarnation; it goes on here.
    Next {
        /// Everything of the one that is over was told until then; `None` when it is not known.
        ended: Option<BootTime>,
        /// Where it goes on.
        position: Position,
    },
    /// Nothing yet.
    Nothing,
    /// It cannot be read: go on with what the log in memory has.
    Lost,
}

#[derive(Debug)]
enum State {
    Hello,
    Welcome {
        /// The newest that both speak.
        version: u16,
    },
    Follow,
    Refuse(Refusal),
    /// The updater said what it knows.
    Asked(Option<Position>),
    Telling,
    Finished,
}

impl Session {
    /// A new conversation; `host_name` is for people.
    #[must_use]
    pub fn new(host_name: impl Into<String>) -> Self {
        Self {
            frames: Frames::new(MOST_REQUEST),
            host_name: host_name.into(),
            version: OLDEST_VERSION,
            state: State::Hello,
            position: None,
            placed: false,
            mode: Mode::Pull,
            asked: 0,
            waiting: VecDeque::new(),
            dropped_through: 0,
            wanted: None,
            without_archive: false,
            told: None,
        }
    }

    /// Takes bytes of the updater.
    ///
    /// # Errors
    ///
    /// When it breaks the protocol: hang up.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        self.frames.push(bytes);
        while let Some(request) = self.frames.pop()? {
            self.state = match (&self.state, request) {
                (State::Hello, Request::Hello { oldest, newest, .. }) => {
                    if oldest <= VERSION && OLDEST_VERSION <= newest {
                        State::Welcome { version: newest.min(VERSION) }
                    } else {
                        State::Refuse(Refusal::Version { oldest: OLDEST_VERSION, newest: VERSION })
                    }
                }
                (State::Hello | State::Welcome { .. }, Request::Follow { .. }) => {
                    return Err(ProtocolError::OutOfPlace { what: "a request before the welcome" });
                }
                (State::Follow, Request::Follow { from, mode }) => {
                    self.mode = mode;
                    State::Asked(from)
                }
                (_, Request::Hello { .. }) => {
                    return Err(ProtocolError::OutOfPlace { what: "a second hello" });
                }
                (_, Request::Follow { .. }) => {
                    return Err(ProtocolError::OutOfPlace { what: "a second request" });
                }
            };
        }
        Ok(())
    }

    /// The next frame, if there is something to say at `now`. If not, ask
    /// [what it wants to read](Session::poll_read).
    pub fn poll_transmit(&mut self, log: &Log, now: BootTime) -> Option<Vec<u8>> {
        loop {
            let reply = match &self.state {
                State::Hello | State::Follow | State::Finished => return None,
                &State::Welcome { version } => {
                    self.version = version;
                    self.state = State::Follow;
                    let incarnation = log.incarnation();
                    Reply::Welcome { version, incarnation, host_name: self.host_name.clone() }
                }
                State::Refuse(refusal) => {
                    let reply = Reply::Refused(*refusal);
                    self.state = State::Finished;
                    reply
                }
                &State::Asked(from) => {
                    self.state = self.begin(from, log);
                    continue;
                }
                State::Telling => return self.tell(log, now).map(|reply| encode(&reply)),
            };
            return Some(encode(&reply));
        }
    }

    /// Where to begin.
    fn begin(&mut self, from: Option<Position>, log: &Log) -> State {
        let incarnation = log.incarnation();
        let here = from.filter(|from| from.incarnation == incarnation);
        let newest = log.newest();
        if let Some(Position { sequence: asked, .. }) = here.filter(|here| here.sequence > newest) {
            return State::Refuse(Refusal::Ahead { asked, newest });
        }
        self.asked = newest;
        if self.version == 1 {
            self.position = here.or(Some(Position { incarnation, sequence: 0 }));
            (self.placed, self.without_archive) = (true, true);
        } else {
            self.position = from.filter(|from| from.incarnation.host == incarnation.host);
        }
        State::Telling
    }

    fn tell(&mut self, log: &Log, now: BootTime) -> Option<Reply> {
        if let Some(reply) = self.waiting.pop_front() {
            return Some(reply);
        }
        let mut here = self.position.filter(|position| position.incarnation == log.incarnation());
        if here.is_none() && self.without_archive {
            // Nothing of earlier ones, then.
            here = Some(Position { incarnation: log.incarnation(), sequence: 0 });
            (self.position, self.placed) = (here, false);
        }
        let since = here.map(|here| log.since(here.sequence));
        let reaches = matches!(since, Some(Since::Next(_))) || self.without_archive;
        let Some(here) = here.filter(|here| reaches && here.sequence >= self.dropped_through)
        else {
            let (position, dropped_through) = (self.position, self.dropped_through);
            self.wanted = Some(Wanted { position, dropped_through });
            return None;
        };
        if !self.placed {
            self.placed = true;
            return Some(Reply::Incarnation(here));
        }
        if let Some(Since::Dropped { until, through }) = since {
            self.wait(log.still_true(), Reply::StillTrue);
            self.know(through);
            return Some(Reply::Dropped { until, through });
        }
        let (events, _) = batch(&mut log.events(here.sequence).cloned(), self.version);
        if let Some(last) = events.last() {
            self.know(last.sequence);
            return Some(Reply::Events(events));
        }
        // What had happened when it asked is not on disk yet.
        if self.mode == Mode::Pull && here.sequence < self.asked {
            return None;
        }
        let silent = match self.told {
            Some((sequence, at)) => sequence == here.sequence && now < at.plus(HEARTBEAT),
            None => false,
        };
        if silent {
            return None;
        }
        self.told = Some((here.sequence, now));
        if self.mode == Mode::Pull {
            self.state = State::Finished;
        }
        let watched_until = log.told_until();
        Some(Reply::UpToDate { sequence: here.sequence, watched_until, now })
    }

    /// What it wants of the archive before it can say more; answer with [`Session::supply`]. Ask
    /// after [`Session::poll_transmit`] had nothing.
    #[must_use]
    pub fn poll_read(&self) -> Option<Wanted> {
        self.wanted
    }

    /// Takes what the archive has.
    pub fn supply(&mut self, supply: Supply) {
        let Some(Wanted { position, .. }) = self.wanted.take() else { return };
        match (supply, position) {
            // What is left of it went while it was told: a new conversation begins behind it.
            (Supply::Next { .. }, Some(known)) if self.dropped_through > known.sequence => {
                self.state = State::Finished;
            }
            (Supply::Next { ended, position: next }, known) => {
                if let Some((watched_until, known)) = ended.zip(known) {
                    self.place(known);
                    self.waiting.push_back(Reply::Ended { watched_until });
                }
                (self.position, self.placed, self.dropped_through) = (Some(next), false, 0);
            }
            (Supply::Events(events), Some(position)) => {
                self.place(position);
                let last = events.last().map(|event| event.sequence);
                self.wait(events, Reply::Events);
                self.know(last.unwrap_or(position.sequence));
            }
            (Supply::Dropped { until, through, still_true }, Some(position)) => {
                self.place(position);
                self.waiting.push_back(Reply::Dropped { until, through });
                self.wait(still_true, Reply::StillTrue);
                self.dropped_through = through;
            }
            (Supply::Kept { through, mut events }, Some(position)) => {
                self.place(position);
                // The end of the listing may have the number of the event before it, so it goes
                // into the same frame.
                let listed = events.pop_if(|last| last.change == Change::Listed);
                self.wait(events, |events| {
                    let through = events.last().map_or(through, |last| last.sequence);
                    Reply::Kept { through, events }
                });
                match (self.waiting.back_mut(), listed) {
                    (Some(Reply::Kept { through: last, events }), listed) => {
                        *last = through;
                        events.extend(listed);
                    }
                    (_, listed) => {
                        let events = listed.into_iter().collect();
                        self.waiting.push_back(Reply::Kept { through, events });
                    }
                }
                self.know(through);
            }
            (Supply::Lost, _) if self.dropped_through > position.map_or(0, |p| p.sequence) => {
                // In the middle of what is left: a new conversation begins that again.
                self.state = State::Finished;
            }
            (Supply::Lost, _) => self.without_archive = true,
            (_, _) => {}
        }
    }

    /// What was told, so that the position moves with it.
    fn know(&mut self, sequence: u64) {
        if let Some(position) = &mut self.position {
            position.sequence = sequence;
        }
    }

    /// Says whose numbers come, unless it was said.
    fn place(&mut self, position: Position) {
        if !std::mem::replace(&mut self.placed, true) {
            self.waiting.push_back(Reply::Incarnation(position));
        }
    }

    /// Lets events wait, a frame's worth in each reply.
    fn wait(&mut self, events: Vec<Event>, reply: impl Fn(Vec<Event>) -> Reply) {
        let mut events = events.into_iter();
        loop {
            let (batch, whole) = batch(&mut events, self.version);
            if !batch.is_empty() {
                self.waiting.push_back(reply(batch));
            }
            if whole {
                return;
            }
        }
    }

    /// When to ask for a frame again, though nothing happened.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<BootTime> {
        let (_, at) = self.told.filter(|_| matches!(self.state, State::Telling))?;
        Some(at.plus(HEARTBEAT))
    }

    /// Whether the updater has asked for something; if not, and it hangs up, it never will.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        matches!(self.state, State::Asked(_) | State::Telling | State::Refuse(_))
    }

    /// Whether all is said and the stream can be closed.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished)
    }
}

/// As many events as go into one frame, at least one if there is one; and whether there are no
/// more.
fn batch(events: &mut impl Iterator<Item = Event>, version: u16) -> (Vec<Event>, bool) {
    let mut room = BATCH;
    let mut batch = Vec::new();
    while room > 0 {
        let Some(event) = events.next() else { return (batch, true) };
        let (event, bytes) = bounded(if version == 1 { in_version_1(event) } else { event });
        batch.push(event);
        room = room.saturating_sub(bytes);
    }
    (batch, false)
}

/// Version 1 does not know all changes. Its numbers have no holes, so each of the others is told as
/// one that changes nothing: the end of socket 0, which does not exist.
fn in_version_1(event: Event) -> Event {
    let change = match event.change {
        Change::Details(_) | Change::Translation(_) | Change::TranslationGone(_) => {
            Change::Close(Close { id: SocketId(0), last_seen: event.time })
        }
        known => known,
    };
    Event { change, ..event }
}

/// Cuts a text to what is told of one.
fn cut(text: &mut SmolStr) {
    if text.len() > MOST_TEXT {
        *text = text[..text.floor_char_boundary(MOST_TEXT)].into();
    }
}

/// Cuts an event to what fits in a frame, whatever a process calls itself; and how many bytes it
/// takes, at most.
fn bounded(mut event: Event) -> (Event, usize) {
    let mut bytes = 100;
    match &mut event.change {
        Change::Process(process) => {
            let more = [&mut process.executable, &mut process.user, &mut process.container];
            let more = more.into_iter().chain([&mut process.unit]).flatten();
            for text in more.chain([&mut process.comm]) {
                cut(text);
                bytes += text.len();
            }
        }
        Change::Details(details) => {
            let fits = |one: &Ancestor| one.comm.len() <= MOST_TEXT;
            if details.ancestors.len() > MOST_ANCESTORS || !details.ancestors.iter().all(fits) {
                let ancestors = details.ancestors.iter().take(MOST_ANCESTORS).cloned();
                let short = ancestors.map(|mut ancestor| {
                    cut(&mut ancestor.comm);
                    ancestor
                });
                details.ancestors = short.collect();
            }
            bytes += details.ancestors.iter().map(|one| 20 + one.comm.len()).sum::<usize>();
            if let Some(words) = &mut details.command_line {
                let mut room = MOST_TEXT;
                words.truncate(MOST_WORDS);
                for word in words {
                    word.truncate(word.floor_char_boundary(room));
                    room = room.saturating_sub(word.len());
                    bytes += 2 + word.len();
                }
            }
        }
        Change::Namespace(namespace) => {
            if let Some(name) = &mut namespace.name {
                name.truncate(name.floor_char_boundary(MOST_TEXT));
                bytes += name.len();
            }
        }
        Change::Open(Open { owners, .. }) | Change::Owners(Owners { owners, .. }) => {
            owners.truncate(MOST_OWNERS);
            bytes += owners.len() * 14;
        }
        _ => {}
    }
    (event, bytes)
}
