//! What is checked of which crate. A crate that is not named here must have no cycle.

/// A rule for one crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Cycles are counted and not refused. Refused is an exemption that is not needed any more.
    Exempt,
    /// All top-level modules, lowest first: each may use only those before it.
    Order(&'static [&'static str]),
}

/// By the crate's folder.
pub(crate) const RULES: &[(&str, Rule)] = &[
    (
        "crates/core",
        Rule::Order(&[
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
            "mirror",
        ]),
    ),
    (
        "crates/controller",
        Rule::Order(&[
            "clock",
            "events",
            "metrics",
            "writes",
            "connections",
            "publish",
            "context",
            "pods",
            "endpoints",
            "mirrors",
            "notifications",
            "pull_secrets",
        ]),
    ),
    // Its modules are told apart when it is built in layers.
    ("crates/registry", Rule::Exempt),
];

/// The rule for the crate in this folder, if it has one.
pub(crate) fn rule(folder: &str) -> Option<Rule> {
    RULES.iter().find(|(name, _)| *name == folder).map(|(_, rule)| *rule)
}
