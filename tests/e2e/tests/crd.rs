//! The definition in a real API server: what it takes, and in which words it refuses the rest.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use catamaran_e2e::ground::PATIENCE;
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
    Scenario {
        name: "teams-change-only-what-is-theirs",
        run: teams_change_only_what_is_theirs,
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
        words.join(" ").contains("without interruption, 60 to 86400"),
        "kubectl explain says {explained}"
    );
    Ok(())
}

/// What docs/security.md says of examples/rbac-teams.yaml, tried by people of each group.
fn teams_change_only_what_is_theirs(case: &Case<'_>) -> anyhow::Result<()> {
    let example = operator::tree().join("examples/rbac-teams.yaml").canonicalize()?;
    let example = example.to_str().context("the path is not UTF-8")?;
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    case.ground.cluster.kubectl(&["apply", "-f", example])?;
    let looker = "looks-at-mirrors";
    let binding = [
        "create",
        "clusterrolebinding",
        looker,
        "--clusterrole=view",
        "--user=carol",
    ];
    case.ground.cluster.kubectl(&binding)?;
    let tried = try_each(case);
    case.ground.cluster.kubectl(&["delete", "clusterrolebinding", looker])?;
    case.ground.cluster.kubectl(&["delete", "-f", example])?;
    tried
}

fn try_each(case: &Case<'_>) -> anyhow::Result<()> {
    let team = ["--as=alice", "--as-group=team-a"];
    let platform = ["--as=bob", "--as-group=platform"];
    let outsider = ["--as=carol"];
    let registry = r#"{"spec":{"fallback":{"registry":"evil.example.com"}}}"#;
    let prefix = r#"{"spec":{"fallback":{"prefix":"elsewhere"}}}"#;
    let administrators = [
        prefix,
        r#"{"spec":{"namespaceSelector":{"matchLabels":{"team":"team-b"}}}}"#,
        r#"{"spec":{"repositories":[{"name":"web"}]}}"#,
        r#"{"spec":{"healthCheck":{"periodSeconds":60}}}"#,
        r#"{"spec":{"parity":{"interval":"10m"}}}"#,
        r#"{"spec":{"proof":{"mode":"Pull"}}}"#,
        r#"{"spec":{"repair":{"missingTags":"Copy"}}}"#,
        r#"{"spec":{"failback":{"mode":"Manual"},"repair":{"missingTags":"Copy"}}}"#,
    ];
    let setting = r#"{"spec":{"failback":{"mode":"Manual"}}}"#;
    let settings = [
        setting,
        r#"{"spec":{"suspend":true}}"#,
        r#"{"spec":{"active":"Fallback","activeUntil":"2126-12-01T04:00:00Z"}}"#,
        r#"{"spec":{"rewrite":{"mode":"Audit"}}}"#,
        r#"{"spec":{"rescue":{"mode":"Off"}}}"#,
        r#"{"metadata":{"annotations":{"catamaran.dev/reconcile-requested-at":"now"}}}"#,
    ];
    let words = "for administrators to change";
    // The policy and the aggregated role take effect within seconds of their creation.
    until_refused(case, &team, registry, words)?;
    for change in administrators {
        refused(patch(case, &team, "team-a", change), words).with_context(|| change.to_owned())?;
    }
    for change in settings {
        patch(case, &team, "team-a", change)?;
    }
    patch(case, &platform, "team-a", prefix)?;
    refused(patch(case, &outsider, "team-a", setting), "forbidden")?;
    refused(patch(case, &team, &case.name, setting), "forbidden")?;
    refused(
        as_whom(case, &team, &["delete", "registrymirror", "team-a", "--dry-run=server"]),
        "forbidden",
    )?;
    let end = Instant::now() + PATIENCE;
    while let Err(error) = as_whom(case, &outsider, &["get", "registrymirror", "team-a"]) {
        ensure!(Instant::now() < end, error);
    }
    Ok(())
}

fn as_whom(case: &Case<'_>, whom: &[&str], what: &[&str]) -> anyhow::Result<String> {
    case.ground.cluster.kubectl(&[what, whom].concat())
}

/// Tries a change without making it: these people are not to disturb the operator's work.
fn patch(case: &Case<'_>, whom: &[&str], mirror: &str, change: &str) -> anyhow::Result<String> {
    let patch = [
        "patch",
        "registrymirror",
        mirror,
        "--type=merge",
        "--dry-run=server",
        "--patch",
    ];
    as_whom(case, whom, &[&patch[..], &[change]].concat())
}

fn refused(tried: anyhow::Result<String>, words: &str) -> anyhow::Result<()> {
    let Err(error) = tried else { bail!("it was allowed") };
    ensure!(
        format!("{error:#}").contains(words),
        "refused in other words: {error:#}"
    );
    Ok(())
}

fn until_refused(case: &Case<'_>, whom: &[&str], change: &str, words: &str) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        match refused(patch(case, whom, "team-a", change), words) {
            Ok(()) => return Ok(()),
            Err(error) => ensure!(Instant::now() < end, error),
        }
    }
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
