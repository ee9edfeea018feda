//! The meter (RFC 7011 section 2, Metering Process): frames in, records out, and an account of each
//! frame.
//!
//! Frames are put in sequence one batch after another; each batch is decoded on its own, its packets go to
//! the shards they belong to; each shard takes its packets of one batch after another; and what ends comes
//! together again, batch by batch, in an order of its own: when it ended, when it began, who it was.
//! Reading, decoding, each shard, and putting together are done by whoever has time, so any number of
//! threads gives the same records in the same order.
//!
//! Every frame is in the end a packet of a record or counted under a name for why it is not:
//! [`Tally::is_conserved`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::sequence::{Placed, Sequencer};
use super::shard::{Order, Shard, Task, shard_between, shard_of};
use super::{Counts, Record, Settings};
use crate::dissect::learn;
use crate::features::Needs;
use crate::key::{Protocol, Timestamp};
use crate::packet::{Batch, Decoder, Packet, Undecoded};
use crate::plugin::{Attached, Plugins};

/// There are at most so many shards: enough that a few threads are busy, few enough that each has some
/// packets of every batch.
const SHARDS: u32 = 16;

/// A shard holds at least so many flows; with a smaller capacity there are fewer shards.
const LEAST: u32 = 4096;

/// Room for so many tasks is kept for the next batch: more than any has but one made for that.
const SPARE: usize = 16_384;

/// So many flows are handed out at once when all are.
const LEAVING: usize = 4096;

/// Makes something of records, in any of several threads: rows, for example.
pub trait Make: Sync {
    /// What is made of some records.
    type Made: Default + Send;

    /// Adds what becomes of a record to what became of others. The record is nobody else's: what is not
    /// known yet may be written into it.
    fn make(&self, record: &mut Record, made: &mut Self::Made);
}

/// Takes what was made, in order. A closure that takes is enough; whoever wants to know how far all is says
/// so here.
pub trait Take<M> {
    /// The next record, by its place in what was made.
    fn take(&mut self, made: &M, index: usize);

    /// After the records of a batch: what became of the frames so far, but for what only the end says of
    /// their times. All records that follow ended at `until` or later, as long as time does not jump.
    fn so_far(&mut self, _tally: &Tally, _until: Option<Timestamp>) {}
}

impl<M, F: FnMut(&M, usize)> Take<M> for F {
    fn take(&mut self, made: &M, index: usize) {
        self(made, index);
    }
}

/// Takes records as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsTheyAre;

impl Make for AsTheyAre {
    type Made = Vec<Record>;

    fn make(&self, record: &mut Record, made: &mut Vec<Record>) {
        made.push(record.clone());
    }
}

/// What a source of frames says of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// There may be more. It is at least so late: of a live capture, in which nothing may come for long.
    More(Option<Timestamp>),
    /// It was the last one.
    Last,
}

/// What became of the frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames taken in.
    pub frames: u64,
    /// Those that are no packet of a flow, by why: in the order of [`Undecoded::ALL`].
    pub undecoded: [u64; Undecoded::ALL.len()],
    /// What the caches counted.
    pub flows: Counts,
    /// Records handed out.
    pub records: u64,
    /// Flows that go on.
    pub held: u64,
    /// Packets that were captured in part, among those in flows.
    pub truncated: u64,
    /// How often time has jumped by more than ten minutes.
    pub clock_jumps: u64,
    /// Packets whose time was not believed: they count at the time of the packet before.
    pub wild_times: u64,
}

impl Tally {
    /// Whether every frame is accounted for: in a flow or under a name.
    #[must_use]
    pub fn is_conserved(&self) -> bool {
        self.frames == self.flows.packets + self.undecoded.iter().sum::<u64>()
    }
}

/// Makes flows of all frames of `source`, and something of each flow that ends, by so many threads; `take`
/// is handed what was made, piece by piece: of each piece which records, by their places in it, in the
/// order in which they are to be taken.
///
/// Memory is bounded by the capacity, and by some batches for each thread.
pub fn meter<M: Make>(
    decoder: Decoder,
    settings: Settings,
    threads: usize,
    source: impl FnMut(&mut Batch) -> Filled + Send,
    make: &M,
    take: impl Take<M::Made> + Send,
) -> Tally {
    meter_with(&Plugins::default(), decoder, settings, threads, source, make, take)
}

