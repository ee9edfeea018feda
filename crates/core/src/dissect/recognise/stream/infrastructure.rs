//! What keeps networks and services going: routing (BGP), telephony cores (Diameter, SMPP),
//! monitoring (Zabbix, Checkmk), libraries (Z39.50), and the two that copy trees (Git, rsync).

use super::octets::{
    Fit, be16, be24, be32, begins, begins_with_one, either, one_of, one_of_at, text_and_rest,
};
use super::{ApplicationProtocol, Look, Said};

/// BGP: sixteen octets of ones, a length and a type that allows it. RFC 4271, 4.1; RFC 2918.
pub(super) fn bgp(said: &Said<'_>) -> Look {
    one_of_at(said, &[179], ApplicationProtocol::BGP, |octets| match begins(octets, &[0xff; 16]) {
        Fit::Sure => match (be16(octets, 16), octets.get(18)) {
            (Some(29..=4096), Some(1))
            | (Some(23..=4096), Some(2 | 5))
            | (Some(21..=4096), Some(3)) => Fit::Sure,
            (Some(19), Some(4)) => Fit::Sure,
            (_, None) => Fit::Open,
            _ => Fit::Against,
        },
        fit => fit,
    })
}

/// Diameter: version 1, lengths in fours, a known command, and a first attribute that may be the
/// first: the session, the origin or a result. RFC 6733, sections 3 and 4.1.
pub(super) fn diameter(said: &Said<'_>) -> Look {
    one_of(said, ApplicationProtocol::DIAMETER, |octets| match octets.get(..28) {
        Some(&[1, _, _, length, flags, _, _, _, ..]) => {
            let (whole, command) = (be24(octets, 1).unwrap_or(0), be24(octets, 5).unwrap_or(0));
            let first = be32(octets, 20).zip(be24(octets, 25));
            let known = matches!(command, 257..=326 | 8_388_608..=8_388_735);
            let starts = first.is_some_and(|(code, inner)| {
                matches!(code, 263 | 264 | 268) && (8..=whole.saturating_sub(20)).contains(&inner)
            });
            let plain = octets.get(24).is_some_and(|flags| flags & 0x9f == 0);
            Fit::sure_if(
                length % 4 == 0 && flags & 15 == 0 && whole >= 28 && known && starts && plain,
            )
        }
        None if octets.first().is_none_or(|&version| version == 1)
            && octets.get(3).is_none_or(|length| length % 4 == 0)
            && octets.get(4).is_none_or(|flags| flags & 15 == 0)
            && octets.get(5).is_none_or(|&command| matches!(command, 0 | 0x80)) =>
        {
            Fit::Open
        }
        _ => Fit::Against,
    })
}

/// SMPP: a bind whose four texts and three numbers fill the length exactly, or a request and its
/// response with one sequence number. SMPP 3.4, 3.2 and 4.1.
pub(super) fn smpp(said: &Said<'_>) -> Look {
    let what = ApplicationProtocol::SMPP;
    let head = |octets: &[u8]| -> Result<[u32; 4], Fit> {
        let part = |at| be32(octets, at);
        match (part(0), part(4), part(8), part(12)) {
            (Some(0..16 | 65_536..), ..) => Err(Fit::Against),
            (_, Some(command), ..)
                if !matches!(command & 0x7fff_ffff, 0..=9 | 0x0b | 0x15 | 0x21 | 0x102 | 0x103) =>
            {
                Err(Fit::Against)
            }
            (Some(length), Some(command), Some(status), Some(sequence)) => {
                Ok([length, command, status, sequence])
            }
            _ => Err(Fit::Open),
        }
    };
    let bind = |octets: &[u8]| match head(octets)? {
        [length @ 23..=200, 1 | 2 | 9, 0, 1..=u32::MAX] => {
            let mut rest = octets.get(16..).unwrap_or_default();
            for most in [15, 8, 12] {
                (_, rest) = text_and_rest(rest, most)?;
            }
            let [version, kind, plan, range @ ..] = rest else { return Err(Fit::Open) };
            let (_, after) = text_and_rest(range, 40)?;
            let used = u32::try_from(octets.len() - after.len()).unwrap_or(0);
            Ok(Fit::sure_if(used == length && *version <= 0x50 && *kind <= 6 && *plan <= 18))
        }
        [_, 1 | 2 | 9, ..] => Err(Fit::Against),
        _ => Ok(Fit::Open),
    };
    let fits =
        [bind(said.initiator), bind(said.responder)].map(|fit| fit.unwrap_or_else(|fit| fit));
    match [head(said.initiator), head(said.responder)] {
        [Ok([_, asked, _, first]), Ok([_, told, _, second])] if !fits.contains(&Fit::Sure) => {
            either(
                [
                    Fit::sure_if(asked ^ told == 0x8000_0000 && first == second && first > 0),
                    Fit::Open,
                ],
                what,
            )
        }
        _ => either(fits, what),
    }
}

/// Zabbix: "ZBXD", flags of which only three exist, and a length. Zabbix documentation, "Header
/// and data length".
pub(super) fn zabbix(said: &Said<'_>) -> Look {
    one_of(said, ApplicationProtocol::ZABBIX, |octets| {
        match (begins(octets, b"ZBXD"), octets.get(4)) {
            (Fit::Sure, Some(flags)) => Fit::sure_if(matches!(flags, 1..=7)),
            (Fit::Sure, None) => Fit::Open,
            (fit, _) => fit,
        }
    })
}

/// Checkmk: an agent's output begins with this section. Checkmk documentation, "The monitoring
/// agent in detail".
pub(super) fn checkmk(said: &Said<'_>) -> Look {
    one_of(said, ApplicationProtocol::CHECKMK, |octets| {
        begins_with_one(octets, &[b"<<<check_mk>>>", b"<<<check_mk:"])
    })
}

