//! A block is some events of one incarnation as bytes, in the order of their numbers: each in
//! [postcard](https://postcard.jamesmunns.com/wire-format), one after the other, and the whole as
//! one zstd frame (RFC 8878) that ends with a checksum of its content.
//!
//! Not one byte in it says which change
//! an event is but the number of its variant: the order of `Change`'s variants and of their fields
//! is this format too, as it is the wire's.
//!
//! (The export file has its own frames, [`crate::export`]: it must be readable without a table
//! beside it.)
//!
//! Reading is bounded by the length that is told beside the block; a block that is damaged, or does
//! not hold what is told of it, is an error.

use std::cell::RefCell;

use procflow_binding::{BootTime, Event};

/// Bytes of events, before compression, at which a block is full: compression gains 5 % from there
/// to four times as much (14.7 bytes an event; 14.3 at 128 KiB), and who needs one event of a block
/// reads them all.
pub(crate) const FULL: usize = 64 << 10;

/// Most bytes of one event. Texts of processes, the only ones that can be long, are bounded where
/// they are read.
const MOST_EVENT: usize = 8 << 20;

/// Most bytes of events, before compression, that are read as one block: a base of some four
/// million open sockets. Blocks of events are no longer than [`FULL`] twice, and an event.
pub(crate) const MOST: usize = 256 << 20;

/// zstd's fastest ordinary level: 0.14 us an event, half of what level 3 takes for 3 % more bytes.
const LEVEL: i32 = 1;

/// A block that does not hold what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Larger than any block may be.
    #[error("a block of {0} bytes, which is more than any may have")]
    TooLong(u64),
    /// Not the bytes that were written.
    #[error("the block is damaged: {0}")]
    Damaged(String),
    /// It holds other events than is told of it.
    #[error("the block does not hold the events that it should: {0}")]
    Other(&'static str),
}

/// What is told of a block beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Number of the first event.
    pub(crate) first: u64,
    /// Number of the last.
    pub(crate) last: u64,
    /// Time of the first.
    pub(crate) begin: BootTime,
    /// Time of the last.
    pub(crate) end: BootTime,
    /// How many.
    pub(crate) count: u64,
}

/// Events on their way into a block.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    bytes: Vec<u8>,
    span: Option<Span>,
}

impl Gathering {
    /// Adds an event; its number is larger than those before.
    pub(crate) fn push(&mut self, event: &Event) -> Result<(), BlockError> {
        let before = self.bytes.len();
        let bytes = postcard::to_extend(event, std::mem::take(&mut self.bytes));
        // None of binding's types is one that postcard cannot write, so nothing is lost here.
        self.bytes = bytes.map_err(|error| BlockError::Damaged(error.to_string()))?;
        if self.bytes.len() - before > MOST_EVENT {
            let length = (self.bytes.len() - before) as u64;
            self.bytes.truncate(before);
            return Err(BlockError::TooLong(length));
        }
        let &Event { sequence, time, .. } = event;
        let new = Span { first: sequence, last: sequence, begin: time, end: time, count: 1 };
        self.span = Some(self.span.map_or(new, |span| span.with(new)));
        Ok(())
    }

    /// Adds the events of another one, all of which come later.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.span = match (self.span, other.span) {
            (Some(span), Some(other)) => Some(span.with(other)),
            (span, other) => span.or(other),
        };
    }

    /// What it holds; `None` when that is nothing.
    pub(crate) fn span(&self) -> Option<Span> {
        self.span
    }

    /// Its bytes, before compression.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.span = None;
    }
}

impl Span {
    fn with(self, later: Self) -> Self {
        let Self { last, end, count, .. } = later;
        Self { last, end: self.end.max(end), count: self.count + count, ..self }
    }
}

/// Presses events into blocks; keeps zstd's tables from one to the next.
pub(crate) struct Press(RefCell<zstd::bulk::Compressor<'static>>);

impl std::fmt::Debug for Press {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Press")
    }
}

