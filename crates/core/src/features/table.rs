//! The table of columns, in names of our own: snake_case, octets and nanoseconds, `forward` and `reverse`
//! (RFC 5103). Every column that there is for a record is in it; presets give some of them the names
//! and units that others know.

use std::sync::LazyLock;

use super::{
    Accounting, Activity, Bulk, Column, Kind, List, Needs, Shape, Summary, TcpSide, TcpState,
    Value, Way,
};
use crate::flow::{Direction, Record};
use crate::key::{Protocol, Timestamp};

/// All columns.
#[must_use]
pub fn columns() -> &'static [Column] {
    &TABLE
}

/// The column of this name.
#[must_use]
pub fn column(name: &str) -> Option<&'static Column> {
    TABLE.iter().find(|column| column.name == name)
}

static TABLE: LazyLock<Vec<Column>> = LazyLock::new(table);

fn table() -> Vec<Column> {
    let mut table = Vec::new();
    identity(&mut table);
    counters(&mut table);
    statistics(&mut table);
    tcp(&mut table);
    periods(&mut table);
    super::dissection::columns(&mut table);
    table.extend(process_columns());
    table
}

/// The columns of who was at each end.
#[must_use]
pub fn process_columns() -> Vec<Column> {
    let mut table = Vec::new();
    processes(&mut table);
    table
}

/// A column for the process at each end.
macro_rules! each_end {
    ($table:ident, $name:literal, $kind:ident, $definition:literal, |$holder:ident| $value:expr) => {
        one!(
            $table,
            concat!("source_", $name),
            "",
            $kind,
            NONE,
            concat!($definition, ", of the initiator"),
            |record| record.holders.as_deref().map_or(Value::Null, |[$holder, _]| $value)
        );
        one!(
            $table,
            concat!("destination_", $name),
            "",
            $kind,
            NONE,
            concat!($definition, ", of the responder"),
            |record| record.holders.as_deref().map_or(Value::Null, |[_, $holder]| $value)
        );
    };
}

fn processes(table: &mut Vec<Column>) {
    each_end!(
        table,
        "process",
        Text,
        "Command name of the process (of several, with | in between); empty if nobody is named",
        |holder| optional(holder.name.as_deref())
    );
    each_end!(
        table,
        "process_answer",
        Text,
        "known, kernel (no process), ambiguous (those named are candidates) or unknown",
        |holder| Value::text(holder.answer)
    );
    each_end!(
        table,
        "process_quality",
        Text,
        "How the process is known, or why it is not, in the words of docs/attribution.md",
        |holder| Value::text(&holder.why)
    );
    each_end!(table, "processes", Unsigned, "How many processes are named", |holder| {
        Value::Unsigned(holder.processes.into())
    });
    each_end!(table, "pid", Unsigned, "Id of the process; of several, the first", |holder| {
        Value::unsigned(holder.pids.first().map(|&pid| pid.into()))
    });
    each_end!(table, "executable", Text, "Path of the executable", |holder| {
        optional(holder.executable.as_deref())
    });
    each_end!(table, "user", Text, "User, by name where there is one", |holder| {
        optional(holder.user.as_deref())
    });
    each_end!(table, "unit", Text, "systemd unit", |holder| optional(holder.unit.as_deref()));
    each_end!(table, "container", Text, "Container's id", |holder| {
        optional(holder.container.as_deref())
    });
}

fn optional(text: Option<&str>) -> Value<'_> {
    text.map_or(Value::Null, Value::text)
}

