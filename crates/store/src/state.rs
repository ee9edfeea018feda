//! A state directory: a few small files that a program owns, replaced whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Longest file that is read, in bytes: state files hold a few lines, and who can write them
/// should not be able to fill the memory.
const MOST: u64 = 16 << 20;

/// A state directory, open.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    /// Of new files that the group may read.
    group: Option<u32>,
    lock: Option<File>,
}

/// The state directory does not serve.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// An operation on a file failed.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// Another process holds the lock.
    #[error("{} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// A secret that others can read is none.
    #[error("{} can be read by others (mode {mode:o}); make it 600 or make a new one", path.display())]
    Exposed {
        /// The secret.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A file has no sensible content.
    #[error("{}: {what}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Where a program keeps its state when nobody says otherwise: `/var/lib/procflow/PROGRAM` for
/// root, `$XDG_STATE_HOME/procflow/PROGRAM` (by default under `~/.local/state`) for others; `None`
/// for somebody without a home.
#[must_use]
pub fn default_state(program: &str) -> Option<PathBuf> {
    let base = if nix::unistd::geteuid().is_root() {
        PathBuf::from("/var/lib")
    } else {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?
    };
    Some(base.join("procflow").join(program))
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io { what, path, source }
}

impl StateDirectory {
    /// Opens a directory; makes it, for its owner and group only, if it is not there (and those
    /// above it). `group` gets it, and the files that a group may read.
    ///
    /// # Errors
    ///
    /// When it cannot be made or is no directory.
    pub fn open(path: &Path, group: Option<u32>) -> Result<Self, StateError> {
        // Only the last is private: others may have to pass those above it.
        if let Some(above) = path.parent() {
            fs::create_dir_all(above).map_err(failed("cannot make", above))?;
        }
        match DirBuilder::new().mode(0o750).create(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            Err(error) => return Err(failed("cannot make", path)(error)),
        }
        let directory = Self { path: path.to_owned(), group, lock: None };
        directory.hand_over(path)?;
        Ok(directory)
    }

    /// Where a file of this name is.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Takes the directory for this process alone, until it ends.
    ///
    /// # Errors
    ///
    /// When another process has it.
    pub fn lock(&mut self) -> Result<(), StateError> {
        let (lock, path) = self.lock_file("lock")?;
        match lock.try_lock() {
            Ok(()) => {
                self.lock = Some(lock);
                Ok(())
            }
            Err(TryLockError::WouldBlock) => Err(StateError::Locked(self.path.clone())),
            Err(TryLockError::Error(source)) => Err(failed("cannot lock", &path)(source)),
        }
    }

    /// Keeps other programs from changing files here until the guard is dropped; waits for them.
    ///
    /// # Errors
    ///
    /// When the lock file cannot be made.
    pub fn alone(&self) -> Result<impl Sized + use<>, StateError> {
        let (lock, path) = self.lock_file("change.lock")?;
        lock.lock().map_err(failed("cannot lock", &path))?;
        Ok(lock)
    }

    fn lock_file(&self, name: &str) -> Result<(File, PathBuf), StateError> {
        let path = self.file(name);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(failed("cannot open", &path))?;
        Ok((file, path))
    }

    /// The text of a file; `None` if there is none.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is longer than 16 MiB.
    pub fn read(&self, name: &str) -> Result<Option<String>, StateError> {
        let path = self.file(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("cannot open", &path)(error)),
        };
        let mut text = String::new();
        let read = file.take(MOST + 1).read_to_string(&mut text);
        if read.map_err(failed("cannot read", &path))? as u64 > MOST {
            return Err(StateError::Content { path, what: "longer than 16 MiB" });
        }
        Ok(Some(text))
    }

    /// Replaces a file whole: after a crash there is the old one or the new one. The mode says who
    /// may read it besides the owner.
    ///
    /// # Errors
    ///
    /// When it cannot be written; the old one is then as it was.
    pub fn replace(&self, name: &str, text: &str, mode: u32) -> Result<(), StateError> {
        let path = self.file(name);
        replace_file(&path, text.as_bytes(), mode)?;
        if mode & 0o070 != 0 { self.hand_over(&path) } else { Ok(()) }
    }

    /// Where a file is that another part of the program writes itself and the group may read: made,
    /// empty, when there is none.
    ///
    /// # Errors
    ///
    /// When it cannot be made, or given to the group.
    pub fn shared_file(&self, name: &str) -> Result<PathBuf, StateError> {
        let path = self.file(name);
        let mut options = OpenOptions::new();
        match options.write(true).create_new(true).mode(0o640).open(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("cannot make", &path)(error));
            }
            _ => {}
        }
        self.hand_over(&path)?;
        Ok(path)
    }

    /// A secret: read, or made and written when there is none yet. `mode` is 0600, or 0640 for
    /// one that the group shares.
    ///
    /// # Errors
    ///
    /// When it cannot be read or written, or when others can read it too.
    pub fn secret(
        &self,
        name: &str,
        mode: u32,
        make: impl FnOnce() -> String,
    ) -> Result<String, StateError> {
        let path = self.file(name);
        if let Some(text) = self.read(name)? {
            let found = fs::metadata(&path).map_err(failed("cannot look at", &path))?.mode();
            if found & 0o777 & !mode != 0 {
                return Err(StateError::Exposed { path, mode: found & 0o777 });
            }
            if mode & 0o070 != 0 {
                self.hand_over(&path)?; // the group may have been chosen since
            }
            return Ok(text);
        }
        // Two programs may start at once; the first one's secret is everybody's.
        let _alone = self.alone()?;
        if let Some(text) = self.read(name)? {
            return Ok(text);
        }
        let text = make();
        self.replace(name, &text, mode)?;
        Ok(text)
    }

    /// Counts: 1 the first time, and so on; the number is on disk before it is returned, so that
    /// it is never given twice.
    ///
    /// # Errors
    ///
    /// When the file cannot be written, or holds no number.
    pub fn count(&self, name: &str) -> Result<u64, StateError> {
        let last = match self.read(name)? {
            None => 0,
            Some(text) => text.trim().parse::<u64>().map_err(|_| StateError::Content {
                path: self.file(name),
                what: "is not a number",
            })?,
        };
        let next = last.checked_add(1).ok_or_else(|| StateError::Content {
            path: self.file(name),
            what: "has run out of numbers",
        })?;
        self.replace(name, &format!("{next}\n"), 0o600)?;
        Ok(next)
    }

    fn hand_over(&self, path: &Path) -> Result<(), StateError> {
        let Some(group) = self.group else { return Ok(()) };
        let group = nix::unistd::Gid::from_raw(group);
        nix::unistd::chown(path, None, Some(group))
            .map_err(|errno| failed("cannot give to the group", path)(errno.into()))
    }
}

