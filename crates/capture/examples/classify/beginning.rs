//! The beginning of a flow: how long its first payloads are, and which way they go. All that the classifier
//! knows: neither ports nor what is in a payload.

use procflow_core::flow::Direction;
use procflow_core::plugin::Shown;

/// What can be asked of a beginning, by the names that a model has for it.
pub(crate) const ASKED: [&str; 4] = ["size_1", "size_2", "size_3", "size_4"];

/// The answers, in the order of [`ASKED`]: the first payloads that are not empty, in octets; negative if
/// they go to the initiator, 0 behind the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Beginning(pub(crate) [i32; ASKED.len()]);

impl Beginning {
    /// Takes in a packet.
    pub(crate) fn see(&mut self, shown: &Shown<'_>) {
        let length = i32::try_from(shown.packet().lengths.payload).unwrap_or(i32::MAX);
        let way = if shown.direction() == Direction::Forward { 1 } else { -1 };
        if let Some(free) = self.0.iter_mut().find(|size| **size == 0) {
            *free = way * length;
        }
    }

    /// Whether nobody has sent a payload.
    pub(crate) fn is_silent(&self) -> bool {
        self.0[0] == 0
    }
}
