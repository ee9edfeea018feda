//! The process on every row: histories of sockets are asked about each flow that ends. It is the same join
//! that names the flows of nfcapd files.

use procflow_binding::{FlowClock, Histories, Join, Owner, Place, PlaceName, Process, Vantage};
use procflow_core::flow::{Holder, Record};
use procflow_store::read_export;
use smol_str::SmolStr;

use crate::args::Args;
use crate::failure::Failure;

/// What is known of sockets, and where the capture was made.
pub(crate) struct Processes {
    histories: Histories,
    vantage: Vantage,
}

/// Captures count nanoseconds, or microseconds.
const GRANULARITY: u64 = 1000;

impl Processes {
    /// The histories that are named, if any is.
    pub(crate) fn of(args: &Args) -> Result<Option<Self>, Failure> {
        let Some(first) = args.history.first() else { return Ok(None) };
        let files: Result<Vec<_>, _> = args.history.iter().map(|path| read_export(path)).collect();
        let mut files = files?;
        let host = files.first().map(|export| export.header().host);
        files.sort_by_key(|export| export.header().since);
        let mut histories = Histories::default();
        for export in files {
            export.fill(&mut histories)?;
        }
        let place = match (&args.vantage, host) {
            (PlaceName::Inside(which), Some(host)) => {
                if !histories.has_namespace(host, which) {
                    return Err(Failure::NoNamespace(first.clone()));
                }
                Place::Inside(host, which.clone())
            }
            _ => Place::Outside,
        };
        let vantage = Vantage {
            place,
            clock: FlowClock::Host,
            tolerance: u64::try_from(args.tolerance.as_nanos()).unwrap_or(u64::MAX),
            granularity: GRANULARITY,
            icmp_types: true,
        };
        Ok(Some(Self { histories, vantage }))
    }

    /// Ready to be asked.
    pub(crate) fn join(&self) -> Join<'_> {
        self.histories.join(&self.vantage)
    }
}

/// Says who was at both ends of a flow.
pub(crate) fn name(join: &Join<'_>, record: &mut Record) {
    let answer = join.attribute(&record.flow.flow_key(), record.flow.interval());
    record.holders = Some(Box::new([&answer.source, &answer.destination].map(holder)));
}

fn holder(owner: &Owner) -> Holder {
    let all = owner.holders();
    let joined = |fact: &dyn Fn(&Process) -> Option<String>| {
        let facts: Vec<String> = all.iter().filter_map(|holder| fact(&holder.process)).collect();
        (!facts.is_empty()).then(|| facts.join("|"))
    };
    let text = |text: &Option<SmolStr>| text.as_ref().map(ToString::to_string);
    Holder {
        answer: owner.answer(),
        why: owner.why(),
        processes: u32::try_from(all.len()).unwrap_or(u32::MAX),
        pids: all.iter().map(|holder| holder.process.key.pid).collect(),
        name: joined(&|process| Some(process.comm.to_string())),
        executable: joined(&|process| text(&process.executable)),
        user: joined(&|process| {
            text(&process.user).or_else(|| process.uid.map(|uid| uid.to_string()))
        }),
        unit: joined(&|process| text(&process.unit)),
        container: joined(&|process| text(&process.container)),
    }
}
