//! What it means: pull the events, annotate what is final, wait; until a signal comes.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

use procflow_binding::{Histories, HostId, Place, PlaceName, Vantage, WhichNamespace};
use procflow_core::Timestamp;
use procflow_core::packet::Undecoded;
use procflow_feed::{Feed, FeedError, Newcomers, Trust, real_time};
use procflow_nfdump::{Flow, UserName};
use procflow_store::read_exports;
use tokio::signal::unix::{SignalKind, signal};

use crate::annotate::{AnnotateError, Annotated, Output, annotate};
use crate::archive::{Finality, Found, Look, look};
use crate::args::Args;
use crate::captures::{self, Metered, is_capture};
use crate::decide::{Decider, Wish};
use crate::failure::Failure;
use crate::ledger::Ledger;
use crate::report::Report;
use crate::rotations::{Heard, Rotations};
use crate::summary::Summary;
use crate::unfinished::clean;

/// Runs the program.
pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let trust = Trust::of_user(args.state.as_deref(), args.tracker_state.as_deref())?;
    if args.show_key {
        let key = trust.own();
        println!("{key} updater\n{}", key.fingerprint());
        return Ok(ExitCode::SUCCESS);
    }
    let feeds = feeds(&args)?;
    let mut histories = Histories::default();
    let file_host = read_exports(&args.history, &mut histories)?;
    let report = args.report.as_deref().map(|path| {
        Report::create(path).map_err(|source| Failure::Path { path: path.to_owned(), source })
    });
    let update = Update {
        ledger: Ledger::read(trust.state())?,
        trust,
        feeds,
        report: report.transpose()?,
        histories,
        file_host,
        missing: None,
        next_final: None,
        seen: Vec::new(),
        stop: Arc::default(),
        captures: args.file.iter().any(|path| is_capture(path)),
        args,
    };
    if update.captures {
        update.check_captures()?;
    } else {
        update.check_directories()?;
        update.check_output()?;
    }
    // Two threads: the connection is kept alive while files are annotated.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|source| Failure::System { what: "cannot start the runtime", source })?;
    let result = runtime.block_on(update.run());
    // A look-up of a name may hang for much longer; nobody waits for it any more.
    runtime.shutdown_timeout(Duration::from_millis(500));
    result
}

/// What trackers are told of who asks.
const PROGRAM: &str = concat!("updater ", env!("CARGO_PKG_VERSION"));

/// The trackers to follow; the first is the one that `--vantage host` means.
fn feeds(args: &Args) -> Result<Vec<Feed>, Failure> {
    let newcomers = Newcomers::of(args.trust.as_deref(), args.trust_first_use);
    let mut feeds = Vec::new();
    if let (Some(host), Some(port)) = (&args.host, args.port) {
        feeds.push(Feed::new(PROGRAM, host, port, newcomers.clone()));
    }
    for tracker in &args.tracker {
        let feed = Feed::at(PROGRAM, tracker, newcomers.clone());
        feeds.push(feed.ok_or_else(|| Failure::NotATracker(tracker.clone()))?);
    }
    Ok(feeds)
}

/// A tracker has told of a moment so long after it, unless something is wrong: it makes its events
/// durable twice a second, and tells nothing before.
const TELLING: Duration = Duration::from_secs(1);

/// Longest that a single update waits for trackers to tell of a file's last moments. nfcapd's next
/// rotation should find it done.
const LONGEST_TELLING: Duration = Duration::from_secs(10);

/// More than so many would wait for each other's turn to write, and each takes memory.
const MOST_THREADS: usize = 64;

/// A full block, well compressed, in bytes.
const WORTH_A_THREAD: u64 = 128 * 1024;

/// Two updates are never closer together. Sources of one collector (`-M`) rotate one after the
/// other, and one update does for all.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// A namespace as `--vantage` writes it.
fn spell(which: &WhichNamespace) -> String {
    match which {
        WhichNamespace::Initial => "of the host itself".to_owned(),
        WhichNamespace::Named(name) => name.clone(),
        WhichNamespace::Inode(inode) => inode.to_string(),
    }
}

