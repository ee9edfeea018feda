//! The leaves of the tree: intervals that are alone at their place, as they lie in memory.
//!
//! To look at one is to wait for the memory once for each line of it (64 bytes on nearly all processors).
//! So one with IPv4 addresses is laid out to be a single line; others are 80 bytes.

use std::hash::BuildHasher;
use std::net::IpAddr;

use foldhash::fast::RandomState;
use procflow_core::{Endpoint, Protocol};

use crate::socket::{Role, SocketId};
use crate::timeline::{Dated, Presence};

/// A span as it is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interval {
    pub(crate) socket: SocketId,
    pub(crate) presence: Presence,
    /// Which of the owner sets.
    pub(crate) owners: u32,
    pub(crate) role: Role,
    pub(crate) goes_on: bool,
    pub(crate) dual_stack: bool,
}

impl Interval {
    /// Anything that cannot be had without it.
    #[inline]
    pub(crate) fn touch(&self) -> u64 {
        self.socket.0
    }
}

impl Dated for Interval {
    fn presence(&self) -> &Presence {
        &self.presence
    }

    fn presence_mut(&mut self) -> &mut Presence {
        &mut self.presence
    }

    fn number(&self) -> u64 {
        self.socket.0
    }
}

/// A node as it is kept: the namespace numbered, and in no more room than it needs. There is one way
/// only to keep a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// The addresses are IPv4's, or the local one is and there is no peer.
    Narrow(Narrow),
    Wide(Wide),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Narrow {
    local: u32,
    /// 0 where there is no peer.
    remote: u32,
    ports: [u16; 2],
    /// The namespace's number, the protocol's, and whether there is a peer.
    place: u32,
}

/// The same with addresses as IPv6 has them (an IPv4 one mapped, RFC 4291 section 2.5.5.2, which no
/// other canonical address is).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wide {
    local: [u64; 2],
    /// Unspecified where there is no peer.
    remote: [u64; 2],
    ports: [u16; 2],
    place: u32,
}

/// Namespaces that can be told apart.
pub(crate) const MOST_NAMESPACES: u32 = 1 << 23;

/// The upper part of a mapped IPv4 address.
const MAPPED: u128 = 0xffff << 32;

/// An address as IPv6 has it, as a number.
#[inline]
pub(crate) fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => MAPPED | u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl Key {
    pub(crate) fn new(
        namespace: u32,
        protocol: Protocol,
        local: Endpoint,
        remote: Option<Endpoint>,
    ) -> Self {
        let remote = remote.map(|end| (bits(end.address()), end.port()));
        Self::of_bits(namespace, protocol, (bits(local.address()), local.port()), remote)
    }

    /// The same of endpoints that are numbers: canonical addresses as [`bits`] gives them, and ports.
    #[inline]
    pub(crate) fn of_bits(
        namespace: u32,
        protocol: Protocol,
        (local, here): (u128, u16),
        remote: Option<(u128, u16)>,
    ) -> Self {
        let place = namespace << 9 | u32::from(protocol.0) << 1 | u32::from(remote.is_some());
        // Without a peer what is narrow has 0 for it, and what is wide has, too.
        let (narrow, there) =
            (|bits: u128| bits >> 32 == MAPPED >> 32, remote.map_or(0, |end| end.1));
        let ports = [here, there];
        if narrow(local) && remote.is_none_or(|(remote, _)| narrow(remote)) {
            let remote = remote.map_or(0, |(remote, _)| remote as u32);
            Self::Narrow(Narrow { local: local as u32, remote, ports, place })
        } else {
            let words = |bits: u128| [(bits >> 64) as u64, bits as u64];
            let remote = remote.map_or(0, |(remote, _)| remote);
            Self::Wide(Wide { local: words(local), remote: words(remote), ports, place })
        }
    }

    pub(crate) fn namespace(&self) -> u32 {
        match self {
            Self::Narrow(Narrow { place, .. }) | Self::Wide(Wide { place, .. }) => place >> 9,
        }
    }

    #[inline]
    pub(crate) fn hash(&self, state: &RandomState) -> u64 {
        let rest = |[here, there]: [u16; 2], place: u32| {
            u64::from(here) << 48 | u64::from(there) << 32 | u64::from(place)
        };
        match *self {
            Self::Narrow(Narrow { local, remote, ports, place }) => {
                state.hash_one((u64::from(local) << 32 | u64::from(remote), rest(ports, place)))
            }
            Self::Wide(Wide { local: [a, b], remote: [c, d], ports, place }) => {
                state.hash_one((a, b, c, d, rest(ports, place)))
            }
        }
    }
}

/// A line of memory.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line(Narrow, Interval);

/// All leaves. Each has a number; those with [`WIDE`] in it are 80 bytes.
#[derive(Debug, Default)]
pub(crate) struct Leaves {
    narrow: Vec<Line>,
    wide: Vec<(Wide, Interval)>,
}

/// All leaves, to look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SeenLeaves<'a> {
    narrow: &'a [Line],
    wide: &'a [(Wide, Interval)],
}

const WIDE: u32 = 1 << 30;

/// All numbers of leaves are less.
pub(crate) const BEYOND: u32 = 1 << 31;

