//! A look: one pass over everything that can be seen - the sockets of every network namespace
//! from sock_diag, joined by inode with the processes that hold them.
//!
//! Sockets are listed first and descriptors read after, so that a socket that is listed finds
//! its holder if that lives a millisecond longer.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use procflow_binding::{
    BootTime, Change, Gap, GapCause, Held, Namespace, NamespaceId, Process, ProcessKey, SocketId,
    Table,
};

use crate::account::{Ended, Glance, Look};
use crate::capability::Capabilities;
use crate::conntrack::Translations;
use crate::destroy::{Destroyed, Report};
use crate::kept::Kept;
use crate::namespace::{Home, Places, Questions, Refusal, Sockets};
use crate::pace::{NEWS, Pace};
use crate::polled::Taker;
use crate::proc_connector::{Event, ProcConnector};
use crate::process::{Facts, sees_all_pids};
use crate::procfs::Descriptors;
use crate::sock_diag::{self, Dumps, Entry, Exactly, Which};
use crate::source::Shortfall;
use crate::{ProbeError, clock};

/// How often the processes and namespaces are listed anew when a namespace could not be entered
/// because all processes that were known in it had just exited.
const TRIES: usize = 3;

/// Takes looks, and remembers what makes the next one cheap.
pub(crate) struct Looks {
    descriptors: Descriptors,
    /// Where the kernel tells of processes.
    processes: Option<ProcConnector>,
    /// Where it tells of sockets that ended.
    destroyed: Option<Destroyed>,
    kept: Kept,
    /// Processes that were told to have started or changed since the last glance or look.
    stirred: HashSet<u32>,
    /// When something was last told of each namespace, by inode.
    lively: BTreeMap<u64, BootTime>,
    dumps: Dumps,
    translations: Translations,
    facts: Facts,
    /// Of all namespaces one after the other; kept for its memory.
    entries: Vec<Entry>,
    /// From one look to the next; `None` where another decides when to look.
    period: Option<Duration>,
    capabilities: Capabilities,
    own_pids: bool,
    /// Why not a better source.
    worse: Vec<Shortfall>,
    /// What could not be opened.
    refused: Vec<Shortfall>,
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

/// What visiting all namespaces came to.
struct Visited {
    sections: Vec<Section>,
    /// Those that are there but were not looked into, and are taken to be as they were.
    missed: BTreeSet<NamespaceId>,
}

impl Looks {
    /// Looks every `period`, and oftener while the kernel tells that something happens. Makes sure
    /// that sock_diag works and processes can be listed. `worse`: why not a better source.
    pub(crate) fn open(period: Duration, worse: Vec<Shortfall>) -> Result<Self, ProbeError> {
        // Before the first listing, so that no process falls between.
        let mut refused = Vec::new();
        let processes = ProcConnector::open().map_err(|error| {
            refused.push(Shortfall::NoProcessEvents { because: error.to_string() });
        });
        let destroyed = Destroyed::open().map_err(|error| {
            refused.push(Shortfall::NoReports { because: error.to_string() });
        });
        let mut looks = Self::on_demand()?;
        (looks.period, looks.worse, looks.refused) = (Some(period), worse, refused);
        (looks.processes, looks.destroyed) = (processes.ok(), destroyed.ok());
        looks.note_shortfalls(false, Vec::new());
        Ok(looks)
    }

    /// Looks when it is asked to, and is told of translations alone: for a source that is itself told
    /// of processes and sockets, and would be told twice.
    pub(crate) fn on_demand() -> Result<Self, ProbeError> {
        sock_diag::works()?;
        let mut looks = Self {
            descriptors: Descriptors::open()?,
            processes: None,
            destroyed: None,
            kept: Kept::default(),
            stirred: HashSet::new(),
            lively: BTreeMap::new(),
            dumps: Dumps::new(),
            translations: Translations::open(),
            facts: Facts::default(),
            entries: Vec::new(),
            period: None,
            capabilities: Capabilities::own(),
            own_pids: !sees_all_pids(),
            worse: Vec::new(),
            refused: Vec::new(),
            shortfalls: Vec::new(),
            stranded: false,
        };
        looks.descriptors.list(clock::now()?)?;
        looks.descriptors.read_changed();
        looks.note_shortfalls(false, Vec::new());
        Ok(looks)
    }

    /// The namespaces and their addresses, without sockets.
    pub(crate) fn surroundings(&mut self) -> Result<Table, ProbeError> {
        self.not_stranded()?;
        let mut table = Table { time: clock::now()?, ..Table::default() };
        self.hear_of_processes();
        self.descriptors.list(table.time)?;
        self.visit_all(&mut table, None)?;
        Ok(table)
    }

    /// Everything but the connections in TIME_WAIT, which no process holds any more.
    pub(crate) fn living(&mut self) -> Result<Look, ProbeError> {
        self.look(Which::Living)
    }

