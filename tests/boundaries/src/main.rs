//! Prints the cycles between the top-level modules of each crate of the workspace, and fails when there are any.
//!
//! A module depends on another when its files name it by `crate::...` or `super::...`, outside of what is compiled for tests
//! only. What the crate's root passes on by `pub use` belongs to the module that it is from. Sources are read as text, so this
//! takes no compiler and a tenth of a second. [`rules`] names the crates that may have cycles for now, and those that have an
//! order of modules.
//!
//! Reading order: [`workspace`] finds the crates and their files, [`tokens`], [`conditional`] and [`scan`] read one,
//! [`graph`] finds the cycles.

mod conditional;
mod graph;
mod rules;
mod scan;
mod tokens;
mod workspace;

use std::path::Path;
use std::process::ExitCode;

use graph::Graph;
use rules::Rule;

/// More cycles of one crate than these are only counted.
const PRINTED: usize = 20;

fn main() -> ExitCode {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    match check(&root) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Checks every crate, prints what is wrong and a line of counts; returns whether nothing is wrong.
fn check(root: &Path) -> Result<bool, workspace::ReadError> {
    let folders = workspace::members(root)?;
    let unknown = rules::RULES
        .iter()
        .filter(|(name, _)| !folders.iter().any(|folder| folder == name));
    let mut wrong: Vec<_> = unknown
        .map(|(name, _)| format!("{name} has a rule and is no crate"))
        .collect();
    let (mut modules, mut uses, mut exempt) = (0, 0, Vec::new());
    for folder in &folders {
        let rule = rules::rule(folder);
        let graphs = workspace::graphs(root, folder)?;
        modules += graphs.iter().map(|graph| graph.modules().count()).sum::<usize>();
        uses += graphs.iter().map(Graph::edges).sum::<usize>();
        let found: Vec<_> = graphs.iter().flat_map(|graph| problems(folder, graph, rule)).collect();
        if rule == Some(Rule::Exempt) {
            let knotted: usize = graphs.iter().map(|graph| graph.in_cycles().len()).sum();
            if knotted == 0 {
                wrong.push(format!("{folder} is exempt and has no cycle: remove its exemption"));
            }
            exempt.push(format!("{folder} with {knotted} modules in cycles"));
        } else {
            wrong.extend(found);
        }
    }
    for line in &wrong {
        println!("{line}");
    }
    let exempt = if exempt.is_empty() {
        "none".to_owned()
    } else {
        exempt.join(", ")
    };
    println!(
        "module cycles: {} crates, {modules} modules, {uses} dependencies between them, {} problems; exempt: {exempt}",
        folders.len(),
        wrong.len(),
    );
    Ok(wrong.is_empty())
}

/// What is wrong with a crate, without regard to its exemption.
fn problems(folder: &str, graph: &Graph, rule: Option<Rule>) -> Vec<String> {
    let cycles = graph.cycles();
    let mut lines: Vec<_> = cycles
        .iter()
        .take(PRINTED)
        .map(|cycle| format!("{folder}: {}", graph.describe(cycle)))
        .collect();
    if cycles.len() > PRINTED {
        lines.push(format!("{folder}: {} more cycles", cycles.len() - PRINTED));
    }
    if let Some(Rule::Order(order)) = rule {
        lines.extend(graph.against(order).into_iter().map(|line| format!("{folder}: {line}")));
    }
    lines
}
