//! Specs that are edited while pods are failed over.

use std::time::{Duration, Instant};

use anyhow::ensure;
use catamaran_cluster::{Fault, Registry, TestImage};
use catamaran_e2e::Case;
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::load::{Load, Order};
use catamaran_e2e::manifests::{ORGANISATION, pod};
use catamaran_e2e::view::{image, number};
use serde_json::json;

use super::A_PASS;

/// Admissions before and after an edit that are enough to show something.
const SOME: u64 = 50;

/// Pods that name `image` in a tight loop.
fn order(case: &Case<'_>, image: &str, expected: &str) -> Order {
    Order {
        namespace: case.name.clone(),
        image: image.to_owned(),
        expected: expected.to_owned(),
        connections: 2,
        // A hundred a second leave room for another suite.
        every: Duration::from_millis(20),
    }
}

pub fn an_edited_prefix_never_uses_the_old_evidence(case: &Case<'_>) -> anyhow::Result<()> {
    const OTHER: &str = "other";
    case.push(&["v1"])?;
    let other = TestImage::serving("what another team has under the same tag");
    let path = format!("{OTHER}/{}", case.name);
    case.ground.cluster.push(&[Registry::Ghcr], &path, "v1", &other)?;
    case.mirror(|spec| spec["rewrite"] = json!({"unverifiedTags": "Keep"}))?;
    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    case.active("Fallback", since, PATIENCE)?;
    let (written, proven) = (case.image(Registry::Acr, "v1"), case.image(Registry::Ghcr, "v1"));
    let asked = pod("asks", &written);
    case.admitted_as(&asked, "sent to what is proven", since, PATIENCE, |pod| {
        image(pod, "app") == proven
    })?;
    let load = Load::start(&case.ground.cluster, &order(case, &written, &proven))?;
    load.reaches(SOME, PATIENCE)?;
    let since = Instant::now();
    case.patch_spec(&json!({"fallback": {"prefix": OTHER}}))?;
    case.admitted_as(&asked, "no longer sent to the old path", since, PATIENCE, |pod| {
        image(pod, "app") != proven
    })?;
    // Until the new path was read as well. ACR can't be asked for what it has.
    std::thread::sleep(A_PASS);
    load.reaches(load.admitted() + SOME, PATIENCE)?;
    let tally = load.stop()?;
    case.note(format!("{}; others: {:?}", tally.line(), tally.others));
    ensure!(tally.failed == 0, "{}", tally.bad.join("; "));
    let others: Vec<&String> = tally.others.keys().collect();
    ensure!(
        others == [&written],
        "pods got {others:?}, though nothing is proven of the new path"
    );
    Ok(())
}

pub fn sides_that_change_places_keep_the_active_registry(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    case.active("Fallback", since, PATIENCE)?;
    let (dead, works) = (case.image(Registry::Acr, "v1"), case.image(Registry::Ghcr, "v1"));
    let asked = pod("asks", &dead);
    case.admitted_as(&asked, "sent to GHCR", since, PATIENCE, |pod| {
        image(pod, "app") == works
    })?;
    let before = case.latest()?;
    let loads = [
        Load::start(&case.ground.cluster, &order(case, &dead, &works))?,
        Load::start(&case.ground.cluster, &order(case, &works, &works))?,
    ];
    for load in &loads {
        load.reaches(SOME, PATIENCE)?;
    }
    let since = Instant::now();
    case.patch_spec(&json!({
        "primary": {"registry": Registry::Ghcr.host(), "prefix": ORGANISATION, "provider": "github"},
        "fallback": {"registry": Registry::Acr.host(), "prefix": null, "provider": null},
    }))?;
    let what = "the swapped sides, with the same registry active";
    let key = ("", case.name.as_str());
    case.ground.mirrors.until(what, PATIENCE, key, since, |mirror| {
        mirror["status"]["active"] == "Primary"
            && number(mirror, "/status/observedGeneration") == number(mirror, "/metadata/generation")
    })?;
    case.no_flip(A_PASS)?;
    for load in loads {
        let tally = load.stop()?;
        case.note(tally.line());
        ensure!(tally.failed == 0, "{}", tally.bad.join("; "));
        ensure!(
            tally.others.is_empty(),
            "pods were not sent to the registry that works: {:?}",
            tally.others
        );
    }
    let after = case.latest()?;
    for field in ["lastFlip", "recentFailovers"] {
        let (before, after) = (&before["status"][field], &after["status"][field]);
        ensure!(
            before == after,
            "{field} was {before} and is {after}, though nothing flipped"
        );
    }
    Ok(())
}
