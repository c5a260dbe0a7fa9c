//! Three network namespaces, joined by veth pairs to each other and to nothing else; a fourth one for a second node.
//!
//! The first node's namespace holds the node, its pods and the links to the two registries and to the second node, whose traffic
//! it forwards. There is no default route in either: whatever is not the cluster's fails at once.

use std::fmt::Write as _;

use crate::command::{host, output, output_with, until};
use crate::node::{self, Node, Traffic};
use crate::registry::Registry;
use crate::state::State;

/// The first node's address; `kube-apiserver`, kubelet and DNS listen on it.
pub const NODE: &str = node::FIRST;
/// The second node's address.
pub const SECOND_NODE: &str = node::SECOND;
/// The first node's end of the link to the second one.
const SECOND_GATEWAY: &str = "10.98.3.1";
/// The range of the addresses of nodes and registries.
const NETWORK: &str = "10.98.0.0/16";
/// The range of Service addresses.
pub const SERVICES: &str = "10.96.0.0/16";
/// The range of the pod addresses of all nodes.
pub const PODS: &str = "10.244.0.0/16";
/// The first Service address: the API server's.
pub const API_SERVICE: &str = "10.96.0.1";
/// The Service address of the name server.
pub const DNS_SERVICE: &str = "10.96.0.10";

/// The path that `nsenter --net` takes.
pub fn namespace_path(namespace: &str) -> String {
    format!("/run/netns/{namespace}")
}

/// Those of a cluster with these nodes.
fn namespaces(state: &State, nodes: &[Node]) -> Vec<String> {
    let registries = Registry::ALL
        .into_iter()
        .map(|registry| state.registry_namespace(registry));
    nodes
        .iter()
        .map(|node| node.namespace(state))
        .chain(registries)
        .collect()
}

pub fn create(state: &State, nodes: &[Node]) -> anyhow::Result<()> {
    for namespace in namespaces(state, nodes) {
        output(host("ip").args(["netns", "add", &namespace]))?;
    }
    let node = state.node_namespace();
    // Not every kernel has dummy links: the node's address is on a veth pair with both ends inside.
    // Without the route to the Services, connect() to one fails before kube-proxy's rules see it.
    let mut lines = format!(
        "link set lo up\nlink add node0 type veth peer name node1\naddr add {NODE}/24 dev node0\n\
         link set node0 up\nlink set node1 up\nroute add {SERVICES} dev node0 src {NODE}\n"
    );
    for registry in Registry::ALL {
        let (word, namespace) = (registry.word(), state.registry_namespace(registry));
        let gateway = registry.gateway();
        let _ = write!(
            lines,
            "link add to-{word} type veth peer name eth0 netns {namespace}\naddr add {gateway}/24 dev to-{word}\n\
             link set to-{word} up\n"
        );
    }
    batch(&node, &lines)?;
    for registry in Registry::ALL {
        let (address, data) = (registry.address(), registry.data_address());
        let gateway = registry.gateway();
        let lines = format!(
            "link set lo up\naddr add {address}/24 dev eth0\naddr add {data}/24 dev eth0\nlink set eth0 up\n\
             route add default via {gateway}\n"
        );
        batch(&state.registry_namespace(registry), &lines)?;
    }
    forward(&node)?;
    if nodes.contains(&Node::Second) {
        join_second(state)?;
    }
    Ok(())
}

/// Joins the second node to the first one. Both route to each other's pods, and the registries reach the second by the first.
fn join_second(state: &State) -> anyhow::Result<()> {
    let (first, second) = (Node::First.namespace(state), Node::Second.namespace(state));
    let (pods, second_pods) = (Node::First.pods(), Node::Second.pods());
    let lines = format!(
        "link add to-node-2 type veth peer name eth0 netns {second}\naddr add {SECOND_GATEWAY}/24 dev to-node-2\n\
         link set to-node-2 up\nroute add {second_pods} via {SECOND_NODE}\n"
    );
    batch(&first, &lines)?;
    // The route to the Services is for connect() alone, as on the first node: nothing answers there.
    let lines = format!(
        "link set lo up\naddr add {SECOND_NODE}/24 dev eth0\nlink set eth0 up\nroute add {NETWORK} via {SECOND_GATEWAY}\n\
         route add {pods} via {SECOND_GATEWAY}\nroute add {SERVICES} dev eth0 src {SECOND_NODE}\n"
    );
    batch(&second, &lines)?;
    forward(&second)
}

/// Makes a namespace forward what comes in.
fn forward(namespace: &str) -> anyhow::Result<()> {
    // Pods of other clusters of this machine have the same addresses; nothing is to be filtered by route.
    let settings = "cd /proc/sys/net && echo 1 >ipv4/ip_forward && echo 0 >ipv4/conf/all/rp_filter && \
                    echo 0 >ipv4/conf/default/rp_filter && echo 1 >ipv6/conf/all/disable_ipv6";
    output(host("nsenter").args([
        &format!("--net={}", namespace_path(namespace)),
        "--",
        "sh",
        "-c",
        settings,
    ]))
    .map(drop)
}

fn batch(namespace: &str, lines: &str) -> anyhow::Result<()> {
    output_with(host("ip").args(["-n", namespace, "-batch", "-"]), lines).map(drop)
}

/// Replaces the rules that the cluster has set on a registry's network: one for this traffic, or for all if none is named.
pub fn filter(state: &State, registry: Registry, rule: Option<&str>, traffic: &[Traffic]) -> anyhow::Result<()> {
    let mut lines = String::from("add table inet fault\ndelete table inet fault\n");
    if let Some(rule) = rule {
        let mut sources: Vec<_> = traffic.iter().flat_map(|traffic| traffic.sources()).collect();
        sources.sort();
        sources.dedup();
        let from = if sources.is_empty() {
            String::new()
        } else {
            format!("ip saddr {{ {} }} ", sources.join(", "))
        };
        lines += "add table inet fault\nadd chain inet fault input { type filter hook input priority 0; }\n";
        let _ = writeln!(lines, "add rule inet fault input iifname eth0 {from}{rule}");
    }
    let namespace = namespace_path(&state.registry_namespace(registry));
    output_with(
        host("nsenter").args([&format!("--net={namespace}"), "--", "nft", "-f", "-"]),
        &lines,
    )
    .map(drop)
}

/// Ends whatever still lives in the namespaces, and them.
pub fn remove(state: &State) -> anyhow::Result<()> {
    let existing = output(host("ip").args(["netns", "list"]))?;
    let existing: Vec<_> = existing
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    for namespace in namespaces(state, &Node::ALL) {
        if !existing.contains(&namespace.as_str()) {
            continue;
        }
        until("the end of the cluster's processes", || {
            let left = output(host("ip").args(["netns", "pids", &namespace]))?;
            let left: Vec<_> = left.split_whitespace().collect();
            if left.is_empty() {
                return Ok(());
            }
            // One may be gone by now: what counts is that the list becomes empty.
            let _ = output(host("kill").arg("-KILL").args(&left));
            anyhow::bail!("processes {} remain in \"{namespace}\"", left.join(", "))
        })?;
        output(host("ip").args(["netns", "delete", &namespace]))?;
    }
    Ok(())
}
