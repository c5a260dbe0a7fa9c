//! A cluster with a second node: what runs there, what it reaches, and what only one of the two can be cut off from.

use std::time::{Duration, Instant};

use catamaran_cluster::{Cluster, Fault, Node, Options, Registry, TestImage, Traffic};

use super::{Ended, nothing_is_left, output, ready};

/// The other test runs beside this one: neither name may contain the other.
const NAME: &str = "two-nodes";

const ACR: &str = "https://kracr.azurecr.io/v2/";
const BLOBS: &str = "https://kracr.westeurope.data.azurecr.io/";
const GHCR: &str = "https://ghcr.io/v2/";

#[test]
fn second_node_has_its_own_pods_network_and_faults() {
    let _ended = Ended(NAME);
    let options = Options {
        name: NAME.to_owned(),
        nodes: 2,
        ..Options::default()
    };
    let cluster = Cluster::up(&options).unwrap();
    assert_eq!(cluster.nodes(), Node::ALL);
    push(&cluster, "v1");
    for node in Node::ALL {
        run_on(&cluster, node, pod_of(node), "v1");
    }
    for node in Node::ALL {
        ready(&cluster, pod_of(node));
    }

    pods_reach_each_other_and_what_the_cluster_has(&cluster);
    kubectl_reads_and_enters_pods_of_both_nodes(&cluster);
    service_reaches_pod_of_the_other_node(&cluster);
    required_anti_affinity_spreads_pods(&cluster);
    registry_is_cut_off_from_one_node_only(&cluster);
    faults_of_one_node_stop_its_pulls_only(&cluster);
    fault_of_the_node_itself_spares_its_pods(&cluster);

    cluster.restart("kubelet-node-2").unwrap();
    assert!(cluster.status().unwrap().iter().all(|component| component.alive));
    // As after a crash: only the kernel has ended what ran.
    output("kill", &["-KILL", &cluster.anchor_pid().to_string()]);
    Cluster::destroy(NAME).unwrap();
    nothing_is_left(NAME);
}

fn pod_of(node: Node) -> &'static str {
    match node {
        Node::First => "on-first",
        Node::Second => "on-second",
    }
}

fn push(cluster: &Cluster, tag: &str) {
    cluster
        .push(&Registry::ALL, "web", tag, &TestImage::serving(tag))
        .unwrap();
}

fn run_on(cluster: &Cluster, node: Node, pod: &str, tag: &str) {
    let overrides = format!(r#"--overrides={{"spec":{{"nodeName":"{node}"}}}}"#);
    let image = format!("--image=kracr.azurecr.io/web:{tag}");
    cluster.kubectl(&["run", pod, &image, &overrides]).unwrap();
}

fn address(cluster: &Cluster, pod: &str) -> String {
    cluster
        .kubectl(&["get", "pod", pod, "-o", "jsonpath={.status.podIP}"])
        .unwrap()
}

const CURL: [&str; 7] = ["-sk", "-m", "3", "-o", "/dev/null", "-w", "%{http_code} %{exitcode}"];

/// What curl makes of a request in a pod's network: the status and its exit code.
fn from_pod(cluster: &Cluster, pod: &str, url: &str) -> String {
    // The test image has no client; the kubelet gives each container the name of its pod.
    let script = r#"pod=$1; shift
        for folder in /proc/[0-9]*; do
            tr '\0' '\n' <"$folder/environ" 2>/dev/null | grep -qx "HOSTNAME=$pod" || continue
            exec nsenter --net="$folder/ns/net" -- curl "$@"
        done"#;
    let mut shell = cluster.command("sh");
    shell.args(["-c", script, "sh", pod]).args(CURL).arg(url);
    String::from_utf8(shell.output().unwrap().stdout).unwrap()
}

/// The same from a node itself.
fn from_node(cluster: &Cluster, node: Node, url: &str) -> String {
    let mut curl = cluster.command_on(node, "curl");
    let output = curl.args(CURL).arg(url).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Asks until the answer comes: a machine that is busy may be late.
fn answers(ask: impl Fn() -> String, expected: &str, what: &str) {
    let end = Instant::now() + Duration::from_mins(1);
    let mut seen = ask();
    while seen != expected && Instant::now() < end {
        seen = ask();
    }
    assert_eq!(seen, expected, "{what}");
}

fn pods_reach_each_other_and_what_the_cluster_has(cluster: &Cluster) {
    for (node, other) in [(Node::First, Node::Second), (Node::Second, Node::First)] {
        let pod = pod_of(node);
        let there = format!("http://{}/", address(cluster, pod_of(other)));
        for (url, expected) in [
            (there.as_str(), "200 0"),
            ("https://10.96.0.1/readyz", "200 0"),
            (ACR, "401 0"),
            (BLOBS, "404 0"),
            (GHCR, "401 0"),
        ] {
            answers(|| from_pod(cluster, pod, url), expected, &format!("{url} from {pod}"));
        }
        // Also from the node itself, as kubelets check pods and the API server calls webhooks.
        answers(
            || from_node(cluster, node, &there),
            "200 0",
            &format!("{there} from {node}"),
        );
    }
}

fn kubectl_reads_and_enters_pods_of_both_nodes(cluster: &Cluster) {
    for node in Node::ALL {
        let pod = pod_of(node);
        let on = cluster.kubectl(&["get", "pod", pod, "-o", "jsonpath={.spec.nodeName} {.status.hostIP}"]);
        assert_eq!(on.unwrap(), format!("{node} {}", node.address()));
        cluster.kubectl(&["logs", pod]).unwrap();
        for name in ["kubernetes.default.svc.cluster.local", "ghcr.io"] {
            cluster.kubectl(&["exec", pod, "--", "/tool", "lookup", name]).unwrap();
        }
    }
}

fn service_reaches_pod_of_the_other_node(cluster: &Cluster) {
    for (node, service) in [(Node::First, "10.96.0.81"), (Node::Second, "10.96.0.82")] {
        let (pod, service) = (pod_of(node), format!("--cluster-ip={service}"));
        cluster.kubectl(&["expose", "pod", pod, "--port=80", &service]).unwrap();
    }
    answers(
        || from_node(cluster, Node::First, "http://10.96.0.82/"),
        "200 0",
        "from the first node",
    );
    answers(
        || from_node(cluster, Node::Second, "http://10.96.0.81/"),
        "200 0",
        "from the second node",
    );
    answers(
        || from_pod(cluster, "on-first", "http://10.96.0.82/"),
        "200 0",
        "from the first node's pod",
    );
    answers(
        || from_pod(cluster, "on-second", "http://10.96.0.81/"),
        "200 0",
        "from the second node's pod",
    );
}

fn required_anti_affinity_spreads_pods(cluster: &Cluster) {
    let term = r#"{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "spread"}}}"#;
    let deployment = r#"{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "spread"}, "spec": {
        "replicas": 2, "selector": {"matchLabels": {"app": "spread"}},
        "template": {"metadata": {"labels": {"app": "spread"}}, "spec": {
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [TERM]}},
            "containers": [{"name": "c", "image": "ghcr.io/web:v1"}]}}}}"#;
    cluster
        .kubectl_stdin(&["apply", "-f", "-"], &deployment.replace("TERM", term))
        .unwrap();
    cluster
        .kubectl(&["rollout", "status", "deployment/spread", "--timeout=180s"])
        .unwrap();
    let nodes = [
        "get",
        "pods",
        "-l",
        "app=spread",
        "-o",
        "jsonpath={.items[*].spec.nodeName}",
    ];
    let nodes = cluster.kubectl(&nodes).unwrap();
    let mut nodes: Vec<_> = nodes.split_whitespace().collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["node", "node-2"]);
}

