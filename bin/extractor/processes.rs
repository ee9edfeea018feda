//! The process on every row: histories of sockets are asked about each flow that ends. It is the same join
//! that names the flows of nfcapd files. The histories come from files (`tracker export`), from trackers, or
//! from this host itself (`host.rs`); of a live capture they go on while it does (`following.rs`).

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant, SystemTime};

use procflow_binding::{
    FlowClock, Histories, HostId, Join, Place, PlaceName, Vantage, WhichNamespace,
};
use procflow_feed::{Feed, FeedError, Newcomers, Trust, real_time};
use procflow_store::read_exports;
use tokio::runtime::Runtime;

use crate::args::{Args, ProcessArgs, SourceArgs};
use crate::failure::Failure;
use crate::host::Host;
use crate::stop::Stop;

/// What is known of sockets, by whom, and where the capture was made.
pub(crate) struct Processes {
    histories: Histories,
    vantage: Vantage,
    teller: Teller,
}

/// Who goes on telling.
enum Teller {
    Nobody,
    Host(Host),
    Trackers(Trackers),
}

/// Captures count nanoseconds, or microseconds.
const GRANULARITY: u64 = 1000;

/// A tracker has told of a moment so long after it: it makes its events durable twice a second, and tells
/// nothing before.
const TELLING: Duration = Duration::from_secs(1);

/// How often trackers are asked for what is new.
const ASKING: Duration = Duration::from_secs(1);

/// How long they may take for that, before rows that need not wait are written.
const ANSWERING: Duration = Duration::from_secs(2);

/// What trackers are told of who asks.
const PROGRAM: &str = concat!("extractor ", env!("CARGO_PKG_VERSION"));

impl Processes {
    /// What the user named, if anything; told up to now.
    pub(crate) fn of(args: &Args, live: bool, stop: &Stop) -> Result<Option<Self>, Failure> {
        let Args { processes: args, source, quiet, .. } = args;
        let mut histories = Histories::default();
        let mut host = read_exports(&args.history, &mut histories)?;
        let mut teller = Teller::Nobody;
        let mut own = None;
        if args.processes {
            if !live {
                return Err(Failure::NotLive);
            }
            let watched = Host::watch(&mut histories, *quiet)?;
            host = Some(watched.id());
            own = Some(own_namespace()?);
            teller = Teller::Host(watched);
        } else if !args.tracker.is_empty() {
            let mut trackers = Trackers::of(args)?;
            if !live {
                wait_until_told(source, args.tolerance, stop);
            }
            let first = trackers.pull(&mut histories, stop)?;
            host = first.or(host);
            if live {
                teller = Teller::Trackers(trackers);
            } else {
                trackers.close();
            }
        } else if args.history.is_empty() {
            return Ok(None);
        }
        let host_itself = || PlaceName::Inside(own.unwrap_or(WhichNamespace::Initial));
        let place = match (args.vantage.clone().unwrap_or_else(host_itself), host) {
            (PlaceName::Inside(which), Some(host)) => {
                if !histories.has_namespace(host, &which) {
                    return Err(Failure::NoNamespace);
                }
                Place::Inside(host, which)
            }
            _ => Place::Outside,
        };
        let vantage = Vantage {
            place,
            clock: FlowClock::Host,
            tolerance: u64::try_from(args.tolerance.as_nanos()).unwrap_or(u64::MAX),
            granularity: GRANULARITY,
            icmp_types: true,
        };
        Ok(Some(Self { histories, vantage, teller }))
    }

    /// Ready to be asked.
    pub(crate) fn join(&self) -> Join<'_> {
        self.histories.join(&self.vantage)
    }

    /// Whether somebody goes on telling.
    pub(crate) fn goes_on(&self) -> bool {
        !matches!(self.teller, Teller::Nobody)
    }

    /// Takes in what was told since.
    pub(crate) fn catch_up(&mut self) {
        match &mut self.teller {
            Teller::Nobody => {}
            Teller::Host(host) => host.tell(&mut self.histories),
            Teller::Trackers(trackers) => trackers.ask(&mut self.histories),
        }
    }

    /// Forgets what ended so many nanoseconds ago.
    pub(crate) fn prune(&mut self, keep: u64) {
        self.histories.prune(keep, real_time(), self.vantage.clock);
    }

    /// Says goodbye; what the kernel told, for people.
    pub(crate) fn close(self) {
        match self.teller {
            Teller::Nobody => {}
            Teller::Host(host) => host.stop(),
            Teller::Trackers(trackers) => trackers.close(),
        }
    }
}

