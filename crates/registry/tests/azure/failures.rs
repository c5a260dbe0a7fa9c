//! What each failing stage says, and what it may do to a mirror.

use std::time::Duration;

use catamaran_core::endpoint::{Outcome, Unavailable};
use catamaran_emulators::acr::Rights;
use catamaran_emulators::{Answer, jwt};
use catamaran_registry::{Class, Credentials, Failure, Stage};
use serde_json::json;

use crate::{Ground, SYSTEM, SYSTEM_ASSIGNED, WORKLOAD, basic, never_flips, probe, workload};

const BOTH: [&str; 2] = ["'AcrPull'", "'Container Registry Repository Reader'"];

fn says(failure: &Failure, words: &[&str]) {
    for word in words {
        assert!(failure.message.contains(word), "{failure} lacks {word}");
    }
}

#[tokio::test]
async fn a_role_that_was_granted_moments_ago_is_waited_for() {
    let ground = Ground::new().await;
    let client = ground.client_as(&workload());
    let failure = client.list_tags("team/web").await.unwrap_err();
    assert_eq!(
        (&failure.class, failure.stage),
        (&Class::WaitingForAuthorization, Stage::Exchange)
    );
    says(&failure, &BOTH);
    says(&failure, &["workload identity client-1", "up to 10 minutes"]);
    let report = probe(&client, &ground.canary()).await;
    assert_eq!(report.outcome, Outcome::WaitingForAuthorization, "{}", report.message);
    assert!(never_flips(&report.outcome));
    // A refused exchange is not repeated with every probe.
    for _ in 0..5 {
        probe(&client, &ground.canary()).await;
    }
    assert_eq!(ground.registry.log().count("exchange"), 1);
    ground.acr.grant(WORKLOAD, Rights::reader("*"));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    assert_eq!(probe(&client, &ground.canary()).await.outcome, Outcome::Reachable);
}

#[tokio::test]
async fn an_exchange_without_a_role_waits_at_the_repository() {
    let ground = Ground::new().await;
    ground.acr.grant(SYSTEM, Rights::none());
    let client = ground.client_as(&SYSTEM_ASSIGNED);
    let failure = client.list_tags("team/web").await.unwrap_err();
    assert_eq!(
        (&failure.class, failure.stage),
        (&Class::WaitingForAuthorization, Stage::Tags)
    );
    says(
        &failure,
        &["the client lacks metadata_read on team/web", "for 'team/web'"],
    );
    says(&failure, &BOTH);
    let report = probe(&client, &ground.canary()).await;
    assert_eq!(
        (report.outcome, report.stage),
        (Outcome::WaitingForAuthorization, Stage::Manifest)
    );
}

#[tokio::test]
async fn an_abac_registry_says_that_acr_pull_means_nothing_there() {
    let ground = Ground::new().await;
    ground.acr.set_abac(true);
    ground.acr.grant(WORKLOAD, Rights::reader("team/other"));
    let failure = ground.client_as(&workload()).list_tags("team/web").await.unwrap_err();
    assert_eq!(failure.class, Class::WaitingForAuthorization);
    says(
        &failure,
        &["(ABAC), where AcrPull means nothing", BOTH[1], "for 'team/web'"],
    );
}

#[tokio::test]
async fn a_role_that_was_taken_away_is_unauthorized_and_not_waited_for() {
    let ground = Ground::granted().await;
    let client = ground.client_as(&workload());
    client.list_tags("team/web").await.unwrap();
    ground.acr.grant(WORKLOAD, Rights::none());
    let report = probe(&client, &ground.canary()).await;
    assert_eq!(
        (report.outcome, report.stage),
        (Outcome::Unauthorized, Stage::Manifest),
        "{}",
        report.message
    );
    assert!(report.message.contains("no longer let in"), "{}", report.message);
}

#[tokio::test]
async fn a_token_of_another_tenant_is_credentials_unavailable() {
    let ground = Ground::granted().await;
    ground.acr.set_tenant("tenant-2");
    let client = ground.client_as(&workload());
    let failure = client.list_tags("team/web").await.unwrap_err();
    assert_eq!(
        (&failure.class, failure.stage),
        (&Class::CredentialsUnavailable, Stage::Exchange)
    );
    says(&failure, &["IDX40001", "check its tenant and the clock"]);
    assert_eq!(failure.outcome(), Outcome::CredentialsUnavailable);
}

#[tokio::test]
async fn a_bad_request_at_the_exchange_or_for_a_refresh_token_is_credentials_unavailable() {
    let ground = Ground::granted().await;
    let bad = |kind| Answer::error(kind, 400, "BAD_REQUEST", "invalid token");
    ground.acr.fail("exchange", bad("exchange"), 100);
    ground.acr.fail("token", bad("token"), 100);
    for (credentials, stage) in [
        (crate::by(&ground.identities(), &workload()), Stage::Exchange),
        (basic("00000000-0000-0000-0000-000000000000", "garbled"), Stage::Token),
    ] {
        let failure = ground.client(credentials).list_tags("team/web").await.unwrap_err();
        assert_eq!(
            (&failure.class, failure.stage),
            (&Class::CredentialsUnavailable, stage),
            "{failure}"
        );
    }
}

