//! What was found out of a flow: facts that its messages state, each with the message it comes from. No payload
//! is among them.

use serde::Serialize;
use smol_str::SmolStr;

use super::{AnswerValue, ApplicationProtocol, Dns, Http, Quic, Ssh, Tls};

/// What was found out of a flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dissected {
    /// What it speaks, if that was recognised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<ApplicationProtocol>,
    /// What it spoke before it turned to that: SMTP before TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began_as: Option<ApplicationProtocol>,
    /// The service that a message itself names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<&'static str>,
    /// The hellos of TLS, of DTLS, of QUIC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Box<Tls>>,
    /// QUIC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quic: Option<Quic>,
    /// DNS, multicast DNS, LLMNR.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<Box<Dns>>,
    /// HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<Box<Http>>,
    /// SSH.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh: Option<Box<Ssh>>,
    /// The name by which the initiator had asked for the responder's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Resolved>,
}

/// A name that the initiator of a flow had asked DNS for, and been answered with the responder's address. That
/// the flow is for that name is likely, no more: several names may have one address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Resolved {
    /// The latest of them.
    pub name: SmolStr,
    /// How long before the flow's first packet the answer came, in nanoseconds.
    pub age: u64,
    /// Whether it was answered with that address for other names, too.
    pub ambiguous: bool,
}

/// What a text takes beside its place: short ones are in it.
fn beside(text: &SmolStr) -> usize {
    if text.is_heap_allocated() { text.len() + 16 } else { 0 }
}

impl Dissected {
    /// How much memory it takes, in octets, about.
    pub(super) fn weight(&self) -> usize {
        let texts = |texts: &[&Option<SmolStr>]| -> usize {
            texts.iter().filter_map(|text| text.as_ref()).map(beside).sum()
        };
        let dns = self.dns.as_ref().map_or(0, |dns| {
            let questions = dns.questions.iter().map(|question| 48 + beside(&question.name));
            let answers = dns.answers.iter();
            let answers = answers.map(|answer| {
                let alias = match &answer.value {
                    AnswerValue::Alias(name) => beside(name),
                    AnswerValue::Address(_) => 0,
                };
                48 + beside(&answer.name) + alias
            });
            size_of::<Dns>() + questions.sum::<usize>() + answers.sum::<usize>()
        });
        let tls = self.tls.as_ref().map_or(0, |tls| {
            let client = tls.client.as_ref().map_or(0, |client| {
                // JA4 is always too long for its place; so many versions are kept.
                80 + texts(&[&client.server_name, &client.alpn])
            });
            let certificate = tls.certificate.as_ref().map_or(0, |certificate| {
                let names = certificate.names.iter().map(|name| 24 + beside(name)).sum::<usize>();
                let whole = [&certificate.subject, &certificate.issuer];
                let whole = whole.iter().map(|text| beside(text)).sum::<usize>();
                names + whole + texts(&[&certificate.common_name, &certificate.organization])
            });
            let server = tls.server.as_ref().map_or(0, |server| 64 + texts(&[&server.alpn]));
            size_of::<Tls>() + client + server + certificate
        });
        let http = self.http.as_ref().map_or(0, |http| {
            let of_request = [&http.method, &http.host, &http.path, &http.user_agent];
            let of_answer = [&http.content_type, &http.server, &http.upgrade];
            size_of::<Http>() + texts(&of_request) + texts(&of_answer)
        });
        let ssh = self
            .ssh
            .as_ref()
            .map_or(0, |ssh| size_of::<Ssh>() + texts(&[&ssh.client, &ssh.server]));
        size_of::<Self>() + dns + tls + http + ssh
    }

    /// Only the protocol of it.
    pub(super) fn forget_all_but_the_protocol(&mut self) {
        *self = Self { protocol: self.protocol, began_as: self.began_as, ..Self::default() };
    }

    /// The host that the initiator wants, by what it says itself: in TLS, QUIC, HTTP, or the name that it asks
    /// DNS for.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        let tls = self.tls.as_ref().and_then(|tls| tls.client.as_ref()?.server_name.as_deref());
        let quic = || self.quic.as_ref().and_then(|quic| quic.server_name.as_deref());
        let http = || self.http.as_ref().and_then(|http| http.host.as_deref());
        let dns = || self.dns.as_ref().and_then(|dns| Some(dns.questions.first()?.name.as_str()));
        tls.or_else(quic).or_else(http).or_else(dns)
    }
}
