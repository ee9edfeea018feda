//! A history is all that is known of one boot of one host: a **binding tree** of intervals - in
//! this namespace, this socket was held by these processes from then to then - with the
//! addresses, the clock, and the gaps that say where nothing is known.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt, HashSet};
use procflow_core::{Endpoint, FlowKey, Interval, Protocol, Timestamp};
use smol_str::SmolStr;

use crate::clock::{BootTime, Clock, ClockSample};
use crate::event::{Address, Change, Close, Coverage, Event, Gap, GapCause, Open, Owners};
use crate::process::{BootId, Details, MOST_VERSIONS, Process, ProcessKey};
use crate::socket::{Namespace, NamespaceId, Role, Socket, SocketId};
use crate::timeline::{BETWEEN_LOOKS, Presence};
use crate::translation::{Translations, Turn};
use crate::tree::{Node, Span, Spans, Tree};
use crate::vantage::{FlowClock, HostId, WhichNamespace};

/// One boot of one host.
#[derive(Debug)]
pub struct History {
    host: HostId,
    boot: BootId,
    /// By the host's own real-time clock.
    own_clock: Clock,
    /// By the collector's.
    collector_clock: Clock,
    begin: Option<BootTime>,
    end: BootTime,
    /// Ascending, as they happened.
    gaps: Vec<Gap>,
    coverage: Vec<(BootTime, Coverage)>,
    tree: Tree,
    namespaces: BTreeMap<NamespaceId, NamespaceHistory>,
    /// The namespaces that hold, or held, an address: see [`address_key`].
    by_address: HashMap<IpAddr, BTreeSet<NamespaceId>>,
    processes: HashMap<ProcessKey, Vec<(BootTime, Arc<Process>)>>,
    details: HashMap<ProcessKey, Vec<(BootTime, Arc<Details>)>>,
    open: HashMap<SocketId, OpenSocket>,
    translations: Translations,
    /// Between a gap and the end of the listing that follows it.
    /// From then on nothing is certain until the listing is whole.
    relisting: Option<BootTime>,
}

#[derive(Debug)]
struct OpenSocket {
    socket: Socket,
    /// When its present owners were first seen to hold it: where its span is on the timeline.
    first_seen: BootTime,
    /// Listed since the last gap. Only looked at when a listing ends.
    confirmed: bool,
}

#[derive(Debug, Default)]
struct NamespaceHistory {
    /// `None` while only sockets or addresses have named it.
    facts: Option<Namespace>,
    /// Told since the last gap, as for addresses.
    confirmed: bool,
    gone: Option<BootTime>,
    addresses: Vec<AddressSpan>,
}

/// That a namespace has, or had, an address.
pub(crate) struct HeldAddress {
    pub(crate) namespace: NamespaceId,
    pub(crate) since: BootTime,
    pub(crate) until: Option<BootTime>,
}

#[derive(Debug)]
struct AddressSpan {
    address: Address,
    since: BootTime,
    until: Option<BootTime>,
    confirmed: bool,
}

impl History {
    /// An empty history of one boot of one host.
    #[must_use]
    pub fn new(host: HostId, boot: BootId) -> Self {
        Self {
            host,
            boot,
            own_clock: Clock::default(),
            collector_clock: Clock::default(),
            begin: None,
            end: BootTime(0),
            gaps: Vec::new(),
            coverage: Vec::new(),
            tree: Tree::default(),
            namespaces: BTreeMap::new(),
            by_address: HashMap::new(),
            processes: HashMap::new(),
            details: HashMap::new(),
            open: HashMap::new(),
            translations: Translations::default(),
            relisting: None,
        }
    }

    /// Whose history.
    #[must_use]
    pub fn host(&self) -> HostId {
        self.host
    }

    /// Which boot.
    #[must_use]
    pub fn boot(&self) -> BootId {
        self.boot
    }

    /// Since when it was watched; `None` while it is empty.
    #[must_use]
    pub fn begin(&self) -> Option<BootTime> {
        self.begin
    }

