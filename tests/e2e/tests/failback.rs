//! When the primary becomes the active side again.

use std::time::{Duration, Instant};

use anyhow::ensure;
use catamaran_cluster::{Fault, Registry};
use catamaran_e2e::Case;
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::view::{condition, number, says, text};
use serde_json::json;

use crate::flips::QUICK;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "failback-waits-for-a-stable-minute",
        run: failback_waits_for_a_stable_minute,
    },
    Scenario {
        name: "manual-failback-waits-for-a-person",
        run: manual_failback_waits_for_a_person,
    },
];

fn failback_waits_for_a_stable_minute(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    case.active("Fallback", since, PATIENCE)?;
    case.admitted_image("used", &case.image(Registry::Acr, "v1"))?;
    let since = Instant::now();
    case.ground.cluster.heal(Registry::Acr)?;
    let back = case.active("Primary", since, Duration::from_mins(1) + PATIENCE)?;
    let took = back - since;
    ensure!(
        took >= Duration::from_mins(1),
        "failback after {:.1} s, before the minute",
        took.as_secs_f64()
    );
    case.bar("ACR returns -> failed back", took, Duration::from_secs(75))?;
    let mirror = case.latest()?;
    ensure!(
        says(&mirror, "FailedOver", "False", "PrimaryRecovered"),
        "{:?}",
        condition(&mirror, "FailedOver")
    );
    ensure!(
        says(&mirror, "Ready", "True", "ServingFromPrimary"),
        "{:?}",
        condition(&mirror, "Ready")
    );
    ensure!(
        number(&mirror, "/status/epoch") == 3,
        "the epoch is {}",
        mirror["status"]["epoch"]
    );
    // The pod that runs is left alone.
    let used = case.ground.get(&case.name, "pod/used")?;
    ensure!(
        text(&used, "/spec/containers/0/image") == case.image(Registry::Ghcr, "v1"),
        "the running pod was touched"
    );
    Ok(())
}

fn manual_failback_waits_for_a_person(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|spec| spec["failback"] = json!({"mode": "Manual", "stableSeconds": 60}))?;
    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    case.active("Fallback", since, PATIENCE)?;
    let since = Instant::now();
    case.ground.cluster.heal(Registry::Acr)?;
    case.ground
        .condition(&case.name, ("PrimaryAvailable", "True", "Reachable"), since, PATIENCE)?;
    // Longer than an automatic failback takes.
    case.no_flip(Duration::from_secs(75))?;
    let mirror = case.latest()?;
    let ready = condition(&mirror, "Ready");
    ensure!(
        ready.reason == "ServingFromFallback" && ready.message.contains("set spec.active to Primary"),
        "Ready does not tell what a person has to do: {ready:?}"
    );
    case.note(ready.message);
    let since = Instant::now();
    case.patch_spec(&json!({"active": "Primary"}))?;
    let back = case.active("Primary", since, PATIENCE)?;
    case.bar("a person says so -> failed back", back - since, QUICK)?;
    case.patch_spec(&json!({"active": "Auto"}))?;
    case.no_flip(Duration::from_secs(3))
}
