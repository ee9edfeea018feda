//! What it means: open the state, the source and the service; run until a signal comes.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use procflow_binding::{Incarnation, Log};
use procflow_probe::Redaction;
use procflow_store::StateDirectory;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Args;
use crate::failure::Failure;
use crate::service::{Scope, Service, close};
use crate::trust::Trust;
use crate::watch::{Keep, SharedLog, Watcher, record};

/// Runs the program.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    // A history with seconds between two looks would guess more than it knows (see
    // BETWEEN_LOOKS in the history).
    if !(Duration::from_millis(1)..=Duration::from_secs(1)).contains(&args.period) {
        return Err(Failure::Period(args.period));
    }
    if args.keep_memory == 0 {
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
    let mut source = procflow_probe::open(args.source.into(), &options)?;
    // A number of its own for this start, on disk before the first event.
    let number = state.count("incarnation")?;
    let trust = Arc::new(Trust::open(state, args.quiet)?);
    let incarnation = Incarnation { host: trust.own.public().host(), boot, number };
    let host_name = procflow_probe::hostname()?;

    let log = Log::open(incarnation, source.coverage(), procflow_probe::now()?);
    let shared = Arc::new(SharedLog::new(log));
    let nanoseconds = u64::try_from(args.keep.as_nanos()).unwrap_or(u64::MAX);
    let keep = Keep { nanoseconds, bytes: args.keep_memory.saturating_mul(1 << 20) };
    // The first look on this thread: what exists is known before anybody can ask.
    let first = source.collect()?;
    record(&shared, first, None, source.keeps_up(), keep);
    if !args.quiet {
        eprintln!("tracker: watching with {}", source.name());
        source.shortfalls().iter().for_each(|shortfall| eprintln!("tracker: {shortfall}"));
    }
    let (ended, watcher_ended) = tokio::sync::oneshot::channel();
    let watcher = Watcher::start(source, Arc::clone(&shared), keep, ended)
        .map_err(|source| Failure::System { what: "cannot start a thread", source })?;

    let served = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|source| Failure::System { what: "cannot start the runtime", source })
        .and_then(|runtime| {
            runtime.block_on(async {
                let (congestion, quiet) = (args.congestion, args.quiet);
                let service = Service::new(shared, trust, host_name, congestion, quiet)?;
                serve(Arc::new(service), port, quiet, watcher_ended).await
            })
        });
    let watched = watcher.stop();
    served?;
    if let Some(counted) = watched?
        && !args.quiet
    {
        eprintln!("tracker: events of the kernel: {counted}");
    }
    Ok(())
}

/// Serves until a signal comes or the watcher ends.
async fn serve(
    service: Arc<Service>,
    port: u16,
    quiet: bool,
    mut watcher_ended: tokio::sync::oneshot::Receiver<()>,
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
            _ = &mut watcher_ended => Some("its source"),
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

fn default_state() -> Result<PathBuf, Failure> {
    procflow_store::default_state("tracker").ok_or(Failure::NoHome)
}
