//! Counters are what a flow record counts: packets and bytes of both directions, and flows.
//!
//! A [`Flow`] has those of its own direction. The others stand in extensions (element 5 of layout
//! 2, 14 to 19 of layout 1) that say nothing of whose a flow is, so whoever names flows does not
//! pay for reading them.

use nom::{
    IResult, Parser,
    number::complete::{le_u8, le_u32, le_u64},
};

use crate::{file::Layout, flow::Flow, map::Maps, record::RecordType};

const GENERIC_FLOW: u16 = 1;
const COUNTERS: u16 = 5;

/// The header of a flow record of layout 2, and of each of its elements.
const RECORD_HEADER: usize = 12;
const ELEMENT_HEADER: usize = 4;

/// What one flow record counts, and what is needed to sum it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// First packet, in unix milliseconds; 0 when the record does not say.
    pub first_ms: u64,
    /// Last packet, in unix milliseconds.
    pub last_ms: u64,
    /// IP protocol number.
    pub protocol: u8,
    /// How many flows the record stands for: 1 unless it was aggregated.
    pub flows: u64,
    /// Packets from source to destination.
    pub packets: u64,
    /// Bytes from source to destination.
    pub bytes: u64,
    /// Packets from destination to source, of exporters that count both directions in a record.
    pub out_packets: u64,
    /// Bytes from destination to source, as `out_packets`.
    pub out_bytes: u64,
}

impl Counters {
    /// Those of a flow without any extension.
    fn of_flow(flow: &Flow<'_>) -> Self {
        Self {
            first_ms: flow.first_ms,
            last_ms: flow.last_ms,
            protocol: flow.protocol,
            packets: flow.packets,
            bytes: flow.bytes,
            ..Self::NONE
        }
    }

    /// Those of a flow record of layout 2 before any element. Without element 1 it stays that.
    const NONE: Self = Self {
        first_ms: 0,
        last_ms: 0,
        protocol: 0,
        flows: 1,
        packets: 0,
        bytes: 0,
        out_packets: 0,
        out_bytes: 0,
    };

    /// Takes in an element of layout 2.
    fn element(&mut self, id: u16, data: &[u8]) {
        match id {
            GENERIC_FLOW => {
                if let Ok((_, generic)) = generic(data) {
                    let Self { flows, out_packets, out_bytes, .. } = *self;
                    *self = Self { flows, out_packets, out_bytes, ..generic };
                }
            }
            COUNTERS => {
                if let Ok((_, (flows, out_packets, out_bytes))) = both_ways(data) {
                    *self = Self { flows: flows.max(1), out_packets, out_bytes, ..*self };
                }
            }
            _ => {}
        }
    }

