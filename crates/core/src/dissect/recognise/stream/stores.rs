//! Stores of documents, rows and keys. MongoDB and Cassandra send messages with a length and a
//! known operation; Redis and Memcached talk in lines and are known by a command and its answer.

use super::octets::{
    Fit, be16, be32, begins, begins_with_one, both, contains, either, either_way, le32, line,
    one_of_at, text_and_rest,
};
use super::{ApplicationProtocol, Look, Said};

/// MongoDB: the message header's length and operation, and behind it what that operation has to
/// carry: a collection's name, a document, or a compressor. MongoDB documentation, "MongoDB Wire
/// Protocol".
pub(super) fn mongodb(said: &Said<'_>) -> Look {
    one_of_at(said, &[27_017], ApplicationProtocol::MONGODB, mongodb_message)
}

fn mongodb_message(octets: &[u8]) -> Fit {
    match le32(octets, 0) {
        Some(26..=48_000_000) => {}
        Some(_) => return Fit::Against,
        None => return Fit::Open,
    }
    let (length, Some(operation)) = (le32(octets, 0).unwrap_or(0), le32(octets, 12)) else {
        return Fit::Open;
    };
    let body = octets.get(16..).unwrap_or_default();
    // A document: its length, then the type of its first element and that element's name.
    let document = |at: usize, room: u32| match (le32(body, at), body.get(at + 4)) {
        (Some(long), _) if long < 5 || long > room => Fit::Against,
        (Some(5), Some(kind)) => Fit::sure_if(*kind == 0),
        (Some(_), Some(1..=19 | 127 | 255)) => {
            match text_and_rest(body.get(at + 5..).unwrap_or_default(), 128) {
                Ok(_) => Fit::Sure,
                Err(fit) => fit,
            }
        }
        (Some(_), Some(_)) => Fit::Against,
        _ => Fit::Open,
    };
    match operation {
        2013 => match (le32(body, 0), body.get(4)) {
            (Some(flags), _) if flags & !0x1_0003 != 0 => Fit::Against,
            (Some(_), Some(0)) => document(5, length - 21),
            (_, None) => Fit::Open,
            _ => Fit::Against,
        },
        2004 if le32(body, 0).is_none_or(|flags| flags < 256) => {
            match text_and_rest(body.get(4..).unwrap_or_default(), 255) {
                Ok((name, _)) if name.contains(&b'.') => document(4 + name.len() + 9, length),
                Ok(_) => Fit::Against,
                Err(fit) => fit,
            }
        }
        1 if le32(body, 0).is_none_or(|flags| flags < 16) => match le32(body, 16) {
            Some(0) => Fit::sure_if(length == 36),
            Some(_) => document(20, length),
            None => Fit::Open,
        },
        2012 => match (le32(body, 0), le32(body, 4), body.get(8)) {
            (Some(inner), Some(size), Some(compressor)) => Fit::sure_if(
                matches!(inner, 2004 | 2013 | 1) && size <= 48_000_000 && *compressor <= 3,
            ),
            _ => Fit::Open,
        },
        _ => Fit::Against,
    }
}

/// Cassandra: between nodes the magic number; in CQL a start-up that names a CQL version, or the
/// two options messages with one stream number. Native protocol v4 specification, sections 2 and
/// 4.1.
pub(super) fn cassandra(said: &Said<'_>) -> Look {
    let what = ApplicationProtocol::CASSANDRA;
    let [client, server] = either_way(said, |octets| matches!(octets, [3..=5, ..]));
    // What nodes send each other begins with a magic number.
    let magic = begins(client, &[0xca, 0x55, 0x2d, 0xfa]);
    if magic != Fit::Against && !client.is_empty() {
        return either([magic, Fit::Open], what);
    }
    let (Some(client), seen) = (client.get(..9), client) else {
        let fits = client.is_empty()
            || (client.len() < 9 && matches!(client, [3..=5] | [3..=5, 0..=31, ..]));
        return either([if fits { Fit::Open } else { Fit::Against }, Fit::Open], what);
    };
    let fit = match *client {
        [3..=5, flags, _, _, 1, 0, 0, high, low] if flags < 32 => {
            let end = 9 + usize::from(u16::from_be_bytes([high, low]).min(512));
            let body = seen.get(9..seen.len().min(end)).unwrap_or_default();
            match contains(body, b"CQL_VERSION") {
                true => Fit::Sure,
                false if seen.len() < end => Fit::Open,
                false => Fit::Against,
            }
        }
        [version @ 3..=5, flags, a, b, 5, 0, 0, 0, 0] if flags < 32 => match server.get(..9) {
            None => Fit::Open,
            Some(&[answer, _, c, d, 6, 0, 0, _, _]) => {
                Fit::sure_if(answer == version | 0x80 && [a, b] == [c, d])
            }
            Some(_) => Fit::Against,
        },
        _ => Fit::Against,
    };
    either([fit, Fit::Open], what)
}

