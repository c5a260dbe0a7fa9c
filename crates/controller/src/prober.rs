//! Probes one side of one mirror for as long as it lives. Every replica does, so that a new leader's history is warm.

use std::sync::Arc;

use catamaran_core::health::{Availability, Outcome, Probe};
use catamaran_core::parity::Canary;
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::side::Side;
use catamaran_registry::ProbeTarget;
use jiff::Timestamp;

use crate::context::Context;
use crate::memory::{MirrorMemory, State};

/// Probes `side` by this generation of the spec until the task is ended.
pub async fn run(context: Arc<Context>, policy: Arc<MirrorPolicy>, generation: i64, side: Side) {
    let memory = context.memories.of(&policy.id);
    loop {
        let due = due(&memory.state(), &policy, generation, side, context.clock.now());
        tokio::select! {
            () = tokio::time::sleep(context.clock.until(due)) => {}
            () = memory.probe_now[side].notified() => {}
        }
        let (probe, canary) = probe(&context, &policy, &memory, side).await;
        note(&context, &policy, &memory, (generation, side), probe, canary);
    }
}

/// When the next probe begins: at once where the spec has changed, because somebody may wait for what it comes to.
fn due(state: &State, policy: &MirrorPolicy, generation: i64, side: Side, now: Timestamp) -> Timestamp {
    if state.is_outdated(side, generation) {
        return now;
    }
    state.probes[side].next_probe(&policy.health, now)
}

/// One probe, on a fresh connection.
async fn probe(context: &Context, policy: &MirrorPolicy, memory: &MirrorMemory, side: Side) -> (Probe, Option<Canary>) {
    let client = match context.connections.client(policy, side).await {
        Ok(client) => client,
        Err(error) => {
            let message = error.to_string();
            memory.state().connection[side] = error.problem();
            return (
                Probe {
                    at: context.clock.now(),
                    outcome: Outcome::CredentialsUnavailable,
                    message,
                },
                None,
            );
        }
    };
    let (canary, blob) = {
        let mut state = memory.state();
        state.connection[side] = None;
        state.asked[side] = true;
        (state.canary.clone(), state.probes[side].wants_blob())
    };
    let place = |canary: &Canary| {
        (
            policy.path(side, &canary.repository).into_owned(),
            canary.digest.clone(),
        )
    };
    let target = ProbeTarget {
        canary: canary.as_ref().map(place),
        blob,
    };
    let report = client.probe(&target, policy.health.timeout).await;
    context
        .metrics
        .probed(&policy.id.name, side, &report.outcome, report.elapsed);
    (
        Probe {
            at: context.clock.now(),
            outcome: report.outcome,
            message: report.message,
        },
        canary,
    )
}

/// Files a probe and tells whoever must know of a change.
fn note(
    context: &Context,
    policy: &MirrorPolicy,
    memory: &MirrorMemory,
    (generation, side): (i64, Side),
    probe: Probe,
    canary: Option<Canary>,
) {
    if matches!(probe.outcome, Outcome::Unauthorized | Outcome::Forbidden) {
        context.connections.distrust(&policy.id, side);
    }
    let (reconcile, turned) = {
        let mut state = memory.state();
        if matches!(probe.outcome, Outcome::CanaryNotFound) {
            refuse(&mut state, canary);
        }
        let before = state.probes[side].availability(&policy.health);
        let failing = !matches!(probe.outcome, Outcome::Reachable);
        let history = &mut state.probes[side];
        // Reconciled while it fails and when it changes; a healthy side costs nothing.
        let changed = history.latest().is_none_or(|latest| latest.outcome != probe.outcome);
        history.record(probe, &policy.health);
        let after = state.probes[side].availability(&policy.health);
        let changed = changed || state.probed_by[side] < generation;
        // A task that is being ended may file its last probe after that of its successor.
        state.probed_by[side] = state.probed_by[side].max(generation);
        (changed || failing || before != after, kind(before) != kind(after))
    };
    if reconcile {
        context.trigger(&policy.id);
    }
    if turned {
        context.turn();
    }
}

/// A canary that one side does not have is put aside, so that the next probe uses another.
fn refuse(state: &mut State, canary: Option<Canary>) {
    let Some(canary) = canary else { return };
    if state.canary.as_ref() == Some(&canary) {
        if !state.refused_canaries.contains(&canary) {
            state.refused_canaries.push(canary);
        }
        if let Some(other) = state.ledger.canary_excluding(&state.refused_canaries) {
            state.canary = Some(other);
        }
    }
}

fn kind(availability: Availability) -> u8 {
    match availability {
        Availability::Available => 0,
        Availability::Unavailable(_) => 1,
        Availability::Unknown(_) => 2,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use catamaran_api::mirror::RegistryMirror;
    use serde_json::json;

    use super::*;
    use crate::testbed;

    fn policy() -> MirrorPolicy {
        let mirror: RegistryMirror = serde_json::from_value(json!({
            "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
            "metadata": {"name": "apps", "uid": "u1", "generation": 3},
            "spec": {
                "primary": {"registry": "kracr.azurecr.io"},
                "fallback": {"registry": "ghcr.io", "prefix": "devopskev"},
                "repositories": [{"name": "web"}],
            },
        }))
        .unwrap();
        catamaran_api::policy::policy(&mirror).unwrap()
    }

    fn probe(second: i64, outcome: Outcome) -> Probe {
        Probe {
            at: Timestamp::from_second(second).unwrap(),
            outcome,
            message: String::new(),
        }
    }

    #[test]
    fn a_changed_spec_is_probed_by_at_once_unless_the_registry_asked_to_slow_down() {
        let policy = policy();
        let throttled = Outcome::Throttled {
            retry_after: Some(Duration::from_mins(1)),
        };
        // (generation last probed by, its outcome, outdated, seconds to the next probe)
        let cases = [
            (0, None, true, 0),
            (2, Some(Outcome::Reachable), true, 0),
            (2, Some(Outcome::Unauthorized), true, 0),
            (2, Some(throttled), false, 60),
            (3, Some(Outcome::Reachable), false, 2),
            (3, Some(throttled), false, 60),
        ];
        for (probed_by, outcome, outdated, seconds) in cases {
            let mut state = State::default();
            state.probed_by.fallback = probed_by;
            if let Some(outcome) = outcome {
                state.probes.fallback.record(probe(1000, outcome), &policy.health);
            }
            assert_eq!(
                state.is_outdated(Side::Fallback, 3),
                outdated,
                "{probed_by} {outcome:?}"
            );
            let due = due(
                &state,
                &policy,
                3,
                Side::Fallback,
                Timestamp::from_second(1000).unwrap(),
            );
            assert_eq!(due.as_second() - 1000, seconds, "{probed_by} {outcome:?}");
        }
    }

    #[tokio::test]
    async fn the_last_probe_by_an_earlier_spec_does_not_pass_for_one_by_the_new() {
        let policy = policy();
        let context = testbed::replica(testbed::nobody(), Arc::default(), true);
        let memory = context.memories.of(&policy.id);
        let mut second = 1000;
        let mut file = |generation| {
            second += 1;
            let probe = probe(second, Outcome::Reachable);
            note(&context, &policy, &memory, (generation, Side::Primary), probe, None);
            memory.state().is_outdated(Side::Primary, 4)
        };
        assert_eq!([file(3), file(4), file(3)], [true, false, false]);
        assert!(memory.state().is_outdated(Side::Fallback, 4));
    }
}
