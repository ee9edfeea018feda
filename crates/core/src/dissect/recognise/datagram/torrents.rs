//! BitTorrent and what goes with it: the search for peers on the network and in the distributed table, the
//! trackers, and the transport of the pieces themselves.

use super::octets::{be16, be32, holds, next, only};
use super::{ApplicationProtocol, Look, Said};

/// The connection number with which a tracker is asked for one (BEP 15).
const TRACKER: [u8; 12] = [0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0];

/// BitTorrent in any of its four forms over UDP.
pub(super) fn bittorrent(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    if datagram.first().is_some_and(|first| first & 15 == 1) {
        return transport(said);
    }
    let tracker = datagram.starts_with(&TRACKER) && (16..=32).contains(&datagram.len());
    only(tracker || local(datagram) || table(datagram), ApplicationProtocol::BITTORRENT)
}

/// The search on the local network: a request in the manner of HTTP with the hash of what is shared (BEP 14).
fn local(datagram: &[u8]) -> bool {
    datagram.starts_with(b"BT-SEARCH * HTTP/1.1\r\n") && holds(datagram, 512, b"\r\nInfohash: ")
}

/// The distributed table: a dictionary in bencode whose first key is `a`, `r` or `e` and whose `y` says the
/// same in words (BEP 5, KRPC). Some put `ip` or `v` before.
fn table(datagram: &[u8]) -> bool {
    let begins: [&[u8]; 4] = [b"d1:ad2:id20:", b"d1:rd2:id20:", b"d1:eli20", b"d2:ip"];
    let kinds: [&[u8]; 3] = [b"1:y1:q", b"1:y1:r", b"1:y1:e"];
    datagram.ends_with(b"e")
        && begins.iter().any(|begin| datagram.starts_with(begin))
        && kinds.iter().any(|kind| holds(datagram, 2048, kind))
}

/// uTP: version 1, one of five kinds, extensions that fit, and either the greeting of BitTorrent inside or a
/// header that goes on from the one before: the connection, the clock in microseconds, the numbers (BEP 29).
fn transport(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let Some(body) = body(datagram) else {
        return Look::No;
    };
    if body.starts_with(b"\x13BitTorrent protocol") || follows(said.before, datagram) == Some(true)
    {
        return Look::Is(ApplicationProtocol::BITTORRENT);
    }
    Look::More
}

/// What follows the header and its extensions; nothing if they do not fit. Only the kind 0 carries data. The
/// one extension that matters, what arrived out of order, is of a multiple of four octets.
fn body(datagram: &[u8]) -> Option<&[u8]> {
    let kind = datagram.first()? >> 4;
    let (mut extension, mut rest) = (*datagram.get(1)?, datagram.get(20..)?);
    for _ in 0..4 {
        let Some((&[following, long], after)) =
            rest.split_first_chunk().filter(|_| matches!(extension, 1 | 2))
        else {
            break;
        };
        if long == 0 || (extension == 1 && !long.is_multiple_of(4)) {
            return None;
        }
        (extension, rest) = (following, after.get(usize::from(long)..)?);
    }
    (kind <= 4 && extension == 0 && (kind == 0) != rest.is_empty()).then_some(rest)
}

/// Whether the header goes on from the one before: after a request for a connection its number is one higher;
/// data after data or after a request has a later number, a mere state the same or a later one.
fn follows(before: &[u8], now: &[u8]) -> Option<bool> {
    let first = *before.first()?;
    let (asked, data) = (first >> 4 == 4, now.first()? >> 4 == 0);
    let step = u16::from(asked && now.first()? >> 4 != 4);
    let connection = be16(before, 2)?.wrapping_add(step) == be16(now, 2)?;
    let clock = next(be32(before, 4)?, be32(now, 4)?, 60_000_000);
    let numbers = |place| Some(be16(now, place)?.wrapping_sub(be16(before, place)?));
    let later = u16::from(data && first >> 4 == 0);
    let on = (later..=64).contains(&numbers(16)?) && (numbers(18)? <= 64 || asked);
    Some(matches!(first, 0x01 | 0x11 | 0x21 | 0x31 | 0x41) && connection && clock && on)
}

#[cfg(test)]
mod tests {
    use super::super::octets::check;
    use super::*;

    const IS: Look = Look::Is(ApplicationProtocol::BITTORRENT);
    const PORTS: (u16, u16) = (6881, 6881);

    #[test]
    fn knows_searches() {
        let ping = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe";
        let connect = [&TRACKER[..], &[1, 2, 3, 4]].concat();
        check(
            bittorrent,
            &[
                (ping, &[], PORTS, IS),
                (&ping[..ping.len() - 1], &[], PORTS, Look::No),
                (b"BT-SEARCH * HTTP/1.1\r\nPort: 1\r\nInfohash: 00\r\n", &[], PORTS, IS),
                (b"BT-SEARCH * HTTP/1.1\r\nPort: 1\r\n", &[], PORTS, Look::No),
                (&connect, &[], PORTS, IS),
                (&connect[..15], &[], PORTS, Look::No),
            ],
        );
    }

    #[test]
    fn knows_the_transport() {
        let header = |kind, connection, clock, number| {
            [kind, 0, 9, connection, 0, 0, 0, clock, 0, 0, 0, 0, 0, 0, 1, 0, 0, number, 0, 5]
        };
        let greeting = [&header(1, 1, 1, 1)[..], b"\x13BitTorrent protocol"].concat();
        let (request, state) = (header(0x41, 1, 1, 1), header(0x21, 2, 9, 2));
        check(
            bittorrent,
            &[
                (&greeting, &[], PORTS, IS),
                (&request, &[], PORTS, Look::More),
                (&state, &request, PORTS, IS),
                (&state, &header(0x41, 2, 1, 1), PORTS, Look::More),
                (&state, &header(0x21, 2, 9, 2), PORTS, Look::More),
                (&[&header(1, 2, 9, 2)[..], b"x"].concat(), &header(1, 2, 1, 1), PORTS, IS),
                (&[&header(1, 2, 9, 1)[..], b"x"].concat(), &header(1, 2, 1, 1), PORTS, Look::More),
                (&header(0x51, 1, 1, 1), &[], PORTS, Look::No),
                (&header(0x01, 1, 1, 1), &[], PORTS, Look::No),
            ],
        );
    }
}
