//! Looks after a side that is a pull-through cache, after each pass: counts what it holds, has it import what pods use and it
//! lacks, where the user wants that, and compares the mirror's paths with the cloud's own rule. Only the leader does.
//!
//! The rule is compared and not followed: the prefix decides where pods are sent, and must not move with somebody's edit of an
//! account's rules.

use std::sync::Arc;
use std::time::Duration;

use catamaran_core::health::Availability;
use catamaran_core::policy::{MirrorPolicy, Provider};
use catamaran_core::pull_through::{Placement, Pull, Tried, due, holdings, placement, upstream_name};
use catamaran_core::side::Side;
use catamaran_registry::{Class, Client, Failure};
use futures::stream::{self, StreamExt as _};
use tokio::time::Instant;

use crate::context::Context;
use crate::memory::{MirrorMemory, RepositoryTag};

pub(crate) mod rule;
#[cfg(test)]
mod tests;

pub use rule::Rule;

/// Tags asked for at a time: each may make the cache import a whole image.
const AT_A_TIME: usize = 2;
/// Between two looks at the cloud's rules.
const RULES_EVERY: Duration = Duration::from_hours(1);
/// The same, while what was found is not good.
const RULES_AGAIN: Duration = Duration::from_mins(5);

/// Looks after the cache until the task is ended; idle while another replica leads.
pub async fn run(context: Arc<Context>, policy: Arc<MirrorPolicy>, cache: Side) {
    let memory = context.memories.of(&policy.id);
    let mut leadership = context.leadership.clone();
    let mut keeper = Keeper {
        policy,
        cache,
        tried: Tried::default(),
        rules_at: Instant::now(),
    };
    loop {
        catamaran_lease::gained(&mut leadership).await;
        memory.cache_passed.notified().await;
        if !context.leads() {
            continue;
        }
        tokio::select! {
            () = keeper.round(&context, &memory) => {}
            () = catamaran_lease::lost(&mut leadership) => {}
        }
    }
}

struct Keeper {
    policy: Arc<MirrorPolicy>,
    cache: Side,
    tried: Tried,
    /// When the rules are read next.
    rules_at: Instant,
}

impl Keeper {
    async fn round(&mut self, context: &Context, memory: &MirrorMemory) {
        self.count(context, memory);
        // Why there is no client is told by the side's own condition.
        let Ok(client) = context.connections.client(&self.policy, self.cache).await else {
            return;
        };
        if self.has_rules() && self.rules_at <= Instant::now() {
            self.read_rule(context, memory, &client).await;
        }
        if self.policy.sides[self.cache].prewarm {
            self.prewarm(context, memory, &client).await;
        }
    }

    fn count(&self, context: &Context, memory: &MirrorMemory) {
        let holdings = {
            let state = memory.state();
            holdings(self.cache, &state.ledger, &state.in_use)
        };
        let now = context.clock.now();
        context.metrics.cache_holds(&self.policy.id.name, &holdings, now);
    }

    /// Whether the cloud can be asked for its rules: with an identity, not with a password.
    fn has_rules(&self) -> bool {
        let side = &self.policy.sides[self.cache];
        side.provider == Provider::Aws && side.credentials_secret.is_none()
    }

    async fn read_rule(&mut self, context: &Context, memory: &MirrorMemory, client: &Client) {
        let upstream = upstream_name(&self.policy.sides[self.cache.other()].registry);
        let rule = match client.pull_through_prefix(upstream).await {
            Ok(prefix) => Rule::Read {
                placement: placement(&self.policy, self.cache, prefix.as_deref()),
                prefix,
            },
            Err(failure) => Rule::Unknown {
                message: failure.message,
            },
        };
        let fits = matches!(&rule, Rule::Read { placement, .. } if *placement == Placement::Fits);
        self.rules_at = Instant::now() + if fits { RULES_EVERY } else { RULES_AGAIN };
        let changed = memory.state().rule.replace(rule.clone()) != Some(rule);
        if changed {
            context.trigger(&self.policy.id);
        }
    }

    async fn prewarm(&mut self, context: &Context, memory: &MirrorMemory, client: &Client) {
        let availability = memory.availability(&self.policy);
        if Side::ALL
            .into_iter()
            .any(|side| availability[side] != Availability::Available)
        {
            // The cache can't import from an upstream that is away, and need not be asked to.
            return;
        }
        let now = context.clock.now();
        self.tried.forget(now);
        let pulls = {
            let state = memory.state();
            due(&self.policy, &state.ledger, &state.in_use, &self.tried, now)
        };
        let (policy, cache) = (&self.policy, self.cache);
        let mut asked = stream::iter(pulls)
            .map(|pull| async move {
                let path = policy.path(cache, &pull.repository);
                let answer = client.prewarm(&path, &pull.tag).await;
                (pull, answer)
            })
            .buffer_unordered(AT_A_TIME);
        while let Some((pull, answer)) = asked.next().await {
            self.tried.note(pull.clone(), now);
            let kind = outcome(answer.as_ref().err());
            context.metrics.prewarmed(&policy.id.name, kind);
            match answer {
                Ok(_) => {
                    tracing::info!(mirror = %policy.id, repository = pull.repository, tag = pull.tag, "pulled through the cache");
                    memory.want(wanted(pull));
                }
                Err(failure) => {
                    tracing::warn!(mirror = %policy.id, repository = pull.repository, tag = pull.tag, %failure,
                        "failed to pull through the cache");
                    if !failure.is_absent() {
                        // Whatever it is, the next request meets it too; the rest waits for the next pass.
                        return;
                    }
                }
            }
        }
    }
}

fn wanted(pull: Pull) -> RepositoryTag {
    RepositoryTag {
        repository: pull.repository,
        tag: pull.tag,
    }
}

/// A closed word for what came of asking for a tag.
fn outcome(failure: Option<&Failure>) -> &'static str {
    match failure {
        None => "Pulled",
        Some(failure) if failure.is_absent() => "Absent",
        Some(failure) if matches!(failure.class, Class::Throttled { .. }) => "Throttled",
        Some(_) => "Failed",
    }
}
