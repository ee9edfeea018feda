//! Recent flows, for a service that asks about a conversation of its own while it goes on: how the flow of
//! this remote address and port is, at once or as soon as it has enough packets.
//!
//! A machine that is fed and asked. Frames come with their times, and become flows by the sequence, the
//! cache and the features that the meter has. Questions come with deadlines, by a clock of
//! their own that is never set. Nothing here waits.
//!
//! It does not know which end of a flow is the service's: a capture sees both, and behind a translation or
//! on one host neither address says. So a flow is found by either end. Of several flows that an end has, the one
//! with the newest packet answers, among those with enough packets: a single made-up packet does not hide a
//! conversation. Who knows the near port as well can say it.
//!
//! Bounded are the flows that go on ([`Settings::capacity`]), those kept after their end (as many), and the
//! questions that wait.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use hashbrown::{HashMap, hash_map::Entry};

use super::sequence::{Placed, Sequencer};
use super::{BiflowKey, Cache, Record, Settings, Tally};
use crate::features::Column;
use crate::key::{Endpoint, Timestamp};
use crate::packet::{Address, Batch, Decoder, Fragments, Packet, Undecoded};

/// Which flows are kept, and what is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentSettings {
    /// What is measured of flows, and how many may go on at a time. Its idle and active timeouts mean
    /// nothing here: `keep` says when a flow is over, and a flow is told of from its first packet on.
    pub flows: Settings,
    /// A flow answers when it has so many packets, at least one.
    pub least_packets: u64,
    /// So long after its last packet a flow is forgotten by the next sweep, in nanoseconds. One that goes
    /// on after such a silence begins anew.
    pub keep: i64,
    /// So many questions wait at most.
    pub waiting: usize,
}

impl Default for RecentSettings {
    /// 3 packets, a minute, 32,768 flows, 256 questions.
    fn default() -> Self {
        let flows = Settings { capacity: 32_768, ..Settings::default() };
        Self { flows, least_packets: 3, keep: 60_000_000_000, waiting: 256 }
    }
}

impl RecentSettings {
    /// The default, with what these columns need.
    #[must_use]
    pub fn measuring(columns: &[Column]) -> Self {
        let default = Self::default();
        Self { flows: Settings { needs: Column::all_need(columns), ..default.flows }, ..default }
    }
}

/// The far end of a conversation, as its near end knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Remote {
    /// Its address and port, as the capture sees them: behind a proxy those of the proxy.
    pub endpoint: Endpoint,
    /// The near port, if only that conversation is meant.
    pub local_port: Option<u16>,
}

impl From<Endpoint> for Remote {
    fn from(endpoint: Endpoint) -> Self {
        Self { endpoint, local_port: None }
    }
}

impl From<SocketAddr> for Remote {
    fn from(address: SocketAddr) -> Self {
        Endpoint::from(address).into()
    }
}

/// A question that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// What becomes of a question at once.
#[derive(Clone, Debug)]
pub enum Answer {
    /// There is a flow with enough packets.
    Now(Box<Record>),
    /// Not yet: the ticket is answered by [`Recent::observe`] or given up by [`Recent::expire`].
    Later(Ticket),
    /// Not yet, and too many wait already.
    Full,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missed {
    /// No flow of it is known.
    #[error("no packet of it was seen, or none lately")]
    NotSeen,
    /// There is one with fewer packets than are needed.
    #[error("only {packets} of {least} packets of it were seen")]
    TooFew {
        /// So many it has.
        packets: u64,
        /// So many it needs.
        least: u64,
    },
}

/// The recent flows of a capture.
#[derive(Debug)]
pub struct Recent {
    decoder: Decoder,
    sequencer: Sequencer,
    placed: Vec<Placed>,
    fragments: Fragments,
    known: Known,
    frames: u64,
    undecoded: [u64; Undecoded::ALL.len()],
    truncated: u64,
}

impl Recent {
    /// No flows yet.
    #[must_use]
    pub fn new(decoder: Decoder, settings: RecentSettings) -> Self {
        Self {
            decoder,
            sequencer: Sequencer::default(),
            placed: Vec::new(),
            fragments: Fragments::default(),
            known: Known::new(settings),
            frames: 0,
            undecoded: [0; Undecoded::ALL.len()],
            truncated: 0,
        }
    }

