//! Matching: which sockets of one namespace fit a question, in time, and who held them.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use procflow_core::{FlowKey, Protocol};
use smallvec::SmallVec;

use crate::attribute::{Holder, Owner, Quality, Reason};
use crate::clock::BootTime;
use crate::event::MOST_OWNERS;
use crate::history::History;
use crate::kernel::{self, Speaker};
use crate::process::ProcessKey;
use crate::question::Question;
use crate::socket::{NamespaceId, Role, SocketId};
use crate::translated::{Followed, Turned};
use crate::tree::{Span, Spans};
use crate::verdict::{push_new, same_holders};

/// How long after the end of a TCP socket its connection's last segments may come, in nanoseconds: twice
/// the minute that Linux keeps FIN_WAIT2 and TIME_WAIT (`TCP_TIMEWAIT_LEN`, include/net/tcp.h).
const LINGER: u64 = 120_000_000_000;

/// A socket's life as far as it touches the flow, put together from its spans (one for each set of
/// owners).
struct Life<'a> {
    spans: Spans<'a>,
    first_seen: BootTime,
    last_seen: BootTime,
}

/// What the sockets of one kind (connected, or bound) say.
enum Match {
    Nothing,
    /// Sockets were there, but nobody was seen to hold them.
    Nobody {
        /// One was seen while the flow lasted.
        observed: bool,
    },
    /// Sockets were there, all of them the kernel's own.
    Kernel {
        /// One was seen while the flow lasted.
        observed: bool,
    },
    Found {
        holders: Vec<Holder>,
        quality: Quality,
    },
    Unclear(Vec<Holder>),
}

