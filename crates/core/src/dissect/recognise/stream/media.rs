//! Sound and pictures: RTSP and SIP (text like HTTP's), RTMP, and Spotify's access points.

use super::octets::{Fit, be32, begins, contains, is_printable, line, one_of};
use super::{ApplicationProtocol, Look, Said};

/// A first line that is a request (`METHOD` in capitals, a target, the version) or a response to
/// one.
fn first_line(
    octets: &[u8],
    version: &str,
    methods: &[&str],
    target: impl Fn(&[u8]) -> bool,
) -> Fit {
    let version = version.as_bytes();
    let of = |method: &&str| begins(octets, method.as_bytes()) != Fit::Against;
    if begins(octets, version) == Fit::Against && !methods.iter().any(of) {
        return Fit::Against;
    }
    let Some((text, _)) = line(octets) else {
        let fits =
            octets.len() < 1024 && is_printable(octets.strip_suffix(b"\r").unwrap_or(octets));
        return if fits { Fit::Open } else { Fit::Against };
    };
    if let Some(status) = text.strip_prefix(version) {
        return Fit::sure_if(matches!(
            status,
            [b' ', b'1'..=b'6', b'0'..=b'9', b'0'..=b'9']
                | [b' ', b'1'..=b'6', b'0'..=b'9', b'0'..=b'9', b' ', ..]
        ));
    }
    let mut words = text.split(|&octet| octet == b' ');
    let method = words.next().unwrap_or_default();
    Fit::sure_if(
        methods.iter().any(|known| known.as_bytes() == method)
            && words.next().is_some_and(target)
            && words.next() == Some(version)
            && words.next().is_none(),
    )
}

/// RTSP: a request or a response. RFC 2326, sections 6, 7 and 10; RFC 7826.
pub(super) fn rtsp(said: &Said<'_>) -> Look {
    const METHODS: [&str; 11] = [
        "OPTIONS",
        "DESCRIBE",
        "ANNOUNCE",
        "SETUP",
        "PLAY",
        "PAUSE",
        "TEARDOWN",
        "GET_PARAMETER",
        "SET_PARAMETER",
        "RECORD",
        "REDIRECT",
    ];
    let target =
        |target: &[u8]| target == b"*" || contains(target, b"://") || target.starts_with(b"/");
    one_of(said, ApplicationProtocol::RTSP, |octets| {
        match first_line(octets, "RTSP/1.0", &METHODS, target) {
            Fit::Against => first_line(octets, "RTSP/2.0", &METHODS, target),
            fit => fit,
        }
    })
}

/// SIP over a stream: a request or a response; empty lines before it keep the connection alive.
/// RFC 3261, sections 7 and 7.5; RFC 5626, 3.5.1.
pub(super) fn sip(said: &Said<'_>) -> Look {
    const METHODS: [&str; 14] = [
        "INVITE",
        "ACK",
        "BYE",
        "CANCEL",
        "REGISTER",
        "OPTIONS",
        "PRACK",
        "SUBSCRIBE",
        "NOTIFY",
        "PUBLISH",
        "INFO",
        "REFER",
        "MESSAGE",
        "UPDATE",
    ];
    let target = |target: &[u8]| {
        [&b"sip:"[..], b"sips:", b"tel:"].iter().any(|scheme| target.starts_with(scheme))
    };
    one_of(said, ApplicationProtocol::SIP, |octets| {
        let message =
            octets.strip_prefix(b"\r\n\r\n").or(octets.strip_prefix(b"\r\n")).unwrap_or(octets);
        match message {
            [] | [b'\r'] => Fit::Open,
            _ => first_line(message, "SIP/2.0", &METHODS, target),
        }
    })
}