/// [`meter`] with plugins: each flow is shown to them, and its record has what they say. What they need is
/// measured as well.
pub fn meter_with<M: Make>(
    plugins: &Plugins,
    decoder: Decoder,
    settings: Settings,
    threads: usize,
    mut source: impl FnMut(&mut Batch) -> Filled + Send,
    make: &M,
    mut take: impl Take<M::Made> + Send,
) -> Tally {
    let shards = (settings.capacity / LEAST).clamp(1, SHARDS);
    let each = Settings {
        capacity: settings.capacity.div_ceil(shards),
        needs: settings.needs.and(plugins.needs()),
        ..settings
    };
    let shards = shards as usize;
    let board = Board {
        reader: Some(Reader { source: &mut source, sequencer: Sequencer::default() }),
        number: 0,
        over: false,
        lanes: (0..shards).map(|_| Lane::new(each, plugins.attach())).collect(),
        batches: VecDeque::new(),
        first: 0,
        taker: Some(Taker { take: &mut take, records: 0 }),
        leaving: None,
        spare_batches: Vec::new(),
        spare_places: Vec::new(),
        frames: 0,
        undecoded: [0; Undecoded::ALL.len()],
        broken: false,
    };
    let learns = each.needs.has(Needs::DISSECTION);
    let work =
        Work { board: Mutex::new(board), changed: Condvar::new(), decoder, make, shards, learns };
    let at_once = 2 + 2 * threads;
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| work.run(at_once));
        }
        work.run(at_once);
    });
    let board = work.board.into_inner().unwrap_or_else(PoisonError::into_inner);
    let tally = board.tally();
    let shards = board.lanes.into_iter().filter_map(|lane| lane.shard);
    Attached::exit(shards.map(|shard| shard.into_plugins()));
    tally
}

/// Reads, and puts in sequence.
struct Reader<'a, S> {
    source: &'a mut S,
    sequencer: Sequencer,
}

/// Takes what was made, in order.
struct Taker<'a, T> {
    take: &'a mut T,
    records: u64,
}

/// What a shard is to do by a batch.
#[derive(Default)]
struct Tasks {
    tasks: Vec<Task>,
    /// The batch, in whose octets the payloads of the packets are. All shards have it together: copying
    /// what may be looked at would cost more than the looking.
    batch: Arc<Batch>,
}

/// A shard, and what it is to do: of which batch, and what.
struct Lane {
    /// Gone while somebody works on it.
    shard: Option<Box<Shard>>,
    waiting: BTreeMap<u64, Tasks>,
    /// The batch that is next.
    next: u64,
    /// Room for tasks that was used before.
    spare: Vec<Vec<Task>>,
    counts: Counts,
    truncated: u64,
    held: usize,
}

impl Lane {
    fn new(settings: Settings, plugins: Attached) -> Self {
        Self {
            shard: Some(Box::new(Shard::new(settings, plugins))),
            waiting: BTreeMap::new(),
            next: 0,
            spare: Vec::new(),
            counts: Counts::default(),
            truncated: 0,
            held: 0,
        }
    }
}

/// What ended in one shard by one batch.
struct Ended<M> {
    made: M,
    /// Their order, and their places in what was made.
    order: Vec<(Order, usize)>,
}

/// A batch on its way: what has ended by it in each shard so far.
struct OnItsWay<M> {
    missing: usize,
    ended: Vec<Option<Ended<M>>>,
    /// What ends later ends then or later.
    until: Option<Timestamp>,
}

