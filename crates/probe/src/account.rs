//! An account of what happened, drawn up from two kinds of evidence: looks, each of which shows all
//! sockets at one moment, and reports of the kernel that a socket ended, which come in between.
//!
//! A look alone dates the end of a socket to between two looks, and misses a socket that came and
//! went there. A report dates it better, and tells of the missed one: that it was there, between
//! which endpoints, and when it was gone - though not who held it. Nobody is named for it.
//!
//! A look may also fail to show a namespace that is still there. For a while it is taken to be as it
//! was; otherwise its flows would be said to be nobody's, or somebody else's who has the same
//! address.
//!
//! No I/O and no clock.

use std::collections::{BTreeMap, BTreeSet};

use procflow_binding::{
    BootTime, Change, Close, Namespace, NamespaceId, Open, Owners, Socket, SocketId, Table, diff,
};

/// One look, and what was reported since the one before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    pub(crate) table: Table,
    /// Read before the look began.
    pub(crate) ended: Vec<Ended>,
    /// Inodes of the namespaces that are there but could not be looked into.
    pub(crate) missed: BTreeSet<u64>,
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

/// How long a namespace that cannot be looked into is taken to be as it was. Long enough for one whose
/// processes all change at once, or whose tables are too busy to be read; short enough that no
/// address is taken for its own long after it was given to another.
const KEPT: u64 = 5_000_000_000;

/// A report comes a little after the end: the kernel makes it in its own time. Measured 1.6 ms; on a busy
/// host it is more. Ten seconds later it is surely no news of a socket whose end was told.
const LATE: u64 = 10_000_000_000;

/// What was told so far.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// The last look, as it was told; `None` before the first.
    table: Option<Table>,
    /// Namespaces that were missed, with the moment of the last look that showed them.
    missing: BTreeMap<NamespaceId, BootTime>,
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
        let Some(before) = self.table.take() else {
            let mut changes = diff(&Table::default(), &mut table);
            changes.push(Change::Listed);
            self.table = Some(table);
            return changes.into_iter().map(|change| (time, change)).collect();
        };
        let ended: BTreeMap<SocketId, Ended> =
            ended.into_iter().map(|ended| (ended.id, ended.within(before.time, time))).collect();
        // When each namespace was really looked into, where that is not the look before.
        let mut shown = self.missing.clone();
        self.keep_missed(&before, &mut table, &missed, &ended);
        shown.retain(|id, _| before.namespaces.contains_key(id));

        let mut early = self.unseen(&before, &table, &ended);
        let mut late = Vec::new();
        for mut change in diff(&before, &mut table) {
            let namespace = |id| {
                let held = before.sockets.get(&id).or_else(|| table.sockets.get(&id));
                held.map(|held| held.socket.namespace())
            };
            let shown = |id| namespace(id).and_then(|namespace| shown.get(&namespace)).copied();
            match &mut change {
                Change::Close(close) => {
                    if let Some(shown) = shown(close.id) {
                        close.last_seen = close.last_seen.min(shown);
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
                Change::Open(Open { id, not_before, .. })
                | Change::Owners(Owners { id, not_before, .. }) => {
                    if let Some(shown) = shown(*id) {
                        *not_before = (*not_before).min(shown);
                    }
                }
                _ => {}
            }
            late.push((time, change));
        }
        // As they happened: an endpoint may pass from one socket to the next. (Stable, so that each
        // opening stays before its closing.)
        early.sort_by_key(|&(time, _)| time);
        early.extend(late);
        self.gone.retain(|_, &mut gone| time < gone.plus(LATE));
        self.table = Some(table);
        early
    }

    /// Keeps, for a while, what was there before in namespaces that were missed.
    fn keep_missed(
        &mut self,
        before: &Table,
        table: &mut Table,
        missed: &BTreeSet<u64>,
        ended: &BTreeMap<SocketId, Ended>,
    ) {
        let now = table.time;
        let is_missed = |namespace: &Namespace| {
            missed.contains(&namespace.inode) && !table.namespaces.contains_key(&namespace.id)
        };
        let candidates: Vec<&Namespace> =
            before.namespaces.values().filter(|namespace| is_missed(namespace)).collect();
        let missing = std::mem::take(&mut self.missing);
        for namespace in candidates {
            let id = namespace.id;
            let shown = missing.get(&id).copied().unwrap_or(before.time);
            if now >= shown.plus(KEPT) {
                continue;
            }
            self.missing.insert(id, shown);
            table.namespaces.insert(id, namespace.clone());
            let addresses = before.addresses.iter().filter(|address| address.namespace == id);
            table.addresses.extend(addresses);
            for (&id, held) in before.sockets.iter().filter(|(_, h)| h.socket.namespace() == id) {
                if ended.contains_key(&id) {
                    continue;
                }
                for owner in &held.owners {
                    if let Some(process) = before.processes.get(owner) {
                        table.processes.entry(*owner).or_insert_with(|| process.clone());
                    }
                }
                table.sockets.insert(id, held.clone());
            }
        }
    }

    /// Sockets that no look showed: they came and went since the look before.
    fn unseen(
        &mut self,
        before: &Table,
        table: &Table,
        ended: &BTreeMap<SocketId, Ended>,
    ) -> Vec<(BootTime, Change)> {
        let mut changes = Vec::new();
        for (&id, ended) in ended {
            // Told to be gone already. A socket ends once, so there will be no other report.
            if self.gone.remove(&id).is_some() {
                continue;
            }
            // Listed still: of a closed TCP connection the kernel keeps the tuple for a minute.
            if before.sockets.contains_key(&id) || table.sockets.contains_key(&id) {
                continue;
            }
            let Some(socket) = ended.socket else { continue };
            if !before.namespaces.contains_key(&socket.namespace()) {
                continue;
            }
            let (at, not_before) = (ended.by, before.time);
            changes.push((at, Change::Open(Open { id, socket, owners: Vec::new(), not_before })));
            changes.push((at, Change::Close(Close { id, last_seen: at })));
        }
        changes
    }
}

impl Ended {
    /// With its moments after one look, and not after the next.
    fn within(self, before: BootTime, now: BootTime) -> Self {
        let by = self.by.max(before.plus(1)).min(now);
        Self { by, after: self.after.min(by), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use procflow_binding::{Address, Held, Process, ProcessKey};
    use procflow_core::{Endpoint, Protocol};
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
        let (id, owners) = (SocketId(port.into()), owners.to_vec());
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
        let missed = [THERE.0 + 100].into();
        Look { table: table(time, &[HERE], sockets), missed, ..Look::default() }
    }

    #[test]
    fn a_missed_namespace_is_as_it_was_for_a_while() {
        let mut account = Account::default();
        let both = table(0, &BOTH, &[(HERE, 1), (THERE, 2)]);
        account.take_in(Look { table: both, ..Look::default() });
        for time in [1, 2, 4_999] {
            assert_eq!(account.take_in(missing(time, &[(HERE, 1)])), [], "{time}");
        }
        // Its sockets were last seen when it was.
        let told = account.take_in(missing(5_000, &[(HERE, 1)]));
        let address = Address { namespace: THERE, address: Ipv4Addr::LOCALHOST.into(), prefix: 8 };
        assert_eq!(
            told,
            [
                (ms(5_000), Change::AddressGone(address)),
                (ms(5_000), close(2, 0)),
                (ms(5_000), Change::NamespaceGone(THERE)),
            ]
        );
        assert!(account.missing.is_empty());
        assert_eq!(account.take_in(missing(5_001, &[(HERE, 1)])), []);
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
        let opened = Open { id, socket, owners: vec![OWNER], not_before: ms(0) };
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
}
