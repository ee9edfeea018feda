//! Digests, as the octets that they are; the hex digits in which people write them are made where they are
//! wanted.

use std::fmt;

use serde::{Serialize, Serializer};

/// A digest of so many octets: 16 of MD5 (RFC 1321), 32 of SHA-256 (FIPS 180-4). Shown in lower-case hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest<const N: usize>(pub [u8; N]);

impl<const N: usize> Digest<N> {
    /// In hex.
    #[must_use]
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

impl<const N: usize> fmt::Display for Digest<N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.hex())
    }
}

impl<const N: usize> Serialize for Digest<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.hex())
    }
}

/// Octets in hex.
pub(super) fn hex(octets: &[u8]) -> String {
    octets.iter().flat_map(|&octet| digits(octet)).map(char::from).collect()
}

/// An octet as two hex digits: by hand, because formatting them took a tenth of reading a hello.
pub(super) const fn digits(octet: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[(octet >> 4) as usize], DIGITS[(octet & 15) as usize]]
}
