//! The end-to-end tests: scenarios on one real cluster, each with a namespace, a repository and a mirror of its own.
//!
//! `cargo test -p catamaran-e2e --test e2e -- words` runs those whose names contain one of the words. The cluster is
//! `catamaran-e2e`, or what `CATAMARAN_CLUSTER` names, a new one for each run; with `KEEP=1` it stays up afterwards.

mod bad_input;
mod chart;
mod crd;
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

use catamaran_cluster::{Cluster, Options};
use catamaran_e2e::runner::{self, Scenario};
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
    let all = scenarios();
    let count = all.len();
    let named = |case: &Scenario| words.is_empty() || words.iter().any(|word| case.name.contains(word.as_str()));
    let chosen: Vec<Scenario> = all.into_iter().filter(named).collect();
    rights::WHOLE_RUN.store(chosen.len() == count, Ordering::Relaxed);
    if options.iter().any(|option| option == "--list") {
        for case in &chosen {
            println!("{}: test", case.name);
        }
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", chosen.len());
    if chosen.is_empty() {
        println!("\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; {count} filtered out");
        return ExitCode::SUCCESS;
    }
    let cluster = std::env::var("CATAMARAN_CLUSTER").unwrap_or_default();
    let cluster = if cluster.is_empty() { CLUSTER } else { &cluster };
    interrupt::destroys(cluster);
    let keep = std::env::var("KEEP").is_ok_and(|keep| !matches!(keep.as_str(), "" | "0"));
    let begun = Instant::now();
    let result = run(cluster, &chosen);
    if !keep && let Err(error) = Cluster::destroy(cluster) {
        return ended(Err(error));
    }
    let tally = match result {
        Ok(tally) => tally,
        Err(error) => {
            interrupt::rest_if_interrupted();
            eprintln!("{error:#}");
            runner::Tally {
                passed: 0,
                failed: chosen.len(),
            }
        }
    };
    println!(
        "\ntest result: {}. {} passed; {} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        if tally.failed == 0 { "ok" } else { "FAILED" },
        tally.passed,
        tally.failed,
        count - chosen.len(),
        begun.elapsed().as_secs_f64()
    );
    if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// All of them, in the order in which they run: what needs no outage comes first.
fn scenarios() -> Vec<Scenario> {
    [
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
        // More rights, in one namespace, for a while.
        private::SCENARIOS,
        // These take the release away that the others share, and bring it back: its rights go before its pods do.
        install::SCENARIOS,
        upgrade::SCENARIOS,
        helm::SCENARIOS,
        flux::SCENARIOS,
    ]
    .concat()
}

fn run(cluster: &str, scenarios: &[Scenario]) -> anyhow::Result<runner::Tally> {
    let options = Options {
        name: cluster.to_owned(),
        audit_user: Some(operator::account()),
        ..Options::default()
    };
    // Tags and images of an earlier run would be in the way.
    Cluster::destroy(cluster)?;
    let ground = Ground::start(&options, &operator::VALUES, |what, took| {
        println!("{what} ({:.1} s)", took.as_secs_f64());
    })?;
    Ok(runner::run(&ground, scenarios))
}
