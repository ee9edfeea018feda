//! The two hellos of a TLS handshake (RFC 8446 section 4.1): what the client offers, and what the server takes.

use serde::Serialize;
use smol_str::SmolStr;
use tls_parser::{
    TlsExtension, parse_tls_extension_alpn_content, parse_tls_extension_ec_point_formats_content,
    parse_tls_extension_elliptic_curves_content, parse_tls_extension_signature_algorithms_content,
    parse_tls_extension_sni_content, parse_tls_extension_unknown, parse_tls_handshake_client_hello,
    parse_tls_handshake_server_hello,
};

use super::ja;
use super::offer::{Carrier, Offered, is_real};
use crate::dissect::Digest;
use crate::dissect::text::{self, shown};

/// A version of TLS, by its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u16);

impl Version {
    /// What it is called, in NFStream's spelling; of others the number.
    #[must_use]
    pub fn name(self) -> SmolStr {
        let name = match self.0 {
            0x0002 | 0x0200 => "SSLv2",
            0x0300 => "SSLv3",
            0x0301 => "TLSv1",
            0x0302 => "TLSv1.1",
            0x0303 => "TLSv1.2",
            0x0304 => "TLSv1.3",
            0xfeff => "DTLSv1.0",
            0xfefd => "DTLSv1.2",
            0xfefc => "DTLSv1.3",
            other => return smol_str::format_smolstr!("{other:#06x}"),
        };
        SmolStr::new_static(name)
    }
}

impl Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

/// What a client offered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClientHello {
    /// The host that it wants (RFC 6066 section 3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<SmolStr>,
    /// The protocols that it would speak inside (ALPN, RFC 7301), with commas in between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpn: Option<SmolStr>,
    /// The versions it offers, without reserved ones (GREASE, RFC 8701).
    pub versions: Vec<Version>,
    /// Whether it hides the name it wants (draft-ietf-tls-esni, in either form).
    pub encrypted_name: bool,
    /// JA3.
    pub ja3: Digest<16>,
    /// JA4.
    pub ja4: SmolStr,
}

/// What a server took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerHello {
    /// The version.
    pub version: Version,
    /// The cipher suite, by IANA's number.
    pub cipher: u16,
    /// The protocol inside, if it says so here (with TLS 1.3 that is encrypted).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpn: Option<SmolStr>,
    /// JA3S.
    pub ja3s: Digest<16>,
    /// JA4S.
    pub ja4s: SmolStr,
}

const SERVER_NAME: u16 = 0;
const GROUPS: u16 = 10;
const POINT_FORMATS: u16 = 11;
const SIGNATURES: u16 = 13;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
const ENCRYPTED_SERVER_NAME: u16 = 0xffce;

/// So many versions of a list are kept.
const VERSIONS: usize = 8;

/// The extensions of a hello, as far as they are whole.
fn extensions(octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = octets;
    std::iter::from_fn(move || match parse_tls_extension_unknown(rest) {
        Ok((behind, TlsExtension::Unknown(kind, content))) => {
            rest = behind;
            Some((kind.0, content))
        }
        _ => None,
    })
}

fn numbers(octets: &[u8]) -> impl Iterator<Item = u16> {
    octets.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
}

/// Those of so many numbers that mean something.
fn real(all: usize, numbers: impl Iterator<Item = u16>) -> Vec<u16> {
    let mut real = Vec::with_capacity(all);
    real.extend(numbers.filter(is_real));
    real
}

fn joined(alpn: &[&[u8]]) -> Option<SmolStr> {
    text::joined(alpn.iter().map(|name| shown(name)))
}

