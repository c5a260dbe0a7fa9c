//! What can be typed.

// Shown as plain text by `--help`: no Markdown.
#![allow(clippy::doc_markdown)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::output;

mod cluster;

pub use cluster::{
    ChangeArguments, ClusterArguments, ExplainArguments, FailbackArguments, FailoverArguments, ReconcileArguments,
    SimulateArguments,
};

/// Keeps two container registries interchangeable and moves the cluster between them.
#[derive(Debug, Parser)]
#[command(
    name = "catamaran",
    bin_name = "catamaran",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator; the Helm chart does this
    Run(Box<RunArguments>),
    /// Show the mirrors of a cluster: active side, parity, health
    ///
    /// Exits with 2 when they can't be read, or when there is none of that name.
    Status(StatusArguments),
    /// Compare the tags of two repositories, without a cluster
    ///
    /// Exits with 0 when every tag has the same digest on both sides, with 1 when some differ, or can't be pulled with --deep,
    /// and with 2 when that could not be told. Made for the step of a pipeline that comes after the push to both registries.
    ///
    /// With the same tag on both sides only that tag is compared. Without, all tags are, but for the referrers' tags
    /// (sha256-...) that signatures and attestations are stored under.
    Diff(DiffArguments),
    /// Check what pulling an image needs step by step, and say how to fix the first step that fails
    ///
    /// For each repository, or for both sides of a mirror in the cluster: DNS, TCP, TLS, the registry's challenge, the
    /// credential, a token, the list of tags, a manifest, the first byte of a blob. With a mirror also, as advice: which nodes
    /// pull one image after the other, so that one that hangs holds up all others.
    ///
    /// Exits with 0 when every step passed, with 1 when one failed, and with 2 when that could not be told: a mistake in the
    /// arguments, no cluster, a Secret that may not be read.
    Check(CheckArguments),
    /// Explain where an image, or the images of a pod, are sent, rule by rule
    ///
    /// Prints the rules that admission and rescue go by, in their order, which of them applies, and what it goes by: the active side,
    /// what is known of the tag or digest on both sides and since when, selectors and exclusions. Reads mirrors, evidence,
    /// namespace and pod with your own rights, and says what it could not read.
    ///
    /// Exits with 0 when everything was read, and with 2 when something could not be, or when there is no such pod.
    Explain(ExplainArguments),
    /// Tell which workloads would start from the fallback if the primary were down
    ///
    /// Goes over the running pods and the templates of Deployments, StatefulSets, DaemonSets, Jobs and CronJobs, also of those that are
    /// scaled to zero or suspended, by the rules of admission. For each image of a mirror: whether a new pod could pull it from the
    /// fallback, why not, and what to do. Nothing is changed. Reads with your own rights, and says what it could not read.
    ///
    /// Exits with 0 when all would start, with 1 when some would not, and with 2 when that could not be told of some.
    Simulate(SimulateArguments),
    /// Send pods to the fallback, whatever its health
    ///
    /// Sets spec.active to Fallback, and waits until the operator has followed. Without --for that stays so until `failback`.
    /// New pods, and pods that wait for an image, are sent to the fallback; pods that run are left as they are.
    ///
    /// Exits with 0 when the operator has followed, with 1 when it has not within --timeout, and with 2 when nothing could be changed.
    Failover(FailoverArguments),
    /// End an override, and have the operator go back to the primary when that is safe
    ///
    /// Sets spec.active to Auto: the operator goes back once the primary is stable and holds what is in use. With --force it
    /// sets spec.active to Primary, and pods are sent there at once.
    ///
    /// Exits with 0 when the operator has followed, with 1 when it has not within --timeout, and with 2 when nothing could be changed.
    Failback(FailbackArguments),
    /// Verify a mirror now, and prove the fallback, instead of at the next interval
    ///
    /// Sets the annotation catamaran.dev/reconcile-requested-at, and waits until a comparison of the tags, and with proof.mode Pull the
    /// proof pods, that began after it have ended.
    ///
    /// Exits with 0 when no problem was found, with 1 when Ready, InSync or FallbackProven is not True, or the operator has not
    /// followed within --timeout, and with 2 when nothing could be asked for.
    Reconcile(ReconcileArguments),
    /// Print a script that completes commands in a shell
    ///
    /// For bash: `source <(catamaran completion bash)`. As a plugin of kubectl, `kubectl catamaran` is completed by an executable named
    /// kubectl_complete-catamaran in the path: a link to this one.
    Completion(CompletionArguments),
    /// Print the CustomResourceDefinition
    Crd,
    /// Print the version
    Version(VersionArguments),
}

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object for each line.
    Json,
}

/// Who keeps the webhook's certificate and the caBundle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Certificates {
    /// The operator itself, with an authority of its own.
    #[default]
    #[value(name = "self")]
    Own,
    /// Somebody fills the Secret (tls.crt, tls.key, ca.crt); the operator publishes ca.crt.
    Secret,
    /// cert-manager fills the Secret, and its cainjector publishes.
    CertManager,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For machines.
    Json,
    /// For machines and people.
    Yaml,
}

