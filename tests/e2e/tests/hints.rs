//! Registries that tell of a fresh tag.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use catamaran_cluster::Registry;
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests::{self, NOTIFICATIONS_KEY};
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::view::{image, text};
use catamaran_e2e::{Case, operator};
use serde_json::{Value, json};

pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "a-notification-has-a-fresh-tag-verified",
    run: a_notification_has_a_fresh_tag_verified,
}];

fn a_notification_has_a_fresh_tag_verified(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    // No pass comes in time, and only what is verified is rewritten.
    case.mirror(|spec| {
        spec["parity"] = json!({"interval": "1h"});
        spec["rewrite"] = json!({"unverifiedTags": "Keep"});
    })?;
    case.push(&["fresh"])?;
    let written = case.image(Registry::Ghcr, "fresh");
    let admitted = || -> anyhow::Result<String> {
        let admitted = case.admitted(&manifests::pod("asks", &written))?;
        Ok(image(&admitted, "app").to_owned())
    };
    ensure!(admitted()? == written, "a tag that nobody has verified was rewritten");

    let pushed = json!({
        "id": "cb8c3971-9adc-488b-b8a4-43cbb4974ff5", "timestamp": "2026-01-01T00:00:00Z", "action": "push",
        "target": {"repository": case.name, "tag": "fresh", "digest": "sha256:0"},
        "request": {"host": Registry::Acr.host(), "method": "PUT"},
    });
    let refused = notify(case, &pushed, "not-the-secret-that-was-agreed")?;
    ensure!(
        refused == "401",
        "a notification with a wrong secret is answered {refused}"
    );
    ensure!(
        admitted()? == written,
        "a notification with a wrong secret was believed"
    );

    let since = Instant::now();
    let taken = notify(case, &pushed, NOTIFICATIONS_KEY)?;
    ensure!(taken == "202", "the notification is answered {taken}");
    while admitted()? == written {
        ensure!(since.elapsed() < PATIENCE, "the tag was not verified");
    }
    case.bar("notified -> verified", since.elapsed(), Duration::from_secs(2))
}

/// Sends what ACR's webhook sends, to the Service; the status of the answer.
fn notify(case: &Case<'_>, body: &Value, secret: &str) -> anyhow::Result<String> {
    let service = case
        .ground
        .get(operator::NAMESPACE, "service/catamaran-notifications")?;
    let address = format!("http://{}/azure", text(&service, "/spec/clusterIP"));
    let output = case
        .ground
        .cluster
        .command("curl")
        .args(["--silent", "--output", "/dev/null", "--max-time", "60"])
        .args([
            "--write-out",
            "%{http_code}",
            "--header",
            "Content-Type: application/json",
        ])
        .args(["--header", &format!("Authorization: Bearer {secret}")])
        .args(["--data", &body.to_string(), &address])
        .output()
        .context("failed to run curl")?;
    ensure!(
        output.status.success(),
        "curl of {address} ended with {}",
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
