//! `catamaran status`: the mirrors of a cluster, in one line each.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use catamaran_api::conditions::{self, find_condition};
use catamaran_api::mirror::{RegistryMirror, RegistrySide};
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Status;
use kube::{Client, Config, ResourceExt as _};
use serde_json::json;

use crate::cli::{Output, StatusArguments};
use crate::{output, table};

/// Until the API server has taken a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Until the API server has answered.
const ANSWER: Duration = Duration::from_secs(30);

/// Prints the mirrors, or the one that was named.
pub fn run(arguments: &StatusArguments) -> anyhow::Result<()> {
    // Fails only when there is a provider already, which would be this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("failed to start the runtime")?;
    let fetched = runtime.block_on(fetch(arguments));
    // A name that is still being resolved can't be interrupted, and nobody waits for it any more.
    runtime.shutdown_background();
    let mirrors = fetched?;
    let document = || match mirrors.as_slice() {
        [mirror] if arguments.name.is_some() => json!(mirror),
        all => json!({ "apiVersion": "v1", "kind": "List", "items": all }),
    };
    match arguments.output {
        Output::Table if mirrors.is_empty() => {
            eprintln!("there are no mirrors; apply a RegistryMirror to make one");
            Ok(())
        }
        Output::Table => output::text(&rows(&mirrors)),
        Output::Json => output::json(&document()),
        Output::Yaml => output::yaml(&document()),
    }
}

async fn fetch(arguments: &StatusArguments) -> anyhow::Result<Vec<RegistryMirror>> {
    let mut config = config(arguments).await?;
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(ANSWER);
    let server = config.cluster_url.to_string();
    let client =
        Client::try_from(config).map_err(|error| anyhow!("failed to set up the client for {server}: {error}"))?;
    let api: Api<RegistryMirror> = Api::all(client);
    let name = arguments.name.as_deref();
    let mirrors = match name {
        Some(name) => api.get(name).await.map(|mirror| vec![mirror]),
        None => api.list(&ListParams::default()).await.map(|list| list.items),
    };
    mirrors.map_err(|error| explain(&error, &server, name))
}

/// The messages of kube's errors end with their sources already.
async fn config(arguments: &StatusArguments) -> anyhow::Result<Config> {
    let options = KubeConfigOptions {
        context: arguments.context.clone(),
        ..KubeConfigOptions::default()
    };
    match &arguments.kubeconfig {
        Some(path) => match Kubeconfig::read_from(path) {
            Ok(read) => Config::from_custom_kubeconfig(read, &options).await,
            Err(error) => Err(error),
        }
        .map_err(|error| anyhow!("failed to use '{}': {error}", path.display())),
        None if arguments.context.is_some() => Config::from_kubeconfig(&options)
            .await
            .map_err(|error| anyhow!("failed to use the kubeconfig: {error}")),
        None => Config::infer()
            .await
            .map_err(|error| anyhow!("failed to find a cluster: {error}")),
    }
}

/// What a person can do about it.
fn explain(error: &kube::Error, server: &str, name: Option<&str>) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => match (status.code, name) {
            (404, Some(name)) if is_about(status, name) => anyhow!("there is no RegistryMirror '{name}'"),
            (404, _) => anyhow!(
                "the cluster does not know RegistryMirrors: install the chart, or `catamaran crd | kubectl apply -f -`"
            ),
            (code, _) => anyhow!("failed to read the mirrors from {server}: {} ({code})", status.message),
        },
        kube::Error::SerdeError(error) => anyhow!("failed to understand the mirrors on {server}: {error}"),
        error => anyhow!("failed to reach the API server at {server}: {}", root_cause(error)),
    }
}

/// A definition that is not installed is a 404 without details, a missing object's names it.
fn is_about(status: &Status, name: &str) -> bool {
    status.details.as_ref().is_some_and(|details| details.name == name)
}

/// The innermost source; every layer above says the same in more words.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn rows(mirrors: &[RegistryMirror]) -> String {
    let mut table = table::plain(&["NAME", "PRIMARY", "FALLBACK", "ACTIVE", "IN-SYNC", "READY", "MESSAGE"]);
    for mirror in mirrors {
        let status = mirror.status.clone().unwrap_or_default();
        let condition = |kind: &str| find_condition(&status.conditions, kind);
        let truth =
            |kind: &str| condition(kind).map_or_else(|| "Unknown".to_owned(), |found| table::cell(&found.status));
        let message = condition(conditions::READY).map_or("not observed yet", |found| found.message.as_str());
        table.add_row([
            mirror.name_any(),
            place(&mirror.spec.primary),
            place(&mirror.spec.fallback),
            status.active.map_or_else(|| "-".to_owned(), |side| side.to_string()),
            truth(conditions::IN_SYNC),
            truth(conditions::READY),
            table::cell(message),
        ]);
    }
    table::trimmed(&table)
}

/// As image references begin.
fn place(side: &RegistrySide) -> String {
    if side.prefix.is_empty() {
        side.registry.clone()
    } else {
        format!("{}/{}", side.registry, side.prefix)
    }
}
