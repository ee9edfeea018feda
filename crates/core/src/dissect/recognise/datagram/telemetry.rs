//! What devices report of themselves and of the traffic they see.

use super::octets::{at, be16, be32, chain, next, only, weigh};
use super::{ApplicationProtocol, Look, Said};

/// NetFlow: version 5 (and 1 and 7) with as many records as the length has room for (Cisco, NetFlow Export
/// Datagram Format); version 9 and IPFIX with sets that fill the datagram (RFC 3954 section 5, RFC 7011
/// section 3). nDPI calls all of them so.
pub(super) fn netflow(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let sure = match be16(datagram, 0) {
        Some(1) => records(datagram, 16, 52, 24),
        Some(5) => records(datagram, 24, 48, 30),
        Some(7) => records(datagram, 24, 52, 28),
        Some(9) => be16(datagram, 2) != Some(0) && dated(datagram, 8) && sets(datagram, 20, 0..=1),
        Some(10) => {
            let whole = be16(datagram, 2).is_some_and(|long| usize::from(long) == datagram.len());
            whole && dated(datagram, 4) && sets(datagram, 16, 2..=3)
        }
        _ => false,
    };
    only(sure, ApplicationProtocol::NETFLOW)
}

/// Whether the time of day at this place is after 2000.
fn dated(datagram: &[u8], place: usize) -> bool {
    be32(datagram, place).is_some_and(|seconds| seconds > 946_684_800)
}

/// Whether the count agrees with the length and the time is one.
fn records(datagram: &[u8], header: usize, record: usize, most: usize) -> bool {
    let count = be16(datagram, 2).map_or(0, usize::from);
    (1..=most).contains(&count) && datagram.len() == header + record * count && dated(datagram, 8)
}

/// Whether sets follow the header: templates, or data of a template's number, the last up to the end.
fn sets(datagram: &[u8], header: usize, templates: std::ops::RangeInclusive<u16>) -> bool {
    let set = |rest: &[u8]| {
        let kind = be16(rest, 0)?;
        let long = usize::from(be16(rest, 2)?);
        ((templates.contains(&kind) || kind >= 256) && long >= 4).then_some(long)
    };
    datagram.get(header..).and_then(|rest| chain(rest, set)).is_some_and(|sets| sets > 0)
}

/// sFlow: version 5, an agent's address, and as many samples as are told that fill the datagram (sFlow
/// Version 5, section 5, sample_datagram_v5).
pub(super) fn sflow(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let samples = match (be32(datagram, 0), be32(datagram, 4)) {
        (Some(5), Some(1)) => 24,
        (Some(5), Some(2)) => 36,
        _ => return Look::No,
    };
    let sample = |rest: &[u8]| usize::try_from(be32(rest, 4)?).ok()?.checked_add(8);
    let found = datagram.get(samples + 4..).and_then(|rest| chain(rest, sample));
    let told = be32(datagram, samples).and_then(|told| usize::try_from(told).ok());
    weigh(found.is_some() && found == told, found > Some(0), ApplicationProtocol::SFLOW)
}

