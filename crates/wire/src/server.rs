//! The tracker's side of one stream: a machine that takes an updater's bytes and gives it frames
//! of the log, one at a time, whenever the stream has room.
//!
//! It holds a position, not a copy: a slow updater costs nothing but the log's own bound.

use procflow_binding::{BootTime, Change, Event, Log, MOST_OWNERS, Open, Owners, Position, Since};

use crate::codec::{Frames, MOST_REQUEST, encode};
use crate::message::{Mode, OLDEST_VERSION, ProtocolError, Refusal, Reply, Request, VERSION};

/// An updater that stays is told at least so often that nothing happened, in nanoseconds.
pub const HEARTBEAT: u64 = 1_000_000_000;

/// How many bytes of events go into one frame, roughly: far below `MOST_REPLY`, and large enough
/// that a frame's own cost does not show.
const BATCH: usize = 64 << 10;

/// How many bytes of a fact of a process are sent: the kernel's own bound for a path.
const MOST_TEXT: usize = 4096;

/// A conversation with one updater.
#[derive(Debug)]
pub struct Session {
    frames: Frames,
    host_name: String,
    state: State,
    /// What the updater knows.
    sequence: u64,
    mode: Mode,
    /// Still true, not yet sent.
    old: std::vec::IntoIter<Event>,
    told: Option<(u64, BootTime)>,
}

#[derive(Debug)]
enum State {
    Hello,
    Welcome {
        /// The newest that both speak. Once there are two, the session must remember it.
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
            state: State::Hello,
            sequence: 0,
            mode: Mode::Pull,
            old: Vec::new().into_iter(),
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

    /// The next frame, if there is something to say at `now`.
    pub fn poll_transmit(&mut self, log: &Log, now: BootTime) -> Option<Vec<u8>> {
        loop {
            let reply = match &self.state {
                State::Hello | State::Follow | State::Finished => return None,
                &State::Welcome { version } => {
                    self.state = State::Follow;
                    let incarnation = log.incarnation();
                    Reply::Welcome { version, incarnation, host_name: self.host_name.clone() }
                }
                State::Refuse(refusal) => {
                    let reply = Reply::Refused(*refusal);
                    self.state = State::Finished;
                    reply
                }
                State::Asked(from) => {
                    let known = from.filter(|from| from.incarnation == log.incarnation());
                    let (asked, newest) = (known.map_or(0, |from| from.sequence), log.newest());
                    if asked > newest {
                        self.state = State::Refuse(Refusal::Ahead { asked, newest });
                        continue;
                    }
                    self.sequence = asked;
                    self.state = State::Telling;
                    continue;
                }
                State::Telling => return self.tell(log, now).map(|reply| encode(&reply)),
            };
            return Some(encode(&reply));
        }
    }

    fn tell(&mut self, log: &Log, now: BootTime) -> Option<Reply> {
        let old = batch(self.old.by_ref());
        if !old.is_empty() {
            return Some(Reply::StillTrue(old));
        }
        if let Since::Dropped { until, through } = log.since(self.sequence) {
            self.old = log.still_true().into_iter();
            self.sequence = through;
            return Some(Reply::Dropped { until, through });
        }
        let events = batch(log.events(self.sequence).cloned());
        if let Some(last) = events.last() {
            self.sequence = last.sequence;
            return Some(Reply::Events(events));
        }
        let silent = match self.told {
            Some((sequence, at)) => sequence == self.sequence && now < at.plus(HEARTBEAT),
            None => false,
        };
        if silent {
            return None;
        }
        self.told = Some((self.sequence, now));
        if self.mode == Mode::Pull {
            self.state = State::Finished;
        }
        let watched_until = log.watched_until();
        Some(Reply::UpToDate { sequence: self.sequence, watched_until, now })
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

/// As many events as go into one frame, at least one if there is one.
fn batch(events: impl Iterator<Item = Event>) -> Vec<Event> {
    let mut room = BATCH;
    let mut batch = Vec::new();
    for event in events {
        let (event, bytes) = bounded(event);
        batch.push(event);
        room = room.saturating_sub(bytes);
        if room == 0 {
            break;
        }
    }
    batch
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
                text.truncate(text.floor_char_boundary(MOST_TEXT));
                bytes += text.len();
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
