//! A side that is a pull-through cache: what it is asked for ahead of pods, and whether it lies where the cloud caches the other side.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use super::effect::Effect;
use super::event::{CacheRule, PrewarmOutcome, RequestId, Requests};
use super::in_use::InUse;
use super::parity::Ledger;
use super::pause::Pause;
use super::prewarm::{Placement, Pull, Tried, due};
use crate::policy::MirrorPolicy;
use crate::side::Side;

/// Tags asked for at a time: each may make the cache import a whole image.
const AT_A_TIME: usize = 2;

/// Between two reads of the cloud's rules.
const RULES_EVERY: Duration = Duration::from_hours(1);

/// The same, while what was found does not fit.
const RULES_AGAIN: Duration = Duration::from_mins(5);

/// A request that has not ended after this is taken for lost: a cache may import a whole image first.
const LOST_AFTER: Duration = Duration::from_hours(1);

/// What is done about a mirror's pull-through cache.
#[derive(Clone, Debug, Default)]
pub(super) struct CacheCare {
    tried: Tried,
    left: VecDeque<Pull>,
    under_way: Vec<(Pull, Pause)>,
    rule: Option<CacheRule>,
    rule_under_way: Option<(RequestId, Pause)>,
    /// Until the rule is read again.
    rule_again: Option<Pause>,
}

/// What the care of a cache goes by.
pub(super) struct Care<'a> {
    pub(super) policy: &'a MirrorPolicy,
    pub(super) ledger: &'a Ledger,
    pub(super) in_use: &'a InUse,
    pub(super) both_available: bool,
}

impl CacheCare {
    /// The cloud's rule, if it was read.
    pub(super) fn rule(&self) -> Option<&CacheRule> {
        self.rule.as_ref()
    }

    /// After a pass: the rule if it is due, and the tags to ask for if both sides answer. The cache can't import from an upstream
    /// that is away.
    pub(super) fn pass_ended(&mut self, care: &Care<'_>, requests: &mut Requests, now: Timestamp) -> Vec<Effect> {
        let Some(side) = care.policy.cache() else {
            return Vec::new();
        };
        self.under_way.retain(|(_, patience)| !patience.is_over(now));
        let mut effects = Vec::new();
        let reading = self.rule_under_way.is_some_and(|(_, patience)| !patience.is_over(now));
        let rests = self.rule_again.is_some_and(|pause| !pause.is_over(now));
        if has_rules(care.policy, side) && !reading && !rests {
            let request = requests.next();
            self.rule_under_way = Some((request, Pause::new(now, LOST_AFTER)));
            effects.push(Effect::ReadRule { request, side });
        }
        let prewarms = care.policy.sides[side].prewarm && care.both_available;
        if prewarms && self.left.is_empty() && self.under_way.is_empty() {
            self.tried.forget(now);
            self.left = due(care.policy, care.ledger, care.in_use, &self.tried, now).into();
        }
        effects.extend(self.next(now));
        effects
    }

    fn next(&mut self, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        while self.under_way.len() < AT_A_TIME {
            let Some(pull) = self.left.pop_front() else { break };
            self.under_way.push((pull.clone(), Pause::new(now, LOST_AFTER)));
            self.tried.note(pull.clone(), now);
            effects.push(Effect::Prewarm(pull));
        }
        effects
    }

    /// A tag was asked for. After a failure that the next request would meet, too, the rest waits for the next pass. None if the
    /// tag is not one of those under way.
    pub(super) fn prewarmed(&mut self, pull: &Pull, outcome: PrewarmOutcome, now: Timestamp) -> Option<Vec<Effect>> {
        let index = self.under_way.iter().position(|(other, _)| other == pull)?;
        self.under_way.swap_remove(index);
        if matches!(outcome, PrewarmOutcome::Throttled | PrewarmOutcome::Failed) {
            self.left.clear();
        }
        Some(self.next(now))
    }

    /// The rule was read. Whether it changed.
    pub(super) fn rule_read(&mut self, request: RequestId, rule: CacheRule, now: Timestamp) -> bool {
        let asked = self.rule_under_way.take_if(|(under_way, _)| *under_way == request);
        if asked.is_none() {
            return false;
        }
        let fits = matches!(&rule, CacheRule::Read { placement, .. } if *placement == Placement::Fits);
        self.rule_again = Some(Pause::new(now, if fits { RULES_EVERY } else { RULES_AGAIN }));
        let changed = self.rule.as_ref() != Some(&rule);
        self.rule = Some(rule);
        changed
    }

    /// The mapping has changed, or another replica leads.
    pub(super) fn forget(&mut self) {
        *self = CacheCare::default();
    }
}

/// Whether the cloud can be asked for its rules: with an identity, not with a password.
fn has_rules(policy: &MirrorPolicy, cache: Side) -> bool {
    let side = &policy.sides[cache];
    side.provider.facts().has_cache_rules && side.credentials_secret.is_none()
}

#[cfg(test)]
mod tests;
