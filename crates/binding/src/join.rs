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
use procflow_core::{FlowKey, Interval, Timestamp};
use smallvec::SmallVec;

use crate::attribute::{Attribution, Holder, Owner, Quality, Reason, is_never_elsewhere};
use crate::clock::BootTime;
use crate::histories::Histories;
use crate::history::{History, address_key};
use crate::kernel::Speaker;
use crate::leaves::Interval as Leaf;
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
    /// Who holds, or held, an address, under [`bits`] of it.
    places: HashMap<u128, SmallVec<[Held; 1]>>,
    /// The histories that know of translations.
    translating: Vec<usize>,
    /// How many numbers [`One::number`] gives.
    numbers: usize,
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
    first: usize,
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

/// Who was behind one end of a flow, as [`Join::attribute_all`] gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// One process alone, [`Quality::Exact`].
    One(One<'a>),
    /// Anything else.
    Owner(Owner),
}

/// The one process behind an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct One<'a> {
    /// Its facts, the same at all times.
    pub process: &'a Arc<Process>,
    /// Less than [`Join::numbers`], and the same for the same process whenever this join gives it: under
    /// it a caller may keep what it made of the process.
    pub number: usize,
    history: usize,
    namespace: NamespaceId,
    /// When it is to be looked at.
    at: BootTime,
}

impl Found<'_> {
    /// Whether it is a tracked place's.
    #[must_use]
    pub fn is_tracked(&self) -> bool {
        !matches!(self, Self::Owner(Owner::Unknown(Reason::NotThisHost)))
    }
}

/// So many flows are looked for together: what belongs to them fits into the processor's first cache.
const TOGETHER: usize = 64;

/// What the first look at an end says.
#[derive(Clone, Copy)]
enum First {
    /// No tracked place has the address.
    Elsewhere,
    /// If a socket of one process is at this place, it is the answer.
    Look(usize),
    /// Ask.
    Ask,
}

/// Some ends, and their places, in the steps of looking for them.
struct Looks<'j, 'a> {
    firsts: Vec<First>,
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
                join.places.entry(bits(address)).or_default().push(held);
            }
            if history.translates() {
                join.translating.push(number);
            }
            let constant: Vec<_> = history
                .tree()
                .owner_sets()
                .map(|owners| match owners {
                    [key] if *key != ProcessKey::KERNEL => history.constant(*key),
                    _ => None,
                })
                .collect();
            let first = join.numbers;
            join.numbers += constant.len();
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
        self.numbers
    }

    /// The answer about one end, in full.
    #[must_use]
    pub fn owner(&self, found: Found<'a>) -> Owner {
        let One { process, history, namespace, at, .. } = match found {
            Found::Owner(owner) => return owner,
            Found::One(one) => one,
        };
        let history = self.histories[history].history;
        let holder = Holder {
            host: history.host(),
            boot: history.boot(),
            namespace,
            process: Arc::clone(process),
            details: history.details(process.key, at).map(Arc::clone),
        };
        Owner::Known { holders: vec![holder], quality: Quality::Exact }
    }

    /// Who was behind both ends of each flow: the source, then the destination. Appended to `answers`.
    pub fn attribute_all(&self, flows: &[(FlowKey, Interval)], answers: &mut Vec<[Found<'a>; 2]>) {
        let mut looks = Looks {
            firsts: Vec::with_capacity(2 * TOGETHER),
            looks: Vec::with_capacity(2 * TOGETHER),
            buckets: Vec::with_capacity(2 * TOGETHER),
            leaves: Vec::with_capacity(2 * TOGETHER),
        };
        for flows in flows.chunks(TOGETHER) {
            looks.firsts.clear();
            looks.looks.clear();
            looks.buckets.clear();
            looks.leaves.clear();
            // Each step for all of them: none waits for another one's memory.
            for (key, interval) in flows {
                for sent in [true, false] {
                    let first = self.first(key, sent, *interval, &mut looks);
                    looks.firsts.push(first);
                }
            }
            let Looks { firsts, looks, buckets, leaves } = &mut looks;
            black_box(buckets.iter().fold(0, |all, bucket| all ^ bucket.touch()));
            for (look, bucket) in looks.iter_mut().zip(&*buckets) {
                let paths = &self.histories[look.held.history].paths;
                leaves.extend(paths.approach(&mut look.sought, bucket));
            }
            black_box(leaves.iter().fold(0, |all, leaf| all ^ leaf.touch()));
            for ((key, interval), firsts) in flows.iter().zip(firsts.chunks_exact(2)) {
                let end = |first: First, sent| {
                    let found = match first {
                        First::Elsewhere => {
                            return Found::Owner(Owner::Unknown(Reason::NotThisHost));
                        }
                        First::Look(at) => self.finish(&looks[at]),
                        First::Ask => None,
                    };
                    found.unwrap_or_else(|| Found::Owner(self.end(key, *interval, sent)))
                };
                answers.push([end(firsts[0], true), end(firsts[1], false)]);
            }
        }
    }

    /// Who was behind both ends of a flow.
    #[must_use]
    pub fn attribute(&self, key: &FlowKey, interval: Interval) -> Attribution {
        let [source, destination] = [true, false].map(|sent| self.end(key, interval, sent));
        Attribution { source, destination }
    }

    /// Where to look for one end, if looking can be enough.
    #[inline]
    fn first<'j>(
        &'j self,
        key: &FlowKey,
        sent: bool,
        interval: Interval,
        looks: &mut Looks<'j, 'a>,
    ) -> First {
        let FlowKey { protocol, source, destination } = key;
        let (local, remote) = if sent { (source, destination) } else { (destination, source) };
        let address = local.address();
        if !protocol.has_ports() || is_never_elsewhere(address) {
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
        let held = match self.places.get(&bits(address)).map(SmallVec::as_slice) {
            None => return First::Elsewhere,
            Some([held]) => held,
            Some(_) => return First::Ask,
        };
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
        let Some((sought, bucket)) = paths.seek(number, *protocol, (local, remote)) else {
            return First::Ask;
        };
        let stretch = Stretch { first: *stretch.start(), last: *stretch.end() };
        looks.buckets.push(bucket);
        looks.looks.push(Look { sought, held, stretch });
        First::Look(looks.looks.len() - 1)
    }

    /// The answer, if that look was enough.
    #[inline]
    fn finish(&self, look: &Look<'_>) -> Option<Found<'a>> {
        let Look { sought, held, stretch } = look;
        let Held { history, namespace, .. } = **held;
        let Ready { paths, told_until, constant, first, .. } = &self.histories[history];
        let (presence, owners) = paths.reach(sought)?;
        let (first_seen, last_seen) = (presence.first_seen(), presence.last_seen(*told_until));
        let end = stretch.last.plus(self.vantage.granularity);
        let in_time = first_seen <= end && stretch.first <= last_seen;
        let process = (*constant.get(owners)?)?;
        let at = last_seen.min(stretch.last).max(first_seen);
        let number = first + owners;
        in_time.then_some(Found::One(One { process, number, history, namespace, at }))
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
        let places = self.places.get(&bits(address)).map_or(&[][..], SmallVec::as_slice);
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

/// Under which number an address is looked up.
#[inline]
fn bits(address: IpAddr) -> u128 {
    match address_key(address) {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
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
