//! Every condition and reason, reached through a mirror's machine: what it wants done is answered at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use catamaran_api::conditions::{self, reason};
use catamaran_api::mirror::{FlawedPart as ShownPart, RegistryMirror};
use catamaran_api::policy::policy;
use catamaran_core::digest::Digest;
use catamaran_core::endpoint::ClientProblem;
use catamaran_core::endpoint::{Outcome, Unavailable};
use catamaran_core::mirror::parity::Observed;
use catamaran_core::mirror::prewarm::placement;
use catamaran_core::mirror::{CacheRule, CopyFailure, FlawedPart, Part};
use catamaran_core::policy::MirrorId;
use catamaran_core::routing::Conflict;
use catamaran_core::routing::evidence::Flaw;
use catamaran_core::side::{Side, Sides};
use serde_json::{Value, json};

use super::*;

mod copies;
mod flips;
mod proof;
mod pulls;
mod vocabulary;
mod world;

use world::{World, digest};

const UP: Outcome = Outcome::Reachable;
const DOWN: Outcome = Outcome::Unavailable(Unavailable::ConnectionFailed);

/// Long enough for every threshold of probes.
const MINUTES: u64 = 180;

/// Long enough for a difference between tags to be confirmed.
const PASSES: u64 = 1_200;

#[test]
fn new_mirror_is_reconciling_and_not_ready() {
    let mut world = World::silent();
    world
        .run(1)
        .expect(conditions::READY, "False", reason::NOT_YET_OBSERVED)
        .expect(conditions::RECONCILING, "True", reason::OBSERVING)
        .expect(conditions::PRIMARY_AVAILABLE, "Unknown", reason::NOT_YET_OBSERVED)
        .expect(conditions::IN_SYNC, "Unknown", reason::VERIFYING)
        .expect(conditions::FAILED_OVER, "False", reason::NEVER_FAILED_OVER);
}

#[test]
fn observed_mirror_in_sync_serves_from_primary() {
    let mut world = World::new();
    world
        .run(MINUTES)
        .expect(conditions::READY, "True", reason::SERVING_FROM_PRIMARY)
        .expect(conditions::PRIMARY_AVAILABLE, "True", reason::REACHABLE)
        .expect(conditions::FALLBACK_AVAILABLE, "True", reason::REACHABLE)
        .expect(conditions::IN_SYNC, "True", reason::TAGS_MATCH)
        .expect(conditions::RECONCILING, "", "")
        .expect(conditions::EVIDENCE_STORED, "", "")
        .expect(conditions::WORKLOADS_READ, "", "");
    let status = world.status();
    let standing = (status.observed_generation, status.active, status.epoch);
    assert_eq!(standing, (3, Some(Side::Primary), 1));
    let mut generations = status.conditions.iter().map(|condition| condition.observed_generation);
    assert!(generations.all(|generation| generation == Some(3)));
}

#[test]
fn registry_failure_has_reason_of_its_kind() {
    let cases = [
        (Unavailable::ConnectionFailed, reason::CONNECTION_FAILED),
        (Unavailable::DnsFailure, reason::DNS_FAILURE),
        (Unavailable::TlsError, reason::TLS_ERROR),
        (Unavailable::Timeout, reason::TIMEOUT),
        (Unavailable::ServerError, reason::SERVER_ERROR),
    ];
    for (how, expected) in cases {
        World::new().probes(Outcome::Unavailable(how), UP).run(MINUTES).expect(
            conditions::PRIMARY_AVAILABLE,
            "False",
            expected,
        );
        World::new().probes(UP, Outcome::Unavailable(how)).run(MINUTES).expect(
            conditions::FALLBACK_AVAILABLE,
            "False",
            expected,
        );
    }
}

