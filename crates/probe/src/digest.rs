//! Digests: the SHA-256 of executables, computed by a thread of its own, each file once.
//!
//! **A digest is of the very bytes that the process was started from, or there is none.** Which file
//! that is, its device, inode and time of last change (ctime) say, as they were at exec where the
//! kernel tells of it, otherwise as they are when the file is opened through `/proc/PID/exe`, while
//! the process lives and runs it. That the bytes are still the same has one of two proofs:
//!
//! * The ctime is what it was, and is so old that a later change would have had to move it. That holds
//!   for a process that is gone, too. (Nobody can set a ctime but by setting the clock.)
//! * The process still runs the file after it was read: the kernel lets nobody write to a file
//!   that runs (ETXTBSY, execve(2)). Linux 6.11 and 6.12 do; there the time of the last write (mtime)
//!   must be older than the exec, too, which only whoever sets it back on purpose can get around. By
//!   this proof a file has a digest that was deleted, or written a moment before it was run.
//!
//! On file systems that others may write to behind the kernel's back (networks, FUSE) neither holds,
//! so there are no digests. The digest of a script is its interpreter's.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::statfs::fstatfs;
use procflow_binding::{BootTime, ClockSample, ProcessKey};
use sha2::{Digest, Sha256};
use smol_str::SmolStr;

use crate::recent::Recent;
use crate::{ProbeError, clock, process};

/// So many processes may wait. What finds no room has no digest, and is counted.
const WAITING: usize = 1024;

/// So many digests are known at least.
const KNOWN: usize = 4096;

/// A larger file has no digest.
const LARGEST: u64 = 1 << 30;

/// So many bytes are read at once...
const CHUNK: usize = 1 << 18;
/// ... and so many in a second at most: a tenth to a half of a core, as its SHA instructions allow.
const RATE: u64 = 200 << 20;

/// Changes closer to each other than this may have the same ctime, in nanoseconds: the kernel takes it
/// from a clock that advances every 1 to 10 ms.
const SETTLED: i128 = 50_000_000;

/// File systems on whose times can be relied, by their numbers in linux/magic.h (and zfs).
const TRUSTED: [i64; 12] =
    [EXT, XFS, BTRFS, F2FS, ZFS, BCACHEFS, TMPFS, RAMFS, OVERLAY, SQUASHFS, EROFS, ISOFS];
const EXT: i64 = 0xef53;
const XFS: i64 = 0x5846_5342;
const BTRFS: i64 = 0x9123_683e;
const F2FS: i64 = 0xf2f5_2010;
const ZFS: i64 = 0x2fc1_2fc1;
const BCACHEFS: i64 = 0xca45_1a4e;
const TMPFS: i64 = 0x0102_1994;
const RAMFS: i64 = 0x8584_58f6;
const OVERLAY: i64 = 0x794c_7630;
const SQUASHFS: i64 = 0x7371_7368;
const EROFS: i64 = 0xe0f5_e1e2;
const ISOFS: i64 = 0x9660;

/// SHA-256 (FIPS 180-4).
pub(crate) type Sha = [u8; 32];

/// A file between two changes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileVersion {
    /// As stat(2) numbers it.
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// Seconds and nanoseconds of its ctime.
    pub(crate) changed: (i64, i64),
}

impl FileVersion {
    fn of(file: &File) -> Option<(Self, Size)> {
        let stat = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let version = Self {
            device: stat.dev(),
            inode: stat.ino(),
            changed: (stat.ctime(), stat.ctime_nsec()),
        };
        Some((version, Size { bytes: stat.size(), written: (stat.mtime(), stat.mtime_nsec()) }))
    }

    fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// As the kernel told it: btrfs shows stat(2) another device than it has itself.
    fn as_told(self, told: &Self, file: &File) -> Self {
        let twins = (self.inode, self.changed) == (told.inode, told.changed);
        if twins && self.device != told.device && file_system(file) == Some(BTRFS) {
            return *told;
        }
        self
    }

    /// Whether a change at `then` (real time, nanoseconds) or later would have moved its ctime.
    fn was_settled(&self, then: i128) -> bool {
        nanoseconds(self.changed) + SETTLED <= then
    }
}

/// What else a change of a file changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    bytes: u64,
    /// mtime
    written: (i64, i64),
}

