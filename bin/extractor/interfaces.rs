//! Interfaces as a source of frames: a thread for each captures, and their batches come one after another.
//! And the subcommand that lists them.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use procflow_capture::{Interface, Live, LiveError, LiveSettings, Statistics, Stopper};
use procflow_core::Timestamp;
use procflow_core::flow::Filled;
use procflow_core::packet::Batch;
use serde_json::json;

use crate::args::{InterfacesArgs, SourceArgs};
use crate::failure::Failure;
use crate::performance::Shared;
use crate::stop::Stop;

/// How often flows are looked at that no packet ends, and whether to stop.
const TICK: Duration = Duration::from_millis(200);

/// So many batches wait at most; what comes then stays in the kernel's buffer, and is dropped there.
const WAITING: usize = 64;

/// The interfaces that are captured.
pub(crate) struct Interfaces {
    names: Vec<String>,
    batches: Receiver<Result<Batch, LiveError>>,
    threads: Vec<JoinHandle<Statistics>>,
    so_far: Shared,
    stoppers: Vec<Stopper>,
    stop: Stop,
    until: Option<Instant>,
    /// How late frames may come, in nanoseconds.
    late: i64,
    /// It is to end: frames that were captured later are not wanted, and when the others should be here.
    ends: Option<(Timestamp, Instant)>,
    failed: Option<Failure>,
}

impl Interfaces {
    /// Opens those that are named, or the one of the default route.
    pub(crate) fn open(args: &SourceArgs, stop: &Stop) -> Result<Self, Failure> {
        let mut names: Vec<String> =
            args.files.iter().map(|name| name.to_string_lossy().into_owned()).collect();
        if names.is_empty() {
            let default = procflow_probe::default_interface().map_err(Failure::Routes)?;
            names.push(default.ok_or(Failure::NoRoute)?);
        }
        let settings = LiveSettings {
            filter: args.filter.clone(),
            promiscuous: !args.no_promiscuous,
            buffer: args.buffer,
            timeout: u32::try_from(args.timeout).unwrap_or(0),
            monitor: args.monitor,
            snap_length: args.snaplen,
        };
        let mut lives = Vec::new();
        for name in &names {
            let live = Live::open(name, &settings)?;
            if let Some(warning) = live.warning() {
                eprintln!("extractor: {warning}; captured without promiscuous mode");
            }
            lives.push(live);
        }
        let (sender, batches) = sync_channel(WAITING);
        let stoppers = lives.iter_mut().map(Live::stopper).collect();
        let so_far: Shared = Arc::new(Mutex::new(vec![Statistics::default(); names.len()]));
        let threads = lives
            .into_iter()
            .enumerate()
            .map(|(number, live)| {
                let (sender, so_far) = (sender.clone(), so_far.clone());
                std::thread::spawn(move || capture(live, &sender, |now| tell(&so_far, number, now)))
            })
            .collect();
        // As long as the kernel keeps them, and some time to get here.
        let late = i64::from(settings.timeout) * 1_000_000 + 300_000_000;
        let until = args.duration.map(|duration| Instant::now() + duration);
        let stop = stop.clone();
        let (ends, failed) = (None, None);
        Ok(Self { names, batches, threads, so_far, stoppers, stop, until, late, ends, failed })
    }

    /// What the kernel says of each, while they are captured.
    pub(crate) fn so_far(&self) -> Shared {
        self.so_far.clone()
    }

    pub(crate) fn names(&self) -> String {
        self.names.join(", ")
    }

    /// Takes the next frames into a batch, and says how late it is. To the end belongs what was captured
    /// until then, though the kernel keeps it for a moment.
    pub(crate) fn next(&mut self, batch: &mut Batch) -> Filled {
        batch.clear();
        let over = self.until.is_some_and(|until| Instant::now() >= until);
        let patience = Duration::from_nanos(self.late.unsigned_abs());
        if self.ends.is_none() && (self.stop.is_wanted() || over) {
            self.ends = Some((now(), Instant::now() + patience));
        }
        match self.batches.recv_timeout(TICK) {
            Ok(Ok(next)) => *batch = next,
            Ok(Err(error)) => {
                self.failed.get_or_insert(Failure::Live(error));
            }
            Err(RecvTimeoutError::Timeout) => {}
            // All interfaces are gone.
            Err(RecvTimeoutError::Disconnected) => return Filled::Last,
        }
        if let Some((end, here)) = self.ends {
            batch.retain(|frame, _| frame.time <= end);
            if Instant::now() >= here {
                return Filled::Last;
            }
        }
        let Timestamp(now) = now();
        Filled::More(Some(Timestamp(now - self.late)))
    }

    /// Ends all sessions: what the kernel says of them, and what went wrong.
    pub(crate) fn finish(self) -> (Statistics, Option<Failure>) {
        let Self { batches, threads, stoppers, failed, .. } = self;
        stoppers.iter().for_each(Stopper::stop);
        // Whoever waits to hand on a batch must not.
        drop(batches);
        let all = threads.into_iter().filter_map(|thread| thread.join().ok());
        (all.fold(Statistics::default(), Statistics::and), failed)
    }
}

/// The time by which frames are captured.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// Keeps what the kernel says of an interface for those who look.
fn tell(so_far: &Shared, number: usize, now: Statistics) {
    if let Some(place) = so_far.lock().unwrap_or_else(PoisonError::into_inner).get_mut(number) {
        *place = now;
    }
}

/// Captures until told to stop; tells now and then what the kernel says.
fn capture(
    mut live: Live,
    sender: &SyncSender<Result<Batch, LiveError>>,
    tell: impl Fn(Statistics),
) -> Statistics {
    let mut told = Instant::now();
    while !live.is_over() {
        if told.elapsed() >= TICK {
            tell(live.statistics());
            told = Instant::now();
        }
        let mut batch = Batch::default();
        let read = live.next_batch(&mut batch);
        if !batch.is_empty() && sender.send(Ok(batch)).is_err() {
            break;
        }
        if let Err(error) = read {
            let _ = sender.send(Err(error));
        }
    }
    live.statistics()
}

/// `extractor interfaces`.
pub(crate) fn list(args: &InterfacesArgs) -> Result<ExitCode, Failure> {
    let default = procflow_probe::default_interface().unwrap_or_default();
    let mut output = io::stdout().lock();
    let printed = procflow_capture::interfaces()?.iter().try_for_each(|interface| {
        let Interface { name, description, addresses, up, loopback } = interface;
        let default = default.as_ref() == Some(name);
        if args.json {
            let row = json!({
                "name": name,
                "description": description,
                "addresses": addresses,
                "up": up,
                "loopback": loopback,
                "default": default,
            });
            return writeln!(output, "{row}");
        }
        let addresses = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let marks = [(default, "default"), (!up, "down"), (*loopback, "loopback")];
        let marks = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark);
        let about =
            description.iter().map(String::as_str).chain(marks).collect::<Vec<_>>().join(", ");
        writeln!(
            output,
            "{name:15}  {addresses}{}{about}",
            if addresses.is_empty() { "" } else { "  " }
        )
    });
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Stdout(error)),
        _ => Ok(ExitCode::SUCCESS),
    }
}
