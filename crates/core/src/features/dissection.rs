//! The columns of what a flow speaks: what `dissect` found in its messages, each by a name of its own, and all of
//! it nested in the last one.

use std::borrow::Cow;
use std::fmt::{self, Write};

use super::{Column, Kind, Needs, Value};
use crate::dissect::{
    Answer, Certificate, ClientHello, Digest, Dissected, Dns, Http, QuicVersion, Resolved,
    ServerHello, Ssh,
};
use crate::flow::Record;

/// What can be asked of a record's messages.
impl Record {
    pub(crate) fn client_hello(&self) -> Option<&ClientHello> {
        self.dissected.as_ref()?.tls.as_ref()?.client.as_ref()
    }

    pub(crate) fn server_hello(&self) -> Option<&ServerHello> {
        self.dissected.as_ref()?.tls.as_ref()?.server.as_ref()
    }

    pub(crate) fn certificate(&self) -> Option<&Certificate> {
        self.dissected.as_ref()?.tls.as_ref()?.certificate.as_ref()
    }

    pub(crate) fn dns(&self) -> Option<&Dns> {
        self.dissected.as_ref()?.dns.as_deref()
    }

    pub(crate) fn http(&self) -> Option<&Http> {
        self.dissected.as_ref()?.http.as_deref()
    }

    pub(crate) fn ssh(&self) -> Option<&Ssh> {
        self.dissected.as_ref()?.ssh.as_deref()
    }

    fn resolved(&self) -> Option<&Resolved> {
        self.dissected.as_ref()?.resolved.as_ref()
    }

    /// The program that the client says it is: in HTTP, or in Google's QUIC.
    pub(crate) fn user_agent(&self) -> Option<&str> {
        let http = self.http().and_then(|http| http.user_agent.as_deref());
        http.or_else(|| self.dissected.as_ref()?.quic.as_ref()?.user_agent.as_deref())
    }

    pub(crate) fn server_name(&self) -> Option<&str> {
        self.dissected.as_deref().and_then(Dissected::server_name)
    }
}

/// A text, if there is one.
pub(crate) fn text<T: AsRef<str> + ?Sized>(text: Option<&T>) -> Value<'_> {
    text.map_or(Value::Null, |text| Value::text(text.as_ref()))
}

/// A digest in hex, if there is one.
pub(crate) fn digest<const N: usize>(digest: Option<Digest<N>>) -> Value<'static> {
    owned(digest.map(|digest| digest.hex()))
}

fn owned(text: Option<String>) -> Value<'static> {
    text.map_or(Value::Null, |text| Value::Text(Cow::Owned(text)))
}

fn joined<'a>(texts: impl Iterator<Item = impl fmt::Display> + 'a) -> Value<'static> {
    let mut all = String::new();
    for text in texts {
        if !all.is_empty() {
            all.push(',');
        }
        let _: fmt::Result = write!(all, "{text}");
    }
    owned(Some(all).filter(|all| !all.is_empty()))
}

pub(super) fn columns(table: &mut Vec<Column>) {
    application(table);
    tls(table);
    dns(table);
    http(table);
    ssh(table);
    one!(
        table,
        "resolved_name",
        "",
        Text,
        DISSECTION,
        "The name under which an answer of DNS had told the initiator the responder's address",
        |record| text(record.resolved().map(|resolved| &resolved.name))
    );
    one!(
        table,
        "resolved_age_ns",
        "ns",
        Unsigned,
        DISSECTION,
        "From that answer to the first packet of the flow's first record",
        |record| Value::unsigned(record.resolved().map(|resolved| resolved.age))
    );
    one!(
        table,
        "resolved_ambiguous",
        "",
        Boolean,
        DISSECTION,
        "Whether it was told that address for other names, too",
        |record| {
            record.resolved().map_or(Value::Null, |resolved| Value::Boolean(resolved.ambiguous))
        }
    );
    one!(
        table,
        "dissection",
        "",
        Text,
        DISSECTION,
        "All that was found in the messages, nested: an object in JSON lines, its text elsewhere",
        |record| {
            let dissected = record.dissected.as_ref();
            match dissected.and_then(|found| serde_json::to_string(found).ok()) {
                Some(object) => Value::Object(object.into()),
                None => Value::Null,
            }
        }
    );
}

