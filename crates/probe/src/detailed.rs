//! A source that tells the details of every process: whatever the source within does not tell of them
//! is read from `/proc` when a process is told, and nothing of a command line passes that was not
//! redacted. Digests of executables are computed elsewhere (`digest.rs`); when one is there, the
//! details are told again with it.
//!
//! Details of a process that is gone are what was known of it, never another process': after each
//! reading the process must still be the one that it was read of. A process that calls exec with the
//! same program and other arguments keeps the first ones, where nobody tells of exec.

use std::sync::Arc;
use std::time::Duration;

use procflow_binding::{BootTime, Change, Coverage, Details, Process, ProcessKey};
use smol_str::SmolStr;

use crate::digest::{Digests, Found, Running, Wanted};
use crate::process::Lines;
use crate::recent::Recent;
use crate::redact::Redaction;
use crate::source::{Batch, Count, Informed, Options, Shortfall, Source};
use crate::{ProbeError, clock, process};

/// So many processes are known at least. One that is told again after it was forgotten is read again.
const KNOWN: usize = 4096;

/// A source, and what it does not tell.
pub(crate) struct Detailed {
    source: Box<dyn Informed>,
    redaction: Option<Redaction>,
    digests: Option<Digests>,
    known: Recent<ProcessKey, Known>,
    lines: Lines,
    /// Everything until then is told.
    until: BootTime,
    /// The source's and the own, once there are own ones.
    shortfalls: Vec<Shortfall>,
}

/// A process as it was told.
struct Known {
    comm: SmolStr,
    executable: Option<SmolStr>,
    /// When it executed that, where the source was told.
    since: Option<BootTime>,
    details: Details,
}

impl Known {
    /// Whether it is still the same program, as far as that can be seen.
    fn runs_still(&self, process: &Process, since: Option<BootTime>) -> bool {
        let looks_so = || self.comm == process.comm && self.executable == process.executable;
        self.since == since && (since.is_some() || looks_so())
    }
}

impl Detailed {
    /// # Errors
    /// When the thread for digests cannot be started.
    pub(crate) fn new(source: Box<dyn Informed>, options: &Options) -> Result<Self, ProbeError> {
        Ok(Self {
            source,
            redaction: options.arguments.clone(),
            digests: options.digests.then(Digests::start).transpose()?,
            known: Recent::new(KNOWN),
            lines: Lines::default(),
            until: BootTime(0),
            shortfalls: Vec::new(),
        })
    }

    /// All that the source told, with details behind the facts of each process.
    fn complete(&mut self, mut changes: Vec<(BootTime, Change)>) -> Vec<(BootTime, Change)> {
        if self.source.tells_details() && self.redaction.is_none() && self.digests.is_none() {
            // Nothing to read, and nothing that may pass.
            changes.retain_mut(|(_, change)| match change {
                Change::Details(details) => {
                    details.command_line = None;
                    !is_empty(details)
                }
                _ => true,
            });
            return changes;
        }
        let mut completed = Vec::with_capacity(changes.len());
        let mut changes = changes.into_iter().peekable();
        while let Some((time, change)) = changes.next() {
            let details = match change {
                Change::Process(process) => {
                    let key = process.key;
                    let same = |(_, next): &(_, Change)| matches!(next, Change::Details(d) if d.process == key);
                    let told = match changes.next_if(same) {
                        Some((_, Change::Details(told))) => Some(told),
                        _ => None,
                    };
                    let details = self.details(&process, told);
                    completed.push((time, Change::Process(process)));
                    details
                }
                Change::Details(told) => self.redacted(told),
                change => {
                    completed.push((time, change));
                    continue;
                }
            };
            if !is_empty(&details) {
                completed.push((time, Change::Details(details)));
            }
        }
        completed
    }

    /// The details of a process that was told, with or without some.
    fn details(&mut self, process: &Process, told: Option<Details>) -> Details {
        let key = process.key;
        let runs = self.source.runs(key);
        let since = runs.map(|runs| runs.at);
        let nothing =
            Details { process: key, ancestors: Arc::new([]), command_line: None, digest: None };
        let mut details = if self.source.tells_details() {
            self.redacted(told.unwrap_or(nothing))
        } else {
            match self.known.get(&key) {
                Some(known) if known.runs_still(process, since) => known.details.clone(),
                Some(known) => {
                    Details { ancestors: Arc::clone(&known.details.ancestors), ..nothing }
                }
                None => Details { ancestors: self.lines.of(key, self.until), ..nothing },
            }
        };
        // It was not told; or the process began before anybody could tell, or was in the midst of exec.
        if details.command_line.is_none() {
            details.command_line = self.command_line(key);
        }
        if self.digests.is_some() {
            details.digest = match self.known.get(&key) {
                Some(known) if known.runs_still(process, since) => known.details.digest,
                _ => self.digest(process, runs),
            };
        }
        if self.digests.is_some() || !self.source.tells_details() {
            let (comm, executable) = (process.comm.clone(), process.executable.clone());
            self.known.insert(key, Known { comm, executable, since, details: details.clone() });
        }
        details
    }

