//! The cache of the flows that go on (RFC 5470 section 5.1 calls it so), and when each of them ends.
//!
//! It is driven by the packets' time for captures, and by a timer where there may be none for long: both
//! call [`Cache::expire`]. A flow that goes on beyond the active timeout is told of and begins anew from
//! zero, but it stays known who its initiator is and how far its connection is over; likewise one that a plugin
//! wants to be told of. It holds at most [`Settings::capacity`] flows; one more ends the flow that was
//! quiet for the longest, which is counted and told as such, never dropped.

use std::borrow::Cow;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::due::{Links, Queue};
use super::{BiflowKey, EndReason, Flow, Holder, Moment, Slab};
use crate::dissect::{Application, Dissected, DissectionSettings, Dissections, Learnt};
use crate::features::{Accounting, Features, Needs, States, Step};
use crate::key::Timestamp;
use crate::packet::{Address, Packet, Transport};
use crate::plugin::{Attached, Said, Shown};

/// When flows end, how many there may be, and what is measured of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// So long after its last packet a flow ends (flowIdleTimeout 37), in nanoseconds.
    pub idle: i64,
    /// So long after its first packet a flow ends though it goes on (flowActiveTimeout 36), in
    /// nanoseconds.
    pub active: i64,
    /// So long after its end a TCP connection takes in what still comes, in nanoseconds.
    pub linger: i64,
    /// So many flows are held at most, at least one.
    pub capacity: u32,
    /// Which length the statistics of sizes are of.
    pub accounting: Accounting,
    /// So many first packets are listed one by one.
    pub first_packets: u16,
    /// What is measured.
    pub needs: Needs,
    /// How flows are dissected, if something needs that.
    pub dissection: DissectionSettings,
}

impl Default for Settings {
    /// What NFStream has: 120 s idle, 1800 s active.
    fn default() -> Self {
        const SECOND: i64 = 1_000_000_000;
        Self {
            idle: 120 * SECOND,
            active: 1800 * SECOND,
            linger: 5 * SECOND,
            capacity: 524_288,
            accounting: Accounting::Ip,
            first_packets: 10,
            needs: Needs::NONE,
            dissection: DissectionSettings::default(),
        }
    }
}

/// A flow that has ended, or how one was until somebody asked.
#[derive(Clone, Debug)]
pub struct Record {
    /// Who talked to whom, and how much.
    pub flow: Flow,
    /// Why it ended.
    pub reason: EndReason,
    /// When that was certain: its last packet and the idle timeout, for example. Records come in this
    /// order. Of a flow that goes on, when its last packet came.
    pub ended: Timestamp,
    /// What was measured.
    pub features: Features,
    /// Which length the sizes are of.
    pub accounting: Accounting,
    /// What was found in its messages, if something was.
    pub dissected: Option<Box<Dissected>>,
    /// What it is called by that, if anybody listened.
    pub application: Option<Application>,
    /// Who was at each end, the initiator's first, if somebody was asked.
    pub holders: Option<Box<[Holder; 2]>>,
    /// What plugins say, if there are any.
    pub plugins: Option<Box<Said>>,
}

/// What a cache has counted. Packets taken in are those of the records handed out and of the flows held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets taken in.
    pub packets: u64,
    /// Flows begun.
    pub flows: u64,
    /// Flows that ended for want of room.
    pub evicted: u64,
    /// The most flows held at a time.
    pub most: u32,
}

/// What is known of a flow besides the flow: where it is to be found, and when it is due.
#[derive(Clone, Debug)]
struct Held {
    /// Without packets, if it was told of by the active timeout and is silent since.
    flow: Flow,
    /// When its last packet came.
    last: Timestamp,
    /// When its connection was over, if it is.
    closed: Moment,
}

