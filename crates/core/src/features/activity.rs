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

/// Busy and quiet periods of a flow, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Activity {
    /// When the busy period began that is not over.
    began: Timestamp,
    /// Where the one before it ended.
    latest: Timestamp,
    busy: Summary,
    /// Quiet periods.
    pub quiet: Summary,
    /// How many quiet periods there are; of busy ones, one more.
    pub quiets: u32,
    /// How often more than a second passed.
    apart: u32,
}

impl Activity {
    /// The busy periods, and how many there are.
    #[must_use]
    pub fn busy(&self, flow: &Flow) -> (Summary, u64) {
        let mut busy = self.busy;
        let last = flow.last().0.saturating_sub(self.began.0);
        busy.add(u64::try_from(last).unwrap_or(0));
        (busy, u64::from(self.quiets) + 1)
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
        match step.gap {
            None => self.began = now,
            Some(gap) => {
                self.apart += u32::from(gap > APART);
                if gap > QUIET {
                    let busy = self.latest.0.saturating_sub(self.began.0);
                    self.busy.add(u64::try_from(busy).unwrap_or(0));
                    self.quiet.add(gap);
                    self.quiets += 1;
                    self.began = now;
                }
            }
        }
        self.latest = self.latest.max(now);
        if step.gap.is_none() {
            self.latest = now;
        }
    }
}
