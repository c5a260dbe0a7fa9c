//! The definition in a real API server: what it takes, and in which words it refuses the rest.

use std::path::Path;

use anyhow::{Context as _, ensure};
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::{Case, operator};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "valid-mirrors-and-examples-are-accepted",
        run: valid_mirrors_and_examples_are_accepted,
    },
    Scenario {
        name: "invalid-mirrors-are-refused-in-words-that-help",
        run: invalid_mirrors_are_refused,
    },
    Scenario {
        name: "the-installed-definition-is-the-one-in-the-tree",
        run: the_installed_definition_is_the_one_in_the_tree,
    },
];

fn valid_mirrors_and_examples_are_accepted(case: &Case<'_>) -> anyhow::Result<()> {
    for folder in ["crates/api/tests/cases/valid", "examples"] {
        let folder = operator::tree().join(folder).canonicalize()?;
        let files = yaml_files(&folder)?;
        let folder = folder.to_str().context("the path is not UTF-8")?;
        let printed = case
            .ground
            .cluster
            .kubectl(&["create", "--dry-run=server", "-f", folder])?;
        let accepted = printed
            .lines()
            .filter(|line| line.starts_with("registrymirror"))
            .count();
        ensure!(
            accepted == files.len(),
            "{accepted} of {} accepted: {printed}",
            files.len()
        );
        case.note(format!("{accepted} files accepted"));
    }
    Ok(())
}

fn invalid_mirrors_are_refused(case: &Case<'_>) -> anyhow::Result<()> {
    let folder = operator::tree().join("crates/api/tests/cases/invalid").canonicalize()?;
    let files = yaml_files(&folder)?;
    let path = folder.to_str().context("the path is not UTF-8")?;
    let Err(refused) = case.ground.cluster.kubectl(&["create", "--dry-run=server", "-f", path]) else {
        anyhow::bail!("all invalid mirrors were accepted");
    };
    // kubectl goes on after a refusal and tells each with the file's name; some messages have several lines.
    let complaints = refused.to_string();
    let complaints: Vec<&str> = complaints.split("Error from server").collect();
    let mut wrong = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(folder.join(file))?;
        let expected = text.lines().find_map(|line| line.strip_prefix("# expect: "));
        let expected = expected.with_context(|| format!("{file} does not say what is expected"))?;
        let named = format!("/{file}\"");
        let told = complaints.iter().find(|complaint| complaint.contains(&named));
        match told {
            Some(told) if told.contains(expected) => {}
            Some(told) => wrong.push(format!("{file}: expected \"{expected}\", got {}", told.trim())),
            None => wrong.push(format!("{file} was accepted")),
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    case.note(format!("{} files refused, each with its message", files.len()));
    Ok(())
}

fn the_installed_definition_is_the_one_in_the_tree(case: &Case<'_>) -> anyhow::Result<()> {
    let file = operator::tree()
        .join("crds/catamaran.dev_registrymirrors.yaml")
        .canonicalize()?;
    let file = file.to_str().context("the path is not UTF-8")?;
    // Exits with 1 and prints the difference if there is one.
    case.ground
        .cluster
        .kubectl(&["diff", "--server-side", "--force-conflicts", "-f", file])?;
    let explained = case
        .ground
        .cluster
        .kubectl(&["explain", "regm.spec.failback.stableSeconds"])?;
    let words: Vec<&str> = explained.split_whitespace().collect();
    ensure!(
        words.join(" ").contains("without a break, 60 to 86400"),
        "kubectl explain says {explained}"
    );
    Ok(())
}

fn yaml_files(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let is_yaml = Path::new(&name)
            .extension()
            .is_some_and(|extension| extension == "yaml");
        names.extend(is_yaml.then_some(name));
    }
    ensure!(!names.is_empty(), "there is no file in {}", folder.display());
    names.sort();
    Ok(names)
}
