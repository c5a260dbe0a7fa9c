//! Runs scenarios one after the other on one cluster, and prints what `cargo test` would.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use catamaran_cluster::Registry;

use crate::ground::Ground;
use crate::steal::Ticks;
use crate::{Case, interrupt, operator};

/// A scenario that fails while more than this share of the processors' time was taken from the machine has shown nothing: it
/// is tried once more.
const TOO_MUCH_STOLEN: f64 = 0.1;

/// A test by its name; the name is also that of its namespace, repository and mirror.
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

/// Runs them in their order. A failure is told with all that helps to understand it, and the next one runs.
pub fn run(ground: &Ground, scenarios: &[Scenario]) -> Tally {
    let mut tally = Tally::default();
    for scenario in scenarios {
        if passes(ground, scenario) {
            tally.passed += 1;
        } else {
            tally.failed += 1;
        }
    }
    tally
}

fn passes(ground: &Ground, scenario: &Scenario) -> bool {
    let before = Ticks::now();
    if once(ground, scenario) {
        return true;
    }
    let stolen = before.stolen_until(Ticks::now());
    if stolen <= TOO_MUCH_STOLEN {
        return false;
    }
    println!(
        "test {}: once more, because {:.0} % of the processors' time was taken from this machine meanwhile",
        scenario.name,
        stolen * 100.0
    );
    once(ground, scenario)
}

/// Whether it passes, with its report printed and the cluster left as it was.
fn once(ground: &Ground, scenario: &Scenario) -> bool {
    let begun = Instant::now();
    let (notes, result) = attempt(ground, scenario);
    if result.is_err() {
        interrupt::rest_if_interrupted();
    }
    let word = if result.is_ok() { "ok" } else { "FAILED" };
    let mut report = format!(
        "test {} ... {word} ({:.1} s)\n",
        scenario.name,
        begun.elapsed().as_secs_f64()
    );
    for note in notes {
        let _ = writeln!(report, "    {}", note.trim_end().replace('\n', "\n    "));
    }
    if let Err(error) = &result {
        let diagnosis = diagnosis(ground, scenario.name, begun.elapsed());
        let _ = writeln!(report, "    {error:#}\n{diagnosis}");
    }
    // In one piece: other scenarios may be running on another cluster.
    print!("{report}");
    clean(ground, scenario.name);
    result.is_ok()
}

fn attempt(ground: &Ground, scenario: &Scenario) -> (Vec<String>, anyhow::Result<()>) {
    let case = match Case::begin(ground, scenario.name) {
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

/// Leaves the cluster as it was found, whatever the scenario did.
fn clean(ground: &Ground, name: &str) {
    let mut problems = Vec::new();
    for registry in Registry::ALL {
        if !ground.cluster.current_fault(registry).is_empty() {
            problems.extend(ground.cluster.heal(registry).err());
        }
    }
    let mirrors = ["delete", "registrymirrors", "--all", "--timeout=20s"];
    problems.extend(ground.cluster.kubectl(&mirrors).err());
    problems.extend(ground.delete_namespace(name).err());
    for problem in problems {
        println!("    failed to clean up after {name}: {problem:#}");
    }
}
