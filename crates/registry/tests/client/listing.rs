//! Lists of tags.

use catamaran_core::endpoint::Unavailable;
use catamaran_core::policy::Provider;
use catamaran_registry::{Budget, Class, Client, Limits};
use catamaran_scripted_registry::{Fault, Registry, What};

use crate::{AZURE, GITHUB, answer, client, generic, limits, registry_with_image, unavailable};

fn unhurried(registry: &Registry, host: &str, provider: Provider) -> Client {
    let budget = std::sync::Arc::new(Budget::per_minute(1_000_000));
    Client::with_budget(registry.connection(host, provider), limits(), budget).unwrap()
}

#[tokio::test]
async fn every_tag_is_listed_once_whatever_the_number_of_pages() {
    for count in [0, 1, 99, 100, 101, 1000, 2500] {
        for (host, provider, digests) in [(GITHUB, Provider::GitHub, false), (AZURE, Provider::Azure, true)] {
            let registry = Registry::start().await.unwrap();
            registry.set_page_size(100);
            let digest = registry.push("krateo/web", "t", "x");
            registry.untag("krateo/web", "t");
            for n in 0..count {
                registry.tag("krateo/web", &format!("v{n:05}"), &digest);
            }
            let tags = unhurried(&registry, host, provider)
                .list_tags("krateo/web")
                .await
                .unwrap();
            assert_eq!(tags.len(), count);
            assert!(tags.is_sorted_by(|one, other| one.name < other.name));
            assert!(tags.iter().all(|tag| tag.digest.is_some() == digests), "{provider:?}");
        }
    }
}

#[tokio::test]
async fn a_repository_costs_one_token_and_one_request_for_each_page() {
    for (host, provider, path) in [
        (GITHUB, Provider::GitHub, "/v2/krateo/web/tags/list"),
        (AZURE, Provider::Azure, "/acr/v1/krateo/web/_tags"),
    ] {
        let registry = Registry::start().await.unwrap();
        for n in 0..100 {
            registry.push("krateo/web", &format!("v{n}"), "x");
        }
        client(registry.connection(host, provider))
            .list_tags("krateo/web")
            .await
            .unwrap();
        assert_eq!(
            (registry.requests().len(), registry.count(path)),
            (2, 1),
            "{provider:?}"
        );
    }
}

#[tokio::test]
async fn azures_full_page_without_a_link_is_asked_beyond() {
    let registry = Registry::start().await.unwrap();
    registry.set_links(false);
    let digest = registry.push("krateo/web", "v00000", "x");
    for n in 1..2000 {
        registry.tag("krateo/web", &format!("v{n:05}"), &digest);
    }
    let tags = unhurried(&registry, AZURE, Provider::Azure)
        .list_tags("krateo/web")
        .await
        .unwrap();
    assert_eq!(tags.len(), 2000);
}

