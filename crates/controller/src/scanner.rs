//! Verifies the tags of one mirror, pass after pass. Only the leader does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use catamaran_core::evidence::Verdict;
use catamaran_core::failover::CompletedPass;
use catamaran_core::health::Outcome;
use catamaran_core::parity::Rules;
use catamaran_core::policy::{MirrorPolicy, Repositories};
use catamaran_core::side::{Side, Sides};
use catamaran_registry::{Client, Failure};
use futures::stream::{FuturesUnordered, StreamExt as _};
use jiff::Timestamp;

use crate::clock::Clock;
use crate::context::Context;
use crate::in_use::{self, InUse};
use crate::memory::{MirrorMemory, PassResult, Unreadable};
use crate::readings::Readings;

/// Repositories looked at at a time; the registry's budget is the real limit.
const REPOSITORIES_AT_A_TIME: usize = 4;

mod scan;

use scan::Failures;
pub use scan::Scan;

/// The two clients of a mirror; a side without one is unreadable.
pub type Clients = Sides<Result<Client, String>>;

/// Runs passes until the task is ended; idle while another replica leads.
pub async fn run(context: Arc<Context>, policy: Arc<MirrorPolicy>) {
    let memory = context.memories.of(&policy.id);
    let mut leadership = context.leadership.clone();
    context.readings.claim(&policy);
    loop {
        catamaran_lease::gained(&mut leadership).await;
        let begun = context.clock.now();
        match pass(&context, &policy, &memory, begun).await {
            Ok(()) => context.trigger(&policy.id),
            Err(error) => tracing::warn!(mirror = %policy.id, %error, "failed to list pods for a parity pass"),
        }
        tokio::time::sleep(pause(&context, &policy, &memory, begun)).await;
    }
}

/// Until the next pass: the interval, or sooner when a difference is due for its second look.
fn pause(context: &Context, policy: &MirrorPolicy, memory: &MirrorMemory, begun: Timestamp) -> Duration {
    let next = begun.checked_add(policy.parity.interval).unwrap_or(Timestamp::MAX);
    let second_look = memory.state().ledger.next_confirmation(context.clock.now());
    // Never back to back: a pass that fails at once must not become a loop.
    let soonest = Duration::from_secs(1);
    context
        .clock
        .until(second_look.map_or(next, |look| look.min(next)))
        .max(soonest)
}

/// How this mirror's tags are judged.
pub fn rules(policy: &MirrorPolicy) -> Rules {
    Rules {
        grace: policy.parity.grace,
        settled: policy.parity.settled,
        subset: policy.cache(),
    }
}

/// One pass over every repository of the mirror.
async fn pass(
    context: &Context,
    policy: &MirrorPolicy,
    memory: &MirrorMemory,
    begun: Timestamp,
) -> Result<(), kube::Error> {
    let in_use = in_use::list(&context.client, policy).await?;
    memory.state().in_use.clone_from(&in_use.tags);
    let clients = clients(context, policy).await;
    let unreadable = scan_all(context.clock, policy, memory, &clients, &context.readings, &in_use.tags).await;
    // A primary that could not be read proves nothing, and asking it once more would only take time.
    let missing = match &unreadable.primary {
        Some(why) => Err(why.message.clone()),
        None => missing_on_primary(policy, memory, &clients, &in_use).await,
    };
    finish(
        context,
        policy,
        memory,
        Ended {
            begun,
            unreadable,
            missing,
            pods_on_fallback: in_use.pods_on_fallback,
        },
    );
    Ok(())
}

/// Looks at every repository of the mirror once; why a side could not be read, where that is so.
///
/// `in_use` are the tags that pods use, by repository: where no repositories are listed, these are all there is to verify.
pub async fn scan_all(
    clock: Clock,
    policy: &MirrorPolicy,
    memory: &MirrorMemory,
    clients: &Clients,
    readings: &Readings,
    in_use: &BTreeMap<String, BTreeSet<String>>,
) -> Sides<Option<Unreadable>> {
    let mut unreadable = clients.as_ref().map(|client| {
        let message = client.as_ref().err()?.clone();
        Some(Unreadable {
            throttled: false,
            message,
        })
    });
    let repositories: BTreeSet<&str> = match &policy.repositories {
        Repositories::Listed(rules) => rules.iter().map(|rule| &*rule.name).collect(),
        Repositories::InUse => in_use.keys().map(String::as_str).collect(),
    };
    memory
        .state()
        .ledger
        .retain_repositories(|repository| repositories.contains(repository));
    let mut scans = FuturesUnordered::new();
    let mut note = |failures: Option<Failures>| {
        for side in Side::ALL {
            let failure = failures.as_ref().and_then(|failures| failures[side].as_ref());
            unreadable[side] = unreadable[side].take().or(failure.map(describe));
        }
    };
    for repository in repositories {
        if scans.len() >= REPOSITORIES_AT_A_TIME {
            note(scans.next().await);
        }
        scans.push(async move {
            let scan = Scan {
                clock,
                policy,
                memory,
                clients,
                repository,
                turns: Sides::default(),
            };
            match &policy.repositories {
                Repositories::Listed(_) => scan.in_turn(readings).await,
                Repositories::InUse => scan.tags(in_use.get(repository).cloned().unwrap_or_default()).await,
            }
        });
    }
    while let Some(failures) = scans.next().await {
        note(Some(failures));
    }
    unreadable
}

