//! The end-to-end tests: scenarios on real clusters, each with a namespace, a repository and a mirror of its own.
//!
//! `cargo test --test e2e -- words` runs those whose names contain one of the words. They are three
//! [`Suite`]s, each on a new cluster: `catamaran-e2e` (or what `CATAMARAN_CLUSTER` names) runs beside the same name with `-releases`,
//! which is followed by the same name with `-nodes`, a cluster of two nodes. With `KEEP=1` the clusters stay up afterwards; with `REPEAT=3` each scenario must pass three times, under
//! names of its own, which finds what passes only on a new cluster or only by luck.

mod bad_input;
mod certificates;
mod chart;
mod crd;
mod failback;
mod flips;
mod floods;
mod flux;
mod helm;
mod hints;
mod install;
mod knowledge;
mod lifecycle;
mod nodes;
mod parity;
mod policies;
mod private;
mod proofs;
mod quiet;
mod release;
mod repair;
mod rescue;
mod rewriting;
mod rights;
mod rollouts;
mod serial;
mod spared;
mod token;
mod upgrade;

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Instant;

use anyhow::{Context as _, anyhow};
use catamaran_cluster::{Cluster, Options};
use catamaran_e2e::runner::{self, Scenario, Tally};
use catamaran_e2e::{Ground, attack, interrupt, load, operator};

/// The cluster unless `CATAMARAN_CLUSTER` names another: runs beside each other need clusters of their own.
const CLUSTER: &str = "catamaran-e2e";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Scenarios start this program again inside the cluster, as one of these.
    if let Some(admitted) = load::client() {
        return ended(admitted);
    }
    if let Some(attacked) = attack::attacker() {
        return ended(attacked);
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
    let repeat = match repeat(&std::env::var("REPEAT").unwrap_or_default()) {
        Ok(repeat) => repeat,
        Err(error) => return ended(Err(error)),
    };
    let (options, words): (Vec<_>, Vec<_>) = arguments.into_iter().partition(|word| word.starts_with('-'));
    let mut lanes = lanes();
    let count = |lanes: &[Lane]| lanes.iter().flatten().flat_map(Suite::all).count();
    let all = count(&lanes);
    for suite in lanes.iter_mut().flatten() {
        let named = |case: &Scenario| words.is_empty() || words.iter().any(|word| case.name.contains(word.as_str()));
        suite.beside.retain(named);
        suite.alone.retain(named);
    }
    for lane in &mut lanes {
        lane.retain(|suite| suite.all().count() > 0);
    }
    let chosen = count(&lanes);
    rights::WHOLE_RUN.store(chosen == all, Ordering::Relaxed);
    if options.iter().any(|option| option == "--list") {
        for case in lanes.iter().flatten().flat_map(Suite::all) {
            println!("{}: test", case.name);
        }
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {chosen} tests");
    if chosen == 0 {
        println!("\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; {all} filtered out");
        return ExitCode::SUCCESS;
    }
    let begun = Instant::now();
    let tally = match run(&lanes, repeat) {
        Ok(tally) => tally,
        Err(error) => return ended(Err(error)),
    };
    if !tally.unmeasured.is_empty() {
        println!(
            "\nNOT MEASURED, because the machine was busy with something else in {} attempts: bars of {}",
            runner::ATTEMPTS,
            tally.unmeasured.join(", ")
        );
    }
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

/// How often each scenario runs: once, unless the words say another number.
fn repeat(words: &str) -> anyhow::Result<usize> {
    match words {
        "" => Ok(1),
        words => words.parse().ok().filter(|repeat| *repeat > 0).with_context(|| {
            format!("failed to read REPEAT={words:?}: it is how often each scenario runs, at least 1")
        }),
    }
}

/// Scenarios that share a cluster and a release of the operator, in the order in which they run.
struct Suite {
    /// The cluster.
    cluster: String,
    /// How many nodes it has.
    nodes: usize,
    /// Those that leave room for another suite.
    beside: Vec<Scenario>,
    /// Those that need the machine for themselves, after all of the others in all suites.
    alone: Vec<Scenario>,
}

/// Suites that run one after the other. Only the last one may have scenarios that need the machine for themselves: the others in its
/// lane would still be to come.
type Lane = Vec<Suite>;

/// All scenarios. Most of their time is waiting for kubelets, leases and stable minutes, so two clusters share a machine well, and
/// three do not: what is measured against seconds stands in the first lane, and what only waits, takes a release away or needs
/// two nodes in the second. What is measured and takes all of the machine's processors comes when the second has ended.
fn lanes() -> Vec<Lane> {
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
        knowledge::SCENARIOS,
        policies::SCENARIOS,
        quiet::SCENARIOS,
        spared::SCENARIOS,
        token::SCENARIOS,
        lifecycle::SCENARIOS,
        rollouts::SCENARIOS,
    ];
    let alone = [
        rollouts::ALONE,
        rescue::ALONE,
        quiet::ALONE,
        floods::ALONE,
        // It looks back at all before it, which had the same rights.
        rights::SCENARIOS,
    ];
    let releases = [
        failback::SCENARIOS,
        knowledge::IN_USE,
        knowledge::EVIDENCE,
        knowledge::SLOW,
        quiet::DISRUPTIVE,
        // More rights, in one namespace, for a while.
        private::SCENARIOS,
        // These take the release away that the others share, and bring it back: its rights go before its pods do.
        install::SCENARIOS,
        certificates::SCENARIOS,
        upgrade::SCENARIOS,
        helm::SCENARIOS,
        install::WITH_FLUX,
        flux::SCENARIOS,
    ];
    let first = Suite {
        cluster: cluster.to_owned(),
        nodes: 1,
        beside: operator.concat(),
        alone: alone.concat(),
    };
    let releases = Suite {
        cluster: format!("{cluster}-releases"),
        nodes: 1,
        beside: releases.concat(),
        alone: Vec::new(),
    };
    let nodes = Suite {
        cluster: format!("{cluster}-nodes"),
        nodes: 2,
        beside: [nodes::SCENARIOS, serial::SCENARIOS, proofs::SCENARIOS].concat(),
        alone: Vec::new(),
    };
    vec![vec![first], vec![releases, nodes]]
}

/// Runs lanes beside each other and takes their clusters down. An error is one of the machine's: a scenario's is in the tally.
fn run(lanes: &[Lane], repeat: usize) -> anyhow::Result<Tally> {
    interrupt::destroys(lanes.iter().flatten().map(|suite| suite.cluster.clone()).collect());
    let keep = std::env::var("KEEP").is_ok_and(|keep| !matches!(keep.as_str(), "" | "0"));
    // Once for all; each cluster would find it anyway.
    operator::build()?;
    let (working, ended) = mpsc::channel();
    let ended = Mutex::new(ended);
    let tallies: Vec<anyhow::Result<Tally>> = std::thread::scope(|scope| {
        let others = || Others {
            working: working.clone(),
            ended: &ended,
        };
        let threads = lanes.iter().map(|lane| {
            // For all at once: also what has not begun yet works beside the other lanes.
            let suites: Vec<_> = lane.iter().map(|suite| (suite, others())).collect();
            scope.spawn(move || {
                let mut sum = Tally::default();
                for (suite, others) in suites {
                    sum += suite.run(others, repeat, keep)?;
                }
                Ok(sum)
            })
        });
        let threads: Vec<_> = threads.collect();
        drop(working);
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Err(anyhow!("a suite panicked")))
        };
        threads.into_iter().map(join).collect()
    });
    let mut sum = Tally::default();
    for tally in tallies {
        sum += tally?;
    }
    Ok(sum)
}

