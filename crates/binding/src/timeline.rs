//! A timeline holds what came and went at one place in the order in which it came, and finds what
//! was there in a stretch of time without walking through the rest: an exporter may use one
//! 5-tuple a hundred thousand times a day.

use std::ops::RangeInclusive;

use crate::clock::BootTime;

/// How far before its first sight, or after its last, a thing may explain a flow, in nanoseconds:
/// one second, the longest sensible pause between two looks. Further away (after a gap of hours,
/// say) would not be an extrapolation but a guess.
pub(crate) const BETWEEN_LOOKS: u64 = 1_000_000_000;

/// When a thing was there.
///
/// `not_before <= first_seen <= last_seen <= not_after`: it certainly existed between the inner
/// two, and certainly not outside the outer two.
///
/// What lies further from its first and last sight than [`BETWEEN_LOOKS`] explains nothing, and is not
/// kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Presence {
    first_seen: BootTime,
    /// [`THERE`] while it is.
    last_seen: BootTime,
    /// So long before its first sight it may have been there, in nanoseconds,
    before: u32,
    /// and so long after its last.
    after: u32,
}

/// Later than anything.
const THERE: BootTime = BootTime(u64::MAX);

/// From one moment to a later one, in nanoseconds; a second at most.
fn between(earlier: BootTime, later: BootTime) -> u32 {
    later.0.saturating_sub(earlier.0).min(BETWEEN_LOOKS) as u32
}

impl Presence {
    /// From its first sight on.
    pub(crate) fn since(first_seen: BootTime, not_before: BootTime) -> Self {
        let before = between(not_before, first_seen);
        Self { first_seen, last_seen: THERE, before, after: 0 }
    }

    pub(crate) fn first_seen(&self) -> BootTime {
        self.first_seen
    }

    /// When it was last seen; `now` while it is there.
    pub(crate) fn last_seen(&self, now: BootTime) -> BootTime {
        if self.is_there() { now } else { self.last_seen }
    }

    pub(crate) fn is_there(&self) -> bool {
        self.last_seen == THERE
    }

    /// The first moment at which it may have been there.
    pub(crate) fn earliest(&self) -> BootTime {
        self.first_seen.minus(self.before.into())
    }

    /// The last moment at which it may have been there; `now` while it is.
    pub(crate) fn latest(&self, now: BootTime) -> BootTime {
        if self.is_there() { now } else { self.last_seen.plus(self.after.into()) }
    }

    /// Whether it may have been there at some moment of a stretch.
    pub(crate) fn may_touch(&self, stretch: &RangeInclusive<BootTime>, now: BootTime) -> bool {
        self.earliest() <= *stretch.end() && *stretch.start() <= self.latest(now)
    }

    /// It is gone: last seen then, and certainly not there after.
    pub(crate) fn finish(&mut self, last_seen: BootTime, not_after: BootTime) {
        self.last_seen = last_seen.max(self.first_seen).min(THERE.minus(1));
        self.after = between(self.last_seen, not_after);
    }
}

/// A thing that comes and goes.
pub(crate) trait Dated {
    fn presence(&self) -> &Presence;
    fn presence_mut(&mut self) -> &mut Presence;
    /// Which it is. No other thing that is there at the same time has the same number.
    fn number(&self) -> u64;
}

/// Up to so many are simply walked through.
const FEW: usize = 32;

/// What came and went, in order: ascending by first sight, then by number.
#[derive(Debug)]
pub(crate) struct Timeline<T> {
    all: Vec<T>,
    /// Only where there are many.
    tree: Option<Box<Tree>>,
}

/// A Fenwick tree (P. Fenwick, "A new data structure for cumulative frequency tables", 1994) of
/// maxima: node `i`, from 1, holds the latest moment at which any of the `lowest_bit(i)` things up
/// to the `i`th may have been there.
#[derive(Debug, Default)]
struct Tree {
    latest: Vec<BootTime>,
}

impl<T: Dated> Timeline<T> {
    /// Most only ever hold one thing; a vector's own first growth makes room for four.
    pub(crate) fn new() -> Self {
        Self { all: Vec::with_capacity(1), tree: None }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    #[cfg(test)]
    fn iter(&self) -> std::slice::Iter<'_, T> {
        self.all.iter()
    }

