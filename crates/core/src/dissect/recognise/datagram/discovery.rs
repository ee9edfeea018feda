//! How devices and programs on one network find each other.

use super::octets::{at, be16, chain, holds, only, weigh};
use super::{ApplicationProtocol, Look, Said};

/// SSDP: the search or the announcement of HTTP over UDP, or an answer that names what was searched for (UPnP
/// Device Architecture 2.0 sections 1.2.2, 1.3.2 and 1.3.3). Some, such as Plex, send the first line alone.
pub(super) fn ssdp(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let line = datagram.starts_with(b"M-SEARCH * HTTP/1.1\r\n")
        || datagram.starts_with(b"NOTIFY * HTTP/1.1\r\n");
    let found = datagram.starts_with(b"HTTP/1.1 200 OK\r\n")
        && [&b"\r\nUSN:"[..], b"\r\nusn:", b"\r\nUsn:"]
            .iter()
            .any(|header| holds(datagram, 2048, header));
    only(line || found, ApplicationProtocol::SSDP)
}

/// WS-Discovery: a SOAP envelope that names its namespace, the first or the standard one (OASIS WS-Discovery
/// 1.1 section 1.6).
pub(super) fn wsd(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let spaces: [&[u8]; 2] = [
        b"http://schemas.xmlsoap.org/ws/2005/04/discovery",
        b"http://docs.oasis-open.org/ws-dd/ns/discovery/2009/01",
    ];
    let envelope = at(datagram, 0, b"<") && holds(datagram, 1024, b"Envelope");
    only(
        envelope && spaces.iter().any(|space| holds(datagram, 2048, space)),
        ApplicationProtocol::WSD,
    )
}

/// Ubiquiti's discovery on its port 10001: version 1 or 2, a command, a length that ends with the datagram
/// and items that fill it, among them a hardware address of the right length (as seen in captures).
pub(super) fn ubntac2(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    if !said.has_port(10_001) || !matches!(datagram, [1 | 2, ..]) {
        return Look::No;
    }
    let Some((items, long)) = datagram.get(4..).zip(be16(datagram, 2)) else {
        return Look::No;
    };
    let item = |rest: &[u8]| Some(3 + usize::from(be16(rest, 1)?));
    if items.len() != usize::from(long) || chain(items, item).is_none() {
        return Look::No;
    }
    let address = |mut rest: &[u8]| {
        while let Some(long) = item(rest) {
            if matches!(rest, [1, 0, 6, ..] | [2, 0, 10, ..]) {
                return true;
            }
            rest = rest.get(long..).unwrap_or_default();
        }
        false
    };
    weigh(true, address(items), ApplicationProtocol::UBNTAC2)
}

/// Dropbox's search for other computers of the same user on its port 17500: an object in JSON that names the
/// host and the folders (as seen in captures).
pub(super) fn dropbox(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let object = datagram.starts_with(b"{\"") && holds(datagram, 1024, b"\"host_int\":");
    only(object && said.has_port(17_500), ApplicationProtocol::DROPBOX)
}

/// Spotify's search for players on its port 57621: a fixed text (as seen in captures).
pub(super) fn spotify(said: &Said<'_>) -> Look {
    only(
        said.has_port(57_621) && said.datagram().starts_with(b"SpotUdp0"),
        ApplicationProtocol::SPOTIFY,
    )
}

/// BACnet: the kind 0x81, a function, a length that ends with the datagram, and for the functions that carry
/// a message, version 1 of that and control bits without the two reserved (ASHRAE 135 annex J.2, section
/// 6.2).
pub(super) fn bacnet(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let whole = be16(datagram, 2).is_some_and(|long| usize::from(long) == datagram.len());
    let place = match datagram {
        [0x81, 4, ..] => 10,
        [0x81, 9..=11, ..] => 4,
        [0x81, 0..=8, ..] if whole => return Look::More,
        _ => return Look::No,
    };
    let message = datagram.get(place) == Some(&1)
        && datagram.get(place + 1).is_some_and(|bits| bits & 0x50 == 0);
    only(whole && message, ApplicationProtocol::BACNET)
}

/// Check Point's cluster control on its port 8116: a fixed number, a version, and a kind of message (as seen
/// in captures).
pub(super) fn cpha(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let ports = said.initiator_port == 8116 && said.responder_port == 8116;
    let kind = matches!(be16(datagram, 6), Some(0..=16));
    only(
        ports && at(datagram, 0, &[0x1a, 0x90]) && kind && datagram.len() > 20,
        ApplicationProtocol::CPHA,
    )
}

