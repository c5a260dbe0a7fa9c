//! Which status of a mirror this replica routes by, when the epoch that it sees falls.
//!
//! Epochs only grow, so a lower one is either a list from the past or a status that was restored or wiped. The first must
//! not take the active side back; the second must win in the end, or replicas would send pods to different sides until
//! the epoch has caught up. The rule:
//!
//! * A status with the same epoch or a higher one is followed at once.
//! * A lower one is held back until a consistent read of the API server shows the same epoch and side, or until it has
//!   stood for [`STANDS`] while the watch of mirrors was answered.
//! * Meanwhile everything that the route takes from the status stays as it was.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use catamaran_api::conditions;
use catamaran_api::mirror::RegistryMirror;
use catamaran_core::mirror::active_side;
use catamaran_core::mirror::failover::Standing;
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::routing::Route;
use catamaran_core::routing::evidence::{Evidence, MappingId};
use catamaran_core::side::{Side, Sides};
use tokio::time::Instant;

/// How long a lower epoch stands before it is followed without a consistent read.
pub(crate) const STANDS: Duration = Duration::from_secs(30);

/// What a route takes from a mirror's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouteStatus {
    /// The side that pods are sent to.
    pub active: Side,
    /// The registry that this side was: sides may have changed places in the spec since.
    pub registry: Option<String>,
    /// How often it has changed, from 1.
    pub epoch: u64,
    /// Sides that the leader found unavailable.
    pub unavailable: Sides<bool>,
    /// Mappings of which a side has served a manifest.
    pub observed: Arc<BTreeSet<MappingId>>,
}

impl RouteStatus {
    /// Reads a mirror's status; one without a status begins on its primary.
    pub fn of(mirror: &RegistryMirror) -> RouteStatus {
        let status = mirror.status.clone().unwrap_or_default();
        let is_false = |kind: &str| {
            let condition = status.conditions.iter().find(|condition| condition.type_ == kind);
            condition.is_some_and(|condition| condition.status == "False")
        };
        RouteStatus {
            active: status.active.unwrap_or(Side::Primary),
            registry: status.active_registry.clone(),
            epoch: u64::try_from(status.epoch).unwrap_or(0).max(1),
            unavailable: Sides {
                primary: is_false(conditions::PRIMARY_AVAILABLE),
                fallback: is_false(conditions::FALLBACK_AVAILABLE),
            },
            observed: Arc::new(
                status
                    .observed_mappings
                    .iter()
                    .filter_map(|id| id.parse().ok())
                    .collect(),
            ),
        }
    }

    /// The same with a flip that is stored apart from the status, if that is later.
    pub fn with(self, flip: Option<&Standing>) -> RouteStatus {
        match flip {
            Some(flip) if flip.epoch > self.epoch => RouteStatus {
                active: flip.active,
                registry: flip.registry.clone(),
                epoch: flip.epoch,
                ..self
            },
            _ => self,
        }
    }

    /// The active side under this policy, and which sides are unavailable: both stay with their registries where the sides
    /// have changed places.
    fn under(&self, policy: &MirrorPolicy) -> (Side, Sides<bool>) {
        let active = active_side(policy, self.active, self.registry.as_deref());
        if active == self.active {
            return (active, self.unavailable);
        }
        (active, Sides::from_fn(|side| self.unavailable[side.other()]))
    }

    /// The route of a mirror with this status.
    pub fn route(&self, policy: &Arc<MirrorPolicy>, evidence: Arc<Evidence>) -> Route {
        let (active, unavailable) = self.under(policy);
        Route {
            policy: Arc::clone(policy),
            active,
            epoch: self.epoch,
            evidence,
            observed: Arc::clone(&self.observed),
            unavailable,
        }
    }

    /// Whether a consistent read that shows `other` proves this one.
    fn is_proven_by(&self, other: &RouteStatus) -> bool {
        (self.active, self.epoch) == (other.active, other.epoch)
    }
}

/// The status in force, and a lower epoch that waits to be believed.
#[derive(Clone, Debug)]
pub(crate) struct FollowedStatus {
    current: RouteStatus,
    lower: Option<LowerEpoch>,
}

#[derive(Clone, Debug)]
struct LowerEpoch {
    status: RouteStatus,
    since: Instant,
}

