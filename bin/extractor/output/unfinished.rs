//! A file that is not whole yet: it has another name beside its own, and none when it is given up.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The name of a file until it is whole. Dropped before, the file is removed.
#[derive(Debug)]
pub(crate) struct Unfinished {
    path: PathBuf,
    /// Whether it has its own name.
    named: bool,
}

impl Unfinished {
    /// Begins a file beside the one of this name.
    pub(crate) fn beside(path: &Path) -> Result<(Self, File), Failure> {
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}", std::process::id()));
        let path = path.with_file_name(name);
        match File::create(&path) {
            Ok(file) => Ok((Self { path, named: false }, file)),
            Err(source) => Err(Failure::Output { path, source }),
        }
    }

    /// What it is called for now.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name, in place of what has it.
    pub(crate) fn replace(mut self, name: &Path) -> io::Result<()> {
        std::fs::rename(&self.path, name)?;
        self.named = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.named {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
