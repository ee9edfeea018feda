//! The protocol machine of the event service: what tracker and updater say to each other.
//!
//! No socket and no clock. [`Session`] (the tracker's side) and [`Client`] (the updater's) take
//! bytes and give bytes; who carries them - QUIC, over UDP - is the programs' business, and how
//! both sides know each other is in [`TlsIdentity`]. The bytes are written down in `docs/wire.md`.

#![forbid(unsafe_code)]

mod client;
mod codec;
mod identity;
mod message;
mod server;
mod tls;

pub use client::{Client, Delivery};
pub use codec::{FrameError, Frames, MOST_REPLY, MOST_REQUEST};
pub use identity::{KeyError, PublicKey, SecretKey};
pub use message::{Mode, OLDEST_VERSION, ProtocolError, Refusal, Reply, Request, VERSION};
pub use server::{HEARTBEAT, Session, Supply, Wanted};
pub use tls::{Admission, TlsError, TlsIdentity};
