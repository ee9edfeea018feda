//! What Windows machines speak among themselves: NetBIOS sessions with SMB in them, and DCE/RPC.

use super::octets::{Fit, be24, contains, messages, one_of_at};
use super::{ApplicationProtocol, Look, Said};

/// NetBIOS sessions and what they carry. SMB behind a session header is called by its own dialect:
/// version 1 only when no version 2 is on offer or the server has taken none. A session request or
/// its refusal with no SMB behind it is NetBIOS. RFC 1002, 4.3; MS-SMB 2.2.3.1; MS-SMB2 2.2.1 and
/// 2.1.
pub(super) fn netbios(said: &Said<'_>) -> Look {
    let [asked, told] = [said.initiator, said.responder].map(session);
    let smb = |session: &Session| match session {
        Session::Carries(dialect) => Some(*dialect),
        _ => None,
    };
    let heard = [&asked, &told].map(smb);
    let requested = |octets: &[u8]| octets.starts_with(&[0x81, 0, 0, 68]);
    let refused = matches!(told, Session::Refused) && requested(said.initiator)
        || matches!(asked, Session::Refused) && requested(said.responder);
    match (&asked, &told) {
        _ if heard.contains(&Some(Dialect::Two)) => Look::Is(ApplicationProtocol::SMBV23),
        _ if heard.contains(&Some(Dialect::One)) => Look::Is(ApplicationProtocol::SMBV1),
        _ if refused => Look::Is(ApplicationProtocol::NETBIOS),
        // As elsewhere: a direction that begins in the middle leaves it to the other.
        (Session::Against, other) | (other, Session::Against)
            if matches!(other, Session::Open | Session::Carries(_))
                && (said.has_port(445) || said.has_port(139)) =>
        {
            Look::More
        }
        (Session::Against, _) | (_, Session::Against) => Look::No,
        _ => Look::More,
    }
}

enum Session {
    Open,
    Against,
    Refused,
    Carries(Dialect),
}

/// What the first session message carries, past a request for the session or the assent to it.
fn session(octets: &[u8]) -> Session {
    let encoded = |name: &[u8]| {
        name.first() == Some(&32) && name.iter().skip(1).all(|o| (b'A'..=b'P').contains(o))
    };
    let carried = match octets {
        [0x81, 0, 0, 68, names @ ..] => match (names.get(..34), names.get(34..68)) {
            (Some([called @ .., 0]), Some([calling @ .., 0]))
                if encoded(called) && encoded(calling) =>
            {
                octets.get(72..).unwrap_or_default()
            }
            (_, Some(_)) => return Session::Against,
            _ => &[],
        },
        [0x82, 0, 0, 0, rest @ ..] => rest,
        [0x83, 0, 0, 1, 0x80..=0x8f, ..] => return Session::Refused,
        [0x81..=0x83] | [0x81..=0x83, 0] | [0x81..=0x83, 0, 0] | [0x83, 0, 0, 1] => &[],
        _ => octets,
    };
    match carried {
        [0, 0 | 1, _, _, message @ ..] => match (be24(carried, 1), message.get(..4)) {
            (Some(length @ 32..), Some([0xfd..=0xff, b'S', b'M', b'B'])) => {
                let seen = message.get(..length.min(message.len())).unwrap_or_default();
                Session::Carries(dialect(seen, seen.len() >= length.min(512)))
            }
            (Some(32..), None) => Session::Open,
            _ => Session::Against,
        },
        [] | [0] | [0, _] | [0, _, _] => Session::Open,
        _ => Session::Against,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Dialect {
    One,
    Two,
    /// A negotiation in the old form that offers the new.
    Either,
    Unknown,
}

/// Of a message of which all, or as much as is looked at, is there (`whole`) or not.
fn dialect(message: &[u8], whole: bool) -> Dialect {
    match message {
        // The header says how long it is.
        [0xfe, _, _, _, 64, 0, ..] | [0xfd, ..] => Dialect::Two,
        // A reply bit in the flags; 0x72 negotiates, its dialects follow in text.
        [0xff, _, _, _, 0x72, _, _, _, _, flags, ..] if flags & 0x80 == 0 => {
            let offers = message.get(32..message.len().min(512)).unwrap_or_default();
            match contains(offers, b"\x02SMB 2.") {
                true => Dialect::Either,
                false if whole => Dialect::One,
                false => Dialect::Unknown,
            }
        }
        [0xff, _, _, _, _, _, _, _, _, _, ..] => Dialect::One,
        _ => Dialect::Unknown,
    }
}

/// DCE/RPC over a connection: the common header, and behind it a bind's first context with the
/// transfer syntax of NDR, the answer to one, or further messages. C706, chapter 12.6; MS-RPCE
/// 2.2.2.
pub(super) fn dce_rpc(said: &Said<'_>) -> Look {
    one_of_at(said, &[135], ApplicationProtocol::RPC, |octets| match octets.get(2) {
        // Bind and alter context: sizes, group, one or more contexts, the first one's abstract
        // syntax.
        Some(11 | 14) => match rpc_length(octets) {
            Ok(length) if length < 72 => Fit::Against,
            Ok(_) => match (octets.get(24..32), octets.get(52..56)) {
                (Some(&[contexts, 0, 0, 0, _, _, transfers, 0]), Some(syntax)) => Fit::sure_if(
                    contexts > 0
                        && transfers > 0
                        && matches!(
                            syntax,
                            [4, 0x5d, 0x88, 0x8a]
                                | [0x8a, 0x88, 0x5d, 4]
                                | [0x33, 5, 0x71, 0x71]
                                | [0x2c, 0x1c, 0xb7, 0x6c]
                        ),
                ),
                (Some(_), _) if octets.get(27..28).is_none_or(|reserved| reserved == [0]) => {
                    match octets.get(52..56) {
                        Some(_) => Fit::Against,
                        None => Fit::Open,
                    }
                }
                (Some(_), _) => Fit::Against,
                (None, _) => Fit::Open,
            },
            Err(fit) => fit,
        },
        // A bind's answer repeats the sizes and names a port, as text with its length.
        Some(12 | 15) => match rpc_length(octets) {
            Ok(length) => match (octets.get(16..20), octets.get(24..26)) {
                (Some(sizes), Some(&[low, high])) => Fit::sure_if(
                    sizes != [0; 4]
                        && 26 + usize::from(u16::from_le_bytes([low, high])) <= length
                        && high == 0,
                ),
                _ => Fit::Open,
            },
            Err(fit) => fit,
        },
        _ => messages(octets, 2, rpc_length),
    })
}

fn rpc_length(octets: &[u8]) -> Result<usize, Fit> {
    match octets.get(..16) {
        Some(&[5, 0 | 1, 0 | 2 | 3 | 11..=20, _, 0x00 | 0x10, 0, 0, 0, a, b, c, d, ..]) => {
            let little = octets.get(4) == Some(&0x10);
            let number = |pair: [u8; 2]| {
                if little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) }
            };
            let (length, signature) = (number([a, b]), number([c, d]));
            if length >= 16 && signature < length {
                Ok(usize::from(length))
            } else {
                Err(Fit::Against)
            }
        }
        None => Err(match octets {
            [] | [5] | [5, 0 | 1] | [5, 0 | 1, 0..=20, ..] => Fit::Open,
            _ => Fit::Against,
        }),
        Some(_) => Err(Fit::Against),
    }
}

