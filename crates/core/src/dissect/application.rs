//! The application of a flow: the protocol it speaks and the service it is for, with a word for how that is
//! known. What is only likely never looks like what was read.

use super::rules::{Named, Rules};
use super::{ApplicationProtocol, Dissected};
use crate::flow::{DirectionSource, Flow};
use crate::key::Protocol;

/// How an application is known, from the surest to the least sure; of a name in two parts the less sure one
/// counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Basis {
    /// The messages of the flow say so: the protocol was recognised, and the service, if there is one, follows
    /// from a name in them.
    Parsed,
    /// The protocol was recognised; the service follows from a certificate's organisation.
    Certificate,
    /// The service follows from the name that the initiator had asked DNS for.
    Resolved,
    /// The service follows from the responder's address.
    Address,
    /// Nothing was recognised; a port suggests it. That is a guess.
    Port,
    /// Nothing is known.
    Unknown,
}

impl Basis {
    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parsed => "parsed",
            Self::Certificate => "certificate",
            Self::Resolved => "resolved",
            Self::Address => "address",
            Self::Port => "port",
            Self::Unknown => "unknown",
        }
    }

    /// The number that NFStream has for it (nDPI's confidence): 6 read in the packets, 5 by what other flows
    /// said, 1 guessed, 0 unknown.
    #[must_use]
    pub const fn confidence(self) -> u64 {
        match self {
            Self::Parsed | Self::Certificate => 6,
            Self::Resolved => 5,
            Self::Address | Self::Port => 1,
            Self::Unknown => 0,
        }
    }

    /// Whether it is a guess: a port or an address says nothing of what is sent.
    #[must_use]
    pub const fn is_guess(self) -> bool {
        matches!(self, Self::Address | Self::Port)
    }
}

/// What a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Application {
    /// The protocol, by the name that rules have for it.
    pub protocol: Option<&'static str>,
    /// The service.
    pub service: Option<&'static str>,
    /// The category: the service's, or the protocol's.
    pub category: Option<&'static str>,
    /// How it is known.
    pub basis: Basis,
}

/// Protocols inside TLS, by the port that they have for that (RFC 8314, IANA).
const INSIDE_TLS: [(&str, &[u16]); 6] = [
    ("SMTPS", &[465, 587]),
    ("IMAPS", &[993]),
    ("POPS", &[995]),
    ("FTPS", &[989, 990]),
    ("LDAPS", &[636]),
    ("SIPS", &[5061]),
];

/// DNS over TLS and over QUIC (RFC 7858, RFC 9250).
const DNS_INSIDE: u16 = 853;

impl Application {
    /// What a flow is by what was found out of it, and by these rules.
    pub(crate) fn of(flow: &Flow, dissected: Option<&Dissected>, rules: &'static Rules) -> Self {
        let protocol = dissected.and_then(|found| found.protocol);
        let Some(protocol) = protocol else { return Self::unrecognised(flow, dissected, rules) };
        let found = dissected.map(|found| service(flow, protocol, found, rules));
        let (mut service, basis) = found.unwrap_or((None, Basis::Parsed));
        let mut named = name(flow, protocol, dissected, rules);
        // SMB is framed by the session service of NetBIOS, on its ports and on its own; nDPI says both.
        if [ApplicationProtocol::SMBV1, ApplicationProtocol::SMBV23].contains(&protocol) {
            (service, named) = (named, rules.of_protocol(ApplicationProtocol::NETBIOS));
        }
        // What somebody asks DNS for is not what the flow is; and mail stays mail, whoever's it is.
        let is_mail = named.is_some_and(|named| &*named.category == "Email");
        let own = protocol == ApplicationProtocol::DNS || is_mail;
        let category = service.filter(|_| !own).or(named).map(|named| &*named.category);
        let http = dissected.and_then(|found| found.http.as_ref()?.content_type.as_deref());
        let is_media =
            http.is_some_and(|kind| kind.starts_with("video/") || kind.starts_with("audio/"));
        let category = if is_media { Some("Media") } else { category };
        Self {
            protocol: Some(named.map_or(protocol.name(), |named| &named.name)),
            service: service.map(|service| &*service.name),
            category,
            basis,
        }
    }

    /// By the responder's port, or the initiator's; of the other protocols by their number.
    fn unrecognised(flow: &Flow, dissected: Option<&Dissected>, rules: &'static Rules) -> Self {
        let by_number = match flow.protocol.0 {
            1 => "ICMP",
            2 => "IGMP",
            47 => "GRE",
            50 | 51 => "IPSec",
            58 => "ICMPV6",
            89 => "OSPF",
            103 => "PIM",
            112 => "VRRP",
            132 => "SCTP",
            8 => "EGP",
            4 | 41 => "IP_in_IP",
            _ => "",
        };
        if let Some(named) = rules.protocol(by_number) {
            let (protocol, category) = (Some(&*named.name), Some(&*named.category));
            return Self { protocol, service: None, category, basis: Basis::Parsed };
        }
        let is_tcp = flow.protocol == Protocol::TCP;
        let by_port = [flow.destination_port, flow.source_port]
            .into_iter()
            .filter(|_| is_tcp || flow.protocol == Protocol::UDP)
            .find_map(|port| rules.of_port(is_tcp, port));
        let resolved = dissected
            .and_then(|found| found.resolved.as_ref())
            .filter(|resolved| !resolved.ambiguous)
            .and_then(|resolved| rules.of_host(&resolved.name));
        let by_address = || rules.of_address(flow.destination);
        let (service, basis) = match (resolved, by_port) {
            (Some(service), None) => (Some(service), Basis::Resolved),
            (service, Some(_)) => (service, Basis::Port),
            (None, None) => match by_address() {
                Some(service) => (Some(service), Basis::Address),
                None => (None, Basis::Unknown),
            },
        };
        Self {
            protocol: by_port.map(|named| &*named.name),
            service: service.map(|named| &*named.name),
            category: service.or(by_port).map(|named| &*named.category),
            basis,
        }
    }

