//! The ledger: which files an update has finished, so that the next one need not read them again.
//!
//! It lies in the updater's state directory, because an nfcapd file has no place for a mark. A
//! file is known by its path and its stamp: one that changed is a new one. Several updaters may
//! share a state directory, such as one that repeats itself and one that nfcapd runs after each
//! rotation (`-x`); each adds to what is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use procflow_store::{StateDirectory, StateError};
use serde::{Deserialize, Serialize};

use crate::archive::Found;
use crate::stamp::Stamp;

const FILE: &str = "finished.json";

/// Finished files by the (absolute) path of their directory, then by their name.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ledger {
    directories: BTreeMap<PathBuf, BTreeMap<String, Entry>>,
    /// What is not written yet.
    #[serde(skip)]
    entered: Vec<(PathBuf, String, Entry)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    inode: u64,
    size: u64,
    modified: i128,
}

impl From<Stamp> for Entry {
    fn from(Stamp { inode, size, modified }: Stamp) -> Self {
        Self { inode, size, modified }
    }
}

impl Ledger {
    /// Reads the ledger. One that cannot be understood counts as empty: files are then read again,
    /// which costs time and nothing else.
    pub(crate) fn read(state: &StateDirectory) -> Result<Self, StateError> {
        let text = match state.read(FILE) {
            Err(StateError::Content { .. }) => None,
            read => read?,
        };
        Ok(serde_json::from_str(&text.unwrap_or_default()).unwrap_or_default())
    }

    /// Learns what other updaters have entered since.
    pub(crate) fn refresh(&mut self, state: &StateDirectory) -> Result<(), StateError> {
        self.directories = Self::read(state)?.directories;
        for (directory, name, entry) in &self.entered {
            self.directories.entry(directory.clone()).or_default().insert(name.clone(), *entry);
        }
        Ok(())
    }

    /// Writes what was entered, without the files that are gone, and those that nobody asks about
    /// any more because they are older than `known_since` (nanoseconds since the epoch).
    pub(crate) fn write(
        &mut self,
        state: &StateDirectory,
        known_since: Option<i128>,
    ) -> Result<(), StateError> {
        if self.entered.is_empty() {
            return Ok(());
        }
        let _alone = state.alone()?;
        self.refresh(state)?;
        let asked = |entry: &Entry| known_since.is_none_or(|since| entry.modified >= since);
        self.directories.retain(|directory, files| {
            files.retain(|name, entry| asked(entry) && directory.join(name).exists());
            !files.is_empty()
        });
        // Paths that are not Unicode are never entered, so this cannot fail.
        let text = serde_json::to_string(self).unwrap_or_default();
        state.replace(FILE, &text, 0o600)?;
        self.entered.clear();
        Ok(())
    }

    /// Whether an earlier update finished this file.
    pub(crate) fn has(&self, found: &Found, output: Option<&Path>) -> bool {
        let Some((directory, name)) = place(found, output) else { return false };
        let known = self.directories.get(&directory).and_then(|files| files.get(&name));
        known == Some(&found.stamp.into())
    }

    /// Whether an update wrote to where this file's annotated form goes.
    pub(crate) fn wrote(&self, found: &Found, output: Option<&Path>) -> bool {
        let Some((directory, name)) = place(found, output) else { return false };
        self.directories.get(&directory).is_some_and(|files| files.contains_key(&name))
    }

    /// This file, as it is now, is finished.
    pub(crate) fn enter(&mut self, found: &Found, output: Option<&Path>, now: Stamp) {
        if let Some((directory, name)) = place(found, output) {
            let stamp = if output.is_some() { found.stamp } else { now };
            let files = self.directories.entry(directory.clone()).or_default();
            if files.insert(name.clone(), stamp.into()) != Some(stamp.into()) {
                self.entered.push((directory, name, stamp.into()));
            }
        }
    }
}

/// Where a file stands in the ledger. With an output directory the copy there is what counts, so
/// that another output directory gets its own.
fn place(found: &Found, output: Option<&Path>) -> Option<(PathBuf, String)> {
    let directory = std::fs::canonicalize(found.target(output)).ok()?;
    directory.to_str()?;
    Some((directory, found.name.to_str()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_file_is_known_until_it_changes() {
        let place = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(&place.path().join("state"), None).unwrap();
        let path = place.path().join("nfcapd.202611210300");
        std::fs::write(&path, "x").unwrap();
        let found = Found::at(&path).unwrap();
        let mut ledger = Ledger::read(&state).unwrap();
        assert!(!ledger.has(&found, None));
        ledger.enter(&found, None, found.stamp);
        ledger.write(&state, None).unwrap();
        let mut ledger = Ledger::read(&state).unwrap();
        assert!(ledger.has(&found, None));
        assert!(!ledger.has(&found, Some(&place.path().join("state"))));
        std::fs::write(&path, "xy").unwrap();
        assert!(!ledger.has(&Found::at(&path).unwrap(), None));
        std::fs::remove_file(&path).unwrap();
        let other = place.path().join("nfcapd.202611210305");
        std::fs::write(&other, "x").unwrap();
        let other = Found::at(&other).unwrap();
        ledger.enter(&other, None, other.stamp);
        ledger.write(&state, None).unwrap();
        assert!(ledger.has(&other, None));
        assert_eq!(ledger.directories.values().map(BTreeMap::len).sum::<usize>(), 1);
    }

    #[test]
    fn updaters_with_one_ledger_do_not_forget_each_others_files() {
        let place = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(&place.path().join("state"), None).unwrap();
        let mut ledgers = [(); 2].map(|()| Ledger::read(&state).unwrap());
        let files = ["nfcapd.202611210300", "nfcapd.202611210305"].map(|name| {
            let path = place.path().join(name);
            std::fs::write(&path, "x").unwrap();
            Found::at(&path).unwrap()
        });
        for (ledger, found) in ledgers.iter_mut().zip(&files) {
            ledger.enter(found, None, found.stamp);
            ledger.write(&state, None).unwrap();
        }
        let [first, second] = &mut ledgers;
        assert!(files.iter().all(|found| second.has(found, None)));
        assert!(!first.has(&files[1], None));
        first.refresh(&state).unwrap();
        assert!(files.iter().all(|found| first.has(found, None)));
    }
}
