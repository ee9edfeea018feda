//! The worked examples beside tshark: what they say of HTTP and Redis in captures of real programs.
#![allow(clippy::duplicate_mod, reason = "each example has the module of connections")]

mod lab;

// The examples themselves: an example that is only run by hand is not known to work.
#[path = "../crates/capture/examples/http.rs"]
mod http;
#[path = "../crates/capture/examples/redis.rs"]
mod redis;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::{Answer, Lab, Netns, Running, installed, skip, wait_for};
use nix::sys::signal::Signal;

/// Method, host, target, status, and nanoseconds until the answer.
type Http = (String, String, String, Option<(u16, i64)>);

fn http_here(file: &Path) -> Vec<Http> {
    let mut all = Vec::new();
    let told = http::exchanges(file, |exchange| {
        let http::Exchange { method, host, target, answer, .. } = exchange.clone();
        all.push((method, host.unwrap_or_default(), target, answer));
    });
    told.unwrap();
    all.sort();
    all
}

/// The lines of tshark for frames that this display filter wants.
fn tshark(file: &Path, wanted: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    // An answer is told of where its head is, not where its body ends.
    command.args(["-n", "-o", "http.desegment_body:FALSE", "-Y", wanted, "-T", "fields"]);
    command.args(["-E", "occurrence=a", "-E", "aggregator=;", "-r"]).arg(file);
    fields.iter().for_each(|field| {
        command.args(["-e", field]);
    });
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

fn http_by_tshark(file: &Path) -> Vec<Http> {
    let request = ["http.request.method", "http.host", "http.request.uri", "frame.number"];
    let answers = ["http.response.code", "http.request_in", "http.time"];
    let answers = tshark(file, "tcp && http.response", &answers);
    let nanos = |seconds: &str| {
        let (whole, fraction) = seconds.split_once('.').unwrap();
        whole.parse::<i64>().unwrap() * 1_000_000_000 + fraction.parse::<i64>().unwrap()
    };
    let mut all: Vec<Http> = tshark(file, "tcp && http.request", &request)
        .into_iter()
        .map(|row| {
            let answer = answers.iter().find(|answer| answer[1] == row[3]);
            let answer = answer.map(|answer| (answer[0].parse().unwrap(), nanos(&answer[2])));
            (row[0].clone(), row[1].clone(), row[2].clone(), answer)
        })
        .collect();
    all.sort();
    all
}

#[test]
fn http_of_every_capture_is_what_tshark_finds() {
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/pcap/nfstream/pcaps");
    if !captures.is_dir() {
        return skip(format_args!("no captures at {}", captures.display()));
    }
    if !installed("tshark") {
        return;
    }
    let mut found = 0;
    // Those with HTTP in them; the others, where tshark may guess, are not compared.
    for name in
        ["6in4tunnel", "EAQ", "WebattackSQLinj", "http-lines-split", "http_auth", "malware", "mpeg"]
    {
        let file = captures.join(name).with_extension("pcap");
        let (ours, theirs) = (http_here(&file), http_by_tshark(&file));
        assert_eq!(ours, theirs, "{name}");
        found += ours.len();
    }
    assert_eq!(found, 16);
}

/// Whether a network namespace and a capture in it can be had, and these programs; says so if not.
fn can_capture(tools: &[&str]) -> bool {
    if !nix::unistd::geteuid().is_root() {
        skip("network namespaces and captures need root");
        return false;
    }
    ["ip", "tcpdump", "tshark"].iter().chain(tools).all(|tool| installed(tool))
}

/// What is on the loopback of a namespace while something is done there.
fn captured(lab: &Lab, netns: &Netns, port: &str, done: impl FnOnce()) -> PathBuf {
    let file = lab.path("packets.pcap");
    let mut tcpdump = netns.command("tcpdump");
    tcpdump.args(["-i", "lo", "--time-stamp-precision=nano", "-U", "-w"]).arg(&file);
    let tcpdump = Running(tcpdump.args(["port", port]).stderr(Stdio::null()).spawn().unwrap());
    wait_for("tcpdump", || fs::metadata(&file).is_ok_and(|file| file.len() >= 24));
    done();
    // What the kernel keeps for it.
    std::thread::sleep(Duration::from_millis(1500));
    tcpdump.signal(Signal::SIGINT);
    assert_eq!(tcpdump.stop(), Some(0));
    file
}

/// Chunks, a body that ends with the connection, bodies that look like answers, none at all.
const SERVER: &str = r#"
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/chunks":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for size in (5, 70000, 1) if self.command == "GET" else ():
                self.wfile.write(b"%x;name=value\r\n" % size + b"\n" * size + b"\r\n")
            if self.command == "GET":
                self.wfile.write(b"0\r\nTrailer: yes\r\n\r\n")
        elif self.path == "/until-close":
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"HTTP/1.1 500 not an answer\r\n\r\n" * 100)
            self.close_connection = True
        elif self.path == "/nothing":
            self.send_response(204)
            self.end_headers()
        else:
            body = b"HTTP/1.1 500 not an answer\r\n\r\n"
            self.send_response(200 if self.path == "/" else 404)
            self.send_header("Content-Length", len(body))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)
    do_HEAD = do_GET
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"#;