impl<'a> SeenLeaves<'a> {
    #[inline]
    pub(crate) fn get(&self, number: u32) -> Option<(Key, &'a Interval)> {
        if number & WIDE == 0 {
            self.narrow.get(number as usize).map(|line| (Key::Narrow(line.0), &line.1))
        } else {
            self.wide.get((number & !WIDE) as usize).map(|leaf| (Key::Wide(leaf.0), &leaf.1))
        }
    }

    /// The same without its key; nothing of it is looked at.
    #[inline]
    pub(crate) fn interval(&self, number: u32) -> Option<&'a Interval> {
        if number & WIDE == 0 {
            self.narrow.get(number as usize).map(|line| &line.1)
        } else {
            self.wide.get((number & !WIDE) as usize).map(|leaf| &leaf.1)
        }
    }
}

impl Leaves {
    pub(crate) fn len(&self) -> usize {
        self.narrow.len() + self.wide.len()
    }

    pub(crate) fn get(&self, number: u32) -> Option<(Key, &Interval)> {
        self.seen().get(number)
    }

    /// Them without the way to them.
    pub(crate) fn seen(&self) -> SeenLeaves<'_> {
        SeenLeaves { narrow: &self.narrow, wide: &self.wide }
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut Interval> {
        if number & WIDE == 0 {
            self.narrow.get_mut(number as usize).map(|line| &mut line.1)
        } else {
            self.wide.get_mut((number & !WIDE) as usize).map(|leaf| &mut leaf.1)
        }
    }

    /// Adds one; its number.
    pub(crate) fn push(&mut self, key: Key, interval: Interval) -> u32 {
        match key {
            Key::Narrow(key) => {
                self.narrow.push(Line(key, interval));
                number(self.narrow.len() - 1)
            }
            Key::Wide(key) => {
                self.wide.push((key, interval));
                WIDE | number(self.wide.len() - 1)
            }
        }
    }

    /// Takes one out. Another one may get its number: which, and what its number was.
    pub(crate) fn take(&mut self, taken: u32) -> (Interval, Option<(Key, u32)>) {
        let at = (taken & !WIDE) as usize;
        if taken & WIDE == 0 {
            let interval = self.narrow.swap_remove(at).1;
            let moved = self.narrow.get(at).map(|line| Key::Narrow(line.0));
            (interval, moved.map(|key| (key, number(self.narrow.len()))))
        } else {
            let interval = self.wide.swap_remove(at).1;
            let moved = self.wide.get(at).map(|leaf| Key::Wide(leaf.0));
            (interval, moved.map(|key| (key, WIDE | number(self.wide.len()))))
        }
    }

    /// Forgets those that are not wanted; the others get new numbers.
    pub(crate) fn retain(&mut self, wanted: impl Fn(&Presence) -> bool) {
        self.narrow.retain(|line| wanted(&line.1.presence));
        self.narrow.shrink_to(self.narrow.len() * 2);
        self.wide.retain(|leaf| wanted(&leaf.1.presence));
        self.wide.shrink_to(self.wide.len() * 2);
    }

    /// All keys with their numbers.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (Key, u32)> {
        let narrow = self.narrow.iter().map(|line| Key::Narrow(line.0)).zip(0..);
        narrow.chain(self.wide.iter().map(|leaf| Key::Wide(leaf.0)).zip(WIDE..))
    }

    pub(crate) fn intervals_mut(&mut self) -> impl Iterator<Item = &mut Interval> {
        let narrow = self.narrow.iter_mut().map(|line| &mut line.1);
        narrow.chain(self.wide.iter_mut().map(|leaf| &mut leaf.1))
    }
}

/// A leaf's number among those of its size: 2^30 would take 64 GiB.
fn number(at: usize) -> u32 {
    u32::try_from(at).ok().filter(|&at| at < WIDE).expect("more intervals than memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_a_line_or_80_bytes() {
        assert_eq!((size_of::<Line>(), size_of::<(Wide, Interval)>()), (64, 80));
    }

    #[test]
    fn what_fits_is_narrow_and_what_differs_is_told_apart() {
        let end = |address: &str, port| Endpoint::new(address.parse::<IpAddr>().unwrap(), port);
        let four = (end("10.0.0.1", 80), end("255.255.255.255", 9));
        let six = (end("2001:db8::1", 80), end("::", 0));
        let mut all = Vec::new();
        for (local, remote, fits) in [
            (four.0, Some(four.1), true),
            (four.0, None, true),
            (four.0, Some(end("0.0.0.0", 0)), true),
            (four.0, Some(six.0), false),
            (six.0, Some(four.0), false),
            (six.1, None, false),
            (six.1, Some(six.1), false),
            (end("0.0.0.0", 53), None, true),
        ] {
            for (namespace, protocol) in
                [(7, Protocol::UDP), (7, Protocol::TCP), (8, Protocol::UDP)]
            {
                let key = Key::new(namespace, protocol, local, remote);
                assert_eq!(matches!(key, Key::Narrow(_)), fits, "{local} {remote:?}");
                assert_eq!(key.namespace(), namespace);
                assert!(!all.contains(&key), "{local} {remote:?}");
                all.push(key);
            }
        }
    }
}
