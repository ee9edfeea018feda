//! Processes of a live capture: programs that people use, watched by this host's kernel or told by a
//! tracker; and packets fast enough to find out whether any is dropped.

mod lab;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::{Answer, Lab, Netns, Running, equipped, helper, installed, read, wait_for, wire};
use nix::sys::signal::Signal;
use serde_json::Value;

#[test]
#[ignore = "not a test: what the lab's talkers run"]
fn talker() {
    lab::talk_if_asked();
}

/// A web server that writes down who asked from which port (each asker says what it is), and a name
/// server that writes down who asked it.
const SERVERS: &str = r#"
import http.server, socket, sys, threading
seen = open(sys.argv[1], "a", buffering=1)
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asker = "curl" if "curl" in self.headers["User-Agent"] else "browser"
        seen.write(f"tcp {self.client_address[1]} {asker}\n")
        more = "".join(f"<img src=/{number}>" for number in range(6)) if self.path == "/page" else ""
        body = f"<html><body>{more}</body></html>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
names.bind(("127.0.0.1", 5300))
def answer():
    while True:
        query, peer = names.recvfrom(512)
        seen.write(f"udp {peer[1]} dig\n")
        # The question back, with one answer of type A.
        question = query[12:query.index(0, 12) + 5]
        record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0\1"
        names.sendto(query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question + record, peer)
threading.Thread(target=answer, daemon=True).start()
web = http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Page)
seen.write("ready\n")
web.serve_forever()
"#;

/// Waits until a capture goes on.
fn capturing(log: &Path) {
    wait_for("the capture", || {
        let said = read(log);
        assert!(!said.contains("eBPF does not work"), "{said}");
        said.contains("extractor: capturing")
    });
}

#[test]
fn curl_a_browser_and_dig_are_named_on_every_row() {
    let tools = ["python3", "curl", "dig", "chromium-headless-shell"];
    if !equipped() || !tools.into_iter().all(installed) {
        return;
    }
    let lab = Lab::new();
    let netns = Netns::new("live");
    let (script, seen, rows) = (lab.path("servers.py"), lab.path("seen"), lab.path("rows.jsonl"));
    fs::write(&script, SERVERS).unwrap();
    let mut servers = netns.command("python3");
    let servers = Running(servers.arg(&script).arg(&seen).spawn().unwrap());
    wait_for("the servers", || read(&seen).contains("ready"));
    let log = lab.path("log");
    // Not by `ip netns exec`: it hides the host's cgroups, and the eBPF programs are attached there.
    let mut capture = Command::new("nsenter");
    capture.arg(format!("--net=/run/netns/{}", netns.0)).arg(env!("CARGO_BIN_EXE_extractor"));
    capture.args(["--processes", "--preset", "full", "--json", "-o"]).arg(&rows).arg("lo");
    let capture = Running(capture.stderr(fs::File::create(&log).unwrap()).spawn().unwrap());
    capturing(&log);

    // By the ports that they say they had.
    let mut pids = BTreeMap::new();
    for _ in 0..10 {
        let mut curl = netns.command("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{local_port}", "http://127.0.0.1:8080/"]);
        let mut curl = curl.stdout(Stdio::piped()).spawn().unwrap();
        let mut port = String::new();
        curl.stdout.take().unwrap().read_to_string(&mut port).unwrap();
        assert!(curl.wait().unwrap().success());
        pids.insert(port.parse::<u64>().unwrap(), u64::from(curl.id()));
        let mut dig = netns.command("dig");
        Answer::of(dig.args(["@127.0.0.1", "-p", "5300", "+short", "web.example"])).ok();
    }
    let mut browser = netns.command("chromium-headless-shell");
    browser.args(["--no-sandbox", "--disable-gpu", "--dump-dom"]);
    browser.arg(format!("--user-data-dir={}", lab.path("browser").display()));
    browser.arg("http://127.0.0.1:8080/page");
    let page = Answer::of(&mut browser).ok();
    assert!(page.out.contains("/5"), "{page:?}");
    capture.signal(Signal::SIGINT);
    let mut capture = capture;
    assert!(capture.0.wait().unwrap().success(), "{}", read(&log));

    let told: Value = serde_json::from_str(read(&log).lines().last().unwrap()).unwrap();
    assert_eq!((&told["interfaces"]["dropped"], &told["conserved"]), (&0.into(), &true.into()));
    let mut truths = BTreeMap::new();
    for line in read(&seen).lines().filter(|line| line.contains(' ')) {
        let [protocol, port, who] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let protocol = if protocol == "tcp" { 6 } else { 17 };
        truths.insert((protocol, port.parse::<u64>().unwrap()), who.to_owned());
    }
    let server = u64::from(servers.0.id());
    let mut named: BTreeMap<String, usize> = BTreeMap::new();
    for line in read(&rows).lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let number = |column: &str| row[column].as_u64();
        let port = number("source_port").unwrap();
        if !matches!(number("destination_port"), Some(8080 | 5300)) {
            // What the browser tries besides; it cannot get out.
            let answers = [&row["source_process_answer"], &row["destination_process_answer"]];
            assert!(answers.iter().all(|answer| **answer != "unknown"), "{row}");
            continue;
        }
        let who = &truths[&(number("protocol").unwrap(), port)];
        assert_eq!(
            (&row["source_process_answer"], &row["source_process_quality"]),
            (&"known".into(), &"exact".into()),
            "{row}"
        );
        let executable = row["source_executable"].as_str().unwrap();
        let expected = if who == "browser" { "headless" } else { who };
        assert!(executable.contains(expected), "{executable} is not {who}: {row}");
        if who == "curl" {
            assert_eq!(number("source_pid"), Some(pids[&port]), "{row}");
        }
        assert_eq!(row["destination_process_answer"], "known", "{row}");
        assert_eq!(number("destination_pid"), Some(server), "{row}");
        *named.entry(who.clone()).or_default() += 1;
        truths.remove(&(number("protocol").unwrap(), port));
    }
    assert!(truths.is_empty(), "no row for {truths:?}");
    assert_eq!((named["curl"], named["dig"]), (10, 10), "{named:?}");
    assert!(named["browser"] >= 1, "{named:?}");
    drop(servers);
}