impl FollowedStatus {
    /// Follows the first status that was seen, whatever its epoch.
    pub fn new(current: RouteStatus) -> FollowedStatus {
        FollowedStatus { current, lower: None }
    }

    /// The status in force.
    pub fn current(&self) -> &RouteStatus {
        &self.current
    }

    /// Whether a lower epoch is held back.
    pub fn is_in_doubt(&self) -> bool {
        self.lower.is_some()
    }

    /// Takes a status that the watch delivered at `now`.
    pub fn observe(&mut self, status: RouteStatus, now: Instant) {
        if status.epoch >= self.current.epoch {
            self.current = status;
            self.lower = None;
            return;
        }
        let since = self.lower.as_ref().map_or(now, |lower| lower.since);
        self.lower = Some(LowerEpoch { status, since });
    }

    /// Takes what a consistent read shows.
    pub fn confirm(&mut self, read: &RouteStatus) {
        self.follow_if(|lower| lower.status.is_proven_by(read));
    }

    /// Takes when the watch of mirrors was last answered.
    pub fn settle(&mut self, answered: Instant) {
        self.follow_if(|lower| answered >= lower.since + STANDS);
    }

    fn follow_if(&mut self, believed: impl FnOnce(&LowerEpoch) -> bool) {
        if let Some(lower) = self.lower.take_if(|lower| believed(lower)) {
            self.current = lower.status;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(active: Side, epoch: u64) -> RouteStatus {
        RouteStatus {
            registry: None,
            active,
            epoch,
            unavailable: Sides::default(),
            observed: Arc::default(),
        }
    }

    fn failed_over() -> FollowedStatus {
        FollowedStatus::new(status(Side::Fallback, 7))
    }

    #[test]
    fn lower_epoch_of_a_stale_list_changes_nothing() {
        let mut followed = failed_over();
        let now = Instant::now();
        followed.observe(status(Side::Primary, 6), now);
        assert!(followed.is_in_doubt());
        followed.confirm(&status(Side::Fallback, 7));
        followed.settle(now + STANDS - Duration::from_millis(1));
        assert_eq!(followed.current(), &status(Side::Fallback, 7));
        followed.observe(status(Side::Fallback, 7), now + STANDS);
        followed.settle(now + STANDS);
        assert!(!followed.is_in_doubt());
        assert_eq!(followed.current(), &status(Side::Fallback, 7));
    }

    #[test]
    fn flip_that_is_stored_apart_is_followed_until_a_status_says_it() {
        let flip = Standing {
            active: Side::Fallback,
            registry: Some("ghcr.io/devopskev".to_owned()),
            epoch: 7,
            ..Standing::default()
        };
        let shown = status(Side::Primary, 6).with(Some(&flip));
        assert_eq!((shown.active, shown.epoch), (Side::Fallback, 7));
        assert_eq!(shown.registry, flip.registry);
        for (active, epoch) in [(Side::Fallback, 7), (Side::Primary, 8)] {
            assert_eq!(status(active, epoch).with(Some(&flip)), status(active, epoch));
        }
        assert_eq!(status(Side::Primary, 6).with(None), status(Side::Primary, 6));
    }

    #[test]
    fn lower_epoch_that_a_consistent_read_shows_is_followed() {
        let mut followed = failed_over();
        followed.observe(status(Side::Primary, 1), Instant::now());
        followed.confirm(&status(Side::Primary, 1));
        assert_eq!(followed.current(), &status(Side::Primary, 1));
        assert!(!followed.is_in_doubt());
    }

    #[test]
    fn lower_epoch_that_stands_is_followed_without_a_read() {
        let mut followed = failed_over();
        let now = Instant::now();
        followed.observe(status(Side::Primary, 1), now);
        // A second write of the restored status does not restart the time.
        followed.observe(status(Side::Fallback, 2), now + STANDS / 2);
        followed.settle(now + STANDS);
        assert_eq!(followed.current(), &status(Side::Fallback, 2));
    }

    #[test]
    fn confirmation_of_an_older_write_proves_nothing() {
        let mut followed = failed_over();
        followed.observe(status(Side::Fallback, 2), Instant::now());
        followed.confirm(&status(Side::Primary, 1));
        assert_eq!(followed.current(), &status(Side::Fallback, 7));
    }
}
