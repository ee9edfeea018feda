//! What plugins are shown, in which order, what they may end, and what becomes of what they say.

mod frames;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use frames::{fragment, ipv4, tcp, udp};
use procflow_core::Timestamp;
use procflow_core::features::{Kind, Needs, Way, column};
use procflow_core::flow::{
    AsTheyAre, Direction, EndReason, Filled, Record, Settings, Tally, meter_with,
};
use procflow_core::packet::{Batch, Decoder, LinkType};
use procflow_core::plugin::{
    OwnedValue, Plugin, PluginColumn, PluginError, Plugins, Shown, Values, Verdict, metric,
};
use procflow_core::rows::{Format, Rows, header};

const SECOND: i64 = 1_000_000_000;

/// Meters raw IP packets with their times, by so many threads, so many packets at a time.
fn meter(
    plugins: &Plugins,
    settings: Settings,
    packets: &[(i64, Vec<u8>)],
    (threads, at_once): (usize, usize),
) -> (Vec<Record>, Tally) {
    let mut batches = packets.chunks(at_once);
    let source = |batch: &mut Batch| {
        batch.clear();
        let Some(packets) = batches.next() else { return Filled::Last };
        for (time, bytes) in packets {
            batch.push(Timestamp(*time), bytes.len() as u32, LinkType::RAW, bytes);
        }
        Filled::More(None)
    };
    let mut records = Vec::new();
    let take = |made: &Vec<Record>, index: usize| records.push(made[index].clone());
    let decoder = Decoder::default();
    let tally = meter_with(plugins, decoder, settings, threads, source, &AsTheyAre, take);
    assert!(tally.is_conserved(), "{tally:?}");
    let counted: u64 = records.iter().map(|record| record.packets(Way::Both)).sum();
    assert_eq!((counted, records.len() as u64), (tally.flows.packets, tally.records));
    (records, tally)
}

fn only(plugin: impl Plugin) -> Plugins {
    let mut plugins = Plugins::default();
    plugins.add(plugin).unwrap();
    plugins
}

fn datagram(time: i64, from: u8, to: u8, ports: (u16, u16), payload: &[u8]) -> (i64, Vec<u8>) {
    (time, ipv4(from, to, 17, &udp(ports.0, ports.1, payload)))
}

/// The rows of some columns, with the names in front.
fn csv(plugins: &Plugins, columns: &[&str], records: &[Record]) -> String {
    text(Format::Csv, plugins, columns, records)
}

fn text(format: Format, plugins: &Plugins, columns: &[&str], records: &[Record]) -> String {
    let mut columns: Vec<_> = columns.iter().map(|name| *column(name).unwrap()).collect();
    columns.extend(plugins.columns());
    let mut out = Vec::new();
    header(format, &columns, &mut out);
    let mut rows = Rows::default();
    for (index, record) in records.iter().enumerate() {
        rows.add(format, &columns, record);
        rows.copy(index, index as u64, &mut out);
    }
    String::from_utf8(out).unwrap().replace("\r\n", "\n")
}

/// Writes down what it is called for.
#[derive(Clone)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn write(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
}

fn way(shown: &Shown<'_>) -> char {
    if shown.direction() == Direction::Forward { '>' } else { '<' }
}

impl Plugin for Diary {
    type State = u32;

    fn columns(&self) -> Vec<PluginColumn> {
        Vec::new()
    }

    fn begin(&mut self, shown: &Shown<'_>) -> u32 {
        self.write(format!("begin {}", shown.flow.source_port));
        0
    }

    fn update(&mut self, seen: &mut u32, shown: &Shown<'_>) -> Verdict {
        *seen += 1;
        let Shown { flow, step, .. } = shown;
        let counted = flow.packets();
        self.write(format!("{} {} {seen} {counted} {}", flow.source_port, way(shown), step.size));
        Verdict::GoOn
    }

    fn end(&mut self, seen: u32, record: &Record, _: &mut Values<'_>) {
        self.write(format!("end {} {seen} {:?}", record.flow.source_port, record.reason));
    }

    fn exit(shards: Vec<Self>) {
        shards[0].write(format!("exit of {}", shards.len()));
    }
}

