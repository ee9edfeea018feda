//! Relational databases, each of which opens a conversation with a structure of its own: MySQL,
//! PostgreSQL, SQL Server (TDS) and Db2 (DRDA).

use super::octets::{
    Fit, be16, be32, begins, holds, is_printable, le32, one_of, one_of_at, text_and_rest,
};
use super::{ApplicationProtocol, Look, Said};

/// MySQL and MariaDB: the server's greeting (protocol version 10), its refusal of a host, the
/// client's answer, or a whole query. MySQL Internals, "Protocol::HandshakeV10",
/// "HandshakeResponse41", "COM_QUERY".
pub(super) fn mysql(said: &Said<'_>) -> Look {
    one_of_at(said, &[3306], ApplicationProtocol::MYSQL, mysql_message)
}

fn mysql_message(octets: &[u8]) -> Fit {
    let Some(head) = octets.get(..5) else { return Fit::Open };
    let &[a, b, c, sequence, kind] = head else { return Fit::Open };
    let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
    let body = octets.get(4..).unwrap_or_default();
    match (sequence, kind) {
        (0, 10) if (45..=512).contains(&length) => mysql_greeting(body),
        (0, 255) if (10..=512).contains(&length) => match (body.get(1..3), body.get(3..length)) {
            (Some(&[low, high]), Some(text)) => Fit::sure_if(
                (1000..=2000).contains(&u16::from_le_bytes([low, high])) && is_printable(text),
            ),
            _ => Fit::Open,
        },
        (0, 3) if length > 6 => match octets.get(5..4 + length) {
            Some(text) => Fit::sure_if(is_query(text)),
            None if octets.len() < 12 || is_query(octets.get(5..).unwrap_or_default()) => Fit::Open,
            None => Fit::Against,
        },
        // Capabilities with "speaks 4.1" set, greatest packet, character set, 19 zeros (MariaDB
        // uses 4 more).
        (1, _) if (32..=4096).contains(&length) => match body.get(..28) {
            Some(fixed) => Fit::sure_if(
                fixed.get(1).is_some_and(|flags| flags & 2 != 0)
                    && fixed.get(9..).is_some_and(|zeros| zeros.iter().all(|&zero| zero == 0)),
            ),
            None => Fit::Open,
        },
        _ => Fit::Against,
    }
}

/// After the version: connection, 8 octets of salt, a zero, then capabilities, character set,
/// status, more capabilities, the salt's length, and six zeros (MariaDB uses the four after them).
fn mysql_greeting(body: &[u8]) -> Fit {
    let (version, rest) = match text_and_rest(body.get(1..).unwrap_or_default(), 80) {
        Ok(split) => split,
        Err(fit) => return fit,
    };
    let Some(fixed) = rest.get(..27) else { return Fit::Open };
    Fit::sure_if(
        version.first().is_some_and(u8::is_ascii_digit)
            && version.contains(&b'.')
            && fixed.get(12) == Some(&0)
            && fixed.get(21..).is_some_and(|zeros| zeros == [0; 6]),
    )
}

/// Whether a text begins like an SQL statement and is text.
fn is_query(text: &[u8]) -> bool {
    const VERBS: [&[u8]; 10] = [
        b"SELECT ",
        b"INSERT ",
        b"UPDATE ",
        b"DELETE ",
        b"SHOW ",
        b"SET ",
        b"BEGIN",
        b"COMMIT",
        b"CREATE ",
        b"ROLLBACK",
    ];
    let begins =
        |verb: &&[u8]| text.get(..verb.len()).is_some_and(|start| start.eq_ignore_ascii_case(verb));
    VERBS.iter().any(begins) && !text.contains(&0)
}

/// PostgreSQL: the client's first message (start-up 3.0 with its parameters, or a request for TLS,
/// GSSAPI or to cancel), the server's demand for authentication, or a simple query. PostgreSQL
/// documentation, "Message Formats".
pub(super) fn postgresql(said: &Said<'_>) -> Look {
    one_of_at(said, &[5432], ApplicationProtocol::POSTGRESQL, postgresql_message)
}

