//! Who holds which socket: `/proc/PID/fd` lists a process's descriptors, and that of a socket
//! links to `socket:[inode]` (proc_pid_fd(5)). Reading them all is most of the cost of a look, so
//! a process is read again only when it may have changed.
//!
//! A process is read again when the directory says so (its size is the number of open
//! descriptors since Linux 6.2; its inode and change time are new when the pid has gone to
//! another process; its owner is the process's user), when a socket was listed whose holder is
//! not known, and in any case every second. What slips through for up to that second: a
//! descriptor replaced by another while the number stayed the same, where the new socket already
//! has a known holder.
//!
//! Where the kernel tells of new processes, `/proc` is listed whole only once a second.
//!
//! Only thread group leaders are listed: threads that unshared their descriptors
//! (CLONE_FILES) are not seen.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::os::fd::OwnedFd;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstatat};
use procflow_binding::{BootTime, ProcessKey};

use crate::ProbeError;
use crate::proc_connector::Event;
use crate::process::{self, Birth};

const PROC: &str = "/proc";

/// How old what is known of a process may get before it is read again unasked.
const FULL_EVERY: u64 = 1_000_000_000;

/// For so long after its start a process is asked at each look in which namespace it is.
const YOUNG: u64 = 2_000_000_000;

/// What `stat` of `/proc/PID/fd` shows, in one system call of about a microsecond.
///
/// The kernel numbers these inodes when it makes them, and throws them away when the process
/// exits: the same number means the same process. (The reverse is not so; under memory pressure
/// an inode may be thrown away earlier, which only costs us another reading.)
#[derive(Clone, Copy, PartialEq, Eq)]
struct Sign {
    inode: u64,
    made: (i64, i64),
    /// The effective user, or 0 when the process made itself undumpable.
    user: u32,
    /// Number of open descriptors; 0 before Linux 6.2.
    descriptors: i64,
}

impl Sign {
    fn of(file: &FileStat) -> Self {
        Self {
            inode: file.st_ino,
            made: (file.st_ctime, file.st_ctime_nsec),
            user: file.st_uid,
            descriptors: file.st_size,
        }
    }

    fn is_same_process(&self, other: &Self) -> bool {
        (self.inode, self.made) == (other.inode, other.made)
    }
}

/// A process as it was last read.
struct Watched {
    birth: Birth,
    sign: Sign,
    /// To be read again.
    stale: bool,
    /// The round of listing in which it was last there.
    round: u64,
    /// The round in which it was last found to hold another socket.
    gained: u64,
    /// Inodes of its sockets, ascending.
    sockets: Vec<u32>,
    /// Whether its descriptors could be read.
    readable: bool,
    /// Inode of its network namespace, where it may be known.
    network: Option<u64>,
}

/// All processes, and the sockets they hold.
pub(crate) struct Descriptors {
    proc: OwnedFd,
    watched: HashMap<u32, Watched>,
    holders: HashMap<u32, BTreeSet<ProcessKey>>,
    /// Unheld sockets for which all processes were read in vain: those of the kernel, or of
    /// processes that we may not read. As many as there are such sockets.
    in_vain: HashSet<u32>,
    /// Told to have started, and not looked at yet.
    arrived: HashSet<u32>,
    /// Told to be another program, and not looked at since.
    renamed: HashSet<u32>,
    /// What was told since the last listing is not all that happened.
    untold: bool,
    round: u64,
    /// The time of the last listing.
    now: BootTime,
    /// When everything was last read.
    full: Option<BootTime>,
}

/// So many processes at most are remembered by what was told of them; when there are more, `/proc`
/// is listed.
const MOST_TOLD: usize = 16_384;

