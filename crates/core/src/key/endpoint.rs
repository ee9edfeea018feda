//! An endpoint is one end of a conversation: an address and a port.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// An address and a transport port.
///
/// The address is always canonical: `::ffff:10.0.0.1` is stored as `10.0.0.1` (RFC 4291 section
/// 2.5.5.2), whatever it was built or decoded from, because the kernel reports the same socket
/// either way. The port is 0 where the protocol has none or the socket is not bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(IpAddr, u16)", into = "(IpAddr, u16)")]
pub struct Endpoint {
    address: IpAddr,
    port: u16,
}

impl Endpoint {
    /// The endpoint `address`:`port`, the address made canonical.
    #[must_use]
    pub fn new(address: impl Into<IpAddr>, port: u16) -> Self {
        Self { address: address.into().to_canonical(), port }
    }

    /// The canonical address.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// The port, 0 where there is none.
    #[must_use]
    pub fn port(self) -> u16 {
        self.port
    }

    /// The same address with port 0.
    #[must_use]
    pub fn without_port(self) -> Self {
        Self { port: 0, ..self }
    }

    /// Whether the address is the unspecified one (`0.0.0.0` or `::`), which stands for all
    /// addresses of the socket's network namespace.
    #[must_use]
    pub fn is_wildcard(self) -> bool {
        self.address.is_unspecified()
    }
}

impl From<(IpAddr, u16)> for Endpoint {
    fn from((address, port): (IpAddr, u16)) -> Self {
        Self::new(address, port)
    }
}

impl From<Endpoint> for (IpAddr, u16) {
    fn from(endpoint: Endpoint) -> Self {
        (endpoint.address, endpoint.port)
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::new(address.ip(), address.port())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address, self.port).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn a_v4_mapped_address_is_its_v4_address() {
        let mapped: Ipv6Addr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(Endpoint::new(mapped, 80), Endpoint::new(Ipv4Addr::new(10, 0, 0, 1), 80));
    }

    #[test]
    fn a_v6_endpoint_prints_with_brackets() {
        assert_eq!(Endpoint::new(Ipv6Addr::LOCALHOST, 443).to_string(), "[::1]:443");
    }
}
