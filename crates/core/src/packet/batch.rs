//! A batch is some frames that follow one another, with their bytes in one piece: what is handed from
//! who reads to who decodes.

use super::LinkType;
use crate::key::Timestamp;

/// Where a frame is in its batch, and what the capture says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// When it was captured.
    pub time: Timestamp,
    /// How long it was on the wire, in octets.
    pub wire: u32,
    /// What kind of frame it is.
    pub link_type: LinkType,
    start: u32,
    end: u32,
}

/// Frames that follow one another.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    frames: Vec<Frame>,
    /// So many of the bytes mean something; the others are room that was used before.
    filled: usize,
}

impl Batch {
    /// The frames, in the capture's order.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// The captured bytes of one of them.
    #[inline]
    #[must_use]
    pub fn bytes_of(&self, frame: &Frame) -> &[u8] {
        self.bytes.get(frame.start as usize..frame.end as usize).unwrap_or_default()
    }

    /// Where a part of one of them is among the bytes of all.
    #[inline]
    pub(crate) fn within(&self, frame: &Frame, (start, end): (u32, u32)) -> (u32, u32) {
        (frame.start.saturating_add(start), frame.start.saturating_add(end))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Takes all frames out; the room for them stays.
    pub fn clear(&mut self) {
        self.filled = 0;
        self.frames.clear();
    }

    /// Keeps the frames that are wanted.
    pub fn retain(&mut self, mut wanted: impl FnMut(&Frame, &[u8]) -> bool) {
        let Self { bytes, frames, .. } = self;
        frames.retain(|frame| {
            let bytes = bytes.get(frame.start as usize..frame.end as usize);
            wanted(frame, bytes.unwrap_or_default())
        });
    }

    /// Adds a frame, copying its bytes.
    pub fn push(&mut self, time: Timestamp, wire: u32, link_type: LinkType, bytes: &[u8]) {
        let start = self.filled;
        self.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.fill(bytes.len());
        self.refer(time, wire, link_type, start, bytes.len());
    }

    /// Room for so many bytes behind those that are filled; more than that may be there. What is in it
    /// means nothing.
    pub fn room(&mut self, length: usize) -> &mut [u8] {
        if self.bytes.len() < self.filled + length {
            self.bytes.resize(self.filled + length, 0);
        }
        &mut self.bytes[self.filled..]
    }

    /// So many bytes of the room were filled.
    ///
    /// # Panics
    /// If there was no room for them.
    pub fn fill(&mut self, length: usize) {
        assert!(self.filled + length <= self.bytes.len(), "filled without room");
        self.filled += length;
    }

    /// The bytes that are filled.
    #[must_use]
    pub fn filled(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    /// Adds a frame whose bytes are filled already: so many from there on. (A batch is far shorter than
    /// 4 GiB; what is beyond has no bytes.)
    #[inline]
    pub fn refer(
        &mut self,
        time: Timestamp,
        wire: u32,
        link_type: LinkType,
        start: usize,
        length: usize,
    ) {
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let (start, end) = (place(start), place(start + length));
        self.frames.push(Frame { time, wire, link_type, start, end });
    }
}
