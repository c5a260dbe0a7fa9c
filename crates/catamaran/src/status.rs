//! `catamaran status`: the mirrors of a cluster, in one line each.

use catamaran_api::conditions::{self, find_condition};
use catamaran_api::mirror::{RegistryMirror, RegistrySide};
use kube::ResourceExt as _;
use serde_json::json;

use crate::cli::{Output, StatusArguments};
use crate::cluster::{self, Cluster};
use crate::{output, table};

/// Prints the mirrors, or the one that was named.
pub fn run(arguments: &StatusArguments) -> anyhow::Result<()> {
    let mirrors = cluster::block_on(fetch(arguments))?;
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
    let cluster = Cluster::find(&arguments.cluster).await?;
    match &arguments.name {
        Some(name) => Ok(vec![cluster.mirror(name).await?]),
        None => cluster.mirrors().await,
    }
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
