//! Whose certificates clients must have, where the API server has one for this webhook.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Certificates of these authorities, for these names.
#[derive(Clone, Debug)]
pub struct AllowedClients {
    verifier: Arc<dyn ClientCertVerifier>,
    names: Arc<[String]>,
}

/// Why no client could ever be let in.
#[derive(Debug, thiserror::Error)]
pub enum ClientsError {
    /// The authorities are no PEM.
    #[error("failed to read the CA certificates of the webhook's clients: {0}")]
    Pem(rustls::pki_types::pem::Error),
    /// There is none, or one of them is no certificate.
    #[error("failed to use the CA certificates of the webhook's clients: {0}")]
    Unusable(String),
}

impl AllowedClients {
    /// Certificates of the authorities in `pem`; of these common names, or of any if there is none.
    pub fn new(pem: &[u8], names: &[String]) -> Result<AllowedClients, ClientsError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(ClientsError::Pem)?;
            roots
                .add(certificate)
                .map_err(|error| ClientsError::Unusable(error.to_string()))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| ClientsError::Unusable(error.to_string()))?;
        Ok(AllowedClients {
            verifier,
            names: names.into(),
        })
    }

    fn is_named(&self, certificate: &CertificateDer<'_>) -> bool {
        if self.names.is_empty() {
            return true;
        }
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
            return false;
        };
        let mut names = certificate.subject().iter_common_name();
        names.any(|name| {
            let name = name.as_str().unwrap_or_default();
            self.names.iter().any(|allowed| allowed == name)
        })
    }
}

impl ClientCertVerifier for AllowedClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verifier.verify_client_cert(certificate, intermediates, now)?;
        if self.is_named(certificate) {
            Ok(verified)
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
