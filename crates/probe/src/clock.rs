//! The host's two clocks, read together: the boot-time clock that stamps every change, and the
//! real-time clock that flow records use.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use procflow_binding::{BootTime, ClockSample};
use procflow_core::Timestamp;

use crate::ProbeError;

/// Two readings of the boot-time clock further apart than this say that the thread was
/// interrupted between them. Undisturbed they are under 200 ns apart; 20 us leaves room for slow
/// clock sources and is still a fiftieth of what a sample must tell (1 ms).
const WIDE: u64 = 20_000;

/// How often a bracket is tried before the narrowest one is taken as it is.
const TRIES: usize = 8;

#[cfg(target_os = "linux")]
const BOOT: ClockId = ClockId::CLOCK_BOOTTIME;

/// The nearest thing elsewhere: since boot, though some systems stop it while they sleep.
#[cfg(not(target_os = "linux"))]
const BOOT: ClockId = ClockId::CLOCK_MONOTONIC;

/// The boot-time clock now.
///
/// # Errors
/// When the system has no such clock.
pub fn now() -> Result<BootTime, ProbeError> {
    let time = clock_gettime(BOOT).map_err(ProbeError::call("clock_gettime of the boot time"))?;
    let nanoseconds = i128::from(time.tv_sec()) * 1_000_000_000 + i128::from(time.tv_nsec());
    Ok(BootTime(u64::try_from(nanoseconds).unwrap_or(0)))
}

/// The real-time clock now.
fn real() -> Result<Timestamp, ProbeError> {
    let time = clock_gettime(ClockId::CLOCK_REALTIME)
        .map_err(ProbeError::call("clock_gettime of the real time"))?;
    let nanoseconds = i128::from(time.tv_sec()) * 1_000_000_000 + i128::from(time.tv_nsec());
    Ok(Timestamp(i64::try_from(nanoseconds).unwrap_or(if nanoseconds < 0 {
        i64::MIN
    } else {
        i64::MAX
    })))
}

/// How much of a processor this thread has used.
pub(crate) fn processor() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Both clocks at one moment: the real time is read between two readings of the boot time and
/// belongs to their middle.
pub(crate) fn sample() -> Result<ClockSample, ProbeError> {
    let mut narrowest = None;
    for _ in 0..TRIES {
        let before = now()?;
        let real = real()?;
        let width = now()?.0.saturating_sub(before.0);
        let sample = ClockSample { boot: before.plus(width / 2), real };
        if narrowest.is_none_or(|(narrow, _)| width < narrow) {
            narrowest = Some((width, sample));
        }
        if width <= WIDE {
            break;
        }
    }
    narrowest.map(|(_, sample)| sample).ok_or(ProbeError::Absent("a clock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_samples_agree_on_the_offset() {
        let offsets = [sample().unwrap().offset(), sample().unwrap().offset()];
        assert!((offsets[0] - offsets[1]).unsigned_abs() < 1_000_000, "{offsets:?}");
    }
}
