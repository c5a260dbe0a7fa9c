//! The mutating webhook: an `AdmissionReview` in, a JSON Patch out, from a table in memory.
//!
//! This crate never asks anything of anyone: it has no client for registries nor for the API server in its dependency
//! tree, so no admission can wait for either. It never refuses: whatever a review holds, and whatever goes wrong, the
//! answer is `allowed: true`; Pods that were not re-pointed here are rescued later by the controller.
//!
//! Reading order: `reader` skips through JSON and `decode` reads the few fields that decide; [`review`] turns them into an answer, with `annotate` for what
//! is recorded on the Pod and `json` and `answer` for the bytes; [`Admission`] adds the [`View`] of the mirrors and the
//! guard against panics; [`server`] is HTTP/1.1 over TLS around it; [`metrics`] is what all of them count.

mod admission;
mod annotate;
mod answer;
mod decode;
mod json;
pub mod metrics;
mod reader;
mod review;
pub mod server;

pub use admission::{Admission, LONGEST_SILENCE, View};
pub use review::{Reviewed, review};
