//! What the chart renders, before a real API server; and what the operator that it installs weighs.
//!
//! Kinds that Kubernetes doesn't have itself, cert-manager's and the Prometheus operator's, are there as closed structural
//! definitions of the fields that the chart writes (`tests/chart/crds`): a field that is misspelt or of another type is refused
//! as by the real ones, what those check beyond that is not.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::view::{is_ready, name, namespace};
use catamaran_e2e::{Case, chart, manifests, operator};
use serde_json::{Value, json};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "every-rendering-of-the-chart-is-accepted",
        run: every_rendering_is_accepted,
    },
    Scenario {
        name: "rendered-pods-pass-the-restricted-level",
        run: rendered_pods_pass_the_restricted_level,
    },
    Scenario {
        name: "the-operator-is-small-and-soon-ready",
        run: the_operator_is_small_and_soon_ready,
    },
];

/// Foreign definitions, taken away again when the scenario is over.
struct Definitions<'g>(&'g Case<'g>, String);

impl<'g> Definitions<'g> {
    fn install(case: &'g Case<'g>) -> anyhow::Result<Self> {
        let folder = operator::tree().join("tests/chart/crds").canonicalize()?;
        let folder = folder.to_str().context("the path is not UTF-8")?.to_owned();
        let cluster = &case.ground.cluster;
        let installed = Self(case, folder);
        cluster.kubectl(&["apply", "-f", &installed.1])?;
        cluster.served(&["-f", &installed.1])?;
        Ok(installed)
    }
}

impl Drop for Definitions<'_> {
    fn drop(&mut self) {
        // What is still being deleted could be applied again, and be gone a moment later.
        let gone = ["delete", "--ignore-not-found", "--timeout=180s", "-f", &self.1];
        if let Err(error) = self.0.ground.cluster.kubectl(&gone) {
            eprintln!("failed to remove the foreign definitions: {error:#}");
        }
    }
}

fn rendered(case: &Case<'_>, values: &str, more: &[&str]) -> anyhow::Result<String> {
    let folder = chart::folder()?;
    let folder = folder.to_str().context("the path is not UTF-8")?;
    let arguments = [
        "template",
        "rendered",
        folder,
        "--namespace",
        &case.name,
        "--values",
        values,
    ];
    case.ground.cluster.helm(&[&arguments[..], more].concat())
}

fn every_rendering_is_accepted(case: &Case<'_>) -> anyhow::Result<()> {
    let _definitions = Definitions::install(case)?;
    // As Helm 4 and Flux do: strictly, on the server's side.
    let apply = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--validate=strict",
    ];
    let apply = [&apply[..], &["--field-manager=rendering", "-f", "-"]].concat();
    let mut kinds = std::collections::BTreeSet::new();
    for (values, file) in chart::matrix()? {
        let text = rendered(case, file.to_str().context("the path is not UTF-8")?, &[])?;
        let printed = case.ground.cluster.kubectl_stdin(&apply, &text);
        let printed = printed.with_context(|| format!("the rendering of {values} was refused"))?;
        let accepted = printed.lines().filter(|line| line.contains("server dry run")).count();
        let objects = text.lines().filter(|line| line.starts_with("kind: ")).count();
        ensure!(
            accepted == objects,
            "{accepted} of the {objects} objects of {values} were accepted: {printed}"
        );
        kinds.extend(
            text.lines()
                .filter_map(|line| line.strip_prefix("kind: "))
                .map(str::to_owned),
        );
    }
    for kind in [
        "Certificate",
        "ServiceMonitor",
        "PodMonitor",
        "PrometheusRule",
        "NetworkPolicy",
        "PodDisruptionBudget",
    ] {
        ensure!(kinds.contains(kind), "no set of values renders a {kind}");
    }
    // What is refused here would be refused there.
    let misspelt = json!({
        "apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor",
        "metadata": {"name": "x", "namespace": case.name},
        "spec": {"selector": {}, "endpoints": [{"ports": "http"}]},
    });
    let refused = case.ground.cluster.kubectl_stdin(&apply, &misspelt.to_string());
    ensure!(refused.is_err(), "a misspelt field was accepted");
    let kinds: Vec<_> = kinds.into_iter().collect();
    case.note(format!(
        "{} sets of values, of the kinds {}",
        chart::matrix()?.len(),
        kinds.join(", ")
    ));
    Ok(())
}

