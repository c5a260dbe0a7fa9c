//! What the replicas tell each other of registries: each keeps a Lease of its own, and watches those of the others.
//!
//! It is written when what a replica sees changes, when another one asks (it has seen a failure), and as a heartbeat. A flip is
//! written by way of the same API server, so that a replica which can't be heard there could not carry one out either.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use catamaran_core::endpoint::Report;
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt as _};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Endpoints;
use crate::context::Context;

/// Between two heartbeats. A replica counts as gone after two and a half.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Between two writes.
const LEAST_GAP: Duration = Duration::from_millis(100);

/// The annotation with what a replica sees.
const SEEN: &str = "catamaran.dev/endpoints";

/// The annotation with how many admission reviews it has answered.
const REVIEWS: &str = "catamaran.dev/reviews";

/// The annotation with its node.
const NODE: &str = "catamaran.dev/node";

/// The label with the Lease that elects the leader: the replicas of one installation.
const OF: &str = "catamaran.dev/replica-of";

/// Leases that are told apart at most.
const MOST_LEASES: usize = 256;

/// Endpoints that are reported at most, and the largest report that is read, in bytes.
const MOST_ENDPOINTS: usize = 256;
const LARGEST: usize = 128 * 1024;

/// Which replica this is.
#[derive(Clone, Debug)]
pub struct ReplicaName {
    /// The name of its pod.
    pub pod: String,
    /// The UID of its pod, if known: its Lease goes with it.
    pub uid: Option<String>,
    /// The node that it runs on.
    pub node: String,
    /// The Lease that elects the leader.
    pub lease: String,
}

/// What is said of one endpoint.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    /// How long ago the latest probe ended, in milliseconds.
    age: u64,
    #[serde(default, skip_serializing_if = "is_false")]
    fails: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    down: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    failing: Vec<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    suspects: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Tells other replicas what this one sees, and hears what they see, until `shutdown`.
pub async fn run(context: Arc<Context>, endpoints: Arc<Endpoints>, name: ReplicaName, shutdown: CancellationToken) {
    let api: Api<Lease> = Api::namespaced(context.client.clone(), &context.namespace);
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = hear(api.clone(), &context, &endpoints, &name) => {}
        () = tell(api, &context, &endpoints, &name) => {}
    }
}

async fn tell(api: Api<Lease>, context: &Context, endpoints: &Endpoints, name: &ReplicaName) {
    let mut complained = false;
    let mut said = false;
    loop {
        let reports = endpoints.reports();
        // Where there is no mirror there is nothing to say.
        if said || !reports.is_empty() {
            let lease = lease(name, &reports, context.reviews.count(), context.clock.now());
            let patch = PatchParams::apply("catamaran-replica").force();
            let written = api.patch(&name.pod, &patch, &Patch::Apply(&lease)).await;
            if let Err(error) = &written
                && !complained
            {
                tracing::warn!(%error, "failed to tell other replicas what this one sees of registries");
            }
            complained = written.is_err();
            said = written.is_err() || !reports.is_empty();
        }
        tokio::time::sleep(LEAST_GAP).await;
        tokio::select! {
            () = endpoints.news() => {}
            () = tokio::time::sleep(HEARTBEAT) => {}
        }
    }
}

fn lease(name: &ReplicaName, reports: &BTreeMap<String, Report>, reviews: u64, now: Timestamp) -> serde_json::Value {
    let seen = |report: &Report| Said {
        age: u64::try_from(now.duration_since(report.at).as_millis()).unwrap_or_default(),
        fails: report.fails,
        down: report.down,
        failing: report.failing.clone(),
        suspects: report.suspects,
    };
    let reports = reports.iter().take(MOST_ENDPOINTS);
    let seen: BTreeMap<&str, Said> = reports.map(|(id, report)| (id.as_str(), seen(report))).collect();
    let seen = serde_json::to_string(&seen).unwrap_or_default();
    let owner = name
        .uid
        .as_ref()
        .map(|uid| json!([{"apiVersion": "v1", "kind": "Pod", "name": name.pod, "uid": uid}]));
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": name.pod,
            "labels": {"app.kubernetes.io/managed-by": "catamaran", OF: name.lease},
            "annotations": {NODE: name.node, SEEN: seen, REVIEWS: reviews.to_string()},
            "ownerReferences": owner.unwrap_or_default(),
        },
        "spec": {
            "holderIdentity": name.pod,
            "leaseDurationSeconds": 25,
            "renewTime": format!("{now:.6}"),
        },
    })
}

