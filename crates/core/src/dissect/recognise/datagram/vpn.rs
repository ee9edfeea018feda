//! Encrypted tunnels, known by how they are set up.

use super::octets::{at, be16, be32, next, only, weigh};
use super::{ApplicationProtocol, Look, Said};

/// OpenVPN: the first message of either end: the kind, the session, the signature if the messages are signed,
/// and numbers that are still 0 or 1, in exactly as many octets as that makes (OpenVPN's protocol
/// description, Network protocol, Reliability layer; RFC draft openvpn-wire-protocol section 3).
pub(super) fn openvpn(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let [opcode, rest @ ..] = datagram else {
        return Look::No;
    };
    // The key identifier, in the low bits, is 0 in a first message.
    if !matches!(opcode, 0x38 | 0x40 | 0x50) {
        return Look::No;
    }
    let clear = |rest: &[u8]| match rest.split_first_chunk::<8>() {
        Some((_, rest)) => acknowledges(rest),
        None => false,
    };
    // Signed (tls-auth) with MD5, SHA-1, SHA-256 or SHA-512, then the packet's own number and time.
    let signed = |rest: &[u8]| {
        [16, 20, 32, 64]
            .iter()
            .any(|&long| counted(rest, 8 + long) && rest.get(16 + long..).is_some_and(acknowledges))
    };
    // Encrypted (tls-crypt): the number and time come first, then 32 octets of signature, then what is
    // hidden. The third kind of request is followed by a wrapped key that ends with its own length, and says
    // in the number's upper half what it can do.
    let hidden = |rest: &[u8]| match opcode {
        0x50 => {
            let key =
                rest.len().checked_sub(2).and_then(|place| be16(rest, place)).map(usize::from);
            at(rest, 10, &[0, 1]) && key.is_some_and(|key| key + 53 == rest.len())
        }
        _ => counted(rest, 8) && matches!(rest.len(), 53 | 65 | 71),
    };
    only(clear(rest) || signed(rest) || hidden(rest), ApplicationProtocol::OPENVPN)
}

/// No message acknowledged and number 0, or one acknowledged, number 0, with the other's session, and number
/// 0.
fn acknowledges(rest: &[u8]) -> bool {
    match rest {
        [0, 0, 0, 0, 0] => true,
        [1, 0, 0, 0, 0, session @ .., 0, 0, 0, 0] => session.len() == 8,
        _ => false,
    }
}

/// The packet number 1 and a time since 2001.
fn counted(rest: &[u8], place: usize) -> bool {
    be32(rest, place) == Some(1) && be32(rest, place + 4).is_some_and(|time| time > 1_000_000_000)
}

/// WireGuard: the kind and three octets of zero, with the length that the kind has (WireGuard whitepaper
/// section 5.4). The handshakes end with 16 octets of zero unless the other end is under load; else, and for
/// data, the datagram before has to be of the same session with a lower counter.
pub(super) fn wireguard(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let again = |same: usize| {
        said.before.len() >= same
            && datagram.get(..same) == said.before.get(..same)
            && be32(datagram, 4) != Some(0)
    };
    let quiet = || datagram.ends_with(&[0; 16]);
    let (fits, sure) = match (datagram, datagram.len()) {
        ([1, 0, 0, 0, ..], 148) | ([2, 0, 0, 0, ..], 92) => (true, quiet() || again(8)),
        ([3, 0, 0, 0, ..], 64) => (true, false),
        ([4, 0, 0, 0, ..], long) => {
            (long >= 32 && long.is_multiple_of(16), again(8) && counts_on(said))
        }
        _ => (false, false),
    };
    weigh(fits, sure, ApplicationProtocol::WIREGUARD)
}

/// Whether the counter of the data, 64 bits with the least significant octet first, went on by a little.
fn counts_on(said: &Said<'_>) -> bool {
    let counter =
        |octets: &[u8]| octets.get(8..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk));
    let step = counter(said.datagram())
        .zip(counter(said.before))
        .map(|(now, before)| now.wrapping_sub(before));
    step.is_some_and(|step| (1..=64).contains(&step))
}

/// Tailscale's search for a path: `TS` and a speech balloon, a public key, a nonce, and a sealed message with
/// its signature (the package disco of the published client).
pub(super) fn tailscale(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let whole = datagram.len() >= 6 + 32 + 24 + 16 + 2;
    only(whole && datagram.starts_with("TS💬".as_bytes()), ApplicationProtocol::TAILSCALE)
}

/// IPsec: IKE on any port with the marker that port 4500 puts before it (RFC 7296 sections 3.1 and 3.2, RFC
/// 2408 section 3.1), or ESP on port 4500 twice in a row of the same association with the numbers following
/// each other (RFC 3948 section 2). A single octet of ones keeps the way open.
pub(super) fn ipsec(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let marked = said.has_port(4500);
    if let Some(message) = datagram.strip_prefix(&[0; 4]).filter(|_| marked) {
        return only(ike(message) == Some(true), ApplicationProtocol::IPSEC);
    }
    if ike(datagram) == Some(true) {
        return Look::Is(ApplicationProtocol::IPSEC);
    }
    if !marked {
        return Look::No;
    }
    let number = |octets: &[u8]| be32(octets, 4).unwrap_or(0);
    let same = said.before.len() >= 8 && datagram.get(..4) == said.before.get(..4);
    let esp =
        be32(datagram, 0).is_some_and(|association| association > 255) && datagram.len() >= 20;
    let sure = same && next(number(said.before), number(datagram), 64);
    weigh(esp || datagram == [0xff], esp && sure, ApplicationProtocol::IPSEC)
}

