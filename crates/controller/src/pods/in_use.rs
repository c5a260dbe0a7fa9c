//! Which images the cluster uses: one list of pods, and one of each kind of workload, for all mirrors together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use catamaran_core::mirror::in_use::{InUse, UsageCount, UsedImages, WorkloadsRead};
use catamaran_core::pod::Owner;
use catamaran_core::policy::MirrorId;
use catamaran_core::routing::RouteTable;
use kube::api::ListParams;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::follow::pause;
use super::pages::{ListError, Listing};
use super::reader::PodObject;
use super::record::PodRecord;
use super::scope::{Scope, ScopedTable};
use super::wire::{WireTemplate, WireWorkload};

/// Objects of a page. A page is streamed, so this bounds only the work of one request.
pub(super) const PAGE: u32 = 500;

/// How long askers are gathered before a list begins.
const GATHER: Duration = Duration::from_millis(200);

/// How often a list is begun before its failure is the answer.
const ATTEMPTS: u32 = 3;

/// Askers that may wait: one of each mirror, and some to spare.
const MOST_WAITING: usize = 1_024;

/// The pods that use images, in the API server's words.
pub(super) const NOT_OVER: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// A kind of workload whose templates are read.
#[derive(Clone, Copy)]
pub(super) struct Workloads {
    /// Its kind.
    pub(super) kind: &'static str,
    pub(super) path: &'static str,
    /// The owner of the pods that are made of the template.
    pub(super) owner: Owner<'static>,
}

const APPS: &str = "apps/v1";
const BATCH: &str = "batch/v1";

pub(super) const WORKLOADS: [Workloads; 5] = [
    workloads("Deployment", "/apis/apps/v1/deployments", APPS, "ReplicaSet"),
    workloads("StatefulSet", "/apis/apps/v1/statefulsets", APPS, "StatefulSet"),
    workloads("DaemonSet", "/apis/apps/v1/daemonsets", APPS, "DaemonSet"),
    workloads("Job", "/apis/batch/v1/jobs", BATCH, "Job"),
    workloads("CronJob", "/apis/batch/v1/cronjobs", BATCH, "Job"),
];

const fn workloads(
    kind: &'static str,
    path: &'static str,
    api_version: &'static str,
    owner: &'static str,
) -> Workloads {
    Workloads {
        kind,
        path,
        owner: Owner {
            api_version,
            kind: owner,
        },
    }
}

/// Why it is not known what a mirror has in use.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CensusError {
    /// Pods or workloads could not be listed.
    #[error("failed to read which images are in use: {0}")]
    List(String),
    /// The route table does not have the mirror, or not yet.
    #[error("failed to read which images are in use: the mirror has no route yet")]
    NotRouted,
    /// The process is ending.
    #[error("failed to read which images are in use: shutting down")]
    Ended,
}

/// Asks which images a mirror has in use.
#[derive(Clone, Debug)]
pub struct Census(mpsc::Sender<Asked>);

#[derive(Debug)]
struct Asked {
    mirror: MirrorId,
    not_before: Instant,
    answer: oneshot::Sender<Result<Arc<InUse>, CensusError>>,
}

/// Lists pods and workloads for those who ask.
pub struct CensusTask {
    client: kube::Client,
    table: watch::Receiver<Arc<RouteTable>>,
    reads_workloads: bool,
    /// Where proof pods may be made.
    provable: Arc<BTreeSet<String>>,
    asked: mpsc::Receiver<Asked>,
    last: Option<Count>,
    /// Lists that failed in a row.
    failures: u32,
}

/// What was found last.
#[derive(Debug)]
struct Count {
    begun: Instant,
    table: ScopedTable,
    found: BTreeMap<MirrorId, Arc<InUse>>,
}

/// A census over the mirrors of `table`. Templates of workloads are read if `reads_workloads`; the second value does the
/// work. What proof pods would pull is counted for these namespaces.
pub fn census(
    client: kube::Client,
    table: watch::Receiver<Arc<RouteTable>>,
    reads_workloads: bool,
    provable: Arc<BTreeSet<String>>,
) -> (Census, CensusTask) {
    let (sender, asked) = mpsc::channel(MOST_WAITING);
    let task = CensusTask {
        client,
        table,
        reads_workloads,
        provable,
        asked,
        last: None,
        failures: 0,
    };
    (Census(sender), task)
}

impl Census {
    /// What a mirror has in use, as of a list that began at most `max_age` ago; zero asks for a new one. All who ask while
    /// none is under way share the next list.
    ///
    /// # Errors
    /// When a list failed a few times in a row, within about five seconds, and when there is no route for the mirror.
    pub async fn in_use(&self, mirror: &MirrorId, max_age: Duration) -> Result<Arc<InUse>, CensusError> {
        let now = Instant::now();
        let (answer, answered) = oneshot::channel();
        let asked = Asked {
            mirror: mirror.clone(),
            not_before: now.checked_sub(max_age).unwrap_or(now),
            answer,
        };
        self.0.send(asked).await.map_err(|_| CensusError::Ended)?;
        answered.await.map_err(|_| CensusError::Ended)?
    }
}