#[tokio::test]
async fn an_expired_refresh_token_from_a_secret_is_unauthorized() {
    let ground = Ground::granted().await;
    let now = ground.clock.seconds();
    let claims =
        json!({"aud": crate::HOST, "sub": WORKLOAD, "grant_type": "refresh_token", "iat": now - 9000, "exp": now - 1});
    let client = ground.client(basic("00000000-0000-0000-0000-000000000000", &jwt::encode(&claims)));
    let report = probe(&client, &ground.canary()).await;
    assert_eq!(
        (report.outcome, report.stage),
        (Outcome::Unauthorized, Stage::Token),
        "{}",
        report.message
    );
}

#[tokio::test]
async fn a_refresh_token_that_the_registry_forgot_is_exchanged_anew_without_a_failure() {
    let ground = Ground::granted().await;
    let client = ground.client_as(&workload());
    client.list_tags("team/web").await.unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_mins(1)).await;
    tokio::time::resume();
    ground.acr.revoke_tokens();
    assert_eq!(client.list_tags("team/web").await.unwrap().len(), 1);
    assert_eq!(ground.registry.log().count("exchange"), 2);
}

#[tokio::test]
async fn a_wave_of_401_never_flips_and_does_not_storm_the_exchange() {
    let ground = Ground::granted().await;
    let client = ground.client_as(&workload());
    assert_eq!(probe(&client, &ground.canary()).await.outcome, Outcome::Reachable);
    let refusal = || {
        let answer = Answer::error("any", 401, "UNAUTHORIZED", "authentication required");
        answer.header(
            "www-authenticate",
            r#"Bearer realm="https://kracr.azurecr.io/oauth2/token",service="kracr.azurecr.io""#,
        )
    };
    for kind in ["any", "token", "manifest"] {
        ground.acr.clear_faults();
        ground.acr.fail(kind, refusal(), 10_000);
        for _ in 0..20 {
            let report = probe(&client, &ground.canary()).await;
            assert_eq!(report.outcome, Outcome::Unauthorized, "{}", report.message);
        }
    }
    assert!(
        ground.registry.log().count("exchange") <= 3,
        "{:?}",
        ground.registry.log().counts()
    );
    ground.acr.clear_faults();
    assert_eq!(probe(&client, &ground.canary()).await.outcome, Outcome::Reachable);
}

#[tokio::test]
async fn the_firewalls_refusal_names_both_addresses() {
    let ground = Ground::granted().await;
    ground.acr.set_firewall(Some("172.214.169.102"));
    for credentials in [Credentials::Anonymous, crate::by(&ground.identities(), &workload())] {
        let client = ground.client(credentials);
        let failure = client.list_tags("team/web").await.unwrap_err();
        assert_eq!(failure.class, Class::NetworkDenied);
        says(
            &failure,
            &[
                "client with IP '172.214.169.102' is not allowed access",
                "kracr.azurecr.io is at 127.0.0.1, a local address",
            ],
        );
        let report = probe(&client, &ground.canary()).await;
        assert_eq!(
            (report.outcome, report.stage),
            (Outcome::NetworkDenied, Stage::Manifest)
        );
        assert!(report.message.contains("172.214.169.102"), "{}", report.message);
    }
}

#[tokio::test]
async fn a_broken_exchange_or_token_service_is_the_registrys_outage() {
    for (kind, stage) in [("exchange", Stage::Exchange), ("token", Stage::Token)] {
        let ground = Ground::granted().await;
        ground.acr.fail(kind, Answer::status(kind, 503), 100);
        let report = probe(&ground.client_as(&workload()), &ground.canary()).await;
        let expected = Outcome::Unavailable(Unavailable::ServerError);
        assert_eq!((report.outcome, report.stage), (expected, stage), "{}", report.message);
    }
}

#[tokio::test]
async fn throttling_of_the_exchange_is_told_and_waited_for_in_every_shape() {
    let seconds = |wait| Some(Duration::from_secs(wait));
    let cases = [
        (None, None),
        (Some("7"), seconds(7)),
        (Some("-7"), None),
        (Some("0"), seconds(0)),
        (Some("31536000"), seconds(300)),
        (Some("Fri, 31 Dec 1999 23:59:59 GMT"), seconds(0)),
        (Some("soon"), None),
    ];
    for (header, wait) in cases {
        let ground = Ground::granted().await;
        ground.acr.throttle("exchange", header, 1);
        let client = ground.client_as(&workload());
        for _ in 0..3 {
            let failure = client.list_tags("team/web").await.unwrap_err();
            let Class::Throttled { retry_after } = failure.class else {
                panic!("{header:?}: {failure:?}");
            };
            assert!(
                retry_after == wait || (wait == seconds(0) && retry_after.is_none()),
                "{header:?}: {retry_after:?}"
            );
        }
        assert_eq!(ground.registry.log().count("exchange"), 1, "{header:?}");
    }
}

