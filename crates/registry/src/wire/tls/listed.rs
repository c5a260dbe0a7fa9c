//! A server's certificate that is itself among those that are trusted: a registry whose only certificate is a CA, too.
//!
//! Go's clients, and containerd with them, take such a certificate; webpki refuses every server that shows a CA's.

use rustls::CertificateError;
use rustls::client::danger::ServerCertVerified;
use rustls::client::verify_server_name;
use rustls::server::ParsedCertificate;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::around::{Extra, Peer};

/// Takes the very certificates of a list for their own names while they last, whatever the verifier says.
pub(super) struct Listed {
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

impl Listed {
    fn is_listed(&self, certificate: &CertificateDer<'_>) -> bool {
        self.certificates.iter().any(|listed| listed == certificate)
    }
}

fn check(
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, rustls::Error> {
    verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < parsed.validity().not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > parsed.validity().not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    Ok(ServerCertVerified::assertion())
}

impl Extra for Listed {
    fn shown(
        &self,
        peer: &Peer<'_>,
        verified: Result<ServerCertVerified, rustls::Error>,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match verified {
            Err(_) if self.is_listed(peer.certificate) => check(peer.certificate, peer.name, peer.now),
            verified => verified,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(ca: bool) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(["registry.test".to_owned()]).unwrap();
        if ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2030, 1, 1));
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn listed_ca_is_taken_for_its_own_name_while_it_lasts() {
        const IN_2025: u64 = 1_750_000_000;
        let own = certificate(true);
        let verifier = super::super::read_roots(Some(pem(&own).as_bytes())).unwrap();
        let verify = |shown: &CertificateDer<'_>, name: &'static str, seconds| {
            let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            verifier.verify_server_cert(shown, &[], &ServerName::try_from(name).unwrap(), &[], now)
        };
        let refused = |shown, name, seconds| match verify(shown, name, seconds) {
            Err(rustls::Error::InvalidCertificate(why)) => why,
            other => panic!("{other:?}"),
        };
        assert!(verify(&own, "registry.test", IN_2025).is_ok());
        assert!(matches!(
            refused(&own, "other.test", IN_2025),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        ));
        assert_eq!(refused(&own, "registry.test", 1_900_000_000), CertificateError::Expired);
        assert_eq!(
            refused(&own, "registry.test", 1_500_000_000),
            CertificateError::NotValidYet
        );
        assert!(
            verify(&certificate(true), "registry.test", IN_2025).is_err(),
            "another one"
        );
        assert!(verify(&certificate(false), "registry.test", IN_2025).is_err());
    }

    fn pem(certificate: &CertificateDer<'_>) -> String {
        use base64::Engine as _;
        let text = base64::prelude::BASE64_STANDARD.encode(certificate);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    }
}
