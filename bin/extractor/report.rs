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
        let mut also = |count: u64, what: &str| {
            if count > 0 {
                text.push_str(&format!("\n  {count} {what}"));
            }
        };
        if let Some(captured) = self.captured {
            also(captured.dropped, "frames were dropped by the kernel: --buffer was full");
            also(captured.dropped_by_interface, "frames were dropped by the interface");
        }
        also(self.filtered, "frames more were not wanted by --filter");
        for (why, count) in Undecoded::ALL.into_iter().zip(undecoded) {
            also(count, &format!("{why} ({})", why.name()));
        }
        also(truncated, "packets were captured in part; their lengths are those of their headers");
        also(flows.evicted, "flows ended because more than --capacity went on at once");
        also(clock_jumps, "times the clock jumped by more than ten minutes");
        also(
            wild_times,
            "packets had a time far from their neighbours', and count at that of the one before",
        );
        if !self.tally.is_conserved() {
            text.push_str("\n  NOT ALL FRAMES ARE ACCOUNTED FOR; please report this");
        }
        text
    }

    pub(crate) fn in_json(&self) -> Value {
        let Tally { frames, undecoded, flows, truncated, clock_jumps, wild_times, .. } = self.tally;
        let undecoded: Map<String, Value> = Undecoded::ALL
            .into_iter()
            .zip(undecoded)
            .map(|(why, count)| (why.name().to_owned(), count.into()))
            .collect();
        let captured = self.captured.map(|captured| {
            json!({
                "received": captured.received,
                "dropped": captured.dropped,
                "dropped_by_interface": captured.dropped_by_interface,
            })
        });
        json!({
            "interfaces": captured,
            "filtered": self.filtered,
            "frames": frames,
            "packets": flows.packets,
            "undecoded": undecoded,
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
