//! Mirrors for the tests of mapping, routes and rescue.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Route, RouteTable};
use crate::mirror::parity::Verdict;
use crate::policy::{MirrorId, MirrorPolicy, Repositories, RepositoryRule, SidePolicy};
use crate::routing::evidence::{Knowledge, Presence};
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

/// Records by repository and reference; they become evidence of the mirror that they are given with.
pub(crate) type Evidence = Vec<(String, String, Knowledge)>;

pub(crate) fn evidence<K: Copy + Into<Knowledge>>(records: &[(&str, &str, K)]) -> Evidence {
    let owned =
        |(repository, key, known): &(&str, &str, K)| ((*repository).to_owned(), (*key).to_owned(), (*known).into());
    records.iter().map(owned).collect()
}

/// What is known of a reference whose sides both were read.
impl From<Verdict> for Knowledge {
    fn from(verdict: Verdict) -> Knowledge {
        knowledge(verdict)
    }
}

fn knowledge(verdict: Verdict) -> Knowledge {
    let presence = |primary, fallback| Knowledge {
        presence: Sides { primary, fallback },
        same: verdict == Verdict::InSync,
    };
    match verdict {
        Verdict::InSync | Verdict::Mismatched => presence(Presence::Present, Presence::Present),
        Verdict::MissingOnPrimary => presence(Presence::Absent, Presence::Present),
        Verdict::MissingOnFallback => presence(Presence::Present, Presence::Absent),
        Verdict::Pending => Knowledge::NOTHING,
    }
}

pub(crate) fn route(policy: MirrorPolicy, active: Side, evidence: Evidence) -> Route {
    let rule = |name: &str| match &policy.repositories {
        Repositories::InUse => None,
        Repositories::Listed(rules) => rules.iter().find(|rule| rule.name == name),
    };
    let records = evidence
        .into_iter()
        .map(|(name, key, known)| (policy.key(&name, rule(&name), &key), known));
    let evidence = Arc::new(records.collect());
    let observed = Arc::new(policy.mappings());
    Route {
        policy: Arc::new(policy),
        active,
        epoch: 7,
        evidence,
        observed,
        unavailable: Sides::default(),
    }
}

/// A snapshot in which no namespace has labels of its own.
pub(crate) fn table(routes: Vec<Route>) -> RouteTable {
    RouteTable::new(routes, Arc::new(BTreeMap::new()), Arc::default())
}
