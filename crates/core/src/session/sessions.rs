//! All sessions that go on, and when each of them ends.
//!
//! They end by packets' time, as flows do: some time after they were closed, or without packets; and they
//! are bounded. One more than [`Settings::capacity`] ends one that is closed, or else one whose handshake is not
//! over, or else the one that was quiet for the longest: SYNs alone, however many, end no connection that is in
//! use. A session takes about 1 KiB, besides the segments that wait for others in front of them
//! ([`Settings::waiting`]) and those that wait for their acknowledgment (1 KiB at most).

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::connection::{Connection, Tell, segment};
use super::{Event, SessionId};
use crate::flow::{BiflowKey, EndReason, Links, Queue, Slab};
use crate::key::Timestamp;
use crate::packet::Packet;

/// When sessions end, how many there may be, and how much of them may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// So long after its last packet a session ends, in nanoseconds.
    pub idle: i64,
    /// So long after its last packet a session ends whose handshake is not over, in nanoseconds.
    pub opening: i64,
    /// So long after it was closed a session takes in what still comes, in nanoseconds.
    pub linger: i64,
    /// So many sessions are held at most, at least one.
    pub capacity: u32,
    /// So many octets of memory one direction of a session may take for segments that wait for others in front
    /// of them; each takes its payload and 128 more. Beyond that the first holes are given up.
    pub waiting: usize,
    /// So many all sessions may take for that. Beyond it, whoever has waited for the longest waits no more.
    pub all_waiting: usize,
}

impl Default for Settings {
    /// Ten minutes idle, as far as the packets' clock goes without being doubted; two to open, as a SYN is sent
    /// again after 64 s at most; 5 s of lingering, as flows have; 65,536 sessions; 1 MiB for a direction to wait
    /// and 64 MiB for all.
    fn default() -> Self {
        const SECOND: i64 = 1_000_000_000;
        Self {
            idle: 600 * SECOND,
            opening: 120 * SECOND,
            linger: 5 * SECOND,
            capacity: 65_536,
            waiting: 1 << 20,
            all_waiting: 64 << 20,
        }
    }
}

/// What was counted of all sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets taken in.
    pub packets: u64,
    /// Sessions begun.
    pub sessions: u64,
    /// Sessions that ended for want of room.
    pub evicted: u64,
    /// How often a session could wait no more for want of room for all.
    pub hurried: u64,
    /// The most sessions held at a time.
    pub most: u32,
}

/// In which queue a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Opening,
    Open,
    Closed,
}

impl Stage {
    /// In the order in which sessions give way to others.
    const ALL: [Self; 3] = [Self::Closed, Self::Opening, Self::Open];
}

#[derive(Clone, Debug)]
struct Held {
    connection: Connection,
    last: Timestamp,
    hash: u64,
    stage: Stage,
    /// What waits in it costs that, as counted in the sum.
    cost: usize,
}

impl Held {
    fn stage_now(&self) -> Stage {
        match (self.connection.closed(), self.connection.is_started()) {
            (Some(_), _) => Stage::Closed,
            (None, true) => Stage::Open,
            (None, false) => Stage::Opening,
        }
    }
}

/// The sessions that go on.
#[derive(Debug)]
pub struct Sessions {
    settings: Settings,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    held: Slab<Option<Box<Held>>>,
    free: Vec<u32>,
    reached: u32,
    /// A queue for each stage, in the order of [`Stage`].
    stages: [Queue; 3],
    activity: Slab<Links>,
    /// Those in which something waits, by when that began.
    waiting: Queue,
    patience: Slab<Links>,
    cost: usize,
    counts: Counts,
}

