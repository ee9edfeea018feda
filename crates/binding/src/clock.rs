//! A host's two clocks: the boot-time clock, which never jumps and stamps every event, and the
//! real-time clock, which people and flow records use and which may be stepped at any moment.
//!
//! A [`Clock`] is what is known of their offset: samples, each valid until the next. Flow times
//! are brought to boot time here, and nowhere else, so that a step of the real-time clock cannot
//! tear a history apart.

use std::fmt;
use std::ops::RangeInclusive;

use procflow_core::{Interval, Timestamp};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// A moment on a host's `CLOCK_BOOTTIME`: nanoseconds since that host booted, suspend included
/// (clock_gettime(2)). Comparable only within one boot of one host.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct BootTime(pub u64);

impl BootTime {
    /// The later moment `nanoseconds` from now, or the end of time.
    #[must_use]
    pub fn plus(self, nanoseconds: u64) -> Self {
        Self(self.0.saturating_add(nanoseconds))
    }

    /// The earlier moment `nanoseconds` before, or the boot itself.
    #[must_use]
    pub fn minus(self, nanoseconds: u64) -> Self {
        Self(self.0.saturating_sub(nanoseconds))
    }
}

impl fmt::Display for BootTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// Both clocks, read at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockSample {
    /// The boot-time clock.
    pub boot: BootTime,
    /// The real-time clock.
    pub real: Timestamp,
}

impl ClockSample {
    /// Real time minus boot time, in nanoseconds.
    #[must_use]
    pub fn offset(self) -> i128 {
        i128::from(self.real.0) - i128::from(self.boot.0)
    }
}

/// What is known of a real-time clock against a host's boot-time clock.
///
/// Sample *i* holds from its boot time to the next sample's; the first also holds before, the
/// last also after.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Ascending in boot time.
    samples: Vec<ClockSample>,
    /// For each sample the latest that the clock had shown before it, if the samples ascend in real
    /// time too; otherwise empty.
    shown: Vec<i128>,
}

impl Clock {
    /// A change of the offset by more than this is worth a sample of its own, in nanoseconds: 10 ms,
    /// a hundredth of the least tolerance that NetFlow v9 needs. A clock that is slewed all day makes
    /// some hundred.
    pub const WORTH_A_SAMPLE: u64 = 10_000_000;

    /// Adds a sample. One that says what the last already said (to ten milliseconds) is dropped, so
    /// that a year of samples of a good clock takes no space.
    pub fn apply(&mut self, sample: ClockSample) {
        let at = self.samples.partition_point(|s| s.boot <= sample.boot);
        if let Some(before) = at.checked_sub(1).map(|i| self.samples[i]) {
            let change = (sample.offset() - before.offset()).unsigned_abs();
            if change < u128::from(Self::WORTH_A_SAMPLE) {
                return;
            }
        }
        self.samples.insert(at, sample);
        self.note_shown();
    }

    fn note_shown(&mut self) {
        self.shown.clear();
        if !self.samples.is_sorted_by_key(|sample| sample.real) {
            return;
        }
        let mut latest = i128::MIN;
        for (i, sample) in self.samples.iter().enumerate() {
            if let Some(before) = i.checked_sub(1).map(|i| self.samples[i]) {
                latest = latest.max(i128::from(sample.boot.0) + before.offset());
            }
            self.shown.push(latest);
        }
    }

    /// Whether anything is known at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The real time that the clock showed at `boot`.
    #[must_use]
    pub fn to_real(&self, boot: BootTime) -> Option<Timestamp> {
        let at = self.samples.partition_point(|s| s.boot <= boot).saturating_sub(1);
        let real = i128::from(boot.0) + self.samples.get(at)?.offset();
        Some(Timestamp(saturate(real)))
    }

    /// Forgets samples that only matter before `before`.
    pub fn prune(&mut self, before: BootTime) {
        let keep_from = self.samples.partition_point(|s| s.boot <= before).saturating_sub(1);
        self.samples.drain(..keep_from);
        self.note_shown();
    }

    /// Every moment at which this clock showed `real`, ascending.
    ///
    /// None after a stretch was skipped would be an awkward answer for a stamp that an exporter
    /// did write, so a time that fell into a forward step is taken as the moment of the step.
    fn moments(&self, real: Timestamp) -> SmallVec<[BootTime; 1]> {
        let mut moments = SmallVec::new();
        if let Some(only) = self.moment(real) {
            moments.push(only);
            return moments;
        }
        for (i, sample) in self.samples.iter().enumerate() {
            let boot = i128::from(real.0) - sample.offset();
            let from = if i == 0 { i128::MIN } else { i128::from(sample.boot.0) };
            let until = self.samples.get(i + 1).map_or(i128::MAX, |next| i128::from(next.boot.0));
            if (from..until).contains(&boot) {
                moments.push(boot_time(boot));
            }
        }
        if moments.is_empty() {
            // Skipped by a step: the first sample whose own time is already later.
            moments.extend(self.samples.iter().find(|s| s.real > real).map(|s| s.boot));
        }
        moments
    }

    /// Real time minus boot time in nanoseconds, if that is all that is known of the clock.
    pub(crate) fn only_offset(&self) -> Option<i64> {
        match self.samples.as_slice() {
            [only] => i64::try_from(only.offset()).ok(),
            _ => None,
        }
    }

