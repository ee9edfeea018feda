//! An extension map is how nfdump 1.6 says which extensions a flow record carries.
//!
//! A flow record of layout 1 (type 10) is a head of 32 bytes, addresses and counters as wide as
//! its flags say, and then the extensions that its map lists, without ids or lengths of their own.
//! A map (type 2) stands before the records that use it and holds until another with the same id;
//! what it lists is checked against the sizes below, as nfdump does.
//!
//! Flow records of type 1, from before nfdump 1.6.5 or so, are carried through undecoded: nfdump
//! 1.7 does not show them either.

use nom::{
    IResult, Parser,
    bytes::complete::take,
    number::complete::{le_u8, le_u16, le_u32, le_u64},
};

use crate::{
    error::ErrorKind,
    extension::{ipv4_pair, ipv6_pair},
    flow::{Flow, name_in},
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
const SIZES: [Option<u8>; 50] = [
    None,
    None,
    None,
    None, // 0 ends a map, 1-3 are in every record
    Some(4),
    Some(8), // 4 5 interfaces
    Some(4),
    Some(8), // 6 7 AS numbers
    Some(4), // 8 dst tos, direction, masks
    Some(4),
    Some(16), // 9 10 next hop
    Some(4),
    Some(16), // 11 12 BGP next hop
    Some(4),  // 13 vlans
    Some(4),
    Some(8), // 14 15 packets out
    Some(4),
    Some(8), // 16 17 bytes out
    Some(4),
    Some(8), // 18 19 flows
    Some(16),
    Some(16), // 20 21 MAC addresses
    Some(40), // 22 MPLS labels
    Some(4),
    Some(16), // 23 24 exporter's address
    Some(4),  // 25 engine
    Some(8),  // 26 adjacent AS numbers
    Some(8),  // 27 received
    Some(0),
    Some(0),
    Some(0),
    Some(0),
    Some(0),
    Some(0),
    Some(0),
    Some(0),
    Some(0),  // 28-36
    Some(20), // 37 NSEL
    Some(4),  // 38 translated ports
    Some(8),
    Some(32), // 39 40 translated addresses
    Some(24), // 41 ACLs
    Some(24),
    Some(72), // 42 43 user name
    Some(0),  // 44
    Some(24), // 45 latency
    Some(12), // 46 NEL
    Some(0),  // 47
    Some(8),  // 48 port block
    Some(0),  // 49
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
            return Err(ErrorKind::RecordSize {
                size: record.len(),
                header: MAP_HEAD,
            });
        };
        if record.len() % 4 != 0 {
            return Err(ErrorKind::MapSize(record.len()));
        }
        let mut map = Self {
            ids: Vec::new(),
            size: 0,
            received: None,
            name: None,
        };
        let mut pairs = list
            .chunks_exact(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
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
            return Err(ErrorKind::MapSum {
                claimed: usize::from(claimed),
                found: map.size,
            });
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

    /// This map with a user name (extension 43) at its end.
    pub(crate) fn named(&self) -> Self {
        let mut named = self.clone();
        named.push(USER_NAME_72, NAME_SIZE);
        named
    }

    /// The map as a record.
    pub(crate) fn to_record(&self, id: u16) -> Vec<u8> {
        let mut record = vec![2, 0, 0, 0];
        record.extend_from_slice(&id.to_le_bytes());
        // At most 51 extensions of 72 bytes.
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
pub(crate) const NAME_SIZE: usize = 72;
/// How many of them readers take as the name, its NUL included.
pub(crate) const NAME_ROOM: usize = 66;

fn map_head(input: &[u8]) -> IResult<&[u8], (u16, u16, u16, u16), ()> {
    (le_u16, le_u16, le_u16, le_u16).parse(input)
}

/// The maps defined so far in a file, by id.
///
/// There are at most 65536 of them with at most [`LONGEST`] ids each: some 13 MB if a file does
/// its worst; nfdump itself writes a few dozen.
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

    /// An id that no map has, above those in use if there is one, so that maps of the file's own
    /// that come later are not likely to take it.
    pub(crate) fn free_id(&self, taken: impl Fn(u16) -> bool) -> Option<u16> {
        let above = u16::try_from(self.by_id.len())
            .ok()
            .into_iter()
            .flat_map(|from| from..=u16::MAX);
        above
            .chain(0..=u16::MAX)
            .find(|&id| self.get(id).is_none() && !taken(id))
    }

    /// Decodes a flow record of type 10.
    pub(crate) fn flow<'a>(
        &self,
        record: &'a [u8],
        anonymised: bool,
    ) -> Result<(Option<Flow<'a>>, Slot), ErrorKind> {
        let Ok((rest, head)) = flow_head(record) else {
            return Err(ErrorKind::RecordSize {
                size: record.len(),
                header: FLOW_HEAD,
            });
        };
        let map = self.get(head.map).ok_or(ErrorKind::UnknownMap(head.map))?;
        let short = |_| {
            let wide = |flag, yes, no| if head.flags & flag != 0 { yes } else { no };
            let needed = FLOW_HEAD
                + wide(IPV6, 32, 8)
                + wide(PACKETS_64, 8, 4)
                + wide(BYTES_64, 8, 4)
                + map.size;
            ErrorKind::FlowSize {
                size: record.len(),
                needed,
            }
        };
        let (rest, (source, destination)) = if head.flags & IPV6 != 0 {
            ipv6_pair(rest)
        } else {
            ipv4_pair(rest)
        }
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
                (
                    name_in(field),
                    Slot::Field {
                        at: at + within,
                        room: size.min(NAME_ROOM),
                    },
                )
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

/// The map that a flow record of type 10 names.
pub(crate) fn map_of(record: &[u8]) -> u16 {
    u16::from_le_bytes([record[6], record[7]])
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
    if wide {
        le_u64(input)
    } else {
        le_u32.map(u64::from).parse(input)
    }
}

fn extensions(size: usize, input: &[u8]) -> IResult<&[u8], &[u8], ()> {
    take(size).parse(input)
}
