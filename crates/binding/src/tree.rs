//! The binding tree of one boot of one host: every interval in which a socket was held, found by where
//! the socket was - its namespace, protocol, local endpoint and peer.
//!
//! Most places only ever hold one interval, and there may be ten million of them. So an interval is 64 or
//! 80 bytes and lies beside the others (`leaves.rs`); an open-addressed table of 8-byte slots finds it with two
//! accesses to memory, one more if a line of the table ran over; owners are numbered, for few sets of them hold all the sockets. A place that held
//! several has a [`Timeline`] of its own.
//!
//! Nothing here knows what an interval means for a flow: `matching.rs` does.

use std::hash::BuildHasher;
use std::ops::RangeInclusive;

use foldhash::HashMap;
use foldhash::fast::RandomState;
use procflow_core::{Endpoint, Protocol};
use smallvec::SmallVec;

use crate::clock::BootTime;
use crate::event::OwnerSet;
use crate::leaves::{BEYOND, Interval, Key, Leaves, MOST_NAMESPACES, SeenLeaves};
use crate::process::ProcessKey;
use crate::socket::{NamespaceId, Role, Socket, SocketId};
use crate::timeline::{Presence, Timeline};

/// A place in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) namespace: NamespaceId,
    pub(crate) protocol: Protocol,
    pub(crate) local: Endpoint,
    pub(crate) remote: Option<Endpoint>,
}

impl Node {
    pub(crate) fn of(socket: &Socket) -> Self {
        let protocol = socket.protocol();
        // What stands for a port where there are none (a ping socket's echo id) is in no flow.
        let bare = |end: Endpoint| if protocol.has_ports() { end } else { end.without_port() };
        let (local, remote) = (bare(socket.local()), socket.remote().map(bare));
        Self { namespace: socket.namespace(), protocol, local, remote }
    }
}

/// One socket held by one set of owners, as it is seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span<'a> {
    pub(crate) socket: SocketId,
    pub(crate) role: Role,
    pub(crate) owners: &'a [ProcessKey],
    pub(crate) presence: Presence,
    /// The same socket as in the span that ends where this one begins, in other hands.
    pub(crate) goes_on: bool,
    pub(crate) dual_stack: bool,
}

/// Some spans, in order; mostly one.
pub(crate) type Spans<'a> = SmallVec<[Span<'a>; 1]>;

/// A namespace's number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number(u32);

/// The ways to the leaves of a tree, for those who look for many of them at the same time.
///
/// To look for one is to wait twice for the memory: for the table, and for the leaf. Waiting for many
/// at once takes hardly longer, if nothing that is decided lies between their accesses. So it is done in
/// steps, each for all of them before the next one: [`Paths::seek`], [`Bucket::touch`],
/// [`Paths::approach`], a touch of the interval, [`Paths::reach`].
#[derive(Clone, Debug)]
pub(crate) struct Paths<'a> {
    buckets: &'a [Bucket],
    leaves: SeenLeaves<'a>,
    state: RandomState,
}

/// A node that is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sought {
    key: Key,
    hash: u64,
    /// The leaf, as soon as it is known.
    at: u32,
}

impl<'a> Paths<'a> {
    /// Begins to look for the sockets at one end that have the other as their peer, each as
    /// [`bits`](crate::leaves::bits) and a port; where in the table.
    #[inline]
    pub(crate) fn seek(
        &self,
        Number(namespace): Number,
        protocol: Protocol,
        [local, remote]: [(u128, u16); 2],
    ) -> Option<(Sought, &'a Bucket)> {
        let key = Key::of_bits(namespace, protocol, local, Some(remote));
        let hash = key.hash(&self.state);
        let bucket = self.buckets.get(home(self.buckets, hash))?;
        Some((Sought { key, hash, at: NOWHERE }, bucket))
    }

