//! Real time, as flow records carry it. (A host's own boot-time clock lives in `binding`.)

use std::fmt;

use serde::{Deserialize, Serialize};

/// A moment in nanoseconds since the Unix epoch, as some real-time clock told it: the clock may
/// have been wrong, and may have been stepped. Reaches from 1677 to 2262; arithmetic saturates.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// From milliseconds since the epoch, as nfcapd files have it; saturates.
    #[must_use]
    pub fn from_millis(millis: u64) -> Self {
        Self(i64::try_from(millis).unwrap_or(i64::MAX).saturating_mul(1_000_000))
    }

    /// As RFC 3339 has it, in UTC, with microseconds: `2026-11-21T12:00:00.000000Z`.
    #[must_use]
    pub fn rfc3339_micros(self) -> String {
        let time = jiff::Timestamp::from_nanosecond(self.0.into());
        // Any number of 64 bits is within its bounds.
        time.map(|time| format!("{time:.6}")).unwrap_or_default()
    }

    /// Milliseconds since the epoch, rounded down.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.0.div_euclid(1_000_000_000), self.0.rem_euclid(1_000_000_000))
    }
}

/// The first and the last packet of a flow, both inclusive (flowStartNanoseconds 156 and
/// flowEndNanoseconds 157 in the IPFIX registry).
///
/// `last` may lie before `first`: a record whose clock was stepped back in between really says
/// so, and the attribution can make sense of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Interval {
    /// When the first packet was seen.
    pub first: Timestamp,
    /// When the last packet was seen.
    pub last: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absurd_time_saturates() {
        assert_eq!(Timestamp::from_millis(u64::MAX).0, i64::MAX);
    }

    #[test]
    fn a_time_before_the_epoch_prints_its_fraction_forward() {
        assert_eq!(Timestamp(-1).to_string(), "-1.999999999");
    }
}
