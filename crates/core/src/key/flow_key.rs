//! A flow key says who talked to whom: the five fields that tell one flow from another.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Endpoint, Protocol};

/// The Flow Key (RFC 7011 section 2) in its usual form, the 5-tuple. It is directed: the source
/// sent the packets that were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FlowKey {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Who sent.
    pub source: Endpoint,
    /// Who was sent to. For ICMP the port holds type * 256 + code, as NetFlow has it.
    pub destination: Endpoint,
}

impl FlowKey {
    /// The key of the packets that went the other way.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { protocol: self.protocol, source: self.destination, destination: self.source }
    }
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} > {}", self.protocol, self.source, self.destination)
    }
}
