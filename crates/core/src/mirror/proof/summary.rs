//! What the results of all proof pods say together.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::reading::{Cause, Outcome, Problem};
use super::{Key, Planned, Proved};

/// Failures that status lists at most.
pub const MAX_FAILING: usize = 10;

/// Causes that are put into words, and names of each, at most.
const MAX_GROUPS: usize = 4;
const MAX_NAMES: usize = 3;

/// One thing that is not proven.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failing {
    /// The namespace whose pods would have it.
    pub namespace: String,
    /// The node.
    pub node: String,
    /// The image; none where it is about the whole pod.
    pub image: Option<String>,
    /// Why.
    pub problem: Problem,
}

/// Names, the first few of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// At most three.
    pub sample: Vec<String>,
    /// How many there are.
    pub total: usize,
}

/// Everything with one cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Why; of a refusal with the words of who refused.
    pub cause: Cause,
    /// One of the messages.
    pub message: String,
    /// Where.
    pub namespaces: Names,
    /// On which nodes.
    pub nodes: Names,
}

/// Whether the fallback is proven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Each node can pull, for each namespace.
    Proven,
    /// Something fails.
    Fails(Cause),
    /// Nothing fails, and some pods were not run.
    NotRun(Cause),
    /// Not all pods have ended for the first time.
    #[default]
    NotYet,
    /// No pods of the mirror in the namespaces where proof pods may be made.
    Nothing,
}

/// What proof pods are about, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Nodes that pull.
    pub nodes: usize,
    /// Namespaces whose credentials are used.
    pub namespaces: usize,
    /// Images that are pulled.
    pub images: usize,
}

/// What is known of all pods together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Whether the fallback is proven.
    pub verdict: Verdict,
    /// Nothing is known of what is to be proven, and what the status says may hold: another replica has begun to lead.
    pub is_unread: bool,
    /// When the latest pods had all ended.
    pub time: Option<Timestamp>,
    /// What is proven, or is to be.
    pub extent: Extent,
    /// What is not proven, at most [`MAX_FAILING`].
    pub failing: Vec<Failing>,
    /// How many there are.
    pub failing_total: usize,
    /// The same by causes, failures first.
    pub groups: Vec<Group>,
    /// Namespaces with pods of the mirror that no proof pod may be made in.
    pub unlisted: usize,
    /// Places and images that were left out.
    pub left_out: usize,
}

/// Names of whom a cause concerns.
#[derive(Default)]
struct Concerned<'a> {
    message: &'a str,
    namespaces: BTreeSet<&'a str>,
    nodes: BTreeSet<&'a str>,
}

/// Sums up. Counts of the plan are filled in by the caller.
pub(super) fn sum_up(plan: &[Planned], results: &BTreeMap<Key, Proved>) -> Summary {
    let mut summary = Summary::default();
    let mut groups: BTreeMap<(bool, Cause, &str), Concerned<'_>> = BTreeMap::new();
    let mut is_complete = true;
    for Planned { key, .. } in plan {
        let Some(proved) = results.get(key) else {
            is_complete = false;
            continue;
        };
        for (image, problem) in problems(proved) {
            summary.failing_total += 1;
            if summary.failing.len() < MAX_FAILING {
                summary.failing.push(Failing {
                    namespace: key.place.namespace.clone(),
                    node: key.node.clone(),
                    image: image.map(str::to_owned),
                    problem: problem.clone(),
                });
            }
            // Who refuses is told by the words alone.
            let words = if problem.cause == Cause::Refused {
                problem.message.as_str()
            } else {
                ""
            };
            let group = groups
                .entry((!problem.cause.is_failure(), problem.cause, words))
                .or_default();
            group.message = &problem.message;
            group.namespaces.insert(&key.place.namespace);
            group.nodes.insert(&key.node);
        }
    }
    let first = groups.keys().next().map(|(_, cause, _)| *cause);
    summary.verdict = match first {
        Some(cause) if cause.is_failure() => Verdict::Fails(cause),
        _ if plan.is_empty() => Verdict::Nothing,
        _ if !is_complete => Verdict::NotYet,
        Some(cause) => Verdict::NotRun(cause),
        None => Verdict::Proven,
    };
    let groups = groups.into_iter().take(MAX_GROUPS);
    summary.groups = groups
        .map(|((_, cause, _), concerned)| group(cause, &concerned))
        .collect();
    summary
}

fn group(cause: Cause, concerned: &Concerned<'_>) -> Group {
    let names = |all: &BTreeSet<&str>| Names {
        sample: all.iter().take(MAX_NAMES).map(|name| (*name).to_owned()).collect(),
        total: all.len(),
    };
    Group {
        cause,
        message: concerned.message.to_owned(),
        namespaces: names(&concerned.namespaces),
        nodes: names(&concerned.nodes),
    }
}

/// What is not proven of one pod.
fn problems(proved: &Proved) -> Vec<(Option<&str>, &Problem)> {
    match &proved.outcome {
        Outcome::Skipped => Vec::new(),
        Outcome::Whole(problem) => vec![(None, problem)],
        Outcome::Pulls(pulls) => {
            let pulls = proved.images.values().zip(pulls);
            pulls
                .filter_map(|(image, pull)| Some((Some(image.as_str()), pull.as_ref().err()?)))
                .collect()
        }
    }
}
