//! Processes as the programs tell of them: what a process is is known from the moment it begins, so
//! that it may be gone before anybody reads `/proc`.
//!
//! A child begins as its parent was, exec makes it another program, and whenever it uses a socket its
//! name, user and cgroup are looked at again. What began before the programs did is asked of `/proc`
//! when it first matters ([`Inquiry`]).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use procflow_binding::{Ancestor, BootTime, Change, Details, MOST_ANCESTORS, Process, ProcessKey};

use super::record::{Actor, Execution};
use crate::process::Surroundings;

/// How long a process is remembered after its end, in nanoseconds: events of its sockets may be read
/// after the one of its exit.
const LINGER: u64 = 10_000_000_000;

/// Facts are told again when they were last told longer ago than this, in nanoseconds: a log drops
/// what it told of processes that hold no socket.
const TELL_EVERY: u64 = 60_000_000_000;

/// What can be asked of the running system.
pub(super) trait Inquiry {
    /// The facts of a process, unless it is gone.
    fn facts(&mut self, key: ProcessKey) -> Option<Process>;
    /// Who started it, nearest first, as far as they still live.
    fn ancestors(&mut self, key: ProcessKey) -> Vec<Ancestor>;
    /// The name of a user.
    fn user(&mut self, uid: u32) -> Option<String>;
    /// Where a process lives; `None` when that can no longer be told.
    fn surroundings(&mut self, process: &Actor) -> Option<Surroundings>;
}

/// The processes that are known.
#[derive(Default)]
pub(super) struct Processes {
    known: HashMap<ProcessKey, Known>,
    /// Those that have exited, in that order.
    exited: VecDeque<(BootTime, ProcessKey)>,
}

struct Known {
    process: Process,
    cgroup: u64,
    ancestors: Arc<[Ancestor]>,
    /// What its children's ancestors are; made when it first has one, for all of them.
    line: Option<Arc<[Ancestor]>>,
    arguments: Option<Arc<[String]>>,
    /// When its facts were told as they are now.
    told: Option<BootTime>,
}

impl Processes {
    /// A process began.
    pub(super) fn forked(&mut self, child: Actor, parent: ProcessKey, ask: &mut dyn Inquiry) {
        if !self.known.contains_key(&parent)
            && let Some(facts) = ask.facts(parent)
        {
            self.learn(facts, ask);
        }
        let known = match self.known.get_mut(&parent) {
            Some(parent) => Known {
                process: Process { key: child.key, ..parent.process.clone() },
                cgroup: parent.cgroup,
                ancestors: parent.line(),
                line: None,
                arguments: parent.arguments.clone(),
                told: None,
            },
            None => Known::of(bare(&child, ask), Arc::new([])),
        };
        let known = self.known.entry(child.key).or_insert(known);
        known.update(child, ask);
    }

    /// A process became another program.
    pub(super) fn executed(&mut self, execution: Execution, ask: &mut dyn Inquiry) {
        let Execution { process: actor, executable, arguments } = execution;
        let key = actor.key;
        let known = self
            .known
            .entry(key)
            .or_insert_with(|| Known::of(bare(&actor, ask), ask.ancestors(key).into()));
        // A path that was too long to be told is asked for.
        let executable = executable.or_else(|| ask.facts(key).and_then(|facts| facts.executable));
        known.process.executable = executable;
        known.arguments = arguments.map(Into::into);
        known.told = None;
        // What starts containers moves the process between fork and exec, sometimes in hierarchies
        // whose cgroup ids the programs do not see.
        if let Some(found) = ask.surroundings(&actor) {
            (known.process.container, known.process.unit) = (found.container, found.unit);
            known.cgroup = actor.cgroup;
        }
        known.update(actor, ask);
    }

    /// A process ended.
    pub(super) fn exited(&mut self, key: ProcessKey, time: BootTime) {
        if self.known.contains_key(&key) {
            self.exited.push_back((time, key));
        }
    }

    /// Forgets those that ended long ago.
    pub(super) fn forget(&mut self, now: BootTime) {
        while let Some(&(time, key)) = self.exited.front()
            && time.plus(LINGER) <= now
        {
            self.exited.pop_front();
            self.known.remove(&key);
        }
    }

