//! Community ID, version 1 (github.com/corelight/community-id-spec): one text for a conversation, the
//! same in all tools that know it.

use base64::{Engine, engine::general_purpose::STANDARD};
use sha1::{Digest, Sha1};
use std::net::IpAddr;

use crate::flow::Flow;
use crate::key::Protocol;

/// Types of ICMP that are asked and answered: the spec has the other one in the place of a port, and such
/// flows have two directions.
const ICMP: [(u8, u8); 8] =
    [(8, 0), (0, 8), (13, 14), (14, 13), (15, 16), (16, 15), (17, 18), (18, 17)];
const ICMP_ROUTER: [(u8, u8); 2] = [(10, 9), (9, 10)];
const ICMPV6: [(u8, u8); 10] = [
    (128, 129),
    (129, 128),
    (133, 134),
    (134, 133),
    (135, 136),
    (136, 135),
    (130, 131),
    (131, 130),
    (144, 145),
    (145, 144),
];
const ICMPV6_NODE: [(u8, u8); 2] = [(139, 140), (140, 139)];

/// The Community ID of a flow, with seed 0.
#[must_use]
pub fn community_id(flow: &Flow) -> String {
    let (mut ports, mut one_way) = ((flow.source_port, flow.destination_port), false);
    if let Some((icmp_type, code)) = flow.icmp {
        let pair = |pairs: &[(u8, u8)]| {
            pairs.iter().find(|(asked, _)| *asked == icmp_type).map(|(_, answered)| *answered)
        };
        let answered = match flow.protocol {
            Protocol::ICMP => pair(&ICMP).or(pair(&ICMP_ROUTER)),
            _ => pair(&ICMPV6).or(pair(&ICMPV6_NODE)),
        };
        one_way = answered.is_none();
        ports = (icmp_type.into(), answered.unwrap_or(code).into());
    }
    let mut ends = [(flow.source, ports.0), (flow.destination, ports.1)];
    if !one_way && ends[0] > ends[1] {
        ends.reverse();
    }
    let mut hash = Sha1::new();
    hash.update([0, 0]);
    for (address, _) in ends {
        match address.ip() {
            IpAddr::V4(v4) => hash.update(v4.octets()),
            IpAddr::V6(v6) => hash.update(v6.octets()),
        }
    }
    hash.update([flow.protocol.0, 0]);
    if flow.protocol.has_ports() || flow.icmp.is_some() {
        for (_, port) in ends {
            hash.update(port.to_be_bytes());
        }
    }
    format!("1:{}", STANDARD.encode(hash.finalize()))
}
