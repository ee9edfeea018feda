//! Frames: where they come from, and when they were captured.
//!
//! `file.rs` reads capture files of every kind (pcap, pcapng, compressed or not) in large pieces, `files.rs`
//! several one after another; `live.rs`
//! takes them from an interface; `filter.rs` says which are wanted. Nothing here looks into a frame: what is in
//! it, `procflow-core` says.

#![forbid(unsafe_code)]

mod file;
mod files;
mod filter;
mod format;
mod live;

pub use file::{CaptureFile, FileError, Reason};
pub use files::{CaptureFiles, FilesError};
pub use filter::Filter;
pub use live::{Interface, Live, LiveError, LiveSettings, Statistics, Stopper, interfaces};

/// The program in docs/plugins.md is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/plugins.md")]
struct Plugins;
