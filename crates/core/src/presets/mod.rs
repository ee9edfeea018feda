//! A preset is a set of columns under one name, with the timeouts that belong to it: what people know
//! from another meter, by the names and units they know, without its mistakes.
//!
//! Where a meter's own result is wrong, the column's definition says what it is here. The values come from
//! the same measures as those of the table (`features/table.rs`); a preset adds names and units.

mod cic;
mod nfstream;
mod pyflowmeter;

use std::sync::LazyLock;

use crate::features::{Accounting, Column, column, columns};
use crate::flow::Settings;

/// A set of columns, and how flows are made for it.
#[derive(Debug)]
pub struct Preset {
    /// What it is called.
    pub name: &'static str,
    /// Who it is for.
    pub about: &'static str,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// Its idle timeout, in seconds.
    pub idle: u32,
    /// Its active timeout, in seconds; 0 for none.
    pub active: u32,
    /// Which length its statistics of sizes are of.
    pub accounting: Accounting,
}

impl Preset {
    /// When flows end and what is measured, as the preset has it; all else as nobody says otherwise.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let nanos = |seconds: u32| i64::from(seconds) * 1_000_000_000;
        Settings {
            idle: nanos(self.idle),
            active: if self.active == 0 { i64::MAX } else { nanos(self.active) },
            accounting: self.accounting,
            needs: Column::all_need(&self.columns),
            ..Settings::default()
        }
    }
}

/// All presets.
#[must_use]
pub fn presets() -> &'static [Preset] {
    &PRESETS
}

/// The preset of this name.
#[must_use]
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

static PRESETS: LazyLock<Vec<Preset>> = LazyLock::new(|| {
    vec![
        Preset {
            name: "basic",
            about: "who, when, how much, sizes, times between packets, flags",
            columns: BASIC.iter().filter_map(|name| column(name).copied()).collect(),
            idle: 120,
            active: 1800,
            accounting: Accounting::Ip,
        },
        nfstream::preset(),
        cic::preset(),
        pyflowmeter::preset(),
        Preset {
            name: "full",
            about: "every column there is, in nanoseconds and octets",
            columns: columns().to_vec(),
            idle: 120,
            active: 1800,
            accounting: Accounting::Ip,
        },
    ]
});

const BASIC: [&str; 42] = [
    "source_address",
    "source_port",
    "destination_address",
    "destination_port",
    "protocol",
    "end_reason",
    "community_id",
    "bidirectional_first_seen_ns",
    "bidirectional_last_seen_ns",
    "bidirectional_duration_ns",
    "forward_packets",
    "reverse_packets",
    "forward_ip_octets",
    "reverse_ip_octets",
    "forward_payload_octets",
    "reverse_payload_octets",
    "forward_min_size",
    "forward_mean_size",
    "forward_stddev_size",
    "forward_max_size",
    "reverse_min_size",
    "reverse_mean_size",
    "reverse_stddev_size",
    "reverse_max_size",
    "bidirectional_mean_iat_ns",
    "bidirectional_stddev_iat_ns",
    "forward_min_iat_ns",
    "forward_mean_iat_ns",
    "forward_stddev_iat_ns",
    "forward_max_iat_ns",
    "reverse_min_iat_ns",
    "reverse_mean_iat_ns",
    "reverse_stddev_iat_ns",
    "reverse_max_iat_ns",
    "bidirectional_fin_packets",
    "bidirectional_syn_packets",
    "bidirectional_rst_packets",
    "bidirectional_psh_packets",
    "bidirectional_ack_packets",
    "bidirectional_urg_packets",
    "bidirectional_ece_packets",
    "bidirectional_cwr_packets",
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_column_has_a_name_of_its_own_and_a_definition() {
        for preset in presets() {
            let names: BTreeSet<&str> = preset.columns.iter().map(|column| column.name).collect();
            assert_eq!(names.len(), preset.columns.len(), "{}", preset.name);
            for column in &preset.columns {
                assert!(column.definition.len() > 5, "{} {}", preset.name, column.name);
            }
        }
    }

    #[test]
    fn presets_have_as_many_columns_as_those_they_are_named_after() {
        let count = |name| preset(name).map(|preset| preset.columns.len());
        assert_eq!(count("basic"), Some(BASIC.len()));
        assert_eq!(count("cic"), Some(84));
        assert_eq!(count("pyflowmeter"), Some(48));
        // 28 core, 48 statistics, 3 lists, 9 of the application; 18 and 8 of the first API that have other
        // names.
        assert_eq!(count("nfstream"), Some(28 + 48 + 3 + 9 + 18 + 8));
    }
}