impl Sessions {
    /// No sessions yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings: Settings { capacity: settings.capacity.max(1), ..settings },
            table: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            held: Slab::new(1),
            free: Vec::new(),
            reached: 0,
            stages: [Queue::EMPTY; 3],
            activity: Slab::new(1),
            waiting: Queue::EMPTY,
            patience: Slab::new(1),
            cost: 0,
            counts: Counts::default(),
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many sessions are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether no session is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// What waits in all sessions takes so many octets of memory.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.cost
    }

    /// Takes in a packet of TCP and the frame that it was decoded from, at the time `now`, which is never
    /// earlier than at the packet before. Sessions that end by it are told of first. Packets without a TCP
    /// header (of other protocols, and fragments that are not the first) are not looked at.
    pub fn observe(
        &mut self,
        packet: &Packet,
        frame: &[u8],
        now: Timestamp,
        mut tell: impl FnMut(&Event<'_>),
    ) {
        let tell: Tell<'_> = &mut tell;
        let Some(tcp) = segment(packet) else { return };
        self.expire_by(now, tell);
        self.counts.packets += 1;
        let hash = self.hasher.hash_one(BiflowKey::of(packet));
        let number = self.find(hash, packet);
        let mut syn = None;
        let number = number.filter(|&number| {
            let Some(held) = self.held.one_mut(number) else { return false };
            if !held.connection.is_followed_by(packet, &tcp) {
                return true;
            }
            syn = held.connection.take_again();
            self.end(number, EndReason::EndOfFlow, now, tell);
            false
        });
        let number =
            number.unwrap_or_else(|| self.begin(hash, syn.as_deref().unwrap_or(packet), now, tell));
        let Some(mut held) = self.held.one_mut(number).take() else { return };
        if let Some(syn) = syn
            && let Some(tcp) = segment(&syn)
        {
            // Its frame is gone.
            held.connection.take(&syn, &tcp, &[], now, tell);
        }
        held.connection.take(packet, &tcp, packet.payload(frame), now, tell);
        held.connection.shrink(self.settings.waiting, now, tell);
        held.last = now;
        let stage = held.stage_now();
        if stage != held.stage {
            self.stages[held.stage as usize].remove(&mut self.activity, number);
            self.stages[stage as usize].push(&mut self.activity, number);
            held.stage = stage;
        } else if stage != Stage::Closed {
            self.stages[stage as usize].touch(&mut self.activity, number);
        }
        *self.held.one_mut(number) = Some(held);
        self.weigh(number);
        while self.cost > self.settings.all_waiting {
            let Some(longest) = self.waiting.front() else { break };
            self.counts.hurried += 1;
            if let Some(held) = self.held.one_mut(longest) {
                held.connection.shrink(0, now, tell);
            }
            self.weigh(longest);
        }
    }

    fn find(&self, hash: u64, packet: &Packet) -> Option<u32> {
        let is = |number: &u32| {
            self.held.one(*number).as_ref().is_some_and(|held| held.connection.is_of(packet))
        };
        self.table.find(hash, is).copied()
    }

    fn begin(&mut self, hash: u64, packet: &Packet, now: Timestamp, tell: Tell<'_>) -> u32 {
        if self.table.len() >= self.settings.capacity as usize {
            let first = |stage: Stage| self.stages[stage as usize].front();
            if let Some(number) = Stage::ALL.into_iter().find_map(first) {
                self.counts.evicted += 1;
                self.end(number, EndReason::LackOfResources, now, tell);
            }
        }
        let number = self.free.pop().unwrap_or_else(|| {
            let number = self.reached;
            self.reached += 1;
            self.held.reach(number, &None);
            self.activity.reach(number, &Links::NOWHERE);
            self.patience.reach(number, &Links::NOWHERE);
            number
        });
        self.counts.sessions += 1;
        let connection = Connection::begun_by(SessionId(self.counts.sessions), packet);
        let stage = Stage::Opening;
        let held = Held { connection, last: now, hash, stage, cost: 0 };
        *self.held.one_mut(number) = Some(Box::new(held));
        self.stages[stage as usize].push(&mut self.activity, number);
        let held = &self.held;
        let hash_of = |number: &u32| held.one(*number).as_ref().map_or(0, |held| held.hash);
        self.table.insert_unique(hash, number, hash_of);
        let length = u32::try_from(self.table.len()).unwrap_or(u32::MAX);
        self.counts.most = self.counts.most.max(length);
        number
    }

    /// Counts again what waits in a session.
    fn weigh(&mut self, number: u32) {
        let Some(held) = self.held.one_mut(number) else { return };
        let (before, cost) = (held.cost, held.connection.cost());
        held.cost = cost;
        self.cost = self.cost - before + cost;
        match (before > 0, cost > 0) {
            (false, true) => self.waiting.push(&mut self.patience, number),
            (true, false) => self.waiting.remove(&mut self.patience, number),
            _ => {}
        }
    }

    /// Tells of the sessions that are over at `now`, in the order in which they ended.
    pub fn expire(&mut self, now: Timestamp, mut tell: impl FnMut(&Event<'_>)) {
        self.expire_by(now, &mut tell);
    }

    fn expire_by(&mut self, now: Timestamp, tell: Tell<'_>) {
        while let Some((due, number, reason)) = self.next_due()
            && due <= now
        {
            self.end(number, reason, due, tell);
        }
    }

    /// When the next session is due; a timer need not call [`expire`](Self::expire) before.
    #[must_use]
    pub fn due_next(&self) -> Option<Timestamp> {
        self.next_due().map(|(due, ..)| due)
    }

    fn next_due(&self) -> Option<(Timestamp, u32, EndReason)> {
        let Settings { idle, opening, linger, .. } = self.settings;
        let due = |number: u32| {
            let held = self.held.one(number).as_ref()?;
            let (since, timeout, reason) = match (held.stage, held.connection.closed()) {
                (Stage::Closed, Some(closed)) => (closed, linger, EndReason::EndOfFlow),
                (Stage::Opening, _) => (held.last, opening, EndReason::IdleTimeout),
                _ => (held.last, idle, EndReason::IdleTimeout),
            };
            Some((Timestamp(since.0.saturating_add(timeout)), number, reason))
        };
        let fronts = self.stages.iter().filter_map(Queue::front);
        fronts.filter_map(due).min_by_key(|(due, ..)| *due)
    }

    /// Tells of all sessions that are left, those that began first in front.
    pub fn finish(&mut self, now: Timestamp, mut tell: impl FnMut(&Event<'_>)) {
        let mut left: Vec<u32> = self.table.iter().copied().collect();
        let order =
            |number: &u32| self.held.one(*number).as_ref().map(|held| held.connection.order());
        left.sort_by_cached_key(order);
        for number in left {
            let closed = self.held.one(number).as_ref().map(|held| held.stage == Stage::Closed);
            let reason =
                if closed == Some(true) { EndReason::EndOfFlow } else { EndReason::Forced };
            self.end(number, reason, now, &mut tell);
        }
    }

    fn end(&mut self, number: u32, reason: EndReason, at: Timestamp, tell: Tell<'_>) {
        let Some(mut held) = self.held.one_mut(number).take() else { return };
        held.connection.end(reason, at, tell);
        self.stages[held.stage as usize].remove(&mut self.activity, number);
        if held.cost > 0 {
            self.cost -= held.cost;
            self.waiting.remove(&mut self.patience, number);
        }
        if let Ok(entry) = self.table.find_entry(held.hash, |&other| other == number) {
            entry.remove();
        }
        self.free.push(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_takes_what_is_said_of_it() {
        let held = size_of::<Held>();
        assert!((768..1280).contains(&held), "{held}");
    }
}
