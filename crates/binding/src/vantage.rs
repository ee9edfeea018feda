//! A vantage says where a flow was seen, and by whose clock: without it a flow's addresses and
//! times have no meaning. `127.0.0.1` in two network namespaces, or `172.17.0.2` on every
//! container host, are different places.

use serde::{Deserialize, Serialize};

/// A tracked host: the first 16 bytes of the SHA-256 of its tracker's public key, so that no host
/// can speak for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostId(pub [u8; 16]);

impl std::fmt::Display for HostId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Where the exporter captured, and how its times are to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vantage {
    /// Where.
    pub place: Place,
    /// By whose clock.
    pub clock: FlowClock,
    /// How far off the record's times may be, in nanoseconds, either way.
    pub tolerance: u64,
    /// How finely the record counts time, in nanoseconds: its times are rounded down to a multiple
    /// of this. Not an error of any clock, so what this alone separates was seen in time.
    pub granularity: u64,
    /// Whether the record of an ICMP message tells its type and code, as nearly all exporters do. In
    /// one that does not they are 0, which is also the type of an echo reply.
    pub icmp_types: bool,
}

impl Vantage {
    /// One second: a NetFlow v9 header (RFC 3954 section 5.1) counts whole seconds, so that times
    /// derived from it may be up to a second off however good the clocks are.
    pub const TOLERANCE: u64 = 1_000_000_000;

    /// One millisecond, as nfcapd files and NetFlow v9 (RFC 3954 section 8, FIRST_SWITCHED 22)
    /// count.
    pub const GRANULARITY: u64 = 1_000_000;
}

/// Where a flow was captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On some network. An address means whichever tracked place holds it at the time; one that
    /// several hold means none of them for certain.
    Outside,
    /// Inside a network namespace of a tracked host: its own addresses, loopback too, mean itself.
    Inside(HostId, WhichNamespace),
}

/// Names a network namespace as people do. Resolved at the flow's time, because names and inodes
/// return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhichNamespace {
    /// The host's own.
    Initial,
    /// By its name under `/run/netns`.
    Named(String),
    /// By the inode of its nsfs file.
    Inode(u64),
}

/// Where a flow was captured, as people say it before it is known on which host: `outside`, `host`, or
/// `netns:` and a name or an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaceName {
    /// On some network.
    Outside,
    /// Inside a network namespace of the tracked host.
    Inside(WhichNamespace),
}

impl std::str::FromStr for PlaceName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.strip_prefix("netns:")) {
            ("outside", _) => Ok(Self::Outside),
            ("host", _) => Ok(Self::Inside(WhichNamespace::Initial)),
            (_, Some(name)) if !name.is_empty() => {
                let named = || WhichNamespace::Named(name.to_owned());
                Ok(Self::Inside(name.parse().map_or_else(|_| named(), WhichNamespace::Inode)))
            }
            _ => Err("is not outside, host or netns:NAME"),
        }
    }
}

/// The clock that stamped a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowClock {
    /// The tracked host's own real-time clock, steps and all: the exporter runs on it, or both
    /// are kept right by the same time service.
    Host,
    /// The clock of whoever collects the flows: the tracked host's may be wrong.
    Collector,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_outside_or_a_namespace() {
        let inside = |which| Ok(PlaceName::Inside(which));
        assert_eq!("outside".parse(), Ok(PlaceName::Outside));
        assert_eq!("host".parse(), inside(WhichNamespace::Initial));
        assert_eq!("netns:box".parse(), inside(WhichNamespace::Named("box".to_owned())));
        assert_eq!("netns:4026531840".parse(), inside(WhichNamespace::Inode(4_026_531_840)));
        assert!("netns:".parse::<PlaceName>().is_err() && "box".parse::<PlaceName>().is_err());
    }
}
