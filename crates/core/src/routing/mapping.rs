//! Which repository on one side is which on the other.

use std::borrow::Cow;

use crate::policy::{MirrorPolicy, Repositories, RepositoryRule, SidePolicy};
use crate::reference::{Reference, same_registry};
use crate::side::Side;
use crate::tags::TagFilter;

/// Where in a mirror a reference points.
#[derive(Clone, Debug)]
pub struct Location<'a> {
    /// The side that the reference names.
    pub side: Side,
    /// The repository's name in status and evidence: a listed one's name, else the path below the prefix.
    pub repository: Cow<'a, str>,
    /// The rule that lists it.
    pub rule: Option<&'a RepositoryRule>,
    /// How closely the mirror names the repository: `usize::MAX` when it is listed, else the prefix's length in bytes.
    pub specificity: usize,
}

impl MirrorPolicy {
    /// Finds the side and repository that a reference names, if it belongs to this mirror.
    ///
    /// Registries are compared by [`same_registry`]; a prefix ends at a slash. Where both sides could be meant, the
    /// closer match wins, then the primary. Takes time in proportion to the number of listed repositories: the
    /// webhook goes by the index in [`crate::routing`] instead, which agrees with this.
    pub fn locate<'a>(&'a self, reference: &'a Reference<'_>) -> Option<Location<'a>> {
        let sides = Side::ALL
            .into_iter()
            .filter(|side| same_registry(&self.sides[*side].registry, reference.registry()));
        let found = sides.filter_map(|side| self.locate_on(side, reference.repository()));
        // `max_by_key` takes the last of equals, which must be the primary.
        found.rev().max_by_key(|location| location.specificity)
    }

    fn locate_on<'a>(&'a self, side: Side, path: &'a str) -> Option<Location<'a>> {
        match &self.repositories {
            Repositories::Listed(rules) => {
                let rule = rules.iter().find(|rule| rule.paths[side] == path)?;
                let repository = Cow::Borrowed(rule.name.as_str());
                Some(Location {
                    side,
                    repository,
                    rule: Some(rule),
                    specificity: usize::MAX,
                })
            }
            Repositories::InUse => {
                let prefix = &self.sides[side].prefix;
                let repository = Cow::Borrowed(below(prefix, path)?);
                Some(Location {
                    side,
                    repository,
                    rule: None,
                    specificity: prefix.len(),
                })
            }
        }
    }

    /// The full path on a side of a repository by its name in status and evidence.
    pub fn path<'a>(&'a self, side: Side, repository: &'a str) -> Cow<'a, str> {
        match self.rule(repository) {
            Some(rule) => Cow::Borrowed(&rule.paths[side]),
            None => self.sides[side].path(repository),
        }
    }

    /// Whether a tag of a repository, by its name in status and evidence, is verified.
    pub fn selects_tag(&self, repository: &str, tag: &str) -> bool {
        self.selects(self.rule(repository), tag)
    }

    /// The same of a repository whose rule was found before: for many tags of it.
    pub(crate) fn selects(&self, rule: Option<&RepositoryRule>, tag: &str) -> bool {
        match (&self.repositories, rule) {
            (Repositories::Listed(_), None) => false,
            (_, rule) => selects_tag(rule, tag),
        }
    }

    pub(crate) fn rule(&self, repository: &str) -> Option<&RepositoryRule> {
        match &self.repositories {
            Repositories::InUse => None,
            Repositories::Listed(rules) => rules.iter().find(|rule| rule.name == repository),
        }
    }
}

/// The rule of the repository that was looked up last: references of one often follow one another, and there may be many rules.
#[derive(Debug, Default)]
pub(crate) struct LatestRule<'p>(Option<(String, Option<&'p RepositoryRule>)>);

impl<'p> LatestRule<'p> {
    /// The repository's rule, if it has one.
    pub(crate) fn of(&mut self, policy: &'p MirrorPolicy, repository: &str) -> Option<&'p RepositoryRule> {
        match &self.0 {
            Some((name, rule)) if name == repository => *rule,
            _ => {
                let rule = policy.rule(repository);
                self.0 = Some((repository.to_owned(), rule));
                rule
            }
        }
    }
}

impl SidePolicy {
    /// `registry` or `registry/prefix`: what a side is, whichever place it has in the spec.
    pub fn name(&self) -> String {
        if self.prefix.is_empty() {
            self.registry.clone()
        } else {
            format!("{}/{}", self.registry, self.prefix)
        }
    }

    /// The full path of what lies below the prefix.
    pub fn path<'a>(&self, repository: &'a str) -> Cow<'a, str> {
        if self.prefix.is_empty() {
            Cow::Borrowed(repository)
        } else {
            Cow::Owned([self.prefix.as_str(), "/", repository].concat())
        }
    }
}

/// Whether a tag of a repository that this rule lists, or that no rule has to, is verified.
pub(super) fn selects_tag(rule: Option<&RepositoryRule>, tag: &str) -> bool {
    match rule {
        Some(rule) => rule.tags.selects(tag),
        None => TagFilter::default().selects(tag),
    }
}

/// What of `path` lies below `prefix`, on a component boundary.
fn below<'a>(prefix: &str, path: &'a str) -> Option<&'a str> {
    if prefix.is_empty() {
        Some(path)
    } else {
        path.strip_prefix(prefix)?.strip_prefix('/')
    }
}

#[cfg(test)]
mod tests;
