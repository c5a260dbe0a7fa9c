//! What status, condition and Events say of proof pods.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use catamaran_core::mirror::proof::ProofPod;
use catamaran_core::mirror::proof::reading::{Cause, Outcome as ProofOutcome, Problem};
use catamaran_core::mirror::proof::usage::{Images, Place, ProofUse};
use catamaran_core::pod::message::PullFailure;

use super::*;

/// How a proof pod ends.
type End = fn(&ProofPod) -> ProofOutcome;

/// A mirror with pods in these namespaces, on two nodes, whose proof pods end so.
fn proving(namespaces: &[&str], proved: Option<End>) -> World {
    let mut world = World::with(&json!({"proof": {"mode": "Pull"}}));
    let place = |namespace: &&str| {
        let place = Place {
            namespace: (*namespace).to_owned(),
            ..Place::default()
        };
        (
            place,
            Images::from([("web".to_owned(), "ghcr.io/devopskev/web:1".to_owned())]),
        )
    };
    world.in_use.proof = Arc::new(ProofUse {
        nodes: Arc::new(BTreeSet::from(["node-1", "node-2"].map(str::to_owned))),
        places: namespaces.iter().map(place).collect::<BTreeMap<_, _>>(),
        unlisted: 1,
        left_out: 0,
    });
    world.proved = proved;
    world
}

fn pulled(_: &ProofPod) -> ProofOutcome {
    ProofOutcome::Pulls(vec![Ok(())])
}

fn failed(failure: PullFailure) -> ProofOutcome {
    ProofOutcome::Pulls(vec![Err(Problem::new(Cause::Pull(failure), "HTTP 401"))])
}

fn denied(pod: &ProofPod) -> ProofOutcome {
    match (&*pod.place.namespace, &*pod.node) {
        ("a", _) => failed(PullFailure::Unauthorized),
        ("b", "node-2") => failed(PullFailure::Connection),
        ("c", _) => refused(pod),
        _ => pulled(pod),
    }
}

fn refused(_: &ProofPod) -> ProofOutcome {
    let message = "pods \"x\" is forbidden: ValidatingAdmissionPolicy 'acr-only' denied request: not from ACR";
    ProofOutcome::Whole(Problem::refused(message))
}

fn not_run(_: &ProofPod) -> ProofOutcome {
    ProofOutcome::Whole(Problem::new(Cause::NotStarted, "OutOfpods: no room"))
}

fn not_permitted(_: &ProofPod) -> ProofOutcome {
    ProofOutcome::Whole(Problem::new(Cause::NotPermitted, "no"))
}

/// One for each reason.
pub(super) fn worlds_with_proofs() -> Vec<World> {
    let ends: [Option<End>; 6] = [
        None,
        Some(pulled),
        Some(denied),
        Some(refused),
        Some(not_run),
        Some(not_permitted),
    ];
    let mut worlds: Vec<World> = ends.into_iter().map(|end| proving(&["a"], end)).collect();
    worlds.push(proving(&[], Some(pulled)));
    for world in &mut worlds {
        world.run(MINUTES);
    }
    worlds
}

#[test]
fn what_is_not_proven_is_named_in_condition_status_and_event() {
    let mut world = proving(&["a", "b", "c"], Some(denied));
    world.run(MINUTES);
    let status = world.status();
    let found = conditions::find_condition(&status.conditions, conditions::FALLBACK_PROVEN).unwrap();
    assert_eq!(
        found.message,
        "pods could not be started from ghcr.io: namespace \"a\" on nodes \"node-1\", \"node-2\": the pull secret is missing or not \
         accepted; namespace \"b\" on node \"node-2\": the connection fails; namespace \"c\" on nodes \"node-1\", \"node-2\": refused by \
         ValidatingAdmissionPolicy 'acr-only' denied request: not from ACR; 1 namespace with pods of this mirror is not in the \
         chart's proof.namespaces"
    );
    let proof = status.proof.unwrap();
    assert_eq!(
        (proof.nodes, proof.namespaces, proof.images, proof.failed),
        (2, 3, 1, 5)
    );
    let first = &proof.failing[0];
    let image = Some("ghcr.io/devopskev/web:1");
    assert_eq!((first.reason.as_str(), first.image.as_deref()), ("Unauthorized", image));
    assert!(
        proof
            .failing
            .iter()
            .any(|failing| failing.reason == "Refused" && failing.image.is_none())
    );
    let announced = world
        .events
        .iter()
        .any(|said| said.event == &events::FALLBACK_NOT_PROVEN);
    assert!(announced, "{:?}", world.events);
}

#[test]
fn proof_settles_and_nothing_more_is_written() {
    let mut world = proving(&["a"], Some(pulled));
    world.run(MINUTES);
    let (written, status) = (world.writes, world.status());
    let found = conditions::find_condition(&status.conditions, conditions::FALLBACK_PROVEN).unwrap();
    assert_eq!(
        found.message,
        "2 nodes can pull 1 image from ghcr.io with the credentials of 1 namespace; 1 namespace with pods of this mirror is not in \
         the chart's proof.namespaces"
    );
    world.run(MINUTES);
    assert_eq!(world.writes, written);
}

#[test]
fn status_is_read_back_as_it_was_written() {
    let mut world = proving(&["a", "b"], Some(denied));
    world.run(MINUTES);
    let read = read_status(&world.status()).proof.unwrap();
    assert_eq!(
        (read.registry.as_str(), read.failing_total, read.failing.len()),
        ("ghcr.io/devopskev", 3, 3)
    );
    assert_eq!(read.failing[0].problem.cause, Cause::Pull(PullFailure::Unauthorized));
}

#[test]
fn new_leader_keeps_the_proof_until_it_knows_what_is_in_use() {
    let mut world = proving(&["a"], Some(pulled));
    world.run(MINUTES);
    let said = |status: &RegistryMirrorStatus| {
        let found = conditions::find_condition(&status.conditions, conditions::FALLBACK_PROVEN).cloned();
        (found.unwrap(), status.proof.clone())
    };
    let before = said(&world.status());
    world.lead_anew();
    assert_eq!(said(&world.status()), before);
    world.run(MINUTES);
    assert_eq!(said(&world.status()), before, "it did not even change for a moment");
}
