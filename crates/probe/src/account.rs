//! An account of what happened, drawn up from two kinds of evidence: looks, each of which shows all
//! sockets at one moment, and reports of the kernel that a socket ended, which come in between.
//!
//! A look alone dates the end of a socket to between two looks, and misses a socket that came and
//! went there. A report dates it better, and tells of the missed one: that it was there, between
//! which endpoints, and when it was gone - though not who held it. Nobody is named for it.
//!
//! While something happens there are also glances: looks at the namespaces where it happens, and there
//! at living sockets only. (Of a host that makes 100 connections a second, 6,000 closed ones wait
//! in TIME_WAIT.) A glance shows what came, and in whose hands it is; what it does not show may be
//! there all the same.
//!
//! A look may also fail to show a namespace that is still there. While the namespace is taken to be as
//! it was (see `kept.rs`), so are its sockets.
//!
//! No I/O and no clock.

use std::collections::{BTreeMap, BTreeSet};

use procflow_binding::{
    BootTime, Change, Close, Held, MOST_OWNERS, NamespaceId, Open, OwnerSet, Owners, Process,
    ProcessKey, Role, Socket, SocketId, Table, diff,
};
use procflow_core::Protocol;

/// One look, and what was reported since the one before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    pub(crate) table: Table,
    /// Read before the look began.
    pub(crate) ended: Vec<Ended>,
    /// Namespaces of the table that could not be looked into, and are in it as they were.
    pub(crate) missed: BTreeSet<NamespaceId>,
}

/// A look at some namespaces, and there at all sockets but those in TIME_WAIT.
#[derive(Clone, Debug, Default)]
pub(crate) struct Glance {
    pub(crate) time: BootTime,
    pub(crate) namespaces: BTreeSet<NamespaceId>,
    pub(crate) sockets: Vec<(SocketId, Held)>,
    /// Facts of those who hold them.
    pub(crate) processes: BTreeMap<ProcessKey, Process>,
    /// Read before the glance began, without those of which it was seen that their tuples are still
    /// taken.
    pub(crate) ended: Vec<Ended>,
}

/// The kernel's report that a socket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) id: SocketId,
    /// What it was; `None` where it could carry no traffic, or it is not certain in which namespace.
    pub(crate) socket: Option<Socket>,
    /// It was still there at this moment, if it had been there before ...
    pub(crate) after: BootTime,
    /// ... and no longer at this.
    pub(crate) by: BootTime,
}

/// A report comes a little after the end: the kernel makes it in its own time. Measured 1.6 ms; on a busy
/// host it is more. Ten seconds later it is surely no news of a socket whose end was told.
const LATE: u64 = 10_000_000_000;

/// When a namespace was last looked into.
#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    /// And all its sockets were listed.
    whole: BootTime,
    /// And at least all its living ones were.
    living: BootTime,
}

/// What was told so far.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// The last look, as it was told; `None` before the first.
    table: Option<Table>,
    /// When each namespace was last looked into.
    shown: BTreeMap<NamespaceId, Shown>,
    /// Sockets that were told to be gone because a look did not show them, and when. The reports of
    /// their ends may come after that.
    gone: BTreeMap<SocketId, BootTime>,
}

impl Account {
    /// Up to when everything is told; `None` before the first look.
    pub(crate) fn told_until(&self) -> Option<BootTime> {
        self.table.as_ref().map(|table| table.time)
    }

