//! TCP flags: how many packets have each, in each direction.

use super::{Family, Step};
use crate::flow::Both;

/// How many packets have which flag.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// By the flag's bit in the header: FIN, SYN, RST, PSH, ACK, URG, ECE, CWR.
    pub count: Both<[u32; 8]>,
    /// SYN without ACK: somebody opens a connection.
    pub opening: Both<u32>,
}

impl Family for Flags {
    #[inline]
    fn see(&mut self, step: &Step<'_>) {
        let Some(tcp) = step.tcp() else { return };
        let counts = self.count.of_mut(step.direction);
        for (bit, count) in counts.iter_mut().enumerate() {
            *count += u32::from(tcp.flags.0 >> bit & 1);
        }
        *self.opening.of_mut(step.direction) += u32::from(tcp.flags.opens());
    }
}
