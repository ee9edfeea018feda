//! People talking: IRC and XMPP (text), Oscar and WhatsApp (binary).

use super::octets::{
    Fit, be16, be24, begins, begins_with_one, contains, holds, is_printable, line, one_of,
};
use super::{ApplicationProtocol, Look, Said};

/// IRC: a client that registers (USER with its four parameters, NICK and a further line, CAP), or
/// a server's prefixed NOTICE or numeric reply, or a message to a channel. RFC 2812, 2.3 and 3.1;
/// IRCv3 "Capability Negotiation".
pub(super) fn irc(said: &Said<'_>) -> Look {
    one_of(said, ApplicationProtocol::IRC, irc_line)
}

fn irc_line(octets: &[u8]) -> Fit {
    let starts = [
        &b":"[..],
        b"NICK ",
        b"USER ",
        b"PASS ",
        b"CAP ",
        b"NOTICE ",
        b"JOIN ",
        b"PRIVMSG ",
        b"ERROR :",
    ];
    if begins_with_one(octets, &starts) == Fit::Against {
        return Fit::Against;
    }
    let Some((text, rest)) = line(octets) else {
        let fits = octets.len() < 512 && is_printable(octets.strip_suffix(b"\r").unwrap_or(octets));
        return if fits { Fit::Open } else { Fit::Against };
    };
    if !text.iter().all(|&octet| octet > 1) || text.len() > 510 {
        return Fit::Against;
    }
    let mut words = text.split(|&octet| octet == b' ');
    let [first, second, third, fourth] = [(); 4].map(|()| words.next().unwrap_or_default());
    let last = words.next().unwrap_or_default();
    let is_channel = |word: &[u8]| matches!(word, [b'#' | b'&', _, ..]);
    match first {
        b"USER" => Fit::sure_if(
            !second.is_empty() && !third.is_empty() && !fourth.is_empty() && last.starts_with(b":"),
        ),
        b"PASS" | b"NICK" if !second.is_empty() && third.is_empty() => irc_next(rest),
        b"CAP" => Fit::sure_if(matches!(second, b"LS" | b"REQ" | b"END")),
        b"NOTICE" => Fit::sure_if(matches!(second, b"AUTH" | b"*") && third.starts_with(b":")),
        b"JOIN" => Fit::sure_if(is_channel(second)),
        b"PRIVMSG" => Fit::sure_if(!second.is_empty() && third.starts_with(b":")),
        [b':', server @ ..] if !server.is_empty() => match second {
            [b'0'..=b'9', b'0'..=b'9', b'0'..=b'9'] => {
                Fit::sure_if(!third.is_empty() && !fourth.is_empty())
            }
            b"NOTICE" => Fit::sure_if(!third.is_empty() && fourth.starts_with(b":")),
            b"PRIVMSG" => Fit::sure_if(server.contains(&b'!') && fourth.starts_with(b":")),
            b"JOIN" => Fit::sure_if(server.contains(&b'!') && contains(third, b"#")),
            b"MODE" | b"PART" => Fit::sure_if(is_channel(third)),
            _ => Fit::Against,
        },
        _ => Fit::Against,
    }
}

/// What follows a client's NICK or PASS.
fn irc_next(rest: &[u8]) -> Fit {
    begins_with_one(
        rest,
        &[b"USER ", b"NICK ", b"CAP LS", b"JOIN #", b"MODE ", b"PRIVMSG #", b"WHO "],
    )
}

/// XMPP: a stream is opened, in the namespace that streams have, or (in the middle) a stanza names
/// one of XMPP's namespaces. RFC 6120, 4.7, 4.8 and 8; RFC 3921.
pub(super) fn xmpp(said: &Said<'_>) -> Look {
    const STREAM: &[&[u8]] = &[b"http://etherx.jabber.org/streams"];
    const STANZA: &[&[u8]] = &[b"'jabber:", b"\"jabber:", b"http://jabber.org/", b"urn:xmpp:"];
    one_of(said, ApplicationProtocol::JABBER, |octets| {
        if octets.first().is_some_and(|&first| first != b'<') {
            return Fit::Against;
        }
        let seen = octets.get(..octets.len().min(512)).unwrap_or_default();
        // The first element is the stream or a stanza; an XML declaration may stand before it.
        let element = match begins(seen, b"<?xml ") {
            Fit::Sure => {
                let next = seen.iter().skip(1).position(|&octet| octet == b'<');
                next.map_or(&[][..], |at| seen.get(at + 1..).unwrap_or_default())
            }
            Fit::Open => return Fit::Open,
            Fit::Against => seen,
        };
        let namespaces = match begins(element, b"<stream:stream ") {
            Fit::Sure => STREAM,
            _ => STANZA,
        };
        match begins_with_one(element, &[b"<stream:stream ", b"<iq ", b"<message ", b"<presence "])
        {
            Fit::Against => Fit::Against,
            Fit::Sure if namespaces.iter().any(|namespace| contains(element, namespace)) => {
                Fit::Sure
            }
            _ if seen.len() == 512 || seen.contains(&0) => Fit::Against,
            _ => Fit::Open,
        }
    })
}

