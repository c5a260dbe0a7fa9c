//! Writes a mirror's status, and the Events that follow from it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use catamaran_api::conditions::{self, Statement, Truth, reason};
use catamaran_api::mirror::{RegistryMirror, RegistryMirrorStatus};
use catamaran_core::mirror::failover::Flip;
use catamaran_core::mirror::{Announcement, View};
use catamaran_core::policy::MirrorId;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use kube::Resource as _;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::core::error_boundary::InvalidObject;
use serde::Serialize;

use super::report::{self, Report};
use crate::context::Context;
use crate::events::{self, CONTROLLER};
use crate::publish::{Mirror, MirrorObject};
use crate::writes::Turn;

/// How long a write may take before it counts as refused.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a write of the status ended.
#[derive(Debug)]
pub(super) enum Written {
    /// The status says what it should; the object as it is now.
    Done(Arc<MirrorObject>),
    /// It was changed meanwhile; the object as it is now, if it could be read.
    Conflict(Option<Arc<MirrorObject>>),
    /// An object that can't be decoded says so now.
    Reported,
    /// The API server refused it or could not be asked.
    Refused,
}

/// What the status is to say by `view`, if that is anything new.
pub(super) fn news(context: &Context, mirror: &MirrorObject, view: &View) -> serde_json::Result<Option<Report>> {
    let before = mirror.status()?.unwrap_or_default();
    Ok(Some(report::report(&before, view, context.clock.now())).filter(|report| report.changed))
}

/// Writes the status, which takes its turn among those of all mirrors. `again`: the last write was refused, which the log says
/// already.
pub(super) async fn write(
    context: &Context,
    mirror: Arc<MirrorObject>,
    report: Report,
    turn: Turn,
    again: bool,
) -> Written {
    if !context.leads() {
        return Written::Conflict(None);
    }
    // Boxed, as what follows is: a thousand that wait for their turn with an Event are to be small meanwhile.
    let request = Box::pin(replace(context, &mirror, &report));
    let written = tokio::time::timeout(PATIENCE, request).await;
    drop(turn);
    let name = &*mirror.id.name;
    match written {
        Ok(Ok(object)) => {
            Box::pin(announced(context, &object.id, &report)).await;
            Written::Done(object)
        }
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => {
            context.metrics.reconcile_failed("conflict");
            tracing::debug!(mirror = name, "the mirror has changed meanwhile");
            Written::Conflict(read(context, name).await.ok().flatten())
        }
        Ok(Err(error)) => {
            complain(context, name, &error.to_string(), again);
            Written::Refused
        }
        Err(_) => {
            let error = format!("no answer within {} s", PATIENCE.as_secs());
            complain(context, name, &error, again);
            Written::Refused
        }
    }
}

/// Every refusal counts; the log says the first of those that follow each other.
pub(super) fn complain(context: &Context, mirror: &str, error: &str, again: bool) {
    context.metrics.reconcile_failed("status");
    if again {
        tracing::debug!(mirror, error, "failed to write the status again");
    } else {
        tracing::warn!(mirror, error, "failed to write the status");
    }
}

/// The object could not be read; why, is in the log.
#[derive(Debug)]
pub(super) struct Unread;

/// The object as the API server has it now; none if it is gone. A list of one, because listing mirrors is a right that the
/// operator has anyway.
pub(super) async fn read(context: &Context, name: &str) -> Result<Option<Arc<MirrorObject>>, Unread> {
    let api: Api<Mirror> = Api::all(context.client.clone());
    let only = ListParams::default().fields(&format!("metadata.name={name}"));
    match tokio::time::timeout(PATIENCE, api.list(&only)).await {
        Ok(Ok(list)) => {
            let first = list.items.into_iter().next();
            first.map(|mirror| known(name, mirror)).transpose()
        }
        Ok(Err(error)) => {
            tracing::warn!(mirror = name, %error, "failed to read the mirror");
            Err(Unread)
        }
        Err(_) => {
            let seconds = PATIENCE.as_secs();
            tracing::warn!(mirror = name, seconds, "failed to read the mirror in time");
            Err(Unread)
        }
    }
}

fn known(name: &str, mirror: Mirror) -> Result<Arc<MirrorObject>, Unread> {
    kept(mirror).map_err(|error| {
        tracing::warn!(mirror = name, %error, "failed to read the mirror");
        Unread
    })
}

/// What is kept of a mirror that was read.
fn kept(mirror: Mirror) -> serde_json::Result<Arc<MirrorObject>> {
    let mirror = mirror.0.map_err(serde::de::Error::custom)?;
    MirrorObject::of(&mirror).map(Arc::new)
}

