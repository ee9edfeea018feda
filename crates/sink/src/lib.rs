//! Where flow records go: rows of text (CSV, JSON lines), Parquet files, nfcapd files; with the processes
//! that a join names.
//!
//! An [`Output`] writes, and says what makes its rows ([`AsRows`], in any number of threads). It decides
//! nothing about flows and nothing about who made them.

#![forbid(unsafe_code)]

mod error;
mod files;
mod nfcapd;
mod output;
mod parquet;
mod processes;
mod rotation;
mod text;
mod unfinished;
mod user_name;

pub use error::SinkError;
pub use output::{AsRows, Made, Output};
pub use processes::{holders, is_told};
pub use rotation::Rotation;
pub use user_name::{MOST, Miss, Template, name, name_of};
