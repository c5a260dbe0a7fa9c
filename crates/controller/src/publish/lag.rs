//! Detects watches that deliver nothing.
//!
//! A watch can be answered and still deliver nothing: after etcd was restored from an older snapshot, a watch from a version
//! that does not exist yet waits silently until versions have caught up. Every [`PERIOD`], and as soon as the API server answers
//! again after a watch has failed, the metadata of all mirrors is therefore listed by a consistent read and compared with what the
//! watches delivered. All watches are restarted from a fresh list
//!
//! * at once, if the list has a lower version than an earlier list, or than an object that a watch had delivered before: only a
//!   restore takes versions back;
//! * if the watch has not delivered what the list showed [`LAG`] later. A watch that is ahead of the list, which takes a while where
//!   there are many mirrors, has delivered all of that: it delivers in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use catamaran_api::mirror::RegistryMirror;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::api::ListParams;
use kube::{Api, Resource as _, ResourceExt as _};
use serde::Deserialize;
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

/// Mirrors of a page of these lists.
const PAGE: u32 = 50;

/// The `resourceVersion` of each mirror, by UID.
pub(crate) type Versions = BTreeMap<Arc<str>, String>;

/// What the watch of mirrors has delivered since its list began.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    versions: Versions,
    latest: u64,
}

impl Delivered {
    /// The watch begins anew, with a list.
    pub fn restarted(&mut self) {
        self.latest = 0;
    }

    /// A mirror was delivered.
    pub fn exists(&mut self, uid: &Arc<str>, version: String) {
        self.reached(&version);
        self.versions.insert(Arc::clone(uid), version);
    }

    /// It was delivered that a mirror is gone: by an event of this version, or because a list does not show it.
    pub fn gone(&mut self, uid: &str, version: Option<&str>) {
        self.reached(version.unwrap_or_default());
        self.versions.remove(uid);
    }

    /// Whether there is no mirror.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }

    fn reached(&mut self, version: &str) {
        self.latest = self.latest.max(version.parse().unwrap_or_default());
    }
}

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

