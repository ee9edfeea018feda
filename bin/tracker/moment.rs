//! A moment, as people write it.

use std::time::{Duration, SystemTime};

use procflow_core::Timestamp;

/// A moment of real time, or so long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    At(Timestamp),
    Ago(Duration),
}

impl Moment {
    /// Which moment that is.
    pub(crate) fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => {
                let ago = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
                Timestamp(now.0.saturating_sub_unsigned(ago))
            }
        }
    }
}

impl std::str::FromStr for Moment {
    type Err = &'static str;

    /// `now`, `2h` (ago), `@1700000000.5` (seconds since 1970), or RFC 3339, in UTC where it does not
    /// say otherwise.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str =
            "is not a time such as 2026-11-21T03:00:00Z, @1795230000.5, 5m (ago) or now";
        if text == "now" {
            return Ok(Self::Ago(Duration::ZERO));
        }
        if let Some(seconds) = text.strip_prefix('@') {
            return since_the_epoch(seconds).map(Self::At).ok_or(WRONG);
        }
        if let Ok(ago) = humantime::parse_duration(text) {
            return Ok(Self::Ago(ago));
        }
        if let Ok(at) = text.parse::<jiff::Timestamp>() {
            return i64::try_from(at.as_nanosecond())
                .map(|at| Self::At(Timestamp(at)))
                .map_err(|_| WRONG);
        }
        let at = humantime::parse_rfc3339_weak(text).map_err(|_| WRONG)?;
        Ok(Self::At(of(at)))
    }
}

/// Seconds and a fraction of at most nine digits.
fn since_the_epoch(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds = whole.parse::<u32>().ok().map(i64::from).or_else(|| whole.parse().ok())?;
    let fraction: i64 = format!("{fraction:0<9}").parse().ok()?;
    Some(Timestamp(seconds.checked_mul(1_000_000_000)?.checked_add(fraction)?))
}

fn of(time: SystemTime) -> Timestamp {
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX))
}

/// This machine's real-time clock.
pub(crate) fn now() -> Timestamp {
    of(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_reads_in_every_way() {
        let at = |nanoseconds| Ok(Moment::At(Timestamp(nanoseconds)));
        assert_eq!("@1700000000".parse(), at(1_700_000_000_000_000_000));
        assert_eq!("@1700000000.25".parse(), at(1_700_000_000_250_000_000));
        assert_eq!("2023-11-14T22:13:20Z".parse(), at(1_700_000_000_000_000_000));
        assert_eq!("2023-11-14T23:13:20.5+01:00".parse(), at(1_700_000_000_500_000_000));
        assert_eq!("2023-11-14 22:13:20".parse(), at(1_700_000_000_000_000_000));
        assert_eq!("5m".parse(), Ok(Moment::Ago(Duration::from_secs(300))));
        assert_eq!("now".parse::<Moment>().unwrap().resolve(Timestamp(7)), Timestamp(7));
        for wrong in ["", "@", "@1.0000000001", "@9999999999999", "yesterday", "@1.-5"] {
            assert!(wrong.parse::<Moment>().is_err(), "{wrong}");
        }
    }
}
