//! Pods that others have a say in: gates, schedulers, owners, admission policies, the fallback's own refusals, and mirrors that only
//! watch.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use catamaran_cluster::{Fault, Registry};
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests::{self, pod};
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::view::{annotation, image, is_ready, number, pull_secrets, says, waiting};
use catamaran_e2e::{Case, audit, replica};
use jiff::Timestamp;
use serde_json::{Value, json};

mod refusals;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "pods-that-wait-for-no-image-are-not-patched",
        run: pods_that_wait_for_no_image_are_not_patched,
    },
    Scenario {
        name: "pods-of-excluded-owners-are-not-rescued-either",
        run: pods_of_excluded_owners_are_not_rescued,
    },
    Scenario {
        name: "patches-that-policies-refuse-are-reported-once",
        run: refusals::patches_that_policies_refuse_or_undo,
    },
    Scenario {
        name: "a-pod-that-the-fallback-refuses-goes-home",
        run: a_pod_that_the_fallback_refuses_goes_home,
    },
    Scenario {
        name: "audit-mode-changes-nothing-and-says-what-it-would",
        run: audit_mode_changes_nothing,
    },
    Scenario {
        name: "notes-about-an-image-go-with-the-image",
        run: notes_go_with_the_image,
    },
];

/// From the flip to a waiting pod's new image.
const REPOINTED: Duration = Duration::from_secs(5);

/// Long enough for rescue to check each pod more than once.
const CHECKED: Duration = Duration::from_secs(6);

/// The patches that the operator has sent for a pod since then, refused ones too.
fn patches(case: &Case<'_>, pod: &str, since: Timestamp) -> anyhow::Result<usize> {
    let requests = audit::since(&case.ground.cluster, since)?;
    let patched = requests.iter().filter(|request| {
        request.verb == "patch" && request.resource == "pods" && request.namespace == case.name && request.name == pod
    });
    Ok(patched.count())
}

/// Waits for the flip, and then until rescue has checked every pod.
fn flipped_and_checked(case: &Case<'_>, since: Instant) -> anyhow::Result<Instant> {
    let flipped = case.active("Fallback", since, PATIENCE)?;
    std::thread::sleep(CHECKED.saturating_sub(flipped.elapsed()));
    Ok(flipped)
}

/// A pod that still has the image that was written in it, and was never sent a patch.
fn is_untouched(case: &Case<'_>, pod: &str, written: &str, since: Timestamp) -> anyhow::Result<()> {
    let latest = case.ground.pods.latest(&case.name, pod);
    let latest = latest.with_context(|| format!("{pod} is gone"))?;
    ensure!(
        image(&latest, "app") == written,
        "{pod} was re-pointed to {}",
        image(&latest, "app")
    );
    let sent = patches(case, pod, since)?;
    ensure!(sent == 0, "{sent} patches were sent for {pod}");
    Ok(())
}

fn pods_that_wait_for_no_image_are_not_patched(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    let begun = Timestamp::now();
    let written = case.image(Registry::Acr, "v1");
    let mut gated = pod("gated", &written);
    gated["spec"]["schedulingGates"] = json!([{"name": "example.com/not-yet"}]);
    let mut nowhere = pod("nowhere", &written);
    nowhere["spec"]["nodeSelector"] = json!({"example.com/there-is": "none"});
    case.apply(&gated)?;
    case.apply(&nowhere)?;
    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    case.apply(&pod("ordinary", &written))?;
    flipped_and_checked(case, since)?;
    case.ready("ordinary", since, PATIENCE)?;
    is_untouched(case, "gated", &written, begun)?;
    is_untouched(case, "nowhere", &written, begun)?;
    // Once it waits for its image, it is helped as any other.
    let since = Instant::now();
    let open = ["-n", &case.name, "patch", "pod", "gated", "--type=json", "-p"];
    let remove = r#"[{"op": "remove", "path": "/spec/schedulingGates"}]"#;
    case.ground.cluster.kubectl(&[&open[..], &[remove]].concat())?;
    let ready = case.ready("gated", since, PATIENCE)?;
    ensure!(
        image(&ready.object, "app") == case.image(Registry::Ghcr, "v1"),
        "it runs {}",
        image(&ready.object, "app")
    );
    is_untouched(case, "nowhere", &written, begun)
}

