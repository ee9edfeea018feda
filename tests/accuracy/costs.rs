//! A11: what tracking costs - those who connect, the processor, memory and disk.

use std::fs;

use crate::Trouble;
use crate::scene::{Act, Scene, Stage};
use crate::table::{Figure, Line};
use crate::tracker::{Tracker, Usage};
use crate::truth::Seen;

/// Connections in a block: 2,000 of 40 us are a twelfth of a second, which a scheduler's slice does
/// not disturb much.
const IN_A_BLOCK: u32 = 2000;

pub fn all(stage: &Stage) -> Result<Vec<Line>, Trouble> {
    let mut lines = added(stage)?;
    lines.extend(used(stage)?);
    // One that looks would not have seen them.
    if stage.is_told() {
        lines.extend(kept(stage)?);
    }
    Ok(lines)
}

/// What is added to a connection: blocks with and without a tracker in turn, so that whatever drifts
/// meanwhile meets both alike. The tracker is started and killed between them.
fn added(stage: &Stage) -> Result<Vec<Line>, Trouble> {
    let ground = stage.ground()?;
    let truth = stage.file("truth");
    let to = (1..=8).map(|n| format!("127.0.0.{n}:22000")).collect::<Vec<_>>().join(",");
    let words = format!("cost to={to} count={IN_A_BLOCK}");
    let mut generator = stage.load.start(ground.name(), &truth, &words)?;
    let mut block = || -> Result<f64, Trouble> {
        generator.ask()?;
        Ok(generator.line()?.parse()?)
    };
    block()?; // warms up
    let (mut without, mut differences) = (Vec::new(), Vec::new());
    for _ in 0..stage.length(20, 4) {
        let alone = block()?;
        let tracker = Tracker::start(stage.file("tracker"), &stage.source, &[])?;
        let watched = block()?;
        drop(tracker); // kills it
        without.push(alone / 1000.0);
        differences.push((watched - alone) / 1000.0);
    }
    let (mean, half) = interval(&differences);
    let figure = |what: &str, value, pass| {
        Line::Figure(Figure { what: what.to_owned(), value, unit: "us", pass })
    };
    Ok(vec![
        figure("a connection without a tracker", interval(&without).0, None),
        figure(
            "added to a connection (mean)",
            mean,
            (stage.is_told() && !stage.short).then_some(mean <= 10.0),
        ),
        figure("added to a connection (95 % interval, +-)", half, None),
    ])
}

/// The mean, and half the width of its 95 % confidence interval (Student's t).
fn interval(values: &[f64]) -> (f64, f64) {
    // Two-sided 97.5 % points for 1 to 30 degrees of freedom; beyond that the normal one is near.
    const T: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
        2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
        2.052, 2.048, 2.045, 2.042,
    ];
    #[expect(clippy::cast_precision_loss, reason = "some dozens")]
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let error = (squares / (count - 1.0) / count).sqrt();
    (mean, error * T.get(values.len().saturating_sub(2)).copied().unwrap_or(1.960))
}

/// What the tracker itself uses at 1,000 connections a second.
fn used(stage: &Stage) -> Result<Vec<Line>, Trouble> {
    let ground = stage.ground()?;
    let statistics = BpfStatistics::on(stage)?;
    let mut scene = Scene::open(stage, &[])?;
    let port = scene.port();
    let to = (1..=4).map(|n| format!("127.0.0.{n}:{port}")).collect::<Vec<_>>().join(",");
    let seconds = stage.length(20, 2);
    let pace = format!("rate=1000 count={} first-id=1", 1000 * seconds);
    let before = scene.tracker.usage()?;
    scene.play(Act {
        what: "1,000/s",
        server: Some((ground.name(), format!("tcp-serve at={to}"))),
        caller: (ground.name(), format!("tcp-calls to={to} {pace}")),
        bystander: None,
        seen: Seen::ByTheClient,
        place: ground.place(scene.host),
        recall: None,
    })?;
    scene.finish()?;
    let after = scene.tracker.usage()?;
    drop(statistics);
    let (all, _) = scene.answers()?;
    let connections: usize = all.iter().map(|answered| answered.answers.len()).sum();
    Ok(figures(stage, &before, &after, connections))
}

fn figures(stage: &Stage, before: &Usage, after: &Usage, connections: usize) -> Vec<Line> {
    let seconds = after.at.duration_since(before.at).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "bytes and counts, far below 2^52")]
    let number = |value: u64| value as f64;
    let asked = |pass: bool| (stage.is_told() && !stage.short).then_some(pass);
    let figure = |what: &str, value, unit, pass| {
        Line::Figure(Figure { what: what.to_owned(), value, unit, pass })
    };
    let core = 100.0 * (after.processor - before.processor) / seconds;
    let mut lines =
        vec![figure("tracker's processor at 1,000/s", core, "% of a core", asked(core <= 1.0))];
    if let (Some(before), Some(after)) = (before.bpf, after.bpf) {
        let time = number(after.0.saturating_sub(before.0)) / number(connections.max(1) as u64);
        let time = time / 1000.0;
        lines.push(figure(
            "in BPF programs, by the kernel",
            time,
            "us/connection",
            asked(time <= 10.0),
        ));
    }
    lines
}

/// What a million intervals take, in the tracker's own memory (the ring is the kernel's, and always of one
/// size) and on disk.
fn kept(stage: &Stage) -> Result<Vec<Line>, Trouble> {
    let ground = stage.ground()?;
    let tracker = Tracker::start(stage.file("tracker"), &stage.source, &[])?;
    let count: u32 = if stage.short { 20_000 } else { 1_000_000 };
    let words = format!("churn at=127.0.0.1:0,[::1]:0 count={count} rate=50000");
    let mut generator = stage.load.start(ground.name(), &stage.file("truth"), &words)?;
    let before = tracker.usage()?;
    generator.ask()?;
    let churned: u32 = generator.line()?.parse()?;
    // What goes to disk goes there in its own time.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let after = tracker.usage()?;
    let lost = tracker.stop()?.map_or(0, |counters| counters.lost);
    if churned != count || lost > 0 {
        return Err(format!("{churned} of {count} intervals made, {lost} events lost").into());
    }
    #[expect(clippy::cast_precision_loss, reason = "bytes and counts, far below 2^52")]
    let each = |bytes: u64| bytes as f64 / f64::from(count);
    let memory = each(after.resident.saturating_sub(before.resident));
    let disk = each(after.disk.saturating_sub(before.disk));
    let figure = |what: &str, value, unit, most: Option<f64>| {
        let pass = most.filter(|_| !stage.short).map(|most| value <= most);
        Line::Figure(Figure { what: what.to_owned(), value, unit, pass })
    };
    Ok(vec![
        figure("intervals kept", f64::from(count), "", None),
        figure("tracker's own memory, growth", memory, "bytes/interval", Some(100.0)),
        figure("tracker's disk, growth", disk, "bytes/interval", Some(160.0)),
    ])
}

const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Has the kernel measure BPF programs for a while.
struct BpfStatistics {
    before: String,
}

impl BpfStatistics {
    fn on(stage: &Stage) -> Result<Option<Self>, Trouble> {
        let Ok(before) = fs::read_to_string(STATISTICS) else { return Ok(None) };
        let before = before.trim().to_owned();
        stage.undertaker.leave(&format!("echo {before} > {STATISTICS}"))?;
        fs::write(STATISTICS, "1")?;
        Ok(Some(Self { before }))
    }
}

impl Drop for BpfStatistics {
    fn drop(&mut self) {
        let _ = fs::write(STATISTICS, &self.before); // the undertaker tries again
    }
}
