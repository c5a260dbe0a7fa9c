//! When the active side changes, how fast, and when it must not.

use std::time::{Duration, Instant};

use anyhow::ensure;
use catamaran_cluster::{Fault, Registry};
use catamaran_e2e::Case;
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests::pod;
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::view::{condition, image, number, says};
use serde_json::json;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a-refusing-primary-flips-and-a-failing-fallback-flips-back",
        run: a_refusing_primary_flips,
    },
    Scenario {
        name: "server-errors-flip",
        run: server_errors_flip,
    },
    Scenario {
        name: "a-dead-blob-host-flips",
        run: a_dead_blob_host_flips,
    },
    Scenario {
        name: "pulls-that-fail-on-the-nodes-alone-are-reported-and-flip",
        run: pulls_that_fail_on_the_nodes_alone,
    },
    Scenario {
        name: "a-failing-canary-repository-flips-another-does-not",
        run: a_failing_canary_repository_flips,
    },
    Scenario {
        name: "credentials-content-and-throttling-do-not-flip",
        run: credentials_content_and_throttling_do_not_flip,
    },
    Scenario {
        name: "both-down-stays-and-pods-are-admitted",
        run: both_down_stays,
    },
    Scenario {
        name: "override-holds-until-it-is-taken-back",
        run: override_holds,
    },
];

/// From a fault that answers at once to a changed status.
pub const QUICK: Duration = Duration::from_secs(4);

fn a_refusing_primary_flips(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    let flipped = case.active("Fallback", since, PATIENCE)?;
    case.bar("ACR refuses -> flipped", flipped - since, QUICK)?;
    let mirror = case.latest()?;
    for (kind, status, reason) in [
        ("Ready", "True", "ServingFromFallback"),
        ("FailedOver", "True", "PrimaryUnavailable"),
        ("PrimaryAvailable", "False", "ConnectionFailed"),
        ("FallbackAvailable", "True", "Reachable"),
    ] {
        ensure!(
            says(&mirror, kind, status, reason),
            "{kind} is {:?}",
            condition(&mirror, kind)
        );
    }
    ensure!(
        number(&mirror, "/status/epoch") == 2,
        "the epoch is {}",
        mirror["status"]["epoch"]
    );
    let flip = &mirror["status"]["lastFlip"];
    ensure!(
        flip["from"] == "Primary" && flip["reason"] == "PrimaryUnavailable",
        "the flip is {flip}"
    );
    let image = case.admitted_image("new", &case.image(Registry::Acr, "v1"))?;
    ensure!(image == case.image(Registry::Ghcr, "v1"), "a new pod gets {image}");
    case.ready("new", since, PATIENCE)?;
    an_event_tells(case, "FailedOver")?;

    let since = Instant::now();
    case.ground.cluster.heal(Registry::Acr)?;
    case.ground
        .condition(&case.name, ("PrimaryAvailable", "True", "Reachable"), since, PATIENCE)?;
    let since = case.ground.fault(Registry::Ghcr, Fault::Refused)?;
    let flipped = case.active("Primary", since, PATIENCE)?;
    case.bar("the active GHCR refuses -> flipped back", flipped - since, QUICK)?;
    let mirror = case.latest()?;
    ensure!(
        says(&mirror, "FailedOver", "False", "FallbackUnavailable"),
        "{:?}",
        condition(&mirror, "FailedOver")
    );
    an_event_tells(case, "FailedBack")
}

