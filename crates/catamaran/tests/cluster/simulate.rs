//! `catamaran simulate --primary-down`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::apiserver::{ApiServer, forbidden, list};
use crate::objects::{IN_SYNC, MIRRORS, NAMESPACES, World, differs, mirror, namespace, only_primary, pod};
use crate::support::Ran;

const DEPLOYMENTS: &str = "/apis/apps/v1/deployments";
const CRON_JOBS: &str = "/apis/batch/v1/cronjobs";
const PODS: &str = "/api/v1/pods";
const SECRETS: &str = "/api/v1/namespaces/shop/secrets";
const ACCOUNTS: &str = "/api/v1/namespaces/shop/serviceaccounts";

fn pull_secret(name: &str, host: &str) -> Value {
    let config = STANDARD.encode(json!({"auths": {host: {"auth": "eDp5"}}}).to_string());
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "shop"},
        "type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": config}})
}

fn account(name: &str, secrets: &[&str]) -> Value {
    let secrets: Vec<Value> = secrets.iter().map(|name| json!({"name": name})).collect();
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}, "imagePullSecrets": secrets})
}

fn template(image: &str) -> Value {
    json!({"spec": {"containers": [{"name": "app", "image": image}]}})
}

fn deployment(name: &str, image: &str, replicas: u32) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {"replicas": replicas, "template": template(image)}})
}

/// A cluster in which the primary serves, with a pull secret for the fallback in the namespace `shop`.
fn world() -> World {
    let records = [
        ("web", "1", IN_SYNC),
        ("web", "2", only_primary()),
        ("api", "1", differs()),
    ];
    let mut world = World::new(&mirror("apps", "Primary"), &records);
    world.put(SECRETS, &pull_secret("ghcr-pull", "ghcr.io"));
    world.put(ACCOUNTS, &account("default", &[]));
    world
}

fn simulate(world: World, arguments: &[&str]) -> Ran {
    let server = ApiServer::start(move |asked| world.get(asked));
    server.run(&[&["simulate", "--primary-down"], arguments].concat())
}