/// A mirror of which no more is kept than that: who wrote which of its fields takes a hundred times as much.
#[derive(Debug, Deserialize)]
struct Versioned {
    metadata: Version,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Version {
    uid: String,
    resource_version: String,
}

/// A page of a list.
#[derive(Debug, Deserialize)]
struct Page<K> {
    metadata: ListMeta,
    /// Null in a list of the metadata of no objects at all.
    items: Option<Vec<K>>,
}

async fn versions(client: &kube::Client, watches: &Watches) -> kube::Result<Reading> {
    let delivered = watches.latest();
    let url = RegistryMirror::url_path(&(), None);
    let (mut mirrors, mut list) = (Versions::new(), None);
    // Without a resourceVersion a list is consistent; its further pages are of the version of the first.
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let request = kube::core::Request::new(&*url).list_metadata(&params);
        let page: Page<Versioned> = client.request(request.map_err(kube::Error::BuildRequest)?).await?;
        let version = |mirror: Versioned| (mirror.metadata.uid.into(), mirror.metadata.resource_version);
        mirrors.extend(page.items.into_iter().flatten().map(version));
        list = list.or(page.metadata.resource_version);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    Ok(Reading::Versions {
        mirrors,
        list: list.and_then(|version| version.parse().ok()),
        delivered,
    })
}

async fn statuses(client: &kube::Client) -> kube::Result<Reading> {
    let api: Api<Mirror> = Api::all(client.clone());
    let status = |mirror: &Mirror| {
        let mirror = mirror.0.as_ref().ok()?;
        Some((mirror.uid()?.into(), RouteStatus::of(mirror)))
    };
    let mut statuses = BTreeMap::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&params).await?;
        statuses.extend(page.items.iter().filter_map(status));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(Reading::Statuses(statuses)),
        }
    }
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

    /// Takes what a list of the version `list` has shown, and what the watch has delivered by now.
    pub fn compare(&mut self, mirrors: &Versions, list: Option<u64>, delivered: &Delivered, now: Instant) {
        if list.is_some_and(|list| delivered.latest > list) {
            self.behind = None;
            return;
        }
        let delivered = &delivered.versions;
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
    pub fn is_overdue(&mut self, delivered: &Delivered, now: Instant) -> bool {
        let Some(behind) = &mut self.behind else {
            return false;
        };
        // A version that was delivered since then is at least the one that the list showed.
        behind
            .delivered
            .retain(|uid, before| delivered.versions.get(uid) == before.as_ref());
        let overdue = !behind.delivered.is_empty() && now >= behind.since + LAG;
        if overdue || behind.delivered.is_empty() {
            self.behind = None;
        }
        overdue
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;
    use crate::publish::freshness::WatchFreshness;
    use crate::testbed::api_server;

    #[tokio::test]
    async fn versions_are_those_of_all_pages() {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&asked);
        let api = api_server(move |_, uri, _| {
            let query = uri.query().unwrap_or_default().to_owned();
            let (version, next, uid) = if query.contains("continue=more") {
                ("99", "", "b")
            } else {
                ("41", "more", "a")
            };
            noted.lock().unwrap().push(query);
            let page = json!({
                "metadata": {"resourceVersion": version, "continue": next},
                "items": [{"metadata": {"uid": uid, "resourceVersion": "7", "managedFields": [{"manager": "kubectl"}]}}],
            });
            (200, page.to_string().into_bytes())
        });
        let read = super::versions(&api, &Watches::new(WatchFreshness::default())).await;
        let Ok(Reading::Versions { mirrors, list, .. }) = read else {
            panic!("{read:?}")
        };
        assert_eq!(mirrors, versions(&[("a", "7"), ("b", "7")]));
        assert_eq!(list, Some(41), "the version that the list began with");
        let asked = asked.lock().unwrap();
        assert!(
            asked.len() == 2 && asked.iter().all(|query| query.contains("limit=50")),
            "{asked:?}"
        );
    }

    #[tokio::test]
    async fn list_of_no_mirrors_is_read() {
        // As Kubernetes 1.36 answers while there is none.
        let api = api_server(|_, _, _| {
            let list = json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                "metadata": {"resourceVersion": "15962"}, "items": null,
            });
            (200, list.to_string().into_bytes())
        });
        let read = super::versions(&api, &Watches::new(WatchFreshness::default())).await;
        let Ok(Reading::Versions { mirrors, list, .. }) = read else {
            panic!("{read:?}")
        };
        assert!(mirrors.is_empty());
        assert_eq!(list, Some(15_962));
    }

    fn versions(pairs: &[(&str, &str)]) -> Versions {
        pairs
            .iter()
            .map(|(uid, version)| (Arc::from(*uid), (*version).to_owned()))
            .collect()
    }

    fn delivered(pairs: &[(&str, &str)]) -> Delivered {
        let mut delivered = Delivered::default();
        for (uid, version) in versions(pairs) {
            delivered.exists(&uid, version);
        }
        delivered
    }

    #[test]
    fn watch_that_delivers_in_time_is_not_overdue() {
        let now = Instant::now();
        let mut lag = LagDetector::default();
        let before = delivered(&[("a", "5"), ("b", "6")]);
        lag.compare(&versions(&[("a", "9"), ("b", "6")]), Some(9), &before, now);
        assert!(!lag.is_overdue(&before, now + LAG / 2));
        let after = delivered(&[("a", "9"), ("b", "6")]);
        assert!(!lag.is_overdue(&after, now + LAG));
        let after = delivered(&[("a", "9")]);
        lag.compare(&versions(&[("a", "9")]), Some(10), &after, now + LAG);
        assert!(!lag.is_overdue(&after, now + LAG * 9));
    }

    #[test]
    fn watch_behind_a_list_for_too_long_is_overdue() {
        let now = Instant::now();
        let delivered = delivered(&[("a", "5")]);
        for (case, listed) in [
            ("changed", versions(&[("a", "9")])),
            ("created", versions(&[("a", "5"), ("b", "9")])),
            ("deleted", versions(&[])),
        ] {
            let mut lag = LagDetector::default();
            lag.compare(&listed, Some(10), &delivered, now);
            assert!(
                !lag.is_overdue(&delivered, now + LAG - Duration::from_millis(1)),
                "{case}"
            );
            assert!(lag.is_overdue(&delivered, now + LAG), "{case}");
            assert!(!lag.is_overdue(&delivered, now + LAG), "{case}: once");
        }
    }

    #[test]
    fn watch_ahead_of_a_slow_list_is_not_overdue() {
        let now = Instant::now();
        let listed = versions(&[("a", "5"), ("b", "6")]);
        let mut gone = delivered(&[("a", "5"), ("b", "6")]);
        gone.gone("b", Some("11"));
        for (case, delivered) in [
            ("changed", delivered(&[("a", "5"), ("b", "11")])),
            ("created", delivered(&[("a", "5"), ("b", "6"), ("c", "11")])),
            ("deleted", gone),
        ] {
            let mut lag = LagDetector::default();
            lag.compare(&listed, Some(10), &delivered, now);
            assert!(!lag.is_overdue(&delivered, now + LAG), "{case}");
        }
    }

    #[test]
    fn what_was_delivered_before_a_restart_does_not_count() {
        let now = Instant::now();
        let mut delivered = delivered(&[("a", "11")]);
        delivered.restarted();
        delivered.exists(&Arc::from("a"), "5".to_owned());
        let mut lag = LagDetector::default();
        lag.compare(&versions(&[("a", "9")]), Some(10), &delivered, now);
        assert!(lag.is_overdue(&delivered, now + LAG));
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
