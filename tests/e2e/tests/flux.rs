//! The release and its mirrors by Flux: its real controllers, and the files of `examples/flux` as a team would have them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use catamaran_cluster::flux::NAMESPACE;
use catamaran_cluster::{Fault, Registry};
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests::{self, CA_SECRET, ORGANISATION};
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::view::{condition, items, name, number, text};
use catamaran_e2e::{Case, operator};
use serde_json::{Value, json};

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
        run: flux_waits_for_mirrors,
    },
];

/// An installation or upgrade under Flux, with all its waiting.
const LONG: Duration = Duration::from_mins(3);

/// Five intervals of the HelmRelease, and longer than the pause between two looks of the operator at its configuration.
const SETTLED: Duration = Duration::from_secs(25);

/// The objects of a file below `examples/flux`, as kubectl reads them. Flux' definitions must be there.
fn example(case: &Case<'_>, file: &str) -> anyhow::Result<Vec<Value>> {
    let path = operator::tree().join("examples/flux").join(file).display().to_string();
    let read = [
        "create",
        "--dry-run=client",
        "--validate=strict",
        "-o",
        "json",
        "-f",
        &path,
    ];
    let printed = case.ground.cluster.kubectl(&read)?;
    let objects = serde_json::Deserializer::from_str(&printed).into_iter::<Value>();
    let objects: Vec<Value> = objects
        .collect::<Result<_, _>>()
        .with_context(|| format!("failed to read {file}"))?;
    Ok(objects
        .into_iter()
        .flat_map(|object| {
            if object["kind"] == "List" {
                items(&object)
            } else {
                vec![object]
            }
        })
        .collect())
}

/// What differs between the examples and the test cluster: where things are, and how long one waits for them.
fn here(mut object: Value) -> Value {
    let kind = text(&object, "/kind").to_owned();
    let spec = &mut object["spec"];
    match kind.as_str() {
        "OCIRepository" => {
            spec["url"] = json!(format!("oci://ghcr.io/{ORGANISATION}/charts/catamaran"));
            spec["certSecretRef"] = json!({"name": CA_SECRET});
            spec["interval"] = json!("1m");
        }
        "HelmRelease" => {
            spec["interval"] = json!("5s");
            spec["values"]["image"] =
                json!({"repository": "ghcr.io/catamaran-dev/catamaran", "tag": env!("CARGO_PKG_VERSION")});
        }
        _ => {
            spec["sourceRef"] = json!({"kind": "OCIRepository", "name": "fleet"});
            spec["interval"] = json!("30s");
            spec["retryInterval"] = json!("3s");
        }
    }
    object
}

/// The two objects that install the operator.
fn installation(case: &Case<'_>) -> anyhow::Result<Vec<Value>> {
    Ok(example(case, "catamaran/operator.yaml")?
        .into_iter()
        .map(here)
        .collect())
}

/// A Kustomization of an example's file.
fn kustomization(case: &Case<'_>, file: &str, named: &str) -> anyhow::Result<Value> {
    let found = example(case, file)?.into_iter().find(|object| name(object) == named);
    found.map(here).with_context(|| format!("{file} has no {named}"))
}

/// Puts what a team keeps in Git where Flux finds it, and makes it look.
fn publish(case: &Case<'_>, installation: &[Value], mirrors: &[Value]) -> anyhow::Result<()> {
    let documents = |objects: &[Value]| objects.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n");
    let (first, second) = (documents(installation), documents(mirrors));
    let files = [
        ("catamaran/operator.yaml", first.as_str()),
        ("mirrors/mirrors.yaml", second.as_str()),
    ];
    let repository = format!("{ORGANISATION}/fleet");
    let digest = case
        .ground
        .cluster
        .push_artifact(Registry::Ghcr, &repository, "latest", &files)?;
    let fleet = json!({
        "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "OCIRepository",
        "metadata": {"name": "fleet", "namespace": NAMESPACE},
        "spec": {
            "interval": "1m", "url": format!("oci://ghcr.io/{repository}"), "ref": {"tag": "latest"},
            "certSecretRef": {"name": CA_SECRET},
        },
    });
    case.ground.apply(NAMESPACE, &fleet)?;
    reconcile(case, "ocirepository/fleet")?;
    until(case, "ocirepository/fleet", "fetched", PATIENCE, |fleet| {
        text(fleet, "/status/artifact/revision").ends_with(&digest)
    })?;
    Ok(())
}

/// Asks Flux to look at an object now, as `flux reconcile` does; the word of the request.
fn reconcile(case: &Case<'_>, object: &str) -> anyhow::Result<String> {
    let nanoseconds = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_nanos();
    let word = nanoseconds.to_string();
    let patch = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": word}}});
    case.ground.patch(NAMESPACE, object, &patch)?;
    Ok(word)
}

