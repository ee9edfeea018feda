//! What is known of the translations of all namespaces: dumps and events go in, dated changes
//! come out. Nothing is sent, received or timed here.
//!
//! Invariant: a conversation is in `Place::held` exactly if its last change was
//! [`Change::Translation`] (and, once collected, the caller knows that).
//!
//! The kernel tells conversations apart by their original tuple within a *zone*
//! (nft(8), "ct zone"), and pings by a number that flow records do not have. Here the original
//! tuple without either is the name, because a flow record has no more to ask with. Of
//! several entries with the same name the last one to say something else than before is believed,
//! and the translation ends with the last of those that agreed with it.

use std::collections::{HashMap, HashSet};

use procflow_binding::{BootTime, Change, NamespaceId, Translation, TranslationGone};
use procflow_core::FlowKey;

use super::Missed;

/// A second, in nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// How often the table of a namespace is dumped although its events arrive. An entry that was
/// there before anybody listened ends without an event (the kernel gives an entry the means to
/// tell, or not, when it makes it), and whether events do arrive is found out like this. No
/// shorter, because a dump walks the kernel's whole table; no longer, because that is how long the
/// kernel keeps an entry at least: 10 s after a connection was reset
/// (nf_conntrack_tcp_timeout_close), 30 s for UDP and ICMP, 120 s in TIME_WAIT.
const CHECK: u64 = 10 * SECOND;

/// While the checks find nothing that events did not tell, each is twice as far from the next as
/// from the one before, up to this.
const SELDOM: u64 = 160 * SECOND;

/// The dumps of all namespaces together take no more than this part of the time. Each walks the
/// kernel's table of all namespaces, which takes 8.5 ms with 262,144 hash buckets.
const PART: u64 = 20;

/// How often it is dumped where events do not arrive. A fifth of the shortest life of an entry;
/// what lives shorter was deleted by hand, by a full table or by a lowered timeout.
const POLL: u64 = 2 * SECOND;

/// How soon it is dumped again after events were lost. Events that come faster than they are
/// read would otherwise be answered by dump after dump; a tenth of the shortest life of an entry.
const RESYNC: u64 = SECOND;

/// An event comes a little after what it tells: the kernel makes the entry, and then the event.
/// A millisecond also has room for an interrupt in between, and costs nobody anything.
const LATE: u64 = 1_000_000;

/// One entry, its times in boot time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) original: FlowKey,
    pub(super) reply: FlowKey,
    pub(super) id: u32,
    /// When it began or ended, if the kernel said so.
    pub(super) at: Option<BootTime>,
}

/// A translation that was told.
#[derive(Debug)]
struct Held {
    reply: FlowKey,
    /// The entry it comes from; others are in `Place::more`.
    id: u32,
    /// An event or a dump showed it last, not counting the last dump of the place.
    seen: BootTime,
    /// The dump that showed it last.
    round: u32,
}

/// What is known of one namespace.
#[derive(Debug)]
struct Place {
    held: HashMap<FlowKey, Held>,
    /// Further entries of the same name. Only for zones and pings, so nearly always empty.
    more: HashMap<FlowKey, HashSet<u32>>,
    /// When it came into view.
    since: BootTime,
    /// The last dump, and how many there were.
    dumped: Option<BootTime>,
    round: u32,
    /// Everything that was there at this moment is known.
    sure: BootTime,
    /// How long the last dump took, in nanoseconds.
    took: u64,
    /// How far apart the checks are.
    apart: u64,
    /// When the next dump is due.
    next: BootTime,
    /// A loss is not made good yet.
    owed: bool,
    /// What a dump showed and an event should have told before.
    surprise: Option<FlowKey>,
    /// Whether events of it arrive, as far as known.
    silent: bool,
}

impl Place {
    fn last_dump(&self) -> BootTime {
        self.dumped.unwrap_or_default()
    }
}

/// A stretch of time in which something may have been missed, and that has no end yet.
#[derive(Clone, Copy, Debug)]
struct Loss {
    begin: BootTime,
    cause: MissedCause,
}

