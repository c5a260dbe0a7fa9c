//! What a review costs where there are many mirrors, beside the same review where there is one that matters, and what it costs to
//! publish that one of them has flipped.
//!
//! Both tables have a turn one after the other in one process, so that the ratio says something on any machine. It fails where many
//! mirrors cost more than they may. `cargo bench -p catamaran-webhook --bench mirrors`
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark fails like a test")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use catamaran_core::policy::MirrorPolicy;
use catamaran_core::routing::{Route, RouteTable};
use catamaran_core::selector::{Operator, Requirement};
use catamaran_core::side::Side;
use catamaran_webhook::metrics::Outcome;
use catamaran_webhook::review;

/// Mirrors.
const MANY: u32 = 1_000;
/// How often each table has a turn.
const TURNS: usize = 61;
/// How long one turn takes about.
const TURN: Duration = Duration::from_millis(20);
/// What a review may cost with all of them, as a multiple of what it costs with those that its images belong to.
const RATIO: f64 = 1.2;
/// How much cheaper it is to publish a flip than specs.
const NEXT: f64 = 2.0;

/// The namespace of the pod in the fixture.
const NAMESPACE: &str = "shop";

fn main() -> ExitCode {
    println!(
        "{:<44} {:>10} {:>10} {:>8}",
        "review of 7.7 kB", "few us", "1,000 us", "ratio"
    );
    let mut passed = true;
    for (name, few, many) in [
        ("a path of its own for each mirror", own(3), own(MANY)),
        ("one path for all, each of other namespaces", shared(1), shared(MANY)),
    ] {
        let body = support::CREATE.as_bytes();
        let ask = |table: &RouteTable| review(body, Some(table), support::OWN_USER);
        assert_eq!(ask(&few).outcome, Outcome::Patched, "{name}");
        assert_eq!(ask(&few).response, ask(&many).response, "{name}");
        let mut turns: Vec<[f64; 2]> = (0..TURNS).map(|_| [time(|| ask(&few)), time(|| ask(&many))]).collect();
        let [few, many, ratio] = [
            median(&mut turns, |turn| turn[0]),
            median(&mut turns, |turn| turn[1]),
            median(&mut turns, |turn| turn[1] / turn[0]),
        ];
        println!(
            "{name:<44} {:>10.1} {:>10.1} {ratio:>8.2} (bar: {RATIO})",
            few * 1e6,
            many * 1e6
        );
        passed &= ratio <= RATIO;
    }
    passed &= flips();
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One of a thousand mirrors has flipped: the next table, beside one of which everything is new.
fn flips() -> bool {
    let table = own(MANY);
    let mut routes = table.routes().to_vec();
    let namespaces = Arc::new(table.namespaces().clone());
    let excluded = Arc::default();
    let table = RouteTable::new(routes.clone(), Arc::clone(&namespaces), Arc::clone(&excluded));
    black_box(table.conflicts());
    routes[500].active = Side::Primary;
    let make = |before: &RouteTable| {
        let next = before.next(routes.clone(), Arc::clone(&namespaces), Arc::clone(&excluded));
        next.conflicts().len()
    };
    let empty = RouteTable::default();
    let mut turns: Vec<[f64; 2]> = (0..TURNS)
        .map(|_| [time(|| make(&table)), time(|| make(&empty))])
        .collect();
    let (next, anew) = (median(&mut turns, |turn| turn[0]), median(&mut turns, |turn| turn[1]));
    let ratio = median(&mut turns, |turn| turn[1] / turn[0]);
    println!(
        "one of 1,000 mirrors flips: the next table is made within {:.0} us, after new specs within {:.0} us: {ratio:.1} times (bar: {NEXT})",
        next * 1e6,
        anew * 1e6
    );
    ratio >= NEXT
}

/// Mirrors of a path each, of which three have the images of the fixture.
fn own(count: u32) -> RouteTable {
    let real = ["shop", "platform", "tools"].into_iter().map(str::to_owned);
    let names = real.chain((3..count).map(|number| format!("team-{number}")));
    let routes = names.map(|name| support::route(support::mirror(&name, &name), Side::Fallback));
    support::table_of(routes.collect())
}

/// Mirrors of everything, each for the namespaces of a team. That of the fixture is the youngest.
fn shared(count: u32) -> RouteTable {
    let policy = |number: u32| MirrorPolicy {
        created: jiff::Timestamp::from_second(number.into()).unwrap(),
        namespaces: catamaran_core::selector::Selector {
            requirements: vec![Requirement {
                key: "team".to_owned(),
                operator: Operator::In(vec![team(number)]),
            }],
        },
        ..support::mirror("apps", "")
    };
    let routes: Vec<Route> = (MANY - count..MANY)
        .map(|number| support::route(policy(number), Side::Fallback))
        .collect();
    let labels = |number: u32| BTreeMap::from([("team".to_owned(), team(number))]);
    let others = (0..MANY - 1).map(|number| (format!("{}-apps", team(number)), labels(number)));
    let namespaces = others.chain([(NAMESPACE.to_owned(), labels(MANY - 1))]);
    RouteTable::new(routes, Arc::new(namespaces.collect()), Arc::default())
}

fn team(number: u32) -> String {
    format!("team-{number}")
}

/// The median of what a turn says.
fn median(turns: &mut [[f64; 2]], key: impl Fn(&[f64; 2]) -> f64) -> f64 {
    turns.sort_by(|a, b| key(a).total_cmp(&key(b)));
    key(&turns[turns.len() / 2])
}

/// Seconds that one takes.
fn time<T>(run: impl Fn() -> T) -> f64 {
    let begin = Instant::now();
    let mut count = 0_u32;
    while begin.elapsed() < TURN {
        black_box(run());
        count += 1;
    }
    begin.elapsed().as_secs_f64() / f64::from(count)
}
