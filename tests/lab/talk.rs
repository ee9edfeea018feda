//! Talkers: processes with names of their own that hold sockets for a while, and say which.
//!
//! A talker is this very test binary under another name, so that nothing else needs to be there;
//! `TALK` in its environment tells it what to do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Lab, Netns, Running};

/// What a talker did: one socket with a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    pub protocol: &'static str,
    pub client: SocketAddr,
    pub server: SocketAddr,
}

/// A running talker.
pub struct Talk {
    pub name: String,
    running: Running,
    output: BufReader<std::process::ChildStdout>,
}

/// Makes a command of this binary run [`talker`] and nothing else.
pub fn helper(mut command: Command) -> Command {
    command.args(["talker", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    command
}

impl Talk {
    /// Starts a talker of this name (at most 15 bytes, as the kernel has it).
    pub fn start(lab: &Lab, netns: Option<&Netns>, name: &str, what: &str) -> Self {
        assert!(name.len() <= 15);
        let program = lab.path(name);
        if !program.exists() {
            let own = std::env::current_exe().unwrap();
            if std::fs::hard_link(&own, &program).is_err() {
                std::fs::copy(&own, &program).unwrap();
            }
        }
        let command = match netns {
            Some(netns) => netns.command(&program),
            None => Command::new(&program),
        };
        let mut child: Child = helper(command)
            .env("TALK", what)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { name: name.to_owned(), running: Running(child), output }
    }

    /// The next thing it says.
    fn next(&mut self) -> Option<String> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.output.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            // The test runner of the talker talks as well.
            if let Some((_, said)) = line.trim_end().split_once("TALK ") {
                return Some(said.to_owned());
            }
        }
    }

    /// Waits until it serves; where.
    pub fn address(&mut self) -> SocketAddr {
        self.next().expect("a talker that says its address").parse().unwrap()
    }

    /// Waits until it is done; what it did.
    pub fn truths(mut self) -> Vec<Truth> {
        let mut truths = Vec::new();
        while let Some(line) = self.next() {
            let words: Vec<&str> = line.split(' ').collect();
            let [protocol, client, server] = words[..] else { panic!("{line}") };
            let protocol = if protocol == "TCP" { "TCP" } else { "UDP" };
            let (client, server) = (client.parse().unwrap(), server.parse().unwrap());
            truths.push(Truth { protocol, client, server });
        }
        self.running.0.wait().unwrap();
        truths
    }

    pub fn path<'a>(&self, lab: &'a Lab) -> std::path::PathBuf {
        let place: &'a Path = lab.place.path();
        place.join(&self.name)
    }
}

fn say(what: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "TALK {what}").unwrap();
    out.flush().unwrap();
}

/// What a talker does; called by the ignored test `talker` of each test binary.
///
/// * `serve ADDRESS`: TCP and UDP on one port, echoes everything
/// * `call PROTOCOL ADDRESS SOCKETS SECONDS [LOCAL]`: so many sockets, each talking all the time
/// * `flood`: datagrams that push others through libpcap
/// * `rate ADDRESS N SECONDS`: N datagrams a second to there, from 64 ports in turn
fn talk() {
    let what = std::env::var("TALK").unwrap();
    let words: Vec<&str> = what.split(' ').collect();
    if words == ["flood"] {
        return flood();
    }
    if let ["rate", to, each_second, seconds] = words[..] {
        return rate(to.parse().unwrap(), each_second.parse().unwrap(), seconds.parse().unwrap());
    }
    // A talker ends with the test that started it, whatever happens to that.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    match words[..] {
        ["serve", address] => serve(address.parse().unwrap()),
        ["call", protocol, address, sockets, seconds] => {
            let (sockets, seconds) = (sockets.parse().unwrap(), seconds.parse().unwrap());
            call(protocol, address.parse().unwrap(), sockets, seconds, None);
        }
        ["call", protocol, address, seconds, "from", local] => {
            let seconds = seconds.parse().unwrap();
            call(protocol, address.parse().unwrap(), 1, seconds, Some(local.parse().unwrap()));
        }
        _ => panic!("{what}"),
    }
}

fn serve(address: SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    let socket = UdpSocket::bind(address).unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 100];
        loop {
            let (count, from) = socket.recv_from(&mut bytes).unwrap();
            socket.send_to(&bytes[..count], from).unwrap();
        }
    });
    say(address);
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 100];
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                if stream.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
        });
    }
}

enum Line {
    Tcp(TcpStream),
    /// Connected, or sending with `sendto`.
    Udp(UdpSocket, bool),
}

fn call(
    protocol: &str,
    server: SocketAddr,
    sockets: usize,
    seconds: f64,
    local: Option<SocketAddr>,
) {
    let any: SocketAddr = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }.parse().unwrap();
    let local = local.unwrap_or(any);
    let mut lines: Vec<Line> = (0..sockets)
        .map(|i| {
            let (line, client) = if protocol == "TCP" {
                let domain = socket2::Domain::for_address(server);
                let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
                socket.set_reuse_address(true).unwrap();
                socket.bind(&local.into()).unwrap();
                socket.connect(&server.into()).unwrap();
                let stream = TcpStream::from(socket);
                let client = stream.local_addr().unwrap();
                (Line::Tcp(stream), client)
            } else {
                let connected = i % 2 == 0;
                let socket = UdpSocket::bind(local).unwrap();
                if connected {
                    socket.connect(server).unwrap();
                }
                socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                let client = socket.local_addr().unwrap();
                (Line::Udp(socket, connected), client)
            };
            say(format_args!("{protocol} {client} {server}"));
            line
        })
        .collect();
    let begin = Instant::now();
    let mut bytes = [0; 100];
    while begin.elapsed() < Duration::from_secs_f64(seconds) {
        for line in &mut lines {
            match line {
                Line::Tcp(stream) => {
                    stream.write_all(b"hello").unwrap();
                    stream.read_exact(&mut bytes[..5]).unwrap();
                }
                Line::Udp(socket, connected) => {
                    if *connected {
                        socket.send(b"hello").unwrap();
                    } else {
                        socket.send_to(b"hello", server).unwrap();
                    }
                    socket.recv_from(&mut bytes).unwrap();
                }
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// So many datagrams each second, for so many seconds; a millisecond's at a time.
fn rate(to: SocketAddr, each_second: u32, seconds: u32) {
    let senders: Vec<UdpSocket> = (0..64).map(|_| UdpSocket::bind("0.0.0.0:0").unwrap()).collect();
    let begin = Instant::now();
    let mut sender = senders.iter().cycle();
    for millisecond in 0..seconds * 1000 {
        for _ in 0..each_second / 1000 {
            sender.next().unwrap().send_to(&[0; 100], to).unwrap();
        }
        let due = begin + Duration::from_millis(u64::from(millisecond) + 1);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

fn flood() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(receiver.local_addr().unwrap()).unwrap();
    let mut bytes = [0; 10];
    for _ in 0..6000 {
        sender.send(b"flood").unwrap();
        receiver.recv(&mut bytes).unwrap();
    }
}

/// For the ignored test that every binary with talkers has.
pub fn talk_if_asked() {
    if std::env::var_os("TALK").is_some() {
        talk();
    }
}