fn rendered_pods_pass_the_restricted_level(case: &Case<'_>) -> anyhow::Result<()> {
    let level = "pod-security.kubernetes.io/enforce=restricted";
    case.ground
        .cluster
        .kubectl(&["label", "namespace", &case.name, level])?;
    for (values, file) in chart::matrix()? {
        let only = ["--show-only", "templates/deployment.yaml"];
        let text = rendered(case, file.to_str().context("the path is not UTF-8")?, &only)?;
        let deployment: Value = serde_saphyr::from_str(&text).with_context(|| format!("failed to read {values}"))?;
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "rendered"}});
        pod["spec"] = deployment["spec"]["template"]["spec"].clone();
        // The chart's own account is not there, and has no bearing on the level.
        pod["spec"]["serviceAccountName"] = json!("default");
        case.admitted(&pod)
            .with_context(|| format!("the pod of {values} was refused"))?;
        pod["spec"]["containers"][0]["securityContext"]["capabilities"] = json!({});
        let Err(refused) = case.admitted(&pod) else {
            anyhow::bail!("a pod that keeps its capabilities was accepted: nothing is enforced");
        };
        ensure!(refused.to_string().contains("violates PodSecurity"), "{refused:#}");
    }
    // The operator that all scenarios use runs under the same level.
    let own = case
        .ground
        .get("default", &format!("namespace/{}", operator::NAMESPACE))?;
    let enforced = &own["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
    ensure!(*enforced == "restricted", "{} enforces {enforced}", operator::NAMESPACE);
    Ok(())
}

const MEGABYTE: f64 = 1_000_000.0;

/// What a replica with ten mirrors may have in memory when it is idle, in megabytes.
const MOST_RESIDENT: f64 = 20.0;

fn the_operator_is_small_and_soon_ready(case: &Case<'_>) -> anyhow::Result<()> {
    image_size(case)?;
    start_to_ready(case)?;
    memory_with_ten_mirrors(case)
}

/// What a node downloads and what it then keeps; registries hold layers compressed by gzip, and count those.
fn image_size(case: &Case<'_>) -> anyhow::Result<()> {
    let binary = operator::build()?;
    let unpacked = std::fs::metadata(&binary)?.len();
    let packed = Command::new("gzip").arg("--stdout").arg(&binary).output()?;
    ensure!(packed.status.success(), "gzip failed: {}", packed.status);
    let authorities = std::fs::metadata(operator::CA_BUNDLE)?.len();
    let size = (unpacked + authorities) as f64 / MEGABYTE;
    case.note(format!(
        "image: {size:.1} MB unpacked (bar: 25 MB), {:.1} MB to pull",
        (packed.stdout.len() as u64 + authorities) as f64 / MEGABYTE
    ));
    ensure!(size <= 25.0, "the image is {size:.1} MB");
    Ok(())
}

/// From the start of the container, which the kubelet tells by the second, to Ready, as a watcher sees it.
fn start_to_ready(case: &Case<'_>) -> anyhow::Result<()> {
    let replicas = |pods: Vec<Value>| -> Vec<String> {
        let ours = pods
            .into_iter()
            .filter(|pod| name(pod).starts_with(&format!("{}-", operator::RELEASE)));
        ours.map(|pod| name(&pod).to_owned()).collect()
    };
    let before = replicas(case.ground.pods.all_in(operator::NAMESPACE));
    let leaving = before.first().context("there is no replica")?;
    let delete = ["-n", operator::NAMESPACE, "delete", "pod", leaving, "--wait=false"];
    case.ground.cluster.kubectl(&delete)?;
    let is_new = |pod: &Value| namespace(pod) == operator::NAMESPACE && !before.iter().any(|old| old == name(pod));
    let started = |pod: &Value| {
        pod.pointer("/status/containerStatuses/0/state/running/startedAt")
            .is_some()
    };
    let (running, ready) = case.ground.pods.wait("a new replica that is ready", PATIENCE, |seen| {
        let first = |holds: &dyn Fn(&Value) -> bool| {
            let found = seen.iter().find(|item| is_new(&item.object) && holds(&item.object));
            found.map(|item| item.at)
        };
        Some((first(&started)?, first(&|pod| is_ready(pod))?))
    })?;
    // Seen running and seen Ready may be the same event, when the readiness probe was sooner than the kubelet's report.
    case.bar(
        "container started to Ready",
        ready.duration_since(running),
        Duration::from_secs(3),
    )?;
    let rollout = format!("deployment/{}", operator::RELEASE);
    let whole = [
        "-n",
        operator::NAMESPACE,
        "rollout",
        "status",
        &rollout,
        "--timeout=180s",
    ];
    case.ground.cluster.kubectl(&whole).map(drop)
}