/// Why translations may have been missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MissedCause {
    /// The kernel produced events faster than they were read.
    EventsLost,
    /// There were more than are kept.
    TooMany,
}

/// The translations of all namespaces.
#[derive(Debug)]
pub(super) struct Known {
    places: HashMap<NamespaceId, Place>,
    /// How many translations there are in all of them, further entries counted.
    total: usize,
    /// The most that are kept.
    most: usize,
    /// Whether events are listened for at all.
    listening: bool,
    /// All events up to this moment were read.
    read_until: BootTime,
    /// When changes were collected last.
    collected: BootTime,
    changes: Vec<(BootTime, Change)>,
    loss: Option<Loss>,
}

impl Known {
    /// Nothing, to begin with.
    pub(super) fn new(most: usize) -> Self {
        Self {
            places: HashMap::new(),
            total: 0,
            most,
            listening: false,
            read_until: BootTime(0),
            collected: BootTime(0),
            changes: Vec::new(),
            loss: None,
        }
    }

    /// Whether events are listened for from now on.
    pub(super) fn listening(&mut self, listening: bool) {
        self.listening = listening;
    }

    /// Whether a namespace should be dumped now.
    pub(super) fn due(&self, namespace: NamespaceId, now: BootTime) -> bool {
        self.places.get(&namespace).is_none_or(|place| {
            now >= place.next
                // Of a surprise, it is known by now whether an event came after it.
                || (place.surprise.is_some() && now >= place.last_dump().plus(POLL))
        })
    }

    /// A namespace that is due could not be dumped; it is tried again as often as if there were
    /// no events.
    pub(super) fn not_dumped(&mut self, namespace: NamespaceId, now: BootTime) {
        self.place(namespace, now).next = now.plus(POLL);
    }

    /// Events of this namespace cannot arrive, as is known before it is dumped.
    pub(super) fn silence(&mut self, namespace: NamespaceId, now: BootTime) {
        self.place(namespace, now).silent = true;
    }

    /// How many namespaces do not tell their events, though others do.
    pub(super) fn silent(&self) -> usize {
        self.places.values().filter(|place| place.silent).count()
    }

    fn place(&mut self, namespace: NamespaceId, now: BootTime) -> &mut Place {
        self.places.entry(namespace).or_insert_with(|| Place {
            held: HashMap::new(),
            more: HashMap::new(),
            since: now,
            dumped: None,
            round: 0,
            sure: BootTime(0),
            took: 0,
            apart: CHECK,
            next: now,
            owed: false,
            surprise: None,
            silent: false,
        })
    }

    /// Exactly these entries are in a namespace now; to learn that took so many nanoseconds.
    pub(super) fn dumped(
        &mut self,
        namespace: NamespaceId,
        now: BootTime,
        entries: &[Entry],
        took: u64,
    ) {
        let listening = self.listening;
        let others = self.places.iter().filter(|(id, _)| **id != namespace);
        let dumps = others.map(|(_, place)| place.took).fold(took, u64::saturating_add);
        let mut room = self.room();
        let place = self.place(namespace, now);
        place.round = place.round.wrapping_add(1);
        let (round, first) = (place.round, place.dumped.is_none());
        let expected = listening && !first && !place.owed;
        place.silent |= place.surprise.take().is_some();
        let further = place.more.drain().map(|(_, ids)| ids.len()).sum::<usize>();
        room += further;

        // What is as it was comes first, so that of several entries with one name the one
        // that was believed before is believed still.
        let mut changes = Vec::new();
        let mut others = Vec::new();
        for entry in entries {
            match place.held.get_mut(&entry.original) {
                Some(held) if held.round != round && held.reply == entry.reply => {
                    (held.round, held.id) = (round, entry.id);
                }
                _ => others.push(entry),
            }
        }
        let last_dump = place.last_dump();
        place.held.retain(|original, held| {
            let stays = held.round == round;
            if !stays {
                changes.push(gone(namespace, *original, held.seen.max(last_dump)));
                room += 1;
            }
            stays
        });
        let vanished = !changes.is_empty();
        let mut refused = false;
        for entry in others {
            let Entry { original, reply, id, at } = *entry;
            match place.held.get(&original) {
                Some(held) if held.reply != reply || held.id == id => {}
                _ if room == 0 => refused = true,
                Some(_) => {
                    room -= usize::from(place.more.entry(original).or_default().insert(id));
                }
                None => {
                    let not_before = at.map_or(place.sure, |at| at.min(now));
                    let translation = Translation { namespace, original, reply, not_before };
                    changes.push(Change::Translation(translation));
                    place.held.insert(original, Held { reply, id, seen: now, round });
                    room -= 1;
                    if expected && place.surprise.is_none() {
                        place.surprise = Some(original);
                    }
                }
            }
        }
        (place.dumped, place.sure, place.owed) = (Some(now), now, refused);
        let told = listening && !place.silent;
        let nothing_new = expected && !vanished && place.surprise.is_none();
        place.apart = if nothing_new { SELDOM.min(place.apart * 2) } else { CHECK };
        let period = if told || refused { place.apart } else { POLL };
        place.took = took;
        place.next = now.plus(period.max(dumps.saturating_mul(PART)));
        self.total = self.most - room.min(self.most);
        self.changes.extend(changes.into_iter().map(|change| (now, change)));
        if refused {
            self.miss(self.collected, MissedCause::TooMany);
        }
    }