/// Redis: a command as an array of bulk strings whose first is a word, or an inline `PING` with
/// its answer. Redis documentation, "RESP protocol description".
pub(super) fn redis(said: &Said<'_>) -> Look {
    let [client, server] = either_way(said, |octets| octets.first() == Some(&b'*'));
    match redis_command(client) {
        Fit::Against if begins(client, b"PING\r\n") != Fit::Against => both(
            [begins(client, b"PING\r\n"), begins_with_one(server, &[b"+PONG\r\n", b"-NOAUTH "])],
            ApplicationProtocol::REDIS,
        ),
        fit => either([fit, Fit::Open], ApplicationProtocol::REDIS),
    }
}

fn redis_command(octets: &[u8]) -> Fit {
    let number = |line: &[u8], sign: u8| -> Option<usize> {
        let digits = line.strip_prefix(&[sign])?;
        std::str::from_utf8(digits).ok().filter(|digits| digits.len() < 6)?.parse().ok()
    };
    match octets.first() {
        None => return Fit::Open,
        Some(b'*') => {}
        Some(_) => return Fit::Against,
    }
    let mut rest = octets;
    let mut numbers = [0; 2];
    for (found, sign) in numbers.iter_mut().zip([b'*', b'$']) {
        let Some((head, after)) = line(rest) else {
            let fits = rest.len() < 8 && rest.first().is_none_or(|&first| first == sign);
            return if fits { Fit::Open } else { Fit::Against };
        };
        match number(head, sign) {
            Some(count @ 1..) => *found = count,
            _ => return Fit::Against,
        }
        rest = after;
    }
    let [_, length] = numbers;
    match rest.get(..length + 2) {
        Some([word @ .., b'\r', b'\n']) if length <= 32 => Fit::sure_if(
            word.iter().all(|octet| octet.is_ascii_alphabetic() || matches!(octet, b'.' | b'_')),
        ),
        None if length <= 32 => Fit::Open,
        _ => Fit::Against,
    }
}

/// Memcached: a text command together with the answer that belongs to it, or a binary request and
/// its response. memcached's doc/protocol.txt and "BinaryProtocolRevamped".
pub(super) fn memcached(said: &Said<'_>) -> Look {
    const COMMANDS: [&[u8]; 15] = [
        b"get ",
        b"gets ",
        b"set ",
        b"add ",
        b"replace ",
        b"append ",
        b"cas ",
        b"incr ",
        b"decr ",
        b"delete ",
        b"touch ",
        b"stats",
        b"version\r\n",
        b"flush_all",
        b"gat ",
    ];
    const ANSWERS: [&[u8]; 12] = [
        b"VALUE ",
        b"STORED\r\n",
        b"NOT_STORED\r\n",
        b"EXISTS\r\n",
        b"NOT_FOUND\r\n",
        b"DELETED\r\n",
        b"STAT ",
        b"END\r\n",
        b"VERSION ",
        b"TOUCHED\r\n",
        b"OK\r\n",
        b"CLIENT_ERROR ",
    ];
    let what = ApplicationProtocol::MEMCACHED;
    let is_command =
        |octets: &[u8]| !octets.is_empty() && begins_with_one(octets, &COMMANDS) != Fit::Against;
    let [client, server] =
        either_way(said, |octets| is_command(octets) || octets.first() == Some(&0x80));
    match (client.first(), server.first()) {
        (Some(0x80), None | Some(0x81)) => match (client.get(..24), server.get(..24)) {
            (Some(asked), Some(told)) => {
                let place = |at: usize| asked.get(at..at + 4) == told.get(at..at + 4);
                let known = asked.get(1).is_some_and(|&operation| operation <= 0x3d);
                let sizes = be16(asked, 2).zip(be32(asked, 8)).zip(asked.get(4));
                let plain = asked.get(5) == Some(&0)
                    && told.get(5) == Some(&0)
                    && sizes.is_some_and(|((key, body), extra)| {
                        key <= 250
                            && usize::try_from(body)
                                .is_ok_and(|body| body >= key + usize::from(*extra))
                    });
                either(
                    [
                        Fit::sure_if(known && plain && place(12) && asked.get(1) == told.get(1)),
                        Fit::Open,
                    ],
                    what,
                )
            }
            _ => Look::More,
        },
        _ => both([begins_with_one(client, &COMMANDS), begins_with_one(server, &ANSWERS)], what),
    }
}

