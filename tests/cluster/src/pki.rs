//! Keys and certificates. Everything is made anew for each cluster and is P-256.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData as _,
};

/// A certificate and its key, both PEM.
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate,
        })
    }

    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// `group` becomes the organization: Kubernetes reads it as a group. `names` are DNS names and IP addresses.
    pub fn issue(&self, name: &str, group: Option<&str>, names: &[&str]) -> anyhow::Result<Identity> {
        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Identity {
            certificate,
            key: key.serialize_pem(),
        })
    }
}

/// A pair of keys without a certificate, for signing tokens.
pub struct SigningKey {
    pub private: String,
    pub public: String,
    /// The public key as a JSON web key set with [`SigningKey::ID`].
    pub jwks: String,
}

impl SigningKey {
    pub const ID: &str = "cluster";

    pub fn new() -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        // An uncompressed point: a byte 4, then x and y.
        let (x, y) = key.der_bytes()[1..].split_at(32);
        let jwks = serde_json::json!({"keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": Self::ID,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }]});
        Ok(Self {
            private: key.serialize_pem(),
            public: key.public_key_pem(),
            jwks: jwks.to_string(),
        })
    }
}

/// A kubeconfig with everything in it.
pub fn kubeconfig(server: &str, authority: &str, identity: &Identity) -> String {
    let (authority, certificate, key) = (
        STANDARD.encode(authority),
        STANDARD.encode(&identity.certificate),
        STANDARD.encode(&identity.key),
    );
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: cluster\n\
         contexts: [{{name: cluster, context: {{cluster: cluster, user: user}}}}]\n\
         clusters: [{{name: cluster, cluster: {{server: \"{server}\", certificate-authority-data: {authority}}}}}]\n\
         users: [{{name: user, user: {{client-certificate-data: {certificate}, client-key-data: {key}}}}}]\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_key_has_coordinates_of_32_bytes() {
        let key = SigningKey::new().unwrap();
        let set: serde_json::Value = serde_json::from_str(&key.jwks).unwrap();
        for coordinate in ["x", "y"] {
            let text = set["keys"][0][coordinate].as_str().unwrap();
            assert_eq!(URL_SAFE_NO_PAD.decode(text).unwrap().len(), 32);
        }
    }
}
