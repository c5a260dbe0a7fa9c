//! The first step, which needs a resolver of its own. The rest is in tests/client/steps.rs.

use std::io;
use std::net::SocketAddr;

use super::*;
use crate::budget::Budget;
use crate::connection::Connection;
use crate::wire::dns::{Looking, Lookup};
use crate::wire::limits::Limits;

fn unknown(_: String) -> Looking {
    Box::pin(async { Err(io::Error::other("Name or service not known")) })
}

fn silent(_: String) -> Looking {
    Box::pin(std::future::pending())
}

fn loopback(_: String) -> Looking {
    Box::pin(async { Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))]) })
}

async fn only_step(lookup: Lookup) -> StepResult {
    let connection = Connection {
        registry: "kracr.azurecr.io".to_owned(),
        ..Connection::default()
    };
    let limits = Limits {
        connect: std::time::Duration::from_millis(300),
        ..Limits::default()
    };
    let budget = Arc::new(Budget::per_minute(60));
    let client = Client::resolving_by(&connection, limits, &budget, &crate::Budgets::new(), lookup).unwrap();
    let mut seen = Vec::new();
    client
        .diagnose(&DiagnosisTarget::default(), |step| seen.push(step))
        .await;
    assert_eq!(seen.len(), 1, "{seen:?}");
    seen.remove(0)
}

#[tokio::test]
async fn a_name_that_leads_nowhere_is_the_only_step() {
    let cases: [(Lookup, Class, &str); 3] = [
        (
            unknown,
            Class::Unavailable(Unavailable::DnsFailure),
            "Name or service not known",
        ),
        (
            silent,
            Class::Unavailable(Unavailable::Timeout),
            "no answer from DNS within 300ms",
        ),
        (loopback, Class::RefusedAddress, "refused to connect to 127.0.0.1"),
    ];
    for (lookup, class, words) in cases {
        let result = only_step(lookup).await;
        let failure = result.failure.unwrap();
        assert_eq!((result.step, failure.class), (Step::Dns, class));
        assert!(failure.message.contains(words), "{}", failure.message);
    }
}

#[test]
fn latest_is_pulled_or_else_the_last_by_name_but_never_a_signature() {
    let signature = format!("sha256-{}.sig", "a".repeat(64));
    let cases: [(&[&str], Option<&str>); 4] = [
        (&["1", "latest", "z"], Some("latest")),
        (&["1", "2"], Some("2")),
        (&["1", &signature], Some("1")),
        (&[&signature], None),
    ];
    for (names, expected) in cases {
        let tags: Vec<ListedTag> = names
            .iter()
            .map(|name| ListedTag {
                name: (*name).to_owned(),
                digest: None,
                locked: None,
            })
            .collect();
        assert_eq!(worth_pulling(&tags).as_deref(), expected, "{names:?}");
    }
}
