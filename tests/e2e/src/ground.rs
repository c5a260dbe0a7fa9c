//! A cluster with the operator in it, and what every test and the demo do there.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use catamaran_cluster::{Cluster, Fault, Options, Registry, TestImage, Traffic};
use serde_json::{Value, json};

use crate::manifests::{self, CA_SECRET, NOTIFICATIONS_KEY, NOTIFICATIONS_SECRET};
use crate::view::{condition, says};
use crate::watch::{Seen, Watch};
use crate::{busy, installation, operator};

pub use crate::watch::PATIENCE;

/// How many there are of the operator unless a scenario says otherwise: the chart's default.
const REPLICAS: u32 = 2;

/// A running cluster with the operator, and eyes on its mirrors and pods.
#[derive(Debug)]
pub struct Ground {
    /// The cluster.
    pub cluster: Cluster,
    /// All mirrors.
    pub mirrors: Watch,
    /// All pods.
    pub pods: Watch,
    /// The values of the release that all scenarios share.
    values: Vec<String>,
}

impl Ground {
    /// Starts the cluster, and reports each step that is done with the time that it took.
    pub fn start(options: &Options, values: &[&str], mut done: impl FnMut(&str, Duration)) -> anyhow::Result<Self> {
        let mut step = |what: &str, since: Instant| done(what, since.elapsed());
        let since = Instant::now();
        let binary = operator::build()?;
        step("the operator is built", since);
        let since = Instant::now();
        let cluster = Cluster::up(options)?;
        step("the cluster is up: Kubernetes, containerd and two registries", since);
        busy::belongs(cluster.anchor_pid());
        let since = Instant::now();
        operator::load(&cluster, &binary)?;
        make_namespace(&cluster)?;
        operator::install(&cluster, values)?;
        step("the operator is ready: helm install", since);
        Ok(Self {
            mirrors: Watch::start(&cluster, &["registrymirrors"])?,
            pods: Watch::start(&cluster, &["pods", "--all-namespaces"])?,
            values: values.iter().map(|&value| value.to_owned()).collect(),
            cluster,
        })
    }

    /// Installs the release that all scenarios share, over what there is.
    pub fn reinstall(&self) -> anyhow::Result<()> {
        operator::install(&self.cluster, &self.values())
    }

    /// Brings the release back that all scenarios share, in place of whatever there is of another one.
    pub fn restore(&self) -> anyhow::Result<()> {
        installation::remove(&self.cluster)?;
        make_namespace(&self.cluster)?;
        operator::install_anew(&self.cluster, &self.values())
    }

    /// The same, unless the release is there with all of its replicas.
    pub fn restore_if_broken(&self) -> anyhow::Result<()> {
        let deployed = installation::state(&self.cluster)?.as_deref() == Some("deployed");
        if deployed && operator::scale(&self.cluster, REPLICAS).is_ok() {
            return Ok(());
        }
        self.restore()
    }

    fn values(&self) -> Vec<&str> {
        self.values.iter().map(String::as_str).collect()
    }

    /// Applies an object; what `kubectl` printed.
    pub fn apply(&self, namespace: &str, object: &Value) -> anyhow::Result<String> {
        let arguments = ["-n", namespace, "apply", "-f", "-"];
        self.cluster.kubectl_stdin(&arguments, &object.to_string())
    }

    /// Merges a patch into an object.
    pub fn patch(&self, namespace: &str, object: &str, patch: &Value) -> anyhow::Result<()> {
        let arguments = [
            "-n",
            namespace,
            "patch",
            object,
            "--type=merge",
            "-p",
            &patch.to_string(),
        ];
        self.cluster.kubectl(&arguments).map(drop)
    }

    /// Reads an object.
    pub fn get(&self, namespace: &str, object: &str) -> anyhow::Result<Value> {
        let text = self.cluster.kubectl(&["-n", namespace, "get", object, "-o", "json"])?;
        serde_json::from_str(&text).with_context(|| format!("failed to read {object}"))
    }

    /// Pushes an image that differs from all others to the repositories that a mirror knows by `repository`.
    pub fn push(&self, to: &[Registry], repository: &str, tag: &str) -> anyhow::Result<String> {
        self.push_image(to, repository, tag, &TestImage::serving(&format!("{repository}:{tag}")))
    }