    /// The only moment at which this clock showed `real`, where one look tells that there is no other.
    fn moment(&self, real: Timestamp) -> Option<BootTime> {
        let after = self.samples.partition_point(|sample| sample.real <= real);
        let at = after.saturating_sub(1);
        // A clock that was set back had shown it before.
        if i128::from(real.0) < *self.shown.get(at)? {
            return None;
        }
        let boot = boot_time(i128::from(real.0) - self.samples[at].offset());
        // Skipped by a step.
        let next = self.samples.get(at + 1).filter(|_| after > 0);
        Some(next.map_or(boot, |next| boot.min(next.boot)))
    }

    /// The stretch of boot time that a flow's interval means, where one look tells that there is no other.
    pub(crate) fn stretch(&self, interval: Interval) -> Option<RangeInclusive<BootTime>> {
        let (first, last) = (self.moment(interval.first)?, self.moment(interval.last)?);
        (first <= last).then_some(first..=last)
    }

    /// The stretches of boot time that a flow's interval can mean.
    ///
    /// One in nearly every case. After a step back the same hour was shown twice and both are
    /// given; a flow that lasted across the step (so that it seems to end before it began) is
    /// put together from both sides. Empty only when nothing is known of the clock.
    #[must_use]
    pub fn stretches(&self, interval: Interval) -> SmallVec<[RangeInclusive<BootTime>; 1]> {
        if let Some(only) = self.stretch(interval) {
            return [only].into();
        }
        let firsts = self.moments(interval.first);
        let lasts = self.moments(interval.last);
        let mut stretches: SmallVec<[RangeInclusive<BootTime>; 1]> = SmallVec::new();
        for (i, &last) in lasts.iter().enumerate() {
            // The nearest beginning, but never one that an earlier end already explains.
            let floor = i.checked_sub(1).map(|i| lasts[i]);
            let first = firsts.iter().rev().find(|&&first| first <= last);
            if let Some(&first) = first
                && floor.is_none_or(|floor| first > floor || stretches.is_empty())
            {
                stretches.push(first..=last);
            }
        }
        if stretches.is_empty()
            && let (Some(&first), Some(&last)) = (firsts.first(), lasts.last())
        {
            // Ends before it began on every reading: the record itself is wrong. Cover both.
            stretches.push(first.min(last)..=first.max(last));
        }
        stretches
    }
}

fn boot_time(value: i128) -> BootTime {
    BootTime(u64::try_from(value.max(0)).unwrap_or(u64::MAX))
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const HOUR: i64 = 3_600;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000_000)
    }

    fn boot(seconds: u64) -> BootTime {
        BootTime(seconds * S)
    }

    /// A clock that shows `samples` (boot second, real second).
    fn clock(samples: &[(u64, i64)]) -> Clock {
        let mut clock = Clock::default();
        for &(b, r) in samples {
            clock.apply(ClockSample { boot: boot(b), real: at(r) });
        }
        clock
    }

    fn flow(first: i64, last: i64) -> Interval {
        Interval { first: at(first), last: at(last) }
    }

    #[test]
    fn a_steady_clock_has_one_answer() {
        let clock = clock(&[(100, 1_000_100), (200, 1_000_200)]);
        assert_eq!(clock.samples.len(), 1, "the second sample says nothing new");
        assert_eq!(*clock.stretches(flow(1_000_150, 1_000_160)), [boot(150)..=boot(160)]);
        assert_eq!(clock.to_real(boot(150)), Some(at(1_000_150)));
    }

    #[test]
    fn a_clock_of_which_nothing_is_known_has_no_answer() {
        assert!(Clock::default().stretches(flow(1, 2)).is_empty());
    }

    #[test]
    fn an_hour_shown_twice_has_two_answers() {
        // At boot second 5000 the clock goes back from 15000 to 11400.
        let clock = clock(&[(0, 10_000), (5_000, 15_000 - HOUR)]);
        assert_eq!(
            *clock.stretches(flow(12_000, 12_010)),
            [boot(2_000)..=boot(2_010), boot(5_600)..=boot(5_610)]
        );
    }

    #[test]
    fn a_flow_across_a_step_back_is_one_stretch() {
        let clock = clock(&[(0, 10_000), (5_000, 15_000 - HOUR)]);
        // Begins at boot 4998 (14998 shown), ends at boot 5003 (11403 shown).
        let stretches = clock.stretches(flow(14_998, 11_403));
        assert!(stretches.contains(&(boot(4_998)..=boot(5_003))), "{stretches:?}");
    }

    #[test]
    fn a_flow_across_a_step_forward_keeps_its_true_length() {
        let clock = clock(&[(0, 10_000), (5_000, 15_000 + HOUR)]);
        assert_eq!(*clock.stretches(flow(14_998, 15_003 + HOUR)), [boot(4_998)..=boot(5_003)]);
    }

    #[test]
    fn a_stamp_in_the_skipped_hour_is_the_moment_of_the_step() {
        let clock = clock(&[(0, 10_000), (5_000, 15_000 + HOUR)]);
        assert_eq!(*clock.stretches(flow(16_000, 16_000)), [boot(5_000)..=boot(5_000)]);
    }

    #[test]
    fn a_record_that_ends_before_it_began_covers_both() {
        let clock = clock(&[(0, 10_000)]);
        assert_eq!(*clock.stretches(flow(10_020, 10_010)), [boot(10)..=boot(20)]);
    }
}
