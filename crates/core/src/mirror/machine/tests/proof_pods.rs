//! Proof pods, as the machine wants them made.

use super::*;
use crate::mirror::ProofEnded;
use crate::mirror::proof::ProofPod;
use crate::mirror::proof::reading::{Cause, Outcome as ProofOutcome, Problem};
use crate::mirror::proof::summary::Verdict;
use crate::mirror::proof::usage::{Images, Place, ProofUse};
use crate::policy::ProofMode;

fn proving() -> MirrorPolicy {
    let mut policy = web();
    policy.proof.mode = ProofMode::Pull;
    policy
}

impl Bench {
    /// A pass over tag `1`, which pods of `shop` on one node use.
    fn proving_pass(&mut self) {
        let request = self.take(|effect| match effect {
            Effect::ReadInUse { request, .. } => Some(*request),
            _ => None,
        });
        let place = Place {
            namespace: "shop".to_owned(),
            ..Place::default()
        };
        let images = Images::from([("web".to_owned(), "ghcr.io/devopskev/web:1".to_owned())]);
        let mut in_use = used(&["1"]);
        in_use.proof = Arc::new(ProofUse {
            nodes: Arc::new(BTreeSet::from(["node-1".to_owned()])),
            places: std::collections::BTreeMap::from([(place, images)]),
            ..ProofUse::default()
        });
        let request = request.expect("what is in use is wanted");
        self.feed(Event::InUse {
            request,
            in_use: Arc::new(in_use),
        });
        self.list(&[("1", "xx")], Sides::default());
    }

    fn proof_pod(&mut self) -> Option<ProofPod> {
        self.take(|effect| match effect {
            Effect::Prove(pod) => Some(pod.clone()),
            _ => None,
        })
    }

    fn prove(&mut self, good: bool) {
        let pod = self.proof_pod().expect("a proof pod is wanted");
        let pull = if good {
            Ok(())
        } else {
            Err(Problem::new(Cause::PullNotEnded, "no"))
        };
        let (request, outcome) = (pod.request, ProofOutcome::Pulls(vec![pull]));
        self.feed(Event::Proved(Box::new(ProofEnded { request, outcome })));
        self.settle();
    }

    fn verdict(&self) -> Option<Verdict> {
        Some(self.seen()?.proof?.verdict)
    }

    fn seen(&self) -> Option<crate::mirror::Observation> {
        match self.mirror.view()?.in_force? {
            (_, Subject::Watched(seen)) => Some(*seen),
            (_, Subject::Suspended) => None,
        }
    }
}

/// A leader whose mirror has pods, before any of them was proven.
fn begun(policy: MirrorPolicy) -> Bench {
    let mut bench = Bench::leading(policy);
    bench.proving_pass();
    bench.settle();
    bench.probes(3, UP, UP);
    bench.settle();
    bench
}

#[test]
fn proof_is_in_the_status_and_survives_another_leader() {
    let mut bench = begun(proving());
    assert_eq!(bench.verdict(), Some(Verdict::NotYet));
    bench.prove(true);
    assert_eq!(bench.verdict(), Some(Verdict::Proven));
    bench.feed(Event::Leading(false));
    bench.feed(Event::Prior(Evidence::default()));
    bench.feed(Event::Leading(true));
    bench.proving_pass();
    assert_eq!(bench.verdict(), Some(Verdict::Proven));
    assert_eq!(bench.proof_pod(), None);
}

#[test]
fn mirror_without_proof_makes_no_pod_and_says_nothing() {
    let mut bench = begun(web());
    assert_eq!((bench.verdict(), bench.proof_pod()), (None, None));
}

#[test]
fn pods_under_way_are_deleted_with_a_new_spec_and_made_again() {
    let mut bench = begun(proving());
    assert!(bench.proof_pod().is_some());
    let effects = bench.spec(proving(), 2);
    assert!(effects.contains(&Effect::StopProofs), "{effects:?}");
    bench.prove(true);
    let effects = bench.spec(web(), 3);
    assert!(!effects.contains(&Effect::StopProofs), "none is under way");
    assert_eq!(bench.verdict(), None);
}

#[test]
fn nothing_is_proven_while_the_fallback_is_active() {
    let mut bench = begun(proving());
    bench.prove(true);
    while bench.active().0 == Side::Primary {
        bench.probes(1, DOWN, UP);
        bench.settle();
    }
    bench.feed(Event::Reconcile("now".to_owned()));
    assert_eq!(bench.proof_pod(), None);
    assert_eq!(bench.verdict(), Some(Verdict::Proven), "what was known stays");
}

#[test]
fn required_proof_holds_a_failover_up_until_it_is_there() {
    let mut policy = proving();
    policy.failover.require_proof = true;
    let mut bench = begun(policy);
    bench.prove(false);
    bench.probes(5, DOWN, UP);
    bench.settle();
    assert_eq!(
        (bench.active().0, bench.reason()),
        (Side::Primary, Some(Reason::OtherNotProven))
    );
    // It is tried again, also in the outage, and the failover follows at once.
    for _ in 0..150 {
        bench.probes(1, DOWN, UP);
        bench.wait(4);
    }
    bench.prove(true);
    assert_eq!(bench.active().0, Side::Fallback);
}

#[test]
fn request_is_over_when_its_pass_and_proof_pods_have_ended() {
    let mut bench = begun(proving());
    bench.prove(true);
    bench.wait(5);
    bench.feed(Event::Reconcile("now".to_owned()));
    let reconciled = |bench: &Bench| bench.seen().and_then(|seen| seen.reconciled);
    bench.proving_pass();
    bench.settle();
    assert_eq!(reconciled(&bench), None, "a pod is under way");
    bench.prove(true);
    assert_eq!(reconciled(&bench).as_deref(), Some("now"));
    bench.feed(Event::Reconcile("now".to_owned()));
    assert_eq!(bench.proof_pod(), None, "the same request again");
}