    /// What a look changes, in the order in which it can be applied. The first lists what is there.
    pub(crate) fn take_in(&mut self, look: Look) -> Vec<(BootTime, Change)> {
        let Look { mut table, ended, missed } = look;
        let time = table.time;
        let now = Shown { whole: time, living: time };
        let mut shown: BTreeMap<NamespaceId, Shown> =
            table.namespaces.keys().map(|&id| (id, now)).collect();
        for id in &missed {
            shown.insert(*id, self.shown.get(id).copied().unwrap_or_default());
        }
        let Some(before) = self.table.take() else {
            let mut changes = diff(&Table::default(), &mut table);
            changes.push(Change::Listed);
            (self.table, self.shown) = (Some(table), shown);
            return changes.into_iter().map(|change| (time, change)).collect();
        };
        let ended = Ended::by_id(ended, before.time, time);
        keep_missed(&before, &mut table, &missed, &ended);

        let mut early = Vec::new();
        for (&id, ended) in &ended {
            // Listed still: of a closed TCP connection the kernel keeps the tuple for a minute.
            if !before.sockets.contains_key(&id) && !table.sockets.contains_key(&id) {
                early.extend(self.unseen(&before, ended));
            }
        }
        let mut late = Vec::new();
        for mut change in diff(&before, &mut table) {
            match &mut change {
                Change::Close(close) => {
                    let held = before.sockets.get(&close.id);
                    if let Some(shown) = held.and_then(|held| self.shown_of(&held.socket)) {
                        close.last_seen = close.last_seen.min(shown.whole);
                    }
                    // One that is listed all the same became another: a connected socket, say.
                    let ended = ended.get(&close.id);
                    if let Some(ended) = ended.filter(|_| !table.sockets.contains_key(&close.id)) {
                        close.last_seen = close.last_seen.max(ended.after);
                        early.push((ended.by, change));
                        continue;
                    }
                    self.gone.insert(close.id, time);
                }
                Change::Open(Open { socket, owners, not_before, .. }) => {
                    if let Some(shown) = self.shown_of(socket) {
                        // Nobody's connection may be one that no glance would have shown.
                        let living = socket.role() != Role::Connected || !owners.is_empty();
                        let since = if living { shown.living } else { shown.whole };
                        *not_before = (*not_before).min(since);
                    }
                }
                Change::Owners(Owners { id, not_before, .. }) => {
                    let held = before.sockets.get(id);
                    if let Some(shown) = held.and_then(|held| self.shown_of(&held.socket)) {
                        *not_before = (*not_before).min(shown.living);
                    }
                }
                _ => {}
            }
            late.push((time, change));
        }
        self.gone.retain(|_, &mut gone| time < gone.plus(LATE));
        (self.table, self.shown) = (Some(table), shown);
        in_order(early, late)
    }

    /// What a glance changes, in the order in which it can be applied. Before the first look it says
    /// nothing.
    pub(crate) fn glance(&mut self, glance: Glance) -> Vec<(BootTime, Change)> {
        let Some(mut table) = self.table.take() else {
            return Vec::new();
        };
        let Glance { time, namespaces, mut sockets, processes, ended } = glance;
        sockets.retain(|(_, held)| table.namespaces.contains_key(&held.socket.namespace()));
        let listed: BTreeSet<SocketId> = sockets.iter().map(|&(id, _)| id).collect();
        let mut early = Vec::new();
        for (id, ended) in Ended::by_id(ended, table.time, time) {
            if listed.contains(&id) {
                continue;
            }
            if let Some(held) = table.sockets.remove(&id) {
                let shown = self.shown_of(&held.socket).map_or(BootTime(0), |shown| shown.whole);
                let last_seen = ended.after.max(shown).min(ended.by);
                early.push((ended.by, Change::Close(Close { id, last_seen })));
            } else {
                early.extend(self.unseen(&table, &ended));
            }
        }

        let mut late = Vec::new();
        let mut opens = Vec::new();
        for (key, process) in processes {
            if table.processes.get(&key) != Some(&process) {
                table.processes.insert(key, process.clone());
                late.push((time, Change::Process(process)));
            }
        }
        for (id, held) in sockets {
            let not_before = self.shown_of(&held.socket).map_or(BootTime(0), |shown| shown.living);
            let owners = || held.owners.iter().copied().take(MOST_OWNERS).collect();
            match table.sockets.get_mut(&id) {
                Some(was) if was.socket == held.socket => {
                    // An orphaned socket keeps its last owners.
                    if !held.owners.is_empty() && was.owners != held.owners {
                        let owners = owners();
                        opens.push((time, Change::Owners(Owners { id, owners, not_before })));
                        was.owners = held.owners;
                    }
                }
                was => {
                    if was.is_some() {
                        let last_seen = not_before;
                        late.push((time, Change::Close(Close { id, last_seen })));
                    }
                    let (socket, owners) = (held.socket, owners());
                    opens.push((time, Change::Open(Open { id, socket, owners, not_before })));
                    table.sockets.insert(id, held);
                }
            }
        }
        let displaced = displaced(&table, &opens);
        for id in displaced {
            let held = table.sockets.remove(&id);
            let shown = held.and_then(|held| self.shown_of(&held.socket));
            let last_seen = shown.map_or(BootTime(0), |shown| shown.whole);
            late.push((time, Change::Close(Close { id, last_seen })));
            self.gone.insert(id, time);
        }
        late.extend(opens);
        for namespace in namespaces {
            if let Some(shown) = self.shown.get_mut(&namespace) {
                shown.living = time;
            }
        }
        table.time = time;
        self.table = Some(table);
        in_order(early, late)
    }

