//! Follows trackers: a [`Feed`] pulls the events of one over QUIC into the histories, and [`Trust`] says
//! which keys both sides may have.
//!
//! It names no flow and prints nothing; the conversation itself, without sockets, is `wire`.

#![forbid(unsafe_code)]

mod feed;
mod trust;

pub use feed::{Feed, FeedError, real_time};
pub use trust::{Newcomers, Trust, TrustError};
