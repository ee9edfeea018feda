//! How fast the extractor makes flows, beside other meters: `make bench-extractor`.
//!
//! `--make FILE` only writes the made-up capture. Without `--full` or `--make` it does nothing, so that
//! `cargo test` passes by.

mod trace;

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

type Trouble = Box<dyn Error>;

fn main() -> Result<(), Trouble> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).map(PathBuf::from)
    };
    if let Some(path) = after("--make") {
        let mut output = BufWriter::new(File::create(path)?);
        let written = trace::write(80_000, &mut output)?;
        output.flush()?;
        println!("{} packets, {} bytes", written.packets, written.bytes);
    }
    Ok(())
}