#[cfg(test)]
mod tests {
    use super::super::octets::expect;
    use super::*;
    use ApplicationProtocol as Protocol;
    use Look::{Is, More, No};

    #[test]
    fn smb_is_called_by_its_dialect() {
        let framed = |message: &[u8]| [&[0, 0, 0, message.len() as u8], message].concat();
        let negotiation = |dialects: &[u8]| {
            framed(
                &[&b"\xffSMB\x72"[..], &[0; 27], &[0, dialects.len() as u8, 0], dialects].concat(),
            )
        };
        let newer = framed(&[&b"\xfeSMB\x40\0"[..], &[0; 58]].concat());
        let name = [b' '; 1].iter().copied().chain([b'C'; 32]).chain([0]).collect::<Vec<u8>>();
        let request = [&[0x81, 0, 0, 68][..], &name, &name].concat();
        let old = negotiation(b"\x02NT LM 0.12\0");
        expect(
            netbios,
            1,
            &[
                (&old, &[], Is(Protocol::SMBV1)),
                (&negotiation(b"\x02NT LM 0.12\0\x02SMB 2.002\0"), &[], More),
                (&negotiation(b"\x02NT LM 0.12\0\x02SMB 2.002\0"), &newer, Is(Protocol::SMBV23)),
                (&newer, &[], Is(Protocol::SMBV23)),
                (&framed(&[&b"\xfaSMB\x40\0"[..], &[0; 58]].concat()), &[], No),
                (&request, &[0x83, 0, 0, 1, 0x82], Is(Protocol::NETBIOS)),
                (&request, &[0x82, 0, 0, 0], More),
                (&[&request[..], &old].concat(), &[0x82, 0, 0, 0], Is(Protocol::SMBV1)),
                (&request, &[0x84, 0, 0, 0], No),
            ],
        );
    }

    #[test]
    fn dce_rpc_binds_and_asks() {
        let head =
            |kind: u8, length: u8| [5, 0, kind, 3, 0x10, 0, 0, 0, length, 0, 0, 0, 1, 0, 0, 0];
        let bind = |syntax: [u8; 4]| {
            let sizes = [0xd0, 0x16, 0xd0, 0x16, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0];
            [&head(11, 72)[..], &sizes, &[7; 20], &syntax, &[7; 16]].concat()
        };
        let asked = [&head(0, 24)[..], &[0; 8]].concat();
        expect(
            dce_rpc,
            1,
            &[
                (&bind([4, 0x5d, 0x88, 0x8a]), &[], Is(Protocol::RPC)),
                (&bind([4, 0x5d, 0x88, 0x8b]), &[], No),
                (&asked, &[], More),
                (&[&asked[..], &asked].concat(), &[], Is(Protocol::RPC)),
                (&[&asked[..], &[0; 16]].concat(), &[], No),
            ],
        );
    }
}
