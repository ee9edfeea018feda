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
    name::UserName,
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
const NSEL_USER_LENGTH: usize = 72;

/// The bytes of the name in element 24, its NUL included; two bytes of fill follow.
const NAME_ROOM: usize = 66;

/// A flow record's header, without the type and size of every record.
struct RecordHeader {
    elements: u16,
    exporter: u16,
    flags: u8,
}

fn record_header(input: &[u8]) -> IResult<&[u8], RecordHeader, ()> {
    let (rest, (_type, _size, elements, _engine, exporter, flags, _version)) =
        (le_u16, le_u16, le_u16, le_u16, le_u16, le_u8, le_u8).parse(input)?;
    Ok((
        rest,
        RecordHeader {
            elements,
            exporter,
            flags,
        },
    ))
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
            return Err(ErrorKind::RecordSize {
                size: record.len(),
                header: RECORD_HEADER,
            });
        };
        let elements = Self {
            claimed: header.elements,
            found: 0,
            rest,
        };
        Ok((header, elements))
    }

    fn next(&mut self) -> Result<Option<Element<'a>>, ErrorKind> {
        if self.found == self.claimed {
            // nfdump 1.7.1 refuses the whole file for a remainder, 1.7.8 hides it.
            return if self.rest.is_empty() {
                Ok(None)
            } else {
                Err(ErrorKind::ElementCount {
                    claimed: self.claimed,
                    left: self.rest.len(),
                })
            };
        }
        let Ok((_, (id, length))) = element_header(self.rest) else {
            return Err(ErrorKind::ElementMissing {
                claimed: self.claimed,
                found: self.found,
            });
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
            return Err(ErrorKind::ElementTruncated {
                id,
                length,
                left: self.rest.len(),
            });
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
    Ok((
        rest,
        (
            Ipv4Addr::from(source).into(),
            Ipv4Addr::from(destination).into(),
        ),
    ))
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
                        room: NAME_ROOM,
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

/// Appends `record` to `output` with `name` as its only element 24, at its end.
///
/// `false`, and nothing appended, when the record would be larger than a record can be.
pub(crate) fn append_named(
    record: &[u8],
    name: &UserName,
    output: &mut Vec<u8>,
) -> Result<bool, ErrorKind> {
    let start = output.len();
    let (_, mut elements) = Elements::of(record)?;
    output.extend_from_slice(&record[..RECORD_HEADER]);
    let mut count = 1_u16;
    while let Some(element) = elements.next()? {
        if element.id != NSEL_USER {
            output.extend_from_slice(element.bytes);
            count = count.saturating_add(1);
        }
    }
    output.extend_from_slice(&NSEL_USER.to_le_bytes());
    output.extend_from_slice(&(NSEL_USER_LENGTH as u16).to_le_bytes());
    let field = output.len();
    output.resize(field + NSEL_USER_LENGTH - ELEMENT_HEADER, 0);
    let name = name.fitting(NAME_ROOM);
    output[field..field + name.len()].copy_from_slice(name);
    let Ok(size) = u16::try_from(output.len() - start) else {
        output.truncate(start);
        return Ok(false);
    };
    output[start + 2..start + 4].copy_from_slice(&size.to_le_bytes());
    output[start + 4..start + 6].copy_from_slice(&count.to_le_bytes());
    Ok(true)
}
