//! Who is who: an Ed25519 key (RFC 8410) of its own for every tracker and every updater.
//!
//! A key is known by its public half, written on one line as `procflow-ed25519 BASE64 comment`,
//! and by the fingerprint that people compare. No private key is ever on two hosts.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use procflow_binding::HostId;
use ring::signature::KeyPair;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

/// What stands before a public key on its line.
const KIND: &str = "procflow-ed25519";

/// The SubjectPublicKeyInfo of an Ed25519 key up to the 32 bytes of the key itself (RFC 8410
/// section 4).
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The public half of a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

/// A key that is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The line is not `procflow-ed25519 BASE64 comment`.
    #[error("not a line of the form `{KIND} BASE64 comment`")]
    Line,
    /// The public key is not 32 bytes of base64.
    #[error("the key is not 32 bytes of base64")]
    Bytes,
    /// The private key's file is not PKCS#8 in PEM.
    #[error("not an Ed25519 private key in PKCS#8 PEM")]
    Secret,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

impl PublicKey {
    /// From a SubjectPublicKeyInfo; the whole of it must be as RFC 8410 says.
    #[must_use]
    pub fn from_spki(spki: &[u8]) -> Option<Self> {
        spki.strip_prefix(&SPKI_PREFIX)?.try_into().ok().map(Self)
    }

    /// As a SubjectPublicKeyInfo, which is how it travels (RFC 7250).
    #[must_use]
    pub fn to_spki(self) -> Vec<u8> {
        [&SPKI_PREFIX[..], &self.0].concat()
    }

    fn digest(self) -> ring::digest::Digest {
        ring::digest::digest(&ring::digest::SHA256, &self.to_spki())
    }

    /// What people compare: `SHA256:` and the base64 of the SHA-256 of the SubjectPublicKeyInfo.
    #[must_use]
    pub fn fingerprint(self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(self.digest()))
    }

    /// The host that this key speaks for, if it is a tracker's.
    #[must_use]
    pub fn host(self) -> HostId {
        let mut host = [0; 16];
        host.copy_from_slice(&self.digest().as_ref()[..16]);
        HostId(host)
    }
}

impl fmt::Display for PublicKey {
    /// The line without its comment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KIND} {}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    /// Reads a line; a comment may follow the key.
    fn from_str(line: &str) -> Result<Self, KeyError> {
        let mut words = line.split_whitespace();
        let (Some(KIND), Some(key)) = (words.next(), words.next()) else {
            return Err(KeyError::Line);
        };
        let bytes = STANDARD.decode(key).map_err(|_| KeyError::Bytes)?;
        bytes.try_into().map(Self).map_err(|_| KeyError::Bytes)
    }
}

/// A whole key.
pub struct SecretKey {
    pkcs8: PrivatePkcs8KeyDer<'static>,
    public: PublicKey,
}

impl SecretKey {
    /// Makes a new key.
    ///
    /// # Errors
    ///
    /// When the system gives no random numbers.
    pub fn generate() -> Result<Self, KeyError> {
        let random = ring::rand::SystemRandom::new();
        let document = ring::signature::Ed25519KeyPair::generate_pkcs8(&random)
            .map_err(|_| KeyError::Random)?;
        Self::from_pkcs8(PrivatePkcs8KeyDer::from(document.as_ref().to_vec()))
    }

    /// Reads a key as [`SecretKey::to_pem`] writes it.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let pkcs8 =
            PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::Secret)?;
        Self::from_pkcs8(pkcs8)
    }

    fn from_pkcs8(pkcs8: PrivatePkcs8KeyDer<'static>) -> Result<Self, KeyError> {
        let pair = ring::signature::Ed25519KeyPair::from_pkcs8(pkcs8.secret_pkcs8_der())
            .map_err(|_| KeyError::Secret)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| KeyError::Secret)?;
        Ok(Self { pkcs8, public: PublicKey(public) })
    }

    /// As PKCS#8 in PEM (RFC 7468 section 10), which other programs read too.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
        let base64 = STANDARD.encode(self.pkcs8.secret_pkcs8_der());
        for line in base64.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        pem
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public
    }

    pub(crate) fn pkcs8(&self) -> &PrivatePkcs8KeyDer<'static> {
        &self.pkcs8
    }

    pub(crate) fn spki(&self) -> SubjectPublicKeyInfoDer<'static> {
        self.public.to_spki().into()
    }
}

impl fmt::Debug for SecretKey {
    /// Never the secret itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "secret of {:?}", self.public)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_as_it_is_written() {
        let key = SecretKey::generate().unwrap();
        let again = SecretKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(again.public(), key.public());
        let line = format!("{} updater@collector", key.public());
        assert_eq!(line.parse(), Ok(key.public()));
        assert_eq!(PublicKey::from_spki(&key.public().to_spki()), Some(key.public()));
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }

    #[test]
    fn the_example_of_rfc_8410_has_its_spki() {
        // Section 10.1: the public key GdAr/6BdTEDXPLeJRFqVHkUwdZqDGZ6zjvdNWfmz0lM=... as SPKI.
        let spki = STANDARD
            .decode("MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=")
            .unwrap();
        let key = PublicKey::from_spki(&spki).unwrap();
        assert_eq!(key.to_spki(), spki);
        assert_eq!(PublicKey::from_spki(&spki[..43]), None);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert_eq!("ssh-ed25519 AAAA".parse::<PublicKey>(), Err(KeyError::Line));
        assert_eq!("procflow-ed25519 AAAA".parse::<PublicKey>(), Err(KeyError::Bytes));
        assert_eq!(SecretKey::from_pem("hello").err(), Some(KeyError::Secret));
    }
}
