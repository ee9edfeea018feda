//! The TCP connections of a capture file, for the examples: frames to layers to sessions.

use std::error::Error;
use std::path::Path;

use procflow_capture::CaptureFile;
use procflow_core::Timestamp;
use procflow_core::layers::{Layers, Tcp};
use procflow_core::packet::Batch;
use procflow_core::session::{Event, Sessions, Settings};

/// Tells what happens in the connections of a capture file: those in tunnels too. Of a damaged file what is
/// in front of the damage is told. (`session::follow` does this too, and doubts wild times; here it is done
/// packet by packet, as one would who also looks at other layers.)
pub(crate) fn follow(path: &Path, mut tell: impl FnMut(&Event<'_>)) -> Result<(), Box<dyn Error>> {
    let mut file = CaptureFile::open(path)?;
    let mut sessions = Sessions::new(Settings::default());
    let mut batch = Batch::default();
    let mut now = Timestamp(i64::MIN);
    loop {
        let read = file.next_batch(&mut batch);
        for frame in batch.frames() {
            let bytes = batch.bytes_of(frame);
            let layers = Layers::of(frame.link_type, frame.time, bytes, frame.wire);
            let (Some(_), Ok(packet)) = (layers.innermost::<Tcp<'_>>(), layers.packet()) else {
                continue;
            };
            // Time does not go back, though frames may.
            now = now.max(frame.time);
            sessions.observe(packet, bytes, now, &mut tell);
        }
        if read.is_err() || batch.is_empty() {
            sessions.finish(now, &mut tell);
            return Ok(read?);
        }
    }
}

/// Text of others, as a terminal may see it: no control characters, and no letters that hide.
pub(crate) fn harmless(bytes: &[u8]) -> String {
    let mut text = String::new();
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '\'' | '"' => text.push(c),
            _ => text.extend(c.escape_debug()),
        }
    }
    text
}
