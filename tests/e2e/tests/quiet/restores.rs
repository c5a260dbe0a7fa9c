//! A status, a store and a definition that are not what they were a moment ago.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use catamaran_cluster::{Fault, Registry, Revisions};
use catamaran_e2e::evidence::Evidence;
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::installation::DEFINITION;
use catamaran_e2e::manifests::pod;
use catamaran_e2e::view::{condition, image, number, says, text};
use catamaran_e2e::{Case, operator, replica};
use serde_json::{Value, json};

use crate::flips::QUICK;

/// How long a leader waits for what another replica sees that does not say it: a probe's time limit and a second. The watch of what
/// replicas say may go on from a revision that the restored store has yet to reach.
const UNANSWERED: Duration = Duration::from_secs(3);

/// From a restore to one opinion of status, webhooks and evidence.
const AGREED: Duration = Duration::from_secs(30);

/// The registry of a side of the tests' mirrors.
fn registry(side: &str) -> anyhow::Result<Registry> {
    match side {
        "Primary" => Ok(Registry::Acr),
        "Fallback" => Ok(Registry::Ghcr),
        side => bail!("the active side is \"{side}\""),
    }
}

fn other(registry: Registry) -> Registry {
    match registry {
        Registry::Acr => Registry::Ghcr,
        Registry::Ghcr => Registry::Acr,
    }
}

/// Whether status and every replica's webhook send pods to one side, in an epoch after `epoch`; that side, or why not.
fn agreed(case: &Case<'_>, tag: &str, epoch: i64) -> anyhow::Result<String> {
    let mirror = case.latest()?;
    let active = text(&mirror, "/status/active").to_owned();
    ensure!(
        number(&mirror, "/status/epoch") > epoch,
        "the epoch is {}",
        mirror["status"]["epoch"]
    );
    let side = registry(&active)?;
    let wanted = case.image(side, tag);
    for written in [case.image(side, tag), case.image(other(side), tag)] {
        for (replica, answer) in replica::answers(&case.ground.cluster, &case.name, &pod("asks", &written))? {
            ensure!(
                answer == wanted,
                "{active} is active, and {replica} sends {written} to {answer}"
            );
        }
    }
    Ok(active)
}

