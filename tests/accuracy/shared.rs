//! A5: sockets that more than one process has, or had. Right is a set of owners that holds the one
//! who acted; how many it holds on average is printed beside it.

use crate::Trouble;
use crate::scene::{Act, Scene, Stage};
use crate::table::Line;
use crate::truth::Seen;

/// What the server does, and what the caller does.
const WAYS: &[(&str, &str, &str)] = &[
    ("accepted by the listener", "tcp-serve how=accept", ""),
    ("pre-forked workers", "tcp-serve how=prefork", ""),
    ("a child for each connection", "tcp-serve how=fork", ""),
    ("passed (SCM_RIGHTS)", "tcp-serve how=pass", ""),
    ("passed, only writes", "tcp-serve how=pass receive-id=1", "receive-id=1"),
    ("SO_REUSEPORT", "tcp-serve how=reuseport", ""),
    ("socket activation", "tcp-activated", ""),
    ("caller's socket inherited", "tcp-serve how=accept", "inherit=1"),
];

pub fn every_way(stage: &Stage) -> Result<Vec<Line>, Trouble> {
    let ground = stage.ground()?;
    let mut scene = Scene::open(stage, &[])?;
    // Side by side, in the short form, they are eight.
    let rate = stage.length(stage.pick(1000, 100), 100);
    let count = rate * stage.length(3, 1);
    let hold = stage.pick(0, 150_000);
    // One that only writes holds its worker up.
    let workers = stage.pick(4, 32);
    for &(what, server, caller) in WAYS {
        let port = scene.port();
        let workers = if server.contains("receive-id") { workers } else { 4 };
        let server =
            format!("{server} at=127.0.0.1:{port} workers={workers} hold-us={hold} first-id=1");
        let caller = format!(
            "tcp-calls {caller} to=127.0.0.1:{port} rate={rate} count={count} hold-us={hold} \
             first-id=1"
        );
        scene.play(Act {
            what,
            server: Some((ground.name(), server)),
            caller: (ground.name(), caller),
            bystander: None,
            seen: Seen::ByTheClient,
            place: ground.place(scene.host),
            recall: stage.told(99.9),
        })?;
    }
    Ok(scene.rows()?.into_iter().map(Line::Row).collect())
}
