//! `extractor serve` from outside: what a service is told of a connection of its own, and what whoever asks
//! for something else is told.

mod lab;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{ChildStderr, Command, Stdio};
use std::time::Duration;

use lab::{Answer, Running, installed, skip, wait_for};
use nix::sys::signal::Signal;
use serde_json::Value;

fn extractor() -> Command {
    Command::new(env!("CARGO_BIN_EXE_extractor"))
}

/// The program, capturing loopback.
struct Server {
    running: Running,
    address: SocketAddr,
    said: BufReader<ChildStderr>,
}

impl Server {
    /// Says SKIPPED where loopback cannot be captured.
    fn start(more: &[&str]) -> Option<Self> {
        let mut command = extractor();
        command.args(["serve", "lo", "--json", "--listen", "127.0.0.1:0"]).args(more);
        let mut running = Running(command.stderr(Stdio::piped()).spawn().unwrap());
        let mut said = BufReader::new(running.0.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        if line.contains("CAP_NET_RAW") {
            skip(line.trim());
            return None;
        }
        let place = line.strip_prefix("extractor: answering on http://").expect(&line);
        let (address, names) = place.split_once(", ").unwrap();
        assert_eq!(names, "capturing lo\n");
        Some(Self { running, address: address.parse().unwrap(), said })
    }

    /// Asks without waiting for the answer.
    fn ask(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        stream
    }

    fn get(&self, path: &str) -> (u16, Value) {
        answer(self.ask(path))
    }

    /// As another program asks.
    fn curl(&self, arguments: &[&str], path: &str) -> (u16, String) {
        let mut command = Command::new("curl");
        command.args(["--silent", "--globoff", "--write-out", "\n%{http_code}"]).args(arguments);
        let said = Answer::of(command.arg(format!("http://{}{path}", self.address))).out;
        let (body, status) = said.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.trim_end().to_owned())
    }

    fn waiting(&self) -> Value {
        self.get("/health").1["waiting"].clone()
    }

    /// Ends it; what became of the packets.
    fn stop(mut self, signal: Signal) -> Value {
        self.running.signal(signal);
        let mut said = String::new();
        self.said.read_to_string(&mut said).unwrap();
        assert_eq!(self.running.0.wait().unwrap().code(), Some(0), "{said}");
        serde_json::from_str(&said).unwrap()
    }
}

fn answer(mut stream: TcpStream) -> (u16, Value) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).expect(body))
}

fn of(address: SocketAddr) -> String {
    format!("/flow?address={}&port={}", address.ip(), address.port())
}

/// Two sockets that know each other.
fn pair() -> (UdpSocket, UdpSocket) {
    let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (client, service) = (bind(), bind());
    client.connect(service.local_addr().unwrap()).unwrap();
    service.connect(client.local_addr().unwrap()).unwrap();
    (client, service)
}

/// Segments that the kernel says a connection has sent and received.
fn segments(client: &TcpStream) -> [u64; 2] {
    let [own, peer] = [client.local_addr(), client.peer_addr()].map(|end| end.unwrap().port());
    let filter = format!("sport = :{own} and dport = :{peer}");
    let said = Answer::of(Command::new("ss").args(["-tinH", &filter])).ok().out;
    ["segs_out:", "segs_in:"].map(|name| {
        let number = said.split_whitespace().find_map(|word| word.strip_prefix(name));
        number.expect(&said).parse().unwrap()
    })
}