    fn shown_of(&self, socket: &Socket) -> Option<Shown> {
        self.shown.get(&socket.namespace()).copied()
    }

    /// A socket that nothing showed came and went since the look before.
    fn unseen(&mut self, before: &Table, ended: &Ended) -> Vec<(BootTime, Change)> {
        let &Ended { id, by, .. } = ended;
        // Told to be gone already. A socket ends once, so there will be no other report.
        let told = self.gone.remove(&id).is_some();
        let known = |socket: &Socket| before.namespaces.contains_key(&socket.namespace());
        let Some(socket) = ended.socket.filter(|socket| !told && known(socket)) else {
            return Vec::new();
        };
        // It may have been one that no glance would have shown.
        let not_before = self.shown_of(&socket).map_or(BootTime(0), |shown| shown.whole);
        let open = Open { id, socket, owners: OwnerSet::new(), not_before };
        vec![(by, Change::Open(open)), (by, Change::Close(Close { id, last_seen: by }))]
    }
}

/// Keeps the sockets of namespaces that were missed, but those that were reported to have ended.
fn keep_missed(
    before: &Table,
    table: &mut Table,
    missed: &BTreeSet<NamespaceId>,
    ended: &BTreeMap<SocketId, Ended>,
) {
    if missed.is_empty() {
        return;
    }
    let stays = |id: &SocketId, held: &Held| {
        missed.contains(&held.socket.namespace()) && !ended.contains_key(id)
    };
    for (&id, held) in before.sockets.iter().filter(|(id, held)| stays(id, held)) {
        for owner in &held.owners {
            if let Some(process) = before.processes.get(owner) {
                table.processes.entry(*owner).or_insert_with(|| process.clone());
            }
        }
        table.sockets.insert(id, held.clone());
    }
}

/// Connections whose tuple is another's now: in TIME_WAIT, they gave way to it.
fn displaced(table: &Table, opens: &[(BootTime, Change)]) -> Vec<SocketId> {
    let new: BTreeMap<Socket, SocketId> = opens
        .iter()
        .filter_map(|(_, change)| match change {
            Change::Open(Open { id, socket, .. })
                if socket.role() == Role::Connected && socket.protocol() == Protocol::TCP =>
            {
                Some((*socket, *id))
            }
            _ => None,
        })
        .collect();
    if new.is_empty() {
        return Vec::new();
    }
    let others = table.sockets.iter();
    others
        .filter(|&(id, held)| new.get(&held.socket).is_some_and(|new| new != id))
        .map(|(&id, _)| id)
        .collect()
}

/// What was reported as it happened, for an endpoint may pass from one socket to the next; then what
/// the look showed. (The sort is stable, so that each opening stays before its closing.)
fn in_order(
    mut early: Vec<(BootTime, Change)>,
    late: Vec<(BootTime, Change)>,
) -> Vec<(BootTime, Change)> {
    early.sort_by_key(|&(time, _)| time);
    early.extend(late);
    early
}

