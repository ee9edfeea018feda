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
use procflow_binding::{Address, NamespaceId};

use crate::ProbeError;
use crate::address::addresses;
use crate::netns_cookie::netns_cookie;
use crate::nsid::Numbers;
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

/// What one visit to a namespace showed.
pub(crate) struct Visit {
    pub(crate) id: NamespaceId,
    pub(crate) addresses: Vec<Address>,
    /// Its number at home; none for home itself, and where it was not asked for.
    pub(crate) nsid: Option<i32>,
    /// For each question, whether the socket's tuple is still taken.
    pub(crate) answers: Vec<bool>,
}

/// What a visit is done with.
pub(crate) struct Tools {
    pub(crate) dumps: Dumps,
    /// Which sockets to list. Addresses are only asked for together with all.
    pub(crate) which: Which,
    /// Where to ask for a namespace's number.
    pub(crate) numbers: Option<Numbers>,
    /// Why a number could not be had, at the last time that one was asked for in vain.
    pub(crate) unnumbered: Option<ProbeError>,
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

    /// Looks into a namespace: its sockets are added to `entries`, and `questions` about single ones
    /// answered. The thread is back home when
    /// this returns anything but [`Refusal::Stranded`].
    pub(crate) fn visit(
        &self,
        inode: u64,
        place: &Place,
        tools: &mut Tools,
        questions: &[Exactly],
        entries: &mut Vec<Entry>,
    ) -> Result<Visit, Refusal> {
        if inode == self.inode {
            return look_around(inode, tools, questions, entries);
        }
        let mut refusal = Refusal::Gone;
        for door in &place.doors {
            let (inside, nsid) = match self.enter(inode, door, tools) {
                Ok(entered) => entered,
                Err(refused) => {
                    refusal = refused;
                    continue;
                }
            };
            let seen = look_around(inode, tools, questions, entries);
            inside.leave()?;
            return seen.map(|visit| Visit { nsid, ..visit });
        }
        Err(refusal)
    }

    /// Enters by one door; the namespace's number is asked for on the threshold.
    fn enter(
        &self,
        inode: u64,
        door: &Path,
        tools: &mut Tools,
    ) -> Result<(Inside<'_>, Option<i32>), Refusal> {
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
        let nsid = tools.number(target.as_fd());
        setns(target, CloneFlags::CLONE_NEWNET).map_err(refused)?;
        Ok((Inside { home: Some(self) }, nsid))
    }
}

impl Tools {
    /// The number of a namespace. Without one its sockets' ends are not reported; nothing else is
    /// lost.
    fn number(&mut self, namespace: BorrowedFd<'_>) -> Option<i32> {
        match self.numbers.as_mut()?.of(namespace) {
            Ok(number) => Some(number),
            Err(error) => {
                self.unnumbered = Some(error);
                None
            }
        }
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
    tools: &mut Tools,
    questions: &[Exactly],
    entries: &mut Vec<Entry>,
) -> Result<Visit, Refusal> {
    let kept = entries.len();
    let look = |tools: &mut Tools, entries: &mut Vec<Entry>| {
        let socket = sock_diag::connect()?;
        let id = match netns_cookie(socket.as_fd()) {
            Ok(cookie) => NamespaceId(cookie),
            // Before Linux 5.14.
            Err(error) if error.raw_os_error() == Some(Errno::ENOPROTOOPT as i32) => {
                NamespaceId(inode)
            }
            Err(error) => {
                return Err(ProbeError::call::<io::Error>("ask for the namespace cookie")(error));
            }
        };
        let addresses = match tools.which {
            Which::All => addresses(id)?,
            Which::Living => Vec::new(),
        };
        // First the questions: a connection that comes meanwhile may take the tuple of one in
        // TIME_WAIT, and then that one is told to be over by the new one that is listed.
        let answers = questions
            .iter()
            .map(|question| tools.dumps.is_there(socket.as_fd(), question))
            .collect::<Result<_, _>>()?;
        tools.dumps.all(socket.as_fd(), tools.which, entries)?;
        Ok(Visit { id, addresses, nsid: None, answers })
    };
    look(tools, entries).map_err(|error| {
        entries.truncate(kept);
        error.into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn tools() -> Tools {
        Tools { dumps: Dumps::new(), which: Which::All, numbers: None, unnumbered: None }
    }

    #[test]
    fn the_loopback_address_is_found_at_home() {
        let home = Home::here().unwrap();
        let places = Places::with_files(&home);
        let mut entries = Vec::new();
        let place = &places.by_inode[&home.inode];
        let Ok(visit) = home.visit(home.inode, place, &mut tools(), &[], &mut entries) else {
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
        let mut entries = Vec::new();
        let visit = home.visit(1, &elsewhere, &mut tools(), &[], &mut entries);
        assert!(matches!(visit, Err(Refusal::Gone)));
        assert_eq!(Home::here().unwrap().inode, home.inode);
    }
}
