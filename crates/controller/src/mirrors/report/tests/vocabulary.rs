//! The vocabulary that is documented and what mirrors report is the same: a word that nothing reaches is as wrong as one that
//! is documented nowhere.

use catamaran_core::mirror::in_use::WorkloadsRead;
use catamaran_core::pod::message::PullFailure;

use super::proof::worlds_with_proofs;
use super::*;

/// Type, status and reason of a condition.
type Said = (String, String, String);

fn all_that_is_said(worlds: &[World]) -> BTreeSet<Said> {
    let conditions = worlds.iter().flat_map(|world| world.status().conditions);
    conditions.map(|said| (said.type_, said.status, said.reason)).collect()
}

#[test]
fn words_of_conditions_are_all_reached_and_documented() {
    let documented: BTreeSet<Said> = conditions::VOCABULARY
        .iter()
        .flat_map(|(kind, status, reasons)| {
            let said = |reason: &&str| ((*kind).to_owned(), status.as_str().to_owned(), (*reason).to_owned());
            reasons.iter().map(said)
        })
        .collect();
    let mut silent = World::silent();
    silent.run(1);
    let mut suspended = World::with(&json!({"suspend": true}));
    suspended.run(1);
    let mut worlds = vec![silent, suspended];
    worlds.extend(worlds_of_probes());
    worlds.extend(worlds_of_tags());
    worlds.extend(worlds_that_flip());
    worlds.extend(worlds_whose_pulls_fail());
    worlds.extend(worlds_that_stall());
    worlds.extend(worlds_of_the_cluster());
    worlds.extend(worlds_with_a_cache());
    worlds.extend(worlds_with_proofs());
    let reached = all_that_is_said(&worlds);
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
        Outcome::CanaryBlocked,
        Outcome::UnexpectedAnswer,
        Outcome::RefusedByOperator,
        Outcome::CertificateNotTrusted,
        Outcome::CredentialsUnavailable,
        Outcome::WaitingForAuthorization,
    ];
    let mut worlds = Vec::new();
    let mut add = |mut world: World, primary, fallback| {
        world.probes(primary, fallback).run(MINUTES);
        worlds.push(world);
    };
    for outcome in down.into_iter().map(Outcome::Unavailable).chain(unclear) {
        add(World::new(), outcome, UP);
        add(World::new(), UP, outcome);
    }
    let triggers = json!({"healthCheck": {"triggers": ["Unauthorized", "Forbidden", "Throttled"]}});
    let throttled = Outcome::Throttled { retry_after: None };
    for refused in [
        Outcome::Unauthorized,
        Outcome::Forbidden,
        Outcome::NetworkDenied,
        throttled,
    ] {
        add(World::with(&triggers), refused, UP);
        add(World::with(&triggers), UP, refused);
    }
    worlds
}

fn worlds_of_tags() -> Vec<World> {
    let mut differs = World::new();
    differs.tag("2", &digest("b"), &Observed::Absent).run(PASSES);
    let mut broken = World::new();
    broken.flawed.fallback = Some(layer());
    broken.run(PASSES);
    let mut untrusted = World::new();
    untrusted.flawed.primary = Some(forged());
    untrusted.run(PASSES);
    let mut worlds = vec![differs, broken, untrusted];
    for (side, throttled) in [(Side::Primary, false), (Side::Fallback, false), (Side::Fallback, true)] {
        let mut world = World::new();
        world.unreadable(side, throttled).run(MINUTES);
        worlds.push(world);
    }
    worlds
}

