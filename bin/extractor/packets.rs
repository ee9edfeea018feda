//! `extractor packets`: the layers of each frame, as a line of text or as an object of JSON in which they
//! nest.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use procflow_core::flow::Filled;
use procflow_core::layers::{Fields, Hex, Layer, Layers};
use procflow_core::packet::{Batch, Frame};
use serde::Serialize;

use crate::args::PacketsArgs;
use crate::failure::Failure;
use crate::source::Source;
use crate::stop::Stop;

/// A frame, as an object of JSON.
#[derive(Serialize)]
struct Told<'l, 'a> {
    /// Which frame it is of those that were wanted, from 1 on.
    number: u64,
    /// When it was captured, in nanoseconds since 1970.
    time_ns: i64,
    link_type: u32,
    wire_octets: u32,
    captured_octets: usize,
    layers: Nested<'l, 'a>,
    /// What is behind all packets.
    trailer_octets: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    trailer: Option<Hex<'a>>,
}

/// A layer, as an object of JSON.
#[derive(Serialize)]
struct Nested<'l, 'a> {
    #[serde(flatten)]
    fields: &'l Fields<'a>,
    /// Where in the frame it begins.
    at: usize,
    /// So many captured octets are its own: its header, or all of it without one.
    own_octets: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<Hex<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Box<Self>>,
}

impl<'l, 'a> Nested<'l, 'a> {
    /// A layer and those inside, which are few.
    fn of(layer: &'l Layer<'a>, with_bytes: bool) -> Self {
        Self {
            fields: &layer.fields,
            at: layer.at,
            own_octets: layer.bytes.len(),
            bytes: with_bytes.then_some(Hex(layer.bytes)),
            payload: layer.inner().map(|inner| Box::new(Self::of(inner, with_bytes))),
        }
    }
}

/// `extractor packets`.
pub(crate) fn print(args: &PacketsArgs) -> Result<ExitCode, Failure> {
    let stop = Stop::listen()?;
    let mut source = Source::open(&args.source, &stop)?;
    let live = match &source {
        Source::Live(live) => {
            eprintln!("extractor: capturing {}", live.names());
            true
        }
        Source::Files(_) => false,
    };
    let mut output = BufWriter::new(io::stdout().lock());
    let printed = print_all(args, &mut output, |batch| source.next(batch, &stop), live);
    let (_, _, failed) = source.finish();
    match printed {
        // Whoever reads has enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
        Err(error) => return Err(Failure::Stdout(error)),
        Ok(()) => {}
    }
    if let Some(signal) = stop.signal().filter(|_| !live) {
        return Ok(ExitCode::from(128 + signal));
    }
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}

fn print_all(
    args: &PacketsArgs,
    output: &mut impl Write,
    mut next: impl FnMut(&mut Batch) -> Filled,
    at_once: bool,
) -> io::Result<()> {
    let mut batch = Batch::default();
    let mut number = 0;
    loop {
        let filled = next(&mut batch);
        for frame in batch.frames() {
            number += 1;
            print_one(args, output, number, frame, batch.bytes_of(frame))?;
            if args.count == Some(number) {
                return output.flush();
            }
        }
        if matches!(filled, Filled::Last) {
            return output.flush();
        }
        if at_once {
            output.flush()?;
        }
    }
}

fn print_one(
    args: &PacketsArgs,
    output: &mut impl Write,
    number: u64,
    frame: &Frame,
    bytes: &[u8],
) -> io::Result<()> {
    let layers = Layers::of(frame.link_type, frame.time, bytes, frame.wire);
    if args.json {
        let told = Told {
            number,
            time_ns: frame.time.0,
            link_type: frame.link_type.0,
            wire_octets: layers.wire(),
            captured_octets: bytes.len(),
            layers: Nested::of(layers.outermost(), args.bytes),
            trailer_octets: layers.trailer().len(),
            trailer: args.bytes.then_some(Hex(layers.trailer())),
        };
        serde_json::to_writer(&mut *output, &told)?;
        return writeln!(output);
    }
    write!(output, "{} {layers}", frame.time.rfc3339_micros())?;
    if bytes.len() < layers.wire() as usize {
        write!(output, " (captured {} of {})", bytes.len(), layers.wire())?;
    }
    writeln!(output)?;
    if args.bytes { dump(output, bytes) } else { Ok(()) }
}

/// Sixteen octets a line, as numbers and as the letters that they may be. What a terminal would obey is a
/// dot.
fn dump(output: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    for (line, octets) in bytes.chunks(16).enumerate() {
        let words: Vec<String> = octets.chunks(2).map(|word| Hex(word).to_string()).collect();
        let letter = |octet: &u8| match octet {
            b' '..=b'~' => char::from(*octet),
            _ => '.',
        };
        let letters: String = octets.iter().map(letter).collect();
        writeln!(output, "    0x{:04x}:  {:39}  {letters}", line * 16, words.join(" "))?;
    }
    Ok(())
}
