//! References that are read on demand: what a waiting pod uses and no pass has read, what a kubelet was told does not exist, what a
//! registry notified us about, what a failback needs to know now.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::effect::{Effect, Expected, Resolve};
use super::event::{ReferenceName, RequestId, Requests};
use super::failback::is_digest;
use super::parity::{Ledger, Observed};
use super::pause::Pause;
use crate::endpoint::distance;
use crate::policy::MirrorPolicy;
use crate::routing::mapping::LatestRule;
use crate::side::{Side, Sides};

/// References that may wait; more are dropped, and the next pass finds them.
const LONGEST_QUEUE: usize = 1024;

/// References read at a time.
const AT_A_TIME: usize = 16;

/// A read that has not ended after this is taken for lost. Longer than a request waits for its registry's budget.
const LOST_AFTER: Duration = Duration::from_mins(5);

/// A reference that both sides were read for so lately is not read again.
const RECENT: Duration = Duration::from_secs(5);

/// The same, where a kubelet was told that it does not exist: a new pod of the same image need not ask again.
const RECENT_URGENT: Duration = Duration::from_secs(1);

/// What was read on demand so lately is looked after like what is in use: the list of that may be older.
const LATELY: Duration = Duration::from_mins(1);

/// Why a reference is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It is used and not known well enough.
    Used,
    /// A kubelet was told that it does not exist.
    Urgent,
    /// It has changed since it was read, or was never served: it is read however lately it was.
    Changed,
}

/// The references of one mirror that are to be read.
#[derive(Clone, Debug, Default)]
pub(super) struct Verification {
    urgent: VecDeque<ReferenceName>,
    queue: VecDeque<ReferenceName>,
    waiting: BTreeSet<ReferenceName>,
    under_way: BTreeMap<RequestId, (ReferenceName, Pause)>,
    /// References that were read.
    lately: VecDeque<(ReferenceName, Pause)>,
}

impl Verification {
    /// Adds references; what the mirror does not select, what waits already and what was just read is left out.
    pub(super) fn want(
        &mut self,
        references: impl IntoIterator<Item = ReferenceName>,
        cause: Cause,
        policy: &MirrorPolicy,
        ledger: &Ledger,
        now: Timestamp,
    ) {
        let mut rules = LatestRule::default();
        for name in references {
            let rule = rules.of(policy, &name.repository);
            let selected = is_digest(&name.reference) || policy.selects(rule, &name.reference);
            let full = self.waiting.len() >= LONGEST_QUEUE;
            let pending = match cause {
                // What is under way may have been read before it changed.
                Cause::Changed => self.waiting.contains(&name),
                Cause::Used | Cause::Urgent => self.is_pending(&name),
            };
            if !selected || full || pending || is_recent(ledger, &name, cause, now) {
                continue;
            }
            self.waiting.insert(name.clone());
            match cause {
                Cause::Used => self.queue.push_back(name),
                Cause::Urgent | Cause::Changed => self.urgent.push_back(name),
            }
        }
    }

    /// Whether a reference waits or is being read.
    pub(super) fn is_pending(&self, name: &ReferenceName) -> bool {
        self.waiting.contains(name) || self.under_way.values().any(|(other, _)| other == name)
    }

    /// Reads to begin now.
    pub(super) fn begin(&mut self, requests: &mut Requests, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        while self.under_way.len() < AT_A_TIME {
            let Some(name) = self.urgent.pop_front().or_else(|| self.queue.pop_front()) else {
                break;
            };
            let request = requests.next();
            self.waiting.remove(&name);
            self.under_way
                .insert(request, (name.clone(), Pause::new(now, LOST_AFTER)));
            effects.push(Effect::Resolve(Resolve {
                request,
                pass: None,
                name,
                ask: Sides {
                    primary: Some(Expected::Present),
                    fallback: Some(Expected::Present),
                },
                seen: Sides::from_fn(|_| Observed::Unknown),
            }));
        }
        effects
    }

    /// A read has ended. Whether it was one of these.
    pub(super) fn ended(&mut self, request: RequestId, now: Timestamp) -> bool {
        let Some((name, _)) = self.under_way.remove(&request) else {
            return false;
        };
        self.lately.retain(|(_, pause)| !pause.is_over(now));
        self.lately.push_back((name, Pause::new(now, LATELY)));
        true
    }

    /// References that were read lately.
    pub(super) fn lately(&self, now: Timestamp) -> impl Iterator<Item = &ReferenceName> {
        let lately = self.lately.iter().filter(move |(_, pause)| !pause.is_over(now));
        lately.map(|(name, _)| name)
    }

    /// Gives up reads that are taken for lost; the references.
    pub(super) fn give_up(&mut self, now: Timestamp) -> Vec<ReferenceName> {
        let gone = self.under_way.extract_if(.., |_, (_, patience)| patience.is_over(now));
        gone.map(|(_, (name, _))| name).collect()
    }

    /// When the oldest read is taken for lost.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.under_way.values().map(|(_, patience)| patience.end()).min()
    }

    /// Drops everything: another replica leads, or the mapping has changed.
    pub(super) fn forget(&mut self) {
        *self = Verification::default();
    }
}

fn is_recent(ledger: &Ledger, name: &ReferenceName, cause: Cause, now: Timestamp) -> bool {
    let recent = match cause {
        Cause::Used => RECENT,
        Cause::Urgent => RECENT_URGENT,
        Cause::Changed => return false,
    };
    let observations = ledger.observations(&name.repository, &name.reference);
    let is_recent = |side: Side| {
        observations[side]
            .as_ref()
            .is_some_and(|(_, at)| distance(*at, now) <= recent)
    };
    Side::ALL.into_iter().all(is_recent)
}

#[cfg(test)]
mod tests;
