//! Rights: whose the files are that root works on, and so with whose rights it does.
//!
//! Where nfcapd runs as a user of its own, its directories are that user's, who can put anything
//! into them. Root then takes that user's rights to files, for as long as it works there: what the
//! owner could not do is refused, the owner's quota counts, and what is reserved for root on a full
//! disk stays so. It takes the rights to files only, and in one thread (setfsuid(2)): keys, ledger
//! and report stay root's. Nobody but root has rights to give up; nothing here asks for more.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;

use nix::fcntl::AtFlags;
use nix::sys::stat::{fstat, fstatat};
use nix::unistd::{Gid, Uid, geteuid, setfsgid, setfsuid};

/// The rights to files that this thread has until this is dropped; then its own again.
#[derive(Debug)]
pub(crate) struct Rights {
    taken: bool,
}

impl Rights {
    /// Takes those of a directory's owner, if this is root and the file of that name is that
    /// owner's too. A file of somebody else's could not be given back to him otherwise.
    pub(crate) fn of_owner(directory: &OwnedFd, name: &OsStr) -> io::Result<Self> {
        let mut rights = Self { taken: false };
        if !geteuid().is_root() {
            return Ok(rights);
        }
        let owner = Uid::from_raw(fstat(directory)?.st_uid);
        let file = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if owner.is_root() || Uid::from_raw(file.st_uid) != owner {
            return Ok(rights);
        }
        rights.taken = true;
        setfsgid(Gid::from_raw(file.st_gid));
        setfsuid(owner);
        // Neither call says whether it worked. One with an impossible user changes nothing, and
        // gives whose rights they are.
        if setfsuid(Uid::from_raw(u32::MAX)) != owner {
            return Err(io::Error::other("root may not act as its owner here (CAP_SETUID)"));
        }
        Ok(rights)
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        if self.taken {
            setfsuid(Uid::from_raw(0));
            setfsgid(nix::unistd::getegid());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use std::io::Write;
    use std::os::unix::fs::chown;

    fn now() -> Uid {
        setfsuid(Uid::from_raw(u32::MAX))
    }

    #[test]
    fn root_has_the_owners_rights_until_it_is_done() {
        if !geteuid().is_root() {
            let mut loud = io::stderr(); // eprintln! is kept from who runs tests that pass
            return writeln!(loud, "SKIPPED: only root has rights to give up").unwrap();
        }
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("f");
        std::fs::write(&file, "").unwrap();
        chown(place.path(), Some(65534), Some(65534)).unwrap();
        let directory = OwnedFd::from(std::fs::File::open(place.path()).unwrap());
        let rights = Rights::of_owner(&directory, OsStr::new("f")).unwrap();
        assert!(now().is_root(), "a file of root's in another's directory");
        drop(rights);
        chown(&file, Some(65534), Some(65534)).unwrap();
        let rights = Rights::of_owner(&directory, OsStr::new("f")).unwrap();
        assert_eq!(now(), Uid::from_raw(65534));
        let closed = Mode::S_IRUSR | Mode::S_IXUSR;
        nix::sys::stat::fchmod(&directory, closed).unwrap();
        assert!(std::fs::write(place.path().join("g"), "").is_err(), "what the owner may not");
        drop(rights);
        assert!(now().is_root());
    }
}
