//! The binding tree of one boot of one host: every interval in which a socket was held, found by where
//! the socket was - its namespace, protocol, local endpoint and peer.
//!
//! Most places only ever hold one interval, and there may be ten million of them. So an interval is 80
//! bytes and lies beside the others; an open-addressed table of 8-byte slots finds it with two
//! accesses to memory; owners are numbered, for few sets of them hold all the sockets. A place that held
//! several has a [`Timeline`] of its own.
//!
//! Nothing here knows what an interval means for a flow: `matching.rs` does.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use foldhash::HashMap;
use foldhash::fast::RandomState;
use procflow_core::{Endpoint, FlowKey, Protocol};
use smallvec::SmallVec;

use crate::clock::BootTime;
use crate::event::OwnerSet;
use crate::process::ProcessKey;
use crate::socket::{NamespaceId, Role, Socket, SocketId};
use crate::timeline::{Dated, Presence, Timeline};

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

/// A span as it is kept.
#[derive(Clone, Copy, Debug)]
struct Interval {
    socket: SocketId,
    presence: Presence,
    /// Which of the owner sets.
    owners: u32,
    role: Role,
    goes_on: bool,
    dual_stack: bool,
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

/// A node as it is kept: addresses as IPv6 has them (an IPv4 one mapped, RFC 4291 section 2.5.5.2, which
/// no other canonical address is), and the namespace numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    local: [u64; 2],
    /// Unspecified where there is no peer.
    remote: [u64; 2],
    ports: [u16; 2],
    /// The namespace's number, the protocol's, and whether there is a peer.
    place: u32,
}

/// Namespaces that can be told apart.
const MOST_NAMESPACES: u32 = 1 << 23;

impl Key {
    fn new(namespace: u32, protocol: Protocol, local: Endpoint, remote: Option<Endpoint>) -> Self {
        let unspecified = IpAddr::from([0; 16]);
        let (to, port) = remote.map_or((unspecified, 0), |end| (end.address(), end.port()));
        Self {
            local: words(local.address()),
            remote: words(to),
            ports: [local.port(), port],
            place: namespace << 9 | u32::from(protocol.0) << 1 | u32::from(remote.is_some()),
        }
    }

    fn namespace(&self) -> u32 {
        self.place >> 9
    }

    fn hash(&self, state: &RandomState) -> u64 {
        let [here, there] = self.ports;
        let ports = u64::from(here) << 48 | u64::from(there) << 32 | u64::from(self.place);
        let ([a, b], [c, d]) = (self.local, self.remote);
        state.hash_one((a, b, c, d, ports))
    }
}

fn words(address: IpAddr) -> [u64; 2] {
    let bits = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    };
    [(bits >> 64) as u64, bits as u64]
}

/// A namespace's number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number(u32);

/// The ways to the leaves of a tree, for those who look for many of them at the same time.
///
/// To look for one is to wait twice for the memory: for the table, and for the leaf. Waiting for many
/// at once takes hardly longer, if nothing that is decided lies between their accesses. So it is done in
/// steps, each for all of them before the next one: [`Paths::seek`], [`Paths::touch_slot`],
/// [`Paths::approach`], [`Paths::touch_leaf`], [`Paths::reach`].
#[derive(Clone, Debug)]
pub(crate) struct Paths<'a> {
    slots: &'a [u64],
    leaves: &'a [Leaf],
    state: RandomState,
}

/// A node that is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sought {
    key: Key,
    hash: u64,
    /// The slot, then the leaf.
    at: usize,
}

/// No leaf.
const NOWHERE: usize = usize::MAX;

impl<'a> Paths<'a> {
    /// Begins to look for the sockets that send what has this key and have its destination as their peer.
    pub(crate) fn seek(&self, Number(namespace): Number, key: &FlowKey) -> Sought {
        let key = Key::new(namespace, key.protocol, key.source, Some(key.destination));
        let hash = key.hash(&self.state);
        Sought { key, hash, at: home(self.slots, hash) }
    }

