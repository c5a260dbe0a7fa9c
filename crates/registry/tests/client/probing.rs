//! The stages of a probe: each stage fails on its own, and the report says which.

use std::net::SocketAddr;
use std::time::Duration;

use catamaran_core::endpoint::{Outcome, Unavailable};
use catamaran_core::policy::Provider;
use catamaran_registry::{Budget, Client, Connection, Limits, ProbeReport, ProbeTarget, Stage};
use catamaran_scripted_registry::{Auth, Certificate, Fault, IMAGE_INDEX, Registry, What, Wire};
use tokio::net::{TcpListener, TcpSocket};

use crate::{AZURE, GENERIC, GITHUB, basic, client, registry_with_image};

const TIMEOUT: Duration = Duration::from_millis(1500);

fn canary(registry: &Registry, blob: bool) -> ProbeTarget {
    let digest = registry.push("krateo/web", "1.0", "first");
    ProbeTarget {
        canary: Some(("krateo/web".to_owned(), digest)),
        blob,
        fresh_token: true,
    }
}

async fn probe(registry: &Registry, host: &str, provider: Provider, blob: bool) -> ProbeReport {
    client(registry.connection(host, provider))
        .probe(&canary(registry, blob), TIMEOUT)
        .await
}

fn down(why: Unavailable) -> Outcome {
    Outcome::Unavailable(why)
}

#[tokio::test]
async fn a_good_registry_is_reachable_up_to_the_last_stage() {
    for (host, provider) in [
        (AZURE, Provider::Azure),
        (GITHUB, Provider::GitHub),
        (GENERIC, Provider::Generic),
    ] {
        let registry = registry_with_image().await;
        let report = probe(&registry, host, provider, false).await;
        assert_eq!(
            (report.outcome, report.stage),
            (Outcome::Reachable, Stage::Manifest),
            "{}",
            report.message
        );
        assert_eq!(registry.requests().len(), 3, "challenge, token, HEAD");
        let report = probe(&registry, host, provider, true).await;
        assert_eq!(
            (report.outcome, report.stage),
            (Outcome::Reachable, Stage::Blob),
            "{}",
            report.message
        );
    }
}

#[tokio::test]
async fn every_probe_begins_with_a_new_connection_and_a_new_token() {
    let registry = registry_with_image().await;
    let client = client(registry.connection(GITHUB, Provider::GitHub));
    let target = canary(&registry, false);
    for probes in 1..=3 {
        assert_eq!(client.probe(&target, TIMEOUT).await.outcome, Outcome::Reachable);
        assert_eq!((registry.connections(), registry.count("/token")), (probes, probes));
    }
}

