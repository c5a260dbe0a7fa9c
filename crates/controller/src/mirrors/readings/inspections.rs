//! Inspections of content that several mirrors hold: one looks, the others take over what it found.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use catamaran_core::digest::Digest;
use catamaran_core::mirror::{Depth, Finding, Inspect};
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::side::{Side, Sides};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::Place;
use crate::clock::Clock;

/// What was found of each side.
pub(in crate::mirrors) type Inspection = Sides<Finding>;

/// Inspections under way at a time, over all mirrors: each makes dozens of requests, and a thousand mirrors have two each.
const AT_A_TIME: usize = 8;

/// How long content that was found sound is so for mirrors that ask later.
const SOUND_FOR: Duration = Duration::from_secs(10);

/// Contents of which an outcome is kept, besides those that somebody waits for.
const MOST_KEPT: usize = 1_000;

/// A digest in a repository of two registries, on which of them it is looked at, and how far.
type Content = (Place, Place, Digest, Sides<bool>, Depth);

/// Held by the mirror that looks.
type Turn = Arc<tokio::sync::Mutex<Option<Last>>>;

/// Clones share what they know.
#[derive(Clone, Debug)]
pub(in crate::mirrors) struct Inspections {
    at_a_time: Arc<Semaphore>,
    turns: Arc<Mutex<HashMap<Content, Turn>>>,
}

impl Default for Inspections {
    fn default() -> Inspections {
        Inspections {
            at_a_time: Arc::new(Semaphore::new(AT_A_TIME)),
            turns: Arc::default(),
        }
    }
}

/// What the last inspection of some content found.
#[derive(Debug)]
struct Last {
    begun: Timestamp,
    ended: Timestamp,
    outcome: Inspection,
    /// Nothing is wrong on any side that was looked at.
    is_sound: bool,
}

impl Last {
    /// Whether this also answers who asked at that time. What was missing may have come in the meantime, even while it was looked
    /// for; content that is sound seldom breaks.
    fn answers(&self, asked: Timestamp, now: Timestamp) -> bool {
        let is_fresh = now.duration_since(self.ended).unsigned_abs() < SOUND_FOR;
        self.begun >= asked || self.is_sound && (self.ended >= asked || is_fresh)
    }
}

impl Inspections {
    /// What `inspect` finds, unless another mirror's inspection of the same content answers as well. Waits for that and for its turn.
    pub(in crate::mirrors) async fn share(
        &self,
        policy: &MirrorPolicy,
        wanted: &Inspect,
        clock: Clock,
        inspect: impl Future<Output = Inspection>,
    ) -> Inspection {
        let asked = clock.now();
        let turn = self.turn(content(policy, wanted));
        let mut last = turn.lock().await;
        if let Some(last) = last.as_ref().filter(|last| last.answers(asked, clock.now())) {
            return last.outcome.clone();
        }
        // Nobody closes it.
        let _permit = self.at_a_time.acquire().await.ok();
        let begun = clock.now();
        let outcome = inspect.await;
        *last = Some(Last {
            begun,
            ended: clock.now(),
            outcome: outcome.clone(),
            is_sound: is_sound(&outcome, wanted.held.on),
        });
        outcome
    }

    fn turn(&self, content: Content) -> Turn {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.len() >= MOST_KEPT && !turns.contains_key(&content) {
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        Arc::clone(turns.entry(content).or_default())
    }
}

fn is_sound(outcome: &Inspection, on: Sides<bool>) -> bool {
    Side::ALL
        .into_iter()
        .all(|side| !on[side] || outcome[side] == Finding::Sound)
}

fn content(policy: &MirrorPolicy, wanted: &Inspect) -> Content {
    let held = &wanted.held;
    let place = |side: Side| Place::new(&policy.sides[side], &policy.path(side, &held.repository));
    (
        place(Side::Primary),
        place(Side::Fallback),
        held.digest.clone(),
        held.on,
        wanted.depth,
    )
}

#[cfg(test)]
mod tests;