impl Descriptors {
    pub(crate) fn open() -> Result<Self, ProbeError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self {
            proc: open(PROC, flags, Mode::empty()).map_err(ProbeError::file(PROC))?,
            watched: HashMap::new(),
            holders: HashMap::new(),
            in_vain: HashSet::new(),
            arrived: HashSet::new(),
            renamed: HashSet::new(),
            untold: true,
            round: 0,
            now: BootTime::default(),
            full: None,
        })
    }

    /// Takes in what the kernel told of a process.
    pub(crate) fn told(&mut self, event: Event) {
        match event {
            Event::Fork(pid) => {
                self.arrived.insert(pid);
            }
            Event::Exec(pid) => {
                self.renamed.insert(pid);
            }
            // Whoever is known and gone is missed at the next listing.
            Event::Exit(pid) => {
                self.arrived.remove(&pid);
                self.renamed.remove(&pid);
            }
        }
        if self.arrived.len() + self.renamed.len() > MOST_TOLD {
            self.arrived.clear();
            self.renamed.clear();
            self.untold = true;
        }
    }

    /// Not everything is told, or something was lost: the next listing reads `/proc`.
    pub(crate) fn not_told(&mut self) {
        self.untold = true;
    }

    /// Lists the processes and finds out which of them to read again.
    pub(crate) fn list(&mut self, now: BootTime) -> Result<(), ProbeError> {
        let full = self.full.is_none_or(|full| now >= full.plus(FULL_EVERY));
        self.round += 1;
        self.now = now;
        if full || self.untold {
            self.list_whole(full)?;
            self.untold = false;
        } else {
            let known: Vec<u32> = self.watched.keys().copied().collect();
            let arrived = std::mem::take(&mut self.arrived);
            for pid in known.into_iter().chain(arrived) {
                self.notice(pid, false);
            }
        }
        if full {
            self.full = Some(now);
            self.in_vain.clear();
        }
        self.arrived.clear();
        for pid in std::mem::take(&mut self.renamed) {
            self.rename(pid);
        }
        let round = self.round;
        let gone: Vec<u32> = self
            .watched
            .iter()
            .filter(|(_, watched)| watched.round != round)
            .map(|(&pid, _)| pid)
            .collect();
        for pid in gone {
            self.forget(pid);
        }
        Ok(())
    }

    /// Looks at those processes only that were told to have come or changed, and at young ones.
    pub(crate) fn list_told(&mut self, now: BootTime) -> Result<(), ProbeError> {
        if self.untold {
            return self.list(now);
        }
        self.now = now;
        let young = |watched: &&Watched| now < watched.birth.key.start.plus(YOUNG);
        let pids: Vec<u32> =
            self.watched.values().filter(young).map(|watched| watched.birth.key.pid).collect();
        for pid in pids.into_iter().chain(std::mem::take(&mut self.arrived)) {
            self.notice(pid, false);
        }
        for pid in std::mem::take(&mut self.renamed) {
            self.rename(pid);
        }
        Ok(())
    }

    fn list_whole(&mut self, full: bool) -> Result<(), ProbeError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut directory =
            Dir::open(PROC, flags, Mode::empty()).map_err(ProbeError::file(PROC))?;
        for entry in directory.iter() {
            let entry = entry.map_err(ProbeError::file(PROC))?;
            let name = entry.file_name().to_str().ok();
            if let Some(pid) = name.and_then(|name| name.parse().ok()) {
                self.notice(pid, full);
            }
        }
        Ok(())
    }

    /// Reads the name of a process that called exec: should it be gone before its facts are read,
    /// it is not called as the one that it came of. Its descriptors may have changed too, without
    /// their number.
    fn rename(&mut self, pid: u32) {
        if let Some(watched) = self.watched.get_mut(&pid) {
            watched.stale = true;
            if let Some(birth) = process::birth(pid).filter(|now| now.key == watched.birth.key) {
                watched.birth = birth;
            }
        }
    }

    /// Compares a process with how it was; one that exits meanwhile is left to be forgotten.
    fn notice(&mut self, pid: u32, full: bool) {
        let path = format!("{pid}/fd");
        let Ok(file) = fstatat(&self.proc, path.as_str(), AtFlags::empty()) else {
            return;
        };
        let sign = Sign::of(&file);
        if let Some(watched) = self.watched.get_mut(&pid)
            && watched.sign.is_same_process(&sign)
        {
            watched.round = self.round;
            watched.stale |= full || watched.sign != sign;
            watched.sign = sign;
            // A process that starts a container enters its namespace soon after the fork.
            if full || self.now < watched.birth.key.start.plus(YOUNG) {
                watched.network = network(&self.proc, pid);
            }
            return;
        }
        let Some(birth) = process::birth(pid) else {
            return;
        };
        // Known under this pid, but perhaps another process.
        if let Some(watched) = self.watched.get(&pid)
            && watched.birth.key != birth.key
        {
            self.forget(pid);
        }
        let (sockets, readable) =
            self.watched.remove(&pid).map_or((Vec::new(), true), |was| (was.sockets, was.readable));
        let watched = Watched {
            birth,
            sign,
            stale: true,
            round: self.round,
            gained: 0,
            sockets,
            readable,
            network: network(&self.proc, pid),
        };
        self.watched.insert(pid, watched);
    }

    /// Reads the descriptors of all processes that may have changed.
    pub(crate) fn read_changed(&mut self) {
        let stale: Vec<u32> =
            self.watched.iter().filter(|(_, watched)| watched.stale).map(|(&pid, _)| pid).collect();
        for pid in stale {
            self.read(pid);
        }
    }

    /// Looks for the holders of `unheld` sockets among processes that do not seem to have
    /// changed: first among new and changed ones (the listing is older than the sockets), then
    /// among the others, until all are found: those first that came by a socket last (a server that
    /// takes one connection and gives up another keeps their number), those without sockets last.
    pub(crate) fn seek(
        &mut self,
        mut unheld: HashSet<u32>,
        now: BootTime,
    ) -> Result<(), ProbeError> {
        // So that what was sought in vain stays no longer than its socket.
        self.in_vain.retain(|inode| unheld.contains(inode));
        unheld.retain(|inode| !self.in_vain.contains(inode));
        if unheld.is_empty() {
            return Ok(());
        }
        self.list(now)?;
        self.read_changed();
        unheld.retain(|inode| !self.holders.contains_key(inode));
        // Just read, all of them.
        if self.full != Some(now) {
            let mut others: Vec<(Reverse<u64>, bool, u32)> = self
                .watched
                .iter()
                .filter(|(_, watched)| watched.readable)
                .map(|(&pid, watched)| (Reverse(watched.gained), watched.sockets.is_empty(), pid))
                .collect();
            others.sort_unstable();
            for (.., pid) in others {
                if unheld.is_empty() {
                    break;
                }
                self.read(pid);
                unheld.retain(|inode| !self.holders.contains_key(inode));
            }
        }
        self.in_vain.extend(unheld);
        Ok(())
    }

    /// Reads the descriptors of one process.
    fn read(&mut self, pid: u32) {
        let sockets = sockets(&self.proc, pid);
        let after = fstatat(&self.proc, format!("{pid}/fd").as_str(), AtFlags::empty());
        let Some(watched) = self.watched.get_mut(&pid) else {
            return;
        };
        watched.stale = false;
        // It may have exited before, and another process taken its pid: what was read is that one's.
        let sockets = match after {
            Ok(after) if watched.sign.is_same_process(&Sign::of(&after)) => sockets,
            _ => {
                watched.stale = true;
                Ok(Vec::new())
            }
        };
        watched.readable = sockets != Err(Errno::EACCES);
        // One that has exited holds nothing; one that may not be read, nothing that we know of.
        let sockets = sockets.unwrap_or_default();
        let key = watched.birth.key;
        let before = std::mem::replace(&mut watched.sockets, sockets);
        for inode in before.iter().filter(|inode| watched.sockets.binary_search(inode).is_err()) {
            release(&mut self.holders, *inode, key);
        }
        for &inode in &watched.sockets {
            if before.binary_search(&inode).is_err() {
                watched.gained = self.round;
                self.holders.entry(inode).or_default().insert(key);
            }
        }
    }

    fn forget(&mut self, pid: u32) {
        if let Some(watched) = self.watched.remove(&pid) {
            for inode in watched.sockets {
                release(&mut self.holders, inode, watched.birth.key);
            }
        }
    }

    /// Who holds a socket.
    pub(crate) fn holders(&self, inode: u32) -> Option<&BTreeSet<ProcessKey>> {
        self.holders.get(&inode)
    }

    /// What was read of a process when it was first seen, and its effective user now.
    pub(crate) fn birth(&self, key: ProcessKey) -> Option<(&Birth, u32)> {
        self.watched
            .get(&key.pid)
            .filter(|watched| watched.birth.key == key)
            .map(|watched| (&watched.birth, watched.sign.user))
    }

    /// The network namespace of each process that tells it.
    pub(crate) fn networks(&self) -> impl Iterator<Item = (u32, u64)> {
        self.watched.iter().filter_map(|(&pid, watched)| Some((pid, watched.network?)))
    }

    /// The network namespace of one process.
    pub(crate) fn network(&self, pid: u32) -> Option<u64> {
        self.watched.get(&pid)?.network
    }

    /// How many processes could not be read.
    pub(crate) fn hidden(&self) -> usize {
        self.watched.values().filter(|watched| !watched.readable).count()
    }
}

