//! Answers that no good registry gives: each costs little, ends soon, and is never taken for a good one.

use std::time::{Duration, Instant};

use catamaran_core::endpoint::Unavailable;
use catamaran_core::policy::Provider;
use catamaran_registry::{Class, Client, Failure};
use catamaran_scripted_registry::{Certificate, Fault, Registry, What, Wire};

use crate::{GENERIC, answer, brief, client, registry_with_image, unavailable};

fn impatient(registry: &Registry) -> Client {
    Client::new(registry.connection(GENERIC, Provider::Generic), brief()).unwrap()
}

/// Resolves, fetches and lists; the failures of all three.
async fn all(client: &Client) -> Vec<Failure> {
    let resolved = client.resolve("krateo/web", "1.0").await.err();
    let fetched = client.resolve_verified("krateo/web", "1.0").await.err();
    let listed = client.list_tags("krateo/web").await.err();
    resolved.into_iter().chain(fetched).chain(listed).collect()
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table")]
async fn every_hostile_answer_is_a_failure_of_its_class() {
    let server_error = || unavailable(Unavailable::ServerError);
    let gzip = answer(
        200,
        &[("content-encoding", "gzip"), ("content-type", "application/json")],
        "\u{1f}bomb",
    );
    let large = format!(r#"{{"tags":["{}"]}}"#, "x".repeat(5 << 20));
    let cases: Vec<(&str, What, Vec<Class>)> = vec![
        ("500", What::status(500), vec![server_error()]),
        ("502", What::html(502), vec![server_error()]),
        ("503", What::status(503), vec![server_error()]),
        ("401 without challenge", What::status(401), vec![Class::Unauthorized]),
        (
            "401 with an empty challenge",
            What::challenge(""),
            vec![Class::Unauthorized],
        ),
        ("403", What::error(403, "DENIED", "denied"), vec![Class::Forbidden]),
        ("400", What::status(400), vec![Class::Unexpected]),
        ("HTML 200", What::html(200), vec![Class::Unexpected]),
        ("array", What::json("[1]"), vec![Class::Unexpected]),
        ("scalar", What::json("7"), vec![Class::Unexpected]),
        ("gzip", gzip, vec![Class::Unexpected]),
        ("5 GB announced", What::Announced(5_000_000_000), vec![Class::TooLarge]),
        ("5 MiB", What::json(&large), vec![Class::TooLarge]),
        (
            "1 MB header",
            answer(200, &[("x-large", &"x".repeat(1 << 20))], "{}"),
            vec![Class::Unexpected, Class::TooLarge],
        ),
        (
            "100 kB header",
            answer(200, &[("x-large", &"x".repeat(100_000))], "{}"),
            vec![Class::TooLarge],
        ),
        (
            "truncated",
            What::Truncated,
            vec![unavailable(Unavailable::ConnectionFailed)],
        ),
        ("reset", What::Reset, vec![unavailable(Unavailable::ConnectionFailed)]),
        ("closed", What::Close, vec![unavailable(Unavailable::ConnectionFailed)]),
        ("silent", What::Hang, vec![unavailable(Unavailable::Timeout)]),
        (
            "1 byte in 100 ms",
            What::Drip(Duration::from_millis(100)),
            vec![unavailable(Unavailable::Timeout)],
        ),
        (
            "announced, then silent",
            What::Announced(1000),
            vec![unavailable(Unavailable::Timeout)],
        ),
        (
            "redirect",
            What::redirect(303, "https://github.com/-/v2/packages"),
            vec![Class::Misrouted],
        ),
        (
            "redirect loop",
            What::redirect(307, "/v2/krateo/web/tags/list"),
            vec![Class::Misrouted],
        ),
        (
            "redirect to the metadata service",
            What::redirect(307, "https://169.254.169.254/"),
            vec![Class::Misrouted],
        ),
        ("redirect to nowhere", What::redirect(307, "::"), vec![Class::Misrouted]),
    ];
    for (name, what, classes) in cases {
        let registry = registry_with_image().await;
        let client = impatient(&registry);
        client.resolve("krateo/web", "1.0").await.unwrap();
        registry.fault(Fault::on("/manifests/", what.clone()).method(http::Method::GET));
        // The digest of HEAD is withheld, so that each way of asking meets the fault.
        registry.fault(Fault::on("/manifests/", What::digest("")));
        registry.fault(Fault::on("/tags/list", what));
        // Faults of connections count from the next one on.
        let client = if name == "reset" { impatient(&registry) } else { client };
        let start = Instant::now();
        let failures = all(&client).await;
        assert_eq!(failures.len(), 3, "{name}: {failures:?}");
        for failure in failures {
            assert!(classes.contains(&failure.class), "{name}: {failure:?}");
            assert!(
                failure.message.starts_with("GET https://registry.test/v2/krateo/web/"),
                "{name}: {failure}"
            );
            assert!(
                failure.message.len() < 600 && !failure.message.contains('\n'),
                "{name}: {failure}"
            );
        }
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{name} took {:?}",
            start.elapsed()
        );
    }
}

#[tokio::test]
async fn one_bad_answer_does_not_spoil_the_next() {
    let registry = registry_with_image().await;
    registry.fault(Fault::on("/manifests/", What::status(503)).one_in(2));
    let client = impatient(&registry);
    let mut good = 0;
    for _ in 0..10 {
        good += usize::from(client.resolve("krateo/web", "1.0").await.is_ok());
    }
    assert!((4..=6).contains(&good), "{good} of 10");
}

#[tokio::test]
async fn what_fails_below_http_has_its_class() {
    let cases = [
        (Wire::Silent, Certificate::Good, unavailable(Unavailable::Timeout)),
        (Wire::Close, Certificate::Good, unavailable(Unavailable::TlsError)),
        (
            Wire::Reset,
            Certificate::Good,
            unavailable(Unavailable::ConnectionFailed),
        ),
        (Wire::Plain, Certificate::Good, unavailable(Unavailable::TlsError)),
        (Wire::Normal, Certificate::Expired, unavailable(Unavailable::TlsError)),
        (Wire::Normal, Certificate::WrongName, unavailable(Unavailable::TlsError)),
        (Wire::Normal, Certificate::SelfSigned, Class::UntrustedCertificate),
    ];
    for (wire, certificate, class) in cases {
        let registry = registry_with_image().await;
        registry.set_wire(wire);
        registry.set_certificate(certificate);
        let failure = impatient(&registry).resolve("krateo/web", "1.0").await.unwrap_err();
        assert_eq!(failure.class, class, "{wire:?} {certificate:?}: {failure}");
        assert_eq!(registry.requests(), []);
    }
}

#[tokio::test]
async fn without_the_extra_certificate_the_registry_is_not_trusted() {
    let registry = registry_with_image().await;
    let mut connection = registry.connection(GENERIC, Provider::Generic);
    // Some other authority, so that the test needs no system roots.
    connection.extra_ca = Some(registry_with_image().await.ca_pem());
    let failure = client(connection).resolve("krateo/web", "1.0").await.unwrap_err();
    assert_eq!(failure.class, Class::UntrustedCertificate, "{failure}");
    assert!(failure.message.contains("certificate"), "{failure}");
}

#[tokio::test]
async fn certificates_that_are_none_are_refused() {
    for pem in [
        "",
        "not PEM",
        "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
    ] {
        let registry = registry_with_image().await;
        let mut connection = registry.connection(GENERIC, Provider::Generic);
        connection.extra_ca = Some(pem.as_bytes().to_vec());
        let error = Client::new(connection, crate::limits()).unwrap_err();
        assert!(
            matches!(error, catamaran_registry::ClientError::BadCa(_)),
            "{pem}: {error}"
        );
    }
}

#[tokio::test]
async fn a_registry_on_this_machine_is_reached_only_when_that_is_allowed() {
    let registry = registry_with_image().await;
    for host in ["127.0.0.1", "localhost"] {
        let mut connection = registry.connection(GENERIC, Provider::Generic);
        connection.registry = format!("{host}:{}", registry.address().port());
        connection.resolve.clear();
        let failure = client(connection.clone())
            .resolve("krateo/web", "1.0")
            .await
            .unwrap_err();
        assert_eq!(failure.class, Class::RefusedAddress, "{host}: {failure}");
        connection.allow_loopback = true;
        client(connection).resolve("krateo/web", "1.0").await.unwrap();
    }
}
