//! What the TLS server presents, and whether an API server would accept it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::Timestamp;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::material::{CaCertificate, Pair, VerifyError, verify};

/// The certificate of this replica: read by every handshake, replaced by [`crate::run`], never waited for.
pub struct ServingCertificate {
    name: String,
    pair: ArcSwapOption<Pair>,
    published: ArcSwap<Vec<CaCertificate>>,
    unusable: AtomicBool,
}

/// Why this replica must not receive requests yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// No certificate has been read so far.
    #[error("failed to find a serving certificate")]
    NoCertificate,
    /// The webhook configuration has no caBundle.
    #[error("failed to find a published caBundle")]
    NotPublished,
    /// An API server would refuse the certificate.
    #[error(transparent)]
    Untrusted(#[from] VerifyError),
}

impl ServingCertificate {
    /// Nothing to serve yet, for the Service `service` in `namespace`.
    pub fn new(service: &str, namespace: &str) -> Self {
        let name = crate::settings::dns_names(service, namespace).swap_remove(0);
        Self {
            name,
            pair: ArcSwapOption::empty(),
            published: ArcSwap::default(),
            unusable: AtomicBool::new(false),
        }
    }

    /// Whether what is stored can't be served with, for an alert: the last good pair is used until it expires.
    pub fn is_stored_unusable(&self) -> bool {
        self.unusable.load(Ordering::Relaxed)
    }

    pub(crate) fn stored_is_unusable(&self, unusable: bool) {
        self.unusable.store(unusable, Ordering::Relaxed);
    }

    /// The Service's name, which API servers ask for.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The serving certificate verifies under the published caBundle for the Service's name at `now`: the API server can
    /// talk to this replica.
    pub fn ready(&self, now: Timestamp) -> Result<(), NotReady> {
        let pair = self.pair.load();
        let pair = pair.as_ref().ok_or(NotReady::NoCertificate)?;
        let published = self.published.load();
        if published.is_empty() {
            return Err(NotReady::NotPublished);
        }
        Ok(verify(pair, &published, &self.name, now)?)
    }

    /// When the certificate in use expires, for a metric.
    pub fn not_after(&self) -> Option<Timestamp> {
        self.pair.load().as_ref().map(|pair| pair.not_after)
    }

    /// What is served with now.
    #[cfg(test)]
    pub(crate) fn pair(&self) -> Option<Arc<Pair>> {
        self.pair.load_full()
    }

    /// The configuration was read and trusts these.
    pub(crate) fn trust(&self, published: Vec<CaCertificate>) {
        if **self.published.load() != published {
            self.published.store(Arc::new(published));
        }
    }

    /// The Secret was read and holds this pair. It is taken unless that would break what works: a pair that API servers
    /// don't trust yet waits while the present one is trusted. Returns whether the pair in use changed.
    pub(crate) fn offer(&self, offered: &Pair, now: Timestamp) -> bool {
        let current = self.pair.load();
        if current
            .as_ref()
            .is_some_and(|current| current.key.cert == offered.key.cert)
        {
            return false;
        }
        let published = self.published.load();
        let trusted = |pair: &Pair| verify(pair, &published, &self.name, now).is_ok();
        if !trusted(offered) && current.as_ref().is_some_and(|current| trusted(current)) {
            return false;
        }
        self.pair.store(Some(Arc::new(offered.clone())));
        true
    }
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.pair.load().as_ref().map(|pair| Arc::clone(&pair.key))
    }
}

impl fmt::Debug for ServingCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ServingCertificate");
        shown
            .field("name", &self.name)
            .field("not_after", &self.not_after())
            .finish_non_exhaustive()
    }
}