    /// Looks into the table: the leaf, of which nothing is looked at yet.
    #[inline]
    pub(crate) fn approach(&self, sought: &mut Sought, bucket: &Bucket) -> Option<&'a Interval> {
        sought.at = bucket.find(tag(sought.hash));
        if sought.at == NOWHERE && bucket.is_full() {
            sought.at = self.find_beyond(sought.hash);
        }
        // What is beyond all numbers is no leaf's, and neither is a branch.
        self.leaves.interval(sought.at)
    }

    /// The number with a hash's tag, behind its first bucket.
    #[cold]
    fn find_beyond(&self, hash: u64) -> u32 {
        let mut at = home(self.buckets, hash);
        loop {
            at = after(self.buckets, at);
            let Some(bucket) = self.buckets.get(at) else { return NOWHERE };
            let found = bucket.find(tag(hash));
            if found != NOWHERE || !bucket.is_full() {
                return found;
            }
        }
    }

    /// The node's only interval, and the number of its owner set; `None` too when there are several, or
    /// when looking so was not enough to find it.
    #[inline]
    pub(crate) fn reach(&self, sought: &Sought) -> Option<(&'a Presence, u32)> {
        let (key, interval) = self.leaves.get(sought.at)?;
        (key == sought.key).then_some((&interval.presence, interval.owners))
    }
}

/// No leaf has this number.
const NOWHERE: u32 = u32::MAX;

/// A node that held several.
#[derive(Debug)]
struct Branch {
    key: Key,
    timeline: Timeline<Interval>,
}

/// The whole tree.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Leads from keys to leaves and branches.
    table: Table,
    leaves: Leaves,
    branches: Vec<Branch>,
    owners: OwnerSets,
    numbers: HashMap<NamespaceId, u32>,
    state: RandomState,
}

/// Where the intervals of a node are: a leaf's number, or a branch's index and this bit.
const BRANCH: u32 = BEYOND;

impl Tree {
    /// How many intervals it holds.
    pub(crate) fn len(&self) -> usize {
        self.leaves.len() + self.branches.iter().map(|b| b.timeline.len()).sum::<usize>()
    }

    /// Takes an interval in.
    pub(crate) fn insert(&mut self, node: &Node, span: Span<'_>) {
        let Span { socket, role, owners, presence, goes_on, dual_stack } = span;
        let Some(namespace) = self.number(node.namespace) else { return };
        let key = Key::new(namespace, node.protocol, node.local, node.remote);
        let owners = self.owners.number(owners);
        let interval = Interval { socket, presence, owners, role, goes_on, dual_stack };
        let hash = key.hash(&self.state);
        match self.find(&key, hash) {
            None => {
                let (leaves, branches, state) = (&self.leaves, &self.branches, &self.state);
                self.table.make_room(|at| match leaves.get(at) {
                    Some((key, _)) if at & BRANCH == 0 => key.hash(state),
                    _ => branches[(at & !BRANCH) as usize].key.hash(state),
                });
                self.table.insert(hash, self.leaves.push(key, interval));
            }
            Some(at) if at & BRANCH != 0 => {
                self.branches[(at & !BRANCH) as usize].timeline.insert(interval);
            }
            Some(at) => {
                self.table.replace(hash, at, BRANCH | index(self.branches.len()));
                let mut timeline = Timeline::new();
                timeline.insert(self.take_leaf(at));
                timeline.insert(interval);
                self.branches.push(Branch { key, timeline });
            }
        }
    }