#[test]
fn a_connection_is_told_as_the_kernel_counted_it() {
    if !installed("curl") || !installed("ss") {
        return;
    }
    let Some(server) = Server::start(&[]) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut accepted, peer) = listener.accept().unwrap();
    // At once, or as soon as the handshake was seen.
    let (status, flow) = server.get(&of(peer));
    assert_eq!((status, &flow["source_port"]), (200, &peer.port().into()), "{flow}");
    for _ in 0..5 {
        client.write_all(&[1; 1000]).unwrap();
        accepted.read_exact(&mut [0; 1000]).unwrap();
        accepted.write_all(&[2; 300]).unwrap();
        client.read_exact(&mut [0; 300]).unwrap();
    }
    let mut flow = Value::Null;
    wait_for("every packet", || {
        let (status, body) = server.curl(&[], &of(peer));
        assert_eq!(status, 200, "{body}");
        flow = serde_json::from_str(&body).unwrap();
        let told = ["forward_packets", "reverse_packets"].map(|name| flow[name].as_u64().unwrap());
        let counted = segments(&client);
        assert!(told[0] <= counted[0] && told[1] <= counted[1], "{flow} {counted:?}");
        told == counted
    });
    assert_eq!(
        (&flow["forward_payload_octets"], &flow["reverse_payload_octets"]),
        (&5000.into(), &1500.into())
    );
    assert_eq!(
        (&flow["source_address"], &flow["destination_address"]),
        (&"127.0.0.1".into(), &"127.0.0.1".into())
    );
    assert_eq!(flow["destination_port"], listener.local_addr().unwrap().port());
    assert_eq!((&flow["end_reason"], &flow["protocol"]), (&Value::Null, &6.into()));
    assert_eq!(flow["bidirectional_syn_packets"], 2);
    // By its near port too, and by no other.
    let near = format!("{}&local_port={}", of(peer), listener.local_addr().unwrap().port());
    assert_eq!(server.get(&near), (200, flow));
    let (status, none) = server.get(&format!("{}&local_port=9", of(peer)));
    assert_eq!((status, &none["error"]), (404, &"not-seen".into()));
    // It stays for a while after its end.
    drop((client, accepted));
    wait_for("the end", || server.get(&of(peer)).1["end_reason"] == 3);
    let told = server.stop(Signal::SIGINT);
    assert_eq!((&told["conserved"], &told["interfaces"]["dropped"]), (&true.into(), &0.into()));
    assert!(told["packets"].as_u64().unwrap() > 20, "{told}");
}

#[test]
fn a_flow_that_does_not_appear_or_is_too_short_is_told_as_that() {
    let Some(server) = Server::start(&["--wait", "300ms"]) else { return };
    let (client, _service) = pair();
    let path = of(client.local_addr().unwrap());
    let (status, none) = server.get(&path);
    assert_eq!((status, &none["error"]), (404, &"not-seen".into()));
    client.send(b"one").unwrap();
    let (status, few) = server.get(&path);
    assert_eq!((status, &few["error"]), (404, &"too-few-packets".into()));
    assert_eq!(few["message"], "only 1 of 3 packets of it were seen");
}

#[test]
fn a_silent_flow_is_forgotten_by_a_sweep() {
    let more = ["--wait", "0", "--keep", "1s", "--sweep", "1s", "--min-packets", "1"];
    let Some(server) = Server::start(&more) else { return };
    let (client, _service) = pair();
    let path = of(client.local_addr().unwrap());
    client.send(b"one").unwrap();
    wait_for("the flow", || server.get(&path).0 == 200);
    wait_for("the sweep", || server.get(&path).0 == 404);
    assert_eq!(server.get(&path).1["error"], "not-seen");
}

