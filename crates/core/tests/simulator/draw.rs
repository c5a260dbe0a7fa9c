//! Draws random histories.

use catamaran_core::pod::message::PullFailure;
use catamaran_core::side::Side;

use crate::clock::Dice;
use crate::script::{Edit, Named, Setup, Sky, Step};
use crate::world::{Fault, Kind};

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
    let pulling = dice.percent(50);
    let mut steps = Vec::with_capacity(count);
    let apart = dice.percent(40);
    steps.extend(apart.then_some(Step::StoreApart(true)));
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
            96 if pulling => node(dice),
            95..97 if faulty => *dice.pick(&[
                Step::Touch,
                Step::RefuseStatus(1),
                Step::RefuseStatus(4),
                Step::RefuseEvidence(2),
            ]),
            97 => Step::Rescued(1),
            98 => {
                steps.extend(scene(dice, faulty, edited));
                continue;
            }
            99 if apart => Step::StoreApart(dice.percent(60)),
            _ => continue,
        };
        steps.push(step);
    }
    steps.truncate(count);
    steps
}

/// What seldom happens by chance, and is known to be delicate.
fn scene(dice: &mut Dice, faulty: bool, edited: bool) -> Vec<Step> {
    let down = *dice.pick(&[Sky::Refuses, Sky::BlackHole, Sky::ServerError]);
    let registry = dice.below(2) as u8;
    let pause = Step::Wait(dice.below(3_000) as u32);
    let falls = Step::Weather(registry, down);
    match dice.below(11) {
        // A node is cut off from one registry, or two of them are.
        9 | 10 => {
            let (one, two) = (dice.below(3) as u8, dice.below(3) as u8);
            let mut steps = vec![
                Step::Wait(25_000),
                Step::Cut(one, registry, true),
                Step::Wait(9_000),
                pause,
            ];
            steps.extend(if dice.percent(40) {
                vec![Step::Cut(two, registry, true), Step::Wait(9_000)]
            } else {
                Vec::new()
            });
            steps.extend([
                Step::Cut(one, registry, false),
                pause,
                Step::Cut(two, registry, false),
                Step::Wait(9_000),
            ]);
            steps
        }
        // Nodes can't pull what the operator can.
        8 => {
            let failure = Some(*dice.pick(&[PullFailure::Connection, PullFailure::Dns, PullFailure::NotFound]));
            let nodes = 0..=dice.below(3) as u8;
            let mut steps = vec![Step::Nodes(dice.below(3) as u8 + 1), pause];
            steps.extend(nodes.clone().map(|node| Step::NodePulls(node, registry, failure)));
            steps.extend([Step::Wait(20_000), pause, content(dice), Step::Wait(20_000)]);
            steps.extend(nodes.map(|node| Step::NodePulls(node, registry, None)));
            steps
        }
        0 | 1 if edited && faulty => edit_while_reading(dice),
        2 | 3 => way_back(dice, (registry, down), faulty),
        // Both sides fail in turn.
        4 => (0..6)
            .flat_map(|turn| {
                let (one, other) = (turn % 2, 1 - turn % 2);
                [
                    Step::Weather(one, down),
                    Step::Weather(other, Sky::Up),
                    Step::Wait(12_000),
                ]
            })
            .collect(),
        // A new leader begins in an outage.
        5 => vec![falls, pause, Step::Restart(0), Step::Restart(1), Step::Wait(20_000)],
        // Two lead.
        6 => vec![
            Step::Usurp(1),
            pause,
            content(dice),
            falls,
            Step::Wait(9_000),
            Step::Notice,
        ],
        // One repository of the primary is broken when the registry is back.
        _ => {
            let breaks = |broken| Step::Break(Side::Primary, registry, broken);
            let mut steps = vec![falls, Step::Wait(15_000), breaks(true), content(dice)];
            steps.extend([
                Step::Weather(registry, Sky::Up),
                Step::Wait(80_000),
                pause,
                breaks(false),
            ]);
            steps
        }
    }
}

/// The spec changes while something is being read.
fn edit_while_reading(dice: &mut Dice) -> Vec<Step> {
    let kind = *dice.pick(&[Kind::Resolve, Kind::Resolve, Kind::List, Kind::InUse, Kind::Probe]);
    let late = Step::Next(kind, Fault::Late(dice.below(10_000) as u32));
    let moves = Edit::Lies(side(dice), dice.below(3) as u8, dice.below(3) as u8);
    let other = edit(dice);
    let change = *dice.pick(&[moves, Edit::Swap, Edit::Repositories(3), Edit::Repositories(4), other]);
    let pin = Step::Edit(Edit::Pin(*dice.pick(&[None, Some(Side::Fallback)])));
    let asks = Step::Asks(dice.below(6) as u8, true);
    let pause = Step::Wait(dice.below(3_000) as u32);
    let mut steps = vec![pin, Step::Wait(4_000), late, asks, Step::Edit(change), pause];
    steps.extend([4_000, 4_000, 4_000].map(Step::Wait));
    steps.extend([content(dice), Step::Wait(2_000)]);
    steps
}

/// An outage, and the way back from it, on which something goes wrong.
fn way_back(dice: &mut Dice, (registry, down): (u8, Sky), faulty: bool) -> Vec<Step> {
    let mut steps = vec![Step::Weather(registry, down), Step::Wait(15_000), content(dice)];
    steps.extend([Step::Weather(registry, Sky::Up), Step::Wait(50_000)]);
    for _ in 0..4 {
        let wrong = faulty && dice.percent(50);
        steps.push(if wrong { fault(dice) } else { content(dice) });
        steps.push(Step::Wait(dice.below(12_000) as u32));
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
        Sky::NoBlobs,
        Sky::NoTokens,
        Sky::Unauthorized,
        Sky::Throttled,
        Sky::NoClient,
    ])
}

fn content(dice: &mut Dice) -> Step {
    let (registry, path, repository) = (dice.below(3) as u8, dice.below(8) as u8, dice.below(2) as u8);
    let (tag, content) = (dice.below(5) as u8, dice.below(30) as u8);
    match dice.below(12) {
        0..4 => Step::PushBoth(repository, tag, content),
        4 if dice.percent(50) => Step::Forge(side(dice), repository, tag, dice.percent(60)),
        4 => Step::Gut(side(dice), repository, tag, dice.percent(60)),
        5..8 => Step::PushTo(side(dice), repository, tag, content),
        8 => Step::Push(registry, path, tag, content),
        9..11 => Step::DeleteFrom(side(dice), repository, tag),
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

fn node(dice: &mut Dice) -> Step {
    let (node, registry) = (dice.below(3) as u8, dice.below(2) as u8);
    match dice.below(6) {
        0 => Step::Nodes(dice.below(4) as u8),
        1..4 => Step::NodePulls(node, registry, Some(PullFailure::Connection)),
        4 => Step::NodePulls(node, registry, Some(PullFailure::Unauthorized)),
        _ => Step::NodePulls(node, registry, None),
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
        8 => Step::Pause(one, dice.below(60_000) as u32),
        9 => Step::SetClock(one, *dice.pick(&[-700, 3_000, -20_000, 60_000, -900_000, 4_000_000])),
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
