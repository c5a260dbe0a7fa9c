//! What one node can't reach and another one can: when that flips, and when it must not.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use catamaran_cluster::{Fault, Node, Registry, Traffic};
use catamaran_e2e::Case;
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests::pod;
use catamaran_e2e::operator;
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::view::{condition, image, items, says, text, waiting};
use serde_json::{Value, json};

/// They need a cluster of two nodes, with a replica of the operator on each.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "acr-cut-off-from-the-leaders-node-only-does-not-flip",
        run: acr_cut_off_from_the_leaders_node_only,
    },
    Scenario {
        name: "acr-cut-off-from-all-but-the-leaders-pod-flips-by-kubelets",
        run: acr_cut_off_from_all_but_the_leaders_pod,
    },
    Scenario {
        name: "dead-blob-storage-for-kubelets-alone-flips",
        run: dead_blob_storage_for_kubelets_alone,
    },
];

/// How long the leader's node is cut off.
const OUTAGE: Duration = Duration::from_secs(20);

/// From the third pull that fails to a changed status.
const BY_KUBELETS: Duration = Duration::from_secs(15);

/// Pods that pull, by the tags of their images.
const FRESH: [&str; 3] = ["fresh-1", "fresh-2", "fresh-3"];

/// The node of the replica that leads, and the one of the other replica.
fn nodes(case: &Case<'_>) -> anyhow::Result<(Node, Node)> {
    let leader = operator::leader(&case.ground.cluster)?;
    let replicas = [
        "get",
        "pods",
        "-n",
        operator::NAMESPACE,
        "-l",
        operator::LABEL,
        "-o",
        "json",
    ];
    let replicas = items(&serde_json::from_str(&case.ground.cluster.kubectl(&replicas)?)?);
    let node_of = |replica: &Value| text(replica, "/spec/nodeName").parse::<Node>();
    let named = |replica: &&Value| text(replica, "/metadata/name") == leader;
    let leads = replicas.iter().find(named);
    let leads = node_of(leads.with_context(|| format!("failed to find the leader \"{leader}\""))?)?;
    let mut others = replicas.iter().filter(|replica| !named(replica)).map(node_of);
    let other = others.next().context("failed to find a replica that does not lead")??;
    ensure!(other != leads, "both replicas are on \"{leads}\"");
    Ok((leads, other))
}

/// A pod that runs on this node, whatever the scheduler thinks of it.
fn pod_on(node: Node, name: &str, image: &str) -> Value {
    let mut pod = pod(name, image);
    pod["spec"]["nodeName"] = json!(node.name());
    pod
}

fn acr_cut_off_from_the_leaders_node_only(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    let (leads, other) = nodes(case)?;
    let before = case.latest()?;
    let since = case
        .ground
        .fault_for(&[Traffic::Node(leads)], Registry::Acr, Fault::BlackHole)?;
    let partially = ("PrimaryAvailable", "Unknown", "PartiallyReachable");
    let seen = case.ground.condition(&case.name, partially, since, OUTAGE)?;
    let message = condition(&seen.object, "PrimaryAvailable").message;
    case.note(format!(
        "\"{leads}\", where the leader is, is cut off -> PartiallyReachable: {:.1} s: {message}",
        (seen.at - since).as_secs_f64()
    ));
    for node in [leads, other] {
        ensure!(
            message.contains(&format!("\"{node}\"")),
            "the message does not name \"{node}\": {message}"
        );
    }
    let acr = case.image(Registry::Acr, "v1");
    let created = case.create_pod(&pod_on(other, "pulls", &acr))?;
    ensure!(
        image(&created, "app") == acr,
        "a new pod gets {}",
        image(&created, "app")
    );
    case.ready("pulls", since, PATIENCE)?;
    case.no_flip(OUTAGE.saturating_sub(since.elapsed()))?;
    let after = case.latest()?;
    ensure!(
        after["status"]["active"] == "Primary" && after["status"]["epoch"] == before["status"]["epoch"],
        "the mirror flipped: {}",
        after["status"]
    );
    let (kind, status, reason) = partially;
    ensure!(
        says(&after, kind, status, reason),
        "{kind} became {:?}",
        condition(&after, kind)
    );
    let since = Instant::now();
    case.ground.cluster.heal(Registry::Acr)?;
    case.ground
        .condition(&case.name, ("PrimaryAvailable", "True", "Reachable"), since, PATIENCE)
        .map(drop)
}

/// Kubelets count if at least three pods on two nodes can't pull, so it takes both kubelets: the leader's node is cut off, too, but
/// not its pods. Only the leader reaches ACR.
fn acr_cut_off_from_all_but_the_leaders_pod(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&FRESH)?;
    case.mirror(|_| {})?;
    let (leads, other) = nodes(case)?;
    let cut = [Traffic::Node(other), Traffic::NodeItself(leads)];
    let since = case.ground.fault_for(&cut, Registry::Acr, Fault::Refused)?;
    kubelets_flip(case, [other, leads, other], since)?;
    let mirror = case.latest()?;
    ensure!(
        says(&mirror, "FailedOver", "True", "PullsFailing"),
        "FailedOver is {:?}",
        condition(&mirror, "FailedOver")
    );
    let flip = &mirror["status"]["lastFlip"];
    ensure!(
        flip["from"] == "Primary" && flip["reason"] == "PullsFailing",
        "the flip is {flip}"
    );
    Ok(())
}

fn dead_blob_storage_for_kubelets_alone(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&FRESH)?;
    case.mirror(|_| {})?;
    let kubelets = Node::ALL.map(Traffic::NodeItself);
    let since = case.ground.fault_for(&kubelets, Registry::Acr, Fault::BlobHostDead)?;
    kubelets_flip(case, [Node::First, Node::Second, Node::Second], since)?;
    let what = format!("PullsFailing=True on mirror {}", case.name);
    let told = case
        .ground
        .mirrors
        .until(&what, PATIENCE, ("", &case.name), since, |mirror| {
            condition(mirror, "PullsFailing").status == "True"
        })?;
    case.note(condition(&told.object, "PullsFailing").message);
    Ok(())
}

/// Starts a pod with a fresh image on each of these nodes, and waits until all of their pulls have failed, the mirror has flipped
/// and they run from the fallback.
fn kubelets_flip(case: &Case<'_>, nodes: [Node; 3], since: Instant) -> anyhow::Result<()> {
    for (node, tag) in nodes.into_iter().zip(FRESH) {
        let acr = case.image(Registry::Acr, tag);
        let created = case.create_pod(&pod_on(node, tag, &acr))?;
        ensure!(
            image(&created, "app") == acr,
            "\"{tag}\" gets {}",
            image(&created, "app")
        );
    }
    let mut third = since;
    for name in FRESH {
        let failed = case.pod(name, "with a pull that failed", since, PATIENCE, |pod| {
            waiting(pod, "app").contains("ImagePull")
        })?;
        third = third.max(failed.at);
    }
    let flipped = case.active("Fallback", since, PATIENCE)?;
    case.bar(
        "the third pull fails -> flipped",
        flipped.saturating_duration_since(third),
        BY_KUBELETS,
    )?;
    for name in FRESH {
        let ready = case.ready(name, since, PATIENCE)?;
        let from = image(&ready.object, "app");
        ensure!(from.starts_with(Registry::Ghcr.host()), "\"{name}\" runs {from}");
    }
    Ok(())
}
