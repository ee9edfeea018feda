//! `tracker query`: who held an endpoint at a moment, as the history on disk tells. It is the same
//! answer that a flow of that moment would get.

use std::fmt::Write;

use procflow_binding::{
    Answer, Attribution, GapCause, Histories, HostId, Owner, Place, PlaceName, Reason, Vantage,
};
use procflow_core::{Endpoint, FlowKey, Interval, Timestamp};
use procflow_store::Reader;
use serde::Serialize;

use crate::args::QueryArgs;
use crate::database::database;
use crate::failure::Failure;
use crate::moment;

/// A question with its answer, for machines: the words are those of the updater's report.
#[derive(Serialize)]
struct Line {
    at: String,
    protocol: u8,
    local: String,
    remote: Option<String>,
    #[serde(flatten)]
    answer: Answer,
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
        let line = Line {
            at: at.to_string(),
            protocol: key.protocol.0,
            local: key.source.to_string(),
            remote: args.remote.map(|remote| Endpoint::from(remote).to_string()),
            answer: Answer::from(&owner),
        };
        // No map keys but strings, so this cannot fail.
        println!("{}", serde_json::to_string(&line).unwrap_or_default());
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
fn place(name: &PlaceName, reader: &Reader) -> Result<Place, Failure> {
    let which = match name {
        PlaceName::Outside => return Ok(Place::Outside),
        PlaceName::Inside(which) => which.clone(),
    };
    let last = reader.incarnations()?.pop();
    let host = last.map_or(HostId([0; 16]), |kept| kept.incarnation.host);
    Ok(Place::Inside(host, which))
}

/// A line with the answer, and one for each process. What a process calls itself is made harmless
/// for a terminal.
fn text(owner: &Owner) -> String {
    let mut text = match owner {
        Owner::Known { .. } => format!("known ({})", owner.why()),
        Owner::Unknown(_) => format!("unknown: {}", owner.why()),
        Owner::Kernel | Owner::Ambiguous { .. } => owner.why(),
    };
    for holder in owner.holders() {
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
