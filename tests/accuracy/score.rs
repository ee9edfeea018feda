//! The score: what was answered against what is true. Pure; the truth and the answers are handed in.

use std::collections::BTreeMap;

use procflow_binding::{Holder, Owner, ProcessKey, Reason};

use crate::truth::Actor;

/// One answer against the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It names the one who acted. (It may name others who share the socket.)
    Right,
    /// It names others only, or the kernel for a process, or a process for the kernel. `marked`: it
    /// says itself that it is no observation (`listener`, `extrapolated`). Wrong all the same.
    Wrong { marked: bool },
    /// It says that it cannot decide.
    Ambiguous,
    /// It says that it does not know.
    Unknown(Reason),
}

/// Marks one answer. `tick`: nanoseconds of a clock tick, the unit of the truth's start times.
pub fn mark(actor: Actor, owner: &Owner, tick: u64) -> Mark {
    match (actor, owner) {
        (_, Owner::Unknown(reason)) => Mark::Unknown(*reason),
        (_, Owner::Ambiguous { .. }) => Mark::Ambiguous,
        (Actor::Kernel, Owner::Kernel) => Mark::Right,
        (Actor::Process { .. }, Owner::Kernel) => Mark::Wrong { marked: false },
        (_, Owner::Known { holders, quality }) => {
            let is_the_actor = |holder: &Holder| {
                let key = holder.process.key;
                match actor {
                    Actor::Process { pid, start } => key.pid == pid && key.start.0 / tick == start,
                    Actor::Kernel => key == ProcessKey::KERNEL,
                }
            };
            if holders.iter().any(is_the_actor) {
                Mark::Right
            } else {
                Mark::Wrong { marked: !quality.is_observation() }
            }
        }
    }
}

/// How many examples of what went wrong are kept.
const EXAMPLES: usize = 3;

/// The sum of many marks.
#[derive(Clone, Debug, Default)]
pub struct Score {
    /// All ends that were asked for.
    pub ends: usize,
    pub right: usize,
    /// Of the right ones, those that were observed, and not guessed and marked so.
    pub observed: usize,
    /// All wrong ones …
    pub wrong: usize,
    /// … and those of them that were marked as no observation.
    pub guessed: usize,
    pub ambiguous: usize,
    pub unknown: BTreeMap<Reason, usize>,
    /// Processes in all the right answers: who names everybody is always right.
    pub named: usize,
    /// The first wrong answers, for people.
    pub examples: Vec<String>,
}

impl Score {
    /// Adds one answer; `about` says which, should it be wrong.
    pub fn add(&mut self, actor: Actor, owner: &Owner, tick: u64, about: impl Fn() -> String) {
        self.ends += 1;
        match mark(actor, owner, tick) {
            Mark::Right => {
                self.right += 1;
                let (named, observed) = match owner {
                    Owner::Known { holders, quality } => (holders.len(), quality.is_observation()),
                    _ => (1, true),
                };
                self.named += named;
                self.observed += usize::from(observed);
            }
            Mark::Wrong { marked } => {
                self.wrong += 1;
                self.guessed += usize::from(marked);
                if self.examples.len() < EXAMPLES {
                    self.examples.push(format!("{}: {actor}, not {}", about(), brief(owner)));
                }
            }
            Mark::Ambiguous => self.ambiguous += 1,
            Mark::Unknown(reason) => *self.unknown.entry(reason).or_default() += 1,
        }
    }

    /// Right ones of all, in percent.
    pub fn recall(&self) -> f64 {
        percent(self.right, self.ends)
    }

    /// Right ones of those that were answered, in percent; of nothing, all.
    pub fn precision(&self) -> f64 {
        match self.right + self.wrong {
            0 => 100.0,
            answered => percent(self.right, answered),
        }
    }

    /// Observed ones of the right ones, in percent.
    pub fn observed_share(&self) -> f64 {
        percent(self.observed, self.right)
    }

    /// Processes named by a right answer, on average.
    pub fn named_each(&self) -> f64 {
        percent(self.named, self.right.max(1)) / 100.0
    }

    /// Neither right nor answered with a gap: the answer owes an explanation.
    pub fn unexplained(&self) -> usize {
        let gaps = self.unknown.iter().filter(|(reason, _)| matches!(reason, Reason::Gap(_)));
        self.ends - self.right - gaps.map(|(_, count)| count).sum::<usize>()
    }
}

/// The control: how many answers would also be right if everybody had done what somebody else did -
/// half the list away, so that neighbours who shared something do not count. Where each end is another
/// process' it must be none, or right means nothing. `None` where processes act more than once.
pub fn right_for_others(ends: &[(Actor, &Owner)], tick: u64) -> Option<usize> {
    let actors: std::collections::BTreeSet<Actor> = ends.iter().map(|(actor, _)| *actor).collect();
    if actors.len() < ends.len() || ends.len() < 2 {
        return None;
    }
    let others = ends.iter().cycle().skip(ends.len() / 2);
    let pairs = ends.iter().zip(others);
    Some(pairs.filter(|((_, owner), (other, _))| mark(*other, owner, tick) == Mark::Right).count())
}

/// An answer in a few words.
fn brief(owner: &Owner) -> String {
    let name = |holder: &Holder| format!("{} {}", holder.process.comm, holder.process.key);
    match owner {
        Owner::Known { holders, quality } => {
            let names: Vec<String> = holders.iter().map(name).collect();
            format!("{} ({quality})", names.join(" or "))
        }
        Owner::Kernel => "the kernel".to_owned(),
        Owner::Ambiguous { .. } => "ambiguous".to_owned(),
        Owner::Unknown(reason) => reason.to_string(),
    }
}

