//! The release by Helm on the command line, the current major version and the one before, through its whole life.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use catamaran_cluster::{Cluster, Fault, Registry};
use catamaran_e2e::installation::HELM_PATIENCE;
use catamaran_e2e::manifests;
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::view::{condition, name, number};
use catamaran_e2e::{Case, operator};
use serde_json::{Value, json};

use crate::release::{
    Admissions, chart, enforce, has_new_field, next_chart, nobody_fights, nothing_else_is_left, remove_shared, restore,
    rewrites, survived, timed, webhook,
};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "helm-4-carries-a-release-through-its-life",
        run: |case| a_release_lives(case, Cluster::helm),
    },
    Scenario {
        name: "helm-3-carries-a-release-through-its-life",
        run: |case| a_release_lives(case, Cluster::helm3),
    },
    Scenario {
        name: "helm-4-waits-for-mirrors-but-not-for-an-outage",
        run: helm_waits_for_mirrors,
    },
];

/// Longer than the pause between two looks of the operator at its webhook configuration.
const SETTLED: Duration = Duration::from_secs(12);

type Helm = fn(&Cluster, &[&str]) -> anyhow::Result<String>;

fn a_release_lives(case: &Case<'_>, helm: Helm) -> anyhow::Result<()> {
    // Built before anything is measured.
    helm(&case.ground.cluster, &["version"])?;
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    let mirror = case.latest()?;
    let result = remove_shared(case).and_then(|()| life(case, helm, &mirror));
    restore(case, result)?;
    survived(case, &mirror, Instant::now())?;
    rewrites(case, true)
}

/// One of the two programs, and what it says to each step.
struct Hand<'c, 'g> {
    case: &'c Case<'g>,
    helm: Helm,
}

impl Hand<'_, '_> {
    /// `install` or `upgrade`.
    fn change(&self, verb: &str, chart: &Path, values: &[&str]) -> anyhow::Result<()> {
        let image = operator::image_values();
        let chart = chart.display().to_string();
        let mut arguments = vec![verb, operator::RELEASE, &chart, "--namespace", operator::NAMESPACE];
        arguments.extend([
            "--wait",
            "--timeout",
            HELM_PATIENCE,
            "--set",
            &image[0],
            "--set",
            &image[1],
        ]);
        for value in values {
            arguments.extend(["--set", value]);
        }
        (self.helm)(&self.case.ground.cluster, &arguments).map(drop)
    }

    /// `rollback` to a revision or `uninstall`.
    fn leave(&self, verb: &str, revision: Option<&str>) -> anyhow::Result<()> {
        let mut arguments = vec![verb, operator::RELEASE];
        arguments.extend(revision);
        arguments.extend(["--namespace", operator::NAMESPACE, "--wait", "--timeout", HELM_PATIENCE]);
        (self.helm)(&self.case.ground.cluster, &arguments).map(drop)
    }
}

fn life(case: &Case<'_>, helm: Helm, mirror: &Value) -> anyhow::Result<()> {
    let hand = Hand { case, helm };
    let since = Instant::now();
    timed(case, "install over the definition that was kept", || {
        hand.change("install", &chart()?, &[])
    })?;
    survived(case, mirror, since)?;
    rewrites(case, true)?;
    let admissions = Admissions::start(case)?;
    changes(case, &hand, mirror)?;
    timed(case, "uninstall", || hand.leave("uninstall", None))?;
    rewrites(case, false)?;
    nothing_else_is_left(case)?;
    let asked = admissions.ended()?;
    case.note(format!("{asked} pods asked for meanwhile, all admitted"));
    Ok(())
}

