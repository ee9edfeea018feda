//! Which process held which socket, when - and so, which process made a flow.
//!
//! No I/O and no clock: events and times are handed in, the same ones tomorrow give the same
//! answers. It does not ask the kernel (`probe` does), does not travel (`wire`), is not kept on
//! disk.
//!
//! A tracked host is told in [`Event`]s on its boot-time clock. A [`History`] applies them to its
//! binding tree, and [`Histories::join`] joins flows with it.

#![forbid(unsafe_code)]

mod answer;
mod attribute;
mod clock;
mod diff;
mod event;
mod histories;
mod history;
mod join;
mod kernel;
mod leaves;
mod log;
mod matching;
mod process;
mod question;
mod socket;
mod timeline;
mod translated;
mod translation;
mod tree;
mod vantage;
mod verdict;

pub use answer::{Answer, Who};
pub use attribute::{Attribution, Holder, Owner, Quality, Reason};
pub use clock::{BootTime, Clock, ClockSample};
pub use diff::{Held, Table, diff};
pub use event::{
    Address, Change, Close, Coverage, Event, Gap, GapCause, MOST_OWNERS, Open, OwnerSet, Owners,
    Translation, TranslationGone,
};
pub use histories::Histories;
pub use history::History;
pub use join::{Found, Join, One};
pub use log::{Incarnation, Log, Position, Since, StillTrue};
pub use process::{Ancestor, BootId, Details, MOST_ANCESTORS, Process, ProcessId, ProcessKey};
pub use socket::{Namespace, NamespaceId, Role, Socket, SocketId};
pub use vantage::{FlowClock, HostId, Place, PlaceName, Vantage, WhichNamespace};
