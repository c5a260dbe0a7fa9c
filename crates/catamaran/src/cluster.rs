//! The cluster that a person's kubeconfig leads to.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use catamaran_api::mirror::RegistryMirror;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Status;
use kube::{Client, Config};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cli::ClusterArguments;
use crate::near;

/// Until the API server has taken a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Until the API server has answered.
const ANSWER: Duration = Duration::from_secs(30);
/// The name under which commands write.
const FIELD_MANAGER: &str = "catamaran-cli";
/// The most names that are looked at for suggestions.
const MOST_NAMES: u32 = 500;

/// A cluster, and with what words its errors name it.
pub struct Cluster {
    /// Access to it.
    pub client: Client,
    /// Its API server's address.
    pub server: String,
    /// The namespace that the kubeconfig's context names; `default` where it names none.
    pub namespace: String,
}

impl Cluster {
    /// The cluster that is meant; nothing is asked of it yet.
    pub async fn find(arguments: &ClusterArguments) -> anyhow::Result<Cluster> {
        let mut config = config(arguments).await?;
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(ANSWER);
        let server = config.cluster_url.to_string();
        let namespace = config.default_namespace.clone();
        let client =
            Client::try_from(config).map_err(|error| anyhow!("failed to set up the client for {server}: {error}"))?;
        Ok(Cluster {
            client,
            server,
            namespace,
        })
    }

    /// One mirror.
    pub async fn mirror(&self, name: &str) -> anyhow::Result<RegistryMirror> {
        if let Some(mirror) = self.mirror_opt(name).await? {
            return Ok(mirror);
        }
        let api: Api<RegistryMirror> = Api::all(self.client.clone());
        let names = names(&api).await;
        let suggestion = near::suggestion(name, names.iter().map(String::as_str));
        Err(anyhow!("there is no RegistryMirror '{name}'{suggestion}"))
    }

    /// One mirror, if there is one of this name. Who may not get it may list it, as the operator itself.
    async fn mirror_opt(&self, name: &str) -> anyhow::Result<Option<RegistryMirror>> {
        let api: Api<RegistryMirror> = Api::all(self.client.clone());
        let refused = match api.get(name).await {
            Ok(mirror) => return Ok(Some(mirror)),
            Err(error) => error,
        };
        match &refused {
            kube::Error::Api(status) if status.code == 404 && is_about(status, name) => return Ok(None),
            kube::Error::Api(status) if status.code == 403 => {
                let named = ListParams::default().fields(&format!("metadata.name={name}"));
                if let Ok(listed) = api.list(&named).await {
                    return Ok(listed.items.into_iter().next());
                }
            }
            _ => {}
        }
        Err(explain(&refused, &self.server))
    }

    /// All mirrors.
    pub async fn mirrors(&self) -> anyhow::Result<Vec<RegistryMirror>> {
        let api: Api<RegistryMirror> = Api::all(self.client.clone());
        let listed = api.list(&ListParams::default()).await;
        listed
            .map(|list| list.items)
            .map_err(|error| explain(&error, &self.server))
    }

    /// Merges this into a mirror; the mirror then.
    ///
    /// # Errors
    /// Why it could not be done, for people.
    pub async fn patch_mirror(&self, name: &str, patch: &Value, dry_run: bool) -> Result<RegistryMirror, String> {
        let api: Api<RegistryMirror> = Api::all(self.client.clone());
        let params = PatchParams {
            dry_run,
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patched = api.patch(name, &params, &Patch::Merge(patch)).await;
        patched.map_err(|error| reason(&error, &self.server))
    }
}

/// Runs what asks a cluster to its end.
pub fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    // Fails only when there is a provider already, which would be this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("failed to start the runtime")?;
    let done = runtime.block_on(work);
    // A name that is still being resolved can't be interrupted, and nobody waits for it any more.
    runtime.shutdown_background();
    done
}

/// The messages of kube's errors end with their sources already.
async fn config(arguments: &ClusterArguments) -> anyhow::Result<Config> {
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

/// In what words a request that failed is reported: what was asked for, and the cause. A refusal names the right that is missing.
pub fn reason(error: &kube::Error, server: &str) -> String {
    match error {
        kube::Error::Api(status) if status.code == 401 => {
            format!(
                "the API server at {server} does not accept the credentials: {}",
                status.message
            )
        }
        kube::Error::Api(status) => status.message.clone(),
        kube::Error::SerdeError(error) => format!("failed to understand the answer of {server}: {error}"),
        error => format!("failed to reach the API server at {server}: {}", root_cause(error)),
    }
}

/// What a person can do about mirrors that can't be read.
pub fn explain(error: &kube::Error, server: &str) -> anyhow::Error {
    match error {
        kube::Error::Api(status) if status.code == 404 => anyhow!(
            "the cluster does not know RegistryMirrors: install the chart, or `catamaran crd | kubectl apply -f -`"
        ),
        kube::Error::Api(status) => {
            let (words, code) = (&status.message, status.code);
            anyhow!("failed to read the mirrors from {server}: {words} ({code})")
        }
        kube::Error::SerdeError(error) => anyhow!("failed to understand the mirrors on {server}: {error}"),
        error => anyhow!("failed to reach the API server at {server}: {}", root_cause(error)),
    }
}

/// The names of what there is, as far as a first page has them; none where they may not be listed.
pub async fn names<K>(api: &Api<K>) -> Vec<String>
where
    K: kube::Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let params = ListParams::default().limit(MOST_NAMES);
    let listed = api.list_metadata(&params).await;
    let items = listed.map(|list| list.items).unwrap_or_default();
    items.into_iter().filter_map(|item| item.metadata.name).collect()
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
