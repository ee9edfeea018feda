//! The handshake of a TCP connection (RFC 9293 section 3.5), and how long its segments were on their way,
//! as seen from the place of capture.

use super::Direction;
use crate::key::Timestamp;
use crate::packet::TcpFlags;

/// When a connection was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshake {
    /// When the SYN was seen last before it was answered, then the answer, then its acknowledgment.
    syn: Option<Timestamp>,
    accepted: Option<Timestamp>,
    established: Option<Timestamp>,
}

impl Handshake {
    /// Takes in a segment.
    pub(crate) fn see(&mut self, direction: Direction, flags: TcpFlags, time: Timestamp) {
        match direction {
            Direction::Forward if flags.opens() && self.accepted.is_none() => self.syn = Some(time),
            Direction::Reverse if flags.accepts() && self.established.is_none() => {
                self.accepted.get_or_insert(time);
            }
            Direction::Forward if flags.has(TcpFlags::ACK) && self.accepted.is_some() => {
                self.established.get_or_insert(time);
            }
            _ => {}
        }
    }

    /// Whether all of it was seen.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.established.is_some()
    }

    /// From the SYN to its answer, in nanoseconds: the way from here to the responder and back.
    #[must_use]
    pub fn responder_round_trip(&self) -> Option<u64> {
        between(self.syn?, self.accepted?)
    }

    /// From the answer to its acknowledgment, in nanoseconds: the way from here to the initiator and back.
    #[must_use]
    pub fn initiator_round_trip(&self) -> Option<u64> {
        between(self.accepted?, self.established?)
    }

    /// Both ways together, in nanoseconds.
    #[must_use]
    pub fn round_trip(&self) -> Option<u64> {
        between(self.syn?, self.established?)
    }
}

fn between(a: Timestamp, b: Timestamp) -> Option<u64> {
    u64::try_from(b.0.checked_sub(a.0)?).ok()
}