    /// Since when it was watched, as a real-time clock showed it; `None` while nothing is known.
    #[must_use]
    pub fn known_since(&self, clock: FlowClock) -> Option<Timestamp> {
        self.clock(clock).to_real(self.begin?)
    }

    /// Up to when everything is told.
    #[must_use]
    pub fn end(&self) -> BootTime {
        self.end
    }

    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Whether it ever heard of a translation, as far as it remembers.
    pub(crate) fn translates(&self) -> bool {
        !self.translations.is_empty()
    }

    /// Whether an end that is seen under a key was ever translated.
    pub(crate) fn turns_something(&self, seen: &FlowKey) -> bool {
        self.translations.turn(seen)
    }

    /// All addresses that its namespaces have, or had.
    pub(crate) fn held(&self) -> impl Iterator<Item = (IpAddr, HeldAddress)> {
        self.namespaces.iter().flat_map(|(&namespace, known)| {
            known.addresses.iter().map(move |span| {
                let AddressSpan { address, since, until, .. } = *span;
                (address.address, HeldAddress { namespace, since, until })
            })
        })
    }

    /// The facts of a process that never were others.
    pub(crate) fn constant(&self, key: ProcessKey) -> Option<&Arc<Process>> {
        match self.processes.get(&key)?.as_slice() {
            [(_, only)] => Some(only),
            _ => None,
        }
    }

    /// Up to when what is known is whole: after a gap, and until all is listed again, only up to
    /// that gap.
    pub(crate) fn told_until(&self) -> BootTime {
        self.relisting.map_or(self.end, |since| since.min(self.end))
    }

