//! The executable under the names that kubectl gives it.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its own lines do")]

use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use tempfile::TempDir;

/// Runs the executable by a link of this name.
fn run(name: &str, arguments: &[&str]) -> Output {
    let folder = TempDir::new().unwrap();
    let link = folder.path().join(name);
    symlink(env!("CARGO_BIN_EXE_catamaran"), &link).unwrap();
    Command::new(link).args(arguments).env_clear().output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn plugin_says_kubectl_in_help_usage_and_mistakes() {
    let help = run("kubectl-catamaran", &["--help"]);
    assert!(
        text(&help.stdout).contains("Usage: kubectl catamaran <COMMAND>"),
        "{help:?}"
    );
    let help = run("kubectl-catamaran", &["failover", "--help"]);
    assert!(
        text(&help.stdout).contains("Usage: kubectl catamaran failover [OPTIONS] <NAME>"),
        "{help:?}"
    );
    let mistake = run("kubectl-catamaran", &["failover"]);
    assert_eq!(mistake.status.code(), Some(2));
    assert!(
        text(&mistake.stderr).contains("Usage: kubectl catamaran failover"),
        "{mistake:?}"
    );
    let own = run("catamaran", &["--help"]);
    assert!(text(&own.stdout).contains("Usage: catamaran <COMMAND>"), "{own:?}");
}

#[test]
fn kubectl_is_answered_with_candidates_and_a_directive() {
    let completed = run("kubectl_complete-catamaran", &["expl"]);
    assert_eq!(completed.status.code(), Some(0));
    let expected = "explain\tExplain where an image, or the images of a pod, are sent, rule by rule\n:4\n";
    assert_eq!(text(&completed.stdout), expected);
    let nothing = run("kubectl_complete-catamaran", &["nonsense", "--no-such"]);
    assert_eq!((nothing.status.code(), text(&nothing.stdout)), (Some(0), ":4\n"));
}

#[test]
fn script_is_printed_for_a_shell_and_an_unknown_one_is_refused() {
    let script = run("catamaran", &["completion", "bash"]);
    assert_eq!(script.status.code(), Some(0));
    assert!(text(&script.stdout).contains("complete -F _catamaran"), "{script:?}");
    let refused = run("catamaran", &["completion", "tcsh"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        text(&refused.stderr).contains("[possible values: bash, elvish, fish, powershell, zsh]"),
        "{refused:?}"
    );
}
