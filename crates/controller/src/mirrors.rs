//! One task for each mirror: it owns the mirror's machine, feeds it events and carries out its effects.
//!
//! [`run`] starts and ends the tasks by what the publisher reports of mirrors; [`MirrorTasks`] is how the rest of the process
//! reaches them. `task` is the loop of one mirror; `reading`, `copying` and `caching` carry out what it wants done at registries, `status` what it wants written, `report` puts that into words. [`Comparison`] runs passes without a cluster.

mod caching;
mod comparison;
mod copying;
mod evidence;
mod inspecting;
mod object;
mod reading;
mod readings;
pub mod report;
mod sources;
mod status;
mod task;
#[cfg(test)]
#[path = "../tests/testbed/tasks.rs"]
mod testing;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use catamaran_core::mirror::pulls::PodPulls;
use catamaran_core::mirror::{Event, ReferenceName};
use catamaran_core::policy::MirrorId;
use catamaran_core::routing::{Conflict, RouteTable};
use catamaran_core::side::{Side, Sides};
use futures::channel::mpsc;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::endpoints::Endpoints;
use crate::pods::{Census, PodReports};
use crate::proofs::Proofs;
use crate::publish::{MirrorNews, NewsReceiver};
pub use comparison::Comparison;
pub use evidence::{EvidenceOut, Groups};
use object::Object;
pub use readings::Readings;
use task::Task;
#[cfg(test)]
pub(crate) use testing::WantedReferences;

/// What the mirrors' tasks work with.
pub struct MirrorsContext {
    /// What all parts of the controller share.
    pub shared: Arc<Context>,
    /// Who probes registries.
    pub endpoints: Arc<Endpoints>,
    /// What several mirrors have read of the same repositories.
    pub readings: Readings,
    /// What pods and workloads use.
    pub census: Census,
    /// Who makes proof pods.
    pub proofs: Arc<Proofs>,
}

impl Deref for MirrorsContext {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.shared
    }
}

/// Events of one mirror that may wait; a read that is asked for finds no place beyond that, and the next pass finds the tag.
const QUEUE: usize = 1024;

/// The tasks of all mirrors, by UID.
#[derive(Debug, Default)]
pub struct MirrorTasks {
    tasks: Mutex<HashMap<Arc<str>, Handle>>,
    /// How often tasks have begun or were ended.
    changes: AtomicU64,
}

