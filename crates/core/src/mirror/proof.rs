//! The proof that nodes can pull from the fallback, before it is needed.
//!
//! For each node, and for each place whose pods the mirror moves ([`usage`]), one short-lived pod pulls the fallback's names of what
//! runs there: through the real kubelet, credential, proxy, firewall and policies. [`Proofs`] says which pod comes next, [`reading`]
//! what its state says, [`summary`] what all of them say together.
//!
//! A result holds for `proof.interval`; one that is not good is looked at again after [`RETRY`]. While the fallback is active the
//! pods that run there are the proof, and nothing more is done.

pub mod reading;
mod records;
pub mod summary;
#[cfg(test)]
mod tests;
pub mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::event::{RequestId, Requests};
use super::pause::Pause;
use crate::policy::ProofPolicy;
use reading::{Cause, LIMIT, Outcome, Problem};
pub use records::{ProofPod, ProofRead};
use summary::{Extent, Summary, Verdict, sum_up};
use usage::{Images, Place, ProofUse};

/// Proof pods of a mirror at a time, each on another node.
const AT_A_TIME: usize = 4;

/// How soon what is not proven is looked at again, where the interval is not shorter.
const RETRY: Duration = Duration::from_mins(10);

/// A pod of which nothing is heard for so long is taken for lost.
const LOST_AFTER: Duration = LIMIT.saturating_add(Duration::from_mins(5));

/// Pods of one round at most.
const MOST_PODS: usize = 5_000;

/// A node, and a place whose pods it may have to run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    place: Arc<Place>,
    node: String,
}

/// A pod that is to be made again and again.
#[derive(Clone, Debug)]
struct Planned {
    key: Key,
    images: Arc<Images>,
}

/// How it ended last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Proved {
    begun: Timestamp,
    ended: Timestamp,
    images: Arc<Images>,
    outcome: Outcome,
}

/// A pod that is under way.
#[derive(Clone, Debug)]
struct UnderWay {
    key: Key,
    images: Arc<Images>,
    begun: Timestamp,
    patience: Pause,
}

/// The proof pods of one mirror.
#[derive(Clone, Debug, Default)]
pub(super) struct Proofs {
    /// What the plan was made from.
    usage: Option<Arc<ProofUse>>,
    plan: Vec<Planned>,
    results: BTreeMap<Key, Proved>,
    under_way: BTreeMap<RequestId, UnderWay>,
    /// Results of pods that began before this don't count any more.
    requested: Option<Timestamp>,
    /// When the next pod is due; none where something has changed, and that is not known.
    next: Option<Timestamp>,
    /// A pod has ended since all had.
    is_round: bool,
    completed: Option<Timestamp>,
    /// What the status says is about another spec.
    is_renewed: bool,
    summary: Summary,
}

impl Proofs {
    /// Takes in what is in use. `before`: what the status says of earlier proofs, which holds for a leader that has none of its own.
    pub(super) fn plan(&mut self, usage: &Arc<ProofUse>, before: Option<&ProofRead>) -> bool {
        if self.usage.as_ref().is_some_and(|known| Arc::ptr_eq(known, usage)) {
            return false;
        }
        let known = self.usage.replace(Arc::clone(usage));
        if known.as_ref() == Some(usage) {
            return false;
        }
        let is_first = known.is_none() && !self.is_renewed;
        self.plan = planned(usage);
        let wanted: BTreeSet<&Key> = self.plan.iter().map(|planned| &planned.key).collect();
        self.results.retain(|key, _| wanted.contains(key));
        self.next = None;
        if is_first
            && self.results.is_empty()
            && let Some(before) = before
        {
            self.resume(before);
        }
        self.sum_up()
    }

