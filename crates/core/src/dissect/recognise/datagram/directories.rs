//! Who may do what: directories, tickets, accounts, and the management of devices. Three of them write
//! ASN.1's basic encoding, of which the little that is needed is read here.

use super::octets::{at, be16, chain, only};
use super::{ApplicationProtocol, Look, Said};

/// An item of the basic encoding: its tag, what it holds, and what follows (X.690 sections 8.1.2 and 8.1.3).
fn item(octets: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = octets.split_first_chunk()?;
    let (long, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (long, rest) = rest.split_at_checked(usize::from(first & 7))?;
            (long.iter().fold(0, |sum, &octet| sum << 8 | usize::from(octet)), rest)
        }
        _ => return None,
    };
    let (inside, after) = rest.split_at_checked(long)?;
    Some((tag, inside, after))
}

/// The same if the tag is this one: what it holds and what follows.
fn tagged(octets: &[u8], expected: u8) -> Option<(&[u8], &[u8])> {
    item(octets).filter(|found| found.0 == expected).map(|(_, inside, after)| (inside, after))
}

/// Kerberos: a message whose application tag is also the number that it carries, beside the version 5, and
/// that ends with the datagram (RFC 4120 sections 5.4.1, 5.4.2, 5.5 and 5.9.1).
pub(super) fn kerberos(said: &Said<'_>) -> Look {
    only(kerberos_message(said.datagram()).is_some(), ApplicationProtocol::KERBEROS)
}

fn kerberos_message(datagram: &[u8]) -> Option<()> {
    let (tag, inside, after) = item(datagram)?;
    let number = tag.checked_sub(0x60).filter(|number| matches!(number, 10..=15 | 20..=22 | 30))?;
    let (fields, _) = tagged(inside, 0x30)?;
    // A request to the key distribution center numbers its fields from one, all others from zero.
    let first = if matches!(number, 10 | 12) { 0xa1 } else { 0xa0 };
    let (version, rest) = tagged(fields, first)?;
    let (kind, _) = tagged(rest, first + 1)?;
    (after.is_empty() && version == [2, 1, 5] && kind == [2, 1, number]).then_some(())
}

/// LDAP without a connection: a message with a number, and in it a search, a result or an end whose first
/// field is as it has to be (RFC 4511 sections 4.1.1 and 4.5, MS-ADTS section 6.3.3).
pub(super) fn ldap(said: &Said<'_>) -> Look {
    only(ldap_message(said.datagram()).is_some(), ApplicationProtocol::LDAP)
}

fn ldap_message(datagram: &[u8]) -> Option<()> {
    let (message, after) = tagged(datagram, 0x30)?;
    let (number, rest) = tagged(message, 2)?;
    let (tag, inside, _) = item(rest)?;
    let (first, value, _) = item(inside)?;
    // A search begins with a name and a scope from 0 to 3, a result with a name and a list, an end with a
    // code.
    let fits = match tag {
        0x63 => {
            after.is_empty() && first == 4 && matches!(item(item(inside)?.2)?, (10, [0..=3], _))
        }
        0x64 => first == 4 && tagged(item(inside)?.2, 0x30).is_some(),
        0x65 => after.is_empty() && first == 10 && value.len() == 1,
        _ => false,
    };
    (fits && (1..=4).contains(&number.len())).then_some(())
}

/// SNMP: a message that ends with the datagram, of version 1 or 2 with a community and a command, or of
/// version 3 with the header that it has (RFC 1157 section 4, RFC 3416 section 3, RFC 3412 section 6).
pub(super) fn snmp(said: &Said<'_>) -> Look {
    only(snmp_message(said.datagram()).is_some(), ApplicationProtocol::SNMP)
}

fn snmp_message(datagram: &[u8]) -> Option<()> {
    let (message, after) = tagged(datagram, 0x30)?;
    let (version, rest) = tagged(message, 2)?;
    let fits = match version {
        [0 | 1] => {
            let (_, rest) = tagged(rest, 4)?;
            let (tag, command, rest) = item(rest)?;
            // The old trap begins with the name of its enterprise, all others with a number.
            (0xa0..=0xa8).contains(&tag)
                && rest.is_empty()
                && item(command)?.0 == if tag == 0xa4 { 6 } else { 2 }
        }
        [3] => {
            let (header, rest) = tagged(rest, 0x30)?;
            let (_, header) = tagged(header, 2)?;
            let (_, header) = tagged(header, 2)?;
            let (flags, header) = tagged(header, 4)?;
            flags.len() == 1 && tagged(header, 2).is_some() && tagged(rest, 4).is_some()
        }
        _ => false,
    };
    (fits && after.is_empty()).then_some(())
}

