//! Mirrors in a Kustomization: what Flux waits for, and what not.

use std::time::{Duration, Instant};

use anyhow::ensure;
use catamaran_cluster::flux::NAMESPACE;
use catamaran_cluster::{Fault, Registry};
use catamaran_e2e::Case;
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests;
use catamaran_e2e::view::{condition, text};
use serde_json::{Value, json};

use super::team::{LONG, applied, is_ready, kustomization, prepare, publish, reconcile, retire, until};
use crate::release::timed;

/// Two of Flux' looks at what it waits for, which are 5 s apart.
const CHECKS: Duration = Duration::from_secs(11);

pub fn flux_waits_for_mirrors(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    let result = prepare(case).and_then(|()| mirrors_under_flux(case));
    result.and(retire(case))
}

fn mirrors_under_flux(case: &Case<'_>) -> anyhow::Result<()> {
    let mut mirror = manifests::mirror(&case.name, &[&case.name]);
    // The operator is there without Flux.
    let alone = |file: &str| {
        kustomization(case, file, "mirrors").map(|mut object| {
            object["spec"]["dependsOn"] = json!([]);
            object
        })
    };
    publish(case, &[], std::slice::from_ref(&mirror))?;
    timed(case, "apply a mirror and wait for it", || {
        case.ground.apply(NAMESPACE, &alone("kustomizations.yaml")?)?;
        applied(case, "kustomization/mirrors", LONG)
    })?;
    is_usable(&case.latest()?)?;
    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    case.active("Fallback", since, PATIENCE)?;
    timed(case, "reconcile while ACR is down", || {
        let word = reconcile(case, "kustomization/mirrors")?;
        until(case, "kustomization/mirrors", "reconciled", PATIENCE, |object| {
            is_ready(object) && text(object, "/status/lastHandledReconcileAt") == word
        })
    })?;
    mirror["spec"]["failback"]["stableSeconds"] = json!(120);
    timed(case, "ship a change while ACR is down", || {
        publish(case, &[], std::slice::from_ref(&mirror))?;
        applied(case, "kustomization/mirrors", PATIENCE)
    })?;
    is_usable(&case.latest()?)?;
    timed(case, "the strict one waits while ACR is down", || {
        case.ground.apply(NAMESPACE, &alone("strict.yaml")?)?;
        until(case, "kustomization/mirrors", "being checked", PATIENCE, is_checked)?;
        std::thread::sleep(CHECKS);
        let still = case.ground.get(NAMESPACE, "kustomization/mirrors")?;
        ensure!(is_checked(&still), "the strict one says {}", still["status"]);
        Ok(())
    })?;
    case.ground.cluster.heal(Registry::Acr)?;
    timed(case, "the strict one says yes when tags match again", || {
        applied(case, "kustomization/mirrors", LONG)
    })?;
    case.ground.apply(NAMESPACE, &alone("kustomizations.yaml")?)?;
    a_person_is_told_at_once(case, mirror)
}

/// Flux has applied what there is, and waits for it to become ready.
fn is_checked(kustomization: &Value) -> bool {
    let progress = condition(kustomization, "Reconciling");
    condition(kustomization, "Ready").status != "True" && progress.message.starts_with("Running health checks")
}

/// What no waiting cures is not waited for.
fn a_person_is_told_at_once(case: &Case<'_>, mirror: Value) -> anyhow::Result<()> {
    let mut broken = manifests::mirror("broken", &["broken"]);
    broken["spec"]["primary"]["secretRef"] = json!({"name": "nowhere"});
    let begun = Instant::now();
    publish(case, &[], &[mirror, broken])?;
    let failed = until(case, "kustomization/mirrors", "failed", LONG, |object| {
        condition(object, "Ready").reason == "HealthCheckFailed"
    })?;
    let took = begun.elapsed();
    let message = condition(&failed, "Ready").message;
    ensure!(message.contains("Failed"), "after {took:?} Flux says: {message}");
    case.note(message);
    case.bar("a missing Secret fails it", took, Duration::from_mins(1))
}

/// The operator has looked at what is written now, and pods can get their images.
fn is_usable(mirror: &Value) -> anyhow::Result<()> {
    ensure!(
        is_ready(mirror),
        "Flux has not waited: {}",
        mirror["status"]["conditions"]
    );
    Ok(())
}
