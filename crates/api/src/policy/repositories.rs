//! The repositories of a mirror, and where each is on either side.

use std::collections::BTreeMap;

use catamaran_core::policy::{Repositories, RepositoryRule, SidePolicy};
use catamaran_core::reference::is_repository_path;
use catamaran_core::side::{Side, Sides};
use catamaran_core::tags::TagFilter;

use super::checks::{PolicyError, check_unique};
use crate::mirror::{Repository, TagRules};
use crate::rules::{MAX_PATTERN, MAX_PATTERNS, MAX_REPOSITORIES};

pub(super) const NOT_A_PATH: &str =
    "must be a repository path of at most 255 characters: lower case, no slash at its ends, no registry, no tag";

pub(super) fn repositories(
    listed: Option<&[Repository]>,
    sides: &Sides<SidePolicy>,
) -> Result<Repositories, PolicyError> {
    let Some(listed) = listed else {
        return Ok(Repositories::InUse);
    };
    if listed.is_empty() || listed.len() > MAX_REPOSITORIES {
        return Err(PolicyError::new(
            "spec.repositories",
            format!(
                "must be absent or have 1 to {MAX_REPOSITORIES} entries, not {}",
                listed.len()
            ),
        ));
    }
    let field = |index: usize| format!("spec.repositories[{index}].name");
    check_unique(listed.iter().map(|repository| repository.name.as_str()), field)?;
    let rules = listed
        .iter()
        .enumerate()
        .map(|(index, repository)| rule(index, repository, sides));
    let rules = rules.collect::<Result<Vec<_>, _>>()?;
    check_disjoint(&rules, sides)?;
    Ok(Repositories::Listed(rules))
}

fn rule(index: usize, repository: &Repository, sides: &Sides<SidePolicy>) -> Result<RepositoryRule, PolicyError> {
    let field = |name: &str| format!("spec.repositories[{index}].{name}");
    if !is_repository_path(&repository.name) {
        return Err(PolicyError::new(field("name"), NOT_A_PATH));
    }
    Ok(RepositoryRule {
        name: repository.name.clone(),
        paths: Sides {
            primary: path(repository.primary.as_deref(), &repository.name, &sides.primary)
                .ok_or_else(|| PolicyError::new(field("primary"), NOT_A_PATH))?,
            fallback: path(repository.fallback.as_deref(), &repository.name, &sides.fallback)
                .ok_or_else(|| PolicyError::new(field("fallback"), NOT_A_PATH))?,
        },
        tags: tags(&repository.tags, &field("tags"))?,
    })
}

/// The full path on one side: the explicit one as it is, else the name below the prefix.
fn path(explicit: Option<&str>, name: &str, side: &SidePolicy) -> Option<String> {
    let path = match explicit {
        Some(explicit) => explicit.to_owned(),
        None if side.prefix.is_empty() => name.to_owned(),
        None => format!("{}/{name}", side.prefix),
    };
    is_repository_path(&path).then_some(path)
}

/// No repository of a registry may stand for two things, or a reference to it could not be told apart.
fn check_disjoint(rules: &[RepositoryRule], sides: &Sides<SidePolicy>) -> Result<(), PolicyError> {
    let mut claimed = BTreeMap::new();
    for (index, rule) in rules.iter().enumerate() {
        for side in Side::ALL {
            let (registry, path) = (sides[side].registry.as_str(), rule.paths[side].as_str());
            if let Some(earlier) = claimed.insert((registry, path), rule.name.as_str()) {
                let name = match side {
                    Side::Primary => "primary",
                    Side::Fallback => "fallback",
                };
                return Err(PolicyError::new(
                    format!("spec.repositories[{index}].{name}"),
                    format!("{registry}/{path} already belongs to the entry {earlier:?}"),
                ));
            }
        }
    }
    Ok(())
}

fn tags(rules: &TagRules, field: &str) -> Result<TagFilter, PolicyError> {
    for (name, patterns) in [("include", &rules.include), ("exclude", &rules.exclude)] {
        if patterns.len() > MAX_PATTERNS {
            return Err(PolicyError::new(
                format!("{field}.{name}"),
                format!("must have at most {MAX_PATTERNS} entries"),
            ));
        }
        // The schema counts characters.
        let fits = |pattern: &String| (1..=MAX_PATTERN).contains(&pattern.chars().count());
        if let Some(index) = patterns.iter().position(|pattern| !fits(pattern)) {
            return Err(PolicyError::new(
                format!("{field}.{name}[{index}]"),
                format!("must have 1 to {MAX_PATTERN} characters"),
            ));
        }
    }
    TagFilter::new(&rules.include, &rules.exclude).map_err(|error| PolicyError::new(field, error.to_string()))
}
