//! A look: one pass over everything that can be seen - the sockets of every network namespace
//! from sock_diag, joined by inode with the processes that hold them.
//!
//! Sockets are listed first and descriptors read after, so that a socket that is listed finds
//! its holder if that lives a millisecond longer.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use procflow_binding::{
    BootTime, Change, Gap, GapCause, Held, Namespace, NamespaceId, ProcessKey, Table,
};

use crate::capability::Capabilities;
use crate::conntrack::Translations;
use crate::namespace::{Home, Places, Questions, Refusal};
use crate::polled::Taker;
use crate::process::{Facts, sees_all_pids};
use crate::procfs::Descriptors;
use crate::sock_diag::{self, Dumps, Entry};
use crate::source::Shortfall;
use crate::{ProbeError, clock};

/// How often the processes and namespaces are listed anew when a namespace could not be entered
/// because all processes that were known in it had just exited.
const TRIES: usize = 3;

/// Takes looks, and remembers what makes the next one cheap.
pub(crate) struct Looks {
    descriptors: Descriptors,
    dumps: Dumps,
    translations: Translations,
    facts: Facts,
    /// Of all namespaces one after the other; kept for its memory.
    entries: Vec<Entry>,
    period: Duration,
    capabilities: Capabilities,
    own_pids: bool,
    /// Why not a better source.
    worse: Vec<Shortfall>,
    shortfalls: Vec<Shortfall>,
    /// The thread was left in a foreign namespace. Every later answer would be about that one.
    stranded: bool,
}

/// One namespace's part of the entries.
struct Section {
    namespace: NamespaceId,
    /// Where the part ends; it begins where the one before ends.
    end: usize,
}

impl Looks {
    /// Makes sure that sock_diag works and processes can be listed. `worse`: why not a better source.
    pub(crate) fn open(period: Duration, worse: Vec<Shortfall>) -> Result<Self, ProbeError> {
        sock_diag::works()?;
        let mut looks = Self {
            descriptors: Descriptors::open()?,
            dumps: Dumps::new(),
            translations: Translations::open(),
            facts: Facts::default(),
            entries: Vec::new(),
            period,
            capabilities: Capabilities::own(),
            own_pids: !sees_all_pids(),
            worse,
            shortfalls: Vec::new(),
            stranded: false,
        };
        looks.descriptors.list(clock::now()?)?;
        looks.descriptors.read_changed();
        looks.note_shortfalls(false, Vec::new());
        Ok(looks)
    }

    /// Writes down what cannot be seen.
    fn note_shortfalls(&mut self, forbidden: bool, failed: Vec<Shortfall>) {
        self.shortfalls.clone_from(&self.worse);
        let period = self.period;
        self.shortfalls.push(Shortfall::Polled { period });
        let count = self.descriptors.hidden();
        if count > 0 {
            let missing = self.capabilities.missing_for_descriptors();
            self.shortfalls.push(Shortfall::HiddenProcesses { count, missing });
        }
        if forbidden || !self.capabilities.has(Capabilities::SYS_ADMIN) {
            self.shortfalls.push(Shortfall::OtherNamespaces);
        }
        if self.own_pids {
            self.shortfalls.push(Shortfall::PidNamespace);
        }
        self.shortfalls.extend(failed);
        self.shortfalls.extend_from_slice(self.translations.shortfalls());
    }

    /// The namespaces and their addresses, without sockets.
    pub(crate) fn surroundings(&mut self) -> Result<Table, ProbeError> {
        self.refuse_stranded()?;
        let mut table = Table { time: clock::now()?, ..Table::default() };
        self.descriptors.list(table.time)?;
        self.visit_all(&mut table, false)?;
        Ok(table)
    }

    fn refuse_stranded(&self) -> Result<(), ProbeError> {
        if !self.stranded {
            return Ok(());
        }
        let source = std::io::Error::other("an earlier look did not find the way back");
        Err(ProbeError::Stranded { source })
    }

