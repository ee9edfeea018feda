//! An extension is what nfdump 1.7 calls one group of a flow's fields: an id, a length, the data.
//!
//! A flow record of layout 2 (type 11, "V3") is a header of 12 bytes and as many elements as it
//! counts, in any order, each `u16 id, u16 length` (these four bytes included) and its data. Four
//! ids matter here: 1 the flow, 2 and 3 its addresses, 24 the user name. The others, and ids of a
//! later nfdump, are carried as they are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nom::{
    IResult, Parser,
    number::complete::{le_u8, le_u16, le_u32, le_u64},
};

use crate::{
    error::ErrorKind,
    flow::{Flow, name_in},
    name::{FIELD, UserName},
    record::Slot,
};

/// The header of a flow record, in front of its elements.
const RECORD_HEADER: usize = 12;
/// id and length.
const ELEMENT_HEADER: usize = 4;
/// The record flag "anonymised".
const ANONYMISED: u8 = 4;

const GENERIC_FLOW: u16 = 1;
const IPV4_FLOW: u16 = 2;
const IPV6_FLOW: u16 = 3;
const NSEL_USER: u16 = 24;

/// Lengths, element header included.
const GENERIC_FLOW_LENGTH: usize = 52;
const IPV4_FLOW_LENGTH: usize = 12;
const IPV6_FLOW_LENGTH: usize = 36;
const NSEL_USER_LENGTH: usize = ELEMENT_HEADER + FIELD;

/// A flow record's header, without the type and size of every record.
struct RecordHeader {
    elements: u16,
    exporter: u16,
    flags: u8,
}

fn record_header(input: &[u8]) -> IResult<&[u8], RecordHeader, ()> {
    let (rest, (_type, _size, elements, _engine, exporter, flags, _version)) =
        (le_u16, le_u16, le_u16, le_u16, le_u16, le_u8, le_u8).parse(input)?;
    Ok((rest, RecordHeader { elements, exporter, flags }))
}

fn element_header(input: &[u8]) -> IResult<&[u8], (u16, u16), ()> {
    (le_u16, le_u16).parse(input)
}

/// One element: its id and its bytes, element header included.
struct Element<'a> {
    id: u16,
    bytes: &'a [u8],
}

impl<'a> Element<'a> {
    fn data(&self) -> &'a [u8] {
        &self.bytes[ELEMENT_HEADER..]
    }
}

/// The elements of a flow record, each checked to lie inside it.
struct Elements<'a> {
    claimed: u16,
    found: u16,
    rest: &'a [u8],
}

impl<'a> Elements<'a> {
    fn of(record: &'a [u8]) -> Result<(RecordHeader, Self), ErrorKind> {
        let Ok((rest, header)) = record_header(record) else {
            return Err(ErrorKind::RecordSize { size: record.len(), header: RECORD_HEADER });
        };
        let elements = Self { claimed: header.elements, found: 0, rest };
        Ok((header, elements))
    }

    fn next(&mut self) -> Result<Option<Element<'a>>, ErrorKind> {
        if self.found == self.claimed {
            // nfdump 1.7.1 refuses the whole file for a remainder, 1.7.8 hides it.
            return if self.rest.is_empty() {
                Ok(None)
            } else {
                Err(ErrorKind::ElementCount { claimed: self.claimed, left: self.rest.len() })
            };
        }
        let Ok((_, (id, length))) = element_header(self.rest) else {
            return Err(ErrorKind::ElementMissing { claimed: self.claimed, found: self.found });
        };
        let length = usize::from(length);
        let least = match id {
            GENERIC_FLOW => GENERIC_FLOW_LENGTH,
            IPV4_FLOW => IPV4_FLOW_LENGTH,
            IPV6_FLOW => IPV6_FLOW_LENGTH,
            _ => ELEMENT_HEADER,
        };
        if length < least {
            return Err(ErrorKind::ElementSize { id, length, least });
        }
        let Some(bytes) = self.rest.get(..length) else {
            return Err(ErrorKind::ElementTruncated { id, length, left: self.rest.len() });
        };
        self.rest = &self.rest[length..];
        self.found += 1;
        Ok(Some(Element { id, bytes }))
    }
}

/// The fields of element 1.
struct Generic {
    first_ms: u64,
    last_ms: u64,
    received_ms: u64,
    packets: u64,
    bytes: u64,
    source_port: u16,
    destination_port: u16,
    protocol: u8,
    tcp_flags: u8,
}

fn generic(input: &[u8]) -> IResult<&[u8], Generic, ()> {
    let (rest, (first_ms, last_ms, received_ms, packets, bytes)) =
        (le_u64, le_u64, le_u64, le_u64, le_u64).parse(input)?;
    let (rest, (source_port, destination_port, protocol, tcp_flags)) =
        (le_u16, le_u16, le_u8, le_u8).parse(rest)?;
    let generic = Generic {
        first_ms,
        last_ms,
        received_ms,
        packets,
        bytes,
        source_port,
        destination_port,
        protocol,
        tcp_flags,
    };
    Ok((rest, generic))
}

