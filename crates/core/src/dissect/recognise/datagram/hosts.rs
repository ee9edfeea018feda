//! What a host needs before and beside its work: an address, the time, the names of its neighbours, a file to
//! start from.

use super::octets::{at, be16, chain, only, weigh};
use super::{ApplicationProtocol, Look, Said};

/// DHCP: a request or reply with a hardware address that fits, the magic cookie, and options (RFC 2131
/// section 2, RFC 2132 section 2).
pub(super) fn dhcp(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let header = matches!(datagram, [1 | 2, 1..=38, 0..=16, ..]) && datagram.len() > 240;
    only(header && at(datagram, 236, &[0x63, 0x82, 0x53, 0x63]), ApplicationProtocol::DHCP)
}

/// DHCP for IPv6 on its ports 546 and 547: a kind of message and options that fill the datagram, after the
/// two addresses if it was relayed, the first of them one that a message begins with (RFC 8415 sections 7.2,
/// 8, 9, 11 and 21).
pub(super) fn dhcpv6(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let options = match datagram.first() {
        Some(12 | 13) => datagram.get(34..),
        Some(1..=36) => datagram.get(4..),
        _ => None,
    };
    let option = |rest: &[u8]| {
        let kind = be16(rest, 0)?;
        (1..=150).contains(&kind).then_some(4 + usize::from(be16(rest, 2)?))
    };
    // An identifier of one of four kinds, a relayed message, an interface, an address, what is asked for, a
    // time.
    let first = matches!(
        options,
        Some(
            [0, 1 | 2, 0, 6..=255, 0, 1..=4, ..]
                | [0, 9, ..]
                | [0, 3 | 4 | 6 | 8 | 18 | 25 | 37, 0, 2..=255, ..]
        )
    );
    let filled = options.is_some_and(|options| chain(options, option).is_some());
    only(first && filled && (said.has_port(546) || said.has_port(547)), ApplicationProtocol::DHCPV6)
}

/// NTP on its port 123: versions 1 to 4; the modes 1 to 5 with a stratum, intervals and root distances that
/// exist and 48 octets or more (RFC 5905 sections 7.3 and 7.5), control messages whose count fits (RFC 9327
/// section 2), and private ones whose items fill the datagram (as ntpd writes them).
pub(super) fn ntp(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let Some(&[first, second, third, _]) = datagram.first_chunk().filter(|_| said.has_port(123))
    else {
        return Look::No;
    };
    let fits = match first & 7 {
        1..=5 => time(datagram),
        // Beside the operation: whether this answers, tells of an error, or is not the last part.
        6 => first >> 6 == 0 && second & 31 != 0 && control(datagram.len(), be16(datagram, 10)),
        7 => third <= 3 && private(datagram, first & 0x80 != 0),
        _ => false,
    };
    only(fits && (1..=4).contains(&(first >> 3 & 7)), ApplicationProtocol::NTP)
}

/// A stratum up to 16, an interval of up to 2^17 seconds, a precision of 2 to the power of -64 to 32, and a
/// delay and dispersion below 256 seconds. Extensions and the signature come in fours.
fn time(datagram: &[u8]) -> bool {
    let exist = matches!(datagram, [_, 0..=16, 0..=17, 0..=32 | 192..=255, 0, _, _, _, 0, ..]);
    exist && datagram.len() >= 48 && datagram.len().is_multiple_of(4)
}

/// Data padded to four octets, perhaps with a signature.
fn control(long: usize, count: Option<u16>) -> bool {
    let plain = count.map(|count| 12 + usize::from(count).next_multiple_of(4));
    plain
        .and_then(|plain| long.checked_sub(plain))
        .is_some_and(|more| matches!(more, 0 | 4 | 20 | 24))
}

/// An error and a count, reserved bits and a size: an answer is as long as they say, a question is padded.
fn private(datagram: &[u8], answer: bool) -> bool {
    let Some((items, size)) = be16(datagram, 4).zip(be16(datagram, 6)) else {
        return false;
    };
    let long = 8 + usize::from(items & 0xfff) * usize::from(size & 0xfff);
    let fits =
        if answer { datagram.len() == long } else { items >> 12 == 0 && datagram.len() >= long };
    size >> 12 == 0 && fits
}

