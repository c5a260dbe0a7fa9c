//! A verifier of certificates around another one, which has the say but for what is added.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// What a server shows in a handshake.
pub(crate) struct Peer<'p> {
    pub(crate) certificate: &'p CertificateDer<'p>,
    pub(crate) intermediates: &'p [CertificateDer<'p>],
    pub(crate) name: &'p ServerName<'p>,
    pub(crate) now: UnixTime,
}

/// What is added to a verifier.
pub(crate) trait Extra: Send + Sync {
    /// Sees the certificate and what the verifier says of it; what is said in its place.
    fn shown(
        &self,
        _peer: &Peer<'_>,
        verified: Result<ServerCertVerified, rustls::Error>,
    ) -> Result<ServerCertVerified, rustls::Error> {
        verified
    }

    /// The server has proven that it holds the key.
    fn signed(&self) {}
}

/// A verifier, and what is added to it.
pub(crate) struct Around<E> {
    pub(crate) verifier: Arc<dyn ServerCertVerifier>,
    pub(crate) extra: E,
}

impl<E> fmt::Debug for Around<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Around").finish_non_exhaustive()
    }
}

impl<E: Extra> ServerCertVerifier for Around<E> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self
            .verifier
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let peer = Peer {
            certificate: end_entity,
            intermediates,
            name: server_name,
            now,
        };
        self.extra.shown(&peer, verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let valid = self.verifier.verify_tls12_signature(message, certificate, signature)?;
        self.extra.signed();
        Ok(valid)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let valid = self.verifier.verify_tls13_signature(message, certificate, signature)?;
        self.extra.signed();
        Ok(valid)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
