//! An extension map is how nfdump 1.6 says which extensions a flow record carries.
//!
//! A flow record of layout 1 (type 10) is a head of 32 bytes, addresses and counters as wide as
//! its flags say, and then the extensions that its map lists, without ids or lengths of their own.
//! A map (type 2) stands before the records that use it and holds until another with the same id;
//! what it lists is checked against the sizes below, as nfdump does.
//!
//! Flow records of type 1, of early nfdump 1.6, are carried through undecoded: nfdump 1.7 does not
//! show them either.

use nom::{
    IResult, Parser,
    bytes::complete::take,
    number::complete::{le_u8, le_u16, le_u32, le_u64},
};

use crate::{
    error::ErrorKind,
    extension::{ipv4_pair, ipv6_pair},
    flow::{Flow, name_in},
    name::UserName,
    record::Slot,
};

/// The head of a map: type, size, id, sum of the extensions' sizes.
const MAP_HEAD: usize = 8;
/// The head of a flow record of type 10.
const FLOW_HEAD: usize = 32;

/// A map lists each extension once, so never more than these; it bounds what maps can hold.
const LONGEST: usize = 50;

const RECEIVED: u16 = 27;
const USER_NAME_24: u16 = 42;
const USER_NAME_72: u16 = 43;

/// The flow flags.
const IPV6: u8 = 1;
const PACKETS_64: u8 = 2;
const BYTES_64: u8 = 4;

/// The bytes of each extension by id; `None` for ids that no map lists.
#[rustfmt::skip]
const SIZES: [Option<u8>; 50] = [
    None, None, None, None,   // 0 ends a map, 1 to 3 are in every record
    Some(4), Some(8),         // 4, 5: interfaces
    Some(4), Some(8),         // 6, 7: AS numbers
    Some(4),                  // 8: destination tos, direction, masks
    Some(4), Some(16),        // 9, 10: next hop
    Some(4), Some(16),        // 11, 12: BGP next hop
    Some(4),                  // 13: VLANs
    Some(4), Some(8),         // 14, 15: packets out
    Some(4), Some(8),         // 16, 17: bytes out
    Some(4), Some(8),         // 18, 19: flows
    Some(16), Some(16),       // 20, 21: MAC addresses
    Some(40),                 // 22: MPLS labels
    Some(4), Some(16),        // 23, 24: exporter's address
    Some(4),                  // 25: engine
    Some(8),                  // 26: adjacent AS numbers
    Some(8),                  // 27: received
    Some(0), Some(0), Some(0), Some(0), Some(0), // 28 to 32: reserved
    Some(0), Some(0), Some(0), Some(0),          // 33 to 36: reserved
    Some(20),                 // 37: NSEL
    Some(4),                  // 38: translated ports
    Some(8), Some(32),        // 39, 40: translated addresses
    Some(24),                 // 41: ACLs
    Some(24), Some(72),       // 42, 43: user name
    Some(0),                  // 44: reserved
    Some(24),                 // 45: latency
    Some(12),                 // 46: NEL
    Some(0),                  // 47: reserved
    Some(8),                  // 48: port block
    Some(0),                  // 49: reserved
];

/// What is kept of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Map {
    ids: Vec<u16>,
    /// The sum of the extensions' sizes.
    size: usize,
    /// Where extension 27 starts among the extensions.
    received: Option<usize>,
    /// Where the user name starts among the extensions, and its size.
    name: Option<(usize, usize)>,
}

impl Map {
    /// Reads a map record: its id and what it lists.
    pub(crate) fn parse(record: &[u8]) -> Result<(u16, Self), ErrorKind> {
        let Ok((list, (_type, _size, id, claimed))) = map_head(record) else {
            return Err(ErrorKind::RecordSize { size: record.len(), header: MAP_HEAD });
        };
        if !record.len().is_multiple_of(4) {
            return Err(ErrorKind::MapSize(record.len()));
        }
        let mut map = Self { ids: Vec::new(), size: 0, received: None, name: None };
        let mut pairs = list.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        loop {
            // What follows the closing 0 is fill, and not always zero.
            let extension = pairs.next().ok_or(ErrorKind::MapUnterminated)?;
            if extension == 0 {
                break;
            }
            let size = SIZES
                .get(usize::from(extension))
                .copied()
                .flatten()
                .ok_or(ErrorKind::MapExtension(extension))?;
            if map.ids.len() == LONGEST {
                return Err(ErrorKind::MapTooLong(LONGEST));
            }
            map.push(extension, usize::from(size));
        }
        if map.size != usize::from(claimed) {
            return Err(ErrorKind::MapSum { claimed: usize::from(claimed), found: map.size });
        }
        Ok((id, map))
    }