#[tokio::test]
async fn an_expired_certificate_shows_at_the_next_probe() {
    let registry = registry_with_image().await;
    let client = client(registry.connection(GITHUB, Provider::GitHub));
    let target = canary(&registry, false);
    assert_eq!(client.probe(&target, TIMEOUT).await.outcome, Outcome::Reachable);
    registry.set_certificate(Certificate::Expired);
    let report = client.probe(&target, TIMEOUT).await;
    assert_eq!(
        (report.outcome, report.stage),
        (down(Unavailable::TlsError), Stage::Tls),
        "{}",
        report.message
    );
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table")]
async fn each_stage_that_fails_is_named() {
    let cases = [
        (
            "/token",
            What::status(503),
            down(Unavailable::ServerError),
            Stage::Token,
        ),
        ("/token", What::status(401), Outcome::Unauthorized, Stage::Token),
        (
            "/token",
            What::error(403, "DENIED", "denied"),
            Outcome::Forbidden,
            Stage::Token,
        ),
        ("/token", What::Hang, down(Unavailable::Timeout), Stage::Token),
        ("/token", What::Close, down(Unavailable::ConnectionFailed), Stage::Token),
        (
            "/manifests/",
            What::status(500),
            down(Unavailable::ServerError),
            Stage::Manifest,
        ),
        (
            "/manifests/",
            What::error(404, "MANIFEST_UNKNOWN", "?"),
            Outcome::CanaryNotFound,
            Stage::Manifest,
        ),
        (
            "/manifests/",
            What::status(404),
            Outcome::CanaryNotFound,
            Stage::Manifest,
        ),
        ("/manifests/", What::status(401), Outcome::Unauthorized, Stage::Manifest),
        ("/manifests/", What::Hang, down(Unavailable::Timeout), Stage::Manifest),
        (
            "/manifests/",
            What::redirect(303, "https://10.0.0.1/x"),
            Outcome::RefusedByOperator,
            Stage::Manifest,
        ),
        (
            "/manifests/",
            What::html(200),
            Outcome::UnexpectedAnswer,
            Stage::Manifest,
        ),
        (
            "/blobs/",
            What::status(503),
            down(Unavailable::ServerError),
            Stage::Blob,
        ),
        ("/blobs/", What::status(403), Outcome::Forbidden, Stage::Blob),
        ("/blobs/", What::Hang, down(Unavailable::Timeout), Stage::Blob),
        ("/blobs/", What::Announced(100), Outcome::Reachable, Stage::Blob),
        ("/blobs/", What::json(""), Outcome::UnexpectedAnswer, Stage::Blob),
        (
            "/blobs/",
            What::redirect(307, "http://blobs.test/x"),
            Outcome::RefusedByOperator,
            Stage::Blob,
        ),
        (
            "/blobs/",
            What::redirect(307, "https://169.254.169.254/latest/meta-data"),
            Outcome::RefusedByOperator,
            Stage::Blob,
        ),
        (
            "/blobs/",
            What::redirect(307, "https://[fe80::1]/"),
            Outcome::RefusedByOperator,
            Stage::Blob,
        ),
        (
            "/blobs/",
            What::redirect(307, "https://127.0.0.1/"),
            Outcome::RefusedByOperator,
            Stage::Blob,
        ),
        (
            "/blobs/",
            What::redirect(307, "https://localhost/"),
            Outcome::RefusedByOperator,
            Stage::Blob,
        ),
        (
            "/blobs/",
            What::redirect(307, "https://10.0.0.1/"),
            Outcome::RefusedByOperator,
            Stage::Blob,
        ),
        (
            "/blobs/",
            What::redirect(307, "/v2/krateo/web/blobs/sha256:again"),
            Outcome::RefusedByOperator,
            Stage::Blob,
        ),
    ];
    for (path, what, outcome, stage) in cases {
        let registry = registry_with_image().await;
        registry.fault(Fault::on(path, what.clone()));
        let report = probe(&registry, GITHUB, Provider::GitHub, true).await;
        assert_eq!(
            (&report.outcome, report.stage),
            (&outcome, stage),
            "{path} {what:?}: {}",
            report.message
        );
        assert!(
            report.message.contains("https://") && !report.message.contains("sig="),
            "{}",
            report.message
        );
        assert!(report.elapsed < TIMEOUT + Duration::from_millis(300), "{what:?}");
    }
}

#[tokio::test]
async fn each_failure_of_the_base_counts_without_a_canary() {
    let deny = What::error(403, "DENIED", "client with IP '10.1.2.3' is not allowed access.");
    let wait = Duration::from_secs(3);
    let cases = [
        (What::status(503), down(Unavailable::ServerError)),
        (What::html(200), Outcome::UnexpectedAnswer),
        (What::status(404), Outcome::UnexpectedAnswer),
        (What::redirect(302, "https://login.test/"), Outcome::RefusedByOperator),
        (What::status(401), Outcome::Unauthorized),
        (deny, Outcome::NetworkDenied),
        (What::Hang, down(Unavailable::Timeout)),
        (What::Close, down(Unavailable::ConnectionFailed)),
        (
            What::throttled(Some("3")),
            Outcome::Throttled {
                retry_after: Some(wait),
            },
        ),
    ];
    for (what, outcome) in cases {
        let registry = registry_with_image().await;
        registry.fault(Fault::at("/v2/", what.clone()));
        let report = client(registry.connection(GITHUB, Provider::GitHub))
            .probe(&ProbeTarget::default(), TIMEOUT)
            .await;
        assert_eq!(
            (report.outcome, report.stage),
            (outcome, Stage::Challenge),
            "{what:?}: {}",
            report.message
        );
    }
}

#[tokio::test]
async fn base_is_asked_only_where_a_challenge_is_missing() {
    let registry = registry_with_image().await;
    let base = |registry: &Registry| {
        let requests = registry.requests();
        requests.iter().filter(|request| request.path == "/v2/").count()
    };
    let report = probe(&registry, GITHUB, Provider::GitHub, true).await;
    assert_eq!((report.outcome, base(&registry)), (Outcome::Reachable, 0));
    registry.fault(Fault::on("/manifests/", What::status(401)).times(1));
    let report = probe(&registry, GITHUB, Provider::GitHub, true).await;
    assert_eq!((report.outcome, base(&registry)), (Outcome::Reachable, 1));
    registry.fault(Fault::on("/manifests/", What::status(401)));
    registry.fault(Fault::at("/v2/", What::Hang));
    let report = probe(&registry, GITHUB, Provider::GitHub, true).await;
    assert_eq!((report.outcome, base(&registry)), (Outcome::Unauthorized, 2));
}

#[tokio::test]
async fn what_fails_before_http_is_placed_at_its_stage() {
    let cases = [
        (Wire::Silent, Certificate::Good, Unavailable::Timeout, Stage::Tls),
        (Wire::Close, Certificate::Good, Unavailable::TlsError, Stage::Tls),
        (
            Wire::Reset,
            Certificate::Good,
            Unavailable::ConnectionFailed,
            Stage::Tls,
        ),
        (Wire::Plain, Certificate::Good, Unavailable::TlsError, Stage::Tls),
        (Wire::Normal, Certificate::Expired, Unavailable::TlsError, Stage::Tls),
        (Wire::Normal, Certificate::WrongName, Unavailable::TlsError, Stage::Tls),
    ];
    for (wire, certificate, why, stage) in cases {
        let registry = registry_with_image().await;
        registry.set_wire(wire);
        registry.set_certificate(certificate);
        let report = probe(&registry, AZURE, Provider::Azure, false).await;
        assert_eq!(
            (report.outcome, report.stage),
            (down(why), stage),
            "{wire:?} {certificate:?}: {}",
            report.message
        );
        assert!(
            report
                .message
                .starts_with("HEAD https://kracr.azurecr.io/v2/krateo/web/manifests/sha256:"),
            "{}",
            report.message
        );
    }
}

async fn probe_at(registry: &str, at: Option<SocketAddr>) -> ProbeReport {
    let trusted = Registry::start().await.unwrap();
    let resolve = at.map(|at| (registry.to_owned(), at)).into_iter().collect();
    let connection = Connection {
        registry: registry.to_owned(),
        extra_ca: Some(trusted.ca_pem()),
        resolve,
        ..Connection::default()
    };
    client(connection).probe(&ProbeTarget::default(), TIMEOUT).await
}

#[tokio::test]
async fn a_closed_port_fails_at_connect() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    drop(listener);
    let report = probe_at(AZURE, Some(at)).await;
    assert_eq!(
        (report.outcome, report.stage),
        (down(Unavailable::ConnectionFailed), Stage::Connect)
    );
    assert_eq!(report.message, "GET https://kracr.azurecr.io/v2/: connection refused");
}

