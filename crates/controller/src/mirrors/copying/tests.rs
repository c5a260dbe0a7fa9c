//! Copies between two scripted registries.

use std::sync::Arc;

use catamaran_api::policy::policy;
use catamaran_core::digest::Digest;
use catamaran_core::policy::Provider;
use catamaran_registry::Limits;
use catamaran_scripted_registry::{Fault, Registry, What};
use http::Method;
use serde_json::{Value, json};

use super::*;
use crate::testbed::{api_server, metric, nobody, replica};

const HOSTS: Sides<(&str, Provider)> = Sides {
    primary: ("kracr.azurecr.io", Provider::Azure),
    fallback: ("ghcr.io", Provider::GitHub),
};

struct Ground {
    registries: Sides<Registry>,
    policy: MirrorPolicy,
    context: Context,
    round: Round,
}

fn mirror(secret: &Value) -> MirrorPolicy {
    let mirror = serde_json::from_value(json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
        "metadata": {"name": "apps", "uid": "u1"},
        "spec": {
            "primary": {"registry": HOSTS.primary.0, "provider": "azure"},
            "fallback": {"registry": HOSTS.fallback.0, "prefix": "devopskev", "provider": "github", "secretRef": secret},
            "repositories": [{"name": "web"}, {"name": "api"}],
            "repair": {"missingTags": "Copy"},
        },
    }));
    policy(&mirror.unwrap()).unwrap()
}

impl Ground {
    async fn start() -> Ground {
        let registries = Sides {
            primary: Registry::start().await.unwrap(),
            fallback: Registry::start().await.unwrap(),
        };
        let policy = mirror(&Value::Null);
        let context = replica(nobody(), Arc::default(), true);
        for side in Side::ALL {
            let (host, provider) = HOSTS[side];
            let client = Client::new(registries[side].connection(host, provider), Limits::default()).unwrap();
            context.connections.seat(&policy, side, client);
        }
        Ground {
            registries,
            policy,
            context,
            round: Round::default(),
        }
    }

    async fn copy(&self, repository: &str, tag: &str, to: Side, digest: &Digest) -> Result<CopyDone, CopyFailure> {
        let errand = Errand {
            repository: repository.to_owned(),
            tag: tag.to_owned(),
            to,
            digest: digest.clone(),
            is_broken: false,
        };
        copied(
            self.round.copy(&self.context, &self.policy, errand.clone()).await,
            &errand,
        )
    }

    fn digest(&self, side: Side, repository: &str, tag: &str) -> Option<Digest> {
        let manifest = self.registries[side].manifest(repository, tag);
        manifest.map(|(_, body)| Digest::of(&body))
    }
}

fn copied(event: Event, errand: &Errand) -> Result<CopyDone, CopyFailure> {
    let Event::Copied(ended) = event else {
        panic!("it is no copy: {event:?}")
    };
    assert_eq!(ended.errand, *errand);
    ended.result
}