    /// How many more can be kept.
    fn room(&self) -> usize {
        self.most.saturating_sub(self.total)
    }

    /// An event: an entry began.
    pub(super) fn began(&mut self, namespace: NamespaceId, now: BootTime, entry: Entry) {
        let Entry { original, reply, id, at } = entry;
        let (room, collected) = (self.room(), self.collected);
        let Some(place) = self.places.get_mut(&namespace) else {
            return; // its first dump is still to come
        };
        place.silent = false;
        if place.surprise == Some(original) {
            place.surprise = None;
        }
        let time = date(at, collected, place.since, now);
        let not_before = at.map_or(self.read_until.minus(LATE), |at| at.min(time));
        let begins = Change::Translation(Translation { namespace, original, reply, not_before });
        match place.held.get_mut(&original) {
            Some(held) if held.id == id && held.reply == reply => {}
            Some(held) if held.reply != reply => {
                let last_seen = held.seen.max(not_before).min(time);
                *held = Held { reply, id, seen: time, round: place.round };
                self.total -= place.more.remove(&original).map_or(0, |ids| ids.len());
                self.changes.push((time, gone(namespace, original, last_seen)));
                self.changes.push((time, begins));
            }
            _ if room == 0 => {
                place.owed = true;
                self.miss(collected, MissedCause::TooMany);
            }
            Some(_) => {
                let new = place.more.entry(original).or_default().insert(id);
                self.total += usize::from(new);
            }
            None => {
                place.held.insert(original, Held { reply, id, seen: time, round: place.round });
                self.total += 1;
                self.changes.push((time, begins));
            }
        }
    }

    /// An event: an entry ended.
    pub(super) fn ended(&mut self, namespace: NamespaceId, now: BootTime, entry: Entry) {
        let Entry { original, id, at, .. } = entry;
        let Some(place) = self.places.get_mut(&namespace) else {
            return;
        };
        let more = place.more.get_mut(&original);
        let Some(held) = place.held.get_mut(&original) else {
            return;
        };
        if let Some(ids) = more {
            let mut fewer = ids.remove(&id);
            if !fewer
                && held.id == id
                && let Some(&other) = ids.iter().next()
            {
                fewer = ids.remove(&other);
                held.id = other;
            }
            self.total -= usize::from(fewer);
            if ids.is_empty() {
                place.more.remove(&original);
            }
            return;
        }
        if held.id != id {
            return; // not the one that is believed
        }
        let time = date(at, self.collected, place.since, now);
        let last_seen = at.map_or(self.read_until.minus(LATE), |at| at.min(time));
        let last_seen = last_seen.max(held.seen).min(time);
        place.held.remove(&original);
        self.total -= 1;
        self.changes.push((time, gone(namespace, original, last_seen)));
    }

