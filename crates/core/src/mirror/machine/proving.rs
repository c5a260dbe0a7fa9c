//! Proof pods, and requests to verify and prove everything now.

use std::sync::Arc;

use jiff::Timestamp;

use super::Mirror;
use crate::mirror::effect::Effect;
use crate::mirror::event::ProofEnded;
use crate::policy::{MirrorPolicy, ProofMode};
use crate::side::Side;

impl Mirror {
    pub(super) fn proved(&mut self, ended: ProofEnded, now: Timestamp) -> Vec<Effect> {
        if self.proofs.ended(ended.request, ended.outcome, now) {
            self.write.want();
        }
        Vec::new()
    }

    pub(super) fn reconcile_asked(&mut self, word: &str, now: Timestamp) -> Vec<Effect> {
        self.reconcile.ask(word, now);
        Vec::new()
    }

    /// Goes on with the proof of the fallback. While it is active, the pods that run there are the proof.
    pub(super) fn prove(&mut self, policy: &MirrorPolicy, now: Timestamp, effects: &mut Vec<Effect>) {
        if policy.proof.mode == ProofMode::Off {
            effects.extend(self.proofs.stop().then_some(Effect::StopProofs));
            return self.proofs.forget();
        }
        if let Some(usage) = self.in_use.as_ref().map(|in_use| Arc::clone(&in_use.proof)) {
            let fallback = policy.sides.fallback.name();
            let before = self.status.read.as_ref().and_then(|read| read.proof.as_ref());
            if self
                .proofs
                .plan(&usage, before.filter(|before| before.registry == fallback))
            {
                self.write.want();
            }
        }
        if !self.may_prove() {
            effects.extend(self.proofs.stop().then_some(Effect::StopProofs));
            return;
        }
        let pods = self.proofs.begin(&policy.proof, &mut self.requests, now);
        effects.extend(pods.into_iter().map(Effect::Prove));
        if self.proofs.complete(now) {
            self.write.want();
        }
    }

    /// Whether there is something to prove: the side that pods are not sent to is the fallback, and what is in use is known.
    fn may_prove(&self) -> bool {
        self.status.standing.active == Side::Primary && self.in_use.is_some()
    }

    /// Follows a request: a pass, and proof pods, that begin after it.
    pub(super) fn follow_request(&mut self, policy: &MirrorPolicy) {
        let Some(since) = self.reconcile.since() else { return };
        self.proofs.request(since);
        if self.passes.last().is_none_or(|pass| pass.begun < since) {
            return self.passes.want_since(since);
        }
        let proves = policy.proof.mode == ProofMode::Pull && self.may_prove();
        if !proves || self.proofs.is_idle() {
            self.reconcile.end();
            self.write.want();
        }
    }

    pub(super) fn proofs_wake_at(&self, policy: &MirrorPolicy) -> Option<Timestamp> {
        let proves = policy.proof.mode == ProofMode::Pull && self.may_prove();
        proves.then(|| self.proofs.wake_at()).flatten()
    }
}
