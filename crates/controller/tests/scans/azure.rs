//! Passes over two emulated Azure registries: what is hidden or locked there is no drift.

use std::collections::BTreeMap;
use std::sync::Arc;

use catamaran_api::mirror::RegistryMirror;
use catamaran_api::policy::policy;
use catamaran_controller::mirrors::Comparison;
use catamaran_core::mirror::in_use::{InUse, Use};
use catamaran_core::mirror::parity::Verdict;
use catamaran_core::policy::{MirrorPolicy, Provider};
use catamaran_core::side::Sides;
use catamaran_emulators::acr::Attributes;
use catamaran_emulators::{Acr, Clock as Time, Memory, Options, Server};
use catamaran_registry::{Client, Connection, Limits};
use serde_json::{Value, json};

const HOSTS: Sides<&str> = Sides {
    primary: "one.azurecr.io",
    fallback: "two.azurecr.io",
};

struct Ground {
    memory: Arc<Memory>,
    acr: Arc<Acr>,
    server: Server,
    client: Client,
}

async fn registry(host: &str) -> Ground {
    let time = Time::new();
    let memory = Arc::new(Memory::new(time.clone()));
    let acr = Arc::new(Acr::new(host, memory.clone(), time.clone()));
    acr.set_anonymous_pull(true);
    let server = Server::start(acr.clone(), Options::default()).await.unwrap();
    let connection = Connection {
        registry: host.to_owned(),
        provider: Provider::Azure,
        extra_ca: Some(server.ca_pem().unwrap().as_bytes().to_vec()),
        resolve: vec![(host.to_owned(), server.address())],
        ..Connection::default()
    };
    Ground {
        memory,
        acr,
        server,
        client: Client::new(connection, Limits::default()).unwrap(),
    }
}

fn mirror(repositories: &Value) -> MirrorPolicy {
    let mirror = json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
        "metadata": {"name": "apps", "uid": "u1", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "primary": {"registry": HOSTS.primary, "provider": "azure"},
            "fallback": {"registry": HOSTS.fallback, "provider": "azure"},
            "parity": {"gracePeriod": "0s"},
            "repositories": repositories,
        },
    });
    let mirror: RegistryMirror = serde_json::from_value(mirror).unwrap();
    policy(&mirror).unwrap()
}

/// `web` on both sides, with a tag for each way in which the primary withholds one; passes until a difference is reported.
async fn passes(repositories: Value, in_use: &[&str]) -> (Ground, Comparison) {
    let (primary, fallback) = (registry(HOSTS.primary).await, registry(HOSTS.fallback).await);
    for tag in ["plain", "hidden", "unreadable", "quarantined", "missing"] {
        fallback.memory.push("web", tag, tag);
        if tag != "missing" {
            primary.memory.push("web", tag, tag);
        }
    }
    let open = Attributes::default();
    primary
        .acr
        .lock("web", Some("hidden"), Attributes { list: false, ..open });
    primary
        .acr
        .lock("web", Some("unreadable"), Attributes { read: false, ..open });
    let quarantined = primary.memory.push("web", "quarantined", "quarantined");
    primary.acr.quarantine("web", &quarantined);
    let clients = Sides {
        primary: primary.client.clone(),
        fallback: fallback.client.clone(),
    };
    let tags = in_use.iter().map(|tag| ((*tag).to_owned(), Use::default())).collect();
    let in_use = InUse {
        references: BTreeMap::from([("web".to_owned(), tags)]),
        ..InUse::default()
    };
    let mut comparison = Comparison::new(mirror(&repositories), clients, in_use);
    for _ in 0..3 {
        let pass = comparison.pass().await.unwrap();
        assert!(pass.is_complete(), "{pass:?}");
    }
    (primary, comparison)
}

#[tokio::test]
async fn listed_tags_only_missing_one_is_reported() {
    let (primary, comparison) = passes(json!([{"name": "web"}]), &[]).await;
    let verdict = |tag| comparison.mirror().verdict("web", tag);
    assert_eq!(verdict("plain"), Some(Verdict::InSync));
    assert_eq!(verdict("hidden"), Some(Verdict::InSync));
    assert_eq!(verdict("unreadable"), Some(Verdict::Pending));
    assert_eq!(verdict("missing"), Some(Verdict::MissingOnPrimary));
    assert_eq!(comparison.mirror().summary().missing_on_primary, 1);
    // In each of three passes a page, and one request for each of the two tags that are not listed.
    let counts = primary.server.log().counts();
    assert_eq!(counts, [("tags", 3), ("manifest", 6), ("token", 1)].into());
}

#[tokio::test]
async fn many_missing_tags_are_not_read_one_by_one() {
    let (primary, fallback) = (registry(HOSTS.primary).await, registry(HOSTS.fallback).await);
    primary.memory.push("web", "0", "x");
    for n in 0..=60 {
        fallback.memory.push("web", &n.to_string(), "x");
    }
    let clients = Sides {
        primary: primary.client.clone(),
        fallback: fallback.client.clone(),
    };
    let mut comparison = Comparison::new(mirror(&json!([{"name": "web"}])), clients, InUse::default());
    for _ in 0..3 {
        comparison.pass().await.unwrap();
    }
    assert_eq!(comparison.mirror().summary().missing_on_primary, 60);
    let counts = primary.server.log().counts();
    let expected = [("tags", 3), ("manifest", 1), ("token", 1)];
    assert_eq!(counts, expected.into(), "a page for each pass");
}

#[tokio::test]
async fn tag_in_use_in_quarantine_is_not_missing() {
    let all = ["plain", "hidden", "unreadable", "quarantined", "missing"];
    let (_, comparison) = passes(Value::Null, &all).await;
    let found = all.map(|tag| comparison.mirror().verdict("web", tag));
    let expected = [
        Some(Verdict::InSync),
        Some(Verdict::InSync),
        Some(Verdict::Pending),
        Some(Verdict::Pending),
        Some(Verdict::MissingOnPrimary),
    ];
    assert_eq!(found, expected);
}