    /// How many intervals it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// Whether it holds no interval.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The namespaces it has facts of, gone ones included.
    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.namespaces.values().filter_map(|n| n.facts.as_ref())
    }

    /// Everything up to `until` is told: silence until then means that nothing changed.
    pub fn watched_until(&mut self, until: BootTime) {
        self.end = self.end.max(until);
    }

    /// The collector read both its own real-time clock and, just before, this host's boot-time
    /// clock.
    pub fn collector_sample(&mut self, sample: ClockSample) {
        // What travelled comes late, now more, now less: only a step is worth a sample.
        const JITTER: u128 = 50_000_000;
        let known = self.collector_clock.to_real(sample.boot);
        let change = known.map(|known| u128::from(known.0.abs_diff(sample.real.0)));
        if change.is_none_or(|change| change > JITTER) {
            self.collector_clock.apply(sample);
        }
    }

    /// Events that this history will never get: everything before `until` is older than the
    /// tracker keeps, but for what is still true, which is told again and ends with
    /// [`Change::Listed`].
    pub fn dropped(&mut self, until: BootTime) {
        let cause = GapCause::Retention;
        self.begin.get_or_insert(until);
        self.apply_gap(Gap { begin: BootTime(0), end: until, cause });
    }

    /// Takes in one event. Events of one incarnation come in their order; an event that makes no
    /// sense (a peer may send anything) changes nothing.
    pub fn apply(&mut self, event: Event) {
        let time = event.time;
        match event.change {
            Change::Watch(coverage) => {
                self.begin.get_or_insert(time);
                self.coverage.push((time, coverage));
                // What lies before is the gap event's to say: nothing is watched until here yet.
                return;
            }
            Change::Gap(gap) => self.apply_gap(gap),
            Change::Clock(real) => self.own_clock.apply(ClockSample { boot: time, real }),
            Change::Namespace(facts) => {
                let namespace = self.namespaces.entry(facts.id).or_default();
                namespace.gone = None;
                namespace.confirmed = true;
                namespace.facts = Some(facts);
            }
            Change::NamespaceGone(id) => self.apply_namespace_gone(id, time),
            Change::Address(address) => self.apply_address(address, time),
            Change::AddressGone(address) => {
                if let Some(namespace) = self.namespaces.get_mut(&address.namespace) {
                    for span in &mut namespace.addresses {
                        if span.address == address && span.until.is_none() {
                            span.until = Some(time);
                        }
                    }
                }
            }
            Change::Process(process) => {
                let known = self.processes.entry(process.key).or_default();
                // Told again after a gap, versions come in between those that are known.
                let at = known.partition_point(|&(known, _)| known <= time);
                if at.checked_sub(1).is_none_or(|before| *known[before].1 != process) {
                    known.insert(at, (time, Arc::new(process)));
                }
            }
            Change::Open(open) => self.apply_open(open, time),
            Change::Owners(owners) => self.apply_owners(owners, time),
            Change::Close(Close { id, last_seen }) => self.close(id, last_seen, time),
            Change::Listed => self.apply_listed(time),
            Change::Details(details) => self.apply_details(details, time),
            Change::Translation(translation) => {
                let former_end = self.relisting.unwrap_or(self.end.min(time));
                self.translations.apply(translation, time, former_end);
            }
            Change::TranslationGone(gone) => self.translations.gone(gone, time),
        }
        self.end = self.end.max(time);
    }

    fn apply_gap(&mut self, gap: Gap) {
        let begin = match gap.cause {
            // Told by one who does not know of earlier incarnations: what they watched stays
            // watched.
            GapCause::NotRunning | GapCause::Retention => gap.begin.max(self.end),
            GapCause::EventsLost | GapCause::SourceFailed => gap.begin,
        };
        if self.begin.is_some_and(|start| start < gap.end) && begin < gap.end {
            self.gaps.push(Gap { begin, ..gap });
        }
        if gap.cause == GapCause::SourceFailed {
            return; // the source compares with what it saw last; nothing is listed again
        }
        // A second gap before the listing is whole (the connection broke) does not end the first.
        self.relisting.get_or_insert(begin);
        self.open.values_mut().for_each(|open| open.confirmed = false);
        if gap.cause == GapCause::EventsLost {
            return; // events are of sockets; the rest is compared with what was seen last
        }
        self.translations.doubt();
        for namespace in self.namespaces.values_mut() {
            namespace.confirmed = false;
            namespace.addresses.iter_mut().for_each(|span| span.confirmed = false);
        }
    }

    /// After a gap: what was not listed again ended at some moment of the gap.
    fn apply_listed(&mut self, time: BootTime) {
        let Some(last_watched) = self.relisting.take() else { return };
        let gone: Vec<SocketId> =
            self.open.iter().filter(|(_, open)| !open.confirmed).map(|(&id, _)| id).collect();
        for id in gone {
            self.close(id, last_watched, time);
        }
        self.translations.listed(last_watched, time);
        for namespace in self.namespaces.values_mut() {
            if !namespace.confirmed && namespace.facts.is_some() {
                namespace.gone.get_or_insert(time);
            }
            for span in &mut namespace.addresses {
                if !span.confirmed && span.until.is_none() {
                    span.until = Some(time);
                }
            }
        }
    }

    fn apply_namespace_gone(&mut self, id: NamespaceId, time: BootTime) {
        let Some(namespace) = self.namespaces.get_mut(&id) else {
            return;
        };
        namespace.gone = Some(time);
        // Its sockets were closed by events of their own; what is left was last known of then.
        for span in &mut namespace.addresses {
            span.until.get_or_insert(time);
        }
        let last_seen = self.end;
        let left: Vec<SocketId> = self
            .open
            .iter()
            .filter(|(_, open)| open.socket.namespace() == id)
            .map(|(&id, _)| id)
            .collect();
        for id in left {
            self.close(id, last_seen, time);
        }
        self.translations.namespace_gone(id, last_seen, time);
    }

    fn apply_address(&mut self, address: Address, time: BootTime) {
        // An address that was there when watching began (again) was there before, as far as
        // anyone knows.
        let since = self.relisting.unwrap_or(time);
        self.by_address.entry(address_key(address.address)).or_default().insert(address.namespace);
        let addresses = &mut self.namespaces.entry(address.namespace).or_default().addresses;
        let known = addresses.iter_mut().find(|s| s.address == address && s.until.is_none());
        if let Some(span) = known {
            span.confirmed = true;
        } else {
            addresses.push(AddressSpan { address, since, until: None, confirmed: true });
        }
    }

    fn apply_details(&mut self, details: Details, time: BootTime) {
        let key = details.process;
        let known = self.details.get(&key).map_or(&[][..], Vec::as_slice);
        let at = known.partition_point(|&(known, _)| known <= time);
        // Of the same program more is known now: then that was true before, too.
        let same = at.checked_sub(1).filter(|&before| {
            let (since, former) = &known[before];
            details.complete(former) && self.executable(key, *since) == self.executable(key, time)
        });
        let known = self.details.entry(key).or_default();
        if let Some(before) = same {
            known[before].1 = Arc::new(details);
            return;
        }
        known.insert(at, (time, Arc::new(details)));
        if known.len() > MOST_VERSIONS {
            known.remove(0);
        }
    }

    fn apply_open(&mut self, open: Open, time: BootTime) {
        let Open { id, socket, owners, not_before } = open;
        if let Some(known) = self.open.get_mut(&id) {
            if known.socket == socket {
                // Listed again after a gap: the same socket, perhaps in other hands.
                known.confirmed = true;
                let not_before = not_before.max(self.relisting.unwrap_or(BootTime(0)));
                return self.apply_owners(Owners { id, owners, not_before }, time);
            }
            // A source that numbers sockets itself may give the number again after a restart.
            let last_seen = self.relisting.unwrap_or(self.end.min(time));
            self.close(id, last_seen, time);
        }
        let node = Node::of(&socket);
        let (role, dual_stack, presence) =
            (socket.role(), socket.is_dual_stack(), Presence::since(time, not_before));
        let owners = owners.as_slice();
        let span = Span { socket: id, role, owners, presence, goes_on: false, dual_stack };
        self.namespaces.entry(socket.namespace()).or_default();
        self.tree.insert(&node, span);
        self.open.insert(id, OpenSocket { socket, first_seen: time, confirmed: true });
    }

    fn apply_owners(&mut self, change: Owners, time: BootTime) {
        let Owners { id, owners, not_before } = change;
        let Some(open) = self.open.get_mut(&id) else { return };
        let (node, it) = (Node::of(&open.socket), (open.first_seen, id));
        let Some(current) = self.tree.there(&node, it) else { return };
        if owners.is_empty() || *current.owners == *owners {
            return;
        }
        let Span { role, dual_stack, .. } = current;
        // Seen before its owner was: a connection waits to be accepted, and nobody else holds it. Of
        // other sockets somebody unseen may have.
        let waited = role == Role::Connected || time <= open.first_seen.plus(BETWEEN_LOOKS);
        if current.owners.is_empty() && waited {
            self.tree.held_by(&node, it, &owners);
            return;
        }
        let time = time.max(open.first_seen);
        let not_before = not_before.min(time);
        let presence = Presence::since(time, not_before);
        let owners = owners.as_slice();
        let next = Span { socket: id, role, owners, presence, goes_on: true, dual_stack };
        self.tree.finish(&node, it, not_before, time);
        self.tree.insert(&node, next);
        open.first_seen = time;
    }

    fn close(&mut self, id: SocketId, last_seen: BootTime, time: BootTime) {
        // One of a socket's spans at most is open: a change of owners ends the one before.
        if let Some(OpenSocket { socket, first_seen, .. }) = self.open.remove(&id) {
            self.tree.finish(&Node::of(&socket), (first_seen, id), last_seen, time);
        }
    }

    /// Forgets what ended before `before`. Flows from before that moment are answered "before the
    /// history begins" from now on.
    pub fn prune(&mut self, before: BootTime) {
        if self.begin.is_none_or(|begin| begin >= before) {
            return;
        }
        self.begin = Some(before.min(self.end));
        self.gaps.retain(|gap| gap.end > before);
        let past = self.coverage.partition_point(|&(time, _)| time <= before).saturating_sub(1);
        self.coverage.drain(..past);
        self.own_clock.prune(before);
        self.collector_clock.prune(before);
        self.translations.prune(before);
        let ended = |moment: Option<BootTime>| moment.is_some_and(|moment| moment < before);
        self.tree.retain(|presence| presence.latest(BootTime(u64::MAX)) >= before);
        let held: HashSet<ProcessKey> = self.tree.owners().collect();
        let lived_in: HashSet<NamespaceId> = self.tree.namespaces().collect();
        self.namespaces.retain(|id, namespace| {
            namespace.addresses.retain(|span| !ended(span.until));
            !ended(namespace.gone) || lived_in.contains(id)
        });
        self.by_address.clear();
        for (&id, namespace) in &self.namespaces {
            for span in &namespace.addresses {
                self.by_address.entry(address_key(span.address.address)).or_default().insert(id);
            }
        }
        self.processes.retain(|key, facts| {
            let past = facts.partition_point(|&(time, _)| time <= before).saturating_sub(1);
            facts.drain(..past);
            held.contains(key) || facts.iter().any(|&(time, _)| time >= before)
        });
        self.details.retain(|key, details| {
            self.processes.contains_key(key) || details.iter().any(|&(time, _)| time >= before)
        });
    }

    pub(crate) fn clock(&self, clock: FlowClock) -> &Clock {
        match clock {
            FlowClock::Host => &self.own_clock,
            FlowClock::Collector => &self.collector_clock,
        }
    }

    /// The last moment at which a clock showed this, if it ever did.
    pub(crate) fn moment(&self, real: Timestamp, clock: FlowClock) -> Option<BootTime> {
        let interval = Interval { first: real, last: real };
        self.clock(clock).stretches(interval).last().map(|stretch| *stretch.end())
    }

    /// Whether a namespace was ever called this.
    pub(crate) fn has(&self, which: &WhichNamespace) -> bool {
        self.resolve(which, &(BootTime(0)..=BootTime(u64::MAX))).is_some()
    }

    /// The namespace that is called this in that stretch of time.
    pub(crate) fn resolve(
        &self,
        which: &WhichNamespace,
        stretch: &RangeInclusive<BootTime>,
    ) -> Option<NamespaceId> {
        let called = |facts: &Namespace| match which {
            WhichNamespace::Initial => facts.initial,
            WhichNamespace::Named(name) => facts.name.as_ref() == Some(name),
            WhichNamespace::Inode(inode) => facts.inode == *inode,
        };
        self.namespaces
            .iter()
            .filter(|(_, n)| n.facts.as_ref().is_some_and(called))
            .find(|(_, n)| n.gone.is_none_or(|gone| gone >= *stretch.start()))
            .map(|(&id, _)| id)
    }

    /// The namespaces that hold an address at any moment of a stretch.
    pub(crate) fn holders<'a>(
        &'a self,
        address: IpAddr,
        stretch: &'a RangeInclusive<BootTime>,
    ) -> impl Iterator<Item = NamespaceId> + 'a {
        let touches = move |span: &AddressSpan| {
            span.covers(address)
                && span.since <= *stretch.end()
                && span.until.is_none_or(|until| until >= *stretch.start())
        };
        let candidates = self.by_address.get(&address_key(address)).into_iter().flatten().copied();
        candidates.filter(move |id| {
            self.namespaces.get(id).is_some_and(|namespace| namespace.addresses.iter().any(touches))
        })
    }

    /// The spans of sockets that send what has this key, and have its destination as their peer, that
    /// touch a stretch; in order.
    pub(crate) fn connected(
        &self,
        namespace: NamespaceId,
        key: &FlowKey,
        stretch: &RangeInclusive<BootTime>,
    ) -> Spans<'_> {
        let FlowKey { protocol, source: local, destination } = *key;
        self.at(Node { namespace, protocol, local, remote: Some(destination) }, stretch)
    }

    /// The spans of listening and unconnected sockets that take what is sent to `local`: bound to
    /// its very address, or to all of them.
    pub(crate) fn bound(
        &self,
        namespace: NamespaceId,
        protocol: Protocol,
        local: Endpoint,
        stretch: &RangeInclusive<BootTime>,
    ) -> [Spans<'_>; 2] {
        use std::net::{Ipv4Addr, Ipv6Addr};
        let at = |local| self.at(Node { namespace, protocol, local, remote: None }, stretch);
        let mut any = at(Endpoint::new(Ipv6Addr::UNSPECIFIED, local.port()));
        if local.address().is_ipv4() {
            any.retain(|span| span.dual_stack);
            any.extend(at(Endpoint::new(Ipv4Addr::UNSPECIFIED, local.port())));
        }
        [at(local), any]
    }

    /// What translations say that an end really was around a stretch, in order.
    pub(crate) fn turns(&self, seen: &FlowKey, stretch: &RangeInclusive<BootTime>) -> Vec<&Turn> {
        self.translations.turns(seen, stretch, self.told_until())
    }

    fn at(&self, node: Node, stretch: &RangeInclusive<BootTime>) -> Spans<'_> {
        self.tree.touching(&node, stretch, self.told_until())
    }

    /// The facts of a process as they were at a moment (the first known, if it is earlier).
    pub(crate) fn process(&self, key: ProcessKey, at: BootTime) -> Option<&Arc<Process>> {
        let known = self.processes.get(&key)?;
        let index = known.partition_point(|&(time, _)| time <= at).saturating_sub(1);
        known.get(index).map(|(_, process)| process)
    }

    fn executable(&self, key: ProcessKey, at: BootTime) -> Option<&SmolStr> {
        self.process(key, at)?.executable.as_ref()
    }

    /// The details of a process as they were at a moment: the last ones told by then or else the
    /// first ones told later, but only of the program that it was (they come late, and exec makes
    /// another program of it).
    pub(crate) fn details(&self, key: ProcessKey, at: BootTime) -> Option<&Arc<Details>> {
        let known = self.details.get(&key)?;
        let program = self.executable(key, at);
        let (by_then, later) = known.split_at(known.partition_point(|&(time, _)| time <= at));
        let mut nearest = by_then.iter().rev().chain(later);
        let (_, details) = nearest.find(|(time, _)| self.executable(key, *time) == program)?;
        Some(details)
    }

    /// The first gap that touches a stretch.
    pub(crate) fn gap(&self, stretch: &RangeInclusive<BootTime>) -> Option<GapCause> {
        let touches = |gap: &&Gap| gap.begin <= *stretch.end() && gap.end > *stretch.start();
        self.gaps.iter().find(touches).map(|gap| gap.cause)
    }

    /// Whether any moment of a stretch was watched.
    pub(crate) fn watched_any(&self, stretch: &RangeInclusive<BootTime>) -> bool {
        // Gaps may touch each other: goes from one to the next.
        let mut missed_until = *stretch.start();
        for gap in &self.gaps {
            if gap.begin <= missed_until {
                missed_until = missed_until.max(gap.end);
            }
        }
        self.begin.is_some_and(|begin| begin <= *stretch.end()) && missed_until <= *stretch.end()
    }

    /// Whether all of a stretch was watched so well that what was not seen was not there.
    pub(crate) fn complete(&self, stretch: &RangeInclusive<BootTime>) -> bool {
        let from = self.coverage.partition_point(|&(time, _)| time <= *stretch.start());
        let until = self.coverage.partition_point(|&(time, _)| time <= *stretch.end());
        from > 0 && self.coverage[from - 1..until].iter().all(|&(_, c)| c == Coverage::Complete)
    }
}

/// Under what an address is looked up: all of 127.0.0.0/8 under one, for one interface address may
/// cover all of it.
pub(crate) fn address_key(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) if address.is_loopback() => std::net::Ipv4Addr::LOCALHOST.into(),
        address => address,
    }
}

impl AddressSpan {
    fn covers(&self, address: IpAddr) -> bool {
        let own = self.address.address;
        own == address
            || match (own, address) {
                // All of 127.0.0.0/8 is local where lo has 127.0.0.1/8 (RFC 1122 section 3.2.1.3).
                (IpAddr::V4(own), IpAddr::V4(address)) if own.is_loopback() => {
                    let bits = u32::from(self.address.prefix.min(32));
                    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                    address.is_loopback() && own.to_bits() & mask == address.to_bits() & mask
                }
                _ => false,
            }
    }
}
