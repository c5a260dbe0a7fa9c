//! The loop of one mirror: events go into its machine one at a time, and what comes out is carried out beside it.

use std::sync::Arc;
use std::time::Duration;

use catamaran_core::mirror::failover::Standing;
use catamaran_core::mirror::{Event, Mirror, RequestId, latest};
use catamaran_core::policy::{MirrorId, MirrorPolicy};
use catamaran_core::routing::evidence::{Evidence, Group};
use catamaran_core::side::{Side, Sides};
use catamaran_lease as lease;
use catamaran_lease::Leadership;
use futures::StreamExt as _;
use futures::channel::mpsc;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::evidence::{EvidenceOut, Groups};
use super::object::Object;
use super::reading::PassReading;
use super::report::{Flipped, read_status};
use super::sources::Sources;
use super::status::{self, Unread, Written};
use super::{Hanging, MirrorsContext, copying};
use crate::clock::sleep;
use crate::endpoints::{READINGS, Subscription};
use crate::publish::flips::FlipWriteError;
use crate::publish::{EvidenceWriteError, MirrorObject, ValidPolicy, Written as Stored};
use writing::Writing;

mod effects;
mod writing;

/// Before an object is read that the watch seems to have shown out of order.
const SETTLE: Duration = Duration::from_secs(2);

/// A longer word that asks to reconcile is ignored: it is repeated in the status.
const LONGEST_WORD: usize = 256;

/// What a job came back with.
enum Outcome {
    Written(RequestId, Written),
    /// The mirror of this name, as it was read.
    Read(String, Result<Option<Arc<MirrorObject>>, Unread>),
    Stored(Result<Stored, EvidenceWriteError>, Groups),
    /// A flip was stored together with those of other mirrors, or not.
    Flipped(RequestId, Box<Flipped>, Result<(), FlipWriteError>),
}

/// One mirror's task.
pub(super) struct Task {
    context: Arc<MirrorsContext>,
    sources: Sources,
    mirror: Mirror,
    objects: watch::Receiver<Object>,
    object: Option<Arc<MirrorObject>>,
    /// A flip that is stored apart from the status and that the status does not say yet.
    flip: Option<Arc<Standing>>,
    policy: Option<Arc<MirrorPolicy>>,
    events: mpsc::Sender<Event>,
    queue: mpsc::Receiver<Event>,
    /// What probes have found; apart, so that it waits behind nothing.
    readings: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    watched: Sides<Option<Subscription>>,
    leadership: watch::Receiver<Leadership>,
    leading: bool,
    /// The last write of the status was refused, and a person was told.
    refused: bool,
    jobs: JoinSet<()>,
    outcomes: JoinSet<Outcome>,
    writing: Writing,
    pass: PassReading,
    copies: JoinSet<()>,
    round: Arc<copying::Round>,
    /// Cancelled to end the proof pods that are under way.
    proofs: CancellationToken,
    evidence: EvidenceOut,
    /// How often the evidence was found lost, as of the object that was read last.
    evidence_lost: u64,
    hanging: Hanging,
}

impl Task {
    pub(super) fn new(
        context: Arc<MirrorsContext>,
        id: MirrorId,
        objects: watch::Receiver<Object>,
        (events, queue): (mpsc::Sender<Event>, mpsc::Receiver<Event>),
        hanging: Hanging,
    ) -> Task {
        Task {
            leadership: context.leadership.clone(),
            sources: Sources {
                clock: context.clock,
                readings: context.readings.clone(),
                registries: Arc::clone(&context.shared) as _,
            },
            context,
            mirror: Mirror::new(id),
            objects,
            object: None,
            flip: None,
            policy: None,
            events,
            queue,
            readings: mpsc::channel(READINGS),
            watched: Sides::default(),
            leading: false,
            refused: false,
            jobs: JoinSet::new(),
            outcomes: JoinSet::new(),
            writing: Writing::default(),
            pass: PassReading::default(),
            copies: JoinSet::new(),
            round: Arc::default(),
            proofs: CancellationToken::new(),
            evidence: EvidenceOut::default(),
            evidence_lost: 0,
            hanging,
        }
    }

