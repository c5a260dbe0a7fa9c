//! The nodes that a cluster can have, and what one has of its own.
//!
//! The first node is the cluster's own network and mounts. A second node has a network namespace, so that its traffic can be
//! cut off apart from the first one's, and a mount namespace, so that its kubelet and its containerd find their usual paths.
//! Processes of both are in the cluster's PID namespace, and end with it.

use std::fmt;
use std::str::FromStr;

use anyhow::ensure;
use serde::{Deserialize, Serialize};

use crate::registry::Registry;
use crate::state::State;

/// The first node's address.
pub const FIRST: &str = "10.98.0.1";
/// The second node's.
pub const SECOND: &str = "10.98.3.2";

/// A node of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Node {
    /// The one that every cluster has. etcd, the control plane and the name server run there, too.
    First,
    /// Only where [`Options::nodes`](crate::Options::nodes) asks for it: a kubelet, a containerd and a kube-proxy.
    Second,
}

impl Node {
    /// Both, in the order in which they are started.
    pub const ALL: [Self; 2] = [Self::First, Self::Second];

    /// So many, from the first one on.
    pub(crate) fn first(count: usize) -> anyhow::Result<Vec<Self>> {
        ensure!(
            (1..=Self::ALL.len()).contains(&count),
            "failed to take {count} as a number of nodes: 1 or {}",
            Self::ALL.len()
        );
        Ok(Self::ALL[..count].to_vec())
    }

    /// The name of the Node, the same in every cluster.
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "node",
            Self::Second => "node-2",
        }
    }

    /// Its address, which pods of all nodes reach.
    pub const fn address(self) -> &'static str {
        match self {
            Self::First => FIRST,
            Self::Second => SECOND,
        }
    }

    /// The range of its pods' addresses.
    pub const fn pods(self) -> &'static str {
        match self {
            Self::First => "10.244.0.0/24",
            Self::Second => "10.244.1.0/24",
        }
    }

    /// The failure zone that it belongs to where there is more than one node.
    pub(crate) const fn zone(self) -> &'static str {
        match self {
            Self::First => "westeurope-1",
            Self::Second => "westeurope-2",
        }
    }

    /// The name of a daemon or file of this node.
    pub(crate) fn named(self, what: &str) -> String {
        match self {
            Self::First => what.to_owned(),
            Self::Second => format!("{what}-{}", self.name()),
        }
    }

    /// The cgroup below which its kubelet makes those of its pods. Two kubelets at one would remove each other's.
    pub(crate) fn cgroup(self, state: &State) -> String {
        match self {
            Self::First => state.name().to_owned(),
            Self::Second => format!("{}/{}", state.name(), self.name()),
        }
    }

    /// The network namespace.
    pub(crate) fn namespace(self, state: &State) -> String {
        match self {
            Self::First => state.node_namespace(),
            Self::Second => format!("{}-{}", state.node_namespace(), self.name()),
        }
    }

    /// The words before a program that give it the node's mounts.
    pub(crate) fn entrance(self, state: &State) -> Vec<String> {
        let script = r#"pid=$(cat "$1"); shift; exec nsenter --mount="/proc/$pid/ns/mnt" -- "$@""#;
        let keeper = format!("processes/{}.pid", self.named("mounts"));
        match self {
            Self::First => Vec::new(),
            Self::Second => ["sh", "-c", script, "sh", &state.text(&keeper)]
                .map(str::to_owned)
                .into(),
        }
    }

    /// The addresses that the registries see when the node itself connects to them: containerd and the kubelet, and whatever else
    /// runs outside of pods.
    fn own_addresses(self) -> Vec<String> {
        let own = self.address().to_owned();
        match self {
            // Of several addresses a program gets the one of the link that it goes out by.
            Self::First => std::iter::once(own)
                .chain(Registry::ALL.map(|registry| registry.gateway().to_owned()))
                .collect(),
            Self::Second => vec![own],
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Node {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Self::ALL
            .into_iter()
            .find(|node| node.name() == text)
            .ok_or_else(|| anyhow::anyhow!("failed to read node \"{text}\": node or node-2"))
    }
}

/// The part of the traffic to a registry that a fault of the network applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// All that comes from a node: its own and that of its pods.
    Node(Node),
    /// A node's own: the image pulls of its containerd. Its pods are not affected.
    NodeItself(Node),
}

impl Traffic {
    /// The source addresses, as nftables reads them.
    pub(crate) fn sources(self) -> Vec<String> {
        match self {
            Self::Node(node) => {
                let mut sources = node.own_addresses();
                sources.push(node.pods().to_owned());
                sources
            }
            Self::NodeItself(node) => node.own_addresses(),
        }
    }

    /// The node that it comes from.
    pub const fn node(self) -> Node {
        match self {
            Self::Node(node) | Self::NodeItself(node) => node,
        }
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => write!(f, "{node}"),
            Self::NodeItself(node) => write!(f, "{node} without its pods"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_differ_in_everything_that_is_their_own() {
        let state = State::new("a").unwrap();
        let own = |node: Node| {
            [
                node.name().to_owned(),
                node.address().to_owned(),
                node.pods().to_owned(),
                node.zone().to_owned(),
                node.named("kubelet"),
                node.cgroup(&state),
                node.namespace(&state),
            ]
        };
        let [first, second] = Node::ALL.map(own);
        assert!(first.iter().zip(&second).all(|(a, b)| a != b), "{first:?} {second:?}");
        assert_eq!(Node::ALL.map(|node| node.name().parse::<Node>().unwrap()), Node::ALL);
        assert!("node-3".parse::<Node>().is_err());
    }

    #[test]
    fn number_of_nodes_is_one_or_two() {
        assert_eq!(Node::first(1).unwrap(), [Node::First]);
        assert_eq!(Node::first(2).unwrap(), Node::ALL);
        assert!(Node::first(0).is_err() && Node::first(3).is_err());
    }

    #[test]
    fn own_traffic_of_a_node_leaves_out_its_pods() {
        assert_eq!(Traffic::NodeItself(Node::Second).sources(), ["10.98.3.2"]);
        assert_eq!(Traffic::Node(Node::Second).sources(), ["10.98.3.2", "10.244.1.0/24"]);
        assert_eq!(
            Traffic::NodeItself(Node::First).sources(),
            ["10.98.0.1", "10.98.1.1", "10.98.2.1"]
        );
    }
}