    /// The digest of what a process runs, if it is known; otherwise it is asked for.
    fn digest(&mut self, process: &Process, runs: Option<Running>) -> Option<[u8; 32]> {
        let digests = self.digests.as_mut()?;
        if let Some(runs) = runs
            && let Some(digest) = digests.known(runs, clock::sample().ok()?)
        {
            return Some(digest);
        }
        let path = process.executable.clone()?;
        digests.want(Wanted { process: process.key, path, runs });
        None
    }

    /// Tells the digests that were found since the last call.
    fn tell_digests(&mut self, changes: &mut Vec<(BootTime, Change)>) {
        while let Some(found) = self.digests.as_ref().and_then(Digests::found) {
            let Found { wanted: Wanted { process, path, runs }, digest } = found;
            let at = runs.map(|runs| runs.at);
            // It may have become another program meanwhile.
            let newer = self.source.runs(process).is_some_and(|runs| Some(runs.at) != at);
            if let Some(known) = self.known.get(&process)
                && known.since == at
                && known.executable.as_ref() == Some(&path)
                && !newer
                && known.details.digest.is_none()
            {
                known.details.digest = Some(digest);
                changes.push((self.until, Change::Details(known.details.clone())));
            }
        }
    }

    /// What is not told because the thread for digests does not keep up.
    fn note_shortfalls(&mut self) {
        if let Some(Digests { dropped, .. }) = self.digests
            && dropped > 0
        {
            self.shortfalls.clear();
            self.shortfalls.extend_from_slice(self.source.shortfalls());
            self.shortfalls.push(Shortfall::Digests { dropped });
        }
    }

    fn redacted(&self, mut details: Details) -> Details {
        let redaction = self.redaction.as_ref();
        let raw = details.command_line.take();
        details.command_line = redaction.zip(raw).map(|(redaction, raw)| redaction.apply(raw));
        details
    }

    /// The command line of a process that still lives.
    fn command_line(&self, key: ProcessKey) -> Option<Vec<String>> {
        let redaction = self.redaction.as_ref()?;
        process::arguments(key).map(|raw| redaction.apply(raw))
    }
}

fn is_empty(details: &Details) -> bool {
    details.ancestors.is_empty() && details.command_line.is_none() && details.digest.is_none()
}

