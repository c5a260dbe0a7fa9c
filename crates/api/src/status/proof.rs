//! What proof pods found.

// Shown as plain text by `kubectl explain`: no Markdown.
#![allow(clippy::doc_markdown)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// At most so many failures are listed; the count is exact, the list is a sample.
pub const MAX_FAILING: usize = 10;

/// What is known of pulls from the fallback.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProofStatus {
    /// When the latest proof pods had all ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// The fallback that this is about, with its prefix.
    pub registry: String,
    /// Nodes that pull.
    pub nodes: i64,
    /// Namespaces that they pull for.
    pub namespaces: i64,
    /// Images that they pull, one of each repository, at most 8 for each set of credentials.
    pub images: i64,
    /// What is not proven: images that were not pulled, and pods that were refused or not run.
    pub failed: i64,
    /// A sample of that, at most 10.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<ProofFailure>,
}

/// Something that is not proven.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProofFailure {
    /// The namespace whose pods would fail.
    pub namespace: String,
    /// The node.
    pub node: String,
    /// The image, by its name on the fallback; absent where it is about the whole pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Why: NotFound, Unauthorized, Throttled, ConnectionFailed, ServerError, TLSError, DNSFailure, SignatureInvalid, Other or PullNotEnded
    /// for a pull; Refused where a policy refused the pod; NotStarted where no kubelet ran it; NotPermitted where the operator may
    /// not make pods.
    pub reason: String,
    /// The words of the kubelet or of the API server, at most 256 characters of them.
    #[serde(default)]
    pub message: String,
}