/// Oscar (AIM, ICQ): a FLAP frame that signs on with version 1, or two frames of data whose
/// sequence numbers follow on each other. AOL, "OSCAR protocol: FLAP", as in Wireshark's
/// packet-aim.
pub(super) fn oscar(said: &Said<'_>) -> Look {
    one_of(said, ApplicationProtocol::OSCAR, |octets| match octets {
        [0x2a, 1, ..] => match (octets.get(6..10), be16(octets, 4)) {
            (Some(version), Some(length)) => {
                Fit::sure_if(version == [0, 0, 0, 1] && (4..=2048).contains(&length))
            }
            (None, _) => Fit::Open,
            _ => Fit::Against,
        },
        [0x2a, 2, ..] => match (be16(octets, 2), be16(octets, 4), octets.get(6)) {
            (Some(sequence), Some(length @ 10..=8192), Some(0)) => {
                match octets.get(length + 6..length + 10) {
                    Some(&[0x2a, 2..=5, high, low]) => Fit::sure_if(
                        usize::from(u16::from_be_bytes([high, low])) == (sequence + 1) & 0xffff,
                    ),
                    Some(_) => Fit::Against,
                    None => Fit::Open,
                }
            }
            (_, None, _) | (_, Some(10..=8192), None) => Fit::Open,
            _ => Fit::Against,
        },
        [] | [0x2a] => Fit::Open,
        _ => Fit::Against,
    })
}

/// WhatsApp: "WA", a version, and a frame with a 24-bit length that holds a binary node (the older
/// protocol) or a Noise handshake's first message (protobuf field 2 with a 32-octet key); "ED" and
/// routing data may precede. As in the open implementations of the protocol (whatsmeow, Baileys)
/// and Wireshark's whatsapp dissector.
pub(super) fn whatsapp(said: &Said<'_>) -> Look {
    one_of(said, ApplicationProtocol::WHATSAPP, |octets| {
        let hello = match octets {
            [b'E', b'D', 0, 1, ..] => match be24(octets, 4) {
                Some(length @ 1..=1024) => octets.get(7 + length..).unwrap_or_default(),
                Some(_) => return Fit::Against,
                None => return Fit::Open,
            },
            [b'E'] | [b'E', b'D'] | [b'E', b'D', 0] => return Fit::Open,
            _ => octets,
        };
        match hello {
            [b'W', b'A', 1..=9, 0..=9, 0, high, low, rest @ ..] => {
                match (u16::from_be_bytes([*high, *low]), rest) {
                    (0, _) => Fit::Against,
                    (_, [0xf8, 1..=32, ..]) => Fit::Sure,
                    // The hello's own length takes one or two octets.
                    (36.., [0x12, 0x22..=0x7f, ..]) => holds(rest, 2, &[0x0a, 0x20]),
                    (36.., [0x12, 0x80..=0xff, 1..=0x7f, ..]) => holds(rest, 3, &[0x0a, 0x20]),
                    (36.., [0x12] | [0x12, 0x80..=0xff]) => Fit::Open,
                    (_, [] | [0xf8]) => Fit::Open,
                    _ => Fit::Against,
                }
            }
            [b'W', b'A', 1..=9, 0..=9, 0, ..] | [b'W', b'A', 1..=9, 0..=9] => Fit::Open,
            [] | [b'W'] | [b'W', b'A'] | [b'W', b'A', 1..=9] => Fit::Open,
            _ => Fit::Against,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::octets::expect;
    use super::*;
    use ApplicationProtocol as Protocol;
    use Look::{Is, No};

    #[test]
    fn irc_registers() {
        expect(
            irc,
            1,
            &[
                (b"USER me 0 * :My Name\r\n", &[], Is(Protocol::IRC)),
                (b"USER me\r\n", &[], No),
                (b"NICK me\r\nUSER me 0 * :My Name\r\n", &[], Is(Protocol::IRC)),
                (&[], b":irc.example.org 001 me :Welcome\r\n", Is(Protocol::IRC)),
                (&[], b":irc.example.org 1x1 me :Welcome\r\n", No),
            ],
        );
    }

    #[test]
    fn xmpp_opens_a_stream() {
        let stream = b"<?xml version='1.0'?><stream:stream to='a' xmlns='jabber:client' \
            xmlns:stream='http://etherx.jabber.org/streams'>";
        expect(
            xmpp,
            1,
            &[
                (stream, &[], Is(Protocol::JABBER)),
                (b"<?xml version='1.0'?><html>", &[], No),
                (b"<iq type='get'><ping xmlns='urn:xmpp:ping'/></iq>", &[], Is(Protocol::JABBER)),
                (b"<presences>", &[], No),
            ],
        );
    }

    #[test]
    fn oscar_signs_on() {
        expect(
            oscar,
            1,
            &[
                (&[0x2a, 1, 0, 9, 0, 4, 0, 0, 0, 1], &[], Is(Protocol::OSCAR)),
                (&[0x2a, 1, 0, 9, 0, 4, 0, 0, 0, 2], &[], No),
            ],
        );
    }

    #[test]
    fn whatsapp_shakes_hands() {
        let hello = [&b"WA\x06\x03\0\0\x24\x12\x22\x0a\x20"[..], &[7; 32]].concat();
        expect(
            whatsapp,
            1,
            &[
                (&hello, &[], Is(Protocol::WHATSAPP)),
                (&[&b"ED\0\x01\0\0\x02xx"[..], &hello].concat(), &[], Is(Protocol::WHATSAPP)),
                (b"WA\x01\x05\0\0\x17\xf8\x05", &[], Is(Protocol::WHATSAPP)),
                (b"WA\x01\x05\0\0\x17\x47\x05", &[], No),
                (b"WA\x05\x02\0\x01\x0e\x12\x8b\x02\x0a\x20", &[], Is(Protocol::WHATSAPP)),
                (b"WA\x05\x02\0\x01\x0e\x12\x8b\x02\x0a\x21", &[], No),
                (b"WAIT", &[], No),
            ],
        );
    }
}
