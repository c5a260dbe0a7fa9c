//! What many tags cost: a changed tag, and the reviews that are answered meanwhile. `cargo bench -p catamaran-controller --bench tags`.
//!
//! All parts are the real ones, wired as the operator wires them; registries and the API server answer from memory. It fails when
//! a bar is missed: at 100,000 tags of one mirror, and at 1,000,000 of ten. Of what is measured by a clock on the wall, each of
//! several attempts must miss it, and it is not measured while others have the processors.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark fails like a test")]

mod apiserver;
mod change;
#[path = "../../../webhook/benches/admissions/client.rs"]
#[allow(dead_code, reason = "it is the client of another benchmark")]
mod client;
mod leader;
mod load;
mod mirror;
mod others;
mod replica;
mod serving;
mod table;
mod threads;

use std::process::{Command, ExitCode};

use table::Table;

const SIZES: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// Where the bars of one mirror are.
const BAR_AT: u32 = 100_000;
/// Where the bar of ten mirrors is.
const BAR_OF_ALL: u32 = 1_000_000;

/// What this program is started with for one part, and a number of tags.
const CHANGE: &str = "--change";
const COMPARE: &str = "--compare";
const WAIT: &str = "--wait";
const SERVE: &str = "--serve";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |place: usize| arguments[place].parse().expect("a number");
    if let Some(place) = arguments.iter().position(|argument| argument == SERVE) {
        serving::run(number(place + 1), number(place + 2));
        return ExitCode::SUCCESS;
    }
    let mut table = Table::default();
    for part in [CHANGE, COMPARE, WAIT] {
        let Some(place) = arguments.iter().position(|argument| argument == part) else {
            continue;
        };
        let tags = number(place + 1);
        match part {
            CHANGE => change::measure(tags, tags == BAR_AT, &mut table),
            COMPARE => load::compare(tags, tags == BAR_AT, &mut table),
            _ => load::wait(tags, tags == BAR_OF_ALL, &mut table),
        }
        return if table.passed() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    let mut passed = true;
    for (part, title) in [
        (CHANGE, "one changed tag of one mirror"),
        (
            COMPARE,
            "500 reviews a second, while 5 tags a second of one mirror change and passes run",
        ),
        (WAIT, "500 reviews a second, ten mirrors"),
    ] {
        Table::head(title);
        // A process each, so that its threads are only those of this size.
        for tags in SIZES {
            passed &= run(part, tags);
        }
    }
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one part in a process of its own; whether it passed.
fn run(part: &str, tags: u32) -> bool {
    let me = std::env::current_exe().expect("this program has a path");
    let status = Command::new(me).args([part, &tags.to_string()]).status();
    status.is_ok_and(|status| status.success())
}
