//! A certificate (X.509, RFC 5280) that a server shows where it travels in clear: before TLS 1.3. Nothing of
//! it is verified; it is what the server says of itself.

use ring::digest::{SHA256, digest};
use serde::Serialize;
use smol_str::SmolStr;
use x509_parser::asn1_rs::{FromDer, Sequence};
use x509_parser::certificate::X509CertificateParser;
use x509_parser::extensions::GeneralName;
use x509_parser::nom::Parser;
use x509_parser::oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME;
use x509_parser::x509::X509Name;

use crate::dissect::Digest;
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
    /// SHA-256 of all of it.
    pub sha256: Digest<32>,
}

impl Certificate {
    /// Reads one; `None` if it is none.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
        let (_, certificate) = parser.parse(der).ok()?;
        let subject = certificate.subject();
        let alternative = certificate
            .extensions()
            .iter()
            .filter(|extension| extension.oid == OID_X509_EXT_SUBJECT_ALT_NAME);
        let first = |mut values: Box<dyn Iterator<Item = &[u8]> + '_>| values.next().map(shown);
        let validity = certificate.validity();
        Some(Self {
            subject: distinguished(subject),
            common_name: first(Box::new(subject.iter_common_name().map(|name| name.as_slice()))),
            organization: first(Box::new(subject.iter_organization().map(|name| name.as_slice()))),
            names: alternative.flat_map(|extension| hosts(extension.value)).take(NAMES).collect(),
            issuer: distinguished(certificate.issuer()),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            sha256: Digest(digest(&SHA256, der).as_ref().try_into().ok()?),
        })
    }
}

/// The first host names in a subjectAltName (RFC 5280 section 4.2.1.6), as far as it is right. The library's own
/// reader of it reads all there are.
fn hosts(value: &[u8]) -> Vec<SmolStr> {
    let mut names = Vec::new();
    let Ok((_, all)) = Sequence::from_der(value) else { return names };
    let mut rest = &*all.content;
    while names.len() < NAMES
        && let Ok((behind, name)) = GeneralName::from_der(rest)
    {
        rest = behind;
        if let GeneralName::DNSName(name) = name {
            names.push(shown(name.as_bytes()));
        }
    }
    names
}

/// A distinguished name, as the library writes it: by hand if there is nothing in it but texts of the usual
/// types, because all those in between cost as much as reading the certificate.
fn distinguished(name: &X509Name<'_>) -> SmolStr {
    usual(name).map_or_else(|| shown(name.to_string().as_bytes()), |text| shown(text.as_bytes()))
}

fn usual(name: &X509Name<'_>) -> Option<String> {
    let mut text = String::with_capacity(128);
    for relative in name.iter_rdn() {
        if !text.is_empty() {
            text.push_str(", ");
        }
        let mut attributes = relative.iter();
        let (Some(attribute), None) = (attributes.next(), attributes.next()) else { return None };
        // Under 2.5.4, the types that X.520 has (RFC 4519).
        text.push_str(match attribute.attr_type().as_bytes() {
            [0x55, 4, 3] => "CN=",
            [0x55, 4, 6] => "C=",
            [0x55, 4, 7] => "L=",
            [0x55, 4, 8] => "ST=",
            [0x55, 4, 10] => "O=",
            [0x55, 4, 11] => "OU=",
            _ => return None,
        });
        text.push_str(attribute.as_str().ok()?);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name of one attribute each: the last octet of its type under 2.5.4, the tag of the text, the text.
    fn name(attributes: &[(u8, u8, &[u8])]) -> Vec<u8> {
        let within = |tag: u8, content: &[u8]| [&[tag, content.len() as u8], content].concat();
        let all: Vec<u8> = attributes
            .iter()
            .flat_map(|&(kind, tag, text)| {
                let pair = [within(6, &[0x55, 4, kind]), within(tag, text)].concat();
                within(0x31, &within(0x30, &pair))
            })
            .collect();
        within(0x30, &all)
    }

    #[test]
    fn names_are_written_as_the_library_writes_them() {
        for (attributes, by_hand) in [
            (
                &[(6, 0x13, &b"DE"[..]), (10, 0x0c, "Müller".as_bytes()), (3, 0x16, b"a.example")]
                    [..],
                true,
            ),
            (&[(8, 0x0c, b"Bayern"), (7, 0x0c, b"Hof"), (11, 0x12, b"12")], true),
            // A serial number, a text of two octets a character, one that is no UTF-8.
            (&[(6, 0x13, b"DE"), (5, 0x13, b"77")], false),
            (&[(3, 0x1e, b"\0a\0b")], false),
            (&[(3, 0x0c, b"\xff")], false),
            (&[], true),
        ] {
            let der = name(attributes);
            let (_, name) = X509Name::from_der(&der).expect("a name");
            assert_eq!(usual(&name).is_some(), by_hand, "{attributes:?}");
            assert_eq!(distinguished(&name), shown(name.to_string().as_bytes()));
        }
    }

    #[test]
    fn so_many_hosts_are_read_and_nothing_else() {
        let host = |name: &[u8]| [&[0x82, name.len() as u8], name].concat();
        let all = [host(b"a.example"), vec![0x87, 4, 10, 0, 0, 1], host(b"b.example")].concat();
        let value = [&[0x30, all.len() as u8], &all[..]].concat();
        assert_eq!(hosts(&value), ["a.example", "b.example"]);
        assert_eq!(hosts(&value[..value.len() - 1]), [""; 0]);
        let many = host(b"c").repeat(NAMES + 5);
        assert_eq!(hosts(&[&[0x30, many.len() as u8], &many[..]].concat()).len(), NAMES);
    }
}
