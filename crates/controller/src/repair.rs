//! Copies tags that one side lacks, after each pass that found some. Only the leader does.
//!
//! It has a task, connections and budgets of its own, so that probes, scans and decisions never wait for it. When leadership
//! is lost it stops where it is; whoever leads next goes on there, because what has arrived is not sent again.

use std::sync::Arc;

use catamaran_api::mirror::RegistryMirror;
use catamaran_core::evidence::Verdict;
use catamaran_core::health::Availability;
use catamaran_core::policy::{MirrorId, MirrorPolicy, RepairMode, Repositories};
use catamaran_core::repair::{Attempts, Input, Plan, plan};
use catamaran_core::side::{Side, Sides};
use catamaran_registry::copy::{Pace, Placed, Tally};
use catamaran_registry::{Copier, CopySettings};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource as _;

use crate::context::Context;
use crate::events;
use crate::memory::MirrorMemory;
use crate::scanner;

pub(crate) mod progress;
#[cfg(test)]
mod tests;
mod work;

pub use progress::Progress;
pub use work::{Done, Work};

/// Copies after each pass until the task is ended; idle while another replica leads.
pub async fn run(context: Arc<Context>, policy: Arc<MirrorPolicy>) {
    let memory = context.memories.of(&policy.id);
    let mut leadership = context.leadership.clone();
    let mut attempts = Attempts::default();
    loop {
        catamaran_lease::gained(&mut leadership).await;
        memory.passed.notified().await;
        if !context.leads() {
            continue;
        }
        tokio::select! {
            () = round(&context, &policy, &memory, &mut attempts) => {}
            () = catamaran_lease::lost(&mut leadership) => {
                tracing::info!(mirror = %policy.id, "stopped copying: another replica leads");
            }
        }
    }
}

/// What is done after one pass.
async fn round(context: &Context, policy: &MirrorPolicy, memory: &MirrorMemory, attempts: &mut Attempts) {
    let plan = prepare(context, policy, memory, attempts);
    if plan.errands.is_empty() {
        note_idle(context, policy, memory, &plan, attempts);
    } else if policy.repair.mode == RepairMode::DryRun {
        tell_plan(context, policy, memory, &plan).await;
    } else {
        copy(context, policy, memory, plan, attempts).await;
    }
}

fn prepare(context: &Context, policy: &MirrorPolicy, memory: &MirrorMemory, attempts: &mut Attempts) -> Plan {
    let available = available(policy, memory);
    let state = memory.state();
    attempts.retain(|repository, tag| {
        let verdict = state.ledger.verdict(repository, tag);
        matches!(verdict, Some(Verdict::MissingOnPrimary | Verdict::MissingOnFallback))
    });
    let input = Input {
        policy,
        available,
        in_use: &state.in_use,
        attempts,
    };
    plan(&input, state.ledger.diverged(), context.clock.now())
}

fn available(policy: &MirrorPolicy, memory: &MirrorMemory) -> Sides<bool> {
    let availability = memory.availability(policy);
    Sides::from_fn(|side| availability[side] == Availability::Available)
}

/// Nothing to do now: what the last round did stays told, what is left is counted anew.
fn note_idle(context: &Context, policy: &MirrorPolicy, memory: &MirrorMemory, plan: &Plan, attempts: &Attempts) {
    let dry_run = policy.repair.mode == RepairMode::DryRun;
    let mut state = memory.state();
    let before = state.repair.clone();
    let after = Progress::idle(before.as_ref(), plan, attempts.len(), dry_run);
    let changed = before.as_ref() != Some(&after);
    state.repair = Some(after);
    drop(state);
    if changed {
        context.trigger(&policy.id);
    }
}

/// Says what would be copied, once for each plan.
async fn tell_plan(context: &Context, policy: &MirrorPolicy, memory: &MirrorMemory, plan: &Plan) {
    let begun = context.clock.now();
    let progress = Progress::planned(plan, begun);
    {
        let mut state = memory.state();
        if state
            .repair
            .as_ref()
            .is_some_and(|before| before.plans_the_same(&progress))
        {
            return;
        }
        state.repair = Some(progress.clone());
    }
    for errand in &plan.errands {
        tracing::info!(mirror = %policy.id, repository = errand.repository, tag = errand.tag, to = %errand.to,
            digest = %errand.digest, "would copy");
    }
    context.trigger(&policy.id);
    let note = progress.planned_note();
    announce(context, &policy.id, &events::COPY_PLANNED, note).await;
}

async fn copy(context: &Context, policy: &MirrorPolicy, memory: &MirrorMemory, plan: Plan, attempts: &mut Attempts) {
    memory.state().repair = Some(Progress::begun(&plan, attempts.len(), context.clock.now()));
    context.trigger(&policy.id);
    let tally = Arc::new(Tally::default());
    let work = Work {
        clock: context.clock,
        policy,
        memory,
        metrics: &context.metrics,
        copiers: copiers(context, policy, &tally).await,
        tally,
    };
    let go_on = || {
        context.leads()
            && available(policy, memory)
                == Sides {
                    primary: true,
                    fallback: true,
                }
    };
    let done = work
        .carry_out(plan.errands, attempts, &go_on, &|| context.trigger(&policy.id))
        .await;
    context.trigger(&policy.id);
    if let Some(note) = done.copied_note() {
        announce(context, &policy.id, &events::TAGS_COPIED, note).await;
    }
    if let Some(note) = done.failed_note() {
        announce(context, &policy.id, &events::COPY_FAILED, note).await;
    }
}

/// A copier to each side, or why there is none.
async fn copiers(context: &Context, policy: &MirrorPolicy, tally: &Arc<Tally>) -> Sides<Result<Copier, String>> {
    let clients = scanner::clients(context, policy).await;
    let pace = policy.repair.max_bytes_per_second.map(Pace::bytes_per_second);
    let settings = CopySettings {
        referrers: policy.repair.referrers,
        pace: Arc::new(pace.unwrap_or_default()),
        tally: Arc::clone(tally),
        ..CopySettings::default()
    };
    Sides::from_fn(|to| {
        let of = |side: Side| {
            let client = clients[side].as_ref().map_err(Clone::clone)?;
            Ok::<_, String>((client, context.connections.copy_budget(&policy.sides[side])))
        };
        let settings = CopySettings {
            siblings: siblings(policy, to),
            ..settings.clone()
        };
        let copier = Copier::new(of(to.other())?, of(to)?, Arc::new(Placed::default()), settings);
        copier.map_err(|error| error.to_string())
    })
}

/// The repositories of the mirror on one side, where they are listed.
fn siblings(policy: &MirrorPolicy, side: Side) -> Vec<String> {
    match &policy.repositories {
        Repositories::Listed(rules) => rules.iter().map(|rule| rule.paths[side].clone()).collect(),
        Repositories::InUse => Vec::new(),
    }
}

/// Publishes an Event on the mirror. A lost one is not worth repeating: status says the same.
async fn announce(context: &Context, mirror: &MirrorId, event: &events::Kind, note: String) {
    let regarding = ObjectReference {
        api_version: Some(RegistryMirror::api_version(&()).into_owned()),
        kind: Some(RegistryMirror::kind(&()).into_owned()),
        name: Some(mirror.name.to_string()),
        uid: Some(mirror.uid.to_string()),
        ..ObjectReference::default()
    };
    if let Err(error) = context.recorder.publish(&event.event(&note), &regarding).await {
        tracing::warn!(%mirror, reason = event.reason, %error, "failed to publish an event");
    }
}