#[tokio::test]
async fn a_black_hole_fails_at_connect_when_the_time_is_over() {
    // A queue of connections that nobody accepts: once it is full, the kernel drops what comes.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let at = listener.local_addr().unwrap();
    let mut full = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), tokio::net::TcpStream::connect(at)).await
    {
        full.push(stream);
    }
    let report = probe_at(AZURE, Some(at)).await;
    assert_eq!(
        (report.outcome, report.stage),
        (down(Unavailable::Timeout), Stage::Connect),
        "{}",
        report.message
    );
    assert!(report.elapsed < TIMEOUT + Duration::from_millis(500));
}

#[tokio::test]
async fn a_dead_blob_host_fails_at_the_blob_stage() {
    let registry = registry_with_image().await;
    registry.set_blob_host(Some("blobs.test"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut connection = registry.connection(AZURE, Provider::Azure);
    connection
        .resolve
        .push(("blobs.test".to_owned(), listener.local_addr().unwrap()));
    drop(listener);
    let client = client(connection);
    let report = client.probe(&canary(&registry, false), TIMEOUT).await;
    assert_eq!(report.outcome, Outcome::Reachable);
    let report = client.probe(&canary(&registry, true), TIMEOUT).await;
    assert_eq!(
        (report.outcome, report.stage),
        (down(Unavailable::ConnectionFailed), Stage::Blob),
        "{}",
        report.message
    );
    assert!(
        !report.message.contains('?'),
        "the signature stays out of it: {}",
        report.message
    );
}

#[tokio::test]
async fn ten_redirects_are_followed_and_no_more() {
    for (hops, outcome) in [(10, Outcome::Reachable), (11, Outcome::RefusedByOperator)] {
        let registry = registry_with_image().await;
        for hop in 1..hops {
            let next = format!("https://ghcr.io/hop/{}", hop + 1);
            registry.fault(Fault::at(&format!("/hop/{hop}"), What::redirect(307, &next)));
        }
        registry.fault(Fault::on("/hop/", What::json("x")));
        registry.fault(Fault::on("/blobs/", What::redirect(307, "https://ghcr.io/hop/1")));
        assert_eq!(
            probe(&registry, GITHUB, Provider::GitHub, true).await.outcome,
            outcome,
            "{hops} hops"
        );
    }
}

#[tokio::test]
async fn the_blob_of_an_index_is_found_through_its_first_manifest() {
    let registry = registry_with_image().await;
    let child = registry.push("krateo/web", "1.0", "first");
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{child}","size":1}}]}}"#);
    let digest = registry.put_manifest("krateo/web", Some("multi"), IMAGE_INDEX, index);
    let target = ProbeTarget {
        canary: Some(("krateo/web".to_owned(), digest)),
        blob: true,
        fresh_token: true,
    };
    let report = client(registry.connection(GITHUB, Provider::GitHub))
        .probe(&target, TIMEOUT)
        .await;
    assert_eq!(
        (report.outcome, report.stage),
        (Outcome::Reachable, Stage::Blob),
        "{}",
        report.message
    );
    assert_eq!(registry.count("/blobs/"), 1);
}

#[tokio::test]
async fn probe_without_canary_ends_with_the_token() {
    let registry = registry_with_image().await;
    let anonymous = client(registry.connection(GITHUB, Provider::GitHub));
    let report = anonymous.probe(&ProbeTarget::default(), TIMEOUT).await;
    assert_eq!((report.outcome, report.stage), (Outcome::Reachable, Stage::Challenge));

    registry.set_account(Some(("user", "right")));
    let mut connection = registry.connection(GITHUB, Provider::GitHub);
    connection.credentials = basic("user", "wrong");
    let report = client(connection.clone()).probe(&ProbeTarget::default(), TIMEOUT).await;
    assert_eq!((report.outcome, report.stage), (Outcome::Unauthorized, Stage::Token));
    connection.credentials = basic("user", "right");
    let report = client(connection).probe(&ProbeTarget::default(), TIMEOUT).await;
    assert_eq!((report.outcome, report.stage), (Outcome::Reachable, Stage::Token));
}

#[tokio::test]
async fn without_a_canary_a_basic_credential_is_tried_at_the_base() {
    let registry = registry_with_image().await;
    registry.set_auth(Auth::Basic);
    registry.set_account(Some(("user", "right")));
    for (password, outcome) in [("right", Outcome::Reachable), ("wrong", Outcome::Unauthorized)] {
        let mut connection = registry.connection(GENERIC, Provider::Generic);
        connection.credentials = basic("user", password);
        let report = client(connection).probe(&ProbeTarget::default(), TIMEOUT).await;
        assert_eq!(
            (report.outcome, report.stage),
            (outcome, Stage::Token),
            "{}",
            report.message
        );
    }
}

#[tokio::test]
async fn an_open_registry_needs_no_token() {
    let registry = registry_with_image().await;
    registry.set_auth(Auth::Open);
    let report = probe(&registry, GENERIC, Provider::Generic, true).await;
    assert_eq!(
        (report.outcome, report.stage),
        (Outcome::Reachable, Stage::Blob),
        "{}",
        report.message
    );
    assert_eq!(registry.count("/token"), 0);
}

#[tokio::test]
async fn probes_never_wait_for_the_budget() {
    let registry = registry_with_image().await;
    let budget = std::sync::Arc::new(Budget::per_minute(1));
    budget.throttled(Some(Duration::from_mins(5)));
    let client = Client::with_budget(registry.connection(GITHUB, Provider::GitHub), Limits::default(), budget).unwrap();
    assert_eq!(
        client.probe(&canary(&registry, false), TIMEOUT).await.outcome,
        Outcome::Reachable
    );
}

#[tokio::test]
async fn a_slow_registry_is_reachable_while_it_answers_in_time() {
    let registry = registry_with_image().await;
    registry.set_latency(Duration::from_millis(100));
    assert_eq!(
        probe(&registry, GITHUB, Provider::GitHub, false).await.outcome,
        Outcome::Reachable
    );
    registry.set_latency(Duration::from_secs(1));
    let report = probe(&registry, GITHUB, Provider::GitHub, false).await;
    assert_eq!(report.outcome, down(Unavailable::Timeout));
    assert_eq!(
        report.stage,
        Stage::Token,
        "the challenge came after 1 s, the token would have after 2"
    );
    assert_eq!(report.message, "GET https://ghcr.io/token: no answer within 1.5s");
}
