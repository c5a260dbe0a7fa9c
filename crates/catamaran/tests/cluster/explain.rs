//! `catamaran explain`.

use serde_json::{Value, json};

use crate::apiserver::{ApiServer, forbidden, kubeconfig};
use crate::objects::{
    CONFIG_MAPS, DEPLOYMENTS, IN_SYNC, MIRRORS, NAMESPACES, World, differs, mirror, namespace, only_primary, pod,
};
use crate::support::{Ran, catamaran};

const PODS: &str = "/api/v1/namespaces/shop/pods";

fn world() -> World {
    World::new(
        &mirror("apps", "Fallback"),
        &[
            ("web", "1", IN_SYNC),
            ("web", "2", only_primary()),
            ("api", "1", differs()),
        ],
    )
}

fn explain(world: World, arguments: &[&str]) -> Ran {
    let server = ApiServer::start(move |asked| world.get(asked));
    server.run(&[&["explain"], arguments].concat())
}

fn document(world: World, target: &str) -> (i32, Value) {
    let ran = explain(world, &[target, "-o", "json"]);
    let document = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (ran.code, document)
}

/// Without what makes columns line up.
fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The first image's outcome: action, reason and image.
fn outcome(document: &Value) -> [&str; 3] {
    let outcome = &document["images"][0]["outcome"];
    ["action", "reason", "image"].map(|field| outcome[field].as_str().unwrap_or_default())
}

/// The rules of the first image that apply.
fn applied(document: &Value) -> Vec<&str> {
    let rules = document["images"][0]["rules"].as_array().unwrap().iter();
    let applied = rules.filter(|rule| rule["result"] == "applied");
    applied.map(|rule| rule["rule"].as_str().unwrap()).collect()
}

