//! Voice and video over the network: the signalling that sets a call up and the streams that carry it.

use super::octets::{at, be16, be32, holds, only, weigh};
use super::{ApplicationProtocol, Look, Said};

/// SIP: a request line that ends in `SIP/2.0` or a status line that begins so, and a header that each message
/// has to carry (RFC 3261 sections 7.1, 7.2 and 8.1.1). A line end, or four octets of zero, keeps the way
/// open (RFC 5626 section 4.4.1) and tells nothing yet.
pub(super) fn sip(said: &Said<'_>) -> Look {
    const METHODS: [&[u8]; 14] = [
        b"INVITE ",
        b"ACK ",
        b"BYE ",
        b"CANCEL ",
        b"OPTIONS ",
        b"REGISTER ",
        b"PRACK ",
        b"SUBSCRIBE ",
        b"NOTIFY ",
        b"PUBLISH ",
        b"INFO ",
        b"REFER ",
        b"MESSAGE ",
        b"UPDATE ",
    ];
    let datagram = said.datagram();
    if matches!(datagram, b"\r\n" | b"\r\n\r\n" | [0, 0, 0, 0]) {
        return Look::More;
    }
    let status = datagram.starts_with(b"SIP/2.0 ")
        && datagram.get(8).is_some_and(|digit| (b'1'..=b'6').contains(digit));
    // The end of the line is looked for in those only that begin like one.
    let line = || datagram.split(|&octet| octet == b'\r').next().unwrap_or_default();
    let request = datagram.first().is_some_and(u8::is_ascii_uppercase)
        && METHODS.iter().any(|method| datagram.starts_with(method))
        && line().ends_with(b" SIP/2.0");
    let headers: [&[u8]; 4] = [b"\r\nVia:", b"\r\nv:", b"\r\nCall-ID:", b"\r\nFrom:"];
    let header = || headers.iter().any(|header| holds(datagram, 2048, header));
    only((status || request) && header(), ApplicationProtocol::SIP)
}

/// RTP: a header of version 2 that fits the datagram, twice in a row of the same source and kind with the
/// sequence numbers following each other and the clock not far apart (RFC 3550 section 5.1, A.1). A few other
/// octets may come before to keep the way open (RFC 6263).
pub(super) fn rtp(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    if datagram.len() <= 20 && !rtp_fits(datagram) {
        return Look::More;
    }
    let sure = rtp_follows(said.before, datagram) == Some(true);
    weigh(rtp_fits(datagram), sure, ApplicationProtocol::RTP)
}

/// Version 2, a payload type that is assigned or dynamic and not one of RTCP (RFC 5761 section 4), room for
/// the sources, the extension and the padding that the header tells of, and a payload.
fn rtp_fits(datagram: &[u8]) -> bool {
    rtp_payload(datagram).is_some_and(|rest| !rest.is_empty())
        && datagram.get(1).is_some_and(|kind| matches!(kind & 0x7f, 0..=34 | 96..=127))
}

/// What follows the header.
fn rtp_payload(datagram: &[u8]) -> Option<&[u8]> {
    let first = *datagram.first()?;
    let mut header = 12 + 4 * usize::from(first & 15);
    if first & 0x10 != 0 {
        header += 4 + 4 * usize::from(be16(datagram, header + 2)?);
    }
    let rest = datagram.get(header..)?;
    let padding = if first & 0x20 == 0 { 0 } else { usize::from(*rest.last()?) };
    (first >> 6 == 2).then(|| rest.get(..rest.len().checked_sub(padding)?))?
}

/// Whether the header goes on from the one before.
fn rtp_follows(before: &[u8], now: &[u8]) -> Option<bool> {
    let same = before.first()? >> 6 == 2
        && before.get(1)? & 0x7f == now.get(1)? & 0x7f
        && be32(before, 8)? == be32(now, 8)?
        && be32(now, 8)? != 0;
    let clock = be32(now, 4)?.wrapping_sub(be32(before, 4)?);
    let step = be16(now, 2)?.wrapping_sub(be16(before, 2)?);
    Some(same && (1..=8).contains(&step) && clock < 90_000 * 10)
}

/// RTCP: packets of version 2 and of the types 200 to 207 that end with the datagram, the first a report, all
/// lengths as the counts ask for and each of the same sender (RFC 3550 sections 6.1 and 6.4); or, if what
/// follows the first header is encrypted (RFC 3711 section 3.4), twice in a row the same header and sender.
pub(super) fn rtcp(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let Some(first) = report(datagram) else {
        return Look::No;
    };
    let (sender, mut rest, mut packets) = (be32(datagram, 4), datagram.get(first..), 1);
    while let Some(packet) = rest.filter(|rest| !rest.is_empty()) {
        let known = matches!(packet, [0x80..=0xbf, 200..=207, ..]);
        let chunk_of_sender = packet.get(1) != Some(&202) || be32(packet, 4) == sender;
        let long = be16(packet, 2).map(|words| 4 + 4 * usize::from(words));
        rest = long.filter(|_| known && chunk_of_sender).and_then(|long| packet.get(long..));
        packets += 1;
    }
    let compound = rest.is_some() && packets > 1;
    let again = said.before.len() >= 8 && said.before.get(..8) == datagram.get(..8);
    weigh(true, compound || again, ApplicationProtocol::RTCP)
}

