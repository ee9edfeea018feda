//! The pace of looking: seldom while nothing seems to happen, often while the kernel tells that
//! processes start or sockets end - but never so often that looking takes more than its share of a
//! processor.
//!
//! Whoever is told must be asked now and then whether something was told. That is a tick, and costs
//! two system calls.

use std::time::{Duration, Instant};

/// From one tick to the next. What starts is heard of at most so late.
const TICK: Duration = Duration::from_millis(10);

/// From one look to the next while something happens. Sockets that live 20 ms are then looked at
/// once or twice.
const OFTEN: Duration = Duration::from_millis(10);

/// A look is followed by a pause of at least so many times what it took: looking often takes a fifth
/// of a processor at most. (One of the usual period may take half: on a host with a million sockets
/// nothing would be seen otherwise.)
const REST: u32 = 4;

/// For so long after the last news something is said to happen: a process that starts takes a while
/// until it has a socket.
const NEWS: Duration = Duration::from_millis(250);

/// When to look.
#[derive(Debug)]
pub(crate) struct Pace {
    /// From one look to the next while nothing happens.
    period: Duration,
    /// Whether anything is told at all.
    told: bool,
    /// When the last look began, and how long it took.
    last: Option<(Instant, Duration)>,
    /// When something was last told.
    news: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(period: Duration, told: bool) -> Self {
        Self { period, told, last: None, news: None }
    }

    /// From one look to the next at the fastest; `None` where it is always the period.
    pub(crate) fn fastest(period: Duration, told: bool) -> Option<Duration> {
        Some(OFTEN).filter(|&often| told && often < period)
    }

    /// Something was told.
    pub(crate) fn news(&mut self, now: Instant) {
        self.news = Some(now);
    }

    /// There was a look, or an attempt at one.
    pub(crate) fn looked(&mut self, begun: Instant, took: Duration) {
        self.last = Some((begun, took));
    }

    /// Whether it is time to look. Where nothing is told, a question is only answered by looking.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        !self.told
            || self.last.is_none_or(|(begun, took)| {
                let happening =
                    self.news.is_some_and(|news| now.saturating_duration_since(news) < NEWS);
                let interval = if happening { self.often(took) } else { self.seldom(took) };
                now.saturating_duration_since(begun) >= interval
            })
    }

    /// How long to wait until it may be time to look.
    pub(crate) fn pause(&self, now: Instant) -> Duration {
        let Some((begun, took)) = self.last else {
            return Duration::ZERO;
        };
        let since = now.saturating_duration_since(begun);
        let seldom = self.seldom(took).saturating_sub(since);
        if !self.told {
            return seldom;
        }
        // Before it may look again, whatever is told can wait.
        let often = self.often(took).saturating_sub(since);
        let happening = self.news.is_some_and(|news| now.saturating_duration_since(news) < NEWS);
        if happening { often } else { often.max(TICK).min(seldom) }
    }

    /// The period; but never less than twice what a look takes.
    fn seldom(&self, took: Duration) -> Duration {
        self.period.max(took.saturating_mul(2))
    }

    fn often(&self, took: Duration) -> Duration {
        OFTEN.max(took.saturating_mul(REST + 1)).min(self.seldom(took))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(100);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// A pace, one look of so many milliseconds ago at the moment that is returned.
    fn after(told: bool, took: u64) -> (Pace, Instant) {
        let mut pace = Pace::new(PERIOD, told);
        let begun = Instant::now();
        assert!(pace.is_due(begun) && pace.pause(begun) == Duration::ZERO);
        pace.looked(begun, ms(took));
        (pace, begun)
    }

    #[test]
    fn without_being_told_the_period_counts() {
        let (pace, begun) = after(false, 1);
        assert_eq!(pace.pause(begun + ms(1)), ms(99));
        assert!(pace.is_due(begun + ms(1)));
        // A look that takes longer than half of it slows down.
        let (pace, begun) = after(false, 80);
        assert_eq!(pace.pause(begun + ms(80)), ms(80));
        assert_eq!(pace.pause(begun + ms(500)), Duration::ZERO);
    }

    #[test]
    fn while_nothing_is_told_it_ticks() {
        let (pace, begun) = after(true, 1);
        assert_eq!(pace.pause(begun + ms(1)), TICK);
        assert!(!pace.is_due(begun + ms(50)));
        assert_eq!(pace.pause(begun + ms(95)), ms(5), "the period is kept");
        assert!(pace.is_due(begun + ms(100)));
    }

    #[test]
    fn news_brings_the_next_look_on() {
        let (mut pace, begun) = after(true, 1);
        pace.news(begun + ms(4));
        assert_eq!(pace.pause(begun + ms(4)), ms(6));
        assert!(!pace.is_due(begun + ms(9)) && pace.is_due(begun + ms(10)));
        pace.looked(begun + ms(200), ms(1));
        assert!(pace.is_due(begun + ms(210)), "and the next ones");
        pace.looked(begun + ms(254), ms(1));
        assert!(!pace.is_due(begun + ms(264)), "until they are old");
    }

    #[test]
    fn looking_often_takes_its_share_and_no_more() {
        let (mut pace, begun) = after(true, 6);
        pace.news(begun);
        assert!(!pace.is_due(begun + ms(29)) && pace.is_due(begun + ms(30)));
        // And is never slower than looking seldom.
        let (mut pace, begun) = after(true, 40);
        pace.news(begun);
        assert!(!pace.is_due(begun + ms(99)) && pace.is_due(begun + ms(100)));
        let (mut pace, begun) = after(true, 300);
        pace.news(begun + ms(550));
        assert!(!pace.is_due(begun + ms(599)) && pace.is_due(begun + ms(600)));
    }

    #[test]
    fn a_short_period_is_not_made_longer() {
        let mut pace = Pace::new(ms(5), true);
        let begun = Instant::now();
        pace.looked(begun, ms(1));
        assert_eq!(pace.pause(begun + ms(1)), ms(4));
        pace.news(begun);
        assert!(pace.is_due(begun + ms(5)));
        assert_eq!(Pace::fastest(ms(5), true), None);
        assert_eq!(Pace::fastest(PERIOD, false), None);
        assert_eq!(Pace::fastest(PERIOD, true), Some(OFTEN));
    }
}
