//! Plain metrics, and a classifier that ends a flow when it knows enough: on what the payload begins with,
//! or after so many packets.
//!
//!     cargo run -p procflow-capture --example metric -- capture.pcap

use std::{env, error::Error, path::Path};

use procflow_core::features::Kind;
use procflow_core::flow::{Direction, Record};
use procflow_core::plugin::{Plugin, PluginColumn, Plugins, Shown, Values, Verdict, metric};

mod printed;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [path] = &args[..] else {
        return Err("usage: metric CAPTURE".into());
    };
    let mut plugins = Plugins::default();
    let of_40 =
        metric(
            "packets_of_40_octets",
            |count, packet, _, _| {
                if packet.lengths.ip == 40 { count + 1.0 } else { count }
            },
        );
    plugins.add(of_40.described("packets", "IP packets of 40 octets: TCP without payload"))?;
    let balance = metric("balance", |sum, packet, _, direction| {
        let octets = f64::from(packet.lengths.payload);
        if direction == Direction::Forward { sum + octets } else { sum - octets }
    });
    plugins.add(balance.described("octets", "Payload from the initiator less that to it"))?;
    let hops = metric("least_hop_limit", |least, packet, flow, _| {
        let limit = f64::from(packet.hop_limit);
        if flow.packets() == 1 { limit } else { least.min(limit) }
    });
    plugins.add(hops.described("", "Least hop limit or time to live of its packets"))?;
    plugins.add(Greeting { most: 20, ended: 0 })?;
    printed::print(Path::new(path), &plugins)
}

/// Names a flow by the first octets of payload in it, and ends it then; or after so many packets, when
/// nobody has said anything that is known. What comes after either is a flow of its own, without a name.
#[derive(Clone)]
struct Greeting {
    /// So many packets are waited for.
    most: u64,
    /// Flows that were ended, in this shard.
    ended: u64,
}

/// What some protocols begin with.
const GREETINGS: [(&[u8], &str); 5] = [
    (b"SSH-", "ssh"),
    (b"GET ", "http"),
    (b"POST", "http"),
    (b"HTTP", "http"),
    (b"\x16\x03", "tls"),
];

impl Plugin for Greeting {
    type State = Option<&'static str>;

    fn columns(&self) -> Vec<PluginColumn> {
        let definition = "Which protocol the flow begins as: ssh, http, tls";
        vec![PluginColumn { name: "greeting", unit: "", definition, kind: Kind::Text }]
    }

    /// As many as the longest greeting has.
    fn payload(&self) -> u16 {
        4
    }

    fn begin(&mut self, _: &Shown<'_>) -> Self::State {
        None
    }

    fn update(&mut self, known: &mut Self::State, shown: &Shown<'_>) -> Verdict {
        let greeting = GREETINGS.iter().find(|(octets, _)| shown.payload.starts_with(octets));
        if let Some((_, name)) = greeting {
            *known = Some(name);
            return Verdict::Export((*name).into());
        }
        if shown.flow.packets() >= self.most {
            return Verdict::Export("long enough".into());
        }
        Verdict::GoOn
    }

    fn end(&mut self, known: Self::State, _: &Record, values: &mut Values<'_>) {
        self.ended += u64::from(known.is_some());
        values.push(known);
    }

    /// Each instance has seen the flows of a shard: together they have seen all.
    fn exit(shards: Vec<Self>) {
        let ended: u64 = shards.iter().map(|shard| shard.ended).sum();
        eprintln!("{ended} flows have said which protocol they are");
    }
}
