//! Random histories, and how one that breaks an invariant is made small.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::check::Violation;
use crate::clock::Dice;
use crate::draw::{setup, steps};
use crate::play::{HANDLED, play};
use crate::script::{Setup, Step};

/// Steps of a history.
pub const STEPS: usize = 500;

/// Plays a history; a panic is a violation, too.
fn outcome(setup: Setup, steps: &[Step]) -> Option<Violation> {
    catch_unwind(AssertUnwindSafe(|| play(setup, steps))).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Some(Violation {
            invariant: "panic",
            message: message.unwrap_or_default(),
            at: 0,
        })
    })
}

/// The fewest steps that still break the same invariant, by leaving out ever smaller parts.
fn minimize(setup: Setup, steps: &[Step], invariant: &str) -> Vec<Step> {
    let breaks = |steps: &[Step]| outcome(setup, steps).is_some_and(|violation| violation.invariant == invariant);
    let mut steps = steps.to_vec();
    let mut part = steps.len() / 2;
    while part > 0 {
        let mut from = 0;
        let before = steps.len();
        while from < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(from..(from + part).min(steps.len()));
            if breaks(&fewer) {
                steps = fewer;
            } else {
                from += part;
            }
        }
        if part > 1 || steps.len() == before {
            part /= 2;
        }
    }
    join(&mut steps, &breaks);
    round(&mut steps, &breaks);
    steps
}

/// Joins what is waited in a row.
fn join(steps: &mut Vec<Step>, breaks: &impl Fn(&[Step]) -> bool) {
    let mut index = 1;
    while index < steps.len() {
        if let (Step::Wait(one), Step::Wait(other)) = (steps[index - 1], steps[index]) {
            let mut joined = steps.clone();
            joined[index - 1] = Step::Wait(one + other);
            joined.remove(index);
            if breaks(&joined) {
                *steps = joined;
                continue;
            }
        }
        index += 1;
    }
}

/// Rounds what is waited, so that the history reads well.
fn round(steps: &mut Vec<Step>, breaks: &impl Fn(&[Step]) -> bool) {
    for index in 0..steps.len() {
        let Step::Wait(length) = steps[index] else { continue };
        for rounded in [1_000, 10_000, 100, 10].map(|to: u32| length.div_ceil(to) * to) {
            let mut other = steps.clone();
            other[index] = Step::Wait(rounded);
            if breaks(&other) {
                *steps = other;
                break;
            }
        }
    }
}

/// A history as a test for `found.rs`.
fn as_test(setup: Setup, steps: &[Step], violation: &Violation) -> String {
    let lines: Vec<String> = steps.iter().map(|step| format!("        {step:?},\n")).collect();
    let lines = lines.concat();
    format!(
        "// {}: {}\n#[test]\nfn found_x() {{\n    holds(\n        {setup:?},\n        &[\n{lines}        ],\n    );\n}}\n",
        violation.invariant, violation.message
    )
}

/// Plays random histories, from this seed on: so many, or for so long. One that breaks an invariant comes back made small, as
/// a test.
pub fn run(seed: u64, count: u64, long: Option<Duration>) -> Result<(), String> {
    let start = Instant::now();
    let mut played = 0;
    while played < count || long.is_some_and(|long| start.elapsed() < long) {
        let number = seed.wrapping_add(played);
        let mut dice = Dice(number);
        let setup = setup(&mut dice);
        let steps = steps(&mut dice, STEPS);
        if let Some(violation) = outcome(setup, &steps) {
            eprintln!("history {number} breaks {violation:?}; it is being made small");
            let fewer = minimize(setup, &steps, violation.invariant);
            let violation = outcome(setup, &fewer).unwrap_or(violation);
            let test = as_test(setup, &fewer, &violation);
            return Err(format!("history {number} breaks {violation:?}:\n{test}"));
        }
        played += 1;
    }
    let events = HANDLED.get();
    eprintln!(
        "{played} histories of {STEPS} steps, {events} events, held in {:?}",
        start.elapsed()
    );
    Ok(())
}
