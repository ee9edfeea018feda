//! The join key: *who talked to whom, when*.
//!
//! A flow and a socket have nothing else in common, so both sides of every join are written
//! in these types.

mod endpoint;
mod flow_key;
mod protocol;
mod time;

pub use endpoint::Endpoint;
pub use flow_key::FlowKey;
pub use protocol::Protocol;
pub use time::{Interval, Timestamp};
