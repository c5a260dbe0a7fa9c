//! `catamaran check`: from a registry's name to the first byte of an image, step by step, and how to fix what fails.
//!
//! Reading order: `target` is what was asked for; `mirror` turns a mirror of the cluster into its two sides; both make a `plan`;
//! `describe` says in a `line` what was seen on a step, `hint` what to do about one that failed; `nodes` says how the cluster's nodes
//! pull; `print` shows the `report`.

use std::process::ExitCode;

use anyhow::Context as _;
use jiff::Timestamp;

use crate::cli::{CheckArguments, Output};
use crate::cluster::Cluster;
use crate::{exit, output};

mod describe;
mod hint;
mod line;
mod mirror;
mod nodes;
mod plan;
mod print;
mod report;
mod target;

use line::{Line, Mark};
use plan::Plan;
use print::Style;
use report::Report;
use target::Target;

/// Checks every target that was asked for, and reports the result by the exit code.
pub fn run(arguments: &CheckArguments) -> anyhow::Result<ExitCode> {
    let targets = target::parse(arguments)?;
    // Fails only when there is a provider already, which would be this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("failed to start the runtime")?;
    let checked = runtime.block_on(check(arguments, targets));
    // A name that is still being resolved can't be interrupted, and nobody waits for it any more.
    runtime.shutdown_background();
    let reports = checked?;
    let verdict = verdict(&reports);
    match arguments.output {
        Output::Table => output::text(&print::verdict(verdict, Style::of_terminal()))?,
        Output::Json => output::json(&print::document(&reports, verdict))?,
        Output::Yaml => output::yaml(&print::document(&reports, verdict))?,
    }
    let code = match verdict {
        Mark::Well | Mark::Warning => exit::WELL,
        Mark::Failed => exit::NOT_WELL,
        Mark::Unknown => exit::COULD_NOT_TELL,
    };
    Ok(code.into())
}

async fn check(arguments: &CheckArguments, targets: Vec<Target>) -> anyhow::Result<Vec<Report>> {
    let mut plans = Vec::new();
    let mut cluster = None;
    for target in targets {
        match target {
            Target::Repository(repository) => plans.push(target::plan(arguments, repository)?),
            Target::Mirror(name) => {
                if cluster.is_none() {
                    cluster = Some(Cluster::find(&arguments.cluster).await?);
                }
                if let Some(cluster) = &cluster {
                    plans.extend(mirror::plans(arguments, cluster, &name).await?);
                }
            }
        }
    }
    let aloud = arguments.output == Output::Table;
    let mut reports = Vec::with_capacity(plans.len());
    for plan in plans {
        reports.push(carry_out(plan, aloud).await?);
    }
    if arguments.nodes && cluster.is_none() {
        cluster = Some(Cluster::find(&arguments.cluster).await?);
    }
    // In a pod of the operator nobody has the right to ask.
    if let Some(cluster) = cluster.filter(|_| arguments.nodes || !arguments.with_identity) {
        let found = nodes::check(&cluster, arguments.nodes, !aloud).await;
        if aloud {
            output::text(&print::report(&found, Style::of_terminal()))?;
        }
        reports.push(found);
    }
    Ok(reports)
}

/// Carries out one plan; on a terminal each step is printed as soon as it is known.
async fn carry_out(plan: Plan, aloud: bool) -> anyhow::Result<Report> {
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
        output::text(&print::heading(&plan.heading))?;
    }
    plan.notes.iter().cloned().for_each(&mut tell);
    if let Some(client) = &plan.client {
        let now = Timestamp::now();
        let mut describe = describe::Describe::new(&plan, now);
        client.diagnose(&plan.target, |step| tell(describe.line(&step))).await;
    }
    printed?;
    if aloud {
        output::text("\n")?;
    }
    Ok(Report {
        heading: plan.heading,
        lines,
        counts: true,
    })
}

/// The worst that was seen: a failure is certain, so it counts more than what could not be told. Advice that nobody asked for is a
/// warning at most.
fn verdict(reports: &[Report]) -> Mark {
    let worst = |report: &Report| {
        let mark = report.lines.iter().map(|line| line.mark).max()?;
        Some(if report.counts { mark } else { mark.min(Mark::Warning) })
    };
    reports.iter().filter_map(worst).max().unwrap_or(Mark::Well)
}
