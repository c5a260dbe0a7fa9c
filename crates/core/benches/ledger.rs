//! What one step of the ledger costs, as the number of tags grows: `cargo bench -p catamaran-core --bench ledger`.
//!
//! Each step is timed by itself, because each is one thing that the task of a mirror does at a time, and by the clock of its
//! thread, because the machine may have other things to do. It fails when one of 500 steps takes more than a millisecond at up to
//! 100,000 tags, when a group is above 64 kB there, or when a tag takes more than 200 bytes.

#[path = "support/mod.rs"]
mod support;

use std::hint::black_box;
use std::ops::Bound;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use catamaran_core::mirror::parity::{Ledger, Observed, Rules};
use catamaran_core::routing::evidence::Group;
use catamaran_core::side::{Side, Sides};
use support::{TAGS_PER_REPOSITORY, at, busy, by_size, content, names, policy};

const SIZES: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// Where the bars are.
const BAR_AT: u32 = 100_000;
const STEP_BAR: Duration = Duration::from_millis(1);
const GROUP_BAR: usize = 64_000;
const MEMORY_BAR: f64 = 200.0;

/// Of so many tags one is missing on the fallback.
const DIVERGENT: u32 = 100;
const ROUNDS: u32 = 500;

const RULES: Rules = Rules {
    grace: Duration::from_mins(2),
    settled: Duration::from_hours(24),
    subset: None,
};

fn main() -> ExitCode {
    let heading = || {
        println!(
            "the ledger, {TAGS_PER_REPOSITORY} tags a repository, one of {DIVERGENT} missing on the fallback; microseconds"
        );
        println!(
            "{:>9}  {:<34} {:>9} {:>9} {:>9}",
            "tags", "step", "median", "p99", "slowest"
        );
    };
    by_size(SIZES, heading, measure)
}

struct Bench {
    tags: u32,
    ledger: Ledger,
    passed: bool,
}

