//! An archive: a directory tree that nfcapd fills. Which of its files are final?
//!
//! nfcapd writes `nfcapd.current.*` and renames it when the slot ends to `nfcapd.YYYYMMDDhhmm`
//! (the slot's start). A renamed file may still grow: nfcapd, restarted within the slot, appends to
//! it. So a file is final when its slot is over, and a grace period more, and nothing has touched
//! it since.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::civil::DateTime;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use procflow_nfdump::Reader;

use crate::stamp::Stamp;
use crate::unfinished::{is_unfinished, open_directory};

/// Sub-directories are followed so deep: nfcapd makes at most four levels (`-S 4`), below one for
/// each source (`-M`).
const DEEPEST: usize = 6;

/// A file of an archive, as it was when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) directory: PathBuf,
    /// Its directory as seen from the archive's own.
    pub(crate) below: PathBuf,
    pub(crate) name: OsString,
    pub(crate) stamp: Stamp,
}

impl Found {
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    /// Where its annotated form goes: in its own place, or to the same place below `output`.
    pub(crate) fn target(&self, output: Option<&Path>) -> PathBuf {
        output.map_or_else(|| self.directory.clone(), |output| output.join(&self.below))
    }

    /// Its directory, opened; links above the archive's own are followed, in the archive none.
    pub(crate) fn open_directory(&self) -> io::Result<OwnedFd> {
        let depth = self.below.components().count();
        let root = self.directory.ancestors().nth(depth).unwrap_or(&self.directory);
        let mut directory = open_directory(root)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        for name in &self.below {
            directory = openat(&directory, name, flags, Mode::empty())?;
        }
        Ok(directory)
    }

    /// One file, named by the user.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let meta = fs::symlink_metadata(path)?;
        if !meta.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let name = path
            .file_name()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a file name"))?
            .to_owned();
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = parent.unwrap_or(Path::new(".")).to_owned();
        Ok(Self { directory, below: PathBuf::new(), name, stamp: Stamp::of(&meta) })
    }
}

/// When a file counts as final.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finality {
    pub(crate) now: SystemTime,
    /// nfcapd's rotation interval, where the names do not tell it.
    pub(crate) slot: Duration,
    pub(crate) grace: Duration,
}

/// A directory tree as one look showed it.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// Oldest first in each directory.
    pub(crate) final_files: Vec<Found>,
    /// Final files will come of these.
    pub(crate) not_yet: usize,
    /// When the first of them will be final, if nothing happens to it before.
    pub(crate) next_final: Option<SystemTime>,
    /// Where files lie that updaters have not finished, or left behind.
    pub(crate) unfinished: BTreeSet<PathBuf>,
    /// All directories, each with when it last changed.
    pub(crate) directories: Vec<(PathBuf, SystemTime)>,
    /// What could not be looked at.
    pub(crate) failed: Vec<(PathBuf, io::Error)>,
}

/// Looks for final files; `output`, where annotated ones are written, is no part of the archive even
/// if it lies in it.
pub(crate) fn look(root: &Path, output: Option<&Path>, finality: Finality) -> Look {
    let output = output.and_then(|path| fs::metadata(path).ok());
    let walk = Walk { output: output.map(|meta| (meta.dev(), meta.ino())), finality };
    let mut look = Look::default();
    walk.directory(root, Path::new(""), DEEPEST, &mut look);
    look
}

struct Walk {
    /// Device and inode of the output directory.
    output: Option<(u64, u64)>,
    finality: Finality,
}

impl Walk {
    fn directory(&self, path: &Path, below: &Path, deeper: usize, look: &mut Look) {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => return look.failed.push((path.to_owned(), error)),
        };
        let changed = fs::metadata(path).and_then(|meta| meta.modified());
        look.directories.push((path.to_owned(), changed.unwrap_or(SystemTime::UNIX_EPOCH)));
        let mut files: Vec<(DateTime, Found)> = Vec::new();
        let mut directories = Vec::new();
        for entry in entries {
            let (name, meta) =
                match entry.and_then(|entry| Ok((entry.file_name(), entry.metadata()?))) {
                    Ok(entry) => entry,
                    // Gone between listing and looking: rotated away.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => {
                        look.failed.push((path.to_owned(), error));
                        continue;
                    }
                };
            if meta.is_dir() && self.output != Some((meta.dev(), meta.ino())) {
                directories.push(name);
            } else if meta.is_file()
                && let Some(start) = slot_start(&name.to_string_lossy())
            {
                let (directory, below) = (path.to_owned(), below.to_owned());
                files.push((start, Found { directory, below, name, stamp: Stamp::of(&meta) }));
            } else if is_unfinished(&name) {
                look.unfinished.insert(path.to_owned());
            }
        }
        files.sort_by(|a, b| (a.0, &a.1.name).cmp(&(b.0, &b.1.name)));
        let slot = told_slot(&files).unwrap_or(self.finality.slot);
        let newest = files.last().map(|(start, _)| *start);
        for (start, file) in files {
            let followed = newest.is_some_and(|newest| newest > start);
            match final_from(&file, slot, followed, self.finality) {
                Ok(Some(from)) if from <= self.finality.now => look.final_files.push(file),
                Ok(Some(from)) => {
                    look.not_yet += 1;
                    look.next_final = Some(look.next_final.map_or(from, |next| next.min(from)));
                }
                Ok(None) => look.not_yet += 1,
                Err(error) => look.failed.push((file.path(), error)),
            }
        }
        directories.sort();
        for name in directories.iter().filter(|_| deeper > 0) {
            self.directory(&path.join(name), &below.join(name), deeper - 1, look);
        }
    }
}

