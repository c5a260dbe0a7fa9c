use proptest::prelude::*;

use super::*;
use crate::mirror::fixtures::at;
use crate::pod::message::PullFailure;

const POLICY: ProofPolicy = ProofPolicy {
    mode: crate::policy::ProofMode::Pull,
    interval: Duration::from_hours(1),
};
const DENIED: Cause = Cause::Pull(PullFailure::Unauthorized);

/// Pods of these namespaces, each with an image of `web`, on so many nodes.
fn usage(nodes: usize, namespaces: &[&str]) -> Arc<ProofUse> {
    let place = |namespace: &&str| {
        let place = Place {
            namespace: (*namespace).to_owned(),
            ..Place::default()
        };
        (place, Images::from([("web".to_owned(), "ghcr.io/a/web:1".to_owned())]))
    };
    Arc::new(ProofUse {
        nodes: Arc::new((1..=nodes).map(|node| format!("node-{node}")).collect()),
        places: namespaces.iter().map(place).collect(),
        ..ProofUse::default()
    })
}

struct Bench {
    proofs: Proofs,
    requests: Requests,
    now: i64,
}

impl Bench {
    fn new(usage: &Arc<ProofUse>) -> Bench {
        let mut proofs = Proofs::default();
        proofs.plan(usage, None);
        Bench {
            proofs,
            requests: Requests::default(),
            now: 0,
        }
    }

    fn begin(&mut self) -> Vec<ProofPod> {
        self.proofs.begin(&POLICY, &mut self.requests, at(self.now))
    }

    /// Lets pods run until none is due; each ends a second later, as `outcome` says.
    fn run(&mut self, outcome: impl Fn(&ProofPod) -> Outcome) -> usize {
        let mut count = 0;
        let mut waiting = self.begin();
        while let Some(pod) = waiting.pop() {
            count += 1;
            self.now += 1;
            self.proofs.ended(pod.request, outcome(&pod), at(self.now));
            waiting.extend(self.begin());
        }
        self.proofs.complete(at(self.now));
        count
    }

    fn verdict(&self) -> Verdict {
        self.proofs.summary().verdict
    }
}

fn pulled(pod: &ProofPod) -> Outcome {
    Outcome::Pulls(pod.images.iter().map(|_| Ok(())).collect())
}

fn failed(pod: &ProofPod, cause: Cause) -> Outcome {
    Outcome::Pulls(pod.images.iter().map(|_| Err(Problem::new(cause, "no"))).collect())
}

#[test]
fn fallback_is_proven_once_each_node_pulled_for_each_namespace() {
    let mut bench = Bench::new(&usage(2, &["a", "b"]));
    assert_eq!(bench.verdict(), Verdict::NotYet);
    let first = bench.begin();
    let nodes: Vec<_> = first.iter().map(|pod| (&*pod.place.namespace, &*pod.node)).collect();
    assert_eq!(nodes, [("a", "node-1"), ("a", "node-2")], "one pod on a node at a time");
    for pod in &first {
        bench.proofs.ended(pod.request, pulled(pod), at(1));
    }
    assert_eq!(bench.verdict(), Verdict::NotYet);
    assert_eq!(bench.run(pulled), 2);
    let summary = bench.proofs.summary();
    assert_eq!((summary.verdict, summary.time), (Verdict::Proven, Some(at(2))));
    let Extent {
        nodes,
        namespaces,
        images,
    } = summary.extent;
    assert_eq!((nodes, namespaces, images), (2, 2, 1));
    assert!(bench.proofs.is_idle());
}

#[test]
fn failure_is_named_by_namespace_node_and_cause() {
    let mut bench = Bench::new(&usage(2, &["a", "b", "c"]));
    let refused = Problem::new(Cause::Refused, "policy says no");
    bench.run(|pod| match (&*pod.place.namespace, &*pod.node) {
        ("a", _) => failed(pod, DENIED),
        ("b", "node-2") => failed(pod, Cause::Pull(PullFailure::Connection)),
        ("c", _) => Outcome::Whole(refused.clone()),
        _ => pulled(pod),
    });
    let summary = bench.proofs.summary();
    assert_eq!((summary.verdict, summary.failing_total), (Verdict::Fails(DENIED), 5));
    let groups: Vec<_> = summary
        .groups
        .iter()
        .map(|group| {
            (
                group.cause,
                group.namespaces.sample.join(","),
                group.nodes.sample.join(","),
            )
        })
        .collect();
    let group = |cause, namespaces: &str, nodes: &str| (cause, namespaces.to_owned(), nodes.to_owned());
    let expected = [
        group(DENIED, "a", "node-1,node-2"),
        group(Cause::Pull(PullFailure::Connection), "b", "node-2"),
        group(Cause::Refused, "c", "node-1,node-2"),
    ];
    assert_eq!(groups, expected);
    assert_eq!(summary.failing[0].image.as_deref(), Some("ghcr.io/a/web:1"));
}