impl CensusTask {
    /// Answers until nobody can ask any more.
    pub async fn run(mut self) {
        while let Some(first) = self.asked.recv().await {
            let mut waiting = vec![first];
            self.answer_from_last(&mut waiting);
            if waiting.is_empty() {
                continue;
            }
            tokio::time::sleep(GATHER).await;
            while let Ok(asked) = self.asked.try_recv() {
                waiting.push(asked);
            }
            let counted = self.count_persistently().await;
            for asked in waiting {
                let answer = match &counted {
                    Ok(()) => self.found(&asked.mirror),
                    Err(error) => Err(CensusError::List(error.to_string())),
                };
                // Who no longer waits needs no answer.
                let _ = asked.answer.send(answer);
            }
        }
    }

    /// Answers those for whom the last list is new enough.
    fn answer_from_last(&self, waiting: &mut Vec<Asked>) {
        let table = self.table.borrow().clone();
        let Some(last) = self.last.as_ref().filter(|last| last.table.has_mirrors_of(&table)) else {
            return;
        };
        for asked in waiting.extract_if(.., |asked| last.begun >= asked.not_before) {
            let _ = asked.answer.send(self.found(&asked.mirror));
        }
    }

    fn found(&self, mirror: &MirrorId) -> Result<Arc<InUse>, CensusError> {
        let found = self.last.as_ref().and_then(|last| last.found.get(mirror));
        found.cloned().ok_or(CensusError::NotRouted)
    }

    /// Lists, and begins anew after a pause where that fails: also where the API server no longer has the rest of a list.
    async fn count_persistently(&mut self) -> Result<(), ListError> {
        let mut attempt = 1;
        loop {
            if self.failures > 0 {
                tokio::time::sleep(pause(self.failures - 1)).await;
            }
            match self.count().await {
                Ok(count) => {
                    self.failures = 0;
                    self.last = Some(count);
                    return Ok(());
                }
                Err(error) => {
                    self.failures = self.failures.saturating_add(1);
                    tracing::warn!(%error, failures = self.failures, "failed to read which images are in use");
                    if attempt >= ATTEMPTS {
                        return Err(error);
                    }
                    attempt += 1;
                }
            }
        }
    }

    async fn count(&self) -> Result<Count, ListError> {
        let begun = Instant::now();
        let table = ScopedTable::new(&self.table.borrow());
        let mut count = UsageCount::new(&table.table).proving_in(Arc::clone(&self.provable));
        let params = ListParams::default().limit(PAGE).fields(NOT_OVER);
        self.each("/api/v1/pods", params, |pod: PodObject| {
            if !pod.record.node.is_empty() {
                count.note_node(&pod.record.node);
            }
            add(&mut count, pod.record, &table.scope, false);
        })
        .await?;
        let workloads = self.count_workloads(&mut count, &table.scope).await?;
        let found = count.finish(workloads).into_iter();
        tracing::debug!(took = ?begun.elapsed(), "read which images are in use");
        Ok(Count {
            begun,
            found: found.map(|(mirror, found)| (mirror, Arc::new(found))).collect(),
            table,
        })
    }

    /// Adds what the templates of workloads name, as far as the operator may read them.
    async fn count_workloads(&self, count: &mut UsageCount, scope: &Scope) -> Result<WorkloadsRead, ListError> {
        if !self.reads_workloads {
            return Ok(WorkloadsRead::Disabled);
        }
        let mut read = WorkloadsRead::Read;
        for Workloads { path, owner, .. } in WORKLOADS {
            let params = ListParams::default().limit(PAGE);
            let listed = self.each(path, params, |workload: WireWorkload| {
                if let Some(pod) = template(workload, owner) {
                    add(count, pod, scope, true);
                }
            });
            match listed.await {
                Ok(()) => {}
                Err(error) if error.code() == 403 => read = WorkloadsRead::Forbidden,
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    async fn each<K: DeserializeOwned>(
        &self,
        path: &str,
        params: ListParams,
        mut take: impl FnMut(K),
    ) -> Result<(), ListError> {
        let mut listing = Listing::<K>::new(&self.client, path, params);
        while let Some(objects) = listing.next().await? {
            objects.into_iter().for_each(&mut take);
            // Tens of thousands of pods must not keep a lease waiting.
            tokio::task::coop::consume_budget().await;
        }
        Ok(())
    }
}

fn add(count: &mut UsageCount, pod: PodRecord, scope: &Scope, is_template: bool) {
    let Some(pod) = pod.keep(scope) else { return };
    let labels = pod.labels();
    count.add(&UsedImages {
        is_template,
        ..pod.used(&labels)
    });
}

/// The pod that a workload makes; none of one that makes no more.
fn template(workload: WireWorkload, owner: Owner<'_>) -> Option<PodRecord> {
    let namespace = workload.metadata.namespace.clone();
    Some(PodRecord::of_template(namespace, owner, pod_template(workload, owner)?))
}

/// The template of a workload; none of one that makes no more pods.
pub(super) fn pod_template(workload: WireWorkload, owner: Owner<'_>) -> Option<WireTemplate> {
    let conditions = workload.status.and_then(|status| status.conditions).unwrap_or_default();
    let ends = |kind: &str| matches!(kind, "Complete" | "Failed");
    let has_ended = owner.kind == "Job" && conditions.iter().any(|it| ends(&it.kind) && &*it.status == "True");
    if has_ended || workload.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let spec = workload.spec?;
    spec.job_template.and_then(|job| job.spec.template).or(spec.template)
}

#[cfg(test)]
mod tests;
