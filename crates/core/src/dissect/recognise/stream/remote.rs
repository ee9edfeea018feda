//! Being elsewhere: remote desktops (RDP, VNC, TeamViewer) and terminals (Telnet), and the tunnels
//! and proxies OpenVPN and SOCKS.

use super::octets::{
    Fit, be16, be32, begins, both, contains, either, either_way, is_printable, one_of,
};
use super::{ApplicationProtocol, Look, Said};

/// RDP: a connection request with the cookie or the negotiation that RDP adds to it, or a
/// confirmation with the answer to that. MS-RDPBCGR 2.2.1.1 and 2.2.1.2; RFC 1006; X.224, 13.3.
pub(super) fn rdp(said: &Said<'_>) -> Look {
    one_of(said, ApplicationProtocol::RDP, |octets| {
        let kind = match octets {
            [3, 0, high, low, inner, kind @ (0xe0 | 0xd0), 0, 0, _, _, 0, ..] => {
                let length = u16::from_be_bytes([*high, *low]);
                match length == u16::from(*inner) + 5 && length >= 19 {
                    true => *kind,
                    false => return Fit::Against,
                }
            }
            [] | [3] | [3, 0] | [3, 0, 0] | [3, 0, 0, _] | [3, 0, 0, _, _] => return Fit::Open,
            [3, 0, 0, _, _, 0xe0 | 0xd0, ..] if octets.len() < 11 => return Fit::Open,
            _ => return Fit::Against,
        };
        let Some(user_data) = octets.get(11..be16(octets, 2).unwrap_or(0)) else {
            return Fit::Open;
        };
        let negotiation = user_data.get(user_data.len().saturating_sub(8)..).unwrap_or_default();
        match (kind, negotiation) {
            (0xe0, _) if user_data.starts_with(b"Cookie: mstshash=") => Fit::Sure,
            (0xe0, [1, flags @ 0..=0x0b, 8, 0, protocols @ 0..=0x1f, 0, 0, 0]) => {
                Fit::sure_if(flags & 4 == 0 && (*protocols > 0 || user_data.len() == 8))
            }
            (0xd0, [2, 0..=0x1f, 8, 0, 0 | 1 | 2 | 4 | 8 | 16, 0, 0, 0]) => Fit::Sure,
            (0xd0, [3, 0, 8, 0, 1..=7, 0, 0, 0]) => Fit::Sure,
            _ => Fit::Against,
        }
    })
}

/// VNC: both ends greet with RFB's version. RFC 6143, 7.1.1.
pub(super) fn vnc(said: &Said<'_>) -> Look {
    one_of(said, ApplicationProtocol::VNC, |octets| {
        match (begins(octets, b"RFB 00"), octets.get(6..12)) {
            (Fit::Sure, Some([b'3'..=b'5', b'.', a, b, c, b'\n'])) => {
                Fit::sure_if([a, b, c].iter().all(|o| o.is_ascii_digit()))
            }
            (Fit::Sure, Some(_)) => Fit::Against,
            (Fit::Sure, None) => Fit::Open,
            (fit, _) => fit,
        }
    })
}

/// Telnet: two negotiations in a row at the beginning, or one from each end. RFC 854; the options'
/// numbers as assigned by IANA.
pub(super) fn telnet(said: &Said<'_>) -> Look {
    let option = |octets: &[u8]| match octets {
        [0xff, 0xfb..=0xfe, 0..=49 | 138..=140 | 255, ..] => Fit::Sure,
        [] | [0xff] | [0xff, 0xfb..=0xfe] => Fit::Open,
        _ => Fit::Against,
    };
    let [asked, told] = [said.initiator, said.responder];
    let twice = |octets: &[u8]| match option(octets) {
        Fit::Sure => match octets.get(3..).unwrap_or_default() {
            [0xff, 0xfa, 0..=49, ..] => Fit::Sure,
            rest => option(rest),
        },
        fit => fit,
    };
    match both([option(asked), option(told)], ApplicationProtocol::TELNET) {
        Look::Is(what) => Look::Is(what),
        _ => either([twice(asked), twice(told)], ApplicationProtocol::TELNET),
    }
}

