//! CICFlowMeter's 84 columns. What is different here is in the definitions; in short: a flow ends when TCP
//! does or after 120 s without a packet (there: 120 s after its begin, looked at only when its key is seen
//! again, and at any server's FIN); lengths are those of headers, each payload counts once; averages and
//! ratios are fractions; the last busy period counts; what cannot be said is empty (there NaN, Infinity or
//! 0); times are UTC; IPv6 is counted.

use super::Preset;
use crate::features::measures::{Of, least, most};
use crate::features::table::{any_side, direction, side};
use crate::features::{Accounting, Bulk, Column, Kind, Needs, Summary, Value, Way};
use crate::flow::Record;

pub(super) fn preset() -> Preset {
    let mut columns = Vec::new();
    totals(&mut columns);
    times(&mut columns);
    flags_and_rates(&mut columns);
    packets(&mut columns);
    bulks_and_subflows(&mut columns);
    periods(&mut columns);
    Preset {
        name: "cic",
        about: "the 84 columns of CICFlowMeter",
        columns,
        idle: 120,
        active: 0,
        accounting: Accounting::Payload,
    }
}

/// Of the payloads' lengths.
fn size(record: &Record, way: Way, what: Of) -> Value<'static> {
    Value::float(record.size(way, what))
}

/// Of the times between packets, in microseconds.
fn gap(record: &Record, way: Way, what: Of) -> Value<'static> {
    Value::float(record.gap(way, what).map(|nanos| nanos / 1e3))
}

fn totals(table: &mut Vec<Column>) {
    one!(
        table,
        "Flow ID",
        "",
        Text,
        NONE,
        "Addresses, ports and protocol, the initiator first",
        |record| {
            let flow = &record.flow;
            let (source, destination) = (flow.source.ip(), flow.destination.ip());
            let (from, to, protocol) = (flow.source_port, flow.destination_port, flow.protocol.0);
            Value::Text(format!("{source}-{destination}-{from}-{to}-{protocol}").into())
        }
    );
    one!(table, "Src IP", "", Text, NONE, "Address of the initiator", |record| Value::Address(
        record.flow.source
    ));
    one!(table, "Src Port", "", Unsigned, NONE, "Port of the initiator", |record| Value::Unsigned(
        record.flow.source_port.into()
    ));
    one!(table, "Dst IP", "", Text, NONE, "Address of the responder", |record| Value::Address(
        record.flow.destination
    ));
    one!(table, "Dst Port", "", Unsigned, NONE, "Port of the responder", |record| Value::Unsigned(
        record.flow.destination_port.into()
    ));
    one!(
        table,
        "Protocol",
        "",
        Unsigned,
        NONE,
        "Transport protocol, by IANA's number (CICFlowMeter: 0 for all but TCP and UDP)",
        |record| Value::Unsigned(record.flow.protocol.0.into())
    );
    one!(
        table,
        "Timestamp",
        "",
        Text,
        NONE,
        "When the first packet was captured, in UTC with microseconds, by RFC 3339 (CICFlowMeter: local time, of 12 hours, without zone)",
        |record| {
            record
                .first(Way::Both)
                .map_or(Value::Null, |first| Value::Text(first.rfc3339_micros().into()))
        }
    );
    one!(
        table,
        "Flow Duration",
        "us",
        Float,
        NONE,
        "From the first packet to the last",
        |record| Value::float(record.duration(Way::Both).map(|nanos| nanos as f64 / 1e3))
    );
    one!(
        table,
        "Total Fwd Packet",
        "packets",
        Unsigned,
        NONE,
        "Packets from the initiator",
        |record| Value::Unsigned(record.packets(Way::Forward))
    );
    one!(
        table,
        "Total Bwd packets",
        "packets",
        Unsigned,
        NONE,
        "Packets from the responder",
        |record| Value::Unsigned(record.packets(Way::Reverse))
    );
    one!(
        table,
        "Total Length of Fwd Packet",
        "octets",
        Unsigned,
        NONE,
        "Transport payload from the initiator",
        |record| Value::Unsigned(record.octets(Way::Forward, Accounting::Payload))
    );
    one!(
        table,
        "Total Length of Bwd Packet",
        "octets",
        Unsigned,
        NONE,
        "Transport payload from the responder",
        |record| Value::Unsigned(record.octets(Way::Reverse, Accounting::Payload))
    );
    each_direction!(
        table,
        ("Fwd ", "Bwd "),
        "Packet Length Max",
        "octets",
        Float,
        SIZES,
        "Greatest transport payload of a packet",
        |record, way| size(record, way, most)
    );
    each_direction!(
        table,
        ("Fwd ", "Bwd "),
        "Packet Length Min",
        "octets",
        Float,
        SIZES,
        "Least transport payload of a packet",
        |record, way| size(record, way, least)
    );
    each_direction!(
        table,
        ("Fwd ", "Bwd "),
        "Packet Length Mean",
        "octets",
        Float,
        SIZES,
        "Mean transport payload of the packets",
        |record, way| size(record, way, Summary::mean)
    );
    each_direction!(
        table,
        ("Fwd ", "Bwd "),
        "Packet Length Std",
        "octets",
        Float,
        SIZES,
        "Sample standard deviation (n - 1) of it; empty for fewer than two packets",
        |record, way| size(record, way, Summary::deviation)
    );
    // In the order that is known: all of one direction, then all of the other.
    let sizes = table.len() - 8;
    alternate(&mut table[sizes..]);
    one!(
        table,
        "Flow Bytes/s",
        "octets/s",
        Float,
        NONE,
        "Transport payload of both directions by the flow's duration; empty if that is zero",
        |record| Value::float(record.rate(record.octets(Way::Both, Accounting::Payload)))
    );
    one!(
        table,
        "Flow Packets/s",
        "packets/s",
        Float,
        NONE,
        "Packets of both directions by the flow's duration; empty if that is zero",
        |record| Value::float(record.rate(record.packets(Way::Both)))
    );
}

