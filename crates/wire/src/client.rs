//! The updater's side of one stream: a machine that takes a tracker's bytes and gives what they
//! say, each event exactly once and in order.
//!
//! Its position is what to keep: a new machine with it goes on where this one stopped, over any
//! number of dropped connections and restarts of the tracker.

use procflow_binding::{BootTime, Change, Event, HostId, Incarnation, Position};

use crate::codec::{Frames, MOST_REPLY, encode};
use crate::message::{Mode, OLDEST_VERSION, ProtocolError, Reply, Request, VERSION};

/// A conversation with one tracker.
#[derive(Debug)]
pub struct Client {
    frames: Frames,
    host: HostId,
    program: String,
    mode: Mode,
    state: State,
    position: Option<Position>,
    /// As agreed on.
    version: u16,
    /// Whether it was told which incarnation's events come; with version 1 the welcome says so.
    placed: bool,
    /// While what is left is told: the last number that was dropped.
    dropped_through: Option<u64>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Hello,
    Welcome,
    Follow,
    Listening,
    Finished,
}

/// What a tracker told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Who speaks.
    Welcome {
        /// The tracker's present start.
        incarnation: Incarnation,
        /// The host's name, for people. Any text.
        host_name: String,
    },
    /// What follows is of this incarnation: one that is over, or the present one.
    Incarnation(Incarnation),
    /// Events are missing for good: everything before this moment. What is still true follows.
    Dropped(BootTime),
    /// An event.
    Event(Event),
    /// That was all of an incarnation that is over: everything until then is told.
    Ended(BootTime),
    /// That was all, for now.
    UpToDate {
        /// Everything until then is told.
        watched_until: BootTime,
        /// The tracker's boot-time clock as this was sent.
        now: BootTime,
    },
}

impl Client {
    /// A conversation with the tracker of `host` (which is what its key says), from a position on.
    #[must_use]
    pub fn new(
        program: impl Into<String>,
        host: HostId,
        from: Option<Position>,
        mode: Mode,
    ) -> Self {
        Self {
            frames: Frames::new(MOST_REPLY),
            host,
            program: program.into(),
            mode,
            state: State::Hello,
            position: from,
            version: OLDEST_VERSION,
            placed: false,
            dropped_through: None,
        }
    }

