//! Which mirror owns a repository: found by hashing the registry, the path and its parents.

use std::collections::HashMap;
use std::sync::Arc;

use super::Route;
use super::pod::Located;
use crate::policy::Repositories;
use crate::reference::{Reference, registry_key};
use crate::selector::{Labels, Operator, Selector};
use crate::side::Side;

/// Claims by registry, as [`registry_key`] spells it.
#[derive(Clone, Debug, Default)]
pub(super) struct Index(pub(super) Arc<HashMap<Box<str>, Host>>);

#[derive(Debug, Default)]
pub(super) struct Host {
    /// By full path: mirrors that list the repository.
    pub(super) listed: Names,
    /// By prefix, the empty one included: mirrors of everything below it.
    pub(super) prefixes: Names,
}

/// Who claims each name.
type Names = HashMap<Box<str>, Claims>;

/// The claims on one name. Hundreds of mirrors may claim it, each for namespaces of its own: what a namespace's labels can't
/// have is not asked.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Of mirrors that require no value of a label, in the order of precedence.
    open: Vec<Claim>,
    /// By a label's name and each of the values that a mirror requires one of, in the order of precedence.
    labelled: HashMap<Box<str>, HashMap<Box<str>, Vec<Claim>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim {
    /// Position among the routes, which are in the order of precedence.
    pub(super) route: usize,
    side: Side,
    /// Position among the mirror's listed repositories.
    rule: usize,
}

impl Index {
    /// `routes` must be in the order of precedence.
    pub(super) fn new(routes: &[Route]) -> Index {
        let mut hosts = HashMap::<Box<str>, Host>::new();
        for (position, route) in routes.iter().enumerate() {
            for side in Side::ALL {
                let registry = registry_key(&route.policy.sides[side].registry);
                let host = hosts.entry(registry.into()).or_default();
                host.add(position, route, side);
            }
        }
        Index(Arc::new(hosts))
    }

    /// The winner among the claims of mirrors that select a namespace with these labels.
    pub(super) fn find<'t, 'r>(
        &'t self,
        routes: &'t [Route],
        reference: &'r Reference<'_>,
        labels: &Labels,
    ) -> Option<Located<'t, 'r>>
    where
        't: 'r,
    {
        let host = self.0.get(&*registry_key(reference.registry()))?;
        let selects = |claim: &Claim| {
            let route = routes.get(claim.route);
            route.is_some_and(|route| route.policy.namespaces.matches(labels))
        };
        host.claims_on(reference.repository()).find_map(|(below, claims)| {
            let claim = claims.first(labels, selects)?;
            let route = routes.get(claim.route)?;
            let rule = match &route.policy.repositories {
                Repositories::Listed(rules) => Some(rules.get(claim.rule)?),
                Repositories::InUse => None,
            };
            Some(Located {
                route,
                side: claim.side,
                repository: rule.map_or(below, |rule| rule.name.as_str()),
                rule,
            })
        })
    }
}

impl Claims {
    fn add(&mut self, selector: &Selector, claim: Claim) {
        let required = selector
            .requirements
            .iter()
            .find_map(|required| match &required.operator {
                Operator::In(values) => Some((&required.key, values)),
                _ => None,
            });
        let Some((key, values)) = required else {
            return self.open.push(claim);
        };
        let by_value = self.labelled.entry(key.as_str().into()).or_default();
        for value in values {
            by_value.entry(value.as_str().into()).or_default().push(claim);
        }
    }

    /// The first that `selects` picks, among those that a namespace with these labels can belong to.
    fn first(&self, labels: &Labels, selects: impl Fn(&Claim) -> bool) -> Option<&Claim> {
        let labelled = labels.iter().filter(|_| !self.labelled.is_empty());
        let labelled = labelled.filter_map(|(key, value)| self.labelled.get(key.as_str())?.get(value.as_str()));
        let lists = std::iter::once(&self.open).chain(labelled);
        lists
            .filter_map(|claims| claims.iter().find(|claim| selects(claim)))
            .min()
    }

    /// All of them, in the order of precedence.
    pub(super) fn all(&self) -> Vec<Claim> {
        let labelled = self.labelled.values().flat_map(HashMap::values).flatten();
        let mut all: Vec<Claim> = self.open.iter().chain(labelled).copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Host {
    fn add(&mut self, position: usize, route: &Route, side: Side) {
        let policy = &route.policy;
        let claim = |rule| Claim {
            route: position,
            side,
            rule,
        };
        let add = |names: &mut Names, name: &str, claim| {
            let claims = names.entry(name.into()).or_default();
            claims.add(&policy.namespaces, claim);
        };
        match &policy.repositories {
            Repositories::Listed(rules) => {
                for (rule, paths) in rules.iter().map(|rule| &rule.paths).enumerate() {
                    add(&mut self.listed, &paths[side], claim(rule));
                }
            }
            Repositories::InUse => add(&mut self.prefixes, &policy.sides[side].prefix, claim(0)),
        }
    }

    /// All claims on a repository, the closest first, each with what of the path lies below it.
    fn claims_on<'s>(&'s self, path: &'s str) -> impl Iterator<Item = (&'s str, &'s Claims)> {
        let listed = self.listed.get(path).map(|claims| (path, claims));
        listed.into_iter().chain(self.prefixes_of(path))
    }

    /// The claims on everything below a proper parent of `path`, the longest first.
    pub(super) fn prefixes_of<'s>(&'s self, path: &'s str) -> impl Iterator<Item = (&'s str, &'s Claims)> {
        let parents = path
            .rmatch_indices('/')
            .map(|(slash, _)| (&path[..slash], &path[slash + 1..]));
        parents
            .chain([("", path)])
            .filter_map(|(prefix, below)| Some((below, self.prefixes.get(prefix)?)))
    }
}
