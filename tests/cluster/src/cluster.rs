//! What a test holds: a running cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::cache::{self, binary};
use crate::command::{host, output, output_with, search_path, until};
use crate::fault::Fault;
use crate::images::{self, Image, TestImage};
use crate::node::{Node, Traffic};
use crate::options::Options;
use crate::processes::Anchor;
use crate::registry::Registry;
use crate::standin::{self, Place};
use crate::state::State;
use crate::{cgroups, components, config, kubernetes, mounts, network, registries};

/// A running cluster. It outlives this value: [`Cluster::down`] ends it.
#[derive(Debug)]
pub struct Cluster {
    state: State,
    anchor: Anchor,
    nodes: Vec<Node>,
    kubeconfig: PathBuf,
    password: String,
}

/// Where the API server is, and files in PEM to prove oneself by.
#[derive(Debug, Clone)]
pub struct Access {
    /// Without a path.
    pub url: String,
    /// The CA of the API server's certificate.
    pub authority: PathBuf,
    /// An administrator's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// The state of one daemon or registry, for people.
#[derive(Debug)]
pub struct Status {
    /// The name that `restart` and `logs` take.
    pub component: String,
    /// Whether it runs.
    pub alive: bool,
}

impl Cluster {
    /// The log of [`Options::audit_user`]'s requests: `audit.k8s.io/v1` Events as JSON, one a line. Of Leases it has what was
    /// sent, of all else only the metadata.
    pub const AUDIT: &str = config::AUDIT;

    /// Builds the components that are missing or stale.
    pub fn build() -> anyhow::Result<()> {
        components::build(&[])
    }

    /// Starts a cluster, or returns the running one if it is well and has these options.
    pub fn up(options: &Options) -> anyhow::Result<Self> {
        let (state, nodes) = (State::new(&options.name)?, Node::first(options.nodes)?);
        check_host()?;
        components::build(&[])?;
        let _lock = cache::lock(&format!("cluster-{}", options.name))?;
        if let Some(running) = Self::find(&state)? {
            let same = serde_json::from_str::<Options>(&state.read("ready")?).is_ok_and(|old| old == *options);
            if same && running.status()?.iter().all(|component| component.alive) {
                return Ok(running);
            }
        }
        tear_down(&state)?;
        state.create()?;
        config::write(&state, options)?;
        for node in &nodes {
            cgroups::create(&node.cgroup(&state))?;
        }
        network::create(&state, &nodes)?;
        let anchor = Anchor::start(&state)?;
        for node in &nodes {
            mounts::create(&state, &anchor, *node)?;
        }
        kubernetes::bring_up(&state, &anchor, &nodes, options)
            .with_context(|| format!("failed to bring the cluster up: see \"{}\"", state.text("log")))?;
        // Written last: a cluster without it is half up.
        state.write("ready", serde_json::to_string(options)?)?;
        Self::find(&state)?.context("failed to find the cluster that has just come up")
    }

    /// The running cluster of this name, if there is one.
    pub fn attach(name: &str) -> anyhow::Result<Option<Self>> {
        Self::find(&State::new(name)?)
    }

    fn find(state: &State) -> anyhow::Result<Option<Self>> {
        let Some(anchor) = Anchor::find(state).filter(|_| state.path("ready").exists()) else {
            return Ok(None);
        };
        // One of an older build has one node, or is about to be replaced.
        let options = serde_json::from_str::<Options>(&state.read("ready")?);
        let nodes = Node::first(options.map_or(1, |options| options.nodes))?;
        let kubeconfig = state.path("pki/admin.conf");
        let password = config::password(state)?;
        Ok(Some(Self {
            state: state.clone(),
            anchor,
            nodes,
            kubeconfig,
            password,
        }))
    }

    /// Ends the cluster; nothing of it is left.
    pub fn down(self) -> anyhow::Result<()> {
        Self::destroy(self.state.name())
    }

