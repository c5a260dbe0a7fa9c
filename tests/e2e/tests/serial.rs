//! Nodes that pull one image after the other: `check` names them, and containerd's dial timeout shortens what hangs there.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use catamaran_cluster::{Cluster, Fault, Node, Registry};
use catamaran_e2e::Case;
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests::pod;
use catamaran_e2e::operator;
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::view::{image, items, text};
use jiff::Timestamp;
use serde_json::{Value, json};

/// They need a cluster of two nodes.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "node-with-serial-pulls-is-named-and-dial-timeout-helps",
    run: node_with_serial_pulls,
}];

/// Pods whose pulls hang, by the tags of their images.
const HANGING: [&str; 3] = ["first", "second", "third"];

/// Without a dial timeout the third pull alone begins 60 s after the first.
const ALL_READY: Duration = Duration::from_mins(1);

/// What a pull from a black hole takes at least by containerd's own dial timeout, and at most, with five attempts, by one of 3 s.
const BY_ITSELF: Duration = Duration::from_secs(30);
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// A node that pulls one image after the other, as long as this lives.
struct Serial<'c>(&'c Cluster, Node);

impl<'c> Serial<'c> {
    fn make(cluster: &'c Cluster, node: Node) -> anyhow::Result<Serial<'c>> {
        let serial = Serial(cluster, node);
        cluster.serialize_image_pulls(node, true)?;
        Ok(serial)
    }
}

impl Drop for Serial<'_> {
    fn drop(&mut self) {
        let put_back = self
            .0
            .dial_timeout(None)
            .and_then(|()| self.0.serialize_image_pulls(self.1, false));
        if let Err(error) = put_back {
            eprintln!("failed to have \"{}\" pull as before: {error:#}", self.1);
        }
    }
}

fn node_with_serial_pulls(case: &Case<'_>) -> anyhow::Result<()> {
    let cluster = &case.ground.cluster;
    case.push(&HANGING)?;
    let _serial = Serial::make(cluster, Node::Second)?;
    check_names_the_node(case)?;
    missing_right_is_named(case)?;
    cluster.dial_timeout(Some(DIAL_TIMEOUT))?;
    case.mirror(|_| {})?;
    let since = case.ground.fault(Registry::Acr, Fault::BlackHole)?;
    for tag in HANGING {
        let mut pod = pod(tag, &case.image(Registry::Acr, tag));
        pod["spec"]["nodeName"] = json!(Node::Second.name());
        let created = case.create_pod(&pod)?;
        ensure!(
            image(&created, "app") == case.image(Registry::Acr, tag),
            "\"{tag}\" gets {}",
            image(&created, "app")
        );
    }
    let flipped = case.active("Fallback", since, PATIENCE)?;
    case.note(format!(
        "black hole -> flipped: {:.1} s",
        (flipped - since).as_secs_f64()
    ));
    for tag in HANGING {
        let ready = case.ready(tag, since, 2 * PATIENCE)?;
        case.bar(
            &format!("black hole -> \"{tag}\" Ready, one pull after the other, dial_timeout 3 s"),
            ready.at - since,
            ALL_READY,
        )?;
    }
    let took = first_failed_pull(case)?;
    ensure!(
        took < BY_ITSELF,
        "the first pull took {took:?}, as without a dial timeout"
    );
    Ok(())
}

/// How long the first pull of all pods took that failed, by the kubelet's own times, which are in whole seconds.
fn first_failed_pull(case: &Case<'_>) -> anyhow::Result<Duration> {
    let events = case
        .ground
        .cluster
        .kubectl(&["-n", &case.name, "get", "events", "-o", "json"])?;
    let events: Value = serde_json::from_str(&events)?;
    let first = |reason: &str, words: &str| -> anyhow::Result<Timestamp> {
        let mut times = Vec::new();
        for event in items(&events) {
            if text(&event, "/reason") == reason && text(&event, "/message").contains(words) {
                times.push(text(&event, "/firstTimestamp").parse::<Timestamp>()?);
            }
        }
        let first = times.into_iter().min();
        first.with_context(|| format!("the kubelet reports no {reason:?} of {words:?}"))
    };
    let host = Registry::Acr.host();
    let (begun, failed) = (first("Pulling", host)?, first("Failed", host)?);
    Ok(Duration::try_from(failed.duration_since(begun)).unwrap_or_default())
}

/// Runs `catamaran check --nodes` inside the cluster; its exit code and its document.
fn check(cluster: &Cluster, kubeconfig: &Path) -> anyhow::Result<(Option<i32>, Value)> {
    let binary = operator::build()?;
    let program = binary.to_str().context("the operator's path is not UTF-8")?;
    let mut command = cluster.command(program);
    let output = command
        .args(["check", "--nodes", "-o", "json", "--kubeconfig"])
        .arg(kubeconfig)
        .output()
        .context("failed to run catamaran check")?;
    let document = serde_json::from_slice(&output.stdout).with_context(|| {
        format!(
            "catamaran check printed no JSON, and {:?}",
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    Ok((output.status.code(), document))
}

/// Result, text and first detail of each line about nodes.
fn lines(document: &Value) -> Vec<[&str; 3]> {
    let lines = document["targets"][0]["steps"].as_array().into_iter().flatten();
    lines
        .map(|line| ["/result", "/text", "/details/0"].map(|pointer| text(line, pointer)))
        .collect()
}

fn check_names_the_node(case: &Case<'_>) -> anyhow::Result<()> {
    let cluster = &case.ground.cluster;
    let expected = [
        ["warning", "1 node pulls one image after the other", Node::Second.name()],
        ["ok", "1 node pulls images in parallel", Node::First.name()],
    ];
    // The kubelet has just been started again.
    let end = Instant::now() + PATIENCE;
    loop {
        let (code, document) = check(cluster, cluster.kubeconfig())?;
        if lines(&document) == expected {
            ensure!(
                code == Some(0) && document["result"] == "warning",
                "advice ended with {code:?}: {document}"
            );
            case.note(text(&document, "/targets/0/steps/0/hint"));
            return Ok(());
        }
        ensure!(Instant::now() < end, "check says of the nodes: {document:#}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Of a user who may list nodes, and no more.
fn missing_right_is_named(case: &Case<'_>) -> anyhow::Result<()> {
    let cluster = &case.ground.cluster;
    let (role, user) = (case.name.as_str(), "reader");
    cluster.kubectl(&["create", "clusterrole", role, "--verb=list", "--resource=nodes"])?;
    let (role_of, user_of) = (format!("--clusterrole={role}"), format!("--user={user}"));
    cluster.kubectl(&["create", "clusterrolebinding", role, &role_of, &user_of])?;
    let mut config: Value = serde_json::from_str(&cluster.kubectl(&["config", "view", "--raw", "-o", "json"])?)?;
    config["users"][0]["user"]["as"] = json!(user);
    let folder = tempfile::tempdir()?;
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, config.to_string())?;
    let (code, document) = check(cluster, &kubeconfig)?;
    cluster.kubectl(&["delete", "clusterrolebinding,clusterrole", role])?;
    let found = lines(&document);
    ensure!(
        code == Some(2) && found.len() == 1 && found[0][..2] == ["unknown", "how 2 nodes pull images may not be read"],
        "of a user without the right check says, with exit code {code:?}: {document:#}"
    );
    let line = document["targets"][0]["steps"][0].to_string();
    ensure!(
        line.contains("nodes/proxy") && line.contains(user),
        "the missing right is not named: {line}"
    );
    Ok(())
}