impl ClientHello {
    /// Reads the body of a ClientHello; `None` if it is none.
    pub(in super::super) fn read(carrier: Carrier, body: &[u8]) -> Option<Self> {
        let plain;
        let body = if carrier == Carrier::Dtls {
            plain = without_cookie(body)?;
            &plain
        } else {
            body
        };
        let (_, hello) = parse_tls_handshake_client_hello(body).ok()?;
        let mut offered = Offered {
            legacy_version: hello.version.0,
            ciphers: real(hello.ciphers.len(), hello.ciphers.iter().map(|cipher| cipher.0)),
            extensions: Vec::with_capacity(24),
            ..Offered::default()
        };
        let (mut server_name, mut encrypted_name) = (None, false);
        for (kind, content) in extensions(hello.ext.unwrap_or_default()) {
            offered.extensions.extend(Some(kind).filter(is_real));
            match kind {
                SERVER_NAME => {
                    if let Ok((_, TlsExtension::SNI(names))) =
                        parse_tls_extension_sni_content(content)
                    {
                        server_name = names.first().map(|(_, name)| shown(name));
                    }
                }
                ALPN => {
                    if let Ok((_, TlsExtension::ALPN(names))) =
                        parse_tls_extension_alpn_content(content)
                    {
                        offered.alpn = names;
                    }
                }
                GROUPS => {
                    if let Ok((_, TlsExtension::EllipticCurves(groups))) =
                        parse_tls_extension_elliptic_curves_content(content)
                    {
                        offered.groups = real(groups.len(), groups.iter().map(|group| group.0));
                    }
                }
                POINT_FORMATS => {
                    if let Ok((_, TlsExtension::EcPointFormats(formats))) =
                        parse_tls_extension_ec_point_formats_content(content)
                    {
                        offered.point_formats = formats;
                    }
                }
                SIGNATURES => {
                    if let Ok((_, TlsExtension::SignatureAlgorithms(algorithms))) =
                        parse_tls_extension_signature_algorithms_content(content)
                    {
                        offered.signatures = algorithms;
                        offered.signatures.retain(is_real);
                    }
                }
                SUPPORTED_VERSIONS => {
                    let versions = content.split_first().map(|(_, versions)| versions);
                    offered.versions =
                        numbers(versions.unwrap_or_default()).filter(is_real).collect();
                }
                ENCRYPTED_CLIENT_HELLO | ENCRYPTED_SERVER_NAME => encrypted_name = true,
                _ => {}
            }
        }
        let mut versions: Vec<Version> = offered.versions.iter().map(|&v| Version(v)).collect();
        if versions.is_empty() {
            versions.push(Version(offered.legacy_version));
        }
        versions.truncate(VERSIONS);
        Some(Self {
            server_name,
            alpn: joined(&offered.alpn),
            versions,
            encrypted_name,
            ja3: ja::ja3(&offered),
            ja4: ja::ja4(carrier, offered),
        })
    }
}

/// A ClientHello of DTLS has a cookie behind the session (RFC 6347 section 4.2.1); without it, it is one of TLS.
fn without_cookie(body: &[u8]) -> Option<Vec<u8>> {
    let session = usize::from(*body.get(34)?);
    let at = 35 + session;
    let cookie = usize::from(*body.get(at)?);
    let (front, rest) = (body.get(..at)?, body.get(at + 1 + cookie..)?);
    Some([front, rest].concat())
}

impl ServerHello {
    /// Reads the body of a ServerHello; `None` if it is none.
    pub(in super::super) fn read(carrier: Carrier, body: &[u8]) -> Option<Self> {
        let legacy = numbers(body).next()?;
        // The parser reads versions of TLS only; those of DTLS have the same form.
        let as_tls;
        let body = if carrier == Carrier::Dtls {
            as_tls = [&[3, 3], body.get(2..)?].concat();
            &as_tls[..]
        } else {
            body
        };
        let (_, hello) = parse_tls_handshake_server_hello(body).ok()?;
        let (mut version, mut alpn, mut kinds) = (legacy, None, Vec::new());
        for (kind, content) in extensions(hello.ext.unwrap_or_default()) {
            kinds.push(kind);
            match kind {
                SUPPORTED_VERSIONS => version = numbers(content).next().unwrap_or(version),
                ALPN => {
                    if let Ok((_, TlsExtension::ALPN(names))) =
                        parse_tls_extension_alpn_content(content)
                    {
                        alpn = names.first().copied();
                    }
                }
                _ => {}
            }
        }
        let cipher = hello.cipher.0;
        Some(Self {
            version: Version(version),
            cipher,
            alpn: alpn.map(shown),
            ja3s: ja::ja3s(legacy, cipher, &kinds),
            ja4s: ja::ja4s(carrier, version, cipher, &kinds, alpn.unwrap_or_default()),
        })
    }
}