    /// Whoever holds a socket that was first seen then, and is there; `None` when it is not.
    pub(crate) fn there(
        &self,
        node: &Node,
        (first_seen, id): (BootTime, SocketId),
    ) -> Option<Span<'_>> {
        let interval = match self.position(node)? {
            at if at & BRANCH != 0 => {
                self.branches[(at & !BRANCH) as usize].timeline.there(first_seen, id.0)?
            }
            at => {
                let (_, interval) = self.leaves.get(at)?;
                is_it(interval, first_seen, id).then_some(interval)?
            }
        };
        Some(self.view(interval))
    }

    /// Such a socket turns out to be held by these.
    pub(crate) fn held_by(
        &mut self,
        node: &Node,
        (first_seen, id): (BootTime, SocketId),
        owners: &[ProcessKey],
    ) {
        let Some(at) = self.position(node) else { return };
        let number = self.owners.number(owners);
        if at & BRANCH != 0 {
            let timeline = &mut self.branches[(at & !BRANCH) as usize].timeline;
            if let Some(interval) = timeline.there_mut(first_seen, id.0) {
                interval.owners = number;
            }
        } else if let Some(interval) = self.leaves.get_mut(at)
            && is_it(interval, first_seen, id)
        {
            interval.owners = number;
        }
    }

    /// Such a socket is gone, or changed hands.
    pub(crate) fn finish(
        &mut self,
        node: &Node,
        (first_seen, id): (BootTime, SocketId),
        last_seen: BootTime,
        not_after: BootTime,
    ) {
        let Some(at) = self.position(node) else { return };
        if at & BRANCH != 0 {
            let timeline = &mut self.branches[(at & !BRANCH) as usize].timeline;
            timeline.finish(first_seen, id.0, last_seen, not_after);
        } else if let Some(interval) = self.leaves.get_mut(at)
            && is_it(interval, first_seen, id)
        {
            interval.presence.finish(last_seen, not_after);
        }
    }

    /// What may have been at a node at some moment of a stretch, in order; what is there still is there
    /// until `now`.
    pub(crate) fn touching(
        &self,
        node: &Node,
        stretch: &RangeInclusive<BootTime>,
        now: BootTime,
    ) -> Spans<'_> {
        match self.position(node) {
            None => Spans::new(),
            Some(at) if at & BRANCH != 0 => {
                let timeline = &self.branches[(at & !BRANCH) as usize].timeline;
                timeline.touching(stretch, now).into_iter().map(|one| self.view(one)).collect()
            }
            Some(at) => {
                let interval = self.leaves.get(at).map(|(_, interval)| interval);
                let touching = interval.filter(|one| one.presence.may_touch(stretch, now));
                touching.map(|interval| self.view(interval)).into_iter().collect()
            }
        }
    }

    /// Forgets the intervals that are not wanted, and all that only they needed.
    pub(crate) fn retain(&mut self, wanted: impl Fn(&Presence) -> bool) {
        self.leaves.retain(&wanted);
        for branch in &mut self.branches {
            branch.timeline.retain(|interval| wanted(&interval.presence));
        }
        self.branches.retain(|branch| !branch.timeline.is_empty());
        let former = std::mem::take(&mut self.owners);
        let branched = self.branches.iter_mut().flat_map(|branch| branch.timeline.iter_mut());
        for interval in self.leaves.intervals_mut().chain(branched) {
            interval.owners = self.owners.number(former.get(interval.owners));
        }
        let branches = self.branches.iter().map(|branch| branch.key).zip(BRANCH..);
        self.table = Table::with_room(self.leaves.len() + self.branches.len());
        for (key, at) in self.leaves.keys().chain(branches) {
            self.table.insert(key.hash(&self.state), at);
        }
    }

    /// The number of a namespace, if anything was ever held in it.
    pub(crate) fn number_of(&self, namespace: NamespaceId) -> Option<Number> {
        self.numbers.get(&namespace).copied().map(Number)
    }

    /// What is needed to look for many nodes at the same time.
    pub(crate) fn paths(&self) -> Paths<'_> {
        Paths {
            buckets: &self.table.buckets,
            leaves: self.leaves.seen(),
            state: self.state.clone(),
        }
    }

    /// The owner sets, in the order of their numbers.
    pub(crate) fn owner_sets(&self) -> impl Iterator<Item = &[ProcessKey]> {
        self.owners.sets.iter().map(OwnerSet::as_slice)
    }

    /// The processes that hold, or held, something. (Some that no longer do may be among them, until
    /// something is forgotten.)
    pub(crate) fn owners(&self) -> impl Iterator<Item = ProcessKey> {
        self.owners.sets.iter().flatten().copied()
    }

    /// The namespaces that something is in.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = NamespaceId> {
        let leaves = self.leaves.keys().map(|(key, _)| key);
        let keys = leaves.chain(self.branches.iter().map(|branch| branch.key));
        let mut used = vec![false; self.numbers.len()];
        keys.for_each(|key| used[key.namespace() as usize] = true);
        let used = move |number: u32| used[number as usize];
        self.numbers.iter().filter(move |&(_, &number)| used(number)).map(|(&id, _)| id)
    }

    /// The number of a namespace; `None` when there are too many.
    fn number(&mut self, id: NamespaceId) -> Option<u32> {
        let next = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        if let Some(&number) = self.numbers.get(&id) {
            return Some(number);
        }
        (next < MOST_NAMESPACES).then(|| *self.numbers.entry(id).or_insert(next))
    }

    fn position(&self, node: &Node) -> Option<u32> {
        let namespace = *self.numbers.get(&node.namespace)?;
        let key = Key::new(namespace, node.protocol, node.local, node.remote);
        self.find(&key, key.hash(&self.state))
    }

    fn find(&self, key: &Key, hash: u64) -> Option<u32> {
        self.table.find(hash, |at| match at & BRANCH {
            0 => self.leaves.get(at).is_some_and(|(found, _)| found == *key),
            _ => self.branches[(at & !BRANCH) as usize].key == *key,
        })
    }

    /// Takes out a leaf that the table no longer leads to; the last one takes its place.
    fn take_leaf(&mut self, at: u32) -> Interval {
        let (interval, moved) = self.leaves.take(at);
        if let Some((key, former)) = moved {
            self.table.replace(key.hash(&self.state), former, at);
        }
        interval
    }

    fn view(&self, interval: &Interval) -> Span<'_> {
        let &Interval { socket, presence, owners, role, goes_on, dual_stack } = interval;
        Span { socket, role, owners: self.owners.get(owners), presence, goes_on, dual_stack }
    }
}

