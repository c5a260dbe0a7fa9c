//! What a mirror's machine wants done: each effect becomes a job beside the mirror's task.

use std::sync::Arc;

use catamaran_core::endpoint::{Watch, Watcher};
use catamaran_core::mirror::proof::ProofPod;
use catamaran_core::mirror::repair::Errand;
use catamaran_core::mirror::{Effect, Event, ProofEnded, Resolve, Subject};
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::side::Side;
use futures::SinkExt as _;

use super::Task;
use crate::endpoints::Wish;
use crate::mirrors::reading::{self, PassReading};
use crate::mirrors::{MirrorsContext, caching, inspecting, status};
use crate::pods::CensusError;

impl Task {
    /// Without a spec that makes sense there is nothing to do but to say so.
    pub(super) fn carry_out(&mut self, effect: Effect) {
        match (effect, self.policy.clone()) {
            (Effect::WriteStatus(request), _) => self.write_status(request),
            (Effect::AbandonPass(_), _) => self.pass = PassReading::default(),
            (Effect::StopCopies, _) => self.stop_copies(),
            (Effect::StopProofs, _) => std::mem::take(&mut self.proofs).cancel(),
            (Effect::Watch { side, watch: None }, _) => self.watched[side] = None,
            (Effect::ProbeNow { side, after }, _) => {
                if let Some(watched) = &self.watched[side] {
                    watched.probe_now(after);
                }
            }
            (Effect::WriteEvidence(places), _) => {
                self.evidence.touch(&places);
                self.publish_evidence();
            }
            (effect, Some(policy)) => self.work(effect, policy),
            (_, None) => {}
        }
    }

    /// Carries out what needs the registries or the cluster.
    fn work(&mut self, effect: Effect, policy: Arc<MirrorPolicy>) {
        match effect {
            Effect::Watch {
                side,
                watch: Some(watch),
            } => self.watch(side, watch, policy),
            Effect::ReadInUse { request, oldest } => {
                let id = self.mirror.id().clone();
                self.job(async move |context| match context.census.in_use(&id, oldest).await {
                    Ok(in_use) => Event::InUse { request, in_use },
                    Err(error) => {
                        // All mirrors of a process that starts ask before there is a route table.
                        if matches!(error, CensusError::NotRouted) {
                            tracing::debug!(mirror = %id, %error, "failed to read what is in use");
                        } else {
                            tracing::warn!(mirror = %id, %error, "failed to read what is in use");
                        }
                        Event::InUseFailed(request)
                    }
                });
            }
            Effect::List { pass, repository } => self.list(pass, &repository, &policy),
            Effect::ListMore { pass, repository } => self.at_pass(pass).more(&repository),
            Effect::CloseListing { pass, repository } => {
                let clock = self.context.clock;
                self.at_pass(pass).close(clock, &repository);
            }
            Effect::Resolve(wanted) => self.resolve(wanted, policy),
            Effect::Inspect(wanted) => {
                let sources = self.sources.clone();
                self.job(async move |_| inspecting::inspect(&sources, &policy, wanted).await);
            }
            Effect::Copy(errand) => self.copy(errand, policy),
            Effect::Prewarm(pull) => {
                self.job(async move |context| caching::prewarm(&context, &policy, pull).await);
            }
            Effect::ReadRule { request, side } => {
                self.job(async move |context| Event::Rule {
                    request,
                    rule: Box::new(caching::read_rule(&context, &policy, side).await),
                });
            }
            Effect::Prove(pod) => self.prove(pod),
            Effect::Measure => self.measure(),
            Effect::Announce(announcement) => {
                let (context, id) = (Arc::clone(&self.context), self.mirror.id().clone());
                self.jobs
                    .spawn(async move { status::announce(&context, &id, announcement).await });
            }
            Effect::AbandonPass(_)
            | Effect::StopCopies
            | Effect::StopProofs
            | Effect::WriteStatus(_)
            | Effect::WriteEvidence(_)
            | Effect::Watch { .. }
            | Effect::ProbeNow { .. } => {}
        }
    }

    /// Has a side watched by its endpoint's observer.
    fn watch(&mut self, side: Side, watch: Watch, policy: Arc<MirrorPolicy>) {
        let watcher = Watcher {
            mirror: Arc::clone(&self.mirror.id().uid),
            side,
        };
        let wish = Wish {
            policy,
            watcher,
            watch,
            readings: self.readings.0.clone(),
        };
        let before = self.watched[side].take();
        let context = &self.context;
        self.watched[side] = Some(context.endpoints.watch(&context.shared, wish, before));
    }

    /// Runs a job beside this task; its event comes back through the queue.
    fn job<F>(&mut self, job: impl FnOnce(Arc<MirrorsContext>) -> F)
    where
        F: Future<Output = Event> + Send + 'static,
    {
        let (job, mut events) = (job(Arc::clone(&self.context)), self.events.clone());
        self.jobs.spawn(async move {
            // The receiver is gone with its mirror.
            let _ = events.send(job.await).await;
        });
    }

    /// The reading of this pass; what an earlier one had under way ends.
    fn at_pass(&mut self, pass: u64) -> &mut PassReading {
        if self.pass.pass != pass {
            self.pass = PassReading::new(pass);
        }
        &mut self.pass
    }

    fn list(&mut self, pass: u64, repository: &str, policy: &Arc<MirrorPolicy>) {
        let (sources, events) = (self.sources.clone(), self.events.clone());
        self.at_pass(pass).list(&sources, policy, repository, events);
    }

    fn resolve(&mut self, wanted: Resolve, policy: Arc<MirrorPolicy>) {
        let (sources, events) = (self.sources.clone(), self.events.clone());
        match wanted.pass {
            Some(pass) => self.at_pass(pass).resolve(&sources, &policy, wanted, events),
            None => self.job(async move |_| reading::resolve(&sources, &policy, None, wanted).await),
        }
    }

    fn copy(&mut self, errand: Errand, policy: Arc<MirrorPolicy>) {
        while self.copies.try_join_next().is_some() {}
        if self.copies.is_empty() {
            self.round = Arc::default();
        }
        let (context, mut events, round) = (Arc::clone(&self.context), self.events.clone(), Arc::clone(&self.round));
        self.copies.spawn(async move {
            let ended = round.copy(&context, &policy, errand).await;
            let _ = events.send(ended).await;
        });
    }

    fn prove(&mut self, pod: ProofPod) {
        let (context, mut events) = (Arc::clone(&self.context), self.events.clone());
        let (id, cancelled) = (self.mirror.id().clone(), self.proofs.clone());
        self.jobs.spawn(async move {
            let Some(outcome) = Box::pin(context.proofs.prove(&context, &id, &pod, &cancelled)).await else {
                return;
            };
            context.metrics.proof.ended(&id.name, outcome.as_str());
            let request = pod.request;
            // The receiver is gone with its mirror.
            let _ = events
                .send(Event::Proved(Box::new(ProofEnded { request, outcome })))
                .await;
        });
    }

    fn stop_copies(&mut self) {
        self.copies.abort_all();
        self.round = Arc::default();
    }

    fn measure(&self) {
        let Some(Subject::Watched(seen)) = self
            .mirror
            .view()
            .and_then(|view| view.in_force)
            .map(|(_, subject)| subject)
        else {
            return;
        };
        let (name, metrics) = (&*self.mirror.id().name, &self.context.metrics);
        if let Some(pass) = &seen.pass {
            metrics.scanned(name, &seen.summary, pass.begun, pass.ended);
        }
        if let Some(holdings) = &seen.holdings {
            metrics.cache_holds(name, holdings, self.context.clock.now());
        }
    }
}
