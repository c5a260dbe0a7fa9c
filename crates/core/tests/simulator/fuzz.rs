//! Random histories, and how one that breaks an invariant is made small.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use catamaran_core::side::Side;

use crate::check::Violation;
use crate::clock::Dice;
use crate::script::{Edit, Named, Setup, Sky, Step, play};
use crate::world::{Fault, Kind};

/// Steps of a history.
pub const STEPS: usize = 500;

/// Draws what a history begins with.
pub fn setup(dice: &mut Dice) -> Setup {
    Setup {
        replicas: *dice.pick(&[1, 2, 2, 2, 3]),
        repositories: dice.below(5) as u8,
        period: *dice.pick(&[2, 3, 5]),
        threshold: *dice.pick(&[1, 2, 3, 3]),
        digests: [dice.percent(50), dice.percent(50), dice.percent(50)],
        interval: *dice.pick(&[10, 30, 60, 120]),
    }
}

/// Draws a history. What happens often in some histories happens never in others, so that each has a character.
pub fn steps(dice: &mut Dice, count: usize) -> Vec<Step> {
    let faulty = dice.percent(60);
    let edited = dice.percent(60);
    let restored = dice.percent(30);
    let stormy = dice.percent(80);
    let crowded = dice.percent(70);
    let mut steps = Vec::with_capacity(count);
    while steps.len() < count {
        let step = match dice.below(100) {
            0..50 => wait(dice),
            50..62 if stormy => Step::Weather(dice.below(3) as u8, sky(dice)),
            62..74 => content(dice),
            74..84 => workload(dice),
            84..88 if crowded => replica(dice),
            88..91 if faulty => fault(dice),
            91..94 if edited => Step::Edit(edit(dice)),
            94..95 if restored => *dice.pick(&[Step::Restore(1), Step::Restore(3), Step::Restore(9), Step::Wipe]),
            95..97 if faulty => *dice.pick(&[
                Step::Touch,
                Step::RefuseStatus(1),
                Step::RefuseStatus(4),
                Step::RefuseEvidence(2),
            ]),
            97 => Step::Rescued(1),
            _ => continue,
        };
        steps.push(step);
    }
    steps
}

fn wait(dice: &mut Dice) -> Step {
    Step::Wait(match dice.below(100) {
        0..45 => dice.below(700) as u32,
        45..80 => dice.below(3_000) as u32,
        80..96 => dice.below(15_000) as u32,
        96..99 => dice.below(70_000) as u32,
        _ => dice.below(400_000) as u32,
    })
}

fn sky(dice: &mut Dice) -> Sky {
    *dice.pick(&[
        Sky::Up,
        Sky::Up,
        Sky::Up,
        Sky::Up,
        Sky::Refuses,
        Sky::Refuses,
        Sky::BlackHole,
        Sky::ServerError,
        Sky::Unauthorized,
        Sky::Throttled,
        Sky::NoClient,
    ])
}

fn content(dice: &mut Dice) -> Step {
    let (registry, path) = (dice.below(3) as u8, dice.below(8) as u8);
    let (tag, content) = (dice.below(5) as u8, dice.below(30) as u8);
    match dice.below(10) {
        0..5 => Step::PushBoth(dice.below(2) as u8, tag, content),
        5..8 => Step::Push(registry, path, tag, content),
        _ => Step::Delete(registry, path, tag),
    }
}

fn side(dice: &mut Dice) -> Side {
    *dice.pick(&Side::ALL)
}

fn workload(dice: &mut Dice) -> Step {
    let slot = dice.below(6) as u8;
    match dice.below(10) {
        0..3 => {
            let named = *dice.pick(&[Named::Tag, Named::Tag, Named::Digest, Named::Both]);
            Step::Run(slot, side(dice), dice.below(2) as u8, dice.below(6) as u8, named)
        }
        3 => Step::Stop(slot),
        4..8 => Step::Pull(slot, dice.below(3) as u8),
        _ => Step::Asks(slot, dice.percent(50)),
    }
}

fn replica(dice: &mut Dice) -> Step {
    let one = dice.below(3) as u8;
    match dice.below(12) {
        0..2 => Step::Lead(one),
        2 => Step::Usurp(one),
        3..5 => Step::Notice,
        5 => Step::Vacate,
        6..8 => Step::Restart(one),
        8..10 => Step::Pause(one, dice.below(60_000) as u32),
        10 => Step::HoldWatch(one, dice.below(20_000) as u32),
        _ => Step::ShowOld(one, dice.below(6) as u8),
    }
}

fn fault(dice: &mut Dice) -> Step {
    let kind = *dice.pick(&[
        Kind::Probe,
        Kind::Probe,
        Kind::Resolve,
        Kind::List,
        Kind::InUse,
        Kind::Copy,
        Kind::Status,
    ]);
    let fault = *dice.pick(&[
        Fault::Lost,
        Fault::Twice,
        Fault::Late(900),
        Fault::Late(8_000),
        Fault::Late(20_000),
    ]);
    Step::Next(kind, fault)
}

fn edit(dice: &mut Dice) -> Edit {
    match dice.below(14) {
        0..2 => Edit::Lies(Side::Fallback, dice.below(3) as u8, dice.below(3) as u8),
        2 => Edit::Lies(Side::Primary, dice.below(3) as u8, dice.below(3) as u8),
        3 => Edit::Swap,
        4..6 => Edit::Repositories(dice.below(5) as u8),
        6 => Edit::Pin(Some(side(dice))),
        7 => Edit::Pin(None),
        8 => Edit::Suspend(dice.percent(40)),
        9 => Edit::Invalid(dice.percent(50)),
        10 => Edit::Strict(dice.percent(50)),
        11 => Edit::Proceed(dice.percent(50)),
        12 => Edit::Manual(dice.percent(30)),
        _ => Edit::Repair(dice.below(3) as u8),
    }
}

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
    let lines: String = steps.iter().map(|step| format!("        {step:?},\n")).collect();
    format!(
        "// {}: {}\n#[test]\nfn found_x() {{\n    holds(\n        {setup:?},\n        &[\n{lines}        ],\n    );\n}}\n",
        violation.invariant, violation.message
    )
}

/// Plays random histories, from this seed on: so many, or for so long.
///
/// # Panics
///
/// With a history that breaks an invariant, made small, as a test.
pub fn run(seed: u64, count: u64, long: Option<Duration>) {
    let start = Instant::now();
    let mut played = 0;
    while played < count || long.is_some_and(|long| start.elapsed() < long) {
        let mut dice = Dice(seed.wrapping_add(played));
        let setup = setup(&mut dice);
        let steps = steps(&mut dice, STEPS);
        let begun = Instant::now();
        let found = outcome(setup, &steps);
        if begun.elapsed() > Duration::from_secs(1) {
            eprintln!(
                "history {} took {:?}: {setup:?}",
                seed.wrapping_add(played),
                begun.elapsed()
            );
        }
        if let Some(violation) = found {
            eprintln!("history {} breaks {violation:?}", seed.wrapping_add(played));
            let fewer = minimize(setup, &steps, violation.invariant);
            let violation = outcome(setup, &fewer).unwrap_or(violation);
            let test = as_test(setup, &fewer, &violation);
            panic!("history {} breaks {violation:?}:\n{test}", seed.wrapping_add(played));
        }
        played += 1;
    }
    eprintln!(
        "{played} histories of {STEPS} steps, {} events, held in {:?}",
        crate::script::HANDLED.get(),
        start.elapsed()
    );
}