/// TeamViewer: every message begins with 17 24 (older: 11 30) and a command; there is no more to
/// go by, so both ends have to, and its port (5938) has to be there. As found in captures by
/// others; it is not published.
pub(super) fn teamviewer(said: &Said<'_>) -> Look {
    if !said.has_port(5938) {
        return Look::No;
    }
    let fit = |octets: &[u8]| match octets {
        [0x17, 0x24, command, ..] | [0x11, 0x30, command, ..] => {
            Fit::sure_if((1..=0x40).contains(command))
        }
        [] | [0x17 | 0x11] | [0x17, 0x24] | [0x11, 0x30] => Fit::Open,
        _ => Fit::Against,
    };
    both([fit(said.initiator), fit(said.responder)], ApplicationProtocol::TEAMVIEWER)
}

/// OpenVPN over TCP: a client's reset, whose length tells how it is protected: not at all, by an
/// HMAC (with a packet number of 1 and zeros in known places) or encrypted (with that number in
/// front); or a server's reset that names the client's session. OpenVPN, "Network protocol" in its
/// doxygen; draft "OpenVPN wire protocol".
pub(super) fn openvpn(said: &Said<'_>) -> Look {
    let [client, server] = either_way(said, |octets| matches!(octets, [_, _, 0x38 | 0x50, ..]));
    let reset = match (be16(client, 0), client.get(2)) {
        (Some(length @ 14..=1200), Some(0x38 | 0x50)) => match client.get(11..2 + length) {
            Some(rest) => {
                let plain = rest == [0; 5];
                // An HMAC of 16 to 64 octets, then number, time, no acknowledgements, message 0.
                let authentic = rest.len() >= 29
                    && matches!(rest.len() - 13, 16 | 20 | 28 | 32 | 48 | 64)
                    && rest.ends_with(&[0; 5])
                    && be32(rest, rest.len() - 13) == Some(1);
                let numbered = matches!(be32(rest, 0), Some(1 | 0x0f00_0001))
                    && (length == 54 || client.get(2) == Some(&0x50) && length > 200);
                Fit::sure_if(plain || authentic || numbered)
            }
            None => Fit::Open,
        },
        (Some(14..=1200) | None, None) => Fit::Open,
        _ => Fit::Against,
    };
    let answered = match (server.get(2), client.get(3..11)) {
        (Some(0x40), Some(session)) => {
            server.len() > 24
                && contains(server.get(11..server.len().min(160)).unwrap_or_default(), session)
        }
        _ => false,
    };
    match reset {
        Fit::Against if answered && matches!(client.get(2), Some(0x38 | 0x50)) => {
            Look::Is(ApplicationProtocol::OPENVPN)
        }
        fit => either([fit, Fit::Open], ApplicationProtocol::OPENVPN),
    }
}

/// SOCKS: version 5's offer of methods, the choice of one that was offered, and a request; or
/// version 4's request and its eight octets of answer. RFC 1928, sections 3 to 6; RFC 1929;
/// "SOCKS: A protocol for TCP proxy".
pub(super) fn socks(said: &Said<'_>) -> Look {
    let [client, server] =
        either_way(said, |octets| matches!(octets, [5, 1..=9, ..] | [4, 1 | 2, ..]));
    let fit = match client {
        [5, count @ 1..=9, rest @ ..] => match (rest.get(..usize::from(*count)), server) {
            (Some(methods), _)
                if !methods.iter().all(|method| matches!(method, 0..=9 | 0x80..=0xfe)) =>
            {
                Fit::Against
            }
            (Some(methods), [5, chosen, ..]) if methods.contains(chosen) => {
                match rest.get(usize::from(*count)..).unwrap_or_default() {
                    [5, 1..=3, 0, 1 | 3 | 4, ..] if *chosen == 0 => Fit::Sure,
                    [1, 1..=255, _, ..] if *chosen == 2 => Fit::Sure,
                    [] | [5] | [5, 1..=3] | [5, 1..=3, 0] if *chosen == 0 => Fit::Open,
                    [] | [1] | [1, 1..=255] if *chosen == 2 => Fit::Open,
                    _ => Fit::Against,
                }
            }
            (Some(_), [5, 0xff]) | (_, [] | [5]) => Fit::Open,
            _ => Fit::Against,
        },
        [4, 1 | 2, port_high, port_low, _, _, _, _, user @ ..]
            if [*port_high, *port_low] != [0, 0] =>
        {
            let end = user.iter().take(64).position(|&octet| octet == 0);
            let named = user.get(..end.unwrap_or(user.len())).is_some_and(is_printable);
            match server {
                _ if !named => Fit::Against,
                [0, 0x5a..=0x5d, _, _, _, _, _, _, ..] => Fit::sure_if(end.is_some()),
                [] | [0] => Fit::Open,
                [0, 0x5a..=0x5d, ..] if server.len() < 8 => Fit::Open,
                _ => Fit::Against,
            }
        }
        [] | [5] | [4] | [4, 1 | 2] => Fit::Open,
        [4, 1 | 2, ..] if client.len() < 8 => Fit::Open,
        _ => Fit::Against,
    };
    either([fit, Fit::Open], ApplicationProtocol::SOCKS)
}

