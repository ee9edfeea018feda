//! The join of flows with histories, made ready once for many flows.
//!
//! Nearly every flow is of one kind: one tracked place holds the address, and one process held the one
//! socket that was there, while the flow lasted. [`Join::attribute_all`] answers those with two or three
//! accesses to memory, so many at a time that the processor waits for them together. All others are put
//! to [`Join::attribute`], which knows every rule of `docs/attribution.md`; both give the same answers.

use std::hint::black_box;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use procflow_core::{FlowKey, Interval, Protocol, Timestamp};
use smallvec::SmallVec;

use crate::attribute::{Attribution, Holder, Owner, Quality, Reason, is_never_elsewhere};
use crate::clock::BootTime;
use crate::histories::Histories;
use crate::history::{History, address_key};
use crate::kernel::Speaker;
use crate::leaves::{Interval as Leaf, bits};
use crate::process::{Process, ProcessKey};
use crate::question::{Budget, End, Question};
use crate::socket::NamespaceId;
use crate::translated::Turned;
use crate::tree::{Bucket, Number, Paths, Sought};
use crate::vantage::{Place, Vantage, WhichNamespace};
use crate::verdict::Verdict;

/// Histories that stand still, ready to be asked.
#[derive(Debug)]
pub struct Join<'a> {
    histories: Vec<Ready<'a>>,
    vantage: &'a Vantage,
    /// Who holds, or held, an address, under [`bits`] of its [`address_key`].
    places: HashMap<u128, SmallVec<[Held; 1]>>,
    /// The histories that know of translations.
    translating: Vec<usize>,
    /// How many numbers [`One::number`] gives.
    numbers: u32,
}

/// One history.
#[derive(Debug)]
struct Ready<'a> {
    history: &'a History,
    paths: Paths<'a>,
    told_until: BootTime,
    /// Real time minus boot time, if that never changed.
    offset: Option<i64>,
    /// For each of the tree's owner sets the process in it, if that is the only one and has been one
    /// program all its life.
    constant: Vec<Option<&'a Arc<Process>>>,
    /// The number of the first of them.
    first: u32,
}

/// A namespace with an address.
#[derive(Clone, Copy, Debug)]
struct Held {
    history: usize,
    namespace: NamespaceId,
    /// Its number in the history's tree, unless nothing was ever held there.
    number: Option<Number>,
    since: BootTime,
    until: BootTime,
}

/// Who was behind one end of a flow, as [`Join::attribute_all`] gives it; [`Join::owner`] tells more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// One process alone, [`Quality::Exact`].
    One(One),
    /// No tracked place: [`Reason::NotThisHost`].
    Elsewhere,
    /// Anything else.
    Owner(Box<Owner>),
}

/// The one process behind an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct One {
    number: u32,
    namespace: NamespaceId,
    /// When it is to be looked at.
    at: BootTime,
}

impl One {
    /// Less than [`Join::numbers`], and the same for the same process whenever this join gives it: under
    /// it a caller may keep what it made of the process. (One process may have several.)
    #[must_use]
    pub fn number(&self) -> usize {
        self.number as usize
    }
}

/// So many flows are looked for together: what belongs to them fits into the processor's first cache.
const TOGETHER: usize = 64;

/// What the first look at an end says.
#[derive(Clone, Copy)]
enum First<'j> {
    /// No tracked place has the address.
    Elsewhere,
    /// This one has it, perhaps not then.
    Held(&'j Held),
    /// If a socket of one process is at this place, it is the answer.
    Look(usize),
    /// Ask.
    Ask,
}

/// A flow as it is looked for: with numbers for addresses, which take no time to compare.
struct Sent {
    ends: [(u128, u16); 2],
    protocol: Protocol,
    interval: Interval,
}

/// Some ends, and their places, in the steps of looking for them.
struct Looks<'j, 'a> {
    flows: Vec<Sent>,
    firsts: Vec<First<'j>>,
    looks: Vec<Look<'j>>,
    buckets: Vec<&'a Bucket>,
    leaves: Vec<&'a Leaf>,
}

/// A place that is looked at.
struct Look<'j> {
    sought: Sought,
    held: &'j Held,
    stretch: Stretch,
}

/// A flow's time in one history.
#[derive(Clone, Copy)]
struct Stretch {
    first: BootTime,
    last: BootTime,
}

