//! Runs scenarios one after the other on one cluster, and prints what `cargo test` would.

use std::fmt::Write as _;
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use catamaran_cluster::Registry;

use crate::ground::Ground;
use crate::{Case, busy, interrupt, operator};

/// How often a scenario is tried at most, while the machine is busy with something else.
pub const ATTEMPTS: usize = 3;

/// How long a scenario waits for its next attempt while the machine stays busy.
const REST: Duration = Duration::from_mins(2);

/// A test by its name; the name is also that of its namespace, repository and mirror. When it runs again, a number follows the
/// name: what an earlier run left behind is not this one's.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Words with hyphens.
    pub name: &'static str,
    /// What it does.
    pub run: fn(&Case<'_>) -> anyhow::Result<()>,
}

/// What came of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Everything came, in time.
    Passed,
    /// Everything came, but a bar was missed on a machine that was busy with something else.
    Unmeasured,
    /// Something did not come, or came too late on a machine that was not busy.
    Failed,
}

/// What came of a run.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Scenarios that passed.
    pub passed: usize,
    /// Scenarios that failed.
    pub failed: usize,
    /// Those of the passed ones whose bars could not be measured, by their names.
    pub unmeasured: Vec<&'static str>,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.unmeasured.extend(other.unmeasured);
    }
}

/// Runs each so often, in their order. A failure is told with all that helps to understand it, and the next one runs.
pub fn run(ground: &Ground, scenarios: &[Scenario], repeat: usize) -> Tally {
    busy::watch();
    let mut tally = Tally::default();
    for scenario in scenarios {
        let mut names = names(scenario.name);
        let mut attempt = || {
            names
                .next()
                .map_or(Outcome::Failed, |name| once(ground, scenario, &name))
        };
        let mut measured = true;
        let passed = (0..repeat).all(|_| {
            let outcome = tried(scenario.name, &mut attempt, &Machine);
            measured &= outcome != Outcome::Unmeasured;
            outcome != Outcome::Failed
        });
        if passed {
            tally.passed += 1;
        } else {
            tally.failed += 1;
        }
        if passed && !measured {
            tally.unmeasured.push(scenario.name);
        }
    }
    tally
}

/// What attempts share with other programs.
trait Shared {
    /// The largest share of its time that others had since then.
    fn taken(&self, since: Instant) -> f64;
    /// Waits for a better moment.
    fn rest(&self);
}

/// This machine.
struct Machine;

impl Shared for Machine {
    fn taken(&self, since: Instant) -> f64 {
        busy::taken(since)
    }

    fn rest(&self) {
        busy::rest(REST);
    }
}

/// The name, and the name with 2, 3 and so on.
fn names(name: &str) -> impl Iterator<Item = String> {
    iter::once(name.to_owned()).chain((2..).map(move |number| format!("{name}-{number}")))
}

/// The outcome of its last attempt: of the first one that shows something, which one that does not pass on a busy machine does not.
fn tried(name: &str, mut attempt: impl FnMut() -> Outcome, machine: &impl Shared) -> Outcome {
    let mut left = ATTEMPTS;
    loop {
        let begun = Instant::now();
        let outcome = attempt();
        left -= 1;
        let taken = machine.taken(begun);
        let shown = match outcome {
            Outcome::Passed => true,
            Outcome::Unmeasured => false,
            Outcome::Failed => taken <= busy::TOO_MUCH,
        };
        if shown || left == 0 {
            return outcome;
        }
        println!(
            "test {name}: once more, because others had up to {:.0} % of the processors' time for ten seconds meanwhile",
            taken * 100.0
        );
        machine.rest();
    }
}