fn identity(table: &mut Vec<Column>) {
    one!(table, "source_address", "", Text, NONE, "Address of the initiator", |record| {
        Value::Address(record.flow.source)
    });
    one!(
        table,
        "source_port",
        "",
        Unsigned,
        NONE,
        "Port of the initiator, 0 where there is none",
        |record| { Value::Unsigned(record.flow.source_port.into()) }
    );
    one!(table, "destination_address", "", Text, NONE, "Address of the responder", |record| {
        Value::Address(record.flow.destination)
    });
    one!(
        table,
        "destination_port",
        "",
        Unsigned,
        NONE,
        "Port of the responder, 0 where there is none",
        |record| { Value::Unsigned(record.flow.destination_port.into()) }
    );
    one!(table, "protocol", "", Unsigned, NONE, "Transport protocol, by IANA's number", |record| {
        Value::Unsigned(record.flow.protocol.0.into())
    });
    one!(table, "ip_version", "", Unsigned, NONE, "4 or 6", |record| {
        Value::Unsigned(record.flow.ip_version.into())
    });
    one!(
        table,
        "community_id",
        "",
        Text,
        NONE,
        "Community ID, version 1 with seed 0: the same for the same ports and addresses in other tools",
        |record| { Value::Text(super::community_id(&record.flow).into()) }
    );
    one!(table, "icmp_type", "", Unsigned, NONE, "Type of the first ICMP message", |record| {
        Value::unsigned(record.flow.icmp.map(|(icmp_type, _)| icmp_type.into()))
    });
    one!(table, "icmp_code", "", Unsigned, NONE, "Code of the first ICMP message", |record| {
        Value::unsigned(record.flow.icmp.map(|(_, code)| code.into()))
    });
    one!(
        table,
        "source_mac",
        "",
        Text,
        NONE,
        "Link address of the initiator's side, in the first frame",
        |record| { Value::Hex(&record.flow.link.source.0) }
    );
    one!(
        table,
        "destination_mac",
        "",
        Text,
        NONE,
        "Link address of the responder's side, in the first frame",
        |record| { Value::Hex(&record.flow.link.destination.0) }
    );
    one!(table, "vlan_id", "", Unsigned, NONE, "Outer VLAN identifier, 0 without", |record| {
        Value::Unsigned(record.flow.link.vlans[0].into())
    });
    one!(
        table,
        "inner_vlan_id",
        "",
        Unsigned,
        NONE,
        "Inner VLAN identifier, 0 without",
        |record| { Value::Unsigned(record.flow.link.vlans[1].into()) }
    );
    one!(
        table,
        "tunnel",
        "",
        Text,
        NONE,
        "What the packets were found in: ip-in-ip, gre, vxlan, geneve, gtp-u, teredo, or nothing",
        |record| { Value::text(record.flow.tunnel.name()) }
    );
    one!(
        table,
        "virtual_network",
        "",
        Unsigned,
        NONE,
        "Network identifier of VXLAN or Geneve, 0 without",
        |record| { Value::Unsigned(record.flow.virtual_network.into()) }
    );
    one!(
        table,
        "direction_source",
        "",
        Text,
        NONE,
        "How it is known who the initiator is: syn, syn-ack (the first packet accepts a connection), first-packet (its sender)",
        |record| { Value::text(record.flow.direction_source.name()) }
    );
    one!(
        table,
        "end_reason",
        "",
        Unsigned,
        NONE,
        "Why the flow ended, by IPFIX's numbers (flowEndReason): 1 idle timeout, 2 active timeout, 3 end of flow, 4 forced end, 5 lack of resources",
        |record| { Value::unsigned(record.reason.number()) }
    );
    one!(
        table,
        "close_style",
        "",
        Text,
        NONE,
        "How a TCP connection ended: open, half-closed, fin-initiator, fin-responder, rst-initiator, rst-responder",
        |record| {
            if record.flow.protocol == Protocol::TCP {
                Value::text(record.flow.closing.style().name())
            } else {
                Value::Null
            }
        }
    );
    one!(
        table,
        "handshake",
        "",
        Text,
        NONE,
        "What of the opening of a TCP connection was seen: full, half, none (the capture began in its middle)",
        |record| {
            let closing = &record.flow.closing;
            match (
                record.flow.protocol == Protocol::TCP,
                closing.saw_both_open(),
                closing.saw_opening(),
            ) {
                (false, ..) => Value::Null,
                (_, true, _) => Value::text("full"),
                (_, _, true) => Value::text("half"),
                _ => Value::text("none"),
            }
        }
    );
    one!(table, "fragments", "packets", Unsigned, NONE, "Fragments among the packets", |record| {
        Value::Unsigned(record.flow.fragments.into())
    });
    one!(
        table,
        "truncated",
        "packets",
        Unsigned,
        NONE,
        "Packets that were captured in part; their lengths are those of their headers",
        |record| { Value::Unsigned(record.flow.truncated.into()) }
    );
}

