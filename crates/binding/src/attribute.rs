//! Attribution: which process was behind each end of a flow - or an honest reason why not.
//!
//! There is one join, [`Histories::attribute`]; every program that names processes calls it. The
//! answers are defined in `docs/attribution.md`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use procflow_core::{Endpoint, FlowKey, Interval, Protocol, Timestamp};

use crate::clock::BootTime;
use crate::event::{GapCause, MOST_OWNERS};
use crate::history::{History, Span};
use crate::process::{BootId, Process, ProcessId};
use crate::socket::{NamespaceId, Role, SocketId};
use crate::vantage::{FlowClock, HostId, Place, Vantage, WhichNamespace};

/// Who was behind a flow, at both ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribution {
    /// Who sent.
    pub source: Owner,
    /// Who was sent to.
    pub destination: Owner,
}

/// Who was behind one end of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// These processes, in the order in which they held the socket.
    Known {
        /// At least one. Several when the socket was shared, or passed on, or when the record
        /// spans successive connections.
        holders: Vec<Holder>,
        /// How it was matched.
        quality: Quality,
    },
    /// The kernel itself; no process sent this.
    Kernel,
    /// Several fit, and neither time nor place separates them.
    Ambiguous {
        /// All who fit; may be empty where places fit but no process in them is known.
        candidates: Vec<Holder>,
    },
    /// Nobody can be named.
    Unknown(Reason),
}

/// A process that held a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// On which host.
    pub host: HostId,
    /// In which boot.
    pub boot: BootId,
    /// In which network namespace the socket lived.
    pub namespace: NamespaceId,
    /// The process, with its facts as they were then.
    pub process: Arc<Process>,
}

impl Holder {
    /// The process among all processes of all hosts.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        ProcessId { boot: self.boot, key: self.process.key }
    }
}

/// How an owner was found, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quality {
    /// A socket with this very 5-tuple was seen while the flow lasted.
    Exact,
    /// A socket bound to the local endpoint, or to the wildcard address and its port, was seen
    /// while the flow lasted.
    LocalEndpoint,
    /// As exact, through address translation.
    Translated,
    /// A listening socket was seen, but nobody who held the connection: it was not accepted (yet),
    /// or was over between two looks.
    Listener,
    /// The socket was seen shortly before or after, within the clock's tolerance or between two
    /// looks.
    Extrapolated,
}

impl Quality {
    /// Every quality, best first.
    pub const ALL: [Self; 5] =
        [Self::Exact, Self::LocalEndpoint, Self::Translated, Self::Listener, Self::Extrapolated];

    /// Whether the socket itself was observed while the flow lasted. What is not must be shown
    /// with a mark.
    #[must_use]
    pub fn is_observation(self) -> bool {
        matches!(self, Self::Exact | Self::LocalEndpoint | Self::Translated)
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Exact => "exact",
            Self::LocalEndpoint => "local-endpoint",
            Self::Translated => "translated",
            Self::Listener => "listener",
            Self::Extrapolated => "extrapolated",
        })
    }
}

/// Why nobody can be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No tracked place held the address at that time.
    NotThisHost,
    /// Before watching began, or before what is kept.
    BeforeHistory,
    /// The history does not reach there yet.
    NotYetKnown,
    /// Nobody watched, or what was seen got lost.
    Gap(GapCause),
    /// The socket was seen but its owner was not: the kernel's own, or hidden from the tracker for
    /// want of privileges.
    OwnerNotSeen,
    /// Watched, but no socket was seen that explains the flow.
    NotObserved,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NotThisHost => "not-this-host",
            Self::BeforeHistory => "before-history",
            Self::NotYetKnown => "not-yet-known",
            Self::Gap(GapCause::NotRunning) => "gap-tracker-not-running",
            Self::Gap(GapCause::EventsLost) => "gap-events-lost",
            Self::Gap(GapCause::Retention) => "gap-retention",
            Self::Gap(GapCause::SourceFailed) => "gap-source-failed",
            Self::OwnerNotSeen => "owner-not-seen",
            Self::NotObserved => "not-observed",
        })
    }
}

/// The histories of all tracked hosts: one per boot that was heard of.
#[derive(Debug, Default)]
pub struct Histories {
    histories: BTreeMap<(HostId, BootId), History>,
    /// The boot of each host that was heard last.
    current: BTreeMap<HostId, BootId>,
}

