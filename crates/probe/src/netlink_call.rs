//! The two system calls on netlink sockets that no safe wrapper knows: opening one to the
//! connector, and subscribing to what other network namespaces tell.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A socket to the connector (linux/connector.h). The kernel has one in the initial network
/// namespace only, which is found out by sending to it.
pub(crate) fn connector_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: takes and gives numbers only.
    let descriptor = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_CONNECTOR) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call before has just opened this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Lets a subscribed netlink socket hear of every namespace that has a number (nsid) in its own
/// (netlink(7), NETLINK_LISTEN_ALL_NSID, since Linux 4.2).
pub(crate) fn listen_to_all_namespaces(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open as long as it is borrowed. `on` lives on this stack across
    // the call, which reads `length` bytes of it: all.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            libc::NETLINK_LISTEN_ALL_NSID,
            (&raw const on).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
