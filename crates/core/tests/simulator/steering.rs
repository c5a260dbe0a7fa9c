//! What it would bring to send new pods to the other side as soon as a registry is in doubt, before the mirror flips: how many pulls of
//! a steady rollout hang behind a black hole, when it is complete, and how often pods would be sent there for nothing. The numbers are
//! in docs/decisions/0022-no-steering-by-doubt.md.

use std::cell::RefCell;
use std::rc::Rc;

use crate::clock::{Dice, MINUTE, Ms, SECOND};
use crate::detection::{CALM, Outage, PRIMARY, outages, over_tcp, world};
use crate::endpoints::INTERVAL;

/// When a black hole of this phase is doubted and when it is left, from its beginning on.
fn noticed(replicas: usize, dice: &mut Dice) -> (Ms, Ms) {
    let from = CALM + dice.below(3 * INTERVAL as u64) as Ms;
    let mut world = world(replicas, move |_, send, begun| {
        Outage::BlackHole.meets(send, begun, (from, Ms::MAX / 2))
    });
    world.run(from);
    world.doubts.clear();
    while world.flips.is_empty() {
        let end = world.now + 250;
        world.run(end);
    }
    let doubted = world.doubts.iter().find(|(_, host, doubts)| host == PRIMARY && *doubts);
    let (doubted, ..) = doubted.expect("a registry that is left was in doubt");
    (doubted - from, world.flips[0].at - from)
}

/// Nodes of the simulated cluster, and pods that a rollout replaces, so many at a time.
const NODES: usize = 10;
const PODS: usize = 100;
const SURGE: usize = 25;

/// From a pod's creation to its pull's request, to its end where the registry answers, and to the pod being Ready.
const REQUESTED: Ms = 200;
const PULLED: Ms = 3 * SECOND;
const READY: Ms = 8 * SECOND;

/// What a pull from a black hole takes by containerd's own dial timeout, and with one of 3 s.
const HANGS: Ms = 30 * SECOND;
const HANGS_LESS: Ms = 5 * SECOND;

/// What is done against pulls that hang.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    /// Pods are re-pointed at the flip.
    Patch,
    /// In addition new pods are sent to the other side from the first doubt on.
    Steer,
    /// Pods that hang are replaced at the flip.
    Replace,
    /// As the first, with a shorter dial timeout on the nodes.
    DialTimeout,
}

/// How a rollout went.
struct Rollout {
    /// Pulls that hung.
    hung: usize,
    /// When the last pod was Ready, from the beginning of the black hole on.
    complete: Ms,
}

/// A rollout that has begun a while before the registry becomes a black hole: whenever a pod is Ready, the next one is created. What
/// hangs is pulled again from the other side once the mirror has flipped and the pull has returned.
fn rollout(remedy: Remedy, (doubted, flipped): (Ms, Ms), serial: bool, dice: &mut Dice) -> Rollout {
    let steered = if remedy == Remedy::Steer { doubted } else { flipped };
    let length = if remedy == Remedy::DialTimeout {
        HANGS_LESS
    } else {
        HANGS
    };
    let (mut hung, mut complete) = (0, 0);
    // When each node's puller is free again, where it pulls one image after the other.
    let mut free = [Ms::MIN / 2; NODES];
    let mut slots: Vec<Ms> = (0..SURGE).map(|_| -(dice.below(READY as u64) as Ms)).collect();
    for _ in 0..PODS {
        slots.sort_unstable();
        let created = slots[0];
        let mut node = dice.below(NODES as u64) as usize;
        let (mut begins, mut hangs) = (created + REQUESTED, created < steered);
        loop {
            let start = if serial { begins.max(free[node]) } else { begins };
            // What has ended by then is there.
            let stuck = hangs && start + PULLED > 0;
            let end = start + if stuck { length } else { PULLED };
            free[node] = end;
            if !stuck {
                slots[0] = end + READY - PULLED - REQUESTED;
                complete = complete.max(slots[0]);
                break;
            }
            hung += 1;
            hangs = end < flipped;
            begins = end + SECOND;
            if remedy == Remedy::Replace && !hangs {
                // The puller of the old node is not freed by that.
                begins = flipped + REQUESTED;
                node = dice.below(NODES as u64) as usize;
            }
        }
    }
    Rollout { hung, complete }
}

