//! A new nfcapd file, of flows that come from no file: layout 2, as nfdump 1.7 writes it.

use std::io::{Seek, Write};
use std::net::IpAddr;

use crate::{
    compress::Compression,
    counters::Counters,
    error::{Error, ErrorKind},
    file::{Header, Layout, MAGIC},
    name::{FIELD, UserName},
    packer::Packer,
    record::{HEAD, RecordType},
    stat::Stat,
    writer::{AtOnce, Writer},
};

/// A flow to be written: a biflow (RFC 5103), whose reverse direction may be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewFlow {
    /// First packet, in unix milliseconds.
    pub first_ms: u64,
    /// Last packet, in unix milliseconds.
    pub last_ms: u64,
    /// The initiator.
    pub source: IpAddr,
    /// The responder.
    pub destination: IpAddr,
    /// The initiator's port.
    pub source_port: u16,
    /// The responder's port; for ICMP, type * 256 + code.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// All TCP flags from the initiator.
    pub tcp_flags: u8,
    /// All TCP flags from the responder.
    pub reverse_tcp_flags: u8,
    /// Packets from the initiator.
    pub packets: u64,
    /// Bytes from the initiator.
    pub bytes: u64,
    /// Packets from the responder: nfdump's `%opkt`.
    pub out_packets: u64,
    /// Bytes from the responder: nfdump's `%obyt`.
    pub out_bytes: u64,
    /// The VLAN it was seen in, 0 without.
    pub vlan: u16,
    /// Link addresses of the initiator's side and of the responder's.
    pub macs: [[u8; 6]; 2],
    /// Why it ended, by IPFIX's numbers (flowEndReason 136); 0 for unknown.
    pub end_reason: u8,
    /// Whether it is known who is the initiator (biflowDirection 239 is then 1).
    pub initiator_known: bool,
}

/// The nfdump whose format it is: 1.7.1.
const VERSION: u32 = 0x0107_0100;

/// Where a flow comes from, in its record: packets that were captured (nfpcapd's mark).
const FROM_PACKETS: u8 = 0x41;

/// A flow record's header, and the most that all its elements take.
const RECORD_HEADER: usize = 12;
const MOST: usize = RECORD_HEADER + 52 + 36 + 20 + 28 + 12 + 36 + ELEMENT_HEADER + FIELD;
const ELEMENT_HEADER: usize = 4;

/// Blocks of so many bytes are written at once, about.
const AT_ONCE: u32 = 4;

/// A file that is being written. What is written until [`finish`](Self::finish) is a file in progress,
/// which nobody takes for a whole one.
pub struct NewFile<W: Write + Seek> {
    header: Header,
    packer: Packer,
    writer: Writer<W, AtOnce<W>>,
    stat: Stat,
    added: u64,
}

impl<W: Write + Seek> NewFile<W> {
    /// Begins one. It is said to be created when its first flow began, so that the same flows give the
    /// same file.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn begin(output: W, compression: Compression) -> Result<Self, Error> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&2_u16.to_le_bytes());
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        let method = match compression {
            Compression::None => 0,
            Compression::Lzo => 1,
            Compression::Bz2 => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        };
        bytes.push(method);
        bytes.resize(Layout::Two.header_size(), 0);
        let header = Header::parse(Layout::Two, bytes)?;
        let writer = Writer::new(output, &header)?;
        let packer = Packer::new(Layout::Two.block_type(), compression);
        Ok(Self { header, packer, writer, stat: Stat::default(), added: 0 })
    }

    /// Adds a flow, and its name if that is not empty.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn add(&mut self, flow: &NewFlow, name: &UserName) -> Result<(), Error> {
        self.packer.add(MOST, |plain| record(flow, name, plain));
        self.stat.add(&Counters {
            first_ms: flow.first_ms,
            last_ms: flow.last_ms,
            protocol: flow.protocol,
            flows: 1,
            packets: flow.packets,
            bytes: flow.bytes,
            out_packets: flow.out_packets,
            out_bytes: flow.out_bytes,
        });
        self.added += 1;
        if self.packer.blocks() >= AT_ONCE { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), Error> {
        self.packer.pack().map_err(|kind: ErrorKind| Error::at(0, kind))?;
        let (whole, blocks) = self.packer.packed();
        self.writer.data(&self.header, whole, blocks)?;
        self.packer.clear();
        Ok(())
    }

    /// What the flows add up to so far.
    pub fn stat(&self) -> &Stat {
        &self.stat
    }

    /// Writes what is left, the sums and the counts; gives back the output.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn finish(mut self) -> Result<Option<W>, Error> {
        self.write()?;
        self.packer.push_all(&appendix(b"none", self.stat));
        self.packer.pack().map_err(|kind| Error::at(0, kind))?;
        self.writer.appendix(self.packer.packed().0)?;
        let created = i64::try_from(self.stat.first_ms / 1000).unwrap_or(i64::MAX);
        let (_, output) = self.writer.finish(&self.header.with_created(created)?)?;
        Ok(output)
    }
}

/// The two records of an appendix. An ident is shorter than 128 bytes.
pub(crate) fn appendix(ident: &[u8], stat: Stat) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut record = |record_type: RecordType, bytes: &[u8]| {
        plain.extend_from_slice(&record_type.0.to_le_bytes());
        // An ident is shorter than 128, the stat record 144.
        plain.extend_from_slice(&((HEAD + bytes.len()) as u16).to_le_bytes());
        plain.extend_from_slice(bytes);
    };
    record(RecordType::IDENT, &[ident, &[0]].concat());
    record(RecordType::STAT, &stat.to_bytes(Layout::Two));
    plain
}

