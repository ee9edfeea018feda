//! How two ends find a way to each other through address translators: STUN, its relaying part TURN, and which
//! service they do it for.

use super::octets::{be16, be32, chain, holds, only};
use super::{ApplicationProtocol, Look, Said};

/// RFC 8489 section 5: the number that every message carries.
const COOKIE: u32 = 0x2112_a442;
/// The length of the header.
const HEADER: usize = 20;

/// STUN: the two zero bits, the magic cookie, a length that ends with the datagram, attributes that fill it
/// (RFC 8489 sections 5 and 14); the same without a cookie but with only the attributes of RFC 3489 section
/// 11.2; or TURN ChannelData of one channel twice in a row (RFC 8656 section 12.4).
pub(super) fn stun(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    match datagram.first() {
        Some(0..0x40) if be32(datagram, 4) == Some(COOKIE) => {
            only(attributes(datagram).is_some(), ApplicationProtocol::STUN)
        }
        Some(0..2) => classic(datagram),
        Some(0x40..0x80) => channel_data(said),
        _ => Look::No,
    }
}

/// The attributes, and whether they are padded to four octets, if their chain ends with the datagram and so
/// does what the header says. WhatsApp and Microsoft do not pad.
fn attributes(datagram: &[u8]) -> Option<(&[u8], bool)> {
    let rest = datagram.get(HEADER..)?;
    let fill = |padded| chain(rest, |rest| attribute(rest, padded)).map(|_| (rest, padded));
    let whole = usize::from(be16(datagram, 2)?) == rest.len();
    fill(true).or_else(|| fill(false)).filter(|_| whole)
}

/// How long the attribute at the start is: a type, a length, a value.
fn attribute(rest: &[u8], padded: bool) -> Option<usize> {
    let long = 4 + usize::from(be16(rest, 2)?);
    Some(if padded { long.next_multiple_of(4) } else { long })
}

/// RFC 3489: binding and shared secret requests, responses and errors, also with the attributes of Zoom.
/// Without an attribute there is nothing but the type, so that the answer has to be waited for.
fn classic(datagram: &[u8]) -> Look {
    if !matches!(be16(datagram, 0), Some(1 | 2 | 0x101 | 0x102 | 0x111 | 0x112)) {
        return Look::No;
    }
    let known = |rest: &[u8]| match be16(rest, 0) {
        Some(1..=0xb | 0x101 | 0x103 | 0x8020 | 0x8022) => attribute(rest, true),
        _ => None,
    };
    match datagram.get(HEADER..) {
        Some([]) if datagram.get(2..4) == Some(&[0, 0]) => Look::More,
        Some(rest) => {
            let whole = be16(datagram, 2).map(usize::from) == Some(rest.len());
            only(
                whole && chain(rest, known).is_some_and(|many| many > 0),
                ApplicationProtocol::STUN,
            )
        }
        None => Look::No,
    }
}

/// A channel number from 0x4000 to 0x4fff and the length of what follows, that of padding aside. GTP version
/// 2 (port 2123) looks the same.
fn channel_data(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let (Some(0x4000..=0x4fff), Some(long)) = (be16(datagram, 0), be16(datagram, 2)) else {
        return Look::No;
    };
    let long = usize::from(long);
    if long == 0 || !(long..=long.next_multiple_of(4)).contains(&datagram.len().saturating_sub(4)) {
        return Look::No;
    }
    if said.has_port(2123) {
        return Look::No;
    }
    let again = said.before.first_chunk::<2>().is_some_and(|channel| datagram.starts_with(channel));
    if again { Look::Is(ApplicationProtocol::STUN) } else { Look::More }
}

/// The service behind a STUN message as nDPI names it: by the attributes that only that service sends, or by
/// the REALM or SOFTWARE that its servers give. Most messages tell nothing: ask for each of the first.
pub(in super::super) fn stun_service(datagram: &[u8]) -> Option<&'static str> {
    let (mut rest, padded) = attributes(datagram)?;
    let classic = be32(datagram, 4) != Some(COOKIE);
    if classic && !matches!(datagram, [0 | 1, 1, ..]) {
        return None;
    }
    while let Some(long) = attribute(rest, padded) {
        let value = rest.get(4..long)?;
        let found = match be16(rest, 0)? {
            0x14 | 0x8022 if !classic => named(value),
            0x101 | 0x103 => Some("Zoom"),
            kind => vendor(kind).filter(|_| !classic),
        };
        if found.is_some() {
            return found;
        }
        rest = rest.get(long..)?;
    }
    None
}

