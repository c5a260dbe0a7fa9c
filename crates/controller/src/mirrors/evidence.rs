//! The evidence of a leader's mirror on its way out: what was published, and what is still to be stored.
//!
//! A first pass over many tags changes all groups with each piece of a listing. What is made of that for the webhook, and written
//! for the others, follows a change at once where nothing was done shortly before, and takes a tenth of the time otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use catamaran_core::mirror::Mirror;
use catamaran_core::routing::evidence::{Evidence, Group, GroupPlace};
use tokio::time::Instant;

use crate::publish::{EvidenceWriteError, Written};

/// So many times as long as something took, nothing of its kind follows.
const PAUSE: u32 = 9;

/// The longest of these pauses: an API server that is slow must not keep the replicas from what is known.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Groups of the evidence by their place.
pub type Groups = BTreeMap<GroupPlace, Arc<Group>>;

/// The groups of one mirror.
#[derive(Debug, Default)]
pub struct EvidenceOut {
    groups: Groups,
    /// Groups that changed since they were last published.
    changed: BTreeSet<GroupPlace>,
    publish_not_before: Option<Instant>,
    unstored: Groups,
    /// When the write under way began.
    storing: Option<Instant>,
    store_not_before: Option<Instant>,
}

impl EvidenceOut {
    /// Notes groups that changed.
    pub fn touch(&mut self, places: &[GroupPlace]) {
        self.changed.extend(places);
    }

    /// Takes over the groups that changed; all of the evidence. None if none did, or while that must wait.
    pub fn update(&mut self, mirror: &Mirror) -> Option<Evidence> {
        let begun = Instant::now();
        if self.changed.is_empty() || self.publish_not_before.is_some_and(|at| at > begun) {
            return None;
        }
        let all: BTreeSet<GroupPlace> = mirror.groups().into_iter().collect();
        for place in std::mem::take(&mut self.changed).intersection(&all) {
            let group = Arc::new(mirror.group(*place));
            self.groups.insert(*place, Arc::clone(&group));
            self.unstored.insert(*place, group);
        }
        self.groups.retain(|place, _| all.contains(place));
        self.unstored.retain(|place, _| all.contains(place));
        let evidence = self.groups.values().cloned().collect();
        self.publish_not_before = Some(Instant::now() + pause(begun.elapsed()));
        Some(evidence)
    }

    /// What was stored is gone or was changed by others: all of it is stored again.
    pub fn lost(&mut self) {
        self.unstored = self.groups.clone();
    }

    /// What is to be stored now, and all places that there are. None while a write is under way or must wait.
    pub fn begin(&mut self) -> Option<(Groups, Vec<GroupPlace>)> {
        let now = Instant::now();
        if self.storing.is_some() || self.unstored.is_empty() || self.store_not_before.is_some_and(|at| at > now) {
            return None;
        }
        self.storing = Some(now);
        Some((
            std::mem::take(&mut self.unstored),
            self.groups.keys().copied().collect(),
        ))
    }

    /// A write has ended; what to report of it, if it is worth a condition.
    pub fn ended(&mut self, result: Result<Written, EvidenceWriteError>, groups: Groups) -> Option<Result<(), String>> {
        let took = self.storing.take().map(|begun| begun.elapsed()).unwrap_or_default();
        match result {
            Ok(written) => {
                for place in written.missing {
                    if let Some(group) = self.groups.get(&place) {
                        self.unstored.entry(place).or_insert_with(|| Arc::clone(group));
                    }
                }
                self.store_after(pause(took));
                Some(Ok(()))
            }
            Err(error) => {
                for (place, group) in groups {
                    if self.groups.contains_key(&place) {
                        self.unstored.entry(place).or_insert(group);
                    }
                }
                self.store_after(error.retry_after);
                let worth = error.is_worth_a_condition();
                worth.then(|| Err(error.failure.message().to_owned()))
            }
        }
    }

    fn store_after(&mut self, pause: Duration) {
        self.store_not_before = Some(Instant::now() + pause);
    }