#[test]
fn image_is_explained_with_every_rule_and_what_it_went_by() {
    let ran = explain(world(), &["kracr.azurecr.io/web:1"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    let starts = "kracr.azurecr.io/web:1 in namespace shop\n  is sent to ghcr.io/devopskev/web:1: the active side has it, \
        a tag with the same digest\n";
    assert!(ran.out.starts_with(starts), "{ran:?}");
    for line in [
        "mirror apps",
        "active side Fallback (epoch 3)",
        "2026-11-20T10:00:00Z (",
        "kracr.azurecr.io: unavailable",
        "2026-11-20T09:59:00Z (",
        "1: present on the primary, present on the fallback, one digest",
        "2026-11-20T09:58:00Z (",
        "RULE RESULT APPLIES WHEN",
        "DigestMismatch no the sides have different digests",
        "Rewritten applies the active side has it",
        "Unverified - nothing is known",
    ] {
        assert!(squeezed(&ran.out).contains(line), "{line}: {}", ran.out);
    }
}

#[test]
fn document_has_the_facts_of_the_schema() {
    let (code, document) = document(world(), "kracr.azurecr.io/web:1");
    assert_eq!(code, 0, "{document}");
    assert_eq!(
        outcome(&document),
        ["Rewritten", "Rewritten", "ghcr.io/devopskev/web:1"]
    );
    let facts = &document["images"][0]["mirror"];
    assert_eq!(facts["name"], "apps");
    assert_eq!(
        (&facts["named"], &facts["active"]),
        (&json!("Primary"), &json!("Fallback"))
    );
    assert_eq!(facts["activeSince"], "2026-11-20T10:00:00Z");
    assert_eq!(facts["primary"]["unavailable"], true);
    assert_eq!(
        facts["tag"],
        json!({"name": "1", "primary": "Present", "fallback": "Present", "sameDigest": true, "brokenOn": [], "untrustedOn": [],
               "recorded": "2026-11-20T09:58:00Z"})
    );
    assert_eq!(facts["settings"]["unverifiedTags"], "Rewrite");
    assert_eq!(
        (&document["namespace"], &document["unread"]),
        (&json!("shop"), &json!([]))
    );
}

#[test]
fn each_outcome_names_its_rule() {
    let cases = [
        ("kracr.azurecr.io/web:2", "MissingOnActive"),
        ("kracr.azurecr.io/api:1", "DigestMismatch"),
        ("kracr.azurecr.io/api:9", "Unverified"),
        ("ghcr.io/devopskev/web:1", "OnActive"),
        // The primary has it, but is unavailable.
        ("ghcr.io/devopskev/web:2", "OnActive"),
        ("quay.io/web:1", "NoMirror"),
    ];
    for (image, rule) in cases {
        let (code, document) = document(world(), image);
        assert_eq!((code, applied(&document)), (0, vec![rule]), "{image}");
    }
}

#[test]
fn pod_is_explained_by_the_images_that_it_was_created_with() {
    let mut world = world();
    let mut rewritten = pod("web-0", "ghcr.io/devopskev/web:1");
    rewritten["metadata"]["annotations"] =
        json!({"catamaran.dev/original-images": "{\"app\":\"kracr.azurecr.io/web:1\"}"});
    world.put(PODS, &rewritten);
    let (code, document) = document(world.clone(), "pod/web-0");
    assert_eq!((code, &document["pod"]), (0, &json!("web-0")));
    let image = &document["images"][0];
    assert_eq!(
        (&image["container"], &image["image"]),
        (&json!("app"), &json!("kracr.azurecr.io/web:1"))
    );
    assert_eq!(
        (applied(&document), &image["now"]),
        (vec!["Rewritten"], &json!("ghcr.io/devopskev/web:1"))
    );
    rewritten["metadata"]["labels"] = json!({"catamaran.dev/rewrite": "disabled"});
    world.put(PODS, &rewritten);
    let ran = explain(world, &["pod/web-0"]);
    assert!(
        ran.out
            .contains("stays as it is: the pod is labelled catamaran.dev/rewrite: disabled"),
        "{ran:?}"
    );
}

#[test]
fn pod_without_images_of_a_mirror_is_said_to_have_none() {
    let mut world = world();
    world.put(PODS, &pod("other", "quay.io/prometheus/prometheus:v3"));
    let (code, document) = document(world, "pod/other");
    assert_eq!((code, applied(&document)), (0, vec!["NoMirror"]));
    let note = "no mirror is of registry 'quay.io', only of 'ghcr.io', 'kracr.azurecr.io'";
    assert_eq!(document["images"][0]["notes"], json!([note]));
}

#[test]
fn names_that_match_nothing_are_answered_with_near_ones() {
    let mut world = world();
    world.put(PODS, &pod("web-7d9c-x2x4q", "kracr.azurecr.io/web:1"));
    for (arguments, why) in [
        (
            &["pod/web-7d9c-x2x4p"][..],
            "there is no pod 'web-7d9c-x2x4p' in namespace 'shop'; did you mean 'web-7d9c-x2x4q'?",
        ),
        (
            &["kracr.azurecr.io/web:1", "-n", "shopp"],
            "there is no namespace 'shopp'; did you mean 'shop'?",
        ),
    ] {
        let ran = explain(world.clone(), arguments);
        assert_eq!(
            (ran.code, ran.out.as_str(), ran.err),
            (2, "", format!("error: {why}\n"))
        );
    }
    let typo = "kracr.azurcr.io/web:1";
    let (_, document) = document(world, typo);
    let note = document["images"][0]["notes"][0].as_str().unwrap();
    assert!(note.ends_with("; did you mean 'kracr.azurecr.io'?"), "{note}");
}

#[test]
fn what_may_not_be_read_is_named_and_the_rest_is_told() {
    let mut world = world();
    world.answer(CONFIG_MAPS, forbidden("configmaps"));
    world.answer(DEPLOYMENTS, forbidden("deployments"));
    world.answer(&format!("{NAMESPACES}/shop"), forbidden("namespaces"));
    let ran = explain(world.clone(), &["kracr.azurecr.io/web:1"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    for what in [
        "can't read configmaps in catamaran-system (the evidence of mirror 'apps'): configmaps is forbidden: User \"kev\" cannot list",
        "can't read the operator's deployments in catamaran-system",
        "can't read namespace 'shop' (its labels; it is taken to have none)",
        "Unverified applies",
    ] {
        assert!(squeezed(&ran.out).contains(what), "{what}: {}", ran.out);
    }
    world.answer(MIRRORS, forbidden("registrymirrors"));
    let ran = explain(world, &["kracr.azurecr.io/web:1"]);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert!(ran.err.contains("cannot list resource \"registrymirrors\""), "{ran:?}");
}

#[test]
fn flip_that_no_status_says_yet_is_in_force() {
    let mut world = World::new(&mirror("apps", "Primary"), &[("web", "1", IN_SYNC)]);
    assert_eq!(
        applied(&document(world.clone(), "kracr.azurecr.io/web:1").1),
        ["OnActive"]
    );
    let uid = mirror("apps", "Primary")["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    let flips = json!({uid: {"active": "Fallback", "epoch": 99}});
    let stored = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"flips": flips.to_string()},
        "metadata": {"name": "catamaran-flips", "labels": {"catamaran.dev/flips": ""}},
    });
    world.put(CONFIG_MAPS, &stored);
    let (_, document) = document(world, "kracr.azurecr.io/web:1");
    assert_eq!(applied(&document), ["Rewritten"]);
}

#[test]
fn damaged_evidence_is_named() {
    let mut world = world();
    let mut damaged = crate::objects::evidence(&mirror("apps", "Fallback"), &[]);
    damaged["binaryData"]["evidence"] = json!("AAAA");
    world.put(CONFIG_MAPS, &damaged);
    let (code, document) = document(world, "kracr.azurecr.io/web:1");
    assert_eq!((code, applied(&document)), (2, vec!["Unverified"]));
    let why = document["unread"][0]["why"].as_str().unwrap();
    assert!(
        why.starts_with("catamaran-evidence-apps-0x0: failed to read the evidence"),
        "{why}"
    );
}

#[test]
fn suspended_mirror_and_one_of_other_namespaces_are_named() {
    let mut suspended = mirror("apps", "Fallback");
    suspended["spec"]["suspend"] = json!(true);
    let mut elsewhere = mirror("elsewhere", "Primary");
    elsewhere["spec"]["namespaceSelector"] = json!({"matchLabels": {"team": "b"}});
    let mut world = World::new(&suspended, &[]);
    world.put(MIRRORS, &elsewhere);
    let (code, document) = document(world, "kracr.azurecr.io/web:1");
    assert_eq!((code, applied(&document)), (0, vec!["NoMirror"]));
    let expected = json!([
        "mirror 'elsewhere' has this image, but its namespaceSelector does not select namespace 'shop'",
        "mirror 'apps' has this image but is suspended (spec.suspend)",
    ]);
    assert_eq!(document["images"][0]["notes"], expected);
}

#[test]
fn invalid_mirror_is_named_and_another_that_matches_too() {
    let mut world = world();
    let mut invalid = mirror("invalid", "Primary");
    invalid["spec"]["primary"]["registry"] = json!("https://kracr.azurecr.io");
    world.put(MIRRORS, &invalid);
    let mut younger = mirror("younger", "Primary");
    younger["metadata"]["creationTimestamp"] = json!("2026-11-02T00:00:00Z");
    world.put(MIRRORS, &younger);
    let (code, document) = document(world, "kracr.azurecr.io/web:1");
    assert_eq!((code, applied(&document)), (2, vec!["Rewritten"]));
    assert_eq!(document["images"][0]["mirror"]["name"], "apps");
    assert_eq!(document["unread"][0]["what"], "the spec of mirror 'invalid'");
    let note = document["images"][0]["notes"][0].as_str().unwrap();
    assert!(note.starts_with("mirror 'younger' has this image too"), "{note}");
}

#[test]
fn excluded_namespaces_are_read_from_the_operators_arguments() {
    let mut world = world();
    world.put(NAMESPACES, &namespace("excluded", &json!({})));
    let ran = explain(world, &["kracr.azurecr.io/web:1", "-n", "excluded", "-o", "json"]);
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(outcome(&document)[..2], ["Kept", "ExcludedNamespace"]);
}

#[test]
fn evidence_of_matching_mirrors_only_is_read() {
    let mut world = world();
    let mut elsewhere = mirror("elsewhere", "Primary");
    elsewhere["spec"]["primary"]["registry"] = json!("other.example");
    elsewhere["spec"]["fallback"]["registry"] = json!("another.example");
    world.put(MIRRORS, &elsewhere);
    let server = ApiServer::start(move |asked| world.get(asked));
    let ran = server.run(&["explain", "kracr.azurecr.io/web:1"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let asked = server.asked();
    assert!(asked.iter().all(|asked| asked.method == "GET"), "{asked:?}");
    let of_evidence = asked
        .iter()
        .filter(|asked| asked.path == CONFIG_MAPS && asked.query.contains("evidence"));
    let queries: Vec<_> = of_evidence
        .map(|asked| asked.query.contains("evidence%3Dapps"))
        .collect();
    assert_eq!(queries, [true], "{asked:?}");
}

#[test]
fn cluster_that_does_not_answer_is_named() {
    let home = kubeconfig("http://127.0.0.1:1");
    let ran = catamaran(home.path(), &["explain", "kracr.azurecr.io/web:1"]);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert!(
        ran.err
            .starts_with("error: failed to reach the API server at http://127.0.0.1:1"),
        "{ran:?}"
    );
}