#[test]
fn fifty_thousand_packets_a_second_are_all_counted() {
    if !equipped() {
        return;
    }
    let lab = Lab::new();
    let (here, there) = (Netns::new("fast"), Netns::new("sink"));
    if !wire(&here, &there) {
        return;
    }
    let (rows, log) = (lab.path("rows.csv"), lab.path("log"));
    let mut capture = here.command(env!("CARGO_BIN_EXE_extractor"));
    capture.args(["--json", "--filter", "udp port 9", "-o"]).arg(&rows).arg("wire");
    let mut capture = Running(capture.stderr(fs::File::create(&log).unwrap()).spawn().unwrap());
    capturing(&log);
    // Half a million, from 64 ports.
    let sent = helper(here.command(std::env::current_exe().unwrap()))
        .env("TALK", "rate 10.99.0.2:9 50000 10")
        .output()
        .unwrap();
    assert!(sent.status.success(), "{sent:?}");
    std::thread::sleep(Duration::from_millis(500));
    capture.signal(Signal::SIGINT);
    assert!(capture.0.wait().unwrap().success(), "{}", read(&log));
    let told: Value = serde_json::from_str(read(&log).lines().last().unwrap()).unwrap();
    assert_eq!(told["interfaces"]["dropped"], 0, "{told}");
    assert_eq!(told["packets"], 500_000, "{told}");
    assert_eq!(told["conserved"], true, "{told}");
    // Their sum, by the rows.
    let sum = Command::new("awk").args(["-F,", "NR == 1 { for (i = 1; i <= NF; i++) if ($i == \"bidirectional_packets\") c = i } NR > 1 { s += $c } END { print s }"]).arg(&rows).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&sum.stdout).trim(), "500000");
}