/// NetBIOS: its name service on port 137, which is DNS with names of 32 letters from A to P (RFC 1002
/// sections 4.1 and 4.2), and its datagram service on port 138: a kind, the sender's port, a length that ends
/// with the datagram, and such names (section 4.4). On port 53 such a name is a question of DNS.
pub(super) fn netbios(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let named =
        said.has_port(137) && be16(datagram, 2).is_some_and(|flags| flags & 0x7800 <= 0x4800);
    // Questions and answers both begin with a name, right after the header of twelve octets.
    let counts = (2..6).filter_map(|pair| be16(datagram, 2 * pair));
    let service = named
        && counts.fold(0, |sum, count| sum + u32::from(count)) <= 255
        && half_octets(datagram, 12);
    let sent = said.has_port(138) && be16(datagram, 8).is_some();
    let message = match datagram.first() {
        Some(0x10..=0x12) => half_octets(datagram, 14) && at(datagram, 12, &[0, 0]),
        Some(0x13) => datagram.len() == 11 && matches!(datagram.last(), Some(0x82..=0x84)),
        Some(0x14..=0x16) => half_octets(datagram, 10),
        _ => false,
    };
    only(service || (sent && message), ApplicationProtocol::NETBIOS)
}

/// Whether a name of 32 letters from A to P begins here (RFC 1001 section 14.1).
fn half_octets(datagram: &[u8], place: usize) -> bool {
    let name = datagram
        .get(place..)
        .and_then(|rest| rest.strip_prefix(&[32]))
        .and_then(|rest| rest.get(..32));
    name.is_some_and(|name| name.iter().all(|letter| (b'A'..=b'P').contains(letter)))
}

/// What a NetBIOS datagram carries, as nDPI names it: the message of SMB that begins with its four octets.
pub(in super::super) fn netbios_service(datagram: &[u8]) -> Option<&'static str> {
    // Two names, each of 34 octets or longer with a scope, come before.
    let carried = datagram.first().is_some_and(|kind| (0x10..=0x12).contains(kind));
    let within = datagram.get(82..512).or(datagram.get(82..))?;
    (carried && within.windows(4).any(|window| window == b"\xffSMB")).then_some("SMBv1")
}

/// TFTP: the request of a file with one of the modes, the options agreed to, or two blocks of data, or two
/// acknowledgements, with the same number or the next one (RFC 1350 section 5, RFC 2347). Both ends choose
/// their ports: only the request has a known one.
pub(super) fn tftp(said: &Said<'_>) -> Look {
    let (now, before) = (said.datagram(), said.before);
    let block = be16(now, 2).zip(be16(before, 2)).map(|(now, before)| now.wrapping_sub(before));
    let on = before.get(..2) == now.get(..2) && block.is_some_and(|step| step <= 1);
    let (fits, sure) = match now {
        [0, 1 | 2, rest @ ..] => (request(rest), true),
        [0, 3, _, _, rest @ ..] => (rest.len() <= 512, on && rest.len() == 512),
        [0, 4, _, _] => (true, on && before.len() == 4 && block == Some(1)),
        [0, 5, 0, 0..=8, .., 0] => (true, false),
        [0, 6, rest @ ..] => (agreed(rest), true),
        _ => (false, false),
    };
    weigh(fits, sure, ApplicationProtocol::TFTP)
}

