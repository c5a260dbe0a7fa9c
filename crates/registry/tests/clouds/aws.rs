//! Amazon: the account's interface, the registry's password, and caches that nothing is pulled through by looking.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use catamaran_core::endpoint::Outcome;
use catamaran_core::policy::Provider;
use catamaran_emulators::{Answer, Aws, Clock, Ecr, Hosts, Memory, Options, Server};
use catamaran_registry::aws::AwsIdentity;
use catamaran_registry::{Budgets, Class, Client, Credentials, Keyring, ProbeTarget, PullError, Stage};

use super::{basic, connection, limits};

pub(crate) const ACCOUNT: &str = "123456789012";
pub(crate) const REGION: &str = "eu-central-1";
pub(crate) const STS: &str = "sts.eu-central-1.amazonaws.com";
pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const WEB: &str = "krateo/web";

/// Amazon on loopback: the registry, the account's interface and STS.
pub(crate) struct Ground {
    pub(crate) memory: Arc<Memory>,
    pub(crate) upstream: Arc<Memory>,
    pub(crate) aws: Arc<Aws>,
    pub(crate) ecr: Arc<Ecr>,
    pub(crate) server: Server,
}

impl Ground {
    pub(crate) async fn start() -> Ground {
        let clock = Clock::new();
        let memory = Arc::new(Memory::new(clock.clone()));
        let upstream = Arc::new(Memory::new(clock.clone()));
        let aws = Arc::new(Aws::new(clock.clone()));
        aws.add_key("AKIAEXAMPLE", SECRET, "user");
        let ecr = Arc::new(Ecr::new(ACCOUNT, REGION, memory.clone(), aws.clone(), clock.clone()));
        ecr.cache("github", "ghcr.io", upstream.clone());
        let hosts = Hosts::new()
            .with(&ecr.host(), ecr.clone())
            .with(&ecr.api(), ecr.clone())
            .with(STS, aws.clone());
        let options = Options {
            clock,
            ..Options::default()
        };
        let server = Server::start(Arc::new(hosts), options).await.unwrap();
        Ground {
            memory,
            upstream,
            aws,
            ecr,
            server,
        }
    }

    pub(crate) fn client(&self, credentials: Credentials, pull_through: bool) -> Client {
        let (host, api) = (self.ecr.host(), self.ecr.api());
        let mut connection = connection(&self.server, &host, &[&host, &api, STS]);
        connection.provider = Provider::Aws;
        connection.credentials = credentials;
        connection.pull_through = pull_through;
        Client::with_budgets(connection, limits(), &Budgets::new()).unwrap()
    }

    pub(crate) fn with_key(&self) -> Client {
        self.client(key(SECRET), false)
    }

    fn count(&self, kind: &str) -> usize {
        self.server.log().count(kind)
    }
}

pub(crate) fn identity(variables: &[(&str, &str)]) -> Credentials {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    AwsIdentity::from_variables(variables.iter().map(pair)).into()
}

fn key(secret: &str) -> Credentials {
    identity(&[("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", secret)])
}

async fn listed(client: &Client, repository: &str) -> BTreeMap<String, Option<String>> {
    let tags = client.list_tags(repository).await.unwrap();
    tags.into_iter()
        .map(|tag| (tag.name, tag.digest.map(|digest| digest.to_string())))
        .collect()
}

#[tokio::test]
async fn images_are_listed_with_digests_page_by_page() {
    let ground = Ground::start().await;
    ground.ecr.set_page_cap(10);
    let push = |n| {
        (
            format!("t{n:02}"),
            Some(ground.memory.push(WEB, &format!("t{n:02}"), &format!("{n}"))),
        )
    };
    let pushed: BTreeMap<_, _> = (0..35).map(push).collect();
    assert_eq!(listed(&ground.with_key(), WEB).await, pushed);
    assert_eq!(
        (ground.count("images"), ground.count("tags"), ground.count("manifest")),
        (4, 0, 0)
    );
}

#[tokio::test]
async fn an_archived_image_is_absent() {
    let ground = Ground::start().await;
    ground.memory.push(WEB, "1.0", "first");
    let digest = ground.memory.push(WEB, "0.9", "old");
    ground.ecr.archive(WEB, &digest);
    let listed = listed(&ground.with_key(), WEB).await;
    assert_eq!(listed.keys().collect::<Vec<_>>(), ["1.0"]);
    for pull_through in [false, true] {
        let failure = ground
            .client(key(SECRET), pull_through)
            .resolve(WEB, "0.9")
            .await
            .unwrap_err();
        assert!(failure.is_absent(), "{failure}");
    }
}