/// Arguments of `run`.
#[derive(Args, Debug)]
pub struct RunArguments {
    /// The operator's own namespace: Secrets, evidence and the lease are there
    #[arg(long, env = "POD_NAMESPACE", hide_env_values = true, value_name = "NAME")]
    pub namespace: String,
    /// This replica's name, as holder of the lease
    #[arg(long, env = "POD_NAME", hide_env_values = true, value_name = "NAME")]
    pub pod_name: String,
    /// The UID of this replica's pod, which owns what is kept for this replica alone
    #[arg(long, env = "POD_UID", hide_env_values = true, value_name = "UID")]
    pub pod_uid: Option<String>,
    /// The node that this replica runs on
    #[arg(
        long,
        env = "NODE_NAME",
        hide_env_values = true,
        default_value = "",
        value_name = "NAME"
    )]
    pub node_name: String,
    /// The Lease that elects the leader
    #[arg(long, default_value = "catamaran", value_name = "NAME")]
    pub lease: String,
    /// The MutatingWebhookConfiguration whose caBundle is kept
    #[arg(long, default_value = "catamaran", value_name = "NAME")]
    pub webhook_configuration: String,
    /// The Service in front of the webhook; its DNS name is in the serving certificate
    #[arg(long, default_value = "catamaran", value_name = "NAME")]
    pub webhook_service: String,
    /// The Secret with the webhook's CA and certificate
    #[arg(long, default_value = "catamaran-webhook-tls", value_name = "NAME")]
    pub certificate_secret: String,
    /// Who keeps that Secret and the caBundle
    #[arg(long, value_enum, default_value_t, value_name = "WHO")]
    pub certificates: Certificates,
    /// How long a certificate of the webhook lasts, such as 720h; it is replaced when a third of that is left
    #[arg(long, default_value = "720h", value_parser = lifetime, value_name = "TIME")]
    pub certificate_lifetime: Duration,
    /// How long the webhook's own CA lasts: at least three times as long
    #[arg(long, default_value = "8760h", value_parser = lifetime, value_name = "TIME")]
    pub authority_lifetime: Duration,
    /// Where the webhook listens
    #[arg(long, default_value = "[::]:9443", value_name = "ADDRESS")]
    pub webhook_address: SocketAddr,
    /// CA certificates (PEM): the webhook answers only clients that have a certificate of one of them; absent: everybody
    #[arg(long, value_name = "FILE")]
    pub webhook_client_ca_file: Option<PathBuf>,
    /// The common name that such a certificate must have; may be given more than once; absent: any
    #[arg(
        long = "webhook-client-name",
        requires = "webhook_client_ca_file",
        value_name = "NAME"
    )]
    pub webhook_client_names: Vec<String>,
    /// Where /livez and /readyz are served, for the kubelet alone
    #[arg(long, default_value = "[::]:8082", value_name = "ADDRESS")]
    pub health_address: SocketAddr,
    /// Where /metrics is served
    #[arg(long, alias = "http-address", default_value = "[::]:8080", value_name = "ADDRESS")]
    pub metrics_address: SocketAddr,
    /// The file with the shared secrets of registries that notify us, one a line; absent: none may
    #[arg(long, value_name = "FILE")]
    pub notifications_secret_file: Option<PathBuf>,
    /// Where registries notify us of tags that moved: /azure, /github and /events
    #[arg(long, default_value = "[::]:8081", value_name = "ADDRESS")]
    pub notifications_address: SocketAddr,
    /// A namespace that pull secrets may be minted into; may be given more than once
    #[arg(long = "pull-secret-namespace", value_name = "NAME")]
    pub pull_secret_namespaces: Vec<String>,
    /// A name that minted pull secrets may have; may be given more than once
    #[arg(long = "pull-secret-name", value_name = "NAME")]
    pub pull_secret_names: Vec<String>,
    /// A namespace that proof pods may be made in; may be given more than once
    #[arg(long = "proof-namespace", value_name = "NAME")]
    pub proof_namespaces: Vec<String>,
    /// A namespace whose pods are left alone, at admission and when they wait for an image, besides kube-system and the
    /// operator's own; may be given more than once
    #[arg(long = "excluded-namespace", value_name = "NAME")]
    pub excluded_namespaces: Vec<String>,
    /// Whether the templates of workloads count as use of an image, besides pods
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub read_workloads: bool,
    /// How logs are written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Which logs are written: a level, or a filter such as catamaran_controller=debug,info
    #[arg(
        long,
        env = "CATAMARAN_LOG",
        hide_env_values = true,
        default_value = "info",
        value_name = "FILTER"
    )]
    pub log_level: String,
    /// How long requests are still served after the signal to stop, in seconds
    #[arg(long, default_value = "10", value_parser = seconds, value_name = "SECONDS")]
    pub drain_seconds: Duration,
}

