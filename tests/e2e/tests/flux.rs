//! The release and its mirrors by Flux: its real controllers, and the files of `examples/flux` as a team would have them.

mod mirrors;
pub mod team;

use std::time::{Duration, Instant};

use anyhow::ensure;
use catamaran_cluster::flux::NAMESPACE;
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests;
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::view::{condition, text};
use catamaran_e2e::{Case, operator};
use serde_json::{Value, json};

use self::team::{
    LONG, applied, installation, is_ready, kustomization, prepare, publish, push_chart, reconcile, retire, until,
};
use crate::release::{
    Admissions, DEFINITION, NEXT, WEBHOOK, chart, enforce, has_new_field, next_chart, nobody_fights,
    nothing_else_is_left, remove_shared, restore, rewrites, survived, timed, webhook,
};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "flux-carries-a-release-through-its-life",
        run: flux_carries_a_release,
    },
    Scenario {
        name: "flux-waits-for-mirrors-but-not-for-an-outage",
        run: mirrors::flux_waits_for_mirrors,
    },
];

/// Four intervals of the release, and longer than the pause between two looks of the operator at its configuration.
const SETTLED: Duration = Duration::from_secs(13);

/// So often Flux compares the release with what it should be, and has nothing to correct.
const COMPARISONS: usize = 3;

fn flux_carries_a_release(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    let result = remove_shared(case).and_then(|()| life(case));
    // Flux would take away the release that comes back.
    let result = result.and(retire(case));
    restore(case, result)
}

fn life(case: &Case<'_>) -> anyhow::Result<()> {
    // As in a new cluster: Flux has to bring the definition before the mirrors.
    case.ground.cluster.kubectl(&["delete", DEFINITION, "--timeout=180s"])?;
    prepare(case)?;
    push_chart(case, &chart()?)?;
    let mirror = [manifests::mirror(&case.name, &[&case.name])];
    let mut installation = installation(case)?;
    publish(case, &installation, &mirror)?;
    let since = Instant::now();
    let [first, second] = ["catamaran", "mirrors"].map(|named| kustomization(case, "kustomizations.yaml", named));
    let (first, second) = (first?, second?);
    timed(case, "install the operator, then the mirrors", || {
        case.ground.apply(NAMESPACE, &second)?;
        case.ground.apply(NAMESPACE, &first)?;
        applied(case, "kustomization/mirrors", LONG)
    })?;
    case.ground.observed(&case.name, since)?;
    let mirror_object = case.latest()?;
    rewrites(case, true)?;
    let admissions = Admissions::start(case)?;
    upgrades(case, &mut installation, &mirror, &mirror_object)?;
    drift_is_corrected_once(case)?;
    a_bad_upgrade_is_rolled_back(case, &installation, &mirror)?;
    timed(case, "uninstall", || {
        let cluster = &case.ground.cluster;
        cluster.kubectl(&["-n", NAMESPACE, "delete", "kustomization/catamaran", "--timeout=180s"])?;
        let gone = ["wait", "--for=delete", "helmrelease/catamaran", "--timeout=180s"];
        cluster.kubectl(&[&["-n", NAMESPACE][..], &gone].concat())
    })?;
    rewrites(case, false)?;
    nothing_else_is_left(case)?;
    let since = Instant::now();
    timed(case, "install again, over mirrors that were kept", || {
        case.ground.apply(NAMESPACE, &first)?;
        applied(case, "kustomization/catamaran", LONG)
    })?;
    survived(case, &mirror_object, since)?;
    rewrites(case, true)?;
    case.note(format!(
        "{} pods asked for meanwhile, all admitted",
        admissions.ended()?
    ));
    Ok(())
}

