//! Which pods are anything to the mirrors that there are.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use catamaran_core::pod::{REWRITE_LABEL, image_reference};
use catamaran_core::policy::{MirrorPolicy, Repositories};
use catamaran_core::routing::{Route, RouteTable};
use catamaran_core::side::Side;

/// A route table with the scope of its mirrors.
#[derive(Clone, Debug, Default)]
pub(crate) struct ScopedTable {
    /// The table.
    pub(crate) table: Arc<RouteTable>,
    /// The scope.
    pub(crate) scope: Arc<Scope>,
}

impl ScopedTable {
    pub(crate) fn new(table: &Arc<RouteTable>) -> ScopedTable {
        ScopedTable {
            table: Arc::clone(table),
            scope: Arc::new(Scope::new(table)),
        }
    }

    /// Whether another table has the very same mirrors, with the same specs.
    pub(crate) fn has_mirrors_of(&self, table: &RouteTable) -> bool {
        self.scope.has_policies_of(table)
    }

    /// A newer table; the scope is made anew only if there are other mirrors.
    pub(crate) fn next(&self, table: &Arc<RouteTable>) -> ScopedTable {
        if !self.has_mirrors_of(table) {
            return ScopedTable::new(table);
        }
        let scope = Arc::clone(&self.scope);
        ScopedTable {
            table: Arc::clone(table),
            scope,
        }
    }
}

/// What the mirrors of a route table look at in pods: which registries and labels. It does not depend on what is known of
/// tags, nor on which side is active, so it changes with the mirrors' specs only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    policies: Vec<Arc<MirrorPolicy>>,
    /// The policies (by position) of each registry.
    registries: HashMap<String, Vec<usize>>,
    labels: BTreeSet<String>,
    fingerprint: u64,
}

impl Scope {
    pub(crate) fn new(table: &RouteTable) -> Scope {
        let policies: Vec<_> = table.routes().iter().map(|route| Arc::clone(&route.policy)).collect();
        let mut registries = HashMap::<String, Vec<usize>>::new();
        let mut labels = BTreeSet::from([REWRITE_LABEL.to_owned()]);
        for (position, policy) in policies.iter().enumerate() {
            for side in Side::ALL {
                let positions = registries.entry(policy.sides[side].registry.clone()).or_default();
                if positions.last() != Some(&position) {
                    positions.push(position);
                }
            }
            let selectors = policy.rewrite.exclude_pods.iter();
            let requirements = selectors.flat_map(|selector| &selector.requirements);
            labels.extend(requirements.map(|requirement| requirement.key.clone()));
        }
        let fingerprint = fingerprint(&policies, &labels);
        Scope {
            policies,
            registries,
            labels,
            fingerprint,
        }
    }

    fn has_policies_of(&self, table: &RouteTable) -> bool {
        let routes = table.routes();
        let is_same = |(route, policy): (&Route, &Arc<MirrorPolicy>)| Arc::ptr_eq(&route.policy, policy);
        routes.len() == self.policies.len() && routes.iter().zip(&self.policies).all(is_same)
    }

    /// Tells scopes apart that keep different pods, or different labels of them.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Whether an image belongs to some mirror, on either side, whatever the namespace of its pod.
    pub(crate) fn concerns(&self, image: &str) -> bool {
        let Some(reference) = image_reference(image) else {
            return false;
        };
        let Some(positions) = self.registries.get(reference.registry()) else {
            return false;
        };
        let mut policies = positions.iter().filter_map(|position| self.policies.get(*position));
        policies.any(|policy| policy.locate(&reference).is_some())
    }

    /// Whether a label of a pod decides about it.
    pub(crate) fn asks_for_label(&self, name: &str) -> bool {
        self.labels.contains(name)
    }
}

fn fingerprint(policies: &[Arc<MirrorPolicy>], labels: &BTreeSet<String>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for policy in policies {
        for side in Side::ALL {
            let side = &policy.sides[side];
            (&side.registry, &side.prefix).hash(&mut hasher);
        }
        match &policy.repositories {
            Repositories::InUse => 0.hash(&mut hasher),
            Repositories::Listed(rules) => {
                rules.len().hash(&mut hasher);
                for rule in rules {
                    rule.paths.hash(&mut hasher);
                }
            }
        }
    }
    labels.hash(&mut hasher);
    hasher.finish()
}
