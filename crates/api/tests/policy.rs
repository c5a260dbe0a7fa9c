//! From a spec to a policy: what each field becomes, and what each error says.

// Helpers of a test fail by panicking, as the test does.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use catamaran_api::mirror::{ControllerOwnedPodsName, RegistryMirror, RegistryMirrorSpec, TagRules};
use catamaran_api::policy::{PolicyError, policy};
use catamaran_core::policy::{
    ActiveSide, ControllerOwnedPods, FailbackMode, MirrorPolicy, MismatchedTags, OnMismatch, OnPullsFailing, Provider,
    RepairDirection, RepairMode, RepairPolicy, Repositories, RepositoryRule, RescueMode, RewriteMode, RewritePolicy,
    Trigger, UnverifiedTags,
};
use catamaran_core::side::Side;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

fn spec() -> RegistryMirrorSpec {
    serde_json::from_value(json!({
        "primary": {"registry": "acr.example.com"},
        "fallback": {"registry": "ghcr.io", "prefix": "example-org"},
        "repositories": [
            {"name": "api"},
            {"name": "web", "primary": "teams/web", "fallback": "example-org/site"},
        ],
    }))
    .unwrap()
}

fn mirror(change: impl FnOnce(&mut RegistryMirrorSpec)) -> RegistryMirror {
    let mut spec = spec();
    change(&mut spec);
    let mut mirror = RegistryMirror::new("apps", spec);
    mirror.metadata.uid = Some("0cfb5051".into());
    mirror.metadata.creation_timestamp = Some(Time(Timestamp::from_second(1_700_000_000).unwrap()));
    mirror
}

fn rules(mirror: &RegistryMirror) -> Vec<RepositoryRule> {
    match policy(mirror).unwrap().repositories {
        Repositories::Listed(rules) => rules,
        Repositories::InUse => panic!("the mirror lists its repositories"),
    }
}

#[test]
fn a_default_path_is_prefix_and_name_and_an_explicit_one_is_complete() {
    let rules = rules(&mirror(|_| {}));
    let paths = |index: usize| Side::ALL.map(|side| rules[index].paths[side].clone());
    assert_eq!(
        (rules[0].name.as_str(), paths(0)),
        ("api", ["api".into(), "example-org/api".into()])
    );
    assert_eq!(
        (rules[1].name.as_str(), paths(1)),
        ("web", ["teams/web".into(), "example-org/site".into()])
    );
}

#[test]
fn defaults_become_the_policy_that_the_design_names() {
    let policy = policy(&mirror(|_| {})).unwrap();
    assert_eq!((&*policy.id.name, &*policy.id.uid), ("apps", "0cfb5051"));
    assert_eq!(policy.created.as_second(), 1_700_000_000);
    assert!(!policy.suspended);
    assert!(policy.namespaces.requirements.is_empty(), "every namespace");
    assert_eq!(
        (policy.health.period, policy.health.timeout),
        (Duration::from_secs(2), Duration::from_secs(2))
    );
    assert_eq!(
        (policy.health.failure_threshold, policy.health.success_threshold),
        (3, 3)
    );
    assert_eq!(
        (
            policy.health.triggers,
            policy.health.on_pulls_failing,
            policy.health.canary
        ),
        (vec![Trigger::Unavailable], OnPullsFailing::Failover, None)
    );
    assert_eq!(
        (policy.failover.active, policy.failover.failback),
        (ActiveSide::Auto, FailbackMode::Automatic)
    );
    assert_eq!(policy.failover.stable, Duration::from_mins(5));
    assert_eq!(policy.failover.on_mismatch, OnMismatch::Wait);
    assert_eq!(
        (policy.parity.interval, policy.parity.grace),
        (Duration::from_mins(5), Duration::from_mins(2))
    );
    assert_eq!(policy.parity.settled, Duration::from_hours(24));
    assert_eq!(policy.rewrite.unverified, UnverifiedTags::Rewrite);
    assert_eq!(policy.rewrite.controller_owned, ControllerOwnedPods::Keep);
    assert_eq!(policy.rescue, RescueMode::Patch);
    assert_eq!(policy.repair, RepairPolicy::default());
}

