//! Beside a real nfcapd: it rotates, is restarted, and runs the updater itself, while updaters
//! come, go and are killed. Every flow that was sent must be there, once.

mod lab;

use std::collections::BTreeSet;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use lab::{
    Answer, Collector, Exporter, Lab, Recipe, Running, big_file, final_files, installed, nfdump,
    wait_for,
};

/// How often updaters are killed.
const KILLED: usize = 50;

/// How often nfcapd is restarted.
const RESTARTED: usize = 12;

fn equipped() -> bool {
    ["nfcapd", "nfdump"].into_iter().all(installed)
}

/// A socket of this process, and where it is bound. It is there for so long that flows of a moment
/// ago, and the tolerance around them, lie after its beginning.
fn own_socket() -> (UdpSocket, SocketAddrV4) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let SocketAddr::V4(address) = socket.local_addr().unwrap() else { unreachable!() };
    std::thread::sleep(Duration::from_secs(2));
    (socket, address)
}

/// An updater that takes files as soon as nfcapd has named them.
fn eager(lab: &Lab, time: &str, flows: &Path) -> Command {
    let mut command = lab.updater_command();
    command.args([time, "--grace", "0s", "--slot", "1s", "--vantage", "host", "--dir"]).arg(flows);
    command
}

/// All files below a directory.
fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

fn strays(directory: &Path) -> usize {
    let files = files_below(directory);
    files.iter().filter(|path| path.to_string_lossy().contains(".upd.")).count()
}

/// Every file says that it is whole, and nothing else lies there.
fn only_whole_files_are_in(directory: &Path) {
    assert_eq!(files_below(directory), final_files(directory));
    for file in final_files(directory) {
        let check = Command::new("nfdump").arg("-v").arg(&file).output().unwrap();
        assert!(check.status.success(), "{check:?}");
    }
}

fn all_are_named(directory: &Path, name: &str) {
    let names: BTreeSet<String> = nfdump(directory, "fmt:%uname").into_iter().collect();
    assert_eq!(names, BTreeSet::from([name.to_owned()]));
}

/// What the kernel calls this process, which holds the sockets.
fn own_name() -> String {
    lab::read(Path::new("/proc/self/comm")).trim().to_owned()
}

#[test]
fn an_updater_killed_fifty_times_loses_doubles_and_leaves_nothing() {
    if !equipped() {
        return;
    }
    let lab = Lab::new();
    let _tracker = lab.tracker();
    let (_socket, address) = own_socket();
    let collector = Collector::start(&lab, "flows", "2", &[]);
    let untouched = Collector::start(&lab, "untouched", "2", &[]);
    let mut exporter = Exporter::new(address, &[&collector, &untouched]);
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    let mut random = u64::try_from(seed & u128::from(u64::MAX)).unwrap() | 1;
    let stop = AtomicBool::new(false);
    let (mut left_behind, mut replaced) = (0, 0);
    std::thread::scope(|scope| {
        let exporting = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                exporter.send(300);
            }
        });
        let inodes = || -> BTreeSet<u64> {
            let files = final_files(&collector.flows).into_iter();
            files.filter_map(|path| Some(path.metadata().ok()?.ino())).collect()
        };
        for round in 0..KILLED {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let before = inodes();
            // Each writes other names, so that there is always something to replace.
            let mut command = eager(&lab, "1s", &collector.flows);
            command.args(["--force", "--replace-names", "--name", &format!("{{comm}} {round}")]);
            let updater = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let mut updater = Running(updater);
            std::thread::sleep(Duration::from_millis(random % 1000));
            updater.0.kill().unwrap();
            updater.0.wait().unwrap();
            left_behind += usize::from(strays(&collector.flows) > 0);
            replaced += usize::from(!before.is_subset(&inodes()));
        }
        stop.store(true, Ordering::Relaxed);
        exporting.join().unwrap();
    });
    // Or the test has shown nothing.
    assert!(left_behind > 0 && replaced > 0, "{left_behind} left behind, {replaced} replaced");
    let (flows, untouched) = (collector.stop(), untouched.stop());
    std::thread::sleep(Duration::from_secs(2));
    exporter.all_are_in(&untouched);
    exporter.all_are_in(&flows);
    one_more_run_names_all(&lab, &exporter, &flows);
}

/// After one more run everything is there that was sent, whole and named.
fn one_more_run_names_all(lab: &Lab, exporter: &Exporter, flows: &Path) {
    let mut last = eager(lab, "1s", flows);
    Answer::of(last.args(["--once", "--force", "--replace-names"])).ok();
    exporter.all_are_in(flows);
    only_whole_files_are_in(flows);
    all_are_named(flows, &own_name());
}