fn is_it(interval: &Interval, first_seen: BootTime, id: SocketId) -> bool {
    let presence = &interval.presence;
    interval.socket == id && presence.first_seen() == first_seen && presence.is_there()
}

/// An index of a branch, or of a set of owners: 2^31 of them would take more than 100 GiB.
fn index(at: usize) -> u32 {
    u32::try_from(at).ok().filter(|at| at & BRANCH == 0).expect("more intervals than memory")
}

/// An open-addressed hash table with linear probing (D. Knuth, The Art of Computer Programming, volume
/// 3, section 6.4, algorithm L), by buckets, that leads from hashes to numbers. Nothing is ever taken
/// out: what forgets makes a new one. So what is not in a bucket that has room is nowhere.
#[derive(Debug, Default)]
struct Table {
    buckets: Vec<Bucket>,
    used: usize,
}

/// Eight slots, a line of memory: tags of hashes, 0 where a slot is free, and the numbers, plus one.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub(crate) struct Bucket {
    tags: [u32; SLOTS],
    numbers: [u32; SLOTS],
}

const SLOTS: usize = 8;

impl Bucket {
    /// The number with a tag, or [`NOWHERE`]. (What it gives where there are two is neither.)
    #[inline]
    fn find(&self, tag: u32) -> u32 {
        // Without a branch, of which every second one would be foreseen wrongly.
        let one = |(&found, &number): (&u32, &u32)| if found == tag { number } else { 0 };
        let found = self.tags.iter().zip(&self.numbers).map(one).fold(0, |all, one| all | one);
        found.wrapping_sub(1)
    }

    /// All numbers with a tag.
    fn tagged(&self, tag: u32) -> impl Iterator<Item = u32> {
        let slots = self.tags.iter().zip(&self.numbers);
        slots.filter(move |&(&found, _)| found == tag).map(|(_, number)| number - 1)
    }

