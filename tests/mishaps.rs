//! What goes wrong, tried: each with a clear message, a fitting exit code, and no original lost or
//! half-written.

mod lab;

use std::net::{SocketAddrV4, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::{
    Answer, Lab, Netns, Recipe, Running, Talk, big_file, equipped, installed, nfdump, skip,
    wait_for,
};
use nix::sys::signal::Signal;

#[test]
#[ignore = "not a test: what the lab's talkers run"]
fn talker() {
    lab::talk_if_asked();
}

/// A socket of this process, and where it is bound. `127.0.0.1` is held by other namespaces too,
/// so updates that are to name it say `--vantage host`.
fn own_socket() -> (UdpSocket, SocketAddrV4) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let std::net::SocketAddr::V4(address) = socket.local_addr().unwrap() else { unreachable!() };
    (socket, address)
}

/// A file of flows from this process' socket to nobody of interest.
fn flows_of(address: SocketAddrV4, directory: &Path, name: &str, flows: usize) -> PathBuf {
    let path = directory.join(name);
    // Long enough ago that the tolerance does not reach beyond what the tracker has told.
    std::thread::sleep(Duration::from_millis(1500));
    let elsewhere = SocketAddrV4::new([192, 0, 2, 1].into(), 53);
    big_file(&path, &Recipe::now(address, elsewhere, 17, flows));
    path
}

