//! What it means: open the state, the source and the service; run until a signal comes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use procflow_binding::{Incarnation, Log};
use procflow_probe::{Heard, Redaction, Watch};
use procflow_store::{HistoryError, Recorder, StateDirectory};
use tokio::signal::unix::{SignalKind, signal};

use crate::archive::Archive;
use crate::args::{Args, Command};
use crate::database::{DATABASE, default_state};
use crate::doctor::doctor;
use crate::export::export;
use crate::failure::Failure;
use crate::flush::{Flush, Flusher, Keep};
use crate::query::query;
use crate::service::{Scope, Service, close};
use crate::trust::Trust;
use crate::watch::{SharedLog, Watcher, record};

/// Runs the program.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    match &args.command {
        Some(Command::Query(args)) => query(args),
        Some(Command::Export(args)) => export(args),
        Some(Command::Doctor(args)) => doctor(args),
        None => track(args),
    }
}

/// Watches and serves.
fn track(args: Args) -> Result<(), Failure> {
    // A history with seconds between two looks would guess more than it knows (see
    // BETWEEN_LOOKS in the history).
    if !(Duration::from_millis(1)..=Duration::from_secs(1)).contains(&args.period) {
        return Err(Failure::Period(args.period));
    }
    if args.keep_memory == 0 || args.keep_disk == 0 {
        return Err(Failure::KeepTooLittle);
    }
    let group = args.group.as_deref().map(group_id).transpose()?;
    let path = args.state.clone().map_or_else(default_state, Ok)?;
    let mut state = StateDirectory::open(&path, group)?;
    let Some(port) = args.port else { return keys_only(state, &args) };
    state.lock()?;
    let boot = procflow_probe::boot_id()?;
    let redaction = Redaction::new(!args.no_default_redaction, args.redact.clone());
    let options = procflow_probe::Options {
        period: args.period,
        ring: args.ring,
        arguments: args.command_lines.then_some(redaction),
        digests: args.digests,
        leave_out: args.without_program.clone(),
    };
    let source = procflow_probe::open(args.source.into(), &options)?;
    let host_name = procflow_probe::hostname()?;
    let trust = Arc::new(Trust::open(state, args.quiet)?);
    let state = trust.state();
    let database = state.shared_file(DATABASE)?;
    // A number of its own for this start, on disk before the first event.
    let number = state.count("incarnation")?;
    let mut incarnation = Incarnation { host: trust.own.public().host(), boot, number };
    let nanoseconds = u64::try_from(args.keep.as_nanos()).unwrap_or(u64::MAX);
    let bytes = args.keep_disk.saturating_mul(1 << 20);
    let keep = procflow_store::Keep { nanoseconds, bytes };
    let recorder = loop {
        match Recorder::begin(&database, incarnation, &host_name, keep) {
            // The count was lost, and begins anew; the database knows better.
            Err(HistoryError::Taken { .. }) => {
                incarnation.number = state.count("incarnation")?;
            }
            Err(error) if error.is_damage() => {
                let failed = |source| Failure::System { what: "cannot move the history", source };
                let aside = procflow_store::move_aside(&database).map_err(failed)?;
                let aside = aside.display();
                eprintln!("tracker: WARNING: {error}; it is now {aside}, and a new one begins");
                state.shared_file(DATABASE)?;
            }
            other => break other?,
        }
    };
    let archive = Archive::open(&database, incarnation)?;

    let now = procflow_probe::now()?;
    let log = Log::open(incarnation, source.coverage(), now);
    let mut watch = Watch::begin(source, now);
    let shared = Arc::new(SharedLog::new(log));
    let keep = Keep { nanoseconds, bytes: args.keep_memory.saturating_mul(1 << 20) };
    let mut flush = Flush::new(Arc::clone(&shared), recorder, keep);
    // The first look on this thread: what exists is known before anybody can ask.
    match watch.ask()? {
        Heard::Told { batch, .. } => record(&shared, batch),
        Heard::Failed { error, .. } => return Err(error.into()),
    }
    flush.flush()?;
    let shortfalls = watch.new_shortfalls().to_vec();
    if !args.quiet {
        eprintln!("tracker: watching with {}", watch.name());
        shortfalls.iter().for_each(|shortfall| eprintln!("tracker: {shortfall}"));
    }
    let (ended, any_ended) = tokio::sync::mpsc::channel(2);
    let failed = |source| Failure::System { what: "cannot start a thread", source };
    let watcher = Watcher::start(watch, Arc::clone(&shared), ended.clone()).map_err(failed)?;
    let flusher = Flusher::start(flush, ended).map_err(failed)?;

    let served = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|source| Failure::System { what: "cannot start the runtime", source })
        .and_then(|runtime| {
            runtime.block_on(async {
                let (congestion, quiet) = (args.congestion, args.quiet);
                let service = Service::new(shared, archive, trust, host_name, congestion, quiet)?;
                serve(Arc::new(service), port, quiet, any_ended).await
            })
        });
    let watched = watcher.stop();
    let flushed = flusher.stop();
    served?;
    let counted = watched?;
    flushed?;
    if let Some(counted) = counted
        && !args.quiet
    {
        eprintln!("tracker: events of the kernel: {counted}");
    }
    Ok(())
}