#[test]
fn good_result_holds_for_the_interval_and_a_bad_one_is_retried() {
    let mut bench = Bench::new(&usage(1, &["a", "b"]));
    let by_namespace = |pod: &ProofPod| match &*pod.place.namespace {
        "a" => failed(pod, DENIED),
        _ => pulled(pod),
    };
    assert_eq!(bench.run(by_namespace), 2);
    assert_eq!(bench.proofs.wake_at(), Some(at(1 + 600)));
    bench.now = 590;
    assert_eq!(bench.run(pulled), 0);
    bench.now = 605;
    assert_eq!(bench.run(pulled), 1, "what failed");
    assert_eq!(bench.verdict(), Verdict::Proven);
    bench.now = 3605;
    assert_eq!(bench.run(pulled), 1, "what was good an hour ago");
}

#[test]
fn request_proves_everything_again_at_once() {
    let mut bench = Bench::new(&usage(2, &["a"]));
    bench.run(|pod| failed(pod, DENIED));
    bench.now = 20;
    bench.proofs.request(at(bench.now));
    assert!(!bench.proofs.is_idle());
    assert_eq!(bench.run(pulled), 2);
    bench.proofs.request(at(20));
    assert_eq!(bench.run(pulled), 0, "the same request");
    assert_eq!(bench.verdict(), Verdict::Proven);
}

#[test]
fn another_repository_is_proven_and_another_tag_is_not() {
    let mut bench = Bench::new(&usage(1, &["a"]));
    bench.run(pulled);
    let mut changed = ProofUse::clone(&usage(1, &["a"]));
    let images = changed.places.values_mut().next().unwrap();
    images.insert("web".to_owned(), "ghcr.io/a/web:2".to_owned());
    bench.proofs.plan(&Arc::new(changed.clone()), None);
    assert_eq!(bench.run(pulled), 0);
    let images = changed.places.values_mut().next().unwrap();
    images.insert("api".to_owned(), "ghcr.io/a/api:1".to_owned());
    bench.proofs.plan(&Arc::new(changed), None);
    assert_eq!(bench.run(pulled), 1);
}

#[test]
fn new_leader_goes_on_from_what_the_status_says() {
    let all = usage(2, &["a", "b"]);
    let mut bench = Bench::new(&all);
    bench.run(|pod| {
        if pod.node == "node-2" {
            failed(pod, DENIED)
        } else {
            pulled(pod)
        }
    });
    let written = ProofRead::of(&bench.proofs.summary(), "ghcr.io/a");
    let mut next = Proofs::default();
    next.plan(&all, Some(&written));
    assert_eq!(next.summary(), bench.proofs.summary());
    let mut others = Proofs::default();
    others.plan(&usage(3, &["a", "b"]), Some(&written));
    assert_eq!(
        others.summary().verdict,
        Verdict::NotYet,
        "of other nodes it says nothing"
    );
    let mut renewed = bench.proofs.clone();
    renewed.renew();
    renewed.plan(&all, Some(&written));
    assert_eq!(
        renewed.summary().verdict,
        Verdict::NotYet,
        "the status is about another spec"
    );
}

#[test]
fn pod_that_is_lost_or_not_run_leaves_the_proof_unknown() {
    let mut bench = Bench::new(&usage(1, &["a"]));
    bench.begin();
    bench.now = 899;
    assert!(!bench.proofs.give_up(at(899)));
    assert!(bench.proofs.give_up(at(900)));
    assert_eq!(bench.verdict(), Verdict::NotRun(Cause::NotStarted));
    let mut empty = Bench::new(&usage(2, &[]));
    assert_eq!(empty.run(pulled), 0);
    assert_eq!(empty.verdict(), Verdict::Nothing);
}

#[test]
fn node_of_another_system_is_left_out() {
    let mut bench = Bench::new(&usage(2, &["a"]));
    bench.run(|pod| {
        if pod.node == "node-2" {
            Outcome::Skipped
        } else {
            pulled(pod)
        }
    });
    assert_eq!(bench.verdict(), Verdict::Proven);
}

proptest! {
    #[test]
    fn pods_are_bounded_one_on_a_node_and_all_end_up_proven(
        nodes in 1..9_usize,
        places in 0..6_usize,
        bad in proptest::collection::vec(any::<bool>(), 64),
    ) {
        let names: Vec<String> = (0..places).map(|place| format!("ns-{place}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut bench = Bench::new(&usage(nodes, &names));
        let mut waiting: Vec<ProofPod> = Vec::new();
        let mut count = 0;
        loop {
            waiting.extend(bench.begin());
            prop_assert!(waiting.len() <= AT_A_TIME);
            let busy: BTreeSet<&str> = waiting.iter().map(|pod| pod.node.as_str()).collect();
            prop_assert_eq!(busy.len(), waiting.len());
            let Some(pod) = waiting.pop() else { break };
            let outcome = if bad[count % bad.len()] { failed(&pod, DENIED) } else { pulled(&pod) };
            count += 1;
            bench.proofs.ended(pod.request, outcome, at(0));
        }
        prop_assert_eq!(count, nodes * places);
        let failing = (0..count).filter(|index| bad[index % bad.len()]).count();
        prop_assert_eq!(bench.proofs.summary().failing_total, failing);
        prop_assert!(bench.proofs.summary().failing.len() <= summary::MAX_FAILING);
        prop_assert_eq!(bench.proofs.is_proven(), failing == 0 && count > 0);
        prop_assert!(bench.proofs.is_idle());
    }
}
