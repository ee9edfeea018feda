//! Sizes of packets: the length that is accounted, of each direction.

use super::{Family, Step, Summary};
use crate::flow::Both;

/// The sizes of a flow's packets, in octets.
#[derive(Clone, Debug, Default)]
pub struct Sizes(pub Both<Summary>);

impl Family for Sizes {
    #[inline]
    fn see(&mut self, step: &Step<'_>) {
        self.0.of_mut(step.direction).add(u64::from(step.size));
    }
}