#[cfg(test)]
mod tests {
    use super::super::octets::expect;
    use super::*;
    use ApplicationProtocol as Protocol;
    use Look::{Is, More, No};

    #[test]
    fn desktops() {
        let request = |tag: u8| [3, 0, 0, 19, 14, 0xe0, 0, 0, 0, 0, 0, tag, 0, 8, 0, 3, 0, 0, 0];
        let cookie = b"\x03\0\0\x1f\x1a\xe0\0\0\0\0\0Cookie: mstshash=a\r\n";
        expect(
            rdp,
            1,
            &[
                (&request(1), &[], Is(Protocol::RDP)),
                (&request(4), &[], No),
                (cookie, &[], Is(Protocol::RDP)),
                (
                    &[],
                    &[3, 0, 0, 19, 14, 0xd0, 0, 0, 0, 1, 0, 2, 1, 8, 0, 2, 0, 0, 0],
                    Is(Protocol::RDP),
                ),
            ],
        );
        expect(vnc, 1, &[(&[], b"RFB 003.008\n", Is(Protocol::VNC)), (&[], b"RFB 003.00x\n", No)]);
        expect(
            teamviewer,
            5938,
            &[
                (&[0x17, 0x24, 10], &[0x17, 0x24, 11], Is(Protocol::TEAMVIEWER)),
                (&[0x17, 0x24, 10], &[0x17, 0x25, 11], No),
            ],
        );
        expect(teamviewer, 443, &[(&[0x17, 0x24, 10], &[0x17, 0x24, 11], No)]);
    }

    #[test]
    fn telnet_negotiates() {
        expect(
            telnet,
            1,
            &[
                (&[], &[0xff, 0xfd, 24, 0xff, 0xfd, 32], Is(Protocol::TELNET)),
                (&[0xff, 0xfb, 24], &[0xff, 0xfd, 24], Is(Protocol::TELNET)),
                (&[], &[0xff, 0xfd, 24, 0xff, 0xd8, 0xff], No),
            ],
        );
    }

    #[test]
    fn openvpn_resets() {
        let reset = |length: u8, rest: &[u8]| [&[0, length, 0x38][..], b"sessions", rest].concat();
        let signed = [&[9; 20][..], &[0, 0, 0, 1, 1, 2, 3, 4], &[0; 5]].concat();
        expect(
            openvpn,
            1,
            &[
                (&reset(14, &[0; 5]), &[], Is(Protocol::OPENVPN)),
                (&reset(14, &[0, 0, 0, 0, 1]), &[], No),
                (&reset(42, &signed), &[], Is(Protocol::OPENVPN)),
                (&reset(43, &[&[9][..], &signed].concat()), &[], No),
            ],
        );
    }

    #[test]
    fn socks_asks_for_a_connection() {
        expect(
            socks,
            1,
            &[
                (&[5, 1, 0, 5, 1, 0, 1, 1, 2, 3, 4, 0, 80], &[5, 0], Is(Protocol::SOCKS)),
                (&[5, 1, 0], &[5, 0], More),
                (&[5, 1, 0, 5, 9, 0, 1, 1, 2, 3, 4, 0, 80], &[5, 0], No),
                (&[5, 1, 0], &[5, 2], No),
                (
                    b"\x04\x01\0\x50\x01\x02\x03\x04me\0",
                    &[0, 0x5a, 0, 0, 0, 0, 0, 0],
                    Is(Protocol::SOCKS),
                ),
                (b"\x04\x01\0\x50\x01\x02\x03\x04me\0", &[0, 0x4a, 0, 0, 0, 0, 0, 0], No),
            ],
        );
    }
}
