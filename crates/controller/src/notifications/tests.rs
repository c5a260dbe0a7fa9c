//! From a notification to the tags that a mirror is asked to read.

use std::time::Instant;

use catamaran_api::mirror::RegistryMirror;
use catamaran_api::policy::policy;
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::routing::Route;
use catamaran_core::side::{Side, Sides};
use http::{HeaderName, HeaderValue};
use serde_json::json;

use super::*;
use crate::mirrors::WantedReferences;
use crate::testbed;

const SECRET: &str = "0123456789abcdef-shared";

fn mirror() -> Arc<MirrorPolicy> {
    let mut mirror: RegistryMirror = serde_json::from_value(json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
        "metadata": {"name": "images", "uid": "1"},
        "spec": {
            "primary": {"registry": "kracr.azurecr.io", "provider": "azure"},
            "fallback": {"registry": "ghcr.io", "prefix": "devopskev", "provider": "github"},
            "repositories": [{"name": "web", "tags": {"exclude": ["^draft"]}}],
        },
    }))
    .unwrap();
    mirror.metadata.creation_timestamp = None;
    Arc::new(policy(&mirror).unwrap())
}

/// A replica with one mirror; every request to the API server fails.
fn replica(policy: &Arc<MirrorPolicy>, leads: bool) -> Replica {
    let route = Route {
        policy: Arc::clone(policy),
        active: Side::Primary,
        epoch: 1,
        evidence: Arc::default(),
        observed: Arc::default(),
        unavailable: Sides::default(),
    };
    let table = RouteTable::new(vec![route], Arc::default(), Arc::default());
    let (tasks, wanted) = MirrorTasks::with_mirror(&policy.id);
    Replica {
        context: testbed::replica(testbed::nobody(), Arc::new(table), leads),
        inbox: Inbox::default(),
        tasks,
        wanted,
    }
}

/// A replica, and what it asks its mirror to read.
struct Replica {
    context: Context,
    inbox: Inbox,
    tasks: MirrorTasks,
    wanted: WantedReferences,
}

impl Replica {
    fn take(&self, body: &[u8]) -> Answer {
        self.take_from(Sender::Azure, &signed(), body)
    }

    fn take_from(&self, sender: Sender, headers: &HeaderMap, body: &[u8]) -> Answer {
        self.inbox
            .take(&self.context, &self.tasks, &keys(), sender, headers, body)
    }

    /// What waits to be read.
    fn waiting(&mut self) -> Vec<ReferenceName> {
        self.wanted.take()
    }
}

fn keys() -> Keys {
    Keys::read(SECRET).unwrap()
}

fn signed() -> HeaderMap {
    let pair = (
        HeaderName::from_static("x-catamaran-secret"),
        HeaderValue::from_static(SECRET),
    );
    HeaderMap::from_iter([pair])
}

fn pushed(host: &str, repository: &str, tag: &str) -> Vec<u8> {
    let body = json!({
        "action": "push",
        "target": {"repository": repository, "tag": tag, "digest": "sha256:x"},
        "request": {"host": host},
    });
    body.to_string().into_bytes()
}

fn web(tag: &str) -> ReferenceName {
    ReferenceName {
        repository: "web".to_owned(),
        reference: tag.to_owned(),
    }
}

#[tokio::test]
async fn notified_tag_is_read_at_once() {
    let mut replica = replica(&mirror(), true);
    let answer = replica.take(&pushed("kracr.azurecr.io", "web", "3f2a91c"));
    assert_eq!(answer, Answer::Accepted(1));
    assert_eq!(replica.waiting(), [web("3f2a91c")]);
}

#[tokio::test]
async fn ten_thousand_notifications_cost_few_reads() {
    let mut replica = replica(&mirror(), true);
    let begun = Instant::now();
    for number in 0..10_000 {
        replica.take(&pushed("kracr.azurecr.io", "web", &format!("{number:07x}")));
    }
    // A burst, and what the seconds that this took give back.
    let most = 120 + 2 * (usize::try_from(begun.elapsed().as_secs()).unwrap() + 1);
    let waiting = replica.waiting().len();
    assert!((120..=most).contains(&waiting), "{waiting} of at most {most}");
    // A slow machine may have been given another one meanwhile, but never several at once.
    let refused = (0..4)
        .map(|number| replica.take(&pushed("kracr.azurecr.io", "web", &format!("more-{number}"))))
        .any(|answer| answer.status() == StatusCode::TOO_MANY_REQUESTS);
    assert!(refused);
}

#[tokio::test]
async fn names_of_both_sides_are_the_same_tag() {
    let mut replica = replica(&mirror(), true);
    for (host, repository) in [("kracr.azurecr.io", "web"), ("ghcr.io", "devopskev/web")] {
        let answer = replica.take(&pushed(host, repository, "1"));
        assert_eq!(answer, Answer::Accepted(1));
    }
    assert_eq!(replica.waiting(), [web("1"), web("1")]);
}

#[tokio::test]
async fn notification_of_no_mirror_reads_nothing() {
    let mut replica = replica(&mirror(), true);
    let cases = [
        pushed("other.azurecr.io", "web", "1"),
        pushed("kracr.azurecr.io", "api", "1"),
        pushed("kracr.azurecr.io", "web", "draft-1"),
        pushed("kracr.azurecr.io", "web", "no tag"),
        pushed("", "web", "1"),
        pushed("kracr.azurecr.io/web:1@", "web", "1"),
        json!({"action": "ping"}).to_string().into_bytes(),
    ];
    for body in cases {
        let shown = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(replica.take(&body), Answer::Nothing, "{shown}");
    }
    assert_eq!(replica.waiting(), []);
}

#[tokio::test]
async fn unsigned_notification_is_refused_before_it_is_read() {
    let mut replica = replica(&mirror(), true);
    for sender in [Sender::Azure, Sender::GitHub, Sender::Events] {
        let answer = replica.take_from(sender, &HeaderMap::new(), b"not even JSON");
        assert_eq!(answer, Answer::Refused, "{sender:?}");
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    }
    let broken = replica.take_from(Sender::Events, &signed(), b"not even JSON");
    assert_eq!(broken, Answer::Unreadable(ReadError::NotJson));
    assert_eq!(replica.waiting(), []);
}

#[tokio::test]
async fn follower_takes_no_notification_and_answers_503() {
    let mut follower = replica(&mirror(), false);
    let answer = follower.take(&pushed("kracr.azurecr.io", "web", "1"));
    let expected = (StatusCode::SERVICE_UNAVAILABLE, &Answer::NotLeading);
    assert_eq!((answer.status(), &answer), expected);
    assert_eq!(follower.waiting(), []);
}

#[tokio::test]
async fn notification_outcomes_are_counted() {
    let replica = replica(&mirror(), true);
    replica.take(&pushed("kracr.azurecr.io", "web", "1"));
    let mut registry = prometheus_client::registry::Registry::default();
    replica.context.metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let line = r#"notifications_total{sender="azure",outcome="accepted"} 1"#;
    assert!(text.contains(line), "{text}");
}