impl<'a> Join<'a> {
    /// Makes some histories ready. It takes as long as a few thousand questions, and a little for each
    /// process and address.
    pub(crate) fn new(histories: &'a Histories, vantage: &'a Vantage) -> Self {
        let mut join = Self {
            histories: Vec::new(),
            vantage,
            places: HashMap::new(),
            translating: Vec::new(),
            numbers: 0,
        };
        for (number, history) in histories.iter().enumerate() {
            for (address, held) in history.held() {
                let (namespace, since) = (held.namespace, held.since);
                let until = held.until.unwrap_or(BootTime(u64::MAX));
                let held = Held {
                    history: number,
                    namespace,
                    number: history.tree().number_of(namespace),
                    since,
                    until,
                };
                join.places.entry(bits(address_key(address))).or_default().push(held);
            }
            if history.translates() {
                join.translating.push(number);
            }
            let mut constant: Vec<_> = history
                .tree()
                .owner_sets()
                .map(|owners| match owners {
                    [key] if *key != ProcessKey::KERNEL => history.constant(*key),
                    _ => None,
                })
                .collect();
            let first = join.numbers;
            let more = u32::try_from(constant.len()).ok();
            match more.and_then(|more| join.numbers.checked_add(more)) {
                Some(numbers) => join.numbers = numbers,
                // More sets of owners than memory: all are asked about.
                None => constant.clear(),
            }
            let (paths, told_until) = (history.tree().paths(), history.told_until());
            let offset = history.clock(vantage.clock).only_offset();
            let ready = Ready { history, paths, told_until, offset, constant, first };
            join.histories.push(ready);
        }
        join
    }

    /// How many numbers [`One::number`] gives.
    #[must_use]
    pub fn numbers(&self) -> usize {
        self.numbers as usize
    }

    /// The answer about one end, in full.
    #[must_use]
    pub fn owner(&self, found: Found) -> Owner {
        let One { number, namespace, at } = match found {
            Found::Owner(owner) => return *owner,
            Found::Elsewhere => return Owner::Unknown(Reason::NotThisHost),
            Found::One(one) => one,
        };
        // The last whose first number is not greater.
        let after = self.histories.partition_point(|ready| ready.first <= number);
        let ready = after.checked_sub(1).and_then(|at| self.histories.get(at));
        let known = ready.and_then(|ready| {
            let process = (*ready.constant.get((number - ready.first) as usize)?)?;
            Some((ready.history, process))
        });
        let Some((history, process)) = known else {
            // Another join's.
            return Owner::Unknown(Reason::NotObserved);
        };
        let holder = Holder {
            host: history.host(),
            boot: history.boot(),
            namespace,
            process: Arc::clone(process),
            details: history.details(process.key, at).map(Arc::clone),
        };
        Owner::Known { holders: vec![holder], quality: Quality::Exact }
    }