    /// Anything that cannot be had without the slot.
    pub(crate) fn touch_slot(&self, sought: &Sought) -> u64 {
        self.slots.get(sought.at).copied().unwrap_or(0)
    }

    pub(crate) fn approach(&self, sought: &mut Sought) {
        let found = find(self.slots, sought.hash, |_| true);
        let leaf = found.filter(|number| number & BRANCH == 0);
        sought.at = leaf.map_or(NOWHERE, |leaf| leaf as usize);
    }

    /// Anything that cannot be had without the leaf.
    pub(crate) fn touch_leaf(&self, sought: &Sought) -> u64 {
        let leaf = self.leaves.get(sought.at);
        leaf.map_or(0, |leaf| leaf.key.remote[0] ^ leaf.interval.socket.0)
    }

    /// The node's only interval, and the number of its owner set; `None` too when there are several, or
    /// when one look was not enough to find it.
    pub(crate) fn reach(&self, sought: &Sought) -> Option<(&'a Presence, usize)> {
        let Leaf { key, interval } = self.leaves.get(sought.at)?;
        (*key == sought.key).then_some((&interval.presence, interval.owners as usize))
    }
}

/// The only interval of its node.
#[derive(Clone, Copy, Debug)]
struct Leaf {
    key: Key,
    interval: Interval,
}

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
    leaves: Vec<Leaf>,
    branches: Vec<Branch>,
    owners: OwnerSets,
    numbers: HashMap<NamespaceId, u32>,
    state: RandomState,
}