/// Columns of two directions in turn become those of the one and then those of the other.
fn alternate(columns: &mut [Column]) {
    let (forward, reverse): (Vec<_>, Vec<_>) =
        columns.iter().enumerate().partition(|(index, _)| index % 2 == 0);
    let ordered: Vec<Column> =
        forward.into_iter().chain(reverse).map(|(_, column)| *column).collect();
    columns.copy_from_slice(&ordered);
}

fn times(table: &mut Vec<Column>) {
    one!(
        table,
        "Flow IAT Mean",
        "us",
        Float,
        GAPS,
        "Mean time between packets of either direction",
        |record| gap(record, Way::Both, Summary::mean)
    );
    one!(
        table,
        "Flow IAT Std",
        "us",
        Float,
        GAPS,
        "Sample standard deviation (n - 1) of it; empty for fewer than two",
        |record| gap(record, Way::Both, Summary::deviation)
    );
    one!(
        table,
        "Flow IAT Max",
        "us",
        Float,
        GAPS,
        "Greatest time between packets of either direction",
        |record| gap(record, Way::Both, most)
    );
    one!(
        table,
        "Flow IAT Min",
        "us",
        Float,
        GAPS,
        "Least time between packets of either direction",
        |record| gap(record, Way::Both, least)
    );
    each_direction!(
        table,
        ("Fwd ", "Bwd "),
        "IAT Total",
        "us",
        Float,
        GAPS,
        "Sum of the times between packets",
        |record, way| gap(record, way, |summary, count| (count > 0).then(|| summary.sum() as f64))
    );
    each_direction!(
        table,
        ("Fwd ", "Bwd "),
        "IAT Mean",
        "us",
        Float,
        GAPS,
        "Mean time between packets",
        |record, way| gap(record, way, Summary::mean)
    );
    each_direction!(
        table,
        ("Fwd ", "Bwd "),
        "IAT Std",
        "us",
        Float,
        GAPS,
        "Sample standard deviation (n - 1) of it; empty for fewer than two",
        |record, way| gap(record, way, Summary::deviation)
    );
    each_direction!(
        table,
        ("Fwd ", "Bwd "),
        "IAT Max",
        "us",
        Float,
        GAPS,
        "Greatest time between packets",
        |record, way| gap(record, way, most)
    );
    each_direction!(
        table,
        ("Fwd ", "Bwd "),
        "IAT Min",
        "us",
        Float,
        GAPS,
        "Least time between packets",
        |record, way| gap(record, way, least)
    );
    let gaps = table.len() - 10;
    alternate(&mut table[gaps..]);
}