/// What all threads look at to find something to do.
struct Board<'a, S, T, M> {
    /// Gone while somebody reads.
    reader: Option<Reader<'a, S>>,
    /// How many batches were begun.
    number: u64,
    /// Whether the last one was read.
    over: bool,
    lanes: Vec<Lane>,
    batches: VecDeque<OnItsWay<M>>,
    /// The number of the first of them.
    first: u64,
    /// Gone while somebody puts a batch together.
    taker: Option<Taker<'a, T>>,
    /// After the last batch: until which begin flows leave next.
    leaving: Option<VecDeque<Timestamp>>,
    /// Room that was used before.
    spare_batches: Vec<Batch>,
    spare_places: Vec<Vec<Placed>>,
    frames: u64,
    undecoded: [u64; Undecoded::ALL.len()],
    /// Whether a thread has panicked: the others go home.
    broken: bool,
}

/// What is to be done next.
enum Next<'a, S, T, M> {
    Read(Reader<'a, S>, Batch, u64),
    Shard(usize, Box<Shard>, Tasks, u64),
    Take(Taker<'a, T>, Vec<Ended<M>>, Option<Timestamp>),
    Wait,
    Nothing,
}

struct Work<'a, 'b, S, T, M: Make> {
    board: Mutex<Board<'a, S, T, M::Made>>,
    changed: Condvar,
    decoder: Decoder,
    make: &'b M,
    shards: usize,
    /// Whether names are learnt from answers of DNS.
    learns: bool,
}

impl<S, T, M> Board<'_, S, T, M> {
    fn tally(&self) -> Tally {
        let reader =
            self.reader.as_ref().map(|reader| *reader.sequencer.clock()).unwrap_or_default();
        let mut tally = Tally {
            frames: self.frames,
            undecoded: self.undecoded,
            records: self.taker.as_ref().map_or(0, |taker| taker.records),
            clock_jumps: reader.jumps(),
            wild_times: reader.wild(),
            ..Tally::default()
        };
        for Lane { counts, truncated, held, .. } in &self.lanes {
            tally.flows.packets += counts.packets;
            tally.flows.flows += counts.flows;
            tally.flows.evicted += counts.evicted;
            tally.flows.most += counts.most;
            tally.truncated += truncated;
            tally.held += *held as u64;
        }
        tally
    }

    /// Begins a batch: gives its number.
    fn begin(&mut self) -> u64 {
        let number = self.number;
        self.number += 1;
        let ended = self.lanes.iter().map(|_| None).collect();
        self.batches.push_back(OnItsWay { missing: self.lanes.len(), ended, until: None });
        number
    }

    /// Everything was read and nothing is on its way: the flows that are left leave, some at a time, those
    /// that began first in front.
    fn leave(&mut self) {
        let now = self.reader.as_ref().and_then(|reader| reader.sequencer.clock().now());
        let now = now.unwrap_or_default();
        let lanes = &self.lanes;
        let until = self.leaving.get_or_insert_with(|| {
            let caches = lanes.iter().filter_map(|lane| Some(lane.shard.as_ref()?.cache()));
            let mut begins: Vec<Timestamp> = caches.flat_map(super::Cache::begins).collect();
            begins.sort_unstable();
            let mut until: VecDeque<_> =
                begins.chunks(LEAVING).filter_map(|chunk| chunk.last().copied()).collect();
            // What fragments that still wait begin.
            until.push_back(Timestamp(i64::MAX));
            until
        });
        if let Some(until) = until.pop_front() {
            let number = self.begin();
            for lane in &mut self.lanes {
                let tasks = vec![Task::Leave { until, now }];
                lane.waiting.insert(number, Tasks { tasks, ..Tasks::default() });
            }
        }
    }
}

