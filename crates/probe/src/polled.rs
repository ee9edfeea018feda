//! A polled source: two looks at the kernel, one after the other, and their difference as
//! changes. Where the kernel also tells something by itself, that says when to look.

use std::time::{Duration, Instant};

use procflow_binding::{BootTime, Change, Clock, ClockSample, Coverage};

use crate::account::{Account, Glance, Look};
use crate::pace::{Due, Pace};
use crate::source::{Batch, Informed, Shortfall, Source};
use crate::{ProbeError, clock};

/// The real-time clock is told at least this often, even when it runs as it should: whoever joins
/// later finds a recent sample. 24 bytes a minute.
const CLOCK_EVERY: u64 = 60_000_000_000;

/// Takes one look at everything. A look must not depend on the one before, but the taker may
/// remember what makes the next one cheap.
pub(crate) trait Taker: Send {
    /// The name of the source.
    fn name(&self) -> &'static str;
    /// Whether the kernel tells it anything by itself.
    fn is_told(&self) -> bool {
        false
    }
    /// Takes in what the kernel told; whether something happens that a look may show.
    fn hear(&mut self) -> bool {
        false
    }
    /// A quick look at where something happens; `None` where there is no such thing.
    fn glance(&mut self) -> Result<Option<Glance>, ProbeError> {
        Ok(None)
    }
    /// One look.
    fn take(&mut self) -> Result<Look, ProbeError>;
    /// What else happened, that neither looks nor glances show, since this was last called: changes
    /// in the namespaces of the last look, with times after the last call and up to `now`, the time
    /// of the look or glance that was just taken; and the end of all that was told of other
    /// namespaces.
    fn told(&mut self, now: BootTime) -> Vec<(BootTime, Change)> {
        let _ = now;
        Vec::new()
    }
    /// What it could not see.
    fn shortfalls(&self) -> &[Shortfall];
}

/// A taker, and what its last look showed.
pub(crate) struct Polled<T> {
    taker: T,
    period: Duration,
    account: Account,
    /// The last clock sample that was told.
    clock: Option<ClockSample>,
    pace: Pace,
}

impl<T: Taker> Polled<T> {
    /// Looks with `taker` every `period`.
    pub(crate) fn new(taker: T, period: Duration) -> Self {
        let pace = Pace::new(period, taker.is_told());
        Self { taker, period, account: Account::default(), clock: None, pace }
    }
}

impl<T: Taker> Source for Polled<T> {
    fn name(&self) -> &'static str {
        self.taker.name()
    }

    fn coverage(&self) -> Coverage {
        Coverage::Polled { period: u64::try_from(self.period.as_nanos()).unwrap_or(u64::MAX) }
    }

    fn shortfalls(&self) -> &[Shortfall] {
        self.taker.shortfalls()
    }

    fn collect(&mut self) -> Result<Batch, ProbeError> {
        let begun = Instant::now();
        if self.taker.hear() {
            self.pace.news(begun);
        }
        let watched_until = match (self.account.told_until(), self.pace.due(begun)) {
            (None, _) | (_, Some(Due::Look)) => return self.look(begun),
            (Some(watched_until), None) => watched_until,
            (Some(watched_until), Some(Due::Glance)) => {
                return self.glance(begun, watched_until);
            }
        };
        Ok(Batch { changes: Vec::new(), watched_until })
    }

    fn pause(&self) -> Duration {
        self.pace.pause(Instant::now())
    }
}

impl<T: Taker> Polled<T> {
    fn glance(&mut self, begun: Instant, watched_until: BootTime) -> Result<Batch, ProbeError> {
        let used = clock::processor();
        let glance = self.taker.glance();
        let batch = glance.map(|glance| match glance {
            Some(glance) => {
                let watched_until = glance.time;
                let mut changes = self.account.glance(glance);
                // Nothing that is told later may have happened before this.
                changes.extend(self.taker.told(watched_until));
                Batch { changes, watched_until }
            }
            None => Batch { changes: Vec::new(), watched_until },
        });
        self.pace.glanced(begun, clock::processor().saturating_sub(used));
        batch
    }

    fn look(&mut self, begun: Instant) -> Result<Batch, ProbeError> {
        let sample = clock::sample()?;
        let taken = self.taker.take();
        self.pace.looked(begun, begun.elapsed());
        let look = taken?;

        let mut changes = Vec::new();
        if worth_telling(self.clock, sample) {
            changes.push((sample.boot, Change::Clock(sample.real)));
            self.clock = Some(sample);
        }
        let watched_until = look.table.time;
        changes.extend(self.account.take_in(look));
        // What is told of a namespace comes after its coming, and before its going.
        let last =
            |(_, change): &(_, Change)| matches!(change, Change::NamespaceGone(_) | Change::Listed);
        let at = changes.iter().position(last).unwrap_or(changes.len());
        changes.splice(at..at, self.taker.told(watched_until));
        self.pace.looked(begun, begun.elapsed());
        Ok(Batch { changes, watched_until })
    }
}

impl<T: Taker> Informed for Polled<T> {}