fn only_ours_is_left(directory: &Path, files: &[&Path]) {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let left: Vec<PathBuf> = entries.filter(|path| !files.contains(&path.as_path())).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

fn file_and_host(path: &Path) -> [&std::ffi::OsStr; 4] {
    ["--file".as_ref(), path.as_os_str(), "--vantage".as_ref(), "host".as_ref()]
}

#[test]
fn a_missing_tracker_is_said_soon() {
    let lab = Lab::new();
    let begin = std::time::Instant::now();
    lab.updater(["--once"]).failed(3, "no answer from the tracker at 127.0.0.1:");
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_host_that_does_not_exist_is_said() {
    let lab = Lab::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_updater"));
    command.args(["host.invalid", "9000", "--once", "--state"]).arg(lab.path("updater"));
    Answer::of(&mut command).failed(3, "cannot find host.invalid:9000");
}

#[test]
fn a_tracker_is_found_by_either_family_and_by_name() {
    let lab = Lab::new();
    let _tracker = lab.tracker();
    let empty = lab.directory("empty");
    for host in ["127.0.0.1", "::1", "[::1]", "localhost"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_updater"));
        command.args([host, &lab.port.to_string(), "--once", "--dir"]).arg(&empty);
        command.arg("--state").arg(lab.path("updater"));
        command.arg("--tracker-state").arg(lab.path("tracker"));
        Answer::of(&mut command).ok();
    }
}

#[test]
fn a_missing_directory_is_said_before_anything_else() {
    let lab = Lab::new();
    let missing = lab.path("missing");
    lab.updater(["--once".as_ref(), "--dir".as_ref(), missing.as_os_str()]).failed(1, "missing");
}

#[test]
fn wrong_arguments_exit_with_2() {
    let lab = Lab::new();
    lab.updater(["0"]).failed(2, "between 1s and a year");
    lab.updater(["--once", "--name", "{comm},"]).failed(2, "misread");
    lab.updater(["--once", "--vantage", "box"]).failed(2, "netns:NAME");
    lab.updater(["--once", "--tracker", "x"]).failed(2, "HOST:PORT");
    let mut tracker = lab.tracker_command();
    Answer::of(tracker.args(["9000", "--period", "1m"])).failed(2, "between 1 ms and 1 s");
    let mut tracker = lab.tracker_command();
    let arguments = ["9000", "--command-lines", "--redact", "(x"];
    Answer::of(tracker.args(arguments)).failed(2, "not a regular expression: unclosed group");
}

#[test]
fn a_namespace_that_nobody_knows_is_said() {
    let lab = Lab::new();
    let _tracker = lab.tracker();
    let empty = lab.directory("empty");
    let arguments = ["--once", "--vantage", "netns:nosuchthing", "--dir", empty.to_str().unwrap()];
    lab.updater(arguments).failed(1, "knows no network namespace nosuchthing");
}

#[test]
fn what_it_understood_of_time_is_said() {
    let lab = Lab::new();
    let tracker = lab.tracker();
    let empty = lab.directory("empty");
    let log = lab.path("updater.log");
    let updater = lab
        .updater_command()
        .args(["30".as_ref(), "--dir".as_ref(), empty.as_os_str()])
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let updater = Running(updater);
    wait_for("the updater", || lab::read(&log).contains("updating every 5 min"));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(updater.stop(), Some(0), "SIGTERM ends it cleanly");
    assert_eq!(tracker.stop(), Some(0));
}

#[test]
fn an_updater_that_is_not_authorized_learns_how_to_become_it() {
    let lab = Lab::new();
    let tracker = lab.tracker();
    let key = Answer::of(lab.tracker_command().arg("--show-key")).ok().out;
    let fingerprint = key.lines().last().unwrap();
    // Without the local key, as on another host.
    let updater = |more: &[&str]| {
        let mut command = lab.stranger_command();
        command.arg("--once").args(more);
        Answer::of(command.current_dir(lab.directory("empty")))
    };
    let said = updater(&[]).failed(4, "is not known yet");
    assert!(said.err.contains(fingerprint), "{said:?}");
    updater(&["--trust", "SHA256:wrong"]).failed(4, "CHANGED");
    let said = updater(&["--trust", fingerprint]).failed(4, "does not let this updater in");
    let (_, line) = said.err.split_once("--authorize '").unwrap();
    let (line, _) = line.split_once('\'').unwrap();
    assert!(lab::read(&lab.path("tracker.log")).contains("refused an updater"));
    Answer::of(lab.tracker_command().args(["--authorize", line])).ok();
    // No restart: the first authorised updater also opens the service to the network.
    wait_for("the network", || {
        lab::read(&lab.path("tracker.log")).contains("serving authorised updaters")
    });
    updater(&[]).ok();
    drop(tracker);

    // Another tracker in its place, under another key.
    std::fs::remove_dir_all(lab.path("tracker")).unwrap();
    let tracker = lab.tracker();
    let said = updater(&[]).failed(4, "has CHANGED");
    assert!(said.err.contains("known_trackers"), "{said:?}");
    drop(tracker);
}

#[test]
fn a_tracker_is_trusted_on_first_use_only_when_asked_to() {
    let lab = Lab::new();
    let _tracker = lab.tracker();
    let line = Answer::of(lab.updater_command().arg("--show-key")).ok().out;
    Answer::of(lab.tracker_command().args(["--authorize", line.lines().next().unwrap()])).ok();
    let updater = |more: &[&str]| {
        let mut command = lab.stranger_command();
        command.arg("--once").args(more);
        Answer::of(command.current_dir(lab.directory("empty")))
    };
    updater(&[]).failed(4, "is not known yet");
    wait_for("the network", || {
        lab::read(&lab.path("tracker.log")).contains("serving authorised updaters")
    });
    let said = updater(&["--trust-first-use"]).ok();
    assert!(said.err.contains("is known from now on"), "{said:?}");
    updater(&[]).ok();
}

#[test]
fn over_a_network_only_authorised_keys_are_served() {
    if !equipped() {
        return;
    }
    let lab = Lab::new();
    let (near, far) = (Netns::new("near"), Netns::new("far"));
    if !lab::wire(&near, &far) {
        return skip("no veth devices here");
    }
    let line = Answer::of(lab.stranger_command().arg("--show-key")).ok().out;
    Answer::of(lab.tracker_command().args(["--authorize", line.lines().next().unwrap()])).ok();
    let key = Answer::of(lab.tracker_command().arg("--show-key")).ok().out;
    let fingerprint = key.lines().last().unwrap();
    let log = lab.path("tracker.log");
    let tracker = near
        .command(env!("CARGO_BIN_EXE_tracker"))
        .args([&lab.port.to_string(), "--state"])
        .arg(lab.path("tracker"))
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let tracker = Running(tracker);
    wait_for("the tracker", || lab::read(&log).contains("serving authorised updaters"));
    let updater = |state: &str| {
        let mut command = far.command(env!("CARGO_BIN_EXE_updater"));
        command.args(["10.99.0.1", &lab.port.to_string(), "--once", "--trust", fingerprint]);
        command.arg("--dir").arg(lab.directory("empty")).arg("--state").arg(lab.path(state));
        Answer::of(&mut command)
    };
    updater("updater").ok();
    updater("another").failed(4, "does not let this updater in");
    // The key for updaters on the tracker's own host, stolen.
    lab.directory("thief");
    std::fs::copy(lab.path("tracker/local.key"), lab.path("thief/updater.key")).unwrap();
    let only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(lab.path("thief/updater.key"), only).unwrap();
    updater("thief").failed(3, "good on the tracker's own host only");
    drop(tracker);
}

#[test]
fn other_users_of_the_host_are_told_why_not() {
    if !nix::unistd::geteuid().is_root() {
        return skip("only root can be somebody else");
    }
    let lab = Lab::new();
    let _tracker = lab.tracker();
    // nobody may pass, but not read the tracker's state.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(lab.place.path(), open).unwrap();
    let program = lab.path("updater-copy");
    std::fs::copy(env!("CARGO_BIN_EXE_updater"), &program).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    command.args(["127.0.0.1", &lab.port.to_string(), "--once", "--state"]);
    command.arg(lab.path("nobody")).arg("--tracker-state").arg(lab.path("tracker"));
    let said = Answer::of(command.current_dir(lab.place.path())).failed(4, "local.key");
    assert!(said.err.contains("root, or a member of its group"), "{said:?}");
}

#[test]
fn one_tracker_per_state_directory_and_port() {
    let lab = Lab::new();
    let _tracker = lab.tracker();
    let mut second = lab.tracker_command();
    Answer::of(second.arg((lab.port ^ 1).to_string())).failed(1, "in use by another process");
    let mut third = Command::new(env!("CARGO_BIN_EXE_tracker"));
    third.arg(lab.port.to_string()).arg("--state").arg(lab.path("third"));
    Answer::of(&mut third).failed(1, "cannot serve 127.0.0.1:");
}

#[test]
fn a_stranger_gets_nothing_and_harms_nobody() {
    let lab = Lab::new();
    let tracker = lab.tracker();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.connect(("127.0.0.1", lab.port)).unwrap();
    stranger.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..5000 {
        let datagram: Vec<u8> = (0..1200)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect();
        stranger.send(&datagram).unwrap();
    }
    let mut bytes = [0; 2000];
    while let Ok(count) = stranger.recv(&mut bytes) {
        assert!(count < 1200, "no amplification");
    }
    lab.updater(["--once".as_ref(), "--dir".as_ref(), lab.directory("empty").as_os_str()]).ok();
    assert_eq!(tracker.stop(), Some(0));
}

#[test]
fn a_file_that_is_still_written_is_left_alone() {
    let lab = Lab::new();
    let _tracker = lab.tracker();
    let flows = lab.directory("flows");
    let (_socket, address) = own_socket();
    for name in ["nfcapd.current.4711", "nfcapd.202611210300"] {
        let path = flows_of(address, &flows, name, 10);
        if !name.contains("current") {
            // As nfcapd leaves it until it closes it.
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[18..20].fill(0);
            bytes[24..40].fill(0);
            std::fs::write(&path, bytes).unwrap();
        }
        let before = std::fs::read(&path).unwrap();
        lab.updater(file_and_host(&path)).failed(1, "is still being written");
        assert!(std::fs::read(&path).unwrap() == before);
        std::fs::remove_file(&path).unwrap();
    }
    only_ours_is_left(&flows, &[]);
}

#[test]
fn a_damaged_file_is_said_with_its_offset_and_harms_no_other() {
    if !installed("nfdump") {
        return;
    }
    let lab = Lab::new();
    let _tracker = lab.tracker();
    let flows = lab.directory("flows");
    let (_socket, address) = own_socket();
    let good = flows_of(address, &flows, "nfcapd.202611210300", 10);
    let bad = flows.join("nfcapd.202611210305");
    let mut bytes = std::fs::read(&good).unwrap();
    bytes[52 + 76 + 2] = 3; // the second record is shorter than its header
    std::fs::write(&bad, &bytes).unwrap();
    let foreign = flows.join("nfcapd.202611210310");
    std::fs::write(&foreign, "not an nfcapd file at all").unwrap();
    let arguments = ["--once", "--grace", "0s", "--slot", "1s", "--vantage", "host", "--dir"];
    let arguments = arguments.iter().map(Path::new).chain([flows.as_path()]);
    let said = lab
        .updater(arguments.chain([Path::new("--force")]))
        .failed(1, "record 1 at offset 76 of the block");
    assert!(said.err.contains("nfcapd.202611210305"), "{said:?}");
    assert!(std::fs::read(&bad).unwrap() == bytes);
    assert_eq!(std::fs::read(&foreign).unwrap(), b"not an nfcapd file at all");
    let names = nfdump(&good, "fmt:%uname");
    assert!(names.iter().all(|name| name.starts_with("mishaps-")), "{names:?}\n{said:?}");
    only_ours_is_left(&flows, &[&good, &bad, &foreign]);
}

#[test]
fn no_file_of_the_corpus_is_harmed() {
    let corpus = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/nfdump"));
    let Ok(entries) = std::fs::read_dir(corpus) else {
        return skip(format_args!("no corpus at {}", corpus.display()));
    };
    let lab = Lab::new();
    let _tracker = lab.tracker();
    let flows = lab.directory("flows");
    let (mut read, mut refused) = (0, 0);
    for entry in entries {
        let original = entry.unwrap().path();
        let name = original.file_name().unwrap().to_string_lossy().into_owned();
        if !name.contains("nfcapd") {
            continue;
        }
        let copy = flows.join(&name);
        std::fs::copy(&original, &copy).unwrap();
        let arguments = ["--wait".as_ref(), "0s".as_ref(), "--file".as_ref(), copy.as_os_str()];
        let said = lab.updater(arguments);
        match said.code {
            Some(0) => read += 1,
            // Where in the file, or what kind of file it is instead.
            Some(1) => {
                let clear = ["offset", "layout 3", "still being written"];
                assert!(clear.iter().any(|word| said.err.contains(word)), "{name}: {said:?}");
                refused += 1;
            }
            _ => panic!("{name}: {said:?}"),
        }
        let untouched = std::fs::read(&original).unwrap() == std::fs::read(&copy).unwrap();
        assert!(untouched, "{name}: {said:?}");
        only_ours_is_left(&flows, &[&copy]);
        std::fs::remove_file(&copy).unwrap();
    }
    assert!(read > 20 && refused > 5, "{read} read, {refused} refused");
}

#[test]
fn a_name_that_is_there_is_kept_unless_asked_otherwise() {
    let lab = Lab::new();
    let _tracker = lab.tracker();
    let flows = lab.directory("flows");
    let (_socket, address) = own_socket();
    let path = flows_of(address, &flows, "nfcapd.202611210300", 10);
    let run = |more: &[&str]| {
        let arguments = file_and_host(&path).into_iter();
        lab.updater(arguments.chain(more.iter().map(|word| word.as_ref()))).ok()
    };
    let said = run(&["--name", "first {pid}"]);
    assert!(said.out.contains("10 named"), "{said:?}");
    let named = std::fs::read(&path).unwrap();
    let said = run(&[]);
    assert!(said.out.contains("10 with another name, kept"), "{said:?}");
    assert!(std::fs::read(&path).unwrap() == named);
    let report = lab.path("report.jsonl");
    let said = run(&["--replace-names", "--json", "--report", report.to_str().unwrap()]);
    let summary: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(summary["flows"]["foreign_names_replaced"], 10, "{summary}");
    assert_eq!(summary["ends"]["known"]["local-endpoint"], 10, "{summary}");
    assert_eq!(summary["ends"]["unknown"]["not-this-host"], 10, "{summary}");
    let lines = lab::read(&report);
    assert_eq!(lines.lines().count(), 10);
    let line: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    let owner = &line["source_owner"]["processes"][0];
    assert_eq!(owner["pid"], std::process::id(), "{line}");
    let csv = lab.path("report.csv");
    run(&["--report", csv.to_str().unwrap()]);
    assert_eq!(lab::read(&csv).lines().count(), 11);
}

#[test]
fn an_output_directory_mirrors_the_archive_even_from_within_it() {
    let lab = Lab::new();
    let _tracker = lab.tracker();
    let flows = lab.directory("flows");
    let (_socket, address) = own_socket();
    let mut originals = Vec::new();
    for source in ["one", "two"] {
        // Two sources of one collector: files of the same name.
        let directory = lab.directory(&format!("flows/{source}"));
        originals.push(flows_of(address, &directory, "nfcapd.202611210300", 3));
    }
    let before: Vec<Vec<u8>> = originals.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let output = lab.directory("flows/named");
    let run = |more: &[&Path]| {
        let mut command = lab.updater_command();
        command.args(["--once", "--grace", "0s", "--slot", "1s", "--vantage", "host", "--dir"]);
        Answer::of(command.arg(&flows).arg("--output").arg(&output).args(more))
    };
    std::thread::sleep(Duration::from_secs(1));
    let said = run(&[]).ok();
    assert!(said.out.contains("2 annotated") && said.out.contains("6 named"), "{said:?}");
    for (original, before) in originals.iter().zip(before) {
        assert!(std::fs::read(original).unwrap() == before);
        let copy = output.join(original.strip_prefix(&flows).unwrap());
        assert!(std::fs::metadata(copy).unwrap().len() > before.len() as u64);
    }
    let said = run(&[]).ok();
    assert!(said.out.contains("0 annotated, 0 unchanged, 2 skipped"), "{said:?}");
    assert!(!output.join("named").exists());
    run(&[Path::new("--dir"), &output]).failed(2, "of one directory only");
    // What is there and not ours is not replaced.
    std::fs::remove_dir_all(lab.path("updater")).unwrap();
    let theirs = output.join("one/nfcapd.202611210300");
    std::fs::write(&theirs, "somebody's").unwrap();
    run(&[]).failed(1, "exists and was not written by an update");
    assert_eq!(std::fs::read(&theirs).unwrap(), b"somebody's");
    run(&[Path::new("--force")]).ok();
}

#[test]
fn a_tracker_that_has_not_answered_is_no_excuse_to_name_another_hosts_processes() {
    let (lab, absent) = (Lab::new(), Lab::new());
    let _tracker = lab.tracker();
    let flows = lab.directory("flows");
    let (_socket, address) = own_socket();
    let path = flows_of(address, &flows, "nfcapd.202611210300", 2);
    let mut command = Command::new(env!("CARGO_BIN_EXE_updater"));
    command.args(["127.0.0.1", &absent.port.to_string()]);
    command.args(["--tracker", &format!("127.0.0.1:{}", lab.port)]).args(file_and_host(&path));
    command.arg("--state").arg(lab.path("updater"));
    command.arg("--tracker-state").arg(lab.path("tracker"));
    Answer::of(&mut command).failed(1, "has not answered yet");
    assert!(!String::from_utf8_lossy(&std::fs::read(&path).unwrap()).contains("mishaps"));
    // Without a place to mistake, one tracker of two is better than none; the code says so.
    let mut command = Command::new(env!("CARGO_BIN_EXE_updater"));
    command.args(["127.0.0.1", &absent.port.to_string()]);
    command.args(["--tracker", &format!("127.0.0.1:{}", lab.port), "--file"]).arg(&path);
    command.arg("--state").arg(lab.path("updater"));
    command.arg("--tracker-state").arg(lab.path("tracker"));
    Answer::of(&mut command).failed(3, "going on without it");
    // One tracker under two names would tell everything twice.
    let twice = format!("localhost:{}", lab.port);
    let arguments = ["--once", "--tracker", &twice, "--dir", flows.to_str().unwrap()];
    lab.updater(arguments).failed(3, "followed already");
}

#[test]
fn anonymised_flows_are_never_attributed() {
    let lab = Lab::new();
    let _tracker = lab.tracker();
    let flows = lab.directory("flows");
    let (_socket, address) = own_socket();
    let path = flows_of(address, &flows, "nfcapd.202611210300", 2);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[52 + 10] = 4; // the flags of the first record: anonymised
    std::fs::write(&path, &bytes).unwrap();
    let said = lab.updater(file_and_host(&path)).ok();
    assert!(said.out.contains("2 read, 1 attributed, 1 named, 1 anonymised"), "{said:?}");
}

#[test]
fn a_process_cannot_make_its_name_say_something_else() {
    if !equipped() {
        return;
    }
    let lab = Lab::new();
    let _tracker = lab.tracker();
    let netns = Netns::new("evil");
    let mut evil = Talk::start(&lab, Some(&netns), "a>b|c?d\"e,f\\g", "serve 127.0.0.1:7000");
    let std::net::SocketAddr::V4(address) = evil.address() else { unreachable!() };
    let flows = lab.directory("flows");
    std::thread::sleep(Duration::from_secs(1));
    let path = flows_of(address, &flows, "nfcapd.202611210300", 1);
    let vantage = format!("netns:{}", netns.0);
    let arguments = ["--file".as_ref(), path.as_os_str(), "--vantage".as_ref(), vantage.as_ref()];
    lab.updater(arguments).ok();
    assert_eq!(nfdump(&path, "fmt:%uname"), ["a_b_c_d_e_f_g"]);
}

/// Starts an update of a file that takes a while, and waits until it is in the middle.
fn in_the_middle<'a>(
    lab: &Lab,
    path: &Path,
    arguments: impl IntoIterator<Item = &'a std::ffi::OsStr>,
) -> Running {
    let mut command = lab.updater_command();
    command.args(arguments).stdout(Stdio::null());
    let updater = Running(command.stderr(Stdio::piped()).spawn().unwrap());
    let pid = updater.0.id();
    let unfinished = path.parent().unwrap().join(format!("nfcapd.current.upd.{pid}"));
    wait_for("a half-written file", || {
        std::fs::metadata(&unfinished).is_ok_and(|meta| meta.len() > 0)
    });
    updater
}

#[test]
fn a_signal_in_the_middle_of_a_rewrite_leaves_the_original() {
    let lab = Lab::new();
    let _tracker = lab.tracker();
    let flows = lab.directory("flows");
    let (_socket, address) = own_socket();
    let path = flows_of(address, &flows, "nfcapd.202611210300", 600_000);
    let before = std::fs::read(&path).unwrap();
    for (signal, code) in [(Signal::SIGINT, Some(130)), (Signal::SIGTERM, Some(143))] {
        let mut updater = in_the_middle(&lab, &path, file_and_host(&path));
        updater.signal(signal);
        let mut said = String::new();
        std::io::Read::read_to_string(updater.0.stderr.as_mut().unwrap(), &mut said).unwrap();
        assert_eq!(updater.0.wait().unwrap().code(), code, "{said}");
        assert!(said.contains("it is as it was"), "{said}");
        assert!(std::fs::read(&path).unwrap() == before);
        only_ours_is_left(&flows, &[&path]);
    }
    // Killed, it cannot clean up; the next update does.
    let mut updater = in_the_middle(&lab, &path, file_and_host(&path));
    updater.signal(Signal::SIGKILL);
    updater.0.wait().unwrap();
    assert!(std::fs::read(&path).unwrap() == before);
    assert_eq!(std::fs::read_dir(&flows).unwrap().count(), 2);
    let arguments = ["--once", "--grace", "0s", "--slot", "1s", "--vantage", "host", "--dir"];
    let arguments = arguments.iter().map(Path::new).chain([flows.as_path()]);
    std::thread::sleep(Duration::from_secs(1));
    let said = lab.updater(arguments).ok();
    assert!(said.err.contains("left behind by a killed updater"), "{said:?}");
    assert!(said.out.contains("600000 named"), "{said:?}");
    only_ours_is_left(&flows, &[&path]);
    if installed("nfdump") {
        let check = Command::new("nfdump").arg("-v").arg(&path).output().unwrap();
        assert!(check.status.success(), "{check:?}");
    }
}

#[test]
fn a_file_deleted_or_replaced_in_the_middle_is_not_ours_to_replace() {
    let lab = Lab::new();
    let _tracker = lab.tracker();
    let flows = lab.directory("flows");
    let (_socket, address) = own_socket();
    let path = flows.join("nfcapd.202611210300");
    let other = flows_of(address, &lab.directory("other"), "small", 10);
    let small = std::fs::read(&other).unwrap();
    let arguments = ["--once", "--grace", "0s", "--slot", "1s", "--vantage", "host", "--dir"];
    let arguments = || arguments.iter().map(|word| word.as_ref()).chain([flows.as_os_str()]);
    for replaced in [false, true] {
        flows_of(address, &flows, "nfcapd.202611210300", 600_000);
        let mut updater = in_the_middle(&lab, &path, arguments());
        if replaced {
            std::fs::rename(&other, &path).unwrap();
        } else {
            std::fs::remove_file(&path).unwrap();
        }
        let mut said = String::new();
        std::io::Read::read_to_string(updater.0.stderr.as_mut().unwrap(), &mut said).unwrap();
        assert_eq!(updater.0.wait().unwrap().code(), Some(1), "{said}");
        assert!(said.contains("nfcapd.202611210300 changed while it was annotated"), "{said}");
        if replaced {
            assert!(std::fs::read(&path).unwrap() == small);
        } else {
            only_ours_is_left(&flows, &[]);
        }
    }
    // What is there now is a file like any other.
    let said = lab.updater(arguments()).ok();
    assert!(said.out.contains("10 named"), "{said:?}");
    only_ours_is_left(&flows, &[&path]);
}

#[test]
fn root_does_not_what_the_owner_of_a_directory_may_not() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    if !nix::unistd::geteuid().is_root() {
        return skip("only root can work for somebody else");
    }
    let lab = Lab::new();
    let _tracker = lab.tracker();
    // Whoever it is need not be able to pass what lies above.
    let flows = lab.directory("flows");
    let (_socket, address) = own_socket();
    let path = flows_of(address, &flows, "nfcapd.202611210300", 10);
    let before = std::fs::read(&path).unwrap();
    let owner = 65534;
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    mode(&path, 0o640);
    mode(&flows, 0o555);
    for path in [&path, &flows] {
        chown(path, Some(owner), Some(owner)).unwrap();
    }
    lab.updater(file_and_host(&path)).failed(1, "cannot write beside: Permission denied");
    assert!(std::fs::read(&path).unwrap() == before);
    mode(&flows, 0o755);
    let said = lab.updater(file_and_host(&path)).ok();
    assert!(said.out.contains("10 named"), "{said:?}");
    let meta = std::fs::metadata(&path).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (owner, owner, 0o640));
    only_ours_is_left(&flows, &[&path]);
    assert_eq!(std::fs::metadata(lab.path("updater/finished.json")).unwrap().uid(), 0);
}