#[tokio::test]
async fn a_repository_that_does_not_exist_is_absent() {
    let ground = Ground::start().await;
    let failure = ground.with_key().list_tags("krateo/none").await.unwrap_err();
    assert!(failure.is_absent(), "{failure}");
    assert_eq!(failure.code.as_deref(), Some("RepositoryNotFoundException"));
}

#[tokio::test]
async fn diagnosis_fetches_the_password_once() {
    let ground = Ground::start().await;
    let digest = ground.memory.push(WEB, "1.0", "first");
    let target = ProbeTarget {
        canary: Some((WEB.to_owned(), digest.parse().unwrap())),
        blob: true,
        fresh_token: true,
    };
    let client = ground.with_key();
    for _ in 0..3 {
        let report = client.probe(&target, Duration::from_secs(20)).await;
        assert_eq!(
            (report.outcome, report.stage),
            (Outcome::Reachable, Stage::Blob),
            "{}",
            report.message
        );
    }
    let empty = client.probe(&ProbeTarget::default(), Duration::from_secs(20)).await;
    assert_eq!(empty.outcome, Outcome::Reachable);
    assert_eq!(ground.count("password"), 1);
    for request in ground.server.log().requests() {
        let scheme = request
            .authorization
            .as_deref()
            .and_then(|value| value.split(' ').next());
        let expected = if request.host.starts_with("api.") {
            "AWS4-HMAC-SHA256"
        } else {
            "Basic"
        };
        assert!(scheme.is_none_or(|scheme| scheme == expected), "{request:?}");
    }
}

#[tokio::test]
async fn what_the_interface_refuses_is_told_by_its_name() {
    let refused = |status, name: &str| {
        Answer::status("x", status).body(format!(
            r#"{{"__type":"com.amazonaws.ecr#{name}","message":"Because."}}"#
        ))
    };
    let throttled = Class::Throttled { retry_after: None };
    let cases = [
        (
            "ThrottlingException",
            400,
            throttled.clone(),
            "ThrottlingException: Because.",
        ),
        ("", 429, throttled, "429"),
        (
            "ExpiredTokenException",
            400,
            Class::Unauthorized,
            "ExpiredTokenException",
        ),
        (
            "AccessDeniedException",
            400,
            Class::Forbidden,
            "the identity lacks ecr:GetAuthorizationToken",
        ),
        ("ServerException", 500, Class::CredentialsUnavailable, "ServerException"),
        ("", 503, Class::CredentialsUnavailable, "503"),
    ];
    for (name, status, class, said) in cases {
        let ground = Ground::start().await;
        ground.memory.push(WEB, "1.0", "first");
        ground.ecr.fail("GetAuthorizationToken", refused(status, name), 1);
        let client = ground.with_key();
        let failure = client.resolve(WEB, "1.0").await.unwrap_err();
        assert_eq!(
            (failure.stage, &failure.class),
            (Stage::Token, &class),
            "{name} {status}: {failure}"
        );
        assert!(failure.message.contains(said), "{failure}");
        assert!(
            !matches!(failure.outcome(), Outcome::Unavailable(_)),
            "no outage of the registry: {failure}"
        );
        assert!(
            client.resolve(WEB, "1.0").await.is_ok(),
            "{name} {status}: and it passes"
        );
    }
}

#[tokio::test]
async fn a_wrong_key_is_unauthorized_and_never_shown() {
    let ground = Ground::start().await;
    let failure = ground
        .client(key("wrong-secret"), false)
        .list_tags(WEB)
        .await
        .unwrap_err();
    assert_eq!(failure.class, Class::Unauthorized, "{failure}");
    assert!(failure.message.contains("InvalidSignatureException"), "{failure}");
    assert!(!failure.message.contains("wrong-secret"));
}

#[tokio::test]
async fn throttling_slows_the_listing_and_is_no_outage() {
    let ground = Ground::start().await;
    ground.memory.push(WEB, "1.0", "first");
    ground.ecr.throttle("DescribeImages", 1);
    let failure = ground.with_key().list_tags(WEB).await.unwrap_err();
    assert_eq!(failure.outcome(), Outcome::Throttled { retry_after: None }, "{failure}");
}

#[tokio::test]
async fn names_are_listed_without_the_right_to_describe_images() {
    let ground = Ground::start().await;
    let digest = ground.memory.push(WEB, "1.0", "first");
    ground.ecr.deny("DescribeImages");
    let client = ground.with_key();
    assert_eq!(listed(&client, WEB).await, BTreeMap::from([("1.0".to_owned(), None)]));
    assert_eq!(client.resolve(WEB, "1.0").await.unwrap().digest.to_string(), digest);
}

