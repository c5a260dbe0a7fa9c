//! What a review of each kind of request answers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use catamaran_core::policy::{ControllerOwnedPods, MirrorPolicy, OwnerKind, RewriteMode};
use catamaran_core::routing::{Route, RouteTable};
use catamaran_core::selector::{Labels, Operator, Requirement, Selector};
use catamaran_core::side::Side;
use catamaran_webhook::metrics::{ImageOutcome, Outcome};
use serde_json::{Value, json};
use support::{
    Answered, CONTROLLER_OWNED, CREATE, EPHEMERAL, ESCAPES, IMAGE_VOLUME, UPDATE, again, answer, mirror, route, table,
    table_of, with,
};

#[test]
fn a_new_pod_is_sent_to_the_active_side_and_told_so() {
    let answered = answer(CREATE.as_bytes(), Some(&table(Side::Fallback)));
    assert_eq!(answered.outcome, Outcome::Patched);
    assert_eq!(
        answered.answer["response"]["uid"],
        "0df28fbd-5f5f-11e8-bc74-36e6bb280816"
    );
    assert_eq!(answered.answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(
        answered.at("/spec/containers/0/image"),
        Some("ghcr.io/devopskev/shop/web:3f2a91c")
    );
    let digest = "sha256:9b2e1d7a4c6f80b35d1e92a7c4b8f0e6d3a5917c2b4e8f6071d9a3c5b7e2f4a8";
    let exporter = format!("ghcr.io/devopskev/platform/exporter:v1.8.2@{digest}");
    assert_eq!(answered.at("/spec/containers/1/image"), Some(&*exporter));
    assert_eq!(
        answered.at("/spec/initContainers/0/image"),
        Some("ghcr.io/devopskev/shop/migrate:3f2a91c")
    );
    assert_eq!(
        answered.object["spec"]["imagePullSecrets"],
        json!([{"name": "acr-pull"}, {"name": "ghcr-pull"}])
    );
    assert_eq!(answered.annotation("mirror"), Some("apps@7"));
    let originals = json!({
        "web": "kracr.azurecr.io/shop/web:3f2a91c",
        "metrics": format!("kracr.azurecr.io/platform/exporter:v1.8.2@{digest}"),
        "migrate": "kracr.azurecr.io/shop/migrate:3f2a91c",
    });
    assert_eq!(answered.notes("original-images"), originals);
    let reasons = json!({"web": "Rewritten", "metrics": "Rewritten", "migrate": "Unverified"});
    assert_eq!(answered.notes("reasons"), reasons);
    assert_eq!(
        answered.at("/metadata/annotations/prometheus.io~1port"),
        Some("8080"),
        "other annotations stay"
    );
    assert_eq!(answered.images.count(ImageOutcome::Rewritten), 2);
    assert_eq!(answered.images.count(ImageOutcome::RewrittenUnverified), 1);
}

#[test]
fn while_the_primary_is_active_a_new_pod_only_gets_the_pull_secrets() {
    let answered = answer(CREATE.as_bytes(), Some(&table(Side::Primary)));
    assert_eq!(answered.outcome, Outcome::Patched);
    assert_eq!(
        answered.object["spec"]["imagePullSecrets"],
        json!([{"name": "acr-pull"}, {"name": "ghcr-pull"}])
    );
    assert_eq!(answered.annotation("mirror"), Some("apps@7"), "who added them");
    assert_eq!(answered.annotation("original-images"), None);
    assert_eq!(answered.annotation("reasons"), None);
    assert_eq!(answered.images.count(ImageOutcome::OnActive), 3);
}

#[test]
fn a_review_of_its_own_output_changes_nothing() {
    for (name, body) in [
        ("create", CREATE),
        ("update", UPDATE),
        ("ephemeral", EPHEMERAL),
        ("controller-owned", CONTROLLER_OWNED),
        ("image volume", IMAGE_VOLUME),
        ("escapes", ESCAPES),
    ] {
        for side in Side::ALL {
            let first = answer(body.as_bytes(), Some(&table(side)));
            let second = answer(again(body, &first.object).as_bytes(), Some(&table(side)));
            assert_eq!(second.patch.0, [], "{name} on {side}");
        }
    }
}

#[test]
fn an_update_touches_only_the_images_that_it_changes() {
    let answered = answer(UPDATE.as_bytes(), Some(&table(Side::Fallback)));
    assert_eq!(
        answered.at("/spec/containers/0/image"),
        Some("ghcr.io/devopskev/shop/web:77aa012")
    );
    let untouched: Value = serde_json::from_str(UPDATE).unwrap();
    for pointer in ["/spec/containers/1", "/spec/initContainers", "/spec/volumes"] {
        let before = untouched.pointer(&format!("/request/object{pointer}"));
        assert_eq!(
            answered.object.pointer(pointer),
            before,
            "{pointer} would restart or is immutable"
        );
    }
    assert_eq!(
        answered.object["spec"].get("imagePullSecrets"),
        None,
        "immutable by then"
    );
    assert_eq!(
        answered.notes("original-images"),
        json!({"web": "kracr.azurecr.io/shop/web:77aa012"})
    );
}

#[test]
fn an_update_that_leaves_the_images_alone_or_hides_what_it_changes_is_left_alone() {
    let old: Value = serde_json::from_str(UPDATE).unwrap();
    let same = with(UPDATE, &[("//oldObject", old["request"]["object"].clone())]);
    assert_eq!(
        answer(same.as_bytes(), Some(&table(Side::Fallback))).outcome,
        Outcome::Unchanged
    );
    let hidden = with(UPDATE, &[("//oldObject", Value::Null)]);
    assert_eq!(
        answer(hidden.as_bytes(), Some(&table(Side::Fallback))).outcome,
        Outcome::NotApplicable
    );
}

#[test]
fn update_that_reorders_containers_changes_nothing() {
    let mut body: Value = serde_json::from_str(UPDATE).unwrap();
    body["request"]["object"] = body["request"]["oldObject"].clone();
    body["request"]["object"]["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .reverse();
    let answered = answer(body.to_string().as_bytes(), Some(&table(Side::Fallback)));
    assert_eq!(answered.outcome, Outcome::Unchanged);
}

#[test]
fn an_update_drops_what_was_recorded_about_the_image_that_it_replaces() {
    let recorded = json!({
        "catamaran.dev/original-images": "{\"web\":\"kracr.azurecr.io/shop/web:3f2a91c\"}",
        "catamaran.dev/reasons": "{\"web\":\"Rewritten\",\"migrate\":\"Unverified\"}",
        "catamaran.dev/mirror": "apps@6",
    });
    let body = with(
        UPDATE,
        &[
            ("/metadata/annotations", recorded),
            ("/spec/containers/0/image", "ghcr.io/devopskev/shop/web:77aa012".into()),
        ],
    );
    let answered = answer(body.as_bytes(), Some(&table(Side::Fallback)));
    assert_eq!(
        answered.annotation("original-images"),
        None,
        "the image is the one that the user wrote"
    );
    assert_eq!(answered.notes("reasons"), json!({"migrate": "Unverified"}));
}

#[test]
fn an_ephemeral_container_is_re_pointed_and_nothing_else() {
    let answered = answer(EPHEMERAL.as_bytes(), Some(&table(Side::Fallback)));
    assert_eq!(
        answered.at("/spec/ephemeralContainers/0/image"),
        Some("ghcr.io/devopskev/tools/debug:2.1")
    );
    assert_eq!(
        answered.patch.0.len(),
        1,
        "the API server drops every other change: {:?}",
        answered.patch
    );
}

#[test]
fn an_image_volume_is_re_pointed_under_a_name_of_its_own() {
    let answered = answer(IMAGE_VOLUME.as_bytes(), Some(&table(Side::Fallback)));
    assert_eq!(
        answered.at("/spec/volumes/3/image/reference"),
        Some("ghcr.io/devopskev/shop/assets:9")
    );
    assert_eq!(
        answered.at("/spec/containers/1/image"),
        Some("quay.io/prometheus/node-exporter:v1.8.2")
    );
    let secrets = json!([{"name": "ghcr-pull"}, {"name": "own"}, {"name": "acr-pull"}]);
    assert_eq!(answered.object["spec"]["imagePullSecrets"], secrets);
    let originals = answered.notes("original-images");
    assert_eq!(originals["volume/web"], "kracr.azurecr.io/shop/assets:9");
    assert_eq!(originals["web"], "kracr.azurecr.io/shop/web:3f2a91c");
    assert_eq!(originals.get("metrics"), None);
}

#[test]
fn escapes_mean_what_they_stand_for() {
    let body = ESCAPES
        .replace("\"name\":\"web\"", "\"n\\u0061me\":\"w\\u0065\\u0062\"")
        .replace("kracr.azurecr.io/shop/web", "kracr.azurecr.io\\/shop\\/w\\u0065b");
    assert_ne!(body, ESCAPES);
    let answered = answer(body.as_bytes(), Some(&table(Side::Fallback)));
    assert_eq!(
        answered.at("/spec/containers/0/image"),
        Some("ghcr.io/devopskev/shop/web:3f2a91c")
    );
    assert_eq!(
        answered.notes("original-images")["web"],
        "kracr.azurecr.io/shop/web:3f2a91c"
    );
}

#[test]
fn what_is_kept_says_why_and_still_gets_the_pull_secrets() {
    for (image, reason, outcome) in [
        (
            "kracr.azurecr.io/shop/missing:1",
            "MissingOnActive",
            ImageOutcome::KeptMissingOnActive,
        ),
        (
            "kracr.azurecr.io/shop/mismatch:1",
            "DigestMismatch",
            ImageOutcome::KeptDigestMismatch,
        ),
    ] {
        let body = with(
            CREATE,
            &[
                ("/spec/containers", json!([{"name": "app", "image": image}])),
                ("/spec/initContainers", Value::Null),
            ],
        );
        let answered = answer(body.as_bytes(), Some(&table(Side::Fallback)));
        assert_eq!(answered.at("/spec/containers/0/image"), Some(image));
        assert_eq!(answered.notes("reasons"), json!({"app": reason}));
        assert_eq!(answered.notes("original-images"), Value::Null);
        assert_eq!(answered.annotation("mirror"), Some("apps@7"));
        assert_eq!(
            answered.object["spec"]["imagePullSecrets"][1]["name"], "ghcr-pull",
            "rescue may need it"
        );
        assert_eq!(answered.images.count(outcome), 1);
    }
}

/// One mirror of everything whose settings were changed.
fn table_with(change: impl FnOnce(&mut MirrorPolicy)) -> RouteTable {
    let mut policy = mirror("apps", "");
    change(&mut policy);
    table_of(vec![route(policy, Side::Fallback)])
}

/// A new Pod with one container.
fn pod_of(image: &str) -> String {
    let container = json!([{"name": "app", "image": image}]);
    with(
        CREATE,
        &[("/spec/containers", container), ("/spec/initContainers", Value::Null)],
    )
}

#[track_caller]
fn assert_untouched(answered: &Answered, name: &str) {
    assert_eq!(answered.patch.0, [], "{name}");
    assert_eq!(answered.warning(), "", "{name}");
}

#[test]
fn pod_of_other_controller_keeps_all_but_learns_why() {
    let answered = answer(CONTROLLER_OWNED.as_bytes(), Some(&table(Side::Fallback)));
    let before: Value = serde_json::from_str(CONTROLLER_OWNED).unwrap();
    assert_eq!(answered.object["spec"], before["request"]["object"]["spec"]);
    assert_eq!(answered.notes("reasons")["web"], "ExcludedControllerOwned");
}

#[test]
fn pod_of_other_controller_moves_where_allowed() {
    let web = Some("ghcr.io/devopskev/shop/web:3f2a91c");
    let all = table_with(|policy| policy.rewrite.controller_owned = ControllerOwnedPods::Rewrite);
    let answered = answer(CONTROLLER_OWNED.as_bytes(), Some(&all));
    assert_eq!(answered.at("/spec/containers/0/image"), web);
    let before: Value = serde_json::from_str(CONTROLLER_OWNED).unwrap();
    let owner = &before["request"]["object"]["metadata"]["ownerReferences"][0];
    let (api_version, kind) = (owner["apiVersion"].as_str().unwrap(), owner["kind"].as_str().unwrap());
    let listed = table_with(|policy| {
        policy.rewrite.owner_kinds = vec![OwnerKind {
            api_group: api_version.split('/').next().unwrap().to_owned(),
            kind: kind.to_owned(),
        }];
    });
    let answered = answer(CONTROLLER_OWNED.as_bytes(), Some(&listed));
    assert_eq!(answered.at("/spec/containers/0/image"), web);
}

#[test]
fn pod_with_an_owner_that_is_no_controller_is_kept() {
    let service = json!([{"apiVersion": "v1", "kind": "Service", "name": "s", "uid": "u", "controller": false}]);
    let body = with(CREATE, &[("/metadata/ownerReferences", service)]);
    let answered = answer(body.as_bytes(), Some(&table(Side::Fallback)));
    assert_eq!(answered.notes("reasons")["web"], "ExcludedControllerOwned");
}

#[test]
fn pod_that_opted_out_stays_byte_for_byte() {
    let label = |key: &str, value: &str| with(CREATE, &[(&format!("/metadata/labels/{key}"), value.into())]);
    let stale = json!({"catamaran.dev/reasons": "{\"web\":\"Rewritten\"}"});
    let selected = table_with(|policy| {
        policy.rewrite.exclude_pods = vec![Selector {
            requirements: vec![Requirement {
                key: "tier".to_owned(),
                operator: Operator::Exists,
            }],
        }]
        .into();
    });
    let excluded = [
        (
            "label",
            label("catamaran.dev~1rewrite", "disabled"),
            ImageOutcome::ExcludedByPodLabel,
        ),
        ("selector", label("tier", "x"), ImageOutcome::ExcludedByPodSelector),
        (
            "label and old notes",
            with(
                &label("catamaran.dev~1rewrite", "disabled"),
                &[("/metadata/annotations", stale)],
            ),
            ImageOutcome::ExcludedByPodLabel,
        ),
    ];
    for (name, body, outcome) in excluded {
        let answered = answer(body.as_bytes(), Some(&selected));
        assert_untouched(&answered, name);
        assert_eq!(answered.outcome, Outcome::Unchanged, "{name}");
        assert_eq!(answered.images.count(outcome), 3, "{name}");
    }
}

#[test]
fn pod_of_unknown_namespace_gets_only_the_pull_secrets() {
    let known = BTreeMap::from([("other".to_owned(), Labels::new())]);
    let routes = vec![route(mirror("apps", ""), Side::Fallback)];
    let table = RouteTable::new(routes, Arc::new(known), Arc::default());
    let answered = answer(CREATE.as_bytes(), Some(&table));
    let mut before: Value = serde_json::from_str(CREATE).unwrap();
    let secrets = json!([{"name": "acr-pull"}, {"name": "ghcr-pull"}]);
    before["request"]["object"]["spec"]["imagePullSecrets"] = secrets;
    assert_eq!(answered.object, before["request"]["object"]);
    assert_eq!(answered.images.count(ImageOutcome::KeptNamespaceUnknown), 3);
}

#[test]
fn mirror_that_excludes_a_pod_leaves_it_to_the_others() {
    let mut shop = mirror("shop", "shop");
    shop.rewrite.exclude_pods = vec![Selector::default()].into();
    let table = table_of(vec![
        route(shop, Side::Fallback),
        route(mirror("platform", "platform"), Side::Fallback),
    ]);
    let answered = answer(CREATE.as_bytes(), Some(&table));
    let reasons = answered.notes("reasons");
    assert_eq!((&reasons["metrics"], reasons.get("web")), (&json!("Rewritten"), None));
    assert_eq!(answered.annotation("mirror"), Some("platform@7"));
}

#[test]
fn image_with_pull_policy_never_stays_in_every_list() {
    let never =
        |name: &str| json!([{"name": name, "image": "kracr.azurecr.io/shop/web:3f2a91c", "imagePullPolicy": "Never"}]);
    let volume =
        json!([{"name": "data", "image": {"reference": "kracr.azurecr.io/shop/assets:9", "pullPolicy": "Never"}}]);
    let body = with(
        CREATE,
        &[
            ("/spec/containers", never("app")),
            ("/spec/initContainers", never("init")),
            ("/spec/ephemeralContainers", never("debug")),
            ("/spec/volumes", volume),
        ],
    );
    let before: Value = serde_json::from_str(&body).unwrap();
    let answered = answer(body.as_bytes(), Some(&table(Side::Fallback)));
    assert_eq!(answered.object["spec"], before["request"]["object"]["spec"]);
    assert_eq!(answered.images.count(ImageOutcome::KeptPullPolicyNever), 4);
    assert_eq!(answered.notes("reasons")["volume/data"], "PullPolicyNever");
    let pulled = with(&body, &[("/spec/containers/0/imagePullPolicy", "Always".into())]);
    let answered = answer(pulled.as_bytes(), Some(&table(Side::Fallback)));
    assert_eq!(
        answered.at("/spec/containers/0/image"),
        Some("ghcr.io/devopskev/shop/web:3f2a91c")
    );
}

#[test]
fn image_that_only_the_other_side_has_is_sent_there_once() {
    let body = pod_of("kracr.azurecr.io/shop/extra:1");
    let primary = table(Side::Primary);
    let first = answer(body.as_bytes(), Some(&primary));
    assert_eq!(
        first.at("/spec/containers/0/image"),
        Some("ghcr.io/devopskev/shop/extra:1")
    );
    assert_eq!(first.notes("reasons"), json!({"app": "OnlyOnOther"}));
    assert_eq!(
        first.notes("original-images"),
        json!({"app": "kracr.azurecr.io/shop/extra:1"})
    );
    assert_eq!(first.images.count(ImageOutcome::RewrittenOnlyOnOther), 1);
    let second = answer(again(&body, &first.object).as_bytes(), Some(&primary));
    assert_untouched(&second, "second pass");
}

#[test]
fn note_of_an_image_that_is_foreign_by_now_is_removed() {
    let first = answer(
        pod_of("kracr.azurecr.io/shop/web:3f2a91c").as_bytes(),
        Some(&table(Side::Fallback)),
    );
    assert_ne!(first.notes("original-images"), Value::Null);
    let mut replaced = first.object.clone();
    replaced["spec"]["containers"][0]["image"] = "quay.io/other/web:1".into();
    let body = again(CREATE, &replaced);
    let second = answer(body.as_bytes(), Some(&table(Side::Fallback)));
    assert_eq!(second.annotation("original-images"), None);
    assert_eq!(second.annotation("reasons"), None);
    assert_eq!(second.at("/spec/containers/0/image"), Some("quay.io/other/web:1"));
    let third = answer(again(CREATE, &second.object).as_bytes(), Some(&table(Side::Fallback)));
    assert_untouched(&third, "third pass");
}

#[test]
fn audit_records_what_would_be_done_and_does_nothing() {
    let audit = table_with(|policy| policy.rewrite.mode = RewriteMode::Audit);
    let before: Value = serde_json::from_str(CREATE).unwrap();
    let answered = answer(CREATE.as_bytes(), Some(&audit));
    assert_eq!(answered.object["spec"], before["request"]["object"]["spec"]);
    let reasons = json!({"web": "Audit:Rewritten", "metrics": "Audit:Rewritten", "migrate": "Audit:Unverified"});
    assert_eq!(answered.notes("reasons"), reasons);
    assert_eq!(answered.annotation("original-images"), None);
    assert_eq!(answered.annotation("mirror"), Some("apps@7"));
    assert_eq!(answered.images.count(ImageOutcome::AuditedRewritten), 2);
    assert_eq!(answered.images.count(ImageOutcome::AuditedUnverified), 1);
    let second = answer(again(CREATE, &answered.object).as_bytes(), Some(&audit));
    assert_untouched(&second, "second pass");
}

#[test]
fn placeholder_of_an_injector_is_left_alone() {
    let mut hub = mirror("hub", "hub");
    hub.sides.primary.registry = "docker.io".to_owned();
    hub.sides.primary.prefix = String::new();
    let table = table_of(vec![route(hub, Side::Fallback)]);
    let answered = answer(pod_of("auto").as_bytes(), Some(&table));
    assert_untouched(&answered, "auto");
    let answered = answer(pod_of("nginx").as_bytes(), Some(&table));
    assert_eq!(
        answered.at("/spec/containers/0/image"),
        Some("ghcr.io/devopskev/hub/library/nginx")
    );
}

#[test]
fn pod_with_too_many_containers_is_left_alone() {
    let containers = |count: usize| {
        let container =
            |index: usize| json!({"name": format!("c{index}"), "image": "kracr.azurecr.io/shop/web:3f2a91c"});
        Value::from((0..count).map(container).collect::<Vec<_>>())
    };
    let table = table(Side::Fallback);
    for field in ["containers", "initContainers", "ephemeralContainers"] {
        let pointer = format!("/spec/{field}");
        let most = answer(with(CREATE, &[(&pointer, containers(256))]).as_bytes(), Some(&table));
        assert_eq!(most.outcome, Outcome::Patched, "{field}");
        let more = answer(with(CREATE, &[(&pointer, containers(257))]).as_bytes(), Some(&table));
        assert_eq!(more.outcome, Outcome::TooLong, "{field}");
        assert_eq!(more.patch.0, [], "{field}");
        assert_eq!(more.answer["response"]["uid"], "0df28fbd-5f5f-11e8-bc74-36e6bb280816");
        assert!(more.warning().contains("too many containers"), "{}", more.warning());
    }
}

#[test]
fn a_static_pod_is_not_even_annotated() {
    let body = with(
        CREATE,
        &[("/metadata/annotations/kubernetes.io~1config.mirror", "8f14e45f".into())],
    );
    let answered = answer(body.as_bytes(), Some(&table(Side::Fallback)));
    assert_eq!(answered.outcome, Outcome::Unchanged);
    assert_eq!(answered.images.count(ImageOutcome::ExcludedStaticPod), 3);
}

#[test]
fn several_mirrors_are_all_named_and_their_earlier_epochs_replaced() {
    let of = |name: &str, path: &str, active, epoch| Route {
        epoch,
        ..route(mirror(name, path), active)
    };
    let table = table_of(vec![
        of("shop", "shop", Side::Fallback, 4),
        of("platform", "platform", Side::Fallback, 2),
    ]);
    let body = with(
        CREATE,
        &[(
            "/metadata/annotations/catamaran.dev~1mirror",
            "shop@3,old@9,nonsense".into(),
        )],
    );
    let answered = answer(body.as_bytes(), Some(&table));
    assert_eq!(answered.annotation("mirror"), Some("old@9,platform@2,shop@4"));
}

#[test]
fn what_earlier_reviews_recorded_is_merged_and_what_is_no_record_is_replaced() {
    let originals = "catamaran.dev~1original-images";
    for (there, expected) in [
        (
            r#"{"other":"x"}"#,
            json!({"other": "x", "web": "kracr.azurecr.io/shop/web:3f2a91c"}),
        ),
        (
            r#"{"web":"kracr.azurecr.io/another:1"}"#,
            json!({"web": "kracr.azurecr.io/shop/web:3f2a91c"}),
        ),
        (
            r#"{"web":"ghcr.io/devopskev/shop/web:3f2a91c"}"#,
            json!({"web": "ghcr.io/devopskev/shop/web:3f2a91c"}),
        ),
        ("not json", json!({"web": "kracr.azurecr.io/shop/web:3f2a91c"})),
        (r#"{"web":7}"#, json!({"web": "kracr.azurecr.io/shop/web:3f2a91c"})),
    ] {
        let body = with(
            CREATE,
            &[
                (&format!("/metadata/annotations/{originals}"), there.into()),
                ("/spec/initContainers", Value::Null),
                (
                    "/spec/containers",
                    json!([{"name": "web", "image": "kracr.azurecr.io/shop/web:3f2a91c"}]),
                ),
            ],
        );
        let answered = answer(body.as_bytes(), Some(&table(Side::Fallback)));
        assert_eq!(answered.notes("original-images"), expected, "{there}");
    }
}

#[test]
fn a_pod_whose_annotations_are_full_is_re_pointed_without_any() {
    let full = "x".repeat(256 * 1024 - 100);
    let body = with(CREATE, &[("/metadata/annotations", json!({"full": full}))]);
    let answered = answer(body.as_bytes(), Some(&table(Side::Fallback)));
    assert_eq!(
        answered.at("/spec/containers/0/image"),
        Some("ghcr.io/devopskev/shop/web:3f2a91c")
    );
    assert_eq!(
        answered.object["metadata"]["annotations"],
        json!({"full": full}),
        "one more would refuse the Pod"
    );
}

#[test]
fn pods_that_no_mirror_matches_are_left_byte_for_byte() {
    let body = CREATE.replace("kracr.azurecr.io", "kracr.azurecr.io.example.com");
    let answered = answer(body.as_bytes(), Some(&table(Side::Fallback)));
    assert_eq!(answered.outcome, Outcome::Unchanged);
    assert_eq!(answered.answer["response"].get("patch"), None);
}

#[test]
fn own_changes_and_exempt_namespaces_are_left_alone() {
    for (pointer, value) in [("//namespace", "kube-system"), ("//namespace", "catamaran")] {
        let body = with(CREATE, &[(pointer, value.into())]);
        let answered = answer(body.as_bytes(), Some(&table(Side::Fallback)));
        assert_eq!(answered.outcome, Outcome::Exempt, "{pointer} {value}");
        assert_eq!(answered.patch.0, []);
    }
    let body = with(UPDATE, &[("//userInfo/username", support::OWN_USER.into())]);
    let answered = answer(body.as_bytes(), Some(&table(Side::Fallback)));
    assert_eq!(answered.outcome, Outcome::Exempt);
    assert_eq!(answered.patch.0, []);
}

/// A proof pod of the mirror `apps`, as the operator makes it while the primary is active; as whom it is made.
fn proof_pod(user: &str) -> String {
    let owner = json!([{"apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror", "name": "apps", "uid": "u", "controller": true}]);
    let changes = [
        ("/metadata/ownerReferences", owner),
        ("/metadata/labels", json!({"catamaran.dev/proof": "apps"})),
        ("/spec/containers/0/image", json!("ghcr.io/devopskev/shop/web:3f2a91c")),
        ("//userInfo/username", user.into()),
    ];
    with(CREATE, &changes)
}

#[test]
fn proof_pod_of_the_operator_gets_pull_secrets_and_keeps_its_images() {
    let body = proof_pod(support::OWN_USER);
    let answered = answer(body.as_bytes(), Some(&table(Side::Primary)));
    assert_eq!(
        answered.at("/spec/containers/0/image"),
        Some("ghcr.io/devopskev/shop/web:3f2a91c")
    );
    let secrets = answered.object["spec"]["imagePullSecrets"].to_string();
    assert!(
        secrets.contains("ghcr-pull") && secrets.contains("acr-pull"),
        "{secrets}"
    );
    assert_eq!(answered.annotation("original-images"), None);
}

#[test]
fn label_of_a_proof_pod_exempts_nobody_elses_pod() {
    let labels = json!({"catamaran.dev/proof": "apps"});
    let body = with(CREATE, &[("/metadata/labels", labels)]);
    let answered = answer(body.as_bytes(), Some(&table(Side::Fallback)));
    assert_eq!(
        answered.at("/spec/containers/0/image"),
        Some("ghcr.io/devopskev/shop/web:3f2a91c")
    );
    assert_eq!(answered.outcome, Outcome::Patched);
}

#[test]
fn requests_that_set_no_image_are_not_looked_at() {
    for (operation, sub_resource) in [
        ("DELETE", ""),
        ("CONNECT", ""),
        ("UPDATE", "status"),
        ("UPDATE", "resize"),
        ("CREATE", "binding"),
        ("", ""),
    ] {
        let body = with(
            UPDATE,
            &[
                ("//operation", operation.into()),
                ("//subResource", sub_resource.into()),
                ("//object", Value::Null),
            ],
        );
        let answered = answer(body.as_bytes(), Some(&table(Side::Fallback)));
        assert_eq!(answered.outcome, Outcome::NotApplicable, "{operation} {sub_resource}");
        assert_eq!(answered.warning(), "");
    }
}

#[test]
fn without_a_fresh_view_pods_are_left_alone() {
    let answered = answer(CREATE.as_bytes(), None);
    assert_eq!(answered.outcome, Outcome::Stale);
    assert_eq!(answered.patch.0, []);
    assert_eq!(answered.warning(), "");
}