/// HSRP on its ports 1985 and 2029: version 0 with the values that its states and kinds may have and the 20
/// octets that it is long (RFC 2281 section 5), or version 2's state of a group of 40 octets or of an
/// interface of 4 (as Cisco's routers send them).
pub(super) fn hsrp(said: &Said<'_>) -> Look {
    let datagram = said.datagram();
    let known = matches!(datagram, [0, 0..=2, 0 | 1 | 2 | 4 | 8 | 16, _, _, _, _, 0, ..]);
    let held = datagram.get(3) < datagram.get(4);
    let text = |octet: &u8| matches!(octet, 0 | 32..127);
    let password = datagram.get(8..16).is_some_and(|password| password.iter().all(text));
    let first = known && held && password && datagram.len() == 20;
    let group = matches!(datagram, [1, 40, 2, 0..=2, 0..=6, 4 | 6, ..]) && datagram.len() >= 42;
    let interface = matches!(datagram, [2, 4, _, _, _, _]);
    let served =
        matches!(said.initiator_port, 1985 | 2029) && said.initiator_port == said.responder_port;
    only(served && (first || group || interface), ApplicationProtocol::HSRP)
}

#[cfg(test)]
mod tests {
    use super::super::octets::check;
    use super::*;

    #[test]
    fn knows_searches_in_text() {
        let (ssdp_is, wsd_is) =
            (Look::Is(ApplicationProtocol::SSDP), Look::Is(ApplicationProtocol::WSD));
        let ports = (40000, 1900);
        check(
            ssdp,
            &[
                (b"M-SEARCH * HTTP/1.1\r\nST: ssdp:all\r\n\r\n", &[], ports, ssdp_is),
                (b"M-SEARCH / HTTP/1.1\r\n", &[], ports, Look::No),
                (b"HTTP/1.1 200 OK\r\nST: a\r\nUSN: b\r\n\r\n", &[], ports, ssdp_is),
                (b"HTTP/1.1 200 OK\r\nServer: b\r\n\r\n", &[], ports, Look::No),
            ],
        );
        let envelope = b"<s:Envelope xmlns:d=\"http://schemas.xmlsoap.org/ws/2005/04/discovery\">";
        check(
            wsd,
            &[
                (envelope, &[], (40000, 3702), wsd_is),
                (
                    b"<s:Envelope xmlns:d=\"http://example.org/discovery\">",
                    &[],
                    (40000, 3702),
                    Look::No,
                ),
            ],
        );
        check(
            dropbox,
            &[
                (b"{\"host_int\": 1}", &[], (17500, 17500), Look::Is(ApplicationProtocol::DROPBOX)),
                (b"{\"host\": 1}", &[], (17500, 17500), Look::No),
            ],
        );
        check(
            spotify,
            &[
                (b"SpotUdp0abc", &[], (57621, 57621), Look::Is(ApplicationProtocol::SPOTIFY)),
                (b"SpotUdp0abc", &[], (57621, 57622), Look::Is(ApplicationProtocol::SPOTIFY)),
                (b"SpotUd", &[], (57621, 57621), Look::No),
            ],
        );
    }

    #[test]
    fn knows_devices() {
        let (ubnt, ports) = (Look::Is(ApplicationProtocol::UBNTAC2), (40000, 10001));
        check(
            ubntac2,
            &[
                (&[2, 6, 0, 9, 1, 0, 6, 1, 2, 3, 4, 5, 6], &[], ports, ubnt),
                (&[2, 6, 0, 9, 3, 0, 6, 1, 2, 3, 4, 5, 6], &[], ports, Look::More),
                (&[2, 6, 0, 9, 1, 0, 7, 1, 2, 3, 4, 5, 6], &[], ports, Look::No),
                (&[1, 0, 0, 0], &[], ports, Look::More),
            ],
        );
        let ports = (47808, 47808);
        check(
            bacnet,
            &[
                (
                    &[0x81, 11, 0, 8, 1, 0x20, 0xff, 0xff],
                    &[],
                    ports,
                    Look::Is(ApplicationProtocol::BACNET),
                ),
                (&[0x81, 11, 0, 8, 2, 0x20, 0xff, 0xff], &[], ports, Look::No),
                (&[0x81, 11, 0, 9, 1, 0x20, 0xff, 0xff], &[], ports, Look::No),
                (&[0x81, 5, 0, 6, 0, 60], &[], ports, Look::More),
            ],
        );
    }

    #[test]
    fn knows_clusters() {
        let state = [0x1a, 0x90, 12, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 0];
        check(
            cpha,
            &[
                (&state, &[], (8116, 8116), Look::Is(ApplicationProtocol::CPHA)),
                (&state, &[], (8116, 8117), Look::No),
            ],
        );
        let mut hello = *b"\x00\x00\x10\x03\x0a\x64\x01\x00cisco\0\0\0\x0a\0\0\x01";
        check(hsrp, &[(&hello, &[], (1985, 1985), Look::Is(ApplicationProtocol::HSRP))]);
        check(
            hsrp,
            &[(&[2, 4, 0, 0, 0, 1], &[], (2029, 2029), Look::Is(ApplicationProtocol::HSRP))],
        );
        check(hsrp, &[(&[2, 4, 0, 0, 0, 1], &[], (2028, 2028), Look::No)]);
        hello[2] = 3;
        check(hsrp, &[(&hello, &[], (1985, 1985), Look::No)]);
    }
}
