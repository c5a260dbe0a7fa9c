//! Runs scenarios one after the other on one cluster, and prints what `cargo test` would.

use std::fmt::Write as _;
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use catamaran_cluster::Registry;

use crate::ground::Ground;
use crate::steal::Ticks;
use crate::{Case, interrupt, operator};

/// A scenario that fails while more than this share of the processors' time was taken from the machine has shown nothing: it
/// is tried again.
const TOO_MUCH_STOLEN: f64 = 0.1;

/// How often a scenario is tried at most.
const ATTEMPTS: usize = 3;

/// A test by its name; the name is also that of its namespace, repository and mirror. When it runs again, a number follows the
/// name: what an earlier run left behind is not this one's.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Words with hyphens.
    pub name: &'static str,
    /// What it does.
    pub run: fn(&Case<'_>) -> anyhow::Result<()>,
}

/// What came of a run.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    /// Scenarios that passed.
    pub passed: usize,
    /// Scenarios that failed.
    pub failed: usize,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Runs each so often, in their order. A failure is told with all that helps to understand it, and the next one runs.
pub fn run(ground: &Ground, scenarios: &[Scenario], repeat: usize) -> Tally {
    let mut tally = Tally::default();
    for scenario in scenarios {
        let mut names = names(scenario.name);
        let mut attempt = || names.next().is_some_and(|name| once(ground, scenario, &name));
        if (0..repeat).all(|_| passes(scenario.name, &mut attempt, Ticks::now)) {
            tally.passed += 1;
        } else {
            tally.failed += 1;
        }
    }
    tally
}

/// The name, and the name with 2, 3 and so on.
fn names(name: &str) -> impl Iterator<Item = String> {
    iter::once(name.to_owned()).chain((2..).map(move |number| format!("{name}-{number}")))
}

/// Whether one of its attempts passes; one that fails on a machine with all of its time is the last.
fn passes(name: &str, mut attempt: impl FnMut() -> bool, now: impl Fn() -> Ticks) -> bool {
    for left in (0..ATTEMPTS).rev() {
        let before = now();
        if attempt() {
            return true;
        }
        let stolen = before.stolen_until(now());
        if left == 0 || stolen <= TOO_MUCH_STOLEN {
            break;
        }
        println!(
            "test {name}: once more, because {:.0} % of the processors' time was taken from this machine meanwhile",
            stolen * 100.0
        );
    }
    false
}

/// Whether it passes under this name, with its report printed and the cluster left as it was.
fn once(ground: &Ground, scenario: &Scenario, name: &str) -> bool {
    let begun = Instant::now();
    let (notes, result) = attempt(ground, scenario, name);
    if result.is_err() {
        interrupt::rest_if_interrupted();
    }
    let word = if result.is_ok() { "ok" } else { "FAILED" };
    let mut report = format!("test {name} ... {word} ({:.1} s)\n", begun.elapsed().as_secs_f64());
    for note in notes {
        let _ = writeln!(report, "    {}", note.trim_end().replace('\n', "\n    "));
    }
    if let Err(error) = &result {
        let diagnosis = diagnosis(ground, name, begun.elapsed());
        let _ = writeln!(report, "    {error:#}\n{diagnosis}");
    }
    // In one piece: other scenarios may be running on another cluster.
    print!("{report}");
    clean(ground, name);
    result.is_ok()
}

fn attempt(ground: &Ground, scenario: &Scenario, name: &str) -> (Vec<String>, anyhow::Result<()>) {
    let case = match Case::begin(ground, name) {
        Ok(case) => case,
        Err(error) => return (Vec::new(), Err(error)),
    };
    let result = catch_unwind(AssertUnwindSafe(|| (scenario.run)(&case)));
    let result = result.unwrap_or_else(|_| Err(anyhow!("the scenario panicked")));
    (case.notes(), result)
}

/// What a person would look at.
fn diagnosis(ground: &Ground, namespace: &str, since: Duration) -> String {
    let kubectl = |arguments: &[&str]| {
        ground
            .cluster
            .kubectl(arguments)
            .unwrap_or_else(|error| format!("{error:#}"))
    };
    let sections = [
        ("mirrors", kubectl(&["get", "registrymirrors", "-o", "yaml"])),
        ("pods", kubectl(&["-n", namespace, "describe", "pods"])),
        (
            "operator",
            kubectl(&["-n", operator::NAMESPACE, "get", "pods", "-o", "wide"]),
        ),
        (
            "API server",
            failed_open(ground).unwrap_or_else(|error| format!("{error:#}")),
        ),
        (
            "logs",
            operator::logs(&ground.cluster, since).unwrap_or_else(|error| format!("{error:#}")),
        ),
    ];
    let mut text = String::new();
    for (title, content) in sections {
        let lines: Vec<_> = content.lines().collect();
        // The end of a long text is nearer to the failure.
        let tail = lines.len().saturating_sub(200);
        let _ = write!(text, "---- {namespace}: {title}\n{}\n", lines[tail..].join("\n"));
    }
    text
}

/// Why the API server admitted pods without asking, by its log.
fn failed_open(ground: &Ground) -> anyhow::Result<String> {
    let log = ground.cluster.logs("kube-apiserver")?;
    let lines: Vec<_> = log.lines().filter(|line| line.contains("failing open")).collect();
    Ok(lines.join("\n"))
}

/// Leaves the cluster as it was found, whatever the scenario did.
fn clean(ground: &Ground, name: &str) {
    let mut problems = Vec::new();
    for registry in Registry::ALL {
        if !ground.cluster.current_fault(registry).is_empty() {
            problems.extend(ground.cluster.heal(registry).err());
        }
    }
    problems.extend(ground.delete_mirrors().err());
    problems.extend(ground.delete_namespace(name).err());
    for problem in problems {
        println!("    failed to clean up after {name}: {problem:#}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attempts that end as listed while the host keeps `percent` of the time; whether one passed, and how many there were.
    fn tried(percent: u64, ends: &[bool]) -> (bool, usize) {
        let mut attempts = 0;
        let time = std::cell::Cell::new(0);
        let passed = passes(
            "some-scenario",
            || {
                attempts += 1;
                time.set(time.get() + 100);
                ends[attempts - 1]
            },
            || {
                let stolen = time.get() * percent / 100;
                Ticks::of(&format!("cpu {} 0 0 0 0 0 0 {stolen}", time.get() - stolen))
            },
        );
        (passed, attempts)
    }

    #[test]
    fn every_attempt_has_a_name_of_its_own() {
        let names: Vec<_> = names("a-scenario").take(3).collect();
        assert_eq!(names, ["a-scenario", "a-scenario-2", "a-scenario-3"]);
    }

    #[test]
    fn only_what_failed_without_its_share_of_the_processors_is_tried_again() {
        assert_eq!(tried(0, &[true]), (true, 1));
        assert_eq!(tried(0, &[false]), (false, 1));
        assert_eq!(tried(10, &[false]), (false, 1));
        assert_eq!(tried(50, &[false, true]), (true, 2));
        assert_eq!(tried(50, &[false, false, true]), (true, 3));
        assert_eq!(tried(50, &[false, false, false]), (false, 3));
    }
}
