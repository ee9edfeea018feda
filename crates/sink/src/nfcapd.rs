//! Records as an nfcapd file, with the processes in the user name: what nfdump reads as it reads what its
//! own collector wrote. A record is one flow of nfdump's, its reverse direction in the "out" counters.

use std::fs::File;
use std::io;

use procflow_core::Timestamp;
use procflow_core::features::Needs;
use procflow_core::flow::{Direction, DirectionSource, Record};
use procflow_nfdump::{Compression, Error, ErrorKind, NewFile, NewFlow, UserName};

/// What is to be measured of flows for it.
pub(crate) const NEEDS: Needs = Needs::FLAGS;

/// Flows, each with its name.
pub(crate) type Flows = Vec<(NewFlow, UserName)>;

/// A file that is being written.
pub(crate) struct Nfcapd {
    file: NewFile<File>,
    /// About how many bytes it has.
    size: u64,
}

/// What a flow takes at least, uncompressed.
const ABOUT: u64 = 100;

impl Nfcapd {
    pub(crate) fn begin(out: File) -> io::Result<Self> {
        let file = NewFile::begin(out, Compression::Lz4).map_err(failed)?;
        Ok(Self { file, size: 0 })
    }

    pub(crate) fn add(&mut self, flows: &Flows, index: usize) -> io::Result<()> {
        let Some((flow, name)) = flows.get(index) else { return Ok(()) };
        self.size += ABOUT;
        self.file.add(flow, name).map_err(failed)
    }

    /// About how many bytes there would be without compression.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn finish(self) -> io::Result<File> {
        let out = self.file.finish().map_err(failed)?;
        out.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

fn failed(error: Error) -> io::Error {
    match error.kind() {
        ErrorKind::Write(source) => io::Error::new(source.kind(), source.to_string()),
        _ => io::Error::other(error.to_string()),
    }
}

/// A record as nfdump has it.
pub(crate) fn flow(record: &Record) -> NewFlow {
    let flow = &record.flow;
    let key = flow.flow_key();
    let flags = |direction: Direction| {
        let counts = record.features.flags.as_ref().map(|flags| flags.count.of(direction));
        let bits = counts.into_iter().flatten().enumerate();
        bits.fold(0, |all, (bit, &count)| all | u8::from(count > 0) << bit)
    };
    let [vlan, _] = flow.link.vlans;
    NewFlow {
        first_ms: millis(flow.first()),
        last_ms: millis(flow.last()),
        source: key.source.address(),
        destination: key.destination.address(),
        source_port: key.source.port(),
        destination_port: key.destination.port(),
        protocol: key.protocol.0,
        tcp_flags: flags(Direction::Forward),
        reverse_tcp_flags: flags(Direction::Reverse),
        packets: flow.counters.forward.packets,
        bytes: flow.counters.forward.ip_octets,
        out_packets: flow.counters.reverse.packets,
        out_bytes: flow.counters.reverse.ip_octets,
        vlan,
        macs: [flow.link.source.0, flow.link.destination.0],
        end_reason: record.reason as u8,
        initiator_known: flow.direction_source != DirectionSource::FirstPacket,
    }
}

/// nfdump counts milliseconds since 1970, and none before.
fn millis(time: Timestamp) -> u64 {
    u64::try_from(time.0.div_euclid(1_000_000)).unwrap_or(0)
}
