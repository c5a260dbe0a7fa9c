//! Every condition and reason, reached from probes and looks at tags through the real decision.

use std::collections::BTreeSet;
use std::time::Duration;

use catamaran_api::conditions::{self, reason};
use catamaran_api::mirror::RegistryMirror;
use catamaran_api::policy::policy;
use catamaran_core::digest::Digest;
use catamaran_core::failover::{CompletedPass, Input, decide};
use catamaran_core::health::{Outcome, Probe, ProbeHistory, Unavailable};
use catamaran_core::parity::{Ledger, Observed};
use catamaran_core::policy::{MirrorId, MirrorPolicy};
use catamaran_core::pull_through::placement;
use catamaran_core::routes::Conflict;
use catamaran_core::side::{Side, Sides};
use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::assess::standing;
use crate::connections::Problem;
use crate::memory::{PassResult, Unreadable};
use crate::pull_through::Rule;
use crate::scanner::rules;

/// A mirror and all that a process knows of it, on a clock of its own.
struct World {
    mirror: RegistryMirror,
    now: Timestamp,
    probes: Sides<ProbeHistory>,
    ledger: Ledger,
    pass: Option<PassResult>,
    connection: Sides<Option<Problem>>,
    asked: Sides<bool>,
    outdated: Sides<bool>,
    repair: Option<crate::repair::Progress>,
    overlaps: Vec<Conflict>,
    rule: Option<Rule>,
}