    /// What it is called: the protocol, and the service behind a dot; `None` if neither is known.
    #[must_use]
    pub fn name(&self) -> Option<std::borrow::Cow<'static, str>> {
        match (self.protocol, self.service) {
            (Some(protocol), Some(service)) if protocol != service => {
                Some(format!("{protocol}.{service}").into())
            }
            (Some(one), _) | (None, Some(one)) => Some(one.into()),
            (None, None) => None,
        }
    }
}

/// The port of who answers; of a capture that begins in the middle, the smaller one: registered ports are.
fn responder_port(flow: &Flow) -> u16 {
    match flow.direction_source {
        DirectionSource::Syn | DirectionSource::SynAck => flow.destination_port,
        DirectionSource::FirstPacket => flow.destination_port.min(flow.source_port),
    }
}

/// What a protocol is called: in TLS the one inside it, as far as a port or what came before says it.
fn name(
    flow: &Flow,
    protocol: ApplicationProtocol,
    dissected: Option<&Dissected>,
    rules: &'static Rules,
) -> Option<&'static Named> {
    type P = ApplicationProtocol;
    if protocol == P::TLS {
        let before = match dissected.and_then(|found| found.began_as) {
            Some(P::SMTP) => Some("SMTPS"),
            Some(P::IMAP) => Some("IMAPS"),
            Some(P::POP3) => Some("POPS"),
            Some(P::FTP_CONTROL) => Some("FTPS"),
            // Through a proxy goes anything.
            Some(P::HTTP | P::SOCKS) | None => None,
            Some(other) => Some(other.name()),
        };
        let port = responder_port(flow);
        let by_port = || {
            let inside = |(_, of): &&(&str, &[u16])| of.contains(&port);
            INSIDE_TLS.iter().find(inside).map(|(name, _)| *name)
        };
        if let Some(inside) = before.or_else(by_port).and_then(|name| rules.protocol(name)) {
            return Some(inside);
        }
    }
    rules.of_protocol(protocol)
}

/// The service of a flow whose protocol is known, and how it is known.
fn service(
    flow: &Flow,
    protocol: ApplicationProtocol,
    found: &Dissected,
    rules: &'static Rules,
) -> (Option<&'static Named>, Basis) {
    let named = |name: &'static str| rules.service(name).or_else(|| rules.protocol(name));
    if let Some(service) = found.service.and_then(named) {
        return (Some(service), Basis::Parsed);
    }
    let by_name = |name: &str| rules.of_host(name);
    let alpn = found.tls.as_ref().and_then(|tls| tls.client.as_ref()?.alpn.as_deref());
    let is_tls = [ApplicationProtocol::TLS, ApplicationProtocol::QUIC, ApplicationProtocol::DTLS]
        .contains(&protocol);
    let names_dns = alpn
        .is_some_and(|alpn| alpn.split(',').any(|name| name == "dot" || name.starts_with("doq")));
    if is_tls && names_dns {
        return (rules.service("DoH_DoT"), Basis::Parsed);
    }
    if let Some(service) = found.server_name().and_then(by_name) {
        return (Some(service), Basis::Parsed);
    }
    if is_tls && responder_port(flow) == DNS_INSIDE {
        return (rules.service("DoH_DoT"), Basis::Parsed);
    }
    // What is said in clear is more than whose a certificate is, or what was asked before, even if no rule
    // knows it: many hosts share a certificate, and those who hold it for them.
    if protocol == ApplicationProtocol::DNS || found.server_name().is_some() {
        return (None, Basis::Parsed);
    }
    if let Some(certificate) = found.tls.as_ref().and_then(|tls| tls.certificate.as_ref()) {
        let named = certificate.common_name.as_deref().and_then(by_name);
        let named = named.or_else(|| certificate.names.iter().find_map(|name| by_name(name)));
        let organization = certificate.organization.as_deref();
        if let Some(service) = named.or_else(|| rules.of_certificate(organization?)) {
            return (Some(service), Basis::Certificate);
        }
    }
    let resolved = found.resolved.as_ref().filter(|resolved| !resolved.ambiguous);
    if let Some(service) = resolved.and_then(|resolved| by_name(&resolved.name)) {
        return (Some(service), Basis::Resolved);
    }
    (None, Basis::Parsed)
}