/// Syslog: a priority up to 191 in angle brackets, then either the version 1 and a time (RFC 5424 section 6)
/// or a month and a day (RFC 3164 section 4.1.2); or on port 514 any text (RFC 3164 section 4.3.3).
pub(super) fn syslog(said: &Said<'_>) -> Look {
    let Some(rest) = said.datagram().strip_prefix(b"<") else {
        return Look::No;
    };
    let digits = rest.iter().take(4).take_while(|octet| octet.is_ascii_digit()).count();
    let priority = rest
        .get(..digits)
        .unwrap_or_default()
        .iter()
        .fold(0_u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    let Some(message) = rest.get(digits..).and_then(|rest| rest.strip_prefix(b">")) else {
        return Look::No;
    };
    let plain = |octet: &u8| matches!(octet, 9 | 10 | 13 | 32..=126 | 128..);
    let known = digits > 0 && priority <= 191;
    let message = message.strip_suffix(&[0]).unwrap_or(message);
    let text = said.has_port(514) && message.len() >= 4 && message.iter().take(256).all(plain);
    only(known && (begins(message) || text), ApplicationProtocol::SYSLOG)
}

/// The beginnings that the two documents ask for.
fn begins(message: &[u8]) -> bool {
    const MONTHS: &[u8] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let digit = |place: usize| message.get(place).is_some_and(u8::is_ascii_digit);
    let newer = at(message, 0, b"1 ")
        && (at(message, 2, b"- ") || (digit(2) && digit(5) && at(message, 6, b"-")));
    let month =
        message.get(..3).is_some_and(|month| MONTHS.chunks_exact(3).any(|known| known == month));
    newer
        || (month
            && at(message, 3, b" ")
            && digit(5)
            && at(message, 6, b" ")
            && at(message, 9, b":"))
}

/// EAQ, the measurement of Brazil's broadband on port 6000: 16 octets with a number that goes up by one, a
/// clock, its microseconds, and a length; twice in a row (as seen in captures).
pub(super) fn eaq(said: &Said<'_>) -> Look {
    let (now, before) = (said.datagram(), said.before);
    let microseconds = be32(now, 8).is_some_and(|part| part < 1_000_000);
    let fits = said.has_port(6000) && now.len() == 16 && at(now, 12, &[0, 0]) && microseconds;
    let step = |place, most| {
        be32(before, place).zip(be32(now, place)).is_some_and(|(a, b)| next(a, b, most))
    };
    let sure =
        before.len() == 16 && step(0, 1) && step(4, 3600) && now.get(12..) == before.get(12..);
    weigh(fits, sure, ApplicationProtocol::EAQ)
}

#[cfg(test)]
mod tests {
    use super::super::octets::check;
    use super::*;

    #[test]
    fn knows_netflow() {
        let (is, ports) = (Look::Is(ApplicationProtocol::NETFLOW), (40000, 2055));
        let five = |count| [&[0, 5, 0, count, 0, 0, 0, 1, 0x60, 0, 0, 0][..], &[0; 60]].concat();
        let nine = [&[0, 9, 0, 1][..], &[0x60; 16], &[1, 0, 0, 8, 1, 2, 3, 4]].concat();
        let ten = |kind| [&[0, 10, 0, 24][..], &[0x60; 12], &[0, kind, 0, 8, 1, 2, 3, 4]].concat();
        check(
            netflow,
            &[
                (&five(1), &[], ports, is),
                (&five(2), &[], ports, Look::No),
                (&nine, &[], ports, is),
                (&nine[..27], &[], ports, Look::No),
                (&ten(2), &[], ports, is),
                (&ten(1), &[], ports, Look::No),
            ],
        );
    }

    #[test]
    fn knows_sflow() {
        let start = |samples| {
            [&[0, 0, 0, 5, 0, 0, 0, 1, 10, 0, 0, 1][..], &[0; 12], &[0, 0, 0, samples]].concat()
        };
        let sample = [0, 0, 0, 1, 0, 0, 0, 4, 1, 2, 3, 4];
        check(
            sflow,
            &[
                (
                    &[start(1), sample.to_vec()].concat(),
                    &[],
                    (1, 6343),
                    Look::Is(ApplicationProtocol::SFLOW),
                ),
                (&[start(2), sample.to_vec()].concat(), &[], (1, 6343), Look::No),
                (&start(0), &[], (1, 6343), Look::More),
            ],
        );
    }

    #[test]
    fn knows_syslog() {
        let is = Look::Is(ApplicationProtocol::SYSLOG);
        check(
            syslog,
            &[
                (b"<34>1 2003-10-11T22:14:15.003Z host app - - text", &[], (1, 1514), is),
                (b"<34>Oct  1 22:14:15 host app: text", &[], (1, 1514), is),
                (b"<192>Oct  1 22:14:15 host app: text", &[], (1, 514), Look::No),
                (b"<34>text", &[], (1, 514), is),
                (b"<34>text", &[], (1, 1514), Look::No),
                (b"<a>text", &[], (1, 514), Look::No),
            ],
        );
    }

    #[test]
    fn knows_eaq() {
        let is = Look::Is(ApplicationProtocol::EAQ);
        let probe = |number, clock| [0, 0, 0, number, 0, 0, 0, clock, 0, 1, 2, 3, 0, 0, 0x90, 0];
        check(
            eaq,
            &[
                (&probe(1, 5), &probe(0, 4), (40000, 6000), is),
                (&probe(1, 5), &[], (40000, 6000), Look::More),
                (&probe(2, 5), &probe(0, 4), (40000, 6000), Look::More),
                (&probe(1, 5), &probe(0, 4), (40000, 6001), Look::No),
            ],
        );
    }
}
