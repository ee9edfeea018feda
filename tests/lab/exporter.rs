//! An exporter and its collector: NetFlow v5 datagrams made by hand, so that a test knows every
//! flow that was sent, and a real nfcapd that stores them.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Lab, Running, nfdump, read, wait_for};

/// Flows in a datagram, as many as fit.
const IN_A_DATAGRAM: usize = 30;

/// The exporter's uptime in milliseconds. It dates flows by this; the datagram says when it was.
const UPTIME: u32 = 1_000_000;

/// Sends the same flows to several collectors, each to another address so that none is mistaken
/// for another.
pub struct Exporter {
    socket: UdpSocket,
    source: SocketAddrV4,
    ports: Vec<u16>,
    pub sent: u32,
}

impl Exporter {
    pub fn new(source: SocketAddrV4, collectors: &[&Collector]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let ports = collectors.iter().map(|collector| collector.port).collect();
        Self { socket, source, ports, sent: 0 }
    }

    /// Sends so many flows from `source` of half a second ago, slowly enough for nfcapd.
    pub fn send(&mut self, flows: usize) {
        let mut left = flows;
        while left > 0 {
            let count = left.min(IN_A_DATAGRAM);
            let datagram = self.datagram(count);
            for port in &self.ports {
                self.socket.send_to(&datagram, ("127.0.0.1", *port)).unwrap();
            }
            left -= count;
            std::thread::sleep(Duration::from_millis(4));
        }
    }

    fn datagram(&mut self, flows: usize) -> Vec<u8> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let mut bytes = vec![0, 5, 0, u8::try_from(flows).unwrap()];
        bytes.extend(UPTIME.to_be_bytes());
        bytes.extend(u32::try_from(now.as_secs()).unwrap().to_be_bytes());
        bytes.extend(now.subsec_nanos().to_be_bytes());
        bytes.extend(self.sent.to_be_bytes());
        bytes.extend([0; 4]);
        for _ in 0..flows {
            let address = destination(self.sent);
            self.sent += 1;
            bytes.extend(self.source.ip().octets());
            bytes.extend(address.octets());
            bytes.extend([0; 8]); // next hop, interfaces
            bytes.extend(1_u32.to_be_bytes()); // packets
            bytes.extend(100_u32.to_be_bytes()); // bytes
            bytes.extend((UPTIME - 500).to_be_bytes()); // first
            bytes.extend((UPTIME - 500).to_be_bytes()); // last
            bytes.extend(self.source.port().to_be_bytes());
            bytes.extend(53_u16.to_be_bytes());
            bytes.extend([0, 0, 17, 0]); // padding, flags, protocol, type of service
            bytes.extend([0; 8]); // autonomous systems, masks
        }
        bytes
    }

    /// Each flow that was sent must be in a directory, once.
    #[track_caller]
    pub fn all_are_in(&self, directory: &Path) {
        let mut stored = nfdump(directory, "fmt:%da");
        stored.sort_unstable();
        let mut sent: Vec<String> = (0..self.sent).map(|i| destination(i).to_string()).collect();
        sent.sort_unstable();
        let (count, of) = (stored.len(), sent.len());
        assert!(stored == sent, "{count} flows in {}, {of} were sent", directory.display());
    }
}

/// The address of a flow: the number of it within 10.0.0.0/8, which nobody tracked holds.
fn destination(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from_be_bytes([10, 0, 0, 0]) + number)
}

/// A real nfcapd on a port of the loopback.
pub struct Collector {
    nfcapd: Running,
    pub flows: PathBuf,
    port: u16,
}

impl Collector {
    /// One with this rotation interval in seconds; `more` may hold `-S`, `-Z`, `-x`.
    pub fn start(lab: &Lab, name: &str, slot: &str, more: &[&str]) -> Self {
        let flows = lab.directory(name);
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self::start_at(lab, name, flows, port, slot, more)
    }

    /// The same again after it was stopped, for the same exporter.
    pub fn restart(self, lab: &Lab, name: &str, slot: &str) -> Self {
        let Self { nfcapd, flows, port } = self;
        nfcapd.stop();
        Self::start_at(lab, name, flows, port, slot, &[])
    }

    fn start_at(
        lab: &Lab,
        name: &str,
        flows: PathBuf,
        port: u16,
        slot: &str,
        more: &[&str],
    ) -> Self {
        let log = lab.path(&format!("{name}.nfcapd.log"));
        let place = if more.contains(&"-M") { None } else { Some("-w") };
        let nfcapd = Command::new("nfcapd")
            .args(["-p", &port.to_string(), "-b", "127.0.0.1", "-t", slot])
            .args(more)
            .args(place)
            .arg(&flows)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut nfcapd = Running(nfcapd);
        wait_for("nfcapd", || {
            let ended = nfcapd.0.try_wait().unwrap();
            assert!(ended.is_none(), "nfcapd ended with {ended:?}: {}", read(&log));
            read(&log).contains("Startup")
        });
        Self { nfcapd, flows, port }
    }

    /// Ends it as an operator would: the file at hand gets its name.
    pub fn stop(self) -> PathBuf {
        // What was sent is still in its socket.
        std::thread::sleep(Duration::from_millis(200));
        self.nfcapd.stop();
        self.flows
    }
}
