//! A certificate (X.509, RFC 5280) that a server shows where it travels in clear: before TLS 1.3. Nothing of
//! it is verified; it is what the server says of itself.

use ring::digest::{SHA256, digest};
use serde::Serialize;
use smol_str::SmolStr;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate, X509Name};

use super::ja::hex;
use crate::dissect::text::shown;

/// So many names of a certificate are kept; there are some with hundreds.
const NAMES: usize = 16;

/// What the server's own certificate says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// Whose it is (subject), as a distinguished name.
    pub subject: SmolStr,
    /// The common name in that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub common_name: Option<SmolStr>,
    /// The organisation in that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization: Option<SmolStr>,
    /// The host names that it is for (subjectAltName), at most 16 of them.
    pub names: Vec<SmolStr>,
    /// Who issued it.
    pub issuer: SmolStr,
    /// From when on it holds, in seconds since 1970.
    pub not_before: i64,
    /// Until when.
    pub not_after: i64,
    /// SHA-256 of all of it, in hex.
    pub sha256: SmolStr,
}

impl Certificate {
    /// Reads one; `None` if it is none.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let mut names = Vec::new();
        for extension in certificate.extensions() {
            if let ParsedExtension::SubjectAlternativeName(alternative) =
                extension.parsed_extension()
            {
                let hosts = alternative.general_names.iter().filter_map(|name| match name {
                    GeneralName::DNSName(name) => Some(shown(name.as_bytes())),
                    _ => None,
                });
                names.extend(hosts.take(NAMES - names.len()));
            }
        }
        let first = |mut values: Box<dyn Iterator<Item = &[u8]> + '_>| values.next().map(shown);
        let validity = certificate.validity();
        Some(Self {
            subject: distinguished(subject),
            common_name: first(Box::new(subject.iter_common_name().map(|name| name.as_slice()))),
            organization: first(Box::new(subject.iter_organization().map(|name| name.as_slice()))),
            names,
            issuer: distinguished(certificate.issuer()),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            sha256: hex(digest(&SHA256, der).as_ref()),
        })
    }
}

fn distinguished(name: &X509Name<'_>) -> SmolStr {
    shown(name.to_string().as_bytes())
}
