//! The first packets of a flow one by one: which way, which size, after which time ("sequence of packet
//! lengths and times", SPLT).

use super::Step;
use crate::flow::Direction;

/// One of a flow's first packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FirstPacket {
    /// Twice the size, and 1 if it went back.
    size_and_way: u32,
    /// As two halves, which need no alignment of 8.
    gap: [u32; 2],
}

impl FirstPacket {
    pub(super) fn of(step: &Step<'_>) -> Self {
        let gap = step.gap.unwrap_or(0);
        let way = u32::from(step.direction == Direction::Reverse);
        let size = step.size.min(u32::MAX >> 1);
        Self { size_and_way: size << 1 | way, gap: [gap as u32, (gap >> 32) as u32] }
    }

    /// Which way it went.
    #[must_use]
    pub const fn direction(&self) -> Direction {
        if self.size_and_way & 1 == 0 { Direction::Forward } else { Direction::Reverse }
    }

    /// Its size in octets: the length that is accounted.
    #[must_use]
    pub const fn size(&self) -> u32 {
        self.size_and_way >> 1
    }

    /// Nanoseconds since the packet before, of either direction; 0 for the first.
    #[must_use]
    pub const fn gap(&self) -> u64 {
        self.gap[0] as u64 | (self.gap[1] as u64) << 32
    }
}