    /// Takes in frames, and answers those who waited for a flow of theirs: as it is at the batch's end. It
    /// is at least so late, if that is known (a batch may be empty).
    pub fn observe(
        &mut self,
        batch: &mut Batch,
        late: Option<Timestamp>,
        answered: &mut impl FnMut(Ticket, Record),
    ) {
        self.frames += batch.len() as u64;
        let mut placed = std::mem::take(&mut self.placed);
        placed.clear();
        self.sequencer.place(batch, &mut placed);
        if let Some(late) = late {
            self.sequencer.tick(late, batch, &mut placed);
        }
        self.count(&placed, batch);
        self.placed = placed;
        self.known.answer_all(answered);
    }

    fn count(&mut self, placed: &[Placed], batch: &Batch) {
        let mut packet = Packet::BLANK;
        for &Placed { frame, time, now, all_over } in placed {
            let Self { decoder, fragments, known, undecoded, truncated, .. } = self;
            if all_over {
                fragments.finish(|packet| known.count(&packet, &[], now));
                known.set_back(now);
            }
            known.now = known.now.max(now);
            let now = known.now;
            let Some(frame) = batch.frames().get(frame as usize) else { continue };
            let bytes = batch.bytes_of(frame);
            match decoder.decode_into(frame.link_type, time, bytes, frame.wire, &mut packet) {
                Ok(()) => {
                    *truncated += u64::from(packet.lengths.truncated);
                    fragments.take(packet, now, |packet| known.count(&packet, bytes, now));
                }
                Err(why) => undecoded[why as usize] += 1,
            }
        }
    }

    /// How the flow of this remote end is, if it has enough packets.
    ///
    /// # Errors
    /// Why there is none.
    pub fn answer(&self, remote: Remote) -> Result<Record, Missed> {
        self.known.answer(&End::of(remote))
    }

    /// Asks for the flow of this remote end; without one the question waits until the deadline.
    pub fn ask(&mut self, remote: Remote, deadline: Duration) -> Answer {
        let end = End::of(remote);
        match self.known.answer(&end) {
            Ok(record) => Answer::Now(Box::new(record)),
            Err(_) => self.known.waiting.add(end, deadline).map_or(Answer::Full, Answer::Later),
        }
    }

    /// Gives up the questions whose deadlines have come, and says why they have no answer.
    pub fn expire(&mut self, at: Duration, missed: &mut impl FnMut(Ticket, Missed)) {
        while let Some((ticket, end)) = self.known.waiting.due(at) {
            // One that can be answered was, by the packet that made it so.
            missed(ticket, self.known.answer(&end).err().unwrap_or(Missed::NotSeen));
        }
    }

    /// The next deadline of a question.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.known.waiting.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Whoever asked has gone.
    pub fn forget(&mut self, ticket: Ticket) {
        self.known.waiting.remove(ticket);
    }

    /// How many questions wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.known.waiting.tickets.len()
    }

    /// How many flows are known: those that go on, and those that have ended lately.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.cache.len() + self.known.ended.flows.len()
    }

    /// Whether no flow is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets the flows that are older than [`RecentSettings::keep`], by the clock of packets.
    pub fn sweep(&mut self, now: Timestamp) {
        self.known.sweep(now);
    }

    /// What became of the frames so far. A frame whose time is doubted and fragments without their first
    /// are counted in no flow yet.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let clock = self.sequencer.clock();
        Tally {
            frames: self.frames,
            undecoded: self.undecoded,
            flows: self.known.cache.counts(),
            records: self.known.records,
            held: self.known.cache.len() as u64,
            truncated: self.truncated,
            clock_jumps: clock.jumps(),
            wild_times: clock.wild(),
        }
    }

    /// No frame follows: ends all flows. What became of the frames.
    #[must_use]
    pub fn finish(mut self) -> Tally {
        let (mut batch, mut placed) = (Batch::default(), Vec::new());
        self.sequencer.finish(&mut batch, &mut placed);
        self.count(&placed, &batch);
        let Self { fragments, known, .. } = &mut self;
        let now = known.now;
        fragments.finish(|packet| known.count(&packet, &[], now));
        known.cache.finish(now, &mut |_| known.records += 1);
        self.tally()
    }
}

/// What a flow is found by: an address, its port, and the port of the other end if that is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct End(Address, u16, Option<u16>);

impl End {
    fn of(Remote { endpoint, local_port }: Remote) -> Self {
        Self(endpoint.address().into(), endpoint.port(), local_port)
    }

