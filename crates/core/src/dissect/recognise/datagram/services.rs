//! Calls of procedures, caches, small devices' resources and broadcast streams.

use super::octets::{at, be16, be32, chain, next, only, weigh};
use super::{ApplicationProtocol, Look, Said};

/// Rx, the calls of AFS: the first datagram of the first call of a connection, all of whose numbers are one;
/// or two in a row of the same connection with the serial number following (Zeldovich, Rx protocol
/// specification, section Packet header). A header has 28 octets and one of 13 kinds.
pub(super) fn rx(said: &Said<'_>) -> Look {
    let (now, before) = (said.datagram(), said.before);
    // User status and security: none above what any class uses; flags: the lower six.
    let fits = matches!(now.get(20..24), Some([1..=13, 0..=63, _, 0..=5])) && now.len() >= 28;
    let numbers = at(now, 8, &[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 1]);
    let begins = numbers && now.get(21).is_some_and(|flags| flags & 1 == 1) && at(now, 22, &[0]);
    let serial =
        be32(before, 16).zip(be32(now, 16)).is_some_and(|(before, now)| next(before, now, 64));
    let same = before.len() >= 28
        && now.get(..8) == before.get(..8)
        && now.get(26..28) == before.get(26..28);
    weigh(fits, begins || (same && serial && be32(now, 0) != Some(0)), ApplicationProtocol::RX)
}

/// DCE's remote procedure calls without a connection: version 4, a kind, a representation that exists, and
/// the length of the body at its place, which leaves room for a verifier only (C706 chapter 12,
/// Connectionless RPC PDU structures).
pub(super) fn dce_rpc(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let header = matches!(datagram, [4, 0..=10, _, _, 0x00 | 0x01 | 0x10 | 0x11, 0..=3, 0, ..]);
    let body = datagram.get(74..).and_then(|rest| rest.first_chunk::<2>()).map(|&body| {
        let little = datagram.get(4).is_some_and(|order| order & 0x10 != 0);
        usize::from(if little { u16::from_le_bytes(body) } else { u16::from_be_bytes(body) })
    });
    let left =
        datagram.len().checked_sub(80).zip(body).and_then(|(rest, body)| rest.checked_sub(body));
    let verifier = match datagram.get(78) {
        Some(0) => left == Some(0),
        Some(1 | 9 | 10 | 14 | 16 | 68) => left.is_some_and(|left| (8..=64).contains(&left)),
        _ => false,
    };
    let activity = datagram.get(40..56).is_some_and(|activity| activity != [0; 16]);
    only(header && verifier && activity, ApplicationProtocol::RPC)
}

/// Memcached: the header that tells of one datagram, and a command or an answer that ends its line; or a
/// binary header whose body ends with the datagram (memcached's protocol.txt, section UDP protocol, and
/// BinaryProtocolRevamped).
pub(super) fn memcached(said: &Said<'_>) -> Look {
    const WORDS: [&[u8]; 16] = [
        b"get ",
        b"gets ",
        b"set ",
        b"add ",
        b"replace ",
        b"delete ",
        b"incr ",
        b"stats",
        b"version",
        b"VALUE ",
        b"STAT ",
        b"END\r\n",
        b"STORED\r\n",
        b"VERSION ",
        b"DELETED\r\n",
        b"NOT_FOUND\r\n",
    ];
    let datagram = said.datagram();
    let Some(&[_, _, number, nth, count, all, 0, 0]) = datagram.first_chunk() else {
        return Look::No;
    };
    let (number, all) = (u16::from_be_bytes([number, nth]), u16::from_be_bytes([count, all]));
    let rest = datagram.get(8..).unwrap_or_default();
    let words = WORDS.iter().any(|word| rest.starts_with(word));
    let binary = matches!(rest, [0x80 | 0x81, 0..=0x24, _, _, _, 0, ..]);
    let body = be32(rest, 8).and_then(|long| usize::try_from(long).ok()?.checked_add(24));
    let sure =
        (words && (rest.ends_with(b"\r\n") || all > 1)) || (binary && body == Some(rest.len()));
    weigh(number < all, sure && number == 0, ApplicationProtocol::MEMCACHED)
}

/// CoAP on its port 5683: version 1, a token of up to eight octets, a code that exists and goes with the kind
/// of message, options of known numbers with the lengths that they may have, and something after the marker
/// of a payload (RFC 7252 sections 3, 5.10 and 12). A request
/// that names its path or query in print is sure, a response waits for one.
pub(super) fn coap(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let Some(&[first, code, _, _]) = datagram.first_chunk().filter(|_| said.has_port(5683)) else {
        return Look::No;
    };
    let (kind, token) = (first >> 4 & 3, first & 15);
    let known = match code {
        0 => kind != 1 && datagram.len() == 4,
        1..=7 => kind < 2,
        0x41..=0x5f | 0x80..=0x9d | 0xa0..=0xa8 => kind < 3,
        _ => false,
    };
    let options = coap_options(datagram);
    let fits = first >> 6 == 1 && token <= 8 && known && options.is_some();
    let sure = (1..=7).contains(&code) && options == Some(true);
    weigh(fits, sure, ApplicationProtocol::COAP)
}