fn flags_and_rates(table: &mut Vec<Column>) {
    each_direction!(
        table,
        ("Fwd ", "Bwd "),
        "PSH Flags",
        "packets",
        Unsigned,
        FLAGS,
        "TCP segments with PSH",
        |record, way| Value::unsigned(record.flag(way, 3))
    );
    each_direction!(
        table,
        ("Fwd ", "Bwd "),
        "URG Flags",
        "packets",
        Unsigned,
        FLAGS,
        "TCP segments with URG",
        |record, way| Value::unsigned(record.flag(way, 5))
    );
    each_direction!(
        table,
        ("Fwd ", "Bwd "),
        "Header Length",
        "octets",
        Unsigned,
        NONE,
        "Transport headers of all packets together",
        |record, way| Value::Unsigned(
            record.octets(way, Accounting::Transport) - record.octets(way, Accounting::Payload)
        )
    );
    each_direction!(
        table,
        ("Fwd ", "Bwd "),
        "Packets/s",
        "packets/s",
        Float,
        NONE,
        "Packets by the flow's duration; empty if that is zero",
        |record, way| Value::float(record.rate(record.packets(way)))
    );
    one!(
        table,
        "Packet Length Min",
        "octets",
        Float,
        SIZES,
        "Least transport payload of a packet of either direction",
        |record| size(record, Way::Both, least)
    );
    one!(
        table,
        "Packet Length Max",
        "octets",
        Float,
        SIZES,
        "Greatest transport payload of a packet of either direction",
        |record| size(record, Way::Both, most)
    );
    one!(
        table,
        "Packet Length Mean",
        "octets",
        Float,
        SIZES,
        "Mean transport payload (CICFlowMeter: the first packet's counts twice)",
        |record| size(record, Way::Both, Summary::mean)
    );
    one!(
        table,
        "Packet Length Std",
        "octets",
        Float,
        SIZES,
        "Sample standard deviation (n - 1) of it (likewise); empty for fewer than two packets",
        |record| size(record, Way::Both, Summary::deviation)
    );
    one!(
        table,
        "Packet Length Variance",
        "octets^2",
        Float,
        SIZES,
        "Sample variance (n - 1) of it (likewise); empty for fewer than two packets",
        |record| size(record, Way::Both, Summary::variance)
    );
    one!(
        table,
        "FIN Flag Count",
        "packets",
        Unsigned,
        FLAGS,
        "TCP segments with FIN, of both directions",
        |record| Value::unsigned(record.flag(Way::Both, 0))
    );
    one!(
        table,
        "SYN Flag Count",
        "packets",
        Unsigned,
        FLAGS,
        "TCP segments with SYN, of both directions",
        |record| Value::unsigned(record.flag(Way::Both, 1))
    );
    one!(
        table,
        "RST Flag Count",
        "packets",
        Unsigned,
        FLAGS,
        "TCP segments with RST, of both directions",
        |record| Value::unsigned(record.flag(Way::Both, 2))
    );
    one!(
        table,
        "PSH Flag Count",
        "packets",
        Unsigned,
        FLAGS,
        "TCP segments with PSH, of both directions",
        |record| Value::unsigned(record.flag(Way::Both, 3))
    );
    one!(
        table,
        "ACK Flag Count",
        "packets",
        Unsigned,
        FLAGS,
        "TCP segments with ACK, of both directions",
        |record| Value::unsigned(record.flag(Way::Both, 4))
    );
    one!(
        table,
        "URG Flag Count",
        "packets",
        Unsigned,
        FLAGS,
        "TCP segments with URG, of both directions",
        |record| Value::unsigned(record.flag(Way::Both, 5))
    );
    one!(
        table,
        "CWR Flag Count",
        "packets",
        Unsigned,
        FLAGS,
        "TCP segments with CWR, of both directions",
        |record| Value::unsigned(record.flag(Way::Both, 7))
    );
    one!(
        table,
        "ECE Flag Count",
        "packets",
        Unsigned,
        FLAGS,
        "TCP segments with ECE, of both directions",
        |record| Value::unsigned(record.flag(Way::Both, 6))
    );
}