    /// A namespace is gone, and with it all its translations.
    pub(super) fn namespace_gone(&mut self, namespace: NamespaceId, now: BootTime) {
        let Some(place) = self.places.remove(&namespace) else {
            return;
        };
        self.total -= place.held.len() + place.more.values().map(HashSet::len).sum::<usize>();
        let last_dump = place.last_dump();
        for (original, held) in place.held {
            let last_seen = held.seen.max(last_dump);
            self.changes.push((now, gone(namespace, original, last_seen)));
        }
    }

    /// All namespaces that are gone, told by those that are not.
    pub(super) fn retain(&mut self, now: BootTime, mut there: impl FnMut(NamespaceId) -> bool) {
        let gone: Vec<NamespaceId> =
            self.places.keys().copied().filter(|&namespace| !there(namespace)).collect();
        for namespace in gone {
            self.namespace_gone(namespace, now);
        }
    }

    /// Events were lost after those that were read by the last [`Known::collect`].
    pub(super) fn lost(&mut self) {
        for place in self.places.values_mut() {
            if place.dumped.is_some() && !place.silent && !place.owed {
                place.sure = self.read_until.minus(LATE).max(place.sure);
            }
            place.owed = true;
            place.surprise = None;
            place.next = place.next.min(place.last_dump().plus(RESYNC));
        }
        self.miss(self.read_until, MissedCause::EventsLost);
    }

    fn miss(&mut self, begin: BootTime, cause: MissedCause) {
        self.loss.get_or_insert(Loss { begin, cause });
    }

    /// What changed since this was last called, and what may have been missed.
    ///
    /// `read`: whether all events that there were have been read.
    pub(super) fn collect(
        &mut self,
        now: BootTime,
        read: bool,
    ) -> (Vec<(BootTime, Change)>, Option<Missed>) {
        let mut missed = None;
        if let Some(loss) = &mut self.loss {
            let over = self.places.values().all(|place| !place.owed);
            // One that goes on is told in pieces: nobody waits for the end of it.
            if over || now >= loss.begin.plus(CHECK) {
                missed = Some(Missed { begin: loss.begin, end: now, cause: loss.cause });
                loss.begin = now;
            }
            if over {
                self.loss = None;
            }
        }
        if read {
            self.read_until = now;
        }
        self.collected = now;
        (std::mem::take(&mut self.changes), missed)
    }
}

/// The date of a change that was told with the time `at`: within what the caller does not know
/// yet, and not before its namespace.
fn date(at: Option<BootTime>, collected: BootTime, since: BootTime, now: BootTime) -> BootTime {
    at.map_or(now, |at| at.max(collected.plus(1)).max(since).min(now))
}

fn gone(namespace: NamespaceId, original: FlowKey, last_seen: BootTime) -> Change {
    Change::TranslationGone(TranslationGone { namespace, original, last_seen })
}

#[cfg(test)]
mod tests {
    use super::*;
    use procflow_core::{Endpoint, Protocol};
    use std::net::Ipv4Addr;

    const HERE: NamespaceId = NamespaceId(1);
    const THERE: NamespaceId = NamespaceId(2);

    /// A conversation of the client with this port, seen as from this address outside.
    fn entry(port: u16, outside: u8, id: u32) -> Entry {
        let end = |last, port| Endpoint::new(Ipv4Addr::new(10, 0, 0, last), port);
        let flow = |source, destination| FlowKey { protocol: Protocol::TCP, source, destination };
        let original = flow(end(1, port), end(2, 80));
        Entry { original, reply: flow(end(2, 80), end(outside, port)), id, at: None }
    }

    fn s(seconds: u64) -> BootTime {
        BootTime(seconds * SECOND)
    }