#[cfg(test)]
mod tests {
    use super::super::octets::expect;
    use super::*;
    use ApplicationProtocol as Protocol;
    use Look::{Is, More, No};

    #[test]
    fn mongodb_sends_documents() {
        let message = |operation: &[u8], flags: u8| {
            let head = [&[38, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0][..], operation, &[flags, 0, 0, 0]];
            [&head.concat()[..], b"\0\x11\0\0\0\x10ping\0\x01\0\0\0\0"].concat()
        };
        expect(
            mongodb,
            1,
            &[
                (&message(&[0xdd, 7, 0, 0], 0), &[], Is(Protocol::MONGODB)),
                (&message(&[0xdd, 7, 0, 0], 64), &[], No),
                (&message(&[0xde, 7, 0, 0], 0), &[], No),
            ],
        );
    }

    #[test]
    fn cassandra_starts_up() {
        let startup = b"\x04\0\0\0\x01\0\0\0\x16\0\x01\0\x0bCQL_VERSION\0\x053.0.0";
        expect(
            cassandra,
            1,
            &[
                (startup, &[], Is(Protocol::CASSANDRA)),
                (&[0xca, 0x55, 0x2d, 0xfa, 12], &[], Is(Protocol::CASSANDRA)),
                (&[0xca, 0x55, 0x2d, 0xfb, 12], &[], No),
                (
                    &[4, 0, 0, 9, 5, 0, 0, 0, 0],
                    &[0x84, 0, 0, 9, 6, 0, 0, 0, 2],
                    Is(Protocol::CASSANDRA),
                ),
                (&[4, 0, 0, 9, 5, 0, 0, 0, 0], &[0x84, 0, 0, 8, 6, 0, 0, 0, 2], No),
            ],
        );
    }

    #[test]
    fn redis_is_commanded() {
        expect(
            redis,
            1,
            &[
                (b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n", &[], Is(Protocol::REDIS)),
                (b"*2\r\n$3\r\nGE1\r\n$1\r\na\r\n", &[], No),
                (b"*2\r\n$4\r\nGET\r\n$", &[], No),
                (b"PING\r\n", b"+PONG\r\n", Is(Protocol::REDIS)),
                (b"PING\r\n", b"PONG\r\n", No),
                (b"* OK ready\r\n", &[], No),
            ],
        );
    }

    #[test]
    fn memcached_is_asked_and_answers() {
        let binary = |magic: u8, opaque: u8| {
            let head = [magic, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, opaque];
            [&head[..], &[0; 8]].concat()
        };
        expect(
            memcached,
            1,
            &[
                (b"get key\r\n", b"END\r\n", Is(Protocol::MEMCACHED)),
                (b"get key\r\n", &[], More),
                (b"get key\r\n", b"550 END\r\n", No),
                (&binary(0x80, 4), &binary(0x81, 4), Is(Protocol::MEMCACHED)),
                (&binary(0x80, 4), &binary(0x81, 5), No),
            ],
        );
    }
}