#[test]
fn refusal_that_is_no_outage_is_unknown_and_flips_nothing() {
    let cases = [
        (Outcome::Unauthorized, reason::UNAUTHORIZED),
        (Outcome::Forbidden, reason::FORBIDDEN),
        (Outcome::NetworkDenied, reason::NETWORK_DENIED),
        (Outcome::Throttled { retry_after: None }, reason::RATE_LIMITED),
        (Outcome::CanaryNotFound, reason::CANARY_NOT_FOUND),
        (Outcome::CanaryBlocked, reason::CANARY_BLOCKED),
        (Outcome::UnexpectedAnswer, reason::UNEXPECTED_ANSWER),
        (Outcome::RefusedByOperator, reason::REFUSED_BY_OPERATOR),
        (Outcome::CertificateNotTrusted, reason::CERTIFICATE_NOT_TRUSTED),
        (Outcome::CredentialsUnavailable, reason::CREDENTIALS_UNAVAILABLE),
        (Outcome::WaitingForAuthorization, reason::WAITING_FOR_AUTHORIZATION),
    ];
    for (outcome, expected) in cases {
        let mut world = World::new();
        world
            .run(MINUTES)
            .probes(outcome, UP)
            .run(MINUTES)
            .expect(conditions::PRIMARY_AVAILABLE, "Unknown", expected)
            .expect(conditions::READY, "Unknown", reason::ACTIVE_UNKNOWN)
            .probes(UP, outcome)
            .run(MINUTES)
            .expect(conditions::FALLBACK_AVAILABLE, "Unknown", expected)
            .expect(conditions::READY, "True", reason::SERVING_FROM_PRIMARY);
        assert_eq!(world.status().active, Some(Side::Primary), "{outcome:?}");
    }
}

#[test]
fn ready_is_unknown_after_threshold_of_unclear_probes() {
    let throttled = Outcome::Throttled { retry_after: None };
    let mut world = World::new();
    world.run(MINUTES).probes(throttled, UP).run(5);
    world
        .expect(conditions::PRIMARY_AVAILABLE, "Unknown", reason::RATE_LIMITED)
        .expect(conditions::READY, "True", reason::SERVING_FROM_PRIMARY);
    world
        .run(MINUTES)
        .expect(conditions::READY, "Unknown", reason::ACTIVE_UNKNOWN);
    let message = world.message(conditions::READY);
    assert!(
        message.contains("kracr.azurecr.io") && message.contains("429") && message.ends_with("Pods stay with it"),
        "{message}"
    );
    world
        .probes(UP, UP)
        .run(10 * MINUTES)
        .expect(conditions::READY, "True", reason::SERVING_FROM_PRIMARY);
}

#[test]
fn side_that_replicas_see_differently_names_the_nodes() {
    let mut world = World::new();
    let seen = [("node-b", false), ("node-c", true)];
    world.run(MINUTES).seen_from(Side::Primary, "node-a", &seen);
    world.expect(conditions::PRIMARY_AVAILABLE, "Unknown", reason::PARTIALLY_REACHABLE);
    let message = |world: &World| world.message(conditions::PRIMARY_AVAILABLE);
    assert_eq!(
        message(&world),
        r#"kracr.azurecr.io is reachable from node "node-a", "node-b", not from node "node-c""#
    );
    // The leader's own node is the one that is cut off: nothing flips.
    world.seen_from(Side::Primary, "node-a", &[("node-b", false)]);
    world.probes(DOWN, UP);
    for _ in 0..10 {
        world.run(2).seen_from(Side::Primary, "node-a", &[("node-b", false)]);
    }
    world
        .expect(conditions::PRIMARY_AVAILABLE, "Unknown", reason::PARTIALLY_REACHABLE)
        .expect(conditions::FAILED_OVER, "False", reason::NEVER_FAILED_OVER);
    assert_eq!(
        message(&world),
        r#"kracr.azurecr.io is reachable from node "node-b", not from node "node-a""#
    );
    world.seen_from(Side::Primary, "node-a", &[("node-b", true)]).run(5);
    world.expect(conditions::FAILED_OVER, "True", reason::PRIMARY_UNAVAILABLE);
}

#[test]
fn outage_with_changing_errors_writes_status_few_times() {
    let mut world = World::new();
    world.run(MINUTES).probes(DOWN, UP);
    world.texts = true;
    let before = world.writes;
    world.run(1_800);
    assert!(
        world.writes - before <= 10,
        "{} writes in half an hour",
        world.writes - before
    );
    world.expect(conditions::FAILED_OVER, "True", reason::PRIMARY_UNAVAILABLE);
}

#[test]
fn standing_divergence_and_flip_are_written_once() {
    let mut world = World::with(&json!({"repair": {"missingTags": "DryRun"}}));
    world.now = "2026-11-01T12:00:00.123456789Z".parse().unwrap();
    world
        .tag("2", &digest("b"), &Observed::Absent)
        .tag("3", &digest("c"), &digest("d"))
        .uses("1");
    world.run(PASSES).probes(DOWN, UP).run(MINUTES);
    assert_eq!(world.status().divergences.len(), 2);
    world.expect(conditions::FAILED_OVER, "True", reason::PRIMARY_UNAVAILABLE);
    let (before, events) = (world.writes, world.events.len());
    // Times of passes are written with them, and with nothing else.
    let passes = 1_800 / 300 + 1;
    world.run(1_800);
    assert!(
        world.writes - before <= passes,
        "{} writes in half an hour in which nothing happens",
        world.writes - before
    );
    assert_eq!(world.events.len(), events);
}

