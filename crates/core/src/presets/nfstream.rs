//! NFStream's columns: 28 of the core, 48 statistics, the lists of first packets, 9 of the application, and
//! behind them what its first API (`Streamer`) called its fields, as far as it called them differently.
//!
//! What is different here: a deviation of fewer than two values is empty (there 0), times between packets
//! of one direction are between packets of that direction and not cut to whole milliseconds, lengths come
//! from headers, every fragment counts, ports that are used again begin another flow. Timeouts are the
//! first API's.

use super::Preset;
use crate::dissect::Basis;
use crate::features::dissection::{digest, seconds, text};
use crate::features::{Accounting, Column, Kind, List, Needs, Value, Way};
use crate::flow::{EndReason, Record};
use crate::key::Timestamp;

pub(super) fn preset() -> Preset {
    let mut columns = Vec::new();
    core(&mut columns);
    statistics(&mut columns);
    first_packets(&mut columns);
    application(&mut columns);
    first_api(&mut columns);
    first_application(&mut columns);
    Preset {
        name: "nfstream",
        about: "the columns of NFStream, current and first names",
        columns,
        idle: 30,
        active: 60,
        accounting: Accounting::Wire,
    }
}

fn core(table: &mut Vec<Column>) {
    one!(table, "id", "", Unsigned, NONE, "Number of the row, from 0 on", |_record| Value::Row);
    one!(
        table,
        "expiration_id",
        "",
        Signed,
        NONE,
        "0 idle timeout or end of the flow, 1 active timeout, -1 for another reason",
        |record| {
            match record.reason {
                EndReason::GoesOn => Value::Null,
                EndReason::IdleTimeout | EndReason::EndOfFlow => Value::Signed(0),
                EndReason::ActiveTimeout => Value::Signed(1),
                EndReason::Forced | EndReason::LackOfResources => Value::Signed(-1),
            }
        }
    );
    one!(table, "src_ip", "", Text, NONE, "Address of the initiator", |record| Value::Address(
        record.flow.source
    ));
    one!(table, "src_mac", "", Text, NONE, "Link address of the initiator's side", |record| {
        Value::Hex(&record.flow.link.source.0)
    });
    one!(
        table,
        "src_oui",
        "",
        Text,
        NONE,
        "Its first three octets: who made the interface",
        |record| Value::Hex(&record.flow.link.source.0[..3])
    );
    one!(table, "src_port", "", Unsigned, NONE, "Port of the initiator", |record| Value::Unsigned(
        record.flow.source_port.into()
    ));
    one!(table, "dst_ip", "", Text, NONE, "Address of the responder", |record| Value::Address(
        record.flow.destination
    ));
    one!(table, "dst_mac", "", Text, NONE, "Link address of the responder's side", |record| {
        Value::Hex(&record.flow.link.destination.0)
    });
    one!(
        table,
        "dst_oui",
        "",
        Text,
        NONE,
        "Its first three octets: who made the interface",
        |record| Value::Hex(&record.flow.link.destination.0[..3])
    );
    one!(table, "dst_port", "", Unsigned, NONE, "Port of the responder", |record| Value::Unsigned(
        record.flow.destination_port.into()
    ));
    one!(table, "protocol", "", Unsigned, NONE, "Transport protocol, by IANA's number", |record| {
        Value::Unsigned(record.flow.protocol.0.into())
    });
    one!(table, "ip_version", "", Unsigned, NONE, "4 or 6", |record| Value::Unsigned(
        record.flow.ip_version.into()
    ));
    one!(table, "vlan_id", "", Unsigned, NONE, "Outer VLAN identifier, 0 without", |record| {
        Value::Unsigned(record.flow.link.vlans[0].into())
    });
    each_way!(
        table,
        ("bidirectional_", "src2dst_", "dst2src_"),
        "first_seen_ms",
        "ms since 1970",
        Signed,
        NONE,
        "When the first packet was captured; empty without packets",
        |record, way| millis(record.first(way))
    );
    each_way!(
        table,
        ("bidirectional_", "src2dst_", "dst2src_"),
        "last_seen_ms",
        "ms since 1970",
        Signed,
        NONE,
        "When the last packet was captured; empty without packets",
        |record, way| millis(record.last(way))
    );
    each_way!(
        table,
        ("bidirectional_", "src2dst_", "dst2src_"),
        "duration_ms",
        "ms",
        Float,
        NONE,
        "From the first packet to the last; empty without packets",
        |record, way| Value::float(record.duration(way).map(in_millis))
    );
    each_way!(
        table,
        ("bidirectional_", "src2dst_", "dst2src_"),
        "packets",
        "packets",
        Unsigned,
        NONE,
        "Packets",
        |record, way| Value::Unsigned(record.packets(way))
    );
    each_way!(
        table,
        ("bidirectional_", "src2dst_", "dst2src_"),
        "bytes",
        "octets",
        Unsigned,
        NONE,
        "Octets, by the length that is accounted (whole frames unless said otherwise)",
        |record, way| Value::Unsigned(record.octets(way, record.accounting))
    );
}

