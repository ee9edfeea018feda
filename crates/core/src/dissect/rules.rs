//! Rules name what protocols alone do not: the service that a host name, a certificate or an address belongs
//! to, the category of both, and the protocol that a port suggests when nothing was recognised.
//!
//! They are data: `applications.toml` beside this file, which users extend with files of the same form. Of two
//! rules for the same thing the later one holds.

use std::net::IpAddr;
use std::sync::LazyLock;

use hashbrown::HashMap;
use serde::Deserialize;

use super::ApplicationProtocol;
use crate::packet::Address;

/// Why rules are not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// They are no TOML of this form; says where and why.
    #[error("{0}")]
    Form(String),
    /// An address is none, with or without the length of a prefix.
    #[error("{service}: {address:?} is no address such as 192.0.2.0/24")]
    Address {
        /// Whose.
        service: String,
        /// What stands there.
        address: String,
    },
    /// A host name has a character that none has.
    #[error("{service}: {host:?} is no host name")]
    Host {
        /// Whose.
        service: String,
        /// What stands there.
        host: String,
    },
    /// A name is empty, or has a character that would part it from others.
    #[error("{0:?} cannot be the name of an application")]
    Name(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    service: Vec<ServiceRule>,
    #[serde(default)]
    protocol: Vec<ProtocolRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceRule {
    name: String,
    category: String,
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    certificates: Vec<String>,
    #[serde(default)]
    addresses: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProtocolRule {
    name: String,
    category: String,
    #[serde(default)]
    tcp: Vec<u16>,
    #[serde(default)]
    udp: Vec<u16>,
}

/// A name and its category.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: Box<str>,
    pub(super) category: Box<str>,
}

/// The rules.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    services: Vec<Named>,
    protocols: Vec<Named>,
    /// By their names.
    service_names: HashMap<Box<str>, usize>,
    protocol_names: HashMap<Box<str>, usize>,
    /// Which protocol each one is that is recognised, by its place in the registry.
    recognised: Vec<Option<usize>>,
    hosts: HashMap<Box<str>, usize>,
    certificates: HashMap<Box<str>, usize>,
    /// By the length of the prefix and what is in front of it; and which lengths there are, the longest first.
    addresses: HashMap<(u32, u128), usize>,
    lengths: Vec<u32>,
    tcp: HashMap<u16, usize>,
    udp: HashMap<u16, usize>,
}

/// Two are the same if they are in the same place: nobody compares what they say.
impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Rules {}

static SHIPPED: LazyLock<Rules> = LazyLock::new(|| {
    let mut rules = Rules::default();
    // A test says that they are right; without them nothing has a name.
    let _ = rules.add(include_str!("applications.toml"));
    rules
});

impl Rules {
    /// Those that are shipped.
    #[must_use]
    pub fn shipped() -> &'static Self {
        &SHIPPED
    }

    /// Adds the rules of a file.
    ///
    /// # Errors
    /// When it is not of the form that `applications.toml` has. Some of its rules may be added then.
    pub fn add(&mut self, file: &str) -> Result<(), RulesError> {
        let file: File =
            toml::from_str(file).map_err(|error| RulesError::Form(error.to_string()))?;
        for ServiceRule { name, category, hosts, certificates, addresses } in file.service {
            let service = named(&mut self.services, &mut self.service_names, &name, category)?;
            for host in hosts {
                let usual = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
                if host.is_empty() || host.starts_with('.') || !host.chars().all(usual) {
                    return Err(RulesError::Host { service: name, host });
                }
                self.hosts.insert(host.to_ascii_lowercase().into(), service);
            }
            for certificate in certificates {
                self.certificates.insert(certificate.into(), service);
            }
            for address in addresses {
                let Some((length, front)) = prefix(&address) else {
                    return Err(RulesError::Address { service: name, address });
                };
                self.addresses.insert((length, front), service);
                if let Err(place) = self.lengths.binary_search_by(|other| length.cmp(other)) {
                    self.lengths.insert(place, length);
                }
            }
        }
        for ProtocolRule { name, category, tcp, udp } in file.protocol {
            let protocol = named(&mut self.protocols, &mut self.protocol_names, &name, category)?;
            self.tcp.extend(tcp.into_iter().map(|port| (port, protocol)));
            self.udp.extend(udp.into_iter().map(|port| (port, protocol)));
        }
        let place =
            |protocol: &ApplicationProtocol| self.protocol_names.get(protocol.name()).copied();
        self.recognised = ApplicationProtocol::ALL.iter().map(place).collect();
        Ok(())
    }

    /// The service that a host name belongs to: the longest suffix at a dot that a rule has.
    pub(super) fn of_host(&self, host: &str) -> Option<&Named> {
        let host = host.trim_end_matches('.');
        // A Host field may have a port.
        let host = host.rsplit_once(':').map_or(host, |(host, port)| {
            if port.bytes().all(|digit| digit.is_ascii_digit()) { host } else { "" }
        });
        let lower;
        let mut rest = if host.bytes().any(|octet| octet.is_ascii_uppercase()) {
            lower = host.to_ascii_lowercase();
            &lower
        } else {
            host
        };
        loop {
            if let Some(&service) = self.hosts.get(rest) {
                return self.services.get(service);
            }
            rest = rest.split_once('.')?.1;
        }
    }

    /// The service of a certificate's organisation.
    pub(super) fn of_certificate(&self, organization: &str) -> Option<&Named> {
        self.services.get(*self.certificates.get(organization)?)
    }

    /// The service that an address belongs to: the longest prefix that a rule has.
    pub(super) fn of_address(&self, address: Address) -> Option<&Named> {
        let found = self
            .lengths
            .iter()
            .find_map(|&length| self.addresses.get(&(length, address.0 & mask(length))).copied());
        self.services.get(found?)
    }

    /// The service of this name.
    pub(super) fn service(&self, name: &str) -> Option<&Named> {
        self.services.get(*self.service_names.get(name)?)
    }

    /// What the rules say of a protocol that is recognised.
    pub(super) fn of_protocol(&self, protocol: ApplicationProtocol) -> Option<&Named> {
        self.protocols.get((*self.recognised.get(protocol.place())?)?)
    }

    /// What the rules say of a protocol by its name.
    pub(super) fn protocol(&self, name: &str) -> Option<&Named> {
        self.protocols.get(*self.protocol_names.get(name)?)
    }

    /// The protocol that a port suggests.
    pub(super) fn of_port(&self, is_tcp: bool, port: u16) -> Option<&Named> {
        let ports = if is_tcp { &self.tcp } else { &self.udp };
        self.protocols.get(*ports.get(&port)?)
    }
}

