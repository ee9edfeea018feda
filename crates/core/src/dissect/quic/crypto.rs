//! What CRYPTO frames carry (RFC 9000 section 19.6), put in order. They come in any order, and over several
//! packets: some clients shuffle their hello on purpose.

use super::number;
use crate::dissect::tls::{Carrier, Heard, Messages, Tls};

/// So many octets that came too early are kept, in so many pieces: a hello has a few thousand.
const WAITING: usize = 16 << 10;
const PIECES: usize = 64;

/// The handshake of one side.
#[derive(Debug, Default)]
pub(super) struct Crypto {
    messages: Messages,
    next: u64,
    waiting: Vec<(u64, Vec<u8>)>,
    kept: usize,
}

impl Crypto {
    /// So many octets are kept.
    pub(super) fn len(&self) -> usize {
        self.messages.len() + self.kept
    }

    /// Takes in the frames of a packet.
    pub(super) fn take(&mut self, frames: &[u8], tls: &mut Tls, carrier: Carrier) -> Heard {
        let mut rest = frames;
        while let Some((frame, behind)) = next_frame(rest) {
            rest = behind;
            if let Some((offset, octets)) = frame
                && self.piece(offset, octets, tls, carrier) == Heard::All
            {
                return Heard::All;
            }
        }
        Heard::More
    }

    fn piece(&mut self, offset: u64, octets: &[u8], tls: &mut Tls, carrier: Carrier) -> Heard {
        if offset > self.next {
            if self.kept + octets.len() > WAITING || self.waiting.len() >= PIECES {
                return Heard::All;
            }
            self.kept += octets.len();
            self.waiting.push((offset, octets.to_vec()));
            return Heard::More;
        }
        if self.hand_on(offset, octets, tls, carrier) == Heard::All {
            return Heard::All;
        }
        while let Some(place) = self.waiting.iter().position(|(offset, _)| *offset <= self.next) {
            let (offset, octets) = self.waiting.swap_remove(place);
            self.kept -= octets.len();
            if self.hand_on(offset, &octets, tls, carrier) == Heard::All {
                return Heard::All;
            }
        }
        Heard::More
    }

    fn hand_on(&mut self, offset: u64, octets: &[u8], tls: &mut Tls, carrier: Carrier) -> Heard {
        let seen = usize::try_from(self.next - offset).unwrap_or(usize::MAX);
        let Some(new) = octets.get(seen..) else { return Heard::More };
        self.next += new.len() as u64;
        self.messages.take(carrier, new, tls)
    }
}

/// What a CRYPTO frame has, and where; then what follows the frame. Nothing if no frame can be read on.
#[allow(clippy::type_complexity, reason = "named where it is used, once")]
fn next_frame(octets: &[u8]) -> Option<(Option<(u64, &[u8])>, &[u8])> {
    let (&kind, rest) = octets.split_first()?;
    match kind {
        // PADDING, PING.
        0 | 1 => Some((None, rest)),
        // ACK (section 19.3), with counts of ECN at its end in one of its forms.
        2 | 3 => {
            let (_, rest) = number(rest)?;
            let (_, rest) = number(rest)?;
            let (ranges, rest) = number(rest)?;
            let (_, mut rest) = number(rest)?;
            // Each takes two octets at least, so there are no more than there is room for.
            for _ in 0..ranges.checked_mul(2)?.checked_add(if kind == 3 { 3 } else { 0 })? {
                rest = number(rest)?.1;
            }
            Some((None, rest))
        }
        // Google's T050 and T051 have other numbers, which no frame of the IETF's initial packets has: CRYPTO is
        // 8, and this an ACK in its shortest form.
        0x40 => Some((None, rest.get(5..)?)),
        6 | 8 => {
            let (offset, rest) = number(rest)?;
            let (length, rest) = number(rest)?;
            let (octets, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            Some((Some((offset, octets)), rest))
        }
        _ => None,
    }
}