/// Z39.50: a request to initialise or its answer, whose first fields are the version, the options
/// and two sizes. ANSI/NISO Z39.50-2003, 3.2.1 and appendix on ASN.1.
pub(super) fn z3950(said: &Said<'_>) -> Look {
    one_of(said, ApplicationProtocol::Z3950, |octets| {
        let mut rest = match octets {
            [0xb4 | 0xb5, 0..=0x7f, rest @ ..] | [0xb4 | 0xb5, 0x81, _, rest @ ..] => rest,
            [0xb4 | 0xb5, 0x82, _, _, rest @ ..] => rest,
            [] | [0xb4 | 0xb5] | [0xb4 | 0xb5, 0x81 | 0x82] | [0xb4 | 0xb5, 0x82, _] => {
                return Fit::Open;
            }
            _ => return Fit::Against,
        };
        // A reference (0x82) may stand in front of them.
        for wanted in [0x82, 0x83, 0x84, 0x85, 0x86] {
            rest = match rest {
                [tag, length @ 1..=8, value @ ..] if *tag == wanted => {
                    match value.get(usize::from(*length)..) {
                        Some(next) => next,
                        None => return Fit::Open,
                    }
                }
                [tag, ..] if wanted == 0x82 && *tag == 0x83 => rest,
                [] => return Fit::Open,
                [tag] if *tag == wanted => return Fit::Open,
                _ => return Fit::Against,
            };
        }
        Fit::Sure
    })
}

/// Git's own transport: a packet line that asks for a service. gitprotocol-pack(5), "Git
/// Transport".
pub(super) fn git(said: &Said<'_>) -> Look {
    const SERVICES: [&[u8]; 3] =
        [b"git-upload-pack /", b"git-receive-pack /", b"git-upload-archive /"];
    let request = |octets: &[u8]| match octets.get(..4) {
        Some(length) if length.iter().all(u8::is_ascii_hexdigit) => {
            begins_with_one(octets.get(4..).unwrap_or_default(), &SERVICES)
        }
        None if octets.iter().all(u8::is_ascii_hexdigit) => Fit::Open,
        _ => Fit::Against,
    };
    one_of(said, ApplicationProtocol::GIT, request)
}

/// rsync's daemon: both ends greet with their version. rsync's csprotocol.txt.
pub(super) fn rsync(said: &Said<'_>) -> Look {
    one_of(said, ApplicationProtocol::RSYNC, |octets| {
        match (begins(octets, b"@RSYNCD: "), octets.get(9)) {
            (Fit::Sure, Some(version)) => Fit::sure_if(version.is_ascii_digit()),
            (Fit::Sure, None) => Fit::Open,
            (fit, _) => fit,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::octets::expect;
    use super::*;
    use ApplicationProtocol as Protocol;
    use Look::{Is, More, No};

    #[test]
    fn bgp_is_marked() {
        let message = |length: u8, kind: u8| [&[0xff; 16][..], &[0, length, kind]].concat();
        expect(
            bgp,
            1,
            &[
                (&message(19, 4), &[], Is(Protocol::BGP)),
                (&message(20, 4), &[], No),
                (&message(29, 6), &[], No),
            ],
        );
    }

    #[test]
    fn telephony_cores() {
        let request = |version: u8| {
            let head = [version, 0, 0, 28, 0x80, 0, 1, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
            [&head[..], &[0, 0, 1, 8, 0x40, 0, 0, 8]].concat()
        };
        expect(diameter, 1, &[(&request(1), &[], Is(Protocol::DIAMETER)), (&request(2), &[], No)]);
        let bind = |length: u8| {
            let head = [0, 0, 0, length, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1];
            [&head[..], b"me\0pw\0\0\x34\0\0\0"].concat()
        };
        let alive = |response: u8| [0, 0, 0, 16, response, 0, 0, 0x15, 0, 0, 0, 0, 0, 0, 0, 7];
        expect(
            smpp,
            1,
            &[
                (&bind(27), &[], Is(Protocol::SMPP)),
                (&bind(28), &[], No),
                (&alive(0), &alive(0x80), Is(Protocol::SMPP)),
                (&alive(0), &alive(0), No),
            ],
        );
    }

    #[test]
    fn watchers() {
        expect(
            zabbix,
            1,
            &[(b"ZBXD\x01\x05", &[], Is(Protocol::ZABBIX)), (b"ZBXD\x08\x05", &[], No)],
        );
        expect(
            checkmk,
            1,
            &[(&[], b"<<<check_mk>>>\n", Is(Protocol::CHECKMK)), (&[], b"<<<check_ml>>>\n", No)],
        );
    }

    #[test]
    fn libraries_and_trees() {
        let fields = b"\x83\x02\0\xe0\x84\x01\0\x85\x01\x40\x86\x01\x40";
        expect(
            z3950,
            1,
            &[
                (&[&b"\xb4\x0d"[..], fields].concat(), &[], Is(Protocol::Z3950)),
                (&[&b"\xb4\x0e\x81"[..], fields].concat(), &[], No),
            ],
        );
        expect(
            git,
            1,
            &[
                (b"0033git-upload-pack /project.git\0", &[], Is(Protocol::GIT)),
                (b"0033git-upload-pac", &[], More),
                (b"0033git-upload-packs", &[], No),
            ],
        );
        expect(
            rsync,
            1,
            &[(&[], b"@RSYNCD: 31.0\n", Is(Protocol::RSYNC)), (&[], b"@RSYNCD: EXIT\n", No)],
        );
    }
}
