//! The chart as a thing of its own: where it is, what it is rendered with, and what its files say.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use catamaran_cluster::components;
use serde_json::Value;

use crate::operator::tree;

/// The chart's folder.
pub fn folder() -> anyhow::Result<PathBuf> {
    let folder = tree().join("charts/catamaran").canonicalize();
    folder.context("failed to find the chart")
}

/// The values that the chart is rendered with in tests: name and file, in order.
pub fn matrix() -> anyhow::Result<Vec<(String, PathBuf)>> {
    let folder = tree().join("tests/chart/values").canonicalize()?;
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().context("the file has no name")?.to_string_lossy();
        all.push((name.into_owned(), path.clone()));
    }
    all.sort();
    ensure!(!all.is_empty(), "there are no values to render with");
    Ok(all)
}

/// Runs helm without a cluster; what it printed, or the error with what it complained.
pub fn helm(arguments: &[&str]) -> anyhow::Result<String> {
    let program = components::program("helm", "helm");
    let output = Command::new(&program)
        .args(arguments)
        // No configuration of a user's may change what is rendered.
        .env_remove("KUBECONFIG")
        .env("HELM_PLUGINS", "/nonexistent")
        .output()
        .with_context(|| format!("failed to run {}: `make cluster-build` builds it", program.display()))?;
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if !output.status.success() {
        bail!("{complaint}");
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A value of the chart as its file documents it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documented {
    /// Its path, with dots.
    pub path: String,
    /// The comment above it.
    pub text: String,
}

/// Reads the comments of a `values.yaml`: each `# -- ` comment belongs to the key below it and to all that is in that.
/// Every value must have one.
pub fn documented(values: &str) -> anyhow::Result<Vec<Documented>> {
    let mut all: Vec<Documented> = Vec::new();
    let mut parents: Vec<(usize, String)> = Vec::new();
    let mut covered: Option<usize> = None;
    let mut comment = String::new();
    for (number, line) in values.lines().enumerate() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if let Some(first) = text.strip_prefix("# -- ") {
            first.trim().clone_into(&mut comment);
        } else if let Some(more) = text.strip_prefix("# ").filter(|_| !comment.is_empty()) {
            comment = format!("{comment} {}", more.trim());
        }
        let Some((key, rest)) = text.split_once(':') else {
            continue;
        };
        if text.starts_with('#') || covered.is_some_and(|outer| indent > outer || text.starts_with('-')) {
            continue;
        }
        covered = None;
        parents.retain(|(outer, _)| *outer < indent);
        parents.push((indent, key.to_owned()));
        let path = parents
            .iter()
            .map(|(_, key)| key.as_str())
            .collect::<Vec<_>>()
            .join(".");
        if comment.is_empty() {
            ensure!(rest.trim().is_empty(), "line {}: {path} has no comment", number + 1);
            continue;
        }
        covered = Some(indent);
        all.push(Documented {
            path,
            text: std::mem::take(&mut comment),
        });
    }
    Ok(all)
}

/// What stands at a path of dots.
pub fn at<'v>(values: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(values, |value, key| value.get(key))
}

/// The table of values for the chart's README.
pub fn table(values: &str) -> anyhow::Result<String> {
    let parsed: Value = serde_saphyr::from_str(values).context("failed to read the values")?;
    let mut lines = vec![
        "| value | default | what it does |".to_owned(),
        "| --- | --- | --- |".to_owned(),
    ];
    for Documented { path, text } in documented(values)? {
        let default = at(&parsed, &path).with_context(|| format!("failed to find {path} in the values"))?;
        let cells = [format!("`{path}`"), format!("`{default}`"), text].map(|cell| cell.replace('|', "\\|"));
        lines.push(format!("| {} |", cells.join(" | ")));
    }
    Ok(lines.join("\n") + "\n")
}