fn upgrades(case: &Case<'_>, installation: &mut [Value], mirror: &[Value], before: &Value) -> anyhow::Result<()> {
    let bundle = webhook(case)?.bundle;
    ensure!(!bundle.is_empty(), "the operator is ready without a caBundle");
    installation[1]["spec"]["values"]["webhook"] = json!({"timeoutSeconds": 3});
    let since = Instant::now();
    timed(case, "upgrade to other values", || {
        publish(case, installation, mirror)?;
        applied(case, "kustomization/catamaran", LONG)
    })?;
    ensure!(
        webhook(case)?.timeout == 3,
        "timeoutSeconds is {}",
        webhook(case)?.timeout
    );
    survived(case, before, since)?;
    let folder = tempfile::tempdir()?;
    push_chart(case, &next_chart(folder.path())?)?;
    let since = Instant::now();
    timed(case, "upgrade to another version", || {
        reconcile(case, "ocirepository/catamaran")?;
        until(case, "helmrelease/catamaran", "upgraded", LONG, |release| {
            is_ready(release) && text(release, "/status/history/0/chartVersion").starts_with(NEXT)
        })
    })?;
    ensure!(has_new_field(case)?, "the definition is still the earlier one");
    ensure!(webhook(case)?.bundle == bundle, "the caBundle has changed");
    survived(case, before, since)
}

fn drift_is_corrected_once(case: &Case<'_>) -> anyhow::Result<()> {
    let bundle = webhook(case)?.bundle;
    let selector = enforce(case)?;
    let patch = json!({"webhooks": [{"name": "pods.catamaran.dev", "timeoutSeconds": 9}]}).to_string();
    timed(case, "correct what somebody has changed", || {
        case.ground
            .cluster
            .kubectl(&["patch", WEBHOOK, "--type=strategic", "-p", &patch])?;
        let end = Instant::now() + PATIENCE;
        while webhook(case)?.timeout != 3 {
            ensure!(Instant::now() < end, "timeoutSeconds is {}", webhook(case)?.timeout);
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    })?;
    let release = |case: &Case<'_>| until(case, "helmrelease/catamaran", "ready", LONG, is_ready);
    let looks = || -> anyhow::Result<usize> {
        let log = case.ground.cluster.logs("flux-helm")?;
        Ok(log.matches("release in-sync with desired state").count())
    };
    let (before, looked) = (release(case)?, looks()?);
    let begun = Instant::now();
    nobody_fights(case, || {
        std::thread::sleep(SETTLED);
        while looks()? < looked + COMPARISONS {
            ensure!(
                begun.elapsed() < PATIENCE,
                "Flux has compared {} times only",
                looks()? - looked
            );
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    })?;
    let (after, looked) = (release(case)?, looks()? - looked);
    ensure!(
        before["status"]["history"] == after["status"]["history"],
        "the release has got another revision by itself"
    );
    let now = webhook(case)?;
    ensure!(now.bundle == bundle, "the caBundle has changed");
    ensure!(
        now.selector == selector,
        "the namespaceSelector has become {}",
        now.selector
    );
    case.note(format!(
        "{looked} comparisons in {:.1} s afterwards, no write",
        begun.elapsed().as_secs_f64()
    ));
    Ok(())
}

fn a_bad_upgrade_is_rolled_back(case: &Case<'_>, good: &[Value], mirror: &[Value]) -> anyhow::Result<()> {
    let mut bad = good.to_vec();
    let spec = &mut bad[1]["spec"];
    spec["values"]["image"]["tag"] = json!("never-built");
    // The way back takes its time; that it is needed is known soon.
    spec["upgrade"]["timeout"] = json!("8s");
    spec["upgrade"]["remediation"]["retries"] = json!(0);
    timed(case, "roll back from an image that is not there", || {
        publish(case, &bad, mirror)?;
        until(case, "helmrelease/catamaran", "rolled back", LONG, |release| {
            condition(release, "Remediated").status == "True"
        })
    })?;
    rewrites(case, true)?;
    let deployment = format!("deployment/{}", operator::RELEASE);
    let image = case.ground.get(operator::NAMESPACE, &deployment)?;
    let image = text(&image, "/spec/template/spec/containers/0/image").to_owned();
    ensure!(!image.contains("never-built"), "the Deployment still has {image}");
    timed(case, "upgrade to what is good again", || {
        publish(case, good, mirror)?;
        applied(case, "kustomization/catamaran", LONG)
    })?;
    Ok(())
}