    fn push(&mut self, extension: u16, size: usize) {
        match extension {
            RECEIVED => self.received = Some(self.size),
            USER_NAME_24 | USER_NAME_72 => self.name = Some((self.size, size)),
            _ => {}
        }
        self.ids.push(extension);
        self.size += size;
    }

    /// Whether one extension more can be listed: a longer map could not be read again.
    pub(crate) fn has_room(&self) -> bool {
        self.ids.len() < LONGEST
    }

    /// This map, which has room for it, with a user name (extension 43) at its end.
    pub(crate) fn named(&self) -> Self {
        let mut named = self.clone();
        named.push(USER_NAME_72, NAME_SIZE);
        named
    }

    /// The map as a record.
    pub(crate) fn to_record(&self, id: u16) -> Vec<u8> {
        let mut record = vec![2, 0, 0, 0];
        record.extend_from_slice(&id.to_le_bytes());
        // At most 50 extensions of 72 bytes.
        record.extend_from_slice(&(self.size as u16).to_le_bytes());
        for id in self.ids.iter().copied().chain([0]) {
            record.extend_from_slice(&id.to_le_bytes());
        }
        record.resize(record.len().next_multiple_of(4), 0);
        let size = (record.len() as u16).to_le_bytes();
        record[2..4].copy_from_slice(&size);
        record
    }
}

/// The bytes of extension 43.
const NAME_SIZE: usize = 72;
/// How many of them readers take as the name, its NUL included.
const NAME_ROOM: usize = 66;

fn map_head(input: &[u8]) -> IResult<&[u8], (u16, u16, u16, u16), ()> {
    (le_u16, le_u16, le_u16, le_u16).parse(input)
}

/// The maps defined so far in a file, by id.
///
/// There are at most 65536 of them with at most [`LONGEST`] ids each: some 15 MB if a file does
/// its worst, and as much again when its flows are named; nfdump itself writes a few dozen.
#[derive(Debug, Default)]
pub(crate) struct Maps {
    by_id: Vec<Option<Box<Map>>>,
}

impl Maps {
    pub(crate) fn define(&mut self, record: &[u8]) -> Result<(), ErrorKind> {
        let (id, map) = Map::parse(record)?;
        let id = usize::from(id);
        if self.by_id.len() <= id {
            self.by_id.resize(id + 1, None);
        }
        self.by_id[id] = Some(Box::new(map));
        Ok(())
    }

    pub(crate) fn get(&self, id: u16) -> Option<&Map> {
        self.by_id.get(usize::from(id))?.as_deref()
    }

    /// An id that no map has, from `from` on and around.
    ///
    /// Above all ids in use if possible: maps of the file's own that come later seldom take it.
    pub(crate) fn free_id(&self, from: u16, taken: impl Fn(u16) -> bool) -> Option<u16> {
        let above = u16::try_from(self.by_id.len()).unwrap_or(0);
        let from = from.max(above);
        (from..=u16::MAX).chain(0..from).find(|&id| self.get(id).is_none() && !taken(id))
    }

