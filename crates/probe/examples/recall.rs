//! Makes connections, each by a process of its own, watches them with the sock_diag source, and prints
//! how many of them would be given to the right process, asking as the updater does with the
//! connections' own times.
//!
//! `cargo run -p procflow-probe --release --example recall -- [--seconds N] [--rate N] [--period MS]
//! [--lives MS,MS]`

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use procflow_binding::{
    BootTime, Change, Event, FlowClock, Histories, HostId, Owner, Place, ProcessKey, Vantage,
    WhichNamespace,
};
use procflow_core::{Endpoint, FlowKey, Interval, Protocol, Timestamp};
use procflow_probe::{Choice, Options, boot_id, open};

const HOST: HostId = HostId([0; 16]);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let mut seconds = 10;
    let mut rate = 100;
    let mut period = 100;
    let mut lives = vec![100, 20];
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} what?"));
        match argument.as_str() {
            "--connect" => return connect(value()?.parse()?, value()?.parse()?),
            "--seconds" => seconds = value()?.parse()?,
            "--rate" => rate = value()?.parse()?,
            "--lives" => {
                lives =
                    value()?.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?;
            }
            "--period" => period = value()?.parse()?,
            _ => return Err(format!("what is {argument}?").into()),
        }
    }
    let (duration, period) = (Duration::from_secs(seconds), Duration::from_millis(period));
    println!("looking every {period:?} while nothing happens; {seconds} s each");
    let (_, watched) = watch(period, || {
        std::thread::sleep(duration);
        Ok(())
    })?;
    println!("idle: {watched}");
    for life in lives {
        let life = Duration::from_millis(life);
        let (histories, truths, watched) = {
            let mut truths = Vec::new();
            let (histories, watched) = watch(period, || {
                truths = generate(rate, life, duration)?;
                Ok(())
            })?;
            (histories, truths, watched)
        };
        println!("{rate} connections/s that live {life:?}: {}", judge(&histories, &truths));
        println!("    {watched}");
    }
    Ok(())
}

/// What a process that made a connection says of itself.
struct Truth {
    process: ProcessKey,
    key: FlowKey,
    interval: Interval,
}

/// The process that makes one connection.
fn connect(server: SocketAddr, life: u64) -> Result<()> {
    let begun = real();
    let stream = TcpStream::connect(server)?;
    let local = stream.local_addr()?;
    std::thread::sleep(Duration::from_millis(life));
    let ended = real();
    drop(stream);
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').ok_or("no name in stat")?.1;
    // Field 22 of all, and the first here is field 3 (proc_pid_stat(5)), in hundredths of a second.
    let start: u64 = fields.split_whitespace().nth(19).ok_or("no start in stat")?.parse()?;
    let (pid, start) = (std::process::id(), start * 10_000_000);
    // One write, so that the lines of several do not mix.
    let line = format!("{pid} {start} {local} {server} {} {}\n", begun.0, ended.0);
    std::io::stdout().write_all(line.as_bytes())?;
    Ok(())
}

fn real() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// Makes `rate` connections a second for so long, and collects what their processes say.
fn generate(rate: u32, life: Duration, duration: Duration) -> Result<Vec<Truth>> {
    let listener = TcpListener::bind("0.0.0.0:0")?;
    let port = listener.local_addr()?.port();
    let done = Arc::new(AtomicBool::new(false));
    let server = std::thread::spawn({
        let done = Arc::clone(&done);
        move || {
            // Held longer than the clients hold theirs.
            let mut held: Vec<(Instant, TcpStream)> = Vec::new();
            while let Ok((stream, _)) = listener.accept() {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                held.push((Instant::now(), stream));
                held.retain(|(since, _)| since.elapsed() < life + Duration::from_millis(500));
            }
        }
    });
    let path = std::env::temp_dir().join(format!("recall-{}", std::process::id()));
    File::create(&path)?;
    let program = std::env::current_exe()?;
    let begun = Instant::now();
    let mut children: Vec<Child> = Vec::new();
    for number in 0.. {
        let due = begun + Duration::from_secs(1) * number / rate;
        if due.duration_since(begun) >= duration {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let address = format!("127.0.{}.{}:{port}", number / 250 % 250, number % 250 + 1);
        let child = Command::new(&program)
            .args(["--connect", &address, &life.as_millis().to_string()])
            .stdout(Stdio::from(OpenOptions::new().append(true).open(&path)?))
            .spawn()?;
        children.push(child);
        children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }
    for mut child in children {
        child.wait()?;
    }
    let took = begun.elapsed();
    // The last look that could see any of it.
    std::thread::sleep(Duration::from_millis(300));
    done.store(true, Ordering::Relaxed);
    let _ = TcpStream::connect(("127.0.0.1", port));
    let _ = server.join();
    let text = fs::read_to_string(&path)?;
    fs::remove_file(&path)?;
    let truths = text.lines().map(truth).collect::<Option<Vec<_>>>().ok_or("a line is no truth")?;
    println!("made {} connections in {took:.1?}", truths.len());
    Ok(truths)
}

fn truth(line: &str) -> Option<Truth> {
    let mut fields = line.split(' ');
    let mut next = || fields.next();
    let process = ProcessKey { pid: next()?.parse().ok()?, start: BootTime(next()?.parse().ok()?) };
    let mut end = || Some(Endpoint::from(next()?.parse::<SocketAddr>().ok()?));
    let (source, destination) = (end()?, end()?);
    let mut time = || Some(Timestamp(next()?.parse().ok()?));
    let interval = Interval { first: time()?, last: time()? };
    Some(Truth { process, key: FlowKey { protocol: Protocol::TCP, source, destination }, interval })
}

/// What watching cost.
struct Watched {
    looks: u32,
    calls: u32,
    busy: Duration,
    took: Duration,
    longest: Duration,
    shortfalls: Vec<String>,
}

impl std::fmt::Display for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { looks, calls, busy, took, longest, .. } = self;
        let share = 100.0 * busy.as_secs_f64() / took.as_secs_f64();
        write!(
            f,
            "{share:.2} % of a processor for {looks} looks in {calls} calls over {took:.1?}, the \
             longest took {longest:.1?}"
        )?;
        self.shortfalls.iter().try_for_each(|shortfall| write!(f, "\n    note: {shortfall}"))
    }
}

