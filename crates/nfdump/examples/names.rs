//! Prints the flows of nfcapd files with their user names.
//!
//!     cargo run -p procflow-nfdump --example names -- nfcapd.202611210110

use std::{env, error::Error, fs::File};

use procflow_nfdump::Reader;

fn main() -> Result<(), Box<dyn Error>> {
    for path in env::args_os().skip(1) {
        let mut reader = Reader::new(File::open(&path)?)?;
        while let Some(block) = reader.next_block()? {
            for record in block {
                let Some(flow) = record?.flow else { continue };
                let name = String::from_utf8_lossy(flow.user_name.unwrap_or(b"-"));
                println!(
                    "{} {} {} {} -> {} {} {} {name}",
                    flow.first_ms,
                    flow.protocol,
                    flow.source,
                    flow.source_port,
                    flow.destination,
                    flow.destination_port,
                    flow.bytes,
                );
            }
        }
    }
    Ok(())
}