/// The exit code, and each image as workload, verdict and reason.
fn findings(world: World) -> (i32, Vec<String>) {
    let ran = simulate(world, &["-o", "json"]);
    let document: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    let images = document["images"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let line = |found: &Value| {
        ["kind", "name", "verdict", "reason"]
            .map(|field| text(&found[field]))
            .join(" ")
    };
    (ran.code, images.map(line).collect())
}

#[test]
fn workload_starts_where_the_fallback_has_its_image() {
    let mut world = world();
    world.put(DEPLOYMENTS, &deployment("web", "kracr.azurecr.io/web:1", 2));
    world.put(DEPLOYMENTS, &deployment("direct", "ghcr.io/devopskev/web:1", 1));
    world.put(DEPLOYMENTS, &deployment("foreign", "quay.io/other:1", 1));
    let (code, found) = findings(world);
    let expected = [
        "Deployment direct WouldStart Present",
        "Deployment web WouldStart Present",
    ];
    assert_eq!((code, found), (0, expected.map(str::to_owned).to_vec()));
}

#[test]
fn each_reason_not_to_start_is_told_with_what_to_do() {
    let mut world = world();
    world.put(DEPLOYMENTS, &deployment("missing", "kracr.azurecr.io/web:2", 0));
    world.put(DEPLOYMENTS, &deployment("unequal", "kracr.azurecr.io/api:1", 1));
    world.put(DEPLOYMENTS, &deployment("unverified", "kracr.azurecr.io/api:9", 1));
    let mut never = deployment("never", "kracr.azurecr.io/web:1", 1);
    never["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = json!("Never");
    world.put(DEPLOYMENTS, &never);
    let mut excluded = deployment("excluded", "kracr.azurecr.io/web:1", 1);
    excluded["spec"]["template"]["metadata"] = json!({"labels": {"catamaran.dev/rewrite": "disabled"}});
    world.put(DEPLOYMENTS, &excluded);
    let mut fixed = pod("kube", "kracr.azurecr.io/web:1");
    fixed["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    world.put(PODS, &fixed);
    let (code, found) = findings(world.clone());
    assert_eq!(code, 1);
    let expected = [
        "Deployment excluded WouldNotStart ExcludedByPodLabel",
        "Deployment missing WouldNotStart MissingOnActive",
        "Deployment unequal WouldNotStart DigestMismatch",
        "Pod kube WouldNotStart ExcludedStaticPod",
        "Deployment never Unknown PullPolicyNever",
        "Deployment unverified Unknown Unverified",
    ];
    assert_eq!(found, expected);
    let ran = simulate(world, &[]);
    let squeezed = ran.out.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in [
        "would not start shop Deployment/missing (idle) app kracr.azurecr.io/web:2 MissingOnActive: the active side does not have it \
            push it to the fallback too, or set repair.missingTags: Copy",
        "with the primary down, of 6 images 0 would start, 4 would not, 2 unknown",
    ] {
        assert!(squeezed.contains(words), "{words}: {}", ran.out);
    }
}

#[test]
fn pod_of_a_template_is_left_out_but_for_injected_images() {
    let mut world = world();
    world.put(DEPLOYMENTS, &deployment("web", "kracr.azurecr.io/web:1", 1));
    let mut controlled = pod("web-x", "kracr.azurecr.io/web:1");
    controlled["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "uid": "rs", "controller": true}]);
    let sidecar = json!({"name": "sidecar", "image": "kracr.azurecr.io/web:2"});
    controlled["spec"]["containers"].as_array_mut().unwrap().push(sidecar);
    world.put(PODS, &controlled);
    let job = json!({"metadata": {"name": "nightly", "namespace": "shop"},
        "spec": {"suspend": true, "jobTemplate": {"spec": {"template": template("kracr.azurecr.io/web:1")}}}});
    world.put(CRON_JOBS, &job);
    let (code, found) = findings(world);
    let expected = [
        "Pod web-x WouldNotStart MissingOnActive",
        "CronJob nightly WouldStart Present",
        "Deployment web WouldStart Present",
    ];
    assert_eq!((code, found), (1, expected.map(str::to_owned).to_vec()));
}

#[test]
fn pull_secret_is_of_the_namespace_or_service_account() {
    let mut world = world();
    world.put(DEPLOYMENTS, &deployment("web", "kracr.azurecr.io/web:1", 1));
    // One of the right name for another host is none.
    world.put(SECRETS, &pull_secret("ghcr-pull", "other.example"));
    let (code, found) = findings(world.clone());
    assert_eq!(
        (code, found[0].as_str()),
        (1, "Deployment web WouldNotStart PullSecretMissing")
    );
    world.put(SECRETS, &pull_secret("own", "ghcr.io"));
    world.put(ACCOUNTS, &account("default", &["own"]));
    assert_eq!(findings(world.clone()).0, 0);
    world.answer(&format!("{SECRETS}/ghcr-pull"), forbidden("secrets"));
    world.answer(&format!("{SECRETS}/own"), forbidden("secrets"));
    let (code, found) = findings(world);
    assert_eq!((code, found[0].as_str()), (2, "Deployment web Unknown SecretsNotRead"));
}

#[test]
fn what_may_not_be_listed_is_named_and_the_rest_is_told() {
    let mut world = world();
    world.put(DEPLOYMENTS, &deployment("web", "kracr.azurecr.io/web:1", 1));
    world.answer(CRON_JOBS, forbidden("cronjobs"));
    world.answer(NAMESPACES, forbidden("namespaces"));
    let ran = simulate(world, &[]);
    assert_eq!(ran.code, 2, "{ran:?}");
    for words in [
        "can't read cronjobs: ",
        "can't read namespaces (their labels",
        "would start",
    ] {
        assert!(ran.out.contains(words), "{words}: {}", ran.out);
    }
}

#[test]
fn pinned_primary_keeps_everything_on_it() {
    let mut pinned = mirror("apps", "Primary");
    pinned["spec"]["active"] = json!("Primary");
    let mut world = World::new(&pinned, &[("web", "1", IN_SYNC)]);
    world.put(DEPLOYMENTS, &deployment("web", "kracr.azurecr.io/web:1", 1));
    let (code, found) = findings(world);
    assert_eq!((code, found[0].as_str()), (1, "Deployment web WouldNotStart Pinned"));
}

#[test]
fn mirror_that_is_missing_suspended_or_none_is_refused() {
    let mut suspended = mirror("apps", "Primary");
    suspended["spec"]["suspend"] = json!(true);
    let refused = World::new(&suspended, &[]);
    let mut both = refused.clone();
    both.put(MIRRORS, &mirror("other", "Primary"));
    for (world, arguments, why) in [
        (
            both.clone(),
            &["app"][..],
            "there is no RegistryMirror 'app'; did you mean 'apps'?",
        ),
        (both, &["apps"], "mirror 'apps' is suspended"),
        (refused, &[], "no mirror that is valid and not suspended"),
    ] {
        let ran = simulate(world, arguments);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""));
        assert!(ran.err.contains(why), "{why}: {ran:?}");
    }
}

#[test]
fn lists_are_read_to_their_last_page() {
    let mut world = world();
    world.put(NAMESPACES, &namespace("excluded", &json!({})));
    let server = ApiServer::start(move |asked| {
        if asked.path != DEPLOYMENTS {
            return world.get(asked);
        }
        assert!(asked.query.contains("limit="), "{asked:?}");
        let is_second = asked.query.contains("continue=more");
        let name = if is_second { "second" } else { "first" };
        let (code, mut page) = list(&[deployment(name, "kracr.azurecr.io/web:1", 1)]);
        page["metadata"]["continue"] = json!(if is_second { "" } else { "more" });
        (code, page)
    });
    let ran = server.run(&["simulate", "--primary-down", "apps"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.out.contains("Deployment/first") && ran.out.contains("Deployment/second"),
        "{ran:?}"
    );
    let none = server.run(&["simulate"]);
    assert!(none.code == 2 && none.err.contains("--primary-down"), "{none:?}");
}

#[test]
fn reader_that_leaves_early_is_no_failure() {
    let mut world = world();
    world.put(DEPLOYMENTS, &deployment("web", "kracr.azurecr.io/web:1", 1));
    let server = ApiServer::start(move |asked| world.get(asked));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ran = std::process::Command::new(env!("CARGO_BIN_EXE_catamaran"))
        .args(["simulate", "--primary-down"])
        .env_clear()
        .env("HOME", server.home.path())
        .stdout(writer)
        .stderr(std::process::Stdio::piped())
        .output()
        .unwrap();
    assert_eq!((ran.status.code(), ran.stderr.as_slice()), (Some(0), &b""[..]));
}
