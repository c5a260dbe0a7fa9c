//! What is refused and what is not.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use catamaran_cluster::Registry;
use catamaran_e2e::Case;
use catamaran_e2e::manifests::pod;
use serde_json::{Value, json};

use super::attempt::Attempt;
use super::objects::{certificate, changed, config_map, lease, minted, proof_pod, secret, webhook_configuration};
use super::{HOME, MISSING, NAME};

pub(super) type Forbidden = (&'static str, Attempt, &'static str);

pub(super) fn forbidden(case: &Case<'_>) -> Vec<Forbidden> {
    let mut all = forbidden_secrets();
    all.extend(forbidden_patches(case));
    all.extend(forbidden_pods(case));
    all.extend(forbidden_objects());
    all.extend(forbidden_webhooks());
    all
}

fn forbidden_secrets() -> Vec<Forbidden> {
    let words = "the operator writes no other Secrets";
    let token = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "token", "annotations": {"kubernetes.io/service-account.name": "default"}},
    });
    let overwritten = json!({"metadata": {"labels": minted("ghcr-pull")["metadata"]["labels"]}});
    vec![
        ("a token of a service account", Attempt::create(&token), words),
        (
            "any Secret",
            Attempt::create(&secret("any", "Opaque", &json!({"a": "b"}))),
            words,
        ),
        (
            "a certificate of another type",
            Attempt::create(&certificate("Opaque")).within(HOME),
            words,
        ),
        (
            "a pull secret of another name",
            Attempt::create(&minted("other-pull")),
            words,
        ),
        (
            "a pull secret elsewhere",
            Attempt::create(&minted("acr-pull")).within("default"),
            words,
        ),
        (
            "another's pull secret overwritten over",
            Attempt::patch("secret/ghcr-pull", &overwritten),
            words,
        ),
        (
            "another's pull secret deleted",
            Attempt::delete("secret/ghcr-pull"),
            words,
        ),
    ]
}

fn image_of(container: &str) -> Value {
    json!({"spec": {"containers": [{"name": "app", "image": container}]}})
}

fn forbidden_patches(case: &Case<'_>) -> Vec<Forbidden> {
    let metadata = |field: &str, value: Value| json!({"metadata": {field: value}});
    let label = metadata("labels", json!({"app": "other"}));
    let finalizer = metadata("finalizers", json!(["example.com/never"]));
    let annotation = metadata("annotations", json!({"example.com/note": "one"}));
    let deadline = json!({"spec": {"activeDeadlineSeconds": 5}});
    let running = image_of(&case.image(Registry::Ghcr, "v1"));
    let status = json!({"status": {"message": "x"}});
    let elsewhere = Attempt::patch(&format!("pod/{}", case.name), &image_of("other.invalid/path/web:v1"));
    vec![
        (
            "a label of a pod",
            Attempt::patch("pod/waits", &label),
            "only images and its own annotations",
        ),
        (
            "a finalizer of a pod",
            Attempt::patch("pod/waits", &finalizer),
            "only images and its own",
        ),
        (
            "a deadline of a pod",
            Attempt::patch("pod/waits", &deadline),
            "only images and its own",
        ),
        (
            "an annotation of others",
            Attempt::patch("pod/waits", &annotation),
            "only its own annotations",
        ),
        (
            "an image with another tag",
            Attempt::patch("pod/waits", &image_of("registry.invalid/team/web:v2")),
            "the same tag and digest",
        ),
        (
            "the image of a running container",
            Attempt::patch("pod/runs", &running),
            "of a container that runs",
        ),
        (
            "a pod of the operator's namespace",
            elsewhere.within(HOME),
            "leaves the pods of this namespace alone",
        ),
        (
            "a pod's status",
            Attempt::status("pod/waits", &status),
            "no subresource of pods",
        ),
        (
            "a command in a pod",
            Attempt::of(&["exec", "runs", "--", "true"]),
            "no subresource of pods",
        ),
    ]
}

fn forbidden_pods(case: &Case<'_>) -> Vec<Forbidden> {
    let proof = || proof_pod(case);
    let created = "the operator creates no other pods";
    let deleted = "the operator deletes no other pods";
    let volume = json!([{"name": "host", "hostPath": {"path": "/"}}]);
    let container = |field: &str, value: Value| changed(proof(), &format!("/spec/containers/0/{field}"), value);
    vec![
        ("a pod", Attempt::create(&pod("other", MISSING)), created),
        (
            "a proof pod elsewhere",
            Attempt::create(&proof()).within("kube-public"),
            created,
        ),
        (
            "one with a volume",
            Attempt::create(&changed(proof(), "/spec/volumes", volume)),
            created,
        ),
        (
            "one in the node's network",
            Attempt::create(&changed(proof(), "/spec/hostNetwork", json!(true))),
            created,
        ),
        (
            "one with a token",
            Attempt::create(&changed(proof(), "/spec/automountServiceAccountToken", json!(true))),
            created,
        ),
        (
            "one that runs something",
            Attempt::create(&container("command", json!(["sh"]))),
            created,
        ),
        (
            "one with privileges",
            Attempt::create(&container("securityContext", json!({"privileged": true}))),
            created,
        ),
        ("a running pod deleted", Attempt::delete("pod/runs"), deleted),
        (
            "a pod deleted that nothing replaces",
            Attempt::delete("pod/waits"),
            deleted,
        ),
    ]
}