    /// The extensions of a flow record of type 10 that was decoded before: their ids and bytes.
    pub(crate) fn extensions<'a>(
        &'a self,
        record: &'a [u8],
    ) -> impl Iterator<Item = (u16, &'a [u8])> {
        let flags = record.get(4).copied().unwrap_or(0);
        let wide = |flag, yes, no| if flags & flag != 0 { yes } else { no };
        let before = FLOW_HEAD + wide(IPV6, 32, 8) + wide(PACKETS_64, 8, 4) + wide(BYTES_64, 8, 4);
        let mut rest = record.get(before..).unwrap_or_default();
        let map = if record.len() < FLOW_HEAD { None } else { self.get(id_in_flow(record)) };
        map.into_iter().flat_map(|map| &map.ids).map_while(move |&id| {
            let size = SIZES.get(usize::from(id)).copied().flatten()?;
            let (extension, after) = rest.split_at_checked(usize::from(size))?;
            rest = after;
            Some((id, extension))
        })
    }

    /// Decodes a flow record of type 10.
    pub(crate) fn flow<'a>(
        &self,
        record: &'a [u8],
        anonymised: bool,
    ) -> Result<(Option<Flow<'a>>, Slot), ErrorKind> {
        let Ok((rest, head)) = flow_head(record) else {
            return Err(ErrorKind::RecordSize { size: record.len(), header: FLOW_HEAD });
        };
        let map = self.get(head.map).ok_or(ErrorKind::UnknownMap(head.map))?;
        let short = |_| {
            let wide = |flag, yes, no| if head.flags & flag != 0 { yes } else { no };
            let needed = FLOW_HEAD
                + wide(IPV6, 32, 8)
                + wide(PACKETS_64, 8, 4)
                + wide(BYTES_64, 8, 4)
                + map.size;
            ErrorKind::FlowSize { size: record.len(), needed }
        };
        let (rest, (source, destination)) =
            if head.flags & IPV6 != 0 { ipv6_pair(rest) } else { ipv4_pair(rest) }
                .map_err(short)?;
        let (rest, packets) = counter(head.flags & PACKETS_64 != 0, rest).map_err(short)?;
        let (rest, bytes) = counter(head.flags & BYTES_64 != 0, rest).map_err(short)?;
        let at = record.len() - rest.len();
        let (_, extensions) = extensions(map.size, rest).map_err(short)?;
        let received = map.received.and_then(|at| {
            let field = extensions.get(at..at + 8)?.first_chunk()?;
            Some(u64::from_le_bytes(*field)).filter(|&received| received != 0)
        });
        let (user_name, slot) = match map.name {
            Some((within, size)) => {
                let field = extensions.get(within..within + size).unwrap_or_default();
                (name_in(field), Slot::Field { at: at + within, room: size })
            }
            None => (None, Slot::Insert(at + map.size)),
        };
        let flow = Flow {
            first_ms: u64::from(head.first) * 1000 + u64::from(head.msec_first),
            last_ms: u64::from(head.last) * 1000 + u64::from(head.msec_last),
            received_ms: received,
            source,
            destination,
            source_port: head.source_port,
            destination_port: head.destination_port,
            protocol: head.protocol,
            tcp_flags: head.tcp_flags,
            packets,
            bytes,
            anonymised,
            exporter: head.exporter,
            user_name,
        };
        Ok((Some(flow), slot))
    }
}

/// The id of the map in a map record that was parsed before.
pub(crate) fn id_of(map: &[u8]) -> u16 {
    u16::from_le_bytes([map[4], map[5]])
}

/// The id of the map that a flow record names which was decoded before.
pub(crate) fn id_in_flow(flow: &[u8]) -> u16 {
    u16::from_le_bytes([flow[6], flow[7]])
}

/// Appends the flow `record` to `output`, with `name` as extension 43 at `at` and map `id`.
///
/// The caller has made sure that a record of 72 bytes more is not too large.
pub(crate) fn append_named(
    record: &[u8],
    at: usize,
    id: u16,
    name: &UserName,
    output: &mut Vec<u8>,
) {
    let start = output.len();
    let (before, after) = record.split_at(at);
    output.extend_from_slice(before);
    let field = output.len();
    output.resize(field + NAME_SIZE, 0);
    let name = name.fitting(NAME_ROOM);
    output[field..field + name.len()].copy_from_slice(name);
    output.extend_from_slice(after);
    let size = (record.len() + NAME_SIZE) as u16;
    output[start + 2..start + 4].copy_from_slice(&size.to_le_bytes());
    output[start + 6..start + 8].copy_from_slice(&id.to_le_bytes());
}

/// The head of a flow record of type 10.
struct FlowHead {
    /// Late nfdump 1.6 keeps the NetFlow version in the upper half of what were 16 bits of flags.
    flags: u8,
    map: u16,
    msec_first: u16,
    msec_last: u16,
    first: u32,
    last: u32,
    tcp_flags: u8,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
    exporter: u16,
}