/// RTMP: version 3 and the handshake of 1536 octets, of which the other end's second part repeats
/// the time or the random octets; or, where that is signed in a way of its own, the connect
/// command after the handshake. Adobe, RTMP 1.0, 5.2 and 7.2.1.1.
pub(super) fn rtmp(said: &Said<'_>) -> Look {
    let [asked, told] = [said.initiator, said.responder];
    let opens = |octets: &[u8]| match octets.get(..9) {
        // After the time there are zeros, or the version of who sends it, which the newest ones
        // put there.
        Some(&[3, _, _, _, _, major, _, _, minor]) => {
            major == 0 && minor == 0 || matches!(major, 1..=0x80)
        }
        None => matches!(octets, [] | [3, ..]),
        _ => false,
    };
    if !opens(asked) || !opens(told) {
        return Look::No;
    }
    let repeats = |first: &[u8], second: &[u8]| match (first.get(9..41), second.get(1545..1577)) {
        (Some(sent), Some(repeated)) => sent == repeated && sent != [0; 32],
        _ => false,
    };
    // The chunk's header, of which the type 20 (command) is looked at, and the command's name.
    let connects = asked.get(3073..3073 + 32).is_some_and(|chunk| {
        chunk.first().is_some_and(|first| first & 0x3f >= 2)
            && contains(chunk, b"\x02\0\x07connect")
    });
    match connects || repeats(asked, told) || repeats(told, asked) {
        true => Look::Is(ApplicationProtocol::RTMP),
        false if asked.len() > 3200 => Look::No,
        false => Look::More,
    }
}

/// Spotify: the hello to an access point is 0, 4, its length, and a protobuf message whose first
/// field (10) says which build this is, followed by the fingerprints or ciphers it supports
/// (fields 20 and 30). As in librespot's keyexchange.proto.
pub(super) fn spotify(said: &Said<'_>) -> Look {
    one_of(said, ApplicationProtocol::SPOTIFY, |octets| match octets {
        [0, 4, 0, 0, _, _, 0x52, length @ 4..=64, 0x50, build @ ..] => {
            let fits = be32(octets, 2).is_some_and(|whole| (32..=2048).contains(&whole));
            match build.get(usize::from(*length) - 1..).and_then(|rest| rest.get(..2)) {
                Some(next) => Fit::sure_if(fits && matches!(next, [0xa0 | 0xf0, 1])),
                None if fits => Fit::Open,
                None => Fit::Against,
            }
        }
        [0, 4, 0, 0, ..] if octets.len() < 9 => Fit::Open,
        [] | [0] | [0, 4] | [0, 4, 0] => Fit::Open,
        _ => Fit::Against,
    })
}

#[cfg(test)]
mod tests {
    use super::super::octets::expect;
    use super::*;
    use ApplicationProtocol as Protocol;
    use Look::{Is, More, No};

    #[test]
    fn rtsp_and_sip_are_told_by_their_first_line() {
        expect(
            rtsp,
            1,
            &[
                (b"OPTIONS rtsp://a/b RTSP/1.0\r\n", b"RTSP/1.0 200 OK\r\n", Is(Protocol::RTSP)),
                (b"OPTIONS sip:a RTSP/1.0\r\n", &[], No),
                (b"OPTIONS * HTTP/1.1\r\n", &[], No),
            ],
        );
        expect(
            sip,
            1,
            &[
                (b"\r\n\r\nOPTIONS sip:a@b SIP/2.0\r\n", &[], Is(Protocol::SIP)),
                (&[], b"SIP/2.0 100 Trying\r\n", Is(Protocol::SIP)),
                (&[], b"SIP/2.0 1000\r\n", No),
                (b"OPTIONS rtsp://a/b RTSP/1.0\r\n", &[], No),
            ],
        );
    }

    #[test]
    fn rtmp_repeats_the_others_random_octets() {
        let part = |first: u8| [&[0, 0, 0, first, 0, 0, 0, 0][..], &[first; 1528]].concat();
        let asked = [&[3][..], &part(1)].concat();
        expect(
            rtmp,
            1,
            &[
                (&asked, &[&[3][..], &part(2), &part(1)].concat(), Is(Protocol::RTMP)),
                (&asked, &[&[3][..], &part(2), &part(3)].concat(), More),
                (&asked, &[6, 0, 0, 0, 0, 0, 0, 0, 0], No),
            ],
        );
    }

    #[test]
    fn spotify_says_which_build_it_is() {
        let hello = |field: u8| {
            [&[0, 4, 0, 0, 0, 90, 0x52, 4, 0x50, 0, 0x58, 0, field, 1][..], &[7; 76]].concat()
        };
        expect(spotify, 1, &[(&hello(0xf0), &[], Is(Protocol::SPOTIFY)), (&hello(0xf1), &[], No)]);
    }
}
