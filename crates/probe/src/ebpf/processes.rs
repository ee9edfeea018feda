//! Processes as the programs tell of them: what a process is is known from the moment it begins, so
//! that it may be gone before anybody reads `/proc`.
//!
//! A child begins as its parent was, exec makes it another program, and whenever it uses a socket its
//! name, user and cgroup are looked at again. What began before the programs did is asked of `/proc`
//! when it first matters ([`Inquiry`]).

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::HashMap;
use procflow_binding::{Ancestor, BootTime, Change, Details, MOST_ANCESTORS, Process, ProcessKey};
use smol_str::SmolStr;

use super::record::{Actor, Execution};
use crate::digest::Running;
use crate::process::Surroundings;

/// How long a process is remembered after its end, in nanoseconds: events of its sockets may be read
/// after the one of its exit, but by no more than it takes to tell of them. Each costs the next a little:
/// what is remembered must not outgrow the processor's caches.
const LINGER: u64 = 2_000_000_000;

/// What can be asked of the running system.
pub(super) trait Inquiry {
    /// The facts of a process, unless it is gone.
    fn facts(&mut self, key: ProcessKey) -> Option<Process>;
    /// Who started it, nearest first, as far as they still live.
    fn ancestors(&mut self, key: ProcessKey) -> Arc<[Ancestor]>;
    /// The name of a user.
    fn user(&mut self, uid: u32) -> Option<SmolStr>;
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
    /// Shared with its parent until they differ; the key in it is the parent's then.
    process: Arc<Process>,
    cgroup: u64,
    ancestors: Arc<[Ancestor]>,
    /// What its children's ancestors are; made when it first has one, for all of them.
    line: Option<Arc<[Ancestor]>>,
    arguments: Option<Arc<[String]>>,
    /// Which file it runs, if its exec, or that of an ancestor, was told.
    runs: Option<Running>,
    /// When its facts were told as they are now.
    told: Option<BootTime>,
    /// How many open sockets it is told to hold.
    holds: usize,
}

impl Processes {
    /// A process began.
    pub(super) fn forked(&mut self, child: Actor, parent: ProcessKey, ask: &mut dyn Inquiry) {
        if !self.known.contains_key(&parent)
            && let Some(facts) = ask.facts(parent)
        {
            self.learn(facts, ask);
        }
        let parent_key = parent;
        let known = match self.known.get_mut(&parent) {
            Some(parent) => Known {
                process: Arc::clone(&parent.process),
                cgroup: parent.cgroup,
                ancestors: parent.line(parent_key),
                line: None,
                arguments: parent.arguments.clone(),
                runs: parent.runs,
                told: None,
                holds: 0,
            },
            None => Known::of(bare(&child, ask), Arc::new([])),
        };
        let known = self.known.entry(child.key).or_insert(known);
        known.update(child, ask);
    }