/// How one mirror's task is reached. Dropping it ends the task.
#[derive(Debug)]
struct Handle {
    name: Arc<str>,
    object: watch::Sender<Object>,
    events: mpsc::Sender<Event>,
    hanging: Hanging,
    task: AbortHandle,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl MirrorTasks {
    /// Has references read on demand; what finds no place waits for the next pass.
    pub fn want(&self, mirror: &MirrorId, references: Vec<ReferenceName>, urgent: bool) {
        self.send(&mirror.uid, Event::Wanted { references, urgent });
    }

    /// Whether a task has heard it: one whose queue is full has news enough.
    fn send(&self, uid: &str, event: Event) -> bool {
        let mut tasks = self.tasks();
        let handle = tasks.get_mut(uid);
        handle.is_some_and(|handle| handle.events.try_send(event).is_ok())
    }

    fn tasks(&self) -> MutexGuard<'_, HashMap<Arc<str>, Handle>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, tasks: &mut HashMap<Arc<str>, Handle>, uid: Arc<str>, handle: Handle) {
        tasks.insert(uid, handle);
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    fn retain(&self, keep: impl Fn(&Arc<str>) -> bool) {
        let mut tasks = self.tasks();
        let before = tasks.len();
        tasks.retain(|uid, _| keep(uid));
        if tasks.len() < before {
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl PodReports for MirrorTasks {
    fn wanted(&self, mirror: &MirrorId, references: Vec<(String, String)>, urgent: bool) {
        let name = |(repository, reference)| ReferenceName { repository, reference };
        self.want(mirror, references.into_iter().map(name).collect(), urgent);
    }

    fn pulls(&self, mirror: &MirrorId, pods: &[PodPulls]) -> bool {
        self.send(&mirror.uid, Event::Pulls(pods.to_vec()))
    }

    fn rescued(&self, mirror: &MirrorId, pods: u64) {
        self.send(&mirror.uid, Event::Rescued(pods));
    }

    fn hangs(&self, mirror: &MirrorId, side: Side) -> bool {
        let tasks = self.tasks();
        tasks.get(&mirror.uid).is_some_and(|handle| handle.hanging.is(side))
    }
}

/// Which sides do not answer at all, as the task of their mirror last saw them.
#[derive(Clone, Debug, Default)]
struct Hanging(Arc<Sides<AtomicBool>>);

impl Hanging {
    fn is(&self, side: Side) -> bool {
        self.0[side].load(Ordering::Relaxed)
    }

    fn set(&self, side: Side, hangs: bool) {
        self.0[side].store(hangs, Ordering::Relaxed);
    }
}

/// Starts and ends the mirrors' tasks until `shutdown`.
pub async fn run(
    context: Arc<MirrorsContext>,
    tasks: Arc<MirrorTasks>,
    mut news: NewsReceiver,
    shutdown: CancellationToken,
) {
    let mut table = context.table.clone();
    let mut conflicts = ConflictReports::default();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            item = news.next() => take(&context, &tasks, item),
            changed = table.changed() => if changed.is_err() {
                break;
            }
        }
        let now = Arc::clone(&table.borrow_and_update());
        conflicts.report(&tasks, &now);
    }
    tasks.retain(|_| false);
}

fn take(context: &Arc<MirrorsContext>, tasks: &MirrorTasks, news: MirrorNews) {
    match news {
        MirrorNews::Applied {
            mirror,
            policy,
            last_valid,
            flip,
        } => {
            let id = mirror.id.clone();
            let object = Object::Readable {
                mirror,
                policy,
                last_valid,
                flip,
                evidence_lost: 0,
            };
            applied(context, tasks, id, object);
        }
        MirrorNews::Unreadable { invalid, last_valid } => {
            let (Some(uid), Some(name)) = (invalid.metadata.uid.as_deref(), invalid.metadata.name.as_deref()) else {
                return;
            };
            let id = MirrorId {
                name: name.into(),
                uid: uid.into(),
            };
            applied(context, tasks, id, Object::Unreadable { invalid, last_valid });
        }
        MirrorNews::Deleted { uid } => forget(context, tasks, |other| *other != uid),
        MirrorNews::EvidenceLost { uid } => {
            if let Some(handle) = tasks.tasks().get(&uid) {
                handle.object.send_modify(Object::lose_evidence);
            }
        }
        MirrorNews::Listed { uids } => forget(context, tasks, |uid| uids.contains(uid)),
    }
}

fn applied(context: &Arc<MirrorsContext>, all: &MirrorTasks, id: MirrorId, object: Object) {
    let mut tasks = all.tasks();
    if let Some(handle) = tasks.get(&id.uid) {
        handle.object.send_modify(|before| before.replace(object));
        return;
    }
    let MirrorId { name, uid } = id.clone();
    let (object, read) = watch::channel(object);
    let (events, queue) = mpsc::channel(QUEUE);
    let hanging = Hanging::default();
    let task = Task::new(Arc::clone(context), id, read, (events.clone(), queue), hanging.clone());
    let task = tokio::spawn(Box::new(task).run()).abort_handle();
    let handle = Handle {
        name,
        object,
        events,
        hanging,
        task,
    };
    all.begin(&mut tasks, uid, handle);
}

/// Ends the tasks of mirrors that are gone, and forgets everything that was kept for them.
fn forget(context: &MirrorsContext, tasks: &MirrorTasks, keep: impl Fn(&Arc<str>) -> bool) {
    tasks.retain(keep);
    let tasks = tasks.tasks();
    context.connections.retain(|uid| tasks.contains_key(uid));
    context.readings.retain(|uid| tasks.contains_key(uid));
    let names: HashSet<&str> = tasks.values().map(|handle| &*handle.name).collect();
    context.metrics.retain(|name| names.contains(name));
}

/// Tells each mirror which others claim its repositories, where that has changed since it heard of it. A task that begins later hears
/// of it then.
#[derive(Debug, Default)]
struct ConflictReports {
    /// What each mirror was told last, if it was anything.
    told: BTreeMap<MirrorId, Vec<Conflict>>,
    /// What all of the tasks have heard of, and how often tasks had changed by then.
    heard: Option<(Arc<[Conflict]>, u64)>,
}

impl ConflictReports {
    /// Called with every table, most of which have the conflicts of the one before.
    fn report(&mut self, tasks: &MirrorTasks, table: &RouteTable) {
        let (all, changes) = (table.conflicts(), tasks.changes.load(Ordering::Relaxed));
        let is_heard = |(heard, by): &(Arc<[Conflict]>, u64)| Arc::ptr_eq(heard, all) && *by == changes;
        if self.heard.as_ref().is_some_and(is_heard) {
            return;
        }
        let heard = self.tell(tasks, all);
        self.heard = heard.then(|| (Arc::clone(all), changes));
    }

    /// Whether everyone has heard it.
    fn tell(&mut self, tasks: &MirrorTasks, conflicts: &[Conflict]) -> bool {
        let mut now = BTreeMap::<MirrorId, Vec<Conflict>>::new();
        for conflict in conflicts {
            now.entry(conflict.loser.clone()).or_default().push(conflict.clone());
        }
        self.told.retain(|mirror, _| tasks.tasks().contains_key(&mirror.uid));
        for mirror in self.told.keys() {
            now.entry(mirror.clone()).or_default();
        }
        let mut heard = true;
        for (mirror, conflicts) in now {
            if self.told.get(&mirror) == Some(&conflicts) {
                continue;
            }
            if tasks.send(&mirror.uid, Event::Conflicts(conflicts.clone())) {
                self.told.insert(mirror, conflicts);
            } else {
                heard = false;
            }
        }
        self.told.retain(|_, conflicts| !conflicts.is_empty());
        heard
    }
}

#[cfg(test)]
mod tests;
