//! What the benchmarks of this crate share: a mirror, its tags, and the clock of a thread.
#![allow(dead_code, reason = "each benchmark uses its part")]

use std::fmt::Write as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use catamaran_core::digest::Digest;
use catamaran_core::policy::{MirrorId, MirrorPolicy, SidePolicy};
use catamaran_core::side::Sides;
use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

pub const TAGS_PER_REPOSITORY: u32 = 1_000;

/// A mirror of whatever pods use.
pub fn policy() -> MirrorPolicy {
    let side = |registry: &str, prefix: &str| SidePolicy {
        registry: registry.to_owned(),
        prefix: prefix.to_owned(),
        ..SidePolicy::default()
    };
    let id = MirrorId {
        name: "apps".into(),
        uid: "uid".into(),
    };
    let sides = Sides {
        primary: side("kracr.azurecr.io", ""),
        fallback: side("ghcr.io", "devopskev"),
    };
    MirrorPolicy::new(id, Timestamp::UNIX_EPOCH, sides)
}

/// Repository and tag: half of the tags are commits, half are versions. They come in no order.
pub fn names(number: u32) -> (String, String) {
    let repository = format!("team/service-{}", number / TAGS_PER_REPOSITORY);
    if number.is_multiple_of(2) {
        return (
            repository,
            format!("v1.{}.{}", number % 10, number % TAGS_PER_REPOSITORY),
        );
    }
    let hash = content(number, 9).to_string();
    let mut commit = String::new();
    let _ = write!(commit, "{}", &hash["sha256:".len()..][..40]);
    (repository, commit)
}

pub fn content(number: u32, version: u32) -> Digest {
    Digest::of(&[number.to_be_bytes(), version.to_be_bytes()].concat())
}

pub fn at(seconds: u32) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + i64::from(seconds)).expect("a second of this century")
}

/// How long this thread has run.
pub fn busy() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime)
        .try_into()
        .expect("no clock runs backwards")
}

/// Measures each number of tags in a process of its own, so that what one has freed is not the other's. It fails if one of them does.
pub fn by_size(
    sizes: impl IntoIterator<Item = u32>,
    heading: impl FnOnce(),
    measure: impl FnOnce(u32) -> ExitCode,
) -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(place) = arguments.iter().position(|argument| argument == "--worker") {
        return measure(arguments[place + 1].parse().expect("a number of tags"));
    }
    heading();
    let mut passed = true;
    for tags in sizes {
        let me = std::env::current_exe().expect("this program has a path");
        let status = Command::new(me).args(["--worker", &tags.to_string()]).status();
        passed &= status.is_ok_and(|status| status.success());
    }
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
