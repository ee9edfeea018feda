//! A feature is a number about a flow. Those that belong together are a family, a file here; a family has
//! a state in each flow, sees each packet once, and takes memory only where a column needs it.
//!
//! What the columns are called, what they mean and how they come from the families is in `table.rs`, for
//! the code, the documentation and the tests alike.

#[macro_use]
mod column;
mod activity;
mod bulk;
mod community_id;
pub(crate) mod dissection;
mod first_packets;
mod flags;
mod gaps;
mod histograms;
pub(crate) mod measures;
mod moments;
mod names;
mod sizes;
mod summary;
pub(crate) mod table;
mod tcp;

use crate::flow::{Direction, Flow, Settings, Slab};
use crate::packet::{Packet, Tcp, Transport};

pub use activity::Activity;
pub use bulk::{Bulk, Bulks};
pub use column::{Column, Kind, List, Value};
pub use community_id::community_id;
pub use first_packets::FirstPacket;
pub use flags::Flags;
pub use gaps::Gaps;
pub use histograms::{Histograms, gap_bounds, size_bounds};
pub use measures::Way;
pub use moments::{Moments, Shape};
pub use names::{OtherName, Vocabulary};
pub use sizes::Sizes;
pub use summary::Summary;
pub use table::{column, columns, process_columns};
pub use tcp::{TcpSide, TcpState};

/// Which length of a packet the statistics of sizes are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Accounting {
    /// The frame.
    Wire,
    /// The IP packet.
    #[default]
    Ip,
    /// The transport header and payload.
    Transport,
    /// The transport's payload.
    Payload,
}

/// What a family sees of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The packet.
    pub packet: &'a Packet,
    /// Which way it goes.
    pub direction: Direction,
    /// Its length, the one that is accounted.
    pub size: u32,
    /// Nanoseconds since the latest packet of either direction, 0 if it comes before it; none for the
    /// first.
    pub gap: Option<u64>,
    /// Nanoseconds since the latest packet of this direction, likewise.
    pub own_gap: Option<u64>,
    /// How many packets of the flow came before it.
    pub before: u64,
    /// How many of this direction.
    pub own_before: u64,
}

impl<'a> Step<'a> {
    /// The next step of a flow that has not counted this packet yet.
    #[inline]
    pub(crate) fn of(
        flow: &Flow,
        direction: Direction,
        packet: &'a Packet,
        accounting: Accounting,
    ) -> Self {
        let size = match accounting {
            Accounting::Wire => packet.lengths.wire,
            Accounting::Ip => packet.lengths.ip,
            Accounting::Transport => packet.lengths.transport,
            Accounting::Payload => packet.lengths.payload,
        };
        let (own, other) = (flow.counters.of(direction), flow.counters.of(direction.other()));
        let since = |last: i64| u64::try_from(packet.time.0.saturating_sub(last)).unwrap_or(0);
        Self {
            packet,
            direction,
            size,
            gap: (own.packets + other.packets > 0).then(|| since(own.last.0.max(other.last.0))),
            own_gap: (own.packets > 0).then(|| since(own.last.0)),
            before: own.packets + other.packets,
            own_before: own.packets,
        }
    }

    /// The TCP header, if there is one.
    #[must_use]
    pub fn tcp(&self) -> Option<&'a Tcp> {
        match &self.packet.transport {
            Transport::Tcp(tcp) => Some(tcp),
            _ => None,
        }
    }
}

/// A family that keeps a state in each flow.
trait Family: Clone + Default {
    fn see(&mut self, step: &Step<'_>);
}

/// Families by name: what of flows is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Needs(u16);

impl Needs {
    /// Nothing but what every flow has.
    pub const NONE: Self = Self(0);
    /// What the flow speaks, by its first messages.
    pub const DISSECTION: Self = Self(1 << 13);
    /// The first packets one by one.
    pub const FIRST_PACKETS: Self = Self(1 << 15);
    /// Skewness and kurtosis of sizes and gaps, and these.
    pub const MOMENTS: Self = Self(1 << 14).and(Self::SIZES).and(Self::GAPS);