fn mirror(extra: serde_json::Value) -> RegistryMirror {
    let mut spec = json!({
        "primary": {"registry": "kracr.azurecr.io"},
        "fallback": {"registry": "ghcr.io", "prefix": "devopskev"},
        "repositories": [{"name": "web"}],
    });
    if let (Some(spec), serde_json::Value::Object(extra)) = (spec.as_object_mut(), extra) {
        spec.extend(extra);
    }
    let object = json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
        "metadata": {"name": "apps", "uid": "u1", "generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

impl World {
    fn new() -> World {
        World::with(json!({}))
    }

    fn with(extra: serde_json::Value) -> World {
        World {
            mirror: mirror(extra),
            now: "2026-11-01T12:00:00Z".parse().unwrap(),
            probes: Sides::default(),
            ledger: Ledger::new(),
            pass: None,
            connection: Sides::default(),
            asked: Sides::default(),
            outdated: Sides::default(),
            repair: None,
            overlaps: Vec::new(),
            rule: None,
        }
    }

    fn wait(&mut self, seconds: u64) -> &mut World {
        self.now = self.now.checked_add(Duration::from_secs(seconds)).unwrap();
        self
    }

    /// Probes both sides so often, two seconds apart, and reports after each.
    fn probe(&mut self, times: usize, primary: Outcome, fallback: Outcome) -> &mut World {
        for _ in 0..times {
            self.wait(2);
            let policy = policy(&self.mirror).unwrap();
            for (side, outcome) in [(Side::Primary, primary), (Side::Fallback, fallback)] {
                let message = format!("GET https://{}/v2/: as the test says", policy.sides[side].registry);
                self.probes[side].record(
                    Probe {
                        at: self.now,
                        outcome,
                        message,
                    },
                    &policy.health,
                );
            }
            self.report();
        }
        self
    }

    /// One look at a tag of the repository, twice and beyond the grace period.
    fn look(&mut self, tag: &str, primary: &Observed, fallback: &Observed) -> &mut World {
        let policy = policy(&self.mirror).unwrap();
        for _ in 0..2 {
            self.wait(180);
            let seen = Sides {
                primary: primary.clone(),
                fallback: fallback.clone(),
            };
            self.ledger.record("web", tag, seen, self.now, &rules(&policy));
        }
        self
    }

    fn end_pass(&mut self, unreadable: Sides<Option<Unreadable>>) -> &mut World {
        let completed = CompletedPass {
            begun: self.now,
            in_use_in_sync: true,
            detail: "all there".to_owned(),
        };
        self.pass = Some(PassResult {
            begun: self.now,
            ended: self.now,
            completed: unreadable.primary.is_none().then_some(completed),
            unreadable,
            summary: self.ledger.summary(),
            pods_on_fallback: 2,
        });
        self
    }

    fn outlook(&self) -> Outlook {
        let policy = match policy(&self.mirror) {
            Ok(policy) => std::sync::Arc::new(policy),
            Err(error) => return Outlook::Invalid(error),
        };
        if policy.suspended {
            return Outlook::Suspended;
        }
        let standing = standing(&self.mirror.status.clone().unwrap_or_default());
        let pass = self.pass.as_ref().and_then(|pass| pass.completed.clone());
        let input = Input {
            policy: &policy,
            probes: self.probes.as_ref(),
            standing: &standing,
            pass,
        };
        let decision = decide(&input, self.now);
        Outlook::Watched(Box::new(Observation {
            availability: Sides::from_fn(|side| self.probes[side].availability(&policy.health)),
            probes: Sides::from_fn(|side| self.probes[side].latest().cloned()),
            connection: self.connection.clone(),
            asked: self.asked,
            outdated: self.outdated,
            pass: self.pass.clone(),
            divergences: self.ledger.divergences(20),
            canary: self.ledger.canary(),
            overlaps: self.overlaps.clone(),
            rescued: 0,
            repair: self.repair.clone(),
            rule: self.rule.clone(),
            last_flip: standing.last_flip.clone(),
            decision,
            policy,
        }))
    }

    /// Reports, and keeps the status as the API server would.
    fn report(&mut self) -> Report {
        let report = report(&self.mirror, &self.outlook(), self.now);
        self.mirror.status = Some(report.status.clone());
        report
    }

    fn says(&mut self, kind: &str) -> (String, String) {
        let report = self.report();
        let condition = conditions::find_condition(&report.status.conditions, kind);
        condition.map_or_else(Default::default, |found| (found.status.clone(), found.reason.clone()))
    }

    #[track_caller]
    fn expect(&mut self, kind: &str, status: &str, reason: &str) -> &mut World {
        assert_eq!(self.says(kind), (status.to_owned(), reason.to_owned()), "{kind}");
        self
    }
}

const UP: Outcome = Outcome::Reachable;
const DOWN: Outcome = Outcome::Unavailable(Unavailable::ConnectionFailed);

fn digest(content: &str) -> Observed {
    Observed::Present(Digest::of(content.as_bytes()))
}

#[test]
fn a_new_mirror_is_being_observed_and_not_ready() {
    World::new()
        .expect(conditions::READY, "False", reason::NOT_YET_OBSERVED)
        .expect(conditions::RECONCILING, "True", reason::OBSERVING)
        .expect(conditions::PRIMARY_AVAILABLE, "Unknown", reason::NOT_YET_OBSERVED)
        .expect(conditions::IN_SYNC, "Unknown", reason::VERIFYING)
        .expect(conditions::FAILED_OVER, "False", reason::NEVER_FAILED_OVER);
}

#[test]
fn an_observed_mirror_in_sync_serves_from_its_primary() {
    let mut world = World::new();
    world
        .look("1", &digest("a"), &digest("a"))
        .end_pass(Sides::default())
        .probe(3, UP, UP);
    world
        .expect(conditions::READY, "True", reason::SERVING_FROM_PRIMARY)
        .expect(conditions::PRIMARY_AVAILABLE, "True", reason::REACHABLE)
        .expect(conditions::FALLBACK_AVAILABLE, "True", reason::REACHABLE)
        .expect(conditions::IN_SYNC, "True", reason::TAGS_MATCH)
        .expect(conditions::RECONCILING, "", "");
    let status = world.mirror.status.unwrap();
    assert_eq!(
        (status.observed_generation, status.active, status.epoch),
        (3, Some(Side::Primary), 1)
    );
    assert!(
        status
            .conditions
            .iter()
            .all(|condition| condition.observed_generation == Some(3))
    );
}

#[test]
fn each_way_a_registry_fails_has_its_reason() {
    let cases = [
        (Unavailable::ConnectionFailed, reason::CONNECTION_FAILED),
        (Unavailable::DnsFailure, reason::DNS_FAILURE),
        (Unavailable::TlsError, reason::TLS_ERROR),
        (Unavailable::Timeout, reason::TIMEOUT),
        (Unavailable::ServerError, reason::SERVER_ERROR),
    ];
    for (how, expected) in cases {
        World::new()
            .probe(3, Outcome::Unavailable(how), UP)
            .expect(conditions::PRIMARY_AVAILABLE, "False", expected);
        World::new()
            .probe(3, UP, Outcome::Unavailable(how))
            .expect(conditions::FALLBACK_AVAILABLE, "False", expected);
    }
}

#[test]
fn what_is_no_outage_is_unknown_and_does_not_flip() {
    let cases = [
        (Outcome::Unauthorized, reason::UNAUTHORIZED),
        (Outcome::Forbidden, reason::FORBIDDEN),
        (Outcome::NetworkDenied, reason::NETWORK_DENIED),
        (Outcome::Throttled { retry_after: None }, reason::RATE_LIMITED),
        (Outcome::CanaryNotFound, reason::CANARY_NOT_FOUND),
        (Outcome::CredentialsUnavailable, reason::CREDENTIALS_UNAVAILABLE),
        (Outcome::WaitingForAuthorization, reason::WAITING_FOR_AUTHORIZATION),
    ];
    for (outcome, expected) in cases {
        let mut world = World::new();
        world
            .probe(3, UP, UP)
            .probe(30, outcome, UP)
            .expect(conditions::PRIMARY_AVAILABLE, "Unknown", expected);
        assert_eq!(world.mirror.status.unwrap().active, Some(Side::Primary), "{outcome:?}");
    }
}

#[test]
fn a_dead_primary_is_left_and_announced_once() {
    let mut world = World::new();
    world.probe(3, UP, UP).probe(2, DOWN, UP);
    world.wait(2);
    let policy = policy(&world.mirror).unwrap();
    for (side, outcome) in [(Side::Primary, DOWN), (Side::Fallback, UP)] {
        world.probes[side].record(
            Probe {
                at: world.now,
                outcome,
                message: "m".to_owned(),
            },
            &policy.health,
        );
    }
    let flipping = world.report();
    let said: Vec<&str> = flipping
        .announcements
        .iter()
        .map(|announcement| announcement.event.reason)
        .collect();
    assert_eq!(said, [events::FAILED_OVER.reason, events::SIDE_UNAVAILABLE.reason]);
    assert_eq!(
        (flipping.status.active, flipping.status.epoch),
        (Some(Side::Fallback), 2)
    );
    assert!(world.report().announcements.is_empty());
    world
        .expect(conditions::READY, "True", reason::SERVING_FROM_FALLBACK)
        .expect(conditions::FAILED_OVER, "True", reason::PRIMARY_UNAVAILABLE)
        .expect(conditions::STALLED, "", "");
}

#[test]
fn a_long_outage_is_written_down_once() {
    let mut world = World::new();
    world
        .look("1", &digest("a"), &digest("a"))
        .end_pass(Sides::default())
        .probe(3, UP, UP)
        .probe(5, DOWN, UP);
    for _ in 0..100 {
        world.wait(2);
        let policy = policy(&world.mirror).unwrap();
        for (side, outcome) in [(Side::Primary, DOWN), (Side::Fallback, UP)] {
            let message = format!("GET https://{}/v2/: as the test says", policy.sides[side].registry);
            world.probes[side].record(
                Probe {
                    at: world.now,
                    outcome,
                    message,
                },
                &policy.health,
            );
        }
        assert!(!world.report().changed, "written again without news at {}", world.now);
    }
}

#[test]
fn failback_says_what_it_waits_for_and_happens() {
    let mut world = World::with(json!({"failback": {"stableSeconds": 60}}));
    world.probe(3, UP, UP).probe(4, DOWN, UP).probe(3, UP, UP);
    let waiting = world
        .report()
        .status
        .conditions
        .iter()
        .find(|found| found.type_ == "Ready")
        .unwrap()
        .message
        .clone();
    assert!(waiting.contains("must do so without a break until"), "{waiting}");
    world
        .probe(30, UP, UP)
        .expect(conditions::READY, "True", reason::SERVING_FROM_FALLBACK);
    world.end_pass(Sides::default()).probe(1, UP, UP);
    world
        .expect(conditions::FAILED_OVER, "False", reason::PRIMARY_RECOVERED)
        .expect(conditions::READY, "True", reason::SERVING_FROM_PRIMARY);
    assert_eq!(world.mirror.status.unwrap().epoch, 3);
}

#[test]
fn both_down_is_not_ready_and_stays() {
    World::new()
        .probe(3, UP, UP)
        .probe(5, DOWN, DOWN)
        .expect(conditions::READY, "False", reason::BOTH_UNAVAILABLE)
        .expect(conditions::FAILED_OVER, "False", reason::NEVER_FAILED_OVER)
        .expect(conditions::STALLED, "", "");
}

#[test]
fn a_dead_primary_with_a_fallback_that_refuses_us_is_not_ready() {
    World::new()
        .probe(3, UP, UP)
        .probe(5, DOWN, Outcome::Unauthorized)
        .expect(conditions::READY, "False", reason::ACTIVE_UNAVAILABLE);
}

#[test]
fn a_dying_fallback_flips_back_with_its_own_reason() {
    let mut world = World::new();
    world
        .probe(3, UP, UP)
        .probe(4, DOWN, UP)
        .probe(1, UP, UP)
        .probe(4, UP, DOWN);
    world.expect(conditions::FAILED_OVER, "False", reason::FALLBACK_UNAVAILABLE);
}

#[test]
fn a_hand_on_the_tiller_is_obeyed_and_told() {
    let mut world = World::with(json!({"active": "Fallback"}));
    world.probe(3, UP, UP);
    world.expect(conditions::FAILED_OVER, "True", reason::REQUESTED).expect(
        conditions::READY,
        "True",
        reason::SERVING_FROM_FALLBACK,
    );
}

#[test]
fn differing_tags_are_counted_and_named() {
    let mut world = World::new();
    world
        .look("1", &digest("a"), &digest("a"))
        .look("2", &digest("b"), &Observed::Absent)
        .look("3", &digest("c"), &digest("d"));
    world
        .look("4", &Observed::Absent, &digest("e"))
        .end_pass(Sides::default())
        .probe(3, UP, UP);
    world.expect(conditions::IN_SYNC, "False", reason::TAGS_DIFFER);
    let status = world.mirror.status.unwrap();
    let parity = status.parity.unwrap();
    assert_eq!((parity.tags, parity.in_sync, parity.diverged), (4, 1, 3));
    assert_eq!(
        (parity.missing_on_fallback, parity.mismatched, parity.missing_on_primary),
        (1, 1, 1)
    );
    assert_eq!(status.divergences.len(), 3);
    let message = &conditions::find_condition(&status.conditions, "InSync")
        .unwrap()
        .message;
    assert!(message.starts_with("3 of 4 tags differ: "), "{message}");
}

#[test]
fn a_side_that_can_not_be_read_makes_parity_unknown() {
    let unreadable = |throttled| {
        Some(Unreadable {
            throttled,
            message: "GET tags: why".to_owned(),
        })
    };
    let cases = [
        (
            Sides {
                primary: unreadable(false),
                fallback: None,
            },
            reason::PRIMARY_UNREACHABLE,
        ),
        (
            Sides {
                primary: None,
                fallback: unreadable(false),
            },
            reason::FALLBACK_UNREACHABLE,
        ),
        (
            Sides {
                primary: None,
                fallback: unreadable(true),
            },
            reason::RATE_LIMITED,
        ),
    ];
    for (sides, expected) in cases {
        let mut world = World::new();
        world
            .end_pass(sides)
            .probe(3, UP, UP)
            .expect(conditions::IN_SYNC, "Unknown", expected);
    }
}

#[test]
fn a_missing_secret_stalls_with_what_to_do() {
    let mut world = World::new();
    let problem = |reason, message: &str| {
        Some(Problem {
            reason,
            message: message.to_owned(),
        })
    };
    let missing = "secret 'pull' was not found in namespace 'catamaran-system'; create it";
    world.connection.fallback = problem(reason::SECRET_NOT_FOUND, missing);
    world
        .probe(3, UP, Outcome::CredentialsUnavailable)
        .expect(conditions::STALLED, "True", reason::SECRET_NOT_FOUND);
    world.expect(
        conditions::FALLBACK_AVAILABLE,
        "Unknown",
        reason::CREDENTIALS_UNAVAILABLE,
    );
    world.connection.fallback = problem(reason::SECRET_INVALID, "secret 'pull': it is of type 'Opaque'");
    world.expect(conditions::STALLED, "True", reason::SECRET_INVALID);
    let fine_grained = "secret 'pull': a fine-grained personal access token can't read packages";
    world.connection.fallback = problem(reason::UNSUPPORTED_CREDENTIALS, fine_grained);
    world.expect(conditions::STALLED, "True", reason::UNSUPPORTED_CREDENTIALS);
    world.connection.fallback = None;
    world.probe(3, UP, UP).expect(conditions::STALLED, "", "");
}

#[test]
fn what_was_found_out_with_an_earlier_spec_is_no_verdict_on_a_changed_one() {
    let mut world = World::new();
    world
        .look("1", &digest("a"), &digest("a"))
        .end_pass(Sides::default())
        .probe(3, UP, UP)
        .expect(conditions::RECONCILING, "", "");
    world.outdated.fallback = true;
    world.expect(conditions::RECONCILING, "True", reason::OBSERVING);
    // Pods get their images meanwhile.
    world.expect(conditions::READY, "True", reason::SERVING_FROM_PRIMARY);
    world.outdated.fallback = false;
    world.expect(conditions::RECONCILING, "", "");
}

#[test]
fn an_identity_that_gives_no_token_has_been_looked_at_and_a_secret_that_was_not_read_has_not() {
    for (asked, ready) in [(false, reason::NOT_YET_OBSERVED), (true, reason::SERVING_FROM_PRIMARY)] {
        let mut world = World::new();
        world.asked.fallback = asked;
        world.probe(3, UP, Outcome::CredentialsUnavailable);
        assert_eq!(world.says(conditions::READY).1, ready);
        world.expect(
            conditions::FALLBACK_AVAILABLE,
            "Unknown",
            reason::CREDENTIALS_UNAVAILABLE,
        );
    }
}

#[test]
fn an_invalid_spec_stalls_and_names_the_field() {
    let mut world = World::with(json!({"fallback": {"registry": "kracr.azurecr.io"}}));
    world.expect(conditions::STALLED, "True", reason::INVALID_SPEC).expect(
        conditions::READY,
        "False",
        reason::INVALID_SPEC,
    );
}

#[test]
fn a_suspended_mirror_says_so() {
    World::with(json!({"suspend": true}))
        .expect(conditions::READY, "True", reason::SUSPENDED)
        .expect(conditions::IN_SYNC, "Unknown", reason::SUSPENDED);
}

fn overlap(world: &World) -> Conflict {
    Conflict {
        loser: policy(&world.mirror).unwrap().id,
        winner: MirrorId {
            name: "older".into(),
            uid: "u0".into(),
        },
        what: "kracr.azurecr.io/web".to_owned(),
    }
}

#[test]
fn an_overlap_stalls_the_loser() {
    let mut world = World::new();
    world.end_pass(Sides::default()).probe(3, UP, UP);
    world.overlaps = vec![overlap(&world)];
    let status = world.report().status;
    let stalled = conditions::find_condition(&status.conditions, conditions::STALLED).unwrap();
    assert_eq!(stalled.reason, reason::OVERLAPPING);
    assert!(stalled.message.contains("'older'"), "{}", stalled.message);
}

#[test]
fn the_copying_of_tags_is_told_while_it_is_not_off_and_written_only_when_it_changes() {
    let mut world = World::with(json!({"repair": {"missingTags": "Copy"}}));
    world.probe(3, UP, UP);
    assert_eq!(world.report().status.repair, None, "nothing was tried yet");
    world.repair = Some(crate::repair::Progress {
        begun: Some(world.now),
        copied: 3,
        failed: 1,
        pending: 2,
        failure: Some("web:1.0 to Fallback: locked".to_owned()),
        ..crate::repair::Progress::default()
    });
    let first = world.report();
    assert!(first.changed);
    let told = first.status.repair.unwrap();
    assert_eq!((told.copied, told.failed, told.pending), (3, 1, 2));
    assert!(told.message.contains("web:1.0 to Fallback: locked"), "{}", told.message);
    assert!(!world.report().changed);
    world.mirror.spec.repair.missing_tags = catamaran_api::mirror::MissingTags::Off;
    assert_eq!(world.report().status.repair, None);
}

/// What a world says, in each of its conditions.
type Said = (String, String, String);

fn all_that_is_said(worlds: &mut [World]) -> BTreeSet<Said> {
    let statuses = worlds.iter_mut().map(|world| world.report().status);
    let conditions = statuses.flat_map(|status| status.conditions);
    conditions.map(|said| (said.type_, said.status, said.reason)).collect()
}

/// The vocabulary that is documented and what mirrors say is the same: a word without a way to it is as wrong as one that
/// nobody wrote down.
#[test]
fn every_word_of_the_conditions_is_reached_and_every_word_that_is_reached_is_documented() {
    let documented: BTreeSet<Said> = conditions::VOCABULARY
        .iter()
        .flat_map(|(kind, status, reasons)| {
            let said = |reason: &&str| ((*kind).to_owned(), status.as_str().to_owned(), (*reason).to_owned());
            reasons.iter().map(said)
        })
        .collect();
    let mut worlds = vec![World::new(), World::with(json!({"suspend": true}))];
    worlds.extend(worlds_of_probes());
    worlds.extend(worlds_of_tags());
    worlds.extend(worlds_that_flip());
    worlds.extend(worlds_that_stall());
    worlds.extend(worlds_with_a_cache());
    let reached = all_that_is_said(&mut worlds);
    let unreached: Vec<&Said> = documented.difference(&reached).collect();
    assert!(unreached.is_empty(), "no case reaches {unreached:?}");
    let unwritten: Vec<&Said> = reached.difference(&documented).collect();
    assert!(unwritten.is_empty(), "conditions::VOCABULARY lacks {unwritten:?}");
}

/// Every outcome of a probe, on either side.
fn worlds_of_probes() -> Vec<World> {
    let down = [
        Unavailable::ConnectionFailed,
        Unavailable::DnsFailure,
        Unavailable::TlsError,
        Unavailable::Timeout,
        Unavailable::ServerError,
    ];
    let unclear = [
        Outcome::Unauthorized,
        Outcome::Forbidden,
        Outcome::NetworkDenied,
        Outcome::Throttled { retry_after: None },
        Outcome::CanaryNotFound,
        Outcome::CredentialsUnavailable,
        Outcome::WaitingForAuthorization,
    ];
    let mut worlds = Vec::new();
    for outcome in down.into_iter().map(Outcome::Unavailable).chain(unclear) {
        for (primary, fallback) in [(outcome, UP), (UP, outcome)] {
            let mut world = World::new();
            world.probe(3, primary, fallback);
            worlds.push(world);
        }
    }
    for (primary, fallback) in [(Outcome::Forbidden, UP), (UP, Outcome::Forbidden)] {
        let mut world = World::with(json!({"healthCheck": {"triggers": ["Forbidden"]}}));
        world.probe(3, primary, fallback);
        worlds.push(world);
    }
    worlds
}

fn worlds_of_tags() -> Vec<World> {
    let unreadable = |throttled| {
        Some(Unreadable {
            throttled,
            message: "GET tags: why".to_owned(),
        })
    };
    let tags = [
        (digest("a"), Sides::default()),
        (Observed::Absent, Sides::default()),
        (
            digest("a"),
            Sides {
                primary: unreadable(false),
                fallback: None,
            },
        ),
        (
            digest("a"),
            Sides {
                primary: None,
                fallback: unreadable(false),
            },
        ),
        (
            digest("a"),
            Sides {
                primary: None,
                fallback: unreadable(true),
            },
        ),
    ];
    let world = |(on_fallback, unreadable)| {
        let mut world = World::new();
        world
            .look("1", &digest("a"), &on_fallback)
            .end_pass(unreadable)
            .probe(3, UP, UP);
        world
    };
    tags.into_iter().map(world).collect()
}

fn worlds_that_flip() -> Vec<World> {
    let (mut failed_over, mut failed_back, mut fell_back) = (World::new(), World::new(), World::new());
    let mut asked_for = World::with(json!({"active": "Fallback"}));
    let mut asked_back = World::with(json!({"active": "Fallback"}));
    let (mut both_down, mut stuck) = (World::new(), World::new());
    failed_over.probe(3, UP, UP).probe(4, DOWN, UP);
    failed_back.probe(3, UP, UP).probe(4, DOWN, UP).probe(200, UP, UP);
    failed_back.end_pass(Sides::default()).probe(1, UP, UP);
    fell_back
        .probe(3, UP, UP)
        .probe(4, DOWN, UP)
        .probe(1, UP, UP)
        .probe(4, UP, DOWN);
    asked_for.probe(3, UP, UP);
    asked_back.probe(3, UP, UP);
    asked_back.mirror.spec.active = catamaran_api::mirror::ActiveSide::Primary;
    asked_back.probe(1, UP, UP);
    both_down.probe(3, UP, UP).probe(5, DOWN, DOWN);
    stuck.probe(3, UP, UP).probe(5, DOWN, Outcome::Unauthorized);
    vec![
        failed_over,
        failed_back,
        fell_back,
        asked_for,
        asked_back,
        both_down,
        stuck,
    ]
}

fn worlds_that_stall() -> Vec<World> {
    let secrets = [
        reason::SECRET_NOT_FOUND,
        reason::SECRET_INVALID,
        reason::UNSUPPORTED_CREDENTIALS,
    ];
    let with_problem = |reason| {
        let mut world = World::new();
        world.connection.primary = Some(Problem {
            reason,
            message: "secret 'pull': why".to_owned(),
        });
        world.probe(3, Outcome::CredentialsUnavailable, UP);
        world
    };
    let mut worlds: Vec<World> = secrets.into_iter().map(with_problem).collect();
    let mut overlapping = World::new();
    overlapping.overlaps = vec![overlap(&overlapping)];
    worlds.push(overlapping);
    worlds.push(World::with(json!({"fallback": {"registry": "kracr.azurecr.io"}})));
    worlds
}

/// A cache in every place that it can have beside its rule.
fn worlds_with_a_cache() -> Vec<World> {
    let with = |prefix: &str, rule: fn(&MirrorPolicy) -> Rule| {
        let mut world = World::with(cached_primary(prefix));
        world.rule = Some(rule(&policy(&world.mirror).unwrap()));
        world
    };
    let unknown = |_: &MirrorPolicy| Rule::Unknown {
        message: "the identity lacks ecr:DescribePullThroughCacheRules".to_owned(),
    };
    vec![
        with("github/devopskev", |policy| rule_read(policy, Some("github"))),
        with("", |policy| rule_read(policy, Some("github"))),
        with("", |policy| rule_read(policy, None)),
        with("", unknown),
    ]
}

/// What was read of the cloud's rule for the primary.
fn rule_read(policy: &MirrorPolicy, found: Option<&str>) -> Rule {
    Rule::Read {
        prefix: found.map(str::to_owned),
        placement: placement(policy, Side::Primary, found),
    }
}

/// A spec whose primary is a pull-through cache at Amazon.
fn cached_primary(prefix: &str) -> serde_json::Value {
    let registry = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";
    json!({
        "primary": {"registry": registry, "prefix": prefix, "provider": "aws", "pullThroughCache": true},
        "repositories": null,
    })
}

#[test]
fn a_cache_that_lies_elsewhere_is_told_with_what_to_set_and_stalls_nothing() {
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
        let mut world = World::with(cached_primary(prefix));
        world.probe(3, UP, UP);
        assert_eq!(world.says(conditions::PULL_THROUGH_RULE).0, "", "nothing was read yet");
        let policy = policy(&world.mirror).unwrap();
        world.rule = Some(rule_read(&policy, found));
        let told = world.report();
        let condition = conditions::find_condition(&told.status.conditions, conditions::PULL_THROUGH_RULE).unwrap();
        assert_eq!((&*condition.status, &*condition.reason), (status, reason), "{prefix}");
        assert!(condition.message.contains(message), "{}", condition.message);
        let announced = told
            .announcements
            .iter()
            .any(|one| one.event == &events::PULL_THROUGH_RULE);
        assert_eq!(announced, status == "False", "{prefix}");
        world
            .expect(conditions::STALLED, "", "")
            .expect(conditions::READY, "True", reason::SERVING_FROM_PRIMARY);
    }
    let mut world = World::with(cached_primary(""));
    world.rule = Some(Rule::Unknown {
        message: "the identity lacks ecr:DescribePullThroughCacheRules".to_owned(),
    });
    world.expect(conditions::PULL_THROUGH_RULE, "Unknown", reason::RULE_UNKNOWN);
    world.mirror.spec.primary.pull_through_cache = false;
    world.expect(conditions::PULL_THROUGH_RULE, "", "");
}