fn release(holders: &mut HashMap<u32, BTreeSet<ProcessKey>>, inode: u32, key: ProcessKey) {
    if let Some(set) = holders.get_mut(&inode) {
        set.remove(&key);
        if set.is_empty() {
            holders.remove(&inode);
        }
    }
}

/// Inodes of the sockets among a process's descriptors, ascending.
fn sockets(proc: &OwnedFd, pid: u32) -> Result<Vec<u32>, Errno> {
    let path = format!("{pid}/fd");
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut directory = Dir::openat(proc, path.as_str(), flags, Mode::empty())?;
    // Iterating borrows the directory, so links are read through a second descriptor of it.
    let base = nix::fcntl::openat(proc, path.as_str(), flags | OFlag::O_PATH, Mode::empty())?;
    let mut sockets = Vec::new();
    for entry in directory.iter() {
        // A descriptor may be closed while we read.
        match readlinkat(&base, entry?.file_name()) {
            Ok(link) => sockets.extend(link.to_str().and_then(socket)),
            Err(Errno::EACCES) => return Err(Errno::EACCES),
            Err(_) => {}
        }
    }
    sockets.sort_unstable();
    sockets.dedup();
    Ok(sockets)
}

/// The inode of a socket from the link of its descriptor.
fn socket(link: &str) -> Option<u32> {
    bracketed(link, "socket:[")?.try_into().ok()
}