/// Two IPv4 addresses, each a number in the writer's byte order.
pub(crate) fn ipv4_pair(input: &[u8]) -> IResult<&[u8], (IpAddr, IpAddr), ()> {
    let (rest, (source, destination)) = (le_u32, le_u32).parse(input)?;
    Ok((rest, (Ipv4Addr::from(source).into(), Ipv4Addr::from(destination).into())))
}

/// Two IPv6 addresses, each two numbers in the writer's byte order, the high half first.
pub(crate) fn ipv6_pair(input: &[u8]) -> IResult<&[u8], (IpAddr, IpAddr), ()> {
    fn address(high: u64, low: u64) -> IpAddr {
        Ipv6Addr::from(u128::from(high) << 64 | u128::from(low)).into()
    }
    let (rest, (high, low, to_high, to_low)) = (le_u64, le_u64, le_u64, le_u64).parse(input)?;
    Ok((rest, (address(high, low), address(to_high, to_low))))
}

/// Decodes a flow record of layout 2.
///
/// Without element 1, or without addresses, there is no flow and no place for a name: such a
/// record is valid (nfdump prints zeros) and carried through. Of several elements with the same
/// id the last counts, as in nfdump; of both kinds of address, IPv4.
pub(crate) fn flow(record: &[u8]) -> Result<(Option<Flow<'_>>, Slot), ErrorKind> {
    let (header, mut elements) = Elements::of(record)?;
    let (mut first, mut ipv4, mut ipv6) = (None, None, None);
    let mut name = None;
    let mut slot = Slot::Insert(record.len());
    let mut at = RECORD_HEADER;
    while let Some(element) = elements.next()? {
        match element.id {
            GENERIC_FLOW => first = Some(element.data()),
            IPV4_FLOW => ipv4 = Some(element.data()),
            IPV6_FLOW => ipv6 = Some(element.data()),
            NSEL_USER => {
                name = name_in(element.data());
                slot = match slot {
                    Slot::Insert(_) if element.bytes.len() == NSEL_USER_LENGTH => Slot::Field {
                        at: at + ELEMENT_HEADER,
                        room: NSEL_USER_LENGTH - ELEMENT_HEADER,
                    },
                    _ => Slot::Replace,
                };
            }
            _ => {}
        }
        at += element.bytes.len();
    }
    let generic = first.and_then(|data| generic(data).ok());
    let addresses = match (ipv4, ipv6) {
        (Some(data), _) => ipv4_pair(data).ok(),
        (None, Some(data)) => ipv6_pair(data).ok(),
        (None, None) => None,
    };
    let (Some((_, generic)), Some((_, (source, destination)))) = (generic, addresses) else {
        return Ok((None, Slot::None));
    };
    let flow = Flow {
        first_ms: generic.first_ms,
        last_ms: generic.last_ms,
        received_ms: Some(generic.received_ms).filter(|&received| received != 0),
        source,
        destination,
        source_port: generic.source_port,
        destination_port: generic.destination_port,
        protocol: generic.protocol,
        tcp_flags: generic.tcp_flags,
        packets: generic.packets,
        bytes: generic.bytes,
        anonymised: header.flags & ANONYMISED != 0,
        exporter: header.exporter,
        user_name: name,
    };
    Ok((Some(flow), slot))
}

/// Appends `record`, which has no element 24, to `output`, with `name` as its last element.
///
/// The caller has made sure that a record of 72 bytes more is not too large; so many elements
/// that they cannot be counted do not fit into one.
pub(crate) fn append_named(record: &[u8], name: &UserName, output: &mut Vec<u8>) {
    let start = output.len();
    output.extend_from_slice(record);
    let count = u16::from_le_bytes([record[4], record[5]]);
    append_name(start, count, name, output);
}

/// Appends `record`, checked before, to `output`, with `name` as its last and only element 24.
pub(crate) fn append_renamed(record: &[u8], name: &UserName, output: &mut Vec<u8>) {
    let start = output.len();
    let mut count = 0;
    if let Ok((_, mut elements)) = Elements::of(record) {
        output.extend_from_slice(&record[..RECORD_HEADER]);
        while let Ok(Some(element)) = elements.next() {
            if element.id != NSEL_USER {
                output.extend_from_slice(element.bytes);
                count += 1;
            }
        }
    }
    append_name(start, count, name, output);
}

