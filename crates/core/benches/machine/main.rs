//! What one step of a mirror's machine costs, as the number of tags grows: `cargo bench -p catamaran-core --bench machine`.
//!
//! Every event of the first passes, of changed tags, of an outage and of the failback goes through `Mirror::handle`, timed by the
//! clock of the thread. The scenario runs several times, and of each step the quickest run counts. It fails when one step takes
//! more than a millisecond at up to 100,000 tags.

#[path = "../support/mod.rs"]
mod support;

mod record;
mod world;

use std::process::ExitCode;
use std::time::Duration;

use catamaran_core::side::Side;

use record::Record;
use support::by_size;
use world::{ALL, FEW, World};

const SIZES: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// Where the bar is.
const BAR_AT: u32 = 100_000;
const STEP_BAR: Duration = Duration::from_millis(1);
/// Tags that change one by one.
const CHANGES: u32 = 300;

fn main() -> ExitCode {
    let heading = || {
        println!("one step of a mirror's machine, of the quickest of several runs; microseconds");
        println!(
            "{:>9}  {:<36} {:>8} {:>9} {:>9} {:>9}",
            "tags", "step", "count", "median", "p99", "slowest"
        );
    };
    by_size(SIZES, heading, measure)
}

fn measure(tags: u32) -> ExitCode {
    let runs = if tags > BAR_AT { 1 } else { 3 };
    let record = (1..runs).fold(play(tags), |quickest, _| quickest.quicker(&play(tags)));
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let mut passed = true;
    for kind in record.kinds() {
        println!(
            "{tags:>9}  {:<36} {:>8} {:>9.1} {:>9.1} {:>9.1}",
            kind.name,
            kind.count(),
            micros(kind.median()),
            micros(kind.p99()),
            micros(kind.slowest())
        );
        if tags <= BAR_AT && kind.slowest() > STEP_BAR {
            println!("{tags:>9}  above its bar: {}", kind.name);
            passed = false;
        }
    }
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The life of a mirror, from its first pass to a failback.
fn play(tags: u32) -> Record {
    let mut world = World::new(tags, FEW);
    // Reading each tag by name takes too long where there are too many.
    world.digests = tags > BAR_AT;
    world.begin();
    world.pass();
    if tags <= BAR_AT {
        world.digests = true;
        world.pass();
        world.digests = false;
        world.pass();
    }
    let seen = world.observation().expect("the mirror is watched");
    assert_eq!(seen.summary.tags, tags as usize + seen.summary.digests);
    assert!(
        seen.summary.missing_on_fallback > 0 && seen.summary.pending == 0,
        "{:?}",
        seen.summary
    );
    for round in 0..CHANGES {
        world.wait(Duration::from_secs(1));
        world.change((u64::from(round) * 7_919 * 101 % u64::from(tags)) as u32);
    }
    world.remove_one_of(100);
    world.pass();
    fail_over(&mut world);
    fail_back(&mut world);
    outage_without_a_way_out(&mut world);
    world.record.extend(fill(tags).record);
    world.record
}

/// The first passes of a mirror whose fallback is still empty.
fn fill(tags: u32) -> World {
    let mut world = World::new(tags, ALL);
    world.use_tags(|on_fallback| !on_fallback);
    world.digests = true;
    world.begin();
    world.pass();
    let seen = world.observation().expect("the mirror is watched");
    assert_eq!(seen.summary.missing_on_fallback, tags as usize);
    world
}

fn fail_over(world: &mut World) {
    // What is in use then counts as read with each pass.
    world.digests = true;
    world.down = Some(Side::Primary);
    world.outage = "probe ended, in an outage";
    for _ in 0..20 {
        world.wait(Duration::from_secs(1));
    }
    assert_eq!(world.active(), Side::Fallback);
    world.pass();
}

fn fail_back(world: &mut World) {
    world.down = None;
    world.outage = "probe ended, on the fallback";
    let mut seconds = 0;
    while world.active() == Side::Fallback {
        world.wait(Duration::from_secs(2));
        seconds += 2;
        assert!(seconds < 3_600, "no failback within an hour");
    }
}

/// Nothing that is in use is on the other side.
fn outage_without_a_way_out(world: &mut World) {
    world.use_tags(|on_fallback| !on_fallback);
    world.pass();
    world.down = Some(Side::Primary);
    world.outage = "probe ended, nothing in use there";
    for _ in 0..60 {
        world.wait(Duration::from_secs(1));
    }
    assert_eq!(world.active(), Side::Primary);
}