fn ratio(part: u64, whole: u64) -> Value<'static> {
    Value::float((whole > 0).then(|| part as f64 / whole as f64))
}

fn packets(table: &mut Vec<Column>) {
    one!(
        table,
        "Down/Up Ratio",
        "1",
        Float,
        NONE,
        "Packets from the responder by packets from the initiator (CICFlowMeter: cut to a whole number)",
        |record| ratio(record.packets(Way::Reverse), record.packets(Way::Forward))
    );
    one!(
        table,
        "Average Packet Size",
        "octets",
        Float,
        NONE,
        "Transport payload by packets, of both directions",
        |record| ratio(record.octets(Way::Both, Accounting::Payload), record.packets(Way::Both))
    );
    each_direction!(
        table,
        ("Fwd ", "Bwd "),
        "Segment Size Avg",
        "octets",
        Float,
        NONE,
        "Transport payload by packets",
        |record, way| ratio(record.octets(way, Accounting::Payload), record.packets(way))
    );
}

fn bulk(
    record: &Record,
    way: Way,
    part: fn(&Bulk) -> u64,
    whole: fn(&Bulk) -> u64,
) -> Value<'static> {
    let bulk = record.features.bulks.as_ref().map(|bulks| *bulks.done().of(direction(way)));
    bulk.map_or(Value::Null, |bulk| match (part(&bulk), whole(&bulk)) {
        // Without any transfer the averages are 0, as they are known.
        (_, 0) if bulk.transfers == 0 => Value::Float(0.0),
        (part, whole) => ratio(part, whole),
    })
}

/// So many by subflows.
fn by_subflow(record: &Record, count: u64) -> Value<'static> {
    let subflows = record.features.activity.as_ref().map(crate::features::Activity::subflows);
    subflows.map_or(Value::Null, |subflows| ratio(count, subflows))
}

fn bulks_and_subflows(table: &mut Vec<Column>) {
    each_direction!(
        table,
        ("Fwd ", "Bwd "),
        "Bytes/Bulk Avg",
        "octets",
        Float,
        BULKS,
        "Transport payload by bulk transfer: at least 4 packets with payload one way, at most 1 s apart, and none the other way; 0 without (CICFlowMeter: always 0 forward)",
        |record, way| bulk(record, way, |bulk| bulk.octets, |bulk| bulk.transfers.into())
    );
    each_direction!(
        table,
        ("Fwd ", "Bwd "),
        "Packet/Bulk Avg",
        "packets",
        Float,
        BULKS,
        "Packets by bulk transfer; 0 without (CICFlowMeter: always 0 forward)",
        |record, way| bulk(record, way, |bulk| bulk.packets.into(), |bulk| bulk.transfers.into())
    );
    each_direction!(
        table,
        ("Fwd ", "Bwd "),
        "Bulk Rate Avg",
        "octets/s",
        Float,
        BULKS,
        "Transport payload of bulk transfers by their duration; 0 without, empty if they took no time (CICFlowMeter: always 0 forward)",
        |record, way| match bulk(record, way, |bulk| bulk.octets, |bulk| bulk.duration) {
            Value::Float(by_nano) => Value::Float(by_nano * 1e9),
            other => other,
        }
    );
    let bulks = table.len() - 6;
    alternate(&mut table[bulks..]);
    one!(
        table,
        "Subflow Fwd Packets",
        "packets",
        Float,
        ACTIVITY,
        "Packets from the initiator by subflow: more than 1 s without a packet begins another (CICFlowMeter: cut to a whole number, by one subflow fewer)",
        |record| by_subflow(record, record.packets(Way::Forward))
    );
    one!(
        table,
        "Subflow Fwd Bytes",
        "octets",
        Float,
        ACTIVITY,
        "Transport payload from the initiator by subflow (likewise)",
        |record| by_subflow(record, record.octets(Way::Forward, Accounting::Payload))
    );
    one!(
        table,
        "Subflow Bwd Packets",
        "packets",
        Float,
        ACTIVITY,
        "Packets from the responder by subflow (likewise)",
        |record| by_subflow(record, record.packets(Way::Reverse))
    );
    one!(
        table,
        "Subflow Bwd Bytes",
        "octets",
        Float,
        ACTIVITY,
        "Transport payload from the responder by subflow (likewise)",
        |record| by_subflow(record, record.octets(Way::Reverse, Accounting::Payload))
    );
    one!(
        table,
        "FWD Init Win Bytes",
        "octets, not scaled",
        Unsigned,
        TCP,
        "Window in the initiator's first TCP header; empty without",
        |record| side(record, Way::Forward, |side| side.first_window.into())
    );
    one!(
        table,
        "Bwd Init Win Bytes",
        "octets, not scaled",
        Unsigned,
        TCP,
        "Window in the responder's first TCP header; empty without (CICFlowMeter: the last one)",
        |record| side(record, Way::Reverse, |side| side.first_window.into())
    );
    one!(
        table,
        "Fwd Act Data Pkts",
        "packets",
        Unsigned,
        TCP,
        "Packets from the initiator with payload (CICFlowMeter: without the first)",
        |record| any_side(record, Way::Forward, |side| side.with_payload.into())
    );
    one!(
        table,
        "Fwd Seg Size Min",
        "octets",
        Unsigned,
        TCP,
        "Shortest transport header from the initiator",
        |record| any_side(record, Way::Forward, |side| side.least_header.into())
    );
}

