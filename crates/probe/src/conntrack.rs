//! Conntrack: the kernel's table of conversations, one per network namespace, by which it
//! translates addresses (NAT). An entry has the tuple of both directions; where one is not the
//! other reversed, a flow that was exported outside of the namespace carries other addresses than
//! the socket inside has.
#![allow(dead_code)] // nothing is asked yet

mod known;
mod message;

use known::MissedCause;
use procflow_binding::BootTime;

/// Translations may have been missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missed {
    /// All that was there before is known.
    pub(crate) begin: BootTime,
    /// All that is there now is known.
    pub(crate) end: BootTime,
    /// Why.
    pub(crate) cause: MissedCause,
}
