//! When a TCP connection is over: reset, or finished from both sides and both ends acknowledged.
//!
//! A closed flow stays for a moment (the cache's linger), so that the last acknowledgment and a repeated
//! FIN do not become a flow of their own. A SYN with another initial sequence number ends that moment: it
//! begins a new connection of the same ports.

use super::{Both, Direction};
use crate::packet::{Tcp, TcpFlags};

/// How far a connection is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closing {
    /// Of each side: the sequence number after its FIN.
    fin: Both<u32>,
    /// Of each side: its initial sequence number.
    initial: Both<u32>,
    /// Of each side: whether there is one.
    opened: Both<bool>,
    finished: Both<bool>,
    acknowledged: Both<bool>,
    reset: Option<Direction>,
    /// Who finished first.
    first: Option<Direction>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseStyle {
    /// It is not known to have ended.
    Open,
    /// One side has finished, or both, and not both ends are acknowledged.
    HalfClosed,
    /// Finished and acknowledged, first from the initiator.
    FinishedByInitiator,
    /// Finished and acknowledged, first from the responder.
    FinishedByResponder,
    /// Reset by the initiator.
    ResetByInitiator,
    /// Reset by the responder.
    ResetByResponder,
}

impl CloseStyle {
    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::HalfClosed => "half-closed",
            Self::FinishedByInitiator => "fin-initiator",
            Self::FinishedByResponder => "fin-responder",
            Self::ResetByInitiator => "rst-initiator",
            Self::ResetByResponder => "rst-responder",
        }
    }
}

impl Closing {
    /// Takes in a segment.
    #[inline]
    pub(crate) fn see(&mut self, direction: Direction, tcp: &Tcp, payload: u32) {
        let flags = tcp.flags;
        let rare = TcpFlags::FIN.0 | TcpFlags::SYN.0 | TcpFlags::RST.0;
        if flags.0 & rare == 0 && self.first.is_none() {
            return;
        }
        if flags.has(TcpFlags::SYN) && !*self.opened.of(direction) {
            *self.opened.of_mut(direction) = true;
            *self.initial.of_mut(direction) = tcp.sequence;
        }
        if flags.has(TcpFlags::FIN) && !*self.finished.of(direction) {
            *self.finished.of_mut(direction) = true;
            *self.fin.of_mut(direction) = tcp.next_sequence(payload);
            self.first.get_or_insert(direction);
        }
        if flags.has(TcpFlags::RST) {
            self.reset.get_or_insert(direction);
        }
        let other = direction.other();
        if flags.has(TcpFlags::ACK) && *self.finished.of(other) {
            // At or after it, in the arithmetic of RFC 9293 section 3.4.
            let beyond = tcp.acknowledgment.wrapping_sub(*self.fin.of(other));
            *self.acknowledged.of_mut(other) |= beyond < 1 << 31;
        }
    }

    /// Whether the connection is over.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.reset.is_some() || (self.acknowledged.forward && self.acknowledged.reverse)
    }

    /// Whether this segment begins another connection after the end of this one.
    pub(crate) fn is_reopened_by(&self, direction: Direction, tcp: &Tcp) -> bool {
        let again = *self.opened.of(direction) && *self.initial.of(direction) == tcp.sequence;
        self.is_closed() && tcp.flags.has(TcpFlags::SYN) && !again
    }

    /// The initial sequence number of a side, if its SYN was seen.
    pub(crate) fn initial(&self, direction: Direction) -> Option<u32> {
        self.opened.of(direction).then_some(*self.initial.of(direction))
    }

    /// Whether a SYN of either side was seen.
    #[must_use]
    pub const fn saw_opening(&self) -> bool {
        self.opened.forward || self.opened.reverse
    }

    /// Whether the SYNs of both sides were seen.
    #[must_use]
    pub const fn saw_both_open(&self) -> bool {
        self.opened.forward && self.opened.reverse
    }

    /// How it ended.
    #[must_use]
    pub const fn style(&self) -> CloseStyle {
        match (self.reset, self.is_closed(), self.first) {
            (Some(Direction::Forward), ..) => CloseStyle::ResetByInitiator,
            (Some(Direction::Reverse), ..) => CloseStyle::ResetByResponder,
            (None, true, Some(Direction::Reverse)) => CloseStyle::FinishedByResponder,
            (None, true, _) => CloseStyle::FinishedByInitiator,
            (None, false, Some(_)) => CloseStyle::HalfClosed,
            (None, false, None) => CloseStyle::Open,
        }
    }
}
