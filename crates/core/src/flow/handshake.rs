//! The handshake of a TCP connection (RFC 9293 section 3.5), and how long its segments were on their way,
//! as seen from the place of capture.

use super::{Direction, Moment};
use crate::key::Timestamp;
use crate::packet::TcpFlags;

/// When a connection was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshake {
    /// When the SYN was seen last before it was answered, then the answer, then its acknowledgment.
    syn: Moment,
    accepted: Moment,
    established: Moment,
}

impl Handshake {
    /// Takes in a segment.
    pub(crate) fn see(&mut self, direction: Direction, flags: TcpFlags, time: Timestamp) {
        match direction {
            Direction::Forward if flags.opens() && self.accepted.get().is_none() => {
                self.syn = Moment::at(time);
            }
            Direction::Reverse if flags.accepts() && self.established.get().is_none() => {
                self.accepted.keep(time);
            }
            Direction::Forward if flags.has(TcpFlags::ACK) && self.accepted.get().is_some() => {
                self.established.keep(time);
            }
            _ => {}
        }
    }

    /// Whether all of it was seen.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.established.get().is_some()
    }

    /// From the SYN to its answer, in nanoseconds: the way from here to the responder and back.
    #[must_use]
    pub fn responder_round_trip(&self) -> Option<u64> {
        between(self.syn.get()?, self.accepted.get()?)
    }

    /// From the answer to its acknowledgment, in nanoseconds: the way from here to the initiator and back.
    #[must_use]
    pub fn initiator_round_trip(&self) -> Option<u64> {
        between(self.accepted.get()?, self.established.get()?)
    }

    /// Both ways together, in nanoseconds.
    #[must_use]
    pub fn round_trip(&self) -> Option<u64> {
        between(self.syn.get()?, self.established.get()?)
    }
}

fn between(a: Timestamp, b: Timestamp) -> Option<u64> {
    u64::try_from(b.0.checked_sub(a.0)?).ok()
}
