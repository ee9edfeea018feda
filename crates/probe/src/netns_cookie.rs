//! The namespace cookie: a number that the kernel gives to a network namespace once and never
//! again (`SO_NETNS_COOKIE`, Linux 5.14). It can only be asked of a socket inside.
//!
//! With unsafe code, because no safe wrapper knows this option.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The cookie of the namespace in which `socket` was created.
pub(crate) fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of_val(&cookie)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open as long as it is borrowed. `cookie` and `length` live on
    // this stack across the call, and `length` says how many bytes may be written to `cookie`, of
    // which every value is a valid u64.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if usize::try_from(length).ok() != Some(size_of_val(&cookie)) {
        return Err(io::Error::other("a namespace cookie is 8 bytes"));
    }
    Ok(cookie)
}
