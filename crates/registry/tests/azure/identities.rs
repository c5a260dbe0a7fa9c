//! One identity for a whole process: what it costs, and what is said when it gives no token.

use std::process::Command;
use std::time::Duration;

use catamaran_core::endpoint::Outcome;
use catamaran_core::policy::{IdentityPolicy, ManagedIdentity};
use catamaran_emulators::acr::Rights;
use catamaran_emulators::{Answer, Wire};
use catamaran_registry::{Class, Identities, ProbeTarget, Stage, Surroundings};
use tokio::task::JoinSet;

use crate::{Ground, SUBJECT, SYSTEM, SYSTEM_ASSIGNED, WORKLOAD, by, never_flips, probe, workload};

#[tokio::test]
async fn a_hundred_probes_and_two_clients_cost_one_token_and_one_exchange() {
    let ground = Ground::granted().await;
    let identities = ground.identities();
    let first = ground.client(by(&identities, &workload()));
    let second = ground.client(by(&identities, &workload()));
    for _ in 0..50 {
        for client in [&first, &second] {
            assert_eq!(probe(client, &ground.canary()).await.outcome, Outcome::Reachable);
        }
    }
    assert_eq!(
        (
            ground.login.log().count("entra"),
            ground.registry.log().count("exchange")
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn many_requests_at_once_share_one_exchange_or_one_refusal() {
    let ground = Ground::new().await;
    ground.registry.set_latency(Duration::from_millis(30));
    let identities = ground.identities();
    for (granted, exchanges) in [(false, 1), (true, 2)] {
        if granted {
            ground.acr.grant(WORKLOAD, Rights::reader("*"));
            // The pause after a refusal.
            tokio::time::pause();
            tokio::time::advance(Duration::from_secs(11)).await;
            tokio::time::resume();
        }
        let mut tasks = JoinSet::new();
        for _ in 0..30 {
            let client = ground.client(by(&identities, &workload()));
            tasks.spawn(async move { client.resolve("team/web", "1.0").await });
        }
        let results = tasks.join_all().await;
        assert!(results.iter().all(|result| result.is_ok() == granted), "{results:?}");
        assert_eq!(ground.registry.log().count("exchange"), exchanges);
    }
    assert_eq!(ground.login.log().count("entra"), 1);
}

#[tokio::test]
async fn no_token_shows_in_debug_output_or_messages() {
    let ground = Ground::granted().await;
    let client = ground.client_as(&workload());
    client.list_tags("team/web").await.unwrap();
    let secrets: Vec<String> = ground
        .registry
        .log()
        .requests()
        .into_iter()
        .filter_map(|request| {
            request
                .authorization
                .or(request.body.rsplit_once('=').map(|(_, token)| token.to_owned()))
        })
        .filter(|secret| !secret.is_empty())
        .collect();
    assert!(secrets.len() >= 3);
    let echo = secrets.join(" ");
    for kind in ["any", "exchange", "token"] {
        ground.acr.clear_faults();
        ground.acr.fail(kind, Answer::error(kind, 403, "DENIED", &echo), 100);
        let fresh = ground.client_as(&workload());
        let failure = fresh.list_tags("team/web").await.unwrap_err();
        let shown = format!("{client:?} {fresh:?} {failure:?}");
        assert!(
            failure.message.contains("[redacted]") && !shown.contains("eyJ"),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn an_identity_endpoint_that_is_down_is_no_outage_of_the_registry() {
    let ground = Ground::granted().await;
    for (identity, wire) in [
        (workload(), Wire::Reset),
        (SYSTEM_ASSIGNED, Wire::Reset),
        (workload(), Wire::Silent),
    ] {
        ground.login.set_wire(wire);
        ground.metadata.set_wire(wire);
        let client = ground.client_as(&identity);
        let report = client.probe(&ground.canary(), Duration::from_secs(2)).await;
        assert_eq!(
            (report.outcome, report.stage),
            (Outcome::CredentialsUnavailable, Stage::Identity),
            "{}",
            report.message
        );
        assert!(never_flips(&report.outcome));
        assert!(report.message.contains("identity"), "{}", report.message);
    }
}

#[tokio::test]
async fn an_identity_that_does_not_exist_is_credentials_unavailable() {
    let ground = Ground::granted().await;
    let unknown = IdentityPolicy::Workload {
        client_id: Some("client-404".to_owned()),
        tenant_id: None,
    };
    let cases = [
        (unknown, "AADSTS700016"),
        (
            IdentityPolicy::Managed(ManagedIdentity::Client("client-404".to_owned())),
            "has not been assigned",
        ),
    ];
    for (identity, words) in cases {
        let failure = ground.client_as(&identity).list_tags("team/web").await.unwrap_err();
        assert_eq!(
            (&failure.class, failure.stage),
            (&Class::CredentialsUnavailable, Stage::Identity),
            "{failure}"
        );
        assert!(failure.message.contains(words), "{failure}");
    }
}

#[tokio::test]
async fn a_federated_credential_for_another_subject_says_which_one_is_needed() {
    let ground = Ground::granted().await;
    ground.project_token("system:serviceaccount:other:operator", Duration::from_hours(1));
    let failure = ground.client_as(&workload()).list_tags("team/web").await.unwrap_err();
    assert_eq!(failure.class, Class::CredentialsUnavailable);
    assert!(failure.message.contains("AADSTS700213"), "{failure}");
    assert!(
        failure.message.contains("'system:serviceaccount:other:operator'"),
        "{failure}"
    );
    assert!(!failure.message.contains(SUBJECT));
}

#[tokio::test]
async fn a_service_account_token_that_ended_is_credentials_unavailable_until_the_kubelet_renews_it() {
    let ground = Ground::granted().await;
    ground.project_token(SUBJECT, Duration::ZERO);
    let client = ground.client_as(&workload());
    let failure = client.list_tags("team/web").await.unwrap_err();
    assert_eq!(failure.class, Class::CredentialsUnavailable);
    assert!(failure.message.contains("AADSTS700024"), "{failure}");
    ground.project_token(SUBJECT, Duration::from_hours(1));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    assert_eq!(client.list_tags("team/web").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_probe_without_a_canary_checks_the_identity() {
    let ground = Ground::granted().await;
    let report = probe(&ground.client_as(&workload()), &ProbeTarget::default()).await;
    assert_eq!(report.outcome, Outcome::Reachable, "{}", report.message);
    assert_eq!(ground.registry.log().count("token"), 1);
    ground.acr.revoke(SYSTEM);
    let report = probe(&ground.client_as(&SYSTEM_ASSIGNED), &ProbeTarget::default()).await;
    assert_eq!(
        (report.outcome, report.stage),
        (Outcome::WaitingForAuthorization, Stage::Exchange),
        "{}",
        report.message
    );
}

/// `azure_identity` takes App Service's endpoint from the environment, which is a process' own: so the test below runs
/// this one in another process.
#[tokio::test]
#[ignore = "run by the test below, with IDENTITY_ENDPOINT set"]
async fn child_that_takes_its_endpoint_from_the_environment() {
    let ground = Ground::granted().await;
    let identities = Identities::new(Surroundings::default());
    let failure = ground
        .client(by(&identities, &SYSTEM_ASSIGNED))
        .list_tags("team/web")
        .await
        .unwrap_err();
    assert_eq!(failure.class, Class::CredentialsUnavailable, "{failure}");
    println!("identity answered: {failure}");
}

#[tokio::test]
async fn app_services_endpoint_of_the_environment_is_honoured() {
    let ground = Ground::granted().await;
    ground.managed.set_broken(Some(Answer::error(
        "identity",
        500,
        "INTERNAL",
        "the endpoint of the environment",
    )));
    let endpoint = format!("http://{}/msi/token", ground.metadata.address());
    let child = tokio::task::spawn_blocking(move || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture"])
            .arg("identities::child_that_takes_its_endpoint_from_the_environment")
            .env("IDENTITY_ENDPOINT", endpoint)
            .env("IDENTITY_HEADER", "header-1")
            .output()
    });
    let output = child.await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && said.contains("the endpoint of the environment"),
        "{said}"
    );
    assert!(ground.metadata.log().requests()[0].path.starts_with("/msi/token"));
}
