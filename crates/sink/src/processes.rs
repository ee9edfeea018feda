//! Who was at both ends of a flow, as a record carries it to its columns.

use procflow_binding::{Attribution, Owner, Process, Reason};
use procflow_core::flow::Holder;
use smol_str::SmolStr;

/// What columns tell of both ends, the initiator's first.
#[must_use]
pub fn holders(answer: &Attribution) -> Box<[Holder; 2]> {
    Box::new([&answer.source, &answer.destination].map(holder))
}

/// Whether all that can be known of the flow is told: nothing more is to come of its time.
#[must_use]
pub fn is_told(answer: &Attribution) -> bool {
    let ends = [&answer.source, &answer.destination];
    !ends.into_iter().any(|end| *end == Owner::Unknown(Reason::NotYetKnown))
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