#[test]
fn a_plugin_is_called_for_begin_packets_end_and_exit_in_order() {
    let diary = Diary(Arc::default());
    let packets = [
        datagram(0, 1, 2, (7, 8), b"abc"),
        datagram(1, 2, 1, (8, 7), b""),
        datagram(2, 1, 2, (9, 8), b""),
        datagram(3, 1, 2, (7, 8), b""),
        // The first two are due by then; the third begins again.
        datagram(120 * SECOND + 3, 1, 2, (7, 8), b"abcd"),
    ];
    let settings = Settings { capacity: 2 * 4096, ..Settings::default() };
    meter(&only(diary.clone()), settings, &packets, (1, 2));
    let expected = [
        "begin 7",
        "7 > 1 1 31",
        "7 < 2 2 28",
        "begin 9",
        "9 > 1 1 28",
        "7 > 3 3 28",
        "end 9 1 IdleTimeout",
        "end 7 3 IdleTimeout",
        "begin 7",
        "7 > 1 1 32",
        "end 7 1 Forced",
        "exit of 2",
    ];
    assert_eq!(*diary.0.lock().unwrap(), expected);
}

#[test]
fn what_goes_on_beyond_the_active_timeout_begins_anew_for_a_plugin() {
    let diary = Diary(Arc::default());
    let packets = [
        datagram(0, 1, 2, (7, 8), b""),
        datagram(2 * SECOND, 2, 1, (8, 7), b""),
        // Silent after the timeout: told of once only.
        datagram(500 * SECOND, 3, 4, (9, 9), b""),
    ];
    let settings = Settings { active: SECOND, ..Settings::default() };
    meter(&only(diary.clone()), settings, &packets, (1, 100));
    let expected = [
        "begin 7",
        "7 > 1 1 28",
        "end 7 1 ActiveTimeout",
        "begin 7",
        "7 < 1 1 28",
        "end 7 1 ActiveTimeout",
        "begin 9",
        "9 > 1 1 28",
        "end 9 1 Forced",
        "exit of 16",
    ];
    assert_eq!(*diary.0.lock().unwrap(), expected);
}

/// Ends a flow after so many packets; counts how many it has ended, in its shard.
#[derive(Clone)]
struct Slices {
    packets: u64,
    ended: u64,
    all: Arc<AtomicUsize>,
}

impl Slices {
    fn of(packets: u64) -> Self {
        Self { packets, ended: 0, all: Arc::default() }
    }
}

impl Plugin for Slices {
    type State = ();

    fn columns(&self) -> Vec<PluginColumn> {
        let column = PluginColumn {
            name: "ended_before",
            unit: "flows",
            definition: "Flows that were sliced in this shard before",
            kind: Kind::Unsigned,
        };
        vec![column]
    }