    /// Runs until it is aborted: its mirror is gone, or the process ends. Boxed, because a future holds what it takes by value twice.
    pub(super) async fn run(mut self: Box<Self>) {
        self.objects.mark_changed();
        loop {
            let now = self.context.clock.now();
            let wake = self.mirror.wake_at(now).map(|at| self.context.clock.until(at));
            let evidence = self.evidence.wake_at();
            tokio::select! {
                Some(reading) = self.readings.1.next() => self.feed(reading),
                changed = self.objects.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.read_object();
                }
                () = turned(&mut self.leadership, self.leading) => self.lead(!self.leading),
                Some(event) = self.queue.next() => self.feed(event),
                Some(turn) = self.writing.turn() => self.write_now(turn),
                Some(outcome) = self.outcomes.join_next() => {
                    if let Ok(outcome) = outcome {
                        self.take(outcome);
                    }
                }
                () = sleep(wake) => self.feed(Event::Time),
                () = sleep_until(evidence) => self.publish_evidence(),
            }
            // What has ended is kept until then, with all that it had.
            while self.jobs.try_join_next().is_some() {}
            self.pass.reap();
            while self.copies.try_join_next().is_some() {}
        }
    }

    fn feed(&mut self, event: Event) {
        if let Event::Probed(probed) = &event {
            let (name, outcome) = (&self.mirror.id().name, &probed.reading.probe.outcome);
            self.context.metrics.probed(name, probed.side, outcome);
        }
        let now = self.context.clock.now();
        for effect in self.mirror.handle(event, now) {
            self.carry_out(effect);
        }
        self.hurry_flip();
        for side in Side::ALL {
            self.hanging.set(side, self.mirror.hangs(side));
        }
    }

    /// Takes in what the publisher reports.
    fn read_object(&mut self) {
        let object = self.objects.borrow_and_update().clone();
        let (mirror, policy, last_valid) = match object {
            Object::Readable {
                mirror,
                policy,
                last_valid,
                flip,
                evidence_lost,
            } => {
                self.hear_flip(flip);
                if evidence_lost > self.evidence_lost {
                    self.evidence.lost();
                    self.store();
                }
                self.evidence_lost = evidence_lost;
                (mirror, policy, last_valid)
            }
            Object::Unreadable { invalid, last_valid } => {
                self.object = None;
                self.spec_in_force(last_valid);
                let problem = invalid.error.clone();
                let generation = invalid.metadata.generation.unwrap_or_default();
                self.feed(Event::InvalidSpec { generation, problem });
                return;
            }
        };
        if !self.is_newer(&mirror) {
            return self.read_again(mirror.id.name.to_string());
        }
        let generation = mirror.generation;
        match policy {
            Ok(policy) => self.spec_in_force(Some(ValidPolicy { policy, generation })),
            Err(error) => {
                self.spec_in_force(last_valid);
                let problem = error.to_string();
                self.feed(Event::InvalidSpec { generation, problem });
            }
        }
        self.adopt(mirror);
    }

    fn spec_in_force(&mut self, valid: Option<ValidPolicy>) {
        let Some(ValidPolicy { policy, generation }) = valid else {
            return;
        };
        self.policy = Some(Arc::clone(&policy));
        if !policy.suspended {
            self.context.readings.claim(&policy);
        }
        self.feed(Event::Spec { policy, generation });
    }

    fn adopt(&mut self, mirror: Arc<MirrorObject>) {
        let status = match mirror.status() {
            Ok(status) => status.unwrap_or_default(),
            Err(error) => {
                return tracing::error!(mirror = %mirror.id, %error, "failed to read the status that was kept");
            }
        };
        let mut read = read_status(&status);
        let epoch = read.standing.as_ref().map_or(0, |standing| standing.epoch);
        self.flip.take_if(|flip| flip.epoch <= epoch);
        read.standing = latest(read.standing, self.flip.as_deref());
        let asked = mirror.reconcile.clone();
        self.object = Some(mirror);
        self.feed(Event::Status(Box::new(read)));
        if let Some(word) = asked.filter(|word| word.len() <= LONGEST_WORD) {
            self.feed(Event::Reconcile(word.into()));
        }
    }

    /// Takes a flip that is stored apart. One that was heard of stays until a status says it.
    fn hear_flip(&mut self, flip: Option<Arc<Standing>>) {
        let epoch = self.flip.as_ref().map_or(0, |known| known.epoch);
        if let Some(flip) = flip.filter(|flip| flip.epoch > epoch) {
            self.flip = Some(flip);
        }
    }

    /// Whether this is not older than what is known: the answer to a write comes before the watch shows earlier ones.
    fn is_newer(&self, mirror: &MirrorObject) -> bool {
        let Some(known) = &self.object else { return true };
        match (version(known), version(mirror)) {
            (Some(known), Some(new)) => new >= known,
            _ => true,
        }
    }

    /// A watch that goes back may be late, or the API server was restored from a backup: what it answers now is what counts.
    fn read_again(&mut self, name: String) {
        let context = Arc::clone(&self.context);
        self.outcomes.spawn(async move {
            tokio::time::sleep(SETTLE).await;
            let read = status::read(&context, &name).await;
            Outcome::Read(name, read)
        });
    }

    /// Whether the object that the watch has shown last is older than what is known.
    fn is_shown_older(&self) -> bool {
        match &*self.objects.borrow() {
            Object::Readable { mirror, .. } => !self.is_newer(mirror),
            Object::Unreadable { .. } => false,
        }
    }

    /// The object as it was just read is what counts, also where it is older than what was known.
    fn follow(&mut self, mirror: Arc<MirrorObject>) {
        let read = version(&mirror);
        self.object = None;
        self.adopt(mirror);
        let shown = match &*self.objects.borrow() {
            Object::Readable { mirror, .. } => version(mirror),
            Object::Unreadable { .. } => None,
        };
        if shown.is_some() && shown == read {
            self.read_object();
        }
    }

    /// This replica begins to lead, or ceases to.
    fn lead(&mut self, leading: bool) {
        self.leading = leading;
        let id = self.mirror.id().clone();
        if leading {
            let table = Arc::clone(&self.context.table.borrow());
            let prior = table.route(&id).map(|route| Evidence::clone(&route.evidence));
            self.feed(Event::Prior(prior.unwrap_or_default()));
        } else {
            self.evidence = EvidenceOut::default();
            self.context.local.remove(&id.uid);
        }
        self.feed(Event::Leading(leading));
    }

    fn take(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Written(request, written) => self.written(request, written),
            Outcome::Flipped(request, flipped, result) => self.flipped(request, *flipped, result),
            Outcome::Read(_, Ok(Some(mirror))) => self.follow(mirror),
            Outcome::Read(name, Err(Unread)) if self.is_shown_older() => self.read_again(name),
            // It is gone, or was read meanwhile.
            Outcome::Read(..) => {}
            Outcome::Stored(result, groups) => self.stored(result, groups),
        }
    }

    /// Hands the groups that changed to this replica's webhook, and has them stored for the others.
    fn publish_evidence(&mut self) {
        if let Some(evidence) = self.evidence.update(&self.mirror) {
            self.context.local.set(&self.mirror.id().uid, Arc::new(evidence));
        }
        self.store();
    }

    fn store(&mut self) {
        let Some(mirror) = self.object.clone().filter(|_| self.leading) else {
            return;
        };
        let Some((groups, all)) = self.evidence.begin() else {
            return;
        };
        let context = Arc::clone(&self.context);
        self.outcomes.spawn(async move {
            let pairs: Vec<_> = groups
                .iter()
                .map(|(place, group)| (*place, Group::clone(group)))
                .collect();
            let written = context.store.write(&mirror, &pairs, &all).await;
            Outcome::Stored(written, groups)
        });
    }

    fn stored(&mut self, result: Result<Stored, EvidenceWriteError>, groups: Groups) {
        if let Err(error) = &result {
            tracing::warn!(mirror = %self.mirror.id(), %error, "failed to store the evidence");
        }
        if let Some(reported) = self.evidence.ended(result, groups) {
            self.feed(Event::EvidenceStored(reported));
        }
        self.store();
    }
}

/// The resourceVersion as a number, which Kubernetes' own storage has always had.
fn version(mirror: &MirrorObject) -> Option<u64> {
    mirror.version.parse().ok()
}

/// Returns when this replica begins to lead, or ceases to.
async fn turned(leadership: &mut watch::Receiver<Leadership>, leading: bool) {
    if leading {
        lease::lost(leadership).await;
    } else {
        lease::gained(leadership).await;
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