#[test]
fn http_between_real_programs_is_followed_through_every_kind_of_body() {
    if !can_capture(&["python3", "curl"]) {
        return;
    }
    let (lab, netns) = (Lab::new(), Netns::new("http"));
    let script = lab.path("server.py");
    fs::write(&script, SERVER).unwrap();
    let _server = Running(netns.command("python3").arg(&script).spawn().unwrap());
    let curl = |arguments: &[&str]| {
        let mut curl = netns.command("curl");
        curl.args(["--silent", "--show-error"]).args(arguments);
        curl.stdout(Stdio::null());
        curl
    };
    wait_for("the server", || {
        let mut probe = curl(&["http://127.0.0.1:8000/"]);
        probe.stderr(Stdio::null()).status().unwrap().success()
    });
    let url = |path: &str| format!("http://127.0.0.1:8000{path}");
    let body = lab.path("body");
    fs::write(&body, vec![b'\n'; 300_000]).unwrap();
    let body = format!("@{}", body.display());
    let file = captured(&lab, &netns, "8000", || {
        // One connection for each line.
        let all = [url("/"), url("/chunks"), url("/missing?a=1&b=2"), url("/nothing"), url("/")];
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        Answer::of(&mut curl(&all)).ok();
        let head = [url("/"), url("/chunks")];
        Answer::of(&mut curl(&["--head", &head[0], &head[1]])).ok();
        Answer::of(&mut curl(&["--data-binary", &body, &url("/post"), &url("/post")])).ok();
        Answer::of(&mut curl(&[&url("/until-close"), &url("/")])).ok();
    });
    let ours = http_here(&file);
    let said: Vec<String> = ours
        .iter()
        .map(|(method, host, target, answer)| {
            assert_eq!(host, "127.0.0.1:8000");
            format!("{method} {target} {}", answer.map_or(0, |(status, _)| status))
        })
        .collect();
    assert_eq!(
        said,
        [
            "GET / 200",
            "GET / 200",
            "GET / 200",
            "GET /chunks 200",
            "GET /missing?a=1&b=2 404",
            "GET /nothing 204",
            "GET /until-close 200",
            "HEAD / 200",
            "HEAD /chunks 200",
            "POST /post 201",
            "POST /post 201",
        ]
    );
    // curl may wait for an interim answer; the same is counted by tshark, which has both.
    let theirs: Vec<_> = http_by_tshark(&file).into_iter().map(|row| (row.0, row.2)).collect();
    let ours: Vec<_> = ours.into_iter().map(|row| (row.0, row.2)).collect();
    assert_eq!(ours, theirs);
}

