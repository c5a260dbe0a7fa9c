//! The pages of docs/reference that the process has the facts of: metrics, Events, the command line. `make generate` writes them,
//! and the tests fail when they are stale.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use catamaran_api::conditions;
use catamaran_api::mirror::{ProofFailure, ProofStatus, RegistryMirrorStatus};
use catamaran_certificates::ServingCertificate;
use catamaran_controller::events;
use catamaran_controller::metrics::Metrics;
use catamaran_controller::notifications::Sender;
use catamaran_controller::publish::SnapshotMetrics;
use catamaran_core::endpoint::{Outcome, Unavailable};
use catamaran_core::mirror::failover::{Flip, FlipReason};
use catamaran_core::mirror::parity::Summary;
use catamaran_core::mirror::prewarm::Holdings;
use catamaran_core::mirror::proof::reading::Cause;
use catamaran_core::side::Side;
use catamaran_lease::Leadership;
use clap::CommandFactory as _;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::watch;

use crate::{cli, exit, exposition};

// One page is checked as the other.
#[path = "../../api/tests/reference/page.rs"]
mod page;

use page::{check, code, table};

/// The variables of the environment that something reads which is not an argument of `run`.
const ENVIRONMENT: &[(&str, &str, &str)] = &[
    (
        "`run`",
        "AZURE_CLIENT_ID",
        "The client ID of the workload identity, where a mirror names none. The webhook of Azure workload identity sets it.",
    ),
    ("`run`", "AZURE_TENANT_ID", "Its tenant, likewise."),
    (
        "`run`",
        "AZURE_FEDERATED_TOKEN_FILE",
        "The file with the service account's token for it; without one, mirrors without credentials have none.",
    ),
    (
        "`run`",
        "AZURE_AUTHORITY_HOST",
        "The authority that exchanges it; absent: that of the registry's cloud.",
    ),
    (
        "`run`",
        "AWS_ACCESS_KEY_ID",
        "A key, with AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN. The first source that is set counts: this, then the role, the container, the machine.",
    ),
    (
        "`run`",
        "AWS_ROLE_ARN",
        "A role for the token in AWS_WEB_IDENTITY_TOKEN_FILE (IRSA). EKS sets both.",
    ),
    (
        "`run`",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "Where keys are handed out, or AWS_CONTAINER_CREDENTIALS_RELATIVE_URI; with AWS_CONTAINER_AUTHORIZATION_TOKEN or AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE (Pod Identity). EKS sets them.",
    ),
    (
        "`run`",
        "AWS_EC2_METADATA_DISABLED",
        "`true`: the machine's own role is not asked for. AWS_EC2_METADATA_SERVICE_ENDPOINT says where else to ask.",
    ),
    (
        "`run`",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "The file with a credential configuration of workload identity federation (`external_account`), for Google's registries. Without it a machine of Google's is asked for the service account of the pod or its own.",
    ),
    (
        "`run`",
        "GCE_METADATA_HOST",
        "`host` or `host:port` of Google's metadata server, where it is not to be known by the machine's product name.",
    ),
    (
        "`diff`, `check`",
        "DOCKER_CONFIG",
        "The folder of the config.json with credentials; absent: `.docker` in HOME.",
    ),
    (
        "`status`, `check`, `explain`, `simulate`, `failover`, `failback`, `reconcile`",
        "KUBECONFIG",
        "The kubeconfig; absent: `~/.kube/config`, or the cluster that the command runs in.",
    ),
    ("`check`", "NO_COLOR", "Not empty: no colours."),
    (
        "all",
        "HTTPS_PROXY",
        "The proxy to registries and identity services; also ALL_PROXY, with exceptions in NO_PROXY.",
    ),
];

/// Words in capitals that are codes of the distribution specification and its implementations, or Cargo's.
const NO_VARIABLES: &[&str] = &[
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "CARGO_PKG_VERSION",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_UNKNOWN",
    "NAME_UNKNOWN",
    "NOT_FOUND",
    "REGISTRY_DISALLOWED_OPERATION",
    "TAG_EXPIRED",
];

/// What probes find.
const OUTCOMES: &[Outcome] = &[
    Outcome::Reachable,
    Outcome::Unavailable(Unavailable::DnsFailure),
    Outcome::Unavailable(Unavailable::ConnectionFailed),
    Outcome::Unavailable(Unavailable::TlsError),
    Outcome::Unavailable(Unavailable::Timeout),
    Outcome::Unavailable(Unavailable::ServerError),
    Outcome::Unauthorized,
    Outcome::Forbidden,
    Outcome::NetworkDenied,
    Outcome::Throttled { retry_after: None },
    Outcome::CanaryNotFound,
    Outcome::CanaryBlocked,
    Outcome::UnexpectedAnswer,
    Outcome::RefusedByOperator,
    Outcome::CertificateNotTrusted,
    Outcome::CredentialsUnavailable,
    Outcome::WaitingForAuthorization,
];