async fn hear(api: Api<Lease>, context: &Context, endpoints: &Endpoints, name: &ReplicaName) {
    let config = watcher::Config::default()
        .labels(&format!("{OF}={}", name.lease))
        .timeout(25);
    let mut events = watcher::watcher(api, config).default_backoff().boxed();
    let mut seen = Seen::default();
    while let Some(event) = events.next().await {
        let (lease, live) = match event {
            Ok(Event::Apply(lease)) => (lease, true),
            Ok(Event::InitApply(lease)) => (lease, false),
            Ok(Event::Delete(lease)) => {
                let replica: Arc<str> = lease.name_any().into();
                seen.0.remove(&replica);
                endpoints.gone(&replica);
                context.reviews.gone(&replica);
                continue;
            }
            Ok(Event::Init | Event::InitDone) => continue,
            Err(error) => {
                tracing::debug!(%error, "a watch of other replicas failed and is retried");
                continue;
            }
        };
        let replica: Arc<str> = lease.name_any().into();
        if *replica != *name.pod && seen.is_news(&replica, lease.resource_version(), live) {
            let node = lease.annotations().get(NODE).map_or("", String::as_str);
            endpoints.heard(&replica, &node.into(), &read(&lease, context.clock.now()));
            context.reviews.heard(&replica, reviews(&lease));
        }
    }
}

/// The version of each replica's Lease that was seen last. What a list has may be the last word of a replica that is gone: it counts
/// when it changes.
#[derive(Debug, Default)]
struct Seen(BTreeMap<Arc<str>, Option<String>>);

impl Seen {
    /// Whether a Lease was written since it was seen last. `live`: it was just shown as changed.
    fn is_news(&mut self, replica: &Arc<str>, version: Option<String>, live: bool) -> bool {
        if self.0.len() >= MOST_LEASES && !self.0.contains_key(replica) {
            return false;
        }
        let is_news = self.0.get(replica).map_or(live, |before| *before != version);
        self.0.insert(Arc::clone(replica), version);
        is_news
    }
}

/// How many reviews a replica has answered; one of an earlier version does not say.
fn reviews(lease: &Lease) -> Option<u64> {
    lease.annotations().get(REVIEWS)?.parse().ok()
}

/// What a replica says; what can't be read says nothing. By the age of its Lease when it arrives nothing is judged: clocks differ.
fn read(lease: &Lease, now: Timestamp) -> BTreeMap<String, Report> {
    let text = lease.annotations().get(SEEN).filter(|text| text.len() <= LARGEST);
    let seen: BTreeMap<String, Said> = text
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let report = |seen: Said| {
        let age = Duration::from_millis(seen.age);
        Report {
            at: now.checked_sub(age).unwrap_or(Timestamp::MIN),
            fails: seen.fails,
            down: seen.down,
            failing: seen.failing,
            suspects: seen.suspects,
        }
    };
    let seen = seen.into_iter().take(MOST_ENDPOINTS);
    seen.map(|(id, seen)| (id, report(seen))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_arrives_as_it_was_sent() {
        let now: Timestamp = "2026-11-01T12:00:00Z".parse().unwrap();
        let later: Timestamp = "2026-11-02T00:00:00Z".parse().unwrap();
        let ago = |now: Timestamp, ms| now.checked_sub(Duration::from_millis(ms)).unwrap();
        let report = |at, fails, failing: &[&str]| Report {
            at,
            fails,
            down: fails,
            failing: failing.iter().map(|path| (*path).to_owned()).collect(),
            suspects: fails,
        };
        let name = ReplicaName {
            pod: "catamaran-1".to_owned(),
            uid: Some("u".to_owned()),
            node: "node-a".to_owned(),
            lease: "catamaran".to_owned(),
        };
        let said = BTreeMap::from([
            ("a".to_owned(), report(ago(now, 250), false, &["team/dead"])),
            ("b".to_owned(), report(ago(now, 1), true, &[])),
        ]);
        let lease: Lease = serde_json::from_value(lease(&name, &said, 41, now)).unwrap();
        assert_eq!(lease.annotations()[NODE], "node-a");
        assert_eq!(reviews(&lease), Some(41));
        assert_eq!(lease.owner_references()[0].kind, "Pod");
        // The reader's clock is another one.
        let heard = read(&lease, later);
        assert_eq!(heard["a"], report(ago(later, 250), false, &["team/dead"]));
        assert_eq!(heard["b"], report(ago(later, 1), true, &[]));
    }

    #[test]
    fn last_word_of_a_replica_that_is_gone_is_no_news() {
        let mut seen = Seen::default();
        let replica: Arc<str> = "catamaran-2".into();
        let mut is_news = |version: &str, live| seen.is_news(&replica, Some(version.to_owned()), live);
        assert!(!is_news("7", false), "it may be long ago");
        assert!(!is_news("7", false), "listed again");
        assert!(is_news("8", false), "it has changed since");
        assert!(is_news("9", true));
        assert!(!is_news("9", false), "listed after a break of the watch");
        let mut fresh = Seen::default();
        assert!(fresh.is_news(&replica, Some("1".to_owned()), true));
    }

    #[test]
    fn what_can_not_be_read_says_nothing() {
        let now = Timestamp::UNIX_EPOCH;
        for text in [
            "",
            "{",
            "[]",
            r#"{"a": 1}"#,
            &format!("{{\"a\":{}", "{".repeat(LARGEST)),
        ] {
            let lease: Lease = serde_json::from_value(json!({"metadata": {"annotations": {SEEN: text}}})).unwrap();
            assert!(read(&lease, now).is_empty(), "{text:.20}");
        }
    }
}
