//! Prints the ten user names with most bytes, both directions, in a file.
//!
//!     cargo run -p procflow-nfdump --example talkers -- nfcapd.202611210110

use std::{collections::HashMap, env, error::Error, fs::File};

use procflow_nfdump::{Reader, Tally};

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args_os().nth(1).ok_or("usage: talkers FILE")?;
    let mut reader = Reader::new(File::open(path)?)?;
    let mut tally = Tally::new(reader.header().layout());
    let mut bytes: HashMap<String, u64> = HashMap::new();
    while let Some(block) = reader.next_block()? {
        for record in block {
            let record = record?;
            let Some(counters) = tally.add(&record) else { continue };
            let name = record.flow.and_then(|flow| flow.user_name).unwrap_or(b"-");
            let sum = bytes.entry(name.escape_ascii().to_string()).or_default();
            *sum = sum.saturating_add(counters.bytes).saturating_add(counters.out_bytes);
        }
    }
    let mut talkers: Vec<(String, u64)> = bytes.into_iter().collect();
    talkers.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    for (name, bytes) in talkers.iter().take(10) {
        println!("{bytes:>15} {name}");
    }
    Ok(())
}