/// Pulls that hung, and seconds to the end of the rollout: the mean of all.
fn mean(rollouts: &[Rollout]) -> (f64, f64) {
    let count = rollouts.len() as f64;
    let hung: usize = rollouts.iter().map(|rollout| rollout.hung).sum();
    let complete: Ms = rollouts.iter().map(|rollout| rollout.complete).sum();
    (hung as f64 / count, complete as f64 / count / SECOND as f64)
}

#[test]
fn steering_helps_less_than_what_nodes_can_be_set_to() {
    for replicas in [1, 2] {
        let mut dice = Dice(replicas as u64 + 5);
        let times: Vec<(Ms, Ms)> = (0..outages()).map(|_| noticed(replicas, &mut dice)).collect();
        let count = times.len() as Ms;
        let doubted = times.iter().map(|(doubted, _)| doubted).sum::<Ms>() / count;
        let flipped = times.iter().map(|(_, flipped)| flipped).sum::<Ms>() / count;
        println!("{replicas} replicas: a black hole is doubted after {doubted} ms and left after {flipped} ms");
        for serial in [false, true] {
            let all = |remedy: Remedy| {
                let mut dice = Dice(77);
                let run = times.iter().map(|times| rollout(remedy, *times, serial, &mut dice));
                let (hung, complete) = mean(&run.collect::<Vec<_>>());
                println!(
                    "    serial pulls: {serial}, {remedy:?}: {hung:.1} pulls hang, complete after {complete:.0} s"
                );
                (hung, complete)
            };
            let [patch, steer, replace, dial] =
                [Remedy::Patch, Remedy::Steer, Remedy::Replace, Remedy::DialTimeout].map(all);
            assert!(steer.0 < patch.0 && steer.1 < patch.1, "steering helps at all");
            assert!(dial.1 < steer.1, "a dial timeout helps more");
            assert!(
                serial || replace.1 < steer.1,
                "replacing helps more where pulls are parallel"
            );
        }
    }
}

/// The share of the time in which a registry that works is in doubt, and how often that begins in an hour, where each packet is lost
/// with this probability.
fn doubted_for_nothing(loss: f64, lost_probes: bool, replicas: usize, length: Ms) -> (f64, f64) {
    let dice = Rc::new(RefCell::new(Dice(replicas as u64 + 99)));
    let mut world = world(replicas, move |_, _, begun| {
        let is = |chance: f64| dice.borrow_mut().fraction() <= chance;
        if lost_probes {
            let is_lost = is(loss);
            return over_tcp(begun, |_| is_lost);
        }
        // A packet and its answer.
        over_tcp(begun, |_| is(1.0 - (1.0 - loss) * (1.0 - loss)))
    });
    world.run(CALM);
    world.doubts.clear();
    world.run(CALM + length);
    let (mut doubting, mut since, mut doubted, mut begun) = (0_i32, CALM, 0, 0);
    for (now, host, doubts) in &world.doubts {
        if host != PRIMARY {
            continue;
        }
        if doubting > 0 {
            doubted += now - since;
        }
        since = *now;
        begun += u32::from(*doubts && doubting == 0);
        doubting += if *doubts { 1 } else { -1 };
    }
    let hours = length as f64 / (60 * MINUTE) as f64;
    (doubted as f64 / length as f64, f64::from(begun) / hours)
}

#[test]
fn doubt_for_nothing_is_short_but_not_rare() {
    let length = outages() as Ms * 10 * SECOND;
    for replicas in [1, 2] {
        for (loss, lost_probes) in [(0.001, true), (0.01, true), (0.001, false), (0.01, false)] {
            let (share, hourly) = doubted_for_nothing(loss, lost_probes, replicas, length);
            println!(
                "{replicas} replicas, {} % of {} lost: {:.2} % of the time in doubt, {hourly:.0} times an hour",
                loss * 100.0,
                if lost_probes { "probes" } else { "packets" },
                share * 100.0
            );
            assert!(share < 0.2, "{share}");
        }
    }
}
