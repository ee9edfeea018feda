//! Tunnels in clear text. What they carry is mostly decoded before anybody asks here; these are for those
//! that were not.

use super::octets::{at, be16, be32, chain, only, weigh};
use super::{ApplicationProtocol, Look, Said};

/// L2TP: a control message of version 2 or 3 whose length ends with the datagram and whose attributes fill
/// it, the first of them the message's kind (RFC 2661 sections 3.1, 4.1 and 4.4.1, RFC 3931 section 3.2.1);
/// data on port 1701 waits for one.
pub(super) fn l2tp(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let control = matches!(datagram, [0xc8, 2 | 3, ..]);
    let whole = be16(datagram, 2).is_some_and(|long| usize::from(long) == datagram.len());
    if control && whole {
        let attributes = datagram.get(12..).unwrap_or_default();
        let attribute =
            |rest: &[u8]| Some(usize::from(be16(rest, 0)? & 0x3ff)).filter(|&long| long >= 6);
        let fits = chain(attributes, attribute).is_some();
        let kind = matches!(attributes, [0x80, 8, 0, 0, 0, 0, 0, 1..=28, ..]);
        // A message without attributes only acknowledges.
        return weigh(fits && (kind || attributes.is_empty()), kind, ApplicationProtocol::L2TP);
    }
    let data = matches!(datagram, [first, 2, ..] if first & 0xb4 == 0);
    weigh(data && said.has_port(1701), false, ApplicationProtocol::L2TP)
}

/// Teredo: perhaps an authentication or the origin, then an IPv6 header whose length ends with the datagram,
/// of an address of Teredo's prefix, or of a link's own on port 3544 (RFC 4380 sections 2.6, 5.1.1 and
/// 5.2.1).
pub(super) fn teredo(said: &Said<'_>) -> Look {
    let mut packet = said.datagram();
    if let [0, 1, client, value, rest @ ..] = packet {
        packet = rest.get(usize::from(*client) + usize::from(*value) + 9..).unwrap_or_default();
    }
    if let [0, 0, _, _, _, _, _, _, rest @ ..] = packet {
        packet = rest;
    }
    let ends = be16(packet, 4).is_some_and(|long| usize::from(long) + 40 == packet.len());
    let prefix = |prefix: &[u8]| at(packet, 8, prefix) || at(packet, 24, prefix);
    let known = prefix(&[0x20, 1, 0, 0]) || (said.has_port(3544) && prefix(&[0xfe, 0x80, 0, 0]));
    let version = packet.first().is_some_and(|first| first >> 4 == 6);
    only(version && ends && known, ApplicationProtocol::TEREDO)
}

/// VXLAN on its port 4789: the one flag, the reserved octets zero, and inside an Ethernet frame of a common
/// kind (RFC 7348 section 5).
pub(super) fn vxlan(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let header = at(datagram, 0, &[8, 0, 0, 0]) && datagram.get(7) == Some(&0);
    let frame =
        matches!(be16(datagram, 20), Some(0x0800 | 0x0806 | 0x86dd | 0x8100 | 0x88a8 | 0..=1500));
    only(said.has_port(4789) && header && frame, ApplicationProtocol::VXLAN)
}

/// GTP for users' data on its port 2152: version 1, a kind of message, a length that ends with the datagram
/// (3GPP TS 29.281 sections 5.1 and 6.1).
pub(super) fn gtp_u(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let header = matches!(datagram, [0x30..=0x37, 1 | 2 | 26 | 31 | 253..=255, ..]);
    let ends = be16(datagram, 2).is_some_and(|long| usize::from(long) + 8 == datagram.len());
    only(
        said.has_port(2152) && header && ends && be32(datagram, 4).is_some(),
        ApplicationProtocol::GTP_U,
    )
}

#[cfg(test)]
mod tests {
    use super::super::octets::check;
    use super::*;

    #[test]
    fn knows_l2tp() {
        let (is, ports) = (Look::Is(ApplicationProtocol::L2TP), (1701, 1701));
        let start = [0xc8, 2, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 8, 0, 0, 0, 0, 0, 1];
        let mut other = start;
        other[17] = 7;
        check(
            l2tp,
            &[
                (&start, &[], ports, is),
                (&other, &[], ports, Look::No),
                (&[0xc8, 2, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0], &[], ports, Look::More),
                (&[0, 2, 0, 1, 0, 1, 7], &[], ports, Look::More),
                (&[0, 2, 0, 1, 0, 1, 7], &[], (1702, 1702), Look::No),
            ],
        );
    }

    #[test]
    fn knows_teredo() {
        let (is, ports) = (Look::Is(ApplicationProtocol::TEREDO), (40000, 3544));
        let packet = |start: &[u8], source: [u8; 4]| {
            [start, &[0x60, 0, 0, 0, 0, 1, 59, 64], &source, &[7; 29]].concat()
        };
        let local = [0xfe, 0x80, 0, 0];
        let asks = packet(&[0, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0], local);
        check(
            teredo,
            &[
                (&packet(&[], [0x20, 1, 0, 0]), &[], (1, 2), is),
                (&packet(&[], [0x20, 2, 0, 0]), &[], ports, Look::No),
                (&packet(&[0, 0, 1, 2, 3, 4, 5, 6], local), &[], ports, is),
                (&packet(&[], local), &[], (1, 2), Look::No),
                (&asks, &[], ports, is),
                (&asks[..asks.len() - 1], &[], ports, Look::No),
            ],
        );
    }

    #[test]
    fn knows_vxlan_and_gtp() {
        let mut frame = [[8, 0, 0, 0, 0, 0, 5, 0].as_slice(), &[7; 12], &[8, 0, 0x45]].concat();
        check(vxlan, &[(&frame, &[], (40000, 4789), Look::Is(ApplicationProtocol::VXLAN))]);
        check(vxlan, &[(&frame, &[], (40000, 4790), Look::No)]);
        frame[7] = 1;
        check(vxlan, &[(&frame, &[], (40000, 4789), Look::No)]);
        let data = [0x30, 0xff, 0, 2, 0, 0, 0, 1, 0x45, 0];
        check(
            gtp_u,
            &[
                (&data, &[], (2152, 2152), Look::Is(ApplicationProtocol::GTP_U)),
                (&data, &[], (2153, 2153), Look::No),
                (&data[..9], &[], (2152, 2152), Look::No),
            ],
        );
    }
}
