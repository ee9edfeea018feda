//! The packets' clock: which times of a capture can be believed.
//!
//! Flows expire by the times of packets, so one wild timestamp would end all of them. A time that is far
//! from the one before is therefore held until the next packet: if that is near it, time has really
//! jumped (a quiet hour, two captures one after the other); if not, the time was wild, and its packet
//! counts at the time of the one before.

use crate::key::Timestamp;

/// So far may a time be from the one before without being doubted, in nanoseconds: ten minutes. Idle
/// timeouts are shorter; clocks are set by less.
const STEP: i64 = 600_000_000_000;

/// The clock of the packets of one capture, in the order in which they were captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketClock {
    now: Option<Timestamp>,
    held: Option<Timestamp>,
    jumps: u64,
    wild: u64,
}

/// What to do with a packet, and with the one that is held if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is believed; nothing is held.
    Believed,
    /// Hold it until the next one. If another one was held, that was wild: it counts at this time.
    Held {
        /// The time of the packet that was held until now.
        wild: Option<Timestamp>,
    },
    /// The one that was held was wild, and counts at this time; this one is believed.
    WasWild(Timestamp),
    /// Time has jumped: the one that was held is believed, and this one. If the jump was backwards, all
    /// flows before it are over.
    Jumped {
        /// Whether it was a jump back.
        back: bool,
    },
}

impl PacketClock {
    /// Takes in the time of the next packet.
    pub fn see(&mut self, time: Timestamp) -> Seen {
        let Some(now) = self.now else {
            // The very first may be wild as well, and then the second is doubted, and believed by the third.
            self.now = Some(time);
            return Seen::Believed;
        };
        let near = |a: Timestamp, b: Timestamp| a.0.abs_diff(b.0) <= STEP.unsigned_abs();
        if near(time, now) {
            self.now = Some(now.max(time));
            return match self.held.take() {
                Some(_) => {
                    self.wild += 1;
                    Seen::WasWild(now)
                }
                None => Seen::Believed,
            };
        }
        match self.held {
            Some(held) if near(time, held) => {
                self.held = None;
                self.jumps += 1;
                self.now = Some(held.max(time));
                Seen::Jumped { back: held < now }
            }
            held => {
                self.held = Some(time);
                self.wild += u64::from(held.is_some());
                Seen::Held { wild: held.map(|_| now) }
            }
        }
    }

    /// No packet follows: the one that is held, if any, is believed. Gives whether that is a jump back.
    pub fn finish(&mut self) -> Option<bool> {
        let held = self.held.take()?;
        let back = self.now.is_some_and(|now| held < now);
        self.jumps += 1;
        self.now = Some(held);
        Some(back)
    }

    /// The latest time that is believed.
    #[must_use]
    pub fn now(&self) -> Option<Timestamp> {
        self.now
    }

    /// How often time has jumped.
    #[must_use]
    pub fn jumps(&self) -> u64 {
        self.jumps
    }

    /// How many packets had a time that was not believed.
    #[must_use]
    pub fn wild(&self) -> u64 {
        self.wild
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000_000;

    fn seen(times: &[i64]) -> (Vec<Seen>, PacketClock) {
        let mut clock = PacketClock::default();
        let seen = times.iter().map(|&time| clock.see(Timestamp(time))).collect();
        (seen, clock)
    }

    #[test]
    fn small_steps_are_believed_and_the_clock_never_goes_back_by_them() {
        let (all, clock) = seen(&[0, 5, 3, STEP]);
        assert_eq!(all, [Seen::Believed; 4]);
        assert_eq!(clock.now(), Some(Timestamp(STEP)));
    }

    #[test]
    fn one_wild_time_moves_nothing() {
        for wild in [i64::MAX, i64::MIN, 1000 * HOUR] {
            let (all, clock) = seen(&[10, wild, 20]);
            let held = Seen::Held { wild: None };
            assert_eq!(all, [Seen::Believed, held, Seen::WasWild(Timestamp(10))], "{wild}");
            assert_eq!((clock.now(), clock.jumps(), clock.wild()), (Some(Timestamp(20)), 0, 1));
        }
    }

    #[test]
    fn a_jump_is_believed_by_the_next_packet() {
        let (all, clock) = seen(&[0, HOUR, HOUR + 1]);
        assert_eq!(all[2], Seen::Jumped { back: false });
        assert_eq!((clock.now(), clock.jumps(), clock.wild()), (Some(Timestamp(HOUR + 1)), 1, 0));
        let (all, _) = seen(&[HOUR, 0, 1]);
        assert_eq!(all[2], Seen::Jumped { back: true });
    }

    #[test]
    fn two_wild_times_are_two() {
        let (all, clock) = seen(&[0, 2 * HOUR, 4 * HOUR, 1]);
        assert_eq!(all[2], Seen::Held { wild: Some(Timestamp(0)) });
        assert_eq!(all[3], Seen::WasWild(Timestamp(0)));
        assert_eq!((clock.jumps(), clock.wild()), (0, 2));
    }

    #[test]
    fn the_last_packet_is_believed() {
        let (_, mut clock) = seen(&[0, HOUR]);
        assert_eq!(clock.finish(), Some(false));
        assert_eq!(clock.finish(), None);
    }
}