/// RADIUS: a code, a length that ends with the datagram, and attributes that fill it (RFC 2865 section 3, RFC
/// 2866 section 3, RFC 5176 section 2.3), on one of its ports or with a signature or a server's address of
/// the length that they have (RFC 3579 section 3.2, RFC 2865 section 5.4).
pub(super) fn radius(said: &Said<'_>) -> Look {
    const PORTS: [u16; 5] = [1645, 1646, 1812, 1813, 3799];
    let datagram = said.datagram();
    let code = matches!(datagram, [1..=5 | 11..=13 | 40..=45, ..]);
    let whole = be16(datagram, 2).is_some_and(|long| usize::from(long) == datagram.len());
    let Some(attributes) = datagram.get(20..).filter(|_| code && whole) else {
        return Look::No;
    };
    let attribute = |rest: &[u8]| {
        Some(usize::from(*rest.get(1)?)).filter(|&long| long >= 2 && !at(rest, 0, &[0]))
    };
    let typed = |mut rest: &[u8]| {
        while let Some(long) = attribute(rest) {
            if matches!(rest, [80, 18, ..] | [4, 6, ..]) {
                return true;
            }
            rest = rest.get(long..).unwrap_or_default();
        }
        false
    };
    let known = PORTS.iter().any(|&port| said.has_port(port)) || typed(attributes);
    only(chain(attributes, attribute).is_some() && known, ApplicationProtocol::RADIUS)
}

#[cfg(test)]
mod tests {
    use super::super::octets::check;
    use super::*;

    #[test]
    fn knows_kerberos() {
        let is = Look::Is(ApplicationProtocol::KERBEROS);
        let ask = [0x6a, 0x0c, 0x30, 0x0a, 0xa1, 3, 2, 1, 5, 0xa2, 3, 2, 1, 10];
        let mut other = ask;
        other[13] = 12;
        check(
            kerberos,
            &[
                (&ask, &[], (40000, 88), is),
                (&other, &[], (40000, 88), Look::No),
                (&ask[..13], &[], (40000, 88), Look::No),
                (
                    &[0x7e, 0x0c, 0x30, 0x0a, 0xa0, 3, 2, 1, 5, 0xa1, 3, 2, 1, 30],
                    &[],
                    (40000, 88),
                    is,
                ),
            ],
        );
    }

    #[test]
    fn knows_ldap() {
        let is = Look::Is(ApplicationProtocol::LDAP);
        check(
            ldap,
            &[
                (&[0x30, 10, 2, 1, 1, 0x63, 5, 4, 0, 10, 1, 0], &[], (40000, 389), is),
                (&[0x30, 10, 2, 1, 1, 0x63, 5, 4, 0, 10, 1, 4], &[], (40000, 389), Look::No),
                (&[0x30, 12, 2, 1, 1, 0x65, 7, 10, 1, 0, 4, 0, 4, 0], &[], (40000, 389), is),
                (&[0x30, 12, 2, 1, 1, 0x66, 7, 10, 1, 0, 4, 0, 4, 0], &[], (40000, 389), Look::No),
            ],
        );
    }

    #[test]
    fn knows_snmp() {
        let is = Look::Is(ApplicationProtocol::SNMP);
        let get = [0x30, 14, 2, 1, 1, 4, 2, b'a', b'b', 0xa0, 5, 2, 1, 9, 5, 0];
        let three = [0x30, 19, 2, 1, 3, 0x30, 12, 2, 1, 9, 2, 1, 99, 4, 1, 4, 2, 1, 3, 4, 0];
        check(
            snmp,
            &[
                (&get, &[], (40000, 161), is),
                (&get[..15], &[], (40000, 161), Look::No),
                (
                    &[0x30, 14, 2, 1, 2, 4, 2, b'a', b'b', 0xa0, 5, 2, 1, 9, 5, 0],
                    &[],
                    (40000, 161),
                    Look::No,
                ),
                (&three, &[], (40000, 161), is),
            ],
        );
    }

    #[test]
    fn knows_radius() {
        let is = Look::Is(ApplicationProtocol::RADIUS);
        let ask = |kind, long| [&[1, 9, 0, 26][..], &[7; 16], &[kind, long, 10, 0, 0, 1]].concat();
        check(
            radius,
            &[
                (&ask(1, 6), &[], (40000, 1812), is),
                (&ask(1, 6), &[], (40000, 1814), Look::No),
                (&ask(4, 6), &[], (40000, 1814), is),
                (&ask(1, 7), &[], (40000, 1812), Look::No),
            ],
        );
    }
}
