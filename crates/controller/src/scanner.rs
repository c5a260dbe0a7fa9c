//! Verifies the tags of one mirror, pass after pass. Only the leader does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use catamaran_core::evidence::Verdict;
use catamaran_core::failover::CompletedPass;
use catamaran_core::health::Outcome;
use catamaran_core::parity::{Observed, Rules};
use catamaran_core::policy::{MirrorPolicy, Repositories};
use catamaran_core::side::{Side, Sides};
use catamaran_registry::{Client, Failure, ListedTag};
use futures::stream::{FuturesUnordered, StreamExt as _};
use jiff::Timestamp;

use crate::clock::Clock;
use crate::context::Context;
use crate::in_use::{self, InUse};
use crate::lease;
use crate::memory::{MirrorMemory, PassResult, Unreadable};

/// Tags of one repository read at a time.
const AT_A_TIME: usize = 8;

/// Repositories looked at at a time; the registry's budget is the real limit.
const REPOSITORIES_AT_A_TIME: usize = 4;

/// The two clients of a mirror; a side without one is unreadable.
pub type Clients = Sides<Result<Client, String>>;

/// Runs passes until the task is ended; idle while another replica leads.
pub async fn run(context: Arc<Context>, policy: Arc<MirrorPolicy>) {
    let memory = context.memories.of(&policy.id);
    let mut leadership = context.leadership.clone();
    loop {
        lease::gained(&mut leadership).await;
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
        subset: Side::ALL
            .into_iter()
            .find(|side| policy.sides[*side].pull_through_cache),
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
    let unreadable = scan_all(context.clock, policy, memory, &clients, &in_use.tags).await;
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
            };
            match &policy.repositories {
                Repositories::Listed(_) => scan.listed().await,
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

/// What one scan of one repository works with.
pub struct Scan<'a> {
    /// The time.
    pub clock: Clock,
    /// The mirror's policy.
    pub policy: &'a MirrorPolicy,
    /// Where results go.
    pub memory: &'a MirrorMemory,
    /// Both sides' clients.
    pub clients: &'a Clients,
    /// The repository's name in status.
    pub repository: &'a str,
}

type Failures = Sides<Option<Failure>>;

impl Scan<'_> {
    /// Lists both sides and reads the digests that the listings don't tell.
    async fn listed(&self) -> Failures {
        let (primary, fallback) = tokio::join!(self.list(Side::Primary), self.list(Side::Fallback));
        let mut failures = Failures::default();
        let mut listings = Sides::<Option<BTreeMap<String, ListedTag>>>::default();
        for (side, listing) in [(Side::Primary, primary), (Side::Fallback, fallback)] {
            match listing {
                Ok(listing) => listings[side] = Some(listing),
                Err(failure) => failures[side] = Some(failure),
            }
        }
        let Sides {
            primary: Some(primary),
            fallback: Some(fallback),
        } = &listings
        else {
            return failures;
        };
        self.memory.state().ledger.retain(self.repository, |tag| {
            primary.contains_key(tag) || fallback.contains_key(tag)
        });
        let names: BTreeSet<&String> = primary.keys().chain(fallback.keys()).collect();
        let mut looks = FuturesUnordered::new();
        for tag in names {
            if looks.len() >= AT_A_TIME {
                failures = first(failures, looks.next().await);
            }
            let listed = Sides {
                primary: primary.get(tag),
                fallback: fallback.get(tag),
            };
            looks.push(self.look(tag, listed));
        }
        while let Some(failed) = looks.next().await {
            failures = first(failures, Some(failed));
        }
        failures
    }

    async fn list(&self, side: Side) -> Result<BTreeMap<String, ListedTag>, Failure> {
        let Ok(client) = &self.clients[side] else {
            return Ok(BTreeMap::new());
        };
        let path = self.policy.path(side, self.repository);
        let listed = match client.list_tags(&path).await {
            Ok(listed) => listed,
            // A repository that was never pushed to is an empty one.
            Err(failure) if failure.is_absent() => Vec::new(),
            Err(failure) => return Err(failure),
        };
        let selected = listed
            .into_iter()
            .filter(|tag| self.policy.selects_tag(self.repository, &tag.name));
        Ok(selected.map(|tag| (tag.name.clone(), tag)).collect())
    }

    /// One listed tag: a digest is read only where the listing has none and it is due.
    async fn look(&self, tag: &str, listed: Sides<Option<&ListedTag>>) -> Failures {
        let now = self.clock.now();
        let due = self
            .memory
            .state()
            .ledger
            .due(self.repository, tag, now, &rules(self.policy));
        let bare = |side: Side| listed[side].is_some_and(|listed| listed.digest.is_none());
        if !due && Side::ALL.into_iter().all(bare) {
            return Failures::default();
        }
        let see = async |side: Side| match listed[side] {
            None => Ok(Observed::Absent),
            Some(ListedTag {
                digest: Some(digest), ..
            }) => Ok(Observed::Present(digest.clone())),
            Some(_) => self.resolve(side, tag).await,
        };
        let seen = tokio::join!(see(Side::Primary), see(Side::Fallback));
        self.record(tag, seen)
    }

    /// Reads these tags on both sides, without a listing.
    pub async fn tags(&self, tags: BTreeSet<String>) -> Failures {
        let mut failures = Failures::default();
        let mut looks = FuturesUnordered::new();
        for tag in &tags {
            if looks.len() >= AT_A_TIME {
                failures = first(failures, looks.next().await);
            }
            looks.push(self.read(tag));
        }
        while let Some(failed) = looks.next().await {
            failures = first(failures, Some(failed));
        }
        failures
    }

    async fn read(&self, tag: &str) -> Failures {
        let seen = tokio::join!(self.resolve(Side::Primary, tag), self.resolve(Side::Fallback, tag));
        self.record(tag, seen)
    }

    async fn resolve(&self, side: Side, tag: &str) -> Result<Observed, Failure> {
        let Ok(client) = &self.clients[side] else {
            return Ok(Observed::Unknown);
        };
        match client.resolve(&self.policy.path(side, self.repository), tag).await {
            Ok(resolved) => Ok(Observed::Present(resolved.digest)),
            Err(failure) if failure.is_absent() => Ok(Observed::Absent),
            Err(failure) => Err(failure),
        }
    }

    fn record(&self, tag: &str, seen: (Result<Observed, Failure>, Result<Observed, Failure>)) -> Failures {
        let mut failures = Failures::default();
        let mut settle = |side: Side, seen| match seen {
            Ok(observed) => observed,
            Err(failure) => {
                failures[side] = Some(failure);
                Observed::Unknown
            }
        };
        let seen = Sides {
            primary: settle(Side::Primary, seen.0),
            fallback: settle(Side::Fallback, seen.1),
        };
        let now = self.clock.now();
        self.memory
            .state()
            .ledger
            .record(self.repository, tag, seen, now, &rules(self.policy));
        failures
    }
}

/// Of many failures of a side the first is told.
fn first(known: Failures, next: Option<Failures>) -> Failures {
    let next = next.unwrap_or_default();
    Sides {
        primary: known.primary.or(next.primary),
        fallback: known.fallback.or(next.fallback),
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
