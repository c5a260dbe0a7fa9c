//! `catamaran check`: from a registry's name to the first byte of an image, rung by rung, and how to mend what fails.
//!
//! Reading order: `target` is what was asked for; `mirror` turns a mirror of the cluster into its two sides; both make a `ladder`;
//! `describe` says in a `line` what was seen on a rung, `hint` what to do about one that failed; `nodes` says how the cluster's nodes
//! pull; `print` shows the `climb`.

use std::process::ExitCode;

use anyhow::Context as _;
use jiff::Timestamp;

use crate::cli::{CheckArguments, Output};
use crate::cluster::Cluster;
use crate::{exit, output};

mod climb;
mod describe;
mod hint;
mod ladder;
mod line;
mod mirror;
mod nodes;
mod print;
mod target;

use climb::Climb;
use ladder::Ladder;
use line::{Line, Mark};
use print::Style;
use target::Target;

/// Climbs every ladder that was asked for, and says by the exit code how it went.
pub fn run(arguments: &CheckArguments) -> anyhow::Result<ExitCode> {
    let targets = target::parse(arguments)?;
    // Fails only when there is a provider already, which would be this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("failed to start the runtime")?;
    let climbed = runtime.block_on(check(arguments, targets));
    // A name that is still being resolved can't be interrupted, and nobody waits for it any more.
    runtime.shutdown_background();
    let climbs = climbed?;
    let verdict = verdict(&climbs);
    match arguments.output {
        Output::Table => output::text(&print::verdict(verdict, Style::of_terminal()))?,
        Output::Json => output::json(&print::document(&climbs, verdict))?,
        Output::Yaml => output::yaml(&print::document(&climbs, verdict))?,
    }
    let code = match verdict {
        Mark::Well | Mark::Warning => exit::WELL,
        Mark::Failed => exit::NOT_WELL,
        Mark::Unknown => exit::COULD_NOT_TELL,
    };
    Ok(code.into())
}

async fn check(arguments: &CheckArguments, targets: Vec<Target>) -> anyhow::Result<Vec<Climb>> {
    let mut ladders = Vec::new();
    let mut cluster = None;
    for target in targets {
        match target {
            Target::Repository(repository) => ladders.push(target::ladder(arguments, repository)?),
            Target::Mirror(name) => {
                if cluster.is_none() {
                    cluster = Some(Cluster::find(&arguments.cluster).await?);
                }
                if let Some(cluster) = &cluster {
                    ladders.extend(mirror::ladders(arguments, cluster, &name).await?);
                }
            }
        }
    }
    let aloud = arguments.output == Output::Table;
    let mut climbs = Vec::with_capacity(ladders.len());
    for ladder in ladders {
        climbs.push(climb(ladder, aloud).await?);
    }
    if arguments.nodes && cluster.is_none() {
        cluster = Some(Cluster::find(&arguments.cluster).await?);
    }
    // In a pod of the operator nobody has the right to ask.
    if let Some(cluster) = cluster.filter(|_| arguments.nodes || !arguments.with_identity) {
        let found = nodes::check(&cluster, arguments.nodes, !aloud).await;
        if aloud {
            output::text(&print::climb(&found, Style::of_terminal()))?;
        }
        climbs.push(found);
    }
    Ok(climbs)
}

/// Climbs one ladder; where people look, each rung is printed as soon as it is known.
async fn climb(ladder: Ladder, aloud: bool) -> anyhow::Result<Climb> {
    let style = Style::of_terminal();
    let mut printed = Ok(());
    let mut lines = Vec::new();
    let mut tell = |line: Line| {
        if aloud && printed.is_ok() {
            printed = output::text(&print::line(&line, style));
        }
        lines.push(line);
    };
    if aloud {
        output::text(&print::heading(&ladder.heading))?;
    }
    ladder.notes.iter().cloned().for_each(&mut tell);
    if let Some(client) = &ladder.client {
        let now = Timestamp::now();
        let mut describe = describe::Describe::new(&ladder, now);
        client.climb(&ladder.target, |rung| tell(describe.line(&rung))).await;
    }
    printed?;
    if aloud {
        output::text("\n")?;
    }
    Ok(Climb {
        heading: ladder.heading,
        lines,
        counts: true,
    })
}

/// The worst that was seen: a failure is certain, so it counts more than what could not be told. Advice that nobody asked for is a
/// warning at most.
fn verdict(climbs: &[Climb]) -> Mark {
    let worst = |climb: &Climb| {
        let mark = climb.lines.iter().map(|line| line.mark).max()?;
        Some(if climb.counts { mark } else { mark.min(Mark::Warning) })
    };
    climbs.iter().filter_map(worst).max().unwrap_or(Mark::Well)
}
