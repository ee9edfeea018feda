//! Looks at this host once and prints what is there; with `--time N` looks N times more and prints
//! what a look costs; with `--follow SECONDS` prints what changes.
//!
//! `cargo run -p procflow-probe --release --example look -- [ebpf|sock_diag|portable] [--time N]`

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

use procflow_binding::{Change, Namespace, NamespaceId, Process, ProcessKey};
use procflow_probe::{Choice, Options, Source, boot_id, hostname, open};

fn main() -> Result<(), Box<dyn Error>> {
    let mut choice = Choice::Auto;
    let mut times = 0;
    let mut follow = Duration::ZERO;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "ebpf" => choice = Choice::Ebpf,
            "sock_diag" => choice = Choice::SockDiag,
            "portable" => choice = Choice::Portable,
            "--time" => times = arguments.next().ok_or("how often?")?.parse()?,
            "--follow" => {
                follow = Duration::from_secs(arguments.next().ok_or("how long?")?.parse()?);
            }
            _ => return Err(format!("what is {argument}?").into()),
        }
    }
    if times > 0 {
        for choice in [Choice::Ebpf, Choice::SockDiag, Choice::Portable] {
            time(choice, times)?;
        }
        return Ok(());
    }
    println!("host {} boot {}", hostname()?, boot_id()?);
    let mut source = open(choice, &Options::default())?;
    let mut table = Printer::default();
    table.print(source.as_mut())?;
    for shortfall in source.shortfalls() {
        println!("note: {shortfall}");
    }
    let begun = Instant::now();
    while begun.elapsed() < follow {
        std::thread::sleep(source.pause());
        table.print(source.as_mut())?;
    }
    Ok(())
}

/// What was told before, by the names that later lines need.
#[derive(Default)]
struct Printer {
    namespaces: BTreeMap<NamespaceId, Namespace>,
    processes: BTreeMap<ProcessKey, Process>,
}

impl Printer {
    fn print(&mut self, source: &mut dyn Source) -> Result<(), Box<dyn Error>> {
        for (time, change) in source.collect()?.changes {
            match change {
                Change::Namespace(namespace) => {
                    println!("{time} namespace {namespace:?}");
                    self.namespaces.insert(namespace.id, namespace);
                }
                Change::Address(address) => println!(
                    "{time} address {}/{} in {}",
                    address.address,
                    address.prefix,
                    self.namespace(address.namespace)
                ),
                Change::Process(process) => {
                    println!("{time} process {process:?}");
                    self.processes.insert(process.key, process);
                }
                Change::Open(open) => {
                    let socket = open.socket;
                    let remote = socket.remote().map(|remote| format!(" > {remote}"));
                    println!(
                        "{time} {:?} {} {}{} in {} held by [{}]",
                        socket.role(),
                        socket.protocol(),
                        socket.local(),
                        remote.unwrap_or_default(),
                        self.namespace(socket.namespace()),
                        self.owners(&open.owners)
                    );
                }
                Change::Owners(owners) => println!(
                    "{time} socket {} now held by [{}]",
                    owners.id.0,
                    self.owners(&owners.owners)
                ),
                other => println!("{time} {other:?}"),
            }
        }
        Ok(())
    }

    fn namespace(&self, id: NamespaceId) -> String {
        match self.namespaces.get(&id) {
            Some(Namespace { initial: true, .. }) => "the host".to_owned(),
            Some(Namespace { name: Some(name), .. }) => name.clone(),
            _ => format!("namespace {}", id.0),
        }
    }

    fn owners(&self, keys: &[ProcessKey]) -> String {
        let name = |key: &ProcessKey| {
            let comm = self.processes.get(key).map_or("?", |process| &process.comm);
            format!("{comm} {}", key.pid)
        };
        keys.iter().map(name).collect::<Vec<_>>().join(", ")
    }
}

/// Prints what a look costs: the first one, and of `times` more the cheapest and the median.
fn time(choice: Choice, times: usize) -> Result<(), Box<dyn Error>> {
    let mut source = open(choice, &Options::default())?;
    let begun = Instant::now();
    let first = source.collect()?;
    let took = begun.elapsed();
    let count = |wanted: fn(&Change) -> bool| {
        let changes = first.changes.iter();
        changes.filter(|(_, change)| wanted(change)).count()
    };
    let sockets = count(|change| matches!(change, Change::Open(_)));
    let namespaces = count(|change| matches!(change, Change::Namespace(_)));
    let mut looks = Vec::with_capacity(times);
    let mut until = first.watched_until;
    while looks.len() < times {
        // At the pace of a tracker: every so often a look also does what is due once a second.
        std::thread::sleep(source.pause());
        let begun = Instant::now();
        let batch = source.collect()?;
        // Otherwise it was not yet time to look.
        if batch.watched_until > until {
            looks.push(begun.elapsed());
        }
        until = batch.watched_until;
    }
    looks.sort_unstable();
    println!(
        "{}: {sockets} sockets in {namespaces} namespaces; first look {took:.1?}, then min {:.1?} median {:.1?} max {:.1?} of {times}",
        source.name(),
        looks[0],
        looks[times / 2],
        looks[times - 1]
    );
    Ok(())
}
