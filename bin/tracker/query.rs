//! `tracker query`: who held an endpoint at a moment, as the history on disk tells. It is the same
//! answer that a flow of that moment would get.

use std::fmt::Write;

use procflow_binding::{
    Attribution, GapCause, Histories, Holder, HostId, Owner, Place, Reason, Vantage, WhichNamespace,
};
use procflow_core::{Endpoint, FlowKey, Interval, Timestamp};
use procflow_store::Reader;
use serde::Serialize;
use smol_str::SmolStr;

use crate::args::{QueryArgs, VantageName};
use crate::database::database;
use crate::failure::Failure;
use crate::moment;

/// One end's answer, for machines: the words are those of the updater's report.
#[derive(Serialize)]
struct Answer {
    at: String,
    protocol: u8,
    local: String,
    remote: Option<String>,
    /// known, kernel, ambiguous or unknown.
    answer: &'static str,
    /// The quality, or why not.
    why: String,
    /// Who; for an ambiguous one all who fit.
    processes: Vec<Who>,
}

#[derive(Serialize)]
struct Who {
    host: String,
    boot: String,
    namespace: u64,
    pid: u32,
    /// Nanoseconds after the boot.
    start: u64,
    comm: SmolStr,
    executable: Option<SmolStr>,
    uid: Option<u32>,
    user: Option<SmolStr>,
    container: Option<SmolStr>,
    unit: Option<SmolStr>,
}

/// Answers one question.
pub(crate) fn query(args: &QueryArgs) -> Result<(), Failure> {
    let reader = Reader::open(&database(args.state.as_deref())?)?;
    let at = args.at.resolve(moment::now());
    let tolerance = u64::try_from(args.tolerance.as_nanos()).unwrap_or(u64::MAX);
    let vantage = Vantage {
        place: place(&args.vantage, &reader)?,
        clock: procflow_binding::FlowClock::Host,
        tolerance,
        // A moment is one.
        granularity: 0,
        icmp_types: false,
    };
    let mut histories = Histories::default();
    let mut of = None;
    let since = Timestamp(at.0.saturating_sub_unsigned(tolerance));
    let until = Timestamp(at.0.saturating_add_unsigned(tolerance));
    reader.between(since, until, |told| {
        told.fill(&mut of, &mut histories);
        Ok::<_, Failure>(())
    })?;
    // Without a peer: whoever takes what is sent to that endpoint by anybody.
    let nobody = match args.local.ip() {
        std::net::IpAddr::V4(_) => Endpoint::new(std::net::Ipv4Addr::UNSPECIFIED, 0),
        std::net::IpAddr::V6(_) => Endpoint::new(std::net::Ipv6Addr::UNSPECIFIED, 0),
    };
    let key = FlowKey {
        protocol: args.proto,
        source: args.local.into(),
        destination: args.remote.map_or(nobody, Endpoint::from),
    };
    let Attribution { source: mut owner, .. } =
        histories.attribute(&key, Interval { first: at, last: at }, &vantage);
    if of.is_none() {
        owner = Owner::Unknown(silence(&reader, at)?);
    }
    if args.json {
        let answer = Answer {
            at: at.to_string(),
            protocol: key.protocol.0,
            local: key.source.to_string(),
            remote: args.remote.map(|remote| Endpoint::from(remote).to_string()),
            answer: kind(&owner),
            why: why(&owner),
            processes: holders(&owner).iter().map(Who::from).collect(),
        };
        // No map keys but strings, so this cannot fail.
        println!("{}", serde_json::to_string(&answer).unwrap_or_default());
    } else {
        println!("{}", text(&owner));
    }
    Ok(())
}

/// Why nothing at all is told of a moment.
fn silence(reader: &Reader, at: Timestamp) -> Result<Reason, Failure> {
    let known: Vec<_> = reader.incarnations()?.into_iter().filter_map(|kept| kept.real).collect();
    let earlier = known.iter().any(|&(_, until)| until < at);
    let later = known.iter().any(|&(since, _)| since > at);
    Ok(match (earlier, later) {
        (true, true) => Reason::Gap(GapCause::NotRunning),
        (true, false) => Reason::NotYetKnown,
        (false, _) => Reason::BeforeHistory,
    })
}

/// `host` means the host whose tracker wrote last.
fn place(name: &VantageName, reader: &Reader) -> Result<Place, Failure> {
    let which = match name {
        VantageName::Outside => return Ok(Place::Outside),
        VantageName::Host => WhichNamespace::Initial,
        VantageName::Namespace(which) => which.clone(),
    };
    let last = reader.incarnations()?.pop();
    let host = last.map_or(HostId([0; 16]), |kept| kept.incarnation.host);
    Ok(Place::Inside(host, which))
}

fn kind(owner: &Owner) -> &'static str {
    match owner {
        Owner::Known { .. } => "known",
        Owner::Kernel => "kernel",
        Owner::Ambiguous { .. } => "ambiguous",
        Owner::Unknown(_) => "unknown",
    }
}

fn why(owner: &Owner) -> String {
    match owner {
        Owner::Known { quality, .. } => quality.to_string(),
        Owner::Kernel => "kernel".to_owned(),
        Owner::Ambiguous { .. } => "ambiguous".to_owned(),
        Owner::Unknown(reason) => reason.to_string(),
    }
}

fn holders(owner: &Owner) -> &[Holder] {
    match owner {
        Owner::Known { holders, .. } | Owner::Ambiguous { candidates: holders } => holders,
        Owner::Kernel | Owner::Unknown(_) => &[],
    }
}

/// A line with the answer, and one for each process. What a process calls itself is made harmless
/// for a terminal.
fn text(owner: &Owner) -> String {
    let mut text = match owner {
        Owner::Known { .. } => format!("known ({})", why(owner)),
        Owner::Unknown(_) => format!("unknown: {}", why(owner)),
        Owner::Kernel | Owner::Ambiguous { .. } => why(owner),
    };
    for holder in holders(owner) {
        let process = &holder.process;
        let _ = write!(text, "\n  {} pid {}", process.comm.escape_debug(), process.key.pid);
        match (&process.user, process.uid) {
            (Some(user), _) => drop(write!(text, ", user {}", user.escape_debug())),
            (None, Some(uid)) => drop(write!(text, ", uid {uid}")),
            (None, None) => {}
        }
        for (what, fact) in [
            ("", &process.executable),
            ("unit ", &process.unit),
            ("container ", &process.container),
        ] {
            if let Some(fact) = fact {
                let _ = write!(text, ", {what}{}", fact.escape_debug());
            }
        }
    }
    text
}

impl From<&Holder> for Who {
    fn from(holder: &Holder) -> Self {
        let process = &holder.process;
        Self {
            host: holder.host.to_string(),
            boot: holder.boot.to_string(),
            namespace: holder.namespace.0,
            pid: process.key.pid,
            start: process.key.start.0,
            comm: process.comm.clone(),
            executable: process.executable.clone(),
            uid: process.uid,
            user: process.user.clone(),
            container: process.container.clone(),
            unit: process.unit.clone(),
        }
    }
}
