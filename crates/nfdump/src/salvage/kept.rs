//! What of a block is sound: the records of which it is certain where they begin, and whose insides add
//! up. Where blocks begin is not decided here.

use crate::{
    counters::count,
    error::ErrorKind,
    file::Layout,
    flow::name_in,
    record::{HEAD, Parsed, RecordType, Walk, frame},
    stat::Stat,
};

/// An ident, its NUL included, is at most this long for nfdump to read it.
const IDENT: usize = 127;

/// What is kept of one block.
#[derive(Default)]
pub(super) struct Kept {
    /// The records, back to back.
    pub(super) bytes: Vec<u8>,
    pub(super) records: u32,
    pub(super) flow_records: u64,
    /// What all flows so far add up to, those of this block among them.
    pub(super) stat: Stat,
    /// What was wrong first, and in which record.
    pub(super) wrong: Option<(ErrorKind, u32, usize)>,
    /// Whether it ended where the block does, with whatever was left out.
    pub(super) to_the_end: bool,
    /// How many records were left out.
    pub(super) left_out: u64,
    /// The block is the appendix: this is its ident and its stat record.
    pub(super) appendix: Option<(Option<Vec<u8>>, Option<Stat>)>,
}

impl Kept {
    /// Keeps what is sound of a block's `data`, whose header counts `claimed` records: not more than
    /// `most` of them. `stat` is what all flows before add up to.
    pub(super) fn of_block(
        &mut self,
        layout: Layout,
        walk: &mut Walk,
        data: &[u8],
        (claimed, most): (u32, u32),
        stat: Stat,
    ) {
        self.bytes.clear();
        *self = Self { bytes: std::mem::take(&mut self.bytes), stat, ..Self::default() };
        walk.start_block();
        if layout == Layout::Two
            && let Ok((RecordType::IDENT | RecordType::STAT, _)) = frame(data)
        {
            self.read_appendix(data);
            return;
        }
        let mut framed = None;
        while self.records < most {
            let (record, within) = (self.records, walk.position);
            // First, as the walk takes in whatever map it is shown.
            let doubt = frame(&data[within..]).ok().and_then(|record| doubt(layout, record));
            let next = match doubt {
                Some(kind) => Err(kind),
                None => walk.next(data),
            };
            match next {
                Ok(Some(Parsed { record_type, bytes, flow, .. })) => {
                    let counters =
                        count(layout, &walk.maps, (record_type, bytes, flow.as_ref()), |_| {});
                    if let Some(counters) = counters {
                        self.flow_records += 1;
                        self.stat.add(&counters);
                    }
                    self.bytes.extend_from_slice(bytes);
                    self.records += 1;
                }
                Ok(None) => {
                    self.to_the_end = true;
                    return;
                }
                Err(kind) => {
                    self.wrong.get_or_insert((kind, record, within));
                    // Once is enough: the sizes of a tail lead to the end if those of all do.
                    let framed = *framed.get_or_insert_with(|| {
                        frames(&data[within..]).is_some_and(|rest| record + rest == claimed)
                    });
                    let Ok((_, bytes)) = frame(&data[within..]) else { return };
                    if !framed {
                        return;
                    }
                    walk.position = within + bytes.len();
                    self.left_out += 1;
                }
            }
        }
        self.to_the_end = walk.position == data.len();
    }

    /// Reads the records of an appendix block as far as they are of one.
    fn read_appendix(&mut self, data: &[u8]) {
        let (mut ident, mut stat) = (None, None);
        let mut rest = data;
        while !rest.is_empty() && self.wrong.is_none() {
            let within = data.len() - rest.len();
            match frame(rest) {
                Ok((RecordType::IDENT, bytes)) => {
                    ident = name_in(&bytes[HEAD..])
                        .filter(|ident| ident.len() < IDENT)
                        .map(<[u8]>::to_vec);
                    rest = &rest[bytes.len()..];
                }
                Ok((RecordType::STAT, bytes)) => {
                    stat = Stat::parse(Layout::Two, &bytes[HEAD..]);
                    rest = &rest[bytes.len()..];
                }
                Ok((RecordType(other), _)) => {
                    self.wrong = Some((ErrorKind::AppendixRecord(other), 0, within));
                }
                Err(kind) => self.wrong = Some((kind, 0, within)),
            }
        }
        self.appendix = Some((ident, stat));
    }
}

