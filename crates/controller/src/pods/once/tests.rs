//! What is read of pods and workloads.

use serde_json::{Value, json};

use super::*;

fn pod(value: Value) -> Subject {
    serde_json::from_value(value).unwrap()
}

fn workload(value: Value, kind: &str) -> Option<Subject> {
    let workload = serde_json::from_value(value).unwrap();
    let Workloads { kind, owner, .. } = WORKLOADS.into_iter().find(|it| it.kind == kind)?;
    Subject::of_workload(workload, kind, owner)
}

#[test]
fn pod_has_its_images_with_what_they_were_at_admission() {
    let pod = pod(json!({
        "metadata": {
            "name": "web-0", "namespace": "shop", "labels": {"app": "web"},
            "annotations": {"catamaran.dev/original-images": "{\"web\":\"kracr.azurecr.io/web:1\"}"},
        },
        "spec": {
            "containers": [{"name": "web", "image": "ghcr.io/devopskev/web:1"}],
            "initContainers": [{"name": "init", "image": "kracr.azurecr.io/init:1", "imagePullPolicy": "Never"}],
            "ephemeralContainers": [{"name": "debug", "image": "kracr.azurecr.io/debug:1"}],
            "volumes": [{"name": "data", "image": {"reference": "kracr.azurecr.io/data:1"}}],
            "imagePullSecrets": [{"name": "ghcr-pull"}],
        },
    }));
    let images: Vec<_> = pod
        .images()
        .map(|it| (it.container, it.image, it.original, it.pull_policy_never))
        .collect();
    assert_eq!(
        images,
        [
            ("init", "kracr.azurecr.io/init:1", None, true),
            ("web", "ghcr.io/devopskev/web:1", Some("kracr.azurecr.io/web:1"), false),
            ("debug", "kracr.azurecr.io/debug:1", None, false),
            ("image volume", "kracr.azurecr.io/data:1", None, false),
        ]
    );
    assert_eq!(pod.images().filter(|it| it.is_ephemeral).count(), 1);
    assert_eq!(pod.pull_secrets().collect::<Vec<_>>(), ["ghcr-pull"]);
    assert_eq!(
        (pod.kind, pod.service_account.as_str(), pod.is_controlled()),
        ("Pod", "default", false)
    );
    let labels = pod.labels();
    assert_eq!(pod.facts(&labels).label("app"), Some("web"));
}

#[test]
fn template_is_a_pod_of_its_owner_also_where_no_pod_runs() {
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {
        "serviceAccountName": "shop", "containers": [{"name": "web", "image": "kracr.azurecr.io/web:1"}],
    }});
    let named = json!({"name": "web", "namespace": "shop"});
    let idle = json!({"metadata": named, "spec": {"replicas": 0, "template": template}});
    let found = workload(idle, "Deployment").unwrap();
    assert_eq!(
        (found.kind, found.name.as_str(), found.is_idle),
        ("Deployment", "web", true)
    );
    assert_eq!(found.service_account, "shop");
    let labels = found.labels();
    assert_eq!(found.facts(&labels).owner.unwrap().kind, "ReplicaSet");
    let suspended =
        json!({"metadata": named, "spec": {"suspend": true, "jobTemplate": {"spec": {"template": template}}}});
    let found = workload(suspended, "CronJob").unwrap();
    assert_eq!((found.is_idle, found.images().count()), (true, 1));
    let complete = json!({"metadata": named, "spec": {"template": template},
        "status": {"conditions": [{"type": "Complete", "status": "True"}]}});
    assert!(workload(complete, "Job").is_none());
}

#[test]
fn collections_are_asked_for_in_all_namespaces_or_in_one() {
    let paths: Vec<String> = collections().map(|it| it.path_in(None)).collect();
    assert_eq!(paths.first().map(String::as_str), Some("/apis/apps/v1/deployments"));
    assert_eq!(paths.last().map(String::as_str), Some("/api/v1/pods"));
    let pods = collections().last().unwrap();
    assert_eq!(
        (pods.name, pods.path_in(Some("shop"))),
        ("pods", "/api/v1/namespaces/shop/pods".to_owned())
    );
}
