//! From what a user wrote to what the rest of Catamaran works with: parse, don't validate.
//!
//! Everything that the schema enforces is checked again, because an object may be older than a rule, and so is what CEL
//! can't say. The first error is returned; it names the field as `kubectl explain` knows it.

use catamaran_core::policy::{
    ActiveSide, FailbackMode, FailoverPolicy, HealthPolicy, MirrorId, MirrorPolicy, OnMismatch, OnPullsFailing,
    ParityPolicy, ProofMode, ProofPolicy, RescueMode, Trigger,
};
use catamaran_core::reference::{is_repository_path, is_tag};
use catamaran_core::side::{Side, Sides};
use catamaran_core::tags::TagPatterns;
use jiff::Timestamp;

use crate::mirror::{
    ActiveSideName, FailbackModeName, HealthCheck, OnMismatchName, OnPullsFailingName, Parity, ProofModeName,
    RegistryMirror, RegistryMirrorSpec, RescueModeName, TriggerName,
};
use crate::rules::{
    FAILURE_THRESHOLD, GRACE_PERIOD, INTERVAL, MAX_NAME, PERIOD_SECONDS, PROOF_INTERVAL, SETTLED_INTERVAL,
    STABLE_SECONDS, SUCCESS_THRESHOLD, TIMEOUT_SECONDS,
};

mod checks;
mod repair;
mod repositories;
mod rewrite;
mod selector;
mod sides;

pub use self::checks::PolicyError;
use self::checks::{length, seconds, within};

/// Parses a mirror.
///
/// # Errors
/// A [`PolicyError`] for the first field that is invalid.
pub fn policy(mirror: &RegistryMirror) -> Result<MirrorPolicy, PolicyError> {
    let spec = &mirror.spec;
    let sides = Sides {
        primary: sides::side(&spec.primary, "spec.primary")?,
        fallback: sides::side(&spec.fallback, "spec.fallback")?,
    };
    sides::check_pair(&sides)?;
    Ok(MirrorPolicy {
        id: id(mirror)?,
        // Only an object that no API server has seen has no creation time; it yields to every other.
        created: mirror
            .metadata
            .creation_timestamp
            .as_ref()
            .map_or(Timestamp::MAX, |time| time.0),
        suspended: spec.suspend,
        repositories: repositories::repositories(spec.repositories.as_deref(), &sides, &mut TagPatterns::default())?,
        sides,
        namespaces: selector::selector(&spec.namespace_selector, "spec.namespaceSelector")?,
        health: health(spec)?,
        failover: failover(spec)?,
        parity: parity(&spec.parity)?,
        rewrite: rewrite::rewrite(&spec.rewrite)?,
        rescue: match spec.rescue.mode {
            RescueModeName::Patch => RescueMode::Patch,
            RescueModeName::PatchOrReplace => RescueMode::PatchOrReplace,
            RescueModeName::Off => RescueMode::Off,
        },
        repair: repair::repair(spec)?,
        proof: proof(spec)?,
    })
}

fn id(mirror: &RegistryMirror) -> Result<MirrorId, PolicyError> {
    let name = mirror.metadata.name.as_deref().unwrap_or_default();
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(PolicyError::new(
            "metadata.name",
            format!("must have 1 to {MAX_NAME} characters, not {}", name.len()),
        ));
    }
    Ok(MirrorId {
        name: name.into(),
        uid: mirror.metadata.uid.as_deref().unwrap_or_default().into(),
    })
}

fn health(spec: &RegistryMirrorSpec) -> Result<HealthPolicy, PolicyError> {
    let check = &spec.health_check;
    let period = seconds(check.period_seconds, &PERIOD_SECONDS, "spec.healthCheck.periodSeconds")?;
    let timeout = seconds(
        check.timeout_seconds,
        &TIMEOUT_SECONDS,
        "spec.healthCheck.timeoutSeconds",
    )?;
    let failure_threshold = within(
        check.failure_threshold,
        &FAILURE_THRESHOLD,
        "spec.healthCheck.failureThreshold",
    )?;
    let success_threshold = within(
        check.success_threshold,
        &SUCCESS_THRESHOLD,
        "spec.healthCheck.successThreshold",
    )?;
    if timeout > period * failure_threshold {
        return Err(PolicyError::new(
            "spec.healthCheck.timeoutSeconds",
            "must not exceed periodSeconds x failureThreshold",
        ));
    }
    Ok(HealthPolicy {
        period,
        timeout,
        failure_threshold,
        success_threshold,
        triggers: triggers(check),
        on_pulls_failing: match check.on_pulls_failing {
            OnPullsFailingName::Failover => OnPullsFailing::Failover,
            OnPullsFailingName::Report => OnPullsFailing::Report,
        },
        canary: canary(spec)?,
    })
}

