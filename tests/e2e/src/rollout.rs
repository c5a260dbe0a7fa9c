//! `make bench-rollout`: admissions that fail or are missed while replicas are replaced, killed or gone and certificates rotate,
//! counted at a real API server.
//!
//! `ADMISSIONS` (100,000) is how many a rolling update must survive, `CONNECTIONS` (8) how many clients ask at a time.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use catamaran_cluster::{Cluster, Options, Registry};
use catamaran_e2e::load::{self, Load, Order, Tally};
use catamaran_e2e::{Case, Ground, interrupt, operator};

/// The cluster unless `CATAMARAN_CLUSTER` names another.
const CLUSTER: &str = "catamaran-rollout";

/// Of the namespace, the repository and the mirror.
const NAME: &str = "rollout";

/// A rotation every minute: a leaf is replaced at two thirds of its life.
const MINUTE: [&str; 2] = ["certificates.lifetime=90s", "certificates.authorityLifetime=270s"];

/// Longer than a lease lasts, and too short for the kubelet to restart the container.
const PAUSE: Duration = Duration::from_secs(20);

/// How long certificates rotate: the authority is replaced, too, at two thirds of its own life.
const ROTATING: Duration = Duration::from_mins(4);

fn main() -> ExitCode {
    let result = load::client().unwrap_or_else(bench);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> anyhow::Result<()> {
    let cluster = std::env::var("CATAMARAN_CLUSTER").ok().filter(|name| !name.is_empty());
    let cluster = cluster.unwrap_or_else(|| CLUSTER.to_owned());
    interrupt::destroys(vec![cluster.clone()]);
    Cluster::destroy(&cluster)?;
    let result = measure(&cluster);
    Cluster::destroy(&cluster)?;
    result
}

fn measure(cluster: &str) -> anyhow::Result<()> {
    let admissions: u64 = variable("ADMISSIONS", 100_000)?;
    let options = Options {
        name: cluster.to_owned(),
        ..Options::default()
    };
    let ground = Ground::start(&options, &[], |what, took| {
        println!("{what} ({:.1} s)", took.as_secs_f64());
    })?;
    let case = Case::begin(&ground, NAME)?;
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    let mut bench = Bench {
        case,
        connections: variable("CONNECTIONS", 8)?,
        broken: Vec::new(),
    };
    let rest = || {
        std::thread::sleep(Duration::from_secs(20));
        Ok(())
    };
    bench.baseline(rest)?;
    bench.phase("steady", Goal::Lossless, rest)?;
    bench.rolling_updates(admissions)?;
    bench.phase("certificates rotating every minute", Goal::Lossless, || {
        bench_certificates(&ground.cluster)
    })?;
    bench.phase("both replicas drained in turn", Goal::Lossless, || {
        operator::pods(&ground.cluster)?
            .iter()
            .try_for_each(|pod| operator::evict(&ground.cluster, pod))
    })?;
    bench.phase("a follower killed", Goal::Admitted, || kill(&ground.cluster, false))?;
    bench.phase("the leader killed", Goal::Admitted, || kill(&ground.cluster, true))?;
    bench.phase("the leader paused", Goal::Admitted, || pause(&ground.cluster))?;
    bench.phase("scaled to zero and back", Goal::Admitted, || {
        operator::scale(&ground.cluster, 0)?;
        operator::scale(&ground.cluster, 2)
    })?;
    cold_start(&mut bench)?;
    ensure!(bench.broken.is_empty(), "missed: {}", bench.broken.join("; "));
    Ok(())
}

fn variable<T: std::str::FromStr>(name: &str, default: T) -> anyhow::Result<T> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => text
            .parse()
            .ok()
            .with_context(|| format!("failed to read {name}: {text:?} is no number")),
        _ => Ok(default),
    }
}

/// What a phase must not cost.
#[derive(Clone, Copy, PartialEq)]
enum Goal {
    /// Every pod is admitted, and rewritten.
    Lossless,
    /// Every pod is admitted; the leader repairs afterwards what was not rewritten.
    Admitted,
}

struct Bench<'g> {
    case: Case<'g>,
    connections: usize,
    broken: Vec<String>,
}

