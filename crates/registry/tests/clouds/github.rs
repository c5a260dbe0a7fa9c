//! GitHub: tokens, what a refusal means, limits, and redirects away.

use std::sync::Arc;
use std::time::Duration;

use catamaran_core::endpoint::{Outcome, Unavailable};
use catamaran_core::policy::Provider;
use catamaran_emulators::{Answer, Clock, Ghcr, GithubRest, Hosts, Memory, Options, Server, ghcr, github_rest};
use catamaran_registry::{Budgets, Class, Client, Credentials, ProbeTarget, Stage};

use super::{basic, connection, limits};

pub(crate) const WEB: &str = "krateo/web";
pub(crate) const PAT: &str = "ghp_0123456789abcdefghijABCDEFGHIJ012345";

/// GitHub on loopback: the registry, its blob host and the REST interface.
pub(crate) struct Ground {
    pub(crate) memory: Arc<Memory>,
    pub(crate) ghcr: Arc<Ghcr>,
    pub(crate) rest: Arc<GithubRest>,
    pub(crate) server: Server,
}

impl Ground {
    pub(crate) async fn start() -> Ground {
        let clock = Clock::new();
        let memory = Arc::new(Memory::new(clock.clone()));
        let ghcr = Arc::new(Ghcr::new(memory.clone(), clock.clone()));
        let rest = Arc::new(GithubRest::new(memory.clone(), clock.clone()));
        ghcr.add_token(PAT, &["*"]);
        rest.add_token(PAT);
        let hosts = Hosts::new()
            .with(ghcr::HOST, ghcr.clone())
            .with(ghcr::BLOBS, ghcr.clone())
            .with(github_rest::HOST, rest.clone());
        let options = Options {
            clock,
            ..Options::default()
        };
        let server = Server::start(Arc::new(hosts), options).await.unwrap();
        Ground {
            memory,
            ghcr,
            rest,
            server,
        }
    }

    pub(crate) fn client(&self, credentials: Credentials) -> Client {
        let mut connection = connection(&self.server, ghcr::HOST, &[ghcr::HOST, ghcr::BLOBS, github_rest::HOST]);
        connection.provider = Provider::GitHub;
        connection.credentials = credentials;
        Client::with_budgets(connection, limits(), &Budgets::new()).unwrap()
    }

    pub(crate) fn with_pat(&self) -> Client {
        self.client(basic("kev", PAT))
    }
}

#[tokio::test]
async fn a_public_package_is_read_anonymously_and_still_with_a_token() {
    let ground = Ground::start().await;
    let digest = ground.memory.push(WEB, "1.0", "first");
    ground.ghcr.publish(WEB);
    let client = ground.client(Credentials::Anonymous);
    let tags = client.list_tags(WEB).await.unwrap();
    assert_eq!((tags[0].name.as_str(), &tags[0].digest), ("1.0", &None));
    assert_eq!(client.resolve(WEB, "1.0").await.unwrap().digest.to_string(), digest);
    assert_eq!(ground.server.log().count("token"), 1, "one token for both");
    assert_eq!(
        ground.server.log().count("versions"),
        0,
        "the list of versions takes a token of a person"
    );
}

#[tokio::test]
async fn diagnosis_sends_no_credential_to_the_host_of_blobs() {
    let ground = Ground::start().await;
    let digest = ground.memory.push(WEB, "1.0", "first");
    let target = ProbeTarget {
        canary: Some((WEB.to_owned(), digest.parse().unwrap())),
        blob: true,
        fresh_token: true,
    };
    let report = ground.with_pat().probe(&target, Duration::from_secs(20)).await;
    assert_eq!(
        (report.outcome, report.stage),
        (Outcome::Reachable, Stage::Blob),
        "{}",
        report.message
    );
    let requests = ground.server.log().requests();
    let blob = requests.iter().find(|request| request.host == ghcr::BLOBS).unwrap();
    assert_eq!(blob.authorization, None);
    for request in &requests {
        let holds = request
            .authorization
            .as_ref()
            .is_some_and(|value| value.starts_with("Basic "));
        assert_eq!(holds, request.kind == "token", "{request:?}");
    }
}

