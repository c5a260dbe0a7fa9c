//! The counters and samples of a mirror's status.

use catamaran_api::mirror::{
    CanaryStatus, Divergence, DivergenceState, LastFlip, ParityStatus, PlannedCopy, PodCounts, RegistryMirrorStatus,
    RepairStatus,
};
use catamaran_core::evidence::Verdict;
use catamaran_core::parity;
use catamaran_core::policy::RepairMode;
use catamaran_core::repair::Errand;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::assess::Observation;
use crate::memory::PassResult;
use crate::repair::Progress;

/// How old the times of verification in a status may grow when nothing else changes.
const TIMES_REFRESH: SignedDuration = SignedDuration::from_mins(5);

/// Writes what was observed into `status`.
pub fn observe(status: &mut RegistryMirrorStatus, observation: &Observation, now: Timestamp) {
    let decision = &observation.decision;
    status.active = Some(decision.active);
    // Two leaders by accident must never take an epoch back.
    status.epoch = status.epoch.max(i64::try_from(decision.epoch).unwrap_or(i64::MAX));
    status.recent_failovers = decision.failovers.iter().copied().map(Time).collect();
    if let Some(flip) = &decision.flip {
        let reason = flip.reason.as_str().to_owned();
        status.last_flip = Some(LastFlip {
            time: Time(flip.at),
            from: flip.from,
            to: flip.to,
            reason,
        });
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
        status.parity = Some(parity_status(status.parity.as_ref(), pass, now));
        status.divergences = observation.divergences.iter().map(divergence).collect();
    }
    if observation.policy.repair.mode == RepairMode::Off {
        status.repair = None;
    } else if let Some(progress) = &observation.repair {
        status.repair = Some(repair_status(progress));
    }
    let before = status.pods.clone().unwrap_or_default();
    let on_fallback = observation
        .pass
        .as_ref()
        .map_or(before.on_fallback, |pass| i64::from(pass.pods_on_fallback));
    let rescued = before
        .rescued
        .saturating_add(i64::try_from(observation.rescued).unwrap_or(i64::MAX));
    status.pods = Some(PodCounts { on_fallback, rescued });
}

fn parity_status(before: Option<&ParityStatus>, pass: &PassResult, now: Timestamp) -> ParityStatus {
    let summary = &pass.summary;
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
        diverged: count(summary.missing_on_primary + summary.missing_on_fallback + summary.mismatched),
        oldest_check_time: before.and_then(|before| before.oldest_check_time.clone()),
        revision: (summary.tags > 0).then(|| summary.revision.clone()),
    };
    let complete = pass.unreadable.primary.is_none() && pass.unreadable.fallback.is_none();
    let stale = parity
        .checked_time
        .as_ref()
        .is_none_or(|checked| now.duration_since(checked.0) >= TIMES_REFRESH);
    if complete && (stale || before.is_none_or(|before| *before != parity)) {
        parity.checked_time = Some(Time(pass.ended));
        parity.oldest_check_time = summary.oldest_check.map(Time);
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
        since: Time(divergence.since),
    }
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
        last_time: progress.begun.map(Time),
        copied: count(progress.copied),
        failed: count(progress.failed),
        pending: count(progress.pending),
        message: progress.message(),
        would_copy: progress.would_copy.iter().map(planned).collect(),
    }
}

/// Whether `after` says anything that `before` did not; a status is not written to say the same again.
pub fn differs(before: &RegistryMirrorStatus, after: &RegistryMirrorStatus, _now: Timestamp) -> bool {
    before != after
}
