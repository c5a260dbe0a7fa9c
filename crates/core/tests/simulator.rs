//! The operator's own loop in a scripted world: months of outages, flapping and loss, and random histories of everything that can
//! happen to it.

#![allow(
    clippy::assigning_clones,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::format_collect,
    clippy::manual_is_multiple_of,
    clippy::needless_borrow,
    clippy::needless_pass_by_value,
    clippy::panic,
    clippy::single_match_else,
    clippy::struct_excessive_bools,
    clippy::too_many_lines,
    reason = "a world of small numbers, whose checks end a test by a panic that prints the history"
)]

#[path = "simulator/apart.rs"]
mod apart;
#[path = "simulator/api.rs"]
mod api;
#[path = "simulator/bench.rs"]
mod bench;
#[path = "simulator/check.rs"]
mod check;
#[path = "simulator/clock.rs"]
mod clock;
#[path = "simulator/detection.rs"]
mod detection;
#[path = "simulator/draw.rs"]
mod draw;
#[path = "simulator/endpoints.rs"]
mod endpoints;
#[path = "simulator/facts.rs"]
mod facts;
#[path = "simulator/found.rs"]
mod found;
#[path = "simulator/fuzz.rs"]
mod fuzz;
#[path = "simulator/jobs.rs"]
mod jobs;
#[path = "simulator/kubelets.rs"]
mod kubelets;
#[path = "simulator/leases.rs"]
mod leases;
#[path = "simulator/networks.rs"]
mod networks;
#[path = "simulator/nodes.rs"]
mod nodes;
#[path = "simulator/play.rs"]
mod play;
#[path = "simulator/reading.rs"]
mod reading;
#[path = "simulator/registry.rs"]
mod registry;
#[path = "simulator/routes.rs"]
mod routes;
#[path = "simulator/script.rs"]
mod script;
#[path = "simulator/steering.rs"]
mod steering;
#[path = "simulator/world.rs"]
mod world;
#[path = "simulator/writing.rs"]
mod writing;

/// Plays random histories: 1,000, or half of what `FUZZ_HISTORIES` says, or for `FUZZ_SECONDS`. `FUZZ_SEED` leaves out as many, which
/// were played before.
fn fuzz(seed: u64) -> Result<(), String> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = seed + number("FUZZ_SEED").unwrap_or_default();
    let long = number("FUZZ_SECONDS").map(std::time::Duration::from_secs);
    match number("FUZZ_HISTORIES") {
        Some(count) => fuzz::run(seed, count / 2, None),
        None => fuzz::run(seed, long.map_or(1_000, |_| 0), long),
    }
}

#[test]
fn fuzzed_histories_hold() {
    let found = fuzz(1);
    assert!(found.is_ok(), "{}", found.err().unwrap_or_default());
}

/// The same from another seed, because two processors are better than one.
#[test]
fn fuzzed_further_histories_hold() {
    let found = fuzz(1 << 32);
    assert!(found.is_ok(), "{}", found.err().unwrap_or_default());
}
