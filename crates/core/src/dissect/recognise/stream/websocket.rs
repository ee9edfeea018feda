//! WebSocket in the middle of a connection (RFC 6455 section 5.2). From its begin it is HTTP that is upgraded.

use std::cmp::Ordering;

use super::{ApplicationProtocol, Look, Said};

/// A whole frame of text, octets, ping or pong from each end: masked from the client, and only from there. Both
/// are wanted, because the marks of one are few.
pub(super) fn websocket(said: &Said<'_>) -> Look {
    match [frame(said.initiator), frame(said.responder)] {
        [Frame::None, _] | [_, Frame::None] => Look::No,
        [Frame::Whole { masked: a }, Frame::Whole { masked: b }] if a == b => Look::No,
        [Frame::Whole { .. }, Frame::Whole { .. }] => Look::Is(ApplicationProtocol::WEBSOCKET),
        [Frame::Open, _] | [_, Frame::Open] => Look::More,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Frame {
    /// There is none, or one of more than 125 octets, or something behind it.
    None,
    /// There may be one when more is said.
    Open,
    /// It ends with the octets.
    Whole { masked: bool },
}

fn frame(octets: &[u8]) -> Frame {
    let (length, rest) = match octets {
        [] | [0x81 | 0x82 | 0x89 | 0x8a] => return Frame::Open,
        [0x81 | 0x82 | 0x89 | 0x8a, length, rest @ ..] => (length, rest),
        _ => return Frame::None,
    };
    let masked = length & 0x80 != 0;
    let length = usize::from(length & 0x7f);
    let wanted = length + if masked { 4 } else { 0 };
    if !(1..=125).contains(&length) {
        return Frame::None;
    }
    match rest.len().cmp(&wanted) {
        Ordering::Less => Frame::Open,
        Ordering::Equal => Frame::Whole { masked },
        Ordering::Greater => Frame::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_each_end_is_wanted() {
        let (server, client) = (&b"\x81\x02hi"[..], &b"\x82\x81abcd!"[..]);
        for (initiator, responder, expected) in [
            (client, server, Look::Is(ApplicationProtocol::WEBSOCKET)),
            (server, client, Look::Is(ApplicationProtocol::WEBSOCKET)),
            (server, &b""[..], Look::More),
            (b"", client, Look::More),
            (server, server, Look::No),
            // A frame may be cut anywhere, and nothing may follow it.
            (&client[..1], b"", Look::More),
            (client, &server[..3], Look::More),
            (b"\x81\x03hi", b"", Look::More),
            (b"\x81\x01hi", b"", Look::No),
            (b"\x91\x02hi", b"", Look::No),
        ] {
            let said = Said {
                initiator,
                responder,
                initiator_port: 1,
                responder_port: 2,
                every_port: false,
                before: &[],
            };
            assert_eq!(websocket(&said), expected, "{initiator:?} {responder:?}");
        }
    }
}