/// Upgrades and a rollback, while others have written into the webhook configuration.
fn changes(case: &Case<'_>, hand: &Hand<'_, '_>, mirror: &Value) -> anyhow::Result<()> {
    let bundle = webhook(case)?.bundle;
    ensure!(!bundle.is_empty(), "the operator is ready without a caBundle");
    let selector = enforce(case)?;
    let untouched = |timeout: i64| -> anyhow::Result<()> {
        let now = webhook(case)?;
        ensure!(now.timeout == timeout, "timeoutSeconds is {}", now.timeout);
        ensure!(now.bundle == bundle, "the caBundle has changed");
        ensure!(
            now.selector == selector,
            "the namespaceSelector has become {}",
            now.selector
        );
        Ok(())
    };
    let values = ["webhook.timeoutSeconds=3", "log.level=debug"];
    timed(case, "upgrade to other values", || {
        hand.change("upgrade", &chart()?, &values)
    })?;
    untouched(3)?;
    nobody_fights(case, || {
        std::thread::sleep(SETTLED);
        Ok(())
    })?;
    let folder = tempfile::tempdir()?;
    let next = next_chart(folder.path())?;
    let since = Instant::now();
    timed(case, "upgrade to another version", || {
        hand.change("upgrade", &next, &values)
    })?;
    untouched(3)?;
    new_field_is_of_use(case, mirror, since)?;
    let since = Instant::now();
    timed(case, "roll back to the first revision", || {
        hand.leave("rollback", Some("1"))
    })?;
    untouched(2)?;
    ensure!(!has_new_field(case)?, "the definition is still the later one");
    survived(case, mirror, since)?;
    rewrites(case, true)
}

/// A field that the later definition brought can be set, and taken away again before the way back.
fn new_field_is_of_use(case: &Case<'_>, mirror: &Value, since: Instant) -> anyhow::Result<()> {
    ensure!(has_new_field(case)?, "the definition is still the earlier one");
    survived(case, mirror, since)?;
    case.patch_spec(&json!({"note": "of the platform team"}))?;
    let note = case.latest()?["spec"]["note"].clone();
    ensure!(note == "of the platform team", "the new field is stored as {note}");
    case.patch_spec(&json!({"note": null}))
}

/// What no waiting cures is not waited for; nor is a mirror that was ready by an earlier spec taken for ready by this one.
fn a_person_is_told_at_once(case: &Case<'_>, mirror: &Value) -> anyhow::Result<()> {
    let mut broken = mirror.clone();
    broken["spec"]["primary"]["secretRef"] = json!({"name": "nowhere"});
    let begun = Instant::now();
    let Err(refused) = install_mirror(case, &broken, "300s") else {
        anyhow::bail!("Helm takes a mirror for ready that has just been given a Secret that is missing");
    };
    let refused = format!("{refused:#}");
    ensure!(refused.contains("status: Failed"), "Helm says {refused}");
    // A Helm that waits for a person does so until its own time is over.
    case.bar("a missing Secret fails it", begun.elapsed(), Duration::from_mins(1))
}

/// The release of a chart that holds one mirror and nothing else, under the mirror's name.
fn install_mirror(case: &Case<'_>, mirror: &Value, timeout: &str) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let templates = folder.path().join("templates");
    std::fs::create_dir(&templates)?;
    let meta = "apiVersion: v2\nname: mirrors\nversion: 1.0.0\n";
    std::fs::write(folder.path().join("Chart.yaml"), meta)?;
    std::fs::write(templates.join("mirror.yaml"), mirror.to_string())?;
    let chart = folder.path().display().to_string();
    let arguments = ["upgrade", "--install", name(mirror), &chart, "--namespace", &case.name];
    let wait = ["--wait", "--timeout", timeout];
    case.ground.cluster.helm(&[&arguments[..], &wait].concat())
}

fn helm_waits_for_mirrors(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    let mut mirror = manifests::mirror(&case.name, &[&case.name]);
    timed(case, "install a mirror", || {
        install_mirror(case, &mirror, HELM_PATIENCE)
    })?;
    // Helm has not come back before the operator had looked.
    let usable = |mirror: &Value| -> anyhow::Result<()> {
        let ready = condition(mirror, "Ready");
        ensure!(ready.status == "True", "Helm has not waited: {ready:?}");
        let (observed, generation) = (
            number(mirror, "/status/observedGeneration"),
            number(mirror, "/metadata/generation"),
        );
        ensure!(
            observed == generation,
            "Helm has not waited: {observed} of {generation}"
        );
        Ok(())
    };
    usable(&case.latest()?)?;
    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    case.active("Fallback", since, catamaran_e2e::ground::PATIENCE)?;
    mirror["spec"]["failback"]["stableSeconds"] = json!(120);
    timed(case, "change it while ACR is down", || {
        install_mirror(case, &mirror, HELM_PATIENCE)
    })?;
    usable(&case.latest()?)?;
    case.ground.cluster.heal(Registry::Acr)?;
    a_person_is_told_at_once(case, &mirror)?;
    let uninstall = ["uninstall", &case.name, "--namespace", &case.name];
    case.ground
        .cluster
        .helm(&uninstall)
        .map(drop)
        .context("failed to clean up")
}
