//! `catamaran status`: the mirrors of a cluster, in one line each.

use anyhow::Context as _;
use catamaran_api::conditions::{self, find_condition};
use catamaran_api::mirror::RegistryMirror;
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt as _};

use crate::cli::{Output, StatusArguments};
use crate::table;

/// Prints the mirrors, or the one that was named.
pub fn run(arguments: &StatusArguments) -> anyhow::Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let mirrors = runtime.context("failed to start the runtime")?.block_on(fetch(arguments))?;
    match arguments.output {
        Output::Table if mirrors.is_empty() => {
            eprintln!("no mirrors; apply a RegistryMirror to make one");
        }
        Output::Table => println!("{}", rows(&mirrors)),
        Output::Json => println!("{}", serde_json::to_string_pretty(&mirrors)?),
        Output::Yaml => print!("{}", serde_saphyr::to_string(&mirrors)?),
    }
    Ok(())
}

async fn fetch(arguments: &StatusArguments) -> anyhow::Result<Vec<RegistryMirror>> {
    let api: Api<RegistryMirror> = Api::all(client(arguments).await?);
    if let Some(name) = &arguments.name {
        let found = api.get_opt(name).await.map_err(explain)?;
        return found.map(|mirror| vec![mirror]).with_context(|| format!("there is no RegistryMirror '{name}'"));
    }
    Ok(api.list(&ListParams::default()).await.map_err(explain)?.items)
}

async fn client(arguments: &StatusArguments) -> anyhow::Result<Client> {
    let options = KubeConfigOptions { context: arguments.context.clone(), ..KubeConfigOptions::default() };
    let config = match &arguments.kubeconfig {
        Some(path) => {
            let read = Kubeconfig::read_from(path).with_context(|| format!("failed to read '{}'", path.display()))?;
            Config::from_custom_kubeconfig(read, &options).await.context("failed to use the kubeconfig")?
        }
        None if arguments.context.is_some() => {
            Config::from_kubeconfig(&options).await.context("failed to use the kubeconfig")?
        }
        None => Config::infer().await.context("failed to find a cluster: set KUBECONFIG or give --kubeconfig")?,
    };
    Client::try_from(config).context("failed to set up the client of the API server")
}

fn explain(error: kube::Error) -> anyhow::Error {
    match &error {
        kube::Error::Api(status) if status.code == 404 => {
            anyhow::anyhow!("the cluster knows no RegistryMirrors: install the chart, or apply the output of `catamaran crd`")
        }
        _ => anyhow::Error::new(error).context("failed to read the mirrors"),
    }
}

fn rows(mirrors: &[RegistryMirror]) -> String {
    let mut table = table::plain(&["NAME", "PRIMARY", "FALLBACK", "ACTIVE", "IN-SYNC", "READY", "MESSAGE"]);
    for mirror in mirrors {
        let status = mirror.status.clone().unwrap_or_default();
        let condition = |kind: &str| find_condition(&status.conditions, kind);
        let truth = |kind: &str| condition(kind).map_or_else(|| "Unknown".to_owned(), |found| found.status.clone());
        let place = |registry: &str, prefix: &str| {
            if prefix.is_empty() { registry.to_owned() } else { format!("{registry}/{prefix}") }
        };
        let (primary, fallback) = (&mirror.spec.primary, &mirror.spec.fallback);
        table.add_row([
            mirror.name_any(),
            place(&primary.registry, &primary.prefix),
            place(&fallback.registry, &fallback.prefix),
            status.active.map_or_else(|| "-".to_owned(), |side| side.to_string()),
            truth(conditions::IN_SYNC),
            truth(conditions::READY),
            condition(conditions::READY).map(|found| found.message.clone()).unwrap_or_default(),
        ]);
    }
    table::trimmed(&table)
}
