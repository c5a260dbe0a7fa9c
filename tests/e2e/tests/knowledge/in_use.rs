//! What a failback waits for: that the primary has what is in use, with the content that pods run.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use catamaran_cluster::{Fault, Registry, TestImage};
use catamaran_e2e::Case;
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests::{self, pod};
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::view::{number, text};
use serde_json::{Value, json};

pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "failback-waits-for-what-is-in-use-and-names-it",
    run: failback_waits_for_what_is_in_use,
}];

/// The shortest time for which a primary must be stable.
const STABLE: Duration = Duration::from_mins(1);

/// From the primary's return to a failback that nothing blocks.
const BACK: Duration = Duration::from_secs(75);

/// A mirror whose failback something blocks, or might.
struct Subject {
    /// Of its repository and itself.
    name: String,
    /// The reference that is in question.
    reference: &'static str,
    /// What is said of it, if it blocks.
    reason: Option<&'static str>,
}

impl Subject {
    fn image(&self, tag: &str) -> String {
        manifests::image(Registry::Acr, &self.name, tag)
    }
}

/// Four mirrors share one outage, because each failback takes a minute: a tag that was pushed to GHCR only, for a pod with and
/// without `failback.onMismatch`, for a `CronJob` that has never run, and a tag that neither side has.
fn failback_waits_for_what_is_in_use(case: &Case<'_>) -> anyhow::Result<()> {
    let subject = |name: &str, reference, reason| Subject {
        name: format!("{}-{name}", case.name),
        reference,
        reason,
    };
    let subjects = [
        subject("waits", "latest", Some("DigestMismatch")),
        subject("cron", "nightly", Some("MissingOnPrimary")),
        subject("proceeds", "latest", None),
        subject("typo", "no-such-tag", None),
    ];
    let [waits, cron, proceeds, typo] = &subjects;
    mirrors(case, &subjects, proceeds)?;
    let running = [(waits, "latest"), (proceeds, "latest"), (cron, "v1"), (typo, "v1")];
    for (subject, tag) in running {
        case.apply(&pod(&subject.name, &subject.image(tag)))?;
    }
    for (subject, _) in running {
        case.ready(&subject.name, Instant::now(), PATIENCE)?;
    }
    case.apply(&cron_job(&cron.image(cron.reference)))?;
    case.apply(&pod("unrelated", &typo.image(typo.reference)))?;

    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    for subject in &subjects {
        case.ground.active(&subject.name, "Fallback", since, PATIENCE)?;
    }
    // What CI does in an outage: the one registry that works gets the new content.
    let fresh = TestImage::serving("pushed in the outage");
    for subject in [waits, proceeds, cron] {
        let (name, tag) = (&subject.name, subject.reference);
        case.ground.push_image(&[Registry::Ghcr], name, tag, &fresh)?;
    }
    let healed = Instant::now();
    case.ground.cluster.heal(Registry::Acr)?;
    for subject in [proceeds, typo] {
        let back = case
            .ground
            .active(&subject.name, "Primary", healed, STABLE + PATIENCE)?;
        ensure!(back - healed >= STABLE, "{} was back before the minute", subject.name);
        case.bar(
            &format!("{}: ACR returns -> failed back", subject.name),
            back - healed,
            BACK,
        )?;
    }
    for subject in [waits, cron] {
        is_blocked(case, subject)?;
    }
    are_released_by_copies(case, &[waits, cron], &fresh)
}

/// What is the same on both sides blocks nothing.
fn are_released_by_copies(case: &Case<'_>, subjects: &[&Subject], content: &TestImage) -> anyhow::Result<()> {
    let since = Instant::now();
    for subject in subjects {
        let (name, tag) = (&subject.name, subject.reference);
        case.ground.push_image(&[Registry::Acr], name, tag, content)?;
    }
    for subject in subjects {
        let back = case.ground.active(&subject.name, "Primary", since, PATIENCE)?;
        let took = (back - since).as_secs_f64();
        case.note(format!("{}: copied -> failed back: {took:.1} s", subject.name));
    }
    Ok(())
}

/// Pushes what both sides have, and applies the mirrors.
fn mirrors(case: &Case<'_>, subjects: &[Subject], proceeds: &Subject) -> anyhow::Result<()> {
    for subject in subjects {
        case.ground.push(&Registry::ALL, &subject.name, "v1")?;
        if subject.reference == "latest" {
            case.ground.push(&Registry::ALL, &subject.name, "latest")?;
        }
    }
    let since = Instant::now();
    let mirror = |subject: &Subject| {
        let mut mirror = manifests::mirror(&subject.name, &[&subject.name]);
        if subject.name == proceeds.name {
            mirror["spec"]["failback"]["onMismatch"] = json!("Proceed");
        }
        mirror
    };
    let all: Vec<Value> = subjects.iter().map(mirror).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": all});
    case.ground.apply("default", &list)?;
    for subject in subjects {
        case.ground.observed(&subject.name, since)?;
    }
    Ok(())
}

/// One that has never run, and does not while the scenario lasts.
fn cron_job(image: &str) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"},
        "spec": {
            "schedule": "0 3 * * *", "suspend": true,
            "jobTemplate": {"spec": {"template": {"spec": {
                "restartPolicy": "Never", "containers": [{"name": "app", "image": image}],
            }}}},
        },
    })
}

/// Pods are still sent to the fallback, and the status says because of what.
fn is_blocked(case: &Case<'_>, subject: &Subject) -> anyhow::Result<()> {
    let reason = subject.reason.context("it does not block")?;
    let name = &subject.name;
    let what = format!("what blocks the failback of {name}");
    let seen = case
        .ground
        .mirrors
        .until(&what, PATIENCE, ("", name), Instant::now(), |mirror| {
            number(mirror, "/status/failback/blocked") == 1
        })?;
    ensure!(
        text(&seen.object, "/status/active") == "Fallback",
        "{name} was failed back to {}",
        seen.object["status"]["active"]
    );
    let failback = &seen.object["status"]["failback"];
    let blocker = &failback["blockedBy"][0];
    ensure!(
        blocker["repository"] == **name && blocker["reference"] == subject.reference && blocker["reason"] == reason,
        "{name} is blocked by {failback}"
    );
    let described = case.ground.cluster.kubectl(&["describe", "registrymirror", name])?;
    for words in ["Blocked By", subject.reference, reason] {
        ensure!(described.contains(words), "describe does not say {words}: {described}");
    }
    case.note(format!("{name}: {failback}"));
    Ok(())
}