#[test]
fn the_defaults_of_the_definition_are_those_of_the_decisions() {
    let found = policy(&mirror(|_| {})).unwrap();
    let expected = MirrorPolicy::new(found.id.clone(), found.created, found.sides.clone());
    assert_eq!(found.suspended, expected.suspended);
    assert_eq!(found.health, expected.health);
    assert_eq!(found.failover, expected.failover);
    assert_eq!(found.parity, expected.parity);
    assert_eq!(found.rewrite, expected.rewrite);
    assert_eq!(found.rescue, expected.rescue);
    assert_eq!(found.repair, expected.repair);
}

/// A spec without a default in it.
fn opposite() -> RegistryMirrorSpec {
    let spec = json!({
        "suspend": true,
        "primary": {
            "registry": "index.docker.io", "provider": "aws", "pullThroughCache": true, "prewarm": true,
            "secretRef": {"name": "one"}, "certSecretRef": {"name": "two"},
            "tokenHosts": ["auth.example.com", "index.docker.io"],
            "imagePullSecrets": [{"name": "three"}, {"name": "four.five", "mint": true}],
        },
        "fallback": {"registry": "ghcr.io", "prefix": "a/b", "provider": "github"},
        "namespaceSelector": {
            "matchLabels": {"team": "a"},
            "matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}],
        },
        "healthCheck": {
            "triggers": ["Forbidden", "Unauthorized", "Throttled"], "onPullsFailing": "Report", "canary": {"repository": "any/thing", "tag": "v1"},
        },
        "active": "Fallback",
        "failback": {"mode": "Manual", "stableSeconds": 90, "onMismatch": "Proceed"},
        "parity": {"interval": "1m30s", "gracePeriod": "0s", "settledInterval": "1h"},
        "rewrite": {
            "mode": "Audit", "unverifiedTags": "Keep", "mismatchedTags": "WhenUnavailable", "controllerOwnedPods": "Rewrite",
            "ownerKinds": [{"apiGroup": "tekton.dev", "kind": "TaskRun"}],
            "excludeImages": ["*/tools/*"], "excludePods": [{"matchLabels": {"app": "db"}}],
        },
        "rescue": {"mode": "Off"},
        "repair": {
            "missingTags": "Copy", "direction": "ToFallback", "referrers": true, "concurrency": 8, "maxBytesPerSecond": 1_000_000,
        },
    });
    serde_json::from_value(spec).unwrap()
}

#[test]
fn every_choice_of_a_side_reaches_the_policy() {
    let policy = policy(&RegistryMirror::new("apps", opposite())).unwrap();
    let primary = &policy.sides.primary;
    assert_eq!(
        (primary.registry.as_str(), primary.provider),
        ("docker.io", Provider::Aws)
    );
    assert_eq!(
        (primary.credentials_secret.as_deref(), primary.ca_secret.as_deref()),
        (Some("one"), Some("two"))
    );
    assert_eq!(primary.image_pull_secrets, ["three", "four.five"]);
    assert_eq!(primary.minted_pull_secrets, ["four.five"]);
    assert_eq!(primary.token_hosts, ["auth.example.com", "index.docker.io"]);
    assert!(primary.pull_through_cache && primary.prewarm);
    assert_eq!(
        (policy.sides.fallback.prefix.as_str(), policy.sides.fallback.provider),
        ("a/b", Provider::GitHub)
    );
}