fn millis(time: Option<Timestamp>) -> Value<'static> {
    time.map_or(Value::Null, |time| Value::Signed(time.as_millis()))
}

fn in_millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

fn statistics(table: &mut Vec<Column>) {
    each_way!(
        table,
        ("bidirectional_", "src2dst_", "dst2src_"),
        "min_ps",
        "octets",
        Unsigned,
        SIZES,
        "Least size of a packet (the length that is accounted)",
        |record, way| Value::unsigned(record.sizes(way).and_then(|(sizes, n)| sizes.least(n)))
    );
    each_way!(
        table,
        ("bidirectional_", "src2dst_", "dst2src_"),
        "mean_ps",
        "octets",
        Float,
        SIZES,
        "Mean size of the packets",
        |record, way| Value::float(record.sizes(way).and_then(|(sizes, n)| sizes.mean(n)))
    );
    each_way!(
        table,
        ("bidirectional_", "src2dst_", "dst2src_"),
        "stddev_ps",
        "octets",
        Float,
        SIZES,
        "Sample standard deviation (n - 1) of the sizes; empty for fewer than two",
        |record, way| Value::float(record.sizes(way).and_then(|(sizes, n)| sizes.deviation(n)))
    );
    each_way!(
        table,
        ("bidirectional_", "src2dst_", "dst2src_"),
        "max_ps",
        "octets",
        Unsigned,
        SIZES,
        "Greatest size of a packet",
        |record, way| Value::unsigned(record.sizes(way).and_then(|(sizes, n)| sizes.most(n)))
    );
    each_way!(
        table,
        ("bidirectional_", "src2dst_", "dst2src_"),
        "min_piat_ms",
        "ms",
        Float,
        GAPS,
        "Least time between two packets that follow one another",
        |record, way| Value::float(
            record.gaps(way).and_then(|(gaps, n)| gaps.least(n)).map(in_millis)
        )
    );
    each_way!(
        table,
        ("bidirectional_", "src2dst_", "dst2src_"),
        "mean_piat_ms",
        "ms",
        Float,
        GAPS,
        "Mean time between packets",
        |record, way| Value::float(
            record.gaps(way).and_then(|(gaps, n)| gaps.mean(n)).map(|mean| mean / 1e6)
        )
    );
    each_way!(
        table,
        ("bidirectional_", "src2dst_", "dst2src_"),
        "stddev_piat_ms",
        "ms",
        Float,
        GAPS,
        "Sample standard deviation (n - 1) of the times between packets; empty for fewer than two",
        |record, way| Value::float(
            record
                .gaps(way)
                .and_then(|(gaps, n)| gaps.deviation(n))
                .map(|deviation| deviation / 1e6)
        )
    );
    each_way!(
        table,
        ("bidirectional_", "src2dst_", "dst2src_"),
        "max_piat_ms",
        "ms",
        Float,
        GAPS,
        "Greatest time between two packets that follow one another",
        |record, way| Value::float(
            record.gaps(way).and_then(|(gaps, n)| gaps.most(n)).map(in_millis)
        )
    );
    each_way!(
        table,
        ("bidirectional_", "src2dst_", "dst2src_"),
        "syn_packets",
        "packets",
        Unsigned,
        FLAGS,
        "TCP segments with SYN",
        |record, way| Value::unsigned(record.flag(way, 1))
    );
    each_way!(
        table,
        ("bidirectional_", "src2dst_", "dst2src_"),
        "cwr_packets",
        "packets",
        Unsigned,
        FLAGS,
        "TCP segments with CWR",
        |record, way| Value::unsigned(record.flag(way, 7))
    );
    each_way!(
        table,
        ("bidirectional_", "src2dst_", "dst2src_"),
        "ece_packets",
        "packets",
        Unsigned,
        FLAGS,
        "TCP segments with ECE",
        |record, way| Value::unsigned(record.flag(way, 6))
    );
    each_way!(
        table,
        ("bidirectional_", "src2dst_", "dst2src_"),
        "urg_packets",
        "packets",
        Unsigned,
        FLAGS,
        "TCP segments with URG",
        |record, way| Value::unsigned(record.flag(way, 5))
    );
    each_way!(
        table,
        ("bidirectional_", "src2dst_", "dst2src_"),
        "ack_packets",
        "packets",
        Unsigned,
        FLAGS,
        "TCP segments with ACK",
        |record, way| Value::unsigned(record.flag(way, 4))
    );
    each_way!(
        table,
        ("bidirectional_", "src2dst_", "dst2src_"),
        "psh_packets",
        "packets",
        Unsigned,
        FLAGS,
        "TCP segments with PSH",
        |record, way| Value::unsigned(record.flag(way, 3))
    );
    each_way!(
        table,
        ("bidirectional_", "src2dst_", "dst2src_"),
        "rst_packets",
        "packets",
        Unsigned,
        FLAGS,
        "TCP segments with RST",
        |record, way| Value::unsigned(record.flag(way, 2))
    );
    each_way!(
        table,
        ("bidirectional_", "src2dst_", "dst2src_"),
        "fin_packets",
        "packets",
        Unsigned,
        FLAGS,
        "TCP segments with FIN",
        |record, way| Value::unsigned(record.flag(way, 0))
    );
}

