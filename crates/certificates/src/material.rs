//! What the Secret holds, read leniently: a part that can't be used is absent, the others still count.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;

/// Key of the bundle of CAs in the Secret, newest first.
pub(crate) const CA_CERTIFICATE: &str = "ca.crt";
/// Key of the newest CA's private key in the Secret.
pub(crate) const CA_KEY: &str = "ca.key";
/// Key of the leaf (and what else belongs to its chain) in the Secret.
pub(crate) const TLS_CERTIFICATE: &str = "tls.crt";
/// Key of the leaf's private key in the Secret.
pub(crate) const TLS_KEY: &str = "tls.key";

/// Why a part of the Secret, or a certificate, can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MaterialError {
    /// The Secret has no such key.
    #[error("failed to find {key:?} in the secret")]
    Missing {
        /// The key in the Secret.
        key: &'static str,
    },
    /// It is there but can't be read. The message never quotes the content.
    #[error("failed to read {key:?}: {message}")]
    Unreadable {
        /// The key in the Secret.
        key: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The leaf's key isn't the one its certificate speaks of.
    #[error("failed to match the certificate with its key: {0}")]
    Mismatch(String),
}

/// One CA of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CaCertificate {
    /// The certificate.
    pub(crate) certificate: CertificateDer<'static>,
    /// Not valid before.
    pub(crate) not_before: Timestamp,
    /// Not valid after.
    pub(crate) not_after: Timestamp,
}

impl CaCertificate {
    /// Reads one certificate.
    pub(crate) fn new(certificate: CertificateDer<'static>) -> Result<Self, MaterialError> {
        let (not_before, not_after) = validity(&certificate, CA_CERTIFICATE)?;
        Ok(Self {
            certificate,
            not_before,
            not_after,
        })
    }

    /// Valid at `now`. An API server (Go's `crypto/x509`) checks this for CAs too.
    pub(crate) fn is_valid(&self, now: Timestamp) -> bool {
        self.not_before <= now && now < self.not_after
    }
}

/// A leaf with its chain and its key, ready to serve with.
#[derive(Clone)]
pub(crate) struct Pair {
    /// What rustls serves.
    pub(crate) key: Arc<CertifiedKey>,
    /// Not valid after.
    pub(crate) not_after: Timestamp,
}

impl Pair {
    /// Reads a PEM chain and a PEM key in PKCS#8, PKCS#1 or SEC1, and checks that they belong together.
    pub(crate) fn new(chain: &[u8], key: &[u8]) -> Result<Self, MaterialError> {
        let chain = certificates(chain, TLS_CERTIFICATE)?;
        let leaf = chain.first().ok_or(MaterialError::Missing { key: TLS_CERTIFICATE })?;
        let (_, not_after) = validity(leaf, TLS_CERTIFICATE)?;
        // The parser's message could quote the key's text.
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| MaterialError::Unreadable {
            key: TLS_KEY,
            message: "no private key in PEM".to_owned(),
        })?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = CertifiedKey::from_der(chain, key, &provider)
            .map_err(|error| MaterialError::Mismatch(error.to_string()))?;
        Ok(Self {
            key: Arc::new(key),
            not_after,
        })
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// The Secret, read.
#[derive(Clone)]
pub(crate) struct Material {
    /// The readable CAs of `ca.crt`, newest first.
    pub(crate) cas: Vec<CaCertificate>,
    /// `ca.key` as it stands.
    pub(crate) ca_key: Option<String>,
    /// The leaf, or why there is none.
    pub(crate) pair: Result<Pair, MaterialError>,
}

impl Material {
    /// Reads the data of the Secret.
    pub(crate) fn read(data: &BTreeMap<String, ByteString>) -> Self {
        let get = |key| {
            data.get(key)
                .map(|value| value.0.as_slice())
                .ok_or(MaterialError::Missing { key })
        };
        let pair = get(TLS_CERTIFICATE).and_then(|chain| Pair::new(chain, get(TLS_KEY)?));
        let ca_key = get(CA_KEY).ok().and_then(|key| String::from_utf8(key.to_vec()).ok());
        Self {
            cas: get(CA_CERTIFICATE).map(bundle).unwrap_or_default(),
            ca_key,
            pair,
        }
    }

