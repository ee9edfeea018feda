//! What a tracker knows, pulled over its service as an updater on the same host would.

use std::path::Path;

use procflow_binding::{Histories, Incarnation};
use procflow_wire::Delivery;

use crate::Trouble;
use crate::conversation::converse;

/// Everything that the tracker with this state directory tells now.
pub fn pull(state: &Path, port: u16) -> Result<Histories, Trouble> {
    let mut histories = Histories::default();
    let mut of = None;
    converse(state, port, None, |delivery| deliver(delivery, &mut of, &mut histories))?;
    Ok(histories)
}

fn deliver(delivery: Delivery, of: &mut Option<Incarnation>, histories: &mut Histories) {
    if let Delivery::Incarnation(incarnation) = delivery {
        *of = Some(incarnation);
    }
    let Some(incarnation) = of else { return };
    let history = histories.entry(incarnation.host, incarnation.boot);
    match delivery {
        Delivery::Welcome { .. } | Delivery::Incarnation(_) => {}
        Delivery::Ended(until) | Delivery::UpToDate { watched_until: until, .. } => {
            history.watched_until(until);
        }
        Delivery::Dropped(until) => history.dropped(until),
        Delivery::Event(event) => history.apply(event),
    }
}
