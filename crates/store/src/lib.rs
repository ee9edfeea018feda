//! What the programs keep on disk between two runs.
//!
//! The **state directory**: keys, lists of trusted keys, the count of starts; small files, of which
//! nothing here knows what they mean.
//!
//! The **history**: every event that a tracker saw, in an SQLite database. A [`Recorder`] writes it
//! and keeps it within its bounds, with a share for every user; a [`Reader`] gives it back, from a
//! position on or around a moment. An [`Export`] file is a stretch of it to take along. None of them
//! decides who made a flow (`binding` does), talks to anybody (`wire` does), or reads a clock.

#![forbid(unsafe_code)]

mod block;
mod database;
mod export;
mod reader;
mod recorder;
mod share;
mod state;

pub use block::BlockError;
pub use database::{HistoryError, move_aside};
pub use export::{
    Export, ExportError, ExportHeader, Exported, read_export, read_exports, write_export,
};
pub use reader::{Kept, Page, Reader, Told};
pub use recorder::{Keep, Recorder};
pub use share::Class;
pub use state::{StateDirectory, StateError, default_state, replace_file};
