//! The counters and samples of a mirror's status.

use catamaran_api::mirror::{
    CanaryStatus, Divergence, DivergenceState, FailbackBlocker, FailbackBlockerReason, FailbackStatus, FlawedContent,
    FlawedPart, ParityStatus, PlannedCopy, PodCounts, RegistryMirrorStatus, RepairStatus,
};
use catamaran_core::mirror::failback::{BlockReason, Blocker, Blockers};
use catamaran_core::mirror::parity::{self, Summary, Verdict};
use catamaran_core::mirror::repair::{Errand, Progress};
use catamaran_core::mirror::{self, MAX_FLAWED, Observation, Part, PassResult};
use catamaran_core::policy::RepairMode;
use catamaran_core::routing::evidence::Flaw;
use catamaran_core::side::Side;

use super::proof;
use crate::clock::whole_seconds;
use crate::publish::flips::last_flip;

/// Writes what was observed into `status`.
pub(super) fn observe(status: &mut RegistryMirrorStatus, observation: &Observation) {
    let standing = observation.standing();
    status.active = Some(standing.active);
    status.active_registry = standing.registry;
    status.observed_mappings = observation.observed.iter().map(ToString::to_string).collect();
    // Two leaders by accident must never take an epoch back.
    status.epoch = status.epoch.max(i64::try_from(standing.epoch).unwrap_or(i64::MAX));
    status.recent_failovers = standing.failovers.into_iter().map(whole_seconds).collect();
    if let Some(flip) = &standing.last_flip {
        status.last_flip = Some(last_flip(flip));
    }
    if let Some(canary) = &observation.canary {
        let digest = canary.digest.to_string();
        let (repository, tag) = (canary.repository.clone(), canary.tag.clone());
        status.canary = Some(CanaryStatus {
            repository,
            tag,
            digest,
        });
    }
    if let Some(pass) = &observation.pass {
        status.parity = Some(parity_status(status.parity.as_ref(), pass, &observation.summary));
        status.divergences = observation.divergences.iter().map(divergence).collect();
        status.broken = flawed(&observation.broken, Flaw::Broken);
        status.untrusted = flawed(&observation.untrusted, Flaw::Untrusted);
    }
    if observation.policy.repair.mode == RepairMode::Off {
        status.repair = None;
    } else if let Some(progress) = &observation.repair {
        status.repair = Some(repair_status(progress));
    }
    status.failback = failback(&observation.blockers);
    if !proof::stands(status, observation) {
        status.proof = proof::status(observation);
    }
    status.last_handled_reconcile_at.clone_from(&observation.reconciled);
    let before = status.pods.clone().unwrap_or_default();
    status.pods = Some(PodCounts {
        on_fallback: observation.pods_on_fallback.map_or(before.on_fallback, i64::from),
        rescued: i64::try_from(observation.rescued).unwrap_or(i64::MAX),
        failing: i64::try_from(observation.pods_failing).unwrap_or(i64::MAX),
    });
}

fn failback(blockers: &Blockers) -> Option<FailbackStatus> {
    let blocked = |blocker: &Blocker| FailbackBlocker {
        repository: blocker.repository.clone(),
        reference: blocker.reference.clone(),
        reason: match blocker.reason {
            BlockReason::MissingOnPrimary => FailbackBlockerReason::MissingOnPrimary,
            BlockReason::DigestMismatch => FailbackBlockerReason::DigestMismatch,
            BlockReason::BrokenOnPrimary => FailbackBlockerReason::BrokenOnPrimary,
            BlockReason::UntrustedOnPrimary => FailbackBlockerReason::UntrustedOnPrimary,
            BlockReason::NotRead => FailbackBlockerReason::NotRead,
        },
        primary_digest: blocker.digests.primary.as_ref().map(ToString::to_string),
        fallback_digest: blocker.digests.fallback.as_ref().map(ToString::to_string),
    };
    (blockers.total > 0).then(|| FailbackStatus {
        blocked: i64::try_from(blockers.total).unwrap_or(i64::MAX),
        blocked_by: blockers.sample.iter().map(blocked).collect(),
    })
}

fn parity_status(before: Option<&ParityStatus>, pass: &PassResult, summary: &Summary) -> ParityStatus {
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let mut parity = ParityStatus {
        checked_time: before.and_then(|before| before.checked_time.clone()),
        repositories: count(summary.repositories),
        tags: count(summary.tags),
        in_sync: count(summary.in_sync),
        missing_on_primary: count(summary.missing_on_primary),
        missing_on_fallback: count(summary.missing_on_fallback),
        mismatched: count(summary.mismatched),
        pending: count(summary.pending),
        not_cached: count(summary.not_cached),
        broken: count(summary.broken),
        untrusted: count(summary.untrusted),
        diverged: count(summary.missing_on_primary + summary.missing_on_fallback + summary.mismatched),
        oldest_check_time: before.and_then(|before| before.oldest_check_time.clone()),
        revision: (summary.tags > 0).then(|| summary.revision.clone()),
    };
    if pass.is_complete() && before.is_none_or(|before| *before != parity) {
        parity.checked_time = Some(whole_seconds(pass.ended));
        parity.oldest_check_time = summary.oldest_check.map(whole_seconds);
    }
    parity
}

fn divergence(divergence: &parity::Divergence) -> Divergence {
    Divergence {
        repository: divergence.repository.clone(),
        tag: divergence.tag.clone(),
        state: match divergence.verdict {
            Verdict::MissingOnPrimary => DivergenceState::MissingOnPrimary,
            Verdict::MissingOnFallback => DivergenceState::MissingOnFallback,
            Verdict::InSync | Verdict::Mismatched | Verdict::Pending => DivergenceState::Mismatched,
        },
        primary_digest: divergence.digests.primary.as_ref().map(ToString::to_string),
        fallback_digest: divergence.digests.fallback.as_ref().map(ToString::to_string),
        since: whole_seconds(divergence.since),
    }
}

/// One entry for each side that has this flaw.
fn flawed(contents: &[mirror::FlawedContent], flaw: Flaw) -> Vec<FlawedContent> {
    let each = contents
        .iter()
        .flat_map(|content| Side::ALL.into_iter().filter_map(|side| on_side(content, side, flaw)));
    each.take(MAX_FLAWED).collect()
}

fn on_side(content: &mirror::FlawedContent, side: Side, flaw: Flaw) -> Option<FlawedContent> {
    let part = content.parts[side].as_ref().filter(|part| part.flaw == flaw)?;
    Some(FlawedContent {
        repository: content.held.repository.clone(),
        reference: content.held.reference.clone(),
        side,
        part: match part.part {
            Part::Manifest => FlawedPart::Manifest,
            Part::Config => FlawedPart::Config,
            Part::Layer => FlawedPart::Layer,
        },
        digest: part.digest.to_string(),
        platform: part.platform.clone(),
        since: whole_seconds(content.since),
    })
}

fn repair_status(progress: &Progress) -> RepairStatus {
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let planned = |errand: &Errand| PlannedCopy {
        repository: errand.repository.clone(),
        tag: errand.tag.clone(),
        to: errand.to,
        digest: errand.digest.to_string(),
    };
    RepairStatus {
        last_time: progress.begun.map(whole_seconds),
        copied: count(progress.copied),
        failed: count(progress.failed),
        pending: count(progress.pending),
        message: progress.message(),
        would_copy: progress.would_copy.iter().map(planned).collect(),
    }
}
