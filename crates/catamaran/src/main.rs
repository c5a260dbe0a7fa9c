//! Catamaran keeps two container registries interchangeable and moves the cluster between them.
//!
//! This is the one binary: the operator (`run`), and what people type. It wires the crates together and reads the
//! clock, the environment and the terminal; it decides nothing.
//!
//! Reading order: [`cli`] is what can be typed; [`run`] is the operator, with [`http`], [`telemetry`] and
//! [`exposition`] around it; [`diff`] compares two repositories without a cluster; [`check`] says what stands between here and an image; [`status`]
//! shows mirrors as a table; [`explain`] says where an image goes, by what [`view`] reads of the cluster, with the words of [`why`];
//! [`simulate`] tells what would start from the fallback; [`flip`] overrides which side is active, [`reconcile`] has everything verified now, and [`follow`] waits for the operator; [`cluster`] is where mirrors are; [`completion`] answers shells and kubectl; [`near`] suggests names; [`table`] and [`output`] are how they print,
//! and [`exit`] how they end.

use std::process::ExitCode;

mod check;
mod cli;
mod cluster;
mod completion;
mod diff;
mod exit;
mod explain;
mod exposition;
mod flip;
mod follow;
mod http;
mod near;
mod output;
mod reconcile;
#[cfg(test)]
mod reference;
mod run;
mod simulate;
mod status;
mod table;
mod telemetry;
mod view;
mod why;

use cli::Command;
use completion::Called;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let called = Called::by(arguments.first());
    if called == Called::ToComplete {
        let words = arguments.get(1..).unwrap_or_default();
        return ended(completion::candidates(words).map(|()| ExitCode::SUCCESS));
    }
    let cli = completion::parse(called, &arguments);
    let outcome = match cli.command {
        Command::Run(arguments) => run::run(&arguments).map(|()| exit::WELL.into()),
        Command::Completion(arguments) => completion::script(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Crd => output::text(&catamaran_api::crd::crd_yaml()).map(|()| ExitCode::SUCCESS),
        Command::Check(arguments) => check::run(&arguments),
        Command::Diff(arguments) => diff::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Failover(arguments) => flip::failover(&arguments),
        Command::Failback(arguments) => flip::failback(&arguments),
        Command::Reconcile(arguments) => reconcile::run(&arguments),
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::Status(arguments) => status::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Version(arguments) => cli::print_version(&arguments).map(|()| ExitCode::SUCCESS),
    };
    ended(outcome)
}

/// The exit code, after the error was printed if there is one.
fn ended(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(exit::COULD_NOT_TELL)
    })
}