#[test]
fn every_choice_of_behaviour_reaches_the_policy() {
    let policy = policy(&RegistryMirror::new("apps", opposite())).unwrap();
    assert!(policy.suspended);
    assert!(matches!(policy.repositories, Repositories::InUse));
    let labels = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect()
    };
    assert!(policy.namespaces.matches(&labels(&[("team", "a")])));
    assert!(!policy.namespaces.matches(&labels(&[("team", "b")])));
    assert!(!policy.namespaces.matches(&labels(&[("team", "a"), ("tier", "x")])));
    assert_eq!(
        policy.health.triggers,
        [
            Trigger::Unavailable,
            Trigger::Forbidden,
            Trigger::Unauthorized,
            Trigger::Throttled
        ]
    );
    assert_eq!(policy.health.on_pulls_failing, OnPullsFailing::Report);
    assert_eq!(policy.health.canary, Some(("any/thing".into(), "v1".into())));
    assert_eq!(
        (policy.failover.active, policy.failover.failback),
        (ActiveSide::Fixed(Side::Fallback), FailbackMode::Manual)
    );
    assert_eq!(
        (policy.failover.stable, policy.parity.interval),
        (Duration::from_secs(90), Duration::from_secs(90))
    );
    assert_eq!(
        (policy.parity.grace, policy.parity.settled),
        (Duration::ZERO, Duration::from_hours(1))
    );
    assert_eq!(policy.failover.on_mismatch, OnMismatch::Proceed);
    assert_eq!(policy.rescue, RescueMode::Off);
    assert_eq!(
        policy.repair,
        RepairPolicy {
            mode: RepairMode::Copy,
            direction: RepairDirection::ToFallback,
            referrers: true,
            concurrency: 8,
            max_bytes_per_second: Some(1_000_000),
        }
    );
    assert_eq!(
        policy.created,
        Timestamp::MAX,
        "an object that no API server has seen yields to every other"
    );
}

#[test]
fn every_choice_of_rewriting_reaches_the_policy() {
    let rewrite = policy(&RegistryMirror::new("apps", opposite())).unwrap().rewrite;
    assert_eq!(
        (rewrite.mode, rewrite.unverified, rewrite.mismatched),
        (
            RewriteMode::Audit,
            UnverifiedTags::Keep,
            MismatchedTags::WhenUnavailable
        )
    );
    assert_eq!(rewrite.controller_owned, ControllerOwnedPods::Rewrite);
    assert!(rewrite.excludes_image("ghcr.io/example-org/tools/a:v1"));
    assert!(!rewrite.excludes_image("ghcr.io/example-org/apps/a:v1"));
    let app = |value: &'static str| move |key: &str| (key == "app").then_some(value);
    assert!(rewrite.excludes_pod(app("db")) && !rewrite.excludes_pod(app("web")));
    assert!(
        !rewrite.excludes_pod(|key| (key == "application").then_some("spilo")),
        "the default is replaced"
    );
}

#[test]
fn owner_kinds_are_allowed_beside_keep() {
    let mut spec = opposite();
    spec.rewrite.controller_owned_pods = ControllerOwnedPodsName::Keep;
    let rewrite = policy(&RegistryMirror::new("apps", spec)).unwrap().rewrite;
    assert!(rewrite.allows_owner("tekton.dev", "TaskRun"));
    assert!(!rewrite.allows_owner("example.com", "TaskRun") && !rewrite.allows_owner("tekton.dev", "Other"));
}

#[test]
fn operators_that_compare_images_are_excluded_by_default() {
    let rewrite = policy(&mirror(|_| {})).unwrap().rewrite;
    for (label, value) in [
        ("application", "spilo"),
        ("kueue.x-k8s.io/managed", "true"),
        ("app", "aerospike-cluster"),
        ("app", "longhorn-manager"),
    ] {
        let pod = |key: &str| (key == label).then_some(value);
        assert!(rewrite.excludes_pod(pod), "{label}: {value}");
    }
    assert!(!rewrite.excludes_pod(|key| (key == "app").then_some("web")));
    assert!(
        Arc::ptr_eq(&rewrite.exclude_pods, &RewritePolicy::default().exclude_pods),
        "a thousand mirrors that leave it out share the selectors"
    );
    let all = policy(&mirror(|spec| spec.rewrite.exclude_pods = Vec::new()))
        .unwrap()
        .rewrite;
    assert!(!all.excludes_pod(|key| (key == "application").then_some("spilo")));
}

#[test]
fn tag_rules_select_what_they_say() {
    let mirror = mirror(|spec| {
        spec.repositories.as_mut().unwrap()[0].tags = TagRules {
            include: vec!["^v".into()],
            exclude: vec!["-rc".into()],
        };
    });
    let rules = rules(&mirror);
    for (tag, selected) in [("v1", true), ("v1-rc2", false), ("latest", false)] {
        assert_eq!(rules[0].tags.selects(tag), selected, "{tag}");
    }
    assert!(rules[1].tags.selects("latest"));
}