#[test]
fn outage_details_are_in_event_and_not_in_condition() {
    let mut world = World::new();
    world.run(MINUTES).probes(DOWN, UP).run(MINUTES);
    let message = world.message(conditions::PRIMARY_AVAILABLE);
    assert_eq!(message, "kracr.azurecr.io is unavailable: the connection fails");
    let event = world.announced(&events::SIDE_UNAVAILABLE);
    assert!(event.contains("GET https://kracr.azurecr.io/v2/: attempt"), "{event}");
}

#[test]
fn both_sides_unavailable_is_not_ready_and_stays() {
    World::new()
        .run(MINUTES)
        .probes(DOWN, DOWN)
        .run(MINUTES)
        .expect(conditions::READY, "False", reason::BOTH_UNAVAILABLE)
        .expect(conditions::FAILED_OVER, "False", reason::NEVER_FAILED_OVER)
        .expect(conditions::STALLED, "", "");
}

#[test]
fn dead_primary_with_refusing_fallback_is_not_ready() {
    World::new()
        .run(MINUTES)
        .probes(DOWN, Outcome::Unauthorized)
        .run(MINUTES)
        .expect(conditions::READY, "False", reason::ACTIVE_UNAVAILABLE);
}

#[test]
fn differing_tags_are_counted_and_named() {
    let mut world = World::new();
    world
        .tag("2", &digest("b"), &Observed::Absent)
        .tag("3", &digest("c"), &digest("d"))
        .tag("4", &Observed::Absent, &digest("e"))
        .run(PASSES);
    world.expect(conditions::IN_SYNC, "False", reason::TAGS_DIFFER);
    let status = world.status();
    let parity = status.parity.unwrap();
    assert_eq!((parity.tags, parity.in_sync, parity.diverged), (4, 1, 3));
    let kinds = (parity.missing_on_fallback, parity.mismatched, parity.missing_on_primary);
    assert_eq!(kinds, (1, 1, 1));
    assert_eq!(status.divergences.len(), 3);
    let message = world.message(conditions::IN_SYNC);
    assert!(message.starts_with("3 of 4 tags differ: "), "{message}");
}

/// A layer that a clean-up took.
fn layer() -> FlawedPart {
    FlawedPart {
        flaw: Flaw::Broken,
        part: Part::Layer,
        digest: Digest::of(b"layer"),
        platform: Some("linux/arm64".to_owned()),
    }
}

#[test]
fn content_that_is_missing_is_counted_and_named_until_it_is_back() {
    let mut world = World::new();
    world.flawed.fallback = Some(layer());
    world.run(PASSES).expect(conditions::IN_SYNC, "False", reason::BROKEN);
    let message = world.message(conditions::IN_SYNC);
    let expected = format!(
        "1 tag can't be pulled from one of the sides: ghcr.io lacks the layer {} of web:1 for linux/arm64",
        Digest::of(b"layer")
    );
    assert_eq!(message, expected);
    let status = world.status();
    let parity = status.parity.unwrap();
    assert_eq!((parity.in_sync, parity.broken, parity.diverged), (1, 1, 0));
    assert_eq!(status.broken.len(), 1);
    let broken = &status.broken[0];
    assert_eq!((broken.side, broken.part), (Side::Fallback, ShownPart::Layer));
    assert_eq!((broken.repository.as_str(), broken.reference.as_str()), ("web", "1"));
    assert!(world.events.iter().any(|event| event.event.reason == "Broken"));
    let writes = world.writes;
    world.run(PASSES);
    assert_eq!(world.writes, writes, "nothing has changed");
    world.flawed.fallback = None;
    world
        .run(PASSES)
        .expect(conditions::IN_SYNC, "True", reason::TAGS_MATCH);
    assert!(world.status().broken.is_empty());
}

/// The manifest of the one tag is served with other bytes.
fn forged() -> FlawedPart {
    FlawedPart {
        flaw: Flaw::Untrusted,
        part: Part::Manifest,
        digest: Digest::of(b"a"),
        platform: None,
    }
}

