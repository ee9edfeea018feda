//! The layers of real frames and the packets that flows are made of, beside each other.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use procflow_capture::CaptureFile;
use procflow_core::packet::Batch;

#[path = "../../core/tests/frames/agreement.rs"]
mod agreement;

#[test]
fn layers_of_every_capture_agree_with_its_packets() {
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/pcap");
    if !captures.is_dir() {
        // Not by `eprintln!`, which the test runner keeps to itself.
        let _ = writeln!(std::io::stderr(), "SKIPPED: no captures at {}", captures.display());
        return;
    }
    let mut files: Vec<PathBuf> = fs::read_dir(captures.join("nfstream/pcaps"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.push(captures.join("eleven-cases.pcap"));
    let (mut frames, mut layers) = (0, 0);
    for path in files {
        let mut file = CaptureFile::open(&path).unwrap();
        let mut batch = Batch::default();
        loop {
            // One of the files is damaged; what is in front of that is read.
            let over = file.next_batch(&mut batch).is_err();
            for frame in batch.frames() {
                layers += agreement::agrees(frame.link_type, batch.bytes_of(frame), frame.wire);
                frames += 1;
            }
            if over || batch.is_empty() {
                break;
            }
        }
    }
    // A link, IP, a transport, and mostly data.
    assert!(frames > 5000 && layers > 3 * frames, "{layers} layers of {frames} frames");
}