/// A header of version 1 or 2 whose kind of exchange and flags go with it and whose length ends with the
/// datagram, and a first payload that fits.
fn ike(message: &[u8]) -> Option<bool> {
    let flags = *message.get(19)?;
    let version = match (message.get(17)?, message.get(18)?) {
        (0x10, 1..=6 | 32 | 33) => flags & !7 == 0,
        (0x20, 34..=46) => flags & !0x38 == 0,
        _ => false,
    };
    let whole = usize::try_from(be32(message, 24)?).ok()? == message.len();
    // What the first version encrypts has no payload header to read.
    let hidden = message.get(17)? == &0x10 && flags & 1 != 0;
    let payload = hidden || (4..=message.len() - 28).contains(&usize::from(be16(message, 30)?));
    Some(version && whole && payload && !at(message, 0, &[0; 8]))
}

#[cfg(test)]
mod tests {
    use super::super::octets::check;
    use super::*;

    #[test]
    fn knows_openvpn() {
        let (is, ports) = (Look::Is(ApplicationProtocol::OPENVPN), (40000, 1194));
        let client = [0x38, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0];
        let answer =
            [&[0x40, 1, 2, 3, 4, 5, 6, 7, 8, 1, 0, 0, 0, 0][..], &[9; 8], &[0; 4]].concat();
        let signed = |number| {
            [&[0x38][..], &[7; 8], &[8; 20], &[0, 0, 0, number], &[0x60, 0, 0, 0], &[0; 5]].concat()
        };
        check(
            openvpn,
            &[
                (
                    &[&[0x50][..], &[7; 8], &[0x0f, 0, 0, 1], &[7; 41], &[0, 2]].concat(),
                    &[],
                    ports,
                    is,
                ),
                (
                    &[&[0x50][..], &[7; 8], &[0x0f, 0, 0, 1], &[7; 41], &[0, 3]].concat(),
                    &[],
                    ports,
                    Look::No,
                ),
                (&client, &[], ports, is),
                (&client[..13], &[], ports, Look::No),
                (&answer, &[], ports, is),
                (&signed(1), &[], ports, is),
                (&signed(2), &[], ports, Look::No),
                (
                    &[&[0x38][..], &[7; 8], &[0, 0, 0, 1, 0x60, 0, 0, 0], &[7; 37]].concat(),
                    &[],
                    ports,
                    is,
                ),
            ],
        );
    }

    #[test]
    fn knows_wireguard() {
        let (is, ports) = (Look::Is(ApplicationProtocol::WIREGUARD), (40000, 51820));
        let hello = |long, last| [&[1, 0, 0, 0][..], &vec![7; long], &[last; 16]].concat();
        let data = |session, counter| {
            [&[4, 0, 0, 0, session, 0, 0, 1, counter][..], &[0; 7], &[7; 16]].concat()
        };
        check(
            wireguard,
            &[
                (&hello(128, 0), &[], ports, is),
                (&hello(128, 1), &[], ports, Look::More),
                (&hello(127, 0), &[], ports, Look::No),
                (&data(1, 5), &[], ports, Look::More),
                (&data(1, 5), &data(1, 4), ports, is),
                (&data(1, 5), &data(2, 4), ports, Look::More),
                (&data(1, 5), &data(1, 6), ports, Look::More),
            ],
        );
    }

    #[test]
    fn knows_tailscale() {
        let disco = [&[0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac][..], &[7; 74]].concat();
        check(
            tailscale,
            &[
                (&disco, &[], (41641, 41641), Look::Is(ApplicationProtocol::TAILSCALE)),
                (&disco[..79], &[], (41641, 41641), Look::No),
            ],
        );
    }

    #[test]
    fn knows_ipsec() {
        let is = Look::Is(ApplicationProtocol::IPSEC);
        let ike = [
            &[7; 8][..],
            &[0; 8],
            &[33, 0x20, 34, 8, 0, 0, 0, 0, 0, 0, 0, 36, 0, 0, 0, 8, 1, 2, 3, 4],
        ]
        .concat();
        let marked = [&[0; 4][..], &ike].concat();
        let esp = |number| [&[0, 1, 2, 3, 0, 0, 0, number][..], &[7; 24]].concat();
        check(
            ipsec,
            &[
                (&ike, &[], (500, 500), is),
                (&ike[..35], &[], (500, 500), Look::No),
                (&marked, &[], (4500, 4500), is),
                (&marked, &[], (500, 500), Look::No),
                (&esp(2), &esp(1), (4500, 4500), is),
                (&esp(2), &esp(3), (4500, 4500), Look::More),
                (&esp(2), &esp(1), (4501, 4501), Look::No),
                (&[0xff], &[], (4500, 4500), Look::More),
            ],
        );
    }
}