impl Histories {
    /// The history of a boot of a host; made empty if there is none. It is the host's current one
    /// from now on.
    pub fn entry(&mut self, host: HostId, boot: BootId) -> &mut History {
        self.current.insert(host, boot);
        self.histories.entry((host, boot)).or_insert_with(|| History::new(host, boot))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &History> {
        self.histories.values()
    }

    /// All of them, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut History> {
        self.histories.values_mut()
    }

    /// Keeps what ended within the last `keep` nanoseconds: of a host's current boot, as its own
    /// clock counts them; of its earlier boots, as real time does (`now`). An earlier boot of which
    /// nothing is left is forgotten; the current one never is, its tracker goes on telling it.
    pub fn prune(&mut self, keep: u64, now: Timestamp, clock: FlowClock) {
        let before = Timestamp(now.0.saturating_sub_unsigned(keep));
        let current = &self.current;
        self.histories.retain(|(host, boot), history| {
            if current.get(host) == Some(boot) {
                history.prune(history.end().minus(keep));
                return true;
            }
            let Some(moment) = history.moment(before, clock) else { return false };
            history.prune(moment);
            moment <= history.end()
        });
    }

    /// Whether a host was ever heard to have such a namespace.
    #[must_use]
    pub fn has_namespace(&self, host: HostId, which: &WhichNamespace) -> bool {
        self.histories.values().any(|history| history.host() == host && history.has(which))
    }

    /// Who was behind both ends of a flow that was seen from `vantage`.
    #[must_use]
    pub fn attribute(&self, key: &FlowKey, interval: Interval, vantage: &Vantage) -> Attribution {
        let end = |local, remote| {
            self.owner(&End { protocol: key.protocol, local, remote }, interval, vantage)
        };
        Attribution {
            source: end(key.source, key.destination),
            destination: end(key.destination, key.source),
        }
    }

    /// Who was behind one end.
    fn owner(&self, end: &End, interval: Interval, vantage: &Vantage) -> Owner {
        let mut verdict = Verdict::default();
        for history in self.histories.values() {
            for stretch in history.clock(vantage.clock).stretches(interval) {
                let question = Question { end, stretch, tolerance: vantage.tolerance };
                for namespace in self.places(history, &question, &vantage.place) {
                    let answer = history.answer(&question, namespace);
                    verdict.hear((history.host(), history.boot(), namespace), answer);
                }
            }
        }
        verdict.speak()
    }

    /// The namespaces of a history that an address can mean, seen from a place.
    ///
    /// Inside a namespace its own addresses mean itself and nothing else. An address that is not
    /// its own belongs to whoever holds it - except a loopback address, which is never anybody
    /// else's.
    fn places(
        &self,
        history: &History,
        question: &Question<'_>,
        place: &Place,
    ) -> Vec<NamespaceId> {
        let address = question.end.local.address();
        let around = question.around();
        let all = || history.holders(address, &around).collect();
        let Place::Inside(host, which) = place else {
            return all();
        };
        let inside = |history: &History, around: &RangeInclusive<BootTime>| {
            let namespace = history.resolve(which, around)?;
            history.holders(address, around).find(|&holder| holder == namespace)
        };
        if history.host() == *host
            && let Some(namespace) = inside(history, &around)
        {
            return vec![namespace];
        }
        // Its own, in this or another boot? Then nobody else's.
        let never_elsewhere = address.is_loopback() || is_link_local(address);
        let own = || {
            let everything = BootTime(0)..=BootTime(u64::MAX);
            self.histories
                .values()
                .any(|other| other.host() == *host && inside(other, &everything).is_some())
        };
        if never_elsewhere || own() { Vec::new() } else { all() }
    }
}

/// RFC 3927 and RFC 4291 section 2.5.6: meaningful on one link only.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// One end of a flow, seen from the socket there.
struct End {
    protocol: Protocol,
    local: Endpoint,
    remote: Endpoint,
}

/// Who was this end, in this stretch of a history's time?
struct Question<'a> {
    end: &'a End,
    stretch: RangeInclusive<BootTime>,
    tolerance: u64,
}

