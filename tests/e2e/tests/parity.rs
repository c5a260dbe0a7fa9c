//! Tags that differ: reported, kept, healed.

use std::time::{Duration, Instant};

use anyhow::ensure;
use catamaran_cluster::{Fault, Registry, TestImage};
use catamaran_e2e::Case;
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests::{self, pod};
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::view::{annotation, condition, image, number};
use serde_json::{Value, json};

use crate::repair::credentials;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "divergences-are-reported-kept-and-healed",
        run: divergences_are_reported_kept_and_healed,
    },
    Scenario {
        name: "tags-of-pods-are-verified-without-a-list",
        run: tags_of_pods_are_verified_without_a_list,
    },
    Scenario {
        name: "content-that-a-clean-up-took-is-found-and-avoided",
        run: broken_content_is_found,
    },
];

fn divergences_are_reported_kept_and_healed(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["same"])?;
    case.mirror(|_| {})?;
    let since = Instant::now();
    case.ground.push(&[Registry::Acr], &case.name, "only-acr")?;
    case.ground.push(&[Registry::Ghcr], &case.name, "only-ghcr")?;
    case.ground.push(&[Registry::Acr], &case.name, "differs")?;
    let other = TestImage::serving("something else");
    case.ground
        .push_image(&[Registry::Ghcr], &case.name, "differs", &other)?;
    let what = "all three divergences";
    let told = case
        .ground
        .mirrors
        .until(what, PATIENCE, ("", &case.name), since, |mirror| {
            number(mirror, "/status/parity/diverged") == 3
        })?;
    case.bar(
        "pushed to one side -> reported as a divergence",
        told.at - since,
        Duration::from_mins(1),
    )?;
    the_status_tells_all(&told.object)?;
    case.note(condition(&told.object, "InSync").message);

    // ACR is active: what it lacks, or has otherwise, stays where it was written for.
    for (tag, reason) in [("only-ghcr", "MissingOnActive"), ("differs", "DigestMismatch")] {
        let written = case.image(Registry::Ghcr, tag);
        let admitted = eventually_kept(case, &written, reason)?;
        let image = image(&admitted, "app");
        ensure!(image == written, "{written} became {image}");
    }
    healing_is_seen(case)
}

/// From the deletion to the status: two intervals, and the time that they take.
const FOUND: Duration = Duration::from_mins(1);

fn broken_content_is_found(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    let secret = credentials(case)?;
    case.mirror(|spec| {
        for side in ["primary", "fallback"] {
            spec[side]["secretRef"] = json!({"name": secret});
        }
        spec["parity"] = json!({"interval": "10s", "gracePeriod": "10s", "settledInterval": "10s"});
    })?;
    case.apply(&pod("uses", &case.image(Registry::Acr, "v1")))?;
    case.ready("uses", Instant::now(), PATIENCE)?;
    for (registry, side, part) in [
        (Registry::Acr, "Primary", "layer"),
        (Registry::Ghcr, "Fallback", "config"),
    ] {
        let since = Instant::now();
        let path = manifests::path(registry, &case.name);
        let digest = case.ground.cluster.clean_up(registry, &path, "v1", part)?;
        let seen = case
            .ground
            .condition(&case.name, ("InSync", "False", "Broken"), since, PATIENCE)?;
        case.bar(
            &format!("{part} gone from {registry} -> reported"),
            seen.at - since,
            FOUND,
        )?;
        let broken = seen.object["status"]["broken"][0].clone();
        let told =
            ["side", "part", "digest", "reference"].map(|key| broken[key].as_str().unwrap_or_default().to_owned());
        let named = if part == "layer" { "Layer" } else { "Config" };
        ensure!(told == [side, named, &digest, "v1"], "the status says {broken}");
        case.note(condition(&seen.object, "InSync").message);
        // Wherever a pod's author has it from, it starts from the side that has all of it.
        let whole = if registry == Registry::Acr {
            Registry::Ghcr
        } else {
            Registry::Acr
        };
        let (asked, wanted) = (pod(part, &case.image(registry, "v1")), case.image(whole, "v1"));
        case.admitted_as(&asked, "sent to the whole side", since, PATIENCE, |pod| {
            image(pod, "app") == wanted
        })?;
        case.apply(&asked)?;
        case.ready(part, since, PATIENCE)?;
        let since = Instant::now();
        let how = if registry == Registry::Acr {
            case.ground.push(&[registry], &case.name, "v1")?;
            "pushed again"
        } else {
            case.patch_spec(&json!({"repair": {"missingTags": "Copy"}}))?;
            "repair allowed"
        };
        let seen = case
            .ground
            .condition(&case.name, ("InSync", "True", "TagsMatch"), since, PATIENCE)?;
        case.bar(&format!("{how} -> in sync"), seen.at - since, FOUND)?;
    }
    Ok(())
}

