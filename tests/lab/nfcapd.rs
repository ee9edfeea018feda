//! nfcapd files made by hand, for tests that need many flows of known keys or a damaged file.

use std::net::SocketAddrV4;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// What is in a file.
pub struct Recipe {
    pub source: SocketAddrV4,
    pub destination: SocketAddrV4,
    pub protocol: u8,
    pub flows: usize,
    /// The flows' first and last packet, in milliseconds since the epoch.
    pub first_ms: u64,
    pub last_ms: u64,
}

impl Recipe {
    /// Flows of a second ago.
    pub fn now(
        source: SocketAddrV4,
        destination: SocketAddrV4,
        protocol: u8,
        flows: usize,
    ) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = u64::try_from(now.as_millis()).unwrap();
        Self { source, destination, protocol, flows, first_ms: now - 1000, last_ms: now - 500 }
    }
}

/// Flows in one block of layout 2: nfdump itself stays below this.
const IN_A_BLOCK: usize = 10_000;

/// A file of layout 2, not compressed, as nfdump 1.7 writes it.
pub fn big_file(path: &Path, recipe: &Recipe) {
    let record = record(recipe);
    let mut file = header(recipe);
    let mut left = recipe.flows;
    let mut blocks = 0_u32;
    while left > 0 {
        let count = left.min(IN_A_BLOCK);
        block(&mut file, count, &record.repeat(count));
        left -= count;
        blocks += 1;
    }
    let appendix = file.len() as u64;
    // Ident "none", and the statistics.
    let mut records = vec![0x01, 0x80, 9, 0];
    records.extend(b"none\0");
    records.extend([0x02, 0x80, 148, 0]);
    let mut statistics = [0_u64; 18];
    let flows = recipe.flows as u64;
    (statistics[0], statistics[1], statistics[2]) = (flows, flows * 100, flows);
    (statistics[15], statistics[16]) = (recipe.first_ms, recipe.last_ms);
    statistics.iter().for_each(|value| records.extend(value.to_le_bytes()));
    block(&mut file, 2, &records);
    file[18] = 1;
    file[24..32].copy_from_slice(&appendix.to_le_bytes());
    file[36..40].copy_from_slice(&blocks.to_le_bytes());
    std::fs::write(path, file).unwrap();
}

fn header(recipe: &Recipe) -> Vec<u8> {
    let mut header = vec![0x0c, 0xa5, 2, 0, 0, 1, 7, 1];
    header.extend((recipe.first_ms / 1000).to_le_bytes());
    header.resize(40, 0);
    header
}

fn block(file: &mut Vec<u8>, records: usize, bytes: &[u8]) {
    file.extend(u32::try_from(records).unwrap().to_le_bytes());
    file.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
    file.extend([3, 0, 0, 0]);
    file.extend(bytes);
}

fn record(recipe: &Recipe) -> Vec<u8> {
    let mut record = vec![11, 0, 76, 0, 2, 0, 0, 0, 0, 0, 0, 10];
    record.extend([1, 0, 52, 0]);
    for value in [recipe.first_ms, recipe.last_ms, recipe.last_ms, 1, 100] {
        record.extend(value.to_le_bytes());
    }
    record.extend(recipe.source.port().to_le_bytes());
    record.extend(recipe.destination.port().to_le_bytes());
    record.extend([recipe.protocol, 0, 0, 0]);
    record.extend([2, 0, 12, 0]);
    record.extend(recipe.source.ip().to_bits().to_le_bytes());
    record.extend(recipe.destination.ip().to_bits().to_le_bytes());
    record
}
