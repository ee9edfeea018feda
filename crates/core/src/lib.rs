//! The shared core: what flows and sockets are compared by, and how packets become flows and flows
//! become numbers.
//!
//! No I/O, no clock, no threads of its own: bytes and times are handed in, records are handed out. The same
//! packets give the same records, however fast the machine is.
//!
//! `key` is the join key; `packet` takes frames apart; `layers` shows all that is in one; `flow` puts packets
//! together that belong to one conversation; `features` counts and measures them; `dissect` tells what they
//! speak; `plugin` is what users add to that; `presets` are the columns that users of other meters know; `rows` are records as text. `session`
//! follows TCP connections and tells what happens in them.

#![forbid(unsafe_code)]

pub mod dissect;
#[macro_use]
pub mod features;
pub mod flow;
mod key;
pub mod layers;
pub mod packet;
pub mod plugin;
pub mod presets;
pub mod rows;
pub mod session;

pub use key::{Endpoint, FlowKey, Interval, Protocol, Timestamp};
