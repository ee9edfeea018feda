//! Deciding what is written into the flows of a file. The join is asked about many of them at a time, and
//! what is written for a process is put together once.
//!
//! What a name looks like is the sink's matter.

use procflow_binding::{Attribution, Found, Join, One, Owner, Quality, Reason};
use procflow_core::{Endpoint, FlowKey, Interval, Protocol, Timestamp};
use procflow_nfdump::{Flow, UserName};
use procflow_sink::{MOST, Miss, Template, name, name_of};

use crate::report::Report;
use crate::summary::Summary;

/// What the user wants to have written.
#[derive(Clone, Copy)]
pub(crate) struct Wish<'a> {
    pub(crate) template: &'a Template,
    pub(crate) miss: Miss,
    /// Other names that are there already give way.
    pub(crate) replace: bool,
}

/// Decides for the flows of one file.
pub(crate) struct Decider<'a> {
    join: &'a Join<'a>,
    wish: Wish<'a>,
    /// The file is looked at again: no flow gets a name that a better one would have to replace.
    again: bool,
    /// A tracker does not answer now, and may know more.
    missing: bool,
    report: Option<(&'a mut Report, String)>,
    seen: Summary,
    /// Ends that are one process', alone, and ends beside them that no tracked place has; counted apart
    /// because they are nearly all.
    exact: u64,
    elsewhere: u64,
    /// What stands between the names of both ends.
    between: UserName,
    /// What is written for a process, by [`One::number`].
    names: Vec<Option<Box<UserName>>>,
}

impl<'a> Decider<'a> {
    /// For one file, of which `report` is told under its name.
    pub(crate) fn new(
        join: &'a Join<'a>,
        wish: Wish<'a>,
        (again, missing): (bool, bool),
        report: Option<(&'a mut Report, String)>,
    ) -> Self {
        let mut between = UserName::new();
        between.set(">");
        Self {
            between,
            join,
            wish,
            again,
            missing,
            report,
            seen: Summary::default(),
            exact: 0,
            elsewhere: 0,
            names: vec![None; join.numbers()],
        }
    }

    /// What was decided.
    pub(crate) fn finish(mut self) -> Summary {
        self.seen.ends.add(true, Quality::Exact.to_string(), self.exact);
        self.seen.ends.add(false, Reason::NotThisHost.to_string(), self.elsewhere);
        self.seen
    }

    /// Names some flows. The names are empty; those that stay so are not written.
    pub(crate) fn decide(&mut self, flows: &[Flow<'_>], names: &mut [UserName]) {
        let join = self.join;
        join.attribute_all(
            flows.len(),
            |at| asked(&flows[at]),
            |at, ends| {
                self.seen.flows.read += 1;
                let (flow, name) = (&flows[at], &mut names[at]);
                if flow.anonymised {
                    self.seen.flows.anonymised += 1;
                } else if !self.plain(flow, &ends, name) {
                    let [source, destination] = ends.map(|end| join.owner(end));
                    self.other(flow, Attribution { source, destination }, name);
                }
            },
        );
    }

    /// Names a flow of which each end is one process', or nobody's here (and if both are, does not);
    /// whether it is such a flow.
    fn plain(&mut self, flow: &Flow<'_>, ends: &[Found; 2], name: &mut UserName) -> bool {
        let unheard = self.again && self.missing;
        if flow.user_name.is_some() || self.report.is_some() || unheard {
            return false;
        }
        for end in ends {
            if let Found::One(one) = end {
                self.learn(one);
            }
        }
        match ends {
            [Found::One(source), Found::One(destination)] => {
                let (sender, receiver) = (self.known(source), self.known(destination));
                if sender.as_bytes().len() + 1 + receiver.as_bytes().len() > MOST {
                    return false;
                }
                name.append_name(sender);
                name.append_name(&self.between);
                name.append_name(receiver);
                self.exact += 2;
            }
            [Found::One(one), Found::Elsewhere] | [Found::Elsewhere, Found::One(one)] => {
                name.append_name(self.known(one));
                self.exact += 1;
                self.elsewhere += 1;
            }
            [Found::Elsewhere, Found::Elsewhere] if self.wish.miss == Miss::Nothing => {
                self.elsewhere += 2;
                return true;
            }
            _ => return false,
        }
        self.seen.flows.attributed += 1;
        self.seen.flows.named += 1;
        true
    }

    /// Has what is written for a process ready.
    #[inline]
    fn learn(&mut self, one: &One) {
        if self.names[one.number()].is_none() {
            let text = name_of(&self.join.owner(Found::One(*one)), self.wish.template, MOST);
            let name = self.names[one.number()].insert(Box::default());
            name.set(&text);
        }
    }

    /// What is written for a process, if it was learnt.
    #[inline]
    fn known(&self, one: &One) -> &UserName {
        self.names[one.number()].as_deref().unwrap_or(&NOTHING)
    }

    fn other(&mut self, flow: &Flow<'_>, answer: Attribution, name_out: &mut UserName) {
        self.seen.count(&answer);
        let waits = self.again && may_get_better(&answer, self.missing);
        let name = name(&answer, self.wish.template, self.wish.miss).filter(|_| !waits);
        if let Some((report, file)) = &mut self.report {
            report.add(file, flow, &asked(flow).0, &answer, name.as_deref());
        }
        let flows = &mut self.seen.flows;
        match (name, flow.user_name) {
            (None, there) => flows.foreign_names_kept += u64::from(there.is_some()),
            (Some(name), Some(there)) if there == name.as_bytes() => flows.already_named += 1,
            (Some(_), Some(_)) if !self.wish.replace => flows.foreign_names_kept += 1,
            (Some(name), there) => {
                flows.named += u64::from(there.is_none());
                flows.foreign_names_replaced += u64::from(there.is_some());
                name_out.set(&name);
            }
        }
    }
}

static NOTHING: UserName = UserName::new();

/// What the join is asked about a flow.
fn asked(flow: &Flow<'_>) -> (FlowKey, Interval) {
    let key = FlowKey {
        protocol: Protocol(flow.protocol),
        source: Endpoint::new(flow.source, flow.source_port),
        destination: Endpoint::new(flow.destination, flow.destination_port),
    };
    let interval = Interval {
        first: Timestamp::from_millis(flow.first_ms),
        last: Timestamp::from_millis(flow.last_ms),
    };
    (key, interval)
}

/// Whether events still to come, or a tracker that is missing now, may say more.
fn may_get_better(answer: &Attribution, missing: bool) -> bool {
    [&answer.source, &answer.destination].into_iter().any(|end| match end {
        Owner::Unknown(Reason::NotYetKnown) => true,
        Owner::Unknown(Reason::NotThisHost) => missing,
        _ => false,
    })
}