#[test]
fn content_without_its_digest_is_counted_and_named_until_it_has_it() {
    let mut world = World::new();
    world.flawed.primary = Some(forged());
    world
        .run(PASSES)
        .expect(conditions::IN_SYNC, "False", reason::UNTRUSTED);
    let message = world.message(conditions::IN_SYNC);
    let expected = format!(
        "1 tag can't be trusted on one of the sides: kracr.azurecr.io serves other content as the manifest {} of web:1",
        Digest::of(b"a")
    );
    assert_eq!(message, expected);
    let status = world.status();
    let parity = status.parity.unwrap();
    assert_eq!((parity.in_sync, parity.untrusted, parity.broken), (1, 1, 0));
    assert_eq!((status.untrusted.len(), status.broken.len()), (1, 0));
    let untrusted = &status.untrusted[0];
    assert_eq!((untrusted.side, untrusted.part), (Side::Primary, ShownPart::Manifest));
    assert_eq!(
        (untrusted.repository.as_str(), untrusted.reference.as_str()),
        ("web", "1")
    );
    assert!(world.events.iter().any(|event| event.event.reason == "Untrusted"));
    let writes = world.writes;
    world.run(PASSES);
    assert_eq!(world.writes, writes, "nothing has changed");
    world.flawed.primary = None;
    world
        .run(PASSES)
        .expect(conditions::IN_SYNC, "True", reason::TAGS_MATCH);
    assert!(world.status().untrusted.is_empty());
}

#[test]
fn side_that_cannot_be_read_makes_parity_unknown() {
    let cases = [
        (Side::Primary, false, reason::PRIMARY_UNREACHABLE),
        (Side::Fallback, false, reason::FALLBACK_UNREACHABLE),
        (Side::Fallback, true, reason::RATE_LIMITED),
    ];
    for (side, throttled, expected) in cases {
        World::new()
            .unreadable(side, throttled)
            .run(MINUTES)
            .expect(conditions::IN_SYNC, "Unknown", expected);
    }
}

#[test]
fn missing_secret_stalls_until_it_is_there() {
    let cases = [
        (reason::SECRET_NOT_FOUND, "secret 'pull' was not found; create it"),
        (reason::SECRET_INVALID, "secret 'pull': it is of type 'Opaque'"),
        (
            reason::UNSUPPORTED_CREDENTIALS,
            "secret 'pull': a fine-grained token can't read packages",
        ),
    ];
    let mut world = World::new();
    for (reason, message) in cases {
        world.clients.fallback = Err(Some(problem(reason, message)));
        world
            .probes(UP, Outcome::CredentialsUnavailable)
            .run(MINUTES)
            .expect(conditions::STALLED, "True", reason)
            .expect(
                conditions::FALLBACK_AVAILABLE,
                "Unknown",
                reason::CREDENTIALS_UNAVAILABLE,
            );
        assert_eq!(world.message(conditions::FALLBACK_AVAILABLE), message);
    }
    world.clients.fallback = Ok(());
    world.probes(UP, UP).run(MINUTES).expect(conditions::STALLED, "", "");
}

fn problem(reason: &'static str, message: &str) -> ClientProblem {
    ClientProblem {
        reason,
        message: message.to_owned(),
    }
}

#[test]
fn changed_spec_is_reconciling_until_both_sides_are_probed() {
    let mut world = World::new();
    world.run(MINUTES).expect(conditions::RECONCILING, "", "");
    world.answers.fallback = None;
    world.edit(|spec| spec.health_check.failure_threshold += 1).run(1);
    world.expect(conditions::RECONCILING, "True", reason::OBSERVING);
    // Pods get their images meanwhile.
    world.expect(conditions::READY, "True", reason::SERVING_FROM_PRIMARY);
    world.answers.fallback = Some(UP);
    world.run(MINUTES).expect(conditions::RECONCILING, "", "");
}

#[test]
fn identity_without_token_is_observed_and_unread_secret_is_not() {
    for (client, ready) in [
        (Err(None), reason::NOT_YET_OBSERVED),
        (Ok(()), reason::SERVING_FROM_PRIMARY),
    ] {
        let mut world = World::new();
        world.clients.fallback = client;
        world.probes(UP, Outcome::CredentialsUnavailable).run(MINUTES);
        assert_eq!(world.says(conditions::READY).1, ready);
        let expected = reason::CREDENTIALS_UNAVAILABLE;
        world.expect(conditions::FALLBACK_AVAILABLE, "Unknown", expected);
    }
}