impl<'a, S, T, M> Work<'a, '_, S, T, M>
where
    S: FnMut(&mut Batch) -> Filled + Send,
    T: Take<M::Made> + Send,
    M: Make,
{
    /// Works until there is nothing left to do.
    fn run(&self, at_once: usize) {
        let watch = Watch(self);
        let mut board = self.lock();
        loop {
            let next = Self::next(&mut board, at_once);
            match next {
                Next::Nothing => break,
                Next::Wait => {
                    board = self.changed.wait(board).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                Next::Read(reader, batch, number) => {
                    let placed = board.spare_places.pop().unwrap_or_default();
                    drop(board);
                    board = self.read(reader, batch, placed, number);
                }
                Next::Shard(lane, mut shard, Tasks { mut tasks, batch }, number) => {
                    drop(board);
                    let ended = self.shard(&mut shard, &tasks, batch.filled());
                    tasks.clear();
                    board = self.lock();
                    // Whoever has it last leaves its room to another one.
                    board.spare_batches.extend(Arc::into_inner(batch));
                    let place = &mut board.lanes[lane];
                    tasks.shrink_to(SPARE);
                    place.spare.push(tasks);
                    place.counts = shard.cache().counts();
                    place.truncated = shard.truncated();
                    place.held = shard.cache().len();
                    place.shard = Some(shard);
                    place.next = number + 1;
                    let index = usize::try_from(number - board.first).unwrap_or(0);
                    let batch = &mut board.batches[index];
                    batch.ended[lane] = Some(ended);
                    batch.missing -= 1;
                }
                Next::Take(mut taker, ended, until) => {
                    let mut tally = board.tally();
                    drop(board);
                    put_together(&ended, |made, index| {
                        taker.records += 1;
                        taker.take.take(made, index);
                    });
                    drop(ended);
                    tally.records = taker.records;
                    taker.take.so_far(&tally, until);
                    board = self.lock();
                    board.taker = Some(taker);
                }
            }
            self.changed.notify_all();
        }
        drop(board);
        std::mem::forget(watch);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Board<'a, S, T, M::Made>> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be done next: the oldest first, so that little is on its way.
    fn next(board: &mut Board<'a, S, T, M::Made>, at_once: usize) -> Next<'a, S, T, M::Made> {
        if board.broken {
            return Next::Nothing;
        }
        if board.batches.front().is_some_and(|batch| batch.missing == 0)
            && let Some(taker) = board.taker.take()
            && let Some(batch) = board.batches.pop_front()
        {
            board.first += 1;
            let OnItsWay { ended, until, .. } = batch;
            return Next::Take(taker, ended.into_iter().flatten().collect(), until);
        }
        let ready = |lane: &Lane| lane.shard.is_some() && lane.waiting.contains_key(&lane.next);
        let oldest = (0..board.lanes.len())
            .filter(|&lane| ready(&board.lanes[lane]))
            .min_by_key(|&lane| board.lanes[lane].next);
        if let Some(number) = oldest {
            let lane = &mut board.lanes[number];
            let batch = lane.next;
            if let (Some(tasks), Some(shard)) = (lane.waiting.remove(&batch), lane.shard.take()) {
                return Next::Shard(number, shard, tasks, batch);
            }
        }
        let room = board.batches.len() < at_once;
        if !board.over {
            if room && let Some(reader) = board.reader.take() {
                let batch = board.spare_batches.pop().unwrap_or_default();
                let number = board.begin();
                return Next::Read(reader, batch, number);
            }
            return Next::Wait;
        }
        if board.batches.is_empty() {
            board.leave();
            if board.batches.is_empty() {
                let idle = board.taker.is_some() && board.reader.is_some();
                return if idle { Next::Nothing } else { Next::Wait };
            }
            return Self::next(board, at_once);
        }
        Next::Wait
    }

    /// Reads a batch, puts it in sequence, and - while somebody else may read the next one - decodes it.
    fn read(
        &self,
        mut reader: Reader<'a, S>,
        mut batch: Batch,
        mut placed: Vec<Placed>,
        number: u64,
    ) -> MutexGuard<'_, Board<'a, S, T, M::Made>> {
        let filled = (reader.source)(&mut batch);
        let frames = batch.len() as u64;
        reader.sequencer.place(&mut batch, &mut placed);
        let late = match filled {
            Filled::More(late) => {
                if let Some(late) = late {
                    reader.sequencer.tick(late, &mut batch, &mut placed);
                }
                late
            }
            Filled::Last => {
                reader.sequencer.finish(&mut batch, &mut placed);
                None
            }
        };
        let now = reader.sequencer.clock().now().max(late);
        let mut lanes: Vec<Vec<Task>> = {
            let mut board = self.lock();
            board.reader = Some(reader);
            board.over = filled == Filled::Last;
            board.frames += frames;
            board.lanes.iter_mut().map(|lane| lane.spare.pop().unwrap_or_default()).collect()
        };
        self.changed.notify_all();

        let mut undecoded = [0; Undecoded::ALL.len()];
        let mut packet = Packet::BLANK;
        for &Placed { frame, time, now, all_over } in &placed {
            if all_over {
                lanes.iter_mut().for_each(|lane| lane.push(Task::AllOver { now }));
            }
            let frame = &batch.frames()[frame as usize];
            let bytes = batch.bytes_of(frame);
            let decoded =
                self.decoder.decode_into(frame.link_type, time, bytes, frame.wire, &mut packet);
            match decoded {
                Ok(()) => {
                    if self.learns && packet.source_port == 53 {
                        self.learn(&packet, packet.payload(bytes), now, &mut lanes);
                    }
                    packet.payload = batch.within(frame, packet.payload);
                    lanes[shard_of(&packet, self.shards)].push(Task::Count { packet, now });
                }
                Err(why) => undecoded[why as usize] += 1,
            }
        }
        if let Some(now) = now {
            lanes.iter_mut().for_each(|lane| lane.push(Task::Expire { now }));
        }
        placed.clear();
        let shared = Arc::new(batch);
        let mut board = self.lock();
        let index = usize::try_from(number - board.first).unwrap_or(0);
        if let Some(batch) = board.batches.get_mut(index) {
            batch.until = now.filter(|_| filled != Filled::Last);
        }
        for (lane, tasks) in board.lanes.iter_mut().zip(lanes) {
            lane.waiting.insert(number, Tasks { tasks, batch: shared.clone() });
        }
        for (sum, more) in board.undecoded.iter_mut().zip(undecoded) {
            *sum += more;
        }
        board.spare_places.push(placed);
        board
    }

    /// Hands the names in an answer of DNS to the shards whose flows may be to them: those of whoever asked to
    /// the addresses in it. So each shard learns in the capture's order, by itself.
    fn learn(&self, packet: &Packet, payload: &[u8], now: Timestamp, lanes: &mut [Vec<Task>]) {
        let client = packet.destination;
        let network = (packet.link.vlans, packet.virtual_network);
        if packet.protocol != Protocol::UDP {
            return;
        }
        learn(payload, &mut |learnt| {
            for protocol in [Protocol::TCP, Protocol::UDP] {
                let lane = shard_between(client, learnt.address.into(), protocol, self.shards);
                let learnt = learnt.clone();
                lanes[lane].push(Task::Learn { client, network, learnt, now });
            }
        });
    }

    fn shard(&self, shard: &mut Shard, tasks: &[Task], octets: &[u8]) -> Ended<M::Made> {
        let mut ended = Ended { made: M::Made::default(), order: Vec::new() };
        let mut take = |record: &mut Record| {
            ended.order.push((record.order(), ended.order.len()));
            self.make.make(record, &mut ended.made);
        };
        for task in tasks {
            shard.run(task, octets, &mut take);
        }
        // They came by when they ended; those that ended at the same moment as it happened.
        ended.order.sort_unstable();
        ended
    }
}

/// Takes what ended in all shards by one batch, in order.
fn put_together<M>(ended: &[Ended<M>], mut take: impl FnMut(&M, usize)) {
    // By reference: what orders records is large.
    let head = |shard: usize, next: usize| {
        let (order, place) = ended[shard].order.get(next)?;
        Some(Reverse((order, shard, *place, next)))
    };
    let mut heads: BinaryHeap<_> = (0..ended.len()).filter_map(|shard| head(shard, 0)).collect();
    while let Some(Reverse((_, shard, place, next))) = heads.pop() {
        take(&ended[shard].made, place);
        heads.extend(head(shard, next + 1));
    }
}

/// Tells the other threads when this one panics, or they would wait for ever.
struct Watch<'w, 'a, 'b, S, T, M: Make>(&'w Work<'a, 'b, S, T, M>);

impl<S, T, M: Make> Drop for Watch<'_, '_, '_, S, T, M> {
    fn drop(&mut self) {
        self.0.board.lock().unwrap_or_else(PoisonError::into_inner).broken = true;
        self.0.changed.notify_all();
    }
}
