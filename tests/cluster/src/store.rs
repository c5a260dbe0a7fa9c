//! What the API server holds, kept in a snapshot and brought back, as an administrator does with a backup of etcd.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::cache::binary;
use crate::command::output;
use crate::{Cluster, components, kubernetes};

/// Everything that the API server held at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(PathBuf);

/// Where the revisions of the store go on once a snapshot is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revisions {
    /// Where the snapshot was taken: what clients have seen since lies ahead of the store, and its revisions are given again.
    Reused,
    /// Far ahead of all that clients have seen, with everything before compacted away (`--bump-revision`, `--mark-compacted`), as
    /// etcd's own pages advise for Kubernetes.
    Bumped,
}

/// More writes than a test makes.
const BUMP: &str = "1000000";

/// What runs beside the API server and holds state of it. Administrators start these again after a restore; whatever else watches
/// gets no notice.
const KUBERNETES: [&str; 3] = ["kube-controller-manager", "kube-scheduler", "coredns"];

/// The same on each node.
const ON_NODES: [&str; 2] = ["kubelet", "kube-proxy"];

impl Cluster {
    /// Keeps everything that the API server holds now, without an interruption. The tools for it are built when they are first asked for.
    pub fn snapshot(&self) -> anyhow::Result<Snapshot> {
        components::build(&["etcd-tools"])?;
        let folder = self.state().path("snapshots");
        fs::create_dir_all(&folder).with_context(|| format!("failed to create \"{}\"", folder.display()))?;
        let snapshot = folder.join(format!("{}.db", fs::read_dir(&folder)?.count()));
        let mut etcdctl = self.anchor().enter(None, "/", &program("etcdctl"));
        output(etcdctl.args(["snapshot", "save"]).arg(&snapshot))?;
        Ok(Snapshot(snapshot))
    }

    /// Brings back what the API server held, as after the loss of its store: it is gone for some seconds, and then as it was.
    /// Kubernetes' own components are started again; pods and other clients of the API server find out by themselves.
    pub fn restore(&self, snapshot: &Snapshot, revisions: Revisions) -> anyhow::Result<()> {
        let (state, anchor) = (self.state(), self.anchor());
        for component in ["kube-apiserver", "etcd"] {
            anchor.stop(component)?;
        }
        let data = state.path("etcd");
        fs::remove_dir_all(&data).with_context(|| format!("failed to remove \"{}\"", data.display()))?;
        let mut etcdutl = anchor.enter(None, "/", &program("etcdutl"));
        etcdutl
            .args(["snapshot", "restore"])
            .arg(&snapshot.0)
            .arg("--data-dir")
            .arg(&data);
        if revisions == Revisions::Bumped {
            etcdutl.args(["--bump-revision", BUMP, "--mark-compacted"]);
        }
        output(&mut etcdutl)?;
        for component in ["etcd", "kube-apiserver"] {
            anchor.restart(component)?;
        }
        kubernetes::serves(state, anchor)?;
        let on_nodes = self
            .nodes()
            .iter()
            .flat_map(|node| ON_NODES.map(|name| node.named(name)));
        let mut all = KUBERNETES.map(str::to_owned).into_iter().chain(on_nodes);
        all.try_for_each(|component| anchor.restart(&component))
    }
}

fn program(name: &str) -> String {
    binary("etcd-tools", name).display().to_string()
}