#[test]
fn an_updater_of_nfcapds_own_user_needs_no_more_than_the_trackers_group() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    if !nix::unistd::geteuid().is_root() {
        return skip("only root can be somebody else");
    }
    let lab = Lab::new();
    std::fs::set_permissions(lab.place.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let group = nix::unistd::Group::from_gid(65534.into()).unwrap();
    let Some(group) = group else { return skip("there is no group 65534") };
    let _tracker = lab.tracker_with(&["--group", &group.name]);
    let flows = lab.directory("flows");
    let (_socket, address) = own_socket();
    let path = flows_of(address, &flows, "nfcapd.202611210300", 10);
    for path in [&path, &flows] {
        chown(path, Some(65534), Some(65534)).unwrap();
    }
    let program = lab.path("updater-copy");
    std::fs::copy(env!("CARGO_BIN_EXE_updater"), &program).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    command.args(["127.0.0.1", &lab.port.to_string(), "--state"]).arg(lab.path("own"));
    command.arg("--tracker-state").arg(lab.path("tracker")).args(file_and_host(&path));
    let said = Answer::of(&mut command).ok();
    assert!(said.out.contains("10 named"), "{said:?}");
    assert_eq!(std::fs::metadata(&path).unwrap().uid(), 65534);
    only_ours_is_left(&flows, &[&path]);
}

