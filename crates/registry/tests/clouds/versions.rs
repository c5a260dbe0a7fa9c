//! GitHub's package versions as the source of digests: when they are read, what they cost, and that they are never needed.

use std::collections::BTreeMap;
use std::sync::Arc;

use catamaran_emulators::Answer;
use catamaran_registry::{Client, Credentials};

use super::basic;
use super::github::{Ground, PAT, WEB};

/// Tags with the digests that the listing told.
async fn listed(client: &Client) -> BTreeMap<String, Option<String>> {
    let tags = client.list_tags(WEB).await.unwrap();
    tags.into_iter()
        .map(|tag| (tag.name, tag.digest.map(|digest| digest.to_string())))
        .collect()
}

/// As many tags as asked for, each with content of its own.
fn push(ground: &Ground, tags: usize) -> BTreeMap<String, Option<String>> {
    let push = |n| {
        (
            format!("t{n:04}"),
            Some(ground.memory.push(WEB, &format!("t{n:04}"), &format!("content {n}"))),
        )
    };
    (0..tags).map(push).collect()
}

fn without_digests(tags: &BTreeMap<String, Option<String>>) -> BTreeMap<String, Option<String>> {
    tags.keys().map(|tag| (tag.clone(), None)).collect()
}

#[tokio::test]
async fn a_classic_token_lists_digests_without_asking_tag_by_tag() {
    let ground = Ground::start().await;
    let pushed = push(&ground, 250);
    assert_eq!(listed(&ground.with_pat()).await, pushed);
    let log = ground.server.log();
    assert_eq!(
        (log.count("tags"), log.count("versions"), log.count("manifest")),
        (1, 3, 0)
    );
    let rest = log.requests().into_iter().filter(|request| request.kind == "versions");
    for request in rest {
        assert_eq!(request.authorization.as_deref(), Some(format!("Bearer {PAT}").as_str()));
        assert_eq!(request.path, "/orgs/krateo/packages/container/web/versions");
    }
}

#[tokio::test]
async fn an_unchanged_pass_costs_nothing_of_the_limit() {
    let ground = Ground::start().await;
    let pushed = push(&ground, 250);
    let client = ground.with_pat();
    listed(&client).await;
    let left = ground.rest.remaining();
    assert_eq!(listed(&client).await, pushed);
    assert_eq!(ground.rest.remaining(), left);
    assert_eq!(ground.server.log().count("versions-unchanged"), 3);
    // A new tag makes every page another.
    let digest = ground.memory.push(WEB, "new", "new");
    assert_eq!(listed(&client).await["new"], Some(digest));
}

#[tokio::test]
async fn versions_that_cost_more_than_tags_are_left_alone() {
    let ground = Ground::start().await;
    let pushed = push(&ground, 3);
    ground.rest.set_untagged(WEB, 300);
    let client = ground.with_pat();
    for pass in 0..3 {
        assert_eq!(listed(&client).await, without_digests(&pushed), "pass {pass}");
    }
    assert_eq!(ground.server.log().count("versions"), 1, "looked at once");
}

#[tokio::test]
async fn untagged_versions_are_read_over_while_that_pays() {
    let ground = Ground::start().await;
    let pushed = push(&ground, 20);
    ground.rest.set_untagged(WEB, 900);
    assert_eq!(listed(&ground.with_pat()).await, pushed);
    assert_eq!(ground.server.log().count("versions"), 10);
}

#[tokio::test]
async fn a_tag_that_moves_while_pages_are_read_is_left_to_the_registry() {
    let ground = Ground::start().await;
    let pushed = push(&ground, 250);
    // The newest version carries `moved` when the first page is read; an old one when the third is.
    let first = ground.memory.push(WEB, "moved", "young");
    let old = pushed["t0000"].clone().unwrap();
    let (memory, target) = (Arc::clone(&ground.memory), old.clone());
    ground.rest.after_page(1, move || {
        memory.tag("krateo/web", "moved", &target);
    });
    let client = ground.with_pat();
    let found = listed(&client).await;
    assert_eq!(found["moved"], None, "{first} on the first page and {old} on the third");
    assert_eq!(
        found["t0000"].as_ref(),
        Some(&old),
        "a tag that only one version has is believed"
    );
    assert_eq!(client.resolve(WEB, "moved").await.unwrap().digest.to_string(), old);
}

