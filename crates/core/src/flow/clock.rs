//! The packets' clock: which times of a capture can be believed.
//!
//! Flows expire by the times of packets, so one wild timestamp would end all of them. A time that is far
//! from the one before is therefore held until the next packet: if that is near it, or goes on from there,
//! time has really jumped (a quiet hour, two captures one after the other); if it is back where time was,
//! the time was wild, and its packet counts at the time of the one before.

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

/// What to do with a packet, and before with the one that is held, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What is to be done with the one that is held.
    pub held: Option<Doubted>,
    /// Whether the packet is believed; otherwise it is held from now on.
    pub believed: bool,
}

/// What became of a time that was doubted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubted {
    /// It was wild: its packet counts at this time.
    Wild(Timestamp),
    /// It is believed: time has jumped.
    Jumped {
        /// Whether it was a jump back: all flows before it are over.
        back: bool,
    },
}

impl PacketClock {
    /// Takes in the time of the next packet.
    pub fn see(&mut self, time: Timestamp) -> Seen {
        let Some(before) = self.now else {
            // The first may be wild as well; then the second is doubted, and believed by the third.
            self.now = Some(time);
            return Seen { held: None, believed: true };
        };
        let doubted = self.held.take().map(|held| {
            let goes_on = near(time, held) || (held > before && time > held);
            if goes_on && !near(time, before) {
                self.jumps += 1;
                self.now = Some(held);
                Doubted::Jumped { back: held < before }
            } else {
                self.wild += 1;
                Doubted::Wild(before)
            }
        });
        let now = self.now.unwrap_or(time);
        let believed = near(time, now);
        if believed {
            self.now = Some(now.max(time));
        } else {
            self.held = Some(time);
        }
        Seen { held: doubted, believed }
    }

    /// It is about this late, whatever packets say: a time near it that is doubted is believed.
    pub fn tick(&mut self, late: Timestamp) -> Option<Doubted> {
        let held = self.held.take_if(|held| near(*held, late))?;
        let back = self.now.is_some_and(|now| held < now);
        self.jumps += 1;
        self.now = Some(held);
        Some(Doubted::Jumped { back })
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

fn near(a: Timestamp, b: Timestamp) -> bool {
    a.0.abs_diff(b.0) <= STEP.unsigned_abs()
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

    const BELIEVED: Seen = Seen { held: None, believed: true };
    const HELD: Seen = Seen { held: None, believed: false };

    #[test]
    fn small_steps_are_believed_and_the_clock_never_goes_back_by_them() {
        let (all, clock) = seen(&[0, 5, 3, STEP]);
        assert_eq!(all, [BELIEVED; 4]);
        assert_eq!(clock.now(), Some(Timestamp(STEP)));
    }

    #[test]
    fn one_wild_time_moves_nothing() {
        for wild in [i64::MAX, i64::MIN, 1000 * HOUR] {
            let (all, clock) = seen(&[10, wild, 20]);
            let was_wild = Seen { held: Some(Doubted::Wild(Timestamp(10))), believed: true };
            assert_eq!(all, [BELIEVED, HELD, was_wild], "{wild}");
            assert_eq!((clock.now(), clock.jumps(), clock.wild()), (Some(Timestamp(20)), 0, 1));
        }
    }

    #[test]
    fn a_jump_is_believed_by_the_next_packet() {
        let jumped = |back| Some(Doubted::Jumped { back });
        let (all, clock) = seen(&[0, HOUR, HOUR + 1]);
        assert_eq!(all[2], Seen { held: jumped(false), believed: true });
        assert_eq!((clock.now(), clock.jumps(), clock.wild()), (Some(Timestamp(HOUR + 1)), 1, 0));
        let (all, _) = seen(&[HOUR, 0, 1]);
        assert_eq!(all[2], Seen { held: jumped(true), believed: true });
        // A packet every hour.
        let (all, clock) = seen(&[0, HOUR, 2 * HOUR, 3 * HOUR]);
        assert_eq!(all[2..], [Seen { held: jumped(false), believed: false }; 2]);
        assert_eq!((clock.now(), clock.wild()), (Some(Timestamp(2 * HOUR)), 0));
    }

    #[test]
    fn two_wild_times_are_two() {
        let (all, clock) = seen(&[0, 4 * HOUR, 2 * HOUR, 1]);
        let was_wild = Some(Doubted::Wild(Timestamp(0)));
        assert_eq!(
            all[2..],
            [Seen { held: was_wild, believed: false }, Seen { held: was_wild, believed: true }]
        );
        assert_eq!((clock.jumps(), clock.wild()), (0, 2));
    }

    #[test]
    fn a_clock_on_the_wall_settles_a_doubt() {
        let (_, mut clock) = seen(&[0, HOUR]);
        assert_eq!(clock.tick(Timestamp(3 * HOUR)), None);
        assert_eq!(clock.tick(Timestamp(HOUR + 5)), Some(Doubted::Jumped { back: false }));
        assert_eq!((clock.now(), clock.finish()), (Some(Timestamp(HOUR)), None));
    }

    #[test]
    fn the_last_packet_is_believed() {
        let (_, mut clock) = seen(&[0, HOUR]);
        assert_eq!(clock.finish(), Some(false));
        assert_eq!(clock.finish(), None);
    }
}
