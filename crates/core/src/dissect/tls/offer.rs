//! An offer: the numbers in a ClientHello that mean something, and what carries it. Of these fingerprints are made.

use serde::Serialize;

/// What carries TLS messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    /// Records over TCP (RFC 8446 section 5).
    Tcp,
    /// DTLS (RFC 9147).
    Dtls,
    /// CRYPTO frames of QUIC (RFC 9001).
    Quic,
}

impl Carrier {
    /// What JA4 begins with.
    pub(super) const fn letter(self) -> char {
        match self {
            Self::Tcp => 't',
            Self::Dtls => 'd',
            Self::Quic => 'q',
        }
    }
}

/// What fingerprints are made of.
#[derive(Clone, Debug, Default)]
pub(super) struct Offered<'a> {
    /// The version in the hello itself.
    pub(super) legacy_version: u16,
    /// The versions in the extension; here and below without those that are reserved to be ignored.
    pub(super) versions: Vec<u16>,
    pub(super) ciphers: Vec<u16>,
    /// The types of all extensions, in their order.
    pub(super) extensions: Vec<u16>,
    pub(super) groups: Vec<u16>,
    pub(super) point_formats: &'a [u8],
    pub(super) signatures: Vec<u16>,
    pub(super) alpn: Vec<&'a [u8]>,
}

/// Whether a number is one that is not reserved to be ignored (GREASE, RFC 8701 section 2).
pub(super) const fn is_real(number: &u16) -> bool {
    !(*number & 0x0f0f == 0x0a0a && *number >> 8 == *number & 0xff)
}
