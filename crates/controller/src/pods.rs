//! Watches the pods that wait for an image, and has the rescue look at them. Only the leader acts.
//!
//! Two things are watched: pods in phase Pending, and the kubelet's Events about images, which also tell of a container
//! that waits in a pod whose phase is Running. Both are small; there is no cache of all pods.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use catamaran_core::reference::Reference;
use futures::stream::{self, StreamExt as _};
use k8s_openapi::api::core::v1::{Event as CoreEvent, Pod};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt as _};
use tokio_util::sync::CancellationToken;

use crate::contact::WATCH_SECONDS;
use crate::context::Context;
use crate::memory::RepositoryTag;
use crate::rescue::{self, Rescuer};

/// Running pods with a container that waits for an image, at most; more are found again by the next Event.
const MAX_SUSPECTS: usize = 10_000;

/// How often waiting pods are looked at without any news: what was refused or lost a moment ago is tried again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How often the counts of rescued pods go into status.
const REPORT: Duration = Duration::from_secs(1);

enum News {
    Pending(Box<Event<Pod>>),
    Complaint(Box<Event<CoreEvent>>),
    Turn,
}

/// Watches and rescues until `shutdown`, whenever this replica leads.
pub async fn run(context: Arc<Context>, shutdown: CancellationToken) {
    let mut leadership = context.leadership.clone();
    let work = async {
        loop {
            catamaran_lease::gained(&mut leadership).await;
            let mut until = leadership.clone();
            tokio::select! {
                () = lead(&context) => {}
                () = catamaran_lease::lost(&mut until) => {}
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = shutdown.cancelled() => {}
    }
}

async fn lead(context: &Arc<Context>) {
    let (rescuer, publisher) = Rescuer::new(context);
    tokio::select! {
        () = look(context, &rescuer) => {}
        () = publisher.publish(&context.recorder) => {}
    }
}

async fn look(context: &Arc<Context>, rescuer: &Rescuer<'_>) {
    let mut news = std::pin::pin!(news(context));
    let mut waiting = Waiting::default();
    let mut reported = Instant::now();
    while let Some(item) = news.next().await {
        match item {
            News::Pending(event) => {
                for pod in waiting.pending(*event) {
                    verify_unseen(context, &pod);
                    rescuer.rescue(&pod).await;
                }
            }
            News::Complaint(event) => {
                if let Some(pod) = waiting.complaint(context, *event).await {
                    rescuer.rescue(&pod).await;
                }
            }
            News::Turn => {
                waiting.refresh_suspects(context).await;
                rescuer.rescue_all(waiting.all()).await;
            }
        }
        // A status for many rescued pods, not one for each.
        if reported.elapsed() >= REPORT {
            rescuer.report();
            reported = Instant::now();
        }
    }
}

/// Everything that can change what is to be done for a waiting pod, in one stream.
fn news(context: &Arc<Context>) -> impl futures::Stream<Item = News> + use<> {
    let config = || watcher::Config::default().timeout(WATCH_SECONDS);
    let pods = Api::<Pod>::all(context.client.clone());
    let pending = kube::runtime::watcher(pods, config().fields("status.phase=Pending"));
    let complaints = ["Failed", "BackOff"].map(|reason| {
        let fields = format!("involvedObject.kind=Pod,reason={reason}");
        let events = Api::<CoreEvent>::all(context.client.clone());
        let watch = kube::runtime::watcher(events, config().fields(&fields)).default_backoff();
        watch
            .filter_map(async |event| Some(News::Complaint(Box::new(event.ok()?))))
            .boxed()
    });
    let [failed, backed_off] = complaints;
    let pending = pending
        .default_backoff()
        .filter_map(async |event| Some(News::Pending(Box::new(event.ok()?))))
        .boxed();
    let table = tokio_stream::wrappers::WatchStream::from_changes(context.table.clone())
        .map(|_| News::Turn)
        .boxed();
    let turns = tokio_stream::wrappers::WatchStream::from_changes(context.turns.subscribe())
        .map(|_| News::Turn)
        .boxed();
    let again = stream::unfold((), async |()| Some((tokio::time::sleep(LOOK_AGAIN).await, ())))
        .map(|()| News::Turn)
        .boxed();
    stream::select_all([pending, failed, backed_off, table, turns, again])
}

/// Has tags verified at once that a new pod uses and no pass has seen.
fn verify_unseen(context: &Context, pod: &Pod) {
    let table = context.table.borrow().clone();
    for (_, image) in crate::in_use::images(pod) {
        let Ok(reference) = Reference::parse(&image) else {
            continue;
        };
        let Some(tag) = reference.effective_tag() else { continue };
        for route in table.routes() {
            let Some(location) = route.policy.locate(&reference) else {
                continue;
            };
            if let Some(memory) = context.memories.get(&route.policy.id)
                && memory.state().ledger.verdict(&location.repository, tag).is_none()
            {
                memory.want(RepositoryTag {
                    repository: location.repository.to_string(),
                    tag: tag.to_owned(),
                });
            }
        }
    }
}

/// The pods that wait.
#[derive(Default)]
struct Waiting {
    pending: HashMap<String, Arc<Pod>>,
    listing: Option<HashMap<String, Arc<Pod>>>,
    /// Running pods that were complained about, by namespace and name.
    suspects: BTreeMap<(String, String), Arc<Pod>>,
}

impl Waiting {
    /// Takes one event; the pods to look at.
    fn pending(&mut self, event: Event<Pod>) -> Vec<Arc<Pod>> {
        match event {
            Event::Init => {
                self.listing = Some(HashMap::new());
                Vec::new()
            }
            Event::InitApply(pod) => {
                let pod = Arc::new(pod);
                if let Some(listing) = &mut self.listing {
                    listing.insert(pod.uid().unwrap_or_default(), pod);
                }
                Vec::new()
            }
            Event::InitDone => {
                self.pending = self.listing.take().unwrap_or_default();
                self.pending.values().cloned().collect()
            }
            Event::Apply(pod) => {
                let pod = Arc::new(pod);
                self.pending.insert(pod.uid().unwrap_or_default(), Arc::clone(&pod));
                vec![pod]
            }
            Event::Delete(pod) => {
                self.pending.remove(&pod.uid().unwrap_or_default());
                Vec::new()
            }
        }
    }

    /// Takes one Event of the kubelet; the pod to look at, if it is not a pending one, which is watched anyway.
    async fn complaint(&mut self, context: &Context, event: Event<CoreEvent>) -> Option<Arc<Pod>> {
        let (Event::Apply(event) | Event::InitApply(event)) = event else {
            return None;
        };
        let about = event.involved_object;
        if !event
            .message
            .as_deref()
            .is_some_and(|message| message.contains("image"))
        {
            return None;
        }
        let (namespace, name) = (about.namespace?, about.name?);
        if about.uid.is_some_and(|uid| self.pending.contains_key(&uid)) || self.suspects.len() >= MAX_SUSPECTS {
            return None;
        }
        let pod = get(context, &namespace, &name)
            .await
            .filter(rescue::waits_for_an_image)?;
        let pod = Arc::new(pod);
        self.suspects.insert((namespace, name), Arc::clone(&pod));
        Some(pod)
    }

    /// Reads the suspects again: some have recovered meanwhile, or are gone.
    async fn refresh_suspects(&mut self, context: &Context) {
        let names: Vec<(String, String)> = self.suspects.keys().cloned().collect();
        let read = stream::iter(names).map(|key| async move {
            let pod = get(context, &key.0, &key.1).await.filter(rescue::waits_for_an_image);
            (key, pod)
        });
        let read: Vec<_> = read.buffer_unordered(8).collect().await;
        for (key, pod) in read {
            match pod {
                Some(pod) => self.suspects.insert(key, Arc::new(pod)),
                None => self.suspects.remove(&key),
            };
        }
    }

    fn all(&self) -> Vec<Arc<Pod>> {
        self.pending.values().chain(self.suspects.values()).cloned().collect()
    }
}

async fn get(context: &Context, namespace: &str, name: &str) -> Option<Pod> {
    match Api::<Pod>::namespaced(context.client.clone(), namespace)
        .get_opt(name)
        .await
    {
        Ok(pod) => pod,
        Err(error) => {
            tracing::debug!(namespace, name, %error, "failed to read a waiting pod");
            None
        }
    }
}