    /// Takes a thing in. Nearly all come in their order; one that does not costs a walk over those
    /// that are later.
    pub(crate) fn insert(&mut self, thing: T) {
        let at = self.after(thing.presence().first_seen, thing.number());
        self.all.insert(at, thing);
        self.grow_from(at);
    }

    pub(crate) fn iter_mut(&mut self) -> std::slice::IterMut<'_, T> {
        self.all.iter_mut()
    }

    /// The thing that is there under a number, first seen at this moment.
    pub(crate) fn there(&self, first_seen: BootTime, number: u64) -> Option<&T> {
        self.all.get(self.position(first_seen, number)?)
    }

    /// The same, to change.
    pub(crate) fn there_mut(&mut self, first_seen: BootTime, number: u64) -> Option<&mut T> {
        let at = self.position(first_seen, number)?;
        self.all.get_mut(at)
    }

    /// That thing is gone.
    pub(crate) fn finish(
        &mut self,
        first_seen: BootTime,
        number: u64,
        last_seen: BootTime,
        not_after: BootTime,
    ) {
        let Some(at) = self.position(first_seen, number) else { return };
        self.all[at].presence_mut().finish(last_seen, not_after);
        let Some(mut tree) = self.tree.take() else { return };
        let mut node = at + 1;
        while node <= tree.latest.len() {
            tree.latest[node - 1] = self.latest_of(node, &tree);
            node += lowest_bit(node);
        }
        self.tree = Some(tree);
    }

    /// Forgets what is not wanted.
    pub(crate) fn retain(&mut self, wanted: impl FnMut(&T) -> bool) {
        let before = self.all.len();
        self.all.retain(wanted);
        if self.all.len() != before {
            self.grow_from(0);
        }
    }

    /// What may have been there at some moment of a stretch, in order.
    pub(crate) fn touching(&self, stretch: &RangeInclusive<BootTime>, now: BootTime) -> Vec<&T> {
        let mut found: Vec<&T> = self.backwards(stretch, now).collect();
        found.reverse();
        found
    }

    fn backwards(&self, stretch: &RangeInclusive<BootTime>, now: BootTime) -> Backwards<'_, T> {
        // Whatever was seen later than this cannot have been there yet.
        let too_late = stretch.end().plus(BETWEEN_LOOKS);
        let left = self.all.partition_point(|thing| thing.presence().first_seen <= too_late);
        Backwards { timeline: self, stretch: stretch.clone(), now, left, steps: 0 }
    }

    /// How many come before whatever has this place in the order, its equals included.
    fn after(&self, first_seen: BootTime, number: u64) -> usize {
        self.all.partition_point(|thing| {
            (thing.presence().first_seen, thing.number()) <= (first_seen, number)
        })
    }

    fn position(&self, first_seen: BootTime, number: u64) -> Option<usize> {
        let at = self.after(first_seen, number).checked_sub(1)?;
        let thing = &self.all[at];
        let same = thing.number() == number && thing.presence().first_seen == first_seen;
        (same && thing.presence().is_there()).then_some(at)
    }

    /// Makes the tree true again after the things from `at` on moved.
    fn grow_from(&mut self, at: usize) {
        let mut tree = self.tree.take().unwrap_or_default();
        if self.all.len() <= FEW {
            return;
        }
        tree.latest.truncate(at);
        for node in tree.latest.len() + 1..=self.all.len() {
            let latest = self.latest_of(node, &tree);
            tree.latest.push(latest);
        }
        self.tree = Some(tree);
    }

    /// A node out of its own thing and the nodes below it.
    fn latest_of(&self, node: usize, tree: &Tree) -> BootTime {
        let mut latest = self.all[node - 1].presence().latest(BootTime(u64::MAX));
        let floor = node - lowest_bit(node);
        let mut below = node - 1;
        while below > floor {
            latest = latest.max(tree.latest[below - 1]);
            below -= lowest_bit(below);
        }
        latest
    }
}

/// So many things are in a node of the tree.
fn lowest_bit(node: usize) -> usize {
    node & node.wrapping_neg()
}