/// What is changed (by JSON pointer), the field that the error then names, and a part of its message. This is what no schema
/// says; what the schema says too is in `tests/cases/invalid`.
type Case = (&'static str, Vec<(&'static str, Value)>, &'static str, &'static str);

fn check_refused(cases: Vec<Case>) {
    for (name, changes, field, message) in cases {
        let mut spec = serde_json::to_value(spec()).unwrap();
        for (pointer, value) in changes {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            let parent = spec.pointer_mut(parent).unwrap();
            match parent {
                Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
                parent => parent[key] = value,
            }
        }
        let mirror = RegistryMirror::new("apps", serde_json::from_value(spec).unwrap());
        let error = policy(&mirror).expect_err(name);
        assert_eq!(error.field, field, "{name}: {error}");
        assert!(error.message.contains(message), "{name}: {error}");
    }
}

#[test]
fn sides_that_make_no_sense_are_refused_by_name() {
    let docker_hub = vec![
        ("/primary/registry", json!("docker.io")),
        ("/fallback/registry", json!("index.docker.io")),
        ("/fallback/prefix", json!("")),
    ];
    let pull_secrets = json!([{"name": "other/secret"}]);
    check_refused(vec![
        (
            "two spellings of Docker Hub",
            docker_hub,
            "spec.fallback",
            "must differ from the primary",
        ),
        (
            "a port beyond the range",
            vec![("/primary/registry", json!("a.example.com:65536"))],
            "spec.primary.registry",
            "must be host or host:port",
        ),
        (
            "an upper-case host",
            vec![("/fallback/registry", json!("GHCR.IO"))],
            "spec.fallback.registry",
            "must be lower case",
        ),
        (
            "a pull secret of another namespace",
            vec![("/fallback/imagePullSecrets", pull_secrets)],
            "spec.fallback.imagePullSecrets[0].name",
            "must be the name of a Secret",
        ),
    ]);
}

#[test]
fn repositories_that_can_t_be_told_apart_are_refused_by_name() {
    let copy = json!([{"name": "web", "primary": "teams/web"}, {"name": "copy", "primary": "teams/web"}]);
    let hidden = json!([{"name": "api"}, {"name": "other", "fallback": "example-org/api"}]);
    let same = vec![
        ("/fallback/registry", json!("acr.example.com")),
        (
            "/repositories",
            json!([{"name": "same", "primary": "one/same", "fallback": "one/same"}]),
        ),
    ];
    check_refused(vec![
        (
            "one path for two repositories",
            vec![("/repositories", copy)],
            "spec.repositories[1].primary",
            r#"acr.example.com/teams/web already belongs to the entry "web""#,
        ),
        (
            "a default path that another entry spells out",
            vec![("/repositories", hidden)],
            "spec.repositories[1].fallback",
            r#"belongs to the entry "api""#,
        ),
        (
            "a repository that is its own mirror",
            same,
            "spec.repositories[0].fallback",
            r#"belongs to the entry "same""#,
        ),
    ]);
}

#[test]
fn repositories_beyond_the_limits_are_refused_by_name() {
    let many: Vec<Value> = (0..501).map(|index| json!({"name": format!("r{index}")})).collect();
    let long = vec![
        ("/fallback/prefix", json!("a".repeat(100))),
        ("/repositories/0/name", json!("b".repeat(160))),
    ];
    let bomb = vec![("/repositories/1/tags/include", json!(["((a{99}){99}){99}"]))];
    let canary = vec![("/healthCheck/canary", json!({"repository": "absent", "tag": "v1"}))];
    check_refused(vec![
        (
            "more than the list may have",
            vec![("/repositories", json!(many))],
            "spec.repositories",
            "not 501",
        ),
        (
            "prefix and name too long together",
            long,
            "spec.repositories[0].fallback",
            "at most 255 characters",
        ),
        (
            "a pattern that explodes",
            bomb,
            "spec.repositories[1].tags.include[0]",
            "failed to compile",
        ),
        (
            "a canary of no entry",
            canary,
            "spec.healthCheck.canary.repository",
            "must be the name of an entry",
        ),
    ]);
}

