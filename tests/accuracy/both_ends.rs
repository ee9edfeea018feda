//! A13: both ends are tracked. A record made between two namespaces names both processes.

use procflow_binding::Place;

use crate::Trouble;
use crate::scene::{Act, Scene, Stage, rows};
use crate::score::{Mark, mark};
use crate::table::{Figure, Line};
use crate::truth::Seen;
use crate::world::wire;

pub fn on_one_record(stage: &Stage) -> Result<Vec<Line>, Trouble> {
    let (one, other) = (stage.netns("one")?, stage.netns("other")?);
    wire((&one, "wire", "10.80.0.1/24"), (&other, "wire", "10.80.0.2/24"))?;
    let mut scene = Scene::open(stage, &[])?;
    let port = scene.port();
    let rate = stage.pick(1000, 100);
    let count = rate * stage.length(5, 1);
    let words = format!(
        "tcp-calls to=10.80.0.2:{port} rate={rate} count={count} hold-us={} first-id=1",
        stage.pick(0, 150_000)
    );
    scene.play(Act {
        what: "two namespaces, seen between them",
        server: Some((Some(&other.name), format!("tcp-serve at=10.80.0.2:{port}"))),
        caller: (Some(&one.name), words),
        bystander: None,
        seen: Seen::ByTheClient,
        place: Place::Outside,
        recall: stage.told(99.9),
    })?;
    let (all, _) = scene.answers()?;
    let mut lines = Vec::new();
    for answered in &all {
        lines.extend(rows(stage, answered).into_iter().map(Line::Row));
        let both = answered.answers.iter().filter(|answer| {
            let ends = [
                (answer.flow.source, &answer.source),
                (answer.flow.destination, &answer.destination),
            ];
            ends.iter().all(|(actor, owner)| {
                actor.is_some_and(|actor| mark(actor, owner, stage.tick) == Mark::Right)
            })
        });
        #[expect(clippy::cast_precision_loss, reason = "counts of flows, far below 2^52")]
        let value = 100.0 * both.count() as f64 / answered.answers.len() as f64;
        lines.push(Line::Figure(Figure {
            what: "records with both processes".to_owned(),
            value,
            unit: "%",
            pass: stage.told(99.9).map(|least| value >= least),
        }));
    }
    Ok(lines)
}