/// Appends the record of a flow.
fn record(flow: &NewFlow, name: &UserName, plain: &mut Vec<u8>) {
    let start = plain.len();
    plain.extend_from_slice(&[0; RECORD_HEADER]);
    let mut elements: u16 = 0;
    let mut element = |id: u16, parts: &[&[u8]]| {
        let length = ELEMENT_HEADER + parts.iter().map(|part| part.len()).sum::<usize>();
        plain.extend_from_slice(&id.to_le_bytes());
        // At most 72.
        plain.extend_from_slice(&(length as u16).to_le_bytes());
        parts.iter().for_each(|part| plain.extend_from_slice(part));
        elements += 1;
    };
    let number = u64::to_le_bytes;
    element(
        1,
        &[
            &number(flow.first_ms),
            &number(flow.last_ms),
            &number(0),
            &number(flow.packets),
            &number(flow.bytes),
            &flow.source_port.to_le_bytes(),
            &flow.destination_port.to_le_bytes(),
            &[flow.protocol, flow.tcp_flags, 0, 0],
        ],
    );
    match (flow.source, flow.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let number = |address: std::net::Ipv4Addr| address.to_bits().to_le_bytes();
            element(2, &[&number(source), &number(destination)]);
        }
        (source, destination) => {
            let halves = |address: IpAddr| {
                let bits = match address {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                }
                .to_bits();
                [(bits >> 64) as u64, bits as u64].map(u64::to_le_bytes)
            };
            let ([a, b], [c, d]) = (halves(source), halves(destination));
            element(3, &[&a, &b, &c, &d]);
        }
    }
    let direction = u8::from(flow.initiator_known);
    let reverse = flow.reverse_tcp_flags;
    element(4, &[&[0; 12], &[direction, flow.end_reason, reverse, 0]]);
    if flow.out_packets > 0 {
        element(5, &[&number(1), &number(flow.out_packets), &number(flow.out_bytes)]);
    }
    if flow.vlan != 0 {
        element(6, &[&u32::from(flow.vlan).to_le_bytes(), &[0; 4]]);
    }
    if flow.macs != [[0; 6]; 2] {
        let mac = |[a, b, c, d, e, f]: [u8; 6]| [f, e, d, c, b, a, 0, 0];
        let [source, destination] = flow.macs.map(mac);
        element(15, &[&source, &[0; 8], &destination, &[0; 8]]);
    }
    if !name.is_empty() {
        element(24, &[name.field()]);
    }
    // At most MOST.
    let size = (plain.len() - start) as u16;
    let header = &mut plain[start..start + RECORD_HEADER];
    header[..2].copy_from_slice(&RecordType::FLOW_V3.0.to_le_bytes());
    header[2..4].copy_from_slice(&size.to_le_bytes());
    header[4..6].copy_from_slice(&elements.to_le_bytes());
    header[11] = FROM_PACKETS;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::Reader;
    use std::io::Cursor;

    fn flow(number: u16) -> NewFlow {
        NewFlow {
            first_ms: 1_795_223_603_001,
            last_ms: 1_795_223_604_002,
            source: "10.0.0.1".parse().unwrap(),
            destination: "192.0.2.7".parse().unwrap(),
            source_port: number,
            destination_port: 443,
            protocol: 6,
            tcp_flags: 0x1b,
            reverse_tcp_flags: 0x13,
            packets: 5,
            bytes: 500,
            out_packets: 4,
            out_bytes: 4000,
            vlan: 7,
            macs: [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]],
            end_reason: 3,
            initiator_known: true,
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            let output = Cursor::new(Vec::new());
            let mut file = NewFile::begin(output, compression).unwrap();
            let (mut name, nothing) = (UserName::new(), UserName::new());
            name.set("curl>nginx");
            // More than one block of each.
            for number in 0..20_000 {
                let v6 = NewFlow { source: "2001:db8::1".parse().unwrap(), ..flow(number) };
                let shown = if number % 2 == 0 { flow(number) } else { v6 };
                file.add(&shown, if number == 3 { &nothing } else { &name }).unwrap();
            }
            let bytes = file.finish().unwrap().unwrap().into_inner();
            let mut reader = Reader::new(&bytes[..]).unwrap();
            let mut flows = 0;
            while let Some(block) = reader.next_block().unwrap() {
                for record in block {
                    let record = record.unwrap();
                    let read = record.flow.unwrap();
                    let wanted = flow(flows);
                    assert_eq!((read.first_ms, read.last_ms), (wanted.first_ms, wanted.last_ms));
                    assert_eq!((read.source_port, read.tcp_flags), (flows, 0x1b));
                    let v6 = "2001:db8::1".parse().unwrap();
                    assert_eq!(read.source, if flows % 2 == 0 { wanted.source } else { v6 });
                    let named = (flows != 3).then_some(&b"curl>nginx"[..]);
                    assert_eq!(read.user_name, named);
                    flows += 1;
                }
            }
            assert_eq!(flows, 20_000);
            let stat = reader.stat().unwrap();
            assert_eq!((stat.all.flows, stat.all.packets), (20_000, 180_000));
            assert_eq!((stat.tcp, stat.all.bytes), (stat.all, 90_000_000));
            assert_eq!(stat.first_ms, 1_795_223_603_001);
            assert_eq!(reader.header().created(), Some(1_795_223_603));
        }
    }

    #[test]
    fn a_file_without_flows_is_whole() {
        let output = Cursor::new(Vec::new());
        let file = NewFile::begin(output, Compression::None).unwrap();
        let bytes = file.finish().unwrap().unwrap().into_inner();
        let mut reader = Reader::new(&bytes[..]).unwrap();
        assert!(reader.next_block().unwrap().is_none());
        assert_eq!(reader.stat().unwrap(), &Stat::default());
    }
}
