//! Busy and quiet periods, and subflows, as CICFlowMeter defines them: more than five seconds without a
//! packet of either direction are a quiet period, what lies between two such a busy one; more than one
//! second begins another subflow.
//!
//! The last busy period counts like the others.

use super::{Family, Step, Summary};
use crate::flow::Flow;
use crate::key::Timestamp;

/// A quiet period is longer than this, in nanoseconds.
const QUIET: u64 = 5_000_000_000;
/// Two packets with more than this in between are of two subflows, in nanoseconds.
const APART: u64 = 1_000_000_000;

/// Busy and quiet periods of a flow.
#[derive(Clone, Debug, Default)]
pub struct Activity {
    /// When the busy period began that is not over.
    began: Timestamp,
    /// Those that are over; most flows have none.
    over: Option<Box<Over>>,
    /// How many quiet periods there are; of busy ones, one more.
    pub quiets: u32,
    /// How often more than a second passed.
    apart: u32,
}

/// Periods that are over, in nanoseconds.
#[derive(Clone, Debug, Default)]
struct Over {
    busy: Summary,
    quiet: Summary,
}

impl Activity {
    /// The busy periods in nanoseconds, and how many there are.
    #[must_use]
    pub fn busy(&self, flow: &Flow) -> (Summary, u64) {
        let mut busy = self.over.as_ref().map(|over| over.busy).unwrap_or_default();
        let last = flow.last().0.saturating_sub(self.began.0);
        busy.add(u64::try_from(last).unwrap_or(0));
        (busy, u64::from(self.quiets) + 1)
    }

    /// The quiet periods in nanoseconds, and how many there are.
    #[must_use]
    pub fn quiet(&self) -> (Summary, u64) {
        let quiet = self.over.as_ref().map(|over| over.quiet).unwrap_or_default();
        (quiet, u64::from(self.quiets))
    }

    /// How many subflows there are.
    #[must_use]
    pub fn subflows(&self) -> u64 {
        u64::from(self.apart) + 1
    }
}

impl Family for Activity {
    #[inline]
    fn see(&mut self, step: &Step<'_>) {
        let now = step.packet.time;
        let Some(gap) = step.gap else {
            self.began = now;
            return;
        };
        self.apart += u32::from(gap > APART);
        if gap > QUIET {
            // Where the gap begins the busy period ends.
            let busy = now.0.saturating_sub(self.began.0).saturating_sub_unsigned(gap);
            let over = self.over.get_or_insert_default();
            over.busy.add(u64::try_from(busy).unwrap_or(0));
            over.quiet.add(gap);
            self.quiets += 1;
            self.began = now;
        }
    }
}
