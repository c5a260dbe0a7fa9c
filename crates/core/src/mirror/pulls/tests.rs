use super::*;

/// Seconds after an arbitrary instant.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + seconds).unwrap()
}

fn registries() -> Sides<String> {
    Sides {
        primary: "a.example".to_owned(),
        fallback: "b.example".to_owned(),
    }
}

fn failed(pod: &str, node: &str, side: Side, failure: PullFailure) -> PodPulls {
    let mut report = ended(pod, node);
    report.failed[side] = Some(FailedAttempt { failure, is_new: true });
    report
}

/// The pod waits before its next attempt.
fn backs_off(pod: &str, node: &str, side: Side, failure: PullFailure) -> PodPulls {
    let mut report = ended(pod, node);
    report.failed[side] = Some(FailedAttempt { failure, is_new: false });
    report
}

/// The pod waits for nothing any more.
fn ended(pod: &str, node: &str) -> PodPulls {
    PodPulls {
        pod: pod.into(),
        node: node.into(),
        failed: Sides::default(),
    }
}

fn bound() -> Pulls {
    let mut pulls = Pulls::default();
    pulls.bind(1, Side::Primary, registries(), at(0));
    pulls
}

type Report = (i64, &'static str, &'static str, PullFailure);

/// What is reported when, with the pod, its node and how the pull from the primary failed.
fn reported(reports: &[Report]) -> Pulls {
    let mut pulls = bound();
    for (seconds, pod, node, failure) in reports {
        pulls.report(&[failed(pod, node, Side::Primary, *failure)], at(*seconds));
        pulls.refresh(false, at(*seconds));
    }
    pulls
}

fn raised(pulls: &Pulls, seconds: i64) -> bool {
    pulls.outages(at(seconds)).primary.is_some()
}

/// Three pods on two nodes.
fn three(failure: PullFailure) -> [Report; 3] {
    [
        (1, "p1", "n1", failure),
        (2, "p2", "n1", failure),
        (3, "p3", "n2", failure),
    ]
}

#[test]
fn three_pods_on_two_nodes_within_a_minute_are_an_outage() {
    use PullFailure::*;
    let cases: [(&str, &[Report], bool); 7] = [
        ("three on two", &three(Connection), true),
        ("two", &three(Connection)[1..], false),
        (
            "three on one",
            &[(1, "p1", "n1", Dns), (2, "p2", "n1", Dns), (3, "p3", "n1", Dns)],
            false,
        ),
        (
            "one pod again and again",
            &[
                (1, "p1", "n1", Dns),
                (2, "p2", "n2", Dns),
                (3, "p1", "n1", Dns),
                (4, "p1", "n1", Dns),
            ],
            false,
        ),
        (
            "over more than a minute",
            &[(1, "p1", "n1", Tls), (30, "p2", "n2", Tls), (62, "p3", "n2", Tls)],
            false,
        ),
        (
            "over just a minute",
            &[(1, "p1", "n1", Tls), (30, "p2", "n2", Tls), (61, "p3", "n2", Tls)],
            true,
        ),
        (
            "of different classes",
            &[
                (1, "p1", "n1", Tls),
                (2, "p2", "n2", ServerError),
                (3, "p3", "n2", Connection),
            ],
            true,
        ),
    ];
    for (name, reports, expected) in cases {
        let seconds = reports.last().unwrap().0;
        assert_eq!(raised(&reported(reports), seconds), expected, "{name}");
    }
}

#[test]
fn only_failures_about_the_registry_are_an_outage() {
    use PullFailure::*;
    for failure in [Connection, ServerError, Tls, Dns] {
        assert!(raised(&reported(&three(failure)), 3), "{failure:?}");
    }
    for failure in [NotFound, Unauthorized, Throttled, SignatureInvalid, Other] {
        let pulls = reported(&three(failure));
        assert!(!raised(&pulls, 3), "{failure:?}");
        assert_eq!(pulls.failing_pods(), 3, "{failure:?} is shown all the same");
    }
}

