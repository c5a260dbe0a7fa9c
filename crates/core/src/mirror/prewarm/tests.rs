use std::sync::Arc;

use crate::digest::Digest;
use crate::mirror::in_use::Use;
use crate::mirror::parity::{Observed, Rules};
use crate::routing::fixtures::{apps, listing};

use super::*;

const RULES: Rules = Rules {
    grace: Duration::ZERO,
    settled: Duration::from_hours(24),
    subset: Some(Side::Fallback),
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + seconds).unwrap()
}

/// A mirror whose fallback is a cache of its primary.
fn cached() -> MirrorPolicy {
    let mut policy = apps();
    policy.sides.fallback.pull_through_cache = true;
    policy
}

/// Tags of `web`, named by what each side has: `-` nothing, anything else a digest of its own. Each is seen three times.
fn seen(tags: &[&str]) -> Ledger {
    let observed = |letter: u8| match letter {
        b'-' => Observed::Absent,
        other => Observed::Present(Digest::of(&[other])),
    };
    let mut ledger = Ledger::new();
    ledger.set_policy(&Arc::new(cached()));
    for (index, tag) in tags.iter().enumerate() {
        for look in 0..3 {
            let letters = tag.as_bytes();
            let seen = Sides {
                primary: observed(letters[0]),
                fallback: observed(letters[1]),
            };
            let seconds = i64::try_from(index).unwrap() + 100 * look;
            ledger.record("web", tag, seen, at(seconds), &RULES);
        }
    }
    ledger
}

fn using(tags: &[&str]) -> InUse {
    let tags = tags.iter().map(|tag| ((*tag).to_owned(), Use::default()));
    InUse {
        references: BTreeMap::from([("web".to_owned(), tags.collect())]),
        ..InUse::default()
    }
}

fn names(pulls: &[Pull]) -> Vec<&str> {
    pulls.iter().map(|pull| pull.tag.as_str()).collect()
}

