//! How it is proven that nodes can pull from the fallback, and whether a failover needs that.

// Shown as plain text by `kubectl explain`: no Markdown.
#![allow(clippy::doc_markdown)]

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::{DURATION, PROOF_INTERVAL_RULES, rules};

/// When the operator sends pods to the fallback.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Failover {
    /// The operator fails over only while the condition FallbackProven is True; needs proof.mode Pull. An override by active does not
    /// wait for it.
    pub require_proof: bool,
}

/// How it is proven, before an outage, that nodes can pull from the fallback.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Proof {
    /// Pull: on each node, for each namespace of the chart's proof.namespaces with pods of this mirror, a short-lived pod pulls the
    /// fallback's names of the images that run there, with the credentials of the pods there. No container of it is ever run. The
    /// condition FallbackProven has the result. "Off", in quotes, because YAML reads the bare word as false: nothing.
    pub mode: ProofModeName,

    /// Time from one proof to the next, 10m to 168h. What fails is tried again after 10 minutes.
    #[schemars(length(max = 32), regex(pattern = DURATION))]
    #[schemars(extend("x-kubernetes-validations" = rules(PROOF_INTERVAL_RULES)))]
    pub interval: String,
}

impl Default for Proof {
    fn default() -> Self {
        Proof {
            mode: ProofModeName::Off,
            interval: "24h".to_owned(),
        }
    }
}

/// Whether pulls from the fallback are proven.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProofModeName {
    /// They are not.
    #[default]
    Off,
    /// Short-lived pods pull from it.
    Pull,
}