/// Events follow the status, so they may come a moment later.
fn an_event_tells(case: &Case<'_>, reason: &str) -> anyhow::Result<()> {
    let about = format!("involvedObject.name={},reason={reason}", case.name);
    let end = Instant::now() + PATIENCE;
    loop {
        let events =
            case.ground
                .cluster
                .kubectl(&["get", "events", "-A", "--no-headers", "--field-selector", &about])?;
        if !events.trim().is_empty() {
            case.note(events);
            return Ok(());
        }
        ensure!(Instant::now() < end, "there is no Event {reason} about the mirror");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn server_errors_flip(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    let since = case.ground.fault(Registry::Acr, Fault::http(503))?;
    let flipped = case.active("Fallback", since, PATIENCE)?;
    case.bar("ACR answers 503 -> flipped", flipped - since, QUICK)?;
    let mirror = case.latest()?;
    ensure!(
        says(&mirror, "PrimaryAvailable", "False", "ServerError"),
        "{:?}",
        condition(&mirror, "PrimaryAvailable")
    );
    Ok(())
}

fn a_dead_blob_host_flips(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    let since = case.ground.fault(Registry::Acr, Fault::BlobHostDead)?;
    let flipped = case.active("Fallback", since, PATIENCE)?;
    // Blobs are looked at by every fifth probe, and by each after a failure.
    case.bar(
        "ACR's blob host dies -> flipped",
        flipped - since,
        Duration::from_secs(14),
    )?;
    case.note(condition(&case.latest()?, "PrimaryAvailable").message);
    Ok(())
}

/// Probes come from a pod and pass; the node's container runtime is refused.
fn pulls_that_fail_on_the_nodes_alone(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|spec| spec["healthCheck"] = json!({"onPullsFailing": "Report"}))?;
    let since = case.ground.fault(Registry::Acr, Fault::NodeRefused)?;
    let names = ["a", "b", "c"];
    for name in names {
        let mut pulls = pod(name, &case.image(Registry::Acr, "v1"));
        pulls["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
        case.create_pod(&pulls)?;
    }
    let told = case.ground.condition(
        &case.name,
        ("PullsFailing", "True", "ConnectionFailed"),
        since,
        PATIENCE,
    )?;
    case.note(format!(
        "three pods refused -> PullsFailing: {:.1} s, {}",
        (told.at - since).as_secs_f64(),
        condition(&case.latest()?, "PullsFailing").message
    ));
    an_event_tells(case, "PullsFailing")?;
    case.no_flip(Duration::from_secs(5))?;
    let mirror = case.latest()?;
    ensure!(
        says(&mirror, "PrimaryAvailable", "True", "Reachable") && says(&mirror, "Ready", "False", "PullsFailing"),
        "probes say {:?}, Ready is {:?}",
        condition(&mirror, "PrimaryAvailable"),
        condition(&mirror, "Ready")
    );
    // The pods are still in their first back-offs, so that three of them try again within a minute.
    let since = Instant::now();
    case.patch_spec(&json!({"healthCheck": {"onPullsFailing": "Failover"}}))?;
    let flipped = case.active("Fallback", since, PATIENCE)?;
    case.note(format!(
        "onPullsFailing: Failover -> flipped: {:.1} s",
        (flipped - since).as_secs_f64()
    ));
    let mirror = case.latest()?;
    ensure!(
        says(&mirror, "FailedOver", "True", "PullsFailing") && says(&mirror, "PrimaryAvailable", "True", "Reachable"),
        "FailedOver is {:?}",
        condition(&mirror, "FailedOver")
    );
    for name in names {
        case.ready(name, since, PATIENCE)?;
    }
    case.ground
        .condition(&case.name, ("PullsFailing", "False", "NoPullFailures"), since, PATIENCE)?;
    case.ground
        .condition(&case.name, ("Ready", "True", "ServingFromFallback"), since, PATIENCE)
        .map(drop)
}

fn a_failing_canary_repository_flips(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    let other = format!("{}-b", case.name);
    case.ground.push(&Registry::ALL, &other, "v1")?;
    case.mirror(|spec| {
        spec["repositories"] = json!([{"name": case.name}, {"name": other}]);
        spec["healthCheck"] = json!({"canary": {"repository": other, "tag": "v1"}});
    })?;
    let failing = |repository: &str| Fault::Http {
        code: 500,
        retry_after: None,
        path_contains: Some(format!("{repository}/")),
    };
    // A registry that serves the canary is up; what one repository lacks is a matter of parity.
    let since = case.ground.fault(Registry::Acr, failing(&case.name))?;
    case.ground
        .condition(&case.name, ("InSync", "Unknown", "PrimaryUnreachable"), since, PATIENCE)?;
    case.no_flip(Duration::from_secs(5))?;
    case.ground.cluster.heal(Registry::Acr)?;
    let since = case.ground.fault(Registry::Acr, failing(&other))?;
    let flipped = case.active("Fallback", since, PATIENCE)?;
    case.bar("the canary's repository answers 500 -> flipped", flipped - since, QUICK)
}

fn credentials_content_and_throttling_do_not_flip(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|spec| spec["healthCheck"] = json!({"periodSeconds": 1, "timeoutSeconds": 1}))?;
    let http = |code, path: Option<&str>, retry_after: Option<&str>| Fault::Http {
        code,
        retry_after: retry_after.map(str::to_owned),
        path_contains: path.map(str::to_owned),
    };
    let cases = [
        (http(401, None, None), "Unauthorized"),
        (http(403, None, None), "Forbidden"),
        (Fault::Firewall, "NetworkDenied"),
        (http(404, Some("manifests"), None), "CanaryNotFound"),
        (http(429, None, Some("2")), "RateLimited"),
    ];
    for (fault, reason) in cases {
        let title = fault.to_string();
        let since = case.ground.fault(Registry::Acr, fault)?;
        let told = case
            .ground
            .condition(&case.name, ("PrimaryAvailable", "Unknown", reason), since, PATIENCE)?;
        // Three times what a failure would take to flip it.
        case.no_flip(Duration::from_secs(9))?;
        let mirror = case.latest()?;
        ensure!(
            says(&mirror, "Ready", "Unknown", "ActiveUnknown") && mirror["status"]["active"] == "Primary",
            "with {title}, Ready is {:?}",
            condition(&mirror, "Ready")
        );
        // An image that the active side says it lacks is taken from the side that has it, without a flip, once a kubelet was told so.
        let from = match reason {
            "CanaryNotFound" => Registry::Ghcr,
            _ => Registry::Acr,
        };
        if from == Registry::Ghcr {
            let mut pulls = pod("pulls", &case.image(Registry::Acr, "v1"));
            pulls["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
            case.create_pod(&pulls)?;
        }
        sent_to(case, from, &format!("with {title}"))?;
        let image = case.admitted_image(
            &format!("during-{}", reason.to_lowercase()),
            &case.image(Registry::Acr, "v1"),
        )?;
        ensure!(image == case.image(from, "v1"), "with {title}, a pod gets {image}");
        case.note(format!(
            "{title} -> {reason} in {:.1} s, no flip",
            (told.at - since).as_secs_f64()
        ));
        let since = Instant::now();
        case.ground.cluster.heal(Registry::Acr)?;
        case.ground
            .condition(&case.name, ("PrimaryAvailable", "True", "Reachable"), since, PATIENCE)?;
        case.ground
            .condition(&case.name, ("Ready", "True", "ServingFromPrimary"), since, PATIENCE)?;
        sent_to(case, Registry::Acr, "healed")?;
    }
    Ok(())
}

/// Waits until a pod that names ACR would be sent there.
fn sent_to(case: &Case<'_>, registry: Registry, when: &str) -> anyhow::Result<()> {
    let (asked, wanted) = (
        pod("asks", &case.image(Registry::Acr, "v1")),
        case.image(registry, "v1"),
    );
    let what = format!("with {wanted}, {when}");
    case.admitted_as(&asked, &what, Instant::now(), PATIENCE, |pod| {
        image(pod, "app") == wanted
    })
    .map(drop)
}

fn both_down_stays(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    case.ground.fault(Registry::Ghcr, Fault::Refused)?;
    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    let told = case
        .ground
        .condition(&case.name, ("Ready", "False", "BothUnavailable"), since, PATIENCE)?;
    case.note(format!(
        "both refuse -> BothUnavailable: {:.1} s",
        (told.at - since).as_secs_f64()
    ));
    case.no_flip(Duration::from_secs(8))?;
    let image = case.admitted_image("admitted", &case.image(Registry::Ghcr, "v1"))?;
    case.note(format!("a pod written for ghcr.io is admitted as {image}"));
    let since = Instant::now();
    case.ground.cluster.heal(Registry::Ghcr)?;
    let flipped = case.active("Fallback", since, PATIENCE)?;
    case.note(format!(
        "GHCR returns -> flipped: {:.1} s",
        (flipped - since).as_secs_f64()
    ));
    case.ready("admitted", since, PATIENCE)?;
    Ok(())
}

fn override_holds(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    let since = Instant::now();
    case.patch_spec(&json!({"active": "Fallback"}))?;
    let flipped = case.active("Fallback", since, PATIENCE)?;
    case.bar("active: Fallback -> flipped", flipped - since, QUICK)?;
    ensure!(
        says(&case.latest()?, "FailedOver", "True", "Requested"),
        "FailedOver does not tell who asked"
    );
    let image = case.admitted_image("over", &case.image(Registry::Acr, "v1"))?;
    ensure!(image == case.image(Registry::Ghcr, "v1"), "a pod gets {image}");
    // It stays, whatever happens to that side.
    let since = case.ground.fault(Registry::Ghcr, Fault::Refused)?;
    case.ground
        .condition(&case.name, ("Ready", "False", "ActiveUnavailable"), since, PATIENCE)?;
    case.no_flip(Duration::from_secs(3))?;
    let since = Instant::now();
    case.patch_spec(&json!({"active": "Primary"}))?;
    let flipped = case.active("Primary", since, PATIENCE)?;
    case.bar("active: Primary -> flipped", flipped - since, QUICK)?;
    case.patch_spec(&json!({"active": "Auto"}))?;
    case.no_flip(Duration::from_secs(2))
}