    /// Visits every namespace; fills of `table` the namespaces and addresses, and with `sockets` also
    /// `entries`.
    fn visit_all(&mut self, table: &mut Table, sockets: bool) -> Result<Vec<Section>, ProbeError> {
        self.entries.clear();
        let mut sections = Vec::new();
        let mut failed = Vec::new();
        let mut forbidden = false;
        let mut visited = HashSet::new();
        for _ in 0..TRIES {
            let home = Home::here()?;
            let mut places = Places::with_files(&home);
            for (pid, inode) in self.descriptors.networks() {
                places.add_process(inode, pid);
            }
            let initial = self.descriptors.network(1).unwrap_or(home.inode);
            let mut gone = false;
            for (inode, place) in places.by_inode {
                if !visited.insert(inode) {
                    continue;
                }
                let mut questions = Questions {
                    sockets: sockets.then_some((&mut self.dumps, &mut self.entries)),
                    translations: &mut self.translations,
                    now: table.time,
                };
                match home.visit(inode, &place, &mut questions) {
                    Ok(visit) => {
                        let namespace = Namespace {
                            id: visit.id,
                            inode,
                            name: place.name,
                            initial: inode == initial,
                        };
                        table.namespaces.insert(visit.id, namespace);
                        table.addresses.extend(visit.addresses);
                        sections.push(Section { namespace: visit.id, end: self.entries.len() });
                    }
                    Err(Refusal::Gone) => {
                        visited.remove(&inode);
                        gone = true;
                    }
                    Err(Refusal::Forbidden) => forbidden = true,
                    Err(Refusal::Failed(error)) if inode == home.inode => return Err(error),
                    Err(Refusal::Failed(error)) => {
                        failed.push(Shortfall::Namespace { inode, because: error.to_string() })
                    }
                    Err(Refusal::Stranded(error)) => {
                        self.stranded = true;
                        return Err(error);
                    }
                }
            }
            if !gone {
                break;
            }
            // Others may still be in it.
            self.descriptors.list(table.time)?;
        }
        self.translations.retain(table.time, |id| table.namespaces.contains_key(&id));
        self.note_shortfalls(forbidden, failed);
        Ok(sections)
    }

    /// Finds the holders of all listed sockets.
    fn find_holders(&mut self, table: &Table) -> Result<(), ProbeError> {
        self.descriptors.read_changed();
        let unheld: HashSet<u32> = self
            .entries
            .iter()
            .map(|entry| entry.inode)
            .filter(|&inode| inode != 0 && self.descriptors.holders(inode).is_none())
            .collect();
        self.descriptors.seek(unheld, table.time)
    }

    /// Joins sockets with holders, and holders with their facts.
    fn join(&mut self, sections: &[Section], table: &mut Table) {
        let mut sockets = Vec::with_capacity(self.entries.len());
        let mut begin = 0;
        for section in sections {
            for entry in self.entries.get(begin..section.end).unwrap_or(&[]) {
                if let Some(socket) = entry.socket(section.namespace) {
                    let owners = self.descriptors.holders(entry.inode);
                    let owners = owners.filter(|_| entry.inode != 0).cloned();
                    let held = Held { socket, owners: owners.unwrap_or_default() };
                    sockets.push((entry.id, held));
                }
            }
            begin = section.end;
        }
        // Collected from a list, the tree is built whole instead of grown.
        table.sockets = sockets.into_iter().collect::<BTreeMap<_, _>>();
        let owners: BTreeSet<ProcessKey> =
            table.sockets.values().flat_map(|held| held.owners.iter().copied()).collect();
        for &owner in &owners {
            if let Some((birth, user)) = self.descriptors.birth(owner) {
                let process = self.facts.of(birth, user, table.time).clone();
                table.processes.insert(owner, process);
            }
        }
        self.facts.retain(|key| owners.contains(&key));
    }
}

impl Taker for Looks {
    fn name(&self) -> &'static str {
        "sock_diag"
    }

    fn take(&mut self) -> Result<Table, ProbeError> {
        self.refuse_stranded()?;
        let mut table = Table { time: clock::now()?, ..Table::default() };
        self.descriptors.list(table.time)?;
        let sections = self.visit_all(&mut table, true)?;
        self.find_holders(&table)?;
        self.join(&sections, &mut table);
        Ok(table)
    }

    fn told(&mut self, now: BootTime) -> Vec<(BootTime, Change)> {
        let (mut changes, missed) = self.translations.collect(now);
        changes.extend(missed.map(|missed| {
            // Not `EventsLost`, after which everything would have to be listed again: the
            // translations were compared with those that were told, as the sockets are.
            let (begin, end, cause) = (missed.begin, missed.end, GapCause::SourceFailed);
            (now, Change::Gap(Gap { begin, end, cause }))
        }));
        changes
    }

    fn shortfalls(&self) -> &[Shortfall] {
        &self.shortfalls
    }
}
