//! Probes one side of one mirror for as long as it lives. Every replica does, so that a new leader's history is warm.

use std::sync::Arc;

use catamaran_core::health::{Availability, Outcome, Probe};
use catamaran_core::parity::Canary;
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::side::Side;
use catamaran_registry::ProbeTarget;

use crate::context::Context;
use crate::memory::MirrorMemory;

/// Probes `side` until the task is ended.
pub async fn run(context: Arc<Context>, policy: Arc<MirrorPolicy>, side: Side) {
    let memory = context.memories.of(&policy.id);
    loop {
        let due = memory.state().probes[side].next_probe(&policy.health, context.clock.now());
        tokio::select! {
            () = tokio::time::sleep(context.clock.until(due)) => {}
            () = memory.probe_now[side].notified() => {}
        }
        let (probe, canary) = probe(&context, &policy, &memory, side).await;
        note(&context, &policy, &memory, side, probe, canary);
    }
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
    side: Side,
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
fn refuse(state: &mut crate::memory::State, canary: Option<Canary>) {
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
