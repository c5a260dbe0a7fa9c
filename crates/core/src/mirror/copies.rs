//! Rounds of copies: which missing tags are being copied, what came of it, and what is reported.
//!
//! A round follows each pass that found missing tags. It ends when all were tried, when a side stops answering, or when this replica
//! leads no more; the next pass plans what is left.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use super::effect::{Announcement, Effect};
use super::event::{CopyDone, CopyEnded, CopyFailure};
use super::pause::Pause;
use super::repair::{Attempts, Errand, Plan, Progress, list, name, tags};
use crate::endpoint::distance;
use crate::side::Sides;

/// The time between two reports while a round is under way.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// After so many failures in a row that are a registry's, the round leaves that direction alone: what one tag is refused for the
/// next ones are refused for, too.
const MOST_IN_A_ROW: usize = 8;

/// A copy that has not ended after this is taken for lost: it has a limit of its own, of half a day.
const LOST_AFTER: Duration = Duration::from_hours(13);

/// Names in an Event.
const MOST_NAMES: usize = 5;

/// The copying of one mirror.
#[derive(Clone, Debug, Default)]
pub(super) struct Copies {
    attempts: Attempts,
    progress: Option<Progress>,
    round: Option<Round>,
}

#[derive(Clone, Debug, Default)]
struct Round {
    left: VecDeque<Errand>,
    /// Copies under way, until each is taken for lost.
    running: Vec<(Errand, Pause)>,
    in_a_row: Sides<usize>,
    reported: Option<Timestamp>,
    copied: usize,
    names: Vec<String>,
    bytes: u64,
    failed: usize,
    failure: Option<String>,
}

impl Copies {
    pub(super) fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    pub(super) fn attempts_mut(&mut self) -> &mut Attempts {
        &mut self.attempts
    }

    /// How it goes, for status.
    pub(super) fn progress(&self) -> Option<&Progress> {
        self.progress.as_ref()
    }

    /// Whether a round is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.round.is_some()
    }

    /// Nothing to copy now. Whether that is news.
    pub(super) fn idle(&mut self, plan: &Plan, dry_run: bool) -> bool {
        let after = Progress::idle(self.progress.as_ref(), plan, self.attempts.len(), dry_run);
        let changed = self.progress.as_ref() != Some(&after);
        self.progress = Some(after);
        changed
    }

    /// Reports what would be copied, once for each plan.
    pub(super) fn planned(&mut self, plan: &Plan, now: Timestamp) -> Option<Effect> {
        let progress = Progress::planned(plan, now);
        let same = |before: &Progress| before.plans_the_same(&progress);
        if self.progress.as_ref().is_some_and(same) {
            return None;
        }
        let note = progress.planned_note();
        self.progress = Some(progress);
        Some(Effect::Announce(Announcement::CopyPlanned(note)))
    }

    /// Begins a round.
    pub(super) fn begin(&mut self, plan: Plan, now: Timestamp) {
        self.progress = Some(Progress::begun(&plan, self.attempts.len(), now));
        self.round = Some(Round {
            left: plan.errands.into(),
            reported: Some(now),
            ..Round::default()
        });
    }

    /// The copies to begin now, at most `at_a_time` under way; none are begun any more if `go_on` is false.
    pub(super) fn next(&mut self, at_a_time: usize, go_on: bool, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(round) = &mut self.round else { return effects };
        if !go_on {
            round.left.clear();
        }
        while round.running.len() < at_a_time.max(1) {
            let Some(errand) = round.left.pop_front() else { break };
            if round.in_a_row[errand.to] < MOST_IN_A_ROW {
                round.running.push((errand.clone(), Pause::new(now, LOST_AFTER)));
                effects.push(Effect::Copy(errand));
            }
        }
        if round.running.is_empty() {
            effects.extend(round.announcements());
            self.round = None;
        }
        effects
    }

    /// Takes in how a copy ended: whether it is time to report. None if it is not one of those under way.
    pub(super) fn ended(&mut self, ended: &CopyEnded, now: Timestamp) -> Option<bool> {
        let errand = &ended.errand;
        let round = self.round.as_mut()?;
        let index = round.running.iter().position(|(running, _)| running == errand)?;
        round.running.swap_remove(index);
        match &ended.result {
            Ok(_) => self.attempts.succeeded(errand),
            Err(_) => self.attempts.failed(errand, now),
        }
        let failed = self.attempts.len();
        let progress = self.progress.get_or_insert_default();
        match &ended.result {
            Ok(done) => {
                round.succeeded(errand, *done);
                progress.succeeded(failed);
            }
            Err(failure) => {
                let named = format!("{}: {}", name(errand), failure.message);
                round.failed(errand, failure, &named);
                progress.failed(failed, &named);
            }
        }
        let due = round
            .reported
            .is_none_or(|reported| distance(reported, now) >= REPORT_EVERY);
        if due {
            round.reported = Some(now);
        }
        Some(due)
    }

    /// Gives up copies that are taken for lost. Whether there were any.
    pub(super) fn give_up(&mut self, now: Timestamp) -> bool {
        let Some(round) = &mut self.round else { return false };
        let before = round.running.len();
        round.running.retain(|(_, patience)| !patience.is_over(now));
        round.running.len() < before
    }

    /// When the oldest copy is taken for lost.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        let running = self.round.iter().flat_map(|round| &round.running);
        running.map(|(_, patience)| patience.end()).min()
    }

    /// Drops the round: another replica leads, or the mapping has changed.
    pub(super) fn stop(&mut self) -> bool {
        self.round.take().is_some()
    }

    /// The mapping has changed: what was tried and reported was about other repositories.
    pub(super) fn forget(&mut self) {
        *self = Copies::default();
    }
}

impl Round {
    fn succeeded(&mut self, errand: &Errand, done: CopyDone) {
        self.in_a_row[errand.to] = 0;
        self.copied += 1;
        self.bytes = self.bytes.saturating_add(done.bytes);
        if self.names.len() < MOST_NAMES {
            self.names.push(name(errand));
        }
    }

    fn failed(&mut self, errand: &Errand, failure: &CopyFailure, named: &str) {
        if failure.of_registry {
            self.in_a_row[errand.to] += 1;
        }
        self.failed += 1;
        self.failure.get_or_insert_with(|| named.to_owned());
    }

    fn announcements(&self) -> impl Iterator<Item = Effect> {
        let copied = (self.copied > 0).then(|| {
            let names = list(&self.names, self.copied);
            Announcement::TagsCopied(format!(
                "copied {} ({} bytes sent): {names}",
                tags(self.copied),
                self.bytes
            ))
        });
        let failed = self.failure.as_ref().map(|failure| {
            Announcement::CopyFailed(match self.failed {
                1 => format!("failed to copy {failure}"),
                n => format!("failed to copy {}, the first of them {failure}", tags(n)),
            })
        });
        copied.into_iter().chain(failed).map(Effect::Announce)
    }
}

#[cfg(test)]
mod tests;