/// With the resourceVersion that was decided on: of two leaders by accident only one gets through.
async fn replace(context: &Context, mirror: &MirrorObject, report: &Report) -> Result<Arc<MirrorObject>, kube::Error> {
    let api: Api<Mirror> = Api::all(context.client.clone());
    let desired = Desired {
        api_version: RegistryMirror::api_version(&()),
        kind: RegistryMirror::kind(&()),
        metadata: ObjectMeta {
            name: Some(mirror.id.name.to_string()),
            uid: Some(mirror.id.uid.to_string()),
            resource_version: Some(mirror.version.to_string()),
            ..ObjectMeta::default()
        },
        status: &report.status,
    };
    let params = PostParams {
        field_manager: Some(CONTROLLER.to_owned()),
        ..PostParams::default()
    };
    let body = serde_json::to_vec(&desired).map_err(kube::Error::SerdeError)?;
    let request = kube::core::Request::new(api.resource_url());
    let request = request
        .replace_subresource("status", &mirror.id.name, &params, body)
        .map_err(kube::Error::BuildRequest)?;
    let written = context.client.request::<Mirror>(request).await?;
    kept(written).map_err(kube::Error::SerdeError)
}

/// What a status is replaced by: the API server takes nothing else from it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Desired<'d> {
    api_version: Cow<'d, str>,
    kind: Cow<'d, str>,
    metadata: ObjectMeta,
    status: &'d RegistryMirrorStatus,
}

/// What follows a status that was written: metrics and Events. A lost Event is not worth repeating a write for.
async fn announced(context: &Context, mirror: &MirrorId, report: &Report) {
    let name = &*mirror.name;
    if let Some(flipped) = &report.flip {
        count_flip(context, name, &flipped.flip);
    }
    context.metrics.reported(name, &report.status);
    let flip = report.flip.iter().map(|flipped| &flipped.announcement);
    for announcement in flip.chain(&report.announcements) {
        publish_event(context, mirror, announcement).await;
    }
}

/// What the log and the metrics say of a flip that is stored.
pub(super) fn count_flip(context: &Context, mirror: &str, flip: &Flip) {
    context.metrics.flipped(mirror, flip);
    tracing::info!(mirror, from = %flip.from, to = %flip.to, reason = flip.reason.as_str(), "flipped");
}

/// Publishes an Event that follows from what was stored.
pub(super) async fn publish_event(context: &Context, mirror: &MirrorId, announcement: &report::Announcement) {
    let event = announcement.event.event(&announcement.note);
    let _turn = context.writes.other().await;
    if let Err(error) = Box::pin(context.recorder.publish(&event, &events::regarding(mirror))).await {
        let reason = announcement.event.reason;
        tracing::warn!(%mirror, reason, %error, "failed to publish an event");
    }
}

/// Publishes an Event that does not follow from a change of status.
pub(super) async fn announce(context: &Context, mirror: &MirrorId, announcement: Announcement) {
    let (event, note) = match announcement {
        Announcement::TagsCopied(note) => (&events::TAGS_COPIED, note),
        Announcement::CopyFailed(note) => (&events::COPY_FAILED, note),
        Announcement::PullsFailAfterFlip(note) => (&events::PULLS_FAIL_AFTER_FLIP, note),
        Announcement::CopyPlanned(note) => (&events::COPY_PLANNED, note),
    };
    let regarding = events::regarding(mirror);
    let _turn = context.writes.other().await;
    if let Err(error) = context.recorder.publish(&event.event(&note), &regarding).await {
        tracing::warn!(%mirror, reason = event.reason, %error, "failed to publish an event");
    }
}

/// Reports to the author of a mirror that it can't be decoded; the others go on, and so does the last spec that made sense.
pub(super) async fn refuse(context: &Context, invalid: &InvalidObject, again: bool) -> bool {
    let name = invalid.metadata.name.clone().unwrap_or_default();
    if !context.leads() {
        return false;
    }
    let generation = invalid.metadata.generation.unwrap_or_default();
    let message = format!("the object can't be read: {}; correct the spec", invalid.error);
    let statement = |kind, truth| Statement::new(kind, truth, reason::INVALID_SPEC, message.clone());
    let mut reported: Vec<Condition> = Vec::new();
    let now = context.clock.now();
    conditions::set_condition(
        &mut reported,
        statement(conditions::READY, Truth::False),
        generation,
        now,
    );
    conditions::set_condition(
        &mut reported,
        statement(conditions::STALLED, Truth::True),
        generation,
        now,
    );
    // The transition is dated by the object, so that reporting it again changes nothing.
    let since = invalid.metadata.creation_timestamp.clone().unwrap_or(Time(now));
    for condition in &mut reported {
        condition.last_transition_time = since.clone();
    }
    let version = &invalid.metadata.resource_version;
    let patch = serde_json::json!({
        "metadata": {"resourceVersion": version},
        "status": {"observedGeneration": generation, "conditions": reported},
    });
    let turn = context.writes.other().await;
    let written = patched(context, &name, &patch).await;
    drop(turn);
    match written {
        Ok(()) => true,
        Err(error) => {
            complain(context, &name, &error.to_string(), again);
            false
        }
    }
}

/// A body that can't be decoded comes back from this patch as well, so its answer is read as plain JSON.
async fn patched(context: &Context, name: &str, patch: &serde_json::Value) -> Result<(), kube::Error> {
    let api: Api<RegistryMirror> = Api::all(context.client.clone());
    let request = kube::core::Request::new(api.resource_url());
    let request = request
        .patch_subresource("status", name, &PatchParams::default(), &Patch::Merge(patch))
        .map_err(kube::Error::BuildRequest)?;
    context.client.request::<serde_json::Value>(request).await.map(drop)
}

#[cfg(test)]
mod tests;
