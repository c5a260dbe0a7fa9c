//! An hour of expiring tokens, and half an hour without an identity service. The time is tokio's own, stopped and moved on
//! by the test; the emulators' tokens expire by it.

use std::sync::mpsc;
use std::time::Duration;

use catamaran_core::endpoint::Outcome;
use catamaran_emulators::Wire;

use crate::{Ground, SYSTEM_ASSIGNED, by, probe, workload};

/// Stops the clock, but for what the test adds: while a blocking task runs, tokio does not skip ahead by itself, which
/// would end every request by its time limit.
struct Stopped {
    _end: mpsc::Sender<()>,
}

impl Stopped {
    fn now() -> Stopped {
        let (end, ended) = mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || ended.recv());
        tokio::time::pause();
        Stopped { _end: end }
    }
}

#[tokio::test]
async fn tokens_expire_for_an_hour_under_load_and_no_request_fails() {
    let ground = Ground::granted().await;
    ground.entra.set_life(Duration::from_mins(10));
    ground.acr.set_lives(Duration::from_mins(6), Duration::from_mins(3));
    ground.memory.push("team/api", "1.0", "second");
    let client = ground.client(by(&ground.identities(), &workload()));
    let stopped = Stopped::now();
    let target = ground.canary();
    for second in 0..1800 {
        tokio::time::advance(Duration::from_secs(2)).await;
        // Several at a time, of which the first to find its token due has it renewed while the others are under way.
        let look = |repository| client.resolve(repository, "1.0");
        let looks = tokio::join!(look("team/web"), look("team/web"), look("team/api"), look("team/api"));
        for resolved in [looks.0, looks.1, looks.2, looks.3] {
            assert!(resolved.is_ok(), "after {} s: {resolved:?}", second * 2);
        }
        if second % 10 == 0 {
            let report = probe(&client, &target).await;
            assert_eq!(
                report.outcome,
                Outcome::Reachable,
                "after {} s: {}",
                second * 2,
                report.message
            );
            client.list_tags("team/web").await.unwrap();
        }
    }
    drop(stopped);
    let (entra, exchanges) = (
        ground.login.log().count("entra"),
        ground.registry.log().count("exchange"),
    );
    // Half lives: 3 minutes for refresh tokens, 5 for Entra's.
    assert!((15..=25).contains(&exchanges), "{exchanges} exchanges");
    assert!((8..=15).contains(&entra), "{entra} tokens of Entra");
}

#[tokio::test]
async fn half_an_hour_without_the_identity_service_goes_unnoticed() {
    let ground = Ground::granted().await;
    let identities = ground.identities();
    let clients = [workload(), SYSTEM_ASSIGNED].map(|identity| ground.client(by(&identities, &identity)));
    let stopped = Stopped::now();
    let target = ground.canary();
    for client in &clients {
        assert_eq!(probe(client, &target).await.outcome, Outcome::Reachable);
    }
    // Past half of the life of every token: all of them are due.
    tokio::time::advance(Duration::from_mins(95)).await;
    ground.login.set_wire(Wire::Reset);
    ground.metadata.set_wire(Wire::Reset);
    for step in 0..360 {
        tokio::time::advance(Duration::from_secs(5)).await;
        for client in &clients {
            let report = probe(client, &target).await;
            assert_eq!(
                report.outcome,
                Outcome::Reachable,
                "after {} s: {}",
                step * 5,
                report.message
            );
        }
        assert!(clients[0].resolve("team/web", "1.0").await.is_ok());
    }
    ground.login.set_wire(Wire::Normal);
    ground.metadata.set_wire(Wire::Normal);
    let before = ground.registry.log().count("exchange");
    tokio::time::advance(Duration::from_mins(2)).await;
    for _ in 0..50 {
        probe(&clients[0], &target).await;
        tokio::time::advance(Duration::from_secs(2)).await;
    }
    drop(stopped);
    assert!(
        ground.registry.log().count("exchange") > before,
        "renewed once it was back"
    );
}
