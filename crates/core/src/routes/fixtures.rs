//! Mirrors for the tests of mapping, routes and rescue.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Route, RouteTable};
use crate::evidence::{Evidence, Verdict};
use crate::policy::{MirrorId, MirrorPolicy, Repositories, RepositoryRule, SidePolicy};
use crate::side::{Side, Sides};
use crate::tags::TagFilter;

/// One side, with a pull secret named after its registry's first label.
pub(crate) fn side(registry: &str, prefix: &str) -> SidePolicy {
    let label = registry.split('.').next().unwrap();
    SidePolicy {
        registry: registry.to_owned(),
        prefix: prefix.to_owned(),
        image_pull_secrets: vec![format!("{label}-pull")],
        ..SidePolicy::default()
    }
}

/// A mirror of everything below two prefixes.
pub(crate) fn mirror(name: &str, primary: (&str, &str), fallback: (&str, &str)) -> MirrorPolicy {
    let id = MirrorId {
        name: name.into(),
        uid: format!("uid-{name}").into(),
    };
    let sides = Sides {
        primary: side(primary.0, primary.1),
        fallback: side(fallback.0, fallback.1),
    };
    MirrorPolicy::new(id, Timestamp::UNIX_EPOCH, sides)
}

/// `kracr.azurecr.io/NAME` and `ghcr.io/devopskev/NAME`.
pub(crate) fn apps() -> MirrorPolicy {
    mirror("apps", ("kracr.azurecr.io", ""), ("ghcr.io", "devopskev"))
}

/// Lists repositories as `(name, primary, fallback)`.
pub(crate) fn listing(mut policy: MirrorPolicy, rules: &[(&str, &str, &str)]) -> MirrorPolicy {
    let rule = |&(name, primary, fallback): &(&str, &str, &str)| RepositoryRule {
        name: name.to_owned(),
        paths: Sides {
            primary: primary.to_owned(),
            fallback: fallback.to_owned(),
        },
        tags: TagFilter::default(),
    };
    policy.repositories = Repositories::Listed(rules.iter().map(rule).collect());
    policy
}

pub(crate) fn evidence(records: &[(&str, &str, Verdict)]) -> Evidence {
    let mut builder = Evidence::builder();
    for (repository, key, verdict) in records {
        builder.insert(repository, key, *verdict);
    }
    builder.build()
}

pub(crate) fn route(policy: MirrorPolicy, active: Side, evidence: Evidence) -> Route {
    Route {
        policy: Arc::new(policy),
        active,
        epoch: 7,
        evidence: Arc::new(evidence),
    }
}

/// A snapshot in which no namespace has labels of its own.
pub(crate) fn table(routes: Vec<Route>) -> RouteTable {
    RouteTable::new(routes, Arc::new(BTreeMap::new()))
}