    /// Writes down what cannot be seen.
    fn note_shortfalls(&mut self, forbidden: bool, failed: Vec<Shortfall>) {
        self.shortfalls.clone_from(&self.worse);
        let told = self.is_told();
        self.shortfalls.extend(self.period.map(|period| match Pace::fastest(period, told) {
            Some(fastest) => Shortfall::Prompted { period, fastest },
            None => Shortfall::Polled { period },
        }));
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
        self.shortfalls.extend(self.refused.iter().cloned());
        if let Some(deaf) = self.destroyed.as_ref().and_then(Destroyed::deaf) {
            self.shortfalls.push(Shortfall::ReportsElsewhere { because: deaf.to_string() });
        }
        self.shortfalls.extend(failed);
        self.shortfalls.extend_from_slice(self.translations.shortfalls());
        for (what, times) in [
            ("processes", self.processes.as_ref().map_or(0, ProcConnector::overruns)),
            ("sockets", self.destroyed.as_ref().map_or(0, Destroyed::overruns)),
        ] {
            if times > 0 {
                self.shortfalls.push(Shortfall::Overrun { what, times });
            }
        }
    }

    fn not_stranded(&self) -> Result<(), ProbeError> {
        if self.stranded {
            return Err(ProbeError::Stranded {
                source: std::io::Error::other("an earlier look did not find the way back"),
            });
        }
        Ok(())
    }

    /// Takes in what the kernel told of processes; whether any started or became another program.
    fn hear_of_processes(&mut self) -> bool {
        let Some(processes) = &mut self.processes else {
            self.descriptors.not_told();
            return false;
        };
        let mut news = false;
        let read = processes.drain(|event| {
            if let Event::Fork(pid) | Event::Exec(pid) = event {
                self.stirred.insert(pid);
                news = true;
            }
            self.descriptors.told(event);
        });
        // What is more is read the next time.
        if read.is_ok_and(|received| !received.lost) {
            return news;
        }
        self.descriptors.not_told();
        true
    }

    /// Visits every namespace; fills of `table` the namespaces and addresses, and with `which`
    /// sockets also `entries`.
    fn visit_all(
        &mut self,
        table: &mut Table,
        which: Option<Which>,
    ) -> Result<Visited, ProbeError> {
        self.entries.clear();
        let mut sections = Vec::new();
        let mut missed = BTreeSet::new();
        if let Some(destroyed) = &mut self.destroyed {
            destroyed.begin_visits();
        }
        let mut failed = Vec::new();
        let mut forbidden = false;
        let mut visited = HashSet::new();
        for attempt in 1..=TRIES {
            let home = Home::here()?;
            let mut places = Places::with_files(&home);
            for (pid, inode) in self.descriptors.networks() {
                places.add_process(inode, pid);
            }
            let initial = self.descriptors.network(1).unwrap_or(home.inode);
            let mut gone = BTreeSet::new();
            for (inode, place) in places.by_inode {
                if !visited.insert(inode) {
                    continue;
                }
                let (dumps, entries) = (&mut self.dumps, &mut self.entries);
                let mut questions = Questions {
                    sockets: which.map(|which| Sockets { dumps, which, entries, single: &[] }),
                    addresses: true,
                    translations: Some(&mut self.translations),
                    reports: self.destroyed.as_mut(),
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
                        gone.insert(inode);
                    }
                    Err(Refusal::Forbidden) => {
                        missed.insert(inode);
                        forbidden = true;
                    }
                    Err(Refusal::Failed(error)) if inode == home.inode => return Err(error),
                    Err(Refusal::Failed(error)) => {
                        missed.insert(inode);
                        failed.push(Shortfall::Namespace { inode, because: error.to_string() });
                    }
                    Err(Refusal::Stranded(error)) => {
                        self.stranded = true;
                        return Err(error);
                    }
                }
            }
            if gone.is_empty() {
                break;
            }
            if attempt == TRIES {
                // Just listed, and still not to be entered: perhaps processes come and go in it.
                missed.extend(gone);
                break;
            }
            // Others may still be in it.
            self.hear_of_processes();
            self.descriptors.list(table.time)?;
        }
        let missed = self.kept.complete(table, &missed);
        self.translations.retain(table.time, |id| table.namespaces.contains_key(&id));
        self.note_shortfalls(forbidden, failed);
        Ok(Visited { sections, missed })
    }

    /// Finds out in which namespaces something happens: where processes started, and where reports
    /// come from.
    fn find_lively(&mut self, now: BootTime) {
        for pid in std::mem::take(&mut self.stirred) {
            if let Some(inode) = self.descriptors.network(pid) {
                self.lively.insert(inode, now);
            }
        }
        let reports = self.destroyed.as_ref().map_or(&[][..], Destroyed::waiting);
        let origins: BTreeSet<NamespaceId> =
            reports.iter().filter_map(|report| report.namespace).collect();
        for inode in origins.into_iter().filter_map(|origin| self.kept.inode(origin)) {
            self.lively.insert(inode, now);
        }
        let news = u64::try_from(NEWS.as_nanos()).unwrap_or(u64::MAX);
        self.lively.retain(|_, &mut last| now < last.plus(news));
    }