impl History {
    /// Who was it, if it was in this namespace? Beside the translations that this history knows of,
    /// those of other hosts may matter that the packets passed.
    pub(crate) fn answer(
        &self,
        question: &Question<'_>,
        namespace: NamespaceId,
        elsewhere: &[Turned<'_>],
    ) -> Owner {
        let mut turned = self.turned(question);
        let translated = question.translated || !turned.is_empty() || !elsewhere.is_empty();
        let question = &Question { translated, ..question.clone() };
        if question.end.speaker == Speaker::Kernel {
            return self.silence(question);
        }
        let exact = self.connected(namespace, &question.end.key, &question.around());
        let mut exact = self.matching(question, namespace, exact);
        if let (Speaker::Either, Match::Found { holders, .. }) = (question.end.speaker, &mut exact)
        {
            exact = Match::Unclear(std::mem::take(holders));
        }
        self.choose_turned(question, namespace, &mut turned, elsewhere);
        let owner = if exact.is_final() {
            exact.into_owner()
        } else if turned.is_empty() || matches!(exact, Match::Nobody { observed: true }) {
            match self.here(question, exact, self.unconnected(question, namespace)) {
                Owner::Kernel if self.lingers(question, namespace) => {
                    Owner::Unknown(Reason::OwnerNotSeen)
                }
                owner => owner,
            }
        } else {
            let real = self.follow(question, namespace, &turned);
            self.beside(question, namespace, exact, real)
        };
        match owner {
            Owner::Kernel if translated => Owner::Unknown(Reason::OwnerNotSeen),
            owner => owner,
        }
    }

    /// Whether a TCP connection may still have been ending for a process that no longer holds it: its
    /// last segments can come long after its socket went.
    fn lingers(&self, question: &Question<'_>, namespace: NamespaceId) -> bool {
        let key = &question.end.key;
        let around = question.around();
        let before = around.start().minus(LINGER)..=*around.end();
        let held = |span: Span<'_>| !matches!(*span.owners, [ProcessKey::KERNEL]);
        key.protocol == Protocol::TCP
            && self.connected(namespace, key, &before).into_iter().any(held)
    }

    /// What the sockets of a namespace say together, where nobody translates.
    fn here(&self, question: &Question<'_>, exact: Match, bound: Match) -> Owner {
        match (exact, bound) {
            // A socket of the kernel's shortly before or after proves no more than silence does.
            (
                Match::Nothing | Match::Kernel { .. },
                Match::Nothing | Match::Kernel { observed: false },
            ) => self.silence(question),
            // It does not vouch for a gap, and there is no mark that an answer `Kernel` could bear.
            (Match::Nothing, Match::Kernel { .. }) if self.gap(&question.around()).is_some() => {
                self.silence(question)
            }
            // All the time that nobody watched, a connected socket may have been there and taken it.
            (Match::Nothing, Match::Found { holders, quality: Quality::LocalEndpoint })
                if !self.watched_any(&question.stretch) =>
            {
                Owner::Known { holders, quality: Quality::Extrapolated }
            }
            (Match::Nothing, bound) => bound.into_owner(),
            // The connection was there but nobody held it: not accepted yet, or over already. Who
            // listened for it is known all the same.
            (Match::Nobody { .. }, bound @ Match::Found { quality: Quality::Listener, .. }) => {
                bound.into_owner()
            }
            // A connected socket shortly before or after, and an unconnected one in time: only
            // the clock could tell which of them it was.
            (
                Match::Found { mut holders, .. },
                Match::Found { holders: others, quality: Quality::LocalEndpoint },
            ) if others.iter().any(|other| !holders.iter().any(|known| known.is(other))) => {
                for other in others {
                    push_new(&mut holders, other);
                }
                Owner::Ambiguous { candidates: holders }
            }
            (Match::Found { holders, .. }, Match::Kernel { observed: true }) => {
                Owner::Ambiguous { candidates: holders }
            }
            (Match::Kernel { .. }, Match::Found { holders, .. }) => {
                Owner::Ambiguous { candidates: holders }
            }
            (Match::Kernel { .. }, bound) => bound.into_owner(),
            // Who held it may have shown in a gap; or, seen after it, it may have been somebody else's
            // before.
            (Match::Nobody { .. }, Match::Nothing) if self.gap(&question.around()).is_some() => {
                self.silence(question)
            }
            (exact, _) => exact.into_owner(),
        }
    }

    /// What a translation says beside the sockets of the namespace itself. One that was seen in
    /// time comes before sockets without a peer: who publishes a port may listen on it, too.
    fn beside(
        &self,
        question: &Question<'_>,
        namespace: NamespaceId,
        exact: Match,
        real: Followed,
    ) -> Owner {
        let Followed { owner, in_time } = real;
        let known = matches!(owner, Owner::Known { .. });
        // Who else it may have been, were the clock a little off.
        let rivals = match exact {
            Match::Found { holders, .. } | Match::Unclear(holders) => Some(holders),
            Match::Nothing | Match::Nobody { .. } | Match::Kernel { .. } if in_time => None,
            Match::Nobody { .. } | Match::Kernel { .. } => Some(Vec::new()),
            Match::Nothing => match self.unconnected(question, namespace) {
                Match::Found { quality: Quality::Listener, .. } if known => None,
                Match::Found { holders, .. } | Match::Unclear(holders) => Some(holders),
                Match::Nobody { .. } | Match::Kernel { .. } => Some(Vec::new()),
                Match::Nothing => None,
            },
        };
        let Some(rivals) = rivals else { return owner };
        if let Owner::Known { holders, .. } = &owner
            && !rivals.is_empty()
            && rivals.iter().all(|rival| holders.iter().any(|holder| holder.is(rival)))
        {
            return owner;
        }
        let mut candidates = owner.into_holders();
        rivals.into_iter().for_each(|rival| push_new(&mut candidates, rival));
        Owner::Ambiguous { candidates }
    }

    /// What the sockets without a peer say: those bound to the very address, or else those bound to
    /// all of them.
    fn unconnected(&self, question: &Question<'_>, namespace: NamespaceId) -> Match {
        let FlowKey { protocol, source: local, .. } = question.end.key;
        let found = self
            .bound(namespace, protocol, local, &question.around())
            .into_iter()
            .map(|spans| self.matching(question, namespace, spans))
            .find(|found| !matches!(found, Match::Nothing));
        match found.unwrap_or(Match::Nothing) {
            // A raw socket gets a copy of what the kernel deals with itself. Whoever sends from one
            // is known by a peer, if all was watched; if not, it may have been the one or the other.
            Match::Found { holders, .. } | Match::Unclear(holders) if kernel::speaks(protocol) => {
                let untranslated = Question { translated: false, ..question.clone() };
                match self.silence(&untranslated) {
                    Owner::Kernel => Match::Nothing,
                    _ => Match::Unclear(holders),
                }
            }
            found => found,
        }
    }

    /// No socket explains the flow: why?
    fn silence(&self, question: &Question<'_>) -> Owner {
        let around = question.around();
        if let Some(cause) = self.gap(&around) {
            Owner::Unknown(Reason::Gap(cause))
        } else if self.begin().is_none_or(|begin| *around.start() < begin) {
            Owner::Unknown(Reason::BeforeHistory)
        } else if *around.end() > self.told_until() {
            Owner::Unknown(Reason::NotYetKnown)
        } else if self.complete(&around)
            && !question.translated
            && kernel::is_followed(question.end.key.protocol)
        {
            Owner::Kernel
        } else {
            Owner::Unknown(Reason::NotObserved)
        }
    }

    fn matching<'a>(
        &'a self,
        question: &Question<'_>,
        namespace: NamespaceId,
        spans: Spans<'a>,
    ) -> Match {
        let lives = self.lives(spans);
        let Some(role) = lives.first().map(|life| life.spans[0].role) else {
            return Match::Nothing;
        };
        let whose = |lives: &[&Life<'_>]| self.whose(question, namespace, lives);
        let all: Vec<&Life<'_>> = lives.iter().collect();
        let everyone = whose(&all);
        // One owner set whichever it was; or sockets that lived side by side (SO_REUSEPORT); or
        // successive ones that the record certainly spans. Anything else, time cannot separate.
        // Side by side without ports (two who ping one address) only the echo id could tell.
        let ports = question.end.key.protocol.has_ports();
        let same =
            || all.len() == 1 || all.iter().all(|life| whose(&[life]).are_those_of(&everyone));
        let together = || {
            let last_to_come = all.iter().map(|life| life.first_seen).max();
            let first_to_go = all.iter().map(|life| life.last_seen).min();
            last_to_come <= first_to_go
        };
        let successive = || {
            let mut so_far = BootTime(0);
            all.iter().all(|life| {
                let after = so_far <= life.first_seen;
                so_far = so_far.max(life.last_seen);
                after
            })
        };
        let whose = if ports && together() || same() {
            everyone
        } else if !ports && !successive() {
            return Match::Unclear(everyone.holders);
        } else {
            let certain: Vec<&Life<'_>> = lives
                .iter()
                .filter(|life| question.certain(life.first_seen, life.last_seen))
                .collect();
            if certain.is_empty() {
                return Match::Unclear(everyone.holders);
            }
            whose(&certain)
        };
        if whose.holders.is_empty() {
            let observed = whose.observed;
            return if whose.kernel && !whose.incomplete {
                Match::Kernel { observed }
            } else {
                Match::Nobody { observed }
            };
        }
        if whose.incomplete {
            return Match::Unclear(whose.holders);
        }
        let quality = match role {
            _ if !whose.observed => Quality::Extrapolated,
            Role::Connected if ports => Quality::Exact,
            Role::Connected => Quality::LocalEndpoint,
            Role::Bound => Quality::LocalEndpoint,
            Role::Listening => Quality::Listener,
        };
        Match::Found { holders: whose.holders, quality }
    }

    /// The sockets of which these are the spans, in the order in which they came.
    fn lives<'a>(&self, spans: Spans<'a>) -> SmallVec<[Life<'a>; 1]> {
        let end = self.told_until();
        let mut lives: SmallVec<[Life<'_>; 1]> = SmallVec::new();
        // Where there are many: the latest life of each number.
        let mut latest: HashMap<SocketId, usize> = HashMap::new();
        for span in spans {
            let last_seen = span.presence.last_seen(end);
            let life = match lives.as_slice() {
                [only] => (only.spans[0].socket == span.socket).then_some(0),
                _ => latest.get(&span.socket).copied(),
            };
            match life {
                Some(life) if span.goes_on => {
                    lives[life].last_seen = last_seen;
                    lives[life].spans.push(span);
                }
                // Its first, or one of a number that was given again.
                _ => {
                    if let [only] = lives.as_slice() {
                        latest.insert(only.spans[0].socket, 0);
                    }
                    if !lives.is_empty() {
                        latest.insert(span.socket, lives.len());
                    }
                    let first_seen = span.presence.first_seen();
                    lives.push(Life { spans: [span].into(), first_seen, last_seen });
                }
            }
        }
        lives.sort_by_key(|life| (life.first_seen, life.spans[0].socket));
        lives
    }

    /// The processes that held sockets around the flow, in order.
    fn whose(&self, question: &Question<'_>, namespace: NamespaceId, lives: &[&Life<'_>]) -> Whose {
        let (host, boot, end) = (self.host(), self.boot(), self.told_until());
        let mut holders: Vec<Holder> = Vec::new();
        let mut seen_in_time = Vec::new();
        let (mut incomplete, mut kernel, mut any_in_time) = (false, false, false);
        for span in lives.iter().flat_map(|life| &life.spans) {
            let (first_seen, last_seen) =
                (span.presence.first_seen(), span.presence.last_seen(end));
            let in_time = question.in_time(first_seen, last_seen);
            any_in_time |= in_time;
            incomplete |= span.owners.is_empty() || span.owners.len() >= MOST_OWNERS;
            // A process may have become another program since; what counts is what it was then.
            let then = last_seen.min(*question.stretch.end()).max(first_seen);
            for &key in span.owners.iter() {
                if key == ProcessKey::KERNEL {
                    kernel = true;
                    continue;
                }
                let Some(process) = self.process(key, then) else {
                    incomplete = true;
                    continue;
                };
                let process = Arc::clone(process);
                let details = self.details(key, then).map(Arc::clone);
                let holder = Holder { host, boot, namespace, process, details };
                let at = holders.iter().position(|known| known.is(&holder)).unwrap_or_else(|| {
                    holders.push(holder);
                    seen_in_time.push(false);
                    holders.len() - 1
                });
                seen_in_time[at] |= in_time;
            }
        }
        let observed =
            if holders.is_empty() { any_in_time } else { seen_in_time.iter().all(|&seen| seen) };
        Whose { holders, observed, incomplete, kernel }
    }
}