/// Tells a suite when no other one works beside it any more.
struct Others<'r> {
    /// Each suite holds one until its part beside the others is over, however that ends.
    working: mpsc::Sender<Infallible>,
    ended: &'r Mutex<mpsc::Receiver<Infallible>>,
}

impl Others<'_> {
    fn wait(self) {
        drop(self.working);
        // Nothing is ever sent: this ends when the last sender is gone.
        let _ = self.ended.lock().unwrap_or_else(PoisonError::into_inner).recv();
    }
}

impl Suite {
    fn all(&self) -> impl Iterator<Item = &Scenario> {
        self.beside.iter().chain(&self.alone)
    }

    fn run(&self, others: Others<'_>, repeat: usize, keep: bool) -> anyhow::Result<Tally> {
        let tally = self.attempt(others, repeat).unwrap_or_else(|error| {
            interrupt::rest_if_interrupted();
            eprintln!("{}: {error:#}", self.cluster);
            Tally {
                failed: self.all().count(),
                ..Tally::default()
            }
        });
        if !keep {
            Cluster::destroy(&self.cluster)?;
        }
        Ok(tally)
    }

    fn attempt(&self, others: Others<'_>, repeat: usize) -> anyhow::Result<Tally> {
        let options = Options {
            name: self.cluster.clone(),
            nodes: self.nodes,
            audit_user: Some(operator::account()),
            ..Options::default()
        };
        // Tags and images of an earlier run would be in the way.
        Cluster::destroy(&self.cluster)?;
        let ground = Ground::start(&options, &operator::VALUES, |what, took| {
            println!("{}: {what} ({:.1} s)", self.cluster, took.as_secs_f64());
        })?;
        let mut tally = runner::run(&ground, &self.beside, repeat);
        if !self.alone.is_empty() {
            others.wait();
            tally += runner::run(&ground, &self.alone, repeat);
        }
        Ok(tally)
    }
}
