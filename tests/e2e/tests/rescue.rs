//! Pods that wait for an image while its registry is down.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use catamaran_cluster::{Fault, Registry, TestImage};
use catamaran_e2e::Case;
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests::{deployment, pod};
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::unserved::UnservedNode;
use catamaran_e2e::view::{annotation, container_status, image, is_ready, items, name, number, says, text, waiting};
use catamaran_e2e::watch::{self, Seen, present};
use jiff::Timestamp;
use serde_json::{Value, json};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "failing-pulls-are-rescued-and-owners-untouched",
        run: failing_pulls_are_rescued,
    },
    Scenario {
        name: "hanging-pulls-are-rescued-when-the-kubelet-lets-go",
        run: hanging_pulls_are_rescued,
    },
    Scenario {
        name: "hanging-pods-are-replaced-where-that-is-allowed",
        run: hanging_pods_are_replaced,
    },
    Scenario {
        name: "a-crashed-container-of-a-running-pod-is-rescued",
        run: a_crashed_container_is_rescued,
    },
];

/// It takes all of the machine's processors and is held to seconds.
pub const ALONE: &[Scenario] = &[Scenario {
    name: "five-hundred-waiting-pods-are-rescued",
    run: five_hundred_waiting_pods_are_rescued,
}];

/// From the flip to the last waiting pod's new image.
const REPOINTED: Duration = Duration::from_secs(5);

/// From a pod's patch to Ready, where the kubelet is not inside a pull.
const READY: Duration = Duration::from_secs(5);

fn failing_pulls_are_rescued(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["web", "single", "late"])?;
    case.ground
        .push_image(&Registry::ALL, &case.name, "init", &TestImage::new("init", &["true"]))?;
    // Pinned until the kubelet has backed off, however long that takes on a busy machine.
    case.mirror(|spec| spec["active"] = json!("Primary"))?;
    case.ground.fault(Registry::Acr, Fault::Refused)?;
    case.apply(&deployment("web", &case.image(Registry::Ghcr, "web"), 3))?;
    let mut with_init = pod("with-init", &case.image(Registry::Acr, "single"));
    with_init["spec"]["initContainers"] = json!([{"name": "init", "image": case.image(Registry::Acr, "init")}]);
    case.apply(&with_init)?;
    let backing_off = |seen: &[Seen]| {
        let pods = present(seen, &case.name);
        let web = pods.iter().filter(|pod| name(&pod.object).starts_with("web-"));
        (web.filter(|pod| waiting(&pod.object, "app") == "ImagePullBackOff")
            .count()
            == 3)
            .then_some(())
    };
    case.ground
        .pods
        .wait("three pods in ImagePullBackOff", PATIENCE, backing_off)?;
    case.apply(&pod("late", &case.image(Registry::Acr, "late")))?;
    let owners = owners(case)?;
    let before = names(case);
    let since = Instant::now();
    case.patch_spec(&json!({"active": "Auto"}))?;
    let flipped = case.active("Fallback", since, PATIENCE)?;
    case.note(format!(
        "no longer pinned -> flipped: {:.1} s",
        (flipped - since).as_secs_f64()
    ));
    let repointed = all_repointed(case)?;
    case.bar("flip -> every waiting pod re-pointed", repointed - flipped, REPOINTED)?;
    for pod in &before {
        let (patched, was, ready) = rescued(case, pod)?;
        let limit = if pod == "with-init" {
            READY + Duration::from_secs(2)
        } else {
            READY
        };
        case.bar(&format!("{pod}, in {was}: patched -> Ready"), ready - patched, limit)?;
    }
    ensure!(
        owners == self::owners(case)?,
        "the owners were touched: {owners} became {}",
        self::owners(case)?
    );
    ensure!(
        before == names(case),
        "the pods were {before:?} and are {:?}",
        names(case)
    );
    events_and_counts(case, i64::try_from(before.len())?)
}

fn events_and_counts(case: &Case<'_>, pods: i64) -> anyhow::Result<()> {
    let seen = case.ground.mirrors.until(
        "the count of rescued pods",
        PATIENCE,
        ("", &case.name),
        Instant::now(),
        |mirror| number(mirror, "/status/pods/rescued") >= pods,
    )?;
    case.note(format!("status.pods: {}", seen.object["status"]["pods"]));
    let events = [
        "-n",
        &case.name,
        "get",
        "events",
        "--field-selector",
        "reason=ImageRescued",
        "-o",
        "json",
    ];
    let events: Value = serde_json::from_str(&case.ground.cluster.kubectl(&events)?)?;
    let events = items(&events);
    let first = events.first().context("there is no Event on the pods")?;
    case.note(format!(
        "Event on {}: {}",
        text(first, "/involvedObject/name"),
        text(first, "/message")
    ));
    let pod = case.ground.get(&case.name, "pod/late")?;
    let rescued = annotation(&pod, "catamaran.dev/rescued-images");
    ensure!(
        rescued.contains(&case.image(Registry::Acr, "late")),
        "the annotation is {rescued}"
    );
    Ok(())
}