/// What speaks against a record that is none of flows, although it can be framed.
///
/// A reader need not care, but here nothing vouches for its bytes. nfdump reads some records of the
/// other layout all the same; an element at a wrong place may look like one; and nfdump 1.7.1 gives
/// up on a file for a map with something behind its closing 0, and crashes by arrays that do not
/// add up.
fn doubt(layout: Layout, (record_type, bytes): (RecordType, &[u8])) -> Option<ErrorKind> {
    let RecordType(number) = record_type;
    let foreign = match layout {
        Layout::One => matches!(number, 11..=16),
        Layout::Two => matches!(number, 1..=6 | 10 | 16),
    };
    if foreign {
        return Some(ErrorKind::ForeignRecord(number));
    }
    let size = bytes.len();
    let field = |at: usize| {
        let field = bytes.get(at..at + 2).and_then(|field| field.first_chunk());
        field.map_or(0, |field| usize::from(u16::from_le_bytes(*field)))
    };
    // An array has a header of 8 bytes, a prefix, and may be filled up to a multiple of 4.
    let array = |prefix: usize| {
        let sum = 8 + prefix + field(4) * field(6);
        (sum..sum + 4).contains(&size)
    };
    let adds_up = match number {
        2 => {
            let ids = bytes.get(8..).unwrap_or_default();
            let end = ids.chunks_exact(2).position(|id| id == [0, 0]);
            // The 0 that ends it, and one more where that fills it up.
            end.is_some_and(|end| ids.len() <= (end + 2) * 2)
        }
        7 => size == 32,
        8 => field(6) == 0 && size == 8 + 24 * field(4),
        9 => size == 16,
        12 => array(6),
        13 | 14 => array(4),
        15 => size == 24,
        _ => true,
    };
    (!adds_up).then_some(ErrorKind::RecordShape { record_type: number, size })
}

/// How many records there are in `data`, by their sizes, if these lead to its end.
fn frames(mut data: &[u8]) -> Option<u32> {
    let mut count = 0;
    while !data.is_empty() {
        let (_, record) = frame(data).ok()?;
        data = &data[record.len()..];
        count += 1;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_do_not_add_up_are_doubted() {
        let doubted = |layout, bytes: &[u8]| {
            doubt(layout, frame(bytes).unwrap()).map(|kind| kind.to_string())
        };
        let with = |start: &[u8], size: usize| {
            let mut record = start.to_vec();
            record.resize(size, 0);
            (record[2], record[3]) = (size as u8, 0);
            record
        };
        let (one, two) = (Layout::One, Layout::Two);
        for (layout, start, sizes) in [
            (one, &[2, 0, 0, 0, 7, 0, 4, 0, 4][..], [12, 16]),
            (two, &[7, 0], [32, 44]),
            (two, &[8, 0, 0, 0, 1], [32, 56]),
            (one, &[9, 0], [16, 20]),
            (two, &[12, 0, 0, 0, 2, 0, 10], [34, 38]),
            (two, &[13, 0, 0, 0, 2, 0, 10], [32, 36]),
            (two, &[15, 0], [24, 20]),
        ] {
            let [good, bad] = sizes.map(|size| doubted(layout, &with(start, size)));
            assert_eq!(good, None, "{start:?}");
            let wanted = format!("record type {} of size {} does not add up", start[0], sizes[1]);
            assert_eq!(bad, Some(wanted));
        }
        let foreign = doubted(two, &with(&[10, 0], 48));
        assert_eq!(foreign.as_deref(), Some("record type 10 is not one of this layout"));
        assert!(doubted(one, &with(&[11, 0], 48)).is_some());
        assert_eq!(doubted(one, &with(&[10, 0], 48)), None);
        assert_eq!(doubted(two, &with(&[99, 0], 48)), None, "a later nfdump's");
    }
}