    /// All that find this flow.
    fn all(key: &BiflowKey) -> [Self; 4] {
        let ((low, low_port), (high, high_port)) = (key.low, key.high);
        [
            Self(low, low_port, None),
            Self(high, high_port, None),
            Self(low, low_port, Some(high_port)),
            Self(high, high_port, Some(low_port)),
        ]
    }
}

/// The flows, and who waits for them.
#[derive(Debug)]
struct Known {
    least_packets: u64,
    keep: i64,
    cache: Cache,
    ended: Ended,
    /// Which flow answers for an end: the one with the newest packet among those with enough packets, any if
    /// none has. Each is in the cache or in `ended`.
    newest: HashMap<End, BiflowKey>,
    waiting: Waiting,
    /// Ends with a flow that may answer who waits.
    ready: Vec<End>,
    /// Flows on their way from the cache.
    leaving: Vec<Record>,
    now: Timestamp,
    records: u64,
}

impl Known {
    fn new(settings: RecentSettings) -> Self {
        let flows = Settings { idle: settings.keep, active: i64::MAX, ..settings.flows };
        Self {
            least_packets: settings.least_packets.max(1),
            keep: settings.keep,
            cache: Cache::new(flows),
            ended: Ended::new(flows.capacity.max(1)),
            newest: HashMap::new(),
            waiting: Waiting::new(settings.waiting),
            ready: Vec::new(),
            leaving: Vec::new(),
            now: Timestamp(i64::MIN),
            records: 0,
        }
    }

    fn count(&mut self, packet: &Packet, frame: &[u8], now: Timestamp) {
        let leaving = &mut self.leaving;
        self.cache.observe_with(packet, frame, now, |record| leaving.push(record.clone()));
        self.take_leave();
        let key = BiflowKey::of(packet);
        let flow = self.cache.flow(&key);
        let enough = flow.is_some_and(|flow| flow.packets() >= self.least_packets);
        for end in End::all(&key) {
            let newest = self.newest.entry(end).or_insert(key);
            if enough {
                *newest = key;
            }
            if enough && self.waiting.by_end.contains_key(&end) {
                self.ready.push(end);
            }
        }
    }

    /// Keeps what has left the cache. Flows with too few packets are not kept: they never answer, and whoever
    /// makes many of them would push out those that do.
    fn take_leave(&mut self) {
        while let Some(record) = self.leaving.pop() {
            self.records += 1;
            let key = record.flow.key();
            let gone = if record.flow.packets() >= self.least_packets {
                let since = record.flow.last().min(self.now);
                self.ended.keep(key, since, record)
            } else {
                Some(key)
            };
            if let Some(key) = gone {
                self.forget(&key);
            }
        }
    }

    /// A flow is gone, unless another of the same key is there.
    fn forget(&mut self, key: &BiflowKey) {
        if self.cache.flow(key).is_some() || self.ended.flows.contains_key(key) {
            return;
        }
        for end in End::all(key) {
            if let Entry::Occupied(newest) = self.newest.entry(end)
                && newest.get() == key
            {
                newest.remove();
            }
        }
    }

    fn answer(&self, end: &End) -> Result<Record, Missed> {
        let key = self.newest.get(end).ok_or(Missed::NotSeen)?;
        // A connection that goes on is asked about, not an earlier one of the same ports.
        let Some(flow) = self.cache.flow(key) else {
            let ended = self.ended.flows.get(key);
            return ended.map(|kept| kept.record.clone()).ok_or(Missed::NotSeen);
        };
        let (packets, least) = (flow.packets(), self.least_packets);
        if packets < least {
            return Err(Missed::TooFew { packets, least });
        }
        self.cache.peek(key).ok_or(Missed::NotSeen)
    }

    fn answer_all(&mut self, answered: &mut impl FnMut(Ticket, Record)) {
        while let Some(end) = self.ready.pop() {
            if !self.waiting.by_end.contains_key(&end) {
                continue;
            }
            // Its ports may have begun another connection since; then it waits for that.
            if let Ok(record) = self.answer(&end) {
                for ticket in self.waiting.all_of(&end) {
                    answered(ticket, record.clone());
                }
            }
        }
    }

