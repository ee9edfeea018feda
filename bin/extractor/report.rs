//! What became of the packets, for people and for machines.

use std::time::Duration;

use procflow_capture::Statistics;
use procflow_core::flow::Tally;
use procflow_core::packet::Undecoded;
use serde_json::{Map, Value, json};

/// So many rows were made of these packets, in this time.
pub(crate) struct Report {
    pub(crate) tally: Tally,
    /// Frames that a filter left out.
    pub(crate) filtered: u64,
    /// What the kernel says, of interfaces.
    pub(crate) captured: Option<Statistics>,
    pub(crate) took: Duration,
}

impl Report {
    pub(crate) fn in_text(&self) -> String {
        let Tally { frames, undecoded, flows, truncated, clock_jumps, wild_times, .. } = self.tally;
        let rate = frames as f64 / self.took.as_secs_f64().max(1e-9) / 1e6;
        let mut text = format!(
            "{frames} frames, {} packets in {} flow records ({rate:.2} M/s)",
            flows.packets, self.tally.records
        );
        let mut lines = Lines(&mut text);
        lines.of_frames(self.captured, self.filtered, &undecoded);
        lines.of_parts(truncated);
        lines.also(flows.evicted, "flows ended because more than --capacity went on at once");
        lines.of_times(clock_jumps, wild_times);
        if !self.tally.is_conserved() {
            text.push_str("\n  NOT ALL FRAMES ARE ACCOUNTED FOR; please report this");
        }
        text
    }

    pub(crate) fn in_json(&self) -> Value {
        let Tally { frames, undecoded, flows, truncated, clock_jumps, wild_times, .. } = self.tally;
        json!({
            "interfaces": captured_in_json(self.captured),
            "filtered": self.filtered,
            "frames": frames,
            "packets": flows.packets,
            "undecoded": undecoded_in_json(&undecoded),
            "conserved": self.tally.is_conserved(),
            "flows": flows.flows,
            "records": self.tally.records,
            "most_flows_at_once": flows.most,
            "evicted": flows.evicted,
            "truncated": truncated,
            "clock_jumps": clock_jumps,
            "wild_times": wild_times,
            "seconds": self.took.as_secs_f64(),
        })
    }
}

/// The lines of a report that are told only if there is something to tell.
pub(crate) struct Lines<'a>(pub(crate) &'a mut String);

impl Lines<'_> {
    pub(crate) fn also(&mut self, count: u64, what: &str) {
        if count > 0 {
            self.0.push_str(&format!("\n  {count} {what}"));
        }
    }

    /// Frames that came to nothing.
    pub(crate) fn of_frames(
        &mut self,
        captured: Option<Statistics>,
        filtered: u64,
        undecoded: &[u64],
    ) {
        if let Some(captured) = captured {
            self.also(captured.dropped, "frames were dropped by the kernel: --buffer was full");
            self.also(captured.dropped_by_interface, "frames were dropped by the interface");
        }
        self.also(filtered, "frames more were not wanted by --filter");
        for (why, &count) in Undecoded::ALL.into_iter().zip(undecoded) {
            self.also(count, &format!("{why} ({})", why.name()));
        }
    }

    /// Packets that were captured in part.
    pub(crate) fn of_parts(&mut self, truncated: u64) {
        self.also(
            truncated,
            "packets were captured in part; their lengths are those of their headers",
        );
    }

    /// Times that were doubted.
    pub(crate) fn of_times(&mut self, clock_jumps: u64, wild_times: u64) {
        self.also(clock_jumps, "times the clock jumped by more than ten minutes");
        self.also(
            wild_times,
            "packets had a time far from their neighbours', and count at that of the one before",
        );
    }
}

/// Frames without a packet, by why.
pub(crate) fn undecoded_in_json(undecoded: &[u64]) -> Map<String, Value> {
    let all = Undecoded::ALL.into_iter().zip(undecoded);
    all.map(|(why, &count)| (why.name().to_owned(), count.into())).collect()
}

/// What the kernel says of interfaces, if they were captured.
pub(crate) fn captured_in_json(captured: Option<Statistics>) -> Option<Value> {
    captured.map(|captured| {
        json!({
            "received": captured.received,
            "dropped": captured.dropped,
            "dropped_by_interface": captured.dropped_by_interface,
        })
    })
}
