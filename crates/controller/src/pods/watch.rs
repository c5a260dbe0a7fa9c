//! Watches the pods that wait for an image, and has them rescued.
//!
//! Two things are watched: pods in phase Pending, and the kubelet's Events about images, which hint at containers that wait in
//! pods whose phase is Running. Both are few; there is no cache of all pods.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use catamaran_core::routing::RouteTable;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::follow::{Change, follow};
use super::pulls::PullReports;
use super::queue::Queue;
use super::reader::PodObject;
use super::record::PodRecord;
use super::rescue::Rescuer;
use super::scope::ScopedTable;
use super::waiting::Waiting;
use super::{PodsContext, hints};

/// News that may wait: the watches wait for what is not taken.
const MOST_NEWS: usize = 256;

/// Pods looked at at a time: enough that the pace is the limit, also with an API server that takes half a second.
const AT_A_TIME: usize = 32;

/// How often all waiting pods are looked at without any news: what failed a moment ago is tried again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How often what was done is reported.
const REPORT: Duration = Duration::from_secs(1);

/// The pods that are pending, in the API server's words.
const PENDING: &str = "status.phase=Pending";

/// Something that may change what is to be done for a waiting pod.
#[derive(Debug)]
pub(crate) enum News {
    /// A list of pending pods begins.
    Listing,
    /// A pending pod is there, or has changed.
    Pending(Box<PodRecord>),
    /// A pod is no longer pending, or belongs to no mirror.
    Gone(Box<str>),
    /// The list has ended.
    Listed,
    /// A pod runs and has a container that waits.
    Suspect(Box<PodRecord>),
}

/// Watches and rescues for as long as this replica leads.
pub(crate) async fn lead(context: &PodsContext) {
    context.reviews.restart();
    let waiting = Mutex::default();
    let (tables, table) = watch::channel(ScopedTable::new(&context.table.borrow()));
    let (sender, news) = mpsc::channel(MOST_NEWS);
    let (rescuer, publisher) = Rescuer::new(context, &waiting, table.clone());
    let watcher = Watcher {
        context,
        waiting: &waiting,
        rescuer: &rescuer,
        table: table.clone(),
        queue: Queue::default(),
        pulls: PullReports::default(),
    };
    tokio::select! {
        () = scope(context.table.clone(), tables) => {}
        () = pending(context, table.clone(), sender.clone()) => {}
        () = hints::run(context, &waiting, table, sender) => {}
        () = watcher.run(news) => {}
        () = rescuer.refresh() => {}
        () = publisher.publish(&context.recorder) => {}
    }
}

/// Passes on each table with the scope of its mirrors.
async fn scope(mut tables: watch::Receiver<Arc<RouteTable>>, scoped: watch::Sender<ScopedTable>) {
    loop {
        let table = tables.borrow_and_update().clone();
        scoped.send_modify(|scoped| *scoped = scoped.next(&table));
        if tables.changed().await.is_err() {
            // The process is ending; what is known stays true until then.
            std::future::pending::<()>().await;
        }
    }
}

/// How long the specs of mirrors are left to change before the pods are listed that they are about: many mirrors that are created one
/// after the other are one list.
const SETTLE: Duration = Duration::from_millis(500);

/// Follows the pending pods. A pod that concerns no mirror is let go at once, so another scope means another list.
async fn pending(context: &PodsContext, mut table: watch::Receiver<ScopedTable>, sender: mpsc::Sender<News>) {
    loop {
        let scope = Arc::clone(&table.borrow_and_update().scope);
        let take = |change: Change<PodObject>| {
            Some(match change {
                Change::Listing => News::Listing,
                Change::Listed => News::Listed,
                Change::Gone(pod) => News::Gone(pod.record.uid),
                Change::Seen(pod) => {
                    let uid = pod.record.uid.clone();
                    let kept = pod.record.keep(&scope);
                    kept.map_or_else(|| News::Gone(uid), |pod| News::Pending(Box::new(pod)))
                }
            })
        };
        let is_another = |table: &ScopedTable| table.scope.fingerprint() != scope.fingerprint();
        let another = async {
            let another = table.wait_for(is_another).await.is_ok();
            tokio::time::sleep(SETTLE).await;
            another
        };
        tokio::select! {
            () = follow(&context.client, context.restarts.clone(), PENDING, &sender, take) => return,
            another = another => if !another {
                return;
            }
        }
    }
}

struct Watcher<'w> {
    context: &'w PodsContext,
    waiting: &'w Mutex<Waiting>,
    rescuer: &'w Rescuer<'w>,
    table: watch::Receiver<ScopedTable>,
    queue: Queue,
    pulls: PullReports,
}

impl Watcher<'_> {
    /// Takes news and looks at pods, until there is nobody who sends any.
    async fn run(mut self, mut news: mpsc::Receiver<News>) {
        let mut again = interval(LOOK_AGAIN);
        let mut report = interval(REPORT);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = FuturesUnordered::new();
        loop {
            while looks.len() < AT_A_TIME
                && let Some(uid) = self.queue.pop()
            {
                let rescuer = self.rescuer;
                looks.push(async move { rescuer.rescue(&uid).await });
            }
            tokio::select! {
                item = news.recv() => match item {
                    Some(item) => self.take(item),
                    None => return,
                },
                Some(()) = looks.next(), if !looks.is_empty() => {}
                Ok(()) = self.table.changed() => self.queue_all(),
                _ = again.tick() => self.queue_all(),
                _ = report.tick() => self.report(),
            }
        }
    }

    fn take(&mut self, news: News) {
        if let News::Pending(pod) | News::Suspect(pod) = &news {
            let table = Arc::clone(&self.table.borrow().table);
            self.pulls.see(pod, &table);
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match news {
            News::Listing => waiting.begin_listing(),
            News::Listed => waiting.end_listing(),
            News::Gone(uid) => waiting.remove(&uid),
            News::Pending(pod) => {
                let is_asked_about = !pod.is_static && !self.table.borrow().table.excludes_namespace(&pod.namespace);
                if is_asked_about && waiting.is_new(&pod.uid) {
                    self.context.reviews.created();
                }
                queue(&mut self.queue, &pod);
                waiting.put_pending(*pod);
            }
            News::Suspect(pod) => {
                queue(&mut self.queue, &pod);
                waiting.put_suspect(*pod, Instant::now());
            }
        }
    }

    fn queue_all(&mut self) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for pod in waiting.all() {
            queue(&mut self.queue, pod);
        }
    }

    fn report(&mut self) {
        let table = Arc::clone(&self.table.borrow().table);
        let (kept, left_out) = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            self.pulls.look_again(&waiting, &table);
            (waiting.len(), waiting.take_left_out())
        };
        self.pulls.tell(&*self.context.reports, &table);
        self.context.metrics.waiting_pods(kept, left_out);
        let is_silent = self.context.reviews.silence().is_some();
        self.context.metrics.webhook_silent(is_silent);
        self.rescuer.report();
    }
}

/// Has a pod looked at when its owner's, and its namespace's, time comes.
fn queue(queue: &mut Queue, pod: &PodRecord) {
    queue.push(&pod.namespace, pod.controller_uid().unwrap_or(&pod.uid), &pod.uid);
}

#[cfg(test)]
mod tests;