    /// Goes on from what the status says, if that is about as many nodes, namespaces and images, and lists all that failed.
    fn resume(&mut self, before: &ProofRead) {
        let extent = self.counted(Summary::default()).extent;
        let is_same = before.extent == extent && before.failing_total == before.failing.len();
        let Some(time) = before.time.filter(|_| is_same) else {
            return;
        };
        self.completed = Some(time);
        for Planned { key, images } in &self.plan {
            let problem = |image: Option<&str>| {
                let failing = before.failing.iter();
                let mut failing = failing.filter(|it| it.namespace == key.place.namespace && it.node == key.node);
                failing
                    .find(|it| it.image.as_deref() == image)
                    .map(|it| it.problem.clone())
            };
            let outcome = match problem(None) {
                Some(whole) => Outcome::Whole(whole),
                None => Outcome::Pulls(
                    images
                        .values()
                        .map(|image| problem(Some(image)).map_or(Ok(()), Err))
                        .collect(),
                ),
            };
            let proved = Proved {
                begun: time,
                ended: time,
                images: Arc::clone(images),
                outcome,
            };
            self.results.insert(key.clone(), proved);
        }
    }

    /// Has everything proven again that was proven before this time.
    pub(super) fn request(&mut self, since: Timestamp) {
        if self.requested.is_none_or(|known| known < since) {
            self.requested = Some(since);
            self.next = None;
        }
    }

    /// The pods to make now.
    pub(super) fn begin(&mut self, policy: &ProofPolicy, requests: &mut Requests, now: Timestamp) -> Vec<ProofPod> {
        if self.next.is_some_and(|next| next > now) {
            return Vec::new();
        }
        let mut busy: BTreeSet<String> = self.under_way.values().map(|it| it.key.node.clone()).collect();
        let mut next: Option<Timestamp> = None;
        let mut begun = Vec::new();
        for planned in &self.plan {
            if self.under_way.len() >= AT_A_TIME {
                break;
            }
            if let Some(later) = self.due(planned, policy, now) {
                next = Some(next.map_or(later, |next| next.min(later)));
                continue;
            }
            // What waits for its node is looked at again when a pod has ended.
            if !busy.insert(planned.key.node.clone()) {
                continue;
            }
            let (pod, under_way) = start(planned, requests.next(), now);
            self.under_way.insert(pod.request, under_way);
            begun.push(pod);
        }
        self.next = Some(next.unwrap_or(Timestamp::MAX));
        begun
    }

    /// When a pod is due, if that is not now.
    fn due(&self, planned: &Planned, policy: &ProofPolicy, now: Timestamp) -> Option<Timestamp> {
        let proved = self.results.get(&planned.key)?;
        if self.requested.is_some_and(|requested| proved.begun < requested) {
            return None;
        }
        // Another tag of the same repository is pulled with the same rights.
        if !planned.images.keys().eq(proved.images.keys()) {
            return None;
        }
        let pause = if proved.is_good() {
            policy.interval
        } else {
            policy.interval.min(RETRY)
        };
        let pause = Pause::new(proved.ended, pause);
        (!pause.is_over(now)).then(|| pause.end())
    }

    /// A pod has ended. Whether status has something new to say.
    pub(super) fn ended(&mut self, request: RequestId, outcome: Outcome, now: Timestamp) -> bool {
        let Some(UnderWay { key, images, begun, .. }) = self.under_way.remove(&request) else {
            return false;
        };
        self.next = None;
        self.is_round = true;
        if self.plan.iter().any(|planned| planned.key == key) {
            let proved = Proved {
                begun,
                ended: now,
                images,
                outcome,
            };
            self.results.insert(key, proved);
        }
        self.sum_up()
    }

    /// All that was due has ended: the time of that. Whether it is new.
    pub(super) fn complete(&mut self, now: Timestamp) -> bool {
        if !self.is_round || !self.is_idle() {
            return false;
        }
        self.is_round = false;
        self.completed = Some(now);
        self.sum_up()
    }

