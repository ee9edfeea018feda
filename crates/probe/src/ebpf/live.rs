//! What the running system still tells of a process, read from `/proc` when it is asked for.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;

use procflow_binding::{Ancestor, BootTime, Process, ProcessKey};
use smol_str::SmolStr;

use super::processes::Inquiry;
use super::record::Actor;
use crate::process::{self, Facts, Surroundings};

/// How many cgroups are remembered.
const CGROUPS: usize = 4096;

/// The running system.
#[derive(Default)]
pub(super) struct Live {
    facts: Facts,
    now: BootTime,
    /// Of cgroup2 directories, where a process lives says it all.
    cgroups: HashMap<u64, Surroundings>,
    /// Whether processes also live in older hierarchies, of which the programs see nothing.
    hybrid: bool,
}

impl Live {
    pub(super) fn new() -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self { hybrid: own.lines().any(|line| !line.starts_with("0::")), ..Self::default() }
    }

    /// What is asked from now on is asked at `now`.
    pub(super) fn at(&mut self, now: BootTime) -> &mut Self {
        self.now = now;
        // Every answer is read anew: who asks remembers it.
        self.facts.retain(|_| false);
        self
    }
}

impl Inquiry for Live {
    fn facts(&mut self, key: ProcessKey) -> Option<Process> {
        let birth = process::birth(key.pid).filter(|birth| birth.key == key)?;
        let user = process::effective_user(key.pid)?;
        let facts = self.facts.of(&birth, user, self.now).clone();
        Some(facts)
    }

    fn ancestors(&mut self, key: ProcessKey) -> Arc<[Ancestor]> {
        process::ancestors(key)
    }

    fn user(&mut self, uid: u32) -> Option<SmolStr> {
        self.facts.user(uid, self.now)
    }

    fn surroundings(&mut self, process: &Actor) -> Option<Surroundings> {
        if !self.hybrid
            && let Some(found) = self.cgroups.get(&process.cgroup)
        {
            return Some(found.clone());
        }
        let text = fs::read_to_string(format!("/proc/{}/cgroup", process.key.pid)).ok()?;
        // It was read by pid: is it still the same process?
        process::birth(process.key.pid).filter(|birth| birth.key == process.key)?;
        let found = Surroundings::read(&text);
        if !self.hybrid {
            if self.cgroups.len() >= CGROUPS {
                self.cgroups.clear();
            }
            self.cgroups.insert(process.cgroup, found.clone());
        }
        Some(found)
    }
}