/// What must stay of the owners: all but their status.
fn owners(case: &Case<'_>) -> anyhow::Result<Value> {
    let text = case
        .ground
        .cluster
        .kubectl(&["-n", &case.name, "get", "deployments,replicasets", "-o", "json"])?;
    let owners = items(&serde_json::from_str(&text)?);
    let facts = owners
        .iter()
        .map(|owner| json!([name(owner), owner["metadata"]["generation"], owner["spec"]]));
    Ok(facts.collect())
}

fn names(case: &Case<'_>) -> Vec<String> {
    case.ground
        .pods
        .all_in(&case.name)
        .iter()
        .map(|pod| name(pod).to_owned())
        .collect()
}

fn all_repointed(case: &Case<'_>) -> anyhow::Result<Instant> {
    let what = "every waiting pod re-pointed";
    let host = Registry::Acr.host();
    case.ground
        .pods
        .wait(what, PATIENCE, |seen| watch::repointed(seen, &case.name, host))
}

/// When a pod was patched, in which state, and when it was Ready.
fn rescued(case: &Case<'_>, pod: &str) -> anyhow::Result<(Instant, String, Instant)> {
    let since = Instant::now();
    case.ready(pod, since, PATIENCE)?;
    let history = case.ground.pods.history(&case.name, pod);
    let patched = history
        .iter()
        .position(|seen| image(&seen.object, "app").starts_with(Registry::Ghcr.host()));
    let patched = patched.with_context(|| format!("{pod} was not patched"))?;
    let was = history[..patched]
        .last()
        .map_or("", |seen| match waiting(&seen.object, "init") {
            "" | "PodInitializing" => waiting(&seen.object, "app"),
            reason => reason,
        });
    let ready = history
        .iter()
        .find(|seen| is_ready(&seen.object))
        .context("it was not Ready")?;
    Ok((history[patched].at, was.to_owned(), ready.at))
}

fn hanging_pulls_are_rescued(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["web"])?;
    case.mirror(|_| {})?;
    let since = case.ground.fault(Registry::Acr, Fault::BlackHole)?;
    case.apply(&deployment("web", &case.image(Registry::Acr, "web"), 2))?;
    let flipped = case.active("Fallback", since, PATIENCE)?;
    case.bar(
        "ACR is a black hole -> flipped",
        flipped - since,
        Duration::from_secs(10),
    )?;
    let mirror = case.latest()?;
    ensure!(
        says(&mirror, "PrimaryAvailable", "False", "Timeout"),
        "PrimaryAvailable is {}",
        mirror["status"]["conditions"]
    );
    let owners = owners(case)?;
    let before = names(case);
    let repointed = all_repointed(case)?;
    case.bar("flip -> every waiting pod re-pointed", repointed - flipped, REPOINTED)?;
    // A pod that is made now does not wait for those that hang: the node pulls in parallel.
    let asked = Instant::now();
    case.admitted_image("after", &case.image(Registry::Acr, "web"))?;
    let ready = case.ready("after", asked, PATIENCE)?;
    case.note(format!(
        "a pod made after the flip: Ready in {:.1} s",
        (ready.at - asked).as_secs_f64()
    ));
    for pod in &before {
        let ready = case.ready(pod, since, Duration::from_mins(5))?;
        let (attempts, late) = after_the_last_failed_pull(case, pod, &ready.object)?;
        case.note(format!(
            "{pod}: black hole -> Ready: {:.1} s, of which the kubelet's own pulls took all but the last",
            (ready.at - since).as_secs_f64()
        ));
        case.bar(
            &format!("{pod}: the end of the kubelet's pull ({attempts} failed) -> Ready"),
            late,
            Duration::from_secs(20),
        )?;
    }
    ensure!(owners == self::owners(case)?, "the owners were touched");
    let now: Vec<_> = names(case).into_iter().filter(|name| name != "after").collect();
    ensure!(before == now, "the pods were {before:?} and are {now:?}");
    Ok(())
}

/// How many pulls of a pod the kubelet saw fail, and the time from the last of them to the pod being Ready. Both times are
/// the kubelet's own, in whole seconds: how long its pull of a black hole takes is not ours to decide (a multiple of 30 s).
fn after_the_last_failed_pull(case: &Case<'_>, pod: &str, ready: &Value) -> anyhow::Result<(usize, Duration)> {
    let about = format!("involvedObject.name={pod},reason=Failed");
    let events = case.ground.cluster.kubectl(&[
        "-n",
        &case.name,
        "get",
        "events",
        "-o",
        "json",
        "--field-selector",
        &about,
    ])?;
    let events: Value = serde_json::from_str(&events)?;
    let failed: Vec<Timestamp> = items(&events)
        .iter()
        .filter(|event| text(event, "/message").contains("Failed to pull image"))
        .map(|event| text(event, "/lastTimestamp").parse())
        .collect::<Result<_, _>>()?;
    let last = failed.iter().max().context("the kubelet tells of no failed pull")?;
    let conditions = ready["status"]["conditions"].as_array().into_iter().flatten();
    let mut since = conditions
        .filter(|condition| condition["type"] == "Ready")
        .map(|condition| text(condition, "/lastTransitionTime").parse::<Timestamp>());
    let since = since.next().context("the pod has no condition Ready")??;
    let late = Duration::try_from(since.duration_since(*last)).unwrap_or_default();
    Ok((failed.len(), late))
}