/// A running updater.
struct Update {
    args: Args,
    trust: Trust,
    feeds: Vec<Feed>,
    ledger: Ledger,
    report: Option<Report>,
    histories: Histories,
    /// Whose the first history file is.
    file_host: Option<HostId>,
    /// The exit code for the trackers that did not answer when last asked, if any.
    missing: Option<u8>,
    /// When the next file will be final, as the last update saw it.
    next_final: Option<SystemTime>,
    /// The directories that it saw.
    seen: Vec<(PathBuf, SystemTime)>,
    stop: Arc<AtomicBool>,
    /// Whether the files that were named are captures.
    captures: bool,
}

impl Update {
    fn once(&self) -> bool {
        let from_files = !self.args.history.is_empty() && self.args.time.is_none();
        self.args.once || !self.args.file.is_empty() || from_files
    }

    fn directories(&self) -> Vec<PathBuf> {
        if self.args.dir.is_empty() { vec![PathBuf::from(".")] } else { self.args.dir.clone() }
    }

    /// A directory that is not there is a mistake to be told at once, not every five minutes.
    fn check_directories(&self) -> Result<(), Failure> {
        let mut all = self.directories();
        all.extend(self.args.output.clone());
        for path in all {
            std::fs::read_dir(&path).map_err(|source| Failure::Path { path, source })?;
        }
        Ok(())
    }

    /// All files are captures, and it is said where their flows go.
    fn check_captures(&self) -> Result<(), Failure> {
        let capture = |path: &&PathBuf| is_capture(path);
        let first = self.args.file.iter().find(capture).cloned().unwrap_or_default();
        let other = self.args.file.iter().find(|path| !capture(path));
        if let Some(other) = other {
            return Err(Failure::MixedFiles(first, other.clone()));
        }
        let out = self.args.output.as_deref().ok_or(Failure::NoOutput(first))?;
        Ok(procflow_sink::Output::check(out)?)
    }

    /// How far off times may be: NetFlow v9 counts whole seconds.
    fn tolerance(&self) -> Duration {
        let usual = Duration::from_millis(if self.captures { 1 } else { 1000 });
        self.args.tolerance.unwrap_or(usual)
    }

    /// Two archives may have files of one name, but an output directory only one of each.
    fn check_output(&self) -> Result<(), Failure> {
        let names: BTreeSet<_> = self.args.file.iter().map(|path| path.file_name()).collect();
        let sources = self.args.dir.len().max(self.args.file.len() + 1 - names.len());
        if self.args.output.is_some() && sources > 1 { Err(Failure::OneOutput) } else { Ok(()) }
    }

    fn say(&self, what: impl std::fmt::Display) {
        if !self.args.quiet {
            eprintln!("updater: {what}");
        }
    }

    async fn run(mut self) -> Result<ExitCode, Failure> {
        let failed = |source| Failure::System { what: "cannot listen for signals", source };
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let stop = Arc::clone(&self.stop);
        let told = Arc::new(tokio::sync::Notify::new());
        let tell = Arc::clone(&told);
        let stopped_by = Arc::new(AtomicU8::new(0));
        let tell_by = Arc::clone(&stopped_by);
        tokio::spawn(async move {
            let by = tokio::select! {
                _ = terminate.recv() => SignalKind::terminate(),
                _ = interrupt.recv() => SignalKind::interrupt(),
            };
            tell_by.store(u8::try_from(by.as_raw_value()).unwrap_or(0), Ordering::Relaxed);
            stop.store(true, Ordering::Relaxed);
            tell.notify_one();
        });

        let pause = self.args.time.filter(|_| !self.once());
        if let Some(pause) = pause {
            let every = humantime::format_duration(pause).to_string().replace("m", " min");
            self.say(format_args!("updating every {}", every.replace("s", " s")));
        }
        let mut rotations = pause.and_then(|_| match Rotations::new() {
            Ok(rotations) => Some(rotations),
            Err(error) => {
                self.say(format_args!("cannot listen for rotations: {error}"));
                None
            }
        });
        // Before the first update: what is rotated while that goes on is heard too.
        self.listen_at(&mut rotations, None);
        tokio::select! {
            () = tokio::time::sleep(self.until_told()) => {}
            () = told.notified() => {
                // Nothing has been done; the code below tells of the signal.
                told.notify_one();
            }
        }
        let mut failures = 0;
        loop {
            let pulled = tokio::select! {
                pulled = self.pull() => pulled,
                () = told.notified() => break,
            };
            match pulled {
                Ok(()) => failures = self.pass(),
                Err(error) if pause.is_none() || error.is_about_trust() => return Err(error.into()),
                Err(error) => eprintln!("updater: {error}; trying again"),
            }
            let Some(pause) = pause else { break };
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let seen = std::mem::take(&mut self.seen);
            self.listen_at(&mut rotations, Some(seen).filter(|seen| !seen.is_empty()));
            tokio::select! {
                () = self.listen_for(pause, &mut rotations) => {}
                () = told.notified() => break,
            }
        }
        for feed in &mut self.feeds {
            feed.close().await;
        }
        let stopped_by = stopped_by.load(Ordering::Relaxed);
        if stopped_by != 0 {
            self.say("stopped by a signal");
        }
        Ok(match (stopped_by, failures) {
            // Stopping is how an updater that repeats itself ends; a single update is not done.
            (signal @ 1.., _) if pause.is_none() => ExitCode::from(128 + signal),
            (0, 0) if pause.is_none() => ExitCode::from(self.missing.unwrap_or(0)),
            (_, 0) => ExitCode::SUCCESS,
            _ => ExitCode::from(1),
        })
    }

