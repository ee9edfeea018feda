//! An event: at one moment of the host's boot-time clock, one thing changed in what is known of
//! its sockets, processes, addresses, namespaces or clock - or in how well they are watched.

use std::fmt;
use std::net::IpAddr;

use procflow_core::{FlowKey, Timestamp};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use smol_str::SmolStr;

use crate::clock::BootTime;
use crate::process::{Details, Process, ProcessKey};
use crate::socket::{Namespace, NamespaceId, Socket, SocketId};

/// A change with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number within the incarnation of the log, from 1, without holes as produced.
    pub sequence: u64,
    /// When it was observed.
    pub time: BootTime,
    /// What changed.
    pub change: Change,
}

/// How many owners of one socket are told. More processes may share one (a fork makes another),
/// but no answer could name them, and every change of the set is told anew.
pub const MOST_OWNERS: usize = 256;

/// The processes that hold a socket, ascending, without repeats. Mostly one, which takes no memory of its
/// own.
pub type OwnerSet = SmallVec<[ProcessKey; 1]>;

impl Event {
    /// About how many bytes of memory it takes.
    #[must_use]
    pub fn footprint(&self) -> usize {
        let more = match &self.change {
            Change::Process(process) => {
                let texts = [&process.executable, &process.user, &process.container, &process.unit];
                let texts = texts.into_iter().flatten().map(SmolStr::len);
                process.comm.len() + texts.sum::<usize>()
            }
            Change::Details(details) => details.footprint(),
            Change::Namespace(namespace) => namespace.name.as_ref().map_or(0, String::len),
            Change::Open(Open { owners, .. }) | Change::Owners(Owners { owners, .. }) => {
                size_of_val(owners.as_slice())
            }
            _ => 0,
        };
        size_of::<Self>() + more
    }
}

/// What can change.
///
/// The order of the variants is the wire format (`docs/wire.md`): new ones go to the end, old ones
/// stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A tracker began to watch, this well; first event of every incarnation.
    Watch(Coverage),
    /// Nobody watched, or what was seen got lost.
    Gap(Gap),
    /// The real-time clock showed this at the event's time.
    Clock(Timestamp),
    /// A namespace came into view, or has a new name.
    Namespace(Namespace),
    /// A namespace is gone, and with it all its sockets and addresses. They are closed by events
    /// of their own before.
    NamespaceGone(NamespaceId),
    /// A namespace has an address.
    Address(Address),
    /// A namespace no longer has an address.
    AddressGone(Address),
    /// Facts of a process, new or changed (after exec). Comes before the first socket that names
    /// it.
    Process(Process),
    /// A socket is there.
    Open(Open),
    /// A socket's owners changed.
    Owners(Owners),
    /// A socket is gone.
    Close(Close),
    /// What existed when watching began, or began again after a loss, has now been listed whole:
    /// an older socket that was not listed is gone.
    Listed,
    /// More facts of a process, new or changed; they may come after its sockets. (Since version 2
    /// of the protocol, as all that follow.)
    Details(Details),
    /// A namespace translates the addresses of a conversation.
    Translation(Translation),
    /// It no longer does.
    TranslationGone(TranslationGone),
}

/// How well a source sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Coverage {
    /// Looks every so many nanoseconds; what lived and died between two looks was not seen, so
    /// the absence of a socket proves nothing.
    Polled {
        /// Nanoseconds between two looks.
        period: u64,
    },
    /// Told of every socket and every translation by the kernel: what was not seen, outside gaps,
    /// was not there.
    Complete,
}

/// A stretch of time that the log cannot speak for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// First moment not watched.
    pub begin: BootTime,
    /// First moment watched again.
    pub end: BootTime,
    /// Why.
    pub cause: GapCause,
}

/// Why nothing is known of a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum GapCause {
    /// No tracker ran.
    NotRunning,
    /// The kernel produced events of sockets faster than they were read. All sockets are listed again
    /// after it; namespaces, addresses and translations are not, they come another way.
    EventsLost,
    /// Known once, but older than the tracker keeps.
    Retention,
    /// The tracker ran, but its source failed to answer.
    SourceFailed,
}

impl fmt::Display for GapCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRunning => "tracker not running",
            Self::EventsLost => "events lost",
            Self::Retention => "older than the tracker keeps",
            Self::SourceFailed => "source failed",
        })
    }
}

/// An interface address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address {
    /// Where.
    pub namespace: NamespaceId,
    /// The address.
    pub address: IpAddr,
    /// Length of its prefix in bits. All of a loopback prefix is local (127.0.0.0/8).
    pub prefix: u8,
}

/// A conversation whose addresses a namespace translates (RFC 3022; an entry of conntrack, whose
/// words these are).
///
/// `original` has what the initiator sent, before translation, and `reply` what the responder
/// answers, before it is translated back. Without translation one would be the other reversed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Translation {
    /// Which namespace translates.
    pub namespace: NamespaceId,
    /// As the initiator sees it: its own endpoint is the source.
    pub original: FlowKey,
    /// As the responder sees it: its own endpoint is the source.
    pub reply: FlowKey,
    /// It was not there at this moment, and it was at the event's time. 0 when not known.
    pub not_before: BootTime,
}

/// A translation is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TranslationGone {
    /// Which namespace translated.
    pub namespace: NamespaceId,
    /// As in the [`Translation`].
    pub original: FlowKey,
    /// It was last seen at this moment, and no longer at the event's time.
    pub last_seen: BootTime,
}

/// A socket came into view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Which.
    pub id: SocketId,
    /// What it is.
    pub socket: Socket,
    /// Who holds it; empty when that could not be seen (yet), [`ProcessKey::KERNEL`] when the kernel
    /// itself does. Ascending, without repeats.
    pub owners: OwnerSet,
    /// It was not there at this moment, and it was at the event's time.
    pub not_before: BootTime,
}

/// A socket changed hands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owners {
    /// Which.
    pub id: SocketId,
    /// Who holds it now; never empty: an orphaned socket keeps its last owners, for whom the
    /// kernel still sends.
    pub owners: OwnerSet,
    /// The former owners held it at this moment.
    pub not_before: BootTime,
}

/// A socket went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    /// Which.
    pub id: SocketId,
    /// It was last seen at this moment, and no longer at the event's time.
    pub last_seen: BootTime,
}
