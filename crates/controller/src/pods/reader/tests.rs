use catamaran_api::annotations;
use catamaran_core::pod::message::PullFailure;
use catamaran_core::rescue::{FailedImage, FailedPull, Replacement};
use catamaran_core::side::Side;
use serde_json::{Value, json};

use super::super::scope::Scope;
use super::super::testing::{apps, table, waiting_pod};
use super::*;

fn read(pod: Value) -> PodRecord {
    serde_json::from_value::<PodObject>(pod).unwrap().record
}

fn scope() -> Scope {
    Scope::new(&table(&apps("Patch"), Side::Fallback))
}

fn states(pod: &PodRecord) -> Vec<ContainerState> {
    let labels = pod.labels();
    let waiting = pod.waiting(&labels, Replacement::Possible);
    waiting.containers.iter().map(|container| container.state).collect()
}

#[test]
fn pod_is_read_with_absent_and_null_fields() {
    let bare = json!({"metadata": {"name": "web", "namespace": "shop"}});
    assert_eq!(&*read(bare).name, "web");
    let nulls = json!({
        "metadata": {"name": "web", "labels": null, "annotations": null, "ownerReferences": null},
        "spec": {"containers": [{"name": "web", "image": null}], "initContainers": null, "volumes": null,
                 "imagePullSecrets": [{}], "schedulingGates": null},
        "status": {"containerStatuses": null, "conditions": null}
    });
    let record = read(nulls);
    assert_eq!(
        (record.containers.len(), record.has_annotations, record.stage),
        (0, false, Stage::Unplaced)
    );
}

#[test]
fn owner_is_the_one_that_admission_goes_by() {
    let owner = |kind: &str, controller: bool| json!({"apiVersion": "v1", "kind": kind, "name": "x", "uid": kind, "controller": controller});
    let cases = [
        (json!([owner("Service", false)]), Some(("Service", None))),
        (
            json!([owner("Service", false), owner("Pod", true)]),
            Some(("Pod", Some("Pod"))),
        ),
        (json!([owner("A", false), owner("B", false)]), Some(("A", None))),
        (json!([]), None),
    ];
    for (owners, expected) in cases {
        let record = read(json!({"metadata": {"ownerReferences": owners}}));
        let kind = record
            .owner
            .as_ref()
            .map(|owner| (&*owner.kind, record.controller_uid()));
        assert_eq!(kind, expected, "{owners}");
        let labels = record.labels();
        let is_controlled = record.waiting(&labels, Replacement::Possible).is_controlled;
        assert_eq!(
            is_controlled,
            expected.is_some_and(|(_, uid)| uid.is_some()),
            "{owners}"
        );
    }
}

#[test]
fn pod_is_placed_when_it_has_a_node_and_no_gate() {
    let unscheduled = json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]);
    let cases = [
        (json!({"nodeName": "node-1"}), json!([]), true),
        (json!({}), json!([]), false),
        (json!({"nodeName": ""}), json!([]), false),
        (
            json!({"nodeName": "node-1", "schedulingGates": [{"name": "kueue"}]}),
            json!([]),
            false,
        ),
        (json!({}), unscheduled.clone(), false),
        (json!({"nodeName": "node-1"}), unscheduled, false),
    ];
    for (spec, conditions, placed) in cases {
        let record = read(json!({"spec": spec, "status": {"conditions": conditions}}));
        assert_eq!(record.stage == Stage::Placed, placed, "{spec} {conditions}");
    }
}

#[test]
fn state_of_each_container_is_read_from_its_own_list() {
    let status =
        |name: &str, restarts: u32, state: Value| json!({"name": name, "restartCount": restarts, "state": state});
    let message = "Back-off pulling image \"quay.io/data:1\": ErrImagePull: dial tcp: connection refused";
    let failed = json!({"waiting": {"reason": "ImagePullBackOff", "message": message}});
    let record = read(json!({
        "spec": {
            "initContainers": [{"name": "init", "image": "a"}],
            "containers": [{"name": "web", "image": "b"}, {"name": "side", "image": "c", "imagePullPolicy": "Never"}],
            "ephemeralContainers": [{"name": "debug", "image": "d"}],
            "volumes": [{"name": "data", "image": {"reference": "quay.io/data:1", "pullPolicy": "Never"}}, {"name": "tmp"}],
        },
        "status": {
            "initContainerStatuses": [status("init", 0, json!({"terminated": {"exitCode": 0}}))],
            "containerStatuses": [status("web", 1, failed), status("debug", 0, json!({"running": {}}))],
        }
    }));
    let of_volume = ContainerState::PullFailed(FailedPull {
        image: FailedImage::Volume(0),
        failure: PullFailure::Connection,
        backs_off: true,
    });
    let not_started = ContainerState::NotStarted;
    assert_eq!(
        states(&record),
        [ContainerState::Terminated, of_volume, not_started, not_started]
    );
    let labels = record.labels();
    let waiting = record.waiting(&labels, Replacement::Possible);
    let facts = |at: usize| {
        (
            waiting.containers[at].index,
            waiting.containers[at].pull_policy_never,
            waiting.containers[at].started_before,
        )
    };
    assert_eq!([facts(1), facts(2)], [(0, false, true), (1, true, false)]);
    assert!(waiting.image_volumes[0].pull_policy_never);
    let used = record.used(&labels).images;
    let started: Vec<bool> = used.iter().map(|image| image.started).collect();
    assert_eq!(started, [true, true, false, false, true]);
}

