//! TCP calls from one process each: A1, A2, A3, and with tuples (A6) and pids (A7) that come again.

use crate::Trouble;
use crate::scene::{Act, Answered, Scene, Stage, rows};
use crate::table::{Figure, Line};
use crate::truth::{Seen, reused_pids};
use crate::world::FewPids;

/// Loopback addresses times ports: there are 28,232 ephemeral ports, and each of these has its own.
const ADDRESSES: u8 = 4;
const PORTS: u16 = 2;

fn lines(stage: &Stage, all: &[Answered]) -> Vec<Line> {
    all.iter().flat_map(|answered| rows(stage, answered)).map(Line::Row).collect()
}

/// How long the records are: the reader is to know that they are short.
fn lengths(answered: &Answered) -> Vec<Line> {
    let length = |answer: &crate::scene::Answer| {
        let interval = answer.flow.interval;
        interval.last.0 - interval.first.0
    };
    let mut lengths: Vec<i64> = answered.answers.iter().map(length).collect();
    lengths.sort_unstable();
    let figure = |share: usize, name: &str| {
        #[expect(clippy::cast_precision_loss, reason = "a minute of nanoseconds, below 2^52")]
        let value = lengths[(lengths.len() - 1) * share / 100] as f64 / 1e6;
        let what = format!("{}: {name} of a record's length", answered.what);
        Line::Figure(Figure { what, value, unit: "ms", pass: None })
    };
    vec![figure(50, "median"), figure(99, "99th percentile")]
}

/// `count` calls at `rate`, each held open for `hold` microseconds, to several addresses and ports.
fn calls(
    scene: &mut Scene<'_>,
    ground: &crate::scene::Ground,
    (what, rate, count, hold): (&str, u32, u32, u32),
    recall: Option<f64>,
) -> Result<(), Trouble> {
    let first = scene.port();
    let ports: Vec<u16> = (0..PORTS).map(|more| first + more * 500).collect();
    let to: Vec<String> = (1..=ADDRESSES)
        .flat_map(|address| ports.iter().map(move |port| format!("127.0.0.{address}:{port}")))
        .collect();
    let to = to.join(",");
    scene.play(Act {
        what,
        server: Some((ground.name(), format!("tcp-serve at={to}"))),
        caller: (
            ground.name(),
            format!("tcp-calls to={to} rate={rate} count={count} hold-us={hold} first-id=1"),
        ),
        bystander: None,
        seen: Seen::ByTheClient,
        place: ground.place(scene.host),
        recall,
    })
}

fn short_lived(
    stage: &Stage,
    (what, rate, count): (&str, u32, u32),
    recall: f64,
) -> Result<Vec<Line>, Trouble> {
    let ground = stage.ground()?;
    let mut scene = Scene::open(stage, &[])?;
    calls(&mut scene, &ground, (what, rate, count, 0), stage.told(recall))?;
    let (all, _) = scene.answers()?;
    let mut lines = lines(stage, &all);
    lines.extend(all.iter().flat_map(lengths));
    Ok(lines)
}

/// A1. A source that looks learns nothing new after ten seconds.
pub fn thousand_a_second(stage: &Stage) -> Result<Vec<Line>, Trouble> {
    let seconds = stage.length(stage.pick(60, 10), 2);
    short_lived(stage, ("1,000/s", 1000, 1000 * seconds), 99.9)
}

/// A2.
pub fn five_thousand_a_second(stage: &Stage) -> Result<Vec<Line>, Trouble> {
    let seconds = stage.length(10, 1);
    short_lived(stage, ("5,000/s", 5000, 5000 * seconds), 99.5)
}

/// A3.
pub fn hundred_a_second(stage: &Stage) -> Result<Vec<Line>, Trouble> {
    let ground = stage.ground()?;
    let mut scene = Scene::open(stage, &[])?;
    let count = 100 * stage.length(20, 2);
    // Of two seconds nothing can be demanded, but that nobody is wrong.
    let demand = |recall| (!stage.short).then_some(recall);
    calls(&mut scene, &ground, ("100/s, 100 ms", 100, count, 100_000), demand(99.0))?;
    calls(&mut scene, &ground, ("100/s, 20 ms", 100, count, 20_000), demand(60.0))?;
    let (all, _) = scene.answers()?;
    Ok(lines(stage, &all))
}

/// A6: so many tuples in turn, one every millisecond, each again after a second. They end with RST,
/// so that no TIME_WAIT keeps the next process from the tuple.
pub fn tuples_again(stage: &Stage) -> Result<Vec<Line>, Trouble> {
    let ground = stage.ground()?;
    let mut scene = Scene::open(stage, &[])?;
    let tuples = stage.pick(1000, 100);
    let rounds = stage.length(5, 2);
    let port = scene.port();
    let words = format!(
        "tcp-calls to=127.0.0.1:{port} rate={tuples} count={} hold-us={} first-id=1 \
         first-port=10000 ports={tuples} reset=1",
        tuples * rounds,
        stage.pick(0, 150_000)
    );
    scene.play(Act {
        what: "each tuple every second",
        server: Some((ground.name(), format!("tcp-serve at=127.0.0.1:{port}"))),
        caller: (ground.name(), words),
        bystander: None,
        seen: Seen::ByTheClient,
        place: ground.place(scene.host),
        recall: stage.told(99.9),
    })?;
    let (all, _) = scene.answers()?;
    let mut lines = lines(stage, &all);
    let keys: std::collections::BTreeSet<_> =
        all.iter().flat_map(|answered| &answered.answers).map(|answer| answer.flow.key).collect();
    let flows: usize = all.iter().map(|answered| answered.answers.len()).sum();
    lines.push(Line::Figure(Figure {
        what: "processes that shared a tuple, on average".to_owned(),
        value: ratio(flows, keys.len()),
        unit: "",
        pass: Some(flows >= 2 * keys.len()),
    }));
    Ok(lines)
}

/// A7: so few pids that they come round again several times.
pub fn pids_again(stage: &Stage) -> Result<Vec<Line>, Trouble> {
    let ground = stage.ground()?;
    let mut scene = Scene::open(stage, &[])?;
    // Others live here, too.
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let tasks: u32 = load
        .split(['/', ' '])
        .nth(4)
        .and_then(|tasks| tasks.parse().ok())
        .ok_or("cannot count the tasks in /proc/loadavg")?;
    let few = FewPids::new(&stage.undertaker, (tasks * 4).max(1500))?;
    let count = stage.length(20_000, 6_000);
    let shape = ("2,000/s, few pids", 2000, count, stage.pick(0, 20_000));
    let played = calls(&mut scene, &ground, shape, None).and_then(|()| scene.finish());
    drop(few);
    played?;
    let (all, _) = scene.answers()?;
    let mut lines = lines(stage, &all);
    let flows: Vec<_> =
        all.iter().flat_map(|answered| &answered.answers).map(|a| a.flow.clone()).collect();
    let reused = reused_pids(&flows);
    #[expect(clippy::cast_precision_loss, reason = "pids, below 2^22")]
    lines.push(Line::Figure(Figure {
        what: "pids that belonged to several processes".to_owned(),
        value: reused as f64,
        unit: "pids",
        pass: Some(reused > 0),
    }));
    Ok(lines)
}

fn ratio(part: usize, whole: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of flows, far below 2^52")]
    let (part, whole) = (part as f64, whole.max(1) as f64);
    part / whole
}
