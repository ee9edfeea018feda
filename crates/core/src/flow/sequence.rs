//! The sequence of frames: in which order they count, and at which times. It is theirs as captured, but
//! for those whose time is doubted (`clock.rs`), which wait for the next one.

use super::{Doubted, PacketClock, Seen};
use crate::key::Timestamp;
use crate::packet::{Batch, Frame};

/// A frame in its place of the sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Which frame of the batch.
    pub(crate) frame: u32,
    /// At which time it counts.
    pub(crate) time: Timestamp,
    /// What the clock says when it counts; never less than before, but for what follows `all_over`.
    pub(crate) now: Timestamp,
    /// Whether all flows before it are over: the clock was set back.
    pub(crate) all_over: bool,
}

/// Puts frames in sequence.
#[derive(Debug, Default)]
pub(crate) struct Sequencer {
    clock: PacketClock,
    /// The frame that waits, with its bytes.
    held: Option<(Frame, Vec<u8>)>,
}

impl Sequencer {
    /// Puts a batch in sequence. A frame that was held until now is added at its end.
    pub(crate) fn place(&mut self, batch: &mut Batch, into: &mut Vec<Placed>) {
        for number in 0..batch.len() {
            let frame = batch.frames()[number];
            let Seen { held, believed } = self.clock.see(frame.time);
            if let Some(doubted) = held {
                self.release(doubted, batch, into);
            }
            if believed {
                let now = self.clock.now().unwrap_or(frame.time);
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                into.push(Placed { frame: number, time: frame.time, now, all_over: false });
            } else {
                self.held = Some((frame, batch.bytes_of(&frame).to_vec()));
            }
        }
    }

    /// It is about this late: a frame that is held since then need not wait for the next.
    pub(crate) fn tick(&mut self, late: Timestamp, batch: &mut Batch, into: &mut Vec<Placed>) {
        if let Some(doubted) = self.clock.tick(late) {
            self.release(doubted, batch, into);
        }
    }

    /// No frame follows.
    pub(crate) fn finish(&mut self, batch: &mut Batch, into: &mut Vec<Placed>) {
        if let Some(back) = self.clock.finish() {
            self.release(Doubted::Jumped { back }, batch, into);
        }
    }

    fn release(&mut self, doubted: Doubted, batch: &mut Batch, into: &mut Vec<Placed>) {
        let Some((Frame { time, wire, link_type, .. }, bytes)) = self.held.take() else { return };
        let frame = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        batch.push(time, wire, link_type, &bytes);
        let before = into.last().map(|placed| placed.now);
        into.push(match doubted {
            Doubted::Wild(at) => Placed {
                frame,
                time: at,
                now: before.map_or(at, |now| now.max(at)),
                all_over: false,
            },
            Doubted::Jumped { back } => Placed { frame, time, now: time, all_over: back },
        });
    }

    pub(crate) fn clock(&self) -> &PacketClock {
        &self.clock
    }
}