fn first_packets(table: &mut Vec<Column>) {
    one!(
        table,
        "splt_direction",
        "",
        Numbers,
        FIRST_PACKETS,
        "Which way the first packets went: 0 from the initiator, 1 from the responder; not filled up",
        |record| { record.features.first(|packet| packet.direction().index() as u64) }
    );
    one!(
        table,
        "splt_ps",
        "octets",
        Numbers,
        FIRST_PACKETS,
        "Sizes of the first packets (the length that is accounted); not filled up",
        |record| { record.features.first(|packet| packet.size().into()) }
    );
    one!(
        table,
        "splt_piat_ms",
        "ms",
        Numbers,
        FIRST_PACKETS,
        "Whole milliseconds between the first packets, of either direction; 0 for the first; not filled up",
        |record| { record.features.first(|packet| packet.gap() / 1_000_000) }
    );
}

fn application(table: &mut Vec<Column>) {
    one!(
        table,
        "application_name",
        "",
        Text,
        DISSECTION,
        "What the flow speaks, and behind a dot the service it is for; Unknown if neither is known",
        |record| match record.application.and_then(|application| application.name()) {
            Some(name) => Value::Text(name),
            None => Value::text("Unknown"),
        }
    );
    one!(
        table,
        "application_category_name",
        "",
        Text,
        DISSECTION,
        "The category of the service, or of the protocol; Unspecified if there is none",
        |record| Value::text(category(record))
    );
    one!(
        table,
        "application_is_guessed",
        "",
        Unsigned,
        DISSECTION,
        "1 if a port or an address says it, and nothing in the packets; else 0",
        |record| Value::unsigned(
            record.application.map(|application| application.basis.is_guess().into())
        )
    );
    one!(
        table,
        "application_confidence",
        "",
        Unsigned,
        DISSECTION,
        "6 the packets say it, 5 the service follows from an answer of DNS before, 1 a guess, 0 unknown",
        |record| Value::unsigned(
            record.application.map(|application| Basis::confidence(application.basis))
        )
    );
    one!(
        table,
        "requested_server_name",
        "",
        Text,
        DISSECTION,
        "The host that the initiator wants, as it says: in TLS or QUIC, as Host of HTTP, or the name it asks DNS for",
        |record| text(record.server_name())
    );
    one!(
        table,
        "client_fingerprint",
        "",
        Text,
        DISSECTION,
        "JA3 of the client in TLS and QUIC, HASSH in SSH (ja4 is a column of its own in full)",
        |record| {
            let ja3 = record.client_hello().map(|hello| hello.ja3);
            digest(ja3.or_else(|| record.ssh()?.hassh))
        }
    );
    one!(table, "server_fingerprint", "", Text, DISSECTION, "The same of the server", |record| {
        let ja3s = record.server_hello().map(|hello| hello.ja3s);
        digest(ja3s.or_else(|| record.ssh()?.hassh_server))
    });
    one!(
        table,
        "user_agent",
        "",
        Text,
        DISSECTION,
        "What the client says it is, in HTTP or in Google's QUIC",
        |record| text(record.user_agent())
    );
    one!(
        table,
        "content_type",
        "",
        Text,
        DISSECTION,
        "Content-Type of the first answer of HTTP; without one, of the first request",
        |record| text(record.http().and_then(|http| http.content_type.as_ref()))
    );
}

fn category(record: &Record) -> &'static str {
    record.application.and_then(|application| application.category).unwrap_or("Unspecified")
}

