//! Inter-arrival times: from a packet to the next one of the same direction, and to the next one of
//! either. The first packet of a sequence has none. A packet that was captured after a later one comes
//! after no time at all.

use super::{Family, Step, Summary};
use crate::flow::Both;

/// The times between a flow's packets, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Gaps {
    /// Between packets of one direction: one less than its packets.
    pub own: Both<Summary>,
    /// Between packets of either direction.
    pub any: Summary,
}

impl Family for Gaps {
    #[inline]
    fn see(&mut self, step: &Step<'_>) {
        if let Some(gap) = step.gap {
            self.any.add(gap);
        }
        if let Some(gap) = step.own_gap {
            self.own.of_mut(step.direction).add(gap);
        }
    }
}
