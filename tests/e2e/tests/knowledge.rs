//! What is known decides where an image goes; what is not known moves nothing.

mod edits;
mod evidence;
mod in_use;
mod secrets;

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use catamaran_cluster::{Fault, Registry};
use catamaran_e2e::Case;
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests::{self, pod};
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::view::{annotation, condition, container_status, image, is_ready, number, waiting};
use catamaran_e2e::watch::{Seen, present};
use serde_json::{Value, json};

pub use evidence::SCENARIOS as EVIDENCE;
pub use in_use::SCENARIOS as IN_USE;

/// What is measured in seconds.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a-purged-digest-runs-from-the-side-that-has-it",
        run: a_purged_digest_runs,
    },
    Scenario {
        name: "what-a-mirror-leaves-out-stays-byte-for-byte",
        run: what_a_mirror_leaves_out_stays,
    },
    Scenario {
        name: "rescue-leaves-containers-alone-that-have-started",
        run: rescue_leaves_started_containers_alone,
    },
    Scenario {
        name: "an-edited-prefix-never-uses-the-old-evidence",
        run: edits::an_edited_prefix_never_uses_the_old_evidence,
    },
    Scenario {
        name: "sides-that-change-places-keep-the-active-registry",
        run: edits::sides_that_change_places_keep_the_active_registry,
    },
];

/// What waits for passes.
pub const SLOW: &[Scenario] = &[
    Scenario {
        name: "a-wrong-prefix-moves-no-pod",
        run: a_wrong_prefix_moves_no_pod,
    },
    Scenario {
        name: "a-secret-that-disappears-changes-no-verdict",
        run: secrets::a_secret_that_disappears_changes_no_verdict,
    },
];

/// From a pod's failed pull to its new image.
const REPOINTED: Duration = Duration::from_secs(5);

/// Longer than one pass over the tags takes to follow another.
const A_PASS: Duration = Duration::from_secs(12);

fn a_purged_digest_runs(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    let first = case.ground.push(&Registry::ALL, &case.name, "old-1")?;
    let second = case.ground.push(&Registry::ALL, &case.name, "old-2")?;
    // No pass finds out before a pod does.
    case.mirror(|spec| spec["parity"] = json!({"interval": "1h", "gracePeriod": "10s"}))?;
    for digest in [&first, &second] {
        case.ground.cluster.delete_manifest(Registry::Acr, &case.name, digest)?;
    }
    let by_digest = |on: Registry, digest: &str| format!("{}/{}@{digest}", on.host(), manifests::path(on, &case.name));
    let since = Instant::now();
    let pods = [
        ("names-acr", Registry::Acr, &first),
        ("names-ghcr", Registry::Ghcr, &second),
    ];
    for (name, on, digest) in pods {
        case.apply(&pod(name, &by_digest(on, digest)))?;
    }
    for (name, on, digest) in pods {
        let ready = case.ready(name, since, PATIENCE)?;
        let there = by_digest(Registry::Ghcr, digest);
        ensure!(
            image(&ready.object, "app") == there,
            "{name} runs {}",
            image(&ready.object, "app")
        );
        let (failed, repointed) = failed_and_repointed(&case.ground.pods.history(&case.name, name))
            .with_context(|| format!("{name} was not re-pointed after a pull from ACR had failed"))?;
        case.bar(
            &format!("{name}: failed pull -> re-pointed"),
            repointed - failed,
            REPOINTED,
        )?;
        // What one pod has found out is known to the next one.
        let asked = pod("next", &by_digest(on, digest));
        case.admitted_as(&asked, "sent to the side that has it", since, PATIENCE, |pod| {
            image(pod, "app") == there
        })?;
    }
    Ok(())
}

/// When a pod's pull from ACR had failed, and when it had an image of GHCR afterwards.
fn failed_and_repointed(history: &[Seen]) -> Option<(Instant, Instant)> {
    let is_on = |seen: &Seen, on: Registry| image(&seen.object, "app").starts_with(on.host());
    let mut seen = history.iter();
    let failed = seen.find(|seen| is_on(seen, Registry::Acr) && waiting(&seen.object, "app").contains("ImagePull"))?;
    let repointed = seen.find(|seen| is_on(seen, Registry::Ghcr))?;
    Some((failed.at, repointed.at))
}

fn what_a_mirror_leaves_out_stays(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1", "v-out"])?;
    case.ground.push(&[Registry::Ghcr], &case.name, "pr-17")?;
    case.mirror(|spec| {
        spec["repositories"][0]["tags"] = json!({"include": ["^v"]});
        spec["rewrite"] = json!({"excludeImages": [format!("*/{}:v-out", case.name)]});
    })?;
    let written = |tag: &str| case.image(Registry::Ghcr, tag);
    let moves = case.admitted(&pod("moves", &written("v1")))?;
    ensure!(
        image(&moves, "app") == case.image(Registry::Acr, "v1"),
        "what the mirror does not leave out became {}",
        image(&moves, "app")
    );
    for (tag, policy, reason) in [
        ("pr-17", "IfNotPresent", "NotSelected"),
        ("v1", "Never", "PullPolicyNever"),
        ("v-out", "IfNotPresent", "ExcludedImage"),
    ] {
        stays_byte_for_byte(case, &everywhere(&written(tag), policy), reason)?;
    }
    they_run(case)
}

