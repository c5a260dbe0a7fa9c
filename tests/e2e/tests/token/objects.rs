//! What the operator writes, and what it does not.

use catamaran_cluster::Registry;
use catamaran_e2e::Case;
use serde_json::{Value, json};

use super::NAME;

/// One that is asked about nothing.
pub(super) fn webhook_configuration() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": NAME, "labels": {"team": "platform"}},
        "webhooks": [{
            "name": "pods.catamaran.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Ignore",
            "clientConfig": {"service": {"name": NAME, "namespace": "default", "path": "/mutate", "port": 443}},
            "rules": [{"apiGroups": ["none.example.com"], "apiVersions": ["v1"], "resources": ["none"], "operations": ["CREATE"]}],
        }],
    })
}

pub(super) fn pull_secret(name: &str) -> Value {
    let config = json!({"auths": {"kracr.azurecr.io": {"username": "bot", "password": "hush"}}}).to_string();
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": name}, "stringData": {".dockerconfigjson": config},
    })
}

pub(super) fn minted(name: &str) -> Value {
    let mut secret = pull_secret(name);
    secret["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "catamaran", "catamaran.dev/mirror": "apps"});
    secret
}

pub(super) fn secret(name: &str, kind: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": {"name": name}, "stringData": data})
}

pub(super) fn certificate(kind: &str) -> Value {
    let name = format!("{NAME}-webhook-tls");
    secret(&name, kind, &json!({"tls.crt": "certificate", "tls.key": "key"}))
}

pub(super) fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}})
}

pub(super) fn lease(name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name, "labels": labels}})
}

pub(super) fn proof_pod(case: &Case<'_>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "catamaran-proof-apps-",
            "labels": {"app.kubernetes.io/managed-by": "catamaran", "catamaran.dev/proof": "apps"},
        },
        "spec": {
            "automountServiceAccountToken": false, "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65534},
            "containers": [{
                "name": "image-0", "image": case.image(Registry::Ghcr, "v1"), "command": ["/catamaran-proof/never-runs"],
                "securityContext": {"allowPrivilegeEscalation": false},
            }],
        },
    })
}

pub(super) fn changed(mut object: Value, pointer: &str, value: Value) -> Value {
    if let Some((parent, key)) = pointer.rsplit_once('/') {
        object.pointer_mut(parent).unwrap_or(&mut Value::Null)[key] = value;
    }
    object
}
