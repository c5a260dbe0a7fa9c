//! The Events of pods, which wait until there is time for them.
//!
//! To the API server an Event is as much work as the patch that it reports, and no pod starts by it. So they are published
//! one after the other, beside the patches of the pods that still wait.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, Recorder};
use tokio::sync::mpsc;

use super::record::PodRecord;
use crate::events::Kind;

/// Events that may wait at a time; one beyond is lost, and the pod's annotation and the log still say it.
const MAX_WAITING: usize = 3_000;

/// Takes Events for pods.
#[derive(Debug)]
pub(crate) struct PodEvents(mpsc::Sender<(ObjectReference, Event)>);

/// Publishes what [`PodEvents`] takes.
#[derive(Debug)]
pub(crate) struct Publisher(mpsc::Receiver<(ObjectReference, Event)>);

/// Takes Events, and publishes them.
pub(crate) fn channel() -> (PodEvents, Publisher) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    (PodEvents(sender), Publisher(receiver))
}

impl PodEvents {
    /// Has an Event published as soon as there is time.
    pub(crate) fn add(&self, pod: &PodRecord, kind: &Kind, note: &str) {
        if let Err(error) = self.0.try_send((pod.object_reference(), kind.event(note))) {
            tracing::debug!(name = %pod.name, reason = kind.reason, %error, "an event is lost");
        }
    }
}

impl Publisher {
    /// Publishes Events in their order, until all senders are gone.
    pub(crate) async fn publish(mut self, recorder: &Recorder) {
        while let Some((pod, event)) = self.0.recv().await {
            if let Err(error) = recorder.publish(&event, &pod).await {
                tracing::debug!(name = pod.name, reason = event.reason, %error, "failed to publish an event");
            }
        }
    }
}
