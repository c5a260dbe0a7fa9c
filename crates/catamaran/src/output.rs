//! What goes to standard output.

use std::io::{ErrorKind, Write as _};

use anyhow::Context as _;
use serde::Serialize;

/// Prints a text. A reader that has seen enough (`| head`) is no failure.
pub fn text(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("failed to write the result"),
        _ => Ok(()),
    }
}

/// Prints a value as JSON, indented, with a line feed at its end.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let written = serde_json::to_string_pretty(value).context("failed to write the result as JSON")?;
    text(&(written + "\n"))
}

/// Prints a value as YAML.
pub fn yaml(value: &impl Serialize) -> anyhow::Result<()> {
    text(&serde_saphyr::to_string(value).context("failed to write the result as YAML")?)
}