fn counters(table: &mut Vec<Column>) {
    each_way!(
        table,
        "first_seen_ns",
        "ns since 1970",
        Signed,
        NONE,
        "When the first packet was captured",
        |record, way| time(record.first(way))
    );
    each_way!(
        table,
        "last_seen_ns",
        "ns since 1970",
        Signed,
        NONE,
        "When the last packet was captured",
        |record, way| time(record.last(way))
    );
    each_way!(
        table,
        "duration_ns",
        "ns",
        Unsigned,
        NONE,
        "From the first packet to the last",
        |record, way| Value::unsigned(record.duration(way))
    );
    each_way!(table, "packets", "packets", Unsigned, NONE, "Packets", |record, way| {
        Value::Unsigned(record.packets(way))
    });
    each_way!(
        table,
        "wire_octets",
        "octets",
        Unsigned,
        NONE,
        "Frames, with the link layer's header and padding",
        |record, way| Value::Unsigned(record.octets(way, Accounting::Wire))
    );
    each_way!(
        table,
        "ip_octets",
        "octets",
        Unsigned,
        NONE,
        "IP packets, by their headers",
        |record, way| Value::Unsigned(record.octets(way, Accounting::Ip))
    );
    each_way!(
        table,
        "transport_octets",
        "octets",
        Unsigned,
        NONE,
        "Transport headers and payload, by the headers",
        |record, way| Value::Unsigned(record.octets(way, Accounting::Transport))
    );
    each_way!(
        table,
        "payload_octets",
        "octets",
        Unsigned,
        NONE,
        "Payload of the transport, by the headers",
        |record, way| Value::Unsigned(record.octets(way, Accounting::Payload))
    );
    each_way!(
        table,
        "packets_per_second",
        "packets/s",
        Float,
        NONE,
        "Packets by the flow's whole duration; none if that is zero",
        |record, way| Value::float(record.rate(record.packets(way)))
    );
    each_way!(
        table,
        "ip_octets_per_second",
        "octets/s",
        Float,
        NONE,
        "Octets of IP packets by the flow's whole duration; none if that is zero",
        |record, way| Value::float(record.rate(record.octets(way, Accounting::Ip)))
    );
}