/// The start of the slot that a name tells: `nfcapd.` and 12 or 14 digits, perhaps an offset from
/// UTC. Only differences of these are used, so the time zone does not matter.
pub(crate) fn slot_start(name: &str) -> Option<DateTime> {
    let stamp = name.strip_prefix("nfcapd.")?;
    let digits = stamp.bytes().take_while(u8::is_ascii_digit).count();
    let (time, zone) = stamp.split_at(digits);
    let zone = zone.strip_prefix(['+', '-']);
    let plain = stamp.len() == digits;
    let zoned =
        zone.is_some_and(|zone| zone.len() == 4 && zone.bytes().all(|b| b.is_ascii_digit()));
    if !(plain || zoned) {
        return None;
    }
    match digits {
        12 => DateTime::strptime("%Y%m%d%H%M", time).ok(),
        14 => DateTime::strptime("%Y%m%d%H%M%S", time).ok(),
        _ => None,
    }
}

/// The rotation interval, as the nearest two names tell it.
fn told_slot(files: &[(DateTime, Found)]) -> Option<Duration> {
    let gaps = files.windows(2).map(|pair| pair[0].0.duration_until(pair[1].0));
    gaps.filter(|gap| gap.is_positive()).min().map(|gap| gap.unsigned_abs())
}