/// Of busy or quiet periods, in microseconds.
fn period(record: &Record, quiet: bool, what: Of) -> Value<'static> {
    let Some(activity) = &record.features.activity else { return Value::Null };
    let (summary, count) = match quiet {
        true => activity.quiet(),
        false => activity.busy(&record.flow),
    };
    Value::float(what(&summary, count).map(|nanos| nanos / 1e3))
}

fn periods(table: &mut Vec<Column>) {
    one!(
        table,
        "Active Mean",
        "us",
        Float,
        ACTIVITY,
        "Mean length of busy periods: more than 5 s without a packet end one (CICFlowMeter: without the last)",
        |record| period(record, false, Summary::mean)
    );
    one!(
        table,
        "Active Std",
        "us",
        Float,
        ACTIVITY,
        "Sample standard deviation (n - 1) of it; empty for fewer than two",
        |record| period(record, false, Summary::deviation)
    );
    one!(table, "Active Max", "us", Float, ACTIVITY, "Longest busy period", |record| period(
        record, false, most
    ));
    one!(table, "Active Min", "us", Float, ACTIVITY, "Shortest busy period", |record| period(
        record, false, least
    ));
    one!(
        table,
        "Idle Mean",
        "us",
        Float,
        ACTIVITY,
        "Mean length of the quiet periods in between; empty without one",
        |record| period(record, true, Summary::mean)
    );
    one!(
        table,
        "Idle Std",
        "us",
        Float,
        ACTIVITY,
        "Sample standard deviation (n - 1) of it; empty for fewer than two",
        |record| period(record, true, Summary::deviation)
    );
    one!(
        table,
        "Idle Max",
        "us",
        Float,
        ACTIVITY,
        "Longest quiet period; empty without one",
        |record| period(record, true, most)
    );
    one!(
        table,
        "Idle Min",
        "us",
        Float,
        ACTIVITY,
        "Shortest quiet period; empty without one",
        |record| period(record, true, least)
    );
    one!(
        table,
        "Label",
        "",
        Text,
        NONE,
        "The initiator's process if it is known, else the responder's; empty otherwise",
        |record| {
            let holders = record.holders.iter().flat_map(|holders| holders.iter());
            let known = holders.filter(|holder| holder.answer == "known");
            let mut names = known.filter_map(|holder| holder.name.as_deref());
            names.next().map_or(Value::Null, Value::text)
        }
    );
}
