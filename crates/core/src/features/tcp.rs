//! What TCP tells of the path and of both ends: round trips of the handshake, data that was sent again,
//! windows.
//!
//! Seen from the place of capture: a segment that was lost before it came here, and sent again, was sent
//! once to us; and one that came late is told from one that was sent again only by its place in the
//! sequence.

use super::{Family, Step};
use crate::flow::{Both, Handshake};
use crate::packet::TcpFlags;

/// One side of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpSide {
    /// The sequence number after the last octet seen.
    next: u32,
    seen: bool,
    /// Segments with octets, SYN or FIN that were seen before.
    pub retransmitted: u32,
    /// Octets of payload in them.
    pub retransmitted_octets: u32,
    /// Segments that began beyond what was expected: something in front of them is missing.
    pub ahead: u32,
    /// Segments that closed the window.
    pub zero_windows: u32,
    /// The window of the first segment, as in the header.
    pub first_window: u16,
    /// The smallest window after the SYN.
    pub least_window: u16,
    /// The largest window after the SYN.
    pub most_window: u16,
    /// Segments with payload.
    pub with_payload: u32,
    /// The shortest header, in octets; 0 without segments.
    pub least_header: u8,
}

/// Both sides of a connection.
#[derive(Clone, Debug, Default)]
pub struct TcpState {
    /// The two sides.
    pub sides: Both<TcpSide>,
    handshake: Handshake,
}

impl TcpState {
    /// From the SYN to its answer, in nanoseconds: the way from here to the responder and back.
    #[must_use]
    pub fn responder_round_trip(&self) -> Option<u64> {
        self.handshake.responder_round_trip()
    }

    /// From the answer to its acknowledgment, in nanoseconds: the way from here to the initiator and back.
    #[must_use]
    pub fn initiator_round_trip(&self) -> Option<u64> {
        self.handshake.initiator_round_trip()
    }

    /// Both ways together, in nanoseconds.
    #[must_use]
    pub fn handshake_round_trip(&self) -> Option<u64> {
        self.handshake.round_trip()
    }
}

impl Family for TcpState {
    #[inline]
    fn see(&mut self, step: &Step<'_>) {
        let payload = step.packet.lengths.payload;
        let side = self.sides.of_mut(step.direction);
        if payload > 0 {
            side.with_payload += 1;
        }
        let Some(tcp) = step.tcp() else {
            // Of protocols without a header that varies: what transport and payload leave.
            let header = step.packet.lengths.transport - payload;
            side.least_header = u8::try_from(header).unwrap_or(u8::MAX);
            return;
        };
        side.least_header = match side.least_header {
            0 => tcp.header,
            least => least.min(tcp.header),
        };
        let syn = tcp.flags.has(TcpFlags::SYN);
        let end = tcp.next_sequence(payload);
        if !side.seen {
            side.seen = true;
            side.first_window = tcp.window;
            (side.least_window, side.most_window) = (u16::MAX, 0);
            side.next = end;
        } else if end != tcp.sequence {
            // How far it begins from what is expected, in the arithmetic of RFC 9293 section 3.4.
            let ahead = tcp.sequence.wrapping_sub(side.next) as i32;
            let beyond = end.wrapping_sub(side.next) as i32;
            if ahead > 0 {
                side.ahead += 1;
            } else if beyond <= 0 {
                side.retransmitted += 1;
                side.retransmitted_octets = side.retransmitted_octets.saturating_add(payload);
            }
            if beyond > 0 {
                side.next = end;
            }
        }
        if !syn && !tcp.flags.has(TcpFlags::RST) {
            side.least_window = side.least_window.min(tcp.window);
            side.most_window = side.most_window.max(tcp.window);
            side.zero_windows += u32::from(tcp.window == 0);
        }
        if !self.handshake.is_over() {
            self.handshake.see(step.direction, tcp.flags, step.packet.time);
        }
    }
}