    /// As `+port>outside not_before` and `-port last_seen`, in milliseconds, after the time.
    fn told(changes: Vec<(BootTime, Change)>) -> Vec<String> {
        let ms = |time: BootTime| time.0 / 1_000_000;
        let line = |(time, change)| match change {
            Change::Translation(t) => format!(
                "{} {}+{}>{} {}",
                ms(time),
                t.namespace.0,
                t.original.source.port(),
                t.reply.destination.address(),
                ms(t.not_before)
            ),
            Change::TranslationGone(g) => {
                let port = g.original.source.port();
                format!("{} {}-{} {}", ms(time), g.namespace.0, port, ms(g.last_seen))
            }
            other => panic!("{other:?}"),
        };
        changes.into_iter().map(line).collect()
    }

    fn listening() -> Known {
        let mut known = Known::new(10);
        known.listening(true);
        known
    }

    /// Collects when all is read and nothing missed.
    fn collect(known: &mut Known, now: BootTime) -> Vec<String> {
        let (changes, missed) = known.collect(now, true);
        assert_eq!(missed, None);
        told(changes)
    }

    #[test]
    fn a_first_dump_tells_what_is_there_and_the_next_what_changed() {
        let mut known = Known::new(10);
        assert!(known.due(HERE, s(5)));
        known.dumped(HERE, s(5), &[entry(1, 9, 1), entry(2, 9, 2)], 0);
        let mut first = collect(&mut known, s(5));
        first.sort();
        assert_eq!(first, ["5000 1+1>10.0.0.9 0", "5000 1+2>10.0.0.9 0"]);
        // Nobody listens, so it is due again soon.
        assert!(!known.due(HERE, BootTime(6_999_999_999)) && known.due(HERE, s(7)));
        known.dumped(HERE, s(7), &[entry(2, 9, 2), entry(3, 9, 3)], 0);
        assert_eq!(collect(&mut known, s(7)), ["7000 1-1 5000", "7000 1+3>10.0.0.9 5000"]);
    }

    #[test]
    fn events_are_dated_between_two_answers() {
        let mut known = listening();
        known.dumped(HERE, s(5), &[], 0);
        collect(&mut known, s(5));
        known.began(HERE, s(6), entry(1, 9, 1));
        assert_eq!(collect(&mut known, s(6)), ["6000 1+1>10.0.0.9 4999"]);
        known.ended(HERE, s(8), entry(1, 9, 1));
        assert_eq!(collect(&mut known, s(8)), ["8000 1-1 6000"]);
        // Not what is meant: another entry, another namespace, the same again.
        known.began(HERE, s(9), entry(1, 9, 2));
        known.began(HERE, s(9), entry(1, 9, 2));
        known.ended(HERE, s(9), entry(1, 9, 1));
        known.began(THERE, s(9), entry(1, 9, 2));
        assert_eq!(collect(&mut known, s(9)), ["9000 1+1>10.0.0.9 7999"]);
    }

    #[test]
    fn a_time_that_the_kernel_told_is_taken_within_reason() {
        let mut known = listening();
        known.dumped(HERE, s(5), &[Entry { at: Some(s(2)), ..entry(1, 9, 1) }], 0);
        assert_eq!(collect(&mut known, s(5)), ["5000 1+1>10.0.0.9 2000"]);
        known.began(HERE, s(10), Entry { at: Some(s(7)), ..entry(2, 9, 2) });
        known.ended(HERE, s(10), Entry { at: Some(s(8)), ..entry(1, 9, 1) });
        // Told too late, or by a clock that was stepped.
        known.began(HERE, s(10), Entry { at: Some(s(4)), ..entry(3, 9, 3) });
        known.ended(HERE, s(10), Entry { at: Some(s(99)), ..entry(2, 9, 2) });
        let expected = [
            "7000 1+2>10.0.0.9 7000",
            "8000 1-1 8000",
            "5000 1+3>10.0.0.9 4000",
            "10000 1-2 10000",
        ];
        assert_eq!(collect(&mut known, s(10)), expected);
    }

