//! Running programs and saying what went wrong.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// How long anything may take that the harness waits for: a busy machine is slow, and is not to be taken for a broken one.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// `PATH` of everything that the harness runs: administrators' tools are often not on a user's.
pub fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}

/// A program of the host.
pub fn host(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", search_path());
    command
}

/// Runs to the end; what it printed, or an error with what it complained.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    finish(command.stdin(Stdio::null()), None)
}

/// As [`output`], with a text on its standard input.
pub fn output_with(command: &mut Command, stdin: &str) -> anyhow::Result<String> {
    finish(command.stdin(Stdio::piped()), Some(stdin))
}

fn finish(command: &mut Command, stdin: Option<&str>) -> anyhow::Result<String> {
    let line = command_line(command);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to run `{line}`"))?;
    let feeder = child.stdin.take().zip(stdin).map(|(mut pipe, text)| {
        let text = text.to_owned();
        // On a thread of its own: a program that prints before it has read everything would block both.
        std::thread::spawn(move || pipe.write_all(text.as_bytes()))
    });
    let output = child
        .wait_with_output()
        .with_context(|| format!("failed to wait for `{line}`"))?;
    if let Some(feeder) = feeder {
        // A program that ends without reading its input says more by its status than by this.
        let _ = feeder.join();
    }
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("failed to run `{line}`: {}: {}", output.status, complaint.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    // The entrance to the namespaces says nothing about what was asked.
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    let start = words.iter().position(|word| word == "--").map_or(0, |at| at + 1);
    words[start..].join(" ")
}

/// Tries until it succeeds, at most for [`PATIENCE`]; the error is that of the last try.
pub fn until<T>(what: &str, mut attempt: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= end => {
                return Err(error.context(format!("failed to see {what} within {} s", PATIENCE.as_secs())));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}
