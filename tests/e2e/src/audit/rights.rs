//! Rights that were granted, used and missed.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::Request;

/// One verb on one resource, as a rule of a Role grants it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// The namespace of a Role; empty for a `ClusterRole`, which holds everywhere.
    pub namespace: String,
    /// The API group; empty for the core group.
    pub group: String,
    /// The resource with its subresource.
    pub resource: String,
    /// The verb.
    pub verb: String,
    /// The names that it is limited to; empty: all.
    pub names: Vec<String>,
}

impl Grant {
    /// Whether this lets a request through.
    fn covers(&self, request: &Request, verb: &str) -> bool {
        (self.namespace.is_empty() || self.namespace == request.namespace)
            && self.group == request.group
            && self.resource == request.resource
            && self.verb == verb
            && (self.names.is_empty() || self.names.contains(&request.name))
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if !self.namespace.is_empty() {
            write!(f, " in {}", self.namespace)?;
        }
        if !self.names.is_empty() {
            write!(f, " named {}", self.names.join(", "))?;
        }
        Ok(())
    }
}

/// A right that a run need not use, or a request that none of the chart's rules lets through.
#[derive(Debug, Clone, Copy)]
pub struct Excuse {
    /// The verb.
    pub verb: &'static str,
    /// The resource with its subresource; of what is no resource, the beginning of its path.
    pub resource: &'static str,
    /// Why this is as it should be.
    pub reason: &'static str,
}

/// What the chart grants.
#[derive(Debug, Clone, Default)]
pub struct Rights {
    grants: BTreeSet<Grant>,
}

impl Rights {
    /// The rules of a list of Roles and `ClusterRole`s.
    pub fn of(roles: &Value) -> anyhow::Result<Self> {
        let mut grants = BTreeSet::new();
        for role in roles["items"].as_array().context("failed to find roles")? {
            let namespace = role["metadata"]["namespace"].as_str().unwrap_or_default();
            for rule in role["rules"].as_array().context("failed to find the rules of a role")? {
                let words = |key: &str| -> Vec<String> {
                    let words = rule[key].as_array().map(Vec::as_slice).unwrap_or_default();
                    words.iter().filter_map(Value::as_str).map(str::to_owned).collect()
                };
                ensure!(
                    words("nonResourceURLs").is_empty(),
                    "a rule grants what is no resource: {rule}"
                );
                for group in words("apiGroups") {
                    for resource in words("resources") {
                        for verb in words("verbs") {
                            ensure!(
                                [&group, &resource, &verb].iter().all(|word| !word.contains('*')),
                                "a rule grants everything of a kind: {rule}"
                            );
                            grants.insert(Grant {
                                namespace: namespace.to_owned(),
                                group: group.clone(),
                                resource: resource.clone(),
                                verb,
                                names: words("resourceNames"),
                            });
                        }
                    }
                }
            }
        }
        ensure!(!grants.is_empty(), "failed to find any rule");
        Ok(Self { grants })
    }

    /// The number of verbs on resources.
    pub fn len(&self) -> usize {
        self.grants.len()
    }

    /// Whether nothing is granted.
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }

    /// The grants that let a request through: those limited to its name if there are such, else the wider ones.
    fn used_by<'r>(&'r self, request: &'r Request) -> Vec<&'r Grant> {
        let mut used = Vec::new();
        for verb in verbs(request) {
            let covering: Vec<_> = self.grants.iter().filter(|grant| grant.covers(request, verb)).collect();
            let named = covering.iter().any(|grant| !grant.names.is_empty());
            used.extend(covering.into_iter().filter(|grant| !named || !grant.names.is_empty()));
        }
        used
    }

    /// What is granted and was never used, beside what is excused.
    pub fn unused<'r>(&'r self, requests: &[Request], excused: &[Excuse]) -> Vec<&'r Grant> {
        let mut unused: BTreeSet<&Grant> = self.grants.iter().collect();
        for request in requests.iter().filter(|request| !request.denied) {
            for grant in self.used_by(request) {
                // The same grant, of this set.
                unused.remove(grant);
            }
        }
        let excused = |grant: &&Grant| {
            excused
                .iter()
                .any(|e| e.verb == grant.verb && e.resource == grant.resource)
        };
        unused.into_iter().filter(|grant| !excused(grant)).collect()
    }

    /// What was refused, or was only let through by rights that the chart doesn't give, beside what is excused.
    pub fn missing<'r>(&self, requests: &'r [Request], excused: &[Excuse]) -> Vec<&'r Request> {
        let excused = |request: &Request| {
            excused.iter().any(|e| {
                e.verb == request.verb
                    && (e.resource == request.resource
                        || (e.resource.starts_with('/') && request.resource.starts_with(e.resource)))
            })
        };
        requests
            .iter()
            .filter(|request| request.denied || (self.used_by(request).is_empty() && !excused(request)))
            .collect()
    }

    /// Grants that would show Secrets without their being asked for by name.
    pub fn showing_secrets(&self) -> Vec<&Grant> {
        let showing = |grant: &&Grant| {
            let by_name = match grant.verb.as_str() {
                // A name must be known to ask for it, but only in one namespace at a time.
                "get" | "create" => !grant.namespace.is_empty(),
                "update" | "patch" | "delete" => !grant.namespace.is_empty() && !grant.names.is_empty(),
                _ => false,
            };
            grant.group.is_empty() && grant.resource == "secrets" && !by_name
        };
        self.grants.iter().filter(showing).collect()
    }
}

/// The verbs that a request needs: an apply that creates the object must be allowed to create it, too.
fn verbs(request: &Request) -> Vec<&str> {
    match (request.verb.as_str(), request.code) {
        ("patch", 201) => vec!["patch", "create"],
        (verb, _) => vec![verb],
    }
}