/// Waits for a state of one of Flux' objects.
fn until(
    case: &Case<'_>,
    object: &str,
    what: &str,
    patience: Duration,
    holds: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    let end = Instant::now() + patience;
    loop {
        let seen = case.ground.get(NAMESPACE, object)?;
        if holds(&seen) {
            return Ok(seen);
        }
        ensure!(
            Instant::now() < end,
            "failed to see {object} {what} within {} s: {}",
            patience.as_secs(),
            seen["status"]
        );
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Ready, for what is written now.
fn is_ready(object: &Value) -> bool {
    let current = number(object, "/status/observedGeneration") == number(object, "/metadata/generation");
    current && condition(object, "Ready").status == "True"
}

/// Ready, with the artifact that was published last.
fn applied(case: &Case<'_>, object: &str, patience: Duration) -> anyhow::Result<Value> {
    let fleet = case.ground.get(NAMESPACE, "ocirepository/fleet")?;
    let revision = text(&fleet, "/status/artifact/revision");
    until(case, object, "applied and ready", patience, |object| {
        is_ready(object) && text(object, "/status/lastAppliedRevision") == revision
    })
}

/// Pushes a chart as its users would.
fn push_chart(case: &Case<'_>, chart: &Path) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let target = folder.path().display().to_string();
    let cluster = &case.ground.cluster;
    cluster.helm(&["package", &chart.display().to_string(), "--destination", &target])?;
    let archive = std::fs::read_dir(folder.path())?
        .next()
        .context("nothing was packaged")??;
    let (username, password) = cluster.credentials();
    let archive = archive.path().display().to_string();
    let charts = format!("oci://ghcr.io/{ORGANISATION}/charts");
    cluster
        .helm(&[
            "push",
            &archive,
            &charts,
            "--username",
            &username,
            "--password",
            &password,
        ])
        .map(drop)
}

/// Starts Flux and gives it the CA of the registries.
fn prepare(case: &Case<'_>) -> anyhow::Result<()> {
    timed(case, "start Flux", || case.ground.cluster.start_flux())?;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": CA_SECRET, "namespace": NAMESPACE},
        "stringData": {"ca.crt": case.ground.cluster.ca_pem()},
    });
    case.ground.apply(NAMESPACE, &secret)?;
    // What the examples hold and the definitions don't know is refused.
    let folder = operator::tree().join("examples/flux").display().to_string();
    for files in [folder.clone(), format!("{folder}/catamaran")] {
        let dry = ["apply", "--dry-run=server", "--validate=strict", "-f", &files];
        case.ground.cluster.kubectl(&dry)?;
    }
    Ok(())
}

/// Takes away all that a scenario has given to Flux, and with it the release.
fn retire(case: &Case<'_>) -> anyhow::Result<()> {
    for kinds in [
        "kustomizations.kustomize.toolkit.fluxcd.io",
        "helmreleases.helm.toolkit.fluxcd.io",
        "ocirepositories.source.toolkit.fluxcd.io",
    ] {
        let arguments = ["-n", NAMESPACE, "delete", kinds, "--all", "--timeout=90s"];
        case.ground.cluster.kubectl(&arguments)?;
    }
    Ok(())
}

fn flux_carries_a_release(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    let result = remove_shared(case).and_then(|()| life(case));
    let result = result.and(retire(case));
    restore(case, result)
}

fn life(case: &Case<'_>) -> anyhow::Result<()> {
    // As in a new cluster: Flux has to bring the definition before the mirrors.
    case.ground.cluster.kubectl(&["delete", DEFINITION, "--timeout=60s"])?;
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
        cluster.kubectl(&["-n", NAMESPACE, "delete", "kustomization/catamaran", "--timeout=60s"])?;
        let gone = ["wait", "--for=delete", "helmrelease/catamaran", "--timeout=90s"];
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
    nobody_fights(case, SETTLED)?;
    let (after, looked) = (release(case)?, looks()? - looked);
    ensure!(looked >= 3, "Flux has compared {looked} times only");
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
        "{looked} comparisons in {} s afterwards, no write",
        SETTLED.as_secs()
    ));
    Ok(())
}

fn a_bad_upgrade_is_rolled_back(case: &Case<'_>, good: &[Value], mirror: &[Value]) -> anyhow::Result<()> {
    let mut bad = good.to_vec();
    let spec = &mut bad[1]["spec"];
    spec["values"]["image"]["tag"] = json!("never-built");
    spec["timeout"] = json!("20s");
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

fn flux_waits_for_mirrors(case: &Case<'_>) -> anyhow::Result<()> {
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
    let mut strict = alone("strict.yaml")?;
    strict["spec"]["timeout"] = json!("15s");
    timed(case, "the strict one says no while ACR is down", || {
        case.ground.apply(NAMESPACE, &strict)?;
        until(case, "kustomization/mirrors", "held up", PATIENCE, |object| {
            condition(object, "Ready").reason == "HealthCheckFailed"
        })
    })?;
    case.ground.cluster.heal(Registry::Acr)?;
    timed(case, "the strict one says yes when tags match again", || {
        applied(case, "kustomization/mirrors", LONG)
    })?;
    case.ground.apply(NAMESPACE, &alone("kustomizations.yaml")?)?;
    a_person_is_told_at_once(case, mirror)
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
    ensure!(
        message.contains("Failed") && took < PATIENCE,
        "after {took:?} Flux says: {message}"
    );
    case.note(format!(
        "a missing Secret fails it: {:.1} s: {message}",
        took.as_secs_f64()
    ));
    Ok(())
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