impl Ended {
    /// With their moments after one look, and not after the next.
    fn by_id(all: Vec<Self>, before: BootTime, now: BootTime) -> BTreeMap<SocketId, Self> {
        let within = |ended: Self| {
            let by = ended.by.max(before.plus(1)).min(now);
            Self { by, after: ended.after.min(by), ..ended }
        };
        all.into_iter().map(|ended| (ended.id, within(ended))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use procflow_binding::{Address, Namespace};
    use procflow_core::Endpoint;
    use std::net::Ipv4Addr;

    const MS: u64 = 1_000_000;
    const HERE: NamespaceId = NamespaceId(1);
    const THERE: NamespaceId = NamespaceId(2);
    const OWNER: ProcessKey = ProcessKey { pid: 7, start: BootTime(5) };

    fn ms(time: u64) -> BootTime {
        BootTime(time * MS)
    }

    fn connection(namespace: NamespaceId, port: u16) -> Socket {
        let end = |port| Endpoint::new(Ipv4Addr::LOCALHOST, port);
        Socket::connected(namespace, Protocol::TCP, end(port), end(80))
    }

    /// A look at `time` at these namespaces; each socket is its own port there.
    fn table(time: u64, namespaces: &[NamespaceId], sockets: &[(NamespaceId, u16)]) -> Table {
        let namespace = |&id: &NamespaceId| {
            (id, Namespace { id, inode: id.0 + 100, name: None, initial: id == HERE })
        };
        let address = |&namespace: &NamespaceId| Address {
            namespace,
            address: Ipv4Addr::LOCALHOST.into(),
            prefix: 8,
        };
        let held = |&(namespace, port): &(NamespaceId, u16)| {
            let held = Held { socket: connection(namespace, port), owners: [OWNER].into() };
            (SocketId(port.into()), held)
        };
        let process = Process {
            key: OWNER,
            comm: "curl".into(),
            executable: None,
            uid: None,
            user: None,
            container: None,
            unit: None,
        };
        Table {
            time: ms(time),
            namespaces: namespaces.iter().map(namespace).collect(),
            addresses: namespaces.iter().map(address).collect(),
            sockets: sockets.iter().map(held).collect(),
            processes: [(OWNER, process)].into(),
        }
    }

    fn look(time: u64, ports: &[u16]) -> Look {
        let sockets: Vec<_> = ports.iter().map(|&port| (HERE, port)).collect();
        Look { table: table(time, &[HERE], &sockets), ..Look::default() }
    }

    fn ended(port: u16, after: u64, by: u64) -> Ended {
        let socket = Some(connection(HERE, port));
        Ended { id: SocketId(port.into()), socket, after: ms(after), by: ms(by) }
    }

    fn close(port: u16, last_seen: u64) -> Change {
        Change::Close(Close { id: SocketId(port.into()), last_seen: ms(last_seen) })
    }

    fn open(port: u16, owners: &[ProcessKey], not_before: u64) -> Change {
        let socket = connection(HERE, port);
        let (id, owners) = (SocketId(port.into()), owners.into());
        Change::Open(Open { id, socket, owners, not_before: ms(not_before) })
    }

    #[test]
    fn the_first_look_lists_and_the_next_differs() {
        let mut account = Account::default();
        assert_eq!(account.told_until(), None);
        let first = account.take_in(Look { ended: vec![ended(9, 1, 2)], ..look(10, &[1]) });
        assert_eq!(first.last(), Some(&(ms(10), Change::Listed)));
        assert!(!first.contains(&(ms(2), close(9, 2))), "from before the beginning");
        assert_eq!(account.told_until(), Some(ms(10)));
        assert_eq!(account.take_in(look(20, &[1])), []);
        let next = account.take_in(look(30, &[2]));
        assert_eq!(next, [(ms(30), close(1, 20)), (ms(30), open(2, &[OWNER], 20))]);
    }

    #[test]
    fn a_report_dates_the_end() {
        let mut account = Account::default();
        account.take_in(look(100, &[1]));
        let told = account.take_in(Look { ended: vec![ended(1, 140, 150)], ..look(200, &[]) });
        assert_eq!(told, [(ms(150), close(1, 140))]);
        // Never to before it was seen, nor to outside of what was not told yet.
        account.take_in(look(300, &[1, 2]));
        let reports = vec![ended(1, 290, 305), ended(2, 0, 0)];
        let told = account.take_in(Look { ended: reports, ..look(400, &[]) });
        let just_after = ms(300).plus(1);
        assert_eq!(told, [(just_after, close(2, 300)), (ms(305), close(1, 300))]);
    }

    #[test]
    fn a_socket_that_no_look_showed_is_nobodys() {
        let mut account = Account::default();
        account.take_in(look(100, &[]));
        let told = account.take_in(Look { ended: vec![ended(3, 140, 150)], ..look(200, &[]) });
        assert_eq!(told, [(ms(150), open(3, &[], 100)), (ms(150), close(3, 150))]);
        assert_eq!(account.take_in(look(300, &[])), []);
    }

    #[test]
    fn a_socket_without_place_or_traffic_is_not_told() {
        let mut account = Account::default();
        account.take_in(look(100, &[]));
        let nowhere = Ended { socket: None, ..ended(3, 140, 150) };
        let elsewhere = Ended { socket: Some(connection(THERE, 4)), ..ended(4, 140, 150) };
        let reports = vec![nowhere, elsewhere];
        assert_eq!(account.take_in(Look { ended: reports, ..look(200, &[]) }), []);
    }

    #[test]
    fn what_lingers_after_its_end_stays_open_until_it_is_gone() {
        let mut account = Account::default();
        account.take_in(look(100, &[1]));
        // TIME_WAIT: the same cookie, and nobody's any more.
        let mut lingering = look(200, &[1, 2]);
        lingering.ended = vec![ended(1, 140, 150), ended(2, 140, 150)];
        lingering.table.sockets.values_mut().for_each(|held| held.owners.clear());
        let told = account.take_in(lingering);
        assert_eq!(told, [(ms(200), open(2, &[], 100))], "the first keeps its owner");
        let told = account.take_in(look(300, &[]));
        assert_eq!(told, [(ms(300), close(1, 200)), (ms(300), close(2, 200))]);
    }

    #[test]
    fn a_report_after_the_fact_is_no_other_socket() {
        let mut account = Account::default();
        account.take_in(look(100, &[1]));
        assert_eq!(account.take_in(look(200, &[])), [(ms(200), close(1, 100))]);
        let late = Look { ended: vec![ended(1, 190, 205)], ..look(300, &[]) };
        assert_eq!(account.take_in(late), []);
        assert!(account.gone.is_empty());
        // What is never reported is forgotten.
        account.take_in(look(400, &[2]));
        account.take_in(look(500, &[]));
        assert_eq!(account.gone.len(), 1);
        account.take_in(look(500 + LATE / MS, &[]));
        assert!(account.gone.is_empty());
    }

    #[test]
    fn an_endpoint_passes_on_in_order() {
        let mut account = Account::default();
        account.take_in(look(100, &[1]));
        // Three sockets on one tuple: one that was seen, one that was not, one that is there.
        let mut reports = vec![ended(2, 140, 150), ended(1, 110, 120)];
        reports[0].socket = Some(connection(HERE, 1));
        let mut now = look(200, &[3]);
        for held in now.table.sockets.values_mut() {
            held.socket = connection(HERE, 1);
        }
        now.ended = reports;
        let told = account.take_in(now);
        let order: Vec<(u64, bool, u64)> = told
            .iter()
            .map(|(time, change)| match change {
                Change::Open(open) => (time.0 / MS, true, open.id.0),
                Change::Close(close) => (time.0 / MS, false, close.id.0),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(order, [(120, false, 1), (150, true, 2), (150, false, 2), (200, true, 3)]);
    }

    const BOTH: [NamespaceId; 2] = [HERE, THERE];

    /// A look that could not enter the second namespace.
    fn missing(time: u64, sockets: &[(NamespaceId, u16)]) -> Look {
        let missed = [THERE].into();
        Look { table: table(time, &BOTH, sockets), missed, ..Look::default() }
    }

    #[test]
    fn a_missed_namespace_has_the_sockets_that_it_had() {
        let mut account = Account::default();
        let both = table(0, &BOTH, &[(HERE, 1), (THERE, 2)]);
        account.take_in(Look { table: both, ..Look::default() });
        for time in [1, 2, 4_999] {
            assert_eq!(account.take_in(missing(time, &[(HERE, 1)])), [], "{time}");
        }
        // Its sockets were last seen when it was.
        let told = account.take_in(look(5_000, &[1]));
        let address = Address { namespace: THERE, address: Ipv4Addr::LOCALHOST.into(), prefix: 8 };
        assert_eq!(
            told,
            [
                (ms(5_000), Change::AddressGone(address)),
                (ms(5_000), close(2, 0)),
                (ms(5_000), Change::NamespaceGone(THERE)),
            ]
        );
        assert_eq!(account.take_in(look(5_001, &[1])), []);
    }

    #[test]
    fn a_namespace_that_comes_back_was_not_watched_meanwhile() {
        let mut account = Account::default();
        let both = table(0, &BOTH, &[(THERE, 2)]);
        account.take_in(Look { table: both, ..Look::default() });
        account.take_in(missing(100, &[]));
        account.take_in(missing(200, &[]));
        let back = table(300, &BOTH, &[(THERE, 3)]);
        let told = account.take_in(Look { table: back, ..Look::default() });
        let (socket, id) = (connection(THERE, 3), SocketId(3));
        let opened = Open { id, socket, owners: [OWNER].into(), not_before: ms(0) };
        assert_eq!(told, [(ms(300), close(2, 0)), (ms(300), Change::Open(opened))]);
        // And is watched as before from then on.
        let back = table(400, &BOTH, &[]);
        let told = account.take_in(Look { table: back, ..Look::default() });
        assert_eq!(told, [(ms(400), close(3, 300))]);
    }

    #[test]
    fn a_socket_of_a_missed_namespace_ends_when_reported() {
        let mut account = Account::default();
        let both = table(0, &BOTH, &[(THERE, 2), (THERE, 3)]);
        account.take_in(Look { table: both, ..Look::default() });
        account.take_in(missing(100, &[]));
        let told = account.take_in(Look { ended: vec![ended(2, 140, 150)], ..missing(200, &[]) });
        assert_eq!(told, [(ms(150), close(2, 140))]);
    }

    #[test]
    fn a_namespace_that_is_gone_is_gone() {
        let mut account = Account::default();
        account.take_in(Look { table: table(0, &BOTH, &[]), ..Look::default() });
        let told = account.take_in(look(100, &[]));
        assert!(told.contains(&(ms(100), Change::NamespaceGone(THERE))));
    }

    fn glance(time: u64, ports: &[u16]) -> Glance {
        let Table { time, sockets, processes, .. } = look(time, ports).table;
        let sockets = sockets.into_iter().collect();
        Glance { time, namespaces: [HERE].into(), sockets, processes, ..Glance::default() }
    }

    #[test]
    fn a_glance_shows_what_came_and_not_what_went() {
        let mut account = Account::default();
        assert_eq!(account.glance(glance(5, &[1])), []);
        account.take_in(look(100, &[1]));
        let told = account.glance(glance(110, &[2]));
        assert_eq!(told, [(ms(110), open(2, &[OWNER], 100))]);
        assert_eq!(account.told_until(), Some(ms(110)));
        let told = account.glance(glance(120, &[1, 2, 3]));
        assert_eq!(told, [(ms(120), open(3, &[OWNER], 110))]);
        // Only a look knows that they are gone; it listed the first, and a glance the others.
        let told = account.take_in(look(200, &[2]));
        assert_eq!(told, [(ms(200), close(1, 100)), (ms(200), close(3, 100))]);
    }

    #[test]
    fn a_glance_tells_of_reported_ends() {
        let mut account = Account::default();
        account.take_in(look(100, &[1, 2]));
        let reports = vec![ended(1, 95, 108), ended(2, 95, 108), ended(3, 95, 108)];
        // The second is listed: it lingers.
        let told = account.glance(Glance { ended: reports, ..glance(110, &[2]) });
        assert_eq!(
            told,
            [(ms(108), close(1, 100)), (ms(108), open(3, &[], 100)), (ms(108), close(3, 108)),]
        );
        assert_eq!(account.take_in(look(200, &[2])), []);
    }

    #[test]
    fn a_glance_tells_of_new_hands_and_facts() {
        let mut account = Account::default();
        account.take_in(look(100, &[1]));
        let mut now = glance(110, &[1]);
        let other = ProcessKey { pid: 8, ..OWNER };
        let mut facts = now.processes[&OWNER].clone();
        facts.key = other;
        now.processes = [(other, facts.clone())].into();
        now.sockets[0].1.owners = [other].into();
        let told = account.glance(now);
        let owners = Owners { id: SocketId(1), owners: [other].into(), not_before: ms(100) };
        assert_eq!(told, [(ms(110), Change::Process(facts)), (ms(110), Change::Owners(owners))]);
        // Nobody seen to hold it is no news.
        let mut orphaned = glance(120, &[1]);
        orphaned.sockets[0].1.owners.clear();
        assert_eq!(account.glance(orphaned), []);
    }

    #[test]
    fn a_connection_in_time_wait_gives_way_to_the_next_on_its_tuple() {
        let mut account = Account::default();
        account.take_in(look(100, &[1]));
        let mut next = glance(110, &[2]);
        next.sockets[0].1.socket = connection(HERE, 1);
        let told = account.glance(next);
        let [(_, Change::Close(closed)), (_, Change::Open(opened))] = &told[..] else {
            panic!("{told:?}");
        };
        assert_eq!((closed.id, opened.id), (SocketId(1), SocketId(2)));
        let mut same = look(200, &[2]);
        same.table.sockets.values_mut().for_each(|held| held.socket = connection(HERE, 1));
        assert_eq!(account.take_in(same), []);
    }

    #[test]
    fn a_connection_that_only_a_look_can_show_is_not_dated_by_a_glance() {
        let mut account = Account::default();
        account.take_in(look(100, &[]));
        account.glance(glance(150, &[]));
        let mut lingering = look(200, &[1, 2]);
        if let Some(held) = lingering.table.sockets.get_mut(&SocketId(1)) {
            held.owners.clear();
        }
        let told = account.take_in(lingering);
        assert_eq!(told, [(ms(200), open(1, &[], 100)), (ms(200), open(2, &[OWNER], 150))]);
    }
}