/// Where the intervals of a node are: a leaf's index, or a branch's and this bit.
const BRANCH: u32 = 1 << 31;

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
                self.table.make_room(|at| match at & BRANCH {
                    0 => leaves[at as usize].key.hash(state),
                    _ => branches[(at & !BRANCH) as usize].key.hash(state),
                });
                self.table.insert(hash, index(self.leaves.len()));
                self.leaves.push(Leaf { key, interval });
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
                let interval = &self.leaves[at as usize].interval;
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
        } else if is_it(&self.leaves[at as usize].interval, first_seen, id) {
            self.leaves[at as usize].interval.owners = number;
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
        } else if is_it(&self.leaves[at as usize].interval, first_seen, id) {
            self.leaves[at as usize].interval.presence.finish(last_seen, not_after);
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
                let interval = &self.leaves[at as usize].interval;
                let touches = interval.presence.may_touch(stretch, now);
                touches.then(|| self.view(interval)).into_iter().collect()
            }
        }
    }

    /// Forgets the intervals that are not wanted, and all that only they needed.
    pub(crate) fn retain(&mut self, wanted: impl Fn(&Presence) -> bool) {
        self.leaves.retain(|leaf| wanted(&leaf.interval.presence));
        self.leaves.shrink_to(self.leaves.len() * 2);
        for branch in &mut self.branches {
            branch.timeline.retain(|interval| wanted(&interval.presence));
        }
        self.branches.retain(|branch| !branch.timeline.is_empty());
        let former = std::mem::take(&mut self.owners);
        for interval in self
            .leaves
            .iter_mut()
            .map(|leaf| &mut leaf.interval)
            .chain(self.branches.iter_mut().flat_map(|branch| branch.timeline.iter_mut()))
        {
            interval.owners = self.owners.number(former.get(interval.owners));
        }
        let leaves = self.leaves.iter().map(|leaf| &leaf.key).zip(0..);
        let branches = self.branches.iter().map(|branch| &branch.key).zip(BRANCH..);
        self.table = Table::with_room(self.leaves.len() + self.branches.len());
        for (key, at) in leaves.chain(branches) {
            self.table.insert(key.hash(&self.state), at);
        }
    }

    /// The number of a namespace, if anything was ever held in it.
    pub(crate) fn number_of(&self, namespace: NamespaceId) -> Option<Number> {
        self.numbers.get(&namespace).copied().map(Number)
    }

    /// What is needed to look for many nodes at the same time.
    pub(crate) fn paths(&self) -> Paths<'_> {
        Paths { slots: &self.table.slots, leaves: &self.leaves, state: self.state.clone() }
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
        let leaves = self.leaves.iter().map(|leaf| &leaf.key);
        let keys = leaves.chain(self.branches.iter().map(|branch| &branch.key));
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
            0 => self.leaves[at as usize].key == *key,
            _ => self.branches[(at & !BRANCH) as usize].key == *key,
        })
    }

    /// Takes out a leaf that the table no longer leads to; the last one takes its place.
    fn take_leaf(&mut self, at: u32) -> Interval {
        let last = index(self.leaves.len() - 1);
        let leaf = self.leaves.swap_remove(at as usize);
        if last != at {
            let moved = self.leaves[at as usize].key.hash(&self.state);
            self.table.replace(moved, last, at);
        }
        leaf.interval
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

/// An index of a leaf or a branch: 2^31 of them would take 160 GiB.
fn index(at: usize) -> u32 {
    u32::try_from(at).ok().filter(|at| at & BRANCH == 0).expect("more intervals than memory")
}

/// An open-addressed hash table with linear probing (D. Knuth, The Art of Computer Programming, volume
/// 3, section 6.4, algorithm L) that leads from hashes to numbers. Nothing is ever taken out: what
/// forgets makes a new one.
#[derive(Debug, Default)]
struct Table {
    /// The hash's lower half, and the number plus one; 0 where it is free.
    slots: Vec<u64>,
    used: usize,
}

impl Table {
    fn with_room(entries: usize) -> Self {
        Self { slots: vec![0; entries.saturating_mul(3) / 2 + 1], used: 0 }
    }

    /// Grows when one more would leave less than a quarter free; `hash` is that of a number within.
    fn make_room(&mut self, hash: impl Fn(u32) -> u64) {
        if (self.used + 1) * 4 <= self.slots.len() * 3 {
            return;
        }
        let former = std::mem::replace(self, Self::with_room((self.used + 8) * 5 / 4));
        for slot in former.slots.into_iter().filter(|&slot| slot != 0) {
            let number = number_in(slot);
            self.insert(hash(number), number);
        }
    }

    fn insert(&mut self, hash: u64, number: u32) {
        let mut at = home(&self.slots, hash);
        while self.slots[at] != 0 {
            at = self.after(at);
        }
        self.slots[at] = slot(hash, number);
        self.used += 1;
    }

    /// Puts a number in the place of another one with the same hash.
    fn replace(&mut self, hash: u64, former: u32, number: u32) {
        let mut at = home(&self.slots, hash);
        while self.slots[at] != slot(hash, former) {
            if self.slots[at] == 0 {
                return;
            }
            at = self.after(at);
        }
        self.slots[at] = slot(hash, number);
    }

    /// The number with a hash that is the right one.
    fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        find(&self.slots, hash, is_it)
    }

    fn after(&self, at: usize) -> usize {
        after(&self.slots, at)
    }
}

fn find(slots: &[u64], hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
    let mut at = home(slots, hash);
    loop {
        let found = *slots.get(at)?;
        if found == 0 {
            return None;
        }
        if found >> 32 == hash & LOWER && is_it(number_in(found)) {
            return Some(number_in(found));
        }
        at = after(slots, at);
    }
}

/// Where a hash is looked for first: its upper half, scaled to the table.
fn home(slots: &[u64], hash: u64) -> usize {
    (((hash >> 32) * slots.len() as u64) >> 32) as usize
}

fn after(slots: &[u64], at: usize) -> usize {
    if at + 1 == slots.len() { 0 } else { at + 1 }
}

const LOWER: u64 = 0xffff_ffff;

fn slot(hash: u64, number: u32) -> u64 {
    (hash & LOWER) << 32 | (u64::from(number) + 1)
}

fn number_in(slot: u64) -> u32 {
    ((slot & LOWER) - 1) as u32
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
        assert!(!tree.leaves.is_empty() && !tree.branches.is_empty());
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

    #[test]
    fn an_interval_is_as_small_as_it_says() {
        assert_eq!(size_of::<Leaf>(), 80);
    }
}
