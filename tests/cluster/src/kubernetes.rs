//! The order in which everything comes up, and how to tell that it has.

use anyhow::ensure;

use crate::cache::binary;
use crate::command::{output, output_with, until};
use crate::config::{AUDIT, PAUSE_IMAGE};
use crate::images::Image;
use crate::network::{DNS_SERVICE, NODE, PODS, SERVICES};
use crate::node::Node;
use crate::options::Options;
use crate::processes::{Anchor, Daemon};
use crate::registry::Registry;
use crate::state::State;

/// Starts everything and returns when the nodes are ready, names resolve and the registries answer.
pub fn bring_up(state: &State, anchor: &Anchor, nodes: &[Node], options: &Options) -> anyhow::Result<()> {
    for daemon in first(state, nodes) {
        anchor.spawn(&daemon)?;
    }
    anchor.spawn(&api_server(state, options))?;
    for node in nodes {
        until(&node.named("containerd"), || {
            output(anchor.on(*node, &text("containerd", "ctr")).arg("version"))
        })?;
    }
    let pause = Image::of_tool(state, "pause", &["pause"])?;
    pause.load(state, anchor, nodes, PAUSE_IMAGE)?;
    serves(state, anchor)?;
    for daemon in second(state, nodes, options) {
        anchor.spawn(&daemon)?;
    }
    // Without validation kubectl need not first fetch the schema of everything.
    let mut kubectl = anchor.enter(None, "/", &text("kubernetes", "kubectl"));
    kubectl.args([
        "--kubeconfig",
        &state.text("pki/admin.conf"),
        "create",
        "--validate=false",
        "-f",
        "-",
    ]);
    output_with(&mut kubectl, &base_objects())?;
    ready(state, anchor, nodes)
}

/// Waits until the API server is ready.
pub fn serves(state: &State, anchor: &Anchor) -> anyhow::Result<()> {
    until("the API server", || api_get(state, anchor, "/readyz")).map(drop)
}

fn ready(state: &State, anchor: &Anchor, nodes: &[Node]) -> anyhow::Result<()> {
    nodes.iter().try_for_each(|node| node_ready(state, anchor, *node))?;
    until("the default service account", || {
        api_get(state, anchor, "/api/v1/namespaces/default/serviceaccounts/default")
    })?;
    for registry in Registry::ALL {
        asks_for_a_token(anchor, registry)?;
    }
    until("names to resolve", || {
        let name = "kubernetes.default.svc.cluster.local.";
        output(anchor.enter(None, "/", &text("tool", "tool")).args(["lookup", name]))
    })?;
    Ok(())
}

fn node_ready(state: &State, anchor: &Anchor, node: Node) -> anyhow::Result<()> {
    until(&format!("node \"{node}\" to be ready"), || {
        let path = format!("/api/v1/nodes/{node}");
        let node: serde_json::Value = serde_json::from_str(&api_get(state, anchor, &path)?)?;
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions
            .iter()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        ensure!(ready, "conditions are {conditions:?}");
        // A node that has just become ready still carries the taint of one that is not.
        ensure!(
            node["spec"]["taints"].is_null(),
            "taints are {}",
            node["spec"]["taints"]
        );
        Ok(())
    })
}