#[test]
fn selectors_that_make_no_sense_are_refused_by_name() {
    let with = |operator: &str, values: Value| {
        let expression = json!({"key": "tier", "operator": operator, "values": values});
        vec![("/namespaceSelector", json!({"matchExpressions": [expression]}))]
    };
    let operator = "spec.namespaceSelector.matchExpressions[0].operator";
    let values = "spec.namespaceSelector.matchExpressions[0].values";
    check_refused(vec![
        (
            "an unknown operator",
            with("Like", json!(["a"])),
            operator,
            r#"not "Like""#,
        ),
        (
            "no values to be in",
            with("In", json!([])),
            values,
            "must not be empty with In",
        ),
        (
            "no values not to be in",
            with("NotIn", json!([])),
            values,
            "must not be empty with NotIn",
        ),
        (
            "values that don't matter",
            with("Exists", json!(["a"])),
            values,
            "must be empty with Exists",
        ),
    ]);
}

#[test]
fn an_error_reads_as_a_sentence() {
    let error = policy(&mirror(|spec| spec.failback.stable_seconds = 30)).unwrap_err();
    let expected = PolicyError {
        field: "spec.failback.stableSeconds".into(),
        message: "must be between 60 and 86400, not 30".into(),
    };
    assert_eq!(error, expected);
    assert_eq!(
        error.to_string(),
        "failed to accept spec.failback.stableSeconds: must be between 60 and 86400, not 30"
    );
}

#[test]
fn a_mirror_without_a_name_is_refused() {
    let mut mirror = mirror(|_| {});
    mirror.metadata.name = None;
    assert_eq!(policy(&mirror).unwrap_err().field, "metadata.name");
}

const HOSTILE: &[&str] = &[
    "",
    " ",
    "\0",
    "a\nb",
    "\u{202e}ghcr.io",
    "…",
    "..",
    "//",
    "[",
    "]",
    "[]",
    "[:]:",
    ":",
    "@",
    "%2e%2e",
    "-",
    "é",
    "99999999999999999999999999h",
    "((((((((((",
    "[[:alpha:]]{1000}{1000}",
    "xn--nxasmq6b.example.com",
];

/// Whatever a string field holds, there is a policy or an error, never a panic.
#[test]
fn hostile_strings_never_panic() {
    let mut template: Value = serde_json::to_value(spec()).unwrap();
    template["healthCheck"]["canary"] = json!({"repository": "api", "tag": "v1"});
    template["repositories"][0]["tags"] = json!({"include": ["a"], "exclude": ["b"]});
    template["primary"]["secretRef"] = json!({"name": "a"});
    template["rewrite"] = json!({
        "excludeImages": ["a"], "ownerKinds": [{"apiGroup": "a", "kind": "A"}],
        "excludePods": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}],
    });
    let pointers = [
        "/primary/registry",
        "/primary/prefix",
        "/primary/secretRef/name",
        "/repositories/0/name",
        "/repositories/1/primary",
        "/repositories/0/tags/include/0",
        "/repositories/0/tags/exclude/0",
        "/healthCheck/canary/repository",
        "/healthCheck/canary/tag",
        "/rewrite/excludeImages/0",
        "/rewrite/ownerKinds/0/apiGroup",
        "/rewrite/ownerKinds/0/kind",
        "/rewrite/excludePods/0/matchExpressions/0/operator",
        "/parity/interval",
        "/parity/gracePeriod",
        "/parity/settledInterval",
    ];
    let mut refused = 0;
    for pointer in pointers {
        for text in HOSTILE
            .iter()
            .map(|text| (*text).to_owned())
            .chain([1_000_000].map(|length| "a".repeat(length)))
        {
            let mut spec = template.clone();
            *spec.pointer_mut(pointer).unwrap() = Value::String(text);
            let mirror = RegistryMirror::new("apps", serde_json::from_value(spec).unwrap());
            refused += usize::from(policy(&mirror).is_err());
        }
    }
    assert!(
        refused > 280,
        "nearly all of them make no sense, but only {refused} were refused"
    );
}
