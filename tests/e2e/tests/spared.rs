//! Pods that are left alone, and those that can't be helped.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use catamaran_cluster::{Fault, Registry};
use catamaran_e2e::Case;
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests::pod;
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::unserved::UnservedNode;
use catamaran_e2e::view::{annotation, image, is_ready, items, number, text, waiting};
use catamaran_e2e::watch::{Seen, present};
use serde_json::{Value, json};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "excluded-owned-and-static-pods-are-left-alone",
        run: excluded_owned_and_static_pods_are_left_alone,
    },
    Scenario {
        name: "image-volumes-that-hang-are-reported-once",
        run: image_volumes_are_reported,
    },
    Scenario {
        name: "a-missing-pull-secret-is-told-once",
        run: a_missing_pull_secret_is_told_once,
    },
];

/// Removes a static pod's manifest, whatever becomes of the scenario.
struct Manifest(std::path::PathBuf);

impl Drop for Manifest {
    fn drop(&mut self) {
        // It is gone with the cluster otherwise.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn excluded_owned_and_static_pods_are_left_alone(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    let written = case.image(Registry::Acr, "v1");
    let mut labelled = pod("labelled", &written);
    labelled["metadata"]["labels"] = json!({"catamaran.dev/rewrite": "disabled"});
    case.apply(&labelled)?;
    let mut owned = pod("owned", &written);
    owned["metadata"]["ownerReferences"] = json!([owner(case)?]);
    case.apply(&owned)?;
    let mut stays = pod("static", &written);
    stays["metadata"]["namespace"] = json!(case.name);
    let manifest = Manifest(case.ground.cluster.static_pod_dir().join(format!("{}.json", case.name)));
    std::fs::write(&manifest.0, stays.to_string())?;
    let apart = format!("{}-ns", case.name);
    case.ground
        .create_namespace(&apart, &json!({"catamaran.dev/rewrite": "disabled"}))?;
    let result = the_others_stay(case, &apart, since, &written);
    case.ground.delete_namespace(&apart)?;
    result
}

/// A controller that the operator does not know, as CloudNativePG's Cluster is.
fn owner(case: &Case<'_>) -> anyhow::Result<Value> {
    case.apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cluster"}}))?;
    let owner = case.ground.get(&case.name, "configmap/cluster")?;
    Ok(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "name": "cluster", "uid": owner["metadata"]["uid"], "controller": true,
    }))
}

fn the_others_stay(case: &Case<'_>, apart: &str, since: Instant, written: &str) -> anyhow::Result<()> {
    // The account of the new namespace may be a moment late.
    let end = Instant::now() + PATIENCE;
    while let Err(error) = case.ground.apply(apart, &pod("in-a-labelled-namespace", written)) {
        ensure!(Instant::now() < end, error);
    }
    case.apply(&pod("ordinary", written))?;
    case.pod("static-node", "of the static manifest", since, PATIENCE, |_| true)?;
    let flipped = case.active("Fallback", since, PATIENCE)?;
    case.ready("ordinary", since, PATIENCE)?;
    // Long enough for the rescue to look at each of them more than once.
    std::thread::sleep(Duration::from_secs(6).saturating_sub(flipped.elapsed()));
    for (namespace, pod) in [
        (&*case.name, "labelled"),
        (&case.name, "owned"),
        (&case.name, "static-node"),
        (apart, "in-a-labelled-namespace"),
    ] {
        let seen = case
            .ground
            .pods
            .latest(namespace, pod)
            .with_context(|| format!("{pod} is gone"))?;
        ensure!(
            image(&seen, "app") == written,
            "{pod} was re-pointed to {}",
            image(&seen, "app")
        );
        ensure!(!is_ready(&seen), "{pod} is Ready, though its registry refuses");
    }
    // Admission leaves new ones alone, too, and says why where that is of use.
    let mut labelled = pod("another", written);
    labelled["metadata"]["labels"] = json!({"catamaran.dev/rewrite": "disabled"});
    let mut owned = pod("another", written);
    owned["metadata"]["ownerReferences"] = json!([owner(case)?]);
    for (what, pod) in [("labelled", labelled), ("owned", owned)] {
        let admitted = case.admitted(&pod)?;
        ensure!(
            image(&admitted, "app") == written,
            "a {what} pod became {}",
            image(&admitted, "app")
        );
        case.note(format!(
            "{what}: reasons {}",
            annotation(&admitted, "catamaran.dev/reasons")
        ));
    }
    Ok(())
}

