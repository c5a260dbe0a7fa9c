//! Fuzzing on stable Rust: broken variants of good input, run against a property.
//!
//! A test named `fuzzed_...` calls [`run`]: with a few hundred inputs in `cargo test`, and for `FUZZ_SECONDS` seconds when
//! that is set (`make fuzz`). What fails is made smaller, printed, and kept by its seed in `proptest-regressions` of the
//! crate: every later run begins with it.
//!
//! Coverage is not measured, which takes a nightly compiler; the samples and the fragments that are put into them stand for it.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseResult, TestRunner};

pub use proptest;

/// More changes than this leave nothing of a sample.
const MOST_CHANGES: usize = 6;
/// A variant is cut to so many bytes: parsers' own caps have tests of their own.
const LONGEST: usize = 64 * 1024;

/// What breaks parsers, in the formats that are read here.
const FRAGMENTS: [&[u8]; 42] = [
    b"\0",
    b"\r\n",
    b"\n",
    b"\t",
    b"\x1b[31m",
    b"\x7f",
    b"\xff\xfe",
    b"\xc3",
    b"\xed\xa0\x80",
    "\u{202e}".as_bytes(),
    "\u{200b}".as_bytes(),
    "\u{feff}".as_bytes(),
    "ä".as_bytes(),
    b"\\ud800",
    b"\\u0000",
    b"\"",
    b"\\",
    b"\\\"",
    b"'",
    b",",
    b";",
    b":",
    b"=",
    b"<",
    b">",
    b"/",
    b"../",
    b"//",
    b"@",
    b"%00",
    b"%2f",
    b"{}",
    b"[]",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"18446744073709551616",
    b"-99999999999999999999999",
    b"https://evil.test/",
    b"rel=\"next\"",
];

/// One way to break a sample. Positions are relative to its length.
#[derive(Clone, Debug)]
enum Change {
    Cut(Index),
    Flip(Index, u8),
    Put(Index, usize),
    PutBytes(Index, Vec<u8>),
    Replace(Index, Index, usize),
    Delete(Index, Index),
    Double(Index, Index),
    Repeat(u8),
    Nest(Index, u16),
    Lengthen(Index, u16),
}

/// Broken variants of these samples, and sometimes the samples themselves or nothing of them.
pub fn mutated(samples: &[&str]) -> impl Strategy<Value = Vec<u8>> + use<> {
    let samples: Vec<Vec<u8>> = samples.iter().map(|sample| sample.as_bytes().to_vec()).collect();
    let sample = prop_oneof![
        12 => proptest::sample::select(samples),
        1 => vec(any::<u8>(), 0..400),
    ];
    (sample, vec(change(), 0..=MOST_CHANGES)).prop_map(|(mut sample, changes)| {
        for change in &changes {
            apply(change, &mut sample);
            sample.truncate(LONGEST);
        }
        sample
    })
}

/// The same as text: what is no UTF-8 is replaced.
pub fn mutated_text(samples: &[&str]) -> impl Strategy<Value = String> + use<> {
    mutated(samples).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn change() -> impl Strategy<Value = Change> {
    let fragment = 0..FRAGMENTS.len();
    prop_oneof![
        2 => any::<Index>().prop_map(Change::Cut),
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, bits)| Change::Flip(at, bits)),
        8 => (any::<Index>(), fragment.clone()).prop_map(|(at, which)| Change::Put(at, which)),
        2 => (any::<Index>(), vec(any::<u8>(), 0..9)).prop_map(|(at, bytes)| Change::PutBytes(at, bytes)),
        6 => (any::<Index>(), any::<Index>(), fragment).prop_map(|(from, to, which)| Change::Replace(from, to, which)),
        3 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Change::Delete(from, to)),
        3 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Change::Double(from, to)),
        1 => (2..5_u8).prop_map(Change::Repeat),
        1 => (any::<Index>(), 1..6000_u16).prop_map(|(at, depth)| Change::Nest(at, depth)),
        1 => (any::<Index>(), 1..20_000_u16).prop_map(|(at, times)| Change::Lengthen(at, times)),
    ]
}

fn apply(change: &Change, sample: &mut Vec<u8>) {
    let size = sample.len() + 1;
    let between = |from: &Index, to: &Index| {
        let (from, to) = (from.index(size), to.index(size));
        from.min(to)..from.max(to)
    };
    let insert = |sample: &mut Vec<u8>, at: usize, bytes: &[u8]| {
        sample.splice(at..at, bytes.iter().copied());
    };
    match change {
        Change::Cut(at) => sample.truncate(at.index(size)),
        Change::Flip(at, bits) if !sample.is_empty() => {
            let at = at.index(sample.len());
            sample[at] ^= bits;
        }
        Change::Put(at, which) => insert(sample, at.index(size), FRAGMENTS[*which]),
        Change::PutBytes(at, bytes) => insert(sample, at.index(size), bytes),
        Change::Replace(from, to, which) => {
            sample.splice(between(from, to), FRAGMENTS[*which].iter().copied());
        }
        Change::Delete(from, to) => {
            sample.drain(between(from, to));
        }
        Change::Double(from, to) => {
            let range = between(from, to);
            let copy = sample[range.clone()].to_vec();
            insert(sample, range.end, &copy);
        }
        Change::Repeat(times) => *sample = sample.repeat(usize::from(*times)),
        Change::Nest(at, depth) => insert(sample, at.index(size), &b"[".repeat(usize::from(*depth))),
        Change::Lengthen(at, times) if !sample.is_empty() => {
            let at = at.index(sample.len());
            let byte = sample[at];
            insert(sample, at, &vec![byte; usize::from(*times)]);
        }
        Change::Flip(..) | Change::Lengthen(..) => {}
    }
}

/// Runs a property against inputs: 256 of them, or as many as `PROPTEST_CASES` says, or for `FUZZ_SECONDS` seconds.
///
/// `file` is the caller's `file!()`: the seeds of what failed are kept beside it.
///
/// # Panics
///
/// With the smallest input that was found to fail, and why it does.
pub fn run<S>(file: &'static str, name: &'static str, inputs: &S, property: impl Fn(S::Value) -> TestCaseResult)
where
    S: Strategy,
    S::Value: Debug,
{
    let config = Config {
        source_file: Some(file),
        test_name: Some(name),
        failure_persistence: Some(Box::new(FileFailurePersistence::SourceParallel("proptest-regressions"))),
        ..Config::default()
    };
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let (start, long) = (Instant::now(), Duration::from_secs(seconds.unwrap_or(0)));
    let mut runner = TestRunner::new(config);
    let mut rounds = 0_u64;
    loop {
        let ran = runner.run(inputs, &property);
        assert!(
            ran.is_ok(),
            "{name}: {}",
            ran.err().map(|error| error.to_string()).unwrap_or_default()
        );
        rounds += 1;
        if start.elapsed() >= long {
            break;
        }
    }
    if seconds.is_some() {
        eprintln!("{name}: {rounds} rounds of {} inputs held", runner.config().cases);
    }
}
