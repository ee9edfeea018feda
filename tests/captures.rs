//! The extractor and real packets: what it captures live is what tcpdump captures, and each flow has the
//! process that a tracker saw.

mod lab;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::{Answer, Lab, Netns, Running, equipped, installed, nfdump, wait_for, wire};
use nix::sys::signal::Signal;

fn extractor() -> Command {
    Command::new(env!("CARGO_BIN_EXE_extractor"))
}

/// All that does not depend on times: the kernel stamps a frame that comes in for each who listens.
const COUNTERS: &str = "source_address,source_port,destination_address,destination_port,protocol,\
    direction_source,end_reason,close_style,handshake,fragments,forward_packets,reverse_packets,\
    forward_wire_octets,reverse_wire_octets,forward_ip_octets,reverse_ip_octets,\
    forward_payload_octets,reverse_payload_octets,bidirectional_min_size,bidirectional_mean_size,\
    bidirectional_stddev_size,bidirectional_max_size,forward_kurtosis_size,forward_size_histogram,\
    first_directions,first_sizes,forward_syn_packets,reverse_ack_packets,bidirectional_psh_packets,\
    forward_retransmitted_packets,reverse_ahead_packets,forward_max_window,reverse_bulk_octets";

/// What one namespace sends to the other: connections of TCP, datagrams that are answered, and some in
/// fragments.
const TRAFFIC: &str = r#"
import socket, sys, threading, time
role, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
if role == "serve":
    tcp = socket.create_server((address, port), backlog=64)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((address, port))
    def answer():
        while True:
            data, peer = udp.recvfrom(65535)
            udp.sendto(data, peer)
    threading.Thread(target=answer, daemon=True).start()
    print("ready", flush=True)
    while True:
        connection, _ = tcp.accept()
        data = connection.recv(65536)
        connection.sendall(data * 20)
        connection.close()
else:
    for number in range(40):
        connection = socket.create_connection((address, port))
        connection.sendall(b"x" * (number * 37 + 1))
        while connection.recv(65536):
            pass
        connection.close()
        datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagram.settimeout(2)
        datagram.sendto(b"y" * (4000 if number % 10 == 0 else 100), (address, port))
        datagram.recvfrom(65535)
        datagram.close()
"#;

#[test]
fn what_is_captured_live_is_what_tcpdump_captures() {
    if !equipped() || !installed("tcpdump") || !installed("python3") {
        return;
    }
    let lab = Lab::new();
    let (here, there) = (Netns::new("here"), Netns::new("there"));
    if !wire(&here, &there) {
        return;
    }
    let script = lab.path("traffic.py");
    fs::write(&script, TRAFFIC).unwrap();
    let talk = |netns: &Netns, role: &str| {
        let mut command = netns.command("python3");
        command.arg(&script).args([role, "10.99.0.2", "7000"]);
        command
    };
    let mut server = talk(&there, "serve");
    let mut server = Running(server.stdout(Stdio::piped()).spawn().unwrap());
    let mut ready = [0; 5];
    server.0.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();

    let (live, file) = (lab.path("live.csv"), lab.path("packets.pcap"));
    let mut tcpdump = here.command("tcpdump");
    tcpdump.args(["-i", "wire", "--time-stamp-precision=nano", "-U", "-w"]).arg(&file);
    // Without what the two interfaces say to each other by themselves.
    let tcpdump = Running(tcpdump.arg("ip").stderr(Stdio::null()).spawn().unwrap());
    let mut capture = here.command(env!("CARGO_BIN_EXE_extractor"));
    capture
        .args(["--columns", COUNTERS, "--json", "-o"])
        .arg(&live)
        .args(["--filter", "ip", "wire"]);
    let capture = Running(capture.stderr(Stdio::piped()).spawn().unwrap());
    std::thread::sleep(Duration::from_millis(1500));
    assert!(talk(&here, "call").status().unwrap().success());
    std::thread::sleep(Duration::from_millis(500));
    capture.signal(Signal::SIGINT);
    let said = finished(capture);
    // What the kernel keeps for it.
    std::thread::sleep(Duration::from_millis(1500));
    tcpdump.signal(Signal::SIGINT);
    assert_eq!(tcpdump.stop(), Some(0));

    let told: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let frames = told["frames"].as_u64().unwrap();
    assert!(
        frames > 300 && told["interfaces"]["dropped"] == 0 && told["conserved"] == true,
        "{told}"
    );
    let offline = lab.path("offline.csv");
    let mut again = extractor();
    again.args(["--columns", COUNTERS, "-o"]).arg(&offline).arg(&file);
    Answer::of(&mut again).ok();
    let rows = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        let mut rows: Vec<String> = text.lines().map(str::to_owned).collect();
        rows.sort();
        rows
    };
    let (live, offline) = (rows(&live), rows(&offline));
    assert!(live.len() > 80, "{}", live.len());
    let differs = live.iter().zip(&offline).find(|(live, offline)| live != offline);
    assert!(live.len() == offline.len() && differs.is_none(), "{differs:#?}");
}

