//! A round trip, here, is from a segment with payload to the acknowledgment that covers it.
//!
//! By Karn's rule (RFC 6298 section 3) there is none of what was sent twice, as nobody can say which one was
//! acknowledged. An acknowledgment covers everything in front of it, so it says nothing of what comes behind
//! such a segment either, nor behind one that came late: the receiver was waiting for that.

use std::collections::VecDeque;

use crate::features;
use crate::key::Timestamp;

/// So many segments of a direction are timed at a time. Those beyond are not: a long flight has fewer round
/// trips than segments, none of them wrong. 32 of 16 octets for 65,536 sessions are 64 MiB.
const TIMED: usize = 32;

/// Round trips of one direction: how many there were, and how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundTrips {
    count: u64,
    nanoseconds: features::Summary,
}

impl RoundTrips {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The shortest, in nanoseconds.
    #[must_use]
    pub fn least(&self) -> Option<u64> {
        self.nanoseconds.least(self.count)
    }

    /// The longest, in nanoseconds.
    #[must_use]
    pub fn most(&self) -> Option<u64> {
        self.nanoseconds.most(self.count)
    }

    /// Their mean, in nanoseconds.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        self.nanoseconds.mean(self.count)
    }

    /// Their sample standard deviation (n - 1), in nanoseconds; none of fewer than two.
    #[must_use]
    pub fn deviation(&self) -> Option<f64> {
        self.nanoseconds.deviation(self.count)
    }

    pub(super) fn add(&mut self, nanoseconds: u64) {
        self.count += 1;
        self.nanoseconds.add(nanoseconds);
    }
}

/// The segments of one direction that are not acknowledged yet: the place after each in the stream, and when
/// it was captured. Places ascend.
#[derive(Clone, Debug, Default)]
pub(super) struct Flight(VecDeque<(i64, Timestamp)>);

impl Flight {
    /// A segment that ends there, the furthest so far, was captured.
    pub(super) fn sent(&mut self, end: i64, time: Timestamp) {
        if self.0.len() < TIMED {
            self.0.push_back((end, time));
        }
    }

    /// A segment that begins there was sent again, or came late.
    pub(super) fn disturbed(&mut self, start: i64) {
        while self.0.back().is_some_and(|(end, _)| *end > start) {
            self.0.pop_back();
        }
    }

    /// Everything in front of `until` is acknowledged: the next round trip that this ends.
    pub(super) fn acknowledged(&mut self, until: i64, time: Timestamp) -> Option<u64> {
        while let Some(&(end, sent)) = self.0.front() {
            if end > until {
                break;
            }
            self.0.pop_front();
            // None if the clock was set back in between.
            if let Ok(took) = u64::try_from(time.0.saturating_sub(sent.0)) {
                return Some(took);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(flight: &mut Flight, until: i64, time: i64) -> Vec<u64> {
        std::iter::from_fn(|| flight.acknowledged(until, Timestamp(time))).collect()
    }

    #[test]
    fn an_acknowledgment_ends_the_round_trips_of_all_that_it_covers() {
        let mut flight = Flight::default();
        flight.sent(100, Timestamp(10));
        flight.sent(200, Timestamp(20));
        flight.sent(300, Timestamp(30));
        assert_eq!(all(&mut flight, 250, 50), [40, 30]);
        assert_eq!(all(&mut flight, 300, 60), [30]);
    }

    #[test]
    fn what_was_sent_twice_and_what_is_behind_it_has_none() {
        let mut flight = Flight::default();
        flight.sent(100, Timestamp(10));
        flight.sent(200, Timestamp(20));
        flight.sent(300, Timestamp(30));
        flight.disturbed(100);
        assert_eq!(all(&mut flight, 300, 50), [40]);
    }

    #[test]
    fn a_flight_is_bounded() {
        let mut flight = Flight::default();
        (1..=1_000_000).for_each(|end| flight.sent(end, Timestamp(end)));
        assert_eq!(all(&mut flight, 1_000_000, 1_000_000).len(), TIMED);
    }
}
