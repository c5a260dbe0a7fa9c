//! A page of the documentation as a script: its blocks, what is run of them, and what they must print.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use catamaran_e2e::Case;

/// What stands on a page, and what stands for it here, and why.
pub struct Substitution {
    pub why: &'static str,
    pub page: &'static str,
    pub here: String,
}

/// A fenced block of a page.
pub struct Block {
    kind: String,
    text: String,
    line: usize,
}

/// The blocks of a page, in order.
pub fn blocks(page: &str) -> anyhow::Result<Vec<Block>> {
    let mut all: Vec<Block> = Vec::new();
    let mut open = false;
    for (number, line) in page.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(_) if open => open = false,
            Some(kind) => {
                open = true;
                all.push(Block {
                    kind: kind.to_owned(),
                    text: String::new(),
                    line: number + 1,
                });
            }
            None => {
                if let Some(block) = all.last_mut().filter(|_| open) {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
            }
        }
    }
    ensure!(!open, "the last block does not end");
    Ok(all)
}

/// Runs what is to be run, in `folder`, and compares what is printed.
pub fn run(case: &Case<'_>, blocks: &[Block], here: &[Substitution], folder: &Path) -> anyhow::Result<()> {
    let apply = |text: &str| {
        here.iter()
            .fold(text.to_owned(), |text, one| text.replace(one.page, &one.here))
    };
    let mut printed = None;
    let (mut done, mut checked, mut left) = (0, 0, 0);
    for block in blocks {
        let text = apply(&block.text);
        match block.kind.as_str() {
            "sh" => {
                let script = format!("exec 2>&1\ncd '{}'\n{text}", folder.display());
                let output = case
                    .ground
                    .cluster
                    .command("bash")
                    .args(["-euo", "pipefail", "-c", &script])
                    .output()?;
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                ensure!(
                    output.status.success(),
                    "line {}: {text}\nended with {}: {said}",
                    block.line,
                    output.status
                );
                done += 1;
                printed = Some(said);
            }
            "text" => {
                let said = printed.as_deref().context("a text block that follows no command")?;
                for line in text.lines() {
                    ensure!(
                        is_in(line, said),
                        "line {}: {line:?} is not in what was printed: {said}",
                        block.line
                    );
                }
                checked += 1;
            }
            "sh cloud" | "sh by-hand" | "yaml" | "console" => left += 1,
            file if file.starts_with("yaml ") => std::fs::write(folder.join(&file["yaml ".len()..]), text)?,
            other => bail!("line {}: a block of kind {other:?}", block.line),
        }
    }
    ensure!(
        done > 2 && checked > 1,
        "only {done} blocks were run and {checked} outputs compared"
    );
    case.note(format!(
        "{done} blocks run, {checked} outputs compared, {left} blocks not for here"
    ));
    Ok(())
}

/// Whether some line of `said` has the parts of `line` in order, whatever the white space.
fn is_in(line: &str, said: &str) -> bool {
    let dense = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    said.lines().map(dense).any(|candidate| {
        let mut rest = candidate.as_str();
        line.split('…').map(dense).all(|part| match rest.find(&part) {
            Some(at) => {
                rest = &rest[at + part.len()..];
                true
            }
            None => false,
        })
    })
}
