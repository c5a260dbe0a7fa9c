//! Whether one reference may move to the other side: the rows of design.md section 2's table that ask the evidence.

use super::{KeepReason, RewriteReason, Route};
use crate::evidence::Verdict;
use crate::policy::UnverifiedTags;
use crate::reference::Reference;
use crate::side::Side;

/// Judges the move of `reference`, which names `repository` on the other side, to the side `to`.
pub(crate) fn judge(
    route: &Route,
    to: Side,
    repository: &str,
    reference: &Reference<'_>,
) -> Result<RewriteReason, KeepReason> {
    let tag = reference
        .effective_tag()
        .and_then(|tag| route.evidence.lookup(repository, tag));
    match reference.digest() {
        None => judge_tag(route, to, tag),
        Some(digest) => judge_digest(route, to, route.evidence.lookup(repository, digest), tag),
    }
}

fn judge_tag(route: &Route, to: Side, tag: Option<Verdict>) -> Result<RewriteReason, KeepReason> {
    let strict = route.policy.rewrite.unverified == UnverifiedTags::Keep;
    match tag {
        Some(Verdict::InSync) => Ok(RewriteReason::Rewritten),
        Some(Verdict::Mismatched) => Err(KeepReason::DigestMismatch),
        Some(verdict) if verdict == Verdict::missing_on(to) => Err(KeepReason::MissingOnActive),
        _ if strict => Err(KeepReason::Unverified),
        // Nowhere but where it is sent to.
        Some(verdict) if verdict == Verdict::missing_on(to.other()) => Ok(RewriteReason::Rewritten),
        _ => Ok(RewriteReason::Unverified),
    }
}

/// A digest means the same content wherever it is found: all that matters is whether it is there.
fn judge_digest(
    route: &Route,
    to: Side,
    digest: Option<Verdict>,
    tag: Option<Verdict>,
) -> Result<RewriteReason, KeepReason> {
    let missing = Some(Verdict::missing_on(to));
    let missing_elsewhere = Some(Verdict::missing_on(to.other()));
    if digest == Some(Verdict::InSync) || digest == missing_elsewhere {
        return Ok(RewriteReason::Rewritten);
    }
    if digest == missing || tag == missing {
        return Err(KeepReason::MissingOnActive);
    }
    let tag_is_there = matches!(tag, Some(Verdict::InSync | Verdict::Mismatched)) || tag == missing_elsewhere;
    if route.policy.sides[to].pull_through_cache && !tag_is_there {
        return Err(KeepReason::NotCached);
    }
    match route.policy.rewrite.unverified {
        UnverifiedTags::Rewrite => Ok(RewriteReason::Rewritten),
        UnverifiedTags::Keep => Err(KeepReason::Unverified),
    }
}