/// The network namespace that this process is in: the one whose interfaces it captures.
fn own_namespace() -> Result<WhichNamespace, Failure> {
    let metadata = std::fs::metadata("/proc/self/ns/net").map_err(Failure::Namespace)?;
    Ok(WhichNamespace::Inode(metadata.ino()))
}

/// A tracker needs a moment to tell of the last moments of a capture that was just made.
fn wait_until_told(source: &SourceArgs, tolerance: Duration, stop: &Stop) {
    let touched = source.files.iter().filter_map(|path| path.metadata().ok()?.modified().ok());
    let told = touched.max().and_then(|at| at.checked_add(tolerance.saturating_add(TELLING)));
    let left = told.and_then(|told| told.duration_since(SystemTime::now()).ok());
    let until = Instant::now() + left.unwrap_or_default().min(TELLING + tolerance);
    while !stop.is_wanted() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Trackers that are followed.
struct Trackers {
    runtime: Runtime,
    trust: Trust,
    feeds: Vec<Feed>,
    asked: Instant,
    /// Whether the last asking failed, and was told of.
    failing: bool,
}

impl Trackers {
    fn of(args: &ProcessArgs) -> Result<Self, Failure> {
        let trust = Trust::of_user(args.state.as_deref(), args.tracker_state.as_deref())?;
        let newcomers = Newcomers::of(args.trust.as_deref(), args.trust_first_use);
        let feeds: Result<Vec<Feed>, Failure> = args
            .tracker
            .iter()
            .map(|tracker| {
                let feed = Feed::at(PROGRAM, tracker, newcomers.clone());
                feed.ok_or_else(|| Failure::NotATracker(tracker.clone()))
            })
            .collect();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(Failure::Runtime)?;
        Ok(Self { runtime, trust, feeds: feeds?, asked: Instant::now(), failing: false })
    }

    /// Gets everything that they know now; whose host the first is.
    fn pull(&mut self, histories: &mut Histories, stop: &Stop) -> Result<Option<HostId>, Failure> {
        let Self { runtime, trust, feeds, .. } = self;
        let pulled = runtime.block_on(async {
            tokio::select! {
                pulled = pull_all(feeds, trust, histories) => pulled,
                () = stop.wanted() => Ok(()),
            }
        });
        pulled?;
        Ok(self.feeds.first().and_then(Feed::host))
    }

    /// Gets what is new, if it is time to. One that does not answer is asked again the next time.
    fn ask(&mut self, histories: &mut Histories) {
        if self.asked.elapsed() < ASKING {
            return;
        }
        let Self { runtime, trust, feeds, .. } = self;
        let pulled = runtime.block_on(async {
            // What came until then is kept.
            tokio::time::timeout(ANSWERING, pull_all(feeds, trust, histories)).await
        });
        let failed = match pulled {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the trackers are slow to answer".to_owned()),
        };
        match (&failed, self.failing) {
            (Some(error), false) => eprintln!("extractor: {error}; trying again"),
            (None, true) => eprintln!("extractor: the trackers answer again"),
            _ => {}
        }
        self.failing = failed.is_some();
        self.asked = Instant::now();
    }

    fn close(mut self) {
        let feeds = &mut self.feeds;
        self.runtime.block_on(async {
            for feed in feeds {
                feed.close().await;
            }
        });
        // A look-up of a name may hang for much longer; nobody waits for it any more.
        self.runtime.shutdown_timeout(Duration::from_millis(200));
    }
}

async fn pull_all(
    feeds: &mut [Feed],
    trust: &Trust,
    histories: &mut Histories,
) -> Result<(), FeedError> {
    let mut hosts = Vec::new();
    for feed in feeds {
        let pulled = feed.pull(trust, histories, &hosts).await;
        if let Some(key) = feed.newly_met() {
            let (name, key) = (feed.name(), key.fingerprint());
            eprintln!("extractor: the tracker at {name} is known from now on, with the key {key}");
        }
        hosts.push(pulled?);
    }
    Ok(())
}
