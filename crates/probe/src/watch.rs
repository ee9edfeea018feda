//! Watching: a source that is asked again and again, with the gaps that it leaves. What came late and may
//! have missed something, and what was not answered at all, is told as a gap and never as silence.

use std::time::Duration;

use procflow_binding::{BootTime, Change, Coverage, Gap, GapCause};

use crate::{Batch, Count, ProbeError, Shortfall, Source};

/// Looks further apart than this, and than three times the usual, leave a gap, in nanoseconds: twice
/// the longest period.
const LATE: u64 = 2_000_000_000;

/// A source that is watched.
pub struct Watch {
    source: Box<dyn Source>,
    /// Everything up to here was told.
    last: BootTime,
    /// From the answer before the last to the last, in nanoseconds.
    usual: u64,
    failing_since: Option<BootTime>,
    /// So many shortfalls were told.
    shortfalls: usize,
}

/// What came of asking.
#[derive(Debug)]
pub enum Heard {
    /// What happened, gaps included.
    Told {
        /// Everything since the last answer.
        batch: Batch,
        /// Whether it is the first answer after failures.
        again: bool,
    },
    /// No answer; the next one may come.
    Failed {
        /// Why.
        error: ProbeError,
        /// Whether it is the first failure after answers.
        anew: bool,
    },
}

impl Watch {
    /// Watches a source from now on.
    #[must_use]
    pub fn begin(source: Box<dyn Source>, now: BootTime) -> Self {
        Self { source, last: now, usual: 0, failing_since: None, shortfalls: 0 }
    }

    /// Asks it. See [`Source::collect`] for the thread to do it from.
    ///
    /// # Errors
    /// When the source is of no further use.
    pub fn ask(&mut self) -> Result<Heard, ProbeError> {
        let mut batch = match self.source.collect() {
            Ok(batch) => batch,
            Err(error) if error.is_final() => return Err(error),
            Err(error) => {
                let anew = self.failing_since.is_none();
                self.failing_since.get_or_insert(self.last);
                return Ok(Heard::Failed { error, anew });
            }
        };
        // One that finds it not yet time to look again has not answered.
        let answers = batch.watched_until > self.last;
        let failed = self.failing_since.take_if(|_| answers);
        if let Some(begin) = failed.or_else(|| self.late(batch.watched_until)) {
            let (end, cause) = (batch.watched_until, GapCause::SourceFailed);
            batch.changes.insert(0, (end, Change::Gap(Gap { begin, end, cause })));
        }
        let interval = batch.watched_until.0.saturating_sub(self.last.0);
        // Most answers of a source that is told when to look are that it is not yet time.
        if interval > 0 {
            self.usual = interval;
        }
        let told = batch.changes.iter().map(|&(time, _)| time);
        self.last = told.fold(self.last.max(batch.watched_until), BootTime::max);
        Ok(Heard::Told { batch, again: failed.is_some() })
    }

    /// Since when nobody watched, if an answer up to this moment comes so late that it did not (a stopped
    /// process, a host out of breath). A source that always comes late, because looking takes so long,
    /// does watch.
    fn late(&self, until: BootTime) -> Option<BootTime> {
        let interval = until.0.saturating_sub(self.last.0);
        let late = !self.source.keeps_up() && interval > LATE.max(self.usual.saturating_mul(3));
        late.then_some(self.last)
    }

    /// What it cannot see and was not told yet.
    pub fn new_shortfalls(&mut self) -> &[Shortfall] {
        let all = self.source.shortfalls();
        let from = self.shortfalls.min(all.len());
        self.shortfalls = all.len();
        &all[from..]
    }

    /// The source's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.source.name()
    }

    /// How well it sees.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        self.source.coverage()
    }

    /// How long to wait before it is asked again: at least a millisecond.
    #[must_use]
    pub fn pause(&self) -> Duration {
        self.source.pause().max(Duration::from_millis(1))
    }

    /// What the kernel was to tell, and what of it arrived.
    pub fn counts(&mut self) -> Vec<Count> {
        self.source.counts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    /// Answers up to these seconds, one after another; 0 is a failure.
    struct Answers(Vec<u64>, bool);

    impl Source for Answers {
        fn name(&self) -> &'static str {
            "answers"
        }
        fn coverage(&self) -> Coverage {
            Coverage::Complete
        }
        fn shortfalls(&self) -> &[Shortfall] {
            &[]
        }
        fn collect(&mut self) -> Result<Batch, ProbeError> {
            match self.0.remove(0) {
                0 => Err(ProbeError::Netlink { what: "answer" }),
                second => Ok(Batch { changes: Vec::new(), watched_until: BootTime(second * S) }),
            }
        }
        fn pause(&self) -> Duration {
            Duration::ZERO
        }
        fn keeps_up(&self) -> bool {
            self.1
        }
    }

    /// The gaps of such answers, in seconds.
    fn gaps(answers: &[u64], keeps_up: bool) -> Vec<(u64, u64)> {
        let mut watch = Watch::begin(Box::new(Answers(answers.to_vec(), keeps_up)), BootTime(S));
        let mut gaps = Vec::new();
        for _ in answers {
            if let Heard::Told { batch, .. } = watch.ask().unwrap() {
                gaps.extend(batch.changes.iter().filter_map(|(_, change)| match change {
                    Change::Gap(Gap { begin, end, .. }) => Some((begin.0 / S, end.0 / S)),
                    _ => None,
                }));
            }
        }
        gaps
    }

    #[test]
    fn what_came_late_did_not_watch() {
        assert_eq!(gaps(&[2, 3, 10, 11], false), [(3, 10)]);
        assert_eq!(gaps(&[2, 3, 10, 11], true), []);
        // Usually six seconds apart: ten are not late.
        assert_eq!(gaps(&[7, 17], false), [(1, 7)]);
    }

    #[test]
    fn failures_are_a_gap_up_to_the_next_answer() {
        assert_eq!(gaps(&[2, 0, 0, 2, 4, 5], true), [(2, 4)]);
    }
}