fn postgresql_message(octets: &[u8]) -> Fit {
    match octets {
        [b'Q', rest @ ..] => match be32(rest, 0).and_then(|length| usize::try_from(length).ok()) {
            Some(length @ 8..=100_000) => match rest.get(4..length) {
                Some([text @ .., 0]) => Fit::sure_if(is_query(text)),
                Some(_) => Fit::Against,
                None if rest.len() < 12 || is_query(rest.get(4..).unwrap_or_default()) => Fit::Open,
                None => Fit::Against,
            },
            Some(_) => Fit::Against,
            None => Fit::Open,
        },
        [b'R', rest @ ..] => match (be32(rest, 0), be32(rest, 4)) {
            (Some(8), Some(0)) => match rest.get(8) {
                Some(next) => Fit::sure_if(matches!(next, b'S' | b'K')),
                None => Fit::Open,
            },
            (Some(12), Some(5)) | (Some(8), Some(3)) => Fit::Sure,
            (Some(14..=200), Some(10)) => holds(rest, 8, b"SCRAM-SHA-256"),
            (_, None) => Fit::Open,
            _ => Fit::Against,
        },
        _ => match (be32(octets, 0), be32(octets, 4)) {
            (Some(8), Some(80_877_103 | 80_877_104)) | (Some(16), Some(80_877_102)) => Fit::Sure,
            (Some(9..=10_000), Some(0x0003_0000..=0x0003_0002)) => {
                startup(octets.get(8..).unwrap_or_default())
            }
            (Some(8..=10_000) | None, None) => Fit::Open,
            _ => Fit::Against,
        },
    }
}

/// The first parameter's name is one of those that clients send, and it has a value.
fn startup(parameters: &[u8]) -> Fit {
    const NAMES: [&[u8]; 6] =
        [b"user", b"database", b"options", b"replication", b"application_name", b"client_encoding"];
    match text_and_rest(parameters, 64) {
        Ok((name, value)) if NAMES.contains(&name) => match text_and_rest(value, 256) {
            Ok(_) => Fit::Sure,
            Err(fit) => fit,
        },
        Ok(_) => Fit::Against,
        Err(fit) => fit,
    }
}

/// DRDA (IBM Db2): a data stream structure whose two lengths agree and whose code point is one of
/// those that open a conversation. The Open Group, DRDA V5 vol. 3, "DSS".
pub(super) fn drda(said: &Said<'_>) -> Look {
    one_of(said, ApplicationProtocol::DRDA, |octets| match octets.get(..10) {
        Some(&[_, _, 0xd0, kind, _, _, _, _, high, low]) => {
            let lengths = be16(octets, 0).zip(be16(octets, 6));
            let code = u16::from_be_bytes([high, low]);
            Fit::sure_if(
                matches!(kind & 15, 1..=5)
                    && kind & 0x80 == 0
                    && lengths.is_some_and(|(whole, inner)| inner >= 4 && whole == inner + 6)
                    && matches!(
                        code,
                        0x1041
                            | 0x1443
                            | 0x106d
                            | 0x14ac
                            | 0x106e
                            | 0x1219
                            | 0x2001
                            | 0x2201
                            | 0x2014
                            | 0x1055
                    ),
            )
        }
        None if octets.get(2).is_none_or(|&magic| magic == 0xd0) => Fit::Open,
        _ => Fit::Against,
    })
}

/// SQL Server's TDS: the packet header, and a payload that its type demands: options or a login
/// with their lengths, a batch or procedure name in UTF-16 text behind the headers, or a server's
/// first token. MS-TDS 2.2.3.1 and 2.2.6.
pub(super) fn tds(said: &Said<'_>) -> Look {
    one_of_at(said, &[1433], ApplicationProtocol::MSSQL_TDS, |octets| {
        tds_packet(octets).unwrap_or_else(|fit| fit)
    })
}

