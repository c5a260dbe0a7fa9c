//! The operator as users get it: a static binary in an otherwise empty image, installed by its chart.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use catamaran_cluster::Cluster;

use crate::installation::{self, HELM_PATIENCE};
pub use crate::installation::{LABEL, NAMESPACE, RELEASE};
use crate::watch::PATIENCE;

const REPOSITORY: &str = "ghcr.io/catamaran-dev/catamaran";
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The public authorities, which the image has beside the binary.
pub const CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The values that the tests' installation needs beside the image: replacement and notifications are tested, too, so the chart
/// has to grant and open what they need.
pub const VALUES: [&str; 2] = [
    "rescue.allowReplace=true",
    "notifications.secretName=catamaran-notifications",
];

/// The root of the source tree.
pub fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Builds the operator's binary by `make image-binary`; or takes the one that `CATAMARAN_BINARY` names.
pub fn build() -> anyhow::Result<PathBuf> {
    if let Some(binary) = std::env::var_os("CATAMARAN_BINARY").filter(|path| !path.is_empty()) {
        return Ok(binary.into());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| tree().join("target"), PathBuf::from);
    let status = Command::new("make")
        .args(["--silent", "image-binary"])
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_TERM_QUIET", "true")
        // Of the make that may have started us: nothing of it is for this one.
        .env_remove("MAKEFLAGS")
        .current_dir(tree())
        .status()
        .context("failed to run make")?;
    ensure!(status.success(), "failed to build the operator: {status}");
    Ok(target.join(TARGET).join("release/catamaran"))
}

/// Puts the image on all nodes.
pub fn load(cluster: &Cluster, binary: &Path) -> anyhow::Result<()> {
    let files = [("/catamaran", binary), (CA_BUNDLE, Path::new(CA_BUNDLE))];
    let reference = format!("{REPOSITORY}:{}", env!("CARGO_PKG_VERSION"));
    cluster.load_image(&reference, &files, &["/catamaran"])
}

/// The values that name the image on the node.
pub fn image_values() -> [String; 2] {
    [
        format!("image.repository={REPOSITORY}"),
        format!("image.tag={}", env!("CARGO_PKG_VERSION")),
    ]
}

/// Installs the chart, or upgrades it to these values, and waits until it is ready.
pub fn install(cluster: &Cluster, values: &[&str]) -> anyhow::Result<()> {
    installation::settle(cluster)?;
    helm_install(cluster, values, &[])
}

/// Installs the chart where nothing of a release may have stayed but a definition, whose fields may belong to Flux: who goes on
/// with Helm says once that they are Helm's now.
pub fn install_anew(cluster: &Cluster, values: &[&str]) -> anyhow::Result<()> {
    helm_install(cluster, values, &["--force-conflicts"])
}

fn helm_install(cluster: &Cluster, values: &[&str], more: &[&str]) -> anyhow::Result<()> {
    let chart = tree()
        .join("charts/catamaran")
        .canonicalize()
        .context("failed to find the chart")?;
    let chart = chart
        .to_str()
        .context("failed to name the chart: its path is not UTF-8")?;
    let image = image_values();
    let mut arguments = vec![
        "upgrade",
        "--install",
        RELEASE,
        chart,
        "--namespace",
        NAMESPACE,
        "--create-namespace",
    ];
    arguments.extend([
        "--wait",
        "--timeout",
        HELM_PATIENCE,
        "--set",
        &image[0],
        "--set",
        &image[1],
    ]);
    arguments.extend(more);
    for value in values {
        arguments.extend(["--set", value]);
    }
    cluster.helm(&arguments).map(drop)
}

/// Upgrades the release to these values, and waits until the replicas that were there have gone.
pub fn upgrade(cluster: &Cluster, values: &[&str]) -> anyhow::Result<()> {
    let old = pods(cluster)?;
    install(cluster, values)?;
    old.iter().try_for_each(|pod| wait_gone(cluster, pod))
}

/// Sets the number of replicas and waits until exactly those are there.
pub fn scale(cluster: &Cluster, replicas: u32) -> anyhow::Result<()> {
    let deployment = format!("deployment/{RELEASE}");
    cluster.kubectl(&["-n", NAMESPACE, "scale", &deployment, &format!("--replicas={replicas}")])?;
    if replicas == 0 {
        let gone = ["wait", "--for=delete", "pod", "-l", LABEL, "--timeout=180s"];
        cluster.kubectl(&[&["-n", NAMESPACE][..], &gone].concat()).map(drop)
    } else {
        cluster
            .kubectl(&["-n", NAMESPACE, "rollout", "status", &deployment, "--timeout=180s"])
            .map(drop)
    }
}