#[test]
fn one_node_is_enough_where_the_cluster_has_one() {
    let reports = ["p1", "p2", "p3"].map(|pod| failed(pod, "n1", Side::Primary, PullFailure::Dns));
    for (is_single_node, expected) in [(false, false), (true, true)] {
        let mut pulls = bound();
        pulls.report(&reports, at(1));
        pulls.refresh(is_single_node, at(1));
        assert_eq!(raised(&pulls, 1), expected);
    }
}

#[test]
fn failure_of_unknown_age_is_no_attempt() {
    let mut pulls = bound();
    let pods = [("p1", "n1"), ("p2", "n1"), ("p3", "n2")];
    pulls.report(
        &pods.map(|(pod, node)| backs_off(pod, node, Side::Primary, PullFailure::Dns)),
        at(1),
    );
    pulls.refresh(false, at(1));
    assert!(!raised(&pulls, 1));
    assert_eq!(pulls.failing(), 3);
    // They try again.
    pulls.report(
        &pods.map(|(pod, node)| failed(pod, node, Side::Primary, PullFailure::Dns)),
        at(9),
    );
    pulls.refresh(false, at(9));
    assert!(raised(&pulls, 9));
}

#[test]
fn back_off_without_a_cause_keeps_the_cause() {
    let mut pulls = reported(&three(PullFailure::Connection));
    for (pod, node) in [("p1", "n1"), ("p2", "n1"), ("p3", "n2")] {
        pulls.report(&[backs_off(pod, node, Side::Primary, PullFailure::Other)], at(9));
    }
    pulls.refresh(false, at(9));
    assert!(raised(&pulls, 9));
}

#[test]
fn outage_lasts_until_fewer_pods_wait() {
    let mut pulls = reported(&three(PullFailure::Connection));
    pulls.refresh(false, at(5 * 60));
    assert!(raised(&pulls, 5 * 60), "kubelets wait so long before the next attempt");
    let outage = pulls.outages(at(5 * 60)).primary.unwrap();
    assert!(!outage.is_new);
    assert_eq!(outage.failing.since, at(1));
    pulls.report(&[ended("p3", "n2")], at(5 * 60));
    assert!(pulls.refresh(false, at(5 * 60)));
    assert!(!raised(&pulls, 5 * 60));

    let mut pulls = reported(&three(PullFailure::Connection));
    pulls.refresh(false, at(7 * 60));
    assert!(!raised(&pulls, 7 * 60), "nobody has tried for too long");
}

#[test]
fn pivot_is_the_last_attempt_but_one() {
    let pulls = reported(&three(PullFailure::Connection));
    let outage = pulls.outages(at(3)).primary.unwrap();
    assert_eq!((outage.pivot, outage.is_new), (at(2), true));
}

#[test]
fn evidence_belongs_to_its_epoch_and_registry() {
    let other = Sides {
        primary: "c.example".to_owned(),
        ..registries()
    };
    let cases = [
        ("the same again", 1, Side::Primary, registries(), true),
        ("a flip", 2, Side::Fallback, registries(), false),
        ("another registry", 1, Side::Primary, other, false),
    ];
    for (name, epoch, active, registries, kept) in cases {
        let mut pulls = reported(&three(PullFailure::Connection));
        pulls.bind(epoch, active, registries, at(4));
        assert_eq!(raised(&pulls, 4), kept, "{name}");
        assert_eq!(pulls.failing_pods(), if kept { 3 } else { 0 }, "{name}");
    }
    let mut pulls = reported(&three(PullFailure::Connection));
    let fallback = "c.example".to_owned();
    pulls.bind(
        1,
        Side::Primary,
        Sides {
            fallback,
            ..registries()
        },
        at(4),
    );
    assert!(raised(&pulls, 4), "what was seen of the other registry stays");
}

