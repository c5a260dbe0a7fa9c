//! Tries a write without carrying it out.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use catamaran_e2e::Case;
use catamaran_e2e::ground::PATIENCE;
use serde_json::Value;

use super::{HOME, NAME};

/// A write that is tried as the operator, and not carried out.
pub(super) struct Attempt {
    namespace: Option<&'static str>,
    arguments: Vec<String>,
    input: String,
}

impl Attempt {
    pub(super) fn of(arguments: &[&str]) -> Attempt {
        Attempt {
            namespace: None,
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            input: String::new(),
        }
    }

    pub(super) fn create(object: &Value) -> Attempt {
        Attempt {
            input: object.to_string(),
            ..Attempt::of(&["create", "--dry-run=server", "-f", "-"])
        }
    }

    pub(super) fn delete(object: &str) -> Attempt {
        Attempt::of(&["delete", "--dry-run=server", object])
    }

    pub(super) fn patch(object: &str, patch: &Value) -> Attempt {
        Attempt::of(&[
            "patch",
            object,
            "--dry-run=server",
            "--type=strategic",
            "-p",
            &patch.to_string(),
        ])
    }

    pub(super) fn status(object: &str, patch: &Value) -> Attempt {
        let mut attempt = Attempt::patch(object, patch);
        attempt.arguments.push("--subresource=status".to_owned());
        attempt
    }

    pub(super) fn within(self, namespace: &'static str) -> Attempt {
        Attempt {
            namespace: Some(namespace),
            ..self
        }
    }

    pub(super) fn run(&self, case: &Case<'_>) -> anyhow::Result<String> {
        let account = format!("--as=system:serviceaccount:{HOME}:{NAME}");
        self.run_as(case, &account)
    }

    pub(super) fn run_as(&self, case: &Case<'_>, account: &str) -> anyhow::Result<String> {
        let namespace = self.namespace.unwrap_or(&case.name);
        // Whom RBAC allows everything.
        let whom = ["-n", namespace, account, "--as-group=system:masters"];
        let arguments: Vec<&str> = whom
            .into_iter()
            .chain(self.arguments.iter().map(String::as_str))
            .collect();
        case.ground.cluster.kubectl_stdin(&arguments, &self.input)
    }

    /// Policies take effect within seconds of their creation.
    pub(super) fn until_refused(&self, case: &Case<'_>, words: &str) -> anyhow::Result<String> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.run(case) {
                Err(error) => {
                    let message = format!("{error:#}");
                    ensure!(message.contains(words), "refused in other words: {message}");
                    return Ok(words.to_owned());
                }
                Ok(_) if Instant::now() > end => bail!("it was allowed"),
                Ok(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }
}