    #[test]
    fn a_tuple_that_is_used_again_is_two_translations() {
        let mut known = listening();
        known.dumped(HERE, s(5), &[entry(1, 8, 1)], 0);
        collect(&mut known, s(5));
        known.ended(HERE, s(6), entry(1, 8, 1));
        known.began(HERE, s(6), entry(1, 9, 2));
        assert_eq!(collect(&mut known, s(6)), ["6000 1-1 5000", "6000 1+1>10.0.0.9 4999"]);
        // The end got lost, or comes after a dump that shows what followed.
        known.began(HERE, s(7), entry(1, 8, 3));
        known.ended(HERE, s(7), entry(1, 9, 2));
        assert_eq!(collect(&mut known, s(7)), ["7000 1-1 6000", "7000 1+1>10.0.0.8 5999"]);
        known.dumped(HERE, s(8), &[entry(1, 9, 4)], 0);
        assert_eq!(collect(&mut known, s(8)), ["8000 1-1 7000", "8000 1+1>10.0.0.9 5000"]);
    }

    #[test]
    fn pings_of_one_host_are_one_translation() {
        let mut known = listening();
        known.dumped(HERE, s(5), &[entry(0, 9, 1), entry(0, 9, 2), entry(0, 9, 2)], 0);
        known.began(HERE, s(5), entry(0, 9, 3));
        assert_eq!(collect(&mut known, s(5)), ["5000 1+0>10.0.0.9 0"]);
        assert_eq!(known.total, 3);
        known.ended(HERE, s(6), entry(0, 9, 1));
        known.ended(HERE, s(6), entry(0, 9, 3));
        known.ended(HERE, s(6), entry(0, 9, 3));
        assert_eq!(collect(&mut known, s(6)), [""; 0]);
        known.ended(HERE, s(7), entry(0, 9, 2));
        assert_eq!(collect(&mut known, s(7)), ["7000 1-0 5999"]);
        assert_eq!((known.total, known.places[&HERE].more.len()), (0, 0));
    }

    #[test]
    fn a_zone_that_disagrees_changes_nothing_from_dump_to_dump() {
        let mut known = listening();
        let both = [entry(1, 8, 1), entry(1, 9, 2)];
        known.dumped(HERE, s(5), &both, 0);
        assert_eq!(collect(&mut known, s(5)), ["5000 1+1>10.0.0.8 0"]);
        known.dumped(HERE, s(6), &[both[1], both[0]], 0);
        assert_eq!(collect(&mut known, s(6)), [""; 0]);
        assert_eq!(known.total, 1);
    }

    #[test]
    fn a_namespace_takes_its_translations_along() {
        let mut known = listening();
        known.dumped(HERE, s(5), &[entry(1, 9, 1)], 0);
        known.dumped(THERE, s(5), &[entry(0, 9, 1), entry(0, 9, 2)], 0);
        assert_eq!(collect(&mut known, s(5)).len(), 2);
        known.retain(s(6), |namespace| namespace == HERE);
        known.began(THERE, s(6), entry(2, 9, 3));
        assert_eq!(collect(&mut known, s(6)), ["6000 2-0 5000"]);
        assert_eq!(known.total, 1);
    }

    #[test]
    fn a_loss_lasts_until_all_namespaces_are_dumped_again() {
        let mut known = listening();
        known.dumped(HERE, s(5), &[entry(1, 9, 1)], 0);
        known.dumped(THERE, s(5), &[], 0);
        collect(&mut known, s(8));
        known.lost();
        assert_eq!(collect(&mut known, s(9)), [""; 0]);
        assert!(known.due(HERE, s(9)) && known.due(THERE, s(9)));
        known.dumped(HERE, s(9), &[entry(2, 9, 2)], 0);
        // A loss soon after a dump has to wait.
        known.lost();
        assert!(!known.due(HERE, s(9)) && known.due(HERE, s(10)));
        known.dumped(THERE, s(9), &[], 0);
        assert_eq!(collect(&mut known, s(9)), ["9000 1-1 5000", "9000 1+2>10.0.0.9 7999"]);
        known.dumped(HERE, s(10), &[entry(2, 9, 2)], 0);
        let (changes, missed) = known.collect(s(10), true);
        assert_eq!(told(changes), [""; 0]);
        let cause = MissedCause::EventsLost;
        assert_eq!(missed, Some(Missed { begin: s(8), end: s(10), cause }));
        assert!(!known.due(HERE, s(19)) && known.due(HERE, s(20)));
    }

