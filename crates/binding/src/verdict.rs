//! A verdict is one answer made of what several places said.

use std::collections::BTreeMap;

use crate::attribute::{Holder, Owner, Quality, Reason};
use crate::event::GapCause;
use crate::process::BootId;
use crate::socket::NamespaceId;
use crate::vantage::HostId;

/// What the places said so far.
///
/// A place may be heard several times, once for each stretch that the clock allows; what is known
/// of any of them counts. Two different places are never weighed against each other: an address
/// that both hold says nothing about which of them it was.
#[derive(Default)]
pub(crate) struct Verdict {
    heard: BTreeMap<(HostId, BootId, NamespaceId), Owner>,
}

impl Verdict {
    pub(crate) fn hear(&mut self, place: (HostId, BootId, NamespaceId), answer: Owner) {
        let Some(said) = self.heard.get_mut(&place) else {
            self.heard.insert(place, answer);
            return;
        };
        *said = match (std::mem::replace(said, Owner::Kernel), answer) {
            (a, b) if same_answer(&a, &b) => a,
            // Another reading of the clock falls where nobody watched: it may have been then.
            (Owner::Known { holders, .. }, Owner::Unknown(Reason::Gap(_)))
            | (Owner::Unknown(Reason::Gap(_)), Owner::Known { holders, .. }) => {
                Owner::Known { holders, quality: Quality::Extrapolated }
            }
            // On another reading a socket fits too, and somebody else may have held that one.
            (Owner::Known { holders, .. }, Owner::Unknown(Reason::OwnerNotSeen))
            | (Owner::Unknown(Reason::OwnerNotSeen), Owner::Known { holders, .. }) => {
                Owner::Ambiguous { candidates: holders }
            }
            (Owner::Unknown(a), Owner::Unknown(b)) => Owner::Unknown(worth_more(a, b)),
            // "No socket was there" holds only where it holds on every reading of the clock.
            (Owner::Kernel, Owner::Unknown(reason)) | (Owner::Unknown(reason), Owner::Kernel) => {
                Owner::Unknown(reason)
            }
            (a, Owner::Unknown(_) | Owner::Kernel) => a,
            (Owner::Unknown(_) | Owner::Kernel, b) => b,
            (a, b) => {
                let (mut a, b) = (a.into_holders(), b.into_holders());
                b.into_iter().for_each(|holder| push_new(&mut a, holder));
                Owner::Ambiguous { candidates: a }
            }
        };
    }

    pub(crate) fn speak(mut self) -> Owner {
        // Of several boots of one host, one at most was running: the others have no say. (Other
        // places keep theirs even if their history does not reach the flow: it may have been them.)
        let in_time = |owner: &Owner| {
            !matches!(owner, Owner::Unknown(Reason::BeforeHistory | Reason::NotYetKnown))
        };
        let running: Vec<(HostId, BootId)> = self
            .heard
            .iter()
            .filter(|(_, owner)| in_time(owner))
            .map(|((host, boot, _), _)| (*host, *boot))
            .collect();
        self.heard.retain(|(host, boot, _), owner| {
            in_time(owner) || !running.iter().any(|(h, b)| h == host && b != boot)
        });
        if self.heard.len() < 2 {
            let only = self.heard.pop_first();
            return only.map_or(Owner::Unknown(Reason::NotThisHost), |(_, owner)| owner);
        }
        if self.between_boots() {
            return Owner::Unknown(Reason::Gap(GapCause::NotRunning));
        }
        // Whichever place it was, no process of it was behind this.
        if self.heard.values().all(|owner| *owner == Owner::Kernel) {
            return Owner::Kernel;
        }
        let mut reason = None;
        let mut candidates = Vec::new();
        let mut anyone = false;
        for (_, owner) in self.heard {
            match owner {
                Owner::Unknown(r) => reason = Some(reason.map_or(r, |was| worth_more(was, r))),
                owner => {
                    anyone = true;
                    let holders = owner.into_holders();
                    holders.into_iter().for_each(|holder| push_new(&mut candidates, holder));
                }
            }
        }
        match reason {
            Some(reason) if !anyone => Owner::Unknown(reason),
            _ => Owner::Ambiguous { candidates },
        }
    }
}

impl Verdict {
    /// After all that is known of one boot of a host, and before all that is known of the next.
    fn between_boots(&self) -> bool {
        let says = |what| {
            self.heard
                .iter()
                .filter(move |(_, owner)| **owner == Owner::Unknown(what))
                .map(|((host, boot, _), _)| (host, boot))
        };
        says(Reason::NotYetKnown).any(|(host, boot)| {
            says(Reason::BeforeHistory).any(|(other, next)| host == other && boot != next)
        })
    }
}

/// Of two reasons for one miss, the one that a reader can do something about.
pub(crate) fn worth_more(a: Reason, b: Reason) -> Reason {
    let rank = |reason| match reason {
        Reason::Gap(_) => 5,
        Reason::OwnerNotSeen => 4,
        Reason::NotYetKnown => 3,
        Reason::NotObserved => 2,
        Reason::BeforeHistory => 1,
        Reason::NotThisHost => 0,
    };
    if rank(b) > rank(a) { b } else { a }
}

/// Lists a process that is not listed yet.
pub(crate) fn push_new(holders: &mut Vec<Holder>, holder: Holder) {
    if !holders.iter().any(|known| known.is(&holder)) {
        holders.push(holder);
    }
}

/// Whether two lists name the same processes in the same order.
pub(crate) fn same_holders(a: &[Holder], b: &[Holder]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is(b))
}

fn same_answer(a: &Owner, b: &Owner) -> bool {
    match (a, b) {
        (Owner::Known { holders: a, quality: x }, Owner::Known { holders: b, quality: y }) => {
            x == y && same_holders(a, b)
        }
        (Owner::Ambiguous { candidates: a }, Owner::Ambiguous { candidates: b }) => {
            same_holders(a, b)
        }
        (a, b) => a == b,
    }
}
