//! TLS, and how far a connection came.
//!
//! Roots are read once for all sides that trust the same. Sessions are never resumed: a resumed handshake does not look at
//! the certificate, and an expired one must show. The place where sessions would be kept also tells us when a handshake begins, which is how a
//! probe knows a black hole from a server that accepts and says nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{
    ClientSessionStore, ResolvesClientCert, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, NamedGroup, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls_platform_verifier::Verifier;

use crate::wire::error::ClientError;
use crate::wire::failure::Stage;
use crate::wire::secret::Secret;

pub(crate) mod around;
mod listed;

use around::{Around, Extra};
use listed::Listed;

/// How far the first connection came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Reached {
    /// The name is being resolved.
    Dns = 0,
    /// TCP is connecting.
    Connect = 1,
    /// TLS is shaking hands.
    Tls = 2,
    /// A request can be sent.
    Established = 3,
}

/// Watches one HTTP client from beside: how far its first connection came, and what was asked last.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    stage: AtomicU8,
    asked: Mutex<Option<(String, Stage)>>,
}

impl Progress {
    pub(crate) fn reach(&self, stage: Reached) {
        self.stage.fetch_max(stage as u8, Ordering::Relaxed);
    }

    pub(crate) fn stage(&self) -> Reached {
        match self.stage.load(Ordering::Relaxed) {
            0 => Reached::Dns,
            1 => Reached::Connect,
            2 => Reached::Tls,
            _ => Reached::Established,
        }
    }

    pub(crate) fn ask(&self, request: &str, stage: Stage) {
        let asked = (request.to_owned(), stage);
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
    }

    /// The latest request in words, and its stage; none before the first.
    pub(crate) fn asked(&self) -> Option<(String, Stage)> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The verifiers in use, by the further roots that they trust (PEM).
type Verifiers = BTreeMap<Option<Vec<u8>>, Weak<dyn ServerCertVerifier>>;

/// Trusts the system's roots and those of `extra_ca` (PEM). Sides that trust the same share one, as long as any of them lives:
/// the system's roots take a few hundred kilobytes, and mirrors name the same authority again and again.
fn verifier(extra_ca: Option<&[u8]>) -> Result<Arc<dyn ServerCertVerifier>, ClientError> {
    static IN_USE: Mutex<Verifiers> = Mutex::new(BTreeMap::new());
    let in_use = || IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    let key = extra_ca.map(<[u8]>::to_vec);
    let known = |in_use: &Verifiers| in_use.get(&key).and_then(Weak::upgrade);
    if let Some(verifier) = known(&in_use()) {
        return Ok(verifier);
    }
    // Takes a while, and nobody who needs no other roots waits for it.
    let verifier = read_roots(extra_ca)?;
    let mut in_use = in_use();
    if let Some(verifier) = known(&in_use) {
        return Ok(verifier);
    }
    in_use.retain(|_, verifier| verifier.strong_count() > 0);
    in_use.insert(key, Arc::downgrade(&verifier));
    Ok(verifier)
}

fn read_roots(extra_ca: Option<&[u8]>) -> Result<Arc<dyn ServerCertVerifier>, ClientError> {
    let mut extra = Vec::new();
    if let Some(pem) = extra_ca {
        for certificate in CertificateDer::pem_slice_iter(pem) {
            extra.push(certificate.map_err(|_| ClientError::BadCa("not PEM".to_owned()))?);
        }
        if extra.is_empty() {
            return Err(ClientError::BadCa("no certificate in it".to_owned()));
        }
    }
    let verifier = Verifier::new_with_extra_roots(extra.clone(), Arc::new(aws_lc_rs::default_provider()))
        .map_err(|error| ClientError::BadCa(error.to_string()))?;
    Ok(Arc::new(Around {
        verifier: Arc::new(verifier),
        extra: Listed { certificates: extra },
    }))
}

/// A client certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate and those between it and an authority (PEM).
    pub certificates: Vec<u8>,
    /// The private key (PEM: PKCS #8, PKCS #1 or SEC 1).
    pub key: Secret<Vec<u8>>,
}

/// Whom one side trusts, and what it shows.
#[derive(Clone)]
pub(crate) struct Trust {
    pub(crate) verifier: Arc<dyn ServerCertVerifier>,
    /// What the registry is shown.
    pub(crate) identity: Option<Arc<dyn ResolvesClientCert>>,
}