fn nanoseconds((seconds, nanoseconds): (i64, i64)) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}

/// What a process runs, and since when it is known to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) file: FileVersion,
    pub(crate) at: BootTime,
}

/// A process whose executable's digest is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) process: ProcessKey,
    /// The path of its executable.
    pub(crate) path: SmolStr,
    /// As the kernel told it; `None` where it did not.
    pub(crate) runs: Option<Running>,
}

/// A digest that was wanted.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) wanted: Wanted,
    pub(crate) digest: Sha,
}

type Cache = Mutex<Recent<FileVersion, (Size, Sha)>>;

fn locked(cache: &Cache) -> MutexGuard<'_, Recent<FileVersion, (Size, Sha)>> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread that computes digests, from outside. It ends when this is dropped.
pub(crate) struct Digests {
    wanted: SyncSender<Wanted>,
    found: Receiver<Found>,
    cache: Arc<Cache>,
    stop: Arc<AtomicBool>,
    /// Processes for which there was no room.
    pub(crate) dropped: u64,
}

impl Digests {
    pub(crate) fn start() -> Result<Self, ProbeError> {
        let (wanted, wants) = sync_channel::<Wanted>(WAITING);
        let (finds, found) = channel();
        let cache: Arc<Cache> = Arc::new(Mutex::new(Recent::new(KNOWN)));
        let stop = Arc::new(AtomicBool::new(false));
        let mut hasher =
            Hasher { cache: Arc::clone(&cache), stop: Arc::clone(&stop), buffer: vec![0; CHUNK] };
        let thread = std::thread::Builder::new().name("digests".to_owned());
        let run = move || {
            for wanted in wants {
                if let Some(digest) = hasher.digest(&wanted) {
                    // Nobody waits for it any more when this fails; then the next wish fails too.
                    let _ = finds.send(Found { wanted, digest });
                }
            }
        };
        thread.spawn(run).map_err(ProbeError::call("starting the thread of digests"))?;
        Ok(Self { wanted, found, cache, stop, dropped: 0 })
    }

    /// The digest of what a process runs, if it is known without another look at the file.
    pub(crate) fn known(&self, runs: Running, clock: ClockSample) -> Option<Sha> {
        if !runs.file.was_settled(real(runs.at, clock)) {
            return None;
        }
        locked(&self.cache).get(&runs.file).map(|&mut (_, digest)| digest)
    }

    /// Asks for a digest; it is [found](Self::found) later, if at all.
    pub(crate) fn want(&mut self, wanted: Wanted) {
        match self.wanted.try_send(wanted) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.dropped += 1,
        }
    }

    /// The next digest that was found.
    pub(crate) fn found(&self) -> Option<Found> {
        self.found.try_recv().ok()
    }
}

impl Drop for Digests {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// When it was in real time, in nanoseconds.
fn real(at: BootTime, clock: ClockSample) -> i128 {
    i128::from(at.0) + clock.offset()
}

struct Hasher {
    cache: Arc<Cache>,
    stop: Arc<AtomicBool>,
    buffer: Vec<u8>,
}

/// An executable that was found again.
struct Executable {
    /// Opened to be looked at, not to be read (O_PATH): that has no effect on whatever it may be.
    file: File,
    version: FileVersion,
    size: Size,
    /// In real time, since when its bytes may not have changed.
    since: i128,
    /// Whether the ctime proves that they have not, if it stays what it is.
    proven: bool,
}

impl Hasher {
    fn digest(&mut self, wanted: &Wanted) -> Option<Sha> {
        let clock = clock::sample().ok()?;
        let now = real(clock.boot, clock);
        let executable = of_living(wanted, clock).or_else(|| of_gone(wanted, clock))?;
        let Executable { file, version, size, since, proven } = executable;
        if size.bytes > LARGEST || !TRUSTED.contains(&file_system(&file)?) {
            return None;
        }
        let known = locked(&self.cache).get(&version).map(|&mut known| known);
        let known = known.and_then(|(its_size, digest)| (its_size == size).then_some(digest));
        let (digest, unchanged) = match known {
            Some(digest) => (digest, true),
            None => {
                let digest = self.read(&file, size)?;
                let (after, size_after) = FileVersion::of(&file)?;
                // Whoever deletes a file, or links to it, changes its ctime alone.
                if size_after != size {
                    return None;
                }
                (digest, after.as_told(&version, &file) == version)
            }
        };
        if known.is_none() && unchanged && version.was_settled(now) {
            locked(&self.cache).insert(version, (size, digest));
        }
        let runs_on = || {
            let still = running(wanted.process)?;
            let version_still = FileVersion::of(&still)?.0.as_told(&version, &still);
            let written_since = nanoseconds(size.written) > since;
            Some(!written_since && version_still.is_same_file(&version))
        };
        ((proven && unchanged) || runs_on() == Some(true)).then_some(digest)
    }

