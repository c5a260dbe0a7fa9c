//! Carries out what a mirror wants inspected.

use catamaran_core::mirror::{Depth, Event, Finding, FlawedPart, Inspect, Inspected};
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::side::{Side, Sides};
use catamaran_registry::Failure;
use catamaran_registry::copy::{check_manifest, inspect as inspect_content};

use super::readings::inspections::Inspection;
use super::sources::{Clients, Sources, clients};

/// Looks whether what a digest stands for can be pulled, when it is this one's turn. Until then it takes little memory.
pub(super) async fn inspect(sources: &Sources, policy: &MirrorPolicy, wanted: Inspect) -> Event {
    let inspections = &sources.readings.inspections;
    let look = async { Box::pin(inspect_now(sources, policy, &wanted)).await };
    let sides = inspections.share(policy, &wanted, sources.clock, look).await;
    Event::Inspected(Box::new(Inspected {
        request: wanted.request,
        sides,
    }))
}

async fn inspect_now(sources: &Sources, policy: &MirrorPolicy, wanted: &Inspect) -> Inspection {
    let clients = clients(&*sources.registries, policy).await;
    match wanted.depth {
        Depth::Content => content(&clients, policy, wanted).await,
        Depth::Manifest => {
            let side = |side: Side| manifest(&clients, policy, wanted, side);
            let (primary, fallback) = tokio::join!(side(Side::Primary), side(Side::Fallback));
            Sides { primary, fallback }
        }
    }
}

async fn content(clients: &Clients, policy: &MirrorPolicy, wanted: &Inspect) -> Inspection {
    let held = &wanted.held;
    let asked = Sides::from_fn(|side| clients[side].as_ref().ok().filter(|_| held.on[side]));
    if Side::ALL.into_iter().any(|side| held.on[side] && asked[side].is_none()) {
        // A side that can't be asked says nothing of the other one either.
        return Inspection::default();
    }
    let paths = Sides::from_fn(|side| policy.path(side, &held.repository));
    let paths = paths.as_ref().map(|path| &**path);
    let mut found = inspect_content(asked, paths, &held.reference, &held.digest)
        .await
        .map(finding);
    for side in Side::ALL.into_iter().filter(|side| !held.on[*side]) {
        found[side] = Finding::Unknown;
    }
    found
}

async fn manifest(clients: &Clients, policy: &MirrorPolicy, wanted: &Inspect, side: Side) -> Finding {
    let held = &wanted.held;
    match &clients[side] {
        Ok(client) if held.on[side] => {
            let path = policy.path(side, &held.repository);
            finding(check_manifest(client, &path, &held.reference, &held.digest).await)
        }
        _ => Finding::Unknown,
    }
}

fn finding(found: Result<Option<FlawedPart>, Failure>) -> Finding {
    match found {
        Ok(None) => Finding::Sound,
        Ok(Some(part)) => Finding::Flawed(part),
        Err(failure) => {
            tracing::debug!(%failure, "content could not be inspected");
            Finding::Unknown
        }
    }
}