/// How long the sender or receiver report at the start is: at least as long as its count of blocks says.
fn report(datagram: &[u8]) -> Option<usize> {
    let blocks = usize::from(datagram.first()? & 31);
    let fixed = match datagram.get(1)? {
        200 => 28,
        201 => 8,
        _ => return None,
    };
    let long = 4 + 4 * usize::from(be16(datagram, 2)?);
    let fits = datagram.first()? >> 6 == 2 && long >= fixed + 24 * blocks && long <= datagram.len();
    (fits && be32(datagram, 4)? != 0).then_some(long)
}

/// Zoom on its servers' ports 8801 to 8810: the request for a connection (as seen in captures); or media,
/// with the encapsulation of the relay (type 5, direction 0 or 4 in octet 7) and of the media (type in octet
/// 8), which tells where the header of RTP or RTCP has to be (Michel et al., Enabling Passive Measurement of
/// Zoom Performance, IMC 2022, section 4.2), twice in a row.
pub(super) fn zoom(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    if !(8801..=8810).any(|port| said.has_port(port)) {
        return Look::No;
    }
    let inner = |place| datagram.get(place..).unwrap_or_default();
    let carries = match datagram.get(8) {
        Some(13) => rtp_fits(inner(35)),
        Some(15) => rtp_fits(inner(27)),
        Some(16) => rtp_fits(inner(32)),
        _ => report(inner(24)).is_some(),
    };
    let media =
        |octets: &[u8]| matches!(octets, [5, _, _, _, _, _, _, 0 | 4, 13 | 15 | 16 | 33..=35, ..]);
    let fits = matches!(datagram, [1 | 2, 0, ..] | [3 | 4, 0, 0, 0, ..] | [5, ..]);
    let sure = zoom_asks(datagram) || (media(datagram) && carries && media(said.before));
    weigh(fits, sure, ApplicationProtocol::ZOOM)
}

/// A kind, 16 octets of identity, the number 2, one time twice, and the length 64.
fn zoom_asks(datagram: &[u8]) -> bool {
    let fixed = at(datagram, 19, &[0, 0, 0, 0, 0, 0, 0, 2]) && at(datagram, 35, &[0, 0, 0, 64]);
    fixed && matches!(datagram, [1, 0, 2 | 3, ..]) && be32(datagram, 27) == be32(datagram, 31)
}

/// Telegram's calls over its relays: 16 octets that name the call, twelve octets of ones, and what is asked
/// or answered (as the published libtgvoip writes and reads it).
pub(super) fn telegram(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let asked = at(datagram, 28, &[0xfe, 0xff, 0xff, 0xff]) && datagram.len() == 40;
    let answers = [0xc015_72c7_u32, 0x27d9_371c, 0x83fc_73b1];
    let answered = answers.iter().any(|answer| at(datagram, 28, &answer.to_le_bytes()));
    only(at(datagram, 16, &[0xff; 12]) && (asked || answered), ApplicationProtocol::TELEGRAM)
}

/// TeamSpeak 3: the fixed text in place of a signature, the packet number 101 and the kind of the first
/// handshake (as seen in captures).
pub(super) fn teamspeak(said: &Said<'_>) -> Look {
    let Some(rest) = said.datagram().strip_prefix(b"TS3INIT1") else {
        return Look::No;
    };
    // The client puts its number, which is still 0, between the packet number and the kind.
    let asks = matches!(rest, [0, 0x65, 0, 0, 0x88, ..]);
    only(asks || matches!(rest, [0, 0x65, 0x88, ..]), ApplicationProtocol::TEAMSPEAK)
}

/// Skype between its ends, before 2017: a number, the function 2, a value that is new each time, an address,
/// and the encrypted rest (Bonfiglio et al., Revealing Skype Traffic, SIGCOMM 2007, section 3). Known when
/// the same object is sent again: the number and the address stay, the value and so all that is encrypted
/// change.
pub(super) fn skype(said: &Said<'_>) -> Look {
    let (now, before) = (said.datagram(), said.before);
    let fits = now.len() >= 24 && now.get(2) == Some(&2);
    let differ = |range: std::ops::Range<usize>| {
        let pair = now.get(range.clone()).zip(before.get(range)).unwrap_or_default();
        pair.0.iter().zip(pair.1).filter(|(now, before)| now != before).count()
    };
    let end = now.len().min(before.len());
    let sure = end >= 24
        && (now.len() == before.len() || end == 32)
        && now.get(..3) == before.get(..3)
        && now.get(7..11) == before.get(7..11)
        && !at(now, 7, &[0; 4])
        && differ(3..7) >= 3
        && differ(11..end) + 2 >= end - 11;
    weigh(fits, sure, ApplicationProtocol::SKYPE_TEAMS)
}

