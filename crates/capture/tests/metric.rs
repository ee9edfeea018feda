//! A plain metric over real captures counts what tshark counts.

use std::path::Path;
use std::process::Command;

use procflow_capture::CaptureFile;
use procflow_core::features::Value;
use procflow_core::flow::{AsTheyAre, Filled, Record, Settings, meter_with};
use procflow_core::packet::{Batch, Decoder};
use procflow_core::plugin::{Plugins, metric};

/// Says that a test does not run here. Not by `eprintln!`, which the test runner keeps to itself while
/// a test passes.
fn skip(why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// IPv4 packets of 40 octets in a capture, by a metric: the sum over all flows.
fn counted_here(path: &Path) -> f64 {
    let mut file = CaptureFile::open(path).unwrap();
    let source = |batch: &mut Batch| {
        file.next_batch(batch).unwrap();
        if batch.is_empty() { Filled::Last } else { Filled::More(None) }
    };
    let mut plugins = Plugins::default();
    let of_40 = metric("of_40_octets", |count, packet, _, _| {
        if packet.ip_version == 4 && packet.lengths.ip == 40 { count + 1.0 } else { count }
    });
    plugins.add(of_40).unwrap();
    let value = plugins.columns()[0].value;
    let mut sum = 0.0;
    let take = |made: &Vec<Record>, index: usize| match value(&made[index]) {
        Value::Float(count) => sum += count,
        other => panic!("{other:?}"),
    };
    let settings = Settings::default();
    meter_with(&plugins, Decoder::default(), settings, 2, source, &AsTheyAre, take);
    sum
}

fn counted_by_tshark(path: &Path) -> f64 {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(path).args(["-Y", "ip.len == 40", "-T", "fields", "-e", "frame.number"]);
    let output = tshark.output().unwrap();
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).lines().count() as f64
}

#[test]
fn a_metric_counts_what_tshark_counts() {
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/pcap");
    if !captures.is_dir() {
        return skip(&format!("no captures at {}", captures.display()));
    }
    if Command::new("tshark").arg("-v").output().is_err() {
        return skip("tshark is not installed");
    }
    let mut all = 0.0;
    for name in ["EAQ", "Oscar", "dnp3", "dns_doh", "snapchat", "ssh", "whatsapp_login_chat"] {
        let path = captures.join(format!("nfstream/pcaps/{name}.pcap"));
        let here = counted_here(&path);
        assert_eq!(here, counted_by_tshark(&path), "{name}");
        all += here;
    }
    // There were such packets.
    assert!(all > 300.0, "{all}");
}