fn forbidden_objects() -> Vec<Forbidden> {
    let (config_maps, leases) = ("writes no other ConfigMaps", "writes no other Leases");
    let changed = json!({"data": {"a": "c"}});
    let replica = format!("{NAME}-7d9c-x");
    vec![
        (
            "a ConfigMap",
            Attempt::create(&config_map("other")).within(HOME),
            config_maps,
        ),
        (
            "evidence elsewhere",
            Attempt::create(&config_map("catamaran-flips")),
            config_maps,
        ),
        (
            "a ConfigMap of others",
            Attempt::patch("configmap/settings", &changed).within(HOME),
            config_maps,
        ),
        (
            "a ConfigMap of others deleted",
            Attempt::delete("configmap/settings").within(HOME),
            config_maps,
        ),
        (
            "a Lease",
            Attempt::create(&lease("other", &json!({}))).within(HOME),
            leases,
        ),
        (
            "a Lease like a replica's",
            Attempt::create(&lease(&replica, &json!({}))).within(HOME),
            leases,
        ),
    ]
}

fn forbidden_webhooks() -> Vec<Forbidden> {
    let words = "only caBundle, and only of its own";
    let own = format!("mutatingwebhookconfiguration/{NAME}");
    let webhook = |change: Value| {
        let webhook = changed(
            json!({"webhooks": [change]}),
            "/webhooks/0/name",
            json!("pods.catamaran.dev"),
        );
        Attempt::patch(&own, &webhook)
    };
    let service = json!({"clientConfig": {"service": {"name": "other"}}});
    let bundle = json!({"webhooks": [{"name": "pods.catamaran.dev", "clientConfig": {"caBundle": ""}}]});
    let rules = json!({"rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"], "operations": ["CREATE"]}]});
    let other = changed(webhook_configuration(), "/metadata/name", json!("other"));
    vec![
        (
            "the webhook's failurePolicy",
            webhook(json!({"failurePolicy": "Fail"})),
            words,
        ),
        ("the webhook's service", webhook(service), words),
        ("the webhook's rules", webhook(rules), words),
        ("the webhook's time-out", webhook(json!({"timeoutSeconds": 30})), words),
        ("another webhook configuration", Attempt::create(&other), words),
        (
            "one of others",
            Attempt::patch("mutatingwebhookconfiguration/catamaran", &bundle),
            words,
        ),
        ("its own webhook configuration deleted", Attempt::delete(&own), words),
    ]
}

pub(super) fn allowed(case: &Case<'_>) -> Vec<(&'static str, Attempt)> {
    let rescued = json!({
        "metadata": {"annotations": {"catamaran.dev/rescued-images": "{}", "catamaran.dev/rescued-epoch": "{}"}},
        "spec": {"containers": [{"name": "app", "image": "other.invalid/path/web:v1"}]},
    });
    let renewed = json!({"metadata": {"annotations": {"catamaran.dev/minted": "now"}}});
    let replica = lease(&format!("{NAME}-7d9c-x"), &json!({"catamaran.dev/replica-of": NAME}));
    let bundle = BASE64_STANDARD.encode(case.ground.cluster.ca_pem());
    let bundle = json!({"webhooks": [{"name": "pods.catamaran.dev", "clientConfig": {"caBundle": bundle}}]});
    vec![
        (
            "its certificate",
            Attempt::create(&certificate("kubernetes.io/tls")).within(HOME),
        ),
        ("a minted pull secret", Attempt::create(&minted("new-pull"))),
        (
            "a minted pull secret renewed",
            Attempt::patch("secret/acr-pull", &renewed),
        ),
        ("a minted pull secret deleted", Attempt::delete("secret/acr-pull")),
        ("a waiting container re-pointed", Attempt::patch("pod/waits", &rescued)),
        ("a proof pod", Attempt::create(&proof_pod(case))),
        ("a proof pod deleted", Attempt::delete("pod/proof")),
        (
            "evidence",
            Attempt::create(&config_map("catamaran-evidence-apps-1")).within(HOME),
        ),
        (
            "evidence changed",
            Attempt::patch("configmap/catamaran-evidence-apps-0", &json!({"data": {"a": "c"}})).within(HOME),
        ),
        (
            "evidence deleted",
            Attempt::delete("configmap/catamaran-evidence-apps-0").within(HOME),
        ),
        (
            "flips of many mirrors",
            Attempt::create(&config_map("catamaran-flips")).within(HOME),
        ),
        ("the Lease", Attempt::create(&lease(NAME, &json!({}))).within(HOME)),
        ("a replica's Lease", Attempt::create(&replica).within(HOME)),
        (
            "caBundle",
            Attempt::patch(&format!("mutatingwebhookconfiguration/{NAME}"), &bundle),
        ),
    ]
}
