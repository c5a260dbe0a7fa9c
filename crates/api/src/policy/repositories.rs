//! The repositories of a mirror, and where each is on either side.

use std::collections::BTreeMap;

use catamaran_core::policy::{Repositories, RepositoryRule, SidePolicy};
use catamaran_core::reference::is_repository_path;
use catamaran_core::side::{Side, Sides};
use catamaran_core::tags::{TagFilter, TagPattern, TagPatterns};

use super::checks::{PolicyError, at_most, check_unique};
use crate::mirror::{Repository, TagRules};
use crate::rules::{MAX_PATTERN, MAX_PATTERNS, MAX_REPOSITORIES};

pub(super) const NOT_A_PATH: &str =
    "must be a repository path of at most 255 characters: lower case, no slash at its ends, no registry, no tag";

pub(super) fn repositories(
    listed: Option<&[Repository]>,
    sides: &Sides<SidePolicy>,
    patterns: &mut TagPatterns,
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
        .map(|(index, repository)| rule(index, repository, sides, patterns));
    let mut rules = rules.collect::<Result<Vec<_>, _>>()?;
    // They stay as long as the mirror, and most mirrors have few.
    rules.shrink_to_fit();
    check_disjoint(&rules, sides)?;
    Ok(Repositories::Listed(rules))
}

fn rule(
    index: usize,
    repository: &Repository,
    sides: &Sides<SidePolicy>,
    patterns: &mut TagPatterns,
) -> Result<RepositoryRule, PolicyError> {
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
        tags: tags(&repository.tags, &field("tags"), patterns)?,
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

fn tags(rules: &TagRules, field: &str, patterns: &mut TagPatterns) -> Result<TagFilter, PolicyError> {
    let mut compiled = |name: &str, texts: &[String]| compile(texts, &format!("{field}.{name}"), patterns);
    Ok(TagFilter::of(
        compiled("include", &rules.include)?,
        compiled("exclude", &rules.exclude)?,
    ))
}

fn compile(texts: &[String], field: &str, patterns: &mut TagPatterns) -> Result<Vec<TagPattern>, PolicyError> {
    at_most(texts.len(), MAX_PATTERNS, field)?;
    let compile = |(index, text): (usize, &String)| {
        let error = |message: String| PolicyError::new(format!("{field}[{index}]"), message);
        // The schema counts characters.
        if !(1..=MAX_PATTERN).contains(&text.chars().count()) {
            return Err(error(format!("must have 1 to {MAX_PATTERN} characters")));
        }
        patterns.compile(text).map_err(|refused| error(refused.to_string()))
    };
    texts.iter().enumerate().map(compile).collect()
}

#[cfg(test)]
mod tests {
    use catamaran_core::tags::MAX_COMPILED;

    use super::*;

    fn listed(pattern: impl Fn(usize, usize) -> String) -> Vec<Repository> {
        let rules = |repository: usize| TagRules {
            include: (0..16).map(|number| pattern(repository, number)).collect(),
            exclude: (16..32).map(|number| pattern(repository, number)).collect(),
        };
        (0..100)
            .map(|repository| Repository {
                name: format!("team/app-{repository}"),
                tags: rules(repository),
                ..Repository::default()
            })
            .collect()
    }

    fn sides() -> Sides<SidePolicy> {
        let side = |registry: &str| SidePolicy {
            registry: registry.to_owned(),
            ..SidePolicy::default()
        };
        Sides {
            primary: side("a.example.com"),
            fallback: side("b.example.com"),
        }
    }

    #[test]
    fn equal_patterns_of_100_repositories_are_compiled_once() {
        let equal = listed(|_, number| format!("^team-{number}-[a-z0-9]{{1,20}}-v[0-9]+[.][0-9]+$"));
        let mut patterns = TagPatterns::default();
        repositories(Some(&equal), &sides(), &mut patterns).unwrap();
        assert_eq!(patterns.programs(), 32);
        assert!(patterns.bytes() < 256 * 1024, "{} bytes", patterns.bytes());
    }

    #[test]
    fn patterns_beyond_the_mirror_budget_are_refused_by_field() {
        let different = listed(|repository, number| format!(r"^r{repository}-p{number}-(\w{{1,20}}[.-]){{4}}v[0-9]+$"));
        let mut patterns = TagPatterns::default();
        let error = repositories(Some(&different), &sides(), &mut patterns).unwrap_err();
        let place = error.field.strip_prefix("spec.repositories[").unwrap();
        assert!(
            place.contains("].tags.include[") || place.contains("].tags.exclude["),
            "{error}"
        );
        assert!(error.message.contains("1024 KiB of memory together"), "{error}");
        assert!(
            patterns.bytes() <= MAX_COMPILED && patterns.programs() < 1000,
            "{patterns:?}"
        );
    }
}
