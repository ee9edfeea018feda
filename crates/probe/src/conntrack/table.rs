//! The table of conversations of one namespace, as it is now.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send,
    socket,
};

use super::message::{self, Entry, Reply, Side};
use crate::ProbeError;

/// The kernel fills at most 32 KiB at a time, however large the buffer.
const BUFFER: usize = 32 * 1024;

/// Up to so many entries, translating or not, are read as they are; of more, those that translate
/// are asked for, which takes two dumps. Measured with 262,144 hash buckets, of which each dump
/// visits all: 8.5 ms, and 1.4 us for each entry that is told, 0.2 us for one that is not.
const WHOLE: u32 = 6_000;

/// Asks for tables.
pub(super) struct Table {
    buffer: Vec<u8>,
    sequence: u32,
    most: usize,
}

impl Table {
    /// For tables of up to `most` translations; of a longer one, one more is read.
    pub(super) fn new(most: usize) -> Self {
        Self { buffer: vec![0; BUFFER], sequence: 0, most }
    }

    /// The entries of the calling thread's namespace that translate. Some may come twice.
    ///
    /// In a namespace without any entries this takes 9 us, and a dump is not made.
    pub(super) fn list(&mut self) -> Result<Vec<Entry>, ProbeError> {
        let socket = open()?;
        let mut entries = Vec::new();
        match self.count(&socket)? {
            0 => {}
            1..=WHOLE => {
                self.dump(&socket, None, &mut entries)?;
            }
            _ => {
                if self.dump(&socket, Some(Side::Source), &mut entries)? {
                    self.dump(&socket, Some(Side::Destination), &mut entries)?;
                }
            }
        }
        Ok(entries)
    }

    /// How many entries there are, translating or not.
    fn count(&mut self, socket: &OwnedFd) -> Result<u32, ProbeError> {
        let mut count = None;
        self.ask(socket, message::count, |reply| {
            if let Reply::Count(told) = reply {
                count = Some(told);
            }
            count.is_some()
        })?;
        // Refused, the table itself may still be told; or it says why not.
        Ok(count.unwrap_or(u32::MAX))
    }

    /// One dump; false if the kernel did not select, so that this was the whole table.
    pub(super) fn dump(
        &mut self,
        socket: &OwnedFd,
        side: Option<Side>,
        entries: &mut Vec<Entry>,
    ) -> Result<bool, ProbeError> {
        let most = self.most;
        let mut selects = true;
        let errno = self.ask(
            socket,
            |sequence| message::dump(side, sequence),
            |reply| {
                match reply {
                    Reply::There(entry) if entries.len() <= most => entries.push(entry),
                    Reply::Untranslated => selects = false,
                    _ => {}
                }
                false
            },
        )?;
        match errno {
            0 => Ok(selects),
            errno => {
                let error = io::Error::from_raw_os_error(errno);
                Err(ProbeError::call("ask for the conntrack table")(error))
            }
        }
    }

    /// Asks, and reads until the answer is whole; its errno.
    fn ask(
        &mut self,
        socket: &OwnedFd,
        question: impl FnOnce(u32) -> Vec<u8>,
        mut enough: impl FnMut(Reply) -> bool,
    ) -> Result<i32, ProbeError> {
        self.sequence = self.sequence.wrapping_add(1);
        send(socket.as_raw_fd(), &question(self.sequence), MsgFlags::empty())
            .map_err(ProbeError::call("send to conntrack"))?;
        let mut end = None;
        while end.is_none() {
            // With MSG_TRUNC the true length comes back, also of a datagram that did not fit.
            let length = match recv(socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_TRUNC) {
                Err(Errno::EINTR) => continue,
                result => result.map_err(ProbeError::call("receive from conntrack"))?,
            };
            let malformed = |what| ProbeError::Netlink { what };
            let datagram = self
                .buffer
                .get(..length)
                .filter(|datagram| !datagram.is_empty())
                .ok_or(malformed("a datagram is empty or larger than any can be"))?;
            message::read(datagram, Some(self.sequence), |reply| match reply {
                Reply::Done(errno) | Reply::Refused(errno) => end = Some(errno),
                reply if enough(reply) => end = Some(0),
                _ => {}
            })
            .map_err(malformed)?;
        }
        Ok(end.unwrap_or(0))
    }
}

/// A socket in the calling thread's namespace, connected to the kernel and so to nobody else: root
/// in a container owns the namespace that it is opened in, and could answer in the kernel's place.
pub(super) fn open() -> Result<OwnedFd, ProbeError> {
    let descriptor = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )
    .map_err(ProbeError::call("open a netfilter socket"))?;
    connect(descriptor.as_raw_fd(), &NetlinkAddr::new(0, 0))
        .map_err(ProbeError::call("connect a netfilter socket"))?;
    Ok(descriptor)
}