impl Question<'_> {
    /// The stretch with the tolerance on both sides: the flow lies certainly within.
    fn around(&self) -> RangeInclusive<BootTime> {
        self.stretch.start().minus(self.tolerance)..=self.stretch.end().plus(self.tolerance)
    }
}

/// A socket's life as far as it touches the flow, put together from its spans (one for each set of
/// owners).
struct Life<'a> {
    spans: Vec<&'a Span>,
    first_seen: BootTime,
    last_seen: BootTime,
}

impl Life<'_> {
    /// Whether it was seen while the flow lasted, however the clock was off within the tolerance.
    fn certain(&self, question: &Question<'_>) -> bool {
        self.first_seen.plus(question.tolerance) <= *question.stretch.end()
            && question.stretch.start().plus(question.tolerance) <= self.last_seen
    }
}

/// What the sockets of one kind (connected, or bound) say.
enum Match {
    Nothing,
    /// Sockets were there, but nobody was seen to hold them.
    Nobody,
    Found {
        holders: Vec<Holder>,
        quality: Quality,
    },
    Unclear(Vec<Holder>),
}

impl History {
    /// Who was it, if it was in this namespace?
    fn answer(&self, question: &Question<'_>, namespace: NamespaceId) -> Owner {
        let &End { protocol, local, remote } = question.end;
        let exact = self.connected(namespace, protocol, local, remote);
        let exact = self.matching(question, namespace, exact);
        if let Match::Unclear(_) = exact {
            return exact.into_owner();
        }
        if let Match::Found { quality, .. } = exact
            && quality != Quality::Extrapolated
        {
            return exact.into_owner();
        }
        let mut bound = Match::Nothing;
        for spans in self.bound(namespace, protocol, local) {
            bound = self.matching(question, namespace, spans.into_iter());
            if !matches!(bound, Match::Nothing) {
                break;
            }
        }
        match (exact, bound) {
            (Match::Nothing, Match::Nothing) => self.silence(question),
            // All the time that nobody watched, a connected socket may have been there and taken it.
            (Match::Nothing, Match::Found { holders, quality: Quality::LocalEndpoint })
                if !self.watched_any(&question.stretch) =>
            {
                Owner::Known { holders, quality: Quality::Extrapolated }
            }
            (Match::Nothing, bound) => bound.into_owner(),
            // The connection was there but nobody held it: not accepted yet, or over already. Who
            // listened for it is known all the same.
            (Match::Nobody, bound @ Match::Found { quality: Quality::Listener, .. }) => {
                bound.into_owner()
            }
            // A connected socket shortly before or after, and an unconnected one in time: only
            // the clock could tell which of them it was.
            (
                Match::Found { mut holders, .. },
                Match::Found { holders: others, quality: Quality::LocalEndpoint },
            ) if others.iter().any(|other| !holders.contains(other)) => {
                for other in others {
                    push_new(&mut holders, other);
                }
                Owner::Ambiguous { candidates: holders }
            }
            (exact, _) => exact.into_owner(),
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
        } else if self.complete(&around) {
            Owner::Kernel
        } else {
            Owner::Unknown(Reason::NotObserved)
        }
    }

