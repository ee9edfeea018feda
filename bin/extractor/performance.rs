//! How a run goes while it goes on, every so often a line for machines (`--performance-report`).

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use procflow_capture::Statistics;
use procflow_core::flow::Tally;
use serde_json::{Value, json};

/// What the kernel says of each interface, as of a moment ago.
pub(crate) type Shared = Arc<Mutex<Vec<Statistics>>>;

/// Tells every so often what happened since it did last.
pub(crate) struct Performance {
    every: Duration,
    began: Instant,
    last: Instant,
    before: (Tally, Statistics),
    interfaces: Option<Shared>,
}

impl Performance {
    pub(crate) fn every(every: Duration, interfaces: Option<Shared>) -> Self {
        let began = Instant::now();
        Self { every, began, last: began, before: Default::default(), interfaces }
    }

    /// Prints a line, if it is time to.
    pub(crate) fn so_far(&mut self, tally: &Tally) {
        if self.last.elapsed() < self.every {
            return;
        }
        self.last = Instant::now();
        let interfaces = self.interfaces.as_ref().map(|interfaces| {
            let all = interfaces.lock().unwrap_or_else(PoisonError::into_inner);
            all.iter().copied().fold(Statistics::default(), Statistics::and)
        });
        let line = line(self.began.elapsed(), &self.before, tally, interfaces);
        // Rows go on though nobody reads this.
        let _ = writeln!(io::stderr(), "{line}");
        self.before = (*tally, interfaces.unwrap_or_default());
    }
}

/// What is different from before. What is held is what is now; of what goes on while it is counted, a part may
/// be in the next line.
fn line(
    since: Duration,
    (before, captured): &(Tally, Statistics),
    tally: &Tally,
    interfaces: Option<Statistics>,
) -> Value {
    let undecoded = |tally: &Tally| tally.undecoded.iter().sum::<u64>();
    let interfaces = interfaces.map(|now| {
        json!({
            "received": now.received.saturating_sub(captured.received),
            "dropped": now.dropped.saturating_sub(captured.dropped),
            "dropped_by_interface":
                now.dropped_by_interface.saturating_sub(captured.dropped_by_interface),
        })
    });
    json!({
        "seconds": since.as_secs_f64(),
        "interfaces": interfaces,
        "frames": tally.frames.saturating_sub(before.frames),
        "packets": tally.flows.packets.saturating_sub(before.flows.packets),
        "undecoded": undecoded(tally).saturating_sub(undecoded(before)),
        "flows_begun": tally.flows.flows.saturating_sub(before.flows.flows),
        "flows_held": tally.held,
        "evicted": tally.flows.evicted.saturating_sub(before.flows.evicted),
        "records": tally.records.saturating_sub(before.records),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use procflow_core::flow::Counts;

    #[test]
    fn a_line_is_what_happened_since_the_last_one() {
        let tally = |frames, records, held| {
            let flows = Counts { packets: frames - 2, flows: 10, ..Counts::default() };
            let mut tally = Tally { frames, records, held, flows, ..Tally::default() };
            tally.undecoded[0] = 2;
            tally
        };
        let kernel = |received, dropped| Statistics { received, dropped, dropped_by_interface: 0 };
        let before = (tally(100, 5, 7), kernel(100, 1));
        let told = line(Duration::from_secs(3), &before, &tally(150, 9, 3), Some(kernel(155, 4)));
        let expected = json!({
            "seconds": 3.0,
            "interfaces": { "received": 55, "dropped": 3, "dropped_by_interface": 0 },
            "frames": 50, "packets": 50, "undecoded": 0,
            "flows_begun": 0, "flows_held": 3, "evicted": 0, "records": 4,
        });
        assert_eq!(told, expected);
    }
}
