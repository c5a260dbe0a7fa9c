//! Carries out what is wanted of a side that is a pull-through cache.

use catamaran_core::mirror::prewarm::{Pull, placement, upstream_name};
use catamaran_core::mirror::{CacheRule, Event, PrewarmOutcome};
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::side::Side;
use catamaran_registry::{Class, Failure};

use crate::context::Context;

/// Asks the cache for one tag, so that it imports it.
pub(super) async fn prewarm(context: &Context, policy: &MirrorPolicy, pull: Pull) -> Event {
    let outcome = match policy.cache() {
        Some(cache) => ask(context, policy, cache, &pull).await,
        None => PrewarmOutcome::Failed,
    };
    context.metrics.prewarmed(&policy.id.name, word(outcome));
    let pull = Box::new(pull);
    Event::Prewarmed { pull, outcome }
}

async fn ask(context: &Context, policy: &MirrorPolicy, cache: Side, pull: &Pull) -> PrewarmOutcome {
    let Pull { repository, tag } = pull;
    let client = match context.connections.client(policy, cache).await {
        Ok(client) => client,
        Err(error) => {
            tracing::warn!(mirror = %policy.id, repository, tag, %error, "failed to pull through the cache");
            return PrewarmOutcome::Failed;
        }
    };
    match client.prewarm(&policy.path(cache, repository), tag).await {
        Ok(_) => {
            tracing::info!(mirror = %policy.id, repository, tag, "pulled through the cache");
            PrewarmOutcome::Pulled
        }
        Err(failure) => {
            tracing::warn!(mirror = %policy.id, repository, tag, %failure, "failed to pull through the cache");
            outcome(&failure)
        }
    }
}

fn outcome(failure: &Failure) -> PrewarmOutcome {
    match failure.class {
        _ if failure.is_absent() => PrewarmOutcome::Absent,
        Class::Throttled { .. } => PrewarmOutcome::Throttled,
        _ => PrewarmOutcome::Failed,
    }
}

/// The word in metrics.
fn word(outcome: PrewarmOutcome) -> &'static str {
    match outcome {
        PrewarmOutcome::Pulled => "Pulled",
        PrewarmOutcome::Absent => "Absent",
        PrewarmOutcome::Throttled => "Throttled",
        PrewarmOutcome::Failed => "Failed",
    }
}

/// Reads the cloud's rule for the cache. It is compared and not followed: the prefix decides where pods are sent, and must not move
/// with an edit of an account's rules.
pub(super) async fn read_rule(context: &Context, policy: &MirrorPolicy, cache: Side) -> CacheRule {
    let upstream = upstream_name(&policy.sides[cache.other()].registry);
    let prefix = match context.connections.client(policy, cache).await {
        Ok(client) => client
            .pull_through_prefix(upstream)
            .await
            .map_err(|failure| failure.message),
        Err(error) => Err(error.to_string()),
    };
    match prefix {
        Ok(prefix) => CacheRule::Read {
            placement: placement(policy, cache, prefix.as_deref()),
            prefix,
        },
        Err(message) => CacheRule::Unknown { message },
    }
}

#[cfg(test)]
mod tests;
