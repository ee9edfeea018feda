//! Where the history is.

use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Its file in the state directory.
pub(crate) const DATABASE: &str = "history.db";

pub(crate) fn default_state() -> Result<PathBuf, Failure> {
    procflow_store::default_state("tracker").ok_or(Failure::NoHome)
}

/// Where the history is that a question is about.
pub(crate) fn database(state: Option<&Path>) -> Result<PathBuf, Failure> {
    let state = state.map(Path::to_owned).map_or_else(default_state, Ok)?;
    let database = state.join(DATABASE);
    match database.try_exists() {
        Ok(false) => Err(Failure::NoHistory(database)),
        // What cannot be looked at is reported by whoever opens it.
        Ok(true) | Err(_) => Ok(database),
    }
}
