//! The captures beside the project, which are not ours to ship.

use std::io::Write;
use std::path::{Path, PathBuf};

/// Where they are; where they are not, a test says SKIPPED.
pub(crate) fn captures() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/pcap");
    if !path.is_dir() {
        skip(format_args!("no captures at {}", path.display()));
        return None;
    }
    Some(path)
}

/// Says that a test does not run here. Not by `eprintln!`, which the test runner keeps to itself while
/// a test passes.
pub(crate) fn skip(why: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
