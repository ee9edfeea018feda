//! A session is one TCP connection as both of its ends know it: how it was opened, the octets that each
//! sent in their order, what was sent again, how long acknowledgments took, how it ended.
//!
//! [`Sessions`] (`sessions.rs`) takes decoded packets and tells an [`Event`] (`event.rs`) of all that happens;
//! [`follow`] (`follow.rs`) makes packets of frames for it and accounts for each. What happens in one connection
//! is in `connection.rs`, with the octets of each direction put in order in `stream.rs` and round trips in
//! `round_trips.rs`. Who began, when a connection is over and which times are believed is decided in `flow`,
//! as for flows.
//!
//! ```
//! use procflow_core::packet::Packet;
//! use procflow_core::session::{EventKind, Sessions, Settings};
//!
//! fn next(sessions: &mut Sessions, packet: &Packet, frame: &[u8]) {
//!     sessions.observe(packet, frame, packet.time, |event| match event.kind {
//!         EventKind::Data { payload, .. } => println!("{}: {} octets", event.key, payload.len()),
//!         EventKind::End(summary) => println!("{}: {} ns", event.key, summary.duration()),
//!         _ => {}
//!     });
//! }
//! # next(&mut Sessions::new(Settings::default()), &packet(), &[]);
//! # fn packet() -> Packet {
//! #     use procflow_core::{Timestamp, packet::{Decoder, LinkType}};
//! #     let frame = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
//! #     Decoder::default().decode(LinkType::RAW, Timestamp(0), &frame, 20).unwrap()
//! # }
//! ```
//!
//! Nothing is put in for what was not captured: it is told how much is missing. Checksums are not looked at
//! (where segments are offloaded a capture has none that are right), and neither are fragments of IP put
//! together.

mod connection;
mod event;
mod follow;
mod round_trips;
mod sessions;
mod stream;

pub use event::{Event, EventKind, Loss, Opening, SessionId, Side, Summary};
pub use follow::{Tally, follow};
pub use round_trips::RoundTrips;
pub use sessions::{Counts, Sessions, Settings};
pub(crate) use stream::{Piece, Segment, Stream};
