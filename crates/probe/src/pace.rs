//! The pace of looking: once a period, and while the kernel tells that processes start or sockets end
//! with glances in between - but never so many that they take more than their share of a
//! processor.
//!
//! Whoever is told must be asked now and then whether something was told. That is a tick, and costs
//! two system calls.

use std::time::{Duration, Instant};

/// From one tick to the next. What starts is heard of at most so late.
const TICK: Duration = Duration::from_millis(10);

/// From one glance to the next. Sockets that live 20 ms are then looked at
/// once or twice.
const OFTEN: Duration = Duration::from_millis(10);

/// A glance is followed by a pause of at least so many times what it took of a processor: glancing
/// takes a fifth of one at most. (Looking may take half of one: on a host with a million sockets
/// nothing would be seen otherwise.)
const REST: u32 = 4;

/// For so long after the last news something is said to happen: a process that starts takes a while
/// until it has a socket.
pub(crate) const NEWS: Duration = Duration::from_millis(250);

/// What it is time for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Look,
    Glance,
}

/// When to look.
#[derive(Debug)]
pub(crate) struct Pace {
    /// From one look to the next.
    period: Duration,
    /// Whether anything is told at all, and there is room for glances between two looks.
    told: bool,
    /// When the last look began, and how long it took.
    look: Option<(Instant, Duration)>,
    /// When the last glance began, and how much of a processor it took.
    glance: Option<(Instant, Duration)>,
    /// When something was last told.
    news: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(period: Duration, told: bool) -> Self {
        let told = Self::fastest(period, told).is_some();
        Self { period, told, look: None, glance: None, news: None }
    }

    /// From one glance to the next at the fastest; `None` where there are none.
    pub(crate) fn fastest(period: Duration, told: bool) -> Option<Duration> {
        Some(OFTEN).filter(|&often| told && often < period)
    }

    /// Something was told.
    pub(crate) fn news(&mut self, now: Instant) {
        self.news = Some(now);
    }

    /// There was a look, or an attempt at one.
    pub(crate) fn looked(&mut self, begun: Instant, took: Duration) {
        self.look = Some((begun, took));
    }

    /// There was a glance, or an attempt at one.
    pub(crate) fn glanced(&mut self, begun: Instant, took: Duration) {
        self.glance = Some((begun, took));
    }

    /// What it is time for. Where nothing is told, a question is only answered by looking.
    pub(crate) fn due(&self, now: Instant) -> Option<Due> {
        if !self.told || self.until_look(now).is_zero() {
            Some(Due::Look)
        } else if self.is_happening(now) && self.until_glance(now).is_zero() {
            Some(Due::Glance)
        } else {
            None
        }
    }

    /// How long to wait until it may be time for something.
    pub(crate) fn pause(&self, now: Instant) -> Duration {
        let look = self.until_look(now);
        if !self.told {
            return look;
        }
        // Before it may glance again, whatever is told can wait.
        let glance = self.until_glance(now);
        let tick = if self.is_happening(now) { glance } else { glance.max(TICK) };
        tick.min(look)
    }

    fn is_happening(&self, now: Instant) -> bool {
        self.news.is_some_and(|news| now.saturating_duration_since(news) < NEWS)
    }

    /// The period; but never less than twice what a look takes.
    fn until_look(&self, now: Instant) -> Duration {
        self.look.map_or(Duration::ZERO, |(begun, took)| {
            let interval = self.period.max(took.saturating_mul(2));
            interval.saturating_sub(now.saturating_duration_since(begun))
        })
    }

    /// A while since both the last look and the last glance.
    fn until_glance(&self, now: Instant) -> Duration {
        let since = |begun| now.saturating_duration_since(begun);
        let look =
            self.look.map_or(Duration::ZERO, |(begun, _)| OFTEN.saturating_sub(since(begun)));
        let glance = self.glance.map_or(Duration::ZERO, |(begun, took)| {
            OFTEN.max(took.saturating_mul(REST + 1)).saturating_sub(since(begun))
        });
        look.max(glance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(100);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// A pace with one look, begun at the moment that is returned, of so many milliseconds.
    fn after(told: bool, took: u64) -> (Pace, Instant) {
        let mut pace = Pace::new(PERIOD, told);
        let begun = Instant::now();
        assert_eq!((pace.due(begun), pace.pause(begun)), (Some(Due::Look), Duration::ZERO));
        pace.looked(begun, ms(took));
        (pace, begun)
    }

    #[test]
    fn without_being_told_the_period_counts() {
        let (pace, begun) = after(false, 1);
        assert_eq!(pace.pause(begun + ms(1)), ms(99));
        assert_eq!(pace.due(begun + ms(1)), Some(Due::Look), "whoever asks gets an answer");
        // A look that takes longer than half of it slows down.
        let (pace, begun) = after(false, 80);
        assert_eq!(pace.pause(begun + ms(80)), ms(80));
        assert_eq!(pace.pause(begun + ms(500)), Duration::ZERO);
    }

    #[test]
    fn while_nothing_is_told_it_ticks() {
        let (pace, begun) = after(true, 1);
        assert_eq!(pace.pause(begun + ms(1)), TICK);
        assert_eq!(pace.due(begun + ms(50)), None);
        assert_eq!(pace.pause(begun + ms(95)), ms(5), "the period is kept");
        assert_eq!(pace.due(begun + ms(100)), Some(Due::Look));
    }

    #[test]
    fn news_brings_glances() {
        let (mut pace, begun) = after(true, 1);
        pace.news(begun + ms(4));
        assert_eq!(pace.pause(begun + ms(4)), ms(6));
        assert_eq!(pace.due(begun + ms(9)), None);
        assert_eq!(pace.due(begun + ms(10)), Some(Due::Glance));
        pace.glanced(begun + ms(10), ms(1));
        assert_eq!(pace.pause(begun + ms(11)), ms(9));
        assert_eq!(pace.due(begun + ms(20)), Some(Due::Glance));
        assert_eq!(pace.due(begun + ms(100)), Some(Due::Look));
        pace.looked(begun + ms(200), ms(1));
        assert_eq!(pace.due(begun + ms(253)), Some(Due::Glance));
        assert_eq!(pace.due(begun + ms(254)), None, "until the news is old");
    }

    #[test]
    fn glancing_takes_its_share_and_no_more() {
        let (mut pace, begun) = after(true, 1);
        pace.glanced(begun, ms(6));
        pace.news(begun);
        assert_eq!(pace.due(begun + ms(29)), None);
        assert_eq!(pace.due(begun + ms(30)), Some(Due::Glance));
        // Looks are not put off by it.
        pace.glanced(begun, ms(60));
        assert_eq!(pace.pause(begun + ms(60)), ms(40));
        assert_eq!(pace.due(begun + ms(100)), Some(Due::Look));
    }

    #[test]
    fn a_short_period_is_kept() {
        let mut pace = Pace::new(ms(5), true);
        let begun = Instant::now();
        pace.looked(begun, ms(1));
        assert_eq!(pace.pause(begun + ms(1)), ms(4));
        pace.news(begun);
        assert_eq!(pace.due(begun + ms(1)), Some(Due::Look));
        assert_eq!(Pace::fastest(ms(5), true), None);
        assert_eq!(Pace::fastest(PERIOD, false), None);
        assert_eq!(Pace::fastest(PERIOD, true), Some(OFTEN));
    }
}