    #[test]
    fn a_long_loss_is_told_in_pieces() {
        let mut known = listening();
        known.dumped(HERE, s(5), &[], 0);
        collect(&mut known, s(5));
        known.lost();
        collect(&mut known, s(14));
        let missed = |known: &mut Known, now| known.collect(now, true).1.map(|m| (m.begin, m.end));
        assert_eq!(missed(&mut known, s(15)), Some((s(5), s(15))));
        known.dumped(HERE, s(16), &[], 0);
        assert_eq!(missed(&mut known, s(16)), Some((s(15), s(16))));
        assert_eq!(missed(&mut known, s(30)), None);
    }

    #[test]
    fn beyond_the_bound_nothing_is_kept_and_that_is_told() {
        let mut known = Known::new(2);
        known.listening(true);
        let all = [entry(1, 9, 1), entry(2, 9, 2), entry(3, 9, 3)];
        known.dumped(HERE, s(5), &all, 0);
        let (changes, missed) = known.collect(s(5), true);
        assert_eq!((changes.len(), missed), (2, None));
        known.began(HERE, s(6), all[2]);
        known.began(HERE, s(6), entry(4, 9, 4));
        known.ended(HERE, s(6), all[0]);
        known.began(HERE, s(6), entry(5, 9, 5));
        let (changes, _) = known.collect(s(6), true);
        assert_eq!((changes.len(), known.total), (2, 2));
        assert!(known.due(HERE, s(15)));
        known.dumped(HERE, s(15), &all[..1], 0);
        let (changes, missed) = known.collect(s(15), true);
        assert_eq!((changes.len(), known.total), (3, 1));
        let cause = MissedCause::TooMany;
        assert_eq!(missed, Some(Missed { begin: s(0), end: s(15), cause }));
    }

    #[test]
    fn checks_that_find_nothing_become_rare_and_dear_ones_are_rarer() {
        let mut known = listening();
        let due = |known: &Known, seconds| {
            assert!(!known.due(HERE, s(seconds - 1)) && known.due(HERE, s(seconds)), "{seconds}");
        };
        known.dumped(HERE, s(5), &[entry(1, 9, 1)], 0);
        for (now, next) in [(15, 35), (35, 75), (75, 155), (155, 315), (315, 475)] {
            known.dumped(HERE, s(now), &[entry(1, 9, 1)], 0);
            due(&known, next);
        }
        known.dumped(HERE, s(475), &[], 0);
        due(&known, 485);
        // Two that take 1 s each are dumped every 40 s.
        known.silence(HERE, s(480));
        known.dumped(THERE, s(480), &[], SECOND);
        known.dumped(HERE, s(480), &[], SECOND);
        due(&known, 520);
    }

    #[test]
    fn a_namespace_whose_events_do_not_arrive_is_found_out() {
        let mut known = listening();
        known.dumped(HERE, s(5), &[entry(1, 9, 1)], 0);
        assert!(!known.due(HERE, s(14)));
        // An event that comes after the dump explains it.
        known.dumped(HERE, s(15), &[entry(1, 9, 1), entry(2, 9, 2)], 0);
        known.began(HERE, s(16), entry(2, 9, 2));
        assert!(!known.due(HERE, s(20)));
        // None comes.
        known.dumped(HERE, s(25), &[entry(1, 9, 1), entry(3, 9, 3)], 0);
        assert!(!known.due(HERE, s(26)) && known.due(HERE, s(27)));
        known.dumped(HERE, s(27), &[entry(1, 9, 1)], 0);
        assert_eq!(known.silent(), 1);
        assert!(known.due(HERE, s(29)));
        known.began(HERE, s(30), entry(4, 9, 4));
        assert_eq!(known.silent(), 0);
    }
}