#[tokio::test]
async fn a_package_of_a_user_is_found_and_remembered_as_one() {
    let ground = Ground::start().await;
    let pushed = push(&ground, 5);
    ground.rest.add_user("krateo");
    for tag in ["1.0", "2.0"] {
        ground.memory.push("krateo/other", tag, tag);
    }
    let client = ground.with_pat();
    assert_eq!(listed(&client).await, pushed);
    assert_eq!(listed(&client).await, pushed);
    let other = client.list_tags("krateo/other").await.unwrap();
    assert!(other[0].digest.is_some(), "{other:?}");
    let paths = ground
        .server
        .log()
        .requests()
        .into_iter()
        .filter(|request| request.host == "api.github.com");
    let owners: Vec<_> = paths
        .map(|request| request.path.split('/').nth(1).unwrap().to_owned())
        .collect();
    assert_eq!(
        owners,
        ["orgs", "users", "users", "users"],
        "found out once for the account"
    );
}

#[tokio::test]
async fn an_account_that_was_a_user_and_became_an_organisation_is_found_again() {
    let ground = Ground::start().await;
    push(&ground, 5);
    ground.rest.add_user("krateo");
    let client = ground.with_pat();
    listed(&client).await;
    ground.rest.remove_user("krateo");
    for (repository, tag) in [("other", "1"), ("other", "2"), ("third", "1"), ("third", "2")] {
        ground.memory.push(&format!("krateo/{repository}"), tag, tag);
    }
    let digests = async |repository: &str| client.list_tags(repository).await.unwrap()[0].digest.is_some();
    assert!(
        !digests("krateo/other").await,
        "asked as a user's: then its tags are read one by one"
    );
    assert!(digests("krateo/third").await);
}

#[tokio::test]
async fn whatever_the_rest_interface_answers_the_listing_stands() {
    let broken = [
        ("bad credentials", Answer::status("x", 401)),
        ("no access", Answer::status("x", 403)),
        ("gone", Answer::status("x", 404)),
        (
            "moved",
            Answer::status("x", 301).header("location", "https://evil.test/"),
        ),
        ("down", Answer::status("x", 503)),
        ("throttled", Answer::status("x", 429).header("retry-after", "60")),
        ("a page", Answer::status("x", 200).body("<html>")),
        ("an object", Answer::status("x", 200).body("{}")),
        ("unasked 304", Answer::status("x", 304)),
    ];
    for (name, answer) in broken {
        let ground = Ground::start().await;
        let pushed = push(&ground, 5);
        ground.rest.set_fault(Some(answer));
        let client = ground.with_pat();
        assert_eq!(listed(&client).await, without_digests(&pushed), "{name}");
        let asked = ground.server.log().count("versions");
        assert_eq!(listed(&client).await, without_digests(&pushed), "{name}");
        assert_eq!(
            ground.server.log().count("versions"),
            asked,
            "{name}: left alone for a while"
        );
        assert_eq!(ground.server.log().count("unknown host"), 0, "{name}");
    }
}

#[tokio::test]
async fn a_used_up_limit_is_kept_to_and_the_listing_stands() {
    let ground = Ground::start().await;
    let pushed = push(&ground, 250);
    ground.rest.set_remaining(1);
    let client = ground.with_pat();
    assert_eq!(listed(&client).await, without_digests(&pushed));
    assert_eq!(listed(&client).await, without_digests(&pushed));
    assert_eq!(
        ground.server.log().count("versions"),
        2,
        "the page that was refused is the last that is asked for"
    );
}

#[tokio::test]
async fn tokens_of_other_kinds_stay_away_from_the_rest_interface() {
    let ground = Ground::start().await;
    let pushed = push(&ground, 5);
    ground.ghcr.publish(WEB);
    for token in ["ghs_actions", "gho_oauth", "hunter2"] {
        ground.ghcr.add_token(token, &["*"]);
        let client = ground.client(basic("kev", token));
        assert_eq!(listed(&client).await, without_digests(&pushed), "{token}");
    }
    assert_eq!(
        listed(&ground.client(Credentials::Anonymous)).await,
        without_digests(&pushed)
    );
    assert_eq!(ground.server.log().count("versions"), 0);
}

#[tokio::test]
async fn a_hundred_repositories_of_a_hundred_tags_take_three_requests_each() {
    let ground = Ground::start().await;
    let repositories: Vec<_> = (0..100).map(|n| format!("krateo/app-{n:02}")).collect();
    for repository in &repositories {
        for tag in 0..100 {
            ground
                .memory
                .tag(repository, &format!("t{tag}"), &format!("sha256:{:064x}", tag + 1));
        }
    }
    let client = ground.with_pat();
    for repository in &repositories {
        let tags = client.list_tags(repository).await.unwrap();
        assert_eq!(
            tags.iter().filter(|tag| tag.digest.is_some()).count(),
            100,
            "{repository}"
        );
    }
    assert_eq!(ground.server.log().total(), 300, "{:?}", ground.server.log().counts());
}