/// Replaces a file whole: written beside it, synced, renamed over it.
///
/// # Errors
///
/// When it cannot be written; the old one is then as it was.
pub fn replace_file(path: &Path, content: &[u8], mode: u32) -> Result<(), StateError> {
    replace_file_with(path, mode, |file, path| {
        file.write_all(content).map_err(failed("cannot write", path))
    })
}

/// The same for what is too large to be handed in: `write` gets the file, and its path for errors.
pub(crate) fn replace_file_with<T, E: From<StateError>>(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File, &Path) -> Result<T, E>,
) -> Result<T, E> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new.{}", std::process::id()));
    let temporary = parent.join(name);
    // A process with our pid may have died here before (in a container every start has the same).
    let _ = fs::remove_file(&temporary);
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)
            .map_err(failed("cannot make", &temporary))?;
        file.set_permissions(fs::Permissions::from_mode(mode))
            .map_err(failed("cannot write", &temporary))?;
        let value = write(&mut file, &temporary)?;
        file.sync_all().map_err(failed("cannot write", &temporary))?;
        fs::rename(&temporary, path).map_err(failed("cannot replace", path))?;
        let directory = File::open(parent).map_err(failed("cannot open", parent))?;
        directory.sync_all().map_err(failed("cannot sync", parent))?;
        Ok(value)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary); // it may not exist; the error itself says enough
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> (tempfile::TempDir, StateDirectory) {
        let place = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(&place.path().join("a/b"), None).unwrap();
        (place, state)
    }

    #[test]
    fn a_secret_is_made_once_and_only_its_owner_reads_it() {
        let (_place, state) = directory();
        assert_eq!(state.secret("key", 0o600, || "one".to_owned()).unwrap(), "one");
        assert_eq!(state.secret("key", 0o600, || "two".to_owned()).unwrap(), "one");
        let mode = fs::metadata(state.file("key")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::set_permissions(state.file("key"), fs::Permissions::from_mode(0o644)).unwrap();
        let exposed = state.secret("key", 0o600, String::new);
        assert!(matches!(exposed, Err(StateError::Exposed { mode: 0o644, .. })), "{exposed:?}");
    }

    #[test]
    fn a_count_is_never_given_twice() {
        let (_place, state) = directory();
        assert_eq!([state.count("n").unwrap(), state.count("n").unwrap()], [1, 2]);
        state.replace("n", "x", 0o600).unwrap();
        assert!(matches!(state.count("n"), Err(StateError::Content { .. })));
    }

    #[test]
    fn one_process_at_a_time() {
        let (place, mut state) = directory();
        state.lock().unwrap();
        let mut other = StateDirectory::open(&place.path().join("a/b"), None).unwrap();
        assert!(matches!(other.lock(), Err(StateError::Locked(_))));
        drop(state);
        other.lock().unwrap();
    }

    #[test]
    fn nothing_is_left_beside_a_replaced_file() {
        let (_place, state) = directory();
        state.replace("list", "a\n", 0o640).unwrap();
        state.replace("list", "b\n", 0o640).unwrap();
        assert_eq!(state.read("list").unwrap().as_deref(), Some("b\n"));
        assert_eq!(state.read("other").unwrap(), None);
        assert_eq!(fs::read_dir(&state.path).unwrap().count(), 1);
    }
}
