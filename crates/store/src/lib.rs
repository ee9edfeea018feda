//! What the programs keep on disk between two runs.
//!
//! Today that is the **state directory**: keys, lists of trusted keys, the count of starts. The
//! history itself still lives in memory. Nothing here knows what the files mean: who may talk to
//! whom is decided in the programs, with `wire`'s keys.

#![forbid(unsafe_code)]

mod state;

pub use state::{StateDirectory, StateError, default_state, replace_file};