    /// A process became another program. Whether it was told of before, so that it must be now.
    pub(super) fn executed(&mut self, execution: Execution, ask: &mut dyn Inquiry) -> bool {
        let Execution { process: actor, executable, arguments, runs } = execution;
        let key = actor.key;
        let known = self
            .known
            .entry(key)
            .or_insert_with(|| Known::of(bare(&actor, ask), ask.ancestors(key)));
        // A path that was too long to be told is asked for.
        let executable = executable.or_else(|| ask.facts(key).and_then(|facts| facts.executable));
        Arc::make_mut(&mut known.process).executable = executable;
        known.arguments = arguments.map(Into::into);
        known.runs = Some(runs);
        let was_told = known.told.take().is_some();
        // What starts containers moves the process between fork and exec, sometimes in hierarchies
        // whose cgroup ids the programs do not see.
        if let Some(found) = ask.surroundings(&actor) {
            let process = Arc::make_mut(&mut known.process);
            (process.container, process.unit) = (found.container, found.unit);
            known.cgroup = actor.cgroup;
        }
        known.update(actor, ask);
        was_told
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
            if let Some(known) = self.known.get_mut(&key) {
                known.runs = None;
            }
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
            if *known.process != facts {
                known.process = Arc::new(facts);
                known.told = None;
                known.line = None;
            }
            return;
        }
        let known = Known::of(facts, ask.ancestors(key));
        self.known.insert(key, known);
    }

    /// Which file a process runs, if that was told.
    pub(super) fn runs(&self, key: ProcessKey) -> Option<Running> {
        self.known.get(&key)?.runs
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

    /// A process comes to hold so many sockets more.
    pub(super) fn holds(&mut self, key: ProcessKey, more: isize) {
        if let Some(known) = self.known.get_mut(&key) {
            known.holds = known.holds.saturating_add_signed(more);
        }
    }

    /// Nothing that is open is known any more.
    pub(super) fn hold_nothing(&mut self) {
        self.known.values_mut().for_each(|known| known.holds = 0);
    }

    /// Tells what is known of a process, unless it was told just so. One that holds no socket is told
    /// anew: who keeps a log forgets those.
    pub(super) fn tell(
        &mut self,
        key: ProcessKey,
        time: BootTime,
        changes: &mut Vec<(BootTime, Change)>,
    ) {
        let Some(known) = self.known.get_mut(&key) else { return };
        if known.told.is_some() && known.holds > 0 {
            return;
        }
        known.told = Some(time);
        changes.push((time, Change::Process(Process { key, ..(*known.process).clone() })));
        let command_line = known.arguments.as_ref().map(|arguments| arguments.to_vec());
        if !known.ancestors.is_empty() || command_line.is_some() {
            let ancestors = Arc::clone(&known.ancestors);
            let details = Details { process: key, ancestors, command_line, digest: None };
            changes.push((time, Change::Details(details)));
        }
    }
}

impl Known {
    fn of(process: Process, ancestors: Arc<[Ancestor]>) -> Self {
        let process = Arc::new(process);
        Self {
            process,
            cgroup: 0,
            ancestors,
            line: None,
            arguments: None,
            runs: None,
            told: None,
            holds: 0,
        }
    }

