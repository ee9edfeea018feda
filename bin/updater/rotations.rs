//! A rotation: nfcapd ends a slot and renames the file to the slot's name. The kernel tells of it
//! (inotify), so that nobody has to wait for the next look at the directories.
//!
//! What is heard here is that it is worth looking soon, and nothing else: which files are final,
//! the look itself says (`archive.rs`), and it comes every so often anyway. So a rotation that was
//! missed - too many at once, more directories than are listened at, a network file system, where
//! the kernel hears nothing of other hosts - costs time and no flow. Our own renames are not
//! rotations.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use crate::archive::slot_start;
use crate::unfinished::is_unfinished;

/// So many directories are listened at, those that changed last: nfcapd fills at most one for each
/// source at a time, `-S` makes a new one every day or hour, and each takes memory of the kernel's.
const MOST: usize = 1024;

/// How often the kernel is asked what it heard. A tracker has something to say every second, so an
/// updater wakes up anyway; tokio's way to wait for a descriptor cannot be had without `unsafe`.
const EVERY: Duration = Duration::from_millis(500);

/// Hears of rotations in the directories of an archive.
pub(crate) struct Rotations {
    inotify: Inotify,
    directories: BTreeMap<PathBuf, WatchDescriptor>,
}

/// What one event means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Heard {
    /// A file got the name of a slot.
    Rotation,
    /// There is a new directory, or some were missed: listen there too.
    NewDirectory,
}