fn application(table: &mut Vec<Column>) {
    one!(
        table,
        "application_name",
        "",
        Text,
        DISSECTION,
        "What the flow speaks, and behind a dot the service it is for; see application_basis for how that is known",
        |record| record
            .application
            .and_then(|application| application.name())
            .map_or(Value::Null, Value::Text)
    );
    one!(
        table,
        "application_category",
        "",
        Text,
        DISSECTION,
        "The category of the service, or of the protocol",
        |record| text(record.application.and_then(|application| application.category))
    );
    one!(
        table,
        "application_basis",
        "",
        Text,
        DISSECTION,
        "How the application is known: parsed (its messages say so), certificate (the service by a name in it), resolved (the service by what the initiator had asked DNS for), address or port (guesses), unknown",
        |record| text(record.application.map(|application| application.basis.name()))
    );
    one!(
        table,
        "server_name",
        "",
        Text,
        DISSECTION,
        "The host that the initiator wants, as it says: in TLS or QUIC, as Host of HTTP, or the name it asks DNS for",
        |record| text(record.server_name())
    );
}

fn tls(table: &mut Vec<Column>) {
    one!(table, "tls_version", "", Text, DISSECTION, "Version of TLS that was chosen", |record| {
        record
            .server_hello()
            .map_or(Value::Null, |hello| owned(Some(hello.version.name().to_string())))
    });
    one!(
        table,
        "tls_versions_offered",
        "",
        Text,
        DISSECTION,
        "Versions of TLS that the client offers, with commas in between",
        |record| match record.client_hello() {
            Some(hello) => joined(hello.versions.iter().map(|version| version.name())),
            None => Value::Null,
        }
    );
    one!(
        table,
        "tls_alpn_offered",
        "",
        Text,
        DISSECTION,
        "Protocols inside that the client offers (ALPN), with commas in between",
        |record| text(record.client_hello().and_then(|hello| hello.alpn.as_ref()))
    );
    one!(
        table,
        "tls_alpn",
        "",
        Text,
        DISSECTION,
        "Protocol inside that the server chose, where it says so in clear",
        |record| text(record.server_hello().and_then(|hello| hello.alpn.as_ref()))
    );
    one!(
        table,
        "tls_cipher",
        "",
        Unsigned,
        DISSECTION,
        "Cipher suite that was chosen, by IANA's number",
        |record| Value::unsigned(record.server_hello().map(|hello| hello.cipher.into()))
    );
    one!(
        table,
        "tls_encrypted_name",
        "",
        Boolean,
        DISSECTION,
        "Whether the client hides the name it wants (ECH, ESNI); some only pretend to",
        |record| {
            record.client_hello().map_or(Value::Null, |hello| Value::Boolean(hello.encrypted_name))
        }
    );
    one!(table, "ja3", "", Text, DISSECTION, "JA3 of the ClientHello", |record| {
        digest(record.client_hello().map(|hello| hello.ja3))
    });
    one!(table, "ja3s", "", Text, DISSECTION, "JA3S of the ServerHello", |record| {
        digest(record.server_hello().map(|hello| hello.ja3s))
    });
    one!(table, "ja4", "", Text, DISSECTION, "JA4 of the ClientHello", |record| {
        text(record.client_hello().map(|hello| &hello.ja4))
    });
    one!(table, "ja4s", "", Text, DISSECTION, "JA4S of the ServerHello", |record| {
        text(record.server_hello().map(|hello| &hello.ja4s))
    });
    one!(
        table,
        "certificate_subject",
        "",
        Text,
        DISSECTION,
        "Whose the server's certificate is (TLS before 1.3); nothing of it is verified",
        |record| text(record.certificate().map(|certificate| &certificate.subject))
    );
    one!(
        table,
        "certificate_organization",
        "",
        Text,
        DISSECTION,
        "Organisation in that",
        |record| text(
            record.certificate().and_then(|certificate| certificate.organization.as_ref())
        )
    );
    one!(
        table,
        "certificate_names",
        "",
        Text,
        DISSECTION,
        "Host names that the certificate is for, at most 16, with commas in between",
        |record| match record.certificate() {
            Some(certificate) => joined(certificate.names.iter()),
            None => Value::Null,
        }
    );
    one!(table, "certificate_issuer", "", Text, DISSECTION, "Who issued it", |record| {
        text(record.certificate().map(|certificate| &certificate.issuer))
    });
    one!(
        table,
        "certificate_not_before",
        "s since 1970",
        Signed,
        DISSECTION,
        "From when on it holds",
        |record| seconds(record.certificate().map(|certificate| certificate.not_before))
    );
    one!(
        table,
        "certificate_not_after",
        "s since 1970",
        Signed,
        DISSECTION,
        "Until when it holds",
        |record| seconds(record.certificate().map(|certificate| certificate.not_after))
    );
    one!(table, "certificate_sha256", "", Text, DISSECTION, "SHA-256 of all of it", |record| {
        digest(record.certificate().map(|certificate| certificate.sha256))
    });
    one!(
        table,
        "quic_version",
        "",
        Text,
        DISSECTION,
        "Version of QUIC in the first packet",
        |record| {
            let quic = record.dissected.as_ref().and_then(|found| found.quic.as_ref());
            owned(quic.map(|quic| QuicVersion::name(quic.version).to_string()))
        }
    );
}

