//! `catamaran failover` and `failback`.

use std::sync::Mutex;

use serde_json::{Value, json};

use crate::apiserver::{ApiServer, Asked, failure, not_found};
use crate::objects::{IN_SYNC, MIRRORS, World, condition, mirror};
use crate::support::Ran;

/// Whether the operator of a cluster follows a change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operator {
    Follows,
    Stands,
}

/// A cluster whose API server takes changes of the mirror `apps`.
fn cluster(mirror: Value, operator: Operator) -> ApiServer {
    let object = Mutex::new(mirror);
    ApiServer::start(move |asked| {
        let mut object = object.lock().unwrap();
        if asked.path != format!("{MIRRORS}/apps") {
            return World::new(&object, &[("web", "1", IN_SYNC)]).get(asked);
        }
        if asked.method != "PATCH" {
            return (200, object.clone());
        }
        let changed = patched(&object, &asked.body, operator);
        if !asked.query.contains("dryRun=All") {
            *object = changed.clone();
        }
        // The operator follows only after the change was answered.
        let mut answer = changed;
        answer["status"] = json!({"observedGeneration": 1, "active": "Primary"});
        (200, answer)
    })
}

fn patched(object: &Value, patch: &Value, operator: Operator) -> Value {
    let mut changed = object.clone();
    for (field, value) in patch["spec"].as_object().unwrap() {
        changed["spec"][field] = value.clone();
    }
    changed["metadata"]["generation"] = json!(2);
    if operator == Operator::Follows {
        changed["status"]["observedGeneration"] = json!(2);
        changed["status"]["epoch"] = json!(4);
        let active = &changed["spec"]["active"];
        if active != "Auto" {
            changed["status"]["active"] = active.clone();
        }
    }
    changed
}

fn patches(server: &ApiServer) -> Vec<Asked> {
    server
        .asked()
        .into_iter()
        .filter(|asked| asked.method == "PATCH")
        .collect()
}

fn document(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

#[test]
fn failover_sets_the_side_and_waits_for_the_operator() {
    let server = cluster(mirror("apps", "Primary"), Operator::Follows);
    let ran = server.run(&["failover", "apps"]);
    let expected = "spec.active of mirror 'apps' is Fallback; Fallback is active (epoch 4): new pods, and pods that wait for an \
        image, are sent to ghcr.io/devopskev; pods that run are left as they are. The operator says: it has not been observed yet\n";
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, expected, ""));
    let patches = patches(&server);
    assert_eq!(patches.len(), 1);
    assert_eq!(
        patches[0].body,
        json!({"spec": {"active": "Fallback", "activeUntil": null}})
    );
    assert!(patches[0].query.contains("fieldManager=catamaran-cli"), "{patches:?}");
}

#[test]
fn override_for_a_time_has_its_end_in_the_object() {
    let server = cluster(mirror("apps", "Primary"), Operator::Follows);
    let ran = server.run(&["failover", "apps", "--for", "30m", "-o", "json"]);
    let document = document(&ran);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(document["activeUntil"], patches(&server)[0].body["spec"]["activeUntil"]);
    let end: jiff::Timestamp = document["activeUntil"].as_str().unwrap().parse().unwrap();
    let left = end.as_second() - jiff::Timestamp::now().as_second();
    assert!((29 * 60..=30 * 60).contains(&left), "{left}");
    for (field, value) in [
        ("mirror", json!("apps")),
        ("specActive", json!("Fallback")),
        ("from", json!("Primary")),
        ("active", json!("Fallback")),
        ("epoch", json!(4)),
        ("changed", json!(true)),
        ("dryRun", json!(false)),
        ("followed", json!(true)),
        ("warnings", json!([])),
    ] {
        assert_eq!(document[field], value, "{field}");
    }
}

#[test]
fn operator_that_does_not_follow_is_exit_code_1() {
    let server = cluster(mirror("apps", "Primary"), Operator::Stands);
    let ran = server.run(&["failover", "apps", "--timeout", "1s"]);
    assert_eq!((ran.code, ran.err.as_str()), (1, ""), "{ran:?}");
    assert!(
        ran.out
            .contains("the operator has not followed within 1s: Primary is active"),
        "{ran:?}"
    );
    let server = cluster(mirror("apps", "Primary"), Operator::Stands);
    let ran = server.run(&["failover", "apps", "--timeout", "0s"]);
    assert_eq!(ran.code, 0, "nobody waits: {ran:?}");
}