/// The clients of both sides.
pub async fn clients(context: &Context, policy: &MirrorPolicy) -> Clients {
    let client = async |side| {
        context
            .connections
            .client(policy, side)
            .await
            .map_err(|error| error.to_string())
    };
    let (primary, fallback) = tokio::join!(client(Side::Primary), client(Side::Fallback));
    Sides { primary, fallback }
}

fn describe(failure: &Failure) -> Unreadable {
    let throttled = matches!(failure.outcome(), Outcome::Throttled { .. });
    Unreadable {
        throttled,
        message: failure.to_string(),
    }
}

/// What pods will ask the primary for and it does not have.
async fn missing_on_primary(
    policy: &MirrorPolicy,
    memory: &MirrorMemory,
    clients: &Clients,
    in_use: &InUse,
) -> Result<Option<String>, String> {
    let client = clients.primary.as_ref().map_err(Clone::clone)?;
    for (repository, wanted) in &in_use.needed_on_primary {
        for reference in wanted {
            let verdict = memory.state().ledger.verdict(repository, reference);
            if matches!(verdict, Some(Verdict::InSync | Verdict::MissingOnFallback)) {
                continue;
            }
            let path = policy.path(Side::Primary, repository);
            match client.resolve(&path, reference).await {
                Ok(_) => {}
                Err(failure) if failure.is_absent() => return Ok(Some(format!("{repository}:{reference}"))),
                Err(failure) => return Err(failure.to_string()),
            }
        }
    }
    Ok(None)
}

struct Ended {
    begun: Timestamp,
    unreadable: Sides<Option<Unreadable>>,
    missing: Result<Option<String>, String>,
    pods_on_fallback: u32,
}

/// Files the result of a pass.
fn finish(context: &Context, policy: &MirrorPolicy, memory: &MirrorMemory, ended: Ended) {
    let Ended {
        begun,
        unreadable,
        missing,
        pods_on_fallback,
    } = ended;
    // A pass that could not read the primary proves nothing about going back to it.
    let completed = unreadable.primary.is_none().then(|| match missing {
        Ok(None) => CompletedPass {
            begun,
            in_use_in_sync: true,
            detail: "every tag that pods use is there".into(),
        },
        Ok(Some(tag)) => CompletedPass {
            begun,
            in_use_in_sync: false,
            detail: format!("'{tag}' is used and missing"),
        },
        Err(cause) => CompletedPass {
            begun,
            in_use_in_sync: false,
            detail: cause,
        },
    });
    let ended = context.clock.now();
    let mut state = memory.state();
    choose_canary(policy, &mut state);
    let summary = state.ledger.summary();
    context.metrics.scanned(&policy.id.name, &summary, begun, ended);
    state.pass = Some(PassResult {
        begun,
        ended,
        unreadable,
        completed,
        summary,
        pods_on_fallback,
    });
    drop(state);
    memory.passed.notify_one();
    memory.cache_passed.notify_one();
}

/// Keeps a canary that is still in sync; otherwise takes the one the spec names, or the newest.
pub fn choose_canary(policy: &MirrorPolicy, state: &mut crate::memory::State) {
    let in_sync = |state: &crate::memory::State, repository: &str, tag: &str| {
        state.ledger.verdict(repository, tag) == Some(Verdict::InSync)
    };
    if let Some((repository, tag)) = &policy.health.canary
        && let Some(digest) = state
            .ledger
            .digest(repository, tag)
            .filter(|_| in_sync(state, repository, tag))
    {
        let (repository, tag) = (repository.clone(), tag.clone());
        state.canary = Some(catamaran_core::parity::Canary {
            repository,
            tag,
            digest,
        });
        return;
    }
    let refused = std::mem::take(&mut state.refused_canaries);
    let last = state
        .canary
        .take()
        .filter(|last| policy.selects_tag(&last.repository, &last.tag));
    // With nothing in sync the last one stays: that it is gone is what there is to say.
    state.canary = state
        .ledger
        .canary_excluding(&refused)
        .or_else(|| state.ledger.canary())
        .or(last);
}

#[cfg(test)]
mod tests;
