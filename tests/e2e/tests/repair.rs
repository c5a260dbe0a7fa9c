//! Tags that one side lacks: told first, then copied by the operator.

use std::time::{Duration, Instant};

use anyhow::ensure;
use catamaran_cluster::{Registry, TestImage};
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::view::{items, number, text};
use catamaran_e2e::{Case, manifests, operator};
use serde_json::{Value, json};

pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "missing-tags-are-copied-and-in-sync-returns",
    run: missing_tags_are_copied_and_in_sync_returns,
}];

/// A pass every 10 s, and 10 s of grace: a difference is confirmed by the third pass at the latest.
const CONFIRMED: Duration = Duration::from_mins(4);

fn missing_tags_are_copied_and_in_sync_returns(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["same"])?;
    case.ground.push(&[Registry::Acr], &case.name, "only-acr")?;
    case.ground.push(&[Registry::Ghcr], &case.name, "only-ghcr")?;
    case.ground.push(&[Registry::Acr], &case.name, "differs")?;
    let other = TestImage::serving("something else");
    case.ground
        .push_image(&[Registry::Ghcr], &case.name, "differs", &other)?;
    let secret = credentials(case)?;
    case.mirror(|spec| {
        for side in ["primary", "fallback"] {
            spec[side]["secretRef"] = json!({"name": secret});
        }
        spec["repair"] = json!({"missingTags": "DryRun"});
    })?;
    a_dry_run_tells_and_writes_nothing(case)?;
    what_is_missing_is_copied(case)?;
    what_differs_is_left_to_a_person(case)
}

/// A Secret with the one account of the test registries, which may push.
pub fn credentials(case: &Case<'_>) -> anyhow::Result<String> {
    let name = format!("{}-push", case.name);
    let (username, password) = case.ground.cluster.credentials();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth",
        "metadata": {"name": name, "namespace": operator::NAMESPACE, "annotations": manifests::for_registries()},
        "stringData": {"username": username, "password": password},
    });
    case.ground.apply(operator::NAMESPACE, &secret)?;
    Ok(name)
}

fn a_dry_run_tells_and_writes_nothing(case: &Case<'_>) -> anyhow::Result<()> {
    let since = Instant::now();
    let told = case.ground.mirrors.until(
        "a dry run with two tags",
        CONFIRMED,
        ("", &case.name),
        since,
        |mirror| number(mirror, "/status/repair/pending") == 2,
    )?;
    let mut planned: Vec<String> = items_of(&told.object, "/status/repair/wouldCopy")
        .iter()
        .map(|one| format!("{} to {}", text(one, "/tag"), text(one, "/to")))
        .collect();
    planned.sort();
    ensure!(
        planned == ["only-acr to Fallback", "only-ghcr to Primary"],
        "the dry run would copy {planned:?}"
    );
    ensure!(
        number(&told.object, "/status/repair/copied") == 0,
        "a dry run has copied"
    );
    ensure!(
        missing(&told.object) == 2,
        "the dry run has changed the counts: {}",
        told.object["status"]["parity"]
    );
    case.note(text(&told.object, "/status/repair/message"));
    Ok(())
}

fn what_is_missing_is_copied(case: &Case<'_>) -> anyhow::Result<()> {
    let since = Instant::now();
    case.patch_spec(&json!({"repair": {"missingTags": "Copy"}}))?;
    let copied = case.ground.mirrors.until(
        "both tags on both sides",
        CONFIRMED,
        ("", &case.name),
        since,
        |mirror| missing(mirror) == 0 && number(mirror, "/status/parity/inSync") == 3,
    )?;
    case.note(format!(
        "told to copy -> both tags verified on both sides: {:.1} s",
        (copied.at - since).as_secs_f64()
    ));
    let selector = format!("reason=TagsCopied,involvedObject.name={}", case.name);
    let arguments = ["get", "events", "-A", "-o", "json", "--field-selector", &selector];
    let end = Instant::now() + PATIENCE;
    while items(&serde_json::from_str(&case.ground.cluster.kubectl(&arguments)?)?).is_empty() {
        ensure!(Instant::now() < end, "there is no Event TagsCopied");
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// The tag that differs stayed as it was on both sides; once a person has pushed it anew, the sides are in sync.
fn what_differs_is_left_to_a_person(case: &Case<'_>) -> anyhow::Result<()> {
    let mirror = case.latest()?;
    ensure!(
        number(&mirror, "/status/parity/mismatched") == 1,
        "the tag that differs was touched: {}",
        mirror["status"]["parity"]
    );
    let since = Instant::now();
    case.push(&["differs"])?;
    let healed = case
        .ground
        .condition(&case.name, ("InSync", "True", "TagsMatch"), since, PATIENCE)?;
    ensure!(
        number(&healed.object, "/status/parity/tags") == 4,
        "the tags are {}",
        healed.object["status"]["parity"]
    );
    Ok(())
}

fn missing(mirror: &Value) -> i64 {
    number(mirror, "/status/parity/missingOnPrimary") + number(mirror, "/status/parity/missingOnFallback")
}

fn items_of(object: &Value, pointer: &str) -> Vec<Value> {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default()
}