/// A pod with the image in each place that has a pull policy.
fn everywhere(image: &str, policy: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "everywhere"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            // The volume of its token has a name by chance.
            "automountServiceAccountToken": false,
            "initContainers": [{"name": "init", "image": image, "imagePullPolicy": policy}],
            "containers": [{"name": "app", "image": image, "imagePullPolicy": policy}],
            "volumes": [{"name": "data", "image": {"reference": image, "pullPolicy": policy}}],
        },
    })
}

/// Admission must make of a pod's spec what it makes of the same pod that has opted out.
fn stays_byte_for_byte(case: &Case<'_>, pod: &Value, reason: &str) -> anyhow::Result<()> {
    let mut opted_out = pod.clone();
    opted_out["metadata"]["labels"] = json!({"catamaran.dev/rewrite": "disabled"});
    let (admitted, untouched) = (case.admitted(pod)?, case.admitted(&opted_out)?);
    ensure!(
        admitted["spec"] == untouched["spec"],
        "{reason}: {} became {}",
        untouched["spec"],
        admitted["spec"]
    );
    let originals = annotation(&admitted, "catamaran.dev/original-images");
    ensure!(originals.is_empty(), "{reason}: the original images are {originals}");
    let reasons: Value = serde_json::from_str(annotation(&admitted, "catamaran.dev/reasons"))
        .with_context(|| format!("{reason}: there are no reasons"))?;
    let expected = json!({"app": reason, "init": reason, "volume/data": reason});
    ensure!(reasons == expected, "the reasons are {reasons}");
    Ok(())
}

/// Created for good, each runs with the image that is written in it.
fn they_run(case: &Case<'_>) -> anyhow::Result<()> {
    let written = |tag: &str| case.image(Registry::Ghcr, tag);
    // Somebody else has put the image on the node, under the name that only a pod which stays as it is can use.
    let mut preloads = pod("preloads", &written("v1"));
    preloads["metadata"]["labels"] = json!({"catamaran.dev/rewrite": "disabled"});
    case.apply(&preloads)?;
    case.ready("preloads", Instant::now(), PATIENCE)?;
    for (name, tag, policy) in [
        ("unselected", "pr-17", "IfNotPresent"),
        ("never", "v1", "Never"),
        ("excluded", "v-out", "IfNotPresent"),
    ] {
        let mut pod = everywhere(&written(tag), policy);
        pod["metadata"]["name"] = json!(name);
        // The test image serves without end, which an init container must not.
        pod["spec"]["initContainers"] = Value::Null;
        let created = case.create_pod(&pod)?;
        ensure!(
            image(&created, "app") == written(tag),
            "{name} was created with {}",
            image(&created, "app")
        );
        let ready = case.ready(name, Instant::now(), PATIENCE)?;
        ensure!(
            image(&ready.object, "app") == written(tag),
            "{name} runs {}",
            image(&ready.object, "app")
        );
    }
    Ok(())
}

fn a_wrong_prefix_moves_no_pod(case: &Case<'_>) -> anyhow::Result<()> {
    const WRONG: &str = "no-such-path";
    case.push(&["v1"])?;
    let mut mirror = manifests::mirror(&case.name, &[&case.name]);
    mirror["spec"]["primary"]["prefix"] = json!(WRONG);
    let since = Instant::now();
    case.ground.apply("default", &mirror)?;
    says_that_images_stay(case, since)?;
    // One that the fallback has, and one of which nothing is known.
    let (known, unknown) = (
        case.image(Registry::Ghcr, "v1"),
        case.image(Registry::Ghcr, "never-seen"),
    );
    stay(case, &[&known, &unknown], A_PASS)?;
    let since = Instant::now();
    case.patch_spec(&json!({"primary": {"prefix": null}}))?;
    is_rewritten(case, &known, since)?;

    case.patch_spec(&json!({"fallback": {"prefix": WRONG}}))?;
    let on_primary = case.image(Registry::Acr, "v1");
    keep(case, &[&on_primary], Duration::from_secs(2))?;
    // There is nothing to go to.
    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    let key = ("Ready", "False", "ActiveUnavailable");
    let seen = case.ground.condition(&case.name, key, since, PATIENCE)?;
    case.note(condition(&seen.object, "Ready").message);
    keep(case, &[&on_primary], Duration::from_secs(4))?;
    case.no_flip(Duration::from_secs(2))?;
    case.ground.cluster.heal(Registry::Acr)?;
    let since = Instant::now();
    case.patch_spec(&json!({"fallback": {"prefix": manifests::ORGANISATION}}))?;
    is_rewritten(case, &known, since)
}