    fn begin(&mut self, _: &Shown<'_>) {}

    fn update(&mut self, (): &mut (), shown: &Shown<'_>) -> Verdict {
        if shown.flow.packets() < self.packets {
            return Verdict::GoOn;
        }
        Verdict::Export(format!("{} packets", self.packets).into())
    }

    fn end(&mut self, (): (), record: &Record, values: &mut Values<'_>) {
        values.push(self.ended);
        self.ended += u64::from(record.packets(Way::Both) == self.packets);
    }

    fn exit(shards: Vec<Self>) {
        let ended: u64 = shards.iter().map(|shard| shard.ended).sum();
        shards[0].all.fetch_add(ended as usize, Ordering::Relaxed);
    }
}

#[test]
fn a_flow_that_a_plugin_ends_begins_anew_from_the_same_initiator() {
    let packets: Vec<_> = (0..5)
        .map(|i| match i {
            2 | 3 => datagram(i, 2, 1, (8, 7), b""),
            _ => datagram(i, 1, 2, (7, 8), b""),
        })
        .collect();
    let plugins = only(Slices::of(2));
    let (records, tally) = meter(&plugins, Settings::default(), &packets, (1, 100));
    let columns =
        ["source_port", "destination_port", "end_reason", "forward_packets", "reverse_packets"];
    let expected = "\
source_port,destination_port,end_reason,forward_packets,reverse_packets,ended_before,forced_reason
7,8,4,2,0,0,2 packets
7,8,4,0,2,1,2 packets
7,8,4,1,0,2,
";
    assert_eq!(csv(&plugins, &columns, &records), expected);
    let times: Vec<_> = records.iter().map(|record| record.ended.0).collect();
    assert_eq!((times, tally.flows.flows), (vec![1, 3, 4], 1));
}

#[test]
fn a_connection_that_is_over_and_was_ended_by_a_plugin_leaves_nothing_behind() {
    let segment = |time, forth: bool, flags, numbers| match forth {
        true => (time, ipv4(1, 2, 6, &tcp(7, 8, flags, numbers, b""))),
        false => (time, ipv4(2, 1, 6, &tcp(8, 7, flags, numbers, b""))),
    };
    // SYN, SYN+ACK, RST; four packets later another connection of the same ports.
    let mut packets = vec![
        segment(0, true, 2, (10, 0)),
        segment(1, false, 0x12, (20, 11)),
        segment(2, true, 4, (11, 0)),
    ];
    let whole = |records: &[Record]| -> Vec<(u64, EndReason)> {
        records.iter().map(|record| (record.packets(Way::Both), record.reason)).collect()
    };
    let plugins = only(Slices::of(3));
    let run = |packets: &[_]| whole(&meter(&plugins, Settings::default(), packets, (1, 100)).0);
    assert_eq!(run(&packets), [(3, EndReason::Forced)]);
    // What lingers is a record of its own, and a new connection is a new flow.
    packets.push(segment(3, false, 4, (21, 0)));
    packets.push(segment(SECOND, true, 2, (99, 0)));
    let expected = [(3, EndReason::Forced), (1, EndReason::EndOfFlow), (1, EndReason::Forced)];
    assert_eq!(run(&packets), expected);
}

/// Some thousand datagrams of some hundred conversations.
fn crowd() -> Vec<(i64, Vec<u8>)> {
    let mut random = 88_172_645_463_325_252_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    (0..6000)
        .map(|i| {
            let draw = next();
            let (from, to) = ((draw % 12) as u8, (draw >> 8) as u8 % 12);
            let ports = ((draw >> 16) as u16 % 3, (draw >> 24) as u16 % 3);
            datagram(i * SECOND / 50, from, to, ports, &draw.to_be_bytes())
        })
        .collect()
}

#[test]
fn plugins_say_the_same_at_any_number_of_threads() {
    let packets = crowd();
    let run = |threads| {
        let slices = Slices::of(7);
        let mut plugins = only(slices.clone());
        plugins
            .add(metric("octets", |sum, packet, _, _| sum + f64::from(packet.lengths.payload)))
            .unwrap();
        let settings = Settings { idle: 20 * SECOND, ..Settings::default() };
        let (records, tally) = meter(&plugins, settings, &packets, (threads, 64));
        let columns = ["source_address", "bidirectional_first_seen_ns", "end_reason"];
        (csv(&plugins, &columns, &records), tally, slices.all.load(Ordering::Relaxed))
    };
    let (rows, tally, sliced) = run(1);
    assert_eq!(rows.matches("7 packets").count(), sliced);
    assert!(sliced > 100 && tally.records > sliced as u64, "{sliced} {tally:?}");
    assert_eq!(run(3), (rows, tally, sliced));
}

/// Counts how many of its states there are.
#[derive(Clone, Default)]
struct Living {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

struct Life(Arc<AtomicUsize>);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Plugin for Living {
    type State = Life;

    fn columns(&self) -> Vec<PluginColumn> {
        Vec::new()
    }

    fn begin(&mut self, _: &Shown<'_>) -> Life {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        Life(Arc::clone(&self.now))
    }

    fn update(&mut self, _: &mut Life, shown: &Shown<'_>) -> Verdict {
        match shown.flow.source_port % 5 {
            0 => Verdict::Export("a fifth".into()),
            _ => Verdict::GoOn,
        }
    }

