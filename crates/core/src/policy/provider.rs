//! Whose registry a side is, and what decisions need to know of that.

/// Whose registry a side is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Provider {
    /// Any OCI distribution registry.
    #[default]
    Generic,
    /// GitHub Container Registry.
    GitHub,
    /// Azure Container Registry.
    Azure,
    /// Amazon Elastic Container Registry.
    Aws,
    /// Google Artifact Registry.
    Google,
}

/// What decisions need to know of a provider. How its registries are talked to is not among it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that have nothing to do with each other"
)]
pub struct ProviderFacts {
    /// Its name in a spec.
    pub name: &'static str,
    /// Content may be there and withheld: left out of lists, or called absent.
    pub withholds: bool,
    /// With an identity, its rules for pull-through caches can be read.
    pub has_cache_rules: bool,
    /// The operator may have an identity there without a stored secret.
    pub has_identities: bool,
    /// A spec may say which.
    pub chooses_identity: bool,
    /// Pods can be given a credential that expires.
    pub mints: bool,
}

/// A provider of which nothing more is known.
const PLAIN: ProviderFacts = ProviderFacts {
    name: "generic",
    withholds: false,
    has_cache_rules: false,
    has_identities: false,
    chooses_identity: false,
    mints: false,
};

impl Provider {
    /// Each of them.
    pub const ALL: [Provider; 5] = [
        Provider::Generic,
        Provider::GitHub,
        Provider::Azure,
        Provider::Aws,
        Provider::Google,
    ];

    /// What decisions need to know of it.
    pub fn facts(self) -> ProviderFacts {
        match self {
            Provider::Generic => PLAIN,
            Provider::GitHub => ProviderFacts {
                name: "github",
                ..PLAIN
            },
            // Its lists leave out what is locked against listing, and what is in quarantine it calls absent.
            Provider::Azure => ProviderFacts {
                name: "azure",
                withholds: true,
                has_identities: true,
                chooses_identity: true,
                mints: true,
                ..PLAIN
            },
            Provider::Aws => ProviderFacts {
                name: "aws",
                has_cache_rules: true,
                has_identities: true,
                mints: true,
                ..PLAIN
            },
            // An access token may have minutes left when it is given, which is too little for a Secret of pods.
            Provider::Google => ProviderFacts {
                name: "google",
                has_identities: true,
                ..PLAIN
            },
        }
    }
}