/// Who held some sockets around a flow.
struct Whose {
    holders: Vec<Holder>,
    /// Each of them was seen to while the flow lasted, taking the record's times as they are; or, if
    /// there is none, a socket was.
    observed: bool,
    /// Somebody else may have held them too: not seen, not known, or too many to be told.
    incomplete: bool,
    /// The kernel itself held one. Beside processes that does not count.
    kernel: bool,
}

impl Whose {
    fn are_those_of(&self, other: &Self) -> bool {
        self.kernel == other.kernel && same_holders(&self.holders, &other.holders)
    }
}

impl Match {
    /// Whether nothing else need be asked.
    fn is_final(&self) -> bool {
        match self {
            Self::Found { quality, .. } => *quality != Quality::Extrapolated,
            Self::Kernel { observed } => *observed,
            Self::Unclear(_) => true,
            Self::Nothing | Self::Nobody { .. } => false,
        }
    }

    fn into_owner(self) -> Owner {
        match self {
            Self::Kernel { .. } => Owner::Kernel,
            Self::Found { holders, quality } => Owner::Known { holders, quality },
            Self::Unclear(candidates) => Owner::Ambiguous { candidates },
            Self::Nothing | Self::Nobody { .. } => Owner::Unknown(Reason::OwnerNotSeen),
        }
    }
}