#[tokio::test]
async fn throttling_of_a_listing_is_told_and_slows_the_budget() {
    let ground = Ground::granted().await;
    ground.acr.throttle("tags", Some("3"), 1);
    let client = ground.client_as(&workload());
    let failure = client.list_tags("team/web").await.unwrap_err();
    let expected = Class::Throttled {
        retry_after: Some(Duration::from_secs(3)),
    };
    assert_eq!((failure.class, failure.stage), (expected, Stage::Tags));
}

#[tokio::test]
async fn a_locked_canary_is_no_outage() {
    let ground = Ground::granted().await;
    let lock = catamaran_emulators::acr::Attributes {
        read: false,
        ..catamaran_emulators::acr::Attributes::default()
    };
    ground.acr.lock("team/web", None, lock);
    let report = probe(&ground.client_as(&workload()), &ground.canary()).await;
    assert_eq!(
        (report.outcome, report.stage),
        (Outcome::CanaryBlocked, Stage::Manifest)
    );
    assert!(
        report.message.contains("REGISTRY_DISALLOWED_OPERATION"),
        "{}",
        report.message
    );
}

#[tokio::test]
async fn each_stored_credential_that_fails_says_what_to_fix() {
    let ground = Ground::new().await;
    ground
        .acr
        .add_account("pull-only", "hunter22", Rights::none().and("*", &["pull"]));
    let cases: [(Credentials, Stage, &[&str]); 3] = [
        (
            basic("pull-only", "hunter22"),
            Stage::Tags,
            &["lacks metadata_read on team/web", "content/read and metadata/read"],
        ),
        (
            basic("pull-only", "wrong"),
            Stage::Token,
            &["user name or password is not accepted"],
        ),
        (
            Credentials::Anonymous,
            Stage::Token,
            &["only registries with anonymous pull can be read"],
        ),
    ];
    for (credentials, stage, words) in cases {
        let failure = ground.client(credentials).list_tags("team/web").await.unwrap_err();
        assert_eq!(
            (&failure.class, failure.stage),
            (&Class::Unauthorized, stage),
            "{failure}"
        );
        says(&failure, words);
        assert!(!failure.message.contains("hunter22"));
    }
}

#[tokio::test]
async fn a_foreign_realm_and_other_schemes_never_see_a_clouds_token() {
    let challenges = [
        r#"Bearer realm="https://evil.test/oauth2/token",service="kracr.azurecr.io""#,
        r#"Bearer realm="https://kracr.azurecr.io.evil.test/oauth2/token""#,
        r#"Bearer realm="https://kracr.azurecr.io/elsewhere""#,
        r#"Basic realm="x""#,
    ];
    for challenge in challenges {
        let ground = Ground::granted().await;
        let refusal = Answer::error("any", 401, "UNAUTHORIZED", "x").header("www-authenticate", challenge);
        ground.acr.fail("challenge", refusal.clone(), 100);
        ground.acr.fail("manifest", refusal, 100);
        let report = probe(&ground.client_as(&workload()), &ground.canary()).await;
        assert!(
            never_flips(&report.outcome) || report.outcome == Outcome::Unauthorized,
            "{report:?}"
        );
        assert_eq!(ground.login.log().total(), 0, "{challenge}");
        let log = ground.registry.log().requests();
        assert!(
            log.iter()
                .all(|request| request.authorization.is_none() && request.body.is_empty()),
            "{challenge}"
        );
    }
}

#[tokio::test]
async fn an_exchange_that_answers_with_something_else_is_no_registry() {
    let bodies = [
        Answer::json("exchange", 200, &json!({})),
        Answer::json("exchange", 200, &json!({"refresh_token": ""})),
        Answer::json("exchange", 200, &json!({"refresh_token": "two words"})),
        Answer::json("exchange", 200, &json!(["x"])),
        Answer::status("exchange", 200)
            .header("content-type", "text/html")
            .body("<html>"),
        Answer::status("exchange", 302).header("location", "https://evil.test/oauth2/exchange"),
        Answer::json("exchange", 200, &json!({"refresh_token": "x".repeat(2 << 20)})),
    ];
    for body in bodies {
        let ground = Ground::granted().await;
        ground.acr.fail("exchange", body.clone(), 100);
        let failure = ground.client_as(&workload()).list_tags("team/web").await.unwrap_err();
        assert_eq!(failure.stage, Stage::Exchange, "{failure}");
        assert!(
            matches!(
                failure.outcome(),
                Outcome::UnexpectedAnswer | Outcome::RefusedByOperator
            ),
            "{failure:?}"
        );
        assert_eq!(ground.registry.log().count("token"), 0);
    }
}
