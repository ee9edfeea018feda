//! A socket, as far as it can explain a flow: where it lives, what it is bound to, whom it talks
//! to.

use std::net::IpAddr;

use procflow_core::{Endpoint, Protocol};
use serde::{Deserialize, Serialize};

/// A socket's identity within one boot: the kernel's socket cookie (`SO_COOKIE`, and
/// `idiag_cookie` in sock_diag(7)), or a number that a source without cookies gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SocketId(pub u64);

/// A network namespace's identity within one boot: the kernel's namespace cookie
/// (`SO_NETNS_COOKIE`, Linux 5.14), or the inode of its nsfs file where there is none. Inodes
/// are given again soon after a namespace died; cookies never are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NamespaceId(pub u64);

/// A network namespace, with the names that people know it by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Which one.
    pub id: NamespaceId,
    /// Inode of its nsfs file, as `ls -i` and `lsns` show it.
    pub inode: u64,
    /// Its name under `/run/netns`, where it has one.
    pub name: Option<String>,
    /// Whether it is the host's own (that of process 1 as the tracker sees it).
    pub initial: bool,
}

/// What a socket is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Has a peer: TCP from SYN to the last ACK, connected UDP.
    Connected,
    /// Waits for TCP connections.
    Listening,
    /// Bound without a peer: UDP that serves, or sends with `sendto`.
    Bound,
}

/// A socket's place among all traffic of its host. The fields are private because they must agree:
/// only a connected socket has a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Socket {
    namespace: NamespaceId,
    protocol: Protocol,
    local: Endpoint,
    remote: Option<Endpoint>,
    listening: bool,
    dual_stack: bool,
}

/// A socket as it travels; anything can be written here.
#[derive(Serialize, Deserialize)]
struct Raw {
    namespace: NamespaceId,
    protocol: Protocol,
    local: Endpoint,
    remote: Option<Endpoint>,
    listening: bool,
    dual_stack: bool,
}

impl Socket {
    /// A socket with a peer.
    #[must_use]
    pub fn connected(
        namespace: NamespaceId,
        protocol: Protocol,
        local: Endpoint,
        remote: Endpoint,
    ) -> Self {
        let dual_stack = false;
        Self { namespace, protocol, local, remote: Some(remote), listening: false, dual_stack }
    }

    /// A TCP socket that waits for connections.
    ///
    /// `dual_stack`: bound to `::` without `IPV6_V6ONLY` (RFC 3493 section 5.3), so that it takes
    /// IPv4 too. Ignored unless the address is `::`.
    #[must_use]
    pub fn listening(namespace: NamespaceId, local: Endpoint, dual_stack: bool) -> Self {
        let protocol = Protocol::TCP;
        let dual_stack = dual_stack && takes_both(local);
        Self { namespace, protocol, local, remote: None, listening: true, dual_stack }
    }

    /// A datagram socket without a peer; `dual_stack` as for [`Socket::listening`].
    #[must_use]
    pub fn bound(
        namespace: NamespaceId,
        protocol: Protocol,
        local: Endpoint,
        dual_stack: bool,
    ) -> Self {
        let dual_stack = dual_stack && takes_both(local);
        Self { namespace, protocol, local, remote: None, listening: false, dual_stack }
    }

    /// The network namespace it was created in.
    #[must_use]
    pub fn namespace(&self) -> NamespaceId {
        self.namespace
    }

    /// Its transport protocol.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// What it is bound to; the address may be the wildcard.
    #[must_use]
    pub fn local(&self) -> Endpoint {
        self.local
    }

    /// Its peer; `Some` exactly when it is connected.
    #[must_use]
    pub fn remote(&self) -> Option<Endpoint> {
        self.remote
    }

    /// Whether it is bound to `::` and takes IPv4 as well.
    #[must_use]
    pub fn is_dual_stack(&self) -> bool {
        self.dual_stack
    }

    /// What it is doing.
    #[must_use]
    pub fn role(&self) -> Role {
        match (self.remote, self.listening) {
            (Some(_), _) => Role::Connected,
            (None, true) => Role::Listening,
            (None, false) => Role::Bound,
        }
    }
}

/// Only the IPv6 wildcard can stand for both families.
fn takes_both(local: Endpoint) -> bool {
    matches!(local.address(), IpAddr::V6(a) if a.is_unspecified())
}

impl From<Socket> for Raw {
    fn from(s: Socket) -> Self {
        let Socket { namespace, protocol, local, remote, listening, dual_stack } = s;
        Self { namespace, protocol, local, remote, listening, dual_stack }
    }
}

impl TryFrom<Raw> for Socket {
    type Error = &'static str;

    fn try_from(raw: Raw) -> Result<Self, Self::Error> {
        let Raw { namespace, protocol, local, remote, listening, dual_stack } = raw;
        if listening && remote.is_some() {
            return Err("a listening socket has no peer");
        }
        if dual_stack && (remote.is_some() || !takes_both(local)) {
            return Err("only a socket bound to :: takes both families");
        }
        Ok(Self { namespace, protocol, local, remote, listening, dual_stack })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn only_the_v6_wildcard_is_dual_stack() {
        let v6 = Endpoint::new(Ipv6Addr::UNSPECIFIED, 80);
        let v4 = Endpoint::new(Ipv4Addr::UNSPECIFIED, 80);
        assert!(Socket::listening(NamespaceId(1), v6, true).is_dual_stack());
        assert!(!Socket::listening(NamespaceId(1), v6, false).is_dual_stack());
        assert!(!Socket::listening(NamespaceId(1), v4, true).is_dual_stack());
    }

    #[test]
    fn a_listener_with_a_peer_cannot_be_decoded() {
        let local = Endpoint::new(Ipv4Addr::LOCALHOST, 80);
        let raw = Raw {
            namespace: NamespaceId(1),
            protocol: Protocol::TCP,
            local,
            remote: Some(local),
            listening: true,
            dual_stack: false,
        };
        assert!(Socket::try_from(raw).is_err());
    }
}
