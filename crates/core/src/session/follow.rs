//! Frames in, events out, and an account of each frame: what the meter is for flows. It is done by one
//! thread, as events have an order and whoever takes them has one hand.

use super::{Counts, Event, Sessions, Settings};
use crate::flow::{Filled, Placed, Sequencer};
use crate::key::Protocol;
use crate::packet::{Batch, Decoder, Packet, Transport, Undecoded};

/// What became of the frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames taken in.
    pub frames: u64,
    /// Those that hold no packet, by why: in the order of [`Undecoded::ALL`].
    pub undecoded: [u64; Undecoded::ALL.len()],
    /// Packets of other protocols than TCP.
    pub others: u64,
    /// Fragments of TCP that are not the first of their packet: the octets in them are told as lost.
    pub fragments: u64,
    /// What was counted of sessions.
    pub sessions: Counts,
    /// Packets that were captured in part, among those in sessions.
    pub truncated: u64,
    /// How often time has jumped by more than ten minutes.
    pub clock_jumps: u64,
    /// Packets whose time was not believed: they count at the time of the packet before.
    pub wild_times: u64,
}

impl Tally {
    /// Whether every frame is accounted for: in a session or under a name.
    #[must_use]
    pub fn is_conserved(&self) -> bool {
        let undecoded: u64 = self.undecoded.iter().sum();
        self.frames == self.sessions.packets + self.others + self.fragments + undecoded
    }
}

/// Follows the TCP connections in all frames of `source`, and tells what happens in them.
pub fn follow(
    decoder: Decoder,
    settings: Settings,
    mut source: impl FnMut(&mut Batch) -> Filled,
    mut tell: impl FnMut(&Event<'_>),
) -> Tally {
    let mut sessions = Sessions::new(settings);
    let mut sequencer = Sequencer::default();
    let mut batch = Batch::default();
    let mut placed = Vec::new();
    let mut packet = Packet::BLANK;
    let mut tally = Tally::default();
    loop {
        placed.clear();
        let filled = source(&mut batch);
        tally.frames += batch.len() as u64;
        sequencer.place(&mut batch, &mut placed);
        let mut late = None;
        match filled {
            Filled::More(None) => {}
            Filled::More(Some(time)) => {
                sequencer.tick(time, &mut batch, &mut placed);
                late = Some(time);
            }
            Filled::Last => sequencer.finish(&mut batch, &mut placed),
        }
        for &Placed { frame, time, now, all_over } in &placed {
            if all_over {
                sessions.finish(now, &mut tell);
            }
            let Some(frame) = batch.frames().get(frame as usize) else { continue };
            let bytes = batch.bytes_of(frame);
            let decoded =
                decoder.decode_into(frame.link_type, time, bytes, frame.wire, &mut packet);
            if let Err(why) = decoded {
                tally.undecoded[why as usize] += 1;
            } else if matches!(packet.transport, Transport::Tcp(_)) {
                tally.truncated += u64::from(packet.lengths.truncated);
                sessions.observe(&packet, bytes, now, &mut tell);
            } else if packet.protocol == Protocol::TCP {
                tally.fragments += 1;
            } else {
                tally.others += 1;
            }
        }
        let now = sequencer.clock().now().max(late);
        if let Some(now) = now {
            sessions.expire(now, &mut tell);
        }
        if filled == Filled::Last {
            sessions.finish(now.unwrap_or_default(), &mut tell);
            break;
        }
    }
    tally.sessions = sessions.counts();
    (tally.clock_jumps, tally.wild_times) = (sequencer.clock().jumps(), sequencer.clock().wild());
    tally
}