    /// Who was behind both ends of each of `count` flows. What `flow` gives of each, by its index, must
    /// always be the same; `answer` is told the answers in order, each with the flow's index: about the
    /// source, then about the destination.
    pub fn attribute_all(
        &self,
        count: usize,
        flow: impl Fn(usize) -> (FlowKey, Interval),
        mut answer: impl FnMut(usize, [Found; 2]),
    ) {
        let mut looks = Looks {
            flows: Vec::with_capacity(TOGETHER),
            firsts: Vec::with_capacity(2 * TOGETHER),
            looks: Vec::with_capacity(2 * TOGETHER),
            buckets: Vec::with_capacity(2 * TOGETHER),
            leaves: Vec::with_capacity(2 * TOGETHER),
        };
        for begin in (0..count).step_by(TOGETHER) {
            looks.flows.clear();
            looks.firsts.clear();
            looks.looks.clear();
            looks.buckets.clear();
            looks.leaves.clear();
            // Each step for all of them: none waits for another one's memory.
            for at in begin..count.min(begin + TOGETHER) {
                let (key, interval) = flow(at);
                let FlowKey { protocol, source, destination } = key;
                let ends = [source, destination].map(|end| (bits(end.address()), end.port()));
                for (sent, (address, _)) in [(true, ends[0]), (false, ends[1])] {
                    looks.firsts.push(self.first(&key, sent, address));
                }
                looks.flows.push(Sent { ends, protocol, interval });
            }
            for at in 0..looks.firsts.len() {
                if let First::Held(held) = looks.firsts[at] {
                    looks.firsts[at] = self.look(held, at, &mut looks);
                }
            }
            let Looks { firsts, looks, buckets, leaves, .. } = &mut looks;
            black_box(buckets.iter().fold(0, |all, bucket| all ^ bucket.touch()));
            for (look, bucket) in looks.iter_mut().zip(&*buckets) {
                let paths = &self.histories[look.held.history].paths;
                leaves.extend(paths.approach(&mut look.sought, bucket));
            }
            black_box(leaves.iter().fold(0, |all, leaf| all ^ leaf.touch()));
            for (at, firsts) in (begin..).zip(firsts.chunks_exact(2)) {
                let end = |first: First<'_>, sent| {
                    let found = match first {
                        First::Elsewhere => return Found::Elsewhere,
                        First::Look(at) => self.finish(&looks[at]),
                        First::Ask | First::Held(_) => None,
                    };
                    found.unwrap_or_else(|| self.full(flow(at), sent))
                };
                answer(at, [end(firsts[0], true), end(firsts[1], false)]);
            }
        }
    }

    /// The answer where looking was not enough.
    #[cold]
    fn full(&self, (key, interval): (FlowKey, Interval), sent: bool) -> Found {
        match self.end(&key, interval, sent) {
            Owner::Unknown(Reason::NotThisHost) => Found::Elsewhere,
            owner => Found::Owner(Box::new(owner)),
        }
    }

    /// Who was behind both ends of a flow.
    #[must_use]
    pub fn attribute(&self, key: &FlowKey, interval: Interval) -> Attribution {
        let [source, destination] = [true, false].map(|sent| self.end(key, interval, sent));
        Attribution { source, destination }
    }

    /// Who has the address of one end, if looking can be enough.
    #[inline]
    fn first(&self, key: &FlowKey, sent: bool, address: u128) -> First<'_> {
        let local = if sent { key.source } else { key.destination };
        if !key.protocol.has_ports() || is_never_elsewhere(local.address()) {
            return First::Ask;
        }
        // An address that a translator has is on no interface, perhaps.
        let knows = |&number: &usize| {
            let key = if sent { *key } else { key.reversed() };
            self.histories[number].history.turns_something(&key)
        };
        if self.translating.iter().any(knows) {
            return First::Ask;
        }
        match self.places.get(&address).map(SmallVec::as_slice) {
            None => First::Elsewhere,
            Some([held]) => First::Held(held),
            Some(_) => First::Ask,
        }
    }

    /// Where to look for that end.
    #[inline]
    fn look<'j>(&'j self, held: &'j Held, at: usize, looks: &mut Looks<'j, 'a>) -> First<'j> {
        let Sent { ends: [source, destination], protocol, interval } = looks.flows[at / 2];
        let ends = if at.is_multiple_of(2) { [source, destination] } else { [destination, source] };
        let Ready { history, paths, offset, .. } = &self.histories[held.history];
        let stretch = match offset {
            Some(offset) => stretch(interval, *offset),
            None => history.clock(self.vantage.clock).stretch(interval),
        };
        let Some(stretch) = stretch else { return First::Ask };
        let start = stretch.start().minus(self.vantage.tolerance);
        let end = stretch.end().plus(self.vantage.granularity);
        if held.since > end.plus(self.vantage.tolerance) || held.until < start {
            return First::Elsewhere;
        }
        let Some(number) = held.number else { return First::Ask };
        let Some((sought, bucket)) = paths.seek(number, protocol, ends) else {
            return First::Ask;
        };
        let stretch = Stretch { first: *stretch.start(), last: *stretch.end() };
        looks.buckets.push(bucket);
        looks.looks.push(Look { sought, held, stretch });
        First::Look(looks.looks.len() - 1)
    }

    /// The answer, if that look was enough.
    #[inline]
    fn finish(&self, look: &Look<'_>) -> Option<Found> {
        let Look { sought, held, stretch } = look;
        let Held { history, namespace, .. } = **held;
        let Ready { paths, told_until, constant, first, .. } = &self.histories[history];
        let (presence, owners) = paths.reach(sought)?;
        let (first_seen, last_seen) = (presence.first_seen(), presence.last_seen(*told_until));
        let end = stretch.last.plus(self.vantage.granularity);
        let in_time = first_seen <= end && stretch.first <= last_seen;
        let is_constant = constant.get(owners as usize)?.is_some();
        let at = last_seen.min(stretch.last).max(first_seen);
        let number = first + owners;
        (in_time && is_constant).then_some(Found::One(One { number, namespace, at }))
    }

    /// Who was behind one end: the sender, or the other.
    fn end(&self, key: &FlowKey, interval: Interval, sent: bool) -> Owner {
        let port = self.vantage.icmp_types.then_some(key.destination.port());
        let speaker = Speaker::of(key.protocol, port, sent);
        let key = if sent { *key } else { key.reversed() };
        self.ask(End { key: key.of_sockets(), speaker }, interval)
    }

    fn ask(&self, end: End, interval: Interval) -> Owner {
        let budget = Budget::new();
        let Vantage { tolerance, granularity, .. } = *self.vantage;
        let address = end.key.source.address();
        let places =
            self.places.get(&bits(address_key(address))).map_or(&[][..], SmallVec::as_slice);
        // Whoever does not know the address, and translates nothing, has no say.
        let mut numbers: SmallVec<[usize; 4]> = places.iter().map(|held| held.history).collect();
        numbers.extend_from_slice(&self.translating);
        numbers.sort_unstable();
        numbers.dedup();
        let mut asked: SmallVec<[(&History, Question<'_>); 2]> = SmallVec::new();
        for number in numbers {
            let history = self.histories[number].history;
            for stretch in history.clock(self.vantage.clock).stretches(interval) {
                let (depth, translated, budget) = (0, false, &budget);
                let question =
                    Question { end, stretch, tolerance, granularity, depth, translated, budget };
                asked.push((history, question));
            }
        }
        let turned: Vec<Turned<'_>> =
            asked.iter().flat_map(|(history, question)| history.turned(question)).collect();
        let mut verdict = Verdict::default();
        for (history, question) in &asked {
            let elsewhere: Vec<Turned<'_>> =
                turned.iter().filter(|turned| turned.passes(&end, history)).copied().collect();
            for namespace in self.namespaces(history, question) {
                let answer = history.answer(question, namespace, &elsewhere);
                verdict.hear((history.host(), history.boot(), namespace), answer);
            }
        }
        // An address of a translator's pool is on no interface.
        let held = |(history, question): &(&History, Question<'_>)| {
            history.holders(address, &question.around()).next().is_some()
        };
        if !turned.is_empty() && !asked.iter().any(held) {
            asked.iter().for_each(|(history, question)| history.ask_pools(question, &mut verdict));
        }
        verdict.speak()
    }

    /// The namespaces of a history that an address can mean, seen from the vantage.
    ///
    /// Inside a namespace its own addresses mean itself and nothing else. An address that is not
    /// its own belongs to whoever holds it - except a loopback address, which is never anybody
    /// else's.
    fn namespaces(&self, history: &History, question: &Question<'_>) -> SmallVec<[NamespaceId; 2]> {
        let address = question.end.key.source.address();
        let around = question.around();
        let all = || history.holders(address, &around).collect();
        let Place::Inside(host, which) = &self.vantage.place else {
            return all();
        };
        if history.host() == *host
            && let Some(namespace) = inside(history, which, address, &around)
        {
            return [namespace].into_iter().collect();
        }
        // Its own, in this or another boot? Then nobody else's.
        let own = || {
            let everything = BootTime(0)..=BootTime(u64::MAX);
            self.histories.iter().any(|Ready { history, .. }| {
                history.host() == *host && inside(history, which, address, &everything).is_some()
            })
        };
        if is_never_elsewhere(address) || own() { SmallVec::new() } else { all() }
    }
}

/// The stretch of a flow, of a clock with one offset; `None` where it is not plain.
fn stretch(Interval { first, last }: Interval, offset: i64) -> Option<RangeInclusive<BootTime>> {
    let boot = |real: Timestamp| Some(BootTime(real.0.checked_sub(offset)?.try_into().ok()?));
    (first <= last).then_some(boot(first)?..=boot(last)?)
}

/// The namespace that is called so, if it holds an address in that time.
fn inside(
    history: &History,
    which: &WhichNamespace,
    address: IpAddr,
    around: &RangeInclusive<BootTime>,
) -> Option<NamespaceId> {
    let namespace = history.resolve(which, around)?;
    history.holders(address, around).find(|&holder| holder == namespace)
}
