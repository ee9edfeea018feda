//! Frames: where they come from, and when they were captured.
//!
//! `file.rs` reads capture files of every kind (pcap, pcapng, compressed or not) in large pieces. Nothing
//! here looks into a frame: what is in it, `procflow-core` says.

#![forbid(unsafe_code)]

mod file;
mod format;

pub use file::{CaptureFile, FileError, Reason};