#[test]
fn redis_between_real_programs_is_followed() {
    if !can_capture(&["redis-server", "redis-cli"]) {
        return;
    }
    let (lab, netns) = (Lab::new(), Netns::new("redis"));
    let mut server = netns.command("redis-server");
    server.args(["--port", "6379", "--save", "", "--dir"]).arg(lab.place.path());
    let _server = Running(server.stdout(Stdio::null()).spawn().unwrap());
    let cli = |arguments: &[&str]| {
        let mut cli = netns.command("redis-cli");
        cli.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        cli
    };
    wait_for("the server", || cli(&["ping"]).status().unwrap().success());
    let script = lab.path("transaction.lua");
    fs::write(&script, "return {1, {'deep', {ARGV[1]}}, false}").unwrap();
    let long = "x".repeat(100_000);
    let file = captured(&lab, &netns, "6379", || {
        for arguments in [
            &["set", "name", "caf\u{e9}\u{1b}[31m"][..],
            &["get", "name"],
            &["get", "missing"],
            &["incrby", "count", "41"],
            &["set", "long", &long],
            &["get", "long"],
            &["lpush", "list", "a", "b", "c"],
            &["lrange", "list", "0", "-1"],
            &["no-such-command"],
            &["--eval", script.to_str().unwrap(), ",", "end"],
            &["-3", "config", "get", "port"],
        ] {
            assert!(cli(arguments).status().unwrap().success(), "{arguments:?}");
        }
    });
    let mut ours = Vec::new();
    redis::exchanges(&file, |exchange| ours.push(exchange.clone())).unwrap();
    let said: Vec<(&str, &str)> = ours
        .iter()
        .map(|exchange| {
            let (answer, nanos) = exchange.answer.as_ref().unwrap();
            assert!(*nanos > 0);
            (&exchange.command[..], &answer[..])
        })
        .collect();
    let answer_to = |command: &str| {
        let found = said.iter().find(|(said, _)| said.starts_with(command));
        found.unwrap_or_else(|| panic!("no {command}: {said:?}")).1
    };
    // Control characters of others reach no terminal.
    assert_eq!(answer_to("[set name caf\u{e9}\\u{1b}[31m]"), "OK");
    assert_eq!(answer_to("[get name]"), "caf\u{e9}\\u{1b}[31m");
    assert_eq!(answer_to("[get missing]"), "nil");
    assert_eq!(answer_to("[incrby count 41]"), "41");
    assert_eq!(answer_to("[get long]"), &long[..1024]);
    assert_eq!(answer_to("[lrange list 0 -1]"), "[c b a]");
    assert!(answer_to("[no-such-command]").starts_with("-ERR unknown command"));
    assert!(answer_to("[EVAL").starts_with("[1 [deep [end]] nil]"));
    assert_eq!(answer_to("[config get port]"), "[port 6379]");
    // As many commands, with the same words, as tshark finds.
    let whole = "resp && tcp.dstport == 6379 && !resp.reassembled_in_next_frame";
    let rows = tshark(&file, whole, &["resp.bulk_string.value"]);
    let words = |hex: &str| -> Vec<String> {
        hex.split(';')
            .map(|word| {
                let octets = (0..word.len() / 2).map(|at| &word[2 * at..2 * at + 2]);
                let octets: Vec<u8> =
                    octets.map(|hex| u8::from_str_radix(hex, 16).unwrap()).collect();
                String::from_utf8(octets).unwrap()
            })
            .collect()
    };
    let theirs: Vec<String> = rows.iter().map(|row| words(&row[0]).join(" ")).collect();
    let first = |command: &str| {
        command.trim_matches(['[', ']']).chars().take_while(|c| *c != ' ').collect::<String>()
    };
    assert_eq!(
        said.iter().map(|(command, _)| first(command)).collect::<Vec<_>>(),
        theirs.iter().map(|command| first(command)).collect::<Vec<_>>()
    );
}
