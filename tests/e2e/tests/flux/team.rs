//! What a team and its Flux do: files in a source, requests to look, and waiting for what comes of them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use catamaran_cluster::Registry;
use catamaran_cluster::flux::NAMESPACE;
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests::{CA_SECRET, ORGANISATION};
use catamaran_e2e::view::{condition, items, name, number, text};
use catamaran_e2e::{Case, operator};
use serde_json::{Value, json};

use crate::release::timed;

/// An installation or upgrade under Flux, with all its waiting.
pub const LONG: Duration = Duration::from_mins(6);

/// The objects of a file below `examples/flux`, as kubectl reads them. Flux' definitions must be there.
pub fn example(case: &Case<'_>, file: &str) -> anyhow::Result<Vec<Value>> {
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
fn here(case: &Case<'_>, mut object: Value) -> Value {
    let kind = text(&object, "/kind").to_owned();
    let spec = &mut object["spec"];
    match kind.as_str() {
        "OCIRepository" => {
            spec["url"] = json!(format!("{}/catamaran", charts(case)));
            spec["certSecretRef"] = json!({"name": CA_SECRET});
            spec["interval"] = json!("1m");
        }
        "HelmRelease" => {
            spec["interval"] = json!("3s");
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
pub fn installation(case: &Case<'_>) -> anyhow::Result<Vec<Value>> {
    Ok(example(case, "catamaran/operator.yaml")?
        .into_iter()
        .map(|object| here(case, object))
        .collect())
}

/// A Kustomization of an example's file.
pub fn kustomization(case: &Case<'_>, file: &str, named: &str) -> anyhow::Result<Value> {
    let found = example(case, file)?.into_iter().find(|object| name(object) == named);
    found
        .map(|object| here(case, object))
        .with_context(|| format!("{file} has no {named}"))
}

/// Puts what a team keeps in Git where Flux finds it, and makes it look.
pub fn publish(case: &Case<'_>, installation: &[Value], mirrors: &[Value]) -> anyhow::Result<()> {
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
pub fn reconcile(case: &Case<'_>, object: &str) -> anyhow::Result<String> {
    let nanoseconds = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_nanos();
    let word = nanoseconds.to_string();
    let patch = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": word}}});
    case.ground.patch(NAMESPACE, object, &patch)?;
    Ok(word)
}

/// Waits for a state of one of Flux' objects.
pub fn until(
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
pub fn is_ready(object: &Value) -> bool {
    let current = number(object, "/status/observedGeneration") == number(object, "/metadata/generation");
    current && condition(object, "Ready").status == "True"
}

/// Ready, with the artifact that was published last.
pub fn applied(case: &Case<'_>, object: &str, patience: Duration) -> anyhow::Result<Value> {
    let fleet = case.ground.get(NAMESPACE, "ocirepository/fleet")?;
    let revision = text(&fleet, "/status/artifact/revision");
    until(case, object, "applied and ready", patience, |object| {
        // What is tried may still be another one, after which the one before is the last that was applied.
        let is_this = |field| text(object, field) == revision;
        is_ready(object) && is_this("/status/lastAttemptedRevision") && is_this("/status/lastAppliedRevision")
    })
}

/// Where the charts of this scenario are: the newest of another one would be newer than what this one begins with.
fn charts(case: &Case<'_>) -> String {
    format!("oci://ghcr.io/{ORGANISATION}/{}/charts", case.name)
}

/// Pushes a chart as its users would.
pub fn push_chart(case: &Case<'_>, chart: &Path) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let target = folder.path().display().to_string();
    let cluster = &case.ground.cluster;
    cluster.helm(&["package", &chart.display().to_string(), "--destination", &target])?;
    let archive = std::fs::read_dir(folder.path())?
        .next()
        .context("nothing was packaged")??;
    let (username, password) = cluster.credentials();
    let archive = archive.path().display().to_string();
    cluster
        .helm(&[
            "push",
            &archive,
            &charts(case),
            "--username",
            &username,
            "--password",
            &password,
        ])
        .map(drop)
}

/// Starts Flux and gives it the CA of the registries.
pub fn prepare(case: &Case<'_>) -> anyhow::Result<()> {
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
pub fn retire(case: &Case<'_>) -> anyhow::Result<()> {
    for kinds in [
        "kustomizations.kustomize.toolkit.fluxcd.io",
        "helmreleases.helm.toolkit.fluxcd.io",
        "ocirepositories.source.toolkit.fluxcd.io",
        "gitrepositories.source.toolkit.fluxcd.io",
    ] {
        let arguments = ["-n", NAMESPACE, "delete", kinds, "--all", "--timeout=180s"];
        case.ground.cluster.kubectl(&arguments)?;
    }
    Ok(())
}
