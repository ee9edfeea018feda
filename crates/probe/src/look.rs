//! A look: one pass over everything that can be seen - the sockets of every network namespace
//! from sock_diag, joined by inode with the processes that hold them.
//!
//! Sockets are listed first and descriptors read after, so that a socket that is listed finds
//! its holder if that lives a millisecond longer.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use procflow_binding::{
    BootTime, Held, Namespace, NamespaceId, Process, ProcessKey, SocketId, Table,
};

use crate::account::{Ended, Glance, Look};
use crate::destroy::{Destroyed, Report};
use crate::namespace::{Home, Places, Refusal, Tools};
use crate::nsid::Numbers;
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
    reports: Reports,
    known: Known,
    /// Processes that were told to have started or changed since the last glance or look.
    stirred: HashSet<u32>,
    /// When something was last told of each namespace, by inode.
    lively: BTreeMap<u64, BootTime>,
    tools: Tools,
    facts: Facts,
    /// Of all namespaces one after the other; kept for its memory.
    entries: Vec<Entry>,
    period: Duration,
    capabilities: Capabilities,
    own_pids: bool,
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
    /// Inodes of those that are there but were not looked into.
    missed: BTreeSet<u64>,
    known: Known,
}

/// The namespaces that were looked into at the last look, by inode.
type Known = BTreeMap<u64, Neighbour>;

/// A namespace, and how it is told that a report comes from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Neighbour {
    id: NamespaceId,
    sender: Sender,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    /// Our own namespace.
    Home,
    /// Another, by its number in our own.
    Number(i32),
    /// Nothing is heard from there.
    Silent,
}

impl Sender {
    fn of(report: &Report) -> Self {
        report.nsid.map_or(Self::Home, Self::Number)
    }
}

/// The namespace that a report comes from.
fn origin(known: &Known, report: &Report) -> Option<(u64, NamespaceId)> {
    let sender = Sender::of(report);
    known
        .iter()
        .find(|(_, neighbour)| neighbour.sender == sender)
        .map(|(&inode, neighbour)| (inode, neighbour.id))
}

/// Reports of ended sockets that no look has been told with yet.
#[derive(Default)]
struct Reports {
    waiting: Vec<Waiting>,
    /// When they were last read.
    drained: BootTime,
}

/// A report with the moments between which the socket ended.
struct Waiting {
    report: Report,
    after: BootTime,
    by: BootTime,
}

impl Waiting {
    fn ended(&self, namespace: Option<NamespaceId>) -> Ended {
        let &Self { report: Report { entry, .. }, after, by } = self;
        let socket = namespace.and_then(|namespace| entry.socket(namespace));
        Ended { id: entry.id, socket, after, by }
    }
}

/// A report comes so much later than the end at most, as far as it is used to say until when a socket
/// was there.
const LATE: u64 = 5_000_000;

/// So many reports at most wait for the next look: what ends in a second on a busy host. More are
/// dropped; those sockets' ends are dated by the look.
const MOST_REPORTS: usize = 65_536;

impl Reports {
    /// All that wait, now that it is known where they come from. A number may pass from a dead
    /// namespace to a new one, so it counts only where it meant the same at the look before, and
    /// means it still or nothing any more.
    fn resolve(&mut self, before: &Known, now: &Known) -> Vec<Ended> {
        let waiting = std::mem::take(&mut self.waiting);
        let resolve = |waiting: Waiting| {
            let was = origin(before, &waiting.report).map(|(_, id)| id);
            let is = origin(now, &waiting.report).map(|(_, id)| id);
            waiting.ended(was.filter(|_| is.is_none() || is == was))
        };
        waiting.into_iter().map(resolve).collect()
    }
}