fn image_volumes_are_reported(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["app", "volume"])?;
    // Pinned until the kubelet has said that the pod waits for its volume.
    case.mirror(|spec| spec["active"] = json!("Primary"))?;
    // The container's own image is on the node: only the volume's is missing.
    case.apply(&pod("first", &case.image(Registry::Acr, "app")))?;
    case.ready("first", Instant::now(), PATIENCE)?;
    case.ground.fault(Registry::Acr, Fault::Refused)?;
    let mut with_volume = pod("with-volume", &case.image(Registry::Acr, "app"));
    with_volume["spec"]["volumes"] =
        json!([{"name": "data", "image": {"reference": case.image(Registry::Acr, "volume")}}]);
    with_volume["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    case.apply(&with_volume)?;
    case.ground
        .pods
        .wait("a volume that can't be pulled", PATIENCE, |seen| {
            let pods = present(seen, &case.name);
            let failing = |pod: &&Seen| ["ErrImagePull", "ImagePullBackOff"].contains(&waiting(&pod.object, "app"));
            pods.iter().any(failing).then_some(())
        })?;
    let since = Instant::now();
    case.patch_spec(&json!({"active": "Auto"}))?;
    case.active("Fallback", since, PATIENCE)?;
    let message = told_once(case, "ImageStuck")?;
    ensure!(
        message.contains(&case.image(Registry::Acr, "volume")),
        "the Event says {message}"
    );
    let seen = case
        .ground
        .pods
        .latest(&case.name, "with-volume")
        .context("the pod is gone")?;
    ensure!(
        image(&seen, "app") == case.image(Registry::Acr, "app"),
        "its container became {}",
        image(&seen, "app")
    );
    case.note(message);
    Ok(())
}

/// Waits for an Event on a pod of this scenario, and then whether there comes another; its message.
fn told_once(case: &Case<'_>, reason: &str) -> anyhow::Result<String> {
    let reason_field = format!("reason={reason}");
    let arguments = [
        "-n",
        &case.name,
        "get",
        "events",
        "--field-selector",
        &reason_field,
        "-o",
        "json",
    ];
    let events = || -> anyhow::Result<Vec<Value>> {
        let events = case.ground.cluster.kubectl(&arguments)?;
        Ok(items(&serde_json::from_str(&events)?))
    };
    let end = Instant::now() + PATIENCE;
    while events()?.is_empty() {
        ensure!(Instant::now() < end, "there is no Event {reason}");
        std::thread::sleep(Duration::from_millis(200));
    }
    // Longer than the rescue takes to look again.
    std::thread::sleep(Duration::from_secs(6));
    let events = events()?;
    let times: i64 = events.iter().map(|event| number(event, "/count").max(1)).sum();
    ensure!(times == 1, "{reason} is told {times} times: {events:?}");
    Ok(text(&events[0], "/message").to_owned())
}

fn a_missing_pull_secret_is_told_once(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    // Made before the mirror, and waiting for an image that nobody pulls: it has no pull secret and can't be given one.
    let node = UnservedNode::create(&case.ground.cluster, &case.name)?;
    let mut early = pod("early", &case.image(Registry::Acr, "v1"));
    early["spec"]["nodeName"] = json!(node.name());
    case.apply(&early)?;
    case.mirror(|spec| spec["fallback"]["imagePullSecrets"] = json!([{"name": "ghcr-pull"}]))?;
    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    case.pod("early", "re-pointed", since, PATIENCE, |pod| {
        image(pod, "app").starts_with(Registry::Ghcr.host())
    })?;
    let message = told_once(case, "PullSecretMissing")?;
    ensure!(message.contains("ghcr-pull"), "the Event says {message}");
    case.note(message);
    Ok(())
}
