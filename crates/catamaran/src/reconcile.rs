//! `catamaran reconcile`: has a mirror verified, and its fallback proven, now.
//!
//! It writes one annotation; the operator repeats its value in `status.lastHandledReconcileAt` when all has ended.

use std::process::ExitCode;

use anyhow::{anyhow, bail};
use catamaran_api::annotations::RECONCILE_REQUESTED_AT;
use catamaran_api::conditions::{self, find_condition};
use catamaran_api::mirror::{ProofModeName, RegistryMirror};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use crate::cli::{Output, ReconcileArguments};
use crate::cluster::{self, Cluster};
use crate::{exit, follow, output, table};

/// What was found, as `-o json` prints it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    mirror: String,
    requested_at: String,
    /// The operator has followed; always false where it was not waited for.
    followed: bool,
    /// Of those that matter here.
    conditions: Vec<Found>,
    message: String,
}

/// A condition, as far as people need it.
#[derive(Clone, Debug, Serialize)]
struct Found {
    #[serde(rename = "type")]
    kind: &'static str,
    status: String,
    reason: String,
    message: String,
}

/// Asks, waits, and says what was found.
pub fn run(arguments: &ReconcileArguments) -> anyhow::Result<ExitCode> {
    let document = cluster::block_on(reconcile(arguments))?;
    match arguments.output {
        Output::Table => output::text(&text(&document))?,
        Output::Json => output::json(&document)?,
        Output::Yaml => output::yaml(&document)?,
    }
    let waited = !arguments.timeout.is_zero();
    let is_well = document.followed && document.conditions.iter().all(|found| found.status == "True");
    let code = if waited && !is_well { exit::NOT_WELL } else { exit::WELL };
    Ok(code.into())
}

async fn reconcile(arguments: &ReconcileArguments) -> anyhow::Result<Document> {
    let (name, timeout) = (&arguments.name, arguments.timeout);
    let cluster = Cluster::find(&arguments.cluster).await?;
    let before = cluster.mirror(name).await?;
    if before.spec.suspend {
        bail!("mirror '{name}' is suspended, so the operator would not follow: set spec.suspend to false first");
    }
    let requested_at = Timestamp::now().to_string();
    let after = ask(&cluster, name, &requested_at).await?;
    let handled = |mirror: &RegistryMirror| {
        let status = mirror.status.as_ref();
        status.and_then(|status| status.last_handled_reconcile_at.as_deref()) == Some(requested_at.as_str())
    };
    let (latest, followed) = if timeout.is_zero() {
        (after, false)
    } else {
        follow::follow(&cluster, after, timeout, handled, progress).await?
    };
    let message = if timeout.is_zero() {
        format!("asked the operator to verify mirror '{name}'; not waiting for it")
    } else if followed {
        format!("mirror '{name}' was verified")
    } else {
        format!(
            "the operator has not verified mirror '{name}' within {}s; it goes on. Check that it runs: \
             kubectl get pods -n catamaran-system",
            timeout.as_secs()
        )
    };
    Ok(Document {
        mirror: name.clone(),
        requested_at,
        followed,
        conditions: if followed { found(&latest) } else { Vec::new() },
        message,
    })
}

async fn ask(cluster: &Cluster, name: &str, word: &str) -> anyhow::Result<RegistryMirror> {
    let patch = json!({"metadata": {"annotations": {RECONCILE_REQUESTED_AT: word}}});
    let patched = cluster.patch_mirror(name, &patch, false).await;
    patched.map_err(|reason| anyhow!("can't annotate mirror '{name}': {reason}"))
}

/// What is known while the operator works.
fn progress(mirror: &RegistryMirror) -> String {
    match mirror.spec.proof.mode {
        ProofModeName::Off => "comparing tags".to_owned(),
        ProofModeName::Pull => "comparing tags, and pulling from the fallback on each node".to_owned(),
    }
}

fn found(mirror: &RegistryMirror) -> Vec<Found> {
    let conditions = mirror.status.as_ref().map(|status| &status.conditions);
    let kinds = [conditions::READY, conditions::IN_SYNC, conditions::FALLBACK_PROVEN];
    let found = kinds.into_iter().filter_map(|kind| {
        let condition = find_condition(conditions?, kind)?;
        Some(Found {
            kind,
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
        })
    });
    found.collect()
}

/// For people: a line, and one for each condition.
fn text(document: &Document) -> String {
    let lines = document.conditions.iter().map(|found| {
        let Found {
            kind, status, message, ..
        } = found;
        format!("{kind}={status}: {}\n", table::cell(message))
    });
    let mut text = table::cell(&document.message) + "\n";
    text.extend(lines);
    text
}
