//! Annotating one file: read it, write it anew beside it with the names, and put the new one in
//! its place - or leave everything as it was.
//!
//! The new file is called `nfcapd.current.upd.PID`, the one kind of name that no nfdump reads. It
//! is synced before it takes the original's name, so that after a crash there is the one or the
//! other. All names are looked up in the directory's descriptor, and links are not followed.

use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::{Mode, fchmod, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};
use procflow_nfdump::{Flow, Reader, Summary, UserName, rewrite};

use crate::archive::{Found, Stamp};

/// What our unfinished files are called, followed by a pid.
const UNFINISHED: &str = "nfcapd.current.upd.";

/// How much is read and written at a time, in bytes.
const BUFFER: usize = 1 << 20;

/// A file could not be annotated. It is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnnotateError {
    #[error("{}: {what}: {source}", path.display())]
    Io { path: PathBuf, what: &'static str, source: io::Error },
    /// The file itself is at fault; says at which offset.
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: procflow_nfdump::Error },
    #[error("{} is still being written; it will be final when nfcapd has renamed it", .0.display())]
    StillWritten(PathBuf),
    #[error("{} changed while it was annotated; left as it is", .0.display())]
    Changed(PathBuf),
    #[error("{} would be written over itself; choose another --output", .0.display())]
    OntoItself(PathBuf),
    #[error("{} exists and was not written by an update; --force replaces it", .0.display())]
    Exists(PathBuf),
    #[error("stopped while annotating {}; it is as it was", .0.display())]
    Stopped(PathBuf),
}

/// Where annotated files go instead of into the original's place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output<'a> {
    pub(crate) path: &'a Path,
    /// Whether a file that is there already is our own.
    pub(crate) may_replace: bool,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Annotated {
    pub(crate) summary: Summary,
    /// As it is now.
    pub(crate) stamp: Stamp,
    /// Whether there is a new file.
    pub(crate) replaced: bool,
}

/// Annotates a file: `decide` is asked for each flow's name, in order. In place, or into `output`.
///
/// In place, a file in which nothing would change is left alone. `stop` ends the work before the
/// next block.
pub(crate) fn annotate(
    found: &Found,
    output: Option<Output<'_>>,
    stop: &AtomicBool,
    decide: impl FnMut(&Flow<'_>, &mut UserName),
) -> Result<Annotated, AnnotateError> {
    let path = found.path();
    let io = |what| {
        let path = path.clone();
        move |source| AnnotateError::Io { path, what, source }
    };
    if found.name.as_encoded_bytes().starts_with(b"nfcapd.current") {
        return Err(AnnotateError::StillWritten(path));
    }
    let source_directory = open_directory(&found.directory).map_err(io("cannot open directory"))?;
    let original = open_file(&source_directory, &found.name).map_err(io("cannot open"))?;
    let before = original.metadata().map_err(io("cannot look at"))?;
    if Stamp::of(&before) != found.stamp {
        return Err(AnnotateError::Changed(path));
    }
    let target_directory = match output {
        None => source_directory.try_clone().map_err(io("cannot open directory"))?,
        Some(output) => {
            let target = found.target(Some(output.path));
            let made = std::fs::create_dir_all(&target).and_then(|()| open_directory(&target));
            let what = "cannot open directory";
            let directory =
                made.map_err(|source| AnnotateError::Io { path: target, what, source })?;
            if same_directory(&directory, &source_directory).map_err(io("cannot look at"))? {
                return Err(AnnotateError::OntoItself(path));
            }
            directory
        }
    };

    let failed = |source: procflow_nfdump::Error| {
        if stop.load(Ordering::Relaxed) {
            AnnotateError::Stopped(path.clone())
        } else {
            AnnotateError::File { path: path.clone(), source }
        }
    };
    let mut input = Stoppable { file: &original, stop };
    if Reader::new(&mut input).map_err(failed)?.header().in_progress() {
        return Err(AnnotateError::StillWritten(path));
    }
    (&original).rewind().map_err(io("cannot read"))?;

    let unfinished = Unfinished::create(&target_directory).map_err(io("cannot write beside"))?;
    let mut writer = BufWriter::with_capacity(BUFFER, &unfinished.file);
    let reader = BufReader::with_capacity(BUFFER, Stoppable { file: &original, stop });
    let summary = rewrite(reader, &mut writer, decide).map_err(failed)?;
    writer.flush().map_err(io("cannot write beside"))?;
    drop(writer);
    if stop.load(Ordering::Relaxed) {
        return Err(AnnotateError::Stopped(path));
    }
    let unchanged = summary.named == 0 && summary.replaced == 0;
    if unchanged && output.is_none() {
        return Ok(Annotated { summary, stamp: found.stamp, replaced: false });
    }
    unfinished.dress_as(&before).map_err(io("cannot give owner, mode and times of"))?;
    unfinished.file.sync_all().map_err(io("cannot write beside"))?;
    // nfcapd may have appended meanwhile (it was restarted within the slot), or nfexpire may have
    // deleted the file: then it is not ours to replace.
    let now = open_file(&source_directory, &found.name).and_then(|file| file.metadata());
    if now.ok().map(|meta| Stamp::of(&meta)) != Some(found.stamp) {
        return Err(AnnotateError::Changed(path));
    }
    let stamp = unfinished.file.metadata().map_err(io("cannot look at"))?;
    let replace = output.is_none_or(|output| output.may_replace);
    match unfinished.finish(&found.name, replace) {
        Err(error) if !replace && error.kind() == io::ErrorKind::AlreadyExists => {
            let directory = found.target(output.map(|output| output.path));
            return Err(AnnotateError::Exists(directory.join(&found.name)));
        }
        finished => finished.map_err(io("cannot replace"))?,
    }
    Ok(Annotated { summary, stamp: Stamp::of(&stamp), replaced: true })
}

/// Reads a file until told to stop.
struct Stoppable<'a> {
    file: &'a File,
    stop: &'a AtomicBool,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped"));
        }
        let mut file = self.file;
        file.read(buffer)
    }
}

