//! A network namespace: one of the separate networks of a host, with its own interfaces,
//! addresses and sockets (network_namespaces(7)). What can be learned of one is learned inside.
//!
//! Nothing of a namespace is held from one look to the next: an open socket or descriptor would
//! keep it alive after its last process left, and with it a container's interfaces. The price is
//! an `open`, two `setns` and a `socket` per namespace and look.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, fstat, stat};
use procflow_binding::{Address, BootTime, NamespaceId};

use crate::ProbeError;
use crate::address::addresses;
use crate::conntrack::Translations;
use crate::destroy::Destroyed;
use crate::netns_cookie::netns_cookie;
use crate::sock_diag::{self, Dumps, Entry, Exactly, Which};

/// Where iproute2 keeps namespaces that have a name (ip-netns(8)).
const NAMED: &str = "/run/netns";
/// Where docker keeps those of its containers, under names that only docker understands.
const DOCKER: &str = "/run/docker/netns";
/// The namespace of the calling thread, which is not always that of its process.
const OWN: &str = "/proc/thread-self/ns/net";

/// A namespace that was found, and the ways into it.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// Files to enter by, best first; any may vanish before it is used.
    doors: Vec<PathBuf>,
    /// Its name under `/run/netns`.
    pub(crate) name: Option<String>,
}

/// All namespaces that were found, by the inode of their nsfs file.
pub(crate) struct Places {
    pub(crate) by_inode: BTreeMap<u64, Place>,
    /// The device of all nsfs files.
    nsfs: u64,
}

/// More than one way in is only needed when a process exits while we look.
const DOORS: usize = 3;

impl Places {
    /// Home alone, which is entered by staying.
    pub(crate) fn of(home: &Home) -> Self {
        Self { by_inode: BTreeMap::from([(home.inode, Place::default())]), nsfs: home.nsfs }
    }

    /// Home, and those that have a file.
    pub(crate) fn with_files(home: &Home) -> Self {
        let mut places = Self::of(home);
        places.add_files(NAMED, |name| Some(name.to_string_lossy().into_owned()));
        places.add_files(DOCKER, |_| None);
        places
    }

    /// A missing or unreadable directory holds no namespaces for us. A file in it that is not
    /// (or no longer) a mounted namespace is left alone: we never enter what is not nsfs.
    fn add_files(&mut self, directory: &str, name: impl Fn(&OsStr) -> Option<String>) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if let Ok(file) = stat(&path)
                && file.st_dev == self.nsfs
            {
                let place = self.by_inode.entry(file.st_ino).or_default();
                place.name = place.name.take().or_else(|| name(&entry.file_name()));
                place.doors.push(path);
            }
        }
    }

    /// The namespace of a process.
    pub(crate) fn add_process(&mut self, inode: u64, pid: u32) {
        let place = self.by_inode.entry(inode).or_default();
        if place.doors.len() < DOORS {
            place.doors.push(format!("/proc/{pid}/ns/net").into());
        }
    }
}

/// Where the thread is that visits a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// In the namespace that it came from, and in which everything was opened that listens.
    Home,
    /// In another one.
    Abroad,
}

/// What one visit to a namespace showed.
pub(crate) struct Visit {
    pub(crate) id: NamespaceId,
    pub(crate) addresses: Vec<Address>,
    /// For each single socket that was asked about, whether its tuple is still taken.
    pub(crate) taken: Vec<bool>,
}

/// What is asked in each namespace.
pub(crate) struct Questions<'visitor> {
    /// Asks for the sockets, and takes them in; `None` to leave them.
    pub(crate) sockets: Option<Sockets<'visitor>>,
    /// Whether the addresses are asked for.
    pub(crate) addresses: bool,
    /// Asks for translations, and takes them in; `None` to leave them.
    pub(crate) translations: Option<&'visitor mut Translations>,
    /// Makes sure that the ends of sockets are reported, if they are anywhere.
    pub(crate) reports: Option<&'visitor mut Destroyed>,
    /// Dates what is not dated by itself.
    pub(crate) now: BootTime,
}

/// What is asked about sockets.
pub(crate) struct Sockets<'visitor> {
    pub(crate) dumps: &'visitor mut Dumps,
    /// Which are listed.
    pub(crate) which: Which,
    /// Where they go.
    pub(crate) entries: &'visitor mut Vec<Entry>,
    /// Of which single ones it is asked before whether their tuples are still taken.
    pub(crate) single: &'visitor [Exactly],
}

/// Why a namespace could not be visited.
pub(crate) enum Refusal {
    /// It vanished since it was found: nothing to report.
    Gone,
    /// We may not enter.
    Forbidden,
    /// Something else; the other namespaces can still be visited.
    Failed(ProbeError),
    /// We entered and cannot return: all is lost.
    Stranded(ProbeError),
}

impl From<ProbeError> for Refusal {
    fn from(error: ProbeError) -> Self {
        Self::Failed(error)
    }
}

/// The namespace that the calling thread is in, and returns to after each visit.
pub(crate) struct Home {
    descriptor: OwnedFd,
    pub(crate) inode: u64,
    nsfs: u64,
}

