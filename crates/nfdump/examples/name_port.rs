//! Writes a name into the flows from or to a port, and says what was done and how fast.
//!
//!     cargo run --release -p procflow-nfdump --example name_port -- IN OUT 53 unbound
//!
//! With port 0 nothing is named and the file is copied.

use std::{env, error::Error, fs::File, time::Instant};

use procflow_nfdump::rewrite;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [input, output, port, text] = &arguments[..] else {
        return Err("usage: name_port IN OUT PORT NAME".into());
    };
    let port: u16 = port.parse()?;
    let start = Instant::now();
    let summary = rewrite(File::open(input)?, File::create(output)?, |flow, name| {
        if port != 0 && (flow.source_port == port || flow.destination_port == port) {
            name.set(text);
        }
    })?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{summary:#?}");
    println!("{:.1} million flows a second", summary.flows as f64 / seconds / 1e6);
    Ok(())
}