    /// As [`Cluster::down`], for one that may be dead or half up.
    pub fn destroy(name: &str) -> anyhow::Result<()> {
        let state = State::new(name)?;
        let _lock = cache::lock(&format!("cluster-{name}"))?;
        tear_down(&state)
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn anchor(&self) -> &Anchor {
        &self.anchor
    }

    /// The administrator's kubeconfig. Its server is to be reached from inside only.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// How an administrator's own client reaches the API server, from inside only.
    pub fn access(&self) -> Access {
        let file = |name: &str| self.state.path(&format!("pki/{name}"));
        Access {
            url: format!("https://{}:6443", network::NODE),
            authority: file("ca.crt"),
            certificate: file("admin.crt"),
            key: file("admin.key"),
        }
    }

    /// The PID of the cluster's PID 1 as the host sees it, for `nsenter`.
    pub fn anchor_pid(&self) -> u32 {
        self.anchor.pid()
    }

    /// Its nodes, in their order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Runs a program on a node as its daemons run: in its network, with its mounts. [`Cluster::command`] is on the first one.
    pub fn command_on(&self, node: Node, program: &str) -> Command {
        self.anchor.on(node, program)
    }

    /// Runs a program in the cluster's namespaces, in the current folder where that is visible.
    pub fn command(&self, program: &str) -> Command {
        let folder = std::env::current_dir()
            .ok()
            .and_then(|path| path.to_str().map(str::to_owned));
        let visible = |path: &String| Path::new(&format!("/proc/{}/root{path}", self.anchor.pid())).is_dir();
        let folder = folder.filter(visible).unwrap_or_else(|| "/".to_owned());
        let mut command = self.anchor.enter(None, &folder, program);
        let folders = ["kubernetes", "helm", "containerd"].map(|component| binary(component, "").display().to_string());
        command
            .env("PATH", format!("{}:{}", folders.join(":"), search_path()))
            .env("KUBECONFIG", &self.kubeconfig)
            // The caches of these would else be left in the user's home.
            .env("KUBECACHEDIR", self.state.path("home/kube-cache"))
            .env("HELM_CACHE_HOME", self.state.path("helm/cache"))
            .env("HELM_CONFIG_HOME", self.state.path("helm/config"))
            .env("HELM_DATA_HOME", self.state.path("helm/data"));
        command
    }

    /// Runs kubectl; what it printed.
    pub fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        output(self.command("kubectl").args(args))
    }

    /// Runs kubectl with a text on its standard input, for `-f -`.
    pub fn kubectl_stdin(&self, args: &[&str], stdin: &str) -> anyhow::Result<String> {
        output_with(self.command("kubectl").args(args), stdin)
    }

    /// Waits until definitions are served: `crd --all`, a name, or `-f` and a path.
    pub fn served(&self, definitions: &[&str]) -> anyhow::Result<()> {
        let wait = ["wait", "--for=condition=Established", "--timeout=180s"];
        // kubectl gives up at a definition without conditions, which one that was just created is for a moment.
        until("the definitions served", || {
            self.kubectl(&[&wait[..], definitions].concat())
        })
        .map(drop)
    }

    /// Runs helm; what it printed.
    pub fn helm(&self, args: &[&str]) -> anyhow::Result<String> {
        output(self.command("helm").args(args))
    }

    /// Runs the helm of the major version before; what it printed. It is built when it is first asked for.
    pub fn helm3(&self, args: &[&str]) -> anyhow::Result<String> {
        components::build(&["helm3"])?;
        let program = binary("helm3", "helm").display().to_string();
        output(self.command(&program).args(args))
    }

    /// Pushes files, by their paths, as the kind of artifact that Flux reads its sources from; its digest.
    pub fn push_artifact(
        &self,
        to: Registry,
        repository: &str,
        tag: &str,
        files: &[(&str, &str)],
    ) -> anyhow::Result<String> {
        let artifact = Image::of_flux(&self.state, files)?;
        registries::push(&self.state, &self.anchor, to, &artifact, repository, tag)?;
        Ok(artifact.digest().to_owned())
    }