impl Rotations {
    /// Hears nothing yet.
    pub(crate) fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        Ok(Self { inotify, directories: BTreeMap::new() })
    }

    /// Listens at these directories, each with when it last changed, and at no others; whether any
    /// of them is new. What happened in a new one before is not heard.
    ///
    /// # Errors
    ///
    /// When the kernel allows no more; those before it are listened at.
    pub(crate) fn listen_at(&mut self, all: &[(PathBuf, SystemTime)]) -> io::Result<bool> {
        let mut latest: Vec<_> = all.iter().collect();
        latest.sort_by_key(|(_, changed)| std::cmp::Reverse(*changed));
        latest.truncate(MOST);
        let wanted: BTreeSet<&PathBuf> = latest.iter().map(|(path, _)| path).collect();
        let inotify = &self.inotify;
        self.directories.retain(|path, watch| {
            let keep = wanted.contains(path);
            if !keep {
                let _ = inotify.rm_watch(*watch); // gone with its directory already
            }
            keep
        });
        let what = AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_ONLYDIR
            | AddWatchFlags::IN_DONT_FOLLOW;
        let mut new = false;
        for (path, _) in latest {
            if self.directories.contains_key(path) {
                continue;
            }
            // The archive's own directory may be a link, which is followed; others are no links.
            let what = if path.is_symlink() { what - AddWatchFlags::IN_DONT_FOLLOW } else { what };
            match inotify.add_watch(path, what) {
                Ok(watch) => {
                    self.directories.insert(path.clone(), watch);
                    new = true;
                }
                Err(Errno::ENOENT | Errno::ENOTDIR) => {} // deleted since
                Err(error) => return Err(error.into()),
            }
        }
        Ok(new)
    }

    /// Waits for the next of interest. Nothing is lost when this is dropped while it waits.
    pub(crate) async fn next(&mut self) -> io::Result<Heard> {
        loop {
            match self.inotify.read_events() {
                Ok(events) => {
                    for event in &events {
                        // It went with its directory.
                        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                            self.directories.retain(|_, watch| *watch != event.wd);
                        }
                    }
                    if let Some(heard) = understand(&events) {
                        return Ok(heard);
                    }
                }
                Err(Errno::EAGAIN) => tokio::time::sleep(EVERY).await,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// What some events mean together. The two halves of a rename carry the same cookie and come one
/// after the other.
fn understand(events: &[InotifyEvent]) -> Option<Heard> {
    let mut ours = None;
    let mut heard = None;
    for event in events {
        let name = event.name.as_deref();
        let (is, of) = (|flag| event.mask.contains(flag), AddWatchFlags::IN_ISDIR);
        let means = if is(AddWatchFlags::IN_Q_OVERFLOW)
            || is(of) && (is(AddWatchFlags::IN_CREATE) || is(AddWatchFlags::IN_MOVED_TO))
        {
            Some(Heard::NewDirectory)
        } else if is(AddWatchFlags::IN_MOVED_FROM) {
            ours = name.filter(|name| is_unfinished(name)).map(|_| event.cookie);
            None
        } else if is(AddWatchFlags::IN_MOVED_TO) && ours != Some(event.cookie) {
            let slot = name.and_then(|name| slot_start(&name.to_string_lossy()));
            slot.map(|_| Heard::Rotation)
        } else {
            None
        };
        heard = heard.max(means);
    }
    heard
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// What is heard when this is done in a directory.
    fn heard(act: impl FnOnce(&Path)) -> Option<Heard> {
        let place = tempfile::tempdir().unwrap();
        for name in ["nfcapd.current.7", "nfcapd.current.upd.8", "nfcapd.202611210300"] {
            std::fs::write(place.path().join(name), "").unwrap();
        }
        runtime().block_on(async {
            let mut rotations = Rotations::new().unwrap();
            let all = [(place.path().to_owned(), SystemTime::now())];
            assert!(rotations.listen_at(&all).unwrap() && !rotations.listen_at(&all).unwrap());
            act(place.path());
            let heard = tokio::time::timeout(2 * EVERY, rotations.next()).await;
            heard.ok().map(|heard| heard.unwrap())
        })
    }

    #[test]
    fn a_file_that_gets_the_name_of_a_slot_is_a_rotation() {
        let rename = |from: &'static str, to: &'static str| {
            move |place: &Path| std::fs::rename(place.join(from), place.join(to)).unwrap()
        };
        let slot = "nfcapd.202611210305+0100";
        assert_eq!(heard(rename("nfcapd.current.7", slot)), Some(Heard::Rotation));
        assert_eq!(heard(rename("nfcapd.current.7", "nfcapd.current.9")), None);
        assert_eq!(heard(rename("nfcapd.current.upd.8", "nfcapd.202611210300")), None, "ours");
        assert_eq!(heard(|place| std::fs::write(place.join(slot), "").unwrap()), None);
        let make = |place: &Path| std::fs::create_dir(place.join("2026")).unwrap();
        assert_eq!(heard(make), Some(Heard::NewDirectory));
    }

    #[test]
    fn names_that_updaters_trade_are_no_rotation() {
        use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
        let trade = |place: &Path| {
            let [a, b] = ["nfcapd.current.upd.8", "nfcapd.202611210300"].map(|n| place.join(n));
            renameat2(AT_FDCWD, &a, AT_FDCWD, &b, RenameFlags::RENAME_EXCHANGE).unwrap();
        };
        assert_eq!(heard(trade), None);
    }

    #[test]
    fn the_directories_that_changed_last_are_listened_at() {
        let place = tempfile::tempdir().unwrap();
        runtime().block_on(async {
            let mut rotations = Rotations::new().unwrap();
            let all: Vec<(PathBuf, SystemTime)> = (0..MOST as u64 + 2)
                .map(|i| {
                    let path = place.path().join(i.to_string());
                    std::fs::create_dir(&path).unwrap();
                    (path, SystemTime::UNIX_EPOCH + Duration::from_secs(i))
                })
                .collect();
            rotations.listen_at(&all).unwrap();
            assert_eq!(rotations.directories.len(), MOST);
            assert!(!rotations.directories.contains_key(&all[1].0));
            rotations.listen_at(&all[..1]).unwrap();
            assert_eq!(rotations.directories.keys().collect::<Vec<_>>(), [&all[0].0]);
        });
    }
}
