//! The release of the operator as Helm keeps it, in whatever state a scenario, Flux or a Helm that was interrupted left it.
//!
//! Helm refuses to install over a release that is being uninstalled or changed ("has no deployed releases", "another operation
//! is in progress"), and some other program may be about to finish that: so everything here waits first, and acts afterwards.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use catamaran_cluster::Cluster;
use serde_json::Value;

use crate::view::{items, text};
use crate::watch::PATIENCE;

/// The namespace of the installation.
pub const NAMESPACE: &str = "catamaran-system";

/// The name of the Helm release, and so of the Deployment and the Lease.
pub const RELEASE: &str = "catamaran";

/// The label of the operator's pods.
pub const LABEL: &str = "app.kubernetes.io/name=catamaran";

/// The definition of mirrors, which outlives the release.
pub const DEFINITION: &str = "customresourcedefinition/registrymirrors.catamaran.dev";

/// How long somebody else may be at work on the release before it is taken to have been left as it is.
const ABANDONED: Duration = Duration::from_mins(1);

/// How long one Helm waits.
pub const HELM_PATIENCE: &str = "180s";

/// What the chart makes, beside the definition.
const KINDS: &str = "deployments.apps,replicasets.apps,pods,services,endpointslices.discovery.k8s.io,serviceaccounts,\
                     roles.rbac.authorization.k8s.io,rolebindings.rbac.authorization.k8s.io,\
                     clusterroles.rbac.authorization.k8s.io,clusterrolebindings.rbac.authorization.k8s.io,\
                     networkpolicies.networking.k8s.io,poddisruptionbudgets.policy,\
                     mutatingwebhookconfigurations.admissionregistration.k8s.io";

/// What is to be done about a release in some state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// There is none.
    None,
    /// Helm can go on from it.
    Settled,
    /// Somebody may be at work on it.
    Wait,
    /// Nobody is, and Helm can't go on from it.
    Abandoned,
}

/// `unchanged` is how long the state has been seen.
fn step(state: Option<&str>, unchanged: Duration) -> Step {
    match state {
        None => Step::None,
        Some("deployed" | "failed" | "superseded") => Step::Settled,
        Some("uninstalling" | "pending-install" | "pending-upgrade" | "pending-rollback") if unchanged < ABANDONED => {
            Step::Wait
        }
        Some(_) => Step::Abandoned,
    }
}

/// The state of the latest revision, as Helm 3, Helm 4 and Flux write it on their Secrets; none if there is no release.
pub fn state(cluster: &Cluster) -> anyhow::Result<Option<String>> {
    let selector = format!("owner=helm,name={RELEASE}");
    let secrets = ["-n", NAMESPACE, "get", "secrets", "-l", &selector, "-o", "json"];
    let secrets: Value = serde_json::from_str(&cluster.kubectl(&secrets)?)?;
    Ok(latest(&items(&secrets)))
}

fn latest(secrets: &[Value]) -> Option<String> {
    let label = |secret: &Value, name: &str| text(secret, &format!("/metadata/labels/{name}")).to_owned();
    let revision = |secret: &&Value| label(secret, "version").parse::<u64>().unwrap_or_default();
    let last = secrets.iter().max_by_key(revision)?;
    Some(label(last, "status"))
}

/// Watches the state of the release, and for how long it has been the same.
struct Observed {
    state: Option<String>,
    since: Instant,
}

impl Observed {
    fn now(cluster: &Cluster) -> anyhow::Result<Self> {
        Ok(Self {
            state: state(cluster)?,
            since: Instant::now(),
        })
    }

    fn look(&mut self, cluster: &Cluster) -> anyhow::Result<()> {
        let state = state(cluster)?;
        if state != self.state {
            *self = Self {
                state,
                since: Instant::now(),
            };
        }
        Ok(())
    }

    fn step(&self) -> Step {
        step(self.state.as_deref(), self.since.elapsed())
    }
}