    fn end(&mut self, _: Life, _: &Record, _: &mut Values<'_>) {}
}

#[test]
fn there_is_a_state_for_each_flow_held_and_none_for_others() {
    let living = Living::default();
    let settings = Settings { capacity: 100, ..Settings::default() };
    let packets: Vec<_> = (0..20_000)
        .map(|i| datagram(i, (i / 256) as u8, 2, ((i % 60_000) as u16, 7), b""))
        .collect();
    let (records, _) = meter(&only(living.clone()), settings, &packets, (1, 512));
    assert_eq!(records.len(), 20_000);
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    // A fifth of the flows that are known were ended, and wait without a state for more.
    assert_eq!((count(&living.now), count(&living.most)), (0, 81));
}

/// Says what is not to be said: too much, too little, of another kind.
#[derive(Clone)]
struct Liar;

impl Plugin for Liar {
    type State = ();

    fn columns(&self) -> Vec<PluginColumn> {
        let column = |name, kind| PluginColumn { name, unit: "", definition: "A lie", kind };
        vec![
            column("whole", Kind::Unsigned),
            column("broken", Kind::Float),
            column("words", Kind::Text),
            column("list", Kind::Numbers),
            column("missing", Kind::Boolean),
        ]
    }

    fn needs(&self) -> Needs {
        Needs::FLAGS
    }

    fn begin(&mut self, _: &Shown<'_>) {}

    fn update(&mut self, (): &mut (), _: &Shown<'_>) -> Verdict {
        Verdict::GoOn
    }

    fn end(&mut self, (): (), record: &Record, values: &mut Values<'_>) {
        // What it needs was measured, though no column asks.
        assert!(record.features.flags.is_some() && record.features.gaps.is_none());
        match record.flow.source_port {
            1 => {
                values.push(-1_i64);
                values.push(f64::NAN);
                values.push("a,\"b\"");
                values.push(vec![1, 2]);
            }
            2 => {
                values.push(Some(5_u64));
                values.push(0.5);
                values.push(None::<String>);
                values.push(Vec::new());
                values.push(true);
                values.push("beyond the last column");
            }
            _ => values.push(OwnedValue::Null),
        }
    }
}

#[test]
fn what_has_no_place_in_a_column_is_not_said() {
    let packets: Vec<_> = (1..=3).map(|port| datagram(port.into(), 1, 2, (port, 9), b"")).collect();
    let mut plugins = only(Liar);
    plugins.add(metric("behind", |value, _, _, _| value + 1.0)).unwrap();
    let (records, _) = meter(&plugins, Settings::default(), &packets, (1, 100));
    let expected = "\
source_port,whole,broken,words,list,missing,behind,forced_reason
1,,,\"a,\"\"b\"\"\",\"[1,2]\",,1,
2,5,0.5,,[],true,1,
3,,,,,,1,
";
    assert_eq!(csv(&plugins, &["source_port"], &records), expected);
    let in_json = text(Format::JsonLines, &plugins, &[], &records[..1]);
    let expected = r#"{"whole":null,"broken":null,"words":"a,\"b\"","list":[1,2],"missing":null,"behind":1,"forced_reason":null}"#;
    assert_eq!(in_json.trim_end(), expected);
    // Records that were made without plugins say nothing.
    let (records, _) = meter(&Plugins::default(), Settings::default(), &packets, (1, 100));
    assert!(csv(&plugins, &["source_port"], &records).ends_with("\n3,,,,,,,\n"));
}

/// Tells the octets of payload that it is shown.
#[derive(Clone)]
struct Octets {
    name: &'static str,
    most: u16,
}

impl Plugin for Octets {
    type State = Vec<u32>;

    fn columns(&self) -> Vec<PluginColumn> {
        let kind = Kind::Numbers;
        vec![PluginColumn { name: self.name, unit: "", definition: "Octets of payload", kind }]
    }

    fn payload(&self) -> u16 {
        self.most
    }

    fn begin(&mut self, _: &Shown<'_>) -> Vec<u32> {
        Vec::new()
    }

    fn update(&mut self, octets: &mut Vec<u32>, shown: &Shown<'_>) -> Verdict {
        octets.extend(shown.payload.iter().map(|&octet| u32::from(octet)));
        Verdict::GoOn
    }