    /// Slots are taken in their order.
    #[inline]
    fn is_full(&self) -> bool {
        self.tags[SLOTS - 1] != 0
    }

    /// Takes the first free slot.
    fn put(&mut self, tag: u32, number: u32) {
        if let Some(at) = self.tags.iter().position(|&tag| tag == 0) {
            (self.tags[at], self.numbers[at]) = (tag, number + 1);
        }
    }

    /// Anything that cannot be had without it.
    #[inline]
    pub(crate) fn touch(&self) -> u32 {
        self.tags[0]
    }
}

impl Table {
    fn with_room(entries: usize) -> Self {
        let slots = entries.saturating_mul(3) / 2 + 1;
        Self { buckets: vec![Bucket::default(); slots.div_ceil(SLOTS)], used: 0 }
    }

    /// Grows when one more would leave less than a quarter free; `hash` is that of a number within.
    fn make_room(&mut self, hash: impl Fn(u32) -> u64) {
        if (self.used + 1) * 4 <= self.buckets.len() * SLOTS * 3 {
            return;
        }
        let former = std::mem::replace(self, Self::with_room((self.used + 8) * 5 / 4));
        let numbers = former.buckets.iter().flat_map(|bucket| bucket.numbers);
        for number in numbers.filter(|&number| number != 0).map(|number| number - 1) {
            self.insert(hash(number), number);
        }
    }

    fn insert(&mut self, hash: u64, number: u32) {
        let mut at = home(&self.buckets, hash);
        while self.buckets[at].is_full() {
            at = after(&self.buckets, at);
        }
        self.buckets[at].put(tag(hash), number);
        self.used += 1;
    }

    /// Puts a number in the place of another one.
    fn replace(&mut self, hash: u64, former: u32, number: u32) {
        let mut at = home(&self.buckets, hash);
        while let Some(bucket) = self.buckets.get_mut(at) {
            if let Some(found) = bucket.numbers.iter_mut().find(|found| **found == former + 1) {
                *found = number + 1;
                return;
            }
            if !bucket.is_full() {
                return;
            }
            at = after(&self.buckets, at);
        }
    }

    /// The number with a hash that is the right one.
    fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = home(&self.buckets, hash);
        loop {
            let bucket = self.buckets.get(at)?;
            if let Some(number) = bucket.tagged(tag(hash)).find(|&number| is_it(number)) {
                return Some(number);
            }
            if !bucket.is_full() {
                return None;
            }
            at = after(&self.buckets, at);
        }
    }
}

/// Where a hash is looked for first: its upper half, scaled to the table.
#[inline]
fn home(buckets: &[Bucket], hash: u64) -> usize {
    (((hash >> 32) * buckets.len() as u64) >> 32) as usize
}

fn after(buckets: &[Bucket], at: usize) -> usize {
    if at + 1 == buckets.len() { 0 } else { at + 1 }
}

/// Its lower half, but never 0, which is that of a free slot.
#[inline]
fn tag(hash: u64) -> u32 {
    hash as u32 | 1
}

/// Sets of owners, each once.
#[derive(Debug, Default)]
struct OwnerSets {
    sets: Vec<OwnerSet>,
    numbers: Table,
    state: RandomState,
}

impl OwnerSets {
    fn number(&mut self, owners: &[ProcessKey]) -> u32 {
        let hash = self.state.hash_one(owners);
        let known = self.numbers.find(hash, |number| *self.sets[number as usize] == *owners);
        known.unwrap_or_else(|| {
            let (sets, state) = (&self.sets, &self.state);
            self.numbers.make_room(|number| state.hash_one(sets[number as usize].as_slice()));
            let number = index(self.sets.len());
            self.numbers.insert(hash, number);
            self.sets.push(owners.into());
            number
        })
    }