#[test]
fn a_wrong_request_hears_what_is_wrong_and_harms_nobody() {
    if !installed("curl") {
        return;
    }
    let Some(server) = Server::start(&["--wait", "100ms"]) else { return };
    let good = "/flow?address=192.0.2.7&port=1";
    let long = format!("X-Long: {}", "x".repeat(20_000));
    let body = "x".repeat(100_000);
    for (arguments, path, status, said) in [
        (&[][..], "/flow", 400, "address is missing"),
        (&[], "/flow?address=192.0.2.7&port=70000", 400, "is no port of 0 to 65535"),
        (&[], "/flow?address=192.0.2.7%0d%0aX:&port=1", 400, "is no IP address"),
        (&[], "/flow?address=192.0.2.7&port=1&ports=2", 400, "\\\"ports\\\" is not known"),
        (&[], "/", 404, "there are /flow and /health"),
        (&["--request", "DELETE"], good, 405, "only GET"),
        (&["--data", &body], good, 405, "only GET"),
        (&["--header", "Host: evil.example"], good, 403, "not-local"),
        (&["--header", "Host: evil.example"], "/health", 403, "not-local"),
        (&["--header", "Host;"], good, 403, "not-local"),
        (&["--header", "Sec-Fetch-Site: cross-site"], good, 403, "not-local"),
        (&["--header", "Origin: http://evil.example"], good, 403, "not-local"),
        (&["--request-target", "http://evil.example/health"], good, 403, "not-local"),
        (&["--header", &long], good, 431, ""),
        (&["--http1.0"], good, 404, "not-seen"),
        (&[], good, 404, "not-seen"),
    ] {
        let (told, body) = server.curl(arguments, path);
        assert!(told == status && body.contains(said), "{arguments:?} {path}: {told} {body}");
    }
    for bytes in [&b"\0\0\0\0\r\n\r\n"[..], b"GET /flow", b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // Hung up on with or without a word.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
    }
    assert_eq!(server.get("/health").0, 200);
    server.stop(Signal::SIGTERM);
}

#[test]
fn of_a_flood_of_questions_some_wait_and_the_others_are_sent_away() {
    let Some(server) = Server::start(&["--waiting", "4", "--wait", "1m"]) else { return };
    let (client, service) = pair();
    let path = of(client.local_addr().unwrap());
    let wait: Vec<_> = (0..4).map(|_| server.ask(&path)).collect();
    wait_for("four that wait", || server.waiting() == 4);
    let beyond: Vec<_> = (0..50).map(|_| server.ask(&path)).collect();
    for stream in beyond {
        let (status, told) = answer(stream);
        assert_eq!((status, &told["error"]), (503, &"busy".into()));
    }
    client.send(&[1; 100]).unwrap();
    service.send(&[2; 50]).unwrap();
    client.send(&[3; 100]).unwrap();
    for stream in wait {
        let (status, flow) = answer(stream);
        assert_eq!((status, &flow["forward_payload_octets"]), (200, &200.into()), "{flow}");
    }
    // Connections that say nothing keep nobody out for long, and who hangs up makes room.
    let other = "/flow?address=192.0.2.7&port=1";
    drop((0..4).map(|_| server.ask(other)).collect::<Vec<_>>());
    let silent: Vec<_> = (0..60).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    let mut stays = None;
    wait_for("room", || {
        let stream = server.ask(other);
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let waits = stream.peek(&mut [0]).is_err();
        stays = Some(stream);
        waits
    });
    // Who waits when it ends hears that.
    let told = server.stop(Signal::SIGTERM);
    assert_eq!(told["conserved"], true, "{told}");
    let stays = stays.unwrap();
    stays.set_read_timeout(None).unwrap();
    let (status, over) = answer(stays);
    assert_eq!((status, &over["error"]), (503, &"capture-ended".into()));
    drop(silent);
}

#[test]
fn wrong_arguments_are_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    for (arguments, code, said) in [
        (&["--listen", "0.0.0.0:0"][..], 2, "only an address of loopback"),
        (&["--listen", "[::]:8731"], 2, "only an address of loopback"),
        (&["--listen", "192.0.2.1:8731"], 2, "only an address of loopback"),
        (&["--listen", "8731"], 2, "invalid socket address"),
        (&["--columns", "no_such"], 2, "\"no_such\" is not a column"),
        (&["--min-packets", "0"], 2, "0 is not in 1.."),
        (&["--wait", "soon"], 2, "is not a time"),
        (&["--listen", &taken], 1, "Address already in use"),
    ] {
        let mut command = extractor();
        Answer::of(command.args(["serve", "lo"]).args(arguments)).failed(code, said);
    }
    let mut command = extractor();
    command.args(["serve", "no-such", "--listen", "127.0.0.1:0"]);
    assert_eq!(Answer::of(&mut command).code, Some(1));
}