#[test]
fn an_nfcapd_restarted_within_its_slot_loses_nothing() {
    if !equipped() {
        return;
    }
    let lab = Lab::new();
    let _tracker = lab.tracker();
    let (_socket, address) = own_socket();
    // At most one end of a slot falls into the test.
    let mut collector = Collector::start(&lab, "flows", "3600", &[]);
    let mut exporter = Exporter::new(address, &[&collector]);
    let flows = collector.flows.clone();
    let stop = AtomicBool::new(false);
    let mut replaced = 0;
    std::thread::scope(|scope| {
        let updating = scope.spawn(|| {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                let mut command = eager(&lab, "1s", &flows);
                command.args(["--once", "--replace-names", "--wait", "0s"]);
                let said = Answer::of(command.args(["--name", &format!("{{comm}} {round}")]));
                // A file that is being appended to is left for the next time, and said.
                let failed = said.code == Some(1) && said.err.contains("changed while");
                assert!(said.code == Some(0) || failed, "{said:?}");
                round += usize::from(said.out.contains("1 annotated"));
            }
            round
        });
        for _ in 0..RESTARTED {
            exporter.send(3000);
            std::thread::sleep(Duration::from_millis(200));
            collector = collector.restart(&lab, "flows", "3600");
        }
        collector.stop();
        stop.store(true, Ordering::Relaxed);
        replaced = updating.join().unwrap();
    });
    assert!(replaced > 1, "replaced {replaced} times");
    assert!(final_files(&flows).len() <= 2, "it appends: {:?}", final_files(&flows));
    std::thread::sleep(Duration::from_secs(1));
    one_more_run_names_all(&lab, &exporter, &flows);
}

#[test]
fn every_hierarchy_of_nfcapd_is_an_archive() {
    if !equipped() {
        return;
    }
    let lab = Lab::new();
    let _tracker = lab.tracker();
    let (_socket, address) = own_socket();
    let mut collectors = Vec::new();
    for scheme in 0..=8 {
        let scheme = scheme.to_string();
        // The odd ones tell the time zone as well.
        let zone = if scheme.parse::<u8>().unwrap() % 2 == 1 { &["-Z"][..] } else { &[] };
        let more = [&["-S", &scheme], zone].concat();
        collectors.push(Collector::start(&lab, &format!("flows/{scheme}"), "2", &more));
    }
    collectors.push(Collector::start(&lab, "flows/sources", "2", &["-S", "2", "-M"]));
    let all: Vec<&Collector> = collectors.iter().collect();
    let mut exporter = Exporter::new(address, &all);
    exporter.send(30);
    let directories: Vec<PathBuf> = collectors.into_iter().map(Collector::stop).collect();
    std::thread::sleep(Duration::from_secs(2));
    let root = lab.path("flows");
    let names: Vec<PathBuf> = files_below(&root);
    let deepest = names.iter().map(|path| path.strip_prefix(&root).unwrap().components().count());
    assert_eq!(deepest.max(), Some(7), "sources/ADDRESS/YYYY/MM/DD/HH/FILE: {names:?}");
    assert!(names.iter().any(|path| path.to_string_lossy().contains('+')), "{names:?}");
    let said = Answer::of(eager(&lab, "1s", &root).arg("--once")).ok();
    assert!(said.out.contains("300 named"), "{said:?}");
    for directory in directories {
        exporter.all_are_in(&directory);
        all_are_named(&directory, &own_name());
    }
    let said = Answer::of(eager(&lab, "1s", &root).arg("--once")).ok();
    assert!(said.out.contains("files: 0 annotated, 0 unchanged"), "{said:?}");
}

#[test]
fn a_rotation_is_heard_and_not_waited_for() {
    if !equipped() {
        return;
    }
    let lab = Lab::new();
    let _tracker = lab.tracker();
    let (_socket, address) = own_socket();
    // The directory of the day is made by the first rotation.
    let collector = Collector::start(&lab, "flows", "2", &["-S", "7"]);
    let mut exporter = Exporter::new(address, &[&collector]);
    let log = lab.path("updater.log");
    let mut command = lab.updater_command();
    command.args(["1h", "--grace", "1s", "--vantage", "host", "--json", "--dir"]);
    let updater = command
        .arg(&collector.flows)
        .stdout(std::fs::File::create(&log).unwrap())
        .stderr(Stdio::inherit())
        .spawn();
    let updater = Running(updater.unwrap());
    wait_for("the first update", || lab::read(&log).lines().count() == 1);
    exporter.send(30);
    // In an hour it would come by itself; nobody waits here for longer than 20 s.
    wait_for("the file to be named", || {
        let named = files_below(&collector.flows).into_iter().filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with("nfcapd.2")
                && nfdump(path, "fmt:%uname").iter().any(|name| *name == own_name())
        });
        named.count() > 0
    });
    let flows = collector.stop();
    assert_eq!(updater.stop(), Some(0));
    exporter.all_are_in(&flows);
}

