//! Histograms: how many packets are of which size, and come after which time, in steps that are the same
//! for all flows.

use super::{Family, Step};
use crate::flow::Both;

/// The greatest size in each step but the last, in octets: those of RFC 2819 (etherStatsPkts), and frames
/// that are longer than Ethernet's.
const SIZES: [u32; 7] = [64, 127, 255, 511, 1023, 1518, 9018];

/// The least time that is beyond each step but the last, in nanoseconds: 10 us, 100 us, ... 10 s.
const GAPS: [u64; 7] =
    [10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000, 10_000_000_000];

/// The greatest size in each step but the last, in octets.
#[must_use]
pub const fn size_bounds() -> [u32; 7] {
    SIZES
}

/// The least time beyond each step but the last, in nanoseconds.
#[must_use]
pub const fn gap_bounds() -> [u64; 7] {
    GAPS
}

/// How many packets are in each step.
#[derive(Clone, Debug, Default)]
pub struct Histograms {
    /// By size.
    pub sizes: Both<[u32; 8]>,
    /// By the time since the packet before of the same direction.
    pub gaps: Both<[u32; 8]>,
}

impl Family for Histograms {
    #[inline]
    fn see(&mut self, step: &Step<'_>) {
        let size = SIZES.iter().filter(|&&bound| step.size > bound).count();
        self.sizes.of_mut(step.direction)[size] += 1;
        if let Some(gap) = step.own_gap {
            let gap = GAPS.iter().filter(|&&bound| gap >= bound).count();
            self.gaps.of_mut(step.direction)[gap] += 1;
        }
    }
}
