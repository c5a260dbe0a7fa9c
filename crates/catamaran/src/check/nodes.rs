//! How the nodes of a cluster pull images: where a kubelet pulls one after the other, each pull that hangs holds up all later ones.
//!
//! Reading order: `read` asks the API server for the nodes and each kubelet for its configuration; `kubelet` is what these say;
//! `report` says it in lines.

use super::line::Line;
use super::report::Report;
use crate::cluster::Cluster;

mod kubelet;
mod read;
mod report;
#[cfg(test)]
mod tests;

/// What the part about nodes is called.
const HEADING: &str = "nodes";

/// Names in one line for people. Documents have all.
const NAMED: usize = 20;

/// What was found of the nodes. Without `asked` it is advice, which has no part in the exit code.
pub async fn check(cluster: &Cluster, asked: bool, all_names: bool) -> Report {
    let most_named = if all_names { usize::MAX } else { NAMED };
    let lines: Vec<Line> = match read::nodes(&cluster.client).await {
        Ok(nodes) => report::lines(&nodes, most_named),
        Err(refusal) => vec![report::not_listed(&refusal)],
    };
    Report {
        heading: HEADING.to_owned(),
        lines,
        counts: asked,
    }
}
