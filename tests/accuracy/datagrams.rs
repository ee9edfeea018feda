//! A4: UDP, from one process each.

use crate::Trouble;
use crate::scene::{Act, Scene, Stage};
use crate::table::Line;
use crate::truth::Seen;

/// What is sent to, what the receiver is bound to, and whether the sender has a peer.
const SENDS: &[(&str, &str, &str, u8)] = &[
    ("no peer, IPv4", "127.0.0.1", "127.0.0.1", 0),
    ("no peer, receiver on the wildcard", "127.0.0.1", "0.0.0.0", 0),
    ("connected, IPv4", "127.0.0.1", "127.0.0.1", 1),
    ("no peer, IPv6", "[::1]", "[::1]", 0),
    ("connected, IPv6", "[::1]", "[::]", 1),
    ("no peer, v4-mapped", "[::ffff:127.0.0.1]", "127.0.0.1", 0),
    ("connected, v4-mapped, receiver on ::", "[::ffff:127.0.0.1]", "[::]", 1),
];

pub fn every_kind(stage: &Stage) -> Result<Vec<Line>, Trouble> {
    let ground = stage.ground()?;
    let mut scene = Scene::open(stage, &[])?;
    // Side by side, in the short form, they are ten.
    let rate = stage.length(stage.pick(1000, 100), 100);
    let count = rate * stage.length(2, 1);
    let hold = stage.pick(0, 150_000);
    let pace = format!("rate={rate} count={count} hold-us={hold}");
    for &(what, to, at, connected) in SENDS {
        let port = scene.port();
        let caller = format!("udp-sends to={to}:{port} connected={connected} first-id=1 {pace}");
        scene.play(Act {
            what,
            server: Some((ground.name(), format!("udp-serve at={at}:{port}"))),
            caller: (ground.name(), caller),
            bystander: None,
            seen: Seen::ByTheClient,
            place: ground.place(scene.host),
            recall: stage.told(99.9),
        })?;
    }
    for (what, at) in [
        ("receives only, IPv4", "127.0.0.1:0"),
        ("receives only, wildcards", "0.0.0.0:0,[::]:0"),
        ("receives only, IPv6", "[::1]:0"),
    ] {
        let to = "127.0.0.1:0";
        scene.play(Act {
            what,
            server: None,
            caller: (ground.name(), format!("udp-receivers at={at} to={to} first-id=1 {pace}")),
            bystander: None,
            seen: Seen::ByTheClient,
            place: ground.place(scene.host),
            recall: stage.told(99.9),
        })?;
    }
    Ok(scene.rows()?.into_iter().map(Line::Row).collect())
}