#[test]
fn nfcapd_may_run_the_updater_itself_even_beside_another() {
    if !equipped() {
        return;
    }
    let lab = Lab::new();
    let _tracker = lab.tracker();
    let (_socket, address) = own_socket();
    let hook = format!(
        "{} 127.0.0.1 {} --state {} --tracker-state {} --vantage host \
         --tolerance 100ms --quiet --file %d/%f",
        env!("CARGO_BIN_EXE_updater"),
        lab.port,
        lab.path("updater").display(),
        lab.path("tracker").display(),
    );
    let collector = Collector::start(&lab, "flows", "3", &["-S", "1", "-x", &hook]);
    let mut exporter = Exporter::new(address, &[&collector]);
    exporter.send(300);
    let named = || {
        let files = files_below(&collector.flows).into_iter();
        let files = files.filter(|path| !path.to_string_lossy().contains("current"));
        files.filter(|path| nfdump(path, "fmt:%uname").contains(&own_name())).count()
    };
    wait_for("the file that was just rotated", || named() == 1);
    // From now on two want the same files.
    let updater = eager(&lab, "1s", &collector.flows).stdout(Stdio::null()).spawn().unwrap();
    let updater = Running(updater);
    for _ in 0..4 {
        exporter.send(3000);
        std::thread::sleep(Duration::from_secs(2));
    }
    let flows = collector.stop();
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(updater.stop(), Some(0));
    exporter.all_are_in(&flows);
    all_are_named(&flows, &own_name());
    assert_eq!(strays(&flows), 0);
    let said = lab::read(&lab.path("flows.nfcapd.log"));
    assert!(!said.contains("updater: /"), "the hook had trouble: {said}");
}

/// A file whose flows are so many seconds old; younger than now, if that is negative.
fn flows_of_age(directory: &Path, address: SocketAddrV4, seconds: i64) -> PathBuf {
    let path = directory.join("nfcapd.202611210300");
    let elsewhere = SocketAddrV4::new([192, 0, 2, 1].into(), 53);
    let mut recipe = Recipe::now(address, elsewhere, 17, 10);
    for time in [&mut recipe.first_ms, &mut recipe.last_ms] {
        *time = time.checked_add_signed(-1000 * seconds).unwrap();
    }
    big_file(&path, &recipe);
    path
}

#[test]
fn what_the_tracker_tells_later_is_named_later() {
    if !equipped() {
        return;
    }
    let lab = Lab::new();
    let tracker = lab.tracker();
    let flows = lab.directory("flows");
    let (_socket, address) = own_socket();
    let path = flows_of_age(&flows, address, -12);
    let before = (std::fs::read(&path).unwrap(), path.metadata().unwrap().ino());
    // As nfcapd would run it: the file is there, what happened is not told yet. Nor is a name
    // written that says so, which would be in the way of the better one.
    for _ in 0..2 {
        let mut command = lab.updater_command();
        command.args(["--miss", "reason", "--vantage", "host", "--file"]).arg(&path);
        let said = Answer::of(&mut command).ok();
        assert!(said.out.contains("0 named") && said.out.contains("not-yet-known"), "{said:?}");
        assert!((std::fs::read(&path).unwrap(), path.metadata().unwrap().ino()) == before);
    }
    // The tracker stands still; then it tells everything at once.
    tracker.signal(nix::sys::signal::Signal::SIGSTOP);
    let log = lab.path("updater.log");
    let out = std::fs::File::create(&log).unwrap();
    let updater = eager(&lab, "1s", &flows).stdout(out).stderr(Stdio::null()).spawn().unwrap();
    let updater = Running(updater);
    std::thread::sleep(Duration::from_secs(8));
    assert!((std::fs::read(&path).unwrap(), path.metadata().unwrap().ino()) == before);
    tracker.signal(nix::sys::signal::Signal::SIGCONT);
    wait_for("the names", || lab::read(&log).contains("10 named"));
    all_are_named(&flows, &own_name());
    // Done: it is not touched any more, by this updater or the next.
    let after = (std::fs::read(&path).unwrap(), path.metadata().unwrap().ino());
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(updater.stop(), Some(0));
    let said = Answer::of(eager(&lab, "1s", &flows).arg("--once")).ok();
    assert!(said.out.contains("0 annotated, 0 unchanged, 1 skipped"), "{said:?}");
    assert!((std::fs::read(&path).unwrap(), path.metadata().unwrap().ino()) == after);
}

#[test]
fn what_the_tracker_never_tells_is_not_waited_for_forever() {
    let lab = Lab::new();
    let _tracker = lab.tracker();
    let flows = lab.directory("flows");
    let (_socket, address) = own_socket();
    let path = flows_of_age(&flows, address, -3600);
    let run = |wait: &str| {
        let mut command = lab.updater_command();
        command.args(["--once", "--grace", "0s", "--vantage", "host", "--wait", wait]);
        // Its header says that it was begun in an hour; who names it takes it as it is.
        Answer::of(command.arg("--file").arg(&path)).ok()
    };
    let ledger = || lab::read(&lab.path("updater/finished.json"));
    assert!(run("1h").out.contains("10 not-yet-known"));
    assert!(!ledger().contains("nfcapd.202611210300"), "it is looked at again");
    std::thread::sleep(Duration::from_secs(1));
    assert!(run("1s").out.contains("10 not-yet-known"));
    assert!(ledger().contains("nfcapd.202611210300"), "it is done: {}", ledger());
}
