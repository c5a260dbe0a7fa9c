//! Prints the cycles between the top-level modules of each crate of the workspace, and fails when there are any.
//!
//! A module depends on another when its files name it by `crate::...` or `super::...`, outside of what is compiled for tests
//! only. What the crate's root passes on by `pub use` belongs to the module that it is from. Sources are read as text, so this
//! takes no compiler and a tenth of a second. [`rules`] names the crates that have an order of modules, and the files that may
//! name a provider.
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

use graph::{Graph, Place};

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
    let unknown = rules::ORDERS
        .iter()
        .filter(|(name, _)| !folders.iter().any(|folder| folder == name));
    let mut wrong: Vec<_> = unknown
        .map(|(name, _)| format!("{name} has an order and is no crate"))
        .collect();
    let (mut modules, mut uses) = (0, 0);
    for folder in &folders {
        for target in workspace::targets(root, folder)? {
            modules += target.graph.modules().count();
            uses += target.graph.edges();
            wrong.extend(problems(folder, &target.graph));
            // What tests stand on may know them.
            if folder.starts_with("crates/") {
                wrong.extend(named_elsewhere(&target.providers));
            }
        }
    }
    for line in &wrong {
        println!("{line}");
    }
    println!(
        "module cycles: {} crates, {modules} modules, {uses} dependencies between them, {} problems",
        folders.len(),
        wrong.len(),
    );
    Ok(wrong.is_empty())
}

/// What is wrong with the modules of a crate.
fn problems(folder: &str, graph: &Graph) -> Vec<String> {
    let cycles = graph.cycles();
    let mut lines: Vec<_> = cycles
        .iter()
        .take(PRINTED)
        .map(|cycle| format!("{folder}: {}", graph.describe(cycle)))
        .collect();
    if cycles.len() > PRINTED {
        lines.push(format!("{folder}: {} more cycles", cycles.len() - PRINTED));
    }
    if let Some(order) = rules::order(folder) {
        lines.extend(graph.against(order).into_iter().map(|line| format!("{folder}: {line}")));
    }
    lines
}

/// The places that name a provider and may not.
fn named_elsewhere(places: &[Place]) -> Vec<String> {
    let elsewhere = places
        .iter()
        .filter(|place| !rules::NAMES_PROVIDERS.iter().any(|allowed| place.starts_with(allowed)));
    elsewhere
        .map(|place| format!("{place} names a provider: ask what is true of it, or move this into its folder"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provider_may_be_named_in_its_folder_only() {
        let places = [
            "crates/registry/src/providers/azure.rs:3",
            "crates/registry/src/providers.rs:9",
            "crates/controller/src/connections.rs:7",
        ];
        let wrong = named_elsewhere(&places.map(str::to_owned));
        assert_eq!(wrong.len(), 1);
        assert!(wrong[0].starts_with("crates/controller/src/connections.rs:7 names a provider"));
    }
}