fn statistics(table: &mut Vec<Column>) {
    each_way!(
        table,
        "min_size",
        "octets",
        Unsigned,
        SIZES,
        "Least size of a packet (the length that is accounted)",
        |record, way| Value::unsigned(record.sizes(way).and_then(|(sizes, n)| sizes.least(n)))
    );
    each_way!(
        table,
        "mean_size",
        "octets",
        Float,
        SIZES,
        "Mean size of the packets",
        |record, way| Value::float(record.sizes(way).and_then(|(sizes, n)| sizes.mean(n)))
    );
    each_way!(
        table,
        "stddev_size",
        "octets",
        Float,
        SIZES,
        "Sample standard deviation (n - 1) of the sizes; none of fewer than two",
        |record, way| Value::float(record.sizes(way).and_then(|(sizes, n)| sizes.deviation(n)))
    );
    each_way!(
        table,
        "max_size",
        "octets",
        Unsigned,
        SIZES,
        "Greatest size of a packet",
        |record, way| Value::unsigned(record.sizes(way).and_then(|(sizes, n)| sizes.most(n)))
    );
    each_way!(
        table,
        "min_iat_ns",
        "ns",
        Unsigned,
        GAPS,
        "Least time between two packets that follow one another",
        |record, way| Value::unsigned(record.gaps(way).and_then(|(gaps, n)| gaps.least(n)))
    );
    each_way!(
        table,
        "mean_iat_ns",
        "ns",
        Float,
        GAPS,
        "Mean time between packets",
        |record, way| Value::float(record.gaps(way).and_then(|(gaps, n)| gaps.mean(n)))
    );
    each_way!(
        table,
        "stddev_iat_ns",
        "ns",
        Float,
        GAPS,
        "Sample standard deviation (n - 1) of the times between packets; none of fewer than two",
        |record, way| Value::float(record.gaps(way).and_then(|(gaps, n)| gaps.deviation(n)))
    );
    each_way!(
        table,
        "max_iat_ns",
        "ns",
        Unsigned,
        GAPS,
        "Greatest time between two packets that follow one another",
        |record, way| Value::unsigned(record.gaps(way).and_then(|(gaps, n)| gaps.most(n)))
    );

    each_direction!(
        table,
        "skewness_size",
        "1",
        Float,
        MOMENTS,
        "Population skewness (g1) of the sizes; none of fewer than two or if all are equal",
        |record, way| shape(record, way, false, Shape::skewness)
    );
    each_direction!(
        table,
        "kurtosis_size",
        "1",
        Float,
        MOMENTS,
        "Population excess kurtosis (g2) of the sizes; none of fewer than two or if all are equal",
        |record, way| shape(record, way, false, Shape::kurtosis)
    );
    each_direction!(
        table,
        "skewness_iat",
        "1",
        Float,
        MOMENTS,
        "Population skewness (g1) of the times between packets; none of fewer than two or if all are equal",
        |record, way| shape(record, way, true, Shape::skewness)
    );
    each_direction!(
        table,
        "kurtosis_iat",
        "1",
        Float,
        MOMENTS,
        "Population excess kurtosis (g2) of the times between packets; none of fewer than two or if all are equal",
        |record, way| shape(record, way, true, Shape::kurtosis)
    );

    each_direction!(
        table,
        "size_histogram",
        "packets",
        Numbers,
        HISTOGRAMS,
        "Packets of up to 64, 127, 255, 511, 1023, 1518, 9018 octets (the length that is accounted), and of more",
        |record, way| histogram(record, way, false)
    );
    each_direction!(
        table,
        "iat_histogram",
        "packets",
        Numbers,
        HISTOGRAMS,
        "Packets less than 10 us, 100 us, 1 ms, 10 ms, 100 ms, 1 s, 10 s after the one before, and later",
        |record, way| histogram(record, way, true)
    );

    one!(
        table,
        "first_directions",
        "",
        Numbers,
        FIRST_PACKETS,
        "Which way the first packets went: 0 from the initiator, 1 from the responder",
        |record| { record.features.first(|packet| packet.direction().index() as u64) }
    );
    one!(
        table,
        "first_sizes",
        "octets",
        Numbers,
        FIRST_PACKETS,
        "Sizes of the first packets (the length that is accounted)",
        |record| { record.features.first(|packet| packet.size().into()) }
    );
    one!(
        table,
        "first_iats_ns",
        "ns",
        Numbers,
        FIRST_PACKETS,
        "Times between the first packets, of either direction; 0 for the first",
        |record| { record.features.first(super::FirstPacket::gap) }
    );
}

/// A column of a flag for each way.
macro_rules! flag {
    ($table:ident, $name:literal, $bit:literal) => {
        each_way!(
            $table,
            $name,
            "packets",
            Unsigned,
            FLAGS,
            "TCP segments with this flag",
            |record, way| Value::unsigned(record.flag(way, $bit))
        )
    };
}