/// Walks back in time over what touches a stretch.
struct Backwards<'a, T> {
    timeline: &'a Timeline<T>,
    stretch: RangeInclusive<BootTime>,
    now: BootTime,
    /// So many have not been looked at.
    left: usize,
    /// Looks taken so far; the tests hold them down.
    steps: usize,
}

impl<'a, T: Dated> Iterator for Backwards<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<Self::Item> {
        while self.left > 0 {
            self.steps += 1;
            let node = self.left;
            let latest = self.timeline.tree.as_ref().map(|tree| tree.latest[node - 1]);
            if latest.is_some_and(|latest| latest < *self.stretch.start()) {
                self.left -= lowest_bit(node);
                continue;
            }
            self.left -= 1;
            let thing = &self.timeline.all[self.left];
            if thing.presence().may_touch(&self.stretch, self.now) {
                return Some(thing);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: BootTime = BootTime(u64::MAX);

    struct Thing(u64, Presence);

    impl Dated for Thing {
        fn presence(&self) -> &Presence {
            &self.1
        }

        fn presence_mut(&mut self) -> &mut Presence {
            &mut self.1
        }

        fn number(&self) -> u64 {
            self.0
        }
    }

    fn second(seconds: u64) -> BootTime {
        BootTime(seconds * 1_000_000_000)
    }

    fn came(timeline: &mut Timeline<Thing>, number: u64, at: BootTime) {
        timeline.insert(Thing(number, Presence::since(at, at)));
    }

    fn numbers(timeline: &Timeline<Thing>, from: BootTime, to: BootTime) -> Vec<u64> {
        timeline.touching(&(from..=to), NOW).iter().map(|thing| thing.0).collect()
    }

    /// One after another, ten seconds each, and one that stays from the beginning.
    fn a_hundred_thousand() -> Timeline<Thing> {
        let mut timeline = Timeline::new();
        came(&mut timeline, 0, second(0));
        for i in 1..=100_000 {
            came(&mut timeline, i, second(i * 10));
            timeline.finish(second(i * 10), i, second(i * 10 + 5), second(i * 10 + 5));
        }
        timeline
    }

    #[test]
    fn among_a_hundred_thousand_a_few_looks_find_what_was_there() {
        let timeline = a_hundred_thousand();
        for at in [1, 2, 777, 50_000, 100_000] {
            let stretch = second(at * 10 + 1)..=second(at * 10 + 2);
            let mut walk = timeline.backwards(&stretch, NOW);
            assert_eq!(walk.by_ref().map(|thing| thing.0).collect::<Vec<_>>(), [at, 0]);
            assert!(walk.steps < 200, "{} looks at {at}", walk.steps);
        }
    }

    #[test]
    fn looking_everywhere_finds_the_same() {
        // Lives of all lengths, some still going on, told out of order, some forgotten.
        let mut timeline = Timeline::new();
        let mut random = 1_u64;
        for number in 0..500 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let first = second((random >> 33) % 1000);
            came(&mut timeline, number, first);
            if number % 7 != 0 {
                let last = first.plus((random >> 20) % 40_000_000_000);
                timeline.finish(first, number, last, last.plus(500_000_000));
            }
        }
        timeline.retain(|thing| thing.0 % 11 != 0);
        for from in (0..1000).step_by(13) {
            let (from, to) = (second(from), second(from + from % 5));
            let everywhere: Vec<u64> = timeline
                .iter()
                .filter(|thing| thing.1.may_touch(&(from..=to), NOW))
                .map(|thing| thing.0)
                .collect();
            assert_eq!(numbers(&timeline, from, to), everywhere);
        }
        assert!(timeline.iter().is_sorted_by_key(|thing| (thing.1.first_seen(), thing.0)));
    }

    #[test]
    fn what_is_not_there_is_not_ended() {
        let mut timeline = Timeline::new();
        came(&mut timeline, 1, second(1));
        timeline.finish(second(1), 2, second(2), second(2));
        timeline.finish(second(0), 1, second(2), second(2));
        assert_eq!(numbers(&timeline, second(100), second(100)), [1]);
        timeline.finish(second(1), 1, second(2), second(2));
        timeline.finish(second(1), 1, second(200), second(200));
        assert!(numbers(&timeline, second(100), second(100)).is_empty());
        assert!(timeline.there_mut(second(1), 1).is_none());
    }
}