/// Waits until Helm can install or upgrade: nobody else is at work, and nothing of what it needs is about to go. What was
/// left unfinished is taken away.
pub fn settle(cluster: &Cluster) -> anyhow::Result<()> {
    let mut observed = Observed::now(cluster)?;
    loop {
        match observed.step() {
            Step::None | Step::Settled => return nothing_ends(cluster),
            Step::Wait => std::thread::sleep(Duration::from_secs(1)),
            Step::Abandoned => return remove(cluster),
        }
        observed.look(cluster)?;
    }
}

/// Takes the release away, and waits until nothing of it is left but the definition and mirrors. There need be none.
pub fn remove(cluster: &Cluster) -> anyhow::Result<()> {
    let uninstall = ["uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found"];
    let uninstall = [&uninstall[..], &["--wait", "--timeout", HELM_PATIENCE]].concat();
    let end = Instant::now() + 3 * PATIENCE;
    let mut observed = Observed::now(cluster)?;
    let mut refused = None;
    loop {
        match observed.step() {
            Step::None => break,
            Step::Wait => std::thread::sleep(Duration::from_secs(1)),
            Step::Settled | Step::Abandoned => {
                refused = cluster.helm(&uninstall).err();
                observed.since = Instant::now();
            }
        }
        ensure!(
            Instant::now() < end,
            "failed to remove the release, which is {:?}: {refused:?}",
            observed.state
        );
        observed.look(cluster)?;
    }
    nothing_of_it_is_left(cluster)?;
    nothing_ends(cluster)
}

fn nothing_of_it_is_left(cluster: &Cluster) -> anyhow::Result<()> {
    let list = ["get", KINDS, "--all-namespaces", "-l", LABEL, "-o", "name"];
    until_empty(cluster, &list, "the objects of the release to go")
}

/// An object that is being deleted can still be applied, and is gone a moment later.
fn nothing_ends(cluster: &Cluster) -> anyhow::Result<()> {
    let ending = ["--ignore-not-found", "-o", "jsonpath={.metadata.deletionTimestamp}"];
    let namespace = format!("namespace/{NAMESPACE}");
    for object in [DEFINITION, &namespace] {
        let what = format!("{object} to be gone, which is being deleted");
        until_empty(cluster, &[&["get", object][..], &ending].concat(), &what)?;
    }
    Ok(())
}

/// Asks until nothing is printed.
fn until_empty(cluster: &Cluster, arguments: &[&str], what: &str) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let printed = cluster
            .kubectl(arguments)
            .with_context(|| format!("failed to wait for {what}"))?;
        if printed.trim().is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < end, "failed to see {what}: {}", printed.trim());
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unfinished_release_is_waited_for_and_then_removed() {
        let (soon, late) = (Duration::from_secs(5), ABANDONED);
        assert_eq!(step(None, soon), Step::None);
        for settled in ["deployed", "failed"] {
            assert_eq!(step(Some(settled), late), Step::Settled, "{settled}");
        }
        for unfinished in ["uninstalling", "pending-install", "pending-upgrade", "pending-rollback"] {
            assert_eq!(step(Some(unfinished), soon), Step::Wait, "{unfinished}");
            assert_eq!(step(Some(unfinished), late), Step::Abandoned, "{unfinished}");
        }
        // Kept history of what is gone: Helm would not install over it.
        assert_eq!(step(Some("uninstalled"), soon), Step::Abandoned);
    }

    #[test]
    fn latest_revision_is_the_one_with_the_highest_number() {
        let secret =
            |version: &str, status: &str| json!({"metadata": {"labels": {"version": version, "status": status}}});
        assert_eq!(latest(&[]), None);
        let all = [
            secret("9", "superseded"),
            secret("10", "uninstalling"),
            secret("1", "superseded"),
        ];
        assert_eq!(latest(&all).as_deref(), Some("uninstalling"));
    }
}
