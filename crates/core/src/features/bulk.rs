//! Bulk transfers, as CICFlowMeter defines them: at least four packets with payload one way, none of them
//! more than a second after the one before, and no payload the other way in between.

use super::{Family, Step};
use crate::flow::{Both, Direction};
use crate::key::Timestamp;

/// A bulk transfer has at least so many packets.
const LEAST: u32 = 4;
/// And no longer gap, in nanoseconds.
const GAP: i64 = 1_000_000_000;

/// The bulk transfers of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bulk {
    /// How many there are.
    pub transfers: u32,
    /// Their packets.
    pub packets: u32,
    /// Their payload, in octets.
    pub octets: u64,
    /// How long they took together, in nanoseconds.
    pub duration: u64,
}

/// The bulk transfers of both directions.
#[derive(Clone, Debug, Default)]
pub struct Bulks {
    /// Those that are known to be some; most flows have none.
    done: Option<Box<Both<Bulk>>>,
    /// Packets that may be one, all of one direction: how many, how much payload, from when to when.
    running: u32,
    octets: u64,
    began: Timestamp,
    latest: Timestamp,
    reverse: bool,
}

impl Bulks {
    /// Those of both directions that are known to be some.
    #[must_use]
    pub fn done(&self) -> Both<Bulk> {
        self.done.as_deref().copied().unwrap_or_default()
    }
}

impl Family for Bulks {
    #[inline]
    fn see(&mut self, step: &Step<'_>) {
        let payload = u64::from(step.packet.lengths.payload);
        if payload == 0 {
            return;
        }
        let now = step.packet.time;
        let reverse = step.direction == Direction::Reverse;
        let goes_on = self.running > 0
            && self.reverse == reverse
            && now.0.saturating_sub(self.latest.0) <= GAP;
        if !goes_on {
            (self.running, self.octets, self.began, self.reverse) = (0, 0, now, reverse);
            self.latest = now;
        }
        self.running = self.running.saturating_add(1);
        self.octets += payload;
        let since = |from: Timestamp| u64::try_from(now.0.saturating_sub(from.0)).unwrap_or(0);
        if self.running < LEAST {
            self.latest = self.latest.max(now);
            return;
        }
        let done = self.done.get_or_insert_default().of_mut(step.direction);
        if self.running == LEAST {
            done.transfers += 1;
            done.packets += LEAST;
            done.octets += self.octets;
            done.duration += since(self.began);
        } else {
            done.packets += 1;
            done.octets += payload;
            done.duration += since(self.latest);
        }
        self.latest = self.latest.max(now);
    }
}