#[test]
fn numbers_in_status_change_seldom() {
    let mut pulls = reported(&three(PullFailure::Connection));
    let mut news = 0;
    for second in 4..64 {
        let pod = format!("q{second}");
        pulls.report(&[failed(&pod, "n3", Side::Primary, PullFailure::Dns)], at(second));
        news += usize::from(pulls.refresh(false, at(second)));
    }
    assert!(news <= 4, "{news} changes within a minute");
    let shown = pulls.shown().unwrap().1;
    assert_eq!((shown.pods, shown.nodes), (10, 3));
    let rest = pulls.wake_at(at(64)).unwrap();
    pulls.refresh(false, rest);
    for second in 95..160 {
        assert!(!pulls.refresh(false, at(second)), "nothing happens at {second}");
    }
}

#[test]
fn memory_is_bounded_whatever_is_reported() {
    let mut pulls = bound();
    for node in 0..200 {
        for pod in 0..40 {
            let (pod, node) = (format!("p{node}-{pod}"), format!("n{node}"));
            pulls.report(&[failed(&pod, &node, Side::Primary, PullFailure::NotFound)], at(1));
        }
    }
    assert_eq!(pulls.failing_pods(), 64 * 16);
    assert_eq!(pulls.sides.primary.left_out(), 200 * 40 - 64 * 16);
    let long = "x".repeat(300);
    pulls.report(&[failed(&long, "n1", Side::Fallback, PullFailure::Dns)], at(1));
    pulls.report(&[failed("p", &long, Side::Fallback, PullFailure::Dns)], at(1));
    pulls.report(&[failed("p", "", Side::Fallback, PullFailure::Dns)], at(1));
    assert_eq!(pulls.sides.fallback.failing(), 0, "no node has such a name");
    // Pods without an image hide no outage.
    for (_, pod, node, failure) in three(PullFailure::Connection) {
        pulls.report(&[failed(pod, node, Side::Primary, failure)], at(2));
    }
    pulls.refresh(false, at(2));
    assert!(raised(&pulls, 2));
    assert!(pulls.failing_pods() <= 64 * 16);
}

#[test]
fn pod_that_is_not_heard_of_is_forgotten() {
    let mut pulls = reported(&three(PullFailure::NotFound));
    let wake = pulls.wake_at(at(60)).unwrap();
    assert!(wake > at(15 * 60) && wake < at(16 * 60));
    pulls.refresh(false, at(16 * 60));
    assert_eq!((pulls.failing_pods(), pulls.wake_at(at(16 * 60))), (0, None));
}

#[test]
fn outcome_of_a_flip_is_reported_once() {
    let mut pulls = bound();
    pulls.bind(2, Side::Fallback, registries(), at(10));
    for pod in ["p1", "p2"] {
        pulls.report(&[failed(pod, "n1", Side::Fallback, PullFailure::Unauthorized)], at(15));
    }
    pulls.report(&[failed("p3", "n1", Side::Fallback, PullFailure::NotFound)], at(15));
    assert_eq!(pulls.outcome(at(20)), None, "pods have not had the time to start");
    let told = pulls.outcome(at(40)).unwrap();
    assert_eq!(
        told,
        "pods are sent to b.example since the flip, and 3 pods can't pull from there: unauthorized (2), not found (1)"
    );
    assert_eq!(pulls.outcome(at(41)), None);
    // Nothing is said of a leader's first epoch.
    let mut pulls = reported(&three(PullFailure::NotFound));
    assert_eq!(pulls.outcome(at(60)), None);
}

#[test]
fn large_numbers_are_rounded_down() {
    let cases = [
        (0, 0),
        (3, 3),
        (9, 5),
        (10, 10),
        (19, 10),
        (20, 20),
        (99, 50),
        (1024, 1000),
    ];
    for (number, rounded) in cases {
        assert_eq!(reported::rounded(number), rounded, "{number}");
    }
}

#[test]
fn latest_attempts_of_a_full_node_are_known() {
    let mut pulls = bound();
    for second in 0..100 {
        let (pod, node) = (format!("p{second}"), format!("n{}", second % 2));
        pulls.report(&[failed(&pod, &node, Side::Primary, PullFailure::Dns)], at(second));
        pulls.refresh(false, at(second));
    }
    let outage = pulls.outages(at(99)).primary.unwrap();
    assert_eq!((outage.pivot, outage.is_new), (at(98), true));
    assert_eq!(pulls.failing_pods(), 32);
}