#[test]
fn invalid_spec_stalls_and_names_the_field() {
    let mut world = World::with(&json!({"fallback": {"registry": "kracr.azurecr.io"}}));
    world
        .run(1)
        .expect(conditions::STALLED, "True", reason::INVALID_SPEC)
        .expect(conditions::READY, "False", reason::INVALID_SPEC);
    let message = world.message(conditions::STALLED);
    assert!(
        message.contains("spec.") && message.ends_with("correct the spec"),
        "{message}"
    );
}

#[test]
fn invalid_change_leaves_last_valid_spec_in_force() {
    let mut world = World::new();
    world.run(MINUTES);
    let valid = world.mirror.spec.clone();
    world.edit(|spec| spec.fallback = spec.primary.clone()).run(1);
    world.expect(conditions::STALLED, "True", reason::INVALID_SPEC).expect(
        conditions::READY,
        "True",
        reason::SERVING_FROM_PRIMARY,
    );
    let message = world.message(conditions::STALLED);
    assert!(
        message.contains("The last valid spec (generation 3) stays in force"),
        "{message}"
    );
    world.edit(|spec| *spec = valid).run(MINUTES);
    world.expect(conditions::STALLED, "", "");
}

#[test]
fn suspended_mirror_is_ready_and_unknown() {
    World::with(&json!({"suspend": true}))
        .run(1)
        .expect(conditions::READY, "True", reason::SUSPENDED)
        .expect(conditions::PRIMARY_AVAILABLE, "Unknown", reason::SUSPENDED)
        .expect(conditions::IN_SYNC, "Unknown", reason::SUSPENDED);
}

#[test]
fn overlapping_mirror_stalls_and_names_the_winner() {
    let mut world = World::new();
    world.overlap().run(MINUTES);
    world.expect(conditions::STALLED, "True", reason::OVERLAPPING);
    let message = world.message(conditions::STALLED);
    assert!(message.contains("'older'"), "{message}");
}

#[test]
fn evidence_that_cannot_be_stored_is_a_condition_with_event() {
    let mut world = World::new();
    world.stored = Err("exceeded quota".to_owned());
    world
        .run(MINUTES)
        .expect(conditions::EVIDENCE_STORED, "False", reason::WRITE_FAILED);
    assert!(world.message(conditions::EVIDENCE_STORED).contains("exceeded quota"));
    world.announced(&events::EVIDENCE_NOT_STORED);
    world.stored = Ok(());
    world.tag("2", &digest("b"), &digest("b")).run(PASSES);
    world.expect(conditions::EVIDENCE_STORED, "", "");
}

/// A spec whose primary is a pull-through cache at Amazon.
fn cached_primary(prefix: &str) -> Value {
    let registry = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";
    json!({
        "primary": {"registry": registry, "prefix": prefix, "provider": "aws", "pullThroughCache": true},
        "repositories": null,
    })
}

#[test]
fn cache_elsewhere_is_reported_with_what_to_set() {
    let cases = [
        (
            "github/devopskev",
            Some("github"),
            "True",
            reason::RULE_FITS,
            "below 'github'",
        ),
        (
            "",
            Some("github"),
            "False",
            reason::PREFIX_DIFFERS,
            "set primary.prefix to 'github/devopskev' instead of ''",
        ),
        (
            "github/devopskev",
            None,
            "False",
            reason::NO_RULE,
            "no pull-through cache rule for all of ghcr.io",
        ),
    ];
    for (prefix, found, status, reason, message) in cases {
        let mut world = World::with(&cached_primary(prefix));
        world.rule = Some(Ok(found));
        world
            .run(MINUTES)
            .expect(conditions::PULL_THROUGH_RULE, status, reason)
            .expect(conditions::STALLED, "", "")
            .expect(conditions::READY, "True", reason::SERVING_FROM_PRIMARY);
        let shown = world.message(conditions::PULL_THROUGH_RULE);
        assert!(shown.contains(message), "{shown}");
        let announced = world.events.iter().any(|one| one.event == &events::PULL_THROUGH_RULE);
        assert_eq!(announced, status == "False", "{prefix}");
    }
}

#[test]
fn cache_rule_that_cannot_be_read_is_unknown_until_cache_ends() {
    let mut world = World::with(&cached_primary(""));
    world.run(1).expect(conditions::PULL_THROUGH_RULE, "", "");
    world.rule = Some(Err("the identity lacks ecr:DescribePullThroughCacheRules"));
    world
        .run(4_000)
        .expect(conditions::PULL_THROUGH_RULE, "Unknown", reason::RULE_UNKNOWN);
    world.edit(|spec| spec.primary.pull_through_cache = false).run(MINUTES);
    world.expect(conditions::PULL_THROUGH_RULE, "", "");
}