/// Attributes of one vendor. 0x4000 to 0x4007 are in the range of RFC 8489 that nobody was given, and were
/// seen in WhatsApp's captures; Microsoft's are in MS-TURN and MS-ICE2 sections 2.2; 0x0101 and 0x0103 are
/// Zoom's as seen in captures; 0xff03 is Google's.
fn vendor(kind: u16) -> Option<&'static str> {
    match kind {
        0x4000..=0x4004 | 0x4007 => Some("WhatsAppCall"),
        0x8054 | 0x8055 | 0x8070 | 0x8095 => Some("Skype_TeamsCall"),
        0xff03 => Some("GoogleHangoutDuo"),
        _ => None,
    }
}

/// Names in REALM and SOFTWARE.
fn named(value: &[u8]) -> Option<&'static str> {
    const NAMES: [(&[u8], &str); 6] = [
        (b"facebook", "FacebookVoip"),
        (b"google.com", "GoogleHangoutDuo"),
        (b"whispersystems.org", "SignalVoip"),
        (b"signal.org", "SignalVoip"),
        (b"telegram", "TelegramVoip"),
        (b"viber", "ViberVoip"),
    ];
    NAMES.iter().find(|(text, _)| holds(value, 128, text)).map(|&(_, service)| service)
}

#[cfg(test)]
mod tests {
    use super::super::octets::check;
    use super::*;

    const IS: Look = Look::Is(ApplicationProtocol::STUN);
    const PORTS: (u16, u16) = (40000, 3478);

    fn message(kind: u16, cookie: u32, attributes: &[u8]) -> Vec<u8> {
        let long = u16::try_from(attributes.len()).unwrap_or(0);
        let mut message = [kind.to_be_bytes(), long.to_be_bytes()].concat();
        message.extend(cookie.to_be_bytes());
        message.extend([7; 12]);
        message.extend(attributes);
        message
    }

    #[test]
    fn knows_stun() {
        let change = [0, 3, 0, 4, 0, 0, 0, 6];
        let channel = [0x40, 1, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0];
        check(
            stun,
            &[
                (&message(1, COOKIE, &[]), &[], PORTS, IS),
                (&message(1, COOKIE, &[0x80, 0x22, 0, 3, b'a', b'b', b'c', 0]), &[], PORTS, IS),
                (
                    &message(1, COOKIE, &[0x80, 0x22, 0, 5, b'a', b'b', b'c', 0]),
                    &[],
                    PORTS,
                    Look::No,
                ),
                (&message(3, COOKIE, &[0x40, 0, 0, 3, 1, 2, 3]), &[], PORTS, IS),
                (&message(3, COOKIE, &[0x40, 0, 0, 2, 1, 2, 3]), &[], PORTS, Look::No),
                (&message(1, 1, &[1, 1, 0, 4, 1, 2, 3, 4]), &[], PORTS, IS),
                (&message(1, 1, &[1, 2, 0, 4, 1, 2, 3, 4]), &[], PORTS, Look::No),
                (&message(0x4001, COOKIE, &[]), &[], PORTS, Look::No),
                (&message(1, 0x0102_0304, &[]), &[], PORTS, Look::More),
                (&message(1, 0x0102_0304, &change), &[], PORTS, IS),
                (&message(3, 0x0102_0304, &change), &[], PORTS, Look::No),
                (&channel, &[], PORTS, Look::More),
                (&channel, &[0x40, 1, 0, 9, 1], PORTS, IS),
                (&channel, &[0x40, 2, 0, 9, 1], PORTS, Look::More),
                (&channel, &[0x40, 1, 0, 9, 1], (40000, 2123), Look::No),
                (&[0x40, 1, 0, 9, 1, 2, 3, 4, 5], &[], PORTS, Look::No),
            ],
        );
    }

    #[test]
    fn knows_the_service() {
        let realm = *b"\x00\x14\x00\x0bexample.com\x00";
        for (attributes, service) in [
            (&[0x40, 0, 0, 1, 1, 0, 0, 0][..], Some("WhatsAppCall")),
            (
                &[0x00, 0x24, 0, 4, 1, 0, 0, 0, 0x80, 0x70, 0, 4, 0, 0, 0, 3],
                Some("Skype_TeamsCall"),
            ),
            (b"\x00\x14\x00\x0fturner.facebook\x00", Some("FacebookVoip")),
            (&realm, None),
        ] {
            assert_eq!(stun_service(&message(3, COOKIE, attributes)), service);
            assert_eq!(stun_service(&message(3, 1, attributes)), None);
        }
    }
}