    /// These and those.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These without those.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of these are among them.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The list of families, once: their names, states and bits.
macro_rules! families {
    ($($(#[$doc:meta])* $name:ident: $state:ty, $need:ident, $bit:literal;)*) => {
        impl Needs {
            $($(#[$doc])* pub const $need: Self = Self(1 << $bit);)*
        }

        /// What was measured of a flow, by families; none of those that nobody needs.
        #[derive(Clone, Debug, Default)]
        pub struct Features {
            $($(#[$doc])* pub $name: Option<$state>,)*
            /// Skewness and kurtosis of sizes and gaps.
            pub moments: Option<Moments>,
            /// The first packets one by one.
            pub first_packets: Vec<FirstPacket>,
        }

        /// The states of the families in all flows of a cache.
        #[derive(Debug)]
        pub(crate) struct States {
            $($name: Option<Slab<$state>>,)*
            moments: Option<Slab<Moments>>,
            first_packets: Option<Slab<FirstPacket>>,
            most: usize,
        }

        impl States {
            pub(crate) fn new(settings: &Settings) -> Self {
                let most = usize::from(settings.first_packets);
                let list = settings.needs.has(Needs::FIRST_PACKETS) && most > 0;
                Self {
                    $($name: settings.needs.has(Needs::$need).then(|| Slab::new(1)),)*
                    moments: settings.needs.has(Needs::MOMENTS).then(|| Slab::new(1)),
                    first_packets: list.then(|| Slab::new(most)),
                    most,
                }
            }

            /// Makes sure that there is room for this flow.
            pub(crate) fn reach(&mut self, flow: u32) {
                $(if let Some(states) = &mut self.$name { states.reach(flow, &<$state>::default()); })*
                if let Some(states) = &mut self.moments {
                    states.reach(flow, &Moments::default());
                }
                if let Some(states) = &mut self.first_packets {
                    states.reach(flow, &FirstPacket::default());
                }
            }

            /// A flow begins; whatever its number stood for before is over.
            pub(crate) fn begin(&mut self, flow: u32) {
                $(if let Some(states) = &mut self.$name { *states.one_mut(flow) = <$state>::default(); })*
                if let Some(states) = &mut self.moments {
                    *states.one_mut(flow) = Moments::default();
                }
            }

            /// Shows a packet of a flow to the families.
            #[inline]
            pub(crate) fn see(&mut self, flow: u32, step: &Step<'_>) {
                if let (Some(states), Some(sizes), Some(gaps)) =
                    (&mut self.moments, &self.sizes, &self.gaps)
                {
                    states.one_mut(flow).see(step, sizes.one(flow), gaps.one(flow));
                }
                $(if let Some(states) = &mut self.$name { states.one_mut(flow).see(step); })*
                if let Some(states) = &mut self.first_packets
                    && step.before < self.most as u64
                {
                    states.all_mut(flow)[step.before as usize] = FirstPacket::of(step);
                }
            }

            /// What was measured of a flow.
            pub(crate) fn end(&self, number: u32, flow: &Flow) -> Features {
                let listed = usize::try_from(flow.packets()).unwrap_or(usize::MAX).min(self.most);
                Features {
                    $($name: self.$name.as_ref().map(|states| states.one(number).clone()),)*
                    moments: self.moments.as_ref().map(|states| states.one(number).clone()),
                    first_packets: match &self.first_packets {
                        Some(states) => states.all(number)[..listed].to_vec(),
                        None => Vec::new(),
                    },
                }
            }
        }
    };
}

families! {
    /// Sizes of packets: least, most, mean, deviation.
    sizes: Sizes, SIZES, 0;
    /// Times between packets: least, most, mean, deviation.
    gaps: Gaps, GAPS, 1;
    /// TCP flags.
    flags: Flags, FLAGS, 2;
    /// How many packets are of which size, and come after which time.
    histograms: Histograms, HISTOGRAMS, 4;
    /// What TCP tells of the path and of both ends.
    tcp: TcpState, TCP, 5;
    /// Busy and quiet periods.
    activity: Activity, ACTIVITY, 6;
    /// Bulk transfers.
    bulks: Bulks, BULKS, 7;
}
