//! What a user applies, as JSON, which `kubectl apply` takes as it takes YAML.

use catamaran_cluster::Registry;
use serde_json::{Value, json};

/// The Secret in the operator's namespace with the CA of the two registries.
pub const CA_SECRET: &str = "registries-ca";

/// The Secret in the operator's namespace with what registries prove themselves by when they notify it.
pub const NOTIFICATIONS_SECRET: &str = "catamaran-notifications";

/// What stands in it.
pub const NOTIFICATIONS_KEY: &str = "a-secret-of-the-tests-alone";

/// The path in front of every repository at ghcr.io.
pub const ORGANISATION: &str = "devopskev";

/// The annotations of a Secret whose user and password are for both registries.
pub fn for_registries() -> Value {
    json!({"catamaran.dev/registry-host": Registry::ALL.map(Registry::host).join(",")})
}

/// The image of a repository on one side, by the mirror's naming.
pub fn image(on: Registry, repository: &str, tag: &str) -> String {
    format!("{}/{}:{tag}", on.host(), path(on, repository))
}

/// The path of a repository on one side, by the mirror's naming.
pub fn path(on: Registry, repository: &str) -> String {
    match on {
        Registry::Acr => repository.to_owned(),
        Registry::Ghcr => format!("{ORGANISATION}/{repository}"),
    }
}

/// A mirror of `kracr.azurecr.io` and `ghcr.io/devopskev` that verifies these repositories, as often as is allowed.
pub fn mirror(name: &str, repositories: &[&str]) -> Value {
    let repositories: Vec<Value> = repositories
        .iter()
        .map(|repository| json!({"name": repository}))
        .collect();
    json!({
        "apiVersion": "catamaran.dev/v1alpha1",
        "kind": "RegistryMirror",
        "metadata": {"name": name},
        "spec": {
            "primary": {"registry": Registry::Acr.host(), "certSecretRef": {"name": CA_SECRET}},
            "fallback": {
                "registry": Registry::Ghcr.host(), "prefix": ORGANISATION, "provider": "github",
                "certSecretRef": {"name": CA_SECRET},
            },
            "repositories": repositories,
            "failback": {"stableSeconds": 60},
            "parity": {"interval": "10s", "gracePeriod": "10s"},
        },
    })
}

/// A pod with one container, `app`, that ends at once when it is told to.
pub fn pod(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": pod_spec(image),
    })
}

fn pod_spec(image: &str) -> Value {
    json!({"terminationGracePeriodSeconds": 0, "containers": [{"name": "app", "image": image}]})
}

/// A Deployment of such pods, labelled with its name.
pub fn deployment(name: &str, image: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod_spec(image)},
        },
    })
}
