//! `_tags`: pages and locks.

use std::sync::Arc;

use catamaran_emulators::acr::Attributes;
use catamaran_registry::{Budget, Client, Limits, Lock};

use crate::{Ground, workload};

async fn many(count: usize) -> (Ground, Client) {
    let ground = Ground::granted().await;
    for n in 0..count {
        let digest = format!("sha256:{n:064x}");
        ground.memory.tag("big", &format!("v{n:05}"), &digest);
    }
    let client = ground.client_as(&workload());
    (ground, client)
}

#[tokio::test]
async fn ten_thousand_tags_with_their_digests_are_ten_pages() {
    let (ground, client) = many(10_000).await;
    let tags = client.list_tags("big").await.unwrap();
    assert_eq!(tags.len(), 10_000);
    assert!(tags.iter().enumerate().all(|(n, tag)| {
        tag.name == format!("v{n:05}")
            && tag.digest.as_ref().map(ToString::to_string) == Some(format!("sha256:{n:064x}"))
            && tag.locked.is_none()
    }));
    assert_eq!(ground.registry.log().count("tags"), 10);
    assert_eq!(
        ground.registry.log().total(),
        12,
        "{:?}",
        ground.registry.log().counts()
    );
}

#[tokio::test]
async fn a_registry_with_a_smaller_cap_is_paged_through_all_the_same() {
    let (ground, client) = many(250).await;
    ground.acr.set_page_cap(100);
    assert_eq!(client.list_tags("big").await.unwrap().len(), 250);
    assert_eq!(ground.registry.log().count("tags"), 3);
}

#[tokio::test]
async fn full_pages_without_links_are_gone_on_from_by_name() {
    let (ground, client) = many(2_500).await;
    ground.acr.set_links(false);
    assert_eq!(client.list_tags("big").await.unwrap().len(), 2_500);
    assert_eq!(ground.registry.log().count("tags"), 3);
}

#[tokio::test]
async fn an_unknown_repository_is_absent() {
    let ground = Ground::granted().await;
    let client = ground.client_as(&workload());
    assert!(client.list_tags("nothing").await.unwrap_err().is_absent());
}

#[tokio::test]
async fn each_lock_is_told_with_the_tag_or_when_asked() {
    let ground = Ground::granted().await;
    let open = Attributes::default();
    let cases = [
        (
            "hidden",
            Attributes { list: false, ..open },
            Lock {
                hidden: true,
                ..Lock::default()
            },
        ),
        (
            "unreadable",
            Attributes { read: false, ..open },
            Lock {
                unreadable: true,
                ..Lock::default()
            },
        ),
        (
            "unwritable",
            Attributes { write: false, ..open },
            Lock {
                unwritable: true,
                ..Lock::default()
            },
        ),
    ];
    for (tag, attributes, _) in &cases {
        ground.memory.push("team/web", tag, tag);
        ground.acr.lock("team/web", Some(tag), *attributes);
    }
    let client = ground.client_as(&workload());
    let listed = client.list_tags("team/web").await.unwrap();
    let names: Vec<_> = listed.iter().map(|tag| tag.name.as_str()).collect();
    assert_eq!(names, ["1.0", "unreadable", "unwritable"]);
    for (tag, _, lock) in cases {
        assert_eq!(client.lock_of("team/web", tag).await.unwrap(), Some(lock), "{tag}");
        if let Some(listed) = listed.iter().find(|listed| listed.name == tag) {
            assert_eq!(listed.locked, Some(lock), "{tag}");
        }
        assert_eq!(
            client.resolve("team/web", tag).await.is_ok(),
            !lock.withholds(),
            "{tag}"
        );
    }
    assert_eq!(client.lock_of("team/web", "1.0").await.unwrap(), None);
    assert!(client.lock_of("team/web", "no-such-tag").await.is_err());
}

#[tokio::test]
async fn a_tag_in_quarantine_looks_absent_and_is_not() {
    let ground = Ground::granted().await;
    let digest = ground.memory.push("team/web", "new", "unscanned");
    ground.acr.quarantine("team/web", &digest);
    let client = ground.client_as(&workload());
    assert!(client.resolve("team/web", "new").await.unwrap_err().is_absent());
    let lock = client.lock_of("team/web", "new").await.unwrap().unwrap();
    assert!(lock.quarantined && lock.withholds());
    assert!(lock.describe().contains("quarantine"));
}

#[tokio::test]
async fn a_hundred_repositories_of_a_hundred_tags_cost_one_token_and_one_page_each() {
    let ground = Ground::granted().await;
    for repository in 0..100 {
        for tag in 0..100 {
            let digest = format!("sha256:{tag:064x}");
            ground
                .memory
                .tag(&format!("app-{repository:03}"), &format!("v{tag:03}"), &digest);
        }
    }
    let connection = ground.connection(crate::by(&ground.identities(), &workload()));
    // The requests are counted, not paced.
    let budget = Arc::new(Budget::per_minute(100_000));
    let client = Client::with_budget(connection, Limits::default(), budget).unwrap();
    let log = ground.registry.log();
    for _ in 0..2 {
        for repository in 0..100 {
            let tags = client.list_tags(&format!("app-{repository:03}")).await.unwrap();
            assert_eq!(tags.len(), 100);
        }
    }
    // Tokens are kept for an hour: the second pass needs pages only.
    assert_eq!(log.counts(), [("exchange", 1), ("tags", 200), ("token", 100)].into());
}
