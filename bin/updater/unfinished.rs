//! An unfinished file: one that is written beside the files of nfcapd, under the one kind of name
//! that no nfdump reads, until it takes its place or goes away again.
//!
//! It is synced before it gets its name, so that after a crash there is the one or the other. All
//! names are looked up in a directory's descriptor, and links are not followed. It is locked as
//! long as its writer lives; one that is not locked was left behind, and nothing else is ever
//! cleaned away.
//!
//! nfcapd, restarted within a slot, appends to the file that is there: it opens it by its name and
//! writes a moment later. Renaming over the file between the two would lose those flows, however
//! late one looked at it before. So the two files trade their names (`RENAME_EXCHANGE`); the
//! original, which nobody can open any more, is looked at once more; then it is removed, or gets
//! its name back. Before, the new file is named after the one whose place it takes: who cleans here
//! after a kill in between can tell which of the two was left behind, and gives an original that was
//! appended to its name back too. Where a file system cannot trade names, the look before has to do.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, TryLockError};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, openat, renameat2};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::{Mode, fchmod, fstatat, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use crate::stamp::Stamp;

/// What our unfinished files are called, followed by a pid; and, in the moment in which one takes the
/// place of a file, by a dot and the name of that.
pub(crate) const UNFINISHED: &str = "nfcapd.current.upd.";

/// How often making one is tried: another updater may take a new one, not locked yet, for one left
/// behind.
const TRIES: usize = 10;

/// How long the original is waited for when somebody opened it meanwhile. nfcapd writes at once
/// what it appends; a reader is not worth more.
const PATIENCE: Duration = Duration::from_millis(200);

/// A file being written, removed again unless it is finished.
pub(crate) struct Unfinished {
    directory: OwnedFd,
    name: OsString,
    pub(crate) file: File,
    finished: bool,
}

/// What became of an original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traded {
    /// The new file has its name, and it is gone.
    Replaced,
    /// It is no longer what it was when reading began, and has its name.
    Changed,
}