fn says_that_images_stay(case: &Case<'_>, since: Instant) -> anyhow::Result<()> {
    let what = "Ready says that images stay as they are";
    let seen = case
        .ground
        .mirrors
        .until(what, PATIENCE, ("", &case.name), since, |mirror| {
            condition(mirror, "Ready").message.contains("images stay as they are")
                && number(mirror, "/status/observedGeneration") == number(mirror, "/metadata/generation")
        })?;
    case.note(condition(&seen.object, "Ready").message);
    Ok(())
}

/// For so long, pods with these images are admitted with them, because nothing is known of the mirror.
fn stay(case: &Case<'_>, images: &[&str], time: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        for written in images {
            let admitted = case.admitted(&pod("stays", written))?;
            let (now, reasons) = (image(&admitted, "app"), annotation(&admitted, "catamaran.dev/reasons"));
            ensure!(now == *written, "{written} became {now}, because of {reasons}");
            ensure!(
                reasons == r#"{"app":"NotObservedYet"}"#,
                "{written} stays because of {reasons}"
            );
        }
    }
    Ok(())
}

/// For so long, pods with these images are admitted with them.
fn keep(case: &Case<'_>, images: &[&str], time: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        for written in images {
            let admitted = case.admitted(&pod("kept", written))?;
            let now = image(&admitted, "app");
            ensure!(now == *written, "{written} became {now}");
        }
    }
    Ok(())
}

fn is_rewritten(case: &Case<'_>, written: &str, since: Instant) -> anyhow::Result<()> {
    let (asked, wanted) = (pod("moves", written), case.image(Registry::Acr, "v1"));
    case.admitted_as(&asked, "rewritten by the corrected prefix", since, PATIENCE, |pod| {
        image(pod, "app") == wanted
    })?;
    case.note(format!(
        "prefix corrected -> rewritten: {:.1} s",
        since.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Pods that are created at a time, and how often at most: a node takes 110.
const BATCH: usize = 4;
const BATCHES: usize = 20;

fn rescue_leaves_started_containers_alone(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|spec| {
        spec["healthCheck"] = json!({"periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 5});
    })?;
    // Too slow for probes, and it works: pulls end while their pods are rescued.
    let since = case
        .ground
        .fault(Registry::Acr, Fault::Delay(Duration::from_millis(1500)))?;
    for batch in 0..BATCHES {
        if case.latest()?["status"]["active"] == "Fallback" {
            break;
        }
        let pods: Vec<Value> = (0..BATCH)
            .map(|number| {
                let mut pod = pod(&format!("pulls-{batch}-{number}"), &case.image(Registry::Acr, "v1"));
                pod["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
                pod
            })
            .collect();
        case.apply(&json!({"apiVersion": "v1", "kind": "List", "items": pods}))?;
        std::thread::sleep(Duration::from_millis(300));
    }
    case.active("Fallback", since, PATIENCE)?;
    let pods = case.ground.pods.wait("every pod Ready", PATIENCE, |seen| {
        let pods = present(seen, &case.name);
        let all = pods.iter().all(|pod| is_ready(&pod.object));
        (all && !pods.is_empty()).then(|| pods.into_iter().map(|pod| pod.object.clone()).collect::<Vec<_>>())
    })?;
    let (mut repointed, mut restarted) = (0, 0);
    for pod in &pods {
        let history = case.ground.pods.history(&case.name, catamaran_e2e::view::name(pod));
        repointed += usize::from(is_repointed(&history)?);
        let restarts = container_status(pod, "app").map_or(0, |status| number(status, "/restartCount"));
        restarted += usize::from(restarts > 0);
    }
    case.note(format!(
        "{} pods, {repointed} re-pointed, {restarted} of them restarted: their pulls ended after the patch",
        pods.len()
    ));
    ensure!(repointed > 0, "no pod was re-pointed, so nothing is shown");
    Ok(())
}

/// Whether a pod was re-pointed; an error if the API server knew by then that its container had started.
fn is_repointed(history: &[Seen]) -> anyhow::Result<bool> {
    let (mut started, mut repointed) = (None, false);
    for seen in history {
        let now = image(&seen.object, "app");
        repointed |= now.starts_with(Registry::Ghcr.host());
        if let Some(before) = started.filter(|before| *before != now) {
            bail!("a container that ran {before} was re-pointed to {now}");
        }
        let status = container_status(&seen.object, "app");
        if status.is_some_and(|status| {
            status["state"]["running"].is_object() || status["lastState"]["terminated"].is_object()
        }) {
            started = Some(now);
        }
    }
    Ok(repointed)
}
