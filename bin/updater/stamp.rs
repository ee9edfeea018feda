//! A stamp tells a file from what it was, or will be.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// What tells a file from the one it was, or will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) inode: u64,
    pub(crate) size: u64,
    /// Modification time in nanoseconds since the epoch.
    pub(crate) modified: i128,
}

impl Stamp {
    pub(crate) fn of(meta: &Metadata) -> Self {
        let modified = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
        Self { inode: meta.ino(), size: meta.size(), modified }
    }
}
