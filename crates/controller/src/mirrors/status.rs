//! Writes a mirror's status, and the Events that follow from it.

use std::sync::Arc;
use std::time::Duration;

use catamaran_api::conditions::{self, Statement, Truth, reason};
use catamaran_api::mirror::RegistryMirror;
use catamaran_core::mirror::failover::Flip;
use catamaran_core::mirror::{Announcement, View};
use catamaran_core::policy::MirrorId;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::core::error_boundary::InvalidObject;
use kube::{Resource as _, ResourceExt as _};

use super::report::{self, Report};
use crate::context::Context;
use crate::events::{self, CONTROLLER};
use crate::publish::Mirror;
use crate::writes::Turn;

/// How long a write may take before it counts as refused.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a write of the status ended.
#[derive(Debug)]
pub(super) enum Written {
    /// The status says what it should; the object as it is now.
    Done(Arc<RegistryMirror>),
    /// It was changed meanwhile; the object as it is now, if it could be read.
    Conflict(Option<Arc<RegistryMirror>>),
    /// An object that can't be decoded says so now.
    Reported,
    /// The API server refused it or could not be asked.
    Refused,
}

/// What the status is to say by `view`, if that is anything new.
pub(super) fn news(context: &Context, mirror: &RegistryMirror, view: &View) -> Option<Report> {
    Some(report::report(mirror, view, context.clock.now())).filter(|report| report.changed)
}

/// Writes the status, which takes its turn among those of all mirrors. `again`: the last write was refused, which the log says
/// already.
pub(super) async fn write(
    context: &Context,
    mirror: Arc<RegistryMirror>,
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
    let name = mirror.name_any();
    match written {
        Ok(Ok(object)) => {
            Box::pin(announced(context, &object, &report)).await;
            Written::Done(Arc::new(object))
        }
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => {
            context.metrics.reconcile_failed("conflict");
            tracing::debug!(mirror = name, "the mirror has changed meanwhile");
            Written::Conflict(read(context, &name).await.ok().flatten())
        }
        Ok(Err(error)) => {
            complain(context, &name, &error.to_string(), again);
            Written::Refused
        }
        Err(_) => {
            let error = format!("no answer within {} s", PATIENCE.as_secs());
            complain(context, &name, &error, again);
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
pub(super) async fn read(context: &Context, name: &str) -> Result<Option<Arc<RegistryMirror>>, Unread> {
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

fn known(name: &str, mirror: Mirror) -> Result<Arc<RegistryMirror>, Unread> {
    match mirror.0 {
        Ok(mirror) => Ok(Arc::new(mirror)),
        Err(error) => {
            tracing::warn!(mirror = name, %error, "failed to read the mirror");
            Err(Unread)
        }
    }
}

/// With the resourceVersion that was decided on: of two leaders by accident only one gets through.
async fn replace(context: &Context, mirror: &RegistryMirror, report: &Report) -> Result<RegistryMirror, kube::Error> {
    let api: Api<Mirror> = Api::all(context.client.clone());
    let desired = RegistryMirror {
        status: Some(report.status.clone()),
        ..mirror.clone()
    };
    let params = PostParams {
        field_manager: Some(CONTROLLER.to_owned()),
        ..PostParams::default()
    };
    let body = serde_json::to_vec(&desired).map_err(kube::Error::SerdeError)?;
    let request = kube::core::Request::new(api.resource_url());
    let request = request
        .replace_subresource("status", &mirror.name_any(), &params, body)
        .map_err(kube::Error::BuildRequest)?;
    let written = context.client.request::<Mirror>(request).await?.0;
    written.map_err(|invalid| kube::Error::SerdeError(serde::de::Error::custom(invalid)))
}

/// What follows a status that was written: metrics and Events. A lost Event is not worth repeating a write for.
async fn announced(context: &Context, mirror: &RegistryMirror, report: &Report) {
    let name = mirror.name_any();
    if let Some(flipped) = &report.flip {
        count_flip(context, &name, &flipped.flip);
    }
    context.metrics.reported(&name, &report.status);
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
pub(super) async fn publish_event(context: &Context, mirror: &RegistryMirror, announcement: &report::Announcement) {
    let event = announcement.event.event(&announcement.note);
    let _turn = context.writes.other().await;
    if let Err(error) = Box::pin(context.recorder.publish(&event, &mirror.object_ref(&()))).await {
        let (mirror, reason) = (mirror.name_any(), announcement.event.reason);
        tracing::warn!(mirror, reason, %error, "failed to publish an event");
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
    let regarding = ObjectReference {
        api_version: Some(RegistryMirror::api_version(&()).into_owned()),
        kind: Some(RegistryMirror::kind(&()).into_owned()),
        name: Some(mirror.name.to_string()),
        uid: Some(mirror.uid.to_string()),
        ..ObjectReference::default()
    };
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
