//! A shard is a cache of its own, for a part of all conversations: those of some pairs of addresses and
//! protocols, so that the fragments of a packet are in one. Each shard sees its packets in the sequence of
//! the capture, so what comes out of it does not depend on who does the work.

use super::{BiflowKey, Cache, Record, Settings};
use crate::dissect::Learnt;
use crate::key::{Protocol, Timestamp};
use crate::packet::{Address, Fragments, Packet};
use crate::plugin::Attached;

/// What a shard is to do.
#[derive(Clone, Debug)]
pub(super) enum Task {
    /// Count a packet.
    Count { packet: Packet, now: Timestamp },
    /// This host was told an address for a name.
    Learn { client: Address, network: ([u16; 2], u32), learnt: Learnt, now: Timestamp },
    /// Hand out what is due.
    Expire { now: Timestamp },
    /// Hand out everything.
    AllOver { now: Timestamp },
    /// Hand out the flows that began until then, and wait for the next such word: nothing else follows.
    Leave { until: Timestamp, now: Timestamp },
}

/// A part of all flows.
#[derive(Debug)]
pub(super) struct Shard {
    fragments: Fragments,
    cache: Cache,
    truncated: u64,
}

impl Shard {
    pub(super) fn new(settings: Settings, plugins: Attached) -> Self {
        let cache = Cache::with_plugins(settings, plugins);
        Self { fragments: Fragments::default(), cache, truncated: 0 }
    }

    pub(super) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Its plugins; nothing follows.
    pub(super) fn into_plugins(self) -> Attached {
        self.cache.into_plugins()
    }

    /// Packets that were captured in part.
    pub(super) fn truncated(&self) -> u64 {
        self.truncated
    }

    /// Does a task. Where the payload of its packet is, is said of these octets, if a plugin wants it.
    pub(super) fn run(&mut self, task: &Task, octets: &[u8], ended: &mut impl FnMut(&mut Record)) {
        let Self { fragments, cache, truncated } = self;
        match task {
            Task::Count { packet, now } => {
                *truncated += u64::from(packet.lengths.truncated);
                if packet.fragment.is_none() {
                    return cache.observe_with(packet, octets, *now, ended);
                }
                fragments.take(*packet, *now, |packet| {
                    cache.observe_with(&packet, octets, *now, &mut *ended);
                });
            }
            Task::Learn { client, network, learnt, now } => {
                cache.learn(*client, *network, learnt, *now);
            }
            Task::Expire { now } => cache.expire(*now, ended),
            Task::AllOver { now } => {
                fragments.finish(|packet| cache.observe(&packet, *now, &mut *ended));
                cache.finish(*now, ended);
            }
            Task::Leave { until, now } => {
                fragments.finish(|packet| cache.observe(&packet, *now, &mut *ended));
                cache.leave(*until, *now, ended);
            }
        }
    }
}

/// Which of so many shards a packet belongs to: the same for both directions, and for all fragments of a
/// packet.
#[inline]
pub(super) fn shard_of(packet: &Packet, shards: usize) -> usize {
    shard_between(packet.source, packet.destination, packet.protocol, shards)
}

/// Which shard the packets of a protocol between two hosts belong to.
#[inline]
pub(super) fn shard_between(a: Address, b: Address, protocol: Protocol, shards: usize) -> usize {
    let (a, b) = (a.0, b.0);
    let fold = |address: u128| (address ^ (address >> 64)) as u64;
    let both = fold(a).wrapping_add(fold(b)) ^ fold(a ^ b).rotate_left(32);
    let mixed = (both ^ u64::from(protocol.0)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // The upper half of a product is mixed best.
    ((mixed >> 32) as usize * shards) >> 32
}

/// The order of records that end at the same moment.
pub(super) type Order = (Timestamp, Timestamp, BiflowKey);

impl Record {
    pub(super) fn order(&self) -> Order {
        (self.ended, self.flow.first(), self.flow.key())
    }
}