fn the_status_tells_all(mirror: &Value) -> anyhow::Result<()> {
    let parity = &mirror["status"]["parity"];
    let counts =
        ["tags", "inSync", "missingOnPrimary", "missingOnFallback", "mismatched"].map(|key| parity[key].as_i64());
    ensure!(counts == [4, 1, 1, 1, 1].map(Some), "the counts are {parity}");
    let mut listed: Vec<_> = mirror["status"]["divergences"]
        .as_array()
        .into_iter()
        .flatten()
        .map(tag_and_state)
        .collect();
    listed.sort();
    let expected = [
        "differs Mismatched",
        "only-acr MissingOnFallback",
        "only-ghcr MissingOnPrimary",
    ];
    ensure!(listed == expected, "the divergences are {listed:?}");
    Ok(())
}

fn healing_is_seen(case: &Case<'_>) -> anyhow::Result<()> {
    let since = Instant::now();
    let path = manifests::path(Registry::Ghcr, &case.name);
    case.ground.cluster.delete_tag(Registry::Ghcr, &path, "only-ghcr")?;
    case.ground.push(&[Registry::Ghcr], &case.name, "only-acr")?;
    case.ground.push(&[Registry::Ghcr], &case.name, "differs")?;
    let healed = case
        .ground
        .condition(&case.name, ("InSync", "True", "TagsMatch"), since, PATIENCE)?;
    case.note(format!("healed -> in sync: {:.1} s", (healed.at - since).as_secs_f64()));
    ensure!(
        healed.object["status"]["divergences"]
            .as_array()
            .is_none_or(Vec::is_empty),
        "divergences are left"
    );
    ensure!(
        number(&healed.object, "/status/parity/tags") == 3,
        "the tags are {}",
        healed.object["status"]["parity"]
    );
    Ok(())
}

fn tag_and_state(divergence: &Value) -> String {
    let word = |key: &str| divergence[key].as_str().unwrap_or_default();
    format!("{} {}", word("tag"), word("state"))
}

/// The evidence is written after the status, and read by a watch.
fn eventually_kept(case: &Case<'_>, written: &str, reason: &str) -> anyhow::Result<Value> {
    let (asked, wanted) = (pod("kept", written), format!(r#"{{"app":"{reason}"}}"#));
    let what = format!("kept for {reason}");
    case.admitted_as(&asked, &what, Instant::now(), PATIENCE, |pod| {
        annotation(pod, "catamaran.dev/reasons") == wanted
    })
}

fn tags_of_pods_are_verified_without_a_list(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["used", "unused"])?;
    case.mirror(|spec| {
        spec["repositories"] = Value::Null;
        spec["parity"] = json!({"interval": "1h", "gracePeriod": "10s"});
    })?;
    let since = Instant::now();
    // Nothing of this mirror was seen on either side yet, so the first pod keeps its image, and has it looked for.
    let written = case.image(Registry::Ghcr, "used");
    let first = case.admitted_image("user", &written)?;
    ensure!(first == written, "the first pod gets {first}");
    let seen = case
        .ground
        .mirrors
        .until("the tag of the pod", PATIENCE, ("", &case.name), since, |mirror| {
            number(mirror, "/status/parity/inSync") == 1
        })?;
    case.note(format!(
        "pod -> its tag verified and told: {:.1} s",
        (seen.at - since).as_secs_f64()
    ));
    ensure!(
        number(&seen.object, "/status/parity/tags") == 1,
        "more than the used tag: {}",
        seen.object["status"]["parity"]
    );
    let (asked, wanted) = (pod("next", &written), case.image(Registry::Acr, "used"));
    case.admitted_as(&asked, "rewritten", Instant::now(), PATIENCE, |pod| {
        image(pod, "app") == wanted
    })?;
    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    case.active("Fallback", since, PATIENCE).map(drop)
}
