//! Keeps a mirror's evidence in `ConfigMap`s, where every replica's webhook reads it.

use std::collections::BTreeMap;

use catamaran_api::annotations;
use catamaran_api::mirror::RegistryMirror;
use catamaran_core::policy::MirrorId;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{
    Api, DeleteParams, ListParams, ObjectMeta, PartialObjectMeta, Patch, PatchParams, PostParams, Preconditions,
};
use kube::{Resource as _, ResourceExt as _};

use crate::apply::error::{ApplyError, still_leading};
use crate::context::{CONTROLLER, Context};

/// The key of a shard in its ConfigMap.
pub const KEY: &str = "evidence";

/// Bytes per shard: well below etcd's limit for an object.
const SHARD_BYTES: usize = 500_000;

/// Writes the ledger's evidence if it has changed since it was last written by this process.
pub async fn store(context: &Context, mirror: &RegistryMirror) -> Result<(), ApplyError> {
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

/// Writes the shards that there are to be and removes all others, each guarded by the version that was listed before: of two
/// leaders by accident the later one wins, because its first write changes each shard (by its name, if by nothing else), and
/// because nobody writes who doesn't lead any more.
async fn write(context: &Context, mirror: &RegistryMirror, shards: &[Vec<u8>]) -> Result<(), ApplyError> {
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &context.namespace);
    let name = mirror.name_any();
    let of_mirror = ListParams::default().labels(&format!("{}={name}", annotations::EVIDENCE));
    let mut there = versions(&api, &of_mirror).await?;
    for (index, data) in shards.iter().enumerate() {
        let shard_name = shard_name(&name, index);
        let shard = shard(context, mirror, &shard_name, data);
        still_leading(context)?;
        if let Some(version) = there.remove(&shard_name) {
            replace(&api, shard, version).await?;
        } else {
            create(&api, shard).await?;
        }
    }
    for (stale, version) in there {
        still_leading(context)?;
        let only_this = Preconditions {
            resource_version: Some(version),
            uid: None,
        };
        let params = DeleteParams {
            preconditions: Some(only_this),
            ..DeleteParams::default()
        };
        api.delete(&stale, &params).await.map_err(failed)?;
    }
    Ok(())
}

fn failed(error: kube::Error) -> ApplyError {
    ApplyError::Evidence(Box::new(error))
}

fn shard(context: &Context, mirror: &RegistryMirror, name: &str, data: &[u8]) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([(annotations::EVIDENCE.to_owned(), mirror.name_any())])),
            annotations: Some(BTreeMap::from([(
                annotations::WRITTEN_BY.to_owned(),
                context.identity.clone(),
            )])),
            owner_references: mirror.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        binary_data: Some(BTreeMap::from([(KEY.to_owned(), ByteString(data.to_vec()))])),
        ..ConfigMap::default()
    }
}

/// Name and version of what there is.
async fn versions(api: &Api<ConfigMap>, which: &ListParams) -> Result<BTreeMap<String, String>, ApplyError> {
    let found = api.list_metadata(which).await.map_err(failed)?.items;
    let version = |found: &PartialObjectMeta<ConfigMap>| found.resource_version().unwrap_or_default();
    Ok(found.iter().map(|found| (found.name_any(), version(found))).collect())
}

async fn replace(api: &Api<ConfigMap>, mut shard: ConfigMap, version: String) -> Result<(), ApplyError> {
    shard.metadata.resource_version = Some(version);
    let params = PatchParams::apply(CONTROLLER).force();
    let applied = api.patch(&shard.name_any(), &params, &Patch::Apply(&shard)).await;
    applied.map(drop).map_err(failed)
}

async fn create(api: &Api<ConfigMap>, shard: ConfigMap) -> Result<(), ApplyError> {
    let params = PostParams {
        field_manager: Some(CONTROLLER.to_owned()),
        ..PostParams::default()
    };
    match api.create(&params, &shard).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            // Another leader made it meanwhile, and that is a conflict; or somebody took its label away, and that is mended.
            let name = shard.name_any();
            let unlabelled = format!("!{}", annotations::EVIDENCE);
            let this = ListParams::default()
                .fields(&format!("metadata.name={name}"))
                .labels(&unlabelled);
            match versions(api, &this).await?.remove(&name) {
                Some(version) => replace(api, shard, version).await,
                None => Err(failed(kube::Error::Api(status))),
            }
        }
        created => created.map(drop).map_err(failed),
    }
}

#[cfg(test)]
mod tests;