/// Serves until a signal comes, or watching or flushing ends.
async fn serve(
    service: Arc<Service>,
    port: u16,
    quiet: bool,
    mut any_ended: tokio::sync::mpsc::Receiver<&'static str>,
) -> Result<(), Failure> {
    let failed = |source| Failure::System { what: "cannot listen for signals", source };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let scope_now = |service: &Service| {
        if service.trust.anyone_authorized() { Scope::All } else { Scope::Loopback }
    };
    let mut changed = false;
    let stopped_by = loop {
        let scope = scope_now(&service);
        let endpoints = bind(&service, scope, port, changed).await?;
        if !quiet {
            say_who_is_served(&service, scope, port);
        }
        let mut serving = tokio::task::JoinSet::new();
        for endpoint in &endpoints {
            serving.spawn(Arc::clone(&service).serve(endpoint.clone()));
        }
        // Authorising the first updater opens the service to the network without a restart.
        let scope_changed = async {
            while scope_now(&service) == scope {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let stop = tokio::select! {
            _ = terminate.recv() => Some("SIGTERM"),
            _ = interrupt.recv() => Some("SIGINT"),
            ended = any_ended.recv() => ended,
            () = scope_changed => None,
        };
        close(endpoints).await;
        serving.join_all().await;
        if let Some(stop) = stop {
            break stop;
        }
        changed = true;
    };
    if !quiet {
        let events = service.log.lock().newest();
        eprintln!("tracker: stopped by {stopped_by}; {events} events, {}", service.counts());
    }
    Ok(())
}

/// Opens the endpoints; after a change of scope the sockets of the old ones may take a moment to
/// close.
async fn bind(
    service: &Service,
    scope: Scope,
    port: u16,
    changed: bool,
) -> Result<Vec<quinn::Endpoint>, Failure> {
    let mut tries = if changed { 100 } else { 1 };
    loop {
        tries -= 1;
        match service.bind(scope, port) {
            Err(Failure::Bind { source, .. })
                if tries > 0 && source.kind() == io::ErrorKind::AddrInUse =>
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            other => return other,
        }
    }
}

fn say_who_is_served(service: &Service, scope: Scope, port: u16) {
    let fingerprint = service.trust.own.public().fingerprint();
    match scope {
        Scope::Loopback => eprintln!(
            "tracker: serving this host alone on UDP port {port}; to open it to the network, add \
             an updater's key to {} (tracker --authorize LINE)",
            service.trust.authorized_file().display()
        ),
        Scope::All => {
            eprintln!("tracker: serving authorised updaters on UDP port {port}, key {fingerprint}");
        }
    }
}

/// `--authorize` and `--show-key`.
fn keys_only(state: StateDirectory, args: &Args) -> Result<(), Failure> {
    let trust = Trust::open(state, args.quiet)?;
    if let Some(line) = &args.authorize {
        let key = trust.authorize(line)?;
        println!("{} is in {}", key.fingerprint(), trust.authorized_file().display());
    }
    if args.show_key {
        let key = trust.own.public();
        let host = procflow_probe::hostname()?;
        println!("{key} tracker@{host}\n{}", key.fingerprint());
    }
    Ok(())
}

fn group_id(name: &str) -> Result<u32, Failure> {
    match nix::unistd::Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(Failure::NoGroup(name.to_owned())),
        Err(errno) => {
            Err(Failure::System { what: "cannot look up the group", source: errno.into() })
        }
    }
}