#[tokio::test]
async fn a_password_that_is_refused_is_fetched_anew_once() {
    let ground = Ground::start().await;
    ground.memory.push(WEB, "1.0", "first");
    let client = ground.with_key();
    client.resolve(WEB, "1.0").await.unwrap();
    ground.ecr.revoke_passwords();
    ground.server.clock().advance(Duration::from_secs(1));
    client.resolve(WEB, "1.0").await.unwrap();
    assert_eq!((ground.count("password"), ground.count("manifest")), (2, 3));
    ground.ecr.fail(
        "manifest",
        Answer::status("manifest", 401).header("www-authenticate", "Basic realm=\"x\""),
        9,
    );
    let failure = client.resolve(WEB, "1.0").await.unwrap_err();
    assert_eq!(failure.class, Class::Unauthorized, "{failure}");
    assert_eq!(ground.count("password"), 3, "asked once more, not for ever");
}

/// Lets so much time pass for everyone.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_password_that_expired_is_fetched_anew_and_a_missing_right_does_not_do_so_again_and_again() {
    let ground = Ground::start().await;
    ground.memory.push(WEB, "1.0", "first");
    let client = ground.with_key();
    client.resolve(WEB, "1.0").await.unwrap();
    pass(Duration::from_mins(2)).await;
    ground.ecr.expire_passwords();
    ground.server.clock().advance(Duration::from_secs(1));
    client.resolve(WEB, "1.0").await.unwrap();
    assert_eq!(ground.count("password"), 2, "the registry's 403 was about the password");
    ground.ecr.fail("manifest", Answer::status("manifest", 403), 9);
    for _ in 0..3 {
        let failure = client.resolve(WEB, "1.0").await.unwrap_err();
        assert_eq!(failure.class, Class::Forbidden, "{failure}");
    }
    assert_eq!(ground.count("password"), 2, "a new password is not what is wrong");
}

#[tokio::test]
async fn a_password_is_renewed_at_half_its_life_and_the_old_one_used_while_that_fails() {
    let ground = Ground::start().await;
    ground.memory.push(WEB, "1.0", "first");
    let client = ground.with_key();
    client.resolve(WEB, "1.0").await.unwrap();
    pass(Duration::from_hours(5)).await;
    client.resolve(WEB, "1.0").await.unwrap();
    assert_eq!(ground.count("password"), 1, "young enough");
    ground.ecr.fail("GetAuthorizationToken", Answer::status("x", 503), 1);
    pass(Duration::from_hours(2)).await;
    for _ in 0..5 {
        client.resolve(WEB, "1.0").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(ground.count("password"), 2, "tried once, and nobody noticed");
    pass(Duration::from_mins(2)).await;
    client.resolve(WEB, "1.0").await.unwrap();
    until(|| ground.count("password") == 3).await;
    client.resolve(WEB, "1.0").await.unwrap();
    let requests = ground.server.log().requests();
    let used: Vec<_> = requests
        .iter()
        .filter(|request| request.kind == "manifest" && request.status == 200)
        .map(|request| request.authorization.clone())
        .collect();
    assert_ne!(used.first(), used.last(), "the new one is in use");
    pass(Duration::from_hours(8)).await;
    client.resolve(WEB, "1.0").await.unwrap();
}

async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
}

#[tokio::test]
async fn looking_at_a_cache_never_pulls_anything_through() {
    let ground = Ground::start().await;
    let cached = "github/krateo/web";
    ground.upstream.push(WEB, "1.0", "first");
    ground.upstream.push(WEB, "2.0", "second");
    let client = ground.client(key(SECRET), true);
    let pulled = client.prewarm(cached, "1.0").await.unwrap();
    assert_eq!(
        ground.ecr.imports(),
        ["github/krateo/web:1.0"],
        "the one request that is meant to"
    );
    assert!(pulled.verified);

    assert_eq!(listed(&client, cached).await.keys().collect::<Vec<_>>(), ["1.0"]);
    assert_eq!(client.resolve(cached, "1.0").await.unwrap().digest, pulled.digest);
    assert!(client.resolve(cached, "2.0").await.unwrap_err().is_absent());
    assert!(
        client
            .resolve("github/krateo/none", "1.0")
            .await
            .unwrap_err()
            .is_absent()
    );
    assert_eq!(
        client.resolve_verified(cached, "1.0").await.unwrap().digest,
        pulled.digest
    );
    assert!(client.fetch_manifest(cached, "2.0").await.unwrap_err().is_absent());
    let target = ProbeTarget {
        canary: Some((cached.to_owned(), pulled.digest)),
        blob: true,
        fresh_token: true,
    };
    let report = client.probe(&target, Duration::from_secs(20)).await;
    assert_eq!(
        (report.outcome, report.stage),
        (Outcome::Reachable, Stage::Blob),
        "{}",
        report.message
    );
    assert_eq!(ground.ecr.imports().len(), 1);
}

