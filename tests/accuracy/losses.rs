//! A10: losses on purpose. A flow of which events may be missing is answered rightly, or with a gap;
//! and a second later everything is as before.

use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use procflow_core::{Interval, Timestamp};

use crate::Trouble;
use crate::scene::{Act, Answered, Ground, Scene, Stage, rows};
use crate::table::{Figure, Line};
use crate::tracker::{Counters, Tracker, offers};
use crate::truth::Seen;

/// A ring that a few dozen events fill.
const TINY: &str = "4096";

pub fn on_purpose(stage: &Stage) -> Result<Vec<Line>, Trouble> {
    let large = || stopped(stage, "stopped", &[]);
    if !(offers("--ring") && stage.is_told()) {
        crate::skip(format_args!("A10 with a tiny ring: {} has none to choose", stage.source));
        return large();
    }
    let tiny = || stopped(stage, "tiny ring, stopped", &["--ring", TINY]);
    let (large, tiny) = if stage.short {
        // Most of it is waiting.
        std::thread::scope(|scope| {
            let tiny = scope.spawn(tiny);
            (large(), tiny.join().unwrap_or_else(|_| Err("it panicked".into())))
        })
    } else {
        (large(), tiny())
    };
    let mut lines = large?;
    lines.extend(tiny?);
    Ok(lines)
}

/// Stops the tracker in the middle of a load.
fn stopped(stage: &Stage, name: &str, more: &[&str]) -> Result<Vec<Line>, Trouble> {
    let ground = stage.ground()?;
    let mut scene = Scene::open(stage, more)?;
    let around = stage.length(2, 1);
    let pause = stage.length(5, 3);
    let rate = stage.pick(1000, 100);
    let mut stop = Interval { first: Timestamp(0), last: Timestamp(0) };
    let act = act(stage, &mut scene, &ground, rate, around + pause + 1 + around);
    scene.play_and(act, |tracker| {
        std::thread::sleep(Duration::from_secs(around));
        stop.first = real_time()?;
        tracker.signal(Signal::SIGSTOP)?;
        std::thread::sleep(Duration::from_secs(pause));
        stop.last = real_time()?;
        tracker.signal(Signal::SIGCONT)
    })?;
    let (all, _) = scene.answers()?;
    let counters = finish(scene)?;
    let whole_again = Timestamp(stop.last.0 + 1_000_000_000);
    let mut lines = Vec::new();
    for answered in all {
        // A flow across an edge is judged for being wrong, and for nothing else.
        let [mut before, mut inside, mut edges, mut after] =
            ["before", "while", "at the edges", "1 s after"].map(|when| Answered {
                what: format!("{name}: {when}"),
                pace: answered.pace,
                recall: None,
                answers: Vec::new(),
            });
        before.recall = stage.told(99.9);
        after.recall = stage.told(99.9);
        // What a large ring holds is told late, but not lost.
        inside.recall = if more.is_empty() { stage.told(99.9) } else { None };
        for answer in answered.answers {
            let Interval { first, last } = answer.flow.interval;
            let window = if last < stop.first && more.is_empty() {
                &mut before
            } else if first > stop.first && last < stop.last {
                &mut inside
            } else if first >= whole_again && more.is_empty() {
                &mut after
            } else {
                &mut edges
            };
            window.answers.push(answer);
        }
        for (window, explained) in
            [(&before, false), (&inside, true), (&edges, !more.is_empty()), (&after, false)]
        {
            for mut row in rows(stage, window) {
                let owed = row.score.unexplained();
                // The short form fails on what is wrong; an end in a hundred with another reason is not.
                let most = if stage.short { row.score.ends / 100 } else { 0 };
                if explained && owed > most && stage.is_told() {
                    row.faults.push(format!("{owed} neither right nor answered with a gap"));
                }
                lines.push(Line::Row(row));
            }
        }
    }
    lines.extend(counted(name, counters, !more.is_empty()));
    Ok(lines)
}

fn act<'a>(
    stage: &Stage,
    scene: &mut Scene<'_>,
    ground: &'a Ground,
    rate: u32,
    seconds: u64,
) -> Act<'a> {
    let port = scene.port();
    let to = format!("127.0.0.1:{port},127.0.0.2:{port}");
    let words = format!(
        "tcp-calls to={to} rate={rate} count={} hold-us={} first-id=1",
        u64::from(rate) * seconds,
        stage.pick(0, 150_000)
    );
    Act {
        what: "",
        server: Some((ground.name(), format!("tcp-serve at={to}"))),
        caller: (ground.name(), words),
        bystander: None,
        seen: Seen::ByTheClient,
        place: ground.place(scene.host),
        recall: None,
    }
}

fn finish(scene: Scene<'_>) -> Result<Option<Counters>, Trouble> {
    let Scene { tracker, .. } = scene;
    Tracker::stop(tracker)
}

/// The kernel's own counts against the tracker's.
fn counted(name: &str, counters: Option<Counters>, must_lose: bool) -> Vec<Line> {
    let Some(Counters { attempted, consumed, lost }) = counters else {
        crate::skip(format_args!("A10, {name}: the source counts no events of the kernel"));
        return Vec::new();
    };
    let figure = |what: &str, value: u64, pass| {
        #[expect(clippy::cast_precision_loss, reason = "events of seconds, far below 2^52")]
        let value = value as f64;
        Line::Figure(Figure { what: format!("{name}: {what}"), value, unit: "events", pass })
    };
    vec![
        figure("attempted", attempted, Some(attempted == consumed + lost)),
        figure("consumed", consumed, None),
        figure("lost", lost, Some((lost > 0) == must_lose)),
    ]
}

fn real_time() -> Result<Timestamp, Trouble> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(Timestamp(i64::try_from(since.as_nanos())?))
}