    /// Pushes an image to the repositories that a mirror knows by `repository`.
    pub fn push_image(
        &self,
        to: &[Registry],
        repository: &str,
        tag: &str,
        image: &TestImage,
    ) -> anyhow::Result<String> {
        let mut digest = String::new();
        for registry in to {
            let path = manifests::path(*registry, repository);
            digest = self.cluster.push(&[*registry], &path, tag, image)?;
        }
        Ok(digest)
    }

    /// Sets a fault; the moment just before.
    pub fn fault(&self, on: Registry, fault: Fault) -> anyhow::Result<Instant> {
        let before = Instant::now();
        self.cluster.fault(on, fault)?;
        Ok(before)
    }

    /// Sets a fault for a part of the traffic; the moment just before.
    pub fn fault_for(&self, traffic: &[Traffic], on: Registry, fault: Fault) -> anyhow::Result<Instant> {
        let before = Instant::now();
        self.cluster.fault_for(traffic, on, fault)?;
        Ok(before)
    }

    /// Waits until a mirror is Ready and both sides have been compared once.
    pub fn observed(&self, mirror: &str, since: Instant) -> anyhow::Result<Seen> {
        let what = format!("mirror {mirror} Ready and verified");
        self.mirrors.until(&what, PATIENCE, ("", mirror), since, |mirror| {
            condition(mirror, "Ready").status == "True"
                && condition(mirror, "Reconciling").status.is_empty()
                && ["TagsMatch", "TagsDiffer"].contains(&condition(mirror, "InSync").reason.as_str())
        })
    }

    /// Waits until a mirror's active side is the one named; the moment at which the status said so.
    pub fn active(&self, mirror: &str, side: &str, since: Instant, patience: Duration) -> anyhow::Result<Instant> {
        let what = format!("mirror {mirror} with {side} active");
        let seen = self.mirrors.until(&what, patience, ("", mirror), since, |mirror| {
            mirror["status"]["active"] == side
        })?;
        Ok(seen.at)
    }

    /// Waits for a condition of a mirror, by status and reason.
    pub fn condition(
        &self,
        mirror: &str,
        (kind, status, reason): (&str, &str, &str),
        since: Instant,
        patience: Duration,
    ) -> anyhow::Result<Seen> {
        let what = format!("{kind}={status} {reason} on mirror {mirror}");
        self.mirrors.until(&what, patience, ("", mirror), since, |mirror| {
            says(mirror, kind, status, reason)
        })
    }

    /// Deletes all mirrors and waits until they are gone.
    pub fn delete_mirrors(&self) -> anyhow::Result<()> {
        let arguments = ["delete", "registrymirrors", "--all", "--timeout=180s"];
        self.cluster.kubectl(&arguments).map(drop)
    }

    /// Deletes a namespace without waiting; its pods go at once.
    pub fn delete_namespace(&self, namespace: &str) -> anyhow::Result<()> {
        let arguments = ["delete", "namespace", namespace, "--ignore-not-found", "--wait=false"];
        self.cluster.kubectl(&arguments).map(drop)
    }

    /// Creates a namespace with labels.
    pub fn create_namespace(&self, namespace: &str, labels: &Value) -> anyhow::Result<()> {
        let object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}});
        self.cluster
            .kubectl_stdin(&["create", "-f", "-"], &object.to_string())
            .map(drop)
    }
}

/// The operator's namespace, with what its release needs there.
fn make_namespace(cluster: &Cluster) -> anyhow::Result<()> {
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        // The operator must run where nothing else than the strictest level is let in.
        "metadata": {"name": operator::NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    });
    let secret = |name: &str, key: &str, value: String| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": operator::NAMESPACE},
            "stringData": {key: value},
        })
    };
    for object in [
        namespace,
        secret(CA_SECRET, "ca.crt", cluster.ca_pem()),
        secret(NOTIFICATIONS_SECRET, "secret", NOTIFICATIONS_KEY.to_owned()),
    ] {
        cluster.kubectl_stdin(&["apply", "-f", "-"], &object.to_string())?;
    }
    Ok(())
}