#[test]
fn a_tracker_names_the_flows_of_a_live_capture_and_of_one_that_was_made() {
    if !equipped() || !installed("curl") || !installed("python3") {
        return;
    }
    let lab = Lab::new();
    let tracker = lab.tracker();
    let (script, seen) = (lab.path("servers.py"), lab.path("seen"));
    let netns = Netns::new("told");
    fs::write(&script, SERVERS).unwrap();
    let mut servers = netns.command("python3");
    let servers = Running(servers.arg(&script).arg(&seen).spawn().unwrap());
    wait_for("the servers", || read(&seen).contains("ready"));
    let (rows, log, file) = (lab.path("rows.jsonl"), lab.path("log"), lab.path("made.pcap"));
    let mut tcpdump = netns.command("tcpdump");
    tcpdump.args(["-i", "lo", "--time-stamp-precision=nano", "-U", "-w"]).arg(&file);
    let tcpdump = Running(tcpdump.arg("tcp").stderr(Stdio::null()).spawn().unwrap());
    // The tracker answers on the host's own loopback; the capture is in another namespace.
    let place = format!("netns:{}", netns.0);
    let asks = |command: &mut Command, rows: &Path| {
        command
            .args(["--preset", "full", "--vantage", &place, "--tracker"])
            .arg(format!("127.0.0.1:{}", lab.port))
            .arg("--tracker-state")
            .arg(lab.path("tracker"))
            .arg("--state")
            .arg(lab.path("updater"))
            .arg("-o")
            .arg(rows);
    };
    std::thread::sleep(Duration::from_millis(1500));
    for _ in 0..5 {
        Answer::of(netns.command("curl").args(["-s", "http://127.0.0.1:8080/"])).ok();
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_millis(1500));
    tcpdump.signal(Signal::SIGINT);
    assert_eq!(tcpdump.stop(), Some(0));
    let mut offline = Command::new(env!("CARGO_BIN_EXE_extractor"));
    asks(&mut offline, &rows);
    Answer::of(offline.arg(&file)).ok();
    let check = |rows: &Path| {
        let text = read(rows);
        assert_eq!(text.lines().count(), 5, "{text}");
        for line in text.lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            assert_eq!(
                (&row["source_process"], &row["source_process_quality"]),
                (&"curl".into(), &"exact".into()),
                "{row}"
            );
            assert_eq!(row["destination_pid"], servers.0.id(), "{row}");
        }
    };
    check(&rows);

    // A wire to the host itself would change its addresses: the capture of `lo` is made on the host.
    let live = lab.path("live.jsonl");
    let mut capture = Command::new(env!("CARGO_BIN_EXE_extractor"));
    capture.args(["--preset", "full", "--tracker"]).arg(format!("127.0.0.1:{}", lab.port));
    capture.arg("--tracker-state").arg(lab.path("tracker")).arg("--state").arg(lab.path("updater"));
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    capture.args(["--filter", &format!("tcp port {port}"), "-o"]).arg(&live).arg("lo");
    let mut capture = Running(capture.stderr(fs::File::create(&log).unwrap()).spawn().unwrap());
    capturing(&log);
    for _ in 0..5 {
        let asking = std::thread::spawn(move || {
            Answer::of(Command::new("curl").args([
                "-s",
                "-m",
                "5",
                &format!("http://127.0.0.1:{port}/"),
            ]))
        });
        let (mut accepted, _) = server.accept().unwrap();
        let mut question = [0; 1024];
        assert!(accepted.read(&mut question).unwrap() > 0);
        std::io::Write::write_all(&mut accepted, b"HTTP/1.0 200 OK\r\n\r\n").unwrap();
        drop(accepted);
        asking.join().unwrap().ok();
    }
    capture.signal(Signal::SIGINT);
    assert!(capture.0.wait().unwrap().success(), "{}", read(&log));
    let text = read(&live);
    assert_eq!(text.lines().count(), 5, "{text}");
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&row["source_process"], &row["source_process_quality"]),
            (&"curl".into(), &"exact".into()),
            "{row}"
        );
        assert_eq!(row["destination_pid"], std::process::id(), "{row}");
    }
    tracker.stop();
}