/// Options that were agreed to, the first of them a known one (RFC 2348, RFC 2349, RFC 7440, RFC 2090).
fn agreed(rest: &[u8]) -> bool {
    let name = rest.split(|&octet| octet == 0).next().unwrap_or_default();
    let known: [&[u8]; 5] = [b"blksize", b"tsize", b"timeout", b"windowsize", b"multicast"];
    rest.ends_with(&[0]) && known.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// A name, a mode, then options; all of them texts that end with a zero.
fn request(rest: &[u8]) -> bool {
    let mut texts = rest.split(|&octet| octet == 0);
    let name =
        texts.next().is_some_and(|name| !name.is_empty() && name.iter().all(|octet| *octet >= 32));
    let mode = texts.next().is_some_and(|mode| {
        [&b"octet"[..], b"netascii", b"mail"].iter().any(|known| known.eq_ignore_ascii_case(mode))
    });
    name && mode
        && rest.ends_with(&[0])
        && texts.all(|text| text.iter().all(|octet| (32..127).contains(octet)))
}

#[cfg(test)]
mod tests {
    use super::super::octets::check;
    use super::*;

    #[test]
    fn knows_dhcp() {
        let mut ask = vec![0; 300];
        ask[..3].copy_from_slice(&[1, 1, 6]);
        ask[236..243].copy_from_slice(&[0x63, 0x82, 0x53, 0x63, 53, 1, 1]);
        check(dhcp, &[(&ask, &[], (68, 67), Look::Is(ApplicationProtocol::DHCP))]);
        ask[239] = 0;
        check(dhcp, &[(&ask, &[], (68, 67), Look::No)]);
        let solicit = [1, 7, 7, 7, 0, 8, 0, 2, 0, 0, 0, 14, 0, 0];
        check(
            dhcpv6,
            &[
                (&solicit, &[], (546, 547), Look::Is(ApplicationProtocol::DHCPV6)),
                (&solicit, &[], (546 + 2, 549), Look::No),
                (&solicit[..13], &[], (546, 547), Look::No),
            ],
        );
    }

    #[test]
    fn knows_ntp() {
        let (is, ports) = (Look::Is(ApplicationProtocol::NTP), (40000, 123));
        let time = |first, stratum| [&[first, stratum, 6, 0xe8][..], &[0; 44]].concat();
        check(
            ntp,
            &[
                (&time(0x23, 2), &[], ports, is),
                (&time(0x23, 17), &[], ports, Look::No),
                (&time(0x23, 2), &[], (40000, 124), Look::No),
                (&time(0x2b, 2), &[], ports, Look::No),
                (&[0x97, 0, 3, 42, 0, 1, 0, 4, 1, 2, 3, 4], &[], ports, is),
                (&[0x97, 0, 3, 42, 0, 2, 0, 4, 1, 2, 3, 4], &[], ports, Look::No),
                (&[0x16, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], &[], ports, is),
            ],
        );
    }

    #[test]
    fn knows_netbios() {
        let is = Look::Is(ApplicationProtocol::NETBIOS);
        let ask =
            [&[1, 2, 1, 0x10, 0, 1, 0, 0, 0, 0, 0, 0, 32][..], &[b'C'; 32], &[0, 0, 32, 0, 1]]
                .concat();
        let sent =
            [&[17, 2, 0, 1, 10, 0, 0, 1, 0, 138, 0, 40, 0, 0, 32][..], &[b'E'; 32], &[0]].concat();
        let mut other = ask.clone();
        other[20] = b'Q';
        check(
            netbios,
            &[
                (&ask, &[], (137, 137), is),
                (&other, &[], (137, 137), Look::No),
                (&ask, &[], (40000, 53), Look::No),
                (&sent, &[], (138, 138), is),
                (&sent, &[], (139, 139), Look::No),
            ],
        );
        let carries = [&sent[..], &[32], &[b'F'; 32], &[0], b"\xffSMB%"].concat();
        assert_eq!(netbios_service(&carries), Some("SMBv1"));
        assert_eq!(netbios_service(&sent), None);
    }

    #[test]
    fn knows_tftp() {
        let (is, ports) = (Look::Is(ApplicationProtocol::TFTP), (40000, 40001));
        let data = |number| [&[0, 3, 0, number][..], &[7; 512]].concat();
        check(
            tftp,
            &[
                (b"\0\x01file\0octet\0blksize\x001428\0", &[], ports, is),
                (b"\0\x01file\0octets\0", &[], ports, Look::No),
                (b"\0\x06blksize\x001428\0", &[], ports, is),
                (b"\0\x06blocksize\x001428\0", &[], ports, Look::No),
                (&data(1), &[], ports, Look::More),
                (&data(2), &data(1)[..32], ports, is),
                (&data(3), &data(1)[..32], ports, Look::More),
                (&[0, 4, 0, 2], &[0, 4, 0, 1], ports, is),
                (&[0, 7, 0, 2], &[0, 7, 0, 1], ports, Look::No),
            ],
        );
    }
}
