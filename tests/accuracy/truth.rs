//! The truth, as the load generators wrote it (`load/truth.h`), and the flow records that an exporter
//! would have made of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use procflow_core::{Endpoint, FlowKey, Interval, Protocol, Timestamp};

/// Who acted at one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Actor {
    /// A process: its pid, and field 22 of `/proc/PID/stat`, in clock ticks.
    Process { pid: u32, start: u64 },
    /// The kernel itself.
    Kernel,
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Process { pid, start } => write!(f, "pid {pid} started at tick {start}"),
            Self::Kernel => f.write_str("the kernel"),
        }
    }
}

/// Which end it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Client,
    Server,
}

/// One end of a conversation; one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    pub actor: Actor,
    pub role: Role,
    pub protocol: Protocol,
    pub local: Endpoint,
    pub remote: Endpoint,
    pub open: Timestamp,
    pub close: Timestamp,
    /// The same at both ends, or 0.
    pub id: u64,
}

impl End {
    /// Reads one line.
    pub fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let [actor, role, protocol, local, lport, remote, rport, pid, start, _, times @ .., id] =
            words.as_slice()
        else {
            return None;
        };
        let [open, close, open_boot, close_boot] = times else { return None };
        let actor = match *actor {
            "process" => Actor::Process { pid: pid.parse().ok()?, start: start.parse().ok()? },
            "kernel" => Actor::Kernel,
            _ => return None,
        };
        let role = match *role {
            "client" => Role::Client,
            "server" => Role::Server,
            _ => return None,
        };
        let endpoint = |address: &str, port: &str| {
            Some(Endpoint::new(address.parse::<IpAddr>().ok()?, port.parse().ok()?))
        };
        let time = |text: &str| Some(Timestamp(text.parse().ok()?));
        let (Some(_), Some(_)) = (time(open_boot), time(close_boot)) else { return None };
        Some(Self {
            actor,
            role,
            protocol: Protocol(protocol.parse().ok()?),
            local: endpoint(local, lport)?,
            remote: endpoint(remote, rport)?,
            open: time(open)?,
            close: time(close)?,
            id: id.parse().ok()?,
        })
    }
}

/// Where the record is made: address translation lies between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Where the client is.
    ByTheClient,
    /// Where the server is.
    ByTheServer,
}

/// A flow record, and who really was at its ends (`None` where nobody wrote it down).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    pub key: FlowKey,
    pub interval: Interval,
    pub source: Option<Actor>,
    pub destination: Option<Actor>,
}

/// The truth is not whole: the generators, or the suite, are to blame, and nothing can be scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotWhole {
    /// No line.
    Empty,
    /// Not a line of the truth.
    Line(String),
    /// An end whose other end wrote nothing down.
    OneEnded(u64),
    /// Two conversations with one id.
    Twice(u64),
}

impl std::fmt::Display for NotWhole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("the truth is empty"),
            Self::Line(line) => write!(f, "not a line of the truth: {line:?}"),
            Self::OneEnded(id) => write!(f, "only one end of conversation {id} wrote it down"),
            Self::Twice(id) => write!(f, "two conversations have the id {id}"),
        }
    }
}

impl std::error::Error for NotWhole {}

/// Makes records of the ends: both ends of an id are one record; an end without an id is one by
/// itself. From the first to the last moment that either end knows of.
pub fn flows(text: &str, seen: Seen) -> Result<Vec<Flow>, NotWhole> {
    let mut alone = Vec::new();
    let mut clients = BTreeMap::new();
    let mut servers = BTreeMap::new();
    for line in text.lines() {
        let end = End::parse(line).ok_or_else(|| NotWhole::Line(line.to_owned()))?;
        if end.id == 0 {
            alone.push(Flow {
                key: FlowKey { protocol: end.protocol, source: end.local, destination: end.remote },
                interval: Interval { first: end.open, last: end.close },
                source: Some(end.actor),
                destination: None,
            });
            continue;
        }
        let ends = if end.role == Role::Client { &mut clients } else { &mut servers };
        let id = end.id;
        if ends.insert(id, end).is_some() {
            return Err(NotWhole::Twice(id));
        }
    }
    let mut flows = alone;
    for (id, client) in clients {
        let server = servers.remove(&id).ok_or(NotWhole::OneEnded(id))?;
        let (mut source, mut destination) = match seen {
            Seen::ByTheClient => (client.local, client.remote),
            Seen::ByTheServer => (server.remote, server.local),
        };
        // An unconnected socket does not know the address that its datagrams leave from.
        if source.is_wildcard() {
            source = server.remote;
        }
        if destination.is_wildcard() {
            destination = client.remote;
        }
        flows.push(Flow {
            key: FlowKey { protocol: client.protocol, source, destination },
            interval: Interval {
                first: client.open.min(server.open),
                last: client.close.max(server.close),
            },
            source: Some(client.actor),
            destination: Some(server.actor),
        });
    }
    if let Some(id) = servers.into_keys().next() {
        return Err(NotWhole::OneEnded(id));
    }
    if flows.is_empty() {
        return Err(NotWhole::Empty);
    }
    Ok(flows)
}