    fn get(&self, number: u32) -> &[ProcessKey] {
        &self.sets[number as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn random(state: &mut u64, below: u64) -> u64 {
        *state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) % below
    }

    fn node(number: u64) -> Node {
        let end = |at: u64, port: u64| {
            let port = u16::try_from(port).unwrap();
            if at.is_multiple_of(3) {
                Endpoint::new([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::try_from(at).unwrap()], port)
            } else {
                Endpoint::new([10, 0, 0, u8::try_from(at).unwrap()], port)
            }
        };
        let remote = (!number.is_multiple_of(5)).then(|| end(number % 7, 443));
        let (namespace, protocol) =
            (NamespaceId(number % 3 * 1000), Protocol(6 + 11 * (number % 2) as u8));
        Node { namespace, protocol, local: end(number % 11, 1000 + number), remote }
    }

    fn owner(pid: u64) -> ProcessKey {
        ProcessKey { pid: u32::try_from(pid).unwrap(), start: BootTime(pid) }
    }

    const NOW: BootTime = BootTime(u64::MAX);

    /// What a stretch finds at a node: numbers and pids.
    fn found(tree: &Tree, node: &Node, from: u64, to: u64) -> Vec<(u64, u32)> {
        let spans = tree.touching(node, &(BootTime(from)..=BootTime(to)), NOW);
        spans.iter().map(|span| (span.socket.0, span.owners[0].pid)).collect()
    }

    #[test]
    fn it_finds_what_a_list_finds() {
        let (mut tree, mut seed) = (Tree::default(), 1);
        // By node: number, pid, from, until.
        let mut list: BTreeMap<u64, Vec<(u64, u64, u64, u64)>> = BTreeMap::new();
        for round in 1..4000_u64 {
            let (at, pid) = (random(&mut seed, 900), random(&mut seed, 40));
            let (place, now) = (node(at), round * 10);
            let span = Span {
                socket: SocketId(round),
                role: Role::Connected,
                owners: &[owner(pid)],
                presence: Presence::since(BootTime(now), BootTime(now)),
                goes_on: false,
                dual_stack: false,
            };
            tree.insert(&place, span);
            let it = (BootTime(now), SocketId(round));
            assert_eq!(tree.there(&place, it).unwrap().owners, [owner(pid)]);
            let last = now + random(&mut seed, 500);
            let pid = if round.is_multiple_of(4) { pid + 100 } else { pid };
            if pid >= 100 {
                tree.held_by(&place, it, &[owner(pid)]);
            }
            tree.finish(&place, it, BootTime(last), BootTime(last));
            assert!(tree.there(&place, it).is_none());
            list.entry(at).or_default().push((round, pid, now, last));
            if round.is_multiple_of(1000) {
                let before = now - 6000;
                tree.retain(|presence| presence.latest(NOW) >= BootTime(before));
                list.values_mut().for_each(|spans| spans.retain(|span| span.3 >= before));
            }
        }
        assert_eq!(tree.len(), list.values().map(Vec::len).sum::<usize>());
        assert!(tree.leaves.len() > 0 && !tree.branches.is_empty());
        for at in 0..900 {
            for from in (30_000..40_000).step_by(777) {
                let to = from + 100;
                let spans = list.get(&at).into_iter().flatten();
                let expected: Vec<(u64, u32)> = spans
                    .filter(|span| span.2 <= to && from <= span.3)
                    .map(|span| (span.0, u32::try_from(span.1).unwrap()))
                    .collect();
                assert_eq!(found(&tree, &node(at), from, to), expected, "node {at} from {from}");
            }
        }
        let held: std::collections::BTreeSet<u64> =
            list.values().flatten().map(|span| span.1).collect();
        let owners: std::collections::BTreeSet<u64> =
            tree.owners().map(|key| key.pid.into()).collect();
        assert_eq!(owners, held);
        assert_eq!(tree.namespaces().count(), 3);
        tree.retain(|_| false);
        assert_eq!((tree.len(), tree.namespaces().count(), tree.owners().count()), (0, 0, 0));
        assert!(found(&tree, &node(1), 0, 40_000).is_empty());
    }
}