/// A part of a whole in percent; of nothing, none.
pub fn percent(part: usize, whole: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of connections, far below 2^52")]
    let (part, whole) = (part as f64, whole as f64);
    if whole == 0.0 { 0.0 } else { 100.0 * part / whole }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use procflow_binding::{BootId, BootTime, GapCause, HostId, NamespaceId, Process, Quality};

    use super::*;

    /// 100 ticks a second.
    const TICK: u64 = 10_000_000;

    fn holder(pid: u32, start: u64) -> Holder {
        let process = Process {
            key: ProcessKey { pid, start: BootTime(start) },
            comm: "load".into(),
            executable: None,
            uid: None,
            user: None,
            container: None,
            unit: None,
        };
        Holder {
            host: HostId([1; 16]),
            boot: BootId([2; 16]),
            namespace: NamespaceId(3),
            process: Arc::new(process),
            details: None,
        }
    }

    fn known(holders: &[(u32, u64)], quality: Quality) -> Owner {
        let holders = holders.iter().map(|&(pid, start)| holder(pid, start)).collect();
        Owner::Known { holders, quality }
    }

    const ACTOR: Actor = Actor::Process { pid: 77, start: 1234 };

    #[test]
    fn the_same_pid_at_another_time_is_another_process() {
        let same = known(&[(77, 1234 * TICK + 5)], Quality::Exact);
        assert_eq!(mark(ACTOR, &same, TICK), Mark::Right);
        let later = known(&[(77, 1235 * TICK)], Quality::Exact);
        assert_eq!(mark(ACTOR, &later, TICK), Mark::Wrong { marked: false });
    }

    #[test]
    fn one_of_several_holders_is_enough_but_they_are_counted() {
        let shared = known(&[(1, 0), (77, 1234 * TICK), (3, 0)], Quality::Exact);
        let mut score = Score::default();
        score.add(ACTOR, &shared, TICK, String::new);
        assert_eq!((score.right, score.named), (1, 3));
        assert!((score.named_each() - 3.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_right_for_everybody_is_found_out() {
        let actor = |pid| Actor::Process { pid, start: 0 };
        let (one, two) = (known(&[(1, 0)], Quality::Exact), known(&[(2, 0)], Quality::Exact));
        let honest = [(actor(1), &one), (actor(2), &two)];
        assert_eq!(right_for_others(&honest, TICK), Some(0));
        let both = known(&[(1, 0), (2, 0)], Quality::Exact);
        assert_eq!(right_for_others(&[(actor(1), &both), (actor(2), &both)], TICK), Some(2));
        assert_eq!(right_for_others(&[(actor(1), &one), (actor(1), &one)], TICK), None);
    }

    #[test]
    fn a_right_guess_is_right_but_was_not_observed() {
        let mut score = Score::default();
        score.add(ACTOR, &known(&[(77, 1234 * TICK)], Quality::Listener), TICK, String::new);
        score.add(ACTOR, &known(&[(77, 1234 * TICK)], Quality::Exact), TICK, String::new);
        assert_eq!((score.right, score.observed), (2, 1));
    }

    #[test]
    fn a_wrong_guess_is_wrong_though_it_was_marked() {
        let guess = known(&[(1, 0)], Quality::Listener);
        assert_eq!(mark(ACTOR, &guess, TICK), Mark::Wrong { marked: true });
    }

    #[test]
    fn the_kernel_and_a_process_are_not_each_other() {
        assert_eq!(mark(ACTOR, &Owner::Kernel, TICK), Mark::Wrong { marked: false });
        assert_eq!(mark(Actor::Kernel, &Owner::Kernel, TICK), Mark::Right);
        let process = known(&[(77, 1234 * TICK)], Quality::LocalEndpoint);
        assert_eq!(mark(Actor::Kernel, &process, TICK), Mark::Wrong { marked: false });
        let own_socket = known(&[(0, 0)], Quality::Exact);
        assert_eq!(mark(Actor::Kernel, &own_socket, TICK), Mark::Right);
    }

    #[test]
    fn who_does_not_know_is_not_wrong() {
        let gap = Reason::Gap(GapCause::EventsLost);
        let mut score = Score::default();
        let nobody = Owner::Ambiguous { candidates: Vec::new() };
        for owner in [Owner::Unknown(gap), Owner::Unknown(Reason::NotObserved), nobody] {
            score.add(ACTOR, &owner, TICK, String::new);
        }
        score.add(ACTOR, &known(&[(77, 1234 * TICK)], Quality::Exact), TICK, String::new);
        assert_eq!((score.ends, score.right, score.wrong, score.ambiguous), (4, 1, 0, 1));
        assert_eq!(score.unknown[&gap], 1);
        assert!((score.recall() - 25.0).abs() < 1e-9);
        assert!((score.precision() - 100.0).abs() < 1e-9);
        assert_eq!(score.unexplained(), 2);
    }

    #[test]
    fn wrong_answers_leave_examples_but_not_all_of_them() {
        let mut score = Score::default();
        for _ in 0..10 {
            score.add(ACTOR, &known(&[(1, 0)], Quality::Exact), TICK, || "it".to_owned());
        }
        assert_eq!((score.wrong, score.guessed, score.examples.len()), (10, 0, 3));
        assert_eq!(
            score.examples[0],
            "it: pid 77 started at tick 1234, not load pid 1 started 0.000000000 (exact)"
        );
        assert!(score.precision().abs() < 1e-9);
    }
}