/// Arguments of `status`.
#[derive(Args, Debug)]
pub struct StatusArguments {
    /// Only this mirror
    pub name: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Where to find the cluster
    #[command(flatten)]
    pub cluster: ClusterArguments,
}

/// Arguments of `diff`.
#[derive(Args, Debug)]
pub struct DiffArguments {
    /// The primary's repository, such as kracr.azurecr.io/kevinryan-io, or one tag of it
    pub primary: String,
    /// The fallback's repository, such as ghcr.io/devopskev/kevinryan-io, or the same tag of it
    pub fallback: String,
    /// Only tags that match this regular expression; may be given more than once
    #[arg(long, value_name = "REGEX")]
    pub include: Vec<String>,
    /// No tags that match this regular expression; may be given more than once
    #[arg(long, value_name = "REGEX")]
    pub exclude: Vec<String>,
    /// Look also whether all that a tag refers to is on both sides (the manifests of an index, configs and layers), and hash manifests
    #[arg(long)]
    pub deep: bool,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Credentials, as `docker login` writes them; absent: $DOCKER_CONFIG/config.json or ~/.docker/config.json
    #[arg(long, value_name = "FILE")]
    pub docker_config: Option<PathBuf>,
    /// Certificates (PEM) to trust besides the system's
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Another host that may issue tokens for these registries, such as gitlab.com; it is sent their credentials
    #[arg(long = "token-host", value_name = "HOST")]
    pub token_hosts: Vec<String>,
    /// Requests to each registry at a time
    #[arg(long, default_value = "8", value_parser = clap::value_parser!(u16).range(1..=64), value_name = "COUNT")]
    pub parallel: u16,
    /// Requests a minute to each registry, at most; absent: a fifth of the registry's known limit
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "COUNT")]
    pub per_minute: Option<u32>,
    /// Print nothing but the result and errors
    #[arg(short, long)]
    pub quiet: bool,
}

/// Arguments of `check`.
#[derive(Args, Debug)]
pub struct CheckArguments {
    /// A repository such as kracr.azurecr.io/kevinryan-io, with or without a tag, or the name of a RegistryMirror
    #[arg(required_unless_present = "nodes", value_name = "REPOSITORY|NAME")]
    pub targets: Vec<String>,
    /// Check how the cluster's nodes pull images, also without a mirror; needs the rights to list nodes and to get nodes/proxy
    #[arg(long)]
    pub nodes: bool,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Credentials, as `docker login` writes them; absent: $DOCKER_CONFIG/config.json or ~/.docker/config.json
    #[arg(long, value_name = "FILE")]
    pub docker_config: Option<PathBuf>,
    /// Certificates (PEM) to trust besides the system's
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Another host that may issue tokens for these registries, such as gitlab.com; it is sent their credentials
    #[arg(long = "token-host", value_name = "HOST")]
    pub token_hosts: Vec<String>,
    /// The operator's namespace, where a mirror's Secrets are
    #[arg(short, long, default_value = "catamaran-system", value_name = "NAME")]
    pub namespace: String,
    /// The operator's service account
    #[arg(long, default_value = "catamaran", value_name = "NAME")]
    pub service_account: String,
    /// Where a mirror names no Secret, use the cloud identity of the pod or machine that this runs in: within a pod of the
    /// operator, the operator's
    #[arg(long)]
    pub with_identity: bool,
    /// Where to find the cluster
    #[command(flatten)]
    pub cluster: ClusterArguments,
}

/// Arguments of `completion`.
#[derive(Args, Debug)]
pub struct CompletionArguments {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Arguments of `version`.
#[derive(Args, Debug)]
pub struct VersionArguments {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: u64 = text
        .parse()
        .map_err(|_| format!("'{text}' is not a whole number of seconds"))?;
    if seconds > 300 {
        Err("at most 300 seconds".to_owned())
    } else {
        Ok(Duration::from_secs(seconds))
    }
}

/// From a minute to ten years: below that a rotation has no time to reach every API server.
fn lifetime(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600)];
    let parsed = units.iter().find_map(|(unit, seconds)| {
        let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
        count.checked_mul(*seconds)
    });
    let seconds = parsed
        .ok_or_else(|| format!("'{text}' is not a whole number of hours (720h), minutes (90m) or seconds (90s)"))?;
    if (60..=10 * 8760 * 3600).contains(&seconds) {
        Ok(Duration::from_secs(seconds))
    } else {
        Err("from 60s to 87600h".to_owned())
    }
}

/// Prints the version.
pub fn print_version(arguments: &VersionArguments) -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let document = serde_json::json!({ "version": version, "api": "catamaran.dev/v1alpha1" });
    match arguments.output {
        Output::Table => output::text(&format!("catamaran {version}\n")),
        Output::Json => output::json(&document),
        Output::Yaml => output::yaml(&document),
    }
}