fn tcp(table: &mut Vec<Column>) {
    flag!(table, "fin_packets", 0);
    flag!(table, "syn_packets", 1);
    flag!(table, "rst_packets", 2);
    flag!(table, "psh_packets", 3);
    flag!(table, "ack_packets", 4);
    flag!(table, "urg_packets", 5);
    flag!(table, "ece_packets", 6);
    flag!(table, "cwr_packets", 7);
    each_direction!(
        table,
        "syn_without_ack_packets",
        "packets",
        Unsigned,
        FLAGS,
        "TCP segments with SYN and without ACK",
        |record, way| opening(record, way)
    );
    one!(
        table,
        "handshake_rtt_ns",
        "ns",
        Unsigned,
        TCP,
        "From SYN to the acknowledgment of its answer: a round trip between both ends, as seen here",
        |record| state(record, TcpState::handshake_round_trip)
    );
    one!(
        table,
        "responder_rtt_ns",
        "ns",
        Unsigned,
        TCP,
        "From SYN to its answer: from the place of capture to the responder and back",
        |record| state(record, TcpState::responder_round_trip)
    );
    one!(
        table,
        "initiator_rtt_ns",
        "ns",
        Unsigned,
        TCP,
        "From the answer to SYN to its acknowledgment: from the place of capture to the initiator and back",
        |record| state(record, TcpState::initiator_round_trip)
    );
    each_direction!(
        table,
        "retransmitted_packets",
        "packets",
        Unsigned,
        TCP,
        "TCP segments whose octets, SYN or FIN were all seen before",
        |record, way| side(record, way, |side| side.retransmitted.into())
    );
    each_direction!(
        table,
        "retransmitted_octets",
        "octets",
        Unsigned,
        TCP,
        "Payload in these",
        |record, way| side(record, way, |side| side.retransmitted_octets.into())
    );
    each_direction!(
        table,
        "ahead_packets",
        "packets",
        Unsigned,
        TCP,
        "TCP segments in front of which something is missing: lost, late, or not captured",
        |record, way| side(record, way, |side| side.ahead.into())
    );
    each_direction!(
        table,
        "first_window",
        "octets, not scaled",
        Unsigned,
        TCP,
        "Window in the first TCP segment's header",
        |record, way| side(record, way, |side| side.first_window.into())
    );
    each_direction!(
        table,
        "min_window",
        "octets, not scaled",
        Unsigned,
        TCP,
        "Least window in a TCP header that is none of SYN or RST; 65535 without such a segment",
        |record, way| side(record, way, |side| side.least_window.into())
    );
    each_direction!(
        table,
        "max_window",
        "octets, not scaled",
        Unsigned,
        TCP,
        "Greatest window in a TCP header that is none of SYN or RST",
        |record, way| side(record, way, |side| side.most_window.into())
    );
    each_direction!(
        table,
        "zero_windows",
        "packets",
        Unsigned,
        TCP,
        "TCP segments that closed the window",
        |record, way| side(record, way, |side| side.zero_windows.into())
    );
    each_direction!(
        table,
        "packets_with_payload",
        "packets",
        Unsigned,
        TCP,
        "Packets with at least one octet of transport payload",
        |record, way| any_side(record, way, |side| side.with_payload.into())
    );
    each_direction!(
        table,
        "min_transport_header",
        "octets",
        Unsigned,
        TCP,
        "Shortest transport header; 0 without packets",
        |record, way| any_side(record, way, |side| side.least_header.into())
    );
}

/// The direction that a way stands for, where it is none of both.
pub(crate) fn direction(way: Way) -> Direction {
    match way {
        Way::Reverse => Direction::Reverse,
        Way::Forward | Way::Both => Direction::Forward,
    }
}

fn periods(table: &mut Vec<Column>) {
    one!(
        table,
        "busy_periods",
        "",
        Unsigned,
        ACTIVITY,
        "Periods in which no packet came more than 5 s after the one before",
        |record| {
            Value::unsigned(
                record.features.activity.as_ref().map(|activity| u64::from(activity.quiets) + 1),
            )
        }
    );
    one!(table, "mean_busy_ns", "ns", Float, ACTIVITY, "Mean length of these periods", |record| {
        busy(record, Summary::mean)
    });
    one!(
        table,
        "stddev_busy_ns",
        "ns",
        Float,
        ACTIVITY,
        "Sample standard deviation of these lengths; none of fewer than two",
        |record| busy(record, Summary::deviation)
    );
    one!(
        table,
        "mean_quiet_ns",
        "ns",
        Float,
        ACTIVITY,
        "Mean length of the times in between",
        |record| quiet(record, Summary::mean)
    );
    one!(
        table,
        "stddev_quiet_ns",
        "ns",
        Float,
        ACTIVITY,
        "Sample standard deviation of these lengths; none of fewer than two",
        |record| quiet(record, Summary::deviation)
    );
    one!(
        table,
        "subflows",
        "",
        Unsigned,
        ACTIVITY,
        "Periods in which no packet came more than 1 s after the one before",
        |record| { Value::unsigned(record.features.activity.as_ref().map(Activity::subflows)) }
    );
    each_direction!(
        table,
        "bulk_transfers",
        "",
        Unsigned,
        BULKS,
        "Bulk transfers: at least 4 packets with payload one way, each at most 1 s after the one before, and no payload the other way",
        |record, way| bulk(record, way, |bulk| bulk.transfers.into())
    );
    each_direction!(
        table,
        "bulk_packets",
        "packets",
        Unsigned,
        BULKS,
        "Packets in bulk transfers",
        |record, way| bulk(record, way, |bulk| bulk.packets.into())
    );
    each_direction!(
        table,
        "bulk_octets",
        "octets",
        Unsigned,
        BULKS,
        "Payload in bulk transfers",
        |record, way| bulk(record, way, |bulk| bulk.octets)
    );
    each_direction!(
        table,
        "bulk_duration_ns",
        "ns",
        Unsigned,
        BULKS,
        "How long bulk transfers took together",
        |record, way| bulk(record, way, |bulk| bulk.duration)
    );
}

