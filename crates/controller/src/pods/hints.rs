//! Pods that run and have a container that waits for an image again: no field of a pod tells them from others, so the
//! kubelet's Events are hints to read a pod.
//!
//! Anyone who may write Events in a namespace can write such a one. So nothing of an Event but the pod's name is used, a
//! namespace has a budget of reads, and what counts is the pod's own status.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::{FuturesUnordered, StreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Resource};
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::PodsContext;
use super::follow::{Change, follow};
use super::pace::NamespaceBudget;
use super::reader::PodObject;
use super::record::PodRecord;
use super::scope::ScopedTable;
use super::waiting::Waiting;
use super::watch::News;

/// Pods of a namespace that are read at once.
const BURST: u32 = 50;

/// And so many a second after that. A kubelet repeats its Events, so a hint that is dropped comes again.
const A_SECOND: u32 = 5;

/// Pods of all namespaces that are read at once.
const BURST_OF_ALL: u32 = 200;

/// And so many a second after that.
const A_SECOND_OF_ALL: u32 = 50;

/// Pods read at a time.
const AT_A_TIME: usize = 8;

/// Hints that may wait to be read.
const MOST_HINTS: usize = 1_000;

/// The reasons of the kubelet's Events about images.
const REASONS: [&str; 2] = ["Failed", "BackOff"];

/// An Event of the core API, as far as it is read.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "WireEvent")]
struct HintObject {
    metadata: ObjectMeta,
    /// The pod, if the Event seems to be about an image.
    pod: Option<Hint>,
}

/// A pod that may wait for an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Hint {
    namespace: Box<str>,
    name: Box<str>,
    uid: Option<Box<str>>,
}

/// Which hints are followed.
struct Limits<'c> {
    waiting: &'c Mutex<Waiting>,
    of_namespaces: NamespaceBudget,
    of_all: NamespaceBudget,
}

impl Limits<'_> {
    /// Whether the pod is to be read: it is not watched anyway, and there is a budget left.
    fn let_through(&mut self, hint: &Hint) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if hint.uid.as_ref().is_some_and(|uid| waiting.get(uid).is_some()) {
            return false;
        }
        let now = Instant::now();
        self.of_namespaces.spend(&hint.namespace, now) && self.of_all.spend("", now)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireEvent {
    metadata: ObjectMetaOfEvent,
    involved_object: Involved,
    message: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectMetaOfEvent {
    namespace: Option<Box<str>>,
    resource_version: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Involved {
    name: Option<Box<str>>,
    uid: Option<Box<str>>,
}

impl From<WireEvent> for HintObject {
    fn from(event: WireEvent) -> HintObject {
        // Containers that crash have Events of the same reasons, and far more of them.
        let is_about_image = event.message.is_some_and(|message| message.contains("image"));
        // The Event's own namespace: that is where its author has rights.
        let Involved { name, uid } = event.involved_object;
        let pod = match (event.metadata.namespace, name) {
            (Some(namespace), Some(name)) if is_about_image => Some(Hint { namespace, name, uid }),
            _ => None,
        };
        let metadata = ObjectMeta {
            resource_version: event.metadata.resource_version,
            ..ObjectMeta::default()
        };
        HintObject { metadata, pod }
    }
}

impl Resource for HintObject {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Event".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "events".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Reads pods that Events hint at, and sends those that wait for an image of a mirror and are not in `waiting`.
pub(crate) async fn run(
    context: &PodsContext,
    waiting: &Mutex<Waiting>,
    table: watch::Receiver<ScopedTable>,
    sender: mpsc::Sender<News>,
) {
    let (hints, receiver) = mpsc::channel(MOST_HINTS);
    let limits = Mutex::new(Limits {
        waiting,
        of_namespaces: NamespaceBudget::new(BURST, A_SECOND),
        of_all: NamespaceBudget::new(BURST_OF_ALL, A_SECOND_OF_ALL),
    });
    let take = |change: Change<HintObject>| {
        let Change::Seen(event) = change else { return None };
        let mut limits = limits.lock().unwrap_or_else(PoisonError::into_inner);
        event.pod.filter(|hint| limits.let_through(hint))
    };
    let fields = REASONS.map(|reason| format!("involvedObject.kind=Pod,reason={reason}"));
    let [failed, backed_off] = &fields;
    tokio::join!(
        follow(&context.client, context.restarts.clone(), failed, &hints, take),
        follow(&context.client, context.restarts.clone(), backed_off, &hints, take),
        read(context, &table, receiver, &sender),
    );
}

/// Reads the pods, several at a time.
async fn read(
    context: &PodsContext,
    table: &watch::Receiver<ScopedTable>,
    mut hints: mpsc::Receiver<Hint>,
    sender: &mpsc::Sender<News>,
) {
    let mut under_way = HashSet::new();
    let mut reads = FuturesUnordered::new();
    loop {
        tokio::select! {
            hint = hints.recv(), if reads.len() < AT_A_TIME => {
                let Some(hint) = hint else { return };
                if under_way.insert(hint.clone()) {
                    reads.push(async { (suspect(context, table, &hint).await, hint) });
                }
            }
            Some((pod, hint)) = reads.next(), if !reads.is_empty() => {
                under_way.remove(&hint);
                if let Some(pod) = pod && sender.send(News::Suspect(Box::new(pod))).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The pod, if it waits for an image of a mirror by its own status.
async fn suspect(context: &PodsContext, table: &watch::Receiver<ScopedTable>, hint: &Hint) -> Option<PodRecord> {
    let api = Api::<PodObject>::namespaced(context.client.clone(), &hint.namespace);
    let found = api.get_opt(&hint.name).await.inspect_err(|error| {
        let (namespace, name) = (&*hint.namespace, &*hint.name);
        tracing::debug!(namespace, name, %error, "failed to read a pod that may wait");
    });
    let scope = Arc::clone(&table.borrow().scope);
    let pod = found.ok().flatten()?.record.keep(&scope)?;
    pod.waits_for_image().then_some(pod)
}

#[cfg(test)]
mod tests;
