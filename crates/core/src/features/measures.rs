//! What can be asked of a record: the one place where counters and families become numbers. Columns add
//! only a name and a unit.
//!
//! Nothing is made up: what cannot be said - a deviation of one value, a rate over no time - is `None`.

use super::{Accounting, Summary};
use crate::flow::{Counters, Direction, Record};
use crate::key::Timestamp;

/// Which packets of a flow a number is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Those of both directions.
    Both,
    /// Those from the initiator.
    Forward,
    /// Those to the initiator.
    Reverse,
}

/// What is asked of a summary of so many numbers.
pub(crate) type Of = fn(&Summary, u64) -> Option<f64>;

/// The least of them.
pub(crate) fn least(summary: &Summary, count: u64) -> Option<f64> {
    summary.least(count).map(|least| least as f64)
}

/// The greatest of them.
pub(crate) fn most(summary: &Summary, count: u64) -> Option<f64> {
    summary.most(count).map(|most| most as f64)
}

impl Record {
    fn of(&self, way: Way) -> [Option<&Counters>; 2] {
        let both = &self.flow.counters;
        match way {
            Way::Both => [Some(&both.forward), Some(&both.reverse)],
            Way::Forward => [Some(&both.forward), None],
            Way::Reverse => [Some(&both.reverse), None],
        }
    }

    fn sum(&self, way: Way, what: impl Fn(&Counters) -> u64) -> u64 {
        self.of(way).into_iter().flatten().map(what).sum()
    }

    /// How many packets.
    #[must_use]
    pub fn packets(&self, way: Way) -> u64 {
        self.sum(way, |counters| counters.packets)
    }

    /// The octets of these packets, by any of their lengths.
    #[must_use]
    pub fn octets(&self, way: Way, accounting: Accounting) -> u64 {
        self.sum(way, |counters| match accounting {
            Accounting::Wire => counters.wire_octets,
            Accounting::Ip => counters.ip_octets,
            Accounting::Transport => counters.transport_octets,
            Accounting::Payload => counters.payload_octets,
        })
    }

    /// When the first of them came.
    #[must_use]
    pub fn first(&self, way: Way) -> Option<Timestamp> {
        (self.packets(way) > 0).then(|| match way {
            Way::Both => self.flow.first(),
            Way::Forward => self.flow.counters.forward.first,
            Way::Reverse => self.flow.counters.reverse.first,
        })
    }

    /// When the last of them came.
    #[must_use]
    pub fn last(&self, way: Way) -> Option<Timestamp> {
        (self.packets(way) > 0).then(|| match way {
            Way::Both => self.flow.last(),
            Way::Forward => self.flow.counters.forward.last,
            Way::Reverse => self.flow.counters.reverse.last,
        })
    }

    /// From the first to the last, in nanoseconds.
    #[must_use]
    pub fn duration(&self, way: Way) -> Option<u64> {
        let (first, last) = (self.first(way)?, self.last(way)?);
        Some(u64::try_from(last.0.saturating_sub(first.0)).unwrap_or(0))
    }

    /// So many of something in the flow's whole duration, by the second; none if it took no time.
    #[must_use]
    pub fn rate(&self, count: u64) -> Option<f64> {
        let duration = self.duration(Way::Both).filter(|&duration| duration > 0)?;
        Some(count as f64 * 1e9 / duration as f64)
    }

    /// The sizes of these packets, and how many there are.
    #[must_use]
    pub fn sizes(&self, way: Way) -> Option<(Summary, u64)> {
        let sizes = &self.features.sizes.as_ref()?.0;
        let summary = match way {
            Way::Both => sizes.forward.and(&sizes.reverse),
            Way::Forward => sizes.forward,
            Way::Reverse => sizes.reverse,
        };
        Some((summary, self.packets(way)))
    }

    /// The times between these packets in nanoseconds, and how many there are.
    #[must_use]
    pub fn gaps(&self, way: Way) -> Option<(Summary, u64)> {
        let gaps = self.features.gaps.as_ref()?;
        let summary = match way {
            Way::Both => gaps.any,
            Way::Forward => gaps.own.forward,
            Way::Reverse => gaps.own.reverse,
        };
        Some((summary, self.packets(way).saturating_sub(1)))
    }

    /// Something of the sizes of these packets.
    pub(crate) fn size(&self, way: Way, what: Of) -> Option<f64> {
        self.sizes(way).and_then(|(summary, count)| what(&summary, count))
    }

    /// Something of the times between these packets, in nanoseconds.
    pub(crate) fn gap(&self, way: Way, what: Of) -> Option<f64> {
        self.gaps(way).and_then(|(summary, count)| what(&summary, count))
    }

    /// How many of these packets have a TCP flag, by its bit in the header.
    #[must_use]
    pub fn flag(&self, way: Way, bit: usize) -> Option<u64> {
        let count = &self.features.flags.as_ref()?.count;
        let of = |direction| count.of(direction).get(bit).copied().map(u64::from);
        match way {
            Way::Both => Some(of(Direction::Forward)? + of(Direction::Reverse)?),
            Way::Forward => of(Direction::Forward),
            Way::Reverse => of(Direction::Reverse),
        }
    }
}
