//! A8: a namespace behind a router that translates addresses. The records are made outside and carry
//! the translated addresses; what is true of them both ends have said, joined by the id that
//! travelled between them.

use procflow_binding::Place;

use crate::Trouble;
use crate::scene::{Act, Scene, Stage};
use crate::table::Line;
use crate::truth::Seen;
use crate::world::wire;

const RULES: &str = "table ip translate {
    chain out {
        type nat hook postrouting priority 100;
        oifname wan masquerade
    }
    chain in {
        type nat hook prerouting priority -100;
        iifname wan meta l4proto { tcp, udp } th dport 8443 dnat to 10.77.0.2:9000
    }
}";

pub fn both_ways(stage: &Stage) -> Result<Vec<Line>, Trouble> {
    let (inside, router) = (stage.netns("inside")?, stage.netns("router")?);
    let outside = stage.netns("outside")?;
    wire((&inside, "lan", "10.77.0.2/24"), (&router, "lan", "10.77.0.1/24"))?;
    wire((&router, "wan", "10.78.0.1/24"), (&outside, "wan", "10.78.0.2/24"))?;
    inside.route("10.77.0.1")?;
    router.translate(RULES)?;
    let (inside, outside) = (Some(inside.name.as_str()), Some(outside.name.as_str()));
    let mut scene = Scene::open(stage, &[])?;
    let rate = stage.pick(500, 100);
    let count = rate * stage.length(4, 1);
    let pace = format!("rate={rate} count={count} hold-us={} first-id=1", stage.pick(0, 150_000));
    for (name, serve, call) in
        [("TCP", "tcp-serve", "tcp-calls"), ("UDP", "udp-serve", "udp-sends connected=1")]
    {
        let port = scene.port();
        scene.play(Act {
            what: &format!("{name}, client masqueraded"),
            server: Some((outside, format!("{serve} at=10.78.0.2:{port}"))),
            caller: (inside, format!("{call} to=10.78.0.2:{port} {pace}")),
            bystander: None,
            seen: Seen::ByTheServer,
            place: Place::Outside,
            recall: stage.told(99.0),
        })?;
        scene.play(Act {
            what: &format!("{name}, server behind DNAT"),
            server: Some((inside, format!("{serve} at=10.77.0.2:9000"))),
            caller: (outside, format!("{call} to=10.78.0.1:8443 {pace}")),
            bystander: None,
            seen: Seen::ByTheClient,
            place: Place::Outside,
            recall: stage.told(99.0),
        })?;
    }
    Ok(scene.rows()?.into_iter().map(Line::Row).collect())
}