/// From when on a file is final if nobody touches it; `None` if it is gone, or beyond all times.
///
/// The slot's end is not taken from the name, whose time zone nobody knows, but from when the file
/// was made (layout 2 says so itself): never before its slot began, so never too early.
fn final_from(
    file: &Found,
    slot: Duration,
    followed: bool,
    finality: Finality,
) -> io::Result<Option<SystemTime>> {
    let after = |time: SystemTime, span| time.checked_add(span);
    let Ok(modified) = u64::try_from(file.stamp.modified.max(0)) else { return Ok(None) };
    let modified = SystemTime::UNIX_EPOCH + Duration::from_nanos(modified);
    let Some(untouched) = after(modified, finality.grace) else { return Ok(None) };
    if followed || untouched > finality.now {
        return Ok(Some(untouched));
    }
    // Looked at a moment ago; if it is a link or a FIFO by now, it is not followed or waited for.
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let opened = match fs::OpenOptions::new().read(true).custom_flags(flags).open(file.path()) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let created = Reader::new(opened).ok().and_then(|reader| reader.header().created());
    let created = created.map_or(Some(modified), |seconds| {
        after(SystemTime::UNIX_EPOCH, Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    });
    let over = created.and_then(|at| after(after(at, slot)?, finality.grace));
    Ok(over.map(|over| over.max(untouched)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_finished_files_have_a_slot() {
        let start = |name| slot_start(name).map(|start| start.to_string());
        assert_eq!(start("nfcapd.202611210305").as_deref(), Some("2026-11-21T03:05:00"));
        assert_eq!(start("nfcapd.20261121030510").as_deref(), Some("2026-11-21T03:05:10"));
        assert_eq!(start("nfcapd.202611210305+0100").as_deref(), Some("2026-11-21T03:05:00"));
        for other in [
            "nfcapd.current.123",
            "nfcapd.current.upd.1",
            "nfcapd.20261121",
            "nfcapd.202613210305",
            "nfcapd.202611210305+01",
            "nfcapd.202611210305.bak",
            "oldnfcapd.202611210305",
            ".nfstat",
        ] {
            assert_eq!(start(other), None, "{other}");
        }
    }

    /// A layout-2 header made at `created`, and no blocks.
    fn file(directory: &Path, name: &str, created: u64) {
        let mut header = vec![0x0c, 0xa5, 2, 0, 0, 1, 7, 1];
        header.extend(created.to_le_bytes());
        header.resize(40, 0);
        fs::write(directory.join(name), header).unwrap();
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(created + 1);
        fs::File::open(directory.join(name)).unwrap().set_modified(modified).unwrap();
    }

    fn names(root: &Path, now: u64, grace: u64) -> (Vec<String>, usize) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
        let (slot, grace) = (Duration::from_secs(300), Duration::from_secs(grace));
        let look = look(root, None, Finality { now, slot, grace });
        assert!(look.failed.is_empty(), "{:?}", look.failed);
        let names = look.final_files.iter().map(|f| f.name.to_string_lossy().into_owned());
        (names.collect(), look.not_yet)
    }

    #[test]
    fn a_file_is_final_when_its_slot_is_over_or_another_followed() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        file(root, "nfcapd.202611210300", 1000);
        assert_eq!(names(root, 1309, 10), (vec![], 1), "the slot, and the grace period");
        assert_eq!(names(root, 1310, 10).0, ["nfcapd.202611210300"]);
        file(root, "nfcapd.202611210301", 1060);
        assert_eq!(names(root, 1071, 10), (vec!["nfcapd.202611210300".to_owned()], 1));
        assert_eq!(names(root, 1130, 10).0.len(), 2, "the names tell a slot of 60 s");
        assert_eq!(names(root, 1065, 10), (vec!["nfcapd.202611210300".to_owned()], 1));
        assert_eq!(names(root, 1065, 100), (vec![], 2), "touched within the grace period");
    }

    #[test]
    fn a_look_says_when_the_next_file_will_be_final() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        let next = |now| {
            let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            let (slot, grace) = (Duration::from_secs(300), Duration::from_secs(10));
            let next = look(root, None, Finality { now: at(now), slot, grace }).next_final;
            next.map(|next| next.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
        };
        assert_eq!(next(1000), None);
        file(root, "nfcapd.202611210300", 1000);
        assert_eq!(next(1005), Some(1011), "then it is looked into");
        assert_eq!(next(1020), Some(1310));
        assert_eq!(next(1310), None);
        file(root, "nfcapd.202611210305", 1300);
        assert_eq!(next(1302), Some(1311));
    }

    #[test]
    fn a_file_that_says_it_is_from_beyond_all_times_is_never_final() {
        let place = tempfile::tempdir().unwrap();
        file(place.path(), "nfcapd.202611210300", 1000);
        let path = place.path().join("nfcapd.202611210300");
        let mut bytes = fs::read(&path).unwrap();
        bytes[8..16].copy_from_slice(&i64::MAX.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        let touched = SystemTime::UNIX_EPOCH + Duration::from_secs(1001);
        fs::File::open(&path).unwrap().set_modified(touched).unwrap();
        assert_eq!(names(place.path(), 4000, 10), (vec![], 1));
    }

    #[test]
    fn sub_directories_are_archives_of_their_own() {
        let place = tempfile::tempdir().unwrap();
        let below = place.path().join("source1/2026/11/21/03");
        fs::create_dir_all(&below).unwrap();
        file(&below, "nfcapd.202611210300", 1000);
        file(place.path(), "nfcapd.202611210400", 4600);
        assert_eq!(names(place.path(), 4700, 10), (vec!["nfcapd.202611210300".to_owned()], 1));
    }

    #[test]
    fn what_an_updater_left_behind_is_seen_however_deep() {
        let place = tempfile::tempdir().unwrap();
        let below = place.path().join("2026/11/21");
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join("nfcapd.current.upd.17"), "").unwrap();
        let (now, zero) = (SystemTime::now(), Duration::ZERO);
        let look = look(place.path(), None, Finality { now, slot: zero, grace: zero });
        assert_eq!(look.unfinished, BTreeSet::from([below]));
        assert_eq!(look.directories.len(), 4);
    }

    #[test]
    fn a_link_is_no_directory_of_an_archive() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("2026/11")).unwrap();
        file(&place.path().join("2026/11"), "nfcapd.202611210300", 1000);
        let (now, zero) = (SystemTime::now(), Duration::ZERO);
        let found = look(place.path(), None, Finality { now, slot: zero, grace: zero }).final_files;
        assert_eq!(found.len(), 1);
        found[0].open_directory().unwrap();
        // Since it was found, somebody led it elsewhere.
        fs::rename(place.path().join("2026"), place.path().join("2025")).unwrap();
        std::os::unix::fs::symlink("2025", place.path().join("2026")).unwrap();
        assert!(found[0].open_directory().is_err());
    }

    #[test]
    fn a_directory_that_is_not_there_is_said() {
        let finality =
            Finality { now: SystemTime::now(), slot: Duration::ZERO, grace: Duration::ZERO };
        assert_eq!(look(Path::new("/nonexistent/x"), None, finality).failed.len(), 1);
    }
}