impl Press {
    pub(crate) fn new() -> std::io::Result<Self> {
        let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
        compressor.include_checksum(true)?;
        Ok(Self(RefCell::new(compressor)))
    }

    pub(crate) fn press(&self, events: &[u8]) -> std::io::Result<Vec<u8>> {
        self.0.borrow_mut().compress(events)
    }
}

/// The events of a block that is told to take `length` bytes before compression, and to hold
/// `span`.
pub(crate) fn unpress(block: &[u8], length: u64, span: Span) -> Result<Vec<Event>, BlockError> {
    let length = usize::try_from(length).ok().filter(|&length| length <= MOST);
    let length = length.ok_or(BlockError::TooLong(span.count))?;
    let damaged = |error: &dyn std::fmt::Display| BlockError::Damaged(error.to_string());
    let bytes = zstd::bulk::decompress(block, length).map_err(|error| damaged(&error))?;
    if bytes.len() != length {
        return Err(BlockError::Other("its length is another"));
    }
    let mut events: Vec<Event> = Vec::new();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let (event, after) =
            postcard::take_from_bytes::<Event>(rest).map_err(|error| damaged(&error))?;
        if events.last().is_some_and(|last| last.sequence >= event.sequence) {
            return Err(BlockError::Other("their numbers do not ascend"));
        }
        rest = after;
        events.push(event);
    }
    let ends = events.first().zip(events.last());
    if ends.map(|(first, last)| (first.sequence, last.sequence)) != Some((span.first, span.last)) {
        return Err(BlockError::Other("their numbers are others"));
    }
    if events.len() as u64 != span.count {
        return Err(BlockError::Other("there are more, or fewer"));
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use procflow_binding::{Change, Close, SocketId};

    fn gathering(numbers: impl IntoIterator<Item = u64>) -> Gathering {
        let mut gathering = Gathering::default();
        for sequence in numbers {
            let close = Close { id: SocketId(sequence * 7), last_seen: BootTime(sequence) };
            let time = BootTime(sequence + 1);
            gathering.push(&Event { sequence, time, change: Change::Close(close) }).unwrap();
        }
        gathering
    }

    #[test]
    fn what_was_gathered_comes_out() {
        let mut all = gathering([1, 2, 5]);
        all.extend(&gathering([7, 9]));
        let span = all.span().unwrap();
        assert_eq!((span.first, span.last, span.count), (1, 9, 5));
        assert_eq!((span.begin, span.end), (BootTime(2), BootTime(10)));
        let block = Press::new().unwrap().press(all.bytes()).unwrap();
        let events = unpress(&block, all.bytes().len() as u64, span).unwrap();
        assert_eq!(events.iter().map(|e| e.sequence).collect::<Vec<_>>(), [1, 2, 5, 7, 9]);
    }

    #[test]
    fn no_damage_passes() {
        let all = gathering(1..200);
        let (span, length) = (all.span().unwrap(), all.bytes().len() as u64);
        let block = Press::new().unwrap().press(all.bytes()).unwrap();
        let whole = unpress(&block, length, span).unwrap();
        for at in 0..block.len() {
            for bit in 0..8 {
                let mut damaged = block.clone();
                damaged[at] ^= 1 << bit;
                // zstd has bits that mean nothing; none of them may change an event.
                if let Ok(events) = unpress(&damaged, length, span) {
                    assert_eq!(events, whole, "byte {at} bit {bit}");
                }
            }
            assert!(unpress(&block[..at], length, span).is_err(), "cut at {at}");
        }
        assert!(unpress(&block, length + 1, span).is_err());
        assert!(unpress(&block, length - 1, span).is_err());
        assert!(unpress(&block, u64::MAX, span).is_err());
        assert!(unpress(&block, length, Span { count: 198, ..span }).is_err());
        assert!(unpress(&block, length, Span { last: 198, ..span }).is_err());
    }
}
