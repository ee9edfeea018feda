//! An end is translated when somebody on the way gave its packets other addresses (NAT, RFC 3022).
//! It is followed: the socket that it really is, is asked for where its real address lives.

use crate::attribute::{Owner, Quality, Reason, is_never_elsewhere};
use crate::clock::BootTime;
use crate::history::History;
use crate::process::BootId;
use crate::question::{End, Question};
use crate::socket::NamespaceId;
use crate::translation::Turn;
use crate::vantage::HostId;
use crate::verdict::{Verdict, push_new, worth_more};

/// How many translations are followed, one behind the other: a container in a container in a
/// virtual network, and one more.
const MOST_TRANSLATIONS: u8 = 4;

/// What an end may really have been, with how well that fits the flow's time.
#[derive(Clone, Copy)]
pub(crate) struct Turned<'a> {
    turn: &'a Turn,
    /// Whose history told it.
    boot: (HostId, BootId),
    /// From when to when it was seen, in that history's time,
    seen: (BootTime, BootTime),
    /// and from when to when it may have been there.
    life: (BootTime, BootTime),
    /// It was seen while the flow lasted.
    in_time: bool,
    /// It may have been there while the flow lasted.
    fits: bool,
    /// It was seen while the flow lasted, however the clock was off.
    certain: bool,
}

impl Turned<'_> {
    /// Whether packets of an end that is in another history passed the one who translates, who
    /// left the end's own address and only changed its peer's.
    pub(crate) fn passes(&self, end: &End, history: &History) -> bool {
        self.boot != (history.host(), history.boot()) && self.left_alone(end)
    }

    fn left_alone(&self, end: &End) -> bool {
        let own = end.key.source;
        self.turn.real.source == own && !is_never_elsewhere(own.address())
    }
}

/// Who an end really was.
pub(crate) struct Followed {
    pub(crate) owner: Owner,
    /// The translation itself was seen while the flow lasted.
    pub(crate) in_time: bool,
}

/// All that say the same of an end: a conversation may be told anew, or by several on the way.
struct Way<'a> {
    turned: Vec<Turned<'a>>,
    first_seen: BootTime,
    last_seen: BootTime,
    in_time: bool,
    fits: bool,
    certain: bool,
}