    /// Takes in an extension of layout 1: the even ids are 32 bits wide, the odd ones 64.
    fn extension(&mut self, id: u16, data: &[u8]) {
        let number = match *data {
            [a, b, c, d] => u64::from(u32::from_le_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            _ => return,
        };
        match id {
            14 | 15 => self.out_packets = number,
            16 | 17 => self.out_bytes = number,
            18 | 19 => self.flows = number.max(1),
            _ => {}
        }
    }
}

/// What a record that was decoded before counts; `None` when it is no flow record. `each` is told the
/// ids of the extensions that it carries.
pub(crate) fn count(
    layout: Layout,
    maps: &Maps,
    (record_type, bytes, flow): (RecordType, &[u8], Option<&Flow<'_>>),
    mut each: impl FnMut(u16),
) -> Option<Counters> {
    match (layout, record_type) {
        (Layout::Two, RecordType::FLOW_V3) => {
            let mut counters = Counters::NONE;
            for (id, data) in elements(bytes) {
                each(id);
                counters.element(id, data);
            }
            Some(counters)
        }
        (Layout::One, RecordType::FLOW_V1) => {
            let mut counters = flow.map_or(Counters::NONE, Counters::of_flow);
            for (id, data) in maps.extensions(bytes) {
                each(id);
                counters.extension(id, data);
            }
            Some(counters)
        }
        _ => None,
    }
}

/// The elements of a flow record of layout 2 that was checked before: their ids and data.
fn elements(record: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = record.get(RECORD_HEADER..).unwrap_or_default();
    std::iter::from_fn(move || {
        let &[id, id_high, length, length_high] = rest.first_chunk::<ELEMENT_HEADER>()?;
        let length = usize::from(u16::from_le_bytes([length, length_high]));
        let data = rest.get(ELEMENT_HEADER..length)?;
        rest = &rest[length..];
        Some((u16::from_le_bytes([id, id_high]), data))
    })
}

/// Element 1, as far as it is needed.
fn generic(input: &[u8]) -> IResult<&[u8], Counters, ()> {
    let (rest, (first_ms, last_ms, _received, packets, bytes)) =
        (le_u64, le_u64, le_u64, le_u64, le_u64).parse(input)?;
    let (rest, (_ports, protocol)) = (le_u32, le_u8).parse(rest)?;
    Ok((rest, Counters { first_ms, last_ms, protocol, packets, bytes, ..Counters::NONE }))
}

fn both_ways(input: &[u8]) -> IResult<&[u8], (u64, u64, u64), ()> {
    (le_u64, le_u64, le_u64).parse(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Elements 5 (9 flows, 7 packets and 8 bytes back), 1 (UDP, 5 packets, 320 bytes) and 2.
    fn record() -> Vec<u8> {
        let mut record = vec![11, 0, 104, 0, 3, 0, 0, 0, 0, 0, 0, 10];
        record.extend_from_slice(&[5, 0, 28, 0]);
        [9, 7, 8_u64].iter().for_each(|number| record.extend_from_slice(&number.to_le_bytes()));
        record.extend_from_slice(&[1, 0, 52, 0]);
        let numbers = [1000, 2000, 0, 5, 320_u64];
        numbers.iter().for_each(|number| record.extend_from_slice(&number.to_le_bytes()));
        record.extend_from_slice(&[1, 0, 2, 0, 17, 0, 0, 0]);
        record.extend_from_slice(&[2, 0, 12, 0, 1, 0, 0, 10, 2, 0, 0, 10]);
        record
    }

    fn counters(record: &[u8]) -> Counters {
        let mut counters = Counters::NONE;
        elements(record).for_each(|(id, data)| counters.element(id, data));
        counters
    }

    #[test]
    fn elements_1_and_5_are_taken_in_whatever_their_order() {
        let record = record();
        let ids: Vec<u16> = elements(&record).map(|(id, _)| id).collect();
        assert_eq!(ids, [5, 1, 2]);
        let expected = Counters {
            first_ms: 1000,
            last_ms: 2000,
            protocol: 17,
            flows: 9,
            packets: 5,
            bytes: 320,
            out_packets: 7,
            out_bytes: 8,
        };
        assert_eq!(counters(&record), expected);
        let mut turned = record[..12].to_vec();
        turned.extend_from_slice(&record[40..92]);
        turned.extend_from_slice(&record[12..40]);
        assert_eq!(counters(&turned), expected);
        let alone = Counters { flows: 1, out_packets: 0, out_bytes: 0, ..expected };
        assert_eq!(counters(&turned[..64]), alone);
    }

    #[test]
    fn elements_end_where_the_record_does() {
        let record = record();
        for length in 0..record.len() {
            assert!(elements(&record[..length]).count() < 3);
        }
    }

    #[test]
    fn extensions_of_layout_1_have_two_widths() {
        let mut counters = Counters::NONE;
        counters.extension(14, &[1, 2, 0, 0]);
        counters.extension(17, &[0, 0, 0, 0, 1, 0, 0, 0]);
        counters.extension(18, &[0; 4]);
        assert_eq!((counters.out_packets, counters.out_bytes, counters.flows), (513, 1 << 32, 1));
        counters.extension(19, &[4, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(counters.flows, 4);
    }
}