#[test]
fn notes_of_containers_and_volumes_are_found_by_name() {
    let mut pod = waiting_pod("shop", "web-1");
    pod["spec"]["volumes"] = json!([{"name": "data", "image": {"reference": "ghcr.io/devopskev/data:1"}}]);
    pod["metadata"]["annotations"] = json!({
        annotations::ORIGINAL_IMAGES: r#"{"volume/data":"kracr.azurecr.io/data:1"}"#,
        annotations::RESCUED: r#"{"web":"kracr.azurecr.io/web:1","gone":"x"}"#,
        annotations::RESCUED_EPOCH: r#"{"web":"apps@7"}"#,
        "other": "x".repeat(50_000),
    });
    let record = read(pod);
    let labels = record.labels();
    let originals: Vec<_> = record.used(&labels).images.iter().map(|image| image.original).collect();
    assert_eq!(
        originals,
        [Some("kracr.azurecr.io/web:1"), Some("kracr.azurecr.io/data:1")]
    );
    let repointed = record.waiting(&labels, Replacement::Possible).containers[0].repointed;
    assert_eq!(repointed.map(|at| (at.mirror, at.epoch)), Some(("apps", 7)));
    let broken = json!({"metadata": {"annotations": {annotations::RESCUED: "[1]", annotations::RESCUED_EPOCH: "{"}},
        "spec": {"containers": [{"name": "web", "image": "a"}]}});
    assert_eq!(read(broken).containers[0].rescued_from, None);
}

#[test]
fn kept_record_takes_less_than_a_kilobyte_beside_its_images() {
    let mut pod = waiting_pod("a-namespace-of-an-ordinary-length", "payments-5d9f7c6b8d-x2x8q");
    let labels: serde_json::Map<String, Value> = (0..10)
        .map(|label| (format!("app.kubernetes.io/label-{label}"), json!("v".repeat(60))))
        .collect();
    pod["metadata"]["labels"] = labels.into();
    pod["metadata"]["annotations"] = json!({"large": "x".repeat(50_000)});
    pod["metadata"]["uid"] = json!("0b1f7c2e-5d9f-4c6b-8d3a-2e8q7c2e5d9f");
    let container = |name: &str| json!({"name": name, "image": "kracr.azurecr.io/team/service:1.2.3", "env": [{"name": "X", "value": "y".repeat(5_000)}]});
    pod["spec"]["containers"] = json!([container("web"), container("proxy"), container("metrics")]);
    let record = read(pod).keep(&scope()).unwrap();
    assert!(record.labels.is_empty());
    let images: usize = record.images().map(str::len).sum();
    let weight = record.weight() - images;
    assert!(weight <= 1_000, "{weight}");
}

#[test]
fn pod_that_concerns_no_mirror_is_let_go() {
    let with_image = |image: &str| {
        let mut pod = waiting_pod("shop", "web-1");
        pod["spec"]["containers"][0]["image"] = json!(image);
        pod["metadata"]["labels"] = json!({"application": "spilo", "team": "a"});
        read(pod).keep(&scope())
    };
    for image in [
        "nginx",
        "ghcr.io/other/web:1",
        "kracr.azurecr.io.example.com/web:1",
        "auto",
        "no reference",
    ] {
        assert!(with_image(image).is_none(), "{image}");
    }
    for image in ["kracr.azurecr.io/web:1", "ghcr.io/devopskev/web:1"] {
        let kept = with_image(image).unwrap();
        // What decides about it stays.
        assert_eq!(kept.labels(), [("application", "spilo")], "{image}");
    }
    let mut over = waiting_pod("shop", "web-1");
    over["metadata"]["deletionTimestamp"] = json!("2026-11-01T00:00:00Z");
    assert!(read(over).keep(&scope()).is_none());
}

#[test]
fn volume_concerns_its_mirror() {
    let mut pod = waiting_pod("shop", "web-1");
    pod["spec"]["containers"][0]["image"] = json!("nginx");
    pod["spec"]["volumes"] = json!([{"name": "data", "image": {"reference": "kracr.azurecr.io/data:1"}}]);
    assert!(read(pod).keep(&scope()).is_some());
}
