//! The messages of the event service.
//!
//! bincode does not describe itself, so what is written here **is** the format: variants are
//! numbered in their order, new ones go to the end, fields of a version that has shipped never
//! change. Tests hold the bytes.

use procflow_binding::{BootTime, Event, Incarnation, Position};
use serde::{Deserialize, Serialize};

/// The version that this code speaks.
///
/// * 1: one incarnation, that of now.
/// * 2: also what is kept of earlier ones; details of processes, and translations.
pub const VERSION: u16 = 2;

/// The oldest version that it still understands: the one before.
pub const OLDEST_VERSION: u16 = 1;

/// What an updater says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// First on every stream.
    Hello {
        /// The oldest version it understands.
        oldest: u16,
        /// The newest version it understands.
        newest: u16,
        /// Program and version, for the tracker's log.
        program: String,
    },
    /// Asks for events.
    Follow {
        /// What it knows already; `None` for nothing. In version 1 a position in another
        /// incarnation counts as nothing.
        from: Option<Position>,
        /// Until when.
        mode: Mode,
    },
}

/// How long an updater stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Until it knows all there is now.
    Pull,
    /// Until one side hangs up.
    Subscribe,
}

/// What a tracker says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Answers the hello.
    Welcome {
        /// The version that will be spoken.
        version: u16,
        /// Whose events these are, and which start of the tracker numbers them.
        incarnation: Incarnation,
        /// The host's name, for people.
        host_name: String,
    },
    /// Hangs up.
    Refused(Refusal),
    /// Some events that the updater asked for are no longer kept. What is still true of them
    /// follows.
    Dropped {
        /// Everything before this moment may be missing.
        until: BootTime,
        /// The last number that is missing.
        through: u64,
    },
    /// Still true, of what was dropped; in the order of their numbers, all at most `through`. The
    /// last one is `Listed`, unless `Kept` follows.
    StillTrue(Vec<Event>),
    /// The next events: their numbers follow each other and the position.
    Events(Vec<Event>),
    /// That was all.
    UpToDate {
        /// The newest number.
        sequence: u64,
        /// Everything until then is told.
        watched_until: BootTime,
        /// The tracker's boot-time clock as this is sent.
        now: BootTime,
    },
    /// What follows is numbered in this incarnation, and goes on after this number. (Since version
    /// 2, as all that follow.)
    Incarnation(Position),
    /// Of the numbers after the position up to `through`, only these are left; no more than
    /// `Dropped` said. The last of all is `Listed`.
    Kept {
        /// The position from now on.
        through: u64,
        /// Their numbers ascend, after the position and up to `through`.
        events: Vec<Event>,
    },
    /// That was all of this incarnation; another follows.
    Ended {
        /// Everything until then is told.
        watched_until: BootTime,
    },
}

/// Why a tracker hangs up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// No version in common.
    #[error("it speaks versions {oldest} to {newest} of the protocol only")]
    Version {
        /// The oldest that the tracker speaks.
        oldest: u16,
        /// The newest that the tracker speaks.
        newest: u16,
    },
    /// The updater claims to know events that were never produced.
    #[error("it has no event {asked} yet, its newest is {newest}")]
    Ahead {
        /// What the updater claims to know.
        asked: u64,
        /// The newest there is.
        newest: u64,
    },
}

/// The peer broke the protocol; the connection is of no further use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Bytes that are no message.
    #[error(transparent)]
    Frame(#[from] crate::codec::FrameError),
    /// A message where it does not belong.
    #[error("{what} at a point where it does not belong")]
    OutOfPlace {
        /// Which message.
        what: &'static str,
    },
    /// A part of a later version than was agreed on.
    #[error("{what}, which version {version} does not have")]
    TooNew {
        /// Which message.
        what: &'static str,
        /// The version that is spoken.
        version: u16,
    },
    /// An event is missing or repeated.
    #[error("event {got} came where {wanted} was due")]
    Hole {
        /// The number that was due.
        wanted: u64,
        /// The number that came.
        got: u64,
    },
    /// It speaks for a host that its key does not belong to.
    #[error("it speaks for another host than its key does")]
    ForeignHost,
    /// A version that was not offered.
    #[error("it answers in version {0}, which was not offered")]
    Version(u16),
    /// It hung up and said why.
    #[error("the tracker hung up: {0}")]
    Refused(Refusal),
}
