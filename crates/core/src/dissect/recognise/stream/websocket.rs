//! WebSocket in the middle of a connection (RFC 6455 section 5.2). From its begin it is HTTP that is upgraded.

use super::{ApplicationProtocol, Look, Said};

/// A whole frame of text, octets, ping or pong from each end: masked from the client, and only from there. Both
/// are wanted, because the marks of one are few.
pub(super) fn websocket(said: &Said<'_>) -> Look {
    let ends = [said.initiator, said.responder].map(|octets| (octets.is_empty(), frame(octets)));
    match ends {
        [(false, Some(a)), (false, Some(b))] if a != b => Look::Is(ApplicationProtocol::WEBSOCKET),
        [(true, _), (_, Some(_))] | [(_, Some(_)), (true, _)] => Look::More,
        _ => Look::No,
    }
}

/// Whether a frame that ends with the octets is masked; nothing if there is none, or one of more than 125 octets.
fn frame(octets: &[u8]) -> Option<bool> {
    let (&[0x81 | 0x82 | 0x89 | 0x8a, length], rest) = octets.split_first_chunk()? else {
        return None;
    };
    let masked = length & 0x80 != 0;
    let length = usize::from(length & 0x7f);
    let wanted = length + if masked { 4 } else { 0 };
    (1..=125).contains(&length).then_some(())?;
    (rest.len() == wanted).then_some(masked)
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
            (b"\x81\x03hi", b"", Look::No),
            (b"\x91\x02hi", b"", Look::No),
        ] {
            let said =
                Said { initiator, responder, initiator_port: 1, responder_port: 2, before: &[] };
            assert_eq!(websocket(&said), expected, "{initiator:?} {responder:?}");
        }
    }
}