impl History {
    /// What translations of this host say that an end really was.
    pub(crate) fn turned(&self, question: &Question<'_>) -> Vec<Turned<'_>> {
        let now = self.told_until();
        let around = question.around();
        let turned = self.turns(&question.end.key, &around).into_iter().map(|turn| {
            let presence = &turn.presence;
            let (first_seen, last_seen) = (presence.first_seen(), presence.last_seen(now));
            Turned {
                turn,
                boot: (self.host(), self.boot()),
                seen: (first_seen, last_seen),
                life: (presence.earliest(), presence.latest(now)),
                in_time: question.in_time(first_seen, last_seen),
                fits: question.in_time(presence.earliest(), presence.latest(now)),
                certain: question.certain(first_seen, last_seen),
            }
        });
        turned.collect()
    }

    /// Keeps the translations that matter to an end in this namespace: its own; or else those that
    /// its packets passed later on, here or elsewhere.
    pub(crate) fn choose_turned<'a>(
        &self,
        question: &Question<'_>,
        namespace: NamespaceId,
        turned: &mut Vec<Turned<'a>>,
        elsewhere: &[Turned<'a>],
    ) {
        if turned.iter().any(|turned| turned.turn.namespace == namespace) {
            turned.retain(|turned| turned.turn.namespace == namespace);
        } else {
            turned.retain(|turned| turned.left_alone(&question.end));
            turned.extend(elsewhere);
        }
    }

    /// Who an end in this namespace really was. Of several translations (a key that was used again)
    /// the same is demanded as of sockets: those that were there for certain count, one after the
    /// other; otherwise it is not known which it was.
    pub(crate) fn follow(
        &self,
        question: &Question<'_>,
        namespace: NamespaceId,
        turned: &[Turned<'_>],
    ) -> Followed {
        if question.depth >= MOST_TRANSLATIONS {
            return Followed { owner: Owner::Unknown(Reason::NotObserved), in_time: true };
        }
        let mut ways = ways(turned);
        let in_time = ways.iter().any(|way| way.in_time);
        let ask = |way: &Way<'_>| self.follow_one(question, namespace, way);
        if let [way] = ways.as_slice() {
            return Followed { owner: ask(way), in_time };
        }
        let everyone = |ways: &[Way<'_>]| {
            let mut candidates = Vec::new();
            let holders = ways.iter().flat_map(|way| ask(way).into_holders());
            holders.for_each(|holder| push_new(&mut candidates, holder));
            Followed { owner: Owner::Ambiguous { candidates }, in_time }
        };
        if !ways.iter().any(|way| way.certain) {
            return everyone(&ways);
        }
        ways.retain(|way| way.certain);
        ways.sort_by_key(|way| way.first_seen);
        let successive = ways.is_sorted_by(|a, b| {
            a.last_seen <= b.first_seen && a.turned[0].boot == b.turned[0].boot
        });
        if !successive {
            return everyone(&ways);
        }
        let owner =
            ways.iter().map(ask).reduce(then).unwrap_or(Owner::Unknown(Reason::NotObserved));
        Followed { owner, in_time }
    }

    fn follow_one(&self, question: &Question<'_>, namespace: NamespaceId, way: &Way<'_>) -> Owner {
        let Turned { turn, boot, .. } = way.turned[0];
        let here = boot == (self.host(), self.boot());
        // Whoever had the real key before or after was not behind this translation.
        let stretch = if here && way.turned.iter().all(|turned| turned.boot == boot) {
            let lives = || way.turned.iter().map(|turned| turned.life);
            let earliest = lives().map(|(earliest, _)| earliest).min().unwrap_or_default();
            let latest = lives().map(|(_, latest)| latest).max().unwrap_or_default();
            let within = |moment: &BootTime| (*moment).max(earliest).min(latest);
            within(question.stretch.start())..=within(question.stretch.end())
        } else {
            question.stretch.clone()
        };
        let end = End { key: turn.real, speaker: question.end.speaker };
        let (depth, translated) = (question.depth + 1, true);
        let real = Question { end, stretch, depth, translated, ..question.clone() };
        let owner = if here && turn.namespace == namespace {
            self.beyond(&real, namespace)
        } else {
            self.ask(&real, namespace)
        };
        match owner {
            // A translation is told a moment after its first packet, when a short connection is over
            // already. The socket that it leads to says when that was.
            Owner::Known { holders, .. } if !way.fits => {
                Owner::Known { holders, quality: Quality::Extrapolated }
            }
            Owner::Known { holders, quality: Quality::Exact | Quality::LocalEndpoint } => {
                Owner::Known { holders, quality: Quality::Translated }
            }
            owner => owner,
        }
    }

    /// Who was it, behind a namespace that translates? An address of its own means itself; another
    /// one whoever holds it on this host, or nobody: then it is one of a pool, and translated again.
    fn beyond(&self, question: &Question<'_>, translator: NamespaceId) -> Owner {
        let address = question.end.key.source.address();
        let around = question.around();
        let mut places: Vec<NamespaceId> = self.holders(address, &around).collect();
        if places.contains(&translator) {
            places = vec![translator];
        } else if is_never_elsewhere(address) {
            places.clear();
        }
        let mut verdict = Verdict::default();
        if places.is_empty() {
            self.ask_pools(question, &mut verdict);
        }
        for namespace in places {
            let answer = self.ask(question, namespace);
            verdict.hear((self.host(), self.boot(), namespace), answer);
        }
        verdict.speak()
    }

    fn ask(&self, question: &Question<'_>, namespace: NamespaceId) -> Owner {
        if question.budget.spend() {
            self.answer(question, namespace, &[])
        } else {
            Owner::Ambiguous { candidates: Vec::new() }
        }
    }

    /// Who was it, if the address is one of a translator's pool, on no interface?
    pub(crate) fn ask_pools(&self, question: &Question<'_>, verdict: &mut Verdict) {
        if is_never_elsewhere(question.end.key.source.address()) {
            return;
        }
        let all = self.turned(question);
        let mut translators: Vec<NamespaceId> =
            all.iter().map(|turned| turned.turn.namespace).collect();
        translators.sort_unstable();
        translators.dedup();
        for namespace in translators {
            let own = |turned: &&Turned<'_>| turned.turn.namespace == namespace;
            let own: Vec<Turned<'_>> = all.iter().filter(own).copied().collect();
            let owner = if question.budget.spend() {
                self.follow(question, namespace, &own).owner
            } else {
                Owner::Ambiguous { candidates: Vec::new() }
            };
            verdict.hear((self.host(), self.boot(), namespace), owner);
        }
    }
}

fn ways<'a>(turned: &[Turned<'a>]) -> Vec<Way<'a>> {
    let mut ways: Vec<Way<'a>> = Vec::new();
    for &turned in turned {
        let (first_seen, last_seen) = turned.seen;
        let Turned { in_time, fits, certain, .. } = turned;
        match ways.iter_mut().find(|way| way.turned[0].turn.real == turned.turn.real) {
            Some(way) => {
                way.first_seen = way.first_seen.min(first_seen);
                way.last_seen = way.last_seen.max(last_seen);
                way.in_time |= in_time;
                way.fits |= fits;
                way.certain |= certain;
                way.turned.push(turned);
            }
            None => {
                let turned = vec![turned];
                ways.push(Way { turned, first_seen, last_seen, in_time, fits, certain });
            }
        }
    }
    ways
}

/// One conversation and then another, in one record.
fn then(former: Owner, latter: Owner) -> Owner {
    match (former, latter) {
        (
            Owner::Known { mut holders, quality },
            Owner::Known { holders: others, quality: other },
        ) => {
            others.into_iter().for_each(|holder| push_new(&mut holders, holder));
            Owner::Known { holders, quality: quality.max(other) }
        }
        (Owner::Unknown(a), Owner::Unknown(b)) => Owner::Unknown(worth_more(a, b)),
        (former, latter) => {
            let mut candidates = former.into_holders();
            latter.into_holders().into_iter().for_each(|holder| push_new(&mut candidates, holder));
            Owner::Ambiguous { candidates }
        }
    }
}
