//! The check that precedes a failback: what is in use is read anew, and then its references on both sides.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::{Blocker, Blockers, Known, blockers, is_digest, needed, within};
use crate::endpoint::distance;
use crate::mirror::event::{ReferenceName, RequestId, Requests};
use crate::mirror::failover::InUseCheck;
use crate::mirror::in_use::InUse;
use crate::mirror::parity::{Ledger, Observed};
use crate::mirror::pause::Pause;
use crate::policy::MirrorPolicy;
use crate::side::{Side, Sides};

/// How long a failback that is held up waits before it looks again, unless something was copied or pushed meanwhile.
const CHECK_AGAIN: Duration = Duration::from_mins(1);

/// What was read of a reference so lately need not be read again for a failback.
const FRESH: Duration = Duration::from_secs(30);

/// References that one check reads at most, those first that were read longest ago. What the pass after the recovery, or a check
/// before this one, knows of the others has to do.
const MOST_READ: usize = 500;

/// Before the list of what is in use is taken for lost.
const IN_USE_LOST_AFTER: Duration = Duration::from_mins(5);

/// The check that precedes a failback.
#[derive(Clone, Debug, Default)]
pub(in crate::mirror) struct FailbackCheck {
    state: State,
    result: Option<InUseCheck>,
    blockers: Blockers,
    again: Option<Pause>,
}

#[derive(Clone, Debug, Default)]
enum State {
    #[default]
    Idle,
    /// What is in use is being read.
    InUse {
        request: RequestId,
        begun: Timestamp,
        patience: Pause,
    },
    /// References are being read.
    Reading(Reading),
}

#[derive(Clone, Debug)]
struct Reading {
    begun: Timestamp,
    /// What was read before this does not count.
    oldest: Timestamp,
    waiting: BTreeSet<ReferenceName>,
    /// Found on neither side. The ledger forgets such tags.
    nowhere: BTreeSet<ReferenceName>,
    /// What holds the failback up, where nothing has to be read: the check ends in the step that it was judged in, so that its
    /// references are looked up once.
    judged: Option<Blockers>,
}

impl FailbackCheck {
    pub(in crate::mirror) fn result(&self) -> Option<&InUseCheck> {
        self.result.as_ref()
    }

    pub(in crate::mirror) fn blockers(&self) -> &Blockers {
        &self.blockers
    }

    /// Begins a check, if one is due; what is in use is to be read with this request.
    pub(in crate::mirror) fn begin(&mut self, requests: &mut Requests, now: Timestamp) -> Option<RequestId> {
        let due = self.again.is_none_or(|pause| pause.is_over(now));
        if !due || !matches!(self.state, State::Idle) {
            return None;
        }
        let request = requests.next();
        self.again = None;
        self.state = State::InUse {
            request,
            begun: now,
            patience: Pause::new(now, IN_USE_LOST_AFTER),
        };
        Some(request)
    }

    /// What is in use could not be read: again in a while. Whether it was asked for by this check.
    pub(in crate::mirror) fn in_use_failed(&mut self, request: RequestId, now: Timestamp) -> bool {
        let asked = self.asked_with(request);
        if asked {
            self.state = State::Idle;
            self.again = Some(Pause::new(now, CHECK_AGAIN));
        }
        asked
    }

    /// Whether this check waits for this list of what is in use.
    pub(in crate::mirror) fn asked_with(&self, wanted: RequestId) -> bool {
        matches!(&self.state, State::InUse { request, .. } if *request == wanted)
    }