    /// Reads a file to its end.
    fn read(&mut self, file: &File, size: Size) -> Option<Sha> {
        let mut readable = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
        let begun = Instant::now();
        let (mut digest, mut done) = (Sha256::new(), 0);
        loop {
            let read = match readable.read(&mut self.buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return None,
            };
            digest.update(self.buffer.get(..read)?);
            done += u64::try_from(read).ok()?;
            if read == 0 || done > size.bytes || self.stop.load(Ordering::Relaxed) {
                break;
            }
            let due = Duration::from_micros(done * 1_000_000 / RATE);
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
        }
        (done == size.bytes).then(|| digest.finalize().into())
    }
}

/// What a process runs now, opened to be looked at; `None` when it is gone.
fn running(key: ProcessKey) -> Option<File> {
    let file = look_at(&format!("/proc/{}/exe", key.pid))?;
    // It was opened by pid: is it still the same process?
    process::birth(key.pid).filter(|birth| birth.key == key)?;
    Some(file)
}

/// What kind of file system a file is on.
fn file_system(file: &File) -> Option<i64> {
    // Its width depends on the machine.
    i64::try_from(i128::from(fstatfs(file).ok()?.filesystem_type().0)).ok()
}

fn look_at(path: &str) -> Option<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(path).ok()
}

/// The executable of a process that still runs it.
fn of_living(wanted: &Wanted, clock: ClockSample) -> Option<Executable> {
    let file = running(wanted.process)?;
    let (version, size) = FileVersion::of(&file)?;
    let Some(runs) = wanted.runs else {
        // All that is known is its path, as it was when it was told.
        let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
        let link = link.to_string_lossy();
        let is_it = *link == *wanted.path || link.strip_suffix(" (deleted)") == Some(&wanted.path);
        let since = real(clock.boot, clock);
        let proven = version.was_settled(since);
        return is_it.then_some(Executable { file, version, size, since, proven });
    };
    let version = version.as_told(&runs.file, &file);
    let since = real(runs.at, clock);
    let proven = version == runs.file && version.was_settled(since);
    version.is_same_file(&runs.file).then_some(Executable { file, version, size, since, proven })
}