    /// Gets all events of all trackers. One that does not answer, or is not trusted, keeps nobody
    /// else waiting: its flows stay unknown for now. Fails when none answers.
    async fn pull(&mut self) -> Result<(), FeedError> {
        self.missing = None;
        let mut hosts = Vec::new();
        let mut failures = Vec::new();
        for feed in &mut self.feeds {
            let pulled = feed.pull(&self.trust, &mut self.histories, &hosts).await;
            if let Some(key) = feed.newly_met() {
                let (name, key) = (feed.name(), key.fingerprint());
                eprintln!(
                    "updater: the tracker at {name} is known from now on, with the key {key}"
                );
            }
            match pulled {
                Ok(host) => hosts.push(host),
                Err(error) => failures.push(error),
            }
        }
        if hosts.is_empty()
            && let Some(error) = failures.pop()
        {
            return Err(error);
        }
        for error in failures {
            eprintln!("updater: {error}; going on without it");
            self.missing = Some(error.exit_code());
        }
        if self.once() {
            return Ok(()); // what is there is needed once, and never grows
        }
        let keep = u64::try_from(self.args.keep.as_nanos()).unwrap_or(u64::MAX);
        self.histories.prune(keep, real_time(), self.args.flow_clock.into());
        Ok(())
    }

    /// How long until trackers have told of the last moments of the files that were named: nfcapd
    /// runs us right after a rotation.
    fn until_told(&self) -> Duration {
        if self.feeds.is_empty() {
            return Duration::ZERO;
        }
        let touched =
            self.args.file.iter().filter_map(|path| path.metadata().ok()?.modified().ok());
        let after = self.tolerance().saturating_add(TELLING);
        let told = touched.max().and_then(|at| at.checked_add(after));
        let left = told.and_then(|told| told.duration_since(SystemTime::now()).ok());
        left.unwrap_or_default().min(LONGEST_TELLING).min(self.args.wait)
    }

    /// Listens for rotations in all directories, as an update has seen them or as they are now.
    /// Where that is not possible, updates come when a pause is over.
    fn listen_at(
        &self,
        rotations: &mut Option<Rotations>,
        seen: Option<Vec<(PathBuf, SystemTime)>>,
    ) {
        let Some(listening) = rotations else { return };
        let now =
            || self.directories().iter().flat_map(|path| self.look(path).directories).collect();
        let mut directories = seen.unwrap_or_else(now);
        loop {
            match listening.listen_at(&directories) {
                // In a new directory others may have been made before anybody listened.
                Ok(true) => directories = now(),
                Ok(false) => return,
                Err(error) => {
                    self.say(format_args!(
                        "cannot listen for rotations: {error}; updating every TIME only"
                    ));
                    *rotations = None;
                    return;
                }
            }
        }
    }

    fn look(&self, directory: &Path) -> Look {
        let (slot, grace) = (self.args.slot, self.args.grace);
        let finality = Finality { now: SystemTime::now(), slot, grace };
        look(directory, self.args.output.as_deref(), finality)
    }

