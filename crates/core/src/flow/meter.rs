//! The meter (RFC 7011 section 2, Metering Process): frames in, records out, and an account of each
//! frame.
//!
//! It decodes frames, brings fragments to their flows, doubts wild times, and drives the cache. Every frame
//! is in the end a packet of a record or counted under a name for why it is not: [`Tally::is_conserved`].

use super::{Cache, Counts, Doubted, PacketClock, Record, Seen, Settings};
use crate::key::Timestamp;
use crate::packet::{Decoder, Fragments, LinkType, Undecoded};

/// What became of the frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames taken in.
    pub frames: u64,
    /// Those that are no packet of a flow, by why: in the order of [`Undecoded::ALL`].
    pub undecoded: [u64; Undecoded::ALL.len()],
    /// What the cache counted.
    pub flows: Counts,
    /// Packets that were captured in part, among those in flows.
    pub truncated: u64,
    /// How often time has jumped by more than ten minutes.
    pub clock_jumps: u64,
    /// Packets whose time was not believed: they count at the time of the packet before.
    pub wild_times: u64,
}

impl Tally {
    /// Whether every frame is accounted for: in a flow or under a name. It is after
    /// [`Meter::finish`].
    #[must_use]
    pub fn is_conserved(&self) -> bool {
        self.frames == self.flows.packets + self.undecoded.iter().sum::<u64>()
    }
}

/// Makes flows of frames.
#[derive(Debug)]
pub struct Meter {
    decoder: Decoder,
    clock: PacketClock,
    held: Option<Held>,
    fragments: Fragments,
    cache: Cache,
    frames: u64,
    undecoded: [u64; Undecoded::ALL.len()],
    truncated: u64,
}

/// A frame whose time is doubted.
#[derive(Debug)]
struct Held {
    link_type: LinkType,
    time: Timestamp,
    wire: u32,
    bytes: Vec<u8>,
}

impl Meter {
    /// A meter without flows yet.
    #[must_use]
    pub fn new(decoder: Decoder, settings: Settings) -> Self {
        Self {
            decoder,
            clock: PacketClock::default(),
            held: None,
            fragments: Fragments::default(),
            cache: Cache::new(settings),
            frames: 0,
            undecoded: [0; Undecoded::ALL.len()],
            truncated: 0,
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        Tally {
            frames: self.frames,
            undecoded: self.undecoded,
            flows: self.cache.counts(),
            truncated: self.truncated,
            clock_jumps: self.clock.jumps(),
            wild_times: self.clock.wild(),
        }
    }

    /// How many flows go on.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.cache.len()
    }

    /// Takes in a frame of this link type, captured at `time`, that was `wire` octets long. Flows that
    /// end by it are handed out.
    pub fn observe(
        &mut self,
        link_type: LinkType,
        time: Timestamp,
        frame: &[u8],
        wire: u32,
        ended: &mut impl FnMut(Record),
    ) {
        self.frames += 1;
        let Seen { held, believed } = self.clock.see(time);
        if let Some(doubted) = held {
            self.release(doubted, ended);
        }
        if believed {
            self.count(link_type, time, frame, wire, ended);
        } else {
            self.held = Some(Held { link_type, time, wire, bytes: frame.to_vec() });
        }
    }

    /// It is known what became of the frame that is held.
    fn release(&mut self, doubted: Doubted, ended: &mut impl FnMut(Record)) {
        let Some(held) = self.held.take() else { return };
        let time = match doubted {
            Doubted::Wild(at) => at,
            Doubted::Jumped { back } => {
                if back {
                    self.end_all(ended);
                }
                held.time
            }
        };
        self.count(held.link_type, time, &held.bytes, held.wire, ended);
    }

    fn count(
        &mut self,
        link_type: LinkType,
        time: Timestamp,
        frame: &[u8],
        wire: u32,
        ended: &mut impl FnMut(Record),
    ) {
        let packet = match self.decoder.decode(link_type, time, frame, wire) {
            Ok(packet) => packet,
            Err(why) => {
                self.undecoded[why as usize] += 1;
                return;
            }
        };
        self.truncated += u64::from(packet.lengths.truncated);
        let now = self.clock.now().unwrap_or(time);
        let Self { fragments, cache, .. } = self;
        if packet.fragment.is_none() {
            return cache.observe(&packet, now, ended);
        }
        fragments.take(packet, now, |packet| cache.observe(&packet, now, &mut *ended));
    }

    /// No frame came until `now`: hands out the flows that are due. For captures that are going on;
    /// in files the packets tell the time.
    pub fn expire(&mut self, now: Timestamp, ended: &mut impl FnMut(Record)) {
        self.cache.expire(now, ended);
    }

    /// Nothing more comes: hands out all flows that are left.
    pub fn finish(&mut self, ended: &mut impl FnMut(Record)) {
        if let Some(back) = self.clock.finish() {
            self.release(Doubted::Jumped { back }, ended);
        }
        self.end_all(ended);
    }

    fn end_all(&mut self, ended: &mut impl FnMut(Record)) {
        let now = self.clock.now().unwrap_or_default();
        let Self { fragments, cache, .. } = self;
        fragments.finish(|packet| cache.observe(&packet, now, &mut *ended));
        cache.finish(now, ended);
    }
}