#[tokio::test]
async fn unsorted_and_repeated_tags_come_out_sorted_and_once() {
    let registry = registry_with_image().await;
    registry.fault(Fault::on(
        "/tags/list",
        What::json(r#"{"name":"x","tags":["b","a","c","a","b"]}"#),
    ));
    let tags = generic(&registry).list_tags("krateo/web").await.unwrap();
    let names: Vec<_> = tags.iter().map(|tag| tag.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[tokio::test]
async fn pages_without_end_and_in_a_circle_are_given_up() {
    let registry = registry_with_image().await;
    let few = Limits { pages: 50, ..limits() };
    let client = Client::with_budget(
        registry.connection("registry.test", Provider::Generic),
        few,
        std::sync::Arc::new(Budget::per_minute(100_000)),
    )
    .unwrap();
    registry.fault(Fault::on("/tags/list", What::EndlessPages));
    let failure = client.list_tags("krateo/web").await.unwrap_err();
    assert_eq!(failure.class, Class::TooLarge, "{failure}");
    assert_eq!(registry.count("/tags/list"), 50);

    registry.clear_faults();
    registry.forget_requests();
    registry.fault(Fault::on("/tags/list", What::CircularPages));
    let failure = client.list_tags("krateo/web").await.unwrap_err();
    assert!(failure.message.contains("circle"), "{failure}");
    assert_eq!(registry.count("/tags/list"), 2, "the first was asked for a token");
}

#[tokio::test]
async fn a_listing_as_a_whole_has_a_time_limit() {
    let registry = registry_with_image().await;
    registry.fault(Fault::on("/tags/list", What::EndlessPages));
    let brief = Limits {
        listing: std::time::Duration::from_millis(100),
        ..limits()
    };
    let client = Client::new(registry.connection("registry.test", Provider::Generic), brief).unwrap();
    let failure = client.list_tags("krateo/web").await.unwrap_err();
    assert_eq!(failure.class, unavailable(Unavailable::Timeout), "{failure}");
}

#[tokio::test]
async fn a_repository_with_absurdly_many_tags_is_given_up() {
    let registry = registry_with_image().await;
    let few = Limits { tags: 10, ..limits() };
    let client = Client::new(registry.connection("registry.test", Provider::Generic), few).unwrap();
    registry.fault(Fault::on("/tags/list", What::EndlessPages));
    assert_eq!(client.list_tags("krateo/web").await.unwrap_err().class, Class::TooLarge);
}

#[tokio::test]
async fn the_next_page_must_be_the_same_list_on_the_same_host() {
    let elsewhere = [
        "https://evil.test/v2/krateo/web/tags/list?last=a",
        "ftp://registry.test:444/v2/krateo/web/tags/list/?last=a",
        "//evil.test/v2/krateo/web/tags/list",
        "/v2/krateo/other/tags/list?last=a",
        "/v2/krateo/web/tags/../../../../token",
        "https://user:pass@registry.test/v2/krateo/web/tags/list?last=a",
        "https://registry.test@evil.test/v2/krateo/web/tags/list?last=a",
        "/token",
    ];
    for target in elsewhere {
        let registry = registry_with_image().await;
        let link = format!("<{target}>; rel=\"next\"");
        registry.fault(Fault::on("/tags/list", answer(200, &[("link", &link)], r#"{"tags":["a"]}"#)).times(2));
        let mut connection = registry.connection("registry.test", Provider::Generic);
        connection.resolve.push(("evil.test".to_owned(), registry.address()));
        let client = client(connection);
        client.resolve("krateo/web", "1.0").await.unwrap();
        registry.forget_requests();
        let failure = client.list_tags("krateo/web").await.unwrap_err();
        assert_eq!(failure.class, Class::Misrouted, "{target}");
        assert_eq!(registry.requests().len(), 1, "{target}");
    }
}

#[tokio::test]
async fn what_is_no_list_is_a_failure_and_never_an_empty_list() {
    let registry = registry_with_image().await;
    for body in [
        "",
        "[]",
        "{}",
        "null",
        "1",
        r#""x""#,
        r#"{"errors":[]}"#,
        r#"{"tags":{}}"#,
        r#"[["a"]]"#,
        "<html>",
        "{\"tags\":[",
    ] {
        registry.clear_faults();
        registry.fault(Fault::on("/tags/list", What::json(body)));
        let failure = generic(&registry).list_tags("krateo/web").await.unwrap_err();
        assert_eq!(failure.class, Class::Unexpected, "{body}");
    }
    registry.clear_faults();
    // What it calls itself does not matter, except when it calls itself a web page.
    registry.fault(Fault::on(
        "/tags/list",
        answer(200, &[("content-type", "image/png")], r#"{"tags":["a"]}"#),
    ));
    assert_eq!(generic(&registry).list_tags("krateo/web").await.unwrap().len(), 1);
    registry.clear_faults();
    registry.fault(Fault::on(
        "/tags/list",
        answer(200, &[("content-type", "text/html")], r#"{"tags":["a"]}"#),
    ));
    assert!(generic(&registry).list_tags("krateo/web").await.is_err());
    let null = What::json(r#"{"name":"krateo/web","tags":null}"#);
    registry.clear_faults();
    registry.fault(Fault::on("/tags/list", null));
    assert_eq!(generic(&registry).list_tags("krateo/web").await, Ok(Vec::new()));
}

#[tokio::test]
async fn ten_thousand_tags_in_a_hundred_repositories_cost_three_hundred_requests_at_most() {
    let registry = Registry::start().await.unwrap();
    registry.set_page_size(100);
    for repository in 0..100 {
        for tag in 0..100 {
            registry.push(&format!("krateo/r{repository}"), &format!("v{tag}"), "x");
        }
    }
    let client = unhurried(&registry, GITHUB, Provider::GitHub);
    let mut tags = 0;
    for repository in 0..100 {
        tags += client.list_tags(&format!("krateo/r{repository}")).await.unwrap().len();
    }
    assert_eq!(tags, 10_000);
    assert_eq!(registry.requests().len(), 200, "a token and a page for each repository");
    assert_eq!(registry.connections(), 1);
}
