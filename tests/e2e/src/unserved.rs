//! A node that no kubelet serves: a pod that is bound to it waits for its images for ever, and costs the machine nothing.

use catamaran_cluster::Cluster;
use serde_json::json;

/// Such a node, until it is dropped. Pods name it in `spec.nodeName`; no scheduler sends one there.
///
/// Kubernetes evicts its pods some five minutes after the node was made.
#[derive(Debug)]
pub struct UnservedNode<'c> {
    cluster: &'c Cluster,
    name: String,
}

impl<'c> UnservedNode<'c> {
    /// Makes one.
    pub fn create(cluster: &'c Cluster, name: &str) -> anyhow::Result<Self> {
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"unschedulable": true},
        });
        cluster.kubectl_stdin(&["create", "-f", "-"], &node.to_string())?;
        Ok(Self {
            cluster,
            name: name.to_owned(),
        })
    }

    /// What pods name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for UnservedNode<'_> {
    fn drop(&mut self) {
        // One that stays changes nothing for other scenarios.
        let _ = self
            .cluster
            .kubectl(&["delete", "node", &self.name, "--ignore-not-found"]);
    }
}