    /// Pushes an image and returns its digest. Works while a registry is faulted.
    pub fn push(&self, to: &[Registry], repository: &str, tag: &str, image: &TestImage) -> anyhow::Result<String> {
        let command: Vec<_> = image.command.iter().map(String::as_str).collect();
        let image = Image::of_tool(&self.state, &image.variant, &command)?;
        for registry in to {
            registries::push(&self.state, &self.anchor, *registry, &image, repository, tag)?;
        }
        Ok(image.digest().to_owned())
    }

    /// Removes a tag from one registry.
    pub fn delete_tag(&self, from: Registry, repository: &str, tag: &str) -> anyhow::Result<()> {
        registries::remove(&self.state, &self.anchor, from, repository, tag)
    }

    /// Removes a manifest from one registry, and with it all tags that name it there: what a purge of old images does.
    pub fn delete_manifest(&self, from: Registry, repository: &str, digest: &str) -> anyhow::Result<()> {
        registries::remove(&self.state, &self.anchor, from, repository, digest)
    }

    /// Deletes the `config`, or the last `layer`, of an image from one registry, as a clean-up that takes it for unused; its digest. The
    /// image goes on naming it.
    pub fn clean_up(&self, from: Registry, repository: &str, tag: &str, part: &str) -> anyhow::Result<String> {
        registries::clean_up(&self.state, &self.anchor, from, repository, (tag, part))
    }