    fn end(&mut self, octets: Vec<u32>, _: &Record, values: &mut Values<'_>) {
        values.push(octets);
    }
}

#[test]
fn a_plugin_is_shown_as_much_of_a_payload_as_it_asks_for() {
    let mut plugins = Plugins::default();
    for (name, most) in [("none", 0), ("two", 2), ("four", 4)] {
        plugins.add(Octets { name, most }).unwrap();
    }
    let whole = udp(7, 8, &[9; 24]);
    let mut cut = datagram(7, 5, 6, (3, 4), &[1, 2, 3, 4, 5]);
    cut.1.truncate(20 + 8 + 1);
    let packets = [
        datagram(0, 1, 2, (1, 2), &[1, 2, 3, 4, 5]),
        datagram(1, 2, 1, (2, 1), &[6]),
        datagram(2, 1, 2, (1, 2), &[]),
        // A later fragment that comes first has no payload when its turn comes.
        (3, fragment(3, 4, 17, (9, 16, false), &whole[16..])),
        datagram(4, 1, 2, (1, 2), &[7, 8, 9]),
        (5, fragment(3, 4, 17, (9, 0, true), &whole[..16])),
        cut,
    ];
    for at_once in [1, 100] {
        let (records, _) = meter(&plugins, Settings::default(), &packets, (1, at_once));
        let expected = "\
source_port,none,two,four,forced_reason
1,[],\"[1,2,6,7,8]\",\"[1,2,3,4,6,7,8,9]\",
7,[],\"[9,9]\",\"[9,9,9,9]\",
3,[],[1],[1],
";
        assert_eq!(csv(&plugins, &["source_port"], &records), expected, "{at_once}");
    }
}

#[test]
fn all_plugins_are_shown_the_packet_for_which_one_ends_the_flow() {
    #[derive(Clone)]
    struct Wants(u64, &'static str);
    impl Plugin for Wants {
        type State = ();
        fn columns(&self) -> Vec<PluginColumn> {
            Vec::new()
        }
        fn begin(&mut self, _: &Shown<'_>) {}
        fn update(&mut self, (): &mut (), shown: &Shown<'_>) -> Verdict {
            if shown.flow.packets() == self.0 {
                return Verdict::Export(self.1.into());
            }
            Verdict::GoOn
        }
        fn end(&mut self, (): (), _: &Record, _: &mut Values<'_>) {}
    }
    let mut plugins = only(Wants(2, "first"));
    plugins.add(Wants(2, "second")).unwrap();
    plugins.add(metric("shown", |value, _, _, _| value + 1.0)).unwrap();
    let packets: Vec<_> = (0..3).map(|time| datagram(time, 1, 2, (1, 2), b"")).collect();
    let (records, _) = meter(&plugins, Settings::default(), &packets, (1, 100));
    assert_eq!(csv(&plugins, &[], &records), "shown,forced_reason\n2,first\n1,\n");
}

#[test]
fn a_metric_is_what_its_function_makes_of_each_packet() {
    let mut plugins = Plugins::default();
    let of_40 = metric(
        "of_40_octets",
        |count, packet, _, _| {
            if packet.lengths.ip == 40 { count + 1.0 } else { count }
        },
    );
    plugins.add(of_40.described("packets", "IP packets of 40 octets")).unwrap();
    plugins
        .add(metric("answered", |value, _, flow, direction| match direction {
            Direction::Reverse => value + flow.counters.forward.packets as f64,
            Direction::Forward => value - 0.25,
        }))
        .unwrap();
    let packets = [
        datagram(0, 1, 2, (1, 2), &[0; 12]),
        datagram(1, 1, 2, (1, 2), &[0; 13]),
        datagram(2, 2, 1, (2, 1), &[0; 12]),
    ];
    let (records, _) = meter(&plugins, Settings::default(), &packets, (1, 100));
    let expected = "of_40_octets,answered,forced_reason\n2,1.5,\n";
    assert_eq!(csv(&plugins, &[], &records), expected);
    let columns = plugins.columns();
    assert_eq!((columns[0].unit, columns[0].definition), ("packets", "IP packets of 40 octets"));
}

#[test]
fn a_name_that_is_there_and_too_many_columns_are_refused() {
    let mut plugins = Plugins::default();
    let plain = |name| metric(name, |value, _, _, _| value);
    plugins.add(plain("mine")).unwrap();
    let taken = ["mine", "source_port", "Fwd IAT Mean", "source_pid", "forced_reason"];
    for name in taken {
        assert_eq!(plugins.add(plain(name)), Err(PluginError::Name(name)));
    }
    #[derive(Clone)]
    struct Wide(usize);
    impl Plugin for Wide {
        type State = ();
        fn columns(&self) -> Vec<PluginColumn> {
            let names = (0..self.0).map(|column| format!("wide_{column}").leak());
            let column = |name: &'static mut str| PluginColumn {
                name,
                unit: "",
                definition: "Its number",
                kind: Kind::Unsigned,
            };
            names.map(column).collect()
        }
        fn begin(&mut self, _: &Shown<'_>) {}
        fn update(&mut self, (): &mut (), _: &Shown<'_>) -> Verdict {
            Verdict::GoOn
        }
        fn end(&mut self, (): (), _: &Record, values: &mut Values<'_>) {
            (0..self.0).for_each(|column| values.push(column as u64));
        }
    }
    assert_eq!(plugins.add(Wide(64)), Err(PluginError::TooMany));
    assert_eq!(plugins.columns().len(), 2);
    plugins.add(Wide(63)).unwrap();
    let packets = [datagram(0, 1, 2, (1, 2), b"")];
    let (records, _) = meter(&plugins, Settings::default(), &packets, (1, 100));
    let numbers: Vec<String> = (0..63).map(|number| number.to_string()).collect();
    let row = format!("\n0,{},\n", numbers.join(","));
    assert!(csv(&plugins, &[], &records).ends_with(&row));
}

#[test]
fn a_panic_in_a_plugin_ends_the_metering_in_any_thread() {
    let plugins = || {
        only(metric("fragile", |value, packet, _, _| {
            assert!(packet.time.0 < 100 * SECOND, "too late");
            value
        }))
    };
    for threads in [1, 3] {
        let run = || meter(&plugins(), Settings::default(), &crowd(), (threads, 64));
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err(), "{threads}");
    }
}

/// Ends a flow as soon as its host is known.
#[derive(Clone)]
struct Hosts;

impl Plugin for Hosts {
    type State = Option<String>;

    fn columns(&self) -> Vec<PluginColumn> {
        let definition = "The host, when it was known";
        vec![PluginColumn { name: "host_then", unit: "", definition, kind: Kind::Text }]
    }

    fn needs(&self) -> Needs {
        Needs::DISSECTION
    }

    fn begin(&mut self, _: &Shown<'_>) -> Option<String> {
        None
    }

    fn update(&mut self, host: &mut Option<String>, shown: &Shown<'_>) -> Verdict {
        let name = shown.dissected.and_then(|found| found.server_name());
        *host = name.map(str::to_owned);
        if host.is_some() { Verdict::Export("host".into()) } else { Verdict::GoOn }
    }

    fn end(&mut self, host: Option<String>, record: &Record, values: &mut Values<'_>) {
        let said = record.dissected.as_ref().and_then(|found| found.server_name());
        assert_eq!(host.as_deref(), said);
        values.push(host);
    }
}

#[test]
fn a_plugin_sees_what_the_messages_have_said_so_far() {
    let segment =
        |number: u32, payload: &[u8]| ipv4(1, 2, 6, &tcp(40000, 80, 0x18, (number, 1), payload));
    let packets = [
        (1, segment(1, b"GET / HTTP/1.1\r\nHo")),
        (2, segment(19, b"st: www.example.org\r\n\r\n")),
        (3, segment(44, b"more")),
    ];
    let (records, _) = meter(&only(Hosts), Settings::default(), &packets, (1, 8));
    let plugins = only(Hosts);
    assert_eq!(
        csv(&plugins, &["bidirectional_packets", "application_name"], &records),
        "bidirectional_packets,application_name,host_then,forced_reason\n\
         2,HTTP,www.example.org,host\n1,HTTP,www.example.org,host\n"
    );
}