/// What becomes of tags that are copied.
const COPIES: &[&str] = &[
    "Copied",
    "AlreadyThere",
    "Moved",
    "Mismatched",
    "Locked",
    "Denied",
    "Corrupt",
    "Unsupported",
    "Throttled",
    "Source",
    "Target",
    "NoClient",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn the_page_of_the_events_is_up_to_date() {
    let mut page = String::new();
    for about in ["RegistryMirror", "Pod"] {
        let kinds = events::ALL.iter().filter(|kind| kind.about == about);
        let rows = kinds.map(|kind| {
            let severity = format!("{:?}", kind.severity);
            vec![code(kind.reason), severity, code(kind.action), kind.when.to_owned()]
        });
        let heads = ["reason", "type", "action", "when"];
        page.push_str(&["## On a ", about, "\n\n", &table(&heads, rows), "\n"].concat());
    }
    page.pop();
    assert!(
        events::ALL
            .iter()
            .all(|kind| ["RegistryMirror", "Pod"].contains(&kind.about))
    );
    check("events.md", &page);
}

#[test]
fn the_page_of_the_command_line_is_up_to_date() {
    let codes = exit::ALL
        .iter()
        .map(|(code, means)| vec![code.to_string(), means.to_string()]);
    let command = cli::Cli::command();
    let mut variables = Vec::new();
    for subcommand in command.get_subcommands() {
        for argument in subcommand.get_arguments() {
            let Some(variable) = argument.get_env() else { continue };
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let flag = argument
                .get_long()
                .map(|flag| code(&format!("--{flag}")))
                .unwrap_or_default();
            let means = format!("{help}; {flag} goes before it.");
            variables.push(vec![
                code(subcommand.get_name()),
                code(&variable.to_string_lossy()),
                means,
            ]);
        }
    }
    let others = ENVIRONMENT
        .iter()
        .map(|(who, name, means)| vec![(*who).to_owned(), code(name), (*means).to_owned()]);
    let page = [
        "## Exit codes\n\n",
        &table(&["code", "meaning"], codes),
        "\n## Environment\n\n",
        &table(&["read by", "variable", ""], variables.into_iter().chain(others)),
    ];
    check("command-line.md", &page.concat());
}

#[test]
fn every_variable_that_is_read_is_on_the_page() {
    let command = cli::Cli::command();
    let mut known: BTreeSet<String> = ENVIRONMENT
        .iter()
        .flat_map(|(_, name, means)| std::iter::once(*name).chain(means.split([' ', ',', '.', ';', '(', ')', '`'])))
        .map(str::to_owned)
        .collect();
    for argument in command.get_subcommands().flat_map(clap::Command::get_arguments) {
        known.extend(argument.get_env().map(|name| name.to_string_lossy().into_owned()));
    }
    let mut found = 0;
    for (file, text) in sources(&root().join("crates")) {
        for word in text.split('"').skip(1).step_by(2) {
            let capital = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
            let shaped = word.contains('_') && !word.ends_with('_') && word.bytes().all(capital);
            if shaped && !NO_VARIABLES.contains(&word) {
                found += 1;
                assert!(
                    known.contains(word),
                    "{}: {word} is read and not in ENVIRONMENT",
                    file.display()
                );
            }
        }
    }
    assert!(found >= 10, "only {found} variables were found in the sources");
}

/// The sources of the crates, without their tests.
fn sources(directory: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !matches!(&*name, "tests" | "benches") {
                found.extend(sources(&path));
            }
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !matches!(&*name, "tests.rs" | "reference.rs")
        {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

/// What one metric is called, counts, and is divided by.
#[derive(Default)]
struct Metric {
    kind: String,
    help: String,
    labels: BTreeMap<String, BTreeSet<String>>,
}

#[test]
fn the_page_of_the_metrics_is_up_to_date() {
    let controller = Metrics::default();
    sample(&controller);
    let registry = exposition::registry(&controller, &SnapshotMetrics::default(), process());
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let metrics = read(&text);
    // What the webhook's side encodes by itself is always there; a family without a sample is not.
    let mut of_controller = prometheus_client::registry::Registry::default();
    controller.register(&mut of_controller);
    let registered = format!("{of_controller:?}").matches("Descriptor {").count();
    let mut sampled = String::new();
    prometheus_client::encoding::text::encode(&mut sampled, &of_controller).unwrap();
    assert_eq!(
        read(&sampled).len(),
        registered,
        "a metric has no sample in this test:\n{sampled}"
    );
    let rows = metrics.iter().map(|(name, metric)| {
        let labels = metric.labels.iter().map(|(label, values)| {
            let values: Vec<String> = values.iter().map(|value| code(value)).collect();
            match &**label {
                "mirror" | "namespace" | "node" | "registry" => code(label),
                _ => format!("{}: {}", code(label), values.join(" ")),
            }
        });
        let labels: Vec<String> = labels.collect();
        let name = if metric.kind == "counter" {
            format!("{name}_total")
        } else {
            name.clone()
        };
        vec![
            code(&name),
            metric.kind.clone(),
            labels.join("; "),
            metric.help.trim_end_matches('.').to_owned(),
        ]
    });
    check("metrics.md", &table(&["metric", "type", "labels", ""], rows));
}

/// Reads what a scrape would.
fn read(text: &str) -> BTreeMap<String, Metric> {
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next()) {
            (Some("#"), Some(what @ ("HELP" | "TYPE"))) => {
                current = words.next().unwrap().to_owned();
                let metric = metrics.entry(current.clone()).or_default();
                let rest = words.next().unwrap().to_owned();
                *(if what == "HELP" {
                    &mut metric.help
                } else {
                    &mut metric.kind
                }) = rest;
            }
            (Some("#"), _) => {}
            _ => {
                let labels = line.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
                for label in labels
                    .map_or("", |(labels, _)| labels)
                    .split(',')
                    .filter(|label| !label.is_empty())
                {
                    let (label, value) = label.split_once('=').unwrap();
                    if label != "le" {
                        let values = metrics.get_mut(&current).unwrap().labels.entry(label.to_owned());
                        values.or_default().insert(value.trim_matches('"').to_owned());
                    }
                }
            }
        }
    }
    metrics
}

fn process() -> exposition::Process {
    exposition::Process {
        webhook: Arc::default(),
        view: Arc::new(catamaran_webhook::View::new(Instant::now())),
        leadership: watch::channel(Leadership::NONE).1,
        certificate: Arc::new(ServingCertificate::new("catamaran", "catamaran-system")),
        listeners: ["webhook", "health", "metrics", "notifications"]
            .map(|name| (name, Arc::default()))
            .to_vec(),
    }
}

/// A status with one failure of each cause.
fn unproven() -> RegistryMirrorStatus {
    let failure = |cause: Cause| ProofFailure {
        namespace: "shop".to_owned(),
        node: "node-1".to_owned(),
        reason: cause.as_str().to_owned(),
        ..ProofFailure::default()
    };
    let condition = json!({
        "type": conditions::FALLBACK_PROVEN, "status": "False", "reason": "PullsFail", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    RegistryMirrorStatus {
        proof: Some(ProofStatus {
            failing: Cause::ALL.map(failure).into(),
            ..ProofStatus::default()
        }),
        conditions: vec![serde_json::from_value(condition).unwrap()],
        ..RegistryMirrorStatus::default()
    }
}

fn sample_proofs(metrics: &Metrics, mirror: &str) {
    metrics.reported(mirror, &unproven());
    for kind in ["Pulled", "PullsFail", "Skipped"] {
        metrics.proof.ended(mirror, kind);
    }
    for cause in Cause::ALL
        .into_iter()
        .filter(|cause| !matches!(cause, Cause::Pull(_) | Cause::PullNotEnded))
    {
        metrics.proof.ended(mirror, cause.as_str());
    }
}

/// Counts one of everything, so that every value of every label shows.
fn sample(metrics: &Metrics) {
    let mirror = "apps";
    let now = Timestamp::UNIX_EPOCH;
    for side in Side::ALL {
        for outcome in OUTCOMES {
            metrics.probed(mirror, side, outcome);
        }
    }
    metrics.probe_took("ghcr.io", Duration::ZERO);
    for reason in [
        FlipReason::PrimaryUnavailable,
        FlipReason::FallbackUnavailable,
        FlipReason::PullsFailing,
        FlipReason::PrimaryRecovered,
        FlipReason::Requested,
    ] {
        let (from, to) = (Side::Primary, Side::Fallback);
        metrics.flipped(
            mirror,
            &Flip {
                at: now,
                from,
                to,
                reason,
            },
        );
    }
    metrics.scanned(mirror, &Summary::default(), now, now);
    sample_proofs(metrics, mirror);
    for kind in ["patched", "replaced", "failed"] {
        metrics.rescued(mirror, kind);
    }
    for kind in COPIES {
        metrics.copied_tag(mirror, kind);
    }
    for kind in ["sent", "skipped", "mounted"] {
        metrics.copied_blobs(mirror, kind, 1);
    }
    metrics.copied_bytes(mirror, 1);
    metrics.cache_holds(mirror, &Holdings::default(), now);
    for kind in ["Pulled", "Absent", "Throttled", "Failed"] {
        metrics.prewarmed(mirror, kind);
    }
    for error in ["conflict", "evidence", "status"] {
        metrics.reconcile_failed(error);
    }
    for sender in [Sender::Azure, Sender::GitHub, Sender::Events] {
        for outcome in [
            "accepted",
            "nothing",
            "handshake",
            "refused",
            "unreadable",
            "too_many",
            "forwarded",
        ] {
            metrics.notified(sender.as_str(), outcome);
        }
    }
}
