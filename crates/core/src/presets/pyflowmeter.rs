//! PyFlowMeter's 48 columns. What is different here: the flag columns count the flags that they are named
//! after (there the bits are read from the wrong end), the times between packets are between packets of
//! that direction (there the gap to the last packet of either), and the first SYN is not lost. Rows come in
//! the order in which flows end, then in which they began.
//!
//! Its check interval and its limit of flows per check (`-i`, `-l`) have no counterpart: each flow is looked
//! at exactly when it is due.

use super::Preset;
use crate::features::measures::{Of, least, most};
use crate::features::table::shape;
use crate::features::{Accounting, Column, Kind, Needs, Shape, Summary, Value, Way};
use crate::flow::Record;

pub(super) fn preset() -> Preset {
    let mut columns = Vec::new();
    totals(&mut columns);
    statistics(&mut columns);
    flags(&mut columns);
    Preset {
        name: "pyflowmeter",
        about: "the 48 columns of PyFlowMeter",
        columns,
        idle: 600,
        active: 0,
        accounting: Accounting::Wire,
    }
}

fn totals(table: &mut Vec<Column>) {
    one!(table, "duration", "s", Float, NONE, "From the first packet to the last", |record| {
        Value::float(record.duration(Way::Both).map(|nanos| nanos as f64 / 1e9))
    });
    one!(table, "protocol", "", Unsigned, NONE, "Transport protocol, by IANA's number", |record| {
        Value::Unsigned(record.flow.protocol.0.into())
    });
    one!(table, "src_port", "", Unsigned, NONE, "Port of the initiator", |record| Value::Unsigned(
        record.flow.source_port.into()
    ));
    one!(table, "dst_port", "", Unsigned, NONE, "Port of the responder", |record| Value::Unsigned(
        record.flow.destination_port.into()
    ));
    each_direction!(
        table,
        ("fwd_", "bwd_"),
        "tot_pkt",
        "packets",
        Unsigned,
        NONE,
        "Packets",
        |record, way| Value::Unsigned(record.packets(way))
    );
    each_direction!(
        table,
        ("fwd_", "bwd_"),
        "tot_byte",
        "octets",
        Unsigned,
        NONE,
        "Whole frames",
        |record, way| Value::Unsigned(record.octets(way, Accounting::Wire))
    );
}

/// Of the sizes of packets.
fn size(record: &Record, way: Way, what: Of) -> Value<'static> {
    Value::float(record.size(way, what))
}

/// Of the times between packets, in seconds.
fn gap(record: &Record, way: Way, what: Of) -> Value<'static> {
    Value::float(record.gap(way, what).map(|nanos| nanos / 1e9))
}

/// The six columns of something in one direction.
macro_rules! six {
    ($table:ident, $prefix:literal, $way:ident, $unit:literal, $needs:ident, $of:ident, $gaps:literal, $what:literal) => {
        one!(
            $table,
            concat!($prefix, "mean"),
            $unit,
            Float,
            $needs,
            concat!("Mean of ", $what),
            |record| $of(record, Way::$way, Summary::mean)
        );
        one!(
            $table,
            concat!($prefix, "std"),
            $unit,
            Float,
            $needs,
            concat!("Population standard deviation (n) of ", $what, "; empty for fewer than two"),
            |record| $of(record, Way::$way, Summary::population_deviation)
        );
        one!(
            $table,
            concat!($prefix, "skewness"),
            "1",
            Float,
            MOMENTS,
            concat!(
                "Population skewness (g1) of ",
                $what,
                "; empty for fewer than two or if all are equal"
            ),
            |record| shape(record, Way::$way, $gaps, Shape::skewness)
        );
        one!(
            $table,
            concat!($prefix, "kurtosis"),
            "1",
            Float,
            MOMENTS,
            concat!(
                "Population excess kurtosis (g2) of ",
                $what,
                "; empty for fewer than two or if all are equal"
            ),
            |record| shape(record, Way::$way, $gaps, Shape::kurtosis)
        );
        one!(
            $table,
            concat!($prefix, "min"),
            $unit,
            Float,
            $needs,
            concat!("Least of ", $what),
            |record| $of(record, Way::$way, least)
        );
        one!(
            $table,
            concat!($prefix, "max"),
            $unit,
            Float,
            $needs,
            concat!("Greatest of ", $what),
            |record| $of(record, Way::$way, most)
        );
    };
}

fn statistics(table: &mut Vec<Column>) {
    six!(
        table,
        "fwd_pkt_size_",
        Forward,
        "octets",
        SIZES,
        size,
        false,
        "the frames' lengths, from the initiator"
    );
    six!(
        table,
        "bwd_pkt_size_",
        Reverse,
        "octets",
        SIZES,
        size,
        false,
        "the frames' lengths, from the responder"
    );
    six!(
        table,
        "fwd_iat_",
        Forward,
        "s",
        GAPS,
        gap,
        true,
        "the times between packets from the initiator"
    );
    six!(
        table,
        "bwd_iat_",
        Reverse,
        "s",
        GAPS,
        gap,
        true,
        "the times between packets from the responder"
    );
}

/// The columns of the flags of one direction, with the names that they have there.
macro_rules! flags {
    ($table:ident, $way:ident, $prefix:literal, $($name:literal $bit:literal)*) => {
        $(one!($table, concat!($prefix, $name, "_cnt"), "packets", Unsigned, FLAGS, concat!("TCP segments with ", $name), |record| Value::unsigned(record.flag(Way::$way, $bit)));)*
    };
}

fn flags(table: &mut Vec<Column>) {
    flags!(table, Forward, "fwd_", "FIN" 0 "SYN" 1 "RST" 2 "PUSH" 3 "ACK" 4 "URG" 5 "CWE" 7 "ECE" 6);
    flags!(table, Reverse, "bwd_", "FIN" 0 "SYN" 1 "RST" 2 "PUSH" 3 "ACK" 4 "URG" 5 "CWE" 7 "ECE" 6);
}