#[test]
fn a_full_disk_leaves_the_original() {
    let lab = Lab::new();
    let small = lab.directory("small");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m", "procflow-test"])
        .arg(&small)
        .output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        return skip("a small tmpfs cannot be mounted here");
    }
    let _mounted = Mounted(small.clone());
    let _tracker = lab.tracker();
    let (_socket, address) = own_socket();
    let path = flows_of(address, &small, "nfcapd.202611210300", 20_000);
    let before = std::fs::read(&path).unwrap();
    lab.updater(file_and_host(&path)).failed(1, "No space left on device");
    assert!(std::fs::read(&path).unwrap() == before);
    only_ours_is_left(&small, &[&path]);
    let remount = |options: &str| {
        let remounted = Command::new("mount").args(["-o", options]).arg(&small).status();
        assert!(remounted.unwrap().success(), "remount {options}");
    };
    remount("remount,ro");
    lab.updater(file_and_host(&path)).failed(1, "Read-only file system");
    assert!(std::fs::read(&path).unwrap() == before);
    // With room again it goes on as if nothing had been.
    remount("remount,rw,size=40m");
    let said = lab.updater(file_and_host(&path)).ok();
    assert!(said.out.contains("20000 named"), "{said:?}");
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_tracker_that_was_away_is_a_gap_and_not_a_guess() {
    if !installed("nfdump") {
        return;
    }
    let lab = Lab::new();
    let tracker = lab.tracker();
    let flows = lab.directory("flows");
    let (socket, address) = own_socket();
    let report = lab.path("report.jsonl");
    let log = lab.path("updater.log");
    let updater = lab
        .updater_command()
        .args(["1s", "--grace", "0s", "--slot", "1s", "--vantage", "host", "--dir"])
        .arg(&flows)
        .arg("--report")
        .arg(&report)
        .stdout(std::fs::File::create(&log).unwrap())
        .stderr(std::fs::File::create(lab.path("updater.err")).unwrap())
        .spawn()
        .unwrap();
    let updater = Running(updater);
    flows_of(address, &flows, "nfcapd.20261121030000", 1);
    wait_for("the first file", || lab::read(&log).contains("1 named"));
    tracker.stop();
    drop(socket);
    // Nobody watched when this one was open.
    std::thread::sleep(Duration::from_millis(1500));
    let (_socket, address) = own_socket();
    let path = flows_of(address, &flows, "nfcapd.20261121030001", 1);
    drop(_socket);
    std::thread::sleep(Duration::from_millis(2500));
    let _tracker = lab.tracker();
    wait_for("the gap", || lab::read(&log).contains("1 gap-tracker-not-running"));
    assert_eq!(updater.stop(), Some(0));
    let names = nfdump(&path, "fmt:%uname");
    assert!(names.iter().all(|name| name == "<empty>"), "{names:?}");
}