#[cfg(test)]
mod tests {
    use super::super::octets::check;
    use super::*;

    const PORTS: (u16, u16) = (40000, 40002);

    #[test]
    fn knows_sip() {
        let is = Look::Is(ApplicationProtocol::SIP);
        check(
            sip,
            &[
                (b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP c\r\n\r\n", &[], PORTS, is),
                (b"OPTIONS sip:a@b SIP/3.0\r\nVia: SIP/3.0/UDP c\r\n\r\n", &[], PORTS, Look::No),
                (b"SIP/2.0 200 OK\r\nCall-ID: 1\r\n\r\n", &[], PORTS, is),
                (b"SIP/2.0 200 OK\r\n\r\n", &[], PORTS, Look::No),
                (b"\r\n\r\n", &[], PORTS, Look::More),
            ],
        );
    }

    #[test]
    fn knows_rtp() {
        let packet =
            |kind, number, source| [0x80, kind, 0, number, 0, 0, 0, number, 0, 0, 0, source, 7];
        check(
            rtp,
            &[
                (&packet(8, 2, 5), &packet(8, 1, 5), PORTS, Look::Is(ApplicationProtocol::RTP)),
                (&packet(8, 2, 5), &packet(8, 1, 6), PORTS, Look::More),
                (&packet(8, 2, 5), &packet(8, 2, 5), PORTS, Look::More),
                (&packet(8, 2, 5), &[], PORTS, Look::More),
                (&packet(72, 2, 5), &packet(72, 1, 5), PORTS, Look::More),
                (&[&packet(72, 2, 5)[..], &[7; 9]].concat(), &packet(72, 1, 5), PORTS, Look::No),
            ],
        );
    }

    #[test]
    fn knows_rtcp() {
        let is = Look::Is(ApplicationProtocol::RTCP);
        let compound = [0x80, 201, 0, 1, 0, 0, 0, 5, 0x81, 202, 0, 2, 0, 0, 0, 5, 1, 0, 0, 0];
        let mut other = compound;
        other[15] = 6;
        check(
            rtcp,
            &[
                (&compound, &[], PORTS, is),
                (&other, &[], PORTS, Look::More),
                (&compound[..8], &[], PORTS, Look::More),
                (&compound[..8], &compound[..8], PORTS, is),
                (&[0x81, 201, 0, 1, 0, 0, 0, 5], &[], PORTS, Look::No),
            ],
        );
    }

    #[test]
    fn knows_messengers() {
        let media = |kind: u8, pad: usize| {
            let inner = [0x80, 99, 0, 1, 0, 0, 0, 1, 0, 0, 0, 5, 7];
            [&[5, 0, 1, 0, 0, 0, 0, 0, kind][..], &vec![0; pad], &inner].concat()
        };
        let hello = |long| {
            let times = [0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0, long];
            [&[1, 0, 3][..], &[7; 16], &times, &[7; 68]].concat()
        };
        check(
            zoom,
            &[
                (
                    &media(15, 18),
                    &media(16, 23)[..32],
                    (40000, 8801),
                    Look::Is(ApplicationProtocol::ZOOM),
                ),
                (&media(15, 18), &[], (40000, 8801), Look::More),
                (&media(15, 18), &[], (40000, 8800), Look::No),
                (&media(15, 17), &media(15, 18)[..32], (40000, 8801), Look::More),
                (&hello(64), &[], (40000, 8801), Look::Is(ApplicationProtocol::ZOOM)),
                (&hello(65), &[], (40000, 8801), Look::More),
                (&hello(64), &[], (40000, 8811), Look::No),
            ],
        );
        let asks = |last| [&[7; 16][..], &[0xff; 12], &[last, 0xff, 0xff, 0xff], &[7; 8]].concat();
        check(
            telegram,
            &[
                (&asks(0xfe), &[], PORTS, Look::Is(ApplicationProtocol::TELEGRAM)),
                (&asks(0xfd), &[], PORTS, Look::No),
            ],
        );
        check(
            teamspeak,
            &[
                (b"TS3INIT1\0e\0\0\x88rest", &[], PORTS, Look::Is(ApplicationProtocol::TEAMSPEAK)),
                (b"TS3INIT1\0f\0\0\x88rest", &[], PORTS, Look::No),
            ],
        );
        let object = |value: u8, address: u8| {
            [&[1, 2, 2][..], &[value; 4], &[address; 4], &[value; 14]].concat()
        };
        check(
            skype,
            &[
                (&object(1, 9), &object(2, 9), PORTS, Look::Is(ApplicationProtocol::SKYPE_TEAMS)),
                (&object(1, 9), &object(2, 8), PORTS, Look::More),
                (&object(1, 9), &object(1, 9), PORTS, Look::More),
                (&object(1, 9)[1..], &[], PORTS, Look::No),
            ],
        );
    }
}