/// An object that owns pods: its kind, and whether it is their controller.
fn owner(case: &Case<'_>, kind: &str, controller: bool, spec: Option<Value>) -> anyhow::Result<Value> {
    let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "owner"}});
    if let Some(spec) = spec {
        object["spec"] = spec;
    }
    case.apply(&object)?;
    let made = case.ground.get(&case.name, &format!("{kind}/owner"))?;
    Ok(json!({
        "apiVersion": "v1", "kind": kind, "name": "owner", "uid": made["metadata"]["uid"], "controller": controller,
    }))
}

fn pods_of_excluded_owners_are_not_rescued(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|spec| spec["rewrite"] = json!({"ownerKinds": [{"apiGroup": "", "kind": "ConfigMap"}]}))?;
    let begun = Timestamp::now();
    // As vcluster's syncer owns the pods that it keeps as they are elsewhere: by a Service that is no controller.
    let service = owner(case, "Service", false, Some(json!({"ports": [{"port": 80}]})))?;
    let custom = owner(case, "ServiceAccount", true, None)?;
    let listed = owner(case, "ConfigMap", true, None)?;
    let written = case.image(Registry::Acr, "v1");
    let owned = |name: &str, owner: &Value| {
        let mut pod = pod(name, &written);
        pod["metadata"]["ownerReferences"] = json!([owner]);
        pod
    };
    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    for (name, owner) in [
        ("of-a-service", &service),
        ("of-a-custom-owner", &custom),
        ("of-a-listed-kind", &listed),
    ] {
        case.apply(&owned(name, owner))?;
    }
    flipped_and_checked(case, since)?;
    let ready = case.ready("of-a-listed-kind", since, PATIENCE)?;
    ensure!(
        image(&ready.object, "app") == case.image(Registry::Ghcr, "v1"),
        "it runs {}",
        image(&ready.object, "app")
    );
    for (name, owner) in [("of-a-service", &service), ("of-a-custom-owner", &custom)] {
        is_untouched(case, name, &written, begun)?;
        let latest = case.ground.pods.latest(&case.name, name);
        ensure!(
            !latest.is_some_and(|pod| is_ready(&pod)),
            "{name} is Ready, though ACR refuses"
        );
        // Admission has the same opinion, and says it.
        let admitted = case.admitted(&owned("another", owner))?;
        let reasons = annotation(&admitted, "catamaran.dev/reasons");
        ensure!(
            image(&admitted, "app") == written && reasons == r#"{"app":"ExcludedControllerOwned"}"#,
            "a pod {name} became {}, because of {reasons}",
            image(&admitted, "app")
        );
    }
    let admitted = case.admitted(&owned("another", &listed))?;
    ensure!(
        image(&admitted, "app") == case.image(Registry::Ghcr, "v1"),
        "a pod of a listed kind became {}",
        image(&admitted, "app")
    );
    Ok(())
}

fn a_pod_that_the_fallback_refuses_goes_home(case: &Case<'_>) -> anyhow::Result<()> {
    let refused = format!("{}-refused", case.name);
    case.push(&["v1"])?;
    case.ground.push(&Registry::ALL, &refused, "v1")?;
    case.mirror(|spec| {
        spec["repositories"] = json!([{"name": case.name}, {"name": refused}]);
        spec["healthCheck"] = json!({"canary": {"repository": case.name, "tag": "v1"}});
    })?;
    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    case.active("Fallback", since, PATIENCE)?;
    // As a token that was revoked for one package: probes see nothing of it.
    let denied = Fault::Http {
        code: 401,
        retry_after: None,
        path_contains: Some(refused.clone()),
    };
    case.ground.fault(Registry::Ghcr, denied)?;
    let on = |registry| manifests::image(registry, &refused, "v1");
    let admitted = case.admitted_image("sent-away", &on(Registry::Acr))?;
    ensure!(admitted == on(Registry::Ghcr), "the pod gets {admitted}");
    let failed = case.pod("sent-away", "failing to pull", since, PATIENCE, |pod| {
        waiting(pod, "app") == "ImagePullBackOff"
    })?;
    case.ground.cluster.heal(Registry::Acr)?;
    let key = ("PrimaryAvailable", "True", "Reachable");
    case.ground.condition(&case.name, key, failed.at, PATIENCE)?;
    // A person is quicker than a stable minute.
    let since = Instant::now();
    case.patch_spec(&json!({"active": "Primary"}))?;
    let flipped = case.active("Primary", since, PATIENCE)?;
    let home = case.pod("sent-away", "re-pointed home", since, PATIENCE, |pod| {
        image(pod, "app") == on(Registry::Acr)
    })?;
    case.bar(
        "primary active again -> the pod that GHCR refuses re-pointed",
        home.at.saturating_duration_since(flipped),
        REPOINTED,
    )?;
    case.ready("sent-away", home.at, PATIENCE).map(drop)
}

