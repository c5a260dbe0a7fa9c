//! The arguments of commands that look at a cluster.

use std::path::PathBuf;

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

/// Arguments of `explain`.
#[derive(Args, Debug)]
pub struct ExplainArguments {
    /// An image such as kracr.azurecr.io/kevinryan-io:3f2a91c, or a pod as pod/NAME
    #[arg(value_name = "IMAGE|pod/NAME")]
    pub target: String,
    /// The namespace of the pod, or that a pod with the image would be in; absent: the context's
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
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