impl Looks {
    /// Makes sure that sock_diag works and processes can be listed.
    pub(crate) fn open(period: Duration) -> Result<Self, ProbeError> {
        sock_diag::works()?;
        // Before the first listing, so that no process falls between.
        let mut refused = Vec::new();
        let processes = ProcConnector::open().map_err(|error| {
            refused.push(Shortfall::NoProcessEvents { because: error.to_string() });
        });
        let destroyed = Destroyed::open().map_err(|error| {
            refused.push(Shortfall::NoReports { because: error.to_string() });
        });
        let numbers = Numbers::open().ok().filter(|_| destroyed.is_ok());
        let mut looks = Self {
            descriptors: Descriptors::open()?,
            processes: processes.ok(),
            destroyed: destroyed.ok(),
            reports: Reports { drained: clock::now()?, ..Reports::default() },
            known: Known::new(),
            stirred: HashSet::new(),
            lively: BTreeMap::new(),
            tools: Tools { dumps: Dumps::new(), which: Which::All, numbers, unnumbered: None },
            facts: Facts::default(),
            entries: Vec::new(),
            period,
            capabilities: Capabilities::own(),
            own_pids: !sees_all_pids(),
            refused,
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
        self.shortfalls.clear();
        let period = self.period;
        self.shortfalls.push(match Pace::fastest(period, self.is_told()) {
            Some(fastest) => Shortfall::Prompted { period, fastest },
            None => Shortfall::Polled { period },
        });
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
        let deaf = self.destroyed.as_ref().and_then(Destroyed::deaf).map(str::to_owned);
        let unnumbered = self.tools.unnumbered.as_ref().map(ToString::to_string);
        if let Some(because) = deaf.or(unnumbered) {
            self.shortfalls.push(Shortfall::ReportsElsewhere { because });
        }
        for (what, times) in [
            ("processes", self.processes.as_ref().map_or(0, ProcConnector::overruns)),
            ("sockets", self.destroyed.as_ref().map_or(0, Destroyed::overruns)),
        ] {
            if times > 0 {
                self.shortfalls.push(Shortfall::Overrun { what, times });
            }
        }
        self.shortfalls.extend(failed);
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
        let overruns = processes.overruns();
        let read = processes.drain(|event| {
            if let Event::Fork(pid) | Event::Exec(pid) = event {
                self.stirred.insert(pid);
                news = true;
            }
            self.descriptors.told(event);
        });
        if read.is_err() || processes.overruns() != overruns {
            self.descriptors.not_told();
            return true;
        }
        news
    }

    /// Takes in the reports of ended sockets; whether there were any.
    fn hear_of_ends(&mut self) -> bool {
        let Some(destroyed) = &mut self.destroyed else {
            return false;
        };
        let before = self.reports.waiting.len();
        let after = self.reports.drained.minus(LATE);
        // What fails here is found by looking.
        let _ = destroyed.drain(|report| {
            self.reports.waiting.push(Waiting { report, after, by: BootTime(u64::MAX) });
        });
        let Ok(now) = clock::now() else { return false };
        for waiting in self.reports.waiting.iter_mut().skip(before) {
            waiting.by = now;
        }
        self.reports.drained = now;
        let news = self.reports.waiting.len() > before;
        self.reports.waiting.truncate(MOST_REPORTS);
        news
    }

    /// Visits every namespace; fills `entries`, and of `table` the namespaces and addresses.
    fn visit_all(&mut self, table: &mut Table) -> Result<Visited, ProbeError> {
        self.entries.clear();
        let mut sections = Vec::new();
        let mut missed = BTreeSet::new();
        let mut known = Known::new();
        self.tools.which = Which::All;
        self.tools.unnumbered = None;
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
                match home.visit(inode, &place, &mut self.tools, &[], &mut self.entries) {
                    Ok(visit) => {
                        let namespace = Namespace {
                            id: visit.id,
                            inode,
                            name: place.name,
                            initial: inode == initial,
                        };
                        table.namespaces.insert(visit.id, namespace);
                        let sender = match visit.nsid {
                            Some(number) => Sender::Number(number),
                            None if inode == home.inode => Sender::Home,
                            None => Sender::Silent,
                        };
                        known.insert(inode, Neighbour { id: visit.id, sender });
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
        self.note_shortfalls(forbidden, failed);
        Ok(Visited { sections, missed, known })
    }

    /// Finds out in which namespaces something happens: where processes started, and where reports
    /// come from.
    fn find_lively(&mut self, now: BootTime) {
        for pid in std::mem::take(&mut self.stirred) {
            if let Some(inode) = self.descriptors.network(pid) {
                self.lively.insert(inode, now);
            }
        }
        for waiting in &self.reports.waiting {
            if let Some((inode, _)) = origin(&self.known, &waiting.report) {
                self.lively.insert(inode, now);
            }
        }
        let news = u64::try_from(NEWS.as_nanos()).unwrap_or(u64::MAX);
        self.lively.retain(|_, &mut last| now < last.plus(news));
    }

    /// Visits the lively namespaces; what is not to be entered now is left to the next look.
    fn visit_lively(&mut self, glance: &mut Glance) -> Result<Vec<Section>, ProbeError> {
        self.entries.clear();
        self.tools.which = Which::Living;
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
            let (Some(neighbour), Some(place)) =
                (self.known.get(&inode), places.by_inode.remove(&inode))
            else {
                continue;
            };
            let (mine, others): (Vec<Waiting>, Vec<Waiting>) =
                std::mem::take(&mut self.reports.waiting)
                    .into_iter()
                    .partition(|waiting| Sender::of(&waiting.report) == neighbour.sender);
            self.reports.waiting = others;
            let questions: Vec<Exactly> =
                mine.iter().map(|waiting| waiting.report.exactly).collect();
            let visit = home.visit(inode, &place, &mut self.tools, &questions, &mut self.entries);
            match visit {
                Ok(visit) if visit.id == neighbour.id => {
                    glance.namespaces.insert(visit.id);
                    sections.push(Section { namespace: visit.id, end: self.entries.len() });
                    let over = mine.iter().zip(visit.answers).filter(|(_, taken)| !taken);
                    glance.ended.extend(over.map(|(waiting, _)| waiting.ended(Some(visit.id))));
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
                    self.reports.waiting.extend(mine);
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
        self.hear_of_ends() || started
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
        self.not_stranded()?;
        let mut table = Table { time: clock::now()?, ..Table::default() };
        self.hear_of_processes();
        self.descriptors.list(table.time)?;
        self.find_lively(table.time);
        let Visited { sections, missed, known } = self.visit_all(&mut table)?;
        self.find_holders(table.time)?;
        let Joined { sockets, processes } = self.join(&sections, table.time);
        self.facts.retain(|key| processes.contains_key(&key));
        // Collected from a list, the tree is built whole instead of grown.
        table.sockets = sockets.into_iter().collect();
        table.processes = processes;
        let ended = self.reports.resolve(&self.known, &known);
        self.known = known;
        Ok(Look { table, ended, missed })
    }

    fn shortfalls(&self) -> &[Shortfall] {
        &self.shortfalls
    }
}

/// The effective capabilities that matter here (capabilities(7)). In a user namespace they may be
/// there and still not be enough; that is found out by trying.
#[derive(Clone, Copy)]
struct Capabilities(u64);

impl Capabilities {
    const DAC_OVERRIDE: u32 = 1;
    const DAC_READ_SEARCH: u32 = 2;
    const SYS_PTRACE: u32 = 19;
    const SYS_ADMIN: u32 = 21;

    /// Those of this process; none where they are not told.
    fn own() -> Self {
        let status = procfs::process::Process::myself().and_then(|process| process.status());
        Self(status.map_or(0, |status| status.capeff))
    }

    fn has(self, capability: u32) -> bool {
        self.0 & (1 << capability) != 0
    }

    /// What is missing to read the descriptors of every process.
    fn missing_for_descriptors(self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if !self.has(Self::SYS_PTRACE) {
            missing.push("CAP_SYS_PTRACE");
        }
        if !self.has(Self::DAC_READ_SEARCH) && !self.has(Self::DAC_OVERRIDE) {
            missing.push("CAP_DAC_READ_SEARCH");
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_capability_is_named() {
        assert_eq!(
            Capabilities(0).missing_for_descriptors(),
            ["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]
        );
        assert_eq!(Capabilities(1 << 19).missing_for_descriptors(), ["CAP_DAC_READ_SEARCH"]);
        assert!(Capabilities(0x8_0004).missing_for_descriptors().is_empty());
        assert!(!Capabilities(0).has(Capabilities::SYS_ADMIN));
    }
}
