//! A file that is not whole yet: it has another name beside its own, and none when it is given up.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::error::SinkError;

/// The name of a file until it is whole. Dropped before, the file is removed.
#[derive(Debug)]
pub(crate) struct Unfinished {
    path: PathBuf,
    /// Whether it has its own name.
    named: bool,
}

impl Unfinished {
    /// Begins a file beside the one of this name.
    pub(crate) fn beside(path: &Path) -> Result<(Self, File), SinkError> {
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}", std::process::id()));
        let path = path.with_file_name(name);
        match File::create(&path) {
            Ok(file) => Ok((Self { path, named: false }, file)),
            Err(source) => Err(SinkError::File { path, source }),
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

    /// Gives it the first of these names that nobody has, from this number on; gives the number.
    pub(crate) fn take_free(
        mut self,
        first: u32,
        name: impl Fn(u32) -> PathBuf,
    ) -> io::Result<u32> {
        for number in first..=u32::MAX {
            let name = name(number);
            let flags = RenameFlags::RENAME_NOREPLACE;
            let renamed = match renameat2(AT_FDCWD, &self.path, AT_FDCWD, &name, flags) {
                // A file system that cannot do it in one step.
                Err(Errno::EINVAL | Errno::ENOSYS) if !name.exists() => {
                    std::fs::rename(&self.path, &name)
                }
                Err(Errno::EEXIST | Errno::EINVAL | Errno::ENOSYS) => continue,
                renamed => renamed.map_err(Into::into),
            };
            renamed?;
            self.named = true;
            return Ok(number);
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.named {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