impl Home {
    /// Where the calling thread is now.
    pub(crate) fn here() -> Result<Self, ProbeError> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let descriptor = open(OWN, flags, Mode::empty()).map_err(ProbeError::file(OWN))?;
        let file = fstat(descriptor.as_fd()).map_err(ProbeError::file(OWN))?;
        Ok(Self { descriptor, inode: file.st_ino, nsfs: file.st_dev })
    }

    /// Looks into a namespace, asking the questions there. The thread is back home when this
    /// returns anything but [`Refusal::Stranded`].
    pub(crate) fn visit(
        &self,
        inode: u64,
        place: &Place,
        questions: &mut Questions<'_>,
    ) -> Result<Visit, Refusal> {
        if inode == self.inode {
            return look_around(inode, Whereabouts::Home, questions);
        }
        let mut refusal = Refusal::Gone;
        for door in &place.doors {
            let inside = match self.enter(inode, door) {
                Ok(inside) => inside,
                Err(refused) => {
                    refusal = refused;
                    continue;
                }
            };
            let seen = look_around(inode, Whereabouts::Abroad, questions);
            inside.leave()?;
            return seen;
        }
        Err(refusal)
    }

    /// Enters by one door.
    fn enter(&self, inode: u64, door: &Path) -> Result<Inside<'_>, Refusal> {
        let refused = |error: Errno| match error {
            Errno::ENOENT | Errno::ESRCH => Refusal::Gone,
            Errno::EPERM | Errno::EACCES => Refusal::Forbidden,
            _ => ProbeError::file(door)(error).into(),
        };
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let target = open(door, flags, Mode::empty()).map_err(refused)?;
        let file = fstat(target.as_fd()).map_err(refused)?;
        // The pid may have gone to another process, the name to another namespace.
        if (file.st_dev, file.st_ino) != (self.nsfs, inode) {
            return Err(Refusal::Gone);
        }
        setns(target, CloneFlags::CLONE_NEWNET).map_err(refused)?;
        Ok(Inside { home: Some(self) })
    }
}

/// Being in a foreign namespace. Invariant: whoever has one leaves before anything else runs on
/// this thread; if a panic is in the way, dropping it leaves too.
struct Inside<'home> {
    home: Option<&'home Home>,
}

impl Inside<'_> {
    fn leave(mut self) -> Result<(), Refusal> {
        self.home.take().map_or(Ok(()), |home| {
            setns(&home.descriptor, CloneFlags::CLONE_NEWNET)
                .map_err(|error| Refusal::Stranded(ProbeError::Stranded { source: error.into() }))
        })
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            // Reached in a panic only; if this fails too, the unwinding thread has nothing left
            // to do in the foreign namespace.
            let _ = setns(&home.descriptor, CloneFlags::CLONE_NEWNET);
        }
    }
}

/// Everything that can be seen from where the thread is.
fn look_around(
    inode: u64,
    at: Whereabouts,
    questions: &mut Questions<'_>,
) -> Result<Visit, Refusal> {
    let socket = sock_diag::connect()?;
    let id = match netns_cookie(socket.as_fd()) {
        Ok(cookie) => NamespaceId(cookie),
        // Before Linux 5.14.
        Err(error) if error.raw_os_error() == Some(Errno::ENOPROTOOPT as i32) => NamespaceId(inode),
        Err(error) => {
            let call = ProbeError::call::<io::Error>("ask for the namespace cookie");
            return Err(call(error).into());
        }
    };
    let addresses = if questions.addresses { addresses(id)? } else { Vec::new() };
    let taken = match &mut questions.sockets {
        Some(sockets) => sockets.ask(socket.as_fd())?,
        None => Vec::new(),
    };
    if let Some(translations) = &mut questions.translations {
        translations.visit(id, at, questions.now);
    }
    if let Some(reports) = &mut questions.reports {
        reports.visit(id, at);
    }
    Ok(Visit { id, addresses, taken })
}

impl Sockets<'_> {
    /// Asks where `socket` was opened. What cannot be listed whole is not listed.
    fn ask(&mut self, socket: BorrowedFd<'_>) -> Result<Vec<bool>, ProbeError> {
        let Self { dumps, which, entries, single } = self;
        // First the single ones: a connection that comes meanwhile may take the tuple of one in
        // TIME_WAIT, and then that one is told to be over by the new one that is listed.
        let taken = single
            .iter()
            .map(|exactly| dumps.is_there(socket, exactly))
            .collect::<Result<_, _>>()?;
        let kept = entries.len();
        dumps.all(socket, *which, entries).inspect_err(|_| entries.truncate(kept))?;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn visit(home: &Home, inode: u64, place: &Place) -> Result<Visit, Refusal> {
        let mut questions = Questions {
            sockets: Some(Sockets {
                dumps: &mut Dumps::new(),
                which: Which::All,
                entries: &mut Vec::new(),
                single: &[],
            }),
            addresses: true,
            translations: Some(&mut Translations::open()),
            reports: None,
            now: BootTime(1),
        };
        home.visit(inode, place, &mut questions)
    }

    #[test]
    fn the_loopback_address_is_found_at_home() {
        let home = Home::here().unwrap();
        let places = Places::with_files(&home);
        let place = &places.by_inode[&home.inode];
        let Ok(visit) = visit(&home, home.inode, place) else {
            panic!("refused at home");
        };
        let loopback =
            Address { namespace: visit.id, address: Ipv4Addr::LOCALHOST.into(), prefix: 8 };
        assert!(visit.addresses.contains(&loopback), "{:?}", visit.addresses);
    }

    #[test]
    fn a_door_that_leads_elsewhere_is_not_entered() {
        let home = Home::here().unwrap();
        let doors = vec!["/proc/self/ns/mnt".into(), "/proc/self/ns/net".into()];
        let elsewhere = Place { doors, name: None };
        let visit = visit(&home, 1, &elsewhere);
        assert!(matches!(visit, Err(Refusal::Gone)));
        assert_eq!(Home::here().unwrap().inode, home.inode);
    }
}