    /// Visits the lively namespaces; what is not to be entered now is left to the next look.
    fn visit_lively(&mut self, glance: &mut Glance) -> Result<Vec<Section>, ProbeError> {
        self.entries.clear();
        let home = Home::here()?;
        let mut places = if self.lively.keys().all(|&inode| inode == home.inode) {
            Places::of(&home)
        } else {
            let mut places = Places::with_files(&home);
            for (pid, inode) in self.descriptors.networks() {
                places.add_process(inode, pid);
            }
            places
        };
        let mut sections = Vec::new();
        for &inode in self.lively.keys() {
            let (Some(id), Some(place)) = (self.kept.at(inode), places.by_inode.remove(&inode))
            else {
                continue;
            };
            let reports = self.destroyed.as_mut().map(|destroyed| destroyed.take_from(id));
            let reports = reports.unwrap_or_default();
            let single: Vec<Exactly> = reports.iter().map(|report| report.exactly).collect();
            let (dumps, entries, which) = (&mut self.dumps, &mut self.entries, Which::Living);
            let mut questions = Questions {
                sockets: Some(Sockets { dumps, which, entries, single: &single }),
                addresses: false,
                translations: None,
                reports: None,
                now: glance.time,
            };
            match home.visit(inode, &place, &mut questions) {
                Ok(visit) if visit.id == id => {
                    glance.namespaces.insert(id);
                    sections.push(Section { namespace: id, end: self.entries.len() });
                    let over = reports.iter().zip(visit.taken).filter(|(_, taken)| !taken);
                    glance.ended.extend(over.map(|(report, _)| report.ended()));
                }
                Err(Refusal::Stranded(error)) => {
                    self.stranded = true;
                    return Err(error);
                }
                visited => {
                    if visited.is_ok() {
                        let before = sections.last().map_or(0, |section: &Section| section.end);
                        self.entries.truncate(before);
                    }
                    if let Some(destroyed) = &mut self.destroyed {
                        destroyed.put_back(reports);
                    }
                }
            }
        }
        Ok(sections)
    }

    /// Finds the holders of all listed sockets.
    fn find_holders(&mut self, now: BootTime) -> Result<(), ProbeError> {
        self.hear_of_processes();
        self.descriptors.read_changed();
        let unheld: HashSet<u32> = self
            .entries
            .iter()
            .map(|entry| entry.inode)
            .filter(|&inode| inode != 0 && self.descriptors.holders(inode).is_none())
            .collect();
        self.descriptors.seek(unheld, now)
    }

    /// Joins sockets with holders, and holders with their facts.
    fn join(&mut self, sections: &[Section], now: BootTime) -> Joined {
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
        let owners: BTreeSet<ProcessKey> =
            sockets.iter().flat_map(|(_, held)| held.owners.iter().copied()).collect();
        let mut processes = BTreeMap::new();
        for owner in owners {
            if let Some((birth, user)) = self.descriptors.birth(owner) {
                processes.insert(owner, self.facts.of(birth, user, now).clone());
            }
        }
        Joined { sockets, processes }
    }

    /// Everything, but only `which` sockets.
    fn look(&mut self, which: Which) -> Result<Look, ProbeError> {
        self.not_stranded()?;
        let mut table = Table { time: clock::now()?, ..Table::default() };
        self.hear_of_processes();
        self.descriptors.list(table.time)?;
        self.find_lively(table.time);
        // More come during the look, and are left to the next.
        let reports = self.destroyed.as_ref().map_or(0, |destroyed| destroyed.waiting().len());
        let Visited { sections, missed } = self.visit_all(&mut table, Some(which))?;
        self.find_holders(table.time)?;
        let Joined { sockets, processes } = self.join(&sections, table.time);
        self.facts.retain(|key| processes.contains_key(&key));
        // Collected from a list, the tree is built whole instead of grown.
        table.sockets = sockets.into_iter().collect();
        table.processes = processes;
        let reports = self.destroyed.as_mut().map(|destroyed| destroyed.take_first(reports));
        let ended: Vec<Ended> = reports.iter().flatten().map(Report::ended).collect();
        Ok(Look { table, ended, missed })
    }
}

/// Sockets with their holders, and the facts of these.
struct Joined {
    sockets: Vec<(SocketId, Held)>,
    processes: BTreeMap<ProcessKey, Process>,
}

impl Taker for Looks {
    fn name(&self) -> &'static str {
        "sock_diag"
    }

    fn is_told(&self) -> bool {
        self.processes.is_some() || self.destroyed.is_some()
    }

    fn hear(&mut self) -> bool {
        let started = self.hear_of_processes();
        self.destroyed.as_mut().is_some_and(Destroyed::hear) || started
    }

    fn glance(&mut self) -> Result<Option<Glance>, ProbeError> {
        self.not_stranded()?;
        let mut glance = Glance { time: clock::now()?, ..Glance::default() };
        self.descriptors.list_told(glance.time)?;
        self.find_lively(glance.time);
        if self.lively.is_empty() {
            return Ok(None);
        }
        let sections = self.visit_lively(&mut glance)?;
        self.find_holders(glance.time)?;
        let joined = self.join(&sections, glance.time);
        Ok(Some(Glance { sockets: joined.sockets, processes: joined.processes, ..glance }))
    }

    fn take(&mut self) -> Result<Look, ProbeError> {
        self.look(Which::All)
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