#[test]
fn tags_in_use_are_held_lacked_or_stale() {
    type Case = (&'static str, &'static [&'static str], (usize, usize, usize));
    let ledger = seen(&["aa", "bb", "a-", "b-", "c-", "-a", "ab", "ba"]);
    let counted = |tags: &[&str]| {
        let holdings = holdings(Side::Fallback, &ledger, &using(tags));
        (holdings.hits, holdings.misses, holdings.stale)
    };
    let cases: [Case; 6] = [
        ("nothing in use", &[], (0, 0, 0)),
        ("held", &["aa", "bb"], (2, 0, 0)),
        ("lacked", &["a-", "b-", "aa"], (1, 2, 0)),
        ("gone at the upstream, still held", &["-a"], (1, 0, 0)),
        ("another digest", &["ab"], (0, 0, 1)),
        ("never read", &["zz"], (0, 0, 0)),
    ];
    for (name, tags, expected) in cases {
        assert_eq!(counted(tags), expected, "{name}");
    }
    // The oldest of all, whether or not a pod uses it.
    let oldest = holdings(Side::Fallback, &ledger, &using(&["ba"])).stale_since;
    assert_eq!(oldest, Some(at(6)));
    assert_eq!(
        holdings(Side::Fallback, &seen(&["aa", "a-"]), &using(&["aa"])).stale_since,
        None
    );
}

#[test]
fn lacked_tags_are_asked_for_first_then_stale_ones() {
    let ledger = seen(&["aa", "a-", "b-", "c-", "-a", "ab"]);
    let in_use = using(&["ab", "aa", "b-", "a-", "-a", "zz"]);
    let due = due(&cached(), &ledger, &in_use, &Tried::default(), at(1000));
    assert_eq!(names(&due), ["a-", "b-", "ab"], "c- is used by no pod");
}

#[test]
fn tags_that_the_mirror_does_not_verify_are_not_asked_for() {
    let ledger = seen(&["a-"]);
    let mut policy = listing(cached(), &[("other", "other", "devopskev/other")]);
    assert!(due(&policy, &ledger, &using(&["a-"]), &Tried::default(), at(0)).is_empty());
    policy.repositories = Repositories::InUse;
    assert_eq!(
        due(&policy, &ledger, &using(&["a-"]), &Tried::default(), at(0)).len(),
        1
    );
}

#[test]
fn tag_is_asked_for_again_only_after_a_pause() {
    let (ledger, in_use) = (seen(&["a-"]), using(&["a-"]));
    let mut tried = Tried::default();
    let asked = |tried: &Tried, seconds| due(&cached(), &ledger, &in_use, tried, at(seconds)).len();
    for pull in due(&cached(), &ledger, &in_use, &tried, at(0)) {
        tried.note(pull, at(0));
    }
    let pause = i64::try_from(PAUSE.as_secs()).unwrap();
    assert_eq!([1, pause - 1, pause].map(|seconds| asked(&tried, seconds)), [0, 0, 1]);
    tried.forget(at(pause - 1));
    assert_eq!(asked(&tried, 1), 0);
    tried.forget(at(pause));
    assert!(tried.0.is_empty(), "what does not matter is not kept");
}

#[test]
fn one_pass_asks_for_so_many_and_the_next_for_the_rest() {
    let tags: Vec<String> = (0..MOST_PULLS + 5).map(|n| format!("a-{n:02}")).collect();
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let (ledger, in_use) = (seen(&tags), using(&tags));
    let mut tried = Tried::default();
    let first = due(&cached(), &ledger, &in_use, &tried, at(0));
    assert_eq!(first.len(), MOST_PULLS);
    for pull in first {
        tried.note(pull, at(0));
    }
    assert_eq!(due(&cached(), &ledger, &in_use, &tried, at(1)).len(), 5);
}

#[test]
fn mirror_fits_the_rule_or_its_place_is_named() {
    type Case = (
        &'static str,
        &'static str,
        &'static str,
        Option<&'static str>,
        &'static str,
    );
    let cases: [Case; 6] = [
        ("a prefix of its own", "github", "", Some("github"), "fits"),
        (
            "below the rule's prefix",
            "github/krateo",
            "krateo",
            Some("github"),
            "fits",
        ),
        ("a rule for the root", "krateo", "krateo", Some(""), "fits"),
        ("nothing stated", "", "krateo", Some("github"), "github/krateo"),
        (
            "another prefix",
            "hub/krateo",
            "krateo",
            Some("github"),
            "github/krateo",
        ),
        ("no rule", "github", "", None, "no rule"),
    ];
    for (name, cache, upstream, rule, expected) in cases {
        let mut policy = cached();
        policy.sides.primary.prefix = upstream.to_owned();
        policy.sides.fallback.prefix = cache.to_owned();
        let found = match placement(&policy, Side::Fallback, rule) {
            Placement::Fits => "fits".to_owned(),
            Placement::NoRule => "no rule".to_owned(),
            Placement::Differs { repository, is, should } => {
                assert_eq!((repository, is.as_str()), (None, cache), "{name}");
                should
            }
        };
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn listed_repositories_are_judged_by_their_own_paths() {
    let good = ("web", "krateo/web", "github/krateo/web");
    let fits = listing(cached(), &[good]);
    assert_eq!(placement(&fits, Side::Fallback, Some("github")), Placement::Fits);
    let differs = listing(cached(), &[good, ("api", "krateo/api", "api")]);
    let expected = Placement::Differs {
        repository: Some("api".to_owned()),
        is: "api".to_owned(),
        should: "github/krateo/api".to_owned(),
    };
    assert_eq!(placement(&differs, Side::Fallback, Some("github")), expected);
}

#[test]
fn docker_hub_goes_by_another_name_in_rules() {
    assert_eq!(upstream_name("docker.io"), "registry-1.docker.io");
    assert_eq!(upstream_name("ghcr.io"), "ghcr.io");
}
