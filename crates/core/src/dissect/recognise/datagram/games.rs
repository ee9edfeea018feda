//! Games and the shops and servers they are played through.

use super::octets::{at, be16, be32, le32, only, weigh};
use super::{ApplicationProtocol, Look, Said};

/// Steam: the client's connection to its servers (`VS01`, a length that ends with the datagram and a known
/// kind, as SteamKit's UdpPacket reads it), the search for players at home (eight fixed octets, then lengths
/// that fit) and the ping to its relays (as seen in captures).
pub(super) fn steam(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    only(connection(datagram) || home(datagram) || relay_ping(datagram), ApplicationProtocol::STEAM)
}

fn connection(datagram: &[u8]) -> bool {
    let Some(&[long, more, kind]) =
        datagram.strip_prefix(b"VS01").and_then(|rest| rest.first_chunk())
    else {
        return false;
    };
    usize::from(u16::from_le_bytes([long, more])) + 36 == datagram.len() && (1..=7).contains(&kind)
}

fn home(datagram: &[u8]) -> bool {
    let fixed = datagram.starts_with(&[0xff, 0xff, 0xff, 0xff, 0x21, 0x4c, 0x5f, 0xa0]);
    let header = le32(datagram, 8).and_then(|long| usize::try_from(long).ok());
    fixed && header.is_some_and(|long| long.saturating_add(12) <= datagram.len())
}

fn relay_ping(datagram: &[u8]) -> bool {
    datagram.len() >= 100 && at(datagram, 0, &[1]) && at(datagram, 2, b"sdping")
}

/// A query to a server of Valve's Source engine: four octets of ones, `T`, a fixed text, and perhaps the four
/// octets that the server challenged with (Valve's developer wiki, Server queries, A2S_INFO). What else
/// begins with the ones may belong to one.
pub(super) fn source_engine(said: &Said<'_>) -> Look {
    let Some(query) = said.datagram().strip_prefix(&[0xff; 4]) else {
        return Look::No;
    };
    let asks = query
        .strip_prefix(b"TSource Engine Query\0")
        .is_some_and(|rest| matches!(rest.len(), 0 | 4));
    let other = matches!(query, [b'A' | b'D' | b'E' | b'I' | b'U' | b'V' | b'W', ..]);
    weigh(asks || other, asks, ApplicationProtocol::SOURCE_ENGINE)
}

/// Genshin Impact: the 20 octets that ask for, grant and end a connection, each kind with its own first and
/// last number, and 1234567890 before the last (as seen in captures).
pub(super) fn genshin_impact(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let kind = match be32(datagram, 0) {
        Some(0xff) => Some(0xffff_ffff),
        Some(0x145) => Some(0x1451_4545),
        Some(0x194) => Some(0x1941_9494),
        _ => None,
    };
    let ends = kind.is_some() && be32(datagram, 16) == kind;
    let number = matches!(be32(datagram, 12), Some(1_234_567_890 | 0..=9));
    only(datagram.len() == 20 && ends && number, ApplicationProtocol::GENSHIN_IMPACT)
}

/// Among Us: the first message of its library Hazel: kind 8, a number, version 0, then the game's version,
/// which is a date (year times 25000, month times 1800, day times 50), and the player's name with its length
/// (as seen in captures; the versions are those that Impostor, a server for the game, lists).
pub(super) fn among_us(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let dated = le32(datagram, 4).is_some_and(|version| {
        let (year, month, day) = (version / 25_000, version % 25_000 / 1_800, version % 1_800 / 50);
        (2018..=2040).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day)
    });
    let name = datagram.get(8).and_then(|&long| datagram.get(9..)?.get(..usize::from(long)));
    let named = name.and_then(|name| std::str::from_utf8(name).ok());
    let plain = named
        .is_some_and(|name| (1..=32).contains(&name.len()) && !name.contains(char::is_control));
    let begins = at(datagram, 0, &[8]) && at(datagram, 3, &[0]) && be16(datagram, 1) != Some(0);
    only(begins && dated && plain, ApplicationProtocol::AMONG_US)
}

#[cfg(test)]
mod tests {
    use super::super::octets::check;
    use super::*;

    const PORTS: (u16, u16) = (40000, 27018);

    #[test]
    fn knows_steam() {
        let is = Look::Is(ApplicationProtocol::STEAM);
        let packet = |long, kind| [&b"VS01"[..], &[long, 0, kind, 0], &[0; 30]].concat();
        let ping = [&b"\x01\x01sdping"[..], &[0; 92]].concat();
        let search = [0xff, 0xff, 0xff, 0xff, 0x21, 0x4c, 0x5f, 0xa0, 1, 0, 0, 0, 8];
        check(
            steam,
            &[
                (&packet(2, 1), &[], PORTS, is),
                (&packet(3, 1), &[], PORTS, Look::No),
                (&packet(2, 8), &[], PORTS, Look::No),
                (&ping, &[], PORTS, is),
                (&ping[..99], &[], PORTS, Look::No),
                (&search, &[], PORTS, is),
                (&search[..12], &[], PORTS, Look::No),
            ],
        );
    }

    #[test]
    fn knows_source_engine() {
        let is = Look::Is(ApplicationProtocol::SOURCE_ENGINE);
        check(
            source_engine,
            &[
                (b"\xff\xff\xff\xffTSource Engine Query\0", &[], PORTS, is),
                (b"\xff\xff\xff\xffTSource Engine Query\0abcd", &[], PORTS, is),
                (b"\xff\xff\xff\xffTSource Engine Query\0abc", &[], PORTS, Look::No),
                (b"\xff\xff\xff\xffI\x11name\0", &[], PORTS, Look::More),
                (b"\xff\xff\xff\xfeTSource Engine Query\0", &[], PORTS, Look::No),
            ],
        );
    }

    #[test]
    fn knows_genshin_impact() {
        let is = Look::Is(ApplicationProtocol::GENSHIN_IMPACT);
        let asks =
            [0, 0, 0, 0xff, 0, 0, 0, 0, 1, 2, 3, 4, 0x49, 0x96, 2, 0xd2, 0xff, 0xff, 0xff, 0xff];
        let mut other = asks;
        other[19] = 0xfe;
        check(genshin_impact, &[(&asks, &[], PORTS, is), (&other, &[], PORTS, Look::No)]);
    }

    #[test]
    fn knows_among_us() {
        let is = Look::Is(ApplicationProtocol::AMONG_US);
        let hello =
            |version: u32, name: &[u8]| [&[8, 0, 1, 0][..], &version.to_le_bytes(), name].concat();
        let version = 2021 * 25_000 + 6 * 1_800 + 30 * 50;
        check(
            among_us,
            &[
                (&hello(version, b"\x03Red"), &[], PORTS, is),
                (&hello(version, b"\x04Red"), &[], PORTS, Look::No),
                (&hello(version - 6 * 1_800, b"\x03Red"), &[], PORTS, Look::No),
                (&hello(17, b"\x03Red"), &[], PORTS, Look::No),
            ],
        );
    }
}
