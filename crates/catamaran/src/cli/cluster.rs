//! The arguments of commands that look at a cluster.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Output;

/// Which cluster is asked.
#[derive(Args, Debug)]
pub struct ClusterArguments {
    /// The kubeconfig to use; absent: $KUBECONFIG, ~/.kube/config, or the cluster this runs in
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig to use
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

/// What of a cluster is read by those who change nothing, and how it is printed.
#[derive(Args, Debug)]
pub struct ReadArguments {
    /// The operator's namespace, where the evidence is
    #[arg(long, default_value = "catamaran-system", value_name = "NAME")]
    pub operator_namespace: String,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Where to find the cluster
    #[command(flatten)]
    pub cluster: ClusterArguments,
}

/// Arguments of `explain`.
#[derive(Args, Debug)]
pub struct ExplainArguments {
    /// An image such as kracr.azurecr.io/kevinryan-io:3f2a91c, or a pod as pod/NAME
    #[arg(value_name = "IMAGE|pod/NAME")]
    pub target: String,
    /// The namespace of the pod, or that a pod with the image would be in; absent: the context's
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// What is read, and how it is printed
    #[command(flatten)]
    pub read: ReadArguments,
}

/// Arguments of `simulate`.
#[derive(Args, Debug)]
pub struct SimulateArguments {
    /// Only this mirror
    pub name: Option<String>,
    /// Suppose that the primary is unavailable
    #[arg(long, required = true)]
    pub primary_down: bool,
    /// Only workloads of this namespace; absent: all namespaces
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// What is read, and how it is printed
    #[command(flatten)]
    pub read: ReadArguments,
}

/// Arguments of `failover`.
#[derive(Args, Debug)]
pub struct FailoverArguments {
    /// The mirror
    pub name: String,
    /// How long the override lasts, such as 90s, 30m or 12h; absent: until `failback`
    #[arg(long = "for", value_parser = duration, value_name = "DURATION")]
    pub lasting: Option<Duration>,
    /// How the change is made and followed
    #[command(flatten)]
    pub change: ChangeArguments,
}

/// Arguments of `failback`.
#[derive(Args, Debug)]
pub struct FailbackArguments {
    /// The mirror
    pub name: String,
    /// Go back at once, also where the primary is unavailable or lacks what is in use: sets spec.active to Primary
    #[arg(long)]
    pub force: bool,
    /// How long the override by --force lasts, such as 90s, 30m or 12h; absent: until the next `failback` without --force
    #[arg(long = "for", requires = "force", value_parser = duration, value_name = "DURATION")]
    pub lasting: Option<Duration>,
    /// How the change is made and followed
    #[command(flatten)]
    pub change: ChangeArguments,
}

/// Arguments of `reconcile`.
#[derive(Args, Debug)]
pub struct ReconcileArguments {
    /// The mirror
    pub name: String,
    /// How long the operator is waited for; 0s: not at all
    #[arg(long, default_value = "15m", value_parser = timeout, value_name = "DURATION")]
    pub timeout: Duration,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Where to find the cluster
    #[command(flatten)]
    pub cluster: ClusterArguments,
}

/// How a change is made and followed.
#[derive(Args, Debug)]
pub struct ChangeArguments {
    /// Have the API server check the change without making it
    #[arg(long)]
    pub dry_run: bool,
    /// How long the operator is waited for; 0s: not at all
    #[arg(long, default_value = "60s", value_parser = timeout, value_name = "DURATION")]
    pub timeout: Duration,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Where to find the cluster
    #[command(flatten)]
    pub cluster: ClusterArguments,
}

/// From ten seconds to thirty days.
fn duration(text: &str) -> Result<Duration, String> {
    within(text, 10, 30 * 86_400)
}

/// Up to a day.
fn timeout(text: &str) -> Result<Duration, String> {
    within(text, 0, 86_400)
}

fn within(text: &str, least: u64, most: u64) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
    let parsed = units.iter().find_map(|(unit, seconds)| {
        let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
        count.checked_mul(*seconds)
    });
    let seconds = parsed.ok_or_else(|| format!("'{text}' is not a whole number of s, m, h or d, such as 30m"))?;
    if (least..=most).contains(&seconds) {
        Ok(Duration::from_secs(seconds))
    } else {
        Err(format!("from {least}s to {}h", most / 3600))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_bounds() {
        assert_eq!(duration("30m"), Ok(Duration::from_mins(30)));
        assert_eq!(timeout("0s"), Ok(Duration::ZERO));
        for wrong in [
            "",
            "30",
            "-1m",
            "9s",
            "31d",
            "1.5h",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