/// Whether a clock sample says more than the one that was told last.
pub(crate) fn worth_telling(told: Option<ClockSample>, sample: ClockSample) -> bool {
    told.is_none_or(|told| {
        let moved = (sample.offset() - told.offset()).unsigned_abs();
        moved > u128::from(Clock::WORTH_A_SAMPLE)
            || sample.boot.0.saturating_sub(told.boot.0) >= CLOCK_EVERY
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use procflow_binding::{Gap, GapCause, Held, Namespace, NamespaceId, Socket, SocketId, Table};
    use procflow_core::{Endpoint, Timestamp};
    use std::net::Ipv4Addr;

    /// Shows what it was given, one table a look; `None` is a failure.
    struct Shown(Vec<Option<Table>>);

    impl Taker for Shown {
        fn name(&self) -> &'static str {
            "shown"
        }
        fn take(&mut self) -> Result<Look, ProbeError> {
            let table = self.0.remove(0).ok_or(ProbeError::Absent("an answer"))?;
            Ok(Look { table, ..Look::default() })
        }
        fn shortfalls(&self) -> &[Shortfall] {
            &[]
        }
    }

    fn table(time: u64, sockets: &[u64]) -> Table {
        let held = |&id| {
            let local = Endpoint::new(Ipv4Addr::LOCALHOST, 80);
            let held = Held {
                socket: Socket::listening(NamespaceId(1), local, false),
                owners: Default::default(),
            };
            (SocketId(id), held)
        };
        let id = NamespaceId(1);
        let namespace = Namespace { id, inode: 1, name: None, initial: true };
        Table {
            time: BootTime(time),
            sockets: sockets.iter().map(held).collect(),
            namespaces: [(id, namespace)].into(),
            ..Table::default()
        }
    }

    /// All but clock samples.
    fn told(batch: Batch) -> Vec<Change> {
        let mut changes: Vec<Change> =
            batch.changes.into_iter().map(|(_, change)| change).collect();
        changes.retain(|change| !matches!(change, Change::Clock(_)));
        changes
    }

    #[test]
    fn the_first_answer_lists_and_the_next_only_differs() {
        let tables = [table(10, &[1]), table(20, &[1]), table(30, &[])];
        let mut source = Polled::new(Shown(tables.map(Some).into()), Duration::from_secs(1));
        let first = source.collect().unwrap();
        assert_eq!(first.watched_until, BootTime(10));
        assert!(matches!(first.changes[0].1, Change::Clock(_)));
        let first = told(first);
        assert!(matches!(first[..], [Change::Namespace(_), Change::Open(_), Change::Listed]));
        assert_eq!(told(source.collect().unwrap()), []);
        let gone = told(source.collect().unwrap());
        let [Change::Close(close)] = gone[..] else {
            panic!("{gone:?}");
        };
        assert_eq!(close.last_seen, BootTime(20));
    }

    /// Shows what it was given, and was told of a gap each time.
    struct Told(Shown);

    impl Taker for Told {
        fn name(&self) -> &'static str {
            "told"
        }
        fn take(&mut self) -> Result<Look, ProbeError> {
            self.0.take()
        }
        fn told(&mut self, now: BootTime) -> Vec<(BootTime, Change)> {
            let cause = GapCause::SourceFailed;
            vec![(now, Change::Gap(Gap { begin: now, end: now, cause }))]
        }
        fn shortfalls(&self) -> &[Shortfall] {
            &[]
        }
    }

    #[test]
    fn what_was_told_of_a_namespace_is_told_while_it_is_there() {
        let mut gone = table(20, &[]);
        gone.namespaces.clear();
        let tables = [table(10, &[1]), gone];
        let taker = Told(Shown(tables.map(Some).into()));
        let mut source = Polled::new(taker, Duration::from_secs(1));
        let first = told(source.collect().unwrap());
        let [Change::Namespace(_), Change::Open(_), Change::Gap(_), Change::Listed] = first[..]
        else {
            panic!("{first:?}");
        };
        let second = told(source.collect().unwrap());
        let [Change::Close(_), Change::Gap(_), Change::NamespaceGone(_)] = second[..] else {
            panic!("{second:?}");
        };
    }

    #[test]
    fn a_failed_look_forgets_nothing() {
        let tables = vec![Some(table(10, &[1])), None, Some(table(30, &[1, 2]))];
        let mut source = Polled::new(Shown(tables), Duration::from_secs(1));
        source.collect().unwrap();
        assert!(source.collect().is_err());
        let later = told(source.collect().unwrap());
        let [Change::Open(open)] = &later[..] else {
            panic!("{later:?}");
        };
        assert_eq!((open.id, open.not_before), (SocketId(2), BootTime(10)));
    }

    #[test]
    fn a_clock_is_told_when_it_moves_and_every_minute() {
        let sample = |boot, real| ClockSample { boot: BootTime(boot), real: Timestamp(real) };
        let told = Some(sample(0, 1_000));
        assert!(worth_telling(None, sample(0, 1_000)));
        assert!(!worth_telling(told, sample(500, 1_500)));
        assert!(!worth_telling(told, sample(500, 10_001_500)));
        assert!(worth_telling(told, sample(500, 10_001_501)));
        assert!(worth_telling(told, sample(CLOCK_EVERY, 60_000_001_000)));
    }
}
