//! Git repositories on the node, as a team would have them at its Git host: what Flux reads and `git push` writes.

use anyhow::Context as _;

use crate::cache::binary;
use crate::cluster::Cluster;
use crate::command::{host, output, until};
use crate::processes::Daemon;

/// The node is a network of its own, so the port is free in each cluster.
const ADDRESS: &str = "127.0.0.1:9450";

/// The server's name in the harness.
const SERVER: &str = "git";

impl Cluster {
    /// Makes an empty repository, its first branch `main`; its URL, for git and Flux on the node. An earlier one of that name is
    /// removed.
    pub fn git_repository(&self, name: &str) -> anyhow::Result<String> {
        let folder = self.state().path("git");
        let repository = folder.join(format!("{name}.git"));
        if repository.exists() {
            std::fs::remove_dir_all(&repository)
                .with_context(|| format!("failed to remove \"{}\"", repository.display()))?;
        }
        std::fs::create_dir_all(&folder).with_context(|| format!("failed to create \"{}\"", folder.display()))?;
        output(
            host("git")
                .args(["init", "--quiet", "--bare", "--initial-branch=main"])
                .arg(&repository),
        )?;
        output(
            host("git")
                .arg("-C")
                .arg(&repository)
                .args(["config", "http.receivepack", "true"]),
        )?;
        if !self.anchor().alive(SERVER) {
            self.anchor().spawn(&Daemon {
                name: SERVER.to_owned(),
                namespace: None,
                words: vec![
                    binary("tool", "tool").display().to_string(),
                    "git".to_owned(),
                    folder.display().to_string(),
                    ADDRESS.to_owned(),
                ],
                environment: Vec::new(),
            })?;
        }
        let url = format!("http://{ADDRESS}/{name}.git");
        until("the Git server to answer", || {
            output(self.command("git").args(["ls-remote", &url]))
        })?;
        Ok(url)
    }
}