/// How many pids belonged to more than one process: the proof that pids were reused.
pub fn reused_pids(flows: &[Flow]) -> usize {
    let mut starts: BTreeMap<u32, std::collections::BTreeSet<u64>> = BTreeMap::new();
    for actor in flows.iter().flat_map(|flow| [flow.source, flow.destination]).flatten() {
        if let Actor::Process { pid, start } = actor {
            starts.entry(pid).or_default().insert(start);
        }
    }
    starts.values().filter(|starts| starts.len() > 1).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str =
        "process client 17 0.0.0.0 40000 127.0.0.1 53 77 1234 4026531833 100 200 1 2 9";
    const SERVER: &str =
        "process server 17 127.0.0.1 53 127.0.0.1 40000 88 999 4026531833 150 250 1 2 9";

    fn endpoint(port: u16) -> Endpoint {
        Endpoint::new(std::net::Ipv4Addr::LOCALHOST, port)
    }

    #[test]
    fn both_ends_make_one_record_with_the_address_that_only_the_receiver_knows() {
        let flows = flows(&format!("{CLIENT}\n{SERVER}\n"), Seen::ByTheClient).unwrap();
        assert_eq!(
            flows,
            [Flow {
                key: FlowKey {
                    protocol: Protocol::UDP,
                    source: endpoint(40000),
                    destination: endpoint(53),
                },
                interval: Interval { first: Timestamp(100), last: Timestamp(250) },
                source: Some(Actor::Process { pid: 77, start: 1234 }),
                destination: Some(Actor::Process { pid: 88, start: 999 }),
            }]
        );
    }

    #[test]
    fn a_missing_end_is_not_the_truth() {
        assert_eq!(flows(CLIENT, Seen::ByTheClient), Err(NotWhole::OneEnded(9)));
        assert_eq!(flows(SERVER, Seen::ByTheClient), Err(NotWhole::OneEnded(9)));
        assert_eq!(flows("", Seen::ByTheClient), Err(NotWhole::Empty));
        assert_eq!(
            flows(&format!("{CLIENT}\n{CLIENT}"), Seen::ByTheClient),
            Err(NotWhole::Twice(9))
        );
    }

    #[test]
    fn half_a_line_is_not_the_truth() {
        let half = &CLIENT[..40];
        assert_eq!(flows(half, Seen::ByTheClient), Err(NotWhole::Line(half.to_owned())));
    }

    #[test]
    fn an_icmp_message_is_a_record_of_its_own() {
        let line = "kernel client 1 10.0.0.2 0 10.0.0.1 771 0 0 1 100 200 1 2 0";
        let flows = flows(line, Seen::ByTheClient).unwrap();
        assert_eq!(flows[0].source, Some(Actor::Kernel));
        assert_eq!(flows[0].key.destination.port(), 771);
        assert_eq!(flows[0].destination, None);
    }

    #[test]
    fn a_pid_with_two_start_times_was_reused() {
        let other = CLIENT.replace(" 1234 ", " 1300 ").replace(" 2 9", " 2 10");
        let server = SERVER.replace(" 2 9", " 2 10");
        let text = format!("{CLIENT}\n{SERVER}\n{other}\n{server}\n");
        assert_eq!(reused_pids(&flows(&text, Seen::ByTheClient).unwrap()), 1);
        let text = format!("{CLIENT}\n{SERVER}\n");
        assert_eq!(reused_pids(&flows(&text, Seen::ByTheClient).unwrap()), 0);
    }
}
