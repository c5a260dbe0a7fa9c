//! What upgrades, drains and rotating certificates cost, which is nothing; and what a leader costs that stops without ending.

use std::time::{Duration, Instant};

use anyhow::ensure;
use catamaran_cluster::{Fault, Registry};
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::load::{Load, Order, Tally};
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::view::number;
use catamaran_e2e::{Case, operator};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a-rolling-update-loses-no-admission",
        run: a_rolling_update_loses_no_admission,
    },
    Scenario {
        name: "a-drain-loses-no-admission",
        run: a_drain_loses_no_admission,
    },
    Scenario {
        name: "certificates-rotate-every-minute-and-no-admission-is-lost",
        run: certificates_rotate_every_minute,
    },
];

/// A leader must be followed in seconds, by a replica that gets to run.
pub const ALONE: &[Scenario] = &[Scenario {
    name: "a-paused-leader-is-followed-in-time-and-comes-back-too-late",
    run: a_paused_leader_is_followed,
}];

/// Enough admissions to tell something from: they are waited for, however long they take.
const ENOUGH: u64 = 500;

/// How long a leader may be missed: the lease's 12 s, 2 s until its last renewal is seen, and a second for the requests.
const TAKE_OVER: Duration = Duration::from_secs(15);

fn order(case: &Case<'_>) -> Order {
    Order {
        namespace: case.name.clone(),
        image: case.image(Registry::Ghcr, "v1"),
        expected: case.image(Registry::Acr, "v1"),
        connections: 4,
        // Forty a second leave room for another suite; `make bench-rollout` takes all there is.
        every: Duration::from_millis(100),
    }
}

/// Admits pods while `what` happens; all of them must be answered, and rewritten.
pub fn lossless(case: &Case<'_>, what: &str, happens: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Tally> {
    let load = Load::start(&case.ground.cluster, &order(case))?;
    // It begins under load, and goes on until there is enough of it.
    let connections = order(case).connections as u64;
    load.reaches(connections, PATIENCE)?;
    let happened = happens();
    let during = load.admitted();
    let enough = load.reaches(ENOUGH, PATIENCE);
    let tally = load.stop()?;
    case.note(format!("{what}: {}", tally.line()));
    happened?;
    enough?;
    ensure!(during > connections, "no pod was asked for while it happened");
    ensure!(
        tally.failed + tally.unrewritten == 0,
        "{what}: {}",
        tally.bad.join("; ")
    );
    Ok(tally)
}

fn a_rolling_update_loses_no_admission(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    lossless(case, "rolling update", || operator::roll(&case.ground.cluster)).map(drop)
}

fn a_drain_loses_no_admission(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    lossless(case, "both replicas evicted in turn", || {
        for pod in operator::pods(&case.ground.cluster)? {
            operator::evict(&case.ground.cluster, &pod)?;
        }
        Ok(())
    })
    .map(drop)
}

fn certificates_rotate_every_minute(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    let cluster = &case.ground.cluster;
    let short = ["certificates.lifetime=60s", "certificates.authorityLifetime=180s"];
    let result = lossless(case, "short certificates and back", || {
        let changed =
            operator::upgrade(cluster, &[&operator::VALUES[..], &short].concat()).and_then(|()| rotations(case, 2));
        // Whatever happened, the next scenario needs the usual ones.
        operator::upgrade(cluster, &operator::VALUES)?;
        changed
    });
    result.map(drop)
}

/// Waits until the certificate has been replaced so many times.
fn rotations(case: &Case<'_>, wanted: usize) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut certificates = vec![operator::certificate(&case.ground.cluster)?];
    while certificates.len() <= wanted {
        ensure!(
            begun.elapsed() < Duration::from_mins(6),
            "{} of {wanted} rotations in 6 minutes",
            certificates.len() - 1
        );
        std::thread::sleep(Duration::from_secs(1));
        let certificate = operator::certificate(&case.ground.cluster)?;
        if certificates.last() != Some(&certificate) {
            certificates.push(certificate);
        }
    }
    case.note(format!(
        "{wanted} rotations within {:.0} s",
        begun.elapsed().as_secs_f64()
    ));
    Ok(())
}

fn a_paused_leader_is_followed(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    let cluster = &case.ground.cluster;
    let leader = operator::leader(cluster)?;
    ensure!(!leader.is_empty(), "nobody leads");
    operator::signal(cluster, &leader, "STOP")?;
    let paused = Instant::now();
    let followed = followed(case, &leader, paused);
    // Twenty seconds are long enough to lose the lease, and too short for the kubelet to restart the container.
    std::thread::sleep(Duration::from_secs(20).saturating_sub(paused.elapsed()));
    operator::signal(cluster, &leader, "CONT")?;
    followed?;
    case.no_flip(Duration::from_secs(6))?;
    let mirror = case.latest()?;
    ensure!(
        number(&mirror, "/status/epoch") == 2,
        "the epoch is {}",
        mirror["status"]["epoch"]
    );
    let holder = operator::leader(cluster)?;
    ensure!(!holder.is_empty() && holder != leader, "the paused leader leads again");
    // Both serve again, for the scenarios that follow.
    operator::scale(cluster, 2)
}

/// The outage begins as the leader stops: the other replica has seen all of it when it takes over.
fn followed(case: &Case<'_>, leader: &str, paused: Instant) -> anyhow::Result<()> {
    case.ground.fault(Registry::Acr, Fault::Refused)?;
    let taken = operator::followed(&case.ground.cluster, leader, paused)?;
    let flipped = case.active("Fallback", paused, PATIENCE)?;
    case.bar("leader paused -> the other leads", taken, TAKE_OVER)?;
    // No longer than the take-over: what the follower knows needs no further probe.
    case.bar("leader paused and primary down -> flipped", flipped - paused, TAKE_OVER)
}
