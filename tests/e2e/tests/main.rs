//! The end-to-end tests: scenarios on real clusters, each with a namespace, a repository and a mirror of its own.
//!
//! `cargo test -p catamaran-e2e --test e2e -- words` runs those whose names contain one of the words. They are two [`Suite`]s,
//! which run beside each other, each on a new cluster: `catamaran-e2e` (or what `CATAMARAN_CLUSTER` names), and the same name
//! with `-releases`. With `KEEP=1` the clusters stay up afterwards.

mod bad_input;
mod chart;
mod crd;
mod failback;
mod flips;
mod flux;
mod helm;
mod hints;
mod install;
mod lifecycle;
mod parity;
mod private;
mod release;
mod repair;
mod rescue;
mod rewriting;
mod rights;
mod rollouts;
mod spared;
mod upgrade;

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::anyhow;
use catamaran_cluster::{Cluster, Options};
use catamaran_e2e::runner::{self, Scenario, Tally};
use catamaran_e2e::{Ground, interrupt, load, operator};

/// The cluster unless `CATAMARAN_CLUSTER` names another: runs beside each other need clusters of their own.
const CLUSTER: &str = "catamaran-e2e";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Scenarios start this program again inside the cluster, as one of these.
    if let Some(admitted) = load::client() {
        return ended(admitted);
    }
    if arguments.first().is_some_and(|word| word == private::EMULATOR) {
        return private::emulate(arguments);
    }
    test(arguments)
}

fn ended(result: anyhow::Result<()>) -> ExitCode {
    if let Err(error) = result {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn test(arguments: Vec<String>) -> ExitCode {
    let (options, words): (Vec<_>, Vec<_>) = arguments.into_iter().partition(|word| word.starts_with('-'));
    let mut suites = suites();
    let count = |suites: &[Suite]| suites.iter().map(|suite| suite.scenarios.len()).sum::<usize>();
    let all = count(&suites);
    for suite in &mut suites {
        let named = |case: &Scenario| words.is_empty() || words.iter().any(|word| case.name.contains(word.as_str()));
        suite.scenarios.retain(named);
    }
    suites.retain(|suite| !suite.scenarios.is_empty());
    let chosen = count(&suites);
    rights::WHOLE_RUN.store(chosen == all, Ordering::Relaxed);
    if options.iter().any(|option| option == "--list") {
        for case in suites.iter().flat_map(|suite| &suite.scenarios) {
            println!("{}: test", case.name);
        }
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {chosen} tests");
    if suites.is_empty() {
        println!("\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; {all} filtered out");
        return ExitCode::SUCCESS;
    }
    let begun = Instant::now();
    let tally = match run(&suites) {
        Ok(tally) => tally,
        Err(error) => return ended(Err(error)),
    };
    println!(
        "\ntest result: {}. {} passed; {} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        if tally.failed == 0 { "ok" } else { "FAILED" },
        tally.passed,
        tally.failed,
        all - chosen,
        begun.elapsed().as_secs_f64()
    );
    if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Scenarios that share a cluster and a release of the operator, in the order in which they run.
struct Suite {
    /// The cluster.
    cluster: String,
    scenarios: Vec<Scenario>,
}

/// All scenarios. Most of their time is waiting for kubelets, leases and stable minutes, so two clusters share a machine well:
/// what is measured against seconds stands in the first, and what only waits or takes a release away in the second.
fn suites() -> Vec<Suite> {
    let cluster = std::env::var("CATAMARAN_CLUSTER").unwrap_or_default();
    let cluster = if cluster.is_empty() { CLUSTER } else { &cluster };
    let operator = [
        crd::SCENARIOS,
        chart::SCENARIOS,
        rewriting::SCENARIOS,
        parity::SCENARIOS,
        repair::SCENARIOS,
        hints::SCENARIOS,
        bad_input::SCENARIOS,
        flips::SCENARIOS,
        rescue::SCENARIOS,
        spared::SCENARIOS,
        lifecycle::SCENARIOS,
        rollouts::SCENARIOS,
        // It looks back at all before it, which had the same rights.
        rights::SCENARIOS,
    ];
    let releases = [
        failback::SCENARIOS,
        // More rights, in one namespace, for a while.
        private::SCENARIOS,
        // These take the release away that the others share, and bring it back: its rights go before its pods do.
        install::SCENARIOS,
        upgrade::SCENARIOS,
        helm::SCENARIOS,
        flux::SCENARIOS,
    ];
    vec![
        Suite {
            cluster: cluster.to_owned(),
            scenarios: operator.concat(),
        },
        Suite {
            cluster: format!("{cluster}-releases"),
            scenarios: releases.concat(),
        },
    ]
}

/// Runs suites beside each other and takes their clusters down. An error is one of the machine's: a scenario's is in the tally.
fn run(suites: &[Suite]) -> anyhow::Result<Tally> {
    interrupt::destroys(suites.iter().map(|suite| suite.cluster.clone()).collect());
    let keep = std::env::var("KEEP").is_ok_and(|keep| !matches!(keep.as_str(), "" | "0"));
    // Once for all; each cluster would find it anyway.
    operator::build()?;
    let tallies: Vec<anyhow::Result<Tally>> = std::thread::scope(|scope| {
        let threads: Vec<_> = suites.iter().map(|suite| scope.spawn(|| suite.run(keep))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Err(anyhow!("a suite panicked")))
        };
        threads.into_iter().map(join).collect()
    });
    let mut sum = Tally::default();
    for tally in tallies {
        let tally = tally?;
        sum.passed += tally.passed;
        sum.failed += tally.failed;
    }
    Ok(sum)
}

impl Suite {
    fn run(&self, keep: bool) -> anyhow::Result<Tally> {
        let tally = self.attempt().unwrap_or_else(|error| {
            interrupt::rest_if_interrupted();
            eprintln!("{}: {error:#}", self.cluster);
            Tally {
                passed: 0,
                failed: self.scenarios.len(),
            }
        });
        if !keep {
            Cluster::destroy(&self.cluster)?;
        }
        Ok(tally)
    }

    fn attempt(&self) -> anyhow::Result<Tally> {
        let options = Options {
            name: self.cluster.clone(),
            audit_user: Some(operator::account()),
            ..Options::default()
        };
        // Tags and images of an earlier run would be in the way.
        Cluster::destroy(&self.cluster)?;
        let ground = Ground::start(&options, &operator::VALUES, |what, took| {
            println!("{}: {what} ({:.1} s)", self.cluster, took.as_secs_f64());
        })?;
        Ok(runner::run(&ground, &self.scenarios))
    }
}