/// What one program has differs by almost two megabytes from one start to the next, so this bar is for two of three: where the
/// first is above it, both of the next must be within.
fn memory_with_ten_mirrors(case: &Case<'_>) -> anyhow::Result<()> {
    let mirrors: Vec<String> = (0..10).map(|number| format!("idle-{number}")).collect();
    for mirror in &mirrors {
        case.ground.push(&catamaran_cluster::Registry::ALL, mirror, "v1")?;
    }
    if most_resident(case, &mirrors)? <= MOST_RESIDENT {
        return Ok(());
    }
    for _ in 0..2 {
        case.ground.delete_mirrors()?;
        operator::roll(&case.ground.cluster)?;
        let most = most_resident(case, &mirrors)?;
        ensure!(
            most <= MOST_RESIDENT,
            "a replica with 10 mirrors has {most:.1} MB resident, and so had one before"
        );
    }
    Ok(())
}

/// Applies the mirrors and lets the replicas rest; what the larger one has in memory, in megabytes.
fn most_resident(case: &Case<'_>, mirrors: &[String]) -> anyhow::Result<f64> {
    let since = Instant::now();
    for mirror in mirrors {
        case.ground.apply("default", &manifests::mirror(mirror, &[mirror]))?;
    }
    for mirror in mirrors {
        case.ground.observed(mirror, since)?;
    }
    // Idle is the state after the first passes, with probes going on.
    std::thread::sleep(Duration::from_secs(15));
    let replicas = resident(case)?;
    ensure!(replicas.len() >= 2, "expected two replicas, found {replicas:?}");
    let mut most = 0.0_f64;
    for Resident { own, executable } in replicas {
        let total = own + executable;
        case.note(format!(
            "a replica with 10 mirrors: {total:.1} MB resident with the pages of its executable (bar: {MOST_RESIDENT} MB), \
             {own:.1} MB of its own"
        ));
        most = most.max(total);
    }
    Ok(most)
}

/// What a replica has in memory, in megabytes.
#[derive(Debug)]
struct Resident {
    /// What it has written: no other process shares it, and it can't be dropped.
    own: f64,
    /// Pages of the executable: replicas of a node share them, and the kernel drops them when it needs room.
    executable: f64,
}

fn resident(case: &Case<'_>) -> anyhow::Result<Vec<Resident>> {
    let script = r#"for folder in /proc/[0-9]*; do
            tr '\0' '\n' <"$folder/environ" 2>/dev/null | grep -qx "POD_NAMESPACE=$1" || continue
            sed -n 's/^RssAnon:[^0-9]*\([0-9]*\) kB$/\1/p; s/^RssFile:[^0-9]*\([0-9]*\) kB$/\1/p' "$folder/status" | xargs
        done"#;
    let arguments = ["-c", script, "sh", operator::NAMESPACE];
    let output = case.ground.cluster.command("sh").args(arguments).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let replica = |line: &str| {
        let (own, executable) = line.split_once(' ').context("a process has no figures")?;
        let megabytes = |kilobytes: &str| Ok::<_, anyhow::Error>(kilobytes.parse::<f64>()? * 1024.0 / MEGABYTE);
        Ok(Resident {
            own: megabytes(own)?,
            executable: megabytes(executable)?,
        })
    };
    text.lines().map(replica).collect()
}