    fn matching<'a>(
        &'a self,
        question: &Question<'_>,
        namespace: NamespaceId,
        spans: impl Iterator<Item = &'a Span>,
    ) -> Match {
        let lives = self.lives(question, spans);
        let Some(role) = lives.first().map(|life| life.spans[0].role) else {
            return Match::Nothing;
        };
        let whose = |lives: &[&Life<'_>]| self.whose(question, namespace, lives);
        let all: Vec<&Life<'_>> = lives.iter().collect();
        let everyone = whose(&all);
        // One owner set whichever it was; or sockets that lived side by side (SO_REUSEPORT); or
        // successive ones that the record certainly spans. Anything else, time cannot separate.
        let same =
            || all.len() == 1 || all.iter().all(|life| whose(&[life]).holders == everyone.holders);
        let together = || {
            let last_to_come = all.iter().map(|life| life.first_seen).max();
            let first_to_go = all.iter().map(|life| life.last_seen).min();
            last_to_come <= first_to_go
        };
        let whose = if together() || same() {
            everyone
        } else {
            let certain: Vec<&Life<'_>> =
                lives.iter().filter(|life| life.certain(question)).collect();
            if certain.is_empty() {
                return Match::Unclear(everyone.holders);
            }
            whose(&certain)
        };
        if whose.holders.is_empty() {
            return Match::Nobody;
        }
        if whose.incomplete {
            return Match::Unclear(whose.holders);
        }
        let quality = match role {
            _ if !whose.observed => Quality::Extrapolated,
            Role::Connected => Quality::Exact,
            Role::Bound => Quality::LocalEndpoint,
            Role::Listening => Quality::Listener,
        };
        Match::Found { holders: whose.holders, quality }
    }

    /// The sockets that may have been there while the flow lasted, in the order in which they
    /// came.
    fn lives<'a>(
        &self,
        question: &Question<'_>,
        spans: impl Iterator<Item = &'a Span>,
    ) -> Vec<Life<'a>> {
        let around = question.around();
        let end = self.told_until();
        // A node may hold the spans of a day; only those that touch the flow matter.
        let mut by_socket: BTreeMap<SocketId, Vec<&Span>> = BTreeMap::new();
        for span in spans.filter(|span| span.may_touch(&around, end)) {
            by_socket.entry(span.socket).or_default().push(span);
        }
        let mut lives: Vec<Life<'_>> = by_socket
            .into_values()
            .map(|spans| Life {
                first_seen: spans[0].first_seen,
                last_seen: spans[spans.len() - 1].last_seen.unwrap_or(end),
                spans,
            })
            .collect();
        lives.sort_by_key(|life| life.first_seen);
        lives
    }

    /// The processes that held sockets around the flow, in order.
    fn whose(&self, question: &Question<'_>, namespace: NamespaceId, lives: &[&Life<'_>]) -> Whose {
        let (host, boot, end) = (self.host(), self.boot(), self.told_until());
        let mut holders: Vec<Holder> = Vec::new();
        let mut seen_in_time = Vec::new();
        let mut incomplete = false;
        for span in lives.iter().flat_map(|life| &life.spans) {
            let last_seen = span.last_seen.unwrap_or(end);
            let in_time = span.first_seen <= *question.stretch.end()
                && *question.stretch.start() <= last_seen;
            incomplete |= span.owners.is_empty() || span.owners.len() >= MOST_OWNERS;
            // A process may have become another program since; what counts is what it was then.
            let then = last_seen.min(*question.stretch.end()).max(span.first_seen);
            for &key in span.owners.iter() {
                let Some(process) = self.process(key, then) else {
                    incomplete = true;
                    continue;
                };
                let process = Arc::clone(process);
                let holder = Holder { host, boot, namespace, process };
                let at = holders.iter().position(|known| *known == holder).unwrap_or_else(|| {
                    holders.push(holder);
                    seen_in_time.push(false);
                    holders.len() - 1
                });
                seen_in_time[at] |= in_time;
            }
        }
        Whose { holders, observed: seen_in_time.iter().all(|&seen| seen), incomplete }
    }
}

/// Who held some sockets around a flow.
struct Whose {
    holders: Vec<Holder>,
    /// Each of them was seen to while the flow lasted, taking the record's times as they are.
    observed: bool,
    /// Somebody else may have held them too: not seen, not known, or too many to be told.
    incomplete: bool,
}

fn push_new(holders: &mut Vec<Holder>, holder: Holder) {
    if !holders.contains(&holder) {
        holders.push(holder);
    }
}

impl Match {
    fn into_owner(self) -> Owner {
        match self {
            Self::Found { holders, quality } => Owner::Known { holders, quality },
            Self::Unclear(candidates) => Owner::Ambiguous { candidates },
            Self::Nothing | Self::Nobody => Owner::Unknown(Reason::OwnerNotSeen),
        }
    }
}

/// Makes one answer of what the places said.
///
/// A place may be heard several times, once for each stretch that the clock allows; what is known
/// of any of them counts. Two different places are never weighed against each other: an address
/// that both hold says nothing about which of them it was.
#[derive(Default)]
struct Verdict {
    heard: BTreeMap<(HostId, BootId, NamespaceId), Owner>,
}