/// What comes of it under this name, with its report printed and the cluster left as it was.
fn once(ground: &Ground, scenario: &Scenario, name: &str) -> Outcome {
    let begun = Instant::now();
    let (notes, result) = attempt(ground, scenario, name);
    if result.is_err() {
        interrupt::rest_if_interrupted();
    }
    let (word, outcome) = match &result {
        Ok(missed) if missed.is_empty() => ("ok", Outcome::Passed),
        Ok(_) => ("NOT MEASURED", Outcome::Unmeasured),
        Err(_) => ("FAILED", Outcome::Failed),
    };
    let mut report = format!("test {name} ... {word} ({:.1} s)\n", begun.elapsed().as_secs_f64());
    for note in notes {
        let _ = writeln!(report, "    {}", note.trim_end().replace('\n', "\n    "));
    }
    match &result {
        Ok(missed) => {
            for missed in missed {
                let _ = writeln!(report, "    on a busy machine, {missed}");
            }
        }
        Err(error) => {
            let diagnosis = diagnosis(ground, name, begun.elapsed());
            let _ = writeln!(report, "    {error:#}\n{diagnosis}");
        }
    }
    // In one piece: other scenarios may be running on another cluster.
    print!("{report}");
    clean(ground, name);
    if outcome == Outcome::Failed
        && let Err(error) = ground.restore_if_broken()
    {
        println!("    failed to restore the release after {name}: {error:#}");
    }
    outcome
}

/// Its notes, and the bars that it has missed on a busy machine.
fn attempt(ground: &Ground, scenario: &Scenario, name: &str) -> (Vec<String>, anyhow::Result<Vec<String>>) {
    let case = match Case::begin(ground, name) {
        Ok(case) => case,
        Err(error) => return (Vec::new(), Err(error)),
    };
    let result = catch_unwind(AssertUnwindSafe(|| (scenario.run)(&case)));
    let result = result.unwrap_or_else(|_| Err(anyhow!("the scenario panicked")));
    (case.notes(), result.map(|()| case.missed()))
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

    /// A machine of whose time others have this share.
    struct Lent(f64, std::cell::Cell<usize>);

    impl Shared for Lent {
        fn taken(&self, _since: Instant) -> f64 {
            self.0
        }

        fn rest(&self) {
            self.1.set(self.1.get() + 1);
        }
    }

    /// Attempts that end as listed while others have `taken`; the outcome, and how many there were.
    fn tries(taken: f64, ends: &[Outcome]) -> (Outcome, usize) {
        let mut attempts = 0;
        let machine = Lent(taken, std::cell::Cell::default());
        let attempt = || {
            attempts += 1;
            ends[attempts - 1]
        };
        let outcome = tried("some-scenario", attempt, &machine);
        assert_eq!(machine.1.get(), attempts - 1, "a rest before each but the first");
        (outcome, attempts)
    }

    #[test]
    fn every_attempt_has_a_name_of_its_own() {
        let names: Vec<_> = names("a-scenario").take(3).collect();
        assert_eq!(names, ["a-scenario", "a-scenario-2", "a-scenario-3"]);
    }

    #[test]
    fn failure_is_tried_again_on_a_busy_machine_only() {
        use Outcome::{Failed, Passed};
        assert_eq!(tries(0.5, &[Passed]), (Passed, 1));
        assert_eq!(tries(0.0, &[Failed]), (Failed, 1));
        assert_eq!(tries(0.1, &[Failed]), (Failed, 1));
        assert_eq!(tries(0.5, &[Failed, Passed]), (Passed, 2));
        assert_eq!(tries(0.5, &[Failed, Failed, Passed]), (Passed, 3));
        assert_eq!(tries(0.5, &[Failed, Failed, Failed]), (Failed, 3));
    }

    #[test]
    fn missed_bar_is_measured_again_and_is_no_failure() {
        use Outcome::{Failed, Passed, Unmeasured};
        assert_eq!(tries(0.5, &[Unmeasured, Passed]), (Passed, 2));
        assert_eq!(tries(0.5, &[Unmeasured, Failed, Unmeasured]), (Unmeasured, 3));
        assert_eq!(tries(0.5, &[Unmeasured, Unmeasured, Failed]), (Failed, 3));
        // The next attempt may have a machine that is not busy any more.
        assert_eq!(tries(0.0, &[Unmeasured, Failed]), (Failed, 2));
    }
}