/// The triggers without repetition, `Unavailable` always among them.
fn triggers(check: &HealthCheck) -> Vec<Trigger> {
    let mut triggers = vec![Trigger::Unavailable];
    for name in &check.triggers {
        let trigger = match name {
            TriggerName::Unavailable => Trigger::Unavailable,
            TriggerName::Unauthorized => Trigger::Unauthorized,
            TriggerName::Forbidden => Trigger::Forbidden,
            TriggerName::Throttled => Trigger::Throttled,
        };
        if !triggers.contains(&trigger) {
            triggers.push(trigger);
        }
    }
    triggers
}

fn canary(spec: &RegistryMirrorSpec) -> Result<Option<(String, String)>, PolicyError> {
    let Some(canary) = &spec.health_check.canary else {
        return Ok(None);
    };
    let error = |field: &str, message: &str| Err(PolicyError::new(format!("spec.healthCheck.canary.{field}"), message));
    if !is_repository_path(&canary.repository) {
        return error("repository", repositories::NOT_A_PATH);
    }
    let listed = |names: &Vec<_>| {
        names
            .iter()
            .any(|entry: &crate::mirror::Repository| entry.name == canary.repository)
    };
    if !spec.repositories.as_ref().is_none_or(listed) {
        return error("repository", "must be the name of an entry in spec.repositories");
    }
    if !is_tag(&canary.tag) {
        return error(
            "tag",
            "must be a tag: 1 to 128 of A-Z, a-z, 0-9, '_', '.' and '-', not starting with '.' or '-'",
        );
    }
    Ok(Some((canary.repository.clone(), canary.tag.clone())))
}

fn failover(spec: &RegistryMirrorSpec) -> Result<FailoverPolicy, PolicyError> {
    Ok(FailoverPolicy {
        active: match spec.active {
            ActiveSideName::Auto => ActiveSide::Auto,
            ActiveSideName::Primary => ActiveSide::Fixed(Side::Primary),
            ActiveSideName::Fallback => ActiveSide::Fixed(Side::Fallback),
        },
        active_until: spec.active_until.as_ref().map(|time| time.0),
        failback: match spec.failback.mode {
            FailbackModeName::Automatic => FailbackMode::Automatic,
            FailbackModeName::Manual => FailbackMode::Manual,
        },
        stable: seconds(
            spec.failback.stable_seconds,
            &STABLE_SECONDS,
            "spec.failback.stableSeconds",
        )?,
        on_mismatch: match spec.failback.on_mismatch {
            OnMismatchName::Wait => OnMismatch::Wait,
            OnMismatchName::Proceed => OnMismatch::Proceed,
        },
        require_proof: spec.failover.require_proof,
    })
}

fn proof(spec: &RegistryMirrorSpec) -> Result<ProofPolicy, PolicyError> {
    let mode = match spec.proof.mode {
        ProofModeName::Off => ProofMode::Off,
        ProofModeName::Pull => ProofMode::Pull,
    };
    if spec.failover.require_proof && mode == ProofMode::Off {
        return Err(PolicyError::new(
            "spec.failover.requireProof",
            "needs proof.mode Pull: without it nothing is ever proven",
        ));
    }
    Ok(ProofPolicy {
        mode,
        interval: length(&spec.proof.interval, &PROOF_INTERVAL, "spec.proof.interval")?,
    })
}

fn parity(parity: &Parity) -> Result<ParityPolicy, PolicyError> {
    Ok(ParityPolicy {
        interval: length(&parity.interval, &INTERVAL, "spec.parity.interval")?,
        grace: length(&parity.grace_period, &GRACE_PERIOD, "spec.parity.gracePeriod")?,
        settled: length(
            &parity.settled_interval,
            &SETTLED_INTERVAL,
            "spec.parity.settledInterval",
        )?,
    })
}
