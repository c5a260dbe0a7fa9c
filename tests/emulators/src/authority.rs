//! Certificates: from an authority of the emulator's own, for every name that a client asks for, or from files.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// Who vouches for a server.
#[derive(Debug)]
pub struct Authority {
    pem: String,
    shown: Shown,
}

enum Shown {
    Made(Box<Maker>),
    Given(Arc<CertifiedKey>),
}

struct Maker {
    issuer: Issuer<'static, KeyPair>,
    leaf_key: KeyPair,
    leaves: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Shown::Made(_) => "Made",
            Shown::Given(_) => "Given",
        })
    }
}

impl Authority {
    /// A new authority with a key of its own. Share it among servers whose clients trust one file.
    pub fn new() -> io::Result<Authority> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "catamaran emulators");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let pem = params.self_signed(&key).map_err(io::Error::other)?.pem();
        let maker = Maker {
            issuer: Issuer::new(params, key),
            leaf_key: KeyPair::generate().map_err(io::Error::other)?,
            leaves: Mutex::default(),
        };
        Ok(Authority {
            pem,
            shown: Shown::Made(Box::new(maker)),
        })
    }

    /// The certificate (a chain, leaf first) and key of two PEM texts.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> io::Result<Authority> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let certificates = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| invalid("the certificate is not PEM"))?;
        if certificates.is_empty() {
            return Err(invalid("there is no certificate in the file"));
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| invalid("the key is not PEM"))?;
        let key = any_supported_type(&key).map_err(io::Error::other)?;
        Ok(Authority {
            pem: String::from_utf8_lossy(chain).into_owned(),
            shown: Shown::Given(Arc::new(CertifiedKey::new(certificates, key))),
        })
    }

    /// What clients must trust, as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }
}

impl Maker {
    fn leaf(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = leaves.get(name) {
            return Some(leaf.clone());
        }
        let mut names = vec![name.to_owned()];
        if name == "localhost" {
            names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
        }
        let mut params = CertificateParams::new(names).ok()?;
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&self.leaf_key, &self.issuer).ok()?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der()));
        let key = any_supported_type(&key).ok()?;
        let leaf = Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key));
        leaves.insert(name.to_owned(), leaf.clone());
        Some(leaf)
    }
}

impl ResolvesServerCert for Authority {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match &self.shown {
            Shown::Given(given) => Some(given.clone()),
            // Addresses are not sent as server names.
            Shown::Made(maker) => maker.leaf(hello.server_name().unwrap_or("localhost")),
        }
    }
}