fn hanging_pods_are_replaced(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["web"])?;
    case.mirror(|spec| spec["rescue"] = json!({"mode": "PatchOrReplace"}))?;
    let since = case.ground.fault(Registry::Acr, Fault::BlackHole)?;
    case.apply(&deployment("web", &case.image(Registry::Acr, "web"), 3))?;
    // Seconds before the flip: those that hang are gone a moment after it.
    case.ground.pods.wait("three pods", PATIENCE, |seen| {
        (present(seen, &case.name).len() == 3).then_some(())
    })?;
    let before = names(case);
    let flipped = case.active("Fallback", since, PATIENCE)?;
    let ready = case.ground.pods.wait("three Ready pods", PATIENCE, |seen| {
        let ready = present(seen, &case.name)
            .into_iter()
            .filter(|pod| is_ready(&pod.object));
        let times: Vec<Instant> = ready.map(|pod| pod.at).collect();
        (times.len() == 3).then(|| times.into_iter().max()).flatten()
    })?;
    case.bar(
        "flip -> the Deployment's hanging pods Ready",
        ready - flipped,
        Duration::from_secs(10),
    )?;
    let after = names(case);
    ensure!(
        before.iter().all(|name| !after.contains(name)),
        "{before:?} should have been replaced by {after:?}"
    );
    Ok(())
}

fn a_crashed_container_is_rescued(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["steady"])?;
    let crashing = TestImage::new(&case.name, &["crash-after", "8s"]);
    case.ground
        .push_image(&Registry::ALL, &case.name, "crashing", &crashing)?;
    case.mirror(|_| {})?;
    let mut pod = pod("crashing", &case.image(Registry::Acr, "crashing"));
    pod["spec"]["containers"] = json!([
        {"name": "app", "image": case.image(Registry::Acr, "crashing"), "imagePullPolicy": "Always"},
        {"name": "steady", "image": case.image(Registry::Acr, "steady")},
    ]);
    case.apply(&pod)?;
    case.ready("crashing", Instant::now(), PATIENCE)?;
    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    let patched = case.pod("crashing", "re-pointed", since, PATIENCE, |pod| {
        image(pod, "app").starts_with(Registry::Ghcr.host())
    })?;
    ensure!(
        text(&patched.object, "/status/phase") == "Running",
        "its phase is {}",
        patched.object["status"]["phase"]
    );
    let again = case.pod("crashing", "running again", patched.at, PATIENCE, |pod| {
        let status = container_status(pod, "app");
        is_ready(pod) && status.is_some_and(|status| text(status, "/image").starts_with(Registry::Ghcr.host()))
    })?;
    // The kubelet also backs off from starting a crashed container: 10 s after the first crash.
    case.bar(
        "patched -> running from GHCR",
        again.at - patched.at,
        Duration::from_secs(20),
    )?;
    let steady = image(&again.object, "steady");
    ensure!(
        steady == case.image(Registry::Acr, "steady"),
        "the running container was re-pointed to {steady}"
    );
    let restarts = container_status(&again.object, "steady").map(|status| number(status, "/restartCount"));
    ensure!(restarts == Some(0), "the running container was restarted: {restarts:?}");
    Ok(())
}

fn five_hundred_waiting_pods_are_rescued(case: &Case<'_>) -> anyhow::Result<()> {
    const PODS: usize = 500;
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    // One kubelet could not hold so many; and a pod without a node waits for no image.
    let node = UnservedNode::create(&case.ground.cluster, &case.name)?;
    let pods: Vec<Value> = (0..PODS)
        .map(|number| {
            let mut pod = pod(&format!("waiting-{number}"), &case.image(Registry::Ghcr, "v1"));
            pod["spec"]["nodeName"] = json!(node.name());
            pod
        })
        .collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": pods});
    let since = Instant::now();
    case.ground
        .cluster
        .kubectl_stdin(&["-n", &case.name, "create", "-f", "-"], &list.to_string())?;
    case.note(format!(
        "{PODS} pods admitted in {:.1} s",
        since.elapsed().as_secs_f64()
    ));
    let on_acr = |pods: &[Value]| {
        pods.iter()
            .filter(|pod| image(pod, "app").starts_with(Registry::Acr.host()))
            .count()
    };
    let admitted = case.ground.pods.wait("all pods", PATIENCE, |seen| {
        let there = present(seen, &case.name);
        (there.len() == PODS).then(|| there.into_iter().map(|seen| seen.object.clone()).collect::<Vec<_>>())
    })?;
    ensure!(
        on_acr(&admitted) == PODS,
        "{} of {PODS} were admitted for ACR",
        on_acr(&admitted)
    );
    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    let flipped = case.active("Fallback", since, PATIENCE)?;
    let repointed = all_repointed(case)?;
    case.bar(
        "flip -> 500 waiting pods re-pointed",
        repointed.saturating_duration_since(flipped),
        Duration::from_secs(15),
    )
}
