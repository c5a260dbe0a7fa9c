//! The mounts of a further node, and the daemons that run among them.

use anyhow::ensure;

use crate::command::until;
use crate::node::Node;
use crate::processes::{Anchor, Daemon};
use crate::state::State;

impl Node {
    /// A daemon of this node.
    pub(crate) fn daemon(self, state: &State, name: &str, words: impl IntoIterator<Item = String>) -> Daemon {
        Daemon {
            name: self.named(name),
            namespace: (self != Self::First).then(|| self.namespace(state)),
            words: self.entrance(state).into_iter().chain(words).collect(),
            environment: Vec::new(),
        }
    }
}

/// The process that keeps a further node's mount namespace: the cluster's, with folders of its own for all that kubelet,
/// containerd and CNI have at fixed places.
///
/// A process, because a bind of the namespace to a file is refused now and then (EINVAL): the kernel forbids loops by comparing
/// the namespaces' IDs, which since 6.18 are not in the order in which they were made. And folders, not an overlay over the
/// cluster's: the host's root may be one already, and the kernel stacks two at most.
const MOUNTS: &str = r#"set -e
    mount -t tmpfs -o nosuid,mode=755 tmpfs /run
    mkdir -m 1777 /run/lock
    for folder in lib/kubelet lib/cni log/pods log/containers; do
        mkdir -p "$1/$folder" "/var/$folder"
        mount --bind "$1/$folder" "/var/$folder"
    done
    mount --make-rshared /
    : >"$1/mounted"
    exec sleep infinity"#;

/// Makes the mount namespace of a further node.
pub fn create(state: &State, anchor: &Anchor, node: Node) -> anyhow::Result<()> {
    if node == Node::First {
        return Ok(());
    }
    let folder = node.named("var");
    let words = ["unshare", "--mount", "sh", "-c", MOUNTS, "sh", &state.text(&folder)];
    anchor.spawn(&Daemon {
        name: node.named("mounts"),
        namespace: Some(node.namespace(state)),
        words: words.map(str::to_owned).into(),
        environment: Vec::new(),
    })?;
    until(&format!("the mounts of \"{node}\""), || {
        let mounted = state.path(&folder).join("mounted").exists();
        ensure!(
            mounted,
            "\"{}\" says why not",
            state.log(&node.named("mounts")).display()
        );
        Ok(())
    })
}
