//! The commands that ask a cluster, against an API server that answers from a script.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers fail as its own lines do"
)]

mod apiserver;
mod explain;
mod flip;
mod objects;
mod reconcile;
mod simulate;
#[path = "../support/mod.rs"]
mod support;
