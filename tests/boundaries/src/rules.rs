//! What is checked besides cycles, which no crate may have.

/// All top-level modules of a crate, lowest first: each may use only those before it.
pub(crate) type Order = &'static [&'static str];

/// By the crate's folder.
pub(crate) const ORDERS: &[(&str, Order)] = &[
    (
        "crates/core",
        &[
            "digest",
            "side",
            "reference",
            "selector",
            "tags",
            "policy",
            "endpoint",
            "pod",
            "routing",
            "rescue",
            "reviews",
            "mirror",
        ],
    ),
    (
        "crates/controller",
        &[
            "clock",
            "events",
            "metrics",
            "reviews",
            "writes",
            "connections",
            "publish",
            "context",
            "pods",
            "proofs",
            "endpoints",
            "mirrors",
            "notifications",
            "pull_secrets",
        ],
    ),
    (
        "crates/registry",
        &[
            "wire",
            "auth",
            "tags",
            "budget",
            "connection",
            "protocol",
            "providers",
            "session",
            "content",
            "client",
            "diagnose",
            "copy",
        ],
    ),
];

/// The order for the crate in this folder, if it has one.
pub(crate) fn order(folder: &str) -> Option<Order> {
    ORDERS.iter().find(|(name, _)| *name == folder).map(|(_, order)| *order)
}

/// Where a provider may be named: its own folder and its registration, the type that decisions know it by, and the API's.
/// Everything else asks what is true of a provider, not which one it is.
pub(crate) const NAMES_PROVIDERS: &[&str] = &[
    "crates/registry/src/providers.rs",
    "crates/registry/src/providers/",
    "crates/core/src/policy/provider.rs",
    "crates/api/src/mirror.rs",
];

/// The enums whose variants are providers.
pub(crate) const PROVIDERS: &[&str] = &["Provider", "ProviderName"];
