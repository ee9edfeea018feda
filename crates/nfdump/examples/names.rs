//! Prints the flows of nfcapd files with their user names.
//!
//!     cargo run -p procflow-nfdump --example names -- nfcapd.202611210110

use std::{
    env,
    fs::File,
    io::{self, Write},
    process::ExitCode,
};

use procflow_nfdump::{Error, Reader};

fn main() -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for path in env::args_os().skip(1) {
        let printed = match File::open(&path) {
            Ok(file) => print(file).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = printed {
            eprintln!("{}: {error}", path.display());
            code = ExitCode::FAILURE;
        }
    }
    code
}

fn print(file: File) -> Result<(), Error> {
    let mut output = io::BufWriter::new(io::stdout().lock());
    let mut reader = Reader::new(file)?;
    while let Some(block) = reader.next_block()? {
        for record in block {
            let Some(flow) = record?.flow else { continue };
            let printed = writeln!(
                output,
                "{} {} {} {} -> {} {} {} {}",
                flow.first_ms,
                flow.protocol,
                flow.source,
                flow.source_port,
                flow.destination,
                flow.destination_port,
                flow.bytes,
                String::from_utf8_lossy(flow.user_name.unwrap_or(b"-")),
            );
            // Whoever reads has had enough.
            if printed.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}