/// Waits until they agree, and the evidence is this; the active side.
fn come_to_agree(case: &Case<'_>, tag: &str, epoch: i64, evidence: &Evidence) -> anyhow::Result<String> {
    let since = Instant::now();
    loop {
        let agreed = agreed(case, tag, epoch).and_then(|active| {
            ensure!(
                case.ground.evidence(&case.name)? == *evidence,
                "the evidence is another"
            );
            Ok(active)
        });
        match agreed {
            Ok(active) => {
                case.bar("status, webhooks and evidence agree after", since.elapsed(), AGREED)?;
                return Ok(active);
            }
            Err(error) => ensure!(since.elapsed() < PATIENCE, error.context("they do not come to agree")),
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

pub fn revisions_are_reused(case: &Case<'_>) -> anyhow::Result<()> {
    a_restored_store_is_agreed_on(case, Revisions::Reused)
}

pub fn revisions_are_bumped(case: &Case<'_>) -> anyhow::Result<()> {
    a_restored_store_is_agreed_on(case, Revisions::Bumped)
}

fn a_restored_store_is_agreed_on(case: &Case<'_>, revisions: Revisions) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|spec| spec["rewrite"] = json!({"unverifiedTags": "Keep"}))?;
    let snapshot = case.ground.cluster.snapshot()?;
    // Everything that the snapshot lacks: a tag in the evidence, a flip in the status.
    case.push(&["late"])?;
    let (since, late) = (Instant::now(), case.image(Registry::Acr, "late"));
    let asked = pod("asks", &case.image(Registry::Ghcr, "late"));
    case.admitted_as(&asked, "proven", since, PATIENCE, |pod| image(pod, "app") == late)?;
    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    case.active("Fallback", since, PATIENCE)?;
    case.ground.cluster.heal(Registry::Acr)?;
    let key = ("PrimaryAvailable", "True", "Reachable");
    case.ground.condition(&case.name, key, Instant::now(), PATIENCE)?;
    let epoch = number(&case.latest()?, "/status/epoch");
    agreed(case, "late", epoch - 1).context("before the restore")?;
    let evidence = case.ground.evidence(&case.name)?;
    let restarts = replica::restarts(&case.ground.cluster)?;

    let begun = Instant::now();
    case.ground.cluster.restore(&snapshot, revisions)?;
    case.note(format!(
        "the API server is back after {:.1} s",
        begun.elapsed().as_secs_f64()
    ));
    let active = come_to_agree(case, "late", epoch, &evidence)?;
    available(case)?;
    // The watch still holds states from before the restore: wait until it has the new one.
    let what = "the status that was agreed on";
    let key = ("", case.name.as_str());
    case.ground.mirrors.until(what, PATIENCE, key, begun, |mirror| {
        number(mirror, "/status/epoch") > epoch && mirror["status"]["active"] == active
    })?;
    let fails = registry(&active)?;
    let since = case.ground.fault(fails, Fault::Refused)?;
    let side = if active == "Primary" { "Fallback" } else { "Primary" };
    let flipped = case.active(side, since, PATIENCE)?;
    case.bar("the next outage -> flipped", flipped - since, QUICK + UNANSWERED)?;
    let since = Instant::now();
    while let Err(error) = agreed(case, "late", epoch + 1) {
        ensure!(since.elapsed() < PATIENCE, error.context("after the next outage"));
    }
    ensure!(
        replica::restarts(&case.ground.cluster)? == restarts,
        "replicas were restarted"
    );
    Ok(())
}

/// Waits until the operator has reached both registries again. The API server is asked, not the watch, whose past is another.
fn available(case: &Case<'_>) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let mirror = case.latest()?;
        let reached = |side: &str| condition(&mirror, side).status == "True";
        if reached("PrimaryAvailable") && reached("FallbackAvailable") {
            return Ok(());
        }
        ensure!(
            Instant::now() < end,
            "both sides are not available: {}",
            mirror["status"]
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

pub fn a_wiped_status_is_healed(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    case.active("Fallback", since, PATIENCE)?;
    let epoch = number(&case.latest()?, "/status/epoch");
    let evidence = case.ground.evidence(&case.name)?;
    let restarts = replica::restarts(&case.ground.cluster)?;
    let wiped = Instant::now();
    wipe(case)?;
    let active = come_to_agree(case, "v1", epoch, &evidence)?;
    ensure!(active == "Fallback", "{active} is active, though ACR is down");
    case.note(format!(
        "status wiped -> healed: {:.1} s",
        wiped.elapsed().as_secs_f64()
    ));
    case.no_flip(Duration::from_secs(3))?;
    ensure!(
        replica::restarts(&case.ground.cluster)? == restarts,
        "replicas were restarted"
    );
    Ok(())
}

/// As tools do that restore objects without their status. The operator may write between reading and replacing.
fn wipe(case: &Case<'_>) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    let replace = ["replace", "--subresource=status", "-f", "-"];
    loop {
        let mut mirror = case.latest()?;
        mirror["status"] = json!({});
        match case.ground.cluster.kubectl_stdin(&replace, &mirror.to_string()) {
            Ok(_) => return Ok(()),
            Err(error) => ensure!(Instant::now() < end, error),
        }
    }
}

pub fn a_definition_is_created_again(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    let restarts = replica::restarts(&case.ground.cluster)?;
    let deleted = case.ground.cluster.kubectl(&["delete", DEFINITION, "--timeout=180s"]);
    let gone = deleted.and_then(|_| pods_are_left_alone(case));
    // Whatever happened, the next scenario needs it.
    let created = create_definition(case);
    gone.and(created)?;
    let since = Instant::now();
    case.mirror(|_| {})?;
    is_verified(case)?;
    case.note(format!(
        "definition and mirror created again -> Ready: {:.1} s",
        since.elapsed().as_secs_f64()
    ));
    let asked = pod("asks", &case.image(Registry::Ghcr, "v1"));
    let wanted = case.image(Registry::Acr, "v1");
    case.admitted_as(&asked, "rewritten again", since, PATIENCE, |pod| {
        image(pod, "app") == wanted
    })?;
    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    let flipped = case.active("Fallback", since, PATIENCE)?;
    case.bar("ACR refuses -> flipped", flipped - since, QUICK)?;
    ensure!(
        replica::restarts(&case.ground.cluster)? == restarts,
        "replicas were restarted"
    );
    Ok(())
}

/// Waits for the new mirror. The watch still holds states of the deleted one.
fn is_verified(case: &Case<'_>) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let mirror = case.latest()?;
        if says(&mirror, "Ready", "True", "ServingFromPrimary") && says(&mirror, "InSync", "True", "TagsMatch") {
            let uid = text(&mirror, "/metadata/uid");
            let seen =
                |mirror: &Value| text(mirror, "/metadata/uid") == uid && says(mirror, "InSync", "True", "TagsMatch");
            let key = ("", case.name.as_str());
            let what = "the new mirror";
            return case
                .ground
                .mirrors
                .until(what, PATIENCE, key, Instant::now(), seen)
                .map(drop);
        }
        ensure!(
            Instant::now() < end,
            "the new mirror is not verified: {}",
            mirror["status"]
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn pods_are_left_alone(case: &Case<'_>) -> anyhow::Result<()> {
    let written = case.image(Registry::Ghcr, "v1");
    let asked = pod("asks", &written);
    case.admitted_as(&asked, "left alone", Instant::now(), PATIENCE, |pod| {
        image(pod, "app") == written
    })
    .map(drop)
}

fn create_definition(case: &Case<'_>) -> anyhow::Result<()> {
    let file = operator::tree().join("crds/catamaran.dev_registrymirrors.yaml");
    let file = file.canonicalize()?;
    let file = file.to_str().context("the path is not UTF-8")?;
    let apply = ["apply", "--server-side", "--force-conflicts", "-f", file];
    case.ground.cluster.kubectl(&apply)?;
    case.ground.cluster.served(&[DEFINITION])
}