// What the columns above ask of a record; the lifetimes are those of the values.

fn time(time: Option<Timestamp>) -> Value<'static> {
    time.map_or(Value::Null, |time| Value::Signed(time.0))
}

pub(crate) fn shape(
    record: &Record,
    way: Way,
    of_gaps: bool,
    what: fn(&Shape, &Summary, u64) -> Option<f64>,
) -> Value<'static> {
    let Some(moments) = &record.features.moments else { return Value::Null };
    let shapes = if of_gaps { &moments.gaps } else { &moments.sizes };
    let all = if of_gaps { record.gaps(way) } else { record.sizes(way) };
    Value::float(all.and_then(|(all, count)| what(shapes.of(direction(way)), &all, count)))
}

fn histogram(record: &Record, way: Way, of_gaps: bool) -> Value<'_> {
    let Some(histograms) = &record.features.histograms else { return Value::Null };
    let both = if of_gaps { &histograms.gaps } else { &histograms.sizes };
    Value::List(List::Counts(both.of(direction(way))))
}

fn opening(record: &Record, way: Way) -> Value<'static> {
    let opening = record.features.flags.as_ref().map(|flags| &flags.opening);
    Value::unsigned(opening.map(|opening| u64::from(*opening.of(direction(way)))))
}

fn state(record: &Record, what: fn(&TcpState) -> Option<u64>) -> Value<'static> {
    Value::unsigned(record.features.tcp.as_ref().and_then(what))
}

/// Of one side of a TCP connection of which packets were seen.
pub(crate) fn side(record: &Record, way: Way, what: fn(&TcpSide) -> u64) -> Value<'static> {
    let seen = record.flow.protocol == Protocol::TCP && record.packets(way) > 0;
    if seen { any_side(record, way, what) } else { Value::Null }
}

pub(crate) fn any_side(record: &Record, way: Way, what: fn(&TcpSide) -> u64) -> Value<'static> {
    let tcp = record.features.tcp.as_ref();
    Value::unsigned(tcp.map(|tcp| what(tcp.sides.of(direction(way)))))
}

fn busy(record: &Record, what: fn(&Summary, u64) -> Option<f64>) -> Value<'static> {
    let activity = record.features.activity.as_ref();
    let busy = activity.map(|activity| activity.busy(&record.flow));
    Value::float(busy.and_then(|(summary, count)| what(&summary, count)))
}

fn quiet(record: &Record, what: fn(&Summary, u64) -> Option<f64>) -> Value<'static> {
    let activity = record.features.activity.as_ref();
    Value::float(activity.map(Activity::quiet).and_then(|(quiet, count)| what(&quiet, count)))
}

fn bulk(record: &Record, way: Way, what: fn(&Bulk) -> u64) -> Value<'static> {
    let bulks = record.features.bulks.as_ref();
    Value::unsigned(bulks.map(|bulks| what(bulks.done().of(direction(way)))))
}
