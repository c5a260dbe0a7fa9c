//! The canaries, and the Secrets that hold them.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::GeneralPurpose;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use catamaran_core::side::{Side, Sides};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

pub(super) const HMAC: &str = "canary-notification-key-93be";
const PASSWORD: &str = "canary/Password+8f1c ünd";
const CLASSIC: &str = "ghp_canaryClassicToken0123456789abcdef00";
const FINE_GRAINED: &str = "github_pat_canaryFineGrained0123456789";
/// The user name that stands for "the password is a refresh token".
const NULL_USER: &str = "00000000-0000-0000-0000-000000000000";

/// What must have been told for the search to mean something: every class of failure, and what goes well.
pub(super) const REASONS: &[&str] = &[
    "Reachable",
    "ConnectionFailed",
    "TLSError",
    "Timeout",
    "ServerError",
    "Unauthorized",
    "Forbidden",
    "NetworkDenied",
    "RateLimited",
    "CredentialsUnavailable",
    "SecretNotFound",
    "SecretInvalid",
    "UnsupportedCredentials",
    "FailedOver",
    "TagsCopied",
    "CopyFailed",
    "PullSecretNotMinted",
];

/// What the primary's Secret holds; the fallback's is a classic token of GitHub's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A user and a password.
    Password,
    /// A refresh token of Azure's registry.
    Refresh,
    /// A user and a password, and a client certificate with its key.
    Certificate,
}

impl Kind {
    pub(super) const ALL: [Kind; 3] = [Kind::Password, Kind::Refresh, Kind::Certificate];

    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::Password => "password",
            Kind::Refresh => "refresh",
            Kind::Certificate => "certificate",
        }
    }

    pub(super) fn hosts(self) -> Sides<&'static str> {
        let primary = match self {
            Kind::Password | Kind::Refresh => "kracr.azurecr.io",
            Kind::Certificate => "registry.test",
        };
        Sides {
            primary,
            fallback: "ghcr.io",
        }
    }

    pub(super) fn provider(self) -> &'static str {
        match self {
            Kind::Password | Kind::Refresh => "azure",
            Kind::Certificate => "generic",
        }
    }

    /// Whether pull secrets are asked for.
    pub(super) fn mints(self) -> bool {
        self != Kind::Certificate
    }

    /// The data of the Secrets, by name. `broken`: so that the credentials can't be used.
    pub(super) fn secrets(self, authorities: &Sides<Vec<u8>>, broken: Option<Broken>) -> Vec<(&'static str, Value)> {
        let hosts = self.hosts();
        let config = |host: &str, user: &str, password: &str| {
            let auth = BASE64_STANDARD.encode(format!("{user}:{password}"));
            let whole = json!({"auths": {host: {"username": user, "password": password, "auth": auth}}}).to_string();
            let cut = if broken == Some(Broken::Cut) { 12 } else { 0 };
            data(&[(".dockerconfigjson", &whole.as_bytes()[..whole.len() - cut])])
        };
        let primary = match self {
            Kind::Password => config(hosts.primary, "bot", PASSWORD),
            Kind::Refresh => config(hosts.primary, NULL_USER, &refresh()),
            Kind::Certificate => data(&[("username", b"bot"), ("password", PASSWORD.as_bytes())]),
        };
        let token = if broken == Some(Broken::FineGrained) {
            FINE_GRAINED
        } else {
            CLASSIC
        };
        let (certificate, key) = client_identity();
        let mut primary_ca = vec![("ca.crt", authorities.primary.as_slice())];
        if self == Kind::Certificate {
            primary_ca.extend([("tls.crt", certificate.as_bytes()), ("tls.key", key.as_bytes())]);
        }
        vec![
            ("primary", primary),
            ("primary-ca", data(&primary_ca)),
            ("fallback", config(hosts.fallback, "bot", token)),
            ("fallback-ca", data(&[("ca.crt", &authorities.fallback)])),
        ]
    }
}

