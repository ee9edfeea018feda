//! A9: what no process sent. Whoever provoked it saw it come, and so is its witness; the process that
//! provoked it is scored as well.

use procflow_binding::Place;

use crate::Trouble;
use crate::scene::{Act, Scene, Stage};
use crate::table::Line;
use crate::truth::Seen;
use crate::world::wire;

pub fn every_kind(stage: &Stage) -> Result<Vec<Line>, Trouble> {
    let (near, far) = (stage.netns("near")?, stage.netns("far")?);
    wire((&near, "wire", "10.79.0.1/24"), (&far, "wire", "10.79.0.2/24"))?;
    // The kernel refuses a thousand times a second and no more (icmp_ratelimit, icmp_msgs_per_sec).
    for netns in [&near, &far] {
        netns.run("sh", &["-c", "echo 0 > /proc/sys/net/ipv4/icmp_ratelimit"])?;
    }
    let (near, far) = (Some(near.name.as_str()), Some(far.name.as_str()));
    let mut scene = Scene::open(stage, &[])?;
    let rate = stage.pick(200, 50);
    let count = rate * stage.length(5, 1);
    let pace = format!("rate={rate} count={count} hold-us={}", stage.pick(0, 150_000));
    let recall = stage.told(99.9);
    for (what, words) in [
        ("RST from closed ports", "refused-tcp at=10.79.0.1:0 to=10.79.0.2:9,10.79.0.2:11"),
        ("port unreachable", "refused-udp at=10.79.0.1:0 to=10.79.0.2:9,10.79.0.2:11"),
    ] {
        // Meanwhile somebody over there pings back: the kernel's answers must not become its.
        scene.play(Act {
            what,
            server: None,
            caller: (near, format!("{words} first-id=1 {pace}")),
            bystander: Some((far, pings("10.79.0.2", "10.79.0.1", 100_000))),
            seen: Seen::ByTheClient,
            place: Place::Outside,
            recall,
        })?;
    }
    scene.play(Act {
        what: "echo, both ways at once",
        server: None,
        caller: (near, pings("10.79.0.1", "10.79.0.2", count)),
        bystander: Some((far, pings("10.79.0.2", "10.79.0.1", 100_000))),
        seen: Seen::ByTheClient,
        place: Place::Outside,
        recall,
    })?;
    let mut rows = scene.rows()?;
    for row in &mut rows {
        // An ICMP record carries no echo id: which of several pings it was cannot be exact, and the
        // bar only asks for the kernel's part. What a bystander provokes is asked in the act that
        // is about it.
        let bystander = row.what.ends_with("echo reply") && !row.what.starts_with("echo");
        if row.what.ends_with("ping") || bystander {
            row.recall = None;
        }
    }
    Ok(rows.into_iter().map(Line::Row).collect())
}

fn pings(from: &str, to: &str, count: u32) -> String {
    format!("echoes at={from}:0 to={to}:0 rate=200 count={count}")
}
