//! The histories of all tracked hosts, together: what the join asks.

use std::collections::BTreeMap;

use procflow_core::{FlowKey, Interval, Timestamp};

use crate::attribute::Attribution;
use crate::history::History;
use crate::join::Join;
use crate::process::BootId;
use crate::vantage::{FlowClock, HostId, Vantage, WhichNamespace};

/// The histories of all tracked hosts: one per boot that was heard of.
#[derive(Debug, Default)]
pub struct Histories {
    histories: BTreeMap<(HostId, BootId), History>,
    /// The boot of each host that was heard last.
    current: BTreeMap<HostId, BootId>,
}

impl Histories {
    /// The history of a boot of a host; made empty if there is none. It is the host's current one
    /// from now on.
    pub fn entry(&mut self, host: HostId, boot: BootId) -> &mut History {
        self.current.insert(host, boot);
        self.histories.entry((host, boot)).or_insert_with(|| History::new(host, boot))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &History> {
        self.histories.values()
    }

    /// All of them, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut History> {
        self.histories.values_mut()
    }

    /// Keeps what ended within the last `keep` nanoseconds: of a host's current boot, as its own
    /// clock counts them; of its earlier boots, as real time does (`now`). An earlier boot of which
    /// nothing is left is forgotten; the current one never is, its tracker goes on telling it.
    pub fn prune(&mut self, keep: u64, now: Timestamp, clock: FlowClock) {
        let before = Timestamp(now.0.saturating_sub_unsigned(keep));
        let current = &self.current;
        self.histories.retain(|(host, boot), history| {
            if current.get(host) == Some(boot) {
                history.prune(history.end().minus(keep));
                return true;
            }
            let Some(moment) = history.moment(before, clock) else { return false };
            history.prune(moment);
            moment <= history.end()
        });
    }

    /// Whether a host was ever heard to have such a namespace.
    #[must_use]
    pub fn has_namespace(&self, host: HostId, which: &WhichNamespace) -> bool {
        self.histories.values().any(|history| history.host() == host && history.has(which))
    }

    /// Makes them ready to be asked about many flows that were seen from one vantage.
    #[must_use]
    pub fn join<'a>(&'a self, vantage: &'a Vantage) -> Join<'a> {
        Join::new(self, vantage)
    }

    /// Who was behind both ends of a single flow that was seen from `vantage`; about many ask
    /// [`Histories::join`].
    #[must_use]
    pub fn attribute(&self, key: &FlowKey, interval: Interval, vantage: &Vantage) -> Attribution {
        self.join(vantage).attribute(key, interval)
    }
}