fn tds_packet(octets: &[u8]) -> Result<Fit, Fit> {
    let head = match octets {
        [1 | 3 | 4 | 16 | 18, 0..=31, ..] | [1 | 3 | 4 | 16 | 18] | [] => {
            octets.get(..8).ok_or(Fit::Open)?
        }
        _ => return Err(Fit::Against),
    };
    let length = be16(octets, 2).ok_or(Fit::Open)?;
    if !(9..=32_767).contains(&length) || head.get(7) != Some(&0) {
        return Err(Fit::Against);
    }
    let packet = octets.get(8..octets.len().min(length)).unwrap_or_default();
    // Total and first header: 22 and 18 octets, a transaction's (type 2).
    let text = match begins(packet, &[22, 0, 0, 0, 18, 0, 0, 0, 2, 0]) {
        Fit::Sure => packet.get(22..).ok_or(Fit::Open)?,
        Fit::Open => return Err(Fit::Open),
        Fit::Against => packet,
    };
    let utf16 = |text: &[u8]| {
        let mut pairs = text.chunks_exact(2);
        pairs.all(|pair| matches!(pair, [b' '..=b'~' | b'\t' | b'\r' | b'\n', 0]))
    };
    match head.first() {
        // Options: the first is the version (six octets) right after all options and their end
        // mark.
        Some(18 | 4) if packet.first() == Some(&0) => match packet.get(..5) {
            Some(&[0, 0, at, 0, 6]) if at % 5 == 1 && at > 5 => {
                Ok(holds(packet, usize::from(at) - 1, &[255]))
            }
            Some(_) => Err(Fit::Against),
            None => Err(Fit::Open),
        },
        // A server's first token: environment, information, error, login or done; with the length
        // inside.
        Some(4) => match (packet.first(), packet.get(1..3)) {
            (Some(0xe3 | 0xaa | 0xab | 0xad), Some(&[low, high])) => {
                let inner = usize::from(u16::from_le_bytes([low, high]));
                let next = packet.get(3 + inner);
                let fits = inner > 3 && inner + 11 <= length;
                Ok(match next {
                    _ if !fits => Fit::Against,
                    Some(next) => {
                        Fit::sure_if(matches!(next, 0xe3 | 0xaa | 0xab | 0xad | 0xae | 0xfd | 0xed))
                    }
                    None => Fit::Open,
                })
            }
            (Some(0xfd), _) if length == 21 => {
                let done = octets.get(8..21).ok_or(Fit::Open)?;
                Ok(Fit::sure_if(
                    done.get(1).is_some_and(|low| low & 0x80 == 0)
                        && done.get(2).is_some_and(|&h| h < 3),
                ))
            }
            (None, _) | (Some(0xe3 | 0xaa | 0xab | 0xad), None) => Err(Fit::Open),
            _ => Err(Fit::Against),
        },
        Some(16) => match (le32(packet, 0), packet.get(4..8)) {
            (Some(inner), Some(&[_, _, _, version])) => Ok(Fit::sure_if(
                (0x70..=0x74).contains(&version) && usize::try_from(inner) == Ok(length - 8),
            )),
            _ => Err(Fit::Open),
        },
        Some(1) => {
            let sql = text.get(..text.len().min(64)).unwrap_or_default();
            match sql.len() {
                0..8 if octets.len() < length => Err(Fit::Open),
                0..8 => Err(Fit::Against),
                _ if !utf16(sql) => Err(Fit::Against),
                64 => Ok(Fit::Sure),
                _ if octets.len() < length => Err(Fit::Open),
                _ => Ok(Fit::Sure),
            }
        }
        // A procedure: its name with the length in front, or 0xffff and a number.
        Some(3) => match (text.get(..2), text.get(2..4)) {
            (Some([255, 255]), Some(&[number, 0])) => Ok(Fit::sure_if((1..=15).contains(&number))),
            (Some(&[count @ 4..=128, 0]), Some(_)) => match text.get(2..2 + 2 * usize::from(count))
            {
                Some(name) => Ok(Fit::sure_if(utf16(name))),
                None if utf16(text.get(2..).unwrap_or_default()) => Err(Fit::Open),
                None => Err(Fit::Against),
            },
            (Some(_), Some(_)) => Err(Fit::Against),
            _ => Err(Fit::Open),
        },
        _ => Err(Fit::Against),
    }
}