fn measure(tags: u32) -> ExitCode {
    let (ledger, bytes) = in_sync(tags);
    let mut bench = Bench {
        tags,
        ledger,
        passed: true,
    };
    let memory = bytes as f64 / f64::from(tags);
    // Pages are too coarse for fewer.
    if tags >= BAR_AT {
        println!("{tags:>9}  {:<34} {memory:>9.0}", "bytes a tag in sync");
        bench.expect(tags != BAR_AT || memory <= MEMORY_BAR, "memory");
    }
    bench.diverge();
    bench.look_at_tags();
    bench.read();
    bench.write_groups();
    bench.look_up();
    bench.change_mapping();
    if bench.passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A ledger of tags in sync, and how much the process grew by it.
fn in_sync(tags: u32) -> (Ledger, usize) {
    let before = resident();
    let mut ledger = Ledger::new();
    ledger.set_policy(&Arc::new(policy()));
    for number in 0..tags {
        let (repository, tag) = names(number);
        ledger.record(&repository, &tag, both(number, 0), at(0), &RULES);
    }
    ledger.take_dirty_groups();
    let grown = resident().saturating_sub(before);
    (ledger, grown)
}

impl Bench {
    fn expect(&mut self, holds: bool, what: &str) {
        if !holds {
            println!("{:>9}  {what} is above its bar", self.tags);
            self.passed = false;
        }
    }

    fn step<T>(&mut self, name: &str, mut act: impl FnMut(&mut Ledger, u32) -> T) {
        let mut times: Vec<Duration> = (0..ROUNDS)
            .map(|round| {
                let start = busy();
                black_box(act(&mut self.ledger, round));
                busy().saturating_sub(start)
            })
            .collect();
        times.sort_unstable();
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let (median, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        let slowest = times.last().copied().unwrap_or_default();
        println!(
            "{:>9}  {name:<34} {:>9.1} {:>9.1} {:>9.1}",
            self.tags,
            micros(median),
            micros(p99),
            micros(slowest)
        );
        self.expect(self.tags > BAR_AT || slowest <= STEP_BAR, name);
    }

    fn diverge(&mut self) {
        for number in (0..self.tags).step_by(DIVERGENT as usize) {
            let (repository, tag) = names(number);
            for seconds in [300, 600] {
                let seen = Sides {
                    fallback: Observed::Absent,
                    ..both(number, 0)
                };
                self.ledger.record(&repository, &tag, seen, at(seconds), &RULES);
            }
        }
    }

    fn look_at_tags(&mut self) {
        let tags = self.tags;
        let mut looks: Vec<_> = (0..3 * ROUNDS).map(|round| scattered(round, tags)).collect();
        let mut next = move || looks.pop().expect("enough looks");
        self.step("record a tag that stays", |ledger, round| {
            let (number, repository, tag) = next();
            ledger.record(&repository, &tag, both(number, 0), at(1_000 + round), &RULES);
        });
        let mut looks: Vec<_> = (0..ROUNDS).map(|round| scattered(round, tags)).collect();
        self.step("record a tag that changed", |ledger, round| {
            let (number, repository, tag) = looks.pop().expect("enough looks");
            ledger.record(&repository, &tag, both(number, round + 1), at(2_000 + round), &RULES);
        });
        self.step("record a new tag", |ledger, round| {
            let repository = names(round % tags).0;
            ledger.record(&repository, &format!("new-{round}"), both(round, 7), at(3_000), &RULES);
        });
        self.step("forget a tag", |ledger, round| {
            let repository = names(round % tags).0;
            ledger.forget(&repository, &format!("new-{round}"));
        });
    }

    fn read(&mut self) {
        let tags = self.tags;
        self.step("known", |ledger, round| {
            let (_, repository, tag) = scattered(round, tags);
            ledger.known(&repository, &tag)
        });
        self.step("known of a digest", |ledger, round| {
            let (number, repository, _) = scattered(round, tags);
            ledger.known(&repository, &content(number, 0).to_string())
        });
        self.step("summary", |ledger, _| ledger.summary());
        self.step("divergences(20)", |ledger, _| ledger.divergences(20));
        self.step("next_confirmation", |ledger, _| ledger.next_confirmation(at(5_000)));
        self.step("canary", |ledger, _| ledger.canary());
        self.step("retain 100 names of a range", |ledger, round| {
            let (_, repository, tag) = scattered(round, tags);
            let end = ledger
                .range(&repository, Bound::Included(&tag), Bound::Unbounded)
                .nth(100)
                .map(str::to_owned);
            let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            ledger.retain_range(&repository, Bound::Included(&tag), to, |_| true);
        });
    }

    fn write_groups(&mut self) {
        let tags = self.tags;
        self.ledger.take_dirty_groups();
        let largest = self
            .ledger
            .groups()
            .iter()
            .map(|place| self.ledger.group(*place).size())
            .max();
        let largest = largest.unwrap_or_default();
        println!("{tags:>9}  {:<34} {largest:>9}", "bytes of the largest group");
        self.expect(tags > BAR_AT || largest <= GROUP_BAR, "a group");
        let mut dirty = Vec::new();
        self.step("record, take and encode its group", |ledger, round| {
            let (number, repository, tag) = scattered(round, tags);
            ledger.record(
                &repository,
                &tag,
                both(number, 1_000 + round),
                at(6_000 + round),
                &RULES,
            );
            let places = ledger.take_dirty_groups();
            let bytes: Vec<Vec<u8>> = places.iter().map(|place| ledger.group(*place).encode()).collect();
            dirty.push(places.len());
            bytes
        });
        let one = dirty.iter().all(|groups| *groups == 1);
        self.expect(one, "the number of groups that one tag changes");
        self.step("groups (their places)", |ledger, _| ledger.groups());
        self.prior(tags);
    }

    /// After a restart, while a side can't be read.
    fn prior(&mut self, tags: u32) {
        let written = self.ledger.evidence();
        let mut restarted = Ledger::new();
        restarted.set_policy(&Arc::new(policy()));
        restarted.seed(written);
        let full = std::mem::replace(&mut self.ledger, restarted);
        self.step("the same beside an earlier leader's", |ledger, round| {
            let (number, repository, tag) = scattered(round, tags);
            let seen = Sides {
                primary: Observed::Unknown,
                ..both(number, 0)
            };
            ledger.record(&repository, &tag, seen, at(6_000 + round), &RULES);
            let places = ledger.take_dirty_groups();
            places
                .iter()
                .map(|place| ledger.group(*place).encode())
                .collect::<Vec<_>>()
        });
        self.ledger = full;
    }

    fn look_up(&mut self) {
        let tags = self.tags;
        let policy = policy();
        let mut evidence = self.ledger.evidence();
        let stored: Vec<Vec<u8>> = evidence.groups().iter().map(|group| group.encode()).collect();
        self.step("decode a group and swap it in", |_, round| {
            let group = Group::decode(&stored[round as usize % stored.len()]).expect("it was just encoded");
            evidence = evidence.with(Arc::new(group));
        });
        self.step("evidence of a tag", |_, round| {
            let (_, repository, tag) = scattered(round, tags);
            evidence.tag(policy.key(&repository, None, &tag)).expect("it is there")
        });
        self.step("evidence of a digest", |_, round| {
            let (number, repository, _) = scattered(round, tags);
            evidence.digest(policy.key(&repository, None, &content(number, 0).to_string()))
        });
    }

    /// Once, and by a person's hand: not measured against the bar.
    fn change_mapping(&mut self) {
        let mut swapped = policy();
        std::mem::swap(&mut swapped.sides.primary, &mut swapped.sides.fallback);
        let start = busy();
        self.ledger.set_policy(&Arc::new(swapped));
        let taken = busy().saturating_sub(start).as_secs_f64() * 1e6;
        assert_eq!(self.ledger.summary().tags, 0);
        println!(
            "{:>9}  {:<34} {taken:>9.1}",
            self.tags, "swap the sides, forget all tags"
        );
    }
}

fn both(number: u32, version: u32) -> Sides<Observed> {
    let digest = content(number, version);
    Sides::from_fn(|_: Side| Observed::Present(digest.clone()))
}

/// One tag after another, far from each other; none that is missing.
fn scattered(round: u32, tags: u32) -> (u32, String, String) {
    let number = (u64::from(round) * 7_919 * 101 + 1) % u64::from(tags);
    let number = if number.is_multiple_of(u64::from(DIVERGENT)) {
        1
    } else {
        number as u32
    };
    let (repository, tag) = names(number);
    (number, repository, tag)
}

/// Bytes that this process has in memory.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or_default();
    pages * 4096
}
