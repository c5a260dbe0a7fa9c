//! The certificates that a registry shows.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use rustls::client::danger::ServerCertVerified;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::wire::failure::one_line;
use crate::wire::tls::around::{Extra, Peer};

/// More of a chain is not looked at.
const LONGEST_CHAIN: usize = 8;

/// A certificate, as far as people care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whom it names.
    pub subject: String,
    /// Who vouches for it.
    pub issuer: String,
    /// When it begins to be good.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
}

/// Keeps what the first handshake showed: that is the registry's, whatever blobs lead to.
#[derive(Default)]
pub(super) struct Recorder {
    shown: Mutex<Vec<CertificateDer<'static>>>,
}

impl Recorder {
    /// The registry's own first; what can't be read is left out.
    pub(super) fn certificates(&self) -> Vec<Certificate> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.iter().filter_map(|der| read(der)).collect()
    }
}

fn read(der: &[u8]) -> Option<Certificate> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let time = |seconds| Timestamp::from_second(seconds).ok();
    Some(Certificate {
        subject: one_line(&parsed.subject().to_string()),
        issuer: one_line(&parsed.issuer().to_string()),
        not_before: time(parsed.validity().not_before.timestamp())?,
        not_after: time(parsed.validity().not_after.timestamp())?,
    })
}

impl Extra for Recorder {
    fn shown(
        &self,
        peer: &Peer<'_>,
        verified: Result<ServerCertVerified, rustls::Error>,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.is_empty() {
            let chain = std::iter::once(peer.certificate).chain(peer.intermediates);
            shown.extend(
                chain
                    .take(LONGEST_CHAIN)
                    .map(|certificate| certificate.clone().into_owned()),
            );
        }
        verified
    }
}
