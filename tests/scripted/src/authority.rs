//! Certificates for every name a client asks for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// Which certificate the registry shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Certificate {
    /// A good one for the name that was asked for.
    #[default]
    Good,
    /// One that ended in 2001.
    Expired,
    /// One for `somewhere.else.test`.
    WrongName,
    /// One that nobody vouches for.
    SelfSigned,
    /// One that vouches for itself: a CA that is a server, too.
    OwnCa,
}

/// What it wants to see of its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clients {
    /// No certificate.
    #[default]
    Anyone,
    /// A certificate of the authority that is trusted for it, if they have one.
    Asked,
    /// A certificate of the authority that is trusted for it.
    Required,
}

/// The verifier of client certificates; `authority` is PEM.
pub(crate) fn verifier(clients: Clients, authority: &str) -> std::io::Result<Arc<dyn ClientCertVerifier>> {
    if clients == Clients::Anyone {
        return Ok(WebPkiClientVerifier::no_client_auth());
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        let certificate = certificate.map_err(std::io::Error::other)?;
        roots.add(certificate).map_err(std::io::Error::other)?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if clients == Clients::Asked {
        builder.allow_unauthenticated()
    } else {
        builder
    };
    builder.build().map_err(std::io::Error::other)
}

/// A certificate authority's, and one for all its leaves.
struct Keys {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    leaf: KeyPair,
}

/// A certificate authority of one registry.
pub(crate) struct Authority {
    keys: Arc<Keys>,
    shown: Mutex<Certificate>,
    leaves: Mutex<HashMap<(Certificate, String), Arc<CertifiedKey>>>,
}

impl Authority {
    pub(crate) fn new() -> Result<Authority, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "scripted registry");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        let leaf = KeyPair::generate()?;
        Ok(Authority {
            keys: Arc::new(Keys { issuer, pem, leaf }),
            shown: Mutex::default(),
            leaves: Mutex::default(),
        })
    }

    /// The same authority for another registry.
    pub(crate) fn again(&self) -> Authority {
        Authority {
            keys: self.keys.clone(),
            shown: Mutex::default(),
            leaves: Mutex::default(),
        }
    }

    pub(crate) fn pem(&self) -> String {
        self.keys.pem.clone()
    }

    pub(crate) fn show(&self, certificate: Certificate) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = certificate;
    }

    /// The certificate for a name, as PEM.
    pub(crate) fn leaf_pem(&self, kind: Certificate, name: &str) -> Option<String> {
        let leaf = self.leaf(kind, name)?;
        let text = BASE64_STANDARD.encode(leaf.cert.first()?);
        let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        Some(format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            lines.join("\n")
        ))
    }

    fn leaf(&self, kind: Certificate, name: &str) -> Option<Arc<CertifiedKey>> {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = leaves.get(&(kind, name.to_owned())) {
            return Some(leaf.clone());
        }
        let mut names = vec![name.to_owned()];
        if name == "localhost" {
            names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
        }
        if kind == Certificate::WrongName {
            names = vec!["somewhere.else.test".to_owned()];
        }
        let mut params = CertificateParams::new(names).ok()?;
        params.distinguished_name.push(DnType::CommonName, name);
        if kind == Certificate::Expired {
            (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1));
        }
        if kind == Certificate::OwnCa {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let certificate = match kind {
            Certificate::SelfSigned | Certificate::OwnCa => params.self_signed(&self.keys.leaf),
            _ => params.signed_by(&self.keys.leaf, &self.keys.issuer),
        };
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.keys.leaf.serialize_der()));
        let leaf = Arc::new(CertifiedKey::new(
            vec![certificate.ok()?.der().clone()],
            any_supported_type(&key).ok()?,
        ));
        leaves.insert((kind, name.to_owned()), leaf.clone());
        Some(leaf)
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Authority {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let kind = *self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        // Addresses are not sent as server names.
        self.leaf(kind, hello.server_name().unwrap_or("localhost"))
    }
}
