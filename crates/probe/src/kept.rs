//! The namespaces as they were when each was last looked into, kept for when one cannot be looked
//! into though it is still there: all its processes change at once, or its tables are too
//! busy to be read. For a while it is then taken to be as it was; otherwise its flows would be said to be
//! nobody's, or somebody else's who has the same address, and what conntrack tells of it would be
//! forgotten.
//!
//! No I/O and no clock.

use std::collections::{BTreeMap, BTreeSet};

use procflow_binding::{Address, BootTime, Namespace, NamespaceId, Table};

/// How long a namespace that cannot be looked into is taken to be as it was. Long enough for one whose
/// processes all change at once, or whose tables are too busy to be read; short enough that no
/// address is taken for its own long after it was given to another.
const KEPT: u64 = 5_000_000_000;

/// What is known of the namespaces that are there.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// By inode; each with the moment at which it was last looked into.
    namespaces: BTreeMap<u64, (Namespace, BootTime)>,
    addresses: BTreeSet<Address>,
}

impl Kept {
    /// Takes in the namespaces and addresses that a look showed, and adds to them what is kept of
    /// those that it `missed`, which are inodes. Which namespaces it added.
    pub(crate) fn complete(
        &mut self,
        table: &mut Table,
        missed: &BTreeSet<u64>,
    ) -> BTreeSet<NamespaceId> {
        let now = table.time;
        self.namespaces.retain(|inode, (namespace, seen)| {
            let is_missed = missed.contains(inode) && !table.namespaces.contains_key(&namespace.id);
            is_missed && now < seen.plus(KEPT)
        });
        let added: BTreeSet<NamespaceId> =
            self.namespaces.values().map(|(namespace, _)| namespace.id).collect();
        for namespace in table.namespaces.values() {
            self.namespaces.insert(namespace.inode, (namespace.clone(), now));
        }
        for (namespace, _) in self.namespaces.values() {
            table.namespaces.entry(namespace.id).or_insert_with(|| namespace.clone());
        }
        let kept = self.addresses.iter().filter(|address| added.contains(&address.namespace));
        table.addresses.extend(kept);
        self.addresses.clone_from(&table.addresses);
        added
    }

    /// The namespace that has this inode.
    pub(crate) fn at(&self, inode: u64) -> Option<NamespaceId> {
        self.namespaces.get(&inode).map(|(namespace, _)| namespace.id)
    }

    /// The inode of a namespace.
    pub(crate) fn inode(&self, id: NamespaceId) -> Option<u64> {
        let mut known = self.namespaces.iter();
        known.find(|(_, (namespace, _))| namespace.id == id).map(|(&inode, _)| inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const HERE: NamespaceId = NamespaceId(1);
    const THERE: NamespaceId = NamespaceId(2);

    fn address(namespace: NamespaceId) -> Address {
        Address { namespace, address: Ipv4Addr::LOCALHOST.into(), prefix: 8 }
    }

    /// A look at these namespaces; the inode of each is a hundred more.
    fn table(time: u64, ids: &[NamespaceId]) -> Table {
        let named = |&id: &NamespaceId| {
            (id, Namespace { id, inode: id.0 + 100, name: None, initial: id == HERE })
        };
        Table {
            time: BootTime(time),
            namespaces: ids.iter().map(named).collect(),
            addresses: ids.iter().copied().map(address).collect(),
            ..Table::default()
        }
    }

    #[test]
    fn a_missed_namespace_is_as_it_was_for_a_while() {
        let mut kept = Kept::default();
        assert_eq!(kept.complete(&mut table(0, &[HERE, THERE]), &[].into()), [].into());
        for time in [1, 2, KEPT - 1] {
            let mut now = table(time, &[HERE]);
            assert_eq!(kept.complete(&mut now, &[102].into()), [THERE].into());
            assert_eq!(now, table(time, &[HERE, THERE]));
            assert_eq!((kept.at(102), kept.inode(THERE)), (Some(THERE), Some(102)));
        }
        let mut now = table(KEPT, &[HERE]);
        assert_eq!(kept.complete(&mut now, &[102].into()), [].into());
        assert_eq!(now, table(KEPT, &[HERE]));
        assert_eq!((kept.at(102), kept.inode(THERE)), (None, None));
    }

    #[test]
    fn what_is_neither_seen_nor_missed_is_gone() {
        let mut kept = Kept::default();
        kept.complete(&mut table(0, &[HERE, THERE]), &[].into());
        let mut now = table(1, &[HERE]);
        assert_eq!(kept.complete(&mut now, &[].into()), [].into());
        assert_eq!(now, table(1, &[HERE]));
        // And stays so, also when its inode is missed later: that may be another.
        assert_eq!(kept.complete(&mut table(2, &[HERE]), &[102].into()), [].into());
    }
}