    /// Whether nothing is under way or due.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.next.is_some()
    }

    /// Gives up pods of which nothing is heard. Whether status has something new to say.
    pub(super) fn give_up(&mut self, now: Timestamp) -> bool {
        let lost = self.under_way.iter().filter(|(_, it)| it.patience.is_over(now));
        let lost: Vec<RequestId> = lost.map(|(request, _)| *request).collect();
        let problem = || Outcome::Whole(Problem::new(Cause::NotStarted, "nothing was heard of the pod"));
        let mut news = false;
        for request in lost {
            news |= self.ended(request, problem(), now);
        }
        news
    }

    /// When to look again although no pod has ended.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        let lost = self.under_way.values().map(|it| it.patience.end()).min();
        let next = self.next.filter(|next| *next < Timestamp::MAX);
        lost.into_iter().chain(next).min()
    }

    /// Ends what is under way; whether anything was. What was proven stays so.
    pub(super) fn stop(&mut self) -> bool {
        self.next = None;
        !std::mem::take(&mut self.under_way).is_empty()
    }

    /// Another replica leads.
    pub(super) fn forget(&mut self) {
        *self = Proofs::default();
    }

    /// The fallback is another one, or pods get other credentials for it.
    pub(super) fn renew(&mut self) {
        *self = Proofs {
            is_renewed: true,
            ..Proofs::default()
        };
    }

    /// What is known.
    pub(super) fn summary(&self) -> Summary {
        Summary {
            is_unread: self.usage.is_none() && !self.is_renewed,
            ..self.summary.clone()
        }
    }

    /// Whether each node can pull, for each namespace.
    pub(super) fn is_proven(&self) -> bool {
        self.summary.verdict == Verdict::Proven
    }

    fn sum_up(&mut self) -> bool {
        let summary = self.counted(sum_up(&self.plan, &self.results));
        let is_new = self.summary != summary;
        self.summary = summary;
        is_new
    }

    fn counted(&self, summary: Summary) -> Summary {
        let Some(usage) = &self.usage else { return summary };
        let nodes: BTreeSet<&str> = self.plan.iter().map(|planned| planned.key.node.as_str()).collect();
        let namespaces: BTreeSet<&str> = usage.places.keys().map(|place| place.namespace.as_str()).collect();
        let images: BTreeSet<&str> = usage
            .places
            .values()
            .flat_map(|images| images.values().map(String::as_str))
            .collect();
        let pods = usage.places.len().saturating_mul(usage.nodes.len());
        Summary {
            time: self.completed,
            extent: Extent {
                nodes: nodes.len(),
                namespaces: namespaces.len(),
                images: images.len(),
            },
            unlisted: usage.unlisted,
            left_out: usage.left_out + pods.saturating_sub(MOST_PODS),
            ..summary
        }
    }
}

impl Proved {
    fn is_good(&self) -> bool {
        match &self.outcome {
            Outcome::Pulls(pulls) => pulls.iter().all(Result::is_ok),
            Outcome::Skipped => true,
            Outcome::Whole(_) => false,
        }
    }
}

fn start(planned: &Planned, request: RequestId, now: Timestamp) -> (ProofPod, UnderWay) {
    let Planned { key, images } = planned;
    let pod = ProofPod {
        request,
        node: key.node.clone(),
        place: Place::clone(&key.place),
        images: images.values().cloned().collect(),
    };
    let under_way = UnderWay {
        key: key.clone(),
        images: Arc::clone(images),
        begun: now,
        patience: Pause::new(now, LOST_AFTER),
    };
    (pod, under_way)
}

/// Every node for every place, one place after the other.
fn planned(usage: &ProofUse) -> Vec<Planned> {
    let places = usage
        .places
        .iter()
        .map(|(place, images)| (Arc::new(place.clone()), Arc::new(images.clone())));
    let pods = places.flat_map(|(place, images)| {
        usage.nodes.iter().map(move |node| Planned {
            key: Key {
                place: Arc::clone(&place),
                node: node.clone(),
            },
            images: Arc::clone(&images),
        })
    });
    pods.take(MOST_PODS).collect()
}