#[cfg(test)]
mod tests {
    use super::super::octets::expect;
    use super::*;
    use ApplicationProtocol as Protocol;
    use Look::{Is, More, No};

    #[test]
    fn tds_opens_asks_and_calls() {
        let options = |mark: u8| {
            let body = [0, 0, 11, 0, 6, 1, 0, 17, 0, 1, mark, 9, 0, 0, 0, 0, 0, 0];
            [&[18, 1, 0, 26, 0, 0, 1, 0][..], &body].concat()
        };
        let batch = |high: u8| {
            let text: Vec<u8> = b"SELECT 1".iter().flat_map(|&letter| [letter, high]).collect();
            [&[1, 1, 0, 24, 0, 0, 1, 0][..], &text].concat()
        };
        let call = b"\x03\x01\0\x14\0\0\x01\0\x04\0s\0p\0_\0a\0\0\0";
        expect(
            tds,
            1,
            &[
                (&options(255), &[], Is(Protocol::MSSQL_TDS)),
                (&options(0), &[], No),
                (&batch(0), &[], Is(Protocol::MSSQL_TDS)),
                (&batch(1), &[], No),
                (call, &[], Is(Protocol::MSSQL_TDS)),
            ],
        );
    }

    #[test]
    fn mysql_greets_answers_and_asks() {
        let greeting = |filler: u8| {
            let fixed =
                [&[1, 0, 0, 0][..], b"saltsalt", &[filler, 0xff, 0xf7, 8, 2, 0, 0, 0, 21]].concat();
            let rest = [&[0; 10][..], b"saltsaltsalt\0"].concat();
            [&[0x31, 0, 0, 0, 10][..], b"8.0.36\0", &fixed, &rest].concat()
        };
        let login =
            [&[36, 0, 0, 1, 5, 0xa2, 0, 0, 0, 0, 0, 1, 33][..], &[0; 23], b"me\0\0"].concat();
        expect(
            mysql,
            1,
            &[
                (&[], &greeting(0), Is(Protocol::MYSQL)),
                (&[], &greeting(9), No),
                (&login, &[], Is(Protocol::MYSQL)),
                (&[36, 0, 0, 1, 5, 0xa0, 0, 0, 0, 0, 0, 1, 33], &[], More),
                (b"\x09\0\0\0\x03select 1", &[], Is(Protocol::MYSQL)),
                (b"\x09\0\0\0\x03selecting", &[], No),
            ],
        );
    }

    #[test]
    fn postgresql_starts() {
        expect(
            postgresql,
            1,
            &[
                (b"\0\0\0\x13\0\x03\0\0user\0alice\0\0", &[], Is(Protocol::POSTGRESQL)),
                (b"\0\0\0\x13\0\x03\0\0uses\0alice\0\0", &[], No),
                (b"\0\0\0\x08\x04\xd2\x16\x2f", &[], Is(Protocol::POSTGRESQL)),
                (b"\0\0\0\x08\x04\xd2\x16\x31", &[], No),
                (b"Q\0\0\0\x0dselect 1\0", &[], Is(Protocol::POSTGRESQL)),
                (&[], b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0", Is(Protocol::POSTGRESQL)),
            ],
        );
    }

    #[test]
    fn drda_exchanges_attributes() {
        let exchange = [0, 10, 0xd0, 0x41, 0, 1, 0, 4, 0x10, 0x41];
        expect(
            drda,
            1,
            &[
                (&exchange, &[], Is(Protocol::DRDA)),
                (&[0, 10, 0xd0, 0x41, 0, 1, 0, 5, 0x10, 0x41], &[], No),
            ],
        );
    }
}