    /// Waits for the next update: until the pause is over, or the next file is final. Stays
    /// subscribed meanwhile, so that events come as they happen and a short memory of the tracker
    /// loses nothing.
    async fn listen_for(&mut self, pause: Duration, rotations: &mut Option<Rotations>) {
        let now = tokio::time::Instant::now();
        let (end, soonest) = (now + pause, now + SHORTEST_PAUSE);
        let grace = self.args.grace;
        let mut until = end;
        if let Some(next) = self.next_final {
            let left = next.duration_since(SystemTime::now()).unwrap_or_default();
            until = now.checked_add(left).map_or(end, |next| end.min(soonest.max(next)));
        }
        loop {
            let heard = tokio::select! {
                () = self.hear_events(until) => return,
                heard = next_rotation(rotations) => heard,
            };
            match heard {
                Ok(heard) => {
                    if heard == Heard::NewDirectory {
                        self.listen_at(rotations, None);
                    }
                    let is_final = tokio::time::Instant::now().checked_add(grace);
                    until = is_final.map_or(until, |at| until.min(soonest.max(at)));
                }
                Err(error) => {
                    self.say(format_args!("cannot listen for rotations any more: {error}"));
                    *rotations = None;
                }
            }
        }
    }

    /// Hears of a single tracker's events.
    async fn hear_events(&mut self, until: tokio::time::Instant) {
        // One after the other would starve the second; with several trackers each is pulled from
        // at the next update instead.
        if let [feed] = self.feeds.as_mut_slice() {
            let listened = tokio::time::timeout_at(until, feed.listen(&mut self.histories)).await;
            if let Ok(Err(error)) = listened
                && !self.args.quiet
            {
                eprintln!("updater: {error}");
            }
        }
        tokio::time::sleep_until(until).await;
    }

    /// One update; how many files and directories failed.
    fn pass(&mut self) -> u64 {
        let mut summary = Summary::default();
        let vantage = match self.vantage() {
            Ok(vantage) => vantage,
            Err(why) => {
                eprintln!("updater: {why}");
                return 1;
            }
        };
        if self.captures {
            return self.capture_pass(&vantage);
        }
        if let Err(error) = self.ledger.refresh(self.trust.state()) {
            summary.files.failed += 1;
            eprintln!("updater: {error}");
        }
        let (files, unfinished) = self.candidates(&mut summary);
        self.clean(&files, unfinished);
        let progress = io::stderr().is_terminal() && !self.args.quiet;
        let count = files.len();
        for (i, found) in files.into_iter().enumerate() {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            if progress {
                eprint!("\r\x1b[Kfile {} of {count}: {}", i + 1, found.path().display());
                let _ = io::stderr().flush();
            }
            let mut result = self.annotate(&found, &vantage, &mut summary);
            // One that was named is wanted now; others have their turn at the next update.
            if let (Err(AnnotateError::Changed(path)), false) = (&result, self.args.file.is_empty())
                && let Ok(found) = Found::at(path)
            {
                result = self.annotate(&found, &vantage, &mut summary);
            }
            if progress {
                eprint!("\r\x1b[K");
            }
            match result {
                Ok(()) => {}
                Err(error @ AnnotateError::Stopped(_)) => eprintln!("updater: {error}"),
                Err(error @ AnnotateError::Locked(_)) => {
                    summary.files.locked += 1;
                    self.say(error);
                }
                Err(error) => {
                    summary.files.failed += 1;
                    eprintln!("updater: {error}");
                }
            }
        }
        let known_since = self.known_since().filter(|_| self.args.output.is_none());
        if let Err(error) = self.ledger.write(self.trust.state(), known_since) {
            summary.files.failed += 1;
            eprintln!("updater: {error}");
        }
        if let Some(Err((path, error))) = self.report.as_mut().map(Report::flush) {
            summary.files.failed += 1;
            eprintln!("updater: {}: {error}", path.display());
        }
        self.tell(&summary);
        summary.files.failed
    }

