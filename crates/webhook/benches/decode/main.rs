//! What reading a review costs: this crate's reader beside `serde_json` into the same borrowed fields.
//!
//! Both read the same bodies in turns in one process, so that the ratio says something on any machine. Without a table
//! nothing is decided about what was read, so that a whole review is no more than reading it and writing the shortest
//! answer, which counts against this crate's reader.
//!
//! `cargo bench -p catamaran-webhook --bench decode`
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark fails like a test")]

#[path = "../../tests/support/mod.rs"]
mod support;

mod with_serde;

use std::hint::black_box;
use std::time::{Duration, Instant};

use catamaran_webhook::metrics::Outcome;
use catamaran_webhook::review;
use serde_json::json;

/// How often each reader has a turn with each body.
const TURNS: usize = 41;
/// How long one turn takes about.
const TURN: Duration = Duration::from_millis(20);

fn main() {
    let huge = support::sized(40, 1, 1_000_000);
    let last_applied = json!({"kubectl.kubernetes.io/last-applied-configuration": support::sized(10, 1, 200_000)});
    let bodies = [
        ("7.7 kB", support::CREATE.to_owned()),
        ("70 kB", support::sized(10, 1, 70_000)),
        (
            "200 kB of JSON noted",
            support::with(support::CREATE, &[("/metadata/annotations", last_applied)]),
        ),
        ("1 MB, no escapes", huge.replace("\\\"", "''")),
        ("1 MB", huge),
    ];
    println!(
        "{:<22} {:>12} {:>12} {:>12} {:>12} {:>14}",
        "review", "own us", "GB/s", "serde us", "GB/s", "serde / own"
    );
    for (name, body) in &bodies {
        let bytes = body.as_bytes();
        let own = || review(bytes, None, support::OWN_USER);
        let serde = || serde_json::from_slice::<with_serde::Review<'_>>(bytes).unwrap();
        assert_eq!(own().outcome, Outcome::Stale, "all of it was read");
        assert!(serde().request.unwrap().object.is_some());
        let mut turns: Vec<[f64; 2]> = (0..TURNS).map(|_| [time(own), time(serde)]).collect();
        let mut median_of = |key: fn(&[f64; 2]) -> f64| {
            turns.sort_by(|a, b| key(a).total_cmp(&key(b)));
            key(&turns[TURNS / 2])
        };
        let (own, serde) = (median_of(|turn| turn[0]), median_of(|turn| turn[1]));
        let ratio = median_of(|turn| turn[1] / turn[0]);
        let rate = |seconds: f64| body.len() as f64 / seconds / 1e9;
        println!(
            "{name:<22} {:>12.1} {:>12.2} {:>12.1} {:>12.2} {ratio:>14.1}",
            own * 1e6,
            rate(own),
            serde * 1e6,
            rate(serde)
        );
    }
}

/// Seconds that one reading takes.
fn time<T>(read: impl Fn() -> T) -> f64 {
    let begin = Instant::now();
    let mut count = 0_u32;
    while begin.elapsed() < TURN {
        black_box(read());
        count += 1;
    }
    begin.elapsed().as_secs_f64() / f64::from(count)
}