/// Closes the record from `start` on with element 24, and sets its size and count.
fn append_name(start: usize, count: u16, name: &UserName, output: &mut Vec<u8>) {
    let mut element = [0; NSEL_USER_LENGTH];
    element[..2].copy_from_slice(&NSEL_USER.to_le_bytes());
    element[2..4].copy_from_slice(&(NSEL_USER_LENGTH as u16).to_le_bytes());
    element[ELEMENT_HEADER..].copy_from_slice(name.field());
    output.extend_from_slice(&element);
    let size = (output.len() - start) as u16;
    output[start + 2..start + 4].copy_from_slice(&size.to_le_bytes());
    output[start + 4..start + 6].copy_from_slice(&(count + 1).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10.0.0.1:1027 -> 10.0.0.2:80, TCP, 5 packets, 320 bytes, of exporter 9.
    const RECORD: [u8; 76] = [
        11, 0, 76, 0, 2, 0, 0, 0, 9, 0, 4,
        10, // type, size, elements, engine, exporter, flags
        1, 0, 52, 0, // element 1
        0xe8, 3, 0, 0, 0, 0, 0, 0, 0xd0, 7, 0, 0, 0, 0, 0, 0, // first, last
        0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, // received, packets
        0x40, 1, 0, 0, 0, 0, 0, 0, 3, 4, 80, 0, 6, 0x1b, 0,
        0, // bytes, ports, protocol, flags
        2, 0, 12, 0, 1, 0, 0, 10, 2, 0, 0, 10, // element 2
    ];

    fn expected(user_name: Option<&[u8]>) -> Flow<'_> {
        Flow {
            first_ms: 1000,
            last_ms: 2000,
            received_ms: None,
            source: Ipv4Addr::new(10, 0, 0, 1).into(),
            destination: Ipv4Addr::new(10, 0, 0, 2).into(),
            source_port: 1027,
            destination_port: 80,
            protocol: 6,
            tcp_flags: 0x1b,
            packets: 5,
            bytes: 320,
            anonymised: true,
            exporter: 9,
            user_name,
        }
    }

    fn name(text: &str) -> UserName {
        let mut name = UserName::new();
        name.set(text);
        name
    }

    #[test]
    fn a_flow_record_is_decoded() {
        assert_eq!(flow(&RECORD).unwrap(), (Some(expected(None)), Slot::Insert(76)));
    }

    #[test]
    fn a_name_is_the_last_element() {
        let mut named = vec![0xff];
        append_named(&RECORD, &name("nginx"), &mut named);
        let named = &named[1..];
        let mut wanted = RECORD.to_vec();
        wanted[2] = 76 + 72;
        wanted[4] = 3;
        wanted.extend_from_slice(b"\x18\x00\x48\x00nginx");
        wanted.resize(76 + 72, 0);
        assert_eq!(named, wanted);
        let slot = Slot::Field { at: 80, room: 68 };
        assert_eq!(flow(named).unwrap(), (Some(expected(Some(b"nginx"))), slot));
    }

    #[test]
    fn names_of_odd_length_and_several_are_replaced_by_one() {
        let mut wanted = Vec::new();
        append_named(&RECORD, &name("new"), &mut wanted);
        // In front of the others and 8 bytes long; or two.
        let mut short = RECORD[..12].to_vec();
        short.extend_from_slice(b"\x18\x00\x08\x00old\0");
        short.extend_from_slice(&RECORD[12..]);
        (short[2], short[4]) = (84, 3);
        let mut twice = Vec::new();
        append_named(&RECORD, &name("one"), &mut twice);
        let once = twice.clone();
        twice.clear();
        append_named(&once, &name("two"), &mut twice);
        for (record, now) in [(short, &b"old"[..]), (twice, b"two")] {
            assert_eq!(flow(&record).unwrap(), (Some(expected(Some(now))), Slot::Replace));
            let mut renamed = Vec::new();
            append_renamed(&record, &name("new"), &mut renamed);
            assert_eq!(renamed, wanted);
        }
    }

    #[test]
    fn ipv6_addresses_are_two_numbers_each() {
        let mut data = [0; 32];
        data[..8].copy_from_slice(&[0, 0, 0xb8, 0x0d, 1, 0, 0x20, 0]);
        data[24] = 1;
        let (_, (source, destination)) = ipv6_pair(&data).unwrap();
        assert_eq!(source.to_string(), "20:1:db8::");
        assert_eq!(destination.to_string(), "::1");
    }

    #[test]
    fn without_times_or_addresses_there_is_no_flow() {
        let mut bare = RECORD[..64].to_vec();
        (bare[2], bare[4]) = (64, 1);
        assert_eq!(flow(&bare).unwrap(), (None, Slot::None));
        let mut bare = RECORD[..12].to_vec();
        bare.extend_from_slice(&RECORD[64..]);
        (bare[2], bare[4]) = (24, 1);
        assert_eq!(flow(&bare).unwrap(), (None, Slot::None));
    }

    #[test]
    fn each_bad_record_is_named() {
        let changed = |changes: &[(usize, u8)]| {
            let mut record = RECORD;
            for &(at, byte) in changes {
                record[at] = byte;
            }
            flow(&record).unwrap_err().to_string()
        };
        assert_eq!(
            changed(&[(4, 1)]),
            "the record counts 1 elements, which end 12 bytes before the record does"
        );
        assert_eq!(changed(&[(4, 3)]), "the record counts 3 elements, but ends after 2");
        assert_eq!(changed(&[(14, 51)]), "element 1 has length 51, it needs 52");
        assert_eq!(changed(&[(12, 99), (14, 3)]), "element 99 has length 3, it needs 4");
        assert_eq!(
            changed(&[(66, 13)]),
            "element 2 of length 13 runs past the end of the record, 12 bytes are left"
        );
        assert_eq!(
            flow(&RECORD[..11]).unwrap_err().to_string(),
            "size 11 is smaller than its header (12 bytes)"
        );
    }
}