    /// Makes a registry fail; replaces the fault that was set.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a fault is named where it is set, not kept"
    )]
    pub fn fault(&self, on: Registry, fault: Fault) -> anyhow::Result<()> {
        registries::fault(&self.state, &self.anchor, on, Some(&fault), &[])
    }

    /// As [`Cluster::fault`], for a part of the traffic alone: everything else reaches the registry. Only faults of the network are
    /// possible: [`Fault::BlackHole`], [`Fault::Refused`] and [`Fault::BlobHostDead`].
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a fault is named where it is set, not kept"
    )]
    pub fn fault_for(&self, traffic: &[Traffic], on: Registry, fault: Fault) -> anyhow::Result<()> {
        ensure!(
            !traffic.is_empty(),
            "failed to set a fault on {on}: no traffic is named"
        );
        for named in traffic {
            let node = named.node();
            ensure!(
                self.nodes.contains(&node),
                "failed to find node \"{node}\" in this cluster"
            );
        }
        registries::fault(&self.state, &self.anchor, on, Some(&fault), traffic)
    }

    /// Ends a registry's fault.
    pub fn heal(&self, registry: Registry) -> anyhow::Result<()> {
        registries::fault(&self.state, &self.anchor, registry, None, &[])
    }

    /// The fault that is set on a registry, as its text; empty if none is.
    pub fn current_fault(&self, registry: Registry) -> String {
        registries::current_fault(&self.state, registry)
    }

    /// Takes a registry's front away, so that another program can stand in for it; pushes go on. See [`Cluster::command_beside`].
    ///
    /// Until [`Cluster::restore_front`], [`Cluster::fault`] takes only faults of the network.
    pub fn vacate_front(&self, registry: Registry) -> anyhow::Result<Place> {
        standin::vacate(&self.state, &self.anchor, registry)
    }

    /// Puts a registry's front back once what stood in for it has ended.
    pub fn restore_front(&self, registry: Registry) -> anyhow::Result<()> {
        standin::restore(&self.anchor, registry)
    }

    /// A program in a registry's network, where it can listen at the registry's addresses.
    pub fn command_beside(&self, registry: Registry, program: &str) -> Command {
        let namespace = self.state.registry_namespace(registry);
        self.anchor.enter(Some(&namespace), "/", program)
    }

    /// The first node's address, which pods reach, too.
    pub const fn node_address() -> &'static str {
        network::NODE
    }

    /// Puts an image made of the host's files straight into containerd, on all nodes.
    ///
    /// All files become executable; `files` are pairs of a path in the image and one of the host.
    pub fn load_image(&self, reference: &str, files: &[(&str, &Path)], entrypoint: &[&str]) -> anyhow::Result<()> {
        Image::of_files(&self.state, files, entrypoint)?.load(&self.state, &self.anchor, &self.nodes, reference)
    }

    /// Puts the images of an OCI or docker archive straight into containerd, under their own names, on all nodes.
    pub fn load_archive(&self, archive: &Path) -> anyhow::Result<()> {
        let mut nodes = self.nodes.iter();
        nodes.try_for_each(|node| images::load_archive(&self.anchor, *node, archive))
    }

    /// Removes images from all nodes by a part of their reference, so that the next pod must pull.
    pub fn remove_images(&self, reference_contains: &str) -> anyhow::Result<()> {
        let mut nodes = self.nodes.iter();
        nodes.try_for_each(|node| images::remove(&self.anchor, *node, reference_contains))
    }

    /// The CA of the registries' certificates, PEM. Pods do not trust it unless they are given it.
    ///
    /// # Panics
    /// If the cluster has been taken down behind this value's back.
    pub fn ca_pem(&self) -> String {
        // Written before the cluster came up, and removed only after it is gone.
        self.state
            .read("pki/registries-ca.crt")
            .expect("the CA stands in the folder of a running cluster")
    }

    /// User and password that may pull below `private/` and push, on both registries.
    pub fn credentials(&self) -> (String, String) {
        (config::USER.to_owned(), self.password.clone())
    }

    /// Kills a component and starts it again.
    pub fn restart(&self, component: &str) -> anyhow::Result<()> {
        self.anchor.restart(component)
    }

    /// Kills a component; [`Cluster::restart`] starts it.
    pub fn stop(&self, component: &str) -> anyhow::Result<()> {
        self.anchor.stop(component)
    }

    /// Has the kubelet of a node pull one image after the other, or all at once: it is started again with this. The cluster's options
    /// stay as they are.
    pub fn serialize_image_pulls(&self, on: Node, serial: bool) -> anyhow::Result<()> {
        config::kubelet(&self.state, on, serial)?;
        self.restart(&on.named("kubelet"))
    }

    /// Has containerd on all nodes wait so long for a connection to a registry, or as long as it does by itself, from the next pull
    /// on. The cluster's options stay as they are.
    pub fn dial_timeout(&self, timeout: Option<Duration>) -> anyhow::Result<()> {
        let mut registries = Registry::ALL.into_iter();
        registries.try_for_each(|registry| config::hosts(&self.state, registry, timeout))
    }

    /// All that a component has printed. `front-acr` and `front-ghcr` print a line per request.
    pub fn logs(&self, component: &str) -> anyhow::Result<String> {
        self.state.read(&format!("log/{component}.log"))
    }

    /// The folder whose manifests the first node's kubelet runs as static pods.
    pub fn static_pod_dir(&self) -> PathBuf {
        self.state.path("static-pods")
    }

    /// Which components run.
    pub fn status(&self) -> anyhow::Result<Vec<Status>> {
        let names = self.anchor.daemons()?;
        Ok(names
            .into_iter()
            .map(|component| Status {
                alive: self.anchor.alive(&component),
                component,
            })
            .collect())
    }
}

/// Says what is missing before anything is half done.
fn check_host() -> anyhow::Result<()> {
    ensure!(
        output(host("id").arg("-u"))?.trim() == "0",
        "failed to start a cluster: only root can"
    );
    let path = search_path();
    let found = |program: &&str| !path.split(':').any(|folder| Path::new(folder).join(program).is_file());
    let missing: Vec<_> = ["ip", "nsenter", "setsid", "nft", "iptables", "runc", "curl", "go"]
        .into_iter()
        .filter(found)
        .collect();
    ensure!(
        missing.is_empty(),
        "failed to find {}: `make deps` installs what a cluster needs",
        missing.join(", ")
    );
    Ok(())
}

/// Removes whatever there is of a cluster, in whatever state it is.
fn tear_down(state: &State) -> anyhow::Result<()> {
    if let Some(anchor) = Anchor::find(state) {
        anchor.kill()?;
    }
    network::remove(state)?;
    cgroups::remove(state.name())?;
    if !state.folder().exists() {
        return Ok(());
    }
    // The mounts of a dead namespace may take a moment to go.
    until("the end of the cluster's files", || {
        fs::remove_dir_all(state.folder()).with_context(|| format!("failed to remove \"{}\"", state.folder().display()))
    })
}