/// The name of the pod that leads; empty if none does.
pub fn leader(cluster: &Cluster) -> anyhow::Result<String> {
    cluster.kubectl(&[
        "-n",
        NAMESPACE,
        "get",
        "lease",
        RELEASE,
        "-o",
        "jsonpath={.spec.holderIdentity}",
    ])
}

/// Waits until somebody else than `holder` leads; how long that took since `since`.
pub fn followed(cluster: &Cluster, holder: &str, since: Instant) -> anyhow::Result<Duration> {
    loop {
        let leader = leader(cluster)?;
        if !leader.is_empty() && leader != holder {
            return Ok(since.elapsed());
        }
        ensure!(since.elapsed() < PATIENCE, "nobody follows \"{holder}\"");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Kills a replica as a crash would, without a chance to hand over the lease, and removes its pod before it is restarted.
pub fn kill(cluster: &Cluster, pod: &str) -> anyhow::Result<()> {
    signal(cluster, pod, "KILL")?;
    let remove = ["delete", "pod", pod, "--grace-period=0", "--force"];
    cluster.kubectl(&[&["-n", NAMESPACE][..], &remove].concat()).map(drop)
}

/// Sends a signal to a replica's process; nobody else is told.
pub fn signal(cluster: &Cluster, pod: &str, signal: &str) -> anyhow::Result<()> {
    let script = r#"found=
        for folder in /proc/[0-9]*; do
            tr '\0' '\n' <"$folder/environ" 2>/dev/null | grep -qx "POD_NAME=$1" || continue
            kill -"$2" "${folder#/proc/}" && found=1
        done
        test "$found""#;
    let status = cluster.command("sh").args(["-c", script, "sh", pod, signal]).status()?;
    ensure!(status.success(), "failed to find the process of {pod}");
    Ok(())
}

/// Replaces all replicas one after the other, as an upgrade does, and waits until the last old one has gone.
pub fn roll(cluster: &Cluster) -> anyhow::Result<()> {
    let old = pods(cluster)?;
    let deployment = format!("deployment/{RELEASE}");
    cluster.kubectl(&["-n", NAMESPACE, "rollout", "restart", &deployment])?;
    cluster.kubectl(&["-n", NAMESPACE, "rollout", "status", &deployment, "--timeout=180s"])?;
    for pod in old {
        wait_gone(cluster, &pod)?;
    }
    Ok(())
}

/// Evicts a replica as the drain of its node does, and waits until it has gone and another one is ready in its place.
pub fn evict(cluster: &Cluster, pod: &str) -> anyhow::Result<()> {
    let eviction = serde_json::json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": NAMESPACE},
    });
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction");
    cluster.kubectl_stdin(&["create", "--raw", &path, "-f", "-"], &eviction.to_string())?;
    wait_gone(cluster, pod)?;
    let deployment = format!("deployment/{RELEASE}");
    let status = ["-n", NAMESPACE, "rollout", "status", &deployment, "--timeout=180s"];
    cluster.kubectl(&status).map(drop)
}

/// Waits until a replica has ended and its pod is gone.
pub fn wait_gone(cluster: &Cluster, pod: &str) -> anyhow::Result<()> {
    let name = format!("pod/{pod}");
    cluster
        .kubectl(&["-n", NAMESPACE, "wait", "--for=delete", &name, "--timeout=180s"])
        .map(drop)
}

/// The names of all replicas.
pub fn pods(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let names = [
        "-n",
        NAMESPACE,
        "get",
        "pods",
        "-l",
        LABEL,
        "-o",
        "jsonpath={.items[*].metadata.name}",
    ];
    Ok(cluster.kubectl(&names)?.split_whitespace().map(str::to_owned).collect())
}

/// The certificate that the replicas serve with, as its Secret has it.
pub fn certificate(cluster: &Cluster) -> anyhow::Result<String> {
    certificate_data(cluster, "tls\\.crt")
}

/// One key of the Secret with the webhook's certificates; dots in it are escaped.
pub fn certificate_data(cluster: &Cluster, key: &str) -> anyhow::Result<String> {
    let (secret, path) = (format!("{RELEASE}-webhook-tls"), format!("jsonpath={{.data.{key}}}"));
    cluster.kubectl(&["-n", NAMESPACE, "get", "secret", &secret, "-o", &path])
}

/// The name that the API server knows the operator by.
pub fn account() -> String {
    format!("system:serviceaccount:{NAMESPACE}:{RELEASE}")
}

/// What all replicas have logged in the last while.
pub fn logs(cluster: &Cluster, since: Duration) -> anyhow::Result<String> {
    let since = format!("--since={}s", since.as_secs() + 1);
    let all = ["logs", "-l", LABEL, "--prefix", "--tail=-1", &since];
    cluster.kubectl(&[&["-n", NAMESPACE][..], &all].concat())
}
