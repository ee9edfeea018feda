//! Frames for tests, layer by layer: what goes outside takes what goes inside.

#![allow(dead_code)]

/// 10.0.0.`host`.
pub(crate) fn host(host: u8) -> [u8; 4] {
    [10, 0, 0, host]
}

pub(crate) fn ethernet(ether_type: u16, inside: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1][..], &ether_type.to_be_bytes(), inside].concat()
}

pub(crate) fn vlan(id: u16, ether_type: u16, inside: &[u8]) -> Vec<u8> {
    [&id.to_be_bytes()[..], &ether_type.to_be_bytes(), inside].concat()
}

pub(crate) fn ipv4(from: u8, to: u8, protocol: u8, inside: &[u8]) -> Vec<u8> {
    fragment(from, to, protocol, (0, 0, false), inside)
}

/// Identification, offset in octets, and whether more follow.
pub(crate) fn fragment(
    from: u8,
    to: u8,
    protocol: u8,
    (identification, offset, more): (u16, u16, bool),
    inside: &[u8],
) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend((20 + inside.len() as u16).to_be_bytes());
    header.extend(identification.to_be_bytes());
    header.extend(((offset / 8) | (u16::from(more) << 13)).to_be_bytes());
    header.extend([64, protocol, 0, 0]);
    header.extend(host(from));
    header.extend(host(to));
    [header, inside.to_vec()].concat()
}

pub(crate) fn ipv6(from: u8, to: u8, next: u8, inside: &[u8]) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend((inside.len() as u16).to_be_bytes());
    header.extend([next, 64]);
    for host in [from, to] {
        header.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
    }
    [header, inside.to_vec()].concat()
}

pub(crate) fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len() as u16;
    [from, to, length, 0]
        .iter()
        .flat_map(|field| field.to_be_bytes())
        .chain(payload.iter().copied())
        .collect()
}

/// A segment with these flags, sequence and acknowledgment numbers.
pub(crate) fn tcp(from: u16, to: u16, flags: u8, numbers: (u32, u32), payload: &[u8]) -> Vec<u8> {
    let mut segment: Vec<u8> = [from, to].iter().flat_map(|port| port.to_be_bytes()).collect();
    segment.extend(numbers.0.to_be_bytes());
    segment.extend(numbers.1.to_be_bytes());
    segment.extend([0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    segment.extend(payload);
    segment
}
