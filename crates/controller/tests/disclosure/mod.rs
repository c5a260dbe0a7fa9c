//! A canary for each kind of secret that the operator holds, in mirrors whose registries and API server behave in every
//! bad way, the worst of which is to repeat what they were sent: nothing that the operator writes may hold one.

use std::collections::BTreeSet;

mod ears;
mod scenarios;
mod secrets;
mod server;
mod world;

use ears::Ears;
use scenarios::{Scenario, scenarios};
use world::World;

/// Where a text holds a secret, with some of what stands around it.
fn around(text: &str, at: usize) -> &str {
    let from = text.floor_char_boundary(at.saturating_sub(300));
    &text[from..text.ceil_char_boundary(at + 100)]
}

#[tokio::test]
async fn nothing_that_the_operator_writes_holds_a_secret_whatever_goes_wrong() {
    let ears = Ears::open();
    let mut written: Vec<(&'static str, String)> = Vec::new();
    let mut secrets: BTreeSet<String> = secrets::all();
    let mut received = BTreeSet::new();
    let (mut reasons, mut minted) = (BTreeSet::new(), 0);
    for few in chunks(scenarios()) {
        let worlds = futures::future::join_all(
            few.into_iter()
                .map(async |scenario| World::new(scenario).await.live().await),
        );
        for world in worlds.await {
            received.extend(world.sent());
            written.push(("a panic or an error", world.shown()));
            written.push(("metrics", world.metrics()));
            let mut server = server::lock(&world.server);
            reasons.extend(server.reasons());
            minted += server.minted.len();
            server.assert_only_the_minted_token_is_minted();
            written.extend(server.shown.drain(..).map(|text| ("an error", text)));
            written.extend(server.writes.drain(..).map(|text| ("a write", text)));
        }
    }
    secrets.extend(received.iter().cloned());
    written.extend(ears.heard());
    assert_it_was_worth_it(&reasons, &received, minted, &written);
    for form in secrets.iter().flat_map(|secret| secrets::forms(secret)) {
        for (place, text) in &written {
            if let Some(at) = text.find(&form) {
                panic!("{place} holds {form:?}: {}", around(text, at));
            }
        }
    }
}

/// A few at a time: hanging ones wait together, and no machine has to have hundreds of registries at once.
fn chunks(mut all: Vec<Scenario>) -> Vec<Vec<Scenario>> {
    let mut few = Vec::new();
    while !all.is_empty() {
        few.push(all.split_off(all.len().saturating_sub(4)));
    }
    few
}

/// Nothing was found because nothing happened: that must not pass.
fn assert_it_was_worth_it(
    reasons: &BTreeSet<String>,
    received: &BTreeSet<String>,
    minted: usize,
    written: &[(&'static str, String)],
) {
    let never: Vec<_> = secrets::REASONS
        .iter()
        .filter(|reason| !reasons.contains(**reason))
        .collect();
    assert!(never.is_empty(), "{never:?} never came: {reasons:?}");
    for credential in secrets::sent_as_they_are() {
        assert!(
            received.contains(&credential),
            "no registry was ever sent {credential:?}"
        );
    }
    assert!(minted > 0, "nothing was minted");
    for (place, part) in [
        ("the log in text", "registry answered"),
        ("the log in JSON", "\"message\":\"registry answered\""),
        ("a write", "configmaps"),
        ("a write", "catamaran.dev/"),
        ("metrics", "catamaran_probes_total"),
    ] {
        let found = written.iter().any(|(of, text)| *of == place && text.contains(part));
        assert!(found, "{place} never said {part:?}");
    }
}