/// What the first API said of applications, as far as it called it differently.
fn first_application(table: &mut Vec<Column>) {
    one!(
        table,
        "category_name",
        "",
        Text,
        DISSECTION,
        "The category (application_category_name)",
        |record| Value::text(category(record))
    );
    one!(
        table,
        "http_dns_server_name",
        "",
        Text,
        DISSECTION,
        "Host of HTTP, or the name that DNS is asked for",
        |record| {
            let host = record.http().and_then(|http| http.host.as_ref());
            text(host.or_else(|| Some(&record.dns()?.questions.first()?.name)))
        }
    );
    one!(
        table,
        "tls_client_server_name",
        "",
        Text,
        DISSECTION,
        "The host that the client of TLS wants",
        |record| text(record.client_hello().and_then(|hello| hello.server_name.as_ref()))
    );
    one!(
        table,
        "tls_server_server_name",
        "",
        Text,
        DISSECTION,
        "The common name in the server's certificate",
        |record| text(
            record.certificate().and_then(|certificate| certificate.common_name.as_ref())
        )
    );
    one!(
        table,
        "tls_server_organization",
        "",
        Text,
        DISSECTION,
        "The organisation in the server's certificate",
        |record| text(
            record.certificate().and_then(|certificate| certificate.organization.as_ref())
        )
    );
    one!(
        table,
        "tls_version",
        "",
        Text,
        DISSECTION,
        "The version of TLS that was chosen",
        |record| match record.server_hello() {
            Some(hello) => Value::Text(hello.version.name().to_string().into()),
            None => Value::Null,
        }
    );
    one!(
        table,
        "tls_not_before",
        "s since 1970",
        Signed,
        DISSECTION,
        "From when on the server's certificate holds",
        |record| seconds(record.certificate().map(|certificate| certificate.not_before))
    );
    one!(
        table,
        "tls_not_after",
        "s since 1970",
        Signed,
        DISSECTION,
        "Until when it holds",
        |record| seconds(record.certificate().map(|certificate| certificate.not_after))
    );
}

/// A flag's count from the initiator and from the responder.
macro_rules! pair {
    ($table:ident, $name:literal, $bit:literal) => {
        one!(
            $table,
            $name,
            "packets",
            Numbers,
            FLAGS,
            "TCP segments with this flag: from the initiator, from the responder",
            |record| {
                let of = |way| record.flag(way, $bit);
                match (of(Way::Forward), of(Way::Reverse)) {
                    (Some(forward), Some(reverse)) => Value::List(List::Pair([forward, reverse])),
                    _ => Value::Null,
                }
            }
        );
    };
}

fn first_api(table: &mut Vec<Column>) {
    one!(table, "ip_src", "", Text, NONE, "Address of the initiator (src_ip)", |record| {
        Value::Address(record.flow.source)
    });
    one!(table, "ip_dst", "", Text, NONE, "Address of the responder (dst_ip)", |record| {
        Value::Address(record.flow.destination)
    });
    one!(table, "ip_protocol", "", Unsigned, NONE, "Transport protocol (protocol)", |record| {
        Value::Unsigned(record.flow.protocol.0.into())
    });
    one!(
        table,
        "src_to_dst_pkts",
        "packets",
        Unsigned,
        NONE,
        "Packets from the initiator (src2dst_packets)",
        |record| Value::Unsigned(record.packets(Way::Forward))
    );
    one!(
        table,
        "dst_to_src_pkts",
        "packets",
        Unsigned,
        NONE,
        "Packets from the responder (dst2src_packets)",
        |record| Value::Unsigned(record.packets(Way::Reverse))
    );
    one!(
        table,
        "src_to_dst_bytes",
        "octets",
        Unsigned,
        NONE,
        "Octets from the initiator (src2dst_bytes)",
        |record| Value::Unsigned(record.octets(Way::Forward, record.accounting))
    );
    one!(
        table,
        "dst_to_src_bytes",
        "octets",
        Unsigned,
        NONE,
        "Octets from the responder (dst2src_bytes)",
        |record| Value::Unsigned(record.octets(Way::Reverse, record.accounting))
    );
    pair!(table, "syn_count", 1);
    pair!(table, "cwr_count", 7);
    pair!(table, "ece_count", 6);
    pair!(table, "urg_count", 5);
    pair!(table, "ack_count", 4);
    pair!(table, "psh_count", 3);
    pair!(table, "rst_count", 2);
    pair!(table, "fin_count", 0);
    one!(
        table,
        "start_time",
        "ms since 1970",
        Signed,
        NONE,
        "When the first packet was captured (bidirectional_first_seen_ms)",
        |record| millis(record.first(Way::Both))
    );
    one!(
        table,
        "end_time",
        "ms since 1970",
        Signed,
        NONE,
        "When the last packet was captured (bidirectional_last_seen_ms)",
        |record| millis(record.last(Way::Both))
    );
    one!(
        table,
        "export_reason",
        "",
        Unsigned,
        NONE,
        "0 inactive timeout, 1 active timeout, 2 termination (end of flow, end of input, no room)",
        |record| {
            match record.reason {
                EndReason::GoesOn => Value::Null,
                EndReason::IdleTimeout => Value::Unsigned(0),
                EndReason::ActiveTimeout => Value::Unsigned(1),
                _ => Value::Unsigned(2),
            }
        }
    );
}