fn flow_head(input: &[u8]) -> IResult<&[u8], FlowHead, ()> {
    let (rest, (_type, _size, flags, _version, map)) =
        (le_u16, le_u16, le_u8, le_u8, le_u16).parse(input)?;
    let (rest, (msec_first, msec_last, first, last)) =
        (le_u16, le_u16, le_u32, le_u32).parse(rest)?;
    let (rest, (_fwd_status, tcp_flags, protocol, _tos, source_port, destination_port)) =
        (le_u8, le_u8, le_u8, le_u8, le_u16, le_u16).parse(rest)?;
    let (rest, (exporter, _direction_and_end)) = (le_u16, le_u16).parse(rest)?;
    let head = FlowHead {
        flags,
        map,
        msec_first,
        msec_last,
        first,
        last,
        tcp_flags,
        protocol,
        source_port,
        destination_port,
        exporter,
    };
    Ok((rest, head))
}

fn counter(wide: bool, input: &[u8]) -> IResult<&[u8], u64, ()> {
    if wide { le_u64(input) } else { le_u32.map(u64::from).parse(input) }
}

fn extensions(size: usize, input: &[u8]) -> IResult<&[u8], &[u8], ()> {
    take(size).parse(input)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    /// Map 7: interfaces and received.
    const MAP: [u8; 16] = [2, 0, 16, 0, 7, 0, 12, 0, 4, 0, 27, 0, 0, 0, 0xff, 0];
    /// 127.0.0.1:53 -> 127.0.0.2:123, UDP, 5 packets, 200 bytes, with the extensions of map 7.
    const FLOW: [u8; 60] = [
        10, 0, 60, 0, 0, 9, 7, 0, 1, 0, 2, 0, // type, size, flags, version, map, milliseconds
        3, 0, 0, 0, 4, 0, 0, 0, 0, 0x12, 17, 0, // seconds, status, flags, protocol, tos
        53, 0, 123, 0, 6, 0, 0, 0, // ports, exporter
        1, 0, 0, 127, 2, 0, 0, 127, 5, 0, 0, 0, 200, 0, 0, 0, // addresses, counters
        8, 0, 9, 0, 0x88, 0x13, 0, 0, 0, 0, 0, 0, // interfaces, received
    ];

    fn expected(user_name: Option<&[u8]>) -> Flow<'_> {
        Flow {
            first_ms: 3001,
            last_ms: 4002,
            received_ms: Some(5000),
            source: Ipv4Addr::new(127, 0, 0, 1).into(),
            destination: Ipv4Addr::new(127, 0, 0, 2).into(),
            source_port: 53,
            destination_port: 123,
            protocol: 17,
            tcp_flags: 0x12,
            packets: 5,
            bytes: 200,
            anonymised: false,
            exporter: 6,
            user_name,
        }
    }

    fn maps(records: &[&[u8]]) -> Maps {
        let mut maps = Maps::default();
        for record in records {
            maps.define(record).unwrap();
        }
        maps
    }

    #[test]
    fn a_flow_is_decoded_by_its_map() {
        let maps = maps(&[&MAP]);
        assert_eq!(maps.flow(&FLOW, false).unwrap(), (Some(expected(None)), Slot::Insert(60)));
        assert!(maps.flow(&FLOW, true).unwrap().0.unwrap().anonymised);
    }

    #[test]
    fn a_named_flow_has_a_map_that_says_so() {
        let (id, map) = Map::parse(&MAP).unwrap();
        assert_eq!(id, 7);
        let named = map.named().to_record(8);
        assert_eq!(named, [2, 0, 16, 0, 8, 0, 84, 0, 4, 0, 27, 0, 43, 0, 0, 0]);
        let mut name = UserName::new();
        name.set("ntpd");
        let mut flow = Vec::new();
        append_named(&FLOW, 60, 8, &name, &mut flow);
        let mut wanted = FLOW.to_vec();
        (wanted[2], wanted[6]) = (132, 8);
        wanted.extend_from_slice(b"ntpd");
        wanted.resize(132, 0);
        assert_eq!(flow, wanted);
        let slot = Slot::Field { at: 60, room: 72 };
        let maps = maps(&[&MAP, &named]);
        assert_eq!(maps.flow(&flow, false).unwrap(), (Some(expected(Some(b"ntpd"))), slot));
    }

    #[test]
    fn extensions_stand_behind_addresses_and_counters_of_any_width() {
        let maps = maps(&[&MAP]);
        let (interfaces, received) = (&FLOW[48..52], &FLOW[52..]);
        let found: Vec<_> = maps.extensions(&FLOW).collect();
        assert_eq!(found, [(4, interfaces), (27, received)]);
        let mut wide = FLOW[..32].to_vec();
        wide[4] = IPV6 | PACKETS_64 | BYTES_64;
        wide.resize(32 + 32 + 16, 0);
        wide.extend_from_slice(&FLOW[48..]);
        assert_eq!(maps.extensions(&wide).collect::<Vec<_>>(), found);
        assert_eq!(maps.extensions(&FLOW[..55]).count(), 1);
        assert_eq!(maps.extensions(&FLOW[..3]).count(), 0);
    }

    #[test]
    fn wide_addresses_and_counters_are_read() {
        let mut wide = FLOW[..32].to_vec();
        (wide[2], wide[4]) = (32 + 32 + 16 + 12, IPV6 | PACKETS_64 | BYTES_64);
        let mut addresses = [0; 32];
        (addresses[8], addresses[24]) = (1, 2);
        wide.extend_from_slice(&addresses);
        wide.extend_from_slice(&(1_u64 << 40).to_le_bytes());
        wide.extend_from_slice(&(1_u64 << 41).to_le_bytes());
        wide.extend_from_slice(&FLOW[48..]);
        let (flow, _) = maps(&[&MAP]).flow(&wide, false).unwrap();
        let flow = flow.unwrap();
        assert_eq!((flow.packets, flow.bytes), (1 << 40, 1 << 41));
        assert_eq!(
            (flow.source.to_string(), flow.destination.to_string()),
            ("::1".into(), "::2".into())
        );
        assert_eq!(flow.received_ms, Some(5000));
    }

    #[test]
    fn each_bad_map_is_named() {
        let changed = |changes: &[(usize, u8)]| {
            let mut record = MAP;
            for &(at, byte) in changes {
                record[at] = byte;
            }
            Map::parse(&record).unwrap_err().to_string()
        };
        assert_eq!(changed(&[(8, 3)]), "extension map lists unknown extension 3");
        assert_eq!(changed(&[(8, 50)]), "extension map lists unknown extension 50");
        assert_eq!(changed(&[(12, 28), (14, 28), (15, 0)]), "extension map without a closing 0");
        assert_eq!(
            changed(&[(6, 8)]),
            "extension map counts 8 bytes of extensions, they add up to 12"
        );
        let error = Map::parse(&MAP[..14]).unwrap_err();
        assert_eq!(error.to_string(), "extension map of size 14, not a multiple of 4");
        let long: Vec<u8> = MAP[..8].iter().copied().chain([28, 0].repeat(52)).collect();
        let error = Map::parse(&long).unwrap_err();
        assert_eq!(error.to_string(), "extension map lists more than 50 extensions");
    }

    #[test]
    fn each_bad_flow_is_named() {
        let error = Maps::default().flow(&FLOW, false).unwrap_err().to_string();
        assert_eq!(error, "flow record uses extension map 7, which was not defined before it");
        for length in 32..60 {
            let error = maps(&[&MAP]).flow(&FLOW[..length], false).unwrap_err().to_string();
            let wanted =
                format!("flow record of size {length}; its flags and extension map need 60");
            assert_eq!(error, wanted);
        }
        let error = maps(&[&MAP]).flow(&FLOW[..31], false).unwrap_err().to_string();
        assert_eq!(error, "size 31 is smaller than its header (32 bytes)");
    }

    #[test]
    fn a_free_id_is_above_those_in_use_or_wherever_there_is_one() {
        let mut maps = maps(&[&MAP]);
        assert_eq!(maps.free_id(0, |_| false), Some(8));
        assert_eq!(maps.free_id(0, |id| id < 20), Some(20));
        assert_eq!(maps.free_id(100, |_| false), Some(100));
        let mut last = MAP;
        (last[4], last[5]) = (0xff, 0xff);
        maps.define(&last).unwrap();
        assert_eq!(maps.free_id(100, |id| id >= 100), Some(0));
        assert_eq!(maps.free_id(100, |id| id != 300), Some(300));
        assert_eq!(maps.free_id(100, |_| true), None);
    }
}
