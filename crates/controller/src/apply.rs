//! The only writes to a mirror: evidence, status, and Events once those have succeeded.

use std::sync::Arc;
use std::time::Duration;

use catamaran_api::conditions::{self, Statement, Truth, reason};
use catamaran_api::mirror::RegistryMirror;
use catamaran_core::policy::MirrorId;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::error_boundary::InvalidObject;
use kube::runtime::controller::Action;
use kube::{Resource as _, ResourceExt as _};

use crate::context::{CONTROLLER, Context};
use crate::evidence_store;
use crate::report::{Announcement, Report};

pub(crate) mod error;

pub use error::ApplyError;
use error::still_leading;

/// Writes what the report says, where it differs from what is there.
pub async fn apply(context: &Arc<Context>, mirror: &RegistryMirror, report: &Report) -> Result<(), ApplyError> {
    let written = write(context, mirror, report).await;
    if written.is_err() {
        if let Some(memory) = id(mirror).and_then(|id| context.memories.get(&id)) {
            memory.give_back_rescued(report.rescued);
        }
        return written;
    }
    if let Some(flip) = &report.flip {
        context.metrics.flipped(&mirror.name_any(), flip);
        tracing::info!(mirror = mirror.name_any(), from = %flip.from, to = %flip.to, reason = flip.reason.as_str(), "flipped");
    }
    context.metrics.reported(&mirror.name_any(), &report.status);
    announce(context, mirror, &report.announcements).await;
    Ok(())
}

async fn write(context: &Context, mirror: &RegistryMirror, report: &Report) -> Result<(), ApplyError> {
    evidence_store::store(context, mirror).await?;
    if !report.changed {
        return Ok(());
    }
    still_leading(context)?;
    let api: Api<RegistryMirror> = Api::all(context.client.clone());
    // With the resourceVersion that was decided on: of two leaders by accident only one gets through.
    let desired = RegistryMirror {
        status: Some(report.status.clone()),
        ..mirror.clone()
    };
    let params = PostParams {
        field_manager: Some(CONTROLLER.to_owned()),
        ..PostParams::default()
    };
    let replaced = api.replace_status(&mirror.name_any(), &params, &desired).await;
    replaced.map(drop).map_err(|error| ApplyError::Status(Box::new(error)))
}

/// Publishes Events. A lost Event is not worth repeating a write for.
async fn announce(context: &Context, mirror: &RegistryMirror, announcements: &[Announcement]) {
    let regarding = mirror.object_ref(&());
    for announcement in announcements {
        let event = announcement.event.event(&announcement.note);
        if let Err(error) = context.recorder.publish(&event, &regarding).await {
            tracing::warn!(mirror = mirror.name_any(), reason = announcement.event.reason, %error, "failed to publish an event");
        }
    }
}

/// Tells the author of a mirror that it can't be read; the others go on.
pub async fn refuse(context: &Context, invalid: &InvalidObject) -> Result<Action, ApplyError> {
    let name = invalid.metadata.name.clone().unwrap_or_default();
    context.crews.stop(invalid.metadata.uid.as_deref().unwrap_or_default());
    if !context.leads() {
        return Ok(Action::await_change());
    }
    let generation = invalid.metadata.generation.unwrap_or_default();
    let message = format!("the object can't be read: {}; correct the spec", invalid.error);
    let statement = |kind, truth| Statement::new(kind, truth, reason::INVALID_SPEC, message.clone());
    let mut told: Vec<Condition> = Vec::new();
    let now = context.clock.now();
    conditions::set_condition(&mut told, statement(conditions::READY, Truth::False), generation, now);
    conditions::set_condition(&mut told, statement(conditions::STALLED, Truth::True), generation, now);
    // The transition is dated by the object, so that saying it again changes nothing.
    let since = invalid.metadata.creation_timestamp.clone().unwrap_or(Time(now));
    for condition in &mut told {
        condition.last_transition_time = since.clone();
    }
    let version = &invalid.metadata.resource_version;
    let patch = serde_json::json!({
        "metadata": {"resourceVersion": version},
        "status": {"observedGeneration": generation, "conditions": told},
    });
    let api: Api<RegistryMirror> = Api::all(context.client.clone());
    // A body that can't be decoded comes back from this patch too, so its answer is read as plain JSON.
    let request = kube::core::Request::new(api.resource_url());
    let request = request
        .patch_subresource("status", &name, &PatchParams::default(), &Patch::Merge(patch))
        .map_err(|error| ApplyError::Status(Box::new(kube::Error::BuildRequest(error))))?;
    let answer = context.client.request::<serde_json::Value>(request).await;
    answer.map_err(|error| ApplyError::Status(Box::new(error)))?;
    Ok(Action::requeue(Duration::from_mins(10)))
}

fn id(mirror: &RegistryMirror) -> Option<MirrorId> {
    let name = mirror.metadata.name.as_deref()?;
    let uid = mirror.metadata.uid.as_deref()?;
    Some(MirrorId {
        name: name.into(),
        uid: uid.into(),
    })
}
