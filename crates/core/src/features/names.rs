//! What columns are called elsewhere: the one table of names in the Elastic Common Schema and in
//! OpenTelemetry's semantic conventions, for the program, the documentation and the tests.
//!
//! A name is there only where it means what the column means. Where its values are written in another way, the
//! table says how; nothing is converted here.

/// Names that others agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vocabulary {
    /// The Elastic Common Schema (ECS).
    Ecs,
    /// OpenTelemetry's semantic conventions, attribute registry.
    OpenTelemetry,
}

/// A name in a vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherName {
    /// The column, by its name in [`columns`](super::columns).
    pub column: &'static str,
    /// What it is called there.
    pub name: &'static str,
    /// How values must be written for that name; empty if as they are.
    pub values: &'static str,
}

impl OtherName {
    /// Whether values are written alike, so that the name alone makes the difference.
    #[must_use]
    pub fn is_name_alone(&self) -> bool {
        self.values.is_empty()
    }
}

impl Vocabulary {
    /// All columns that have a name there, in the order of the table.
    pub fn names(self) -> impl Iterator<Item = OtherName> {
        NAMES.iter().filter_map(move |&(column, ecs, otel)| {
            let (name, values) = match self {
                Self::Ecs => ecs,
                Self::OpenTelemetry => otel,
            };
            (!name.is_empty()).then_some(OtherName { column, name, values })
        })
    }

    /// What a column is called there, if it has a name.
    #[must_use]
    pub fn name(self, column: &str) -> Option<OtherName> {
        self.names().find(|other| other.column == column)
    }
}

/// A name, and how values must be written for it.
type Name = (&'static str, &'static str);

/// There is none.
const NONE: Name = ("", "");

/// How values are written where not as they are.
const ISO: &str = "a date: 1,795,342,500 is 2026-11-22T10:15:00Z";
const KEYWORD: &str = "IANA's keyword in small letters: tcp for 6, udp for 17";
const VERSION: &str = "ipv4 for 4, ipv6 for 6";
const DATE: &str = "a date: 1,795,342,500,000,000,000 is 2026-11-22T10:15:00Z";
const MAC: &str = "capital letters with - in between: 02-00-00-00-00-01";
const TAG: &str = "text; none for 0";

/// A column, its name in ECS, and its name in OpenTelemetry.
///
/// ECS does not say of which layer its bytes are; those of IP packets are what NetFlow exporters count and
/// what is put there of theirs. It has one process for an event, so only the initiator's has a name, as
/// in OpenTelemetry.
const NAMES: [(&str, Name, Name); 38] = [
    ("source_address", ("source.ip", ""), ("source.address", "")),
    ("source_port", ("source.port", ""), ("source.port", "")),
    ("source_mac", ("source.mac", MAC), NONE),
    ("destination_address", ("destination.ip", ""), ("destination.address", "")),
    ("destination_port", ("destination.port", ""), ("destination.port", "")),
    ("destination_mac", ("destination.mac", MAC), NONE),
    // The column is IANA's number: ECS has a field for that, OpenTelemetry for its keyword only.
    ("protocol", ("network.iana_number", ""), ("network.transport", KEYWORD)),
    ("ip_version", ("network.type", VERSION), ("network.type", VERSION)),
    ("community_id", ("network.community_id", ""), NONE),
    ("vlan_id", ("network.vlan.id", TAG), NONE),
    ("inner_vlan_id", ("network.inner.vlan.id", TAG), NONE),
    ("bidirectional_first_seen_ns", ("event.start", DATE), NONE),
    ("bidirectional_last_seen_ns", ("event.end", DATE), NONE),
    ("bidirectional_duration_ns", ("event.duration", ""), NONE),
    ("bidirectional_packets", ("network.packets", ""), NONE),
    ("forward_packets", ("source.packets", ""), NONE),
    ("reverse_packets", ("destination.packets", ""), NONE),
    ("bidirectional_ip_octets", ("network.bytes", ""), NONE),
    ("forward_ip_octets", ("source.bytes", ""), NONE),
    ("reverse_ip_octets", ("destination.bytes", ""), NONE),
    ("tls_alpn", ("tls.next_protocol", ""), ("tls.next_protocol", "")),
    ("ja3", ("tls.client.ja3", ""), ("tls.client.ja3", "")),
    ("ja3s", ("tls.server.ja3s", ""), ("tls.server.ja3s", "")),
    ("certificate_subject", ("tls.server.subject", ""), ("tls.server.subject", "")),
    ("certificate_issuer", ("tls.server.issuer", ""), ("tls.server.issuer", "")),
    ("certificate_not_before", ("tls.server.not_before", ISO), ("tls.server.not_before", ISO)),
    ("certificate_not_after", ("tls.server.not_after", ISO), ("tls.server.not_after", ISO)),
    ("dns_query", ("dns.question.name", ""), ("dns.question.name", "")),
    ("dns_query_type", ("dns.question.type", ""), NONE),
    ("http_method", ("http.request.method", ""), ("http.request.method", "")),
    ("http_user_agent", ("user_agent.original", ""), ("user_agent.original", "")),
    ("http_status", ("http.response.status_code", ""), ("http.response.status_code", "")),
    ("source_process", ("process.name", ""), NONE),
    ("source_pid", ("process.pid", ""), ("process.pid", "")),
    // OpenTelemetry's process.executable.name is the base name of this, not the command name.
    ("source_executable", ("process.executable", ""), ("process.executable.path", "")),
    ("source_user", ("source.user.name", ""), ("process.owner", "")),
    ("source_container", ("container.id", ""), ("container.id", "")),
    ("destination_user", ("destination.user.name", ""), NONE),
];

#[cfg(test)]
mod tests {
    use super::super::columns;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_of_columns_and_each_is_of_one() {
        let known: BTreeSet<&str> = columns().iter().map(|column| column.name).collect();
        for vocabulary in [Vocabulary::Ecs, Vocabulary::OpenTelemetry] {
            let names: Vec<OtherName> = vocabulary.names().collect();
            let theirs: BTreeSet<&str> = names.iter().map(|other| other.name).collect();
            let ours: BTreeSet<&str> = names.iter().map(|other| other.column).collect();
            assert_eq!((theirs.len(), ours.len()), (names.len(), names.len()), "{vocabulary:?}");
            assert!(ours.is_subset(&known), "{:?}", ours.difference(&known));
            // A column may not get a name that another column has already.
            assert!(theirs.is_disjoint(&known), "{vocabulary:?}");
        }
    }

    #[test]
    fn some_names_are_names_alone() {
        let name = |vocabulary: Vocabulary, column| {
            vocabulary.name(column).map(|other| (other.name, other.is_name_alone()))
        };
        let (ecs, otel) = (Vocabulary::Ecs, Vocabulary::OpenTelemetry);
        assert_eq!(name(ecs, "source_address"), Some(("source.ip", true)));
        assert_eq!(name(otel, "source_address"), Some(("source.address", true)));
        assert_eq!(name(ecs, "protocol"), Some(("network.iana_number", true)));
        assert_eq!(name(otel, "protocol"), Some(("network.transport", false)));
        assert_eq!(name(otel, "community_id"), None);
    }
}
