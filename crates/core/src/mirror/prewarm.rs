//! A side that is a pull-through cache: what it holds of what pods use, which tags it is asked for ahead of them, and whether
//! it lies where the cloud caches the other side.
//!
//! Nothing but a pull by tag fills such a cache, so a tag is asked for by its name and never by its digest.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::mirror::failback::is_digest;
use crate::mirror::in_use::InUse;
use crate::mirror::parity::{Ledger, Verdict};
use crate::policy::{MirrorPolicy, Repositories};
use crate::side::{Side, Sides};

#[cfg(test)]
mod tests;

/// Tags asked for after one pass; the others follow after the next.
pub const MOST_PULLS: usize = 20;
/// Before a tag is asked for again, whatever came of it.
pub const PAUSE: Duration = Duration::from_mins(15);

impl MirrorPolicy {
    /// The side that is a pull-through cache, if one is; at most one can be.
    pub fn cache(&self) -> Option<Side> {
        Side::ALL.into_iter().find(|side| self.sides[*side].pull_through_cache)
    }
}

/// What a cache holds of the tags that pods use. A tag that was not read yet is nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Tags that it holds as its upstream does, or that only it still holds.
    pub hits: usize,
    /// Tags that it lacks.
    pub misses: usize,
    /// Tags that it holds with another digest than its upstream, for longer than the grace period.
    pub stale: usize,
    /// Since when the tag that is stale for longest has been, of all its tags.
    pub stale_since: Option<Timestamp>,
}

/// Counts what the cache of this mirror holds.
pub fn holdings(cache: Side, ledger: &Ledger, in_use: &InUse) -> Holdings {
    let stale = ledger.diverged().filter(|one| one.verdict == Verdict::Mismatched);
    let mut holdings = Holdings {
        stale_since: stale.map(|one| one.since).min(),
        ..Holdings::default()
    };
    for (repository, tag) in each(in_use) {
        match ledger.verdict(repository, tag) {
            Some(Verdict::InSync) => holdings.hits += 1,
            Some(Verdict::Mismatched) => holdings.stale += 1,
            Some(verdict) if verdict == Verdict::missing_on(cache.other()) => holdings.hits += 1,
            Some(_) if ledger.is_not_cached(repository, tag) => holdings.misses += 1,
            _ => {}
        }
    }
    holdings
}

/// The tags among what is in use: nothing but a pull by tag fills a cache.
fn each(in_use: &InUse) -> impl Iterator<Item = (&str, &str)> {
    let tags = in_use.each().filter(|(_, reference, _)| !is_digest(reference));
    tags.map(|(repository, tag, _)| (repository, tag))
}

/// One tag to ask the cache for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pull {
    /// The repository's name in status.
    pub repository: String,
    /// The tag.
    pub tag: String,
}

/// When each tag was asked for last.
#[derive(Clone, Debug, Default)]
pub struct Tried(BTreeMap<Pull, Timestamp>);

impl Tried {
    /// Notes that a tag is asked for now.
    pub fn note(&mut self, pull: Pull, now: Timestamp) {
        self.0.insert(pull, now);
    }

    /// Forgets what was asked for too long ago to matter.
    pub fn forget(&mut self, now: Timestamp) {
        self.0.retain(|_, at| waits(*at, now));
    }

    fn may(&self, pull: &Pull, now: Timestamp) -> bool {
        self.0.get(pull).is_none_or(|at| !waits(*at, now))
    }
}

fn waits(at: Timestamp, now: Timestamp) -> bool {
    at.checked_add(PAUSE).is_ok_and(|end| now < end)
}

/// The tags to ask the cache for: of those that pods use and the mirror verifies, first what it lacks, then what it holds with
/// another digest, which a pull by tag may renew. At most [`MOST_PULLS`], by name.
pub fn due(policy: &MirrorPolicy, ledger: &Ledger, in_use: &InUse, tried: &Tried, now: Timestamp) -> Vec<Pull> {
    let (mut missing, mut stale) = (Vec::new(), Vec::new());
    for (repository, tag) in each(in_use) {
        let list = if ledger.is_not_cached(repository, tag) {
            &mut missing
        } else if ledger.verdict(repository, tag) == Some(Verdict::Mismatched) {
            &mut stale
        } else {
            continue;
        };
        let pull = Pull {
            repository: repository.to_owned(),
            tag: tag.to_owned(),
        };
        if policy.selects_tag(repository, tag) && tried.may(&pull, now) {
            list.push(pull);
        }
    }
    missing.append(&mut stale);
    missing.truncate(MOST_PULLS);
    missing
}

/// Whether a cache lies where the cloud caches the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Every repository is where the cloud's rule puts it.
    Fits,
    /// The cloud has no rule for the other side: nothing is pulled through.
    NoRule,
    /// A path, and what the rule makes of its counterpart.
    Differs {
        /// What is placed: the name of a repository, or nothing for the side's prefix.
        repository: Option<String>,
        /// Where the mirror looks for it.
        is: String,
        /// Where the rule puts it.
        should: String,
    },
}

/// Compares a mirror's paths with the prefix under which the cloud caches the other side (empty: the registry's root).
pub fn placement(policy: &MirrorPolicy, cache: Side, rule: Option<&str>) -> Placement {
    let Some(prefix) = rule else { return Placement::NoRule };
    let compare = |repository: Option<&str>, paths: Sides<&str>| {
        let should = [prefix, paths[cache.other()]];
        let should: Vec<&str> = should.into_iter().filter(|part| !part.is_empty()).collect();
        let should = should.join("/");
        (paths[cache] != should).then(|| Placement::Differs {
            repository: repository.map(str::to_owned),
            is: paths[cache].to_owned(),
            should,
        })
    };
    let differs = match &policy.repositories {
        Repositories::InUse => compare(None, policy.sides.as_ref().map(|side| side.prefix.as_str())),
        Repositories::Listed(rules) => rules
            .iter()
            .find_map(|rule| compare(Some(&rule.name), rule.paths.as_ref().map(String::as_str))),
    };
    differs.unwrap_or(Placement::Fits)
}

/// A registry as the rules of Amazon's pull-through caches name it.
pub fn upstream_name(registry: &str) -> &str {
    match registry {
        "docker.io" => "registry-1.docker.io",
        other => other,
    }
}