/// The type of a Secret that holds these data.
pub(super) fn type_of(data: &Value) -> &'static str {
    if data.get(".dockerconfigjson").is_some() {
        "kubernetes.io/dockerconfigjson"
    } else if data.get("password").is_some() {
        "kubernetes.io/basic-auth"
    } else {
        "Opaque"
    }
}

/// The repository, as each side has it.
pub(super) fn path(side: Side) -> &'static str {
    match side {
        Side::Primary => "web",
        Side::Fallback => "devopskev/web",
    }
}

/// What is wrong with the content of a Secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// Its end is missing.
    Cut,
    /// GitHub's registry takes no such token.
    FineGrained,
}

fn data(entries: &[(&str, &[u8])]) -> Value {
    let entries = entries.iter();
    entries
        .map(|(key, value)| ((*key).to_owned(), Value::from(BASE64_STANDARD.encode(value))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// A refresh token that says when it ends, as Azure's do.
pub(super) fn refresh() -> String {
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let (head, claims) = (part(json!({"alg": "RS256"})), part(json!({"exp": 4_102_444_800_i64})));
    format!("{head}.{claims}.{}", signature())
}

fn signature() -> &'static str {
    "canary-refresh-token-77aa01"
}

struct Authority {
    pem: String,
    certificate: String,
    key: String,
}

fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "clients");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own = KeyPair::generate().unwrap();
        let pem = params.self_signed(&own).unwrap().pem();
        let issuer = Issuer::new(params, own);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "catamaran");
        let certificate = params.signed_by(&key, &issuer).unwrap().pem();
        Authority {
            pem,
            certificate,
            key: key.serialize_pem(),
        }
    })
}

/// The authority (PEM) that client certificates are of.
pub(super) fn client_authority() -> String {
    authority().pem.clone()
}

fn client_identity() -> (&'static str, &'static str) {
    (&authority().certificate, &authority().key)
}

/// Every canary.
pub(super) fn all() -> BTreeSet<String> {
    let key = authority().key.lines().filter(|line| !line.starts_with("-----"));
    let others = [HMAC, PASSWORD, CLASSIC, FINE_GRAINED, signature()];
    others.into_iter().chain(key).map(str::to_owned).collect()
}

/// Those that a pull secret may never hold.
pub(super) fn never_minted() -> BTreeSet<String> {
    let mut all = all();
    all.remove(signature());
    all
}

/// What registries are sent when the credentials of users are what they take.
pub(super) fn sent_as_they_are() -> Vec<String> {
    [("bot", PASSWORD), ("bot", CLASSIC)]
        .map(|(user, password)| BASE64_STANDARD.encode(format!("{user}:{password}")))
        .into()
}

/// The secret in the forms in which it could stand somewhere, also as a part of something longer in base64.
pub(super) fn forms(secret: &str) -> Vec<String> {
    let encoded: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let mut forms = vec![
        secret.to_owned(),
        encoded,
        // As `Debug` gives bytes.
        format!("{:?}", secret.as_bytes()).trim_matches(['[', ']']).to_owned(),
        json!(secret).to_string().trim_matches('"').to_owned(),
    ];
    for engine in [&BASE64_STANDARD_NO_PAD, &BASE64_URL_SAFE_NO_PAD] {
        forms.extend((0..3).map(|shift| within(engine, secret, shift)));
    }
    forms.sort();
    forms.dedup();
    forms
}

/// What base64 makes of it behind so many other bytes, without the characters that its neighbours share in.
fn within(engine: &GeneralPurpose, secret: &str, shift: usize) -> String {
    let mut bytes = vec![0; shift];
    bytes.extend_from_slice(secret.as_bytes());
    bytes.truncate(bytes.len() / 3 * 3);
    let encoded = engine.encode(bytes);
    encoded[if shift == 0 { 0 } else { 4 }..].to_owned()
}