/// Whether there is a path or a query among the options; nothing if one does not fit.
fn coap_options(datagram: &[u8]) -> Option<bool> {
    let mut rest = datagram.get(4 + usize::from(datagram.first()? & 15)..)?;
    let (mut number, mut named) = (0_u16, false);
    while let Some((&head, after)) = rest.split_first() {
        if head == 0xff {
            return (!after.is_empty()).then_some(named);
        }
        let (step, after) = extended(head >> 4, after)?;
        let (long, after) = extended(head & 15, after)?;
        number = number.checked_add(step)?;
        let value = after.get(..usize::from(long))?;
        named |= matches!(number, 11 | 15) && !value.is_empty();
        let fits = match number {
            3 | 8 | 11 | 15 | 20 | 35 | 39 => value.iter().all(|octet| *octet >= 32),
            1 | 4 | 9 | 252 | 292 => long <= 255,
            5 => long == 0,
            6 | 7 | 12 | 14 | 16 | 17 | 19 | 23 | 27 | 28 | 31 | 60 | 258 => long <= 4,
            _ => false,
        };
        rest = after.get(usize::from(long)..).filter(|_| fits)?;
    }
    Some(named)
}

/// A number of four bits, of which 13 and 14 tell of one or two more octets.
fn extended(bits: u8, rest: &[u8]) -> Option<(u16, &[u8])> {
    match bits {
        13 => rest.split_first().map(|(&more, rest)| (u16::from(more) + 13, rest)),
        14 => Some((be16(rest, 0)?.checked_add(269)?, rest.get(2..)?)),
        15 => None,
        _ => Some((u16::from(bits), rest)),
    }
}

/// A transport stream of MPEG: packets of 188 octets, each begun by 0x47 and without the bit for an error and
/// with a payload or an adaptation (ISO 13818-1 section 2.4.3.2). Three are enough; of fewer, the one before
/// of the same stream has to have come with the number before.
pub(super) fn mpeg_ts(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let sync = |packet: &[u8]| {
        matches!(packet, [0x47, high, _, bits, ..] if high & 0x80 == 0 && bits & 0x30 != 0)
            .then_some(188)
    };
    let packets = chain(datagram, sync).unwrap_or(0);
    let stream = |octets: &[u8]| be16(octets, 1).map(|bits| bits & 0x1fff);
    let counter = |octets: &[u8]| octets.get(3).map(|bits| bits & 15);
    let follows = sync(said.before).is_some()
        && stream(said.before) == stream(datagram)
        && counter(said.before)
            .zip(counter(datagram))
            .is_some_and(|(before, now)| (before + 1) & 15 == now);
    weigh(packets > 0, packets >= 3 || (packets > 0 && follows), ApplicationProtocol::MPEG_TS)
}

#[cfg(test)]
mod tests {
    use super::super::octets::check;
    use super::*;

    #[test]
    fn knows_rx() {
        let is = Look::Is(ApplicationProtocol::RX);
        let call = |number, serial, flags| {
            let numbers = [0, 0, 0, number, 0, 0, 0, 1, 0, 0, 0, serial, 1, flags];
            [&[1, 2, 3, 4, 5, 6, 7, 8][..], &numbers, &[0; 6]].concat()
        };
        let ports = (7001, 7000);
        check(
            rx,
            &[
                (&call(1, 1, 5), &[], ports, is),
                (&call(1, 1, 4), &[], ports, Look::More),
                (&call(2, 3, 5), &call(1, 1, 5), ports, is),
                (&call(2, 1, 5), &call(1, 1, 5), ports, Look::More),
                (&call(1, 1, 0x85), &[], ports, Look::No),
            ],
        );
    }

    #[test]
    fn knows_calls_and_caches() {
        let mut call = vec![0; 84];
        call[..5].copy_from_slice(&[4, 0, 0x20, 0, 0x10]);
        call[45] = 7;
        call[74] = 4;
        check(dce_rpc, &[(&call, &[], (40000, 34964), Look::Is(ApplicationProtocol::RPC))]);
        call[74] = 5;
        check(dce_rpc, &[(&call, &[], (40000, 34964), Look::No)]);
        let is = Look::Is(ApplicationProtocol::MEMCACHED);
        check(
            memcached,
            &[
                (b"\0\x01\0\0\0\x01\0\0stats\r\n", &[], (40000, 11211), is),
                (b"\0\x01\0\0\0\x01\0\0status\r", &[], (40000, 11211), Look::More),
                (b"\0\x01\0\0\0\0\0\0stats\r\n", &[], (40000, 11211), Look::No),
            ],
        );
    }

    #[test]
    fn knows_coap() {
        let is = Look::Is(ApplicationProtocol::COAP);
        check(
            coap,
            &[
                (b"\x41\x01\0\x01t\xb4path", &[], (40000, 5683), is),
                (b"\x41\x01\0\x01t\xb5path", &[], (40000, 5683), Look::No),
                (b"\x41\x01\0\x01t\xb4path", &[], (40000, 5685), Look::No),
                (b"\x40\x00\0\x01", &[], (40000, 5683), Look::More),
                (b"\x40\x45\0\x01\xff", &[], (40000, 5683), Look::No),
                (b"\x61\x45\0\x01t\xffbody", &[], (40000, 5683), Look::More),
            ],
        );
    }

    #[test]
    fn knows_transport_streams() {
        let is = Look::Is(ApplicationProtocol::MPEG_TS);
        let packet = |counter: u8| [&[0x47, 1, 1, 0x10 | counter][..], &[0xff; 184]].concat();
        let three = [packet(1), packet(2), packet(3)].concat();
        check(
            mpeg_ts,
            &[
                (&three, &[], (40000, 1234), is),
                (&three[..563], &[], (40000, 1234), Look::No),
                (&packet(2), &[], (40000, 1234), Look::More),
                (&packet(2), &packet(1)[..32], (40000, 1234), is),
                (&packet(2), &packet(2)[..32], (40000, 1234), Look::More),
            ],
        );
    }
}