impl Bench<'_> {
    fn order(&self) -> Order {
        Order {
            namespace: self.case.name.clone(),
            image: self.case.image(Registry::Ghcr, "v1"),
            expected: self.case.image(Registry::Acr, "v1"),
            connections: self.connections,
            every: Duration::ZERO,
        }
    }

    /// The same pods where the webhook is not asked.
    fn baseline(&mut self, happens: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        let order = Order {
            namespace: "kube-system".to_owned(),
            expected: self.case.image(Registry::Ghcr, "v1"),
            ..self.order()
        };
        let load = Load::start(&self.case.ground.cluster, &order)?;
        happens()?;
        let tally = load.stop()?;
        self.told("without the webhook", Goal::Lossless, &tally);
        Ok(())
    }

    fn phase(&mut self, what: &str, goal: Goal, happens: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        let load = Load::start(&self.case.ground.cluster, &self.order())?;
        happens()?;
        let tally = load.stop()?;
        self.told(what, goal, &tally);
        Ok(())
    }

    /// One after the other until so many pods were admitted meanwhile.
    fn rolling_updates(&mut self, admissions: u64) -> anyhow::Result<()> {
        let (mut done, mut updates, mut lost) = (0, 0, 0);
        while done < admissions {
            let load = Load::start(&self.case.ground.cluster, &self.order())?;
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_mins(1) {
                operator::roll(&self.case.ground.cluster)?;
                updates += 1;
            }
            let tally = load.stop()?;
            done += tally.admissions;
            lost += tally.failed + tally.unrewritten;
            self.told(&format!("rolling updates, {updates} so far"), Goal::Lossless, &tally);
        }
        println!("{updates} rolling updates: {lost} of {done} admissions lost");
        Ok(())
    }

    fn told(&mut self, what: &str, goal: Goal, tally: &Tally) {
        println!("{what}: {}", tally.line());
        for bad in &tally.bad {
            println!("    {bad}");
        }
        let lost = tally.failed + if goal == Goal::Lossless { tally.unrewritten } else { 0 };
        if lost > 0 || tally.admissions == 0 {
            self.broken
                .push(format!("{lost} of {} admissions, {what}", tally.admissions));
        }
    }
}

fn bench_certificates(cluster: &Cluster) -> anyhow::Result<()> {
    operator::upgrade(cluster, &MINUTE)?;
    let (begun, mut leaves, mut authorities) = (Instant::now(), Vec::new(), Vec::new());
    while begun.elapsed() < ROTATING {
        for (key, seen) in [("tls\\.crt", &mut leaves), ("ca\\.crt", &mut authorities)] {
            let now = operator::certificate_data(cluster, key)?;
            if seen.last() != Some(&now) {
                seen.push(now);
            }
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    println!(
        "{} certificates and {} bundles of authorities within {} s",
        leaves.len(),
        authorities.len(),
        ROTATING.as_secs()
    );
    ensure!(
        leaves.len() > 2 && authorities.len() > 1,
        "the certificates did not rotate"
    );
    operator::upgrade(cluster, &[])
}

fn kill(cluster: &Cluster, leader: bool) -> anyhow::Result<()> {
    let holder = operator::leader(cluster)?;
    let pods = operator::pods(cluster)?;
    let victim = pods
        .iter()
        .find(|pod| (**pod == holder) == leader)
        .context("failed to find a replica to kill")?;
    operator::kill(cluster, victim)?;
    if leader {
        let killed = Instant::now();
        println!(
            "another leads after {:.1} s",
            operator::followed(cluster, &holder, killed)?.as_secs_f64()
        );
    }
    operator::scale(cluster, 2)
}

/// Stops the leader's process for longer than its lease lasts, and lets it go on.
fn pause(cluster: &Cluster) -> anyhow::Result<()> {
    let holder = operator::leader(cluster)?;
    operator::signal(cluster, &holder, "STOP")?;
    let paused = Instant::now();
    let followed = operator::followed(cluster, &holder, paused);
    std::thread::sleep(PAUSE.saturating_sub(paused.elapsed()));
    operator::signal(cluster, &holder, "CONT")?;
    println!("another leads after {:.1} s", followed?.as_secs_f64());
    operator::scale(cluster, 2)
}

/// The whole control plane starts with the webhook configuration in place and nobody behind it.
fn cold_start(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    let cluster = &bench.case.ground.cluster;
    operator::scale(cluster, 0)?;
    for component in [
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "kube-proxy",
    ] {
        cluster.restart(component)?;
    }
    let begun = Instant::now();
    while cluster.kubectl(&["get", "--raw", "/readyz"]).is_err() {
        ensure!(
            begun.elapsed() < Duration::from_mins(1),
            "the API server does not come back"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    let ground = bench.case.ground;
    bench.phase(
        "cold start: control plane restarted, no replica",
        Goal::Admitted,
        || operator::scale(&ground.cluster, 2),
    )
}
