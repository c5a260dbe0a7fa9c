//! `catamaran diff`: compares the tags of two repositories anywhere, without a cluster.
//!
//! A comparison that could not be finished is never printed as if it were one, and one that compared nothing is none:
//! this is the gate of a pipeline, and a gate that passes on a typing error is worse than no gate.
//!
//! Reading order: `target` is what was asked for, `place` is one of the two repositories and how it is asked
//! (`credentials` says with what), `gather` reads both, `deep` looks at what tags stand for, `print` shows the `comparison` that came out, `progress` is for users who wait.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::cli::{DiffArguments, Output};
use crate::{exit, output};

mod comparison;
pub mod credentials;
mod deep;
mod gather;
pub mod place;
mod print;
mod progress;
mod target;

/// Compares, prints, and says by the exit code how it went.
pub fn run(arguments: &DiffArguments) -> anyhow::Result<ExitCode> {
    let targets = target::parse(arguments)?;
    // Fails only when there is a provider already, which would be this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("failed to start the runtime")?;
    let compared = runtime.block_on(async {
        let places = place::both(arguments, &targets)?;
        gather::compare(arguments, &targets, &places).await
    });
    // A name that is still being resolved can't be interrupted, and nobody waits for it any more.
    runtime.shutdown_background();
    let comparison = compared.with_context(|| {
        format!(
            "failed to compare '{}' with '{}'",
            arguments.primary, arguments.fallback
        )
    })?;
    if !arguments.quiet {
        for note in &comparison.notes {
            eprintln!("note: {note}");
        }
    }
    match arguments.output {
        Output::Table => output::text(&print::table(&comparison))?,
        Output::Json => output::json(&print::document(&comparison))?,
        Output::Yaml => output::yaml(&print::document(&comparison))?,
    }
    let code = if comparison.is_well() {
        exit::WELL
    } else {
        exit::NOT_WELL
    };
    Ok(code.into())
}
