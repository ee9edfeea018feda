//! The history and the files that are measured: made up, the same ones each time.

use std::fs::{self, File};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use procflow_binding::{
    Address, BootId, BootTime, Change, Close, Coverage, Event, HostId, Incarnation, Namespace,
    NamespaceId, Open, Process, ProcessKey, Socket, SocketId,
};
use procflow_core::{Endpoint, Protocol, Timestamp};
use procflow_store::{ExportHeader, Keep, Reader, Recorder, write_export};

use crate::Trouble;

const SECOND: u64 = 1_000_000_000;
/// Real time minus boot time.
const EPOCH: i64 = 1_790_000_000_000_000_000;
const HOME: NamespaceId = NamespaceId(1);
const ADDRESSES: u64 = 250;
const PROCESSES: u32 = 100;

/// A host that talks to itself: each connection makes two intervals.
pub(crate) struct World {
    connections: u32,
}

/// Numbers that look like chance, the same ones each time (Knuth, MMIX).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 20) % bound
    }
}

impl World {
    pub(crate) fn new(connections: u32) -> Self {
        Self { connections }
    }

    /// Address and port of both ends, and when it began.
    fn connection(number: u32) -> ([([u8; 4], u16); 2], u64) {
        let mut dice = Dice(u64::from(number) << 8);
        let mut address = || [10, 0, 0, 1 + dice.below(ADDRESSES) as u8];
        let ends = [(address(), 1024 + (number % 60_000) as u16), (address(), 443)];
        (ends, 100 * SECOND + u64::from(number) * SECOND / 10_000)
    }

    /// Writes the history, by way of the store.
    pub(crate) fn write_history(&self, state: &Path, export: &Path) -> Result<(), Trouble> {
        fs::create_dir_all(state)?;
        let database = state.join("history.db");
        let host = HostId([1; 16]);
        let incarnation = Incarnation { host, boot: BootId([1; 16]), number: 1 };
        let keep = Keep { nanoseconds: u64::MAX, bytes: u64::MAX };
        let mut recorder = Recorder::begin(&database, incarnation, "bench", keep)?;
        let mut sequence = 0;
        let mut tell = |time: u64, change| {
            sequence += 1;
            recorder.append(&Event { sequence, time: BootTime(time), change })
        };
        let now = 99 * SECOND;
        let facts = Namespace { id: HOME, inode: 1, name: None, initial: true };
        tell(now, Change::Watch(Coverage::Complete))?;
        tell(now, Change::Clock(Timestamp(now as i64 + EPOCH)))?;
        tell(now, Change::Namespace(facts))?;
        for end in 1..=ADDRESSES {
            let address = [10, 0, 0, end as u8].into();
            tell(now, Change::Address(Address { namespace: HOME, address, prefix: 8 }))?;
        }
        let key = |number: u32| ProcessKey { pid: 100 + number % PROCESSES, start: BootTime(1) };
        for number in 0..PROCESSES {
            let facts = Process {
                key: key(number),
                comm: format!("service-{number}").into(),
                executable: Some("/usr/bin/service".into()),
                uid: Some(1000),
                user: Some("service".into()),
                container: None,
                unit: None,
            };
            tell(now, Change::Process(facts))?;
        }
        tell(now, Change::Listed)?;
        let lasting = 20_000;
        for number in 0..self.connections + lasting {
            let ids = |number: u32| [0, 1].map(|end| SocketId(u64::from(number) * 2 + end));
            if number < self.connections {
                let (ends, begin) = Self::connection(number);
                let ends = ends.map(|(address, port)| Endpoint::new(address, port));
                for (at, id) in ids(number).into_iter().enumerate() {
                    let socket = Socket::connected(HOME, Protocol::TCP, ends[at], ends[1 - at]);
                    let owners = [key(number.wrapping_add(at as u32 * 7))].into();
                    let not_before = BootTime(begin);
                    tell(begin, Change::Open(Open { id, socket, owners, not_before }))?;
                }
            }
            if let Some(number) = number.checked_sub(lasting) {
                let end = BootTime(Self::connection(number).1 + 2 * SECOND);
                for id in ids(number) {
                    tell(end.0, Change::Close(Close { id, last_seen: end }))?;
                }
            }
        }
        let end = BootTime(Self::connection(self.connections + lasting).1 + 10 * SECOND);
        recorder.commit(end)?;
        let (since, until) = (Timestamp(i64::MIN), Timestamp(i64::MAX));
        let created = Timestamp(EPOCH);
        let header = ExportHeader { host, host_name: "bench".to_owned(), created, since, until };
        write_export(&Reader::open(&database)?, export, &header)?;
        Ok(())
    }

    /// Writes a plain file of layout 2 with so many flows of 104 bytes, of which `hits` percent are
    /// of this host.
    pub(crate) fn write_flows(&self, path: &Path, flows: u32, hits: u64) -> Result<(), Trouble> {
        const RECORD: usize = 104;
        const IN_A_BLOCK: u32 = (1 << 20) / RECORD as u32;
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&[0; 40])?;
        let (mut dice, mut left, mut blocks) = (Dice(5), flows, 0_u32);
        while left > 0 {
            let records = left.min(IN_A_BLOCK);
            left -= records;
            blocks += 1;
            block(&mut file, records, records * RECORD as u32)?;
            for _ in 0..records {
                let number = dice.below(u64::from(self.connections)) as u32;
                let ([(mut from, port), (mut to, other)], begin) = Self::connection(number);
                if dice.below(100) >= hits {
                    (from[1], to[1]) = (9, 9);
                }
                let real = (begin as i64 + EPOCH) as u64 / 1_000_000;
                let mut record = Vec::with_capacity(RECORD);
                for number in [11_u16, RECORD as u16, 3, 0, 0, 0x0a00, 1, 52] {
                    record.extend(number.to_le_bytes());
                }
                for number in [real + 100, real + 1000, real + 1500, 10, 5000] {
                    record.extend(number.to_le_bytes());
                }
                record.extend(port.to_le_bytes());
                record.extend(other.to_le_bytes());
                record.extend([6, 0x1b, 0, 0, 2, 0, 12, 0]);
                record.extend(u32::from_be_bytes(from).to_le_bytes());
                record.extend(u32::from_be_bytes(to).to_le_bytes());
                record.extend([5, 0, 28, 0]);
                record.extend([1_u64, 8, 4000].map(u64::to_le_bytes).concat());
                file.write_all(&record)?;
            }
        }
        let appendix = file.stream_position()?;
        block(&mut file, 2, 9 + 148)?;
        file.write_all(&[0x01, 0x80, 9, 0])?;
        file.write_all(b"none\0")?;
        file.write_all(&[0x02, 0x80, 148, 0])?;
        file.write_all(&u64::from(flows).to_le_bytes())?;
        file.write_all(&[0; 136])?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&[0x0c, 0xa5, 2, 0, 0, 1, 7, 1])?;
        file.write_all(&(EPOCH / 1_000_000_000).to_le_bytes())?;
        file.write_all(&[0, 0, 1, 0, 0, 0, 0, 0])?;
        file.write_all(&appendix.to_le_bytes())?;
        file.write_all(&[0; 4])?;
        file.write_all(&blocks.to_le_bytes())?;
        file.flush()?;
        Ok(())
    }
}

/// A block's header.
fn block(file: &mut impl Write, records: u32, size: u32) -> std::io::Result<()> {
    file.write_all(&records.to_le_bytes())?;
    file.write_all(&size.to_le_bytes())?;
    file.write_all(&[3, 0, 0, 0])
}