impl Verdict {
    fn hear(&mut self, place: (HostId, BootId, NamespaceId), answer: Owner) {
        let Some(said) = self.heard.get_mut(&place) else {
            self.heard.insert(place, answer);
            return;
        };
        *said = match (std::mem::replace(said, Owner::Kernel), answer) {
            (a, b) if a == b => a,
            // Another reading of the clock falls where nobody watched: it may have been then.
            (Owner::Known { holders, .. }, Owner::Unknown(Reason::Gap(_)))
            | (Owner::Unknown(Reason::Gap(_)), Owner::Known { holders, .. }) => {
                Owner::Known { holders, quality: Quality::Extrapolated }
            }
            // On another reading a socket fits too, and somebody else may have held that one.
            (Owner::Known { holders, .. }, Owner::Unknown(Reason::OwnerNotSeen))
            | (Owner::Unknown(Reason::OwnerNotSeen), Owner::Known { holders, .. }) => {
                Owner::Ambiguous { candidates: holders }
            }
            (Owner::Unknown(a), Owner::Unknown(b)) => Owner::Unknown(worth_more(a, b)),
            // "No socket was there" holds only where it holds on every reading of the clock.
            (Owner::Kernel, Owner::Unknown(reason)) | (Owner::Unknown(reason), Owner::Kernel) => {
                Owner::Unknown(reason)
            }
            (a, Owner::Unknown(_) | Owner::Kernel) => a,
            (Owner::Unknown(_) | Owner::Kernel, b) => b,
            (a, b) => {
                let (mut a, b) = (a.into_holders(), b.into_holders());
                b.into_iter().for_each(|holder| push_new(&mut a, holder));
                Owner::Ambiguous { candidates: a }
            }
        };
    }

    fn speak(mut self) -> Owner {
        // Of several boots of one host, one at most was running: the others have no say. (Other
        // places keep theirs even if their history does not reach the flow: it may have been them.)
        let in_time = |owner: &Owner| {
            !matches!(owner, Owner::Unknown(Reason::BeforeHistory | Reason::NotYetKnown))
        };
        let running: Vec<(HostId, BootId)> = self
            .heard
            .iter()
            .filter(|(_, owner)| in_time(owner))
            .map(|((host, boot, _), _)| (*host, *boot))
            .collect();
        self.heard.retain(|(host, boot, _), owner| {
            in_time(owner) || !running.iter().any(|(h, b)| h == host && b != boot)
        });
        if self.heard.len() < 2 {
            let only = self.heard.pop_first();
            return only.map_or(Owner::Unknown(Reason::NotThisHost), |(_, owner)| owner);
        }
        if self.between_boots() {
            return Owner::Unknown(Reason::Gap(GapCause::NotRunning));
        }
        let mut reason = None;
        let mut candidates = Vec::new();
        let mut anyone = false;
        for (_, owner) in self.heard {
            match owner {
                Owner::Unknown(r) => reason = Some(reason.map_or(r, |was| worth_more(was, r))),
                owner => {
                    anyone = true;
                    let holders = owner.into_holders();
                    holders.into_iter().for_each(|holder| push_new(&mut candidates, holder));
                }
            }
        }
        match reason {
            Some(reason) if !anyone => Owner::Unknown(reason),
            _ => Owner::Ambiguous { candidates },
        }
    }
}

impl Verdict {
    /// After all that is known of one boot of a host, and before all that is known of the next.
    fn between_boots(&self) -> bool {
        let says = |what| {
            self.heard
                .iter()
                .filter(move |(_, owner)| **owner == Owner::Unknown(what))
                .map(|((host, boot, _), _)| (host, boot))
        };
        says(Reason::NotYetKnown).any(|(host, boot)| {
            says(Reason::BeforeHistory).any(|(other, next)| host == other && boot != next)
        })
    }
}

/// Of two reasons for one miss, the one that a reader can do something about.
fn worth_more(a: Reason, b: Reason) -> Reason {
    let rank = |reason| match reason {
        Reason::Gap(_) => 5,
        Reason::OwnerNotSeen => 4,
        Reason::NotYetKnown => 3,
        Reason::NotObserved => 2,
        Reason::BeforeHistory => 1,
        Reason::NotThisHost => 0,
    };
    if rank(b) > rank(a) { b } else { a }
}

impl Owner {
    /// All processes that the answer names or considers.
    #[must_use]
    pub fn into_holders(self) -> Vec<Holder> {
        match self {
            Self::Known { holders, .. } => holders,
            Self::Ambiguous { candidates } => candidates,
            Self::Kernel | Self::Unknown(_) => Vec::new(),
        }
    }
}