impl Trust {
    /// The system's roots and those of `extra_ca` (PEM), with this certificate to show.
    pub(crate) fn new(extra_ca: Option<&[u8]>, shown: Option<&ClientIdentity>) -> Result<Trust, ClientError> {
        Ok(Trust {
            verifier: verifier(extra_ca)?,
            identity: shown.map(identity).transpose()?,
        })
    }

    /// The same roots, with nothing to show.
    pub(crate) fn in_roots(extra_ca: Option<&[u8]>) -> Result<Trust, ClientError> {
        Trust::new(extra_ca, None)
    }

    /// The same to show, with another to verify.
    pub(crate) fn verified_by(&self, verifier: Arc<dyn ServerCertVerifier>) -> Trust {
        Trust {
            verifier,
            identity: self.identity.clone(),
        }
    }

    /// The same trust, with nothing to show.
    pub(crate) fn without_identity(&self) -> Trust {
        Trust {
            verifier: self.verifier.clone(),
            identity: None,
        }
    }
}

/// Shows the same certificate to anyone who asks for one.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.key.choose_scheme(schemes).map(|_| self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn identity(identity: &ClientIdentity) -> Result<Arc<dyn ResolvesClientCert>, ClientError> {
    let refused = |why: &str| ClientError::BadIdentity(why.to_owned());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&identity.certificates).collect();
    let chain = chain.map_err(|_| refused("the certificate is not PEM"))?;
    if chain.is_empty() {
        return Err(refused("there is no certificate in it"));
    }
    let key = PrivateKeyDer::from_pem_slice(identity.key.expose()).map_err(|_| refused("there is no PEM key in it"))?;
    let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
    // A key of another certificate is a mistake that the registry would only call a failed handshake.
    let certified = certified.map_err(|_| refused("the key can't be used, or is not the certificate's"))?;
    Ok(Arc::new(Shown(Arc::new(certified))))
}

/// Every version of HTTP that is spoken.
pub(crate) const EVERY_HTTP: &[&[u8]] = &[b"h2", b"http/1.1"];
/// The one version that containerd speaks with a registry.
pub(crate) const HTTP_1: &[&[u8]] = &[b"http/1.1"];

/// The TLS settings of one HTTP client, which offers these versions of HTTP.
pub(crate) fn config(trust: &Trust, progress: Arc<Progress>, http: &[&[u8]]) -> ClientConfig {
    let verifier = trust.verifier.clone();
    let extra = Watched(progress);
    let watched = Arc::new(Around { verifier, extra });
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("the provider supports both versions")
        .dangerous()
        .with_custom_certificate_verifier(watched.clone());
    let mut config = match &trust.identity {
        Some(identity) => config.with_client_cert_resolver(identity.clone()),
        None => config.with_no_client_auth(),
    };
    config.resumption = Resumption::store(watched);
    config.alpn_protocols = http.iter().map(|version| version.to_vec()).collect();
    config
}

/// Reports progress. Keeps no session.
struct Watched(Arc<Progress>);

impl Extra for Watched {
    fn signed(&self) {
        self.0.reach(Reached::Established);
    }
}

impl ClientSessionStore for Around<Watched> {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        // Asked while the first message of a handshake is written: TCP is connected.
        self.extra.0.reach(Reached::Tls);
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {}

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(name: &str) -> Vec<u8> {
        let certified = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        certified.cert.pem().into_bytes()
    }

    #[test]
    fn sides_that_trust_the_same_share_its_roots_and_others_do_not() {
        let (one, other) = (authority("one"), authority("other"));
        let first = verifier(Some(&one)).unwrap();
        assert!(Arc::ptr_eq(&first, &verifier(Some(&one)).unwrap()));
        assert!(!Arc::ptr_eq(&first, &verifier(Some(&other)).unwrap()));
        assert!(!Arc::ptr_eq(&first, &verifier(None).unwrap()));
    }

    #[test]
    fn roots_that_nobody_trusts_any_more_are_let_go() {
        let one = authority("one");
        let gone = Arc::downgrade(&verifier(Some(&one)).unwrap());
        assert_eq!(gone.strong_count(), 0);
    }

    #[test]
    fn what_is_no_certificate_is_refused_each_time() {
        for _ in 0..2 {
            assert!(verifier(Some(b"nothing")).is_err());
        }
    }
}
