//! What a review costs, beside a server that does nothing, in the same run on the same core.
//!
//! Each server is a process of its own on one core, the client sits on the other. The no-op server has the same stack
//! (hyper and rustls on a current-thread runtime): it reads the body and answers a constant. Processor time is the
//! kernel's account of the server's threads, so it includes the network stack's share.
//!
//! `cargo bench -p catamaran-webhook`; with `-- quick` each figure takes a third of the time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark fails like a test")]

#[path = "../../tests/support/mod.rs"]
mod support;

mod client;
mod process;
mod servers;

use std::time::Duration;

use client::{Load, Measured, median};
use process::ServerProcess;
use servers::Kind;

/// What a review may cost at most, as a multiple of the no-op server's.
const CPU_RATIO_GOAL: f64 = 3.0;

/// The servers take turns so often: the shorter a turn, the more the noise of the machine is the same for both.
const TURNS: u32 = 15;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|argument| argument == "--serve") {
        Some(at) => servers::run(arguments[at + 1].parse().unwrap()),
        None => compare(arguments.iter().any(|argument| argument == "quick")),
    }
}

/// One kind of load, and how long it lasts.
struct Scenario {
    name: &'static str,
    body: String,
    load: Load,
    duration: Duration,
}

fn scenarios(quick: bool) -> Vec<Scenario> {
    let unit: u64 = if quick { 1 } else { 3 };
    let scenario = |name, body: &str, load, seconds| Scenario {
        name,
        body: body.to_owned(),
        load,
        duration: Duration::from_secs(seconds * unit),
    };
    let typical = support::CREATE;
    let large = support::sized(10, 1, 70_000);
    let huge = support::sized(40, 1, 1_000_000);
    vec![
        scenario("7.7 kB, 1 connection", typical, Load::closed(1), 2),
        scenario("7.7 kB, 32 connections", typical, Load::closed(32), 2),
        scenario("7.7 kB, paced 1,000/s", typical, Load::paced(8, 1000), 3),
        scenario("70 kB, 10+1 containers", &large, Load::closed(1), 1),
        scenario("1 MB, 40+1 containers", &huge, Load::closed(1), 1),
    ]
}

fn compare(quick: bool) {
    process::pin_to(1);
    let noop = ServerProcess::start(Kind::Noop);
    let catamaran = ServerProcess::start(Kind::Catamaran);
    println!(
        "{:<24} {:<10} {:>9} {:>9} {:>9} {:>11} {:>7}",
        "load", "server", "reviews/s", "p50 ms", "p99 ms", "CPU us each", "ratio"
    );
    let mut typical_ratio = 0.0_f64;
    for scenario in scenarios(quick) {
        let turn = |_| {
            [&noop, &catamaran].map(|server| server.measure(&scenario.body, scenario.load, scenario.duration / TURNS))
        };
        let turns: Vec<[Measured; 2]> = (0..TURNS).map(turn).collect();
        let ratio = median(
            turns
                .iter()
                .map(|[noop, own]| own.cpu.as_secs_f64() / noop.cpu.as_secs_f64()),
        );
        let [noop, catamaran] =
            [0, 1].map(|server| Measured::median(&turns.iter().map(|turn| &turn[server]).collect::<Vec<_>>()));
        if scenario.body == support::CREATE {
            typical_ratio = typical_ratio.max(ratio);
        }
        print(scenario.name, "no-op", &noop, "");
        print("", "catamaran", &catamaran, &format!("{ratio:.2}"));
    }
    println!();
    println!("CPU per typical review: at most {typical_ratio:.2} x the no-op server's (goal <= {CPU_RATIO_GOAL})");
    println!(
        "connections that the webhook's process opened: {}",
        catamaran.outbound()
    );
    println!(
        "resident memory: no-op {} kB, catamaran {} kB",
        noop.resident(),
        catamaran.resident()
    );
}

fn print(load: &str, server: &str, measured: &Measured, ratio: &str) {
    let millis = |duration: Duration| duration.as_secs_f64() * 1000.0;
    println!(
        "{load:<24} {server:<10} {:>9.0} {:>9.3} {:>9.3} {:>11.1} {ratio:>7}",
        measured.rate,
        millis(measured.p50),
        millis(measured.p99),
        measured.cpu.as_secs_f64() * 1e6
    );
}