pub(crate) fn seconds(time: Option<i64>) -> Value<'static> {
    time.map_or(Value::Null, Value::Signed)
}

fn dns(table: &mut Vec<Column>) {
    one!(table, "dns_query", "", Text, DISSECTION, "Name in the first question", |record| {
        text(record.dns().and_then(|dns| Some(&dns.questions.first()?.name)))
    });
    one!(table, "dns_query_type", "", Text, DISSECTION, "Type in the first question", |record| {
        text(record.dns().and_then(|dns| Some(&dns.questions.first()?.kind)))
    });
    one!(
        table,
        "dns_answers",
        "",
        Text,
        DISSECTION,
        "Addresses and aliases in the answers, at most 16, with commas in between",
        |record| match record.dns() {
            Some(dns) => joined(dns.answers.iter().map(|Answer { value, .. }| value)),
            None => Value::Null,
        }
    );
    one!(
        table,
        "dns_response_code",
        "",
        Unsigned,
        DISSECTION,
        "How the first answer ended (RCODE): 0 no error, 3 no such name",
        |record| Value::unsigned(record.dns().and_then(|dns| dns.response_code).map(u64::from))
    );
}

fn http(table: &mut Vec<Column>) {
    one!(table, "http_method", "", Text, DISSECTION, "Method of the first request", |record| {
        text(record.http().and_then(|http| http.method.as_ref()))
    });
    one!(table, "http_host", "", Text, DISSECTION, "Host field of the first request", |record| {
        text(record.http().and_then(|http| http.host.as_ref()))
    });
    one!(
        table,
        "http_path_length",
        "octets",
        Unsigned,
        DISSECTION,
        "Length of the first request's target",
        |record| Value::unsigned(record.http().and_then(|http| http.path_length).map(u64::from))
    );
    one!(
        table,
        "http_path",
        "",
        Text,
        DISSECTION,
        "The target itself, only with --http-paths; values in its query are blanked",
        |record| text(record.http().and_then(|http| http.path.as_ref()))
    );
    one!(
        table,
        "http_user_agent",
        "",
        Text,
        DISSECTION,
        "What the client says it is: User-Agent field, or the same in Google's QUIC",
        |record| text(record.user_agent())
    );
    one!(table, "http_status", "", Unsigned, DISSECTION, "Status of the first answer", |record| {
        Value::unsigned(record.http().and_then(|http| http.status).map(u64::from))
    });
    one!(
        table,
        "http_content_type",
        "",
        Text,
        DISSECTION,
        "Content-Type field of the first answer; without one, of the first request",
        |record| text(record.http().and_then(|http| http.content_type.as_ref()))
    );
    one!(
        table,
        "http_server",
        "",
        Text,
        DISSECTION,
        "Server field of the first answer",
        |record| { text(record.http().and_then(|http| http.server.as_ref())) }
    );
}

fn ssh(table: &mut Vec<Column>) {
    one!(table, "ssh_client", "", Text, DISSECTION, "What the SSH client says it is", |record| {
        text(record.ssh().and_then(|ssh| ssh.client.as_ref()))
    });
    one!(table, "ssh_server", "", Text, DISSECTION, "What the SSH server says it is", |record| {
        text(record.ssh().and_then(|ssh| ssh.server.as_ref()))
    });
    one!(table, "hassh", "", Text, DISSECTION, "HASSH of the SSH client's offer", |record| {
        digest(record.ssh().and_then(|ssh| ssh.hassh))
    });
    one!(
        table,
        "hassh_server",
        "",
        Text,
        DISSECTION,
        "HASSH of the SSH server's offer",
        |record| { digest(record.ssh().and_then(|ssh| ssh.hassh_server)) }
    );
}
