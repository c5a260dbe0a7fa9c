//! Keeps a mirror's evidence in `ConfigMap`s, where every replica's webhook reads it.

use std::collections::BTreeMap;

use catamaran_api::annotations;
use catamaran_api::mirror::RegistryMirror;
use catamaran_core::policy::MirrorId;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams};
use kube::{Resource as _, ResourceExt as _};

use crate::context::{CONTROLLER, Context};

/// The key of a shard in its ConfigMap.
pub const KEY: &str = "evidence";

/// Bytes per shard: well below etcd's limit for an object.
const SHARD_BYTES: usize = 500_000;

/// Writes the ledger's evidence if it has changed since it was last written by this process.
pub async fn store(context: &Context, mirror: &RegistryMirror) -> Result<(), kube::Error> {
    let (Some(name), Some(uid)) = (mirror.metadata.name.as_deref(), mirror.metadata.uid.as_deref()) else {
        return Ok(());
    };
    let id = MirrorId {
        name: name.into(),
        uid: uid.into(),
    };
    let Some(memory) = context.memories.get(&id) else {
        return Ok(());
    };
    let evidence = {
        let mut state = memory.state();
        // Before the first pass there is nothing to say, and what the last leader wrote still holds.
        if state.pass.is_none() || !state.ledger.take_changed() {
            return Ok(());
        }
        state.ledger.evidence()
    };
    let shards = evidence.encode(SHARD_BYTES);
    let written = write(context, mirror, &shards).await;
    if written.is_err() {
        memory.state().ledger.mark_changed();
    }
    written
}

/// The name of one shard.
fn shard_name(mirror: &str, index: usize) -> String {
    format!("catamaran-evidence-{mirror}-{index}")
}

async fn write(context: &Context, mirror: &RegistryMirror, shards: &[Vec<u8>]) -> Result<(), kube::Error> {
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &context.namespace);
    let name = mirror.name_any();
    for (index, shard) in shards.iter().enumerate() {
        let shard_name = shard_name(&name, index);
        let config_map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(shard_name.clone()),
                labels: Some(BTreeMap::from([(annotations::EVIDENCE.to_owned(), name.clone())])),
                owner_references: mirror.controller_owner_ref(&()).map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            binary_data: Some(BTreeMap::from([(KEY.to_owned(), ByteString(shard.clone()))])),
            ..ConfigMap::default()
        };
        api.patch(
            &shard_name,
            &PatchParams::apply(CONTROLLER).force(),
            &Patch::Apply(&config_map),
        )
        .await?;
    }
    remove_beyond(&api, &name, shards.len()).await
}

/// Removes shards of an earlier, larger evidence.
async fn remove_beyond(api: &Api<ConfigMap>, mirror: &str, shards: usize) -> Result<(), kube::Error> {
    let of_mirror = ListParams::default().labels(&format!("{}={mirror}", annotations::EVIDENCE));
    let wanted: Vec<String> = (0..shards).map(|index| shard_name(mirror, index)).collect();
    for stale in api.list_metadata(&of_mirror).await?.items {
        let name = stale.name_any();
        if !wanted.contains(&name) {
            api.delete(&name, &DeleteParams::default()).await?;
        }
    }
    Ok(())
}