impl Unfinished {
    pub(crate) fn create(directory: &OwnedFd) -> io::Result<Self> {
        let name = OsString::from(format!("{UNFINISHED}{}", std::process::id()));
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        for _ in 0..TRIES {
            let file = File::from(openat(directory, name.as_os_str(), flags, mode)?);
            // Another updater cleans here: it has just taken the lock, or removed the file before.
            let locked = file.try_lock().is_ok();
            if locked && inode(directory, &name)? == Some(file.metadata()?.ino()) {
                let directory = directory.try_clone()?;
                return Ok(Self { directory, name, file, finished: false });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(io::Error::other("another process removes what is written here"))
    }

    /// Gives it the owner, mode and times of the original.
    pub(crate) fn dress_as(&self, original: &Metadata) -> io::Result<()> {
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
        self.check_own()?;
        let flags = if replace { RenameFlags::empty() } else { RenameFlags::RENAME_NOREPLACE };
        self.rename(name, flags)?;
        self.finished = true;
        self.sync_directory()
    }

    /// Gives it the name of the original, if that is still as it was; looks before and after.
    pub(crate) fn replace(mut self, name: &OsStr, original: &Original) -> io::Result<Traded> {
        self.check_own()?;
        if !original.is_as_it_was(&self.directory, name)? {
            return Ok(Traded::Changed);
        }
        let traded = self.name_after(name).and_then(|()| {
            let exchange = RenameFlags::RENAME_EXCHANGE;
            self.rename(name, exchange)
        });
        match traded {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOSYS) => {
                self.rename(name, RenameFlags::empty())?;
                self.finished = true;
                self.sync_directory()?;
                return Ok(Traded::Replaced);
            }
            // Deleted since: nfexpire does that.
            Err(Errno::ENOENT) => return Ok(Traded::Changed),
            Err(error) => return Err(error.into()),
        }
        // From here on the original has our name: it is not to be removed by accident.
        self.finished = true;
        if original.was_opened() {
            std::thread::sleep(PATIENCE);
        }
        if original.is_as_it_was(&self.directory, &self.name)? {
            unlinkat(&self.directory, self.name.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
            self.sync_directory()?;
            return Ok(Traded::Replaced);
        }
        self.rename(name, RenameFlags::RENAME_EXCHANGE)?;
        self.finished = false;
        Ok(Traded::Changed)
    }

    /// Says in its name whose place it takes.
    fn name_after(&mut self, name: &OsStr) -> nix::Result<()> {
        let mut after = self.name.clone();
        after.push(".");
        after.push(name);
        self.rename(&after, RenameFlags::RENAME_NOREPLACE)?;
        self.name = after;
        Ok(())
    }

    fn rename(&self, name: &OsStr, flags: RenameFlags) -> nix::Result<()> {
        renameat2(&self.directory, self.name.as_os_str(), &self.directory, name, flags)
    }

    /// In a container of its own, another updater may have our pid.
    fn check_own(&self) -> io::Result<()> {
        if inode(&self.directory, &self.name)? == Some(self.file.metadata()?.ino()) {
            return Ok(());
        }
        Err(io::Error::other("the unfinished file was replaced by another process"))
    }

    fn sync_directory(&self) -> io::Result<()> {
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

/// The file that is to be replaced: as it was when reading began, locked against other updaters,
/// and listened at for who opens it.
pub(crate) struct Original {
    pub(crate) file: File,
    before: Stamp,
    /// Where it can be listened at: there is a /proc, and an inotify instance left.
    opened: Option<Inotify>,
}

impl Original {
    /// `None` when another process has it locked. One that is not to be replaced is shared.
    pub(crate) fn take(file: File, to_replace: bool) -> io::Result<Option<Self>> {
        if !to_replace {
            let before = Stamp::of(&file.metadata()?);
            return Ok(Some(Self { file, before, opened: None }));
        }
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(None),
            // Not every file system locks. Two updaters then do the same work, and the second
            // finds the file changed.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let before = Stamp::of(&file.metadata()?);
        let opened = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).and_then(|i| {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            i.add_watch(path.as_str(), AddWatchFlags::IN_OPEN)?;
            Ok(i)
        });
        Ok(Some(Self { file, before, opened: opened.ok() }))
    }

    /// Whether it is what it was, and has this name.
    pub(crate) fn is_as_it_was(&self, directory: &OwnedFd, name: &OsStr) -> io::Result<bool> {
        let same = Stamp::of(&self.file.metadata()?) == self.before;
        Ok(same && inode(directory, name)? == Some(self.before.inode))
    }

    /// Whether somebody opened it since it was taken, or nobody can tell.
    fn was_opened(&self) -> bool {
        let nobody = |heard: &Inotify| matches!(heard.read_events(), Err(Errno::EAGAIN));
        !self.opened.as_ref().is_some_and(nobody)
    }
}

/// The inode that has this name, if any; links are not followed. Nothing is opened, which would
/// look like somebody who is about to append.
fn inode(directory: &OwnedFd, name: &OsStr) -> io::Result<Option<u64>> {
    match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat.st_ino)),
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes what updaters that were killed left behind in a directory. A file whose writer lives is
/// locked by it. Gives the names of those removed.
pub(crate) fn clean(directory: &Path) -> io::Result<Vec<OsString>> {
    let mut removed = Vec::new();
    let descriptor = open_directory(directory)?;
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        if !is_unfinished(&name) {
            continue;
        }
        let Ok(file) = open_file(&descriptor, &name) else { continue };
        match file.try_lock() {
            Ok(()) => {
                // It may have become another's since it was opened.
                if inode(&descriptor, &name)? == Some(file.metadata()?.ino()) {
                    give_back(&descriptor, &name, &file)?;
                    unlinkat(&descriptor, name.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
                    removed.push(name);
                }
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(removed)
}

/// If a file left behind is an original that had traded its name, and nfcapd appended to it since, they
/// trade once more. Only then it is younger than what has its name: new files get the times of the
/// originals.
fn give_back(directory: &OwnedFd, left: &OsStr, file: &File) -> io::Result<()> {
    let Some(name) = whose_place(left).flatten() else { return Ok(()) };
    // nfcapd may be about to; see `Unfinished::replace`.
    std::thread::sleep(PATIENCE);
    let now = match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(now) => now,
        // Deleted since.
        Err(Errno::ENOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let left_at = file.metadata()?;
    if (left_at.mtime(), left_at.mtime_nsec()) > (now.st_mtime, now.st_mtime_nsec) {
        renameat2(directory, left, directory, name, RenameFlags::RENAME_EXCHANGE)?;
    }
    Ok(())
}

/// Whether a name is one that an updater gives to an unfinished file.
pub(crate) fn is_unfinished(name: &OsStr) -> bool {
    whose_place(name).is_some()
}

/// `None` if no updater gives such a name to an unfinished file; else whose place it is about to take,
/// if that is said.
fn whose_place(name: &OsStr) -> Option<Option<&OsStr>> {
    let rest = name.to_str()?.strip_prefix(UNFINISHED)?;
    let (pid, place) = match rest.split_once('.') {
        Some((pid, place)) => (pid, Some(place)),
        None => (rest, None),
    };
    pid.parse::<u32>().ok().map(|_| place.map(OsStr::new))
}

pub(crate) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::open(path, flags, Mode::empty())?)
}

/// Opens a regular file in a directory; never waits (a FIFO would), never follows a link.
pub(crate) fn open_file(directory: &OwnedFd, name: &OsStr) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = File::from(openat(directory.as_fd(), name, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    const NAME: &str = "nfcapd.202611210300";

    /// A directory with an original in it, taken, and a new file beside it.
    fn begun(place: &Path) -> (Original, Unfinished) {
        fs::write(place.join(NAME), "old").unwrap();
        let directory = open_directory(place).unwrap();
        let file = open_file(&directory, OsStr::new(NAME)).unwrap();
        let original = Original::take(file, true).unwrap().unwrap();
        let mut unfinished = Unfinished::create(&directory).unwrap();
        unfinished.file.write_all(b"new").unwrap();
        (original, unfinished)
    }

    fn content(place: &Path) -> Vec<(OsString, String)> {
        let entries = fs::read_dir(place).unwrap().map(|entry| entry.unwrap());
        let mut files: Vec<_> = entries
            .map(|entry| (entry.file_name(), fs::read_to_string(entry.path()).unwrap()))
            .collect();
        files.sort();
        files
    }

    fn only(text: &str) -> Vec<(OsString, String)> {
        vec![(NAME.into(), text.to_owned())]
    }

    #[test]
    fn the_new_file_takes_the_name_and_the_original_goes() {
        let place = tempfile::tempdir().unwrap();
        let (original, unfinished) = begun(place.path());
        assert!(!original.was_opened());
        assert_eq!(unfinished.replace(OsStr::new(NAME), &original).unwrap(), Traded::Replaced);
        assert_eq!(content(place.path()), only("new"));
    }

    #[test]
    fn an_original_that_grew_deleted_or_replaced_stays() {
        type Change = fn(&Path);
        let append = |path: &Path| {
            fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b"er").unwrap();
        };
        let replace = |path: &Path| {
            fs::write(path.with_extension("x"), "other").unwrap();
            fs::rename(path.with_extension("x"), path).unwrap();
        };
        let changes: [(Change, _); 3] = [
            (append, only("older")),
            (replace, only("other")),
            (|path| fs::remove_file(path).unwrap(), vec![]),
        ];
        for (change, left) in changes {
            let place = tempfile::tempdir().unwrap();
            let (original, unfinished) = begun(place.path());
            change(&place.path().join(NAME));
            assert_eq!(unfinished.replace(OsStr::new(NAME), &original).unwrap(), Traded::Changed);
            assert_eq!(content(place.path()), left);
        }
    }

    #[test]
    fn who_opened_the_original_in_time_may_still_append() {
        let place = tempfile::tempdir().unwrap();
        let (original, unfinished) = begun(place.path());
        let mut nfcapd = fs::OpenOptions::new().append(true).open(place.path().join(NAME)).unwrap();
        let appends = std::thread::spawn(move || {
            // Later than the last look before, earlier than the one after.
            std::thread::sleep(PATIENCE / 2);
            nfcapd.write_all(b" and late").unwrap();
        });
        assert_eq!(unfinished.replace(OsStr::new(NAME), &original).unwrap(), Traded::Changed);
        appends.join().unwrap();
        assert_eq!(content(place.path()), only("old and late"));
    }

    /// What is cleaned away, and left, when an updater was killed so far into replacing a file.
    fn killed(traded: bool, appended: Option<&str>) -> Vec<(OsString, String)> {
        let place = tempfile::tempdir().unwrap();
        let (original, mut unfinished) = begun(place.path());
        unfinished.dress_as(&original.file.metadata().unwrap()).unwrap();
        unfinished.name_after(OsStr::new(NAME)).unwrap();
        let left = unfinished.name.clone();
        assert!(is_unfinished(&left), "{left:?}");
        if traded {
            unfinished.rename(OsStr::new(NAME), RenameFlags::RENAME_EXCHANGE).unwrap();
        }
        if let Some(text) = appended {
            std::thread::sleep(Duration::from_millis(20)); // file systems' clocks are coarse
            let path = place.path().join(if traded { &*left } else { OsStr::new(NAME) });
            let mut nfcapd = fs::OpenOptions::new().append(true).open(path).unwrap();
            nfcapd.write_all(text.as_bytes()).unwrap();
        }
        unfinished.finished = true; // it is not tidied up
        drop((original, unfinished));
        assert_eq!(clean(place.path()).unwrap(), [left]);
        content(place.path())
    }

    #[test]
    fn what_was_appended_to_an_original_whose_updater_was_killed_is_not_lost() {
        assert_eq!(killed(false, None), only("old"));
        assert_eq!(killed(false, Some("er")), only("older"));
        assert_eq!(killed(true, None), only("new"));
        assert_eq!(killed(true, Some("er")), only("older"));
    }

    #[test]
    fn an_original_is_one_updaters_at_a_time() {
        let place = tempfile::tempdir().unwrap();
        let (_original, _unfinished) = begun(place.path());
        let directory = open_directory(place.path()).unwrap();
        let again = open_file(&directory, OsStr::new(NAME)).unwrap();
        assert!(Original::take(again, true).unwrap().is_none());
    }

    #[test]
    fn only_what_nobody_has_locked_is_cleaned() {
        let place = tempfile::tempdir().unwrap();
        let (_original, unfinished) = begun(place.path());
        for name in ["nfcapd.current.upd.1", "nfcapd.current.upd.x.1", "nfcapd.current.4711"] {
            fs::write(place.path().join(name), "left").unwrap();
        }
        assert_eq!(clean(place.path()).unwrap(), ["nfcapd.current.upd.1"]);
        let names: Vec<OsString> =
            content(place.path()).into_iter().map(|(name, _)| name).collect();
        let own = unfinished.name.clone();
        let left = [OsStr::new("nfcapd.202611210300"), OsStr::new("nfcapd.current.4711"), &own];
        assert!(left.iter().all(|name| names.contains(&(*name).to_owned())), "{names:?}");
        assert_eq!(names.len(), 4, "{names:?}");
        drop(unfinished);
        assert_eq!(content(place.path()).len(), 3);
    }
}