    fn sweep(&mut self, now: Timestamp) {
        // Not kept: the next packet may be earlier.
        let (now, leaving) = (self.now.max(now), &mut self.leaving);
        self.cache.expire(now, &mut |record| leaving.push(record.clone()));
        self.take_leave();
        for key in self.ended.older_than(Timestamp(now.0.saturating_sub(self.keep))) {
            self.forget(&key);
        }
    }

    /// The clock was set back: all flows before are over, and none is from the future.
    fn set_back(&mut self, now: Timestamp) {
        self.now = now;
        let leaving = &mut self.leaving;
        self.cache.finish(now, &mut |record| leaving.push(record.clone()));
        self.take_leave();
        self.ended.flows.values_mut().for_each(|kept| kept.since = kept.since.min(now));
    }
}

/// Flows that have ended, each the last one of its key.
#[derive(Debug)]
struct Ended {
    capacity: usize,
    flows: HashMap<BiflowKey, Kept>,
    /// In the order in which they ended; some are no longer there, or were replaced. Never more than the
    /// capacity.
    order: VecDeque<(u64, BiflowKey)>,
    next: u64,
}

#[derive(Debug)]
struct Kept {
    /// Which place in the order is its own.
    number: u64,
    /// Its last packet.
    since: Timestamp,
    record: Record,
}

impl Ended {
    fn new(capacity: u32) -> Self {
        let capacity = capacity as usize;
        Self { capacity, flows: HashMap::new(), order: VecDeque::new(), next: 0 }
    }

    /// Keeps a flow; gives the key of the oldest if that has to go.
    fn keep(&mut self, key: BiflowKey, since: Timestamp, record: Record) -> Option<BiflowKey> {
        let mut gone = None;
        if self.order.len() >= self.capacity
            && let Some((number, oldest)) = self.order.pop_front()
            && self.flows.get(&oldest).is_some_and(|kept| kept.number == number)
        {
            self.flows.remove(&oldest);
            gone = Some(oldest);
        }
        let number = self.next;
        self.next += 1;
        self.order.push_back((number, key));
        self.flows.insert(key, Kept { number, since, record });
        gone
    }

    /// Takes out those whose last packet is older than that.
    fn older_than(&mut self, time: Timestamp) -> Vec<BiflowKey> {
        let old = self.flows.extract_if(|_, kept| kept.since <= time);
        let keys = old.map(|(key, _)| key).collect();
        let flows = &self.flows;
        self.order
            .retain(|(number, key)| flows.get(key).is_some_and(|kept| kept.number == *number));
        keys
    }
}

/// The questions that wait.
#[derive(Debug)]
struct Waiting {
    most: usize,
    tickets: HashMap<Ticket, (End, Duration)>,
    by_end: HashMap<End, Vec<Ticket>>,
    deadlines: BTreeSet<(Duration, Ticket)>,
    next: u64,
}

impl Waiting {
    fn new(most: usize) -> Self {
        Self {
            most,
            tickets: HashMap::new(),
            by_end: HashMap::new(),
            deadlines: BTreeSet::new(),
            next: 0,
        }
    }

    fn add(&mut self, end: End, deadline: Duration) -> Option<Ticket> {
        if self.tickets.len() >= self.most {
            return None;
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.tickets.insert(ticket, (end, deadline));
        self.by_end.entry(end).or_default().push(ticket);
        self.deadlines.insert((deadline, ticket));
        Some(ticket)
    }

    fn remove(&mut self, ticket: Ticket) -> Option<End> {
        let (end, deadline) = self.tickets.remove(&ticket)?;
        self.deadlines.remove(&(deadline, ticket));
        if let Some(tickets) = self.by_end.get_mut(&end) {
            tickets.retain(|&other| other != ticket);
            if tickets.is_empty() {
                self.by_end.remove(&end);
            }
        }
        Some(end)
    }

    /// Takes out the next one whose deadline has come.
    fn due(&mut self, at: Duration) -> Option<(Ticket, End)> {
        let &(deadline, ticket) = self.deadlines.first()?;
        if deadline > at {
            return None;
        }
        self.remove(ticket).map(|end| (ticket, end))
    }

    /// Takes out all that wait for this end, in the order in which they asked.
    fn all_of(&mut self, end: &End) -> Vec<Ticket> {
        let tickets = self.by_end.remove(end).unwrap_or_default();
        for ticket in &tickets {
            if let Some((_, deadline)) = self.tickets.remove(ticket) {
                self.deadlines.remove(&(deadline, *ticket));
            }
        }
        tickets
    }
}
