//! What other replicas see of an endpoint: one network's view is no outage.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::distance;
use super::targets::Target;

/// A replica that was not heard of for so long is not asked any more.
pub const GONE_AFTER: Duration = Duration::from_secs(25);

/// Replicas that are told apart at most.
const MOST_REPLICAS: usize = 16;

/// What one replica says of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// When its latest probe ended that succeeded or failed.
    pub at: Timestamp,
    /// All of the registry fails, as far as this replica can tell.
    pub fails: bool,
    /// It has failed so often that it is down.
    pub down: bool,
    /// Repositories that fail, by their path.
    pub failing: Vec<String>,
    /// A probe takes long there, so that this may be the beginning of an outage.
    pub suspects: bool,
}

impl Report {
    /// Whether nothing speaks against it.
    pub fn is_well(&self) -> bool {
        !self.fails && !self.suspects && self.failing.is_empty()
    }

    /// Whether the other says the same, but for the time.
    pub fn says_the_same(&self, other: &Report) -> bool {
        let said = |report: &Report| (report.fails, report.down, report.suspects);
        said(self) == said(other) && self.failing == other.failing
    }
}

/// What one other replica sees, as far as it concerns one side of a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vantage {
    /// The node that it runs on.
    pub node: Arc<str>,
    /// When its latest probe ended.
    pub at: Timestamp,
    /// Whether it can't reach what the mirror uses.
    pub fails: bool,
    /// Whether it has failed so often that it is down.
    pub down: bool,
}

/// What this replica's node is, and what others see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vantages {
    /// The node that this replica runs on.
    pub own: Arc<str>,
    /// Other live replicas.
    pub others: Vec<Vantage>,
}

/// The other replicas.
#[derive(Clone, Debug, Default)]
pub(super) struct Others(BTreeMap<Arc<str>, Other>);

#[derive(Clone, Debug)]
struct Other {
    node: Arc<str>,
    heard: Timestamp,
    report: Report,
}

impl Others {
    /// A replica says something. Whether it is news that something fails.
    pub(super) fn heard(&mut self, replica: &Arc<str>, node: &Arc<str>, report: Report, now: Timestamp) -> bool {
        let before = self.0.get(replica);
        if before.is_none() && self.0.len() >= MOST_REPLICAS {
            return false;
        }
        let news = !report.is_well() && before.is_none_or(|before| before.report.is_well());
        let other = Other {
            node: Arc::clone(node),
            heard: now,
            report,
        };
        self.0.insert(Arc::clone(replica), other);
        news
    }

    /// Forgets those that were not heard of for long. Whether there were any.
    pub(super) fn forget_silent(&mut self, now: Timestamp) -> bool {
        let before = self.0.len();
        self.0.retain(|_, other| distance(other.heard, now) < GONE_AFTER);
        self.0.len() < before
    }

    pub(super) fn gone(&mut self, replica: &str) -> bool {
        self.0.remove(replica).is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the first of them was not heard of for too long.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        let heard = self.0.values().map(|other| other.heard).min()?;
        Some(super::later(heard, GONE_AFTER))
    }

    /// What they see of these targets.
    pub(super) fn of(&self, targets: &[Target]) -> Vec<Vantage> {
        let vantage = |other: &Other| {
            let failing = &other.report.failing;
            Vantage {
                node: Arc::clone(&other.node),
                at: other.report.at,
                down: other.report.down,
                fails: other.report.fails || targets.iter().any(|target| failing.contains(&target.path)),
            }
        };
        self.0.values().map(vantage).collect()
    }
}