    /// The CA that signs, if its key is there and fits.
    pub(crate) fn signing_ca(&self) -> Option<&CaCertificate> {
        let newest = self.cas.first()?;
        let key = rcgen::KeyPair::from_pem(self.ca_key.as_deref()?).ok()?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&newest.certificate).ok()?;
        (parsed.public_key().raw == rcgen::PublicKeyData::subject_public_key_info(&key).as_slice()).then_some(newest)
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Material");
        shown
            .field("cas", &self.cas.len())
            .field("pair", &self.pair)
            .finish_non_exhaustive()
    }
}

/// The readable CAs of a PEM bundle, in its order; what can't be read is left out.
pub(crate) fn bundle(pem: &[u8]) -> Vec<CaCertificate> {
    CertificateDer::pem_slice_iter(pem)
        .flatten()
        .filter_map(|certificate| CaCertificate::new(certificate).ok())
        .collect()
}

/// A PEM bundle of these CAs, in their order.
pub(crate) fn encode_bundle<'a>(cas: impl IntoIterator<Item = &'a CaCertificate>) -> String {
    cas.into_iter().map(|ca| encode(&ca.certificate)).collect()
}

/// RFC 7468: lines of 64 characters.
fn encode(certificate: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = tail;
    }
    pem + "-----END CERTIFICATE-----\n"
}

/// Why an API server would refuse a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to verify the certificate for {name:?}: {message}")]
pub struct VerifyError {
    /// The DNS name asked for.
    pub name: String,
    /// What failed.
    pub message: String,
}

/// Checks, as an API server does, that this pair is to be trusted for `name` at `now` under these CAs.
pub(crate) fn verify(pair: &Pair, cas: &[CaCertificate], name: &str, now: Timestamp) -> Result<(), VerifyError> {
    let failed = |message: String| VerifyError {
        name: name.to_owned(),
        message,
    };
    let anchors: Vec<_> = cas
        .iter()
        .filter(|ca| ca.is_valid(now))
        .filter_map(|ca| webpki::anchor_from_trusted_cert(&ca.certificate).ok())
        .collect();
    let (leaf, intermediates) = pair
        .key
        .cert
        .split_first()
        .ok_or_else(|| failed("no certificate".to_owned()))?;
    let server = ServerName::try_from(name).map_err(|error| failed(error.to_string()))?;
    let since_epoch = Duration::try_from(now.as_duration()).map_err(|error| failed(error.to_string()))?;
    let leaf = webpki::EndEntityCert::try_from(leaf).map_err(|error| failed(error.to_string()))?;
    leaf.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &anchors,
        intermediates,
        UnixTime::since_unix_epoch(since_epoch),
        webpki::KeyUsage::server_auth(),
        None,
        None,
    )
    .map_err(|error| failed(error.to_string()))?;
    leaf.verify_is_valid_for_subject_name(&server)
        .map_err(|error| failed(error.to_string()))
}

fn certificates(pem: &[u8], key: &'static str) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| MaterialError::Unreadable {
            key,
            message: error.to_string(),
        })
}

fn validity(certificate: &CertificateDer<'_>, key: &'static str) -> Result<(Timestamp, Timestamp), MaterialError> {
    let unreadable = |message: String| MaterialError::Unreadable { key, message };
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|error| unreadable(error.to_string()))?;
    let at = |time: x509_parser::time::ASN1Time| {
        Timestamp::from_second(time.timestamp()).map_err(|error| unreadable(error.to_string()))
    };
    Ok((at(parsed.validity().not_before)?, at(parsed.validity().not_after)?))
}

#[cfg(test)]
mod tests;
