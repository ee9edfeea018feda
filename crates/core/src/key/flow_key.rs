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

    /// The key as sockets can have it: with port 0 where the protocol has no ports.
    #[must_use]
    pub fn of_sockets(self) -> Self {
        let bare = |end: Endpoint| if self.protocol.has_ports() { end } else { end.without_port() };
        Self { source: bare(self.source), destination: bare(self.destination), ..self }
    }
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} > {}", self.protocol, self.source, self.destination)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_has_no_ports() {
        let source = Endpoint::new([10, 0, 0, 1], 0);
        let destination = Endpoint::new([10, 0, 0, 2], 8 * 256);
        let ping = FlowKey { protocol: Protocol::ICMP, source, destination };
        assert_eq!(ping.of_sockets().destination, Endpoint::new([10, 0, 0, 2], 0));
        let tcp = FlowKey { protocol: Protocol::TCP, ..ping };
        assert_eq!(tcp.of_sockets(), tcp);
    }
}