    /// Annotates the captures that were named.
    fn capture_pass(&self, vantage: &Vantage) -> u64 {
        let args = &self.args;
        let out = args.output.as_deref().unwrap_or(Path::new("-"));
        let wish = Wish { template: &args.name, miss: args.miss.into(), replace: false };
        let threads = args.threads.or(std::thread::available_parallelism().ok());
        let threads = threads.map_or(1, NonZeroUsize::get).min(MOST_THREADS);
        let join = self.histories.join(vantage);
        let annotated = captures::annotate(&args.file, out, &join, wish, threads, &self.stop);
        let Metered { tally, mut seen, failed } = match annotated {
            Ok(annotated) => annotated,
            Err(error) => {
                eprintln!("updater: {error}");
                return 1;
            }
        };
        let (frames, packets, records) = (tally.frames, tally.flows.packets, tally.records);
        let out = out.display();
        self.say(format_args!("{out}: {frames} frames, {packets} packets in {records} flows"));
        for (why, count) in Undecoded::ALL.into_iter().zip(tally.undecoded) {
            if count > 0 {
                self.say(format_args!("{count} {why} ({})", why.name()));
            }
        }
        seen.files.annotated = 1;
        if let Some(error) = &failed {
            eprintln!("updater: {error}");
            seen.files.failed = 1;
        }
        self.tell(&seen);
        seen.files.failed
    }

    fn tell(&self, summary: &Summary) {
        if self.args.json {
            // No map keys but strings, so this cannot fail.
            println!("{}", serde_json::to_string(summary).unwrap_or_default());
        } else if !self.args.quiet && (self.once() || !summary.is_empty()) {
            if self.args.report.as_deref() == Some(Path::new("-")) {
                eprintln!("{summary}");
            } else {
                println!("{summary}");
            }
        }
        if summary.ambiguous_places > 0 && self.args.vantage == PlaceName::Outside {
            self.say(
                "some flows are ambiguous; where several places hold an address, --vantage says \
                 in which one the exporter captured",
            );
        }
    }

    /// Removes what killed updaters left behind where this update is about to write.
    fn clean(&self, files: &[Found], unfinished: BTreeSet<PathBuf>) {
        let written = files.iter().map(|found| found.target(self.args.output.as_deref()));
        let mut directories: BTreeSet<PathBuf> = written.filter(|path| path.exists()).collect();
        if self.args.output.is_none() {
            directories.extend(unfinished);
        }
        for directory in directories {
            match clean(&directory) {
                Ok(removed) => {
                    for name in removed {
                        let path = directory.join(name);
                        let path = path.display();
                        self.say(format_args!("removed {path}, left behind by a killed updater"));
                    }
                }
                Err(error) => eprintln!("updater: {}: {error}", directory.display()),
            }
        }
    }

    /// The files to read now, and where unfinished ones lie.
    fn candidates(&mut self, summary: &mut Summary) -> (Vec<Found>, BTreeSet<PathBuf>) {
        self.next_final = None;
        self.seen.clear();
        if !self.args.file.is_empty() {
            let mut files = Vec::new();
            for path in &self.args.file {
                match Found::at(path) {
                    Ok(found) => files.push(found),
                    Err(error) => {
                        summary.files.failed += 1;
                        eprintln!("updater: {}: {error}", path.display());
                    }
                }
            }
            return (files, BTreeSet::new());
        }
        let mut files = Vec::new();
        let mut unfinished = BTreeSet::new();
        for directory in self.directories() {
            let look = self.look(&directory);
            self.next_final = self.next_final.into_iter().chain(look.next_final).min();
            unfinished.extend(look.unfinished);
            self.seen.extend(look.directories);
            for (path, error) in look.failed {
                summary.files.failed += 1;
                eprintln!("updater: {}: {error}", path.display());
            }
            summary.files.not_yet += look.not_yet as u64;
            files.extend(look.final_files);
        }
        let known_since = self.known_since();
        files.retain(|found| {
            // Whatever is in a file was written when it was last touched, or before.
            let too_old = known_since.is_none_or(|since| found.stamp.modified < since);
            let finished = self.ledger.has(found, self.args.output.as_deref());
            let skip = !self.args.force && (finished || too_old && self.args.output.is_none());
            summary.files.skipped += u64::from(skip);
            !skip
        });
        (files, unfinished)
    }

