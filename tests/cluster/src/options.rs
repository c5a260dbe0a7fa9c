//! How a cluster is started.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a cluster is started. One that runs with other options is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Tells clusters of one machine apart: `CATAMARAN_CLUSTER`, or `catamaran`.
    pub name: String,
    /// How many nodes it has: 1 or 2. With two, each is in a failure zone of its own.
    pub nodes: usize,
    /// The kubelet's setting. `true`, its default, makes a hanging pull hold up all others.
    pub serialize_image_pulls: bool,
    /// How long containerd waits for a connection to a registry; its default is 30 s.
    pub dial_timeout: Option<Duration>,
    /// Further arguments of kube-apiserver; of two equal flags the later one counts.
    pub apiserver_args: Vec<String>,
    /// Further arguments of each kubelet.
    pub kubelet_args: Vec<String>,
    /// The user whose requests kube-apiserver writes down: [`Cluster::logs`](crate::Cluster::logs) of
    /// [`Cluster::AUDIT`](crate::Cluster::AUDIT) has one a line.
    pub audit_user: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        let name = std::env::var("CATAMARAN_CLUSTER").ok().filter(|name| !name.is_empty());
        Self {
            name: name.unwrap_or_else(|| "catamaran".to_owned()),
            nodes: 1,
            serialize_image_pulls: false,
            dial_timeout: None,
            apiserver_args: Vec::new(),
            kubelet_args: Vec::new(),
            audit_user: None,
        }
    }
}
