//! A record is a type, a size and what they say follows; a block is records back to back.
//!
//! Only flow records are looked into: type 11 in layout 2, type 10 (with the extension maps of
//! type 2 that describe it) in layout 1. All others - exporters, samplers, names of interfaces,
//! whatever comes next - are bytes to carry through, in place and in order.

use nom::{IResult, Parser, number::complete::le_u16};

use crate::{error::ErrorKind, extension, file::Layout, flow::Flow, map::Maps};

/// What a record is, by nfdump's numbers; any number may occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordType(pub u16);

impl RecordType {
    /// Layout 1: which extensions the flow records that name it carry.
    pub const EXTENSION_MAP: Self = Self(2);
    /// Who sent the flows that follow.
    pub const EXPORTER_INFO: Self = Self(7);
    /// Counts per exporter.
    pub const EXPORTER_STAT: Self = Self(8);
    /// Layout 1: a flow.
    pub const FLOW_V1: Self = Self(10);
    /// Layout 2: a flow.
    pub const FLOW_V3: Self = Self(11);
    /// Layout 2, appendix: the ident.
    pub const IDENT: Self = Self(0x8001);
    /// Layout 2, appendix: the statistics.
    pub const STAT: Self = Self(0x8002);
}

/// Where a flow record keeps its user name, or could.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Not in a record of this type.
    None,
    /// A field of `room` bytes at `at`, free to be overwritten.
    Field { at: usize, room: usize },
    /// No name yet; one is put in at this offset of the record.
    Insert(usize),
    /// Elements of an odd length, or several: to be taken out and replaced by one.
    Replace,
}

/// One record with what was decoded of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parsed<'a> {
    pub(crate) record_type: RecordType,
    pub(crate) bytes: &'a [u8],
    pub(crate) flow: Option<Flow<'a>>,
    pub(crate) slot: Slot,
}

fn head(input: &[u8]) -> IResult<&[u8], (u16, u16), ()> {
    (le_u16, le_u16).parse(input)
}

/// The size of a record's own header: type and size.
pub(crate) const HEAD: usize = 4;

/// Takes the record that `data` starts with; `data` is not empty.
pub(crate) fn frame(data: &[u8]) -> Result<(RecordType, &[u8]), ErrorKind> {
    let Ok((_, (record_type, size))) = head(data) else {
        return Err(ErrorKind::RecordTruncated { size: HEAD, left: data.len() });
    };
    let size = usize::from(size);
    if size < HEAD {
        return Err(ErrorKind::RecordSize { size, header: HEAD });
    }
    match data.get(..size) {
        Some(bytes) => Ok((RecordType(record_type), bytes)),
        None => Err(ErrorKind::RecordTruncated { size, left: data.len() }),
    }
}

/// The walk over the records of a file's blocks, one after another.
///
/// It outlives the block because of layout 1's extension maps, which hold for all that follows.
#[derive(Debug)]
pub(crate) struct Walk {
    layout: Layout,
    anonymised: bool,
    pub(crate) maps: Maps,
    /// Where the next record starts in the block.
    pub(crate) position: usize,
    /// How many records were walked in the block.
    pub(crate) records: u32,
}

impl Walk {
    pub(crate) fn new(layout: Layout, anonymised: bool) -> Self {
        Self { layout, anonymised, maps: Maps::default(), position: 0, records: 0 }
    }

    pub(crate) fn start_block(&mut self) {
        self.position = 0;
        self.records = 0;
    }

    /// The next record of `data`; `None` at its end. After an error the walk stays where it is.
    pub(crate) fn next<'a>(&mut self, data: &'a [u8]) -> Result<Option<Parsed<'a>>, ErrorKind> {
        let rest = &data[self.position..];
        if rest.is_empty() {
            return Ok(None);
        }
        let (record_type, bytes) = frame(rest)?;
        let (flow, slot) = match (self.layout, record_type) {
            (Layout::Two, RecordType::FLOW_V3) => extension::flow(bytes)?,
            (Layout::One, RecordType::FLOW_V1) => self.maps.flow(bytes, self.anonymised)?,
            (Layout::One, RecordType::EXTENSION_MAP) => {
                self.maps.define(bytes)?;
                (None, Slot::None)
            }
            _ => (None, Slot::None),
        };
        self.position += bytes.len();
        self.records += 1;
        Ok(Some(Parsed { record_type, bytes, flow, slot }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_framed_by_its_size() {
        let data = [7, 0, 8, 0, 1, 2, 3, 4, 11, 0];
        let (record_type, bytes) = frame(&data).unwrap();
        assert_eq!((record_type, bytes), (RecordType::EXPORTER_INFO, &data[..8]));
    }

    #[test]
    fn a_record_that_cannot_be_framed_is_named() {
        for (data, wanted) in [
            (&[11_u8, 0, 2, 0][..], "size 2 is smaller than its header (4 bytes)"),
            (&[11, 0, 9, 0, 0, 0, 0, 0], "size 9 runs past the end of the block, 8 bytes are left"),
            (&[11, 0, 9], "size 4 runs past the end of the block, 3 bytes are left"),
        ] {
            assert_eq!(frame(data).unwrap_err().to_string(), wanted);
        }
    }
}
