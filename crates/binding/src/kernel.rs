//! The kernel speaks for itself, too: it answers pings, reports errors, wraps tunnels. What it
//! says so is nobody's, whoever has a raw socket open at the time.

use procflow_core::Protocol;

/// Who can have sent a message - or, of one that was received, who it can have been meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaker {
    /// Whoever has a socket for it.
    Sockets,
    /// The kernel alone.
    Kernel,
    /// The record does not tell.
    Either,
}

impl Speaker {
    /// Of a flow's packets; `port` is the record's destination port, which holds type * 256 + code
    /// of an ICMP message; `None` when the exporter does not tell them.
    pub(crate) fn of(protocol: Protocol, port: Option<u16>, sent: bool) -> Self {
        let Some(port) = port else {
            let icmp = matches!(protocol, Protocol::ICMP | Protocol::ICMPV6);
            return if icmp && sent { Self::Either } else { Self::Sockets };
        };
        let [kind, _] = port.to_be_bytes();
        match (protocol, kind) {
            // RFC 792, types of messages; 0 is the echo reply.
            (Protocol::ICMP, 0) => Self::of_request(!sent),
            (Protocol::ICMP, 8 | 13 | 15 | 17) => Self::of_request(sent),
            (Protocol::ICMP, 14 | 16 | 18) => Self::of_request(!sent),
            // Errors, source quench, redirects.
            (Protocol::ICMP, 3 | 4 | 5 | 11 | 12) => Self::Kernel,
            // RFC 4443 section 2.1: errors.
            (Protocol::ICMPV6, 1..=4) => Self::Kernel,
            (Protocol::ICMPV6, 128) => Self::of_request(sent),
            (Protocol::ICMPV6, 129) => Self::of_request(!sent),
            // Multicast listeners (RFC 2710, RFC 3810), and neighbours and redirects (RFC 4861).
            // Router solicitations and advertisements are sent by programs, as a rule.
            (Protocol::ICMPV6, 130..=132 | 135..=137 | 143) => Self::Kernel,
            _ => Self::Sockets,
        }
    }

    /// Programs ask, and the kernel answers.
    fn of_request(sent: bool) -> Self {
        if sent { Self::Sockets } else { Self::Kernel }
    }
}

/// Whether Linux itself sends and receives such packets, beside any socket. Of protocols with
/// ports it sends from sockets only (and refusals from where there is none).
pub(crate) fn speaks(protocol: Protocol) -> bool {
    // By IANA's "Protocol Numbers": ICMP, IGMP, IPv4, IPv6, GRE, ESP, AH, ICMPv6, PIM, IPComp, L2TP,
    // MPLS-in-IP.
    matches!(protocol.0, 1 | 2 | 4 | 41 | 47 | 50 | 51 | 58 | 103 | 108 | 115 | 137)
}

/// Whether a source that says it is complete tells of every socket of this protocol. Of others it tells
/// those that send; who only receives may have a socket all the same.
pub(crate) fn is_followed(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::TCP | Protocol::UDP) || speaks(protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_ask_and_the_kernel_answers() {
        let echo = |kind: u16, sent| Speaker::of(Protocol::ICMP, Some(kind * 256), sent);
        assert_eq!(echo(8, true), Speaker::Sockets);
        assert_eq!(echo(8, false), Speaker::Kernel);
        assert_eq!(echo(0, true), Speaker::Kernel);
        assert_eq!(echo(0, false), Speaker::Sockets);
        for protocol in [Protocol::ICMP, Protocol::ICMPV6] {
            assert_eq!(Speaker::of(protocol, None, true), Speaker::Either);
            assert_eq!(Speaker::of(protocol, None, false), Speaker::Sockets);
        }
        assert_eq!(Speaker::of(Protocol::ICMPV6, Some(129 * 256), true), Speaker::Kernel);
        assert_eq!(Speaker::of(Protocol::ICMPV6, Some(129 * 256), false), Speaker::Sockets);
        assert_eq!(Speaker::of(Protocol::ICMPV6, Some(0), true), Speaker::Sockets);
    }

    #[test]
    fn errors_are_the_kernels_and_ports_are_no_types() {
        for sent in [true, false] {
            // Port unreachable.
            assert_eq!(Speaker::of(Protocol::ICMP, Some(771), sent), Speaker::Kernel);
            assert_eq!(Speaker::of(Protocol::ICMPV6, Some(260), sent), Speaker::Kernel);
            assert_eq!(Speaker::of(Protocol::UDP, Some(771), sent), Speaker::Sockets);
        }
    }
}