impl Source for Detailed {
    fn name(&self) -> &'static str {
        self.source.name()
    }

    fn coverage(&self) -> Coverage {
        self.source.coverage()
    }

    fn shortfalls(&self) -> &[Shortfall] {
        if self.shortfalls.is_empty() { self.source.shortfalls() } else { &self.shortfalls }
    }

    fn collect(&mut self) -> Result<Batch, ProbeError> {
        let Batch { changes, watched_until } = self.source.collect()?;
        let mut changes = self.complete(changes);
        // Nothing is told of a time of which everything was said to be told.
        if watched_until > self.until {
            self.until = watched_until;
            self.tell_digests(&mut changes);
        }
        self.note_shortfalls();
        Ok(Batch { changes, watched_until })
    }

    fn pause(&self) -> Duration {
        self.source.pause()
    }

    fn keeps_up(&self) -> bool {
        self.source.keeps_up()
    }

    fn counts(&mut self) -> Vec<Count> {
        self.source.counts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use procflow_binding::Ancestor;
    use std::process::{Child, Command, Stdio};

    /// Tells what it was given.
    struct Given {
        changes: Vec<(BootTime, Change)>,
        details: bool,
    }

    impl Source for Given {
        fn name(&self) -> &'static str {
            "given"
        }
        fn coverage(&self) -> Coverage {
            Coverage::Complete
        }
        fn shortfalls(&self) -> &[Shortfall] {
            &[]
        }
        fn collect(&mut self) -> Result<Batch, ProbeError> {
            Ok(Batch { changes: self.changes.clone(), watched_until: BootTime(9) })
        }
        fn pause(&self) -> Duration {
            Duration::ZERO
        }
    }

    impl Informed for Given {
        fn tells_details(&self) -> bool {
            self.details
        }
    }

    fn detailed(changes: Vec<Change>, details: bool, arguments: bool) -> Detailed {
        let changes = changes.into_iter().map(|change| (BootTime(5), change)).collect();
        let arguments = arguments.then(Redaction::default);
        let options = Options { arguments, ..Options::default() };
        Detailed::new(Box::new(Given { changes, details }), &options).unwrap()
    }

    fn told(source: &mut Detailed) -> Vec<Change> {
        source.collect().unwrap().changes.into_iter().map(|(_, change)| change).collect()
    }

    fn process(key: ProcessKey) -> Process {
        Process {
            key,
            comm: "x".into(),
            executable: None,
            uid: None,
            user: None,
            container: None,
            unit: None,
        }
    }

    /// A child with a secret among its arguments.
    struct Secretive(Child);

    impl Secretive {
        fn run() -> (Self, ProcessKey) {
            // The shell has two commands to run, and stays.
            let mut child = Command::new("sh")
                .args(["-c", "read line; true", "--password", "hunter2"])
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            let key = process::birth(child.id()).unwrap().key;
            // Until exec it is what this process is, and in the midst of it nothing.
            let ready = || process::arguments(key)?.pop();
            while ready().as_deref() != Some("hunter2") {
                std::thread::yield_now();
                assert_eq!(child.try_wait().unwrap(), None);
            }
            (Self(child), key)
        }

        fn end(mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    const SHOWN: [&str; 5] = ["sh", "-c", "read line; true", "--password", "[redacted]"];

    #[test]
    fn what_is_not_told_is_read() {
        let (child, key) = Secretive::run();
        let mut source = detailed(vec![Change::Process(process(key)), Change::Listed], false, true);
        let first = told(&mut source);
        let [Change::Process(_), Change::Details(details), Change::Listed] = &first[..] else {
            panic!("{first:?}");
        };
        assert_eq!(details.ancestors[0].key.pid, std::process::id());
        assert_eq!(details.command_line.as_deref().unwrap(), SHOWN);
        // Told again when it is gone, it is as it was...
        child.end();
        assert_eq!(told(&mut source), first);
        // ... and nothing is invented of one that nobody knew.
        let mut source = detailed(vec![Change::Process(process(key))], false, true);
        assert_eq!(told(&mut source), [Change::Process(process(key))]);
    }

    #[test]
    fn a_pid_that_was_used_again_tells_nothing() {
        let (child, key) = Secretive::run();
        let former = ProcessKey { start: key.start.minus(10_000_000), ..key };
        for details in [false, true] {
            let mut source = detailed(vec![Change::Process(process(former))], details, true);
            assert_eq!(told(&mut source), [Change::Process(process(former))]);
        }
        child.end();
    }

    #[test]
    fn what_is_told_passes_redacted_or_not_at_all() {
        let key = ProcessKey { pid: u32::MAX, start: BootTime(1) };
        let with = |line: &[&str]| Details {
            process: key,
            ancestors: [Ancestor { key, comm: "init".into() }].into(),
            command_line: Some(line.iter().map(|&word| word.to_owned()).collect()),
            digest: None,
        };
        let raw = || Change::Details(with(&["x", "--token", "t"]));
        let redacted = Change::Details(with(&["x", "--token", "[redacted]"]));
        let process = Change::Process(process(key));
        // With its process and, later, without.
        let changes = vec![process.clone(), raw(), Change::Listed, raw()];
        assert_eq!(
            told(&mut detailed(changes.clone(), true, true)),
            [process.clone(), redacted.clone(), Change::Listed, redacted]
        );
        let bare = Change::Details(Details { command_line: None, ..with(&[]) });
        assert_eq!(
            told(&mut detailed(changes, true, false)),
            [process, bare.clone(), Change::Listed, bare]
        );
    }

    #[test]
    fn what_became_another_program_is_read_again() {
        let (child, key) = Secretive::run();
        let before = Process { comm: "before".into(), ..process(key) };
        let mut source =
            detailed(vec![Change::Process(before), Change::Process(process(key))], false, true);
        let first = told(&mut source);
        let [_, Change::Details(before), _, Change::Details(after)] = &first[..] else {
            panic!("{first:?}");
        };
        assert_eq!(before.ancestors, after.ancestors);
        child.end();
    }
}