/// The flows that go on.
#[derive(Debug)]
pub struct Cache {
    settings: Settings,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    held: Slab<Option<Held>>,
    states: States,
    dissections: Option<Dissections>,
    plugins: Attached,
    free: Vec<u32>,
    reached: u32,
    /// Open flows by their last packets, and closed ones by when they closed: none is in both.
    idle: Queue,
    closed: Queue,
    activity: Slab<Links>,
    /// Open flows by their first packets.
    active: Queue,
    age: Slab<Links>,
    /// All flows, the first last, when they are being handed out.
    leaving: Vec<u32>,
    /// No flow is due before; what a packet puts off is still thought of as due.
    nothing_before: Timestamp,
    counts: Counts,
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self::with_plugins(settings, Attached::default())
    }

    /// An empty cache whose flows are shown to plugins.
    pub(super) fn with_plugins(settings: Settings, plugins: Attached) -> Self {
        let settings = Settings { capacity: settings.capacity.max(1), ..settings };
        Self {
            settings,
            table: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            held: Slab::new(1),
            states: States::new(&settings),
            dissections: settings
                .needs
                .has(Needs::DISSECTION)
                .then(|| Dissections::new(settings.dissection)),
            plugins,
            free: Vec::new(),
            reached: 0,
            idle: Queue::EMPTY,
            closed: Queue::EMPTY,
            activity: Slab::new(1),
            active: Queue::EMPTY,
            age: Slab::new(1),
            leaving: Vec::new(),
            nothing_before: Timestamp(i64::MAX),
            counts: Counts::default(),
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Its plugins; the flows held are gone.
    pub(super) fn into_plugins(self) -> Attached {
        self.plugins
    }

    /// How many flows are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether no flow is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Takes in a packet at the time `now`, which is never earlier than at the packet before. Flows that
    /// end by it are handed out first.
    pub fn observe(&mut self, packet: &Packet, now: Timestamp, ended: impl FnMut(&mut Record)) {
        self.observe_with(packet, &[], now, ended);
    }

    /// [`observe`](Self::observe) with the octets that the packet's payload is in, if a plugin wants it.
    pub(super) fn observe_with(
        &mut self,
        packet: &Packet,
        octets: &[u8],
        now: Timestamp,
        mut ended: impl FnMut(&mut Record),
    ) {
        self.expire(now, &mut ended);
        self.counts.packets += 1;
        let hash = self.hasher.hash_one(BiflowKey::of(packet));
        let number = match self.find(hash, packet) {
            Some(number) => {
                if let Some((reason, at)) = self.is_over(number, packet, now) {
                    self.end(number, reason, at, &mut ended);
                }
                // By the active timeout it has not gone.
                let goes_on = self.held.one(number).is_some();
                if goes_on { number } else { self.begin(hash, packet, now, &mut ended) }
            }
            None => self.begin(hash, packet, now, &mut ended),
        };
        self.count(number, packet, octets, now, &mut ended);
    }

    #[inline]
    fn find(&self, hash: u64, packet: &Packet) -> Option<u32> {
        let is = |number: &u32| {
            self.held.one(*number).as_ref().is_some_and(|held| held.flow.is_of(packet))
        };
        self.table.find(hash, is).copied()
    }

    /// Whether a flow of this packet's key is over before it: there is a new connection of the same ports,
    /// or the flow is due, though others in front of it are not.
    fn is_over(
        &self,
        number: u32,
        packet: &Packet,
        now: Timestamp,
    ) -> Option<(EndReason, Timestamp)> {
        let held = self.held.one(number).as_ref()?;
        let (due, reason) = self.due(held);
        let reopened = match &packet.transport {
            Transport::Tcp(tcp) => {
                held.flow.closing.is_reopened_by(held.flow.direction(packet), tcp)
            }
            _ => false,
        };
        (due <= now || reopened).then_some((reason, due.min(now)))
    }

    /// When a flow is due, and why.
    fn due(&self, held: &Held) -> (Timestamp, EndReason) {
        let Settings { idle, active, linger, .. } = self.settings;
        let after = |time: Timestamp, timeout: i64| Timestamp(time.0.saturating_add(timeout));
        if let Some(closed) = held.closed.get() {
            return (after(closed, linger), EndReason::EndOfFlow);
        }
        let idle = after(held.last, idle);
        let active = after(held.flow.first(), active);
        if idle <= active {
            (idle, EndReason::IdleTimeout)
        } else {
            (active, EndReason::ActiveTimeout)
        }
    }

    fn begin(
        &mut self,
        hash: u64,
        packet: &Packet,
        now: Timestamp,
        ended: &mut impl FnMut(&mut Record),
    ) -> u32 {
        if self.table.len() >= self.settings.capacity as usize {
            // The closed ones have no more to say.
            let quiet = self.closed.front().or(self.idle.front());
            if let Some(quiet) = quiet {
                self.counts.evicted += 1;
                self.end(quiet, EndReason::LackOfResources, now, ended);
            }
        }
        let number = self.free.pop().unwrap_or_else(|| {
            let number = self.reached;
            self.reached += 1;
            self.held.reach(number, &None);
            self.activity.reach(number, &Links::NOWHERE);
            self.age.reach(number, &Links::NOWHERE);
            self.states.reach(number);
            if let Some(dissections) = &mut self.dissections {
                dissections.reach(number);
            }
            self.plugins.reach(number);
            number
        });
        let flow = Flow::begun_by(packet);
        if let Some(dissections) = &mut self.dissections {
            dissections.begin(number, &flow, now);
        }
        *self.held.one_mut(number) = Some(Held { flow, last: now, closed: Moment::NONE });
        self.states.begin(number);
        self.idle.push(&mut self.activity, number);
        let (held, hasher) = (&self.held, &self.hasher);
        let hash_of = |number: &u32| {
            held.one(*number).as_ref().map_or(0, |held| hasher.hash_one(held.flow.key()))
        };
        self.table.insert_unique(hash, number, hash_of);
        self.counts.flows += 1;
        self.counts.most =
            self.counts.most.max(u32::try_from(self.table.len()).unwrap_or(u32::MAX));
        number
    }

    fn count(
        &mut self,
        number: u32,
        packet: &Packet,
        octets: &[u8],
        now: Timestamp,
        ended: &mut impl FnMut(&mut Record),
    ) {
        let Some(held) = self.held.one_mut(number) else { return };
        held.last = now;
        let flow = &mut held.flow;
        let begins = flow.packets() == 0;
        if begins && held.closed.get().is_none() {
            self.active.push(&mut self.age, number);
        }
        let direction = flow.direction(packet);
        let step = Step::of(flow, direction, packet, self.settings.accounting);
        flow.counters.of_mut(direction).count(packet);
        flow.fragments += u32::from(packet.fragment.is_some());
        flow.truncated += u32::from(packet.lengths.truncated);
        let mut closes = false;
        if let Transport::Tcp(tcp) = &packet.transport {
            flow.closing.see(direction, tcp, packet.lengths.payload);
            closes = held.closed.get().is_none() && flow.closing.is_closed();
        }
        self.states.see(number, &step);
        if let Some(dissections) = &mut self.dissections {
            dissections.see(number, flow, direction, packet, packet.payload(octets));
        }
        if closes {
            held.closed = Moment::at(now);
            self.idle.remove(&mut self.activity, number);
            self.active.remove(&mut self.age, number);
            self.closed.push(&mut self.activity, number);
        } else if held.closed.get().is_none() {
            self.idle.touch(&mut self.activity, number);
        }
        if begins || closes {
            self.is_due(number);
        }
        if !self.plugins.is_empty() {
            self.show(number, &step, octets, now, ended);
        }
    }

    /// A host was told by DNS an address that it asked for.
    pub(super) fn learn(
        &mut self,
        client: Address,
        network: ([u16; 2], u32),
        learnt: &Learnt,
        now: Timestamp,
    ) {
        if let Some(dissections) = &mut self.dissections {
            dissections.learn(client, network, learnt, now);
        }
    }

    /// Shows a packet to the plugins, and hands out its flow if one of them wants that.
    #[inline(never)]
    fn show(
        &mut self,
        number: u32,
        step: &Step<'_>,
        octets: &[u8],
        now: Timestamp,
        ended: &mut impl FnMut(&mut Record),
    ) {
        let Some(held) = self.held.one(number) else { return };
        let shown = Shown {
            flow: &held.flow,
            step,
            payload: step.packet.payload(octets),
            dissected: self.dissections.as_ref().and_then(|found| found.found(number)),
        };
        if let Some(forced) = self.plugins.show(number, &shown) {
            self.hand_out(number, EndReason::Forced, Some(forced), now, ended);
        }
    }

    /// Hands out the flows that are due at `now`.
    #[inline]
    pub fn expire(&mut self, now: Timestamp, ended: &mut impl FnMut(&mut Record)) {
        if now < self.nothing_before {
            return;
        }
        self.nothing_before = Timestamp(i64::MAX);
        while let Some((due, number, reason)) = self.next_due() {
            if due > now {
                self.nothing_before = due;
                break;
            }
            self.end(number, reason, due, ended);
        }
    }

    /// A flow has a new time at which it is due.
    fn is_due(&mut self, number: u32) {
        if let Some(held) = self.held.one(number) {
            self.nothing_before = self.nothing_before.min(self.due(held).0);
        }
    }

    /// When the next flow is due; a timer need not call [`expire`](Self::expire) before.
    #[must_use]
    pub fn due_next(&self) -> Option<Timestamp> {
        self.next_due().map(|(due, ..)| due)
    }

    #[inline]
    fn next_due(&self) -> Option<(Timestamp, u32, EndReason)> {
        let fronts = [self.closed.front(), self.idle.front(), self.active.front()];
        let due = |number: u32| {
            let held = self.held.one(number).as_ref()?;
            let (due, reason) = self.due(held);
            Some((due, number, reason))
        };
        fronts.into_iter().flatten().filter_map(due).min_by_key(|(due, ..)| *due)
    }

    /// When each of the flows held began.
    pub(super) fn begins(&self) -> impl Iterator<Item = Timestamp> {
        let begin = |&number: &u32| self.held.one(number).as_ref().map(|held| held.flow.first());
        self.table.iter().filter_map(begin)
    }

    /// Hands out all flows that are left: by their first packets, and by who talks to whom where these are
    /// of the same moment.
    pub fn finish(&mut self, now: Timestamp, ended: &mut impl FnMut(&mut Record)) {
        self.leave(Timestamp(i64::MAX), now, ended);
    }

    /// [`finish`](Self::finish) for the flows that began until then. Only more of this may follow.
    pub(super) fn leave(
        &mut self,
        until: Timestamp,
        now: Timestamp,
        ended: &mut impl FnMut(&mut Record),
    ) {
        let held = &self.held;
        if self.leaving.is_empty() {
            self.leaving.extend(self.table.iter().copied());
            let order = |&number: &u32| {
                held.one(number).as_ref().map(|held| (held.flow.first(), held.flow.key()))
            };
            self.leaving.sort_by_cached_key(|number| std::cmp::Reverse(order(number)));
        }
        while let Some(&number) = self.leaving.last() {
            let Some(held) = self.held.one(number) else { break };
            if held.flow.first() > until {
                break;
            }
            let over = held.closed.get().is_some();
            let reason = if over { EndReason::EndOfFlow } else { EndReason::Forced };
            self.leaving.pop();
            self.end(number, reason, now, ended);
        }
    }

    /// The flow of this key, if it goes on; without packets, if the active timeout has told of it.
    pub(super) fn flow(&self, key: &BiflowKey) -> Option<&Flow> {
        Some(&self.held_of(key)?.1.flow)
    }

    /// How the flow of this key was until now; nothing about it changes. A connection that is over, but
    /// takes in what still comes, has its reason; any other one goes on.
    pub(super) fn peek(&self, key: &BiflowKey) -> Option<Record> {
        let (number, held) = self.held_of(key)?;
        let over = held.closed.get().is_some();
        let reason = if over { EndReason::EndOfFlow } else { EndReason::GoesOn };
        let dissected = self.dissections.as_ref().and_then(|found| found.dissected(number));
        Some(self.record(number, &held.flow, reason, held.last, dissected))
    }

    fn held_of(&self, key: &BiflowKey) -> Option<(u32, &Held)> {
        let held = |number: u32| self.held.one(number).as_ref();
        let is = |&number: &u32| held(number).is_some_and(|held| held.flow.key() == *key);
        let number = *self.table.find(self.hasher.hash_one(key), is)?;
        Some((number, held(number)?))
    }

    fn record(
        &self,
        number: u32,
        flow: &Flow,
        reason: EndReason,
        ended: Timestamp,
        dissected: Option<Box<Dissected>>,
    ) -> Record {
        let features = self.states.end(number, flow);
        let accounting = self.settings.accounting;
        let application = self
            .dissections
            .as_ref()
            .map(|found| Application::of(flow, dissected.as_deref(), found.rules()));
        Record {
            flow: flow.clone(),
            reason,
            ended,
            features,
            accounting,
            dissected,
            application,
            holders: None,
            plugins: None,
        }
    }

    fn end(
        &mut self,
        number: u32,
        reason: EndReason,
        at: Timestamp,
        ended: &mut impl FnMut(&mut Record),
    ) {
        self.hand_out(number, reason, None, at, ended);
    }

    /// Ends a flow, with the reason of a plugin if one wanted it.
    fn hand_out(
        &mut self,
        number: u32,
        reason: EndReason,
        forced: Option<Cow<'static, str>>,
        at: Timestamp,
        ended: &mut impl FnMut(&mut Record),
    ) {
        let goes_on = reason == EndReason::ActiveTimeout || forced.is_some();
        let dissected = match &mut self.dissections {
            Some(found) if goes_on => found.dissected(number),
            Some(found) => found.end(number),
            None => None,
        };
        let Some(held) = self.held.one(number) else { return };
        let counted = held.flow.packets() > 0;
        let closed = held.closed.get().is_some();
        // Large, and so made once and never moved.
        let mut record = self.record(number, &held.flow, reason, at, dissected);
        if counted && !closed {
            self.active.remove(&mut self.age, number);
        }
        if counted && !self.plugins.is_empty() {
            record.plugins = Some(self.plugins.end(number, &record, forced));
        }
        if goes_on {
            if let Some(held) = self.held.one_mut(number) {
                held.flow.begin_anew();
            }
            self.states.begin(number);
        } else {
            let queue = if closed { &mut self.closed } else { &mut self.idle };
            queue.remove(&mut self.activity, number);
            let hash = self.hasher.hash_one(record.flow.key());
            if let Ok(entry) = self.table.find_entry(hash, |&other| other == number) {
                entry.remove();
            }
            *self.held.one_mut(number) = None;
            self.free.push(number);
        }
        if counted {
            ended(&mut record);
        }
    }
}