    /// When what is left may be published or stored.
    pub fn wake_at(&self) -> Option<Instant> {
        let publish = self.publish_not_before.filter(|_| !self.changed.is_empty());
        let waits = !self.unstored.is_empty() && self.storing.is_none();
        let store = self.store_not_before.filter(|_| waits);
        publish.into_iter().chain(store).min()
    }
}

/// The pause after something that took so long.
fn pause(took: Duration) -> Duration {
    took.saturating_mul(PAUSE).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use catamaran_core::digest::Digest;
    use catamaran_core::mirror::parity::Observed;
    use catamaran_core::mirror::{Effect, Event, ReferenceName, Resolved};
    use catamaran_core::side::Sides;
    use jiff::Timestamp;
    use tokio::time::advance;

    use super::*;
    use crate::publish::testserver::policy_of;

    fn leading() -> Mirror {
        let policy = Arc::new(policy_of("apps"));
        let mut mirror = Mirror::new(policy.id.clone());
        for event in [
            Event::Spec { policy, generation: 1 },
            Event::Status(Box::default()),
            Event::Prior(Evidence::default()),
            Event::Leading(true),
        ] {
            mirror.handle(event, Timestamp::UNIX_EPOCH);
        }
        mirror
    }

    /// A tag is read for the first time; the groups that this changes.
    fn read(mirror: &mut Mirror, tag: &str) -> Vec<GroupPlace> {
        let references = vec![ReferenceName {
            repository: "web".to_owned(),
            reference: tag.to_owned(),
        }];
        let urgent = true;
        let effects = mirror.handle(Event::Wanted { references, urgent }, Timestamp::UNIX_EPOCH);
        let mut reads = effects.into_iter().filter_map(|effect| match effect {
            Effect::Resolve(resolve) => Some(resolve),
            _ => None,
        });
        let wanted = reads.next_back().expect("the tag is read");
        let resolved = Resolved {
            request: wanted.request,
            name: wanted.name,
            seen: Sides::from_fn(|_| Observed::Present(Digest::of(tag.as_bytes()))),
            served: Sides::default(),
            failures: Sides::default(),
        };
        let effects = mirror.handle(Event::Resolved(Box::new(resolved)), Timestamp::UNIX_EPOCH);
        let changed = effects.into_iter().find_map(|effect| match effect {
            Effect::WriteEvidence(places) => Some(places),
            _ => None,
        });
        changed.expect("the evidence changes")
    }

    #[tokio::test(start_paused = true)]
    async fn change_is_published_and_stored_at_once() {
        let (mut mirror, mut out) = (leading(), EvidenceOut::default());
        assert!(out.update(&mirror).is_none(), "nothing has changed");
        out.touch(&read(&mut mirror, "1"));
        assert_eq!(out.update(&mirror).map(|evidence| evidence.len()), Some(2));
        assert!(out.begin().is_some());
        assert!(out.update(&mirror).is_none(), "it is published");
        assert!(out.begin().is_none(), "it is being stored");
        assert_eq!(out.wake_at(), None);
    }

    #[test]
    fn pause_is_nine_times_as_long_and_at_most_three_seconds() {
        let pauses = [0, 1, 300, 60_000].map(|millis| pause(Duration::from_millis(millis)).as_millis());
        assert_eq!(pauses, [0, 9, 2_700, 3_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn store_after_a_long_write_waits_nine_times_as_long() {
        let (mut mirror, mut out) = (leading(), EvidenceOut::default());
        out.touch(&read(&mut mirror, "1"));
        out.update(&mirror);
        let (groups, _) = out.begin().expect("there is something to store");
        advance(Duration::from_millis(100)).await;
        out.ended(Ok(Written::default()), groups);
        assert_eq!(out.wake_at(), None, "nothing is left");
        out.touch(&read(&mut mirror, "2"));
        assert!(
            out.update(&mirror).is_some(),
            "the webhook of the leader does not wait for that"
        );
        assert!(out.begin().is_none());
        assert_eq!(out.wake_at(), Some(Instant::now() + Duration::from_millis(900)));
        advance(Duration::from_millis(900)).await;
        assert!(out.begin().is_some());
    }
}
