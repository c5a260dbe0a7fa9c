//! From a notification to a verified tag, against two scripted registries.

use std::time::Instant;

use catamaran_api::mirror::RegistryMirror;
use catamaran_api::policy::policy;
use catamaran_core::evidence::Verdict;
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::routes::Route;
use catamaran_core::side::Side;
use catamaran_registry::{Client, Limits};
use catamaran_scripted_registry::Registry;
use http::{HeaderName, HeaderValue};
use serde_json::json;

use super::*;
use crate::{testbed, verifier};

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
fn replica(policy: &Arc<MirrorPolicy>, leads: bool) -> Arc<Context> {
    let route = Route {
        policy: Arc::clone(policy),
        active: Side::Primary,
        epoch: 1,
        evidence: Arc::default(),
    };
    let table = RouteTable::new(vec![route], Arc::default());
    testbed::replica(testbed::nobody(), Arc::new(table), leads)
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

fn take(inbox: &Inbox, context: &Context, body: &[u8]) -> Answer {
    inbox.take(context, &keys(), Sender::Azure, &signed(), body)
}

/// What waits for the verifier.
fn waiting(context: &Context, policy: &MirrorPolicy) -> Vec<RepositoryTag> {
    let memory = context.memories.of(&policy.id);
    let mut receiver = memory.take_wanted().unwrap();
    let waiting = std::iter::from_fn(|| receiver.try_recv().ok()).collect();
    memory.return_wanted(receiver);
    waiting
}

#[tokio::test]
async fn a_fresh_tag_is_verified_within_a_second_of_its_notification() {
    let policy = mirror();
    let context = replica(&policy, true);
    let registries = [Registry::start().await.unwrap(), Registry::start().await.unwrap()];
    for (side, registry) in Side::ALL.into_iter().zip(&registries) {
        registry.push(&policy.path(side, "web"), "3f2a91c", "the same on both sides");
        let place = &policy.sides[side];
        let connection = registry.connection(&place.registry, place.provider);
        context
            .connections
            .seat(&policy, side, Client::new(connection, Limits::default()).unwrap());
    }
    let verifying = tokio::spawn(verifier::run(Arc::clone(&context), Arc::clone(&policy)));
    let notified = Instant::now();
    let answer = take(
        &Inbox::default(),
        &context,
        &pushed("kracr.azurecr.io", "web", "3f2a91c"),
    );
    assert_eq!(answer, Answer::Accepted(1));
    let memory = context.memories.of(&policy.id);
    let verdict = || memory.state().ledger.verdict("web", "3f2a91c");
    while verdict() != Some(Verdict::InSync) && notified.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(verdict(), Some(Verdict::InSync));
    assert!(notified.elapsed() < Duration::from_secs(1), "{:?}", notified.elapsed());
    verifying.abort();
}

#[tokio::test]
async fn ten_thousand_notifications_cost_a_bounded_number_of_looks() {
    let policy = mirror();
    let context = replica(&policy, true);
    let inbox = Inbox::default();
    let begun = Instant::now();
    for number in 0..10_000 {
        take(
            &inbox,
            &context,
            &pushed("kracr.azurecr.io", "web", &format!("{number:07x}")),
        );
    }
    // A burst, and what the seconds that this took give back.
    let most = 120 + 2 * (usize::try_from(begun.elapsed().as_secs()).unwrap() + 1);
    let waiting = waiting(&context, &policy).len();
    assert!((120..=most).contains(&waiting), "{waiting} of at most {most}");
    // A slow machine may have been given another one meanwhile, but never several at once.
    let refused = (0..4)
        .map(|number| {
            take(
                &inbox,
                &context,
                &pushed("kracr.azurecr.io", "web", &format!("more-{number}")),
            )
        })
        .any(|answer| answer.status() == StatusCode::TOO_MANY_REQUESTS);
    assert!(refused);
}

#[tokio::test]
async fn both_sides_names_of_a_repository_are_the_same_hint() {
    let policy = mirror();
    let context = replica(&policy, true);
    let inbox = Inbox::default();
    for (host, repository) in [("kracr.azurecr.io", "web"), ("ghcr.io", "devopskev/web")] {
        assert_eq!(
            take(&inbox, &context, &pushed(host, repository, "1")),
            Answer::Accepted(1)
        );
    }
    let web = RepositoryTag {
        repository: "web".to_owned(),
        tag: "1".to_owned(),
    };
    assert_eq!(waiting(&context, &policy), [web.clone(), web]);
}

#[tokio::test]
async fn what_concerns_no_mirror_costs_nothing() {
    let policy = mirror();
    let context = replica(&policy, true);
    let inbox = Inbox::default();
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
        assert_eq!(take(&inbox, &context, &body), Answer::Nothing, "{shown}");
    }
    assert_eq!(waiting(&context, &policy), []);
}

#[tokio::test]
async fn strangers_are_refused_before_anything_is_read() {
    let policy = mirror();
    let context = replica(&policy, true);
    let inbox = Inbox::default();
    for sender in [Sender::Azure, Sender::GitHub, Sender::Events] {
        let answer = inbox.take(&context, &keys(), sender, &HeaderMap::new(), b"not even JSON");
        assert_eq!(answer, Answer::Refused, "{sender:?}");
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    }
    let broken = inbox.take(&context, &keys(), Sender::Events, &signed(), b"not even JSON");
    assert_eq!(broken, Answer::Unreadable(ReadError::NotJson));
    assert_eq!(waiting(&context, &policy), []);
}

#[tokio::test]
async fn only_the_leader_takes_a_hint_and_the_others_say_that_they_do_not() {
    let policy = mirror();
    let follower = replica(&policy, false);
    let body = pushed("kracr.azurecr.io", "web", "1");
    let answer = take(&Inbox::default(), &follower, &body);
    assert_eq!(
        (answer.status(), &answer),
        (StatusCode::SERVICE_UNAVAILABLE, &Answer::NotLeading)
    );
    assert_eq!(waiting(&follower, &policy), []);
}

#[tokio::test]
async fn what_became_of_notifications_is_counted() {
    let policy = mirror();
    let context = replica(&policy, true);
    take(&Inbox::default(), &context, &pushed("kracr.azurecr.io", "web", "1"));
    let mut registry = prometheus_client::registry::Registry::default();
    context.metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let line = r#"notifications_total{sender="azure",outcome="accepted"} 1"#;
    assert!(text.contains(line), "{text}");
}