/// A file being written, removed again unless it is finished. It is locked as long as its writer
/// lives, which is how others tell it from one that was left behind.
pub(crate) struct Unfinished {
    directory: OwnedFd,
    name: OsString,
    pub(crate) file: File,
    finished: bool,
}

impl Unfinished {
    pub(crate) fn create(directory: &OwnedFd) -> io::Result<Self> {
        let name = OsString::from(format!("{UNFINISHED}{}", std::process::id()));
        let directory = directory.try_clone()?;
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let file = File::from(openat(&directory, name.as_os_str(), flags, mode)?);
        let unfinished = Self { directory, name, file, finished: false };
        unfinished.file.try_lock().map_err(io::Error::from)?;
        Ok(unfinished)
    }

    /// Gives it the owner, mode and times of the original.
    fn dress_as(&self, original: &std::fs::Metadata) -> io::Result<()> {
        use std::os::unix::fs::MetadataExt;
        let own = self.file.metadata()?;
        if (own.uid(), own.gid()) != (original.uid(), original.gid()) {
            let (owner, group) = (Uid::from_raw(original.uid()), Gid::from_raw(original.gid()));
            fchown(&self.file, Some(owner), Some(group))?;
        }
        fchmod(&self.file, Mode::from_bits_truncate(original.mode() & 0o7777))?;
        let accessed = TimeSpec::new(original.atime(), original.atime_nsec());
        let modified = TimeSpec::new(original.mtime(), original.mtime_nsec());
        Ok(futimens(&self.file, &accessed, &modified)?)
    }

    /// Gives it its name; in the place of what had it, if that is allowed.
    pub(crate) fn finish(mut self, name: &OsStr, replace: bool) -> io::Result<()> {
        // Ours still, under that name? In a container of its own, another updater may have our pid.
        let there = open_file(&self.directory, &self.name)?.metadata()?;
        if Stamp::of(&there).inode != Stamp::of(&self.file.metadata()?).inode {
            return Err(io::Error::other("the unfinished file was replaced by another process"));
        }
        let flags = if replace { RenameFlags::empty() } else { RenameFlags::RENAME_NOREPLACE };
        renameat2(&self.directory, self.name.as_os_str(), &self.directory, name, flags)?;
        self.finished = true;
        File::from(self.directory.try_clone()?).sync_all()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed now is found by its lock at the next start.
            let _ = unlinkat(&self.directory, self.name.as_os_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// Removes what updaters that were killed left behind in a directory. A file whose writer lives is
/// locked by it. Gives the names of those removed.
pub(crate) fn clean(directory: &Path) -> io::Result<Vec<OsString>> {
    let mut removed = Vec::new();
    let descriptor = open_directory(directory)?;
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(UNFINISHED));
        if pid.is_none_or(|pid| pid.parse::<u32>().is_err()) {
            continue;
        }
        let Ok(file) = open_file(&descriptor, &name) else { continue };
        match file.try_lock() {
            Ok(()) => {
                unlinkat(&descriptor, name.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
                removed.push(name);
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(removed)
}

pub(crate) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::open(path, flags, Mode::empty())?)
}

/// Opens a regular file in a directory; never waits (a FIFO would), never follows a link.
fn open_file(directory: &OwnedFd, name: &OsStr) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = File::from(openat(directory.as_fd(), name, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

fn same_directory(a: &OwnedFd, b: &OwnedFd) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let [a, b] = [a, b].map(|fd| File::from(fd.try_clone()?).metadata());
    let (a, b) = (a?, b?);
    Ok((a.dev(), a.ino()) == (b.dev(), b.ino()))
}
