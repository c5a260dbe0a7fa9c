//! The schema and the policy judge every case and every example alike, without an API server.

// Helpers of a test fail by panicking, as the test does.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use catamaran_api::mirror::RegistryMirror;
use catamaran_api::policy::policy;
use serde_json::{Value, json};

use support::{SCHEMA, admit, files};

fn read(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

#[test]
fn every_valid_case_is_admitted_and_becomes_a_policy() {
    for (file, text) in files("tests/cases/valid") {
        let stored = admit(read(&text)).unwrap_or_else(|errors| panic!("{file}: {errors:#?}"));
        let mirror: RegistryMirror = serde_json::from_value(stored).unwrap_or_else(|error| panic!("{file}: {error}"));
        policy(&mirror).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
}

#[test]
fn every_invalid_case_is_refused_for_the_reason_it_names() {
    for (file, text) in files("tests/cases/invalid") {
        let expected = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("# expect: "))
            .unwrap();
        let errors = admit(read(&text)).expect_err(&file);
        assert!(
            errors.iter().any(|error| error.contains(expected)),
            "{file}: {errors:#?}"
        );
    }
}

/// An object may be older than a rule: what the schema refuses, the policy refuses, naming the field.
#[test]
fn every_invalid_case_is_refused_by_the_policy_too() {
    for (file, text) in files("tests/cases/invalid") {
        let expected = text
            .lines()
            .nth(1)
            .and_then(|line| line.strip_prefix("# policy: "))
            .unwrap();
        let outcome = match serde_json::from_value::<RegistryMirror>(read(&text)) {
            Ok(mirror) => policy(&mirror).map_or_else(|error| error.field, |_| "accepted".to_owned()),
            Err(_) => "undecodable".to_owned(),
        };
        assert_eq!(outcome, expected, "{file}");
    }
}

#[test]
fn every_example_is_admitted_and_becomes_a_policy() {
    // The other files below examples/flux hold Flux' objects, which the end-to-end tests give to Flux.
    let all = ["../../examples", "../../examples/flux/mirrors"].map(files);
    for (file, text) in all.into_iter().flatten() {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        let mut mirrors = documents
            .into_iter()
            .filter(|document| document["kind"] == "RegistryMirror")
            .peekable();
        assert!(mirrors.peek().is_some(), "{file} holds no RegistryMirror");
        for document in mirrors {
            let stored = admit(document).unwrap_or_else(|errors| panic!("{file}: {errors:#?}"));
            let mirror: RegistryMirror = serde_json::from_value(stored).unwrap();
            policy(&mirror).unwrap_or_else(|error| panic!("{file}: {error}"));
        }
    }
}

/// What `apps.yaml` says about defaults is what the schema sets.
#[test]
fn the_defaults_that_the_example_spells_out_are_the_defaults() {
    let text = std::fs::read_to_string(support::path("../../examples/apps.yaml")).unwrap();
    let written = read(&text);
    let mut bare = written.clone();
    let kept = ["primary", "fallback", "repositories"];
    bare["spec"]
        .as_object_mut()
        .unwrap()
        .retain(|name, _| kept.contains(&name.as_str()));
    assert_eq!(admit(bare), admit(written));
}

#[test]
fn a_new_object_shows_its_defaults_and_an_observed_generation_that_no_object_has() {
    let object = json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror", "metadata": {"name": "new"},
        "spec": {"primary": {"registry": "a.example.com"}, "fallback": {"registry": "b.example.com"}},
    });
    let stored = admit(object).unwrap();
    let side = |registry| json!({"registry": registry, "prefix": "", "provider": "generic", "pullThroughCache": false, "prewarm": false});
    assert_eq!(
        stored["spec"],
        json!({
            "suspend": false,
            "primary": side("a.example.com"),
            "fallback": side("b.example.com"),
            "namespaceSelector": {},
            "healthCheck": {
                "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 3, "successThreshold": 3,
                "triggers": ["Unavailable"], "onPullsFailing": "Failover",
            },
            "active": "Auto",
            "failover": {"requireProof": false},
            "failback": {"mode": "Automatic", "stableSeconds": 300, "onMismatch": "Wait"},
            "parity": {"interval": "5m", "gracePeriod": "2m", "settledInterval": "24h"},
            "rewrite": {
                "mode": "Rewrite", "unverifiedTags": "Rewrite", "mismatchedTags": "Keep", "controllerOwnedPods": "Keep",
                "excludePods": [
                    {"matchLabels": {"application": "spilo"}},
                    {"matchLabels": {"kueue.x-k8s.io/managed": "true"}},
                    {"matchLabels": {"app": "aerospike-cluster"}},
                    {"matchLabels": {"app": "longhorn-manager"}},
                ],
            },
            "rescue": {"mode": "Patch"},
            "repair": {"missingTags": "Off", "direction": "Both", "referrers": false, "concurrency": 2},
            "proof": {"mode": "Off", "interval": "24h"},
        })
    );
    assert_eq!(
        SCHEMA["properties"]["status"]["default"],
        json!({"observedGeneration": -1})
    );
}

/// The types and the schema set the same defaults, so that an object stored before a default existed reads alike.
#[test]
fn decoding_sets_the_defaults_of_the_schema() {
    let sides = json!({"primary": {"registry": "a.example.com"}, "fallback": {"registry": "b.example.com"}});
    let object = json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror", "metadata": {"name": "new"}, "spec": sides,
    });
    let stored: RegistryMirror = serde_json::from_value(admit(object.clone()).unwrap()).unwrap();
    let bare: RegistryMirror = serde_json::from_value(object).unwrap();
    assert_eq!(stored.spec, bare.spec);
}
