//! Detects watches that deliver nothing.
//!
//! A watch can be answered and still deliver nothing: after etcd was restored from an older snapshot, a watch from a version
//! that does not exist yet waits silently until versions have caught up. Every [`PERIOD`] the metadata of all mirrors is
//! therefore listed by a consistent read and compared with what the watch delivered. All watches are restarted from a fresh
//! list
//!
//! * at once, if the list has a lower version than an earlier list: only a restore takes versions back;
//! * if the watch has not delivered what the list showed [`LAG`] later.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use catamaran_api::mirror::RegistryMirror;
use kube::api::{ListParams, PartialObjectMeta};
use kube::{Api, ResourceExt as _};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::Mirror;
use super::epoch::RouteStatus;

/// How often mirrors are listed to be compared.
pub(crate) const PERIOD: Duration = Duration::from_secs(30);
/// How long a watch may take to deliver what a list has shown.
pub(crate) const LAG: Duration = Duration::from_secs(10);
/// How long a list may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The `resourceVersion` of each mirror, by UID.
pub(crate) type Versions = BTreeMap<Arc<str>, String>;

/// What a consistent read has shown.
#[derive(Debug)]
pub(crate) enum Reading {
    /// Which mirrors there are.
    Versions {
        /// Each with its version.
        mirrors: Versions,
        /// The version of the list.
        list: Option<u64>,
    },
    /// The status of each mirror, by UID.
    Statuses(BTreeMap<Arc<str>, RouteStatus>),
}

/// Reads for as long as anyone takes the readings; statuses only when `wanted`.
pub(crate) async fn read(client: kube::Client, wanted: Arc<Notify>, readings: mpsc::Sender<Reading>) {
    let mut ticks = interval_at(Instant::now() + PERIOD, PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let reading = tokio::select! {
            _ = ticks.tick() => timeout(TIMEOUT, versions(&client)).await,
            () = wanted.notified() => timeout(TIMEOUT, statuses(&client)).await,
        };
        match reading {
            Ok(Ok(reading)) => {
                if readings.send(reading).await.is_err() {
                    return;
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "failed to list the mirrors for a comparison"),
            Err(_) => tracing::debug!("failed to list the mirrors for a comparison: no answer in time"),
        }
    }
}

async fn versions(client: &kube::Client) -> kube::Result<Reading> {
    let api: Api<PartialObjectMeta<RegistryMirror>> = Api::all(client.clone());
    // Without a resourceVersion a list is consistent.
    let list = api.list(&ListParams::default()).await?;
    let version = |mirror: &PartialObjectMeta<RegistryMirror>| {
        let uid = mirror.uid().unwrap_or_default();
        (uid.into(), mirror.resource_version().unwrap_or_default())
    };
    Ok(Reading::Versions {
        mirrors: list.items.iter().map(version).collect(),
        list: list.metadata.resource_version.and_then(|version| version.parse().ok()),
    })
}

async fn statuses(client: &kube::Client) -> kube::Result<Reading> {
    let api: Api<Mirror> = Api::all(client.clone());
    let list = api.list(&ListParams::default()).await?;
    let status = |mirror: &Mirror| {
        let mirror = mirror.0.as_ref().ok()?;
        Some((mirror.uid()?.into(), RouteStatus::of(mirror)))
    };
    Ok(Reading::Statuses(list.items.iter().filter_map(status).collect()))
}

/// Compares lists with what the watch delivered.
#[derive(Debug, Default)]
pub(crate) struct LagDetector {
    /// The version of the last list.
    list: Option<u64>,
    behind: Option<Behind>,
}

/// Mirrors that the watch has not delivered yet.
#[derive(Debug)]
struct Behind {
    since: Instant,
    /// What it had delivered of each such mirror then.
    delivered: BTreeMap<Arc<str>, Option<String>>,
}

impl LagDetector {
    /// Takes a list; whether the watches have to be restarted at once.
    pub fn compare(&mut self, mirrors: &Versions, list: Option<u64>, delivered: &Versions, now: Instant) -> bool {
        let before = self.list;
        self.list = list.or(before);
        let went_back = list.zip(before).is_some_and(|(list, before)| list < before);
        if went_back {
            self.behind = None;
            return true;
        }
        let uids = mirrors.keys().chain(delivered.keys());
        let differing = uids.filter(|uid| mirrors.get(*uid) != delivered.get(*uid));
        let delivered: BTreeMap<_, _> = differing
            .map(|uid| (Arc::clone(uid), delivered.get(uid).cloned()))
            .collect();
        if delivered.is_empty() {
            self.behind = None;
        } else if self.behind.is_none() {
            self.behind = Some(Behind { since: now, delivered });
        }
        false
    }

    /// Whether the watch has lagged behind for too long, so that all watches have to be restarted.
    pub fn is_overdue(&mut self, delivered: &Versions, now: Instant) -> bool {
        let Some(behind) = &mut self.behind else {
            return false;
        };
        // A version that was delivered since then is at least the one that the list showed.
        behind
            .delivered
            .retain(|uid, before| delivered.get(uid) == before.as_ref());
        let overdue = !behind.delivered.is_empty() && now >= behind.since + LAG;
        if overdue || behind.delivered.is_empty() {
            self.behind = None;
        }
        overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(pairs: &[(&str, &str)]) -> Versions {
        pairs
            .iter()
            .map(|(uid, version)| (Arc::from(*uid), (*version).to_owned()))
            .collect()
    }

    #[test]
    fn watch_that_delivers_in_time_is_not_overdue() {
        let now = Instant::now();
        let mut lag = LagDetector::default();
        let before = versions(&[("a", "5"), ("b", "6")]);
        assert!(!lag.compare(&versions(&[("a", "9"), ("b", "6")]), Some(9), &before, now));
        assert!(!lag.is_overdue(&before, now + LAG / 2));
        assert!(!lag.is_overdue(&versions(&[("a", "9"), ("b", "6")]), now + LAG));
        assert!(!lag.compare(&versions(&[("a", "9")]), Some(9), &versions(&[("a", "9")]), now + LAG));
        assert!(!lag.is_overdue(&versions(&[("a", "9")]), now + LAG * 9));
    }

    #[test]
    fn watch_behind_a_list_for_too_long_is_overdue() {
        let now = Instant::now();
        let delivered = versions(&[("a", "5")]);
        for (case, listed) in [
            ("changed", versions(&[("a", "9")])),
            ("created", versions(&[("a", "5"), ("b", "9")])),
            ("deleted", versions(&[])),
        ] {
            let mut lag = LagDetector::default();
            assert!(!lag.compare(&listed, Some(9), &delivered, now), "{case}");
            assert!(
                !lag.is_overdue(&delivered, now + LAG - Duration::from_millis(1)),
                "{case}"
            );
            assert!(lag.is_overdue(&delivered, now + LAG), "{case}");
            assert!(!lag.is_overdue(&delivered, now + LAG), "{case}: once");
        }
    }

    #[test]
    fn list_of_an_earlier_version_restarts_at_once() {
        let now = Instant::now();
        let same = versions(&[("a", "5")]);
        let mut lag = LagDetector::default();
        assert!(!lag.compare(&same, Some(100), &same, now));
        assert!(!lag.compare(&same, None, &same, now));
        assert!(lag.compare(&same, Some(60), &same, now));
        assert!(!lag.compare(&same, Some(61), &same, now), "once");
    }
}