#[tokio::test]
async fn an_index_is_found_because_every_kind_of_manifest_is_accepted() {
    let ground = Ground::start().await;
    let kinds = [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.oci.artifact.manifest.v1+json",
    ];
    for (number, kind) in kinds.into_iter().enumerate() {
        let (tag, body) = (number.to_string(), format!(r#"{{"schemaVersion":2,"n":{number}}}"#));
        let digest = ground.memory.put_manifest(WEB, Some(&tag), kind, body);
        let found = ground.with_pat().resolve(WEB, &tag).await.unwrap();
        assert_eq!(found.digest.to_string(), digest, "{kind}");
    }
}

#[tokio::test]
async fn a_wrong_or_expired_token_is_told_from_one_without_access() {
    let ground = Ground::start().await;
    ground.memory.push(WEB, "1.0", "first");
    ground.memory.push("krateo/secret", "1.0", "second");
    ground.ghcr.publish(WEB);
    ground.ghcr.add_token("ghp_elsewhere", &["krateo/other"]);
    let cases = [
        (
            "wrong, public package",
            "ghp_wrong",
            WEB,
            Class::Unauthorized,
            "wrong or has expired; without one",
        ),
        (
            "wrong, private package",
            "ghp_wrong",
            "krateo/secret",
            Class::Forbidden,
            "gives no access to it or has expired",
        ),
        (
            "no access",
            "ghp_elsewhere",
            "krateo/secret",
            Class::Forbidden,
            "gives no access to it or has expired",
        ),
        // Which is not told from one without access.
        (
            "no such package",
            PAT,
            "krateo/none",
            Class::Forbidden,
            "gives no access to it or has expired",
        ),
    ];
    for (name, token, package, class, said) in cases {
        ground.server.log().clear();
        let failure = ground.client(basic("kev", token)).list_tags(package).await.unwrap_err();
        assert_eq!(failure.class, class, "{name}: {failure}");
        assert!(failure.message.contains(said), "{name}: {failure}");
        assert!(!failure.message.contains(token), "{name}: {failure}");
        assert!(
            !matches!(failure.outcome(), Outcome::Unavailable(_)),
            "{name}: no outage"
        );
        let asked = ground.server.log().requests();
        let anonymously = asked
            .iter()
            .filter(|request| request.kind == "token" && request.authorization.is_none());
        assert_eq!(anonymously.count(), 1, "{name}: asked once without it");
    }
}

#[tokio::test]
async fn a_token_that_expires_is_refused_by_name_and_without_a_package_it_is_the_token() {
    let ground = Ground::start().await;
    ground.ghcr.expire_token(PAT);
    let report = ground
        .with_pat()
        .probe(&ProbeTarget::default(), Duration::from_secs(20))
        .await;
    assert_eq!((report.outcome, report.stage), (Outcome::Unauthorized, Stage::Token));
    assert!(
        report.message.ends_with("the credential is wrong or has expired"),
        "{}",
        report.message
    );
    assert_eq!(
        ground.server.log().count("token"),
        1,
        "nothing was asked for that could be public"
    );
}

#[tokio::test]
async fn a_denial_stays_what_it_is_when_asking_without_the_credential_fails() {
    let ground = Ground::start().await;
    ground.memory.push(WEB, "1.0", "first");
    let denied = Answer::error("token", 403, "DENIED", "denied");
    ground.ghcr.fail("token", denied, 1);
    ground.ghcr.fail("token", Answer::status("token", 503), 1);
    let failure = ground.with_pat().resolve(WEB, "1.0").await.unwrap_err();
    assert_eq!(
        (failure.stage, failure.class.clone()),
        (Stage::Token, Class::Forbidden),
        "{failure}"
    );
    assert!(failure.message.ends_with("DENIED: denied"), "{failure}");
}

#[tokio::test]
async fn a_private_package_without_a_credential_is_unauthorized() {
    let ground = Ground::start().await;
    ground.memory.push(WEB, "1.0", "first");
    let failure = ground.client(Credentials::Anonymous).list_tags(WEB).await.unwrap_err();
    assert_eq!(
        (failure.stage, failure.class.clone()),
        (Stage::Token, Class::Unauthorized),
        "{failure}"
    );
}

#[tokio::test]
async fn a_redirect_to_the_website_is_misrouted_and_never_followed() {
    let ground = Ground::start().await;
    let digest = ground.memory.push(WEB, "1.0", "first");
    let client = ground.client(basic("kev", PAT));
    ground.ghcr.misroute("tags", 1);
    let listing = client.list_tags(WEB).await.unwrap_err();
    ground.ghcr.misroute("manifest", 1);
    let manifest = client.resolve(WEB, "1.0").await.unwrap_err();
    for failure in [listing, manifest] {
        assert_eq!(
            (failure.class.clone(), failure.status),
            (Class::Misrouted, Some(303)),
            "{failure}"
        );
        assert!(
            failure
                .message
                .ends_with("redirects to another place (github.com), which is not followed here"),
            "{failure}"
        );
        assert!(!failure.is_absent());
    }
    assert_eq!(ground.server.log().count("unknown host"), 0);
    assert_eq!(client.resolve(WEB, "1.0").await.unwrap().digest.to_string(), digest);
}

#[tokio::test]
async fn limits_are_throttling_and_the_wait_is_read_from_the_message() {
    let ground = Ground::start().await;
    ground.memory.push(WEB, "1.0", "first");
    let waits = [
        ("1.16676ms", Some(Duration::from_nanos(1_166_760))),
        ("500µs", Some(Duration::from_micros(500))),
        ("1m2.5s", Some(Duration::from_millis(62_500))),
        ("876000h", Some(Duration::from_mins(5))),
        ("-1s", None),
        ("soon", None),
    ];
    for (text, retry_after) in waits {
        let client = ground.with_pat();
        ground.ghcr.throttle("tags", text, 1);
        let failure = client.list_tags(WEB).await.unwrap_err();
        assert_eq!(failure.class, Class::Throttled { retry_after }, "{text}: {failure}");
    }
    let client = ground.with_pat();
    ground.ghcr.limit_secondarily("tags", 1);
    let failure = client.list_tags(WEB).await.unwrap_err();
    assert_eq!(failure.class, Class::Throttled { retry_after: None }, "{failure}");
    assert_eq!(failure.status, Some(403));
}

#[tokio::test]
async fn pages_from_the_oldest_to_the_newest_are_followed_by_their_links() {
    let ground = Ground::start().await;
    ground.ghcr.publish(WEB);
    ground.ghcr.set_largest_page(7);
    // Not in the order of their names, and pushed in this one.
    let names: Vec<String> = (0..30).map(|n| format!("t{:02}", (n * 17) % 30)).collect();
    for name in &names {
        ground.memory.push(WEB, name, name);
        ground.server.clock().advance(Duration::from_millis(5));
    }
    let tags = ground.client(Credentials::Anonymous).list_tags(WEB).await.unwrap();
    let listed: Vec<_> = tags.into_iter().map(|tag| tag.name).collect();
    let mut expected = names;
    expected.sort();
    assert_eq!(listed, expected);
    assert_eq!(ground.server.log().count("tags"), 5);
}

#[tokio::test]
async fn an_outage_of_the_token_endpoint_is_one() {
    let ground = Ground::start().await;
    ground.memory.push(WEB, "1.0", "first");
    ground.ghcr.fail("token", Answer::status("token", 503), 10);
    let failure = ground.with_pat().resolve(WEB, "1.0").await.unwrap_err();
    assert_eq!(
        (failure.stage, failure.outcome()),
        (Stage::Token, Outcome::Unavailable(Unavailable::ServerError)),
        "{failure}"
    );
}