fn audit_mode_changes_nothing(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|spec| {
        spec["rewrite"] = json!({"mode": "Audit"});
        spec["primary"]["imagePullSecrets"] = json!([{"name": "acr-pull"}]);
        spec["fallback"]["imagePullSecrets"] = json!([{"name": "ghcr-pull"}]);
    })?;
    let begun = Timestamp::now();
    let counted = || {
        let labels = [r#"outcome="audited_rewritten""#];
        replica::counted_by_now(&case.ground.cluster, "catamaran_admission_images_total", &labels)
    };
    let before = counted()?;
    let written = case.image(Registry::Ghcr, "v1");
    let created = case.create_pod(&pod("audited", &written))?;
    ensure!(
        image(&created, "app") == written && pull_secrets(&created).is_empty(),
        "the pod became {}",
        created["spec"]
    );
    let reasons = annotation(&created, "catamaran.dev/reasons");
    ensure!(reasons == r#"{"app":"Audit:Rewritten"}"#, "the reasons are {reasons}");
    let after = counted()?;
    ensure!(
        after > before,
        "what would be done is not counted: {before} became {after}"
    );
    case.ready("audited", Instant::now(), PATIENCE)?;

    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    let on_acr = case.image(Registry::Acr, "v1");
    case.apply(&pod("waits", &on_acr))?;
    flipped_and_checked(case, since)?;
    is_untouched(case, "waits", &on_acr, begun)?;
    ensure!(
        says(&case.latest()?, "FailedOver", "True", "PrimaryUnavailable"),
        "the mirror does not follow the outage"
    );
    // In earnest from now on.
    let since = Instant::now();
    case.patch_spec(&json!({"rewrite": {"mode": "Rewrite"}}))?;
    let seen = case.ready("waits", since, PATIENCE)?;
    ensure!(
        image(&seen.object, "app") == case.image(Registry::Ghcr, "v1"),
        "it runs {}",
        image(&seen.object, "app")
    );
    Ok(())
}

const NOTES: [&str; 2] = ["catamaran.dev/original-images", "catamaran.dev/reasons"];

fn notes_go_with_the_image(case: &Case<'_>) -> anyhow::Result<()> {
    const FOREIGN: &str = "registry.example.com/other/image:v1";
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    let created = case.create_pod(&pod("noted", &case.image(Registry::Ghcr, "v1")))?;
    let notes = NOTES.map(|key| annotation(&created, key));
    ensure!(!notes.contains(&""), "the notes are {notes:?}");
    // Another webhook would do this at creation; a person may at any time.
    let container = format!("app={FOREIGN}");
    case.ground
        .cluster
        .kubectl(&["-n", &case.name, "set", "image", "pod/noted", &container])?;
    let changed = case.ground.get(&case.name, "pod/noted")?;
    // What was noted at creation, by one that came before us.
    let mut copied = pod("copied", FOREIGN);
    copied["metadata"]["annotations"] = created["metadata"]["annotations"].clone();
    for (what, pod) in [("changed", changed), ("created", case.admitted(&copied)?)] {
        ensure!(image(&pod, "app") == FOREIGN, "it was {what} to {}", image(&pod, "app"));
        let notes = NOTES.map(|key| annotation(&pod, key));
        ensure!(
            notes == ["", ""],
            "a pod that was {what} without our image has notes: {notes:?}"
        );
    }
    let epoch = number(&case.latest()?, "/status/epoch");
    ensure!(epoch == 1, "the epoch is {epoch}");
    Ok(())
}