#[tokio::test]
async fn an_index_is_prewarmed_with_everything_it_leads_to() {
    let ground = Ground::start().await;
    let child = ground.upstream.push(WEB, "amd64", "for amd64");
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{child}","size":1}}]}}"#
    );
    ground
        .upstream
        .put_manifest(WEB, Some("1.0"), "application/vnd.oci.image.index.v1+json", index);
    let client = ground.client(key(SECRET), true);
    let pulled = client.prewarm("github/krateo/web", "1.0").await.unwrap();
    let target = ProbeTarget {
        canary: Some(("github/krateo/web".to_owned(), pulled.digest)),
        blob: true,
        fresh_token: true,
    };
    let report = client.probe(&target, Duration::from_secs(20)).await;
    assert_eq!(
        (report.outcome, report.stage),
        (Outcome::Reachable, Stage::Blob),
        "{}",
        report.message
    );
}

#[tokio::test]
async fn without_the_interface_a_cache_is_asked_by_head_only() {
    let ground = Ground::start().await;
    // A password as `aws ecr get-login-password` prints it.
    ground
        .with_key()
        .probe(&ProbeTarget::default(), Duration::from_secs(20))
        .await;
    let issued = ground
        .server
        .log()
        .requests()
        .into_iter()
        .find_map(|request| request.authorization.filter(|value| value.starts_with("Basic ")));
    let pair = issued.unwrap()["Basic ".len()..].to_owned();
    let config = format!(r#"{{"auths":{{"{}":{{"auth":"{pair}"}}}}}}"#, ground.ecr.host());
    let credentials = Keyring::from_docker_config_json(config.as_bytes(), &ground.ecr.host())
        .unwrap()
        .credentials;
    ground.server.log().clear();
    let failure = ground
        .client(credentials, true)
        .resolve("github/krateo/web", "3.0")
        .await
        .unwrap_err();
    assert!(failure.is_absent(), "{failure}");
    assert!(
        failure.message.contains("not asked for in a way that would pull it"),
        "{failure}"
    );
    let methods: Vec<_> = ground
        .server
        .log()
        .requests()
        .into_iter()
        .map(|request| request.method)
        .collect();
    assert_eq!(methods, [http::Method::HEAD]);
}

#[tokio::test]
async fn the_prefix_of_an_upstream_is_read_from_the_accounts_rules() {
    let ground = Ground::start().await;
    let client = ground.with_key();
    assert_eq!(
        client.pull_through_prefix("ghcr.io").await.unwrap().as_deref(),
        Some("github")
    );
    assert_eq!(client.pull_through_prefix("quay.io").await.unwrap(), None);
    ground.ecr.deny("DescribePullThroughCacheRules");
    let failure = client.pull_through_prefix("ghcr.io").await.unwrap_err();
    assert!(
        failure
            .message
            .ends_with("the identity lacks ecr:DescribePullThroughCacheRules"),
        "{failure}"
    );
    let failure = ground
        .client(basic("AWS", "x"), false)
        .pull_through_prefix("ghcr.io")
        .await
        .unwrap_err();
    assert_eq!(failure.class, Class::CredentialsUnavailable, "{failure}");
}

#[tokio::test]
async fn pods_get_the_registrys_password_with_its_end_and_nothing_when_the_key_is_wrong() {
    let ground = Ground::start().await;
    let digest = ground.memory.push(WEB, "1.0", "first");
    let minted = ground.with_key().pull_credential().await.unwrap();
    assert_eq!(minted.username, "AWS");
    let left = minted.expires.as_second() - ground.server.clock().seconds();
    assert!((11 * 3600..=12 * 3600).contains(&left), "{left} s");
    assert!(!format!("{minted:?}").contains(minted.password.expose()));
    // As a kubelet uses it: user name and password, and nothing of Amazon's.
    let kubelet = ground.client(basic(&minted.username, minted.password.expose()), false);
    let resolved = kubelet.resolve_verified(WEB, "1.0").await.unwrap();
    assert_eq!(resolved.digest.to_string(), digest);

    let refused = ground.client(key("wrong"), false).pull_credential().await.unwrap_err();
    assert!(
        matches!(&refused, PullError::Refused(failure) if failure.class == Class::Unauthorized),
        "{refused:?}"
    );
}