    /// What it is called, who runs it and where may have changed.
    fn update(&mut self, actor: Actor, ask: &mut dyn Inquiry) {
        if self.process.uid != Some(actor.uid) {
            let process = Arc::make_mut(&mut self.process);
            process.uid = Some(actor.uid);
            process.user = ask.user(actor.uid);
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
                    let process = Arc::make_mut(&mut self.process);
                    (process.container, process.unit) = place;
                    self.told = None;
                }
            }
        }
        if self.process.comm.as_bytes() != actor.comm.bytes() {
            Arc::make_mut(&mut self.process).comm = actor.comm.text();
            self.told = None;
            self.line = None;
        }
    }

    /// The ancestors of its children.
    fn line(&mut self, key: ProcessKey) -> Arc<[Ancestor]> {
        let Self { process, ancestors, line, .. } = self;
        let line = line.get_or_insert_with(|| {
            let own = Ancestor { key, comm: process.comm.clone() };
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
        comm: actor.comm.text(),
        executable: None,
        uid: Some(actor.uid),
        user: ask.user(actor.uid),
        container: found.container,
        unit: found.unit,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::digest::FileVersion;
    use crate::ebpf::record::Comm;

    /// A system of which nothing can be read any more.
    pub(in crate::ebpf) struct Nobody;

    impl Inquiry for Nobody {
        fn facts(&mut self, _: ProcessKey) -> Option<Process> {
            None
        }
        fn ancestors(&mut self, _: ProcessKey) -> Arc<[Ancestor]> {
            Arc::new([])
        }
        fn user(&mut self, uid: u32) -> Option<SmolStr> {
            (uid == 1000).then(|| "ada".into())
        }
        fn surroundings(&mut self, _: &Actor) -> Option<Surroundings> {
            None
        }
    }

    fn key(pid: u32) -> ProcessKey {
        ProcessKey { pid, start: BootTime(u64::from(pid)) }
    }

    fn actor(pid: u32, comm: &str) -> Actor {
        Actor { key: key(pid), uid: 1000, cgroup: 1, comm: Comm::from(comm) }
    }

    fn running(at: u64) -> Running {
        let file = FileVersion { device: 1, inode: at, changed: (0, 0) };
        Running { file, at: BootTime(at) }
    }

    /// What is told of a process at a moment.
    fn told(processes: &mut Processes, pid: u32, at: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        processes.tell(key(pid), BootTime(at), &mut changes);
        changes.into_iter().map(|(_, change)| change).collect()
    }

    fn shell() -> Processes {
        let mut processes = Processes::default();
        let execution = Execution {
            process: actor(1, "sh"),
            executable: Some("/bin/sh".into()),
            arguments: None,
            runs: running(1),
        };
        processes.executed(execution, &mut Nobody);
        processes
    }

    #[test]
    fn a_child_is_what_its_parent_was_until_it_calls_exec() {
        let mut processes = shell();
        processes.forked(actor(2, "sh"), key(1), &mut Nobody);
        let [Change::Process(child), Change::Details(details)] = &told(&mut processes, 2, 5)[..]
        else {
            panic!("a process and who started it");
        };
        assert_eq!(child.executable.as_deref(), Some("/bin/sh"));
        assert_eq!(child.user.as_deref(), Some("ada"));
        assert_eq!(*details.ancestors, [Ancestor { key: key(1), comm: "sh".into() }]);
        assert_eq!(processes.runs(key(2)), Some(running(1)));
        let execution = Execution {
            process: actor(2, "curl"),
            executable: Some("/usr/bin/curl".into()),
            arguments: Some(vec!["curl".to_owned(), "-s".to_owned()]),
            runs: running(6),
        };
        processes.executed(execution, &mut Nobody);
        let [Change::Process(child), Change::Details(details)] = &told(&mut processes, 2, 6)[..]
        else {
            panic!("both again");
        };
        assert_eq!((&child.comm[..], child.executable.as_deref()), ("curl", Some("/usr/bin/curl")));
        assert_eq!(details.command_line.as_deref().unwrap(), ["curl", "-s"]);
        assert_eq!(processes.runs(key(2)), Some(running(6)));
        // After a loss it may have become yet another.
        processes.doubt(BootTime(7), &mut Nobody);
        assert_eq!(processes.runs(key(2)), None);
    }

    #[test]
    fn a_line_of_ancestors_is_bounded() {
        let mut processes = shell();
        for pid in 2..40 {
            processes.forked(actor(pid, "sh"), key(pid - 1), &mut Nobody);
        }
        let [_, Change::Details(details)] = &told(&mut processes, 39, 5)[..] else {
            panic!("no details");
        };
        let line: Vec<u32> = details.ancestors.iter().map(|one| one.key.pid).collect();
        assert_eq!(line, [38, 37, 36, 35, 34, 33, 32, 31]);
    }

    #[test]
    fn facts_are_told_when_they_change_and_to_who_may_have_forgotten_them() {
        let mut processes = shell();
        assert_eq!(told(&mut processes, 1, 0).len(), 1);
        processes.holds(key(1), 1);
        processes.acts(actor(1, "sh"), &mut Nobody);
        assert!(told(&mut processes, 1, 1).is_empty(), "it holds a socket: nobody forgot it");
        processes.acts(actor(1, "renamed"), &mut Nobody);
        let [Change::Process(process)] = &told(&mut processes, 1, 2)[..] else {
            panic!("not told");
        };
        assert_eq!(process.comm, "renamed");
        processes.holds(key(1), -1);
        assert_eq!(told(&mut processes, 1, 3).len(), 1);
        // One that was never heard of, and is gone, has what the event says.
        processes.acts(actor(9, "ghost"), &mut Nobody);
        let [Change::Process(process)] = &told(&mut processes, 9, 1)[..] else {
            panic!("not told")
        };
        assert_eq!((&process.comm[..], process.uid), ("ghost", Some(1000)));
    }

    #[test]
    fn what_ended_is_forgotten_after_a_while() {
        let mut processes = shell();
        processes.exited(key(1), BootTime(5));
        processes.forget(BootTime(5 + LINGER - 1));
        assert_eq!(told(&mut processes, 1, 6).len(), 1);
        processes.forget(BootTime(5 + LINGER));
        assert!(processes.known.is_empty() && processes.exited.is_empty());
    }
}