/// The executable of a process that is gone, or runs something else.
fn of_gone(wanted: &Wanted, clock: ClockSample) -> Option<Executable> {
    let runs = wanted.runs?;
    let file = look_at(&wanted.path)?;
    let (version, size) = FileVersion::of(&file)?;
    let version = version.as_told(&runs.file, &file);
    let since = real(runs.at, clock);
    let proven = version == runs.file && version.was_settled(since);
    proven.then_some(Executable { file, version, size, since, proven })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use std::fs;
    use std::path::{Path, PathBuf};

    /// FIPS 180-4, appendix: of "abc".
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("digest-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn abc(&self) -> PathBuf {
            let path = self.0.join("abc");
            fs::write(&path, "abc").unwrap();
            path
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn hasher() -> Hasher {
        let cache = Arc::new(Mutex::new(Recent::new(8)));
        Hasher { cache, stop: Arc::default(), buffer: vec![0; CHUNK] }
    }

    /// As if a process that is gone had run a file so long after the file was written.
    fn gone(path: &Path, later: u64) -> Wanted {
        let (file, _) = FileVersion::of(&File::open(path).unwrap()).unwrap();
        let clock = clock::sample().unwrap();
        let written = nanoseconds(file.changed) - clock.offset();
        let at = BootTime(u64::try_from(written).unwrap() + later);
        let process = ProcessKey { pid: u32::MAX, start: BootTime(1) };
        let path = path.to_str().unwrap().into();
        Wanted { process, path, runs: Some(Running { file, at }) }
    }

    fn hexadecimal(digest: Option<Sha>) -> String {
        digest.into_iter().flatten().map(|byte| format!("{byte:02x}")).collect()
    }

    const LATER: u64 = 1_000_000_000;

    #[test]
    fn what_has_not_changed_since_has_a_digest() {
        let directory = Directory::new("same");
        let path = directory.abc();
        let mut hasher = hasher();
        assert_eq!(hexadecimal(hasher.digest(&gone(&path, LATER))), ABC);
        // Run within the tick of the clock in which it was written: who knows what came after.
        assert_eq!(hasher.digest(&gone(&path, 1_000_000)), None);
        // Of one that lives and runs something else, this is not it.
        let me = process::birth(std::process::id()).unwrap().key;
        assert_eq!(hexadecimal(hasher.digest(&Wanted { process: me, ..gone(&path, LATER) })), ABC);
        let unknown = Wanted { process: me, runs: None, ..gone(&path, LATER) };
        assert_eq!(hasher.digest(&unknown), None);
        assert_eq!(hasher.digest(&Wanted { runs: None, ..gone(&path, LATER) }), None);
    }

    #[test]
    fn what_was_written_or_replaced_has_none() {
        let directory = Directory::new("other");
        let path = directory.abc();
        let wanted = gone(&path, LATER);
        std::thread::sleep(Duration::from_millis(20));
        // The same bytes, even, the same length and the same time of writing.
        let before = fs::metadata(&path).unwrap();
        fs::write(&path, "abc").unwrap();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(before.modified().unwrap())
            .unwrap();
        assert_eq!(hasher().digest(&wanted), None);
        let wanted = gone(&path, LATER);
        fs::write(directory.0.join("new"), "abc").unwrap();
        fs::rename(directory.0.join("new"), &path).unwrap();
        assert_eq!(hasher().digest(&wanted), None);
        fs::remove_file(&path).unwrap();
        assert_eq!(hasher().digest(&wanted), None);
        // What now stands there is not even opened.
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        assert_eq!(hasher().digest(&wanted), None);
    }

    #[test]
    fn a_file_is_read_once() {
        let directory = Directory::new("once");
        let path = directory.abc();
        let mut digests = Digests::start().unwrap();
        let clock = clock::sample().unwrap();
        std::thread::sleep(Duration::from_millis(60));
        let wanted = gone(&path, LATER);
        let runs = wanted.runs.unwrap();
        assert_eq!(digests.known(runs, clock), None);
        digests.want(wanted);
        let found = (0..1000).find_map(|_| {
            std::thread::sleep(Duration::from_millis(5));
            digests.found()
        });
        assert_eq!(hexadecimal(found.map(|found| found.digest)), ABC);
        assert_eq!(hexadecimal(digests.known(runs, clock)), ABC);
        // In doubt it is looked at again, and so is another version of it.
        let at = BootTime(runs.at.0 - LATER);
        assert_eq!(digests.known(Running { at, ..runs }, clock), None);
        let file = FileVersion { changed: (0, 0), ..runs.file };
        assert_eq!(digests.known(Running { file, ..runs }, clock), None);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let (wanted, waiting) = sync_channel(1);
        let (_, found) = channel();
        let (cache, stop) = (Arc::new(Mutex::new(Recent::new(1))), Arc::default());
        let mut digests = Digests { wanted, found, cache, stop, dropped: 0 };
        let process = ProcessKey { pid: 1, start: BootTime(0) };
        for _ in 0..3 {
            digests.want(Wanted { process, path: SmolStr::default(), runs: None });
        }
        assert_eq!(digests.dropped, 2);
        drop(waiting);
    }

    #[test]
    fn it_is_read_no_faster_than_it_may() {
        let directory = Directory::new("pace");
        let path = directory.0.join("large");
        let bytes = RATE / 20;
        fs::write(&path, vec![0; usize::try_from(bytes).unwrap()]).unwrap();
        let begun = Instant::now();
        assert!(hasher().digest(&gone(&path, LATER)).is_some());
        assert!(begun.elapsed() >= Duration::from_millis(50));
    }
}