fn worlds_that_flip() -> Vec<World> {
    let over = || {
        let mut world = World::new();
        world.run(MINUTES).probes(DOWN, UP).run(MINUTES);
        world
    };
    let (failed_over, mut failed_back, mut fell_back) = (over(), over(), over());
    failed_back.probes(UP, UP).run(3_600);
    fell_back.probes(UP, UP).run(40).probes(UP, DOWN).run(MINUTES);
    let asked = || {
        let mut world = World::with(&json!({"active": "Fallback"}));
        world.run(MINUTES);
        world
    };
    let (asked_for, mut asked_back) = (asked(), asked());
    asked_back
        .edit(|spec| spec.active = catamaran_api::mirror::ActiveSideName::Primary)
        .run(1);
    let (mut both_down, mut stuck) = (World::new(), World::new());
    both_down.run(MINUTES).probes(DOWN, DOWN).run(MINUTES);
    stuck.run(MINUTES).probes(DOWN, Outcome::Unauthorized).run(MINUTES);
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

/// With and without a place to go, and back.
fn worlds_whose_pulls_fail() -> Vec<World> {
    let mut worlds = Vec::new();
    for failure in [
        PullFailure::Connection,
        PullFailure::ServerError,
        PullFailure::Tls,
        PullFailure::Dns,
    ] {
        let mut reported = World::with(&json!({"healthCheck": {"onPullsFailing": "Report"}}));
        reported.run(MINUTES).pulls_fail(Side::Primary, failure).run(5);
        worlds.push(reported);
    }
    let over = || {
        let mut world = World::new();
        world
            .run(MINUTES)
            .pulls_fail(Side::Primary, PullFailure::Connection)
            .run(5);
        world
    };
    let (flipped, mut bounced) = (over(), over());
    bounced
        .run(3_600)
        .pulls_fail(Side::Primary, PullFailure::Connection)
        .run(5);
    let mut away = World::new();
    away.run(MINUTES).probes(DOWN, UP).run(MINUTES).probes(UP, UP).run(10);
    away.pulls_fail(Side::Fallback, PullFailure::Dns).run(5);
    worlds.extend(vec![flipped, bounced, away]);
    worlds
}

fn worlds_that_stall() -> Vec<World> {
    let secrets = [
        reason::SECRET_NOT_FOUND,
        reason::SECRET_INVALID,
        reason::UNSUPPORTED_CREDENTIALS,
    ];
    let with_problem = |reason| {
        let mut world = World::new();
        world.clients.primary = Err(Some(problem(reason, "secret 'pull': why")));
        world.probes(Outcome::CredentialsUnavailable, UP).run(MINUTES);
        world
    };
    let mut worlds: Vec<World> = secrets.into_iter().map(with_problem).collect();
    let mut overlapping = World::new();
    overlapping.overlap().run(MINUTES);
    let mut invalid = World::with(&json!({"fallback": {"registry": "kracr.azurecr.io"}}));
    invalid.run(1);
    worlds.extend([overlapping, invalid]);
    worlds
}

/// What the API server refuses.
fn worlds_of_the_cluster() -> Vec<World> {
    let mut worlds = Vec::new();
    for workloads in [WorkloadsRead::Forbidden, WorkloadsRead::Disabled] {
        let mut world = World::new();
        world.in_use.workloads = workloads;
        world.run(MINUTES);
        worlds.push(world);
    }
    for side in Side::ALL {
        let mut parted = World::new();
        parted
            .seen_from(side, "node-a", &[("node-b", false), ("node-c", true)])
            .run(MINUTES);
        worlds.push(parted);
    }
    let mut unstored = World::new();
    unstored.stored = Err("exceeded quota".to_owned());
    unstored.run(MINUTES);
    worlds.push(unstored);
    worlds
}

/// A cache in every place that it can have beside its rule.
fn worlds_with_a_cache() -> Vec<World> {
    let with = |(prefix, rule): (&str, Result<Option<&'static str>, &'static str>)| {
        let mut world = World::with(&cached_primary(prefix));
        world.rule = Some(rule);
        world.run(MINUTES);
        world
    };
    let cases = [
        ("github/devopskev", Ok(Some("github"))),
        ("", Ok(Some("github"))),
        ("", Ok(None)),
        ("", Err("the identity lacks ecr:DescribePullThroughCacheRules")),
    ];
    cases.into_iter().map(with).collect()
}
