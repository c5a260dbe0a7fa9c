//! What goes into the proof of a mirror, and what comes out of it.

use jiff::Timestamp;

use super::summary::{Extent, Failing, Summary};
use super::usage::Place;
use crate::mirror::event::RequestId;

/// A pod to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofPod {
    /// What the answer repeats.
    pub request: RequestId,
    /// Where it runs.
    pub node: String,
    /// Its namespace and credentials.
    pub place: Place,
    /// What it pulls, in the order of the answer.
    pub images: Vec<String>,
}

/// What a status said of earlier proofs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProofRead {
    /// The fallback that it was about.
    pub registry: String,
    /// When the latest pods had all ended.
    pub time: Option<Timestamp>,
    /// What they were about.
    pub extent: Extent,
    /// What was not proven, as far as it is listed.
    pub failing: Vec<Failing>,
    /// How many there were.
    pub failing_total: usize,
}

impl ProofRead {
    /// What a status says once a summary has been written to it.
    pub fn of(summary: &Summary, registry: &str) -> ProofRead {
        ProofRead {
            registry: registry.to_owned(),
            time: summary.time,
            extent: summary.extent,
            failing: summary.failing.clone(),
            failing_total: summary.failing_total,
        }
    }
}
