//! Which mirror owns a repository: found by hashing the registry, the path and its parents.

use std::collections::HashMap;
use std::sync::Arc;

use super::Route;
use super::pod::Located;
use crate::policy::Repositories;
use crate::reference::{Reference, registry_key};
use crate::side::Side;

/// Claims by registry, as [`registry_key`] spells it.
#[derive(Clone, Debug, Default)]
pub(super) struct Index(pub(super) Arc<HashMap<Box<str>, Host>>);

#[derive(Debug, Default)]
pub(super) struct Host {
    /// By full path: mirrors that list the repository.
    pub(super) listed: Claims,
    /// By prefix, the empty one included: mirrors of everything below it.
    pub(super) prefixes: Claims,
}

/// Claims on the same name in the order of precedence.
pub(super) type Claims = HashMap<Box<str>, Vec<Claim>>;

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

    /// The winner among the claims of those routes that `selects` picks.
    pub(super) fn find<'t, 'r>(
        &'t self,
        routes: &'t [Route],
        reference: &'r Reference<'_>,
        selects: impl Fn(&Route) -> bool,
    ) -> Option<Located<'t, 'r>>
    where
        't: 'r,
    {
        let host = self.0.get(&*registry_key(reference.registry()))?;
        let path = reference.repository();
        let mut claims = host
            .claims_on(path)
            .flat_map(|(below, claims)| claims.iter().map(move |claim| (below, claim)));
        claims.find_map(|(below, claim)| {
            let route = routes.get(claim.route).filter(|route| selects(route))?;
            let rule = match &route.policy.repositories {
                Repositories::Listed(rules) => Some(rules.get(claim.rule)?),
                Repositories::InUse => None,
            };
            let repository = rule.map_or(below, |rule| rule.name.as_str());
            Some(Located {
                route,
                side: claim.side,
                repository,
                rule,
            })
        })
    }
}

impl Host {
    fn add(&mut self, position: usize, route: &Route, side: Side) {
        match &route.policy.repositories {
            Repositories::Listed(rules) => {
                for (rule, paths) in rules.iter().map(|rule| &rule.paths).enumerate() {
                    claim(
                        &mut self.listed,
                        &paths[side],
                        Claim {
                            route: position,
                            side,
                            rule,
                        },
                    );
                }
            }
            Repositories::InUse => {
                let prefix = &route.policy.sides[side].prefix;
                claim(
                    &mut self.prefixes,
                    prefix,
                    Claim {
                        route: position,
                        side,
                        rule: 0,
                    },
                );
            }
        }
    }

    /// All claims on a repository, the closest first, each with what of the path lies below it.
    fn claims_on<'s>(&'s self, path: &'s str) -> impl Iterator<Item = (&'s str, &'s [Claim])> {
        let listed = self.listed.get(path).map(|claims| (path, claims.as_slice()));
        listed.into_iter().chain(self.prefixes_of(path))
    }

    /// The claims on everything below a proper parent of `path`, the longest first.
    pub(super) fn prefixes_of<'s>(&'s self, path: &'s str) -> impl Iterator<Item = (&'s str, &'s [Claim])> {
        let parents = path
            .rmatch_indices('/')
            .map(|(slash, _)| (&path[..slash], &path[slash + 1..]));
        parents
            .chain([("", path)])
            .filter_map(|(prefix, below)| Some((below, self.prefixes.get(prefix)?.as_slice())))
    }
}

fn claim(claims: &mut Claims, name: &str, claim: Claim) {
    claims.entry(name.into()).or_default().push(claim);
}
