use super::*;
use crate::mirror::fixtures::{at, foreign, ledger_of, used};
use crate::mirror::parity::Rules;
use crate::policy::Provider;
use crate::routing::fixtures::apps;

/// A mirror whose fallback is Amazon's cache of its primary, filled ahead of pods.
fn cached() -> MirrorPolicy {
    let mut policy = apps();
    policy.sides.fallback.provider = Provider::Aws;
    policy.sides.fallback.pull_through_cache = true;
    policy.sides.fallback.prewarm = true;
    policy
}

struct Bench {
    policy: MirrorPolicy,
    ledger: Ledger,
    in_use: InUse,
    care: CacheCare,
    requests: Requests,
}

impl Bench {
    /// These tags are in use, and the cache lacks them.
    fn new(tags: &[&str]) -> Bench {
        let policy = cached();
        let mut ledger = ledger_of(&policy, &[]);
        let rules = Rules {
            subset: Some(Side::Fallback),
            ..crate::mirror::fixtures::RULES
        };
        for tag in tags {
            ledger.record("web", tag, crate::mirror::fixtures::seen("a-"), at(0), &rules);
        }
        Bench {
            ledger,
            in_use: used(tags),
            policy,
            care: CacheCare::default(),
            requests: Requests::default(),
        }
    }

    fn pass(&mut self, both_available: bool, now: i64) -> Vec<Effect> {
        let care = Care {
            policy: &self.policy,
            ledger: &self.ledger,
            in_use: &self.in_use,
            both_available,
        };
        self.care.pass_ended(&care, &mut self.requests, at(now))
    }

    /// The tags that the cache is asked for after a pass.
    fn pulls(&mut self, both_available: bool, now: i64) -> Vec<String> {
        pulls(&self.pass(both_available, now))
    }

    /// Whether a pass has the rule read, with which request.
    fn rule(&mut self, now: i64) -> Option<RequestId> {
        let effects = self.pass(false, now);
        effects.into_iter().find_map(|effect| match effect {
            Effect::ReadRule { request, side } => {
                assert_eq!(side, Side::Fallback);
                Some(request)
            }
            _ => None,
        })
    }
}

fn pulls(effects: &[Effect]) -> Vec<String> {
    let pulls = effects.iter().filter_map(|effect| match effect {
        Effect::Prewarm(pull) => Some(pull.tag.clone()),
        _ => None,
    });
    pulls.collect()
}

fn pull(tag: &str) -> Pull {
    Pull {
        repository: "web".to_owned(),
        tag: tag.to_owned(),
    }
}

fn rule(placement: Placement) -> CacheRule {
    CacheRule::Read {
        prefix: None,
        placement,
    }
}

#[test]
fn rule_is_read_after_a_pass_and_again_in_an_hour_or_sooner() {
    let mut bench = Bench::new(&[]);
    let first = bench.rule(0).unwrap();
    assert_eq!(bench.rule(1), None, "it is being read");
    assert!(bench.care.rule_read(first, rule(Placement::Fits), at(10)));
    assert_eq!(bench.rule(3_609), None);
    let second = bench.rule(3_610).unwrap();
    assert!(
        !bench.care.rule_read(foreign(), rule(Placement::NoRule), at(3_611)),
        "nobody asked"
    );
    assert!(
        !bench.care.rule_read(first, rule(Placement::NoRule), at(3_611)),
        "it comes twice"
    );
    assert!(
        !bench.care.rule_read(second, rule(Placement::Fits), at(3_620)),
        "no news"
    );
    let third = bench.rule(7_220).unwrap();
    assert!(bench.care.rule_read(third, rule(Placement::NoRule), at(7_230)));
    assert_eq!(bench.rule(7_529), None);
    assert!(bench.rule(7_530).is_some(), "what does not fit is looked at again soon");
}

#[test]
fn rule_is_read_only_where_an_identity_can_ask() {
    let mut bench = Bench::new(&[]);
    bench.policy.sides.fallback.credentials_secret = Some("pull".to_owned());
    assert_eq!(bench.rule(0), None);
    bench.policy.sides.fallback.credentials_secret = None;
    bench.policy.sides.fallback.provider = Provider::Generic;
    assert_eq!(bench.rule(0), None);
}

#[test]
fn rule_that_does_not_come_is_asked_for_again() {
    let mut bench = Bench::new(&[]);
    assert!(bench.rule(0).is_some());
    assert_eq!(bench.rule(3_599), None);
    assert!(bench.rule(3_600).is_some());
}

#[test]
fn lacking_tags_are_asked_for_two_at_a_time() {
    let mut bench = Bench::new(&["a", "b", "c"]);
    assert!(bench.pulls(false, 0).is_empty(), "the upstream is away");
    assert_eq!(bench.pulls(true, 0), ["a", "b"]);
    assert!(bench.pulls(true, 1).is_empty(), "they are under way");
    let next = bench.care.prewarmed(&pull("a"), PrewarmOutcome::Pulled, at(2)).unwrap();
    assert_eq!(pulls(&next), ["c"]);
    assert_eq!(
        bench.care.prewarmed(&pull("a"), PrewarmOutcome::Pulled, at(2)),
        None,
        "it comes twice"
    );
}

#[test]
fn failure_that_others_would_meet_leaves_the_rest_for_later() {
    for (outcome, goes_on) in [
        (PrewarmOutcome::Pulled, true),
        (PrewarmOutcome::Absent, true),
        (PrewarmOutcome::Throttled, false),
        (PrewarmOutcome::Failed, false),
    ] {
        let mut bench = Bench::new(&["a", "b", "c"]);
        bench.pulls(true, 0);
        let next = bench.care.prewarmed(&pull("a"), outcome, at(1)).unwrap();
        assert_eq!(!pulls(&next).is_empty(), goes_on, "{outcome:?}");
    }
}

#[test]
fn pull_that_does_not_end_is_given_up() {
    let mut bench = Bench::new(&["a", "b", "c"]);
    bench.pulls(true, 0);
    assert!(bench.pulls(true, 3_599).is_empty());
    assert_eq!(bench.pulls(true, 3_600), ["c"]);
    assert_eq!(
        bench.care.prewarmed(&pull("a"), PrewarmOutcome::Pulled, at(3_601)),
        None
    );
}

#[test]
fn mirror_without_a_cache_asks_for_nothing() {
    let mut bench = Bench::new(&["a"]);
    bench.policy.sides.fallback.pull_through_cache = false;
    assert!(bench.pass(true, 0).is_empty());
    bench.policy.sides.fallback.pull_through_cache = true;
    bench.policy.sides.fallback.prewarm = false;
    assert!(bench.pulls(true, 0).is_empty());
}