    /// The next frame to send, if it is the updater's turn.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        match self.state {
            State::Hello => {
                self.state = State::Welcome;
                let (oldest, newest, program) = (OLDEST_VERSION, VERSION, self.program.clone());
                Some(encode(&Request::Hello { oldest, newest, program }))
            }
            State::Follow => {
                self.state = State::Listening;
                Some(encode(&Request::Follow { from: self.position, mode: self.mode }))
            }
            State::Welcome | State::Listening | State::Finished => None,
        }
    }

    /// Takes bytes of the tracker and hands on what they say.
    ///
    /// # Errors
    ///
    /// When it breaks the protocol: hang up. What was handed on before stays true.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        mut deliver: impl FnMut(Delivery),
    ) -> Result<(), ProtocolError> {
        self.frames.push(bytes);
        while let Some(reply) = self.frames.pop()? {
            self.hear(reply, &mut deliver)?;
        }
        Ok(())
    }

    fn hear(
        &mut self,
        reply: Reply,
        deliver: &mut impl FnMut(Delivery),
    ) -> Result<(), ProtocolError> {
        match (&self.state, reply) {
            (_, Reply::Refused(refusal)) => return Err(ProtocolError::Refused(refusal)),
            (State::Welcome, Reply::Welcome { version, incarnation, host_name }) => {
                if !(OLDEST_VERSION..=VERSION).contains(&version) {
                    return Err(ProtocolError::Version(version));
                }
                if incarnation.host != self.host {
                    return Err(ProtocolError::ForeignHost);
                }
                self.version = version;
                self.state = State::Follow;
                deliver(Delivery::Welcome { incarnation, host_name });
                if version == 1 {
                    if self.position.is_none_or(|position| position.incarnation != incarnation) {
                        self.position = Some(Position { incarnation, sequence: 0 });
                    }
                    self.placed = true;
                    deliver(Delivery::Incarnation(incarnation));
                }
            }
            (State::Listening, reply) => return self.listen(reply, deliver),
            (_, Reply::Welcome { .. }) => {
                return Err(ProtocolError::OutOfPlace { what: "a welcome" });
            }
            (_, _) => return Err(ProtocolError::OutOfPlace { what: "an answer" }),
        }
        Ok(())
    }

    fn listen(
        &mut self,
        reply: Reply,
        deliver: &mut impl FnMut(Delivery),
    ) -> Result<(), ProtocolError> {
        let later = match &reply {
            Reply::Incarnation(_) => Some("a change of incarnation"),
            Reply::Kept { .. } => Some("what is left"),
            Reply::Ended { .. } => Some("the end of an incarnation"),
            _ => None,
        };
        if let (1, Some(what)) = (self.version, later) {
            return Err(ProtocolError::TooNew { what, version: self.version });
        }
        if let (Reply::Incarnation(place), None) = (&reply, self.dropped_through) {
            return self.go_to(*place, deliver);
        }
        let Some(position) = self.position.as_mut().filter(|_| self.placed) else {
            return Err(ProtocolError::OutOfPlace { what: "an answer before its incarnation" });
        };
        let due = position.sequence.saturating_add(1);
        match (reply, self.dropped_through) {
            (Reply::Events(events), None) => {
                for event in events {
                    let wanted = position.sequence.saturating_add(1);
                    if event.sequence != wanted {
                        return Err(ProtocolError::Hole { wanted, got: event.sequence });
                    }
                    position.sequence = wanted;
                    deliver(Delivery::Event(event));
                }
            }
            // Once more is dropped while what is left is told.
            (Reply::Dropped { until, through }, dropped)
                if dropped.is_none() || self.version > 1 =>
            {
                if through <= position.sequence || dropped.is_some_and(|d| through <= d) {
                    return Err(ProtocolError::Hole { wanted: due, got: through });
                }
                self.dropped_through = Some(through);
                deliver(Delivery::Dropped(until));
            }
            (Reply::StillTrue(events), Some(through)) => {
                for event in events {
                    if event.sequence > through {
                        return Err(ProtocolError::Hole { wanted: through, got: event.sequence });
                    }
                    let last = event.change == Change::Listed;
                    deliver(Delivery::Event(event));
                    if last {
                        // Only now: a connection that breaks in between begins this anew.
                        position.sequence = through;
                        self.dropped_through = None;
                    }
                }
            }
            (Reply::Kept { through, events }, Some(dropped)) => {
                if through <= position.sequence || through > dropped {
                    return Err(ProtocolError::Hole { wanted: due, got: through });
                }
                let mut last = false;
                for event in events {
                    last = event.change == Change::Listed && event.sequence == dropped;
                    if event.sequence <= position.sequence && !last || event.sequence > through {
                        return Err(ProtocolError::Hole { wanted: due, got: event.sequence });
                    }
                    position.sequence = event.sequence;
                    deliver(Delivery::Event(event));
                }
                position.sequence = through;
                if last {
                    self.dropped_through = None;
                }
            }
            (Reply::Ended { watched_until }, None) => {
                self.placed = false;
                deliver(Delivery::Ended(watched_until));
            }
            (Reply::UpToDate { sequence, watched_until, now }, None) => {
                if sequence != position.sequence {
                    let wanted = position.sequence;
                    return Err(ProtocolError::Hole { wanted, got: sequence });
                }
                if self.mode == Mode::Pull {
                    self.state = State::Finished;
                }
                deliver(Delivery::UpToDate { watched_until, now });
            }
            (Reply::StillTrue(_), None) => {
                return Err(ProtocolError::OutOfPlace { what: "old events" });
            }
            (_, _) => return Err(ProtocolError::OutOfPlace { what: "an answer" }),
        }
        Ok(())
    }

    /// The tracker says where it goes on: where this side is, or at the beginning of another
    /// incarnation.
    fn go_to(
        &mut self,
        place: Position,
        deliver: &mut impl FnMut(Delivery),
    ) -> Result<(), ProtocolError> {
        if place.incarnation.host != self.host {
            return Err(ProtocolError::ForeignHost);
        }
        let known = self.position.filter(|known| known.incarnation == place.incarnation);
        let wanted = known.map_or(0, |known| known.sequence);
        if place.sequence != wanted {
            return Err(ProtocolError::Hole { wanted, got: place.sequence });
        }
        self.position = Some(place);
        self.placed = true;
        deliver(Delivery::Incarnation(place.incarnation));
        Ok(())
    }

    /// What is known so far; kept for the next conversation.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Whether all that was asked for has come.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.state == State::Finished
    }
}
