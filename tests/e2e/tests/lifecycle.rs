//! The operator's own troubles: a dead leader, no operator at all; and mirrors that come, rest and go.

use std::time::{Duration, Instant};

use anyhow::ensure;
use catamaran_cluster::{Fault, Registry};
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests::pod;
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::view::{annotation, condition, image, number, says};
use catamaran_e2e::{Case, operator};
use serde_json::json;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a-suspended-mirror-rests",
        run: a_suspended_mirror_rests,
    },
    Scenario {
        name: "a-deleted-mirror-leaves-pods-alone",
        run: a_deleted_mirror_leaves_pods_alone,
    },
    Scenario {
        name: "a-killed-leader-is-replaced-and-the-state-stands",
        run: a_killed_leader_is_replaced,
    },
    Scenario {
        name: "without-an-operator-pods-are-admitted-and-corrected-later",
        run: without_an_operator_pods_are_admitted,
    },
];

fn a_suspended_mirror_rests(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    let written = case.image(Registry::Ghcr, "v1");
    let since = Instant::now();
    case.patch_spec(&json!({"suspend": true}))?;
    case.ground
        .condition(&case.name, ("Ready", "True", "Suspended"), since, PATIENCE)?;
    let image = case.admitted_image("unchanged", &written)?;
    ensure!(image == written, "the pod became {image}");
    case.ready("unchanged", since, PATIENCE)?;
    case.ground.fault(Registry::Acr, Fault::Refused)?;
    case.no_flip(Duration::from_secs(6))?;
    let requests = || {
        case.ground
            .cluster
            .logs("front-acr")
            .map(|log| log.matches(&case.name).count())
    };
    let before = requests()?;
    case.ground.cluster.heal(Registry::Acr)?;
    std::thread::sleep(Duration::from_secs(4));
    ensure!(requests()? == before, "ACR is still asked about the repository");
    let since = Instant::now();
    case.patch_spec(&json!({"suspend": false}))?;
    case.ground
        .condition(&case.name, ("Ready", "True", "ServingFromPrimary"), since, PATIENCE)?;
    let image = case.admitted_image("changed", &written)?;
    ensure!(
        image == case.image(Registry::Acr, "v1"),
        "after the rest, a pod gets {image}"
    );
    Ok(())
}

fn a_deleted_mirror_leaves_pods_alone(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    let written = case.image(Registry::Ghcr, "v1");
    let selector = format!("catamaran.dev/evidence={}", case.name);
    let evidence = [
        "-n",
        operator::NAMESPACE,
        "get",
        "configmaps",
        "-l",
        &selector,
        "--no-headers",
    ];
    ensure!(
        !case.ground.cluster.kubectl(&evidence)?.trim().is_empty(),
        "there is no evidence"
    );
    let since = Instant::now();
    case.ground.cluster.kubectl(&["delete", "registrymirror", &case.name])?;
    let asked = pod("unchanged", &written);
    let admitted = case.admitted_as(&asked, "left alone", since, PATIENCE, |pod| {
        image(pod, "app") == written
    })?;
    case.note(format!(
        "mirror deleted -> pods admitted unchanged: {:.2} s",
        since.elapsed().as_secs_f64()
    ));
    ensure!(
        annotation(&admitted, "catamaran.dev/mirror").is_empty(),
        "the pod is annotated"
    );
    case.apply(&pod("unchanged", &written))?;
    case.ready("unchanged", since, PATIENCE)?;
    let end = Instant::now() + PATIENCE;
    while !case.ground.cluster.kubectl(&evidence)?.trim().is_empty() {
        ensure!(Instant::now() < end, "the evidence outlives the mirror");
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn a_killed_leader_is_replaced(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    case.active("Fallback", since, PATIENCE)?;
    let leader = operator::leader(&case.ground.cluster)?;
    ensure!(!leader.is_empty(), "nobody leads");
    let killed = Instant::now();
    operator::kill(&case.ground.cluster, &leader)?;
    // The other replica serves meanwhile, and nobody is sent to the registry that is down.
    let written = pod("meanwhile", &case.image(Registry::Acr, "v1"));
    let wanted = case.image(Registry::Ghcr, "v1");
    // The cluster's network sends admissions to the dead one until it knows.
    case.admitted_as(&written, "rewritten by the other replica", killed, PATIENCE, |pod| {
        image(pod, "app") == wanted
    })?;
    let served = killed.elapsed();
    case.bar(
        "leader killed -> pods rewritten by the other",
        served,
        Duration::from_secs(5),
    )?;
    let followed = operator::followed(&case.ground.cluster, &leader, killed)?;
    case.bar("leader killed -> the other leads", followed, Duration::from_secs(25))?;
    case.no_flip(Duration::from_secs(6))?;
    let mirror = case.latest()?;
    ensure!(
        mirror["status"]["active"] == "Fallback",
        "the active side is {}",
        mirror["status"]["active"]
    );
    ensure!(
        number(&mirror, "/status/epoch") == 2,
        "the epoch is {}",
        mirror["status"]["epoch"]
    );
    ensure!(
        says(&mirror, "Ready", "True", "ServingFromFallback"),
        "{:?}",
        condition(&mirror, "Ready")
    );
    // The new leader leads: it sees what happens.
    let since = Instant::now();
    case.ground.cluster.heal(Registry::Acr)?;
    case.ground
        .condition(&case.name, ("PrimaryAvailable", "True", "Reachable"), since, PATIENCE)?;
    operator::scale(&case.ground.cluster, 2)
}

fn without_an_operator_pods_are_admitted(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    operator::scale(&case.ground.cluster, 0)?;
    let result = corrected_later(case);
    // Whatever happened, the next scenario needs an operator.
    operator::scale(&case.ground.cluster, 2)?;
    result
}

fn corrected_later(case: &Case<'_>) -> anyhow::Result<()> {
    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    let written = case.image(Registry::Acr, "v1");
    let begun = Instant::now();
    let image_now = case.admitted_image("orphan", &written)?;
    ensure!(image_now == written, "without an operator, the pod became {image_now}");
    case.bar("admission without an operator", begun.elapsed(), Duration::from_secs(4))?;
    case.pod("orphan", "waiting", since, PATIENCE, |pod| {
        catamaran_e2e::view::waiting(pod, "app").contains("ImagePull")
    })?;
    let back = Instant::now();
    operator::scale(&case.ground.cluster, 2)?;
    let flipped = case.active("Fallback", back, PATIENCE)?;
    case.note(format!(
        "operator back -> flipped: {:.1} s",
        (flipped - back).as_secs_f64()
    ));
    let ready = case.ready("orphan", since, PATIENCE)?;
    case.note(format!(
        "operator back -> the pod Ready: {:.1} s",
        (ready.at - back).as_secs_f64()
    ));
    ensure!(
        image(&ready.object, "app") == case.image(Registry::Ghcr, "v1"),
        "it runs {}",
        image(&ready.object, "app")
    );
    Ok(())
}