fn named(
    all: &mut Vec<Named>,
    places: &mut HashMap<Box<str>, usize>,
    name: &str,
    category: String,
) -> Result<usize, RulesError> {
    let usual = |c: char| !c.is_control() && !c.is_whitespace() && c != '.' && c != ',';
    if name.is_empty() || !name.chars().all(usual) {
        return Err(RulesError::Name(name.to_owned()));
    }
    let category = category.into_boxed_str();
    if let Some(&place) = places.get(name) {
        all[place].category = category;
        return Ok(place);
    }
    places.insert(name.into(), all.len());
    all.push(Named { name: name.into(), category });
    Ok(all.len() - 1)
}

/// The length of a prefix, counted in the 128 bits of [`Address`], and its bits.
fn prefix(text: &str) -> Option<(u32, u128)> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length.parse::<u32>().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let (most, mapped) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
    let length = length.unwrap_or(most);
    (length <= most).then_some(())?;
    let length = length + mapped;
    Some((length, Address::from(address).0 & mask(length)))
}

fn mask(length: u32) -> u128 {
    u128::MAX.checked_shl(128 - length).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Result<Rules, RulesError> {
        let mut rules = Rules::default();
        rules.add(text).map(|()| rules)
    }

    #[test]
    fn what_is_shipped_is_right_and_has_every_protocol_that_is_recognised() {
        let rules = rules(include_str!("applications.toml")).unwrap();
        let missing = |protocol: &&ApplicationProtocol| rules.of_protocol(**protocol).is_none();
        let missing: Vec<_> = ApplicationProtocol::ALL.iter().filter(missing).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn the_longest_suffix_and_prefix_hold_and_later_rules_replace_earlier_ones() {
        let mut rules = rules(
            r#"
            [[service]]
            name = "Wide"
            category = "Web"
            hosts = ["example.org"]
            addresses = ["192.0.2.0/24", "2001:db8::/32"]
            [[service]]
            name = "Narrow"
            category = "Chat"
            hosts = ["chat.example.org"]
            addresses = ["192.0.2.7"]
            "#,
        )
        .unwrap();
        let host = |rules: &Rules, name: &str| rules.of_host(name).map(|named| named.name.clone());
        assert_eq!(host(&rules, "www.Example.org").as_deref(), Some("Wide"));
        assert_eq!(host(&rules, "a.chat.example.org.").as_deref(), Some("Narrow"));
        assert_eq!(host(&rules, "chat.example.org:8080").as_deref(), Some("Narrow"));
        assert_eq!(host(&rules, "notexample.org"), None);
        let address = |rules: &Rules, text: &str| {
            let address: IpAddr = text.parse().unwrap();
            rules.of_address(address.into()).map(|named| named.name.clone())
        };
        assert_eq!(address(&rules, "192.0.2.8").as_deref(), Some("Wide"));
        assert_eq!(address(&rules, "192.0.2.7").as_deref(), Some("Narrow"));
        assert_eq!(address(&rules, "2001:db8:1::1").as_deref(), Some("Wide"));
        assert_eq!(address(&rules, "192.0.3.7"), None);
        rules
            .add("[[service]]\nname = \"Mine\"\ncategory = \"Own\"\nhosts = [\"example.org\"]")
            .unwrap();
        assert_eq!(host(&rules, "www.example.org").as_deref(), Some("Mine"));
    }

    #[test]
    fn wrong_rules_are_refused_with_the_reason() {
        for (text, said) in [
            ("[[service]]\nname = 1", "line 2"),
            ("[[servce]]\nname = \"a\"", "unknown field"),
            ("[[service]]\nname = \"a.b\"\ncategory = \"c\"", "cannot be the name"),
            (
                "[[service]]\nname = \"a\"\ncategory = \"c\"\naddresses = [\"1.2.3.4/33\"]",
                "no address",
            ),
            ("[[service]]\nname = \"a\"\ncategory = \"c\"\nhosts = [\".a\"]", "no host name"),
        ] {
            let error = rules(text).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
