//! Who is who in a domain: Kerberos and LDAP. Both are ASN.1, whose nested lengths have to agree.

use super::octets::{Fit, be16, be24, be32, begins, one_of_at};
use super::{ApplicationProtocol, Look, Said};

/// An ASN.1 element's tag, the length of its contents, and where they begin (X.690, 8.1): lengths
/// in at most four octets.
fn element(octets: &[u8]) -> Result<(u8, usize, &[u8]), Fit> {
    match octets {
        [tag, length @ 0..=0x7f, contents @ ..] => Ok((*tag, usize::from(*length), contents)),
        [tag, 0x81, length, contents @ ..] => Ok((*tag, usize::from(*length), contents)),
        [tag, 0x82, _, _, contents @ ..] => Ok((*tag, be16(octets, 2).unwrap_or(0), contents)),
        [tag, 0x83, _, _, _, contents @ ..] => Ok((*tag, be24(octets, 2).unwrap_or(0), contents)),
        [tag, 0x84, 0, _, _, _, contents @ ..] => {
            Ok((*tag, be24(octets, 3).unwrap_or(0), contents))
        }
        [] | [_] | [_, 0x81..=0x84, ..] if octets.len() < 6 => Err(Fit::Open),
        _ => Err(Fit::Against),
    }
}

/// Kerberos: a record mark, an application tag, a sequence, the version 5 and a message type that
/// is the tag's number. RFC 4120, sections 5 and 7.2.2.
pub(super) fn kerberos(said: &Said<'_>) -> Look {
    one_of_at(said, &[88, 464], ApplicationProtocol::KERBEROS, |octets| {
        kerberos_message(octets).unwrap_or_else(|fit| fit)
    })
}

fn kerberos_message(octets: &[u8]) -> Result<Fit, Fit> {
    let mark = be32(octets, 0).ok_or(if octets.first().is_none_or(|&o| o == 0) {
        Fit::Open
    } else {
        Fit::Against
    })?;
    let message = octets.get(4..).unwrap_or_default();
    let (tag, length, contents) = element(message)?;
    let (kind, head) = (tag & 0x1f, message.len() - contents.len());
    if usize::try_from(mark) != Ok(length + head)
        || tag & 0xe0 != 0x60
        || !matches!(kind, 10..=16 | 20..=22 | 30)
    {
        return Err(Fit::Against);
    }
    let (sequence, inner, fields) = element(contents)?;
    if sequence != 0x30 || inner + (contents.len() - fields.len()) != length {
        return Err(Fit::Against);
    }
    // Requests to the KDC number these two fields from 1, everything else from 0.
    let first = if matches!(kind, 10 | 12) { 0xa1 } else { 0xa0 };
    Ok(begins(fields, &[first, 3, 2, 1, 5, first + 1, 3, 2, 1, kind]))
}

/// LDAP: a sequence of a message number and an operation whose lengths add up, and the operation's
/// first fields: bind (version 2 or 3), search (scope and aliases), results (a code), entries,
/// extended operations. RFC 4511, section 4.
pub(super) fn ldap(said: &Said<'_>) -> Look {
    one_of_at(said, &[389, 3268], ApplicationProtocol::LDAP, |octets| {
        ldap_message(octets).unwrap_or_else(|fit| fit)
    })
}

fn ldap_message(octets: &[u8]) -> Result<Fit, Fit> {
    if octets.first().is_some_and(|&tag| tag != 0x30) {
        return Err(Fit::Against);
    }
    let (_, length, contents) = element(octets)?;
    let (integer, width, rest) = element(contents)?;
    if integer != 2 || !(1..=4).contains(&width) || length < 7 {
        return Err(Fit::Against);
    }
    let operation = rest.get(width..).ok_or(Fit::Open)?;
    let (tag, inner, fields) = element(operation)?;
    let used = contents.len() - fields.len() + inner;
    let controls = match octets.len() - contents.len() + length {
        _ if used > length => return Err(Fit::Against),
        _ if used == length => true,
        // What is left has to be controls.
        _ => fields.get(inner).is_none_or(|&next| next == 0xa0),
    };
    if !controls {
        return Err(Fit::Against);
    }
    let (field, size, value) = match (tag, inner) {
        (0x42, 0) => return Ok(Fit::sure_if(used == length)),
        (0x60 | 0x61 | 0x63..=0x65 | 0x67 | 0x69 | 0x6b | 0x6d | 0x6f | 0x73 | 0x77 | 0x78, _) => {
            element(fields)?
        }
        _ => return Err(Fit::Against),
    };
    let after = value.get(size..);
    match tag {
        0x60 => match (field, size, value.first()) {
            (2, 1, Some(2 | 3)) => {
                Ok(after.map_or(Fit::Open, |name| begins(name.get(..1).unwrap_or_default(), &[4])))
            }
            (2, 1, None) => Ok(Fit::Open),
            _ => Err(Fit::Against),
        },
        0x63 if field == 4 => match after.and_then(|rest| rest.get(..6)) {
            Some(&[10, 1, scope, 10, 1, aliases]) => Ok(Fit::sure_if(scope <= 3 && aliases <= 3)),
            Some(_) => Err(Fit::Against),
            None => Ok(Fit::Open),
        },
        0x64 if field == 4 => {
            Ok(after.map_or(Fit::Open, |rest| begins(rest.get(..1).unwrap_or_default(), &[0x30])))
        }
        // A result: its code, then the matched name.
        0x61 | 0x65 | 0x67 | 0x69 | 0x6b | 0x6d | 0x6f | 0x78 if (field, size) == (10, 1) => {
            Ok(after.map_or(Fit::Open, |rest| begins(rest.get(..1).unwrap_or_default(), &[4])))
        }
        // An extended request names its operation by digits and dots.
        0x77 if field == 0x80 => match value.get(..size) {
            Some(name) => Ok(Fit::sure_if(
                name.starts_with(b"1.") && name.iter().all(|&o| o == b'.' || o.is_ascii_digit()),
            )),
            None => Ok(Fit::Open),
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
    fn kerberos_names_its_version_and_message() {
        let request = |kind: u8| {
            [&[0, 0, 0, 14, 0x6a, 12, 0x30, 10, 0xa1, 3, 2, 1, 5, 0xa2, 3, 2, 1][..], &[kind]]
                .concat()
        };
        expect(
            kerberos,
            1,
            &[(&request(10), &[], Is(Protocol::KERBEROS)), (&request(12), &[], No)],
        );
        let middle = [0xaa, 0x81, 0x96];
        expect(
            kerberos,
            88,
            &[(&middle, &[], More), (&middle, &request(10), Is(Protocol::KERBEROS))],
        );
        expect(kerberos, 1, &[(&middle, &[], No)]);
    }

    #[test]
    fn ldap_adds_up() {
        expect(
            ldap,
            1,
            &[
                (b"0\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\0\x80\0", &[], Is(Protocol::LDAP)),
                (b"0\x0c\x02\x01\x01\x60\x07\x02\x01\x01\x04\0\x80\0", &[], No),
                (b"0\x0b\x02\x01\x01\x60\x07\x02\x01\x03\x04\0\x80\0", &[], No),
                (&[], b"0\x0c\x02\x01\x02\x65\x07\x0a\x01\0\x04\0\x04\0", Is(Protocol::LDAP)),
                // SNMP begins alike.
                (b"0\x26\x02\x01\x01\x04\x06public\xa0\x19", &[], No),
            ],
        );
    }
}