    /// After a loss: what was told of processes may be out of date; all are asked for again when they
    /// matter. Those that are gone keep what is known of them for a while.
    pub(super) fn doubt(&mut self, now: BootTime, ask: &mut dyn Inquiry) {
        let keys: Vec<ProcessKey> = self.known.keys().copied().collect();
        self.exited.clear();
        for key in keys {
            match ask.facts(key) {
                Some(facts) => self.learn(facts, ask),
                None => self.exited.push_back((now, key)),
            }
        }
    }

    /// Facts that were read elsewhere.
    pub(super) fn learn(&mut self, facts: Process, ask: &mut dyn Inquiry) {
        let key = facts.key;
        if let Some(known) = self.known.get_mut(&key) {
            if known.process != facts {
                known.process = facts;
                known.told = None;
                known.line = None;
            }
            return;
        }
        let known = Known::of(facts, ask.ancestors(key).into());
        self.known.insert(key, known);
    }

    /// A process does something with a socket.
    pub(super) fn acts(&mut self, actor: Actor, ask: &mut dyn Inquiry) {
        let key = actor.key;
        if !self.known.contains_key(&key) {
            let facts = ask.facts(key).unwrap_or_else(|| bare(&actor, ask));
            self.learn(facts, ask);
        }
        if let Some(known) = self.known.get_mut(&key) {
            known.update(actor, ask);
        }
    }

    /// Tells what is known of a process, unless it was told just so a moment ago.
    pub(super) fn tell(
        &mut self,
        key: ProcessKey,
        time: BootTime,
        changes: &mut Vec<(BootTime, Change)>,
    ) {
        let Some(known) = self.known.get_mut(&key) else { return };
        if known.told.is_some_and(|told| time < told.plus(TELL_EVERY)) {
            return;
        }
        known.told = Some(time);
        changes.push((time, Change::Process(known.process.clone())));
        let command_line = known.arguments.as_ref().map(|arguments| arguments.to_vec());
        if !known.ancestors.is_empty() || command_line.is_some() {
            let ancestors = known.ancestors.to_vec();
            let details = Details { process: key, ancestors, command_line, digest: None };
            changes.push((time, Change::Details(details)));
        }
    }
}

impl Known {
    fn of(process: Process, ancestors: Arc<[Ancestor]>) -> Self {
        Self { process, cgroup: 0, ancestors, line: None, arguments: None, told: None }
    }

    /// What it is called, who runs it and where may have changed.
    fn update(&mut self, actor: Actor, ask: &mut dyn Inquiry) {
        if self.process.uid != Some(actor.uid) {
            self.process.uid = Some(actor.uid);
            self.process.user = ask.user(actor.uid);
            self.told = None;
        }
        if self.cgroup != actor.cgroup {
            // Unknown until now when it was read from /proc.
            let moved = self.cgroup != 0;
            self.cgroup = actor.cgroup;
            if moved && let Some(found) = ask.surroundings(&actor) {
                let place = (found.container, found.unit);
                let was = (&self.process.container, &self.process.unit);
                if was != (&place.0, &place.1) {
                    (self.process.container, self.process.unit) = place;
                    self.told = None;
                }
            }
        }
        if self.process.comm != actor.comm {
            self.process.comm = actor.comm;
            self.told = None;
            self.line = None;
        }
    }

    /// The ancestors of its children.
    fn line(&mut self) -> Arc<[Ancestor]> {
        let Self { process, ancestors, line, .. } = self;
        let line = line.get_or_insert_with(|| {
            let own = Ancestor { key: process.key, comm: process.comm.clone() };
            let older = ancestors.iter().take(MOST_ANCESTORS - 1).cloned();
            std::iter::once(own).chain(older).collect()
        });
        Arc::clone(line)
    }
}

/// All that an event itself says of a process.
fn bare(actor: &Actor, ask: &mut dyn Inquiry) -> Process {
    let found = ask.surroundings(actor).unwrap_or_default();
    Process {
        key: actor.key,
        comm: actor.comm.clone(),
        executable: None,
        uid: Some(actor.uid),
        user: ask.user(actor.uid),
        container: found.container,
        unit: found.unit,
    }
}