    /// Since when anything is known of any host, in real time.
    fn known_since(&self) -> Option<i128> {
        let slack = i128::try_from(self.tolerance().as_nanos()).unwrap_or(i128::MAX);
        self.histories
            .iter()
            .filter_map(|history| history.known_since(self.args.flow_clock.into()))
            .min()
            .map(|since: Timestamp| i128::from(since.0) - slack)
    }

    /// Where the flows were seen; or why that cannot be told yet.
    fn vantage(&self) -> Result<Vantage, String> {
        let place = match &self.args.vantage {
            PlaceName::Outside => Place::Outside,
            PlaceName::Inside(which) => {
                // Not to be mistaken for "outside", where another host might be named.
                let host = match self.feeds.first() {
                    Some(feed) => feed.host(),
                    None => self.file_host,
                };
                let host = host.ok_or(
                    "the first tracker, whose host --vantage means, has not answered yet; nothing is \
                     annotated without it",
                )?;
                if !self.histories.has_namespace(host, which) {
                    return Err(format!("the tracker knows no network namespace {}", spell(which)));
                }
                Place::Inside(host, which.clone())
            }
        };
        let tolerance = u64::try_from(self.tolerance().as_nanos()).unwrap_or(u64::MAX);
        let granularity = if self.captures { 1000 } else { Vantage::GRANULARITY };
        let clock = self.args.flow_clock.into();
        let icmp_types = !self.args.icmp_types_untold;
        Ok(Vantage { place, clock, tolerance, granularity, icmp_types })
    }

    fn annotate(
        &mut self,
        found: &Found,
        vantage: &Vantage,
        summary: &mut Summary,
    ) -> Result<(), AnnotateError> {
        // Flows that wait for events, or for a tracker, are looked at again - for a while; a name
        // given to them now would stand in the way of the better one.
        let age = i128::from(real_time().0) - found.stamp.modified;
        let wait = i128::try_from(self.args.wait.as_nanos()).unwrap_or(i128::MAX);
        let again = !self.feeds.is_empty() && age < wait;
        let missing = self.missing.is_some();
        let Self { args, histories, report, stop, ledger, .. } = self;
        let output = args.output.as_deref().map(|path| Output {
            path,
            may_replace: args.force || ledger.wrote(found, Some(path)),
        });
        let join = histories.join(vantage);
        let report = report.as_mut().map(|report| (report, found.path().display().to_string()));
        let wish =
            Wish { template: &args.name, miss: args.miss.into(), replace: args.replace_names };
        // A report's rows follow the file's order.
        let threads = if report.is_some() { 1 } else { threads(args, found.stamp.size) };
        let mut deciders: Vec<_> =
            (1..threads).map(|_| Decider::new(&join, wish, (again, missing), None)).collect();
        deciders.push(Decider::new(&join, wish, (again, missing), report));
        let mut asked: Vec<_> = deciders
            .iter_mut()
            .map(|one| move |flows: &[Flow<'_>], names: &mut [UserName]| one.decide(flows, names))
            .collect();
        let Annotated { summary: written, stamp, replaced } =
            annotate(found, output, stop, &mut asked)?;
        let mut seen = Summary::default();
        deciders.into_iter().for_each(|decider| seen.add(decider.finish()));
        seen.flows.no_room = written.no_room;
        seen.flows.named = seen.flows.named.saturating_sub(written.no_room);
        if replaced {
            seen.files.annotated = 1;
        } else {
            seen.files.unchanged = 1;
        }
        if !(again && (seen.waits() || missing)) {
            self.ledger.enter(found, self.args.output.as_deref(), stamp);
        }
        summary.add(seen);
        Ok(())
    }
}

/// How many threads annotate a file of so many bytes: not more than there are blocks for, about.
fn threads(args: &Args, size: u64) -> usize {
    let all = args.threads.or(std::thread::available_parallelism().ok());
    let most = usize::try_from(size / WORTH_A_THREAD).unwrap_or(usize::MAX).saturating_add(1);
    all.map_or(1, NonZeroUsize::get).min(most).min(MOST_THREADS)
}

/// The next of a rotation; never, where nobody can hear them.
async fn next_rotation(rotations: &mut Option<Rotations>) -> io::Result<Heard> {
    match rotations {
        Some(rotations) => rotations.next().await,
        None => std::future::pending().await,
    }
}