fn registry_is_cut_off_from_one_node_only(cluster: &Cluster) {
    for (cut, other) in [(Node::First, Node::Second), (Node::Second, Node::First)] {
        cluster
            .fault_for(&[Traffic::Node(cut)], Registry::Acr, Fault::BlackHole)
            .unwrap();
        assert_eq!(cluster.current_fault(Registry::Acr), format!("black-hole for {cut}"));
        assert_eq!(from_node(cluster, cut, ACR), "000 28");
        assert_eq!(from_pod(cluster, pod_of(cut), ACR), "000 28");
        answers(|| from_node(cluster, other, ACR), "401 0", "from the other node");
        answers(
            || from_pod(cluster, pod_of(other), ACR),
            "401 0",
            "from the other node's pod",
        );
        answers(|| from_pod(cluster, pod_of(cut), GHCR), "401 0", "the other registry");
        cluster.heal(Registry::Acr).unwrap();
    }
    let of_front = cluster.fault_for(&[Traffic::Node(Node::First)], Registry::Acr, Fault::http(503));
    assert!(of_front.is_err(), "the front does not tell nodes apart");
}

fn faults_of_one_node_stop_its_pulls_only(cluster: &Cluster) {
    push(cluster, "fresh");
    cluster
        .fault_for(&[Traffic::Node(Node::Second)], Registry::Acr, Fault::Refused)
        .unwrap();
    run_on(cluster, Node::First, "pulls", "fresh");
    run_on(cluster, Node::Second, "waits", "fresh");
    ready(cluster, "pulls");
    let reason = "-o=jsonpath={.status.containerStatuses[0].state.waiting.reason}";
    let end = Instant::now() + Duration::from_mins(1);
    let mut waiting = String::new();
    while !waiting.contains("ImagePull") && Instant::now() < end {
        waiting = cluster.kubectl(&["get", "pod", "waits", reason]).unwrap();
    }
    assert!(waiting.contains("ImagePull"), "\"waits\" is {waiting}");
    cluster.heal(Registry::Acr).unwrap();
    ready(cluster, "waits");
}

fn fault_of_the_node_itself_spares_its_pods(cluster: &Cluster) {
    let both = Node::ALL.map(Traffic::NodeItself);
    cluster.fault_for(&both, Registry::Acr, Fault::BlobHostDead).unwrap();
    for node in Node::ALL {
        answers(
            || from_node(cluster, node, BLOBS),
            "000 7",
            &format!("blobs from {node}"),
        );
        answers(
            || from_node(cluster, node, ACR),
            "401 0",
            &format!("registry from {node}"),
        );
        answers(
            || from_pod(cluster, pod_of(node), BLOBS),
            "404 0",
            &format!("blobs from a pod of {node}"),
        );
    }
    cluster.heal(Registry::Acr).unwrap();
}
