//! An event is one thing that happened in a session. The last one has the sums.

use super::RoundTrips;
use crate::flow::{Both, CloseStyle, Direction, EndReason, Handshake};
use crate::key::{FlowKey, Timestamp};

/// The number of a session: 1 for the first that began, and never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// One thing that happened in a session. Events of one session come in their order: at most one
/// [`Start`](EventKind::Start), in front of all data, and one [`End`](EventKind::End) after everything.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// In which one.
    pub session: SessionId,
    /// Between whom: the source is the initiator.
    pub key: FlowKey,
    /// The time of the packet that it became known by; of an end by a timeout, when that was over.
    pub time: Timestamp,
    /// What happened.
    pub kind: EventKind<'a>,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum EventKind<'a> {
    /// A SYN, or the SYN that answers one, was sent again.
    SynRetry {
        /// Who sent it.
        by: Direction,
    },
    /// The handshake is over, or was missed.
    Start {
        /// What of it was seen.
        opening: Opening,
    },
    /// The next octets of one direction. Each octet of it is told of once, here or as lost.
    Data {
        /// Which way they went.
        direction: Direction,
        /// The octets.
        payload: &'a [u8],
    },
    /// The next octets of one direction are not in the capture.
    Lost {
        /// Which way they went.
        direction: Direction,
        /// How many there are.
        octets: u64,
        /// Why they are not there.
        why: Loss,
    },
    /// A segment has octets that were seen before (or told of as lost before), or a FIN.
    Retransmission {
        /// Which way it went.
        direction: Direction,
        /// How many octets were seen before; 0 for a FIN alone.
        octets: u32,
    },
    /// Octets were sent again with another content before the first could be told of. The first count.
    Conflict {
        /// Which way they went.
        direction: Direction,
        /// How many differ.
        octets: u32,
    },
    /// A segment with payload was acknowledged, and nothing up to there was sent twice or came late (Karn's
    /// rule, RFC 6298 section 3).
    RoundTrip {
        /// Which way the payload went.
        direction: Direction,
        /// From the segment to the acknowledgment that covers it, in nanoseconds: the way from here to the
        /// receiver and back.
        nanoseconds: u64,
    },
    /// One side has reset the connection.
    Reset {
        /// Which one.
        by: Direction,
    },
    /// It is over.
    End(&'a Summary),
}

/// What of the opening of a connection was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opening {
    /// The SYNs of both sides.
    Full,
    /// That of one side.
    Half,
    /// Neither: the session was joined in its middle. Its data begin with the first octets that are seen.
    None,
}

impl Opening {
    /// What it is called, as in the column `handshake`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Half => "half",
            Self::None => "none",
        }
    }
}

/// Why octets that were sent are not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// No segment with them came: the receiver has acknowledged them, or the session has ended, or what came
    /// behind them could wait no longer.
    NotSeen,
    /// Their segment was captured in part.
    NotCaptured,
}

impl Loss {
    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotSeen => "not-seen",
            Self::NotCaptured => "not-captured",
        }
    }
}

/// What was counted of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// Packets.
    pub packets: u64,
    /// Octets of the headers of IP and TCP: what transport costs besides payload.
    pub header_octets: u64,
    /// Octets of payload, as often as they were sent.
    pub payload_octets: u64,
    /// Octets told in [`EventKind::Data`].
    pub data_octets: u64,
    /// Octets told as [`Loss::NotSeen`].
    pub not_seen_octets: u64,
    /// Octets told as [`Loss::NotCaptured`].
    pub not_captured_octets: u64,
    /// SYNs that were sent again.
    pub syn_retries: u64,
    /// Segments with octets or a FIN that were seen before.
    pub retransmissions: u64,
    /// Octets seen before in them.
    pub retransmitted_octets: u64,
    /// Segments that began beyond what was expected: something in front of them came later, or never.
    pub ahead: u64,
    /// Octets sent again with another content.
    pub conflicting_octets: u64,
    /// Segments whose sequence number is more than 2^30 from those before, the largest window there is (RFC
    /// 7323 section 2.3). Their payload is not told.
    pub out_of_window: u64,
    /// How long acknowledgments of its payload took.
    pub round_trips: RoundTrips,
}

/// A session, when it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Why it ended.
    pub reason: EndReason,
    /// How it was closed, if it was.
    pub style: CloseStyle,
    /// What of its opening was seen; `None` if it never came so far as to start.
    pub opening: Option<Opening>,
    /// When it was opened.
    pub handshake: Handshake,
    /// Its first packet.
    pub first: Timestamp,
    /// Its last packet.
    pub last: Timestamp,
    /// When it was closed: by a reset, or the last acknowledgment of both FINs.
    pub closed: Option<Timestamp>,
    /// What was counted of each direction.
    pub sides: Both<Side>,
}

impl Summary {
    /// From its first packet until it was closed, or else to its last packet, in nanoseconds.
    #[must_use]
    pub fn duration(&self) -> u64 {
        let Timestamp(end) = self.closed.unwrap_or(self.last);
        u64::try_from(end.saturating_sub(self.first.0)).unwrap_or(0)
    }
}
