//! Edits that the API server takes and the operator can't use.

use std::time::{Duration, Instant};

use anyhow::ensure;
use catamaran_cluster::{Fault, Registry};
use catamaran_e2e::Case;
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests::{self, pod};
use catamaran_e2e::view::{condition, image, text};
use serde_json::json;

pub fn an_edit_that_makes_no_sense(case: &Case<'_>) -> anyhow::Result<()> {
    let other = format!("{}-other", case.name);
    case.push(&["v1"])?;
    case.ground.push(&Registry::ALL, &other, "v1")?;
    let since = Instant::now();
    case.ground.apply("default", &manifests::mirror(&other, &[&other]))?;
    case.ground.observed(&other, since)?;
    // Which of two is older, the API server tells in whole seconds.
    std::thread::sleep(Duration::from_secs(1));
    case.mirror(|_| {})?;
    let generation = case.latest()?["metadata"]["generation"].clone();
    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    for mirror in [&case.name, &other] {
        case.ground.active(mirror, "Fallback", since, PATIENCE)?;
    }
    both_serve_the_fallback(case, &other)?;

    // A quotation is a regular expression to Go, and so to the API server, and none to Rust.
    let since = Instant::now();
    case.patch_spec(&json!({"repositories": [{"name": case.name, "tags": {"include": [r"\Qv1\E"]}}]}))?;
    let key = ("Stalled", "True", "InvalidSpec");
    let seen = case.ground.condition(&case.name, key, since, PATIENCE)?;
    let message = condition(&seen.object, "Stalled").message;
    ensure!(
        message.contains("stays in force") && message.contains(&format!("generation {generation}")),
        "Stalled does not say what is in force: {message}"
    );
    case.note(message);
    still_serve(case, &other)?;
    // A mirror that is new to a replica has no last policy there; this one is remembered by its status.
    let since = Instant::now();
    case.patch_spec(&json!({"repositories": [{"name": case.name}]}))?;
    no_longer_stalled(case, since)?;
    still_serve(case, &other)?;

    // What belongs to the older one of two stays with it.
    let since = Instant::now();
    case.patch_spec(&json!({"repositories": [{"name": case.name}, {"name": other}]}))?;
    let key = ("Stalled", "True", "Overlapping");
    let seen = case.ground.condition(&case.name, key, since, PATIENCE)?;
    let message = condition(&seen.object, "Stalled").message;
    ensure!(
        message.contains(&other),
        "Stalled does not name the other mirror: {message}"
    );
    case.note(message);
    still_serve(case, &other)?;
    let since = Instant::now();
    case.patch_spec(&json!({"repositories": [{"name": case.name}]}))?;
    no_longer_stalled(case, since)
}

fn no_longer_stalled(case: &Case<'_>, since: Instant) -> anyhow::Result<()> {
    let what = "a corrected spec";
    let key = ("", case.name.as_str());
    case.ground.mirrors.until(what, PATIENCE, key, since, |mirror| {
        condition(mirror, "Stalled").status.is_empty()
    })?;
    Ok(())
}

/// Pods that name the registry that is down are sent to the other one, for both mirrors.
fn both_serve_the_fallback(case: &Case<'_>, other: &str) -> anyhow::Result<()> {
    for mirror in [&case.name, other] {
        let asked = pod("asks", &manifests::image(Registry::Acr, mirror, "v1"));
        let wanted = manifests::image(Registry::Ghcr, mirror, "v1");
        case.admitted_as(&asked, "sent to the fallback", Instant::now(), PATIENCE, |pod| {
            image(pod, "app") == wanted
        })?;
    }
    Ok(())
}

/// The same, at once, and the mirror beside is as it was.
fn still_serve(case: &Case<'_>, other: &str) -> anyhow::Result<()> {
    for mirror in [&case.name, other] {
        let admitted = case.admitted(&pod("asks", &manifests::image(Registry::Acr, mirror, "v1")))?;
        ensure!(
            image(&admitted, "app") == manifests::image(Registry::Ghcr, mirror, "v1"),
            "pods of {mirror} get {}",
            image(&admitted, "app")
        );
    }
    let beside = case.ground.get("default", &format!("registrymirror/{other}"))?;
    ensure!(
        text(&beside, "/status/active") == "Fallback" && condition(&beside, "Stalled").status.is_empty(),
        "the mirror beside is {}",
        beside["status"]
    );
    ensure!(case.latest()?["status"]["active"] == "Fallback", "the mirror flipped");
    Ok(())
}