    /// What is in use is known: the references to be read before the check is answered. `pass` is when the pass began that
    /// followed the recovery.
    pub(in crate::mirror) fn in_use_read(
        &mut self,
        policy: &MirrorPolicy,
        in_use: &InUse,
        ledger: &Ledger,
        pass: Timestamp,
        now: Timestamp,
    ) -> Vec<ReferenceName> {
        let State::InUse { begun, .. } = self.state else {
            return Vec::new();
        };
        let fresh = begun.checked_sub(FRESH).unwrap_or(Timestamp::MIN);
        let mut old: Vec<(Option<Timestamp>, &str, &str)> = Vec::new();
        let mut judged = Blockers::default();
        for (repository, reference) in needed(policy, in_use) {
            let observations = ledger.observations(repository, reference);
            let at = |side: Side| observations[side].as_ref().map(|(_, at)| *at);
            // When a side was last read; those that were never read come first.
            let at = at(Side::Primary).min(at(Side::Fallback));
            if at.is_none_or(|at| distance(at, now) > FRESH) {
                old.push((at, repository, reference));
            }
            let flaw = ledger.flaw_only_on(Side::Primary, repository, reference);
            let seen = within(&(fresh..=now), observations);
            judged.check(policy, (repository, reference), seen, flaw);
        }
        let all = old.len() <= MOST_READ;
        self.state = State::Reading(Reading {
            begun,
            oldest: if all { fresh } else { pass.min(fresh) },
            waiting: BTreeSet::new(),
            nowhere: BTreeSet::new(),
            judged: old.is_empty().then_some(judged),
        });
        if !all {
            // The next check goes on with those that this one does not come to.
            old.select_nth_unstable(MOST_READ);
            old.truncate(MOST_READ);
        }
        let name = |(_, repository, reference): (_, &str, &str)| ReferenceName {
            repository: repository.to_owned(),
            reference: reference.to_owned(),
        };
        old.into_iter().map(name).collect()
    }

    /// These are being read.
    pub(in crate::mirror) fn wait_for(&mut self, names: impl Iterator<Item = ReferenceName>) {
        if let State::Reading(reading) = &mut self.state {
            reading.waiting.extend(names);
        }
    }

    /// A reference was read on demand.
    pub(in crate::mirror) fn read(&mut self, name: &ReferenceName, seen: &Sides<Observed>) {
        if let State::Reading(reading) = &mut self.state {
            reading.waiting.remove(name);
            if *seen == Sides::from_fn(|_| Observed::Absent) {
                reading.nowhere.insert(name.clone());
            }
        }
        let blocks = |blocker: &Blocker| blocker.repository == name.repository && blocker.reference == name.reference;
        if self.blockers.sample.iter().any(blocks) {
            self.again = None;
        }
    }

    /// A reference could not be read.
    pub(in crate::mirror) fn not_read(&mut self, name: &ReferenceName) {
        if let State::Reading(reading) = &mut self.state {
            reading.waiting.remove(name);
        }
    }

    /// Ends the check if everything that was asked for is read. Whether other references hold the failback up than before.
    pub(in crate::mirror) fn end_if_read(
        &mut self,
        policy: &MirrorPolicy,
        in_use: &InUse,
        ledger: &Ledger,
        now: Timestamp,
    ) -> bool {
        let State::Reading(reading) = &mut self.state else {
            return false;
        };
        if !reading.waiting.is_empty() {
            return false;
        }
        let known = Known {
            ledger,
            read: reading.oldest..=now,
            nowhere: &reading.nowhere,
        };
        let judged = reading.judged.take();
        let blockers = judged.unwrap_or_else(|| blockers(policy, in_use, &known));
        self.result = Some(InUseCheck {
            begun: reading.begun,
            ended: now,
            passed: blockers.total == 0,
            detail: detail(&blockers),
        });
        self.again = (blockers.total > 0).then(|| Pause::new(now, CHECK_AGAIN));
        self.state = State::Idle;
        let changed = self.blockers != blockers;
        self.blockers = blockers;
        changed
    }

    /// Gives up waiting for a list of what is in use that does not come.
    pub(in crate::mirror) fn give_up(&mut self, now: Timestamp) {
        if matches!(&self.state, State::InUse { patience, .. } if patience.is_over(now)) {
            self.state = State::Idle;
        }
    }

    /// When the next check is due, or when the one under way is given up.
    pub(in crate::mirror) fn wake_at(&self) -> Option<Timestamp> {
        match &self.state {
            State::Idle => self.again.map(Pause::end),
            State::InUse { patience, .. } => Some(patience.end()),
            State::Reading(_) => None,
        }
    }

    /// Nothing waits for a failback any more. Whether something held it up.
    pub(in crate::mirror) fn forget(&mut self) -> bool {
        let changed = self.blockers != Blockers::default();
        *self = FailbackCheck::default();
        changed
    }
}

fn detail(blockers: &Blockers) -> String {
    match blockers.sample.first() {
        None => format!("all {} references in use are there", blockers.checked),
        Some(first) => format!(
            "{} of {} references in use hold it up, the first is '{}{}{}' ({})",
            blockers.total,
            blockers.checked,
            first.repository,
            if is_digest(&first.reference) { "@" } else { ":" },
            first.reference,
            first.reason.as_str()
        ),
    }
}