#[test]
fn dry_run_is_checked_by_the_api_server_and_changes_nothing() {
    let server = cluster(mirror("apps", "Primary"), Operator::Follows);
    let ran = server.run(&["failover", "apps", "--dry-run"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.out
            .starts_with("dry run: spec.active of mirror 'apps' is Fallback would be set"),
        "{ran:?}"
    );
    assert!(patches(&server).iter().all(|asked| asked.query.contains("dryRun=All")));
    let again = server.run(&["failover", "apps", "--dry-run", "-o", "json"]);
    assert_eq!(document(&again)["active"], "Primary");
}

#[test]
fn failback_ends_override_and_names_what_is_waited_for() {
    let mut overridden = mirror("apps", "Fallback");
    overridden["spec"]["active"] = json!("Fallback");
    overridden["status"]["conditions"]
        .as_array_mut()
        .unwrap()
        .push(condition("Ready", "True"));
    let server = cluster(overridden, Operator::Follows);
    let ran = server.run(&["failback", "apps"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(patches(&server)[0].body["spec"]["active"], "Auto");
    assert!(
        ran.out
            .contains("once that is stable and holds what is in use. The operator says: as it is"),
        "{ran:?}"
    );
}

#[test]
fn manual_failback_needs_force() {
    let mut manual = mirror("apps", "Fallback");
    manual["spec"]["failback"] = json!({"mode": "Manual"});
    let server = cluster(manual, Operator::Follows);
    let ran = server.run(&["failback", "apps"]);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert!(ran.err.contains("`catamaran failback apps --force` does"), "{ran:?}");
    let ran = server.run(&["failback", "apps", "--force"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(patches(&server)[0].body["spec"]["active"], "Primary");
    // It goes to a side that the status calls unavailable, and says so.
    assert!(
        ran.err.starts_with("warning: PrimaryAvailable is False: as it is"),
        "{ran:?}"
    );
}

#[test]
fn owner_that_will_put_the_field_back_is_named() {
    let mut owned = mirror("apps", "Primary");
    owned["metadata"]["labels"] = json!({"kustomize.toolkit.fluxcd.io/name": "infra"});
    owned["metadata"]["managedFields"] = json!([{"manager": "kustomize-controller", "operation": "Apply",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:active": {}}}}]);
    let ran = cluster(owned, Operator::Follows).run(&["failover", "apps"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("will put it back the next time it applies"), "{ran:?}");
}

#[test]
fn mirror_that_would_not_follow_is_refused() {
    let mut suspended = mirror("apps", "Primary");
    suspended["spec"]["suspend"] = json!(true);
    let mut invalid = mirror("apps", "Primary");
    invalid["spec"]["primary"]["registry"] = json!("https://a.example");
    for (mirror, why) in [(suspended, "is suspended"), (invalid, "has an invalid spec")] {
        let server = ApiServer::start(move |_| (200, mirror.clone()));
        let ran = server.run(&["failover", "apps"]);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""));
        assert!(ran.err.contains(why), "{ran:?}");
        assert!(patches(&server).is_empty());
    }
}

#[test]
fn missing_right_and_missing_mirror_are_named() {
    let server = ApiServer::start(|asked| match asked.method.as_str() {
        "PATCH" => failure(
            403,
            "Forbidden",
            "User \"kev\" cannot patch resource \"registrymirrors\"",
            "",
        ),
        _ => (200, mirror("apps", "Primary")),
    });
    let ran = server.run(&["failover", "apps"]);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert!(
        ran.err
            .contains("can't change mirror 'apps': User \"kev\" cannot patch"),
        "{ran:?}"
    );
    let world = World::new(&mirror("apps", "Primary"), &[]);
    let server = ApiServer::start(move |asked| {
        if asked.path.ends_with("/app") {
            not_found("app")
        } else {
            world.get(asked)
        }
    });
    let ran = server.run(&["failover", "app"]);
    assert_eq!(
        ran.err,
        "error: there is no RegistryMirror 'app'; did you mean 'apps'?\n"
    );
}