/// Waits for a program to end; what it said.
fn finished(mut running: Running) -> String {
    let mut said = String::new();
    running.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(running.0.wait().unwrap().success(), "{said}");
    said
}

#[test]
fn every_flow_of_a_capture_has_the_process_that_the_tracker_saw() {
    if !equipped() || !installed("tcpdump") {
        return;
    }
    let lab = Lab::new();
    let tracker = lab.tracker();
    let file = lab.path("packets.pcap");
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let mut tcpdump = Command::new("tcpdump");
    tcpdump.args(["-i", "lo", "--time-stamp-precision=nano", "-U", "-w"]).arg(&file);
    let tcpdump = Running(
        tcpdump.args(["tcp", "port", &port.to_string()]).stderr(Stdio::null()).spawn().unwrap(),
    );
    std::thread::sleep(Duration::from_millis(1500));
    for _ in 0..20 {
        let mut client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        let (mut accepted, _) = server.accept().unwrap();
        client.write_all(b"question").unwrap();
        let mut question = [0; 8];
        accepted.read_exact(&mut question).unwrap();
        accepted.write_all(b"answer").unwrap();
        std::thread::sleep(Duration::from_millis(150));
    }
    std::thread::sleep(Duration::from_millis(1500));
    tcpdump.signal(Signal::SIGINT);
    assert_eq!(tcpdump.stop(), Some(0));
    let history = lab.path("today.history");
    let mut export = Command::new(env!("CARGO_BIN_EXE_tracker"));
    export.args(["export", "--since", "5m", "--state"]).arg(lab.path("tracker")).arg(&history);
    Answer::of(&mut export).ok();
    tracker.stop();

    let rows = lab.path("rows.jsonl");
    let mut command = extractor();
    command.arg("--history").arg(&history).arg("-o").arg(&rows).arg(&file);
    Answer::of(&mut command).ok();
    let own = fs::read_to_string("/proc/self/comm").unwrap();
    let text = fs::read_to_string(&rows).unwrap();
    let mut seen = 0;
    for line in text.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        for end in ["source", "destination"] {
            let of = |column: &str| &row[format!("{end}_{column}")];
            assert_eq!(of("process_answer"), "known", "{row}");
            assert_eq!(of("process"), own.trim(), "{row}");
            assert_eq!(of("pid"), std::process::id(), "{row}");
        }
        assert_eq!(row["dst_port"], port);
        seen += 1;
    }
    assert_eq!(seen, 20);

    // The updater writes the same rows, and a file that the real nfdump reads.
    let by_extractor = lab.path("extractor.csv");
    let mut command = extractor();
    command.args(["--preset", "full", "--history"]).arg(&history).arg("-o").arg(&by_extractor);
    Answer::of(command.arg(&file)).ok();
    let annotate = |out: &Path| {
        let mut updater = Command::new(env!("CARGO_BIN_EXE_updater"));
        updater.args(["--vantage", "host", "--state"]).arg(lab.path("updater")).arg("--history");
        updater.arg(&history).arg("--file").arg(&file).arg("-o").arg(out);
        updater
    };
    let by_updater = lab.path("updater.csv");
    let told = Answer::of(&mut annotate(&by_updater)).ok();
    assert!(told.err.contains("in 20 flows"), "{told:?}");
    assert!(fs::read(&by_updater).unwrap() == fs::read(&by_extractor).unwrap());
    let flows = lab.path("flows.nfcapd");
    Answer::of(&mut annotate(&flows)).ok();
    let verified = Answer::of(Command::new("nfdump").arg("-v").arg(&flows)).ok();
    assert!(!verified.out.contains("rror"), "{verified:?}");
    let lines = nfdump(&flows, "fmt:%pr;%dp;%pkt;%opkt;%flg;%uname");
    assert_eq!(lines.len(), 20, "{lines:?}");
    for line in lines {
        let fields: Vec<&str> = line.split(';').map(str::trim).collect();
        let own = own.trim();
        assert_eq!((fields[0], fields[1]), ("TCP", port.to_string().as_str()), "{line}");
        assert!(fields[2] != "0" && fields[3] != "0" && fields[4].contains("AP"), "{line}");
        assert_eq!(fields[5], format!("{own}>{own}"), "{line}");
    }
    let parquet = lab.path("flows.parquet");
    Answer::of(&mut annotate(&parquet)).ok();
    assert!(fs::read(&parquet).unwrap().starts_with(b"PAR1"));
    let without_output = Answer::of(
        Command::new(env!("CARGO_BIN_EXE_updater"))
            .arg("--history")
            .arg(&history)
            .arg("--state")
            .arg(lab.path("updater"))
            .arg("--file")
            .arg(&file),
    );
    without_output.failed(2, "needs --output");
    Answer::of(&mut annotate(&lab.path("flows.txt"))).failed(2, "only what ends in");
}

