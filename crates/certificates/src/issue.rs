//! Makes keys and certificates: ECDSA P-256, which every API server verifies and which is quick to sign with.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;

use crate::material::{CaCertificate, MaterialError};

/// How far the clock of an API server, or of another replica, may lag behind ours without refusing a new certificate: twice
/// the ten minutes that a machine's clock may be wrong by, and some more.
pub(crate) const BACKDATE: Duration = Duration::from_mins(25);

/// Why something could not be issued.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    /// The certificate library refused.
    #[error("failed to issue a certificate: {0}")]
    Generate(#[from] rcgen::Error),
    /// What was just made can't be read back.
    #[error("failed to read the issued certificate: {0}")]
    Read(#[from] MaterialError),
    /// There is no CA with its key.
    #[error("failed to find a CA to sign with")]
    NoCa,
}

/// A new CA and its key in PEM.
pub(crate) fn ca(now: Timestamp, lifetime: Duration) -> Result<(CaCertificate, String), IssueError> {
    let mut params = params(now, lifetime);
    // The date makes subjects differ, so that a verifier with both in its bundle finds the right one at once.
    params.distinguished_name = name(&format!("catamaran webhook CA {now:.0}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = issuer.key().serialize_pem();
    Ok((CaCertificate::new(issuer.der().clone())?, key))
}

/// A new leaf in PEM and its key in PEM, signed by this CA. It never outlasts the CA.
pub(crate) fn leaf(
    ca: &CaCertificate,
    ca_key: &str,
    names: &[String],
    now: Timestamp,
    lifetime: Duration,
) -> Result<(String, String), IssueError> {
    let left = Duration::try_from(ca.not_after.duration_since(now)).unwrap_or_default();
    let mut params = params(now, lifetime.min(left));
    params.distinguished_name = name("catamaran webhook");
    params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let issuer = issuer(&ca.certificate, ca_key)?;
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
}

fn issuer(certificate: &CertificateDer<'static>, key: &str) -> Result<Issuer<'static, KeyPair>, IssueError> {
    Ok(Issuer::from_ca_cert_der(certificate, KeyPair::from_pem(key)?)?)
}

/// X.509 knows whole seconds.
fn params(now: Timestamp, lifetime: Duration) -> CertificateParams {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let issued = epoch + Duration::from_secs(u64::try_from(now.as_second()).unwrap_or_default());
    let mut params = CertificateParams::default();
    params.not_before = issued - BACKDATE;
    params.not_after = issued + lifetime;
    params
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}
