//! A question is what the histories are asked of one end of a flow: who was it, in this stretch of
//! time, as far off as the clocks may be?

use std::cell::Cell;
use std::ops::RangeInclusive;

use procflow_core::FlowKey;

use crate::clock::BootTime;
use crate::kernel::Speaker;

/// One end of a flow, seen from the socket there.
#[derive(Clone, Copy)]
pub(crate) struct End {
    /// Its own endpoint is the source, whichever way the packets went.
    pub(crate) key: FlowKey,
    /// Who can have sent them, or have been meant to receive them.
    pub(crate) speaker: Speaker,
}

/// Who was this end, in this stretch of a history's time?
#[derive(Clone)]
pub(crate) struct Question<'a> {
    pub(crate) end: End,
    pub(crate) stretch: RangeInclusive<BootTime>,
    pub(crate) tolerance: u64,
    pub(crate) granularity: u64,
    /// So many translations lie between the flow and this question.
    pub(crate) depth: u8,
    /// Somebody translates it around that time: then silence is not the kernel's.
    pub(crate) translated: bool,
    pub(crate) budget: &'a Budget,
}

/// How many places may still be asked on behalf of one end. Translations fan out, and a tracker
/// could tell of so many that one flow would be asked about forever.
pub(crate) struct Budget(Cell<u32>);

impl Budget {
    /// Far more than honest nests of containers need.
    pub(crate) fn new() -> Self {
        Self(Cell::new(256))
    }

    /// Whether one more may be asked.
    pub(crate) fn spend(&self) -> bool {
        let left = self.0.get().checked_sub(1);
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }
}

impl Question<'_> {
    /// Its last moment at the latest; the record's own was rounded down.
    fn end(&self) -> BootTime {
        self.stretch.end().plus(self.granularity)
    }

    /// The stretch with the tolerance on both sides: the flow lies certainly within.
    pub(crate) fn around(&self) -> RangeInclusive<BootTime> {
        self.stretch.start().minus(self.tolerance)..=self.end().plus(self.tolerance)
    }

    /// Whether what was seen from one moment to another was seen while the flow lasted, by the
    /// record's own times.
    pub(crate) fn in_time(&self, first_seen: BootTime, last_seen: BootTime) -> bool {
        first_seen <= self.end() && *self.stretch.start() <= last_seen
    }

    /// Whether it was, however the clock was off within the tolerance.
    pub(crate) fn certain(&self, first_seen: BootTime, last_seen: BootTime) -> bool {
        let latest_start = self.stretch.start().plus(self.granularity).plus(self.tolerance);
        first_seen.plus(self.tolerance) <= *self.stretch.end() && latest_start <= last_seen
    }
}
