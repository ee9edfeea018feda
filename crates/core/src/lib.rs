//! The shared core: what flows and sockets are compared by.
//!
//! No I/O and no clock: bytes and times are handed in. Today this crate holds the join key
//! (endpoints, protocols, flow keys, time); packets, the flow cache and the features come to
//! live beside it.

#![forbid(unsafe_code)]

mod key;

pub use key::{Endpoint, FlowKey, Interval, Protocol, Timestamp};