#[test]
fn a_file_of_a_time_is_there_when_that_is_over_though_nothing_comes() {
    if !equipped() {
        return;
    }
    let lab = Lab::new();
    let place = lab.path("rows");
    fs::create_dir(&place).unwrap();
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = receiver.local_addr().unwrap().port();
    let mut command = extractor();
    command
        .args(["--quiet", "--columns", "src_port,dst_port", "-t", "1", "--rotate-time", "1"])
        .args(["--filter", &format!("udp port {port}"), "--timeout", "100", "lo", "-o"])
        .arg(place.join("rows.csv"));
    let capture = Running(command.spawn().unwrap());
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let there = || {
        let names = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.to_str().unwrap().ends_with("Z.csv")).collect::<Vec<_>>()
    };
    // One datagram that it hears; then nothing.
    wait_for("the capture to begin", || fs::read_dir(&place).unwrap().count() > 0);
    std::thread::sleep(Duration::from_millis(1500));
    sender.send_to(b"once", receiver.local_addr().unwrap()).unwrap();
    wait_for("the file of its time", || !there().is_empty());
    let [file] = &there()[..] else { panic!("{:?}", there()) };
    let from = sender.local_addr().unwrap().port();
    let rows = format!("src_port,dst_port\r\n{from},{port}\r\n");
    assert_eq!(fs::read_to_string(file).unwrap(), rows);
    capture.signal(Signal::SIGINT);
    assert_eq!(capture.stop(), Some(0));
    assert_eq!(there().len(), 1);
}

#[test]
fn every_second_it_is_told_what_became_of_packets_though_no_row_comes() {
    if !equipped() {
        return;
    }
    let lab = Lab::new();
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = receiver.local_addr().unwrap().port();
    let told = lab.path("told");
    let mut command = extractor();
    command.args(["--quiet", "--no-output", "--performance-report", "1", "--timeout", "100"]);
    command.args(["--filter", &format!("udp port {port}"), "lo"]);
    let capture = Running(command.stderr(fs::File::create(&told).unwrap()).spawn().unwrap());
    let lines = || -> Vec<serde_json::Value> {
        let text = fs::read_to_string(&told).unwrap();
        let whole = text.lines().filter(|line| line.ends_with('}'));
        whole.map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    // It hears by then.
    wait_for("a first line", || !lines().is_empty());
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..5 {
        sender.send_to(b"question", receiver.local_addr().unwrap()).unwrap();
    }
    let sum = |column: &str| lines().iter().map(|line| line[column].as_u64().unwrap()).sum::<u64>();
    // On the loopback interface each datagram is seen once, for that is how libpcap has it.
    wait_for("all datagrams", || sum("packets") == 5);
    wait_for("the kernel's word", || {
        lines().iter().map(|line| line["interfaces"]["received"].as_u64().unwrap()).sum::<u64>()
            >= 5
    });
    let last = lines().pop().unwrap();
    assert_eq!((&last["flows_held"], sum("flows_begun"), sum("records")), (&1.into(), 1, 0));
    capture.signal(Signal::SIGINT);
    assert_eq!(capture.stop(), Some(0));
}

#[test]
fn any_interface_is_captured_and_told_of_what_tcpdump_warns() {
    if !equipped() || !installed("tcpdump") {
        return;
    }
    // None of either: they only open it. An older libpcap does not warn.
    let mut tcpdump = Command::new("tcpdump");
    tcpdump.args(["-i", "any", "-w", "/dev/null", "-c", "1", "less", "1"]);
    let tcpdump = Running(tcpdump.stderr(Stdio::piped()).spawn().unwrap());
    std::thread::sleep(Duration::from_millis(500));
    tcpdump.signal(Signal::SIGINT);
    let theirs = finished(tcpdump);
    let mut command = extractor();
    command.args(["--no-output", "--duration", "1", "--filter", "less 1", "any"]);
    let output = command.output().unwrap();
    let ours = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && ours.contains("capturing any"), "{ours}");
    let warns = ours.contains("captured without promiscuous mode");
    assert_eq!(warns, theirs.contains("WARNING"), "{theirs}\n{ours}");
}