/// Watches while `work` is done.
fn watch(period: Duration, work: impl FnOnce() -> Result<()>) -> Result<(Histories, Watched)> {
    let done = Arc::new(AtomicBool::new(false));
    let (ready, is_ready) = std::sync::mpsc::channel();
    let watcher = std::thread::Builder::new().name("watch".to_owned()).spawn({
        let done = Arc::clone(&done);
        move || follow(period, &done, &ready)
    })?;
    let worked = is_ready.recv().map_err(Into::into).and_then(|()| work());
    done.store(true, Ordering::Relaxed);
    let watched = watcher.join().map_err(|_| "the watcher panicked")?;
    worked?;
    watched
}

fn follow(
    period: Duration,
    done: &AtomicBool,
    ready: &std::sync::mpsc::Sender<()>,
) -> Result<(Histories, Watched)> {
    let mut histories = Histories::default();
    let history = histories.entry(HOST, boot_id()?);
    let mut source = open(Choice::SockDiag, &Options { period, ..Options::default() })?;
    let mut sequence = 0;
    let mut apply = |time, change| {
        sequence += 1;
        history.apply(Event { sequence, time, change });
    };
    apply(procflow_probe::now()?, Change::Watch(source.coverage()));
    source.collect()?.changes.into_iter().for_each(|(time, change)| apply(time, change));
    let _ = ready.send(());
    let (begun, busy) = (Instant::now(), processor_time()?);
    let (mut looks, mut calls, mut longest) = (0, 0, Duration::ZERO);
    let mut until = BootTime(0);
    while !done.load(Ordering::Relaxed) {
        std::thread::sleep(source.pause());
        let asked = Instant::now();
        let batch = source.collect()?;
        longest = longest.max(asked.elapsed());
        calls += 1;
        looks += u32::from(batch.watched_until > until);
        until = batch.watched_until;
        batch.changes.into_iter().for_each(|(time, change)| apply(time, change));
    }
    let watched = Watched {
        looks,
        calls,
        busy: processor_time()?.saturating_sub(busy),
        took: begun.elapsed(),
        longest,
        shortfalls: source.shortfalls().iter().skip(1).map(ToString::to_string).collect(),
    };
    history.watched_until(until);
    Ok((histories, watched))
}

/// What this thread has used.
fn processor_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// Asks who made each connection.
fn judge(histories: &Histories, truths: &[Truth]) -> String {
    let vantage = Vantage {
        place: Place::Inside(HOST, WhichNamespace::Initial),
        clock: FlowClock::Host,
        tolerance: 10_000_000,
        granularity: 0,
        icmp_types: true,
    };
    let mut right: BTreeMap<String, usize> = BTreeMap::new();
    let mut missed: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = 0;
    for truth in truths {
        let answer = histories.attribute(&truth.key, truth.interval, &vantage).source;
        match answer {
            Owner::Known { holders, quality } => {
                if holders.iter().all(|holder| holder.process.key == truth.process) {
                    *right.entry(quality.to_string()).or_default() += 1;
                } else {
                    wrong += 1;
                }
            }
            Owner::Unknown(reason) => *missed.entry(reason.to_string()).or_default() += 1,
            Owner::Ambiguous { .. } => *missed.entry("ambiguous".to_owned()).or_default() += 1,
            Owner::Kernel => *missed.entry("kernel".to_owned()).or_default() += 1,
        }
    }
    let found: usize = right.values().sum();
    let recall = 100.0 * found as f64 / truths.len().max(1) as f64;
    format!("{recall:.2} % right {right:?}, missed {missed:?}, {wrong} wrong")
}
