//! The stage below all others, which needs a resolver of its own. The rest is in tests/client/probing.rs.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use catamaran_scripted_registry::Registry;

use super::*;
use crate::budget::{Budget, Budgets};
use crate::connection::Connection;
use crate::wire::dns::{Looking, Lookup};

fn unknown(_: String) -> Looking {
    Box::pin(async {
        Err(io::Error::other(
            "failed to lookup address information: Name or service not known",
        ))
    })
}

fn silent(_: String) -> Looking {
    Box::pin(pending())
}

fn loopback(_: String) -> Looking {
    Box::pin(async { Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))]) })
}

async fn probe(lookup: Lookup) -> ProbeReport {
    let registry = Registry::start().await.unwrap();
    let connection = Connection {
        registry: "kracr.azurecr.io".to_owned(),
        extra_ca: Some(registry.ca_pem()),
        ..Connection::default()
    };
    let budget = Arc::new(Budget::per_minute(60));
    let client = Client::resolving_by(&connection, Limits::default(), &budget, &Budgets::new(), lookup).unwrap();
    client.probe(&ProbeTarget::default(), Duration::from_millis(300)).await
}

#[tokio::test]
async fn a_name_that_does_not_resolve_fails_at_dns() {
    let report = probe(unknown).await;
    assert_eq!(
        (report.outcome, report.stage),
        (Outcome::Unavailable(Unavailable::DnsFailure), Stage::Dns)
    );
    let message =
        r#"GET https://kracr.azurecr.io/v2/: failed to resolve "kracr.azurecr.io": Name or service not known"#;
    assert_eq!(report.message, message);
}

#[tokio::test]
async fn a_resolver_that_says_nothing_fails_at_dns_when_the_time_is_over() {
    let report = probe(silent).await;
    assert_eq!(
        (report.outcome, report.stage),
        (Outcome::Unavailable(Unavailable::Timeout), Stage::Dns)
    );
    assert_eq!(
        report.message,
        "GET https://kracr.azurecr.io/v2/: no answer from DNS within 300ms"
    );
}

#[tokio::test]
async fn a_name_that_leads_to_this_machine_is_refused_and_no_outage() {
    let report = probe(loopback).await;
    assert_eq!(
        (report.outcome, report.stage),
        (Outcome::RefusedByOperator, Stage::Dns),
        "{}",
        report.message
    );
}
