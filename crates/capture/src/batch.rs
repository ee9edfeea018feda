//! A batch is some frames that follow one another, with their bytes in one piece: what is handed from
//! who reads to who decodes.

use procflow_core::{Timestamp, packet::LinkType};

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
}

impl Batch {
    /// The frames, with their captured bytes, in the capture's order.
    pub fn frames(&self) -> impl ExactSizeIterator<Item = (&Frame, &[u8])> {
        let of = |frame: &Frame| &self.bytes[frame.start as usize..frame.end as usize];
        self.frames.iter().map(move |frame| (frame, of(frame)))
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
        self.bytes.clear();
        self.frames.clear();
    }

    /// Adds a frame, copying its bytes.
    pub fn push(&mut self, time: Timestamp, wire: u32, link_type: LinkType, bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.refer(time, wire, link_type, (start, bytes.len()));
    }

    /// The bytes, for a reader to fill.
    pub(crate) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds a frame whose bytes are there already: so many from there on. Batches are far shorter than
    /// 4 GiB.
    pub(crate) fn refer(
        &mut self,
        time: Timestamp,
        wire: u32,
        link_type: LinkType,
        (start, length): (usize, usize),
    ) {
        let (start, end) = (start as u32, (start + length) as u32);
        self.frames.push(Frame { time, wire, link_type, start, end });
    }
}