/// Waits until a registry's front answers as it should.
pub fn asks_for_a_token(anchor: &Anchor, registry: Registry) -> anyhow::Result<()> {
    let what = format!("{} to ask for a token", registry.host());
    until(&what, || {
        let url = format!("https://{}/v2/", registry.host());
        let arguments = ["-s", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", &url];
        let status = output(anchor.enter(None, "/", "curl").args(arguments))?;
        ensure!(status == "401", "status is {status}");
        Ok(())
    })
}

/// Asks the API server as its administrator.
fn api_get(state: &State, anchor: &Anchor, path: &str) -> anyhow::Result<String> {
    let pki = |file: &str| state.text(&format!("pki/{file}"));
    let (authority, certificate, key) = (pki("ca.crt"), pki("admin.crt"), pki("admin.key"));
    let url = format!("https://{NODE}:6443{path}");
    let arguments = [
        "-sSf",
        "-m",
        "30",
        "--cacert",
        &authority,
        "--cert",
        &certificate,
        "--key",
        &key,
        &url,
    ];
    output(anchor.enter(None, "/", "curl").args(arguments))
}

fn text(component: &str, program: &str) -> String {
    binary(component, program).display().to_string()
}

fn daemon(name: &str, program: String, arguments: Vec<String>) -> Daemon {
    let words = std::iter::once(program).chain(arguments).collect();
    Daemon {
        name: name.to_owned(),
        namespace: None,
        words,
        environment: Vec::new(),
    }
}

/// A daemon of a node.
fn on(state: &State, node: Node, name: &str, program: String, arguments: Vec<String>) -> Daemon {
    node.daemon(state, name, std::iter::once(program).chain(arguments))
}

/// What waits for nothing.
fn first(state: &State, nodes: &[Node]) -> Vec<Daemon> {
    let etcd = vec![
        format!("--data-dir={}", state.text("etcd")),
        // Nothing outlives the cluster: the disk need not be waited for.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    let mut daemons = vec![daemon("etcd", text("etcd", "etcd"), etcd)];
    for node in nodes {
        let config = state.text(&format!("etc/{}.toml", node.named("containerd")));
        let containerd = vec!["--config".to_owned(), config];
        daemons.push(on(
            state,
            *node,
            "containerd",
            text("containerd", "containerd"),
            containerd,
        ));
    }
    for registry in Registry::ALL {
        let namespace = Some(state.registry_namespace(registry));
        let distribution = vec!["serve".to_owned(), state.text(&format!("etc/registry-{registry}.yaml"))];
        daemons.push(Daemon {
            namespace: namespace.clone(),
            // Else it tries to export traces for ever, and says so.
            environment: vec![("OTEL_TRACES_EXPORTER".to_owned(), "none".to_owned())],
            ..daemon(
                &format!("registry-{registry}"),
                text("registry", "registry"),
                distribution,
            )
        });
        let front = vec!["front".to_owned(), state.text(&format!("etc/front-{registry}.json"))];
        daemons.push(Daemon {
            namespace,
            ..daemon(&format!("front-{registry}"), text("tool", "tool"), front)
        });
    }
    daemons
}

fn api_server(state: &State, options: &Options) -> Daemon {
    let pki = state.text("pki");
    let mut arguments = vec![
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        "--bind-address=0.0.0.0".to_owned(),
        // Not a loopback address: so the Service "kubernetes" gets its endpoint.
        format!("--advertise-address={NODE}"),
        "--secure-port=6443".to_owned(),
        format!("--tls-cert-file={pki}/apiserver.crt"),
        format!("--tls-private-key-file={pki}/apiserver.key"),
        format!("--client-ca-file={pki}/ca.crt"),
        format!("--service-account-key-file={pki}/service-accounts.pub"),
        format!("--service-account-signing-key-file={pki}/service-accounts.key"),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-cluster-ip-range={SERVICES}"),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged".to_owned(),
        format!("--kubelet-client-certificate={pki}/admin.crt"),
        format!("--kubelet-client-key={pki}/admin.key"),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
    ];
    if options.audit_user.is_some() {
        arguments.extend([
            format!("--audit-policy-file={}", state.text("etc/audit.yaml")),
            format!("--audit-log-path={}", state.log(AUDIT).display()),
            // One file, however long the run.
            "--audit-log-maxsize=2048".to_owned(),
        ]);
    }
    arguments.extend(options.apiserver_args.iter().cloned());
    daemon("kube-apiserver", text("kubernetes", "kube-apiserver"), arguments)
}

/// What needs the API server.
fn second(state: &State, nodes: &[Node], options: &Options) -> Vec<Daemon> {
    let pki = state.text("pki");
    let controller_manager = vec![
        format!("--kubeconfig={pki}/controller-manager.conf"),
        "--use-service-account-credentials".to_owned(),
        format!("--service-account-private-key-file={pki}/service-accounts.key"),
        format!("--root-ca-file={pki}/ca.crt"),
        format!("--cluster-signing-cert-file={pki}/ca.crt"),
        format!("--cluster-signing-key-file={pki}/ca.key"),
        format!("--cluster-cidr={PODS}"),
        "--leader-elect=false".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
    ];
    let scheduler = vec![
        format!("--kubeconfig={pki}/scheduler.conf"),
        "--leader-elect=false".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
    ];
    let coredns = vec!["-conf".to_owned(), state.text("etc/Corefile")];
    let kubernetes = |name: &str, arguments| daemon(name, text("kubernetes", name), arguments);
    let kubelets = nodes.iter().map(|node| kubelet(state, *node, options));
    let rest = [
        kubernetes("kube-controller-manager", controller_manager),
        kubernetes("kube-scheduler", scheduler),
    ];
    let kube_proxies = nodes.iter().map(|node| kube_proxy(state, *node));
    let coredns = daemon("coredns", text("coredns", "coredns"), coredns);
    kubelets.chain(rest).chain(kube_proxies).chain([coredns]).collect()
}

fn kubelet(state: &State, node: Node, options: &Options) -> Daemon {
    let name = node.named("kubelet");
    let mut arguments = vec![
        format!("--config={}", state.text(&format!("etc/{name}.yaml"))),
        format!("--kubeconfig={}", state.text(&format!("pki/{name}.conf"))),
        format!("--hostname-override={node}"),
        format!("--node-ip={}", node.address()),
        format!("--root-dir={}", state.text(&name)),
    ];
    if options.nodes > 1 {
        // The scheduler spreads pods over zones only among nodes that have one.
        arguments.push(format!("--node-labels=topology.kubernetes.io/zone={}", node.zone()));
    }
    arguments.extend(options.kubelet_args.iter().cloned());
    on(state, node, "kubelet", text("kubernetes", "kubelet"), arguments)
}

fn kube_proxy(state: &State, node: Node) -> Daemon {
    let name = node.named("kube-proxy");
    let arguments = vec![format!("--config={}", state.text(&format!("etc/{name}.yaml")))];
    on(state, node, "kube-proxy", text("kubernetes", "kube-proxy"), arguments)
}

/// What `CoreDNS` may read, and the Service before it. It runs on the node, so the endpoint is made by hand.
fn base_objects() -> String {
    let rule = |groups: &str, resources: &[&str]| serde_json::json!({"apiGroups": [groups], "resources": resources, "verbs": ["list", "watch"]});
    let ports = serde_json::json!([
        {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]);
    serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "system:coredns"},
            "rules": [
                rule("", &["services", "pods", "namespaces"]), rule("discovery.k8s.io", &["endpointslices"]),
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "system:coredns"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:coredns"}],
        },
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "kube-dns", "namespace": "kube-system"},
            "spec": {"clusterIP": DNS_SERVICE, "ports": ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": "kube-dns-node", "namespace": "kube-system",
                "labels": {"kubernetes.io/service-name": "kube-dns"},
            },
            "addressType": "IPv4", "endpoints": [{"addresses": [NODE]}], "ports": ports,
        },
    ]})
    .to_string()
}