#[tokio::test]
async fn copy_brings_a_tag_to_either_side_and_counts_its_bytes() {
    let ground = Ground::start().await;
    let new = ground.registries.primary.push("web", "1.1", "new");
    let late = ground.registries.fallback.push("devopskev/api", "2.0", "late");
    let there = ground.copy("web", "1.1", Side::Fallback, &new).await.unwrap();
    let here = ground.copy("api", "2.0", Side::Primary, &late).await.unwrap();
    assert!(there.written && there.bytes > 0 && here.written && here.bytes > 0);
    assert_eq!(ground.digest(Side::Fallback, "devopskev/web", "1.1"), Some(new.clone()));
    assert_eq!(ground.digest(Side::Primary, "api", "2.0"), Some(late));
    let again = ground.copy("web", "1.1", Side::Fallback, &new).await;
    let nothing = CopyDone {
        written: false,
        bytes: 0,
    };
    assert_eq!(again, Ok(nothing), "what is there is not sent again");
    let metrics = &ground.context.metrics;
    for (line, expected) in [
        (r#"catamaran_copies_total{mirror="apps",kind="Copied"}"#, 2),
        (r#"catamaran_copies_total{mirror="apps",kind="AlreadyThere"}"#, 1),
        (
            r#"catamaran_copied_bytes_total{mirror="apps"}"#,
            there.bytes + here.bytes,
        ),
    ] {
        assert_eq!(metric(metrics, line), expected, "{line}");
    }
}

#[tokio::test]
async fn copy_never_overwrites_and_has_what_differs_read_again() {
    let ground = Ground::start().await;
    let ours = ground.registries.primary.push("web", "odd", "ours");
    let theirs = ground.registries.fallback.push("devopskev/web", "odd", "theirs");
    let failure = ground.copy("web", "odd", Side::Fallback, &ours).await.unwrap_err();
    assert_eq!(
        (failure.reason, failure.read_again, failure.of_registry),
        ("Mismatched", true, false)
    );
    assert_eq!(ground.digest(Side::Fallback, "devopskev/web", "odd"), Some(theirs));
    // The tag is another one than the pass has seen.
    let moved = Digest::of(b"what it was");
    ground.registries.primary.push("web", "moved", "what it is");
    let failure = ground.copy("web", "moved", Side::Fallback, &moved).await.unwrap_err();
    assert_eq!(
        (failure.reason, failure.read_again, failure.of_registry),
        ("Moved", true, false)
    );
    assert_eq!(ground.digest(Side::Fallback, "devopskev/web", "moved"), None);
}

#[tokio::test]
async fn refused_copy_says_whether_others_would_be_refused_too() {
    let ground = Ground::start().await;
    let digest = ground.registries.primary.push("web", "1.0", "first");
    let locked = What::error(405, "REGISTRY_DISALLOWED_OPERATION", "the operation is disallowed");
    let locked = Fault::on("/manifests/1.0", locked).method(Method::PUT);
    let denied = What::error(403, "DENIED", "permission_denied: write_package");
    let denied = Fault::on("/blobs/uploads/", denied).method(Method::POST);
    for (fault, reason, of_registry) in [(denied, "Denied", true), (locked, "Locked", false)] {
        ground.registries.fallback.clear_faults();
        ground.registries.fallback.fault(fault);
        let failure = ground.copy("web", "1.0", Side::Fallback, &digest).await.unwrap_err();
        assert_eq!(
            (failure.reason, failure.of_registry, failure.read_again),
            (reason, of_registry, false),
            "{}",
            failure.message
        );
    }
    // Once it is unlocked, only the tag is missing.
    ground.registries.fallback.clear_faults();
    ground.registries.fallback.forget_requests();
    assert!(
        ground
            .copy("web", "1.0", Side::Fallback, &digest)
            .await
            .unwrap()
            .written
    );
    let requests = ground.registries.fallback.requests();
    let writes = requests
        .iter()
        .filter(|request| request.path != "/token" && !matches!(request.method, Method::GET | Method::HEAD));
    assert_eq!(writes.count(), 1);
}

#[tokio::test]
async fn copy_without_a_client_fails_in_both_directions() {
    let api = api_server(|_, _, _| {
        let missing =
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404});
        (404, missing.to_string().into_bytes())
    });
    let context = replica(api, Arc::default(), true);
    let policy = mirror(&json!({"name": "pull"}));
    for to in Side::ALL {
        let errand = Errand {
            repository: "web".to_owned(),
            tag: "1.0".to_owned(),
            to,
            digest: Digest::of(b"first"),
            is_broken: false,
        };
        let event = Round::default().copy(&context, &policy, errand.clone()).await;
        let failure = copied(event, &errand).unwrap_err();
        assert_eq!(
            (failure.reason, failure.of_registry, failure.read_again),
            ("NoClient", true, false)
        );
        assert!(failure.message.contains("'pull'"), "{}", failure.message);
    }
}