/// The inode of a process's network namespace; needs the right to trace it (ptrace(2)).
fn network(proc: &OwnedFd, pid: u32) -> Option<u64> {
    let link = readlinkat(proc, format!("{pid}/ns/net").as_str()).ok()?;
    bracketed(link.to_str()?, "net:[")
}

fn bracketed(link: &str, before: &str) -> Option<u64> {
    link.strip_prefix(before)?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::AsFd;

    #[test]
    fn only_a_socket_link_names_a_socket() {
        assert_eq!(socket("socket:[4026]"), Some(4026));
        for other in ["pipe:[4026]", "socket:[4026", "socket:[-1]", "/tmp/socket:[1]", "socket:[]"]
        {
            assert_eq!(socket(other), None, "{other}");
        }
        assert_eq!(bracketed("net:[4026531840]", "net:["), Some(4_026_531_840));
    }

    fn inode(socket: impl AsFd) -> u32 {
        nix::sys::stat::fstat(socket).unwrap().st_ino.try_into().unwrap()
    }

    fn holds(descriptors: &Descriptors, inode: u32) -> bool {
        descriptors
            .holders(inode)
            .is_some_and(|keys| keys.iter().any(|key| key.pid == std::process::id()))
    }

    #[test]
    fn new_descriptors_are_noticed_and_closed_ones_too() {
        let mut descriptors = Descriptors::open().unwrap();
        let mut look = |at| {
            descriptors.list(BootTime(at)).unwrap();
            descriptors.read_changed();
        };
        look(0);
        // So many that the tests beside this one, which open and close their own, cannot keep
        // the number the same.
        let listeners: Vec<_> =
            (0..200).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let inodes: Vec<u32> = listeners.iter().map(inode).collect();
        look(1);
        let held = |descriptors: &Descriptors| {
            let held = inodes.iter().filter(|&&inode| holds(descriptors, inode));
            held.count()
        };
        assert_eq!(held(&descriptors), inodes.len());
        drop(listeners);
        descriptors.list(BootTime(2)).unwrap();
        descriptors.read_changed();
        assert_eq!(held(&descriptors), 0);
    }

    #[test]
    fn a_process_that_was_told_is_found_without_listing_all() {
        let mut descriptors = Descriptors::open().unwrap();
        descriptors.list(BootTime(0)).unwrap();
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let known = |descriptors: &Descriptors| descriptors.watched.contains_key(&child.id());
        descriptors.list(BootTime(1)).unwrap();
        assert!(!known(&descriptors));
        descriptors.told(Event::Fork(child.id()));
        descriptors.told(Event::Exec(child.id()));
        // One that is gone before it could be looked at.
        descriptors.told(Event::Fork(u32::MAX));
        descriptors.list(BootTime(2)).unwrap();
        assert!(known(&descriptors));
        assert_eq!(descriptors.watched[&child.id()].birth.comm, "sleep");
        child.kill().unwrap();
        child.wait().unwrap();
        descriptors.list(BootTime(3)).unwrap();
        assert!(!descriptors.watched.contains_key(&child.id()));
    }

    #[test]
    fn when_telling_failed_all_are_listed() {
        let mut descriptors = Descriptors::open().unwrap();
        descriptors.list(BootTime(0)).unwrap();
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        descriptors.not_told();
        descriptors.list(BootTime(1)).unwrap();
        assert!(descriptors.watched.contains_key(&child.id()));
        (0..=MOST_TOLD as u32).for_each(|pid| descriptors.told(Event::Fork(pid)));
        assert!(descriptors.untold && descriptors.arrived.is_empty());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_socket_that_took_the_place_of_another_is_sought() {
        let mut descriptors = Descriptors::open().unwrap();
        let first = UdpSocket::bind("127.0.0.1:0").unwrap();
        descriptors.list(BootTime(0)).unwrap();
        descriptors.read_changed();
        assert!(holds(&descriptors, inode(&first)));
        drop(first);
        let second = UdpSocket::bind("127.0.0.1:0").unwrap();
        let wanted = inode(&second);
        descriptors.seek(HashSet::from([wanted, u32::MAX]), BootTime(1)).unwrap();
        assert!(holds(&descriptors, wanted));
        assert_eq!(descriptors.in_vain, HashSet::from([u32::MAX]));
        // And forgotten with its socket.
        descriptors.seek(HashSet::new(), BootTime(2)).unwrap();
        assert!(descriptors.in_vain.is_empty());
    }
}
