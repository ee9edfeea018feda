//! TLS as both sides configure it: 1.3 only, raw public keys on both sides (RFC 7250), compared
//! whole and proved by signature; no names, no authorities, no resumption (a key that is no longer
//! authorised must not come back with an old ticket).

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error,
    PeerIncompatible, ServerConfig, SignatureScheme,
};

use crate::identity::{PublicKey, SecretKey};

/// What both sides must name to talk (RFC 7301).
const ALPN: &[u8] = b"procflow/1";

/// TLS could not be set up.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot set up TLS: {0}")]
pub struct TlsError(#[from] Error);

/// Decides which keys may connect.
pub trait Admission: Send + Sync {
    /// Asked during each handshake, after the peer's key is known and before it is proved.
    fn admits(&self, key: PublicKey) -> bool;
}

/// One's own key, ready for TLS.
#[derive(Clone)]
pub struct TlsIdentity {
    provider: Arc<CryptoProvider>,
    certified: Arc<CertifiedKey>,
}

impl TlsIdentity {
    /// Prepares a key.
    ///
    /// # Errors
    ///
    /// When the TLS library does not take it.
    pub fn new(key: &SecretKey) -> Result<Self, TlsError> {
        let signer = rustls::crypto::ring::sign::any_eddsa_type(key.pkcs8())?;
        let spki = CertificateDer::from(key.spki().to_vec());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(Self { provider, certified: Arc::new(CertifiedKey::new(vec![spki], signer)) })
    }

    /// The tracker's side: admits whom `admission` admits.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub fn server(&self, admission: Arc<dyn Admission>) -> Result<ServerConfig, TlsError> {
        let verifier = Arc::new(Verifier { admission, provider: Arc::clone(&self.provider) });
        let resolver = AlwaysResolvesServerRawPublicKeys::new(Arc::clone(&self.certified));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(config)
    }

    /// The updater's side: talks to the tracker whose key `admission` admits.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub fn client(&self, admission: Arc<dyn Admission>) -> Result<ClientConfig, TlsError> {
        let verifier = Arc::new(Verifier { admission, provider: Arc::clone(&self.provider) });
        let resolver = AlwaysResolvesClientRawPublicKeys::new(Arc::clone(&self.certified));
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous() // rustls' word for "verifies by other means than a certificate authority"
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Ok(config)
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsIdentity")
    }
}

/// Both sides verify alike: the key is one that is admitted, and the peer holds its secret.
struct Verifier {
    admission: Arc<dyn Admission>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl Verifier {
    fn admit(&self, spki: &[u8]) -> Result<(), Error> {
        let key = PublicKey::from_spki(spki).ok_or(CertificateError::BadEncoding)?;
        if self.admission.admits(key) {
            Ok(())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn signed(
        &self,
        message: &[u8],
        spki: &[u8],
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let spki = SubjectPublicKeyInfoDer::from(spki);
        verify_tls13_signature_with_raw_key(message, &spki, signature, algorithms)
    }

    fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }
}

/// What both of rustls' traits ask, in the same words, of a verifier's signatures.
macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Self::no_tls12()
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.signed(message, cert, signature)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }

        fn requires_raw_public_keys(&self) -> bool {
            true
        }
    };
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.admit(end_entity).map(|()| ServerCertVerified::assertion())
    }

    signatures!();
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.admit(end_entity).map(|()| ClientCertVerified::assertion())
    }

    signatures!();
}
