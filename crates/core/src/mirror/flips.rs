//! Which side is active, and the status write that carries it out.

use std::time::Duration;

use jiff::Timestamp;

use super::event::{RequestId, Requests, WriteProblem};
use super::failover::Standing;
use super::in_use::InUse;
use super::parity::{Canary, Ledger};
use super::pause::Pause;
use crate::policy::MirrorPolicy;
use crate::routing::evidence::{Flaw, Presence};
use crate::side::Side;

/// After a status could not be written; doubles with each further failure, at most [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The longest pause between two attempts to write a status.
const LONGEST_RETRY: Duration = Duration::from_mins(1);

/// After a conflict, which the object that is read anew settles.
const RETRY_AFTER_CONFLICT: Duration = Duration::from_millis(100);

/// Conflicts in a row after which they are failures like any other.
const MOST_CONFLICTS: u32 = 3;

/// Before a write is taken for lost.
const WRITE_LOST_AFTER: Duration = Duration::from_mins(1);

/// How the status is written: one write at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct StatusWrite {
    /// Something may have changed that the status says.
    wanted: bool,
    under_way: Option<(RequestId, Pause)>,
    failures: u32,
    retry: Option<Pause>,
}

impl StatusWrite {
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// Begins a write, if one is wanted and may begin now.
    pub(super) fn begin(&mut self, requests: &mut Requests, now: Timestamp) -> Option<RequestId> {
        let rests = self.retry.is_some_and(|pause| !pause.is_over(now));
        if !self.wanted || self.under_way.is_some() || rests {
            return None;
        }
        let request = requests.next();
        self.wanted = false;
        self.under_way = Some((request, Pause::new(now, WRITE_LOST_AFTER)));
        Some(request)
    }

    /// Whether this write is under way.
    pub(super) fn is_under_way(&self, request: RequestId) -> bool {
        self.under_way.is_some_and(|(under_way, _)| under_way == request)
    }

    /// A write has ended. Whether it is the one that was under way.
    pub(super) fn ended(&mut self, request: RequestId, result: Result<(), WriteProblem>, now: Timestamp) -> bool {
        if !self.is_under_way(request) {
            return false;
        }
        self.under_way = None;
        match result {
            Ok(()) => {
                self.failures = 0;
                self.retry = None;
            }
            Err(problem) => self.failed(problem.conflict, now),
        }
        true
    }

    fn failed(&mut self, conflict: bool, now: Timestamp) {
        self.wanted = true;
        self.failures = self.failures.saturating_add(1);
        let doubled = FIRST_RETRY.saturating_mul(1 << (self.failures - 1).min(6));
        let pause = if conflict && self.failures < MOST_CONFLICTS {
            RETRY_AFTER_CONFLICT
        } else {
            doubled.min(LONGEST_RETRY)
        };
        self.retry = Some(Pause::new(now, pause));
    }

    /// Gives up a write that does not end. Whether there was one.
    pub(super) fn give_up(&mut self, now: Timestamp) -> bool {
        let lost = self.under_way.take_if(|(_, patience)| patience.is_over(now)).is_some();
        if lost {
            self.failed(false, now);
        }
        lost
    }

    /// When to begin the write that waits, or to give up the one that is under way.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        match self.under_way {
            Some((_, patience)) => Some(patience.end()),
            None => self.retry.filter(|_| self.wanted).map(Pause::end),
        }
    }

    pub(super) fn forget(&mut self) {
        *self = StatusWrite::default();
    }
}

/// What is known of both sides' content: by what this process has read and, of sides that it has not read, by what an earlier
/// leader published.
pub(super) struct Known<'a> {
    pub(super) ledger: &'a Ledger,
    pub(super) canary: Option<&'a Canary>,
}

impl Known<'_> {
    /// Whether a side is known to hold something that is in use, and to serve it as it is. References of which nothing shows that either side has them
    /// don't count; where none is left, any selected tag will do.
    pub(super) fn serves(&self, side: Side, in_use: Option<&InUse>) -> bool {
        let mut lacks = false;
        for (repository, reference, _) in in_use.into_iter().flat_map(InUse::each) {
            let known = self.ledger.known(repository, reference);
            let presence = known.presence;
            match (presence[side], presence[side.other()]) {
                (Presence::Present, _) if known.flaws[side] == Some(Flaw::Untrusted) => lacks = true,
                (Presence::Present, _) => return true,
                (Presence::Absent, Presence::Absent) | (Presence::Unknown, Presence::Absent | Presence::Unknown) => {}
                (Presence::Absent, Presence::Present | Presence::Unknown) | (Presence::Unknown, Presence::Present) => {
                    lacks = true;
                }
            }
        }
        let canary = |canary: &Canary| {
            let known = self.ledger.known(&canary.repository, &canary.tag);
            known.presence[side] == Presence::Present
        };
        !lacks && (self.ledger.present(side) > 0 || self.canary.is_some_and(canary))
    }
}

/// The side that is active under `policy`, where the status names the registry: sides may have changed places in the spec since.
pub fn active_side(policy: &MirrorPolicy, active: Side, registry: Option<&str>) -> Side {
    let Some(registry) = registry else { return active };
    let is = |side: Side| policy.sides[side].name() == registry;
    match (is(active), is(active.other())) {
        (false, true) => active.other(),
        _ => active,
    }
}

/// What stands by a status and by a flip that is stored apart from it: the later one. A flip of which the status does not tell yet is
/// stored apart where many mirrors flip at once.
pub fn latest(status: Option<Standing>, apart: Option<&Standing>) -> Option<Standing> {
    let epoch = status.as_ref().map_or(0, |standing| standing.epoch);
    match apart {
        Some(apart) if apart.epoch > epoch => Some(apart.clone()),
        _ => status,
    }
}

/// Whether a status has gone back in time: restored from a backup, or wiped.
pub(super) fn regressed(known: &Standing, read: Option<&Standing>) -> bool {
    read.is_none_or(|read| {
        let registries = read.registry.as_ref().zip(known.registry.as_ref());
        let other = read.active != known.active || registries.is_some_and(|(read, known)| read != known);
        read.epoch < known.epoch || read.epoch == known.epoch && other
    })
}

/// What stands after a status has gone back: the side that pods are sent to by everybody who has seen the later epoch, in an epoch
/// above it.
pub(super) fn restored(known: &Standing) -> Standing {
    Standing {
        epoch: known.epoch.saturating_add(1),
        ..known.clone()
    }
}

#[cfg(test)]
mod tests;
