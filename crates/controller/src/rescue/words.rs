//! What pods are told of their rescue: Events, which wait until there is time for them.
//!
//! To the API server an Event is as much work as the patch that it tells of, and no pod starts by it. So they are published
//! one after the other, beside the patches of the pods that still wait.

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::Resource as _;
use kube::runtime::events::{Event, Recorder};
use tokio::sync::mpsc;

use crate::events::Kind;

/// Events that may wait at a time; one beyond is lost, and the pod's annotation and the log still say it.
const MAX_WAITING: usize = 10_000;

/// Takes Events for pods.
pub struct Words(mpsc::Sender<(ObjectReference, Event)>);

/// Publishes what [`Words`] takes.
pub struct Publisher(mpsc::Receiver<(ObjectReference, Event)>);

/// A place for words, and what publishes them.
pub fn channel() -> (Words, Publisher) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    (Words(sender), Publisher(receiver))
}

impl Words {
    /// Has this said of a pod as soon as there is time.
    pub fn say(&self, pod: &Pod, kind: &Kind, note: &str) {
        if let Err(error) = self.0.try_send((pod.object_ref(&()), kind.event(note))) {
            tracing::debug!(name = pod.metadata.name, reason = kind.reason, %error, "an event is lost");
        }
    }
}

impl Publisher {
    /// Publishes what comes, in its order, until nobody can say anything more.
    pub async fn publish(mut self, recorder: &Recorder) {
        while let Some((pod, event)) = self.0.recv().await {
            if let Err(error) = recorder.publish(&event, &pod).await {
                tracing::debug!(name = pod.name, reason = event.reason, %error, "failed to publish an event");
            }
        }
    }
}
