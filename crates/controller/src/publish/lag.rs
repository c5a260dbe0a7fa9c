//! Detects watches that deliver nothing.
//!
//! A watch can be answered and still deliver nothing: after etcd was restored from an older snapshot, a watch from a version
//! that does not exist yet waits silently until versions have caught up. Every [`PERIOD`], and as soon as the API server answers
//! again after a watch has failed, the metadata of all mirrors is therefore listed by a consistent read and compared with what the
//! watches delivered. All watches are restarted from a fresh list
//!
//! * at once, if the list has a lower version than an earlier list, or than an object that a watch had delivered before: only a
//!   restore takes versions back;
//! * if the watch has not delivered what the list showed [`LAG`] later.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use catamaran_api::mirror::RegistryMirror;
use kube::api::{ListParams, PartialObjectMeta};
use kube::{Api, ResourceExt as _};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

use super::Mirror;
use super::epoch::RouteStatus;
use super::watched::Watches;

/// How often mirrors are listed to be compared.
pub(crate) const PERIOD: Duration = Duration::from_secs(15);
/// How soon they are listed after a watch, or a list, has failed.
const SOON: Duration = Duration::from_secs(1);
/// How long after a list they are not listed again, whatever fails.
const SPACING: Duration = Duration::from_secs(5);
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
        /// The latest version that a watch had delivered when the list was asked for.
        delivered: u64,
    },
    /// The status of each mirror, by UID.
    Statuses(BTreeMap<Arc<str>, RouteStatus>),
}

/// Reads for as long as anyone takes the readings; statuses only when `wanted`.
pub(crate) async fn read(client: kube::Client, watches: Watches, wanted: Arc<Notify>, readings: mpsc::Sender<Reading>) {
    let mut next = Instant::now() + PERIOD;
    let mut earliest = Instant::now();
    loop {
        let reading = tokio::select! {
            () = sleep_until(next) => {
                let reading = in_time(versions(&client, &watches)).await;
                next = Instant::now() + if reading.is_some() { PERIOD } else { SOON };
                earliest = Instant::now() + SPACING;
                reading
            }
            // What has ended it may be the restore.
            () = watches.interrupted() => {
                next = next.min(earliest.max(Instant::now() + SOON));
                None
            }
            () = wanted.notified() => in_time(statuses(&client)).await,
        };
        if let Some(reading) = reading
            && readings.send(reading).await.is_err()
        {
            return;
        }
    }
}

async fn in_time(reading: impl Future<Output = kube::Result<Reading>>) -> Option<Reading> {
    match timeout(TIMEOUT, reading).await {
        Ok(Ok(reading)) => return Some(reading),
        Ok(Err(error)) => tracing::debug!(%error, "failed to list the mirrors for a comparison"),
        Err(_) => tracing::debug!("failed to list the mirrors for a comparison: no answer in time"),
    }
    None
}

async fn versions(client: &kube::Client, watches: &Watches) -> kube::Result<Reading> {
    let api: Api<PartialObjectMeta<RegistryMirror>> = Api::all(client.clone());
    let delivered = watches.latest();
    // Without a resourceVersion a list is consistent.
    let list = api.list(&ListParams::default()).await?;
    let version = |mirror: &PartialObjectMeta<RegistryMirror>| {
        let uid = mirror.uid().unwrap_or_default();
        (uid.into(), mirror.resource_version().unwrap_or_default())
    };
    Ok(Reading::Versions {
        mirrors: list.items.iter().map(version).collect(),
        list: list.metadata.resource_version.and_then(|version| version.parse().ok()),
        delivered,
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
    /// Takes the version of a list, where a watch had delivered the version `delivered` before; whether it was taken back, so that
    /// the watches have to be restarted at once.
    pub fn went_back(&mut self, list: Option<u64>, delivered: u64) -> bool {
        let Some(list) = list else {
            return false;
        };
        let before = self.list.replace(list).unwrap_or_default();
        let went_back = list < before.max(delivered);
        if went_back {
            self.behind = None;
        }
        went_back
    }

    /// Takes what a list has shown, and what the watch has delivered by now.
    pub fn compare(&mut self, mirrors: &Versions, delivered: &Versions, now: Instant) {
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
        lag.compare(&versions(&[("a", "9"), ("b", "6")]), &before, now);
        assert!(!lag.is_overdue(&before, now + LAG / 2));
        assert!(!lag.is_overdue(&versions(&[("a", "9"), ("b", "6")]), now + LAG));
        lag.compare(&versions(&[("a", "9")]), &versions(&[("a", "9")]), now + LAG);
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
            lag.compare(&listed, &delivered, now);
            assert!(
                !lag.is_overdue(&delivered, now + LAG - Duration::from_millis(1)),
                "{case}"
            );
            assert!(lag.is_overdue(&delivered, now + LAG), "{case}");
            assert!(!lag.is_overdue(&delivered, now + LAG), "{case}: once");
        }
    }

    #[test]
    fn version_of_a_list_only_goes_back_in_a_restore() {
        let mut lag = LagDetector::default();
        assert!(!lag.went_back(Some(100), 0));
        assert!(!lag.went_back(None, 200));
        assert!(lag.went_back(Some(60), 0), "an earlier list");
        assert!(!lag.went_back(Some(61), 61), "once");
        assert!(lag.went_back(Some(70), 71), "a watch");
    }
}
